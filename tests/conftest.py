"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def engine():
    """The real default model on the CPU, loaded once for the whole run."""
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load("default", device="cpu")
