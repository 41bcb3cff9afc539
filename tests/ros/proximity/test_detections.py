"""Detections as names and boxes: which image they belong to, what they name, and the node with and without them."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

import proxqa_ros.proximity
from proxqa_core.types import MAX_OBJECTS
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.proximity import detections as module
from proxqa_ros.proximity.detections import MAX_WAITING_BYTES, MAX_WAITING_IMAGES, DetectionMatcher, objects_of
from tests.ros.conftest import wait_until
from tests.ros.distance.scene import header

INSTALLED = module.Detection2DArray is not None
needs_messages = pytest.mark.skipif(not INSTALLED, reason="vision_msgs has no wheel; this runs in a ROS distro")


def thing(class_id="chair", score=0.9, x=32.0, y=24.0, across=16.0, down=8.0, turned=0.0, others=()):
    """A stand-in for vision_msgs/Detection2D."""
    results = [
        SimpleNamespace(hypothesis=SimpleNamespace(class_id=c, score=s)) for c, s in [(class_id, score), *others]
    ]
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=turned)
    return SimpleNamespace(results=results, bbox=SimpleNamespace(center=center, size_x=across, size_y=down))


def found(*things, of: Header | None = None):
    """A stand-in for vision_msgs/Detection2DArray."""
    return SimpleNamespace(header=of or header(), detections=list(things))


def real(message):
    """The same as the real message."""
    from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

    array = Detection2DArray(header=message.header)
    for stand_in in message.detections:
        box, detection = stand_in.bbox, Detection2D(header=message.header)
        detection.bbox = BoundingBox2D(size_x=box.size_x, size_y=box.size_y)
        detection.bbox.center.position.x = box.center.position.x
        detection.bbox.center.position.y = box.center.position.y
        detection.bbox.center.theta = box.center.theta
        for stand_in_result in stand_in.results:
            result = ObjectHypothesisWithPose()
            result.hypothesis.class_id = stand_in_result.hypothesis.class_id
            result.hypothesis.score = stand_in_result.hypothesis.score
            detection.results.append(result)
        array.detections.append(detection)
    return array


def image(seconds=5.0, frame_id="camera", data=b"") -> Image:
    return Image(header=header(seconds, frame_id), data=data)


def named(*things, min_score=0.5):
    objects, problem = objects_of(found(*things), min_score, 64, 48)
    return [(o.name, o.box.xyxy) for o in objects], problem


def test_names_and_boxes():
    assert named(thing(), thing("dog", 0.95, 10, 10, 4, 4)) == (
        [("dog", (8, 8, 12, 12)), ("chair", (24, 20, 40, 28))],
        "",
    )
    assert named() == ([], "")


def test_scores_in_percent_are_not_taken_for_sure():
    assert named(thing(score=87.0), thing("dog", 1.0000001)) == (
        [("dog", (24, 20, 40, 28))],
        "a detection was left out: its score is 87; expected 0 to 1",
    )


def test_the_likeliest_name_counts_and_those_below_the_score_do_not():
    several = thing("chair", 0.6, others=[("table", 0.7), ("dog", math.nan)])
    assert [n for n, _ in named(several)[0]] == ["table"]
    assert named(thing(score=0.4), thing(score=math.nan), SimpleNamespace(results=[], bbox=None)) == ([], "")
    assert len(named(thing(score=0.4), min_score=0.0)[0]) == 1


@pytest.mark.parametrize(
    ("detection", "says"),
    [
        (
            thing(x=0.5, y=0.5, across=1.0, down=1.0),
            "is less than a pixel; expected pixels of the image, not shares of it",
        ),
        (thing(x=0.3, y=0.4, across=0.2, down=0.1), "is less than a pixel"),
        (thing(turned=90.0), "is rotated by 90 rad; expected at most one turn (is it in degrees?)"),
        (thing(turned=math.nan), "is rotated by nan rad"),
        (thing(across=-16.0), "is empty"),
        (thing(down=0.0), "is empty"),
    ],
)
def test_boxes_as_detectors_get_them_wrong_are_left_out_and_said(detection, says):
    objects, problem = named(detection, thing("dog", 0.95, 10, 10, 4, 4))
    assert [name for name, _ in objects] == ["dog"] and says in problem


def test_turned_boxes_are_held_and_boxes_are_cut_at_the_edges():
    ((_, box),), _ = named(thing(across=16, down=8, turned=math.pi / 2))
    assert box == pytest.approx((28, 16, 36, 32))
    ((_, box),), _ = named(thing(across=10, down=10, turned=-math.pi / 4))
    assert box == pytest.approx((32 - 50**0.5, 24 - 50**0.5, 32 + 50**0.5, 24 + 50**0.5))
    ((_, box),), _ = named(thing(x=60.0, y=0.0, across=20, down=20))
    assert box == (50, 0, 64, 10)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (thing("17"), "class_id '17' is a number"),
        (thing(" \n"), "is empty"),
        (thing("x" * 100), "too long"),
        (thing(x=900.0), "outside the image"),
        (thing(across=0.0), "empty"),
        (thing(across=-5.0), "empty"),
        (thing(x=math.nan), "not finite"),
        (thing(turned=math.inf), "rotated by inf"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_one_line_and_the_rest_is_used(bad, said):
    objects, problem = named(bad, thing("dog\n<image>"))
    assert [n for n, _ in objects] == ["dog <image>"]
    assert problem.startswith("a detection was left out: ") and said in problem and "\n" not in problem


def test_the_surest_are_taken_where_there_are_too_many():
    objects, problem = named(*(thing(f"thing {n}", 0.5 + n / 1000) for n in range(100)))
    assert len(objects) == MAX_OBJECTS and objects[0][0] == "thing 99" and "100 detections" in problem


def test_equal_stamps_belong_together_whichever_comes_first():
    matcher = DetectionMatcher()
    first, second = image(1.0), image(1.033)
    assert matcher.add_image(first) is None and matcher.add_image(second) is None
    pair = matcher.add(found(thing("dog"), of=header(1.0)))
    assert pair.image is first and [o.name for o in pair.objects(64, 48)] == ["dog"]
    assert matcher.add(found(of=header(1.033))).image is second
    assert matcher.add(found(of=header(1.066))) is None
    third = image(1.066)
    assert matcher.add_image(third).image is third and matcher.add_image(image(1.1)) is None
    assert (matcher.images, matcher.received, matcher.matched) == (4, 3, 3)


def test_other_stamps_wait_until_no_image_can_fit_better():
    matcher = DetectionMatcher()
    matcher.add_image(image(1.0))
    assert matcher.add(found(of=header(1.03))) is None  # the image of 1.0 is near enough, but the next may be nearer
    better = image(1.04)
    assert matcher.add_image(better).image is better


def test_what_is_too_far_apart_is_not_paired_and_newer_detections_go_before_older_ones():
    matcher = DetectionMatcher()
    matcher.add_image(image(1.0))
    assert matcher.add(found(of=header(1.2))) is None and matcher.add(found(of=header(1.3))) is None
    assert matcher.add_image(image(1.1)) is None
    last = image(1.31)
    assert matcher.add_image(last).image is last
    assert matcher.add_image(image(1.2)) is None  # those of 1.2 are gone
    matcher.tolerance_s = 0.0
    matcher.add_image(image(2.0))
    assert matcher.add(found(of=header(2.001))) is None and matcher.add_image(image(2.002)) is None


def test_a_pair_of_two_frames_is_refused_in_one_line():
    matcher = DetectionMatcher()
    matcher.add_image(image(1.0))
    assert matcher.add(found(of=header(1.0, "other"))) is None
    assert "frame 'other', the image of 'camera'" in matcher.problem and matcher.matched == 0
    matcher.add_image(image(1.1))
    matcher.add(found(thing(), of=header(1.1))).objects(64, 48)
    assert matcher.problem == ""


@pytest.mark.parametrize(("offset", "said"), [(-0.4, "0.400 s before"), (900.0, "s after")])
def test_stamps_that_never_meet_are_said(offset, said):
    """A detector with a clock of its own, or one that stamps when it is done."""
    matcher = DetectionMatcher()
    for n in range(20):
        assert matcher.add_image(image(1000.0 + n)) is None
        assert matcher.add(found(thing(), of=header(1000.0 + n + offset))) is None
        if n < 4:
            assert matcher.problem == ""
    assert said in matcher.problem and "sync_tolerance" in matcher.problem and matcher.matched == 0
    matcher.clear()
    assert matcher.problem == ""
    matcher.add_image(image(2000.0))
    assert matcher.add(found(thing(), of=header(2000.0))) is not None


def test_detections_without_a_frame_are_of_the_image_of_their_stamp():
    matcher = DetectionMatcher()
    matcher.add_image(image(5.0))
    assert matcher.add(found(thing(), of=header(5.0, ""))) is not None and matcher.problem == ""


def test_images_that_wait_are_bounded_in_number_and_bytes_and_forgotten_with_a_jump_back():
    matcher = DetectionMatcher()
    for n in range(2 * MAX_WAITING_IMAGES):
        matcher.add_image(image(10 + n))
    assert matcher.add(found(of=header(10 + MAX_WAITING_IMAGES - 1))) is None
    assert matcher.add(found(of=header(10 + MAX_WAITING_IMAGES))) is not None
    for n in range(5):
        matcher.add_image(SimpleNamespace(header=header(100 + n), data=range(MAX_WAITING_BYTES // 2)))
    assert matcher.add(found(of=header(102))) is None and matcher.add(found(of=header(103))) is not None
    matcher.add_image(image(5.0))  # the bag starts again
    assert matcher.add(found(of=header(104))) is None and matcher.add(found(of=header(5))) is not None


def test_a_question_gets_the_newest_image_once():
    matcher = DetectionMatcher()
    assert matcher.newest_image() is None
    matcher.add_image(first := image(1.0))
    assert matcher.newest_image() is first and matcher.newest_image() is None
    matcher.add_image(second := image(1.1))
    assert matcher.newest_image() is second
    matcher.add_image(image(1.2))
    matcher.clear()
    assert matcher.newest_image() is None


COCO = ("0: person", "56: chair", "60: dining table")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([""], {}),
        (["person", "bicycle"], {0: "person", 1: "bicycle"}),
        (COCO, {0: "person", 56: "chair", 60: "dining table"}),
        ([" 7 :  truck "], {7: "truck"}),
    ],
)
def test_a_table_of_class_names(entries, expected):
    assert dict(module.class_names_of(entries)) == expected


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["0: person", "chair"], "'chair' among numbered names"),
        (["0: person", "0: chair"], "the number 0 twice"),
        (["person", ""], "class_names"),
        (["x" * 200], "200 characters"),
    ],
)
def test_a_table_of_class_names_that_cannot_be_used_is_refused(entries, said):
    with pytest.raises(BadParameterError, match=said) as error:
        module.class_names_of(entries)
    assert "\n" not in str(error.value)


def test_numbers_get_their_names_and_those_without_one_are_left_out():
    names = module.class_names_of(COCO)
    objects, problem = objects_of(found(thing("56"), thing("+0", 0.8), thing("3", 0.7)), 0.5, 64, 48, names)
    assert [o.name for o in objects] == ["chair", "person"]
    assert problem == (
        "a detection was left out: class_id '3' is none of the 3 numbers that have names (0 to 60); see class_names"
    )


def test_label_info_names_numbers_where_the_parameter_does_not():
    matcher = DetectionMatcher()
    entries = [SimpleNamespace(class_id=2, class_name="car"), SimpleNamespace(class_id=7, class_name="truck")]
    matcher.add_label_info(SimpleNamespace(class_map=entries, threshold=0.5))
    assert [o.name for o in matcher.objects_in(found(thing("7")), 64, 48)] == ["truck"]
    matcher.class_names = module.class_names_of(["7: lorry"])
    assert [o.name for o in matcher.objects_in(found(thing("7"), thing("2")), 64, 48)] == ["lorry"]
    assert "class_id '2'" in matcher.problem


@pytest.fixture(params=["handed over", pytest.param("over DDS", marks=needs_messages)])
def detector(request, graph, monkeypatch):
    """Makes the function that gives detections to a node: without vision_msgs, past DDS."""
    if request.param == "handed over":
        monkeypatch.setattr(module, "Detection2DArray", object())
        monkeypatch.setattr("proxqa_ros.proximity.node.Detection2DArray", None)
        return lambda node: node.pipeline.on_detections

    def make(node):
        publisher = graph.client.create_publisher(module.Detection2DArray, "detections", QoSProfile(depth=10))
        assert wait_until(lambda: publisher.get_subscription_count() > 0)

        def give(message):
            before = node.shared.detections.received
            publisher.publish(real(message))
            assert wait_until(lambda: node.shared.detections.received == before + 1)

        return give

    return make


def test_detections_replace_the_objects_of_the_stream_and_images_wait_for_them(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True, detection_min_score=0.3, objects=["cup"])
    detect, camera = detector(node), graph.camera()
    images = [graph.image() for _ in range(3)]
    for n, message in enumerate(images, 1):
        message.header.stamp.nanosec, message.header.stamp.sec = n, message.header.stamp.sec - 1
        camera.publish(message)
        assert wait_until(lambda n=n: node.shared.detections.images == n)
    said = graph.diagnostic(level=b"\x01", detections_matched="0", frames_received="0")["message"]
    assert "no detections" in said and not graph.depths and fake.looks == 0  # the worker has not got any of them
    detect(found(thing("dog", 0.35), thing("hat", 0.2), of=images[1].header))
    assert wait_until(lambda: graph.depths)
    (o,) = graph.depths[0].objects
    assert graph.depths[0].header == images[1].header and o.name == "dog"
    assert (o.region.x_offset, o.region.y_offset, o.region.width, o.region.height) == (24, 20, 16, 8)
    detect(found(of=images[2].header))  # nothing was detected: said so, without asking the model
    assert wait_until(lambda: len(graph.depths) == 2)
    assert graph.depths[1].header == images[2].header and list(graph.depths[1].objects) == [] and fake.looks == 1
    graph.diagnostic(detections_received="2", detections_matched="2", frames_answered="2", frames_received="2")


def test_a_detector_of_numbers_is_understood_by_a_table_that_may_change_at_run_time(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True, class_names=list(COCO))
    detect, camera = detector(node), graph.camera()

    def names_of(*things):
        before, message = len(graph.depths), graph.image()
        camera.publish(message)
        assert wait_until(lambda: node.shared.detections.images == before + 1)
        detect(found(*things, of=Header(stamp=message.header.stamp)))  # detectors leave frame_id empty
        assert wait_until(lambda: len(graph.depths) == before + 1)
        return [o.name for o in graph.depths[-1].objects]

    assert names_of(thing("56")) == ["chair"]
    assert node.set_parameters([Parameter("class_names", value=["cat", "dog"])])[0].successful
    assert names_of(thing("1")) == ["dog"]
    refused = node.set_parameters([Parameter("class_names", value=["0: cat", "dog"])])[0]
    assert not refused.successful and "numbered names" in refused.reason


def test_a_question_does_not_wait_for_detections_and_its_image_is_encoded_once(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True, objects=["cup"])
    detect, camera = detector(node), graph.camera()
    message = graph.image()
    camera.publish(message)
    assert wait_until(lambda: node.shared.detections.images == 1)
    for _ in range(2):
        answer = graph.query()
        assert answer.success and [o.name for o in answer.objects] == ["cup"]
        assert answer.image_stamp == message.header.stamp
    assert fake.looks == 1 and not graph.depths
    detect(found(thing("dog"), of=message.header))
    assert wait_until(lambda: graph.depths) and graph.depths[0].objects[0].name == "dog" and fake.looks == 1
    counts = node.shared.worker.counts()
    assert (counts.received, counts.answered, counts.published) == (1, 1, 1)


def test_a_question_without_objects_is_about_what_was_detected(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True, objects=["cup"], detection_min_score=0.3)
    detect, camera = detector(node), graph.camera()
    message = graph.image()
    camera.publish(message)
    assert wait_until(lambda: node.shared.detections.images == 1)
    detect(found(thing("dog", 0.35), thing("hat", 0.2), of=message.header))
    assert wait_until(lambda: graph.depths)
    camera.publish(graph.image())  # its detections have not come yet
    assert wait_until(lambda: node.shared.detections.images == 2)
    answer = graph.query()
    assert answer.success and [o.name for o in answer.objects] == ["dog"]
    assert answer.image_stamp == message.header.stamp
    assert [o.name for o in graph.query(objects=["cup"]).objects] == ["cup"]  # what is named stays named


def test_an_image_in_hand_is_not_counted_again_and_keeps_its_objects(graph, fake, detector):
    """A question may offer an image at the very moment in which its detections come."""
    node = graph.start(lambda *_: fake, use_detections=True)
    detect, camera = detector(node), graph.camera()
    fake.gate.clear()
    first, message = graph.image(), graph.image()
    for n, m in enumerate((first, message), 1):
        camera.publish(m)
        assert wait_until(lambda n=n: node.shared.detections.images == n)
        came = node.shared.detections.newest_image()
        detect(found(thing("dog"), of=m.header))
        assert wait_until(lambda n=n: node.shared.worker.counts().received == n)
        assert wait_until(lambda: fake.looks == 1)  # the first is held inside the engine
    node.shared.worker.push_frame(came)
    fake.gate.set()
    assert wait_until(lambda: len(graph.depths) == 2) and graph.depths[1].header == message.header
    node.shared.worker.push_frame(came)
    graph.diagnostic(frames_received="2", frames_answered="2", frames_dropped="0")
    assert len(graph.depths) == 2 and fake.looks == 2


def test_detections_that_stop_coming_are_said(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True, max_image_age=1.0)
    detect, camera = detector(node), graph.camera()
    stamp = graph.now()
    stamp.sec -= 2
    message = graph.image(stamp=stamp)
    camera.publish(message)
    assert wait_until(lambda: node.shared.detections.images == 1)
    detect(found(thing("dog"), of=message.header))
    assert wait_until(lambda: graph.depths)
    camera.publish(graph.image())  # new ones come, but they have none
    assert wait_until(lambda: node.shared.detections.images == 2)
    assert graph.diagnostic(level=b"\x01")["message"].startswith("the newest image with detections is ")
    assert graph.query(objects=["cup"]).success


def test_detections_can_be_switched_on_and_off(graph, fake, detector):
    node = graph.start(lambda *_: fake, objects=["cup"])
    detect, camera = detector(node), graph.camera()
    camera.publish(graph.image())
    assert wait_until(lambda: graph.depths) and graph.depths[0].objects[0].name == "cup"
    assert node.set_parameters([Parameter("use_detections", value=True)])[0].successful
    message = graph.image()
    camera.publish(message)
    assert wait_until(lambda: node.shared.detections.images == 1)
    detect(found(thing("17"), thing("dog", 0.8), thing("hat", 0.6), of=message.header))
    assert wait_until(lambda: len(graph.depths) == 2)
    assert [o.name for o in graph.depths[1].objects] == ["dog", "hat"]
    assert "class_id '17' is a number" in graph.diagnostic(level=b"\x01")["message"]
    assert node.set_parameters([Parameter("detection_min_score", value=0.7)])[0].successful
    message = graph.image()
    camera.publish(message)
    assert wait_until(lambda: node.shared.detections.images == 2)
    detect(found(thing("dog", 0.8), thing("hat", 0.6), of=message.header))
    assert wait_until(lambda: len(graph.depths) == 3) and [o.name for o in graph.depths[2].objects] == ["dog"]
    for value in (-0.1, 1.1, math.nan):
        assert not node.set_parameters([Parameter("detection_min_score", value=value)])[0].successful
    assert node.set_parameters([Parameter("use_detections", value=False)])[0].successful
    camera.publish(graph.image())
    assert wait_until(lambda: len(graph.depths) == 4) and graph.depths[3].objects[0].name == "cup"
    graph.diagnostic(level=b"\x00")


def test_a_bad_image_that_has_detections_is_counted_and_the_node_lives(graph, fake, detector):
    node = graph.start(lambda *_: fake, use_detections=True)
    detect, camera = detector(node), graph.camera()
    for n, encoding in enumerate(("rgb8", "64FC9", "rgb8"), 1):
        message = graph.image()
        message.encoding = encoding
        camera.publish(message)
        if encoding == "rgb8":
            assert wait_until(lambda n=n: node.shared.detections.images == (n + 1) // 2)
            detect(found(thing(), of=message.header))
        else:
            graph.diagnostic(frames_bad="1")
            detect(found(thing(), of=message.header))
    assert wait_until(lambda: len(graph.depths) == 2)
    counts = node.shared.worker.counts()
    assert counts.received == counts.answered + counts.bad == 3


def test_without_vision_msgs_it_is_said(graph, fake, monkeypatch):
    monkeypatch.setattr(module, "Detection2DArray", None)
    monkeypatch.setattr("proxqa_ros.proximity.node.Detection2DArray", None)
    node = graph.start(lambda *_: fake)
    result = node.set_parameters([Parameter("use_detections", value=True)])[0]
    assert not result.successful and "vision_msgs is not installed" in result.reason
    graph.camera().publish(graph.image())
    assert wait_until(lambda: graph.depths)
    assert "vision_msgs is not installed" in graph.diagnostic(level=b"\x00", frames_answered="1")["detections"]
    assert "/detections" not in dict(graph.client.get_topic_names_and_types())


def test_without_vision_msgs_a_node_that_needs_it_does_not_configure(graph, fake, monkeypatch):
    monkeypatch.setattr(module, "Detection2DArray", None)
    node = graph.start(lambda *_: fake, autostart=False, use_detections=True)
    node.trigger_configure()
    assert node.state == "unconfigured"
    assert "use_detections" in graph.diagnostic(level=b"\x02")["message"]


def test_without_the_package_the_module_can_be_imported(monkeypatch):
    """As on a machine that has only what is required."""
    monkeypatch.setattr(proxqa_ros.proximity, "detections", module)  # which the import below replaces
    monkeypatch.setitem(sys.modules, "vision_msgs", None)
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    monkeypatch.delitem(sys.modules, "proxqa_ros.proximity.detections")
    import proxqa_ros.proximity.detections as without

    assert without.Detection2DArray is None and without.objects_of(found(thing()), 0.5, 64, 48)[0]
