"""driftline.observe: a program of one's own counts on a device, with an agent, without, and over restarts."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftline.clock import ManualClock, SystemClock
from driftline.edge import agent as agent_module
from driftline.edge import observe as observe_module
from driftline.edge.agent import Agent
from driftline.edge.home import Home
from driftline.edge.observe import Observer
from driftline.edge.open_window import folders, is_held
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.pipeline.definition import make_definition
from driftline.pipeline.projection import Projection
from driftline.summary.codec import decode
from driftline.wire.device import Desired, DesiredPipeline, WindowRecord, decode_rows, decode_window

MINUTE_NS = 60 * 10**9
T0 = 1_767_261_600 * 10**9
OPEN = make_definition("doors", [])
DETECTOR = make_definition(
    "shelf",
    [
        {
            "model": "m",
            "name": "detector",
            "framework": "onnx",
            "digest": "ab" * 32,
            "detector": None,
            "input_schema": [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
            "output_schema": [
                {"name": "confidences", "type": "float32", "shape": [None]},
                {"name": "logit", "type": "float32", "shape": [1]},
            ],
        }
    ],
)
WANTED = Desired(
    (DesiredPipeline("pv-o", "doors", OPEN, rows_max=5), DesiredPipeline("pv-d", "shelf", DETECTOR)),
)


@pytest.fixture
def agent(joined_home: Home, standin_hub: Any) -> Iterator[Agent]:
    standin_hub.desired = WANTED
    one = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    thread = threading.Thread(target=one.serve)
    thread.start()
    yield one
    one.stop()
    thread.join()


@pytest.fixture
def observer(joined_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Observer, ManualClock]]:
    monkeypatch.setattr(observe_module, "BEAT_S", 0.05)
    clock = ManualClock(T0)
    one = Observer(joined_home, clock)
    yield one, clock
    one.close()


def wait_for(ask: Any, timeout_s: float = 10) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := ask()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def windows(hub: Any) -> list[WindowRecord]:
    return [decode_window(data) for data in hub.data("window")]


def values(window: WindowRecord) -> dict[str, Any]:
    found = {one.key: decode(one.summary, one.grid_id) for one in window.fields}
    return {key: getattr(one, "min", None) for key, one in found.items()}


def test_what_a_program_observes_reaches_the_hub(
    agent: Agent, observer: tuple[Observer, ManualClock], standin_hub: Any
):
    one, clock = observer
    one.observe("doors", {"temperature": 21.5}, {"open": True, "scores": np.array([0.5, 0.25])}, None, None)
    clock.advance(120)
    first, second = wait_for(lambda: len(windows(standin_hub)) >= 2 and windows(standin_hub))
    assert (first.pipeline, first.inferences, second.inferences) == ("pv-o", 1, 0)
    assert values(first) == {"in.temperature": 21.5, "out.open": 1.0, "out.scores.0": 0.5, "out.scores.1": 0.25}
    wait_for(lambda: standin_hub.heads[-1].complete_until_ns.get("pv-o") == T0 + 2 * MINUTE_NS)
    wait_for(lambda: standin_hub.heads[-1].pipelines["pv-o"] == "running")
    assert list(decode_rows(standin_hub.data("rows")[0]).times_ns) == [T0]


def test_a_desired_state_that_changes_while_a_program_observes_is_taken_once(
    agent: Agent, observer: tuple[Observer, ManualClock], standin_hub: Any
):
    one, _ = observer
    one.observe("doors", {}, {"open": 1}, None, None)
    wait_for(lambda: one._greeting and standin_hub.heads and standin_hub.heads[-1].pipelines.get("pv-o") == "running")
    standin_hub.desired = Desired((*WANTED.pipelines, DesiredPipeline("pv-2", "windows", OPEN)))
    wait_for(lambda: "windows" in one._pipelines)
    for _ in range(10):  # beats
        time.sleep(0.05)
        assert "windows" in one._pipelines
        assert "pv-o" in one._seen


def test_the_observers_fields_are_counted_for_a_model_that_runs_elsewhere(
    agent: Agent, observer: tuple[Observer, ManualClock], standin_hub: Any
):
    one, clock = observer
    frame = np.full((8, 8, 3), 255, np.uint8)
    at = datetime(2026, 1, 1, 10, 0, 30, tzinfo=UTC)
    one.observe("shelf", {}, {"confidences": np.array([0.5, 0.75], np.float32), "logit": 2}, frame, at)
    clock.advance(60)
    (window,) = wait_for(lambda: windows(standin_hub))
    found = values(window)
    assert found["out.avg_px_intensity"] == 1.0
    assert (found["out.detections"], found["out.avg_confidence"], found["out.empty"]) == (2.0, 0.625, 0.0)
    assert found["out.logit.0"] == 2.0


USUAL = np.random.default_rng(1).normal(size=(200, 8))
PROJECTION = Projection.of_vectors(USUAL)
PARTS = [f"out.embedding.{part}" for part in PROJECTION.parts]
EMBEDDED = make_definition(
    "faces",
    [
        {
            "model": "m", "name": "embedder", "framework": "onnx", "digest": "ab" * 32, "detector": None,
            "input_schema": [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
            "output_schema": [{"name": "embedding", "type": "float32", "shape": [8]}],
        }
    ],
)  # fmt: skip


@pytest.mark.parametrize("definition", [OPEN, EMBEDDED], ids=["nothing is declared", "a model with a schema"])
@pytest.mark.parametrize("kind", [np.array, list, tuple])
def test_a_vector_that_is_watched_whole_becomes_what_the_projection_makes_of_it(
    agent: Agent, observer: tuple[Observer, ManualClock], standin_hub: Any, definition: Any, kind: Any
):
    told = {"out.embedding": PROJECTION.told}
    wanted = DesiredPipeline("pv-e", "faces", definition, extra_fields=PARTS, projections=told)
    standin_hub.desired = Desired((wanted,))
    one, clock = observer
    vector = USUAL[7].astype(np.float32)
    one.observe("faces", {}, {"embedding": kind(vector)}, None, T0)
    clock.set(T0 + MINUTE_NS)
    (window,) = wait_for(lambda: windows(standin_hub))
    made = {key: value for key, value in values(window).items() if key in PARTS}
    expected = PROJECTION.of_many(vector.astype(np.float64)).tolist()
    assert made == pytest.approx(dict(zip(PARTS, expected, strict=True)))


def test_what_is_no_whole_vector_is_missing_and_never_a_number(
    agent: Agent, observer: tuple[Observer, ManualClock], standin_hub: Any
):
    told = {"out.embedding": PROJECTION.told}
    standin_hub.desired = Desired((DesiredPipeline("pv-e", "faces", OPEN, projections=told),))
    one, clock = observer
    broken = [USUAL[0][:7], None, "text", 3.0, [float("nan")] * 8]
    for at, vector in enumerate(broken):
        one.observe("faces", {}, {"embedding": vector} if vector is not None else {}, None, T0 + at)
    clock.set(T0 + MINUTE_NS)
    (window,) = wait_for(lambda: windows(standin_hub))
    found = {field.key: decode(field.summary, field.grid_id) for field in window.fields}
    assert {(found[key].count, found[key].missing) for key in PARTS} == {(len(broken), len(broken))}


def test_without_numpy_vectors_are_missing_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delitem(sys.modules, "driftline.pipeline.projection")
    monkeypatch.setitem(sys.modules, "numpy", None)
    wanted = DesiredPipeline("pv-e", "faces", OPEN, projections={"out.embedding": PROJECTION.told})
    assert observe_module._projections(wanted) == {}
    assert "out.embedding cannot be watched as a whole, because this program has no numpy" in caplog.text


def test_without_an_agent_it_counts_on_and_delivers_when_one_is_there(
    joined_home: Home, observer: tuple[Observer, ManualClock], standin_hub: Any
):
    joined_home.save_desired(WANTED)
    clock = ManualClock(T0)
    one = Observer(joined_home, clock)
    for _ in range(3):
        one.observe("doors", {}, {"open": 0}, None, None)
        clock.advance(60)
    standin_hub.desired = WANTED
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    thread = threading.Thread(target=agent.serve)
    thread.start()
    wait_for(lambda: [window.inferences for window in windows(standin_hub)] == [1, 1, 1])
    one.close()
    agent.stop()
    thread.join()


def test_a_pipeline_that_is_not_wanted_here_says_what_is(
    agent: Agent, observer: tuple[Observer, ManualClock], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(observe_module, "PIPELINE_WAIT_S", 0.0)
    one, _ = observer
    wait_for(lambda: one._pipelines)
    with pytest.raises(EntityNotFoundError, match="there: doors, shelf"):
        one.observe("windows", {}, {}, None, None)
    with pytest.raises(InvalidInputError, match="BGR"):
        one.observe("doors", {}, {}, [[1]], None)


PROGRAM = """
import driftline
driftline.observe("doors", {"temperature": 20.0}, {"open": 1})
"""


def test_a_program_that_ends_at_once_hands_over_what_it_counted(agent: Agent, joined_home: Home, standin_hub: Any):
    wait_for(lambda: joined_home.desired() == WANTED)
    environment = {"DRIFTLINE_EDGE_HOME": str(joined_home.path), "PATH": str(Path(sys.executable).parent)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=20)
    (window,) = wait_for(lambda: windows(standin_hub))
    assert window.inferences == 1
    assert values(window) == {"in.temperature": 20.0, "out.open": 1.0}


COUNTING = """
import os, sys, time
import driftline
from driftline.edge import open_window
open_window.SAVE_S = 0.1
driftline.observe("doors", {"temperature": 20.0}, {"open": 1})
if "fork" in sys.argv:
    child = os.fork()
    driftline.observe("doors", {"temperature": 30.0}, {"open": 1})
    if child:
        os.waitpid(child, 0)
else:
    print("counted", flush=True)
    time.sleep(60)
"""


def test_what_a_program_had_counted_when_it_was_killed_is_taken_by_the_agent(
    agent: Agent, joined_home: Home, standin_hub: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agent_module, "LEFT_EVERY_S", 0.05)
    wait_for(lambda: joined_home.desired() == WANTED)
    environment = os.environ | {"DRIFTLINE_EDGE_HOME": str(joined_home.path), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-c", COUNTING], env=environment, stdout=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.readline()
    wait_for(lambda: any(is_held(folder, "observe") for folder in folders(joined_home.path)))
    time.sleep(0.3)
    assert windows(standin_hub) == []
    program.kill()
    program.communicate()
    (window,) = wait_for(lambda: windows(standin_hub))
    assert values(window) == {"in.temperature": 20.0, "out.open": 1.0}
    assert not any(folder.exists() for folder in folders(joined_home.path))


def test_a_program_that_forks_counts_each_inference_in_the_process_that_made_it(
    agent: Agent, joined_home: Home, standin_hub: Any
):
    wait_for(lambda: joined_home.desired() == WANTED)
    environment = os.environ | {"DRIFTLINE_EDGE_HOME": str(joined_home.path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", COUNTING, "fork"], env=environment, check=True, timeout=30)
    wait_for(lambda: sum(one.inferences for one in windows(standin_hub)) == 3)
    assert sorted(values(one)["in.temperature"] for one in windows(standin_hub)) == [20.0, 30.0]
