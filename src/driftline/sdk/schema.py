"""Arrow schemas and the light field documents that devices read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from driftline.errors import InvalidInputError

Document = dict[str, Any]
_NUMBERS: tuple[Any, ...] = (
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
)  # fmt: skip
_TYPES: dict[Any, str] = {
    **{kind: str(kind) for kind in _NUMBERS},
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.string(): "string",
    pa.large_string(): "string",
}
_ARROW: dict[str, Any] = {name: kind for kind, name in reversed(_TYPES.items())}
_EXAMPLE = "pa.schema([pa.field('frame', pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 640), 480))])"


def documents_of(schema: object, which: str = "schema") -> list[Document]:
    """Turn an Arrow schema into documents {"name", "type", "shape"}; None in a shape is a length that varies.

    Documents, and objects with a `document`, pass through.

    >>> documents_of(pa.schema([pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)))]))
    [{'name': 'boxes', 'type': 'float32', 'shape': [None, 4]}]

    Raises:
        InvalidInputError: not a schema, empty, a name twice, or a type that does not run; the message says which.
    """
    if isinstance(schema, pa.Schema):
        fields = [document(field) for field in cast("Iterable[Any]", schema)]
    elif isinstance(schema, Sequence) and not isinstance(schema, str | bytes):
        fields = [_given(entry, which) for entry in cast("Sequence[object]", schema)]
    else:
        raise InvalidInputError(f"{which} is {type(schema).__name__}, not an Arrow schema such as {_EXAMPLE}")
    names = [field["name"] for field in fields]
    if not fields:
        raise InvalidInputError(f"{which} has no fields; name what goes through the model, such as {_EXAMPLE}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{which} names {', '.join(twice)} more than once; each field needs its own name")
    return fields


def document(field: Any) -> Document:
    """Turn one Arrow field into its document."""
    shape: list[int | None] = []
    kind = field.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return {"name": field.name, "type": _name(kind.value_type, field), "shape": list(kind.shape)}
    while True:
        if pa.types.is_fixed_size_list(kind):
            shape.append(int(kind.list_size))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            shape.append(None)
        else:
            return {"name": str(field.name), "type": _name(kind, field), "shape": shape}
        kind = kind.value_type


def arrow_type(document: Mapping[str, Any]) -> Any:
    """Return the Arrow type of a field document.

    >>> arrow_type({"name": "x", "type": "float32", "shape": [2]}) == pa.list_(pa.float32(), 2)
    True
    """
    kind = _ARROW[document["type"]]
    for length in reversed(document["shape"]):
        kind = pa.list_(kind) if length is None else pa.list_(kind, length)
    return kind


def _given(entry: object, which: str) -> Document:
    found: object = getattr(entry, "document", entry)
    if isinstance(found, Mapping):
        mapping = cast("Mapping[str, Any]", found)
        if {"name", "type", "shape"} <= set(mapping) and mapping["type"] in _ARROW:
            return {"name": mapping["name"], "type": mapping["type"], "shape": list(mapping["shape"])}
    raise InvalidInputError(f"{which} holds {entry!r}; give an Arrow schema such as {_EXAMPLE}")


def _name(kind: Any, field: Any) -> str:
    if kind not in _TYPES:
        raise InvalidInputError(
            f"field {field.name!r} is of type {field.type}, which does not run on driftline devices; use bool, whole "
            "numbers, float32, float64 or string, and lists of these"
        )
    return _TYPES[kind]
