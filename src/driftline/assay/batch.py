"""Many windows at once: for previews, backtests and fleets.

The same scores as `driftline.assay.analysis.analyse` gives window by window, and the same statistics as
`driftline.assay.statistics.Yardstick.measure`, without an object for each: rows of all windows are counted together,
and summaries on one grid become one table of counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import cast

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData, Cut
from driftline.assay.bins import Layout
from driftline.assay.metrics import METRICS, terms_of
from driftline.assay.metrics.sample import Sample
from driftline.assay.observed import Counted, Floats, Part, in_bins
from driftline.assay.statistics import (
    CELLS,
    LOCATION,
    MISSING,
    NAMES,
    OMNIBUS,
    OUTSIDE,
    SPREAD,
    Scale,
    WindowStatistics,
    Yardstick,
    located,
    normal_scores,
    omnibus,
    scored,
    stabilised,
)
from driftline.errors import InvalidInputError
from driftline.summary.arrays import as_floats, edges_of
from driftline.summary.grid import Grid
from driftline.summary.summary import FINITE_MAX
from driftline.summary.table import Table
from driftline.wire.api import Summarizer

Counts = NDArray[np.int64]

# The greatest value that is not yet infinite, as a device counts.
_FINITE = float(np.nextafter(FINITE_MAX, 0))
# So many windows are measured in one go.
_TOGETHER = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Answers, one entry a window, in order.

    `scores` is NaN where there was nothing to score; `shares` and `contributions` have shape (windows, bins),
    `baseline` (bins,); `p_values` is None where the metric has none. `count` is all inferences, missing included.
    """

    layout: Layout
    scores: Floats
    shares: Floats
    contributions: Floats
    baseline: Floats
    count: Counts
    missing: Counts
    p_values: Floats | None
    moved: float


def score_rows(summarizer: Summarizer, baseline: BaselineData, values: Floats, sizes: Sequence[int] | Counts) -> Batch:
    """Score windows of rows: `values` of all windows one after the other, and how many each has; NaN is missing.

    >>> made = score_rows(Summarizer(), BaselineData.of_values(range(100)), np.array([1.0, 50.0, 99.0]), [2, 0, 1])
    >>> made.scores.round(3).tolist()
    [2.708, nan, 4.165]

    Raises:
        InvalidInputError: the baseline has no finite value, sizes that are not those of the values, or a metric that
            is not about values.
    """
    _check(summarizer)
    size = np.asarray(sizes, dtype=np.int64)
    every = as_floats(values, float32=baseline.float32)
    if (size < 0).any() or int(size.sum()) != every.size:
        raise InvalidInputError(f"the windows' sizes add up to {int(size.sum())}, but there are {every.size} values")
    cut = baseline.cut(summarizer, None)
    # Looking up edges in sorted values takes half the time of looking up every value, and NaN sorts behind infinity.
    asked = np.concatenate((cut.edges, [-FINITE_MAX, _FINITE, np.inf]))
    upto = np.zeros((size.size, asked.size))
    places = np.full((3, size.size), np.nan)
    needed = METRICS[summarizer.metric].asks == "places"
    ends = np.cumsum(size)
    for i, (start, end) in enumerate(zip((ends - size).tolist(), ends.tolist(), strict=True)):
        window = np.sort(every[start:end])
        upto[i] = found = window.searchsorted(asked, side="right")
        if needed and found[-2] > found[-3]:
            finite = window[found[-3] : found[-2]]
            places[:, i] = finite[0], finite[-1], finite.mean()
    n = upto[:, -1]
    counts = np.diff(upto[:, :-3], axis=1, prepend=0.0, append=n[:, None])
    return _batch(summarizer, baseline, cut, counts, (size, size - n.astype(np.int64)), places)


def score_summaries(summarizer: Summarizer, baseline: BaselineData, summaries: Table, grid: Grid) -> Batch:
    """Score windows of counts, all on one grid.

    Raises:
        InvalidInputError: the baseline has no finite value, a summary of another grid, or a metric that is not about
            values.
    """
    _check(summarizer)
    _check_grid(summaries, grid)
    cut = baseline.cut(summarizer, grid)
    exact = bool(np.isin(cut.edges, edges_of(grid)).all())
    counts = _table(summaries, grid, cut.edges) if exact else _interpolated(summaries, grid, cut.edges, baseline)
    places = _places(summaries, grid) if METRICS[summarizer.metric].asks == "places" else np.full((3, 1), np.nan)
    return _batch(summarizer, baseline, cut, counts, (summaries.count, summaries.missing), places)


def measure_summaries(yardsticks: Sequence[Yardstick], summaries: Table, grid: Grid) -> list[WindowStatistics]:
    """Measure windows of counts, all on one grid, each by its own yardstick: what evidence is made of.

    Windows that say nothing unusual are measured together. One by one go those without a value, those with values
    outside their yardstick's bounds, and those whose baseline is cut elsewhere than at edges of the grid, which takes
    thirty times as long.

    >>> from driftline.summary.summary import Summary
    >>> baseline, grid = BaselineData.of_values(np.arange(100.0)), Grid((24.0, 49.0, 74.0))
    >>> window = Table.of([Summary(grid.id, 4, 0, ((0, 2), (3, 2)), 1.0, 99.0, 4.0, 9604.0)])
    >>> [made] = measure_summaries([Yardstick(baseline, 4, "identity", 0.0, 99.0, 10.0, 49.5)], window, grid)
    >>> made.values[0]
    5.0

    Raises:
        InvalidInputError: a summary of another grid.
    """
    _check_grid(summaries, grid)
    measured: list[tuple[float, ...] | None] = [None] * len(summaries)
    distinct = list({id(one): one for one in yardsticks}.values())
    at = {id(one): i for i, one in enumerate(distinct)}
    of = np.fromiter((at[id(one)] for one in yardsticks), np.int64, len(yardsticks))
    for scale, every in _alike(distinct, of, summaries, grid).items():
        # The arrays of so many windows stay in the processor's cache.
        for start in range(0, len(every), _TOGETHER):
            some = every[start : start + _TOGETHER]
            exact, values = _together(scale[0], distinct, of[some], summaries.some(some), grid)
            for i, made in compress(zip(some.tolist(), map(tuple, values.tolist()), strict=True), exact):
                measured[i] = made
    counts, missing = summaries.count.tolist(), summaries.missing.tolist()
    return [
        yardsticks[i].measure([Part(summary=summaries[i], grid=grid)])
        if made is None
        else WindowStatistics(counts[i], missing[i], made)
        for i, made in enumerate(measured)
    ]


def _alike(distinct: Sequence[Yardstick], of: Counts, summaries: Table, grid: Grid) -> dict[tuple[Scale, int], Counts]:
    """Return which windows lie within their bounds, by their scale and number of bins."""
    kinds: list[tuple[Scale, int]] = [(one.scale, one.baseline.cut(CELLS, grid).edges.size) for one in distinct]
    low, high = (np.array([getattr(one, name) for one in distinct], np.float64) for name in ("low", "high"))
    inside = (summaries.below == 0) & (summaries.above == 0)
    # Where there is no finite value, both are NaN and not inside anything.
    inside &= (low[of] <= summaries.min) & (summaries.max <= high[of])
    found: dict[tuple[Scale, int], Counts] = {}
    for kind in dict.fromkeys(kinds):
        is_kind = np.array([one == kind for one in kinds])
        found[kind] = np.flatnonzero(inside & is_kind[of])
    return found


def _together(
    scale: Scale, yardsticks: Sequence[Yardstick], of: Counts, summaries: Table, grid: Grid
) -> tuple[list[bool], Floats]:
    """Return whether each window can be cut at edges of the grid, and the statistics of those that can.

    `of` says whose yardstick each window's is.
    """
    used, of = np.unique(of, return_inverse=True)
    distinct = [yardsticks[i] for i in used.tolist()]
    cuts = [one.baseline.cut(CELLS, grid) for one in distinct]
    edges, shares = np.array([cut.edges for cut in cuts]), np.array([cut.shares for cut in cuts])
    facts = np.array([(one.n, one.baseline.n, one.unit) for one in distinct], dtype=np.float64)
    first, second = normal_scores(shares, facts[:, 1])
    cells = np.searchsorted(edges_of(grid), edges)
    exact = (np.append(edges_of(grid), np.inf)[cells] == edges).all(axis=1)
    rows, baseline_rows, unit = facts[of].T
    counts = _between(summaries, cells[of], grid)
    mean = grid.centre + summaries.sum / summaries.n
    values = np.empty((len(summaries), len(NAMES)))
    score, values[:, SPREAD] = scored(counts, first[of], second[of], rows)
    values[:, LOCATION] = score if scale == "ranks" else located(scale, mean, unit, rows)
    values[:, OMNIBUS] = omnibus(counts, shares[of] * baseline_rows[:, None], rows, baseline_rows)
    values[:, MISSING] = stabilised(summaries.missing / summaries.count)
    values[:, OUTSIDE] = 0.0
    return cast("list[bool]", exact[of].tolist()), values


def _between(summaries: Table, cells: Counts, grid: Grid) -> Floats:
    """Count each window between edges of its own, given as the cells they end: (windows, edges) → (…, edges + 1)."""
    # One ascending list of all windows' cells: each window's edges are looked up in its own stretch of it.
    stretch = np.arange(len(summaries)) * grid.cells
    every = np.repeat(stretch, summaries.sizes) + summaries.cells
    found = np.searchsorted(every, stretch[:, None] + cells, side="right")
    upto = np.concatenate(([0], np.cumsum(summaries.counts)))
    before, all_of = upto[summaries.ends[:-1], None], upto[summaries.ends[1:], None]
    heights = np.concatenate((before, upto[found], all_of), axis=1)
    return np.diff(heights).astype(np.float64)


def _table(summaries: Table, grid: Grid, edges: Floats) -> Floats:
    """Count all windows between edges of their grid: each cell falls into one bin."""
    bins = edges.size + 1
    bin_of = np.searchsorted(edges, np.append(edges_of(grid), np.inf), side="left")
    at = np.repeat(np.arange(len(summaries)) * bins, summaries.sizes) + bin_of[summaries.cells]
    return np.bincount(at, summaries.counts, len(summaries) * bins).reshape(-1, bins).astype(np.float64, copy=False)


def _interpolated(summaries: Table, grid: Grid, edges: Floats, baseline: BaselineData) -> Floats:
    """Count all windows between edges that cut cells, which a baseline of counts on another grid may ask for."""
    counts = np.zeros((len(summaries), edges.size + 1))
    for i, one in enumerate(summaries):
        counts[i] = in_bins(Counted(one, grid, float32=baseline.float32).upto(edges), one.n)
    return counts


def _check_grid(summaries: Table, grid: Grid) -> None:
    if not {*summaries.grid_ids} <= {grid.id}:
        raise InvalidInputError(f"not all of these summaries were counted on grid {grid.id}; take each grid's apart")


def _check(summarizer: Summarizer) -> None:
    if summarizer.metric == "missing_rate":
        raise InvalidInputError("the missing rate needs no bins and no batch: it is missing / count of each window")


def _places(summaries: Table, grid: Grid) -> Floats:
    """Return least and greatest finite value and mean, shape (3, windows)."""
    finite = summaries.finite
    offset = np.divide(summaries.sum, finite, out=np.full(len(summaries), np.nan), where=finite > 0)
    return np.stack((summaries.min, summaries.max, grid.centre + offset))


def _batch(
    summarizer: Summarizer,
    baseline: BaselineData,
    cut: Cut,
    counts: Floats,
    sizes: tuple[Counts, Counts],
    places: Floats,
) -> Batch:
    layout = baseline.layout(summarizer)
    n = counts.sum(axis=1)
    shares = np.divide(counts, n[:, None], out=np.zeros_like(counts), where=n[:, None] > 0)
    moments = baseline.moments if METRICS[summarizer.metric].asks == "places" else None
    before = Sample(cut.shares, float(baseline.n))
    if moments is not None:
        known = (np.nan if one is None else one for one in (moments.min, moments.max, moments.mean, moments.std))
        before = Sample(cut.shares, float(baseline.n), *known)
    now = Sample(shares, np.maximum(n, 1), *places)
    weights = layout.weights(summarizer.bin_weights)
    scores, terms, p_values = terms_of(summarizer.metric, before, now, summarizer.aggregation, weights, cut.edges)
    scores = np.where(n > 0, scores, np.nan)
    if p_values is not None:
        p_values = np.where(n > 0, p_values, np.nan)
    return Batch(layout, scores, shares, terms, cut.shares, *sizes, p_values, cut.moved)
