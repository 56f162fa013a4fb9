"""How far a window's shares lie from its baseline's: one metric a file.

Each metric makes one term a bin of (baseline, window, aggregation); the score is their sum, or the largest for maxdiff.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.assay.metrics.maxdiff import maxdiff_terms
from driftline.assay.metrics.psi import psi_terms
from driftline.assay.metrics.sumdiff import sumdiff_terms
from driftline.errors import InvalidInputError
from driftline.wire.api import Aggregation, Metric

Floats = NDArray[np.float64]
Terms = Callable[[Floats, Floats, Aggregation], Floats]

METRICS: dict[Metric, Terms] = {"psi": psi_terms, "sumdiff": sumdiff_terms, "maxdiff": maxdiff_terms}


@dataclass(frozen=True, slots=True)
class Measured:
    """A score and what each bin gave to it; `bin` is the one that gave most."""

    score: float
    contributions: tuple[float, ...]
    bin: int


def measure(
    metric: Metric,
    baseline: Floats,
    window: Floats,
    aggregation: Aggregation = "density",
    weights: Floats | None = None,
) -> Measured:
    """Compare shares, shape (bins,) each; cumulative aggregation compares their running sums.

    Weights are normalised to sum 1 and multiply each bin's term, so that equal weights divide a sum by the bin count.

    >>> measure("maxdiff", np.array([0.5, 0.5]), np.array([0.8, 0.2])).score
    0.30000000000000004

    Raises:
        InvalidInputError: no such metric.
    """
    terms = _terms(metric, baseline, window, aggregation, weights)
    return Measured(float(_total(metric, terms)), tuple(terms.tolist()), int(terms.argmax()))


def scores_of(
    metric: Metric, baseline: Floats, windows: Floats, aggregation: Aggregation, weights: Floats | None
) -> Floats:
    """Return the scores of many windows, shape (windows, bins), against one baseline; see `measure`."""
    return _total(metric, _terms(metric, baseline, windows, aggregation, weights))


def _terms(
    metric: Metric, baseline: Floats, window: Floats, aggregation: Aggregation, weights: Floats | None
) -> Floats:
    terms_of = METRICS.get(metric)
    if terms_of is None:
        raise InvalidInputError(f"there is no metric {metric!r}; use one of {', '.join(METRICS)}")
    if aggregation == "cumulative":
        baseline, window = np.cumsum(baseline), np.cumsum(window, axis=-1)
    terms = terms_of(baseline, window, aggregation)
    return terms if weights is None else terms * (weights / weights.sum())


def _total(metric: Metric, terms: Floats) -> Floats:
    return terms.max(axis=-1) if metric == "maxdiff" else terms.sum(axis=-1)
