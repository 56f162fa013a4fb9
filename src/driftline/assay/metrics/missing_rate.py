"""Missing rate: how far the share of inferences without a value has changed, from 0 to 1."""

import numpy as np

from driftline.assay.metrics.sample import Floats

# This metric's own two bins: what a value is does not count, only whether it is there.
LABELS = ("has a value", "missing")


def missing_rate_terms(baseline: Floats, window: Floats) -> Floats:
    """Return |w − b| of the missing share, in shares over `LABELS`, shape (2,).

    >>> missing_rate_terms(np.array([0.95, 0.05]), np.array([0.5, 0.5])).round(6).tolist()
    [0.0, 0.45]
    """
    terms = np.abs(window - baseline)
    terms[..., 0] = 0.0
    return terms
