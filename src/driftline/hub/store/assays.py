"""Assays and their analyses: tables and the reading and writing of them.

One row an analysis, of one window of one device and field: what pages and the incidents' rules look at are columns, the
whole answer is the `document` column as JSON, and `state` is what the evidence remembers after it, so that late data is
answered by stepping again from there. `assay_progress` says up to where each assay × device was scored (all fields of a
window are answered together), and holds the newest answer for the pages that list many. `scorer` holds up to which
stored window record the scorer has looked for late data.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    RowMapping,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    tuple_,
    union_all,
    update,
)

from driftline.clock import NS_PER_S
from driftline.errors import ConflictError, EntityNotFoundError
from driftline.hub.paging import Page, page
from driftline.hub.store import baselines, editions, kept, sql
from driftline.hub.store.baselines import Material, Place
from driftline.hub.store.database import metadata
from driftline.hub.store.telemetry import names, windows
from driftline.wire import api

ASSAYS = Table(
    "assays",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("name", String),  # NULL once it is removed: another may have it
    Column("pipeline", String, nullable=False),
    Column("field_types", Text, nullable=False),  # JSON: by field
    Column("spec", Text, nullable=False),
    Column("baseline_version", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    # Where the window plan starts; NULL until the pipeline has seen an inference.
    Column("start_ns", BigInteger),
    Column("notes", Text, nullable=False),
    # Why the scorer could not answer when it last tried; NULL where it could.
    Column("failure", Text),
    # Of one that was removed nothing is left but what its incidents say it was.
    Column("removed_ns", BigInteger),
    UniqueConstraint("workspace", "name"),
)

ANALYSES = Table(
    "analyses",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String, primary_key=True),
    Column("field", String, primary_key=True),
    Column("start_ns", BigInteger, primary_key=True),
    Column("end_ns", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("score", Float),
    Column("level", Float),  # how near to an alarm: 1 and more is one
    Column("alarmed", Boolean, nullable=False),
    Column("wakes", Boolean, nullable=False),  # whether it may open, hold or end an incident
    Column("version", Integer, nullable=False),  # of the baseline
    Column("revision", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("alarm_at", Float),  # how much evidence made an alarm when it was answered
    Column("state", LargeBinary),  # what the evidence remembers; NULL where the window was not counted
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

# So many in one statement: SQLite joins no more than 500.
ASSAYS_AT_ONCE = 100

# Which of several answers an owner wants to see first.
URGENCY: Sequence[api.Status] = ("Alert", "Warning", "Late", "NoData", "TooFew", "Ok")


@dataclass(frozen=True)
class Kept:
    """A standing assay with what only the hub needs of it."""

    assay: api.Assay
    field_types: Mapping[str, str]
    start_ns: int | None
    failure: str | None = None


@dataclass(frozen=True)
class Progress:
    """Up to where an assay's windows on one device are answered, and the newest answer, of its fields the worst."""

    assay: str
    device: str
    next_ns: int
    late_ns: int
    status: api.Status | None = None
    score: float | None = None
    end_ns: int | None = None


@dataclass(frozen=True)
class Mark:
    """One window in a status strip; `level` says how near to an alarm it is: 1 and more is one."""

    start_ns: int
    end_ns: int
    status: api.Status
    score: float | None
    level: float | None = None


class Strip(NamedTuple):
    """Which windows to look up: those of one assay, device and field that begin at or after a time."""

    assay: str
    device: str
    field: str
    since_ns: int


@dataclass(frozen=True)
class Answer:
    """One window of one device and field as it is kept.

    `wakes` says whether it may open, hold or end an incident; `state` what the evidence remembers after it.
    """

    analysis: api.Analysis
    wakes: bool = True
    state: bytes | None = None

    @property
    def alarmed(self) -> bool:
        """Whether the field is in alarm with this window."""
        evidence = self.analysis.evidence
        return self.analysis.status == "Alert" if evidence is None else evidence.alarmed

    @property
    def level(self) -> float | None:
        """How near to an alarm it is: 1 and more is one."""
        one = self.analysis
        if one.evidence is not None:
            return one.evidence.value / one.evidence.alarm_at
        if one.score is None or not one.alert_threshold:
            return None
        return one.score / one.alert_threshold


@dataclass(frozen=True)
class Former:
    """What an answer was before it was replaced."""

    status: api.Status
    version: int


@dataclass(frozen=True)
class Stored:
    """A new or changed answer, and what was there `before`."""

    answer: Answer
    before: Former | None


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
            f"this workspace has an assay named {name!r} already; give the new one another name, edit the old one, or "
            "remove it"
        )


def save(
    connection: Connection,
    assay: api.Assay,
    *,
    field_types: Mapping[str, str],
    start_ns: int | None,
    versions: Sequence[tuple[api.BaselineVersion, Mapping[Place, Material]]],
) -> None:
    """Keep a new assay with its baselines.

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
            field_types=msgspec.json.encode(field_types).decode(),
            spec=msgspec.json.encode(spec).decode(),
            baseline_version=assay.baseline_version,
            active=assay.active,
            created_ns=assay.created_ns,
            start_ns=start_ns,
            notes=msgspec.json.encode(assay.notes).decode(),
        )
    )
    for version, materials in versions:
        baselines.add_version(connection, assay.id, version, materials)


def every(
    connection: Connection,
    *,
    workspace: str | None = None,
    active: bool | None = None,
    visible: frozenset[str] | None = None,
) -> list[Kept]:
    """Return standing assays, newest first; of one workspace, or of those that are visible."""
    query = select(ASSAYS).where(ASSAYS.c.removed_ns.is_(None)).order_by(ASSAYS.c.created_ns.desc(), ASSAYS.c.id)
    if workspace is not None:
        query = query.where(ASSAYS.c.workspace == workspace)
    if visible is not None:
        query = query.where(ASSAYS.c.workspace.in_(visible))
    if active is not None:
        query = query.where(ASSAYS.c.active == active)
    return [_kept(row) for row in connection.execute(query).mappings()]


def listed(connection: Connection, workspace: str, asked: api.Paged) -> Page[api.Assay]:
    """Return a page of a workspace's standing assays, newest first."""
    query = select(ASSAYS).where(ASSAYS.c.workspace == workspace, ASSAYS.c.removed_ns.is_(None))
    keys = ((ASSAYS.c.created_ns, True), (ASSAYS.c.id, False))
    return page(connection, query, keys, asked, lambda row: _kept(row._mapping).assay)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  SQLAlchemy's public name


def one(connection: Connection, assay: str) -> Kept:
    """Return one standing assay.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    query = select(ASSAYS).where(ASSAYS.c.id == assay, ASSAYS.c.removed_ns.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise EntityNotFoundError(f"there is no assay with id {assay!r}; client.list_assays() shows those there are")
    return _kept(row)


class Named(NamedTuple):
    """What an assay is or was called, and whether it is still there."""

    name: str
    is_there: bool


def named(connection: Connection, assays: Collection[str]) -> dict[str, Named]:
    """Return what assays are called, those that were removed among them."""
    query = select(ASSAYS.c.id, ASSAYS.c.spec, ASSAYS.c.removed_ns).where(ASSAYS.c.id.in_(assays))
    return {
        row.id: Named(msgspec.json.decode(row.spec, type=_Name).name, row.removed_ns is None)
        for row in connection.execute(query)
    }


class _Name(msgspec.Struct):
    """Of a spec just the name."""

    name: str


def remove(connection: Connection, assay: str, now_ns: int) -> None:
    """Remove an assay with its baselines; its answers, of which there may be millions, go with `remove_answers`."""
    baselines.remove(connection, assay)
    editions.remove(connection, assay)
    connection.execute(delete(PROGRESS).where(PROGRESS.c.assay == assay))
    facts = {"name": None, "active": False, "failure": None, "removed_ns": now_ns}
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(**facts))


def removed(connection: Connection) -> list[str]:
    """Return the assays that were removed."""
    return list(connection.execute(select(ASSAYS.c.id).where(ASSAYS.c.removed_ns.is_not(None))).scalars())


def remove_answers(connection: Connection, assay: str, at_most: int) -> int:
    """Remove so many answers of an assay; say how many."""
    key = tuple(ANALYSES.primary_key.columns)
    some = select(*key).where(ANALYSES.c.assay == assay).limit(at_most)
    return connection.execute(delete(ANALYSES).where(tuple_(*key).in_(some))).rowcount


def set_active(connection: Connection, assay: str, *, active: bool) -> None:
    """Switch an assay's scheduled runs on or off."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(active=active))


def set_failure(connection: Connection, assay: str, failure: str | None) -> None:
    """Remember why an assay could not be answered, or that it could."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(failure=failure))


def set_start(connection: Connection, assay: str, start_ns: int) -> None:
    """Fix where an assay's window plan starts."""
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(start_ns=start_ns))


def set_baseline(connection: Connection, assay: str, spec: api.AssaySpec, version: int, notes: Sequence[str]) -> None:
    """Make this spec's baseline the newest one, with what is to be said of it."""
    facts = {
        "spec": msgspec.json.encode(spec).decode(),
        "baseline_version": version,
        "notes": msgspec.json.encode(notes).decode(),
    }
    connection.execute(update(ASSAYS).where(ASSAYS.c.id == assay).values(**facts))


def baseline_versions(connection: Connection, assays: Collection[str]) -> dict[str, int]:
    """Return the numbers of the newest baselines of those assays that there are."""
    query = select(ASSAYS.c.id, ASSAYS.c.baseline_version).where(ASSAYS.c.id.in_(assays), ASSAYS.c.removed_ns.is_(None))
    return {row.id: row.baseline_version for row in connection.execute(query)}


# ── analyses ─────────────────────────────────────────────────────────────────────────────────────────────────────


def put_all(connection: Connection, answers: Sequence[Answer]) -> list[Stored | None]:
    """Keep answers, each of another window, and return them with their revisions; None where one is there already.

    One that differs from the answer kept for the same window gets the next revision.
    """
    there = _there(connection, [_key(one.analysis) for one in answers])
    stored: list[Stored | None] = []
    written: list[dict[str, object]] = []
    for answer in answers:
        key = _key(answer.analysis)
        before = there.get(key)
        after, is_same = _revised(answer, before)
        if before is None or not is_same or after.state != before.state:
            written.append(dict(zip(_KEY, key, strict=True)) | _facts(after))
        former = None if before is None else Former(before.status, before.version)
        stored.append(None if is_same else Stored(after, former))
    columns = [name for name in (written[0] if written else ()) if name not in _KEY]
    sql.put_many(connection, ANALYSES, _KEY, columns, [[one[name] for name in (*_KEY, *columns)] for one in written])
    return stored


_KEY = ("assay", "device", "field", "start_ns")
_Key = tuple[str | None, str, str, int]


class _There(NamedTuple):
    """What is kept for a window."""

    document: bytes
    state: bytes | None
    status: api.Status
    version: int


def _key(analysis: api.Analysis) -> _Key:
    return analysis.assay_id, analysis.device, analysis.field, analysis.start_ns


def _there(connection: Connection, keys: Sequence[_Key]) -> dict[_Key, _There]:
    columns = [ANALYSES.c[name] for name in _KEY]
    shown = (ANALYSES.c.document, ANALYSES.c.state, ANALYSES.c.status, ANALYSES.c.version)
    rows = connection.execute(select(*columns, *shown).where(tuple_(*columns).in_(keys))) if keys else ()
    return {tuple(row[: len(_KEY)]): _There(*row[len(_KEY) :]) for row in rows}


def _revised(answer: Answer, before: _There | None) -> tuple[Answer, bool]:
    """Return an answer with its revision, and whether it says what is kept already."""
    if before is None:
        return answer, False
    told = _analysis(before.document)
    is_same = msgspec.structs.replace(answer.analysis, revision=told.revision) == told
    revision = told.revision + (0 if is_same else 1)
    return replace(answer, analysis=msgspec.structs.replace(answer.analysis, revision=revision)), is_same


def _facts(answer: Answer) -> dict[str, object]:
    analysis = answer.analysis
    return {
        "end_ns": analysis.end_ns,
        "status": analysis.status,
        "score": analysis.score,
        "level": answer.level,
        "alarmed": answer.alarmed,
        "wakes": answer.wakes,
        "version": analysis.baseline_version,
        "revision": analysis.revision,
        "document": api.encode(analysis),
        "alarm_at": None if analysis.evidence is None else analysis.evidence.alarm_at,
        "state": answer.state,
    }


def analyses(
    connection: Connection,
    assay: str,
    *,
    device: str | None = None,
    field: str | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    newest: int | None = None,
) -> list[api.Analysis]:
    """Return the answers whose windows begin in [start_ns, end_ns), by window start, then device, then field.

    `newest` keeps only so many of the latest windows.
    """
    wanted = [ANALYSES.c.assay == assay]
    if device is not None:
        wanted.append(ANALYSES.c.device == device)
    if field is not None:
        wanted.append(ANALYSES.c.field == field)
    if start_ns is not None:
        wanted.append(ANALYSES.c.start_ns >= start_ns)
    if end_ns is not None:
        wanted.append(ANALYSES.c.start_ns < end_ns)
    if newest is not None:
        starts = select(ANALYSES.c.start_ns).where(*wanted).distinct().order_by(ANALYSES.c.start_ns.desc())
        latest = starts.limit(newest).subquery()
        wanted.append(ANALYSES.c.start_ns >= select(func.min(latest.c.start_ns)).scalar_subquery())
    order = (ANALYSES.c.start_ns, ANALYSES.c.device, ANALYSES.c.field)
    documents = connection.execute(select(ANALYSES.c.document).where(*wanted).order_by(*order)).scalars()
    return [_analysis(document) for document in documents]


def analyses_page(connection: Connection, assay: str, asked: api.AnalysesAsked) -> Page[api.Analysis]:
    """Return a page of the answers that were asked for, by window start, then device, then field."""
    wanted = [ANALYSES.c.assay == assay]
    if asked.device:
        wanted.append(ANALYSES.c.device == asked.device)
    if asked.field:
        wanted.append(ANALYSES.c.field == asked.field)
    if asked.start_ns is not None:
        wanted.append(ANALYSES.c.start_ns >= asked.start_ns)
    if asked.end_ns is not None:
        wanted.append(ANALYSES.c.start_ns < asked.end_ns)
    keys = ((ANALYSES.c.start_ns, False), (ANALYSES.c.device, False), (ANALYSES.c.field, False))
    query = select(ANALYSES.c.document).where(*wanted)
    return page(connection, query, keys, asked, lambda row: _analysis(row.document))


def statuses(
    connection: Connection, assay: str, device: str, fields_of: Collection[str], start_ns: int, end_ns: int
) -> list[tuple[int, int, api.Status]]:
    """Return (start_ns, end_ns, status) of windows that begin in [start_ns, end_ns), once a field, in time order."""
    columns = (ANALYSES.c.start_ns, ANALYSES.c.end_ns, ANALYSES.c.status)
    of = (ANALYSES.c.assay == assay, ANALYSES.c.device == device, ANALYSES.c.field.in_(fields_of))
    begun = (ANALYSES.c.start_ns >= start_ns, ANALYSES.c.start_ns < end_ns)
    found = connection.execute(select(*columns).where(*of, *begun).order_by(ANALYSES.c.start_ns))
    return [(row.start_ns, row.end_ns, row.status) for row in found]


def latest_alert(connection: Connection, assay: str, devices: Sequence[str]) -> api.Analysis | None:
    """Return the newest alert of some devices."""
    query = select(ANALYSES.c.document).where(
        ANALYSES.c.assay == assay, ANALYSES.c.device.in_(devices), ANALYSES.c.status == "Alert"
    )
    # Ordered by a sum, so that no index in the order of time is gone through: a fleet has many answers, a device few.
    order = ((ANALYSES.c.start_ns + 0).desc(), ANALYSES.c.level.desc().nulls_last(), ANALYSES.c.field)
    document = connection.execute(query.order_by(*order).limit(1)).scalar_one_or_none()
    return None if document is None else _analysis(document)


def latest_marks(connection: Connection, strips: Sequence[Strip]) -> dict[tuple[str, str, str], list[Mark]]:
    """Return the windows of many strips, by assay, device and field, in time order and without their documents.

    One query for all of them; each is a range of the primary key, so it costs what it returns in any history.
    """
    if not strips:
        return {}
    given, is_asked = _asked(connection, strips)
    key = (ANALYSES.c.assay, ANALYSES.c.device, ANALYSES.c.field)
    shown = (ANALYSES.c.start_ns, ANALYSES.c.end_ns, ANALYSES.c.status, ANALYSES.c.score, ANALYSES.c.level)
    query = select(*key, *shown).select_from(given).join(ANALYSES, is_asked)
    found: dict[tuple[str, str, str], list[Mark]] = {}
    for assay, device, field, *mark in connection.execute(query.order_by(*key, ANALYSES.c.start_ns)):
        found.setdefault((assay, device, field), []).append(Mark(*mark))
    return found


def answers_of(connection: Connection, strips: Sequence[Strip]) -> list[api.Analysis]:
    """Return the answers of many strips whole, by window start, device and field; see `latest_marks`."""
    if not strips:
        return []
    given, is_asked = _asked(connection, strips)
    query = select(ANALYSES.c.document).select_from(given).join(ANALYSES, is_asked)
    order = (ANALYSES.c.start_ns, ANALYSES.c.device, ANALYSES.c.field)
    return [_analysis(one) for one in connection.execute(query.order_by(*order)).scalars()]


def _asked(connection: Connection, strips: Sequence[Strip]) -> tuple[FromClause, ColumnElement[bool]]:
    """Return the strips as a table, and what an answer of one of them is like."""
    given, (assay, device, field, since_ns) = sql.given(connection, strips)
    place = (ANALYSES.c.assay == assay, ANALYSES.c.device == device, ANALYSES.c.field == field)
    return given, and_(*place, ANALYSES.c.start_ns >= since_ns)


class Alerts(NamedTuple):
    """A field's alerts since a time, of windows that wake somebody.

    When the first and the newest of these windows began, how many `windows` there are, and when the newest window began
    that was not Ok, though it could be judged.
    """

    first_ns: int
    newest_ns: int
    windows: int
    unsettled_ns: int


# Of a strip: assay, device and field.
Stream = tuple[str, str, str]


def alerts(connection: Connection, strips: Sequence[Strip]) -> dict[Stream, Alerts]:
    """Return the alerts of those strips that have any."""
    start, is_alert = ANALYSES.c.start_ns, ANALYSES.c.status == "Alert"
    of_alerts = case((is_alert, start))
    told = (func.min(of_alerts), func.max(of_alerts), func.count(of_alerts), func.max(start))
    found = _summed(connection, strips, told, ANALYSES.c.wakes, ANALYSES.c.status.in_(("Alert", "Warning")))
    return {stream: Alerts(*facts) for stream, facts in found.items() if facts[2]}


def windows_alerted(connection: Connection, strips: Sequence[Strip]) -> dict[tuple[str, str], int]:
    """Count the windows of each assay × device in which at least one of these strips alerted and woke somebody."""
    if not strips:
        return {}
    given, is_asked = _asked(connection, strips)
    place = (ANALYSES.c.assay, ANALYSES.c.device)
    query = select(*place, func.count(ANALYSES.c.start_ns.distinct())).select_from(given).join(ANALYSES, is_asked)
    query = query.where(ANALYSES.c.wakes, ANALYSES.c.status == "Alert").group_by(*place)
    return {(assay, device): count for assay, device, count in connection.execute(query)}


def calm_after(connection: Connection, strips: Sequence[Strip]) -> dict[Stream, tuple[int, int]]:
    """Return how many windows of each strip were Ok and wake somebody, and when the last of them ended."""
    told = (func.count(), func.max(ANALYSES.c.end_ns))
    found = _summed(connection, strips, told, ANALYSES.c.wakes, ANALYSES.c.status == "Ok")
    return {stream: (count, end_ns) for stream, (count, end_ns) in found.items()}


def over_since(connection: Connection, strips: Sequence[Strip]) -> dict[Stream, int]:
    """Return, of those strips whose last alarm under a promise is over, the end of the window that ended it.

    A window that cannot be judged ends nothing, because `alarmed` lasts over it; one not heard of yet says nothing.
    """
    told = (ANALYSES.c.wakes, ANALYSES.c.status != "Late")
    last = _summed(connection, strips, (func.max(ANALYSES.c.start_ns),), *told, ANALYSES.c.alarmed)
    after = [Strip(*stream, start_ns + 1) for stream, (start_ns,) in last.items()]
    ended = _summed(connection, after, (func.min(ANALYSES.c.end_ns),), *told)
    return {stream: end_ns for stream, (end_ns,) in ended.items()}


def _summed(
    connection: Connection, strips: Sequence[Strip], told: Sequence[Any], *only: ColumnElement[bool]
) -> dict[Stream, Sequence[Any]]:
    """Return what is told of the chosen answers of each strip that has any."""
    if not strips:
        return {}
    given, is_asked = _asked(connection, strips)
    key = (ANALYSES.c.assay, ANALYSES.c.device, ANALYSES.c.field)
    query = select(*key, *told).select_from(given).join(ANALYSES, is_asked).where(*only).group_by(*key)
    return {(assay, device, field): facts for assay, device, field, *facts in connection.execute(query)}


def answers_at(connection: Connection, places: Sequence[Strip]) -> dict[Strip, tuple[float | None, api.Analysis]]:
    """Return single answers, each with how near to an alarm it was, by where they are: they begin at `since_ns`."""
    if not places:
        return {}
    given, columns = sql.given(connection, places)
    key = [ANALYSES.c[name] for name in _KEY]
    is_there = and_(*(kept == asked for kept, asked in zip(key, columns, strict=True)))
    query = select(*key, ANALYSES.c.level, ANALYSES.c.document).select_from(given).join(ANALYSES, is_there)
    return {
        Strip(row.assay, row.device, row.field, row.start_ns): (row.level, _analysis(row.document))
        for row in connection.execute(query)
    }


def _analysis(document: bytes) -> api.Analysis:
    return msgspec.json.decode(document, type=api.Analysis)


def state_before(
    connection: Connection, assay: str, device: str, field: str, version: int, start_ns: int
) -> bytes | None:
    """Return what a stream's evidence remembered before a window began, of this version of its baseline."""
    query = (
        select(ANALYSES.c.state)
        .where(
            ANALYSES.c.assay == assay,
            ANALYSES.c.device == device,
            ANALYSES.c.field == field,
            ANALYSES.c.start_ns < start_ns,
            ANALYSES.c.version == version,
            ANALYSES.c.state.is_not(None),
        )
        .order_by(ANALYSES.c.start_ns.desc())
        .limit(1)
    )
    return connection.execute(query).scalar()


def alarm_levels(
    connection: Connection, assay: str, device: str, start_ns: int, end_ns: int
) -> dict[tuple[str, int, int], float]:
    """Return how much evidence made an alarm when windows were answered, by field, version and start."""
    query = select(ANALYSES.c.field, ANALYSES.c.version, ANALYSES.c.start_ns, ANALYSES.c.alarm_at).where(
        ANALYSES.c.assay == assay,
        ANALYSES.c.device == device,
        ANALYSES.c.start_ns >= start_ns,
        ANALYSES.c.start_ns < end_ns,
        ANALYSES.c.alarm_at.is_not(None),
    )
    return {(row.field, row.version, row.start_ns): row.alarm_at for row in connection.execute(query)}


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────


def put_progress(connection: Connection, progress: Sequence[Progress]) -> None:
    """Remember up to where some assays × devices are answered."""
    key = ("assay", "device")
    columns = [column.name for column in PROGRESS.c if column.name not in key]
    sql.put_many(
        connection, PROGRESS, key, columns, [[getattr(one, name) for name in (*key, *columns)] for one in progress]
    )


def progress(
    connection: Connection, places: Sequence[tuple[str, str]] | None = None, *, device: str | None = None
) -> list[Progress]:
    """Return up to where some assays × devices are answered, or those of one device, or all of them."""
    query = select(*(PROGRESS.c[one.name] for one in fields(Progress)))
    if places is not None:
        query = query.where(tuple_(PROGRESS.c.assay, PROGRESS.c.device).in_(places))
    if device is not None:
        query = query.where(PROGRESS.c.device == device)
    return [Progress(*row) for row in connection.execute(query)]


@dataclass(frozen=True)
class Standing:
    """How an assay stands: how many devices it has answers of, and the most urgent of them, most urgent first."""

    devices: int
    urgent: Sequence[Progress]


def standings(
    connection: Connection, assays: Sequence[str] | None = None, *, device: str | None = None, at_most: int
) -> dict[str, Standing]:
    """Return how assays stand, or all of them, with so many devices each; of `device` alone where it is named.

    Of ten thousand devices those are found by the database, assay by assay: to rank them all takes four times as long,
    to bring them all here as long as all the rest.
    """
    named = () if device is None else (PROGRESS.c.device == device,)
    only = () if assays is None else (PROGRESS.c.assay.in_(assays),)
    counted = select(PROGRESS.c.assay, func.count()).where(*only).group_by(PROGRESS.c.assay)
    counts = {assay: int(count) for assay, count in connection.execute(counted)}
    urgent: defaultdict[str, list[Progress]] = defaultdict(list)
    for some in _some_of(sorted(counts)):
        for row in connection.execute(union_all(*(_most_urgent(one, named, at_most) for one in some))):
            urgent[row.assay].append(Progress(*row))
    for each in urgent.values():
        # What is joined has no order.
        each.sort(key=lambda one: (_urgency(one.status), one.device))
    return {assay: Standing(count, urgent.get(assay, ())) for assay, count in counts.items()}


def _urgency(status: str | None) -> int:
    return next((place for place, known in enumerate(URGENCY) if known == status), len(URGENCY))


def _most_urgent(assay: str, named: Sequence[Any], at_most: int) -> Any:
    urgency = case({status: place for place, status in enumerate(URGENCY)}, value=PROGRESS.c.status, else_=len(URGENCY))
    columns = [PROGRESS.c[one.name] for one in fields(Progress)]
    first = select(*columns).where(PROGRESS.c.assay == assay, *named).order_by(urgency, PROGRESS.c.device)
    return select(first.limit(at_most).subquery())


def _some_of(every: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(every), ASSAYS_AT_ONCE):
        yield every[at : at + ASSAYS_AT_ONCE]


def unanswered(connection: Connection) -> list[tuple[str, int]]:
    """Return of each assay that is on where its first window begins, of all its devices, that has no answer yet."""
    begins = case((PROGRESS.c.late_ns > PROGRESS.c.next_ns, PROGRESS.c.late_ns), else_=PROGRESS.c.next_ns)
    on = select(ASSAYS.c.id).where(ASSAYS.c.active)
    query = select(PROGRESS.c.assay, func.min(begins)).where(PROGRESS.c.assay.in_(on)).group_by(PROGRESS.c.assay)
    return [(assay, int(begin_ns)) for assay, begin_ns in connection.execute(query)]


def rewind(connection: Connection, assay: str, next_ns: int, device: str | None = None) -> None:
    """Let the windows that begin at or after a time be answered again, on one device or on all.

    Windows whose counts were removed since keep the answers they have.
    """
    least_ns = kept.kept_from(connection).get("summaries", 0)
    if next_ns < least_ns:
        answered = select(func.min(ANALYSES.c.start_ns)).where(
            ANALYSES.c.assay == assay, ANALYSES.c.start_ns >= least_ns
        )
        own = answered if device is None else answered.where(ANALYSES.c.device == device)
        first_ns = connection.execute(own).scalar()
        if first_ns is None:
            return
        next_ns = first_ns
    after = (PROGRESS.c.assay == assay, PROGRESS.c.next_ns > next_ns)
    where = after if device is None else (*after, PROGRESS.c.device == device)
    connection.execute(update(PROGRESS).where(*where).values(next_ns=next_ns))


def worst(statuses: Iterable[api.Status]) -> api.Status:
    """Return the status that an owner wants to see first."""
    return min(statuses, key=URGENCY.index)


def arrivals(connection: Connection, after: int) -> tuple[list[Arrival], int]:
    """Return the base windows of which records came in after one with this number, and the newest number.

    Those that are older than what is kept are left out: they will be removed, and answer nothing any more.
    """
    newest = int(connection.execute(select(func.coalesce(func.max(windows.c.id), 0))).scalar_one())
    least_s = kept.kept_from(connection).get("summaries", 0) // NS_PER_S
    pipeline, device = names.alias(), names.alias()
    query = (
        select(pipeline.c.text, device.c.text, windows.c.start_s)
        .join(pipeline, pipeline.c.id == windows.c.pipeline)
        .join(device, device.c.id == windows.c.device)
        .where(windows.c.id > after, windows.c.id <= newest, windows.c.start_s >= least_s)
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


def forget_device(connection: Connection, device: str) -> None:
    """Drop everything kept of a device that was removed."""
    baselines.forget_device(connection, device)
    for table in (ANALYSES, PROGRESS):
        connection.execute(delete(table).where(table.c.device == device))


# ── rows to messages ─────────────────────────────────────────────────────────────────────────────────────────────


def _kept(row: RowMapping) -> Kept:
    assay = api.Assay(
        id=row["id"],
        workspace=row["workspace"],
        spec=msgspec.json.decode(row["spec"], type=api.AssaySpec),
        active=bool(row["active"]),
        created_ns=row["created_ns"],
        baseline_version=row["baseline_version"],
        notes=msgspec.json.decode(row["notes"], type=list[str]),
    )
    types = msgspec.json.decode(row["field_types"], type=dict[str, str])
    return Kept(assay, types, row["start_ns"], row["failure"])
