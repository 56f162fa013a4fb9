"""Total variation: the share of a window's values that would have to change bin, or category, to match its baseline."""

import numpy as np

from driftline.assay.metrics.sample import Floats


def tv_terms(baseline: Floats, window: Floats) -> Floats:
    """Return ½ |w − b| a bin, shape (bins,); it is SumDiff by the name it has among categories.

    >>> tv_terms(np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.25, 0.25])).sum()
    np.float64(0.25)
    """
    return np.abs(window - baseline) / 2
