"""The demo reads any bag's images, and says in one line what it cannot use."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from builtin_interfaces.msg import Time
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from demo.bags import Bag, DemoError, names_in
from demo.make_bag import write
from demo.run import OWN_BAG
from proxqa_ros.msg import ObjectDepth, ObjectDepthArray


def header(second: int) -> Header:
    return Header(stamp=Time(sec=1000 + second), frame_id="camera")


def raw(second: int, encoding: str = "rgb8", size: int = 3) -> Image:
    message = Image(header=header(second), height=16, width=16, encoding=encoding, step=16 * size)
    message.data = bytes(16 * 16 * size)
    return message


def compressed(second: int, format_: str = "jpeg") -> CompressedImage:
    out = io.BytesIO()
    PilImage.fromarray(np.zeros((16, 16, 3), np.uint8)).save(out, "JPEG")
    return CompressedImage(header=header(second), format=format_, data=out.getvalue())


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two colour topics and two of depth."""
    messages = []
    for i in range(5):
        messages += [
            ("/a/compressed", compressed(i)),
            ("/b", raw(i)),
            ("/depth", raw(i, "16UC1", 2)),
            ("/depth/compressedDepth", compressed(i, "16UC1; compressedDepth png")),
        ]
    write(messages, tmp_path / "mixed")
    return tmp_path / "mixed"


def test_depth_topics_are_no_choice(mixed):
    with Bag(mixed) as bag:
        assert [(t.name, t.kind, t.count) for t in bag.image_topics()] == [
            ("/a/compressed", CompressedImage, 5),
            ("/b", Image, 5),
        ]


def test_the_only_image_topic_is_taken():
    with Bag(OWN_BAG) as bag:
        assert bag.choose("").name == "/camera/image_raw/compressed"


@pytest.mark.parametrize("wanted", ["/b", "b"])
def test_a_topic_is_found_with_or_without_its_slash(mixed, wanted):
    with Bag(mixed) as bag:
        assert bag.choose(wanted).name == "/b"


@pytest.mark.parametrize("wanted", ["", "/nope", "/depth"])
def test_choices_are_listed(mixed, wanted):
    with Bag(mixed) as bag, pytest.raises(DemoError, match=r"TOPIC=….*/a/compressed \(5 images\), /b \(5 images\)"):
        bag.choose(wanted)


def test_a_bag_without_images_is_refused(tmp_path):
    write([("/depth", raw(0, "32FC1", 4))], tmp_path / "bag")
    with Bag(tmp_path / "bag") as bag, pytest.raises(DemoError, match=r"no colour images.*/depth"):
        bag.choose("")


def test_frames_end_after_the_seconds_asked_for(mixed):
    with Bag(mixed) as bag:
        frames = list(bag.frames(bag.choose("/b"), seconds=2))
    assert [f.stamp for f in frames] == [f.time for f in frames] == [(1000 + i) * 10**9 for i in range(3)]
    assert all(isinstance(f.message, Image) for f in frames)


def test_truth_is_found_by_stamp_and_only_where_there_is_some(mixed):
    with Bag(mixed) as bag:
        assert bag.truth() == {}
    with Bag(OWN_BAG) as bag:
        truth = bag.truth()
        assert set(truth) == {f.stamp for f in bag.frames(bag.choose(""), 3600)}


def test_names_come_by_how_often_they_are_seen():
    arrays = [ObjectDepthArray(objects=[ObjectDepth(name=n) for n in names]) for names in ("ba", "ac", "ba")]
    assert names_in(arrays, 9) == ["a", "b", "c"]
    assert names_in(arrays, 2) == ["a", "b"]


@pytest.mark.parametrize("damage", ["missing", "empty", "no data", "zero data", "cut", "bad yaml"])
def test_a_bag_that_cannot_be_read_is_refused(tmp_path, damage):
    path = tmp_path / "bag"
    if damage == "empty":
        path.mkdir()
    elif damage != "missing":
        shutil.copytree(OWN_BAG, path)
        data = path / "bag.db3"
        if damage == "no data":
            data.unlink()
        elif damage == "bad yaml":
            (path / "metadata.yaml").write_text("{{{")
        else:
            data.write_bytes(data.read_bytes()[:1_000_000] if damage == "cut" else b"")
    with pytest.raises(DemoError, match=r"^BAG .*expected the folder of a rosbag2") as caught:
        Bag(path)
    assert "\n" not in str(caught.value)
