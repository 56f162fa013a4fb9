"""To which workspaces something belongs that an address names."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from driftline.hub.store.assays import ASSAYS
from driftline.hub.store.fleet import assignments, devices, publishes
from driftline.hub.store.incidents import INCIDENTS, PARTS
from driftline.hub.store.registry import models, pipelines, workspaces

Finder = Callable[[Connection, str], list[str] | None]


def workspaces_of(connection: Connection, path: Mapping[str, str]) -> list[str] | None:
    """Return the workspaces of the thing that an address names; None where it is not there.

    A device belongs to those whose pipelines it runs, an incident to its assay's, or to its device's.
    """
    for name, find in _FINDERS.items():
        if name in path:
            return find(connection, path[name])
    return None


def of_device(connection: Connection, name: str) -> list[str] | None:
    """Return the workspaces whose pipelines a device runs; None where there is no such device."""
    identity = connection.execute(
        select(devices.c.id).where(devices.c.name == name, devices.c.removed_ns.is_(None))
    ).scalar()
    if identity is None:
        return None
    query = (
        select(pipelines.c.workspace)
        .join(assignments, assignments.c.pipeline == pipelines.c.id)
        .where(assignments.c.device == identity)
    )
    return sorted(set(connection.execute(query).scalars()))


def devices_in(visible: frozenset[str]) -> Any:
    """Return the query of the names of devices that run something of these workspaces."""
    return (
        select(devices.c.name)
        .join(assignments, assignments.c.device == devices.c.id)
        .join(pipelines, pipelines.c.id == assignments.c.pipeline)
        .where(pipelines.c.workspace.in_(visible))
    )


def incidents_in(visible: frozenset[str] | None) -> Any:
    """Return the condition of the incidents of these workspaces' assays and devices; None where all are meant."""
    if visible is None:
        return None
    theirs = INCIDENTS.c.assay.in_(select(ASSAYS.c.id).where(ASSAYS.c.workspace.in_(visible)))
    about = select(PARTS.c.incident).where(PARTS.c.device.in_(devices_in(visible)))
    return or_(theirs, and_(INCIDENTS.c.assay.is_(None), INCIDENTS.c.id.in_(about)))


def _finder(workspace: Any, identity: Any) -> Finder:
    def find(connection: Connection, wanted: str) -> list[str] | None:
        found = connection.execute(select(workspace).where(identity == wanted)).scalar()
        return None if found is None else [found]

    return find


def _of_publish(connection: Connection, identity: str) -> list[str] | None:
    query = select(pipelines.c.workspace).join(publishes, publishes.c.pipeline == pipelines.c.id)
    found = connection.execute(query.where(publishes.c.id == identity)).scalar()
    return None if found is None else [found]


def _of_incident(connection: Connection, identity: str) -> list[str] | None:
    row = connection.execute(select(INCIDENTS.c.assay).where(INCIDENTS.c.id == identity)).first()
    if row is None:
        return None
    if row.assay is not None:
        return list(connection.execute(select(ASSAYS.c.workspace).where(ASSAYS.c.id == row.assay)).scalars())
    names = connection.execute(select(PARTS.c.device).where(PARTS.c.incident == identity).distinct()).scalars()
    return sorted({one for name in names for one in of_device(connection, name) or ()})


# By the name that a path gives its part.
_FINDERS: Mapping[str, Finder] = {
    "workspace": _finder(workspaces.c.id, workspaces.c.id),
    "model": _finder(models.c.workspace, models.c.id),
    "pipeline": _finder(pipelines.c.workspace, pipelines.c.id),
    "publish": _of_publish,
    "assay": _finder(ASSAYS.c.workspace, ASSAYS.c.id),
    "incident": _of_incident,
    "name": of_device,
}
