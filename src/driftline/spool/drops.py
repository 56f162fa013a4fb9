"""What goes first when there is no room, and how it is said: `dropped` events.

    {"type": "dropped", "at_ns", "where": "spool" | "hub", "counts": {kind: records},
     "windows": {pipeline: {"count", "inferences", "first_s", "last_s"}}}

`where` is "hub" for what was acknowledged and given up here, and a restored hub no longer has. An event that says what
was dropped may have to go itself; what it said is then said by the next one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from driftline.spool.ledger import Drop, DropKey
from driftline.wire.device import Record, RecordKind, WireError, decode_event, encode_event, window_head

KINDS: tuple[RecordKind, ...] = ("rows", "window", "event")  # in the order in which they are dropped
# Two months of five fields a minute (0.7 MB a day on the wire, some 5 MB here), or one day of rows.
BYTES_MAX = 256 * 1024 * 1024
# A month of five fields a minute: what a hub that was restored from a backup may lack.
HISTORY_BYTES_MAX = 16 * 1024 * 1024
HISTORY_SHARE = 0.25
# Room is made for more than one record at a time: each drop costs a commit.
ROOM_SHARE = 0.05
# History is given up in bulk: page by page, a record each, would double what is written to the flash.
HISTORY_STEP_SHARE = 0.125


def history_max(bytes_max: int) -> int:
    """Return how many bytes of history are kept beside what waits."""
    return min(HISTORY_BYTES_MAX, int(bytes_max * HISTORY_SHARE))


def oldest(sizes: Iterable[tuple[int, int]], excess: int) -> Iterator[tuple[int, int]]:
    """Return the sequence and size of as many records from the front as free `excess` bytes."""
    for sequence, size in sizes:
        if excess <= 0:
            return
        yield sequence, size
        excess -= size


def described(records: Iterable[Record]) -> dict[DropKey, Drop]:
    """Return what is to be said of records that are dropped."""
    found: dict[DropKey, Drop] = {}
    for record in records:
        for key, drop in _described(record).items():
            found[key] = found.get(key, Drop()).plus(drop)
    return found


def events(dropped: Mapping[DropKey, Drop], at_ns: int) -> list[bytes]:
    """Return the events that say what was dropped, one a place."""
    return [
        encode_event("dropped", at_ns, where=where, **_facts({k: d for k, d in dropped.items() if k[0] == where}))
        for where in sorted({where for where, _, _ in dropped})
    ]


def _facts(dropped: Mapping[DropKey, Drop]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    windows: dict[str, dict[str, int | None]] = {}
    for (_, kind, pipeline), drop in sorted(dropped.items()):
        counts[kind] = counts.get(kind, 0) + drop.count
        if pipeline:
            windows[pipeline] = {
                "count": drop.count,
                "inferences": drop.inferences,
                "first_s": drop.first_s,
                "last_s": drop.last_s,
            }
    return {"counts": counts} | ({"windows": windows} if windows else {})


def _described(record: Record) -> dict[DropKey, Drop]:
    if record.kind == "window":
        return _window(record.data)
    told = _told(record.data) if record.kind == "event" else None
    return {("spool", record.kind, ""): Drop(1)} if told is None else told


def _window(data: bytes) -> dict[DropKey, Drop]:
    try:
        pipeline, start_s, _, inferences = window_head(data)
    except WireError:
        return {("spool", "window", ""): Drop(1)}
    return {("spool", "window", pipeline): Drop(1, inferences, start_s, start_s)}


def _told(data: bytes) -> dict[DropKey, Drop] | None:
    """Return what a `dropped` event says, None for another event."""
    try:
        event = decode_event(data)
        if event["type"] != "dropped":
            return None
        where, counts, windows = str(event["where"]), dict(event["counts"]), dict(event.get("windows", {}))
        found: dict[DropKey, Drop] = {(where, "window", str(name)): Drop(**facts) for name, facts in windows.items()}
        for kind, count in cast("dict[str, int]", counts).items():
            unnamed = count - (sum(one.count for one in found.values()) if kind == "window" else 0)
            if unnamed > 0:
                found[where, kind, ""] = Drop(unnamed)
    except (KeyError, TypeError, ValueError):
        return None
    return found
