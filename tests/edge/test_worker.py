"""The worker as a real process, against a real link and an agent that keeps what it is given."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import onnx
import pytest
from onnx import TensorProto, helper

from driftline.clock import NS_PER_S, ManualClock, SystemClock, iso
from driftline.edge.cameras import LiveSource
from driftline.edge.home import Home
from driftline.edge.link import Server, left_messages
from driftline.edge.open_window import place
from driftline.edge.worker import Camera, Worker, _event_type, options
from driftline.errors import InvalidInputError
from driftline.pipeline.definition import make_definition
from driftline.summary import codec
from driftline.wire.device import (
    BundleFile,
    Desired,
    DesiredPipeline,
    RowsRecord,
    WindowRecord,
    decode_event,
    decode_rows,
    decode_window,
)

TIMEOUT_S = 30.0
START_S = 1_767_261_600  # 2026-01-01T10:00:00Z, a whole minute
FACTOR = 300  # a base window lasts a fifth of a second
CAMERA_MODULE = """
import time
import numpy as np
def pictures(count="10000", pause_s="0"):
    for number in range(int(count)):
        time.sleep(float(pause_s))
        yield np.full((12, 16, 3), number % 100, np.uint8)
"""


class Agent:
    """The other end of the link: commits records in memory, remembers what the worker tells, says what is desired."""

    def __init__(self, home: Home) -> None:
        self.desired = Desired()
        self.files: dict[str, str] = {}
        self.records: list[tuple[str, bytes]] = []
        self.facts: dict[str, Any] = {}
        self.complete_until_ns: dict[str, int] = {}
        # (complete_until, windows committed by then), at each beat
        self.promises: list[tuple[dict[str, int], int]] = []
        self.greeted = 0
        self._keys: set[str] = set()
        self._guard = threading.Lock()
        self._server = Server(home.socket_to_make(), self)

    def answer(self, peer: int, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        with self._guard:
            if request["type"] == "hello":
                assert request["role"] == "worker"
                self.greeted += 1
                return self._wish() | {"complete_until_ns": self.complete_until_ns}
            if request["type"] == "beat":
                self.facts = dict(request)
                self.complete_until_ns |= request["complete_until_ns"]
                self.promises.append((dict(request["complete_until_ns"]), len(self.windows())))
                return {"revision": self.desired.revision} if self._knows(request) else self._wish()
            if request["key"] not in self._keys:
                self._keys.add(request["key"])
                self.records.append((request["kind"], payload))
            return {"sequence": len(self.records)}

    def gone(self, peer: int) -> None:
        pass

    def _knows(self, request: Mapping[str, Any]) -> bool:
        return request["revision"] == self.desired.revision

    def _wish(self) -> dict[str, Any]:
        return {
            "desired": asdict(self.desired),
            "revision": self.desired.revision,
            "device": "camera-1",
            "rows_sent": {},
            "files": self.files,
        }

    def windows(self, pipeline: str | None = None) -> list[WindowRecord]:
        decoded = [decode_window(data) for kind, data in self.records if kind == "window"]
        return [one for one in decoded if pipeline in {None, one.pipeline}]

    def counted(self, pipeline: str | None = None) -> dict[int, int]:
        """Inferences by minute after the start."""
        counts: Counter[int] = Counter()
        for one in self.windows(pipeline):
            counts[(one.start_s - START_S) // 60] += one.inferences
        return dict(counts)

    def events(self) -> list[dict[str, Any]]:
        return [decode_event(data) for kind, data in self.records if kind == "event"]

    def close(self) -> None:
        self._server.close()


class Device:
    """A home, its agent, and the workers started on it."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path / "home")
        self.home.make()
        (path / "own_pictures_for_tests.py").write_text(CAMERA_MODULE)
        self._path = path
        self._anchor = time.time()
        self.agent = Agent(self.home)
        self.workers: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> list[str]:
        base = [sys.executable, "-m", "driftline.edge.worker", "--home", str(self.home.path)]
        return [*base, "--serve", "127.0.0.1:0", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        clock = f"{iso(START_S * NS_PER_S)} x{FACTOR} @{self._anchor:.6f}"
        return dict(os.environ) | {
            "DRIFTLINE_CLOCK": clock,
            "PYTHONPATH": os.pathsep.join([str(self._path), *sys.path]),
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._path / "log").open("ab") as log:
            worker = subprocess.Popen(self.command(*arguments), env=self.environment, stderr=log)
        self.workers.append(worker)
        return worker

    def orphan(self, before: Callable[[], None] = lambda: None) -> None:
        """Start a worker with a camera, kill its parent after `before`, and wait for its end."""
        self.agent.desired = Desired((wanted(self),))
        with (self._path / "log").open("ab") as log:
            shell = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" & echo $!; wait', "sh", *self.command(*camera(pause_s=0.01))],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert shell.stdout is not None
        worker = Path("/proc") / shell.stdout.readline().decode().strip() / "stat"
        self.until_complete("v1", 1)
        before()
        shell.kill()
        shell.wait()
        self.until(lambda: not worker.exists() or worker.read_text().split()[2] == "Z")

    def log(self) -> str:
        return (self._path / "log").read_text()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not holds():
            assert time.monotonic() < deadline, f"{self.agent.facts} {self.agent.counted()}\n{self.log()}"
            time.sleep(0.02)

    def until_complete(self, pipeline: str, minutes: int) -> None:
        until_ns = (START_S + 60 * minutes) * NS_PER_S
        self.until(lambda: self.agent.complete_until_ns.get(pipeline, 0) >= until_ns)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.agent.close()
        # What killed workers leave, which this agent does not take.
        shutil.rmtree(place(self.home.path).folder, ignore_errors=True)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path)
    yield one
    one.close()


def brightness_model() -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    mean = helper.make_tensor_value_info("brightness", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["brightness"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "brightness", [image], [mean])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def wanted(device: Device, version: str = "v1", content: bytes | None = None, **more: Any) -> DesiredPipeline:
    """A pipeline version that this device's agent has downloaded."""
    content = brightness_model() if content is None else content
    digest = hashlib.sha256(content).hexdigest()
    file = device.home.path / digest
    file.write_bytes(content)
    device.agent.files[digest] = str(file)
    step = {
        "model": "model-1",
        "name": "brightness",
        "framework": "onnx",
        "digest": digest,
        "input_schema": [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
        "output_schema": [{"name": "brightness", "type": "float32", "shape": []}],
    }
    definition = make_definition("shelf", [step])
    return DesiredPipeline(version, "shelf", definition, {"model-1": BundleFile(digest, len(content))}, **more)


def camera(frames: int = 10_000, pause_s: float = 0) -> list[str]:
    source = f"python:own_pictures_for_tests:pictures?count={frames}&pause_s={pause_s}"
    return ["--camera", source, "--rate", "1", "--start", iso(START_S * NS_PER_S)]


def test_every_frame_is_counted_in_its_window_and_windows_go_on_when_the_clip_has_ended(device: Device):
    device.agent.desired = Desired((wanted(device),))
    worker = device.start(*camera(frames=150))
    device.until_complete("v1", 5)
    device.until(lambda: list(device.agent.facts["sources"].values()) == ["ended"])
    assert [device.agent.counted()[minute] for minute in range(5)] == [60, 60, 30, 0, 0]
    first = min(device.agent.windows(), key=lambda one: one.start_s)
    (brightness,) = (one for one in first.fields if one.key == "out.brightness")
    summary = codec.decode(brightness.summary, brightness.grid_id)
    assert (summary.count, summary.min, summary.max) == (60, 0.0, 59.0)
    assert {"out.sharpness", "out.avg_px_intensity"} <= {one.key for one in first.fields}
    assert device.agent.facts["pipelines"] == {"v1": "running"}
    assert device.agent.facts["revision"] == device.agent.desired.revision
    # What it said to be complete had been committed before it said so.
    for promised, windows in device.agent.promises:
        if "v1" in promised:
            assert windows >= (promised["v1"] // NS_PER_S - START_S) // 60
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(TIMEOUT_S) == 0
    assert {event["type"] for event in device.agent.events()} == {"camera_ended"}


def test_a_stopped_worker_hands_over_its_open_window_and_the_next_one_counts_every_other_frame(device: Device):
    device.agent.desired = Desired((wanted(device),))
    # Slower than its schedule: the watermark lags far behind the clock, and no frame is dropped.
    first = device.start(*camera(pause_s=0.012))
    device.until_complete("v1", 1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(TIMEOUT_S) == 0
    stopped_ns = device.agent.complete_until_ns["v1"]
    handed_over = sum(device.agent.counted().values())
    # Exactly the frames scheduled before the time it gave: one a second.
    assert handed_over == stopped_ns // NS_PER_S - START_S
    second = device.start(*camera())
    device.until_complete("v1", 6)
    second.send_signal(signal.SIGTERM)
    assert second.wait(TIMEOUT_S) == 0
    assert [device.agent.counted()[minute] for minute in range(6)] == [60] * 6


def test_a_killed_worker_costs_no_frame_of_a_paced_source(device: Device):
    device.agent.desired = Desired((wanted(device),))
    first = device.start(*camera(pause_s=0.01))
    device.until_complete("v1", 1)
    first.kill()
    first.wait()
    device.start(*camera())
    device.until_complete("v1", 5)
    assert [device.agent.counted()[minute] for minute in range(5)] == [60] * 5


def test_a_new_version_takes_over_without_a_frame_lost_or_counted_twice(device: Device):
    old = wanted(device, "v1")
    device.agent.desired = Desired((old,))
    device.start(*camera(pause_s=0.004))
    device.until_complete("v1", 2)
    # A broken update leaves the old version at work, and says why it is broken.
    device.agent.desired = Desired((wanted(device, "broken", b"this is no graph"),))
    device.until(lambda: device.agent.facts["pipelines"].get("broken", "").startswith("error: "))
    assert device.agent.facts["pipelines"]["v1"] == "running"
    device.agent.desired = Desired((replace(old, id="v2"),))
    device.until(lambda: device.agent.facts["pipelines"] == {"v2": "running"})
    device.until(
        lambda: device.agent.complete_until_ns.get("v2", 0) > device.agent.complete_until_ns["v1"] + 120 * NS_PER_S
    )
    complete = (device.agent.complete_until_ns["v2"] // NS_PER_S - START_S) // 60
    assert [device.agent.counted()[minute] for minute in range(complete)] == [60] * complete
    assert sum(device.agent.counted("v1").values()) > 0
    assert device.agent.counted("broken") == {}


def test_a_pipeline_that_cannot_start_is_an_error_with_its_reason_and_runs_once_it_can(device: Device):
    good = wanted(device)
    absent = dict(device.agent.files)
    device.agent.files.clear()
    device.agent.desired = Desired((good,))
    device.start(*camera(frames=120))
    device.until(lambda: device.agent.facts.get("pipelines") == {"v1": "starting"})  # its file is not here yet
    torn = device.home.path / "torn"
    torn.write_bytes(b"torn on the way")
    device.agent.files = dict.fromkeys(absent, str(torn))
    device.agent.desired = Desired((replace(good, rows_max=1),))  # another revision, so that the worker hears of it
    device.until(lambda: "is not what was published" in device.agent.facts["pipelines"]["v1"])
    assert device.agent.complete_until_ns == {}
    Path(torn).write_bytes(Path(next(iter(absent.values()))).read_bytes())
    device.until_complete("v1", 2)  # tried again without being told
    assert [device.agent.counted()[minute] for minute in range(2)] == [60, 60]


def test_a_device_without_a_camera_answers_inferences_and_shows_their_rows_at_once(device: Device):
    limits = {"cpus": 1, "memory_bytes": 768 * 1024 * 1024}
    device.agent.desired = Desired((wanted(device, rows_max=None, limits=limits),))
    device.start()
    device.until(lambda: device.agent.facts.get("pipelines") == {"v1": "running"})
    said = device.agent.facts["limits"]["v1"]
    assert said.startswith("cpus 1: ")
    assert "; memory 768 MiB: " in said
    body = json.dumps([{"image": [[[7, 7, 7]]]}, {"image": [[[9, 9, 9]]]}]).encode()
    connection = http.client.HTTPConnection(urlsplit(device.agent.facts["serving"]).netloc, timeout=TIMEOUT_S)
    connection.request("POST", "/infer", body)
    answers = json.load(connection.getresponse())
    connection.close()
    assert [one["brightness"] for one in answers] == [7, 9]

    def rows() -> list[RowsRecord]:
        return [decode_rows(data) for kind, data in device.agent.records if kind == "rows"]

    # On a busy machine the two may travel one by one.
    device.until(lambda: sum(len(one.columns["out.brightness"][1]) for one in rows()) == 2)
    assert [value for one in rows() for value in one.columns["out.brightness"][1]] == [7, 9]
    minute = (rows()[0].start_s - START_S) // 60
    device.until_complete("v1", minute + 1)
    assert device.agent.counted()[minute] == 2


def test_a_clip_that_cannot_be_decoded_shows_as_the_cameras_state_and_the_device_works_on(
    device: Device, tmp_path: Path
):
    clip = tmp_path / "torn.mp4"
    clip.write_bytes(b"torn")
    device.agent.desired = Desired((wanted(device),))
    device.start("--camera", str(clip))
    device.until(lambda: device.agent.facts.get("pipelines") == {"v1": "running"})
    assert "torn.mp4 cannot be decoded" in device.agent.facts["sources"][str(clip)]
    assert "torn.mp4 cannot be decoded" in device.log()
    device.until(lambda: len(device.agent.windows()) >= 2)
    assert device.agent.events()[0]["type"] == "camera_error"


def test_a_worker_whose_agent_was_killed_hands_over_to_the_next_one_and_ends(device: Device):
    device.orphan()
    assert sum(device.agent.counted().values()) == device.agent.complete_until_ns["v1"] // NS_PER_S - START_S


def test_a_worker_whose_agent_was_killed_leaves_what_no_agent_takes_and_ends(device: Device):
    device.orphan(before=device.agent.close)
    ((_, messages),) = left_messages(device.home.path)
    device.agent.records += [(header["kind"], data) for header, data in messages[:-1]]
    told = messages[-1][0]["complete_until_ns"]["v1"]
    assert sum(device.agent.counted().values()) == told // NS_PER_S - START_S
    assert "for the next one" in device.log()


def named(name: str, *inputs: Mapping[str, Any]) -> DesiredPipeline:
    number = {"name": "n", "type": "float32", "shape": []}
    step = {"model": "m", "name": name, "framework": "custom", "digest": "", "output_schema": [number]}
    return DesiredPipeline(name, name, make_definition(name, [step | {"input_schema": list(inputs)}]))


FRAME = {"name": "image", "type": "uint8", "shape": [None, None, 3]}
TENSOR = {"name": "tensor", "type": "float32", "shape": [3]}


@pytest.mark.parametrize(
    ("arguments", "wanted", "chosen"),
    [
        ([], [], None),
        ([], [named("shelf", FRAME), named("till", TENSOR)], "shelf"),
        (["--pipeline", "door"], [named("shelf", FRAME), named("door", FRAME)], "door"),
        ([], [named("shelf", FRAME), named("door", FRAME)], "several pipelines take a frame: door, shelf; choose one"),
        ([], [named("till", TENSOR)], "no pipeline here takes a single frame"),
        (["--pipeline", "till"], [named("till", TENSOR)], "'till' is not here or does not take a single frame"),
    ],
)
def test_a_camera_feeds_the_named_pipeline_or_the_only_one_that_takes_a_frame(
    arguments: list[str], wanted: list[DesiredPipeline], chosen: str | None
):
    one = Camera(options(["--home", "h", "--camera", "0", *arguments]), ManualClock())
    try:
        found = one.choice(wanted)
    except InvalidInputError as error:
        assert chosen is not None
        assert chosen in str(error)  # noqa: PT017
    else:
        assert (None if found is None else found.name) == chosen


def test_the_states_of_a_camera_have_events_of_their_own():
    states = ["camera lost", "feed frozen", "ok", "ended", "error: it tore"]
    types = ["camera_lost", "feed_frozen", "camera_ok", "camera_ended", "camera_error"]
    assert [_event_type(state) for state in states] == types


def test_a_camera_that_is_lost_or_stands_still_is_told_when_it_begins_and_when_it_is_over(device: Device, stream: Any):
    device.agent.desired = Desired((wanted(device),))
    arguments = ["--home", str(device.home.path), "--serve", "127.0.0.1:0", "--camera", stream.url, "--rate", "20"]
    worker = Worker(options(arguments), SystemClock())
    camera = worker._camera
    assert camera is not None
    camera.open()
    source = camera._source
    assert isinstance(source, LiveSource)
    # What takes 10 and 30 s on a device.
    source._lost_after_s, source._feed._frozen_after_ns, source._pause_s = 0.4, int(0.4 * NS_PER_S), 0.05
    working = threading.Thread(target=worker.run)
    working.start()

    def told(*types: str) -> bool:
        return [event["type"] for event in device.agent.events()] == list(types)

    def is_now(state: str) -> bool:
        return device.agent.facts.get("sources") == {stream.url: state}

    try:
        device.until(lambda: is_now("ok"))
        stream.standing_still = True
        device.until(lambda: is_now("feed frozen") and told("feed_frozen"))
        stream.standing_still = False
        device.until(lambda: is_now("ok") and told("feed_frozen", "camera_ok"))
        stream.broken = True
        device.until(lambda: is_now("camera lost") and told("feed_frozen", "camera_ok", "camera_lost"))
        beats = len(device.agent.promises)
        device.until(lambda: len(device.agent.promises) > beats + 2)  # the worker lives, and windows go on
        stream.broken = False
        device.until(lambda: is_now("ok") and told("feed_frozen", "camera_ok", "camera_lost", "camera_ok"))
        assert device.agent.facts["pipelines"] == {"v1": "running"}
    finally:
        worker.stop()
        working.join(TIMEOUT_S)


def test_a_port_in_use_is_tried_again_and_the_worker_goes_on(device: Device, caplog: pytest.LogCaptureFixture):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = Worker(options(["--home", str(device.home.path), "--serve", f"127.0.0.1:{port}"]), ManualClock())
        worker._heartbeat()
        assert device.agent.facts["serving"] is None
        assert "name another with --serve" in caplog.text
    worker._serving._again_s = 0
    worker._heartbeat()
    assert device.agent.facts["serving"] == f"http://127.0.0.1:{port}"
    assert worker._end() == 0
    worker._courier.close()
