"""What models and adapters are called by, and where the bundled adapter lies. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from pathlib import Path

from proxqa_core.errors import ModelNotFoundError

DEFAULT = "default"
"""The bundled model."""
NO_ADAPTER = "none"
"""As an adapter: the base alone."""
EXPECTED = "'default', a Hugging Face LLaVA id (owner/name) or a local folder"
_FOLDERS = frozenset((
    "models", "model", "checkpoints", "checkpoint", "ckpt", "ckpts", "weights", "out", "output", "outputs",
    "run", "runs", "adapters", "tmp", "home", "root", "mnt", "opt", "data", "datasets", "build", "results",
    "experiments", "exports", "saved", "saved_models", "pretrained", "work", "workspace",
))  # fmt: skip
"""What people call folders of models, and nobody on a hub is called: "models/llava" is a path that is mistyped."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
"""owner/name."""
DEFAULT_ADAPTER = Path(__file__).parents[1] / "assets" / "default"
"""The folder of the bundled model's own adapter."""


def adapter_folder(model: str, adapter: str | None) -> Path | None:
    """The adapter's folder that a model is loaded with, None = it has none; "~" is the home folder.

    Args:
        model: As of `proxqa_core.model.loading.load`.
        adapter: Likewise.
    """
    if not adapter:  # "" as in the node's parameters: a variable of a shell that is not set is no wish for none
        return DEFAULT_ADAPTER if model == DEFAULT else None
    return None if adapter == NO_ADAPTER else Path(os.path.expanduser(adapter))


def expanded(path: str | os.PathLike[str]) -> str:
    """A path whose "~" is the home folder: a shell leaves it as it is in `model:=~/llava`, and YAML has no shell."""
    return os.path.expanduser(str(path))


def check_there(model: str, adapter: str | None = NO_ADAPTER) -> None:
    """Check that a model and an adapter can be there, before anything heavy is imported.

    Args:
        model: As of `proxqa_core.model.loading.load`.
        adapter: Likewise.

    Raises:
        ModelNotFoundError: The model is no folder and cannot be an id on a hub; the adapter's folder does not exist.
    """
    source = expanded(model)
    if source != DEFAULT and not os.path.isdir(source):
        if os.path.isfile(source):
            raise ModelNotFoundError(f"model {source!r} is a file; expected the folder that it is in")
        if not _is_hub_id(source):  # do not ask the hub for what cannot be there
            raise ModelNotFoundError(f"model {source!r} is not there; expected {EXPECTED}")
    folder = adapter_folder(source, adapter)
    if folder is not None and not folder.is_dir():
        raise ModelNotFoundError(f"adapter folder {str(folder)!r} does not exist")


def _is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether this can be owner/name; a path object, and what lies or would lie in a folder, is none."""
    if not isinstance(source, str) or not HUB_ID.fullmatch(source) or os.path.exists(source):
        return False
    owner = os.path.dirname(source)
    return not os.path.isdir(owner) and owner.casefold() not in _FOLDERS
