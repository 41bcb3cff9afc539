"""OpenVINO's Python package, imported without what it sends home.

The package reports every import and every conversion to a server of its makers, unless its telemetry package is missing
or somebody has opted out on this machine. A robot does not do that: the telemetry package is hidden before the import.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from proxqa_core.errors import BackendError, reason_of

TELEMETRY = "openvino_telemetry"


def import_openvino(module: str = "openvino") -> Any:
    """OpenVINO's package, or a module of it.

    Raises:
        BackendError: It is not installed, or not for this machine.
    """
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]  # how Python marks what cannot be imported
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BackendError(f"openvino is not installed ({reason_of(error)}); pip install openvino") from error
