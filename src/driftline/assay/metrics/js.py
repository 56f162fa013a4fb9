"""Jensen–Shannon distance, base 2: the root of the mean divergence from the half-way shares, from 0 to 1."""

import numpy as np

from driftline.assay.metrics.sample import Floats, rooted


def js_terms(baseline: Floats, window: Floats) -> Floats:
    """Return what each bin gives to the distance, shape (bins,).

    It is the distance (a metric, as SciPy's), not its square, the divergence in bits. An empty bin needs no rule: the
    half-way share is zero only where both are.

    >>> js_terms(np.array([1.0, 0.0]), np.array([0.0, 1.0])).sum()
    np.float64(1.0)

    Source: Endres & Schindelin (2003), A new metric for probability distributions.
    """
    middle = (baseline + window) / 2
    divergence = (_entropy(baseline, middle) + _entropy(window, middle)) / 2
    return rooted(np.maximum(divergence, 0.0))


def _entropy(share: Floats, middle: Floats) -> Floats:
    there = share > 0
    return share * np.log2(np.where(there, share, 1.0) / np.where(there, middle, 1.0))
