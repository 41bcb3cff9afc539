"""Images of one's own that fine-tuning does not see, and what it changed on them.

Promises: what is held out is the same whenever a run is resumed, and nothing of it reaches the training; before and
after are asked the same. The held-out images are an ordinary labelled folder beside the run, for `proxqa eval` and
`proxqa train calibrate` too.
"""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxqa_core.cli.tables import columns, figure, share
from proxqa_core.datasets.folder import ANNOTATIONS, BadDatasetError, LabelledFolder, Record
from proxqa_core.engine import ProximityEngine
from proxqa_core.evaluation.metrics import summary
from proxqa_core.evaluation.runner import PROMPTS, measure
from proxqa_core.files import write_text
from proxqa_training.stages.calibrate import NORMAL_WITHIN_SIGMA

log = logging.getLogger(__name__)

VAL_FRACTION = 0.2
"""Share of the images with depth that is held out, where nothing else is asked for."""
MAX_PER_FOLDER = 100
"""Most images of a folder that are held out: judging them takes four passes."""
FEW_PAIRS = 100
"""Below, a share of pairs is uncertain by 10 points and more."""
WORSE = 0.02
"""By how much a share must have moved away from what it should be to be called worse."""
FIGURES = ("pairs", "pair_accuracy", "objects_with_truth", "mae", "ece", "within_sigma")
"""What is kept of a report of `proxqa_core.evaluation.metrics.summary`."""
_PATHS = ("image", "depth_map", "mask_map")


def split(folders: Sequence[Path], val_fraction: float) -> tuple[list[LabelledFolder], list[LabelledFolder]]:
    """Hold out the last images with depth of every folder: of a drive its last stretch, which no image before shows.

    Args:
        folders: Labelled folders.
        val_fraction: Share of their images with depth, in [0, 1); at least one of two, 0 = none.

    Returns:
        What is trained on, and what is held out, one for each folder.

    Raises:
        BadDatasetError: A folder is at fault.
    """
    kept, held_out = [], []
    for path in folders:
        folder = LabelledFolder(path)
        measured = [i for i, record in enumerate(folder.records) if _is_measured(record)]
        last = set(measured[len(measured) - _count(len(measured), val_fraction) :])
        kept.append(folder.subset([i for i in range(len(folder)) if i not in last]))
        held_out.append(folder.subset(sorted(last)))
    return kept, held_out


def _count(measured: int, val_fraction: float) -> int:
    """How many of so many images are held out: one at least where one can be spared."""
    if val_fraction == 0 or measured < 2:
        return 0
    return min(max(1, round(val_fraction * measured)), measured - 1, MAX_PER_FOLDER)


def _is_measured(record: Record) -> bool:
    return any(o.depth is not None and o.depth_m is not None for o in record.objects)


def write_folder(parts: Sequence[LabelledFolder], place: Path) -> int:
    """Write what is held out of several folders as one: a link to each, and the records.

    Args:
        parts: As of `split`.
        place: The folder to write.

    Returns:
        The number of images.

    Raises:
        OSError: It cannot be written.
    """
    records = []
    place.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        link = place / str(number)
        link.unlink(missing_ok=True)
        link.symlink_to(part.path.resolve(), target_is_directory=True)
        for raw in part.raw:
            records.append(raw | {key: f"{number}/{raw[key]}" for key in _PATHS if raw.get(key) is not None})
    write_text(place / ANNOTATIONS, json.dumps(records, ensure_ascii=False, indent=1) + "\n")
    return len(records)


def judge(before: Path, after: Path, folder: Path, device: str = "auto", dtype: str = "auto") -> dict[str, Any]:
    """Ask two adapters about a folder, by name and by box.

    Args:
        before: The one that was started from.
        after: The new one.
        folder: A labelled folder with depths that neither has seen.
        device: As of `ProximityEngine.load`.
        dtype: As of `ProximityEngine.load`.

    Returns:
        `folder`, `images`, and for each prompt `before` and `after` with `FIGURES`; a prompt by which nothing can be
        asked is missing.

    Raises:
        ProxqaError: An adapter or the folder is at fault.
    """
    labelled = LabelledFolder(folder)
    found: dict[str, Any] = {"folder": str(folder), "images": len(labelled)}
    shows = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    for when, adapter in (("before", before), ("after", after)):
        engine = ProximityEngine.load(adapter=adapter, device=device, dtype=dtype)
        for prompt in PROMPTS:
            try:
                report = summary(measure(engine, labelled, prompt, progress=shows), intervals=False)
            except BadDatasetError as error:  # nothing that a name alone means
                log.info("not judged by %s: %s", prompt, error)
                continue
            found.setdefault(prompt, {})[when] = {key: report[key] for key in FIGURES}
    return found


def as_text(judged: dict[str, Any], adapter: Path) -> str:
    """What `judge` returned, for people.

    Args:
        judged: See there.
        adapter: The new one.
    """
    rows = [[f"{judged['images']} images that it did not learn from", "before", "after", "of"]]
    for prompt in (p for p in PROMPTS if p in judged):
        rows += _rows(judged[prompt], f"by {prompt}")
    lines = [columns(rows)]
    pairs = max((judged[p]["after"]["pairs"] for p in PROMPTS if p in judged), default=0)
    if pairs < FEW_PAIRS:
        lines.append(f"{pairs} pairs are few: these figures show little")
    worse = [f"by {p} ({why})" for p in PROMPTS if p in judged and (why := _worse(judged[p]))]
    if worse:
        lines.append(f"it is less well calibrated than before {', '.join(worse)}; {_remedy(judged, adapter, pairs)}")
    return "\n".join(lines)


def _rows(both: dict[str, dict[str, float]], asked: str) -> list[list[str]]:
    before, after = both["before"], both["after"]

    def row(text: str, key: str, show: Any, count: str) -> list[str]:
        return [f"{asked}: {text}", show(before[key]), show(after[key]), count]

    pairs, objects = f"{after['pairs']} pairs", f"{after['objects_with_truth']} objects"
    return [
        row("which is closer, right", "pair_accuracy", share, pairs),
        row("depth, mean absolute error", "mae", lambda v: figure(v, 3), objects),
        row("calibration error of which is closer", "ece", lambda v: figure(v, 3), pairs),
        row("truth within the predicted ± (68.3 % if calibrated)", "within_sigma", share, objects),
    ]


def _worse(both: dict[str, dict[str, float]]) -> str:
    """What of the calibration got worse, '' = nothing."""
    before, after = both["before"], both["after"]
    parts = []
    if after["ece"] > before["ece"] + WORSE:
        parts.append(f"calibration error {figure(before['ece'], 3)} → {figure(after['ece'], 3)}")
    off = [abs(f["within_sigma"] - NORMAL_WITHIN_SIGMA) for f in (before, after)]
    if math.isfinite(off[0]) and off[1] > off[0] + WORSE:
        parts.append(f"within ± {share(before['within_sigma'])} → {share(after['within_sigma'])}")
    return ", ".join(parts)


def _remedy(judged: dict[str, Any], adapter: Path, pairs: int) -> str:
    """How to calibrate. pairs: of the held-out images."""
    command = f"proxqa train calibrate {shlex.quote(str(adapter))} --data"
    if pairs < FEW_PAIRS:
        return f"calibrate it on a labelled folder with more images, which it has not learned from: {command} FOLDER"
    return (
        f"calibrate it on these images: {command} {shlex.quote(judged['folder'])} (then they judge it no longer: take "
        "others for that)"
    )
