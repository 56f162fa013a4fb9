"""Named arrays as bytes: how inputs travel to a device's worker and its outputs back. Needs numpy.

Layout: u32 length, JSON head `[[name, dtype, shape], …]`, then each array C-ordered; all little-endian.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from driftline.errors import InvalidInputError

# The media type; JSON is accepted beside it.
ARRAYS = "application/vnd.driftline.arrays"
Array = np.ndarray[Any, Any]


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Pack named arrays; see the module's layout.

    Axis 0 is the row, one inference each. A column whose rows differ in shape (the boxes of a detector) is an
    object array of arrays: its head is `[name, dtype, [[shape of row 0], [shape of row 1], …]]`. Strings travel
    as dtype "str" with a JSON list as bytes, whose length stands where the shape would.
    """
    head: list[list[Any]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        if array.dtype == object:
            rows = [np.ascontiguousarray(row) for row in array]
            dtype = next((row.dtype for row in rows if row.size), np.dtype("<f8"))
            head.append([name, _dtype(dtype), [list(row.shape) for row in rows]])
            parts += [row.astype(dtype.newbyteorder("<")).tobytes() for row in rows]
        elif array.dtype.kind in "US":
            data = json.dumps(array.tolist()).encode()
            head.append([name, "str", len(data)])
            parts.append(data)
        else:
            head.append([name, _dtype(array.dtype), list(array.shape)])
            parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    encoded = json.dumps(head).encode()
    return b"".join([struct.pack("<I", len(encoded)), encoded, *parts])


def unpack_arrays(body: bytes) -> dict[str, Array]:
    """Unpack what `pack_arrays` packed.

    Raises:
        InvalidInputError: torn, or of a type that is not a plain number, bool or string.
    """
    try:
        (size,) = struct.unpack_from("<I", body)
        head = json.loads(body[4 : 4 + size])
        at = 4 + size
        arrays: dict[str, Array] = {}

        def take(dtype: np.dtype[Any], shape: list[int]) -> "Array":
            nonlocal at
            count = int(np.prod(shape, dtype=np.int64))
            if min(shape, default=0) < 0 or count * dtype.itemsize > len(body) - at:
                raise InvalidInputError("the arrays were torn on the way: fewer bytes than their shapes need")
            array = np.frombuffer(body, dtype, count, at).reshape(shape)
            at += count * dtype.itemsize
            return array

        for name, text, shape in head:
            if text == "str":
                arrays[str(name)] = np.array(json.loads(body[at : at + shape]), dtype=np.str_)
                at += int(shape)
            elif shape and isinstance(shape[0], list):
                dtype = _number_type(text)
                column = np.empty(len(shape), dtype=object)
                for row, row_shape in enumerate(shape):
                    column[row] = take(dtype, row_shape)
                arrays[str(name)] = column
            else:
                arrays[str(name)] = take(_number_type(text), shape)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"the arrays cannot be read: {error}") from error
    return arrays


def _dtype(dtype: Any) -> str:
    return str(dtype.newbyteorder("<").str)


def _number_type(text: str) -> np.dtype[Any]:
    if len(text) > 4 or text.lstrip("<|=")[:1] not in {"f", "i", "u", "b"}:
        raise InvalidInputError(f"arrays are numbers, bools or strings, not {text!r}")
    return np.dtype(text)
