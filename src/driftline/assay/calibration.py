"""What a baseline's own windows say about what is usual, and whether that is enough for a promise.

The baseline is cut into windows of the assay's width in time order; each is scored against the rest, without its
neighbours. How alike consecutive rows and windows are decides the evidence. Independent rows: windows of rows in
shuffled order say most, because there can be many. Otherwise only the windows themselves count, and what one window
lets expect of the next is taken off it first: the residuals, not the windows, are independent.

A baseline of fewer than five independent windows carries no promise: five shuffled windows of frames that follow each
other in one minute prove nothing about the next hour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import CategoryBaseline
from driftline.assay.observed import Floats, Part
from driftline.assay.statistics import (
    LOCATION,
    MISSING,
    NAMES,
    OMNIBUS,
    SPREAD,
    CategoryYardstick,
    Scale,
    Yardstick,
    yardstick_of,
)
from driftline.errors import InvalidInputError

Kind = Literal["rows", "windows"]

# Below this many windows nothing is promised,
WINDOWS_MIN = 5
# nor where they are worth fewer than this: in simulations of AR(1) rows that parts baselines that hold from others.
EFFECTIVE_MIN = 3.9
# How many standard errors slower than measured the rows' correlation is thought to decay.
CAUTION = 1.3
# From here on autocorrelation can be measured between windows, and neighbours can be left out of what a window is
# compared with.
WINDOWS_TO_MEASURE = 10
# From here on gross changes are found in two or three windows and small ones at nearly the best speed.
WINDOWS_ENOUGH = 20
# Statistics of few windows have heavier tails than normal ones; simulation showed 8 degrees of freedom to be safe, and
# many more for the mean and spread of independent rows, of which the central limit theorem speaks.
FREEDOM_WINDOWS = 8.0
FREEDOM_ROWS = 15.0
# So many windows of shuffled rows are scored at least.
SHUFFLED = 100
# How many lags the test of independence looks at, and at which level it doubts.
LAGS = 20
DOUBT = 0.01
# Where windows resemble their predecessors this much, score and spread come in bursts whose size a few windows cannot
# tell; their evidence is then bounded by their rank among the baseline's windows.
BURSTS_OMNIBUS, BURSTS_SPREAD = 0.2, 0.5
# Windows whose skewness is this many standard errors from none come in bursts, too: a yes that is rare and lasts. Their
# size is not that of a normal law, and their evidence is bounded by rank.
SKEWED_ERRORS = 3.0
RHO_MAX = 0.95
# Correlation does not decay exponentially; taking it so is wrong by about this much.
MODEL_ERROR = 0.1
# Rows must be at least this alike for their persistence to be read from it.
ALIKE = 0.3
# A trend or a jump inside a baseline less likely than this is told.
UNLIKELY = 0.001


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is usual, in numbers a statistic (see `driftline.assay.statistics.NAMES`), small enough to keep per field.

    A window's statistic less `rho` times its predecessor's is a residual; `size` residuals had this `mean` and sum of
    `squares` about it, which is worth `freedom` degrees of freedom, of which at most `freedom_max` are believed.
    `floor` is the least standard deviation. Evidence of `bounded` statistics is limited by rank. `effective` is how
    many independent windows the `windows` are worth; `kind` and `why` say which evidence is used.
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
    baseline: BaselineData | CategoryBaseline,
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
        if isinstance(baseline, CategoryBaseline):
            raise InvalidInputError(
                "the baseline is text that came without its windows; a promise on text needs a baseline in time"
            )
        return _of_rows(baseline, n, ordered=ordered, seed=seed)
    # What a baseline read, its yardstick measures: numbers or categories.
    read: list[Any] = [window for window in map(baseline.read, windows) if window.n]
    usual = n or int(np.median([window.n for window in read] or [1]))
    _refuse_below(len(read), len(read), usual, 0.0)
    yardstick = yardstick_of(baseline, usual)
    values = own_statistics(yardstick, read, np.arange(len(read)))
    return _calibration(yardstick, values, _rows(windows), ordered=ordered, seed=seed)


def own_statistics(yardstick: Yardstick | CategoryYardstick, read: Sequence[Any], at: NDArray[np.int64]) -> Floats:
    """Return the statistics of some of a baseline's own windows, (windows, 5): each against all but its neighbourhood.

    `read` are all windows in time order, as the baseline reads them.
    """
    apart = _apart(len(read))
    return np.array([yardstick.measured(read[i], read[max(0, i - apart) : i + apart + 1]).values for i in at.tolist()])


def _of_rows(baseline: BaselineData, n: int | None, *, ordered: bool, seed: int) -> Calibration:
    rows = baseline.raw
    if rows is None:
        raise InvalidInputError(
            "the baseline is known by counts only and came without its windows; give the counts of each window"
        )
    if n is None or n < 1:
        raise InvalidInputError(f"windows of {n} inferences were asked for; give how many a window has, 1 or more")
    count = rows.size // n
    _refuse_below(count, count, n, 0.0)
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


def _calibration(
    yardstick: Yardstick | CategoryYardstick, values: Floats, rows: Floats | None, *, ordered: bool, seed: int
) -> Calibration:
    count = len(values)
    shuffled = _shuffled(yardstick, rows, seed) if rows is not None and isinstance(yardstick, Yardstick) else None
    doubt = _doubt(values, rows, shuffled, ordered=ordered)
    if shuffled is not None and doubt is None:
        why = "rows in time order show no autocorrelation: independent rows"
        if not ordered or count < WINDOWS_TO_MEASURE:
            why = "independence assumed: " + ("rows are not in time order" if not ordered else f"only {count} windows")
        size, mean, squares = np.full(len(NAMES), float(count)), _mean(shuffled), _squares(shuffled)
        # Each shuffle deals out the same rows, and its windows vary about their mean alone.
        freedom = np.full(len(NAMES), len(shuffled) * (1 - 1 / count))
        rho, persistence, kind = np.zeros(len(NAMES)), 0.0, "rows"
    else:
        kind, why = "windows", f"{doubt}: windows are compared with windows"
        rho, persistence = _correlations(yardstick, values, rows)
        residuals = values[1:] - rho * values[:-1]
        alone = rho == 0
        size = np.where(alone, count, count - 1.0)
        mean = np.where(alone, _mean(values), _mean(residuals))
        squares = np.where(alone, _squares(values), _squares(residuals))
        # Estimating what is taken off costs a degree of freedom.
        freedom = size - 1 - ~alone
    # Of windows that resemble each other fewer are independent, and the resemblance itself must be known well: the
    # factor was found by simulation of AR(1) rows.
    effective = count * (1 - persistence) ** 2 / (1 + persistence)
    _refuse_below(effective, count, yardstick.n, persistence)
    cap = FREEDOM_ROWS if kind == "rows" else FREEDOM_WINDOWS
    skewed = _skewed(values) if kind == "windows" else (False, False, False)
    bounded = (
        skewed[LOCATION],
        skewed[SPREAD] or persistence >= BURSTS_SPREAD,
        skewed[OMNIBUS] or persistence >= BURSTS_OMNIBUS,
        False,
        False,
    )
    return Calibration(
        kind=kind,
        why=why,
        n=yardstick.n,
        windows=count,
        effective=round(effective, 2),
        seed=seed,
        scale=yardstick.scale,
        rho=_tuple(rho),
        size=_tuple(size),
        mean=_tuple(mean),
        squares=_tuple(squares),
        freedom=_tuple(freedom),
        freedom_max=(cap, cap, FREEDOM_WINDOWS, FREEDOM_WINDOWS, FREEDOM_WINDOWS),
        floor=_tuple(yardstick.floors),
        bounded=bounded,
        health=tuple(_health(values, _briefly(yardstick, rows, rho), persistence) if ordered else ()),
    )


def _skewed(values: Floats) -> tuple[bool, bool, bool]:
    """Say whether windows' location, spread and omnibus score are too skewed for a normal law."""
    distance = np.where(np.isnan(values), 0.0, values - _mean(values))
    cubes, squares = (distance**3).sum(axis=0), (distance**2).sum(axis=0)
    # Not divided: of a constant field both are zero. One that a window lacks counts as usual.
    far = np.abs(cubes) > SKEWED_ERRORS * math.sqrt(6) / len(values) * squares**1.5
    return bool(far[LOCATION]), bool(far[SPREAD]), bool(far[OMNIBUS])


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


def _doubt(values: Floats, rows: Floats | None, shuffled: Floats | None, *, ordered: bool) -> str | None:
    """Return why rows are not taken for independent, or None."""
    from scipy.special import chdtrc

    if rows is None or shuffled is None:
        return "only counts are known, and counts do not show whether rows are independent"
    if not ordered:
        return None
    ranks = _centred_ranks(rows)
    total = float(ranks @ ranks)
    if not total:
        return None
    lags = range(1, min(LAGS, ranks.size - 1) + 1)
    found = [float(ranks[lag:] @ ranks[:-lag]) / total for lag in lags]
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


def _centred_ranks(rows: Floats) -> Floats:
    """Return mid-ranks about zero: autocorrelation that no outlier and no skewness hides."""
    present = rows[~np.isnan(rows)]
    ordered = np.sort(present)
    low, high = np.searchsorted(ordered, present, side="left"), np.searchsorted(ordered, present, side="right")
    return (low + high - present.size) / 2.0


# ── how much a window resembles the one before it ────────────────────────────────────────────────────────────────

# Rows whose correlation decays exponentially over _TIMES windows: the variance of a window's mean in parts of a row's,
# and the correlation of one window's mean with the next.
_TIMES = np.geomspace(1e-4, 30.0, 400)
_DECAY = -np.expm1(-1 / _TIMES)
_VARIANCES = 2 * _TIMES - 2 * _TIMES**2 * _DECAY
_CORRELATIONS = np.minimum(_TIMES**2 * _DECAY**2 / _VARIANCES, 1.0)


def _expected(yardstick: Yardstick | CategoryYardstick, values: Floats, rows: Floats | None) -> tuple[float, float]:
    """Return how much consecutive windows should resemble each other if correlation decays exponentially, and at most.

    From rows: how fast it has decayed at the longest lag, up to a window, where any is left; short lags of a smooth
    field say little about long ones. From counts: window means that vary nearly as much as rows do are those of rows
    that hardly change within a window.
    """
    if rows is None:
        row = 1.0 if yardstick.scale == "ranks" else yardstick.unit * yardstick.slope
        share = float(np.nanvar(values[:, LOCATION], ddof=1)) / (row * row)
        most = share * (1 + CAUTION * math.sqrt(2 / len(values)))
        low, high = np.interp([share, most], _VARIANCES, _CORRELATIONS).tolist()
        return low, high
    ranks = _centred_ranks(rows)
    total = float(ranks @ ranks) / max(ranks.size, 1)
    time, lag = 0.0, 1
    while lag <= yardstick.n and lag < ranks.size and total:
        alike = float(ranks[lag:] @ ranks[:-lag]) / (ranks.size - lag) / total
        if alike > ALIKE:
            time = -lag / math.log(min(alike, 1 - 1e-9))
        lag *= 2
    # The relative standard error of this time for AR(1) rows.
    most = time * (1 + CAUTION * math.sqrt(2 * time / max(ranks.size, 1)))
    low, high = np.interp([time / yardstick.n, most / yardstick.n], _TIMES, _CORRELATIONS).tolist()
    return low, high


def _briefly(yardstick: Yardstick | CategoryYardstick, rows: Floats | None, rho: Floats) -> Floats:
    """Return the correlations of windows if rows resembled each other as long as consecutive ones let expect.

    A baseline that drifts inside is correlated at every lag; taken off, its drift would not be seen.
    """
    if rows is None or not rho.any():
        return rho
    ranks = _centred_ranks(rows)
    alike = float(ranks[1:] @ ranks[:-1]) / float(ranks @ ranks)
    time = -1 / math.log(min(max(alike, 1e-9), 1 - 1e-9))
    return np.minimum(rho, float(np.interp(time / yardstick.n, _TIMES, _CORRELATIONS)))


def _correlations(
    yardstick: Yardstick | CategoryYardstick, values: Floats, rows: Floats | None
) -> tuple[Floats, float]:
    """Return the correlation of each statistic with its predecessor, to be taken off, and the best one of location.

    Few windows measure it badly; what is expected is corrected by what is measured, give or take a standard error.
    What is taken off errs on the large side: too much costs some power, too little the promise.
    """
    count = len(values)
    expected, most = _expected(yardstick, values, rows)
    error = 1 / math.sqrt(count)
    rho, best = np.zeros(len(NAMES)), 0.0
    for statistic, prior in enumerate((most, most**2, most**2, 0.0, 0.0)):
        column = values[:, statistic]
        known = ~np.isnan(column)
        distance = np.where(known, column - _mean(column[:, None])[0], 0.0)
        total = float(distance @ distance)
        if not total > 0:
            continue
        found = float(distance[1:] @ distance[:-1]) / total
        found += (1 + 4 * found) / count  # Kendall (1954): short series look less correlated than they are
        rho[statistic] = np.clip(prior, found - error, found + error)
        if statistic == LOCATION:
            ours, theirs = error**-2, ((most - expected) ** 2 + MODEL_ERROR**2) ** -1
            best = (ours * found + theirs * expected) / (ours + theirs)
    return np.clip(rho, 0.0, RHO_MAX), min(max(best, 0.0), RHO_MAX)


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse_below(effective: float, count: int, n: int, persistence: float) -> None:
    if count >= WINDOWS_MIN and effective >= EFFECTIVE_MIN:
        return
    needed = max(WINDOWS_MIN, math.ceil(EFFECTIVE_MIN * (1 + persistence) / (1 - persistence) ** 2))
    have = "1 window" if count == 1 else f"{count} windows"
    alike = f"; each may resemble the one before it with a correlation of {persistence:.2f}" if persistence else ""
    raise InvalidInputError(
        f"the baseline has {have} of {n} inferences{alike}. A promise needs {needed}: take a longer baseline, wider "
        "windows, or a fixed threshold"
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
