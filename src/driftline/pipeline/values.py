"""From what a caller gives to arrays of the schema's type, and back to the plain values recorded and logged."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

import numpy as np

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import ResolvedField
from driftline.pipeline.schema import FLOATS, Field, Shape
from driftline.wire.arrays import Array
from driftline.wire.device import ColumnType

Plain = float | str | None

# A log is for looking at; tensors larger than that are data of another kind.
LOGGED_SIZE_MAX = 4096


def as_array(field: Field, value: object) -> Array:
    """Return a value as an array of the field's type and shape; float32 is rounded here, before anything is counted.

    Whole numbers are taken for floats, floats for integers where they are whole, None for a float that is missing,
    and one number for a list of one or the other way round, because the reference platform wraps scalars in lists.

    >>> as_array(Field("price", "float32"), [0.5]).item()
    0.5

    Raises:
        InvalidInputError: another type or shape; the message says what the schema has.
    """
    array = value if isinstance(value, np.ndarray) else None
    if array is None or array.dtype != _dtype(field):
        array = _cast(field, value)
    if _fits(array.shape, field.shape):
        return array
    if array.size == 1 and all(length in {None, 1} for length in field.shape):
        return array.reshape((1,) * len(field.shape))
    if array.size == 0 and None in field.shape:
        return array.reshape([length or 0 for length in field.shape])
    raise InvalidInputError(f"{field.text} was given with shape {list(array.shape)}")


def plain(array: Array, field: ResolvedField) -> Plain:
    """Return the element a field means: a float, a category, or None where it is missing (or the list too short)."""
    try:
        item = array[field.index]
    except IndexError:
        return None
    if field.kind == "category":
        return str(item)
    number = float(item)
    return None if math.isnan(number) else number


def logged(field: Field, array: Array) -> tuple[ColumnType, Any] | None:
    """Return a whole field as one cell of the inference log with its column's type; None where it is not logged.

    Raw frames and tensors of more than `LOGGED_SIZE_MAX` elements are left out. In lists, which travel as JSON,
    NaN and infinity are None.
    """
    if field.is_image or array.size > LOGGED_SIZE_MAX:
        return None
    if field.shape or field.type in {"string", "uint64"}:  # uint64 does not fit a column of 64 bits with sign
        return "s", _finite(array.tolist())
    if field.type in FLOATS:
        return ("f" if field.type == "float32" else "d"), float(array)
    return "q", int(array)


def undeclared(name: str, value: object, size_max: int) -> Iterator[tuple[str, Plain]]:
    """Yield key tails and plain values of something no schema declares: a number, a word, or a short list of them."""
    array = np.asarray(value)
    if array.dtype == object and array.size == 1 and array.item() is None:
        yield name, None
    elif array.size <= size_max and array.dtype.kind in "biufU":
        for index in product(*map(range, array.shape)):
            item = array[index]
            tail = ".".join([name, *map(str, index)])
            yield tail, str(item) if array.dtype.kind == "U" else _number(float(item))


def _number(number: float) -> float | None:
    return None if math.isnan(number) else number


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(b in {None, a} for a, b in zip(shape, wanted, strict=True))


def _dtype(field: Field) -> "np.dtype[Any]":
    return np.dtype(np.str_ if field.type == "string" else field.type)


def _cast(field: Field, value: object) -> Array:
    try:
        given: Array = np.asarray(value)
        if given.dtype == object:
            given = np.asarray(_nested(value))
    except ValueError:
        raise InvalidInputError(
            f"{field.text}: the lists it was given as differ in length; a tensor's rows are equally long"
        ) from None
    if field.type == "string":
        return _words(field, given)
    if field.type in FLOATS:
        return _floats(field, given)
    return _integers(field, given)


def _nested(value: object) -> Any:
    """Undo the arrays in arrays that pandas makes of nested lists."""
    if isinstance(value, list | tuple | np.ndarray) and (not isinstance(value, np.ndarray) or value.ndim):
        return [_nested(one) for one in cast("list[object]", value)]
    return value


def _words(field: Field, given: Array) -> Array:
    if given.dtype.kind != "U" and given.size:
        raise InvalidInputError(f"{field.text} is text; it was given {_shown(given)}")
    return given.astype(np.str_)


def _floats(field: Field, given: Array) -> Array:
    missing_or_number = given.dtype == object and all(
        one is None or isinstance(one, int | float) for one in cast("list[object]", given.ravel().tolist())
    )
    if given.dtype.kind not in "biuf" and not missing_or_number:
        raise InvalidInputError(f"{field.text} is a number; it was given {_shown(given)}")
    # What is too large for float32 becomes infinite, and is counted in the outer cells.
    with np.errstate(over="ignore"):
        return given.astype(_dtype(field))


def _integers(field: Field, given: Array) -> Array:
    dtype = _dtype(field)
    lowest, highest = (0, 1) if field.type == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    wrong = given
    if given.dtype.kind in "biuf":
        right = (given >= lowest) & (given <= highest)  # NaN is in no range
        wrong = given[~(right & (given == np.floor(given)) if given.dtype.kind == "f" else right)]
    if wrong.size or given.dtype.kind not in "biuf":
        raise InvalidInputError(f"{field.text} is a whole number {lowest} to {highest}; it was given {_shown(wrong)}")
    return given.astype(dtype)


def _shown(given: Array) -> str:
    first = given.ravel()[0].item() if given.size and given.dtype != object else next(iter(given.ravel()), None)
    return f"{first!r:.60} ({type(first).__name__})"
