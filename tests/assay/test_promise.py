"""A stream under a promise: what a window adds, what it leaves alone, and which windows are counted at all."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from driftline.assay.baseline import BaselineData
from driftline.assay.evidence import WARNING, step
from driftline.assay.promise import Memory, Stream, alarm_at, calibrated, calibration_of, check_promise, is_counted
from driftline.assay.window import WindowPlan
from driftline.errors import InvalidInputError
from driftline.wire import api

Make = Callable[..., Any]

N = 60
MONTH_S = 30 * 86_400
PROMISE = api.Promise(false_alarm_every_s=MONTH_S)
A = 14_400.0


def rows(windows: int, seed: int, shift: float = 0.0):
    return np.random.default_rng(seed).normal(shift, 1, (windows, N))


@pytest.fixture
def stream() -> Stream:
    baseline = BaselineData.of_values(rows(50, 1).ravel())
    return Stream(baseline, calibration_of(PROMISE, baseline, N, None))


@pytest.fixture
def answer(spec: Make, ask: Make, as_rows: Make, stream: Stream) -> Make:
    """Answers a window by itself, before the stream has its say."""
    asked = spec(compat=None, alarm=PROMISE)

    def make(values: Any, **heard: bool) -> tuple[api.Analysis, Any]:
        part = as_rows(values)
        return ask(asked, stream.baseline, part, **heard), stream.baseline.read([part])

    return make


def test_a_window_gets_its_evidence_and_its_status_from_what_came_together(stream: Stream, answer: Make):
    memory, statuses, last = stream.begin(), list[str](), None
    for window in rows(8, 2, shift=0.5):
        analysis, seen = answer(window)
        assert (analysis.status, analysis.evidence) == ("Ok", None)
        told, after = stream.step(memory, analysis, seen, A, min_count=20)
        _, alone = step(stream.calibration, memory.state, stream.yardstick.measured(seen), A)
        assert told.evidence is not None
        assert (told.evidence.value, told.evidence.e) == (alone.evidence, alone.e)
        assert (told.evidence.alarm_at, told.evidence.kind, told.evidence.counted) == (A, "rows", True)
        assert told.score == analysis.score
        statuses.append(told.status)
        memory = after
        last = told.evidence
    assert (statuses[0], statuses[-1]) == ("Ok", "Alert")
    assert last is not None
    assert last.alarmed
    assert last.residuals["location"] > 2
    assert last.p["location"] < 0.05


def test_an_answer_with_evidence_travels(stream: Stream, answer: Make):
    told, _ = see(stream, stream.begin(), answer(rows(1, 3)[0]))
    assert api.decode(api.encode(told), api.Analysis) == told


def test_a_window_that_nothing_was_heard_of_changes_nothing(stream: Stream, answer: Make):
    analysis, seen = answer([], heard=False)
    memory = stream.begin()
    assert stream.step(memory, analysis, seen, A, min_count=20) == (analysis, memory)
    assert stream.aside(memory, analysis, A) == analysis


def test_late_data_is_answered_by_stepping_again_from_there(stream: Stream, answer: Make):
    first, late, last = rows(3, 4, shift=0.3)
    _, memory = see(stream, stream.begin(), answer(first))
    _, without = see(stream, memory, answer([]))
    _, then = see(stream, memory, answer(late))
    assert see(stream, then, answer(last)) == see(stream, then, answer(last))
    assert sum(then.state.evidence) > sum(without.state.evidence) == sum(memory.state.evidence)


def test_a_window_without_data_or_with_too_little_keeps_the_evidence_and_says_which(stream: Stream, answer: Make):
    _, memory = see(stream, stream.begin(), answer(rows(1, 5)[0]))
    for values, status in (([], "NoData"), ([np.nan] * N, "NoData"), ([0.0] * 19, "TooFew")):
        told, after = see(stream, memory, answer(values))
        assert told.status == status
        assert told.evidence is not None
        assert told.evidence.value == evidence_of(memory)
        assert after.state.evidence == memory.state.evidence


def test_min_count_is_the_assays_own(stream: Stream, answer: Make):
    told, _ = see(stream, stream.begin(), answer(rows(1, 11)[0, :19]), 1)
    assert told.status == "Ok"
    # Nothing is never evidence of anything.
    told, _ = see(stream, stream.begin(), answer([]), 0)
    assert told.status == "NoData"


def test_a_window_set_aside_shows_the_evidence_as_it_is(stream: Stream, answer: Make):
    before = memory = stream.begin()
    assert _aside(stream, memory, answer) == ("Ok", 0.0, False)
    for window in rows(20, 6, shift=0.3):
        before = memory
        told, memory = see(stream, memory, answer(window))
        expected = "Alert" if memory.state.alarmed else "Warning" if sum(memory.state.evidence) >= WARNING * A else "Ok"
        assert _aside(stream, memory, answer) == (expected, evidence_of(memory), memory.state.alarmed)
        if told.status == "Alert":
            break
    assert _aside(stream, before, answer)[0] == "Warning"
    assert _aside(stream, memory, answer)[0] == "Alert"


def evidence_of(memory: Memory) -> Any:
    return pytest.approx(sum(memory.state.evidence), rel=1e-12)


def _aside(stream: Stream, memory: Memory, answer: Make) -> tuple[str, float, bool]:
    analysis, _ = answer(rows(1, 7, shift=5.0)[0])
    told = stream.aside(memory, analysis, A)
    assert told.evidence is not None
    assert (told.evidence.counted, told.evidence.e, told.score) == (False, 1.0, analysis.score)
    return told.status, told.evidence.value, told.evidence.alarmed


def test_a_window_set_aside_that_has_no_data_still_says_so(stream: Stream, answer: Make):
    analysis, _ = answer([])
    assert stream.aside(stream.begin(), analysis, A).status == "NoData"


def test_an_alarm_lasts_over_windows_that_cannot_be_judged_until_it_is_resolved(stream: Stream, answer: Make):
    memory = stream.begin()
    for window in rows(12, 8, shift=1.0):
        _, memory = see(stream, memory, answer(window))
    assert memory.state.alarmed
    told, memory = see(stream, memory, answer([]))
    assert (told.status, told.evidence and told.evidence.alarmed) == ("NoData", True)
    for window in rows(60, 9):
        told, memory = see(stream, memory, answer(window))
        assert told.evidence is not None
        if told.evidence.resolved:
            break
        assert told.status == "Alert"
    assert told.evidence
    assert (told.status, told.evidence.value, told.evidence.alarmed) == ("Ok", 0.0, False)


def see(stream: Stream, memory: Memory, answered: Any, min_count: int = 20) -> tuple[api.Analysis, Memory]:
    analysis, seen = answered
    return stream.step(memory, analysis, seen, A, min_count=min_count)


# ── which windows count, and how much evidence an alarm takes ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("width", "interval", "counted"),
    [(60, 60, [1, 1, 1, 1]), (180, 60, [1, 0, 0, 1]), (150, 60, [1, 0, 0, 1]), (60, 180, [1, 1, 1, 1])],
)
def test_every_so_manyth_window_is_counted_and_these_never_overlap(width: int, interval: int, counted: list[int]):
    plan = WindowPlan(7, width, interval)
    starts = [7 + i * interval for i in range(40)]
    found = [is_counted(plan, start) for start in starts]
    assert found[:4] == [bool(one) for one in counted]
    kept = [start for start, one in zip(starts, found, strict=True) if one]
    assert min(np.diff(kept)) >= width


def test_the_promise_is_the_assays_over_all_its_streams():
    hourly = api.Windows(width_s=3600)
    assert alarm_at(PROMISE, hourly, 1) == MONTH_S / 3600
    assert alarm_at(PROMISE, hourly, 200) == 200 * alarm_at(PROMISE, hourly, 1)
    # Without a stream yet it is that of one.
    assert alarm_at(PROMISE, hourly, 0) == alarm_at(PROMISE, hourly, 1)


def test_an_assay_whose_windows_overlap_has_fewer_chances_of_a_false_alarm():
    sliding = api.Windows(width_s=3600, interval_s=600)
    assert alarm_at(PROMISE, sliding, 1) == MONTH_S / 3600
    with_gaps = api.Windows(width_s=600, interval_s=3600)
    assert alarm_at(PROMISE, with_gaps, 1) == MONTH_S / 3600
    uneven = api.Windows(width_s=900, interval_s=600)
    assert alarm_at(PROMISE, uneven, 1) == MONTH_S / 1200


@pytest.mark.parametrize("effect", [0.0, 0.1, None])
def test_a_promise_that_can_be_kept_passes(effect: float | None):
    check_promise(msgspec.structs.replace(PROMISE, min_effect=effect), api.Windows(width_s=3600))


@pytest.mark.parametrize("effect", [-0.1, float("nan"), float("inf")])
def test_a_least_effect_that_is_no_size_is_refused(effect: float):
    with pytest.raises(InvalidInputError, match=r"0 or more, such as 0\.1"):
        check_promise(msgspec.structs.replace(PROMISE, min_effect=effect), api.Windows())


def test_a_promise_shorter_than_a_window_is_refused():
    with pytest.raises(InvalidInputError, match="a time longer than a window"):
        check_promise(api.Promise(false_alarm_every_s=3600), api.Windows(width_s=86_400))


def test_what_a_promise_rests_on_is_told_or_why_it_does_not_stand(stream: Stream):
    told = calibrated(stream.calibration, None, A)
    assert (told.kind, told.n, told.windows, told.refused) == ("rows", N, 50, None)
    with pytest.raises(InvalidInputError) as caught:
        calibration_of(PROMISE, BaselineData.of_values(rows(3, 10).ravel()), N, None)
    refused = calibrated(None, str(caught.value), A)
    assert refused.kind is None
    assert refused.refused
    assert "the baseline's 180 values make only 3 windows of 60 inferences" in refused.refused
    assert "needs 5 windows, 300 values" in refused.refused
    with pytest.raises(InvalidInputError, match=r"300 values make not one window of 2,400 .* 12,000 values: give more"):
        calibration_of(PROMISE, BaselineData.of_values(rows(5, 10).ravel()), 2400, None)


# ── how large a change must be ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("shift", "worst"), [(0.6, "Warning"), (3.0, "Alert")])
def test_a_change_that_is_surely_smaller_than_min_effect_warns_and_says_so(
    stream: Stream, answer: Make, shift: float, worst: str
):
    memory, seen, said = stream.begin(), set[str](), list[str]()
    for window in rows(40, 21, shift=shift):
        analysis, read = answer(window)
        told, memory = stream.step(memory, analysis, read, A, min_count=20, min_effect=1.5)
        assert told.evidence is not None
        assert told.evidence.alarmed == (told.status == "Alert")
        seen.add(told.status)
        said += told.notes
    assert memory.state.alarmed
    assert worst in seen
    assert ("Alert" in seen) == (worst == "Alert")
    assert any("below min_effect 1.5 sd" in note for note in said) == (worst == "Warning")
    assert Memory.of(json.loads(json.dumps(memory.document()))) == memory
