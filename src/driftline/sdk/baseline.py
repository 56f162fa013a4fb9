"""A baseline as people have it, a file, an array or a table, read into plain numbers or texts; None is a missing value.

Where there are several columns, each field takes its own: `out.avg_confidence`, `avg_confidence`, or the iopath itself.
A list that is watched as a whole takes one vector an inference.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import Kind, ResolvedField, canonical
from driftline.sdk.times import Moment, to_ns
from driftline.wire import api

Values = list[float | str | None]
Columns = Mapping[str, Sequence[object]]
_MISSING = {"", "nan", "na", "n/a", "null", "none"}
_EXAMPLE = "one line of comma-separated numbers, one number a line, or columns with a header"
# The name of a column where there is one and it has none.
_ALONE = ""


class _Cell(str):
    """What stands in a CSV, where a number cannot but be text. Elsewhere text that looks like one is none."""

    __slots__ = ()


def read(given: object, iopaths: Mapping[str, Kind]) -> dict[str, Values]:
    """Read a baseline for the fields that iopaths spell, each with what it holds; the values are by iopath.

    `given` is the path of a CSV or Parquet file, an ndarray, a list, a Series, an Arrow array, or with a column a field
    a DataFrame, a dict or an Arrow table. For one field the only column is its own, whatever its name. A CSV of texts
    has a header.

    Raises:
        InvalidInputError: no such file, nothing in it, a field without a column, or not numbers.
    """
    found = _found(given, iopaths)
    return {
        iopath: _checked(_values(column, where, iopath, iopaths[iopath]), where)
        for iopath, (where, column) in found.items()
    }


def of_data(given: object, fields: Mapping[str, ResolvedField]) -> api.Baseline:
    """Return the baseline that values are, for fields by their iopaths; for a whole list, an array of shape [n, size].

    Raises:
        InvalidInputError: see `read`; also where vectors differ in length, or a number stands for one.
    """
    whole = any(field.size != 1 for field in fields.values())
    found = _found(given, {iopath: field.kind for iopath, field in fields.items()}, whole=whole)
    values: dict[str, Values] = {}
    vectors: dict[str, api.Vectors] = {}
    for iopath, (where, column) in found.items():
        field = fields[iopath]
        if _is_whole(field, column):
            vectors[field.key] = _vectors(column, where, iopath, field.size)
        else:
            values[field.key] = _checked(_values(column, where, iopath, field.kind), where)
    return api.Baseline(values=values or None, vectors=vectors or None)


def _found(
    given: object, iopaths: Mapping[str, Kind], *, whole: bool = False
) -> dict[str, tuple[str, Sequence[object]]]:
    """Return where each field's column stands, in words, and the column."""
    if isinstance(given, str | os.PathLike):
        path = Path(cast("str | os.PathLike[str]", given)).expanduser()
        where, columns = str(path), _file(path, iopaths)
    else:
        where = f"baseline_data ({type(given).__name__})"
        columns = _in_memory(given, where, whole=whole)
    if not columns:
        raise InvalidInputError(f"{where} has no columns; a baseline is {_EXAMPLE}")
    chosen = _chosen(columns, where, list(iopaths))
    return {
        iopath: (where if len(iopaths) == 1 else f"{where}, {iopath!r}", column) for iopath, column in chosen.items()
    }


def in_time(
    data: object, start: Moment | None, end: Moment | None, device: str | None = None, season: object = None
) -> api.Baseline | None:
    """Return a baseline in time, or None where data was given.

    Raises:
        InvalidInputError: both were given or neither, no range of time, or no season.
    """
    if data is not None:
        if start is not None or end is not None or device is not None:
            raise InvalidInputError("give either baseline_data, or baseline_start and baseline_end; not both")
        if season is not None:
            raise InvalidInputError(
                "values do not say when they were seen, so they have no season; leave baseline_season out, or give "
                "baseline_start and baseline_end"
            )
        return None
    if start is None or end is None:
        raise InvalidInputError(
            "an assay needs a baseline to compare with: baseline_data (a file, an array, a table), "
            "or baseline_start and baseline_end"
        )
    start_ns, end_ns = to_ns(start, "baseline_start"), to_ns(end, "baseline_end")
    if start_ns >= end_ns:
        raise InvalidInputError("baseline_end is not after baseline_start; exchange the two")
    return api.Baseline(start_ns=start_ns, end_ns=end_ns, device=device, season=_season(season))


def _season(season: object) -> api.Season | None:
    for known in get_args(api.Season):
        if season == known:
            return known
    if season is None:
        return None
    raise InvalidInputError(
        f"baseline_season is {season!r:.60}; give 'day' where an hour is like the same hour of other days, 'week' "
        "where weekdays differ, too, or leave it out"
    )


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _file(path: Path, iopaths: Mapping[str, Kind]) -> Columns:
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
        return _parquet(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"the baseline file {path} is neither CSV nor Parquet; a CSV is {_EXAMPLE}") from None
    return _csv(text, str(path), iopaths)


def _parquet(path: Path) -> Columns:
    try:
        table = parquet.read_table(str(path))
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(f"the baseline file {path} cannot be read as Parquet: {error}") from error
    return _of_table(table)


def _csv(text: str, where: str, iopaths: Mapping[str, Kind]) -> Columns:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InvalidInputError(f"{where} is empty; a baseline is {_EXAMPLE}")
    if len(lines) == 1:
        # A list as Python prints it is one line of numbers, too.
        lines = [lines[0].strip().removeprefix("[").removesuffix("]")]
    rows = [[_Cell(cell.strip()) for cell in row] for row in csv.reader(lines, delimiter=_delimiter(lines[0]))]
    if len(rows) == 1:
        return {_ALONE: rows[0][:-1] if rows[0][-1] == "" else rows[0]}
    if "category" in iopaths.values() or _is_header(rows[0]):
        header, *body = rows
        _check_even(rows, where)
        # pandas writes its index as a first column without a name.
        first = 1 if header[0] == "" and len(header) > 1 else 0
        return {name: [row[at] for row in body] for at, name in enumerate(header) if at >= first}
    if max(map(len, rows)) > 1:
        which = " and which ".join(map(repr, iopaths))
        raise InvalidInputError(
            f"{where} has {max(map(len, rows))} columns and no header that says which is {which}; "
            f"add a header, or write {_EXAMPLE}"
        )
    return {_ALONE: [row[0] for row in rows]}


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


def _in_memory(given: object, where: str, *, whole: bool) -> Columns:
    if isinstance(given, pd.DataFrame):
        return {str(name): given[name].tolist() for name in given.columns}
    if isinstance(given, Mapping):
        columns = cast("Mapping[object, object]", given)
        return {
            str(name): _sequence(values, f"{where}, {str(name)!r}", whole=whole) for name, values in columns.items()
        }
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if isinstance(given, pa.Table):
        return _of_table(given)
    return {_ALONE: _sequence(given, where, whole=whole)}


def _sequence(given: object, where: str, *, whole: bool) -> Sequence[object]:
    if isinstance(given, pa.Array | pa.ChunkedArray):
        return cast("Any", given).to_pylist()
    if isinstance(given, pd.Series):
        return cast("list[object]", given.tolist())
    if isinstance(given, np.ndarray) and whole and given.ndim > 1:
        return list(cast("np.ndarray[Any, Any]", given))
    if isinstance(given, np.ndarray):
        return _flat(cast("np.ndarray[Any, Any]", given), where).tolist()
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return cast("Sequence[object]", given)
    raise InvalidInputError(
        f"{where} is no baseline; give the path of a CSV or Parquet file, an array, a list, a Series, "
        "a DataFrame, a dict of columns, or an Arrow array or table"
    )


def _flat(array: "np.ndarray[Any, Any]", where: str) -> "np.ndarray[Any, Any]":
    if sum(length > 1 for length in array.shape) > 1:
        raise InvalidInputError(
            f"{where} has shape {list(array.shape)}; a baseline is one number an inference, take one column of it"
        )
    return array.reshape(-1)


def _of_table(table: Any) -> dict[str, list[object]]:
    return {name: table[name].to_pylist() for name in table.column_names}


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _chosen(columns: Columns, where: str, iopaths: Sequence[str]) -> dict[str, Sequence[object]]:
    """Take the only column for the only field, else for each field the one that is named as it is."""
    if len(columns) == len(iopaths) == 1:
        return {iopaths[0]: next(iter(columns.values()))}
    by_name = {name.strip().lower(): values for name, values in columns.items()}
    found = {iopath: next((by_name[name] for name in _names(iopath) if name in by_name), None) for iopath in iopaths}
    without = [iopath for iopath, values in found.items() if values is None]
    if without:
        keep = "keep one column, or " if len(iopaths) == 1 else ""
        wanted = " and ".join(repr(_names(iopath)[-1]) for iopath in without)
        there = "one column without a name" if list(columns) == [_ALONE] else f"the columns {', '.join(columns)}"
        raise InvalidInputError(
            f"{where} has {there}, and none is {' nor '.join(map(repr, without))}; "
            f"{keep}name {'it' if len(without) == 1 else 'them'} {wanted}"
        )
    return {iopath: values for iopath, values in found.items() if values is not None}


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


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _values(values: Sequence[object], where: str, iopath: str, kind: Kind) -> Values:
    """Return numbers or texts; of lists, as a pipeline's outputs come, the element that the iopath names.

    Lists of one are their element, because the reference platform wraps scalars in lists.
    """
    lists = [cast("Sequence[object]", value) for value in values if isinstance(value, np.ndarray | list | tuple)]
    at = _index(iopath) if max(map(len, lists), default=0) > 1 else 0
    plain = _text if kind == "category" else _number
    return [plain(_element(value, at), where) for value in values]


def _element(value: object, at: int) -> object:
    if isinstance(value, np.ndarray | list | tuple):
        items = cast("Sequence[object]", value)
        return items[at] if at < len(items) else None
    return value


def _text(value: object, where: str) -> str | None:
    if value is None or value is pd.NaT or value is pd.NA or value != value:  # noqa: PLR0124  NaN differs from itself
        return None
    if not isinstance(value, str):
        raise InvalidInputError(f"{where} holds {value!r:.60}, but the field is text; give its values as text")
    # 'none' and 'NA' are labels that a model may give; only an empty cell is none.
    return str(value) or None


def _number(value: object, where: str) -> float | None:
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, str | bytes) and not isinstance(value, _Cell):
        raise InvalidInputError(
            f"{where} holds the text {value!r:.60}, but the field is a number; convert it first, such as with "
            "pandas.to_numeric"
        )
    if isinstance(value, _Cell):
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
        raise InvalidInputError(f"{where} holds {len(values)} missing values and no other; take another baseline")
    return values


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_whole(field: ResolvedField, column: Sequence[object]) -> bool:
    """Say whether a field is watched as a whole; where the pipeline declares nothing, its values say so."""
    if field.size is not None:
        return field.size > 1
    return any(_is_list(one) and len(cast("Sequence[object]", one)) > 1 for one in column)


def _is_list(value: object) -> bool:
    return isinstance(value, np.ndarray | list | tuple)


def _vectors(column: Sequence[object], where: str, iopath: str, size: int | None) -> api.Vectors:
    """Return vectors as they travel; an inference without one has it missing."""
    shape = f"[n, {size or 'd'}]"
    way = f"give an array of shape {shape}, or a column with one list of numbers an inference"
    other = next((one for one in column if not _is_list(one) and not _is_missing(one)), None)
    if other is not None:
        raise InvalidInputError(f"{where} holds {other!r:.60}, but {iopath!r} is a whole vector; {way}")
    lists = [cast("Sequence[object]", one) for one in column if _is_list(one)]
    lengths = sorted({len(one) for one in lists})
    if not lengths:
        raise InvalidInputError(f"{where} holds no vector of {iopath!r}; {way}")
    if len(lengths) > 1:
        raise InvalidInputError(
            f"{where} holds vectors of {lengths[0]} to {lengths[-1]} numbers; all of {iopath!r} are equally long"
        )
    if size is not None and lengths[0] != size:
        raise InvalidInputError(f"{where} holds vectors of {lengths[0]} numbers; {iopath!r} has {size}")
    rows = [one if _is_list(one) else [None] * lengths[0] for one in column]
    return api.Vectors(size=lengths[0], data=_packed(rows, where, way))


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value  # noqa: PLR0124  NaN differs from itself


def _packed(rows: Sequence[object], where: str, way: str) -> bytes:
    floats: np.ndarray[Any, Any] | None = None
    try:
        array: np.ndarray[Any, Any] = np.array(rows)
        # numpy would read text that looks like a number.
        texts = array.dtype.kind in "SU" or (array.dtype == object and any(isinstance(one, str) for one in array.flat))
        if array.ndim == 2 and not texts:
            floats = array.astype(np.float64)
    except (TypeError, ValueError):
        floats = None
    if floats is None:
        raise InvalidInputError(f"{where} holds vectors of something else than numbers; {way}")
    if np.isinf(floats).any():
        raise InvalidInputError(f"{where} holds an infinite value; leave it out, or replace it by the sensor's limit")
    with np.errstate(over="ignore"):
        return floats.astype("<f4").tobytes()
