"""Relative depth to metres, fitted while the robot runs from a few true distances.

Promises: NaN until the fit can be trusted, never a distance that is negative or infinite; three outliers in ten do
not move it; old samples fade; a stream that jumps back in time starts from nothing. Knows nothing of ROS, of
sensors or of where a sample comes from.

Model. Over one view 1/z = s98 - (s98 - s2) * depth, where s2 and s98 are the disparities of that view's far
and near end (see `depth`): a straight line, of other numbers in every view. One line is fitted over the last `memory`
seconds, so it holds as far as the ends of the view change slowly: a camera that stays in one room, a robot on a street.
Where they change faster (something steps close to the lens; the camera turns from a wall to a corridor) the samples
scatter: that scatter is part of every standard deviation, and where no line fits most of them nothing is trusted. The
ends of `depth` are clipped: an object at 0 may be nearer, one at 1 farther than its distance.

A true distance may be uncertain itself (`metres_stddev`): such a sample counts less, and the error that all of them may
have in common (every door of a house is a little lower than its known size) is part of every standard deviation.

Fit. Least median of squares over lines through two samples (Rousseeuw 1984) finds the samples that agree; weighted
least squares over those gives the line and its covariance (sandwich estimator).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_SAMPLES = 20.0
"""Smallest number of samples that a trusted fit rests on; one of age t counts exp(-t / memory)."""
MIN_SPREAD = 0.2
"""Smallest distance between the 10th and the 90th percentile of their relative depths."""
MIN_INLIER_SHARE = 0.6
"""Smallest share of the samples that a trusted fit agrees with."""
MIN_SLOPE_SIGMAS = 3.0
"""Smallest slope, in standard deviations of its own: farther must really be predicted as farther."""
MIN_DISTANCE_M, MAX_DISTANCE_M = 0.01, 1000.0
"""Distances outside this range are neither samples nor results, in metres."""
MAX_SAMPLES = 300
"""Number of samples that are kept."""
MAX_DISORDER_S = 1.0
"""Times may be out of order by this, in seconds; more is a jump back."""
MAX_GAP_S = 10.0
"""Longest time without an image, in seconds; more is a jump ahead."""
JUMP_IMAGES = 3
"""Images in a row that must agree on a jump before it is believed."""

_MIN_DEPTH_STDDEV = 0.02
"""Smallest standard deviation of a relative depth: an overconfident model gives one close to 0."""
_OUTLIER_SIGMAS = 2.5
"""A sample beyond this many robust standard deviations is an outlier."""
_MIN_FIT_SPREAD = 0.01
"""Relative depths closer together than this determine no line."""
_MIN_WEIGHT = 1e-6
"""Samples of a smaller weight are left out."""
_CANDIDATE_LINES = 200
"""Number of lines through two samples that are tried."""
_MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations."""
_REFINEMENTS = 3
"""Number of rounds of choosing the samples that agree and fitting them."""


@dataclass(frozen=True)
class CalibrationState:
    """How far the calibration has got.

    Attributes:
        trusted: Whether distances are given.
        reason: What is missing, or what the fit rests on, in one line.
        samples: Number of samples that the fit rests on, faded with age.
        spread: Distance of the 10th and 90th percentile of their relative depths, in [0, 1]; NaN while there is no fit.
        inliers: Share of the samples that the fit agrees with, in [0, 1]; NaN while there is no fit.
        error: Median relative error of the distances over all samples; NaN while there is no fit.
    """

    trusted: bool
    reason: str
    samples: float
    spread: float = math.nan
    inliers: float = math.nan
    error: float = math.nan


@dataclass(frozen=True, eq=False)
class _Line:
    """A fitted line 1/z = near - slope * depth.

    Attributes:
        near: Disparity of depth 0, in 1/m.
        slope: Fall of the disparity from depth 0 to 1, in 1/m, > 0.
        covariance: Of (near, slope), [2, 2], in 1/m².
        scatter: Standard deviation of the disparity that nothing else explains, in 1/m.
        common: Error that all the samples may have in common, as a share of the distance.
        samples: Sum of the weights.
        spread: As in `CalibrationState`.
        inliers: As in `CalibrationState`.
        error: As in `CalibrationState`.
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
        """1/z in 1/m at relative depths."""
        return np.asarray(self.near - self.slope * np.asarray(depth))

    def disparity_stddev(self, depth: Floats | float, depth_stddev: Floats | float) -> Floats:
        """Standard deviation of `disparity`, in 1/m: the root of the sum of four variances."""
        depth = np.asarray(depth)
        # 1. of the fit: [1, -depth] · covariance · [1, -depth]
        (aa, ab), (_, bb) = self.covariance
        fit = np.maximum(aa - 2 * ab * depth + bb * depth**2, 0.0)
        # 2. of the depth itself, 3. common to all samples, 4. scatter
        own = (self.slope * np.asarray(depth_stddev)) ** 2 + (self.common * self.disparity(depth)) ** 2
        return np.sqrt(own + self.scatter**2 + fit)

    def metres(self, depth: Floats | float, depth_stddev: Floats | float) -> tuple[Floats, Floats]:
        """Distances and their standard deviations in metres, to first order; NaN where these would be as large."""
        s, deviation = self.disparity(depth), self.disparity_stddev(depth, depth_stddev)
        known = (s > deviation) & (s >= 1 / MAX_DISTANCE_M) & (s <= 1 / MIN_DISTANCE_M)
        s = np.where(known, s, np.nan)
        return 1 / s, deviation / s**2


class Calibration:
    """The recent samples and the line through them. Not thread-safe.

    Times are seconds of any one clock, such as the images' own stamps.

    Args:
        memory: Time constant of forgetting: a sample of this age counts 1/e of a new one, in seconds, > 0.

    Raises:
        ValueError: `memory` is not finite or not above 0.
    """

    def __init__(self, memory: float = 60.0) -> None:
        self._samples: deque[tuple[float, float, float, float, float]] = deque(maxlen=MAX_SAMPLES)
        self._now = -math.inf
        self._jumped: list[float] = []
        """Times of images in a row that are not of the time that goes on."""
        self._line: _Line | None = None
        self._stale = False
        self.memory = memory

    @property
    def memory(self) -> float:
        """Time constant of forgetting, in seconds."""
        return self._memory

    @memory.setter
    def memory(self, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"memory is {seconds}; expected seconds > 0")
        self._memory, self._stale = seconds, True

    def reset(self) -> None:
        """Drop all samples and the fit."""
        self._samples.clear()
        self._jumped.clear()
        self._now, self._line, self._stale = -math.inf, None, False

    def add(self, time: float, depth: float, depth_stddev: float, metres: float, metres_stddev: float = 0.0) -> bool:
        """Add a sample: an object's predicted relative depth and its true distance.

        Args:
            time: Of the image, in seconds.
            depth: Relative depth, in [0, 1].
            depth_stddev: Its standard deviation, in [0, 1].
            metres: True distance along the optical axis, from MIN_DISTANCE_M to MAX_DISTANCE_M.
            metres_stddev: Its standard deviation, in metres, in [0, metres); 0 = measured by a range sensor.

        Returns:
            Whether the sample was used: not where a number is not finite or outside its range, or where the time has
            jumped and the images after it have not confirmed that yet.
        """
        usable = (
            all(math.isfinite(v) for v in (time, depth, depth_stddev))
            and 0 <= depth <= 1
            and 0 <= depth_stddev <= 1
            and MIN_DISTANCE_M <= metres <= MAX_DISTANCE_M
            and 0 <= metres_stddev < metres
        )
        usable = usable and self._see(time)
        if usable:
            self._samples.append((time, depth, depth_stddev, 1 / metres, metres_stddev / metres**2))
            self._stale = True
        return usable

    def distance(self, time: float, depth: float, depth_stddev: float) -> tuple[float, float]:
        """Distance of an object along the optical axis.

        Args:
            time: Of the image, in seconds.
            depth: Relative depth.
            depth_stddev: Its standard deviation, >= 0.

        Returns:
            The distance and its standard deviation, in metres. NaN, NaN while the fit is not trusted, where the
            deviation would be as large as the distance (too far to tell), where an argument is not finite or
            depth_stddev negative, and where the time has jumped.
        """
        if not (all(math.isfinite(v) for v in (time, depth, depth_stddev)) and depth_stddev >= 0):
            return math.nan, math.nan
        seen = self._see(time)
        line = self._fitted()
        if not seen or line is None or self._missing(line):
            return math.nan, math.nan
        metres, stddev = line.metres(depth, depth_stddev)
        return float(metres), float(stddev)

    def state(self) -> CalibrationState:
        """How far the calibration has got at the latest time given to it."""
        line = self._fitted()
        if line is None:
            reason = "no line fits the samples" if self._samples else "no true distances yet"
            return CalibrationState(False, reason, float(len(self._samples)))
        missing, count = self._missing(line), self._faded(line)
        return CalibrationState(
            not missing, missing or f"from {count:.0f} samples", count, line.spread, line.inliers, line.error
        )

    def _see(self, time: float) -> bool:
        """Note the time of an image; whether it is of the time that goes on.

        One image with an odd stamp must not cost what was learned: a jump is believed once JUMP_IMAGES images in a row
        agree on it. Back, it is another time (a bag that began again), and everything is learned anew.
        """
        back = time < self._now - MAX_DISORDER_S
        if not back and (self._now == -math.inf or time <= self._now + MAX_GAP_S):
            self._now = max(self._now, time)
            self._jumped.clear()
            return True
        if self._jumped and abs(time - self._jumped[-1]) > MAX_GAP_S:
            self._jumped.clear()
        if time not in self._jumped:
            self._jumped.append(time)
        if len(self._jumped) < JUMP_IMAGES:
            return False
        if back:
            self.reset()
        self._now = time
        self._jumped.clear()
        return True

    def _faded(self, line: _Line) -> float:
        return line.samples * math.exp((self._samples[-1][0] - self._now) / self.memory)

    def _missing(self, line: _Line) -> str:
        """What the line lacks to be trusted, in one line; '' = nothing."""
        if self._faded(line) < MIN_SAMPLES:
            return f"{self._faded(line):.0f} recent samples of at least {MIN_SAMPLES:.0f}"
        if line.spread < MIN_SPREAD:
            return f"their depths lie within {line.spread:.2f}; expected {MIN_SPREAD:.2f} or more"
        if line.inliers < MIN_INLIER_SHARE:
            return (
                f"only {100 * line.inliers:.0f} % of the samples agree; expected {100 * MIN_INLIER_SHARE:.0f} % or more"
            )
        if not line.slope > MIN_SLOPE_SIGMAS * math.sqrt(max(line.covariance[1, 1], 0.0)):
            return "farther objects are not clearly predicted as farther"
        return ""

    def _fitted(self) -> _Line | None:
        """The line as of the latest sample: ageing since then changes all weights alike, so not the line."""
        if self._stale:
            self._stale = False
            self._line = None
            if self._samples:
                samples = np.array(self._samples)
                weight = np.exp((samples[:, 0] - samples[-1, 0]) / self.memory)
                _, depth, stddev, disparity, noise = samples[weight > _MIN_WEIGHT].T
                self._line = _fit(depth, stddev, disparity, noise, weight[weight > _MIN_WEIGHT])
        return self._line


def _fit(depth: Floats, stddev: Floats, disparity: Floats, noise: Floats, weight: Floats) -> _Line | None:
    """The line that most samples agree on: least median of squares, then least squares over those that agree.

    Least squares of disparity on depth, not the other way round: it is the best guess of the disparity given the
    predicted depth, errors of the model included.

    Args:
        depth: Relative depths, [n].
        stddev: Their standard deviations, [n].
        disparity: True disparities 1/z, in 1/m, [n].
        noise: Their standard deviations, in 1/m, [n].
        weight: By age, in (0, 1], [n].

    Returns:
        The line; None where no line falls with depth.
    """
    # 1. standard deviation of each sample along the depth axis, [n]; the noise of 1/z counts by a first guess of the
    #    slope, from the 10th and 90th percentiles
    own = np.hypot(stddev, _MIN_DEPTH_STDDEV)
    rise, run = _spread(disparity, weight), _spread(depth, weight)
    slope = rise / run if rise > 0 and run > _MIN_FIT_SPREAD else 1.0
    deviation = np.hypot(own, noise / slope)
    # 2. a line that outliers do not move
    line = _first_line(depth, deviation, disparity, weight * (own / deviation) ** 2)
    if line is None:
        return None
    # 3. refine: choose the samples that agree with the line, fit these, choose anew
    fitted = None
    for _ in range(_REFINEMENTS):
        deviation = np.hypot(own, noise / line[1])
        agree = _agreeing(line, depth, deviation, disparity, weight)
        fitted = _least_squares(*(v[agree] for v in (depth, stddev, deviation, disparity, noise, weight)))
        if fitted is None:
            return None
        line = (fitted.near, fitted.slope)
    assert fitted is not None
    # 4. how well all samples agree: relative error |distance - true| / true, infinite where there is no distance
    metres, _ = fitted.metres(depth, stddev)
    error = np.where(np.isnan(metres), np.inf, np.abs(metres * disparity - 1))
    inliers = float(weight[agree].sum() / weight.sum())
    return replace(fitted, inliers=inliers, error=float(_median(error[None], weight)[0]))


def _first_line(depth: Floats, deviation: Floats, disparity: Floats, weight: Floats) -> tuple[float, float] | None:
    """(near, slope) of the line through two samples with the least median residual; None where none falls."""
    # 1. pairs of samples [lines], always the same ones for the same samples, not too close together
    generator = np.random.default_rng(0)
    one, two = generator.choice(len(depth), (2, _CANDIDATE_LINES), p=weight / weight.sum())
    run = depth[one] - depth[two]
    far_apart = np.abs(run) > np.ptp(depth) / 4
    one, two, run = one[far_apart], two[far_apart], run[far_apart]
    # 2. the lines through them, those that fall
    slope = (disparity[two] - disparity[one]) / run
    one, slope = one[slope > 0], slope[slope > 0]
    if not len(one):
        return None
    near = disparity[one] + slope * depth[one]
    # 3. residuals [lines, n], scaled by the deviations; the line with the least weighted median
    residual = np.abs(disparity - near[:, None] + slope[:, None] * depth) / deviation
    best = int(np.argmin(_median(residual, weight)))
    return float(near[best]), float(slope[best])


def _agreeing(
    line: tuple[float, float], depth: Floats, deviation: Floats, disparity: Floats, weight: Floats
) -> NDArray[np.bool_]:
    """The samples that are no outliers, bool [n]; one within half its own deviation never is one."""
    near, slope = line
    residual = np.abs(disparity - near + slope * depth) / deviation
    sigma = _MAD_TO_SIGMA * float(_median(residual[None], weight)[0])
    return residual <= max(_OUTLIER_SIGMAS * sigma, slope / 2)


def _least_squares(
    depth: Floats, stddev: Floats, deviation: Floats, disparity: Floats, noise: Floats, weight: Floats
) -> _Line | None:
    """The weighted line through all of these samples, each [n]; None where they have no spread or it does not fall."""
    if len(depth) < 3 or np.ptp(depth) < _MIN_FIT_SPREAD:
        return None
    # 1. (near, slope) = (XᵀWX)⁻¹ XᵀW·disparity with X = [1, -depth], [n, 2], and W = weight / deviation², [n]
    x = np.stack([np.ones_like(depth), -depth], axis=1)
    w = weight / deviation**2
    inverse = np.linalg.inv(x.T @ (w[:, None] * x))
    near, slope = inverse @ (x.T @ (w * disparity))
    if not slope > 0:
        return None
    # 2. dispersion: mean squared residual in deviations, by the effective number of samples (Σw)² / Σw²
    residual = disparity - near + slope * depth
    count = weight.sum() ** 2 / (weight**2).sum()
    dispersion = float(np.average((residual / deviation) ** 2, weights=weight)) * count / max(count - 2, 1)
    # 3. covariance [2, 2], the sandwich for weights that are not the inverse variances
    covariance = dispersion * inverse @ (x.T @ ((w * deviation)[:, None] ** 2 * x)) @ inverse
    # 4. the variance of the residuals that neither the depths' nor the distances' own deviations explain
    unexplained = float(np.average(residual**2 - (slope * stddev) ** 2 - noise**2, weights=weight))
    return _Line(
        near=float(near),
        slope=float(slope),
        covariance=covariance,
        scatter=math.sqrt(max(unexplained, 0.0)),
        common=float(np.average(noise / disparity, weights=w)),
        samples=float(weight.sum()),
        spread=_spread(depth, weight),
    )


def _spread(values: Floats, weight: Floats) -> float:
    """Distance of the weighted 10th and 90th percentiles."""
    high, low = _quantiles(values, weight, (0.9, 0.1))
    return float(high - low)


def _quantiles(values: Floats, weight: Floats, shares: tuple[float, ...]) -> Floats:
    """Weighted quantiles of values [n]. shares: in [0, 1]."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return values[order][np.minimum(np.searchsorted(share, shares), len(values) - 1)]


def _median(rows: Floats, weight: Floats) -> Floats:
    """The weighted median of every row of [rows, n]."""
    order = np.argsort(rows, axis=1)
    share = np.cumsum(weight[order], axis=1) / weight.sum()
    middle = np.argmax(share >= 0.5 - 1e-9, axis=1)
    return np.take_along_axis(rows, order, axis=1)[np.arange(len(rows)), middle]
