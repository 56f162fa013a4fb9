"""When an assay looks: a plan of windows that has no holes.

A plan is start, start + interval, start + 2 × interval, …; each window is [t, t + width). A window is looked at when
it is complete. A window in which nothing happened is a window like any other: silence must be seen.
"""

import math
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

    def holding(self, time_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows that a moment lies in.

        >>> list(WindowPlan(0, 60, 30).holding(70))
        [(30, 90), (60, 120)]
        """
        return self.due(time_ns - self.width_ns + 1, time_ns + self.width_ns)

    def open_at(self, time_ns: int) -> int:
        """Return the start of the first window that has not ended yet.

        >>> WindowPlan(0, 60, 60).open_at(119), WindowPlan(0, 60, 60).open_at(120)
        (60, 120)
        """
        return self.start_ns + self.count(time_ns) * self.interval_ns

    def count(self, until_ns: int) -> int:
        """Return how many windows end at or before `until_ns`, without making them.

        >>> WindowPlan(0, 60, 30).count(125)
        3
        """
        return max(0, (until_ns - self.start_ns - self.width_ns) // self.interval_ns + 1)


@dataclass(frozen=True, slots=True)
class Succession:
    """Plans that follow one another, each from its own start on: those of an assay whose windows were changed.

    A plan starts where a window of the one before starts, none of whose earlier windows end later.

    >>> plans = Succession((WindowPlan(0, 60, 60), WindowPlan(120, 30, 30)))
    >>> list(plans.due(0, 180)), list(plans.due(0, 119)), plans.at(119), plans.at(120)
    ([(0, 60), (60, 120), (120, 150), (150, 180)], [(0, 60)], 0, 1)
    """

    plans: tuple[WindowPlan, ...]

    def at(self, start_ns: int) -> int:
        """Return the place of the plan whose windows begin at this time."""
        return max((i for i, plan in enumerate(self.plans) if plan.start_ns <= start_ns), default=0)

    def due(self, next_ns: int, until_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows that start at or after `next_ns` and end at or before `until_ns`, in time order."""
        for plan, ends_ns in self._in_turn():
            for start, end in plan.due(next_ns, until_ns):
                if start >= ends_ns:
                    break
                yield start, end
            if plan.open_at(until_ns) < ends_ns:
                return

    def holding(self, time_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows that a moment lies in."""
        for plan, ends_ns in self._in_turn():
            yield from ((start, end) for start, end in plan.holding(time_ns) if start < ends_ns)

    def open_at(self, time_ns: int) -> int:
        """Return the start of the first window that has not ended yet."""
        return next(open_ns for plan, ends_ns in self._in_turn() if (open_ns := plan.open_at(time_ns)) < ends_ns)

    def after(self, start_ns: int) -> int:
        """Return where the window after the one begins that begins at this time."""
        return start_ns + self.plans[self.at(start_ns)].interval_ns

    def _in_turn(self) -> Iterator[tuple[WindowPlan, float]]:
        """Yield each plan, and the time from which on windows begin that are the next plan's."""
        ends: list[float] = [plan.start_ns for plan in self.plans[1:]]
        return zip(self.plans, [*ends, math.inf], strict=True)


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
