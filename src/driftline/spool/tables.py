"""The spool's file: records, ledger and metadata as SQLite tables.

Schema 3:

    records_window, records_rows, records_event     sequence (over all three, never used twice), stamp, data
    acknowledged    kind, first, last: in these ranges nothing of the kind waits; what is still there is history
    epochs          first, epoch: from this sequence on, up to the next entry's
    given_up        history that went for room, so that a restored hub's loss is counted
    dropped         what is to be said of records that went before the hub had them, windows by the clock of a stamp
    meta            what the agent remembers; and "spool.last", "spool.sender.<name>"

Each kind has a table of its own, so that what waits of a kind is one walk, without an index that each append would have
to write too; an acknowledgement moves the end of a range and touches no record. The last sequence is the greatest there
is, or "spool.last", written where records are erased.
"""

import sqlite3
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager

from driftline.spool.drops import KINDS
from driftline.spool.ledger import Drop, GivenUp, Ledger, Tally
from driftline.spool.outbox import random_epoch
from driftline.spool.ranges import Ranges, without
from driftline.wire.device import Record, RecordKind, Stamp

SCHEMA = 3
_LAST = "spool.last"
_SENDER = "spool.sender."
_RECORD_TABLE = "CREATE TABLE @ (sequence INTEGER PRIMARY KEY, boot TEXT, offset_ns INTEGER, data BLOB NOT NULL)"
_OTHER_TABLES = """
CREATE TABLE acknowledged (
    kind TEXT, first INTEGER, last INTEGER NOT NULL, PRIMARY KEY (kind, first)) WITHOUT ROWID;
CREATE TABLE epochs (first INTEGER PRIMARY KEY, epoch TEXT NOT NULL);
CREATE TABLE given_up (
    kind TEXT NOT NULL, epoch TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE TABLE dropped (
    place TEXT, kind TEXT, pipeline TEXT, count INTEGER NOT NULL, inferences INTEGER NOT NULL,
    first_s INTEGER, last_s INTEGER, boot TEXT, offset_ns INTEGER,
    PRIMARY KEY (place, kind, pipeline)) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def create(connection: sqlite3.Connection, epoch: str) -> None:
    """Make the tables of an empty spool, within the caller's transaction."""
    for kind in KINDS:
        connection.execute(_of(kind, _RECORD_TABLE))
    for table in _OTHER_TABLES.split(";"):  # `executescript` would commit
        connection.execute(table)
    connection.execute("INSERT INTO epochs VALUES (1, ?)", (epoch,))
    connection.execute(f"PRAGMA user_version={SCHEMA}")


def migrate_1(connection: sqlite3.Connection) -> None:
    """Turn schema 1 into this one, within the caller's transaction; what was waiting waits, nothing is history.

    Schema 1 had one table of records, of which the acknowledged ones were deleted, the epoch and counts of what was
    dropped in the metadata, and a table of senders.
    """
    connection.execute("ALTER TABLE meta RENAME TO old_meta")
    facts = dict(connection.execute("SELECT key, value FROM old_meta").fetchall())
    create(connection, str(facts.pop("epoch", None) or random_epoch()))
    for kind in KINDS:
        connection.execute(
            _of(kind, "INSERT INTO @ SELECT sequence, NULL, NULL, data FROM records WHERE kind=? ORDER BY sequence"),
            (kind,),
        )
    dropped = {key.removeprefix("dropped:"): facts.pop(key) for key in list(facts) if key.startswith("dropped:")}
    connection.executemany(
        "INSERT INTO dropped VALUES ('spool', ?, '', ?, 0, NULL, NULL, NULL, NULL)",
        [(kind, int(count)) for kind, count in dropped.items()],
    )
    for sender, number, sequence in connection.execute("SELECT sender, number, sequence FROM senders").fetchall():
        facts[_SENDER + sender] = f"{number} {sequence}"
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='records'").fetchone()
    facts[_LAST] = str(last[0] if last else 0)
    connection.executemany("INSERT INTO meta VALUES (?,?)", facts.items())
    for table in ("records", "senders", "old_meta"):
        connection.execute(f"DROP TABLE {table}")


def migrate_2(connection: sqlite3.Connection) -> None:
    """Turn schema 2, which did not know by which clock windows were dropped, into this one."""
    connection.execute("ALTER TABLE dropped ADD COLUMN boot TEXT")
    connection.execute("ALTER TABLE dropped ADD COLUMN offset_ns INTEGER")
    connection.execute(f"PRAGMA user_version={SCHEMA}")


class SqliteStore:
    """The `Store` of an open file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._erased = False

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """See `Store`."""
        self._erased = False
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────

    def load(self) -> Ledger:
        """See `Store`."""
        rows = self._connection.execute
        acknowledged: dict[RecordKind, Ranges] = {
            kind: tuple(rows("SELECT first, last FROM acknowledged WHERE kind=? ORDER BY first", (kind,)))
            for kind in KINDS
        }
        last = max(int(self.recall(_LAST).get(_LAST, 0)), *(self.below(kind, 1 << 62) or 0 for kind in KINDS))
        everything = ((1, last),)
        dropped = rows("SELECT place, kind, pipeline, count, inferences, first_s, last_s, boot, offset_ns FROM dropped")
        return Ledger(
            epochs=tuple(rows("SELECT first, epoch FROM epochs ORDER BY first")),
            last=last,
            acknowledged=acknowledged,
            given_up=tuple(GivenUp(*one) for one in rows("SELECT kind, epoch, first, last, count FROM given_up")),
            dropped={
                (place, kind, pipeline): Drop(count, inferences, first_s, last_s, _stamp(boot, offset_ns))
                for place, kind, pipeline, count, inferences, first_s, last_s, boot, offset_ns in dropped
            },
            senders={key.removeprefix(_SENDER): _numbers(value) for key, value in self.recall(_SENDER).items()},
            waiting={kind: self._tally(kind, without(everything, acknowledged[kind])) for kind in KINDS},
            history={kind: self._tally(kind, acknowledged[kind]) for kind in KINDS},
        )

    def save(self, before: Ledger, after: Ledger) -> None:
        """See `Store`."""
        if self._erased:
            self.remember({_LAST: str(after.last)})
        if after.senders is not before.senders:
            self._save_senders(before, after)
        for kind, ranges in after.acknowledged.items():
            if ranges != before.acknowledged.get(kind, ()):
                self._connection.execute("DELETE FROM acknowledged WHERE kind=?", (kind,))
                self._connection.executemany(
                    "INSERT INTO acknowledged VALUES (?,?,?)", [(kind, *one) for one in ranges]
                )
        if after.epochs != before.epochs:
            self._connection.execute("DELETE FROM epochs")
            self._connection.executemany("INSERT INTO epochs VALUES (?,?)", after.epochs)
        if after.given_up != before.given_up:
            self._connection.execute("DELETE FROM given_up")
            self._connection.executemany(
                "INSERT INTO given_up VALUES (?,?,?,?,?)",
                [(one.kind, one.epoch, one.first, one.last, one.count) for one in after.given_up],
            )
        if after.dropped != before.dropped:
            self._connection.execute("DELETE FROM dropped")
            self._connection.executemany(
                "INSERT INTO dropped VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (*key, one.count, one.inferences, one.first_s, one.last_s, *_clock(one.stamp))
                    for key, one in after.dropped.items()
                ],
            )

    def _save_senders(self, before: Ledger, after: Ledger) -> None:
        for name in before.senders.keys() - after.senders.keys():
            self._connection.execute("DELETE FROM meta WHERE key=?", (_SENDER + name,))
        new = {name: one for name, one in after.senders.items() if before.senders.get(name) != one}
        self.remember({_SENDER + name: f"{number} {sequence}" for name, (number, sequence) in new.items()})

    def _tally(self, kind: RecordKind, ranges: Ranges) -> Tally:
        total = Tally()
        for one in ranges:
            total = total.plus(
                *self._connection.execute(
                    _of(kind, "SELECT count(*), coalesce(sum(length(data)), 0) FROM @ WHERE sequence BETWEEN ? AND ?"),
                    one,
                ).fetchone()
            )
        return total

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, record: Record) -> None:
        """See `Store`."""
        row = (record.sequence, *_clock(record.stamp), record.data)
        self._connection.execute(_of(record.kind, "INSERT INTO @ VALUES (?,?,?,?)"), row)

    def erase(self, kind: RecordKind, ranges: Ranges) -> None:
        """See `Store`."""
        self._erased = True
        self._connection.executemany(_of(kind, "DELETE FROM @ WHERE sequence BETWEEN ? AND ?"), ranges)

    def sizes(self, kind: RecordKind, ranges: Ranges) -> Iterator[tuple[int, int]]:
        """See `Store`."""
        query = _of(kind, "SELECT sequence, length(data) FROM @ WHERE sequence BETWEEN ? AND ? ORDER BY sequence")
        for one in ranges:
            with closing(self._connection.execute(query, one)) as rows:
                yield from rows

    def records(self, kind: RecordKind, ranges: Ranges, *, newest_first: bool = False) -> Iterator[Record]:
        """See `Store`."""
        order, step = ("DESC", -1) if newest_first else ("ASC", 1)
        query = "SELECT sequence, boot, offset_ns, data FROM @ WHERE sequence BETWEEN ? AND ? ORDER BY sequence "
        for one in ranges[::step]:
            with closing(self._connection.execute(_of(kind, query + order), one)) as rows:
                for sequence, boot, offset_ns, data in rows:
                    yield Record(sequence, kind, bytes(data), _stamp(boot, offset_ns))

    def below(self, kind: RecordKind, sequence: int) -> int | None:
        """See `Store`."""
        return self._one(_of(kind, "SELECT max(sequence) FROM @ WHERE sequence < ?"), sequence)

    def above(self, kind: RecordKind, sequence: int) -> int | None:
        """See `Store`."""
        return self._one(_of(kind, "SELECT min(sequence) FROM @ WHERE sequence > ?"), sequence)

    def _one(self, query: str, sequence: int) -> int | None:
        return self._connection.execute(query, (sequence,)).fetchone()[0]

    # ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────

    def remember(self, facts: Mapping[str, str]) -> None:
        """See `Store`."""
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", facts.items())

    def recall(self, prefix: str) -> dict[str, str]:
        """See `Store`."""
        rows = self._connection.execute("SELECT key, value FROM meta WHERE substr(key, 1, ?)=?", (len(prefix), prefix))
        return dict(rows.fetchall())


def _stamp(boot: str | None, offset_ns: int) -> Stamp | None:
    return None if boot is None else Stamp(boot, offset_ns)


def _clock(stamp: Stamp | None) -> tuple[str | None, int | None]:
    return (None, None) if stamp is None else (stamp.boot, stamp.offset_ns)


def _numbers(text: str) -> tuple[int, int]:
    number, _, sequence = text.partition(" ")
    return int(number), int(sequence)


def _of(kind: RecordKind, query: str) -> str:
    """Return a query for the records of one kind."""
    return query.replace("@", f"records_{kind}")
