"""The statistics of a baseline's own windows: each against all others, and those of rows dealt out anew.

A window is compared with what is left of the baseline without it and its neighbours. Windows of its rows in shuffled
order say what windows of independent rows look like.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData
from driftline.assay.observed import Floats, Observed
from driftline.assay.statistics import NAMES, CategoryYardstick, Yardstick

# Below this many windows nothing is promised.
WINDOWS_MIN = 5
# From here on autocorrelation can be measured between windows, and neighbours can be left out of what a window is
# compared with.
WINDOWS_TO_MEASURE = 10
# From here on gross changes are found in two or three windows and small ones at nearly the best speed.
WINDOWS_ENOUGH = 20
# So many windows of shuffled rows are scored at least.
SHUFFLED = 100
# A window that helped to choose the edges it is counted between looks more like the baseline than the next one will:
# of scenes that repeat, windows' spread varied half as much. Below so many windows the edges are those of the others,
# left out in so many blocks; beyond, a window's own part in them is small.
ALONE_FROM, FOLDS = 50, 10


def own_statistics(yardstick: Yardstick | CategoryYardstick, read: Sequence[Any], at: NDArray[np.int64]) -> Floats:
    """Return the statistics of some of a baseline's own windows, (windows, 5): each against all but its neighbourhood.

    `read` are all windows in time order, as the baseline reads them.
    """
    near = apart(len(read))
    if isinstance(yardstick, Yardstick) and len(read) < ALONE_FROM:
        found = np.full((len(read), len(NAMES)), np.nan)
        for first, end in folds(len(read)):
            rest = [piece for one in (*read[: max(0, first - near)], *read[end + near :]) for piece in one.pieces]
            other = replace(yardstick, baseline=BaselineData(Observed(rest), yardstick.baseline.field_type))
            for i in range(first, end):
                found[i] = other.measured(read[i]).values
        return found[at]
    return np.array([yardstick.measured(read[i], read[max(0, i - near) : i + near + 1]).values for i in at.tolist()])


def own_statistics_of_rows(yardstick: Yardstick, windows: Floats) -> Floats:
    """Do `own_statistics` for all windows of raw values at once, shape (windows, rows) → (windows, 5)."""
    count, near = len(windows), apart(len(windows))
    if count >= ALONE_FROM:
        return yardstick.measure_rows(windows, near)
    values = np.empty((count, len(NAMES)))
    for first, end in folds(count):
        rest = np.concatenate((windows[: max(0, first - near)], windows[end + near :])).ravel()
        other = replace(yardstick, baseline=BaselineData.of_values(rest, yardstick.baseline.field_type))
        values[first:end] = other.measure_rows(windows[first:end])
    return values


def folds(count: int) -> list[tuple[int, int]]:
    """Return the windows that are left out together, as [first, end): each alone, or in some blocks of neighbours."""
    ends = np.linspace(0, count, min(count, FOLDS) + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def apart(count: int) -> int:
    """Return how many neighbours on each side are left out of what a window is compared with."""
    return 1 if count >= WINDOWS_TO_MEASURE else 0


def shuffled_windows(yardstick: Yardstick, rows: Floats, draw: np.random.Generator, windows: int) -> Floats:
    """Return the statistics of windows of rows in shuffled order: what independent rows look like.

    They are shuffled so often that a baseline of so many `windows` is dealt out as at least a hundred.
    """
    n = yardstick.n
    count = rows.size // n
    times = -(-SHUFFLED // max(windows, 1))
    return np.concatenate(
        [yardstick.measure_rows(draw.permutation(rows)[: count * n].reshape(count, n), 0) for _ in range(times)]
    )


def known_mean(values: Floats) -> Floats:
    """Return the mean of each statistic over the windows that know it, shape (windows, statistics) → (statistics,)."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
