"""Reading bags without ROS: every storage and compression, topics by what they hold, truth by stamp."""

from __future__ import annotations

import builtins
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.evaluation.bag_truth import DepthTruth, LabelTruth, NoTruth, queries_of, truth_of
from proxqa_core.rosbags.bag import (
    BadBagError,
    Bag,
    NoReaderError,
    StampedReader,
    Topic,
    message_files,
    names_in,
)
from proxqa_core.rosbags.image_messages import depth_to_metres, image_to_rgb
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import Box, ObjectDepth, ObjectQuery
from tests import made_bag as made


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return made.write(tmp_path / "drive", made.drive())


@pytest.mark.parametrize("compression", ["", "FILE", "MESSAGE"])
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_every_storage_gives_the_same_messages(tmp_path: Path, storage: str, compression: str) -> None:
    path = made.write(tmp_path / "bag", made.drive(), storage, compression)
    with Bag(path) as bag:
        topic = bag.image_topic()
        messages = list(bag.messages(topic))
        assert (
            [m.stamp for m in messages]
            == [m.time for m in messages]
            == [made.START + i * made.PERIOD for i in range(6)]
        )
        for i, m in enumerate(messages):
            decoded = bag.decode(m)
            assert nanoseconds(decoded.header.stamp) == m.stamp
            np.testing.assert_array_equal(image_to_rgb(decoded), made.picture(i))


def test_a_file_alone_is_a_bag_too(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "bag", made.drive(2), "mcap")
    (file,) = folder.glob("*.mcap")
    with Bag(file) as bag:
        assert bag.image_topic().count == 2


def test_grey_of_16_bits_is_depth_where_somebody_says_so(tmp_path: Path) -> None:
    """Depth images of encoding mono16 are told from thermal ones by their user alone."""
    stamp = made.START
    millimetres = np.full((made.HEIGHT, made.WIDTH), 1500, np.uint16)
    path = made.write(
        tmp_path / "bag",
        [("/cam/depth", stamp, made.raw(stamp, millimetres, "mono16")), ("/b", stamp, made.raw(stamp))],
    )
    with Bag(path) as bag:
        assert bag.depth_topics() == [] and len(bag.image_topics()) == 2
        topic = bag.depth_topic("cam/depth")
        assert topic.name == "/cam/depth"
        (recorded,) = bag.messages(topic)
        assert (depth_to_metres(bag.decode(recorded)) == 1.5).all()
        with pytest.raises(BadBagError, match="no depth images"):
            bag.depth_topic("/b")


def test_topics_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    stamp = made.START
    metres = np.ones((made.HEIGHT, made.WIDTH), np.float32)
    path = made.write(
        tmp_path / "bag",
        [
            ("/b", stamp, made.raw(stamp)),
            ("/a/compressed", stamp, made.compressed(stamp)),
            ("/depth", stamp, made.raw(stamp, metres, "32FC1")),
            ("/depth/compressedDepth", stamp, made.compressed_depth(stamp, metres)),
            ("/object_depths", stamp, made.truth(stamp, {})),
        ],
    )
    with Bag(path) as bag:
        assert [t.name for t in bag.image_topics()] == ["/a/compressed", "/b"]
        assert [t.compressed for t in bag.image_topics()] == [True, False]
        assert [t.name for t in bag.depth_topics()] == ["/depth", "/depth/compressedDepth"]
        # What a node published is no truth, unless somebody says it is.
        assert bag.truth_topic() is None
        assert bag.truth_topic("object_depths") == Topic("/object_depths", "proxqa_ros/msg/ObjectDepthArray", 1)
        for wanted in ("", "/nope", "/depth"):
            with pytest.raises(BadBagError, match=r"--topic TOPIC: /a/compressed \(1 images\), /b \(1 images\)"):
                bag.image_topic(wanted)
        assert bag.image_topic("b").name == "/b"
        with pytest.raises(BadBagError, match=r"no depth topic '/b'.*/depth/compressedDepth \(1 images\)"):
            bag.depth_topic("/b")
        with pytest.raises(BadBagError, match=r"no topic of true depths '/b'.*/object_depths \(1 messages\)"):
            bag.truth_topic("/b")


def test_a_bag_without_images_says_what_it_holds(tmp_path: Path) -> None:
    path = made.write(tmp_path / "bag", [(made.TRUTH, 1, made.truth(1, {}))])
    with Bag(path) as bag:
        with pytest.raises(BadBagError, match=r"no colour images \(asked for: '/x'\); its topics: /ground_truth"):
            bag.image_topic("/x")
        with pytest.raises(BadBagError, match="no depth images"):
            bag.depth_topic("/x")
    with Bag(made.write(tmp_path / "empty", [])) as bag, pytest.raises(BadBagError, match="its topics: none"):
        bag.image_topic()


@pytest.mark.parametrize("damage", ["missing", "empty", "no data", "zero data", "bad yaml", "no bag"])
def test_a_bag_that_cannot_be_read_is_one_line(tmp_path: Path, drive: Path, damage: str) -> None:
    path = tmp_path / "copy"
    if damage == "empty":
        path.mkdir()
    elif damage == "no bag":
        path.write_text("hello")
    elif damage != "missing":
        shutil.copytree(drive, path)
        (data,) = path.glob("*.db3")
        if damage == "no data":
            data.unlink()
        elif damage == "zero data":
            data.write_bytes(b"")
        else:
            (path / "metadata.yaml").write_text("{{{")
    with pytest.raises(BadBagError, match=r"^bag .*expected the folder of a rosbag2") as caught:
        Bag(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_breaks_in_the_middle_is_one_line(tmp_path: Path) -> None:
    path = made.write(tmp_path / "bag", made.drive(40))
    (data,) = path.glob("*.db3")
    content = bytearray(data.read_bytes())
    content[len(content) // 2 : len(content) * 3 // 4] = b"\xff" * (len(content) * 3 // 4 - len(content) // 2)
    data.write_bytes(content)
    with pytest.raises(ProxqaError) as caught, Bag(path) as bag:
        for m in bag.messages(*bag.topics()):
            bag.decode(m)
    assert "\n" not in str(caught.value)


def test_without_rosbags_it_is_said_what_to_install(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("rosbags"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoReaderError, match="pip install rosbags"):
        Bag(drive)


def test_messages_of_a_time(drive: Path) -> None:
    with Bag(drive) as bag:
        topic = bag.image_topic()
        start = made.START + 2 * made.PERIOD
        assert [m.time for m in bag.messages(topic, start=start, stop=start + 1)] == [start]
        assert list(bag.messages()) == []


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", b"\0\1\0\0" + bytes(5), b"\0\1\0\0" + b"\xff" * 60])
def test_bytes_that_are_no_message(tmp_path: Path, data: bytes) -> None:
    path = made.write(tmp_path / "bag", [("/image", 5, "sensor_msgs/msg/Image", data)])
    with Bag(path) as bag:
        topic = bag.image_topic()
        (m,) = bag.messages(topic)
        with pytest.raises(BadImageError) as caught:
            assert m.stamp != 0
            image_to_rgb(bag.decode(m))
        assert "\n" not in str(caught.value)


def test_messages_beside_are_found_by_stamp(drive: Path) -> None:
    with Bag(drive) as bag:
        depths = StampedReader(bag, bag.depth_topic(made.DEPTHS))
        assert len(depths) == 3
        assert depths.nearest(made.START) is None  # a millisecond off
        near = depths.nearest(made.START + made.PERIOD, made.PERIOD)
        assert nanoseconds(near.header.stamp) in (made.START + 10**6, made.START + 2 * made.PERIOD + 10**6)
        assert depths.nearest(0, 10**9) is None and depths.nearest(2**62, 10**9) is None


def test_our_messages_are_found_where_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {f.stem for f in message_files()} >= {"ObjectDepth", "ObjectDepthArray"}
    share = tmp_path / "share/proxqa_ros/msg"
    shutil.copytree(message_files()[0].parent, share)
    monkeypatch.setattr("proxqa_core.rosbags.bag.__file__", str(tmp_path / "a/b/c/bag.py"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert message_files()[0].parent == share
    shutil.rmtree(share)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(BadBagError, match="share/proxqa_ros/msg"):
        message_files()


# -- truth ------------------------------------------------------------------------------------------------------------


def answered(name: str, region: tuple[int, int, int, int] | None = None, score: float = 0.9) -> ObjectDepth:
    place = None
    if region is not None:
        x, y, width, height = region
        place = Box(x, y, x + width, y + height)
    return ObjectDepth(name, 0.3, 0.1, score, "", found_at=place)


def test_labels_are_found_by_stamp_and_name(drive: Path) -> None:
    with Bag(drive) as bag:
        truth = truth_of(bag, "", "", 0.05)
        assert isinstance(truth, LabelTruth) and truth.names == ["chair", "lamp", "table"]
        chair, ghost = truth.of(made.START, 64, 48, [answered("chair"), answered("ghost")])
        assert ghost is None and chair is not None
        assert (round(chair.depth, 3), chair.distance, chair.box) == (0.1, 1.0, Box(4, 20, 20, 44))
        assert truth.of(made.START + 1, 64, 48, [answered("chair")]) == (None,)
        assert isinstance(truth_of(bag, None, "", 0.05), NoTruth)


def test_labels_that_mean_nothing_are_none(tmp_path: Path) -> None:
    message = made.truth(5, {"chair": (math.nan, 1.0), "table": (1.5, -1.0), "lamp": (0.5, math.inf)}, regions=False)
    message.objects.append(message.objects[0])
    path = made.write(tmp_path / "bag", [(made.IMAGES, 5, made.raw(5)), (made.TRUTH, 5, message)])
    with Bag(path) as bag:
        known = truth_of(bag, "", "", 0.05).labels(5)
    assert set(known) == {"table", "lamp"}  # two chairs: neither is meant
    assert math.isnan(known["table"].depth) and math.isnan(known["table"].distance)
    assert known["lamp"].depth == 0.5 and math.isnan(known["lamp"].distance) and known["lamp"].box is None


def test_depth_images_are_read_where_the_model_looked(drive: Path) -> None:
    with Bag(drive) as bag:
        truth = truth_of(bag, "", made.DEPTHS, 0.05)
        assert isinstance(truth, DepthTruth)
        asked = [
            answered("chair", made.REGIONS["chair"]),
            answered("table", made.REGIONS["lamp"]),  # it looked at the wrong thing: judged by what is there
            answered("lamp"),
            answered("ghost", made.REGIONS["lamp"], 0.2),
            answered("far", (-50, -50, 10, 10)),
        ]
        found = truth.of(made.START, 64, 48, asked)
        assert found[0] is not None and found[1] is not None and found[2:] == (None, None, None)
        assert (found[0].distance, found[1].distance) == (1.0, 3.0)
        assert 0 <= found[0].depth < found[1].depth <= 1
        # by the same convention as everywhere: the median of the relative depth map is the depth of the median
        low, high = 1 / 4, 1.0
        assert found[1].depth == pytest.approx(1 - (1 / 3 - low) / (high - low), abs=1e-3)
        # twice the size: regions are of the image
        doubled = ObjectDepth("chair", 0.3, 0.1, 0.9, "", box=Box(8, 40, 40, 88))
        (same,) = truth.of(made.START, 128, 96, [doubled])
        assert same is not None and same.distance == 1.0
        assert truth.of(made.START + made.PERIOD, 64, 48, asked[:1]) == (None,)
        assert truth.problem == ""
        assert truth.of(made.START, 64, 64, asked[:1]) == (None,) and "aligned" in truth.problem


def test_half_a_region_without_depth_is_unknown(tmp_path: Path) -> None:
    metres = made.depth_map({"chair": 1.0})
    metres[:, 4:13] = np.nan
    path = made.write(tmp_path / "bag", [("/depth", 5, made.raw(5, metres, "32FC1"))])
    with Bag(path) as bag:
        assert truth_of(bag, None, "/depth", 0.05).of(5, 64, 48, [answered("chair", made.REGIONS["chair"])]) == (None,)


def test_objects_asked_for(drive: Path, tmp_path: Path) -> None:
    with Bag(drive) as bag:
        truth = truth_of(bag, "", "", 0.05)
        assert [q.name for q in queries_of(bag, truth, [])] == ["chair", "lamp", "table"]
        assert queries_of(bag, truth, [ObjectQuery("lamp")]) == [ObjectQuery("lamp")]
        with pytest.raises(BadBagError, match=r"'dragon' is in no label of .*; labelled are: chair, lamp, table"):
            queries_of(bag, truth, [ObjectQuery("lamp"), ObjectQuery("dragon")])
        depth = truth_of(bag, "", made.DEPTHS, 0.05)
        assert queries_of(bag, depth, [ObjectQuery("dragon")]) == [ObjectQuery("dragon")]
        with pytest.raises(BadBagError, match="give objects"):
            queries_of(bag, depth, [])
    path = made.write(tmp_path / "bag", [(made.TRUTH, 1, made.truth(1, {}))])
    with Bag(path) as bag, pytest.raises(BadBagError, match="names no object"):
        queries_of(bag, truth_of(bag, "", "", 0.05), [])


def test_names_come_by_how_often_they_are_seen() -> None:
    there = {name: (0.1, 1.0) for name in "abc"}
    messages = [made.truth(1, {name: there[name] for name in names}) for names in ("ba", "ac", "ba")]
    assert names_in(messages, 9) == ["a", "b", "c"]
    assert names_in(messages, 2) == ["a", "b"]


# -- compressed depth -------------------------------------------------------------------------------------------------


def inverse(message: Any) -> None:
    """Make it 32FC1 with a scale of inverse depth: what was 2000 is 100 / (2000 - 1900) = 1 m."""
    message.format = "32FC1; compressedDepth png"
    message.data = message.data.copy()
    message.data[4:12] = np.array([100.0, 1900.0], "<f4").view(np.uint8)


def test_compressed_depth() -> None:
    metres = np.full((16, 20), 2.0, np.float32)
    metres[0, 0] = 0
    message = made.compressed_depth(5, metres)
    found = depth_to_metres(message)
    assert found.dtype == np.float32 and found[1, 1] == 2.0 and np.isnan(found[0, 0])
    inverse(message)
    assert depth_to_metres(message)[1, 1] == 1.0 and np.isnan(depth_to_metres(message)[0, 0])


def _cut(message: Any) -> None:
    message.data = message.data[:-20]


def _no_png(message: Any) -> None:
    message.data = np.frombuffer(bytes(50), np.uint8)


def _colour(message: Any) -> None:
    message.format = "rgb8; jpeg compressed"


def _no_scale(message: Any) -> None:
    inverse(message)
    message.data = message.data[12:]


@pytest.mark.parametrize("damage", [_cut, _no_png, _colour, _no_scale])
def test_compressed_depth_that_is_none(damage: Callable[[Any], None]) -> None:
    message = made.compressed_depth(5, np.ones((16, 20), np.float32))
    damage(message)
    with pytest.raises(BadImageError, match="compressed depth image") as caught:
        depth_to_metres(message)
    assert "\n" not in str(caught.value)
