"""Where a field's values are counted: the edges of a grid, and the grids every field begins with.

A grid of k edges has k + 1 cells, right-inclusive: cell i holds edges[i-1] < x <= edges[i], cell 0 all that lies at
or below the first edge, the last cell all above the last one. A grid is never changed: its id is a hash of its edges.
"""

import hashlib
import math
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from driftline.errors import InvalidInputError

_FLOAT32 = struct.Struct("<f")
_BITS32 = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class Grid:
    """Ascending, finite edges; equal to another grid when the ids are.

    >>> grid = Grid((0.0, 1.0, 2.0))
    >>> [grid.cell(value) for value in (-1.0, 0.0, 0.5, 1.0, 9.0)]
    [0, 0, 1, 1, 3]

    Raises:
        InvalidInputError: no edge at all, one that is not finite, or edges that do not ascend.
    """

    edges: tuple[float, ...] = field(compare=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.edges or not all(map(math.isfinite, self.edges)):
            raise InvalidInputError("a grid has at least one edge, and each of them is a finite number")
        if any(left >= right for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise InvalidInputError("the edges of a grid ascend, and none comes twice")
        data = struct.pack(f"<{len(self.edges)}d", *self.edges)
        object.__setattr__(self, "id", hashlib.sha256(data).hexdigest()[:16])

    @property
    def cells(self) -> int:
        """How many cells there are, under- and overflow included."""
        return len(self.edges) + 1

    @property
    def centre(self) -> float:
        """The middle edge: sums are taken about it, because Σx² of large, close values loses their spread."""
        return self.edges[len(self.edges) // 2]

    def cell(self, value: float) -> int:
        """Return the index of the cell that counts this value; it must not be NaN."""
        return bisect_left(self.edges, value)


def to_float32(value: float) -> float:
    """Round to the nearest float32; what is too large for one becomes infinite.

    >>> to_float32(0.1)
    0.10000000149011612
    """
    try:
        return float(_FLOAT32.unpack(_FLOAT32.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def just_below(value: float, *, float32: bool = False) -> float:
    """Return nextafter(value, −inf) in the field's type: the left edge that closes `value` into its first cell.

    >>> just_below(1.0) < 1.0, just_below(1.0, float32=True)
    (True, 0.9999999403953552)
    """
    if not float32:
        return math.nextafter(value, -math.inf)
    rounded = to_float32(value)
    if rounded == 0.0:
        return -math.ldexp(1.0, -149)  # the largest negative float32
    # The bits of a float32, read as an integer, grow with its distance from zero.
    (bits,) = _BITS32.unpack(_FLOAT32.pack(rounded))
    return float(_FLOAT32.unpack(_BITS32.pack(bits - 1 if rounded > 0 else bits + 1))[0])


def quantile_grid(values: Sequence[float], bins: int = 60, *, float32: bool = False) -> Grid:
    """Return the grid whose cells each hold about the same number of these values.

    Edges are observed values (`inverted_cdf`), none twice, the lowest closed into the first cell: `bins` + 1 edges
    and two cells more where there are that many distinct values. 60 bins because PSI of five bins then stays within
    0.01 of its value from rows wherever the five edges fall.

    >>> quantile_grid([1.0, 2.0, 3.0, 4.0], bins=2).edges[1:]
    (2.0, 4.0)

    Raises:
        InvalidInputError: there is no finite value.
    """
    rounded: Iterable[float] = map(to_float32, values) if float32 else map(float, values)
    finite = sorted(value for value in rounded if math.isfinite(value))
    if not finite:
        raise InvalidInputError("a grid of quantiles needs at least one finite value")
    n = len(finite)
    # −(−a // b) rounds up, in whole numbers: 0.6 × 5 in floating point is more than 3.
    edges = {finite[-(-n * i // bins) - 1] + 0.0 for i in range(1, bins + 1)}
    return Grid((just_below(finite[0], float32=float32), *sorted(edges)))


def joined(grid: Grid, extra_edges: Sequence[float], cells_max: int = 256) -> Grid:
    """Return the grid with further edges, of which it keeps as many as it can.

    Where there would be more than `cells_max` cells the grid's own edges are thinned out evenly, and only then the
    extra ones: an edge that is missing costs an assay a little power, never a false alarm, because edges snap.

    >>> joined(Grid((0.0, 1.0)), [0.5]).edges
    (0.0, 0.5, 1.0)
    """
    room = cells_max - 1
    wanted = _thinned(sorted({edge + 0.0 for edge in extra_edges}), room)
    own = _thinned([edge for edge in grid.edges if edge not in set(wanted)], room - len(wanted))
    return Grid(tuple(sorted({*wanted, *own})))


def _thinned(edges: Sequence[float], room: int) -> Sequence[float]:
    """Return at most `room` of the edges, spread evenly, the outermost ones among them."""
    if len(edges) <= room:
        return edges
    if room < 2:
        return edges[:room]
    return [edges[i * (len(edges) - 1) // (room - 1)] for i in range(room)]


def _universal() -> Grid:
    """32 linear cells a doubling from 2⁻⁶⁴ to 2⁶⁴, both signs, and zero: every edge is exact in float32."""
    doubling = [1 + k / 32 for k in range(32)]
    positive = array("d", (math.ldexp(step, e) for e in range(-64, 64) for step in doubling))
    positive.append(math.ldexp(1.0, 64))
    return Grid((*(-edge for edge in reversed(positive)), 0.0, *positive))


# Where nothing is known of a field yet. A value is known to 1/32 of itself, or better; its centre is 0.
UNIVERSAL = _universal()
