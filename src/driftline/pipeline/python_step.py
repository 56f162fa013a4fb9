"""A step that is somebody's own Python: kept in a process of its own, so that it may crash, hang or leak alone.

The process (`driftline.pipeline.sidecar`) is started again once when it dies; what it prints goes to standard error.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from driftline.errors import InvalidInputError, TemporaryError
from driftline.pipeline.channel import ARRAYS, FAILED, LOAD, PREDICT, READY, Channel
from driftline.pipeline.limits import Limits
from driftline.pipeline.schema import Field
from driftline.pipeline.step import ModelFailedError, called
from driftline.pipeline.values import as_array
from driftline.wire.arrays import Array, pack_arrays, unpack_arrays

# Loading weights from a slow card takes a minute; one prediction never should.
LOAD_TIMEOUT_S = 120.0
PREDICT_TIMEOUT_S = 60.0
_END_S = 2.0
_LOG_LINES, _LINE_CHARACTERS_MAX = 12, 2000
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class PythonStep:
    """One custom model in its own process."""

    def __init__(
        self,
        name: str,
        folder: Path,
        inputs: Sequence[Field],
        outputs: Sequence[Field],
        *,
        limits: Limits | None = None,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        predict_timeout_s: float = PREDICT_TIMEOUT_S,
    ) -> None:
        """Start the process and load the model.

        Raises:
            InvalidInputError: the model cannot be loaded; the message has the last lines of its traceback.
        """
        self.name = name
        self._folder = folder.resolve()
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._limits = limits or Limits()
        self._load_timeout_s, self._predict_timeout_s = load_timeout_s, predict_timeout_s
        self._process: _Process | None = self._started()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference, arrays as the schemas say; a process that died is started again once.

        Raises:
            ModelFailedError: the model raised an error; the message has the last lines of its traceback.
            InvalidInputError: what it gave is not what the schema promises.
            TemporaryError: it died twice, or did not answer in time.
        """
        request = pack_arrays({field.name: inputs[field.name] for field in self._inputs})
        try:
            kind, payload = self._asked(request)
        except _DiedError:
            try:
                kind, payload = self._asked(request)
            except _DiedError as error:
                raise TemporaryError(
                    f"{called(self.name)} ended twice on one inference, although it was started again: {error}"
                ) from error
        if kind == FAILED:
            raise ModelFailedError(f"{called(self.name)} failed in predict: {payload.decode(errors='replace')}")
        given = unpack_arrays(payload)
        return {field.name: self._output(field, given) for field in self._outputs}

    def _asked(self, request: bytes) -> tuple[bytes, bytes]:
        if self._process is None:
            self._process = self._started()
        try:
            self._process.channel.send(PREDICT, request, self._predict_timeout_s)
            kind, payload = self._process.channel.receive(self._predict_timeout_s)
        except TimeoutError as error:
            self.close(grace_s=0)
            raise TemporaryError(
                f"{called(self.name)} did not answer within {self._predict_timeout_s:g} s and was stopped"
            ) from error
        except EOFError as error:
            raise self._died() from error
        if kind not in {ARRAYS, FAILED}:
            self.close()
            raise TemporaryError(f"{called(self.name)} answered with something else and was stopped")
        return kind, payload

    def _output(self, field: Field, given: Mapping[str, Array]) -> Array:
        try:
            return as_array(field, given[field.name])
        except (InvalidInputError, KeyError) as error:
            raise InvalidInputError(f"{called(self.name)}: its output does not match its schema: {error}") from error

    def _started(self) -> "_Process":
        process = _Process(self.name, self._limits)
        request = {
            "folder": str(self._folder),
            "outputs": [field.name for field in self._outputs],
            "limits": self._limits.document,
        }
        try:
            process.channel.send(LOAD, json.dumps(request).encode(), self._load_timeout_s)
            kind, payload = process.channel.receive(self._load_timeout_s)
        except TimeoutError as error:
            process.end(grace_s=0)
            raise InvalidInputError(
                f"{called(self.name)} was not loaded within {self._load_timeout_s:g} s; do less in load()"
            ) from error
        except EOFError as error:
            raise InvalidInputError(f"{called(self.name)} ended while loading: {process.last_words()}") from error
        if kind != READY:
            process.end()
            raise InvalidInputError(f"{called(self.name)} cannot be loaded: {payload.decode(errors='replace')}")
        return process

    def _died(self) -> "_DiedError":
        process, self._process = self._process, None
        return _DiedError("it ended" if process is None else process.last_words())

    def close(self, *, grace_s: float = _END_S) -> None:
        """End the process, which has a moment to do so by itself."""
        if self._process is not None:
            self._process.end(grace_s=grace_s)
            self._process = None


class _DiedError(Exception):
    """The process ended instead of answering."""


class _Process:
    """The running process, the channel to it, and the last lines it wrote."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._limits = limits
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                # -P: a module in the working directory must not stand before the standard library.
                [sys.executable, "-P", "-m", "driftline.pipeline.sidecar", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(limits),
                # A group of its own, so that processes which the model starts end with it.
                start_new_session=True,
            )
        self.channel = Channel(ours)
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._pump = threading.Thread(target=self._forward, args=(name,), daemon=True, name=f"log-{name}")
        self._pump.start()

    def _forward(self, name: str) -> None:
        """Pass on what the model prints, a line at a time, and keep the last lines."""
        output: IO[bytes] | None = self._popen.stdout
        if output is None:
            return
        with output:
            while line := output.readline(_LINE_CHARACTERS_MAX):
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                # Who closed our standard error does not want to read it.
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    print(f"[{name}] {text}", file=sys.stderr)

    def last_words(self) -> str:
        """Say how a process that hung up ended, with the last lines it wrote."""
        try:
            code = self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.end()
            return "it closed its connection"
        self.end()
        return "\n".join([self._limits.ending(code), *self._lines])

    def end(self, *, grace_s: float = _END_S) -> None:
        """Hang up, wait a moment, then end the whole group."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._pump.join(_END_S)


def _environment(limits: Limits) -> dict[str, str]:
    threads = dict.fromkeys(_THREAD_VARIABLES, str(limits.threads))
    ours = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **threads, **ours}
