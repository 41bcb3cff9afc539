"""Reading rosbag2s: which topics there are, their messages, what stamps they have.

Promises: any rosbag2 (sqlite3 or mcap, compressed or not) is read in the order recorded, without ROS; what cannot be
used is refused with one line that says what there is instead. Messages are handed out as they are stored and decoded
only when asked for, so a bag of any length costs one message's memory. Knows nothing of models, of nodes or of figures.
"""

from __future__ import annotations

import bisect
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.rosbags.image_messages import is_depth
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import clean_text

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (RAW, COMPRESSED)
TRUTH_TYPE = "proxqa_ros/msg/ObjectDepthArray"
TRUTH_NAME = "ground_truth"
"""Part of the name of a topic that holds truth: a recorded `object_depths` has the same type."""
PACKAGE = "proxqa_ros"
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

    Raises:
        BadBagError: It cannot be read.
        NoReaderError: `rosbags` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], asked_by: str = "--topic TOPIC") -> None:
        try:
            from rosbags.rosbag2 import Reader, ReaderError
        except ImportError as error:
            raise NoReaderError("reading bags needs the Python package rosbags: pip install rosbags") from error
        self.path = Path(path)
        self._asked_by = asked_by
        if not self.path.exists():
            raise BadBagError(f"bag {str(path)!r} does not exist; expected the folder of a rosbag2")
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except (ReaderError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise BadBagError(
                f"bag {str(path)!r} cannot be read: {reason}; expected the folder of a rosbag2"
            ) from error
        self._store: Typestore | None = None
        self._checked = False

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    # -- topics ------------------------------------------------------------------------------------------------------

    def topics(self) -> list[Topic]:
        """Every topic, by name."""
        counts: Counter[tuple[str, str]] = Counter()
        for c in self._reader.connections:
            counts[c.topic, c.msgtype] += c.msgcount
        return [Topic(name, kind, count) for (name, kind), count in sorted(counts.items())]

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
        """The depth topic of a name.

        Args:
            wanted: The name, with or without the leading slash.

        Raises:
            BadBagError: There is no such topic; the message lists those there are.
        """
        return self._chosen(self.depth_topics(), wanted, "depth images", "depth topic", "its name")

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

    def _is_depth(self, topic: Topic) -> bool:
        """By the topic's first message; one that cannot be read does not say that it is depth."""
        first = next(self.messages(topic), None)
        try:
            return first is not None and is_depth(self.decode(first))
        except BadImageError:
            return False

    # -- messages ----------------------------------------------------------------------------------------------------

    def messages(self, *topics: Topic, start: int | None = None, stop: int | None = None) -> Iterator[Recorded]:
        """The messages of one or several topics, as stored.

        Args:
            topics: The topics; without any there are no messages.
            start: Only those recorded at or after this time, in nanoseconds.
            stop: Only those recorded before this time, in nanoseconds.

        Yields:
            The messages in the order recorded.

        Raises:
            BadBagError: The bag is damaged.
        """
        wanted = {(t.name, t.kind) for t in topics}
        connections = [c for c in self._reader.connections if (c.topic, c.msgtype) in wanted]
        if not connections:
            return
        found = self._reader.messages(connections, start, stop)
        while True:
            try:
                connection, time, raw = next(found)
            except StopIteration:
                return
            except Exception as error:  # of SQLite, of mcap, of the decompression: whatever a damaged file causes
                reason = " ".join(str(error).split()) or type(error).__name__
                raise BadBagError(f"bag {str(self.path)!r} is damaged: {reason[:200]}") from error
            yield Recorded(time, connection.topic, connection.msgtype, bytes(raw))

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
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadImageError(
                f"message on {recorded.topic} is no {recorded.kind} ({len(recorded.raw)} bytes): {reason[:100]}"
            ) from error

    def definition(self, kind: str) -> str | None:
        """The definition of a type as the bag itself describes it, None where it does not."""
        for c in self._reader.connections:
            if c.msgtype == kind and c.msgdef.format.name == "MSG" and c.msgdef.data:
                return str(c.msgdef.data)
        return None

    def typestore(self) -> Typestore:
        """The standard messages and this package's, the latter as the bag describes them where it does."""
        if self._store is None:
            described = {
                c.msgtype: c.msgdef.data
                for c in self._reader.connections
                if c.msgtype == TRUTH_TYPE and c.msgdef.format.name == "MSG"
            }
            self._store = typestore(described)
        return self._store

    def _check_version(self, recorded: Recorded, store: Typestore) -> None:
        """Refuse messages of a version of this package that is neither described in the bag nor the installed one."""
        if recorded.kind != TRUTH_TYPE or self._checked:
            return
        for c in self._reader.connections:
            if c.msgtype == TRUTH_TYPE and c.digest and (have := store.hash_rihs01(TRUTH_TYPE)) != c.digest:
                raise BadBagError(
                    f"bag {str(self.path)!r} holds another version of {TRUTH_TYPE} on {c.topic} and does not "
                    f"describe it: {c.digest[:20]}…, expected {have[:20]}…"
                )
        self._checked = True


class StampedReader:
    """The messages of one topic, looked up by their stamps; only the stamps are held in memory.

    Args:
        bag: The open bag.
        topic: A topic whose type begins with a header.

    Attributes:
        topic: As given.
    """

    def __init__(self, bag: Bag, topic: Topic) -> None:
        self.topic = topic
        self._bag = bag
        self._times: dict[int, int] = {}
        for recorded in bag.messages(topic):
            try:
                self._times[recorded.stamp] = recorded.time
            except BadImageError:
                continue  # of no use; what the images of the same moment lack is counted by whoever asks
        self._stamps = sorted(self._times)

    def __len__(self) -> int:
        return len(self._stamps)

    def nearest(self, stamp: int, tolerance: int = 0) -> Any:
        """The message whose stamp is nearest.

        Args:
            stamp: In nanoseconds.
            tolerance: Largest difference, in nanoseconds.

        Returns:
            The message, None where none is near enough.

        Raises:
            BadImageError: The message cannot be decoded.
        """
        at = bisect.bisect_left(self._stamps, stamp)
        near = min(self._stamps[max(0, at - 1) : at + 1], key=lambda s: abs(s - stamp), default=None)
        if near is None or abs(near - stamp) > tolerance:
            return None
        time = self._times[near]
        for recorded in self._bag.messages(self.topic, start=time, stop=time + 1):
            if recorded.stamp == near:
                return self._bag.decode(recorded)
        return None

    def __iter__(self) -> Iterator[Any]:
        """Every message that can be read, in the order recorded."""
        for recorded in self._bag.messages(self.topic):
            try:
                yield self._bag.decode(recorded)
            except BadImageError:
                continue


def typestore(described: dict[str, str] | None = None) -> Typestore:
    """The message types of ROS and of this package.

    Args:
        described: Definitions by type, to be used instead of the installed ones.

    Raises:
        BadBagError: This package's definitions are missing or do not parse.
    """
    from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

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
    except (TypesysError, OSError, ValueError) as error:
        raise BadBagError(f"the definitions of {PACKAGE}'s messages cannot be used: {error}") from error
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
