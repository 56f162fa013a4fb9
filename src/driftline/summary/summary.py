"""What a device remembers of a field's values in one base window: counts and moments that merge.

A summary is a monoid: `Summary.zero` changes nothing, `merge` is associative and commutative; counts, min and max
merge exactly, sums to rounding. NaN and None are missing: they count in `count` and `missing` and nowhere else.
An infinite value counts in an outer cell and in `infinite`, never in min, max or sums.
"""

import math
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from driftline.errors import InvalidInputError
from driftline.summary.grid import Grid, to_float32

# Beyond this a value counts as infinite: its square, summed over 2²⁰⁰ values, is still a float64.
FINITE_MAX = 2.0**400
# Sums of the same values in another order differ by less than this, relative to the sum of their sizes.
SUM_TOLERANCE = 1e-9
# A category field that names more than this is an identifier; the rest is counted together.
CATEGORIES_MAX = 64
CATEGORY_CHARACTERS_MAX = 64
# Travels where a category has no grid.
CATEGORY_GRID_ID = "0" * 16


@dataclass(frozen=True, slots=True)
class Summary:
    """One field's numbers over some time, on one grid.

    `cells` are (index, count) pairs, ascending, without zeros; `sum` and `sum_squares` are Σ(x−c) and Σ(x−c)² over
    the finite values about c, the grid's centre; `infinite` counts −inf and +inf.
    """

    grid_id: str
    count: int
    missing: int
    cells: tuple[tuple[int, int], ...]
    min: float | None
    max: float | None
    sum: float
    sum_squares: float
    infinite: tuple[int, int] = (0, 0)

    @property
    def n(self) -> int:
        """How many values there are: all inferences but the missing."""
        return self.count - self.missing

    @property
    def finite(self) -> int:
        """How many values are neither missing nor infinite."""
        return self.n - sum(self.infinite)

    @staticmethod
    def zero(grid: Grid) -> "Summary":
        """Return the summary of nothing."""
        return Summary(grid.id, 0, 0, (), None, None, 0.0, 0.0)

    def merge(self, *others: "Summary") -> "Summary":
        """Return the summary of all values of this one and any number of others, in one pass.

        Raises:
            InvalidInputError: they were counted on different grids.
        """
        cells = dict(self.cells)
        for other in others:
            if self.grid_id != other.grid_id:
                raise InvalidInputError(
                    f"summaries on grids {self.grid_id} and {other.grid_id} do not merge; only counts on one grid do"
                )
            for cell, count in other.cells:
                cells[cell] = cells.get(cell, 0) + count
        every = (self, *others)
        return Summary(
            self.grid_id,
            sum(one.count for one in every),
            sum(one.missing for one in every),
            tuple(sorted(cells.items())),
            min((one.min for one in every if one.min is not None), default=None),
            max((one.max for one in every if one.max is not None), default=None),
            math.fsum(one.sum for one in every),
            math.fsum(one.sum_squares for one in every),
            (sum(one.infinite[0] for one in every), sum(one.infinite[1] for one in every)),
        )

    def fits(self, grid: Grid) -> bool:
        """Say whether values on this grid can have given this summary: what a hub asks before it believes one."""
        cells, last = self.cells, len(grid.edges)
        if self.grid_id != grid.id or (cells and cells[-1][0] > last):
            return False
        below, above = self.infinite
        # Infinite values lie in the outermost cells, which every grid has; finite ones from the first to the last cell
        # that has others.
        first_at, last_at = 0, len(cells) - 1
        if below:
            if not cells or cells[0][0] != 0 or cells[0][1] < below:
                return False
            first_at += cells[0][1] == below
        if above:
            if not cells or cells[-1][0] != last or cells[-1][1] < above:
                return False
            last_at -= cells[-1][1] == above
        if self.min is None or self.max is None:
            return True
        if first_at > last_at or (cells[first_at][0], cells[last_at][0]) != (grid.cell(self.min), grid.cell(self.max)):
            return False
        centre, finite = grid.centre, self.finite
        reach = max(abs(self.min - centre), abs(self.max - centre)) * (1 + SUM_TOLERANCE)
        return abs(self.sum) <= finite * reach and self.sum_squares <= finite * reach * reach


class Tally:
    """Counts single values as they come, with the standard library alone.

    >>> tally = Tally(Grid((0.0, 1.0)))
    >>> for value in (0.5, 0.5, 7.0, None):
    ...     tally.add(value)
    >>> tally.summary().cells, tally.summary().missing
    (((1, 2), (2, 1)), 1)
    """

    __slots__ = ("_above", "_below", "_cells", "_centre", "_edges", "_float32", "_max", "_min", "_missing", "_squares",
                 "_sum", "grid")  # fmt: skip

    def __init__(self, grid: Grid, *, float32: bool = False) -> None:
        self.grid = grid
        self._edges = grid.edges
        self._centre = grid.centre
        self._float32 = float32
        self._cells: dict[int, int] = {}
        self._missing = self._below = self._above = 0
        self._min, self._max = math.inf, -math.inf
        self._sum = self._squares = 0.0

    def add(self, value: float | None) -> None:
        """Count one value; None and NaN are missing."""
        if value is None or value != value:  # noqa: PLR0124  only NaN differs from itself, and this is fast
            self._missing += 1
            return
        # float() also takes a numpy scalar: adding those up as they are would sum float32 in float32.
        x = to_float32(value) if self._float32 else float(value)
        cell = bisect_left(self._edges, x)
        cells = self._cells
        cells[cell] = cells.get(cell, 0) + 1
        if not -FINITE_MAX < x < FINITE_MAX:
            self._add_infinite(x)
            return
        if x < self._min:  # noqa: PLR1730  a call to min() would take half as long as all the rest
            self._min = x
        if x > self._max:  # noqa: PLR1730
            self._max = x
        distance = x - self._centre
        self._sum += distance
        self._squares += distance * distance

    def _add_infinite(self, x: float) -> None:
        if x < 0:
            self._below += 1
        else:
            self._above += 1

    def summary(self) -> Summary:
        """Return what was counted so far."""
        n = sum(self._cells.values())
        finite = n > self._below + self._above
        return Summary(
            self.grid.id,
            n + self._missing,
            self._missing,
            tuple(sorted(self._cells.items())),
            self._min if finite else None,
            self._max if finite else None,
            self._sum,
            self._squares,
            (self._below, self._above),
        )


# ── categories ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """One category field over some time: how often each name came, sorted by name.

    Beyond `CATEGORIES_MAX` names those that come first in the order of a checksum are kept, the rest is `other`.
    That order is the same everywhere and for ever, so that merging stays associative and windows stay comparable;
    keeping the most frequent would be neither.
    """

    count: int = 0
    missing: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    other: int = 0

    @property
    def grid_id(self) -> str:
        """Categories have no grid; this id travels in its place."""
        return CATEGORY_GRID_ID

    @property
    def n(self) -> int:
        """How many names came: all inferences but the missing."""
        return self.count - self.missing

    @property
    def limit(self) -> tuple[int, str] | None:
        """The last place (see `place_of`) of which everything is known; None where nothing is in `other`.

        A name that comes earlier and is not in `counts` never came; one that comes later may be in `other`.
        """
        return max((place_of(name) for name, _ in self.counts), default=(-1, "")) if self.other else None

    @staticmethod
    def of(values: Iterable[str | None]) -> "CategorySummary":
        """Return the summary of these names, None where missing."""
        tally = CategoryTally()
        for value in values:
            tally.add(value)
        return tally.summary()

    def merge(self, *others: "CategorySummary") -> "CategorySummary":
        """Return the summary of all values of this one and any number of others, in one pass."""
        counts = dict(self.counts)
        for one in others:
            for name, count in one.counts:
                counts[name] = counts.get(name, 0) + count
        every = (self, *others)
        kept = sorted(counts, key=place_of)[:CATEGORIES_MAX]
        rest = sum(counts.values()) - sum(counts[name] for name in kept)
        return replace(
            self,
            count=sum(one.count for one in every),
            missing=sum(one.missing for one in every),
            counts=tuple(sorted((name, counts[name]) for name in kept)),
            other=sum(one.other for one in every) + rest,
        )


@dataclass(slots=True)
class CategoryTally:
    """Counts names as they come; a name longer than `CATEGORY_CHARACTERS_MAX` is cut there."""

    _counts: dict[str, int] = field(default_factory=dict[str, int])
    _missing: int = 0
    _other: int = 0

    def add(self, value: str | None) -> None:
        """Count one name; None is missing."""
        if value is None:
            self._missing += 1
            return
        # A lone surrogate cannot travel as UTF-8.
        name = value[:CATEGORY_CHARACTERS_MAX].encode(errors="replace").decode()
        self._counts[name] = self._counts.get(name, 0) + 1
        if len(self._counts) > CATEGORIES_MAX:
            # Every name dropped so far comes after all that are kept, so its later values end up in `other` too.
            self._other += self._counts.pop(max(self._counts, key=place_of))

    def summary(self) -> CategorySummary:
        """Return what was counted so far."""
        n = sum(self._counts.values()) + self._other
        return CategorySummary(n + self._missing, self._missing, tuple(sorted(self._counts.items())), self._other)


def place_of(name: str) -> tuple[int, str]:
    """Return a name's place in the order by which names are kept: that of a checksum, the same everywhere."""
    return zlib.crc32(name.encode()), name
