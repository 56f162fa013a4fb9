"""What is usual at this hour: seasons of day and week in a site's own time.

Windows of day and night are not exchangeable; compared with all day, every night is an alarm or nothing is. So each
statistic of a window is taken relative to what the baseline's windows of the same local time show: less their centre,
divided by how much they vary. The time of day is cut into slots (quarters of an hour, where windows are that short),
and few windows a slot are made to do by pooling neighbouring slots: how widely, or that the time of day does not matter
at all, is what predicts the baseline's own days best, each from the others. The same predictions are what evidence is
calibrated on, so that the price of estimating a season is paid and not guessed.

Local time is what the clock on the wall shows: a shop that opens at seven opens at seven in summer, too. In the night
in which an hour comes twice, both are that hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from driftline.assay.observed import Floats
from driftline.assay.statistics import WindowStatistics
from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError

Cycle = Literal["day", "week"]
Indices = NDArray[np.int64]

HOUR_S, DAY_S = 3600, 86_400
# A slot is no longer than an hour and no shorter than a quarter: lights go on at full and half hours, dawn takes two.
SLOTS_S = (900, 1800, 3600)
# Every hour must have come this often: of what came once nobody knows how much it varies.
TURNS_MIN = 2
# How many neighbouring slots to either side may be pooled, with weights that fall linearly.
WIDTHS = (0, 1, 2, 4, 8)
# A season's spread is drawn to that of all windows as by this many of them.
PRIOR_WINDOWS = 8.0
# By less than this share another width, by less than this logarithm another spread, is better by chance alone.
BETTER, LIKELIER = 0.01, 2.0
# The standard deviation of a normal variable, in parts of its mean distance from the centre.
SD_PER_DISTANCE = 1.2533


# ── time of day and of week ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Season:
    """A cycle of local time, cut into slots of `slot_s` seconds.

    >>> season = Season("day", "Europe/Zurich", 3600)
    >>> season.slots, season.slot(0)  # 1970 began at one o'clock there
    (24, 1)
    """

    cycle: Cycle
    zone: str
    slot_s: int

    @property
    def cycle_s(self) -> int:
        """How long the cycle is."""
        return DAY_S if self.cycle == "day" else 7 * DAY_S

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self.cycle_s // self.slot_s

    @property
    def text(self) -> str:
        """Say what is compared, in words.

        >>> Season("week", "UTC", 3600).text
        'hour of day and weekday (UTC)'
        """
        return f"{'hour of day' if self.cycle == 'day' else 'hour of day and weekday'} ({self.zone})"

    def slot(self, start_ns: int) -> int:
        """Return the slot that a time lies in."""
        return self._place(start_ns)[1] // self.slot_s

    def places(self, starts_ns: Sequence[int]) -> tuple[Indices, Indices]:
        """Return which turn of the cycle, and which second of it, each time lies in; shape (times,) each."""
        places = np.array([self._place(start) for start in starts_ns], dtype=np.int64).reshape(-1, 2)
        return places[:, 0], places[:, 1]

    def _place(self, start_ns: int) -> tuple[int, int]:
        day, second = _local(start_ns // NS_PER_S, self.zone)
        # Day 1 of the proleptic calendar was a Monday.
        return (day, second) if self.cycle == "day" else ((day - 1) // 7, (day - 1) % 7 * DAY_S + second)


def season_of(starts_ns: Sequence[int], zone: str = "UTC", cycle: Cycle = "day") -> Season:
    """Describe the season of windows that begin at these times: slots as fine as the windows are.

    >>> season_of([0, 180 * NS_PER_S, 360 * NS_PER_S]).slot_s
    900

    Raises:
        InvalidInputError: no such cycle or time zone.
    """
    if cycle not in {"day", "week"}:
        raise InvalidInputError(
            f"a season of {cycle!r} is not known; it is 'day' (hour of day) or 'week' (and weekday)"
        )
    zone_of(zone)
    spacing = _spacing_s(starts_ns)
    return Season(cycle, zone, next((slot for slot in SLOTS_S if spacing <= slot), SLOTS_S[-1]))


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidInputError: no such zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"there is no time zone {name!r}; give an IANA name such as 'Europe/Zurich', or 'UTC'"
        ) from error


# Every stream of an assay asks for the same window's time.
@lru_cache(maxsize=65_536)
def _local(second: int, zone: str) -> tuple[int, int]:
    local = datetime.fromtimestamp(second, zone_of(zone))
    return local.toordinal(), local.hour * HOUR_S + local.minute * 60 + local.second


def _spacing_s(starts_ns: Sequence[int]) -> float:
    apart = np.diff(np.array(sorted(starts_ns), dtype=np.int64))
    apart = apart[apart > 0]
    return float(np.median(apart)) / NS_PER_S if apart.size else float(HOUR_S)


def check_season(season: Season, starts_ns: Sequence[int], asked: NDArray[np.bool_] | None = None) -> None:
    """Refuse a baseline in which an hour of the cycle, of those `asked` for (all), came fewer than two times.

    `asked` has shape (hours of the cycle,): those in which a site is open (see `driftline.assay.hours`).

    Raises:
        InvalidInputError: the message says how much longer the baseline must be.
    """
    turns, seconds = season.places(starts_ns)
    covered = max(1, round(min(_spacing_s(starts_ns), season.cycle_s) / HOUR_S))
    per_cycle = season.cycle_s // HOUR_S
    every = (seconds[:, None] // HOUR_S + np.arange(covered)) % per_cycle
    seen = np.unique(np.stack((every, np.broadcast_to(turns[:, None], every.shape)), -1).reshape(-1, 2), axis=0)
    times = np.bincount(seen[:, 0], minlength=per_cycle)
    asked = np.ones(per_cycle, dtype=bool) if asked is None else asked
    lacking = int(np.max(np.where(asked, TURNS_MIN - times, 0), initial=0))
    if lacking <= 0:
        return
    once, twice = int((times[asked] >= 1).sum()), int((times[asked] >= TURNS_MIN).sum())
    unit = f"{season.cycle}{'s' if lacking > 1 else ''}"
    raise InvalidInputError(
        f"the baseline holds {once} h of the {season.cycle}'s {int(asked.sum())}, {twice} of them twice; a seasonal "
        f"promise needs each hour twice: take a baseline that is {lacking} {unit} longer, or give the opening hours"
    )


# ── what is usual ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Usual:
    """What each statistic usually is in each slot of a season: a curve a statistic, empty where time does not matter.

    A statistic less its `centre` is divided by its `spread`, which is 1 in the mean. `width` is how many neighbouring
    slots were pooled to either side, `spent` how many degrees of freedom the centre cost.
    """

    season: Season
    centre: tuple[tuple[float, ...], ...]
    spread: tuple[tuple[float, ...], ...]
    width: tuple[int, ...]
    spent: tuple[float, ...]

    @property
    def any(self) -> bool:
        """Whether the time matters to any statistic."""
        return any(self.centre) or any(self.spread)

    def adjusted(self, window: WindowStatistics, start_ns: int) -> WindowStatistics:
        """Return a window's statistics relative to what is usual when it begins."""
        values = self.relative(np.array([window.values]), self.season.slot(start_ns))
        return WindowStatistics(window.count, window.missing, tuple(values[0].tolist()))

    def relative(self, values: Floats, slot: int) -> Floats:
        """Return the statistics of many windows of one slot relative to it, shape (windows, statistics)."""
        centre = np.array([curve[slot] if curve else 0.0 for curve in self.centre])
        return (values - centre) / np.array([curve[slot] if curve else 1.0 for curve in self.spread])

    def spreads(self, start_ns: int) -> tuple[float, ...]:
        """Return what each statistic's distance was divided by."""
        slot = self.season.slot(start_ns)
        return tuple(spread[slot] if spread else 1.0 for spread in self.spread)

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Usual":
        """Read what `dataclasses.asdict` made, also after JSON."""
        curves = {name: tuple(tuple(curve) for curve in document[name]) for name in ("centre", "spread")}
        rest = {name: tuple(document[name]) for name in ("width", "spent")}
        return Usual(season=Season(**document["season"]), **curves, **rest)


def usual_of(season: Season, starts_ns: Sequence[int], values: Floats, floors: Floats) -> tuple[Usual, Floats]:
    """Fit what is usual to a baseline's windows, shape (windows, statistics), and return them relative to it.

    What is returned beside the fit is each turn's windows relative to what **all other turns** let expect: that is how
    far a new day lies from what the baseline knows. `floors` are the least standard deviations, shape (statistics,).
    """
    turns, seconds = season.places(starts_ns)
    slots = seconds // season.slot_s
    _, turn = np.unique(turns, return_inverse=True)
    fits = [_Curves(column, slots, turn, season).fitted(floor) for column, floor in zip(values.T, floors, strict=True)]
    centre, spread, width, spent, relative = zip(*fits, strict=True)
    return Usual(season, centre, spread, width, spent), np.column_stack(relative)


class _Curves:
    """One statistic's values by turn and slot."""

    def __init__(self, values: Floats, slots: Indices, turn: Indices, season: Season) -> None:
        self.values, self.slots, self.turn = values, slots, turn
        self.known = ~np.isnan(values)
        self.shape = (int(turn.max()) + 1, season.slots)
        self.hour = max(1, HOUR_S // season.slot_s)

    def fitted(self, floor: float) -> tuple[tuple[float, ...], tuple[float, ...], int, float, Floats]:
        """Return centre, spread, width, what it cost, and the values relative to what other turns let expect."""
        count = self._sums(np.ones_like(self.values))
        total = self._sums(self.values)
        every = max(float(count.sum()), 1.0)
        flat = self._others(total.sum(axis=1, keepdims=True), count.sum(axis=1, keepdims=True))
        plain = self._distance(np.broadcast_to(flat, self.shape))
        best, width, expected = float(np.abs(plain).sum()), -1, np.broadcast_to(flat, self.shape)
        for pooled in WIDTHS:
            if 2 * pooled + 1 > self.shape[1]:
                break
            others = self._filled(total.sum(axis=0) - total, count.sum(axis=0) - count, pooled)
            error = float(np.abs(self._distance(others)).sum())
            if error < best * (1 - BETTER):
                best, width, expected = error, pooled, others
        spread, divisor = self._spread(np.abs(self._distance(expected)), count, every, floor)
        if width < 0 and not spread:
            return (), (), width, 0.0, self.values
        relative = (self.values - expected[self.turn, self.slots]) / divisor
        if width < 0:
            return _short(np.full(self.shape[1], total.sum() / every)), spread, width, 0.0, relative
        of_slot = count.sum(axis=0)
        curve = self._filled(total.sum(axis=0)[None], of_slot[None], width)[0]
        pooled_windows = _weights(self.shape[1], width) @ of_slot
        spent = float((of_slot / np.maximum(pooled_windows, 1.0)).sum()) - 1.0
        return _short(curve), spread, width, round(max(spent, 0.0), 2), relative

    def _spread(self, distance: Floats, count: Floats, every: float, floor: float) -> tuple[tuple[float, ...], Floats]:
        """Return how much each slot varies in parts of all windows, and what each window is divided by."""
        one = np.ones_like(self.values)
        mean = float(distance.sum()) / every
        least = floor / SD_PER_DISTANCE
        if mean <= least:
            return (), one
        total = self._sums(distance)
        spread = self._shrunk(total.sum(axis=0)[None], count.sum(axis=0)[None], mean)[0]
        others = self._shrunk(total.sum(axis=0) - total, count.sum(axis=0) - count, mean)
        spread, others = np.maximum(spread, least), np.maximum(others, least)
        divisor = others[self.turn, self.slots]
        # By the likelihood of a Laplace distribution, which forgives an outlier.
        seasonal = float(np.where(self.known, np.log(divisor) + distance / divisor, 0.0).sum())
        plain = float(np.where(self.known, np.log(mean) + distance / mean, 0.0).sum())
        if seasonal >= plain - LIKELIER:
            return (), one
        return _short(spread / mean), divisor / mean

    def _sums(self, values: Floats) -> Floats:
        flat = self.turn * self.shape[1] + self.slots
        weights = np.where(self.known, values, 0.0)
        sums = np.bincount(flat, weights, self.shape[0] * self.shape[1])
        return sums.astype(np.float64).reshape(self.shape)

    def _others(self, total: Floats, count: Floats) -> Floats:
        """Return the mean of all other turns, shape (turns, 1)."""
        return (total.sum() - total) / np.maximum(count.sum() - count, 1.0)

    def _distance(self, expected: Floats) -> Floats:
        return np.where(self.known, self.values - expected[self.turn, self.slots], 0.0)

    def _filled(self, total: Floats, count: Floats, width: int) -> Floats:
        """Return the pooled mean of each slot, of the narrowest width from this one on that knows any window."""
        mean = total.sum(axis=1, keepdims=True) / np.maximum(count.sum(axis=1, keepdims=True), 1.0)
        curve = np.full_like(total, np.nan)
        slots = self.shape[1]
        # At last the whole cycle; twice as wide each time finds a neighbour soon.
        while np.isnan(curve).any() and 2 * width + 1 <= slots:
            weights = _weights(slots, width)
            size = count @ weights
            curve = np.where(np.isnan(curve) & (size > 0), total @ weights / np.maximum(size, 1e-300), curve)
            width = max(1, 2 * width)
        return np.where(np.isnan(curve), mean, curve)

    def _shrunk(self, total: Floats, count: Floats, mean: float) -> Floats:
        """Return the mean distance in each slot and an hour about it, drawn to that of all windows."""
        weights = _weights(self.shape[1], min(self.hour, (self.shape[1] - 1) // 2))
        return (total @ weights + PRIOR_WINDOWS * mean) / (count @ weights + PRIOR_WINDOWS)


@lru_cache(maxsize=64)
def _weights(slots: int, width: int) -> Floats:
    """Return how much each slot counts for each, shape (slots, slots): less with distance, round the cycle."""
    apart = np.abs(np.arange(slots)[:, None] - np.arange(slots))
    nearest = np.minimum(apart, slots - apart).astype(np.float64)
    return np.maximum(1 - nearest / (width + 1), 0.0)


def _short(curve: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in curve)
