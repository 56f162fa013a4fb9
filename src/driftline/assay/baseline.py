"""What windows are compared with, cut into bins once and kept, so that thousands of windows can be scored.

A window's counts can only be cut where its grid has edges. The bin edges are therefore **snapped** to the window's
grid, and the baseline is binned with the same snapped edges: a coarse grid costs power and never makes false drift. An
undrifted confidence on the universal grid scores a PSI of 2.7 when only the window is snapped, and 0.03 so.

Where the baseline itself is known by counts only, an edge must suit its grids too. An edge that both know is exact; one
that cuts a cell of either is interpolated there, and is taken only where that cell holds a small share
(`STRADDLED_MAX`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from driftline.assay.bins import Layout, layout_of
from driftline.assay.observed import Floats, Known, Observed, Part, Rows, in_bins
from driftline.summary.arrays import as_floats, edges_of
from driftline.summary.grid import Grid, just_below
from driftline.wire.api import Summarizer

# An edge inside cells that hold this share of the baseline misplaces at most so much, and on average half of it: with
# five bins this adds less than 0.01 to a PSI, where coarser cells would cost that much by moving the edge.
STRADDLED_MAX = 0.04
# One assay asks with one summarizer on a handful of grids; more than this is another use, and starts anew.
_KEPT_MAX = 256


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A layout's edges as one grid can have them (`edges`), the baseline's share of each bin, and what it cost.

    `moved` is how far the farthest edge was moved; `interpolated` the largest share of the baseline that lies in a cell
    which an edge cuts.
    """

    edges: Floats
    shares: Floats
    moved: float
    interpolated: float


class BaselineData(Known[Observed]):
    """A baseline's values or counts. What is worked out from them is kept; the data never changes.

    `raw` is the values in the order they came, NaN where missing, or None where counts are all there is.

    >>> baseline = BaselineData.of_values(range(100))
    >>> baseline.layout(Summarizer()).labels
    ('left_outlier', 'q_20', 'q_40', 'q_60', 'q_80', 'q_100', 'right_outlier')
    """

    def __init__(self, observed: Observed, field_type: str = "float64", raw: Floats | None = None) -> None:
        super().__init__(observed)
        self.field_type = field_type
        self.float32 = field_type == "float32"
        self.raw = raw
        self._layouts: dict[bytes, Layout] = {}
        self._cuts: dict[tuple[bytes, str | None], Cut] = {}

    @classmethod
    def of_values(cls, values: ArrayLike, field_type: str = "float64") -> "BaselineData":
        """Take values of any shape; NaN and None are missing."""
        floats = as_floats(values, float32=field_type == "float32")
        return cls(Observed([Rows(floats)]), field_type, raw=floats)

    @classmethod
    def of_parts(cls, parts: Sequence[Part], field_type: str = "float64") -> "BaselineData":
        """Take values and counts together, on any number of grids."""
        if parts and all(part.values is not None for part in parts):
            return cls.of_values(np.concatenate([part.values for part in parts if part.values is not None]), field_type)
        return cls(Observed.of_parts(parts, float32=field_type == "float32"), field_type)

    def read(self, parts: Sequence[Part]) -> Observed:
        """Read the parts of a window that is to be compared with this baseline."""
        return Observed.of_parts(parts, float32=self.float32)

    @cached_property
    def single_ends(self) -> tuple[bool, bool]:
        """Whether the least and the greatest finite value came once.

        One that comes again and again is a limit that nothing goes beyond.
        """
        ends = (self.observed.least, self.observed.greatest)
        below = [just_below(end, float32=self.float32) for end in ends]
        upto, before = self.observed.upto(np.array(ends)), self.observed.upto(np.array(below))
        least, greatest = (upto - before <= 1).tolist()
        return least, greatest

    @property
    def usable(self) -> bool:
        """Whether anything can be compared with it: at least one finite value."""
        return self.observed.range is not None

    def layout(self, summarizer: Summarizer) -> Layout:
        """Return the bins that a summarizer asks for.

        Raises:
            InvalidInputError: there is no finite value to make bins of.
        """
        key = _key(summarizer)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _KEPT_MAX:
                self._layouts.clear()
            layout = self._layouts[key] = layout_of(self.observed, summarizer, float32=self.float32)
        return layout

    def cut(self, summarizer: Summarizer, grid: Grid | None) -> Cut:
        """Return the bins as values (`grid` None) or counts on a grid can be cut, with the baseline's shares."""
        key = (_key(summarizer), None if grid is None else grid.id)
        cut = self._cuts.get(key)
        if cut is None:
            if len(self._cuts) >= _KEPT_MAX:
                self._cuts.clear()
            cut = self._cuts[key] = self._cut(self.layout(summarizer).edges, grid)
        return cut

    def _cut(self, asked: Floats, grid: Grid | None) -> Cut:
        if self.observed.exact:
            edges = asked if grid is None else nearest(edges_of(grid), asked)
            straddled = np.zeros(1)
        else:
            candidates = self._candidates(asked, grid)
            share = self._straddled(candidates, grid) / self.n
            # The best there is will do where none is good.
            edges = nearest(candidates[share <= max(STRADDLED_MAX, share.min())], asked)
            straddled = self._straddled(edges, grid)
        moved = float(np.abs(edges - asked).max(initial=0.0))
        return Cut(edges, self.shares(edges), moved, float(straddled.max(initial=0.0) / self.n))

    def shares(self, edges: Floats) -> Floats:
        """Return the share of the baseline in each bin between these edges, shape (edges + 1,)."""
        return in_bins(self.observed.upto(edges), self.n) / self.n

    def _candidates(self, asked: Floats, grid: Grid | None) -> Floats:
        """Return where an edge might lie: where it was asked, and at edges of the baseline's and the window's grids."""
        knots = self.observed.knots
        if grid is None:
            return np.unique(np.concatenate((asked, knots)))
        edges = edges_of(grid)
        # Beyond the baseline's values and the edges asked for, the next edge of the grid is as good as any.
        low, high = min(asked.min(initial=knots[0]), knots[0]), max(asked.max(initial=knots[-1]), knots[-1])
        first, last = np.searchsorted(edges, [low, high])
        return np.unique(np.concatenate((asked, knots, edges[max(0, first - 1) : last + 1])))

    def _straddled(self, edges: Floats, grid: Grid | None) -> Floats:
        """Return how many of the baseline's values lie in cells, its own or the window's, that an edge cuts in two."""
        own = self.observed.straddled(edges)
        if grid is None:
            return own
        grid_edges = edges_of(grid)
        cells = np.searchsorted(grid_edges, edges, side="left")
        upto = np.concatenate(([0.0], self.observed.upto(grid_edges), [float(self.n)]))
        whole = np.append(grid_edges, np.inf)[cells] == edges
        return own + np.where(whole, 0.0, upto[cells + 1] - upto[cells])


def nearest(sorted_edges: Floats, wanted: Floats) -> Floats:
    """Return the nearest of ascending edges for each one wanted, the lower one where two are as near.

    >>> nearest(np.array([0.0, 1.0, 4.0]), np.array([-3.0, 0.5, 3.0])).tolist()
    [0.0, 0.0, 4.0]
    """
    above = np.clip(np.searchsorted(sorted_edges, wanted), 1, max(1, sorted_edges.size - 1))
    if sorted_edges.size == 1:
        return np.full(wanted.shape, sorted_edges[0])
    low, high = sorted_edges[above - 1], sorted_edges[above]
    return np.where(wanted - low <= high - wanted, low, high)


def _key(summarizer: Summarizer) -> bytes:
    return msgspec.json.encode(summarizer)
