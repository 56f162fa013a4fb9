"""Incidents, what each is made of, and what happened to it: tables and the reading and writing of them.

An incident is about one *cause*, such as an assay at a site. A *part* is what one device (or one of its cameras) gives
to it, from when it went wrong to when it was well again: rules look at parts, and the incident follows from its parts.
`open_cause` and `open_key` are NULL once it is over, so that a unique column lets there be one open one of each.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from driftline.errors import EntityNotFoundError
from driftline.hub.paging import Page, page
from driftline.hub.store import sql
from driftline.hub.store.database import metadata
from driftline.wire import api

INCIDENTS = Table(
    "incidents",
    metadata,
    Column("id", String, primary_key=True),
    Column("cause", String, nullable=False, index=True),
    Column("open_cause", String, unique=True),
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE")),
    Column("opened_ns", BigInteger, nullable=False),
    Column("resolved_ns", BigInteger),
    Column("silenced_until_ns", BigInteger),
    Column("document", LargeBinary, nullable=False),  # JSON: api.Incident
    Index("incidents_by_time", "opened_ns"),
)

PARTS = Table(
    "incident_parts",
    metadata,
    Column("id", String, primary_key=True),
    Column("incident", ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("device", String, nullable=False, index=True),
    Column("assay", String),
    Column("source", String),  # the camera, for those about one
    Column("field", String),
    Column("episode", Integer, nullable=False),  # how often the incident had been reopened when this began
    Column("opened_ns", BigInteger, nullable=False),
    Column("resolved_ns", BigInteger),
    Column("text", Text, nullable=False),
    Column("windows", Integer, nullable=False),
    Column("open_key", String, unique=True),
)

HISTORY = Table(
    "incident_history",
    metadata,
    Column("incident", ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("change", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("note", Text, nullable=False),
    Column("device", String),
    Column("event_id", String, nullable=False),
)


@dataclass(frozen=True)
class Part:
    """What one device gives to an incident; `incident` is '' before it belongs to one."""

    id: str
    kind: str
    device: str
    opened_ns: int
    assay: str | None = None
    source: str | None = None
    field: str | None = None
    resolved_ns: int | None = None
    text: str = ""
    windows: int = 0
    incident: str = ""
    episode: int = 0


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_part(
    connection: Connection, kind: str, device: str, *, assay: str | None = None, source: str | None = None
) -> Part | None:
    """Return what a device gives to the open incident of one cause."""
    row = connection.execute(select(PARTS).where(PARTS.c.open_key == _key(kind, device, assay, source))).mappings()
    found = row.first()
    return None if found is None else _part(found)


def open_parts(connection: Connection, kinds: Iterable[str]) -> list[Part]:
    """Return everything of some kinds that is not over."""
    query = select(PARTS).where(PARTS.c.resolved_ns.is_(None), PARTS.c.kind.in_(list(kinds)))
    return [_part(row) for row in connection.execute(query).mappings()]


def open_parts_of(connection: Connection, device: str) -> list[Part]:
    """Return everything of a device that is not over."""
    query = select(PARTS).where(PARTS.c.resolved_ns.is_(None), PARTS.c.device == device)
    return [_part(row) for row in connection.execute(query).mappings()]


def parts(connection: Connection, incident: str) -> list[Part]:
    """Return what an incident was ever made of, in the order of its beginnings."""
    return parts_of(connection, [incident])[incident]


def parts_of(connection: Connection, incidents: Collection[str]) -> dict[str, list[Part]]:
    """Return `parts` of some incidents."""
    found: dict[str, list[Part]] = {one: [] for one in incidents}
    query = select(PARTS).where(PARTS.c.incident.in_(incidents)).order_by(PARTS.c.opened_ns, PARTS.c.device, PARTS.c.id)
    for row in connection.execute(query).mappings():
        found[row["incident"]].append(_part(row))
    return found


def put_parts(connection: Connection, some: Iterable[Part]) -> None:
    """Keep parts, new or changed."""
    columns = [column.name for column in PARTS.c if column.name != "id"]
    rows: list[list[Any]] = []
    for part in some:
        key = _key(part.kind, part.device, part.assay, part.source) if part.resolved_ns is None else None
        facts = asdict(part) | {"open_key": key}
        rows.append([part.id, *(facts[name] for name in columns)])
    sql.put_many(connection, PARTS, ["id"], columns, rows)


def close_parts(connection: Connection, incident: str, now_ns: int) -> None:
    """Let everything an incident is made of be over."""
    is_open = (PARTS.c.incident == incident, PARTS.c.resolved_ns.is_(None))
    connection.execute(update(PARTS).where(*is_open).values(resolved_ns=now_ns, open_key=None))


def drifting_in(connection: Connection, places: Sequence[tuple[str, str]]) -> dict[tuple[str | None, str], Part]:
    """Return what those of some assays × devices that drift now give to their incidents."""
    keys = [_key("drift", device, assay, None) for assay, device in places]
    rows = connection.execute(select(PARTS).where(PARTS.c.open_key.in_(keys))).mappings()
    return {(part.assay, part.device): part for part in map(_part, rows)}


def drifting(connection: Connection) -> set[str]:
    """Return the names of the devices that drift now."""
    query = select(PARTS.c.device).where(PARTS.c.kind == "drift", PARTS.c.resolved_ns.is_(None))
    return set(connection.execute(query.distinct()).scalars())


def open_by_kind(connection: Connection) -> dict[str, int]:
    """Return how many incidents are open, by their kind."""
    query = select(PARTS.c.kind, func.count(PARTS.c.incident.distinct())).join(INCIDENTS)
    rows = connection.execute(query.where(INCIDENTS.c.resolved_ns.is_(None)).group_by(PARTS.c.kind))
    return {str(kind): int(count) for kind, count in rows}


def forget_device(connection: Connection, device: str) -> list[str]:
    """Drop what a device gave to incidents; return those that are about others, too."""
    touched = list(connection.execute(select(PARTS.c.incident).distinct().where(PARTS.c.device == device)).scalars())
    connection.execute(delete(PARTS).where(PARTS.c.device == device))
    left = set(connection.execute(select(PARTS.c.incident).distinct().where(PARTS.c.incident.in_(touched))).scalars())
    gone = [one for one in touched if one not in left]
    for table in (HISTORY, INCIDENTS):
        column = table.c.id if table is INCIDENTS else table.c.incident
        connection.execute(delete(table).where(column.in_(gone)))
    return sorted(left)


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────


def put(connection: Connection, incident: api.Incident, cause: str) -> None:
    """Keep an incident, new or changed."""
    put_all(connection, [(incident, cause)])


def put_all(connection: Connection, incidents: Iterable[tuple[api.Incident, str]]) -> None:
    """Keep incidents with their causes, new or changed."""
    columns = [column.name for column in INCIDENTS.c if column.name != "id"]
    rows: list[list[Any]] = []
    for incident, cause in incidents:
        facts = {
            "cause": cause,
            "open_cause": cause if incident.resolved_ns is None else None,
            "assay": incident.assay_id,
            "opened_ns": incident.opened_ns,
            "resolved_ns": incident.resolved_ns,
            "silenced_until_ns": incident.silenced_until_ns,
            "document": api.encode(incident),
        }
        rows.append([incident.id, *(facts[name] for name in columns)])
    sql.put_many(connection, INCIDENTS, ["id"], columns, rows)


def open_of(connection: Connection, cause: str) -> api.Incident | None:
    """Return the open incident of a cause."""
    row = connection.execute(select(INCIDENTS.c.document).where(INCIDENTS.c.open_cause == cause)).first()
    return None if row is None else _read(row.document)


def last_of(connection: Connection, cause: str) -> api.Incident | None:
    """Return the incident of a cause that was resolved last."""
    query = (
        select(INCIDENTS.c.document)
        .where(INCIDENTS.c.cause == cause, INCIDENTS.c.resolved_ns.is_not(None))
        .order_by(INCIDENTS.c.resolved_ns.desc(), INCIDENTS.c.id)
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _read(row.document)


def listed(
    connection: Connection,
    *,
    is_open: bool | None = None,
    device: str | None = None,
    newest: int | None = None,
    only: Any = None,
) -> list[api.Incident]:
    """Return incidents, open ones first, then newest first; of a device those that ever were about it.

    `only` is a condition.
    """
    order = (INCIDENTS.c.resolved_ns.is_not(None), INCIDENTS.c.opened_ns.desc(), INCIDENTS.c.id)
    query = _chosen(is_open, device, only).order_by(*order)
    rows = connection.execute(query if newest is None else query.limit(newest))
    return [_read(row.document) for row in rows]


def listed_page(connection: Connection, asked: api.IncidentsAsked, only: Any = None) -> Page[api.Incident]:
    """Return a page of the incidents that were asked for, in the same order; `only` is a condition."""
    is_over = case((INCIDENTS.c.resolved_ns.is_(None), 0), else_=1)
    keys = ((is_over, False), (INCIDENTS.c.opened_ns, True), (INCIDENTS.c.id, False))
    query = _chosen(asked.open, asked.device or None, only)
    return page(connection, query, keys, asked, lambda row: _read(row.document))


def _chosen(is_open: bool | None, device: str | None, only: Any) -> Select[tuple[bytes]]:
    query = select(INCIDENTS.c.document)
    if is_open is not None:
        query = query.where(INCIDENTS.c.resolved_ns.is_(None) if is_open else INCIDENTS.c.resolved_ns.is_not(None))
    if device is not None:
        query = query.where(INCIDENTS.c.id.in_(select(PARTS.c.incident).where(PARTS.c.device == device)))
    return query if only is None else query.where(only)


def of_assay(connection: Connection, assay: str, *, is_open: bool | None = None, newest: int) -> list[api.Incident]:
    """Return the incidents of an assay, open ones first, then newest first."""
    query = (
        select(INCIDENTS.c.document)
        .where(INCIDENTS.c.assay == assay)
        .order_by(INCIDENTS.c.resolved_ns.is_not(None), INCIDENTS.c.opened_ns.desc(), INCIDENTS.c.id)
        .limit(newest)
    )
    if is_open is not None:
        query = query.where(INCIDENTS.c.resolved_ns.is_(None) if is_open else INCIDENTS.c.resolved_ns.is_not(None))
    return [_read(row.document) for row in connection.execute(query)]


def one(connection: Connection, identity: str) -> api.Incident:
    """Return one incident.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    return with_cause(connection, identity)[0]


def with_cause(connection: Connection, identity: str) -> tuple[api.Incident, str]:
    """Return one incident with its cause.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    found = with_causes(connection, [identity])
    if identity not in found:
        raise EntityNotFoundError(
            f"there is no incident with id {identity!r}; client.list_incidents() shows those there are"
        )
    return found[identity]


def with_causes(connection: Connection, identities: Collection[str]) -> dict[str, tuple[api.Incident, str]]:
    """Return those of some incidents that there are, with their causes, by id."""
    columns = (INCIDENTS.c.id, INCIDENTS.c.document, INCIDENTS.c.cause)
    rows = connection.execute(select(*columns).where(INCIDENTS.c.id.in_(identities)))
    return {row.id: (_read(row.document), row.cause) for row in rows}


def silences_over(connection: Connection, now_ns: int) -> list[api.Incident]:
    """Return the open incidents whose silence has ended."""
    query = select(INCIDENTS.c.document).where(
        INCIDENTS.c.resolved_ns.is_(None), INCIDENTS.c.silenced_until_ns <= now_ns
    )
    return [_read(row.document) for row in connection.execute(query)]


# ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def next_number(connection: Connection, incident: str) -> int:
    """Return the number of an incident's next change."""
    newest = connection.execute(select(func.max(HISTORY.c.number)).where(HISTORY.c.incident == incident)).scalar()
    return (newest or 0) + 1


def add_transition(connection: Connection, incident: str, transition: api.Transition) -> None:
    """Keep what happened to an incident; its number is its own."""
    connection.execute(insert(HISTORY).values(incident=incident, **msgspec.structs.asdict(transition)))


def history(connection: Connection, incident: str) -> list[api.Transition]:
    """Return what happened to an incident, the first thing first."""
    query = select(HISTORY).where(HISTORY.c.incident == incident).order_by(HISTORY.c.number)
    return [
        api.Transition(**{name: row[name] for name in api.Transition.__struct_fields__})
        for row in connection.execute(query).mappings()
    ]


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _key(kind: str, device: str, assay: str | None, source: str | None) -> str:
    return msgspec.json.encode([kind, device, assay, source]).decode()


def _part(row: RowMapping) -> Part:
    return Part(**{name: row[name] for name in Part.__dataclass_fields__})


def _read(document: bytes) -> api.Incident:
    return msgspec.json.decode(document, type=api.Incident)
