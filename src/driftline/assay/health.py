"""What is wrong with a baseline, in words: it is short, it has a trend, it jumps, its windows resemble each other."""

import math

import numpy as np

from driftline.assay.decay import UNLIKELY
from driftline.assay.observed import Floats
from driftline.assay.own_windows import (
    WINDOWS_ENOUGH,
    WINDOWS_MIN,
    WINDOWS_TO_MEASURE,
)
from driftline.assay.statistics import (
    LOCATION,
    MISSING,
    NAMES,
    SPREAD,
)

# Where windows resemble their predecessors this much, score and spread come in bursts whose size a few windows cannot
# tell.
BURSTS_OMNIBUS, BURSTS_SPREAD = 0.2, 0.5


def health_of(values: Floats, rho: Floats, persistence: float) -> list[str]:
    """Say in plain sentences what is wrong with a baseline whose windows have these statistics.

    `values` has shape (windows, statistics); `rho`, shape (statistics,), is taken off before a trend or a jump is
    sought; `persistence` is how much a window resembles the one before it.
    """
    from scipy.special import stdtr

    notes: list[str] = []
    count = len(values)
    if count < WINDOWS_TO_MEASURE:
        notes.append(
            f"the baseline is short: {count} windows; autocorrelation between windows shows from "
            f"{WINDOWS_TO_MEASURE} on, and {WINDOWS_ENOUGH} are good"
        )
    for statistic in (LOCATION, SPREAD, MISSING):
        residual = values[1:, statistic] - rho[statistic] * values[:-1, statistic]
        residual = residual[~np.isnan(residual)]
        size = residual.size
        if size < WINDOWS_MIN or residual.std() <= 1e-12 * (1 + np.abs(residual).max()):
            continue
        time = np.arange(size) - (size - 1) / 2
        r = float(np.clip(np.corrcoef(time, residual)[0, 1], -0.999999, 0.999999))
        p = 2 * float(stdtr(size - 2, -abs(r) * math.sqrt((size - 2) / (1 - r * r))))
        jump, chance = _jump(residual)
        if min(p, chance) >= UNLIKELY:
            continue
        if p <= chance:
            way = "rises" if r > 0 else "falls"
            notes.append(
                f"the baseline has a trend: its windows' {NAMES[statistic]} {way} from first to last; "
                "take it from a time when nothing changes"
            )
        else:
            notes.append(
                f"the baseline drifts inside: from window {jump + 1} of {count} on its {NAMES[statistic]} is another; "
                "take the part after it, or before it"
            )
    if persistence >= BURSTS_SPREAD:
        notes.append(
            f"a window resembles the one before it (correlation {persistence:.2f}); wider windows find drift sooner"
        )
    return notes


def _jump(residual: Floats) -> tuple[int, float]:
    """Return after how many windows their mean jumps most, and how likely such a jump is by chance at any place."""
    from scipy.special import stdtr

    size = residual.size
    at = np.arange(2, size - 1)
    upto = np.cumsum(residual)
    first, second = upto[at - 1] / at, (upto[-1] - upto[at - 1]) / (size - at)
    squares = float(residual @ residual) - at * first**2 - (size - at) * second**2
    sd = np.sqrt(np.maximum(squares, 1e-300) / (size - 2))
    t = np.abs(first - second) / (sd * np.sqrt(1 / at + 1 / (size - at)))
    best = int(t.argmax())
    # The residuals begin with the second window.
    return int(at[best]) + 1, 2 * float(stdtr(size - 2, -t[best])) * at.size
