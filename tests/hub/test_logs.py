"""The inference log as an Arrow table."""

from typing import Any

import pyarrow as pa
import pytest

from driftline.clock import NS_PER_S
from driftline.wire import device as wire

START_S = 1_767_261_600
FIELD = "out.brightness"


@pytest.fixture
def till(ask: Any):
    return ask.observed_pipeline()


@pytest.fixture
def camera(ask: Any, till: Any):
    return ask.joined("camera-1", till)


def log(ask: Any, till: Any, **query: Any):
    reply = ask.http.get(f"/pipelines/{till['id']}/logs", params=query)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/vnd.apache.arrow.stream"
    return pa.ipc.open_stream(reply.content).read_all()


@pytest.fixture
def three_windows(camera: Any, till: Any):
    pv = till["versions"][0]["id"]
    for minute in range(3):
        camera.send(camera.rows(pv, START_S + 60 * minute, {FIELD: [minute + 0.1, None, minute + 0.3]}))


def test_an_empty_log_has_no_rows_and_its_columns(ask: Any, till: Any):
    table = log(ask, till)
    assert table.num_rows == 0
    assert table.column_names == ["time", "anomaly.count", "device"]


@pytest.mark.usefixtures("three_windows")
def test_rows_come_in_time_order_with_their_device(ask: Any, till: Any):
    table = log(ask, till)
    assert table.column_names == ["time", FIELD, "anomaly.count", "device"]
    assert table.schema.field("time").type == pa.timestamp("ns", tz="UTC")
    assert table.column(FIELD).to_pylist() == [0.1, None, 0.3, 1.1, None, 1.3, 2.1, None, 2.3]
    assert set(table.column("device").to_pylist()) == {"camera-1"}
    times = table.column("time").cast(pa.int64()).to_pylist()
    assert times == sorted(times)
    assert times[0] == (START_S + 15) * NS_PER_S


@pytest.mark.usefixtures("three_windows")
def test_a_limit_keeps_the_newest(ask: Any, till: Any):
    assert log(ask, till, limit=4).column(FIELD).to_pylist() == [1.3, 2.1, None, 2.3]


@pytest.mark.usefixtures("three_windows")
def test_a_span_of_time_is_from_its_start_and_before_its_end(ask: Any, till: Any):
    span = {"start_ns": (START_S + 30) * NS_PER_S, "end_ns": (START_S + 75) * NS_PER_S}
    assert log(ask, till, **span).column(FIELD).to_pylist() == [None, 0.3]


@pytest.mark.usefixtures("three_windows")
def test_one_device_can_be_asked_for(ask: Any, till: Any):
    other = ask.joined("camera-2", till)
    other.send(other.rows(till["versions"][0]["id"], START_S, {FIELD: [7.0]}))
    assert log(ask, till, device="camera-2").column(FIELD).to_pylist() == [7.0]
    assert log(ask, till).num_rows == 10
    assert log(ask, till, device="nobody").num_rows == 0


def test_late_rows_of_a_window_come_in_their_place(ask: Any, till: Any, camera: Any):
    pv = till["versions"][0]["id"]
    camera.send(camera.rows(pv, START_S, {FIELD: [1.0, 3.0]}))
    camera.send(camera.rows(pv, START_S, {FIELD: [2.0]}))
    assert log(ask, till).column(FIELD).to_pylist() == [1.0, 2.0, 3.0]


def test_lists_texts_and_what_fits_no_type_are_shown_as_they_are(ask: Any, till: Any, camera: Any):
    rows = wire.RowsRecord(
        till["versions"][0]["id"],
        START_S,
        60,
        True,
        [START_S * NS_PER_S, (START_S + 1) * NS_PER_S],
        {
            "out.boxes": ("s", [[[1.0, 2.0]], []]),
            "out.label": ("s", ["tea", None]),
            "out.mixed": ("s", ["tea", [1]]),
            "in.count": ("q", [3, 4]),
        },
    )
    camera.send(camera.record("rows", wire.encode_rows(rows)))
    table = log(ask, till)
    assert table.column_names == ["time", "in.count", "out.boxes", "out.label", "out.mixed", "anomaly.count", "device"]
    assert table.column("out.boxes").to_pylist() == [[[1.0, 2.0]], []]
    assert table.column("out.label").to_pylist() == ["tea", None]
    assert table.column("out.mixed").to_pylist() == ['"tea"', "[1]"]
    assert table.column("in.count").to_pylist() == [3, 4]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=many", "limit=99999999999", "start_ns=-5", "end_ns=1.5"]
)
def test_a_question_that_cannot_be_is_refused(ask: Any, till: Any, query: Any):
    assert ask.refusal("GET", f"/pipelines/{till['id']}/logs?{query}")[:2] == (400, "invalid")
