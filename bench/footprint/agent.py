"""The agent's day: bytes on its link, writes to its flash, memory, CPU.

Two real agents with a real hub, TLS between them, live through a day in minutes: a program observes once a second, five
fields, and its windows take the way they always take. One agent syncs each ten minutes, the other each thirty, each
time over a new connection.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from bench.footprint.figures import MB, Figure, Memory, cpu_s, told, written_bytes
from bench.footprint.hub import RunningHub, running_hub
from bench.footprint.wire import Meter, Traffic
from driftline.cli import parser
from driftline.clock import VARIABLE
from driftline.edge.home import HOME_VARIABLE, Home
from driftline.edge.start import told as told_options

FACTOR = 300
FIELDS, A_MINUTE = 5, 60
DAY_S = 86_400.0
# In this time grids are learned from the first thousand values, which then stop travelling.
WARM_UP_S = 2 * 3600.0
TRAFFIC_MB_MAX = {600: 0.8, 1800: 0.5}
# Memory in MiB, as `top` and systemd count it; all else in MB of 1,000,000 bytes.
RESIDENT_MIB_MAX, FLASH_MB_MAX = 25.0, 50.0
IMAGE_BYTES = 256 * 2**20

OBSERVING = f"""
import array, random, time
import driftline
from driftline.clock import from_environment
clock, draw = from_environment(), random.Random(1)
due_ns = clock.now_ns()
while True:
    # As a model gives them: float32.
    values = array.array("f", (draw.betavariate(20, 2) for _ in range({FIELDS})))
    driftline.observe("till", {{}}, {{f"field_{{i}}": value for i, value in enumerate(values)}}, time=due_ns)
    due_ns += {60 * 10**9 // A_MINUTE}
    time.sleep(clock.wait_s(due_ns))
"""


@dataclass(frozen=True)
class Reading:
    """Where the counters of one agent stand."""

    at_s: float
    traffic: Traffic
    written: int
    sectors: int | None
    cpu_s: float


class Device:
    """One agent, and the program that observes on it."""

    def __init__(self, hub: RunningHub, home: Home, interval_s: int, sectors: Path | None) -> None:
        identity = home.identity()
        self.meter = Meter(urlsplit(identity.url).port or 0)
        home.save_identity(replace(identity, url=f"https://127.0.0.1:{self.meter.port}"))
        self.interval_s = interval_s
        self._sectors = sectors
        run = ["edge", "run", "--home", str(home.path), "--serve", "127.0.0.1:0", "--sync-interval", str(interval_s)]
        environment = {**hub.environment, HOME_VARIABLE: str(home.path)}
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "bench.footprint.hastened", str(FACTOR), told_options(parser().parse_args(run))],
            env=environment,
            stderr=(home.path / "agent.log").open("w"),
        )
        self._program = subprocess.Popen([sys.executable, "-c", OBSERVING], env=environment)

    def read(self) -> Reading:
        """Read every counter."""
        sectors = None if self._sectors is None else int(self._sectors.read_text().split()[6])
        pid = self.agent.pid
        return Reading(time.time(), replace(self.meter.traffic), written_bytes(pid), sectors, cpu_s(pid))

    def stop(self) -> None:
        """End both."""
        for one in (self._program, self.agent):
            one.terminate()
        for one in (self._program, self.agent):
            one.wait(30)
        self.meter.close()


def day(*, quick: bool) -> tuple[dict[str, object], list[str]]:
    """Measure a day, or where it is quick a few hours that are made a day of."""
    warm_s, whole_s = (600.0, 3600.0) if quick else (WARM_UP_S, DAY_S)
    began = datetime.now(UTC) - timedelta(seconds=2 * (warm_s + whole_s) + 3600)
    clock = f"{began.isoformat()} x{FACTOR} @{time.time():.6f}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-bench-")))
        flash, sectors = stack.enter_context(flash_in(folder))
        hub = stack.enter_context(running_hub(folder, **{VARIABLE: clock}))
        pipeline = hub.client.build_pipeline("till")
        devices: list[Device] = []
        for number, interval_s in enumerate(TRAFFIC_MB_MAX):
            # The first has the disk for itself, so that what is written there is its own.
            place = flash if number == 0 else folder / "second"
            home = hub.device(f"till-{interval_s}", place / "device", pipeline)
            one = Device(hub, home, interval_s, sectors if number == 0 else None)
            stack.callback(one.stop)
            devices.append(one)
        time.sleep(warm_s / FACTOR)
        before = [one.read() for one in devices]
        time.sleep(whole_s / FACTOR)
        after = [one.read() for one in devices]
        figures = [figure for one, a, b in zip(devices, before, after, strict=True) for figure in _link(one, a, b)]
        figures += [*_flash(before[0], after[0]), *_process(devices[0], before[0], after[0])]
    return told(f"An agent's day: {FIELDS} fields, windows of a minute, n = {A_MINUTE}", figures)


def _link(device: Device, before: Reading, after: Reading) -> Iterator[Figure]:
    traffic = after.traffic.since(before.traffic)
    days = (after.at_s - before.at_s) * FACTOR / DAY_S
    title = f"sync each {device.interval_s // 60} minutes"
    whole = traffic.up + traffic.down
    target = TRAFFIC_MB_MAX[device.interval_s]
    parts = f"up {traffic.up / days / MB:.3f}, down {traffic.down / days / MB:.3f}"
    yield Figure(f"{title}: TCP payload a day, TLS included", whole / days / MB, "MB", target, parts)
    estimate = (whole + traffic.headers) / days / MB
    yield Figure(f"{title}: with headers of TCP and IP, estimated", estimate, "MB")
    each = whole / max(1, traffic.connections)
    yield Figure(f"{title}: connections a day", traffic.connections / days, "", None, f"{each:.0f} bytes each")


def _flash(before: Reading, after: Reading) -> Iterator[Figure]:
    days = (after.at_s - before.at_s) * FACTOR / DAY_S
    own = (after.written - before.written) / days / MB
    if before.sectors is None or after.sectors is None:
        note = "/proc/PID/io write_bytes; the file system's journal is not in it, for that this needs root"
        yield Figure("flash: written a day by the agent", own, "MB", FLASH_MB_MAX, note)
        return
    sectors = (after.sectors - before.sectors) * 512 / days / MB
    note = "sectors of an ext4 of its own on a loop device, journal included"
    yield Figure("flash: written a day by agent and file system", sectors, "MB", FLASH_MB_MAX, note)
    yield Figure("flash: of that by the agent", own, "MB", None, "/proc/PID/io write_bytes")


def _process(device: Device, before: Reading, after: Reading) -> Iterator[Figure]:
    memory = Memory.of(device.agent.pid)
    yield Figure("agent: resident after it", memory.resident, "MiB", RESIDENT_MIB_MAX)
    yield Figure("agent: of that anonymous", memory.anonymous, "MiB")
    days = (after.at_s - before.at_s) * FACTOR / DAY_S
    cpu = (after.cpu_s - before.cpu_s) / days
    yield Figure("agent: CPU of what a day brings", cpu, "s", None, "its 864,000 looks at the clock are not in it")


@contextmanager
def flash_in(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Give a folder on a file system of its own, and the counters of its device; without root a plain folder."""
    plain = folder / "flash"
    plain.mkdir()
    image = folder / "flash.img"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    mounted = False
    with suppress(OSError, subprocess.CalledProcessError):
        _quiet("mkfs.ext4", "-q", str(image))
        # A journal is written at least each five seconds; in fast time that would be once an hour.
        _quiet("mount", "-o", "loop,commit=1", str(image), str(plain))
        mounted = True
    try:
        yield plain, _counters(plain) if mounted else None
    finally:
        if mounted:
            _quiet("umount", str(plain))


def _counters(mounted: Path) -> Path:
    number = mounted.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")


def _quiet(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
