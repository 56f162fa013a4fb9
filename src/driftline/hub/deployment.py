"""Bringing pipelines to devices: `deploy` to the hub's own machine, `publish` and `add_edge` to any other."""

import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, insert, select, update

from driftline.errors import EntityNotFoundError, InvalidInputError, NotAllowedError, NotYetError
from driftline.hub import fleet, identity, registry
from driftline.hub.accounts.places import of_device
from driftline.hub.http import Call, Routes
from driftline.hub.paging import Page, page
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.store.fleet import assignments, devices, publishes
from driftline.hub.store.registry import pipelines
from driftline.wire import api

routes = Routes()

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([kKMGT]i?)?B?")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


# ── the hub's own machine ────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/pipelines/{pipeline}/deploy", policy=EDITOR, body=api.Deploy, raises=(NotYetError,))
def deploy(call: Call[api.Deploy]) -> api.Pipeline:
    """Let the device `hub` run the newest version; the status says when it does.

    Raises:
        InvalidInputError: the deployment's configuration cannot be read, or the pipeline has nothing to run.
        NotYetError: it asks for more than one replica, or for other machines.
    """
    hub = call.hub
    with hub.database.writing() as connection:
        pipeline = registry.need_pipeline(connection, call.path["pipeline"])
        version = pipeline.versions[0]
        steps = {str(step["model"]): str(step["name"]) for step in version.definition["steps"]}
        limits = parse_config(call.body.config, steps)
        row = fleet.ensure_device(connection, fleet.LOCAL, hub.now_ns())
        fleet.assign(connection, row, pipeline.id, version.id, limits=limits)
        deployed = registry.need_pipeline(connection, pipeline.id)
    hub.changed()
    return deployed


@routes.post("/pipelines/{pipeline}/undeploy", policy=EDITOR)
def undeploy(call: Call[None]) -> api.Pipeline:
    """Let the device `hub` run it no longer; devices it was published to go on."""
    hub = call.hub
    with hub.database.writing() as connection:
        pipeline = registry.need_pipeline(connection, call.path["pipeline"])
        row = fleet.ensure_device(connection, fleet.LOCAL, hub.now_ns())
        connection.execute(
            delete(assignments).where(assignments.c.device == row.id, assignments.c.pipeline == pipeline.id)
        )
        connection.execute(update(pipelines).where(pipelines.c.id == pipeline.id).values(undeployed_ns=hub.now_ns()))
        undeployed = registry.need_pipeline(connection, pipeline.id)
    hub.changed()
    return undeployed


@routes.get("/pipelines/{pipeline}/status", policy=VIEWER)
def status(call: Call[None]) -> api.PipelineStatus:
    """Say how the pipeline fares, device by device."""
    with call.hub.database.reading() as connection:
        return fleet.pipeline_status(connection, registry.need_pipeline(connection, call.path["pipeline"]).id)


def parse_config(config: Mapping[str, Any] | None, models: Mapping[str, str]) -> dict[str, float]:
    """Read what `DeploymentConfigBuilder.build()` made: `cpus` and `memory_bytes` of the worker, where limited.

    The limits of a custom model's own process are named after its model: `<model id>.cpus`, `<model id>.memory_bytes`.
    `models` are the names of the pipeline's models by id.

    Raises:
        InvalidInputError: not such a dictionary, or a limit for a model that the pipeline does not have.
        NotYetError: more than one replica, GPUs, or a choice of machines.
    """
    if config is None:
        return {}
    engine = _part(config, "engine")
    replicas = engine.get("replicas", 1)
    if replicas != 1:
        raise NotYetError(f"the deployment asks for {replicas!r} replicas; a device runs one so far")
    if config.get("node_selector"):
        raise NotYetError("node_selector: deploy() runs on the hub's own machine; reach others with publish()")
    limits = _limits("engine", engine)
    if "cpu" in engine:
        limits.setdefault("cpus", _cores("engine", engine["cpu"]))
    images = _part(_part(config, "engineAux"), "images")
    for model in images:
        if model not in models:
            raise InvalidInputError(
                f"the deployment limits the process of model {model!r}, which is not a step of this pipeline; "
                f"its models are: {', '.join(f'{name} ({key})' for key, name in models.items()) or 'none'}"
            )
        limits |= {f"{model}.{name}": value for name, value in _limits(f"model {model}", _part(images, model)).items()}
    return limits


def _limits(what: str, part: Mapping[str, Any]) -> dict[str, float]:
    limits = _part(_part(part, "resources"), "limits")
    unknown = [name for name in limits if name not in {"cpu", "memory"}]
    if unknown:
        raise NotYetError(f"{what}: {', '.join(unknown)} cannot be limited so far; cpu and memory can")
    read: dict[str, float] = {}
    if "cpu" in limits:
        read["cpus"] = _cores(what, limits["cpu"])
    if "memory" in limits:
        read["memory_bytes"] = _memory(what, limits["memory"])
    return read


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name) or {}
    if not isinstance(part, Mapping):
        raise InvalidInputError(
            f"the deployment's {name} is {part!r:.80}; give what DeploymentConfigBuilder(…).build() returns"
        )
    return cast("Mapping[str, Any]", part)


def _cores(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidInputError(f"{what}: {value!r} cores; give a number above 0, such as 1 or 0.5")
    return float(value)


def _memory(what: str, value: object) -> int:
    """Read an amount of memory.

    >>> _memory("engine", "2Gi"), _memory("engine", "512M"), _memory("engine", "1024")
    (2147483648, 512000000, 1024)
    """
    match = _MEMORY.fullmatch(str(value))
    amount = 0
    if match is not None:
        unit = (match[2] or "").lower()
        amount = int(float(match[1]) * (1024 if unit.endswith("i") else 1000) ** _POWERS.get(unit[:1], 0))
    if amount <= 0:
        raise InvalidInputError(f"{what}: {value!r} is not an amount of memory; write for example '512Mi' or '2Gi'")
    return amount


# ── other devices ────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/pipelines/{pipeline}/publish", policy=EDITOR)
def publish(call: Call[None]) -> api.Publish:
    """Make the newest version available to devices."""
    with call.hub.database.writing() as connection:
        pipeline = registry.need_pipeline(connection, call.path["pipeline"])
        made = api.Publish(
            id=str(uuid.uuid4()),
            pipeline=pipeline.id,
            version=pipeline.versions[0].id,
            created_ns=call.hub.now_ns(),
        )
        connection.execute(
            insert(publishes).values(
                id=made.id, pipeline=made.pipeline, version=made.version, created_ns=made.created_ns
            )
        )
    return made


@routes.get("/pipelines/{pipeline}/publishes", policy=VIEWER, query=api.Paged)
def list_publishes(call: Call[api.Paged]) -> Page[api.Publish]:
    """List what was published of a pipeline, newest first."""
    with call.hub.database.reading() as connection:
        pipeline = registry.need_pipeline(connection, call.path["pipeline"])
        query = select(publishes).where(publishes.c.pipeline == pipeline.id)
        return page(connection, query, ((publishes.c.created_ns, True), (publishes.c.id, True)), call.body, _publish)


@routes.get("/publishes/{publish}/edges", policy=VIEWER, query=api.Paged)
def list_edges(call: Call[api.Paged]) -> Page[api.Edge]:
    """List the devices that a publish goes to, by name; a token is shown only once, when it is made."""
    with call.hub.database.reading() as connection:
        made = need_publish(connection, call.path["publish"])
        query = (
            select(devices.c.id, devices.c.name)
            .join(assignments, assignments.c.device == devices.c.id)
            .where(assignments.c.publish == made.id)
        )
        return page(connection, query, ((devices.c.name, False),), call.body, _edge)


def _edge(row: Row[Any]) -> api.Edge:
    return api.Edge(id=row.id, name=row.name, token=None, command=None, expires_ns=None)


@routes.post("/publishes/{publish}/edges", policy=EDITOR, body=api.NewEdge)
def add_edge(call: Call[api.NewEdge]) -> api.Edge:
    """Let a device run what was published; a device that is not there yet gets a token to join with.

    Raises:
        InvalidInputError: a name that cannot be one, or the hub's own.
    """
    hub, name = call.hub, registry.check_name("device", call.body.name)
    if name == fleet.LOCAL:
        raise InvalidInputError(f"device {name!r} is the hub's own machine; it runs what you deploy()")
    if name in {".", ".."} or name.lower().endswith(".json"):
        raise InvalidInputError(
            f"device {name!r} could not have a page at /devices/{name}, where that means something else; "
            "take a name such as 'camera-1'"
        )
    with hub.database.writing() as connection:
        made = need_publish(connection, call.path["publish"])
        elsewhere = of_device(connection, name)
        if elsewhere and not call.who.may(EDITOR, elsewhere):
            raise NotAllowedError(
                f"device {name!r} works for another workspace; ask its owner for a role there, or take another name"
            )
        row = fleet.ensure_device(connection, name, hub.now_ns())
        fleet.assign(connection, row, made.pipeline, made.version, publish=made.id)
        edge = api.Edge(id=row.id, name=row.name, token=None, command=None, expires_ns=None)
        if row.key is None:
            token, expires_ns = identity.make_token(connection, hub, row.id)
            edge.token, edge.command, edge.expires_ns = str(token), f"driftline edge join {token}", expires_ns
    hub.changed()
    return edge


def need_publish(connection: Connection, publish_id: str) -> api.Publish:
    """Return the publish of this id.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(publishes).where(publishes.c.id == publish_id)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no publish {publish_id!r}; make one with pipeline.publish()")
    return _publish(row)


def _publish(row: Row[Any]) -> api.Publish:
    return api.Publish(id=row.id, pipeline=row.pipeline, version=row.version, created_ns=row.created_ns)
