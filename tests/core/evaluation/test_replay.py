"""Which answer belongs to which showing of a frame, and the figures while it lasts."""

from __future__ import annotations

import math

from proxqa_core.evaluation.replay import Matching, ReceivedAnswer, Running, SentFrame
from proxqa_core.evaluation.sequence import Answer, TrueObject
from proxqa_core.types import ObjectDepth

CHAIR = ObjectDepth("chair", 0.2, 0.1, 0.9, "")
TABLE = ObjectDepth("table", 0.6, 0.1, 0.9, "")


def test_answers_find_their_frames_over_loops() -> None:
    matching = Matching()
    first, second, again = SentFrame(0, 100, 0, 1.0), SentFrame(1, 200, 0, 2.0), SentFrame(0, 100, 1, 3.0)
    matching.show(first)
    matching.show(second)
    matching.hear(100, [CHAIR], "m", 2.5)  # late, but of the first frame
    assert matching.take() == [ReceivedAnswer(first, (CHAIR,), 1.5)] and not matching.last_is_answered()
    matching.show(again)
    matching.hear(200, [TABLE], "m", 3.5)  # of the loop before: the clock has jumped back meanwhile
    matching.hear(100, [CHAIR], "m2", 3.75)
    assert matching.take() == [ReceivedAnswer(second, (TABLE,), 1.5), ReceivedAnswer(again, (CHAIR,), 0.75)]
    assert matching.last_is_answered() and matching.unmatched == 0 and matching.model == "m2"
    assert matching.take() == []


def test_a_frame_shown_again_gets_one_answer() -> None:
    matching = Matching()
    for i in range(2):
        matching.show(SentFrame(0, 100, i, float(i)))
    matching.hear(100, [CHAIR], "m", 1.5)
    matching.hear(100, [CHAIR], "m", 1.6)
    matching.hear(999, [CHAIR], "m", 1.7)
    assert [h.showing.pass_number for h in matching.take()] == [1] and matching.unmatched == 2


def test_nothing_shown_nothing_open() -> None:
    assert Matching().last_is_answered()


def test_running_figures() -> None:
    running = Running()
    assert running.answered == 0 and all(math.isnan(v) for v in (running.mae, running.pair_accuracy, running.latency))
    right = (TrueObject(0.3, 1.0), TrueObject(0.6, 2.0))
    wrong = (TrueObject(0.6, 2.0), TrueObject(0.6, 1.0))
    for truth in (right, wrong, (None, TrueObject(math.nan, 1.0))):
        running.add(Answer(0, 0, 48, (CHAIR, TABLE), truth, 0.25, 0.25))
    found = running.figures()
    assert math.isclose(found.pop("mae"), 0.125)
    assert found == {"frames_answered": 3, "pair_accuracy": 0.5, "latency": 0.25}
