"""Which number of an inference is meant: from the user's spelling to the key that everything else uses.

A user writes an iopath, `output avg_confidence 0` or `input tensor 3`; the key is `out.avg_confidence`, `in.tensor.3`.
Index 0 of a scalar is the scalar, because the reference platform wraps every scalar in a list.

An assay may also watch a list of fixed length as a whole, `output embedding`: what is recorded of it are the parts that
`driftline.pipeline.projection` makes, `output embedding projection 3` and `output embedding norm`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from driftline.errors import InvalidInputError
from driftline.pipeline.observers import OBSERVER_FIELDS
from driftline.pipeline.schema import Field, parse_schema

Side = Literal["in", "out"]
Kind = Literal["number", "category"]

_WORDS = re.compile(r"^(input|output|in|out)\s+(\S.*)$", re.IGNORECASE | re.DOTALL)
_DOTTED = re.compile(r"^(in|out)\.(\S.*)$", re.IGNORECASE | re.DOTALL)
_PART = re.compile(r"^(.+)[ .](?:projection[ .](\d+)|norm)$", re.DOTALL)
# A message that lists more than this is not read.
LISTED_MAX = 40
# Each direction takes its share of a promise. Sixteen miss little of what changes in an embedding.
PROJECTIONS_MAX = 16


@dataclass(frozen=True, slots=True)
class ResolvedField:
    """One number or category per inference: element `index` of the field `name` on one `side` of the pipeline.

    `type` is the schema's; `default` says whether it is recorded without anybody asking for it. `part` is set where it
    is made of the whole vector (`projection.3`). `size` is above 1 for a whole vector, which itself is not recorded,
    and None where nobody declared what it is.
    """

    key: str
    type: str
    kind: Kind
    default: bool
    side: Side
    name: str
    index: tuple[int, ...] = ()
    part: str = ""
    size: int | None = 1


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


def resolver(definition: Mapping[str, Any], *, vectors: bool = False) -> Callable[[str], ResolvedField]:
    """Return `resolve` for one definition, which is read once; with `vectors`, it also finds whole ones."""
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
        rest = key.partition(".")[2]
        found = _field(rest, sides[side])
        if found is None and (made := _part(side, rest, sides[side])) is not None:
            return made
        if found is None:
            raise InvalidInputError(f"pipeline {name!r} has no field {key!r} (from {text!r}); it has: {_listed(sides)}")
        field, index = found
        if vectors and not index and is_vector(field):
            return ResolvedField(key, field.type, "number", False, side, field.name, size=field.size)
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


def spelled(field: ResolvedField, part: str = "") -> str:
    """Return a field in the user's words, without its index, or a part of a whole vector.

    >>> spelled(ResolvedField("out.y", "float32", "number", False, "out", "y", size=8), "projection.3")
    'output y projection 3'
    """
    return " ".join([f"{field.side}put", field.name, *part.split(".")]).strip()


def is_vector(field: Field) -> bool:
    """Say whether a field is a list of a fixed number of numbers, two or more."""
    return len(field.shape) == 1 and field.type != "string" and (field.size or 0) > 1


def projected_parts(size: int) -> tuple[str, ...]:
    """Return what is recorded of a vector of so many numbers, behind its key.

    >>> projected_parts(2)
    ('projection.0', 'projection.1', 'norm')
    """
    return (*(f"projection.{at}" for at in range(min(PROJECTIONS_MAX, 2 ** min(size - 1, 10)))), "norm")


def whole_of(key: str, watched: Collection[str]) -> str | None:
    """Return the vector that a key is made of, by its name, where all that is made of it is watched; else None.

    A pipeline without steps declares no vector; what is made of one tells.

    >>> whole_of("out.y.projection.1", ["out.y.projection.0", "out.y.projection.1", "out.y.norm"])
    'out.y'
    >>> whole_of("out.y.norm", ["out.y.norm"]) is None
    True
    """
    side, _, rest = key.partition(".")
    found = _PART.match(rest)
    whole = None if found is None else f"{side}.{found[1]}"
    return whole if {f"{whole}.projection.0", f"{whole}.norm"} <= {*watched} else None


def _part(side: Side, rest: str, fields: Sequence[Field]) -> ResolvedField | None:
    """Return what is made of a whole vector, such as `embedding.projection.3`."""
    found = _PART.match(rest)
    field = next((one for one in fields if found is not None and one.name == found[1] and is_vector(one)), None)
    if found is None or field is None or field.size is None:
        return None
    part = "norm" if found[2] is None else f"projection.{int(found[2])}"
    if part not in projected_parts(field.size):
        raise InvalidInputError(f"{side}.{field.text} has no {part}; it has {', '.join(projected_parts(field.size))}")
    return ResolvedField(f"{side}.{field.name}.{part}", "float64", "number", False, side, field.name, part=part)


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
    size = 1 if index else None
    return ResolvedField(key_of(side, name, scalar), "float64", "number", True, side, name, scalar, size=size)


def _listed(sides: Mapping[Side, Sequence[Field]]) -> str:
    texts = [f"{side}.{field.text}" for side in ("out", "in") for field in sides[side]]
    more = [f"… and {len(texts) - LISTED_MAX} more"] if len(texts) > LISTED_MAX else []
    return ", ".join(texts[:LISTED_MAX] + more) or "none"
