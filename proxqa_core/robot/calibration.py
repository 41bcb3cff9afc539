"""Relative depth → metres, learned while the robot runs from a few true distances.

Promises: NaN until the fit can be trusted, never a distance that is negative or infinite; three outliers in ten do
not move it; old samples fade; a stream that jumps back in time starts from nothing. Knows nothing of ROS, of
sensors or of where a sample comes from.

What is assumed. Over one view 1/z = s98 - (s98 - s2) * depth, where s2 and s98 are the disparities of that view's far
and near end (see `depth`): a straight line, of other numbers in every view. One line is fitted over the last `memory`
seconds, so it holds as far as the ends of the view change slowly: a camera that stays in one room, a robot on a street.
Where they change faster (something steps close to the lens; the camera turns from a wall to a corridor) the samples
scatter: that scatter is part of every deviation given out, and where no line fits most of them nothing is trusted. The
ends of `depth` are cut off: an object at 0 may be nearer, one at 1 farther than the distance said.

A true distance may be uncertain itself (`metres_stddev`): such a sample counts less, and what all of them may be wrong
by together (every door of a house is a little lower than said) is part of every deviation given out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_SAMPLES = 20.0
"""Fewest samples that a trusted fit rests on; one of age t counts exp(-t / memory)."""
MIN_SPREAD = 0.2
"""Least distance between the 10th and the 90th percentile of their relative depths."""
MIN_INLIERS = 0.6
"""Least part of the samples that a trusted fit agrees with."""
MIN_SLOPE = 3.0
"""Least slope, in standard deviations of its own: farther must really be read as farther."""
MIN_METRES, MAX_METRES = 0.01, 1000.0
"""Distances outside are neither learned from nor given out, in metres."""
CAPACITY = 300
"""Most samples kept."""
BACK = 1.0
"""Seconds by which times may be out of order; more is a jump back."""

_DEPTH_FLOOR = 0.02
"""Deviation of a relative depth at least, whatever the model says: that of a model sure of itself is close to 0."""
_OUTLIER = 2.5
"""Robust standard deviations beyond which a sample is one."""
_NO_SPREAD = 0.01
"""Relative depths closer together than this determine no line."""
_FORGOTTEN = 1e-6
"""Weight below which a sample is not looked at any more."""
_LINES = 200
"""Lines through two samples that are tried."""


@dataclass(frozen=True)
class CalibrationState:
    """How far the calibration has got.

    trusted: whether distances are given. reason: one line, what is missing, or on what it rests. samples: how many
    the fit rests on, faded with age. spread: distance of the 10th and 90th percentile of their relative depths, in
    [0, 1]. inliers: part of the samples that the fit agrees with, in [0, 1]. error: median of |distance - measured| /
    measured over all the samples. The last three are NaN while there is no fit.
    """

    trusted: bool
    reason: str
    samples: float
    spread: float = math.nan
    inliers: float = math.nan
    error: float = math.nan


@dataclass(frozen=True, eq=False)
class _Line:
    """1/z = near - slope * depth in 1/m, with the covariance of the two and the scatter nothing explains (1/m).

    common: part of the distances by which all the samples may be wrong alike.
    """

    near: float
    slope: float
    covariance: Floats
    scatter: float
    common: float
    samples: float
    spread: float
    inliers: float = 1.0
    error: float = math.nan

    def disparity(self, depth: Floats | float) -> Floats:
        return np.asarray(self.near - self.slope * np.asarray(depth))

    def disparity_stddev(self, depth: Floats | float, depth_stddev: Floats | float) -> Floats:
        """From the depth's own deviation, the scatter of the samples, their own, and the uncertainty of the fit."""
        depth = np.asarray(depth)
        (aa, ab), (_, bb) = self.covariance
        fit = np.maximum(aa - 2 * ab * depth + bb * depth**2, 0.0)
        own = (self.slope * np.asarray(depth_stddev)) ** 2 + (self.common * self.disparity(depth)) ** 2
        return np.sqrt(own + self.scatter**2 + fit)

    def metres(self, depth: Floats | float, depth_stddev: Floats | float) -> tuple[Floats, Floats]:
        """Distances and their deviations (first order); NaN where the deviation would reach the distance itself."""
        s, deviation = self.disparity(depth), self.disparity_stddev(depth, depth_stddev)
        known = (s > deviation) & (s >= 1 / MAX_METRES) & (s <= 1 / MIN_METRES)
        s = np.where(known, s, np.nan)
        return 1 / s, deviation / s**2


class Calibration:
    """The samples of the last while and the line through them. Not thread-safe.

    memory: seconds after which a sample counts 1/e of a new one, > 0. Raises ValueError on anything else. Times are
    seconds of any one clock, such as the images' own stamps.
    """

    def __init__(self, memory: float = 60.0) -> None:
        self._samples: deque[tuple[float, float, float, float, float]] = deque(maxlen=CAPACITY)
        self._now = -math.inf
        self._line: _Line | None = None
        self._stale = False
        self.memory = memory

    @property
    def memory(self) -> float:
        return self._memory

    @memory.setter
    def memory(self, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"memory is {seconds}; expected seconds > 0")
        self._memory, self._stale = seconds, True

    def reset(self) -> None:
        """Forget everything."""
        self._samples.clear()
        self._now, self._line, self._stale = -math.inf, None, False

    def add(self, time: float, depth: float, depth_stddev: float, metres: float, metres_stddev: float = 0.0) -> bool:
        """Learn from an object of this relative depth and this true distance along the optical axis, in metres.

        metres_stddev: how uncertain that distance is; 0 = measured by a sensor made for it. Whether it was taken: not
        where a number is not finite, depth or depth_stddev outside [0, 1], metres outside MIN_METRES to MAX_METRES, or
        metres_stddev outside [0, metres).
        """
        usable = (
            all(math.isfinite(v) for v in (time, depth, depth_stddev))
            and 0 <= depth <= 1
            and 0 <= depth_stddev <= 1
            and MIN_METRES <= metres <= MAX_METRES
            and 0 <= metres_stddev < metres
        )
        if usable:
            self._see(time)
            self._samples.append((time, depth, depth_stddev, 1 / metres, metres_stddev / metres**2))
            self._stale = True
        return usable

    def distance(self, time: float, depth: float, depth_stddev: float) -> tuple[float, float]:
        """Distance of an object and its standard deviation, in metres.

        NaN, NaN while the fit is not trusted, where the deviation would be as large as the distance (too far to tell),
        and where an argument is not finite or depth_stddev negative.
        """
        if not (all(math.isfinite(v) for v in (time, depth, depth_stddev)) and depth_stddev >= 0):
            return math.nan, math.nan
        self._see(time)
        line = self._fitted()
        if line is None or self._missing(line):
            return math.nan, math.nan
        metres, stddev = line.metres(depth, depth_stddev)
        return float(metres), float(stddev)

    def state(self) -> CalibrationState:
        """How far it has got at the latest time it was told."""
        line = self._fitted()
        if line is None:
            reason = "no line fits the samples" if self._samples else "no true distances yet"
            return CalibrationState(False, reason, float(len(self._samples)))
        missing, count = self._missing(line), self._faded(line)
        return CalibrationState(
            not missing, missing or f"from {count:.0f} samples", count, line.spread, line.inliers, line.error
        )

    def _see(self, time: float) -> None:
        if time < self._now - BACK:
            self.reset()
        self._now = max(self._now, time)

    def _faded(self, line: _Line) -> float:
        return line.samples * math.exp((self._samples[-1][0] - self._now) / self.memory)

    def _missing(self, line: _Line) -> str:
        """What the line lacks to be trusted; '' = nothing."""
        if self._faded(line) < MIN_SAMPLES:
            return f"{self._faded(line):.0f} recent samples of at least {MIN_SAMPLES:.0f}"
        if line.spread < MIN_SPREAD:
            return f"their depths lie within {line.spread:.2f}; expected {MIN_SPREAD:.2f} or more"
        if line.inliers < MIN_INLIERS:
            return f"only {100 * line.inliers:.0f} % of the samples agree; expected {100 * MIN_INLIERS:.0f} % or more"
        if not line.slope > MIN_SLOPE * math.sqrt(max(line.covariance[1, 1], 0.0)):
            return "farther objects are not clearly read as farther"
        return ""

    def _fitted(self) -> _Line | None:
        """The line as of the latest sample: ageing since then changes all weights alike, so not the line."""
        if self._stale:
            self._stale = False
            self._line = None
            if self._samples:
                samples = np.array(self._samples)
                weight = np.exp((samples[:, 0] - samples[-1, 0]) / self.memory)
                _, depth, stddev, disparity, noise = samples[weight > _FORGOTTEN].T
                self._line = _fit(depth, stddev, disparity, noise, weight[weight > _FORGOTTEN])
        return self._line


def _fit(depth: Floats, stddev: Floats, disparity: Floats, noise: Floats, weight: Floats) -> _Line | None:
    """The line most samples agree on: least median of squares, then least squares over those that agree.

    noise: standard deviations of the disparities, 1/m. Least squares of disparity on depth, not the other way round: it
    is the best guess of the disparity given what the model says, errors of the model included. None where no line falls
    with depth.
    """
    own = np.hypot(stddev, _DEPTH_FLOOR)
    rise = np.subtract(*_quantiles(disparity, weight, (0.9, 0.1)))
    run = np.subtract(*_quantiles(depth, weight, (0.9, 0.1)))
    steepness = rise / run if rise > 0 and run > _NO_SPREAD else 1.0  # about, until there is a line
    deviation = np.hypot(own, noise / steepness)
    line = _first_line(depth, deviation, disparity, weight * (own / deviation) ** 2)
    if line is None:
        return None
    fitted = None
    for _ in range(3):
        deviation = np.hypot(own, noise / line[1])
        agree = _agreeing(line, depth, deviation, disparity, weight)
        fitted = _least_squares(*(v[agree] for v in (depth, stddev, deviation, disparity, noise, weight)))
        if fitted is None:
            return None
        line = (fitted.near, fitted.slope)
    assert fitted is not None
    metres, _ = fitted.metres(depth, stddev)
    error = np.where(np.isnan(metres), np.inf, np.abs(metres * disparity - 1))
    inliers = float(weight[agree].sum() / weight.sum())
    return replace(fitted, inliers=inliers, error=float(_median(error[None], weight)[0]))


def _first_line(depth: Floats, deviation: Floats, disparity: Floats, weight: Floats) -> tuple[float, float] | None:
    """(near, slope) of the line through two samples with the least median residual; None where none falls."""
    pick = np.random.default_rng(0)  # the same samples give the same line
    one, two = pick.choice(len(depth), (2, _LINES), p=weight / weight.sum())
    run = depth[one] - depth[two]
    far_apart = np.abs(run) > np.ptp(depth) / 4
    one, two, run = one[far_apart], two[far_apart], run[far_apart]
    slope = (disparity[two] - disparity[one]) / run
    one, slope = one[slope > 0], slope[slope > 0]
    if not len(one):
        return None
    near = disparity[one] + slope * depth[one]
    residual = np.abs(disparity - near[:, None] + slope[:, None] * depth) / deviation
    best = int(np.argmin(_median(residual, weight)))
    return float(near[best]), float(slope[best])


def _agreeing(
    line: tuple[float, float], depth: Floats, deviation: Floats, disparity: Floats, weight: Floats
) -> NDArray[np.bool_]:
    """The samples that are no outliers; none is, within half its own deviation."""
    near, slope = line
    residual = np.abs(disparity - near + slope * depth) / deviation
    spread = 1.4826 * float(_median(residual[None], weight)[0])
    return residual <= max(_OUTLIER * spread, slope / 2)


def _least_squares(
    depth: Floats, stddev: Floats, deviation: Floats, disparity: Floats, noise: Floats, weight: Floats
) -> _Line | None:
    """The weighted line through all of these; None where they have no spread or it does not fall."""
    if len(depth) < 3 or np.ptp(depth) < _NO_SPREAD:
        return None
    x = np.stack([np.ones_like(depth), -depth], axis=1)
    w = weight / deviation**2
    inverse = np.linalg.inv(x.T @ (w[:, None] * x))
    near, slope = inverse @ (x.T @ (w * disparity))
    if not slope > 0:
        return None
    residual = disparity - near + slope * depth
    count = weight.sum() ** 2 / (weight**2).sum()
    dispersion = float(np.average((residual / deviation) ** 2, weights=weight)) * count / max(count - 2, 1)
    covariance = dispersion * inverse @ (x.T @ ((w * deviation)[:, None] ** 2 * x)) @ inverse
    unexplained = float(np.average(residual**2 - (slope * stddev) ** 2 - noise**2, weights=weight))
    return _Line(
        near=float(near),
        slope=float(slope),
        covariance=covariance,
        scatter=math.sqrt(max(unexplained, 0.0)),
        common=float(np.average(noise / disparity, weights=w)),
        samples=float(weight.sum()),
        spread=float(np.subtract(*_quantiles(depth, weight, (0.9, 0.1)))),
    )


def _quantiles(values: Floats, weight: Floats, parts: tuple[float, ...]) -> Floats:
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return values[order][np.minimum(np.searchsorted(share, parts), len(values) - 1)]


def _median(rows: Floats, weight: Floats) -> Floats:
    """The weighted median of every row."""
    order = np.argsort(rows, axis=1)
    share = np.cumsum(weight[order], axis=1) / weight.sum()
    middle = np.argmax(share >= 0.5 - 1e-9, axis=1)
    return np.take_along_axis(rows, order, axis=1)[np.arange(len(rows)), middle]
