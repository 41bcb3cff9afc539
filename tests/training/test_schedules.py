"""The learning rate rises, then falls to its floor."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from proxqa_training.schedules import cosine_with_warmup


def test_it_rises_and_falls_to_the_floor() -> None:
    factors = [cosine_with_warmup(step, 100, 0.1, 0.02) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == max(factors[8:12])
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[50] == pytest.approx(0.02 + 0.98 / 2) and factors[100] == pytest.approx(0.02)


def test_without_warmup_it_begins_at_the_peak() -> None:
    assert cosine_with_warmup(0, 10, 0.0, 0.03) == 1
    assert cosine_with_warmup(9, 10, 0.0, 0.0) == pytest.approx((1 + math.cos(0.9 * math.pi)) / 2)
