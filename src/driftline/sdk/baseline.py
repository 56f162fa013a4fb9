"""A baseline as people have it, a file or an array, read into plain numbers; None is a missing value.

Where there are several columns, the one of the assay's field is taken: `out.avg_confidence`, `avg_confidence`, or the
iopath itself.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import canonical

Values = list[float | None]
_MISSING = {"", "nan", "na", "n/a", "null", "none"}
_EXAMPLE = "one line of comma-separated numbers, one number a line, or columns with a header"


def read(given: object, iopath: str) -> Values:
    """Read a baseline for the field that `iopath` spells.

    `given` is the path of a CSV or Parquet file, an ndarray, a list, a Series, a DataFrame or an Arrow array or table.

    Raises:
        InvalidInputError: no such file, nothing in it, several columns of which none is the field's, or not numbers.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(cast("str | os.PathLike[str]", given)).expanduser()
        return _checked(_file(path, iopath), str(path))
    return _checked(_in_memory(given, iopath), f"baseline_data ({type(given).__name__})")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _file(path: Path, iopath: str) -> Values:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; give the CSV or Parquet file in it that holds the baseline")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInputError(
            f"there is no baseline file {path} (looked from {Path.cwd()}); check the path"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"the baseline file {path} cannot be read: {error.strerror}") from error
    if data[:4] == b"PAR1":
        return _parquet(path, iopath)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"the baseline file {path} is neither CSV nor Parquet; a CSV is {_EXAMPLE}") from None
    return _csv(text, str(path), iopath)


def _parquet(path: Path, iopath: str) -> Values:
    try:
        table = parquet.read_table(str(path))
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(f"the baseline file {path} cannot be read as Parquet: {error}") from error
    return _columns(_of_table(table), str(path), iopath)


def _csv(text: str, where: str, iopath: str) -> Values:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InvalidInputError(f"{where} is empty; a baseline is {_EXAMPLE}")
    if len(lines) == 1:
        # A list as Python prints it is one line of numbers, too.
        lines = [lines[0].strip().removeprefix("[").removesuffix("]")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=_delimiter(lines[0]))]
    if len(rows) == 1:
        cells = rows[0][:-1] if rows[0][-1] == "" else rows[0]
        return [_number(cell, where) for cell in cells]
    if _is_header(rows[0]):
        header, *body = rows
        if not body:
            raise InvalidInputError(f"{where} has a header and no values; a baseline is {_EXAMPLE}")
        _check_even(rows, where)
        # pandas writes its index as a first column without a name.
        first = 1 if header[0] == "" and len(header) > 1 else 0
        columns = {name: [row[at] for row in body] for at, name in enumerate(header) if at >= first}
        return _columns(columns, where, iopath)
    if max(map(len, rows)) > 1:
        raise InvalidInputError(
            f"{where} has {max(map(len, rows))} columns and no header that says which is {iopath!r}; "
            f"add a header, or write {_EXAMPLE}"
        )
    return [_number(row[0], where) for row in rows]


def _delimiter(line: str) -> str:
    return next((one for one in (",", ";", "\t") if one in line), ",")


def _is_header(cells: Sequence[str]) -> bool:
    def is_number(cell: str) -> bool:
        return cell.lower() in _MISSING - {""} or _float(cell) is not None

    return (cells[0] == "" and len(cells) > 1) or not all(is_number(cell) for cell in cells)


def _check_even(rows: Sequence[Sequence[str]], where: str) -> None:
    for line, (before, row) in enumerate(pairwise(rows), start=2):
        if len(row) != len(before):
            raise InvalidInputError(
                f"{where}, line {line}: {len(row)} cells, but the line before has {len(before)}; "
                f"a baseline is {_EXAMPLE}"
            )


# ── arrays and tables ────────────────────────────────────────────────────────────────────────────────────────────


def _in_memory(given: object, iopath: str) -> Values:
    where = f"baseline_data ({type(given).__name__})"
    if isinstance(given, pd.DataFrame):
        return _columns({str(name): given[name].tolist() for name in given.columns}, where, iopath)
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if isinstance(given, pa.Table):
        return _columns(_of_table(given), where, iopath)
    if isinstance(given, pa.Array | pa.ChunkedArray):
        return _numbers(cast("Any", given).to_pylist(), where, iopath)
    if isinstance(given, pd.Series):
        return _numbers(cast("list[object]", given.tolist()), where, iopath)
    if isinstance(given, np.ndarray):
        return _numbers(_flat(cast("np.ndarray[Any, Any]", given), where).tolist(), where, iopath)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _numbers(cast("Sequence[object]", given), where, iopath)
    raise InvalidInputError(
        f"{where} is no baseline; give the path of a CSV or Parquet file, an array, a list, a Series, "
        "a DataFrame or an Arrow array or table"
    )


def _flat(array: "np.ndarray[Any, Any]", where: str) -> "np.ndarray[Any, Any]":
    if sum(length > 1 for length in array.shape) > 1:
        raise InvalidInputError(
            f"{where} has shape {list(array.shape)}; a baseline is one number an inference, take one column of it"
        )
    return array.reshape(-1)


def _of_table(table: Any) -> dict[str, list[object]]:
    return {name: table[name].to_pylist() for name in table.column_names}


def _columns(columns: Mapping[str, Sequence[object]], where: str, iopath: str) -> Values:
    """Take the only column, else the one that is named as the field."""
    if not columns:
        raise InvalidInputError(f"{where} has no columns; a baseline is {_EXAMPLE}")
    if len(columns) == 1:
        (values,) = columns.values()
        return _numbers(values, where, iopath)
    by_name = {name.strip().lower(): values for name, values in columns.items()}
    wanted = _names(iopath)
    found = next((by_name[name] for name in wanted if name in by_name), None)
    if found is None:
        raise InvalidInputError(
            f"{where} has the columns {', '.join(columns)}, and none is {iopath!r}; "
            f"keep one column, or name it {wanted[-1]!r}"
        )
    return _numbers(found, where, iopath)


def _names(iopath: str) -> list[str]:
    """Return the names a field's column may have, the most exact first.

    >>> _names("output avg_confidence 0")
    ['output avg_confidence 0', 'out.avg_confidence.0', 'out.avg_confidence', 'avg_confidence']
    """
    key = canonical(iopath)
    bare = key
    while bare.rpartition(".")[2].isdigit():
        bare = bare.rpartition(".")[0]
    return list(dict.fromkeys(name.lower() for name in (iopath, key, bare, bare.partition(".")[2])))


def _index(iopath: str) -> int:
    last = canonical(iopath).rpartition(".")[2]
    return int(last) if last.isdigit() else 0


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _numbers(values: Sequence[object], where: str, iopath: str) -> Values:
    """Return numbers; of lists, as a pipeline's outputs come, the element that the iopath names.

    Lists of one are their element, because the reference platform wraps scalars in lists.
    """
    lists = [cast("Sequence[object]", value) for value in values if isinstance(value, np.ndarray | list | tuple)]
    at = _index(iopath) if max(map(len, lists), default=0) > 1 else 0
    return [_number(_element(value, at), where) for value in values]


def _element(value: object, at: int) -> object:
    if isinstance(value, np.ndarray | list | tuple):
        items = cast("Sequence[object]", value)
        return items[at] if at < len(items) else None
    return value


def _number(value: object, where: str) -> float | None:
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]").strip()
        number = math.nan if text.lower() in _MISSING else _float(text)
    else:
        number = _float(value)
    if number is None:
        raise InvalidInputError(f"{where} holds {value!r:.60}, which is not a number; a baseline is {_EXAMPLE}")
    if math.isinf(number):
        raise InvalidInputError(f"{where} holds an infinite value; leave it out, or replace it by the sensor's limit")
    return None if math.isnan(number) else number


def _float(value: object) -> float | None:
    try:
        return float(cast("Any", value))
    except (TypeError, ValueError):
        return None


def _checked(values: Values, where: str) -> Values:
    if not values:
        raise InvalidInputError(f"{where} is empty; a baseline is {_EXAMPLE}")
    if all(value is None for value in values):
        raise InvalidInputError(f"{where} holds {len(values)} missing values and no number; take another baseline")
    return values
