"""The benchmark's figures with the real default model, in a short run."""

import pytest

from proxqa_core.evaluation.bench import NAMES, bench

pytestmark = pytest.mark.model


def test_both_ways_say_the_same_and_sharing_is_faster(exact):
    lines: list[str] = []
    report = bench(exact, repeats=2, names=NAMES[:4], on_progress=lines.append)
    assert (report["objects"], report["repeats"], len(lines)) == (4, 2, 2)
    for spans in report["milliseconds"].values():
        assert 0 < spans["p50"] <= spans["p95"]
    middle = {name: spans["p50"] for name, spans in report["milliseconds"].items()}
    assert report["ratio"] == pytest.approx(middle["one_by_one"] / middle["shared"]) and report["ratio"] > 1
    assert report["same_answers"] >= 0.9  # in float32; in bfloat16 near ties fall either way


def test_one_round_has_no_quantiles(engine):
    with pytest.raises(ValueError, match="at least 2"):
        bench(engine, repeats=1)
