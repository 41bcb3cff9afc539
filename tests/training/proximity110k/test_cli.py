"""`proxqa data …` as it is called: every kind of input, what is refused, what a page and a mix hold, and kills."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core import __version__
from proxqa_core.cli import main
from proxqa_core.datasets.depth_source import DepthUnit
from proxqa_core.errors import ProxqaError
from proxqa_training.proximity110k import cli, sources
from proxqa_training.proximity110k.ray_pool import ray_pool
from tests.core.tiny_depth import save_depth_anything

REAL = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent")) / "formats/coco"
SIZE = (96, 64)
BOXES = {"cup": [2, 10, 28, 50], "dog": [34, 5, 28, 45], "tree": [66, 2, 28, 60]}
"""x, y, width, height: near, farther, far."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images with maps in metres, millimetres and 8-bit disparity, and annotations in every format."""
    rng = np.random.default_rng(0)
    metres = np.repeat([1.0, 2.5, 6.0], SIZE[0] // 3)[None].repeat(SIZE[1], 0)
    maps = {"m": None, "mm": (metres * 1000).astype(np.uint16), "disparity": (200 / metres).astype(np.uint8)}
    for folder in ("images", *maps):
        (tmp_path / folder).mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(tmp_path / f"images/{i}.jpg")
        np.save(tmp_path / f"m/{i}.npy", metres)
        for name in ("mm", "disparity"):
            Image.fromarray(maps[name]).save(tmp_path / f"{name}/{i}.png")
    write_annotations(tmp_path)
    return tmp_path


def write_annotations(folder: Path) -> None:
    size = {"width": SIZE[0], "height": SIZE[1]}
    names = {name: i for i, name in enumerate([*BOXES, "boat", "person"])}
    images = [{"id": i, "file_name": f"{i}.jpg", **size} for i in range(10)]
    annotations = [
        {"id": 10 * i + k, "image_id": i, "category_id": names[name], "bbox": box, "iscrowd": 0}
        for i in range(10)
        for k, (name, box) in enumerate(BOXES.items())
    ]
    annotations.append({"id": 999, "image_id": 0, "category_id": names["person"], "iscrowd": 1, "bbox": [1, 1, 9, 9]})
    categories = [{"id": i, "name": name} for name, i in names.items()]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(coco))
    things = [{"x": x, "y": y, "w": w, "h": h} for x, y, w, h in BOXES.values()]
    vg = [{"names": [name], **thing} for name, thing in zip(BOXES, things, strict=True)]
    (folder / "vg.json").write_text(json.dumps([{"image_id": i, "objects": vg} for i in range(10)]))
    graph = {str(k): {"name": name, **thing} for k, (name, thing) in enumerate(zip(BOXES, things, strict=True))}
    (folder / "gqa.json").write_text(json.dumps({str(i): {**size, "objects": graph} for i in range(10)}))
    boxed = [{"name": name, "box": [x, y, x + w, y + h]} for name, (x, y, w, h) in BOXES.items()]
    rows = [{"image": f"images/{i}.jpg", **size, "objects": boxed, "depth_map": f"mm/{i}.png"} for i in range(10)]
    (folder / "annotations.json").write_text(json.dumps([*rows, {"image": "../x.jpg"}]))


def build(data: Path, *options: object, kind: str = "coco", out: str = "out") -> dict[str, Any]:
    """Run `proxqa data build` in this process; its report."""
    where = {"coco": "coco.json", "visual-genome": "vg.json", "gqa": "gqa.json", "folder": "."}[kind]
    given = [] if kind == "folder" else ["--images", data / "images"]
    arguments = ["data", "build", kind, data / where, *given, "--out", data / out, "--workers", 1, *options]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([*map(str, arguments), "--json", str(data / f"{out}.json"), "-q"]) == 0
    report: dict[str, Any] = json.loads((data / f"{out}.json").read_text())
    return report


def maps(data: Path, unit: str) -> tuple[object, ...]:
    return ("--depth-maps", data / unit, "--depth-unit", unit)


def answers(file: Path) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of all turns."""
    return [
        (kind, turns[2 * i]["value"], turns[2 * i + 1]["value"])
        for sample in json.loads(file.read_text())
        for turns in [sample["conversations"]]
        for i, kind in enumerate(sample["kinds"])
    ]


@pytest.mark.parametrize("kind", ["coco", "visual-genome", "gqa", "folder"])
def test_every_kind_of_input_gives_true_conversations(data: Path, kind: str) -> None:
    report = build(data, *(() if kind == "folder" else maps(data, "m")), "--val-fraction", 0, kind=kind)
    assert report["images"] == {"train": 10} and report["samples"] == {"perceive": 10, "reason": 10}
    assert 7 <= report["questions_per_image"] <= 10
    depths = {"cup": "0.00", "dog": "0.72", "tree": "1.00"}
    perceived = [(q, a) for k, q, a in answers(data / "out/train.json") if k == "perceive"]
    for question, answer in perceived:
        (name,) = (name for name in BOXES if name in question)
        assert abs(float(answer) - float(depths[name])) < 0.02, (question, answer)
    led = re.findall(r"\b\d\.\d\d", " ".join(a for k, _, a in answers(data / "out/train.json") if k == "reason"))
    assert len(led) >= 40 and all(min(abs(float(d) - float(v)) for v in depths.values()) < 0.02 for d in led)
    absent = [q for k, q, a in answers(data / "out/train.json") if a == "not visible"]
    assert bool(absent) == (kind == "coco") and all("boat" in q or "person" in q for q in absent)
    if kind == "folder":
        assert report["annotations_left_out"] == {"record that cannot be used": 1}


def test_the_unit_of_the_maps_is_what_is_said(data: Path) -> None:
    files = []
    for unit in ("m", "mm", "disparity"):
        build(data, *maps(data, unit), out=unit + "-out")
        files.append(answers(data / f"{unit}-out/train.json"))
    assert files[0] == files[1]
    same = [a == b for (_, _, a), (_, _, b) in zip(files[0], files[2], strict=True)]  # 8 bits are coarser
    assert sum(same) > 0.9 * len(same)


def test_a_crowd_has_no_box_but_is_not_absent(data: Path) -> None:
    build(data, *maps(data, "m"), "--val-fraction", 0)
    by_image: dict[str, str] = {}
    for sample in json.loads((data / "out/train.json").read_text()):
        asked = " ".join(turn["value"] for turn in sample["conversations"])
        by_image[sample["image"]] = by_image.get(sample["image"], "") + asked
    assert "person" not in by_image["0.jpg"] and "boat" in by_image["0.jpg"]
    assert any("person" in text for name, text in by_image.items() if name != "0.jpg")
    assert build(data, *maps(data, "m"), "--no-absent", out="none")["absent_answers"] == 0


def test_make3d_by_regions_and_by_boxes(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed: pip install scipy").savemat
    for folder in ("images", "grids"):
        (tmp_path / folder).mkdir()
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = np.linspace(60, 3, 55)[:, None]
    for name in "ab":
        Image.effect_noise((90, 120), 50 + ord(name)).convert("RGB").save(tmp_path / f"images/img-{name}.jpg")
        savemat(tmp_path / f"grids/depth_sph_corr-{name}.mat", {"Position3DGrid": grid})
    boxes = {"images": [{"id": 1, "file_name": "img-a.jpg", "width": 90, "height": 120}],
             "categories": [{"id": 1, "name": "tree"}, {"id": 2, "name": "car"}],
             "annotations": [{"id": k, "image_id": 1, "category_id": k, "bbox": [5, 10 + 60 * (k - 1), 40, 30]}
                             for k in (1, 2)]}  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    base = ["data", "build", "make3d", str(tmp_path / "images"), "--grids", str(tmp_path / "grids"), "--workers", "1",
            "--val-fraction", "0", "--json", str(tmp_path / "r.json"), "-q", "--out"]  # fmt: skip
    assert main([*base, str(tmp_path / "regions")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["images"] == {"train": 2}
    assert main([*base, str(tmp_path / "boxed"), "--boxes", str(tmp_path / "boxes.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["images"] == {"train": 1} and report["annotations_left_out"] == {
        "image without boxes in the COCO file": 1
    }
    depth = {q: float(a) for k, q, a in answers(tmp_path / "boxed/train.json") if k == "perceive"}
    assert max(v for q, v in depth.items() if "car" in q) < min(v for q, v in depth.items() if "tree" in q)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["coco", "{}/coco.json", "--images", "{}/images"], "coco has no depth: give --depth-maps"),
        (["coco", "{}/coco.json", "--depth-maps", "{}/m", "--depth-unit", "m"], "coco needs --images"),
        (["coco", "{}/none.json", "--images", "{}/images"], "no such file; expected a COCO instances file"),
        (["coco", "{}/coco.json", "--images", "{}/none"], "no such folder; expected --images"),
        (["coco", "{}/coco.json", "--images", "{}/images", "--depth-maps", "{}/m"], "--depth-unit is missing"),
        (["coco", "{}/coco.json", "--images", "{}/images", "--depth-maps", "{}/m", "--depth-model", "x",
          "--depth-unit", "m"], "not both"),
        (["coco", "{}/coco.json", "--images", "{}/images", "--grids", "{}/m"], "coco makes no use of --grids"),
        (["coco", "{}/gqa.json", "--images", "{}/images", "--depth-maps", "{}/m", "--depth-unit", "m"],
         "expected a COCO instances file"),
        (["coco", "{}/coco.json", "--images", "{}/images", "--depth-maps", "{}/disparity", "--depth-unit", "mm"],
         "no image could be used (10 x is uint8; millimetres need"),
        (["coco", "{}/coco.json", "--images", "{}/images", "--depth-model", "{}/m", "--depth-unit", "m"],
         "cannot be loaded"),
        (["visual-genome", "{}/vg.json", "--images", "{}/m", "--depth-maps", "{}/m", "--depth-unit", "m"],
         "no image could be used (10 x image of unknown size (no file, and not in image_data): image "),
        (["folder", "{}", "--depth-unit", "m"], "--depth-unit has no effect"),
        (["folder", "{}/images"], "no such file"),
        (["folder", "{}", "--mix-share", "0.2"], "--mix-share has no effect without --mix"),
        (["folder", "{}", "--mix", "{}/none.json"], "no such file; expected LLaVA instructions"),
        (["folder", "{}", "--mix", "{}/gqa.json"], "is an object; expected LLaVA's list"),
        (["folder", "{}", "--mix", "{}/vg.json"], "holds no sample that can be used (10 x sample without"),
        (["folder", "{}", "--mix", "{}/vg.json", "--mix-share", "1"], "above 0 and below 1"),
        (["folder", "{}", "--gpus-per-worker", "1"], "no effect without --ray"),
        (["folder", "{}", "--val-fraction", "1"], "expected a share in [0, 1)"),
        (["sphere", "{}"], "invalid choice: 'sphere'"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line(
    data: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [a.replace("{}", str(data)) for a in arguments]
    code = main(["data", "build", *given, "--out", str(data / "out"), "--workers", "1", "-q"])
    output = capsys.readouterr()
    assert code == (1 if says == "cannot be loaded" else 2) and output.out == ""
    assert says in output.err and output.err.startswith("proxqa: ") and output.err.count("\n") == 1


def test_another_recipe_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(data, *maps(data, "m"))
    arguments = ["data", "build", "coco", str(data / "coco.json"), "--images", str(data / "images"), "-q"]
    where = ["--out", str(data / "out"), "--workers", "1"]
    for options, differs in (
        (["--depth-maps", str(data / "m"), "--depth-unit", "m", "--seed", "1"], "(seed differ"),
        (["--depth-maps", str(data / "mm"), "--depth-unit", "mm"], "(depth, unit differ"),
    ):
        assert main([*arguments, *where, *options]) == 2
        assert differs in capsys.readouterr().err
    (data / "coco.json").write_text((data / "coco.json").read_text() + "\n")
    assert main([*arguments, *where, *map(str, maps(data, "m"))]) == 2
    assert "(data differ" in capsys.readouterr().err


@pytest.mark.slow
def test_a_depth_model_labels_in_processes_as_in_one(data: Path) -> None:
    model = save_depth_anything(data / "model")
    given = ("--depth-model", model, "--depth-unit", "disparity", "--device", "cpu", "--shard-size", 4)
    for workers in (1, 2):
        build(data, *given, "--workers", workers, out=f"by{workers}")
    assert (data / "by1/train.json").read_bytes() == (data / "by2/train.json").read_bytes()


def test_mix_keeps_all_of_one_and_an_even_part_of_the_other(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(data, *maps(data, "m"), "--val-fraction", 0)
    turns = [{"from": "human", "value": "hi \ud800"}, {"from": "gpt", "value": "hello"}]
    other = [{"id": i, "image": f"x/{i}.jpg", "conversations": turns} for i in range(100)]
    (data / "other.json").write_text(json.dumps([*other, {"id": "bad"}]))
    mixed = ["data", "mix", str(data / "out/train.json"), "--with", str(data / "other.json"), "--json", "-", "-q"]
    assert main([*mixed, "--share", "0.2", "--out", str(data / "mixed.json")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"] == 20 and report["mixed_in"] == 5 and report["share"] == 0.2
    assert report["left_out"] == {"sample without conversations": 1}
    found = json.loads((data / "mixed.json").read_text())
    assert [s for s in found if s["stage"] != "mixed"] == json.loads((data / "out/train.json").read_text())
    assert [int(s["id"]) for s in found if s["stage"] == "mixed"] == [19, 39, 59, 79, 99]  # not only its beginning
    places = [i for i, s in enumerate(found) if s["stage"] == "mixed"]
    assert places == [4, 9, 14, 19, 24]
    assert main([*mixed, "--share", "0.9", "--out", str(data / "mixed.json")]) == 0  # more than there is
    assert json.loads(capsys.readouterr().out)["mixed_in"] == 100
    # build mixes alike
    report = build(data, *maps(data, "m"), "--val-fraction", 0, "--mix", data / "other.json", "--mix-share", 0.2)
    assert report["mixed_in"] == 5 and report["mix_left_out"] == {"sample without conversations": 1}
    again = json.loads((data / "out/train.json").read_text())
    assert again == found


def test_stats_count_what_build_reports_and_find_missing_images(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = build(data, *maps(data, "m"), "--image-prefix", "coco/val")
    files = [str(data / f"out/{split}.json") for split in ("train", "val")]
    assert main(["data", "stats", *files, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    for key in ("samples", "questions", "kinds", "depths_by_tenth", "letters", "absent_answers", "words_per_answer"):
        assert found[key] == report[key], key
    assert found["images"] == 10 and found["images_missing"] is None and sum(found["depths_by_tenth"]) == 40
    (data / "root/coco").mkdir(parents=True)
    (data / "root/coco/val").symlink_to(data / "images")
    (data / "images/3.jpg").unlink()
    assert main(["data", "stats", *files, "--images", str(data / "root")]) == 0
    assert "images without a file" in (text := capsys.readouterr().out) and "image without a file" in text
    assert main(["data", "stats", str(data / "coco.json")]) == 2


def test_the_page_shows_what_was_built(data: Path) -> None:
    build(data, *maps(data, "m"), "--html", data / "built.html")
    page = (data / "built.html").read_text()
    assert page.count("<article>") == 10 == page.count("data:image/jpeg") and "A and B" in page
    arguments = ["data", "page", data / "out", "--images", data / "images", "--html", data / "p.html", "--count", 3]
    assert main([*map(str, arguments), "-q"]) == 0
    assert (data / "p.html").read_text().count("<article>") == 3


def test_the_page_says_what_built_the_data_which_have_no_date(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    pages, files = [], []
    for _ in range(2):
        build(data, *maps(data, "m"), "--limit", 2, "--html", data / "<b>.html")
        pages.append((data / "<b>.html").read_text())
        files.append({p.name: p.read_bytes() for p in (data / "out").rglob("*") if p.is_file()})
        shutil.rmtree(data / "out") if len(files) == 1 else None
    assert pages[0] == pages[1] and files[0] == files[1]
    built = f"proxqa data build coco {data}/coco.json"
    assert pages[0].count(f"<code>{built}") == 2 and f"version {__version__}, 2023-11-14 22:13 UTC" in pages[0]
    assert "&lt;b&gt;.html" in pages[0] and "<td>unit</td><td><code>m</code>" in pages[0]
    assert not any(b"2023-11" in content for content in files[0].values())
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    arguments = ["data", "page", data / "out", "--images", data / "images", "--html", data / "p.html", "-q"]
    assert main(list(map(str, arguments))) == 0
    page = (data / "p.html").read_text()
    assert f"<code>{built}" in page and "Made by <code>proxqa data page" in page and "2023-11-14" not in page
    (data / "out/built_by.json").unlink()  # of a version that did not keep it
    assert main(list(map(str, arguments))) == 0 and "not recorded" in (data / "p.html").read_text()


@pytest.mark.skipif(not REAL.is_dir(), reason="PROXQA_REAL_DATA names no folder with formats/coco")
def test_real_coco_images(tmp_path: Path) -> None:
    model = save_depth_anything(tmp_path / "model")
    arguments = ["data", "build", "coco", REAL / "annotations/instances_val2017.json", "--images", REAL / "val2017",
                 "--depth-model", model, "--depth-unit", "disparity", "--device", "cpu", "--workers", 1,
                 "--out", tmp_path / "out", "--json", tmp_path / "r.json", "-q"]  # fmt: skip
    assert main([*map(str, arguments)]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert sum(report["images"].values()) == 40 and report["annotations_left_out"] == {"crowd": 8}
    assert 8 <= report["questions_per_image"] <= 10


def test_progress_says_how_long_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    progress = cli.Progress(1000, lambda: now)
    with caplog.at_level("INFO"):
        progress(0, 200)  # of an earlier run: no line, no part of the rate
        progress(100, 0)
        now = 102.0
        progress(100, 0)  # too soon for a line
        now = 110.0
        progress(100, 0)
        now = 111.0
        progress(500, 0)  # the last is always told
    assert [r.getMessage() for r in caplog.records] == [
        "300 of 1000 images (200 of an earlier run)",
        "500 of 1000 images (200 of an earlier run), 20.0 images/s, about 25 s left",
        "1000 of 1000 images (200 of an earlier run), 63.6 images/s",
    ]
    assert [cli.duration(s) for s in (99, 130, 7500)] == ["99 s", "2 min", "2 h 05 min"]


def test_the_options_are_those_of_the_sources() -> None:
    assert tuple(sources.KINDS) == cli.KINDS and tuple(unit.value for unit in DepthUnit) == cli.DEPTH_UNITS


# -------------------------------------------------------------------- kills
@pytest.fixture
def command(data: Path, request: pytest.FixtureRequest) -> Callable[..., subprocess.Popen[str]]:
    """Starts a build of two workers as a process of its own."""

    def start(out: str, *more: str) -> subprocess.Popen[str]:
        given = [sys.executable, "-m", "proxqa_core.cli", "data", "build", "coco", data / "coco.json", "--images",
                 data / "images", *maps(data, "m"), "--out", data / out, "--shard-size", 1, *more]  # fmt: skip
        return subprocess.Popen([*map(str, given)], cwd=request.config.rootpath, stderr=subprocess.PIPE, text=True)

    return start


def children_of(pid: int) -> list[int]:
    return [int(p) for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def workers_of(pid: int) -> list[int]:
    def is_worker(child: int) -> bool:
        try:
            return "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()
        except OSError:
            return False

    return [child for child in children_of(pid) if is_worker(child)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the command", "a worker"])
def test_a_kill_at_any_moment_loses_nothing(data: Path, victim: str, command: Callable[..., Any]) -> None:
    build(data, *maps(data, "m"), "--shard-size", 1, out="whole")
    process = command("cut", "--workers", "2")
    wait_for(lambda: len(workers_of(process.pid)) == 2)
    workers = workers_of(process.pid)
    os.kill(process.pid if victim == "the command" else workers[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers))  # none is left behind
    if victim == "a worker":
        assert process.returncode == 1 and "was killed (out of memory?); the same command goes on" in error
        assert error.count("\n") <= 2 and "Traceback" not in error
    build(data, *maps(data, "m"), "--shard-size", 1, out="cut")
    for name in ("train.json", "val.json", "report.json"):
        assert (data / "cut" / name).read_bytes() == (data / "whole" / name).read_bytes()


def test_what_ends_a_worker_on_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'proxqa_ros[scale]'")

    def failing(*_: Any) -> Iterator[list[str]]:
        raise ray.exceptions.RayError(
            "The actor died\ntraceback:\n  File x\nModuleNotFoundError: No module named 'x'\n"
        )

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr("proxqa_training.proximity110k.ray_pool._label_group", failing)
    with pytest.raises(ProxqaError, match="a worker on Ray ended: ModuleNotFoundError: No module named 'x'; expected"):
        list(ray_pool(1)(iter([[{}]]), lambda: pytest.fail("no worker was started")))


@pytest.mark.slow
def test_ray_gives_the_same_bytes(data: Path, command: Callable[..., Any]) -> None:
    """In a process of its own, as users run it: Ray takes over the signals of its process, rclpy too."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'proxqa_ros[scale]'")
    build(data, *maps(data, "m"), "--shard-size", 1, out="whole")
    process = command("ray", "--workers", "2", "--ray")
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    for name in ("train.json", "val.json", "report.json"):
        assert (data / "ray" / name).read_bytes() == (data / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif("PROXQA_RAY_KILL" not in os.environ, reason="kills workers of Ray's; alone, with PROXQA_RAY_KILL=1")
def test_ray_starts_a_killed_worker_again(data: Path, command: Callable[..., Any]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'proxqa_ros[scale]'")
    build(data, *maps(data, "m"), "--shard-size", 1, out="whole")
    process = command("ray", "--workers", "2", "--ray")
    actors: list[int] = []

    def labels() -> bool:
        actors[:] = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if is_labeller(p)]
        return bool(actors) or process.poll() is not None

    wait_for(labels, 120)
    for actor in actors[:1]:
        os.kill(actor, signal.SIGKILL)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0 and actors, error
    assert (data / "ray/train.json").read_bytes() == (data / "whole/train.json").read_bytes()


def is_labeller(cmdline: Path) -> bool:
    """A process is an actor of Ray's that labels; it is named by its class."""
    try:
        return cmdline.read_text().startswith("ray::") and "ShardLabeller" in cmdline.read_text()
    except OSError:
        return False
