"""A worker that is killed, hangs or runs out of memory: a real agent and real workers, and a hub that counts.

`DRIFTLINE_KILLS` says how often a test kills; the default is what a usual test run has time for.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from onnx import TensorProto, helper

from driftline.clock import NS_PER_S, iso
from driftline.edge.home import Home
from driftline.edge.link import Link
from driftline.edge.open_window import folders
from driftline.errors import DriftlineError
from driftline.pipeline.definition import make_definition
from driftline.summary import codec
from driftline.summary.summary import Summary
from driftline.wire.device import BundleFile, Desired, DesiredPipeline, decode_event, decode_window

KILLS = int(os.environ.get("DRIFTLINE_KILLS", "5"))
TIMEOUT_S = 60.0
START_S = 1_767_261_600  # 2026-01-01T10:00:00Z, a whole minute
FACTOR = 300  # a base window lasts a fifth of a second
PICTURES = """
import time
import numpy as np
def pictures(count="100", pause_s="0"):
    for number in range(int(count)):
        time.sleep(float(pause_s))
        yield np.full((12, 16, 3), number % 100, np.uint8)
"""
# The agent, with a worker that is started again soon and keeps its open window every `save_s`.
AGENT = """
import functools, sys
from driftline import cli
from driftline.edge import agent, start, supervisor
supervisor.PAUSE_FIRST_S = supervisor.PAUSE_MAX_S = 0.05
agent.Agent = functools.partial(agent.Agent, silent_s_max={silent_s})
made = agent.worker_command
code = "import sys; from driftline.edge import open_window, worker; open_window.SAVE_S = {save_s}; "
code += "sys.exit(worker.main(sys.argv[2:]))"
def command(home, options):
    return [sys.executable, "-c", code, *made(home, options)[2:]]
agent.worker_command = command
sys.exit(start.begin(start.told(cli.parser().parse_args(sys.argv[1:]))))
"""


def brightness_model() -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    mean = helper.make_tensor_value_info("brightness", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["brightness"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "brightness", [image], [mean])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass
class Device:
    """An agent's process with its worker, on a home that has joined a stand-in hub."""

    home: Home
    hub: Any
    path: Path
    arguments: tuple[str, ...] = ()
    save_s: float = 0.05
    silent_s: float = 30.0
    fast: bool = True
    process: "subprocess.Popen[bytes] | None" = None
    anchor: float = 0.0

    def start(self) -> None:
        self.anchor = self.anchor or time.time()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(self.path), *sys.path])}
        if self.fast:
            environment["DRIFTLINE_CLOCK"] = f"{iso(START_S * NS_PER_S)} x{FACTOR} @{self.anchor:.6f}"
        code = AGENT.format(save_s=self.save_s, silent_s=self.silent_s)
        command = [sys.executable, "-c", code, "edge", "run", "--home", str(self.home.path), "--serve", "127.0.0.1:0"]
        with (self.path / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.arguments], env=environment, stderr=log)

    def status(self) -> dict[str, Any]:
        try:
            link = Link(self.home.socket, timeout_s=5)
            try:
                return link.status()
            finally:
                link.close()
        except DriftlineError:
            return {}

    def running_worker(self) -> int:
        """Wait for a worker whose pipeline runs; return its process id."""
        self.until(lambda: self.status().get("pipelines") == {"v1": "running"})
        self.until(lambda: self.home.state().get("worker") is not None)
        return int(self.home.state()["worker"])

    def kill_worker(self) -> None:
        pid = self.running_worker()
        time.sleep(random.uniform(0, 1.5))  # noqa: S311
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: self.home.state().get("worker") != pid)

    def kill_both(self) -> None:
        pid = self.running_worker()
        time.sleep(random.uniform(0, 0.6))  # noqa: S311
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        return (self.path / "log").read_text()

    def until(self, holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := holds()):
            assert time.monotonic() < deadline, f"{self.status()} {self.counted()}\n{self.log()[-4000:]}"
            time.sleep(0.02)
        return found

    def counted(self) -> dict[int, int]:
        """Inferences at the hub by minute after the start."""
        counts: Counter[int] = Counter()
        for window in map(decode_window, self.hub.data("window")):
            counts[(window.start_s - START_S) // 60] += window.inferences
        return {minute: count for minute, count in sorted(counts.items()) if count}

    def brightness(self) -> float:
        """The sum of every frame's brightness."""
        found = [
            codec.decode(one.summary, one.grid_id)
            for window in map(decode_window, self.hub.data("window"))
            for one in window.fields
            if one.key == "out.brightness"
        ]
        # Sums are kept about the middle of the universal grid, 0.
        return sum(one.sum for one in found if isinstance(one, Summary))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in map(decode_event, self.hub.data("event")) if one["type"] == kind]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def device(joined_home: Home, standin_hub: Any, tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "pictures_for_faults.py").write_text(PICTURES)
    content = brightness_model()
    digest = standin_hub.file(content)
    step = {
        "model": "model-1",
        "name": "brightness",
        "framework": "onnx",
        "digest": digest,
        "input_schema": [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
        "output_schema": [{"name": "brightness", "type": "float32", "shape": []}],
    }
    definition = make_definition("shelf", [step])
    pipeline = DesiredPipeline("v1", "shelf", definition, {"model-1": BundleFile(digest, len(content))}, rows_max=500)
    standin_hub.desired = Desired((pipeline,))
    one = Device(joined_home, standin_hub, tmp_path)
    yield one
    one.stop()


def clip(frames: int, pause_s: float = 0.002) -> tuple[str, ...]:
    source = f"python:pictures_for_faults:pictures?count={frames}&pause_s={pause_s}"
    return ("--camera", source, "--rate", "1", "--start", iso(START_S * NS_PER_S))


def assert_every_frame_is_counted_once(device: Device, frames: int) -> None:
    device.until(lambda: "ended" in device.status().get("sources", {}).values())
    device.until(lambda: sum(device.counted().values()) >= frames)
    device.stop()  # and with it, whatever would still come twice
    assert device.counted() == dict.fromkeys(range(frames // 60), 60)
    # One frame lost and another counted twice would show here: frames differ.
    assert device.brightness() == pytest.approx(sum(number % 100 for number in range(frames)), rel=1e-6)


def test_a_worker_killed_at_random_moments_costs_no_frame_of_a_clip_and_counts_none_twice(device: Device):
    frames = 240 * (KILLS + 2)
    device.arguments = clip(frames)
    # Seldom enough for windows to be delivered in between.
    device.save_s = 0.5
    device.start()
    for _ in range(KILLS):
        device.kill_worker()
    assert_every_frame_is_counted_once(device, frames)
    told = device.events("worker_ended")
    assert len(told) == KILLS
    assert all("was ended by SIGKILL" in one["text"] for one in told)
    # Some of them had not counted anything yet; of the others it is said how old the snapshot was.
    assert all(0 <= one["lost_s_max"] < 5 for one in told if "lost_s_max" in one)
    assert not any(folder.exists() for folder in folders(device.home.path))


def test_agent_and_worker_killed_together_cost_no_frame_of_a_clip_and_count_none_twice(device: Device):
    frames = 240 * (KILLS + 2)
    device.arguments = clip(frames)
    device.start()
    for _ in range(KILLS):
        device.kill_both()
        device.start()
    assert_every_frame_is_counted_once(device, frames)


def test_a_killed_worker_loses_of_what_it_answered_no_more_than_its_snapshot_was_old(device: Device):
    device.fast = False
    device.save_s = 0.5
    device.start()
    answered: list[float] = []
    kills: list[float] = []
    for _ in range(KILLS):
        pid = device.running_worker()
        url = device.until(lambda: device.status().get("serving"))
        ends = time.monotonic() + random.uniform(0.3, 1.5)  # noqa: S311
        while time.monotonic() < ends:
            infer(url)
            answered.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        kills.append(time.monotonic())
        device.until(lambda: device.home.state().get("worker") != pid)  # noqa: B023
    device.stop()
    told = device.events("worker_ended")
    assert len(told) == KILLS
    lost = sum(
        # The agent looks every tenth of a second, and rounds; without a snapshot all of that life is lost.
        killed - one.get("lost_s_max", 2.5) - 0.3 <= at <= killed
        for killed, one in zip(kills, told, strict=True)
        for at in answered
    )
    counted = sum(device.counted().values())
    assert len(answered) - lost <= counted <= len(answered)
    assert counted > 0
    assert all(one["lost_s_max"] < 2 for one in told if "lost_s_max" in one)


def infer(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    connection.request("POST", "/infer", json.dumps([{"image": [[[7, 7, 7]]]}]).encode())
    assert connection.getresponse().status == 200
    connection.close()


def test_a_worker_that_hangs_is_killed_in_time_and_its_frames_are_counted_once(device: Device):
    frames = 60 * 20
    device.arguments = clip(frames)
    device.silent_s = 5.0
    device.start()
    pid = device.running_worker()
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    device.until(lambda: device.home.state().get("worker") not in {pid, None})
    assert 4 < time.monotonic() - stopped < 20
    assert device.status()["sync_error"] is None
    assert_every_frame_is_counted_once(device, frames)
    (told,) = device.events("worker_ended")
    assert told["text"].startswith(
        "the worker gave no sign of life for 5 s and was killed; what it had counted is kept"
    )
