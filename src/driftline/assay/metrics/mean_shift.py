"""Mean shift: how far the mean has moved, in the baseline's standard deviations; of the finite values."""

import numpy as np

from driftline.assay.metrics.sample import Floats, Sample, in_sd


def mean_shift(baseline: Sample, window: Sample) -> Floats:
    """Return (window mean − baseline mean) / baseline sd, with its sign; the score is its size.

    From moments, hence the same from rows and counts on any grid. A baseline without spread: see `in_sd`.

    >>> float(mean_shift(Sample(np.ones(1), 100, mean=5, std=2), Sample(np.ones(1), 50, mean=4)))
    -0.5
    """
    shift = np.asarray(window.mean, dtype=np.float64) - baseline.mean
    return in_sd(shift, baseline.std, baseline.n)


def mean_shift_terms(baseline: Sample, window: Sample) -> Floats:
    """Return which bins gained (or lost) the share that moved the mean, shape (bins,), adding up to the score.

    Moments do not know bins; the score is divided among them as their shares changed, |w − b|.
    """
    changed = np.abs(window.shares - baseline.shares)
    total = changed.sum(axis=-1, keepdims=True)
    bins = changed.shape[-1]
    parts = np.divide(changed, total, out=np.full_like(changed, 1 / bins), where=total > 0)
    return parts * np.abs(mean_shift(baseline, window))[..., None]
