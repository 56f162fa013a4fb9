"""Inferences as Arrow tables, both ways: what `infer` takes and gives, and what the log shows.

Columns: `time` (nanoseconds, UTC), `in.<field>`, `out.<field>`, `anomaly.count`; in the log `device` besides. A field
is a number, or a list as deep as its shape; lists are of variable length, as pandas and notebooks know them.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from driftline.errors import InvalidInputError
from driftline.pipeline.schema import Field, listed
from driftline.wire.arrays import Array

# pyarrow comes without types.
Table = Any
Column = Any
DataType = Any

TIME = pa.timestamp("ns", tz="UTC")
ANOMALIES = "anomaly.count"
# Beyond what fits one body of numbers.
ROWS_MAX = 10_000_000
_TYPES = {"bool": pa.bool_(), "string": pa.string()}


def read_table(body: bytes) -> Table:
    """Read an Arrow IPC stream.

    Raises:
        InvalidInputError: it is none, torn, compressed, or claims more rows than it could have.
    """
    try:
        # A few kilobytes of zeros, compressed, would become all the memory there is: see before reading.
        for message in pa.ipc.MessageReader.open_stream(body):
            if _is_compressed(message.metadata.to_pybytes(), message.type):
                raise InvalidInputError("the Arrow stream is compressed; write it without compression")
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
            table.validate()
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"the body is not a whole Arrow IPC stream: {error}") from error
    # Rows of a column of nulls take no bytes at all.
    if table.num_rows > ROWS_MAX:
        raise InvalidInputError(f"the table has {table.num_rows} rows; send at most {ROWS_MAX} at once")
    return table


def _is_compressed(metadata: bytes, kind: str) -> bool:
    """Say whether a message's buffers are compressed, by its flatbuffer: Message.header, RecordBatch.compression.

    A dictionary's batch is one field deeper: DictionaryBatch.data. Source: Message.fbs of the Arrow format.
    """
    if kind not in {"record batch", "dictionary"}:
        return False
    (root,) = struct.unpack_from("<I", metadata)
    batch = _table_at(metadata, root, 2)
    if kind == "dictionary" and batch is not None:
        batch = _table_at(metadata, batch, 1)
    return batch is not None and _table_at(metadata, batch, 3) is not None


def _table_at(buffer: bytes, at: int, field: int) -> int | None:
    """Return where the table is that a flatbuffer's table refers to in a field; None where the field is not set."""
    vtable = at - struct.unpack_from("<i", buffer, at)[0]
    place = 4 + 2 * field
    if vtable < 0 or place >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    (offset,) = struct.unpack_from("<H", buffer, vtable + place)
    return at + offset + struct.unpack_from("<I", buffer, at + offset)[0] if offset else None


def write_table(table: Table) -> bytes:
    """Write an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def arrow_type(field: Field) -> DataType:
    """Return the type of a field's column."""
    made = _TYPES[field.type] if field.type in _TYPES else pa.from_numpy_dtype(np.dtype(field.type))
    for _ in field.shape:
        made = pa.list_(made)
    return made


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def input_columns(table: Table, fields: Sequence[Field]) -> dict[str, Column]:
    """Return the column of each input, found by its name or as `in.<name>`; others are passed over.

    Raises:
        InvalidInputError: an input has no column; the message lists what there is.
    """
    found: dict[str, Column] = {}
    for field in fields:
        name = next((one for one in (field.name, f"in.{field.name}") if one in table.column_names), None)
        if name is None:
            raise InvalidInputError(
                f"the table has no column {field.name!r}; the pipeline takes {listed(fields)}, the table has: "
                f"{', '.join(table.column_names) or 'none'}"
            )
        found[field.name] = table.column(name)
    return found


def arrays_of(columns: Mapping[str, Column], fields: Sequence[Field]) -> dict[str, Array]:
    """Return the inputs as arrays whose first axis is the inference.

    Raises:
        InvalidInputError: a value is missing that cannot be, or has another shape or type than the field.
    """
    return {field.name: _array(columns[field.name], field) for field in fields}


def _array(column: Column, field: Field) -> Array:
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows = len(flat)
    if None in field.shape:
        made = np.empty(rows, dtype=object)
        for at in range(rows):
            made[at] = _row(flat[at], field)
        return made
    values = _rectangular(flat, field)
    if values is None or values.size != rows * math.prod(length or 0 for length in field.shape):
        raise InvalidInputError(f"column {field.name!r} does not hold {field.text} in each of its {rows} rows")
    return _typed(values, field).reshape(rows, *(length or 0 for length in field.shape))


def _rectangular(values: Column, field: Field) -> Array | None:
    """Return nested lists as one array, of shape (rows, …); None where lists of one depth differ in length."""
    shape = [len(values)]
    for _ in field.shape:
        if not _is_list(values.type):
            break
        _no_nulls(values, field)
        lengths = values.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            return None
        shape.append(lengths[0] if lengths else 0)
        values = values.flatten()
    _no_nulls(values, field)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _row(value: Any, field: Field) -> Array:
    wrong = f"a row of column {field.name!r} is not {field.text}"
    if not _is_list(value.type) or not value.is_valid:
        raise InvalidInputError(f"{wrong}: it is {value.as_py()!r:.80}")
    values = _rectangular(value.values, field)
    if values is None:
        raise InvalidInputError(f"{wrong}: its lists differ in length")
    made = _typed(values, field)
    if made.size == 0:
        made = made.reshape([length or 0 for length in field.shape])
    fits = [known in {None, length} for known, length in zip(field.shape, made.shape, strict=False)]
    if made.ndim != len(field.shape) or not all(fits):
        raise InvalidInputError(f"a row of column {field.name!r} has shape {made.shape}; the field is {field.text}")
    return made


def _typed(values: Array, field: Field) -> Array:
    if field.type == "string":
        return values.astype(np.str_)
    if values.size and values.dtype.kind not in "fiub":
        raise InvalidInputError(f"column {field.name!r} holds {values.dtype}, not numbers; the field is {field.text}")
    wanted = np.dtype(field.type)
    if values.dtype.kind == "f" and wanted.kind in "iub" and not np.array_equal(values, np.trunc(values)):
        raise InvalidInputError(f"column {field.name!r} holds fractions or gaps; the field is {field.text}")
    if wanted.kind in "iu" and values.size:
        limits = np.iinfo(wanted)
        if values.min() < limits.min or values.max() > limits.max:
            raise InvalidInputError(
                f"column {field.name!r} holds values from {values.min()} to {values.max()}, which {wanted} cannot"
            )
    return values.astype(wanted)


def _no_nulls(values: Column, field: Field) -> None:
    # A missing float is NaN, which a model may know; of anything else there is no such value.
    if values.null_count and (_is_list(values.type) or field.type not in {"float32", "float64"}):
        raise InvalidInputError(f"column {field.name!r} has {values.null_count} missing values; {field.text} cannot be")


def _is_list(kind: DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def column_of_array(values: Array, field: Field | None) -> Column:
    """Return one output as a column; without a field, as what it is."""
    if values.ndim == 1 and values.dtype != object:
        return _column(values, field)
    return _column([_plain(row) for row in values], field)


def column_of_values(values: Sequence[Any], field: Field | None) -> Column:
    """Return logged values as a column; without a field, or where they do not fit it, as what they are."""
    return _column(values, field)


def _plain(row: Any) -> Any:
    return row.tolist() if isinstance(row, np.ndarray | np.generic) else row


def _column(values: Any, field: Field | None) -> Column:
    if field is not None:
        try:
            return pa.array(values, arrow_type(field))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            pass  # an older version of the pipeline declared it differently
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if one is None else json.dumps(_plain(one)) for one in values], pa.string())
