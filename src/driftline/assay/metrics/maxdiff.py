"""The largest difference of any bin; of running sums it is a binned Kolmogorov–Smirnov distance."""

import numpy as np
from numpy.typing import NDArray

from driftline.wire.api import Aggregation

Floats = NDArray[np.float64]


def maxdiff_terms(baseline: Floats, window: Floats, _aggregation: Aggregation = "density") -> Floats:
    """Return |w − b| a bin, shape (bins,); the score is the largest.

    >>> maxdiff_terms(np.array([0.5, 0.5]), np.array([0.75, 0.25])).max()
    np.float64(0.25)
    """
    return np.abs(window - baseline)
