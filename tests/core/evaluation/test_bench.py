"""The benchmark's figures with the real default model, in a short run, and two installations in turns."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from proxqa_core.errors import ProxqaError
from proxqa_core.evaluation.bench import BenchConfig, bench, percentiles
from proxqa_core.evaluation.bench_against import Installation, against, python_of
from proxqa_core.evaluation.bench_plot import svg

pytestmark = pytest.mark.model


def test_all_ways_say_the_same_and_sharing_is_faster(exact, monkeypatch):
    monkeypatch.setattr("proxqa_core.evaluation.bench.NAMES", ("chair", "table"))
    monkeypatch.setattr("proxqa_core.evaluation.bench_floor.MEASURED_S", 0.1)
    lines: list[str] = []
    report = bench(exact, BenchConfig(2, only=("1 pair", "2 cameras")), lines.append)
    times = report["milliseconds"]
    assert {"image + 2 names", "1 pair", "2 cameras, 2 names", "peer: loop of generate"} <= set(times)
    assert "64 objects" not in times and len(lines) == 7  # four cases (all pairs are one), three rounds of peers
    for spans in times.values():
        assert 0 < spans["p50"] <= spans["p95"] <= spans["p99"] and spans["rounds"] == 2
    for name, ratio in report["ratios"].items():
        assert ratio == pytest.approx(times[f"peer: {name}"]["p50"] / times["peer: engine"]["p50"])
        both = times["peer: engine, both digits"]["p50"]
        assert report["ratios_both_digits"][name] == pytest.approx(times[f"peer: {name}"]["p50"] / both)
        assert report["same_answers"][name] >= 3 / 4, name  # in float32; near ties may fall either way
    assert report["ratios"]["loop of generate"] > 1.5
    floor = report["floor"]
    assert 30 < floor["gflop"] < 300  # the tower's 30 and the language model's 0.2 a token
    assert report["times_floor"] == pytest.approx(times["image + 2 names"]["p50"] / floor["image_ms"])


def test_one_round_has_no_quantiles():
    with pytest.raises(ValueError, match="at least 2"):
        BenchConfig(1)
    with pytest.raises(ValueError, match="from 1"):
        BenchConfig(2, threads=(0,))


def test_percentiles():
    assert percentiles([1, 2, 3, 4, 5]) == pytest.approx({"p50": 3, "p95": 4.8, "p99": 4.96, "rounds": 5})


def test_a_plot_has_a_bar_for_every_case_and_escapes_names():
    times = {"a <b>": {"p50": 12.0, "p95": 20.0}, "peer: x": {"p50": 900.0, "p95": 901.0}}
    root = ET.fromstring(svg(times, "t & u"))
    kinds = [child.tag.rpartition("}")[2] for child in root]
    texts = [child.text for child in root if child.tag.endswith("text")]
    assert kinds.count("rect") == 2 and "a <b>" in texts and "t & u" in texts and "900" in texts
    widths = [float(child.attrib["width"]) for child in root if child.tag.endswith("rect")]
    assert widths[0] < widths[1]


def test_two_installations_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("proxqa_core.evaluation.bench_against.STARTS", 1)
    (tmp_path / "bin").mkdir()
    program = "import json, sys\nprint(json.dumps({'model': 'old'}), flush=True)\n"
    program += "for line in sys.stdin: print(100 + json.loads(line)[1], flush=True)\n"
    _program(tmp_path / "bin" / "python", f"#!{sys.executable}\n{program}")
    lines: list[str] = []
    report = against(tmp_path, 2, "cpu", "torch", False, lines.append, cases=("image + 8 names",))
    assert report["facts"]["other"] == {"model": "old"} and "default" in report["facts"]["this"]["model"]
    other, this = (report["milliseconds"][side]["image + 8 names"] for side in ("other", "this"))
    assert other["p50"] == 101.5 and this["rounds"] == 2 and len(lines) == 3
    assert report["times_faster"]["image + 8 names"] == pytest.approx(101.5 / this["p50"])
    ours, theirs = report["starts"]["this"], report["starts"]["other"]
    assert ours["first_answer_s"] > theirs["first_answer_s"] > 0 and ours["peak_mb"] > 300 > theirs["peak_mb"] > 5


def test_what_is_no_installation_is_one_line(tmp_path: Path):
    with pytest.raises(ProxqaError, match="no bin/python; expected a virtual environment"):
        python_of(tmp_path)
    (tmp_path / "bin").mkdir()
    _program(tmp_path / "bin" / "python", "#!/bin/false\n")
    with pytest.raises(ProxqaError, match="has ended; expected an installation that answers"):
        Installation(tmp_path / "bin" / "python", {})


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
