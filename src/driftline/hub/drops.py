"""What devices dropped for lack of room: a window without data says so where it may be among it.

It is looked up when answers are read and not when they are made: an event that tells of a drop comes after windows that
were counted later, when the window it explains may long have been answered.

The times in such an event are by the clock by which the windows were made; they are moved when it comes in, as the
windows would have been. Where nobody knows by how much, the event counts and explains no window.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, select

from driftline.clock import NS_PER_S, iso
from driftline.hub.core import Hub
from driftline.hub.store.registry import versions
from driftline.wire import api
from driftline.wire.device import BASE_WINDOW_S

# A device whose disk is full says it again and again: the newest are enough to explain what is looked at.
EVENTS_MAX = 1000
UNEXPLAINED: Sequence[api.Status] = ("NoData", "TooFew")
# The last second that a time in nanoseconds can show.
START_S_MAX = 2**63 // NS_PER_S - BASE_WINDOW_S


@dataclass(frozen=True, slots=True)
class Dropped:
    """Base windows of one pipeline that a device dropped, the first and the last by their starts."""

    count: int
    first_s: int
    last_s: int

    def touches(self, start_ns: int, end_ns: int) -> bool:
        """Say whether a span of time meets what lies between the first and the last."""
        return self.first_s * NS_PER_S < end_ns and start_ns < (self.last_s + BASE_WINDOW_S) * NS_PER_S

    @property
    def note(self) -> str:
        """Say it to who wonders where a window is."""
        first, end = iso(self.first_s * NS_PER_S), iso((self.last_s + BASE_WINDOW_S) * NS_PER_S)
        windows = "one base window" if self.count == 1 else f"{self.count} base windows"
        return f"the device had no room and dropped {windows} between {first} and {end}"


def explained(hub: Hub, connection: Connection, pipeline: str, analyses: Sequence[api.Analysis]) -> list[api.Analysis]:
    """Return the answers, those without data with a note of what their device dropped at that time."""
    unexplained = sorted({one.device for one in analyses if one.status in UNEXPLAINED})
    dropped = {device: list(_dropped(hub, connection, pipeline, device)) for device in unexplained}
    return [_explained(one, dropped.get(one.device, ())) for one in analyses]


def _explained(analysis: api.Analysis, dropped: Sequence[Dropped]) -> api.Analysis:
    if analysis.status not in UNEXPLAINED:
        return analysis
    notes = [one.note for one in dropped if one.touches(analysis.start_ns, analysis.end_ns)]
    return msgspec.structs.replace(analysis, notes=[*analysis.notes, *notes]) if notes else analysis


def moved(event: Mapping[str, Any], moved_s: int | None) -> dict[str, Any]:
    """Return what an event tells of windows as it is once they are moved; nothing where it tells of none.

    >>> moved({"type": "dropped", "windows": {"pv": {"count": 1, "first_s": 0, "last_s": 60}}}, 3600)
    {'windows': {'pv': {'count': 1, 'first_s': 3600, 'last_s': 3660}}}
    """
    told: Any = event.get("windows")
    if event.get("type") != "dropped" or not isinstance(told, dict) or not moved_s:
        return {}
    return {"windows": {name: _moved(facts, moved_s) for name, facts in cast("Mapping[str, Any]", told).items()}}


def _moved(facts: Any, moved_s: int) -> Any:
    if not isinstance(facts, dict):
        return facts
    times = {name: _whole(facts.get(name)) for name in ("first_s", "last_s")}
    return facts | {name: one + moved_s for name, one in times.items() if one is not None}


def _dropped(hub: Hub, connection: Connection, pipeline: str, device: str) -> Iterator[Dropped]:
    events = hub.telemetry.events(device, "dropped", EVENTS_MAX)
    if not events:
        return
    known = set(connection.execute(select(versions.c.id).where(versions.c.pipeline == pipeline)).scalars())
    for event in events:
        told: Any = event.get("windows")
        # Where the time of an event is not known, those of what was dropped are not either.
        if isinstance(told, dict) and "by_its_clock_ns" not in event:
            for version, facts in cast("Mapping[str, Any]", told).items():
                if version in known and isinstance(facts, dict):
                    yield from _read(cast("Mapping[str, Any]", facts))


def _read(facts: Mapping[str, Any]) -> Iterator[Dropped]:
    """Yield what a device told, where it can be meant: nobody checked it when it came."""
    count, first_s, last_s = (_whole(facts.get(name)) for name in ("count", "first_s", "last_s"))
    if count is not None and first_s is not None and last_s is not None and first_s <= last_s:
        yield Dropped(count, first_s, last_s)


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= START_S_MAX else None
