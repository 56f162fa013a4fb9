from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from driftline.assay.analysis import Part, describe, fixed_alarm_text, grid_for
from driftline.assay.baseline import BaselineData, nearest
from driftline.errors import InvalidInputError
from driftline.summary.arrays import edges_of, of_values
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid
from driftline.summary.summary import Summary
from driftline.wire import api

Make = Callable[..., Any]

WATCHED = api.Watched(field="out.x", iopath="output x 0")


def confidences(n: int, seed: int):
    """A detector's confidences: close to one, as most are."""
    return np.random.default_rng(seed).beta(200, 2, n)


# ── counts and rows ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_coarse_grid_never_makes_false_drift(spec: Make, ask: Make, as_counts: Make):
    values, window = confidences(3000, 1), confidences(2000, 2)
    baseline = BaselineData.of_values(values)
    analysis = ask(spec(), baseline, as_counts(window, UNIVERSAL))
    assert analysis.score is not None
    assert analysis.score < 0.1
    # What it would be if only the window's edges were snapped.
    edges = baseline.layout(api.Summarizer()).edges
    snapped = nearest(edges_of(UNIVERSAL), edges)
    shares = np.diff(np.searchsorted(np.sort(window), snapped, side="right"), prepend=0, append=2000) / 2000
    exact = baseline.shares(edges)
    w, b = np.where(shares == 0, 0.005, shares), np.where(exact == 0, 0.005, exact)
    assert float(((w - b) * np.log(w / b)).sum()) > 1
    assert analysis.bins is not None
    assert analysis.bins.edges_moved == pytest.approx(np.abs(snapped - edges).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [20, 200])
def test_counts_on_any_two_grids_never_make_false_drift(
    alpha: float, seed: int, spec: Make, ask: Make, as_counts: Make, as_rows: Make
):
    draw = np.random.default_rng(seed).beta
    values, window = draw(alpha, 2, 1440), draw(alpha, 2, 1000)
    learned = [quantile_grid(draw(alpha, 2, 1000).tolist()) for _ in range(2)]
    for of_baseline in (UNIVERSAL, learned[0]):
        baseline = BaselineData.of_parts([as_counts(values, of_baseline)])
        own = grid_for(spec(), baseline, "float64")
        for part in (as_rows(window), *(as_counts(window, grid) for grid in (UNIVERSAL, *learned, own))):
            score = ask(spec(), baseline, part).score
            assert score is not None
            assert score < 0.05


def test_a_baseline_that_saw_its_grid_change_still_finds_drift_and_only_drift(
    spec: Make, ask: Make, as_counts: Make, as_rows: Make
):
    first, then = confidences(200, 3), confidences(1240, 4)
    learned = quantile_grid(confidences(1000, 5).tolist())
    baseline = BaselineData.of_parts([as_counts(first, UNIVERSAL), as_counts(then, learned)])
    same = ask(spec(), baseline, as_counts(confidences(500, 6), learned))
    drifted = ask(spec(), baseline, as_counts(confidences(500, 6) - 0.02, learned))
    assert same.status == "Ok"
    assert drifted.status == "Alert"


def test_the_grid_made_for_an_assay_scores_counts_as_rows(spec: Make, ask: Make, as_counts: Make, as_rows: Make):
    baseline = BaselineData.of_values(confidences(1440, 7))
    window = confidences(120, 8) - 0.001
    for options in (
        {},
        {"bin_mode": "equal"},
        {"bin_mode": "provided", "bin_edges": [0.97, 0.98, 0.99]},
        {"compat": "v2"},
    ):
        asked = spec(**options)
        grid = grid_for(asked, baseline, "float64")
        counted, exact = ask(asked, baseline, as_counts(window, grid)), ask(asked, baseline, as_rows(window))
        assert counted.score == pytest.approx(exact.score)
        assert counted.bins is not None
        assert counted.bins.edges_moved == 0
        assert (counted.min, counted.max) == (exact.min, exact.max)
        assert counted.mean == pytest.approx(exact.mean)
        assert counted.std == pytest.approx(exact.std)


def test_a_window_over_two_grids_is_its_parts_weighted_by_their_values(spec: Make, ask: Make, as_counts: Make):
    baseline = BaselineData.of_values(confidences(3000, 1))
    learned = quantile_grid(confidences(1000, 9).tolist())
    early, late = confidences(300, 10), confidences(900, 11)
    both = ask(spec(), baseline, as_counts(early, UNIVERSAL), as_counts(late, learned))
    one, other = ask(spec(), baseline, as_counts(early, UNIVERSAL)), ask(spec(), baseline, as_counts(late, learned))
    assert one.bins and other.bins and both.bins  # noqa: PT018  for the type checker as much as for the test
    for name in ("baseline", "window"):
        mixed = np.array(getattr(one.bins, name)) * 0.25 + np.array(getattr(other.bins, name)) * 0.75
        assert getattr(both.bins, name) == pytest.approx(mixed.tolist())
    assert both.score is not None
    assert both.score < 0.1
    assert both.count == 1200


def test_counts_without_values_weigh_nothing(spec: Make, ask: Make, as_counts: Make, as_rows: Make):
    baseline = BaselineData.of_values(confidences(3000, 1))
    learned = quantile_grid(confidences(1000, 9).tolist())
    part = as_counts(confidences(300, 10), learned)
    empty = Part(summary=Summary.zero(UNIVERSAL), grid=UNIVERSAL)
    assert ask(spec(), baseline, part, empty).score == ask(spec(), baseline, part).score


def test_the_source_is_rows_only_where_every_part_is(spec: Make, ask: Make, as_counts: Make, as_rows: Make):
    baseline = BaselineData.of_values(confidences(3000, 1))
    values = as_rows([0.99, 0.98])
    assert ask(spec(), baseline, values, values).source == "rows"
    assert ask(spec(), baseline, values, as_counts([0.99], UNIVERSAL)).source == "counts"
    assert ask(spec(), baseline).source == "counts"


def test_the_median_of_counts_lies_in_the_cell_of_the_median(spec: Make, ask: Make, as_counts: Make, as_rows: Make):
    baseline = BaselineData.of_values(confidences(3000, 1))
    grid = grid_for(spec(), baseline, "float64")
    window = confidences(1001, 12)
    median = ask(spec(), baseline, as_counts(window, grid)).median
    assert median is not None
    assert grid.cell(median) == grid.cell(float(np.median(window)))
    assert ask(spec(), baseline, as_rows(window)).median == np.median(window)
    mixed = ask(spec(), baseline, as_rows(window[:400]), as_counts(window[400:], grid)).median
    assert mixed == pytest.approx(np.median(window), abs=1e-3)


# ── statuses ─────────────────────────────────────────────────────────────────────────────────────────────────────

CALM = BaselineData.of_values(np.arange(100.0))


def test_every_status(spec: Make, ask: Make, as_rows: Make):
    steady, moved = as_rows(np.arange(100.0)), as_rows(np.arange(100.0) * 0.6)
    assert ask(spec(), CALM, steady).status == "Ok"
    assert ask(spec(), CALM, moved).status == "Alert"
    assert ask(spec(alert=9.0, warning=0.1), CALM, moved).status == "Warning"
    assert ask(spec(), CALM).status == "NoData"
    assert ask(spec(), CALM, as_rows([np.nan] * 5)).status == "NoData"
    assert ask(spec(), CALM, as_rows([]), heard=False).status == "Late"


def test_a_score_on_the_threshold_alerts(spec: Make, ask: Make, as_rows: Make):
    score = ask(spec(), CALM, as_rows(np.arange(60.0))).score
    assert ask(spec(alert=score), CALM, as_rows(np.arange(60.0))).status == "Alert"
    assert ask(spec(alert=9.0, warning=score), CALM, as_rows(np.arange(60.0))).status == "Warning"


def test_what_was_not_heard_to_its_end_has_no_score_yet(spec: Make, ask: Make, as_rows: Make):
    analysis = ask(spec(), CALM, as_rows(np.arange(50.0)), heard=False)
    assert (analysis.status, analysis.score, analysis.count) == ("Late", None, 50)


def test_too_few_values_show_their_score_and_decide_nothing(spec: Make, ask: Make, as_rows: Make):
    few = as_rows([500.0] * 19)
    own = ask(spec(compat=None), CALM, few)
    assert own.status == "TooFew"
    assert own.score is not None
    assert own.score > 1
    assert any("fewer than min_count 20" in note for note in own.notes)
    assert ask(spec(compat=None), CALM, as_rows([500.0] * 20)).status == "Alert"
    # A compatible assay judges every value, as the reference platform does.
    assert ask(spec(), CALM, as_rows([500.0])).status == "Alert"
    assert ask(spec(min_count=30), CALM, few).status == "TooFew"


# Inputs that other tools crash on or judge wrong.
ZEROS = [0.0] * 90 + list(np.linspace(0.1, 1.0, 10))


@pytest.mark.parametrize(
    ("what", "baseline", "window", "status"),
    [
        ("constant and the same", [7.0] * 100, [7.0] * 50, "Ok"),
        ("constant, changed", [7.0] * 100, [7.5] * 50, "Alert"),
        ("all missing", range(100), [np.nan] * 50, "NoData"),
        ("5 % missing in both", [*range(95), *[np.nan] * 5], [*range(95), *[np.nan] * 5], "Ok"),
        ("one infinite value", range(100), [*range(100), np.inf], "Ok"),
        ("one 1e9 outlier", range(100), [*range(100), 1e9], "Ok"),
        ("one row", range(100), [50.0], "TooFew"),
        ("empty", range(100), [], "NoData"),
        ("90 % zeros in both", ZEROS, ZEROS, "Ok"),
        ("90 to 70 % zeros", ZEROS, [0.0] * 70 + [0.5] * 30, "Alert"),
        ("two values half and half", [0.0, 1.0] * 50, [0.0, 1.0] * 20, "Ok"),
        ("two values, one gone", [0.0, 1.0] * 50, [0.0] * 40, "Alert"),
        ("everything above the baseline", range(100), [200.0] * 50, "Alert"),
        ("an outlier in the baseline", [*range(100), 1e9], range(100), "Ok"),
        ("infinities in the baseline", [*range(100), np.inf, -np.inf], range(100), "Ok"),
    ],
)
@pytest.mark.parametrize("known_by", ["rows", "counts"])
def test_awkward_inputs(
    what: str,
    baseline: Any,
    window: Any,
    status: str,
    known_by: str,
    spec: Make,
    ask: Make,
    as_counts: Make,
    as_rows: Make,
):
    data = BaselineData.of_values(baseline)
    asked = spec(compat=None)
    grid = grid_for(asked, data, "float64")
    if known_by == "counts":
        data = BaselineData.of_parts([as_counts(baseline, grid)])
    part = as_rows(window) if known_by == "rows" else as_counts(window, grid)
    analysis = ask(asked, data, part)
    assert analysis.status == status, what
    assert all(number is None or np.isfinite(number) for number in (analysis.score, analysis.mean, analysis.std))


def test_missing_values_are_counted_and_told(spec: Make, ask: Make, as_rows: Make):
    analysis = ask(spec(), CALM, as_rows([*range(50), *[np.nan] * 50]))
    assert (analysis.count, analysis.missing) == (100, 50)
    assert "50.0% of 100 inferences have no value (baseline 0.0%)" in analysis.notes


def test_an_infinite_value_counts_in_an_outer_bin_and_in_no_statistic(
    spec: Make, ask: Make, as_rows: Make, as_counts: Make
):
    values = [*range(99), np.inf]
    for part in (as_rows(values), as_counts(values, grid_for(spec(), CALM, "float64"))):
        analysis = ask(spec(), CALM, part)
        assert analysis.bins is not None
        assert analysis.bins.window[-1] == 0.01
        assert analysis.max == 98
        assert analysis.mean == pytest.approx(49.0)


@pytest.mark.parametrize("values", [[], [np.nan] * 3, [np.inf, -np.inf]])
def test_a_baseline_without_values_is_explained_and_not_fatal(values: Any, spec: Make, ask: Make, as_rows: Make):
    baseline = BaselineData.of_values(values)
    analysis = ask(spec(), baseline, as_rows(range(50)))
    assert (analysis.status, analysis.score) == ("NoData", None)
    assert any("nothing to compare with" in note for note in analysis.notes)
    stats = describe(spec(), WATCHED, baseline, device=None, start_ns=None, end_ns=None)
    assert (stats.mean, stats.labels) == (None, [])
    with pytest.raises(InvalidInputError, match="take another baseline"):
        grid_for(spec(), baseline, "float64")


def test_a_baseline_of_one_value_works_and_says_what_it_is_worth(spec: Make, ask: Make, as_rows: Make):
    baseline = BaselineData.of_values([5.0])
    assert ask(spec(), baseline, as_rows([5.0] * 30)).score == 0
    stats = describe(spec(), WATCHED, baseline, device=None, start_ns=None, end_ns=None)
    assert any("a baseline of 1 value says little" in note for note in stats.notes)
    assert (stats.min, stats.mean, stats.std, stats.count) == (5.0, 5.0, 0.0, 1)


# ── a baseline's own numbers ─────────────────────────────────────────────────────────────────────────────────────


def test_a_baseline_is_described_from_rows_and_from_counts(spec: Make, as_counts: Make):
    values = confidences(1000, 13)
    rows = BaselineData.of_values([*values, np.nan, np.inf])
    grid = grid_for(spec(), rows, "float64")
    counted = BaselineData.of_parts([as_counts([*values, np.nan, np.inf], grid)])
    for data in (rows, counted):
        stats = describe(spec(), WATCHED, data, device="camera-1", start_ns=1, end_ns=2)
        assert (stats.count, stats.missing, stats.device) == (1002, 1, "camera-1")
        assert stats.mean == pytest.approx(values.mean())
        assert stats.std == pytest.approx(values.std())
        assert stats.median == pytest.approx(np.median(values), abs=2e-4)
        assert len(stats.labels) == len(stats.shares) == len(stats.edges) + 1
        assert stats.shares == pytest.approx([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0], abs=0.002)
        assert any("1 infinite" in note for note in stats.notes)
    described = describe(spec(), WATCHED, rows, device=None, start_ns=None, end_ns=None)
    assert described.values is not None
    assert described.values[:-2] == values.tolist()
    assert described.values[-2:] == [None, None]


def test_the_grid_of_an_assay_holds_its_edges_and_sixty_quantiles(spec: Make):
    baseline = BaselineData.of_values(confidences(5000, 14).astype(np.float32), "float32")
    grid = grid_for(spec(), baseline, "float32")
    assert set(baseline.layout(spec().summarizer).edges.tolist()) <= set(grid.edges)
    assert 61 <= len(grid.edges) <= 67
    assert all(edge == np.float32(edge) for edge in grid.edges)


def test_a_window_that_says_little_says_so(spec: Make, ask: Make, as_rows: Make):
    r = np.random.default_rng(15)
    baseline = BaselineData.of_values(r.normal(size=500))
    note = ask(spec(), baseline, as_rows(r.normal(size=20))).notes[-1]
    assert "of windows of 20 values reach 0.25" in note
    assert not ask(spec(), baseline, as_rows(r.normal(size=500))).notes


def test_a_fixed_threshold_says_its_rate_beforehand(spec: Make):
    baseline = BaselineData.of_values(np.random.default_rng(15).normal(size=500))
    # By the χ² law of 4 degrees of freedom a PSI of windows of 50 reaches 0.25 in
    # P(χ² > 0.25 / (1/50 + 1/500)) = P(χ² > 11.4) = 2.3 %; the outlier bins add to it.
    assert fixed_alarm_text(spec(), baseline, 50) == (
        "without any drift about 4% of windows of 50 values reach 0.25 against a baseline of 500 "
        "(independent rows; autocorrelated frames more often)"
    )
    rare = fixed_alarm_text(spec(), baseline, 500)
    assert rare is not None
    assert "fewer than 1% of windows of 500 values" in rare


@pytest.mark.parametrize(
    "changes",
    [{"metric": "missing_rate"}, {"alarm": api.Promise(false_alarm_every_s=86_400)}],
)
def test_where_there_is_no_rate_none_is_said(spec: Make, changes: dict[str, Any]):
    assert fixed_alarm_text(spec(**changes), BaselineData.of_values(range(500)), 50) is None
    assert fixed_alarm_text(spec(), BaselineData.of_values([1.0] * 10), 50) is None
    assert fixed_alarm_text(spec(min_count=20), BaselineData.of_values(range(500)), 19) is None


def test_a_short_baseline_says_so_instead_of_a_rate(spec: Make, ask: Make, as_rows: Make):
    r = np.random.default_rng(16)
    notes = ask(spec(), BaselineData.of_values([0.1, 0.2, 0.3]), as_rows(r.random(60))).notes
    assert "a baseline of 3 values says little about what is usual; take a longer one" in notes
    assert not [note for note in notes if "without any drift" in note]


@pytest.mark.parametrize("grid", [UNIVERSAL, Grid((-5e-324, 0.0, 5e-324, 1e-320))])
def test_denormal_values_have_finite_scores(spec: Make, ask: Make, as_counts: Make, grid: Grid):
    values = np.arange(100) * 5e-324
    summary = of_values(values, grid)
    for baseline in (BaselineData.of_values(values), BaselineData.of_parts([Part(summary=summary, grid=grid)])):
        for mode in ("quantile", "equal"):
            asked = spec(bin_mode=mode)
            with np.errstate(all="raise", under="ignore"):
                assert ask(asked, baseline, as_counts(values, grid)).score == pytest.approx(0.0, abs=0.02)


def test_no_spread_is_more_than_half_the_range(spec: Make, ask: Make, as_counts: Make):
    # Far from the universal grid's centre, sums of squares have no digits left for a spread of 300.
    values = 1e15 + np.arange(1000.0)
    found = ask(spec(), BaselineData.of_values(values), as_counts(values, UNIVERSAL))
    assert found.std <= 499.5


def test_a_part_is_values_or_counts_and_not_both_or_neither():
    summary = of_values([1.0], UNIVERSAL)
    for wrong in (
        {},
        {"values": np.zeros(1), "summary": summary, "grid": UNIVERSAL},
        {"summary": summary},
        {"summary": summary, "grid": Grid((0.0,))},
    ):
        with pytest.raises(InvalidInputError):
            Part(**wrong)
