"""A promise kept for one device and field: its baseline calibrated, and what each window adds to the evidence.

The statistics are those of `driftline.assay.calibration` and `driftline.assay.evidence`; here they meet what an assay
asks and answers. The promise is the assay's, over all its streams (devices × fields) together; a stream's state goes
from window to window in time order. Windows that overlap are not independent: of a sliding assay's, every so many-th
that begins after the last counted one ended is counted, and the others show the evidence as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate, promise_health
from driftline.assay.categories import Categories, CategoryBaseline
from driftline.assay.evidence import WARNING, Answer, State, alarm_level, step
from driftline.assay.hours import OpeningHours
from driftline.assay.magnitude import Magnitude, weigh
from driftline.assay.observed import Observed, Part
from driftline.assay.season import zone_of
from driftline.assay.statistics import CategoryYardstick, Yardstick, yardstick_of
from driftline.assay.window import WindowPlan
from driftline.errors import InvalidInputError
from driftline.wire import api


@dataclass(frozen=True, slots=True)
class Memory:
    """What a stream remembers from window to window: its evidence, and how large the change is that it speaks of."""

    state: State
    magnitude: Magnitude = field(default_factory=Magnitude)

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; `Memory.of` reads it back, to the last digit."""
        return {"state": self.state.document(), "magnitude": self.magnitude.document()}

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Memory":
        """Read a document."""
        return Memory(State.of(document["state"]), Magnitude.of(document["magnitude"]))


@dataclass(frozen=True, eq=False)
class Stream:
    """One device and field under a promise."""

    baseline: BaselineData | CategoryBaseline
    calibration: Calibration

    @cached_property
    def yardstick(self) -> Yardstick | CategoryYardstick:
        """What its windows are measured by."""
        return yardstick_of(self.baseline, self.calibration.n)

    def begin(self) -> Memory:
        """Return the memory before the first window."""
        return Memory(State.start(self.calibration))

    def step(
        self,
        memory: Memory,
        analysis: api.Analysis,
        seen: Observed | Categories,
        alarm_at: float,
        *,
        min_count: int,
        min_effect: float | None = None,
    ) -> tuple[api.Analysis, Memory]:
        """Count a window that was answered already, as it was `seen`; one that nothing was heard of changes nothing.

        The answer gets its evidence, and its status from that: pure, so that late data is answered by stepping again.
        """
        if analysis.status == "Late":
            return analysis, memory
        # A baseline of numbers reads numbers, one of text reads text.
        measured: Any = self.yardstick.measured
        window, start_ns = measured(seen), analysis.start_ns
        state, answer = step(
            self.calibration, memory.state, window, alarm_at, min_count=max(1, min_count), start_ns=start_ns
        )
        magnitude, weighed = weigh(
            memory.magnitude,
            self.calibration,
            memory.state,
            window,
            answer,
            min_effect=min_effect,
            start_ns=start_ns,
        )
        after = Memory(state, magnitude)
        notes = [*analysis.notes, weighed.text] if weighed.text else analysis.notes
        evidence = _evidence(answer, self.calibration, after, min_effect)
        return msgspec.structs.replace(analysis, status=weighed.status, evidence=evidence, notes=notes), after

    def aside(
        self, memory: Memory, analysis: api.Analysis, alarm_at: float, *, min_effect: float | None = None
    ) -> api.Analysis:
        """Return the answer to a window that is not counted: its own score beside the evidence as it is."""
        if analysis.status == "Late":
            return analysis
        value, alarmed = math.fsum(memory.state.evidence), _alarmed(memory, min_effect)
        evidence = api.Evidence(
            value=value, alarm_at=alarm_at, kind=self.calibration.kind, alarmed=alarmed, counted=False
        )
        status = analysis.status
        if status == "Ok":
            status = "Alert" if alarmed else "Warning" if value >= WARNING * alarm_at else "Ok"
        return msgspec.structs.replace(analysis, status=status, evidence=evidence)


def _alarmed(memory: Memory, min_effect: float | None) -> bool:
    return memory.state.alarmed and (min_effect is None or memory.magnitude.reached)


def calibrated(calibration: Calibration | None, refused: str | None, alarm_at: float) -> api.Calibrated:
    """Describe what a promise rests on, or why it does not stand."""
    if calibration is None:
        return api.Calibrated(refused=refused or "the baseline could not be calibrated")
    return api.Calibrated(
        kind=calibration.kind,
        why=calibration.why,
        n=calibration.n,
        windows=calibration.windows,
        effective=calibration.effective,
        health=promise_health(calibration, alarm_at),
    )


def calibration_of(
    promise: api.Promise,
    baseline: BaselineData | CategoryBaseline,
    n: int,
    windows: Sequence[Sequence[Part]] | None,
    *,
    starts_ns: Sequence[int] | None = None,
    season: api.Season | None = None,
    calendar: api.Calendar | None = None,
) -> Calibration:
    """Calibrate a stream on its baseline's windows, in time order; None cuts the raw values in their order by n.

    With a `season` of the calendar's time zone windows are judged relative to what is usual at their time; `starts_ns`
    says when each of them begins.

    Raises:
        InvalidInputError: the baseline carries no promise; the message says how many windows it needs.
    """
    calendar = calendar or api.Calendar()
    return calibrate(
        baseline,
        n=n,
        windows=windows,
        seed=promise.seed,
        starts_ns=starts_ns,
        cycle=season,
        zone=calendar.time_zone or "UTC",
        hours=opening_hours(calendar),
    )


def opening_hours(calendar: api.Calendar) -> OpeningHours | None:
    """Return when devices work; None is always.

    Raises:
        InvalidInputError: not such hours, or no such time zone; the message says how they are written.
    """
    zone = calendar.time_zone or "UTC"
    zone_of(zone)
    return None if calendar.opening_hours is None else OpeningHours.parse(calendar.opening_hours, zone)


def is_counted(plan: WindowPlan, start_ns: int) -> bool:
    """Say whether the window that begins here is one of those that do not overlap.

    >>> plan = WindowPlan(0, width_ns=180, interval_ns=60)
    >>> [is_counted(plan, start) for start, _ in plan.windows(480)]
    [True, False, False, True, False, False]
    """
    every = -(-plan.width_ns // plan.interval_ns)
    return (start_ns - plan.start_ns) // plan.interval_ns % every == 0


def alarm_at(promise: api.Promise, windows: api.Windows, streams: int) -> float:
    """Return how much evidence makes an alarm, for each of so many streams under one promise.

    Raises:
        InvalidInputError: the promise is shorter than a window.
    """
    apart_s = windows.interval_s or windows.width_s
    interval_s = apart_s * -(-windows.width_s // apart_s)
    return alarm_level(max(1, streams), promise.false_alarm_every_s, interval_s)


def check_promise(promise: api.Promise, windows: api.Windows) -> None:
    """Refuse a promise that cannot be kept.

    Raises:
        InvalidInputError: it is no longer than a window, or the least effect is not a number of 0 or more.
    """
    alarm_at(promise, windows, 1)
    effect = promise.min_effect
    if effect is not None and not 0 <= effect < float("inf"):
        raise InvalidInputError(
            f"min_effect is {effect}; it is a shift in the baseline's standard deviations, 0 or more, such as 0.1"
        )


def _evidence(answer: Answer, calibration: Calibration, after: Memory, min_effect: float | None) -> api.Evidence:
    return api.Evidence(
        value=answer.evidence,
        alarm_at=answer.alarm_at,
        kind=calibration.kind,
        e=answer.e,
        residuals=dict(answer.residuals),
        p=dict(answer.p),
        alarmed=_alarmed(after, min_effect),
        resolved=answer.resolved,
    )
