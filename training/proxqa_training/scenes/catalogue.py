"""The Sweet Home 3D catalogues as a list of models under the names people say.

Promises: finds the Debian packages' archives, unpacks them once into a cache, reads name, size and file of every model,
drops what nobody would ask for, and splits the models stably into `seen` and `heldout` by a hash of the model's file.
Knows nothing of Blender: it can be imported, and `SYNONYMS` used, where bpy is not installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from proxqa_training.scenes.names import COLOURS, SYNONYMS, common_name, could_mean, is_asked_for

__all__ = [
    "COLOURS",
    "SYNONYMS",
    "Model",
    "ModelsMissingError",
    "common_name",
    "could_mean",
    "read",
    "textures",
    "unpack",
]

MODELS_DIR = Path("/usr/share/sweethome3d")
CACHE_DIR = Path(".cache/sweethome3d")
"""Where the archives are unpacked."""
INSTALL_MODELS = "apt-get install --no-install-recommends sweethome3d-furniture sweethome3d"
HELDOUT_SHARE = 0.18
MODEL_SETS = ("seen", "heldout", "all")
_JAR_FOLDER = "com/eteks/sweethome3d/io/"

_WALL = re.compile(
    r"picture frame|clock|tv|wall cabinet|radiator|window|door|dart game|white board|water heater|wall lamp|range hood"
)
_TABLE = re.compile(r"table|desk|chest|cabinet|dresser|commode|bench|stool|trunk|box|tv stand|pouf|crate|barrel|island")
_PLANTED = re.compile(r"\btree\b|plant|flowers|cactus|bamboo|hedge|bush")
_NO_COLOUR_CATEGORIES = frozenset({"Characters"})
_FOOD = re.compile(
    r"apple|bread|butter|cake|fries|hamburger|hot dog|chicken|steak|sushi|fire|rock|snowman|wood logs|"
    r"newspaper|glass$|window"
)


class ModelsMissingError(FileNotFoundError):
    """The Sweet Home 3D archives are not there; the message names the command that installs them."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


@dataclass(frozen=True)
class Model:
    """One catalogue entry: an OBJ file with a name, its true size (width, depth, height; metres), its place."""

    id: str
    file: Path
    name: str
    category: str
    size: tuple[float, float, float]
    top: float
    elevation: float
    rotation: tuple[float, ...] | None
    heldout: bool

    @property
    def reach(self) -> float:
        """The longest of its three sides."""
        return max(self.size)

    @property
    def person(self) -> bool:
        """A human being."""
        return self.name in ("man", "woman", "boy", "girl")

    @property
    def animal(self) -> bool:
        """A small animal, such as live in houses and gardens."""
        return self.category == "Characters" and not self.person and self.reach < 1.4

    @property
    def vehicle(self) -> bool:
        """Something to travel with."""
        return self.category == "Vehicles"

    @property
    def planted(self) -> bool:
        """A plant."""
        return bool(_PLANTED.search(self.name))

    @property
    def on_wall(self) -> bool:
        """Hangs on a wall."""
        return bool(_WALL.fullmatch(self.name)) and self.size[1] < 0.5

    @property
    def on_ceiling(self) -> bool:
        """Hangs from a ceiling."""
        return self.name == "ceiling lamp"

    @property
    def table(self) -> bool:
        """Things can stand on it."""
        return bool(_TABLE.search(self.name)) and 0.25 < self.top < 1.3 and min(self.size[:2]) > 0.28

    @property
    def on_floor(self) -> bool:
        """Stands free on a floor indoors."""
        outside = self.vehicle and self.reach > 1.3
        return (
            0.3 < self.reach < 2.6
            and self.elevation < 0.1
            and not (
                outside
                or self.on_ceiling
                or self.name in ("tree", "door", "window", "hedge", "street lamp", "wall cabinet", "fountain")
            )
        )

    @property
    def small(self) -> bool:
        """Can stand on a shelf or a table."""
        return 0.07 < self.reach < 0.6 and self.size[2] > 0.025 and self.elevation < 0.1 and not self.on_ceiling

    @property
    def outdoor(self) -> bool:
        """Stands outdoors."""
        return self.category == "Exterior" and not self.on_wall

    @property
    def may_be_recoloured(self) -> bool:
        """Looks right in other colours than its own."""
        return self.category not in _NO_COLOUR_CATEGORIES and not self.planted and not _FOOD.search(self.name)


def is_heldout(model_path: str) -> bool:
    """Whether the model whose OBJ file lies at this path inside its archive is kept from training; stable for ever."""
    return int(hashlib.sha1(model_path.encode()).hexdigest()[:8], 16) / 2**32 < HELDOUT_SHARE


def unpack(models_dir: Path, cache: Path) -> list[Path]:
    """Folders with the unpacked archives, each unpacked once and moved into place whole.

    Raises ModelsMissingError where the folder holds no furniture archive.
    """
    archives = sorted(models_dir.rglob("*.sh3f")) + sorted(models_dir.glob("sweethome3d*.jar"))
    if not any(a.suffix == ".sh3f" for a in archives) or not any(a.suffix == ".jar" for a in archives):
        raise ModelsMissingError(
            f"no Sweet Home 3D archives (*.sh3f and sweethome3d.jar) in {models_dir}; install them: {INSTALL_MODELS}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    folders = []
    for archive in archives:
        folder = cache / f"{archive.stem}-{archive.stat().st_size}"
        if not folder.is_dir():
            part = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=cache))
            with zipfile.ZipFile(archive) as z:
                inside = [n for n in z.namelist() if archive.suffix == ".sh3f" or n.startswith(_JAR_FOLDER)]
                z.extractall(part, inside)
            try:
                os.rename(part, folder)
            except OSError:  # another process was faster
                shutil.rmtree(part)
        folders.append(folder)
    return folders


def textures(folders: list[Path]) -> list[Path]:
    """The images of floors and walls that come with Sweet Home 3D, without skies, grass and leaves."""
    found = [p for f in folders for p in sorted((f / _JAR_FOLDER / "resources" / "textures").glob("*.jpg"))]
    return [p for p in found if not re.search("loudy|Sky|grass|boxTree", p.name)]


def _entries(properties: Path) -> list[dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)\s*=[ \t]*(.*)$", properties.read_text("latin1"), re.MULTILINE):
        text = value.strip().encode("latin1").decode("unicode_escape", "ignore")
        groups.setdefault(number, {})[key] = text
    return [g for g in groups.values() if "model" in g]


def _model(folder: Path, entry: dict[str, str]) -> Model | None:
    raw = entry["name"]
    name = common_name(raw)
    file = folder / entry["model"].lstrip("/")
    if not is_asked_for(raw) or entry["category"] == "Staircases":
        return None
    w, d, h = (float(entry[k]) / 100 for k in ("width", "depth", "height"))
    if entry["category"] == "Doors and windows" and (name not in ("door", "window") or w > 2.0):
        return None
    if min(w, d, h) <= 0.004 or max(w, d, h) < 0.05 or not file.is_file() or file.stat().st_size > 6e6:
        return None
    model = Model(
        id=f"{folder.name.rsplit('-', 1)[0]}{entry['model']}@{w:.2f}x{d:.2f}x{h:.2f}",
        file=file,
        name=name,
        category=entry["category"],
        size=(w, d, h),
        top=float(entry.get("dropOnTopElevation", entry["height"])) / 100,
        elevation=float(entry.get("elevation", 0)) / 100,
        rotation=tuple(float(x) for x in entry["modelRotation"].split()) if "modelRotation" in entry else None,
        heldout=is_heldout(entry["model"]),
    )
    floats = model.elevation > 0.1 and not (model.on_wall or model.on_ceiling)
    return None if floats else model


def read(folders: list[Path], models_set: str = "all") -> list[Model]:
    """The usable models of one set, in a stable order. Raises ValueError on a set that does not exist."""
    if models_set not in MODEL_SETS:
        raise ValueError(f"no set of models called {models_set!r}; expected one of {', '.join(MODEL_SETS)}")
    found: dict[str, Model] = {}
    for folder in folders:
        lists = [
            folder / "PluginFurnitureCatalog.properties",
            folder / _JAR_FOLDER / "DefaultFurnitureCatalog.properties",
        ]
        for properties in lists:
            for entry in _entries(properties) if properties.is_file() else ():
                model = _model(folder, entry)
                if model and (models_set == "all" or model.heldout == (models_set == "heldout")):
                    found.setdefault(model.id, model)
    return sorted(found.values(), key=lambda m: m.id)
