"""The bag in the repository holds what its docstring lists, and the same drive gives the same bag."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from PIL import Image as PilImage
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from demo import make_bag
from demo.run import OWN_BAG
from proxqa_core.depth import disparity_of, disparity_percentiles, relative_of_disparity
from proxqa_core.stamps import nanoseconds
from proxqa_ros.common.conversions import depth_to_metres, image_to_rgb
from proxqa_ros.msg import ObjectDepthArray

KINDS = {
    make_bag.IMAGE: CompressedImage,
    make_bag.INFO: CameraInfo,
    make_bag.DEPTH: Image,
    make_bag.TRUTH: ObjectDepthArray,
}


def contents(bag: Path) -> dict[str, list]:
    """All messages by topic, in the order recorded, each with its time."""
    found: dict[str, list] = {topic: [] for topic in KINDS}
    with Reader(bag) as reader:
        for connection, time, raw in reader.messages():
            found[connection.topic].append((time, deserialize_message(bytes(raw), KINDS[connection.topic])))
    return found


@pytest.fixture(scope="module")
def own() -> dict[str, list]:
    return contents(OWN_BAG)


def test_own_bag_is_small_and_of_version_9():
    assert sum(f.stat().st_size for f in OWN_BAG.iterdir()) < 10e6
    assert "version: 9" in (OWN_BAG / "metadata.yaml").read_text()


def test_own_bag_has_every_topic(own):
    images = len(own[make_bag.IMAGE])
    assert images >= 30
    assert len(own[make_bag.INFO]) == len(own[make_bag.TRUTH]) == images
    assert len(own[make_bag.DEPTH]) == -(-images // make_bag.DEPTH_EVERY)


def test_own_bag_has_one_clock_and_one_frame(own):
    stamps = {topic: [nanoseconds(m.header.stamp) for _, m in messages] for topic, messages in own.items()}
    for topic, messages in own.items():
        assert all(time == nanoseconds(m.header.stamp) for time, m in messages)
        assert np.all(np.diff(stamps[topic]) > 0)
        assert {m.header.frame_id for _, m in messages} == {make_bag.FRAME_ID}
    assert stamps[make_bag.IMAGE] == stamps[make_bag.INFO] == stamps[make_bag.TRUTH]
    assert set(stamps[make_bag.DEPTH]) <= set(stamps[make_bag.IMAGE])


def test_own_bag_intrinsics_fit_the_images(own):
    for (_, image), (_, info) in zip(own[make_bag.IMAGE], own[make_bag.INFO], strict=True):
        assert image_to_rgb(image).shape == (info.height, info.width, 3)
        assert info.k[0] > 0 and info.p[0] == info.k[0]
        assert 0 < info.k[2] < info.width and 0 < info.k[5] < info.height


def test_own_bag_truth_fits_the_depth_images(own):
    truth = {nanoseconds(m.header.stamp): m for _, m in own[make_bag.TRUTH]}
    checked = 0
    for _, message in own[make_bag.DEPTH]:
        metres = depth_to_metres(message)
        low, high = disparity_percentiles(disparity_of(metres))
        for o in truth[nanoseconds(message.header.stamp)].objects:
            r = o.region
            inside = metres[r.y_offset : r.y_offset + r.height, r.x_offset : r.x_offset + r.width]
            assert np.mean(np.abs(inside / o.distance - 1) < 0.1) > 0.1, o.name
            assert relative_of_disparity(1 / o.distance, low, high) == pytest.approx(o.depth, abs=0.01), o.name
            checked += 1
    assert checked > 50


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A drive of four frames: a wall 4 m away, a box 1 m away and one that is out of view."""
    folder = tmp_path / "drive"
    records, frames = [], []
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True)
    for i in range(4):
        image, depth = f"images/{i}.jpg", f"depth/{i}.png"
        metres = np.full((24, 32), 4000, np.uint16)
        metres[5:15, 10:20] = 1000
        PilImage.fromarray(np.full((24, 32, 3), 40 * i, np.uint8)).save(folder / image)
        PilImage.fromarray(metres).save(folder / depth)
        records.append({"image": image, "depth_map": depth})
        seen = {"name": "box", "box": [10, 5, 20, 15], "depth": 0.0, "depth_m": 1.0, "labelled": True}
        unseen = {"name": "cat", "box": None, "depth": None, "depth_m": None, "labelled": False}
        frames.append({"image": image, "time": 0.1 * i, "objects": [seen, unseen]})
    about = {"size": [32, 24], "intrinsics": [20.0, 20.0, 16.0, 12.0], "frames": frames}
    (folder / "annotations.json").write_text(json.dumps(records))
    (folder / "poses.json").write_text(json.dumps(about))
    return folder


def test_same_drive_gives_the_same_messages(drive, tmp_path, capsys):
    for name in ("one", "two"):
        assert make_bag.main([str(drive), str(tmp_path / name)]) == 0
    one, two = (repr(contents(tmp_path / name)) for name in ("one", "two"))  # NaN, which truth holds, equals nothing
    assert one == two
    assert "14 messages" in capsys.readouterr().out  # 4 images, infos and truths, 2 depth images


def test_an_older_bag_is_replaced(drive, tmp_path):
    bag = tmp_path / "bag"
    assert make_bag.main([str(drive), str(bag)]) == 0
    assert make_bag.main([str(drive), str(bag)]) == 0
    assert sorted(f.name for f in bag.iterdir()) == ["bag.db3", "metadata.yaml"]
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_messages_hold_what_the_drive_holds(drive, tmp_path):
    make_bag.main([str(drive), str(tmp_path / "bag")])
    found = contents(tmp_path / "bag")
    times = [time for time, _ in found[make_bag.IMAGE]]
    assert times == [make_bag.START_NS + i * 100_000_000 for i in range(4)]
    assert bytes(found[make_bag.IMAGE][2][1].data) == (drive / "images/2.jpg").read_bytes()
    depth = found[make_bag.DEPTH][0][1]
    assert (depth.encoding, depth.step, depth_to_metres(depth)[10, 15]) == ("16UC1", 64, 1.0)
    (true,) = found[make_bag.TRUTH][0][1].objects
    assert (true.name, true.depth, true.distance, true.score) == ("box", 0.0, 1.0, 1.0)
    assert (true.region.x_offset, true.region.y_offset, true.region.width, true.region.height) == (10, 5, 10, 10)


def test_a_folder_that_is_no_drive_is_refused(tmp_path, capsys):
    assert make_bag.main([str(tmp_path), str(tmp_path / "bag")]) == 2
    assert "has no poses.json" in capsys.readouterr().err


def test_a_damaged_drive_leaves_no_bag(drive, tmp_path, capsys):
    (drive / "depth" / "0.png").write_bytes(b"nothing")
    assert make_bag.main([str(drive), str(tmp_path / "bag")]) == 2
    assert "no whole drive" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["drive"]
