"""A device's outbox on disk: a record is in it from the commit on until the hub has acknowledged it.

One SQLite file in WAL mode with `synchronous=FULL` (with NORMAL, power cuts lost acknowledged rows). Layout, schema 1:

    records   sequence (grows for ever, never used twice), kind, data
    senders   the newest number each sender handed over and the sequence it got: a repeated record is known
    meta      epoch, what was dropped, and what the agent remembers with its records

Invariants:
- `append` returns after the commit; what it returned a sequence for is delivered, or counted as dropped.
- Sequences are unique within an epoch. A spool that is lost, or put aside because it is damaged, begins a new random
  epoch, so that the hub never takes a new record for an old one.
- At most `bytes_max` bytes wait. Beyond that the oldest rows go first, then the oldest windows, then the oldest events;
  what went is counted in the same transaction, and becomes an event `dropped` with the next batch.
- A file that SQLite cannot read, or of another schema, is put aside as `<name>.damaged`, never deleted unseen.
- A full disk: drops make room inside the file, and a ballast file is given up where even that needs room.
"""

import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from driftline.errors import InvalidInputError, NotAllowedError, TemporaryError
from driftline.wire.device import Record, RecordKind, encode_event

log = logging.getLogger("driftline.spool")
SCHEMA = 1
KINDS: tuple[RecordKind, ...] = ("rows", "window", "event")  # in the order in which they are dropped
# Two months of five fields a minute (0.7 MB a day on the wire, some 5 MB here), or one day of rows.
BYTES_MAX = 256 * 1024 * 1024
# Room is made for more than one record at a time: each drop costs a commit.
ROOM_SHARE = 0.05
PAGE_BYTES = 4096
# Pages of tables and free space besides the records themselves.
OVERHEAD = 1.25
# Enough for the log of the transactions that make room.
BALLAST_BYTES = 1024 * 1024
# A sender is a process; of those that ended long ago nothing comes again.
SENDERS_MAX = 64
_TABLES = """
CREATE TABLE IF NOT EXISTS records (sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS senders (
    sender TEXT PRIMARY KEY, number INTEGER NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_Result = TypeVar("_Result")


class Spool:
    """The outbox at `path`; threads may share it, processes may not.

    Raises:
        NotAllowedError: the file cannot be made or written.
    """

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX, now_ns: Callable[[], int]) -> None:
        self.path = path
        self._bytes_max = bytes_max
        # Less than `bytes_max` from the moment the disk was full, until it has room again.
        self._room = bytes_max
        self._now_ns = now_ns
        self._guard = threading.RLock()
        self._connection = self._open()

    # ── what the agent does ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def epoch(self) -> str:
        """The random name of this run of sequences."""
        return self._epoch

    @property
    def backlog(self) -> int:
        """Records that wait."""
        return self._count

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def last_sequence(self) -> int:
        """The newest sequence given in this epoch, 0 before the first."""
        return self._last

    def append(
        self, kind: RecordKind, data: bytes, key: str | None = None, remember: Mapping[str, str] | None = None
    ) -> int:
        """Commit a record and return its sequence; `remember` goes into the metadata in the same commit.

        `key` is "sender:number", numbers growing: what is known by it is not taken again, and what is to be
        remembered neither. A known record returns the sequence its sender's newest one got.

        Raises:
            InvalidInputError: an unknown kind or a malformed key.
            TemporaryError: there is no room on the disk, and none could be made.
        """
        if kind not in KINDS:
            raise InvalidInputError(f"a record is a window, rows or an event, not {kind!r}")
        sender = None if key is None else _sender(key)
        with self._guard:
            return self._with_room(lambda: self._append(kind, data, sender, remember or {}))

    def batch(self, bytes_max: int) -> list[Record]:
        """Return the oldest records, in order, of at most `bytes_max` bytes together, but always one if any waits."""
        with self._guard:
            self._report_drops()
            return self._repaired(lambda: self._batch(bytes_max))

    def acknowledge(self, upto: int) -> None:
        """Delete what the hub has committed: every record up to this sequence."""
        with self._guard:
            self._with_room(lambda: self._acknowledge(min(upto, self._last)))
            if self._restore_ballast():
                self._room = self._bytes_max

    def remember(self, key: str, value: str) -> None:
        """Commit something to the metadata."""
        with self._guard:
            self._with_room(lambda: self._remember(key, value))

    def recall(self, key: str) -> str | None:
        """Return what was remembered, None where nothing was."""
        with self._guard:
            return self._repaired(lambda: self._meta(key))

    def recall_all(self, prefix: str) -> dict[str, str]:
        """Return everything remembered under keys that begin so, by the rest of the key."""
        with self._guard:
            found = self._repaired(
                lambda: self._connection.execute(
                    "SELECT key, value FROM meta WHERE substr(key, 1, ?)=?", (len(prefix), prefix)
                ).fetchall()
            )
        return {str(key).removeprefix(prefix): str(value) for key, value in found}

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._guard:
            self._connection.close()

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        counted = (self._count, self._bytes, self._last)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            self._count, self._bytes, self._last = counted
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _append(
        self, kind: RecordKind, data: bytes, sender: tuple[str, int] | None, remember: Mapping[str, str]
    ) -> int:
        known = None if sender is None else self._known(*sender)
        if known is not None:
            return known
        with self._transaction() as connection:
            if self._bytes + len(data) > self._room:
                self._drop(len(data) + int(self._room * ROOM_SHARE))
            sequence = self._insert(kind, data)
            if sender is not None:
                connection.execute("INSERT OR REPLACE INTO senders VALUES (?,?,?)", (*sender, sequence))
                connection.execute(
                    "DELETE FROM senders WHERE sequence <= (SELECT sequence FROM senders "
                    "ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
                    (SENDERS_MAX,),
                )
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", remember.items())
        return sequence

    def _known(self, sender: str, number: int) -> int | None:
        found = self._connection.execute(
            "SELECT sequence FROM senders WHERE sender=? AND number >= ?", (sender, number)
        ).fetchone()
        return None if found is None else int(found[0])

    def _insert(self, kind: RecordKind, data: bytes) -> int:
        inserted = self._connection.execute("INSERT INTO records (kind, data) VALUES (?,?)", (kind, data))
        self._last = int(inserted.lastrowid or 0)
        self._count += 1
        self._bytes += len(data)
        return self._last

    def _batch(self, bytes_max: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        with closing(self._connection.execute("SELECT sequence, kind, data FROM records ORDER BY sequence")) as rows:
            for sequence, kind, data in rows:
                size += len(data)
                if records and size > bytes_max:
                    break
                records.append(Record(int(sequence), kind, bytes(data)))
        return records

    def _acknowledge(self, upto: int) -> None:
        with self._transaction() as connection:
            count, size = connection.execute(
                "SELECT count(*), coalesce(sum(length(data)), 0) FROM records WHERE sequence <= ?", (upto,)
            ).fetchone()
            connection.execute("DELETE FROM records WHERE sequence <= ?", (upto,))
            self._count -= int(count)
            self._bytes -= int(size)

    def _remember(self, key: str, value: str) -> None:
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, value))

    def _meta(self, key: str) -> str | None:
        found = self._connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if found is None else str(found[0])

    # ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _drop(self, size: int) -> int:
        """Delete the oldest records, kind by kind, until `size` more bytes fit; count them; return how many went."""
        total = 0
        for kind in KINDS:
            excess = self._bytes + size - self._room
            if excess <= 0:
                break
            last, count, freed = None, 0, 0
            rows = self._connection.execute(
                "SELECT sequence, length(data) FROM records WHERE kind=? ORDER BY sequence", (kind,)
            )
            with closing(rows):
                for sequence, length in rows:
                    last, count, freed = sequence, count + 1, freed + int(length)
                    if freed >= excess:
                        break
            if last is not None:
                self._connection.execute("DELETE FROM records WHERE kind=? AND sequence <= ?", (kind, last))
                self._count, self._bytes, total = self._count - count, self._bytes - freed, total + count
                self._count_dropped(kind, count)
        return total

    def _count_dropped(self, kind: str, count: int) -> None:
        self._connection.execute(
            "INSERT INTO meta VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (f"dropped:{kind}", count),
        )

    def _report_drops(self) -> None:
        """Turn what was counted as dropped into an event, where there is room for one."""
        dropped = {kind: int(count) for kind, count in self.recall_all("dropped:").items()}
        if not dropped:
            return
        event = encode_event("dropped", self._now_ns(), where="spool", counts=dropped)
        try:
            with self._transaction() as connection:
                connection.execute("DELETE FROM meta WHERE substr(key, 1, 8)='dropped:'")
                self._insert("event", event)
        except sqlite3.OperationalError as error:
            log.warning("the spool has no room to say what it dropped: %s", error)

    def _with_room(self, act: Callable[[], _Result]) -> _Result:
        """Act; where the disk is full give up the oldest records, then the ballast too, and try again."""
        for help_out in (self._give_records, self._give_ballast, None):
            try:
                return self._repaired(act)
            except sqlite3.OperationalError as error:
                if help_out is None or not _is_full(error):
                    raise _temporary(error) from error
                help_out()
        raise AssertionError("the last round either returned or raised")

    def _give_records(self) -> None:
        """Drop a part of what waits, and let the file grow no more; where even that needs room nothing changes."""
        before = self._bytes
        try:
            with self._transaction():
                # As much as a usual drop frees, however little waits.
                dropped = self._drop(self._room - before + max(before // 4, 64 * 1024))
            # The log starts again at its beginning only when all of it fits into the file.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            log.warning("the disk is too full even to drop records: %s", error)
            return
        self._room = max(before * 9 // 10, 64 * 1024)
        log.warning("the disk is full: %d records that waited for the hub were dropped", dropped)

    def _give_ballast(self) -> None:
        log.warning("the disk is full: the spool's reserve of %d bytes is given up", BALLAST_BYTES)
        self._ballast.unlink(missing_ok=True)
        self._give_records()

    @property
    def _ballast(self) -> Path:
        return self.path.with_name(self.path.name + ".ballast")

    def _restore_ballast(self) -> bool:
        """Return whether the ballast is there."""
        if self._ballast.exists():
            return True
        beside = self._ballast.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                # Real bytes: a hole in a file reserves nothing, and some file systems compress zeros.
                file.write(os.urandom(BALLAST_BYTES))
            beside.replace(self._ballast)
        except OSError:
            beside.unlink(missing_ok=True)  # the disk is still full; the next acknowledgement tries again
            return False
        return True

    # ── opening, and what cannot be opened ───────────────────────────────────────────────────────────────────────

    def _repaired(self, act: Callable[[], _Result]) -> _Result:
        """Act; a file found damaged is put aside and replaced by a new one first."""
        try:
            return act()
        except sqlite3.DatabaseError as error:
            # Errors that the sqlite3 module raises by itself carry no code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            self._connection.close()
            self._put_aside(str(error))
            self._connection = self._open()
            return act()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._begin(self._connect())
        except sqlite3.OperationalError as error:
            raise NotAllowedError(
                f"{self.path} cannot be opened ({error}); the folder must be writable, and the disk not full"
            ) from error
        except sqlite3.DatabaseError as error:
            reason = str(error)
        self._put_aside(reason)
        connection = self._begin(self._connect())
        with self._transaction():
            self._insert("event", encode_event("spool_lost", self._now_ns(), reason=reason))
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            # A small log: on a full disk it must still fit beside the file.
            connection.execute("PRAGMA wal_autocheckpoint=64")
            connection.execute(f"PRAGMA journal_size_limit={256 * PAGE_BYTES}")
            connection.execute(f"PRAGMA max_page_count={max(256, int(self._bytes_max * OVERHEAD) // PAGE_BYTES)}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in {0, SCHEMA}:
                raise sqlite3.DatabaseError(f"a spool of schema {version}; this program knows {SCHEMA}")
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(str(verdict))
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA user_version={SCHEMA}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        self._connection = connection
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (secrets.token_hex(8),))
        self._epoch = str(self._meta("epoch"))
        self._count, self._bytes = map(
            int, connection.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM records").fetchone()
        )
        found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='records'").fetchone()
        self._last = 0 if found is None else int(found[0])
        self._restore_ballast()
        return connection

    def _put_aside(self, reason: str) -> None:
        log.error("the spool %s cannot be used (%s); it is kept as .damaged, and a new one begins", self.path, reason)
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                # An older one is replaced: a disk that keeps failing must not fill up with what it broke.
                part.replace(self.path.with_name(f"{self.path.name}.damaged{suffix}"))


def _sender(key: str) -> tuple[str, int]:
    sender, _, number = key.rpartition(":")
    if not sender or not number.isdecimal():
        raise InvalidInputError(f"a record's key is 'sender:number', not {key!r:.100}")
    return sender, int(number)


def _is_full(error: sqlite3.OperationalError) -> bool:
    # A disk that is full while the log is extended shows as an I/O error with some file systems.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def _temporary(error: sqlite3.OperationalError) -> TemporaryError:
    return TemporaryError(f"the device's disk takes nothing more ({error}); make room on it")
