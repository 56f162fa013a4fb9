"""The inference log: rows that devices sent, as an Arrow table."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from starlette.responses import Response

from driftline.clock import NS_PER_S
from driftline.hub import registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import VIEWER
from driftline.hub.store.columns import Columns
from driftline.hub.store.telemetry import LogRecord
from driftline.hub.tables import ANOMALIES, TIME, Table, column_of_values, write_table
from driftline.pipeline.schema import Field, parse_schema
from driftline.wire import api
from driftline.wire.api import ARROW
from driftline.wire.device import BASE_WINDOW_S

routes = Routes()

WINDOW_NS = BASE_WINDOW_S * NS_PER_S


@routes.get("/pipelines/{pipeline}/logs", policy=VIEWER, query=api.LogAsked, media=api.ARROW)
def get_logs(call: Call[api.LogAsked]) -> Response:
    """Return the newest rows in time order, as an Arrow IPC stream.

    `limit` of them at most, in [start_ns, end_ns).
    """
    asked = call.body
    pipeline = registry.pipeline(call.hub, call.path["pipeline"])
    table = log(
        call.hub,
        pipeline.id,
        pipeline.versions[0].definition,
        asked.limit,
        asked.start_ns,
        asked.end_ns,
        asked.device or None,
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
