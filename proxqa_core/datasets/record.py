"""`proxqa record`: an RGB-D bag with boxes becomes a labelled folder (`proxqa_core.datasets.folder`) to train on.

Promises: the same bag and settings give the same folder, byte for byte, stopped in between or not; the folder is whole
and readable at any time, since files are written atomically; what is left out is counted, with the reason. Images that
are compressed in the bag are kept as they are. Knows nothing of models or of training.

DIR holds annotations.json, images/STAMP.jpg or .png, depth/STAMP.png (16 bit, mm) and recording.json: from what, how.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from tqdm import tqdm

from proxqa_core.datasets.folder import ANNOTATIONS, SKY, metres_of
from proxqa_core.depth import (
    disparity_of,
    disparity_percentiles,
    median_in_box,
    relative_of_disparity,
    same_aspect,
)
from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError
from proxqa_core.files import atomic_write
from proxqa_core.frames import same_frame
from proxqa_core.rosbags.bag import BadBagError, Bag, Recorded, StampedReader, Topic
from proxqa_core.rosbags.boxes import Boxed, Boxes, BoxFile, BoxTopic, box_topic, read_names
from proxqa_core.rosbags.image_messages import Compressed, Pixels, depth_to_metres, image_to_rgb
from proxqa_core.stamps import NS_PER_S, is_too_soon
from proxqa_core.types import Box

RECORDING = "recording.json"
NO_DEPTH = "none"
"""As `Settings.depth`: record without depth."""
SAVE_EVERY_IMAGES = 50
"""Number of new images after which annotations.json is updated."""
MAX_NAMED = 8
"""Most images that are named by their numbers for one reason."""
MIN_MEASURED = 0.5
"""Smallest share of the central half of a box that must have a depth, in [0, 1]."""
IDENTIFYING = ("every_seconds", "every_images", "tolerance", "min_score", "complete")
"""The settings that identify a recording, besides what it is made from."""
_EXIF_ORIENTATION = 0x0112


class BadRecordingError(ProxqaError, ValueError):
    """Nothing can be recorded; the message says what came and what was expected."""


@dataclass(frozen=True)
class Settings:
    """What to record.

    Attributes:
        topic: Of the images, '' = the only one.
        depth: Topic of depth images aligned with them, '' = the only one or none, 'none' = without.
        boxes: Topic or JSON file of boxes (`proxqa_core.rosbags.boxes`), '' = the only topic.
        every_seconds: Smallest distance of two images by their stamps, in seconds, >= 0.
        every_images: Only each Nth image, from 1.
        tolerance: Largest difference of the stamps of an image and its depth image, in seconds.
        min_score: Smallest score of a box, in [0, 1].
        names: JSON file with names of the detector's classes, None = as they are.
        complete: Everything of the names that occur is boxed wherever it is in view: what has no box is not there.

    Raises:
        BadRecordingError: A value is outside its range.
    """

    topic: str = ""
    depth: str = ""
    boxes: str = ""
    every_seconds: float = 0.0
    every_images: int = 1
    tolerance: float = 0.05
    min_score: float = 0.5
    names: Path | None = None
    complete: bool = False

    def __post_init__(self) -> None:
        if self.every_images < 1:
            raise BadRecordingError(f"every_images is {self.every_images}; expected at least 1")
        for key in ("every_seconds", "tolerance"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) >= 0):
                raise BadRecordingError(f"{key} is {getattr(self, key)}; expected seconds from 0")
        if not 0 <= self.min_score <= 1:
            raise BadRecordingError(f"min_score is {self.min_score}; expected a score in [0, 1]")


@dataclass
class Summary:
    """What is in the folder and what was left out.

    Attributes:
        images: Number of images.
        objects: Number of boxes.
        measured: Number of boxes with a depth.
        names: Number of boxes by name.
        left_out: Number of images and boxes that were left out, by reason.
        problems: The first problem by reason, one line each.
        numbers: Which images were left out by a step or the tolerance, by reason: their numbers in the topic.
    """

    images: int = 0
    objects: int = 0
    measured: int = 0
    names: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, list[int]] = field(default_factory=dict)

    def leave_out(self, why: str, problem: str = "", number: int | None = None) -> None:
        """Count something that is left out. why: the reason. problem: one line about this one. number: of the image."""
        self.left_out[why] += 1
        if problem:
            self.problems.setdefault(why, problem)
        if number is not None:
            self.numbers.setdefault(why, []).append(number)

    def add(self, record: dict[str, Any]) -> None:
        """Count a record of annotations.json."""
        self.images += 1
        self.objects += len(record["objects"])
        self.measured += sum(o["depth_m"] is not None for o in record["objects"])
        self.names.update(o["name"] for o in record["objects"])

    def left_out_text(self) -> str:
        """What was left out, in one line; '' = nothing."""
        return "; ".join(f"{count} {why}{self._which(why)}" for why, count in self.left_out.items())

    def _which(self, why: str) -> str:
        """The first problem, or the numbers of the first images."""
        if why in self.problems:
            return f" ({self.problems[why]})"
        numbers = self.numbers.get(why, [])
        more = ", …" if len(numbers) > MAX_NAMED else ""
        return f" (image {', '.join(map(str, numbers[:MAX_NAMED]))}{more})" if numbers else ""


def record(path: Path, out: Path, settings: Settings, progress: bool = False) -> Summary:
    """Record a bag into a labelled folder, or what is missing there of a recording that was stopped.

    Args:
        path: The bag.
        out: The folder, created where it is missing.
        settings: What to record.
        progress: Show a progress bar on stderr.

    Returns:
        What is in the folder, and what was left out.

    Raises:
        BadBagError: The bag cannot be used.
        BadBoxesError: The boxes cannot be used.
        BadRecordingError: Nothing can be recorded, or `out` holds something else.
        NoReaderError: The package that reads bags is not installed.
        OSError: A file cannot be written.
    """
    with Bag(path) as bag:
        topic = bag.image_topic(settings.topic)
        depth = _depth_topic(bag, settings.depth)
        stamps = image_stamps(bag, topic)
        boxes, boxes_identity = _boxes(bag, topic, settings, stamps)
        earlier = _begin(out, _identity(bag, topic, depth, boxes_identity, settings, stamps))
        recorder = _Recorder(bag, topic, depth, boxes, settings, out, earlier)
        recorder.run(stamps, progress)
        return recorder.summary


class _Recorder:
    """One bag being recorded. earlier: records of an earlier, stopped run by their images."""

    def __init__(
        self,
        bag: Bag,
        topic: Topic,
        depth: Topic | None,
        boxes: Boxes,
        settings: Settings,
        out: Path,
        earlier: dict[str, dict[str, Any]],
    ) -> None:
        self.bag, self.topic, self.boxes, self.settings, self.out = bag, topic, boxes, settings, out
        self.depth = None if depth is None else StampedReader(bag, depth, topic)
        self.earlier = earlier
        self._tolerance_ns = round(settings.tolerance * NS_PER_S)
        self.records: list[dict[str, Any]] = []
        self.summary = Summary()
        self._new = 0
        self._last: int | None = None
        self._taken: set[int] = set()

    def run(self, stamps: list[int], progress: bool) -> None:
        """Record every image that is chosen. stamps: of all images, in nanoseconds, in the order recorded."""
        messages = enumerate(self.bag.messages(self.topic))
        for number, recorded in tqdm(messages, total=len(stamps), disable=not progress, unit="image"):
            stamp = stamps[number]
            if self._is_chosen(number, stamp):
                self._add(number, stamp, recorded)
        if self.boxes.refused:
            self.summary.left_out["boxes that cannot be used"] += self.boxes.refused
            self.summary.problems.setdefault("boxes that cannot be used", self.boxes.refusal)
        if not self.records:
            raise BadRecordingError(
                f"bag {str(self.bag.path)!r}: none of the {len(stamps)} images on {self.topic.name} can be recorded: "
                f"{self.summary.left_out_text()}"
            )
        self._save()

    def _is_chosen(self, number: int, stamp: int) -> bool:
        if number % self.settings.every_images:
            self._skip(number, stamp)
            return False
        if is_too_soon(stamp, self._last, self.settings.every_seconds):
            self._skip(number, stamp)
            return False
        if stamp in self._taken:
            self.summary.leave_out("images with the stamp of an earlier one")
            return False
        return True

    def _skip(self, number: int, stamp: int) -> None:
        """Count an image that --every-… leaves out, where somebody has drawn boxes in it by hand."""
        if self.settings.boxes.endswith(".json") and self.boxes.at(number, stamp, stamp):
            self.summary.leave_out("images with boxes that --every-… left out", number=number)

    def _add(self, number: int, stamp: int, recorded: Recorded) -> None:
        """Take one image into the records, made anew unless an earlier run made it."""
        made = self._made_earlier(stamp)
        if made is None:
            try:
                made = self._made(number, stamp, recorded)
            except BadImageError as error:
                self.summary.leave_out("images that cannot be used", str(error))
            if made is None:
                return
            self._new += 1
        self._last = stamp
        self._taken.add(stamp)
        self.records.append(made)
        self.summary.add(made)
        if self._new and self._new % SAVE_EVERY_IMAGES == 0:
            self._save()

    def _made_earlier(self, stamp: int) -> dict[str, Any] | None:
        """The record that an earlier run made of this image, None where it or one of its files is missing."""
        for suffix in (".jpg", ".png"):
            made = self.earlier.get(f"images/{stamp}{suffix}")
            if made is not None and (self.out / made["image"]).is_file():
                return made if made["depth_map"] is None or (self.out / made["depth_map"]).is_file() else None
        return None

    def _made(self, number: int, stamp: int, recorded: Recorded) -> dict[str, Any] | None:
        """The record of one image, its files written; None where it has no boxes or no depth image. BadImageError."""
        # 1. the boxes and the depth image of its stamp
        boxes = self.boxes.at(number, stamp, recorded.time)
        if not boxes:
            self.summary.leave_out(f"images without boxes ({self.boxes.label})")
            return None
        depth_image = None if self.depth is None else self.depth.nearest(stamp, self._tolerance_ns, recorded.time)
        if self.depth is not None and depth_image is None:
            seconds = f"{self.settings.tolerance:g} s"
            why = f"images with boxes but no depth image within {seconds} (--tolerance; --depth none takes them too)"
            self.summary.leave_out(why, number=number)
            return None
        # 2. the image, uint8 [height, width, 3], and its depth map, uint16 [rows, columns]
        message = self.bag.decode(recorded)
        image = image_to_rgb(message)
        height, width = image.shape[:2]
        millimetres = None if depth_image is None else self._millimetres(message, depth_image, width, height)
        # 3. the objects with their depths
        objects = self._objects(boxes, millimetres, width, height)
        if not objects:
            self.summary.leave_out("images whose boxes all lie outside")
            return None
        # 4. the files
        suffix, content = encoded_image(message, image)
        made: dict[str, Any] = {"image": f"images/{stamp}{suffix}", "width": width, "height": height}
        made |= {"source": self.bag.path.name, "objects": objects, "depth_map": None}
        write_file(self.out / made["image"], content)
        if millimetres is not None:
            made["depth_map"] = f"depth/{stamp}.png"
            write_file(self.out / made["depth_map"], _png(millimetres))
        if self.settings.complete:
            made["exhaustive_for_source_classes"] = True
        return made

    def _millimetres(self, message: Any, depth_image: Any, width: int, height: int) -> NDArray[np.uint16]:
        """The depth image as a depth map is stored.

        Raises:
            BadRecordingError: It is not aligned with the image, nor was any before.
            BadImageError: It cannot be read, or it alone is not aligned.
        """
        refusal = BadImageError if self.records else BadRecordingError
        assert self.depth is not None
        frame, other = str(message.header.frame_id), str(depth_image.header.frame_id)
        label = f"depth images on {self.depth.topic.name}"
        expected = "expected depth aligned with the image (registered)"
        if not same_frame(frame, other):
            raise refusal(f"{label} are in frame {other[:60]!r}, the images in {frame[:60]!r}; {expected}")
        metres = depth_to_metres(depth_image)
        rows, columns = metres.shape
        if not same_aspect(columns, rows, width, height):
            raise refusal(f"{label} are {columns}x{rows} pixels, the images {width}x{height}; {expected}")
        millimetres = np.rint(np.nan_to_num(metres.astype(np.float64) * 1000, nan=0.0))
        # what is measured, however near, is not 0, which means not measured
        return np.where(np.isnan(metres), 0, np.clip(millimetres, 1, SKY)).astype(np.uint16)

    def _objects(
        self, boxes: tuple[Boxed, ...], millimetres: NDArray[np.uint16] | None, width: int, height: int
    ) -> list[dict[str, Any]]:
        low, high, measured = math.nan, math.nan, None
        if millimetres is not None:
            low, high = disparity_percentiles(disparity_of(metres_of(millimetres)))
            measured = np.where(millimetres > 0, millimetres, np.nan)
        found = []
        for boxed in boxes:
            try:
                box = boxed.box.clipped(width, height)
            except BadObjectError as error:
                self.summary.leave_out("boxes outside their image", str(error))
                continue
            metres = None if measured is None else _distance_m(measured, box, width, height)
            relative = None if metres is None else round(float(relative_of_disparity(1 / metres, low, high)), 4)
            corners = [round(v, 2) for v in box.xyxy]
            found.append({"name": boxed.name, "box": corners, "depth_m": metres, "depth": relative})
        return found

    def _save(self) -> None:
        text = "[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in self.records) + "\n]\n"
        write_file(self.out / ANNOTATIONS, text.encode("utf-8"))


def _distance_m(millimetres: NDArray[np.float64], box: Box, width: int, height: int) -> float | None:
    """How far what a box shows is, in metres; None where too little of it is measured, or it is sky."""
    median = median_in_box(millimetres, box, width, height, MIN_MEASURED)
    return round(median / 1000, 4) if median < SKY else None  # NaN is not below


def _depth_topic(bag: Bag, wanted: str) -> Topic | None:
    if wanted == NO_DEPTH:
        return None
    topics = bag.depth_topics()
    if not wanted and len(topics) < 2:
        return topics[0] if topics else None
    if not wanted:
        choices = ", ".join(f"{t.name} ({t.count} images)" for t in topics)
        raise BadBagError(f"bag {str(bag.path)!r} has several depth topics; choose one with --depth TOPIC: {choices}")
    return bag.depth_topic(wanted)


def _boxes(bag: Bag, images: Topic, settings: Settings, stamps: list[int]) -> tuple[Boxes, str]:
    """The source of boxes, and what identifies it."""
    file = Path(settings.boxes) if settings.boxes else None
    if file is not None and (file.is_file() or file.suffix.lower() == ".json"):
        if settings.names is not None:
            raise BadRecordingError(f"--names {settings.names}: is for topics of boxes; {file} holds names already")
        source = BoxFile(file, stamps)
        return source, f"file {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    topic = box_topic(bag, settings.boxes)
    names = {} if settings.names is None else read_names(settings.names)
    identity = f"{topic.name} {json.dumps(names, sort_keys=True)}" if names else topic.name
    return BoxTopic(bag, topic, names, settings.min_score, images), identity


def image_stamps(bag: Bag, topic: Topic) -> list[int]:
    """The stamps of all images, in ns, in the order recorded; where they tell none apart, when each was recorded."""
    return bag.times(topic) if bag.by_time(topic) else bag.stamps(topic)


def _identity(
    bag: Bag, topic: Topic, depth: Topic | None, boxes: str, settings: Settings, stamps: list[int]
) -> dict[str, Any]:
    """What a recording is made from: the same again means the same folder."""
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    chosen = {key: getattr(settings, key) for key in IDENTIFYING}
    return {
        "bag": bag.name,
        "images": f"{topic.name}, {len(stamps)} of them, stamps {digest}",
        "depth": NO_DEPTH if depth is None else depth.name,
        "boxes": boxes,
        **chosen,
    }


def _begin(out: Path, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The records that an earlier run into `out` left. BadRecordingError where `out` holds something else."""
    known, annotations = out / RECORDING, out / ANNOTATIONS
    if not known.exists():
        if annotations.exists():
            raise BadRecordingError(f"{out}: holds a labelled folder that was not recorded; choose another --out")
        write_file(known, (json.dumps(identity, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
        return {}
    try:
        earlier = json.loads(known.read_text(encoding="utf-8"))
        records = json.loads(annotations.read_text(encoding="utf-8")) if annotations.exists() else []
        by_image = {r["image"]: r for r in records if "depth_map" in r}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BadRecordingError(f"{out}: what is there of a recording cannot be read; choose another --out") from error
    if earlier != identity:
        odd = sorted({*earlier, *identity}, key=str) if isinstance(earlier, dict) else []
        for key in odd:
            if earlier.get(key) != identity.get(key):
                raise BadRecordingError(
                    f"{out}: holds a recording with other {key} ({earlier.get(key)!r}, now {identity.get(key)!r}); "
                    "choose another --out"
                )
        raise BadRecordingError(f"{out}: holds something else; choose another --out")
    return by_image


def encoded_image(message: Any, image: Pixels) -> tuple[str, bytes]:
    """Suffix and content of the image file: as in the bag, where a reader would see it as `image`; else a PNG."""
    if isinstance(message, Compressed):
        data = bytes(message.data)
        with PilImage.open(io.BytesIO(data)) as picture:
            if picture.getexif().get(_EXIF_ORIENTATION, 1) == 1 and not picture.mode.startswith("I"):
                return (".jpg" if picture.format == "JPEG" else ".png"), data
    return ".png", _png(image)


def _png(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    PilImage.fromarray(array).save(out, "PNG")
    return out.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_write(path) as work:
        work.write_bytes(content)
