"""A page to look at what was built: counts, and some images with their boxes and conversations.

Promises: one HTML file that needs nothing else; all text from the data is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from proxqa_core.errors import BadImageError
from proxqa_core.vision.image_file import read_image
from proxqa_training.proximity110k.build import SHARDS, BuildReport

SIDE_PX = 420
"""Longer side of the pictures on the page."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .7em;text-align:left}"
    "article{display:flex;gap:1.2em;border-top:1px solid #ddd;padding:1em 0}"
    "dt{color:#555}dd{margin:0 0 .4em 1em;font-weight:600}img{max-width:420px;height:auto}"
)


def render(out: Path, images: Path, report: BuildReport, count: int = 24) -> str:
    """The page about a built data set.

    Args:
        out: Folder that `build` wrote.
        images: Folder that the images are in.
        report: What `build` returned.
        count: How many images are shown, evenly spread over the shards.
    """
    shown = "".join(_article(images, row) for row in _spread(out, count))
    about = report.as_dict()
    tables = "".join(_table(title, about[key]) for title, key in (
        ("Images", "images"), ("Samples", "samples"), ("Questions", "questions"), ("Kinds", "kinds"),
        ("Left out", "left_out"),
    ))  # fmt: skip
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Proximity data</title><style>{STYLE}</style>"
        f"<h1>Proximity data</h1><p>{about['questions_per_image']:.1f} questions an image; "
        f"{about['mixed_in']} samples mixed in.</p>{tables}<h2>Some images</h2>{shown}</html>"
    )


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
    return f"<h2>{title}</h2><table>{rows or '<tr><td>none</td></tr>'}</table>"


def _article(images: Path, row: dict[str, Any]) -> str:
    said = "".join(_conversation(sample["stage"], sample["conversations"]) for sample in row["samples"])
    shown = f"{_picture(images / row['image'])}<br>{html.escape(row['image'])}"
    return f"<article><div>{shown}</div><div>{said}</div></article>"


def _conversation(stage: str, turns: Sequence[dict[str, str]]) -> str:
    pairs = "".join(
        f"<dt>{html.escape(q['value'].replace('<image>', '').strip())}</dt><dd>{html.escape(a['value'])}</dd>"
        for q, a in zip(turns[::2], turns[1::2], strict=True)
    )
    return f"<h3>{html.escape(stage)}</h3><dl>{pairs}</dl>"


def _picture(path: Path) -> str:
    try:
        image = Image.fromarray(np.asarray(read_image(path)))
    except BadImageError as error:
        return html.escape(str(error))
    image.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
