import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from driftline.assay.baseline import BaselineData
from driftline.assay.effect import effect_of, psi_at_least, wasserstein
from driftline.assay.observed import Observed, Part
from driftline.summary.grid import UNIVERSAL, quantile_grid
from driftline.wire.api import Effect

Make = Callable[..., Any]
VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


def seen(values: Any) -> Observed:
    return Observed.of_parts([Part(values=np.asarray(values, dtype=np.float64))])


def effect(baseline: Any, window: Any) -> Effect:
    return effect_of(BaselineData.of_values(baseline), seen(window))


def test_a_shift_is_told_in_the_baselines_standard_deviations():
    values = np.random.default_rng(0).normal(10, 2, 5000)
    found = effect(values, values + values.std() / 2)
    assert found.mean_shift == pytest.approx(0.5)
    assert found.median_shift == pytest.approx(0.5)
    assert found.wasserstein == pytest.approx(values.std() / 2)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES)
def test_the_distance_of_values_is_scipys(baseline: list[float], window: list[float]):
    expected = stats.wasserstein_distance(baseline, window)
    assert wasserstein(seen(baseline), seen(window)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_distance_of_counts_is_within_a_cell_of_scipys(as_counts: Make):
    rng = np.random.default_rng(1)
    values, window = rng.normal(size=3000), rng.normal(0.5, 1.2, 500)
    grid = quantile_grid(values.tolist())
    counted = Observed.of_parts([as_counts(window, grid)])
    expected = stats.wasserstein_distance(values, window)
    assert wasserstein(seen(values), counted) == pytest.approx(expected, abs=0.03)
    both = wasserstein(Observed.of_parts([as_counts(values, grid)]), counted)
    assert both == pytest.approx(expected, abs=0.03)


def test_a_coarse_grid_makes_no_distance(as_counts: Make):
    rng = np.random.default_rng(2)
    values = rng.beta(200, 2, 5000)
    counted = Observed.of_parts([as_counts(values, UNIVERSAL)])
    assert wasserstein(seen(values), counted) < 0.2 * values.std()


def test_the_share_outside_is_that_beyond_least_and_greatest():
    assert effect([0.0, 1.0], [-1.0, 0.0, 1.0, 2.0]).outside == pytest.approx(0.5)
    assert effect([0.0, 1.0], [0.0, 0.5, math.inf]).outside == pytest.approx(1 / 3)


@pytest.mark.parametrize("n", [50, 1000, 100_000])
def test_without_drift_the_bound_is_zero_in_nineteen_windows_of_twenty(n: int):
    rng = np.random.default_rng(3)
    shares = np.full(10, 0.1)
    bounds = [psi_at_least(rng.multinomial(n, shares).astype(float), shares, 10**9) for _ in range(300)]
    assert float(np.mean(np.array(bounds) > 0)) < 0.1


@pytest.mark.parametrize("n", [200, 1000, 100_000])
def test_the_bound_lies_below_the_truth_and_comes_near_it(n: int):
    rng = np.random.default_rng(4)
    shares, now = np.full(10, 0.1), np.array([0.06] * 5 + [0.14] * 5)
    truth = float(((now - shares) * np.log(now / shares)).sum())
    bounds = np.array([psi_at_least(rng.multinomial(n, now).astype(float), shares, 10**9) for _ in range(300)])
    assert (bounds > truth).mean() < 0.1
    if n == 100_000:
        assert np.median(bounds) > 0.9 * truth


def test_rows_that_say_less_widen_the_bound():
    counts, shares = np.array([120.0, 80.0]), np.array([0.5, 0.5])
    assert psi_at_least(counts, shares, 1000) > psi_at_least(counts, shares, 1000, rows_per_fact=2)


def test_where_nothing_can_be_compared_there_is_no_effect():
    assert effect([1.0, 2.0], [math.nan]) == Effect(missing_change=1.0)
    assert effect([math.nan], [1.0]) == Effect(missing_change=-1.0)


def test_a_constant_that_changed_has_a_finite_shift_and_distance():
    same, changed = effect([5.0] * 50, [5.0] * 50), effect([5.0] * 50, [7.0] * 50)
    assert (same.mean_shift, same.wasserstein, same.psi_at_least) == (0.0, 0.0, 0.0)
    assert changed.mean_shift is not None
    assert 1 < changed.mean_shift < math.inf
    assert changed.wasserstein == pytest.approx(2)
    assert changed.psi_at_least is not None
    assert changed.psi_at_least > 0.25
