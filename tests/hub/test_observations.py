from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftline.hub import grids
from driftline.hub.observations import WINDOWS_KEPT, Span, Target, baseline_of, counted, parts_of, seen
from driftline.hub.sight import Sight
from driftline.summary.grid import quantile_grid
from tests.hub.shop import Shop, ns

STORES = ("sqlite", "postgres")
KEY = "out.sharpness"


@pytest.fixture
def shop(tmp_path: Path, database_url: str | None) -> Iterator[Any]:
    """One camera: two minutes with every row, then two counted only."""
    made = Shop.open(tmp_path, database_url)
    made.device("camera-1")
    made.at(4)
    made.counts("camera-1", 0, {KEY: [1.0, 2.0]}, rows=True)
    made.counts("camera-1", 1, {KEY: [3.0, float("nan")]}, rows=True)
    made.counts("camera-1", 2, {KEY: [5.0, 6.0]})
    made.counts("camera-1", 3, {KEY: [7.0]})
    made.target = Target(made.pipeline.id, made.pipeline.name, KEY, "float32")
    yield made
    made.hub.database.close()


def test_rows_are_taken_where_every_one_is_there(shop: Any) -> None:
    span = Span(shop.hub, shop.target, "camera-1", ns(0), ns(2))
    assert span.holds_every_row
    (part,) = span.parts(ns(0), ns(2))
    np.testing.assert_array_equal(part.values, [1.0, 2.0, 3.0, np.nan])
    (part,) = span.parts(ns(0.25), ns(1))
    np.testing.assert_array_equal(part.values, [2.0])


def test_one_look_reads_a_window_once_for_all_who_know_the_field_by_one_type(shop: Any) -> None:
    sight = Sight(shop.hub)
    span = sight.span(shop.target, "camera-1", ns(0), ns(4))
    assert sight.span(shop.target, "camera-1", ns(0), ns(4)) is span
    window = span.window(ns(0), ns(2))
    assert span.window(ns(0), ns(2)) is window
    assert (window.count, window.missing, window.moments.max) == (4, 1, 3.0)
    # As an older version of the pipeline may have declared it.
    wider = replace(shop.target, field_type="float64")
    assert sight.span(wider, "camera-1", ns(0), ns(4)) is not span
    for minute in range(WINDOWS_KEPT + 1):
        span.window(ns(minute), ns(minute + 1))
    assert span.window(ns(0), ns(2)) is not window


def test_a_span_that_is_counted_in_part_has_rows_only_for_windows_that_have_them_all(shop: Any) -> None:
    span = Span(shop.hub, shop.target, "camera-1", ns(0), ns(4))
    assert not span.holds_every_row
    (early,) = span.parts(ns(0), ns(2))
    assert early.values is not None
    (late,) = span.parts(ns(1), ns(4))
    assert late.values is None
    assert (late.summary.count, late.summary.missing, late.summary.max) == (5, 1, 7.0)


def test_counts_on_one_grid_merge_and_those_on_two_stay_apart(shop: Any) -> None:
    grids.set_baseline_grid(shop.hub, shop.pipeline.id, KEY, quantile_grid([1.0, 5.0, 9.0]))
    shop.counts("camera-1", 4, {KEY: [8.0]})
    shop.counts("camera-1", 5, {KEY: [9.0]})
    parts = Span(shop.hub, shop.target, "camera-1", ns(2), ns(6)).parts(ns(2), ns(6))
    assert [part.summary.count for part in parts] == [3, 2]


def test_a_device_is_heard_up_to_what_it_told(shop: Any) -> None:
    span = Span(shop.hub, shop.target, "camera-1", ns(0), ns(4))
    assert span.heard(ns(0), ns(4))
    assert not span.heard(ns(0), ns(4) + 1)
    assert not Span(shop.hub, shop.target, "camera-2", ns(0), ns(4)).heard(ns(0), ns(1))


@pytest.mark.parametrize(("start", "end", "values"), [(0, 2, 3), (2, 4, 3), (0, 4, 6)])
def test_a_baseline_is_the_same_whether_rows_or_counts_were_kept(shop: Any, start: int, end: int, values: int) -> None:
    material = seen(shop.hub, shop.target, "camera-1", ns(start), ns(end))
    assert (material.values is not None) == (end == 2)
    assert baseline_of(shop.hub, material, "float32").n == values
    assert sum(part.values is not None for part in parts_of(shop.hub, material)) == (end == 2)


def test_nothing_seen_is_no_parts(shop: Any) -> None:
    assert counted(shop.hub, []) == []
    assert not baseline_of(shop.hub, seen(shop.hub, shop.target, "nobody", ns(0), ns(4)), "float32").usable
