"""When an assay looks: a plan of windows that has no holes.

A plan is start, start + interval, start + 2 × interval, …; each window is [t, t + width). A window is looked at when
it is complete. A window in which nothing happened is a window like any other: silence must be seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from driftline.clock import NS_PER_S, iso
from driftline.errors import InvalidInputError
from driftline.wire.api import Windows
from driftline.wire.device import BASE_WINDOW_S

BASE_WINDOW_NS = BASE_WINDOW_S * NS_PER_S


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Equal windows from `start_ns` on, one every `interval_ns`.

    >>> plan = WindowPlan(0, width_ns=60, interval_ns=30)
    >>> list(plan.windows(until_ns=125))
    [(0, 60), (30, 90), (60, 120)]
    """

    start_ns: int
    width_ns: int
    interval_ns: int

    def windows(self, until_ns: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every window that ends at or before `until_ns`, in time order."""
        return self.due(self.start_ns, until_ns)

    def due(self, next_ns: int, until_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows that start at or after `next_ns` and end at or before `until_ns`.

        >>> list(WindowPlan(0, 60, 60).due(next_ns=61, until_ns=240))
        [(120, 180), (180, 240)]
        """
        last_ns = self.start_ns + self.count(until_ns) * self.interval_ns
        for start in range(self.begin_from(next_ns), last_ns, self.interval_ns):
            yield start, start + self.width_ns

    def begin_from(self, time_ns: int) -> int:
        """Return the start of the first window that begins at a time or after it.

        >>> WindowPlan(0, 60, 60).begin_from(61), WindowPlan(0, 60, 60).begin_from(-5)
        (120, 0)
        """
        return self.start_ns + max(0, -(-(time_ns - self.start_ns) // self.interval_ns)) * self.interval_ns

    def count(self, until_ns: int) -> int:
        """Return how many windows end at or before `until_ns`, without making them.

        >>> WindowPlan(0, 60, 30).count(125)
        3
        """
        return max(0, (until_ns - self.start_ns - self.width_ns) // self.interval_ns + 1)


def plan_of(windows: Windows, first_inference_ns: int | None, *, rows: bool) -> WindowPlan:
    """Return the plan that an assay's windows ask for.

    Without a start of its own it begins with the first inference. The start is floored to a base window, because that
    is the finest a device counts; only where every row is known (`rows`) may it lie anywhere.

    >>> plan_of(Windows(width_s=180), 61 * NS_PER_S, rows=False).start_ns // NS_PER_S
    60

    Raises:
        InvalidInputError: a width or interval that devices do not count in, or nothing to start from.
    """
    check_windows(windows)
    start_ns = first_inference_ns if windows.start_ns is None else windows.start_ns
    if start_ns is None:
        raise InvalidInputError(
            "the windows have no start and the pipeline has seen no inference yet; run one, or give a start with "
            "window_builder().add_start(…)"
        )
    interval_s = windows.width_s if windows.interval_s is None else windows.interval_s
    start_ns = start_ns if rows else start_ns - start_ns % BASE_WINDOW_NS
    return WindowPlan(start_ns, windows.width_s * NS_PER_S, interval_s * NS_PER_S)


def check_windows(windows: Windows) -> None:
    """Refuse windows that no plan can have.

    Raises:
        InvalidInputError: the message says what would do.
    """
    _check_duration("width", windows.width_s)
    if windows.interval_s is not None:
        _check_duration("interval", windows.interval_s)
    if windows.start_ns is not None and windows.start_ns < 0:
        raise InvalidInputError(f"windows start in {iso(windows.start_ns)}, before 1970; give a later start")


def _check_duration(name: str, seconds: int) -> None:
    if seconds <= 0:
        raise InvalidInputError(f"the window {name} is {seconds} s; it must be longer than nothing, e.g. minutes=3")
    if seconds % BASE_WINDOW_S:
        below = seconds - seconds % BASE_WINDOW_S
        near = f"{below} or {below + BASE_WINDOW_S}" if below else str(BASE_WINDOW_S)
        raise InvalidInputError(
            f"the window {name} is {seconds} s, but devices count in windows of {BASE_WINDOW_S} s; "
            f"use a multiple of that, e.g. {near} s"
        )
