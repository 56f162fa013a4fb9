import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from driftline.assay.baseline import BaselineData
from driftline.assay.observed import Observed, Part
from driftline.assay.statistics import LOCATION, MISSING, OMNIBUS, OUTSIDE, SPREAD, scores_of, stabilised, yardstick_of
from driftline.errors import InvalidInputError
from driftline.summary.grid import UNIVERSAL, quantile_grid

Make = Callable[..., Any]


def part(values: Any) -> Part:
    return Part(values=np.asarray(values, dtype=np.float64))


@pytest.mark.parametrize(
    ("draw", "scale"),
    [
        (lambda rng: rng.normal(140, 5, 2000), "identity"),
        (lambda rng: rng.lognormal(0, 1, 2000), "log"),
        (lambda rng: rng.beta(20, 2, 2000), "logit"),
        (lambda rng: rng.lognormal(0, 1, 2000) - 5, "ranks"),
        (lambda rng: rng.poisson(0.1, 2000) * 7.0, "ranks"),
        (lambda rng: np.full(2000, 7.0), "identity"),
    ],
)
def test_the_scale_fits_the_field(draw: Make, scale: str):
    assert yardstick_of(BaselineData.of_values(draw(np.random.default_rng(0))), 100).scale == scale


@pytest.mark.parametrize("draw", ["normal", "beta", "lognormal"])
def test_counts_on_the_baselines_grid_say_what_the_values_say(draw: str, as_counts: Make):
    arguments = {"normal": (0, 1), "beta": (20, 2), "lognormal": (0, 0.5)}[draw]
    rng = np.random.default_rng(1)
    values, window = getattr(rng, draw)(*arguments, 3000), getattr(rng, draw)(*arguments, 200)
    baseline = BaselineData.of_values(values)
    grid = quantile_grid(values.tolist())
    yardstick = yardstick_of(baseline, 200)
    exact, counted = yardstick.measure([part(window)]), yardstick.measure([as_counts(window, grid)])
    np.testing.assert_allclose(counted.values, exact.values, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-30, 30), st.just(math.inf)), min_size=30, max_size=30))
def test_windows_measured_together_are_measured_as_one_by_one(values: list[float | None]):
    rows = np.array([math.nan if value is None else value for value in values])
    yardstick = yardstick_of(BaselineData.of_values(np.random.default_rng(2).normal(size=500)), 30)
    together = yardstick.measure_rows(np.stack((rows, rows[::-1])))
    alone = yardstick.measure([part(rows)]).values
    np.testing.assert_allclose(together, np.stack((alone, alone)), rtol=1e-9, atol=1e-9)


def test_a_window_in_parts_is_the_window(as_counts: Make):
    rng = np.random.default_rng(3)
    values, window = rng.normal(size=3000), rng.normal(size=200)
    grid = quantile_grid(values.tolist())
    yardstick = yardstick_of(BaselineData.of_values(values), 200)
    whole = yardstick.measure([as_counts(window, grid)]).values
    halves = yardstick.measure([as_counts(window[:80], grid), part(window[80:])]).values
    np.testing.assert_allclose(halves, whole, rtol=1e-6, atol=1e-6)


def test_a_coarse_grid_costs_power_and_makes_no_drift(as_counts: Make):
    rng = np.random.default_rng(4)
    values, window = rng.beta(200, 2, 3000), rng.beta(200, 2, 200)
    yardstick = yardstick_of(BaselineData.of_values(values), 200)
    usual = yardstick.measure_rows(rng.beta(200, 2, (200, 200)))[:, OMNIBUS]
    assert yardstick.measure([as_counts(window, UNIVERSAL)]).values[OMNIBUS] < usual.max()


def test_one_absurd_value_is_one_row(as_counts: Make):
    rng = np.random.default_rng(5)
    values, window = rng.normal(size=3000), rng.normal(size=200)
    yardstick = yardstick_of(BaselineData.of_values(values), 200)
    usual = yardstick.measure([part(window)])
    window[0] = 1e9
    for one in (part(window), as_counts(window, quantile_grid(values.tolist()))):
        absurd = yardstick.measure([one])
        assert absurd.values[LOCATION] == pytest.approx(usual.values[LOCATION], abs=0.05)
        assert absurd.values[OUTSIDE] == pytest.approx(math.asin(math.sqrt(1 / 200)), rel=1e-3)


def test_an_infinite_value_counts_outside_and_in_no_mean():
    yardstick = yardstick_of(BaselineData.of_values(np.arange(100.0)), 10)
    window = yardstick.measure([part([*range(40, 60), math.inf])])
    assert window.values[LOCATION] * yardstick.unit == pytest.approx(49.5)
    assert window.values[OUTSIDE] == pytest.approx(math.asin(math.sqrt(1 / 21)))


def test_a_window_without_values_has_its_missing_share_and_nothing_else():
    yardstick = yardstick_of(BaselineData.of_values(np.arange(100.0)), 10)
    window = yardstick.measure([part([math.nan] * 4)])
    assert (window.count, window.missing, window.n) == (4, 4, 0)
    assert window.values[MISSING] == pytest.approx(math.pi / 2)
    assert all(math.isnan(window.values[i]) for i in (LOCATION, SPREAD, OMNIBUS, OUTSIDE))
    assert all(math.isnan(value) for value in yardstick.measure([]).values)


def test_normal_scores_have_the_moments_of_a_normal_variable():
    shares = np.array([0.1] * 10)
    counts = np.array([[100.0] * 10])
    mean, spread = scores_of(counts, shares, 10**9, 10**6)
    assert mean[0] == pytest.approx(0, abs=1e-9)
    assert math.exp(spread[0]) == pytest.approx(1, rel=1e-3)
    # The mean of a normal variable's upper tenth, from SciPy.
    top, _ = scores_of(np.array([[0.0] * 9 + [50.0]]), shares, 100, 10**6)
    assert top[0] == pytest.approx(stats.truncnorm.mean(stats.norm.ppf(0.9), np.inf), abs=2e-3)


def test_a_floor_is_what_moving_one_row_changes():
    values = np.random.default_rng(6).normal(10, 2, 5000)
    yardstick = yardstick_of(BaselineData.of_values(values), 100)
    window = values[:100].copy()
    before = yardstick.measure([part(window)]).values[LOCATION]
    window[0] += values.std()
    moved = yardstick.measure([part(window)]).values[LOCATION] - before
    assert moved == pytest.approx(yardstick.floors[LOCATION], rel=0.01)
    assert yardstick.floors[MISSING] == pytest.approx(stabilised(np.array([0.01]))[0])


def test_a_baseline_window_is_compared_with_the_rest_of_it():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(20, 50))
    baseline = BaselineData.of_values(rows.ravel())
    yardstick = yardstick_of(baseline, 50)
    together = yardstick.measure_rows(rows, apart=1)
    read = [Observed.of_parts([part(row)]) for row in rows]
    alone = [yardstick.measured(one, read[max(0, i - 1) : i + 2]).values for i, one in enumerate(read)]
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)
    # Left in, a window would look more like its baseline than any later one can.
    assert together[:, OMNIBUS].mean() > yardstick.measure_rows(rows)[:, OMNIBUS].mean()


def test_a_baseline_without_a_finite_value_measures_nothing():
    with pytest.raises(InvalidInputError, match="no finite value"):
        yardstick_of(BaselineData.of_values([math.nan, math.inf]), 10)
