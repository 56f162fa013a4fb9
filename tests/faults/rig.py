"""Real agents and real hubs in processes of their own, faults for them, and the ledger that both are held to.

Faults: `strace` kills a process at its n-th call, or lets a call fail; an ext4 image on a loop device loses its power;
a small tmpfs fills up. Calls are counted in each thread by itself, so a fault is at the n-th call of whichever thread
comes to it first.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from driftline.clock import SystemClock
from driftline.edge.agent import Agent
from driftline.edge.home import Home
from driftline.edge.join import join
from driftline.edge.link import Courier, Link
from driftline.errors import UnreachableError
from driftline.summary.codec import encode
from driftline.summary.grid import UNIVERSAL
from driftline.summary.summary import Tally
from driftline.wire.device import BASE_WINDOW_S, FieldSummary, WindowRecord, encode_window

SOURCES = Path(__file__).parents[2] / "src"
HUB_PROGRAM = Path(__file__).with_name("hub_process.py")
FULL = os.environ.get("DRIFTLINE_FAULTS") == "full"
# What changes files and sends answers: everything between two of these calls looks the same to a disk and to a peer.
CALLS = ("pwrite64", "fdatasync", "fsync", "write", "ftruncate", "rename", "unlink", "sendto")
FIRST_START_S = 1_767_261_600  # 2026-01-01T10:00:00Z
PATIENCE_S = 60.0
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_LOG = 2


# ── what must be there ───────────────────────────────────────────────────────────────────────────────────────────────


class Made(NamedTuple):
    """A window as it was made."""

    start_s: int
    inferences: int
    summaries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the windows that were acknowledged."""

    acknowledged: int
    lost: int
    doubled: int
    corrupt: int
    dropped: int  # as the device reported them
    arrived_though_dropped: int  # dropped while they were on their way

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.corrupt)


class Ledger:
    """The windows of one device: made, and of those acknowledged, in order."""

    def __init__(self, seed: int, *, bulky: bool = False) -> None:
        self._random = random.Random(seed)
        # Bulky windows fill a disk with few records.
        self._fields, self._inferences_max = (40, 1200) if bulky else (1, 60)
        self.made: list[Made] = []
        self.acknowledged = 0

    def reseed(self) -> None:
        """Count other things from now on."""
        self._random = random.Random(self._random.random())

    def make(self, version: str) -> bytes:
        """Count one more base window; return its record."""
        inferences = self._random.randint(self._inferences_max // 60, self._inferences_max)
        tally = Tally(UNIVERSAL)
        for _ in range(inferences):
            tally.add(self._random.gauss(0, 10))
        summaries = (encode(tally.summary()),) * self._fields
        one = Made(FIRST_START_S + BASE_WINDOW_S * len(self.made), inferences, summaries)
        self.made.append(one)
        named = tuple(FieldSummary(f"out.f{at}", UNIVERSAL.id, data) for at, data in enumerate(summaries))
        return encode_window(WindowRecord(version, one.start_s, BASE_WINDOW_S, inferences, named))

    def verdict(self, held: Sequence[Made], dropped: int = 0) -> Verdict:
        """Compare with what a hub holds, and how many windows were reported as dropped."""
        times = Counter(one.start_s for one in held)
        known = {one.start_s: one for one in self.made}
        acknowledged = self.made[: self.acknowledged]
        missing = sum(one.start_s not in times for one in acknowledged)
        return Verdict(
            len(acknowledged),
            max(0, missing - dropped),
            sum(times.values()) - len(times),
            sum(known.get(one.start_s) != one for one in held),
            dropped,
            max(0, dropped - missing),
        )


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a process at the n-th such call of a thread: it is killed, or the call fails with an error."""

    call: str
    number: int
    error: str | None = None

    @property
    def command(self) -> list[str]:
        """What to put before a command; strace becomes a grandchild, so that signals reach the process itself."""
        return [*_strace(self.call), "-o", os.devnull, "-e", self._inject]

    @property
    def _inject(self) -> str:
        what = "signal=KILL" if self.error is None else f"error={self.error}"
        return f"inject={self.call}:{what}:when={self.number}"

    def attach(self, process: "Process") -> None:
        """Let it happen to a process that runs already; calls are counted from now on."""
        attached(process, self.call, "-o", os.devnull, "-e", self._inject)


@contextmanager
def failing(process: "Process", call: str, error: str) -> Generator[None]:
    """Let every such call of a running process fail with this error, for as long as the context lasts."""
    tracer = attached(process, call, "-o", os.devnull, "-e", f"inject={call}:error={error}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(PATIENCE_S)


def attached(process: "Process", calls: str, *options: str) -> "subprocess.Popen[bytes]":
    """Attach strace to a process that runs, and return once it watches every thread."""
    assert process.running is not None
    pid = process.running.pid
    command = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-e", "signal=none", *options, "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _wait_until(lambda: all(_is_traced(task) for task in Path(f"/proc/{pid}/task").iterdir()))
    return tracer


def _is_traced(task: Path) -> bool:
    try:
        return "TracerPid:\t0\n" not in (task / "status").read_text()
    except OSError:
        return True  # the thread has ended


def _strace(calls: str) -> list[str]:
    return ["strace", "-D", "-f", "-qq", "-e", f"trace={calls}", "-e", "signal=none"]


def _wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def counting(log: Path) -> list[str]:
    """Return what to put before a command so that its calls are written down."""
    return [*_strace(",".join(CALLS)), "-o", str(log)]


def counted(log: Path) -> dict[str, int]:
    """Return how many calls of each kind the thread made that made most of them."""
    lines = (line.split(None, 1) for line in log.read_text(errors="replace").splitlines())
    found = Counter((thread, rest.partition("(")[0]) for thread, rest in lines)
    return {call: max((n for (_, one), n in found.items() if one == call), default=0) for call in CALLS}


def spread(reach: Mapping[str, int], calls: Sequence[str], rng: random.Random) -> list[Fault]:
    """Return a crash at every call of these kinds that a run makes, in an order given by chance."""
    points = [Fault(call, number) for call in calls for number in range(1, reach[call] + 1)]
    rng.shuffle(points)
    return points


class Process:
    """A process that may be killed at any moment and started again."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.running: subprocess.Popen[bytes] | None = None

    def spawn(self, command: Sequence[str], before: Sequence[str] = (), **environment: str) -> None:
        # What fails or is counted is what the program writes; bytecode that is there already is still read.
        ours = {"PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        told = ours | {"DRIFTLINE_SYNC_INTERVAL_S": "1"}
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*before, sys.executable, *command],
                env=os.environ | told | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    @property
    def crashed(self) -> bool:
        return self.running is not None and self.running.poll() == -signal.SIGKILL

    def signal(self, number: int) -> None:
        if self.running is not None and self.alive:
            self.running.send_signal(number)

    def wait(self) -> int:
        assert self.running is not None
        return self.running.wait(PATIENCE_S)

    def stop(self) -> int:
        """Stop it in order; return its exit code, -9 where a fault was faster."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.running is not None:
            self.wait()

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


# ── a hub ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hub(Process):
    """A hub's process on a port that stays the same, and what its database holds."""

    listens_at = "127.0.0.1"

    def __init__(self, home: Path, log: Path) -> None:
        super().__init__(log)
        self.home = home
        self.port = _free_port()
        self._names = count(1)
        self._workspace = ""
        self._publishes: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, before: Sequence[str] = ()) -> bool:
        """Start it; return whether it answers, which under a fault it may never do."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.spawn([str(HUB_PROGRAM), str(self.home), self.listens_at, str(self.port)], before)
        while self.alive and not self.answers:
            time.sleep(0.01)
        assert before or self.alive, self.text
        return self.alive

    @property
    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            self.ask("GET", "/version")
        except (OSError, HTTPException):
            return False  # not there yet, or killed in the middle of its answer
        return True

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        body = None if method == "GET" else json.dumps(document or {}).encode()
        request = urllib.request.Request(  # noqa: S310  the hub of this test
            f"{self.url}/api/v1{path}", body, {"Content-Type": "application/json"}, method=method
        )
        with _OPENER.open(request, timeout=PATIENCE_S) as reply:
            return json.loads(reply.read())

    def invite(self) -> tuple[str, str, str]:
        """Make a device of a pipeline that its own program observes; return its name, version and join token."""
        name = f"device-{next(self._names)}-{random.getrandbits(32):08x}"
        self._workspace = self._workspace or str(self.ask("POST", "/workspaces", {"name": name})["id"])
        pipeline = self.ask("POST", f"/workspaces/{self._workspace}/pipelines", {"name": name, "steps": []})
        self._publishes[name] = str(self.ask("POST", f"/pipelines/{pipeline['id']}/publish")["id"])
        return name, str(pipeline["versions"][0]["id"]), self.token(name)

    def token(self, device: str) -> str:
        """Make a join token for a device."""
        return str(self.ask("POST", f"/publishes/{self._publishes[device]}/edges", {"name": device})["token"])

    def held(self, device: str) -> list[Made]:
        """Return the windows it holds of a device, as its database says."""
        found: dict[int, tuple[int, int, list[tuple[str, bytes]]]] = {}
        for number, start_s, inferences, key, data in self.select(
            "SELECT w.id, w.start_s, w.inferences, f.text, s.data FROM windows w "
            "JOIN names n ON n.id=w.device LEFT JOIN summaries s ON s.window=w.id LEFT JOIN names f ON f.id=s.field "
            "WHERE n.text=? ORDER BY w.id",
            device,
        ):
            found.setdefault(number, (start_s, inferences, []))[2].append((key, data))
        by_number = {key: int(key.rpartition("f")[2]) for _, _, pairs in found.values() for key, _ in pairs if key}
        return [
            Made(start, inferences, tuple(data for _, data in sorted(pairs, key=lambda one: by_number.get(one[0], -1))))
            for start, inferences, pairs in found.values()
        ]

    def back_up(self, folder: Path) -> None:
        """Copy its folder while it runs."""
        shutil.copytree(self.home, folder, ignore=shutil.ignore_patterns("hub.db*"))
        with (
            closing(sqlite3.connect(self.home / "hub.db")) as own,
            closing(sqlite3.connect(folder / "hub.db")) as other,
        ):
            own.backup(other)

    def events(self, device: str, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind that a device told of."""
        found = self.select(
            "SELECT e.document FROM events e JOIN names n ON n.id=e.device WHERE n.text=? AND e.type=?", device, kind
        )
        return [json.loads(document) for (document,) in found]

    def select(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.home / "hub.db", timeout=PATIENCE_S)) as connection:
            return connection.execute(sql, values).fetchall()

    @property
    def sound(self) -> bool:
        """Whether the database is whole."""
        return self.select("PRAGMA integrity_check") == [("ok",)] and not self.select("PRAGMA foreign_key_check")


def _opener() -> urllib.request.OpenerDirector:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    # The proxy of an environment has no business between two processes of one machine.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))


_OPENER = _opener()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ── a device ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Device(Process):
    """An agent's process, and a program beside it that hands windows over as workers and observers do."""

    def __init__(self, hub: Hub, folder: Path, *, seed: int = 0, bulky: bool = False, home: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "agent.log")
        self.hub = hub
        self.name, self.version, token = hub.invite()
        self.home = Home(home or folder / "home")
        join(self.home, token)
        self.ledger = Ledger(seed, bulky=bulky)
        self.courier = Courier(lambda: self.home.socket, "observe", time.time_ns)

    def start(self, before: Sequence[str] = ()) -> None:
        """Start the real command as on a machine that only observes: without site-packages there is no numpy."""
        command = ["-S", "-m", "driftline.cli", "edge", "run", "--home", str(self.home.path), "--sync-interval", "1"]
        self.spawn(command, before)

    def go(self, *, online: bool) -> None:
        """Give the next start of the agent a link to its hub, or none."""
        identity = self.home.identity()
        nowhere = "http://127.0.0.1:9"  # "discard": nobody listens there
        self.home.save_identity(replace(identity, url=self.hub.url if online else nowhere))

    def make(self, windows: int) -> None:
        for _ in range(windows):
            self.courier.put("window", self.ledger.make(self.version))

    def deliver(self, patience_s: float = PATIENCE_S) -> bool:
        """Hand over what was made while the agent lives; return whether all of it was answered "committed"."""
        deadline = time.monotonic() + patience_s
        done = False
        with suppress(OSError):  # the disk on which the agent's home lies has lost its power
            while not (done := self.courier.flush()) and self.alive and time.monotonic() < deadline:
                time.sleep(0.01)
        self.ledger.acknowledged = len(self.ledger.made) - self.courier.waiting
        return done

    def status(self) -> dict[str, Any]:
        """Ask the agent how it is; empty where it cannot be reached."""
        try:
            link = Link(self.home.socket)
        except UnreachableError:
            return {}
        try:
            return link.status()
        except UnreachableError:
            return {}
        finally:
            link.close()

    def until(self, ready: Callable[[dict[str, Any]], bool]) -> bool:
        """Wait until the agent's status is so; False where it dies first."""
        deadline = time.monotonic() + PATIENCE_S
        while self.alive:
            assert time.monotonic() < deadline, f"waited in vain; {self.status()} {self.text}"
            if (status := self.status()) and ready(status):
                return True
            time.sleep(0.02)
        return False

    def drain(self) -> None:
        """Deliver everything, and wait until the hub has it; an agent that has no link is started again with one."""
        assert self.deliver(), self.text
        if self.home.identity().url != self.hub.url:
            self.stop()
            self.go(online=True)
            self.start()
        assert self.until(lambda status: not status["backlog"] and status["synced_ns"]), self.text
        assert self.stop() == 0, self.text

    def verdict(self) -> Verdict:
        """Compare the hub with the ledger."""
        return self.ledger.verdict(self.hub.held(self.name), self.dropped("count"))

    def dropped(self, what: str) -> int:
        """Return how many windows ("count") or inferences it told to have dropped."""
        told = (event.get("windows", {}) for event in self.hub.events(self.name, "dropped"))
        return sum(int(windows[self.version][what]) for windows in told if self.version in windows)


class Client:
    """A device whose agent lives in the test, so that a hub can be asked as often as wanted."""

    def __init__(self, hub: Hub, folder: Path, *, seed: int = 0, bulky: bool = False) -> None:
        self.hub = hub
        self.name, self.version, token = hub.invite()
        self.home = Home(folder)
        join(self.home, token)
        self.ledger = Ledger(seed, bulky=bulky)
        self.open()

    def open(self) -> None:
        """Begin to work in its home."""
        self.agent = Agent(self.home, self.home.identity(), SystemClock(), None)

    def join_again(self) -> None:
        """Join under the same name, as whoever sets up a machine anew does after removing the device."""
        self.hub.ask("DELETE", f"/devices/{self.name}")
        join(self.home, self.hub.token(self.name))
        self.open()

    def cloned(self, folder: Path) -> "Client":
        """Return another machine whose disk is a copy of this one's, which must be closed."""
        twin = copy(self)
        shutil.copytree(self.home.path, folder)
        twin.home, twin.ledger = Home(folder), deepcopy(self.ledger)
        # It counts something else from now on.
        twin.ledger.reseed()
        twin.open()
        return twin

    def make(self, windows: int) -> None:
        for _ in range(windows):
            record = self.ledger.make(self.version)
            self.agent.answer(0, {"type": "record", "kind": "window"}, record)

    @property
    def backlog(self) -> int:
        return int(self.agent.status()["backlog"])

    def sync(self) -> bool:
        """Sync as long as the hub acknowledges something; return whether it acknowledged everything."""
        # A few without progress: one may only ask for the time, or hear what else the hub wants.
        idle = 0
        while self.backlog and idle < 4:
            before = self.backlog
            self.agent._uplink._sync()
            idle = 0 if self.backlog < before else idle + 1
        # What waits are windows, and they go oldest first.
        self.ledger.acknowledged = len(self.ledger.made) - self.backlog
        return not self.backlog

    def verdict(self) -> Verdict:
        return self.ledger.verdict(self.hub.held(self.name))

    def close(self) -> None:
        self.agent._spool.close()


# ── disks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Image:
    """An ext4 file system in a file, mounted through a loop device, whose power can be cut."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.file, self.mounted = folder / "image", folder / "disk"
        self.mounted.mkdir()
        with self.file.open("wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", str(self.file))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self.file), str(self.mounted))

    def unmount(self) -> None:
        _run("umount", str(self.mounted))

    def cut(self, process: Process) -> None:
        """Cut the power: what was not yet written to the disk never is, and the process is gone."""
        # Stopped first: a machine without power does not see its writes fail.
        process.signal(signal.SIGSTOP)
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(descriptor)
        process.kill()
        self.unmount()
        self.mount()


@contextmanager
def tmpfs(folder: Path, size: str) -> Generator[Path]:
    """Give a file system of so many bytes in memory."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "-l", str(folder))


def resized(folder: Path, size: str) -> None:
    """Give a file system in memory another size."""
    _run("mount", "-o", f"remount,size={size}", str(folder))


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


# ── what a machine must have ─────────────────────────────────────────────────────────────────────────────────────────


def lacking(*tools: str, root: bool = False) -> str | None:
    """Say what is missing of these tools and of root's rights; None where nothing is."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if root and os.geteuid() != 0:
        return "not root"
    return None
