"""What a baseline's own windows say about what is usual, and whether that is enough for a promise.

The baseline is cut into windows of the assay's width in time order; each is scored against the rest, without its
neighbours. How alike consecutive rows and windows are decides the evidence. Independent rows: windows of rows in
shuffled order say most, because there can be many. Otherwise only the windows themselves count, and what one window
lets expect of the next is taken off it first: the residuals, not the windows, are independent.

A baseline of fewer than five windows carries no promise, nor one that spans the time in which correlation decays too
few times: five windows of frames that follow each other in one minute prove nothing about the next hour (see
`driftline.assay.decay`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import CategoryBaseline
from driftline.assay.decay import NO_DECAY, SPANS_MIN, Decay, brief_correlations, correlations, decay_of
from driftline.assay.health import BURSTS_OMNIBUS, BURSTS_SPREAD, health_of
from driftline.assay.hours import OpeningHours
from driftline.assay.independence import centred_ranks, doubt_of
from driftline.assay.observed import Floats, Part
from driftline.assay.own_windows import (
    WINDOWS_ENOUGH,
    WINDOWS_MIN,
    WINDOWS_TO_MEASURE,
    known_mean,
    own_statistics,
    own_statistics_of_rows,
    shuffled_windows,
)
from driftline.assay.season import Cycle, Usual, check_season, season_of, usual_of
from driftline.assay.statistics import (
    LOCATION,
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

# The mean of a baseline that wanders is worth one window's in so many decay times, and a degree of freedom comes in as
# many.
SPANS_A_WINDOW, SPANS_A_FREEDOM = 2.0, 4.0
# Statistics of few windows have heavier tails than normal ones; simulation showed 8 degrees of freedom to be safe, and
# two more for the mean and spread of independent rows, of which the central limit theorem speaks.
FREEDOM_WINDOWS = 8.0
FREEDOM_ROWS = 10.0
# Below this many windows that are compared with each other score and spread have heavier tails than a t variable (6 to
# 7 % of quiet runs alarmed at 5 to 10 windows): their evidence is bounded by rank.
WINDOWS_FOR_SHAPE = 12
# Windows whose skewness is this many standard errors from none come in bursts, too: a yes that is rare and lasts. Their
# size is not that of a normal law, and their evidence is bounded by rank.
SKEWED_ERRORS = 3.0
# The statistics that follow a wandering level.
WANDERING = (LOCATION, SPREAD, OMNIBUS)


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
    check_season(season, starts, None if hours is None else hours.asked(cycle))
    usual_then, relative = usual_of(season, starts, values, yardstick.floors)
    slots = np.array([season.slot(start) for start in starts])
    rows = [_rows([windows[i]]) for i in there]
    known = [row for row in rows if row is not None]
    seasonal = _Seasonal(usual_then, slots, known if len(known) == len(rows) else None)
    return _calibration(yardstick, relative, seasonal.rows, ordered=ordered, seed=seed, seasonal=seasonal)


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
    _refuse_below_least(count, n, rows.size)
    yardstick = yardstick_of(baseline, n)
    values = own_statistics_of_rows(yardstick, rows[: count * n].reshape(count, n))
    return _calibration(yardstick, values, rows, ordered=ordered, seed=seed)


def _refuse_below_least(count: int, n: int, rows: int | None = None) -> None:
    """Refuse what is no five windows; of values without windows say how many `rows` there are and would be needed."""
    if count >= WINDOWS_MIN:
        return
    has = "1 window" if count == 1 else f"{count} windows"
    if rows is None:
        raise InvalidInputError(
            f"the baseline has {has} of {n} inferences. A promise needs {WINDOWS_MIN}: take a longer baseline, "
            "narrower windows, or a fixed threshold"
        )
    makes = f"{'not one window' if count == 0 else f'only {has}'} of {n:,} inferences, as many as one usually has"
    raise InvalidInputError(
        f"the baseline's {rows:,} values make {makes}. A promise needs {WINDOWS_MIN} windows, {WINDOWS_MIN * n:,} "
        "values: give more, take a baseline in time or narrower windows, or a fixed threshold"
    )


def _too_short(decay: Decay, count: int, n: int, health: Sequence[str], *, seasonal: bool) -> InvalidInputError:
    # A baseline that drifts inside resembles itself for long, too, and more of it is no cure.
    drifts = [note for note in health if "trend" in note or "drifts" in note]
    third = "" if seasonal else ", a seasonal one (season='day') where values follow the hour,"
    return InvalidInputError(
        f"the baseline has {count} windows of {n} inferences, too few for their autocorrelation: values resemble "
        f"those of about {decay.time:.2g} windows before. A promise needs {max(decay.needed, count + 1)} windows: "
        f"take a longer baseline{third} or a fixed threshold" + "".join(f"; {note}" for note in drifts)
    )


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
            rows[inside] = centred_ranks(rows[inside]) / max(int(inside.sum()), 1)
        return rows

    def shuffled(self, yardstick: Yardstick, draw: np.random.Generator) -> Floats:
        """Return the statistics of windows dealt anew from the rows of their slot, relative to what is usual then."""
        windows, count = self.windows or (), self.slots.size
        found: list[Floats] = []
        for one in np.unique(self.slots):
            rows = np.concatenate([row for row, slot in zip(windows, self.slots, strict=True) if slot == one])
            found.append(self.usual.relative(shuffled_windows(yardstick, rows, draw, count), int(one)))
        values = np.concatenate(found)
        # They vary about their own season's mean alone, and a new day's mean is only known from other days: by this
        # factor of variance each.
        wider = count / np.maximum(count - np.array(self.usual.spent), 1)
        return known_mean(values) + (values - known_mean(values)) * wider

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

    @property
    def told(self) -> str:
        """What windows are relative to, in words."""
        matters = "" if self.usual.any else ", which makes no difference here"
        return f"relative to what is usual at their {self.usual.season.text}{matters}"


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """How a baseline's statistics vary without drift; numbers a statistic, as `Calibration` holds them.

    `decay` says how slowly they forget, `persistence` how far their spread lasts.
    """

    kind: Kind
    why: str
    rho: Floats
    size: Floats
    mean: Floats
    squares: Floats
    freedom: Floats
    decay: Decay = NO_DECAY
    persistence: float = 0.0


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
    ranks = None if rows is None else centred_ranks(rows)
    shuffled = _shuffled(yardstick, rows, np.random.default_rng(seed), seasonal)
    doubt = doubt_of(values, ranks, shuffled, ordered=ordered)
    if shuffled is not None and doubt is None:
        law = _law_of_rows(shuffled, count, ordered=ordered)
    else:
        law = _law_of_windows(yardstick, values, ranks, f"{doubt}: windows are compared with windows", seasonal)
    brief = brief_correlations(yardstick, ranks, law.rho)
    health = health_of(values, brief, law.persistence) if ordered else []
    if not (law.decay.enough if seasonal is None else law.decay.spans >= SPANS_MIN):
        raise _too_short(law.decay, count, yardstick.n, health, seasonal=seasonal is not None)
    return Calibration(
        kind=law.kind,
        why=law.why if seasonal is None else f"{law.why}; {seasonal.told}",
        n=yardstick.n,
        windows=count,
        effective=round(count * min(1.0, 0.5 / max(law.decay.time, 1e-9)), 2),
        seed=seed,
        scale=yardstick.scale,
        rho=_tuple(law.rho),
        size=_tuple(law.size),
        mean=_tuple(law.mean),
        squares=_tuple(law.squares),
        freedom=_tuple(law.freedom),
        freedom_max=_freedom_max(law, seasonal),
        floor=_tuple(yardstick.floors),
        bounded=_bounded(law, values),
        health=tuple(health),
        season=None if seasonal is None else seasonal.usual,
    )


def _shuffled(
    yardstick: Yardstick | CategoryYardstick,
    rows: Floats | None,
    draw: np.random.Generator,
    seasonal: _Seasonal | None,
) -> Floats | None:
    """Return the statistics of windows of the same rows in shuffled order; None where rows are not known."""
    if rows is None or not isinstance(yardstick, Yardstick):
        return None
    if seasonal is not None:
        return seasonal.shuffled(yardstick, draw)
    return shuffled_windows(yardstick, rows, draw, rows.size // yardstick.n)


def _law_of_rows(shuffled: Floats, count: int, *, ordered: bool) -> _Law:
    """Return how windows of independent rows vary, of which a baseline of `count` windows makes many."""
    why = "rows in time order show no autocorrelation: independent rows"
    if not ordered:
        why = "independence assumed: rows are not in time order"
    elif count < WINDOWS_TO_MEASURE:
        why = f"independence assumed: only {count} windows"
    return _Law(
        "rows",
        why,
        rho=np.zeros(len(NAMES)),
        size=np.full(len(NAMES), float(count)),
        mean=known_mean(shuffled),
        squares=_squares(shuffled),
        # Each shuffle deals out the same rows, and its windows vary about their mean alone.
        freedom=np.full(len(NAMES), len(shuffled) * (1 - 1 / count)),
    )


def _law_of_windows(
    yardstick: Yardstick | CategoryYardstick,
    values: Floats,
    ranks: Floats | None,
    why: str,
    seasonal: _Seasonal | None,
) -> _Law:
    """Return how the windows themselves vary, less what each lets expect of the next."""
    count = len(values)
    decay = decay_of(yardstick, values, ranks, 0.0 if seasonal is None else seasonal.between)
    rho, persistence = correlations(yardstick, values, decay, () if seasonal is None else seasonal.parts)
    residuals = values[1:] - rho * values[:-1]
    alone = rho == 0
    size = np.where(alone, count, count - 1.0)
    mean = np.where(alone, known_mean(values), known_mean(residuals))
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
    return _Law("windows", why, rho, size, mean, squares, freedom, decay, persistence)


def _freedom_max(law: _Law, seasonal: _Seasonal | None) -> tuple[float, ...]:
    """Return how many degrees of freedom are believed at most, of each statistic."""
    cap = FREEDOM_WINDOWS if seasonal is not None else min(FREEDOM_WINDOWS, law.decay.spans / SPANS_A_FREEDOM)
    caps = (FREEDOM_ROWS, FREEDOM_ROWS, cap) if law.kind == "rows" else (cap, cap, cap)
    return (*caps, FREEDOM_WINDOWS, FREEDOM_WINDOWS)


def _bounded(law: _Law, values: Floats) -> tuple[bool, ...]:
    """Say of which statistics the evidence is limited by rank, because windows of them have heavier tails than t."""
    few = law.kind == "windows" and len(values) < WINDOWS_FOR_SHAPE
    skewed = _skewed(values) if law.kind == "windows" else (False, False, False)
    return (
        skewed[LOCATION],
        few or skewed[SPREAD] or law.persistence >= BURSTS_SPREAD,
        few or skewed[OMNIBUS] or law.persistence >= BURSTS_OMNIBUS,
        False,
        False,
    )


def _skewed(values: Floats) -> tuple[bool, bool, bool]:
    """Say whether windows' location, spread and omnibus score are too skewed for a normal law."""
    distance = np.where(np.isnan(values), 0.0, values - known_mean(values))
    cubes, squares = (distance**3).sum(axis=0), (distance**2).sum(axis=0)
    # Not divided: of a constant field both are zero. One that a window lacks counts as usual.
    far = np.abs(cubes) > SKEWED_ERRORS * math.sqrt(6) / len(values) * squares**1.5
    return bool(far[LOCATION]), bool(far[SPREAD]), bool(far[OMNIBUS])


def _squares(values: Floats) -> Floats:
    distance = np.where(np.isnan(values), 0.0, values - known_mean(values))
    return (distance * distance).sum(axis=0)


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in values)
