"""Images one after the other out of files, folders, videos and cameras.

Promises: what cannot be an image is told when it comes, not at the end, and does not end what comes after it; a camera
or video is closed however its reader ends. Knows nothing of what the images are for.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISCHR
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError
from proxqa_core.vision.image_file import read_image

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
CAMERA_NAME = re.compile(r"/dev/video\d+")
"""What cameras are called on Linux."""
VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        name: Its file; of videos and cameras with the number of the image behind it: 'drive.mp4:30'.
        image: uint8 [height, width, 3], RGB; None where it cannot be used.
        problem: Why not, one line; '' where it can.
    """

    name: str
    image: NDArray[np.uint8] | None
    problem: str = ""


@dataclass(frozen=True)
class ImageSources:
    """Where images come from.

    Attributes:
        paths: Image files, videos and cameras, in order; folders are replaced by the images in them.
        every_images: Only each Nth image of a video or camera.
        every_seconds: Least seconds between two images of a video or camera.
        decoded: The single image, where it has been read already: it is not read again.
    """

    paths: tuple[Path, ...]
    every_images: int = 1
    every_seconds: float = 0.0
    decoded: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, paths: Sequence[Path], every_images: int = 1, every_seconds: float = 0.0) -> ImageSources:
        """Check what is named and look into folders.

        Raises:
            BadImageError: A path does not exist, or is a folder without images.
        """
        found: list[Path] = []
        for path in paths:
            found += _in_folder(path) if path.is_dir() else [path]
        for path in found:
            if not path.exists():
                raise BadImageError(f"{path}: {_why_missing(path)}")
        return cls(tuple(found), every_images, every_seconds)

    @property
    def is_single(self) -> bool:
        """Whether there is one image file and nothing else."""
        return len(self.paths) == 1 and not is_moving(self.paths[0])

    @property
    def total(self) -> int | None:
        """How many images there are; None where a video or camera does not say."""
        return None if any(map(is_moving, self.paths)) else len(self.paths)

    def __iter__(self) -> Iterator[SourceImage]:
        for path in self.paths:
            if self.decoded is not None and self.is_single:
                yield SourceImage(str(path), self.decoded)
            elif is_moving(path):
                yield from self._moving(path)
            else:
                yield _read(path)

    def _moving(self, path: Path) -> Iterator[SourceImage]:
        """The images of a video or camera that are asked for."""
        capture: Any = cv2.VideoCapture(str(path))
        try:
            if not capture.isOpened():
                kind = "camera" if is_camera(path) else "video"
                yield SourceImage(
                    str(path), None, f"{path}: cannot be opened as a {kind} (damaged, in use, or no rights?)"
                )
                return
            yield from self._chosen(path, capture)
        finally:
            capture.release()

    def _chosen(self, path: Path, capture: Any) -> Iterator[SourceImage]:
        number, last_s = -1, -math.inf
        while True:
            there, bgr = capture.read()
            number += 1
            if not there:
                break
            now_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number % self.every_images or now_s - last_s < self.every_seconds:
                continue
            last_s = now_s
            yield SourceImage(f"{path}:{number}", cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
        if number == 0:
            yield SourceImage(str(path), None, f"{path}: gives no image; expected a video or camera that does")


def _why_missing(path: Path) -> str:
    if CAMERA_NAME.fullmatch(str(path)):
        cameras = ", ".join(sorted(str(p) for p in path.parent.glob("video*"))) or "none"
        return f"no such camera; there are: {cameras} (in a container: docker run --device {path})"
    return "no such file; expected an image, a folder of images, a video or a camera"


def is_camera(path: Path) -> bool:
    """Whether a path is a camera's device, such as /dev/video0."""
    return path.exists() and S_ISCHR(os.stat(path).st_mode)


def is_moving(path: Path) -> bool:
    """Whether a path is a camera or, by its ending, a video."""
    return path.suffix.lower() in VIDEO_ENDINGS or is_camera(path)


def _in_folder(folder: Path) -> list[Path]:
    endings = (*IMAGE_ENDINGS, *VIDEO_ENDINGS)
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and p.is_file())
    if not found:
        raise BadImageError(f"{folder}: has no images; expected files that end in {', '.join(IMAGE_ENDINGS)}")
    return found


def _read(path: Path) -> SourceImage:
    try:
        return SourceImage(str(path), read_image(path))
    except BadImageError as error:
        return SourceImage(str(path), None, str(error))
