"""Where an assay cuts its baseline into bins, and what it calls them.

Bins are right-inclusive; bin i holds edges[i-1] < x <= edges[i], the first reaches down to minus infinity and the last
up to infinity. The reference platform's first layout (v1, and driftline's own) has an outlier bin at each end: below
the baseline's least value, which itself belongs to the first bin, and above its greatest. Its second (v2) has none
for quantiles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from driftline.assay.observed import Floats, Observed
from driftline.errors import InvalidInputError
from driftline.summary.arrays import as_floats
from driftline.summary.grid import just_below
from driftline.wire.api import BinMode, Summarizer

LEFT, RIGHT = "left_outlier", "right_outlier"


@dataclass(frozen=True, eq=False)
class Layout:
    """Ascending edges, and one label more than edges. `slots` says which of the bins asked for each bin stands for."""

    labels: tuple[str, ...]
    edges: Floats
    slots: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()

    def weights(self, asked: Sequence[float] | None) -> Floats | None:
        """Return a weight a bin: bins that fell together keep the weights of all they stand for.

        Raises:
            InvalidInputError: all bins that are left have weight 0.
        """
        if asked is None:
            return None
        weights = np.array([sum(asked[slot] for slot in slots) for slots in self.slots])
        if not weights.sum() > 0:
            raise InvalidInputError("the bins that this baseline has all have weight 0; give other bin weights")
        return weights


def layout_of(observed: Observed, summarizer: Summarizer, *, float32: bool = False) -> Layout:
    """Cut a baseline into bins.

    Edges of a float32 field are rounded to float32, as its values are. Fewer bins than asked are explained in `notes`.

    Raises:
        InvalidInputError: the baseline has no finite value.
    """
    if observed.range is None:
        raise InvalidInputError(
            "the baseline has no finite value, so there is nothing to compare with; take another baseline"
        )
    make: dict[BinMode, Callable[[Observed, Summarizer, bool], Layout]] = {
        "quantile": _interpolated if summarizer.compat == "v2" else _observed,
        "equal": _equal,
        "provided": _provided,
    }
    return make[summarizer.bin_mode](observed, summarizer, float32)


def asked_bins(summarizer: Summarizer) -> int:
    """Return how many bins are asked for, outliers included: as many as there are bin weights.

    >>> asked_bins(Summarizer()), asked_bins(Summarizer(compat="v2"))
    (7, 5)
    """
    if summarizer.bin_mode == "provided":
        return len(summarizer.bin_edges or ()) + 1
    if summarizer.bin_mode == "quantile" and summarizer.compat == "v2":
        return summarizer.num_bins
    return summarizer.num_bins + 2


def quantile_edges(observed: Observed, bins: int) -> Floats:
    """Return the right edges of `bins` quantile bins, one each: observed values, without interpolation.

    This is numpy's `inverted_cdf`; of counts it is the upper edge of the cell that holds the value.
    """
    n = observed.finite
    # −(−a // b) rounds up, in whole numbers: 0.6 × 5 in floating point is more than 3.
    return observed.ranked([-(-n * i // bins) for i in range(1, bins + 1)])


def _observed(observed: Observed, summarizer: Summarizer, float32: bool) -> Layout:
    """Quantile bins whose edges are observed values, and an outlier bin at each end."""
    bins = summarizer.num_bins
    low, high = observed.least, observed.greatest
    first = just_below(low, float32=float32)
    names: dict[float, str] = {}
    last_slot: dict[float, int] = {}
    for i, edge in enumerate(quantile_edges(observed, bins).tolist(), start=1):
        # Of edges that fall together the last one names the bin, because it holds all that lies up to there.
        names[edge], last_slot[edge] = f"q_{100 * i / bins:.4g}", i
    # Closing the lowest value into the first bin: an edge there is the same edge again.
    edges = sorted(edge for edge in names if edge > low) or [high]
    slots = _runs([0, *(last_slot[edge] for edge in edges), bins + 1])
    if summarizer.compat is None and summarizer.bin_weights is None:
        atoms = _atoms(observed, low, float32, bins)
        names = atoms | names
        edges = sorted({*edges, *atoms})
        slots = tuple((slot,) for slot in range(len(edges) + 2))
    labels = (LEFT, *(names[edge] for edge in edges), RIGHT)
    return Layout(labels, np.array([first, *edges]), slots, _fewer(observed, bins, len(edges), "quantile"))


def _atoms(observed: Observed, low: float, float32: bool, bins: int) -> dict[float, str]:
    """Return the edges that give a value a bin of its own, with their labels.

    The reference platform closes the lowest value into the first bin and drops edges that fall together; of a
    baseline that is 90 % zeros one bin remains, and a fall to 70 % cannot be seen. Under driftline's own rules a
    value as frequent as two of the bins asked for has a bin of its own. Continuous fields have no such value.
    """
    # A value that fills two bins is the edge of at least one quantile.
    values = np.unique(quantile_edges(observed, bins))
    under = np.array([just_below(value, float32=float32) for value in values.tolist()])
    upto, before = observed.upto(values), observed.upto(under)
    # Where the value lies in a cell that an edge would cut, its own share is not known.
    known = observed.straddled(under) + observed.straddled(values) == 0
    heavy = known & ((upto - before) * bins >= 2 * observed.n)
    edges: dict[float, str] = {}
    for i in np.flatnonzero(heavy):
        edges[float(values[i])] = f"q_{100 * upto[i] / observed.n:.4g}"
        # What lies between this value and the edge before it, if anything does, is a bin too.
        if values[i] > low and before[i] > (upto[i - 1] if i else 0):
            edges[float(under[i])] = f"q_{100 * before[i] / observed.n:.4g}"
    return edges


def _interpolated(observed: Observed, summarizer: Summarizer, float32: bool) -> Layout:
    """v2's quantile bins: interpolated edges, none at the ends. Of counts the edges are not interpolated."""
    bins = summarizer.num_bins
    shares = [i / bins for i in range(1, bins)]
    values = observed.values
    edges = quantile_edges(observed, bins)[:-1] if values is None else np.quantile(values, shares)
    edges = as_floats(edges, float32=float32)
    last = {edge: i for i, edge in enumerate(edges.tolist(), start=1)}
    ends = [0, *last.values(), bins]
    percent = [f"{100 * i / bins:.4g}%" for i in ends]
    labels = [f"{left} - {right}" for left, right in pairwise(percent)]
    if len(labels) > 1:
        labels[0], labels[-1] = f"< {percent[1]}", f"> {percent[-2]}"
    slots = tuple(tuple(range(a, b)) for a, b in pairwise(ends))
    return Layout(tuple(labels), np.array(list(last)), slots, _fewer(observed, bins, len(labels), "quantile"))


def _equal(observed: Observed, summarizer: Summarizer, float32: bool) -> Layout:
    """Bins of equal width from the least to the greatest value, and an outlier bin at each end."""
    bins = summarizer.num_bins
    low, high = observed.least, observed.greatest
    raw = as_floats(low + (high - low) * np.arange(1, bins + 1) / bins, float32=float32)
    raw[-1] = high
    last = {edge: i for i, edge in enumerate(raw.tolist(), start=1) if edge > low}
    last = last or {high: bins}
    labels = (LEFT, *(f"p_{_scientific(edge)}" for edge in last), RIGHT)
    edges = np.array([just_below(low, float32=float32), *last])
    return Layout(labels, edges, _runs([0, *last.values(), bins + 1]), _fewer(observed, bins, len(last), "equal"))


def _provided(observed: Observed, summarizer: Summarizer, float32: bool) -> Layout:
    """The user's own edges, and an outlier bin at each end."""
    given = as_floats(summarizer.bin_edges or (), float32=float32)
    last = {edge: i for i, edge in enumerate(given.tolist())}
    labels = (LEFT, *(f"e_{_scientific(edge)}" for edge in list(last)[1:]), RIGHT)
    notes = list[str]()
    if len(last) < given.size:
        notes.append(
            f"{given.size - len(last)} bin edges fell together when they were rounded to float32, as the field is"
        )
    outside = observed.n - float(np.diff(observed.upto(given[[0, -1]]))[0])
    if outside * 2 > observed.n:
        notes.append(f"{outside / observed.n:.0%} of the baseline lies outside the bin edges, in the outlier bins")
    return Layout(labels, np.array(list(last)), _runs([*last.values(), given.size]), tuple(notes))


def _runs(last: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the slots from after each one's predecessor up to itself.

    >>> _runs([0, 3, 5, 6])
    ((0,), (1, 2, 3), (4, 5), (6,))
    """
    return tuple(tuple(range(a + 1, b + 1)) for a, b in pairwise([-1, *last]))


def _fewer(observed: Observed, asked: int, got: int, mode: str) -> tuple[str, ...]:
    if got >= asked:
        return ()
    low, high = observed.least, observed.greatest
    if low == high:
        why = f"every value of the baseline is {low:g}"
    elif observed.exact:
        why = f"the baseline has {observed.knots.size} distinct values"
    else:
        why = "the baseline is known by counts in few cells"
    return (f"{asked} {mode} bins were asked for; {why}, so there {'is' if got == 1 else 'are'} {got}",)


def _scientific(edge: float) -> str:
    """Write an edge as the reference platform does.

    >>> _scientific(12.6), _scientific(0.0012)
    ('1.26e1', '1.20e-3')
    """
    mantissa, exponent = f"{edge:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"
