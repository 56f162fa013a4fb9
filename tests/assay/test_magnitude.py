import json
import math
import re
from typing import Any

import numpy as np
import pytest

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import calibrate
from driftline.assay.evidence import State, step
from driftline.assay.magnitude import Magnitude, Weighed, weigh
from driftline.assay.observed import Part
from driftline.assay.statistics import yardstick_of

ALARM_AT = 10_000.0


def weighed(baseline: Any, windows: Any, min_effect: float | None = None) -> list[Weighed]:
    """Return what each window says, by way of JSON from window to window."""
    data = BaselineData.of_values(np.ravel(baseline))
    n = np.shape(windows)[1]
    calibration, yardstick = calibrate(data, n=n), yardstick_of(data, n)
    state, magnitude, told = State.start(calibration), Magnitude(), []
    for values in windows:
        window = yardstick.measure([Part(values=values)])
        after, answer = step(calibration, state, window, ALARM_AT)
        magnitude, one = weigh(magnitude, calibration, state, window, answer, min_effect=min_effect)
        magnitude, state = Magnitude.of(json.loads(json.dumps(magnitude.document()))), after
        told.append(one)
    return told


def normal(windows: int, seed: int, n: int, shift: float = 0.0, sd: float = 1.0) -> Any:
    return np.random.default_rng(seed).normal(shift, sd, (windows, n))


@pytest.mark.parametrize(("n", "windows"), [(50, 400), (5000, 20)])
def test_a_small_change_is_a_warning_at_most_however_many_rows_prove_it(n: int, windows: int):
    told = weighed(normal(40, 1, n), normal(windows, 2, n, shift=0.15), min_effect=0.4)
    assert {one.status for one in told} <= {"Ok", "Warning"}
    last = [one for one in told if one.status == "Warning"][-1]
    assert "below min_effect 0.4 sd" in last.text


@pytest.mark.parametrize("n", [50, 5000])
def test_a_large_one_is_an_alert_and_says_how_large(n: int):
    told = weighed(normal(40, 3, n), normal(20, 4, n, shift=0.8), min_effect=0.4)
    last = told[-1]
    assert last.status == "Alert"
    assert last.statistic == "location"
    assert last.at_least <= 0.8 <= last.at_most
    assert last.size == pytest.approx(0.8, abs=0.1)
    # A size between two bounds, of all windows: beside it stands what this window alone shows.
    assert re.fullmatch(
        r"the mean changed by 0\.[67]\d* to (0\.\d+|1) sd over the last 20 windows together, with 95 % confidence",
        last.text,
    ), last.text
    assert re.match(r"the mean changed by [\d.]+ to [\d.]+ sd, with", told[0].text) or not told[0].text


def test_the_bound_holds_nineteen_times_in_twenty():
    wrong = 0
    for seed in range(30):
        last = weighed(normal(50, 100 + seed, 60), normal(25, 200 + seed, 60, shift=0.5))[-1]
        wrong += not last.at_least <= 0.5 <= last.at_most
    assert wrong <= 4


def test_an_alert_stays_one_though_later_windows_are_uncertain():
    told = weighed(normal(50, 5, 60), normal(40, 6, 60, shift=0.6), min_effect=0.4)
    statuses = [one.status for one in told]
    assert "Alert" in statuses
    assert set(statuses[statuses.index("Alert") :]) == {"Alert"}


def test_without_a_least_effect_every_alert_is_one():
    told = weighed(normal(100, 7, 1000), normal(40, 8, 1000, shift=0.08))
    assert told[-1].status == "Alert"
    assert told[-1].at_most < 0.2


def test_a_change_of_spread_and_of_missing_values_has_a_size_too():
    wider = weighed(normal(50, 9, 200), normal(15, 10, 200, sd=1.5))[-1]
    assert wider.statistic == "spread"
    # Ten cells see somewhat less of so large a change.
    assert wider.size == pytest.approx(math.sqrt(2 / math.pi) * math.log(1.5), abs=0.1)
    holes = normal(15, 11, 200)
    holes[:, :50] = np.nan
    missing = weighed(normal(50, 12, 200), holes)[-1]
    assert missing.statistic == "missing"
    # Cohen's h of 0 and 25 %: 2 asin 0.5.
    assert missing.size == pytest.approx(2 * math.asin(0.5), abs=0.01)


def test_nothing_that_changed_has_no_size():
    assert weighed(normal(50, 13, 60), normal(5, 14, 60), min_effect=0.1)[-1] == Weighed("Ok")


def test_a_seasonal_change_is_in_the_baselines_sd_though_nights_are_judged_by_nights():
    day = np.tile(5 * np.sin(np.arange(24) * np.pi / 12), 7)[:, None]
    rows = day + normal(168, 15, 60)
    data = BaselineData.of_values(rows.ravel())
    starts = [i * 3600 * 10**9 for i in range(168)]
    calibration = calibrate(data, n=60, starts_ns=starts, cycle="day")
    yardstick, state, magnitude = yardstick_of(data, 60), State.start(calibration), Magnitude()
    told = Weighed("Ok")
    for start, values in zip(starts, day + normal(168, 16, 60, shift=1.0), strict=True):
        window = yardstick.measure([Part(values=values)])
        after, answer = step(calibration, state, window, ALARM_AT, start_ns=start)
        magnitude, told = weigh(magnitude, calibration, state, window, answer, min_effect=0.1, start_ns=start)
        state = after
    # A sine of amplitude five has a variance of 12.5, beside the rows' own of 1.
    assert told.status == "Alert"
    assert told.statistic == "location"
    assert told.size == pytest.approx(1 / math.sqrt(13.5), rel=0.1)
