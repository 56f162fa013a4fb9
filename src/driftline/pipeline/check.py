"""Does an uploaded model run? It is loaded and tried on made-up inputs, in a process that can be stopped.

A model is somebody else's program: 207 bytes of ONNX loop for ever, one kilobyte takes 38 s to load. So CPU time,
memory and wall time are limited, and nothing of it is ever loaded into the process that asks. A custom model gets its
own process as on a device (`driftline.pipeline.python_step`); an ONNX graph is tried in
`python -P -m driftline.pipeline.check`, which reads a request as JSON from standard input and writes lines of JSON:
`{"stage"}` as it goes, then `{"ok"}` or `{"error"}`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftline.errors import InvalidInputError, NotYetError, TemporaryError
from driftline.framework import Framework
from driftline.pipeline.bundle import model_folder
from driftline.pipeline.definition import check_detector
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.limits import Limits
from driftline.pipeline.python_step import PythonStep
from driftline.pipeline.schema import FLOATS, Field, parse_schema
from driftline.pipeline.step import ModelFailedError, Step
from driftline.wire.arrays import Array

# A length that varies gets this one; a frame of varying size is a very small picture.
VARIABLE_LENGTH = 3
FRAME_HEIGHT, FRAME_WIDTH = 48, 64


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """What trying a model may cost: seconds of CPU, seconds of wall time, bytes of memory besides the file's own.

    Loading a large detector takes about 2 s of CPU, importing PyTorch 5.
    """

    cpu_s: float = 20.0
    wall_s: float = 60.0
    memory_bytes: int = 2 << 30

    def process(self, size: int) -> Limits:
        """Return the limits of the process that tries a model file of `size` bytes."""
        # The file's bytes, the parsed graph, and the session's own copy of the weights.
        return Limits(memory_bytes=self.memory_bytes + 4 * size, cpu_s=self.cpu_s)


def check_model(
    framework: str,
    path: Path,
    input_schema: Sequence[Field],
    output_schema: Sequence[Field],
    detector: DetectorConfig | None = None,
    *,
    limits: CheckLimits | None = None,
) -> None:
    """Load a model and try it on random values and on zeros; it passes where it answers one of them as its schema says.

    Raises:
        InvalidInputError: why it does not run: its schema (with what the graph has), its code, or its limits.
        NotYetError: a custom model with a requirements.txt.
    """
    limits = limits or CheckLimits()
    kind = Framework.parse(framework)
    if not path.exists():
        raise InvalidInputError("the model's file is not there; upload it again")
    if not input_schema or not output_schema:
        raise InvalidInputError("give at least one field in the input schema and one in the output schema")
    if detector is not None:
        check_detector("model", kind, input_schema, output_schema, detector)
    try:
        if kind is Framework.ONNX:
            _check_onnx(path, input_schema, output_schema, detector, limits)
        else:
            _check_custom(path, input_schema, output_schema, limits)
    except (ModelFailedError, TemporaryError) as error:
        raise InvalidInputError(f"tried on made-up inputs: {error}") from error


def _check_custom(path: Path, inputs: Sequence[Field], outputs: Sequence[Field], limits: CheckLimits) -> None:
    with tempfile.TemporaryDirectory(prefix="driftline-check-", ignore_cleanup_errors=True) as scratch:
        folder = model_folder(path, Path(scratch))
        if (folder / "requirements.txt").exists():
            raise NotYetError(
                "the custom model brings a requirements.txt, and driftline cannot make an environment for it yet; "
                "use what is installed with driftline[edge] (numpy, onnxruntime, OpenCV), put pure Python modules into "
                "the folder, and leave requirements.txt out"
            )
        size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
        step = PythonStep(
            "",
            folder,
            inputs,
            outputs,
            limits=limits.process(size),
            load_timeout_s=limits.wall_s,
            predict_timeout_s=limits.wall_s,
        )
        with closing(step):
            dry_run(step, inputs)


def _check_onnx(
    path: Path,
    inputs: Sequence[Field],
    outputs: Sequence[Field],
    detector: DetectorConfig | None,
    limits: CheckLimits,
) -> None:
    held = limits.process(path.stat().st_size)
    request = {
        "path": str(path.resolve()),
        "inputs": [field.document for field in inputs],
        "outputs": [field.document for field in outputs],
        "detector": None if detector is None else detector.document,
        "limits": held.document,
    }
    command = [sys.executable, "-P", "-m", "driftline.pipeline.check"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=limits.wall_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        stage = _said(error.stdout or b"").get("stage", "starting")
        raise InvalidInputError(f"{stage} it took more than {limits.wall_s:g} s, so it was stopped") from error
    said = _said(done.stdout)
    if "error" in said:
        # onnxruntime passes a failed allocation on as one more error of the graph.
        memory = any(sign in said["error"] for sign in ("allocate memory", "bad_alloc", "MemoryError"))
        raise InvalidInputError(said["error"] + (f" (it runs with {held.memory_text})" if memory else ""))
    if "ok" not in said:
        raise InvalidInputError(f"{said.get('stage', 'starting')} it failed: {held.ending(done.returncode)}")


def _said(output: bytes) -> dict[str, Any]:
    """Return what the process said, the last word on each matter."""
    said: dict[str, Any] = {}
    for line in output.splitlines():
        said |= json.loads(line)
    return said


def dry_run(step: Step, inputs: Sequence[Field]) -> None:
    """Try a model on made-up inputs: one success is enough, since not every model has an answer to noise.

    Raises:
        ModelFailedError: it failed on all of them.
        InvalidInputError: an output is not what the schema promises.
    """
    failures: list[ModelFailedError] = []
    for made_up in made_up_inputs(inputs):
        try:
            step.run(made_up)
        except ModelFailedError as error:
            failures.append(error)
        else:
            return
    raise failures[0]


def made_up_inputs(inputs: Sequence[Field]) -> Iterator[dict[str, Array]]:
    """Yield random inputs of a schema, the same every time, then zeros."""
    generator = np.random.default_rng(0)
    yield {field.name: _random(field, generator) for field in inputs}
    yield {field.name: np.zeros(_shape(field), _random(field, generator).dtype) for field in inputs}


def _random(field: Field, generator: np.random.Generator) -> Array:
    shape = _shape(field)
    if field.type == "string":
        return np.full(shape, "a")
    if field.is_image:
        return generator.integers(0, 256, shape, np.uint8)
    if field.type in FLOATS:
        return generator.random(shape).astype(field.type)
    # An integer is often an index, and 0 and 1 are the only ones every table has.
    return generator.integers(0, 2, shape).astype(field.type)


def _shape(field: Field) -> list[int]:
    if field.is_image:
        return [length or small for length, small in zip(field.shape, (FRAME_HEIGHT, FRAME_WIDTH, 3), strict=True)]
    return [length or VARIABLE_LENGTH for length in field.shape]


def main() -> int:
    """Try the ONNX graph that standard input names."""
    # Imported before the limits count, and only here: the process that asks needs no onnxruntime.
    from driftline.pipeline.onnx_step import OnnxStep, verified_bytes

    request = json.load(sys.stdin)
    Limits(**request["limits"]).apply()
    inputs, outputs = parse_schema(request["inputs"]), parse_schema(request["outputs"])
    detector = None if request["detector"] is None else DetectorConfig.parse(request["detector"])
    try:
        _say(stage="while it was loaded,")
        step = OnnxStep("", verified_bytes(Path(request["path"])), inputs, outputs, detector)
        _say(stage="tried on made-up inputs,")
        dry_run(step, inputs)
    except ModelFailedError as error:
        _say(error=f"tried on made-up inputs: {error}")
    except InvalidInputError as error:
        _say(error=str(error))
    except MemoryError:
        _say(error="it needs too much memory (MemoryError)")
    else:
        _say(ok=True)
    return 0


def _say(**word: object) -> None:
    print(json.dumps(word), flush=True)


if __name__ == "__main__":
    sys.exit(main())
