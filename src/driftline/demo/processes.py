"""The demo's real processes: a hub and its devices, started and stopped through the command line as a user would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from driftline.clock import VARIABLE
from driftline.errors import PermanentError

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
# What ends a program from outside: Ctrl-C, kill, and a terminal that is closed.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Processes:
    """A hub, its devices, and their logs under one folder; leaving the context stops them all."""

    def __init__(self, home: Path, clock: str) -> None:
        self.home = home
        self._environment = os.environ | {VARIABLE: clock, "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave half of them running: they have sessions of their own.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
        try:
            # Devices first, while the hub still answers their last sync.
            for name in sorted(self._running, key="hub".__eq__):
                self._stop(name)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hub(self) -> str:
        """Start the hub on a free port; return its address once it answers."""
        self._start("hub", ["up", "--home", str(self.home / "hub"), "--port", "0"])
        log = self.log("hub")
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("driftline hub at "):
                    return line.split()[3]
            time.sleep(0.05)
        raise PermanentError(f"the hub did not start within {START_TIMEOUT_S:g} s; its log is {log}")

    def join(self, device: str, token: str) -> None:
        """Make a folder on this machine a device of the hub."""
        command = self._command(["edge", "join", token, "--home", str(self._device_home(device))])
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermanentError(f"{device} could not join: {done.stderr.strip() or done.stdout.strip()}")

    def run(self, device: str, arguments: Sequence[str]) -> None:
        """Start a device that has joined."""
        home = str(self._device_home(device))
        self._start(device, ["edge", "run", "--home", home, "--serve", "127.0.0.1:0", *arguments])

    def check(self) -> None:
        """Raise when a process has ended that should be running, with the end of its log."""
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-8:])
                raise PermanentError(f"{name} ended with code {process.returncode}; the end of its log:\n{tail}")

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.home / f"{name}.log"

    def _device_home(self, device: str) -> Path:
        return self.home / device

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "driftline.cli", *arguments]

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the others in order.
            self._running[name] = subprocess.Popen(
                self._command(arguments),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _stop(self, name: str) -> None:
        process = self._running.get(name)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
