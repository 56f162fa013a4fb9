"""A step that is an ONNX graph, run in this process by onnxruntime; a detector also gets its frame prepared.

A session is made from bytes whose digest was checked, never from a path: by path, a model can make the runtime read
other files. Needs onnxruntime; a detector needs OpenCV.
"""

import ctypes
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# onnxruntime sends telemetry from its import on unless this is set; a device opens no socket but to its hub.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from driftline.errors import InvalidInputError
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.graph import Graph, Port, from_graph, input_fits, output_fits, ports, to_graph
from driftline.pipeline.onnx_file import has_external_data
from driftline.pipeline.schema import Field
from driftline.pipeline.step import ModelFailedError, called
from driftline.wire.arrays import Array

# Where a graph asks for thresholds and has no value of its own: what YOLOX's own demo uses.
THRESHOLDS = {"score_threshold": 0.3, "iou_threshold": 0.45}
# onnxruntime's levels: 3 is errors. Its warnings are advice to whoever exported the graph.
_LOG_ERRORS = 3


def verified_bytes(path: Path, digest: str | None = None) -> bytes:
    """Read a model file whole.

    Raises:
        InvalidInputError: not there, or not the content with this SHA-256 (hex).
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"the model file cannot be read: {error}") from error
    if digest and hashlib.sha256(model).hexdigest() != digest:
        raise InvalidInputError(f"the model file {path.name} is not what was published (its SHA-256 differs)")
    return model


class OnnxStep:
    """One graph, ready to run."""

    def __init__(
        self,
        name: str,
        model: bytes,
        inputs: Sequence[Field],
        outputs: Sequence[Field],
        detector: DetectorConfig | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """Load the graph and fit it to its schemas.

        Raises:
            InvalidInputError: no such graph, weights in other files, or schemas that do not match it.
        """
        self.name = name
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._session = _session(name, model, threads)
        self.graph = Graph(
            tuple(map(Port.of, self._session.get_inputs())),
            tuple(map(Port.of, self._session.get_overridable_initializers())),
            tuple(map(Port.of, self._session.get_outputs())),
        )
        self._check_outputs()
        self._feed: _Tensors | _Frame
        if detector is None:
            self._feed = _Tensors(name, self.graph, self._inputs)
        else:
            self._feed = _Frame(name, self.graph, self._inputs, self._outputs, detector)

    def _check_outputs(self) -> None:
        there = ports(self.graph.outputs)
        for field in self._outputs:
            port = there.get(field.name)
            if port is None:
                raise self.graph.mismatch(self.name, f"it has no output {field.name!r}")
            if not output_fits(port, field):
                hint = " (export without ZipMap)" if "map(" in port.declared else ""
                raise self.graph.mismatch(self.name, f"the output {field.text} is {port.text} there{hint}")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference, arrays as the schemas say.

        Raises:
            ModelFailedError: the graph failed on these values.
            InvalidInputError: what came out is not what the schema promises.
        """
        feed = self._feed.feed(inputs)
        names = [field.name for field in self._outputs]
        try:
            made: list[Any] = self._session.run(names, feed)
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise ModelFailedError(f"{called(self.name)} failed: {_first_line(error)}") from error
        given = {field.name: from_graph(field, array) for field, array in zip(self._outputs, made, strict=True)}
        return self._feed.finished(inputs, given)

    def close(self) -> None:
        """Give the session's memory back."""
        del self._session


class _Tensors:
    """Feeds fields into the inputs of the same names."""

    def __init__(self, name: str, graph: Graph, inputs: Sequence[Field]) -> None:
        there = ports((*graph.inputs, *graph.optional))
        self._ports: list[Port] = []
        for field in inputs:
            port = there.get(field.name)
            if port is None:
                raise graph.mismatch(name, f"it has no input {field.name!r}")
            if not input_fits(port, field):
                raise graph.mismatch(name, f"the input {field.text} is {port.text} there")
            self._ports.append(port)
        given = {field.name for field in inputs}
        self._defaults = _defaults(name, graph, [port for port in graph.inputs if port.name not in given])

    def feed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._defaults | {port.name: to_graph(port, inputs[port.name]) for port in self._ports}

    def finished(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        return outputs


class _Frame:
    """Feeds one frame into a detector, and gives what it found in pixels of that frame."""

    def __init__(
        self, name: str, graph: Graph, inputs: Sequence[Field], outputs: Sequence[Field], config: DetectorConfig
    ) -> None:
        # Only a detector needs OpenCV.
        from driftline.pipeline.picture import Picture

        port = _picture_port(name, graph, config)
        width, height = _size(name, graph, port, config)
        boxes = next(field for field in outputs if field.name == config.boxes)
        if len(boxes.shape) != 2 or boxes.shape[1] != 4:
            raise graph.mismatch(name, f"a detector's boxes are float32[?,4], the schema has {boxes.text}")
        self._config, self._frame, self._port = config, inputs[0].name, port
        self._picture = Picture(config, width, height, np.dtype(port.type))
        self._more = _defaults(name, graph, [one for one in graph.inputs if one.name != port.name])
        threshold = ports((*graph.inputs, *graph.optional)).get("score_threshold")
        self._threshold = config.score_threshold
        if threshold is not None and config.score_threshold is not None:
            self._more["score_threshold"] = _filled(threshold, config.score_threshold)
            self._threshold = None

    def feed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._more | {self._port.name: self._picture.prepare(inputs[self._frame])}

    def finished(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        config = self._config
        found = outputs | {config.boxes: self._picture.boxes_in_frame(outputs[config.boxes], inputs[self._frame])}
        if self._threshold is None:
            return found
        kept = found[config.confidences] >= self._threshold
        return found | {one: found[one][kept] for one in (config.boxes, config.classes, config.confidences)}


def _session(name: str, model: bytes, threads: int) -> Any:
    if has_external_data(model):
        raise InvalidInputError(
            f"{called(name)} keeps weights in a file beside it, which is not taken; save it as one file "
            "(onnx.save(onnx.load('model.onnx'), 'whole.onnx'), or torch.onnx.export(…, external_data=False))"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    # Planning the memory of a run ahead holds 4 MB more for YOLOX-Nano, and makes no frame faster.
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        _give_back()
        return session
    except Exception as error:  # as above: no common class
        raise InvalidInputError(f"{called(name)} cannot be loaded as an ONNX graph: {_first_line(error)}") from error


def _give_back() -> None:
    """Return to the machine what loading a graph took and let go of: the C library would keep it, some megabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl and macOS do not
    if trim is not None:
        trim(0)


def _picture_port(name: str, graph: Graph, config: DetectorConfig) -> Port:
    """Return the input that takes the picture."""
    if config.input is not None:
        port = ports(graph.inputs).get(config.input)
        if port is None:
            raise graph.mismatch(name, f"it has no input {config.input!r}, which the detector's configuration names")
    else:
        pictures = [port for port in graph.inputs if len(port.shape) == 4]
        if len(pictures) != 1:
            raise graph.mismatch(
                name,
                f"{len(pictures)} of its inputs have the four dimensions of a picture; "
                "name one in the detector's configuration (input)",
            )
        port = pictures[0]
    channels = port.shape[1 if config.layout == "NCHW" else 3] if len(port.shape) == 4 else 0
    if port.type not in {"float32", "float16", "float64", "uint8"} or channels not in {3, None} | _texts(port):
        raise graph.mismatch(name, f"its input {port.text} takes no {config.layout} picture of 3 colours")
    if isinstance(port.shape[0], int) and port.shape[0] != 1:
        raise graph.mismatch(name, f"its input {port.text} takes {port.shape[0]} pictures at a time; export it for one")
    return port


def _texts(port: Port) -> set[int | str | None]:
    return {length for length in port.shape if isinstance(length, str)}


def _size(name: str, graph: Graph, port: Port, config: DetectorConfig) -> tuple[int, int]:
    """Return width and height of the picture the graph takes."""
    height, width = port.shape[2:4] if config.layout == "NCHW" else port.shape[1:3]
    known = [length for length in (width, height) if isinstance(length, int)]
    if config.size is None:
        if len(known) < 2:
            raise graph.mismatch(
                name, f"its input {port.text} takes any size; give one in the detector's configuration (size)"
            )
        return known[0], known[1]
    for side, length in zip(config.size, (width, height), strict=True):
        if isinstance(length, int) and length != side:
            raise graph.mismatch(name, f"the detector's size {list(config.size)} is not that of its input {port.text}")
    return config.size


def _defaults(name: str, graph: Graph, missing: Sequence[Port]) -> dict[str, Array]:
    """Return values for inputs that the schema does not have; only thresholds are known."""
    unknown = [port.text for port in missing if port.name not in THRESHOLDS]
    if unknown:
        raise graph.mismatch(name, f"it also needs the input {', '.join(unknown)}")
    return {port.name: _filled(port, THRESHOLDS[port.name]) for port in missing}


def _filled(port: Port, value: float) -> Array:
    return np.full([1] * len(port.shape), value, np.dtype(port.type))


def _first_line(error: Exception) -> str:
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    return (text or type(error).__name__).splitlines()[0][:500]
