"""`proxqa record`: bags with boxes become labelled folders."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.typesys import get_types_from_msg

from proxqa_core.datasets import record as module
from proxqa_core.datasets.folder import LabelledFolder
from proxqa_core.datasets.record import BadRecordingError, Settings, record
from proxqa_core.rosbags.bag import BadBagError, typestore
from proxqa_core.rosbags.boxes import DETECTION_DEFINITION, DETECTIONS, BadBoxesError
from tests import made_bag as made

BOXES = "/detector/boxes"
OLD_DETECTIONS = """\
std_msgs/Header header
vision_msgs/Detection2D[] detections
================================================================================
MSG: vision_msgs/Detection2D
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox2D bbox
================================================================================
MSG: vision_msgs/ObjectHypothesisWithPose
string id
float64 score
geometry_msgs/PoseWithCovariance pose
================================================================================
MSG: vision_msgs/BoundingBox2D
geometry_msgs/Pose2D center
float64 size_x
float64 size_y
"""
"""As of vision_msgs 2 (Foxy)."""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return made.write(tmp_path / "drive", made.drive())


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_boxes(path: Path, boxes: object) -> Path:
    path.write_text(json.dumps(boxes))
    return path


class Detector:
    """Makes Detection2DArray messages of a definition."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, definition: str = DETECTION_DEFINITION) -> None:
        store = typestore()
        types = get_types_from_msg(definition, DETECTIONS)
        store.register({k: v for k, v in types.items() if k not in store.fielddefs})
        monkeypatch.setattr(made, "STORE", store)
        self.types = store.types
        self.old = definition == OLD_DETECTIONS

    def message(self, stamp: int, found: Sequence[tuple[str, float, Sequence[float], float]]) -> Any:
        """found: class, score, box, angle."""
        t = self.types
        point = t["geometry_msgs/msg/Point"](0.0, 0.0, 0.0)
        turn = t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        pose = t["geometry_msgs/msg/PoseWithCovariance"](t["geometry_msgs/msg/Pose"](point, turn), np.zeros(36))
        guess, boxed = t["vision_msgs/msg/ObjectHypothesisWithPose"], t["vision_msgs/msg/BoundingBox2D"]
        detections = []
        for name, score, (x1, y1, x2, y2), theta in found:
            x, y, wide, high = (x1 + x2) / 2, (y1 + y2) / 2, float(x2 - x1), float(y2 - y1)
            if self.old:
                results = [guess(name, score, pose), guess("sofa", score / 2, pose)]
                box = boxed(t["geometry_msgs/msg/Pose2D"](x, y, theta), wide, high)
                detections.append(t["vision_msgs/msg/Detection2D"](made.header(stamp), results, box))
            else:
                kind = t["vision_msgs/msg/ObjectHypothesis"]
                results = [guess(kind("sofa", score / 2), pose), guess(kind(name, score), pose)]
                centre = t["vision_msgs/msg/Pose2D"](t["vision_msgs/msg/Point2D"](x, y), theta)
                box = boxed(centre, wide, high)
                detections.append(t["vision_msgs/msg/Detection2D"](made.header(stamp), results, box, ""))
        return t[DETECTIONS](made.header(stamp), detections)


def images_and_depths(frames: int = 2) -> list[Any]:
    return [m for m in made.drive(frames) if m[0] != made.TRUTH]


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_images_objects_and_depths(drive: Path, tmp_path: Path) -> None:
    done = record(drive, tmp_path / "out", Settings())
    assert (done.images, done.objects, done.measured) == (3, 9, 9)
    why = "images with boxes but no depth image within 0.05 s (--tolerance; --depth none takes them too)"
    assert done.left_out == {why: 3} and done.left_out_text() == f"3 {why} (image 1, 3, 5)"
    records = LabelledFolder(tmp_path / "out").records
    for i, r in enumerate(records):
        stamp = made.START + 2 * i * made.PERIOD
        assert (r.image, r.depth_map, r.source) == (f"images/{stamp}.png", f"depth/{stamp}.png", "drive")
        assert np.array_equal(r.load_image(), made.picture(2 * i))
        assert [(o.name, o.depth_m) for o in r.objects] == [("chair", 1.0), ("table", 2.0), ("lamp", 3.0)]
        x, y, wide, high = made.REGIONS["chair"]
        assert r.objects[0].box.xyxy == (x, y, x + wide, y + high)
        assert np.array_equal(np.unique(r.load_depth()), np.array([1, 2, 3, 4], np.float32))
        # the labels are what a reader of the map alone would find
        labelled = [o.depth for o in r.objects]
        assert labelled == sorted(labelled)
        alone = json.loads((tmp_path / "out/annotations.json").read_text())[i]
        for o in alone["objects"]:
            del o["depth"], o["depth_m"]
        again = tmp_path / "alone"
        shutil.copytree(tmp_path / "out", again, dirs_exist_ok=True)
        (again / "annotations.json").write_text(json.dumps([alone]))
        assert LabelledFolder(again).records[0].relative_depths() == pytest.approx(labelled, abs=1e-4)


def test_compressed_images_are_kept_as_they_are(tmp_path: Path) -> None:
    message = made.compressed(made.START)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a reader would turn it, and the boxes would not fit
    Image.fromarray(made.picture(1)).save(turned, "JPEG", exif=exif)
    odd = made.compressed(made.START + made.PERIOD)
    odd.data = np.frombuffer(turned.getvalue(), np.uint8)
    messages = [("/c", made.START + i * made.PERIOD, m) for i, m in enumerate((message, odd))]
    labels = [(made.TRUTH, s, made.truth(s, {"chair": (0.1, 1.0)})) for _, s, _ in messages]
    bag = made.write(tmp_path / "bag", messages + labels)
    assert record(bag, tmp_path / "out", Settings()).images == 2
    kept, as_png = LabelledFolder(tmp_path / "out").records
    assert (tmp_path / "out" / kept.image).read_bytes() == bytes(message.data) and kept.image.endswith(".jpg")
    assert as_png.image.endswith(".png") and as_png.load_image().shape == (made.HEIGHT, made.WIDTH, 3)


def test_objects_without_depth_are_kept(tmp_path: Path) -> None:
    metres = made.depth_map({"chair": 1.0, "table": 2.0})
    x, y, wide, high = made.REGIONS["table"]
    metres[y : y + high, x : x + wide] = np.nan
    metres[y + high // 2, x + wide // 2] = 2.0  # one pixel tells nothing
    x, y, wide, high = made.REGIONS["lamp"]
    metres[y : y + high, x : x + wide] = 80.0  # farther than a map can say
    things = {"chair": (0.1, 1.0), "table": (0.5, 2.0), "lamp": (0.9, 80.0)}
    stamp = made.START
    messages = [
        (made.IMAGES, stamp, made.raw(stamp)),
        (made.TRUTH, stamp, made.truth(stamp, things)),
        (made.DEPTHS, stamp, made.raw(stamp, metres, "32FC1")),
    ]
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings())
    assert (done.objects, done.measured) == (3, 1)
    (r,) = LabelledFolder(tmp_path / "out").records
    assert [(o.name, o.depth_m) for o in r.objects] == [("chair", 1.0), ("table", None), ("lamp", None)]
    assert r.objects[1].depth is None and r.objects[0].depth is not None
    raw = json.loads((tmp_path / "out/annotations.json").read_text())[0]["objects"][1]
    assert raw["depth_m"] is None and raw["depth"] is None


def test_a_smaller_depth_image_of_the_same_view(tmp_path: Path) -> None:
    stamp = made.START
    small = made.depth_map({"chair": 1.0})[::2, ::2]
    messages = [
        (made.IMAGES, stamp, made.raw(stamp)),
        (made.TRUTH, stamp, made.truth(stamp, {"chair": (0.1, 1.0)})),
        (made.DEPTHS, stamp, made.raw(stamp, small, "32FC1")),
    ]
    record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings())
    (r,) = LabelledFolder(tmp_path / "out").records
    assert r.objects[0].depth_m == 1.0 and r.load_depth().shape == (24, 32)
    assert r.relative_depths() == pytest.approx([r.objects[0].depth])


def test_without_depth(drive: Path, tmp_path: Path) -> None:
    done = record(drive, tmp_path / "out", Settings(depth="none", every_seconds=0.25, complete=True))
    assert (done.images, done.measured, dict(done.left_out)) == (2, 0, {})
    records = LabelledFolder(tmp_path / "out").records
    assert [r.image for r in records] == [f"images/{made.START + i * made.PERIOD}.png" for i in (0, 3)]
    assert all(r.depth_map is None and r.objects[0].depth is None for r in records)
    raw = json.loads((tmp_path / "out/annotations.json").read_text())
    assert all(r["exhaustive_for_source_classes"] is True for r in raw)


def test_each_nth_image(drive: Path, tmp_path: Path) -> None:
    record(drive, tmp_path / "out", Settings(depth="none", every_images=2))
    images = [r.image for r in LabelledFolder(tmp_path / "out").records]
    assert images == [f"images/{made.START + i * made.PERIOD}.png" for i in (0, 2, 4)]


def test_a_bag_that_was_played_twice(tmp_path: Path) -> None:
    messages = made.drive(2) + made.drive(2)
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings(depth="none"))
    assert done.images == 2 and done.left_out == {"images with the stamp of an earlier one": 2}


# -- stopping and going on ---------------------------------------------------------------------------------------------


def test_a_stopped_recording_goes_on_and_ends_the_same(drive: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_IMAGES", 1)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    record(drive, whole, Settings())
    decoded, real = [], module.image_to_rgb

    def stops(message: Any) -> Any:
        decoded.append(1)
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return real(message)

    monkeypatch.setattr(module, "image_to_rgb", stops)
    with pytest.raises(KeyboardInterrupt):
        record(drive, broken, Settings())
    assert len(LabelledFolder(broken).records) == 2  # whole as far as it goes
    decoded[:] = [1] * 5
    done = record(drive, broken, Settings())
    assert len(decoded) == 6 and done.images == 3 and done.measured == 9  # only what was missing
    assert content(broken) == content(whole)
    # and once more nothing is decoded; what was lost is made again
    record(drive, broken, Settings())
    assert len(decoded) == 6
    lost = next((broken / "depth").iterdir())
    lost.unlink()
    record(drive, broken, Settings())
    assert content(broken) == content(whole)


def test_other_settings_are_refused(drive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record(drive, out, Settings())
    before = content(out)
    with pytest.raises(BadRecordingError, match=r"other every_seconds \(0.0, now 1.0\); choose another --out"):
        record(drive, out, Settings(every_seconds=1.0))
    other = made.write(tmp_path / "other" / "drive", made.drive(8))
    with pytest.raises(BadRecordingError, match="other images"):
        record(other, out, Settings())
    (out / "recording.json").write_text("[")
    with pytest.raises(BadRecordingError, match="cannot be read"):
        record(drive, out, Settings())
    (out / "recording.json").unlink()
    with pytest.raises(BadRecordingError, match="not recorded; choose another --out"):
        record(drive, out, Settings())
    assert {k: v for k, v in before.items() if k != "recording.json"} == content(out)


# -- where boxes come from ---------------------------------------------------------------------------------------------


# a bag that does not describe its types can only be of the version that is known
@pytest.mark.parametrize(
    ("definition", "described"),
    [(DETECTION_DEFINITION, True), (DETECTION_DEFINITION, False), (OLD_DETECTIONS, True)],
    ids=["now", "not described", "old"],
)
def test_detections(tmp_path: Path, monkeypatch: Any, definition: str, described: bool) -> None:
    detector = Detector(monkeypatch, definition)
    stamp = made.START
    found = [
        ("chair", 0.9, (4, 20, 20, 44), 0.0),
        ("table", 0.4, (24, 10, 40, 34), 0.0),  # below min_score
        ("lamp", 0.8, (40, 6, 64, 22), np.pi / 2),  # on its side: upright it is 44, 2 to 60, 26
        ("ghost", 0.8, (200, 200, 220, 220), 0.0),
        ("", 0.8, (1, 1, 9, 9), 0.0),
        ("dot", 0.8, (5, 5, 5, 5), 0.0),
    ]
    messages = [*images_and_depths(), (BOXES, stamp, detector.message(stamp, found))]
    bag = made.write(tmp_path / "bag", messages)
    if not described:
        with sqlite3.connect(bag / "bag.db3") as file:
            file.execute("DELETE FROM message_definitions")
    done = record(bag, tmp_path / "out", Settings())
    (r,) = LabelledFolder(tmp_path / "out").records
    assert [(o.name, o.depth_m) for o in r.objects] == [("chair", 1.0), ("lamp", 3.0)]
    assert r.objects[0].box.xyxy == (4, 20, 20, 44) and r.objects[1].box.xyxy == pytest.approx((44, 2, 60, 26))
    assert done.left_out["boxes outside their image"] == 1 and done.left_out["boxes that cannot be used"] == 2
    assert "200.0" in done.problems["boxes outside their image"]


def test_classes_that_are_numbers_need_names(tmp_path: Path, monkeypatch: Any) -> None:
    detector = Detector(monkeypatch)
    found = [("56", 0.9, (4, 20, 20, 44), 0.0), ("60", 0.9, (24, 10, 40, 34), 0.0), ("9", 0.9, (1, 1, 9, 9), 0.0)]
    bag = made.write(tmp_path / "bag", [*images_and_depths(), (BOXES, made.START, detector.message(made.START, found))])
    with pytest.raises(BadBoxesError, match=r"class '56' is a number; .*--names FILE, \{\"56\": \"chair\"\}"):
        record(bag, tmp_path / "out", Settings())
    names = write_boxes(tmp_path / "names.json", {"56": "chair", "60": "table", "9": None})
    done = record(bag, tmp_path / "named", Settings(names=names))
    assert done.names == {"chair": 1, "table": 1}
    for bad, expected in (
        ([1], "expected names by class"),
        ({"1": ""}, "'1': object name '' is empty"),
        (None, "null|None"),
    ):
        with pytest.raises(BadBoxesError, match=expected):
            record(bag, tmp_path / "bad", Settings(names=write_boxes(tmp_path / "bad.json", bad)))


def test_boxes_from_a_file(tmp_path: Path) -> None:
    bag = made.write(tmp_path / "bag", images_and_depths(6))
    third = made.START + 4 * made.PERIOD
    boxes = {
        "0": [{"name": "chair", "box": [4, 20, 20, 44]}, {"name": " red  table ", "box": [24, 10, 100, 34]}],
        str(made.START + 2 * made.PERIOD): [{"name": "lamp", "box": [44, 2, 60, 26]}],
        f"{third / 1e9:.3f}": [{"name": "chair", "box": [4, 20, 20, 44]}],
        "5": [],
    }
    file = write_boxes(tmp_path / "boxes.json", boxes)
    done = record(bag, tmp_path / "out", Settings(boxes=str(file)))
    records = LabelledFolder(tmp_path / "out").records
    assert [[o.name for o in r.objects] for r in records] == [["chair", "red table"], ["lamp"], ["chair"]]
    assert records[0].objects[1].box.x2 == made.WIDTH  # cut at the edge
    assert [r.objects[0].depth_m for r in records] == [1.0, 3.0, 1.0]
    assert done.left_out == {f"images without boxes (file {file})": 3}
    write_boxes(file, {**boxes, "2": []})
    with pytest.raises(BadBoxesError, match="'2' means image 2, which an earlier key means too"):
        record(bag, tmp_path / "out", Settings(boxes=str(file)))
    write_boxes(file, {"0": boxes["0"]})
    with pytest.raises(BadRecordingError, match="other boxes"):
        record(bag, tmp_path / "out", Settings(boxes=str(file)))


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], r"holds \[\]; expected boxes by image"),
        ({}, "expected boxes by image"),
        ({"6": []}, "there is no image '6'; the topic has 6 images, stamps 1000000000000 to"),
        ({"-1": []}, "key '-1' is neither"),
        ({"front": []}, "key 'front' is neither"),
        ({"1e9": []}, "key '1e9' is neither"),
        ({"0": {}}, r"'0' holds \{\}; expected a list"),
        ({"0": [1]}, r"'0' \[0\]: is 1; expected"),
        ({"0": [{"name": "chair"}]}, "expected"),
        ({"0": [{"name": "chair", "box": [1, 2, 3]}]}, r"box is \[1, 2, 3\]; expected \[x1, y1, x2, y2\] in pixels"),
        ({"0": [{"name": "chair", "box": [1, 2, 1, 9]}]}, "is empty; expected x1 < x2"),
        ({"0": [{"name": "chair", "box": [1, 2, True, 9]}]}, "expected"),
        ({"0": [{"name": "", "box": [1, 2, 3, 9]}]}, "is empty; expected a name"),
        ({"0": [{"name": 7, "box": [1, 2, 3, 9]}]}, "is not text"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, boxes: object, expected: str) -> None:
    bag = made.write(tmp_path / "bag", images_and_depths(6))
    with pytest.raises(BadBoxesError, match=expected) as caught:
        record(bag, tmp_path / "out", Settings(boxes=str(write_boxes(tmp_path / "boxes.json", boxes))))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


# -- what cannot be recorded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"topic": "/nope"}, r"no image topic '/nope'; .*/camera/image_raw \(6 images\)"),
        ({"depth": "/nope"}, r"no depth topic '/nope'; .*/camera/depth \(3 images\)"),
        ({"boxes": "/nope"}, r"no topic of boxes '/nope', and there is no such file; .*/ground_truth/object_depths"),
        ({"boxes": "nope.json"}, r"nope.json: cannot be read \(No such file"),
    ],
)
def test_what_there_is_instead_is_said(drive: Path, tmp_path: Path, settings: dict[str, str], expected: str) -> None:
    with pytest.raises((BadBagError, BadBoxesError), match=expected) as caught:
        record(drive, tmp_path / "out", Settings(**settings))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_bag_without_boxes(tmp_path: Path) -> None:
    bag = made.write(tmp_path / "bag", images_and_depths())
    with pytest.raises(BadBagError, match=r"no topic of boxes .*give --boxes FILE.json; its topics: /camera/depth"):
        record(bag, tmp_path / "out", Settings())


def test_several_topics_of_boxes_or_depth(tmp_path: Path) -> None:
    extra = [("/other" + t, s, m) for t, s, m in made.drive() if t != made.IMAGES]
    bag = made.write(tmp_path / "bag", made.drive() + extra)
    with pytest.raises(BadBagError, match=r"several depth topics; choose one with --depth TOPIC: /camera/depth"):
        record(bag, tmp_path / "out", Settings())
    with pytest.raises(BadBagError, match="several topics of boxes; choose one with --boxes TOPIC: /ground"):
        record(bag, tmp_path / "out", Settings(depth=made.DEPTHS))
    assert record(bag, tmp_path / "out", Settings(depth=made.DEPTHS, boxes=made.TRUTH[1:])).images == 3


def test_depth_that_is_not_aligned(tmp_path: Path) -> None:
    stamp = made.START
    start = [
        (made.IMAGES, stamp, made.raw(stamp)),
        (made.TRUTH, stamp, made.truth(stamp, {"chair": (0.1, 1.0)})),
    ]
    square = made.raw(stamp, np.ones((48, 48), np.float32), "32FC1")
    elsewhere = made.raw(stamp, made.depth_map({}), "32FC1")
    elsewhere.header.frame_id = "depth_camera"
    for i, (message, expected) in enumerate(
        [
            (square, "depth images on /camera/depth are 48x48 pixels, the images 64x48; expected depth aligned"),
            (elsewhere, "depth images on /camera/depth are in frame 'depth_camera', the images in 'camera'; expected"),
        ]
    ):
        bag = made.write(tmp_path / f"bag{i}", [*start, (made.DEPTHS, stamp, message)])
        with pytest.raises(BadRecordingError, match=expected):
            record(bag, tmp_path / f"out{i}", Settings())


def test_nothing_to_record_is_an_error(tmp_path: Path) -> None:
    late = [(t, s, made.truth(s + 7, {"chair": (0.1, 1.0)}) if t == made.TRUTH else m) for t, s, m in made.drive()]
    bag = made.write(tmp_path / "bag", late)
    with pytest.raises(BadRecordingError, match=r"none of the 6 images .*: 6 images without boxes \(topic /ground_"):
        record(bag, tmp_path / "out", Settings())


def test_images_that_are_broken_are_counted(tmp_path: Path) -> None:
    messages = made.drive()
    broken = made.raw(made.START, encoding="rgb8")
    broken.encoding = "strange"
    messages[0] = (made.IMAGES, made.START, broken)
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings())
    assert done.images == 2 and done.left_out["images that cannot be used"] == 1
    assert "'strange'" in done.problems["images that cannot be used"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_seconds": -1.0}, "every_seconds is -1.0"),
        ({"every_images": 0}, "every_images is 0"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"min_score": 2}, "min_score is 2"),
    ],
)
def test_bad_settings(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadRecordingError, match=expected):
        Settings(**settings)


def test_the_same_twice_is_the_same(drive: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(drive, tmp_path / name, Settings())
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert str(tmp_path).encode() not in b"".join(content(tmp_path / "a").values())  # nothing of where it was made


# -- stamps and frames that real drivers send --------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["images", "depths", "both", "neither"])
def test_stamps_of_zero(tmp_path: Path, which: str) -> None:
    """Every image gets its own depth and boxes, by the times of recording, and a name of its own."""
    times = [made.START + i * made.PERIOD for i in range(4)]
    messages: list[Any] = []
    for i, time in enumerate(times):
        image = made.raw(0 if which in ("images", "both") else time, made.picture(i))
        metres = made.depth_map({"chair": 1.0 + i})
        depth = made.raw(0 if which in ("depths", "both") else time, metres, "32FC1")
        label = made.truth(0 if which == "both" else time, {"chair": (0.1, 1.0)})
        messages += [(made.IMAGES, time, image), (made.DEPTHS, time + 10**6, depth), (made.TRUTH, time + 10**6, label)]
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings())
    assert done.left_out == {}
    records = LabelledFolder(tmp_path / "out").records
    assert [r.image for r in records] == [f"images/{time}.png" for time in times]
    assert [r.objects[0].depth_m for r in records] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("frame", "fits"), [("camera", True), ("/camera", True), ("camera_depth", False), ("", False)])
def test_depth_of_the_frame_of_the_image(tmp_path: Path, frame: str, fits: bool) -> None:
    messages = made.drive(1)
    next(m for topic, _, m in messages if topic == made.DEPTHS).header.frame_id = frame
    path = made.write(tmp_path / "bag", messages)
    if fits:
        assert record(path, tmp_path / "out", Settings()).measured == 3
    else:
        with pytest.raises(BadRecordingError, match=f"are in frame '{frame}', the images in 'camera'"):
            record(path, tmp_path / "out", Settings())


def test_messages_that_are_damaged_are_counted(tmp_path: Path) -> None:
    messages: list[Any] = made.drive(3)
    at = next(i for i, m in enumerate(messages) if m[0] == made.IMAGES)
    messages[at] = (made.IMAGES, made.START, "sensor_msgs/msg/Image", b"")
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings(depth="none"))
    assert done.images == 2 and done.left_out["images that cannot be used"] == 1


def test_one_depth_image_of_another_frame_is_counted(tmp_path: Path) -> None:
    messages = made.drive(4)
    [m for topic, _, m in messages if topic == made.DEPTHS][1].header.frame_id = "camera_depth"
    done = record(made.write(tmp_path / "bag", messages), tmp_path / "out", Settings())
    assert done.images == 1 and done.left_out["images that cannot be used"] == 1
    assert "are in frame 'camera_depth'" in done.left_out_text()
