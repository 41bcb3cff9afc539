"""The command `proxqa`: ask about an image, evaluate a model, record a bag to train on, say what is loaded.

Promises: bad input gets one line on stderr, `proxqa: …`, and exit code 2; a failure (no model, no disk) one line and
exit code 1; with --json nothing but JSON is on stdout (NaN as null). What is wrong with the input is said before the
model is loaded, except where only the model can tell. Knows nothing of ROS; how answers are made is the engine's
business.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from proxqa_core.errors import BadModelError, BadObjectError, ProxqaError
from proxqa_core.jsontext import to_json

if TYPE_CHECKING:  # the real imports are inside the commands, so that --help answers at once
    from proxqa_core.engine import ProximityEngine
    from proxqa_core.types import ObjectDepth, ObjectQuery

OK, FAILED, BAD_INPUT = 0, 1, 2


class BadUsageError(ProxqaError, ValueError):
    """The command line itself is wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsageError(f"{message}; see '{self.prog} --help'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; arguments as on the command line (default: the process's own). Returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text at all
    try:
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], None] = options.command
        command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:  # e.g. `proxqa … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ProxqaError, OSError) as error:
        bad_input = isinstance(error, ValueError) and not isinstance(error, BadModelError)
        return _complain(str(error), BAD_INPUT if bad_input else FAILED)
    return OK


def _complain(message: str, code: int) -> int:
    print(f"proxqa: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    model = _Parser(add_help=False)
    model.add_argument("--model", default="default", help="'default', a Hugging Face LLaVA id or a folder")
    model.add_argument("--adapter", default=None, help="folder of LoRA weights and projector to put on the model")
    model.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser = _Parser(prog="proxqa", description="How far is it, and which is closer? Asked of one camera image.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    depths = commands.add_parser("depths", parents=[model], help="relative depth of named objects")
    depths.add_argument("image", metavar="IMAGE", type=Path)
    _add_objects(depths)
    depths.add_argument("--json", action="store_true", help="print JSON")
    depths.add_argument("--save", type=Path, metavar="FILE", help="also draw the answer on the image (.jpg or .png)")
    depths.set_defaults(command=_depths)

    ask = commands.add_parser("ask", parents=[model], help="answer a question")
    ask.add_argument("image", metavar="IMAGE", type=Path)
    ask.add_argument("question", metavar="QUESTION", help="such as 'which is closer, the chair or the table?'")
    _add_objects(ask)
    ask.add_argument("--json", action="store_true", help="print JSON")
    ask.add_argument("--save", type=Path, metavar="FILE", help="also draw the answer on the image (.jpg or .png)")
    ask.set_defaults(command=_ask)

    evaluate = commands.add_parser("eval", parents=[model], help="measure a model on a labelled folder")
    evaluate.add_argument("folder", metavar="DIR", type=Path, help="folder with annotations.json")
    evaluate.add_argument("--prompt", choices=("name", "box"), default="name", help="ask by phrase or by name and box")
    evaluate.add_argument("--json", metavar="FILE", help="write the report as JSON ('-': to stdout)")
    evaluate.add_argument("--html", metavar="FILE", type=Path, help="write the report as one HTML page")
    evaluate.add_argument("--limit", metavar="N", type=_count, help="only the first N images")
    evaluate.add_argument("--train", metavar="DIR", type=Path, help="folder to fit the straight-line baseline on")
    evaluate.add_argument(
        "--absent", metavar="N", type=_count_or_none, default=0, help="also ask N names an image that are not in view"
    )
    evaluate.add_argument("--direct", action="store_true", help="also ask which is closer without perceived depths")
    evaluate.set_defaults(command=_eval)

    bag = commands.add_parser("eval-bag", parents=[model], help="measure a model on a rosbag2, without ROS")
    bag.add_argument("bag", metavar="BAG", type=Path, help="folder of a rosbag2 (sqlite3 or mcap), or its file")
    bag.add_argument("--topic", default="", help="topic of the images, raw or compressed (default: the only one)")
    bag.add_argument(
        "--objects", action="append", default=[], metavar="NAMES", help="names parted by commas (default: the labels')"
    )
    truth = bag.add_mutually_exclusive_group()
    truth.add_argument(
        "--truth", default="", metavar="TOPIC", help="labels: ObjectDepthArray (default: the one named ground_truth)"
    )
    truth.add_argument("--depth", default="", metavar="TOPIC", help="aligned depth images, read where the model looked")
    bag.add_argument(
        "--tolerance", metavar="S", type=_positive, default=0.05, help="most seconds from image to depth image (0.05)"
    )
    bag.add_argument("--prompt", choices=("name", "box"), default="name", help="ask by name, or by name and true box")
    pace = bag.add_mutually_exclusive_group()
    pace.add_argument("--every", metavar="N", type=_count, default=1, help="only each Nth image")
    pace.add_argument("--rate", metavar="HZ", type=_positive, default=math.inf, help="at most so many a second")
    bag.add_argument("--limit", metavar="N", type=_count, help="only the first N images of those")
    bag.add_argument("--json", metavar="FILE", help="write the report as JSON ('-': to stdout)")
    bag.add_argument("--html", metavar="FILE", type=Path, help="write the report as one HTML page with pictures")
    bag.set_defaults(command=_eval_bag)

    record = commands.add_parser("record", help="a bag with boxes becomes a labelled folder to train on")
    record.add_argument("bag", metavar="BAG", type=Path, help="folder of a rosbag2, or its .mcap or .db3 file")
    record.add_argument("--out", metavar="DIR", type=Path, required=True, help="labelled folder; a stopped one goes on")
    record.add_argument("--topic", metavar="TOPIC", default="", help="images (default: the only topic of images)")
    record.add_argument(
        "--depth", metavar="TOPIC", default="", help="aligned depth images, or 'none' (default: the only topic of them)"
    )
    record.add_argument(
        "--boxes",
        metavar="TOPIC|FILE",
        default="",
        help="vision_msgs/Detection2DArray, proxqa_ros/ObjectDepthArray, or a JSON file "
        '{"IMAGE NUMBER or STAMP": [{"name": "chair", "box": [x1, y1, x2, y2]}]} (default: the only topic of boxes)',
    )
    record.add_argument(
        "--every-seconds", metavar="SECONDS", type=float, default=0.0, help="least time between two images"
    )
    record.add_argument(
        "--tolerance", metavar="SECONDS", type=float, default=0.05, help="most time between image and depth (0.05)"
    )
    record.add_argument("--min-score", metavar="SCORE", type=float, default=0.5, help="least score of a box (0.5)")
    record.add_argument(
        "--names", metavar="FILE", type=Path, help='JSON, what to call a detector\'s classes: {"17": "chair"}'
    )
    record.add_argument(
        "--complete", action="store_true", help="whatever has one of these names has a box wherever it is in view"
    )
    record.add_argument("--json", action="store_true", help="print JSON")
    record.set_defaults(command=_record)

    bench = commands.add_parser("bench", parents=[model], help="how fast: one shared prefix against many prompts")
    bench.add_argument("--repeats", metavar="N", type=_count, default=10, help="rounds to measure (from 2; default 10)")
    bench.add_argument("--json", metavar="FILE", help="write the figures as JSON ('-': to stdout)")
    bench.set_defaults(command=_bench)

    info = commands.add_parser("info", parents=[model], help="what model is loaded, and where it runs")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(command=_info)
    return parser


def _add_objects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objects", action="append", default=[], metavar="NAMES", help="names parted by commas: 'chair,red table'"
    )
    parser.add_argument(
        "--box", action="append", default=[], metavar="NAME=X1,Y1,X2,Y2", help="an object and its box in pixels"
    )


def _count(text: str, least: int = 1) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; expected a whole number from {least}")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used; expected a number above 0")
    return value


def _count_or_none(text: str) -> int:
    return _count(text, 0)


# --- commands --------------------------------------------------------------------------------------------------------


def _depths(options: argparse.Namespace) -> None:
    from proxqa_core.vision.image_file import read_image

    queries = _queries(options.objects, options.box)
    if not queries:
        raise BadUsageError("no object was named; give --objects 'chair,table' or --box 'chair=10,20,110,220'")
    _check_picture(options.save)
    image = read_image(options.image)
    _check_boxes(queries, image.shape[1], image.shape[0])
    with _quiet_stdout():
        engine = _engine(options)
        found = engine.encode_image(image).depths(queries)
    if options.save:
        _save(options.save, image, found)
    if options.json:
        _print_json(
            {"image": str(options.image), "model": engine.model_name, "objects": [_object_json(o) for o in found]}
        )
    else:
        print(_object_table(sorted(found, key=lambda o: o.depth)))


def _ask(options: argparse.Namespace) -> None:
    from proxqa_core.language.questions import understand
    from proxqa_core.vision.image_file import read_image

    queries = _queries(options.objects, options.box)
    understand(options.question, [q.name for q in queries])
    _check_picture(options.save)
    image = read_image(options.image)
    _check_boxes(queries, image.shape[1], image.shape[0])
    with _quiet_stdout():
        engine = _engine(options)
        answer = engine.encode_image(image).ask(options.question, queries)
    if options.save:
        _save(options.save, image, answer.objects, answer.answer)
    if options.json:
        _print_json(
            {
                "image": str(options.image),
                "model": engine.model_name,
                "question": answer.question,
                "kind": answer.kind.value,
                "answer": answer.answer,
                "closer": answer.closer,
                "farther": answer.farther,
                "probability": answer.probability,
                "objects": [_object_json(o) for o in answer.objects],
            }
        )
    else:
        print(answer.answer)
        if answer.objects:
            print(_object_table(answer.objects))


def _eval(options: argparse.Namespace) -> None:
    from proxqa_core.datasets.folder import LabelledFolder
    from proxqa_core.evaluation.metrics import summary
    from proxqa_core.evaluation.runner import labels, measure

    to_stdout = options.json == "-"
    folder = LabelledFolder(options.folder)
    train = None if options.train is None else labels(options.train)
    for path in (None if to_stdout else options.json, options.html):
        _check_writable(path)
    with _quiet_stdout():
        measured = measure(
            _engine(options),
            folder,
            options.prompt,
            options.limit,
            progress=sys.stderr.isatty(),
            absent=options.absent,
            direct=options.direct,
        )
        report = summary(measured, train)
    if options.html:
        from proxqa_core.evaluation.html import render

        options.html.write_text(render(report, measured, folder), encoding="utf-8")
    if options.json and not to_stdout:
        Path(options.json).write_text(to_json(report) + "\n", encoding="utf-8")
    if to_stdout:
        _print_json(report)
    else:
        print(_report_table(report))


def _eval_bag(options: argparse.Namespace) -> None:
    from proxqa_core.evaluation.bag_runner import Selection, evaluate_bag, pictures
    from proxqa_core.evaluation.bag_truth import queries_of, truth_of
    from proxqa_core.evaluation.sequence import Run, report
    from proxqa_core.rosbags.bag import Bag

    def say(run: Run) -> None:
        if sys.stderr.isatty():
            end = "\n" if run.sent == run.wanted else ""
            print(f"\r{run.source}: {run.sent} of {run.wanted} images", end=end, file=sys.stderr, flush=True)

    to_stdout = options.json == "-"
    wanted = _queries(options.objects, [])
    for path in (None if to_stdout else options.json, options.html):
        _check_writable(path)
    with Bag(options.bag) as bag:
        topic = bag.image_topic(options.topic)
        truth = truth_of(bag, options.truth, options.depth, options.tolerance)
        queries = queries_of(bag, truth, wanted)
        selection = Selection(options.every, options.rate, options.limit)
        with _quiet_stdout():
            run = evaluate_bag(_engine(options), bag, topic, truth, queries, selection, options.prompt, say)
            found = report(run)
        if options.html:
            from proxqa_core.evaluation.bag_html import render, stamps_to_show

            page = render(found, run, pictures(bag, topic, stamps_to_show(run)))
            options.html.write_text(page, encoding="utf-8")
    if options.json and not to_stdout:
        Path(options.json).write_text(to_json(found) + "\n", encoding="utf-8")
    if to_stdout:
        _print_json(found)
    else:
        print(_report_table(found) + "\n\n" + _sequence_table(found))


def _record(options: argparse.Namespace) -> None:
    from proxqa_core.datasets.record import Settings, record

    given = ("topic", "depth", "boxes", "every_seconds", "tolerance", "min_score", "names", "complete")
    settings = Settings(**{name: getattr(options, name) for name in given})
    done = record(options.bag, options.out, settings, progress=sys.stderr.isatty())
    if options.json:
        _print_json(
            {
                "folder": str(options.out),
                "images": done.images,
                "objects": done.objects,
                "objects_with_depth": done.measured,
                "names": dict(done.names.most_common()),
                "left_out": dict(done.left_out),
                "problems": done.problems,
            }
        )
        return
    print(f"{options.out}: {done.images} images, {done.objects} objects, {done.measured} of them with depth")
    print(", ".join(f"{name} {count}" for name, count in done.names.most_common()))
    if done.left_out:
        print(f"left out: {done.said_left_out()}")


def _bench(options: argparse.Namespace) -> None:
    from proxqa_core.evaluation.bench import bench

    if options.repeats < 2:
        raise BadUsageError(f"--repeats {options.repeats}: expected at least 2")
    to_stdout = options.json == "-"
    _check_writable(None if to_stdout else options.json)
    with _quiet_stdout():
        report = bench(_engine(options), options.repeats, progress=lambda line: print(line, file=sys.stderr))
    if options.json and not to_stdout:
        Path(options.json).write_text(to_json(report) + "\n", encoding="utf-8")
    if to_stdout:
        _print_json(report)
        return
    rows = [(name, f"{q['p50']:.0f}", f"{q['p95']:.0f}") for name, q in report["milliseconds"].items()]
    print(_columns([("milliseconds", "p50", "p95"), *rows]))
    print(
        f"{report['objects']} objects: sharing the prefix is {report['ratio']:.1f} times as fast as one by one; "
        f"{100 * report['same_answers']:.0f} % of the answers are the same"
    )


def _info(options: argparse.Namespace) -> None:
    with _quiet_stdout():
        info = _engine(options).info()
    if options.json:
        _print_json(info)
    else:
        width = max(len(name) for name in info)
        print("\n".join(f"{name.replace('_', ' '):{width}}  {_plain_value(value)}" for name, value in info.items()))


# --- input -----------------------------------------------------------------------------------------------------------


def _engine(options: argparse.Namespace) -> ProximityEngine:
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load(source=options.model, adapter=options.adapter, device=options.device)


def _queries(names: Sequence[str], boxes: Sequence[str]) -> list[ObjectQuery]:
    """The objects named by --objects and --box: a box goes to the object of its name, or is one more object."""
    from proxqa_core.types import MAX_OBJECTS, ObjectQuery

    said = [name.strip() for given in names for name in given.split(",") if name.strip()]
    queries = [ObjectQuery(name) for name in dict.fromkeys(said)]
    for text in boxes:
        boxed = _boxed(text)
        alike = next((i for i, q in enumerate(queries) if q.name == boxed.name and q.box is None), None)
        if alike is None:
            queries.append(boxed)
        else:
            queries[alike] = boxed
    if len(queries) > MAX_OBJECTS:
        raise BadObjectError(f"{len(queries)} objects are too many for one request; at most {MAX_OBJECTS}")
    return queries


def _boxed(text: str) -> ObjectQuery:
    from proxqa_core.types import Box, ObjectQuery

    name, separator, corners = text.rpartition("=")
    try:
        x1, y1, x2, y2 = (float(v) for v in corners.split(","))
    except ValueError:
        separator = ""
    if not separator:
        raise BadObjectError(f"box {text!r} cannot be read; expected NAME=X1,Y1,X2,Y2 in pixels")
    return ObjectQuery(name, Box(x1, y1, x2, y2))


def _check_boxes(queries: Sequence[ObjectQuery], width: int, height: int) -> None:
    for query in queries:
        if query.box is not None:
            query.box.clipped(width, height)  # raises where it lies outside


def _check_picture(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise BadUsageError(f"--save {path}: cannot write such a file; expected a name that ends in .jpg or .png")
    _check_writable(path)


def _check_writable(path: str | Path | None) -> None:
    """Say before the work, not after it, that there is no place for its result."""
    if path is None:
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise BadUsageError(f"{path}: its folder {folder} does not exist; make it first")
    if Path(path).is_dir():
        raise BadUsageError(f"{path}: is a folder; expected a file to write")


# --- output ----------------------------------------------------------------------------------------------------------


def _quiet_stdout() -> contextlib.AbstractContextManager[Any]:
    """What libraries print while a model loads goes to stderr: stdout carries the answer."""
    return contextlib.redirect_stdout(sys.stderr)


def _print_json(value: Any) -> None:
    print(to_json(value))


def _object_json(thing: ObjectDepth) -> dict[str, Any]:
    return {
        "name": thing.name,
        "box": None if thing.box is None else list(thing.box.xyxy),
        "found_at": None if thing.found_at is None else list(thing.found_at.xyxy),
        "depth": thing.depth,
        "depth_stddev": thing.depth_stddev,
        "distance": thing.distance,
        "distance_stddev": thing.distance_stddev,
        "score": thing.score,
        "text": thing.text,
    }


def _save(path: Path, image: Any, objects: Sequence[ObjectDepth], answer: str = "") -> None:
    from PIL import Image

    from proxqa_core.vision.drawing import annotate

    Image.fromarray(annotate(image, objects, answer)).save(path)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: the first column flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _object_table(objects: Sequence[ObjectDepth]) -> str:
    metres = any(math.isfinite(o.distance) for o in objects)
    rows = [["object", "depth", "±", *(["metres", "±"] if metres else []), "seen"]]
    for o in objects:
        far = [_figure(o.distance), _figure(o.distance_stddev)] if metres else []
        rows.append([o.name, _figure(o.depth), _figure(o.depth_stddev), *far, f"{100 * o.score:.0f} %"])
    return _columns(rows)


def _report_table(report: dict[str, Any]) -> str:
    base = report["baselines"]
    rows = [
        [f"{report['model']}, asked by {report['prompt']}, {report['images']} images", "model", "simple rule"],
        [f"closer right ({report['pairs']} pairs)", _share(report["pair_accuracy"]),
         f"{_share(base['lower_edge'])} (lower edge)"],
        [f"… where the lower edge misleads ({report['pairs_breaking']})", _share(report["pair_accuracy_breaking"]),
         f"{_share(base['larger_box_breaking'])} (larger box)"],
        *([f"… {name} % apart ({report['pairs_by_gap'][name]})", _share(right), ""]
          for name, right in report["pair_accuracy_by_gap"].items()),
        ["… by comparing the depths", _share(report["pair_accuracy_from_depths"]), ""],
        [f"depth: mean error ({report['objects_with_truth']} objects)", _figure(report["mae"], 3),
         f"{_figure(base['constant_mae'], 3)} (constant)"],
        ["depth: root mean square error", _figure(report["rmse"], 3),
         f"{_figure(base['constant_rmse'], 3)} (constant)"],
        ["depth: rank correlation", _figure(report["spearman"], 3),
         f"{_figure(base['lower_edge_line_spearman'], 3)} (lower edge)"],
        ["depth: truth within the ± said", _share(report["within_sigma"]), "68.3 % (if it is right)"],
        ["objects answered", _share(report["valid_rate"]), ""],
        ["calibration error", _figure(report["ece"], 3), ""],
        ["seconds an image", _figure(report["seconds_per_image"]), ""],
    ]  # fmt: skip
    if (absent := report["absent"]) is not None:
        rows += [
            [f"not in view: called so ({absent['asked']} names)", _share(absent["said_absent"]), ""],
            ["… score below what is there (AUROC)", _figure(absent["auroc"], 3), "0.500 (chance)"],
        ]
    if (direct := report["direct"]) is not None:
        rows += [
            ["closer right, asked without depths", _share(direct["pair_accuracy"]), ""],
            ["… where the lower edge misleads", _share(direct["pair_accuracy_breaking"]), ""],
            ["… gained by perceiving depths first", _share(direct["difference"]), ""],
        ]
    return _columns(rows)


def _sequence_table(report: dict[str, Any]) -> str:
    """What only a sequence of frames can tell."""
    frames, steady, truth = report["frames"], report["temporal"], report["truth"]
    rows = [
        [f"{report['source']}, {report['topic']}, judged by {truth['kind']}", ""],
        ["images asked about, of how many", f"{frames['asked']} of {frames['in_source']}"],
        ["… answered, bad, dropped", f"{frames['answered']}, {frames['bad']}, {frames['dropped']}"],
        ["… with a truth to judge by", str(truth["frames"])],
        ["seconds to the depths: p50, p95",
         f"{_figure(report['latency_seconds']['p50'], 3)}, {_figure(report['latency_seconds']['p95'], 3)}"],
        [f"mean change of depth ({steady['steps']} {steady['basis']})", _figure(steady["depth_change"], 3)],
        ["mean change of the error", _figure(steady["jitter"], 3)],
        [f"order of two turned round ({steady['pair_steps']} steps of pairs)", _share(steady["flip_rate"])],
    ]  # fmt: skip
    if (distance := report["distance"]) is not None:
        rows.append([f"metres: mean error ({distance['objects']} objects)", _figure(distance["mae_m"]) + " m"])
    lines = _columns(rows)
    reasons = [f"bad image: {reason}" for reason in frames["bad_reasons"]]
    if truth["problem"]:
        reasons.append(f"truth not used: {truth['problem']}")
    return "\n".join([lines, *reasons])


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def _figure(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _plain_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain_value(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(_plain_value(v) for v in value) or "-"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
