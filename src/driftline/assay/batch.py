"""Scores of many windows against one baseline at once: for previews, backtests and benchmarks.

The same numbers as `driftline.assay.analysis.analyse` gives window by window, without an analysis for each: rows of all
windows are counted together, and summaries on one grid become one table of counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData, Cut
from driftline.assay.bins import Layout
from driftline.assay.metrics import METRICS, terms_of
from driftline.assay.metrics.sample import Sample
from driftline.assay.observed import Counted, Floats
from driftline.errors import InvalidInputError
from driftline.summary.arrays import as_floats, edges_of
from driftline.summary.grid import Grid
from driftline.summary.summary import FINITE_MAX, Summary
from driftline.wire.api import Summarizer

Counts = NDArray[np.int64]


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
    bins = cut.edges.size + 1
    windows = np.repeat(np.arange(size.size), size)
    absent = np.isnan(every)
    missing = np.zeros(size.size, dtype=np.int64)
    if absent.any():
        missing = np.bincount(windows[absent], minlength=size.size).astype(np.int64)
        every, windows = every[~absent], windows[~absent]
    places = np.searchsorted(cut.edges, every, side="left")
    places += windows * bins
    counts = np.bincount(places, minlength=size.size * bins).reshape(size.size, bins)
    least, greatest, mean = _of_rows(every, windows, size.size) if _needs_places(summarizer) else (np.nan,) * 3
    return _batch(summarizer, baseline, cut, counts.astype(np.float64), (size, missing), (least, greatest, mean))


def score_summaries(summarizer: Summarizer, baseline: BaselineData, summaries: Sequence[Summary], grid: Grid) -> Batch:
    """Score windows of counts, all on one grid.

    Raises:
        InvalidInputError: the baseline has no finite value, a summary of another grid, or a metric that is not about
            values.
    """
    _check(summarizer)
    if any(one.grid_id != grid.id for one in summaries):
        raise InvalidInputError(f"not all of these summaries were counted on grid {grid.id}; score each grid's apart")
    cut = baseline.cut(summarizer, grid)
    exact = bool(np.isin(cut.edges, edges_of(grid)).all())
    counts = _table(summaries, grid, cut.edges) if exact else _interpolated(summaries, grid, cut.edges, baseline)
    facts = np.array([(one.count, one.missing) for one in summaries], dtype=np.int64).reshape(-1, 2).T
    least, greatest, mean = _of_summaries(summaries, grid) if _needs_places(summarizer) else (np.nan,) * 3
    return _batch(summarizer, baseline, cut, counts, (facts[0], facts[1]), (least, greatest, mean))


def _table(summaries: Sequence[Summary], grid: Grid, edges: Floats) -> Floats:
    """Count all windows between edges of their grid: each cell falls into one bin."""
    used = [len(one.cells) for one in summaries]
    flat = chain.from_iterable(chain.from_iterable(one.cells for one in summaries))
    pairs = np.fromiter(flat, dtype=np.int64, count=2 * sum(used)).reshape(-1, 2)
    bins = edges.size + 1
    bin_of = np.searchsorted(edges, np.append(edges_of(grid), np.inf), side="left")
    places = np.repeat(np.arange(len(summaries)), used) * bins + bin_of[pairs[:, 0]]
    counts = np.bincount(places, weights=pairs[:, 1], minlength=len(summaries) * bins)
    return counts.astype(np.float64).reshape(-1, bins)


def _interpolated(summaries: Sequence[Summary], grid: Grid, edges: Floats, baseline: BaselineData) -> Floats:
    """Count all windows between edges that cut cells, which a baseline of counts on another grid may ask for."""
    counts = np.zeros((len(summaries), edges.size + 1))
    for i, one in enumerate(summaries):
        upto = Counted(one, grid, float32=baseline.float32).upto(edges)
        counts[i] = np.diff(upto, prepend=0.0, append=float(one.n))
    return counts


def _check(summarizer: Summarizer) -> None:
    if summarizer.metric == "missing_rate":
        raise InvalidInputError("the missing rate needs no bins and no batch: it is missing / count of each window")


def _needs_places(summarizer: Summarizer) -> bool:
    return METRICS[summarizer.metric].asks == "places"


def _of_rows(values: Floats, windows: Counts, size: int) -> tuple[Floats, Floats, Floats]:
    finite = np.abs(values) < FINITE_MAX
    if not finite.all():
        values, windows = values[finite], windows[finite]
    n = np.bincount(windows, minlength=size)
    there = n > 0
    starts = (np.cumsum(n) - n)[there]
    ends = [np.full(size, np.nan) for _ in range(2)]
    for end, reduce in zip(ends, (np.minimum.reduceat, np.maximum.reduceat), strict=True):
        end[there] = reduce(values, starts) if values.size else np.nan
    totals = np.bincount(windows, weights=values, minlength=size)
    return ends[0], ends[1], np.divide(totals, n, out=np.full(size, np.nan), where=there)


def _of_summaries(summaries: Sequence[Summary], grid: Grid) -> tuple[Floats, Floats, Floats]:
    facts = np.array(
        [(one.min, one.max, one.sum, one.finite) if one.min is not None else (np.nan,) * 4 for one in summaries],
        dtype=np.float64,
    ).reshape(-1, 4)
    return facts[:, 0], facts[:, 1], grid.centre + facts[:, 2] / facts[:, 3]


def _batch(
    summarizer: Summarizer,
    baseline: BaselineData,
    cut: Cut,
    counts: Floats,
    sizes: tuple[Counts, Counts],
    places: tuple[Floats | float, Floats | float, Floats | float],
) -> Batch:
    layout = baseline.layout(summarizer)
    n = counts.sum(axis=1)
    shares = np.divide(counts, n[:, None], out=np.zeros_like(counts), where=n[:, None] > 0)
    moments = baseline.moments if _needs_places(summarizer) else None
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
