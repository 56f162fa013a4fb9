"""What devices counted and logged: windows, one row a summary, the inference log, events.

Names (pipelines, versions, devices, fields, grids) are stored once and stand in the tables as small integers: a
summary's row is then mostly the summary. Everything of one record is written in the transaction that remembers the
record's place in the device's spool, so that nothing is lost or counted twice.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from driftline.clock import NS_PER_S
from driftline.hub.intake import Range, Told, content_hash
from driftline.hub.store import sql
from driftline.hub.store.columns import Columns, kinds_of, pack
from driftline.hub.store.database import Database, Number, metadata
from driftline.wire.device import BASE_WINDOW_S, RowsRecord, WindowRecord, encode_rows

names = Table("names", metadata, Column("id", Number, primary_key=True), Column("text", String, unique=True))

# The spool positions seen, with half the record's SHA-256: a spool restored from a backup says something else again.
records = Table(
    "records",
    metadata,
    Column("device", Integer),
    Column("epoch", Integer),
    Column("sequence", BigInteger),
    Column("hash", LargeBinary),
    PrimaryKeyConstraint("device", "epoch", "sequence"),
    sqlite_with_rowid=False,
)

windows = Table(
    "windows",
    metadata,
    # Given out by the one who writes, in the order of commits: see `arrivals` of `driftline.hub.store.assays`.
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("pipeline", Integer),
    Column("device", Integer),
    Column("start_s", BigInteger),
    Column("width_s", BigInteger),
    Column("version", Integer),
    Column("inferences", BigInteger),
    Index("windows_by_time", "pipeline", "device", "start_s"),
)

summaries = Table(
    "summaries",
    metadata,
    Column("pipeline", Integer),
    Column("device", Integer),
    Column("field", Integer),
    Column("start_s", BigInteger),
    Column("window", BigInteger),
    Column("grid", Integer),
    Column("data", LargeBinary),
    PrimaryKeyConstraint("pipeline", "device", "field", "start_s", "window"),
    sqlite_with_rowid=False,
)

rows = Table(
    "rows",
    metadata,
    Column("id", Number, primary_key=True),
    Column("pipeline", Integer),
    Column("device", Integer),
    Column("start_s", BigInteger),
    Column("version", Integer),
    Column("complete", Boolean),
    Column("count", BigInteger),
    Column("first_ns", BigInteger),
    Column("payload", LargeBinary),
    Index("rows_by_time", "pipeline", "device", "start_s"),
)

events = Table(
    "events",
    metadata,
    Column("id", Number, primary_key=True),
    Column("device", Integer, index=True),
    Column("at_ns", BigInteger),
    Column("received_ns", BigInteger),
    Column("type", String),
    Column("document", String),
)

# Records whose time nobody knows, whole, with the reason: counted on the device's page, never scored.
undated = Table(
    "undated",
    metadata,
    Column("id", Number, primary_key=True),
    Column("device", Integer),
    Column("why", String),
    Column("kind", String),
    Column("received_ns", BigInteger),
    Column("payload", LargeBinary),
    Index("undated_by_device", "device", "why"),
)

complete = Table(
    "complete",
    metadata,
    Column("pipeline", Integer),
    Column("device", Integer),
    Column("version", Integer),
    Column("until_ns", BigInteger),
    # Where the newest goes first: what is told besides, beyond what still waits. See `hub.intake.Told`.
    Column("since_ns", BigInteger),
    Column("ahead_ns", BigInteger),
    PrimaryKeyConstraint("pipeline", "device", "version"),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One field's summary of one base window record; late parts of a window are entries of their own."""

    pv: str
    start_s: int
    width_s: int
    inferences: int
    grid_id: str
    summary: bytes


@dataclass(frozen=True, slots=True)
class RowValues:
    """A field's values row by row, in time order, shape (rows,) each; NaN is missing.

    `values` is None where the rows do not hold the field. `lacking_s` are the starts of the base windows touched that
    hold inferences of which not all are here, ascending.
    """

    times_ns: NDArray[np.int64]
    values: NDArray[np.float64] | None
    lacking_s: NDArray[np.int64]

    @property
    def complete(self) -> bool:
        """Whether every base window touched that holds inferences has all of them here."""
        return self.values is not None and self.lacking_s.size == 0

    def within(self, start_ns: int, end_ns: int) -> NDArray[np.float64] | None:
        """Return the values in [start_ns, end_ns); None where not all are here."""
        if self.values is None:
            return None
        first_s = start_ns // NS_PER_S // BASE_WINDOW_S * BASE_WINDOW_S
        if np.diff(np.searchsorted(self.lacking_s, [first_s, -(-end_ns // NS_PER_S)]))[0]:
            return None
        first, end = np.searchsorted(self.times_ns, [start_ns, end_ns])
        return self.values[first:end]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A stored rows record with where it came from."""

    device: str
    version: str
    columns: Columns


class Incoming(NamedTuple):
    """One checked record about to be stored; `pipeline` is the pipeline that `window`'s or `rows`' version is of.

    `window` and `rows` are where they belong in time: `moved` says whether that is elsewhere than in `data`, `undated`
    why it is not known, and then there are none of them.
    """

    sequence: int
    data: bytes
    pipeline: str = ""
    window: WindowRecord | None = None
    rows: RowsRecord | None = None
    event: Mapping[str, Any] | None = None
    kind: str = ""
    moved: bool = False
    undated: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where records of a batch stand in their device's spool, from the first to the last."""

    device: str
    epoch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Writing:
    """New records of one device and epoch."""

    device: str
    epoch: str
    records: Sequence[Incoming]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a device has told about a pipeline: everything up to `until_ns`, and from `since_ns` to `ahead_ns`.

    The latter is None but where the device sends the newest first and older windows still wait.
    """

    until_ns: int
    since_ns: int | None = None
    ahead_ns: int | None = None

    def has(self, start_ns: int, end_ns: int) -> bool:
        """Say whether everything of a window was told."""
        if end_ns <= self.until_ns:
            return True
        return (
            self.since_ns is not None
            and self.ahead_ns is not None
            and self.since_ns <= start_ns < end_ns <= self.ahead_ns
        )


class Telemetry:
    """Writes what ingest has checked, and reads it back for scoring, logs and pages. Devices go by name."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._interning = threading.Lock()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def intern(self, texts: Iterable[str]) -> None:
        """Give every text its number, in a transaction of its own, before a batch that refers to them is written."""
        missing = sorted({text for text in texts if text not in self._ids})
        if not missing:
            return
        with self._interning:
            with self.database.writing() as connection:
                connection.execute(
                    sql.upsert(connection, names).on_conflict_do_nothing(), [{"text": one} for one in missing]
                )
            for text in missing:
                self._known(text)

    def seen(self, connection: Connection, places: Sequence[Place]) -> list[dict[int, bytes]]:
        """Return of each place the content hashes of those records that came before, by sequence."""
        asked = [
            (at, self._ids[one.device], self._ids[one.epoch], one.first, one.last) for at, one in enumerate(places)
        ]
        found: list[dict[int, bytes]] = [{} for _ in places]
        if asked:
            # The few places come first: of each, a range of the records' key is read.
            came = sql.run(
                connection,
                f"SELECT a.column1, r.sequence, r.hash FROM {sql.asked(asked)} a CROSS JOIN records r "  # noqa: S608  whole numbers
                "WHERE r.device = a.column2 AND r.epoch = a.column3 AND r.sequence BETWEEN a.column4 AND a.column5",
            )
            for at, sequence, content in came:
                found[at][int(sequence)] = bytes(content)
        return found

    def ranges(self, connection: Connection, device: str, epoch: str) -> list[Range]:
        """Return the numbers of an epoch's records that came, as ranges (first, last) in order."""
        # In a run of numbers without a hole, a number less its rank is the same throughout.
        found = sql.run(
            connection,
            "SELECT min(sequence), max(sequence) FROM ("
            "SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS run "
            "FROM records WHERE device=? AND epoch=?) AS runs GROUP BY run ORDER BY 1",
            (self._ids[device], self._ids[epoch]),
        )
        return [(int(first), int(last)) for first, last in found]

    def write(self, connection: Connection, batches: Iterable[Writing], now_ns: int) -> None:
        """Write new records and their places; names must have been interned."""
        ids = self._ids
        next_id = 1 + int(sql.run(connection, "SELECT coalesce(max(id), 0) FROM windows").scalar_one())
        places: list[sql.Row] = []
        made: list[sql.Row] = []
        counted: list[sql.Row] = []
        logged: list[sql.Row] = []
        odd: list[sql.Row] = []
        for batch in batches:
            at_device, at_epoch = ids[batch.device], ids[batch.epoch]
            for one in batch.records:
                places.append((at_device, at_epoch, one.sequence, content_hash(one.data)))
                if one.window is not None:
                    window, where = one.window, (ids[one.pipeline], at_device)
                    number = next_id + len(made)
                    made.append(
                        (number, *where, window.start_s, window.width_s, ids[window.pipeline], window.inferences)
                    )
                    counted += [
                        (*where, ids[field.key], window.start_s, number, ids[field.grid_id], field.summary)
                        for field in window.fields
                    ]
                elif one.rows is not None:
                    logged.append(self._logged(one, one.rows, at_device))
                elif one.undated:
                    odd.append((at_device, one.undated, one.kind, now_ns, pack(one.data)))
                elif one.event is not None:
                    self.write_event(connection, batch.device, one.event, now_ns)
        # In the order of their key neighbours share a page.
        counted.sort(key=_place)
        for table, rows_of in ((records, places), (windows, made), (summaries, counted)):
            sql.insert_many(connection, table, table.columns.keys(), rows_of)
        for table, rows_of in ((rows, logged), (undated, odd)):
            sql.insert_many(connection, table, table.columns.keys()[1:], rows_of)

    def _logged(self, one: Incoming, came: RowsRecord, at_device: int) -> sql.Row:
        return (
            self._ids[one.pipeline],
            at_device,
            came.start_s,
            self._ids[came.pipeline],
            came.complete,
            len(came.times_ns),
            min(came.times_ns, default=None),
            pack(encode_rows(came) if one.moved else one.data),
        )

    def write_event(self, connection: Connection, device: str, event: Mapping[str, Any], now_ns: int) -> None:
        """Write something that happened to a device; the device's name must have been interned."""
        row = (self._ids[device], event["at_ns"], now_ns, event["type"], json.dumps(dict(event)))
        sql.insert_many(connection, events, events.columns.keys()[1:], [row])

    def write_complete(
        self, connection: Connection, told: Mapping[tuple[str, str, str], tuple[int, int | None]]
    ) -> None:
        """Write up to where (device, pipeline, version) is complete, and from where on (None: from the beginning).

        What was told stays told. Names must have been interned.
        """
        ids = self._ids
        places = {
            (ids[pipeline], ids[device], ids[version]): said for (device, pipeline, version), said in told.items()
        }
        if not places:
            return
        found = sql.run(
            connection,
            "SELECT c.pipeline, c.device, c.version, c.until_ns, c.since_ns, c.ahead_ns "  # noqa: S608  whole numbers
            f"FROM {sql.asked(list(places))} a CROSS JOIN complete c "
            "WHERE c.pipeline = a.column1 AND c.device = a.column2 AND c.version = a.column3",
        )
        known = {(row[0], row[1], row[2]): Told(*row[3:]) for row in found}
        changed: list[sql.Row] = []
        for place, (until_ns, from_ns) in places.items():
            before = known.get(place)
            after = (before or Told(0)).after(until_ns, from_ns)
            if after != before:
                changed.append((*place, after.until_ns, after.since_ns, after.ahead_ns))
        key, facts = complete.columns.keys()[:3], complete.columns.keys()[3:]
        sql.put_many(connection, complete, key, facts, changed)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def windows(self, pipeline: str, device: str, field: str, start_s: int, end_s: int) -> list[StoredWindow]:
        """Return a field's summaries of the base windows that start in [start_s, end_s), in time order.

        Over all versions of the pipeline; several records of one window come as several entries.
        """
        found = self._all(
            "SELECT w.version, w.start_s, w.width_s, w.inferences, s.grid, s.data FROM summaries s "
            'JOIN windows w ON w.id = s."window" WHERE s.pipeline=? AND s.device=? AND s.field=? '
            'AND s.start_s >= ? AND s.start_s < ? ORDER BY s.start_s, s."window"',
            (self._known(pipeline), self._known(device), self._known(field), start_s, end_s),
        )
        return [
            StoredWindow(self._name(version), start, width, inferences, self._name(grid), bytes(data))
            for version, start, width, inferences, grid, data in found
        ]

    def inferences(self, pipeline: str, device: str, start_s: int, end_s: int) -> int:
        """Return how many inferences the base windows that start in [start_s, end_s) hold."""
        ((total,),) = self._all(
            "SELECT coalesce(sum(inferences), 0) FROM windows "
            "WHERE pipeline=? AND device=? AND start_s >= ? AND start_s < ?",
            (self._known(pipeline), self._known(device), start_s, end_s),
        )
        return int(total)

    def inferences_from(self, pipeline: str, device: str, start_s: int) -> Iterator[tuple[int, int]]:
        """Yield (start_s, inferences) of the base windows that hold any, from a time on, in time order."""
        with self.database.reading() as connection:
            found = sql.stream(
                connection,
                "SELECT start_s, sum(inferences) FROM windows WHERE pipeline=? AND device=? AND start_s >= ? "
                "AND inferences > 0 GROUP BY start_s ORDER BY start_s",
                (self._known(pipeline), self._known(device), start_s),
            )
            yield from ((int(start), int(inferences)) for start, inferences in found)

    def rows(self, pipeline: str, device: str, field: str, start_ns: int, end_ns: int) -> RowValues:
        """Return a field's values of the rows in [start_ns, end_ns), over all versions of the pipeline."""
        first_s = start_ns // NS_PER_S // BASE_WINDOW_S * BASE_WINDOW_S
        span = (self._known(pipeline), self._known(device), first_s, -(-end_ns // NS_PER_S))
        where = "WHERE pipeline=? AND device=? AND start_s >= ? AND start_s < ?"
        expected = self._all(
            f"SELECT start_s, sum(inferences) FROM windows {where} GROUP BY start_s ORDER BY start_s",  # noqa: S608  constant text
            span,
        )
        found = self._all(f"SELECT start_s, payload FROM rows {where} ORDER BY start_s, id", span)  # noqa: S608  constant text
        have: dict[int, int] = {}
        times: list[NDArray[np.int64]] = []
        values: list[NDArray[np.float64]] = []
        for start_s, payload in found:
            columns = Columns(payload)
            numbers = columns.numbers(field)
            if numbers is not None:
                have[start_s] = have.get(start_s, 0) + columns.rows
                times.append(columns.times_ns)
                values.append(numbers)
        lacking = [start_s for start_s, inferences in expected if have.get(start_s, 0) < inferences]
        all_times = np.concatenate(times) if times else np.empty(0, np.int64)
        all_values = np.concatenate(values) if values else np.empty(0, np.float64)
        order = np.argsort(all_times, kind="stable")
        inside = order[(all_times[order] >= start_ns) & (all_times[order] < end_ns)]
        inside_values = all_values[inside] if values or not found else None
        return RowValues(all_times[inside], inside_values, np.array(lacking, np.int64))

    def complete_until_ns(self, pipeline: str, device: str) -> int | None:
        """Return up to where the device has told everything about the pipeline; None before it told anything."""
        return self.heard(pipeline, device).until_ns or None

    def heard(self, pipeline: str, device: str) -> Heard:
        """Return what the device has told about the pipeline, over all its versions."""
        found = self._all(
            "SELECT until_ns, since_ns, ahead_ns FROM complete WHERE pipeline=? AND device=?",
            (self._known(pipeline), self._known(device)),
        )
        until_ns = max((until for until, _, _ in found), default=0)
        # A device runs one version of a pipeline at a time: what waits of any lies before the last of these.
        since_ns = max((since for _, since, _ in found if since is not None), default=until_ns)
        ahead_ns = max((ahead for _, _, ahead in found if ahead is not None), default=until_ns)
        if since_ns <= until_ns:
            return Heard(max(until_ns, ahead_ns))
        return Heard(until_ns, since_ns, max(since_ns, ahead_ns))

    def first_inference_ns(self, pipeline: str, device: str | None = None) -> int | None:
        """Return when the first inference was made, by any device where none is named.

        To the nanosecond where its window travelled as rows, else the start of its base window.
        """
        where, span = "pipeline=?", [self._known(pipeline)]
        if device is not None:
            where, span = "pipeline=? AND device=?", [*span, self._known(device)]
        ((first_s,),) = self._all(f"SELECT min(start_s) FROM windows WHERE {where} AND inferences > 0", span)  # noqa: S608  constant text
        ((first_ns,),) = self._all(f"SELECT min(first_ns) FROM rows WHERE {where} AND count > 0", span)  # noqa: S608  constant text
        if first_s is None or (first_ns is not None and first_ns < (first_s + BASE_WINDOW_S) * NS_PER_S):
            return first_ns
        return int(first_s) * NS_PER_S

    def devices(self, pipeline: str) -> list[str]:
        """Return the names of the devices that run the pipeline or ever sent anything of it, sorted.

        Devices that were removed from the fleet are left out.
        """
        with self.database.reading() as connection:
            sent = sql.run(
                connection,
                "SELECT DISTINCT device FROM complete WHERE pipeline=? "
                "UNION SELECT DISTINCT device FROM windows WHERE pipeline=?",
                (self._known(pipeline),) * 2,
            ).scalars()
            wanted = sql.run(
                connection,
                "SELECT d.name FROM assignments a JOIN devices d ON d.id = a.device WHERE a.pipeline=?",
                (pipeline,),
            ).scalars()
            removed = sql.run(connection, "SELECT name FROM devices WHERE removed_ns IS NOT NULL").scalars()
            return sorted({*(self._name(number) for number in sent), *wanted} - set(removed))

    def first_rows(self, pipeline: str, inferences_max: int) -> list[Columns]:
        """Return the oldest rows records, over all devices, until they hold so many inferences."""
        records: list[Columns] = []
        inferences = 0
        # Payloads are read one by one, so that a long log costs no more than its beginning.
        with self.database.reading() as connection:
            found = sql.stream(
                connection,
                "SELECT count, payload FROM rows WHERE pipeline=? AND count > 0 ORDER BY start_s, id",
                (self._known(pipeline),),
            )
            for count, payload in found:
                records.append(Columns(payload))
                inferences += count
                if inferences >= inferences_max:
                    break
        return records

    def rows_count(self, pipeline: str, device: str | None = None, version: str | None = None) -> int:
        """Return how many inferences of a pipeline came as rows."""
        where, values = "pipeline=?", [self._known(pipeline)]
        for column, text in (("device", device), ("version", version)):
            if text is not None:
                where += f" AND {column}=?"
                values.append(self._known(text))
        ((count,),) = self._all(f"SELECT coalesce(sum(count), 0) FROM rows WHERE {where}", values)  # noqa: S608  constant text
        return int(count)

    def log(self, pipeline: str, device: str | None, start_ns: int, end_ns: int) -> Iterator[LogRecord]:
        """Yield the rows records that touch [start_ns, end_ns), newest base window first."""
        where, values = (
            "pipeline=? AND start_s > ? AND start_s < ?",
            [
                self._known(pipeline),
                start_ns // NS_PER_S - BASE_WINDOW_S,
                -(-end_ns // NS_PER_S),
            ],
        )
        if device is not None:
            where += " AND device=?"
            values.append(self._known(device))
        with self.database.reading() as connection:
            found = sql.stream(
                connection,
                f"SELECT device, version, payload FROM rows WHERE {where} ORDER BY start_s DESC, id DESC",  # noqa: S608  constant text
                tuple(values),
            )
            for number, version, payload in found:
                yield LogRecord(self._name(number), self._name(version), Columns(payload))

    def has_rows(self, pipeline: str, device: str, start_ns: int, end_ns: int) -> bool:
        """Say whether there are rows of base windows that touch [start_ns, end_ns)."""
        span = (
            self._known(pipeline),
            self._known(device),
            start_ns // NS_PER_S - BASE_WINDOW_S,
            -(-end_ns // NS_PER_S),
        )
        where = "WHERE pipeline=? AND device=? AND start_s > ? AND start_s < ? AND count > 0"
        return bool(self._all(f"SELECT 1 FROM rows {where} LIMIT 1", span))  # noqa: S608  constant text

    def logged(self, pipeline: str, device: str, start_ns: int, end_ns: int) -> tuple[list[int], dict[str, set[str]]]:
        """Return when the base windows with rows in [start_ns, end_ns) start, and the kinds of each of their columns.

        The payloads are read one by one, and of each no more than its head.
        """
        starts: set[int] = set()
        kinds: dict[str, set[str]] = {}
        span = (
            self._known(pipeline),
            self._known(device),
            start_ns // NS_PER_S - BASE_WINDOW_S,
            -(-end_ns // NS_PER_S),
        )
        with self.database.reading() as connection:
            found = sql.stream(
                connection,
                "SELECT start_s, payload FROM rows WHERE pipeline=? AND device=? AND start_s > ? AND start_s < ? "
                "AND count > 0",
                span,
            )
            for start_s, payload in found:
                starts.add(int(start_s))
                for key, kind in kinds_of(payload).items():
                    kinds.setdefault(key, set()).add(kind)
        return sorted(starts), kinds

    def logged_at(self, pipeline: str, device: str, start_s: int) -> list[LogRecord]:
        """Return the rows records of one base window, in the order in which they came."""
        found = self._all(
            "SELECT version, payload FROM rows WHERE pipeline=? AND device=? AND start_s=? AND count > 0 ORDER BY id",
            (self._known(pipeline), self._known(device), start_s),
        )
        return [LogRecord(device, self._name(version), Columns(payload)) for version, payload in found]

    def undated(self, connection: Connection) -> dict[str, dict[str, int]]:
        """Return how many records of unknown time each device sent, by the reason, by device."""
        found = sql.run(connection, "SELECT device, why, count(*) FROM undated GROUP BY device, why")
        counts: dict[str, dict[str, int]] = {}
        for number, why, count in found:
            counts.setdefault(self._name(number), {})[str(why)] = int(count)
        return counts

    def events(self, device: str, kind: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return what happened to a device, newest first."""
        with self.database.reading() as connection:
            return self.events_of(connection, device, kind, limit)

    def events_of(
        self, connection: Connection, device: str, kind: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return the same, as this connection sees it."""
        where, values = "device=?", [self._known(device)]
        if kind is not None:
            where, values = "device=? AND type=?", [*values, kind]
        statement = f"SELECT document FROM events WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608  constant text
        return [json.loads(document) for (document,) in sql.run(connection, statement, [*values, limit])]

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _known(self, text: str) -> int:
        """Return a name's number; 0, which no row has, for a name that was never used."""
        if text not in self._ids:
            found = self._all("SELECT id FROM names WHERE text=?", (text,))
            if not found:
                return 0
            self._names[int(found[0][0])] = text
            self._ids[text] = int(found[0][0])
        return self._ids[text]

    def _name(self, number: int) -> str:
        if number not in self._names:
            ((text,),) = self._all("SELECT text FROM names WHERE id=?", (number,))
            self._names[number] = text
        return self._names[number]

    def _all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self.database.reading() as connection:
            return list(sql.run(connection, statement, values))


def _place(row: sql.Row) -> tuple[Any, ...]:
    return tuple(row[:5])
