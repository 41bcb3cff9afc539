"""`proxqa compare`: the same which-closer questions to several models, judged alike."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxqa_core.cli import common, tables
from proxqa_core.files import write_text

if TYPE_CHECKING:
    from proxqa_core.comparison.answerers import Answer
    from proxqa_core.comparison.questions import ComparisonQuestion
    from proxqa_core.datasets.reading import ReadReport

log = logging.getLogger(__name__)

SOURCES = ("folder", "blink", "cv-bench", "da-2k", "items", "tsv", "recorded")
"""Kinds of sources; those of `proxqa_core.comparison.sources.READERS`, which a test compares."""


def add_commands(commands: common.SubParsers) -> None:
    """Add `compare`."""
    parser = common.add_command(commands, "compare", "ask several models which is closer, and judge them alike")
    parser.add_argument("kind", metavar="KIND", choices=SOURCES, help=f"what DATA is: {', '.join(SOURCES)}")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder or file with the pairs")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="answers are kept here; a stopped run goes on"
    )
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="folder of the images, where DATA does not hold them"
    )
    parser.add_argument("--engine", action="store_true", help="ask our own model (--model, --adapter)")
    parser.add_argument(
        "--prompt", choices=common.PROMPTS, default="box", help="how our own model is asked (default: box)"
    )
    parser.add_argument(
        "--hf", metavar="ID|DIR", action="append", default=[], help="ask an image-text-to-text model of Hugging Face"
    )
    parser.add_argument(
        "--decision", metavar="ID|DIR", action="append", default=[], help="… by its pipeline 'decision'"
    )
    parser.add_argument(
        "--server", metavar="URL=MODEL", action="append", default=[], help="ask an OpenAI-compatible server"
    )
    parser.add_argument("--api-key", metavar="KEY", default="none", help="of the servers (default: none)")
    parser.add_argument(
        "--concurrency", metavar="N", type=common.count, default=4, help="requests to a server at once (4)"
    )
    parser.add_argument(
        "--recorded", metavar="FILE", type=Path, action="append", default=[], help="score recorded answers"
    )
    parser.add_argument("--one-order", action="store_true", help="ask each pair in one order of naming only")
    parser.add_argument("--limit", metavar="N", type=common.count, help="only the first N pairs")
    parser.add_argument("--html", metavar="FILE", type=common.output_file, help="write the comparison as one HTML page")
    parser.set_defaults(command=run_compare)


def run_compare(options: argparse.Namespace) -> None:
    """Ask all models all questions, and score them."""
    from proxqa_core.comparison.answerers import RecordedAnswerer
    from proxqa_core.comparison.questions import questions_of
    from proxqa_core.comparison.run import ask_all
    from proxqa_core.comparison.scores import judge, rule_scores, score
    from proxqa_core.comparison.sources import READERS
    from proxqa_core.datasets.benchmarks import unique_items
    from proxqa_core.datasets.reading import ReadReport

    servers = [_server(text) for text in options.server]
    if not (options.engine or options.hf or options.decision or servers or options.recorded):
        raise common.BadUsageError("nobody to ask; give --engine, --hf, --decision, --server or --recorded")
    _check_places(options)
    left_out = ReadReport()
    read = READERS[options.kind](options.data, options.images, left_out)
    items = list(islice(unique_items(read, left_out), options.limit))
    questions = list(questions_of(items, both_orders=not options.one_order))
    if not questions:
        why = f" ({'; '.join(left_out.lines())[:300]})" if left_out.counts else ""
        raise common.BadUsageError(f"{options.data}: holds no pair to ask about{why}; expected {options.kind}")
    scores: list[dict[str, Any]] = rule_scores(items)
    for answerer in _answerers(options, servers, left_out):
        with common.stdout_to_stderr():
            answers = ask_all(answerer, questions, options.out, _progress(options))
        _warn_of_failures(answerer.name, questions, answers)
        scores.append(score(answerer.name, judge(questions, answers)))
        if isinstance(answerer, RecordedAnswerer):
            scores[-1]["accuracy_as_recorded"] = answerer.accuracy_as_recorded({i.item_id for i in items})
    report = {"kind": options.kind, "data": str(options.data), "pairs": len(items), "models": scores,
              "left_out": left_out.lines()}  # fmt: skip
    if options.html:
        from proxqa_core.comparison.page import render

        title, made_by = f"Which is closer: {options.data.name}", common.made_by(options)
        write_text(options.html, render(title, scores, left_out.lines(), made_by))
    common.write_report(options, report, tables.comparison_table(report))


def _warn_of_failures(model: str, questions: Sequence[ComparisonQuestion], answers: Mapping[str, Answer]) -> None:
    """One line on the questions that a model failed at: the table tells only how many."""
    errors = [answers[q.key].error for q in questions if q.key in answers and answers[q.key].error]
    if errors:
        log.warning("%s: %d of %d questions failed, the first: %s", model, len(errors), len(questions), errors[0])


def _answerers(options: argparse.Namespace, servers: Sequence[tuple[str, str]], left_out: ReadReport) -> Any:
    """Everybody to ask, made one after the other: one model is in memory at a time."""
    from proxqa_core.comparison import answerers as by

    if options.engine:
        with common.stdout_to_stderr():
            yield by.EngineAnswerer(common.load_engine(options), options.prompt)
    for source in options.hf:
        yield by.HuggingFaceAnswerer(source, options.device, options.dtype)
    for source in options.decision:
        yield by.DecisionAnswerer(source, options.device)
    for url, model in servers:
        yield by.OpenAIAnswerer(url, model, options.api_key, options.concurrency)
    for path in options.recorded:
        yield by.RecordedAnswerer(path, left_out)


def _check_places(options: argparse.Namespace) -> None:
    """Refuse a model or file that is not there before anybody is asked: who comes last is loaded last."""
    for source in [*options.hf, *options.decision]:
        is_path = source.startswith(("/", ".", "~")) or source.count("/") > 1  # an id is NAME or OWNER/NAME
        if is_path and not Path(source).is_dir():
            raise common.BadUsageError(f"{source}: no such folder; expected a model's, or its id on Hugging Face")
    for path in options.recorded:
        if not path.is_file():
            raise common.BadUsageError(f"{path}: no such file; expected recorded answers")


def _server(text: str) -> tuple[str, str]:
    url, _, model = text.partition("=")
    if not url.startswith(("http://", "https://")) or not model:
        raise common.BadUsageError(
            f"--server {text!r} cannot be used; expected URL=MODEL, such as http://localhost:8000/v1=name"
        )
    return url, model


def _progress(options: argparse.Namespace) -> Any:
    def show(model: str, done: int, total: int) -> None:
        if done == total or done % 50 < 8:
            log.info("%s: %d of %d questions", model, done, total)

    return show
