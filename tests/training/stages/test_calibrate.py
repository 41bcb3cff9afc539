"""Temperatures that make a model as sure as it is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from proxqa_core.llm.readout import DigitTree, read_closer, read_visibility
from proxqa_core.model.loading import DEFAULT_ADAPTER
from proxqa_training.stages.calibrate import (
    NORMAL_WITHIN_SIGMA,
    RULE_BREAKING,
    TEMPERATURES,
    CalibrationData,
    accuracy,
    as_text,
    closer_weights,
    compared,
    evidence,
    fit,
    fit_depth_temperature,
    negative_log_likelihood,
    pair_weights,
    reasoned,
    visibility_weights,
    within_sigma,
)


@pytest.fixture(scope="module")
def seen() -> CalibrationData:
    """Choices predicted four times as surely as they are right; depths stated to ± 0.01 that are right to ± 0.1."""
    rng = np.random.default_rng(0)
    true_odds = rng.normal(0, 2, 4000)
    first = rng.random(4000) < 1 / (1 + np.exp(-true_odds))
    depths = rng.uniform(0.2, 0.8, 300)
    trees = []
    for predicted in np.clip(depths + rng.normal(0, 0.1, 300), 0, 0.99):
        tenths = -0.5 * ((np.arange(10) / 10 + 0.045 - predicted) / 0.03) ** 2
        trees.append(DigitTree(np.array([5.0, -5.0]), tenths, np.zeros((10, 10))))
    pairs = np.zeros((4000, 2), np.int64)
    nothing = np.zeros((0, 2)), np.zeros((0, 2))
    edges, by_box = np.full(300, np.nan), np.zeros(300, bool)
    odds = 4 * np.stack([true_odds, true_odds], 1)
    return CalibrationData(trees, depths, edges, edges, by_box, np.ones(4000), odds, first, pairs, nothing, nothing)


def test_too_sure_choices_are_cooled_down(seen: CalibrationData) -> None:
    best = min(TEMPERATURES, key=lambda t: negative_log_likelihood(reasoned(seen, t), seen.first))
    assert best == pytest.approx(4, rel=0.15)


def test_too_narrow_depths_are_widened(seen: CalibrationData) -> None:
    best = fit_depth_temperature(seen)
    assert best > 2
    assert within_sigma(seen, 1.0) < 0.45 and within_sigma(seen, best) == pytest.approx(NORMAL_WITHIN_SIGMA, abs=0.03)


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_trees_so_flat_that_every_mean_is_in_the_middle_are_not_taken_for_well_widened(seed: int) -> None:
    """Near and far things alone: σ holds its share of the errors at two temperatures, and the higher one is absurd."""
    rng = np.random.default_rng(seed)
    depths = rng.choice([0.05, 0.1, 0.85, 0.9], 200)
    tenths = np.clip(np.floor(10 * (depths + rng.normal(0, 0.1, 200))), 0, 9)
    trees = [DigitTree(np.array([5.0, -5.0]), 9.0 * (np.arange(10) == t), np.zeros((10, 10))) for t in tenths]
    nothing = np.zeros((0, 2)), np.zeros((0, 2))
    no_pairs = np.zeros(0), np.zeros((0, 2)), np.zeros(0, bool), np.zeros((0, 2), np.int64)
    edges, by_box = np.full(200, np.nan), np.zeros(200, bool)
    seen = CalibrationData(trees, depths, edges, edges, by_box, *no_pairs, nothing, nothing)
    assert within_sigma(seen, TEMPERATURES[-1]) < NORMAL_WITHIN_SIGMA  # so that it crosses once more on the way there
    best = fit_depth_temperature(seen)
    assert best < 3 and within_sigma(seen, best) == pytest.approx(NORMAL_WITHIN_SIGMA, abs=0.06)


def test_depths_compared_are_as_sure_as_they_are_right(seen: CalibrationData) -> None:
    pairs = np.random.default_rng(1).integers(0, len(seen.trees), (2000, 2))
    first = seen.depths[pairs[:, 0]] < seen.depths[pairs[:, 1]]
    asked = dataclasses.replace(seen, pairs=pairs, first=first)
    assert 0.7 < accuracy(compared(asked, 1, 1), first) < 1
    best = min(TEMPERATURES, key=lambda t: negative_log_likelihood(compared(asked, 1, t), first))
    assert best > 1.5  # σ is too narrow, so the comparison is too sure
    wide = min(TEMPERATURES, key=lambda t: negative_log_likelihood(compared(asked, best, t), first))
    assert wide < best


def world(rng: np.random.Generator, breaking: float, count: int = 150) -> CalibrationData:
    """Pairs of things on the ground: the rule of the lower edge holds but for a share; depths are right to ± 0.1."""
    depths = rng.uniform(0.2, 0.8, 2 * count)
    edges = 0.9 - 0.5 * depths
    pairs = np.arange(2 * count).reshape(-1, 2)
    for i in np.flatnonzero(rng.random(count) < breaking):
        edges[pairs[i]] = edges[pairs[i]][::-1]
    trees = []
    for predicted in np.clip(depths + rng.normal(0, 0.15, 2 * count), 0, 0.99):
        trees.append(
            DigitTree(np.array([5.0, -5.0]), -0.5 * ((np.arange(10) / 10 + 0.045 - predicted) / 0.15) ** 2, None)
        )
    first, nothing = depths[pairs[:, 0]] < depths[pairs[:, 1]], (np.zeros((0, 2)), np.zeros((0, 2)))
    breaks = first != (edges[pairs[:, 0]] > edges[pairs[:, 1]])
    weights = pair_weights(breaks, np.ones(count, bool))
    by_box = np.ones(2 * count, bool)
    order = np.full(2 * count, np.nan)
    odds = np.zeros((count, 2))
    return CalibrationData(trees, depths, edges, order, by_box, weights, odds, first, pairs, nothing, nothing)


def test_the_ground_has_a_vote_where_depths_are_unsure() -> None:
    rng = np.random.default_rng(0)
    data, new = world(rng, 0.2), world(rng, 0.2)
    fitted, figures = fit(data)
    weights = fitted["closer_weights_in_box"]
    assert not fitted["reasons"] and fitted["closer_weights"] is None and weights[0] > 0 and weights[1] > 0.5
    assert figures["accuracy_by_depths_and_ground"] > figures["accuracy_by_depths"]
    seen = evidence(new, fitted["depth_temperature"])
    with_ground = np.array([read_closer(e, weights) for e in seen])
    by_depths = compared(new, fitted["depth_temperature"], 1.0)
    assert accuracy(with_ground, new.first) > accuracy(by_depths, new.first) + 0.02
    assert "with a vote of the ground, will decide" in as_text({"fitted": fitted, "figures": figures})


def test_a_ground_that_votes_against_the_truth_has_none() -> None:
    data = world(np.random.default_rng(1), 0.9)
    of_depths, of_ground = closer_weights(evidence(data, 1.0), data.first, np.ones(len(data.first))) or (0, 0)
    assert of_depths > 0 and of_ground == 0


def test_an_order_head_has_a_vote_by_what_it_knows() -> None:
    rng = np.random.default_rng(0)
    data, new = (
        dataclasses.replace(made, order=12 * made.depths + rng.normal(0, 1, len(made.depths)))
        for made in (world(rng, 0.2), world(rng, 0.2))
    )
    fitted, figures = fit(data)
    weights = fitted["closer_weights_in_box"]
    assert len(weights) == 3 and weights[0] > 0 and weights[2] > 0.3
    by_all = np.array([read_closer(e, weights) for e in evidence(new, fitted["depth_temperature"])])
    without = np.array([read_closer(e[:2], weights[:2]) for e in evidence(new, fitted["depth_temperature"])])
    assert accuracy(by_all, new.first) > accuracy(without, new.first) + 0.02
    assert "and of the order head, will decide" in as_text({"fitted": fitted, "figures": figures})
    chance = dataclasses.replace(data, order=rng.normal(0, 1, len(data.depths)))
    of_depths, _, of_head = closer_weights(evidence(chance, 1.0), chance.first, np.ones(len(chance.first))) or (0, 0, 9)
    assert of_depths > 0 and of_head < 0.2


def test_rendered_pairs_count_by_the_share_that_break_the_rule() -> None:
    breaks, rendered = np.arange(100) < 40, np.arange(100) >= 10
    weights = pair_weights(breaks, rendered)
    assert (weights[:10] == 1).all() and weights[rendered].sum() == pytest.approx(90)
    assert weights[rendered & breaks].sum() / weights[rendered].sum() == pytest.approx(RULE_BREAKING)
    assert (pair_weights(breaks[:40], rendered[:40]) == 1).all()  # nothing to weigh them against


def looked_for(rng: np.random.Generator) -> CalibrationData:
    """The same asked by name: half of the things were not found, as their evidence tells; others were taken."""
    data = world(rng, 0.2, 400)
    lost = rng.random(800) < 0.5
    trees = list(rng.permutation(np.array(data.trees, object)))
    trees = [trees[i] if lost[i] else tree for i, tree in enumerate(data.trees)]
    edges = np.where(lost, rng.permutation(data.lower_edges), data.lower_edges)
    evidence_of = np.where(lost, -2.0, 2.0)[:, None] + rng.normal(0, 0.5, (800, 2))
    kinds = {"visible": (evidence_of[~lost], np.zeros((0, 2))), "absent": (evidence_of[lost], np.zeros((0, 2)))}
    by_box = np.zeros(800, bool)
    return dataclasses.replace(
        data, trees=trees, lower_edges=edges, by_box=by_box, in_view=evidence_of, weights=np.ones(400), **kinds
    )


def test_by_name_choices_are_the_less_sure_the_less_it_is_known_that_things_were_found() -> None:
    data = looked_for(np.random.default_rng(0))
    fitted, figures = fit(data)
    blind, before = fit(dataclasses.replace(data, in_view=None))
    assert fitted["closer_doubt"] > 0.02 and blind["closer_doubt"] == 0
    assert fitted["closer_weights"][0] > blind["closer_weights"][0]  # of what was found the depths tell more
    assert figures["choice_loss"]["after"] < before["choice_loss"]["after"] - 0.03
    assert "the less sure it is that" in as_text({"fitted": fitted, "figures": figures})
    # asked by box, nobody looked for anything
    boxed, _ = fit(dataclasses.replace(data, by_box=np.ones(800, bool)))
    assert boxed["closer_doubt"] == 0 and boxed["closer_weights_in_box"] == blind["closer_weights"]


def test_visibility_is_fitted_with_equal_weight() -> None:
    rng = np.random.default_rng(0)
    visible, absent = rng.normal((1, 2), 2, (900, 2)), rng.normal((1, -2), 2, (100, 2))
    weights = visibility_weights(visible, absent)
    of_language, of_grounding, _ = weights
    assert of_grounding == pytest.approx(1.0, abs=0.25) and abs(of_language) < 0.2  # only the grounding head knows
    wrong = [np.mean([read_visibility(e, weights) < 0.5 for e in es]) for es in (visible, absent)]
    assert wrong[0] == pytest.approx(1 - wrong[1], abs=0.06)


def test_what_is_fitted_and_told(seen: CalibrationData) -> None:
    log_odds = np.random.default_rng(0).normal(2, 1, (50, 2))
    fitted, figures = fit(dataclasses.replace(seen, visible=(log_odds, log_odds), absent=(-log_odds, log_odds[:0])))
    assert fitted["choice_temperature"] == pytest.approx(4, rel=0.15) and fitted["reasons"]
    keys = {"depth_digits", "depth_temperature", "choice_temperature", "reasons", "visibility"}
    assert set(fitted) == keys | {"closer_weights", "closer_weights_in_box", "closer_doubt"}  # none absent by box
    assert fitted["closer_weights"] is None and fitted["closer_weights_in_box"] is None  # all pairs are of one thing
    assert fitted["depth_digits"] == 1 and abs(figures["tenths_cost"]) < 1e-9  # the second digit is drawn evenly
    assert figures["choice_loss"]["after"] < figures["choice_loss"]["before"]
    assert figures["within_sigma"]["before"] < 0.45 < figures["within_sigma"]["after"]
    text = as_text({"fitted": fitted, "figures": figures})
    assert "300 depths and 4000 choices" in text and "stage 2 will decide" in text and "of 50 visible" in text


def test_a_second_digit_that_tells_something_is_asked_for(seen: CalibrationData) -> None:
    """True depths at the lower end of a tenth: with the second digit taken as even, they are all read 0.045 farther."""
    low = np.where(np.arange(10) == 0, 9.0, 0.0) * np.ones((10, 1))
    trees = [dataclasses.replace(tree, hundredths=low) for tree in seen.trees]
    depths = np.array([tree.tenths.argmax() / 10 for tree in trees])
    fitted, figures = fit(dataclasses.replace(seen, trees=trees, depths=depths))
    assert fitted["depth_digits"] == 2 and 0.002 < figures["tenths_cost"] < 0.045


def test_bad_input_is_one_line(tmp_path: Path, train: Callable[..., tuple[int, str, str]]) -> None:
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    (labelled / "annotations.json").write_text("[]")
    for adapter, folder, exit_code in ((tmp_path / "none", labelled, 1), (DEFAULT_ADAPTER, tmp_path, 2)):
        code, _, error = train("calibrate", adapter, "--data", labelled, folder)
        (line,) = [line for line in error.strip().splitlines() if "Warning" not in line]
        assert code == exit_code and line.startswith("proxqa: ")
