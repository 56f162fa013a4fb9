"""`driftline edge status`: says how this device is, asking its agent where one runs."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driftline.clock import NS_PER_S, iso, seconds_text
from driftline.edge.home import Home
from driftline.edge.link import Link
from driftline.errors import TemporaryError

CONFLICT = (
    "another machine syncs as this device, or this disk was restored from a copy; nothing is lost. If they are two, "
    "remove the device on the hub, and on each of them: driftline edge join TOKEN --anew"
)
# Half a base window: up to there nothing lies in another window than it should.
CLOCK_OFF_S = 30.0


def run(options: Namespace) -> int:
    """Print how the device in `options.home` is; return 0 where its agent runs, 1 where not.

    Raises:
        EntityNotFoundError: nobody joined a hub there.
    """
    home = Home(options.home)
    identity = home.identity()
    running, state = ask(home)
    print(f"device    {identity.name}, of the hub at {identity.url}")
    for line in lines(state, running=running, home=home.path):
        print(line)
    return 0 if running else 1


def ask(home: Home) -> tuple[bool, Mapping[str, Any]]:
    """Return whether an agent runs, and how it is, or how it was when it last said so."""
    if not home.running:
        return False, home.state()
    try:
        link = Link(home.socket, timeout_s=3)
    except TemporaryError:
        return True, home.state()  # it is just starting
    try:
        return True, link.status()
    except TemporaryError:
        return True, home.state()
    finally:
        link.close()


def lines(state: Mapping[str, Any], *, running: bool, home: Path | None = None) -> Iterator[str]:
    """Yield what there is to say of the device in the folder `home`, a line a fact."""
    if running:
        yield f"agent     running{_since(state)}"
    else:
        where = "" if home is None else f" --home {home}"
        yield f"agent     not running; start it with: driftline edge run{where}"
    if state.get("clock"):
        yield f"clock     {state['clock']}"
    elif (ahead_s := state.get("hub_ahead_s")) is not None:
        yield f"clock     {_clock(ahead_s, state.get('clock_error_s') or 0.0)}"
    elif running and "now_ns" in state:
        shown = iso(state["now_ns"] // NS_PER_S * NS_PER_S)
        yield f"clock     shows {shown}; whether that is right is known when the hub has answered"
    yield f"hub       {_hub(state)}"
    yield f"waiting   {state.get('backlog', 0)} records, {state.get('backlog_bytes', 0)} bytes"
    if state.get("rows_kb_a_day") is not None:
        yield f"link      rows take at most {state['rows_kb_a_day']} kB a day of it; what is beyond waits"
    if state.get("conflict_ns") is not None:
        yield f"identity  {CONFLICT}"
    if state.get("refused"):
        yield f"refused   {state['refused']} records by the hub; the agent's log says why"
    names: Mapping[str, str] = state.get("names") or {}
    pipelines: Mapping[str, str] = state.get("pipelines") or {}
    if not pipelines:
        yield "pipelines none; deploy or publish one to this device"
    limits: Mapping[str, str] = state.get("limits") or {}
    for pv, how in pipelines.items():
        limit = f" ({limits[pv]})" if pv in limits else ""
        yield f"pipeline  {names.get(pv, pv)}: {how if running else 'stopped'}{limit}"
    for source, how in (state.get("sources") or {}).items():
        yield f"camera    {source}: {how if running else 'stopped'}"
    if running and state.get("serving"):
        yield f"serving   {state['serving']}"


def _since(state: Mapping[str, Any]) -> str:
    started = state.get("started_ns")
    return "" if started is None else f" since {iso(started // NS_PER_S * NS_PER_S)}"


def _clock(ahead_s: float, error_s: float) -> str:
    """Say how right this device's clock is; `ahead_s` is how far the hub's is ahead of it.

    >>> _clock(0.4, 0.1), _clock(-100.0, 300.0)
    ("right: 0.4 s behind the hub's", "1 min 40 s ahead of the hub's, or right: the hub's answer took long")
    """
    off = f"{seconds_text(abs(ahead_s))} {'behind' if ahead_s > 0 else 'ahead of'} the hub's"
    if abs(ahead_s) <= CLOCK_OFF_S:
        return f"right: {off}"
    if abs(ahead_s) - error_s <= CLOCK_OFF_S:
        return f"{off}, or right: the hub's answer took long"
    return (
        f"{off}; the hub puts what is counted where it belongs. Set it (date -s), or let it reach a time server "
        "(timedatectl set-ntp true)"
    )


def _hub(state: Mapping[str, Any]) -> str:
    synced = state.get("synced_ns")
    last = "never synced" if synced is None else f"last sync {iso(synced // NS_PER_S * NS_PER_S)}"
    return f"{last}; {state['sync_error']}" if state.get("sync_error") else last
