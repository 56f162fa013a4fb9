"""Runs a pipeline: steps one after the other, then the observers, and out come the values that are recorded.

with Pipeline(definition, {model id: file}) as pipeline:
    outputs = pipeline.frame(frame)
    values = pipeline.values({"image": frame}, outputs)
"""

import hashlib
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from driftline.errors import InvalidInputError, PermanentError
from driftline.framework import Framework
from driftline.pipeline.bundle import model_folder
from driftline.pipeline.definition import RECORDED_SIZE_MAX, VERSION, recorded_fields
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.iopath import Side, key_of
from driftline.pipeline.limits import Limits
from driftline.pipeline.observers.detections import detection_fields
from driftline.pipeline.projection import Projection
from driftline.pipeline.python_step import PythonStep
from driftline.pipeline.schema import Field, listed, parse_schema
from driftline.pipeline.step import Step
from driftline.pipeline.values import Plain, as_array, logged, plain, undeclared
from driftline.wire.arrays import Array
from driftline.wire.device import ColumnType, VectorProjection


class Pipeline:
    """One pipeline version, ready to answer; one inference at a time, from any thread.

    `files` has the model file (or folder) of every step by model id. `sidecar_limits` holds custom steps, by model id:
    `cpus` and `memory_bytes`. `workdir` is where zips are unpacked while the pipeline is open, a temporary folder
    where None. `extra_fields` are recorded besides the definition's own, those made of whole vectors by `projections`
    (by the vectors' keys). `threads` is for onnxruntime in this pipeline, and for OpenCV in the whole process.

    Raises:
        InvalidInputError: a definition of another version, or an extra field that it does not have.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        files: Mapping[str, Path],
        *,
        threads: int = 1,
        sidecar_limits: Mapping[str, Mapping[str, float]] | None = None,
        workdir: Path | None = None,
        extra_fields: Sequence[str] = (),
        projections: Mapping[str, VectorProjection] | None = None,
    ) -> None:
        if definition.get("version") != VERSION:
            raise InvalidInputError(
                f"a pipeline definition of version {definition.get('version')!r}; "
                f"this program runs version {VERSION}, update the older of device and hub"
            )
        self.name = str(definition["pipeline"])
        self._definition = definition
        self._files = files
        self._threads = threads
        self._sidecar_limits = sidecar_limits or {}
        self._workdir = workdir
        self._inputs = parse_schema(definition["inputs"])
        outputs = parse_schema(definition["outputs"])
        observers = [one.get("observer") for one in definition["outputs"]]
        self._outputs = tuple(field for field, by in zip(outputs, observers, strict=True) if by is None)
        self._observed = {field.name: str(by) for field, by in zip(outputs, observers, strict=True) if by is not None}
        self._fields: dict[tuple[Side, str], Field] = {("out", field.name): field for field in outputs}
        self._fields |= {("in", field.name): field for field in self._inputs}
        self.record_also(extra_fields, projections)
        self._lock = threading.RLock()
        self._steps: list[tuple[tuple[Field, ...], Step]] | None = None
        self._open = ExitStack()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record_also(
        self, extra_fields: Sequence[str], projections: Mapping[str, VectorProjection] | None = None
    ) -> None:
        """Record these fields besides the definition's own, from the next inference on.

        Raises:
            InvalidInputError: a field that the pipeline does not have.
        """
        fields = recorded_fields(self._definition, extra_fields)
        made: set[tuple[Side, str]] = {(one.side, one.name) for one in fields if one.part}
        known: dict[tuple[Side, str], Any] = {
            (side, name): (projections or {}).get(key_of(side, name)) for side, name in made
        }
        projected: dict[tuple[Side, str], Projection] = {
            vector: Projection.of(told) for vector, told in known.items() if told is not None
        }
        # One assignment: an inference in another thread sees either all of it or nothing.
        self._recorded = ([one for one in fields if not one.part], projected)

    def start(self) -> None:
        """Load every step; what was loaded already stays.

        Raises:
            InvalidInputError: a model's file is missing or not what was published, or it cannot be loaded.
        """
        with self._lock:
            if self._closed:
                raise PermanentError(f"pipeline {self.name!r} is closed; make a new one")
            if self._steps is not None:
                return
            if "image" in self._definition["observers"]:
                _hold_opencv(self._threads)
            try:
                self._steps = [self._load(step) for step in self._definition["steps"]]
            except BaseException:
                self._open.close()
                raise

    def _load(self, document: Mapping[str, Any]) -> tuple[tuple[Field, ...], Step]:
        name, model = str(document["name"]), str(document["model"])
        path = self._files.get(model)
        if path is None or not path.exists():
            raise InvalidInputError(f"the file of model {name!r} is not on this device")
        inputs, outputs = parse_schema(document["input_schema"]), parse_schema(document["output_schema"])
        step: Step
        if Framework.parse(document["framework"]) is Framework.ONNX:
            # onnxruntime costs 16 MB, which a pipeline of custom steps does not need.
            from driftline.pipeline.onnx_step import OnnxStep, verified_bytes

            detector = None if document.get("detector") is None else DetectorConfig.parse(document["detector"])
            content = verified_bytes(path, document["digest"])
            step = OnnxStep(name, content, inputs, outputs, detector, threads=self._threads)
        else:
            limits = self._sidecar_limits.get(model, {})
            folder = model_folder(_verified(path, document["digest"]), self._scratch())
            held = Limits(cpus=limits.get("cpus"), memory_bytes=limits.get("memory_bytes"))
            step = PythonStep(name, folder, inputs, outputs, limits=held)
        self._open.callback(step.close)
        return inputs, step

    def _scratch(self) -> Path:
        """Make a folder that goes when the pipeline closes; one a start, since a model may write into its own."""
        if self._workdir is not None:
            self._workdir.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="model-", dir=self._workdir, ignore_cleanup_errors=True)
        return Path(self._open.enter_context(made))

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run one inference: values by input name in, arrays by output name out, observers' outputs after the model's.

        What the pipeline does not take is passed over. Loads the steps where `start` was not called.

        Raises:
            InvalidInputError: an input is missing or not what the schema says, or an output is not.
            ModelFailedError: a model failed on these values.
            TemporaryError: a custom model died or did not answer.
        """
        with self._lock:
            self.start()
            if not self._steps:
                raise InvalidInputError(
                    f"pipeline {self.name!r} has no model: your own program runs it and calls driftline.observe(…)"
                )
            given = {field.name: self._given(field, inputs) for field in self._inputs}
            made: dict[str, Array] = {}
            for fields, step in self._steps:
                taken = {
                    field.name: as_array(field, made[field.name] if field.name in made else given[field.name])
                    for field in fields
                }
                made |= step.run(taken)
            outputs = {field.name: made[field.name] for field in self._outputs}
            return outputs | self._observations(given, outputs)

    def frame(self, frame: Array) -> dict[str, Any]:
        """Run one inference on a frame, uint8 [height, width, 3] in BGR.

        Where the pipeline has no model, the result is what the image observer sees.

        Raises:
            InvalidInputError: the pipeline takes something else than one frame; otherwise as `infer`.
        """
        if not self._definition["steps"]:
            return _scalars(_image_fields(frame))
        name = self._definition["image"] or next((field.name for field in self._inputs if field.is_image), None)
        if name is None or len(self._inputs) != 1:
            raise InvalidInputError(
                f"pipeline {self.name!r} takes no camera: it needs exactly one input, a frame (uint8 [?,?,3]); "
                f"it has {listed(self._inputs)}"
            )
        return self.infer({name: frame})

    def _given(self, field: Field, inputs: Mapping[str, Any]) -> Array:
        if field.name not in inputs:
            raise InvalidInputError(
                f"pipeline {self.name!r} needs the input {field.name!r}; "
                f"it takes {listed(self._inputs)}, it was given {', '.join(inputs) or 'nothing'}"
            )
        return as_array(field, inputs[field.name])

    def _observations(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the observers make of an inference, without what the model gives itself."""
        seen: dict[str, float] = {}
        observers = set(self._observed.values())
        if "image" in observers:
            seen |= _image_fields(inputs[self._definition["image"]])
        if "detections" in observers:
            found = self._definition["detections"]
            classes = None if found["classes"] is None else outputs[found["classes"]].tolist()
            seen |= detection_fields(outputs[found["confidences"]].tolist(), classes, found["class_names"])
        return _scalars({name: seen[name] for name in self._observed})

    def values(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Plain]:
        """Return what is recorded of an inference, by field key: a float, a category, or None where it is missing."""
        if not self._definition["steps"]:
            return self._undeclared(inputs, outputs)
        arrays = _Cache(self._fields, {"in": inputs, "out": outputs})
        recorded: dict[str, Plain] = {}
        fields, projections = self._recorded
        for field in fields:
            array = arrays.of(field.side, field.name)
            recorded[field.key] = None if array is None else plain(array, field)
        for (side, name), projection in projections.items():
            numbers = projection.numbers(arrays.of(side, name))
            recorded |= {f"{side}.{name}.{part}": number for part, number in numbers.items()}
        return recorded

    def _undeclared(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Plain]:
        """Record every number, word and short list: in a pipeline without steps nothing says what there is."""
        return {
            f"{side}.{tail}": value
            for side, given in (("out", outputs), ("in", inputs))
            for name, whole in given.items()
            for tail, value in undeclared(name, whole, RECORDED_SIZE_MAX)
        }

    def log_values(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, tuple[ColumnType, Any]]:
        """Return an inference as one row of the log, by `in.<field>` and `out.<field>`: column type and plain value.

        Raw frames and tensors of more than 4096 elements are left out; see `driftline.pipeline.values.logged`.
        """
        if not self._definition["steps"]:
            plain_values = self._undeclared(inputs, outputs)
            return {key: ("s" if isinstance(value, str) else "d", value) for key, value in plain_values.items()}
        row: dict[str, tuple[ColumnType, Any]] = {}
        arrays = _Cache(self._fields, {"in": inputs, "out": outputs})
        for (side, name), field in sorted(self._fields.items(), key=lambda one: one[0][0]):
            if field.is_image:
                continue
            array = arrays.of(side, name)
            cell = None if array is None else logged(field, array)
            if cell is not None:
                row[f"{side}.{name}"] = cell
        return row

    def close(self) -> None:
        """End custom models, give memory back, remove what was unpacked. A closed pipeline stays closed."""
        with self._lock:
            self._closed = True
            self._steps = None
            self._open.close()


class _Cache:
    """Inputs and outputs as arrays of their fields' types, each converted once and only where somebody asks."""

    def __init__(self, fields: Mapping[tuple[Side, str], Field], given: Mapping[Side, Mapping[str, Any]]) -> None:
        self._fields = fields
        self._given = given
        self._arrays: dict[tuple[Side, str], Array | None] = {}

    def of(self, side: Side, name: str) -> Array | None:
        if (side, name) not in self._arrays:
            value = self._given[side].get(name)
            self._arrays[side, name] = None if value is None else as_array(self._fields[side, name], value)
        return self._arrays[side, name]


def _verified(path: Path, digest: str) -> Path:
    """Return the path of a custom model; a file's content is checked, a folder is the caller's own."""
    if digest and path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise InvalidInputError(f"the model file {path.name} is not what was published (its SHA-256 differs)")
    return path


def _scalars(fields: Mapping[str, float]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float64) for name, value in fields.items()}


def _hold_opencv(threads: int) -> None:
    # With a thread a core, OpenCV spends twice the CPU on a small frame, most of it waiting for one another.
    import cv2

    cv2.setNumThreads(threads)


def _image_fields(frame: Array) -> dict[str, float]:
    # OpenCV is needed only where there is a picture to look at.
    from driftline.pipeline.observers.image import image_fields

    return image_fields(frame)
