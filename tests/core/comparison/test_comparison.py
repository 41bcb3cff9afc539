"""Comparing models: parsing, both orders, resuming, scores; published figures from recorded answers where at hand."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proxqa_core.comparison.answerers import (
    Answer,
    EngineAnswerer,
    RecordedAnswerer,
    decision_answer,
    recorded_answers,
)
from proxqa_core.comparison.marking import marked
from proxqa_core.comparison.parsing import parse_choice
from proxqa_core.comparison.questions import ComparisonQuestion, questions_of
from proxqa_core.comparison.run import answers_file, ask_all
from proxqa_core.comparison.scores import judge, rule_scores, score
from proxqa_core.comparison.sources import READERS
from proxqa_core.datasets.benchmarks import WhichCloser, box_around
from proxqa_core.datasets.folder import BadDatasetError
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.types import Box

BLINK = Path(os.environ.get("PROXQA_REAL_DATA", "/nonexistent")) / "formats/blink"
PUBLISHED = {
    "GPT4o": 74.19,
    "llava-v1.6-34b": 67.74,
    "llava_v1.5_13b": 53.23,
    "llava_v1.5_7b": 52.42,
    "GeminiProVision": 40.32,
}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), (120, 130, 140)).save(buffer, "PNG")
    return buffer.getvalue()


def item(key: str = "1", answer: Any = "A", names: Any = ("cup", "dog"), **more: Any) -> WhichCloser:
    return WhichCloser(key, picture(), answer, names=names, **more)


@pytest.mark.parametrize(
    "text, found",
    [
        ("A", "A"),
        ("(B)", "B"),
        ("b.", "B"),
        ("**A**", "A"),
        ("<s> A", "A"),
        ("A is", "A"),
        ("Option B", "B"),
        ("(A) A is closer", "A"),
        ("B. the dog", "B"),
        ("The answer is (B).", "B"),
        ("Final answer: A", "A"),
        ("Let us see. (A) is far, (B) is near. The correct answer is B", "B"),
        ("Point A, which is on the car, is closer to the camera compared to point B, which is far.", "A"),
        ("Point B appears to be closer to the camera than point A.", "B"),
        ("<think>A? no, (A) is far</think>B", "B"),
        ("the cup", "A"),
        ("The dog is closer to the camera.", "B"),
        ("", None),
        ("The cup and the dog", None),
        ("I cannot tell which point, A or B, is closer.", None),
        ("A or B", None),
        ("C", None),
        ("both", None),
        ("a cupboard", None),
    ],
)
def test_what_an_answer_chooses(text: str, found: str | None) -> None:
    assert parse_choice(text, ("cup", "dog")) == found


@pytest.mark.skipif(not BLINK.is_dir(), reason="PROXQA_REAL_DATA names no folder with formats/blink")
def test_published_blink_figures_are_recomputed_and_no_answer_is_turned_into_its_opposite() -> None:
    opposite = parsed = said = 0
    for path in sorted(BLINK.glob("*.json")):
        rows = list(recorded_answers(path))
        assert len(rows) == 124
        figure = RecordedAnswerer(path).accuracy_as_recorded({r.item_id for r in rows})
        assert figure == sum(r.prediction == r.right for r in rows) / 124
        assert round(100 * figure, 2) == PUBLISHED.get(path.stem, round(100 * figure, 2))
        for row in rows:
            choice = parse_choice(row.text)
            said += row.prediction in ("(A)", "(B)")
            parsed += choice is not None
            opposite += {choice, row.prediction.strip("()")} == {"A", "B"}
    assert opposite == 0 and parsed >= 0.99 * said


def test_pairs_are_asked_in_both_orders() -> None:
    boxes = (Box(1, 1, 20, 20), Box(50, 10, 80, 90))
    first, second = questions_of([item(answer="A", boxes=boxes)])
    assert (first.key, first.right, first.names, first.boxes) == ("1/AB", "A", ("cup", "dog"), boxes)
    assert (second.key, second.right, second.names, second.boxes) == ("1/BA", "B", ("dog", "cup"), boxes[::-1])
    assert "(A) dog (red box)\n(B) cup (blue box)" in second.text and second.text != first.text
    (points,) = questions_of([item(names=("", ""), points=((10, 10), (90, 50)))])
    assert not points.flipped and "(A) A is closer" in points.text


class Talker:
    """Says what its table holds for each key; fails where it holds nothing. Counts questions."""

    def __init__(self, said: dict[str, Answer], batch_size: int = 2, fails_after: int = 10**9) -> None:
        self.name, self.batch_size, self.said, self.asked, self.left = "talker/x", batch_size, said, 0, fails_after

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.asked += len(questions)
        return [self.said.get(q.key, Answer(error="no")) for q in questions]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    questions = list(questions_of([item(str(i)) for i in range(5)]))
    said = {q.key: Answer("A" if q.right == "A" else "B", 0.75) for q in questions}
    whole = ask_all(Talker(said), questions, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ask_all(Talker(said, fails_after=2), questions, tmp_path / "cut")
    kept = answers_file(tmp_path / "cut", "talker/x")
    with kept.open("a") as file:
        file.write('{"key": "3/AB", "te')  # torn by a kill
    talker = Talker(said)
    assert ask_all(talker, questions, tmp_path / "cut") == whole == said and talker.asked == 6
    again = Talker(said)
    assert ask_all(again, questions, tmp_path / "cut") == whole and again.asked == 0
    assert score("x", judge(questions, whole))["accuracy"] == 1.0


def test_an_answer_of_any_characters_is_kept(tmp_path: Path) -> None:
    """What Python takes for the end of a line is none of JSON lines, and half of a surrogate pair is no text."""
    questions = list(questions_of([item("1")]))
    said = {"1/AB": Answer("A\u2028\x85\x1c\n(the cup)"), "1/BA": Answer("B \ud83d")}
    assert ask_all(Talker(said), questions, tmp_path) == said
    talker = Talker(said)
    assert ask_all(talker, questions, tmp_path) == said and talker.asked == 0
    recorded = tmp_path / "r.jsonl"
    recorded.write_text('\ufeff{"id": "1", "answer": "A\u2028"}\n', encoding="utf-8")
    assert [a.text for a in recorded_answers(recorded)] == ["A\u2028"]


class OnceForBoth(Talker):
    """As our engine, which reads an image for its first question; the next is answered alike but for rounding."""

    def answer(self, questions: Sequence[ComparisonQuestion]) -> list[Answer]:
        answers, before = super().answer(questions), ""
        for i, question in enumerate(questions):
            answers[i] = replace(answers[i], probability=0.75 if question.item.item_id != before else 0.75 + 1e-8)
            before = question.item.item_id
        return answers


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("stopped", [1, 2])
def test_both_orders_of_a_pair_are_answered_in_one_go(tmp_path: Path, batch_size: int, stopped: int) -> None:
    questions = list(questions_of([item(str(i)) for i in range(6)]))
    said = {q.key: Answer("A") for q in questions}
    whole = ask_all(OnceForBoth(said, batch_size), questions, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ask_all(OnceForBoth(said, batch_size, fails_after=stopped), questions, tmp_path / "cut")
    assert ask_all(OnceForBoth(said, batch_size), questions, tmp_path / "cut") == whole
    cut, unbroken = (answers_file(tmp_path / name, "talker/x").read_bytes() for name in ("cut", "whole"))
    assert cut == unbroken and whole["3/BA"].probability == 0.75 + 1e-8


def test_answers_to_other_questions_of_the_same_name_are_not_taken(tmp_path: Path) -> None:
    of_cups, of_cats = list(questions_of([item()])), list(questions_of([item(names=("cup", "cat"))]))
    other_image = list(questions_of([replace(item(), image=b"another")]))
    assert of_cups[0].key == of_cats[0].key == other_image[0].key
    said = {q.key: Answer("A") for q in of_cups}
    ask_all(Talker(said), of_cups, tmp_path)
    for questions in (of_cats, other_image):
        talker = Talker(said)
        ask_all(talker, questions, tmp_path)
        assert talker.asked == 2
    talker = Talker(said)
    assert ask_all(talker, of_cups, tmp_path) == said and talker.asked == 0


def test_errors_are_asked_again_and_counted_apart(tmp_path: Path) -> None:
    questions = list(questions_of([item("1"), item("2")]))
    said = {"1/AB": Answer("A"), "1/BA": Answer("no idea")}
    answers = ask_all(Talker(said), questions, tmp_path)
    figures = score("x", judge(questions, answers))
    assert (figures["questions"], figures["unparsed"], figures["failed"]) == (4, 1, 2) and figures["accuracy"] == 0.25
    talker = Talker(said)
    ask_all(talker, questions, tmp_path)
    assert talker.asked == 2


def test_scores_and_rules() -> None:
    low, high = Box(0, 50, 20, 90), Box(30, 0, 90, 40)
    items = [item("1", "A", boxes=(low, high)), item("2", "B", boxes=(low, high)), item("3", None, boxes=(low, high))]
    questions = list(questions_of(items))
    # always says what is named first
    figures = score("first", judge(questions, {q.key: Answer("A") for q in questions}))
    assert figures["questions"] == 4 and figures["accuracy"] == 0.5 and figures["accuracy_both_orders"] == 0
    assert figures["consistent"] == 0 and figures["first_named"] == 1.0
    # always the lower one
    lower = {q.key: Answer("A" if q.names[0] == "cup" else "B") for q in questions}
    figures = score("lower", judge(questions, lower))
    assert figures["accuracy"] == 0.5 and figures["consistent"] == 1 and figures["accuracy_both_orders"] == 0.5
    assert figures["counter_heuristic_questions"] == 2 and figures["counter_heuristic_accuracy"] == 0
    near, far = replace(items[0], gap=0.1), replace(items[1], gap=0.5)
    by_gap = score("first", judge(list(questions_of([near, far], False)), {q.key: Answer("A") for q in questions}))
    assert by_gap["accuracy_by_gap"] == {"8-15": 1.0, "15-30": pytest.approx(math.nan, nan_ok=True), ">30": 0.0}
    assert rule_scores([near, far])[0]["accuracy_by_gap"]["8-15"] == 1.0
    edge, larger = rule_scores(items)
    assert (edge["accuracy"], edge["counter_heuristic_accuracy"]) == (0.5, 0) and larger["questions"] == 2
    points = ((5.0, 90.0), (5.0, 20.0))
    edge, larger = rule_scores([item("4", "B", names=("", ""), points=points)])
    assert (edge["accuracy"], larger["accuracy"], larger["counter_heuristic_accuracy"]) == (0, 0.5, 0.5)
    assert rule_scores([item()]) == [] and math.isnan(score("none", [])["accuracy"])


def test_recorded_answers(tmp_path: Path) -> None:
    path = tmp_path / "some-model.jsonl"
    path.write_text('{"key": "1/BA", "answer": "B"}\n{"id": "1", "answer": "(A)"}\n')
    answerer = RecordedAnswerer(path)
    first, second = questions_of([item("1")])
    other, _ = questions_of([item("2")])
    assert answerer.name == "some-model"
    assert answerer.answer([first, second, other]) == [Answer("(A)"), Answer("B"), Answer(error="not recorded")]
    for content in ("", "{", "[]", '{"val": 3}'):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(BadDatasetError, match=r"x\.json"):
            RecordedAnswerer(tmp_path / "x.json")


def test_a_bad_line_of_recorded_answers_is_left_out_and_counted(tmp_path: Path) -> None:
    path, report = tmp_path / "m.jsonl", ReadReport()
    bad = [b"{torn", b"\xff", b"[1]", b'{"answer": "A"}', b'{"id": "1", "answer": 3}']
    path.write_bytes(b"\n".join([b'{"id": "2", "answer": "B"}', b"", *bad]))
    answerer = RecordedAnswerer(path, report)
    asked = [next(iter(questions_of([item(name)]))) for name in ("1", "2")]
    assert answerer.answer(asked) == [Answer(error="not recorded"), Answer("B")]
    assert report.counts == {"no recorded answer": 5} and report.lines()[0].startswith(
        "5 x no recorded answer: m.jsonl line 3 ("
    )
    path.write_bytes(b"\n".join(bad))
    with pytest.raises(BadDatasetError, match=r"holds no recorded answers \(5 x .*line 1 \(Expecting"):
        RecordedAnswerer(path)


def test_a_record_without_a_right_answer_is_no_item_and_counted(tmp_path: Path) -> None:
    rows = [
        {"idx": "1", "full_prediction": "(A)", "answer": "(A)"},
        {"idx": "2", "full_prediction": "x", "answer": "C"},
        3,
    ]
    (tmp_path / "m.json").write_text(json.dumps({"val": rows}))
    report = ReadReport()
    assert [i.item_id for i in READERS["recorded"](tmp_path / "m.json", None, report)] == ["1"]
    assert report.counts == {"no item": 2}


def test_the_decision_pipelines_answer() -> None:
    said = {"type": "choice", "choice": "B", "confidence": 0.5, "probabilities": {"A": 0.3, "B": 0.9}}
    assert decision_answer(said) == Answer("B", pytest.approx(0.25))
    assert decision_answer({"choice": "B"}).error


def test_marks_are_drawn_where_a_and_b_are() -> None:
    first, second = questions_of([item(boxes=(Box(10, 10, 60, 60), Box(120, 20, 180, 80)))])
    assert tuple(shown(first)[10, 30]) == (255, 0, 0) == tuple(shown(second)[20, 150])
    assert tuple(shown(first)[20, 150]) == (0, 0, 255)
    (points,) = questions_of([item(names=("", ""), points=((20, 50), (150, 50)))])
    assert (shown(points) != shown(questions_of_plain())).any()
    assert box_around((0, 0), 200, 100).xyxy == (0, 0, 6, 6)


def shown(question: ComparisonQuestion) -> Any:
    return marked(question.item, question.flipped)


def questions_of_plain() -> ComparisonQuestion:
    return next(questions_of([item()]))


@pytest.mark.model
def test_our_engine_is_asked_alike(engine: Any) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (100, 200, 3), dtype=np.uint8)).save(buffer, "PNG")
    boxes = (Box(10, 10, 60, 60), Box(120, 20, 180, 80))
    pair = WhichCloser("1", buffer.getvalue(), "A", names=("cup", "dog"), boxes=boxes)
    nothing = WhichCloser("2", b"no image", "A", names=("cup", "dog"))
    answerer = EngineAnswerer(engine)
    first, second, broken = answerer.answer([*questions_of([pair]), next(questions_of([nothing]))])
    assert broken.error and json.dumps(first.text) and {first.text, second.text} <= {"A", "B", first.text}
    if first.probability is not None:  # both orders are averaged inside: the same thing is closer either way
        assert second.probability == pytest.approx(1 - first.probability, abs=1e-6)
