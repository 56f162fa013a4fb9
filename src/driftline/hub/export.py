"""An incident's rows, labelled, for retraining: as Parquet or as CSV, streamed.

A row is one inference: its time, what the assay found of the window it lies in, where it comes from, and what the
model was given and gave. `label` is *drifted* where a window that holds the row is an Alert, *healthy* where all that
hold it are Ok, and empty where nobody can say. There are the rows of each device of the incident, from a while before
it went wrong there until it was well again, device by device, and of each in the order of base windows.

Rows are read twice: first to learn which columns there are, then to write them. Of neither pass more is held at once
than a group of rows, however long the incident was.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, select
from starlette.responses import StreamingResponse

from driftline.clock import NS_PER_S, iso
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import VIEWER
from driftline.hub.store import assays as assay_store
from driftline.hub.store import incidents as store
from driftline.hub.store.assays import Kept
from driftline.hub.store.kept import kept_from
from driftline.hub.store.registry import pipelines, versions
from driftline.hub.store.telemetry import LogRecord
from driftline.hub.tables import TIME, DataType, Table, arrow_type
from driftline.pipeline.schema import Field, parse_schema
from driftline.wire import api
from driftline.wire.device import BASE_WINDOW_S

routes = Routes()

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
# So many rows are held and written at once: of fifty numbers each about 20 MB while they are Python's.
GROUP_ROWS = 10_000
BASE_WINDOW_NS = BASE_WINDOW_S * NS_PER_S
# A text that begins with one of these is a formula to a spreadsheet, whatever quotes are around it (CWE-1236).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
LABELS: Mapping[str, str] = {"Alert": "drifted", "Ok": "healthy"}
FACTS = (
    ("time", TIME),
    ("label", pa.string()),
    ("status", pa.string()),
    ("window_start", TIME),
    ("window_end", TIME),
    ("incident", pa.string()),
    ("assay", pa.string()),
    ("device", pa.string()),
    ("pipeline", pa.string()),
    ("version", pa.string()),
)
_NUMBERS = {"d": pa.float64(), "f": pa.float32(), "q": pa.int64()}


@dataclass(frozen=True)
class Stretch:
    """When a device had an incident, with some time before it."""

    device: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Export:
    """What is written: the base windows with rows of each stretch, and the type of each column."""

    incident: api.Incident
    kept: Kept
    pipeline_name: str
    stretches: Sequence[tuple[Stretch, Sequence[int]]]
    columns: Mapping[str, DataType]

    @property
    def schema(self) -> Any:
        """The columns of the file."""
        return pa.schema([*FACTS, *self.columns.items()])


@routes.get("/incidents/{incident}/rows.parquet", policy=VIEWER, query=api.IncidentRowsAsked, media=PARQUET)
def export_parquet(call: Call[api.IncidentRowsAsked]) -> StreamingResponse:
    """Return an incident's rows with their labels, as a Parquet file.

    Raises:
        EntityNotFoundError: the hub has no rows of it; the message says how it gets some.
        InvalidInputError: no assay opened it.
    """
    found = prepared(call.hub, call.path["incident"], call.body)
    return _file(found, parquet(found.schema, tables(call.hub, found)), PARQUET, "parquet")


@routes.get("/incidents/{incident}/rows.csv", policy=VIEWER, query=api.IncidentRowsAsked, media=CSV)
def export_csv(call: Call[api.IncidentRowsAsked]) -> StreamingResponse:
    """Return an incident's rows with their labels, as CSV that a spreadsheet may open: no text in it is a formula.

    Raises:
        EntityNotFoundError: the hub has no rows of it; the message says how it gets some.
        InvalidInputError: no assay opened it.
    """
    found = prepared(call.hub, call.path["incident"], call.body)
    return _file(found, comma_separated(found.schema, tables(call.hub, found)), f"{CSV}; charset=utf-8", "csv")


def _file(found: Export, content: Iterator[bytes], media: str, ending: str) -> StreamingResponse:
    name = f"incident-{found.incident.id}.{ending}"
    return StreamingResponse(content, 200, {"Content-Disposition": f'attachment; filename="{name}"'}, media)


# ── which rows ───────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(hub: Hub, incident: str, asked: api.IncidentRowsAsked) -> Export:
    """Find out what there is of an incident.

    Raises:
        EntityNotFoundError: there is no such incident, it is not about this device, or the hub has no rows of it.
        InvalidInputError: no assay opened it, so that there is no model's drift in its rows.
    """
    with hub.database.reading() as connection:
        one = store.one(connection, incident)
        if one.assay_id is None:
            raise InvalidInputError(
                f"incident {incident} is about a device itself and not about what its model saw, so that no row of it "
                "has a label; client.get_pipeline(…).logs() has what the device logged"
            )
        kept = assay_store.one(connection, one.assay_id)
        parts = store.parts(connection, incident)
        pipeline = connection.execute(select(pipelines).where(pipelines.c.id == kept.assay.spec.pipeline)).one()
        declared = _declared(connection, pipeline.id)
        rows_from_ns = kept_from(connection).get("rows", 0)
    stretches = stretches_of(parts, asked, hub.now_ns())
    if not stretches:
        raise EntityNotFoundError(
            f"incident {incident} is not about a device {asked.device!r}; it is about {', '.join(one.devices)}"
        )
    kinds: dict[str, set[str]] = {}
    found: list[tuple[Stretch, Sequence[int]]] = []
    for stretch in stretches:
        starts, came = hub.telemetry.logged(pipeline.id, stretch.device, stretch.start_ns, stretch.end_ns)
        found.append((stretch, starts))
        for key, of_key in came.items():
            kinds.setdefault(key, set()).update(of_key)
    if not any(starts for _, starts in found):
        raise EntityNotFoundError(_no_rows(one, stretches, rows_from_ns))
    ordered = sorted(kinds, key=lambda key: (not key.startswith("in."), key))
    return Export(one, kept, pipeline.name, found, {key: _type(kinds[key], declared.get(key)) for key in ordered})


def stretches_of(parts: Sequence[store.Part], asked: api.IncidentRowsAsked, now_ns: int) -> list[Stretch]:
    """Return when each device had an incident; where it came back so soon that stretches touch, they are one.

    >>> part = lambda start, end: store.Part("", "drift", "till", start * NS_PER_S, resolved_ns=end and end * NS_PER_S)
    >>> found = stretches_of([part(100, 200), part(210, None)], api.IncidentRowsAsked(before_s=50), 300 * NS_PER_S)
    >>> [(one.start_ns // NS_PER_S, one.end_ns // NS_PER_S) for one in found]
    [(50, 300)]
    """
    made: list[Stretch] = []
    chosen = [part for part in parts if not asked.device or asked.device == part.device]
    for part in sorted(chosen, key=lambda part: (part.device, part.opened_ns)):
        start_ns = max(0, part.opened_ns - asked.before_s * NS_PER_S)
        end_ns = max(part.opened_ns, part.resolved_ns or now_ns)
        last = made[-1] if made else None
        if last is not None and last.device == part.device and start_ns <= last.end_ns:
            made[-1] = Stretch(last.device, last.start_ns, max(last.end_ns, end_ns))
        else:
            made.append(Stretch(part.device, start_ns, end_ns))
    return made


def has_rows(hub: Hub, pipeline: str, parts: Sequence[store.Part]) -> bool:
    """Say whether there are rows of an incident, without reading any."""
    whole = stretches_of(parts, api.IncidentRowsAsked(), hub.now_ns())
    return any(hub.telemetry.has_rows(pipeline, one.device, one.start_ns, one.end_ns) for one in whole)


def _no_rows(one: api.Incident, stretches: Sequence[Stretch], rows_from_ns: int) -> str:
    devices = sorted({stretch.device for stretch in stretches})
    first_ns, end_ns = min(one.start_ns for one in stretches), max(one.end_ns for one in stretches)
    removed = f" Rows of before {iso(rows_from_ns)} were removed as too old." if end_ns <= rows_from_ns else ""
    return (
        f"the hub has no rows of {', '.join(devices)} from {iso(first_ns)} to {iso(end_ns)}: these devices sent "
        f"counts, which is enough to find drift but not to retrain.{removed} So that it has rows the next time: "
        f"client.set_link({devices[0]!r}, rows_kb_a_day=…); what the devices still keep of them comes, too (incident "
        f"{one.id})"
    )


def _declared(connection: Connection, pipeline: str) -> dict[str, Field]:
    """Return the fields that all versions of a pipeline declare alike."""
    found: dict[str, set[Field]] = {}
    for (definition,) in connection.execute(select(versions.c.definition).where(versions.c.pipeline == pipeline)):
        for side, schema in (("in", definition["inputs"]), ("out", definition["outputs"])):
            for field in parse_schema(schema):
                found.setdefault(f"{side}.{field.name}", set()).add(field)
    return {key: next(iter(fields)) for key, fields in found.items() if len(fields) == 1}


def _type(kinds: set[str], field: Field | None) -> DataType:
    """Return what a column is in the file: a number, a list as the pipeline declares it, else text."""
    if kinds <= set(_NUMBERS):
        return _NUMBERS[next(iter(kinds))] if len(kinds) == 1 else pa.float64()
    return pa.string() if field is None else arrow_type(field)


# ── rows with labels ─────────────────────────────────────────────────────────────────────────────────────────────


def tables(hub: Hub, found: Export) -> Iterator[Table]:
    """Yield the rows as tables of about `GROUP_ROWS` rows."""
    group: list[Table] = []
    for stretch, starts in found.stretches:
        for start_s in starts:
            windows = _windows(hub, found.kept, stretch.device, start_s)
            records = hub.telemetry.logged_at(found.kept.assay.spec.pipeline, stretch.device, start_s)
            group += [_table(found, stretch, record, windows) for record in records]
            if sum(table.num_rows for table in group) >= GROUP_ROWS:
                yield pa.concat_tables(group)
                group = []
    if group:
        yield pa.concat_tables(group)


Window = tuple[int, int, api.Status]


def _windows(hub: Hub, kept: Kept, device: str, start_s: int) -> list[Window]:
    """Return the windows that touch a base window."""
    spec, start_ns = kept.assay.spec, start_s * NS_PER_S
    fields = {one.field for one in spec.watched}
    with hub.database.reading() as connection:
        found = assay_store.statuses(
            connection,
            kept.assay.id,
            device,
            fields,
            start_ns - spec.windows.width_s * NS_PER_S,
            start_ns + BASE_WINDOW_NS,
        )
    return [one for one in found if one[1] > start_ns]


def _table(found: Export, stretch: Stretch, record: LogRecord, windows: Sequence[Window]) -> Table:
    times = record.columns.times_ns
    inside = np.flatnonzero((times >= stretch.start_ns) & (times < stretch.end_ns))
    inside = inside[np.argsort(times[inside], kind="stable")]
    marks = [window_of(int(time_ns), windows) for time_ns in times[inside]]
    count = len(inside)
    facts: dict[str, Any] = {
        "time": times[inside],
        "label": [label_of(int(time_ns), windows) for time_ns in times[inside]],
        "status": [None if mark is None else mark[2] for mark in marks],
        "window_start": [None if mark is None else mark[0] for mark in marks],
        "window_end": [None if mark is None else mark[1] for mark in marks],
        "incident": [found.incident.id] * count,
        "assay": [found.kept.assay.spec.name] * count,
        "device": [stretch.device] * count,
        "pipeline": [found.pipeline_name] * count,
        "version": [record.version] * count,
    }
    columns = [pa.array(facts[name], kind) for name, kind in FACTS]
    kinds = record.columns.kinds
    for key, kind in found.columns.items():
        values = record.columns.values(key) if key in kinds else [None] * record.columns.rows
        columns.append(_column([values[at] for at in inside], kind))
    return pa.table(columns, schema=found.schema)


def window_of(time_ns: int, windows: Sequence[Window]) -> Window | None:
    """Return the window that holds a time; of several the one an owner wants to see first."""
    holding = [one for one in windows if one[0] <= time_ns < one[1]]
    return min(holding, key=lambda one: (assay_store.URGENCY.index(one[2]), one[0]), default=None)


def label_of(time_ns: int, windows: Sequence[Window]) -> str | None:
    """Return what a row is for training: drifted, healthy, or neither for sure.

    >>> label_of(5, [(0, 10, "Ok"), (0, 10, "Alert")]), label_of(5, [(0, 10, "Ok")]), label_of(5, [(0, 10, "Warning")])
    ('drifted', 'healthy', None)
    """
    found = window_of(time_ns, windows)
    return None if found is None else LABELS.get(found[2])


def _column(values: Sequence[Any], kind: DataType) -> Any:
    """Return values as a column; what is not of its type is text in a column of texts, and missing in any other."""
    if kind == pa.string():
        return pa.array([None if one is None else _text(one) for one in values], kind)
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([_fitting(one, kind) for one in values], kind)


def _fitting(value: Any, kind: DataType) -> Any:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else api.encode(value).decode()


# ── the two forms ────────────────────────────────────────────────────────────────────────────────────────────────


class _Sink(io.RawIOBase):
    """A file that hands on what was written to it, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Say that it may be written."""
        return True

    def write(self, data: Any) -> int:
        """Take some bytes."""
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        """Return how much was written so far."""
        return self._size

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def parquet(schema: Any, groups: Iterable[Table]) -> Iterator[bytes]:
    """Yield a Parquet file in pieces, a row group each."""
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in groups:
            writer.write_table(table)
            yield sink.taken()
    yield sink.taken()


def comma_separated(schema: Any, groups: Iterable[Table]) -> Iterator[bytes]:
    """Yield CSV (RFC 4180) in pieces, in UTF-8; times are ISO 8601, lists JSON, what is missing is empty."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow([harmless(name) for name in schema.names])
    for table in groups:
        columns = [_cells(table.column(at), kind) for at, kind in enumerate(schema.types)]
        writer.writerows(zip(*columns, strict=True))
        yield sink.getvalue().encode()
        sink.seek(0)
        sink.truncate()


def _cells(column: Any, kind: DataType) -> list[Any]:
    if kind == TIME:
        return [None if one is None else iso(one) for one in column.cast(pa.int64()).to_pylist()]
    values = column.to_pylist()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    return [None if one is None else harmless(_text(one)) for one in values]


def harmless(text: str) -> str:
    """Return a text that a spreadsheet shows and does not compute: what would be a formula gets an apostrophe.

    >>> harmless("=1+1"), harmless("till-1")
    ("'=1+1", 'till-1')
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
