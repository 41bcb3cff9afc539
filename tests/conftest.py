"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# how long an example takes says how busy the machine is
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.fixture(scope="session")
def engine():
    """The real default model on the CPU, as users run it, loaded once for the whole run."""
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load("default", device="cpu")


@pytest.fixture(scope="session")
def exact():
    """The real default model by PyTorch in float32, the reference, for comparisons to the last digits."""
    from proxqa_core.backends.config import BackendConfig
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load("default", device="cpu", dtype="float32", backend=BackendConfig("torch"))
