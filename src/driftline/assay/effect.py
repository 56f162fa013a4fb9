"""How much has changed, beside how sure it is: in words an owner can weigh against a cost.

Evidence grows with every row; a large fleet proves a hair's breadth. The effect does not: shift in the baseline's
standard deviations, distance in the field's own unit, share outside the range, and the PSI that is there at the least.
"""

import numpy as np

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import Categories, CategoryBaseline
from driftline.assay.metrics.sample import in_sd
from driftline.assay.observed import Counted, Floats, Observed, distinct, in_bins
from driftline.assay.statistics import CELLS
from driftline.summary.summary import FINITE_MAX
from driftline.wire.api import Effect

# What "at least" means: wrong for one window in twenty.
CONFIDENCE = 0.95


def effect_of(baseline: BaselineData, window: Observed, *, rows_per_fact: float = 1.0) -> Effect:
    """Compare a window with its baseline, from values or counts.

    `rows_per_fact` is how many rows say as much as an independent one (1: all are); it widens the bound.
    """
    then, now = baseline.moments, window.moments
    missing_change = (window.missing / window.count if window.count else 0.0) - baseline.missing_share
    if then.mean is None or now.mean is None or then.median is None or now.median is None or then.std is None:
        return Effect(missing_change=missing_change)
    counts, shares = _cells(baseline, window)
    psi = _psi(counts / window.n, shares)
    return Effect(
        mean_shift=float(in_sd(now.mean - then.mean, then.std, baseline.n)),
        median_shift=float(in_sd(now.median - then.median, then.std, baseline.n)),
        wasserstein=wasserstein(baseline.observed, window),
        outside=_outside(baseline.observed, window),
        psi=psi,
        psi_at_least=psi_at_least(counts, shares, baseline.n, rows_per_fact=rows_per_fact),
        missing_change=missing_change,
    )


def effect_of_categories(baseline: CategoryBaseline, window: Categories) -> Effect:
    """Compare a window of text with its baseline; `outside` is the share of new categories, the rest is of shares."""
    missing_change = (window.missing / window.count if window.count else 0.0) - baseline.missing_share
    if not baseline.n or not window.n:
        return Effect(missing_change=missing_change)
    cut = baseline.cut(window)
    shares = cut.baseline / baseline.n
    return Effect(
        outside=float(cut.window[-1] / window.n),
        psi=_psi(cut.window / window.n, shares),
        psi_at_least=psi_at_least(cut.window, shares, baseline.n),
        missing_change=missing_change,
    )


def wasserstein(baseline: Observed, window: Observed) -> float:
    """Return the mean distance that values have to move, in the field's unit; infinite values are left out.

    Of values it is exact. Where counts are compared, both curves are read at the edges of the window's cells and
    are straight lines between, so that a coarse grid hides a change within a cell and never makes one.
    """
    # The metric of this name (`driftline.assay.metrics.wasserstein`) is a sum of terms a bin, of shares and outermost
    # values alone, and takes each bin by its middle; an effect is exact where values are known.
    # Neither can be the other.
    counted = [piece for piece in window.pieces if isinstance(piece, Counted)]
    exact = not counted and baseline.exact
    if exact:
        knots = distinct(baseline.knots, window.knots)
    elif counted:
        ends = np.array([min(baseline.least, window.least), max(baseline.greatest, window.greatest)])
        knots = distinct(*(piece.knots for piece in counted), ends)
        if baseline.least < window.least or baseline.greatest > window.greatest:
            outer = baseline.knots[(baseline.knots < window.least) | (baseline.knots > window.greatest)]
            knots = distinct(knots, outer)
    else:
        knots = distinct(baseline.knots, np.array(window.range or ()))
    difference = _curve(window, knots) - _curve(baseline, knots)
    widths = knots[1:] - knots[:-1]
    if exact:
        return float(np.abs(difference[:-1]) @ widths)
    left, right = difference[:-1], difference[1:]
    size = np.abs(left) + np.abs(right)
    # A line that crosses zero encloses two triangles.
    crossing = np.where(left * right < 0, (left**2 + right**2) / np.where(size > 0, size, 1.0), size)
    return float(crossing @ widths / 2)


def psi_at_least(counts: Floats, shares: Floats, baseline_n: int, *, rows_per_fact: float = 1.0) -> float:
    """Return the least PSI that a window is consistent with: "at least δ" at 95 % confidence.

    Without drift PSI / (1/n + 1/m) is χ² with one degree of freedom less than there are cells in use; with a drift of
    δ it is noncentral by δ / (1/n + 1/m). So a bound of 0.1 means the same at n = 50 and at n = 1,000,000.

    >>> psi_at_least(np.array([50.0, 50.0]), np.array([0.5, 0.5]), 1000)
    0.0
    >>> round(psi_at_least(np.array([8000.0, 2000.0]), np.array([0.5, 0.5]), 10**6), 2)
    0.39

    Source: Yurdakul & Naranjo (2020); the noncentral χ² is the usual limit of Pearson's statistic under a shift.
    """
    # Imported late: only a window that is looked at needs a bound.
    from scipy.special import chndtr, chndtrinc

    n = float(counts.sum())
    used = int(((counts > 0) | (shares > 0)).sum())
    if n <= 0 or used < 2:
        return 0.0
    unit = (1 / n + 1 / baseline_n) * rows_per_fact
    found = _psi((counts + 0.5 * shares * used) / (n + 0.5 * used), shares) / unit
    degrees = used - 1
    if chndtr(found, degrees, 0.0) <= CONFIDENCE:
        return 0.0
    # Far out SciPy's inversion gives up; there a noncentral χ² is normal about its centre.
    bound = float(chndtrinc(found, degrees, CONFIDENCE)) if found < 1e4 else np.nan
    if not np.isfinite(bound):
        bound = found - degrees - 1.645 * 2 * float(np.sqrt(found))
    return max(0.0, bound * unit)


def _curve(observed: Observed, at: Floats) -> Floats:
    """Return the share of finite values at or below each place."""
    upto = observed.upto(np.concatenate((at, [-FINITE_MAX])))
    return (upto[:-1] - upto[-1]) / max(observed.finite, 1)


def _outside(baseline: Observed, window: Observed) -> float:
    ends = np.array([np.nextafter(baseline.least, -np.inf), baseline.greatest])
    below, upto = window.upto(ends)
    return float(min(1.0, max(0.0, 1 - (upto - below) / window.n)))


def _cells(baseline: BaselineData, window: Observed) -> tuple[Floats, Floats]:
    counts = shares = np.zeros(1)
    for piece in window.pieces:
        if piece.n:
            cut = baseline.cut(CELLS, piece.grid)
            counts = counts + in_bins(piece.upto(cut.edges), piece.n)
            shares = shares + cut.shares * (piece.n / window.n)
    return counts, shares


def _psi(window: Floats, baseline: Floats) -> float:
    """Return PSI with a ten thousandth of a row's share in empty cells: the effect wants no rule for zeros."""
    w, b = np.maximum(window, 1e-4), np.maximum(baseline, 1e-4)
    return float(((w - b) * np.log(w / b)).sum())
