"""Maintenance: a time in which somebody works on devices of a workspace, at a site, on one device, or for an assay.

Windows that overlap it are answered and marked, and wake nobody; the evidence of a promise does not step over them, for
what is seen while a lens is cleaned says nothing of what is usual. Nor is an incident opened of what is wrong with the
devices themselves. An incident that is open stays: what it is about may not be what is worked on. What is still wrong
afterwards opens one then.
"""

from collections.abc import Collection, Iterable, Sequence
from uuid import uuid4

from sqlalchemy import Connection

from driftline.clock import NS_PER_S, iso
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import registry
from driftline.hub.accounts.places import of_device
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.limits import check_words
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.store import assays
from driftline.hub.store import maintenance as store
from driftline.wire import api

routes = Routes()

# Longer than that is no maintenance: an assay can be switched off, and a device removed.
DAYS_MAX = 90


@routes.get("/workspaces/{workspace}/maintenance", policy=VIEWER)
def list_maintenance(call: Call[None]) -> list[api.Maintenance]:
    """List a workspace's maintenance, past and to come, the latest first."""
    with call.hub.database.reading() as connection:
        workspace = registry.need_workspace(connection, call.path["workspace"])
        return store.every(connection, workspace=workspace.id)


@routes.post("/workspaces/{workspace}/maintenance", policy=EDITOR, body=api.NewMaintenance)
def plan_maintenance(call: Call[api.NewMaintenance]) -> api.Maintenance:
    """Let what is seen in a time wake nobody, at a site, on a device, or for an assay."""
    return plan(call.hub, call.path["workspace"], call.body, call.who.called(call.body.by))


@routes.delete("/workspaces/{workspace}/maintenance/{maintenance}", policy=EDITOR)
def end_maintenance(call: Call[None]) -> None:
    """End a maintenance now, or call off one that has not begun."""
    end(call.hub, call.path["workspace"], call.path["maintenance"])


def plan(hub: Hub, workspace: str, new: api.NewMaintenance, actor: str) -> api.Maintenance:
    """Plan a maintenance.

    Raises:
        InvalidInputError: it is about nothing definite, ends before it begins, or lasts too long.
        EntityNotFoundError: the workspace has no such assay, or runs nothing on such a device.
    """
    check_words(new.reason, actor)
    if not (new.site or new.device or new.assay):
        raise InvalidInputError("a maintenance is of a site, a device or an assay; give one of them, or several")
    length_ns = new.until_ns - new.from_ns
    if not 0 < length_ns <= DAYS_MAX * 86_400 * NS_PER_S:
        raise InvalidInputError(
            f"from {iso(new.from_ns)} to {iso(new.until_ns)} is no maintenance: one ends after it begins, and lasts at "
            f"most {DAYS_MAX} days; switch off what is not to be watched for longer"
        )
    one = api.Maintenance(
        id=str(uuid4()),
        workspace=workspace,
        site=new.site or None,
        device=new.device or None,
        assay=new.assay or None,
        from_ns=new.from_ns,
        until_ns=new.until_ns,
        reason=new.reason.strip(),
        actor=actor,
        created_ns=hub.now_ns(),
    )
    with hub.database.writing() as connection:
        registry.need_workspace(connection, workspace)
        if one.assay is not None and assays.one(connection, one.assay).assay.workspace != workspace:
            raise EntityNotFoundError(f"this workspace has no assay with id {one.assay!r}")
        if one.device is not None and workspace not in (of_device(connection, one.device) or ()):
            raise EntityNotFoundError(f"this workspace runs nothing on a device {one.device!r}")
        store.add(connection, one)
    return one


def end(hub: Hub, workspace: str, identity: str) -> None:
    """End a maintenance now, or call it off; windows that overlapped it stay marked.

    Raises:
        EntityNotFoundError: the workspace has none of this id.
    """
    with hub.database.writing() as connection:
        store.end(connection, workspace, identity, hub.now_ns())


# ── what it means ────────────────────────────────────────────────────────────────────────────────────────────────


def of_assay(every: Iterable[api.Maintenance], workspace: str, assay: str | None) -> list[api.Maintenance]:
    """Return those that an assay's windows may be in."""
    return [one for one in every if one.workspace == workspace and one.assay in {None, assay}]


def note(own: Iterable[api.Maintenance], device: str, site: str | None, start_ns: int, end_ns: int) -> str | None:
    """Return what marks a window of a device that overlaps a maintenance; None where it overlaps none.

    >>> lens = api.Maintenance(
    ...     id="1",
    ...     workspace="shop",
    ...     device="till-1",
    ...     from_ns=60,
    ...     until_ns=120,
    ...     reason="new lens",
    ...     actor="Ada",
    ...     created_ns=0,
    ... )
    >>> (
    ...     note([lens], "till-1", None, 0, 60),
    ...     note([lens], "till-2", None, 60, 90),
    ...     note([lens], "till-1", None, 119, 180),
    ... )
    (None, None, 'in maintenance (new lens): it wakes nobody')
    """
    found = next(
        (one for one in own if one.from_ns < end_ns and start_ns < one.until_ns and _is_at(one, device, site)), None
    )
    if found is None:
        return None
    return f"in maintenance{f' ({found.reason})' if found.reason else ''}: it wakes nobody"


def excused(
    connection: Connection, every: Sequence[api.Maintenance], devices: Iterable[api.Device], now_ns: int
) -> Collection[str]:
    """Return the devices of whose own troubles nobody is woken now: whatever workspace they belong to says so."""
    now = [one for one in every if one.assay is None and one.from_ns <= now_ns < one.until_ns]
    if not now:
        return ()
    found: set[str] = set()
    for device in devices:
        says = {one.workspace for one in now if _is_at(one, device.name, device.site)}
        if says and says.issuperset(of_device(connection, device.name) or ()):
            found.add(device.name)
    return found


def _is_at(one: api.Maintenance, device: str, site: str | None) -> bool:
    return one.device in {None, device} and one.site in {None, site}
