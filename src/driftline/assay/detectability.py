"""What an assay would find, before it runs: shifts laid on the baseline's own windows, and the alarm's answer to them.

The baseline's windows are dealt out anew in short runs, long enough that each still resembles the one before it, to
many streams. Each stream is shifted from its first window on by some of the baseline's standard deviations, and the
alarm looks at it for as many windows as was asked. A seed makes a rerun say the same.

What a shift is depends on the field, so that no value becomes one that the field cannot have:

- most fields: every value moves up by it;
- positive fields that change by factors (scale `log`): every value is multiplied, so that the mean moves up by it;
- shares (scale `logit`): every value moves towards the middle of its range, and stops at 0 and 1;
- fields of few distinct values (counts of objects, yes and no), and values known by the cell of a grid only: as many
  go to a neighbouring value, or cell, as moves the mean by it;
- text: the mix moves towards its rarer categories. Under a promise this is laid on the location alone, so that more
  may be found than is said here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from driftline.assay.analysis import Baseline
from driftline.assay.batch import score_rows
from driftline.assay.calibration import Calibration, own_statistics
from driftline.assay.categories import Categories, CategoryBaseline
from driftline.assay.evidence import Tracks
from driftline.assay.metrics import scores_of
from driftline.assay.metrics.sample import Sample
from driftline.assay.observed import Floats, Observed, Part
from driftline.assay.season import Usual
from driftline.assay.statistics import LOCATION, CategoryYardstick, Yardstick, category_scores, yardstick_of
from driftline.errors import InvalidInputError
from driftline.wire import api

SHIFTS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
# A share found of so many streams is known to 3 % (one standard error is 2.8 % where it is 0.8).
STREAMS = 200
# A shift counts as found where this share of streams finds it.
FOUND = 0.8
# This many windows, or this many values, of a baseline stand for all of it: a preview waits for the answer.
WINDOWS_MAX, VALUES_MAX = 200, 200_000
WINDOWS_LEAST = 20
# A field of no more distinct values than this moves from one to the next.
DISTINCT_MAX = 64


@dataclass(frozen=True, slots=True, eq=False)
class Deal:
    """Which windows of a baseline stand for it (`kept`), and in which order streams see them, (streams, windows)."""

    kept: NDArray[np.int64]
    order: NDArray[np.int64]


def promised(
    calibration: Calibration,
    baseline: Baseline,
    windows: Sequence[Sequence[Part]],
    alarm_at: float,
    *,
    within: int,
    seed: int,
    starts_ns: Sequence[int] = (),
) -> list[api.Detectable]:
    """Return what a promise finds within so many windows; `windows` are the baseline's own, in time order.

    Of a seasonal one `starts_ns` says when each of them begins: a shift is laid on what is usual then.

    Raises:
        InvalidInputError: the baseline has no window with a value.
    """
    yardstick = yardstick_of(baseline, calibration.n)
    read = _read(baseline, windows)
    deal = dealt(len(read), calibration.n, calibration.rho[LOCATION], within, seed)
    usual = own_statistics(yardstick, read, deal.kept)
    tables = [usual + one for one in _moves(yardstick, [read[i] for i in deal.kept.tolist()], seed)]
    if calibration.season is not None:
        there = [start for start, parts in zip(starts_ns, windows, strict=True) if baseline.read(parts).n]
        tables = [_relative(calibration.season, table, [there[i] for i in deal.kept.tolist()]) for table in tables]
    # All shifts side by side: one simulation of many streams.
    values = np.concatenate([table[deal.order] for table in tables])
    tracks = Tracks([calibration] * len(values))
    rows, level = np.full((len(values), usual.shape[1]), float(calibration.n)), np.full(len(values), alarm_at)
    alarms = [tracks.advance(values[:, t], rows, level).evidence >= alarm_at for t in range(within)]
    return _told(np.stack(alarms, axis=1))


def _relative(season: Usual, values: Floats, starts_ns: Sequence[int]) -> Floats:
    """Return windows' statistics, (windows, 5), each relative to what is usual when it begins."""
    slots = [season.season.slot(start) for start in starts_ns]
    return np.concatenate([season.relative(row[None], slot) for row, slot in zip(values, slots, strict=True)])


def fixed(
    summarizer: api.Summarizer,
    alarm: api.Fixed,
    baseline: Baseline,
    windows: Sequence[Sequence[Part]],
    *,
    within: int,
    seed: int = 0,
) -> list[api.Detectable]:
    """Return what a fixed threshold finds within so many windows; see `promised`."""
    read = _read(baseline, windows)
    n = int(np.median([one.n for one in read]))
    deal = dealt(len(read), n, 0.5, within, seed)
    scores = _scores(summarizer, baseline, [read[i] for i in deal.kept.tolist()], n, seed)
    return _told(np.concatenate([one[deal.order] >= alarm.threshold for one in scores]))


def smallest(found: Sequence[api.Detectable]) -> float | None:
    """Return the least shift that is found, as are all larger ones; None where none is."""
    least = None
    for one in sorted(found, key=lambda one: -one.shift):
        if one.found < FOUND:
            break
        least = one.shift
    return least


class Told(Protocol):
    """What is asked of an answer."""

    @property
    def start_ns(self) -> int:
        """When its window begins."""
        ...

    @property
    def status(self) -> api.Status:
        """What it says."""
        ...

    @property
    def score(self) -> float | None:
        """How far its window lies from the baseline; None where it cannot be judged."""
        ...


def alarms(analyses: Sequence[Told]) -> list[int]:
    """Return when an alarm began among one stream's answers in time order; it lasts until a window is Ok again."""
    began: list[int] = []
    alarmed = False
    for one in analyses:
        if one.status == "Alert" and not alarmed:
            began.append(one.start_ns)
        if one.status in {"Alert", "Ok", "Warning"}:
            alarmed = one.status == "Alert"
    return began


def dealt(windows: int, n: int, rho: float, within: int, seed: int) -> Deal:
    """Deal a baseline's windows out to streams, in runs over which a correlation of rho fades to a twentieth.

    >>> deal = dealt(windows=50, n=60, rho=0.0, within=20, seed=1)
    >>> deal.kept.size, deal.order.shape
    (50, (200, 20))
    """
    run = min(max(1, windows // 3), 1 if rho <= 0 else math.ceil(math.log(0.05) / math.log(min(rho, 0.95))))
    most = min(windows, max(WINDOWS_LEAST, min(WINDOWS_MAX, VALUES_MAX // n)))
    runs = max(1, most // run)
    starts = np.unique(np.linspace(0, windows - run, runs).round().astype(np.int64))
    kept = (starts[:, None] + np.arange(run)).ravel()
    draw = np.random.default_rng(seed)
    picked = draw.integers(0, starts.size, (STREAMS, -(-within // run)))
    order = (picked[:, :, None] * run + np.arange(run)).reshape(STREAMS, -1)[:, :within]
    return Deal(kept, order)


def _read(baseline: Baseline, windows: Sequence[Sequence[Part]]) -> list[Any]:
    """Return the windows with a value: of numbers or of categories, as the baseline is."""
    read: list[Any] = [one for one in map(baseline.read, windows) if one.n]
    if not read:
        raise InvalidInputError("the baseline has no window with a value to lay a shift on; take a longer baseline")
    return read


def _told(alarmed: NDArray[np.bool_]) -> list[api.Detectable]:
    """Return what was found, from whether each window of each stream is an alarm: all streams of a shift together."""
    told: list[api.Detectable] = []
    for shift, each in zip(SHIFTS, alarmed.reshape(len(SHIFTS), STREAMS, -1), strict=True):
        first = np.where(each.any(axis=1), each.argmax(axis=1) + 1.0, np.inf)
        median = float(np.median(first))
        found = float(np.isfinite(first).mean())
        told.append(api.Detectable(shift=shift, found=found, median_windows=median if np.isfinite(median) else None))
    return told


# ── what a shift does to a window ────────────────────────────────────────────────────────────────────────────────


def _moves(yardstick: Yardstick | CategoryYardstick, read: Sequence[Any], seed: int) -> list[Floats]:
    """Return by how much each shift moves each window's statistics."""
    if isinstance(yardstick, CategoryYardstick):
        return [np.eye(5)[LOCATION] * shift * yardstick.unit for shift in SHIFTS]
    points = np.stack([_points(one, yardstick.n) for one in read])
    still = yardstick.measure_rows(points)
    move = _mover(yardstick, seed)
    return [yardstick.measure_rows(move(points, shift)) - still for shift in SHIFTS]


def _scores(summarizer: api.Summarizer, baseline: Baseline, read: Sequence[Any], n: int, seed: int) -> list[Floats]:
    """Return each window's score under each shift."""
    if summarizer.metric == "missing_rate":
        # No shift of values is seen by it.
        return [np.array([abs(one.missing / one.count - baseline.missing_share) for one in read])] * len(SHIFTS)
    if isinstance(baseline, CategoryBaseline):
        return [_tilted(summarizer.metric, baseline, read, shift) for shift in SHIFTS]
    points = np.stack([_points(one, n) for one in read])
    move = _mover(yardstick_of(baseline, n), seed)
    sizes = [n] * len(read)
    return [score_rows(summarizer, baseline, move(points, shift).ravel(), sizes).scores for shift in SHIFTS]


def _points(window: Observed, n: int) -> Floats:
    """Return n values spread as a window's: its own where it has n, of counts the upper edges of their cells."""
    if not window.finite:
        return np.full(n, np.nan)
    ranks = ((np.arange(n) + 0.5) / n * window.finite).astype(np.int64) + 1
    return window.ranked(ranks.tolist())


def _mover(yardstick: Yardstick, seed: int) -> Callable[[Floats, float], Floats]:
    """Return what moves values by some of the baseline's standard deviations, as their field can move."""
    sd, centre = yardstick.unit, yardstick.centre
    atoms = yardstick.baseline.observed.knots
    distinct = atoms.size > 1 and (atoms.size <= DISTINCT_MAX or not yardstick.baseline.observed.exact)
    draw = np.random.default_rng(seed)

    def move(values: Floats, shift: float) -> Floats:
        by = shift * sd
        if yardstick.scale == "log":
            moved = values * (1 + by / centre)
        elif yardstick.scale == "logit":
            moved = np.clip(values - by if centre > 0.5 else values + by, 0.0, 1.0)
        else:
            moved = values + by
        return _settled(moved, atoms, draw, bounded=yardstick.scale == "logit") if distinct else moved

    return move


def _settled(values: Floats, atoms: Floats, draw: np.random.Generator, *, bounded: bool) -> Floats:
    """Let each value go to one of the two values of the field around it, at random so that the mean stays.

    Beyond the last value of a field that knows no bound the next ones follow at the last distance.
    """
    if not bounded:
        step = atoms[-1] - atoms[-2]
        further = max(0, math.ceil((float(np.nanmax(values)) - atoms[-1]) / step))
        atoms = np.concatenate((atoms, atoms[-1] + step * np.arange(1, min(further, DISTINCT_MAX) + 1)))
    above = np.clip(np.searchsorted(atoms, values), 1, atoms.size - 1)
    low, high = atoms[above - 1], atoms[above]
    return np.where(draw.random(values.shape) < (values - low) / (high - low), high, low)


def _tilted(metric: api.Metric, baseline: CategoryBaseline, read: Sequence[Categories], shift: float) -> Floats:
    """Return scores of windows whose mix moved towards the rarer categories: by so many sd of its normal scores."""
    cuts = [baseline.cut(one) for one in read]
    before = np.stack([one.baseline for one in cuts]) / baseline.n
    now = np.stack([one.window for one in cuts])
    now = now / now.sum(axis=1, keepdims=True)
    scores, sd = category_scores(baseline.shares, baseline.n)
    now = np.stack([_tilt(one, scores, float(one @ scores) + shift * sd) for one in now])
    return np.array(
        [
            scores_of(metric, Sample(b, baseline.n), Sample(w[None], np.array([float(one.n)])), "density", None)[0]
            for b, w, one in zip(before, now, read, strict=True)
        ]
    )


def _tilt(shares: Floats, scores: Floats, mean: float) -> Floats:
    """Return the shares nearest to these (by relative entropy) whose mean score is this, or as near as they can."""
    low, high = 0.0, 50.0
    tilted = shares
    for _ in range(40):
        middle = (low + high) / 2
        tilted = shares * np.exp(middle * (scores - scores.max()))
        tilted = tilted / tilted.sum()
        low, high = (middle, high) if float(tilted @ scores) < mean else (low, middle)
    return tilted
