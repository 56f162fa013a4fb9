"""What the hub takes from a device, what it refuses, and that nothing is lost or counted twice."""

import gzip
import json
import math
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, select

from driftline.clock import NS_PER_S, FastClock, ManualClock
from driftline.hub.check import TOGETHER_MIN
from driftline.hub.store.telemetry import complete, records, rows, summaries, undated, windows
from driftline.summary.codec import decode, encode
from driftline.summary.grid import UNIVERSAL, Grid
from driftline.summary.summary import Tally
from driftline.wire import device as wire

STORES = ("sqlite", "postgres")
START_S = 1_767_261_600  # 2026-01-01T10:00:00+00:00
FIELD = "out.brightness"


@pytest.fixture
def till(ask: Any):
    """An observed pipeline."""
    return ask.observed_pipeline()


@pytest.fixture
def camera(ask: Any, till: Any):
    """A device that runs it."""
    return ask.joined("camera-1", till)


@pytest.fixture
def pv(till: Any):
    return till["versions"][0]["id"]


def kept(hub: Any) -> dict[str, list[Any]]:
    """Everything that devices sent."""
    with hub.database.reading() as connection:
        return {
            one.name: sorted(map(repr, connection.execute(select(one))))
            for one in (records, windows, summaries, rows, undated, complete)
        }


def stored(hub: Any, till: Any, device: Any = "camera-1"):
    return hub.telemetry.windows(till["id"], device, FIELD, START_S - 3600, START_S + 3600)


def test_a_window_that_was_sent_is_in_the_store_when_it_is_acknowledged(hub: Any, till: Any, camera: Any, pv: str):
    reply = camera.send(camera.counted(pv, START_S, {FIELD: [0.5, 0.25, None]}))
    assert (reply.acknowledged, reply.refused) == (1, {})
    (window,) = stored(hub, till)
    summary = decode(window.summary, window.grid_id)
    assert (window.start_s, window.inferences, summary.count, summary.missing) == (START_S, 3, 3, 1)
    assert (summary.min, summary.max) == (0.25, 0.5)


def test_a_batch_that_comes_again_changes_nothing(hub: Any, till: Any, camera: Any, pv: str):
    batch = [
        camera.counted(pv, START_S, {FIELD: [1.0]}),
        camera.rows(pv, START_S, {FIELD: [1.0]}),
        camera.record("event", wire.encode_event("dropped", START_S * NS_PER_S, rows=3)),
        camera.counted("foreign", START_S, {FIELD: [1.0]}),
    ]
    camera.send(*batch)
    before = kept(hub), list(hub.telemetry.events("camera-1"))
    again = camera.send(*batch)
    assert kept(hub) == before[0]
    assert again.acknowledged == 4
    assert len(stored(hub, till)) == 1
    assert hub.telemetry.rows_count(till["id"]) == 1
    assert list(hub.telemetry.events("camera-1")) == before[1]
    (device,) = camera.api.get("/devices")["items"]
    assert device["dropped"] == {"rows": 3, "refused": 1}


def test_batches_that_wait_at_the_same_time_are_committed_together_and_answered_each_by_itself(
    hub: Any, till: Any, ask: Any, pv: str
):
    names = ["camera-1", "camera-2", "camera-3"]
    first, second, third = cameras = [ask.joined(name, till) for name in names]

    def window(camera: Any, value: float, start_s: int = START_S) -> bytes:
        return camera.batch([camera.counted(pv, start_s, {FIELD: [value]})])

    def until(holds: Callable[[], bool], *, waiting: int) -> None:
        deadline = time.monotonic() + 30
        while not (holds() and len(hub.batches._waiting) == waiting):
            assert time.monotonic() < deadline
            time.sleep(0.002)

    asked: list[tuple[Any, bytes, dict[str, Any]]] = [
        (first, window(first, 1.0), {}),
        (first, window(first, 2.0, START_S + 60), {}),  # the second of one device sees what became of the first
        (second, window(second, 3.0), {}),
        (second, window(second, 4.0), {"key": b"another"}),
        (third, b"no batch", {}),
        (third, third.batch([third.counted("foreign", START_S, {FIELD: [5.0]})]), {}),
    ]
    with ThreadPoolExecutor(len(asked) + 1) as pool, hub.database.writing():
        held = pool.submit(first.post, window(first, 0.0, START_S - 60))
        until(lambda: hub.batches._going is not None, waiting=0)
        coming: list[Future[httpx2.Response]] = []
        for camera, body, facts in asked:
            coming.append(pool.submit(camera.post, body, **facts))
            until(lambda: True, waiting=len(coming))
    replies = [one.result() for one in (held, *coming)]
    assert [one.status_code for one in replies] == [200, 200, 200, 200, 403, 400, 200]
    assert [len(stored(hub, till, camera.name)) for camera in cameras] == [3, 1, 0]
    assert "never given" in wire.decode_reply(replies[-1].content).refused["1"]
    counted = hub.figures.registry.get_sample_value
    assert [counted(f"driftline_commit_batches_{what}") for what in ("count", "sum")] == [3, 1 + 3 + 1]


def test_windows_that_had_to_go_are_told_of_for_an_hour_and_rows_are_not(ask: Any, pv: str, camera: Any):
    camera.send(camera.record("event", wire.encode_event("dropped", START_S * NS_PER_S, counts={"rows": 9})))
    assert "dropping" not in ask.get("/devices/camera-1")["states"]
    camera.send(camera.record("event", wire.encode_event("dropped", START_S * NS_PER_S, counts={"window": 2})))
    assert "dropping" in ask.get("/devices/camera-1")["states"]


def test_late_values_of_a_window_are_one_more_record_of_it(hub: Any, till: Any, camera: Any, pv: str):
    camera.send(camera.counted(pv, START_S, {FIELD: [1.0]}))
    camera.send(camera.counted(pv, START_S, {FIELD: [2.0]}))
    assert [decode(one.summary, one.grid_id).max for one in stored(hub, till)] == [1.0, 2.0]


def test_another_record_under_a_number_that_was_used_is_a_conflict_and_the_rest_is_taken(
    hub: Any, till: Any, camera: Any, pv: str
):
    first = camera.counted(pv, START_S, {FIELD: [1.0]})
    camera.send(first)
    other = camera.counted(pv, START_S, {FIELD: [2.0]})._replace(sequence=first.sequence)
    reply = camera.send(other, camera.counted(pv, START_S + 60, {FIELD: [3.0]}))
    assert (reply.conflicts, reply.refused, reply.acknowledged) == ((1,), {}, 3)
    assert [decode(one.summary, one.grid_id).max for one in stored(hub, till)] == [1.0, 3.0]
    (event,) = hub.telemetry.events("camera-1", "identity_conflict")
    assert (event["first"], event["count"]) == (1, 1)


def test_a_new_epoch_begins_its_numbers_anew(hub: Any, till: Any, camera: Any, pv: str):
    record = camera.counted(pv, START_S, {FIELD: [1.0]})
    camera.send(record)
    camera.send(record, epoch="after-the-disk-was-replaced")
    assert len(stored(hub, till)) == 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda window: window._replace(pipeline="another"), "was never given to this device"),
        (lambda window: window._replace(start_s=START_S + 7), "aligned to the epoch"),
        (lambda window: window._replace(width_s=30), "windows are 60 s"),
        (lambda window: window._replace(inferences=0), "1 values of 0 inferences"),
        (lambda window: window._replace(fields=window.fields * 2), "twice"),
        (lambda window: window._replace(fields=(window.fields[0]._replace(key="brightness"),)), "begin with"),
        (lambda window: window._replace(fields=(window.fields[0]._replace(grid_id="ab" * 8),)), "never made a grid"),
    ],
)
@pytest.mark.parametrize("others", [1, 2 * TOGETHER_MIN])
def test_a_window_that_cannot_be_is_named_with_its_reason_and_the_rest_is_taken(
    hub: Any, till: Any, camera: Any, pv: str, spoil: Any, reason: str, others: int
):
    first, *good = [camera.counted(pv, START_S + 60 * i, {FIELD: [1.0]}) for i in range(1 + others)]
    camera.send(first)  # now the hub has looked up the grid
    window = wire.decode_window(first.data)
    bad = camera.record("window", wire.encode_window(spoil(window._replace(start_s=START_S - 60))))
    reply = camera.send(*good, bad)
    assert reply.acknowledged == bad.sequence
    assert list(reply.refused) == [str(bad.sequence)]
    assert reason in reply.refused[str(bad.sequence)]
    assert len(stored(hub, till)) == 1 + others
    assert reason in hub.telemetry.events("camera-1", "refused")[0]["reason"]


def spoiled_summary(**changes: Any):
    tally = Tally(UNIVERSAL)
    for value in (1.0, 2.0):
        tally.add(value)
    return encode(replace(tally.summary(), **changes))


@pytest.mark.parametrize(
    "summary",
    [
        spoiled_summary(sum=math.nan),
        spoiled_summary(min=math.nan),
        spoiled_summary(max=math.inf),
        spoiled_summary(count=1),
        spoiled_summary(min=5.0),
        spoiled_summary(sum=1e9),
        spoiled_summary()[:-1],
        b"",
        b"\x01\xff",
    ],
    ids=[
        "nan sum",
        "nan min",
        "infinite max",
        "counts do not add up",
        "min above max",
        "sum too large",
        "torn",
        "empty",
        "short",
    ],
)
@pytest.mark.parametrize("others", [1, 2 * TOGETHER_MIN])
def test_counts_that_no_values_can_have_given_are_refused(
    hub: Any, till: Any, camera: Any, pv: str, summary: Any, others: int
):
    first, *good = [camera.counted(pv, START_S + 60 * i, {FIELD: [1.0]}) for i in range(1 + others)]
    camera.send(first)
    field = wire.FieldSummary(FIELD, UNIVERSAL.id, summary)
    record = camera.record("window", wire.encode_window(wire.WindowRecord(pv, START_S, 60, 2, (field,))))
    assert list(camera.send(*good, record).refused) == [str(record.sequence)]
    assert len(stored(hub, till)) == 1 + others


def test_a_grid_that_a_restored_hub_forgot_comes_back_with_what_was_counted_on_it(
    camera: Any, pv: str, hub: Any, till: Any
):
    from driftline.hub import grids

    forgotten = Grid((0.0, 0.1, 1.0))
    counts = Tally(forgotten)
    counts.add(0.7)
    field = wire.FieldSummary(FIELD, forgotten.id, encode(counts.summary()))
    record = camera.record("window", wire.encode_window(wire.WindowRecord(pv, START_S, 60, 1, (field,))))
    reply = camera.send(record, grids={forgotten.id: [0.0, 0.1, 1.0]})
    assert reply.refused == {}
    (window,) = stored(hub, till)
    assert grids.edges(hub, window.grid_id) == forgotten
    assert decode(window.summary, window.grid_id).count == 1


def test_what_was_counted_on_a_grid_that_neither_hub_nor_device_knows_any_more_is_refused_and_counted(
    camera: Any, pv: str, hub: Any, till: Any, ask: Any
):
    from driftline.hub import fleet

    forgotten = Grid((0.0, 0.1, 1.0))
    counts = Tally(forgotten)
    counts.add(0.7)
    field = wire.FieldSummary(FIELD, forgotten.id, encode(counts.summary()))
    window = wire.encode_window(wire.WindowRecord(pv, START_S, 60, 1, (field,)))
    reply = camera.send(camera.record("window", window))  # its spool was deleted, and the edges with it
    assert (reply.acknowledged, list(reply.refused)) == (1, ["1"])
    assert fleet.device(hub, "camera-1").dropped == {"refused": 1}
    (told,) = hub.telemetry.events("camera-1", "refused", 2)
    assert forgotten.id in told["reason"]
    # A clone of the disk, as any device that still has them, brings them for all.
    other = ask.joined("camera-2", till)
    assert other.send(other.record("window", window), grids={forgotten.id: [0.0, 0.1, 1.0]}).refused == {}
    assert camera.send(camera.record("window", window)).refused == {}
    assert len(stored(hub, till)) == 1


@pytest.mark.parametrize("edges", [[0.0, 0.2, 1.0], [1.0, 0.0], [], "edges", None, [float("inf")], ["x"], 7])
def test_edges_that_are_not_those_of_the_grid_are_none(camera: Any, pv: str, edges: Any):
    counts = Tally(Grid((0.0, 0.1, 1.0)))
    counts.add(0.7)
    field = wire.FieldSummary(FIELD, Grid((0.0, 0.1, 1.0)).id, encode(counts.summary()))
    record = camera.record("window", wire.encode_window(wire.WindowRecord(pv, START_S, 60, 1, (field,))))
    assert "never made a grid" in camera.send(record, grids={field.grid_id: edges}).refused["1"]


def test_cells_beyond_the_end_of_a_grid_are_refused(camera: Any, pv: str, hub: Any, till: Any):
    from driftline.hub import grids

    small = Grid((0.0, 1.0))
    grids.set_baseline_grid(hub, till["id"], FIELD, small)
    wide = Tally(Grid(tuple(float(edge) for edge in range(100))))
    wide.add(90.0)
    field = wire.FieldSummary(FIELD, small.id, encode(wide.summary()))
    record = camera.record("window", wire.encode_window(wire.WindowRecord(pv, START_S, 60, 1, (field,))))
    assert "no values on grid" in camera.send(record).refused["1"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"type": "x"}',
        b"[]",
        b'{"type": "dropped", "at_ns": 1, "rows": -4}',
        b'{"type": "x", "at_ns": 9223372036854775808}',
        b'{"type": "x", "at_ns": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["no time", "a list", "less than nothing", "beyond 64 bits", "too deep"],
)
def test_an_event_that_cannot_be_read_is_refused(camera: Any, data: Any):
    assert list(camera.send(camera.record("event", data)).refused) == ["1"]


def test_rows_outside_their_window_are_refused(camera: Any, pv: str):
    rows = wire.decode_rows(camera.rows(pv, START_S, {FIELD: [1.0]}).data)
    late = replace(rows, times_ns=[(START_S + 60) * NS_PER_S])
    reply = camera.send(camera.record("rows", wire.encode_rows(late)))
    assert "outside the window" in reply.refused["2"]


def test_a_head_with_a_number_beyond_all_bounds_is_refused_and_not_a_crash(camera: Any):
    head = json.dumps({"device": camera.id, "epoch": "e", "protocol": 1, "records": [[1e400, "event", 2]]}).encode()
    body = wire.BATCH_MAGIC + wire.varint(len(head)) + head + b"{}"
    reply = camera.post(gzip.compress(body))
    assert reply.status_code == 400, reply.text


@pytest.mark.parametrize("cut", [3, 40, -9])
def test_a_torn_batch_is_refused_whole(hub: Any, till: Any, camera: Any, pv: str, cut: Any):
    body = camera.batch([camera.counted(pv, START_S, {FIELD: [1.0]})])
    reply = camera.post(body[:cut])
    assert reply.status_code == 400
    assert "torn" in reply.json()["error"]["message"] or "gzip" in reply.json()["error"]["message"]
    assert stored(hub, till) == []


def test_a_batch_that_inflates_beyond_bounds_is_refused(camera: Any):
    reply = camera.post(gzip.compress(bytes(wire.BATCH_BYTES_MAX + 1), 9))
    assert reply.status_code == 400
    assert "inflates" in reply.json()["error"]["message"]


def test_records_out_of_order_are_refused_whole(camera: Any, pv: str):
    first, second = (camera.counted(pv, START_S, {FIELD: [1.0]}) for _ in range(2))
    assert camera.post(camera.batch([second, first])).status_code == 400


def test_the_hub_knows_up_to_where_a_device_has_told_everything(hub: Any, ask: Any, till: Any, camera: Any, pv: str):
    until_ns = (START_S + 60) * NS_PER_S
    assert ask.get("/devices/camera-1")["complete_until_ns"] is None
    camera.send(camera.counted(pv, START_S, {FIELD: []}), complete_until_ns={pv: until_ns, "foreign": until_ns})
    assert hub.telemetry.complete_until_ns(till["id"], "camera-1") == until_ns
    assert ask.get("/devices/camera-1")["complete_until_ns"] == until_ns


def minutes_ns(minutes: int) -> int:
    return (START_S + 60 * minutes) * NS_PER_S


def test_what_still_waits_while_the_newest_comes_first_is_not_taken_for_told(
    hub: Any, ask: Any, till: Any, camera: Any, pv: str
):
    camera.send(camera.counted(pv, START_S, {FIELD: []}), complete_until_ns={pv: minutes_ns(1)})
    newest = camera.counted(pv, START_S + 540, {FIELD: []})
    camera.send(newest, complete_until_ns={pv: minutes_ns(10)}, complete_from_ns={pv: minutes_ns(9)})
    heard = hub.telemetry.heard(till["id"], "camera-1")
    assert [heard.has(minutes_ns(at), minutes_ns(at + 1)) for at in (0, 1, 8, 9, 10)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert ask.get("/devices/camera-1")["complete_until_ns"] == minutes_ns(1)
    camera.send(complete_until_ns={pv: minutes_ns(10)})
    assert hub.telemetry.complete_until_ns(till["id"], "camera-1") == minutes_ns(10)


def test_what_still_waits_of_an_older_version_is_not_told_because_the_newer_one_is(
    hub: Any, ask: Any, till: Any, camera: Any, pv: str
):
    camera.send(complete_until_ns={pv: minutes_ns(1)})
    ask.post(f"/workspaces/{till['workspace']}/pipelines", {"name": till["name"], "steps": []})
    publish = ask.post(f"/pipelines/{till['id']}/publish")
    ask.post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})
    newer = publish["version"]
    until_ns = {pv: minutes_ns(5), newer: minutes_ns(10)}
    camera.send(complete_until_ns=until_ns, complete_from_ns={pv: minutes_ns(5), newer: minutes_ns(7)})
    heard = hub.telemetry.heard(till["id"], "camera-1")
    assert (heard.until_ns, heard.since_ns, heard.ahead_ns) == (minutes_ns(1), minutes_ns(7), minutes_ns(10))
    camera.send(complete_until_ns=until_ns, complete_from_ns={pv: minutes_ns(4), newer: minutes_ns(5)})
    assert hub.telemetry.heard(till["id"], "camera-1").since_ns == minutes_ns(5)


@pytest.mark.parametrize(
    "head", [{"previous": -1}, {"previous": "x"}, {"newest_epoch": "\n"}, {"complete_from_ns": []}]
)
def test_a_head_that_cannot_be_is_refused_whole(camera: Any, head: dict[str, Any]):
    document = {"device": camera.id, "epoch": "e", "protocol": 1, "records": []} | head
    encoded = json.dumps(document).encode()
    reply = camera.post(gzip.compress(wire.BATCH_MAGIC + wire.varint(len(encoded)) + encoded))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid")


def test_a_device_from_the_future_is_not_believed_to_have_told_everything(hub: Any, till: Any, camera: Any, pv: str):
    camera.send(complete_until_ns={pv: hub.now_ns() + 2 * 86_400 * NS_PER_S})
    assert hub.telemetry.complete_until_ns(till["id"], "camera-1") is None


def test_every_ingest_wakes_the_scorer(hub: Any, camera: Any):
    hub.wake.clear()
    camera.send()
    assert hub.wake.is_set()


def test_late_records_of_an_old_version_are_still_the_devices_own(hub: Any, ask: Any, till: Any, camera: Any, pv: str):
    ask.post(f"/workspaces/{till['workspace']}/pipelines", {"name": till["name"], "steps": []})
    publish = ask.post(f"/pipelines/{till['id']}/publish")
    assert ask.post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})["token"] is None
    reply = camera.send(camera.counted(pv, START_S, {FIELD: [1.0]}))
    assert reply.refused == {}
    assert reply.desired is not None
    assert reply.desired.pipelines[0].id == publish["version"] != pv


def test_bytes_that_are_no_text_in_what_a_device_tells_spoil_no_page(hub: Any, ask: Any, camera: Any):
    torn = b"caf\xe9.mp4".decode(errors="surrogateescape")
    event = camera.record("event", wire.encode_event(torn, START_S * NS_PER_S, **{torn: torn}))
    assert camera.send(event, sources={torn: "ok"}, software=torn, serving=torn).refused == {}
    assert ask.get("/devices/camera-1")["sources"] == {"caf?.mp4": "ok"}
    assert "caf?.mp4" in httpx2.get(hub.url + "/devices/camera-1", trust_env=False).text
    assert camera.post(camera.batch([], epoch=torn)).status_code == 400


def full(hub: Any):
    """Let the database grow no further, as on a full disk; returns what makes room again."""
    with hub.database.writing() as connection:
        engine = connection.engine

    def limit(connection: Any, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(engine, "connect", limit)
    engine.dispose()

    def room() -> None:
        event.remove(engine, "connect", limit)
        engine.dispose()

    return room


@pytest.mark.store("sqlite")  # a server cannot be told to grow no further
def test_on_a_full_disk_a_batch_is_refused_whole_for_now_and_taken_when_there_is_room(
    hub: Any, till: Any, camera: Any, pv: str
):
    camera.send()
    room = full(hub)
    body = camera.batch([camera.counted(pv, START_S + 60 * i, {FIELD: [float(i)] * 3}) for i in range(400)])
    reply = camera.post(body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "temporary")
    assert "the disk is full. Make room" in reply.json()["error"]["message"]
    assert stored(hub, till) == []
    room()
    assert camera.post(body).status_code == 200
    assert hub.telemetry.inferences(till["id"], "camera-1", START_S, START_S + 60 * 400) == 1200


# ── records of clocks that were wrong ────────────────────────────────────────────────────────────────────────────

DAY_S = 86_400


def test_windows_and_rows_are_put_where_they_belong_in_time(hub: Any, till: Any, camera: Any, pv: str):
    made_s = START_S - DAY_S  # by a clock a day behind
    window, rows = camera.counted(pv, made_s, {FIELD: [1.0]}), camera.rows(pv, made_s, {FIELD: [1.0, None]})
    event = camera.record("event", wire.encode_event("camera_lost", made_s * NS_PER_S))
    reply = camera.send(*(one._replace(moved_s=DAY_S) for one in (window, rows, event)))
    assert (reply.acknowledged, reply.refused) == (3, {})
    assert [one.start_s for one in stored(hub, till)] == [START_S]
    told = hub.telemetry.rows(till["id"], "camera-1", FIELD, START_S * NS_PER_S, (START_S + 60) * NS_PER_S)
    assert [one // NS_PER_S for one in told.times_ns] == [START_S + 20, START_S + 40]
    assert told.values[0] == 1.0
    assert math.isnan(told.values[1])
    assert hub.telemetry.events("camera-1")[0]["at_ns"] == START_S * NS_PER_S


def test_a_record_that_comes_again_with_another_estimate_of_its_time_is_the_same(
    hub: Any, till: Any, camera: Any, pv: str
):
    window = camera.counted(pv, START_S, {FIELD: [1.0]})
    camera.send(window._replace(moved_s=60))
    reply = camera.send(window._replace(moved_s=120))
    assert (reply.acknowledged, reply.refused, list(reply.conflicts)) == (1, {}, [])
    assert [one.start_s for one in stored(hub, till)] == [START_S + 60]


@pytest.mark.parametrize(
    ("start_s", "moved_s", "why"),
    [
        (START_S, None, "nothing vouches for its clock"),
        (60, None, "nothing vouches for its clock"),
        (60, 0, "before 2020"),
        (START_S, -DAY_S * 366 * 10, "before 2020"),
        (60 * 10**9, 0, "more than a day ahead"),
        (60 * 10**16, 0, "more than a day ahead"),
    ],
)
def test_what_nobody_knows_the_time_of_is_kept_marked_and_never_scored(
    hub: Any, ask: Any, till: Any, camera: Any, pv: str, start_s: int, moved_s: int | None, why: str
):
    good, *made = (camera.counted(pv, one_s, {FIELD: [1.0]}) for one_s in (START_S, start_s, start_s + 60))
    records = [one._replace(moved_s=moved_s) for one in made]
    reply = camera.send(good, *records)
    assert (reply.acknowledged, reply.refused) == (3, {})
    assert [one.inferences for one in stored(hub, till)] == [1]
    ((reason, count),) = ask.get("/devices/camera-1")["undated"].items()
    assert (why in reason, count) == (True, 2)
    assert [one["records"] for one in hub.telemetry.events("camera-1", "undated")] == [2]
    assert why in httpx2.get(hub.url + "/devices/camera-1", trust_env=False).text
    camera.send(*records)  # the reply was lost
    assert ask.get("/devices/camera-1")["undated"] == {reason: 2}
    with hub.database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT kind, payload FROM undated ORDER BY id").all()
    assert [(kind, zlib.decompress(data)) for kind, data in kept] == [("window", one.data) for one in made]


def test_rows_of_unknown_time_are_kept_beside_their_windows(ask: Any, hub: Any, till: Any, camera: Any, pv: str):
    camera.send(camera.rows(pv, 60, {FIELD: [1.0]})._replace(moved_s=None))
    assert list(ask.get("/devices/camera-1")["undated"].values()) == [1]
    assert hub.telemetry.rows_count(till["id"]) == 0


def test_an_event_of_unknown_time_is_told_when_it_was_heard_of(hub: Any, camera: Any):
    event = camera.record("event", wire.encode_event("camera_lost", 5))
    camera.send(event._replace(moved_s=None))
    (told,) = hub.telemetry.events("camera-1")
    assert (abs(told["at_ns"] - hub.now_ns()) < 60 * NS_PER_S, told["by_its_clock_ns"]) == (True, 5)


def test_a_window_is_moved_by_whole_windows_or_not_at_all(camera: Any, pv: str):
    moved = camera.counted(pv, START_S, {FIELD: [1.0]})._replace(moved_s=7)
    assert "moved by 7 s" in camera.send(moved).refused["1"]


def test_a_hub_whose_own_clock_was_never_set_takes_nothing_and_loses_nothing(serve_hub: Any, ask_at: Any):
    clock = ManualClock(START_S * NS_PER_S)
    ask = ask_at(serve_hub(clock))
    till = ask.observed_pipeline()
    camera = ask.joined("camera-1", till)
    clock.set(5 * NS_PER_S)
    body = camera.batch([camera.counted(till["versions"][0]["id"], START_S, {FIELD: [1.0]})])
    answer = camera.post(body)
    assert (answer.status_code, "clock shows 1970" in answer.text) == (503, True)
    clock.set((START_S + 60) * NS_PER_S)
    assert camera.post(body).status_code == 200


def test_in_fast_time_nothing_is_moved(serve_hub: Any, ask_at: Any):
    hub = serve_hub(FastClock(START_S * NS_PER_S, 110, time.time_ns()))
    ask = ask_at(hub)
    till = ask.observed_pipeline()
    camera = ask.joined("camera-1", till)
    version = till["versions"][0]["id"]
    camera.send(
        camera.counted(version, START_S, {FIELD: [1.0]})._replace(moved_s=600),
        clock={"offset_ns": 10**18, "error_ns": 0},
    )
    assert [one.start_s for one in stored(hub, till)] == [START_S]
    assert ask.get("/devices/camera-1")["clock_ahead_s"] is None


def test_what_a_device_knows_of_its_clock_stays_until_it_knows_more(ask: Any, camera: Any):
    camera.send(clock={"offset_ns": 90 * NS_PER_S, "error_ns": NS_PER_S})
    camera.send()  # it was restarted, and has not timed an answer yet
    told = ask.get("/devices/camera-1")
    assert (told["clock_ahead_s"], told["clock_error_s"]) == (-90.0, 1.0)
    camera.send(clock={"offset_ns": 1e400, "error_ns": "x"})
    assert ask.get("/devices/camera-1")["clock_ahead_s"] == -90.0
