"""A rows record as it rests in the store: compressed bytes, of which a reader decodes only the columns it asks for.

The layout is that of `driftline.wire.device` (rows, version 1), already checked whole at ingest.
"""

import json
import math
import zlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from driftline.wire.device import ITEM_BYTES, Reader

_DTYPES = {"d": "<f8", "f": "<f4", "q": "<i8"}


def pack(data: bytes) -> bytes:
    """Compress a rows record for the store; level 1, as sensors' floats give more levels little."""
    return zlib.compress(data, 1)


# A head of a hundred columns fits; a longer one comes in several pieces.
_HEAD_PIECE_BYTES = 16 * 1024


def kinds_of(payload: bytes) -> dict[str, str]:
    """Return the kind of each column of a stored rows record; of its bytes only the head is decompressed."""
    unpacking = zlib.decompressobj()
    data = b""
    while True:
        data += unpacking.decompress(unpacking.unconsumed_tail or (b"" if data else payload), _HEAD_PIECE_BYTES)
        reader = Reader(data)
        reader.take(1)
        size = reader.varint()
        if reader.rest >= size or unpacking.eof:
            return {str(key): str(kind) for key, kind, _ in json.loads(reader.take(size))["columns"]}


class Columns:
    """One stored rows record, decoded column by column on demand; shape (rows,) each."""

    def __init__(self, payload: bytes) -> None:
        data = zlib.decompress(payload)
        reader = Reader(data)
        reader.take(1)
        head = json.loads(reader.take(reader.varint()))
        self.rows = int(head["rows"])
        self.times_ns: NDArray[np.int64] = np.frombuffer(reader.take(8 * self.rows), "<i8").astype(np.int64)
        self._columns: dict[str, tuple[str, bytes]] = {}
        for key, kind, size in head["columns"]:
            self._columns[key] = (kind, reader.take(size))

    @property
    def kinds(self) -> dict[str, str]:
        """Each column's kind: d, f, q or s."""
        return {key: kind for key, (kind, _) in self._columns.items()}

    def numbers(self, field: str) -> NDArray[np.float64] | None:
        """Return a field's values, NaN where missing; None where the record does not have the field or it is text.

        `out.confidences.0` is found inside the list column `out.confidences` where it has no column of its own.
        """
        if field in self._columns:
            kind, data = self._columns[field]
            if kind in ITEM_BYTES:
                return np.frombuffer(data, _DTYPES[kind]).astype(np.float64)
            return _numbers([(row,) for row in self.values(field)], ())
        parent, _, index = field.rpartition(".")
        path: list[int] = []
        while index.isdecimal():
            path.insert(0, int(index))
            if parent in self._columns and self._columns[parent][0] == "s":
                return _numbers([(row,) for row in self.values(parent)], tuple(path))
            parent, _, index = parent.rpartition(".")
        return None

    def values(self, field: str) -> list[Any]:
        """Return a column as plain values; numbers as floats or ints, None where missing."""
        kind, data = self._columns[field]
        if kind == "s":
            return cast("list[Any]", json.loads(data))
        numbers = np.frombuffer(data, _DTYPES[kind]).tolist()
        return [None if isinstance(one, float) and math.isnan(one) else one for one in numbers]


def _numbers(rows: list[tuple[Any]], path: tuple[int, ...]) -> NDArray[np.float64] | None:
    values = np.full(len(rows), np.nan)
    for at, (row,) in enumerate(rows):
        value = row
        for index in path:
            value = value[index] if isinstance(value, list) and index < len(value) else None
        if isinstance(value, str):
            return None
        if isinstance(value, int | float):
            values[at] = value
    return values
