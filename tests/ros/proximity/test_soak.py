"""The soak run: what it concludes from a run, and once for nine seconds with the real node and model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["soak"]


def run_of(soak, latency=lambda at: 0.2, size=lambda at: 500.0, outcome=lambda at: "NONE", duration=600):
    """A made-up run: a question five times a second, the memory twice."""
    asked = [soak.Asked(n / 5, latency(n / 5), outcome(n / 5)) for n in range(5 * duration)]
    return duration, asked, [(n / 2, size(n / 2)) for n in range(2 * duration)], soak.Limits()


def test_a_steady_run_passes(soak):
    report, problems = soak.judge(*run_of(soak, latency=lambda at: 0.9 if at < 60 else 0.2))
    assert problems == []  # the warm-up is left out
    assert report["windows_s"] == {"first": [60, 120], "last": [540, 600]}
    assert report["latency_ms"]["first"] == pytest.approx({"p50": 200, "p95": 200})
    assert report["rss_mb"]["growth_percent"] == 0 and report["queries"]["answered"] == 3000


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": lambda at: 500 + at / 10}, "growth of the memory"),
        ({"latency": lambda at: 0.2 if at < 300 else 0.25}, "p95"),
        ({"outcome": lambda at: "TIMEOUT" if at == 300 else "NONE"}, "lost is 1"),
        ({"outcome": lambda at: "no response" if at == 300 else "NONE"}, "lost is 1"),
        ({"outcome": lambda at: "BUSY" if at < 300 else "NONE"}, "p95"),  # nothing to compare with is no pass
    ],
)
def test_every_limit_that_is_exceeded_is_a_problem(soak, change, problem):
    _, problems = soak.judge(*run_of(soak, **change))
    assert len(problems) == 1 and problem in problems[0] and "at most" in problems[0]


def test_busy_is_not_lost_and_not_timed(soak):
    def busy(at):
        return round(5 * at) % 2 == 1

    run = {"outcome": lambda at: "BUSY" if busy(at) else "NOT_VISIBLE", "latency": lambda at: 9 if busy(at) else 0.1}
    report, problems = soak.judge(*run_of(soak, **run))
    assert problems == [] and report["queries"]["lost"] == 0 and report["queries"]["busy"] == 1500
    assert report["latency_ms"]["last"]["p95"] == pytest.approx(100)


def test_every_code_of_the_service_has_its_name(soak):
    assert soak.CODES[0] == "NONE" and soak.CODES[3] == "NOT_VISIBLE" and soak.CODES[9] == "BUSY"
    assert len(soak.CODES) == 12


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--query-hz", "soon"], ["--max-lost", "-1"]])
def test_wrong_arguments_are_refused(soak, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        soak.main(arguments)
    assert caught.value.code == 2 and arguments[1] in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timing
def test_nine_seconds(tmp_path):
    """Nothing is lost and the memory stays. So short a run says nothing about getting slower: that limit is off."""
    report = tmp_path / "soak.json"
    options = ["--minutes", "0.15", "--json", str(report), "--max-p95-ratio", "1000"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(report.read_text())
    queries, frames = found["queries"], found["frames"]
    assert queries["lost"] == 0 and queries["answered"] >= 1
    assert queries["answered"] + queries["busy"] == queries["sent"] and abs(queries["sent"] - 45) <= 2
    assert frames["seconds"] >= 9 and abs(frames["sent"] - 30 * frames["seconds"]) <= 5  # until the last answer
    assert 0 < frames["received"] <= frames["sent"] + 30 and frames["bad"] == 0
    assert found["rss_mb"]["growth_percent"] <= 5 and found["rss_mb"]["first"] > 100
    assert found["latency_ms"]["last"]["p95"] > 0 and found["problems"] == []
