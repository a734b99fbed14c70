"""What an interval promises: it holds the true value as often as it says."""

import numpy as np
import pytest

from evaluation.bootstrap import interval


def test_the_value_is_the_quotient_of_the_sums_and_without_sizes_the_mean():
    assert interval([1, 2, 3], [2, 2, 8])["value"] == 0.5
    assert interval([1, 2, 6])["value"] == 3


def test_of_a_thousand_simulated_sets_ninety_five_in_a_hundred_intervals_hold_the_truth():
    """Documents of different lengths, whose bits per byte vary from one to the next, and hang on their length."""
    rng, held = np.random.default_rng(5), 0
    sizes = rng.lognormal(6, 0.5, size=(1000, 120))
    rates = 1 + 0.2 * rng.standard_normal(sizes.shape) + 0.02 * rng.exponential(size=sizes.shape)
    truth = 1.02
    for row, rate in zip(sizes, rates):
        found = interval(row * rate, row, draws=200)
        held += found["low"] <= truth <= found["high"]
    assert 0.93 <= held / 1000 <= 0.97


def test_the_interval_of_a_mean_is_as_wide_as_the_theory_says():
    values = np.random.default_rng(2).standard_normal(400)
    found = interval(values, draws=4000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_the_same_seed_gives_the_same_interval_to_the_last_digit():
    values, sizes = np.random.default_rng(1).random((2, 50))
    assert interval(values, sizes, seed=1) == interval(values, sizes, seed=1) != interval(values, sizes, seed=2)


def test_one_document_has_no_interval_and_none_no_value():
    assert interval([3], [2]) == {"value": 1.5, "low": None, "high": None}
    assert interval([]) == interval([0.0], [0]) == {"value": None, "low": None, "high": None}
