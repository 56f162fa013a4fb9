"""Assays, their frozen baselines, their analyses and the incidents: tables and the reading and writing of them.

One row an analysis: what pages and the incidents' rules look at are columns, the whole answer is the `document` column
as JSON. A baseline is kept as what it was made of (values, or counts on grids), so that it can be binned with other
edges later. `assay_progress` says up to where each assay × device was scored, and holds the newest answer for the
pages that list many. `scorer` holds up to which stored window record the scorer has looked for late data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    RowMapping,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from driftline.errors import ConflictError, EntityNotFoundError
from driftline.hub.store.database import metadata
from driftline.hub.store.telemetry import names, windows
from driftline.wire import api

ASSAYS = Table(
    "assays",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("name", String, nullable=False),
    Column("pipeline", String, nullable=False),
    Column("field", String, nullable=False),
    Column("field_type", String, nullable=False),
    Column("spec", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    # Where the window plan starts; NULL until the pipeline has seen an inference.
    Column("start_ns", BigInteger),
    Column("notes", Text, nullable=False),
    # Why the scorer could not answer when it last tried; NULL where it could.
    Column("failure", Text),
    UniqueConstraint("workspace", "name"),
)

# One row a device, or a single one with device '' that serves all.
BASELINES = Table(
    "assay_baselines",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String, primary_key=True),
    Column("numbers", LargeBinary),  # little-endian float64, NaN where missing; NULL where it is counts
    Column("counts", LargeBinary),  # msgpack: [[grid id, summary bytes], …]; NULL where it is values
)

ANALYSES = Table(
    "analyses",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String, primary_key=True),
    Column("start_ns", BigInteger, primary_key=True),
    Column("end_ns", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("score", Float),
    Column("revision", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("analyses_by_time", "assay", "start_ns"),
    sqlite_with_rowid=False,
)

PROGRESS = Table(
    "assay_progress",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String, primary_key=True),
    Column("next_ns", BigInteger, nullable=False),  # start of the first window without a final answer
    Column("late_ns", BigInteger, nullable=False),  # start of the first window after those answered Late
    Column("status", String),  # of the newest answer
    Column("score", Float),
    Column("end_ns", BigInteger),
)

SCORER = Table("scorer", metadata, Column("windows_seen", BigInteger, nullable=False))

INCIDENTS = Table(
    "incidents",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("device", String, nullable=False),
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE")),
    Column("field", String),
    Column("source", String),  # the camera, for those about one
    Column("opened_ns", BigInteger, nullable=False),
    Column("resolved_ns", BigInteger),
    Column("text", Text, nullable=False),
    Column("windows", Integer, nullable=False),
    Index("incidents_by_time", "opened_ns"),
    # At most one open incident for one cause, whoever writes.
    Index(
        "incidents_open",
        "kind",
        "device",
        text("coalesce(assay, '')"),
        text("coalesce(source, '')"),
        unique=True,
        sqlite_where=text("resolved_ns IS NULL"),
    ),
)

EVERY_DEVICE = ""


@dataclass(frozen=True)
class Material:
    """What a baseline is made of: `values` (NaN where missing), or `counts` as (grid id, summary bytes)."""

    values: NDArray[np.float64] | None = None
    counts: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Kept:
    """A standing assay with what only the hub needs of it."""

    assay: api.Assay
    field_type: str
    start_ns: int | None
    failure: str | None = None


@dataclass(frozen=True)
class Progress:
    """Up to where an assay's windows on one device are answered, and the newest answer."""

    assay: str
    device: str
    next_ns: int
    late_ns: int
    status: api.Status | None = None
    score: float | None = None
    end_ns: int | None = None


@dataclass(frozen=True)
class Mark:
    """One window in a status strip."""

    start_ns: int
    end_ns: int
    status: api.Status
    score: float | None


@dataclass(frozen=True)
class Arrival:
    """A base window of which a record came in."""

    pipeline: str
    device: str
    start_s: int


# ── assays ───────────────────────────────────────────────────────────────────────────────────────────────────────


def need_free_name(connection: Connection, workspace: str, name: str) -> None:
    """Refuse a name that an assay of this workspace has.

    Raises:
        ConflictError: it is taken.
    """
    taken = select(ASSAYS.c.id).where(ASSAYS.c.workspace == workspace, ASSAYS.c.name == name)
    if connection.execute(taken).first() is not None:
        raise ConflictError(
            f"this workspace has an assay named {name!r} already; give the new one another name, "
            "or switch the old one off and keep it for its history"
        )


def save(
    connection: Connection, assay: api.Assay, *, field_type: str, start_ns: int | None, baselines: dict[str, Material]
) -> None:
    """Keep a new assay with its baselines, by device or under `EVERY_DEVICE`.

    Raises:
        ConflictError: the workspace has an assay of this name.
    """
    spec = assay.spec
    need_free_name(connection, assay.workspace, spec.name)
    connection.execute(
        insert(ASSAYS).values(
            id=assay.id,
            workspace=assay.workspace,
            name=spec.name,
            pipeline=spec.pipeline,
            field=spec.field,
            field_type=field_type,
            spec=msgspec.json.encode(spec).decode(),
            active=assay.active,
            created_ns=assay.created_ns,
            start_ns=start_ns,
            notes=msgspec.json.encode(assay.notes).decode(),
        )
    )
    for device, material in baselines.items():
        connection.execute(insert(BASELINES).values(assay=assay.id, device=device, **_packed(material)))


def every(connection: Connection, *, workspace: str | None = None, active: bool | None = None) -> list[Kept]:
    """Return standing assays, newest first."""
    query = select(ASSAYS).order_by(ASSAYS.c.created_ns.desc(), ASSAYS.c.id)
    if workspace is not None:
        query = query.where(ASSAYS.c.workspace == workspace)
    if active is not None:
        query = query.where(ASSAYS.c.active == active)
    return [_kept(row) for row in connection.execute(query).mappings()]


def one(connection: Connection, assay: str) -> Kept:
    """Return one standing assay.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    row = connection.execute(select(ASSAYS).where(ASSAYS.c.id == assay)).mappings().first()
    if row is None:
        raise EntityNotFoundError(f"there is no assay with id {assay!r}; client.list_assays() shows those there are")
    return _kept(row)


def set_active(connection: Connection, assay: str, *, active: bool) -> None:
    """Switch an assay's scheduled runs on or off."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(active=active))


def set_failure(connection: Connection, assay: str, failure: str | None) -> None:
    """Remember why an assay could not be answered, or that it could."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(failure=failure))


def set_start(connection: Connection, assay: str, start_ns: int) -> None:
    """Fix where an assay's window plan starts."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(start_ns=start_ns))


def baseline(connection: Connection, assay: str, device: str) -> Material | None:
    """Return what a device is compared with: its own, else the one that serves all, else None."""
    rows = connection.execute(
        select(BASELINES).where(BASELINES.c.assay == assay, BASELINES.c.device.in_([device, EVERY_DEVICE]))
    ).mappings()
    found = {str(row["device"]): _material(row) for row in rows}
    return found.get(device, found.get(EVERY_DEVICE))


def baselines(connection: Connection, assay: str) -> dict[str, Material]:
    """Return an assay's baselines by device, the one that serves all under `EVERY_DEVICE`."""
    rows = connection.execute(select(BASELINES).where(BASELINES.c.assay == assay).order_by(BASELINES.c.device))
    return {str(row["device"]): _material(row) for row in rows.mappings()}


# ── analyses ─────────────────────────────────────────────────────────────────────────────────────────────────────


def put(connection: Connection, analysis: api.Analysis) -> api.Analysis | None:
    """Keep an answer and return it; None where the same answer is there already.

    One that differs from the answer kept for the same window gets the next revision.
    """
    key = (ANALYSES.c.assay, ANALYSES.c.device, ANALYSES.c.start_ns)
    query = select(ANALYSES.c.document).where(
        key[0] == analysis.assay_id, key[1] == analysis.device, key[2] == analysis.start_ns
    )
    before = connection.execute(query).scalar_one_or_none()
    if before is not None:
        kept = msgspec.json.decode(before, type=api.Analysis)
        # Answers stored before they named their metric are not new for naming it now.
        if msgspec.structs.replace(analysis, revision=kept.revision, metric=kept.metric) == kept:
            return None
        analysis = msgspec.structs.replace(analysis, revision=kept.revision + 1)
    facts = {
        "end_ns": analysis.end_ns,
        "status": analysis.status,
        "score": analysis.score,
        "revision": analysis.revision,
        "document": api.encode(analysis),
    }
    statement = upsert(ANALYSES).values(
        assay=analysis.assay_id, device=analysis.device, start_ns=analysis.start_ns, **facts
    )
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=facts))
    return analysis


def analyses(
    connection: Connection,
    assay: str,
    *,
    device: str | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    newest: int | None = None,
) -> list[api.Analysis]:
    """Return the answers whose windows begin in [start_ns, end_ns), by window start, then device.

    `newest` keeps only so many of the latest.
    """
    query = select(ANALYSES.c.document).where(ANALYSES.c.assay == assay)
    if device is not None:
        query = query.where(ANALYSES.c.device == device)
    if start_ns is not None:
        query = query.where(ANALYSES.c.start_ns >= start_ns)
    if end_ns is not None:
        query = query.where(ANALYSES.c.start_ns < end_ns)
    query = query.order_by(ANALYSES.c.start_ns.desc(), ANALYSES.c.device.desc())
    documents = connection.execute(query if newest is None else query.limit(newest)).scalars().all()
    return [msgspec.json.decode(document, type=api.Analysis) for document in reversed(documents)]


def latest_alert(connection: Connection, assay: str, device: str) -> api.Analysis | None:
    """Return the newest answer that alerts."""
    query = (
        select(ANALYSES.c.document)
        .where(ANALYSES.c.assay == assay, ANALYSES.c.device == device, ANALYSES.c.status == "Alert")
        .order_by(ANALYSES.c.start_ns.desc())
        .limit(1)
    )
    document = connection.execute(query).scalar_one_or_none()
    return None if document is None else msgspec.json.decode(document, type=api.Analysis)


def marks(
    connection: Connection,
    assay: str,
    device: str,
    *,
    newest: int | None = None,
    since_ns: int | None = None,
    statuses: Sequence[api.Status] = (),
) -> list[Mark]:
    """Return windows in time order without their documents: the newest ones, from a time on, of some statuses."""
    query = select(ANALYSES.c.start_ns, ANALYSES.c.end_ns, ANALYSES.c.status, ANALYSES.c.score).where(
        ANALYSES.c.assay == assay, ANALYSES.c.device == device
    )
    if since_ns is not None:
        query = query.where(ANALYSES.c.start_ns >= since_ns)
    if statuses:
        query = query.where(ANALYSES.c.status.in_(statuses))
    query = query.order_by(ANALYSES.c.start_ns.desc())
    rows = connection.execute(query if newest is None else query.limit(newest)).all()
    return [Mark(*row) for row in reversed(rows)]


def alerts_since(connection: Connection, assay: str, device: str, since_ns: int) -> int:
    """Count the alerting windows that begin at or after a time."""
    query = select(func.count()).where(
        ANALYSES.c.assay == assay,
        ANALYSES.c.device == device,
        ANALYSES.c.start_ns >= since_ns,
        ANALYSES.c.status == "Alert",
    )
    return connection.execute(query).scalar_one()


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────


def put_progress(connection: Connection, progress: Progress) -> None:
    """Remember up to where an assay × device is answered."""
    facts = {
        "next_ns": progress.next_ns,
        "late_ns": progress.late_ns,
        "status": progress.status,
        "score": progress.score,
        "end_ns": progress.end_ns,
    }
    statement = upsert(PROGRESS).values(assay=progress.assay, device=progress.device, **facts)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[PROGRESS.c.assay, PROGRESS.c.device], set_=facts)
    )


def progress(connection: Connection, assay: str | None = None, device: str | None = None) -> list[Progress]:
    """Return up to where every assay × device is answered, by assay and device."""
    query = select(PROGRESS).order_by(PROGRESS.c.assay, PROGRESS.c.device)
    if assay is not None:
        query = query.where(PROGRESS.c.assay == assay)
    if device is not None:
        query = query.where(PROGRESS.c.device == device)
    return [Progress(**row) for row in connection.execute(query).mappings()]


def arrivals(connection: Connection, after: int) -> tuple[list[Arrival], int]:
    """Return the base windows of which records came in after one with this number, and the newest number."""
    newest = int(connection.execute(select(func.coalesce(func.max(windows.c.id), 0))).scalar_one())
    pipeline, device = names.alias(), names.alias()
    query = (
        select(pipeline.c.text, device.c.text, windows.c.start_s)
        .join(pipeline, pipeline.c.id == windows.c.pipeline)
        .join(device, device.c.id == windows.c.device)
        .where(windows.c.id > after, windows.c.id <= newest)
        .distinct()
    )
    return [Arrival(*row) for row in connection.execute(query)], newest


def windows_seen(connection: Connection) -> int | None:
    """Return up to which window record late data was looked for; None before the first time."""
    return connection.execute(select(SCORER.c.windows_seen)).scalar()


def put_windows_seen(connection: Connection, number: int) -> None:
    """Remember up to which window record late data was looked for."""
    if connection.execute(update(SCORER).values(windows_seen=number)).rowcount == 0:
        connection.execute(insert(SCORER).values(windows_seen=number))


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────


def open_incident(
    connection: Connection, kind: str, device: str, *, assay: str | None = None, source: str | None = None
) -> api.Incident | None:
    """Return the open incident of one cause."""
    query = select(INCIDENTS).where(
        INCIDENTS.c.kind == kind,
        INCIDENTS.c.device == device,
        INCIDENTS.c.resolved_ns.is_(None),
        INCIDENTS.c.assay.is_(None) if assay is None else INCIDENTS.c.assay == assay,
        INCIDENTS.c.source.is_(None) if source is None else INCIDENTS.c.source == source,
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _incident(row)


def put_incident(connection: Connection, incident: api.Incident, *, source: str | None = None) -> None:
    """Keep an incident, new or changed."""
    facts = {
        "opened_ns": incident.opened_ns,
        "resolved_ns": incident.resolved_ns,
        "text": incident.text,
        "windows": incident.windows,
    }
    statement = upsert(INCIDENTS).values(
        id=incident.id,
        kind=incident.kind,
        device=incident.device,
        assay=incident.assay_id,
        field=incident.field,
        source=source,
        **facts,
    )
    connection.execute(statement.on_conflict_do_update(index_elements=[INCIDENTS.c.id], set_=facts))


def incidents(
    connection: Connection, *, is_open: bool | None = None, device: str | None = None, newest: int | None = None
) -> list[api.Incident]:
    """Return incidents, open ones first, then newest first."""
    query = select(INCIDENTS).order_by(
        INCIDENTS.c.resolved_ns.is_not(None), INCIDENTS.c.opened_ns.desc(), INCIDENTS.c.id
    )
    if is_open is not None:
        query = query.where(INCIDENTS.c.resolved_ns.is_(None) if is_open else INCIDENTS.c.resolved_ns.is_not(None))
    if device is not None:
        query = query.where(INCIDENTS.c.device == device)
    rows = connection.execute(query if newest is None else query.limit(newest)).mappings()
    return [_incident(row) for row in rows]


def incident(connection: Connection, identity: str) -> api.Incident:
    """Return one incident.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    row = connection.execute(select(INCIDENTS).where(INCIDENTS.c.id == identity)).mappings().first()
    if row is None:
        raise EntityNotFoundError(
            f"there is no incident with id {identity!r}; client.list_incidents() shows those there are"
        )
    return _incident(row)


def resolve(connection: Connection, identity: str, now_ns: int) -> None:
    """Resolve an incident; one that is resolved stays as it is."""
    is_open = (INCIDENTS.c.id == identity, INCIDENTS.c.resolved_ns.is_(None))
    connection.execute(update(INCIDENTS).where(*is_open).values(resolved_ns=now_ns))


def resolve_of_assay(connection: Connection, assay: str, now_ns: int) -> None:
    """Resolve every open incident of an assay."""
    is_open = (INCIDENTS.c.assay == assay, INCIDENTS.c.resolved_ns.is_(None))
    connection.execute(update(INCIDENTS).where(*is_open).values(resolved_ns=now_ns))


def open_sources(connection: Connection, kinds: Iterable[str]) -> list[tuple[api.Incident, str]]:
    """Return the open incidents of some kinds, each with its camera ('' where it is about the device)."""
    query = select(INCIDENTS).where(INCIDENTS.c.resolved_ns.is_(None), INCIDENTS.c.kind.in_(list(kinds)))
    return [(_incident(row), row["source"] or "") for row in connection.execute(query).mappings()]


def drifting(connection: Connection) -> set[str]:
    """Return the names of the devices with an open drift incident."""
    query = select(INCIDENTS.c.device).where(INCIDENTS.c.kind == "drift", INCIDENTS.c.resolved_ns.is_(None))
    return set(connection.execute(query.distinct()).scalars())


def forget_device(connection: Connection, device: str) -> None:
    """Drop everything kept of a device that was removed."""
    for table in (ANALYSES, BASELINES, PROGRESS, INCIDENTS):
        connection.execute(delete(table).where(table.c.device == device))


# ── rows to messages ─────────────────────────────────────────────────────────────────────────────────────────────


def _kept(row: RowMapping) -> Kept:
    assay = api.Assay(
        id=row["id"],
        workspace=row["workspace"],
        spec=msgspec.json.decode(row["spec"], type=api.AssaySpec),
        active=bool(row["active"]),
        created_ns=row["created_ns"],
        notes=msgspec.json.decode(row["notes"], type=list[str]),
    )
    return Kept(assay, row["field_type"], row["start_ns"], row["failure"])


def _incident(row: RowMapping) -> api.Incident:
    return api.Incident(
        id=row["id"],
        kind=row["kind"],
        device=row["device"],
        assay_id=row["assay"],
        field=row["field"],
        opened_ns=row["opened_ns"],
        resolved_ns=row["resolved_ns"],
        text=row["text"],
        windows=row["windows"],
    )


def _packed(material: Material) -> dict[str, Any]:
    if material.values is not None:
        return {"numbers": material.values.astype("<f8").tobytes(), "counts": None}
    return {"numbers": None, "counts": msgspec.msgpack.encode(material.counts)}


def _material(row: RowMapping) -> Material:
    if row["numbers"] is not None:
        return Material(np.frombuffer(row["numbers"], "<f8").astype(np.float64))
    return Material(counts=msgspec.msgpack.decode(row["counts"], type=tuple[tuple[str, bytes], ...]))
