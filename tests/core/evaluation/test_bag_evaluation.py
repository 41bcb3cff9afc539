"""Asking a model about a bag: figures, steadiness, frames that are bad, the page, the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxqa_core.evaluation.bag_html import error_of, frames_to_show, render, stamps_to_show
from proxqa_core.evaluation.bag_runner import Selection, evaluate_bag, pictures
from proxqa_core.evaluation.bag_truth import DepthTruth, NoTruth, queries_of, truth_of
from proxqa_core.evaluation.html import Provenance
from proxqa_core.evaluation.sequence import LABELS, NO_TRUTH, Answer, Run, TrueObject, report, temporal
from proxqa_core.rosbags.bag import BadBagError, Bag
from proxqa_core.types import Box, ObjectDepth, ObjectQuery
from tests import made_bag as made
from tests.core.fake_engine import BatchEncodedImage, FakeEncodedImage, FakeEngine

RIGHT = {"chair": 0.1, "table": 0.6, "lamp": 0.8}
WRONG = {"chair": 0.9, "table": 0.5, "lamp": 0.1}


class PointingView(FakeEncodedImage):
    """Finds things where they are."""

    def _depth(self, query: ObjectQuery) -> ObjectDepth:
        found = super()._depth(query)
        x, y, width, height = made.REGIONS[query.name]
        return ObjectDepth(
            found.name, found.depth, 0.05, found.score, "", query.box, found_at=Box(x, y, x + width, y + height)
        )


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return made.write(tmp_path / "drive", made.drive())


def run_on(
    path: Path, engine: FakeEngine, names: str = "", depth: str = "", prompt: str = "name", **selection: Any
) -> Run:
    with Bag(path) as bag:
        topic = bag.image_topic()
        truth = truth_of(bag, "", depth, 0.05, topic)
        queries = queries_of(bag, truth, [ObjectQuery(n) for n in names.split(",") if n])
        return evaluate_bag(engine, bag, topic, truth, queries, Selection(**selection), prompt)


def test_a_model_that_knows(drive: Path) -> None:
    engine = FakeEngine(RIGHT, BatchEncodedImage)
    found = report(run_on(drive, engine))
    assert (found["images"], found["pairs"], found["pair_accuracy"], found["objects"]) == (6, 18, 1.0, 18)
    assert found["mae"] == pytest.approx(0, abs=1e-6) and found["valid_rate"] == 1.0
    assert found["ece"] == pytest.approx(0.1)  # 90 % sure and always right
    assert found["frames"] | {"drop_rate": 0} == {
        "in_source": 6, "asked": 6, "answered": 6, "bad": 0, "dropped": 0, "drop_rate": 0, "passes": 1,
        "bad_reasons": [],
    }  # fmt: skip
    assert found["truth"] == {"kind": LABELS, "topic": made.TRUTH, "frames": 6, "problem": ""}
    assert found["latency_seconds"]["p50"] <= found["latency_seconds"]["p95"] <= found["seconds_per_image"] * 6
    # One call for all objects of an image, one for all its pairs.
    assert engine.calls == [("depths", 3), ("closer_many", 3)] * 6
    json.dumps(found, allow_nan=True)


def test_a_model_that_has_it_backwards(drive: Path) -> None:
    found = report(run_on(drive, FakeEngine(WRONG)))
    assert found["pair_accuracy"] == 0.0 == found["pair_accuracy_from_depths"]
    assert found["by_object"]["lamp"]["mae"] == pytest.approx(0.7)


def test_the_keys_of_eval_are_there(drive: Path, labelled: Path) -> None:
    from proxqa_core.evaluation.runner import evaluate

    known = evaluate(FakeEngine(RIGHT), labelled, progress=False)
    assert set(known) < set(report(run_on(drive, FakeEngine(RIGHT))))


def test_the_same_run_twice_gives_the_same(drive: Path) -> None:
    runs = [run_on(drive, FakeEngine(RIGHT)) for _ in range(2)]
    answers = [[(a.stamp, a.objects, a.truth, a.compared) for a in r.answers] for r in runs]
    assert answers[0] == answers[1]


def test_judged_by_depth_images(drive: Path) -> None:
    run = run_on(drive, FakeEngine(RIGHT, PointingView), "chair,table,lamp", made.DEPTHS)
    found = report(run)
    assert found["truth"]["frames"] == 3 and found["objects"] == 18 and found["objects_with_truth"] == 9
    assert found["pairs"] == 9 and found["pair_accuracy"] == 1.0
    assert "not whether the right thing was found" in found["notes"]["truth"]
    assert found["not_labelled"] is None


def test_by_box_only_what_is_labelled_is_asked(tmp_path: Path) -> None:
    path = made.write(
        tmp_path / "bag", made.drive(4, [{"chair": (0.1, 1.0), "table": (0.6, 2.0)}, {"lamp": (0.8, 3.0)}])
    )
    engine = FakeEngine(RIGHT)
    run = run_on(path, engine, prompt="box")
    assert [[o.name for o in a.objects] for a in run.answers] == [["chair", "table"], ["lamp"]] * 2
    assert run.answers[1].objects[0].box == Box(44, 2, 60, 26)
    with pytest.raises(BadBagError, match="needs a topic of true depths"):
        run_on(path, engine, "chair", made.DEPTHS, "box")


def test_what_is_not_labelled_is_told_apart(tmp_path: Path) -> None:
    path = made.write(
        tmp_path / "bag", made.drive(4, [{"chair": (0.1, 1.0), "table": (0.6, 2.0)}, {"lamp": (0.8, 3.0)}])
    )
    found = report(run_on(path, FakeEngine({"chair": 0.1, "table": 0.6})))
    assert found["objects"] == 6 and found["valid_rate"] == pytest.approx(4 / 6)  # the lamp is never seen
    assert found["not_labelled"] == {"asked": 6, "said_in_view": pytest.approx(4 / 6)}


def test_bad_frames_are_counted_and_passed_over(tmp_path: Path) -> None:
    messages: list[Any] = made.drive(4)
    stamps = [made.START + (10 + i) * made.PERIOD for i in range(8)]
    messages.append((made.IMAGES, stamps[0], made.raw(stamps[0], encoding="nonsense")))
    messages += [(made.IMAGES, s, "sensor_msgs/msg/Image", b"\0\1\0\0" + bytes(40)) for s in stamps[1:]]
    messages.append((made.IMAGES, stamps[7] + 1, made.raw(stamps[7] + 1)))
    found = report(run_on(made.write(tmp_path / "bag", messages), FakeEngine(RIGHT)))
    frames = found["frames"]
    assert (frames["asked"], frames["answered"], frames["bad"], frames["dropped"]) == (13, 5, 8, 0)
    assert len(frames["bad_reasons"]) == 5 and "'nonsense'" in frames["bad_reasons"][0]
    assert found["truth"]["frames"] == 4


def test_nothing_but_bad_frames_is_an_error(tmp_path: Path) -> None:
    path = made.write(tmp_path / "bag", [(made.IMAGES, 5, made.raw(5, encoding="nonsense"))])
    with Bag(path) as bag, pytest.raises(BadBagError, match=r"none of 1 images .* can be read, the first: .*nonsense"):
        evaluate_bag(FakeEngine({}), bag, bag.image_topic(), truth_of(bag, "", "", 0.1), [ObjectQuery("chair")])


@pytest.mark.parametrize(
    ("selection", "frames"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"every_images": 2}, [0, 2, 4]),
        ({"every_images": 4}, [0, 4]),
        ({"every_images": 2, "limit": 2}, [0, 2]),
        ({"rate": 5.0}, [0, 2, 4]),
        ({"rate": 4.0}, [0, 3, 5]),
        ({"rate": 100.0}, [0, 1, 2, 3, 4, 5]),
        ({"every_seconds": 0.2}, [0, 2, 4]),
        ({"every_seconds": 0.25}, [0, 3]),
        ({"limit": 1}, [0]),
        ({"seconds": 0.25}, [0, 1, 2]),
    ],
)
def test_selection(drive: Path, selection: dict[str, Any], frames: list[int]) -> None:
    run = run_on(drive, FakeEngine(RIGHT), **selection)
    assert run.stamps == [made.START + i * made.PERIOD for i in frames]
    assert run.sent == run.wanted == len(frames)


@pytest.mark.parametrize(
    "bad",
    [
        {"every_images": 0},
        {"rate": 0.0},
        {"rate": math.nan},
        {"limit": 0},
        {"seconds": -1.0},
        {"every_seconds": -1.0},
    ],
)
def test_a_selection_that_makes_no_sense(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(ValueError, match=rf"{name} is {bad[name]}"):
        Selection(**bad)


# -- from frame to frame ----------------------------------------------------------------------------------------------


def answer(
    i: int, depths: dict[str, float], truth: dict[str, tuple[float, float]] | None = None, **fields: Any
) -> Answer:
    objects = tuple(ObjectDepth(n, d, 0.1, 0.9 if d <= 1 else 0.1, "") for n, d in depths.items())
    true = tuple(None if truth is None or n not in truth else TrueObject(*truth[n]) for n in depths)
    return Answer(i, fields.pop("stamp", i * made.PERIOD), 48, objects, true, 0.1, 0.2, **fields)


def run_of(*answers: Answer, kind: str = LABELS) -> Run:
    return Run("bag", "/image", kind, answers=list(answers), stamps=[a.stamp for a in answers], sent=len(answers))


STILL = {"a": (0.2, 1.0), "b": (0.6, 2.0)}


def test_steady_and_shaky_answers() -> None:
    shaky = run_of(
        answer(0, {"a": 0.2, "b": 0.6}, STILL),
        answer(1, {"a": 0.7, "b": 0.6}, STILL),
        answer(2, {"a": 0.7, "b": 0.6}, STILL),
    )
    found = temporal(shaky)
    assert (found["steps"], found["pair_steps"]) == (4, 2)
    assert found["depth_change"] == pytest.approx(0.5 / 4) == found["jitter"]
    assert found["flip_rate"] == 0.5


def test_a_change_that_is_true_is_no_unsteadiness() -> None:
    moved = {"a": (0.8, 3.0), "b": (0.6, 2.0)}
    found = temporal(run_of(answer(0, {"a": 0.2, "b": 0.6}, STILL), answer(1, {"a": 0.8, "b": 0.6}, moved)))
    assert (found["steps"], found["depth_change"], found["pair_steps"]) == (1, 0.0, 0)
    assert found["jitter"] == pytest.approx(0) and math.isnan(found["flip_rate"])


def test_without_truth_every_step_counts() -> None:
    found = temporal(run_of(answer(0, {"a": 0.2, "b": 0.6}), answer(1, {"a": 0.7, "b": 0.6}), kind=NO_TRUTH))
    assert (found["steps"], found["depth_change"], found["flip_rate"]) == (2, pytest.approx(0.25), 1.0)
    assert math.isnan(found["jitter"]) and found["basis"] == "all steps"


def test_only_frames_that_follow_one_another_are_compared() -> None:
    a, b = {"a": 0.2}, {"a": 0.9}
    apart = run_of(answer(0, a, STILL), answer(1, b, STILL, stamp=10**10))
    backwards = run_of(answer(0, a, STILL, stamp=10**9), answer(1, b, STILL, stamp=10**8))
    passes = run_of(answer(0, a, STILL), answer(1, b, STILL, pass_number=1))
    unseen = run_of(answer(0, a, STILL), answer(1, {"a": 2.0}, STILL))
    assert [temporal(run)["steps"] for run in (apart, backwards, passes, unseen)] == [0] * 4


def test_pairs_that_were_not_asked_about_go_by_their_depths() -> None:
    found = report(run_of(answer(0, {"a": 0.2, "b": 0.6}, STILL), answer(1, {"a": 0.6, "b": 0.6}, STILL)))
    assert found["pairs"] == 2 and found["pair_accuracy"] == 0.5 and found["pair_accuracy_from_depths"] == 0.75
    assert "by the order of the two depths" in found["notes"]["pair_accuracy"]
    # No region is known anywhere: nothing for rules that go by boxes.
    assert math.isnan(found["baselines"]["lower_edge"]) and math.isnan(found["baselines"]["lower_edge_line_mae"])


def test_metres_are_judged_where_there_are_some() -> None:
    one = answer(0, {"a": 0.2, "b": 0.6}, STILL)
    metric = ObjectDepth("a", 0.2, 0.1, 0.9, "", distance=1.5, distance_stddev=0.6)
    far = Answer(0, 0, 48, (metric, one.objects[1]), one.truth, 0.1, 0.1)
    assert report(run_of(far))["distance"] == {
        "objects": 1, "mae_m": 0.5, "relative_error": 0.5, "median_relative_error": 0.5, "within_sigma": 1.0
    }  # fmt: skip
    assert report(run_of(one))["distance"] is None


def test_frames_without_an_answer_are_dropped() -> None:
    run = run_of(answer(0, {"a": 0.2}, STILL))
    run.sent, run.bad = 10, 3
    frames = report(run)["frames"]
    assert frames["dropped"] == 6 and frames["drop_rate"] == 0.6


# -- the page ---------------------------------------------------------------------------------------------------------


def page_of(path: Path, engine: FakeEngine, **choices: Any) -> tuple[Run, str]:
    run = run_on(path, engine, **choices)
    with Bag(path) as bag:
        return run, render(report(run), run, pictures(bag, bag.image_topic(), stamps_to_show(run)))


def test_page_is_whole_and_escaped(drive: Path) -> None:
    _, page = page_of(drive, FakeEngine(WRONG))
    assert "fake &lt;model&gt;" in page and "<model>" not in page
    assert page.count("data:image/jpeg;base64,") == 6 and "Best frames" in page and "Worst frames" in page
    assert not re.search(r"https?://|<script|src=\"(?!data:)", page)
    assert page.count('over time"') == 3 and page.rstrip().endswith("</html>")


def test_page_has_axes_a_column_for_each_rule_and_what_made_it(drive: Path) -> None:
    run = run_on(drive, FakeEngine(WRONG))
    page = render(report(run), run, {}, Provenance("proxqa eval-bag '<b>'", "1.2.3", "2026-01-01"))
    assert page.count("seconds since the first image") == page.count("depth (0 near, 1 far)") == 3
    assert re.search(r"<th class=n>lower edge</th><th class=n>larger box</th><th class=n>constant</th>", page)
    assert all(f"<dt>{rule}</dt>" in page for rule in ("lower edge", "larger box", "constant"))
    assert "proxqa eval-bag &#x27;&lt;b&gt;&#x27;</code>, version 1.2.3, 2026-01-01" in page


def test_of_what_is_not_seen_the_page_gives_no_depth() -> None:
    run = run_of(answer(0, {"a": 0.25, "b": 1.5}, STILL))
    page = render(report(run), run, {})
    assert "a 0.25, true 0.20; b not seen, true 0.60" in page and "1.50" not in page


def test_best_and_worst_are_shown() -> None:
    truth = {"a": (0.5, 1.0)}
    errors = [0.3, 0.1, 0.0, 0.4, 0.2, 0.25, 0.35]
    run = run_of(*(answer(i, {"a": 0.5 + e}, truth) for i, e in enumerate(errors)), answer(7, {"a": 0.1}))
    (_, best), (_, worst) = frames_to_show(run)
    assert [a.image for a in best] == [2, 1, 4] and [a.image for a in worst] == [3, 6, 0]
    assert error_of(worst[0]) == pytest.approx(0.4)
    (_, only), (_, none) = frames_to_show(run_of(answer(0, {"a": 0.5}, truth)))
    assert len(only) == 1 and none == []
    ((title, some),) = frames_to_show(run_of(*(answer(i, {"a": 0.1}) for i in range(9)), kind=NO_TRUTH))
    assert title == "Some frames" and [a.image for a in some] == [0, 4, 8]


def test_page_without_pictures_and_of_large_images(drive: Path) -> None:
    run = run_on(drive, FakeEngine(RIGHT))
    assert render(report(run), run, {}).count("no picture") == 6
    large = {stamp: np.zeros((1200, 1600, 3), np.uint8) for stamp in stamps_to_show(run)}
    assert len(render(report(run), run, large)) < 1_000_000


# -- what belongs to an image ------------------------------------------------------------------------------------------

NEAR, FAR = {"chair": 1.0, "table": 2.0, "lamp": 3.0}, {"chair": 3.0, "table": 2.0, "lamp": 1.0}


def rgbd(path: Path, stamps: list[int], depth_stamps: list[int], keep: slice = slice(None)) -> Path:
    """Images recorded every 0.1 s, each with its own depth 1 ms later, near and far in turn; whatever their stamps."""
    messages: list[made.Message] = []
    depths: list[made.Message] = []
    for i, (stamp, other) in enumerate(zip(stamps, depth_stamps, strict=True)):
        time = made.START + i * made.PERIOD
        messages.append((made.IMAGES, time, made.raw(stamp, made.picture(i))))
        depth = made.depth_map(FAR if i % 2 else NEAR)
        depths.append((made.DEPTHS, time + 10**6, made.raw(other, depth, "32FC1")))
    return made.write(path, messages + depths[keep])


TRUE = [made.START + i * made.PERIOD for i in range(4)]


@pytest.mark.parametrize(
    ("stamps", "depth_stamps"),
    [
        (TRUE, TRUE),
        ([0] * 4, [0] * 4),
        (TRUE, [0] * 4),
        ([0] * 4, TRUE),
        ([7] * 4, [7] * 4),
        ([5, 5, 5, 9], [5, 5, 5, 9]),
        ([0, 0, *TRUE[2:]], [0, 0, *TRUE[2:]]),
        (TRUE[:2] * 2, TRUE[:2] * 2),
    ],
)
@pytest.mark.parametrize("dropped", [None, 1])
def test_every_image_is_judged_by_its_own_depth(
    tmp_path: Path, stamps: list[int], depth_stamps: list[int], dropped: int | None
) -> None:
    bag = rgbd(tmp_path / "bag", stamps, depth_stamps)
    if dropped is not None:  # the depth of the first image is missing: nobody else's is taken
        bag = rgbd(tmp_path / "dropped", stamps, depth_stamps, slice(dropped, None))
    run = run_on(bag, FakeEngine(RIGHT, PointingView), "chair,lamp", made.DEPTHS)
    metres = [None if a.truth[0] is None else a.truth[0].distance for a in run.answers]
    assert metres == [None if dropped else 1.0, 3.0, 1.0, 3.0]


def test_the_stamp_of_an_image_tells_when_it_was_recorded(tmp_path: Path) -> None:
    """As in a replay, whose answers carry stamps only: those of another clock, while the depth has none."""
    with Bag(rgbd(tmp_path / "bag", [10, 20, 30, 40], [0] * 4)) as bag:
        truth = truth_of(bag, None, made.DEPTHS, 0.05, bag.image_topic())
        place = [PointingView(FakeEngine(RIGHT)).depths([ObjectQuery("chair")])[0]]
        found = [truth.of(stamp, made.WIDTH, made.HEIGHT, place)[0] for stamp in (10, 20, 30, 40, 50)]
    assert [None if t is None else t.distance for t in found] == [1.0, 3.0, 1.0, 3.0, None]


def test_the_only_depth_topic_judges_where_nothing_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Bag(rgbd(tmp_path / "bag", TRUE, TRUE)) as bag:
        images, (depth,) = bag.image_topic(), bag.depth_topics()
        assert isinstance(truth_of(bag, "", "", 0.05, images), DepthTruth)
        assert isinstance(truth_of(bag, "", "", 0.05, images, shown=depth), NoTruth)  # the model has seen it
        assert isinstance(truth_of(bag, None, "", 0.05, images), NoTruth)
    with Bag(framed(tmp_path / "other", "camera", "lidar")) as bag:
        assert isinstance(truth_of(bag, "", "", 0.05, bag.image_topic()), NoTruth)
    assert "are not used: " in caplog.text and "lidar" in caplog.text


def test_the_pages_pictures_are_their_own(tmp_path: Path) -> None:
    with Bag(rgbd(tmp_path / "bag", [0] * 4, [0] * 4)) as bag:
        topic = bag.image_topic()
        run = evaluate_bag(FakeEngine(RIGHT), bag, topic, truth_of(bag, None, "", 0.05), [ObjectQuery("chair")])
        assert run.stamps == TRUE
        shown = pictures(bag, topic, run.stamps)
    assert [np.array_equal(shown[stamp], made.picture(i)) for i, stamp in enumerate(TRUE)] == [True] * 4


def test_that_stamps_say_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_on(rgbd(tmp_path / "bag", TRUE, [0] * 4), FakeEngine(RIGHT, PointingView), "chair", made.DEPTHS)
    assert "the stamps of /camera/depth are 0 or repeat" in caplog.text and "/camera/image_raw" not in caplog.text
    path = made.write(tmp_path / "same", [(made.DEPTHS, 5, made.raw(0, made.depth_map(NEAR), "32FC1"))] * 4)
    with Bag(path) as bag, pytest.raises(BadBagError, match=r"neither the stamps of .* nor the times of recording"):
        truth_of(bag, None, made.DEPTHS, 0.05)


def framed(path: Path, *frames: str) -> Path:
    """An image of each frame with depth of the frame that follows it."""
    messages: list[made.Message] = []
    for i, (frame, other) in enumerate(zip(frames[::2], frames[1::2], strict=True)):
        image, depth = made.raw(TRUE[i]), made.raw(TRUE[i], made.depth_map(NEAR), "32FC1")
        image.header.frame_id, depth.header.frame_id = frame, other
        messages += [(made.IMAGES, TRUE[i], image), (made.DEPTHS, TRUE[i], depth)]
    return made.write(path, messages)


def judged(path: Path) -> Run:
    with Bag(path) as bag:
        topic = bag.image_topic()
        truth = truth_of(bag, None, made.DEPTHS, 0.05, topic)
        return evaluate_bag(FakeEngine(RIGHT, PointingView), bag, topic, truth, [ObjectQuery("chair")])


def test_depth_of_another_frame_is_refused(tmp_path: Path) -> None:
    for i, (frame, other) in enumerate([("color", "depth"), ("color", ""), ("", "depth"), ("color", "//color")]):
        with pytest.raises(BadBagError, match=f"are in frame '{other}', the images in '{frame}'"):
            judged(framed(tmp_path / str(i), frame, other))


@pytest.mark.parametrize("frames", [("color", "/color"), ("/color", "color"), ("", ""), ("/a", "/a")])
def test_a_leading_slash_is_no_other_frame(tmp_path: Path, frames: tuple[str, str]) -> None:
    assert [a.truth[0] is not None for a in judged(framed(tmp_path / "bag", *frames)).answers] == [True]


def test_one_depth_image_of_another_frame_is_no_truth(tmp_path: Path) -> None:
    run = judged(framed(tmp_path / "bag", "color", "color", "color", "depth"))
    assert [a.truth[0] is not None for a in run.answers] == [True, False]
    assert "are in frame 'depth', the images in 'color'" in run.truth_problem


def test_stamps_that_never_meet_are_said(tmp_path: Path) -> None:
    late = [stamp + 10 * 10**9 for stamp in TRUE]
    run = run_on(rgbd(tmp_path / "bag", TRUE, late), FakeEngine(RIGHT, PointingView), "chair", made.DEPTHS)
    assert {a.truth for a in run.answers} == {(None,)}
    assert (
        "no image so far has a depth image within 0.05 s: the nearest to stamp 1000300000000 is 9.7 s"
        in run.truth_problem
    )
    messages: list[made.Message] = [(made.IMAGES, s, made.raw(s)) for s in TRUE]
    messages += [(made.TRUTH, s, made.truth(s + 1, {"chair": (0.1, 1.0)})) for s in TRUE]
    run = run_on(made.write(tmp_path / "labels", messages), FakeEngine(RIGHT), "chair")
    assert "no image so far has labels of its stamp" in run.truth_problem


def test_labels_of_one_name_are_no_truth_and_that_is_said(tmp_path: Path) -> None:
    twice = made.truth(TRUE[0], {"chair": (0.1, 1.0)})
    twice.objects = twice.objects * 2
    run = run_on(
        made.write(tmp_path / "bag", [(made.IMAGES, TRUE[0], made.raw(TRUE[0])), (made.TRUTH, TRUE[0], twice)]),
        FakeEngine(RIGHT),
        "chair",
    )
    assert run.answers[0].truth == (None,)
    assert run.truth_problem == "labels hold 2 objects called 'chair'; expected a name of its own for each"


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0" + b"\xff" * 80])
def test_one_bad_image_of_a_bag_is_counted(tmp_path: Path, data: bytes) -> None:
    messages: list[Any] = [(made.IMAGES, s, made.raw(s)) for s in TRUE]
    messages[0] = (made.IMAGES, TRUE[0], "sensor_msgs/msg/Image", data)
    path = made.write(tmp_path / "bag", messages)
    found = report(run_on(path, FakeEngine(RIGHT), "chair"))
    assert (found["frames"]["bad"], found["frames"]["answered"], found["bad_images"]["count"]) == (1, 3, 1)
