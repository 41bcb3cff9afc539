"""Functions of an lmms-eval task; `proxqa eval --export` copies this file beside the task's YAML as utils.py.

Promises: it needs nothing but Pillow, so that it runs wherever lmms-eval does. An answer that cannot be parsed counts
as wrong, or as the largest possible error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

_LETTER = re.compile(r"\W*(?:the answer is|answer:?|option)?\W*([AB])\b(?!\s+or\b)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])(?:0?\.\d+|[01](?:\.\d+)?)(?![\w%]|\.\d)")


def doc_to_visual(doc: dict[str, Any]) -> list[Image.Image]:
    """The picture of a question, from the folder beside this file."""
    with Image.open(Path(__file__).parent / doc["image"]) as image:
        return [image.convert("RGB")]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    """The words of a question."""
    wrapped = lmms_eval_specific_kwargs or {}
    return f"{wrapped.get('pre_prompt', '')}{doc['question']}{wrapped.get('post_prompt', '')}"


def chosen(text: str) -> str:
    """The letter that an answer begins with, '' = none."""
    match = _LETTER.match(text.strip())
    return match.group(1).upper() if match else ""


def stated(text: str) -> float | None:
    """The only number in [0, 1] that an answer states, None = none or several."""
    found = {float(number) for number in _NUMBER.findall(text)}
    return found.pop() if len(found) == 1 and max(found) <= 1 else None


def closer_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether an answer chose the closer thing; counter-heuristic pairs count a second time."""
    right = float(chosen(results[0]) == doc["answer"])
    found = {"accuracy": right}
    return found | {"counter_heuristic_accuracy": right} if doc["counter_heuristic"] else found


def depth_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """How far the stated relative depth is from the true one, and whether one was stated."""
    truth, depth = float(doc["answer"]), stated(results[0])
    error = max(truth, 1 - truth) if depth is None else abs(depth - truth)
    return {"mae": error, "parsed": float(depth is not None)}
