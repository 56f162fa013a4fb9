"""A device opens no socket but to its hub, its camera and its own agent: every connect of every process is watched."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import driftline.demo
from driftline.edge.home import Home
from driftline.pipeline.definition import make_definition
from driftline.wire.device import BundleFile, Desired, DesiredPipeline, decode_window

TRACE = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none"]
DETECTOR = Path(driftline.demo.__file__).with_name("detector.onnx")
TIMEOUT_S = 90.0
# An address that a call names; a call on a connected socket names none.
INTERNET = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
UNIX = re.compile(r'sun_path=(@?"[^"]*")')


def traceable() -> str:
    """Why nothing can be watched here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run([*TRACE, "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"strace cannot watch here: {done.stderr.strip()[-200:]}"


WHY_NOT = traceable()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can be watched")


def reached(log: Path) -> set[str]:
    """Every address that was spoken to: `host:port`, or a Unix socket's path."""
    found: set[str] = set()
    for line in log.read_text(errors="replace").splitlines():
        if "sa_family=" not in line:
            continue
        internet, local = INTERNET.search(line), UNIX.search(line)
        if internet:
            found.add(f"{internet[2]}:{internet[1]}")
        else:
            found.add(local[1].strip('"') if local else line)
    return found


def detecting(hub: Any) -> Desired:
    """A pipeline with the demo's detector, which the hub offers for download."""
    content = DETECTOR.read_bytes()
    digest = hub.file(content)
    step = {
        "model": "model-1",
        "name": "detector",
        "framework": "onnx",
        "digest": digest,
        "input_schema": [{"name": "image", "type": "uint8", "shape": [None, None, 3]}],
        "output_schema": [
            {"name": "boxes", "type": "float32", "shape": [None, 4]},
            {"name": "classes", "type": "int64", "shape": [None]},
            {"name": "confidences", "type": "float32", "shape": [None]},
        ],
        "detector": {},
    }
    files = {"model-1": BundleFile(digest, len(content))}
    return Desired((DesiredPipeline("v1", "shelf", make_definition("shelf", [step]), files),))


@pytest.fixture
def watched(joined_home: Home, tmp_path: Path) -> Iterator[Any]:
    """A function that runs a device under strace until told to stop."""
    started: list[subprocess.Popen[bytes]] = []

    def start(log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        # Without what our own tests set: a device sets it by itself.
        environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
        environment |= {"HOME": str(tmp_path / "user"), "XDG_CACHE_HOME": str(tmp_path / "user")}
        command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", str(joined_home.path)]
        with (tmp_path / "device.log").open("wb") as out:
            started.append(
                subprocess.Popen(
                    [*TRACE, "-o", str(log), *command, "--serve", "127.0.0.1:0", *arguments],
                    env=environment,
                    stderr=out,
                    start_new_session=True,
                )
            )
        return started[-1]

    (tmp_path / "user").mkdir()
    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def until(holds: Any, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def inferences(hub: Any) -> int:
    return sum(decode_window(data).inferences for data in hub.data("window"))


def test_a_device_with_a_model_and_a_network_camera_speaks_to_hub_and_camera_alone(
    watched: Any, standin_hub: Any, joined_home: Home, stream: Any, tmp_path: Path
):
    standin_hub.desired = detecting(standin_hub)
    log, said = tmp_path / "connects", tmp_path / "device.log"
    process = watched(log, "--camera", stream.url, "--rate", "5")
    until(lambda: standin_hub.heads and list(standin_hub.heads[-1].sources.values()) == ["ok"], said)
    until(lambda: standin_hub.heads[-1].pipelines == {"v1": "running"}, said)
    time.sleep(2)
    # The agent's own id; strace ends with the last of those it watches.
    os.kill(joined_home.state()["pid"], signal.SIGTERM)
    assert process.wait(30) == 0
    assert inferences(standin_hub) > 0
    addresses = {url.removeprefix("http://").split("/")[0] for url in (standin_hub.url, stream.url)}
    found = reached(log)
    assert addresses <= found
    assert {one for one in found - addresses if not one.startswith(str(joined_home.path))} == set()
    # And it left nothing in its user's folder: the runtime's telemetry would keep a device id there.
    assert list((tmp_path / "user").rglob("*")) == []


SPEAKS = """
import json, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.sendto(b"x", ("127.0.0.2", 53))
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
    one.connect(("::1", 443))
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
    one.connect_ex("/run/somebody/else")
"""


def run_watched(code: str, log: Path, arguments: Sequence[str] = ()) -> None:
    subprocess.run([*TRACE, "-o", str(log), sys.executable, "-c", code, *arguments], check=True, timeout=60)


def test_whatever_else_is_spoken_to_is_seen(tmp_path: Path):
    run_watched(SPEAKS, tmp_path / "log")
    expected = {"127.0.0.2:53", "::1:443", "/run/somebody/else"}
    assert expected <= reached(tmp_path / "log"), json.dumps(sorted(reached(tmp_path / "log")))
