"""The process that holds somebody's own model: `python -P -m driftline.pipeline.sidecar SOCKET-NUMBER`.

It is told the folder and its limits, imports `model.py` from there, makes its `Model`, and predicts until the worker
hangs up (`driftline.pipeline.channel` has the messages). What the model prints goes to standard error.
"""

import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from driftline.pipeline.channel import ARRAYS, FAILED, LOAD, READY, Channel
from driftline.pipeline.limits import Limits
from driftline.wire.arrays import Array, pack_arrays, unpack_arrays

# The last frames of a traceback say where; the first ones are ours.
TRACEBACK_LINES_MAX = 8
_ORPHAN_LOOK_S = 1.0


class BadModelError(Exception):
    """The model is not what a custom model has to be; the message needs no traceback."""


def main(arguments: Sequence[str]) -> int:
    """Serve one model; 0 when the worker hangs up, 1 where the model cannot be loaded."""
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    _end_with_the_worker()
    # Ctrl-C in a terminal reaches every process of it; the worker decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        kind, payload = channel.receive()
        return _serve(channel, json.loads(payload)) if kind == LOAD else 1
    except EOFError:
        return 0


def _serve(channel: Channel, request: Mapping[str, Any]) -> int:
    """Load the model and answer until the worker hangs up."""
    limits, folder = Limits(**request["limits"]), Path(request["folder"])
    limits.apply()
    # sys.exit() in a model is a failure like any other, hence BaseException.
    try:
        model = load(folder)
    except BaseException as error:  # noqa: BLE001
        channel.send(FAILED, _told(error, folder, limits).encode())
        return 1
    channel.send(READY)
    while True:
        _, payload = channel.receive()
        try:
            answer = predict(model, payload, request["outputs"])
        except BaseException as error:  # noqa: BLE001
            channel.send(FAILED, _told(error, folder, limits).encode())
        else:
            channel.send(ARRAYS, answer)


def load(folder: Path) -> Any:
    """Import `model.py` of a folder and return its `Model`, loaded."""
    os.chdir(folder)
    # Modules beside model.py can be imported, as if it were run as a script.
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    if spec is None or spec.loader is None:
        raise BadModelError("model.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    kind = getattr(module, "Model", None)
    lacking = [name for name in ("load", "predict") if not callable(getattr(kind, name, None))]
    if not isinstance(kind, type) or lacking:
        raise BadModelError(
            "model.py needs a class Model with load(self, folder) and predict(self, inputs); "
            + ("there is no such class" if not isinstance(kind, type) else f"it has no {' and no '.join(lacking)}")
        )
    model: Any = kind()
    model.load(folder)
    return model


def predict(model: Any, payload: bytes, outputs: Sequence[str]) -> bytes:
    """Run one prediction on packed arrays; returns the packed outputs that the schema names."""
    # Bytes from the wire are read-only and at any address; user code may write into its inputs.
    inputs = {name: np.require(array, requirements=["C", "W", "A"]) for name, array in unpack_arrays(payload).items()}
    given: object = model.predict(inputs)
    if not isinstance(given, Mapping):
        raise BadModelError(f"predict returned {type(given).__name__}; it returns a dict of arrays by output name")
    made = cast("Mapping[str, object]", given)
    missing = [name for name in outputs if name not in made]
    if missing:
        raise BadModelError(
            f"predict gave no {', '.join(missing)}; the output schema has {', '.join(outputs)}, "
            f"predict gave {', '.join(map(str, made)) or 'nothing'}"
        )
    return pack_arrays({name: _plain(name, made[name]) for name in outputs})


def _plain(name: str, value: object) -> Array:
    try:
        array: Array = np.asarray(value)
        if array.dtype == object:
            # Strings from pandas come as objects; anything else has no fixed size.
            array = np.asarray(array.tolist())
    except ValueError:
        raise BadModelError(f"output {name!r} is a list of lists of different lengths; give one array") from None
    if array.dtype.kind not in "biufU":
        raise BadModelError(f"output {name!r} is {type(value).__name__} ({array.dtype}); give numbers, bools or text")
    return array


def _told(error: BaseException, folder: Path, limits: Limits) -> str:
    """Say what went wrong in the model's own code."""
    if isinstance(error, BadModelError):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        what += f" (it runs with {limits.memory_text})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    lines = [
        line.replace(str(folder) + os.sep, "") for text in traceback.format_list(frames) for line in text.splitlines()
    ]
    return "\n".join([what, *lines[-TRACEBACK_LINES_MAX:]])


def _end_with_the_worker() -> None:
    """End when the worker was killed: a model that never returns does not notice that nobody listens."""
    worker = os.getppid()

    def look() -> None:
        while os.getppid() == worker:
            time.sleep(_ORPHAN_LOOK_S)
        os._exit(0)

    threading.Thread(target=look, daemon=True, name="orphan-watch").start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
