"""A worker's memory: YOLOX-Nano with a video, and FastestDet asked over HTTP."""

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.footprint.figures import Figure, Memory, cpu_s, told
from bench.footprint.hub import RunningHub, running_hub
from driftline import Detector, Framework
from driftline.edge.home import Home
from driftline.edge.status import ask
from driftline.sdk.pipeline import Pipeline
from driftline.wire.arrays import ARRAYS, pack_arrays

WITH_VIDEO_MIB_MAX, OVER_HTTP_MIB_MAX = 130.0, 120.0
FOR_S, FOR_S_QUICK = 90.0, 10.0
ASKED_A_S = 10
START_S = 90.0


def workers(*, quick: bool, samples: Path) -> tuple[dict[str, object], list[str]]:
    """Run both for a while and read what they hold."""
    for_s = FOR_S_QUICK if quick else FOR_S
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as name, running_hub(Path(name)) as hub:
        folder = Path(name)
        shelf, light = _shelf(hub, samples), _light(hub, samples)
        video = ["--camera", str(samples / "video" / "bottle-detection.mp4"), "--loop"]
        with running(hub, hub.device("shelf", folder / "shelf", shelf), video) as home:
            seen = _watched(_worker(home), for_s, lambda: time.sleep(1))
            figures = [*_figures("YOLOX-Nano, a video at its own rate", seen, WITH_VIDEO_MIB_MAX)]
        with running(hub, hub.device("light", folder / "light", light), []) as home:
            serving = urlsplit(str(_when(lambda: ask(home).state.get("serving"))))
            asking = http.client.HTTPConnection(serving.hostname or "", serving.port)
            seen = _watched(_worker(home), for_s, lambda: _ask(asking))
            asking.close()
            figures += _figures(f"FastestDet, {ASKED_A_S} requests a second over HTTP", seen, OVER_HTTP_MIB_MAX)
    return told(f"A worker after {for_s:.0f} s", figures)


@contextmanager
def running(hub: RunningHub, home: Home, more: list[str]) -> Iterator[Home]:
    """Run a device until its pipelines do; then stop it."""
    command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", home.path, "--serve", "127.0.0.1:0"]
    with (home.path / "agent.log").open("w") as log:
        agent = subprocess.Popen([*command, *more], env=hub.environment, stderr=log)
    try:
        _when(lambda: set((ask(home).state.get("pipelines") or {"": ""}).values()) == {"running"})
        yield home
    finally:
        agent.terminate()
        agent.wait(30)


def _shelf(hub: RunningHub, samples: Path) -> Pipeline:
    names = (samples / "models" / "coco_classes.txt").read_text().splitlines()
    model = hub.client.upload_model(
        "yolox-nano", samples / "models" / "yolox_nano_e2e.onnx", Framework.ONNX,
        [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
        [
            {"name": "boxes", "type": "float32", "shape": [None, 4]},
            {"name": "classes", "type": "int64", "shape": [None]},
            {"name": "confidences", "type": "float32", "shape": [None]},
        ],
        detector=Detector(class_names=tuple(names[:13])),
    )  # fmt: skip
    return hub.client.build_pipeline("shelf").add_model_step(model)


def _light(hub: RunningHub, samples: Path) -> Pipeline:
    model = hub.client.upload_model(
        "fastestdet", samples / "models" / "FastestDet.onnx", Framework.ONNX,
        [{"name": "input.1", "type": "float32", "shape": [3, 352, 352]}],
        [{"name": "758", "type": "float32", "shape": [85, 22, 22]}],
    )  # fmt: skip
    return hub.client.build_pipeline("light").add_model_step(model)


def _watched(pid: int, seconds: float, step: Callable[[], Any]) -> tuple[Memory, float]:
    """Return the most that a process held meanwhile, and its CPU seconds a second."""
    most, began, cpu = Memory(0, 0), time.monotonic(), cpu_s(pid)
    while time.monotonic() - began < seconds:
        step()
        now = Memory.of(pid)
        most = max(most, now, key=lambda one: one.resident)
    return most, (cpu_s(pid) - cpu) / (time.monotonic() - began)


def _figures(what: str, seen: tuple[Memory, float], target: float) -> Iterator[Figure]:
    memory, share = seen
    yield Figure(f"{what}: resident at most", memory.resident, "MiB", target, f"{share * 100:.0f} % of a core")
    yield Figure(f"{what}: of that anonymous", memory.anonymous, "MiB")


def _ask(asking: http.client.HTTPConnection) -> None:
    picture = np.random.default_rng(1).random((1, 3, 352, 352), np.float32)
    asking.request("POST", "/infer", pack_arrays({"input.1": picture}), {"Content-Type": ARRAYS})
    answer = asking.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"the worker answers {answer.status}: {answer.read(300)!r}")
    answer.read()
    time.sleep(1 / ASKED_A_S)


def _worker(home: Home) -> int:
    return int(_when(lambda: home.state().get("worker")))


def _when(question: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + START_S
    while not (found := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a device did not start within {START_S:.0f} s")
        time.sleep(0.2)
    return found
