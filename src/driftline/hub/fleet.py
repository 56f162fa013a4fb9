"""The fleet: which devices there are, how they fare, and what each of them should be running.

A device is a row with a name for ever; a pipeline version is *assigned* to it, and the **desired state** that every
sync brings down is worked out from the assignments: definitions, files, grids, fields, limits.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from driftline.clock import NS_PER_S, Clock, FastClock
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.hub import causes, grids, vectors
from driftline.hub.accounts.places import devices_in
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.paging import Page, page
from driftline.hub.policy import EDITOR, MEMBER, OWNER, VIEWER
from driftline.hub.store import assays as assay_store
from driftline.hub.store import incidents as incident_store
from driftline.hub.store import sql
from driftline.hub.store.fleet import assignments, devices, grants, tokens
from driftline.hub.store.registry import models, pipelines, versions, workspaces
from driftline.pipeline.definition import recorded_fields
from driftline.summary.grid import UNIVERSAL
from driftline.wire import api
from driftline.wire.device import BASE_WINDOW_S, BundleFile, Desired, DesiredPipeline

routes = Routes()

# The workspaces whose things are shown; None means all.
Visible = frozenset[str] | None

# The device that the hub's own machine is; `deploy` runs pipelines on it.
LOCAL = "hub"
# The device `hub` sends every row; any other only its first ones, from which grids are learned.
ROWS_MAX = 1000

INTERVAL_VARIABLE = "DRIFTLINE_SYNC_INTERVAL_S"
LOCAL_INTERVAL_S = 2.0
INTERVAL_S = 600.0
# Whoever sets up a device wants to see it arrive.
FIRST_INTERVAL_S = 60.0
FIRST_HOUR_NS = 3600 * NS_PER_S

SILENT_AFTER_SYNCS = 3
# A busy machine may hold up a sync that is due every two seconds; nobody is to be woken for that.
SILENT_AFTER_REAL_S = 30.0
# Ten minutes of one pipeline are 20 records; a device that holds this many cannot get rid of them.
BACKLOG_BEHIND = 1000
# A device without room drops windows with every commit: one that has dropped none for so long has room again.
DROPPING_NS = 3600 * NS_PER_S
CAMERA_STATES = ("camera lost", "feed frozen")
# Two machines with one identity sync at least this often; a disk that was restored from a copy is in conflict once.
CONFLICT_NS = 24 * 3600 * NS_PER_S


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/devices", policy=MEMBER, query=api.Paged)
def get_devices(call: Call[api.Paged]) -> Page[api.Device]:
    """List the devices by name."""
    hub = call.hub
    with hub.database.reading() as connection:
        query, visible = select(devices).where(devices.c.removed_ns.is_(None)), call.who.visible
        query = query if visible is None else query.where(devices.c.name.in_(devices_in(visible)))
        found = page(connection, query, ((devices.c.name, False),), call.body, lambda row: row)
        listed: Page[api.Device] = Page(_devices(hub, connection, found, visible))
    listed.next = found.next
    return listed


@routes.get("/devices/{name}", policy=VIEWER)
def get_device(call: Call[None]) -> api.Device:
    """Return one device by its name."""
    return device(call.hub, call.path["name"], call.who.visible)


@routes.put("/devices/{name}/link", policy=EDITOR, body=api.Link)
def put_link(call: Call[api.Link]) -> api.Device:
    """Say how a device's link is to be used; the device hears it with its next sync.

    Raises:
        EntityNotFoundError: there is no device of this name.
    """
    wish, name = call.body, call.path["name"]
    with call.hub.database.writing() as connection:
        facts = {"rows_kb_a_day": wish.rows_kb_a_day, "newest_first": wish.newest_first}
        row = need_device(connection, name)
        connection.execute(update(devices).where(devices.c.id == row.id).values(facts))
    call.hub.changed()
    return device(call.hub, name, call.who.visible)


@routes.delete("/devices/{name}", policy=OWNER, raises=(InvalidInputError,))
def remove_device(call: Call[None]) -> None:
    """Remove a device: its key and tokens are worth nothing from now on. Its name may join again.

    Raises:
        EntityNotFoundError: there is no device of this name.
        InvalidInputError: it is the hub's own.
    """
    name = call.path["name"]
    if name == LOCAL:
        raise InvalidInputError(f"device {LOCAL!r} is the hub's own machine; undeploy its pipelines instead")
    with call.hub.database.writing() as connection:
        row = need_device(connection, name)
        for table in (tokens, assignments, grants):
            connection.execute(delete(table).where(table.c.device == row.id))
        now_ns = call.hub.now_ns()
        connection.execute(update(devices).where(devices.c.id == row.id).values(removed_ns=now_ns, key=None))
        assay_store.forget_device(connection, name)
        causes.forget_device(connection, name, now_ns)
    call.hub.changed()


def list_devices(hub: Hub, visible: Visible = None) -> list[api.Device]:
    """Return every device with its states, by name; of some workspaces only, those that run something of theirs."""
    query = select(devices).where(devices.c.removed_ns.is_(None)).order_by(devices.c.name)
    with hub.database.reading() as connection:
        rows = connection.execute(query if visible is None else query.where(devices.c.name.in_(devices_in(visible))))
        return _devices(hub, connection, rows, visible)


def device(hub: Hub, name: str, visible: Visible = None) -> api.Device:
    """Return one device by its name, with what it runs of some workspaces, or of all.

    Raises:
        EntityNotFoundError: there is none.
    """
    with hub.database.reading() as connection:
        return _devices(hub, connection, [need_device(connection, name)], visible)[0]


def need_device(connection: Connection, name: str) -> Row[Any]:
    """Return the row of the device of this name.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(devices).where(devices.c.name == name, devices.c.removed_ns.is_(None))).first()
    if row is None:
        raise EntityNotFoundError(f"there is no device {name!r}; list_devices() shows those there are")
    return row


def forget_conflict(connection: Connection, name: str) -> None:
    """Take it that a device is one machine, until something else is seen."""
    connection.execute(update(devices).where(devices.c.name == name).values(conflict_ns=None, epochs=[]))


def ensure_device(connection: Connection, name: str, now_ns: int) -> Row[Any]:
    """Return the row of the device of this name, making it, or taking it back into the fleet, where needed."""
    made = {"id": str(uuid.uuid4()), "name": name, "created_ns": now_ns}
    connection.execute(sql.upsert(connection, devices).values(made).on_conflict_do_nothing())
    connection.execute(update(devices).where(devices.c.name == name).values(removed_ns=None))
    return need_device(connection, name)


def _devices(hub: Hub, connection: Connection, rows: Iterable[Row[Any]], visible: Visible = None) -> list[api.Device]:
    drifting = incident_store.drifting(connection)
    assigned: dict[str, dict[str, str]] = {}
    for one in connection.execute(
        select(assignments.c.device, assignments.c.version, pipelines.c.name, pipelines.c.workspace).join(
            pipelines, pipelines.c.id == assignments.c.pipeline
        )
    ):
        if visible is None or one.workspace in visible:
            assigned.setdefault(one.device, {})[one.version] = one.name
    undated = hub.telemetry.undated(connection)
    return [
        _device(hub, row, assigned.get(row.id, {}), undated.get(row.name, {}), drifting=row.name in drifting)
        for row in rows
    ]


def _device(
    hub: Hub, row: Row[Any], assigned: Mapping[str, str], undated: dict[str, int], *, drifting: bool
) -> api.Device:
    # Fast time is nobody's: a device whose own time it is not is not wrong.
    clock = row.clock if speed(hub.clock) == 1 else {}
    heard = [row.complete_until_ns.get(version) for version in assigned]
    return api.Device(
        id=row.id,
        name=row.name,
        states=_states(hub, row, assigned, drifting=drifting),
        created_ns=row.created_ns,
        heard_ns=row.heard_ns,
        joined=row.key is not None,
        complete_until_ns=min(heard) if heard and None not in heard else None,
        backlog=row.backlog,
        software=row.software,
        pipelines={name: pipeline_state(row, version) for version, name in assigned.items()},
        sources=row.sources,
        dropped=row.dropped,
        waiting=row.waiting,
        link=api.Link(rows_kb_a_day=row.rows_kb_a_day, newest_first=row.newest_first),
        clock_ahead_s=-clock["offset_ns"] / NS_PER_S if clock else None,
        clock_error_s=clock["error_ns"] / NS_PER_S if clock else None,
        undated=undated,
        site=row.site,
    )


def _states(hub: Hub, row: Row[Any], assigned: Iterable[str], *, drifting: bool) -> list[str]:
    if row.heard_ns is None:
        return ["new"]
    silent = is_silent(hub, row)
    states = ["silent"] if silent else []
    states += ["drifting"] if drifting else []
    cameras = {camera_state(state) for state in row.sources.values()}
    states += [state for state in CAMERA_STATES if state in cameras]
    in_conflict = row.conflict_ns is not None and hub.now_ns() - row.conflict_ns < CONFLICT_NS
    states += ["identity conflict"] if in_conflict else []
    behind = row.backlog > BACKLOG_BEHIND or (not silent and _lags(hub, row, assigned))
    states += ["behind"] if behind else []
    dropping = row.dropped_ns is not None and hub.now_ns() - row.dropped_ns < DROPPING_NS
    states += ["dropping"] if dropping else []
    return states or ["healthy"]


def camera_state(state: str) -> str:
    """Return a camera's state as the fleet knows it: one that cannot be opened shows as little as a lost one."""
    return "camera lost" if state.startswith("error") else state


def _lags(hub: Hub, row: Row[Any], assigned: Iterable[str]) -> bool:
    """Say whether a device that is heard tells of windows long past: it cannot keep up with its camera."""
    told = [
        row.complete_until_ns[version]
        for version in assigned
        if row.pipelines.get(version) == "running" and version in row.complete_until_ns
    ]
    return bool(told) and hub.now_ns() - min(told) > _patience_s(hub, row) * NS_PER_S + BASE_WINDOW_S * NS_PER_S


def is_silent(hub: Hub, row: Row[Any]) -> bool:
    """Say whether a device that was heard before has missed too many syncs."""
    if row.heard_ns is None:
        return False
    return hub.now_ns() - row.heard_ns > _patience_s(hub, row) * NS_PER_S


def _patience_s(hub: Hub, row: Row[Any]) -> float:
    return max(SILENT_AFTER_SYNCS * row.interval_s, SILENT_AFTER_REAL_S * speed(hub.clock))


def sync_interval_s(hub: Hub, row: Row[Any]) -> float:
    """Return how often a device is to sync, in seconds of the hub's clock; `DRIFTLINE_SYNC_INTERVAL_S` overrides.

    Raises:
        InvalidInputError: the variable is not a number above 0.
    """
    wish = check_interval()
    if wish is not None:
        return wish
    if row.name == LOCAL:
        return LOCAL_INTERVAL_S * speed(hub.clock)
    joined_ns = row.joined_ns or row.created_ns
    soon = speed(hub.clock) > 1 or hub.now_ns() - joined_ns < FIRST_HOUR_NS
    return FIRST_INTERVAL_S if soon else INTERVAL_S


def speed(clock: Clock) -> float:
    """Return how many seconds the clock shows pass in one real second."""
    return clock.factor if isinstance(clock, FastClock) and clock.banner else 1.0


def check_interval() -> float | None:
    """Return the interval that `DRIFTLINE_SYNC_INTERVAL_S` asks for, None where it is unset.

    Raises:
        InvalidInputError: the variable is not a number above 0.
    """
    text = os.environ.get(INTERVAL_VARIABLE)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidInputError(f"{INTERVAL_VARIABLE}={text!r} is not a number of seconds above 0, such as 60")
    return seconds


# ── what a device runs ───────────────────────────────────────────────────────────────────────────────────────────


def assign(
    connection: Connection,
    row: Row[Any],
    pipeline: str,
    version: str,
    *,
    publish: str | None = None,
    limits: Mapping[str, float] | None = None,
) -> None:
    """Let a device run this version of a pipeline instead of any other; call `hub.changed()` after the commit.

    Raises:
        ConflictError: the device runs a pipeline of the same name, of another workspace.
    """
    _check_name(connection, row, pipeline)
    facts = {"version": version, "publish": publish, "limits": dict(limits or {})}
    statement = sql.upsert(connection, assignments).values(device=row.id, pipeline=pipeline, **facts)
    connection.execute(statement.on_conflict_do_update(index_elements=["device", "pipeline"], set_=facts))
    connection.execute(sql.upsert(connection, grants).values(device=row.id, version=version).on_conflict_do_nothing())
    connection.execute(update(pipelines).where(pipelines.c.id == pipeline).values(undeployed_ns=None))


def _check_name(connection: Connection, row: Row[Any], pipeline: str) -> None:
    # People and programs on a device call a pipeline by its name, and a name must mean one.
    name = select(pipelines.c.name).where(pipelines.c.id == pipeline).scalar_subquery()
    other = connection.execute(
        select(pipelines.c.name, workspaces.c.name.label("workspace"))
        .join(assignments, assignments.c.pipeline == pipelines.c.id)
        .join(workspaces, workspaces.c.id == pipelines.c.workspace)
        .where(assignments.c.device == row.id, pipelines.c.id != pipeline, pipelines.c.name == name)
    ).first()
    if other is not None:
        raise ConflictError(
            f"device {row.name!r} runs a pipeline {other.name!r} of workspace {other.workspace!r} already, and a "
            "device knows its pipelines by name; build this one under another name, or undeploy() the other"
        )


def granted(hub: Hub, connect: Callable[[], Connection], device_id: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Return every version a device was ever given: its pipeline's id and its definition, by version id."""
    generation = hub.generation
    known = hub.granted.get(device_id)
    if known is not None and known[0] == generation:
        return known[1]
    found = {row.id: (row.pipeline, row.definition) for row in connect().execute(_GRANTED, {"device": device_id})}
    hub.granted[device_id] = (generation, found)
    return found


_GRANTED = (
    select(versions.c.id, versions.c.pipeline, versions.c.definition)
    .join(grants, grants.c.version == versions.c.id)
    .where(grants.c.device == bindparam("device"))
)


def desired(hub: Hub, row: Row[Any]) -> Desired:
    """Return what a device should be running."""
    return desired_state(hub, row)[0]


def desired_state(hub: Hub, row: Row[Any]) -> tuple[Desired, str]:
    """Return what a device should be running, and its revision."""
    # The generation is read first: a change that is committed meanwhile makes this answer stale, never the next one.
    generation = hub.generation
    known = hub.desired.get(row.id)
    if known is not None and known[0] == generation:
        return known[1:]
    with hub.database.reading() as connection:
        made = _desired(connection, row)
    hub.desired[row.id] = (generation, made, made.revision)
    return hub.desired[row.id][1:]


def _desired(connection: Connection, row: Row[Any]) -> Desired:
    query = (
        select(
            assignments.c.pipeline, assignments.c.version, assignments.c.limits, pipelines.c.name, versions.c.definition
        )
        .join(pipelines, pipelines.c.id == assignments.c.pipeline)
        .join(versions, versions.c.id == assignments.c.version)
        .where(assignments.c.device == row.id)
        .order_by(pipelines.c.name, assignments.c.pipeline)
    )
    wanted = tuple(_desired_pipeline(connection, row, one) for one in connection.execute(query))
    named = {grid_id for one in wanted for grid_id in one.grids.values()}
    wish = connection.execute(
        select(devices.c.rows_kb_a_day, devices.c.newest_first).where(devices.c.id == row.id)
    ).one()
    return Desired(
        wanted,
        grids.edges_of(connection, named),
        rows_kb_a_day=wish.rows_kb_a_day,
        newest_first=wish.newest_first,
    )


def _desired_pipeline(connection: Connection, row: Row[Any], assigned: Any) -> DesiredPipeline:
    definition = assigned.definition
    extra = grids.recordable(definition, grids.extra_of(connection, assigned.pipeline))
    recorded = {one.key for one in recorded_fields(definition, extra)} if definition["steps"] else None
    chosen = {
        field: grid_id
        for field, grid_id in grids.of_pipeline(connection, assigned.pipeline).items()
        if grid_id != UNIVERSAL.id and (recorded is None or field in recorded)
    }
    return DesiredPipeline(
        id=assigned.version,
        name=assigned.name,
        definition=definition,
        files=_files(connection, definition),
        grids=chosen,
        extra_fields=tuple(extra),
        rows_max=None if row.name == LOCAL else ROWS_MAX,
        limits=assigned.limits,
        projections=vectors.of_version(connection, assigned.pipeline, definition),
    )


def _files(connection: Connection, definition: Mapping[str, Any]) -> dict[str, BundleFile]:
    wanted = [str(step["model"]) for step in definition["steps"]]
    found = connection.execute(select(models.c.id, models.c.digest, models.c.size).where(models.c.id.in_(wanted)))
    return {row.id: BundleFile(row.digest, row.size) for row in found}


# ── how a pipeline fares ─────────────────────────────────────────────────────────────────────────────────────────


def pipeline_status(connection: Connection, pipeline: str) -> api.PipelineStatus:
    """Say how a pipeline fares on the devices it is assigned to.

    Where the device `hub` runs it, that device decides, because it answers `infer`; else it is running as soon
    as one device runs it.
    """
    query = (
        select(devices, assignments.c.version)
        .join(assignments, assignments.c.device == devices.c.id)
        .where(assignments.c.pipeline == pipeline)
        .order_by(devices.c.name)
    )
    rows = connection.execute(query).all()
    told = [
        api.DevicePipelineStatus(
            device=row.name,
            state=pipeline_state(row, row.version),
            version=row.version,
            limits={"worker": row.limits[row.version]} if row.limits.get(row.version) else {},
        )
        for row in rows
    ]
    if not told:
        undeployed = connection.execute(select(pipelines.c.undeployed_ns).where(pipelines.c.id == pipeline)).scalar()
        return api.PipelineStatus(status="created" if undeployed is None else "undeployed", details=[], devices=[])
    details = [f"{one.device}: {one.state}{_in_words(one.limits)}" for one in told]
    deciding = [one.state for one in told if one.device == LOCAL] or [one.state for one in told]
    return api.PipelineStatus(status=_overall(deciding), details=details, devices=told)


def pipeline_state(row: Row[Any], version: str) -> str:
    """Return how a device runs a version, in its own words: running, starting, error: …, or not joined."""
    if row.key is None:
        return "not joined"
    return row.pipelines.get(version, "starting")


def _overall(states: list[str]) -> str:
    if "running" in states:
        return "running"
    return "error" if any(state.startswith("error") for state in states) else "deploying"


def _in_words(limits: Mapping[str, str]) -> str:
    return "".join(f" ({text})" for text in limits.values())
