"""A look at a spool from outside: read only, while its agent runs or not, and never a repair."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from driftline.clock import NS_PER_S
from driftline.wire.device import RecordKind, WireError, decode_event, decode_window

KINDS: tuple[RecordKind, ...] = ("window", "rows", "event")
# What waits of the kind @, by schema: first there was one table and what was acknowledged was
# deleted; then a table for each kind, and the ranges in which nothing waits.
_NOT_ACKNOWLEDGED = (
    "FROM records_@ WHERE NOT EXISTS (SELECT 1 FROM acknowledged "
    "WHERE kind='@' AND first <= sequence AND last >= sequence)"
)
_WAITING = {1: "FROM records WHERE kind='@'", 2: _NOT_ACKNOWLEDGED, 3: _NOT_ACKNOWLEDGED}


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of a spool.

    `trouble` is why it cannot be read, empty where it can; `oldest_ns` the time of the oldest event or window that
    waits. `aside` is whether a damaged one was put aside beside it.
    """

    trouble: str = ""
    schema: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict[str, int])
    waiting_bytes: int = 0
    oldest_ns: int | None = None
    file_bytes: int = 0
    aside: bool = False


def look(path: Path, *, thorough: bool = False) -> Look | None:
    """Look at the spool at `path`, None where there is none yet; `thorough` also checks each page of the file."""
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.damaged").exists()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return _seen(connection, path, aside=aside, thorough=thorough)
    except (sqlite3.Error, OSError, WireError) as error:
        return Look(trouble=str(error), aside=aside)


def _seen(connection: sqlite3.Connection, path: Path, *, aside: bool, thorough: bool) -> Look:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema not in _WAITING:
        return Look(f"it is of schema {schema}, and this program knows {max(_WAITING)}", schema, aside=aside)
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
    waiting: dict[str, int] = {}
    waiting_bytes = 0
    for kind in KINDS:
        what = _WAITING[schema].replace("@", kind)
        count, size = connection.execute(f"SELECT count(*), coalesce(sum(length(data)), 0) {what}").fetchone()
        waiting |= {kind: int(count)} if count else {}
        waiting_bytes += int(size)
    oldest_ns = min((_time_ns(kind, data) for kind, data in _oldest(connection, schema)), default=None)
    trouble = "" if verdict == "ok" else str(verdict)
    return Look(trouble, schema, waiting, waiting_bytes, oldest_ns, path.stat().st_size, aside)


def _oldest(connection: sqlite3.Connection, schema: int) -> Iterator[tuple[RecordKind, bytes]]:
    """Yield the first window and the first event that wait; rows carry their times in columns."""
    for kind in KINDS:
        what = _WAITING[schema].replace("@", kind)
        found = connection.execute(f"SELECT data {what} ORDER BY sequence LIMIT 1").fetchone()
        if found is not None and kind != "rows":
            yield kind, bytes(found[0])


def _time_ns(kind: RecordKind, data: bytes) -> int:
    return decode_window(data).start_s * NS_PER_S if kind == "window" else int(decode_event(data)["at_ns"])
