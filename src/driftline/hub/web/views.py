"""What each page shows, read from the store: the page renders it, its `.json` twin sends it as it is.

Pages read stored answers, never what devices counted: a page costs the same however much data there is. One alone works
something out, what an assay would find: that may take seconds, so it is a page of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, select

from driftline.clock import NS_PER_S
from driftline.hub import alter, assays, drops, fleet, maintenance, registry
from driftline.hub.accounts.places import incidents_in
from driftline.hub.core import Hub
from driftline.hub.fleet import Visible
from driftline.hub.preview import WITHIN, preview_saved
from driftline.hub.store import assays as store
from driftline.hub.store import baselines, sites
from driftline.hub.store import incidents as incident_store
from driftline.hub.store import maintenance as planned
from driftline.hub.store.assays import Kept, Mark, Standing, Strip
from driftline.hub.store.registry import pipelines, workspaces
from driftline.wire import api
from driftline.wire.api import Struct

# What one page shows of things that never stop growing.
MARKS_MAX = 40
DEVICES_ON_OVERVIEW_MAX = 6
ASSAYS_ON_OVERVIEW_MAX = 20
DEVICES_IN_CHART_MAX = 12
WINDOWS_IN_CHART_MAX = 160
ANALYSES_IN_TABLE_MAX = 30
INCIDENTS_MAX = 200
EVENTS_MAX = 20

# Which of several answers an owner wants to see first.
URGENCY: Sequence[api.Status | None] = (*store.URGENCY, None)


class View(Struct):
    """What every page knows: the hub's time, and whether it runs fast."""

    now_ns: int
    banner: str | None


class IncidentLine(Struct):
    """An incident and the name of the assay it came from, which may have been removed since."""

    incident: api.Incident
    assay: str | None
    is_assay_gone: bool = False

    @classmethod
    def of(cls, incident: api.Incident, assay: store.Named | None) -> "IncidentLine":
        """Make it of what its assay is or was called."""
        return cls(
            incident=incident, assay=assay and assay.name, is_assay_gone=assay is not None and not assay.is_there
        )


class Line(Struct):
    """An assay's newest answer for one device, of its fields the worst, and its last windows.

    `level` says how near to an alarm it is: 1 and more is one. `field` is the one that is told of.
    """

    device: str
    status: api.Status | None
    score: float | None
    end_ns: int | None
    marks: list[Mark]
    level: float | None = None
    field: str | None = None


class AssayLines(Struct):
    """An assay with its devices, the most urgent first; `more` counts those left out, `devices` all of them."""

    id: str
    name: str
    fields: list[str]
    pipeline: str
    workspace: str
    active: bool
    alarm: api.Fixed | api.Promise
    failure: str | None
    lines: list[Line]
    devices: int = 0
    more: int = 0


class Overview(View):
    """The first page; what is not well comes first in every part. `more_assays` counts those left out."""

    incidents: list[IncidentLine]
    devices: list[api.Device]
    assays: list[AssayLines]
    more_assays: int


class Devices(View):
    """All devices."""

    devices: list[api.Device]
    open_incidents: dict[str, int]


class Device(View):
    """One device."""

    device: api.Device
    incidents: list[IncidentLine]
    assays: list[AssayLines]
    events: list[dict[str, object]]


class Assays(View):
    """All assays."""

    assays: list[AssayLines]


class Assay(View):
    """One assay: its newest answers (`analyses`, by window start, device, field), and the newest one that alerts.

    `versions` are the baselines that it has had, the newest first; `editions` how it was edited, the first time first;
    `maintenance` is what is under way or planned for it, `sites` when those of its workspace are open.
    """

    assay: api.Assay
    pipeline: str
    summary: AssayLines
    analyses: list[api.Analysis]
    alert: api.Analysis | None
    baselines: list[api.BaselineStats]
    versions: list[api.BaselineVersion]
    incidents: list[IncidentLine]
    editions: list[api.Edition]
    maintenance: list[api.Maintenance]
    sites: list[api.SiteHours]


class Preview(View):
    """What one assay did since its newest baselines, and what it would find."""

    assay: api.Assay
    preview: api.Preview


class Incidents(View):
    """All incidents, open ones first."""

    incidents: list[IncidentLine]


class PipelineLine(Struct):
    """A pipeline, where it runs, and how that goes."""

    pipeline: api.Pipeline
    workspace: str
    status: api.PipelineStatus
    fields: list[str]


class Pipelines(View):
    """All pipelines."""

    pipelines: list[PipelineLine]


def overview(hub: Hub, visible: Visible = None) -> Overview:
    """Return the first page's content."""
    with hub.database.reading() as connection:
        found = incident_store.listed(connection, is_open=True, newest=INCIDENTS_MAX, only=incidents_in(visible))
        incidents = _incidents(connection, found)
        kept = store.every(connection, visible=visible)
        lines = _assay_lines(connection, kept, devices_max=DEVICES_ON_OVERVIEW_MAX, assays_max=ASSAYS_ON_OVERVIEW_MAX)
    there = sorted(fleet.list_devices(hub, visible), key=lambda one: one.states == ["healthy"])
    return Overview(
        now_ns=hub.now_ns(),
        banner=hub.clock.banner,
        incidents=incidents,
        devices=there,
        assays=lines,
        more_assays=len(kept) - len(lines),
    )


def devices(hub: Hub, visible: Visible = None) -> Devices:
    """Return every device."""
    counts: defaultdict[str, int] = defaultdict(int)
    with hub.database.reading() as connection:
        for incident in incident_store.listed(connection, is_open=True, only=incidents_in(visible)):
            for name in incident.devices:
                counts[name] += 1
    return Devices(
        now_ns=hub.now_ns(),
        banner=hub.clock.banner,
        devices=fleet.list_devices(hub, visible),
        open_incidents=dict(counts),
    )


def device(hub: Hub, name: str, visible: Visible = None) -> Device:
    """Return one device.

    Raises:
        EntityNotFoundError: there is none of this name.
    """
    found = fleet.device(hub, name, visible)
    with hub.database.reading() as connection:
        incidents = incident_store.listed(connection, device=name, newest=EVENTS_MAX, only=incidents_in(visible))
        asked = {one.assay for one in store.progress(connection, device=name)}
        kept = [one for one in store.every(connection, visible=visible) if one.assay.id in asked]
        lines = _assay_lines(connection, kept, device=name)
        told = _incidents(connection, incidents)
    events = hub.telemetry.events(name, limit=EVENTS_MAX)
    return Device(
        now_ns=hub.now_ns(),
        banner=hub.clock.banner,
        device=found,
        incidents=told,
        assays=lines,
        events=events,
    )


def all_assays(hub: Hub, visible: Visible = None) -> Assays:
    """Return every assay."""
    with hub.database.reading() as connection:
        return Assays(
            now_ns=hub.now_ns(),
            banner=hub.clock.banner,
            assays=_assay_lines(connection, store.every(connection, visible=visible)),
        )


def preview(hub: Hub, identity: str, _visible: Visible = None) -> Preview:
    """Return what one assay would find.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    with hub.database.reading() as connection:
        kept = store.one(connection, identity)
    found = preview_saved(hub, identity, WITHIN)
    return Preview(now_ns=hub.now_ns(), banner=hub.clock.banner, assay=kept.assay, preview=found)


def assay(hub: Hub, identity: str, _visible: Visible = None) -> Assay:
    """Return one assay.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    with hub.database.reading() as connection:
        kept = store.one(connection, identity)
        (summary,) = _assay_lines(connection, [kept])
        analyses = drops.explained(hub, connection, kept.assay.spec.pipeline, _newest(connection, kept, summary))
        alert = _newest_alert(connection, summary)
        versions = baselines.versions(connection, identity)
        edited = alter.history(connection, identity)
        every = planned.every(connection, workspace=kept.assay.workspace)
        to_come = [one for one in every if one.until_ns > hub.now_ns()]
        sites_open = sites.said_now(connection, kept.assay.workspace, hub.now_ns())
        about = incident_store.of_assay(connection, identity, newest=INCIDENTS_MAX)
        incidents = _incidents(connection, about)
    # Statistics and bins; the raw values are the API's to send.
    compared_with = [msgspec.structs.replace(one, values=None) for one in assays.baselines_of(hub, kept)]
    return Assay(
        now_ns=hub.now_ns(),
        banner=hub.clock.banner,
        assay=kept.assay,
        pipeline=summary.pipeline,
        summary=summary,
        analyses=analyses,
        alert=alert,
        baselines=compared_with,
        versions=versions[::-1],
        incidents=incidents,
        editions=edited,
        maintenance=maintenance.of_assay(to_come, kept.assay.workspace, identity),
        sites=sites_open,
    )


def incidents(hub: Hub, visible: Visible = None) -> Incidents:
    """Return the incidents."""
    with hub.database.reading() as connection:
        listed = incident_store.listed(connection, newest=INCIDENTS_MAX, only=incidents_in(visible))
        found = _incidents(connection, listed)
    return Incidents(now_ns=hub.now_ns(), banner=hub.clock.banner, incidents=found)


def all_pipelines(hub: Hub, visible: Visible = None) -> Pipelines:
    """Return every pipeline, newest first."""
    with hub.database.reading() as connection:
        names = _workspaces(connection)
        query = select(pipelines.c.id).order_by(pipelines.c.created_ns.desc(), pipelines.c.id)
        rows = connection.execute(query if visible is None else query.where(pipelines.c.workspace.in_(visible)))
        found = [registry.need_pipeline(connection, identity) for identity in rows.scalars()]
        lines = [
            PipelineLine(
                pipeline=one,
                workspace=names.get(one.workspace, one.workspace),
                status=fleet.pipeline_status(connection, one.id),
                fields=[str(field["key"]) for field in one.versions[0].definition.get("fields", [])],
            )
            for one in found
        ]
    return Pipelines(now_ns=hub.now_ns(), banner=hub.clock.banner, pipelines=lines)


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _incidents(connection: Connection, found: Sequence[api.Incident]) -> list[IncidentLine]:
    if not found:
        return []
    names = store.named(connection, {one.assay_id for one in found if one.assay_id is not None})
    return [IncidentLine.of(one, names.get(one.assay_id or "")) for one in found]


def _assay_lines(
    connection: Connection,
    kept: Iterable[Kept],
    *,
    device: str | None = None,
    devices_max: int = DEVICES_IN_CHART_MAX,
    assays_max: int | None = None,
) -> list[AssayLines]:
    """Return assays with the newest answers of their devices, urgent ones first."""
    kept = list(kept)
    asked = [kept[0].assay.id] if len(kept) == 1 else None
    standings = store.standings(connection, asked, device=device, at_most=devices_max)
    nothing = Standing(0, ())
    ordered = sorted(kept, key=lambda one: _urgency(one, standings.get(one.assay.id, nothing)))[:assays_max]
    shown = {one.assay.id: standings.get(one.assay.id, nothing) for one in ordered}
    wanted = [strip for one in ordered for place in shown[one.assay.id].urgent for strip in _strips(one, place)]
    marks = store.latest_marks(connection, wanted)
    names = {row.id: row.name for row in connection.execute(select(pipelines.c.id, pipelines.c.name))}
    places = _workspaces(connection)
    made: list[AssayLines] = []
    for one in ordered:
        assay, spec = one.assay, one.assay.spec
        fields = [watched.field for watched in spec.watched]
        standing = shown[assay.id]
        lines = [
            _line(place, {field: marks.get((assay.id, place.device, field), []) for field in fields})
            for place in standing.urgent
        ]
        made.append(
            AssayLines(
                id=assay.id,
                name=spec.name,
                fields=fields,
                pipeline=names.get(spec.pipeline, spec.pipeline),
                workspace=places.get(assay.workspace, assay.workspace),
                active=assay.active,
                alarm=spec.alarm,
                failure=one.failure,
                lines=lines,
                devices=standing.devices,
                more=0 if device is not None else standing.devices - len(lines),
            )
        )
    return made


def _strips(kept: Kept, place: store.Progress) -> list[Strip]:
    """Return what to look up for a device's strip: its fields' windows from so many before the newest on."""
    if place.end_ns is None:
        return []
    since_ns = _since(kept.assay.spec.windows, place.end_ns, MARKS_MAX)
    return [Strip(kept.assay.id, place.device, one.field, since_ns) for one in kept.assay.spec.watched]


def _since(windows: api.Windows, end_ns: int, count: int) -> int:
    """Return where the so-many-th window before this end begins: in any history a bound is found at once."""
    interval_s = windows.interval_s or windows.width_s
    return end_ns - ((count - 1) * interval_s + windows.width_s) * NS_PER_S


def _line(place: store.Progress, by_field: Mapping[str, Sequence[Mark]]) -> Line:
    """Return a device's line: of every window the field that is worst."""
    windows: defaultdict[int, list[tuple[str, Mark]]] = defaultdict(list)
    for field, marks in by_field.items():
        for mark in marks:
            windows[mark.start_ns].append((field, mark))
    worst = [min(windows[start_ns], key=_badness) for start_ns in sorted(windows)][-MARKS_MAX:]
    field, newest = worst[-1] if worst else (None, None)
    return Line(
        device=place.device,
        status=place.status,
        score=place.score if newest is None else newest.score,
        end_ns=place.end_ns,
        marks=[mark for _, mark in worst],
        level=None if newest is None else newest.level,
        field=field,
    )


def _badness(one: tuple[str, Mark]) -> tuple[int, float, str]:
    field, mark = one
    return URGENCY.index(mark.status), -(mark.level or 0.0), field


def _newest(connection: Connection, kept: Kept, summary: AssayLines) -> list[api.Analysis]:
    """Return the newest answers of the devices shown, by window start, device, field."""
    windows = kept.assay.spec.windows
    wanted = [
        Strip(summary.id, line.device, field, _since(windows, line.end_ns, WINDOWS_IN_CHART_MAX))
        for line in summary.lines
        if line.end_ns is not None
        for field in summary.fields
    ]
    return store.answers_of(connection, wanted)


def _urgency(one: Kept, standing: Standing) -> tuple[bool, bool, int]:
    """Sort assays: those that cannot be answered, then those that watch, the most urgent answer first."""
    status = standing.urgent[0].status if standing.urgent else None
    worst = len(URGENCY) if status is None else URGENCY.index(status)
    return one.failure is None, not one.assay.active, worst


def _newest_alert(connection: Connection, summary: AssayLines) -> api.Analysis | None:
    return store.latest_alert(connection, summary.id, [line.device for line in summary.lines])


def _workspaces(connection: Connection) -> dict[str, str]:
    return {row.id: row.name for row in connection.execute(select(workspaces.c.id, workspaces.c.name))}
