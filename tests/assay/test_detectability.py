"""What an assay would find: against simulation of the field itself, for fields of every kind."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from driftline.assay.analysis import Baseline, baseline_of
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.detectability import SHIFTS, alarms, fixed, promised, smallest
from driftline.assay.evidence import Tracks
from driftline.assay.observed import Part
from driftline.assay.statistics import yardstick_of
from driftline.errors import InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import quantile_grid
from driftline.summary.summary import CategorySummary
from driftline.wire import api

N, WINDOWS, WITHIN = 60, 60, 20
A = 10_000.0


def drawn(field: str, size: int, seed: int) -> Any:
    r = np.random.default_rng(seed)
    return {
        "normal": lambda: r.normal(10, 2, size),
        "lognormal": lambda: r.lognormal(0, 0.5, size),
        "share": lambda: r.beta(20, 2, size),
        "yes or no": lambda: (r.random(size) < 0.3).astype(float),
        "objects": lambda: r.poisson(2, size).astype(float),
    }[field]()


def windows_of(values: Any) -> list[list[Part]]:
    return [[Part(values=row)] for row in values.reshape(-1, N)]


def counted(values: Any) -> list[list[Part]]:
    grid = quantile_grid(values.tolist())
    return [[Part(summary=of_values(row, grid), grid=grid)] for row in values.reshape(-1, N)]


def text(windows: int, seed: int) -> list[list[Part]]:
    pets = np.random.default_rng(seed).choice(["cat", "dog", "owl"], (windows, N), p=[0.5, 0.3, 0.2])
    return [[Part(categories=CategorySummary.of(row.tolist()))] for row in pets]


def known(windows: list[list[Part]], field_type: str = "float64") -> tuple[Calibration, Baseline]:
    baseline = baseline_of([part for window in windows for part in window], field_type)
    return calibrate(baseline, n=N, windows=windows), baseline


def shares(told: list[api.Detectable]) -> dict[float, float]:
    return {one.shift: one.found for one in told}


def test_what_is_found_is_what_new_windows_of_the_field_would_show():
    values = drawn("normal", N * WINDOWS, 1)
    calibration, baseline = known(windows_of(values))
    told = promised(calibration, baseline, windows_of(values), A, within=WITHIN, seed=1)
    assert isinstance(baseline, BaselineData)
    yardstick, streams = yardstick_of(baseline, N), 200
    for shift, one in zip(SHIFTS, told, strict=True):
        fresh = np.random.default_rng(2).normal(values.mean() + shift * values.std(), 2, (streams * WITHIN, N))
        table = yardstick.measure_rows(fresh).reshape(streams, WITHIN, -1)
        tracks = Tracks([calibration] * streams)
        rows, level = np.full((streams, 5), float(N)), np.full(streams, A)
        told_each = [tracks.advance(table[:, t], rows, level).evidence >= A for t in range(WITHIN)]
        assert one.found == pytest.approx(np.any(told_each, axis=0).mean(), abs=0.15), shift
    assert smallest(told) == 0.25


@pytest.mark.parametrize("field", ["normal", "lognormal", "share", "yes or no", "objects"])
def test_counts_find_what_rows_find_and_larger_shifts_are_found_sooner(field: str):
    values = drawn(field, N * WINDOWS, 3)
    found = []
    for windows in (windows_of(values), counted(values)):
        told = promised(*known(windows), windows, A, within=WITHIN, seed=1)
        by_shift = shares(told)
        # No field is so odd that a tenth of its sd shows in twenty windows, and none hides two.
        assert by_shift[0.1] < 0.3
        assert by_shift[2.0] == by_shift[3.0] == 1.0
        # A large shift may be seen in its second window as well as in its first.
        medians = [one.median_windows for one in told if one.median_windows is not None]
        assert all(later <= earlier + 1 for earlier, later in pairwise(medians))
        found.append(by_shift)
    # Where the curve is steep, a little less information costs much: counts do not show that rows are independent.
    assert found[0] == pytest.approx(found[1], abs=0.5)


def test_text_finds_a_mix_that_moves():
    windows = text(WINDOWS, 4)
    calibration, baseline = known(windows, "string")
    told = shares(promised(calibration, baseline, windows, A, within=WITHIN, seed=1))
    assert told[0.1] < 0.3
    assert told[2.0] == 1.0
    by_rule = shares(fixed(api.Summarizer(compat=None), api.Fixed(), baseline, windows, within=WITHIN))
    assert by_rule[0.1] <= by_rule[0.5] <= by_rule[1.0] == 1.0


def test_a_seed_says_the_same_again():
    values = drawn("objects", N * WINDOWS, 5)
    calibration, baseline = known(windows_of(values))
    one, again, other = (
        promised(calibration, baseline, windows_of(values), A, within=WITHIN, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_more_windows_find_more_and_a_stricter_promise_less():
    values = drawn("normal", N * WINDOWS, 6)
    calibration, baseline = known(windows_of(values))
    few, many, strict = (
        shares(promised(calibration, baseline, windows_of(values), alarm_at, within=within, seed=1))[0.25]
        for alarm_at, within in ((A, 5), (A, 40), (1e9, 40))
    )
    assert few < strict <= many


def test_a_fixed_threshold_finds_by_its_metric():
    values = drawn("normal", N * WINDOWS, 7)
    baseline = BaselineData.of_values(values)

    def found(alarm: float, **summarizer: Any) -> dict[float, float]:
        asked = api.Summarizer(**summarizer)
        return shares(fixed(asked, api.Fixed(threshold=alarm), baseline, windows_of(values), within=WITHIN))

    assert found(0.25)[2.0] == 1.0
    assert found(5.0)[0.25] == 0.0
    # 0.5 sd and a fifth of it by chance: a threshold of 0.9 needs a shift of one.
    assert found(0.9, metric="mean_shift", compat=None) == {0.1: 0, 0.25: 0, 0.5: 0, 1.0: 1, 2.0: 1, 3.0: 1}
    assert set(found(0.1, metric="missing_rate", compat=None).values()) == {0.0}


def test_the_smallest_shift_is_found_as_are_all_larger_ones():
    told = [api.Detectable(shift=s, found=f, median_windows=None) for s, f in ((0.1, 0.9), (0.5, 0.2), (1.0, 0.8))]
    assert smallest(told) == 1.0
    assert smallest(told[:2]) is None
    assert smallest([]) is None


def test_an_alarm_begins_once_and_lasts_over_windows_that_cannot_be_judged(spec: Any, ask: Any, as_rows: Any):
    usual = ask(spec(), BaselineData.of_values(range(100)), as_rows(range(100)))
    statuses = ["Ok", "Alert", "Alert", "NoData", "Alert", "TooFew", "Ok", "Late", "Warning", "Alert"]
    answers = [msgspec.structs.replace(usual, status=one, start_ns=i) for i, one in enumerate(statuses)]
    assert alarms(answers) == [1, 9]


def test_a_baseline_without_a_value_has_nothing_to_lay_a_shift_on():
    nothing = BaselineData.of_values([np.nan] * 60)
    with pytest.raises(InvalidInputError, match="take a longer baseline"):
        fixed(api.Summarizer(), api.Fixed(), nothing, [[Part(values=np.full(60, np.nan))]], within=5)
