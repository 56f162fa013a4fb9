"""Every metric against SciPy: exactly on binned values, within a stated bound on raw rows; and bad input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import euclidean, jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from driftline.assay.analysis import analyse, grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.metrics import METRICS, Floats, measure
from driftline.assay.metrics.sample import Sample
from driftline.assay.score import score
from driftline.errors import EmptyWindowError, InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import UNIVERSAL, quantile_grid
from driftline.wire import api
from driftline.wire.api import Metric, Summarizer

Make = Callable[..., Any]
# Those of text are held to SciPy in test_categories.py.
OF_NUMBERS = [name for name, kind in METRICS.items() if kind.of != "text"]

counts = st.lists(st.integers(0, 400), min_size=6, max_size=6).map(np.array).filter(lambda c: c.sum() > 0)
few_or_many = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, -2.5]), st.floats(-50, 50, width=32)), min_size=1, max_size=120
).map(np.array)


def sample(cells: Floats, **facts: float):
    return Sample(cells / cells.sum(), float(cells.sum()), **facts)


# ── on binned values: SciPy's number ─────────────────────────────────────────────────────────────────────────────


@given(counts, counts)
def test_ks_is_scipys_on_binned_values(b: Floats, w: Floats):
    ours = measure("ks", sample(b), sample(w))
    scipys = ks_2samp(np.repeat(range(6), b), np.repeat(range(6), w), method="asymp")
    assert ours.score == pytest.approx(scipys.statistic, abs=1e-12)
    assert ours.contributions[ours.bin] == ours.score


def test_the_p_value_of_ks_is_scipys_to_two_hundredths():
    r = np.random.default_rng(1)
    for n, m, shift in [(30, 500, 0), (50, 80, 0.3), (200, 1000, 0.1), (1000, 10_000, 0.05)]:
        a, b = r.normal(size=m), r.normal(shift, size=n)
        edges = np.sort(np.concatenate((a, b)))[:200] if n + m < 200 else np.linspace(-3, 3, 200)
        ours = score(a, b, "ks", bins=edges)
        cells = [np.searchsorted(edges, one) for one in (a, b)]
        scipys = ks_2samp(*cells, method="exact" if n < 100 else "asymp")
        assert ours.value == pytest.approx(scipys.statistic)
        assert ours.p_value == pytest.approx(scipys.pvalue, abs=0.02)


@given(counts, counts)
def test_js_is_scipys_in_base_2(b: Floats, w: Floats):
    expected = jensenshannon(b, w, base=2)
    assert measure("js", sample(b), sample(w)).score == pytest.approx(expected if expected > 1e-7 else 0.0, abs=1e-7)


@given(counts, counts)
def test_hellinger_is_half_the_distance_of_the_roots(b: Floats, w: Floats):
    expected = euclidean(np.sqrt(b / b.sum()), np.sqrt(w / w.sum())) / np.sqrt(2)
    assert measure("hellinger", sample(b), sample(w)).score == pytest.approx(expected, abs=1e-12)


@given(counts, counts)
def test_chi2_is_scipys_without_correction(b: Floats, w: Floats):
    used = b + w > 0
    scipys = chi2_contingency(np.array([b[used], w[used]]), correction=False)
    ours = measure("chi2", sample(b), sample(w))
    assert ours.score == pytest.approx(scipys.statistic, abs=1e-9)
    assert ours.p_value == pytest.approx(scipys.pvalue, abs=1e-9)


@given(counts, counts)
def test_wasserstein_is_scipys_with_each_bin_at_its_middle(b: Floats, w: Floats):
    edges = np.array([-3.0, -1.0, 0.0, 2.0, 7.0])
    # Nothing lies beyond the outermost edges, so that every value has a middle to lie at.
    b, w = b.copy(), w.copy()
    b[[0, 5]] = w[[0, 5]] = 0
    b[1], w[2] = b[1] + 1, w[2] + 1
    middles = [-3.0, -2.0, -0.5, 1.0, 4.5, 7.0]
    ours = measure("wasserstein", sample(b, least=-3, greatest=7), sample(w, least=-3, greatest=7), edges=edges)
    assert ours.score == pytest.approx(wasserstein_distance(middles, middles, b, w), abs=1e-9)
    assert sum(ours.contributions) == pytest.approx(ours.score)


# ── on raw rows: within a bound ──────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(few_or_many, few_or_many, st.sampled_from(["quantile", "equal", "provided"]), st.integers(1, 60))
def test_ks_is_within_the_largest_cell_share_of_scipy_on_raw_rows(a: Floats, b: Floats, mode: Any, bins: int):
    result = score(a, b, "ks", bins=[-20.0, 0.0, 20.0] if mode == "provided" else bins, bin_mode=mode)
    with np.errstate(divide="ignore"):  # SciPy's own p-value of two single values
        raw = ks_2samp(a, b, method="asymp").statistic
    assert result.value <= raw + 1e-12
    assert raw - result.value <= max(*result.bins.baseline, *result.bins.window) + 1e-12


def mean_width(values: Floats, edges: list[float], low: float, high: float):
    """The mean width of the bins that hold these values, as far as values reach."""
    inner = np.clip(edges, low, high)
    ends = np.concatenate(([min(values.min(), inner[0])], inner, [max(values.max(), inner[-1])]))
    return float(np.diff(ends)[np.searchsorted(edges, values)].mean())


@settings(max_examples=120)
@given(few_or_many, few_or_many, st.sampled_from(["quantile", "equal", "provided"]), st.integers(1, 60))
def test_wasserstein_is_within_the_mean_cell_width_of_scipy_on_raw_rows(a: Floats, b: Floats, mode: Any, bins: int):
    result = score(a, b, "wasserstein", bins=[-20.0, 0.0, 20.0] if mode == "provided" else bins, bin_mode=mode)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    bound = (mean_width(a, result.bins.edges, low, high) + mean_width(b, result.bins.edges, low, high)) / 2
    assert abs(result.value - wasserstein_distance(a, b)) <= bound + 1e-6
    assert sum(result.contributions) == pytest.approx(result.value)


def test_sixty_bins_are_enough_for_two_hundredths_of_an_sd_and_six_in_a_heavy_tail():
    r = np.random.default_rng(3)
    draws: list[tuple[Any, float]] = [
        (lambda loc, size: r.normal(loc, 1.0, size), 0.02),
        # The last quantile bin is wide there, and its values lie below its middle.
        (lambda loc, size: r.lognormal(loc, 0.5, size), 0.06),
    ]
    for draw, within in draws:
        a, b = draw(0.0, 20_000), draw(0.2, 2000)
        assert score(a, b, "wasserstein").value == pytest.approx(wasserstein_distance(a, b), abs=within * a.std())
        assert score(a, b, "ks").value == pytest.approx(ks_2samp(a, b, method="asymp").statistic, abs=0.01)


def test_shifts_are_those_of_numpy():
    r = np.random.default_rng(4)
    a, b = r.normal(10, 2, 20_000), r.normal(10.6, 2, 2000)
    assert score(a, b, "mean_shift").value == pytest.approx((b.mean() - a.mean()) / a.std())
    wanted = [0.1, 0.25, 0.5, 0.75, 0.9]
    expected = np.abs(np.quantile(b, wanted) - np.quantile(a, wanted)).max() / a.std()
    assert score(a, b, "quantile_shift").value == pytest.approx(expected, abs=0.05)
    missing = score([*a[:95], *[None] * 5], [*b[:50], *[None] * 50], "missing_rate")
    assert missing.value == pytest.approx(0.45)
    assert missing.bins.labels == ["has a value", "missing"]
    assert missing.effect.missing_change == pytest.approx(0.45)


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", OF_NUMBERS)
@pytest.mark.parametrize("mode", ["quantile", "equal", "provided"])
def test_counts_on_the_same_edges_score_as_rows(metric: Metric, mode: Any, spec: Make, as_counts: Make):
    r = np.random.default_rng(5)
    a, b = r.normal(size=3000), np.append(r.normal(0.3, 1.2, size=400), [np.nan, 9.0, -7.0, 8.0])
    edges = [-1.0, 0.0, 1.0] if mode == "provided" else None
    asked = spec(compat=None, metric=metric, bin_mode=mode, bin_edges=edges, num_bins=METRICS[metric].bins)
    grid = grid_for(asked, BaselineData.of_values(a), "float64")
    bins: Any = edges or METRICS[metric].bins
    rows = score(a, b, metric, bins=bins, bin_mode=mode)
    counted = score(a, (of_values(b, grid), grid), metric, bins=bins, bin_mode=mode)
    # What does not need the baseline's places to the last digit is the same when that is counts, too.
    both = score(as_counts(a, grid), as_counts(b, grid), metric, bins=rows.bins.edges, bin_mode="provided")
    assert counted.value == pytest.approx(rows.value, rel=1e-9)
    assert counted.contributions == pytest.approx(rows.contributions, rel=1e-9, abs=1e-12)
    assert counted.p_value == pytest.approx(rows.p_value)
    assert both.value == pytest.approx(rows.value, rel=1e-6)
    assert counted.effect.mean_shift == pytest.approx(rows.effect.mean_shift)


@pytest.mark.parametrize("metric", OF_NUMBERS)
def test_a_window_over_two_grids_and_a_coarse_one_make_no_false_drift(
    metric: Metric, spec: Make, ask: Make, as_counts: Make
):
    r = np.random.default_rng(6)
    baseline = BaselineData.of_values(r.beta(200, 2, 3000))
    asked = spec(compat=None, metric=metric, num_bins=METRICS[metric].bins)
    grid = grid_for(asked, baseline, "float64")
    quiet = ask(asked, baseline, as_counts(r.beta(200, 2, 1000), grid), as_counts(r.beta(200, 2, 1000), UNIVERSAL))
    # Quantiles of 2,000 values scatter by a twentieth of an sd, χ² by its degrees of freedom.
    assert quiet.score < {"chi2": 20, "quantile_shift": 0.2}.get(metric, 0.1)
    drifted = ask(asked, baseline, as_counts(r.beta(200, 2, 500) - 0.02, UNIVERSAL))
    assert drifted.score > (100 if metric == "chi2" else 0.01 if metric == "wasserstein" else 0.5) or (
        metric == "missing_rate"
    )


@pytest.mark.parametrize("metric", OF_NUMBERS)
@given(few_or_many, few_or_many)
@settings(max_examples=25)
def test_scores_are_finite_never_negative_zero_for_equals_and_sum_up(metric: Metric, a: Floats, b: Floats):
    assert score(a, a, metric).value == pytest.approx(0.0, abs=1e-12)
    result = score(a, b, metric)
    assert np.isfinite(result.value)
    assert result.value >= 0
    together = max if METRICS[metric].largest else sum
    assert together(result.contributions) == pytest.approx(result.value, abs=1e-12)
    if METRICS[metric].p_value:
        assert 0 <= result.p_value <= 1
    else:
        assert result.p_value is None


# ── awkward inputs ───────────────────────────────────────────────────────────────────────────────────────────────

ZEROS = [0.0] * 90 + list(np.linspace(0.1, 1.0, 10))
# Thresholds that suit each metric; that of the Wasserstein distance is in ranges of the baseline.
THRESHOLDS: dict[Metric, float] = {
    "ks": 0.15, "js": 0.15, "hellinger": 0.15, "wasserstein": 0.05, "chi2": 12.0, "mean_shift": 0.25,
    "quantile_shift": 0.25, "missing_rate": 0.1,
}  # fmt: skip
ANY = tuple(THRESHOLDS)


@pytest.mark.parametrize(
    ("what", "baseline", "window", "status", "metrics"),
    [
        ("constant and the same", [7.0] * 100, [7.0] * 50, "Ok", ANY),
        ("constant, changed", [7.0] * 100, [7.5] * 50, "Alert", ANY[:-1]),
        ("all missing", range(100), [np.nan] * 50, "NoData", ANY[:-1]),
        ("all missing", range(100), [np.nan] * 50, "Alert", ["missing_rate"]),
        ("half missing", range(100), [*range(50), *[np.nan] * 50], "Alert", ["missing_rate"]),
        ("5 % missing in both", [*range(95), *[np.nan] * 5], [*range(95), *[np.nan] * 5], "Ok", ANY),
        ("one infinite value", range(100), [*range(100), np.inf], "Ok", ANY),
        # A mean distance and a mean follow a value wherever it goes: that is what they are asked for.
        ("one 1e9 outlier", range(100), [*range(100), 1e9], "Ok", ["ks", "js", "hellinger", "chi2", "quantile_shift"]),
        ("one 1e9 outlier", range(100), [*range(100), 1e9], "Alert", ["wasserstein", "mean_shift"]),
        ("every value infinite", range(100), [np.inf] * 50, "Alert", ["ks", "js", "hellinger", "chi2"]),
        ("every value infinite", range(100), [np.inf] * 50, "NoData", ["wasserstein", "mean_shift", "quantile_shift"]),
        ("one row", range(100), [50.0], "TooFew", ANY),
        ("empty", range(100), [], "NoData", ANY),
        ("90 % zeros in both", ZEROS, ZEROS, "Ok", ANY),
        ("90 to 70 % zeros", ZEROS, [0.0] * 70 + [0.5] * 30, "Alert", ANY[:-1]),
        ("two values half and half", [0.0, 1.0] * 50, [0.0, 1.0] * 20, "Ok", ANY),
        ("two values, one gone", [0.0, 1.0] * 50, [0.0] * 40, "Alert", ANY[:-1]),
        ("everything above the baseline", range(100), [200.0] * 50, "Alert", ANY[:-1]),
        ("infinities in the baseline", [*range(100), np.inf, -np.inf], range(100), "Ok", ANY),
    ],
)
@pytest.mark.parametrize("known_by", ["rows", "counts"])
def test_awkward_inputs(
    what: str, baseline: Any, window: Any, status: str, metrics: Any, known_by: str, spec: Make, ask: Make,
    as_counts: Make, as_rows: Make,
):  # fmt: skip
    for metric in metrics:
        data = BaselineData.of_values(baseline)
        unit = (data.observed.greatest - data.observed.least or 1.0) if metric == "wasserstein" else 1.0
        alert = THRESHOLDS[metric] * unit
        asked = spec(compat=None, metric=metric, num_bins=METRICS[metric].bins, alert=alert)
        grid = grid_for(asked, data, "float64")
        if known_by == "counts":
            data = BaselineData.of_parts([as_counts(baseline, grid)])
        analysis = ask(asked, data, as_rows(window) if known_by == "rows" else as_counts(window, grid))
        assert (metric, analysis.status) == (metric, status), f"{what}: {analysis.score}"
        assert analysis.score is None or np.isfinite(analysis.score)


@pytest.mark.parametrize("metric", ["mean_shift", "quantile_shift"])
def test_any_change_of_a_constant_is_the_root_of_its_n(metric: Metric):
    result = score([7.0] * 100, [7.01] * 30, metric)
    assert (result.value, result.effect.mean_shift) == (10.0, 10.0)
    assert score([7.0] * 100, [6.9] * 30, metric).effect.mean_shift == -10.0
    assert score([7.0] * 100, [7.0] * 30, metric).effect.mean_shift == 0.0


def test_a_baseline_of_missing_values_still_has_a_missing_rate(spec: Make, ask: Make, as_rows: Make):
    nothing = BaselineData.of_values([np.nan] * 50)
    asked = spec(compat=None, metric="missing_rate")
    analysis = ask(asked, nothing, as_rows(range(50)))
    assert (analysis.score, analysis.status) == (1.0, "Alert")
    assert not [note for note in analysis.notes if "nothing to compare with" in note]
    infinite = ask(spec(compat=None, metric="mean_shift"), BaselineData.of_values(range(50)), as_rows([np.inf] * 30))
    assert any("every value of the window is infinite, so there is no mean shift" in one for one in infinite.notes)


@pytest.mark.parametrize(
    "wrong",
    [
        ["1.5", "2.5"],
        np.array(["1.5"]),
        [1.0, "2.5"],
        np.array(["2026-01-01"], dtype="datetime64[ns]"),
        np.array([1 + 2j]),
        {"a": 1},
        of_values([1.0], UNIVERSAL),
        (of_values([1.0], UNIVERSAL), [0.0, 1.0]),
    ],
)
def test_what_is_no_number_is_refused_even_where_it_reads_like_one(wrong: Any):
    for pair in ((wrong, [1.0]), ([1.0], wrong)):
        with pytest.raises(InvalidInputError, match=r"not numeric|without its grid"):
            score(*pair)


def test_a_score_takes_series_arrow_columns_and_summaries():
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    values = list(range(100))
    window = [*range(60), None]
    expected = score(values, window, "ks")
    for form in (
        lambda v: pandas.Series(v, dtype="Int64"),
        lambda v: pandas.Series(v, dtype=object),
        lambda v: pandas.Series(v, dtype="int64[pyarrow]"),
        pyarrow.array,
        lambda v: pyarrow.chunked_array([v[:7], v[7:]]),
        lambda v: pyarrow.table({"x": v})["x"],
    ):
        result = score(form(values), form(window), "ks")
        assert (result.value, result.missing, result.p_value) == (expected.value, 1, expected.p_value)
    grid = quantile_grid(values)
    assert score((of_values(values, grid), grid), (of_values(window, grid), grid), "ks").value == expected.value
    with pytest.raises(EmptyWindowError):
        score(values, (of_values([], grid), grid))


def test_the_default_bins_suit_the_metric_and_the_users_word_comes_first():
    values = np.random.default_rng(7).normal(size=5000)
    assert len(score(values, values).bins.labels) == 7
    assert len(score(values, values, "ks").bins.labels) == 62
    assert len(score(values, values, "js").bins.labels) == 12
    assert len(score(values, values, "ks", bins=5).bins.labels) == 7


def test_every_metric_has_an_analysis_that_travels(spec: Make, as_rows: Make):
    baseline = BaselineData.of_values(np.arange(500.0))
    for metric in OF_NUMBERS:
        asked = spec(metric=metric, num_bins=METRICS[metric].bins)
        made = analyse(
            asked, asked.watched[0], baseline, baseline.read([as_rows(np.arange(90.0))]), device="c", start_ns=0,
            end_ns=1, heard=True,
        )  # fmt: skip
        assert api.decode(api.encode(made), api.Analysis) == made
        assert made.metric == metric
        told = [note for note in made.notes if note.startswith(METRICS[metric].name)]
        assert bool(told) == (METRICS[metric].p_value is not None)


def test_a_spec_stored_before_is_read_as_it_was():
    old = b'{"bin_mode":"quantile","num_bins":5,"metric":"psi","aggregation":"density","compat":"v1"}'
    assert api.decode(old, Summarizer) == Summarizer()
