"""What systemd hears of an agent, over a real datagram socket; and what it no longer hears of one that hangs."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.home import Home
from driftline.edge.notify import Notifier

BARE = (
    "import sys; from driftline import cli; from driftline.edge import agent, start; "
    "agent.WORKER_LIBRARIES = ('absent_library',); {} "
    "sys.exit(start.begin(start.told(cli.parser().parse_args(sys.argv[1:]))))"
)
# An agent whose main loop waits for ever from the moment the file `stuck` is there.
STICKS = (
    "import os, time; held = agent.Agent._take_left; agent.LEFT_EVERY_S = 0.05; "
    "agent.Agent._take_left = lambda self: time.sleep(60) if os.path.exists(sys.argv[-1] + '/stuck') else held(self);"
)
# One whose network thread dies of a bug.
DIES = "from driftline.edge.uplink import Uplink; Uplink._work = lambda self: None;"


class Manager:
    """systemd's end of the conversation."""

    def __init__(self, address: str) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """Everything that was said so far."""
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def until(self, holds: Callable[[list[str]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds(self.listen()):
            assert time.monotonic() < deadline, self.heard
            time.sleep(0.02)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify"))
    yield one
    one.close()


@pytest.fixture
def agent_under(joined_home: Home, tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    """A function that starts an agent as systemd would, with a watchdog of 0.4 s."""
    started: list[subprocess.Popen[bytes]] = []

    def start(bug: str = "") -> "subprocess.Popen[bytes]":
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        command = [sys.executable, "-c", BARE.format(bug), "edge", "run", "--home", str(joined_home.path)]
        started.append(subprocess.Popen(command, env=os.environ | told, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_an_agent_says_when_it_is_ready_how_it_is_that_it_lives_and_that_it_stops(
    agent_under: Any, manager: Manager, standin_hub: Any
):
    process = agent_under()
    manager.until(lambda heard: heard.count("WATCHDOG=1") >= 3)
    assert manager.heard[0] == "READY=1"
    manager.until(lambda heard: any(one.startswith("STATUS=synced with the hub") for one in heard))
    standin_hub.down()
    manager.until(lambda heard: any("does not answer" in one for one in heard))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "STOPPING=1" in manager.listen()


@pytest.mark.parametrize("bug", [STICKS, DIES], ids=["the main loop hangs", "the network thread has died"])
def test_an_agent_that_hangs_is_no_longer_said_to_live(agent_under: Any, manager: Manager, joined_home: Home, bug: str):
    agent_under(bug)
    manager.until(lambda heard: "READY=1" in heard)
    (joined_home.path / "stuck").touch()
    # A pulse would come eight times in each such pause.
    deadline = time.monotonic() + 15
    before = -1
    while (said := manager.listen().count("WATCHDOG=1")) != before:
        assert time.monotonic() < deadline, "it is still said to live"
        before = said
        time.sleep(0.8)


def test_without_systemd_nothing_is_said():
    environment: dict[str, str] = {}
    one = Notifier.of_environment(environment)
    one.ready("works")
    one.alive()
    one.stopping()


def test_a_child_does_not_inherit_the_socket_and_a_watchdog_for_another_process_is_none(tmp_path: Path):
    manager = Manager(str(tmp_path / "socket"))
    environment = {"NOTIFY_SOCKET": str(tmp_path / "socket"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "PATH": "/"}
    one = Notifier.of_environment(environment)
    assert environment == {"PATH": "/"}
    one.alive()
    one.status("three\nlines\nas one " + "é" * 300)
    (said,) = manager.listen()
    assert said.startswith("STATUS=three lines as one é")
    assert len(said.encode()) <= 210
    manager.close()


def test_an_address_in_the_abstract_namespace_is_reached(tmp_path: Path):
    name = f"driftline-{os.getpid()}-{time.monotonic_ns()}"
    manager = Manager(f"\0{name}")
    Notifier(f"@{name}").ready("works")
    assert manager.listen() == ["READY=1", "STATUS=works"]
    manager.close()


def test_the_pulse_comes_four_times_in_the_time_that_is_granted_and_a_deaf_manager_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    now_s = 0.0
    manager = Manager(str(tmp_path / "socket"))
    one = Notifier(str(tmp_path / "socket"), 60, real_s=lambda: now_s)
    for _ in range(120):
        one.alive()
        now_s += 0.5
    assert manager.listen() == ["WATCHDOG=1"] * 4
    manager.close()
    (tmp_path / "socket").unlink()
    for _ in range(3):
        now_s += 60
        one.alive()
    assert [record.message for record in caplog.records if "systemd cannot be told" in record.message]
    assert len(caplog.records) == 1
