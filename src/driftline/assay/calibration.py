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
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import CategoryBaseline
from driftline.assay.observed import Floats, Observed, Part
from driftline.assay.season import Cycle, OpeningHours, Usual, check_season, season_of, usual_of
from driftline.assay.statistics import (
    LOCATION,
    MISSING,
    NAMES,
    OMNIBUS,
    SPREAD,
    CategoryYardstick,
    Scale,
    WindowStatistics,
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
# A window that helped to choose the edges it is counted between looks more like the baseline than the next one will:
# of scenes that repeat, windows' spread varied half as much. Below so many windows the edges are those of the others,
# left out in so many blocks; beyond, a window's own part in them is small.
ALONE_FROM, FOLDS = 50, 10
# How many lags the test of independence looks at, and at which level it doubts.
LAGS = 20
DOUBT = 0.01
# Below this many windows that are compared with each other score and spread have heavier tails than a t variable (6 to
# 7 % of quiet runs alarmed at 5 to 10 windows): their evidence is bounded by rank.
WINDOWS_FOR_SHAPE = 12
# Where windows resemble their predecessors this much, score and spread come in bursts whose size a few windows cannot
# tell; their evidence is then bounded so, too.
BURSTS_OMNIBUS, BURSTS_SPREAD = 0.2, 0.5
# Windows whose skewness is this many standard errors from none come in bursts, too: a yes that is rare and lasts. Their
# size is not that of a normal law, and their evidence is bounded by rank.
SKEWED_ERRORS = 3.0
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
    how many independent windows the `windows` are worth; `kind` and `why` say which evidence is used. With a `season`
    all this is of statistics relative to what is usual at their time (see `adjusted`).
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
    season: Usual | None = None

    def adjusted(self, window: WindowStatistics, start_ns: int | None) -> WindowStatistics:
        """Return a window's statistics as this calibration judges them: relative to their season, where it has one.

        Raises:
            InvalidInputError: it has a season, and nobody said when the window begins.
        """
        if self.season is None:
            return window
        if start_ns is None:
            raise InvalidInputError(
                f"the baseline is seasonal, by {self.season.season.text}; say when each window begins (start_ns)"
            )
        return self.season.adjusted(window, start_ns)

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; `Calibration.of` reads it back."""
        document = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.season is None:
            del document["season"]
        return document

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Calibration":
        """Read a document."""
        fields: dict[str, Any] = dict(document)
        for name, value in document.items():
            if isinstance(value, list):
                fields[name] = tuple(cast("list[Any]", value))
        if fields.get("season") is not None:
            fields["season"] = Usual.of(fields["season"])
        return Calibration(**fields)


def calibrate(
    baseline: BaselineData | CategoryBaseline,
    *,
    n: int | None = None,
    windows: Sequence[Sequence[Part]] | None = None,
    ordered: bool = True,
    seed: int = 0,
    starts_ns: Sequence[int] | None = None,
    cycle: Cycle | None = None,
    zone: str = "UTC",
    hours: OpeningHours | None = None,
) -> Calibration:
    """Calibrate on a baseline's own windows.

    Give its `windows` in time order, each as its parts, or nothing: then its raw values are cut in their order into
    windows of `n` inferences. Rows that are not in time order (`ordered` False) are assumed to be independent.

    With a `cycle` ("day", or "week" for hour and weekday) windows are judged relative to what is usual at their local
    time in `zone`; `starts_ns` says when each of the windows begins. Give the opening `hours` where it does not hold
    every hour because the site is closed.

    Raises:
        InvalidInputError: the baseline carries no promise; the message says how many windows it needs, or how much
            longer it must be to know every hour of the cycle.
    """
    if cycle is not None:
        windows, starts_ns = _in_time(baseline, n, windows, starts_ns)
    elif windows is None:
        if isinstance(baseline, CategoryBaseline):
            raise InvalidInputError(
                "the baseline is text that came without its windows; a promise on text needs a baseline in time"
            )
        return _of_rows(baseline, n, ordered=ordered, seed=seed)
    # What a baseline read, its yardstick measures: numbers or categories.
    every: list[Any] = [baseline.read(parts) for parts in windows]
    there = [i for i, window in enumerate(every) if window.n]
    read = [every[i] for i in there]
    usual = n or int(np.median([window.n for window in read] or [1]))
    _refuse_below_least(len(read), usual)
    yardstick = yardstick_of(baseline, usual)
    values = own_statistics(yardstick, read, np.arange(len(read)))
    if cycle is None or starts_ns is None:
        return _calibration(yardstick, values, _rows(windows), ordered=ordered, seed=seed)
    starts = [starts_ns[i] for i in there]
    season = season_of(starts, zone, cycle)
    check_season(season, starts, hours)
    usual_then, relative = usual_of(season, starts, values, yardstick.floors)
    slots = np.array([season.slot(start) for start in starts])
    rows = [_rows([windows[i]]) for i in there]
    known = [row for row in rows if row is not None]
    seasonal = _Seasonal(usual_then, slots, known if len(known) == len(rows) else None)
    return _calibration(yardstick, relative, seasonal.rows, ordered=ordered, seed=seed, seasonal=seasonal)


def own_statistics(yardstick: Yardstick | CategoryYardstick, read: Sequence[Any], at: NDArray[np.int64]) -> Floats:
    """Return the statistics of some of a baseline's own windows, (windows, 5): each against all but its neighbourhood.

    `read` are all windows in time order, as the baseline reads them.
    """
    apart = _apart(len(read))
    if isinstance(yardstick, Yardstick) and len(read) < ALONE_FROM:
        found = np.full((len(read), len(NAMES)), np.nan)
        for first, end in _folds(len(read)):
            rest = [piece for one in (*read[: max(0, first - apart)], *read[end + apart :]) for piece in one.pieces]
            other = replace(yardstick, baseline=BaselineData(Observed(rest), yardstick.baseline.field_type))
            for i in range(first, end):
                found[i] = other.measured(read[i]).values
        return found[at]
    return np.array([yardstick.measured(read[i], read[max(0, i - apart) : i + apart + 1]).values for i in at.tolist()])


def _folds(count: int) -> list[tuple[int, int]]:
    """Return the windows that are left out together, as [first, end): each alone, or in some blocks of neighbours."""
    ends = np.linspace(0, count, min(count, FOLDS) + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def _in_time(
    baseline: BaselineData | CategoryBaseline,
    n: int | None,
    windows: Sequence[Sequence[Part]] | None,
    starts_ns: Sequence[int] | None,
) -> tuple[Sequence[Sequence[Part]], Sequence[int]]:
    """Return a baseline's windows and when each begins."""
    if windows is None and isinstance(baseline, BaselineData) and baseline.raw is not None and n:
        count = baseline.raw.size // n
        windows = [[Part(values=rows)] for rows in baseline.raw[: count * n].reshape(count, n)]
    if windows is None or starts_ns is None or len(starts_ns) != len(windows):
        raise InvalidInputError("a seasonal baseline needs its windows and when each of them begins (starts_ns)")
    return windows, starts_ns


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
    values = _of_own_rows(yardstick, rows[: count * n].reshape(count, n))
    return _calibration(yardstick, values, rows, ordered=ordered, seed=seed)


def _of_own_rows(yardstick: Yardstick, windows: Floats) -> Floats:
    """Do `own_statistics` for all windows of raw values at once, shape (windows, rows) → (windows, 5)."""
    count, apart = len(windows), _apart(len(windows))
    if count >= ALONE_FROM:
        return yardstick.measure_rows(windows, apart)
    values = np.empty((count, len(NAMES)))
    for first, end in _folds(count):
        rest = np.concatenate((windows[: max(0, first - apart)], windows[end + apart :])).ravel()
        other = replace(yardstick, baseline=BaselineData.of_values(rest, yardstick.baseline.field_type))
        values[first:end] = other.measure_rows(windows[first:end])
    return values


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


@dataclass(frozen=True, slots=True, eq=False)
class _Seasonal:
    """A season, the slot of each baseline window, and the windows' rows where they are known."""

    usual: Usual
    slots: NDArray[np.int64]
    windows: Sequence[Floats] | None

    @property
    def rows(self) -> Floats | None:
        """All rows in their order, each as its rank among those of its slot, from -1 to 1."""
        if self.windows is None:
            return None
        rows = np.concatenate(self.windows)
        slot = np.repeat(self.slots, [row.size for row in self.windows])
        for one in np.unique(slot):
            inside = (slot == one) & ~np.isnan(rows)
            rows[inside] = _centred_ranks(rows[inside]) / max(int(inside.sum()), 1)
        return rows

    def shuffled(self, yardstick: Yardstick, seed: int) -> Floats:
        """Return the statistics of windows dealt anew from the rows of their slot, relative to what is usual then."""
        windows, n, count = self.windows or (), yardstick.n, self.slots.size
        draw = np.random.default_rng(seed)
        found: list[Floats] = []
        for one in np.unique(self.slots):
            rows = np.concatenate([row for row, slot in zip(windows, self.slots, strict=True) if slot == one])
            size = rows.size // n
            for _ in range(-(-SHUFFLED // max(count, 1))):
                dealt = yardstick.measure_rows(draw.permutation(rows)[: size * n].reshape(size, n), 0)
                found.append(self.usual.relative(dealt, int(one)))
        values = np.concatenate(found)
        # They vary about their own season's mean alone, and a new day's mean is only known from other days: by this
        # factor of variance each.
        wider = count / np.maximum(count - np.array(self.usual.spent), 1)
        return _mean(values) + (values - _mean(values)) * wider

    @property
    def parts(self) -> list[NDArray[np.bool_]]:
        """Which windows begin in the whole cycle, and in each quarter of a day."""
        quarter = self.slots * self.usual.season.slot_s // (6 * 3600) % 4
        return [np.ones(self.slots.size, dtype=bool), *(quarter == one for one in range(4))]

    @property
    def between(self) -> float:
        """The variance of windows' location that is their season's."""
        curve = self.usual.centre[LOCATION]
        return float(np.var(np.array(curve)[self.slots])) if curve else 0.0


def _calibration(
    yardstick: Yardstick | CategoryYardstick,
    values: Floats,
    rows: Floats | None,
    *,
    ordered: bool,
    seed: int,
    seasonal: _Seasonal | None = None,
) -> Calibration:
    count = len(values)
    shuffled = None
    if rows is not None and isinstance(yardstick, Yardstick):
        shuffled = _shuffled(yardstick, rows, seed) if seasonal is None else seasonal.shuffled(yardstick, seed)
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
        decay = _decay(yardstick, values, ranks, 0.0 if seasonal is None else seasonal.between)
        rho, persistence = _correlations(yardstick, values, decay, seasonal)
        residuals = values[1:] - rho * values[:-1]
        alone = rho == 0
        size = np.where(alone, count, count - 1.0)
        mean = np.where(alone, _mean(values), _mean(residuals))
        squares = np.where(alone, _squares(values), _squares(residuals))
        # Estimating what is taken off costs a degree of freedom.
        freedom = size - 1 - ~alone
        if seasonal is not None:
            # A season's curve costs some, too; how far it is off stands in the squares already, and stays there.
            left = np.maximum(freedom - np.array(seasonal.usual.spent), 1.0)
            squares, freedom = squares * left / freedom, left
        else:
            # The variance of a wandering level is proportional to the decay time, and so uncertain as that. A season's
            # windows were predicted from other days, so what wanders from day to day stands in their squares.
            squares[list(WANDERING)] *= decay.doubt
            size[list(WANDERING)] = np.minimum(size, decay.spans / SPANS_A_WINDOW)[list(WANDERING)]
    if seasonal is not None:
        matters = "" if seasonal.usual.any else ", which makes no difference here"
        why = f"{why}; relative to what is usual at their {seasonal.usual.season.text}{matters}"
    health = _health(values, _briefly(yardstick, ranks, rho), persistence) if ordered else []
    if not (decay.enough if seasonal is None else decay.spans >= SPANS_MIN):
        raise _too_short(decay, count, yardstick.n, health, seasonal=seasonal is not None)
    cap = FREEDOM_WINDOWS if seasonal is not None else min(FREEDOM_WINDOWS, decay.spans / SPANS_A_FREEDOM)
    caps = (FREEDOM_ROWS, FREEDOM_ROWS, cap) if kind == "rows" else (cap, cap, cap)
    few = kind == "windows" and count < WINDOWS_FOR_SHAPE
    skewed = _skewed(values) if kind == "windows" else (False, False, False)
    bounded = (
        skewed[LOCATION],
        few or skewed[SPREAD] or persistence >= BURSTS_SPREAD,
        few or skewed[OMNIBUS] or persistence >= BURSTS_OMNIBUS,
        False,
        False,
    )
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
        season=None if seasonal is None else seasonal.usual,
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


def _decay(
    yardstick: Yardstick | CategoryYardstick, values: Floats, ranks: Floats | None, between: float = 0.0
) -> _Decay:
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
    total = _product(distance, distance)
    if not total > len(column) * floor * floor:
        return 0.0
    found = _product(distance[1:], distance[:-1]) / total
    return found + (1 + 4 * found) / len(column)  # Kendall (1954): short series look less correlated than they are


def _distance(column: Floats) -> Floats:
    """Return how far each window lies from the mean; one that is not known lies there."""
    return np.where(np.isnan(column), 0.0, column - _mean(column[:, None])[0])


def _briefly(yardstick: Yardstick | CategoryYardstick, ranks: Floats | None, rho: Floats) -> Floats:
    """Return the correlations of windows if rows resembled each other as long as consecutive ones let expect.

    A baseline that drifts inside is correlated at every lag; taken off, its drift would not be seen.
    """
    if ranks is None or not rho.any():
        return rho
    alike = _product(ranks[1:], ranks[:-1]) / _product(ranks, ranks)
    time = -1 / math.log(min(max(alike, 1e-9), 1 - 1e-9))
    return np.minimum(rho, float(np.interp(time / yardstick.n, _TIMES, _CORRELATIONS)))


def _correlations(
    yardstick: Yardstick | CategoryYardstick, values: Floats, decay: _Decay, seasonal: _Seasonal | None = None
) -> tuple[Floats, float]:
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
        if seasonal is not None:
            distance = _distance(values[:, statistic])
            rho[statistic] = max(rho[statistic], *(_lasting(distance, part) for part in seasonal.parts))
        if statistic == LOCATION:
            ours, theirs = error**-2, (((most - expected) / CAUTION) ** 2 + MODEL_ERROR**2) ** -1
            best = (ours * found + theirs * expected) / (ours + theirs)
    return np.clip(rho, 0.0, RHO_MAX), min(max(best, 0.0), RHO_MAX)


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


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse_below_least(count: int, n: int) -> None:
    if count < WINDOWS_MIN:
        raise InvalidInputError(
            f"the baseline has {'1 window' if count == 1 else f'{count} windows'} of {n} inferences. A promise needs "
            f"{WINDOWS_MIN}: take a longer baseline, narrower windows, or a fixed threshold"
        )


def _too_short(decay: _Decay, count: int, n: int, health: Sequence[str], *, seasonal: bool) -> InvalidInputError:
    # A baseline that drifts inside resembles itself for long, too, and more of it is no cure.
    drifts = [note for note in health if "trend" in note or "drifts" in note]
    third = "" if seasonal else ", a seasonal one (season='day') where values follow the hour,"
    return InvalidInputError(
        f"the baseline has {count} windows of {n} inferences, too few for their autocorrelation: values resemble "
        f"those of about {decay.time:.2g} windows before. A promise needs {max(decay.needed, count + 1)} windows: "
        f"take a longer baseline{third} or a fixed threshold" + "".join(f"; {note}" for note in drifts)
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
