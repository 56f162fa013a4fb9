import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from driftline.clock import NS_PER_S, ManualClock
from driftline.edge.limits import Held
from driftline.edge.lineup import Lineup, Member, ReplacedError, limits_in_words, sidecar_limits, takes_frame
from driftline.edge.recorder import Recorder
from driftline.errors import EntityNotFoundError, InvalidInputError, TemporaryError
from driftline.pipeline.definition import make_definition
from driftline.pipeline.run import Pipeline
from driftline.wire.device import BundleFile, Desired, DesiredPipeline, WindowRecord, decode_window

START_NS = 1_767_261_600 * NS_PER_S
TIMEOUT_S = 20.0


def model(operator: str = "Neg") -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [x], [y])
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(built.SerializeToString())


class Bench:
    """A line-up whose clocks move when told to, and what it delivered."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock(START_NS)
        self.real_s = 0.0
        self.delivered: list[tuple[str, bytes]] = []
        self.files: dict[str, Path] = {}
        self._path = path
        self._done = threading.Event()
        self.lineup = Lineup(
            lambda kind, data, _stamp: self.delivered.append((kind, data)),
            self.clock,
            path / "work",
            begins=lambda _, now_ns: now_ns,
            ends=lambda _, now_ns: now_ns,
            woken=self._done.set,
            real_s=lambda: self.real_s,
        )

    def pipeline(
        self, version: str, name: str = "negative", content: bytes | None = None, **more: Any
    ) -> DesiredPipeline:
        content = content or model()
        digest = hashlib.sha256(content).hexdigest()
        self.files[digest] = self._path / digest
        self.files[digest].write_bytes(content)
        step = {
            "model": "m",
            "name": name,
            "framework": "onnx",
            "digest": digest,
            "input_schema": [{"name": "x", "type": "float32", "shape": [1]}],
            "output_schema": [{"name": "y", "type": "float32", "shape": [1]}],
        }
        return DesiredPipeline(version, name, make_definition(name, [step]), {"m": BundleFile(digest, 1)}, **more)

    def want(self, *pipelines: DesiredPipeline) -> None:
        self.lineup.want(Desired(pipelines), self.files, {})
        self.lineup.tick()

    def settle(self) -> None:
        """Let what is starting start or fail, and take over."""
        assert self._done.wait(TIMEOUT_S)
        self._done.clear()
        self.lineup.tick()

    def windows(self) -> list[WindowRecord]:
        return [decode_window(data) for kind, data in self.delivered if kind == "window"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_desired_runs_and_counts(bench: Bench):
    bench.want(bench.pipeline("v1"))
    assert bench.lineup.states() == {"v1": "starting"}
    with pytest.raises(TemporaryError, match="does not run yet: starting"):
        bench.lineup.running("negative")
    bench.settle()
    assert bench.lineup.states() == {"v1": "running"}
    time_ns, outputs = bench.lineup.running().infer({"x": [3.0]})
    assert (time_ns, outputs["y"].tolist()) == (START_NS, [-3.0])
    bench.clock.advance(60)
    bench.lineup.close_windows(lambda _, now_ns: now_ns)
    assert [(one.start_s, one.inferences) for one in bench.windows()] == [(START_NS // NS_PER_S, 1)]
    assert bench.lineup.complete_until_ns() == {"v1": START_NS + 60 * NS_PER_S}


def test_a_version_that_fails_is_tried_again_with_growing_pauses_and_at_once_when_something_changed(bench: Bench):
    broken = bench.pipeline("v1", content=b"no graph")
    bench.want(broken)
    bench.settle()
    tries: list[float] = []
    for _ in range(40):
        bench.real_s += 0.5
        bench.lineup.tick()
        if bench.lineup._starts:
            tries.append(bench.real_s)
            bench.settle()
    assert tries == [1.0, 3.0, 7.0, 15.0]
    assert bench.lineup.states()["v1"].startswith("error: ")
    bench.want(replace(broken, rows_max=5))
    assert bench.lineup._starts


def test_another_version_takes_over_and_the_old_one_hands_over_what_it_counted(bench: Bench):
    bench.want(bench.pipeline("v1"))
    bench.settle()
    old = bench.lineup.running()
    old.infer({"x": [1.0]})
    bench.want(bench.pipeline("v2", content=model("Abs")))
    assert bench.lineup.running() is old
    bench.settle()
    assert bench.lineup.running().wanted.id == "v2"
    assert list(bench.lineup.states()) == ["v2"]
    assert [(one.pipeline, one.inferences) for one in bench.windows()] == [("v1", 1)]
    with pytest.raises(ReplacedError):
        old.infer({"x": [1.0]})


def test_undeploying_stops_a_pipeline_and_leaves_the_others(bench: Bench):
    one, other = bench.pipeline("v1"), bench.pipeline("w1", name="other")
    bench.want(one, other)
    bench.settle()
    while len(bench.lineup.members) < 2:
        bench.settle()
    with pytest.raises(InvalidInputError, match="several pipelines run here: negative, other"):
        bench.lineup.running()
    bench.want(other)
    assert list(bench.lineup.members) == ["w1"]
    assert bench.lineup.running().wanted.name == "other"
    bench.want()
    with pytest.raises(EntityNotFoundError, match="no pipeline is deployed"):
        bench.lineup.running()


def test_new_fields_and_grids_change_nothing_that_runs_and_new_limits_make_it_anew(bench: Bench):
    one = bench.pipeline("v1")
    bench.want(one)
    bench.settle()
    member = bench.lineup.running()
    before = member._pipeline
    bench.want(replace(one, extra_fields=("in.x.0",)))
    assert not bench.lineup._starts
    bench.want(replace(one, limits={"cpus": 1.0}))
    bench.settle()
    assert bench.lineup.running() is member
    assert member._pipeline is not before
    assert member.infer({"x": [2.0]})[1]["y"].tolist() == [-2.0]


class Gate:
    """A pipeline that holds every inference until it is let through."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.fails = False

    def infer(self, inputs: Any) -> dict[str, Any]:
        self.entered.set()
        assert self.open.wait(TIMEOUT_S)
        if self.fails:
            raise RuntimeError("the graph is unwell")
        return {"y": np.zeros(1, np.float32)}

    frame = infer

    def values(self, inputs: Any, outputs: Any) -> dict[str, float]:
        return {"out.y.0": 0.0}

    def log_values(self, inputs: Any, outputs: Any) -> dict[str, Any]:
        return {}

    def record_also(self, extra_fields: Any, projections: Any = None) -> None:
        pass

    def close(self) -> None:
        assert self.open.is_set(), "closed under the feet of an inference"


@pytest.fixture
def gated(bench: Bench) -> tuple[Gate, Member]:
    gate = Gate()
    wanted = bench.pipeline("v1")
    recorder = Recorder(lambda kind, data, _stamp: bench.delivered.append((kind, data)), bench.clock)
    member = Member(wanted, gate, recorder, bench.clock)  # pyright: ignore[reportArgumentType]
    member.configure(Desired((wanted,)), {})
    member.begin(START_NS)
    return gate, member


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_window_stays_open_while_an_inference_for_it_is_under_way(bench: Bench, gated: tuple[Gate, Member]):
    gate, member = gated
    thread = in_a_thread(lambda: member.infer({"x": [1.0]}))
    assert gate.entered.wait(TIMEOUT_S)
    bench.clock.advance(90)
    member.close_windows(bench.clock.now_ns())
    assert bench.windows() == []
    gate.open.set()
    thread.join(TIMEOUT_S)
    member.close_windows(bench.clock.now_ns())
    assert [one.inferences for one in bench.windows()] == [1]


def test_a_version_is_not_closed_under_the_feet_of_an_inference(bench: Bench, gated: tuple[Gate, Member]):
    gate, member = gated
    thread = in_a_thread(lambda: member.infer({"x": [1.0]}))
    assert gate.entered.wait(TIMEOUT_S)
    retiring = in_a_thread(lambda: member.retire(bench.clock.now_ns()))
    time.sleep(0.05)
    assert retiring.is_alive()
    gate.open.set()
    thread.join(TIMEOUT_S)
    retiring.join(TIMEOUT_S)
    assert [one.inferences for one in bench.windows()] == [1]


def test_a_frame_that_fails_is_counted_as_missing_and_shows_as_trouble_until_one_succeeds(
    bench: Bench, gated: tuple[Gate, Member]
):
    gate, member = gated
    member.wanted = replace(member.wanted, definition={**member.wanted.definition, "image": "x"})
    gate.open.set()
    gate.fails = True
    member.frame(START_NS, np.zeros((2, 2, 3), np.uint8))
    assert member.trouble == "error: the graph is unwell"
    gate.fails = False
    member.frame(START_NS + 1, np.zeros((2, 2, 3), np.uint8))
    assert member.trouble is None
    member.close_windows(START_NS + 60 * NS_PER_S)
    assert [one.inferences for one in bench.windows()] == [2]


def test_a_camera_is_for_pipelines_that_take_one_frame_and_nothing_else():
    frame = {"name": "image", "type": "uint8", "shape": [None, None, 3]}
    price = {"name": "price", "type": "float32", "shape": []}

    def definition(*inputs: Any) -> dict[str, Any]:
        step = {"model": "m", "name": "m", "framework": "custom", "digest": "", "output_schema": [price]}
        return make_definition("p", [step | {"input_schema": list(inputs)}])

    assert takes_frame(definition(frame))
    assert not takes_frame(definition(frame, price))
    assert not takes_frame(definition(price))
    assert not takes_frame(make_definition("own", []))


def test_pipeline_and_gate_speak_the_same_language():
    assert all(hasattr(Pipeline, name) for name in vars(Gate) if not name.startswith("_"))


def test_a_custom_step_has_its_own_limits_and_without_them_the_workers():
    field = {"name": "x", "type": "float32", "shape": [1]}
    step = {"model": "m", "name": "shelf", "framework": "custom", "digest": "", "input_schema": [field]}
    definition = make_definition("p", [step | {"output_schema": [field | {"name": "y"}]}])
    limits = {"cpus": 1.0, "memory_bytes": 2.0**30, "m.memory_bytes": 6.0 * 2**30}
    wanted = DesiredPipeline("1", "p", definition, limits=limits)

    assert sidecar_limits(wanted, held=False) == {"m": {"cpus": 1.0, "memory_bytes": 6.0 * 2**30}}
    # A control group already holds all processes together.
    assert sidecar_limits(wanted, held=True) == {"m": {"memory_bytes": 6.0 * 2**30}}
    said = limits_in_words(wanted, Held(cpus="cpus 1: cgroup v2 quota", memory="memory 1 GiB: cgroup v2", whole=True))
    assert said == (
        "cpus 1: cgroup v2 quota; memory 1 GiB: cgroup v2; "
        "process of shelf: memory 6144 MiB: limit on data (RLIMIT_DATA)"
    )
