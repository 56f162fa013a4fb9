"""What an ONNX graph takes and gives, and whether a schema fits it.

A graph often has a leading batch dimension, 1 or symbolic; a schema never speaks of batches. So a field fits a port of
the same shape, or of the same shape behind one such dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.errors import InvalidInputError
from driftline.pipeline.schema import INTEGERS, Field
from driftline.pipeline.step import called
from driftline.pipeline.values import as_array
from driftline.wire.arrays import Array

_TYPES = {f"tensor({name})": name for name in (*INTEGERS, "bool", "string")} | {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
}


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph. `type` is None where it is no plain tensor; a text in `shape` varies."""

    name: str
    declared: str
    shape: tuple[int | str | None, ...]

    @classmethod
    def of(cls, declared: Any) -> "Port":
        """Read one of onnxruntime's own descriptions."""
        return cls(str(declared.name), str(declared.type), tuple(declared.shape))

    @property
    def type(self) -> str | None:
        """The element type as numpy spells it."""
        return _TYPES.get(self.declared)

    @property
    def text(self) -> str:
        """The port as messages show it."""
        dimensions = ",".join("?" if length is None else str(length) for length in self.shape)
        return f"{self.name} {self.type or self.declared}" + (f"[{dimensions}]" if self.shape else "")


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph's ports; `optional` inputs have a value of their own."""

    inputs: tuple[Port, ...]
    optional: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def text(self) -> str:
        """All ports, for a message."""
        kinds = [("inputs", self.inputs), ("optional inputs", self.optional), ("outputs", self.outputs)]
        return "; ".join(f"{name} {', '.join(port.text for port in ports)}" for name, ports in kinds if ports)

    def mismatch(self, model: str, what: str) -> InvalidInputError:
        """Return the error of a schema that does not fit."""
        pictures = any(len(port.shape) == 4 for port in self.inputs)
        detector = (
            "; a detector that is to be given whole frames also needs upload_model(…, detector=driftline.Detector())"
        )
        return InvalidInputError(
            f"the schema of {called(model)} does not match its graph: {what}. The graph has {self.text}. "
            f"Give the schema these names, types and shapes, without the batch dimension{detector if pictures else ''}"
        )


def ports(found: Sequence[Port]) -> Mapping[str, Port]:
    """Return ports by name."""
    return {port.name: port for port in found}


def input_fits(port: Port, field: Field) -> bool:
    """Say whether what the schema promises can always go into the port."""
    return _type_fits(port, field) and _shape_fits(port, field, exact=True)


def output_fits(port: Port, field: Field) -> bool:
    """Say whether what comes out of the port may be what the schema promises."""
    return _type_fits(port, field) and _shape_fits(port, field, exact=False)


def to_graph(port: Port, array: Array) -> Array:
    """Return a field's array as the graph takes it: with the batch dimension, in the graph's type."""
    if port.type == "float16":
        array = array.astype(np.float16)
    elif port.type == "string":
        array = array.astype(object)
    if len(port.shape) > array.ndim:
        array = array.reshape((1,) * (len(port.shape) - array.ndim) + array.shape)
    return array


def from_graph(field: Field, array: Array) -> Array:
    """Return what a graph gave as the schema promises it: without the batch dimension, in the schema's type.

    Raises:
        InvalidInputError: it is not what the schema promises.
    """
    if array.ndim == len(field.shape) + 1 and array.shape[0] == 1:
        array = array[0]
    if array.dtype == object:
        array = array.astype(np.str_)
    try:
        return as_array(field, array)
    except InvalidInputError as error:
        raise InvalidInputError(f"the model's output does not match its schema: {error}") from error


def _type_fits(port: Port, field: Field) -> bool:
    return port.type == field.type or (port.type == "float16" and field.type == "float32")


def _shape_fits(port: Port, field: Field, *, exact: bool) -> bool:
    """Compare shapes; with `exact`, a length that varies in the schema must vary in the graph too."""
    shape = port.shape
    if len(shape) == len(field.shape) + 1 and _varies_or_one(shape[0]):
        shape = shape[1:]
    if not port.shape:
        # No dimensions is a scalar, or nothing declared: then the first run decides.
        return True
    if len(shape) != len(field.shape):
        # One number in as many dimensions as the exporter liked: [N, 1] for a column of a table.
        return field.size == 1 and all(map(_varies_or_one, port.shape))
    return all(
        not isinstance(there, int) or there == wanted or (wanted is None and not exact)
        for there, wanted in zip(shape, field.shape, strict=True)
    )


def _varies_or_one(length: int | str | None) -> bool:
    return length == 1 or not isinstance(length, int)
