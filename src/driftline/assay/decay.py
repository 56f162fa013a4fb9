"""How slowly a baseline's rows and windows forget: the time in which correlation decays, and what a window lets expect.

A short baseline knows that time badly. It is taken for as long as it may be, but one time in twenty, and what is
uncertain about it makes the evidence wary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.assay.independence import product
from driftline.assay.observed import Floats
from driftline.assay.own_windows import (
    WINDOWS_TO_MEASURE,
    known_mean,
)
from driftline.assay.statistics import (
    LOCATION,
    NAMES,
    CategoryYardstick,
    Yardstick,
)

# Nothing is promised below so many times the time in which correlation decays by e, the more the less of a window is
# new (see `_spans_needed`): fewer tell neither how far a field wanders nor how slowly. More would refuse too many that
# hold.
# Of AR(1) baselines of 4, 10, 12, 20, 30, 40 and 60 decay times it accepts 2, 4, 16, 8, 54, 94 and 89 %; in 200 fresh
# runs of each at most 3.5 % broke the promise.
SPANS_MIN = 8.0
# How many standard errors slower than measured the rows' correlation is thought to decay: one in twenty is slower.
CAUTION = 1.645
# How many standard errors more than measured a window is thought to resemble the one before it, where rows say so.
RESEMBLANCE_ERRORS = 2.0
# More than this is never taken off: next to nothing of a window would be left.
RHO_MAX = 0.95
# Correlation does not decay exponentially; taking it so is wrong by about this much.
MODEL_ERROR = 0.1
# So many means of rows tell how much consecutive ones resemble each other.
MEANS_MIN = 20
# Rows must be at least this alike for their persistence to be read from it.
ALIKE = 0.3
# What is less likely than this is not laid to chance.
UNLIKELY = 0.001
# Rows whose correlation decays exponentially over _TIMES windows: the variance of a window's mean in parts of a row's,
# and the correlation of one window's mean with the next.
_TIMES = np.geomspace(1e-4, 30.0, 400)
_DECAY = -np.expm1(-1 / _TIMES)
_VARIANCES = 2 * _TIMES - 2 * _TIMES**2 * _DECAY
_CORRELATIONS = np.minimum(_TIMES**2 * _DECAY**2 / _VARIANCES, 1.0)


@dataclass(frozen=True, slots=True)
class Decay:
    """How slowly correlation decays: by e in about `time` windows, at most in `longest`; `spans` of these in all.

    `few` is how much a small number of windows adds to the error of spans (see `_spans_error`).
    """

    time: float
    longest: float
    spans: float
    few: float

    @property
    def resemblance(self) -> tuple[float, float]:
        """How much consecutive windows should resemble each other if correlation decays exponentially, and at most."""
        low, high = np.interp([self.time, self.longest], _TIMES, _CORRELATIONS).tolist()
        return low, high

    @property
    def doubt(self) -> float:
        """How many times slower than measured it may be."""
        return self.longest / self.time if self.time else 1.0

    @property
    def enough(self) -> bool:
        """Whether that carries a promise."""
        return self.spans >= _spans_needed(self.resemblance[1])

    @property
    def needed(self) -> int:
        """How many such windows would."""
        spans = _spans_needed(self.resemblance[0])
        return math.ceil((spans + _spans_error(spans, self.few)) * self.time)


NO_DECAY = Decay(0.0, 0.0, math.inf, 0.0)


def _spans_needed(resemblance: float) -> float:
    # Of a window's variance 1 − ρ² is not that of the window before it.
    return SPANS_MIN / max(1 - resemblance * resemblance, 1e-3)


def decay_of(
    yardstick: Yardstick | CategoryYardstick, values: Floats, ranks: Floats | None, between: float = 0.0
) -> Decay:
    """Return how slowly correlation decays, as rows show it, or windows where they show it to be slower.

    A short baseline tells this worst where it matters most. As its mean is estimated along with it, `spans` decay times
    look like four more, give or take √(2 spans); where windows of counts must tell, √(2 / windows) of them besides.
    Believed is the least number that looks so in one case of twenty. What varies `between` windows by season was taken
    off them, and is taken off the rows.

    Source: Marriott & Pope (1954) and Kendall (1954) for the bias, Bartlett (1946) for the error, in units of spans.
    """
    count = len(values)
    found, error = _found(values[:, LOCATION], yardstick.floors[LOCATION]), 1 / math.sqrt(count)
    slow = float(np.interp(found + RESEMBLANCE_ERRORS * error, _CORRELATIONS, _TIMES))
    share = _share(yardstick, values, between)
    repeats = ranks is not None and share * yardstick.n < 1
    if ranks is None:
        time = min(_time_of(share), slow)
    elif repeats:
        # Windows that differ less than those of independent rows repeat a scene, however long rows resemble others.
        time = min(_time_of_rows(ranks) / yardstick.n, _time_of(_most(share, count)))
    else:
        time = _time_of_rows(ranks) / yardstick.n
    # So small a difference follows the one before it by chance more often.
    errors = RESEMBLANCE_ERRORS if repeats else 1.0
    time = max(time, _time_at_least(values[:, LOCATION], errors) if found else 0.0)
    if not time > 0:
        return NO_DECAY
    seen, few = count / time, 0.0 if ranks is not None else 2 / count
    # Of nearly no span there is no saying how many there are: a quarter of what is seen stays.
    time, spans = count / max(seen - 4, seen / 4), _least_spans(seen, few)
    return Decay(time, count / spans, spans, few)


def correlations(
    yardstick: Yardstick | CategoryYardstick, values: Floats, decay: Decay, parts: Sequence[NDArray[np.bool_]] = ()
) -> tuple[Floats, float]:
    """Return the correlation of each statistic with its predecessor, to be taken off, and the best one of location.

    Few windows measure it badly; what is expected is corrected by what is measured, give or take a standard error.
    What is taken off errs on the large side: too much costs some power, too little the promise. Of seasonal windows
    `parts` says which begin in the whole cycle and in parts of it, shape (windows,) each (see `_lasting`).
    """
    expected, most = decay.resemblance
    error = 1 / math.sqrt(len(values))
    rho, best = np.zeros(len(NAMES)), 0.0
    for statistic, prior in enumerate((most, most**2, most**2, 0.0, 0.0)):
        found = _found(values[:, statistic], yardstick.floors[statistic])
        rho[statistic] = np.clip(prior, found - error, found + RESEMBLANCE_ERRORS * error)
        if parts:
            distance = _distance(values[:, statistic])
            rho[statistic] = max(rho[statistic], *(_lasting(distance, part) for part in parts))
        if statistic == LOCATION:
            ours, theirs = error**-2, (((most - expected) / CAUTION) ** 2 + MODEL_ERROR**2) ** -1
            best = (ours * found + theirs * expected) / (ours + theirs)
    return np.clip(rho, 0.0, RHO_MAX), min(max(best, 0.0), RHO_MAX)


def brief_correlations(yardstick: Yardstick | CategoryYardstick, ranks: Floats | None, rho: Floats) -> Floats:
    """Return the correlations of windows if rows resembled each other as long as consecutive ones let expect.

    A baseline that drifts inside is correlated at every lag; taken off, its drift would not be seen.
    """
    if ranks is None or not rho.any():
        return rho
    alike = product(ranks[1:], ranks[:-1]) / product(ranks, ranks)
    time = -1 / math.log(min(max(alike, 1e-9), 1 - 1e-9))
    return np.minimum(rho, float(np.interp(time / yardstick.n, _TIMES, _CORRELATIONS)))


def _spans_error(spans: float, few: float) -> float:
    return CAUTION * math.sqrt(2 * spans + few * spans * spans)


def _least_spans(seen: float, few: float) -> float:
    """Return the spans that with their bias and error look like those seen; a hundredth of these where none do."""
    low, high = seen / 100, seen
    while high - low > 1e-3 * high:
        half = (low + high) / 2
        low, high = (half, high) if half + 4 + _spans_error(half, few) < seen else (low, half)
    return low


def _time_of_rows(ranks: Floats) -> float:
    """Return in how many rows the correlation of their ranks decays by e: at the longest lag where any is left.

    Short lags of a smooth field say little about long ones. What moves slowly under noise shows in means of more and
    more rows; their correlation is believed less a standard error.
    """
    total = product(ranks, ranks) / max(ranks.size, 1)
    time, lag = 0.0, 1
    while total and lag <= ranks.size // 4:
        alike = product(ranks[lag:], ranks[:-lag]) / (ranks.size - lag) / total
        if alike <= ALIKE:
            break
        time = -lag / math.log(min(alike, 1 - 1e-9))
        lag *= 2
    size, means = 1, ranks
    while means.size >= MEANS_MIN:
        time = max(time, size * _time_at_least(means))
        size, means = 2 * size, means[: means.size // 2 * 2].reshape(-1, 2).mean(axis=1)
    return time


def _time_at_least(means: Floats, errors: float = 1.0) -> float:
    """Return in how many steps correlation decays by e if consecutive means are so many standard errors less alike."""
    alike = _found(means, 0.0) - errors / math.sqrt(means.size)
    return float(np.interp(alike, _CORRELATIONS, _TIMES)) if alike > _CORRELATIONS[0] else 0.0


def _share(yardstick: Yardstick | CategoryYardstick, values: Floats, between: float) -> float:
    """Return the variance of windows' means in parts of a row's."""
    row = 1.0 if yardstick.scale == "ranks" else yardstick.unit * yardstick.slope
    return float(np.nanvar(values[:, LOCATION], ddof=1)) / max(row * row - between, 1e-300)


def _most(share: float, count: int) -> float:
    """Return how much it may be if windows, worth half their count, vary this little by a chance of one in 1,000."""
    from scipy.special import chdtri

    worth = (count - 1) / 2
    return share * worth / max(float(chdtri(worth, 1 - UNLIKELY)), 1e-300)


def _time_of(share: float) -> float:
    """Return in windows: means that vary nearly as much as rows do are those of rows that hardly change."""
    return float(np.interp(share, _VARIANCES, _TIMES))


def _found(column: Floats, floor: float) -> float:
    """Return how much a statistic's windows resemble their predecessors; not at all where one row moves them more."""
    distance = _distance(column)
    total = product(distance, distance)
    if not total > len(column) * floor * floor:
        return 0.0
    found = product(distance[1:], distance[:-1]) / total
    return found + (1 + 4 * found) / len(column)  # Kendall (1954): short series look less correlated than they are


def _distance(column: Floats) -> Floats:
    """Return how far each window lies from the mean; one that is not known lies there."""
    return np.where(np.isnan(column), 0.0, column - known_mean(column[:, None])[0])


def _lasting(distance: Floats, part: NDArray[np.bool_]) -> float:
    """Return the correlation of one window with the next that makes windows vary in the long run as much as these do.

    Weather is not what rows of a window share with the next alone: under the noise of a window it lasts, and what is
    seen from one window to the next is too little by that noise. Of correlations that decay exponentially from lag to
    lag the sum s is rho / (1 − rho); so s / (1 + s) is rho, however the correlations decay. Clouds change the day and
    not the night, so it is asked of each `part` of the day.
    """
    size = int(part.sum())
    total = float(distance[part] @ distance[part])
    if size < WINDOWS_TO_MEASURE or not total > 0:
        return 0.0
    together, error = 0.0, 1 / math.sqrt(size)
    for lag in range(1, distance.size // 4):
        found = float((distance[lag:] * distance[:-lag])[part[:-lag]].sum()) / total
        # The first one must be sure; the others follow from it.
        if found < (error if together else 2 * error):
            break
        together += found
    return together / (1 + together)
