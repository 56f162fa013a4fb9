"""Which number of an inference is meant: from the user's spelling to the key that everything else uses.

A user writes an iopath, `output avg_confidence 0` or `input tensor 3`; the key is `out.avg_confidence`, `in.tensor.3`.
Index 0 of a scalar is the scalar, because the reference platform wraps every scalar in a list.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from driftline.errors import InvalidInputError
from driftline.pipeline.observers import OBSERVER_FIELDS
from driftline.pipeline.schema import Field, parse_schema

Side = Literal["in", "out"]
Kind = Literal["number", "category"]

_WORDS = re.compile(r"^(input|output|in|out)\s+(\S.*)$", re.IGNORECASE | re.DOTALL)
_DOTTED = re.compile(r"^(in|out)\.(\S.*)$", re.IGNORECASE | re.DOTALL)
# A message that lists more than this is not read.
LISTED_MAX = 40


@dataclass(frozen=True, slots=True)
class ResolvedField:
    """One number or category per inference: element `index` of the field `name` on one `side` of the pipeline.

    `type` is the schema's; `default` says whether it is recorded without anybody asking for it.
    """

    key: str
    type: str
    kind: Kind
    default: bool
    side: Side
    name: str
    index: tuple[int, ...] = ()


def canonical(text: str) -> str:
    """Return the key a text spells, without looking at any schema.

    >>> canonical("Output avg_confidence 0")
    'out.avg_confidence.0'
    >>> canonical("out.avg_confidence")
    'out.avg_confidence'

    Raises:
        InvalidInputError: it spells no field.
    """
    side, name, index = _spelled(text)
    return ".".join([side, name, *map(str, index)])


def resolve(text: str, definition: Mapping[str, Any]) -> ResolvedField:
    """Find the field that a text spells in a pipeline's definition.

    In a pipeline without steps nothing is declared, so every name is a field; there the words `output x 0` mean the
    scalar x, and `out.x.0` the first element of a list x.

    Raises:
        InvalidInputError: there is no such field, or no such element in it; the message lists what there is.
    """
    return resolver(definition)(text)


def resolver(definition: Mapping[str, Any]) -> Callable[[str], ResolvedField]:
    """Return `resolve` for one definition, which is read once."""
    name = str(definition.get("pipeline", ""))
    default = frozenset(str(one["key"]) for one in definition["fields"])
    sides: dict[Side, tuple[Field, ...]] = {
        "in": parse_schema(definition["inputs"]),
        "out": parse_schema(definition["outputs"]),
    }
    if not definition["steps"]:
        return _undeclared

    def find(text: str) -> ResolvedField:
        key = canonical(text)
        side: Side = "in" if key.startswith("in.") else "out"
        found = _field(key.partition(".")[2], sides[side])
        if found is None:
            raise InvalidInputError(f"pipeline {name!r} has no field {key!r} (from {text!r}); it has: {_listed(sides)}")
        field, index = found
        return resolved(side, field, _element(text, side, field, index), default)

    return find


def resolved(side: Side, field: Field, index: tuple[int, ...], default: frozenset[str] = frozenset()) -> ResolvedField:
    """Return the element of a field as something to record."""
    key = key_of(side, field.name, index)
    kind: Kind = "category" if field.type == "string" else "number"
    return ResolvedField(key, field.type, kind, key in default, side, field.name, index)


def key_of(side: Side, name: str, index: Sequence[int] = ()) -> str:
    """Return the key of one element.

    >>> key_of("in", "tensor", (3,))
    'in.tensor.3'
    """
    return ".".join([side, name, *map(str, index)])


def _spelled(text: str) -> tuple[Side, str, tuple[int, ...]]:
    words = _WORDS.match(text.strip())
    if words is not None:
        parts = words[2].split()
        count = len(parts)
        while count > 1 and re.fullmatch(r"-?\d+", parts[count - 1], re.ASCII):
            count -= 1
        if any(part.startswith("-") for part in parts[count:]):
            raise InvalidInputError(f"the iopath {text!r} has a negative index; indices count from 0")
        side: Side = "in" if words[1].lower().startswith("in") else "out"
        return side, " ".join(parts[:count]), tuple(int(part) for part in parts[count:])
    dotted = _DOTTED.match(text.strip())
    if dotted is not None:
        return ("in" if dotted[1].lower() == "in" else "out"), dotted[2], ()
    raise InvalidInputError(
        f"{text!r} names no field; write 'output <field> <index>' or 'input <field> <index>', "
        "for example 'output avg_confidence 0' (or out.avg_confidence)"
    )


def _field(rest: str, fields: Sequence[Field]) -> tuple[Field, tuple[int, ...]] | None:
    # The longest name first: a model's input may itself be called 'input.1'.
    for field in sorted(fields, key=lambda one: len(one.name), reverse=True):
        if rest == field.name:
            return field, ()
        tail = rest.removeprefix(field.name + ".")
        if tail != rest and re.fullmatch(r"\d+(\.\d+)*", tail, re.ASCII):
            return field, tuple(int(part) for part in tail.split("."))
    return None


def _element(text: str, side: Side, field: Field, index: tuple[int, ...]) -> tuple[int, ...]:
    if not field.shape:
        if index not in {(), (0,)}:
            raise InvalidInputError(f"{text!r}: {field.name} is a single {field.type}; write {side}.{field.name}")
        return ()
    if index in {(), (0,)} and (field.size == 1 or (field.shape == (None,) and field.name in OBSERVER_FIELDS)):
        return (0,) * len(field.shape)
    if len(index) != len(field.shape):
        example = " ".join("0" * len(field.shape))
        raise InvalidInputError(
            f"{text!r}: {field.text} has {len(field.shape)} dimension(s) and the path {len(index)} index(es); "
            f"name one element, such as '{side}put {field.name} {example}'"
        )
    for at, length in zip(index, field.shape, strict=True):
        if length is not None and at >= length:
            raise InvalidInputError(f"{text!r}: {field.text} has no element {at}; the last is {length - 1}")
    return index


def _undeclared(text: str) -> ResolvedField:
    side, name, index = _spelled(text)
    scalar = () if index == (0,) else index
    return ResolvedField(key_of(side, name, scalar), "float64", "number", True, side, name, scalar)


def _listed(sides: Mapping[Side, Sequence[Field]]) -> str:
    texts = [f"{side}.{field.text}" for side in ("out", "in") for field in sides[side]]
    more = [f"… and {len(texts) - LISTED_MAX} more"] if len(texts) > LISTED_MAX else []
    return ", ".join(texts[:LISTED_MAX] + more) or "none"
