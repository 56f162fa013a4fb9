"""Half the sum of differences: the share of a window's values that would have to move to match its baseline."""

import numpy as np
from numpy.typing import NDArray

from driftline.wire.api import Aggregation

Floats = NDArray[np.float64]


def sumdiff_terms(baseline: Floats, window: Floats, _aggregation: Aggregation = "density") -> Floats:
    """Return ½ |w − b| a bin, shape (bins,); their sum is the total variation distance.

    >>> sumdiff_terms(np.array([0.5, 0.5]), np.array([0.75, 0.25])).sum()
    np.float64(0.25)
    """
    return np.abs(window - baseline) / 2
