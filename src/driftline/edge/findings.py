"""What is wrong with a device, and what to do about it: decided from facts, without looking at anything.

`driftline doctor` (`edge/doctor.py`) gathers the facts. A finding is one sentence: what is, and where something is
wrong the way out. The order is that of causes: what comes first may explain what comes after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from driftline.clock import NS_PER_S, seconds_text
from driftline.spool.look import Look
from driftline.spool.outbox import records_text

Verdict = Literal["ok", "note", "wrong"]
Stage = Literal["name", "connection", "tls", "certificate", "http", "answered"]

# A home with less takes no day of windows and no model; the spool's reserve alone is a megabyte.
HOME_FREE_BYTES_MIN = 100 * 1024 * 1024
# The open windows of many pipelines with hundreds of fields.
MEMORY_FREE_BYTES_MIN = 8 * 1024 * 1024
# Half a base window: less than that moves no window into another.
CLOCK_OFF_S_MAX = 30.0
# The agent's main loop goes round ten times a second; a slow disk may hold it up.
SILENT_S_MAX = 60.0
# With a hub that answers, nothing waits for much longer than the longest interval between two syncs.
WAITS_S_MAX = 2 * 3600.0
LOOP_ENDS, LOOP_S = 3, 600.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one thing."""

    about: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Probe:
    """How far this machine got with the hub: the stage that failed and why, or `answered`.

    `ahead_s` is how far the hub's clock is ahead of this machine's, `status` HTTP's, and `refusal` what
    the hub said where it does not know this device any more.
    """

    stage: Stage
    detail: str = ""
    status: int = 0
    ahead_s: float | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """Room where something is kept: `what` in words, bytes."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int
    free_bytes_min: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd knows of this device; `present` is whether its unit exists."""

    name: str
    present: bool = False
    enabled: str = ""
    active: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was seen of a device. What could not be asked is None, and nothing is said of it."""

    home: str
    now_ns: int
    python: str
    missing: Sequence[str] = ()
    wants_models: bool = False
    joined: bool = True
    name: str = ""
    url: str = ""
    trouble: str = ""
    running: bool = False
    answers: bool = False
    silent_s: float | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    local: bool = False
    unit: Unit | None = None
    probe: Probe | None = None
    fast: bool = False
    disks: Sequence[Disk] = ()
    spool: Look | None = None

    @property
    def log(self) -> str:
        """Return where the agent's log is read."""
        if self.local:
            return f"{self.home}/device.log"
        if self.unit is not None and self.unit.present:
            return f"journalctl -u {self.unit.name}"
        return "what `driftline edge run` prints"


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield what there is to say, in order."""
    yield from _python(facts)
    yield from _home(facts)
    if not facts.joined or facts.trouble:
        return
    for check in (_agent, _unit, _link, _identity, _clock, _room, _waiting, _refused, _pipelines, _cameras, _worker):
        yield from check(facts)


def well(found: Sequence[Finding]) -> bool:
    """Say whether nothing is wrong."""
    return all(one.verdict != "wrong" for one in found)


def _python(facts: Facts) -> Iterator[Finding]:
    about = "software"
    if not facts.missing:
        yield Finding(about, "ok", f"Python {facts.python} with everything that runs models")
    elif facts.wants_models:
        lacks = ", ".join(facts.missing)
        text = (
            f"the hub wants a model to run here, and {lacks} is missing; install it with: pip install 'driftline[edge]'"
        )
        yield Finding(about, "wrong", text)
    else:
        text = f"Python {facts.python} alone: it observes (driftline.observe) and runs no models"
        yield Finding(about, "ok", text)


def _home(facts: Facts) -> Iterator[Finding]:
    about = "home"
    if facts.trouble:
        yield Finding(about, "wrong", facts.trouble)
    elif not facts.joined:
        text = f"no device lives in {facts.home}; join a hub with: driftline edge join TOKEN --home {facts.home}"
        yield Finding(about, "wrong", text)
    else:
        yield Finding(about, "ok", f"the device {facts.name} lives in {facts.home}")


def _agent(facts: Facts) -> Iterator[Finding]:
    about = "agent"
    if not facts.running:
        yield Finding(about, "wrong", f"the agent does not run, so that nothing is counted or sent; {_start(facts)}")
    elif not facts.answers:
        text = f"the agent runs (pid {facts.state.get('pid', 'unknown')}) and does not answer; {_restart(facts)}"
        yield Finding(about, "wrong", text)
    elif facts.silent_s is not None and facts.silent_s > SILENT_S_MAX:
        text = (
            f"the agent answers, and its main loop has stood still for {seconds_text(facts.silent_s)}: it hangs, "
            f"or its disk does; {_restart(facts)}"
        )
        yield Finding(about, "wrong", text)
    else:
        yield Finding(about, "ok", "the agent runs and answers")


def _start(facts: Facts) -> str:
    if facts.local:
        return "its hub starts it: driftline up"
    if facts.unit is not None and facts.unit.present:
        return f"start it with: systemctl start {facts.unit.name}"
    return f"start it with: driftline edge run --home {facts.home}"


def _restart(facts: Facts) -> str:
    if facts.unit is not None and facts.unit.present:
        return f"start it anew with: systemctl restart {facts.unit.name}"
    return "end it and start it again; nothing that it took is lost"


def _unit(facts: Facts) -> Iterator[Finding]:
    about, unit = "service", facts.unit
    if unit is None or facts.local:
        return
    if not unit.present:
        install = f"driftline edge install --home {facts.home}"
        yield Finding(
            about, "note", f"no unit of systemd starts the device with this machine; make one with: {install}"
        )
    elif unit.enabled not in {"enabled", "enabled-runtime"}:
        text = f"{unit.name} is there and does not start with this machine; let it: systemctl enable --now {unit.name}"
        yield Finding(about, "wrong", text)
    elif unit.active in {"failed", "inactive"}:
        text = (
            f"{unit.name} is {unit.active}; see why with journalctl -u {unit.name}, and start it with systemctl start"
        )
        yield Finding(about, "wrong", text)
    else:
        yield Finding(about, "ok", f"{unit.name} is {unit.enabled} and {unit.active or 'known'}")


def _link(facts: Facts) -> Iterator[Finding]:
    about, probe = "hub", facts.probe
    if probe is None:
        return
    ways: dict[Stage, str] = {
        "name": f"the hub's name in {facts.url} has no address here ({probe.detail}); "
        "check this machine's DNS, or whether the hub moved",
        "connection": f"nobody answers at {facts.url} ({probe.detail}); "
        "check that the hub runs, and that no firewall or cable is between",
        "tls": f"what answers at {facts.url} speaks no TLS with this device ({probe.detail}); "
        "check whether a proxy sits between, or another program has the hub's port",
        "certificate": f"who answers at {facts.url} is not the hub this device joined; "
        f"if the hub was set up anew, join it with {_anew(facts)}, else somebody is in between",
        "http": f"what answers at {facts.url} is not a hub (status {probe.status or 'none'}{_more(probe.detail)}); "
        "check whether a proxy sits between, and the hub's own log",
    }
    if probe.stage != "answered":
        yield Finding(about, "wrong", f"{ways[probe.stage]}; until then everything is kept here")
    elif probe.refusal:
        yield Finding(about, "wrong", f"the hub refuses this device: {probe.refusal}")
    elif facts.running and facts.state.get("sync_error"):
        text = (
            f"the hub answers, and the agent's last sync failed: {facts.state['sync_error']}; it tries again by itself"
        )
        yield Finding(about, "wrong", f"{text}, and {facts.log} says more")
    else:
        yield Finding(about, "ok", f"{facts.url} answers and knows this device")


def _anew(facts: Facts) -> str:
    return f"driftline edge join TOKEN --anew --home {facts.home}"


def _identity(facts: Facts) -> Iterator[Finding]:
    conflict_ns = facts.state.get("conflict_ns")
    if conflict_ns is not None and (facts.now_ns - conflict_ns) / NS_PER_S < DAY_S:
        ago = seconds_text((facts.now_ns - conflict_ns) / NS_PER_S)
        yield Finding(
            "identity",
            "wrong",
            f"another machine used this device's identity {ago} ago, as the "
            f"copy of a disk does; nothing is lost: make one of them a new device with {_anew(facts)}",
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    about = "clock"
    state = facts.state if facts.running else {}
    ahead_s: Any = state.get("hub_ahead_s")
    error_s = state.get("clock_error_s") or 0.0
    if ahead_s is None and facts.probe is not None:
        ahead_s = facts.probe.ahead_s
    if facts.fast:
        yield Finding(about, "note", "time runs fast here (DRIFTLINE_CLOCK), so it is not compared with the hub's")
    elif ahead_s is None:
        return
    elif abs(ahead_s) - error_s > CLOCK_OFF_S_MAX:
        side = "behind" if ahead_s > 0 else "ahead of"
        yield Finding(
            about,
            "wrong",
            f"this machine's clock is {seconds_text(abs(ahead_s))} {side} the hub's; "
            "let it be set (timedatectl set-ntp true): what was counted is kept and moved to where it belongs",
        )
    else:
        yield Finding(about, "ok", f"this machine's clock is within {max(1.0, abs(ahead_s)):.0f} s of the hub's")


def _room(facts: Facts) -> Iterator[Finding]:
    for disk in facts.disks:
        free = size(disk.free_bytes)
        if disk.free_bytes < disk.free_bytes_min:
            text = f"{disk.what} has {free} left of {size(disk.total_bytes)} at {disk.path}; make room"
            yield Finding("disk", "wrong", f"{text}: when it is full the oldest records are dropped, and counted")
        else:
            yield Finding("disk", "ok", f"{disk.what} has {free} left of {size(disk.total_bytes)}")
    if facts.running and facts.state.get("open_windows"):
        # In the agent's words, with the reason.
        yield Finding("disk", "note", str(facts.state["open_windows"]))


def _waiting(facts: Facts) -> Iterator[Finding]:
    about, spool = "spool", facts.spool
    if spool is None:
        yield Finding(about, "note", "the spool is made when the agent first runs")
        return
    if spool.trouble:
        text = f"the spool {facts.home}/spool.db cannot be read ({spool.trouble})"
        way = "; the agent puts a damaged one aside, at its next start at the latest, and tells the hub; check dmesg"
        yield Finding(about, "wrong", text + way)
        return
    if spool.aside:
        text = f"a damaged spool was put aside as {facts.home}/spool.db.damaged: check the disk (dmesg), and remove it"
        yield Finding(about, "wrong", text)
    count = sum(spool.waiting.values())
    age_s = None if spool.oldest_ns is None else (facts.now_ns - spool.oldest_ns) / NS_PER_S
    aged = "" if age_s is None else f", the oldest from {seconds_text(max(0.0, age_s))} ago"
    verb = "waits" if count == 1 else "wait"
    waits = f"{records_text(count)} ({size(spool.waiting_bytes)}) {verb} for the hub{aged}"
    reached = facts.probe is not None and facts.probe.stage == "answered" and not facts.probe.refusal
    if count and age_s is not None and age_s > WAITS_S_MAX and reached and facts.running:
        text = f"{waits}, though it answers; unless a long outage has just ended, {facts.log} says why"
        yield Finding(about, "wrong", text)
    else:
        yield Finding(about, "ok", waits if count else "the spool is healthy and nothing waits")


def _refused(facts: Facts) -> Iterator[Finding]:
    refused = facts.state.get("refused") or 0
    if refused:
        yield Finding(
            "refused",
            "wrong",
            f"the hub refused {records_text(refused)} since the agent started; {facts.log} says why, "
            "and most often the hub was restored from an old backup, or its driftline is older than the device's: "
            "update it",
        )


def _pipelines(facts: Facts) -> Iterator[Finding]:
    if not facts.running:
        return
    names: Mapping[str, str] = facts.state.get("names") or {}
    states: Mapping[str, str] = facts.state.get("pipelines") or {}
    if not states:
        yield Finding(
            "pipeline", "note", "the hub wants nothing to run here; deploy or publish a pipeline to this device"
        )
    for version, how in states.items():
        name = names.get(version, version)
        if how.startswith("error: "):
            reason = how.removeprefix("error: ")
            text = f"the pipeline {name} fails ({reason}); if that names no way out, publish a version that works"
            yield Finding("pipeline", "wrong", text)
        else:
            yield Finding("pipeline", "ok", f"the pipeline {name}: {how}")


def _cameras(facts: Facts) -> Iterator[Finding]:
    if not facts.running:
        return
    sources: Mapping[str, str] = facts.state.get("sources") or {}
    for name, how in sources.items():
        ways = {
            "camera lost": f"the camera {name} gives no frames; check its power, its cable, and the address",
            "feed frozen": f"the camera {name} repeats one frame; start the camera itself anew",
            "ended": f"the clip {name} has ended, and nothing is counted any more; --loop plays it again",
        }
        if how.startswith("error: "):
            text = f"the camera {name} cannot be opened ({how.removeprefix('error: ')}); correct --camera"
            yield Finding("camera", "wrong", text)
        elif how in ways:
            yield Finding("camera", "note" if how == "ended" else "wrong", ways[how])
        else:
            yield Finding("camera", "ok", f"the camera {name}: {how}")


def _worker(facts: Facts) -> Iterator[Finding]:
    ends: Sequence[Sequence[Any]] = (facts.state.get("worker_ends") or {}).get("recent") or ()
    if not ends or not facts.running:
        return
    at_ns, why = ends[-1]
    ago = seconds_text(max(0.0, (facts.now_ns - at_ns) / NS_PER_S))
    recent = [one for one in ends if (facts.now_ns - one[0]) / NS_PER_S < LOOP_S]
    if len(recent) >= LOOP_ENDS:
        yield Finding(
            "worker",
            "wrong",
            f"the worker ended {len(recent)} times in {seconds_text(LOOP_S)}, last {ago} ago: {why}; "
            f"{facts.log} says more, journalctl -k whether memory ran out",
        )
    elif (facts.now_ns - at_ns) / NS_PER_S < DAY_S:
        yield Finding("worker", "note", f"the worker was started again, last {ago} ago: {why}")


# ── a hub ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HubFacts:
    """What was seen of a hub's folder; `problem` is why its address does not answer, empty where it does."""

    home: str
    trouble: str = ""
    running: bool = False
    url: str = ""
    problem: str = ""
    disks: Sequence[Disk] = ()


def hub_findings(facts: HubFacts) -> Iterator[Finding]:
    """Yield what there is to say of a hub, before its own device."""
    if facts.trouble:
        yield Finding("home", "wrong", facts.trouble)
        return
    if not facts.running:
        yield Finding("hub", "wrong", f"no hub runs on {facts.home}; start it with: driftline up --home {facts.home}")
    elif facts.problem:
        text = (
            f"the hub runs and does not answer at {facts.url or 'its address'} ({facts.problem}); see what it printed"
        )
        yield Finding("hub", "wrong", text)
    else:
        yield Finding("hub", "ok", f"the hub answers at {facts.url}")
    for disk in facts.disks:
        short = disk.free_bytes < disk.free_bytes_min
        text = f"{disk.what} has {size(disk.free_bytes)} left of {size(disk.total_bytes)}"
        more = f" at {disk.path}; make room: a hub without room takes nothing, and its devices keep what they have"
        yield Finding("disk", "wrong" if short else "ok", text + (more if short else ""))


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _more(detail: str) -> str:
    return f", {detail}" if detail else ""


def size(count: int) -> str:
    """Return a size in words.

    >>> [size(one) for one in (999, 12_345, 2_100_000, 31_000_000_000)]
    ['999 B', '12.3 kB', '2.1 MB', '31.0 GB']
    """
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
