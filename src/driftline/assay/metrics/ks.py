"""Kolmogorov–Smirnov distance: the largest difference between the shares at or below any bin edge, from 0 to 1."""

import numpy as np

from driftline.assay.metrics.sample import Floats, Sample


def ks_terms(baseline: Floats, window: Floats) -> Floats:
    """Return |W − B| at the right edge of each bin, shape (bins,); the score is the largest.

    Between two edges raw values can differ by no more than the bin holds: the distance on raw values is never below
    this one, and above it by less than the largest share of a bin, of baseline or window.

    >>> ks_terms(np.array([0.25, 0.5, 0.25]), np.array([0.0, 0.5, 0.5])).tolist()
    [0.25, 0.25, 0.0]
    """
    apart = np.abs(np.cumsum(window, axis=-1) - np.cumsum(baseline))
    apart[..., -1] = 0.0  # all of both lies below infinity, whatever rounding says
    return apart


def ks_p_value(distance: Floats, baseline: Sample, window: Sample) -> Floats:
    """Return how often independent rows without drift lie at least so far apart; shape of `distance`.

    The limit law with Stephens's correction for finite n, within 0.02 of SciPy's. Ties, and so bins, make it
    conservative: the true share is no larger.

    Source: Stephens (1970), Use of the Kolmogorov–Smirnov, Cramér–von Mises and related statistics without tables.
    """
    from scipy.special import kolmogorov  # pages that only list scores need no SciPy

    root = np.sqrt(np.asarray(baseline.n * window.n / (baseline.n + window.n)))
    return np.asarray(kolmogorov((root + 0.12 + 0.11 / root) * distance), dtype=np.float64)
