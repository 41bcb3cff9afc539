"""Answers as the JSON that the server sends.

Promises: of an object that is not seen there is no depth and no distance, only that it is not seen and how sure that
is; an object given with a box counts as seen, and `name_doubted` says where it does not look like its name. Knows
nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxqa_core.jsontext import plain
from proxqa_core.types import Box, ObjectDepth, ProximityAnswer


def answer_json(answer: ProximityAnswer) -> dict[str, Any]:
    """A whole answer; NaN becomes None."""
    return {
        "kind": answer.kind.value,
        "answer": answer.answer,
        "closer": answer.closer or None,
        "farther": answer.farther or None,
        "probability": plain(answer.probability),
        "objects": objects_json(answer.objects),
    }


def refusal_json(reason: str) -> dict[str, Any]:
    """What a refused question has in place of an answer: the same keys, and nothing compared."""
    return {"kind": "refused", "answer": reason, "closer": None, "farther": None, "probability": None, "objects": []}


def objects_json(objects: Sequence[ObjectDepth]) -> list[dict[str, Any]]:
    """Objects in the order given."""
    return [_object_json(thing) for thing in objects]


def _object_json(thing: ObjectDepth) -> dict[str, Any]:
    seen = thing.is_answered
    numbers = ("depth", "depth_stddev", "distance", "distance_stddev")
    return {
        "name": thing.name,
        "seen": seen,
        "name_doubted": thing.is_doubted,
        "score": plain(thing.score),
        **{name: plain(getattr(thing, name)) if seen else None for name in numbers},
        "box": _corners(thing.box),
        "found_at": _corners(thing.found_at) if seen else None,
        "text": thing.text,
    }


def _corners(box: Box | None) -> list[float] | None:
    return None if box is None else [float(v) for v in box.xyxy]
