"""Ways to damage bytes and words, drawn by a random generator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**30, "", "x" * 300, "\u202e\0", [], {}, [[]], {"a": {}})
"""What a value of a JSON file is exchanged for."""


def _place(data: bytes, rng: random.Random, longest: int = 64) -> tuple[int, int]:
    at = rng.randrange(len(data) + 1)
    return at, min(len(data), at + rng.randint(1, longest))


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """A few bits changed, anywhere."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_head(data: bytes, rng: random.Random) -> bytes:
    """A few bits changed in the first 200 bytes, where headers are."""
    return flip_bits(data[:200], rng) + data[200:]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut short."""
    return data[: rng.randrange(len(data))]


def remove(data: bytes, rng: random.Random) -> bytes:
    """A part left out."""
    start, end = _place(data, rng)
    return data[:start] + data[end:]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Random bytes put in."""
    at, _ = _place(data, rng)
    return data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A part twice."""
    start, end = _place(data, rng, 400)
    return data[:end] + data[start:]


def blank(data: bytes, rng: random.Random) -> bytes:
    """A part set to zero."""
    start, end = _place(data, rng, 400)
    return data[:start] + bytes(end - start) + data[end:]


def number(data: bytes, rng: random.Random) -> bytes:
    """Four or eight bytes replaced by a number that is often a limit."""
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(NUMBERS) & ((1 << (8 * size)) - 1)
    return data[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Two halves exchanged at a random place."""
    at = rng.randrange(len(data))
    return data[at:] + data[:at]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits,
    flip_head,
    cut,
    remove,
    insert,
    repeat,
    blank,
    number,
    swap,
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes, damaged in one or two ways."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        data = rng.choice(BYTES)(data, rng) or b"\0"
    return data


def damaged_json(text: bytes, rng: random.Random) -> bytes:
    """A JSON file with one to three values exchanged, left out or renamed; one in four is damaged as bytes are."""
    if rng.random() < 0.25:
        return damaged(text, rng)
    raw = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        raw = _exchanged(raw, rng)
    return json.dumps(raw).encode()


def _exchanged(raw: Any, rng: random.Random) -> Any:
    if not isinstance(raw, dict | list) or not raw or rng.random() < 0.1:
        return rng.choice(VALUES)
    key: Any = rng.choice(list(raw)) if isinstance(raw, dict) else rng.randrange(len(raw))
    raw = dict(raw) if isinstance(raw, dict) else list(raw)
    fate = rng.random()
    if fate < 0.15:
        del raw[key]
    elif fate < 0.25 and isinstance(raw, dict):
        raw[f"{key}_"] = raw.pop(key)
    else:
        raw[key] = _exchanged(raw[key], rng)
    return raw


def damaged_text(text: str, rng: random.Random) -> str:
    """A question with words exchanged, left out, doubled or spelled otherwise."""
    words = text.split(" ")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(words))
        fate = rng.randrange(7)
        if fate == 0 and len(words) > 1:
            del words[at]
        elif fate == 1:
            words.insert(at, words[rng.randrange(len(words))])
        elif fate == 2:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif fate == 3:
            words[at] = "".join(rng.sample(words[at], len(words[at])))
        elif fate == 4:
            words[at] += rng.choice(("?", ",", "\n", "\0", "\u200b", "'s", '"', ")", "\ud83d", "é", "🙂", "(A)"))
        elif fate == 5:
            words[at] = rng.choice(("not", "than", "or", "and", "the", "is", "closer", "1.", "[A]", "{}", "<image>"))
        else:
            words[at] *= rng.choice((2, 30))
    return " ".join(words)
