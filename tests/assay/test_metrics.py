from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import ks_2samp

from driftline.assay.metrics import Floats, measure
from driftline.assay.score import score

shares = st.lists(st.integers(1, 1000), min_size=5, max_size=5).map(lambda c: np.array(c) / sum(c))


@given(shares, shares)
def test_psi_is_the_symmetrised_relative_entropy_of_scipy(b: Floats, w: Floats):
    assert measure("psi", b, w).score == pytest.approx(float((rel_entr(w, b) + rel_entr(b, w)).sum()), abs=1e-12)


@given(shares, shares)
def test_the_difference_metrics_are_total_variation_and_its_largest_part(b: Floats, w: Floats):
    assert measure("sumdiff", b, w).score == pytest.approx(np.abs(w - b).sum() / 2)
    largest = measure("maxdiff", b, w)
    assert largest.score == pytest.approx(np.abs(w - b).max())
    assert largest.contributions[largest.bin] == largest.score


@given(shares, shares, st.sampled_from(["psi", "sumdiff", "maxdiff"]), st.sampled_from(["density", "cumulative"]))
def test_scores_are_never_negative_and_zero_for_equals(b: Floats, w: Floats, metric: Any, aggregation: Any):
    assert measure(metric, b, w, aggregation).score >= 0
    assert measure(metric, b, b, aggregation).score == 0


def test_cumulative_psi_is_the_sum_of_the_running_differences():
    b, w = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    # running sums .5 .75 1 and .25 .5 1
    assert measure("psi", b, w, "cumulative").score == 0.5
    assert measure("sumdiff", b, w, "cumulative").score == 0.25
    assert measure("maxdiff", b, w, "cumulative").score == 0.25


def test_cumulative_maxdiff_on_every_value_is_the_kolmogorov_smirnov_distance_of_scipy():
    r = np.random.default_rng(1)
    a, b = r.normal(size=60), r.normal(0.4, size=50)
    edges = np.sort(np.concatenate((a, b)))
    result = score(a, b, "maxdiff", bins=edges, bin_mode="provided", aggregation="cumulative")
    assert result.value == pytest.approx(ks_2samp(a, b).statistic)


def test_contributions_add_up_to_the_score():
    r = np.random.default_rng(2)
    for metric in ("psi", "sumdiff"):
        for weights in (None, [1, 2, 3, 4, 3, 2, 1]):
            result = score(r.normal(size=500), r.normal(0.3, size=90), metric, weights=weights)
            assert sum(result.bins.contributions) == pytest.approx(result.value)
