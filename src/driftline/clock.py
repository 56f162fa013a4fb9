"""The one place that knows what time it is, and the only reader of `DRIFTLINE_CLOCK`.

Windows, schedules and sync follow a `Clock`; timeouts, leases, TLS and tokens use real time. For demos and
tests time can begin in the past and run fast until it catches up with the present:

    DRIFTLINE_CLOCK='2026-01-01T09:00:00+00:00 x60'                  starts when the first process reads it
    DRIFTLINE_CLOCK='2026-01-01T09:00:00+00:00 x60 @1767261600.25'   starts at that real instant (Unix seconds)

A process that reads the first form writes the second into its own environment, so that its children share the clock.

Wall clocks are set, forwards and back; the **steady** clock beside it only ever goes on, but knows nothing of the year
and begins anew with each **boot**. What the one leads the other by tells when the wall clock was set.
"""

import os
import re
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

from driftline.errors import InvalidInputError

NS_PER_S = 1_000_000_000
_YEAR_S = 365.25 * 86_400
VARIABLE = "DRIFTLINE_CLOCK"
_FORM = re.compile(r"^(?P<start>\S+)\s+x(?P<factor>\d+(?:\.\d+)?)(?:\s+@(?P<anchor>\d+(?:\.\d+)?))?$")


class Clock(Protocol):
    """Tells wall time in nanoseconds since 1970 UTC, and how long to wait for a moment to come."""

    def now_ns(self) -> int:
        """Return the wall time, nanoseconds since 1970 UTC."""
        ...

    def steady_ns(self) -> int:
        """Return nanoseconds that only ever grow, asleep or awake, while the same boot lasts."""
        ...

    @property
    def boot(self) -> str:
        """Name the boot that `steady_ns` counts in; '' where its time is not to be corrected or cannot be."""
        ...

    def wait_s(self, until_ns: int) -> float:
        """Return the real seconds from now until the clock shows `until_ns`; 0.0 if it has passed."""
        ...

    @property
    def banner(self) -> str | None:
        """A sentence that says this is not real time, or None."""
        ...


class SystemClock:
    """The machine's own wall clock."""

    banner: str | None = None

    def now_ns(self) -> int:
        """Return the machine's wall time."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """Return the time since the machine was switched on, with the time it slept where the system counts that."""
        return time.clock_gettime_ns(_STEADY)

    @property
    def boot(self) -> str:
        """Return the kernel's name for this boot; '' on a system that names none."""
        return _boot()

    def wait_s(self, until_ns: int) -> float:
        """Return the seconds until then."""
        return max(0.0, (until_ns - time.time_ns()) / NS_PER_S)


class FastClock:
    """Begins in the past, runs `factor` times as fast, and falls into step when it reaches the present.

    With start S, factor F and real anchor A it shows S + F (t − A) at real time t, and t itself from the moment
    both are equal. Hub and devices share it, so nobody corrects anybody: it is its own steady clock, and its boots
    have no name.
    """

    def __init__(self, start_ns: int, factor: float, anchor_ns: int) -> None:
        if factor < 1:
            raise InvalidInputError(
                f"{VARIABLE}: the factor is {factor:g}; time can run fast (x1 and more), not slowly"
            )
        if start_ns > anchor_ns:
            raise InvalidInputError(f"{VARIABLE}: the start lies in the future; fast time begins in the past")
        self.start_ns = start_ns
        self.factor = factor
        self.anchor_ns = anchor_ns

    def now_ns(self) -> int:
        """Return the fast time, or the present once it has caught up."""
        real_ns = time.time_ns()
        return min(real_ns, self._fast_ns(real_ns))

    def steady_ns(self) -> int:
        """Return the time it shows: it is nowhere behind or ahead of itself."""
        return self.now_ns()

    @property
    def boot(self) -> str:
        """Return ''."""
        return ""

    def _fast_ns(self, real_ns: int) -> int:
        return self.start_ns + int((real_ns - self.anchor_ns) * self.factor)

    def wait_s(self, until_ns: int) -> float:
        """Return the real seconds until the clock shows `until_ns`."""
        fast_real_ns = self.anchor_ns + (until_ns - self.start_ns) / self.factor
        return max(0.0, (max(fast_real_ns, until_ns) - time.time_ns()) / NS_PER_S)

    @property
    def banner(self) -> str | None:
        """Say how fast, until the present is reached."""
        real_ns = time.time_ns()
        if self._fast_ns(real_ns) >= real_ns:
            return None
        return f"fast time: {iso(self.now_ns())}, running {self.factor:g}× ({VARIABLE})"

    def __str__(self) -> str:
        """Return the value of `DRIFTLINE_CLOCK` that makes this clock in another process."""
        return f"{iso(self.start_ns)} x{self.factor:g} @{self.anchor_ns / NS_PER_S:.6f}"


class ManualClock:
    """Moves when told to: for tests and simulations."""

    banner: str | None = None

    def __init__(self, now_ns: int = 0, *, boot: str = "") -> None:
        self.boot = boot
        self._now_ns = now_ns
        self._steady_ns = 0

    def now_ns(self) -> int:
        """Return what was last set."""
        return self._now_ns

    def steady_ns(self) -> int:
        """Return how far `advance` went."""
        return self._steady_ns

    def wait_s(self, until_ns: int) -> float:
        """Return the seconds that `advance` would have to add."""
        return max(0.0, (until_ns - self._now_ns) / NS_PER_S)

    def set(self, now_ns: int) -> None:
        """Jump, backwards too, while no time passes: device clocks do."""
        self._now_ns = now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ns += int(seconds * NS_PER_S)
        self._steady_ns += int(seconds * NS_PER_S)


# Linux and the BSDs count the time a machine sleeps in a clock of its own.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def from_environment(environment: MutableMapping[str, str] = os.environ) -> Clock:
    """Return the clock that `DRIFTLINE_CLOCK` asks for, the system's where it is unset.

    Raises:
        InvalidInputError: the variable is not of the form `<ISO start> x<factor> [@<real Unix seconds>]`.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return SystemClock()
    match = _FORM.match(text)
    if match is None:
        raise InvalidInputError(f"{VARIABLE}={text!r} is not of the form '2026-01-01T09:00:00+00:00 x60'")
    anchor = match["anchor"]
    anchor_ns = time.time_ns() if anchor is None else int(float(anchor) * NS_PER_S)
    clock = FastClock(parse_iso(match["start"]), float(match["factor"]), anchor_ns)
    environment[VARIABLE] = str(clock)
    return clock


def iso(time_ns: int) -> str:
    """Write a time as ISO 8601 UTC with offset; the one format of every page, file and table.

    >>> iso(1_767_261_600_000_000_000)
    '2026-01-01T10:00:00+00:00'
    """
    whole_s, rest_ns = divmod(time_ns, NS_PER_S)
    return datetime.fromtimestamp(whole_s, UTC).replace(microsecond=rest_ns // 1000).isoformat()


def seconds_text(seconds: float) -> str:
    """Say a time span in its two largest units.

    >>> seconds_text(75), seconds_text(11_520), seconds_text(56 * 365.25 * 86_400), seconds_text(0.25)
    ('1 min 15 s', '3 h 12 min', '56 years', '0.2 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds >= 2 * _YEAR_S:
        return f"{seconds / _YEAR_S:.0f} years"
    left, words = round(seconds), list[str]()
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            words.append(f"{count} {'day' if unit == 'days' and count == 1 else unit}")
    return " ".join(words[:2])


def parse_iso(text: str) -> int:
    """Read ISO 8601; without an offset it is UTC.

    >>> parse_iso("2026-01-01T10:00:00") == parse_iso("2026-01-01T11:00:00+01:00") == 1_767_261_600 * NS_PER_S
    True

    Raises:
        InvalidInputError: not a time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"{text!r} is not an ISO 8601 time such as 2026-01-01T10:00:00+00:00") from None
    return to_ns(moment)


def to_ns(moment: datetime) -> int:
    """Return nanoseconds since 1970 UTC; a naive datetime is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * NS_PER_S + moment.microsecond * 1000
