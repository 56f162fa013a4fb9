"""Taking in what devices recorded: one signed request up, one reply with what they should run down.

What becomes of each record is decided in `driftline.hub.intake`. The whole batch is committed in one transaction
together with its records' places, and with those batches that wait at the same time (`Together`), and acknowledged only
then: a batch that comes twice, because the reply to it was lost, changes nothing. Windows and rows are put where they
belong in time, by what their device says of its clock (`moved_s`); what nobody knows the time of is kept as it is, with
the reason, and is never scored.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from driftline.clock import NS_PER_S, iso
from driftline.errors import DriftlineError, TemporaryError
from driftline.hub import fleet, grids, identity, intake
from driftline.hub.check import AHEAD_MAX_S, TIME_MIN_S, Checker, check_all, counts_of, is_whole
from driftline.hub.core import Hub
from driftline.hub.http import BYTES, JSON, Call, Routes
from driftline.hub.intake import Decision
from driftline.hub.policy import DEVICE
from driftline.hub.store import sql
from driftline.hub.store.fleet import devices
from driftline.hub.store.telemetry import Incoming, Place, Telemetry, Writing
from driftline.summary.grid import Grid
from driftline.wire import api, device

routes = Routes()

SEQUENCE_MAX = 2**63 - 1
EPOCH_CHARACTERS_MAX = 64
TOLD_MAX = 1000
# A device that was away for days sends more than this at once: nobody else waits until it is read.
LARGE_BYTES = 64 * 1024


@routes.post(
    device.SYNC_PATH.removeprefix(api.PREFIX),
    policy=DEVICE,
    takes=BYTES,
    media=JSON,
    raises=(TemporaryError,),
    bytes_max=device.BATCH_BYTES_MAX,
)
async def sync(call: Call[None]) -> Response:
    """Take a batch and answer with what was committed and what the device should run.

    Raises:
        NotAllowedError: not signed by a device of this hub.
        StaleRequestError: a request that was sent before, or one after it was.
        WireError: not a batch, torn, or larger than a batch may be.
    """
    if len(call.raw) <= LARGE_BYTES:
        return await call.hub.batches.answer(call)
    (answer,) = await run_in_threadpool(answers, [call])
    if isinstance(answer, DriftlineError):
        raise answer
    return answer


@dataclass(frozen=True, slots=True)
class Came:
    """A request that its device signed, read and not yet checked; `row` is the device."""

    row: Row[Any]
    number: int
    head: device.BatchHead
    records: Sequence[device.Record]
    checker: Checker


@dataclass(frozen=True, slots=True)
class Batch:
    """One checked batch: whose it is, its request's number, and what it brings.

    `complete` says from where on, and up to where, each (pipeline, version) is complete by the device's account.
    """

    row: Row[Any]
    number: int
    head: device.BatchHead
    checked: Sequence[tuple[Incoming, str]]
    complete: Mapping[tuple[str, str], tuple[int, int | None]]
    unknown: Sequence[Grid]
    interval_s: float
    now_ns: int


def answers(calls: Sequence[Call[None]]) -> list[Response | DriftlineError]:
    """Take the batches of requests that wait at the same time, and return a reply to each, or why it is refused."""
    hub = calls[0].hub
    answered: dict[int, Response | DriftlineError] = {}
    batches: dict[int, Batch] = {}
    for at, one in enumerate(_checked(hub, calls)):
        if isinstance(one, Batch):
            batches[at] = one
        else:
            answered[at] = one
    hub.telemetry.intern({name for one in batches.values() for name in _names(one)})
    while batches:
        # Of two batches of one device the second is to see what became of the first.
        turn = list({one.row.id: at for at, one in reversed(batches.items())}.values())
        together = [batches.pop(at) for at in turn]
        decisions = _committed(hub, together)
        _count(hub, [one for one in decisions if not isinstance(one, DriftlineError)])
        for at, batch, decision in zip(turn, together, decisions, strict=True):
            answered[at] = decision if isinstance(decision, DriftlineError) else _replied(hub, batch, decision)
    return [answered[at] for at in range(len(calls))]


def _checked(hub: Hub, calls: Sequence[Call[None]]) -> list[Batch | DriftlineError]:
    now_ns = hub.now_ns()
    if now_ns < TIME_MIN_S * NS_PER_S:
        wrong = f"this hub's clock shows {iso(now_ns)}; set it, and devices send what they keep"
        return [TemporaryError(wrong)] * len(calls)
    with ExitStack() as reading:
        # As a rule nothing but the devices' keys is read.
        connect = cache(lambda: reading.enter_context(hub.database.reading()))
        named = identity.named(connect(), calls)
        came = [_came(call, named, connect, now_ns) for call in calls]
        read = [one for one in came if isinstance(one, Came)]
        checked = iter(check_all([(one.checker, one.records) for one in read], hub.grids))
        return [_batch(hub, one, next(checked), now_ns) if isinstance(one, Came) else one for one in came]


def _came(
    call: Call[None], named: identity.Named, connect: Callable[[], Connection], now_ns: int
) -> Came | DriftlineError:
    hub = call.hub
    try:
        row, number = identity.believed(call, named)
        head, records = _decoded(call.raw)
        _check_head(row, head, records)
    except DriftlineError as error:
        return error
    # In fast time the hub's clock is nobody's measure; who shares it is right, and who does not cannot be helped.
    granted, moves = fleet.granted(hub, connect, row.id), fleet.speed(hub.clock) == 1
    checker = Checker(connect, granted, now_ns, moves=moves, brought=head.grids, known=hub.grids)
    return Came(row, number, head, records, checker)


def _batch(hub: Hub, came: Came, checked: Sequence[tuple[Incoming, str]], now_ns: int) -> Batch:
    complete, unknown = came.checker.complete(came.head), list(came.checker.unknown.values())
    interval_s = fleet.sync_interval_s(hub, came.row)
    return Batch(came.row, came.number, came.head, checked, complete, unknown, interval_s, now_ns)


def _committed(hub: Hub, batches: Sequence[Batch]) -> list[Decision[Incoming] | DriftlineError]:
    began_s = time.perf_counter()
    with hub.database.writing() as connection:
        decisions = commit(hub.telemetry, connection, batches)
    hub.figures.committed(len(batches), time.perf_counter() - began_s)
    hub.wake.set()
    return decisions


def _replied(hub: Hub, batch: Batch, decision: Decision[Incoming]) -> Response:
    for pipeline in sorted({one.pipeline for one in decision.new if one.rows is not None}):
        grids.learn(hub, pipeline)
    desired, revision = fleet.desired_state(hub, batch.row)
    reply = device.Reply(
        epoch=batch.head.epoch,
        acknowledged=decision.acknowledged,
        now_ns=hub.now_ns(),
        sync_interval_s=batch.interval_s,
        revision=revision,
        desired=None if batch.head.revision == revision else desired,
        refused={str(sequence): reason for sequence, reason in sorted(decision.refused.items())},
        conflicts=decision.conflicts,
        held=decision.held,
        synced=decision.synced,
    )
    return Response(device.encode_reply(reply), media_type=JSON)


def _count(hub: Hub, decisions: Sequence[Decision[Incoming]]) -> None:
    figures, new = hub.figures, [one for decision in decisions for one in decision.new]
    figures.batches.inc(len(decisions))
    windows = [one.window for one in new if one.window is not None]
    rows = sum(one.rows is not None for one in new)
    for kind, count in (("window", len(windows)), ("rows", rows), ("other", len(new) - len(windows) - rows)):
        figures.records.labels(kind).inc(count)
    figures.summaries.inc(sum(len(window.fields) for window in windows))
    figures.again.inc(sum(len(one.again) for one in decisions))
    figures.conflicts.inc(sum(len(one.conflicts) for one in decisions))
    figures.refused.inc(sum(len(one.refused) for one in decisions))


_DEVICES = select(devices).where(devices.c.id.in_(bindparam("ids", expanding=True))).order_by(devices.c.id)


def commit(
    telemetry: Telemetry, connection: Connection, batches: Sequence[Batch]
) -> list[Decision[Incoming] | DriftlineError]:
    """Write batches, each of another device, and say what was decided of each, or why it is refused.

    Everything is decided before anything is written.
    """
    rows = {row.id: row for row in connection.execute(_DEVICES, {"ids": [one.row.id for one in batches]})}
    known = telemetry.seen(connection, [_place(one) for one in batches])
    answers: list[Decision[Incoming] | DriftlineError] = []
    taken: list[tuple[Batch, Row[Any], Decision[Incoming]]] = []
    for batch, seen in zip(batches, known, strict=True):
        row = rows[batch.row.id]
        try:
            identity.check_number(row, batch.number)
        except DriftlineError as error:
            answers.append(error)
            continue
        synced, head = row.synced_request, batch.head
        ranges = telemetry.ranges(connection, row.name, head.epoch) if intake.is_older(head, synced) else ()
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
    writings = [Writing(batch.row.name, batch.head.epoch, decision.new) for batch, _, decision in taken]
    telemetry.write(connection, writings, now_ns)
    told = {
        (batch.row.name, *place): said
        for batch, _, decision in taken
        if decision.is_believed
        for place, said in batch.complete.items()
    }
    telemetry.write_complete(connection, told)
    sql.update_many(connection, devices, "id", {one[0].row.id: _facts(*one) for one in taken})
    for batch, row, decision in taken:
        for event in _events(telemetry, connection, row, batch.head, decision, batch.now_ns):
            telemetry.write_event(connection, row.name, event, batch.now_ns)


def _facts(batch: Batch, row: Row[Any], decision: Decision[Incoming]) -> dict[str, Any]:
    """Return what is known of a device after a batch; of each device the same columns."""
    stays = {name: getattr(row, name) for name in ("complete_until_ns", "clock", "conflict_ns", "dropped_ns")}
    said = {"last_request": batch.number, "heard_ns": batch.now_ns, "interval_s": batch.interval_s}
    facts = _told(row, batch.head, batch.now_ns) if decision.is_believed else {}
    facts |= _counted(row, decision, batch.now_ns) | _epochs(row, batch.head, decision, batch.now_ns)
    return stays | said | _said(batch.head) | facts | {"synced_request": decision.synced}


def _place(batch: Batch) -> Place:
    sequences = [one.sequence for one, _ in batch.checked]
    return Place(batch.row.name, batch.head.epoch, min(sequences, default=1), max(sequences, default=0))


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
    if not (is_whole(head.previous) and 0 <= head.previous <= SEQUENCE_MAX):
        raise device.WireError("`previous` is the number of a request")
    if head.device not in {row.id, row.name}:
        raise device.WireError(f"{row.name!r} signed a batch of {head.device!r}; a device sends its own")
    for epoch in (head.epoch, head.newest_epoch or head.epoch):
        if not isinstance(epoch, str) or not 0 < len(epoch) <= EPOCH_CHARACTERS_MAX or not epoch.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]  it is JSON from outside
            raise device.WireError("a batch names its spool's epoch")
    sequences = [one.sequence for one in records]
    if sequences != sorted(set(sequences)) or any(not 0 < one <= SEQUENCE_MAX for one in sequences):
        raise device.WireError("the records of a batch are numbered from 1 on, and the numbers grow")


def _names(batch: Batch) -> Iterator[str]:
    """Return what the rows of a batch will refer to; the windows of a device name the same fields, as a rule."""
    yield from (batch.row.name, batch.head.epoch)
    named: Sequence[tuple[str, str]] = ()
    for one, _ in batch.checked:
        window, rows = one.window, one.rows
        if window is not None:
            yield from (one.pipeline, window.pipeline)
            fields = [(field.key, field.grid_id) for field in window.fields]
            if fields != named:
                named = fields
                yield from chain.from_iterable(fields)
        if rows is not None:
            yield from (one.pipeline, rows.pipeline)
    yield from chain.from_iterable(batch.complete)


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
    known = {name: one for name, one in known.items() if is_whole(one) and abs(one) < 2**63}
    return {"clock": known} if len(known) == 2 else {}


def _told(row: Row[Any], head: device.BatchHead, now_ns: int) -> dict[str, Any]:
    """Return up to where the device is complete by its own account, by pipeline version."""
    latest_ns = now_ns + AHEAD_MAX_S * NS_PER_S
    # What it is complete in from some time on only, it is complete in up to where it was before.
    said = {**head.complete_until_ns, **{one: row.complete_until_ns.get(one) for one in head.complete_from_ns}}
    until_ns = {
        version: until
        for version, until in list(said.items())[:TOLD_MAX]
        if is_whole(until) and 0 <= until <= latest_ns
    }
    return {"complete_until_ns": until_ns}


def _counted(row: Row[Any], decision: Decision[Incoming], now_ns: int) -> dict[str, Any]:
    """Return how many records were dropped or refused so far, with those of this batch."""
    dropped = dict(row.dropped)
    windows = dropped.get("window", 0)
    for one in decision.new:
        if one.event is not None and one.event["type"] == "dropped":
            for kind, count in counts_of(one.event).items():
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
