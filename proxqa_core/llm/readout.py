"""Numbers and choices read out of the model's own probabilities, not sampled.

Promises: a depth is the expected value over the 100 numbers '0.00' … '0.99' that the model could say, weighted by
how likely it says each; its standard deviation comes from the same weights. A choice is the probability of each of
two tokens. Knows nothing of prompts or of how the logits were made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxqa_core.language.templates import NOT_VISIBLE

HALF_STEP = 0.005
"""'0.32' means 0.315 … 0.325; a uniform step adds its variance, (0.01)²/12, to the spread over numbers."""


@dataclass(frozen=True)
class DepthReadout:
    """mean and stddev of the relative depth; visible: probability that a depth is said at all; text: what is said."""

    mean: float
    stddev: float
    visible: float
    text: str


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class DigitTree:
    """Raw logits. visible: [2], of starting a number and of starting 'not visible'. tenths: [10], of the digit after
    '0.'. hundredths: [10, 10], row d: of the next digit after '0.d'.
    """

    visible: NDArray[np.float64]
    tenths: NDArray[np.float64]
    hundredths: NDArray[np.float64]


def visibility_evidence(tree: DigitTree, found: float) -> NDArray[np.float64]:
    """Log-odds [2] that an object is there: by the language model's word, and by the grounding head's score `found`."""
    said = float(tree.visible[0] - tree.visible[1])
    found = min(max(found, 1e-6), 1 - 1e-6)
    return np.clip(np.array([said, math.log(found / (1 - found))]), -14, 14)


def read_visibility(evidence: NDArray[np.float64], weights: Sequence[float]) -> float:
    """Probability in [0, 1] that an object is there. weights: of either log-odds, and a constant."""
    return float(1 / (1 + np.exp(-(evidence @ np.asarray(weights[:2]) + weights[2]))))


def read_depth(tree: DigitTree, temperature: float = 1.0, visible: float | None = None) -> DepthReadout:
    """Read one digit tree. temperature > 1 widens it. visible: where that is known better than by the tree alone."""
    tenths = softmax(tree.tenths / temperature)
    weights = (tenths[:, None] * softmax(tree.hundredths / temperature)).reshape(100)
    numbers = np.arange(100) / 100
    mean = float(weights @ numbers)
    variance = float(weights @ (numbers - mean) ** 2) + (2 * HALF_STEP) ** 2 / 12
    visible = float(softmax(tree.visible)[0]) if visible is None else visible
    likeliest = int(weights.argmax())
    return DepthReadout(mean, variance**0.5, visible, f"0.{likeliest:02d}" if visible >= 0.5 else NOT_VISIBLE)


def greedy(tree: DigitTree) -> str:
    """What decoding says that takes the likeliest token every time, without temperature."""
    if tree.visible[0] < tree.visible[1]:
        return NOT_VISIBLE
    tenth = int(tree.tenths.argmax())
    return f"0.{tenth}{int(tree.hundredths[tenth].argmax())}"


def read_choice(odds: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-odds [pairs, orders] of the same choice asked in several orders → its probability [pairs], their mean."""
    return np.asarray(0.5 + 0.5 * np.tanh(odds / temperature / 2)).mean(axis=-1)


def compare_depths(a: float, a_stddev: float, b: float, b_stddev: float, temperature: float = 1.0) -> float:
    """Probability in [0, 1] that `a` is less than `b`, both normal with these means and standard deviations > 0.

    temperature: by which the deviation of the difference is multiplied: errors of one image go together.
    """
    return 0.5 * (1 + math.erf((b - a) / temperature / math.sqrt(2 * (a_stddev**2 + b_stddev**2))))
