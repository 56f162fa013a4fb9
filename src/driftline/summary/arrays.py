"""Summaries of whole arrays. Needs numpy; equals `driftline.summary.summary.Tally` value by value."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftline.summary import lookup
from driftline.summary.grid import Grid
from driftline.summary.summary import FINITE_MAX, Summary

Floats = NDArray[np.float64]


def of_values(values: ArrayLike, grid: Grid, *, float32: bool = False) -> Summary:
    """Summarise values of any shape; NaN is missing.

    >>> of_values([0.5, 7.0, float("nan")], Grid((0.0, 1.0))).cells
    ((1, 1), (2, 1))
    """
    every = as_floats(values, float32=float32)
    missing = np.isnan(every)
    present = every[~missing] if missing.any() else every
    if not present.size:
        return Summary(grid.id, every.size, every.size, (), None, None, 0.0, 0.0)
    low, high = float(present.min()), float(present.max())
    infinite = (0, 0)
    finite = present
    if low <= -FINITE_MAX or high >= FINITE_MAX:
        finite = present[np.abs(present) < FINITE_MAX]
        infinite = (int((present <= -FINITE_MAX).sum()), int((present >= FINITE_MAX).sum()))
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    cells = cell_counts(present, grid)
    return Summary(
        grid.id, every.size, every.size - present.size, cells, low, high, *_sums(finite, grid.centre), infinite
    )


def _sums(finite: Floats, centre: float) -> tuple[float, float]:
    """Return Σ(x−c) and Σ(x−c)², block by block: distances of a million values would leave the cache twice."""
    total = squares = 0.0
    for at in range(0, finite.size, lookup.BLOCK):
        distance = finite[at : at + lookup.BLOCK] - centre
        total += float(distance.sum())
        squares += float(np.dot(distance, distance))
    return total, squares


def as_floats(values: ArrayLike, *, float32: bool = False) -> Floats:
    """Return the values as a flat float64 array, rounded to float32 where the field is one."""
    given = np.asarray(values)
    array = np.asarray(given, dtype=np.float64).ravel()
    if not float32 or given.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):  # too large for a float32 is infinite, as on the device
        return array.astype(np.float32).astype(np.float64)


def edges_of(grid: Grid) -> Floats:
    """Return the grid's edges as a read-only array; kept for the grids in use."""
    return _edges_of(grid)


@lru_cache(maxsize=256)
def _edges_of(grid: Grid) -> Floats:
    edges = np.array(grid.edges, dtype=np.float64)
    edges.flags.writeable = False
    return edges


def cell_counts(present: Floats, grid: Grid) -> tuple[tuple[int, int], ...]:
    """Count values that are not NaN: (index, count) pairs, ascending, without zeros."""
    edges = edges_of(grid)
    if present.size <= min(edges.size, lookup.WORTH_A_TABLE):
        cells, counts = np.unique(np.searchsorted(edges, present, side="left"), return_counts=True)
        return tuple(zip(cells.tolist(), counts.tolist(), strict=True))
    if present.size <= lookup.WORTH_A_TABLE:
        # Looking up the edges in the sorted values is three times as fast as looking up every value.
        upto = np.searchsorted(np.sort(present), edges, side="right")
        counts = np.diff(upto, prepend=0, append=present.size)
    else:
        counts = lookup.counts(present, edges)
    cells = np.flatnonzero(counts)
    return tuple(zip(cells.tolist(), counts[cells].tolist(), strict=True))
