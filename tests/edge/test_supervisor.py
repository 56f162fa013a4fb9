"""A worker's ends as its supervisor tells them: real processes, a clock that is moved by hand."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from driftline.edge.supervisor import PAUSE_MAX_S, SETTLED_S, Supervisor

TIMEOUT_S = 20.0


class Watched:
    """A supervisor and what it told."""

    def __init__(self, *command: str, silent_s_max: float = 120) -> None:
        self.now_s = 1000.0
        self.told: list[tuple[str, Mapping[str, float]]] = []
        self.supervisor = Supervisor(
            command,
            os.environ,
            lambda text, facts: self.told.append((text, facts)),
            silent_s_max=silent_s_max,
            real_s=lambda: self.now_s,
        )

    def until_told(self) -> tuple[str, Mapping[str, float]]:
        """Tick, while no time passes, until the worker has ended."""
        deadline = time.monotonic() + TIMEOUT_S
        count = len(self.told)
        while len(self.told) == count:
            assert time.monotonic() < deadline, "it did not end"
            self.supervisor.tick()
            time.sleep(0.01)
        return self.told[-1]


@pytest.fixture
def started() -> Iterator[list[Watched]]:
    every: list[Watched] = []
    yield every
    for one in every:
        if one.supervisor.pid is not None:
            os.kill(one.supervisor.pid, signal.SIGKILL)


def watched(started: list[Watched], *command: str, silent_s_max: float = 120) -> Watched:
    started.append(Watched(*command, silent_s_max=silent_s_max))
    return started[-1]


def test_a_worker_that_crashes_again_and_again_is_started_more_and_more_seldom(started: list[Watched]):
    one = watched(started, sys.executable, "-c", "import sys; sys.exit(3)")
    pauses: list[float] = []
    for _ in range(9):
        _, facts = one.until_told()
        pauses.append(facts["pause_s"])
        one.supervisor.tick()
        assert one.supervisor.pid is None
        one.now_s += facts["pause_s"]
    assert pauses == [1, 2, 4, 8, 16, 32, PAUSE_MAX_S, PAUSE_MAX_S, PAUSE_MAX_S]
    assert one.told[0][0] == "the worker ended with code 3"
    assert one.told[2] == (
        "the worker ended with code 3, the 3rd time soon after its start",
        {"ran_s": 0, "times": 3, "pause_s": 4},
    )
    assert one.supervisor.trouble is not None
    assert one.supervisor.trouble.endswith("the 9th time soon after its start; it is started again in 60 s")


def test_a_worker_that_ran_for_long_is_started_again_soon(started: list[Watched]):
    one = watched(started, "sleep", "600")
    for _ in range(3):
        one.supervisor.tick()
        assert one.supervisor.pid is not None
        one.now_s += SETTLED_S + 1
        os.kill(one.supervisor.pid, signal.SIGKILL)
        assert one.until_told() == (
            "the worker was ended by SIGKILL",
            {"ran_s": SETTLED_S + 1, "times": 1, "pause_s": 1},
        )
        one.now_s += 1


def test_a_worker_that_hangs_is_killed_after_its_time_and_not_before(started: list[Watched]):
    one = watched(started, "sleep", "600", silent_s_max=7)
    one.supervisor.tick()
    one.now_s += 6
    one.supervisor.heard()
    one.now_s += 7
    one.supervisor.tick()
    assert not one.told
    pid = one.supervisor.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    one.now_s += 0.5
    one.supervisor.tick()
    assert one.told[0][0] == "the worker gave no sign of life for 7 s and was killed"
    assert not Path(f"/proc/{pid}").exists()


GREEDY = """
import sys, time
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
time.sleep(1.5)
held = [bytearray(b"x") * (1 << 20) for _ in range(400)]
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that may use 50 MiB; skipped where this user can make none."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    places = [
        Path("/sys/fs/cgroup") / names / path.lstrip("/") / f"driftline-test-{os.getpid()}"
        for _, names, path in lines
        if names == "memory" or (not names and path != "/")
    ]
    made = next((one for one in places if _make(one)), None)
    if made is None:
        pytest.skip("no control group with a memory limit can be made here")
    yield made
    made.rmdir()


def _make(group: Path) -> bool:
    try:
        group.mkdir()
        limit = next((one for one in ("memory.max", "memory.limit_in_bytes") if (group / one).exists()), None)
        if limit is None:
            group.rmdir()
            return False
        (group / limit).write_text(str(50 * 1024 * 1024))
    except OSError:
        return False
    return True


def test_a_worker_ended_for_lack_of_memory_is_told_in_words(started: list[Watched], group: Path):
    one = watched(started, sys.executable, "-c", GREEDY, str(group))
    deadline = time.monotonic() + TIMEOUT_S
    while not one.told:
        assert time.monotonic() < deadline
        one.supervisor.tick()
        one.now_s += 0.05
        one.supervisor.heard()
        time.sleep(0.05)
    text, _ = one.told[0]
    assert text.startswith(
        "the worker needed more memory than there is and was ended by the kernel (it may use 50 MiB)"
    )
    assert "raise the memory limit" in text
    # The one after it ended otherwise, in the same group or not.
    one.now_s += 100
    one.supervisor.tick()
    assert one.supervisor.pid is not None
    os.kill(one.supervisor.pid, signal.SIGKILL)
    assert one.until_told()[0].startswith("the worker was ended by SIGKILL")
