"""An assay's question made definite: checked, its fields found, its devices and baselines named."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftline.assay.analysis import Baseline, check, check_field, describe, fixed_alarm_text
from driftline.assay.own_alarms import OwnAlarms, own_alarms
from driftline.assay.promise import opening_hours
from driftline.assay.window import WindowPlan
from driftline.clock import iso
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import calendars, fleet, grids, registry, vectors
from driftline.hub.calendars import Calendars
from driftline.hub.core import Hub
from driftline.hub.observations import Target, baseline_of, material_of, seen
from driftline.hub.promises import Footings, calibrating, described, level_of, seen_by, usual_of, windows_of
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Material, Place
from driftline.pipeline.iopath import ResolvedField, resolver
from driftline.pipeline.projection import Projection
from driftline.wire import api

# The own windows of so many devices are scored for a note: those whose windows say least, at some 10 ms each.
DEVICES_WEIGHED_MAX = 20


@dataclass(frozen=True)
class Question:
    """A spec with its fields found; `materials` and `baselines` are a device's own, or one that serves all.

    `projections` are those that the first assay on a vector makes; they are kept with it. `calendars` are those that
    the devices have now.
    """

    spec: api.AssaySpec
    targets: Mapping[str, Target]
    devices: Sequence[str]
    materials: Mapping[Place, Material]
    baselines: Mapping[Place, Baseline]
    notes: Sequence[str]
    projections: Mapping[str, Projection]
    calendars: Calendars

    @property
    def pipeline(self) -> str:
        """The pipeline's id."""
        return self.spec.pipeline

    def stats(self, calibrated: Mapping[Place, api.Calibrated] | None = None) -> list[api.BaselineStats]:
        """Describe each baseline; device None is one that serves all."""
        watched = {one.field: one for one in self.spec.watched}
        span = self.spec.baseline
        found: list[api.BaselineStats] = []
        for place, data in sorted(self.baselines.items()):
            one = watched[place.field]
            device = place.device or None
            stats = describe(self.spec, one, data, device=device, start_ns=span.start_ns, end_ns=span.end_ns)
            stats.calibrated = (calibrated or {}).get(place)
            found.append(stats)
        return found


def question(hub: Hub, workspace: str, spec: api.AssaySpec, *, renews: bool = False) -> Question:
    """Make a spec definite; where its baseline `renews` another, whoever gave nothing for it keeps the other one.

    Raises:
        InvalidInputError: a threshold, window, bin or time that cannot be, a field the pipeline does not have, or a
            baseline without values.
        EntityNotFoundError: no such pipeline or device in this workspace.
    """
    check_asked(spec)
    pipeline = registry.pipeline(hub, spec.pipeline)
    if pipeline.workspace != workspace:
        raise EntityNotFoundError(f"pipeline {pipeline.name!r} belongs to another workspace; select that one first")
    definition = pipeline.versions[0].definition
    whole = vectors.expanded(hub, pipeline.id, definition, spec)
    spec = whole.spec
    _check_baseline(spec.baseline, hub.now_ns())
    find = resolver(definition)
    found = [find(one.iopath or one.field) for one in spec.watched]
    for field in found:
        check_field(spec.summarizer, field.key, field.type)
    spec = _canonical(spec, found, lambda text: find(text).key)
    targets = {field.key: Target(pipeline.id, pipeline.name, field.key, field.type) for field in found}
    devices = _devices(hub, spec, pipeline.id)
    # Before the baseline is looked for: where a field was not recorded, there will be one to take later.
    notes = [
        f"{field.key} was not recorded so far; it is from now on, on every device that runs {pipeline.name}"
        for field in found
        if not field.default and not field.part and grids.add_extra_field(hub, pipeline.id, field.key)
    ]
    notes += [
        f"{key} was not recorded as a whole so far; a saved assay records what is made of it from then on, on every "
        f"device that runs {pipeline.name}"
        for key in whole.made
    ]
    materials, silent = _materials(hub, spec.baseline, targets, devices, notes, renews=renews)
    baselines = {
        place: baseline_of(hub, material, targets[place.field].field_type) for place, material in materials.items()
    }
    present = calendars.now(hub, workspace, spec.calendar)
    return Question(spec, targets, devices, materials, baselines, [*notes, *silent], whole.made, present)


def check_asked(spec: api.AssaySpec) -> None:
    """Refuse what no assay can ask, whatever its pipeline.

    Raises:
        InvalidInputError: a threshold, window, bin, season or opening hours that cannot be.
    """
    check(spec)
    opening_hours(spec.calendar)
    _check_season(spec)


def _canonical(spec: api.AssaySpec, found: Sequence[ResolvedField], key_of: Callable[[str], str]) -> api.AssaySpec:
    """Return a spec that names its fields, and those of its baseline's values, by their keys."""
    watched = [
        api.Watched(field=field.key, iopath=one.iopath or field.key)
        for one, field in zip(spec.watched, found, strict=True)
    ]
    baseline = spec.baseline
    if baseline.values is not None:
        values = {key_of(text): numbers for text, numbers in baseline.values.items()}
        _check_values(values, {field.key: field.type for field in found})
        baseline = msgspec.structs.replace(baseline, values=values)
    spec = msgspec.structs.replace(spec, watched=watched, baseline=baseline)
    # Two spellings of one field show only now.
    check(spec)
    return spec


def _check_baseline(baseline: api.Baseline, now_ns: int) -> None:
    start_ns, end_ns = baseline.start_ns, baseline.end_ns
    if baseline.values is not None:
        if start_ns is not None or end_ns is not None or baseline.device is not None:
            raise InvalidInputError("a baseline is either values or a range of time; give baseline_data or dates")
        if baseline.season is not None:
            raise InvalidInputError(
                "a seasonal baseline is one in time, and values do not say when they came; give dates, or no season"
            )
        return
    if start_ns is None or end_ns is None:
        raise InvalidInputError(
            "an assay needs a baseline: values (baseline_data), or a range of time (baseline_start and baseline_end)"
        )
    if start_ns >= end_ns:
        raise InvalidInputError(
            f"the baseline ends at {iso(end_ns)}, not after its start {iso(start_ns)}; exchange the two"
        )
    if end_ns > now_ns:
        raise InvalidInputError(
            f"the baseline ends at {iso(end_ns)}, which is still to come (it is {iso(now_ns)}); end it in the past"
        )


def _check_season(spec: api.AssaySpec) -> None:
    # Evidence knows what is usual at an hour; a score is against the whole baseline, by day as by night.
    if spec.baseline.season is not None and isinstance(spec.alarm, api.Fixed):
        raise InvalidInputError(
            "a season needs a promise: a fixed threshold judges the score, which is against the whole baseline at any "
            "hour; give alarm=driftline.Promise('30 days'), or leave the season out"
        )


def _check_values(values: Mapping[str, Sequence[float | str | None]], fields: Mapping[str, str]) -> None:
    missing = [field for field in fields if field not in values]
    if missing:
        raise InvalidInputError(
            f"the baseline has no values of {', '.join(missing)}; give some for each of the {len(fields)} watched "
            "fields, or a range of time"
        )
    others = sorted(set(values) - set(fields))
    if others:
        raise InvalidInputError(
            f"the baseline has values of {', '.join(others)}, which the assay does not watch; it watches "
            f"{', '.join(fields)}"
        )
    for field, field_type in fields.items():
        text = field_type == "string"
        given = any(_text(field, values[field])) if text else np.isfinite(_numbers(field, values[field])).any()
        if not given:
            raise InvalidInputError(
                f"the baseline's {len(values[field])} values of {field} hold no {'text' if text else 'number'} to "
                "compare with; give at least one"
            )


def _text(field: str, values: Sequence[float | str | None]) -> list[str | None]:
    number = next((one for one in values if not isinstance(one, str | None)), None)
    if number is not None:
        raise InvalidInputError(f"the baseline's values of {field} hold {number!r}, but {field} is text; give text")
    return [one for one in values if isinstance(one, str | None)]


def _numbers(field: str, values: Sequence[float | str | None]) -> NDArray[np.float64]:
    text = next((one for one in values if isinstance(one, str)), None)
    if text is not None:
        raise InvalidInputError(
            f"the baseline's values of {field} hold {text!r}, but {field} is a number; give numbers"
        )
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _devices(hub: Hub, spec: api.AssaySpec, pipeline: str) -> list[str]:
    """Return the devices that the assay is about: those it names, else all that run or ran the pipeline."""
    named = sorted({*spec.devices, *([spec.baseline.device] if spec.baseline.device else [])})
    if named:
        there = {device.name for device in fleet.list_devices(hub)}
        unknown = [name for name in named if name not in there]
        if unknown:
            raise EntityNotFoundError(
                f"there is no device {', '.join(map(repr, unknown))}; there are {', '.join(sorted(there)) or 'none'}"
            )
    return sorted(set(spec.devices)) or _told(hub, pipeline)


def _told(hub: Hub, pipeline: str) -> list[str]:
    """Return the devices that run a pipeline or ever told of it; one that has yet to join is no silent device."""
    joined = {device.name for device in fleet.list_devices(hub) if device.joined}
    told = hub.telemetry.complete_until_ns
    return [one for one in hub.telemetry.devices(pipeline) if one in joined or told(pipeline, one) is not None]


def _materials(
    hub: Hub,
    baseline: api.Baseline,
    targets: Mapping[str, Target],
    devices: Sequence[str],
    notes: Sequence[str],
    *,
    renews: bool,
) -> tuple[dict[Place, Material], list[str]]:
    """Return the baselines, those without values left out, and what should be said of them."""
    if baseline.values is not None:
        values = baseline.values
        return {Place(EVERY_DEVICE, one): _given(target, values[one]) for one, target in targets.items()}, []
    start_ns, end_ns = baseline.start_ns or 0, baseline.end_ns or 0
    looked_at = [baseline.device] if baseline.device else devices
    usable: dict[Place, Material] = {}
    silent: defaultdict[str, list[str]] = defaultdict(list)
    for field, target in targets.items():
        for device in looked_at:
            material = seen(hub, target, device, start_ns, end_ns)
            if baseline_of(hub, material, target.field_type).usable:
                usable[Place(device, field)] = material
            else:
                silent[device].append(field)
        if not renews and not any(place.field == field for place in usable):
            raise _nothing(hub, baseline, target, looked_at, notes)
    if not usable:
        raise _nothing(hub, baseline, next(iter(targets.values())), looked_at, notes)
    span = f"from {iso(start_ns)} to {iso(end_ns)}"
    follows = "it keeps the baseline it had" if renews else "it has no baseline and gets no score"
    said = [
        f"device {device} gave no value of {', '.join(fields)} {span}: {follows}" for device, fields in silent.items()
    ]
    pipeline = next(iter(targets.values())).pipeline
    for device in dict.fromkeys(place.device for place in usable):
        heard_ns = hub.telemetry.complete_until_ns(pipeline, device) or 0
        if heard_ns < end_ns:
            said.append(f"device {device} was heard up to {iso(heard_ns)} only; its baseline is what came until then")
    if baseline.device:
        usable = {Place(EVERY_DEVICE, place.field): one for place, one in usable.items()}
    return usable, said


def _given(target: Target, values: Sequence[float | str | None]) -> Material:
    if target.field_type == "string":
        return material_of(_text(target.field, values))
    return Material(values=_numbers(target.field, values))


def _nothing(
    hub: Hub, baseline: api.Baseline, target: Target, looked_at: Sequence[str], notes: Sequence[str]
) -> InvalidInputError:
    span = f"from {iso(baseline.start_ns or 0)} to {iso(baseline.end_ns or 0)}"
    who = f"device {looked_at[0]}" if len(looked_at) == 1 else f"any device of pipeline {target.pipeline_name!r}"
    reasons = "".join(f"; {note}" for note in notes)
    return InvalidInputError(
        f"{who} gave no value of {target.field} {span}, so there is no baseline; "
        f"{_when(hub, target, looked_at)}{reasons}"
    )


def _when(hub: Hub, target: Target, devices: Sequence[str]) -> str:
    """Say when there is data, for somebody who asked for another time."""
    firsts = [hub.telemetry.first_inference_ns(target.pipeline, device) for device in devices]
    first_ns = min((first for first in firsts if first is not None), default=None)
    if first_ns is None:
        return "there has been no inference yet: run some first, or give values with baseline_data"
    untils = [hub.telemetry.complete_until_ns(target.pipeline, device) or 0 for device in devices]
    last_ns = max(max(untils, default=0), first_ns)
    return f"there is data from {iso(first_ns)} to {iso(last_ns)}"


def start_of(spec: api.AssaySpec, first_inference_ns: int | None) -> int | None:
    """Return where the window plan starts: as asked, else where a baseline in time ends, else the first inference."""
    if spec.windows.start_ns is not None:
        return spec.windows.start_ns
    return first_inference_ns if spec.baseline.values is not None else spec.baseline.end_ns


# ── calibrating what was asked ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Calibrated:
    """What a promise rests on: by device and field (`found`), and as it is told, by baseline (`told`).

    `level` is how much evidence makes an alarm, None under a fixed alarm.
    """

    footings: Footings
    level: float | None
    found: Mapping[Place, Calibrating]
    told: Mapping[Place, api.Calibrated]

    @property
    def refusals(self) -> dict[Place, str]:
        """Which baselines carry no promise, and why."""
        return {place: one.refused for place, one in self.found.items() if one.refused is not None}


def calibrate(hub: Hub, asked: Question, plan: WindowPlan | None, until_ns: int, version: int = 1) -> Calibrated:
    """Calibrate every baseline of a question as far as it is known how many values a window has.

    A plan of None is one that has nothing to start from yet.
    """
    places = {version: set(asked.baselines)}
    promise = asked.spec.alarm
    if not isinstance(promise, api.Promise):
        return Calibrated(Footings({version: 0}, places, {}), None, {}, {})
    cut_by_n = asked.spec.baseline.values is not None
    known = usual_of(hub, asked.spec, asked.devices, plan, until_ns, asked.calendars) if cut_by_n else {}
    found: dict[Place, Calibrating] = {}
    for place, baseline in asked.baselines.items():
        for device in sorted(known) or [place.device]:
            material, seer = asked.materials[place], seen_by(asked.spec.baseline, place)
            one = calibrating(hub, asked.spec, promise, baseline, material, known.get(device), seer, asked.calendars)
            if one is not None:
                found[Place(device, place.field)] = one
    footings = Footings({version: 0}, places, {(version, place): one for place, one in found.items()})
    level = level_of(asked.spec, footings, asked.devices)
    return Calibrated(footings, level, found, told(asked.baselines, found, level or 0.0))


def told(places: Iterable[Place], found: Mapping[Place, Calibrating], level: float) -> dict[Place, api.Calibrated]:
    """Return what each baseline's promise rests on; of one that is cut for each device, where it is weakest."""
    made: dict[Place, api.Calibrated] = {}
    for place in places:
        own = [one for other, one in found.items() if other.field == place.field and place.device in {"", other.device}]
        weakest = max(own, key=lambda one: (one.refused is not None, one.n), default=None)
        shown = described(weakest, level)
        if shown is not None:
            made[place] = shown
    return made


def fixed_notes(hub: Hub, asked: Question, plan: WindowPlan | None, until_ns: int) -> list[str]:
    """Say of each field how often a fixed threshold is reached without drift, on the device where that is most often.

    Said are the rate of independent rows and how many of the baseline's own windows reach it. Nothing is said under a
    promise, and where nobody knows yet how many values a window has.
    """
    if isinstance(asked.spec.alarm, api.Promise):
        return []
    known = usual_of(hub, asked.spec, asked.devices, plan, until_ns, asked.calendars)
    notes: list[str] = []
    for field in asked.targets:
        sizes = [
            (round(one.n * (1 - baseline.missing_share)), device, place, one.n)
            for place, baseline in asked.baselines.items()
            for device, one in known.items()
            if place.field == field and place.device in {EVERY_DEVICE, device}
        ]
        # By chance shares differ by about one in n of the window and one in n of the baseline: together.
        sizes.sort(key=lambda size: _facts(size[0], asked.baselines[size[2]]))
        told = [(size, _own_alarms(hub, asked, *size[2:])) for size in sizes[:DEVICES_WEIGHED_MAX]]
        # Own windows say more than a law that rows seldom obey; where they say the same, the fewest facts come first.
        worst = max(told, key=lambda one: 0.0 if one[1] is None else one[1].share, default=None)
        if worst is None:
            continue
        (n, device, place, _), own = worst
        said = [fixed_alarm_text(asked.spec, asked.baselines[place], n), None if own is None else own.text]
        text = "; ".join(one for one in said if one is not None)
        if text:
            most = f", the most of {len(sizes)}" if len(sizes) > 1 else ""
            notes.append(f"{field} of device {device}{most}: {text}")
    return notes


def _own_alarms(hub: Hub, asked: Question, place: Place, n: int) -> OwnAlarms | None:
    baseline = asked.baselines[place]
    is_open = asked.calendars.open_on(seen_by(asked.spec.baseline, place))
    _, windows = windows_of(hub, asked.spec, asked.materials[place], baseline, n, is_open)
    return own_alarms(asked.spec, baseline, windows)


def _facts(n: int, baseline: Baseline) -> float:
    """Return how many values a comparison of a window of n with its baseline is worth."""
    return 0.0 if not n or not baseline.n else 1 / (1 / n + 1 / baseline.n)
