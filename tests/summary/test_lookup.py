"""Many values are counted as each alone would be; `bisect_left` on the grid's edges is the law."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.summary import lookup
from driftline.summary.arrays import edges_of, of_values
from driftline.summary.grid import UNIVERSAL, Grid, just_below, quantile_grid
from driftline.summary.summary import Tally

R = np.random.default_rng(5)
edge = st.floats(allow_nan=False, allow_infinity=False)
# Values next to an edge, and the edge itself, are where counting goes wrong.
tricky = st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.0, -1.0, 1e308, -1e308, np.inf, -np.inf, np.pi])


def one_by_one(values: np.ndarray, grid: Grid) -> list[int]:
    found = Counter(grid.cell(value) for value in values.tolist())
    return [found[cell] for cell in range(grid.cells)]


@given(st.sets(edge, min_size=1, max_size=300), st.lists(st.one_of(edge, tricky), max_size=60))
def test_a_table_counts_as_a_bisection_does(edges: set[float], values: list[float]):
    grid = Grid(tuple(sorted(edges)))
    beside = [math.nextafter(end, side) for end in edges for side in (-np.inf, np.inf)]
    every = np.array([*values, *edges, *beside])
    assert lookup.counts(every, edges_of(grid)).tolist() == one_by_one(every, grid)


def test_edges_closer_than_any_bucket_are_told_apart():
    # A thousand neighbours of 1 and one edge far away: all of them lie in one bucket of the table.
    crowd = np.nextafter(1.0, 2.0) - 1.0
    grid = Grid((*(1 + crowd * np.arange(1000)).tolist(), 1e300))
    values = 1 + crowd * R.integers(-5, 1005, 20_000)
    assert lookup.counts(values, edges_of(grid)).tolist() == one_by_one(values, grid)


NORMAL = R.normal(size=3 * lookup.BLOCK + 17)
FIELDS = {
    "normal": NORMAL, "lognormal": np.exp(3 * NORMAL), "far": 1e9 + NORMAL, "counts": R.poisson(2, 30_000) * 1.0,
    "constant": np.full(30_000, 7.0), "heavy": np.append(1 / R.random(30_000) ** 4, [np.inf, -np.inf, 1e250]),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("float32", [False, True])
def test_a_long_array_gives_the_summary_of_its_values(name: str, float32: bool):
    values = np.append(FIELDS[name], np.nan)
    for grid in (quantile_grid(values[:1000].tolist(), float32=float32), UNIVERSAL, Grid((just_below(7.0), 7.0))):
        tally = Tally(grid, float32=float32)
        for value in values.tolist():
            tally.add(value)
        single, at_once = tally.summary(), of_values(values, grid, float32=float32)
        assert (at_once.count, at_once.missing, at_once.cells) == (single.count, single.missing, single.cells)
        assert (at_once.min, at_once.max, at_once.infinite) == (single.min, single.max, single.infinite)
        size = np.abs(values[np.isfinite(values)] - grid.centre).sum()
        assert at_once.sum == pytest.approx(single.sum, rel=1e-9, abs=1e-9 * size)
        assert at_once.sum_squares == pytest.approx(single.sum_squares, rel=1e-9)


def test_an_array_of_float32_needs_no_rounding():
    values = NORMAL.astype(np.float32)
    grid = quantile_grid(values[:1000].tolist(), float32=True)
    assert of_values(values, grid, float32=True) == of_values(values.astype(np.float64), grid, float32=True)
