"""Numbers and choices read out of the model's own probabilities, not sampled.

Promises: a depth is the expected value over the 100 numbers '0.00' … '0.99' that the model could answer, weighted by
how likely each is; its standard deviation comes from the same weights. A choice is the probability of each of two
tokens. Knows nothing of prompts or of how the logits were made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadModelError
from proxqa_core.language.templates import NOT_VISIBLE

HALF_STEP = 0.005
"""'0.32' means 0.315 … 0.325; a uniform step adds its variance, (0.01)²/12, to the spread over numbers."""

MAX_ORDER_LOG_ODDS = 8.0
"""Of the order head, either way."""
EDGE_SCALE = 0.02
"""Difference of two lower edges, as share of the image's height, that is as good as any larger one."""
MAX_LOG_ODDS = 14
"""Evidence beyond this (one in a million) counts as much as this."""


@dataclass(frozen=True)
class DepthReadout:
    """A relative depth read out of a digit tree.

    Attributes:
        mean: Expected value, in [0, 1].
        stddev: Standard deviation, > 0.
        visible: Probability in [0, 1] that the object is in view.
        text: The likeliest answer: '0.dd' or 'not visible'.
    """

    mean: float
    stddev: float
    visible: float
    text: str


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits, along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class DigitTree:
    """Raw logits of the answers '0.00' to '0.99' and 'not visible'.

    Attributes:
        visible: [2], of starting a number and of starting 'not visible'.
        tenths: [10], of the digit after '0.'.
        hundredths: [10, 10], row d: of the next digit after '0.d'; None = not asked, taken as equally likely.
    """

    visible: NDArray[np.float64]
    tenths: NDArray[np.float64]
    hundredths: NDArray[np.float64] | None


def _check_finite(*logits: NDArray[np.float64]) -> None:
    """Raise where a model answers with NaN or infinity, which would pass for an answer."""
    if not all(np.isfinite(values).all() for values in logits):
        raise BadModelError(
            "the model answers with numbers that are not finite; its weights are damaged, or too large for its type "
            "(try float32)"
        )


def visibility_evidence(tree: DigitTree, score: float) -> NDArray[np.float64]:
    """What speaks for an object being in view.

    Args:
        tree: Of the object.
        score: Probability in [0, 1] by the grounding head.

    Returns:
        Log-odds [2], in ±MAX_LOG_ODDS: by the language model and by the grounding head.
    """
    by_language = float(tree.visible[0] - tree.visible[1])
    score = min(max(score, 1e-6), 1 - 1e-6)
    evidence = np.array([by_language, math.log(score / (1 - score))])
    return np.clip(evidence, -MAX_LOG_ODDS, MAX_LOG_ODDS)


def read_visibility(evidence: NDArray[np.float64], weights: Sequence[float]) -> float:
    """Probability that an object is in view, by logistic regression.

    Args:
        evidence: See `visibility_evidence`.
        weights: Of either log-odds, and a constant.

    Returns:
        A number in [0, 1].
    """
    return float(1 / (1 + np.exp(-(evidence @ np.asarray(weights[:2]) + weights[2]))))


def read_depth(tree: DigitTree, temperature: float = 1.0, visible: float | None = None) -> DepthReadout:
    """Read one digit tree.

    Args:
        tree: Raw logits.
        temperature: Calibration, > 0: above 1 it widens the distribution.
        visible: Probability that the object is in view, where that is known better than from the tree alone.

    Returns:
        The depth with its standard deviation.

    Raises:
        BadModelError: The logits are no finite numbers.
    """
    _check_finite(tree.visible, tree.tenths, *(() if tree.hundredths is None else (tree.hundredths,)))
    # 1. Expected value and standard deviation.
    weights = _number_weights(tree.tenths, tree.hundredths, temperature)
    mean, stddev = (float(v) for v in _moments(weights))
    # 2. The likeliest answer; where only its tenth is known, the expected one.
    visible = float(softmax(tree.visible)[0]) if visible is None else visible
    likeliest = int(weights.argmax()) if tree.hundredths is not None else min(99, round(100 * mean))
    return DepthReadout(mean, stddev, visible, f"0.{likeliest:02d}" if visible >= 0.5 else NOT_VISIBLE)


def read_depths(
    trees: Sequence[DigitTree], temperature: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The depths that `read_depth` reads of n digit trees, at once.

    Args:
        trees: All of them with their hundredths, or all without.
        temperature: As of `read_depth`.

    Returns:
        Means [n] and standard deviations [n].

    Raises:
        BadModelError: Logits are no finite numbers.
        ValueError: Some trees have hundredths, and some have not.
    """
    if not trees:
        return np.zeros(0), np.zeros(0)
    known = [tree.hundredths for tree in trees if tree.hundredths is not None]
    if len(known) not in (0, len(trees)):
        raise ValueError(f"{len(known)} of {len(trees)} digit trees have hundredths; expected all or none")
    tenths, hundredths = np.stack([tree.tenths for tree in trees]), np.stack(known) if known else None
    _check_finite(np.stack([tree.visible for tree in trees]), tenths, *([] if hundredths is None else [hundredths]))
    return _moments(_number_weights(tenths, hundredths, temperature))


def _number_weights(
    tenths: NDArray[np.float64], hundredths: NDArray[np.float64] | None, temperature: float
) -> NDArray[np.float64]:
    """Probabilities [..., 100] of 0.00 to 0.99: of the first digit [..., 10, 1] times of the second [..., 10, 10]."""
    first = softmax(tenths / temperature)
    second = np.full((10, 10), 0.1) if hundredths is None else softmax(hundredths / temperature)
    weights: NDArray[np.float64] = (first[..., None] * second).reshape(*first.shape[:-1], 100)
    return weights


def _moments(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [...] over the numbers [..., 100], and over the step that each of them stands for."""
    numbers = np.arange(100) / 100
    mean = weights @ numbers
    variance = (weights * (numbers - mean[..., None]) ** 2).sum(-1) + (2 * HALF_STEP) ** 2 / 12
    return mean, np.sqrt(variance)


def greedy(tree: DigitTree) -> str:
    """The answer of greedy decoding, which takes the likeliest token every time, without temperature.

    Args:
        tree: With its hundredths.
    """
    assert tree.hundredths is not None
    if tree.visible[0] < tree.visible[1]:
        return NOT_VISIBLE
    tenth = int(tree.tenths.argmax())
    return f"0.{tenth}{int(tree.hundredths[tenth].argmax())}"


def read_choice(odds: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probability of a choice that was asked in several orders of naming.

    Args:
        odds: Log-odds [pairs, orders].
        temperature: Calibration, > 0: above 1 it makes less sure.

    Returns:
        [pairs], the mean over the orders, in [0, 1].

    Raises:
        BadModelError: The odds are no finite numbers.
    """
    _check_finite(odds)
    return np.asarray(0.5 + 0.5 * np.tanh(odds / temperature / 2)).mean(axis=-1)


@dataclass(frozen=True)
class Standing:
    """What tells of one object how far it is beside another.

    Attributes:
        depth: Perceived relative depth, in [0, 1].
        depth_stddev: Its standard deviation, > 0.
        lower_edge: Of its box, as share of the image's height, 0 = at the top.
        order: What the order head says, in log-odds (`proxqa_core.vision.order_head`); None = there is none.
    """

    depth: float
    depth_stddev: float
    lower_edge: float
    order: float | None = None


def closer_evidence(a: Standing, b: Standing) -> NDArray[np.float64]:
    """What speaks for the first of two objects being the closer one.

    Returns:
        [2]: the difference of the depths in standard deviations; and in [-1, 1] whether it ends lower in the image, as
        what stands closer on the same ground does. That saturates: much lower says no more than lower. [3] where there
        is an order head: the log-odds by that, at most MAX_ORDER_LOG_ODDS.
    """
    spread = math.hypot(a.depth_stddev, b.depth_stddev)
    evidence = [(b.depth - a.depth) / spread, math.tanh((a.lower_edge - b.lower_edge) / EDGE_SCALE)]
    if a.order is not None and b.order is not None:
        evidence.append(max(min(b.order - a.order, MAX_ORDER_LOG_ODDS), -MAX_ORDER_LOG_ODDS))
    return np.array(evidence)


def read_closer(evidence: NDArray[np.float64], weights: Sequence[float]) -> float:
    """Probability that the first of two objects is the closer one, by logistic regression.

    Args:
        evidence: See `closer_evidence`.
        weights: As many.

    Returns:
        A number in [0, 1]; of the same objects the other way round, what is left to 1.
    """
    return 0.5 + 0.5 * math.tanh(float(evidence @ np.asarray(weights)) / 2)


def doubted(probability: float, in_view: Sequence[float], doubt: float) -> float:
    """Probability of a choice between things of which it is not sure that they were found.

    Where another thing was taken for one of them, the choice is a coin's.

    Args:
        probability: That of the choice, were they found.
        in_view: Probabilities that those that were looked for are in view.
        doubt: Exponent of their product, 0 or more: 0 = as if they were found.

    Returns:
        A number in [0, 1], on the same side of 0.5, the nearer to it the less sure they were found.
    """
    return 0.5 + (probability - 0.5) * math.prod(in_view) ** doubt


def compare_depths(a: float, a_stddev: float, b: float, b_stddev: float, temperature: float = 1.0) -> float:
    """Probability that one depth is less than another, both normally distributed.

    Args:
        a: Mean of the first.
        a_stddev: Its standard deviation, > 0.
        b: Mean of the second.
        b_stddev: Its standard deviation, > 0.
        temperature: Multiplies the deviation of the difference: errors within one image are correlated.

    Returns:
        A number in [0, 1].
    """
    return 0.5 * (1 + math.erf((b - a) / temperature / math.sqrt(2 * (a_stddev**2 + b_stddev**2))))
