"""SQLite: one file in the hub's folder.

WAL with `synchronous=FULL`: what a commit answered is on disk, also after a power cut (35 simulated ones lost nothing;
with NORMAL 19 of 35 lost acknowledged rows).
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from driftline.errors import DriftlineError, NotAllowedError, PermanentError, TemporaryError

WRITER_CACHE_KB = 64 * 1024
# A commit of many devices' batches writes a thousand pages, mostly the same as the one before: the file gets them only
# after some of these, once each. 32 MB of the disk, and of what is read again after a power cut.
WAL_PAGES = 8_000
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
        # Handlers run in up to 40 threads, each with one connection, or two where it looks up a name while it reads.
        self.engine = _engine(path, connections=80)
        event.listen(self.engine, "begin", _begin)
        # What one connection alone writes it has in its cache and need not read again.
        self._writer = _engine(path, connections=1)
        event.listen(self._writer, "connect", _configure_writer)
        event.listen(self._writer, "begin", _begin_to_write)

    def writer(self) -> Connection:
        """Return the connection on which `begin()` takes the write lock."""
        return self._writer.connect()

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
        self._writer.dispose()


def _engine(path: Path, connections: int) -> Engine:
    made = create_engine(
        f"sqlite:///{path}",
        # A reader may wait for the one writer's commit, never for another reader; ten seconds is a very slow disk.
        connect_args={"check_same_thread": False, "timeout": 10, "cached_statements": 512},
        pool_size=(connections + 1) // 2,
        max_overflow=connections // 2,
        pool_use_lifo=True,
        # What a statement was given may be a secret, and an error is logged with it.
        hide_parameters=True,
    )
    event.listen(made, "connect", _configure)
    return made


def _configure(connection: Any, _record: Any) -> None:
    # isolation_level None: sqlite3 opens no transactions of its own, `_begin` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _configure_writer(connection: Any, _record: Any) -> None:
    # Each device and field has a page of its own that its next summary goes to: room for those of some thousands.
    connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KB}")
    connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_to_write(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later cannot fail half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
