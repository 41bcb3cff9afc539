"""Reading rosbag2s: which topics there are, their messages, what stamps they have.

Promises: any rosbag2 (sqlite3 or mcap, compressed or not, whole or cut) is read in the order recorded, without ROS;
what cannot be used is refused with one line that says what there is instead, what is damaged or left out is logged.
Messages are handed out as they are stored and decoded only when asked for, so a bag of any length costs one message's
memory. Knows nothing of models, of nodes or of figures.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError, ProxqaError, reason_of
from proxqa_core.rosbags.compression import StorageError, unpack_message
from proxqa_core.rosbags.image_messages import is_depth, may_be_depth
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import clean_text

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

    from proxqa_core.rosbags.bag_files import BagFiles
    from proxqa_core.rosbags.storage import StorageFile

log = logging.getLogger(__name__)

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (RAW, COMPRESSED)
TRUTH_TYPE = "proxqa_ros/msg/ObjectDepthArray"
TRUTH_NAME = "ground_truth"
"""Part of the name of a topic that holds truth: a recorded `object_depths` has the same type."""
PACKAGE = "proxqa_ros"
MAX_UNREADABLE_FIRST = 10
"""Number of messages of a topic that are looked at for one that says what it holds."""
MIN_TIME_TOLERANCE_NS = 50_000_000
"""Where only the times of recording tell messages apart, those of one moment may differ by this, in nanoseconds."""
MIN_STAMPED_BYTES = 12
"""Size of the shortest message with a stamp: 4 bytes of encapsulation, then seconds and nanoseconds."""


class BadBagError(ProxqaError, ValueError):
    """A bag cannot be used; the message says what came and what there is instead."""


class NoReaderError(ProxqaError):
    """The package that reads bags is not installed."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: Such as /camera/image_raw.
        kind: Its message type, such as sensor_msgs/msg/Image.
        count: Number of its messages.
    """

    name: str
    kind: str
    count: int

    @property
    def compressed(self) -> bool:
        """Whether it holds compressed images."""
        return self.kind == COMPRESSED


@dataclass(frozen=True)
class Recorded:
    """One message as it is stored.

    Attributes:
        time: When it was recorded, in nanoseconds.
        topic: The topic's name.
        kind: The message type.
        raw: CDR with its encapsulation.
    """

    time: int
    topic: str
    kind: str
    raw: bytes

    @property
    def stamp(self) -> int:
        """The stamp of its header in nanoseconds; only for types that begin with a header.

        Raises:
            BadImageError: The message is cut.
        """
        if len(self.raw) < MIN_STAMPED_BYTES:
            raise BadImageError(f"message of {len(self.raw)} bytes on {self.topic} is cut: it holds no header")
        seconds, rest = struct.unpack_from("<iI" if self.raw[1] & 1 else ">iI", self.raw, 4)
        return int(seconds) * NS_PER_S + int(rest)

    @property
    def stamp_or_time(self) -> int:
        """`stamp`; where the message is cut, when it was recorded."""
        try:
            return self.stamp
        except BadImageError:
            return self.time


class Bag:
    """An open bag; use it in a `with`.

    Args:
        path: A rosbag2's folder, or its .mcap or .db3 file alone.
        asked_by: How the user chooses a topic, for error messages.

    Attributes:
        path: As given.
        problems: What of it cannot be read, one line each; each is logged as a warning too.

    Raises:
        BadBagError: It cannot be read.
        NoReaderError: `rosbags` or `mcap` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], asked_by: str = "--topic TOPIC") -> None:
        self.path = Path(path)
        self._asked_by = asked_by
        if not self.path.exists():
            raise BadBagError(f"bag {str(path)!r} does not exist; expected the folder of a rosbag2")
        self._files = self._opened()
        self._order = _Order(self._files.files)
        self.problems = list(self._files.problems)
        if not len(self._order) and self.problems:
            self._files.close()
            raise self._unreadable("; ".join(self.problems[:3]))
        for problem in self.problems:
            log.warning("bag %r: %s", str(path), problem)
        if self._order.skipped:
            log.warning("bag %r: topics left out, which are not ROS 2's (cdr): %s", str(path), self._skipped())
        self._store: Typestore | None = None
        self._checked = False
        self._by_time: dict[tuple[str, str], bool] = {}
        self._stamps: dict[tuple[str, str], list[int | None]] = {}

    @property
    def name(self) -> str:
        """Of its folder or file, however the path was written; metadata.yaml stands for its folder."""
        from proxqa_core.rosbags.bag_files import METADATA

        path = self.path.resolve()
        return path.parent.name if path.name == METADATA else path.name

    def _opened(self) -> BagFiles:
        """The open files of the bag. BadBagError, NoReaderError."""
        try:
            import rosbags.typesys  # noqa: F401 (what it is needed for comes later, but is to fail at once)

            from proxqa_core.rosbags.bag_files import open_files

            return open_files(self.path)
        except ImportError as error:
            package = str(error.name or "rosbags").split(".")[0]
            raise NoReaderError(f"reading bags needs the Python package {package}: pip install {package}") from error
        except (StorageError, OSError, ValueError) as error:
            raise self._unreadable(reason_of(error)) from error

    def _unreadable(self, reason: str) -> BadBagError:
        return BadBagError(f"bag {str(self.path)!r} cannot be read: {reason}; expected the folder of a rosbag2")

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.close()

    # -- topics ------------------------------------------------------------------------------------------------------

    def topics(self) -> list[Topic]:
        """Every topic of ROS 2 messages, by name."""
        return [Topic(name, kind, len(ranks)) for (name, kind), ranks in sorted(self._order.ranks.items())]

    def _skipped(self) -> str:
        return ", ".join(f"{topic} ({encoding or 'no encoding'})" for topic, encoding in self._order.skipped[:10])

    def image_topics(self) -> list[Topic]:
        """Topics with colour or grey images, by name; empty ones are left out."""
        return [t for t in self._images() if not self._is_depth(t)]

    def depth_topics(self) -> list[Topic]:
        """Topics with depth images, by name; empty ones are left out."""
        return [t for t in self._images() if self._is_depth(t)]

    def truth_topics(self) -> list[Topic]:
        """Topics whose type and name say that they hold true depths of objects."""
        return [t for t in self.topics() if t.kind == TRUTH_TYPE and TRUTH_NAME in t.name and t.count]

    def image_topic(self, wanted: str = "") -> Topic:
        """The image topic of a name.

        Args:
            wanted: The name, with or without the leading slash; '' = the only image topic.

        Raises:
            BadBagError: There is no such topic, or several to choose from; the message lists them.
        """
        return self._chosen(self.image_topics(), wanted, "colour images", "image topic", self._asked_by)

    def depth_topic(self, wanted: str) -> Topic:
        """The depth topic of a name, which is taken at its user's word where its images can be depth, as mono16 can.

        Args:
            wanted: The name, with or without the leading slash.

        Raises:
            BadBagError: There is no such topic; the message lists those there are.
        """
        named = [t for t in self._images() if t.name.lstrip("/") == wanted.lstrip("/")]
        named = [t for t in named if self._is_depth(t, may_be_depth)]
        return self._chosen(named or self.depth_topics(), wanted, "depth images", "depth topic", "its name")

    def depth_transport(self, topic: Topic) -> str:
        """How a topic's depth images are sent, by image_transport's name.

        Args:
            topic: A topic of depth images.

        Returns:
            "raw", "compressedDepth" where the first message that can be read says so, else "compressed".
        """
        if not topic.compressed:
            return "raw"
        inside = self._is_depth(topic, lambda message: "compressedDepth" in message.format)
        return "compressedDepth" if inside else "compressed"

    def truth_topic(self, wanted: str = "") -> Topic | None:
        """The topic of true depths of a name.

        Args:
            wanted: The name, with or without the leading slash; '' = the one whose name contains "ground_truth".

        Returns:
            The topic; None where no name is given and there is none.

        Raises:
            BadBagError: There is no such topic, or several to choose from; the message lists them.
        """
        topics = self.truth_topics() if not wanted else [t for t in self.topics() if t.kind == TRUTH_TYPE and t.count]
        if not wanted and not topics:
            return None
        return self._chosen(topics, wanted, f"{TRUTH_TYPE} messages", "topic of true depths", "its name")

    def _chosen(self, topics: Sequence[Topic], wanted: str, what: str, kind: str, asked_by: str) -> Topic:
        label = f"bag {str(self.path)!r}"
        if not topics:
            asked = f" (asked for: {wanted!r})" if wanted else ""
            there = ", ".join(f"{t.name} ({t.kind}, {t.count})" for t in self.topics()) or "none"
            there += f"; not ROS 2's (cdr): {self._skipped()}" if self._order.skipped else ""
            raise BadBagError(f"{label} has no {what}{asked}; its topics: {there}")
        choices = ", ".join(f"{t.name} ({t.count} {'messages' if t.kind == TRUTH_TYPE else 'images'})" for t in topics)
        if not wanted and len(topics) > 1:
            raise BadBagError(f"{label} has several topics of {what}; choose one with {asked_by}: {choices}")
        chosen = [t for t in topics if not wanted or t.name.lstrip("/") == wanted.lstrip("/")]
        if not chosen:
            raise BadBagError(f"{label} has no {kind} {wanted!r}; choose one with {asked_by}: {choices}")
        return chosen[0]

    def _images(self) -> list[Topic]:
        return [t for t in self.topics() if t.kind in IMAGE_TYPES and t.count]

    def _is_depth(self, topic: Topic, rule: Callable[[Any], bool] = is_depth) -> bool:
        """By the topic's first message that can be read; without one it is not known to be depth."""
        for recorded in itertools.islice(self.messages(topic), MAX_UNREADABLE_FIRST):
            try:
                return rule(self.decode(recorded))
            except BadImageError:
                continue
        return False

    # -- messages ----------------------------------------------------------------------------------------------------

    def messages(self, *topics: Topic, start: int | None = None, stop: int | None = None) -> Iterator[Recorded]:
        """The messages of one or several topics, as stored.

        Args:
            topics: The topics; without any there are no messages.
            start: Only those recorded at or after this time, in nanoseconds.
            stop: Only those recorded before this time, in nanoseconds.

        Yields:
            The messages in the order recorded; one that is damaged has no bytes.
        """
        for rank in self._order.between({(t.name, t.kind) for t in topics}, start, stop):
            file, number, topic, kind = self._order.place(rank)
            try:
                raw = unpack_message(self._files.files[file].read(number))
            except (StorageError, OSError) as error:
                self._say_damaged(str(error))
                raw = b""  # what asks for the message counts it as one that cannot be used
            yield Recorded(int(self._order.times[rank]), topic, kind, raw)

    def _say_damaged(self, reason: str) -> None:
        """Say once that messages are damaged; each of them has no bytes."""
        problem = f"messages are damaged: {' '.join(reason.split())[:200]}"
        if not any(p.startswith("messages are damaged") for p in self.problems):
            self.problems.append(problem)
            log.warning("bag %r: %s", str(self.path), problem)

    def by_time(self, topic: Topic) -> bool:
        """Whether the stamps of a topic tell its messages not apart, so that only the times of recording do.

        True where most stamps are 0 or repeat the one before: a driver that does not set them, or a clock that stands.
        """
        key = (topic.name, topic.kind)
        if key not in self._by_time:
            stamps = self.stamps(topic)
            useless = sum(stamp == 0 or (i > 0 and stamp == stamps[i - 1]) for i, stamp in enumerate(stamps))
            self._by_time[key] = useless * 2 > len(stamps) > 1
            if self._by_time[key]:
                log.warning(
                    "bag %r: the stamps of %s are 0 or repeat; its messages are told apart by when they were recorded",
                    str(self.path),
                    topic.name,
                )
        return self._by_time[key]

    def times(self, topic: Topic) -> list[int]:
        """When the messages of a topic were recorded, in ns, in order."""
        ranks = self._order.ranks.get((topic.name, topic.kind))
        return [] if ranks is None else [int(t) for t in self._order.times[ranks]]

    def stamps(self, topic: Topic) -> list[int]:
        """The stamps of all messages of a topic, in ns, in the order recorded; of a cut one when it was recorded."""
        times = self.times(topic)
        return [t if stamp is None else stamp for stamp, t in zip(self.own_stamps(topic), times, strict=True)]

    def own_stamps(self, topic: Topic) -> list[int | None]:
        """The stamps of all messages of a topic, in ns, in the order recorded; of a cut one None."""
        key = (topic.name, topic.kind)
        if key not in self._stamps:
            self._stamps[key] = [_stamp_of(recorded) for recorded in self.messages(topic)]
        return self._stamps[key]

    def moment(self, recorded: Recorded, topic: Topic) -> int:
        """What tells a message from the others of its topic, in ns: its stamp; where `by_time`, when it was recorded.

        Raises:
            BadImageError: The message is cut.
        """
        stamp = recorded.stamp
        return recorded.time if self.by_time(topic) else stamp

    def decode(self, recorded: Recorded) -> Any:
        """The message itself: an object with the fields of its type.

        Raises:
            BadImageError: The bytes are no message of that type.
            BadBagError: The bag's messages of this package are of another version.
        """
        store = self.typestore()
        self._check_version(recorded, store)
        try:
            return store.deserialize_cdr(recorded.raw, recorded.kind)
        except Exception as error:  # whatever the generated code does with bytes that are no such message
            reason = reason_of(error) or type(error).__name__
            raise BadImageError(
                f"message on {recorded.topic} is no {recorded.kind} ({len(recorded.raw)} bytes): {reason[:100]}"
            ) from error

    def frame_id(self, topic: Topic) -> str | None:
        """The frame of a topic's first message that can be read, None where there is none."""
        for recorded in itertools.islice(self.messages(topic), MAX_UNREADABLE_FIRST):
            try:
                return str(self.decode(recorded).header.frame_id)
            except BadImageError:
                continue
        return None

    def definition(self, kind: str) -> str | None:
        """The definition of a type as the bag itself describes it, None where it does not."""
        found = (c.definition for c in self._order.channels if c.kind == kind and c.definition)
        return next(found, None)

    def typestore(self) -> Typestore:
        """The standard messages and this package's, the latter as the bag describes them where it does."""
        if self._store is None:
            described = self.definition(TRUTH_TYPE)
            try:
                self._store = typestore({TRUTH_TYPE: described} if described else {})
            except BadBagError as error:  # of damaged text; `_check_version` refuses what the installed one is not
                log.warning("bag %r: %s; the installed ones are used", str(self.path), error)
                self._store = typestore()
        return self._store

    def _check_version(self, recorded: Recorded, store: Typestore) -> None:
        """Refuse messages of a version of this package that is neither described in the bag nor the installed one."""
        if recorded.kind != TRUTH_TYPE or self._checked:
            return
        for c in self._order.channels:
            if c.kind == TRUTH_TYPE and c.digest and (have := store.hash_rihs01(TRUTH_TYPE)) != c.digest:
                raise BadBagError(
                    f"bag {str(self.path)!r} holds another version of {TRUTH_TYPE} on {c.topic} and does not "
                    f"describe it: {c.digest[:20]}…, expected {have[:20]}…"
                )
        self._checked = True


class _Order:
    """All messages of a bag's files in the order recorded: by time, those of one time as stored.

    Attributes:
        times: When each was recorded, in ns, int64 [messages].
        ranks: Positions in `times` of a topic's messages, by name and type.
        channels: Of ROS 2 messages.
        skipped: Topics with other messages, and their encodings.
    """

    def __init__(self, files: Sequence[StorageFile]) -> None:
        self.channels = [c for f in files for c in f.channels.values() if c.encoding == "cdr" and c.kind]
        others = {(c.topic, c.encoding) for f in files for c in f.channels.values() if c not in self.channels}
        self.skipped = sorted(others)
        # 1. the files after each other: time, file, number in the file, key of the topic; each [messages]
        self._keys = sorted({(c.topic, c.kind) for c in self.channels})
        of_key = {key: i for i, key in enumerate(self._keys)}
        parts = [_numbered(f, i, of_key) for i, f in enumerate(files)]
        times, file, number, key = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), np.int64)
        # 2. by time; a stable sort keeps the order stored
        order = np.argsort(times, kind="stable")
        self.times, self._file, self._number, self._key = times[order], file[order], number[order], key[order]
        # 3. each topic's own
        self.ranks = {key: np.flatnonzero(self._key == i) for i, key in enumerate(self._keys)}

    def __len__(self) -> int:
        return len(self.times)

    def place(self, rank: int) -> tuple[int, int, str, str]:
        """Of a message its file, its number there, its topic and its type."""
        topic, kind = self._keys[self._key[rank]]
        return int(self._file[rank]), int(self._number[rank]), topic, kind

    def between(self, topics: Set[tuple[str, str]], start: int | None, stop: int | None) -> Iterator[int]:
        """The positions of the messages of these topics recorded in [start, stop), in order."""
        first = 0 if start is None else int(np.searchsorted(self.times, start))
        last = len(self) if stop is None else int(np.searchsorted(self.times, stop))
        found = []
        for ranks in (self.ranks[key] for key in topics if key in self.ranks):
            found.append(ranks[np.searchsorted(ranks, first) : np.searchsorted(ranks, last)])
        merged = found[0] if len(found) == 1 else np.sort(np.concatenate(found)) if found else ()
        return iter(map(int, merged))


def _numbered(file: StorageFile, position: int, of_key: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
    """Time, file, number and key of each ROS 2 message of a file, int64 [4, messages]."""
    times, channels = file.index()
    key = np.full(len(times), -1, np.int64)
    for number, channel in file.channels.items():
        if channel.encoding == "cdr":
            key[channels == number] = of_key.get((channel.topic, channel.kind), -1)
    numbers = np.flatnonzero(key >= 0)
    return np.stack([times[numbers], np.full(len(numbers), position), numbers, key[numbers]])


class StampedReader:
    """The messages of one topic, looked up by their stamps; only the stamps are held in memory.

    Where stamps do not tell messages apart (`Bag.by_time`), or several messages have the same one, the times of
    recording do: a message then belongs to the image that was recorded nearest to it.

    Args:
        bag: The open bag.
        topic: A topic whose type begins with a header.
        images: The topic of the images that messages are looked up for, None = not known.

    Attributes:
        topic: As given.

    Raises:
        BadBagError: Neither stamps nor times tell the messages apart.
    """

    def __init__(self, bag: Bag, topic: Topic, images: Topic | None = None) -> None:
        self.topic = topic
        self._bag = bag
        self._by_time = bag.by_time(topic) or (images is not None and bag.by_time(images))
        # those without a stamp are of no use; what the images of the same moment lack is counted by whoever asks
        stamped = zip(bag.own_stamps(topic), bag.times(topic), strict=True)
        found = [(time if self._by_time else stamp, time) for stamp, time in stamped if stamp is not None]
        self._found = sorted(found)
        self._images = bag.times(images) if images is not None else []
        stamps = bag.stamps(images) if images is not None else []
        counts = Counter(stamps)
        self._repeated = {0} | {stamp for stamp, count in counts.items() if count > 1}
        self._image_times = {s: t for s, t in zip(stamps, self._images, strict=True) if s not in self._repeated}
        if self._by_time and len({time for _, time in found}) * 2 < len(found):
            raise BadBagError(
                f"bag {str(bag.path)!r}: neither the stamps of {topic.name} nor the times of recording tell its "
                f"{len(found)} messages apart"
            )

    def __len__(self) -> int:
        return len({stamp for stamp, _ in self._found})

    def distance_s(self, stamp: int) -> float:
        """How far from a stamp (ns) the nearest one is, in seconds; infinity where there are no messages."""
        at = bisect.bisect_left(self._found, (stamp, -1))
        around = [abs(s - stamp) for s, _ in self._found[max(0, at - 1) : at + 1]]
        return min(around) / NS_PER_S if around else math.inf

    def nearest(self, stamp: int, tolerance: int = 0, time: int | None = None) -> Any:
        """The message whose stamp is nearest.

        Args:
            stamp: Of the image, in nanoseconds.
            tolerance: Largest difference, in nanoseconds.
            time: When the image was recorded, in nanoseconds, None = as its stamp tells.

        Returns:
            The message, None where none is near enough.

        Raises:
            BadImageError: The message cannot be decoded.
        """
        time = self._image_times.get(stamp) if time is None else time
        if self._by_time:
            stamp = stamp if time is None else time
            tolerance = max(tolerance, MIN_TIME_TOLERANCE_NS)
        at = bisect.bisect_left(self._found, (stamp, -1))
        around = [s for s, _ in self._found[max(0, at - 1) : at + 1]]
        near = min(around, key=lambda s: abs(s - stamp), default=None)
        if near is None or abs(near - stamp) > tolerance:
            return None
        recorded_at = self._recorded_at(near, stamp, tolerance, time)
        return None if recorded_at is None else self._at(near, recorded_at)

    def _recorded_at(self, stamp: int, image_stamp: int, tolerance: int, time: int | None) -> int | None:
        """When the message of a stamp was recorded; where several messages or images have it, the nearest that is near.

        None where none is. Without the image's time it is the last.
        """
        first = bisect.bisect_left(self._found, (stamp, -1))
        times = [t for _, t in self._found[first : bisect.bisect_left(self._found, (stamp + 1, -1))]]
        if time is None or (len(times) == 1 and not self._by_time and image_stamp not in self._repeated):
            return times[-1]
        best = min(times, key=lambda t: abs(t - time))
        near = abs(best - time) <= max(tolerance, MIN_TIME_TOLERANCE_NS)
        return best if near and self._is_of(best, time) else None

    def _is_of(self, recorded_at: int, time: int) -> bool:
        """Whether no other image was recorded nearer to a message than the one recorded at `time`."""
        at = bisect.bisect_left(self._images, recorded_at)
        return all(abs(t - recorded_at) >= abs(time - recorded_at) for t in self._images[max(0, at - 1) : at + 1])

    def _at(self, stamp: int, recorded_at: int) -> Any:
        """The message of a stamp that was recorded at a time."""
        for recorded in self._bag.messages(self.topic, start=recorded_at, stop=recorded_at + 1):
            if self._by_time or recorded.stamp_or_time == stamp:
                return self._bag.decode(recorded)
        return None

    def __iter__(self) -> Iterator[Any]:
        """Every message that can be read, in the order recorded."""
        for recorded in self._bag.messages(self.topic):
            try:
                yield self._bag.decode(recorded)
            except BadImageError:
                continue


def _stamp_of(recorded: Recorded) -> int | None:
    """The stamp of a message's header in nanoseconds, None where it is cut."""
    try:
        return recorded.stamp
    except BadImageError:
        return None


def typestore(described: dict[str, str] | None = None) -> Typestore:
    """The message types of ROS and of this package.

    Args:
        described: Definitions by type, to be used instead of the installed ones.

    Raises:
        BadBagError: This package's definitions are missing or do not parse.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    try:
        for name, definition in (described or {}).items():
            types |= get_types_from_msg(definition, name)
        for file in message_files():
            name = f"{PACKAGE}/msg/{file.stem}"
            if name not in types:
                types |= get_types_from_msg(file.read_text(encoding="utf-8"), name)
        # what the bag repeats of the standard messages is not registered twice
        store.register({name: kind for name, kind in types.items() if name not in store.fielddefs})
    except Exception as error:  # whatever the parser does with text that is no definition
        reason = reason_of(error)[:100]
        raise BadBagError(f"the definitions of {PACKAGE}'s messages cannot be used: {reason}") from error
    return store


def message_files() -> list[Path]:
    """This package's .msg files: of the checkout, of a sourced workspace or of the environment it is installed in.

    Raises:
        BadBagError: They are in none of these.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    shares = [prefix / "share" / PACKAGE / "msg" for prefix in (*prefixes, Path(sys.prefix))]
    for folder in (Path(__file__).resolve().parents[2] / "msg", *shares):
        if (folder / "ObjectDepthArray.msg").is_file():
            return sorted(folder.glob("*.msg"))
    raise BadBagError(f"the definitions of {PACKAGE}'s messages are not there; expected them in share/{PACKAGE}/msg")


def names_in(messages: Iterator[Any] | Sequence[Any], most: int) -> list[str]:
    """The names of objects in ObjectDepthArrays, the most frequent first, at most `most` of them."""
    counts = Counter(name for array in messages for o in array.objects if (name := clean_text(o.name)))
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]
