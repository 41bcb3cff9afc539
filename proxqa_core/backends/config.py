"""Which runtime is asked for, checked. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from proxqa_core.errors import BadModelError

AUTO = "auto"
BACKENDS = (AUTO, "torch", "openvino", "tensorrt")
"""What can be asked for; 'auto' = the fastest that works."""


def check_backend(name: str) -> None:
    """Raise BadModelError where a backend is none of BACKENDS."""
    if name not in BACKENDS:
        raise BadModelError(f"backend {name[:60]!r} is unknown; expected one of {', '.join(BACKENDS)}")


@dataclass(frozen=True)
class BackendConfig:
    """What is asked for; a value that exists is valid.

    Attributes:
        name: One of BACKENDS.
        int8: The language model's weights in 8 bits, where the backend can: faster, depths change by up to 0.03.
        prepared: Only what has been made before is taken: nothing that is made once and kept is waited for.

    Raises:
        BadModelError: The name is unknown.
    """

    name: str = AUTO
    int8: bool = False
    prepared: bool = False

    def __post_init__(self) -> None:
        check_backend(self.name)
