"""New categories: the share of a window's values that are in categories which its baseline never had."""

import numpy as np

from driftline.assay.metrics.sample import Floats


def new_categories_terms(_baseline: Floats, window: Floats) -> Floats:
    """Return the share of the last bin, which holds what is new, and 0 for the others; shape (bins,).

    >>> new_categories_terms(np.array([0.75, 0.25, 0.0]), np.array([0.5, 0.25, 0.25])).tolist()
    [0.0, 0.0, 0.25]
    """
    terms = np.zeros_like(window)
    terms[..., -1] = window[..., -1]
    return terms
