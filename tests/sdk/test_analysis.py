"""What an analysis shows of itself: tables with the reference platform's columns, comparisons, charts."""

import math
from typing import Any

import msgspec
import pytest

from driftline.errors import EmptyWindowError
from driftline.sdk.analysis import AssayAnalysis, AssayAnalysisList
from driftline.wire import api

START_NS = 1_767_261_600_000_000_000
MINUTE_NS = 60_000_000_000
BINS = api.Bins(
    labels=["left_outlier", "q_60", "q_100", "right_outlier"],
    edges=[0.3, 0.4, 0.5],
    baseline=[0.0, 0.75, 0.25, 0.0],
    window=[0.0, 0.25, 0.25, 0.5],
    contributions=[0.0, 0.5, 0.0, 2.25],
)
ONE = api.Analysis(
    assay_id=None, name="focus", iopath="output x 0", field="out.x", device="camera-1",
    start_ns=START_NS, end_ns=START_NS + 3 * MINUTE_NS, score=2.75, status="Alert",
    alert_threshold=0.25, warning_threshold=None, count=5, missing=1,
    min=0.35, max=0.9, mean=0.6, median=0.5, std=0.2, source="rows", metric="psi", bins=BINS, notes=["a note"],
)  # fmt: skip
EMPTY = msgspec.structs.replace(
    ONE, start_ns=ONE.end_ns, end_ns=ONE.end_ns + 3 * MINUTE_NS, score=None, status="NoData", count=0, missing=0,
    min=None, max=None, mean=None, median=None, std=None, bins=None,
)  # fmt: skip
PROMISED = msgspec.structs.replace(
    ONE, alert_threshold=None, p_value=0.01, baseline_version=2,
    evidence=api.Evidence(value=700.0, alarm_at=14_400.0, kind="windows", e=12.0),
    effect=api.Effect(mean_shift=0.4, median_shift=0.5, wasserstein=0.1, outside=0.2, psi=2.75, psi_at_least=0.6),
)  # fmt: skip
UNHEARD = msgspec.structs.replace(EMPTY, status="Late", alert_threshold=None)
BASELINE = api.BaselineStats(
    device=None, field="out.x", count=4, missing=0, min=0.3, max=0.5, mean=0.4, median=0.4, std=0.0, start_ns=START_NS
)


def shown(*analyses: api.Analysis, baseline: api.BaselineStats = BASELINE, **facts: Any) -> AssayAnalysisList:
    summarizer = api.Summarizer(**facts)
    return AssayAnalysisList([AssayAnalysis(one, lambda: [baseline], summarizer) for one in analyses])


def test_the_table_has_the_columns_of_the_reference_first_and_in_its_order():
    frame = shown(ONE, EMPTY).to_dataframe()
    assert list(frame.columns[:13]) == [
        "assay_id", "name", "iopath", "score", "start", "min", "max", "mean", "median", "std",
        "warning_threshold", "alert_threshold", "status",
    ]  # fmt: skip
    assert list(frame["start"]) == ["2026-01-01T10:00:00+00:00", "2026-01-01T10:03:00+00:00"]
    assert frame["score"].dtype == float
    assert frame["score"][0] == 2.75
    assert math.isnan(frame["score"][1])
    assert list(frame["status"]) == ["Alert", "NoData"]


def test_under_a_promise_the_table_adds_evidence_and_effect_and_has_no_threshold():
    frame = shown(PROMISED, UNHEARD).to_dataframe()
    assert list(frame.columns[13:20]) == ["device", "end", "field", "count", "missing", "source", "revision"]
    added = ["evidence", "alarm_at", "mean_shift", "psi_at_least", "p_value", "baseline_version"]
    assert frame.loc[0, added].tolist() == [700.0, 14_400.0, 0.4, 0.6, 0.01, 2]
    assert frame["alert_threshold"].isna().all()
    assert frame.loc[1, added[:-1]].isna().all()
    assert frame["evidence"].dtype == float


def test_an_analysis_says_its_evidence_beside_its_effect():
    promised, fixed = shown(PROMISED, ONE)
    assert (promised.evidence, promised.alarm_at, promised.alert_threshold) == (700.0, 14_400.0, None)
    assert promised.effect is not None
    assert (promised.effect.mean_shift, promised.p_value) == (0.4, 0.01)
    assert promised.contributions == {"left_outlier": 0.0, "q_60": 0.5, "q_100": 0.0, "right_outlier": 2.25}
    assert "score 2.75, evidence 700 of 14400, Alert" in repr(promised)
    assert (fixed.evidence, fixed.alarm_at, fixed.effect, fixed.p_value) == (None, None, None, None)
    assert shown(EMPTY)[0].contributions == {}


def test_answers_of_several_fields_are_told_apart():
    other = msgspec.structs.replace(ONE, field="out.y", iopath="output y 0")
    both = shown(ONE, other)
    assert both.fields == ["out.x", "out.y"]
    assert (
        [one.field for one in both.of_field("out.y")] == [one.field for one in both.of_field("output y 0")] == ["out.y"]
    )
    assert both[1].baseline() is None, "the baseline is another field's"


def test_a_run_without_windows_is_a_table_with_columns():
    assert list(shown().to_dataframe().columns) == list(shown(ONE).to_dataframe().columns)
    assert len(shown()) == 0
    assert str(shown().chart_scores()).startswith("<svg")


def test_the_list_is_a_sequence():
    both = shown(ONE, EMPTY)
    assert (len(both), both[-1].status, [one.score for one in both]) == (2, "NoData", [2.75, None])
    assert len(both[:1]) == 1
    assert both.devices == ["camera-1"]
    assert repr(both) == "<2 analyses: 1 Alert, 1 NoData>"


def test_an_analysis_reads_as_its_message():
    one = shown(ONE)[0]
    assert (one.name, one.device, one.field, one.count, one.notes) == ("focus", "camera-1", "out.x", 5, ["a note"])
    assert (one.end - one.start).total_seconds() == 180
    assert one.start.isoformat() == "2026-01-01T10:00:00+00:00"


def test_basic_stats_stand_beside_the_baselines():
    frame = shown(ONE)[0].compare_basic_stats()
    assert list(frame.index) == ["count", "missing", "min", "max", "mean", "median", "std", "start", "end"]
    assert frame.loc["mean"].tolist() == [0.4, 0.6, pytest.approx(0.2), pytest.approx(50)]
    assert math.isnan(frame.loc["std", "pct_diff"]), "nothing is a share of a standard deviation of zero"
    assert frame.loc["start", "Baseline"] == frame.loc["start", "Window"] == "2026-01-01T10:00:00+00:00"
    assert frame.loc["end", "Baseline"] is None


def test_a_device_is_compared_with_its_own_baseline_where_it_has_one():
    own = msgspec.structs.replace(BASELINE, device="camera-1", mean=0.1)
    (one,) = [AssayAnalysis(ONE, lambda: [BASELINE, own], api.Summarizer())]
    assert one.compare_basic_stats().loc["mean", "Baseline"] == 0.1


def test_a_window_is_not_compared_with_a_baseline_that_came_later():
    newer = msgspec.structs.replace(BASELINE, version=2)
    (old, new) = shown(ONE, PROMISED, baseline=newer)
    assert (old.baseline(), new.baseline()) == (None, newer)
    assert old.compare_basic_stats()["Baseline"].tolist() == [None] * 9


def test_categories_stand_side_by_side_without_edges():
    labels, shares = ["cat", "dog", "(other)", "(new)"], [0.6, 0.4, 0.0, 0.0]
    bins = api.Bins(labels=labels, edges=[], baseline=shares, window=shares[::-1], contributions=[0.0, 0.5, 0.0, 2.25])
    frame = shown(msgspec.structs.replace(ONE, bins=bins))[0].compare_bins()
    assert list(frame["b_edge_names"]) == labels
    assert frame[["b_edges", "w_edges"]].isna().to_numpy().all()
    assert list(frame["diff_in_pcts"]) == pytest.approx([-0.6, -0.4, 0.4, 0.6])


def test_bins_stand_side_by_side_with_what_each_gives_to_the_score():
    frame = shown(ONE)[0].compare_bins()
    assert list(frame["b_edge_names"]) == BINS.labels
    assert list(frame["b_edges"]) == [0.3, 0.4, 0.5, math.inf]
    assert list(frame["diff_in_pcts"]) == [0.0, -0.5, 0.0, 0.5]
    assert frame["contribution"].sum() == ONE.score


def test_cumulative_bins_are_running_sums():
    frame = shown(ONE, aggregation="cumulative")[0].compare_bins()
    assert list(frame["w_aggregated_values"]) == [0.0, 0.25, 0.5, 1.0]
    assert set(frame["w_aggregation"]) == {"Cumulative"}


def test_a_window_without_values_says_why_it_has_no_bins():
    one = shown(EMPTY)[0]
    for call in (one.compare_bins, one.chart):
        with pytest.raises(EmptyWindowError, match=r"2026-01-01T10:03:00\+00:00 on device camera-1 is NoData"):
            call()


def test_charts_are_drawings_that_can_be_kept(tmp_path: Any):
    chart = shown(ONE, EMPTY).chart_scores(title="Focus <of the lens>")
    assert "Focus &lt;of the lens&gt;" in str(chart)
    assert chart._repr_html_() == str(chart)
    assert chart.save(tmp_path / "scores.svg").read_text(encoding="utf-8") == str(chart)
    assert str(shown(ONE)[0].chart()).startswith("<svg")


def test_evidence_is_drawn_where_there_is_a_promise():
    drawn, fixed = str(shown(PROMISED, UNHEARD).chart_scores()), str(shown(ONE, EMPTY).chart_scores())
    assert "vidence" in drawn
    assert "vidence" not in fixed
    assert str(shown(PROMISED)[0].chart()).startswith("<svg")


def test_a_notebook_shows_tables_with_escaped_texts():
    named = msgspec.structs.replace(ONE, name="<b>", device="<script>")
    assert "<script>" not in shown(named)._repr_html_()
    assert "&lt;script&gt;" in shown(named)._repr_html_()
    assert "&lt;b&gt;" in shown(named)[0]._repr_html_()
    assert "evidence" not in shown(ONE)._repr_html_()
    assert "<th>evidence</th><th>alarm_at</th>" in shown(PROMISED)._repr_html_()
    assert "… and 40 more" in shown(*[ONE] * 100)._repr_html_()
