"""A baseline's own windows say what a fixed threshold does where rows depend on each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from driftline.assay.analysis import Part
from driftline.assay.baseline import BaselineData
from driftline.assay.categories import CategoryBaseline
from driftline.assay.own_alarms import OwnAlarms, own_alarms
from driftline.summary.summary import CategorySummary
from driftline.wire import api

Make = Any


def cut(values: Any, n: int) -> list[list[Part]]:
    return [[Part(values=row)] for row in np.asarray(values, dtype=float).reshape(-1, n)]


def found(spec: api.AssaySpec, windows: Sequence[Sequence[Part]]) -> OwnAlarms | None:
    return own_alarms(spec, BaselineData.of_parts([part for one in windows for part in one]), windows)


def test_windows_of_independent_rows_reach_it_as_seldom_as_their_rate_says(spec: Make):
    own = found(spec(), cut(np.random.default_rng(1).normal(size=100 * 200), 200))
    assert own is not None
    assert own == OwnAlarms(0.25, 100, 0)
    assert own.text == "of the baseline's own 100 windows none reach 0.25"


def test_windows_that_each_hold_one_scene_all_reach_it(spec: Make):
    # Ten scenes, each far from the others: within a window next to nothing varies.
    values = np.repeat(np.arange(10.0), 90) + np.random.default_rng(2).normal(0, 0.01, 900)
    own = found(spec(), cut(values, 90))
    assert own is not None
    assert own == OwnAlarms(0.25, 10, 10)
    assert own.text == "of the baseline's own 10 windows all reach 0.25"


def test_one_window_that_is_another_is_the_one_that_reaches_it(spec: Make):
    values = np.random.default_rng(3).normal(size=(60, 500))
    values[17] += 3
    assert found(spec(), cut(values, 500)) == OwnAlarms(0.25, 60, 1)


def test_a_window_does_not_hide_in_its_own_baseline(spec: Make):
    # Six windows, one at another level: a sixth of the baseline is that window itself. Against all of it the window
    # would score mean shift (5 - 5/6) / sd = 2.2; against the rest, whose sd is about 1, it scores 5.
    values = np.random.default_rng(4).normal(size=(6, 400))
    values[2] += 5
    own = found(spec(metric="mean_shift", alarm=api.Fixed(threshold=3.0)), cut(values, 400))
    assert own == OwnAlarms(3.0, 6, 1)


def test_a_very_long_baseline_is_looked_at_evenly(spec: Make):
    own = found(spec(), cut(np.random.default_rng(5).normal(size=1000 * 30), 30))
    assert own is not None
    assert own.windows == 200
    # The χ² law alone says P(χ² of 4 > 0.25 · 30) = 11 %; outlier bins of 30,000 rows add next to nothing.
    assert 0.05 < own.share < 0.2


def test_text_has_own_windows_too(spec: Make):
    names = [["tea"] * 40, ["milk"] * 40, ["tea"] * 40, ["milk"] * 40, ["tea"] * 40, ["milk"] * 40]
    windows = [[Part(categories=CategorySummary.of(one))] for one in names]
    baseline = CategoryBaseline.of_parts([part for one in windows for part in one])
    asked = spec(metric="tv", alarm=api.Fixed(threshold=0.4), num_bins=10)
    assert own_alarms(asked, baseline, windows) == OwnAlarms(0.4, 6, 6)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [({"alarm": api.Promise(false_alarm_every_s=86_400)}, 10), ({}, 4), ({"min_count": 31}, 10)],
)
def test_where_nothing_can_be_counted_nothing_is_said(spec: Make, changes: dict[str, Any], windows: int):
    assert found(spec(**changes), cut(np.random.default_rng(6).normal(size=windows * 30), 30)) is None
