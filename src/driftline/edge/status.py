"""`driftline edge status`: says how this device is, asking its agent where one runs."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from driftline import clock as clocks
from driftline.clock import NS_PER_S, iso, seconds_text
from driftline.edge.findings import CLOCK_OFF_S_MAX, HOME_FREE_BYTES_MIN, MEMORY_FREE_BYTES_MIN, Disk, size
from driftline.edge.home import Home
from driftline.edge.link import Link
from driftline.errors import TemporaryError
from driftline.spool.look import Look, look
from driftline.spool.outbox import records_text

CONFLICT = (
    "another machine syncs as this device, or this disk was restored from a copy; nothing is lost. If they are two, "
    "remove the device on the hub, and on each of them: driftline edge join TOKEN --anew"
)
# Where a worker keeps what it has not handed over yet.
MEMORY = Path("/dev/shm")  # noqa: S108  it is looked at, nothing is written


@dataclass(frozen=True, slots=True)
class Asked:
    """What an agent said, or had said when it was last heard: `answers` is whether it said it just now."""

    running: bool
    answers: bool
    state: Mapping[str, Any]


def run(options: Namespace) -> int:
    """Print how the device in `options.home` is; return 0 where its agent runs, 1 where not.

    Raises:
        EntityNotFoundError: nobody joined a hub there.
    """
    home = Home(options.home)
    identity = home.identity()
    asked, seen, room = ask(home), look(home.spool), disks(home.path)
    if options.json:
        told = {"device": identity.name, "url": identity.url, "running": asked.running, "home": str(home.path)}
        waits = None if seen is None else asdict(seen)
        print(json.dumps(dict(asked.state) | told | {"spool": waits, "disks": [asdict(one) for one in room]}, indent=1))
        return 0 if asked.running else 1
    print(f"device    {identity.name}, of the hub at {identity.url}")
    now_ns = clocks.from_environment().now_ns()
    for line in lines(asked.state, running=asked.running, now_ns=now_ns, home=home.path, spool=seen, room=room):
        print(line)
    return 0 if asked.running else 1


def ask(home: Home) -> Asked:
    """Return whether an agent runs, and how it is, or how it was when it last said so."""
    if not home.running:
        return Asked(False, False, home.state())
    try:
        link = Link(home.socket, timeout_s=3)
    except TemporaryError:
        return Asked(True, False, home.state())  # it is just starting
    try:
        return Asked(True, True, link.status())
    except TemporaryError:
        return Asked(True, False, home.state())
    finally:
        link.close()


def disks(home: Path) -> tuple[Disk, ...]:
    """Return the room at the device's folder, and in memory where there is a place for files."""
    place = disk("the device's disk", home, HOME_FREE_BYTES_MIN)
    return (place, disk("the memory for open windows", MEMORY, MEMORY_FREE_BYTES_MIN)) if MEMORY.is_dir() else (place,)


def disk(what: str, path: Path, free_bytes_min: int) -> Disk:
    """Return the room at `path`."""
    usage = shutil.disk_usage(path)
    return Disk(what, str(path), usage.free, usage.total, free_bytes_min)


def lines(
    state: Mapping[str, Any],
    *,
    running: bool,
    now_ns: int,
    home: Path | None = None,
    spool: Look | None = None,
    room: tuple[Disk, ...] = (),
) -> Iterator[str]:
    """Yield what there is to say of the device in the folder `home`, a line a fact."""
    if running:
        yield f"agent     running{_since(state)}"
    else:
        where = "" if home is None else f" --home {home}"
        yield f"agent     not running; start it with: driftline edge run{where}"
    yield from _time(state, running=running)
    yield f"hub       {_hub(state, now_ns, running=running)}"
    yield f"waiting   {_waiting(state, spool, now_ns)}"
    for one in room:
        yield f"disk      {one.what} has {size(one.free_bytes)} left of {size(one.total_bytes)}"
    if state.get("open_windows"):
        yield f"flash     {state['open_windows']}"
    if state.get("rows_kb_a_day") is not None:
        yield f"link      rows take at most {state['rows_kb_a_day']} kB a day of it; what is beyond waits"
    if state.get("newest_first"):
        yield "link      after an outage the newest records go first"
    if state.get("conflict_ns") is not None:
        yield f"identity  {CONFLICT}"
    if state.get("refused"):
        yield f"refused   {records_text(state['refused'])} by the hub; the agent's log says why"
    yield from _pipelines(state, running=running)
    for source, how in (state.get("sources") or {}).items():
        yield f"camera    {source}: {how if running else 'stopped'}"
    ends: Mapping[str, Any] = state.get("worker_ends") or {}
    if ends.get("recent"):
        at_ns, why = ends["recent"][-1]
        yield f"worker    started again {_times(ends['count'])}, last {_ago(at_ns, now_ns)}: {why}"
    if running and state.get("serving"):
        yield f"serving   {state['serving']}"


def _time(state: Mapping[str, Any], *, running: bool) -> Iterator[str]:
    if state.get("clock"):
        yield f"clock     {state['clock']}"
    elif (ahead_s := state.get("hub_ahead_s")) is not None:
        yield f"clock     {_clock(ahead_s, state.get('clock_error_s') or 0.0)}"
    elif running and "now_ns" in state:
        shown = iso(state["now_ns"] // NS_PER_S * NS_PER_S)
        yield f"clock     shows {shown}; whether that is right is known when the hub has answered"


def _pipelines(state: Mapping[str, Any], *, running: bool) -> Iterator[str]:
    names: Mapping[str, str] = state.get("names") or {}
    pipelines: Mapping[str, str] = state.get("pipelines") or {}
    limits: Mapping[str, str] = state.get("limits") or {}
    if not pipelines:
        yield "pipelines none; deploy or publish one to this device"
    for pv, how in pipelines.items():
        limit = f" ({limits[pv]})" if pv in limits else ""
        yield f"pipeline  {names.get(pv, pv)}: {how if running else 'stopped'}{limit}"


def _since(state: Mapping[str, Any]) -> str:
    started = state.get("started_ns")
    return "" if started is None else f" since {iso(started // NS_PER_S * NS_PER_S)}"


def _clock(ahead_s: float, error_s: float) -> str:
    """Say how right this device's clock is; `ahead_s` is how far the hub's is ahead of it.

    >>> _clock(0.4, 0.1), _clock(-100.0, 300.0)
    ("right: 0.4 s behind the hub's", "1 min 40 s ahead of the hub's, or right: the hub's answer took long")
    """
    off = f"{seconds_text(abs(ahead_s))} {'behind' if ahead_s > 0 else 'ahead of'} the hub's"
    if abs(ahead_s) <= CLOCK_OFF_S_MAX:
        return f"right: {off}"
    if abs(ahead_s) - error_s <= CLOCK_OFF_S_MAX:
        return f"{off}, or right: the hub's answer took long"
    return (
        f"{off}; the hub puts what is counted where it belongs. Set it (date -s), or let it reach a time server "
        "(timedatectl set-ntp true)"
    )


def _hub(state: Mapping[str, Any], now_ns: int, *, running: bool) -> str:
    synced = state.get("synced_ns")
    last = "not synced since the agent started" if synced is None else f"last sync {iso(synced // NS_PER_S * NS_PER_S)}"
    if synced is not None:
        last += f", {_ago(synced, now_ns)}"
    if not running:
        # The file is written seldom, and in an orderly end.
        was_killed = synced is not None and state.get("stopped") is False
        return f"{last}, or later: the agent ended before it could say" if was_killed else last
    return f"{last}; {state['sync_error']}" if state.get("sync_error") else last


def _waiting(state: Mapping[str, Any], spool: Look | None, now_ns: int) -> str:
    if spool is None or spool.trouble:
        trouble = "" if spool is None else f"; the spool cannot be read ({spool.trouble})"
        return f"{records_text(state.get('backlog', 0))}, {state.get('backlog_bytes', 0)} bytes{trouble}"
    count = sum(spool.waiting.values())
    aged = "" if spool.oldest_ns is None else f", the oldest from {_ago(spool.oldest_ns, now_ns)}"
    return f"{records_text(count)}, {spool.waiting_bytes} bytes{aged}"


def _ago(then_ns: int, now_ns: int) -> str:
    return f"{seconds_text(max(0, now_ns - then_ns) / NS_PER_S)} ago"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
