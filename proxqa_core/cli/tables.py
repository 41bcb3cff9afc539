"""Reports as text for people: tables of aligned columns.

Knows nothing of how the figures are made; imports nothing heavy.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from proxqa_core.jsontext import to_json

if TYPE_CHECKING:
    from proxqa_core.types import ObjectDepth

SCREEN_COLUMNS = 80
LINES_OF_A_FACT = 2
"""Longest that a fact may be in a table that fits a screen of 24 lines."""


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as text: the first column flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def object_table(objects: Sequence[ObjectDepth]) -> str:
    """Depth, standard deviation, visibility of every object, and what depths are; metres where they are known."""
    from proxqa_core.language.sentences import SCALE

    metres = any(math.isfinite(o.distance) for o in objects)
    rows = [["object", "depth", "±", *(["metres", "±"] if metres else []), "visible"]]
    for o in objects:
        far = [figure(o.distance), figure(o.distance_stddev)] if metres else []
        read = [figure(v) if o.is_answered else "-" for v in (o.depth, o.depth_stddev)]
        rows.append([o.name, *read, *far, f"{100 * o.score:.0f} %"])
    return f"{columns(rows)}\n({SCALE}; -: not seen)"


def report_table(report: dict[str, Any]) -> str:
    """The report of `proxqa eval`: the model beside the baselines."""
    base = report["baselines"]
    rows = [
        [f"{report['model']}, asked by {report['prompt']}, {report['images']} images", "model", "baseline"],
        [f"pair accuracy ({report['pairs']} pairs)", share(report["pair_accuracy"]),
         f"{share(base['lower_edge'])} (lower edge)"],
        [f"… counter-heuristic pairs (lower edge misleads; {report['pairs_breaking']})",
         share(report["pair_accuracy_breaking"]), f"{share(base['larger_box_breaking'])} (larger box)"],
        *([f"… {name} % apart ({report['pairs_by_gap'][name]})", share(right), ""]
          for name, right in report["pair_accuracy_by_gap"].items()),
        ["… from comparing the depths", share(report["pair_accuracy_from_depths"]), ""],
        [f"depth: mean absolute error ({report['objects_with_truth']} objects)", figure(report["mae"], 3),
         f"{figure(base['constant_mae'], 3)} (constant)"],
        ["depth: root mean square error", figure(report["rmse"], 3), f"{figure(base['constant_rmse'], 3)} (constant)"],
        ["depth: rank correlation (Spearman)", figure(report["spearman"], 3),
         f"{figure(base['lower_edge_line_spearman'], 3)} (lower edge)"],
        ["depth: truth within the predicted ±", share(report["within_sigma"]), "68.3 % (if calibrated)"],
        ["objects answered", share(report["valid_rate"]), ""],
        ["expected calibration error", figure(report["ece"], 3), ""],
        ["seconds per image", figure(report["seconds_per_image"]), ""],
    ]  # fmt: skip
    bad = report["bad_images"]["count"]
    rows += [["images left out, which cannot be used", str(bad), ""]] if bad else []
    return columns([*rows, *_absent_rows(report["absent"]), *_direct_rows(report["direct"])])


def benchmark_table(report: dict[str, Any]) -> str:
    """The report of `proxqa eval KIND`: the model beside the two simple rules."""
    base, kind = report["baselines"], report["benchmark"]["kind"]
    head = [f"{kind}: {report['model']}, asked by {report['prompt']}, {report['images']} images"]
    rows = [[*head, "model", "95 % interval", "lower edge", "larger box"]]
    if report["pairs"]:
        rows += _pair_rows(report, base)
    if report["objects"]:
        rows += _depth_rows(report, base)
    for reason, count in report["not_asked"].items():
        rows.append([f"not asked, counted as wrong: {reason}", str(count), "", "", ""])
    if bad := report["bad_images"]["count"]:
        rows.append(["images left out, which cannot be used", str(bad), "", "", ""])
    return "\n".join([columns(rows), *(f"left out: {line}" for line in report["left_out"])])


def _pair_rows(report: dict[str, Any], base: dict[str, Any]) -> list[list[str]]:
    intervals = report["interval_95"]
    gaps = [
        [f"… {name} % apart ({report['pairs_by_gap'][name]})", share(right), "",
         share(base["lower_edge_by_gap"][name]), share(base["larger_box_by_gap"][name])]
        for name, right in report["pair_accuracy_by_gap"].items()
        if report["pairs_by_gap"][name]
    ]  # fmt: skip
    return [
        [f"which is closer: right ({report['pairs']} pairs)", share(report["pair_accuracy"]),
         _between(intervals["pair_accuracy"], share), share(base["lower_edge"]), share(base["larger_box"])],
        [f"… counter-heuristic pairs ({report['pairs_breaking']})", share(report["pair_accuracy_breaking"]),
         _between(intervals["pair_accuracy_breaking"], share), share(base["lower_edge_breaking"]),
         share(base["larger_box_breaking"])],
        *gaps,
        ["… from comparing the depths", share(report["pair_accuracy_from_depths"]),
         _between(intervals["pair_accuracy_from_depths"], share), "", ""],
    ]  # fmt: skip


def _depth_rows(report: dict[str, Any], base: dict[str, Any]) -> list[list[str]]:
    intervals = report["interval_95"]
    return [
        [f"depth: mean absolute error ({report['objects_with_truth']} objects; constant: "
         f"{figure(base['constant_mae'], 3)})", figure(report["mae"], 3), _between(intervals["mae"], figure),
         f"{figure(base['lower_edge_line_mae'], 3)} (line)", ""],
        ["depth: root mean square error", figure(report["rmse"], 3), "",
         f"{figure(base['lower_edge_line_rmse'], 3)} (line)", ""],
        *([f"depth: within a factor of {name}", share(value), "", "", ""] for name, value in report["delta"].items()),
        ["depth: rank correlation (Spearman)", figure(report["spearman"], 3),
         _between(intervals["spearman"], figure), figure(base["lower_edge_spearman"], 3),
         figure(base["larger_box_spearman"], 3)],
    ]  # fmt: skip


def _between(bounds: tuple[float, float], show: Callable[[float], str]) -> str:
    return f"{show(bounds[0])} to {show(bounds[1])}" if math.isfinite(bounds[0]) else "-"


def export_text(report: dict[str, Any]) -> str:
    """The report of `proxqa eval KIND DATA --export DIR`."""
    lines = [f"{report['folder']}: {report['items']} items, {report['questions']} of them with pictures for others"]
    lines += [f"left out: {count} x {reason}" for reason, count in report["without_picture"].items()]
    return "\n".join([*lines, *(f"left out: {line}" for line in report["left_out"])])


def _absent_rows(absent: dict[str, Any] | None) -> list[list[str]]:
    if absent is None:
        return []
    return [
        [f"absent objects answered as not visible ({absent['asked']} names)", share(absent["said_absent"]), ""],
        ["… visibility score, present against absent (AUROC)", figure(absent["auroc"], 3), "0.500 (chance)"],
    ]


def _direct_rows(direct: dict[str, Any] | None) -> list[list[str]]:
    if direct is None:
        return []
    return [
        ["pair accuracy, asked without depths", share(direct["pair_accuracy"]), ""],
        ["… counter-heuristic pairs", share(direct["pair_accuracy_breaking"]), ""],
        ["… gained by perceiving depths first", share(direct["difference"]), ""],
    ]


def sequence_table(report: dict[str, Any]) -> str:
    """What only a sequence of frames can tell, from the report of `proxqa eval-bag`."""
    frames, temporal, truth = report["frames"], report["temporal"], report["truth"]
    rows = [
        [f"{report['source']}, {report['topic']}, judged by {truth['kind']}", ""],
        ["images asked about, of how many", f"{frames['asked']} of {frames['in_source']}"],
        ["… answered, bad, dropped", f"{frames['answered']}, {frames['bad']}, {frames['dropped']}"],
        ["… with ground truth", str(truth["frames"])],
        ["seconds to the depths: p50, p95",
         f"{figure(report['latency_seconds']['p50'], 3)}, {figure(report['latency_seconds']['p95'], 3)}"],
        [f"mean change of depth ({temporal['steps']} {temporal['basis']})", figure(temporal["depth_change"], 3)],
        ["mean change of the error", figure(temporal["jitter"], 3)],
        [f"order of a pair flipped ({temporal['pair_steps']} steps of pairs)", share(temporal["flip_rate"])],
    ]  # fmt: skip
    if (distance := report["distance"]) is not None:
        rows.append([f"metres: mean absolute error ({distance['objects']} objects)", figure(distance["mae_m"]) + " m"])
    reasons = [f"bad image: {reason}" for reason in frames["bad_reasons"]]
    if truth["problem"]:
        reasons.append(f"ground truth not used: {truth['problem']}")
    return "\n".join([columns(rows), *reasons])


def names_table(report: dict[str, Any]) -> str:
    """The report of `proxqa names`: what taught a name, and how well it is found."""
    rows = [["name", "3D models", "photos", "found", "seen where none is", "other words"]]
    rows += [
        [f"{n['name']}{' *' if n['looked_for_unasked'] else ''}", _number_or_none(n["models"]),
         _number_or_none(n["photographs"]), _share_of(n["found"], n["asked"]), _share_of(n["mistaken"], n["absent"]),
         ", ".join(n["also"])]
        for n in report["names"]
    ]  # fmt: skip
    notes = [
        f"{len(report['names'])} of {report['taught']} names that were taught, by 3D models in rendered images and by "
        "boxes in photographs",
        f"measured on {report['measured_on'] or 'nothing'}, asked by name alone: found {report['found']} of "
        f"{report['asked']}, seen where none is {report['mistaken']} of {report['absent']}",
        f"*: the {report['looked_for_unasked']} that 'what is nearest?' looks for where nothing is named",
    ]
    return "\n".join([_left_last(rows), *notes])


def _left_last(rows: Sequence[Sequence[str]]) -> str:
    """As `columns`, but the last column of text flush left."""
    first = columns([row[:-1] for row in rows]).splitlines()
    width = max(map(len, first))
    return "\n".join(f"{line:{width}}  {row[-1]}".rstrip() for line, row in zip(first, rows, strict=True))


def _number_or_none(count: int) -> str:
    return str(count) if count else "-"


def _share_of(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} % of {whole}" if whole else "-"


def recording_text(report: dict[str, Any], left_out: str) -> str:
    """The report of `proxqa record`. left_out: one line on what was left out and why, '' = nothing."""
    lines = [
        f"{report['folder']}: {report['images']} images, {report['objects']} objects, "
        f"{report['objects_with_depth']} of them with depth",
        ", ".join(f"{name} {count}" for name, count in report["names"].items()),
    ]
    return "\n".join([*lines, *([f"left out: {left_out}"] if left_out else [])])


def bench_table(report: dict[str, Any]) -> str:
    """The report of `proxqa bench`."""
    rows = [(name, *(f"{t[q]:.1f}" for q in ("p50", "p95", "p99"))) for name, t in report["milliseconds"].items()]
    floor = report["floor"]
    lines = [
        f"{report['model']} on {report['device']}: {report['vision_encoder']}; {report['language_model']}; "
        f"{report['threads']} threads",
        columns([("milliseconds", "p50", "p95", "p99"), *rows]),
        f"floor: the {floor['gflop']:.0f} GFLOP of an image with {report['objects']} names take "
        f"{floor['image_ms']:.0f} ms at "
        f"{floor['gflops']:.0f} GFLOP/s; the engine takes {report['times_floor']:.1f} times that "
        f"({floor['gbytes']:.0f} GB/s of memory)",
    ]
    for name, ratio in report.get("ratios", {}).items():
        both, same = report["ratios_both_digits"][name], report["same_answers"][name]
        lines.append(
            f"{ratio:.1f} times as fast as {name}; with both digits of every depth {both:.1f} times, and "
            f"{100 * same:.0f} % of the answers are the same"
        )
    return "\n".join(lines)


def against_table(report: dict[str, Any]) -> str:
    """The report of `proxqa bench --against`."""
    ours, theirs = report["milliseconds"]["this"], report["milliseconds"]["other"]
    rows = [
        (case, *(f"{of[case][q]:.0f}" for of in (ours, theirs) for q in ("p50", "p95")), f"{times:.2f}")
        for case, times in report["times_faster"].items()
    ]
    table = columns([("milliseconds", "this p50", "p95", "other p50", "p95", "times as fast"), *rows])
    starts = [
        f"{name}: {of['first_answer_s']:.1f} s from its start to the first answer, "
        f"at most {of['peak_mb']:.0f} MB of memory"
        for name, of in report["starts"].items()
    ]
    return "\n".join([table, *starts])


def info_table(info: dict[str, Any], everything: bool = False) -> str:
    """The facts about the engine, one or two lines each, in SCREEN_COLUMNS columns.

    Args:
        info: Of the engine.
        everything: Also the settings that the adapter was trained with; without, the table fits a screen.
    """
    width = max(len(name) for name in info)
    lines: list[str] = []
    for name, value in info.items():
        start = f"{name.replace('_', ' '):{width}}  "
        if everything and isinstance(value, dict):
            lines += [start.rstrip(), textwrap.indent(to_json(value), "  ")]
            continue
        shown = {k: v for k, v in value.items() if not isinstance(v, dict)} if isinstance(value, dict) else value
        lines += textwrap.wrap(
            start + plain_value(shown),
            SCREEN_COLUMNS,
            subsequent_indent=" " * (width + 2),
            max_lines=None if everything else LINES_OF_A_FACT,
            placeholder=" …",
        )
    return "\n".join(lines if everything else [*lines, "(everything: --verbose, or --json -)"])


def share(value: float) -> str:
    """A share in [0, 1] in percent; '-' for NaN."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def figure(value: float, digits: int = 2) -> str:
    """A number with so many digits after the point; '-' for NaN and infinity."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def plain_value(value: Any) -> str:
    """Any plain value on one line; '-' for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain_value(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(plain_value(v) for v in value) or "-"
    return "-" if value is None else str(value)


def comparison_table(report: dict[str, Any]) -> str:
    """The figures of every model of a comparison."""
    from proxqa_core.comparison.page import COLUMNS, cell

    head = [f"which is closer ({report['pairs']} pairs)", *COLUMNS.values()]
    rows = [[score["model"], *(cell(score, key) for key in COLUMNS)] for score in report["models"]]
    return "\n".join([columns([head, *rows]), *(f"left out: {line}" for line in report["left_out"])])
