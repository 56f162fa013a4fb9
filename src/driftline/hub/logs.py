"""The inference log: rows that devices sent, as an Arrow table."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from starlette.responses import Response

from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError
from driftline.hub import registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.store.columns import Columns
from driftline.hub.store.telemetry import LogRecord
from driftline.hub.tables import ANOMALIES, TIME, Table, column_of_values, write_table
from driftline.pipeline.schema import Field, parse_schema
from driftline.wire.api import ARROW
from driftline.wire.device import BASE_WINDOW_S

routes = Routes()

LIMIT = 100
LIMIT_MAX = 1_000_000
TIME_MAX_NS = 2**62
WINDOW_NS = BASE_WINDOW_S * NS_PER_S


@routes.get("/pipelines/{pipeline}/logs")
def get_logs(call: Call[None]) -> Response:
    """Return the newest rows in time order, as an Arrow IPC stream.

    Query: `limit` (100), `start_ns` and `end_ns` (from, and before), `device`.

    Raises:
        InvalidInputError: a limit or a time that is none.
    """
    limit = call.integer("limit", LIMIT)
    if limit is None or not 0 < limit <= LIMIT_MAX:
        raise InvalidInputError(f"limit={limit}: one request returns 1 to {LIMIT_MAX} rows; ask for less time at once")
    start_ns = _time(call.integer("start_ns", 0))
    end_ns = _time(call.integer("end_ns", TIME_MAX_NS))
    pipeline = registry.pipeline(call.hub, call.path["pipeline"])
    table = log(
        call.hub, pipeline.id, pipeline.versions[0].definition, limit, start_ns, end_ns, call.query.get("device")
    )
    return Response(write_table(table), media_type=ARROW)


def log(
    hub: Hub,
    pipeline: str,
    definition: Mapping[str, Any],
    limit: int,
    start_ns: int,
    end_ns: int,
    device: str | None = None,
) -> Table:
    """Return the newest `limit` rows in [start_ns, end_ns), in time order."""
    pieces = _newest(hub.telemetry.log(pipeline, device, start_ns, end_ns), limit, start_ns, end_ns)
    times = np.concatenate([piece.times_ns for piece in pieces]) if pieces else np.empty(0, np.int64)
    order = np.argsort(times, kind="stable")[-limit:]
    columns: dict[str, Any] = {"time": pa.array(times[order], pa.int64()).cast(TIME)}
    declared = _declared(definition)
    for key in _keys(declared, pieces):
        values = [value for piece in pieces for value in piece.values(key)]
        columns[key] = column_of_values([values[at] for at in order], declared.get(key))
    columns[ANOMALIES] = pa.array(np.zeros(len(order), np.int64))
    names = [piece.device for piece in pieces for _ in piece.times_ns]
    columns["device"] = pa.array([names[at] for at in order], pa.string())
    return pa.table(columns)


class _Piece:
    """Those rows of one record that were asked for."""

    def __init__(self, record: LogRecord, start_ns: int, end_ns: int) -> None:
        self.device = record.device
        self._columns: Columns = record.columns
        times = record.columns.times_ns
        self._kept: NDArray[np.intp] = np.flatnonzero((times >= start_ns) & (times < end_ns))
        self.times_ns: NDArray[np.int64] = times[self._kept]

    @property
    def keys(self) -> list[str]:
        return list(self._columns.kinds)

    def values(self, key: str) -> list[Any]:
        if key not in self._columns.kinds:
            return [None] * len(self._kept)
        values = self._columns.values(key)
        return [values[at] for at in self._kept]


def _newest(records: Iterator[LogRecord], limit: int, start_ns: int, end_ns: int) -> list[_Piece]:
    """Read records, newest base window first, until those windows hold enough rows."""
    pieces: list[_Piece] = []
    rows = 0
    filled = (one for one in records if one.columns.rows)
    for _, of_window in groupby(filled, lambda one: int(one.columns.times_ns[0]) // WINDOW_NS):
        found = [_Piece(one, start_ns, end_ns) for one in of_window]
        rows += sum(len(piece.times_ns) for piece in found)
        # The oldest first, so that rows of one moment stay in the order in which they came.
        pieces = [*reversed(found), *pieces]
        if rows >= limit:
            break
    return pieces


def _declared(definition: Mapping[str, Any]) -> dict[str, Field]:
    sides = {"in": parse_schema(definition["inputs"]), "out": parse_schema(definition["outputs"])}
    return {f"{side}.{field.name}": field for side, fields in sides.items() for field in fields}


def _keys(declared: Mapping[str, Field], pieces: Sequence[_Piece]) -> list[str]:
    """Return the keys that came: declared ones in their order, then others by name; inputs first."""
    came = {key for piece in pieces for key in piece.keys}
    if not pieces:
        return list(declared)
    known = [key for key in declared if key in came]
    rest = sorted(came - set(known))
    return sorted([*known, *rest], key=lambda key: not key.startswith("in."))


def _time(time_ns: int | None) -> int:
    if time_ns is None or not 0 <= time_ns <= TIME_MAX_NS:
        raise InvalidInputError(f"{time_ns} is not a time in nanoseconds since 1970")
    return time_ns
