import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate, promise_health
from driftline.assay.observed import Part
from driftline.assay.statistics import LOCATION, MISSING, OMNIBUS, SPREAD
from driftline.errors import InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import quantile_grid


def ar1(size: int, phi: float, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = np.random.default_rng(seed).normal(size=size)
    rows[1:] *= math.sqrt(1 - phi * phi)
    return np.asarray(lfilter([1.0], [1.0, -phi], rows))


def of(values: Any, n: int = 60, **options: Any) -> Calibration:
    return calibrate(BaselineData.of_values(values), n=n, **options)


def test_independent_rows_are_taken_for_independent():
    kinds = [of(np.random.default_rng(seed).normal(size=3000)).kind for seed in range(30)]
    assert kinds.count("rows") >= 24


@pytest.mark.parametrize("phi", [0.3, 0.9])
def test_rows_that_resemble_the_rows_before_them_are_not(phi: float):
    found = of(ar1(6000, phi, 1))
    assert found.kind == "windows"
    assert "resemble the rows before" in found.why


def test_correlated_windows_have_the_correlation_of_window_means():
    # By arithmetic on AR(1) 0.99 at n = 200: a correlation time of 1/−ln 0.99 = 99.5 rows gives 0.33.
    rho = [of(ar1(100 * 200, 0.99, seed), n=200).rho[LOCATION] for seed in range(10)]
    assert 0.25 < float(np.median(rho)) < 0.45


def test_a_baseline_shorter_than_its_autocorrelation_carries_no_promise():
    with pytest.raises(InvalidInputError, match=r"20 windows of 20 inferences, too few .* A promise needs \d+ windows"):
        of(ar1(400, 0.995, 2), n=20)


def test_its_refusal_names_the_ways_out():
    with pytest.raises(
        InvalidInputError, match=r"take a longer baseline, a seasonal one .* follow the hour, or a fixed"
    ):
        of(ar1(400, 0.995, 2), n=20)


def test_few_baselines_seem_long_enough_that_are_not():
    # Twelve decay times, of which some look like forty; a fifth may pass, and their evidence is wary.
    def accepted(seed: int, windows: int) -> bool:
        try:
            return bool(of(ar1(windows * 60, 0.99, seed)))
        except InvalidInputError:
            return False

    assert sum(accepted(seed, 20) for seed in range(40)) <= 8
    assert sum(accepted(seed, 100) for seed in range(20)) >= 18


def test_what_is_uncertain_about_the_decay_makes_evidence_wary():
    # Forty decay times and eight hundred, windows of the same kind.
    short, long = of(ar1(20 * 200, 0.99, 3), n=200), of(ar1(400 * 200, 0.99, 3), n=200)
    assert short.freedom_max[LOCATION] < long.freedom_max[LOCATION] == 8
    assert short.size[LOCATION] < 0.6 * short.windows
    sd = [math.sqrt(one.squares[LOCATION] / one.freedom[LOCATION]) for one in (short, long)]
    assert sd[0] > 1.1 * sd[1]


def test_a_slow_field_under_noise_is_known_to_be_slow():
    slow, noise = ar1(100 * 20, 0.99, 4), np.random.default_rng(5).normal(size=100 * 20)
    with pytest.raises(InvalidInputError, match="too few for their autocorrelation"):
        of(slow + noise, n=20)


@pytest.mark.parametrize("windows", [0, 1, 4])
def test_below_five_windows_the_promise_is_refused_and_says_how_many_it_needs(windows: int):
    with pytest.raises(InvalidInputError, match="needs 5"):
        of(np.random.default_rng(0).normal(size=windows * 60 + 5))


def test_few_windows_and_unordered_rows_say_that_independence_is_assumed():
    values = np.random.default_rng(3).normal(size=400)
    assert of(values).why == "independence assumed: only 6 windows"
    sorted_rows = of(np.sort(np.random.default_rng(3).normal(size=3000)), ordered=False)
    assert sorted_rows.why == "independence assumed: rows are not in time order"
    assert not sorted_rows.health


def test_windows_of_values_are_the_values_cut():
    values = ar1(3000, 0.9, 4)
    cut = [[Part(values=row)] for row in values.reshape(50, 60)]
    one, other = of(values), calibrate(BaselineData.of_values(values), windows=cut)
    assert other.kind == one.kind
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.squares, one.squares, rtol=1e-6, atol=1e-9)


def test_windows_of_counts_calibrate_nearly_as_values_do():
    values = ar1(3000, 0.9, 5)
    grid = quantile_grid(values.tolist())
    windows = [[Part(summary=of_values(row, grid), grid=grid)] for row in values.reshape(50, 60)]
    parts = [part for window in windows for part in window]
    counted = calibrate(BaselineData.of_parts(parts), windows=windows)
    exact = of(values)
    assert counted.kind == "windows"
    assert "only counts are known" in counted.why
    moving = [LOCATION, SPREAD, OMNIBUS]
    ratio = np.sqrt(np.array(counted.squares)[moving] / np.array(exact.squares)[moving])
    np.testing.assert_allclose(ratio, 1, atol=0.2)


def test_counts_without_their_windows_cannot_be_calibrated_on():
    grid = quantile_grid(range(100))
    part = Part(summary=of_values(range(100), grid), grid=grid)
    with pytest.raises(InvalidInputError, match="give the counts of each window"):
        calibrate(BaselineData.of_parts([part]), n=10)


def test_a_calibration_is_small_and_survives_json():
    for values in (np.random.default_rng(6).normal(size=6000), ar1(6000, 0.9, 6)):
        calibration = of(values)
        document = json.dumps(calibration.document())
        assert len(document) < 4096
        assert Calibration.of(json.loads(document)) == calibration


def test_a_seed_gives_the_same_calibration_and_another_seed_another():
    values = np.random.default_rng(7).normal(size=3000)
    assert of(values, seed=1) == of(values, seed=1)
    assert of(values, seed=1).mean != of(values, seed=2).mean


@pytest.mark.parametrize(("drift", "named"), [(np.linspace(0, 1, 6000), "rises"), (np.arange(6000) // 3000, "51 of")])
def test_a_baseline_that_drifts_inside_is_refused_and_told_where(drift: Any, named: str):
    with pytest.raises(InvalidInputError, match=f"needs .*; the baseline (has a trend|drifts inside): .*{named}"):
        of(ar1(6000, 0.5, 8) + drift)


def test_a_healthy_baseline_is_seldom_blamed():
    blamed = [bool(of(ar1(6000, 0.5, seed)).health) for seed in range(40)]
    assert sum(blamed) <= 2


def test_health_says_what_few_windows_cost():
    calibration = of(np.random.default_rng(10).normal(size=400))
    notes = promise_health(calibration, 10_000)
    assert any("baseline is short: 6 windows" in note for note in notes)
    assert any("proven after about" in note for note in notes)
    assert promise_health(of(np.random.default_rng(11).normal(size=6000)), 10_000) == []


def test_a_constant_and_a_missing_field_are_calibrated():
    constant = of(np.full(1200, 5.0))
    assert all(math.isfinite(value) for value in (*constant.mean, *constant.squares, *constant.floor))
    half = np.random.default_rng(12).normal(size=1200)
    half[::2] = np.nan
    assert of(half).mean[MISSING] == pytest.approx(math.pi / 4, abs=0.02)


def test_passes_of_a_scene_that_follow_each_other_by_chance_carry_a_promise():
    """Each window is one pass, and light differs a little from pass to pass, as it did on a camera of the demo."""
    light = np.array([0, 5, 18, 30, 19, 15, 27, 26]) / 1000
    for seed in (71, 72):
        grain = 0.005 * np.random.default_rng(seed).normal(size=(8, 120))
        passes = ar1(620, 0.95, seed)[500:] + light[:, None] + grain
        # So little, beside what rows differ by, that only what is surely no chance counts as memory.
        assert of(passes.ravel(), n=120).windows == 8
