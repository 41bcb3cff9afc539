"""Which answer belongs to which sent frame, and the figures while a run lasts."""

from __future__ import annotations

import math

from proxqa_core.evaluation.replay_metrics import FrameMatcher, ReceivedAnswer, RunningMetrics, SentFrame
from proxqa_core.evaluation.sequence import Answer, TrueObject
from proxqa_core.types import ObjectDepth

CHAIR = ObjectDepth("chair", 0.2, 0.1, 0.9, "")
TABLE = ObjectDepth("table", 0.6, 0.1, 0.9, "")


def test_answers_find_their_frames_over_loops() -> None:
    matcher = FrameMatcher()
    first, second, again = SentFrame(0, 100, 0, 1.0), SentFrame(1, 200, 0, 2.0), SentFrame(0, 100, 1, 3.0)
    matcher.add_frame(first)
    matcher.add_frame(second)
    matcher.add_answer(100, [CHAIR], "m", 2.5)  # late, but of the first frame
    assert matcher.take() == [ReceivedAnswer(first, (CHAIR,), 1.5)] and not matcher.last_is_answered()
    matcher.add_frame(again)
    matcher.add_answer(200, [TABLE], "m", 3.5)  # of the loop before: the clock has jumped back meanwhile
    matcher.add_answer(100, [CHAIR], "m2", 3.75)
    assert matcher.take() == [ReceivedAnswer(second, (TABLE,), 1.5), ReceivedAnswer(again, (CHAIR,), 0.75)]
    assert matcher.last_is_answered() and matcher.unmatched == 0 and matcher.model == "m2"
    assert matcher.take() == []


def test_a_frame_sent_again_gets_one_answer() -> None:
    matcher = FrameMatcher()
    for i in range(2):
        matcher.add_frame(SentFrame(0, 100, i, float(i)))
    matcher.add_answer(100, [CHAIR], "m", 1.5)
    matcher.add_answer(100, [CHAIR], "m", 1.6)
    matcher.add_answer(999, [CHAIR], "m", 1.7)
    assert [a.frame.pass_number for a in matcher.take()] == [1] and matcher.unmatched == 2


def test_nothing_sent_nothing_open() -> None:
    assert FrameMatcher().last_is_answered()


def test_running_figures() -> None:
    running = RunningMetrics()
    assert running.answered == 0 and all(math.isnan(v) for v in (running.mae, running.pair_accuracy, running.latency))
    right = (TrueObject(0.3, 1.0), TrueObject(0.6, 2.0))
    wrong = (TrueObject(0.6, 2.0), TrueObject(0.6, 1.0))
    for truth in (right, wrong, (None, TrueObject(math.nan, 1.0))):
        running.add(Answer(0, 0, 48, (CHAIR, TABLE), truth, 0.25, 0.25))
    found = running.figures()
    assert math.isclose(found.pop("mae"), 0.125)
    assert found == {"frames_answered": 3, "pair_accuracy": 0.5, "latency": 0.25}
