"""Keeps a device's worker running: starts it, starts it again when it ends or hangs, stops it in order."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from driftline.edge.limits import MemoryDeaths

log = logging.getLogger("driftline.edge")
PAUSE_FIRST_S, PAUSE_MAX_S = 1.0, 60.0
# A worker that ran for so long had got over what ended the one before.
SETTLED_S = 60.0
# A worker beats twice a second; importing its libraries takes a slow board 20 s.
SILENT_S_MAX = 120.0
# Finishing inferences takes it up to 3 s.
STOP_S = 6.0

# What to tell of a worker's end: a sentence, and what else is known of it.
Ended = Callable[[str, Mapping[str, float]], None]


class Deaths(Protocol):
    """Knows whether the kernel has ended a process for lack of memory."""

    def watch(self, pid: int) -> None:
        """Take note of how things are while this process lives."""
        ...

    def why(self) -> str | None:
        """Say in words why the process that was watched was ended by SIGKILL, None where memory was not the reason."""
        ...


class Supervisor:
    """One child process and its restarts; every method but `heard` belongs to one thread."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        ended: Ended,
        *,
        silent_s_max: float = SILENT_S_MAX,
        deaths: Deaths | None = None,
        real_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silent_s_max = silent_s_max
        self._deaths = MemoryDeaths() if deaths is None else deaths
        self._command = list(command)
        self._environment = dict(environment)
        self._ended = ended
        self._real_s = real_s
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = self._heard_s = 0.0
        self._again_s = 0.0
        self._pause_s = PAUSE_FIRST_S
        self._times = 0
        self.trouble: str | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        process = self._process  # other threads ask too
        return None if process is None else process.pid

    def heard(self) -> None:
        """Note a sign of life."""
        self._heard_s = self._real_s()

    def tick(self) -> None:
        """Start the worker where it is due; notice that it ended; kill it where it hangs."""
        now_s = self._real_s()
        if self._process is None:
            if now_s >= self._again_s:
                self._start(now_s)
            return
        code = self._process.poll()
        if code is not None:
            self._note_end(now_s, f"the worker {self._how(code)}")
        elif now_s - self._heard_s > self._silent_s_max:
            self._process.kill()
            self._process.wait()
            self._note_end(now_s, f"the worker gave no sign of life for {self._silent_s_max:g} s and was killed")
        else:
            self._deaths.watch(self._process.pid)

    def stop(self) -> None:
        """Ask the worker to finish and hand over; kill it where that takes too long."""
        if self._process is not None and self._process.poll() is None:
            terminate(self._process)
        self._process = None

    def _start(self, now_s: float) -> None:
        self._started_s = self._heard_s = now_s
        try:
            self._process = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.DEVNULL)
        except OSError as error:  # no memory or no process left, for now
            self._note_end(now_s, f"the worker could not be started ({error})")

    def _note_end(self, now_s: float, text: str) -> None:
        self._process = None
        if now_s - self._started_s > SETTLED_S:
            self._pause_s, self._times = PAUSE_FIRST_S, 0
        self._times += 1
        if self._times > 1:
            text += f", the {_ordinal(self._times)} time soon after its start"
        log.warning("%s; it is started again in %g s", text, self._pause_s)
        self.trouble = f"{text}; it is started again in {self._pause_s:g} s"
        self._again_s = now_s + self._pause_s
        facts = {"ran_s": round(now_s - self._started_s, 1), "times": self._times, "pause_s": self._pause_s}
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
        self._ended(text, facts)

    def _how(self, code: int) -> str:
        memory = self._deaths.why() if code == -signal.SIGKILL else None
        return _how(code) if memory is None else memory


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Ask a child to end, and make it after `STOP_S`."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        log.warning("the worker did not stop within %g s and was killed", STOP_S)
        process.kill()
        process.wait()


def dismiss(pid: int, home: Path) -> None:
    """End a worker whose agent was killed, giving it time to hand over what it counted.

    Nothing happens where the process of this id is not such a worker: ids are used again.
    """
    if not _is_worker(pid, home):
        return
    log.info("a worker is left of an agent that was killed (pid %d); it hands over what it counted", pid)
    for sent, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 1.0)):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return
        deadline_s = time.monotonic() + wait_s
        while time.monotonic() < deadline_s and _is_worker(pid, home):
            time.sleep(0.05)


def _is_worker(pid: int, home: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"driftline.edge.worker" in words and os.fsencode(home) in words


def _ordinal(number: int) -> str:
    """Write a number of times.

    >>> [_ordinal(one) for one in (2, 3, 4, 11, 22)]
    ['2nd', '3rd', '4th', '11th', '22nd']
    """
    tail = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{tail}"


def _how(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with code {code}"
