"""Pearson's χ² of the table (baseline, window) × bins: a test of whether both come from the same shares."""

import numpy as np

from driftline.assay.metrics.sample import Floats, Sample, column


def chi2_terms(baseline: Sample, window: Sample) -> Floats:
    """Return what each bin's column gives to the statistic, shape (bins,); a bin that is empty in both gives 0.

    The baseline is a sample, too, so a short one counts for what it is. There is no continuity correction. Without
    drift the statistic is about the number of bins less one, whatever n is; with drift it grows with n.

    >>> chi2_terms(Sample(np.array([0.5, 0.5]), 20), Sample(np.array([0.9, 0.1]), 20)).sum().round(6)
    np.float64(7.619048)
    """
    n, m = column(window.n), column(baseline.n)
    pooled = (m * baseline.shares + n * window.shares) / (m + n)
    squares = (window.shares - baseline.shares) ** 2 * (m * n / (m + n))
    return np.divide(squares, pooled, out=np.zeros_like(squares), where=pooled > 0)


def chi2_p_value(statistic: Floats, baseline: Sample, window: Sample) -> Floats:
    """Return how often independent rows without drift give at least this statistic; shape of `statistic`.

    Degrees of freedom: bins in use less one; with one bin there is nothing to test and it is 1. Below about 5 values a
    bin it is approximate.
    """
    from scipy.special import chdtrc  # pages that only list scores need no SciPy

    freedom = ((baseline.shares > 0) | (window.shares > 0)).sum(axis=-1) - 1
    return np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), statistic), 1.0)
