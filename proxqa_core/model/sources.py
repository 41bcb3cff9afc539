"""What models and adapters are called by, and where the bundled adapter lies. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "default"
"""The bundled model."""
NO_ADAPTER = "none"
"""As an adapter: the base alone."""
DEFAULT_ADAPTER = Path(__file__).parents[1] / "assets" / "default"
"""The folder of the bundled model's own adapter."""


def adapter_folder(model: str, adapter: str | None) -> Path | None:
    """The adapter's folder that a model is loaded with, None = it has none; "~" is the home folder.

    Args:
        model: As of `proxqa_core.model.loading.load`.
        adapter: Likewise.
    """
    if adapter is None:
        return DEFAULT_ADAPTER if model == DEFAULT else None
    return None if adapter in ("", NO_ADAPTER) else Path(os.path.expanduser(adapter))
