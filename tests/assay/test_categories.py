"""Text fields: counts by category, compared honestly whatever a device could tell apart, and under a promise."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

import driftline
from driftline.assay.analysis import Part, baseline_of, check_field, describe
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import calibrate
from driftline.assay.categories import NEW, OTHER, Categories, CategoryBaseline
from driftline.assay.evidence import Tracks
from driftline.assay.false_alarms import false_alarm_rate
from driftline.assay.metrics.psi import EMPTY_SHARE
from driftline.assay.promise import Stream
from driftline.assay.score import score
from driftline.assay.statistics import LOCATION, MISSING, NAMES, OUTSIDE, yardstick_of
from driftline.errors import EmptyWindowError, InvalidInputError
from driftline.summary.summary import CATEGORIES_MAX, CategorySummary, place_of
from driftline.wire import api

Make = Callable[..., Any]

WATCHED = api.Watched(field="out.x", iopath="output x 0")
FEW = ["cat", "dog", "owl", None]
names = st.lists(st.sampled_from([*FEW, *"abcdefg"]), max_size=60)
# More names than a device keeps apart.
many = st.lists(st.integers(0, 150).map("shop {}".format), max_size=300)


def part(values: Any) -> Part:
    return Part(categories=CategorySummary.of(values))


def mix(seed: int, size: int, **shares: float):
    return np.random.default_rng(seed).choice(list(shares), size, p=list(shares.values())).tolist()


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(names, names)
def test_metrics_of_text_are_those_of_its_counts(baseline: list[str | None], window: list[str | None]):
    before, now = Counter(one for one in baseline if one), Counter(one for one in window if one)
    if not before or not now:
        return
    # What the baseline never had is one category.
    known = sorted(before)
    b = np.array([*(before[one] for one in known), 0.0])
    w = np.array([*(now[one] for one in known), sum(n for one, n in now.items() if one not in before)])
    used = b + w > 0
    p, q = b / b.sum(), w / w.sum()
    assert score(baseline, window, "tv").value == pytest.approx(np.abs(p - q).sum() / 2)
    assert score(baseline, window, "new_categories").value == pytest.approx(q[-1])
    assert score(baseline, window, "js").value == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    scipys = chi2_contingency(np.array([b[used], w[used]]), correction=False)
    ours = score(baseline, window, "chi2")
    assert (ours.value, ours.p_value) == (pytest.approx(scipys.statistic), pytest.approx(scipys.pvalue))
    # The rule for a share of zero is the one of numbers.
    p, q = (np.where(one == 0, EMPTY_SHARE, one)[used] for one in (p, q))
    assert score(baseline, window).value == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_text_is_taken_from_whatever_notebooks_hold():
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    before: list[str | None] = ["cat", "dog", "dog"] * 9
    now = ["cat", "owl", None] * 5
    expected = driftline.score(before, now, metric="tv")
    assert expected.value == pytest.approx(2 / 3)
    assert (expected.count, expected.missing, expected.bins.edges) == (15, 5, [])
    forms: list[Callable[[list[str | None]], Any]] = [
        tuple,
        np.array,
        pandas.Series,
        lambda v: pandas.Series(v, dtype="string"),
        lambda v: pandas.Series(v, dtype="category"),
        lambda v: pandas.Series([np.nan if one is None else one for one in v]),
        pyarrow.array,
        lambda v: pyarrow.array(v).dictionary_encode(),
        lambda v: pyarrow.chunked_array([v[:4], v[4:]]),
        CategorySummary.of,
        part,
    ]
    for form in forms:
        assert score(form(before), form(now), "tv") == expected


def test_text_beside_numbers_is_refused():
    for pair in ((["a"], [1.0]), ([1.0], ["a"]), (["a", 1.0], ["a"]), ([b"a"], [b"a"]), (CategorySummary.of("a"), [1])):
        with pytest.raises(InvalidInputError, match="not numeric"):
            score(*pair)  # pyright: ignore[reportArgumentType]


def test_text_without_a_value_has_no_score():
    for nothing in ([], [None, None], [float("nan")]):
        with pytest.raises(EmptyWindowError):
            score(["a"], nothing, "tv")
        with pytest.raises(InvalidInputError, match="nothing to compare with"):
            score(nothing, ["a"], "tv")


@pytest.mark.parametrize("metric", ["ks", "wasserstein", "mean_shift", "quantile_shift"])
def test_metrics_that_need_an_order_are_refused_with_those_that_work(metric: Any):
    with pytest.raises(InvalidInputError, match=r"no order; use one of 'psi'.*'chi2'.*'tv', 'new_categories'"):
        score(["a"], ["b"], metric)


def test_new_categories_are_of_text_and_total_variation_is_of_both():
    with pytest.raises(InvalidInputError, match=r"numbers have no categories; use one of 'psi'"):
        score([1.0], [2.0], "new_categories")
    assert score(range(100), range(50), "tv", bins=5).value == score(range(100), range(50), "sumdiff").value


def test_bins_of_ones_own_are_refused_for_text():
    asked: list[dict[str, Any]] = [{"bins": 5}, {"weights": [1.0] * 7}, {"aggregation": "cumulative"}]
    for options in asked:
        with pytest.raises(InvalidInputError, match="categories are the bins"):
            score(["a"], ["b"], **options)
    with pytest.raises(InvalidInputError, match="bin edges have no meaning for"):
        check_field(api.Summarizer(bin_mode="provided", bin_edges=[1.0]), "out.x", "string")


# ── what a device could tell apart ───────────────────────────────────────────────────────────────────────────────


def test_the_most_frequent_are_named_and_what_is_new_is_apart():
    values = [f"shop {i}" for i in range(30) for _ in range(i + 1)]
    baseline = CategoryBaseline.of_values(values)
    layout = baseline.layout()
    assert layout.labels == (*(f"shop {i}" for i in range(29, 9, -1)), OTHER, NEW)
    assert layout.notes == ("the baseline has 30 categories; the 20 most frequent are named",)
    assert baseline.shares.sum() == pytest.approx(1)
    cut = baseline.cut(Categories(CategorySummary.of(["shop 29", "shop 3", "shop 99"])))
    assert (cut.window[0], cut.window[-2], cut.window[-1]) == (1, 1, 1)


@given(many, many)
def test_both_sides_add_up_and_nothing_a_device_had_no_place_for_is_new(before: list[str], now: list[str]):
    baseline = CategoryBaseline.of_values(before)
    cut = baseline.cut(Categories(CategorySummary.of(now)))
    assert (cut.baseline.sum(), cut.window.sum()) == (len(before), len(now))
    assert min(*cut.baseline, *cut.window) >= 0
    assert cut.window[-1] <= sum(one not in before for one in now)


@given(many, many)
def test_a_window_of_the_baselines_own_values_has_nothing_new(before: list[str], now: list[str]):
    assert CategoryBaseline.of_values(before + now).cut(Categories(CategorySummary.of(now))).window[-1] == 0


@given(many, many)
def test_what_is_not_told_apart_is_other_on_both_sides(before: list[str], now: list[str]):
    """However much a device kept, it scores as if every name beyond the common limit had been called other."""
    one, other = CategorySummary.of(before), CategorySummary.of(now)
    limit = min((one for one in (one.limit, other.limit) if one is not None), default=None)
    hidden = [name if limit is None or place_of(name) <= limit else "hidden" for name in now]
    cut = CategoryBaseline.of_values(before).cut(Categories(other), named=1000)
    expected = Counter(hidden)
    beyond = expected.pop("hidden", 0)
    known = [name for name in expected if name in before]
    assert cut.hidden == beyond
    assert cut.window[-1] == sum(n for name, n in expected.items() if name not in before)
    assert cut.window[:-2].sum() == sum(expected[name] for name in known)


def test_an_identifier_under_the_same_regime_does_not_drift():
    r = np.random.default_rng(1)
    baseline = [f"ticket {i}" for i in r.integers(0, 10_000, 3000)]
    window = [f"ticket {i}" for i in r.integers(0, 10_000, 500)]
    result = score(baseline, window, "tv")
    assert result.value < 0.05
    assert any("beyond the 64 that are told apart" in note for note in result.notes)


# ── analyses ─────────────────────────────────────────────────────────────────────────────────────────────────────

PETS = {"cat": 0.5, "dog": 0.3, "owl": 0.2}


def test_an_assay_on_text_is_answered(spec: Make, ask: Make):
    baseline = baseline_of([part([*mix(1, 950, **PETS), *[None] * 50])], "string")
    quiet, moved = part(mix(2, 300, **PETS)), part([*mix(3, 250, cat=0.2, dog=0.2, owl=0.4, ant=0.2), *[None] * 50])
    analysis = ask(spec(compat=None), baseline, quiet)
    assert (analysis.status, analysis.source, analysis.mean, analysis.min) == ("Ok", "counts", None, None)
    analysis = ask(spec(compat=None), baseline, quiet, moved)
    assert (analysis.count, analysis.missing) == (600, 50)
    analysis = ask(spec(compat=None), baseline, moved)
    assert analysis.status == "Alert"
    assert analysis.bins is not None
    assert analysis.bins.labels == ["cat", "dog", "owl", OTHER, NEW]
    assert sum(analysis.bins.contributions) == pytest.approx(analysis.score)
    effect = analysis.effect
    assert effect.outside == pytest.approx(analysis.bins.window[-1]) == pytest.approx(0.2, abs=0.06)
    assert effect.missing_change == pytest.approx(1 / 6 - 0.05)
    assert (effect.mean_shift, effect.median_shift, effect.wasserstein) == (None, None, None)
    assert 0.1 < effect.psi_at_least < effect.psi
    assert api.decode(api.encode(analysis), api.Analysis) == analysis


def test_every_status_of_text(spec: Make, ask: Make):
    asked, baseline = spec(compat=None), CategoryBaseline.of_values(mix(1, 1000, **PETS))
    assert ask(asked, baseline).status == "NoData"
    assert ask(asked, baseline, part([None] * 50)).status == "NoData"
    assert ask(asked, baseline, part([]), heard=False).status == "Late"
    few = ask(asked, baseline, part(["ant"] * 19))
    assert (few.status, few.score is not None) == ("TooFew", True)
    missing = ask(spec(compat=None, metric="missing_rate"), baseline, part([*mix(4, 50, **PETS), *[None] * 50]))
    assert (missing.status, missing.score) == ("Alert", 0.5)
    nothing = ask(asked, CategoryBaseline.of_values([None] * 50), part(["cat"] * 50))
    assert (nothing.status, nothing.effect.psi) == ("NoData", None)
    assert any("nothing to compare with" in note for note in nothing.notes)


def test_a_baseline_of_text_is_described(spec: Make):
    baseline = CategoryBaseline.of_values([*mix(1, 990, **PETS), *[None] * 10])
    stats = describe(spec(), WATCHED, baseline, device="camera-1", start_ns=1, end_ns=2)
    assert (stats.count, stats.missing, stats.mean, stats.edges, stats.values) == (1000, 10, None, [], None)
    assert stats.labels == ["cat", "dog", "owl", OTHER, NEW]
    assert stats.shares == pytest.approx([0.5, 0.3, 0.2, 0, 0], abs=0.05)
    assert any("1.0% of the baseline's 1000 inferences" in note for note in stats.notes)
    empty = describe(spec(), WATCHED, CategoryBaseline.of_values([]), device=None, start_ns=None, end_ns=None)
    assert (empty.labels, empty.count) == ([], 0)


def test_numbers_and_text_do_not_mix(spec: Make, ask: Make, as_rows: Make):
    with pytest.raises(InvalidInputError, match="numbers were handed to an assay on text"):
        ask(spec(), CategoryBaseline.of_values(["a"]), as_rows([1.0]))
    with pytest.raises(InvalidInputError, match=r"the field holds text, .* add a model step whose output schema does"):
        ask(spec(), BaselineData.of_values([1.0]), part(["a"]))


@pytest.mark.parametrize(("metric", "threshold"), [("psi", 0.1), ("tv", 0.12), ("chi2", 6.0)])
def test_a_fixed_threshold_says_its_rate_of_false_alarms(metric: Any, threshold: float):
    asked = api.Summarizer(metric=metric)
    draws = [score(mix(2 * i, 200, **PETS), mix(2 * i + 1, 50, **PETS), metric).value >= threshold for i in range(300)]
    baseline = CategoryBaseline.of_values(mix(0, 200, **PETS))
    rate = false_alarm_rate(asked, threshold, baseline, baseline.shares, None, 50)
    assert rate == pytest.approx(np.mean(draws), abs=0.06)
    assert 0.01 < rate < 0.5


# ── under a promise ──────────────────────────────────────────────────────────────────────────────────────────────

N = 60
A = 10_000.0


def stream(windows: list[Any]) -> Stream:
    parts = [[part(window)] for window in windows]
    baseline = CategoryBaseline.of_parts([one for window in parts for one in window])
    return Stream(baseline, calibrate(baseline, windows=parts))


def independent(seed: int, windows: int, **shares: float) -> list[Any]:
    return np.array(mix(seed, windows * N, **shares)).reshape(windows, N).tolist()


def statuses(one: Stream, windows: list[Any], spec: Make, ask: Make) -> list[str]:
    asked = spec(compat=None, alarm=api.Promise(false_alarm_every_s=10**7))
    state, found = one.begin(), []
    for window in windows:
        told, state = one.step(
            state, ask(asked, one.baseline, part(window)), one.baseline.read([part(window)]), A, min_count=20
        )
        found.append(told.status)
    return found


def test_the_statistics_of_text_are_all_there_and_outside_is_the_new_share():
    yardstick = yardstick_of(CategoryBaseline.of_values(mix(1, 1000, **PETS)), N)
    measured = yardstick.measure([part([*["cat"] * 30, *["ant"] * 15, *[None] * 15])])
    assert not np.isnan(measured.values).any()
    assert np.sin(measured.values[OUTSIDE]) ** 2 == pytest.approx(15 / 45)
    assert np.sin(measured.values[MISSING]) ** 2 == pytest.approx(15 / 60)
    rarer = yardstick.measure([part(["owl"] * 60)])
    assert rarer.values[LOCATION] > measured.values[LOCATION]
    assert np.isnan(yardstick.measure([part([None] * 60)]).values[:MISSING]).all()


def test_a_changed_mix_a_new_category_and_missing_text_are_found(spec: Make, ask: Make):
    one = stream(independent(1, 30, **PETS))
    assert set(statuses(one, independent(2, 60, **PETS), spec, ask)) == {"Ok"}
    for changed in (
        independent(3, 20, cat=0.35, dog=0.3, owl=0.35),
        independent(4, 20, cat=0.45, dog=0.3, owl=0.15, ant=0.1),
        [[*window[:40], *[None] * 20] for window in independent(5, 20, **PETS)],
    ):
        assert "Alert" in statuses(one, changed, spec, ask)[:12]


def test_a_new_category_is_told_by_the_share_outside():
    one = stream(independent(1, 30, **PETS))
    window = [part([*independent(6, 1, **PETS)[0][:50], *["ant"] * 10])]
    values = dict(zip(NAMES, one.yardstick.measure(window).values, strict=True))
    tracks = Tracks([one.calibration])
    told = tracks.advance(np.array([list(values.values())]), np.full((1, 5), 60.0), np.array([A]))
    assert told.p[0, OUTSIDE] < 0.01


def test_a_constant_category_is_quiet_until_it_changes(spec: Make, ask: Make):
    one = stream([["ok"] * N] * 20)
    assert set(statuses(one, [["ok"] * N] * 30, spec, ask)) == {"Ok"}
    assert "Alert" in statuses(one, [["broken"] * N] * 3, spec, ask)


def test_identifiers_which_are_always_new_are_usual(spec: Make, ask: Make):
    r = np.random.default_rng(7)
    tickets = [[f"ticket {i}" for i in r.integers(0, 10**6, N)] for _ in range(80)]
    assert set(statuses(stream(tickets[:30]), tickets[30:], spec, ask)) == {"Ok"}


def sticky(draw: np.random.Generator, windows: int, stay: float, shares: dict[str, float]) -> list[Any]:
    """A category that mostly stays what it was: what a fixed camera sees."""
    fresh = draw.choice(list(shares), windows * N, p=list(shares.values()))
    kept = np.maximum.accumulate(np.where(draw.random(fresh.size) < stay, 0, np.arange(fresh.size)))
    return fresh[kept].reshape(windows, N).tolist()


@pytest.mark.parametrize("stay", [0.0, 0.9])
def test_quiet_categories_seldom_alarm(stay: float):
    runs, length = 30, 150
    calibrations, values = [], []
    for seed in range(runs):
        windows = sticky(np.random.default_rng(seed), 20 + length, stay, PETS)
        try:
            one = stream(windows[:20])
        except InvalidInputError:
            continue
        calibrations.append(one.calibration)
        values.append([one.yardstick.measure([part(window)]).values for window in windows[20:]])
    tracks, table = Tracks(calibrations), np.array(values)
    level = np.full(len(calibrations), 1000.0)
    told = [tracks.advance(table[:, t], np.full((len(calibrations), 5), float(N)), level) for t in range(length)]
    alarmed = np.any([one.evidence >= 1000 for one in told], axis=0)
    # 150 windows at one in 1,000: at most 15 % by Markov's inequality.
    assert len(calibrations) >= 0.8 * runs
    assert alarmed.mean() <= 0.15


def test_text_without_its_windows_carries_no_promise():
    with pytest.raises(InvalidInputError, match="a promise on text needs a baseline in time"):
        calibrate(CategoryBaseline.of_values(["a"] * 1000), n=50)


def test_a_summary_knows_how_far_it_tells_names_apart():
    few, lots = CategorySummary.of("abc"), CategorySummary.of(f"shop {i}" for i in range(100))
    assert few.limit is None
    assert len(lots.counts) == CATEGORIES_MAX
    assert lots.limit
    assert lots.limit == max(place_of(name) for name, _ in lots.counts)
    dropped = {f"shop {i}" for i in range(100)} - dict(lots.counts).keys()
    assert all(place_of(name) > lots.limit for name in dropped)
