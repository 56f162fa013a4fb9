"""Real hubs for tests: one in this process on a free loopback port, and the command itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from driftline.clock import Clock, SystemClock

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The tests start hundreds of interpreters. Where the environment forbids bytecode each of them compiles all it imports
# again, which is half of the CPU a hub or a worker takes to start: then it is kept, but not beside the sources.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    )


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One worker more than there are cores: tests wait for fast time, for a process to start, for a disk."""
    return (yield) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every worker begin with its share of the slow tests: one begun last would leave the others idle."""
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    # `--dist worksteal` gives each worker a block of equal length to begin with.
    items[:] = [item for share in _dealt(slow, rest, workers) for item in share]


def _dealt(first: Sequence[Any], rest: Sequence[Any], hands: int) -> Iterator[list[Any]]:
    """Yield each hand's block: its share of what comes first, filled up from the rest in order.

    >>> list(_dealt("ABC", "stuvw", 2))
    [['A', 'C', 's', 't'], ['B', 'u', 'v', 'w']]
    """
    left, begun = len(first) + len(rest), 0
    for hand in range(hands):
        block = list(first[hand::hands])
        more = left // (hands - hand) - len(block)
        yield block + list(rest[begun : begun + more])
        begun += max(0, more)
        left -= len(block) + max(0, more)


@pytest.fixture
def serve_hub(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that starts a hub in this process and returns it (`hub.url` answers): no device `hub`, no scorer.

    It takes a clock (default: the system's) and a home (default: a folder of its own).
    """
    from driftline.hub.command import listen
    from driftline.hub.registry import Checker
    from driftline.hub.server import Listener, open_hub

    undo: list[Callable[[], None]] = []

    def start(clock: Clock | None = None, home: Path | None = None) -> Any:
        folder = home or tmp_path / f"hub-{len(undo)}"
        folder.mkdir(parents=True, exist_ok=True)
        listening = listen("127.0.0.1", 0)
        bound = listening.__enter__()
        hub = open_hub(folder, clock or SystemClock(), f"http://127.0.0.1:{bound.getsockname()[1]}")
        listener, checker = Listener(hub, bound), Checker(hub)
        listener.start()
        checker.start()

        def stop() -> None:
            checker.stop()
            listener.stop()
            hub.database.close()
            listening.__exit__(None, None, None)

        undo.append(stop)
        return hub

    yield start
    for stop in reversed(undo):
        stop()


@pytest.fixture
def hub(serve_hub: Callable[..., Any]) -> Any:
    """A real hub that answers at `hub.url`, on the system's clock."""
    return serve_hub()


@dataclass
class Up:
    """A running `driftline up`: where it answers, where it lives, and what it has said so far."""

    url: str
    home: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it as a user would; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)


@dataclass
class Starter:
    """Starts `driftline up` with further arguments and environment; waits until it says where it answers."""

    folder: Path
    started: list[Up] = field(default_factory=list)

    def __call__(self, *arguments: str, home: Path | None = None, **environment: str) -> Up:
        place = home or self.folder / f"up-{len(self.started)}"
        log = self.folder / f"up-{len(self.started)}.log"
        # Samples for a device arrive within seconds in a test, not within a minute.
        settings = {"DRIFTLINE_SYNC_INTERVAL_S": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "driftline.cli", "up", "--home", str(place), "--port", "0", *arguments],
                env=os.environ | settings | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        up = Up("", place, process, log)
        self.started.append(up)
        deadline = time.monotonic() + 60
        while not up.url:
            assert process.poll() is None, f"driftline up ended with {process.returncode}: {up.text}"
            assert time.monotonic() < deadline, f"driftline up did not start: {up.text}"
            said = [line for line in up.text.splitlines() if line.startswith("driftline hub at ")]
            up.url = said[0].split()[3] if said else ""
            time.sleep(0.02)
        return up


@pytest.fixture
def driftline_up(tmp_path: Path) -> Iterator[Starter]:
    """A function that starts the real command, with its device `hub`, and returns where it answers."""
    starter = Starter(tmp_path)
    yield starter
    for up in starter.started:
        try:
            up.stop()
        finally:
            if up.process.poll() is None:
                os.killpg(up.process.pid, signal.SIGKILL)
                up.process.wait()
