"""A page to look at what was built: counts, and some images with their boxes, depths and conversations.

Promises: one HTML file that needs nothing else; all text from the data is escaped. It says what the data were built
from and by which command, and what made the page. The date is the page's alone: what is built has none, so that the
same command builds the same bytes.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core import __version__
from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.evaluation.html import Provenance
from proxqa_core.files import write_text
from proxqa_core.types import Box, ObjectDepth
from proxqa_core.vision.drawing import annotate
from proxqa_core.vision.image_file import read_image
from proxqa_training.proximity110k.build import RECIPE, REPORT, SHARDS, BadBuildError

SIDE_PX = 480
"""Longer side of the pictures on the page."""
JPEG_QUALITY = 85
BUILT_BY = "built_by.json"
"""Which command and version built a folder."""
LONGEST = 300
"""Characters of one value of the recipe on the page."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1150px;padding:0 1em;color:#222}"
    "section{display:flex;flex-wrap:wrap;gap:0 2.5em}table{border-collapse:collapse}h3{margin:.4em 0}"
    "td{border-bottom:1px solid #ddd;padding:.15em .8em .15em 0}td+td{text-align:right}"
    ".words td+td{text-align:left}code{overflow-wrap:anywhere}.note{color:#666;font-size:13px}"
    "article{display:grid;grid-template-columns:480px 1fr;gap:1.4em;border-top:1px solid #ddd;padding:1em 0}"
    "dt{color:#555}dd{margin:0 0 .4em 1em;font-weight:600}img{max-width:480px;height:auto}.bar{background:#21918c;"
    "height:.8em;display:inline-block}"
    "@media(max-width:50rem){article{grid-template-columns:minmax(0,1fr)}img{max-width:100%}dd,dt{overflow-wrap:anywhere}}"
)
TABLES = (
    ("Images", "images"),
    ("Samples", "samples"),
    ("Questions", "questions"),
    ("Kinds of question", "kinds"),
    ("Answers A and B", "letters"),
    ("Images left out", "left_out"),
    ("Annotations left out", "annotations_left_out"),
)
"""Titles, and keys of `BuildReport.as_dict`."""


def write_built_by(out: Path, command: str) -> None:
    """Keep which command and version built a folder, for its page.

    Raises:
        OSError: It cannot be written.
    """
    write_text(out / BUILT_BY, json.dumps({"command": command, "version": __version__}, indent=1) + "\n")


def render(out: Path, images: Path, count: int = 24, provenance: Provenance | None = None) -> str:
    """The page about a built data set.

    Args:
        out: Folder that `build` wrote.
        images: Folder that the images are in.
        count: How many images are shown, evenly spread over the shards.
        provenance: What makes the page; None = it is not said.

    Raises:
        BadBuildError: The folder holds no finished build.
    """
    about = _report(out)
    shown = "".join(_article(images, row) for row in _spread(out, count))
    tables = "".join(_table(title, about[key]) for title, key in TABLES)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Proximity data</title>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{STYLE}</style>"
        f"<h1>Proximity data</h1><p>{about['questions_per_image']:.1f} questions an image, "
        f"{about['words_per_question']} words a question, {about['words_per_answer']} an answer; "
        f"{about['absent_answers']} answers that something is not in view; {about['mixed_in']} samples mixed in.</p>"
        f"<section>{tables}{_histogram(about['depths_by_tenth'])}</section>{_made_of(out)}"
        f"<h2>Some images</h2>{shown}{'' if provenance is None else provenance.as_html()}</html>"
    )


def _made_of(out: Path) -> str:
    """What the data were built from, and by which command, as far as the folder says."""
    built_by, recipe = (_object_in(out / name) for name in (BUILT_BY, RECIPE))
    known = {"built by": built_by.get("command", "not recorded"), "version": built_by.get("version", "not recorded")}
    rows = "".join(
        f"<tr><td>{html.escape(str(key))}</td><td><code>{html.escape(_shortened(value))}</code></td></tr>"
        for key, value in {**known, **recipe}.items()
    )
    return f"<h2>What it was built from</h2><table class=words>{rows}</table>"


def _object_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _report(out: Path) -> dict[str, Any]:
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadBuildError(f"{out}: holds no {REPORT} of a finished build; run `proxqa data build` first") from error
    missing = {key for _, key in TABLES} - set(report if isinstance(report, dict) else ())
    if missing:
        raise BadBuildError(f"{out / REPORT}: has no {', '.join(sorted(missing))}; expected the report of a build")
    return report


def _spread(out: Path, count: int) -> list[dict[str, Any]]:
    """Rows with samples, evenly over the shards."""
    files = sorted((out / SHARDS).glob("*.jsonl"))
    each = max(1, -(-count // max(1, len(files))))
    step = max(1, len(files) // count)
    rows: list[dict[str, Any]] = []
    for path in files[::step]:
        with path.open(encoding="utf-8") as file:
            good = [row for row in map(json.loads, file) if row["samples"]]
        rows += good[:: max(1, len(good) // each)][:each]
    return rows[:count]


def _table(title: str, values: dict[str, int]) -> str:
    rows = "".join(f"<tr><td>{html.escape(str(k))}</td><td>{v}</td></tr>" for k, v in values.items())
    return f"<div><h3>{title}</h3><table>{rows or '<tr><td>none</td></tr>'}</table></div>"


def _histogram(counts: Sequence[int]) -> str:
    """How often each tenth of relative depth is the answer."""
    most = max(1, *counts)
    rows = "".join(
        f"<tr><td>0.{tenth}</td><td>{count}</td><td style='text-align:left'>"
        f"<span class='bar' style='width:{120 * count / most:.0f}px'></span></td></tr>"
        for tenth, count in enumerate(counts)
    )
    return f"<div><h3>Relative depths answered</h3><table>{rows}</table></div>"


def _article(images: Path, row: dict[str, Any]) -> str:
    said = "".join(_conversation(sample["stage"], sample["conversations"]) for sample in row["samples"])
    shown = f"{_picture(images / row['image'], row['objects'])}<br>{html.escape(row['image'])}"
    return f"<article><div>{shown}</div><div>{said}</div></article>"


def _conversation(stage: str, turns: Sequence[dict[str, str]]) -> str:
    pairs = "".join(
        f"<dt>{html.escape(q['value'].replace('<image>', '').strip())}</dt><dd>{html.escape(a['value'])}</dd>"
        for q, a in zip(turns[::2], turns[1::2], strict=True)
    )
    return f"<h3>{html.escape(stage)}</h3><dl>{pairs}</dl>"


def _picture(path: Path, objects: Sequence[dict[str, Any]]) -> str:
    """The image with the boxes and depths that were asked about."""
    try:
        drawn = annotate(*_small(read_image(path), objects))
    except (BadImageError, BadObjectError) as error:
        return html.escape(str(error))
    coded = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(coded.tobytes()).decode()}'>"


def _small(image: NDArray[np.uint8], objects: Sequence[dict[str, Any]]) -> tuple[NDArray[np.uint8], list[ObjectDepth]]:
    """The image at the page's size, with objects at the same; boxes there at least a pixel wide."""
    scale = SIDE_PX / max(image.shape[:2])
    width, height = (max(1, round(v * scale)) for v in (image.shape[1], image.shape[0]))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    things = []
    for thing in objects:
        x1, y1, x2, y2 = (v * scale for v in thing["box"])
        box = Box(x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
        things.append(ObjectDepth(thing["name"], thing["depth"], math.nan, 1.0, "", box))
    return np.asarray(resized, np.uint8), things
