"""What a data set is built from: images with named boxes, and where their depth comes from.

Promises: whatever is missing or would have no effect is said in one line before any work; a source of depth is opened
in the process that uses it. The identity of a source tells a stopped build whether it goes on with the same one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, UnidentifiedImageError

from proxqa_core.datasets.coco import CocoInstances
from proxqa_core.datasets.depth_source import DepthMaps, DepthModel, DepthSource, DepthUnit, FolderMaps, Make3DGrids
from proxqa_core.datasets.folder import ANNOTATIONS, Record
from proxqa_core.datasets.folder_records import FolderRecords
from proxqa_core.datasets.gqa import GRAPHS, GqaSceneGraphs
from proxqa_core.datasets.json_stream import stream_list, stream_list_at, stream_object
from proxqa_core.datasets.make3d import make3d_images
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.datasets.visual_genome import OBJECTS, VisualGenome
from proxqa_core.errors import ProxqaError
from proxqa_core.evaluation.conversions import regions_of
from proxqa_core.files import sha256


class BadSourceError(ProxqaError, ValueError):
    """Images or depth cannot be taken from there; the message says what came and what was expected."""


class Records(Protocol):
    """Images with named boxes, read as a stream, in the same order each time. report: what was left out of them."""

    report: ReadReport

    def __iter__(self) -> Iterator[Record]: ...


@dataclass(frozen=True)
class ImageSource:
    """Images with named boxes.

    Attributes:
        kind: Of `KINDS`.
        data: The annotations (COCO, Visual Genome, GQA), a labelled folder, or Make3D's folder of images.
        images: Folder of the images, where `data` does not hold them.
        image_data: Visual Genome's image_data.json, for the sizes of images.
        boxes: COCO-format file with boxes of Make3D's images; None = nine regions of each image.
        grids: Make3D's folder of laser depths.

    Raises:
        BadSourceError: Something that this kind needs is not there, or is given and of no use.
    """

    kind: str
    data: Path
    images: Path | None = None
    image_data: Path | None = None
    boxes: Path | None = None
    grids: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadSourceError(f"{self.kind!r} is no kind of data; expected one of {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        for name, what in OPTIONS.items():
            given = getattr(self, name)
            if given is None and name in kind.needs:
                raise BadSourceError(f"{self.kind} needs {what}")
            if given is not None and name not in (*kind.needs, *kind.takes):
                raise BadSourceError(f"{self.kind} makes no use of {what}")
            if given is not None and not (given.is_file() if name in FILES else given.is_dir()):
                raise BadSourceError(f"{given}: no such {'file' if name in FILES else 'folder'}; expected {what}")
        if not (self.data.is_dir() if kind.of_folder else self.data.is_file()):
            raise BadSourceError(f"{self.data}: no such {'folder' if kind.of_folder else 'file'}; expected {kind.what}")

    @property
    def image_folder(self) -> Path:
        """The folder that the images' paths are relative to."""
        return self.images or self.data

    def records(self) -> Records:
        """The images.

        Raises:
            BadDatasetError: A file is not of this kind.
        """
        return KINDS[self.kind].read(self)

    def count(self) -> int:
        """How many images there are, as far as the file tells; one pass over it."""
        return sum(1 for _ in KINDS[self.kind].entries(self))

    def absent_names(self) -> tuple[str, ...]:
        """Names to ask for where they are not in view: those of data sets of which that is known."""
        return tuple(KINDS[self.kind].names(self))

    @property
    def complete(self) -> bool:
        """Whether everything that has one of the absent names is labelled; else records may say it of themselves."""
        return self.kind == "coco"

    def identity(self) -> dict[str, str]:
        """What the records hang on, for a `Recipe`: the kind, and digests of the files, wherever they are."""
        files = [self.data / ANNOTATIONS if self.kind == "folder" else self.data, self.image_data, self.boxes]
        digests = [sha256(f)[:16] if f.is_file() else f.name for f in files if f is not None]
        return {"kind": self.kind, "data": " ".join(digests)}


@dataclass
class Make3DRecords:
    """Make3D's photographs with boxes from a COCO-format file, or with nine regions each."""

    images: Path
    grids: Path
    boxes: Path | None = None

    def __post_init__(self) -> None:
        self.report = ReadReport()
        self._coco = None if self.boxes is None else CocoInstances(self.boxes, self.images)

    def __iter__(self) -> Iterator[Record]:
        self.report = ReadReport()
        boxed = None if self._coco is None else {Path(r.image).name: r for r in self._coco}
        if self._coco is not None:
            self.report.merge(self._coco.report)
        for photo in make3d_images(self.images, self.grids, self.report):
            name = photo.image.name
            if boxed is not None and name not in boxed:
                self.report.add("image without boxes in the COCO file", name)
            elif boxed is not None:
                yield boxed[name]
            elif (size := _size_of(photo.image)) is None:
                self.report.add("image that cannot be read", name)
            else:
                yield Record(self.images, name, *size, regions_of(*size), source="make3d")


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as file:
            return file.size
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None


@dataclass(frozen=True)
class _Kind:
    """What `data` is, how it is read, what it needs and takes beside it (keys of `OPTIONS`)."""

    what: str
    read: Callable[[ImageSource], Records]
    entries: Callable[[ImageSource], Iterable[Any]]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    of_folder: bool = False
    names: Callable[[ImageSource], Iterable[str]] = lambda source: ()


OPTIONS = {
    "images": "--images, the folder of the images",
    "image_data": "--image-data, Visual Genome's image_data.json",
    "boxes": "--boxes, a COCO-format file with boxes of the images",
    "grids": "--grids, Make3D's folder of depth_sph_corr-NAME.mat",
}
FILES = ("image_data", "boxes")
"""Those of `OPTIONS` that are files; the others are folders."""


def _images_of(source: ImageSource) -> Path:
    assert source.images is not None
    return source.images


def _make3d(source: ImageSource) -> Make3DRecords:
    assert source.grids is not None
    return Make3DRecords(source.data, source.grids, source.boxes)


def _names_of_folder(source: ImageSource) -> list[str]:
    """Names that occur; they are asked for only in records whose `visible_names` say all that is in view."""
    return sorted({o.name for record in FolderRecords(source.data) for o in record.objects})


KINDS = {
    "coco": _Kind(
        "a COCO instances file",
        lambda s: CocoInstances(s.data, _images_of(s)),
        lambda s: stream_list_at(s.data, "images"),
        needs=("images",),
        names=lambda s: CocoInstances(s.data, _images_of(s)).category_names(),
    ),
    "visual-genome": _Kind(
        "Visual Genome's objects.json",
        lambda s: VisualGenome(s.data, _images_of(s), s.image_data),
        lambda s: stream_list(s.data, OBJECTS),
        needs=("images",),
        takes=("image_data",),
    ),
    "gqa": _Kind(
        "GQA's scene graphs",
        lambda s: GqaSceneGraphs(s.data, _images_of(s)),
        lambda s: stream_object(s.data, GRAPHS),
        needs=("images",),
    ),
    "folder": _Kind(
        f"a folder with {ANNOTATIONS}",
        lambda s: FolderRecords(s.data),
        lambda s: stream_list(s.data / ANNOTATIONS),
        of_folder=True,
        names=_names_of_folder,
    ),
    "make3d": _Kind(
        "a folder of Make3D's img-NAME.jpg",
        _make3d,
        lambda s: s.data.glob("img-*.jpg"),
        needs=("grids",),
        takes=("boxes",),
        of_folder=True,
    ),
}
"""Kinds of data with images and named boxes."""


@dataclass(frozen=True)
class DepthConfig:
    """Where the depth of the images comes from: exactly one of maps, model, and what the images' source holds itself.

    Attributes:
        maps: Folder with a map for every image. unit: What their numbers, or the model's, are; never guessed.
        model: Id or folder of a depth-estimation model. device, batch_size: Of the model.
        folder: Labelled folder whose records name maps. grids: Make3D's folder.

    Raises:
        BadSourceError: None or several of them are given, the unit is not said, or there is no such folder.
    """

    maps: Path | None = None
    unit: DepthUnit | None = None
    model: str | None = None
    device: str = "auto"
    batch_size: int = 8
    folder: Path | None = None
    grids: Path | None = None

    def __post_init__(self) -> None:
        if sum(v is not None for v in (self.maps, self.model, self.folder, self.grids)) != 1:
            raise BadSourceError("expected depth from one source: --depth-maps DIR or --depth-model ID, not both")
        if (self.maps or self.model) and self.unit is None:
            units = " or ".join(u.value for u in DepthUnit if self.maps or u is not DepthUnit.MILLIMETRES)
            raise BadSourceError(f"--depth-unit is missing: what the numbers of the depth are, {units}")
        if self.unit is not None and not (self.maps or self.model):
            raise BadSourceError("--depth-unit has no effect without --depth-maps or --depth-model")
        if self.maps is not None and not self.maps.is_dir():
            raise BadSourceError(f"{self.maps}: no such folder; expected depth maps named as the images")

    @classmethod
    def of(cls, source: ImageSource, **given: Any) -> DepthConfig:
        """The depth of these images: what is given, else what they have themselves.

        Raises:
            BadSourceError: Nothing is given, and they have none; see also the class.
        """
        if given.get("maps") is not None or given.get("model") is not None:
            return cls(**given)
        if source.kind == "folder":
            return cls(folder=source.data, **given)
        if source.kind == "make3d":
            return cls(grids=source.grids, **given)
        raise BadSourceError(
            f"{source.kind} has no depth: give --depth-maps DIR or --depth-model ID, and --depth-unit with it"
        )

    def open(self) -> DepthSource:
        """The source of depth; a model is loaded.

        Raises:
            ProxqaError: The model cannot be loaded.
        """
        if self.model is not None:
            return DepthModel(self.model, self.unit or DepthUnit.DISPARITY, self.device, self.batch_size)
        if self.folder is not None:
            return FolderMaps(self.folder, self.batch_size)
        if self.grids is not None:
            return Make3DGrids(self.grids, self.batch_size)
        assert self.maps is not None and self.unit is not None
        return DepthMaps(self.maps, self.unit, self.batch_size)

    def identity(self) -> dict[str, str]:
        """What the depths hang on, for a `Recipe`; a model in a folder is known by its files."""
        if self.model is None:
            place = self.maps or self.folder or self.grids
            return {
                "depth": f"maps of {str(place and place.resolve())!r}",
                "unit": self.unit.value if self.unit else "",
            }
        files = sorted(itertools.chain.from_iterable(Path(self.model).glob(p) for p in ("*.json", "*.safetensors")))
        digests = " ".join(sha256(f)[:16] for f in files) if Path(self.model).is_dir() else ""
        assert self.unit is not None
        return {"depth": f"model {digests or self.model}", "unit": self.unit.value,
                "batch_size": str(self.batch_size)}  # fmt: skip
