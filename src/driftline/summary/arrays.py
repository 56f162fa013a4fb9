"""Summaries of whole arrays. Needs numpy; equals `driftline.summary.summary.Tally` value by value."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftline.summary.grid import Grid
from driftline.summary.summary import FINITE_MAX, Summary

Floats = NDArray[np.float64]


def of_values(values: ArrayLike, grid: Grid, *, float32: bool = False) -> Summary:
    """Summarise values of any shape; NaN is missing.

    >>> of_values([0.5, 7.0, float("nan")], Grid((0.0, 1.0))).cells
    ((1, 1), (2, 1))
    """
    every = as_floats(values, float32=float32)
    present = every[~np.isnan(every)]
    cells = cell_counts(present, grid)
    finite = present[np.abs(present) < FINITE_MAX]
    distance = finite - grid.centre
    return Summary(
        grid.id,
        every.size,
        every.size - present.size,
        cells,
        float(finite.min()) if finite.size else None,
        float(finite.max()) if finite.size else None,
        float(distance.sum()),
        float(np.dot(distance, distance)),
        (int((present <= -FINITE_MAX).sum()), int((present >= FINITE_MAX).sum())),
    )


def as_floats(values: ArrayLike, *, float32: bool = False) -> Floats:
    """Return the values as a flat float64 array, rounded to float32 where the field is one."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if not float32:
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
    if present.size > edges.size:
        # Looking up the edges in the sorted values is three times as fast as looking up every value.
        upto = np.searchsorted(np.sort(present), edges, side="right")
        counts = np.diff(upto, prepend=0, append=present.size)
        cells = np.flatnonzero(counts)
        return tuple(zip(cells.tolist(), counts[cells].tolist(), strict=True))
    cells, counts = np.unique(np.searchsorted(edges, present, side="left"), return_counts=True)
    return tuple(zip(cells.tolist(), counts.tolist(), strict=True))
