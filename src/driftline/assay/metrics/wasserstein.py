"""Wasserstein distance: how far, on average, a value would have to move to make the window its baseline.

In the field's own unit. From bins only where in its bin a value lies is not known, so each bin is represented: within
the range of both sides by its middle; an outlier bin by its outermost value, which is known, and the rest of it by the
middle between that value and the bin edge. No value is then farther from where it is taken to be than half its bin's
width, so the distance differs from that of the raw values by at most half the mean width of the bins that hold the
baseline's values plus half that of the window's. An infinite value counts as the end of the finite ones.
"""

import numpy as np

from driftline.assay.metrics.sample import Floats, Sample, column


def wasserstein_terms(baseline: Sample, window: Sample, edges: Floats) -> Floats:
    """Return ∫ |W(x) − B(x)| dx over each bin, shape (bins,); edges are one fewer, shared or one row a window.

    >>> edges = np.array([0.0, 1.0, 2.0])
    >>> before = Sample(np.array([0, 0.5, 0.5, 0]), n=10, least=0.1, greatest=2)
    >>> wasserstein_terms(before, Sample(np.array([0, 0, 0.5, 0.5]), n=2, least=1.5, greatest=4), edges).sum()
    np.float64(1.725)
    """
    shape = np.broadcast_shapes(baseline.shares.shape, window.shares.shape)
    if not edges.shape[-1]:
        middles = [(column(one.least) + column(one.greatest)) / 2 for one in (baseline, window)]
        return np.abs(np.broadcast_to(middles[1] - middles[0], shape))
    low = np.minimum(column(baseline.least), column(window.least))
    high = np.maximum(column(baseline.greatest), column(window.greatest))
    inner = np.broadcast_to(np.clip(edges, low, high), (*shape[:-1], edges.shape[-1]))
    left, left_change = _outlier_bin(baseline, window, inner[..., :1], "least")
    right, right_change = _outlier_bin(baseline, window, inner[..., -1:], "greatest")
    # Edges carry nothing; they are here so that no gap between two places lies in two bins.
    middle = np.zeros((*shape[:-1], 2 * edges.shape[-1] - 1))
    change = np.zeros_like(middle)
    middle[..., ::2], middle[..., 1::2] = inner, (inner[..., 1:] + inner[..., :-1]) / 2
    change[..., 1::2] = (window.shares - baseline.shares)[..., 1:-1]
    places = np.concatenate((left, middle, right), axis=-1)
    apart = np.abs(np.cumsum(np.concatenate((left_change, change, right_change), axis=-1), axis=-1))
    areas = apart[..., :-1] * np.diff(places, axis=-1)
    # Gaps that begin in each bin: four in the left outlier bin, two in each other, four in the right one.
    starts = np.concatenate(([0], 4 + 2 * np.arange(shape[-1] - 1)))
    return np.add.reduceat(areas, starts, axis=-1)


def _outlier_bin(baseline: Sample, window: Sample, edge: Floats, end: str) -> tuple[Floats, Floats]:
    """Return the four places that stand for both sides' values beyond an edge, ascending, and the change at each."""
    places: list[Floats] = []
    changes: list[Floats] = []
    for one, sign in ((baseline, -1.0), (window, 1.0)):
        if end == "least":
            outermost, share = np.minimum(column(one.least), edge), one.shares[..., :1]
        else:
            outermost, share = np.maximum(column(one.greatest), edge), one.shares[..., -1:]
        single = np.minimum(share, 1 / column(one.n))
        places += [outermost, (outermost + edge) / 2]
        changes += [sign * single, sign * (share - single)]
    shape = np.broadcast_shapes(*(one.shape for one in (*places, *changes)))
    place = np.concatenate([np.broadcast_to(one, shape) for one in places], axis=-1)
    change = np.concatenate([np.broadcast_to(one, shape) for one in changes], axis=-1)
    order = np.argsort(place, axis=-1, kind="stable")
    return np.take_along_axis(place, order, axis=-1), np.take_along_axis(change, order, axis=-1)
