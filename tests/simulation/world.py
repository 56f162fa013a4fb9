"""Time, chance and a record of what happened: what everything in a simulation shares.

True time moves from one planned action to the next, all chance comes from one generator, and every step is written
into the trace: so a seed is a run, to the byte.
"""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from driftline.clock import NS_PER_S, iso, parse_iso

BEGIN_NS = parse_iso("2026-02-01T00:00:00+00:00")
DAY_S = 86_400
HOUR_S = 3600
WINDOW_S = HOUR_S
# The definition of a pipeline that a program observes: every number it is given is a field.
OBSERVED: dict[str, list[str]] = {"steps": [], "fields": [], "inputs": [], "outputs": []}


class World:
    """True time with what is planned in it. `show` gets each line of the trace."""

    def __init__(self, seed: int, show: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311  a run must be the same each time
        self.now_ns = BEGIN_NS
        self.counts: Counter[str] = Counter()
        self._show = show
        self._digest = hashlib.sha256()
        self._planned: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    @property
    def trace_hash(self) -> str:
        """Names everything that has happened so far, in its order."""
        return self._digest.hexdigest()

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        line = f"{(self.now_ns - BEGIN_NS) / 1e9:14.6f} {who:<10} {what}"
        self._digest.update(line.encode())
        if self._show is not None:
            self._show(f"{iso(self.now_ns)[:19]} {line}")

    def count(self, what: str, by: int = 1) -> None:
        """Count a fault, or what came of it."""
        self.counts[what] += by

    def later(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Plan an action."""
        self._number += 1
        at_ns = self.now_ns + max(0, int(seconds * NS_PER_S))
        heapq.heappush(self._planned, (at_ns, self._number, act, arguments))

    def run_until(self, end_ns: int) -> None:
        """Let time pass, and with it what is planned."""
        while self._planned and self._planned[0][0] <= end_ns:
            self.now_ns, _, act, arguments = heapq.heappop(self._planned)
            act(*arguments)
        self.now_ns = end_ns

    def name(self) -> str:
        """Return a name that no other thing of this run has, such as an epoch's."""
        return f"{self.rng.getrandbits(64):016x}"


class SimulatedClock:
    """One boot's clocks: the steady one begins at 0 and gains `ppm`, the wall clock shows what it was set to."""

    banner: str | None = None

    def __init__(self, world: World, boot: str, ppm: float, wall_ns: int) -> None:
        self.boot = boot
        self.rate = 1 + ppm * 1e-6
        self._world = world
        self._booted_ns = world.now_ns
        self._offset_ns = wall_ns
        # It is looked at many times before time goes on.
        self._seen_ns, self._steady_ns = world.now_ns, 0

    def steady_ns(self) -> int:
        """See `Clock`."""
        now_ns = self._world.now_ns
        if now_ns != self._seen_ns:
            self._seen_ns, self._steady_ns = now_ns, int((now_ns - self._booted_ns) * self.rate)
        return self._steady_ns

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._offset_ns + self.steady_ns()

    def wait_s(self, until_ns: int) -> float:
        """See `Clock`."""
        return max(0.0, (until_ns - self.now_ns()) / NS_PER_S)

    def true_ns(self, steady_ns: int) -> int:
        """Return the true time at which the steady clock shows this."""
        return self._booted_ns + int(steady_ns / self.rate)

    def set(self, wall_ns: int) -> None:
        """Let somebody set the wall clock."""
        self._offset_ns = wall_ns - self.steady_ns()
