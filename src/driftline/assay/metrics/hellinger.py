"""Hellinger distance: how far the roots of the shares lie apart, from 0 to 1."""

import numpy as np

from driftline.assay.metrics.sample import Floats, rooted


def hellinger_terms(baseline: Floats, window: Floats) -> Floats:
    """Return what each bin gives to √(½ Σ (√w − √b)²), shape (bins,).

    >>> hellinger_terms(np.array([1.0, 0.0]), np.array([0.0, 1.0])).sum()
    np.float64(1.0)
    """
    return rooted((np.sqrt(window) - np.sqrt(baseline)) ** 2 / 2)
