"""How far a window lies from its baseline: one metric a file, all from the shares of bins and a few moments.

Each metric makes one term a bin; the score is their sum, or the largest for those that look for one place.
docs/metrics.md says what each means and when to use it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from driftline.assay.metrics.chi2 import chi2_p_value, chi2_terms
from driftline.assay.metrics.hellinger import hellinger_terms
from driftline.assay.metrics.js import js_terms
from driftline.assay.metrics.ks import ks_p_value, ks_terms
from driftline.assay.metrics.maxdiff import maxdiff_terms
from driftline.assay.metrics.mean_shift import mean_shift_terms
from driftline.assay.metrics.missing_rate import missing_rate_terms
from driftline.assay.metrics.new_categories import new_categories_terms
from driftline.assay.metrics.psi import psi_terms
from driftline.assay.metrics.quantile_shift import quantile_shift_terms
from driftline.assay.metrics.sample import Floats, Sample
from driftline.assay.metrics.sumdiff import sumdiff_terms
from driftline.assay.metrics.tv import tv_terms
from driftline.assay.metrics.wasserstein import wasserstein_terms
from driftline.errors import InvalidInputError
from driftline.wire.api import Aggregation, Metric

Terms = Callable[[Sample, Sample, Floats, Aggregation], Floats]
Asks = Literal["shares", "counts", "places"]
Of = Literal["any", "numbers", "text"]
PValue = Callable[[Floats, Sample, Sample], Floats]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the rest of driftline needs to know of a metric.

    `bins` is how many there are where nobody says. Distances between shares grow with every bin by its noise, about
    bins / n without any drift, so they have few; what compares running sums or places does not, and has the 60 that
    every grid has anyway. A metric `asks` for shares alone, also for the counts they are shares of, or
    for the places of values too. `by_bin`: running sums and bin weights have a meaning, as they have for
    the reference platform's three. It is `of` numbers where it needs their order, of text where it needs categories.
    """

    name: str
    terms: Terms
    bins: int
    largest: bool = False
    asks: Asks = "shares"
    of: Of = "any"
    by_bin: bool = False
    p_value: PValue | None = None
    unit: str = ""


def _shares(terms: Callable[[Floats, Floats], Floats]) -> Terms:
    return lambda baseline, window, _edges, _aggregation: terms(baseline.shares, window.shares)


def _classic(terms: Callable[[Floats, Floats, Aggregation], Floats]) -> Terms:
    return lambda baseline, window, _edges, aggregation: terms(baseline.shares, window.shares, aggregation)


METRICS: dict[Metric, Kind] = {
    "psi": Kind("PSI", _classic(psi_terms), 5, by_bin=True),
    "sumdiff": Kind("SumDiff", _classic(sumdiff_terms), 5, by_bin=True),
    "maxdiff": Kind("MaxDiff", _classic(maxdiff_terms), 5, largest=True, by_bin=True),
    "ks": Kind(
        "Kolmogorov–Smirnov distance",
        _shares(ks_terms),
        60,
        asks="counts",
        of="numbers",
        largest=True,
        p_value=ks_p_value,
    ),
    "js": Kind("Jensen–Shannon distance", _shares(js_terms), 10),
    "hellinger": Kind("Hellinger distance", _shares(hellinger_terms), 10),
    "wasserstein": Kind(
        "Wasserstein distance",
        lambda baseline, window, edges, _aggregation: wasserstein_terms(baseline, window, edges),
        60,
        asks="places",
        of="numbers",
        unit="in the field's unit",
    ),
    "chi2": Kind(
        "χ²",
        lambda baseline, window, _edges, _aggregation: chi2_terms(baseline, window),
        10,
        asks="counts",
        p_value=chi2_p_value,
    ),
    "mean_shift": Kind(
        "mean shift",
        lambda baseline, window, _edges, _aggregation: mean_shift_terms(baseline, window),
        5,
        asks="places",
        of="numbers",
        unit="in baseline sd",
    ),
    "quantile_shift": Kind(
        "quantile shift",
        lambda baseline, window, edges, _aggregation: quantile_shift_terms(baseline, window, edges),
        60,
        asks="places",
        of="numbers",
        largest=True,
        unit="in baseline sd",
    ),
    "missing_rate": Kind("missing rate", _shares(missing_rate_terms), 5),
    "tv": Kind("total variation", _shares(tv_terms), 10),
    "new_categories": Kind("share of new categories", _shares(new_categories_terms), 5, of="text"),
}

_NO_EDGES = np.empty(0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A score and what each bin gave to it; `bin` is the one that gave most. `p_value` where the metric has one."""

    score: float
    contributions: tuple[float, ...]
    bin: int
    p_value: float | None = None


def kind_of(metric: Metric) -> Kind:
    """Return what is known of a metric.

    Raises:
        InvalidInputError: no such metric.
    """
    kind = METRICS.get(metric)
    if kind is None:
        raise InvalidInputError(f"there is no metric {metric!r}; use one of {', '.join(METRICS)}")
    return kind


def measure(
    metric: Metric,
    baseline: Sample | Floats,
    window: Sample | Floats,
    aggregation: Aggregation = "density",
    weights: Floats | None = None,
    edges: Floats = _NO_EDGES,
) -> Measured:
    """Compare a window with a baseline, as samples or as their shares alone, shape (bins,) each.

    Cumulative aggregation compares running sums. Weights are normalised to sum 1 and multiply each bin's term, so that
    equal weights divide a sum by the bin count.

    >>> measure("maxdiff", np.array([0.5, 0.5]), np.array([0.8, 0.2])).score
    0.30000000000000004

    Raises:
        InvalidInputError: no such metric.
    """
    kind = kind_of(metric)
    baseline, window = _sample(baseline), _sample(window)
    terms = _terms(kind, baseline, window, aggregation, weights, edges)
    score = _total(kind, terms)
    p_value = None if kind.p_value is None else float(kind.p_value(score, baseline, window))
    return Measured(float(score), tuple(terms.tolist()), int(terms.argmax()), p_value)


def scores_of(
    metric: Metric,
    baseline: Sample | Floats,
    windows: Sample | Floats,
    aggregation: Aggregation,
    weights: Floats | None,
    edges: Floats = _NO_EDGES,
) -> Floats:
    """Return the scores of many windows, shares of shape (windows, bins), against one baseline; see `measure`."""
    kind = kind_of(metric)
    return _total(kind, _terms(kind, _sample(baseline), _sample(windows), aggregation, weights, edges))


def terms_of(
    metric: Metric,
    baseline: Sample,
    windows: Sample,
    aggregation: Aggregation,
    weights: Floats | None,
    edges: Floats,
) -> tuple[Floats, Floats, Floats | None]:
    """Return scores, terms and p-values of many windows; see `measure`."""
    kind = kind_of(metric)
    terms = _terms(kind, baseline, windows, aggregation, weights, edges)
    scores = _total(kind, terms)
    return scores, terms, None if kind.p_value is None else kind.p_value(scores, baseline, windows)


def _sample(given: Sample | Floats) -> Sample:
    return given if isinstance(given, Sample) else Sample(given)


def _terms(
    kind: Kind, baseline: Sample, window: Sample, aggregation: Aggregation, weights: Floats | None, edges: Floats
) -> Floats:
    if aggregation == "cumulative":
        baseline, window = Sample(np.cumsum(baseline.shares)), Sample(np.cumsum(window.shares, axis=-1))
    terms = kind.terms(baseline, window, edges, aggregation)
    return terms if weights is None else terms * (weights / weights.sum())


def _total(kind: Kind, terms: Floats) -> Floats:
    return terms.max(axis=-1) if kind.largest else terms.sum(axis=-1)
