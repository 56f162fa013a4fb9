import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import UNIVERSAL, Grid, just_below, to_float32
from driftline.summary.summary import (
    CATEGORIES_MAX,
    FINITE_MAX,
    CategorySummary,
    CategoryTally,
    Summary,
    Tally,
)

GRID = Grid((-1.0, 0.0, 0.5, 1.0, 1000.0))
anything = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=64))
# Within 10⁶ sums can be compared to an absolute tolerance.
moderate = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))
grids = st.sampled_from([GRID, UNIVERSAL])
names = st.one_of(st.none(), st.text(max_size=3))


def tallied(values: Any, grid: Grid = GRID, *, float32: bool = False):
    tally = Tally(grid, float32=float32)
    for value in values:
        tally.add(value)
    return tally.summary()


def same(one: Summary, other: Summary) -> bool:
    size = max(one.sum_squares, 1.0)
    return (
        (one.grid_id, one.count, one.missing, one.cells, one.min, one.max, one.infinite)
        == (other.grid_id, other.count, other.missing, other.cells, other.min, other.max, other.infinite)
        and math.isclose(one.sum, other.sum, rel_tol=1e-9, abs_tol=1e-9 * max(1, one.count) * math.sqrt(size))
        and math.isclose(one.sum_squares, other.sum_squares, rel_tol=1e-9, abs_tol=1e-9 * size)
    )


@given(st.lists(moderate), st.lists(moderate), st.lists(moderate))
def test_merging_is_associative(a: list[Any], b: list[Any], c: list[Any]):
    x, y, z = map(tallied, (a, b, c))
    assert same(x.merge(y).merge(z), x.merge(y.merge(z)))


@given(st.lists(anything), st.lists(anything))
def test_merging_is_commutative(a: list[Any], b: list[Any]):
    x, y = tallied(a), tallied(b)
    assert x.merge(y) == y.merge(x)


@given(st.lists(anything))
def test_zero_changes_nothing(values: Any):
    x = tallied(values)
    assert x.merge(Summary.zero(GRID)) == x == Summary.zero(GRID).merge(x)


@given(st.lists(st.lists(moderate)))
def test_the_hub_merge_equals_one_device_seeing_every_value(devices: list[list[Any]]):
    each = [tallied(values) for values in devices]
    whole = tallied([value for device in devices for value in device])
    assert same(reduce(Summary.merge, each, Summary.zero(GRID)), whole)
    assert same(Summary.zero(GRID).merge(*each), whole)


@given(st.lists(moderate), grids, st.booleans())
def test_arrays_and_single_values_give_the_same_summary(values: Any, grid: Grid, float32: bool):
    array = np.array([math.nan if value is None else value for value in values])
    assert same(of_values(array, grid, float32=float32), tallied(values, grid, float32=float32))


@given(st.lists(anything), grids)
def test_every_value_is_counted_once(values: Any, grid: Grid):
    summary = tallied(values, grid)
    assert summary.count == len(values)
    assert sum(n for _, n in summary.cells) == summary.n == summary.finite + sum(summary.infinite)
    assert summary.fits(grid)


def test_missing_and_infinite_values_stay_out_of_the_moments():
    summary = tallied([None, math.nan, math.inf, -math.inf, 0.25, 0.75])
    assert (summary.count, summary.missing, summary.infinite) == (6, 2, (1, 1))
    assert (summary.min, summary.max) == (0.25, 0.75)
    assert summary.sum == pytest.approx(-0.25 + 0.25)  # about the middle edge, 0.5
    assert summary.cells[0] == (0, 1)
    assert summary.cells[-1] == (GRID.cells - 1, 1)


def test_a_value_whose_square_would_overflow_counts_as_infinite():
    summary = tallied([FINITE_MAX, -2 * FINITE_MAX, 1.0])
    assert summary.infinite == (1, 1)
    assert (summary.min, summary.max) == (1.0, 1.0)


def test_a_float32_field_is_rounded_before_it_is_counted():
    # 0.7 as a float32 is less than 0.7: against an edge of that float32 only the rounded value lies at or below it.
    grid = Grid((to_float32(0.7),))
    assert tallied([0.7], grid, float32=True).cells == ((0, 1),)
    assert tallied([0.7], grid).cells == ((1, 1),)


def test_a_numpy_scalar_is_summed_as_a_float64():
    tally = Tally(Grid((0.0,)))
    for _ in range(1000):
        tally.add(np.float32(0.1))
    assert tally.summary().sum == pytest.approx(1000 * to_float32(0.1), rel=1e-12)


def test_summaries_on_different_grids_do_not_merge():
    with pytest.raises(InvalidInputError, match="do not merge"):
        tallied([1.0]).merge(tallied([1.0], UNIVERSAL))


def test_a_summary_that_no_values_can_give_does_not_fit():
    honest = tallied([0.25, 0.75, 2.0])
    from dataclasses import replace

    assert honest.fits(GRID)
    assert not honest.fits(UNIVERSAL)
    assert not replace(honest, cells=((17, 3),)).fits(GRID)
    assert not replace(honest, min=0.75).fits(GRID)
    assert not replace(honest, max=5000.0).fits(GRID)
    assert not replace(honest, sum=1e9).fits(GRID)
    assert not replace(honest, sum_squares=1e9).fits(GRID)
    assert not replace(honest, infinite=(0, 1)).fits(GRID)


# ── grids ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_the_float32_just_below_is_the_one_numpy_knows(value: float):
    with np.errstate(over="ignore"):
        assert just_below(value, float32=True) == float(np.nextafter(np.float32(value), np.float32(-np.inf)))


@given(st.floats(1e-12, 1e12), st.sampled_from([1, -1]))
def test_the_universal_grid_knows_a_value_to_a_thirty_second(size: float, sign: int):
    value = sign * size
    cell = UNIVERSAL.cell(value)
    left, right = UNIVERSAL.edges[cell - 1], UNIVERSAL.edges[cell]
    assert left < value <= right
    assert right - left <= size / 32 * (1 + 1e-12) or sign < 0
    assert right - left <= size / 31


def test_edges_that_do_not_ascend_are_refused():
    for edges in [(), (1.0, 1.0), (2.0, 1.0), (math.nan,), (math.inf,)]:
        with pytest.raises(InvalidInputError):
            Grid(edges)


# ── categories ───────────────────────────────────────────────────────────────────────────────────────────────────


def named(values: Any):
    tally = CategoryTally()
    for value in values:
        tally.add(value)
    return tally.summary()


many = st.lists(st.one_of(st.none(), st.integers(0, 3 * CATEGORIES_MAX).map(str)), max_size=200)


@given(many, many, many)
def test_categories_merge_like_one_device_seeing_every_name(a: list[Any], b: list[Any], c: list[Any]):
    x, y, z = map(named, (a, b, c))
    assert x.merge(y).merge(z) == x.merge(y.merge(z)) == x.merge(y, z) == named([*a, *b, *c])
    assert x.merge(y) == y.merge(x)
    assert x.merge(CategorySummary()) == x


@given(st.lists(names))
def test_every_name_is_counted_once(values: Any):
    summary = named(values)
    assert summary.count == len(values)
    assert sum(n for _, n in summary.counts) + summary.other == summary.n
