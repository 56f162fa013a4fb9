"""Keeps a device's worker running: starts it, starts it again when it ends or hangs, stops it in order."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

log = logging.getLogger("driftline.edge")
PAUSE_FIRST_S, PAUSE_MAX_S = 1.0, 60.0
# A worker that ran for so long had got over what ended the one before.
SETTLED_S = 60.0
# A worker beats twice a second; importing its libraries takes a slow board 20 s.
SILENT_S_MAX = 120.0
# Finishing inferences takes it up to 3 s.
STOP_S = 6.0

# What to tell of a worker's end: a sentence.
Ended = Callable[[str], None]


class Supervisor:
    """One child process and its restarts; every method but `heard` belongs to one thread."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        ended: Ended,
        *,
        real_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._ended = ended
        self._real_s = real_s
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = self._heard_s = 0.0
        self._again_s = 0.0
        self._pause_s = PAUSE_FIRST_S
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
            self._note_end(now_s, f"the worker {_how(code)}")
        elif now_s - self._heard_s > SILENT_S_MAX:
            self._process.kill()
            self._process.wait()
            self._note_end(now_s, f"the worker gave no sign of life for {SILENT_S_MAX:g} s and was killed")

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
            self._pause_s = PAUSE_FIRST_S
        log.warning("%s; it is started again in %g s", text, self._pause_s)
        self.trouble = text
        self._again_s = now_s + self._pause_s
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
        self._ended(text)


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


def _how(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with code {code}"
