"""The report on a sequence of frames as one HTML file for people: figures, depths over time, best and worst frames.

Promises: self-contained like the page of `html`, whatever came from outside is escaped, and its size does not grow
with the length of the sequence. Knows nothing of models, bags or ROS; the figures come from `sequence.report`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.html import (
    OPENS,
    Provenance,
    accuracy,
    axis_titles,
    escaped,
    jpeg_of,
    notes,
    number,
    page,
    percent,
    picture,
    table,
)
from proxqa_core.evaluation.sequence import NO_TRUTH, Answer, Run
from proxqa_core.stamps import NS_PER_S
from proxqa_core.types import VISIBLE, Box, ObjectDepth
from proxqa_core.vision.drawing import annotate

MAX_FRAMES = 3
"""Number of the best and of the worst frames that are shown."""
MAX_PLOTS = 12
"""Number of objects whose depth over time is drawn."""
MAX_POINTS = 400
"""Number of points of one line."""
WIDTH_PX = 960
"""Width of a picture, in pixels; smaller images are enlarged by a whole number, so that labels can be read."""
_PREDICTED_COLOUR, _TRUE_COLOUR = "#2a788e", "#d1495b"


def render(
    report: dict[str, Any],
    run: Run,
    images: Mapping[int, NDArray[np.uint8]],
    provenance: Provenance | None = None,
) -> str:
    """The report of a run as an HTML page.

    Args:
        report: As `sequence.report` gives it.
        run: The run that it was computed from.
        images: uint8 RGB [height, width, 3] by stamp; a frame of `stamps_to_show` that is missing gets no picture.
        provenance: What made it; None = it is not said.

    Returns:
        The whole page.
    """
    title = f"proxqa: {report['model']} on {report['source']}, asked by {report['prompt']}"
    frames = report["frames"]
    parts = [
        f"<p>{_asked_text(frames)} on {escaped(report['topic'])}; {report['objects']} objects, "
        f"{report['pairs']} pairs. {_truth_text(report)}</p>",
        "<h2>Frames</h2>",
        _frames(report),
        "<h2>From frame to frame</h2>",
        _temporal(report),
        _over_time(run),
        accuracy(report),
        "<h2>By object</h2>",
        _by_object(report),
        _pictures(run, images),
        notes(report),
    ]
    return page(title, parts, provenance)


def frames_to_show(run: Run) -> list[tuple[str, list[Answer]]]:
    """The frames shown in the page, under their titles: the best and the worst; without truth some evenly spread."""
    if run.truth_kind == NO_TRUTH or not any(math.isfinite(error_of(a)) for a in run.answers):
        every = run.answers
        places = sorted({round(x) for x in np.linspace(0, len(every) - 1, MAX_FRAMES)}) if every else []
        return [("Some frames", [every[i] for i in places])]
    judged = sorted((a for a in run.answers if math.isfinite(error_of(a))), key=lambda a: (error_of(a), a.image))
    half = min(MAX_FRAMES, (len(judged) + 1) // 2)
    worst = judged[max(half, len(judged) - MAX_FRAMES) :][::-1]
    return [("Best frames", judged[:half]), ("Worst frames", worst)]


def stamps_to_show(run: Run) -> set[int]:
    """The stamps of the frames that `render` wants pictures of."""
    return {a.stamp for _, answers in frames_to_show(run) for a in answers}


def error_of(answer: Answer) -> float:
    """Mean absolute error of the depths of a frame; NaN where no truth is known."""
    errors = [
        abs(o.depth - t.depth)
        for o, t in zip(answer.objects, answer.truth, strict=True)
        if t is not None and math.isfinite(t.depth) and math.isfinite(o.depth)
    ]
    return sum(errors) / len(errors) if errors else math.nan


def _asked_text(frames: dict[str, Any]) -> str:
    if frames["passes"] == 1:
        return f"{frames['asked']} of {frames['in_source']} images"
    return f"{frames['asked']} images in {frames['passes']} passes over the {frames['in_source']}"


def _truth_text(report: dict[str, Any]) -> str:
    truth = report["truth"]
    if truth["kind"] == NO_TRUTH:
        return "There is no truth to judge by."
    text = f"Judged by {truth['kind']} of {truth['topic']}, in {truth['frames']} frames."
    if truth["problem"]:
        text += f" Last problem: {truth['problem']}"
    return escaped(text)


def _frames(report: dict[str, Any]) -> str:
    frames, latency = report["frames"], report["latency_seconds"]
    rows = [
        ["Asked", str(frames["asked"])],
        ["Answered", str(frames["answered"])],
        ["Bad (could not be read)", str(frames["bad"])],
        ["Dropped (no answer)", f"{frames['dropped']} ({percent(frames['drop_rate'])})"],
        ["Seconds to the depths: p50", number(latency["p50"])],
        ["Seconds to the depths: p95", number(latency["p95"])],
        *([f"Node: {name}", str(value)] for name, value in report.get("node", {}).items()),
    ]
    reasons = "".join(f"<p class=note>bad: {escaped(reason)}</p>" for reason in frames["bad_reasons"])
    return table(["", ""], rows) + reasons


def _temporal(report: dict[str, Any]) -> str:
    steady = report["temporal"]
    rows = [
        [f"Mean change of depth ({steady['steps']} {steady['basis']})", number(steady["depth_change"])],
        ["Mean change of the error", number(steady["jitter"])],
        [f"Order of two flipped ({steady['pair_steps']} steps of pairs)", percent(steady["flip_rate"])],
    ]
    return table(["", ""], rows)


def _by_object(report: dict[str, Any]) -> str:
    rows = [
        [name, str(of["asked"]), str(of["in_view"]), str(of["with_truth"]), number(of["mae"])]
        for name, of in report["by_object"].items()
    ]
    return table(["object", "asked", "predicted in view", "with truth", "mean error"], rows)


# -- plots ------------------------------------------------------------------------------------------------------------


def _over_time(run: Run) -> str:
    """Per object, the predicted depth (grey band: one standard deviation) and the true one, over the first pass."""
    answers = [a for a in run.answers if a.pass_number == 0]
    if len(answers) < 2:
        return ""
    series: dict[str, list[tuple[int, ObjectDepth, float]]] = {}
    for a in answers:
        for o, t in zip(a.objects, a.truth, strict=True):
            series.setdefault(o.name, []).append((a.stamp, o, math.nan if t is None else t.depth))
    start, end = min(a.stamp for a in answers), max(a.stamp for a in answers)
    plots = [_plot(name, points, start, end) for name, points in list(series.items())[:MAX_PLOTS]]
    note = f'<p class=note><span style="color:{_PREDICTED_COLOUR}">Predicted</span> ± its standard deviation (grey) '
    note += f'where in view, <span style="color:{_TRUE_COLOUR}">true</span> (dashed); depths are relative, not metres.'
    if len(series) > MAX_PLOTS:
        note += f" {MAX_PLOTS} of {len(series)} objects."
    return f"<div class=pairs>{''.join(plots)}</div>{note}</p>"


@dataclass(frozen=True)
class _Axes:
    """Where times and depths lie in a plot. start, end: stamps in nanoseconds."""

    start: int
    end: int
    width: float = 448
    height: float = 190
    left: float = 48
    right: float = 12
    top: float = 8
    bottom: float = 40

    def x(self, stamp: float) -> float:
        """Of a stamp, in pixels."""
        return self.left + (stamp - self.start) / max(1, self.end - self.start) * (self.width - self.left - self.right)

    def y(self, depth: float) -> float:
        """Of a relative depth, in pixels; 0 is at the bottom."""
        return self.top + (1 - min(1.0, max(0.0, depth))) * (self.height - self.top - self.bottom)

    def svg(self) -> str:
        """Frame, ticks with grid lines, and titles."""
        seconds = (self.end - self.start) / NS_PER_S
        right, bottom = self.width - self.right, self.y(0)
        lines = [
            f'<line x1="{self.left}" x2="{right}" y1="{self.y(v):.1f}" y2="{self.y(v):.1f}" stroke="#eee"/>'
            f'<text x="{self.left - 6}" y="{self.y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
            for v in (0.0, 0.5, 1.0)
        ]
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x = self.x(self.start + share * (self.end - self.start))
            lines.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}" stroke="#999"/>'
                f'<text x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{share * seconds:.1f}</text>'
            )
        frame = f'<rect x="{self.left}" y="{self.top}" width="{right - self.left}" height="{bottom - self.top}" '
        titles = axis_titles(
            "seconds since the first image",
            "depth (0 near, 1 far)",
            ((self.left + right) / 2, self.height - 6),
            (14, (self.top + bottom) / 2),
        )
        return "".join(lines) + frame + f'fill="none" stroke="#999"/>{titles}'


def _plot(name: str, points: Sequence[tuple[int, ObjectDepth, float]], start: int, end: int) -> str:
    axes = _Axes(start, end)
    points = [
        points[i] for i in sorted({round(x) for x in np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS))})
    ]
    visible = [(s, o) for s, o, _ in points if o.score >= VISIBLE and math.isfinite(o.depth)]
    bars = "".join(
        f'<line x1="{axes.x(s):.1f}" x2="{axes.x(s):.1f}" y1="{axes.y(o.depth - o.depth_stddev):.1f}" '
        f'y2="{axes.y(o.depth + o.depth_stddev):.1f}" stroke="#ccc" stroke-width="2"/>'
        for s, o in visible
        if math.isfinite(o.depth_stddev)
    )
    predicted = _line([(axes.x(s), axes.y(o.depth)) for s, o in visible], _PREDICTED_COLOUR)
    true = _line([(axes.x(s), axes.y(t)) for s, _, t in points if math.isfinite(t)], _TRUE_COLOUR, "5 3")
    size = f'width="{axes.width:g}" height="{axes.height:g}" viewBox="0 0 {axes.width:g} {axes.height:g}"'
    return (
        f'<figure><figcaption><b>{escaped(name)}</b></figcaption><svg {size} role="img" '
        f'aria-label="depth of {escaped(name)} over time">{axes.svg()}{bars}{true}{predicted}</svg></figure>'
    )


def _line(places: Iterable[tuple[float, float]], colour: str, dashes: str = "none") -> str:
    """A line with a dot at every place, so that single ones show too; dashes tell it from others without colours."""
    places = list(places)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in places)
    look = f'fill="none" stroke="{colour}" stroke-dasharray="{dashes}" stroke-opacity=".7"'
    return f'<polyline points="{line}" {look}/>{dots}'


# -- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(run: Run, images: Mapping[int, NDArray[np.uint8]]) -> str:
    parts = []
    for title, answers in frames_to_show(run):
        if answers:
            figures = "".join(_figure(a, images.get(a.stamp)) for a in answers)
            parts.append(f"<h2>{title}</h2><p class=note>{OPENS}</p><div class=pairs>{figures}</div>")
    return "\n".join(parts)


def _figure(answer: Answer, image: NDArray[np.uint8] | None) -> str:
    stamp = f"{answer.stamp // NS_PER_S}.{answer.stamp % NS_PER_S:09d}"
    shown = "<p class=note>no picture</p>"
    if image is not None:
        try:
            shown = picture(jpeg_of(_drawn(image, answer.objects)), f"image of {stamp}")
        except BadImageError as error:
            shown = f"<p class=note>{escaped(error)}</p>"
    mean_error = error_of(answer)
    caption = stamp + (f", mean error {mean_error:.3f}" if math.isfinite(mean_error) else "")
    known = [
        f"{o.name} {number(o.depth, 2) if o.is_answered else 'not seen'}, true {number(t.depth, 2)}"
        for o, t in zip(answer.objects, answer.truth, strict=True)
        if t is not None
    ]
    return f"<figure>{shown}<figcaption>{escaped(caption)}<br>{escaped('; '.join(known))}</figcaption></figure>"


def _drawn(image: NDArray[np.uint8], objects: Sequence[ObjectDepth]) -> NDArray[np.uint8]:
    """The image at about WIDTH_PX pixels with the objects drawn in."""
    height, width = image.shape[:2]
    times = max(1.0, float(WIDTH_PX // width)) if width < WIDTH_PX else WIDTH_PX / width
    size = (max(16, round(width * times)), max(16, round(height * times)))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if times < 1 else cv2.INTER_CUBIC)

    def scaled(box: Box | None) -> Box | None:
        return None if box is None else Box(*(v * times for v in box.xyxy))

    placed = [replace(o, box=scaled(o.box), found_at=scaled(o.found_at)) for o in objects]
    return annotate(np.asarray(large, np.uint8), placed)
