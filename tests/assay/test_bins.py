from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.assay.analysis import Part
from driftline.assay.baseline import BaselineData
from driftline.assay.bins import quantile_edges
from driftline.assay.score import score
from driftline.errors import InvalidInputError
from driftline.summary.grid import just_below, quantile_grid, to_float32
from driftline.wire.api import Summarizer

some_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def layout(values: Any, field_type: str = "float64", **summarizer: Any):
    summarizer.setdefault("compat", "v1")
    return BaselineData.of_values(values, field_type).layout(Summarizer(**summarizer))


def test_v1_quantile_bins_and_their_labels():
    bins = layout(np.arange(1.0, 101.0))
    assert bins.labels == ("left_outlier", "q_20", "q_40", "q_60", "q_80", "q_100", "right_outlier")
    assert bins.edges.tolist() == [just_below(1.0), 20, 40, 60, 80, 100]
    assert not bins.notes


@given(some_values, st.integers(1, 12))
def test_quantile_edges_are_those_of_numpy(values: Any, bins: int):
    edges = quantile_edges(BaselineData.of_values(values).observed, bins)
    assert edges[-1] == max(values)
    # Shares as whole fractions: 0.6 × 5 in floating point is more than 3, and numpy then takes the next value.
    exact = [sorted(values)[-(-len(values) * i // bins) - 1] for i in range(1, bins + 1)]
    assert edges.tolist() == exact
    if (len(values) & (len(values) - 1)) == 0 and bins in {1, 2, 4, 8}:
        shares = np.arange(1, bins + 1) / bins
        assert edges.tolist() == np.quantile(values, shares, method="inverted_cdf").tolist()


@given(some_values)
def test_no_baseline_value_is_an_outlier_of_its_own_baseline(values: Any):
    for compat in ("v1", None):
        for mode in ("quantile", "equal"):
            bins = score(values, values, bin_mode=mode, compat=compat).bins
            assert bins.baseline[0] == bins.baseline[-1] == 0
            assert sum(bins.baseline) == pytest.approx(1)


@given(some_values, st.sampled_from(["v1", "v2", None]), st.sampled_from(["quantile", "equal"]))
def test_a_baseline_does_not_drift_from_itself(values: Any, compat: str | None, mode: str):
    result = score(values, values, compat=compat, bin_mode=mode)
    assert result.value == 0.0
    assert len(result.bins.labels) == len(result.bins.edges) + 1 == len(set(result.bins.labels)) or mode == "equal"


def test_equal_bins_are_named_by_their_upper_edge():
    bins = layout([0.0, 3.0, 12.6, 63.0], bin_mode="equal")
    assert bins.labels == (
        "left_outlier", "p_1.26e1", "p_2.52e1", "p_3.78e1", "p_5.04e1", "p_6.30e1", "right_outlier",
    )  # fmt: skip
    assert np.diff(bins.edges) == pytest.approx([12.6] * 5)


@pytest.mark.parametrize("compat", ["v1", "v2", None])
def test_provided_edges_are_taken_as_they_are(compat: str | None):
    bins = layout([11.5, 12.5], bin_mode="provided", bin_edges=[11.0, 12.0, 13.0], compat=compat)
    assert bins.labels == ("left_outlier", "e_1.20e1", "e_1.30e1", "right_outlier")
    assert bins.edges.tolist() == [11, 12, 13]


def test_v2_has_no_outlier_bins_for_quantiles_and_interpolates():
    bins = layout([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], compat="v2")
    assert bins.labels == ("< 20%", "20% - 40%", "40% - 60%", "60% - 80%", "> 80%")
    assert bins.edges.tolist() == pytest.approx([2.0, 3.0, 4.0, 5.0])
    assert layout([1.0, 2.0, 63.0], compat="v2", bin_mode="equal").labels[0] == "left_outlier"


def test_fewer_bins_than_asked_are_explained():
    assert layout([1, 2, 3]).notes == (
        "5 quantile bins were asked for; the baseline has 3 distinct values, so there are 2",
    )
    assert layout([7.0] * 9).notes == (
        "5 quantile bins were asked for; every value of the baseline is 7, so there is 1",
    )
    assert layout([7.0] * 9, bin_mode="equal").labels == ("left_outlier", "p_7.00e0", "right_outlier")


def test_v1_cannot_see_zeros_become_fewer_and_our_own_rules_can():
    baseline, window = [0.0] * 90 + [1.0] * 10, [0.0] * 70 + [1.0] * 30
    assert score(baseline, window, compat="v1").value == 0.0
    # (.7 − .9) ln(.7/.9) + (.3 − .1) ln(.3/.1) = 0.26999
    assert score(baseline, window).value == pytest.approx(0.269985, abs=5e-7)
    most_ones = [1.0] * 90 + list(np.linspace(0.0, 0.5, 10))
    result = score(most_ones, [1.0] * 70 + [0.3] * 30)
    assert result.value == pytest.approx(0.269985, abs=5e-7)
    assert result.bins.labels == ["left_outlier", "q_10", "q_100", "right_outlier"]


def test_on_continuous_values_our_own_bins_are_those_of_v1():
    values = np.random.default_rng(0).normal(size=500)
    assert layout(values, compat=None).edges.tolist() == layout(values).edges.tolist()


def test_edges_of_a_float32_field_are_float32_values():
    values = [0.1, 0.35, 0.6, 0.9, 0.95]
    for mode in ({}, {"bin_mode": "equal"}, {"bin_mode": "provided", "bin_edges": [0.1, 0.7]}, {"compat": "v2"}):
        edges = layout(values, "float32", **mode).edges
        assert edges.tolist() == [to_float32(edge) for edge in edges.tolist()]


def test_rounding_to_float32_keeps_a_value_in_its_own_bin():
    baseline = np.array([0.35, 0.6, 0.9])
    # Without rounding 0.9 would lie below the float32 nearest to it, and the window's own 0.9 above.
    assert score(baseline, baseline.astype(np.float32)).value == 0.0
    assert score(baseline.astype(np.float32), baseline).value == 0.0


def test_a_quantile_of_counts_is_the_edge_of_its_cell():
    values = np.arange(1.0, 101.0)
    grid = quantile_grid(values.tolist(), bins=10)
    from driftline.summary.arrays import of_values

    counted = BaselineData.of_parts([Part(summary=of_values(values, grid), grid=grid)])
    assert counted.layout(Summarizer()).edges.tolist() == layout(values).edges.tolist()


def test_weights_multiply_each_term_and_merged_bins_keep_theirs_together():
    baseline, window = range(100), range(0, 90, 3)
    plain = score(baseline, window, compat="v1")
    assert score(baseline, window, compat="v1", weights=[1] * 7).value == pytest.approx(plain.value / 7)
    one_bin = [0, 1, 0, 0, 0, 0, 0]
    assert score(baseline, window, compat="v1", weights=one_bin).value == pytest.approx(plain.bins.contributions[1])
    # Three distinct values: the first bin stands for q_20, q_40 and q_60.
    merged = score([1, 2, 3], [1, 1, 1, 3], compat="v1", weights=[0, 1, 1, 1, 2, 1, 0])
    bare = score([1, 2, 3], [1, 1, 1, 3], compat="v1")
    assert merged.bins.contributions == pytest.approx(
        [0, bare.bins.contributions[1] / 2, bare.bins.contributions[2] / 2, 0]
    )


def test_weights_that_leave_nothing_are_refused():
    with pytest.raises(InvalidInputError, match="all have weight 0"):
        BaselineData.of_values([1.0, 2.0]).layout(Summarizer()).weights([0, 0, 0, 0, 0, 0, 0])
