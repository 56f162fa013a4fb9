"""What was seen of a field, as values or as counts, and the one question that scoring asks of it.

How many lie at or below this edge? Values answer exactly everywhere. Counts answer exactly at the edges of their grid,
below the least and from the greatest value on; inside a cell the answer is interpolated, and `straddled` says how many
values that may misplace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from driftline.errors import InvalidInputError
from driftline.summary.arrays import as_floats, edges_of
from driftline.summary.grid import Grid, just_below
from driftline.summary.summary import FINITE_MAX, CategorySummary, Summary

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """Some inferences: `values` (float64, NaN where missing), a `summary` with its grid, or `categories` of text.

    Raises:
        InvalidInputError: none of them, several, or a summary of another grid.
    """

    values: Floats | None = None
    summary: Summary | None = None
    grid: Grid | None = None
    categories: CategorySummary | None = None

    def __post_init__(self) -> None:
        given = sum(one is not None for one in (self.values, self.summary, self.categories))
        if given != 1 or (self.summary is None) != (self.grid is None):
            raise InvalidInputError("a part is values, a summary with its grid, or a summary of categories")
        if self.summary is not None and self.grid is not None and self.summary.grid_id != self.grid.id:
            raise InvalidInputError(f"a summary on grid {self.summary.grid_id} was handed grid {self.grid.id}")


@dataclass(frozen=True, slots=True)
class Moments:
    """Basic statistics; all but the counts are over finite values, `std` is the population's, None without values."""

    count: int
    missing: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    median: float | None = None
    std: float | None = None


class Seen(Protocol):
    """What was seen of a field, whatever it holds: how many inferences, those without a value, and all others."""

    count: int
    missing: int
    n: int

    @cached_property
    def moments(self) -> Moments:
        """Its basic statistics."""
        ...


S = TypeVar("S", bound=Seen)


class Known(Generic[S]):
    """What windows are compared with: `observed` was seen of it, and never changes."""

    def __init__(self, observed: S) -> None:
        self.observed = observed

    @property
    def n(self) -> int:
        """How many values there are: all inferences but the missing."""
        return self.observed.n

    @property
    def missing_share(self) -> float:
        """Which share of all inferences had no value."""
        return self.observed.missing / self.observed.count if self.observed.count else 0.0

    @property
    def moments(self) -> Moments:
        """Its own statistics; of text, counts alone."""
        return self.observed.moments


class Rows:
    """Values one by one, sorted; beyond `FINITE_MAX` they count as infinite, as they do on a device."""

    grid: Grid | None = None

    def __init__(self, values: Floats, *, float32: bool = False) -> None:
        every = as_floats(values, float32=float32)
        present = np.sort(every)  # NaN sorts last
        present = present[: present.size - int(np.isnan(every).sum())]
        self._below = int(np.searchsorted(present, -FINITE_MAX, side="right"))
        self.finite = present[self._below : int(np.searchsorted(present, FINITE_MAX, side="left"))]
        self.count, self.missing = every.size, every.size - present.size
        self.n = present.size

    def upto(self, edges: Floats) -> Floats:
        """Return how many values are at or below each edge."""
        return (self._below + np.searchsorted(self.finite, edges, side="right")).astype(np.float64)

    def straddled(self, edges: Floats) -> Floats:
        """Return zeros: values are exact everywhere."""
        return np.zeros(len(edges))

    @property
    def knots(self) -> Floats:
        """Return the finite values, ascending."""
        return self.finite

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest finite value."""
        return (float(self.finite[0]), float(self.finite[-1])) if self.finite.size else None

    @cached_property
    def power_sums(self) -> tuple[int, float, float]:
        """Number, mean and sum of squared distances from the mean, of the finite values."""
        if not self.finite.size:
            return 0, 0.0, 0.0
        mean = float(self.finite.mean())
        distance = self.finite - mean
        # Not np.dot: its BLAS wakes threads for long arrays, which then spin on the hub's other core.
        return self.finite.size, mean, float(np.square(distance).sum())


class Counted:
    """Counts on a grid, read as a cumulative curve that is linear inside a cell.

    The first cell in use begins just below the least value and the last one ends at the greatest: both are known.
    """

    def __init__(self, summary: Summary, grid: Grid, *, float32: bool = False) -> None:
        self.grid: Grid | None = grid
        self.count, self.missing, self.n = summary.count, summary.missing, summary.n
        self._summary, self._centre = summary, grid.centre
        self._below, above = summary.infinite
        self.knots, self._upto = self._curve(summary, edges_of(grid), self.n - above, float32=float32)

    def _curve(self, summary: Summary, edges: Floats, top: int, *, float32: bool) -> tuple[Floats, Floats]:
        low, high = summary.min, summary.max
        if low is None or high is None:
            return np.empty(0), np.empty(0)
        pairs = np.array(summary.cells, dtype=np.int64)
        cells, upto = pairs[:, 0], np.cumsum(pairs[:, 1])
        before = np.concatenate(([0], upto[:-1]))
        left, right = cells > 0, cells < edges.size
        # Both ends of every cell in use; between them nothing was counted and the curve is flat.
        knots = np.concatenate((edges[cells[left] - 1], edges[cells[right]]))
        heights = np.concatenate((before[left], upto[right]))
        inside = (knots >= low) & (knots < high)
        knots = np.concatenate(([just_below(low, float32=float32)], knots[inside], [high]))
        heights = np.concatenate(([self._below], heights[inside], [top]))
        order = knots.argsort(kind="stable")
        first = order[differs(knots[order])]
        return knots[first], heights[first].astype(np.float64)

    def upto(self, edges: Floats) -> Floats:
        """Return how many values are at or below each edge, interpolated inside cells."""
        if not self.knots.size:
            return np.full(len(edges), float(self._below))
        # There are two knots at least: just below the least value, and the greatest.
        above = np.minimum(np.maximum(self.knots.searchsorted(edges), 1), self.knots.size - 1)
        below = above - 1
        low, high, before = self.knots[below], self.knots[above], self._upto[below]
        # Not np.interp: its slope overflows where neighbouring edges are denormal numbers. Nor np.clip, which takes
        # three times as long for a few edges.
        part = (np.minimum(np.maximum(edges, low), high) - low) / (high - low)
        return before + part * (self._upto[above] - before)

    def straddled(self, edges: Floats) -> Floats:
        """Return how many values lie in the cell that each edge cuts in two; 0 where it cuts none."""
        if not self.knots.size:
            return np.zeros(len(edges))
        last = self.knots.size - 1
        above = np.searchsorted(self.knots, edges, side="left")
        inner = (above > 0) & (above <= last)
        above = np.clip(above, 1, last)
        cut = inner & (self.knots[above] != edges)
        return np.where(cut, self._upto[above] - self._upto[above - 1], 0.0)

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest finite value."""
        low, high = self._summary.min, self._summary.max
        return None if low is None or high is None else (low, high)

    @cached_property
    def power_sums(self) -> tuple[int, float, float]:
        """Number, mean and sum of squared distances from the mean, of the finite values."""
        n = self._summary.finite
        if not n:
            return 0, 0.0, 0.0
        offset = self._summary.sum / n
        return n, self._centre + offset, max(0.0, self._summary.sum_squares - n * offset * offset)


Piece = Rows | Counted


def in_bins(upto: Floats, n: float) -> Floats:
    """Return how many of n values lie in each bin, from how many lie at or below each edge.

    >>> in_bins(np.array([2.0, 5.0]), 9).tolist()
    [2.0, 3.0, 4.0]
    """
    # np.diff(prepend=…, append=…) does the same and takes three times as long.
    ends = np.concatenate(([0.0], upto, [n]))
    return ends[1:] - ends[:-1]


def differs(ascending: Floats) -> NDArray[np.bool_]:
    """Say of each of ascending values whether it is another than the one before it."""
    return np.concatenate(([True], ascending[1:] != ascending[:-1]))[: ascending.size]


def distinct(*values: Floats) -> Floats:
    """Return all values, ascending, none twice and none of them NaN.

    >>> distinct(np.array([2.0, 1.0]), np.array([2.0])).tolist()
    [1.0, 2.0]
    """
    # np.unique does the same and takes three times as long.
    every = np.concatenate(values)
    every.sort()
    return every[differs(every)]


class Observed:
    """All parts of a window or a baseline together."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = tuple(pieces)
        self.count = sum(piece.count for piece in self.pieces)
        self.missing = sum(piece.missing for piece in self.pieces)
        self.n = self.count - self.missing

    @classmethod
    def of_parts(cls, parts: Sequence[Part], *, float32: bool = False) -> "Observed":
        """Read parts; their values are rounded where the field is a float32.

        Raises:
            InvalidInputError: one of them is text.
        """
        if any(part.categories is not None for part in parts):
            raise InvalidInputError(
                "the field holds text, and the assay compares numbers: nothing declares that it is text; add a model "
                "step whose output schema does (pyarrow.string()), then its categories are compared"
            )
        values = [part.values for part in parts if part.values is not None]
        # Values of several parts are one piece: they all answer exactly.
        rows = [Rows(values[0] if len(values) == 1 else np.concatenate(values), float32=float32)] if values else []
        # So are counts of several parts on one grid: a baseline of many windows is then no more pieces than grids.
        by_grid: dict[str, tuple[Grid, list[Summary]]] = {}
        for part in parts:
            if part.summary is not None and part.grid is not None:
                by_grid.setdefault(part.grid.id, (part.grid, []))[1].append(part.summary)
        counted = [
            Counted(first.merge(*rest) if rest else first, grid, float32=float32)
            for grid, (first, *rest) in by_grid.values()
        ]
        return cls([*rows, *counted])

    @property
    def values(self) -> Floats | None:
        """The finite values, ascending, where every one is known by itself."""
        only = self.pieces[0] if len(self.pieces) == 1 else None
        return only.finite if isinstance(only, Rows) else None

    @property
    def exact(self) -> bool:
        """Whether every value is known by itself."""
        return self.values is not None

    @cached_property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest finite value, None where there is none."""
        ranges = [piece.range for piece in self.pieces if piece.range is not None]
        return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    @property
    def least(self) -> float:
        """The least finite value; NaN where there is none."""
        return self.range[0] if self.range else float("nan")

    @property
    def greatest(self) -> float:
        """The greatest finite value; NaN where there is none."""
        return self.range[1] if self.range else float("nan")

    def upto(self, edges: Floats) -> Floats:
        """Return how many values are at or below each edge."""
        if len(self.pieces) == 1:
            return self.pieces[0].upto(edges)
        return sum((piece.upto(edges) for piece in self.pieces), np.zeros(len(edges)))

    def straddled(self, edges: Floats) -> Floats:
        """Return how many values lie in cells that each edge cuts in two."""
        return sum((piece.straddled(edges) for piece in self.pieces), np.zeros(len(edges)))

    @cached_property
    def knots(self) -> Floats:
        """Where the cumulative curve bends: the values, and the ends of the cells in use; ascending, none twice."""
        return distinct(np.empty(0), *(piece.knots for piece in self.pieces))

    def ranked(self, ranks: Sequence[int]) -> Floats:
        """Return the value of each rank among the finite ones (1 is the least): the first knot that reaches it.

        Of values that is the value itself; of counts the upper edge of its cell, or the greatest value.
        """
        if self.values is not None:
            return self.values[np.array(ranks) - 1]
        heights = self.upto(self.knots) - self.upto(np.array([-FINITE_MAX]))
        # A rank is whole, interpolated heights need not be: half a millionth bridges their rounding.
        found = np.searchsorted(heights, np.array(ranks) - 5e-7, side="left")
        return self.knots[np.minimum(found, self.knots.size - 1)]

    @cached_property
    def finite(self) -> int:
        """How many values are neither missing nor infinite."""
        return sum(piece.power_sums[0] for piece in self.pieces)

    @cached_property
    def moments(self) -> Moments:
        """Basic statistics. The median of counts is interpolated inside its cell; everything else is exact.

        The one exception is the std of values that lie closer together than a ten-millionth of their distance from
        their grid's centre: sums of squares lose its digits.
        """
        if self.range is None:
            return Moments(self.count, self.missing)
        total, mean, squares = 0, 0.0, 0.0
        for n, own_mean, own_squares in (piece.power_sums for piece in self.pieces):
            if n:
                # Chan, Golub & LeVeque (1979): merging means and squared distances without losing digits.
                distance = own_mean - mean
                squares += own_squares + distance * distance * total * n / (total + n)
                total += n
                mean += distance * n / total
        low, high = self.range
        # No spread is more than half the range, whatever rounding says.
        std = min(float(np.sqrt(squares / total)), (high - low) / 2)
        return Moments(self.count, self.missing, low, high, min(max(mean, low), high), self._median(), std)

    def _median(self) -> float:
        if self.values is not None:
            values, n = self.values, self.finite
            return float((values[(n - 1) // 2] + values[n // 2]) / 2)
        heights = self.upto(self.knots) - self.upto(np.array([-FINITE_MAX]))
        half = self.finite / 2
        above = int(np.searchsorted(heights, half, side="left"))
        if above == 0:
            return float(self.knots[0])
        rise = heights[above] - heights[above - 1]
        share = (half - heights[above - 1]) / rise
        return float(self.knots[above - 1] + share * (self.knots[above] - self.knots[above - 1]))
