"""A look at a spool from outside: read only, while its agent runs or not, and never a repair."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from driftline.clock import NS_PER_S
from driftline.spool.spool import SCHEMA
from driftline.wire.device import RecordKind, WireError, decode_event, decode_window

# What waits, oldest first, of one kind.
_WAITING = "SELECT data FROM records WHERE kind=? ORDER BY sequence LIMIT 1"
_COUNTS = "SELECT kind, count(*), coalesce(sum(length(data)), 0) FROM records GROUP BY kind"


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of a spool.

    `trouble` is why it cannot be read, empty where it can; `oldest_ns` the time of the oldest event or window that
    waits. `aside` is whether a damaged one was put aside beside it.
    """

    trouble: str = ""
    schema: int = SCHEMA
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
    if schema != SCHEMA:
        return Look(f"it is of schema {schema}, and this program knows {SCHEMA}", schema, aside=aside)
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
    counts = connection.execute(_COUNTS).fetchall()
    return Look(
        "" if verdict == "ok" else str(verdict),
        schema,
        {str(kind): int(count) for kind, count, _ in counts},
        sum(int(size) for _, _, size in counts),
        _oldest_ns(connection),
        path.stat().st_size,
        aside,
    )


def _oldest_ns(connection: sqlite3.Connection) -> int | None:
    """Return the earliest time of the first window and the first event that wait."""
    times: list[int] = []
    kinds: tuple[RecordKind, ...] = ("window", "event")
    for kind in kinds:
        found = connection.execute(_WAITING, (kind,)).fetchone()
        if found is not None:
            data = bytes(found[0])
            is_window = kind == "window"
            times.append(decode_window(data).start_s * NS_PER_S if is_window else int(decode_event(data)["at_ns"]))
    return min(times, default=None)
