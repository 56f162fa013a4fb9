"""Assays: previewed (`run`), saved as standing questions, listed, switched off and on.

Every analysis is computed here or in the scorer, on the hub; the SDK asks and draws.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from uuid import uuid4

import msgspec
from sqlalchemy import Connection

from driftline.assay.analysis import describe, grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.window import BASE_WINDOW_NS, WindowPlan, plan_of
from driftline.clock import iso
from driftline.errors import ConflictError, InvalidInputError
from driftline.hub import causes, drops, fleet, grids, maintenance, registry, vectors
from driftline.hub.calendars import check_still
from driftline.hub.core import Hub
from driftline.hub.course import Answered, Course, Footing, Walk
from driftline.hub.http import Call, Routes
from driftline.hub.observations import Span, Target, baseline_of, parts_of
from driftline.hub.paging import Page
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.promises import Footings, level_of, stream_of
from driftline.hub.question import Calibrated, Question, calibrate, fixed_notes, question, start_of, told
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store import maintenance as planned
from driftline.hub.store.baselines import Material, Place
from driftline.summary.grid import Grid, joined
from driftline.wire import api

routes = Routes()

# One preview answers at most so many windows, a field each: a week of 3-minute windows on 10 devices is 33,600.
ANALYSES_MAX = 50_000
# The baseline grid takes the bin edges of so many devices and the pooled ones; those of others snap to what is there.
DEVICES_WITH_EDGES_MAX = 8
NOT_CALIBRATED_YET = (
    "how many values a window has shows with the first windows; the promise is calibrated then, and their answers say "
    "so if it does not stand"
)


# ── preview ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run(hub: Hub, workspace: str, spec: api.AssaySpec) -> api.AssayRun:
    """Answer for every device and every complete window up to `run_until_ns`, and store nothing.

    Raises:
        InvalidInputError, EntityNotFoundError: see `question`; also when the run would be unreasonably long.
    """
    asked = question(hub, workspace, spec)
    return answers(hub, asked, calibrated(hub, asked))


def calibrated(hub: Hub, asked: Question) -> Calibrated:
    """Calibrate the baselines of a question that is answered up to `run_until_ns`."""
    # Whole minutes, as a standing assay's: how many values a window has is counted in base windows.
    return calibrate(hub, asked, plan_for(hub, asked.spec), _until_ns(hub, asked.spec))


def _until_ns(hub: Hub, spec: api.AssaySpec) -> int:
    now_ns = hub.now_ns()
    return now_ns if spec.run_until_ns is None else min(spec.run_until_ns, now_ns)


def answers(hub: Hub, asked: Question, found: Calibrated) -> api.AssayRun:
    """Answer a question for every device and every complete window up to `run_until_ns`, and store nothing.

    Raises:
        InvalidInputError: the run would be unreasonably long.
    """
    spec, notes = asked.spec, [*asked.notes]
    until_ns = _until_ns(hub, spec)
    start_ns = start_of(spec, hub.telemetry.first_inference_ns(asked.pipeline, None))
    if start_ns is None:
        notes.append(f"pipeline {_name(asked)} has seen no inference yet")
        return api.AssayRun(analyses=[], baselines=asked.stats(found.told), notes=notes)
    floored_ns = start_ns - start_ns % BASE_WINDOW_NS
    windows = msgspec.structs.replace(spec.windows, start_ns=start_ns)
    _check_length(plan_of(windows, None, rows=False), until_ns, len(asked.devices) * len(asked.targets))
    spans = {
        device: {
            field: Span(hub, target, device, min(floored_ns, until_ns), max(floored_ns, until_ns))
            for field, target in asked.targets.items()
        }
        for device in asked.devices
    }
    rows = all(span.holds_every_row for by_field in spans.values() for span in by_field.values())
    plan = plan_of(windows, None, rows=rows)
    with hub.database.reading() as connection:
        workspace = registry.need_pipeline(connection, asked.pipeline).workspace
        own = maintenance.of_assay(planned.every(connection, workspace=workspace), workspace, None)
    sites = {one.name: one.site for one in fleet.list_devices(hub)} if own else {}

    def rests(device: str, start_ns: int, end_ns: int) -> str | None:
        return maintenance.note(own, device, sites.get(device), start_ns, end_ns)

    course = Course(spec, plan, asked.targets, asked.calendars.is_open, rests=rests)
    answered = [one for device in asked.devices for one in _walked(asked, course, found, spans[device], until_ns)]
    analyses = sorted((one.analysis for one in answered), key=lambda one: (one.start_ns, one.device, one.field))
    with hub.database.reading() as connection:
        analyses = drops.explained(hub, connection, asked.pipeline, analyses)
    if not asked.devices:
        notes.append(f"no device runs pipeline {_name(asked)} yet; deploy it, or publish it and add an edge")
    elif not analyses:
        notes.append(f"no window is complete yet: the first ends {iso(plan.start_ns + plan.width_ns)}")
    return api.AssayRun(
        analyses=analyses, baselines=asked.stats(found.told), notes=[*notes, *no_promise(found.refusals)]
    )


def _walked(
    asked: Question, course: Course, found: Calibrated, spans: Mapping[str, Span], until_ns: int
) -> list[Answered]:
    """Answer every window of one device."""
    device = next(iter(spans.values())).device
    footings = {field: _footing(asked, found, device, field) for field in asked.targets}
    levels = dict.fromkeys(asked.targets, found.level or 0.0)
    walk = Walk(course, spans)
    return [one for start, end in course.plan.windows(until_ns) for one in walk.answers(start, end, footings, levels)]


def _footing(asked: Question, found: Calibrated, device: str, field: str) -> Footing:
    which = found.footings.which(device, field)
    if which is None:
        return Footing()
    version, place = which
    known = found.footings.calibrating(version, device, field)
    baseline = asked.baselines[place]
    return Footing(baseline, version, True, stream_of(baseline, known), None if known is None else known.refused)


def _name(asked: Question) -> str:
    return next(iter(asked.targets.values())).pipeline_name


def no_promise(refusals: Mapping[Place, str]) -> list[str]:
    """Say which streams have no promise."""
    return [
        f"there is no promise for {place.field} of {f'device {place.device}' if place.device else 'any device'}: {why}"
        for place, why in refusals.items()
    ]


def _check_length(plan: WindowPlan, until_ns: int, streams: int) -> None:
    windows = plan.count(until_ns)
    if windows * streams > ANALYSES_MAX:
        raise InvalidInputError(
            f"{windows} windows on {streams} devices and fields are more than the {ANALYSES_MAX} one preview answers; "
            "start later, widen the interval, name some devices, or save the assay: it is scored in the background"
        )


@routes.post("/workspaces/{workspace}/assays/run", policy=VIEWER, body=api.AssaySpec)
def run_assay(call: Call[api.AssaySpec]) -> api.AssayRun:
    """Preview an assay."""
    return run(call.hub, call.path["workspace"], call.body)


@routes.post("/workspaces/{workspace}/assays/baseline", policy=VIEWER, body=api.AssaySpec)
def describe_baseline(call: Call[api.AssaySpec]) -> list[api.BaselineStats]:
    """Describe what windows would be compared with: one entry a device and field, or one a field that serves all."""
    asked = question(call.hub, call.path["workspace"], call.body)
    return asked.stats(calibrate(call.hub, asked, plan_for(call.hub, asked.spec), call.hub.now_ns()).told)


def plan_for(hub: Hub, spec: api.AssaySpec) -> WindowPlan | None:
    """Return the plan that a standing assay of this spec has; None where there is nothing to start from yet."""
    start_ns = start_of(spec, hub.telemetry.first_inference_ns(spec.pipeline, None))
    if start_ns is None:
        return None
    return plan_of(msgspec.structs.replace(spec.windows, start_ns=start_ns), None, rows=False)


# ── standing assays ──────────────────────────────────────────────────────────────────────────────────────────────


def save(hub: Hub, workspace: str, spec: api.AssaySpec) -> api.Assay:
    """Keep an assay with its baselines frozen, and let devices count where it cuts; the scorer takes it from here.

    Raises:
        ConflictError: the workspace has an assay of this name, or a site got other hours meanwhile.
        InvalidInputError, EntityNotFoundError: see `question`; also where no baseline carries the promise.
    """
    spec = msgspec.structs.replace(spec, name=registry.check_name("assay", spec.name))
    with hub.database.reading() as connection:
        registry.need_workspace(connection, workspace)
        # Looked up first: a name that is taken must not leave a field or a grid behind.
        store.need_free_name(connection, workspace, spec.name)
    asked = question(hub, workspace, spec)
    plan = plan_for(hub, asked.spec)
    found = calibrate(hub, asked, plan, hub.now_ns())
    assay = api.Assay(
        id=str(uuid4()),
        workspace=workspace,
        spec=asked.spec,
        active=True,
        created_ns=hub.now_ns(),
        notes=[*asked.notes, *standing_notes(found), *fixed_notes(hub, asked, plan, hub.now_ns())],
    )
    start_ns = start_of(asked.spec, hub.telemetry.first_inference_ns(asked.pipeline, None))
    types = {field: target.field_type for field, target in asked.targets.items()}
    vectors.keep(hub, asked.pipeline, asked.projections)
    # Valid whenever a window begins: there is none before it.
    first = api.BaselineVersion(
        version=assay.baseline_version,
        from_ns=0,
        created_ns=assay.created_ns,
        baseline=asked.spec.baseline,
        notes=assay.notes,
    )
    with hub.database.writing() as connection:
        check_still(connection, hub, asked.calendars)
        store.save(connection, assay, field_types=types, start_ns=start_ns, versions=[(first, asked.materials)])
        for place, one in found.found.items():
            versions.put_calibration(connection, assay.id, assay.baseline_version, place, one)
    count_where_cut(hub, asked.targets, asked.spec, assay.id)
    hub.wake.set()
    return assay


def standing_notes(found: Calibrated) -> list[str]:
    """Say which streams have no promise, or that it cannot be known yet.

    Raises:
        InvalidInputError: no stream has a promise; the message says how many windows one needs.
    """
    if found.level is None:
        return []
    refusals = found.refusals
    if refusals and len(refusals) == len(found.found):
        raise InvalidInputError(next(iter(refusals.values())))
    if not found.found:
        return [NOT_CALIBRATED_YET]
    return no_promise(refusals)


def count_where_cut(hub: Hub, targets: Mapping[str, Target], spec: api.AssaySpec, assay: str) -> None:
    """Let devices count every watched field where the assay cuts: it is stored, and its baselines with it.

    Text is counted by category and has no grid.
    """
    with hub.database.reading() as connection:
        newest = versions.newest(connection, assay)
    for field, target in targets.items():
        materials = [material for place, (_, material) in newest.items() if place.field == field]
        if materials and target.field_type != "string":
            grids.set_baseline_grid(hub, target.pipeline, field, _grid(hub, spec, target, materials, assay))


def _grid(hub: Hub, spec: api.AssaySpec, target: Target, materials: Sequence[Material], assay: str) -> Grid:
    """Return where devices count from now on: quantiles of all baselines pooled, and where standing assays cut."""
    parts = list(chain.from_iterable(parts_of(hub, material) for material in materials))
    grid = grid_for(spec, BaselineData.of_parts(parts, target.field_type), target.field_type)
    return joined(grid, sorted(set(_standing_edges(hub, target, assay))))


def _standing_edges(hub: Hub, target: Target, assay: str) -> list[float]:
    """Return where this assay and the other standing ones cut a field, each in the newest version of its baselines."""
    edges: list[float] = []
    with hub.database.reading() as connection:
        standing = {
            kept.assay.id: kept.assay.spec
            for kept in store.every(connection)
            if kept.assay.spec.pipeline == target.pipeline
            and target.field in kept.field_types
            and (kept.assay.active or kept.assay.id == assay)
        }
        newest = versions.newest_of(connection, standing, target.field)
    for identity, own in newest.items():
        for _, material in list(own.values())[:DEVICES_WITH_EDGES_MAX]:
            data = BaselineData.of_parts(parts_of(hub, material), target.field_type)
            edges += data.layout(standing[identity].summarizer).edges.tolist()
    return edges


def baselines_of(hub: Hub, kept: store.Kept) -> list[api.BaselineStats]:
    """Describe the frozen baselines of a standing assay, each in its newest version."""
    spec = kept.assay.spec
    watched = {one.field: one for one in spec.watched}
    with hub.database.reading() as connection:
        materials = versions.newest(connection, kept.assay.id)
        known = versions.calibrations(connection, kept.assay.id)
        spans = {one.version: one.baseline for one in versions.versions(connection, kept.assay.id)}
        footings = footings_of(connection, [kept.assay.id])[kept.assay.id]
    level = level_of(spec, footings, devices_of(hub, kept)) or 0.0
    found: list[api.BaselineStats] = []
    for place, (version, material) in materials.items():
        data = baseline_of(hub, material, kept.field_types[place.field])
        span = spans[version]
        own = {one: value for (number, one), value in known.items() if number == version}
        one = describe(
            spec,
            watched[place.field],
            data,
            device=place.device or None,
            start_ns=span.start_ns,
            end_ns=span.end_ns,
        )
        one.version, one.calibrated = version, told([place], own, level).get(place)
        found.append(one)
    return found


def footings_of(connection: Connection, assays: Sequence[str]) -> dict[str, Footings]:
    """Return what each of some standing assays' windows are compared with, by assay; three queries for all of them."""
    valid_from, places = versions.valid_from(connection, assays), versions.places(connection, assays)
    calibrations = versions.calibrations_of(connection, assays)
    return {one: Footings(valid_from[one], places[one], calibrations[one]) for one in assays}


def devices_of(hub: Hub, kept: store.Kept) -> list[str]:
    """Return the devices that a standing assay is about: those it names, else all that run or ran the pipeline."""
    spec = kept.assay.spec
    there = {device.name for device in fleet.list_devices(hub) if device.joined}
    named = spec.devices or hub.telemetry.devices(spec.pipeline)
    return [device for device in named if device in there]


def plan_of_kept(kept: store.Kept) -> WindowPlan | None:
    """Return the plan of a standing assay; None where its windows have nothing to start from yet."""
    if kept.start_ns is None:
        return None
    return plan_of(msgspec.structs.replace(kept.assay.spec.windows, start_ns=kept.start_ns), None, rows=False)


@routes.get("/workspaces/{workspace}/assays", policy=VIEWER, query=api.Paged)
def list_assays(call: Call[api.Paged]) -> Page[api.Assay]:
    """List the standing assays of a workspace, newest first."""
    with call.hub.database.reading() as connection:
        workspace = registry.need_workspace(connection, call.path["workspace"])
        return store.listed(connection, workspace.id, call.body)


@routes.post("/workspaces/{workspace}/assays", policy=EDITOR, body=api.AssaySpec, raises=(ConflictError,))
def save_assay(call: Call[api.AssaySpec]) -> api.Assay:
    """Save an assay and start its scheduled runs."""
    return save(call.hub, call.path["workspace"], call.body)


@routes.get("/assays/{assay}", policy=VIEWER)
def get_assay(call: Call[None]) -> api.Assay:
    """Return one standing assay."""
    with call.hub.database.reading() as connection:
        return store.one(connection, call.path["assay"]).assay


@routes.get("/assays/{assay}/analyses", policy=VIEWER, query=api.AnalysesAsked)
def list_analyses(call: Call[api.AnalysesAsked]) -> Page[api.Analysis]:
    """List stored answers whose windows begin in [start_ns, end_ns), by window start, then device, then field."""
    with call.hub.database.reading() as connection:
        assay = store.one(connection, call.path["assay"]).assay
        found = store.analyses_page(connection, assay.id, call.body)
        told: Page[api.Analysis] = Page(drops.explained(call.hub, connection, assay.spec.pipeline, found))
        told.next = found.next
        return told


@routes.post("/assays/{assay}/on", policy=EDITOR)
def switch_on(call: Call[None]) -> api.Assay:
    """Start scheduled runs again; windows that passed meanwhile are answered too."""
    return switch(call.hub, call.path["assay"], active=True)


@routes.post("/assays/{assay}/off", policy=EDITOR)
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
            causes.resolve_of_assay(connection, assay, "the assay was switched off", hub.now_ns())
        kept = store.one(connection, assay)
    hub.wake.set()
    return kept.assay
