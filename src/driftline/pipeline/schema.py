"""What goes into a model and what comes out, one inference at a time: named fields with a type and a shape.

These light structs are all a device knows of a schema; on the notebook's side they are made from Arrow schemas. A
schema never speaks of batches: shape `()` is one value an inference, `(3, 416, 416)` a tensor, `(None, 4)` a list of
boxes whose length differs from one inference to the next.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from driftline.errors import InvalidInputError

Shape = tuple[int | None, ...]

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
TYPES = ("bool", *INTEGERS, *FLOATS, "string")

# Names travel in keys, URLs and table headings; no real model comes near.
NAME_CHARACTERS_MAX = 200
DIMENSIONS_MAX = 8
# 2**31 elements of one byte are more than a device could hold.
ELEMENTS_MAX = 1 << 31


@dataclass(frozen=True, slots=True)
class Field:
    """One named value of an inference; a dimension of None is of variable length.

    >>> Field("boxes", "float32", (None, 4)).text
    'boxes float32[?,4]'
    >>> Field("boxes", "float32", (None, 4)).size is None
    True
    """

    name: str
    type: str
    shape: Shape = ()

    @property
    def size(self) -> int | None:
        """How many elements one inference has; None where that varies."""
        known = [length for length in self.shape if length is not None]
        return math.prod(known) if len(known) == len(self.shape) else None

    @property
    def is_image(self) -> bool:
        """Whether this is a raw frame: uint8, height × width × 3, as OpenCV gives it."""
        return self.type == "uint8" and len(self.shape) == 3 and self.shape[2] == 3

    @property
    def document(self) -> dict[str, Any]:
        """The field as it travels and rests in JSON; `parse` reads it."""
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}

    @property
    def text(self) -> str:
        """The field as messages show it."""
        dimensions = ",".join("?" if length is None else str(length) for length in self.shape)
        return f"{self.name} {self.type}" + (f"[{dimensions}]" if self.shape else "")

    @classmethod
    def parse(cls, document: object) -> "Field":
        """Read one field of a schema; keys besides name, type and shape are passed over.

        >>> Field.parse({"name": "price", "type": "float32", "shape": []})
        Field(name='price', type='float32', shape=())

        Raises:
            InvalidInputError: no such type, an unusable name, or a shape that is no list of lengths.
        """
        if not isinstance(document, Mapping):
            raise InvalidInputError(f"a field is an object with name, type and shape, not {document!r}")
        facts = cast("Mapping[str, object]", document)
        name, kind, shape = facts.get("name"), facts.get("type"), facts.get("shape", [])
        if not isinstance(name, str) or not name.strip() or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise InvalidInputError(
                f"a field's name is 1 to {NAME_CHARACTERS_MAX} printable characters, not {name!r:.100}"
            )
        if kind not in TYPES:
            raise InvalidInputError(f"field {name!r} has type {kind!r}; the types are {', '.join(TYPES)}")
        return cls(name, str(kind), _shape(name, shape))


def parse_schema(documents: object) -> tuple[Field, ...]:
    """Read a schema: a list of field documents.

    Raises:
        InvalidInputError: not a list, a field that cannot be read, or two fields of one name.
    """
    if not isinstance(documents, Iterable) or isinstance(documents, str | bytes | Mapping):
        raise InvalidInputError(f"a schema is a list of fields, not {documents!r:.100}")
    fields = tuple(Field.parse(one) for one in cast("Iterable[object]", documents))
    seen: set[str] = set()
    for field in fields:
        if field.name in seen:
            raise InvalidInputError(f"the schema has two fields named {field.name!r}; give each its own name")
        seen.add(field.name)
    return fields


def listed(fields: Iterable[Field]) -> str:
    """Return the fields as messages list them.

    >>> listed([Field("a", "float32"), Field("b", "int64", (None,))])
    'a float32, b int64[?]'
    """
    return ", ".join(field.text for field in fields) or "none"


def _shape(name: str, shape: object) -> Shape:
    if not isinstance(shape, list | tuple):
        raise InvalidInputError(f"field {name!r}: the shape is a list of lengths (null where it varies), not {shape!r}")
    lengths = cast("list[object]", shape)
    known: list[int] = []
    result: list[int | None] = []
    for length in lengths:
        if length is None:
            result.append(None)
        elif isinstance(length, int) and not isinstance(length, bool) and length >= 1:
            known.append(length)
            result.append(length)
        else:
            raise InvalidInputError(f"field {name!r}: a length is a number from 1, or null where it varies: {shape!r}")
    if len(result) > DIMENSIONS_MAX or math.prod(known) > ELEMENTS_MAX:
        raise InvalidInputError(f"field {name!r}: {shape!r} is larger than a device can hold")
    return tuple(result)
