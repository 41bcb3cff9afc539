"""The evaluation report as one HTML file for people.

Promises: self-contained (no script, no file or address outside it) and everything that came from outside is escaped.
Knows nothing of models; the figures come from `metrics.summary`.
"""

from __future__ import annotations

import base64
import html
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core import __version__
from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.metrics import Measurements, PairResult

MAX_WORST_PAIRS = 24
"""Number of wrong pairs that are shown."""
RULES = ("lower edge", "larger box")
"""Titles of the two simple rules' columns."""
PICTURE_PX = 640
"""Longest side of a picture in the report, in pixels; it opens in this size."""
OPENS = "A picture opens where it is clicked, and closes likewise."
CONSTANT = "constant"
"""Title of the column of guessing: chance for pairs, the best constant for depths."""
LEGEND = {
    RULES[0]: "of two things, that whose box ends lower is closer; for depths, a straight line from the lower edge",
    RULES[1]: "of two things, that with the larger box is closer",
    CONSTANT: "for pairs, chance; for depths, the median of this set's own true depths",
}
"""What the columns beside the model are."""
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;display:block;width:fit-content;max-width:100%;overflow-x:auto}
svg{max-width:100%;height:auto}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.pairs{display:flex;flex-wrap:wrap;gap:1.5rem}
figure{margin:0;width:28rem;max-width:100%}figure img,figure svg{max-width:100%;border-radius:4px}
figcaption{font-size:13px}dl{display:grid;grid-template-columns:max-content auto;gap:0 .8rem;font-size:13px;color:#444}
dt{font-weight:600}dd{margin:0}.note{color:#666;font-size:13px}code{overflow-wrap:anywhere}
svg text{font:12px system-ui,sans-serif;fill:#444}.open input{position:absolute;opacity:0}.open img{cursor:zoom-in}
.open input:focus-visible+img{outline:3px solid #2a788e}.open input:checked+img{position:fixed;inset:0;width:100vw;
height:100vh;max-width:none;object-fit:contain;background:#000e;z-index:9;cursor:zoom-out;border-radius:0}
@media(max-width:45rem){td,th{padding:.25rem .5rem}h1{overflow-wrap:anywhere}}"""


@dataclass(frozen=True)
class Provenance:
    """What made a report.

    Attributes:
        command: As it was given, on one line.
        version: Of this package.
        date: When, with its time zone.
    """

    command: str
    version: str
    date: str

    @classmethod
    def now(cls, words: Sequence[str]) -> Provenance:
        """That of a command that ends now. words: the program and its arguments."""
        return cls(shlex.join(words), __version__, _now().strftime("%Y-%m-%d %H:%M UTC"))

    def as_html(self) -> str:
        """A line for a page."""
        by = f"<code>{escaped(self.command)}</code>, version {escaped(self.version)}"
        return f"<p class=note>Made by {by}, {escaped(self.date)}.</p>"


def _now() -> datetime:
    """The time, or that of ``SOURCE_DATE_EPOCH``, by which builds are made to give the same bytes at any time."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(seconds), UTC) if re.fullmatch(r"\d{1,11}", seconds) else datetime.now(UTC)


class Picture(Protocol):
    """An image of a run."""

    @property
    def image(self) -> str:
        """What the run calls it."""
        ...

    def load_image(self) -> NDArray[np.uint8]:
        """uint8 RGB [height, width, 3]; raises BadImageError."""
        ...


def render(
    report: dict[str, Any],
    measured: Measurements,
    source: str,
    pictures: Iterable[Picture],
    provenance: Provenance | None = None,
) -> str:
    """The report of a run as an HTML page.

    Args:
        report: As `metrics.summary` gives it.
        measured: The answers that it was computed from.
        source: What the model was measured on.
        pictures: The images, such as a labelled folder; one that is missing or damaged gets no picture.
        provenance: What made it; None = it is not said.

    Returns:
        The whole page.
    """
    title = f"proxqa: {report['model']} on {source}, asked by {report['prompt']}"
    parts = [
        f"<p>{report['images']} images, {report['pairs']} pairs, {report['objects']} objects; "
        f"{number(report['seconds_per_image'], 2)} s an image.</p>",
        _bad_images(report["bad_images"]),
        accuracy(report),
        *(_of_benchmark(report) if "benchmark" in report else ()),
        "<h2>Worst pairs</h2>",
        _worst(measured, pictures),
        notes(report),
    ]
    return page(title, parts, provenance)


def _of_benchmark(report: dict[str, Any]) -> list[str]:
    """What only the report on a benchmark has: the rules by depth difference, δ, what it is made of and leaves out."""
    base = report["baselines"]
    gaps = [
        [f"{gap} %", percent(right), percent(base["lower_edge_by_gap"][gap]), percent(base["larger_box_by_gap"][gap])]
        for gap, right in report["pair_accuracy_by_gap"].items()
        if report["pairs_by_gap"][gap]
    ]
    deltas = [[f"within a factor of {name}", percent(value)] for name, value in report["delta"].items()]
    deltas += [["rank correlation of the rule: lower edge", number(base["lower_edge_spearman"])],
               ["rank correlation of the rule: larger box", number(base["larger_box_spearman"])]]  # fmt: skip
    counted = [[f"not asked, counted as wrong: {why}", str(count)] for why, count in report["not_asked"].items()]
    made = [[name, str(value)] for name, value in report["benchmark"].items()]
    return [
        *(["<h2>Beside the rules</h2>", table(["difference", "model", *RULES], gaps)] if gaps else []),
        *(["<h2>Depths</h2>", table(["", ""], deltas)] if report["objects"] else []),
        "<h2>What was asked</h2>",
        table(["", ""], [*made, *counted]),
        *(f"<p class=note>left out: {escaped(line)}</p>" for line in report["left_out"]),
    ]


def _bad_images(bad: dict[str, Any]) -> str:
    """What was left out, '' = nothing. bad: "bad_images" of the report."""
    reasons = "; ".join(html.escape(reason) for reason in bad["reasons"])
    return f"<p>{bad['count']} images cannot be used and are left out: {reasons}</p>" if bad["count"] else ""


def accuracy(report: dict[str, Any]) -> str:
    """The figures of `metrics.summary`: tables and the calibration plot."""
    return "\n".join(
        [
            "<h2>Figures</h2>",
            figures_table(report),
            "<h2>By depth difference</h2>",
            gap_table(report),
            "<h2>Is it as sure as it is right?</h2>",
            calibration_plot(report["calibration"], report["ece"]),
        ]
    )


def page(title: str, parts: Sequence[str], provenance: Provenance | None = None) -> str:
    """A whole page of parts that are HTML already; the title, and what made the page, are escaped here."""
    made = []
    if provenance is not None:
        made = [provenance.as_html()]
    head = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head><body><h1>{escaped(title)}</h1>",
    ]
    return "\n".join([*head, *made, *parts, "</body></html>\n"])


def notes(report: dict[str, Any]) -> str:
    """The report's own explanations of its figures."""
    return "\n".join(
        f"<p class=note>{escaped(name)}: {escaped(note)}</p>" for name, note in report.get("notes", {}).items()
    )


def escaped(value: object) -> str:
    """Text as HTML."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int = 3) -> str:
    """A figure for people; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share for people; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: first column text, the others numbers.

    Args:
        head: Column titles; escaped here.
        rows: Cells, as many in every row as there are titles; escaped here.
    """

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["", *[" class=n"] * (len(cells) - 1)]
        return "".join(f"<{tag}{kind}>{escaped(c)}</{tag}>" for kind, c in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{row(r, 'td')}</tr>" for r in rows)
    return f"<table><tr>{row(head, 'th')}</tr>{body}</table>"


def figures_table(report: dict[str, Any]) -> str:
    """The main figures with intervals, and a column for each simple rule. report: as `metrics.summary` gives it."""
    base = report["baselines"]
    intervals = report.get("interval_95", {})

    def between(name: str, show: Any) -> str:
        return _between(intervals.get(name), show)

    none = "–"
    rows = [
        ["Which is closer: right", percent(report["pair_accuracy"]), between("pair_accuracy", percent),
         percent(base["lower_edge"]), percent(base["larger_box"]), "50 %"],
        [f"… counter-heuristic pairs (lower edge misleads; {report['pairs_breaking']})",
         percent(report["pair_accuracy_breaking"]), between("pair_accuracy_breaking", percent),
         percent(base["lower_edge_breaking"]), percent(base["larger_box_breaking"]), "50 %"],
        ["… by comparing the two depths", percent(report["pair_accuracy_from_depths"]),
         between("pair_accuracy_from_depths", percent), none, none, "50 %"],
        ["Relative depth: mean absolute error", number(report["mae"]), between("mae", number),
         number(base["lower_edge_line_mae"]), none, number(base["constant_mae"])],
        ["Relative depth: root mean square error", number(report["rmse"]), none,
         number(base["lower_edge_line_rmse"]), none, number(base["constant_rmse"])],
        ["Relative depth: rank correlation", number(report["spearman"]), between("spearman", number),
         number(base["lower_edge_line_spearman"]), none, none],
        ["Relative depth: truth within the predicted standard deviation (68 % if it is right)",
         percent(report["within_sigma"]), between("within_sigma", percent), none, none, none],
        ["Objects answered", percent(report["valid_rate"]), none, none, none, none],
        ["Expected calibration error", number(report["ece"]), none, none, none, none],
    ]  # fmt: skip
    if (absent := report["absent"]) is not None:
        rows += [
            [f"Names not in view: predicted absent ({absent['asked']} names)", percent(absent["said_absent"]),
             none, none, none, none],
            ["… share of comparisons in which what is there scores higher (AUROC)", number(absent["auroc"]),
             _between(absent.get("interval_95"), number), none, none, number(0.5)],
        ]  # fmt: skip
    if (direct := report["direct"]) is not None:
        rows += [
            ["Which is closer, asked without depths: right", percent(direct["pair_accuracy"]), none, none, none,
             "50 %"],
            ["… counter-heuristic pairs", percent(direct["pair_accuracy_breaking"]), none, none, none, "50 %"],
            ["… gained by perceiving depths first", percent(direct["difference"]),
             _between(direct.get("interval_95"), percent), none, none, none],
        ]  # fmt: skip
    return table(["", "model", "95 % interval", *LEGEND], rows) + legend()


def legend() -> str:
    """What the columns beside the model are, as HTML."""
    return "<dl>" + "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in LEGEND.items()) + "</dl>"


def _between(bounds: tuple[float, float] | None, show: Any) -> str:
    """A 95 % interval in words; bounds: None or NaN = there is none."""
    low, high = bounds or (math.nan, math.nan)
    return f"{show(low)} to {show(high)}" if math.isfinite(low) else "–"


def gap_table(report: dict[str, Any]) -> str:
    """Accuracy by the difference in depth. report: as `metrics.summary` gives it."""
    rows = [
        [f"{name} %", str(report["pairs_by_gap"][name]), percent(accuracy)]
        for name, accuracy in report["pair_accuracy_by_gap"].items()
    ]
    return table(["difference", "pairs", "right"], rows)


def calibration_plot(bins: Sequence[tuple[float, float, int]], ece: float) -> str:
    """Reliability diagram as SVG: stated probability against accuracy, larger dots for more pairs.

    Args:
        bins: As `metrics.calibration_bins` gives them.
        ece: Expected calibration error, in [0, 1].
    """
    if not bins:
        return "<p>No answer came with a probability.</p>"
    # 1. scales: 50 to 100 % stated across, 0 to 100 % right upwards, in pixels
    size, margin = 300, 56

    def across(share: float) -> float:
        return margin + min(1.0, max(0.0, share)) * size

    def up(share: float) -> float:
        return margin / 2 + size - min(1.0, max(0.0, share)) * size

    # 2. one dot per bin
    most = max(count for _, _, count in bins)
    dots = "".join(
        f'<circle cx="{across((stated - 0.5) * 2):.1f}" cy="{up(right):.1f}" r="{3 + 9 * math.sqrt(count / most):.1f}" '
        f'fill="#2a788e" fill-opacity=".75"><title>{percent(stated)} stated, {percent(right)} right, {count} pairs'
        "</title></circle>"
        for stated, right, count in bins
    )
    # 3. labels of the axes
    ticks = "".join(
        f'<text x="{across((v - 50) / 50):.0f}" y="{up(0) + 18:.0f}" text-anchor="middle">{v} %</text>'
        for v in (50, 75, 100)
    ) + "".join(
        f'<text x="{margin - 6}" y="{up(v / 100) + 4:.0f}" text-anchor="end">{v} %</text>' for v in (0, 50, 100)
    )
    ticks += axis_titles("stated probability", "share right", (across(0.5), up(0) + 36), (12, up(0.5)))
    # 4. frame, diagonal of perfect calibration, note
    width, height = size + 2 * margin, size + margin + margin / 2
    return (
        f'<svg width="{width}" height="{height:.0f}" role="img" aria-label="calibration plot">'
        f'<rect x="{margin}" y="{margin / 2}" width="{size}" height="{size}" fill="none" stroke="#ccc"/>'
        f'<line x1="{across(0)}" y1="{up(0.5)}" x2="{across(1)}" y2="{up(1)}" stroke="#999" stroke-dasharray="4 4"/>'
        f"{dots}{ticks}</svg>"
        f"<p class=note>Stated probability (across) and share right (up); on the dashed line both agree. "
        f"Calibration error {number(ece)}.</p>"
    )


def axis_titles(across: str, up: str, below: tuple[float, float], left: tuple[float, float]) -> str:
    """SVG text of the titles of both axes, the latter turned.

    Args:
        across: Title of the horizontal axis.
        up: Title of the vertical axis.
        below: Middle of the former, in pixels.
        left: Middle of the latter, in pixels.
    """
    turned = f'transform="rotate(-90 {left[0]:.0f} {left[1]:.0f})"'
    return (
        f'<text x="{below[0]:.0f}" y="{below[1]:.0f}" text-anchor="middle">{escaped(across)}</text>'
        f'<text x="{left[0]:.0f}" y="{left[1]:.0f}" text-anchor="middle" {turned}>{escaped(up)}</text>'
    )


def _worst(measured: Measurements, pictures: Iterable[Picture]) -> str:
    """The wrong answers with the highest confidence, of equal ones those of the largest difference."""
    wrong = [p for p in measured.pairs if not p.correct]
    wrong.sort(key=lambda p: tuple(-v if math.isfinite(v) else 0.0 for v in (p.confidence, p.gap)))
    if not measured.pairs:
        return "<p>No pair was asked about: no two objects of an image have a depth and differ in it by enough.</p>"
    if not wrong:
        return "<p>No pair was answered wrongly.</p>"
    shown = wrong[:MAX_WORST_PAIRS]
    needed = {measured.images[p.image] for p in shown}
    records = {r.image: r for r in pictures if r.image in needed}
    figures = "".join(_figure(p, records.get(measured.images[p.image])) for p in shown)
    return f"<p>{len(wrong)} of {len(measured.pairs)} were wrong. {OPENS}</p><div class=pairs>{figures}</div>"


def _figure(pair: PairResult, record: Picture | None) -> str:
    by = f" by {100 * pair.gap:.0f} %" if math.isfinite(pair.gap) else ""
    caption = (
        f"{escaped(pair.near)} (yellow) is closer than {escaped(pair.far)} (violet){by}; "
        f"the model answered the opposite, {percent(pair.confidence)} sure"
    )
    shown = ""
    if record is not None:
        try:
            shown = picture(thumbnail(record.load_image(), pair), record.image)
        except BadImageError as error:
            shown = f"<p class=note>{escaped(error)}</p>"
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def thumbnail(image: NDArray[np.uint8], pair: PairResult) -> bytes:
    """A JPEG of an image with a pair's boxes: the closer one yellow, the other violet.

    Args:
        image: uint8 RGB [height, width, 3].
        pair: The pair.

    Raises:
        BadImageError: It cannot be written.
    """
    height, width = image.shape[:2]
    scale = min(1.0, PICTURE_PX / max(height, width))
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    for box, colour in ((pair.far_box, (170, 60, 220)), (pair.near_box, (253, 231, 37))):
        if not all(map(math.isfinite, box)):
            continue  # it is not known where the thing is
        x1, y1, x2, y2 = (round(v * scale) for v in box)
        cv2.rectangle(small, (x1, y1), (x2, y2), (0, 0, 0), 4)
        cv2.rectangle(small, (x1, y1), (x2, y2), colour, 2)
    return jpeg_of(small)


def jpeg_of(image: NDArray[np.uint8]) -> bytes:
    """A JPEG of an image, uint8 RGB [height, width, 3].

    Raises:
        BadImageError: It cannot be written.
    """
    ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not ok:
        raise BadImageError("the picture could not be written as JPEG")
    return bytes(jpeg)


def picture(jpeg: bytes, alt: str) -> str:
    """The HTML of a JPEG that opens over the whole window when it is clicked, or space is pressed on it.

    Args:
        jpeg: The file.
        alt: What it shows, in words.
    """
    shown = f'<img alt="{escaped(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    return f'<label class=open><input type=checkbox aria-label="open {escaped(alt)}">{shown}</label>'
