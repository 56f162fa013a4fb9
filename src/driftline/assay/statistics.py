"""What an alarm looks at: five numbers of a window, the same from values and from counts.

Location and spread on a scale that fits the field, an omnibus score that sees any other change, the share without a
value, and the share far outside the baseline's range. Each comes with the least standard deviation that will be
believed: what moving one row of n would change. Without it a constant field or a looped clip is infinitely sure.

The location is the mean of *bounded* values: what lies beyond the baseline's range by more than three of its standard
deviations counts as lying there, so that one absurd value among two hundred stays one row of two hundred. The spread
is that of normal scores, which has the same law for every continuous field. A skewed field that is not positive has
its location in normal scores too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, overload

import numpy as np

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import Categories, CategoryBaseline
from driftline.assay.observed import Counted, Floats, Observed, Part, Piece
from driftline.errors import InvalidInputError
from driftline.summary.arrays import as_floats
from driftline.summary.summary import FINITE_MAX
from driftline.wire.api import Summarizer

Scale = Literal["identity", "log", "logit", "ranks", "categories"]
# The order of every vector of statistics.
NAMES = ("location", "spread", "omnibus", "missing", "outside")
LOCATION, SPREAD, OMNIBUS, MISSING, OUTSIDE = range(5)

# Ten cells: with five a change of shape hides, with twenty a window of 60 rows leaves most of them to chance.
CELLS = Summarizer(num_bins=10, compat=None)
# A positive field whose greatest value is this many times its least one changes by factors: logarithms fit.
MANIFOLD = 3.0
# One tail this much longer than the other one (5 %, 50 %, 95 %) calls for ranks: a lognormal of sigma 0.25.
SKEWED = 1.5
# A field that never moves has no standard deviation; a change below a millionth of its value is rounding.
CONSTANT_UNIT = 1e-6
# How many of its standard deviations beyond the baseline's range a value counts for what it is. A short baseline of
# autocorrelated rows has not seen all that is usual; so far out lies what is not.
BEYOND = 3.0
# Sums have 15 digits; a value this many ranges away leaves five of them to the rest.
DIGITS = 1e10


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """The statistics of one window: `values` in the order of `NAMES`, NaN where a window without values has none."""

    count: int
    missing: int
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many values there are: all inferences but the missing."""
        return self.count - self.missing


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """What windows of about `n` values are measured by: a baseline, the scale that fits it, and its bounds.

    >>> yardstick = yardstick_of(BaselineData.of_values(np.arange(1000.0)), n=100)
    >>> yardstick.scale, yardstick.low < 0, yardstick.high > 999
    ('identity', True, True)
    """

    baseline: BaselineData
    n: int
    scale: Scale
    low: float
    high: float
    unit: float
    centre: float

    def measure(self, parts: Sequence[Part]) -> WindowStatistics:
        """Return the statistics of a window; of values and of counts the same, up to where counts cannot be cut."""
        return self.measured(self.baseline.read(parts))

    def measured(self, window: Observed, without: Sequence[Observed] = ()) -> WindowStatistics:
        """Measure what was read already; the windows `without` are the baseline's own and left out of it."""
        share = np.array([window.missing / window.count if window.count else np.nan])
        values = np.full((1, len(NAMES)), np.nan)
        values[:, MISSING] = stabilised(share)
        if window.n:
            finite, mean, outside = _bounded(window, self.low, self.high)
            counts, reference, shares = self._cells(window, without)
            score, spread = scores_of(counts[None], shares, self.n, self.baseline.n)
            if self.scale == "ranks":
                values[:, LOCATION] = score
            elif finite:
                values[:, LOCATION] = self._location(np.array([mean]))
            values[:, SPREAD] = spread
            values[:, OMNIBUS] = omnibus(counts[None], reference[None], self.n, self.baseline.n)
            values[:, OUTSIDE] = stabilised(np.array([outside / window.n]))
        return WindowStatistics(window.count, window.missing, tuple(values[0].tolist()))

    def measure_rows(self, rows: Floats, apart: int | None = None) -> Floats:
        """Return the statistics of many windows of raw values, shape (windows, rows) → (windows, 5), at once.

        With `apart` they are the baseline's own, in time order: each is compared with the baseline less itself and
        that many neighbours on either side, because a neighbour resembles it.
        """
        rows = as_floats(rows, float32=self.baseline.float32).reshape(rows.shape)
        windows, width = rows.shape
        present = ~np.isnan(rows)
        n = np.count_nonzero(present, axis=1)
        bounded = np.clip(rows, self.low, self.high)
        outside = np.count_nonzero((bounded != rows) & present, axis=1)
        finite = np.abs(rows) < FINITE_MAX
        if not finite.all():
            bounded[~finite] = 0.0
        mean = bounded.sum(axis=1) / np.maximum(np.count_nonzero(finite, axis=1), 1)
        values = np.full((windows, len(NAMES)), np.nan)
        values[:, LOCATION] = np.where(finite.any(axis=1), self._location(mean), np.nan)
        cut = self.baseline.cut(CELLS, None)
        # Few edges: comparing every row with each is several times as fast as looking up its cell.
        upto = [np.count_nonzero(rows <= edge, axis=1) for edge in cut.edges]
        counts = np.diff(np.stack([*upto, n], axis=1), axis=1, prepend=0).astype(np.float64)
        score, values[:, SPREAD] = scores_of(counts, cut.shares, self.n, self.baseline.n)
        if self.scale == "ranks":
            values[:, LOCATION] = score
        left_out = _neighbourhood(counts, apart)
        reference = np.maximum(cut.shares * self.baseline.n - left_out, 0.0)
        values[:, OMNIBUS] = omnibus(counts, reference, self.n, self.baseline.n)
        values[:, OUTSIDE] = stabilised(outside / np.maximum(n, 1))
        values[n == 0] = np.nan
        values[:, MISSING] = stabilised((width - n) / width)
        return values

    @property
    def floors(self) -> Floats:
        """The least standard deviation of each statistic: what moving one of n rows changes, shape (5,)."""
        one = 1.0 / self.n
        missing = self.baseline.missing_share
        # Of 2 × cells / n in the score itself, beside its expectation of cells / n.
        return np.array([self.slope * self.unit * one, one, 2 * one, _one_row(missing, one), _one_row(0.0, one)])

    # ── the statistics ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def slope(self) -> float:
        """How much the location moves when the mean moves by one."""
        if self.scale == "logit":
            inside = float(_inside(np.array([self.centre]), self.n)[0])
            return 1 / (inside * (1 - inside))
        return 1 / (self.centre if self.scale == "log" else self.unit)

    def _location(self, mean: Floats) -> Floats:
        return located(self.scale, mean, self.unit, self.n)

    def _cells(self, window: Observed, without: Sequence[Observed]) -> tuple[Floats, Floats, Floats]:
        """Return the window's counts, the baseline's less those `without`, and its shares, all cut the same way."""
        counts = reference = shares = np.zeros(1)
        for piece in window.pieces:
            if piece.n:
                cut = self.baseline.cut(CELLS, piece.grid)
                own = _binned(piece, cut.edges)
                counts = counts + own
                others = [_binned(other, cut.edges) for one in without for other in one.pieces]
                left = np.maximum(cut.shares * self.baseline.n - sum(others, np.zeros_like(own)), 0.0)
                reference = reference + left * (piece.n / window.n)
                shares = shares + cut.shares * (piece.n / window.n)
        return counts, reference, shares


@dataclass(frozen=True, slots=True, eq=False)
class CategoryYardstick:
    """What windows of about `n` values of a text field are measured by.

    Its categories are taken in the order of their share, so that a mix has a location and a spread in normal scores: a
    small lasting change of the mix has a direction that evidence can learn, as it has for numbers. `outside` is the
    share of new categories. A baseline's own window is compared with the rest, so that identifiers, which always are
    new, are usual.

    >>> yardstick = yardstick_of(CategoryBaseline.of_values(["cat", "dog"] * 500), n=100)
    >>> yardstick.scale
    'categories'
    """

    baseline: CategoryBaseline
    n: int
    unit: float
    scale: Scale = "categories"
    slope: float = 1.0

    def measure(self, parts: Sequence[Part]) -> WindowStatistics:
        """Return the statistics of a window."""
        return self.measured(self.baseline.read(parts))

    def measured(self, window: Categories, without: Sequence[Categories] = ()) -> WindowStatistics:
        """Measure what was read already; the windows `without` are the baseline's own and left out of it."""
        values = np.full(len(NAMES), np.nan)
        if window.count:
            values[MISSING] = stabilised(np.array(window.missing / window.count))
        if window.n:
            whole = self.baseline.cut(window, CELLS.num_bins)
            cut = self.baseline.cut(window, CELLS.num_bins, without) if without else whole
            shares = whole.baseline / self.baseline.n
            location, spread = scores_of(cut.window[None], shares, self.n, self.baseline.n)
            values[LOCATION], values[SPREAD] = location[0], spread[0]
            values[OMNIBUS] = omnibus(cut.window[None], cut.baseline[None], self.n, self.baseline.n)[0]
            values[OUTSIDE] = stabilised(cut.window[-1] / window.n)
        return WindowStatistics(window.count, window.missing, tuple(values.tolist()))

    @property
    def floors(self) -> Floats:
        """The least standard deviation of each statistic: what moving one of n rows changes, shape (5,)."""
        one = 1.0 / self.n
        return np.array([one, one, 2 * one, _one_row(self.baseline.missing_share, one), _one_row(0.0, one)])


@overload
def yardstick_of(baseline: BaselineData, n: int) -> Yardstick: ...
@overload
def yardstick_of(baseline: CategoryBaseline, n: int) -> CategoryYardstick: ...
@overload
def yardstick_of(baseline: BaselineData | CategoryBaseline, n: int) -> Yardstick | CategoryYardstick: ...
def yardstick_of(baseline: BaselineData | CategoryBaseline, n: int) -> Yardstick | CategoryYardstick:
    """Choose the scale and the bounds from a baseline.

    Raises:
        InvalidInputError: the baseline has no finite value, or n is not a number of rows.
    """
    if isinstance(baseline, CategoryBaseline):
        return _of_categories(baseline, n)
    low, high = baseline.moments.min, baseline.moments.max
    mean, sd = baseline.moments.mean, baseline.moments.std
    if low is None or high is None or mean is None or sd is None:
        raise InvalidInputError(
            "the baseline has no finite value, so there is nothing to compare with; take another baseline"
        )
    _check_size(n)
    if low == high:
        unit = CONSTANT_UNIT * (abs(mean) or 1.0)
        return Yardstick(baseline, n, "identity", low - unit, high + unit, unit, mean)
    scale = scale_of(baseline.observed)
    if scale == "log":
        factor = (1 + sd / mean) ** BEYOND
        return Yardstick(baseline, n, scale, low / factor, high * factor, sd, mean)
    bounds = (low - BEYOND * sd, high + BEYOND * sd)
    if scale == "logit":
        # The longer tail of a share is far longer than its standard deviation says: bounds on its own scale, too.
        odds = math.exp(-BEYOND * sd / (mean * (1 - mean)))
        bounds = (max(0.0, min(bounds[0], low * odds / (1 - low + low * odds))), min(1.0, bounds[1]))
        bounds = (bounds[0], max(bounds[1], high / (high + (1 - high) * odds)))
    return Yardstick(baseline, n, scale, *bounds, sd, mean)


def _of_categories(baseline: CategoryBaseline, n: int) -> CategoryYardstick:
    baseline.layout()  # refuses a baseline without a value
    _check_size(n)
    shares = baseline.cut(baseline.observed, CELLS.num_bins).baseline / baseline.n
    _, sd = category_scores(shares, baseline.n)
    return CategoryYardstick(baseline, n, unit=sd or CONSTANT_UNIT)


def category_scores(shares: Floats, rows: int) -> tuple[Floats, float]:
    """Return the normal score of each category in the order of a baseline's shares, and their standard deviation."""
    scores, _ = normal_scores(shares, rows)
    return scores, float(np.sqrt(max(0.0, shares @ scores**2 - (shares @ scores) ** 2)))


def _check_size(n: int) -> None:
    if n < 1:
        raise InvalidInputError(f"windows of {n} values were asked for; 1 or more can be measured")


def scale_of(observed: Observed) -> Scale:
    """Return the scale on which a field's window means are most nearly normal.

    >>> scale_of(Observed.of_parts([Part(values=np.exp(np.linspace(-2, 2, 99)))]))
    'log'
    """
    low, high = observed.least, observed.greatest
    if low >= 0 and high <= 1:
        return "logit"
    if low > 0 and high > MANIFOLD * low:
        return "log"
    n = observed.finite
    five, half, most = observed.ranked([max(1, -(-n * share // 100)) for share in (5, 50, 95)]).tolist()
    below, above = half - five, most - half
    return "identity" if max(below, above) <= SKEWED * min(below, above) else "ranks"


# The statistics of many windows at once. What belongs to a yardstick is one number for all windows, or one a window.


def located(scale: Scale, mean: Floats, unit: float | Floats, rows: int | Floats) -> Floats:
    """Return means of bounded values on their scale; `ranks` has its location from `scores_of` instead."""
    if scale == "log":
        return np.log(mean)
    if scale != "logit":
        return mean / unit
    inside = _inside(mean, rows)
    return np.log(inside / (1 - inside))


def _inside(mean: Floats, rows: int | Floats) -> Floats:
    return np.clip(mean, 0.5 / rows, 1 - 0.5 / rows)


def omnibus(counts: Floats, reference: Floats, rows: int | Floats, baseline_rows: int | Floats) -> Floats:
    """Return the logarithm of PSI and what PSI is expected to be of independent rows: that is nearly normal.

    `counts` and `reference` have shape (windows, cells). An empty cell of the window is filled up from the baseline, by
    half a row a cell: PSI stays finite, and a cell that both leave empty adds nothing. Of fewer rows than usual PSI is
    larger by chance, which is allowed for.
    """
    n = counts.sum(axis=1)
    bins = counts.shape[1]
    b = (reference + 0.5) / (reference.sum(axis=1) + 0.5 * bins)[:, None]
    w = (counts + 0.5 * bins * b) / (n + 0.5 * bins)[:, None]
    psi = ((w - b) * np.log(w / b)).sum(axis=1)
    chance = (bins - 1) * (1 / rows + 1 / baseline_rows)
    return np.log(psi * np.minimum(1.0, n / rows) + chance)


def stabilised(share: Floats) -> Floats:
    """Return asin √share, whose chance variation is about 1 / (2 √n) at every share."""
    return np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0)))


def _binned(piece: Piece, edges: Floats) -> Floats:
    return np.diff(piece.upto(edges), prepend=0.0, append=float(piece.n))


def _neighbourhood(counts: Floats, apart: int | None) -> Floats:
    """Return the counts of each window and its neighbours together."""
    if apart is None:
        return np.zeros_like(counts)
    upto = np.concatenate((np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)))
    at = np.arange(len(counts))
    return upto[np.minimum(at + apart + 1, len(counts))] - upto[np.maximum(at - apart, 0)]


def _one_row(share: float, one: float) -> float:
    both = stabilised(np.array([share, min(1.0, share + one)]))
    # At a share of 1 there is no further row to move: back is as far as forth.
    return float(both[1] - both[0]) or _one_row(0.0, one)


# Below this many rows even the cells that they fill are uncertain.
UNSEEN_MIN = 50


def scores_of(counts: Floats, shares: Floats, rows: int, baseline_rows: int) -> tuple[Floats, Floats]:
    """Return mean and log-variance of windows' normal scores, shape (windows, cells) → (windows,) each.

    A value's normal score is that of its rank in the baseline. So it has the same law for every continuous field,
    where the standard deviation of a lognormal is itself a lottery. What a baseline has not seen is scored as one row
    more would be: the next window goes a little beyond a short one, and that is no drift.
    """
    return scored(counts, *_kept_scores(shares.tobytes(), baseline_rows), rows)


def scored(counts: Floats, first: Floats, second: Floats, rows: int | Floats) -> tuple[Floats, Floats]:
    """Do `scores_of` with scores already worked out by `normal_scores`, the same for all windows or a row each."""
    w = counts / np.maximum(counts.sum(axis=1), 1.0)[:, None]
    mean = (w * first).sum(axis=1)
    return mean, np.log(np.maximum((w * second).sum(axis=1) - mean * mean, 0.0) + 1 / rows)


def normal_scores(shares: Floats, baseline_rows: int | Floats) -> tuple[Floats, Floats]:
    """Return the mean of a normal variable, and of its square, in cells of these shares; shape (…, cells) each."""
    from scipy.special import ndtri

    unseen = np.asarray(1 / np.maximum(baseline_rows, UNSEEN_MIN))[..., None]
    share = (shares + unseen) / (1 + unseen * shares.shape[-1])
    edges = ndtri(np.clip(np.cumsum(share, axis=-1)[..., :-1], 0.0, 1.0))
    none = np.zeros((*share.shape[:-1], 1))
    density = np.concatenate((none, np.exp(-edges * edges / 2) / np.sqrt(2 * np.pi), none), axis=-1)
    weighted = np.concatenate((none, edges, none), axis=-1) * density
    return -np.diff(density) / share, 1 - np.diff(weighted) / share


@lru_cache(maxsize=256)
def _kept_scores(shares: bytes, baseline_rows: int) -> tuple[Floats, Floats]:
    return normal_scores(np.frombuffer(shares), baseline_rows)


def _bounded(window: Observed, low: float, high: float) -> tuple[int, float, float]:
    """Return how many values are finite, the mean of the bounded ones, and how many lie outside."""
    total, mean, outside = 0, 0.0, 0.0
    for piece in window.pieces:
        n, own_mean = _bounded_mean(piece, low, high)
        outside += piece.n - float(np.diff(piece.upto(np.array([np.nextafter(low, -np.inf), high])))[0])
        if n:
            total += n
            mean += (own_mean - mean) * n / total
    return total, mean, outside


def _bounded_mean(piece: Piece, low: float, high: float) -> tuple[int, float]:
    n, mean, _ = piece.power_sums
    if piece.range is None or (low <= piece.range[0] and piece.range[1] <= high):
        return n, mean
    return n, _bounded_counts(piece, low, high) if isinstance(piece, Counted) else _clipped(piece.finite, low, high)


def _clipped(values: Floats, low: float, high: float) -> float:
    return float(np.clip(values, low, high).mean())


def _bounded_counts(piece: Counted, low: float, high: float) -> float:
    """Bound counts: a single value outside is the least or the greatest, and known; several are read from their cells.

    The sum of what is left is then exact. Taking 10⁹ out of a sum costs digits: where too few are left, cells decide.
    """
    n, mean, _ = piece.power_sums
    least, greatest = piece.range or (low, high)
    upto = piece.upto(np.array([np.nextafter(low, -np.inf), high]))
    every = piece.upto(np.array([-FINITE_MAX, FINITE_MAX]))
    below, above = upto[0] - every[0], every[1] - upto[1]
    known = (below < 1.5 if least < low else below == 0) and (above < 1.5 if greatest > high else above == 0)
    if known and max(abs(least - mean), abs(greatest - mean)) < DIGITS * (high - low):
        return mean + (max(0.0, low - least) - max(0.0, greatest - high)) / n
    weights = np.diff(piece.upto(piece.knots))
    if not weights.sum() > 0:
        return float(np.clip(mean, low, high))
    ends = np.clip(piece.knots, low, high)
    return float(np.average((ends[1:] + ends[:-1]) / 2, weights=weights))
