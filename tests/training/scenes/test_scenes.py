"""The renderer of scenes: names, the data set folder, and a real render where Blender and the models are installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("tqdm", reason="tqdm is not installed")

from proxqa_training.scenes import catalogue, dataset, desks, layouts, placing  # noqa: E402
from proxqa_training.scenes.camera import SIZES_INDOOR, Views, looking  # noqa: E402
from proxqa_training.scenes.dataset import FAR, RenderConfig, Seen  # noqa: E402

ROOT = Path(__file__).parents[3]
MODELS = catalogue.MODELS_DIR
needs_models = pytest.mark.skipif(
    not (MODELS / "furniture").is_dir(), reason=f"no Sweet Home 3D models; {catalogue.INSTALL_MODELS}"
)
needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender's module is not installed; pip install bpy==5.0.1"
)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Couch", "sofa"),
        ("Bullet trash can", "trash can"),
        ("Sitting female", "woman"),
        ("Holding male", "man"),
        ("Concept sedan 02 sport", "car"),
        ("Bed 140x190", "bed"),
        ("Indoor  plant", "plant"),
        ("Indoor bike", "exercise bike"),
        ("Teapot", "teapot"),
    ],
)
def test_names_are_what_people_say(raw: str, name: str) -> None:
    assert catalogue.common_name(raw) == name


def test_could_mean() -> None:
    assert catalogue.could_mean("chair", "chair")
    assert catalogue.could_mean("table", "coffee table") and not catalogue.could_mean("coffee table", "table")
    assert catalogue.could_mean("sofa", "couch") and catalogue.could_mean("couch", "sofa")
    assert not catalogue.could_mean("table", "chair")


def test_synonyms_are_plain_words() -> None:
    for name, others in catalogue.SYNONYMS.items():
        assert name == name.lower() and name not in others and all(o == o.lower().strip() for o in others)


def test_heldout_split_is_stable() -> None:
    paths = [f"/some/model{i}.obj" for i in range(2000)]
    share = sum(map(catalogue.is_heldout, paths)) / len(paths)
    assert 0.14 < share < 0.22
    assert [catalogue.is_heldout(p) for p in paths[:12]] == [catalogue.is_heldout(p) for p in paths[:12]]
    assert catalogue.is_heldout("/scopia/jar/jar.obj") and not catalogue.is_heldout("/blendswap-cc-0/bed/bed.obj")


@needs_models
def test_catalogue_of_the_packages(tmp_path: Path) -> None:
    folders = catalogue.unpack(MODELS, tmp_path)
    assert catalogue.unpack(MODELS, tmp_path) == folders
    assert not list(tmp_path.glob(".unpacking*"))
    seen, heldout = catalogue.read(folders, "seen"), catalogue.read(folders, "heldout")
    assert len(seen) > 400 and len(heldout) > 80
    assert not {m.file for m in seen} & {m.file for m in heldout}
    names = {m.name for m in seen}
    assert {"chair", "sofa", "table", "man", "woman", "car", "plant", "door", "trash can"} <= names
    assert all(n == n.lower() and "socket" not in n for n in names)
    assert len(catalogue.textures(folders)) > 10
    with pytest.raises(ValueError, match="'some'"):
        catalogue.read(folders, "some")


def test_missing_models_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(catalogue.ModelsMissingError, match="apt-get install"):
        catalogue.unpack(tmp_path, tmp_path / "cache")


def test_bad_commands_end_with_one_line(tmp_path: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    common = ["scenes", "--out", tmp_path / "out", "--models", tmp_path]
    lines = []
    for arguments, exit_code in ((["--count", "2"], 1), (["--count", "0"], 2)):
        code, _, error = train(*common, *arguments)
        assert code == exit_code
        lines += error.strip().splitlines()
    assert len(lines) == 2 and "install" in lines[0] and "count is 0" in lines[1]
    assert not (tmp_path / "out").exists()


def test_a_drive_without_frames_is_refused(tmp_path: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = train("drive", "--out", tmp_path / "out", "--seconds", "0.1", "--rate-hz", "5")
    assert code == 2 and error == "proxqa: 0.1 s at 5.0 Hz; expected 1 to 10000 frames\n"


def test_a_contact_sheet(blocks: Path, tmp_path: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    png = tmp_path / "sheet.png"
    code, output, _ = train("contact-sheet", blocks, "--count", "3", "--columns", "2", "--png", png, "--json", "-")
    assert code == 0 and json.loads(output)["images"] == 4
    assert Image.open(png).size == (600, 480)
    code, _, error = train("contact-sheet", tmp_path)
    assert code == 2 and "has no annotations.json" in error


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"seed": -1},
        {"workers": 0},
        {"split": "dev"},
        {"models_set": "new"},
        {"samples": 0},
        {"roll": -1.0},
    ],
)
def test_config_quotes_bad_values(bad: dict) -> None:
    (name, value), *_ = bad.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        RenderConfig(**{"out": Path("x"), "count": 2, "seed": 1, **bad})


def test_scenes_share_the_images_out() -> None:
    config = RenderConfig(Path("x"), count=12, seed=1, views=5)
    assert [config.views_of(i) for i in range(config.scenes)] == [5, 5, 2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.count = 3  # type: ignore[misc]


def test_depth_map_and_back() -> None:
    stored = dataset.depth_to_map(np.array([0.0001, 1.5, 65.4, 80.0, np.inf]))
    assert stored.tolist() == [1, 1500, 65400, FAR, FAR]
    assert dataset.disparity_of(stored)[1:] == pytest.approx([1 / 1.5, 1 / 65.4, 0, 0])
    assert np.isnan(dataset.disparity_of(np.array([0], np.uint16)))[0]
    assert [dataset.relative_depth(s, 0.1, 1.1) for s in (0.0, 0.1, 0.6, 1.1, 3.0)] == pytest.approx([1, 1, 0.5, 0, 0])


def three_objects() -> tuple[np.ndarray, np.ndarray]:
    depth, numbers = np.full((40, 60), 4000, np.uint16), np.zeros((40, 60), np.uint8)
    for number, (x, y, z) in {1: (2, 2, 1000), 2: (25, 20, 2000), 3: (45, 10, 3000)}.items():
        depth[y : y + 10, x : x + 10], numbers[y : y + 10, x : x + 10] = z, number
    return depth, numbers


def described(*seen: Seen) -> dict[int, dict]:
    return {o["mask_id"]: o for o in dataset.describe(*three_objects(), seen, min_pixels=50)["objects"]}


def test_objects_of_an_image() -> None:
    a = described(
        Seen(1, "cup", None, "m1", 1.0), Seen(2, "chair", "red", "m2", 0.9), Seen(3, "chair", None, "m3", 0.2)
    )
    assert set(a) == {1, 2}  # the third is mostly hidden …
    assert a[1]["box"] == [2, 2, 12, 12] and a[1]["depth_m"] == 1.0 and a[1]["ref"] == "cup" and a[1]["unique"]
    assert not a[2]["unique"] and a[2]["ref"] == "leftmost chair"  # … but is a chair all the same


def test_colours_tell_things_apart() -> None:
    a = described(
        Seen(1, "chair", "red", "m", 1.0), Seen(2, "chair", "blue", "m", 1.0), Seen(3, "chair", "blue", "m", 1.0)
    )
    assert [a[i]["ref"] for i in (1, 2, 3)] == ["red chair", None, "rightmost chair"]


def test_a_general_name_is_not_unique_beside_a_special_one() -> None:
    a = described(Seen(1, "table", None, "m", 1.0), Seen(2, "coffee table", None, "m", 1.0))
    assert a[1]["ref"] is None and a[2]["ref"] == "coffee table"


def test_shares_of_simple_rules() -> None:
    record = dataset.describe(
        *three_objects(), [Seen(i, n, None, "m", 1.0) for i, n in ((1, "a"), (2, "b"), (3, "c"))], 50
    )
    shares = dataset.shares([record])
    # a (1 m) ends above b and c: both pairs break the rule; b (2 m) ends below c (3 m)
    assert shares["pairs"] == 3 and shares["lower_breaks"] == pytest.approx(2 / 3, abs=1e-3)


def test_assemble_is_whole_and_sorted(tmp_path: Path) -> None:
    for scene in (1, 0):
        dataset.write_json(dataset.scene_file(tmp_path, 7, scene), [{"image": f"images/7-{scene}.jpg"}])
    assert [r["image"] for r in dataset.assemble(tmp_path)] == ["images/7-0.jpg", "images/7-1.jpg"]
    assert json.loads((tmp_path / "annotations.json").read_text()) == dataset.assemble(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_camera_projects() -> None:
    camera = looking((0, 0, 1), (0, 1, 0), 0.0, np.pi / 2, (200, 100))
    assert camera.project(np.array([[0, 5, 1.0]]))[0] == pytest.approx([100, 50, 5])
    assert camera.project(np.array([[1, 2, 2.0]]))[0] == pytest.approx([150, 0, 2])  # right and up
    assert np.isnan(camera.project(np.array([[0, -1, 1.0]]))[0, 0])
    assert camera.quaternion == pytest.approx((-np.sqrt(0.5), 0, 0, np.sqrt(0.5)))


def test_cameras_roll_as_much_as_is_asked_for() -> None:
    rng = random.Random(1)
    things = [
        np.array([[x, 3.0, z] for z in np.linspace(0.3, 0.9, 40)]) + 0.2 * np.eye(3)[0] * rng.random()
        for x in (-0.5, 0, 0.5)
    ]
    views = Views((-1, 1), (0, 1), ((1.0, 1.5, 1.0),), (50, 60), 0.05, 0.1, SIZES_INDOOR, want=1)
    rolls = {}
    for asked in (0.0, 2.5, 15.0):
        seen = [views._any(rng, things, asked) for _ in range(200)]
        rolls[asked] = np.array([np.degrees(np.arcsin(c.rotation[2, 0])) for c in seen if c is not None])
    assert np.abs(rolls[0.0]).max() < 1e-6
    assert np.abs(rolls[2.5]).max() < 6.1 and rolls[2.5].std() == pytest.approx(2.3, abs=0.5)
    assert np.abs(rolls[15.0]).max() > 20


class NoStage:
    """A stage without Blender: keeps what is put on it."""

    def __init__(self) -> None:
        self.items: list = []

    def put(self, model: catalogue.Model, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> SimpleNamespace:
        self.items.append(SimpleNamespace(model=model, place=(x, y, z), yaw=yaw))
        return self.items[-1]

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def cupboard(tall: float) -> catalogue.Model:
    size = (0.8, 0.4, tall)
    return catalogue.Model("m", Path("m"), "cupboard", "Furniture", size, tall, 0.0, None, False)


def test_things_against_walls_do_not_cover_each_other() -> None:
    stage: Any = NoStage()
    room = placing.Room(placing.Decorator(random.Random(1), [], stage), 4.0, 5.0, 2.5)
    for _ in range(60):
        room.against_wall(cupboard(0.6), walls=("left",))
        room.against_wall(cupboard(0.6), 1.4, walls=("left",))
    assert room.against_wall(cupboard(2.6)) is None
    assert all(i.place[0] == pytest.approx(-1.795) and i.yaw == pytest.approx(np.pi / 2) for i in stage.items)
    for z in (0.0, 1.4):
        along = sorted(i.place[1] for i in stage.items if i.place[2] == z)
        assert len(along) > 2 and min(np.diff(along)) >= 0.8 and along[0] > 0.4 and along[-1] < 4.6


def test_kinds_of_scenes() -> None:
    assert tuple(layouts.KINDS) == dataset.KINDS
    assert sum(share for _, share in layouts.KINDS.values()) == pytest.approx(1)


def bottle(reach: float, name: str = "bottle") -> catalogue.Model:
    size = (reach / 2, reach / 2, reach)
    return catalogue.Model(name, Path("m"), name, "Kitchen", size, reach, 0.0, None, False)


def test_only_the_kinds_that_are_asked_for_are_built() -> None:
    stage: Any = NoStage()
    models = [bottle(0.1), bottle(0.12, "jar"), cupboard(1.0)]
    built = [layouts.build(random.Random(i), models, stage, ("desk", "tabletop"))[0] for i in range(20)]
    assert set(built) == {"desk", "tabletop"}
    assert "desk" not in [layouts.build(random.Random(i), models, stage)[0] for i in range(60)]
    with pytest.raises(ValueError, match="kinds has 'moon'; expected some of room, "):
        RenderConfig(Path("x"), count=1, seed=1, kinds=("desk", "moon"))


def test_a_toy_is_small_and_keeps_its_shape() -> None:
    model = cupboard(1.0)
    small = desks.toy(model)
    assert small.name == "toy cupboard" and small.id != model.id and desks.toy(model) == small
    assert desks.TOY_REACH[0] <= small.reach <= desks.TOY_REACH[1]
    assert np.divide(small.size, model.size) == pytest.approx(small.top / model.top)


def test_things_on_a_desk_stand_close_and_apart() -> None:
    close = 0
    for seed in range(8):
        stage: Any = NoStage()
        decorator = placing.Decorator(random.Random(seed), [bottle(0.1), cupboard(1.0)], stage)
        views = desks.desk(decorator)
        things = [i for i in stage.items if i.place[2] >= 0]
        assert len(things) >= 5 and all(i.model.reach <= desks.SMALL_REACH for i in things)
        for i, a in enumerate(things):
            for b in things[:i]:
                apart = np.hypot(*np.subtract(a.place[:2], b.place[:2]))
                close += apart < 0.15
                assert apart >= 0.05 or a.place[2] != b.place[2]  # beside each other, or one on the other
        low = min(z for z, _, _ in views.z)
        assert 0 < low < 0.3 and max(z for _, z, _ in views.z) <= 1.0
    assert close > 20


def run(out: Path, cache: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxqa_core.cli", "train", "scenes", "--out", str(out), "--cache", str(cache)]
    command += ["--json", "-", "--count", "2", "--seed", "3", "--views", "2", "--samples", "2", "--workers", "1", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@needs_models
@needs_blender
def test_real_render(tmp_path: Path) -> None:
    out, cache = tmp_path / "a", tmp_path / "cache"
    done = run(out, cache)
    assert done.returncode == 0, done.stderr
    records = json.loads((out / "annotations.json").read_text())
    assert len(records) == 2 and json.loads(done.stdout)["images"] == 2
    for r in records:
        check_record(out, r)

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    assert run(out, cache).returncode == 0  # nothing left to do
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.png")} == before

    assert run(tmp_path / "b", cache, "--workers", "2").returncode == 0
    for r in records:
        for file in (r["image"], r["depth_map"], r["mask_map"]):
            assert (out / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), f"{file} differs in a second run"


def check_record(out: Path, r: dict) -> None:
    depth, mask = np.asarray(Image.open(out / r["depth_map"])), np.asarray(Image.open(out / r["mask_map"]))
    assert Image.open(out / r["image"]).size == (r["width"], r["height"]) == depth.shape[::-1] == mask.shape[::-1]
    assert mask.dtype == np.uint8 and depth.max() > 255 and depth.min() > 0
    assert (
        r["source"] == "rendered" and r["depth_unit"] == "m" and "CC-BY" in r["licence"] and len(r["intrinsics"]) == 4
    )
    disparity = np.where(depth == FAR, 0.0, 1000.0 / depth)
    low, high = np.percentile(disparity, [2, 98])
    assert (r["disparity_p2"], r["disparity_p98"]) == pytest.approx((low, high))
    assert 3 <= len(r["objects"]) <= 12
    assert set(np.unique(mask)) - {0} == {o["mask_id"] for o in r["objects"]}
    for o in r["objects"]:
        ys, xs = np.nonzero(mask == o["mask_id"])
        assert o["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] and o["pixels"] == len(xs)
        s = np.median(disparity[ys, xs])
        assert o["depth"] == pytest.approx(np.clip(1 - (s - low) / (high - low), 0, 1), abs=1e-3)
        assert o["depth_m"] == pytest.approx(1 / s, rel=1e-3) and 0.4 <= o["visible"] <= 1
        assert (o["name"] in r["visible_names"] and o["ref"] in (None, o["name"])) or o["name"] in o["ref"]
    refs = [o["ref"] for o in r["objects"] if o["ref"]]
    assert len(refs) == len(set(refs))
