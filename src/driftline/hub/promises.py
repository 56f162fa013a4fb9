"""What a promise needs of the hub: which baseline a window is compared with, and what calibrating it came to.

A baseline in time is calibrated on its own windows. Values without times are cut by how many inferences a device's
windows hold, the median of its first five that hold any; until five are known that may change, and what was answered
meanwhile is answered again. The same data thus gives the same evidence, whoever asks and in however many steps it came.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from driftline.assay.analysis import Baseline, Part
from driftline.assay.calibration import Calibration
from driftline.assay.promise import Stream, alarm_at, calibrated, calibration_of
from driftline.assay.window import WindowPlan
from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError
from driftline.hub.calendars import Calendars, Open
from driftline.hub.core import Hub
from driftline.hub.observations import cut
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Material, Place
from driftline.wire import api

# The first window of a device is seldom a whole one; the median of five is that of whole ones.
WINDOWS_TO_KNOW_N = 5


# ── how many inferences a window has ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Usual:
    """How many inferences a device's windows usually hold: of its first `windows`, which begin at `start_ns`."""

    n: int
    windows: int
    start_ns: int


def usual(hub: Hub, pipeline: str, device: str, plan: WindowPlan, until_ns: int, is_open: Open) -> Usual | None:
    """Return how many inferences the first windows hold that hold any, do not overlap and were heard; None before."""
    every_ns = plan.interval_ns * -(-plan.width_ns // plan.interval_ns)
    until_ns = min(until_ns, hub.telemetry.complete_until_ns(pipeline, device) or 0)
    counts: dict[int, int] = {}
    for start_s, inferences in hub.telemetry.inferences_from(pipeline, device, plan.start_ns // NS_PER_S):
        begins_ns = plan.start_ns + (start_s * NS_PER_S - plan.start_ns) // every_ns * every_ns
        ends_ns = begins_ns + plan.width_ns
        if ends_ns > until_ns or (begins_ns not in counts and len(counts) == WINDOWS_TO_KNOW_N):
            break
        if start_s * NS_PER_S < ends_ns and is_open(begins_ns, ends_ns):
            counts[begins_ns] = counts.get(begins_ns, 0) + inferences
    return Usual(_median(counts.values()), len(counts), min(counts)) if counts else None


def usual_of(
    hub: Hub,
    spec: api.AssaySpec,
    devices: Iterable[str],
    plan: WindowPlan | None,
    until_ns: int,
    calendars: Calendars,
) -> dict[str, Usual]:
    """Return how many inferences the windows of each device usually hold that is known: in its baseline's own time.

    Where the baseline is values, since the plan starts; a plan of None is one that has nothing to start from yet.
    """
    span = spec.baseline
    if span.values is None:
        width_ns = spec.windows.width_s * NS_PER_S
        plan, until_ns = WindowPlan(span.start_ns or 0, width_ns, width_ns), span.end_ns or 0
        devices = [span.device] if span.device else devices
    if plan is None:
        return {}
    ways = {device: usual(hub, spec.pipeline, device, plan, until_ns, calendars.open_on(device)) for device in devices}
    return {device: one for device, one in ways.items() if one is not None}


def _median(counts: Iterable[int]) -> int:
    return max(1, int(np.median([*counts])))


# ── calibrating ──────────────────────────────────────────────────────────────────────────────────────────────────


def calibrating(
    hub: Hub,
    spec: api.AssaySpec,
    promise: api.Promise,
    baseline: Baseline,
    material: Material,
    known: Usual | None,
    device: str,
    calendars: Calendars,
) -> Calibrating | None:
    """Calibrate one baseline, of what a device saw; None where nobody knows yet how many values a window has."""
    calendar = calendars.of(device)
    if material.values is not None and material.times_ns is None:
        return None if known is None else _calibrating(spec, promise, baseline, known.n, None, known.windows, calendar)
    if spec.baseline.values is not None:
        return _calibrating(spec, promise, baseline, 1, None, None, calendar)
    windows = own_windows(hub, spec, material, calendars.open_on(device))
    counts = [baseline.read(parts).count for _, parts in windows]
    n = _median([one for one in counts if one] or [1])
    return _calibrating(spec, promise, baseline, n, windows, None, calendar)


def seen_by(baseline: api.Baseline, place: Place) -> str:
    """Return the device that saw what a baseline holds; empty where it is values that serve all."""
    return baseline.device or place.device


def own_windows(hub: Hub, spec: api.AssaySpec, material: Material, is_open: Open) -> list[tuple[int, list[Part]]]:
    """Return a baseline in time cut into windows as wide as the assay's, each with its start."""
    width_ns = spec.windows.width_s * NS_PER_S
    plan = WindowPlan(spec.baseline.start_ns or 0, width_ns, width_ns)
    return cut(hub, material, list(plan.windows(spec.baseline.end_ns or 0)), is_open) or []


def windows_of(
    hub: Hub, spec: api.AssaySpec, material: Material, baseline: Baseline, n: int | None, is_open: Open
) -> tuple[list[int], list[list[Part]]]:
    """Return a baseline's own windows that hold values, and their starts; values without times are cut by n, in order.

    The latter have no starts. There is no window where nobody knows yet how many values one has.
    """
    if spec.baseline.values is None:
        found = [(start, parts) for start, parts in own_windows(hub, spec, material, is_open) if baseline.read(parts).n]
        return [start for start, _ in found], [parts for _, parts in found]
    values = material.values
    if values is None or not n or values.size < n:
        return [], []
    rows = values[: values.size // n * n].reshape(-1, n)
    return [], [[Part(values=row)] for row in rows if not np.isnan(row).all()]


def _calibrating(
    spec: api.AssaySpec,
    promise: api.Promise,
    baseline: Baseline,
    n: int,
    windows: Sequence[tuple[int, Sequence[Part]]] | None,
    known: int | None,
    calendar: api.Calendar,
) -> Calibrating:
    try:
        found = calibration_of(
            promise,
            baseline,
            n,
            None if windows is None else [parts for _, parts in windows],
            starts_ns=None if windows is None else [start for start, _ in windows],
            # Values without times have no hour; those that a device kept outlive a seasonal baseline of the others.
            season=None if windows is None else spec.baseline.season,
            calendar=calendar,
        )
    except InvalidInputError as error:
        return Calibrating(n, known, refused=str(error))
    return Calibrating(n, known, document=msgspec.json.encode(found.document()).decode())


def stream_of(baseline: Baseline, found: Calibrating | None) -> Stream | None:
    """Return the stream that a calibrated baseline makes; None where it is not calibrated."""
    if found is None or found.document is None:
        return None
    return Stream(baseline, Calibration.of(msgspec.json.decode(found.document)))


def described(found: Calibrating | None, level: float) -> api.Calibrated | None:
    """Return what calibrating came to as it travels."""
    if found is None:
        return None
    known = None if found.document is None else Calibration.of(msgspec.json.decode(found.document))
    return calibrated(known, found.refused, level)


# ── which baseline ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Footings:
    """What an assay's windows are compared with: its baselines by version, and what calibrating them came to.

    `valid_from` says from when each version is valid; `calibrations` are a device's own, or those of one that serves
    all.
    """

    valid_from: Mapping[int, int]
    places: Mapping[int, set[Place]]
    calibrations: Mapping[tuple[int, Place], Calibrating]

    def which(self, device: str, field: str, start_ns: int | None = None) -> tuple[int, Place] | None:
        """Return version and place of what a window is compared with, or of the newest; None where there is nothing."""
        for version in sorted(self.places, reverse=True):
            if start_ns is None or self.valid_from[version] <= start_ns:
                for place in (Place(device, field), Place(EVERY_DEVICE, field)):
                    if place in self.places[version]:
                        return version, place
        return None

    def calibrating(self, version: int, device: str, field: str) -> Calibrating | None:
        """Return what calibrating came to; None where it was not done yet."""
        own = self.calibrations.get((version, Place(device, field)))
        return own or self.calibrations.get((version, Place(EVERY_DEVICE, field)))

    def streams(self, devices: Iterable[str], fields: Iterable[str]) -> int:
        """Return how many streams share the promise: those that have a baseline which was not refused."""
        return sum(self._stands(device, field) for device in devices for field in fields)

    def _stands(self, device: str, field: str) -> bool:
        found = self.which(device, field)
        if found is None:
            return False
        known = self.calibrating(found[0], device, field)
        return known is None or known.refused is None


def level_of(spec: api.AssaySpec, footings: Footings, devices: Iterable[str]) -> float | None:
    """Return how much evidence makes an alarm; None under a fixed alarm."""
    if not isinstance(spec.alarm, api.Promise):
        return None
    return alarm_at(spec.alarm, spec.windows, footings.streams(devices, [one.field for one in spec.watched]))
