"""What a process with somebody else's model in it may use, and how it says afterwards that this was too little.

Memory is held by `RLIMIT_DATA`, which counts what a process writes to; the address space (`RLIMIT_AS`) would count the
gigabytes that numpy and onnxruntime reserve and never touch.
"""

import math
import os
import random
import resource
import signal
import time
from dataclasses import asdict, dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU cores, bytes of memory, and seconds of CPU time; None is no limit.

    Fractions of a core cannot be held from inside a process: `cpus` is rounded up to whole cores.
    """

    cpus: float | None = None
    memory_bytes: float | None = None
    cpu_s: float | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The limits as they travel to the process they hold."""
        return asdict(self)

    @property
    def threads(self) -> int:
        """How many threads a numeric library should start."""
        return max(1, math.ceil(self.cpus or 1))

    def apply(self) -> None:
        """Hold this process and its children from here on; a crash leaves no core file on the device."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self.memory_bytes is not None:
            _lower(resource.RLIMIT_DATA, int(self.memory_bytes), int(self.memory_bytes))
        if self.cpu_s is not None:
            until_s = math.ceil(time.process_time() + self.cpu_s)
            # The soft limit sends SIGXCPU, which says why; the hard one, a second later, cannot be caught.
            _lower(resource.RLIMIT_CPU, until_s, until_s + 1)
        if self.cpus is not None and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            # Which cores does not matter, but two models should not share one by habit.
            os.sched_setaffinity(0, random.sample(cores, min(len(cores), self.threads)))

    def ending(self, returncode: int) -> str:
        """Say why a process under these limits ended."""
        if returncode == -signal.SIGXCPU:
            return f"it used more than {self.cpu_s or 0:g} s of CPU time"
        if returncode == -signal.SIGKILL:
            return "it was killed, probably because memory ran out"
        if returncode < 0:
            return f"it crashed ({signal.Signals(-returncode).name})"
        return f"its process ended with code {returncode}"

    @property
    def words(self) -> str:
        """By what `apply` holds a process, "" where nothing is limited."""
        parts = [] if self.cpus is None else [f"cpus {self.cpus:g}: affinity"]
        if self.memory_bytes is not None:
            parts.append(f"memory {self.memory_bytes / MIB:.0f} MiB: limit on data (RLIMIT_DATA)")
        return ", ".join(parts)

    @property
    def memory_text(self) -> str:
        """The memory limit as messages show it."""
        return "no limit" if self.memory_bytes is None else f"a limit of {self.memory_bytes / MIB:.0f} MiB"


def _lower(kind: int, soft: int, hard: int) -> None:
    """Lower a limit; one that is lower already stays."""
    before = resource.getrlimit(kind)[1]
    if before != resource.RLIM_INFINITY:
        soft, hard = min(soft, before), min(hard, before)
    resource.setrlimit(kind, (soft, hard))
