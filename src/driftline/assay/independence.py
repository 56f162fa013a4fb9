"""Whether a baseline's rows are independent of each other: by their ranks, and by how much their windows differ."""

import math

import numpy as np

from driftline.assay.observed import Floats
from driftline.assay.statistics import (
    LOCATION,
    NAMES,
    OMNIBUS,
    SPREAD,
)

# How many lags the test of independence looks at, and at which level it doubts.
LAGS = 20
DOUBT = 0.01


def doubt_of(values: Floats, ranks: Floats | None, shuffled: Floats | None, *, ordered: bool) -> str | None:
    """Return why rows are not taken for independent, or None."""
    from scipy.special import chdtrc

    if ranks is None or shuffled is None:
        return "only counts are known, and counts do not show whether rows are independent"
    if not ordered:
        return None
    total = product(ranks, ranks)
    if not total:
        return None
    lags = range(1, min(LAGS, ranks.size - 1) + 1)
    found = [product(ranks[lag:], ranks[:-lag]) / total for lag in lags]
    # Ljung & Box (1978).
    q = ranks.size * (ranks.size + 2) * sum(r * r / (ranks.size - lag) for lag, r in zip(lags, found, strict=True))
    if chdtrc(len(lags), q) < DOUBT:
        return f"rows resemble the rows before them (autocorrelation {found[0]:.2f})"
    for statistic in (LOCATION, SPREAD, OMNIBUS):
        usual = float(np.nanvar(shuffled[:, statistic], ddof=1))
        ratio = float(np.nanvar(values[:, statistic], ddof=1)) / usual if usual > 0 else 0.0
        if chdtrc(len(values) - 1, ratio * (len(values) - 1)) < DOUBT / 3:
            return f"windows differ in {NAMES[statistic]} {math.sqrt(ratio):.1f} times as much as shuffled rows do"
    return None


def centred_ranks(rows: Floats) -> Floats:
    """Return mid-ranks about zero: autocorrelation that no outlier and no skewness hides."""
    present = rows[~np.isnan(rows)]
    order = np.argsort(present)
    ordered = present[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    size = np.diff(np.append(first, present.size))
    ranks = np.empty(present.size)
    ranks[order] = np.repeat(first + (size - present.size) / 2, size)
    return ranks


def product(one: Floats, other: Floats) -> float:
    """Return the inner product without BLAS, whose threads cost more than they save and change the last digits."""
    return float(np.einsum("i,i->", one, other))
