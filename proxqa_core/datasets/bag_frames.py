"""A bag's images as numbered files, to draw boxes in: `000012.jpg` is image 12 of its topic.

Promises: an image keeps its number whichever others are left out, so that boxes drawn for it (`boxes.json`) are read by
`proxqa record --boxes`; boxes that are there already stay. What compressed images hold is written as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from proxqa_core.datasets.folder import NUMBERED_BOXES
from proxqa_core.datasets.record import BadRecordingError, Settings, encoded_image, image_stamps, write_file
from proxqa_core.errors import BadImageError
from proxqa_core.files import write_text
from proxqa_core.rosbags.bag import Bag
from proxqa_core.rosbags.image_messages import image_to_rgb
from proxqa_core.stamps import is_too_soon


@dataclass
class Frames:
    """What was written. images: how many. bad: why others were left out, one line each. topic: whose they are."""

    topic: str
    images: int = 0
    bad: list[str] = field(default_factory=list)


def write_frames(path: Path, out: Path, settings: Settings, progress: bool = False) -> Frames:
    """Write a bag's images as numbered files and, where there is none, an empty file of boxes.

    Args:
        path: The bag.
        out: The folder, created where it is missing.
        settings: The topic, and which images: each Nth, or with so many seconds between.
        progress: Show a progress bar on stderr.

    Returns:
        What was written.

    Raises:
        BadBagError: The bag cannot be used.
        BadRecordingError: No image can be written.
        OSError: A file cannot be written.
    """
    with Bag(path) as bag:
        topic = bag.image_topic(settings.topic)
        stamps = image_stamps(bag, topic)
        written, last = Frames(topic.name), None
        out.mkdir(parents=True, exist_ok=True)
        messages = enumerate(bag.messages(topic))
        for number, recorded in tqdm(messages, total=len(stamps), disable=not progress, unit="image"):
            stamp = stamps[number]
            if number % settings.every_images or is_too_soon(stamp, last, settings.every_seconds):
                continue
            try:
                message = bag.decode(recorded)
                suffix, content = encoded_image(message, image_to_rgb(message))
            except BadImageError as error:
                written.bad.append(f"image {number}: {error}")
                continue
            write_file(out / f"{number:06}{suffix}", content)
            written.images, last = written.images + 1, stamp
    if not written.images:
        raise BadRecordingError(f"bag {str(path)!r}: no image of {topic.name} can be written: {written.bad[:1]}")
    if not (out / NUMBERED_BOXES).exists():
        write_text(out / NUMBERED_BOXES, "{}\n")
    return written
