"""What goes first when there is no room, and how it is said: `dropped` events.

    {"type": "dropped", "at_ns", "where": "spool" | "hub", "counts": {kind: records},
     "windows": {pipeline: {"count", "inferences", "first_s", "last_s"}}}

Its record has the stamp of its windows, and `at_ns` is then the start of the last of them: the hub moves them
as it would have moved the windows. Of windows by more than one clock it tells no times. Without windows, or stamps,
`at_ns` is when it was made. `where` is "hub" for what was acknowledged and given up here, and a restored hub no longer
has. An event that says what was dropped may have to go itself; what it said is then said by the next one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from driftline.clock import NS_PER_S
from driftline.spool.ledger import SEVERAL, Drop, DropKey
from driftline.wire.device import Record, RecordKind, Stamp, WireError, decode_event, encode_event, window_head

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


def events(dropped: Mapping[DropKey, Drop], now_ns: int) -> list[tuple[bytes, Stamp | None]]:
    """Return the events that say what was dropped, one a place and clock, each with the stamp of its record."""
    groups: dict[tuple[str, Stamp | None], dict[DropKey, Drop]] = {}
    for key, drop in dropped.items():
        groups.setdefault((key[0], drop.stamp), {})[key] = drop
    return [
        (
            encode_event("dropped", _at_ns(group.values(), now_ns), where=where, **_facts(group)),
            None if stamp == SEVERAL else stamp,
        )
        for (where, stamp), group in sorted(groups.items(), key=lambda one: (one[0][0], str(one[0][1])))
    ]


def _at_ns(group: Iterable[Drop], now_ns: int) -> int:
    lasts = [one.last_s for one in group if one.stamp is not None and one.last_s is not None]
    return max(lasts) * NS_PER_S if lasts else now_ns


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
        return _window(record)
    told = _told(record) if record.kind == "event" else None
    return {("spool", record.kind, ""): Drop(1)} if told is None else told


def _window(record: Record) -> dict[DropKey, Drop]:
    try:
        pipeline, start_s, _, inferences = window_head(record.data)
    except WireError:
        return {("spool", "window", ""): Drop(1)}
    return {("spool", "window", pipeline): Drop(1, inferences, start_s, start_s, record.stamp)}


def _told(record: Record) -> dict[DropKey, Drop] | None:
    """Return what a `dropped` event says, None for another event."""
    try:
        event = decode_event(record.data)
        if event["type"] != "dropped":
            return None
        where, counts, windows = str(event["where"]), dict(event["counts"]), dict(event.get("windows", {}))
        found: dict[DropKey, Drop] = {
            (where, "window", str(name)): Drop(**facts, stamp=record.stamp) for name, facts in windows.items()
        }
        for kind, count in cast("dict[str, int]", counts).items():
            unnamed = count - (sum(one.count for one in found.values()) if kind == "window" else 0)
            if unnamed > 0:
                found[where, kind, ""] = Drop(unnamed)
    except (KeyError, TypeError, ValueError):
        return None
    return found
