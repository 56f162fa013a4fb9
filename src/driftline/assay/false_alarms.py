"""How often a score reaches a threshold although nothing drifted: what a fixed threshold promises.

The baseline is a sample, too. Of continuous values the true share of each bin then has a known law, whatever the field
is: between m ordered values lie m + 1 gaps whose shares are Dirichlet(1, …, 1), a bin is some of them, and an outlier
bin is the one beyond the least or greatest value. Windows are drawn from such shares and scored as real ones are, so
that the rule for empty bins, the outlier bins and every metric count as they do. A rate from χ² alone is four times too
small for a baseline of 30: it does not know that new values fall outside of it.

Of categories the gaps are their counts, and what is new comes about as often as what was seen once.

Sources: Wilks (1962), Mathematical Statistics, 8.7 for the gaps; Good (1953) for what is new.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import erfc, floor, log10, sqrt

import numpy as np

from driftline.assay.baseline import BaselineData
from driftline.assay.categories import CategoryBaseline
from driftline.assay.metrics import METRICS, scores_of
from driftline.assay.metrics.sample import Sample
from driftline.assay.observed import Floats
from driftline.wire.api import Aggregation, Metric, Summarizer

# Enough to tell 1 % from 2 %; the generator is seeded, so that every hub says the same.
_DRAWS = 1000
_SEED = 1


def false_alarm_rate(
    summarizer: Summarizer,
    threshold: float,
    baseline: BaselineData | CategoryBaseline,
    shares: Floats,
    weights: Floats | None,
    n: int,
) -> float:
    """Return about how often a window of n independent rows reaches the threshold without drift.

    `shares` are the baseline's in each bin, shape (bins,), and `weights` those of the bins. Numbers are rounded to two
    digits, so that devices and windows of about the same size share an answer.

    >>> baseline = BaselineData.of_values(range(500))
    >>> shares = np.array([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0])
    >>> 0.03 < false_alarm_rate(Summarizer(), 0.25, baseline, shares, None, 50) < 0.05
    True
    """
    if isinstance(baseline, CategoryBaseline):
        return _of_categories(summarizer, threshold, baseline, shares, n)
    if summarizer.metric == "mean_shift":
        # Whatever the field is, means of independent rows are close to normal; both sides' are.
        return erfc(threshold / sqrt(2 / n + 2 / baseline.n))
    counts = [_rounded(share * baseline.n) for share in shares.tolist()]
    gaps = list(counts)
    if summarizer.bin_mode != "provided" and len(gaps) > 2:
        # The least value closes its bin from below, so one gap less lies in there.
        least_once, greatest_once = baseline.single_ends
        if not gaps[0] and least_once:
            gaps[0], gaps[1] = 1.0, max(0.0, gaps[1] - 1)
        if not gaps[-1] and greatest_once:
            gaps[-1] = 1.0
    # Only metrics that ask where values lie need this; it would keep equal shares from sharing an answer.
    places = _places(baseline, summarizer) if METRICS[summarizer.metric].asks == "places" else None
    return _rate(
        summarizer.metric,
        summarizer.aggregation,
        None if weights is None else tuple(weights.tolist()),
        threshold,
        tuple(counts),
        tuple(gaps),
        int(_rounded(n)),
        places,
    )


def _of_categories(
    summarizer: Summarizer, threshold: float, baseline: CategoryBaseline, shares: Floats, n: int
) -> float:
    counts = [_rounded(share * baseline.n) for share in shares.tolist()]
    gaps = [*counts[:-1], _rounded(baseline.seen_once)]
    return _rate(summarizer.metric, "density", None, threshold, tuple(counts), tuple(gaps), int(_rounded(n)), None)


def _places(baseline: BaselineData, summarizer: Summarizer) -> "_Places":
    moments = baseline.moments
    edges = tuple(baseline.layout(summarizer).edges.tolist())
    return edges, moments.min or 0.0, moments.max or 0.0, moments.std or 0.0


# Edges, least and greatest value, standard deviation. Drawn windows reach as far as the baseline: what falls beyond
# counts as lying at its end.
_Places = tuple[tuple[float, ...], float, float, float]


@lru_cache(maxsize=4096)
def _rate(
    metric: Metric,
    aggregation: Aggregation,
    weights: Sequence[float] | None,
    threshold: float,
    counts: Sequence[float],
    gaps: Sequence[float],
    n: int,
    places: _Places | None,
) -> float:
    random = np.random.default_rng(_SEED)
    # Gamma variables divided by their sum are Dirichlet; a bin of no gaps stays empty.
    drawn = random.standard_gamma(np.array(gaps), size=(_DRAWS, len(gaps)))
    windows = random.multinomial(n, drawn / drawn.sum(axis=1, keepdims=True)) / n
    shares = np.array(counts) / sum(counts)
    edges, low, high, std = places or ((), 0.0, 0.0, 0.0)
    ends = [np.full(_DRAWS, end) for end in (low, high)]
    before, drawn = Sample(shares, sum(counts), low, high, std=std), Sample(windows, np.full(_DRAWS, float(n)), *ends)
    chosen = None if weights is None else np.array(weights)
    scores = scores_of(metric, before, drawn, aggregation, chosen, np.array(edges))
    return float((scores >= threshold).mean())


def _rounded(number: float) -> float:
    """Round to two digits.

    >>> _rounded(1234), _rounded(0.2), _rounded(0)
    (1200.0, 0.2, 0.0)
    """
    return round(number, 1 - floor(log10(number))) + 0.0 if number > 0 else 0.0
