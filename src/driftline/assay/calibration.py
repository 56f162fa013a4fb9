"""What a baseline's own windows say about what is usual, and whether that is enough for a promise.

The baseline is cut into windows of the assay's width in time order; each is scored against the rest, without its
neighbours. How alike consecutive rows and windows are decides the evidence. Independent rows: windows of rows in
shuffled order say most, because there can be many. Otherwise only the windows themselves count, and what one window
lets expect of the next is taken off it first: the residuals, not the windows, are independent.

A baseline of fewer than five windows carries no promise, nor one that spans the time in which correlation decays too
few times: five windows of frames that follow each other in one minute prove nothing about the next hour. A short
baseline itself knows that time badly. It is taken for as long as it may be, but one time in twenty, and what is
uncertain about it makes the evidence wary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np

from driftline.assay.baseline import BaselineData
from driftline.assay.observed import Floats, Observed, Part
from driftline.assay.statistics import (
    LOCATION,
    MISSING,
    NAMES,
    OMNIBUS,
    SPREAD,
    Scale,
    Yardstick,
    yardstick_of,
)
from driftline.errors import InvalidInputError

Kind = Literal["rows", "windows"]

# Below this many windows nothing is promised,
WINDOWS_MIN = 5
# nor below so many times the time in which correlation decays by e, the more the less of a window is new (see
# `_spans_needed`): fewer tell neither how far a field wanders nor how slowly. More would refuse too many that hold.
# Of AR(1) baselines of 4, 10, 12, 20, 30, 40 and 60 decay times it accepts 2, 4, 16, 8, 54, 94 and 89 %; in 200 fresh
# runs of each at most 3.5 % broke the promise.
SPANS_MIN = 8.0
# Such a baseline's mean is worth one window's in so many decay times, and a degree of freedom comes in as many.
SPANS_A_WINDOW, SPANS_A_FREEDOM = 2.0, 4.0
# How many standard errors slower than measured the rows' correlation is thought to decay: one in twenty is slower.
CAUTION = 1.645
# How many standard errors more than measured a window is thought to resemble the one before it, where rows say so.
RESEMBLANCE_ERRORS = 2.0
# From here on autocorrelation can be measured between windows, and neighbours can be left out of what a window is
# compared with.
WINDOWS_TO_MEASURE = 10
# From here on gross changes are found in two or three windows and small ones at nearly the best speed.
WINDOWS_ENOUGH = 20
# Statistics of few windows have heavier tails than normal ones; simulation showed 8 degrees of freedom to be safe, and
# two more for the mean and spread of independent rows, of which the central limit theorem speaks.
FREEDOM_WINDOWS = 8.0
FREEDOM_ROWS = 10.0
# So many windows of shuffled rows are scored at least.
SHUFFLED = 100
# How many lags the test of independence looks at, and at which level it doubts.
LAGS = 20
DOUBT = 0.01
# Below this many windows that are compared with each other score and spread have heavier tails than a t variable (6 to
# 7 % of quiet runs alarmed at 5 to 10 windows): their evidence is bounded by rank.
WINDOWS_FOR_SHAPE = 12
# Where windows resemble their predecessors this much, score and spread come in bursts whose size a few windows cannot
# tell; their evidence is then bounded so, too.
BURSTS_OMNIBUS, BURSTS_SPREAD = 0.2, 0.5
RHO_MAX = 0.95
# The statistics that follow a wandering level.
WANDERING = (LOCATION, SPREAD, OMNIBUS)
# Correlation does not decay exponentially; taking it so is wrong by about this much.
MODEL_ERROR = 0.1
# So many means of rows tell how much consecutive ones resemble each other.
MEANS_MIN = 20
# Rows must be at least this alike for their persistence to be read from it.
ALIKE = 0.3
# A trend or a jump inside a baseline less likely than this is told.
UNLIKELY = 0.001


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is usual, in numbers a statistic (see `driftline.assay.statistics.NAMES`), small enough to keep per field.

    A window's statistic less `rho` times its predecessor's is a residual; `size` residuals had this `mean` and sum of
    `squares` about it, which is worth `freedom` degrees of freedom, of which at most `freedom_max` are believed.
    `floor` is the least standard deviation. Evidence of `bounded` statistics is limited by rank. `effective` is about
    how many independent windows the `windows` are worth; `kind` and `why` say which evidence is used.
    """

    kind: Kind
    why: str
    n: int
    windows: int
    effective: float
    seed: int
    scale: Scale
    rho: tuple[float, ...]
    size: tuple[float, ...]
    mean: tuple[float, ...]
    squares: tuple[float, ...]
    freedom: tuple[float, ...]
    freedom_max: tuple[float, ...]
    floor: tuple[float, ...]
    bounded: tuple[bool, ...]
    health: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; `Calibration.of` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Calibration":
        """Read a document."""
        fields: dict[str, Any] = dict(document)
        for name, value in document.items():
            if isinstance(value, list):
                fields[name] = tuple(cast("list[Any]", value))
        return Calibration(**fields)


def calibrate(
    baseline: BaselineData,
    *,
    n: int | None = None,
    windows: Sequence[Sequence[Part]] | None = None,
    ordered: bool = True,
    seed: int = 0,
) -> Calibration:
    """Calibrate on a baseline's own windows.

    Give its `windows` in time order, each as its parts, or nothing: then its raw values are cut in their order into
    windows of `n` inferences. Rows that are not in time order (`ordered` False) are assumed to be independent.

    Raises:
        InvalidInputError: the baseline carries no promise; the message says how many windows it needs.
    """
    if windows is None:
        return _of_rows(baseline, n, ordered=ordered, seed=seed)
    read = [Observed.of_parts(parts, float32=baseline.float32) for parts in windows]
    read = [window for window in read if window.n]
    usual = n or int(np.median([window.n for window in read] or [1]))
    _refuse_below_least(len(read), usual)
    yardstick = yardstick_of(baseline, usual)
    apart = _apart(len(read))
    values = [yardstick.measured(one, read[max(0, i - apart) : i + apart + 1]).values for i, one in enumerate(read)]
    return _calibration(yardstick, np.array(values), _rows(windows), ordered=ordered, seed=seed)


def _of_rows(baseline: BaselineData, n: int | None, *, ordered: bool, seed: int) -> Calibration:
    rows = baseline.raw
    if rows is None:
        raise InvalidInputError(
            "the baseline is known by counts only and came without its windows; give the counts of each window"
        )
    if n is None or n < 1:
        raise InvalidInputError(f"windows of {n} inferences were asked for; give how many a window has, 1 or more")
    count = rows.size // n
    _refuse_below_least(count, n)
    yardstick = yardstick_of(baseline, n)
    values = yardstick.measure_rows(rows[: count * n].reshape(count, n), _apart(count))
    return _calibration(yardstick, values, rows, ordered=ordered, seed=seed)


def _apart(count: int) -> int:
    return 1 if count >= WINDOWS_TO_MEASURE else 0


def promise_health(calibration: Calibration, alarm_at: float) -> list[str]:
    """Say in plain sentences what this baseline lacks, and how fast it makes a promise that needs this evidence."""
    notes = list(calibration.health)
    worth = min(calibration.freedom[LOCATION], calibration.freedom_max[LOCATION])
    ratio = ((worth + 16) / worth) ** ((worth + 1) / 2)
    delay = max(1, math.ceil(math.log(30 * alarm_at) / math.log(ratio)))
    if calibration.windows < WINDOWS_ENOUGH:
        notes.append(
            f"calibrated on {calibration.windows} windows, a change of four of a window's standard deviations is "
            f"proven after about {delay} windows; {WINDOWS_ENOUGH - calibration.windows} more make it faster"
        )
    return notes


# ── the choice of evidence ───────────────────────────────────────────────────────────────────────────────────────


def _rows(windows: Sequence[Sequence[Part]]) -> Floats | None:
    """Return all windows' values in their order, None where counts are among them."""
    parts = [part.values for window in windows for part in window]
    values = [part for part in parts if part is not None]
    return np.concatenate(values) if values and len(values) == len(parts) else None


def _calibration(yardstick: Yardstick, values: Floats, rows: Floats | None, *, ordered: bool, seed: int) -> Calibration:
    count = len(values)
    shuffled = None if rows is None else _shuffled(yardstick, rows, seed)
    ranks = None if rows is None else _centred_ranks(rows)
    doubt = _doubt(values, ranks, shuffled, ordered=ordered)
    if shuffled is not None and doubt is None:
        why = "rows in time order show no autocorrelation: independent rows"
        if not ordered or count < WINDOWS_TO_MEASURE:
            why = "independence assumed: " + ("rows are not in time order" if not ordered else f"only {count} windows")
        size, mean, squares = np.full(len(NAMES), float(count)), _mean(shuffled), _squares(shuffled)
        # Each shuffle deals out the same rows, and its windows vary about their mean alone.
        freedom = np.full(len(NAMES), len(shuffled) * (1 - 1 / count))
        rho, persistence, kind, decay = np.zeros(len(NAMES)), 0.0, "rows", NO_DECAY
    else:
        kind, why = "windows", f"{doubt}: windows are compared with windows"
        decay = _decay(yardstick, values, ranks)
        rho, persistence = _correlations(yardstick, values, decay)
        residuals = values[1:] - rho * values[:-1]
        alone = rho == 0
        size = np.where(alone, count, count - 1.0)
        mean = np.where(alone, _mean(values), _mean(residuals))
        squares = np.where(alone, _squares(values), _squares(residuals))
        # Estimating what is taken off costs a degree of freedom.
        freedom = size - 1 - ~alone
        # The variance of a wandering level is proportional to the decay time, and so uncertain as that.
        squares[list(WANDERING)] *= decay.doubt
        size[list(WANDERING)] = np.minimum(size, decay.spans / SPANS_A_WINDOW)[list(WANDERING)]
    health = _health(values, _briefly(yardstick, ranks, rho), persistence) if ordered else []
    if not decay.enough:
        raise _too_short(decay, count, yardstick.n, health)
    cap = min(FREEDOM_WINDOWS, decay.spans / SPANS_A_FREEDOM)
    caps = (FREEDOM_ROWS, FREEDOM_ROWS, cap) if kind == "rows" else (cap, cap, cap)
    few = kind == "windows" and count < WINDOWS_FOR_SHAPE
    bounded = (False, few or persistence >= BURSTS_SPREAD, few or persistence >= BURSTS_OMNIBUS, False, False)
    return Calibration(
        kind=kind,
        why=why,
        n=yardstick.n,
        windows=count,
        effective=round(count * min(1.0, 0.5 / max(decay.time, 1e-9)), 2),
        seed=seed,
        scale=yardstick.scale,
        rho=_tuple(rho),
        size=_tuple(size),
        mean=_tuple(mean),
        squares=_tuple(squares),
        freedom=_tuple(freedom),
        freedom_max=(*caps, FREEDOM_WINDOWS, FREEDOM_WINDOWS),
        floor=_tuple(yardstick.floors),
        bounded=bounded,
        health=tuple(health),
    )


def _mean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _squares(values: Floats) -> Floats:
    distance = np.where(np.isnan(values), 0.0, values - _mean(values))
    return (distance * distance).sum(axis=0)


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in values)


def _shuffled(yardstick: Yardstick, rows: Floats, seed: int) -> Floats:
    """Return the statistics of windows of rows in shuffled order: what independent rows look like."""
    draw = np.random.default_rng(seed)
    n = yardstick.n
    count = rows.size // n
    times = -(-SHUFFLED // max(count, 1))
    return np.concatenate(
        [yardstick.measure_rows(draw.permutation(rows)[: count * n].reshape(count, n), 0) for _ in range(times)]
    )


def _doubt(values: Floats, ranks: Floats | None, shuffled: Floats | None, *, ordered: bool) -> str | None:
    """Return why rows are not taken for independent, or None."""
    from scipy.special import chdtrc

    if ranks is None or shuffled is None:
        return "only counts are known, and counts do not show whether rows are independent"
    if not ordered:
        return None
    total = _product(ranks, ranks)
    if not total:
        return None
    lags = range(1, min(LAGS, ranks.size - 1) + 1)
    found = [_product(ranks[lag:], ranks[:-lag]) / total for lag in lags]
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


def _product(one: Floats, other: Floats) -> float:
    """Return the inner product without BLAS, whose threads cost more than they save and change the last digits."""
    return float(np.einsum("i,i->", one, other))


def _centred_ranks(rows: Floats) -> Floats:
    """Return mid-ranks about zero: autocorrelation that no outlier and no skewness hides."""
    present = rows[~np.isnan(rows)]
    order = np.argsort(present)
    ordered = present[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    size = np.diff(np.append(first, present.size))
    ranks = np.empty(present.size)
    ranks[order] = np.repeat(first + (size - present.size) / 2, size)
    return ranks


# ── how much a window resembles the one before it ────────────────────────────────────────────────────────────────

# Rows whose correlation decays exponentially over _TIMES windows: the variance of a window's mean in parts of a row's,
# and the correlation of one window's mean with the next.
_TIMES = np.geomspace(1e-4, 30.0, 400)
_DECAY = -np.expm1(-1 / _TIMES)
_VARIANCES = 2 * _TIMES - 2 * _TIMES**2 * _DECAY
_CORRELATIONS = np.minimum(_TIMES**2 * _DECAY**2 / _VARIANCES, 1.0)


@dataclass(frozen=True, slots=True)
class _Decay:
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


NO_DECAY = _Decay(0.0, 0.0, math.inf, 0.0)


def _spans_needed(resemblance: float) -> float:
    # Of a window's variance 1 − ρ² is not that of the window before it.
    return SPANS_MIN / max(1 - resemblance * resemblance, 1e-3)


def _decay(yardstick: Yardstick, values: Floats, ranks: Floats | None) -> _Decay:
    """Return how slowly correlation decays, as rows show it, or windows where they show it to be slower.

    A short baseline tells this worst where it matters most. As its mean is estimated along with it, `spans` decay times
    look like four more, give or take √(2 spans); where windows of counts must tell, √(2 / windows) of them besides.
    Believed is the least number that looks so in one case of twenty.

    Source: Marriott & Pope (1954) and Kendall (1954) for the bias, Bartlett (1946) for the error, in units of spans.
    """
    count = len(values)
    found, error = _found(values[:, LOCATION], yardstick.floors[LOCATION]), 1 / math.sqrt(count)
    slow = float(np.interp(found + RESEMBLANCE_ERRORS * error, _CORRELATIONS, _TIMES))
    time = min(_time_of_counts(yardstick, values), slow) if ranks is None else _time_of_rows(ranks) / yardstick.n
    time = max(time, _time_at_least(values[:, LOCATION]) if found else 0.0)
    if not time > 0:
        return NO_DECAY
    seen, few = count / time, 0.0 if ranks is not None else 2 / count
    # Of nearly no span there is no saying how many there are: a quarter of what is seen stays.
    time, spans = count / max(seen - 4, seen / 4), _least_spans(seen, few)
    return _Decay(time, count / spans, spans, few)


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
    total = _product(ranks, ranks) / max(ranks.size, 1)
    time, lag = 0.0, 1
    while total and lag <= ranks.size // 4:
        alike = _product(ranks[lag:], ranks[:-lag]) / (ranks.size - lag) / total
        if alike <= ALIKE:
            break
        time = -lag / math.log(min(alike, 1 - 1e-9))
        lag *= 2
    size, means = 1, ranks
    while means.size >= MEANS_MIN:
        time = max(time, size * _time_at_least(means))
        size, means = 2 * size, means[: means.size // 2 * 2].reshape(-1, 2).mean(axis=1)
    return time


def _time_at_least(means: Floats) -> float:
    """Return in how many steps correlation decays by e if consecutive means resemble each other a little less."""
    alike = _found(means, 0.0) - 1 / math.sqrt(means.size)
    return float(np.interp(alike, _CORRELATIONS, _TIMES)) if alike > _CORRELATIONS[0] else 0.0


def _time_of_counts(yardstick: Yardstick, values: Floats) -> float:
    """Return the same in windows: means that vary nearly as much as rows do are those of rows that hardly change."""
    row = 1.0 if yardstick.scale == "ranks" else yardstick.unit * yardstick.slope
    share = float(np.nanvar(values[:, LOCATION], ddof=1)) / (row * row)
    return float(np.interp(share, _VARIANCES, _TIMES))


def _found(column: Floats, floor: float) -> float:
    """Return how much a statistic's windows resemble their predecessors; not at all where one row moves them more."""
    known = ~np.isnan(column)
    distance = np.where(known, column - _mean(column[:, None])[0], 0.0)
    total = _product(distance, distance)
    if not total > len(column) * floor * floor:
        return 0.0
    found = _product(distance[1:], distance[:-1]) / total
    return found + (1 + 4 * found) / len(column)  # Kendall (1954): short series look less correlated than they are


def _briefly(yardstick: Yardstick, ranks: Floats | None, rho: Floats) -> Floats:
    """Return the correlations of windows if rows resembled each other as long as consecutive ones let expect.

    A baseline that drifts inside is correlated at every lag; taken off, its drift would not be seen.
    """
    if ranks is None or not rho.any():
        return rho
    alike = _product(ranks[1:], ranks[:-1]) / _product(ranks, ranks)
    time = -1 / math.log(min(max(alike, 1e-9), 1 - 1e-9))
    return np.minimum(rho, float(np.interp(time / yardstick.n, _TIMES, _CORRELATIONS)))


def _correlations(yardstick: Yardstick, values: Floats, decay: _Decay) -> tuple[Floats, float]:
    """Return the correlation of each statistic with its predecessor, to be taken off, and the best one of location.

    Few windows measure it badly; what is expected is corrected by what is measured, give or take a standard error.
    What is taken off errs on the large side: too much costs some power, too little the promise.
    """
    expected, most = decay.resemblance
    error = 1 / math.sqrt(len(values))
    rho, best = np.zeros(len(NAMES)), 0.0
    for statistic, prior in enumerate((most, most**2, most**2, 0.0, 0.0)):
        found = _found(values[:, statistic], yardstick.floors[statistic])
        rho[statistic] = np.clip(prior, found - error, found + RESEMBLANCE_ERRORS * error)
        if statistic == LOCATION:
            ours, theirs = error**-2, (((most - expected) / CAUTION) ** 2 + MODEL_ERROR**2) ** -1
            best = (ours * found + theirs * expected) / (ours + theirs)
    return np.clip(rho, 0.0, RHO_MAX), min(max(best, 0.0), RHO_MAX)


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse_below_least(count: int, n: int) -> None:
    if count < WINDOWS_MIN:
        raise InvalidInputError(
            f"the baseline has {'1 window' if count == 1 else f'{count} windows'} of {n} inferences. A promise needs "
            f"{WINDOWS_MIN}: take a longer baseline, narrower windows, or a fixed threshold"
        )


def _too_short(decay: _Decay, count: int, n: int, health: Sequence[str]) -> InvalidInputError:
    # A baseline that drifts inside resembles itself for long, too, and more of it is no cure.
    drifts = [note for note in health if "trend" in note or "drifts" in note]
    return InvalidInputError(
        f"the baseline has {count} windows of {n} inferences, too few for their autocorrelation: values resemble "
        f"those of about {decay.time:.2g} windows before. A promise needs {max(decay.needed, count + 1)} windows: "
        "take a longer baseline or a fixed threshold" + "".join(f"; {note}" for note in drifts)
    )


def _health(values: Floats, rho: Floats, persistence: float) -> list[str]:
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
