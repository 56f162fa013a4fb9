"""Population stability index: Σ (w − b) ln(w / b), how far a window has moved from its baseline, in nats."""

import numpy as np
from numpy.typing import NDArray

from driftline.wire.api import Aggregation

Floats = NDArray[np.float64]

# With ln 0 one empty bin would decide everything; the reference platform's published scores are those of this share.
EMPTY_SHARE = 0.005


def psi_terms(baseline: Floats, window: Floats, aggregation: Aggregation = "density") -> Floats:
    """Return one term a bin; shape (bins,) each.

    A share of exactly zero counts as `EMPTY_SHARE`; where both are zero the term is 0; small shares stay as they are
    and nothing is normalised again. Of running sums (`cumulative`) the term is |W − B|, not a PSI, as on the
    reference platform.

    >>> psi_terms(np.array([0.5, 0.5]), np.array([0.8, 0.2])).sum().round(6)
    np.float64(0.415888)

    Source: Yurdakul & Naranjo (2020) for the index; the rules for zero and for sums reproduce published outputs.
    """
    if aggregation == "cumulative":
        return np.abs(window - baseline)
    b = np.where(baseline == 0, EMPTY_SHARE, baseline)
    w = np.where(window == 0, EMPTY_SHARE, window)
    return (w - b) * np.log(w / b)
