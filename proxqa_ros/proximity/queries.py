"""Requests of ProximityQuery → questions, and answers → responses; without the node around it.

Promises: every request gets a response; a refused one has its error code and one line that says what was wrong and
what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from builtin_interfaces.msg import Time as TimeMessage

from proxqa_core.answering import OVER_ALL, depths_answer, is_of_one_kind, is_over_all
from proxqa_core.errors import BadImageError, BadObjectError, NotUnderstoodError, ProxqaError
from proxqa_core.language.questions import understand
from proxqa_core.language.sentences import place_labels, say_choice, say_configured, say_detected
from proxqa_core.protocols import EncodedImage
from proxqa_core.types import (
    MAX_QUESTION_LENGTH,
    ObjectDepth,
    ObjectQuery,
    ProximityAnswer,
    QuestionKind,
    clean_text,
)
from proxqa_ros.common.conversions import TooManyObjectsError, object_queries, object_to_message
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.stamps import NS_PER_S, nanoseconds
from proxqa_ros.proximity.worker import FrameState, QueueFullError, StoppedError
from proxqa_ros.srv import ProximityQuery

Response = ProximityQuery.Response


class RefusedError(ProxqaError):
    """A request that is refused with an error code of its service."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Question:
    """A checked request.

    Args:
        text: The question; "" = only the depths.
        objects: The objects.
        max_age_s: Oldest image that it may be answered from, in seconds; 0 = any age.
        names_nothing: It comes without objects: what a detector gave in the image is what it may be about.
        looked_for: Over what it looks where it asks for the nearest, the farthest or the order of whatever is in view,
            as a sentence; "" = what it names.
        chosen: What was taken of several detected things that a name may mean, a sentence each.
    """

    text: str
    objects: tuple[ObjectQuery, ...]
    max_age_s: float
    names_nothing: bool = False
    looked_for: str = ""
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer, and the stamp of the image that it is about."""

    answer: ProximityAnswer
    stamp: TimeMessage


def parse(request: ProximityQuery.Request, configured: Sequence[ObjectQuery], default_max_age_s: float) -> Question:
    """Check a request.

    Args:
        request: The request.
        configured: The objects that it is about where it names nothing.
        default_max_age_s: Oldest image where it does not say, in seconds; 0 = any age.

    Raises:
        RefusedError: Something of the request cannot be used.
        BadObjectError: An object of the request cannot be used.
    """
    age = request.max_image_age
    if not math.isfinite(age) or age < 0:
        raise RefusedError(
            Response.BAD_REQUEST,
            f"max_image_age is {age}; expected seconds, finite and >= 0 (0 = the parameter max_image_age)",
        )
    if len(request.question) > MAX_QUESTION_LENGTH:
        raise RefusedError(
            Response.BAD_REQUEST,
            f"question of {len(request.question)} characters is too long; at most {MAX_QUESTION_LENGTH}",
        )
    objects = object_queries(request.objects, request.regions)
    # Line by line: the lines of a question tell its options and instructions apart.
    text = "\n".join(filter(None, map(clean_text, request.question.splitlines())))
    names_nothing = not objects
    if not text and not objects:
        objects = tuple(configured)
        if not objects:
            raise RefusedError(
                Response.BAD_REQUEST,
                "the request has no question and no objects, and the node has none configured; give a question such as "
                "'Which is closer, the chair or the table?' or names in `objects`",
            )
    age = age or default_max_age_s
    if text and not objects and configured and is_over_all(text):
        return Question(text, tuple(configured), age, names_nothing, say_configured())
    return Question(text, objects, age, names_nothing)


def about_detected(question: Question, detected: Sequence[ObjectQuery]) -> Question:
    """A question that came without objects, about what a detector gave in the image.

    Args:
        question: The question.
        detected: What the detector gave, with boxes, the surest first.

    Returns:
        The question with these objects: several of a name are told apart by where they are, but for a name that is
        asked for, which means the surest one; "which chair is nearest?" is about all that are called so.
    """
    try:
        asked = understand(question.text, [q.name for q in detected]) if question.text else None
    except NotUnderstoodError:
        return question  # refused when it is answered
    if asked is not None and is_of_one_kind(asked):
        return replace(question, objects=tuple(detected))
    named = {n.casefold() for n in asked.names} if asked is not None else set()
    objects, chosen = [], []
    for name in dict.fromkeys(q.name.casefold() for q in detected):
        alike = [q for q in detected if q.name.casefold() == name and q.box is not None]
        boxes = [q.box for q in alike if q.box is not None]
        if name in named and len(alike) > 1:
            chosen.append(say_choice(alike[0].name, 0, boxes))
            alike, boxes = alike[:1], boxes[:1]
        labels = place_labels(alike[0].name, boxes) if alike else []
        objects += [ObjectQuery(label, q.box) for label, q in zip(labels, alike, strict=True)]
    over_all = asked is None or (not asked.names and asked.kind in OVER_ALL)
    looked_for = say_detected(len(objects)) if over_all else ""
    return replace(question, objects=tuple(objects), looked_for=looked_for, chosen=tuple(chosen))


def check_age(frame: FrameState | None, now_ns: int, max_age_s: float, last_error: str = "") -> FrameState:
    """Check that there is a frame, and that it is recent.

    One that is stamped further ahead of the clock than that is of another time too: a bag that began again, a clock
    that was set back.

    Args:
        frame: The newest good frame, None = there is none.
        now_ns: The node's clock in nanoseconds.
        max_age_s: Greatest age in seconds; 0 = any.
        last_error: What was wrong with the last frame that could not be used, "" = there was none.

    Returns:
        The frame.

    Raises:
        RefusedError: There is none, or it is too old.
    """
    if frame is None:
        why = f"the last one was bad: {last_error}" if last_error else "is the camera's topic remapped to `image`?"
        raise RefusedError(Response.NO_IMAGE, f"no usable image has arrived yet; {why}")
    stamp = frame.header.stamp
    age_s = (now_ns - nanoseconds(stamp)) / NS_PER_S
    if max_age_s > 0 and age_s < -max_age_s:
        raise RefusedError(
            Response.IMAGE_TOO_OLD,
            f"the newest image is stamped {-age_s:.3f} s ahead of the clock; at most {max_age_s:g} s is accepted (was "
            "the clock set back, did a bag begin again? is use_sim_time as it should be?)",
        )
    if max_age_s > 0 and age_s > max_age_s:
        hint = (
            "its header has no stamp" if stamp.sec == 0 and stamp.nanosec == 0 else "is use_sim_time as it should be?"
        )
        raise RefusedError(
            Response.IMAGE_TOO_OLD,
            f"the newest image is {age_s:.3f} s old; at most {max_age_s:g} s is accepted ({hint})",
        )
    return frame


def answer(question: Question, encoded: EncodedImage) -> ProximityAnswer:
    """Answer a question from an encoded image. Raises the core's errors."""
    if question.looked_for and not question.objects:  # the detector gave nothing
        kind = understand(question.text).kind if question.text else QuestionKind.SORT
        return ProximityAnswer(question.text, kind, question.looked_for)
    if question.text:
        found = encoded.ask(question.text, question.objects)
        return replace(found, answer=" ".join(filter(None, [found.answer, *question.chosen, question.looked_for])))
    return depths_answer(encoded, question.objects)


def fill_answer(response: ProximityQuery.Response, reply: Reply, latency_s: float) -> ProximityQuery.Response:
    """Fill in the response to a question that was answered.

    NOT_VISIBLE where nothing asked about is in view, or where one of those to be compared is not.
    """
    found = reply.answer
    objects = found.objects
    response.error_code = Response.NONE
    response.message = ""
    if found.kind in OVER_ALL and not objects:
        response.error_code, response.message = Response.NOT_VISIBLE, found.answer
    elif missing := _missing(found):
        response.error_code = Response.NOT_VISIBLE
        best = max(d.score for d in missing)
        response.message = f"not in view: {', '.join(d.name for d in missing)} (highest score {best:.2f})"
    response.success = response.error_code == Response.NONE
    response.answer = found.answer
    response.objects = [object_to_message(d) for d in objects]
    response.closer, response.farther = found.closer, found.farther
    response.probability = float(found.probability)
    response.image_stamp = reply.stamp
    response.latency = latency_s
    return response


def _missing(answer: ProximityAnswer) -> list[ObjectDepth]:
    """The objects for want of which a question has no answer."""
    unseen = [d for d in answer.objects if not d.is_answered]
    if answer.kind is QuestionKind.VISIBLE:
        return []  # that it is not in view is the answer
    comparing = answer.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER, QuestionKind.EQUAL)
    return unseen if comparing or len(unseen) == len(answer.objects) else []


def fill_refusal(response: ProximityQuery.Response, error: BaseException, latency_s: float) -> ProximityQuery.Response:
    """Fill in the response to a question that was not answered."""
    response.success = False
    response.error_code = error_code(error)
    response.message = one_line(error)
    response.probability = math.nan
    response.latency = latency_s
    return response


def error_code(error: BaseException) -> int:
    """The named constant of ProximityQuery for an error."""
    if isinstance(error, RefusedError):
        return error.code
    for kind, code in (
        (TooManyObjectsError, Response.TOO_MANY_OBJECTS),
        (BadObjectError, Response.BAD_REQUEST),
        (NotUnderstoodError, Response.NOT_UNDERSTOOD),
        (QueueFullError, Response.BUSY),
        (StoppedError, Response.NOT_ACTIVE),
        (BadImageError, Response.NO_IMAGE),
    ):
        if isinstance(error, kind):
            return code
    return Response.INTERNAL
