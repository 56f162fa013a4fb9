"""The recorder: every base window becomes a record, empty or not, and every value is in exactly one."""

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.clock import NS_PER_S, ManualClock
from driftline.edge.recorder import Recorder
from driftline.errors import InvalidInputError
from driftline.summary.codec import decode
from driftline.summary.grid import UNIVERSAL, Grid
from driftline.summary.summary import CategorySummary, Summary
from driftline.wire.device import (
    Desired,
    DesiredPipeline,
    RowsRecord,
    Stamp,
    WindowRecord,
    decode_event,
    decode_rows,
    decode_window,
)

MINUTE_NS = 60 * NS_PER_S
T0_S = 1_767_261_600
T0 = T0_S * NS_PER_S


def definition(*fields: tuple[str, str], steps: bool = True) -> dict[str, Any]:
    outputs = [{"name": name, "type": kind, "shape": []} for name, kind in fields]
    listed = [
        {"key": f"out.{name}", "type": kind, "kind": "category" if kind == "string" else "number"}
        for name, kind in fields
    ]
    made_with = [{"name": "m"}] if steps else []
    head = {"version": 1, "pipeline": "doors", "steps": made_with}
    return head | {"inputs": [], "outputs": outputs, "fields": listed}


DECLARED = definition(("score", "float64"), ("small", "float32"), ("label", "string"))
OPEN = definition(steps=False)


class Records(list[tuple[str, Any]]):
    """What a recorder delivered, decoded, and the offsets it was stamped with."""

    def __init__(self) -> None:
        self.offsets_ns: list[int] = []

    def take(self, kind: str, data: bytes, stamp: Stamp | None) -> None:
        assert stamp is not None
        if kind == "window":
            self.offsets_ns.append(stamp.offset_ns)
        decoders = {"window": decode_window, "rows": decode_rows, "event": decode_event}
        self.append((kind, decoders[kind](data)))

    @property
    def windows(self) -> list[WindowRecord]:
        return [one for kind, one in self if kind == "window"]

    @property
    def rows(self) -> list[RowsRecord]:
        return [one for kind, one in self if kind == "rows"]


def summary(window: WindowRecord, key: str) -> Summary | CategorySummary:
    (found,) = (one for one in window.fields if one.key == key)
    return decode(found.summary, found.grid_id)


def made(
    document: dict[str, Any] = DECLARED, *, rows_max: int | None = 0, rows_sent: int = 0, **facts: Any
) -> tuple[Recorder, Records]:
    records = Records()
    recorder = Recorder(records.take, ManualClock(T0, boot="b"))
    pipeline = DesiredPipeline("pv", "doors", document, rows_max=rows_max, **facts)
    recorder.configure(Desired((pipeline,)), {"pv": rows_sent}, T0)
    return recorder, records


def minutes(records: Records) -> list[int]:
    return [(one.start_s - T0_S) // 60 for one in records.windows]


def test_a_window_without_any_inference_is_a_record_too():
    recorder, records = made()
    recorder.begin("pv", T0 + 5)
    recorder.close(T0 + 3 * MINUTE_NS + 1)
    assert minutes(records) == [0, 1, 2]
    assert [one.inferences for one in records.windows] == [0, 0, 0]
    assert recorder.complete_until_ns == {"pv": T0 + 3 * MINUTE_NS}


def test_a_window_closes_when_its_end_is_reached_and_not_before():
    recorder, records = made()
    recorder.begin("pv", T0)
    recorder.close(T0 + MINUTE_NS - 1)
    assert not records
    recorder.close(T0 + MINUTE_NS)
    recorder.close(T0 + MINUTE_NS)
    assert minutes(records) == [0]


def test_values_are_counted_in_the_window_of_their_time_and_missing_where_they_did_not_come():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 0.5, "out.small": 0.1, "out.label": "cup"})
    recorder.record("pv", T0 + 1, {"out.score": float("nan"), "out.label": None})
    recorder.record("pv", T0 + MINUTE_NS, {"out.score": 3.0})
    recorder.close(T0 + 2 * MINUTE_NS)
    first, second = records.windows
    assert (first.inferences, second.inferences) == (2, 1)
    score = summary(first, "out.score")
    assert (score.count, score.missing, score.min, score.grid_id) == (2, 1, 0.5, UNIVERSAL.id)
    # A float32 field is rounded to float32 before anything is compared.
    assert summary(first, "out.small").min == 0.10000000149011612
    assert summary(first, "out.small").missing == 1
    assert summary(first, "out.label") == CategorySummary(2, 1, (("cup", 1),), 0)
    assert summary(second, "out.label").missing == 1


def test_a_late_value_makes_one_more_record_of_its_window():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 1.0})
    recorder.close(T0 + 2 * MINUTE_NS)
    recorder.record("pv", T0 + 1, {"out.score": 2.0})
    recorder.record("pv", T0 + 2, {"out.score": 2.0})
    recorder.close(T0 + 2 * MINUTE_NS)
    recorder.close(T0 + 2 * MINUTE_NS)
    assert minutes(records) == [0, 1, 0]
    assert [one.inferences for one in records.windows] == [1, 0, 2]
    assert recorder.complete_until_ns == {"pv": T0 + 2 * MINUTE_NS}


def test_a_steady_stream_of_late_values_makes_a_record_a_minute_and_not_one_a_call():
    recorder, records = made()
    recorder.begin("pv", T0)
    recorder.close(T0 + MINUTE_NS)
    for _ in range(10):
        recorder.record("pv", T0, {"out.score": 1.0})
        recorder.close(T0 + MINUTE_NS)
    assert minutes(records) == [0]
    recorder.close(T0 + 2 * MINUTE_NS)
    assert [(one.start_s - T0_S, one.inferences) for one in records.windows] == [(0, 0), (0, 10), (60, 0)]


def test_a_new_grid_is_taken_at_the_next_base_window_and_the_open_one_keeps_its_own():
    recorder, records = made()
    grid = Grid((0.0, 1.0, 2.0))
    recorder.record("pv", T0 + 10, {"out.score": 1.0})
    newer = DesiredPipeline("pv", "doors", DECLARED, grids={"out.score": grid.id})
    recorder.configure(Desired((newer,), {grid.id: grid.edges}), {}, T0 + 20)
    recorder.record("pv", T0 + 30, {"out.score": 1.0})
    recorder.record("pv", T0 + MINUTE_NS, {"out.score": 1.0})
    recorder.close(T0 + 2 * MINUTE_NS)
    assert [summary(one, "out.score").grid_id for one in records.windows] == [UNIVERSAL.id, grid.id]
    assert summary(records.windows[0], "out.score").count == 2


def test_a_grid_that_is_not_what_its_name_says_is_not_used():
    records = Records()
    recorder = Recorder(records.take, ManualClock(T0, boot="b"))
    pipeline = DesiredPipeline("pv", "doors", DECLARED, grids={"out.score": "ab" * 8})
    recorder.configure(Desired((pipeline,), {"ab" * 8: (0.0, 1.0)}), {}, T0)
    recorder.record("pv", T0, {"out.score": 1.0})
    recorder.close(T0 + MINUTE_NS)
    assert summary(records.windows[0], "out.score").grid_id == UNIVERSAL.id


def test_a_version_nobody_wants_any_more_makes_no_more_empty_windows():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 1.0})
    recorder.configure(Desired(), {}, T0 + 10)
    recorder.close(T0 + 5 * MINUTE_NS)
    assert minutes(records) == [0]


def test_rows_are_complete_until_their_number_is_reached():
    recorder, records = made(rows_max=3, rows_sent=1)
    recorder.record("pv", T0, {"out.score": 1.0, "out.small": 0.1, "out.label": "a"})
    for minute in (1, 1):
        recorder.record("pv", T0 + minute * MINUTE_NS, {"out.score": 2.0, "out.small": None, "out.label": None})
    recorder.close(T0 + 2 * MINUTE_NS)
    first, second = records.rows
    assert (first.complete, second.complete) == (True, False)
    assert (list(first.times_ns), len(second.times_ns)) == ([T0], 1)
    assert {key: kind for key, (kind, _) in first.columns.items()} == {
        "out.score": "d",
        "out.small": "f",
        "out.label": "s",
    }
    assert [kind for kind, _ in records] == ["window", "rows", "window", "rows"]


def test_rows_of_a_window_that_a_restart_fell_into_are_not_called_complete():
    recorder, records = made(rows_max=None)
    recorder.begin("pv", T0 + 30 * NS_PER_S)
    for second in (30, 59, 60):
        recorder.record("pv", T0 + second * NS_PER_S, {"out.score": 1.0})
    recorder.close(T0 + 2 * MINUTE_NS)
    assert [(one.complete, len(one.times_ns)) for one in records.rows] == [(False, 2), (True, 1)]


def test_where_every_row_travels_it_travels_soon_and_once():
    recorder, records = made(rows_max=None)
    recorder.record("pv", T0, {"out.score": 1.0}, {"in.x": ("q", 5), "out.boxes": ("s", [[1.0, float("nan")]])})
    recorder.flush_rows()
    recorder.flush_rows()
    recorder.record("pv", T0 + 1, {"out.score": 2.0}, {"in.x": ("q", None)})
    recorder.close(T0 + MINUTE_NS)
    assert [(one.complete, list(one.times_ns)) for one in records.rows] == [(False, [T0]), (False, [T0 + 1])]
    assert records.rows[0].columns["out.boxes"] == ("s", [[[1.0, None]]])
    assert [records.rows[i].columns["in.x"][0] for i in (0, 1)] == ["q", "d"]


def test_rows_too_heavy_for_one_message_are_handed_over_in_parts():
    recorder, records = made(rows_max=None)
    heavy = {"out.list": ("s", [0.5] * 4096)}
    for number in range(120):
        recorder.record("pv", T0 + number, {}, heavy)
    recorder.close(T0 + MINUTE_NS)
    assert sum(len(one.times_ns) for one in records.rows) == 120
    assert len(records.rows) > 1


def test_a_pipeline_that_declares_nothing_counts_whatever_it_is_given():
    recorder, records = made(OPEN, rows_max=10, extra_fields=("out.long.20",))
    recorder.record("pv", T0, {"in.a": 1, "out.text": "yes", "out.list": [1.0, 2.0], "out.long": list(range(40))})
    recorder.record("pv", T0 + 1, {"in.a": True, "out.nested": [[1], [2]]})
    recorder.close(T0 + MINUTE_NS)
    (window,) = records.windows
    keys = {one.key for one in window.fields}
    assert keys == {
        *("in.a", "out.text", "out.list.0", "out.list.1", "out.long.20"),
        *("out.nested.0.0", "out.nested.1.0"),
    }
    assert summary(window, "out.text") == CategorySummary(2, 1, (("yes", 1),), 0)
    assert summary(window, "out.nested.1.0").missing == 1  # of the first inference, which did not have it
    assert all(summary(window, key).count == 2 for key in keys)
    (rows,) = records.rows
    assert rows.columns["out.long"][0] == "s"
    assert list(rows.columns["in.a"][1]) == [1.0, 1.0]


def test_what_is_no_number_is_missing_and_what_is_too_large_is_infinite():
    recorder, records = made()
    for value in ("text", 10**400, -(10**400), object()):
        recorder.record("pv", T0, {"out.score": value})
    recorder.close(T0 + MINUTE_NS)
    score = summary(records.windows[0], "out.score")
    assert isinstance(score, Summary)
    assert (score.missing, score.infinite) == (2, (1, 1))


def test_fast_time_that_jumps_by_years_makes_no_million_windows():
    recorder, records = made()
    recorder.begin("pv", 0)
    recorder.record("pv", 30 * NS_PER_S, {"out.score": 1.0})
    recorder.close(T0)
    assert [one.start_s for one in records.windows] == [0]  # what was counted is not lost
    assert [one["type"] for kind, one in records if kind == "event"] == ["clock_jumped"]
    assert recorder.complete_until_ns == {"pv": T0}
    recorder.close(T0 + MINUTE_NS)
    assert records.windows[-1].start_s == T0_S


def test_a_clock_nudged_back_counts_on_in_windows_that_are_closed():
    recorder, records = made()
    recorder.begin("pv", T0)
    recorder.close(T0 + 5 * MINUTE_NS)
    recorder.record("pv", T0 + MINUTE_NS, {"out.score": 1.0})
    for _ in range(2):
        recorder.close(T0 + 2 * MINUTE_NS)
    assert records.windows[-1].inferences == 1
    assert recorder.complete_until_ns == {"pv": T0 + 5 * MINUTE_NS}


def test_handing_over_delivers_open_windows_and_does_not_call_them_complete():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 1.0})
    recorder.hand_over()
    assert minutes(records) == [0]
    assert recorder.complete_until_ns == {"pv": T0}
    recorder.record("pv", T0 + 1, {"out.score": 1.0})
    recorder.close(T0 + MINUTE_NS)
    assert sum(one.inferences for one in records.windows) == 2


def test_pipelines_close_on_their_own_where_one_is_named():
    records = Records()
    recorder = Recorder(records.take, ManualClock(T0, boot="b"))
    both = tuple(DesiredPipeline(pv, pv, DECLARED) for pv in ("a", "b"))
    recorder.configure(Desired(both), {}, T0)
    recorder.begin("a", T0)
    recorder.begin("b", T0)
    recorder.close(T0 + MINUTE_NS, "a")
    assert [one.pipeline for one in records.windows] == ["a"]
    assert recorder.complete_until_ns == {"a": T0 + MINUTE_NS, "b": T0}


def test_a_version_that_nobody_named_is_refused():
    recorder, _ = made()
    with pytest.raises(InvalidInputError, match="deploy it first"):
        recorder.record("other", T0, {})


# ── what is open ─────────────────────────────────────────────────────────────────────────────────────────────────


def opened(recorder: Recorder) -> tuple[Records, dict[str, int]]:
    records = Records()
    with recorder.snapshot() as snapshot:
        for one in snapshot.records:
            records.take(one.kind, one.data, one.stamp)
        return records, dict(snapshot.until_ns)


def test_a_snapshot_shows_open_windows_as_they_would_be_handed_over_and_changes_nothing():
    recorder, records = made(rows_max=10)
    for second in (0, 30, 65):
        recorder.record("pv", T0 + second * NS_PER_S, {"out.score": 1.0, "out.label": "cup"})
    first, _ = opened(recorder)
    again, _ = opened(recorder)
    assert first == again
    assert not records
    assert [one.complete for one in first.rows] == [False, False]
    recorder.hand_over()
    assert first == records
    assert opened(recorder)[0] == []


def test_values_that_did_not_come_are_missing_in_the_snapshot_and_once_in_the_window():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 1.0})
    recorder.record("pv", T0 + 1, {})
    for _ in range(3):
        (window,) = opened(recorder)[0].windows
        assert [(summary(window, f"out.{name}").missing) for name in ("score", "small", "label")] == [1, 2, 2]
    recorder.close(T0 + MINUTE_NS)
    assert [(summary(records.windows[0], f"out.{name}").missing) for name in ("score", "small", "label")] == [1, 2, 2]


def test_a_snapshot_says_up_to_where_a_source_in_order_is_counted_and_how_far_all_is_closed():
    recorder, _ = made()
    recorder.begin("pv", T0 + 20 * NS_PER_S)
    # What came before its beginning was counted by others: it never says less.
    assert recorder.complete_until_ns == {"pv": T0 + 20 * NS_PER_S}
    assert opened(recorder)[1] == {"pv": T0 + 20 * NS_PER_S}
    recorder.record("pv", T0 + 30 * NS_PER_S, {}, in_order=True)
    recorder.record("pv", T0 + 50 * NS_PER_S, {})
    assert opened(recorder)[1] == {"pv": T0 + 30 * NS_PER_S + 1}
    assert recorder.complete_until_ns == {"pv": T0 + 20 * NS_PER_S}
    recorder.close(T0 + MINUTE_NS)
    assert opened(recorder)[1] == {"pv": T0 + MINUTE_NS}


def test_nothing_is_counted_or_delivered_while_a_snapshot_is_looked_at():
    recorder, records = made()
    recorder.record("pv", T0, {"out.score": 1.0})
    others = [
        threading.Thread(target=recorder.close, args=(T0 + MINUTE_NS,)),
        threading.Thread(target=recorder.record, args=("pv", T0 + 1, {})),
    ]
    with recorder.snapshot() as snapshot:
        for one in others:
            one.start()
        time.sleep(0.05)
        assert not records
        assert len(snapshot.records) == 1
    for one in others:
        one.join()
    assert records


# ── clocks that are set ──────────────────────────────────────────────────────────────────────────────────────────


class Device:
    """A recorder whose owner lives by a clock: it looks each second, and closes what has ended."""

    def __init__(self, now_ns: int = T0) -> None:
        self.clock = ManualClock(now_ns, boot="b")
        self.records = Records()
        self.recorder = Recorder(self.records.take, self.clock)
        self.recorder.configure(Desired((DesiredPipeline("pv", "doors", DECLARED, rows_max=None),)), {}, now_ns)
        self.recorder.begin("pv", now_ns)
        self.seen = 0

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.recorder.record("pv", self.clock.now_ns(), {"out.score": 1.0})
            self.seen += 1
            self.clock.advance(1)
            self.recorder.close(self.clock.now_ns())

    @property
    def counted(self) -> int:
        return sum(one.inferences for one in self.records.windows)


def test_a_clock_set_back_a_day_hands_over_what_is_open_and_begins_anew():
    device = Device()
    device.look(90)
    device.clock.set(T0 + 90 * NS_PER_S - 86_400 * NS_PER_S)
    device.look(1)
    assert minutes(device.records) == [0, 1]
    device.look(89)
    inferences = [one.inferences for one in device.records.windows]
    assert list(zip(minutes(device.records), inferences, strict=True)) == [
        (0, 60),
        (1, 30),  # as far as it went
        (1 - 1440, 30),
        (2 - 1440, 60),
    ]
    assert device.records.offsets_ns == [T0, T0, T0 - 86_400 * NS_PER_S, T0 - 86_400 * NS_PER_S]
    assert device.recorder.complete_until_ns == {"pv": T0 + (3 - 1440) * MINUTE_NS}
    # Only a part of it was seen by this clock: its rows are not all there is.
    assert [one.complete for one in device.records.rows] == [True, False, False, True]


@pytest.mark.parametrize("ahead_s", [61, 3600, 86_400, 30 * 86_400])
def test_a_clock_set_ahead_makes_no_windows_for_the_time_that_it_left_out(ahead_s: int):
    device = Device()
    device.look(90)
    device.clock.set(T0 + (90 + ahead_s) * NS_PER_S)
    device.look(60)
    device.recorder.hand_over()
    assert (device.counted, len(device.records.windows)) == (150, 4)
    assert set(device.records.offsets_ns) == {T0, T0 + ahead_s * NS_PER_S}


def test_a_device_that_booted_in_1970_counts_on_when_it_learns_the_time():
    device = Device(0)
    device.look(150)
    device.clock.set(T0)
    device.look(60)
    assert [one.start_s for one in device.records.windows] == [0, 60, 120, T0_S]
    assert [one.inferences for one in device.records.windows] == [60, 60, 30, 60]


def test_an_inference_under_way_while_the_clock_was_set_is_stamped_by_the_clock_it_began_by():
    for set_to in (T0 + 86_400 * NS_PER_S, T0 - 86_400 * NS_PER_S):
        device = Device()
        began_ns = device.clock.now_ns()
        device.clock.set(set_to)
        device.recorder.close(began_ns)  # it is under way: nothing may close behind it
        assert device.recorder.complete_until_ns == {}
        device.recorder.record("pv", began_ns, {"out.score": 1.0})
        device.look(3)
        assert [(one.start_s, one.inferences) for one in device.records.windows] == [(T0_S, 1)]
        assert device.records.offsets_ns == [T0]
        assert device.recorder.complete_until_ns == {"pv": set_to}


def test_a_version_that_was_retired_makes_no_windows_after_the_clock_is_set():
    device = Device()
    device.look(10)
    device.recorder.configure(Desired(), {}, device.clock.now_ns())
    device.clock.set(T0 - 86_400 * NS_PER_S)
    device.look(1)  # one that was under way
    device.clock.advance(3600)
    device.recorder.close(device.clock.now_ns())
    assert [one.inferences for one in device.records.windows] == [10, 1]


@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 200),
            st.one_of(st.integers(-90, 90), st.sampled_from([-86_400, 86_400, 3600, -3600, 40 * 86_400])),
        ),
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_however_a_clock_is_set_each_inference_is_counted_once_and_no_window_waits(steps: list[tuple[int, int]]):
    device = Device(T0)
    for seconds, step_s in steps:
        device.look(seconds)
        device.clock.set(device.clock.now_ns() + step_s * NS_PER_S)
    device.look(3)
    lived_s = device.seen
    # Nothing older than a minute is still open, whatever the clock showed meanwhile.
    assert device.seen - device.counted <= 60 + 90
    device.recorder.hand_over()
    assert device.counted == device.seen
    assert len(device.records.windows) <= lived_s // 60 + 2 * len(steps) + 2 + sum(
        max(0, step) // 60 + 1 for _, step in steps if abs(step) <= 90
    )
    for one, offset_ns in zip(device.records.windows, device.records.offsets_ns, strict=True):
        # By its stamp each lies in the life of this device, but for the part of a window that was before it.
        assert -151 <= one.start_s - offset_ns / NS_PER_S <= lived_s + 90
