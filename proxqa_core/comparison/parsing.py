"""What a model's free words choose: A, B, or nothing that can be told.

Promises: a rule either finds one choice or none: words that could mean both are unparsed, never guessed. Models are
asked for a letter, and say "(B)", "B.", "The answer is B", "**B**", "Point B is closer" or the object's name.

Source: the answers of nineteen models that the authors of BLINK (Fu et al. 2024) published.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from proxqa_core.types import clean_text

Choice = Literal["A", "B"]

_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_SPECIAL = re.compile(r"<\|?/?[\w]+\|?>")
_ALONE = re.compile(r"\W*(?:option|choice|answer|point)?\W*([ab])\W*(?:is(?: closer)?)?\W*", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"(?:final answer|the answer|answer|correct (?:option|choice)|correct answer|i (?:choose|pick|select))"
    r"(?: is| would be|:)?:?\s*(?:option|choice|point)?\s*[\"'*(\[]*([ab])\b(?![a-z'])",
    re.IGNORECASE,
)
_LEADING = re.compile(r"\s*[*\"'\[]*\(?([AB])[).:*\]]")
_IN_BRACKETS = re.compile(r"\(([AB])\)")
_CLOSER = re.compile(
    r"(?<!or )(?<!if )\b([AB])\b[\"'*)]*(?:, [^.,;]{1,80},| (?:which|that) [^.,;]{1,80}?)?,? "
    r"(?:is|appears|seems|looks|lies)(?: to be| slightly| much| standing| positioned)*"
    r" (?:closer|nearer|the closer|the nearer|closest|nearest)\b"
)


def parse_choice(text: str, names: Sequence[str] = ("", "")) -> Choice | None:
    """The choice that an answer makes.

    Args:
        text: What the model said.
        names: What A and B are called, '' where they have no names; an answer may use them instead of the letters.

    Returns:
        None where it makes none, or where both fit.
    """
    # 1. what was thought aloud, and a tokenizer's own marks, are no answer
    plain = _SPECIAL.sub(" ", _THINKING.sub(" ", text))
    line = clean_text(plain)
    if not line:
        return None
    # 2. nothing but a letter
    if match := _ALONE.fullmatch(line):
        return _choice(match.group(1))
    # 3. a conclusion, the last one counts; then a letter in front; then whatever all letters agree on
    conclusions = {_choice(m) for m in _CONCLUSION.findall(line)[-1:]}
    for found in (conclusions, _leading(line), _agreed(_CLOSER, line), _agreed(_IN_BRACKETS, line)):
        if len(found) == 1:
            return found.pop()
    # 4. one of the names, and not the other
    return _by_name(line, names)


def _choice(letter: str) -> Choice:
    return "A" if letter.upper() == "A" else "B"


def _leading(line: str) -> set[Choice]:
    match = _LEADING.match(line)
    return {_choice(match.group(1))} if match else set()


def _agreed(pattern: re.Pattern[str], line: str) -> set[Choice]:
    return {_choice(letter) for letter in pattern.findall(line)}


def _by_name(line: str, names: Sequence[str]) -> Choice | None:
    said = [bool(name) and _has_word(line, name) for name in names]
    if said[0] == said[1]:
        return None
    return "A" if said[0] else "B"


def _has_word(line: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line, re.IGNORECASE) is not None
