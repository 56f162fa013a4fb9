"""Inferences asked of the hub, answered by a worker that this test plays: it doubles x and counts the boxes."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from driftline.clock import NS_PER_S
from driftline.hub import infer
from driftline.hub.store.registry import versions
from driftline.pipeline.definition import make_definition
from driftline.wire.arrays import ARRAYS, pack_arrays, unpack_arrays

INPUTS = [
    {"name": "x", "type": "float32", "shape": []},
    {"name": "tensor", "type": "float64", "shape": [2, 3]},
    {"name": "boxes", "type": "int64", "shape": [None, 4]},
]
OUTPUTS = [
    {"name": "double", "type": "float32", "shape": []},
    {"name": "sums", "type": "float64", "shape": [3]},
    {"name": "boxes_seen", "type": "int64", "shape": []},
    {"name": "firsts", "type": "int64", "shape": [None]},
]


class Worker(BaseHTTPRequestHandler):
    """Answers as a device's worker does."""

    asked: list

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        arrays = unpack_arrays(body)
        self.asked.append((self.path, self.headers["Driftline-Time"], {name: len(one) for name, one in arrays.items()}))
        if (arrays["x"] < 0).any():
            reply, status, kind = b'{"error": {"code": "invalid", "message": "x is below 0"}}', 400, "application/json"
        else:
            firsts = np.empty(len(arrays["x"]), dtype=object)
            for at, boxes in enumerate(arrays["boxes"]):
                firsts[at] = boxes[:, 0].copy()
            answer = {
                "double": arrays["x"] * 2,
                "sums": arrays["tensor"].sum(axis=1),
                "boxes_seen": np.array([len(one) for one in arrays["boxes"]]),
                "firsts": firsts,
                "avg_extra": np.ones(len(arrays["x"])),
            }
            reply, status, kind = pack_arrays(answer), 200, ARRAYS
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any):
        pass


@pytest.fixture
def worker():
    handler = type("Handler", (Worker,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = handler.asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def pipeline(hub: Any, ask: Any):
    """A pipeline whose model needs no file, because the test is its worker."""
    made = ask.observed_pipeline("doubling")
    step = {
        "model": str(uuid4()),
        "name": "double",
        "framework": "custom",
        "digest": "00" * 32,
        "input_schema": INPUTS,
        "output_schema": OUTPUTS,
    }
    with hub.database.writing() as connection:
        connection.execute(versions.update().values(definition=make_definition("doubling", [step])))
    return made


@pytest.fixture
def running(ask: Any, pipeline: Any, local: Any, worker: Any):
    pv = ask.post(f"/pipelines/{pipeline['id']}/deploy")["versions"][0]["id"]
    local.send(pipelines={pv: "running"}, serving=f"http://127.0.0.1:{worker.server_address[1]}")
    return pipeline


def table(rows: Any = 3, **changes: Any):
    return pa.table(
        {
            "x": pa.array(np.arange(rows), pa.float64()),
            "tensor": pa.array([[[float(at)] * 3] * 2 for at in range(rows)], pa.list_(pa.list_(pa.float64(), 3), 2)),
            "boxes": pa.array([[[at, 0, 0, 0]] * at for at in range(rows)], pa.list_(pa.list_(pa.int64(), 4))),
        }
        | changes
    )


def ipc(given: Any):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as stream:
        stream.write_table(given)
    return sink.getvalue().to_pybytes()


def asked(ask: Any, pipeline: Any, given: Any):
    reply = ask.http.post(f"/pipelines/{pipeline['id']}/infer", content=ipc(given))
    assert reply.status_code == 200, reply.text
    return pa.ipc.open_stream(reply.content).read_all()


def refusal(ask: Any, pipeline: Any, content: Any):
    reply = ask.http.post(f"/pipelines/{pipeline['id']}/infer", content=content)
    return reply.status_code, reply.json()["error"]["message"]


def test_every_row_comes_back_with_its_outputs(hub: Any, ask: Any, running: Any, worker: Any):
    answer = asked(ask, running, table())
    names = ["x", "tensor", "boxes"], ["double", "sums", "boxes_seen", "firsts", "avg_extra"]
    expected = ["time", *(f"in.{name}" for name in names[0]), *(f"out.{name}" for name in names[1]), "anomaly.count"]
    assert answer.column_names == expected
    assert answer.schema.field("out.double").type == pa.float32()
    assert answer.schema.field("out.sums").type == pa.list_(pa.float64())
    assert answer.column("in.x").to_pylist() == [0.0, 1.0, 2.0]
    assert answer.column("out.double").to_pylist() == [0.0, 2.0, 4.0]
    assert answer.column("out.sums").to_pylist() == [[0.0] * 3, [2.0] * 3, [4.0] * 3]
    assert answer.column("out.boxes_seen").to_pylist() == [0, 1, 2]
    assert answer.column("out.firsts").to_pylist() == [[], [1], [2, 2]]
    assert answer.column("anomaly.count").to_pylist() == [0, 0, 0]
    times = answer.column("time").cast(pa.int64()).to_pylist()
    assert 0 <= hub.now_ns() - times[0] < 60 * NS_PER_S
    ((path, time_ns, sizes),) = worker.asked
    assert (path, int(time_ns), sizes["boxes"]) == ("/pipelines/doubling/infer", times[0], 3)


def test_a_long_table_goes_in_pieces_and_comes_back_whole(ask: Any, running: Any, worker: Any):
    answer = asked(ask, running, table(600))
    assert answer.column("out.double").to_pylist() == [2.0 * at for at in range(600)]
    assert [sizes["x"] for _, _, sizes in worker.asked] == [256, 256, 88]


def test_an_empty_table_comes_back_empty_with_its_columns(ask: Any, running: Any, worker: Any):
    answer = asked(ask, running, table(0))
    assert answer.num_rows == 0
    assert "out.firsts" in answer.column_names
    assert worker.asked == []


def test_columns_may_be_named_as_the_log_names_them(ask: Any, running: Any):
    given = table()
    assert asked(ask, running, given.rename_columns([f"in.{name}" for name in given.column_names])).num_rows == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda: table().drop_columns(["tensor"]),
            "no column 'tensor'; the pipeline takes x float32, tensor float64[2,3]",
        ),
        (lambda: table(x=pa.array(["a", "b", "c"])), "not numbers"),
        (lambda: table(tensor=pa.array([[[1.0]], [[1.0]], [[1.0]]])), "does not hold tensor float64[2,3]"),
        (lambda: table(boxes=pa.array([[[1, 2]], [], []])), "has shape (1, 2)"),
        (lambda: table(boxes=pa.array([[[0.5] * 4], [], []])), "fractions"),
        (lambda: table(boxes=pa.array([[[1] * 4], None, []])), "it is None"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_runs(
    ask: Any, running: Any, worker: Any, given: Any, words: str
):
    status, message = refusal(ask, running, ipc(given()))
    assert status == 400
    assert words in message
    assert worker.asked == []


def test_a_body_that_is_not_arrow_is_refused(ask: Any, running: Any):
    for content in (b"", b"not arrow", ipc(table())[:200]):
        status, message = refusal(ask, running, content)
        assert (status, "Arrow" in message) == (400, True)


def test_what_the_worker_refuses_is_said_in_its_words(ask: Any, running: Any):
    assert refusal(ask, running, ipc(table(x=pa.array([-1.0, 0.0, 0.0])))) == (400, "x is below 0")


def test_a_pipeline_that_is_not_deployed_says_what_to_call(ask: Any, pipeline: Any):
    status, message = refusal(ask, pipeline, ipc(table()))
    assert status == 400
    assert "call deploy() first" in message


def test_one_that_is_still_starting_is_waited_for(ask: Any, pipeline: Any, local: Any, worker: Any):
    pv = ask.post(f"/pipelines/{pipeline['id']}/deploy")["versions"][0]["id"]
    local.send(pipelines={pv: "starting"})
    ready = {"pipelines": {pv: "running"}, "serving": f"http://127.0.0.1:{worker.server_address[1]}"}
    later = threading.Timer(0.3, lambda: local.send(**ready))
    later.start()
    assert asked(ask, pipeline, table()).num_rows == 3
    later.join()


def test_one_that_does_not_get_ready_says_how_it_is(
    ask: Any, pipeline: Any, local: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(infer, "RUNNING_TIMEOUT_S", 0.2)
    pv = ask.post(f"/pipelines/{pipeline['id']}/deploy")["versions"][0]["id"]
    assert refusal(ask, pipeline, ipc(table())) == (
        503,
        "pipeline 'doubling' is not running yet (starting); try again, pipeline.status() says how it fares",
    )
    local.send(pipelines={pv: "error: no memory"})
    assert refusal(ask, pipeline, ipc(table()))[1] == "pipeline 'doubling' does not run: error: no memory"


def test_a_worker_that_is_gone_is_said(ask: Any, running: Any, worker: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(infer, "RUNNING_TIMEOUT_S", 0.2)
    worker.shutdown()
    worker.server_close()
    status, message = refusal(ask, running, ipc(table()))
    assert status == 503
    assert "does not answer at" in message


def test_an_observed_pipeline_has_nothing_to_infer_with(ask: Any):
    till = ask.observed_pipeline()
    assert "driftline.observe" in refusal(ask, till, ipc(table()))[1]
