"""`proxqa chat`: questions about one image, line by line.

Promises: a question that cannot be answered gets its one line and the next may be asked; what is typed is data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxqa_core.errors import ProxqaError, reason_of

if TYPE_CHECKING:
    from proxqa_core.protocols import EncodedImage
    from proxqa_core.types import ObjectQuery

PROMPT = "> "
HELP = "Ask about the image, such as 'how far is the chair?'. /objects NAMES: what 'nearest' is about. /quit: end."


def chat(encoded: EncodedImage, objects: Sequence[ObjectQuery] = ()) -> list[dict[str, Any]]:
    """Read questions from stdin and print answers until it ends, or until /quit.

    Args:
        encoded: The image.
        objects: Known ones; /objects replaces them.

    Returns:
        Every question with its answer, or with why there is none.
    """
    known, turns = list(objects), []
    if sys.stdin.isatty():
        print(HELP, file=sys.stderr)
    while (line := _line()) is not None:
        if line in ("/quit", "/exit", "/q"):
            break
        if line in ("/help", "/?"):
            print(HELP, flush=True)
            continue
        if not line:
            continue
        turn, known = _turn(encoded, line, known)
        turns.append(turn)
        print(turn.get("answer") or turn["problem"], flush=True)
    return turns


def _turn(encoded: EncodedImage, line: str, known: list[ObjectQuery]) -> tuple[dict[str, Any], list[ObjectQuery]]:
    """What a line gives, and the objects that are known from then on."""
    from proxqa_core.cli.common import object_queries

    try:
        if line.startswith("/objects"):
            known = object_queries([line.removeprefix("/objects")])
            return {"question": line, "answer": f"objects: {', '.join(q.name for q in known) or 'none'}"}, known
        if line.startswith("/"):
            return {"question": line, "problem": f"{line.split()[0]!r} is no command; {HELP}"}, known
        answer = encoded.ask(line, known)
        return {"question": line, "answer": answer.answer, "probability": answer.probability}, known
    except ProxqaError as error:
        return {"question": line, "problem": reason_of(error)}, known


def _line() -> str | None:
    """The next line, None where there are no more; the prompt is shown to people only."""
    try:
        return input(PROMPT if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
