"""Quantile shift: how far the quantile that moved most has moved, in the baseline's standard deviations."""

import numpy as np
from numpy.typing import NDArray

from driftline.assay.metrics.sample import Floats, Numbers, Sample, column, in_sd

# Middle, shoulders and tails; beyond 10 % a window of usual size has too few values to place a quantile.
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
# Shares are sums of rounded numbers: half of the values must reach one half.
_ROUNDING = 1e-9


def quantile_shift_terms(baseline: Sample, window: Sample, edges: Floats) -> Floats:
    """Return each shift at the bin that holds its quantile of the baseline, shape (bins,); the score is the largest.

    Quantiles are interpolated between bin edges and least and greatest value, so each is known to within its bin.

    >>> edges = np.array([0.0, 1.0, 2.0])
    >>> before = Sample(np.array([0, 0.5, 0.5, 0]), 100, least=0, greatest=2, std=0.5)
    >>> quantile_shift_terms(before, Sample(np.array([0, 0, 1.0, 0]), 10, least=1, greatest=2), edges).round(6).tolist()
    [0.0, 1.8, 0.5, 0.0]
    """
    before, bins = _quantiles(baseline, edges)
    now, _ = _quantiles(window, edges)
    shifts = np.abs(in_sd(now - before, _wide(baseline.std), _wide(baseline.n)))
    terms = np.zeros((*shifts.shape[:-1], baseline.shares.shape[-1]))
    bins = np.broadcast_to(bins, shifts.shape)
    for i in range(len(QUANTILES)):
        there = bins[..., i : i + 1]
        largest = np.maximum(np.take_along_axis(terms, there, axis=-1), shifts[..., i : i + 1])
        np.put_along_axis(terms, there, largest, axis=-1)
    return terms


def _wide(number: Numbers) -> Numbers:
    return number if np.ndim(number) == 0 else column(number)


def _quantiles(sample: Sample, edges: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the quantiles and the bin that holds each, shape (…, quantiles)."""
    low, high = column(sample.least), column(sample.greatest)
    inner = np.clip(edges, low, high)
    low, high = (np.broadcast_to(end, (*inner.shape[:-1], 1)) for end in (low, high))
    shape = (*np.broadcast_shapes(inner.shape[:-1], sample.shares.shape[:-1]), sample.shares.shape[-1] + 1)
    knots = np.broadcast_to(np.concatenate((low, inner, high), axis=-1), shape)
    upto = np.cumsum(sample.shares, axis=-1)
    heights = np.broadcast_to(np.concatenate((np.zeros_like(upto[..., :1]), upto), axis=-1), shape)
    wanted = np.array(QUANTILES)
    # The first bin at whose right edge the quantile is reached.
    bins = (heights[..., 1:, None] < wanted - _ROUNDING).sum(axis=-2)
    bins = np.minimum(bins, shape[-1] - 2)
    start, end = (np.take_along_axis(heights, bins + step, axis=-1) for step in (0, 1))
    left, right = (np.take_along_axis(knots, bins + step, axis=-1) for step in (0, 1))
    part = np.divide(wanted - start, end - start, out=np.ones_like(start), where=end > start)
    return left + np.clip(part, 0.0, 1.0) * (right - left), bins
