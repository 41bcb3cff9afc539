"""Answers in the form that a question asks for: an option's letter, yes or no, one name, a number.

Promises: a short answer says what the sentence says; where it cannot (something is not seen, no distance in metres),
the sentence stays. Knows nothing of models.
"""

from __future__ import annotations

import math
from dataclasses import replace

from proxqa_core.language import sentences
from proxqa_core.language.formats import AnswerStyle
from proxqa_core.language.rules import Question
from proxqa_core.types import ObjectDepth, ProximityAnswer, QuestionKind


def shortened(answer: ProximityAnswer, question: Question) -> ProximityAnswer:
    """The answer in the form that the question asks for.

    Args:
        answer: With a sentence.
        question: What it answers.

    Returns:
        The same answer with a short text; with its sentence where the form is a sentence or cannot be kept.
    """
    short = _short(answer, question)
    return replace(answer, answer=short) if short else answer


def _short(answer: ProximityAnswer, question: Question) -> str:
    if question.style is AnswerStyle.SENTENCE or not answer.objects:
        return ""
    if question.kind is QuestionKind.VISIBLE:
        doubted = answer.objects[0].is_doubted
        return "" if doubted or question.style is not AnswerStyle.YES_NO else _visible(answer)
    if not all(o.is_answered for o in answer.objects):
        return ""
    if question.style in (AnswerStyle.NUMBER, AnswerStyle.METRES) or question.kind is QuestionKind.DEPTH:
        return _number(answer.objects, question.style is AnswerStyle.METRES)
    chosen = _yes_or_no(answer, question) if question.yes_no else _chosen(answer, question)
    if question.style is AnswerStyle.LETTER:
        return next((o.label for o in question.options if o.text.casefold() == chosen.casefold()), "")
    return chosen


def _visible(answer: ProximityAnswer) -> str:
    return "Yes" if answer.objects[0].is_answered else "No"


def _number(objects: tuple[ObjectDepth, ...], metres: bool) -> str:
    """The one number asked for, '' where there are several or none in that unit."""
    if len(objects) != 1:
        return ""
    value = objects[0].distance if metres else objects[0].depth
    return f"{value:.2f}" if math.isfinite(value) else ""


def _yes_or_no(answer: ProximityAnswer, question: Question) -> str:
    """What is more probable; the sentence alone says that it is hard to say."""
    if question.kind is QuestionKind.EQUAL:
        ends = answer.objects[0], answer.objects[-1]
        return "Yes" if sentences.about_equal(*ends, answer.probability) else "No"
    near = question.kind in (QuestionKind.CLOSER, QuestionKind.NEAREST)
    claimed = answer.closer if near else answer.farther
    return "Yes" if claimed.casefold() == question.names[0].casefold() else "No"


def _chosen(answer: ProximityAnswer, question: Question) -> str:
    """The name that answers "which"."""
    if question.kind in (QuestionKind.CLOSER, QuestionKind.NEAREST):
        return answer.closer or answer.objects[0].name
    if question.kind in (QuestionKind.FARTHER, QuestionKind.FARTHEST):
        return answer.farther or answer.objects[-1].name
    return ""
