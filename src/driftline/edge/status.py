"""`driftline edge status`: says how this device is, asking its agent where one runs."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from driftline import clock as clocks
from driftline.clock import NS_PER_S, iso
from driftline.edge.findings import HOME_FREE_BYTES_MIN, MEMORY_FREE_BYTES_MIN, Disk, duration, size
from driftline.edge.home import Home
from driftline.edge.link import Link
from driftline.errors import TemporaryError
from driftline.spool.look import Look, look

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
    if state.get("clock"):
        yield f"clock     {state['clock']}"
    elif running and state.get("hub_ahead_s") is not None:
        yield f"clock     {_offset(float(state['hub_ahead_s']))}"
    yield f"hub       {_hub(state, now_ns, running=running)}"
    yield f"waiting   {_waiting(state, spool, now_ns)}"
    for one in room:
        yield f"disk      {one.what} has {size(one.free_bytes)} left of {size(one.total_bytes)}"
    if state.get("refused"):
        yield f"refused   {state['refused']} records by the hub; the agent's log says why"
    yield from _pipelines(state, running=running)
    for source, how in (state.get("sources") or {}).items():
        yield f"camera    {source}: {how if running else 'stopped'}"
    ends: Mapping[str, Any] = state.get("worker_ends") or {}
    if ends.get("recent"):
        at_ns, why = ends["recent"][-1]
        yield f"worker    started again {_times(ends['count'])}, last {_ago(at_ns, now_ns)}: {why}"
    if running and state.get("serving"):
        yield f"serving   {state['serving']}"


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


def _offset(ahead_s: float) -> str:
    if abs(ahead_s) < 1:
        return "within a second of the hub's"
    return f"{duration(abs(ahead_s))} {'behind' if ahead_s > 0 else 'ahead of'} the hub's"


def _hub(state: Mapping[str, Any], now_ns: int, *, running: bool) -> str:
    synced = state.get("synced_ns")
    last = "never synced" if synced is None else f"last sync {iso(synced // NS_PER_S * NS_PER_S)}"
    if synced is not None:
        last += f", {_ago(synced, now_ns)}"
    if not running:
        return last
    return f"{last}; {state['sync_error']}" if state.get("sync_error") else last


def _waiting(state: Mapping[str, Any], spool: Look | None, now_ns: int) -> str:
    if spool is None or spool.trouble:
        trouble = "" if spool is None else f"; the spool cannot be read ({spool.trouble})"
        return f"{state.get('backlog', 0)} records, {state.get('backlog_bytes', 0)} bytes{trouble}"
    count = sum(spool.waiting.values())
    aged = "" if spool.oldest_ns is None else f", the oldest from {_ago(spool.oldest_ns, now_ns)}"
    return f"{count} records, {spool.waiting_bytes} bytes{aged}"


def _ago(then_ns: int, now_ns: int) -> str:
    return f"{duration(max(0, now_ns - then_ns) / NS_PER_S)} ago"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
