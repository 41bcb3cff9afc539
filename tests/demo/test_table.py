"""What is printed is what was measured."""

import math
from types import SimpleNamespace

import pytest

from demo.table import agreement, by_name, columns, depth_table, depth_text, error_text


def thing(name: str, depth: float, distance: float = math.nan, score: float = 0.9) -> SimpleNamespace:
    return SimpleNamespace(name=name, depth=depth, depth_stddev=0.05, distance=distance, score=score)


def named(*things: SimpleNamespace) -> dict[str, SimpleNamespace]:
    return by_name(things)


def test_columns_are_aligned():
    assert columns(["a", "long header"], [["value", "x"], ["v", "y"]]).splitlines() == [
        "a      long header",
        "-----  -----------",
        "value  x",
        "v      y",
    ]


def test_a_name_that_comes_twice_means_nothing():
    assert list(named(thing("a", 0.1), thing("b", 0.2), thing("a", 0.3))) == ["b"]


def test_depths_are_shown_with_what_is_known():
    assert depth_text(thing("a", 0.25)) == "0.25 ± 0.05"
    assert depth_text(thing("a", 0.25, distance=1.5)) == "0.25 ± 0.05, 1.50 m"
    assert depth_text(thing("a", 0.25, score=0.2)) == "not in view (0.20)"
    assert depth_text(None) == "–"


def test_errors_are_signed_and_only_where_both_are_known():
    assert error_text(thing("a", 0.25), thing("a", 0.5)) == "-0.25"
    assert error_text(thing("a", 0.25, score=0.1), thing("a", 0.5)) == "–"
    assert error_text(None, thing("a", 0.5)) == error_text(thing("a", 0.5), None) == "–"


def test_table_has_the_truth_where_there_is_one():
    text = depth_table(["a", "b"], named(thing("a", 0.2)), named(thing("a", 0.4)), named(thing("a", 0.3, distance=2)))
    row_a, row_b = text.splitlines()[2:]
    assert row_a.split() == ["a", "0.20", "±", "0.05", "0.40", "±", "0.05", "0.30", "2.00", "m", "-0.10", "+0.10"]
    assert row_b.split() == ["b", *"–" * 6]


def test_table_without_truth_has_no_empty_columns():
    text = depth_table(["a"], named(thing("a", 0.2)), {}, {})
    assert text.splitlines()[0].split("  ") == ["object", "depth by name"]


def test_agreement_counts_errors_and_pairs():
    truth = named(thing("a", 0.0, 1.0), thing("b", 0.5, 2.0), thing("c", 0.9, 4.0), thing("d", 0.9, 4.1))
    found = named(thing("a", 0.1), thing("b", 0.7), thing("c", 0.6), thing("d", 0.0, score=0.1), thing("e", 0.0))
    result = agreement([(found, truth)])
    assert (result.objects, result.pairs, result.pairs_right) == (3, 3, 2)  # a-b, a-c right, b-c wrong; d not in view
    assert result.error == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert "2 of 3 pairs" in str(result)


def test_agreement_leaves_out_pairs_that_are_too_close():
    truth = named(thing("a", 0.5, 4.0), thing("b", 0.5, 4.1))
    result = agreement([(named(thing("a", 0.1), thing("b", 0.2)), truth)])
    assert (result.objects, result.pairs) == (2, 0)


def test_agreement_about_nothing_is_named():
    assert math.isnan(agreement([]).error)
    assert str(agreement([])) == "no object of the truth was seen"
