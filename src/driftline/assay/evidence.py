"""Evidence that accumulates: how a promise about false alarms is kept, window by window.

Each window's statistics are compared with what the baseline's windows predict. The residual is a t variable as long as
nothing changed; for each of several shifts the likelihood ratio of t distributions then has mean one: an e-value. The
Shiryaev-Roberts detector of each shift, M ← (M + weight) × e, adds up to one detector whose mean time to a false alarm
is at least the level at which it alarms. Those shifts that explained the last windows weigh most in the next one: the
detector learns the direction of a small, lasting shift.

The residuals are recursive: each window is compared with the baseline **and** all windows admitted since, because the
error of a short baseline's mean persists and would compound. A window is admitted late, and only if neither it nor one
after it was suspicious, so that a drifted window does not become usual.

Sources: Shin, Ramdas & Rinaldo (2023), E-detectors; Vovk & Wang (2021), E-values; Brown, Durbin & Evans (1975) for
recursive residuals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from driftline.assay.calibration import Calibration
from driftline.assay.observed import Floats
from driftline.assay.statistics import LOCATION, MISSING, NAMES, OMNIBUS, OUTSIDE, SPREAD, WindowStatistics
from driftline.errors import InvalidInputError
from driftline.wire.api import Status

# Shifts that are looked for, in standard deviations of a window's statistic: from what takes dozens of windows to see
# to what one window proves.
SHIFTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# How the evidence is shared out before any window has come.
SHARES = {LOCATION: 0.4, SPREAD: 0.2, OMNIBUS: 0.2, MISSING: 0.1, OUTSIDE: 0.1}
# A window this unlikely is not taken for usual.
SUSPICIOUS = 0.001
# How many windows later one is admitted: a drift is mostly seen by then.
ADMITTED_AFTER = 5
# This many windows in a row that speak against drift end an incident.
CALM_WINDOWS = 5
# Beyond ten times the alarm level further evidence would only delay the end of the incident.
CAP = 10.0
# Warning begins here, in parts of the alarm level.
WARNING = 0.1
# So many streams take a step together: their arrays stay in the processor's cache, and few objects live at once.
_BLOCK = 1024
# Fewer values than this make any statistic a lottery.
MIN_COUNT = 20


def _lines() -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return which statistic each line of evidence watches, for which shift, and its weight."""
    of: list[int] = []
    shift: list[float] = []
    weight: list[float] = []
    for statistic, share in SHARES.items():
        # An omnibus score only grows with drift. Shares near zero are too skewed for a likelihood ratio of t's: NaN.
        ups = [math.nan] if statistic in {MISSING, OUTSIDE} else list(SHIFTS)
        # Far beyond the largest shift that is looked for its ratio falls again; there the tail speaks.
        both = ups if statistic in {OMNIBUS, MISSING, OUTSIDE} else [*ups, *(-up for up in ups), math.nan]
        of += [statistic] * len(both)
        shift += both
        weight += [share / len(both)] * len(both)
    return np.array(of, dtype=np.int64), np.array(shift), np.array(weight)


_OF, _SHIFT, _WEIGHT = _lines()
_TAIL = np.isnan(_SHIFT)
_BOTH_SIDES = np.isin(np.arange(len(NAMES)), (LOCATION, SPREAD))


@dataclass(frozen=True, slots=True)
class State:
    """What one stream remembers from window to window; small, and the same whenever it is recomputed.

    `evidence` is a number a line (see `_lines`); `size`, `mean`, `squares`, `freedom` are those of the calibration and
    of the windows admitted since; `last` are the last window's statistics; `waiting` are residuals not admitted yet,
    the oldest first; `calm` windows in a row spoke against drift; `alarmed` is True from an Alert to its resolution.
    """

    evidence: tuple[float, ...]
    size: tuple[float, ...]
    mean: tuple[float, ...]
    squares: tuple[float, ...]
    freedom: tuple[float, ...]
    last: tuple[float, ...] = (math.nan,) * len(NAMES)
    waiting: tuple[tuple[float, ...], ...] = ()
    calm: int = 0
    alarmed: bool = False

    @staticmethod
    def start(calibration: Calibration) -> "State":
        """Return the state before the first window."""
        c = calibration
        return State((0.0,) * len(_WEIGHT), c.size, c.mean, c.squares, c.freedom)

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; `State.of` reads it back, to the last digit."""
        return {
            "evidence": list(self.evidence),
            "size": list(self.size),
            "mean": list(self.mean),
            "squares": list(self.squares),
            "freedom": list(self.freedom),
            "last": _without_nan(self.last),
            "waiting": [_without_nan(one) for one in self.waiting],
            "calm": self.calm,
            "alarmed": self.alarmed,
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> "State":
        """Read a document."""
        known = dict(document)
        for name in ("evidence", "size", "mean", "squares", "freedom"):
            known[name] = tuple(known[name])
        known["last"] = _with_nan(known["last"])
        known["waiting"] = tuple(_with_nan(one) for one in known["waiting"])
        return State(**known)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one window said: `evidence` M after it, `e` of the window alone, residuals in sd and their p-values.

    `e` multiplies what was believed before: above 1 the window speaks for drift. `resolved` says that an incident ends
    with this window.
    """

    status: Status
    evidence: float
    alarm_at: float
    e: float = 1.0
    residuals: Mapping[str, float] = field(default_factory=dict[str, float])
    p: Mapping[str, float] = field(default_factory=dict[str, float])
    resolved: bool = False


def alarm_level(streams: int, false_alarm_every_s: float, interval_s: float) -> float:
    """Return how much evidence makes an alarm, so that all streams together keep one promise.

    `interval_s` lies between windows that do not overlap: an assay whose windows do counts every width / interval-th.

    >>> alarm_level(streams=200, false_alarm_every_s=20 * 86_400, interval_s=3600)
    96000.0

    Raises:
        InvalidInputError: no streams, or a promise that every window may break.
    """
    if streams < 1 or not interval_s > 0 or not false_alarm_every_s >= interval_s:
        raise InvalidInputError(
            f"one false alarm in {false_alarm_every_s / 60:g} min is no promise where a window comes every "
            f"{interval_s / 60:g} min (on {streams} streams): each may be one; give a time longer than a window, such "
            "as 30 days, and at least one stream"
        )
    return streams * false_alarm_every_s / interval_s


def step(
    calibration: Calibration,
    state: State,
    window: WindowStatistics,
    alarm_at: float,
    *,
    min_count: int = MIN_COUNT,
    start_ns: int | None = None,
) -> tuple[State, Answer]:
    """Take one window of one stream: a pure function, so that late data is answered by stepping again from there.

    A window without values, or with fewer than `min_count`, is no evidence of anything: all but what the last window
    was stays as it is. A seasonal calibration must know when the window begins (`start_ns`).
    """
    return steps([calibration], [state], [window], [alarm_at], min_count=min_count, starts_ns=[start_ns])[0]


def steps(
    calibrations: Sequence[Calibration],
    states: Sequence[State],
    windows: Sequence[WindowStatistics],
    alarm_at: Sequence[float],
    *,
    min_count: int = MIN_COUNT,
    starts_ns: Sequence[int | None] | None = None,
) -> list[tuple[State, Answer]]:
    """Take one window of each of many streams at once: the same as `step` on each, much faster."""
    starts = [None] * len(windows) if starts_ns is None else starts_ns
    windows = [c.adjusted(window, start) for c, window, start in zip(calibrations, windows, starts, strict=True)]
    answers: list[tuple[State, Answer] | None] = [None] * len(windows)
    judged: list[int] = []
    for i, (state, window) in enumerate(zip(states, windows, strict=True)):
        if window.n >= max(min_count, 1):
            judged.append(i)
            continue
        forgotten = replace(state, last=(math.nan,) * len(NAMES))
        status: Status = "TooFew" if window.n else "NoData"
        answers[i] = forgotten, Answer(status, math.fsum(state.evidence), alarm_at[i])
    for start in range(0, len(judged), _BLOCK):
        block = judged[start : start + _BLOCK]
        tracks = Tracks([calibrations[i] for i in block], [states[i] for i in block])
        told = tracks.advance(
            np.array([windows[i].values for i in block]),
            _rows([windows[i] for i in block]),
            np.array([alarm_at[i] for i in block]),
        )
        for i, state, answer in zip(block, tracks.states(), told.answers(), strict=True):
            answers[i] = state, answer
    return [answer for answer in answers if answer is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What one window of each stream said; arrays of shape (streams,), or (streams, 5) a statistic."""

    evidence: Floats
    e: Floats
    residuals: Floats
    p: Floats
    alarm_at: Floats
    alarmed: NDArray[np.bool_]
    resolved: NDArray[np.bool_]

    def answers(self) -> list[Answer]:
        """Return an answer a stream."""
        status: list[Status] = [
            "Alert" if alarmed else "Warning" if m >= WARNING * a else "Ok"
            for alarmed, m, a in zip(self.alarmed.tolist(), self.evidence.tolist(), self.alarm_at.tolist(), strict=True)
        ]
        columns = zip(
            status,
            self.evidence.tolist(),
            self.alarm_at.tolist(),
            self.e.tolist(),
            self.residuals.tolist(),
            self.p.tolist(),
            self.resolved.tolist(),
            strict=True,
        )
        return [Answer(s, m, a, e, _named(z), _named(p), over) for s, m, a, e, z, p, over in columns]


class Tracks:
    """Many streams side by side: arrays whose first axis is the stream. They change with each window."""

    def __init__(self, calibrations: Sequence[Calibration], states: Sequence[State] | None = None) -> None:
        states = [State.start(c) for c in calibrations] if states is None else states
        self.rho = np.array([c.rho for c in calibrations])
        self.floor = np.array([c.floor for c in calibrations])
        self.n = np.array([float(c.n) for c in calibrations])
        self.freedom_max = np.array([c.freedom_max for c in calibrations])
        self.bounded = np.array([c.bounded for c in calibrations])
        self.size = np.array([s.size for s in states])
        self.mean = np.array([s.mean for s in states])
        self.squares = np.array([s.squares for s in states])
        self.freedom = np.array([s.freedom for s in states])
        self.last = np.array([s.last for s in states])
        none = ((math.nan,) * len(NAMES),)
        self.waiting = np.array([none * (ADMITTED_AFTER - len(s.waiting)) + s.waiting for s in states])
        self.evidence = np.array([s.evidence for s in states])
        self.calm = np.array([s.calm for s in states])
        self.alarmed = np.array([s.alarmed for s in states])

    def states(self) -> list[State]:
        """Return a state a stream."""
        # Those that wait stand at the end.
        empty = cast("list[int]", np.isnan(self.waiting).all(axis=2).sum(axis=1).tolist())
        waiting = [tuple(map(tuple, rows[skip:])) for rows, skip in zip(self.waiting.tolist(), empty, strict=True)]
        arrays = (self.evidence, self.size, self.mean, self.squares, self.freedom, self.last)
        columns = zip(
            *(map(tuple, array.tolist()) for array in arrays),
            waiting,
            self.calm.tolist(),
            self.alarmed.tolist(),
            strict=True,
        )
        return [State(*column) for column in columns]

    def advance(self, values: Floats, n: Floats, alarm_at: Floats) -> Told:
        """Take one window of every stream: statistics and how many rows each is of, (streams, 5), and alarm levels."""
        residual, z, freedom = self._predicted(values, n)
        e_lines, p = self._e_values(z, freedom)
        before = self.evidence.sum(axis=1) + 1.0
        self.evidence = (self.evidence + _WEIGHT) * e_lines
        total = self.evidence.sum(axis=1)
        e = total / before
        self.evidence *= np.minimum(1.0, CAP * alarm_at / np.maximum(total, 1e-300))[:, None]
        total = np.minimum(total, CAP * alarm_at)
        self.calm = np.where(e < 1, self.calm + 1, 0)
        self.alarmed = self.alarmed | (total >= alarm_at)
        self._admit(residual, p, (total < WARNING * alarm_at) & ~self.alarmed)
        self.last = values
        resolved = self.alarmed & (self.calm >= CALM_WINDOWS)
        self.alarmed = self.alarmed & ~resolved
        self.evidence[resolved] = 0.0
        return Told(np.where(resolved, 0.0, total), e, z, p, alarm_at, self.alarmed, resolved)

    def _predicted(self, values: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
        """Return residuals as they will be admitted, the same in standard deviations, and degrees of freedom."""
        residual = np.where(self.rho == 0, values, values - self.rho * self.last)
        # Without a predecessor the long-run mean and spread are the prediction.
        alone = np.isnan(residual)
        centre = np.where(alone, self.mean / (1 - self.rho), self.mean)
        sd = np.sqrt(self.squares / np.maximum(self.freedom, 1.0))
        sd = np.where(alone, sd / np.sqrt(1 - self.rho * self.rho), sd)
        sd = np.maximum(sd, self.floor) * np.sqrt(1 + 1 / self.size)
        # Fewer rows than usual say less; that more rows say more is not certain where they resemble each other.
        sd = sd * np.sqrt(np.maximum(1.0, self.n[:, None] / np.maximum(n, 1.0)))
        z = (np.where(alone, values, residual) - centre) / sd
        return residual, z, np.clip(self.freedom, 1.0, self.freedom_max)

    def _e_values(self, z: Floats, freedom: Floats) -> tuple[Floats, Floats]:
        """Return an e-value a line, and a p-value a statistic, of residuals that are t-distributed without drift."""
        from scipy.special import stdtr

        tail = stdtr(freedom, -np.abs(z))
        p = np.where(_BOTH_SIDES, 2 * tail, np.where(z > 0, tail, 1 - tail))
        # One in as many windows as there are is the least that a rank can say.
        rho = self.rho[:, LOCATION, None]
        rank = 1 / (1 + self.size * (1 - rho) / (1 + rho))
        by_tail = calibrated(np.where(self.bounded, np.maximum(p, rank), p))[:, _OF]
        zs, nu = z[:, _OF], freedom[:, _OF]
        away = zs - _SHIFT
        by_ratio = ((nu + zs * zs) / (nu + away * away)) ** ((nu + 1) / 2)
        e = np.where(_TAIL | self.bounded[:, _OF], by_tail, by_ratio)
        # What a window does not have says nothing.
        return np.where(np.isnan(zs), 1.0, e), p

    def _admit(self, residual: Floats, p: Floats, quiet: NDArray[np.bool_]) -> None:
        usual = (np.where(np.isnan(p), 1.0, p).min(axis=1) > SUSPICIOUS) & quiet
        oldest = self.waiting[:, 0]
        due = usual[:, None] & ~np.isnan(oldest)
        size = self.size + due
        distance = np.where(due, oldest - self.mean, 0.0)
        self.squares = self.squares + distance * distance * self.size / size
        self.mean = self.mean + distance / size
        self.size = size
        self.freedom = self.freedom + due
        moved = np.concatenate((self.waiting[:, 1:], residual[:, None]), axis=1)
        self.waiting = np.where(usual[:, None, None], moved, np.nan)


def _rows(windows: Sequence[WindowStatistics]) -> Floats:
    """Return how many rows each statistic is of: only the missing share is of those without a value, too."""
    rows = np.repeat(np.array([[float(window.n)] for window in windows]), len(NAMES), axis=1)
    rows[:, MISSING] = [window.count for window in windows]
    return rows


def _named(values: Sequence[float]) -> dict[str, float]:
    if not math.isnan(sum(values)):
        return dict(zip(NAMES, values, strict=True))
    return {name: value for name, value in zip(NAMES, values, strict=True) if not math.isnan(value)}


def _without_nan(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _with_nan(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)


def calibrated(p: Floats) -> Floats:
    """Turn p-values into e-values: the mixture over all power calibrators.

    >>> calibrated(np.array([1.0, 0.01])).round(3).tolist()
    [0.5, 4.451]

    Source: Vovk & Wang (2021).
    """
    p = np.maximum(p, 1e-300)
    log = np.log(np.minimum(p, 1 - 1e-6))
    return np.where(p > 1 - 1e-4, 0.5, (1 - p + p * log) / (p * log * log))
