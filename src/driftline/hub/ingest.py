"""Taking in what devices recorded: one signed request up, one reply with what they should run down.

What becomes of each record is decided in `driftline.hub.intake`. The whole batch is committed in one transaction
together with its records' places, and with those batches that wait at the same time (`Together`), and acknowledged only
then: a batch that comes twice, because the reply to it was lost, changes nothing. Windows and rows are put where they
belong in time, by what their device says of its clock (`moved_s`); what nobody knows the time of is kept as it is, with
the reason, and is never scored.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeGuard, cast

from sqlalchemy import Connection, Row, bindparam, select
from starlette.responses import Response

from driftline.clock import NS_PER_S, iso
from driftline.errors import DriftlineError, EntityNotFoundError, InvalidInputError, TemporaryError
from driftline.hub import drops, fleet, grids, identity, intake
from driftline.hub.core import Grants, Hub
from driftline.hub.http import BYTES, JSON, Call, Routes
from driftline.hub.intake import Decision
from driftline.hub.policy import DEVICE
from driftline.hub.store import sql
from driftline.hub.store.fleet import devices
from driftline.hub.store.telemetry import Incoming, Place, Telemetry, Writing
from driftline.summary.codec import decode
from driftline.summary.grid import Grid
from driftline.summary.summary import CATEGORY_GRID_ID, Summary
from driftline.summary.table import read_table
from driftline.wire import api, device

routes = Routes()

# Before this no driftline device existed: a clock that says so was never set.
TIME_MIN_S = 1_577_836_800  # 2020-01-01
# A device whose clock is set to local time, or whose battery is old, is still believed.
AHEAD_MAX_S = 24 * 3600
SEQUENCE_MAX = 2**63 - 1
INFERENCES_MAX = 2**48
FIELDS_MAX = 4096
KEY_CHARACTERS_MAX = 400
EVENT_BYTES_MAX = 64 * 1024
# Of fewer summaries each is checked alone, which then is faster.
TOGETHER_MIN = 12
EPOCH_CHARACTERS_MAX = 64
TOLD_MAX = 1000


class RefusedError(InvalidInputError):
    """A record that can never be taken; the message is the reason its device gets to read."""


@routes.post(
    device.SYNC_PATH.removeprefix(api.PREFIX),
    policy=DEVICE,
    takes=BYTES,
    media=JSON,
    raises=(TemporaryError,),
    bytes_max=device.BATCH_BYTES_MAX,
)
def sync(call: Call[None]) -> Response:
    """Take a batch and answer with what was committed and what the device should run.

    Raises:
        NotAllowedError: not signed by a device of this hub.
        StaleRequestError: a request that was sent before, or one after it was.
        WireError: not a batch, torn, or larger than a batch may be.
    """
    row, number = identity.authenticate(call)
    head, records = _decoded(call.raw)
    _check_head(row, head, records)
    reply = take(call.hub, row, number, head, records)
    return Response(device.encode_reply(reply), media_type=JSON)


@dataclass(frozen=True, slots=True)
class Batch:
    """One checked batch: whose it is, its request's number, and what it brings.

    `complete` says from where on, and up to where, each (pipeline, version) is complete by the device's account.
    """

    device_id: str
    name: str
    number: int
    head: device.BatchHead
    checked: Sequence[tuple[Incoming, str]]
    complete: Mapping[tuple[str, str], tuple[int, int | None]]
    unknown: Sequence[Grid]
    interval_s: float
    now_ns: int


def take(
    hub: Hub, row: Row[Any], number: int, head: device.BatchHead, records: Sequence[device.Record]
) -> device.Reply:
    """Commit a batch and work out the reply.

    Raises:
        TemporaryError: this hub's own clock was never set.
        StaleRequestError: a request that was sent before, or one after it was.
    """
    now_ns = hub.now_ns()
    if now_ns < TIME_MIN_S * NS_PER_S:
        raise TemporaryError(f"this hub's clock shows {iso(now_ns)}; set it, and devices send what they keep")
    with ExitStack() as reading:
        # As a rule everything is known already, and nothing is read.
        connect = cache(lambda: reading.enter_context(hub.database.reading()))
        # In fast time the hub's clock is nobody's measure; who shares it is right, and who does not cannot be helped.
        granted, moves = fleet.granted(hub, connect, row.id), fleet.speed(hub.clock) == 1
        checker = Checker(connect, granted, now_ns, moves=moves, brought=head.grids, known=hub.grids)
        checked = checker.check(records)
    interval_s = fleet.sync_interval_s(hub, row)
    complete = checker.complete(head)
    hub.telemetry.intern(_names(row.name, head.epoch, [one for one, _ in checked], complete))
    unknown = list(checker.unknown.values())
    batch = Batch(row.id, row.name, number, head, checked, complete, unknown, interval_s, now_ns)
    decision = hub.batches.commit(batch, row.id)
    _count(hub, decision)
    for pipeline in sorted({one.pipeline for one in decision.new if one.rows is not None}):
        grids.learn(hub, pipeline)
    hub.wake.set()
    desired, revision = fleet.desired_state(hub, row)
    return device.Reply(
        epoch=head.epoch,
        acknowledged=decision.acknowledged,
        now_ns=hub.now_ns(),
        sync_interval_s=interval_s,
        revision=revision,
        desired=None if head.revision == revision else desired,
        refused={str(sequence): reason for sequence, reason in sorted(decision.refused.items())},
        conflicts=decision.conflicts,
        held=decision.held,
        synced=decision.synced,
    )


def _count(hub: Hub, decision: Decision[Incoming]) -> None:
    figures, new = hub.figures, decision.new
    figures.batches.inc()
    windows = [one.window for one in new if one.window is not None]
    rows = sum(one.rows is not None for one in new)
    for kind, count in (("window", len(windows)), ("rows", rows), ("other", len(new) - len(windows) - rows)):
        figures.records.labels(kind).inc(count)
    figures.summaries.inc(sum(len(window.fields) for window in windows))
    figures.again.inc(len(decision.again))
    figures.conflicts.inc(len(decision.conflicts))
    figures.refused.inc(len(decision.refused))


_DEVICES = select(devices).where(devices.c.id.in_(bindparam("ids", expanding=True))).order_by(devices.c.id)


def commit(
    telemetry: Telemetry, connection: Connection, batches: Sequence[Batch]
) -> list[Decision[Incoming] | DriftlineError]:
    """Write batches, each of another device, and say what was decided of each, or why it is refused.

    Everything is decided before anything is written.
    """
    rows = {row.id: row for row in connection.execute(_DEVICES, {"ids": [one.device_id for one in batches]})}
    known = telemetry.seen(connection, [_place(one) for one in batches])
    answers: list[Decision[Incoming] | DriftlineError] = []
    taken: list[tuple[Batch, Row[Any], Decision[Incoming]]] = []
    for batch, seen in zip(batches, known, strict=True):
        row = rows[batch.device_id]
        try:
            identity.check_number(row, batch.number)
        except DriftlineError as error:
            answers.append(error)
            continue
        synced, head = row.synced_request, batch.head
        ranges = telemetry.ranges(connection, batch.name, head.epoch) if intake.is_older(head, synced) else ()
        decision = intake.decide(head, batch.number, batch.checked, seen, synced, ranges)
        answers.append(decision)
        taken.append((batch, row, decision))
    if taken:
        _write(telemetry, connection, taken)
    return answers


def _write(
    telemetry: Telemetry, connection: Connection, taken: Sequence[tuple[Batch, Row[Any], Decision[Incoming]]]
) -> None:
    now_ns = max(batch.now_ns for batch, _, _ in taken)
    grids.keep(connection, [grid for batch, _, _ in taken for grid in batch.unknown])
    writings = [Writing(batch.name, batch.head.epoch, decision.new) for batch, _, decision in taken]
    telemetry.write(connection, writings, now_ns)
    told = {
        (batch.name, *place): said
        for batch, _, decision in taken
        if decision.is_believed
        for place, said in batch.complete.items()
    }
    telemetry.write_complete(connection, told)
    sql.update_many(connection, devices, "id", {one[0].device_id: _facts(*one) for one in taken})
    for batch, row, decision in taken:
        for event in _events(telemetry, connection, row, batch.head, decision, batch.now_ns):
            telemetry.write_event(connection, batch.name, event, batch.now_ns)


def _facts(batch: Batch, row: Row[Any], decision: Decision[Incoming]) -> dict[str, Any]:
    """Return what is known of a device after a batch; of each device the same columns."""
    stays = {name: getattr(row, name) for name in ("complete_until_ns", "clock", "conflict_ns", "dropped_ns")}
    said = {"last_request": batch.number, "heard_ns": batch.now_ns, "interval_s": batch.interval_s}
    facts = _told(row, batch.head, batch.now_ns) if decision.is_believed else {}
    facts |= _counted(row, decision, batch.now_ns) | _epochs(row, batch.head, decision, batch.now_ns)
    return stays | said | _said(batch.head) | facts | {"synced_request": decision.synced}


def _place(batch: Batch) -> Place:
    sequences = [one.sequence for one, _ in batch.checked]
    return Place(batch.name, batch.head.epoch, min(sequences, default=1), max(sequences, default=0))


def _decoded(body: bytes) -> tuple[device.BatchHead, list[device.Record]]:
    try:
        return device.decode_batch(body)
    except (ArithmeticError, RecursionError) as error:
        raise device.WireError(f"a batch that cannot be read: {error}") from error


def _check_head(row: Row[Any], head: device.BatchHead, records: Sequence[device.Record]) -> None:
    maps: list[object] = [
        head.complete_until_ns,
        head.complete_from_ns,
        head.waiting,
        head.clock,
        head.pipelines,
        head.limits,
        head.sources,
        head.grids,
    ]
    if not all(isinstance(one, dict) for one in maps) or not isinstance(head.epoch, str):  # pyright: ignore[reportUnnecessaryIsInstance]  it is JSON from outside
        raise device.WireError("the head of a batch has a text for its epoch and objects for what it tells by name")
    if not (_is_whole(head.previous) and 0 <= head.previous <= SEQUENCE_MAX):
        raise device.WireError("`previous` is the number of a request")
    if head.device not in {row.id, row.name}:
        raise device.WireError(f"{row.name!r} signed a batch of {head.device!r}; a device sends its own")
    for epoch in (head.epoch, head.newest_epoch or head.epoch):
        if not isinstance(epoch, str) or not 0 < len(epoch) <= EPOCH_CHARACTERS_MAX or not epoch.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]  it is JSON from outside
            raise device.WireError("a batch names its spool's epoch")
    sequences = [one.sequence for one in records]
    if sequences != sorted(set(sequences)) or any(not 0 < one <= SEQUENCE_MAX for one in sequences):
        raise device.WireError("the records of a batch are numbered from 1 on, and the numbers grow")


def _names(name: str, epoch: str, records: Sequence[Incoming], complete: Mapping[tuple[str, str], Any]) -> set[str]:
    return {
        name,
        epoch,
        *(text for one in records for text in one.names()),
        *(text for pair in complete for text in pair),
    }


# ── what is kept of the device itself ────────────────────────────────────────────────────────────────────────────


def _said(head: device.BatchHead) -> dict[str, Any]:
    """Return what a device says of itself, as far as it can be stored and shown."""
    return {
        "backlog": _whole(head.backlog),
        "waiting": {_text(kind, 20): _whole(count) for kind, count in list(head.waiting.items())[:TOLD_MAX]},
        "software": _text(head.software, 200),
        "serving": None if head.serving is None else _text(head.serving, 200),
        "pipelines": _texts(head.pipelines),
        "limits": _texts(head.limits),
        "sources": _texts(head.sources),
    } | _clock(head.clock)


def _clock(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a device knows of its clock; before it knows, what it said before it was restarted stays."""
    known = {name: told[name] for name in ("offset_ns", "error_ns") if name in told}
    known = {name: one for name, one in known.items() if _is_whole(one) and abs(one) < 2**63}
    return {"clock": known} if len(known) == 2 else {}


def _told(row: Row[Any], head: device.BatchHead, now_ns: int) -> dict[str, Any]:
    """Return up to where the device is complete by its own account, by pipeline version."""
    latest_ns = now_ns + AHEAD_MAX_S * NS_PER_S
    # What it is complete in from some time on only, it is complete in up to where it was before.
    said = {**head.complete_until_ns, **{one: row.complete_until_ns.get(one) for one in head.complete_from_ns}}
    until_ns = {
        version: until
        for version, until in list(said.items())[:TOLD_MAX]
        if _is_whole(until) and 0 <= until <= latest_ns
    }
    return {"complete_until_ns": until_ns}


def _counted(row: Row[Any], decision: Decision[Incoming], now_ns: int) -> dict[str, Any]:
    """Return how many records were dropped or refused so far, with those of this batch."""
    dropped = dict(row.dropped)
    windows = dropped.get("window", 0)
    for one in decision.new:
        if one.event is not None and one.event["type"] == "dropped":
            for kind, count in _counts(one.event).items():
                dropped[kind] = dropped.get(kind, 0) + count
    if decision.refused:
        dropped["refused"] = dropped.get("refused", 0) + len(decision.refused)
    # Rows go first, and often: they are there while there is room. A window is what a device is for.
    lost = {"dropped_ns": now_ns} if dropped.get("window", 0) > windows else {}
    return {"dropped": dropped} | lost


def _epochs(row: Row[Any], head: device.BatchHead, decision: Decision[Incoming], now_ns: int) -> dict[str, Any]:
    """Return the device's epochs, and when two machines were last seen to use its identity."""
    epochs, came_back = intake.epochs_after(row.epochs, head.newest_epoch or head.epoch)
    return {"epochs": epochs} | ({"conflict_ns": now_ns} if came_back or decision.conflicts else {})


def _events(
    telemetry: Telemetry,
    connection: Connection,
    row: Row[Any],
    head: device.BatchHead,
    decision: Decision[Incoming],
    now_ns: int,
) -> Iterator[dict[str, Any]]:
    """Yield what is to be said of a batch in the device's history; `row` is the device before it."""
    for sequence, reason in decision.refused.items():
        yield {"type": "refused", "at_ns": now_ns, "sequence": sequence, "reason": reason}
    for why, count in Counter(one.undated for one in decision.new if one.undated).items():
        yield {"type": "undated", "at_ns": now_ns, "records": count, "why": why}
    if decision.conflicts:
        numbers = {"epoch": head.epoch, "first": decision.conflicts[0], "count": len(decision.conflicts)}
        yield {"type": "identity_conflict", "at_ns": now_ns, **numbers}
    if decision.held is not None:
        asked = {"type": "asked_again", "previous": head.previous, "synced": decision.synced}
        before = next(iter(telemetry.events_of(connection, row.name, "asked_again", 1)), {})
        # A reply that was lost is given again; that is no other event.
        if any(before.get(key) != value for key, value in asked.items()):
            yield asked | {"at_ns": now_ns}


# ── checking ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Checker:
    """Says of each record whether it can be what a device of this fleet recorded, and if not why.

    `moves`: whether records are put where they belong in time, as their device estimates it. `brought` are the edges of
    grids that the device still knows: those of them that this hub made and lost, and that are needed, are `unknown`.
    `known` are grids that this hub has, and learns which it has more. `connect` gives a connection to read from.
    `window_s` is the width of base windows.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        granted: Grants,
        now_ns: int,
        *,
        moves: bool = True,
        brought: Mapping[str, Any] | None = None,
        known: dict[str, Grid] | None = None,
        window_s: int = device.BASE_WINDOW_S,
    ) -> None:
        self.unknown: dict[str, Grid] = {}
        # A grid is never changed: those that were looked up once serve every batch.
        self._grids: dict[str, Grid] = {} if known is None else known
        self._brought = brought or {}
        self._connect = connect
        self._window_s = window_s
        self._moves = moves
        self._granted = granted
        self._now_ns = now_ns
        self._fields: dict[str, set[str] | None] = {}
        # By version, the keys that earlier windows of this batch had.
        self._checked: dict[str, set[str]] = {}

    def check(self, records: Sequence[device.Record]) -> list[tuple[Incoming, str]]:
        """Return each record ready to be stored with an empty reason, or an empty one with the reason against it."""
        windows = {one.sequence: found for one in records if (found := _decoded_window(one)) is not None}
        sound = self._sound(windows)
        return [self._check(one, windows.get(one.sequence), sound) for one in records]

    def _check(
        self, record: device.Record, window: device.WindowRecord | None, sound: frozenset[tuple[int, str]]
    ) -> tuple[Incoming, str]:
        try:
            if record.kind == "window":
                return self._window(record, window or device.decode_window(record.data), sound), ""
            return (self._rows(record) if record.kind == "rows" else self._event(record)), ""
        except DriftlineError as error:
            return Incoming(record.sequence, record.data), str(error)
        except (ArithmeticError, RecursionError) as error:
            # JSON can hold numbers beyond all bounds, and objects too deep to read.
            return Incoming(record.sequence, record.data), f"a record that cannot be read: {error}"

    def complete(self, head: device.BatchHead) -> dict[tuple[str, str], tuple[int, int | None]]:
        """Return from where on, and up to where, each (pipeline, version) is complete, as far as the device may say.

        None stands for the beginning.
        """
        latest_ns = self._now_ns + AHEAD_MAX_S * NS_PER_S
        return {
            (self._granted[version][0], version): (until, head.complete_from_ns.get(version))
            for version, until in head.complete_until_ns.items()
            if version in self._granted
            and all(_is_whole(one) and 0 <= one <= latest_ns for one in (until, head.complete_from_ns.get(version, 0)))
        }

    def _sound(self, windows: Mapping[int, device.WindowRecord]) -> frozenset[tuple[int, str]]:
        """Return which summaries, by sequence and key, are beyond doubt: all at once, for they are what takes time.

        Of the others nothing is said: they are checked one by one, which says what is wrong.
        """
        every = [
            (sequence, window.inferences, field)
            for sequence, window in windows.items()
            for field in window.fields
            if field.grid_id in self._grids
        ]
        if len(every) < TOGETHER_MIN:
            return frozenset()
        table, is_sound = read_table([one.summary for *_, one in every], [one.grid_id for *_, one in every])
        is_sound &= table.fit(self._grids)
        counts = zip(every, table.count.tolist(), is_sound.tolist(), strict=True)
        return frozenset((sequence, one.key) for (sequence, most, one), count, good in counts if good and count <= most)

    def _window(
        self, record: device.Record, window: device.WindowRecord, sound: frozenset[tuple[int, str]]
    ) -> Incoming:
        pipeline, definition = self._version(window.pipeline)
        moved_s = self._moved_s(record, window.start_s, window.width_s)
        if window.inferences > INFERENCES_MAX or len(window.fields) > FIELDS_MAX:
            raise RefusedError(f"{window.inferences} inferences and {len(window.fields)} fields cannot be one window's")
        keys = [field.key for field in window.fields]
        if len(set(keys)) != len(keys):
            raise RefusedError("a field comes twice in one window")
        checked = self._checked.setdefault(window.pipeline, set())
        for field in window.fields:
            if field.key not in checked:
                self._check_key(pipeline, window.pipeline, definition, field.key)
                checked.add(field.key)
            if (record.sequence, field.key) not in sound:
                self._check_summary(field, window.inferences)
        if why := self._undated(moved_s, window.start_s):
            return Incoming(record.sequence, record.data, kind="window", undated=why)
        if moved_s:
            window = replace(window, start_s=window.start_s + moved_s)
        return Incoming(record.sequence, record.data, pipeline, window=window, moved=bool(moved_s))

    def _rows(self, record: device.Record) -> Incoming:
        rows = device.decode_rows(record.data)
        pipeline, _ = self._version(rows.pipeline)
        moved_s = self._moved_s(record, rows.start_s, rows.width_s)
        start_ns, end_ns = rows.start_s * NS_PER_S, (rows.start_s + rows.width_s) * NS_PER_S
        if any(not start_ns <= time_ns < end_ns for time_ns in rows.times_ns):
            raise RefusedError("a row lies outside the window it travels in")
        if len(rows.columns) > FIELDS_MAX:
            raise RefusedError(f"{len(rows.columns)} columns; at most {FIELDS_MAX} are taken")
        for key in rows.columns:
            _check_spelling(key)
        if why := self._undated(moved_s, rows.start_s):
            return Incoming(record.sequence, record.data, kind="rows", undated=why)
        return Incoming(record.sequence, record.data, pipeline, rows=_moved(rows, moved_s or 0), moved=bool(moved_s))

    def _event(self, record: device.Record) -> Incoming:
        if len(record.data) > EVENT_BYTES_MAX:
            raise RefusedError(f"an event of {len(record.data)} bytes; at most {EVENT_BYTES_MAX} are taken")
        event = device.decode_event(record.data)
        at_ns = event["at_ns"] + (record.moved_s or 0) * NS_PER_S
        if not all(-(2**63) <= one < 2**63 for one in (event["at_ns"], at_ns)) or len(event["type"]) > 64:
            raise RefusedError("an event has a short type and a time in nanoseconds since 1970")
        if any(count < 0 for count in _counts(event).values()):
            raise RefusedError("an event that counts less than nothing")
        readable = json.dumps(event, ensure_ascii=False).encode(errors="replace")
        # What happened at an unknown time is told at the time it was heard of.
        known = {"at_ns": at_ns} if record.moved_s is not None else {"at_ns": self._now_ns, "by_its_clock_ns": at_ns}
        told = json.loads(readable)
        if self._moves:
            told |= known | drops.moved(told, record.moved_s)
        return Incoming(record.sequence, record.data, event=told)

    def _version(self, version: str) -> tuple[str, Mapping[str, Any]]:
        if version not in self._granted:
            raise RefusedError(f"pipeline version {version[:64]!r} was never given to this device")
        return self._granted[version]

    def _moved_s(self, record: device.Record, start_s: int, width_s: int) -> int | None:
        """Return by how much a record is to be moved; None where its device does not know its time."""
        moved_s = record.moved_s
        if width_s != self._window_s or start_s % width_s or (moved_s or 0) % width_s:
            raise RefusedError(
                f"a window of {width_s} s from {start_s} on, moved by {moved_s or 0} s; windows are "
                f"{self._window_s} s, aligned to the epoch"
            )
        return moved_s if self._moves else 0

    def _undated(self, moved_s: int | None, start_s: int) -> str:
        """Say why the time of a record is not known; '' where it is."""
        if moved_s is None:
            return "nobody knows when: it lost power before it reached the hub, and nothing vouches for its clock"
        if start_s + moved_s < TIME_MIN_S:
            return "from before 2020, when there were no such devices: its clock was never set"
        if start_s + moved_s > self._now_ns // NS_PER_S + AHEAD_MAX_S:
            return "from more than a day ahead of the hub's time: its clock, or the hub's, is wrong"
        return ""

    def _check_key(self, pipeline: str, version: str, definition: Mapping[str, Any], key: str) -> None:
        _check_spelling(key)
        if version not in self._fields:
            self._fields[version] = self._recorded(pipeline, definition)
        recorded = self._fields[version]
        if recorded is not None and key not in recorded:
            raise RefusedError(f"{key!r} is not recorded of this pipeline version")

    def _recorded(self, pipeline: str, definition: Mapping[str, Any]) -> set[str] | None:
        """Return the keys that may be recorded; None where nothing is declared and any may."""
        if not definition["steps"]:
            return None
        return {*(str(one["key"]) for one in definition["fields"]), *grids.extra_of(self._connect(), pipeline)}

    def _grid(self, grid_id: str) -> Grid:
        if grid_id in self.unknown:
            return self.unknown[grid_id]
        try:
            self._grids[grid_id] = grids.need_grid(self._connect(), grid_id)
            return self._grids[grid_id]
        except EntityNotFoundError:
            # A hub that was restored may have forgotten a grid; its id is a hash of its edges, so nobody can forge one.
            grid = _grid_of(self._brought.get(grid_id))
            if grid is None or grid.id != grid_id:
                raise
            self.unknown[grid_id] = grid
            return grid

    def _check_summary(self, field: device.FieldSummary, inferences: int) -> None:
        summary = decode(field.summary, field.grid_id)
        if summary.count > inferences:
            raise RefusedError(f"{field.key}: {summary.count} values of {inferences} inferences")
        if field.grid_id == CATEGORY_GRID_ID:
            return
        grid = self._grids.get(field.grid_id) or self._grid(field.grid_id)
        if isinstance(summary, Summary) and not summary.fits(grid):
            raise RefusedError(f"{field.key}: counts that no values on grid {grid.id} can have given")


def _decoded_window(record: device.Record) -> device.WindowRecord | None:
    """Return a window's record; None of other kinds, and where it cannot be read."""
    try:
        return device.decode_window(record.data) if record.kind == "window" else None
    except DriftlineError:
        return None


def _grid_of(edges: object) -> Grid | None:
    """Return the grid of these edges, None where they are none; it is JSON from outside."""
    try:
        return Grid(tuple(float(edge) for edge in cast("Sequence[Any]", edges)))
    except (ArithmeticError, TypeError, ValueError, InvalidInputError):
        return None


def _moved(rows: device.RowsRecord, moved_s: int) -> device.RowsRecord:
    if not moved_s:
        return rows
    times_ns = [time_ns + moved_s * NS_PER_S for time_ns in rows.times_ns]
    return replace(rows, start_s=rows.start_s + moved_s, times_ns=times_ns)


def _check_spelling(key: str) -> None:
    if not key.startswith(("in.", "out.")) or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise RefusedError(f"{key[:64]!r} names no field; keys begin with 'in.' or 'out.'")


def _counts(event: Mapping[str, Any]) -> dict[str, int]:
    """Return what an event counts: its whole numbers but for its time, or those of its `counts`."""
    told = event.get("counts")
    counts = cast("Mapping[str, Any]", told) if isinstance(told, dict) else event
    return {str(name): value for name, value in counts.items() if name != "at_ns" and _is_whole(value)}


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _texts(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what a device says of itself, as far as it is a few short texts."""
    return {_text(key, 200): _text(value, 1000) for key, value in list(told.items())[:TOLD_MAX]}


def _text(told: object, characters_max: int) -> str:
    """Return what a device told as text that can be stored and shown.

    The name of a camera's file may hold bytes that are no text; JSON carries them as halves of characters.
    """
    return str(told)[:characters_max].encode(errors="replace").decode()
