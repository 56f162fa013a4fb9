"""Assays: previewed (`run`), saved as standing questions, listed, switched off and on; and the incidents they open.

Every analysis is computed here or in the scorer, on the hub; the SDK asks and draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import uuid4

import msgspec
import numpy as np

from driftline.assay.analysis import analyse, check, describe, grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.window import BASE_WINDOW_NS, WindowPlan, plan_of
from driftline.clock import iso
from driftline.errors import EntityNotFoundError, InvalidInputError, NotYetError
from driftline.hub import fleet, grids, registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.observations import Span, Target, baseline_of, parts_of, seen
from driftline.hub.store import assays as store
from driftline.hub.store.assays import EVERY_DEVICE, Material
from driftline.pipeline.iopath import resolve
from driftline.summary.grid import Grid, joined
from driftline.wire import api

routes = Routes()

# One preview answers at most so many windows: a week of 3-minute windows on 10 devices is 33,600.
ANALYSES_MAX = 50_000
# The baseline grid takes the bin edges of so many devices and the pooled ones; those of others snap to what is there.
DEVICES_WITH_EDGES_MAX = 8


# ── the question ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Question:
    """An assay's spec made definite: checked, its field found, its devices and baselines named."""

    spec: api.AssaySpec
    target: Target
    devices: Sequence[str]
    materials: Mapping[str, Material]
    baselines: Mapping[str, BaselineData]
    notes: Sequence[str]

    def baseline(self, device: str) -> BaselineData | None:
        """Return what a device is compared with, or None where it has nothing to be compared with."""
        return self.baselines.get(device, self.baselines.get(EVERY_DEVICE))

    @property
    def stats(self) -> list[api.BaselineStats]:
        """Describe each baseline; device None is one that serves all."""
        span = self.spec.baseline
        return [
            describe(
                self.spec,
                data,
                device=device or None,
                start_ns=span.start_ns,
                end_ns=span.end_ns,
            )
            for device, data in self.baselines.items()
        ]


def question(hub: Hub, workspace: str, spec: api.AssaySpec) -> Question:
    """Make a spec definite.

    Raises:
        InvalidInputError: a threshold, window, bin or time that cannot be, a field the pipeline does not have, or a
            baseline without values.
        EntityNotFoundError: no such pipeline or device in this workspace.
    """
    check(spec)
    _check_baseline(spec.baseline, hub.now_ns())
    pipeline = registry.pipeline(hub, spec.pipeline)
    if pipeline.workspace != workspace:
        raise EntityNotFoundError(f"pipeline {pipeline.name!r} belongs to another workspace; select that one first")
    resolved = resolve(spec.iopath or spec.field, pipeline.versions[0].definition)
    if resolved.kind != "number":
        raise NotYetError(f"{resolved.key} is text; assays compare numbers for now (counts by value come later)")
    spec = msgspec.structs.replace(spec, field=resolved.key, iopath=spec.iopath or resolved.key)
    target = Target(pipeline.id, pipeline.name, resolved.key, resolved.type)
    devices = _devices(hub, spec, target)
    notes: list[str] = []
    # Before the baseline is looked for: where the field was not recorded, there will be one to take later.
    if not resolved.default and grids.add_extra_field(hub, pipeline.id, resolved.key):
        notes.append(
            f"{resolved.key} was not recorded so far; it is from now on, on every device that runs {pipeline.name}"
        )
    materials, silent = _materials(hub, spec.baseline, target, devices, notes)
    baselines = {device: baseline_of(hub, material, target.field_type) for device, material in materials.items()}
    return Question(spec, target, devices, materials, baselines, [*notes, *silent])


def _check_baseline(baseline: api.Baseline, now_ns: int) -> None:
    start_ns, end_ns = baseline.start_ns, baseline.end_ns
    if baseline.values is not None:
        if start_ns is not None or end_ns is not None or baseline.device is not None:
            raise InvalidInputError("a baseline is either values or a range of time; give baseline_data or dates")
        if not np.isfinite(_numbers(baseline.values)).any():
            raise InvalidInputError(
                f"the baseline's {len(baseline.values)} values hold no number to compare with; give at least one"
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


def _numbers(values: Sequence[float | None]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _devices(hub: Hub, spec: api.AssaySpec, target: Target) -> list[str]:
    """Return the devices that the assay is about: those it names, else all that run or ran the pipeline."""
    named = sorted({*spec.devices, *([spec.baseline.device] if spec.baseline.device else [])})
    if named:
        there = {device.name for device in fleet.list_devices(hub)}
        unknown = [name for name in named if name not in there]
        if unknown:
            raise EntityNotFoundError(
                f"there is no device {', '.join(map(repr, unknown))}; there are {', '.join(sorted(there)) or 'none'}"
            )
    return sorted(set(spec.devices)) or _told(hub, target.pipeline)


def _told(hub: Hub, pipeline: str) -> list[str]:
    """Return the devices that run a pipeline or ever told of it; one that has yet to join is no silent device."""
    joined = {device.name for device in fleet.list_devices(hub) if device.joined}
    told = hub.telemetry.complete_until_ns
    return [one for one in hub.telemetry.devices(pipeline) if one in joined or told(pipeline, one) is not None]


def _materials(
    hub: Hub, baseline: api.Baseline, target: Target, devices: Sequence[str], notes: Sequence[str]
) -> tuple[dict[str, Material], list[str]]:
    """Return the baselines by device, those without values left out, and what should be said of them."""
    if baseline.values is not None:
        return {EVERY_DEVICE: Material(values=_numbers(baseline.values))}, []
    start_ns, end_ns = baseline.start_ns or 0, baseline.end_ns or 0
    looked_at = [baseline.device] if baseline.device else devices
    found = {device: seen(hub, target, device, start_ns, end_ns) for device in looked_at}
    usable = {
        device: material
        for device, material in found.items()
        if BaselineData.of_parts(parts_of(hub, material), target.field_type).usable
    }
    span = f"from {iso(start_ns)} to {iso(end_ns)}"
    if not usable:
        who = f"device {baseline.device}" if baseline.device else f"any device of pipeline {target.pipeline_name!r}"
        reasons = "".join(f"; {note}" for note in notes)
        raise InvalidInputError(
            f"{who} gave no value of {target.field} {span}, so there is no baseline; "
            f"{_when(hub, target, looked_at)}{reasons}"
        )
    said = [
        f"device {device} gave no value of {target.field} {span}: it has no baseline and gets no score"
        for device in looked_at
        if device not in usable
    ]
    for device in usable:
        heard_ns = hub.telemetry.complete_until_ns(target.pipeline, device) or 0
        if heard_ns < end_ns:
            said.append(f"device {device} was heard up to {iso(heard_ns)} only; its baseline is what came until then")
    return ({EVERY_DEVICE: next(iter(usable.values()))} if baseline.device else usable), said


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


# ── preview ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run(hub: Hub, workspace: str, spec: api.AssaySpec) -> api.AssayRun:
    """Answer for every device and every complete window up to `run_until_ns`, and store nothing.

    Raises:
        InvalidInputError, EntityNotFoundError: see `question`; also when the run would be unreasonably long.
    """
    asked = question(hub, workspace, spec)
    spec, target, notes = asked.spec, asked.target, [*asked.notes]
    now_ns = hub.now_ns()
    until_ns = now_ns if spec.run_until_ns is None else min(spec.run_until_ns, now_ns)
    start_ns = start_of(spec, hub.telemetry.first_inference_ns(target.pipeline, None))
    if start_ns is None:
        notes.append(f"pipeline {target.pipeline_name} has seen no inference yet")
        return api.AssayRun(analyses=[], baselines=asked.stats, notes=notes)
    floored_ns = start_ns - start_ns % BASE_WINDOW_NS
    windows = msgspec.structs.replace(spec.windows, start_ns=start_ns)
    _check_length(plan_of(windows, None, rows=False), until_ns, len(asked.devices))
    spans = [
        Span(hub, target, device, min(floored_ns, until_ns), max(floored_ns, until_ns)) for device in asked.devices
    ]
    plan = plan_of(windows, None, rows=all(span.holds_every_row for span in spans))
    analyses = [
        answer(spec, target, asked.baseline(span.device), span, start, end)
        for start, end in plan.windows(until_ns)
        for span in spans
    ]
    if not asked.devices:
        notes.append(f"no device runs pipeline {target.pipeline_name} yet; deploy it, or publish it and add an edge")
    elif not analyses:
        notes.append(f"no window is complete yet: the first ends {iso(plan.start_ns + plan.width_ns)}")
    return api.AssayRun(analyses=analyses, baselines=asked.stats, notes=notes)


def answer(
    spec: api.AssaySpec,
    target: Target,
    baseline: BaselineData | None,
    span: Span,
    start_ns: int,
    end_ns: int,
    assay_id: str | None = None,
) -> api.Analysis:
    """Answer for one device and one window; a device without a baseline gets an answer that says so."""
    analysis = analyse(
        spec,
        BaselineData.of_values([], target.field_type) if baseline is None else baseline,
        span.parts(start_ns, end_ns),
        device=span.device,
        start_ns=start_ns,
        end_ns=end_ns,
        heard=span.heard(end_ns),
        field_type=target.field_type,
        assay_id=assay_id,
    )
    if baseline is not None:
        return analysis
    note = f"device {span.device} has no baseline of {spec.field}, hence no score; save an assay with a later baseline"
    return msgspec.structs.replace(analysis, notes=[note])


def _check_length(plan: WindowPlan, until_ns: int, devices: int) -> None:
    windows = plan.count(until_ns)
    if windows * devices > ANALYSES_MAX:
        raise InvalidInputError(
            f"{windows} windows on {devices} devices are more than the {ANALYSES_MAX} one preview answers; "
            "start later, widen the interval, name some devices, or save the assay: it is scored in the background"
        )


@routes.post("/workspaces/{workspace}/assays/run", body=api.AssaySpec)
def run_assay(call: Call[api.AssaySpec]) -> api.AssayRun:
    """Preview an assay."""
    return run(call.hub, call.path["workspace"], call.body)


@routes.post("/workspaces/{workspace}/assays/baseline", body=api.AssaySpec)
def describe_baseline(call: Call[api.AssaySpec]) -> list[api.BaselineStats]:
    """Describe what windows would be compared with: one entry a device, or one that serves all."""
    return question(call.hub, call.path["workspace"], call.body).stats


# ── standing assays ──────────────────────────────────────────────────────────────────────────────────────────────


def save(hub: Hub, workspace: str, spec: api.AssaySpec) -> api.Assay:
    """Keep an assay with its baselines frozen, and let devices count where it cuts; the scorer takes it from here.

    Raises:
        ConflictError: the workspace has an assay of this name.
        InvalidInputError, EntityNotFoundError: see `question`.
    """
    spec = msgspec.structs.replace(spec, name=registry.check_name("assay", spec.name))
    with hub.database.reading() as connection:
        registry.need_workspace(connection, workspace)
        # Looked up first: a name that is taken must not leave a field or a grid behind.
        store.need_free_name(connection, workspace, spec.name)
    asked = question(hub, workspace, spec)
    target = asked.target
    assay = api.Assay(
        id=str(uuid4()),
        workspace=workspace,
        spec=asked.spec,
        active=True,
        created_ns=hub.now_ns(),
        notes=list(asked.notes),
    )
    start_ns = start_of(asked.spec, hub.telemetry.first_inference_ns(target.pipeline, None))
    with hub.database.writing() as connection:
        store.save(connection, assay, field_type=target.field_type, start_ns=start_ns, baselines=dict(asked.materials))
    grids.set_baseline_grid(hub, target.pipeline, target.field, _grid(hub, asked, assay.id))
    hub.wake.set()
    return assay


def _grid(hub: Hub, asked: Question, assay: str) -> Grid:
    """Return where devices count from now on: quantiles of all baselines pooled, and where standing assays cut."""
    field_type = asked.target.field_type
    parts = list(chain.from_iterable(parts_of(hub, material) for material in asked.materials.values()))
    grid = grid_for(asked.spec, BaselineData.of_parts(parts, field_type), field_type)
    own = [stats.edges for stats in asked.stats[:DEVICES_WITH_EDGES_MAX]]
    return joined(grid, sorted({*chain.from_iterable(own), *_standing_edges(hub, asked, assay)}))


def _standing_edges(hub: Hub, asked: Question, assay: str) -> list[float]:
    """Return where the other standing assays on this field cut."""
    target = asked.target
    edges: list[float] = []
    with hub.database.reading() as connection:
        others = [
            kept
            for kept in store.every(connection, active=True)
            if (kept.assay.spec.pipeline, kept.assay.spec.field) == (target.pipeline, target.field)
            and kept.assay.id != assay
        ]
        materials = [(kept, store.baselines(connection, kept.assay.id)) for kept in others]
    for kept, by_device in materials:
        for material in list(by_device.values())[:DEVICES_WITH_EDGES_MAX]:
            edges += baseline_of(hub, material, kept.field_type).layout(kept.assay.spec.summarizer).edges.tolist()
    return edges


def baselines_of(hub: Hub, kept: store.Kept) -> list[api.BaselineStats]:
    """Describe the frozen baselines of a standing assay."""
    spec = kept.assay.spec
    with hub.database.reading() as connection:
        materials = store.baselines(connection, kept.assay.id)
    return [
        describe(
            spec,
            baseline_of(hub, material, kept.field_type),
            device=device or None,
            start_ns=spec.baseline.start_ns,
            end_ns=spec.baseline.end_ns,
        )
        for device, material in materials.items()
    ]


@routes.get("/workspaces/{workspace}/assays")
def list_assays(call: Call[None]) -> list[api.Assay]:
    """List the standing assays of a workspace, newest first."""
    with call.hub.database.reading() as connection:
        workspace = registry.need_workspace(connection, call.path["workspace"])
        return [kept.assay for kept in store.every(connection, workspace=workspace.id)]


@routes.post("/workspaces/{workspace}/assays", body=api.AssaySpec)
def save_assay(call: Call[api.AssaySpec]) -> api.Assay:
    """Save an assay and start its scheduled runs."""
    return save(call.hub, call.path["workspace"], call.body)


@routes.get("/assays/{assay}")
def get_assay(call: Call[None]) -> api.Assay:
    """Return one standing assay."""
    with call.hub.database.reading() as connection:
        return store.one(connection, call.path["assay"]).assay


@routes.get("/assays/{assay}/baselines")
def list_baselines(call: Call[None]) -> list[api.BaselineStats]:
    """List the frozen baselines of a standing assay: one that serves all, or one a device."""
    with call.hub.database.reading() as connection:
        kept = store.one(connection, call.path["assay"])
    return baselines_of(call.hub, kept)


@routes.get("/assays/{assay}/analyses")
def list_analyses(call: Call[None]) -> list[api.Analysis]:
    """List stored answers whose windows begin in [start_ns, end_ns), by window start, then device."""
    with call.hub.database.reading() as connection:
        return store.analyses(
            connection,
            store.one(connection, call.path["assay"]).assay.id,
            device=call.query.get("device") or None,
            start_ns=call.integer("start_ns"),
            end_ns=call.integer("end_ns"),
        )


@routes.post("/assays/{assay}/on")
def switch_on(call: Call[None]) -> api.Assay:
    """Start scheduled runs again; windows that passed meanwhile are answered too."""
    return switch(call.hub, call.path["assay"], active=True)


@routes.post("/assays/{assay}/off")
def switch_off(call: Call[None]) -> api.Assay:
    """Stop scheduled runs; what was answered stays, and its open incidents are resolved."""
    return switch(call.hub, call.path["assay"], active=False)


def switch(hub: Hub, assay: str, *, active: bool) -> api.Assay:
    """Start or stop an assay's scheduled runs; nobody watches on, so stopping resolves its open incidents.

    Raises:
        EntityNotFoundError: there is no such assay.
    """
    with hub.database.writing() as connection:
        store.one(connection, assay)
        store.set_active(connection, assay, active=active)
        if not active:
            store.resolve_of_assay(connection, assay, hub.now_ns())
        kept = store.one(connection, assay)
    hub.wake.set()
    return kept.assay


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/incidents")
def list_incidents(call: Call[None]) -> list[api.Incident]:
    """List incidents, open ones first, then newest first; `open` true or false, `device` a name."""
    with call.hub.database.reading() as connection:
        return store.incidents(
            connection, is_open=_truth("open", call.query.get("open")), device=call.query.get("device") or None
        )


@routes.post("/incidents/{incident}/resolve")
def resolve_incident(call: Call[None]) -> api.Incident:
    """Close an incident by hand; the next Alert opens another."""
    return close(call.hub, call.path["incident"])


def close(hub: Hub, incident: str) -> api.Incident:
    """Resolve an incident now; one that was resolved before stays as it was.

    Raises:
        EntityNotFoundError: there is no such incident.
    """
    with hub.database.writing() as connection:
        store.resolve(connection, store.incident(connection, incident).id, hub.now_ns())
        return store.incident(connection, incident)


def _truth(name: str, text: str | None) -> bool | None:
    if not text:
        return None
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise InvalidInputError(f"{name}={text!r}: write true or false")
    return words[text.lower()]
