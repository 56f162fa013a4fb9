"""Opening the spool's file: settings that hold through power cuts, older schemas, and files that cannot be read.

SQLite in WAL mode with `synchronous=FULL` (with NORMAL, power cuts lost acknowledged rows). A file that SQLite cannot
read, or of a newer schema, is put aside as `<name>.damaged`, never deleted unseen.
"""

import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from driftline.spool.outbox import random_epoch
from driftline.spool.tables import SCHEMA, create, migrate_1, migrate_2

log = logging.getLogger("driftline.spool")
PAGE_BYTES = 4096
# Pages of tables and free space besides the records themselves.
OVERHEAD = 1.25
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def connected(path: Path, bytes_max: int) -> sqlite3.Connection:
    """Open the file at `path`, made or brought to this schema where need be.

    Raises:
        sqlite3.OperationalError: the file cannot be made or written.
        sqlite3.DatabaseError: it is damaged, or of a newer schema.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Some builds overwrite with zeros what is deleted: each megabyte of history would be written once more.
        connection.execute("PRAGMA secure_delete=OFF")
        # A small log: on a full disk it must still fit beside the file.
        connection.execute("PRAGMA wal_autocheckpoint=64")
        # SQLite would keep two megabytes of pages; what an agent reads twice is a fraction of that.
        connection.execute("PRAGMA cache_size=-128")
        connection.execute(f"PRAGMA journal_size_limit={256 * PAGE_BYTES}")
        _check(connection)
        _bring_to_schema(connection)
        connection.execute(f"PRAGMA max_page_count={max(256, int(bytes_max * OVERHEAD) // PAGE_BYTES)}")
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file cannot be read, rather than that something is in the way."""
    # Errors that the sqlite3 module raises by itself carry no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def put_aside(path: Path, reason: str) -> None:
    """Move a spool that cannot be used out of the way."""
    log.error("the spool %s cannot be used (%s); it is kept as .damaged, and a new one begins", path, reason)
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            # An older one is replaced: a disk that keeps failing must not fill up with what it broke.
            part.replace(path.with_name(f"{path.name}.damaged{suffix}"))


def _check(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version not in range(SCHEMA + 1):
        raise sqlite3.DatabaseError(f"a spool of schema {version}; this program knows {SCHEMA}")
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise sqlite3.DatabaseError("a database of another program")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))


def _bring_to_schema(connection: sqlite3.Connection) -> None:
    if _version(connection) == SCHEMA:
        return
    with _transaction(connection):
        version = _version(connection)
        if version == 0:
            create(connection, random_epoch())
        else:
            {1: migrate_1, 2: migrate_2}[version](connection)
    # Moving every record has made the log as long as the file.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
