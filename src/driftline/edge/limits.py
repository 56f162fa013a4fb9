"""Holds the worker to the CPU and memory its deployments were given, and says in words by what.

A control group holds exactly, child processes included; it is used where somebody delegated one to this device: a
systemd unit with `Delegate=yes`, or a group that belongs to the device's own user. A group that merely can be written,
as root can write every one, is somebody else's and is left alone.

Without one, the process limits itself:

- **memory** by RLIMIT_DATA. RLIMIT_AS counts address space, of which onnxruntime, OpenCV and malloc's arenas reserve
  far more than they touch (half a gigabyte after their imports, measured, for 60 MB resident), so a limit that sounds
  generous stops threads from starting. RLIMIT_DATA counts private writable memory. What of that was mapped and never
  touched when the limit is set is added on top, so that the limit is about memory in use.
- **CPU** by affinity to as many cores, rounded up: a fraction of a core needs a control group, and the text says so.

Where the kernel ends a worker for lack of memory, the agent learns it from the same groups (`MemoryDeaths`).

All pipelines of a device share one worker, so their limits add up; one without a limit leaves the worker without.
"""

import contextlib
import math
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc/self")
PREFIX = "driftline-"
MIB = 1024 * 1024
# Below what it uses already a process cannot be held; this much more lets it answer at all.
HEADROOM_BYTES = 64 * MIB
QUOTA_PERIOD_US = 100_000
# Version 1 writes "no limit" as the largest number of pages.
UNLIMITED_BYTES = 1 << 60
# Real seconds between two looks at how many processes the kernel has ended.
WATCH_S = 1.0
# Names under which systemd marks a group as handed over; the second is for groups of the system's own manager.
DELEGATION_MARKS = ("user.delegate", "trusted.delegate")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use; None is no limit. `cpus` is a number of cores and may be a fraction."""

    cpus: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def of(cls, wanted: Iterable[Mapping[str, float]]) -> "Limits":
        """Add up the limits of all that runs in one worker.

        >>> Limits.of([{"cpus": 0.5, "memory_bytes": 1024}, {"cpus": 1}])
        Limits(cpus=1.5, memory_bytes=None)
        """
        every = list(wanted)
        cpus = [one["cpus"] for one in every if one.get("cpus")]
        memory = [one["memory_bytes"] for one in every if one.get("memory_bytes")]
        return cls(
            sum(cpus) if every and len(cpus) == len(every) else None,
            int(sum(memory)) if every and len(memory) == len(every) else None,
        )

    @property
    def threads(self) -> int:
        """How many threads an inference may use: whole cores, one without a limit."""
        return max(1, int(self.cpus or 1))


@dataclass(frozen=True, slots=True)
class Held:
    """What holds this process now: `cpus` and `memory` in words, empty where unlimited.

    `whole` says that control groups hold everything, so that child processes need no limit of their own.
    """

    cpus: str = ""
    memory: str = ""
    whole: bool = False

    def words(self, wanted: Mapping[str, float]) -> str:
        """Say by what one pipeline's limits are held.

        >>> Held(cpus="cpus 1: cgroup v2 quota").words({"cpus": 1, "memory_bytes": 1048576})
        'cpus 1: cgroup v2 quota; memory 1 MiB: not held, another pipeline of this device has no such limit'
        """
        not_held = "not held, another pipeline of this device has no such limit"
        parts: list[str] = []
        if wanted.get("cpus"):
            parts.append(self.cpus or f"cpus {wanted['cpus']:g}: {not_held}")
        if wanted.get("memory_bytes"):
            parts.append(self.memory or f"memory {_mib(int(wanted['memory_bytes']))}: {not_held}")
        return "; ".join(parts)


class Holder:
    """Holds this process to limits that may change while it runs."""

    def __init__(self, groups: "Groups | None" = None) -> None:
        self._groups = groups or Groups()
        # What the process was given from outside; lifting a limit returns to it.
        self._cores = _cores()
        self._pinned = self._cores
        self._random = random.SystemRandom()
        self._data_soft = resource.getrlimit(resource.RLIMIT_DATA)[0]

    def hold(self, limits: Limits) -> Held:
        """Hold the process, and what it starts from now on, to `limits`."""
        group_cpus = self._groups.hold_cpus(limits.cpus)
        group_memory = self._groups.hold_memory(limits.memory_bytes)
        cpus = group_cpus or self._pin(limits.cpus)
        memory = group_memory or self._limit_data(limits.memory_bytes)
        whole = bool(group_cpus or group_memory) and (cpus, memory) == (group_cpus, group_memory)
        return Held(cpus, memory, whole)

    def _pin(self, cpus: float | None) -> str:
        if sys.platform != "linux":
            return "" if cpus is None else f"cpus {cpus:g}: not held, this system knows no affinity"
        count = len(self._cores) if cpus is None else min(len(self._cores), math.ceil(cpus))
        if len(self._pinned) != count:
            # Any of them: the workers of several devices on one machine should not all crowd on the first.
            self._pinned = set(self._random.sample(sorted(self._cores), count))
            _set_affinity(self._pinned)
        if cpus is None:
            return ""
        fraction = "; a fraction needs a delegated cgroup" if cpus < count else ""
        return f"cpus {cpus:g}: affinity to {count} of {len(self._cores)} cores{fraction}"

    def _limit_data(self, memory_bytes: int | None) -> str:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if memory_bytes is None:
            resource.setrlimit(resource.RLIMIT_DATA, (self._data_soft, hard))
            return ""
        used = _memory()
        if used is None:
            return f"memory {_mib(memory_bytes)}: not held, this system has no limit that fits"
        mapped, touched = used
        granted = max(memory_bytes, touched + HEADROOM_BYTES)
        limit = mapped - touched + granted
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        raised = "" if granted == memory_bytes else f", raised to the {_mib(granted)} that the worker itself needs"
        return f"memory {_mib(memory_bytes)}: limit on data (RLIMIT_DATA){raised}"


class Groups:
    """The control groups delegated to this process, v2 or v1; every `hold_…` returns "" where there is none.

    A v2 group with processes in it cannot limit its children, so the agent and its worker each move into a child.
    """

    def __init__(
        self,
        root: Path = CGROUP_ROOT,
        proc: Path = PROC,
        delegated: "Callable[[Path], bool] | None" = None,
    ) -> None:
        self._root = root
        self._delegated = delegated or is_delegated
        self._found: dict[str, tuple[str, Path] | None] = {}
        try:
            self._lines = (proc / "cgroup").read_text().splitlines()
        except OSError:
            self._lines = []

    def hold_cpus(self, cpus: float | None) -> str:
        """Set a quota of CPU time; return by what."""
        found = self._group("cpu") if cpus is not None or "cpu" in self._found else None
        if found is None:
            return ""
        version, group = found
        quota = -1 if cpus is None else int(cpus * QUOTA_PERIOD_US)
        if version == "v2":
            done = _write(group / "cpu.max", f"{'max' if cpus is None else quota} {QUOTA_PERIOD_US}")
        else:
            period = _write(group / "cpu.cfs_period_us", str(QUOTA_PERIOD_US))
            done = period and _write(group / "cpu.cfs_quota_us", str(quota))
        return f"cpus {cpus:g}: cgroup {version} quota" if done and cpus is not None else ""

    def hold_memory(self, memory_bytes: int | None) -> str:
        """Set a ceiling on memory; return by what."""
        found = self._group("memory") if memory_bytes is not None or "memory" in self._found else None
        if found is None:
            return ""
        version, group = found
        name = "memory.max" if version == "v2" else "memory.limit_in_bytes"
        unlimited = "max" if version == "v2" else "-1"
        done = _write(group / name, unlimited if memory_bytes is None else str(memory_bytes))
        return f"memory {_mib(memory_bytes)}: cgroup {version}" if done and memory_bytes is not None else ""

    def _group(self, controller: str) -> tuple[str, Path] | None:
        if controller not in self._found:
            self._found[controller] = self._join(controller)
        return self._found[controller]

    def _join(self, controller: str) -> tuple[str, Path] | None:
        for line in self._lines:
            _, names, path = line.split(":", 2)
            v2 = not names
            base = self._root / ("" if v2 else names) / path.lstrip("/")
            if base.name.startswith(PREFIX):
                base = base.parent  # for another controller, or by the worker before this one, it was moved there
            if not base.is_dir() or not self._delegated(base):
                continue
            if v2 and (group := _child_v2(base, controller)) is not None:
                return "v2", group
            if controller in names.split(",") and (group := _child(base, "worker", os.getpid())) is not None:
                return "v1", group
        return None


class MemoryDeaths:
    """Knows whether the kernel has ended a process for lack of memory: its control group counts that, v2 or v1.

    A process in the root group, which counts nothing, is told by the machine's own count, of the last second.
    """

    def __init__(
        self, root: Path = CGROUP_ROOT, proc: Path = Path("/proc"), real_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._proc = proc
        self._real_s = real_s
        self._counts: dict[Path, int] = {}
        self._limits: dict[Path, int] = {}
        self._again_s = 0.0

    def watch(self, pid: int) -> None:
        """Take note of the counts while this process lives; once a second is enough."""
        if self._real_s() < self._again_s:
            return
        self._again_s = self._real_s() + WATCH_S
        files = self._files(pid) or [self._proc / "vmstat"]
        counts = {file: _memory_deaths(file) for file in files}
        self._counts = {file: count for file, count in counts.items() if count is not None}
        limits = {file: _memory_limit(file.parent) for file in self._counts}
        self._limits = {file: limit for file, limit in limits.items() if limit is not None}

    def why(self) -> str | None:
        """Say why the process that was watched was ended, None where it was not for lack of memory."""
        self._again_s = 0.0
        for file, before in self._counts.items():
            if (_memory_deaths(file) or before) > before:
                limit = self._limits.get(file)
                held = "the machine has no more" if limit is None else f"it may use {_mib(limit)}"
                return (
                    f"needed more memory than there is and was ended by the kernel ({held}); "
                    "raise the memory limit of its deployment, or run less on this device"
                )
        return None

    def _files(self, pid: int) -> list[Path]:
        """Return the files in which this process's groups count; the root group has none."""
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return []
        files: list[Path] = []
        for line in lines:
            _, names, path = line.split(":", 2)
            if path == "/" or (names and "memory" not in names.split(",")):
                continue
            file = "memory.oom_control" if names else "memory.events"
            files.append(self._root / names / path.lstrip("/") / file)
        return [file for file in files if _memory_deaths(file) is not None]


def _memory_deaths(file: Path) -> int | None:
    """Return how many processes the kernel has ended, by a file of lines `oom_kill 3`; None where it does not say."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(one[1]) for one in words if len(one) == 2 and one[0] == "oom_kill"), None)


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limit = int((group / name).read_text())
            return limit if limit < UNLIMITED_BYTES else None
    return None


def is_delegated(group: Path) -> bool:
    """Say whether a control group was handed to this process, and is not only within its reach."""
    for mark in DELEGATION_MARKS:
        try:
            if os.getxattr(group, mark) == b"1":
                return True
        except (OSError, AttributeError):
            continue
    return os.getuid() != 0 and group.stat().st_uid == os.getuid()


def _child_v2(base: Path, controller: str) -> Path | None:
    try:
        if controller not in (base / "cgroup.controllers").read_text().split():
            return None
    except OSError:
        return None
    group = _child(base, "worker", os.getpid())
    if group is None or _child(base, "agent", os.getppid()) is None:
        return None
    return group if _write(base / "cgroup.subtree_control", f"+{controller}") else None


def _child(base: Path, role: str, process: int) -> Path | None:
    """Move a process into a group of its own; groups that earlier processes left empty are removed."""
    group = base / f"{PREFIX}{role}-{process}"
    try:
        for left in base.glob(f"{PREFIX}{role}-*"):
            if left != group:
                with contextlib.suppress(OSError):  # the kernel refuses while processes are in it
                    left.rmdir()
        group.mkdir(exist_ok=True)
    except OSError:
        return None
    return group if _write(group / "cgroup.procs", str(process)) else None


def _write(file: Path, text: str) -> bool:
    try:
        file.write_text(text)
    except OSError:
        return False  # the caller falls back, and says what holds instead
    return True


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def _set_affinity(cores: set[int]) -> None:
    # Each thread has its own affinity, and libraries have started some already; new ones inherit.
    for thread in (PROC / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def _memory() -> tuple[int, int] | None:
    """Return the bytes of private writable memory this process has mapped, and those it uses."""
    try:
        lines = (PROC / "status").read_text().splitlines()
    except OSError:
        return None
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    if "VmData" not in kib:
        return None
    touched = kib.get("RssAnon", kib.get("VmRSS", 0))
    return kib["VmData"] * 1024, min(touched, kib["VmData"]) * 1024


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
