"""Removing what is old, a little at a time: which streams there are, and deleting the oldest of each."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, delete, func, select

from driftline.clock import NS_PER_S
from driftline.hub.store import sql
from driftline.hub.store.assays import ANALYSES, PROGRESS
from driftline.hub.store.incidents import INCIDENTS, PARTS
from driftline.hub.store.telemetry import names

Stream = tuple[int, int]  # pipeline and device, by the numbers of their names


def held_since(connection: Connection) -> dict[str, int]:
    """Return by device since when what it sent is needed: the start of the oldest open incident it is part of."""
    since_ns = func.min(PARTS.c.opened_ns).label("since_ns")
    query = select(PARTS.c.device, since_ns).join(INCIDENTS, INCIDENTS.c.id == PARTS.c.incident)
    query = query.where(INCIDENTS.c.resolved_ns.is_(None)).group_by(PARTS.c.device)
    return {row.device: row.since_ns for row in connection.execute(query)}


# ── what devices sent ────────────────────────────────────────────────────────────────────────────────────────────


def streams(connection: Connection, table: str) -> Iterator[tuple[Stream, str]]:
    """Yield every (pipeline, device) of windows or rows, with the device's name: a seek of the index for each."""
    after = (-1, -1)
    while True:
        found = sql.run(
            connection,
            f"SELECT pipeline, device FROM {table} WHERE (pipeline, device) > (?, ?) "  # noqa: S608  constant text
            "ORDER BY pipeline, device LIMIT 1",
            after,
        ).first()
        if found is None:
            return
        after = (int(found[0]), int(found[1]))
        name = connection.execute(select(names.c.text).where(names.c.id == after[1])).scalar()
        yield after, str(name)


def remove_windows(connection: Connection, stream: Stream, before_s: int, at_most: int) -> int:
    """Remove about so many of a stream's oldest windows that begin before a time, and their summaries; say how many."""
    end_s = _slice_end(connection, "windows", stream, before_s, at_most)
    if end_s is None:
        return 0
    field = -1
    while True:
        found = sql.run(
            connection,
            "SELECT min(field) FROM summaries WHERE pipeline = ? AND device = ? AND field > ?",
            (*stream, field),
        ).scalar()
        if found is None:
            break
        field = int(found)
        sql.run(
            connection,
            "DELETE FROM summaries WHERE pipeline = ? AND device = ? AND field = ? AND start_s < ?",
            (*stream, field, end_s),
        )
    return _remove(connection, "windows", stream, end_s)


def remove_rows(connection: Connection, stream: Stream, before_s: int, at_most: int) -> int:
    """Remove about so many of a stream's oldest rows records that begin before a time; say how many."""
    end_s = _slice_end(connection, "rows", stream, before_s, at_most)
    return 0 if end_s is None else _remove(connection, "rows", stream, end_s)


def _slice_end(connection: Connection, table: str, stream: Stream, before_s: int, at_most: int) -> int | None:
    """Return the time before which about so many of the oldest lie; None where there is nothing so old."""
    where = f"FROM {table} WHERE pipeline = ? AND device = ? AND start_s < ? ORDER BY start_s"
    values = (*stream, before_s)
    oldest = sql.run(connection, f"SELECT start_s {where} LIMIT 1", values).scalar()
    if oldest is None:
        return None
    last = sql.run(connection, f"SELECT start_s {where} LIMIT 1 OFFSET {int(at_most)}", values).scalar()
    # All records of one start go together, or the next slice would never get on.
    return before_s if last is None else max(int(last), int(oldest) + 1)


def _remove(connection: Connection, table: str, stream: Stream, end_s: int) -> int:
    statement = f"DELETE FROM {table} WHERE pipeline = ? AND device = ? AND start_s < ?"  # noqa: S608  constant text
    return int(sql.run(connection, statement, (*stream, end_s)).rowcount)


def remove_received(connection: Connection, table: str, before_ns: int, at_most: int) -> int:
    """Remove about so many of the oldest events or undated records that came before a time; say how many."""
    oldest = f"SELECT id, received_ns FROM {table} ORDER BY id LIMIT {int(at_most)}"  # noqa: S608  constant text
    last = max((int(number) for number, came_ns in sql.run(connection, oldest) if came_ns < before_ns), default=None)
    if last is None:
        return 0
    statement = f"DELETE FROM {table} WHERE id <= ? AND received_ns < ?"  # noqa: S608  constant text
    return int(sql.run(connection, statement, (last, before_ns)).rowcount)


# ── what the hub answered ────────────────────────────────────────────────────────────────────────────────────────


def courses(connection: Connection) -> list[tuple[str, str]]:
    """Return every (assay, device) that has answers."""
    query = select(PROGRESS.c.assay, PROGRESS.c.device).order_by(PROGRESS.c.assay, PROGRESS.c.device)
    return [(row.assay, row.device) for row in connection.execute(query)]


def remove_analyses(connection: Connection, assay: str, device: str, before_ns: int, at_most: int) -> int:
    """Remove about so many of the oldest answers of an assay on a device; say how many.

    The newest that the evidence goes on from stays, and everything after it, however old.
    """
    own: tuple[Any, ...] = (ANALYSES.c.assay == assay, ANALYSES.c.device == device)
    newest = connection.execute(select(func.max(ANALYSES.c.start_ns)).where(*own)).scalar()
    going_on = connection.execute(
        select(func.max(ANALYSES.c.start_ns)).where(*own, ANALYSES.c.state.is_not(None))
    ).scalar()
    before_ns = min(one for one in (before_ns, newest, going_on) if one is not None)
    query = select(ANALYSES.c.start_ns).where(*own, ANALYSES.c.start_ns < before_ns).distinct()
    starts = connection.execute(query.order_by(ANALYSES.c.start_ns).limit(at_most)).scalars().all()
    if not starts:
        return 0
    return connection.execute(delete(ANALYSES).where(*own, ANALYSES.c.start_ns <= starts[-1])).rowcount


def whole_s(time_ns: int) -> int:
    """Return the whole seconds of a time."""
    return time_ns // NS_PER_S
