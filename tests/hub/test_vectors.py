"""A vector watched as a whole, from the notebook over a device's real pipeline and recorder to the alarm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from driftline import Client, Fixed, Framework, Promise
from driftline.clock import NS_PER_S, ManualClock, parse_iso
from driftline.edge.lineup import Member
from driftline.edge.recorder import Recorder
from driftline.errors import InvalidInputError
from driftline.hub.scorer import Round
from driftline.pipeline.run import Pipeline
from driftline.wire.device import DesiredPipeline

START_NS = 1_767_261_600 * NS_PER_S
MINUTE_NS = 60 * NS_PER_S
SIZE, ROWS = 32, 40
IOPATH = "output embedding"


def embeddings(rng: Any, rows: int, *, turned: bool = False) -> Any:
    """Return vectors of variance 1; turned, every second element goes against the hidden cause."""
    sign = np.where(np.arange(SIZE) % 2, -1.0, 1.0) if turned else np.ones(SIZE)
    cause = rng.normal(size=(rows, 1)) * np.sqrt(0.6) * np.where(np.arange(SIZE) % 3, 1.0, -1.0) * sign
    return (cause + rng.normal(size=(rows, SIZE)) * np.sqrt(0.4)).astype(np.float32)


class Edge:
    """A device whose model passes its input on as an embedding, and the notebook that asks about it."""

    def __init__(self, hub: Any, clock: ManualClock, ask_at: Any, folder: Path) -> None:
        self.hub, self.clock, self.rng = hub, clock, np.random.default_rng(11)
        self.client = Client(hub.url)
        self.client.set_current_workspace(self.client.get_or_create_workspace("shop"))
        file = folder / "model.onnx"
        file.write_bytes(passes_on())
        model = self.client.upload_model(
            "encoder",
            file,
            framework=Framework.ONNX,
            input_schema=pa.schema([("tensor", pa.list_(pa.float32(), SIZE))]),
            output_schema=pa.schema([("embedding", pa.list_(pa.float32(), SIZE))]),
        )
        self.pipeline = self.client.build_pipeline("encode").add_model_step(model)
        self.pipeline.publish()
        self.device = ask_at(hub).joined("camera-1", {"id": str(self.pipeline.id)})
        self.records: list[Any] = []
        self.recorder = Recorder(lambda kind, data, _stamp: self.records.append((kind, data)), clock)
        self.device.send()
        wanted = self.wanted
        running = Pipeline(wanted.definition, dict.fromkeys(wanted.files, file))
        self.member = Member(wanted, running, self.recorder, clock)
        self.member.configure(self.device.desired, {})
        self.member.begin(clock.now_ns())

    @property
    def wanted(self) -> DesiredPipeline:
        (one,) = self.device.desired.pipelines
        return one

    def minutes(self, count: int, *, turned: bool = False) -> None:
        """Run whole minutes, tell the hub, and take what it wants by then."""
        for _ in range(count):
            begin_ns = self.clock.now_ns()
            for at, row in enumerate(embeddings(self.rng, ROWS, turned=turned)):
                self.member.infer({"tensor": row}, begin_ns + at * NS_PER_S)
            self.clock.advance(MINUTE_NS / NS_PER_S)
            self.recorder.close(self.clock.now_ns())
        made = [self.device.record(kind, data) for kind, data in self.records]
        self.records.clear()
        reply = self.device.send(*made, complete_until_ns=self.recorder.complete_until_ns)
        assert reply.refused == {}
        self.member.configure(self.device.desired, {})

    def builder(self, name: str = "joint", **facts: Any) -> Any:
        builder = self.client.build_assay(name, self.pipeline, "encoder", IOPATH, **facts)
        builder.window_builder().add_width(minutes=1)
        return builder


def passes_on() -> bytes:
    tensor = helper.make_tensor_value_info("tensor", TensorProto.FLOAT, [SIZE])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [SIZE])
    graph = helper.make_graph([helper.make_node("Identity", ["tensor"], ["embedding"])], "g", [tensor], [embedding])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.fixture
def edge(serve_hub: Callable[..., Any], ask_at: Any, tmp_path: Path) -> Any:
    clock = ManualClock(START_NS)
    return Edge(serve_hub(clock), clock, ask_at, tmp_path)


def test_joint_drift_of_an_embedding_alarms_and_quiet_windows_do_not(edge: Any):
    edge.minutes(1)
    usual = embeddings(edge.rng, 30 * ROWS)
    assay = edge.client.get_assay(edge.builder(baseline_data=usual, alarm=Promise("30 days")).upload())
    assert assay.fields == [f"out.embedding.projection.{at}" for at in range(16)] + ["out.embedding.norm"]
    assert "was not recorded as a whole so far" in assay.notes[0]
    edge.minutes(1)
    assert set(edge.wanted.projections) == {"out.embedding"}
    assert set(edge.wanted.grids) == set(assay.fields)
    first = edge.wanted.projections
    edge.minutes(10)
    turned_ns = edge.clock.now_ns()
    edge.minutes(5, turned=True)
    Round(edge.hub).run()

    frame = edge.client.get_assay_results(assay).to_dataframe()
    assert set(frame["alarm_at"].dropna()) == {17 * 30 * 24 * 60}
    turned = frame["start"].map(lambda start: parse_iso(start) >= turned_ns)
    assert "Alert" not in set(frame[~turned]["status"])
    assert "Alert" in set(frame[turned]["status"])
    (incident,) = [one for one in edge.client.list_incidents(is_open=True) if one.kind == "drift"]
    assert incident.device == "camera-1"

    # The log has rows of what is made of the vector, and they are those of the projection.
    log = edge.pipeline.logs(limit=5)
    assert set(assay.fields) <= set(log.columns)

    # What is recorded by now may be a baseline in time, and the projection stays what it was.
    times = {"baseline_start": "2026-01-01T10:03:00+00:00", "baseline_end": "2026-01-01T10:10:00+00:00"}
    later = edge.client.get_assay(edge.builder("later", alarm=Fixed(0.25), **times).upload())
    assert later.fields == assay.fields
    edge.minutes(1)
    assert edge.wanted.projections == first

    # A new baseline is of vectors, too.
    assert assay.set_baseline(data=usual).baseline_version == 2


def test_the_first_assay_on_a_vector_needs_values_and_a_preview_keeps_nothing(edge: Any):
    edge.minutes(2)
    start, end = "2026-01-01T10:00:00+00:00", "2026-01-01T10:02:00+00:00"
    with pytest.raises(
        InvalidInputError, match=r"out\.embedding is a vector of 32 .*\(baseline_data, an array of shape"
    ):
        edge.builder(baseline_start=start, baseline_end=end).upload()
    run = edge.builder(baseline_data=embeddings(edge.rng, 200)).build().interactive_run()
    assert "was not recorded as a whole so far" in run.notes[0]
    assert {one.status for one in run} == {"NoData"}
    edge.minutes(1)
    assert edge.wanted.projections == {}
    part = edge.client.build_assay("part", edge.pipeline, "encoder", "output embedding norm", [1.0, 1.1])
    with pytest.raises(InvalidInputError, match="watch 'output embedding' first"):
        part.upload()
