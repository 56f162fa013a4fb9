"""The rules of alarm that are in use today, on counts in bins, for the benchmarks to hold a promise against.

Counts of windows have shape (streams, windows, bins), those of the baselines (streams, bins). A rule answers which
windows it fires in, (streams, windows). PSI and χ² work on ten bins of equal shares of the baseline.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from driftline.assay.baseline import BaselineData
from driftline.wire.api import Summarizer

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BINS = 10
LEVEL = 0.05


def beginnings(alarm: Flags) -> Flags:
    """Return the windows in alarm that follow one without, (streams, windows)."""
    begins = alarm.copy()
    begins[:, 1:] &= ~alarm[:, :-1]
    return begins


def counted(edges: Floats, windows: Floats) -> Floats:
    """Return how many rows lie in each bin, (windows, rows) → (windows, edges + 1)."""
    bins = edges.size + 1
    cells = np.searchsorted(edges, windows) + bins * np.arange(len(windows))[:, None]
    return np.bincount(cells.ravel(), minlength=bins * len(windows)).reshape(-1, bins).astype(np.float64)


def in_deciles(baseline: Floats, windows: Floats) -> tuple[Floats, Floats]:
    """Return counts of the windows, (windows, bins), and of the baseline, (bins,), in the baseline's own deciles."""
    edges = np.quantile(baseline, np.arange(1, BINS) / BINS)
    return counted(edges, windows), counted(edges, baseline[None])[0]


def fixed_psi(baseline: BaselineData, windows: Floats) -> Floats:
    """Return PSI on five bins of each window, (windows, rows) → (windows,), as the reference platform computes it."""
    cut = baseline.cut(Summarizer(compat="v1"), None)
    # Of so few edges each is compared with all rows sooner than each row is looked up.
    upto = [np.count_nonzero(windows <= edge, axis=1) for edge in cut.edges]
    counts = np.diff(np.stack([*upto, np.full(len(windows), windows.shape[1])], axis=1), axis=1, prepend=0)
    shares = counts / windows.shape[1]
    b, w = np.where(cut.shares == 0, 0.005, cut.shares), np.where(shares == 0, 0.005, shares)
    terms = np.where((cut.shares == 0) & (shares == 0), 0.0, (w - b) * np.log(w / b))
    return np.asarray(terms.sum(axis=1))


def psi(counts: Floats, reference: Floats) -> Floats:
    """Return PSI of each window; an empty bin counts as a ten thousandth, as most tools have it."""
    w = np.maximum(counts / counts.sum(axis=2, keepdims=True), 1e-4)
    b = np.maximum(reference / reference.sum(axis=1, keepdims=True), 1e-4)[:, None]
    return np.asarray(((w - b) * np.log(w / b)).sum(axis=2))


def chi_squared(counts: Floats, reference: Floats) -> Floats:
    """Return the p-value of each window against its baseline: Pearson's test of two samples."""
    other = np.broadcast_to(reference[:, None], counts.shape)
    n, m = counts.sum(axis=2), other.sum(axis=2)
    expected = (counts + other) * (n / (n + m))[..., None]
    # What the window has more the baseline has less: both rows of the table in one sum.
    statistic = ((counts - expected) ** 2 / expected).sum(axis=2) * (n + m) / m
    return np.asarray(chdtrc(counts.shape[2] - 1, statistic))


def benjamini_hochberg(p: Floats, q: float = LEVEL) -> Flags:
    """Return which p-values a fleet rejects in each window. Source: Benjamini & Hochberg (1995)."""
    streams = len(p)
    ordered = np.sort(p, axis=0)
    below = ordered <= q * np.arange(1, streams + 1)[:, None] / streams
    last = streams - 1 - below[::-1].argmax(axis=0)
    cut = np.where(below.any(axis=0), ordered[last, np.arange(p.shape[1])], -1.0)
    return p <= cut


def lord3(p: Floats, alpha: float = LEVEL) -> Flags:
    """Return which of a sequence of p-values LORD3 rejects.

    Each test spends a share of the wealth that was there after the last rejection, and a rejection earns; a tenth of
    alpha is there from the start.

    Source: Javanmard & Montanari (2018), Online rules for control of false discovery rate.
    """
    j = np.arange(1, p.size + 1, dtype=np.float64)
    share = np.log(np.maximum(j, 2)) / (j * np.exp(np.sqrt(np.log(j))))
    share /= share.sum()
    spent = np.cumsum(share)
    wealth, start = alpha / 10, 0
    rejected = np.zeros(p.size, dtype=np.bool_)
    while start < p.size:
        under = p[start:] <= share[: p.size - start] * wealth
        first = int(under.argmax())
        if not under[first]:
            break
        rejected[start + first] = True
        wealth += alpha * 0.9 - wealth * float(spent[first])
        start += first + 1
    return rejected


def saffron(p: Floats, alpha: float = LEVEL, candidate: float = 0.5) -> Flags:
    """Return which of a sequence of p-values SAFFRON rejects.

    The level of a test depends on how many tests that were no candidates lie between it and each earlier rejection:
    `levels` holds it for every such number still to come.

    Source: Ramdas, Zrnic, Wainwright & Jordan (2018), SAFFRON.
    """
    share = np.arange(1, p.size + 1, dtype=np.float64) ** -1.6
    share /= share.sum()
    levels = (1 - candidate) * alpha / 2 * share
    rejected = np.zeros(p.size, dtype=np.bool_)
    at = 0
    # The first rejection earns what was not there from the start; each later one alpha.
    earned = alpha / 2
    for test, one in enumerate(p.tolist()):
        is_rejected = one <= min(candidate, levels[at])
        at += one > candidate
        if is_rejected:
            rejected[test] = True
            levels[at:] += (1 - candidate) * earned * share[: p.size - at]
            earned = alpha
    return rejected


def in_order(rule: Callable[[Floats], Flags], p: Floats) -> Flags:
    """Apply a rule to all tests as one sequence: window by window, and in each stream by stream."""
    return rule(p.T.ravel()).reshape(p.T.shape).T


def fleet_rules(counts: Floats, reference: Floats) -> dict[str, Flags]:
    """Return what each rule says of a fleet."""
    score, p = psi(counts, reference), chi_squared(counts, reference)
    return {
        "PSI > 0.25": score > 0.25,
        "PSI > 0.2": score > 0.2,
        "PSI > 0.1": score > 0.1,
        "χ² p < 0.05 a window": p < LEVEL,
        "Benjamini-Hochberg each hour, q = 0.05": benjamini_hochberg(p),
        "LORD3 over all tests": in_order(lord3, p),
        "SAFFRON over all tests": in_order(saffron, p),
    }
