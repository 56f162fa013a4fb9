"""Inferences as DataFrames and Arrow tables: what `infer` sends, and what comes back as the caller's own kind."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather, parquet

from driftline.errors import InvalidInputError
from driftline.sdk.schema import Document

Rows = TypeVar("Rows", bound=pd.DataFrame | pa.Table)

# One request is held whole by the hub; it takes 512 MB, and half a minute of frames is plenty at once.
PIECE_BYTES = 64 * 1024 * 1024
_FILES = "JSON (.json), CSV (.csv), Arrow (.arrow, .feather) or Parquet (.parquet)"


# ── from the caller to the wire ──────────────────────────────────────────────────────────────────────────────────


def to_table(data: object, inputs: Sequence[Document]) -> Any:
    """Return the columns that a pipeline takes, one row an inference, as an Arrow table.

    A column is named as the input, or `in.<input>`; others are left behind. Cells of a DataFrame are numbers, texts,
    nested lists, or numpy arrays.

    Raises:
        InvalidInputError: neither a DataFrame nor an Arrow table, an input without a column, or cells of another shape.
    """
    if isinstance(data, pd.DataFrame):
        names = [str(name) for name in data.columns]
        series = dict(zip(names, (data.iloc[:, at] for at in range(len(names))), strict=True))
        found = {field["name"]: series[_column_of(field, names)] for field in inputs}
        return pa.table({field["name"]: to_column(list(found[field["name"]]), field) for field in inputs})
    if isinstance(data, pa.Table | pa.RecordBatch):
        table: Any = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
        names = table.column_names
        return pa.table({field["name"]: _plain_column(table[_column_of(field, names)]) for field in inputs})
    raise InvalidInputError(
        f"infer() takes a pandas DataFrame or an Arrow table, one row an inference, not {type(data).__name__}; "
        "such as pd.DataFrame({'tensor': [array]})"
    )


def to_column(values: Sequence[object], field: Document) -> Any:
    """Turn one value an inference into an Arrow column of (nested) lists, of fixed size where all are alike.

    >>> to_column([np.zeros((2, 3)), np.ones((2, 3))], {"name": "x", "type": "float32", "shape": [2, 3]}).type
    FixedSizeListType(fixed_size_list<item: fixed_size_list<item: float>[3]>[2])

    Raises:
        InvalidInputError: values that are neither numbers nor texts, or lists of another depth than the field.
    """
    if not field["shape"]:
        return _of_python(values, field)
    rows = [_opened(value, field) for value in values]
    arrays = _alike(rows)
    if arrays is None or arrays.ndim != len(field["shape"]) + 1:
        return _of_python(rows, field)
    if field["type"] == "float32" and arrays.dtype == np.float64:
        arrays = arrays.astype(np.float32)
    column = pa.array(np.ascontiguousarray(arrays).reshape(-1))
    # Offsets of lists of three colours would take more room than the pixels.
    for length in reversed(arrays.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, length)
    return column


def pieces(table: Any) -> Iterator[Any]:
    """Cut a table into parts of one request each; an empty one is one part."""
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    size = max(1, PIECE_BYTES // row_bytes)
    for at in range(0, max(1, table.num_rows), size):
        yield table.slice(at, size)


def encode(table: Any) -> bytes:
    """Write an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return cast("bytes", sink.getvalue().to_pybytes())


# ── from the wire to the caller ──────────────────────────────────────────────────────────────────────────────────


def decode(body: bytes) -> Any:
    """Read an Arrow IPC stream."""
    with pa.ipc.open_stream(body) as stream:
        return stream.read_all()


def selected(table: Any, dataset: Iterable[str] | str | None, exclude: Iterable[str] | str | None) -> Any:
    """Keep the columns that `dataset` names, without those that `exclude` names.

    A name is a column (`out.avg_confidence`), what stands before a dot (`out`), or `*` for all; `metadata`, which the
    reference platform has, names nothing here.

    Raises:
        InvalidInputError: a name that no column has; the message lists the columns.
    """
    names: list[str] = table.column_names
    wanted = set(names) if dataset is None else _named(dataset, names)
    left_out: set[str] = set() if exclude is None else _named(exclude, names)
    return table.select([name for name in names if name in wanted and name not in left_out])


def like(table: Any, data: Rows) -> Rows:
    """Return a table as the kind of rows that `data` is."""
    return cast("Rows", to_frame(table) if isinstance(data, pd.DataFrame) else table)


def to_frame(table: Any) -> pd.DataFrame:
    """Return a table as a DataFrame; a cell of nested lists is one array, such as (height, width, 3) of a picture.

    pandas' own conversion makes an array of arrays of arrays of it, which takes half a second a picture.
    """
    cells = {name: _cells(table[name]) for name in table.column_names}
    return pd.DataFrame(cells, index=pd.RangeIndex(table.num_rows))


def _cells(column: Any) -> Any:
    if _depth(column.type) < 2:
        return column.to_pandas()
    flat = column.combine_chunks()
    every = _rectangular(flat)
    rows = list(every) if every is not None else [_cell(flat[at]) for at in range(len(flat))]
    cells = np.empty(len(rows), dtype=object)
    for at, row in enumerate(rows):
        cells[at] = row
    return cells


def _cell(row: Any) -> Any:
    if not row.is_valid:
        return None
    found = _rectangular(row.values)
    return row.as_py() if found is None else found


def _rectangular(values: Any) -> Any:
    """Return nested lists as one array, whose first axis is the rows; None where lists of one depth differ."""
    shape = [len(values)]
    while _depth(values.type):
        lengths = values.value_lengths().unique().to_pylist()
        if values.null_count or len(lengths) > 1:
            return None
        shape.append(lengths[0] if lengths else 0)
        values = values.flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _depth(kind: Any) -> int:
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        depth, kind = depth + 1, kind.value_type
    return depth


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_file(path: str | Path) -> Any:
    """Read inferences from a file: JSON and CSV as a DataFrame, Arrow and Parquet as a table.

    JSON is a list of records, or an object of columns; pandas writes both (`orient="records"`, `"list"`, `"split"`).

    Raises:
        InvalidInputError: no such file, of another kind, or not readable as what its name says.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidInputError(f"there is no file {file} (looked from {Path.cwd()}); check the path")
    readers = {
        ".json": _read_json,
        ".csv": pd.read_csv,
        ".arrow": _read_arrow,
        ".feather": _read_arrow,
        ".parquet": parquet.read_table,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InvalidInputError(f"{file} is none of the files that infer_from_file reads: {_FILES}")
    try:
        return reader(file)
    except (ValueError, TypeError, OSError, pa.ArrowException) as error:
        raise InvalidInputError(f"{file} cannot be read as {file.suffix[1:]}: {error}") from error


def _read_json(file: Path) -> pd.DataFrame:
    document: object = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(document, list):
        return pd.DataFrame(cast("list[Any]", document))
    if not isinstance(document, dict):
        raise InvalidInputError(f"it holds {type(document).__name__}, not a list of records")
    columns = cast("dict[str, Any]", document)
    if {"columns", "data"} <= columns.keys():
        return pd.DataFrame(columns["data"], columns=columns["columns"])
    # pandas' own default writes each column as {"0": …, "1": …}.
    return pd.DataFrame(
        {
            name: list(cast("dict[str, Any]", rows).values()) if isinstance(rows, dict) else rows
            for name, rows in columns.items()
        }
    )


def _read_arrow(file: Path) -> Any:
    try:
        return feather.read_table(str(file))
    except pa.ArrowInvalid:
        # A stream has no footer, so that Feather does not know it.
        return decode(file.read_bytes())


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _column_of(field: Document, names: Sequence[str]) -> str:
    for name in (field["name"], f"in.{field['name']}"):
        if name in names:
            return name
    raise InvalidInputError(
        f"there is no column {field['name']!r}, which the pipeline takes; there are: {_list(names)}"
    )


def _named(given: Iterable[str] | str, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for one in [given] if isinstance(given, str) else given:
        matching = {name for name in names if one in {"*", name} or name.startswith(f"{one}.")}
        if not matching and one not in {"metadata", "*"}:
            raise InvalidInputError(f"dataset {one!r} names no column; there are: {_list(names)}")
        found |= matching
    return found


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _plain_column(column: Any) -> Any:
    """Return a column without the extension types that only tensors in memory have."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _opened(value: object, field: Document) -> object:
    """Return a cell as an array or nested lists; text, as CSV has it, is read as JSON."""
    if isinstance(value, str) and field["type"] != "string":
        try:
            return json.loads(value)
        except ValueError:
            raise InvalidInputError(
                f"column {field['name']!r} holds the text {value!r:.60}; a list is written as JSON, such as [0.5, 1.0]"
            ) from None
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_opened(one, field) for one in value]
    return value


def _alike(rows: Sequence[object]) -> Any:
    """Stack rows of one shape into an array of numbers; None where they differ or hold something else."""
    try:
        stacked = np.stack([np.asarray(row) for row in rows]) if rows else np.empty(0)
    except ValueError:
        return None
    return stacked if stacked.dtype.kind in "fiub" and stacked.size else None


def _of_python(values: Sequence[object], field: Document) -> Any:
    plain = [_as_python(value) for value in values]
    try:
        return pa.array(plain, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(
            f"column {field['name']!r} cannot be sent as {field['type']} of shape {field['shape']}: {error}"
        ) from error


def _as_python(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_as_python(one) for one in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        raise InvalidInputError("a cell holds a mapping; give each of its entries a column of its own")
    return value
