"""What the folder of a run was begun with: another run in it is refused.

Promises: a run goes on only with the data, the settings and the start that it was begun with: its checkpoint holds what
these made, and what is written in the end says that it was made of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.datasets.folder import ANNOTATIONS
from proxqa_core.files import sha256, write_text
from proxqa_core.model import adapter as adapters

BEGUN = "begun.json"
STARTS_FROM = (
    adapters.LORA,
    adapters.PROJECTOR,
    adapters.GROUNDING_HEAD,
    adapters.BOX_EMBEDDING,
    adapters.ORDER_HEAD,
)
"""Weights in the folder of a start, as far as it has them."""
CHANGE_NOTHING = ("per_device_batch_size", "torch_compile")
"""Settings that change memory and time and not the result: a run that had too little of them goes on with less."""


def run_folder(out: Path) -> Path:
    """Where the checkpoints, the log and the features of an adapter go: beside it, hidden, and thus no adapter's name.

    Args:
        out: Folder of the adapter.

    Returns:
        `.NAME.run`; `NAME.run` where an earlier version has begun one there.
    """
    earlier = out.with_name(f"{out.name}.run")
    return earlier if (earlier / BEGUN).is_file() else out.with_name(f".{out.name}.run")


def begin(work: Path, config: Any, start: Path | None, folders: Sequence[Path], val_fraction: float = 0.0) -> None:
    """Note in the run's folder what it is made from.

    Args:
        work: Folder of the run.
        config: What shapes it, a dataclass.
        start: Folder of the adapter or of the run that it starts from; None = of none.
        folders: What it is trained on.
        val_fraction: Share of it that is held out.

    Raises:
        ValueError: Another run was begun there.
    """
    files = [] if start is None else [start / name for name in STARTS_FROM]
    about = {
        "start": {file.name: sha256(file) for file in files if file.is_file()},
        "folders": [{"name": f.name, ANNOTATIONS: sha256(f / ANNOTATIONS)} for f in folders],
        "config": dataclasses.asdict(config),
        "val_fraction": val_fraction,
    }
    about = json.loads(json.dumps(about))  # tuples are lists when they come back
    file = work / BEGUN
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(about, indent=1) + "\n")
        return
    earlier = {"val_fraction": 0.0} | read_begun(work)
    changed = [k for k in about if _what_shapes(earlier.get(k)) != _what_shapes(about[k])]
    if changed:
        raise ValueError(
            f"{work}: a run with other {changed[0]} was begun there; delete it, or choose another folder for this one"
        )


def read_begun(work: Path) -> dict[str, Any]:
    """What a run was begun with, {} = nothing that can be read."""
    try:
        earlier = json.loads((work / BEGUN).read_text())
    except (ValueError, FileNotFoundError):
        return {}
    return earlier if isinstance(earlier, dict) else {}


def _what_shapes(values: Any) -> Any:
    """What a run was begun with, without `CHANGE_NOTHING`."""
    if isinstance(values, list):
        return [_what_shapes(v) for v in values]
    if isinstance(values, dict):
        return {k: _what_shapes(v) for k, v in values.items() if k not in CHANGE_NOTHING}
    return values
