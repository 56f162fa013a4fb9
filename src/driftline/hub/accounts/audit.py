"""The audit trail: who changed what, when, from where, from what to what.

The layer under the routes writes it, not each route: whatever changes something is in it, also what is added later. It
is written right after the change itself: a hub that is killed between the two has changed something without a line.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec
from sqlalchemy import Connection, insert, select

from driftline.errors import DriftlineError
from driftline.hub.accounts.places import workspaces_of
from driftline.hub.accounts.tables import changes
from driftline.hub.accounts.who import Principal
from driftline.hub.core import Hub
from driftline.hub.paging import Page, page
from driftline.hub.store import assays as store
from driftline.hub.store import incidents
from driftline.hub.store.fleet import devices
from driftline.wire import api

# The address of a channel is one, too: of a webhook its path, of a service of Apprise its keys.
SECRETS = frozenset({"password", "new_password", "again", "secret", "token", "key", "data", "url"})
ITEMS_MAX = 20
CHARACTERS_MAX = 300


class Change(api.Struct):
    """One line of the trail: `before` and `after` hold what became different, by name."""

    id: int
    at_ns: int
    name: str
    address: str
    workspace: str | None
    what: str
    subject: str
    before: Any = None
    after: Any = None


class ChangesAsked(api.Paged):
    """The query of `GET /changes`: of one workspace, of one person, of one thing."""

    workspace: str | None = None
    name: str | None = None
    subject: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100


def state_of(connection: Connection, path: Mapping[str, str]) -> dict[str, Any]:
    """Return what can be changed of the thing an address names, to be compared afterwards."""
    try:
        if "assay" in path:
            assay = store.one(connection, path["assay"]).assay
            facts = msgspec.to_builtins(assay.spec) | {"active": assay.active, "baseline": assay.baseline_version}
            return flat(facts)
        if "incident" in path:
            one = incidents.one(connection, path["incident"])
            return flat(
                {"state": one.state, "resolved_ns": one.resolved_ns, "silenced_until_ns": one.silenced_until_ns}
            )
        if "name" in path:
            row = connection.execute(select(devices).where(devices.c.name == path["name"])).first()
            names = ("rows_kb_a_day", "newest_first", "site", "removed_ns")
            return {} if row is None else {name: getattr(row, name) for name in names}
    except DriftlineError:
        pass  # it is not there, which the route itself says
    return {}


def record(
    hub: Hub,
    who: Principal,
    address: str,
    what: str,
    path: Mapping[str, str],
    before: Mapping[str, Any],
    body: Any,
) -> None:
    """Write what a request changed; where nothing of the thing itself became different, what was asked for."""
    with hub.database.writing() as connection:
        workspaces = workspaces_of(connection, path)
        after = state_of(connection, path)
        was = {name: before[name] for name in before if before.get(name) != after.get(name)}
        now = {name: after[name] for name in after if before.get(name) != after.get(name)}
        connection.execute(
            insert(changes).values(
                at_ns=hub.now_ns(),
                person=who.person,
                name=who.name,
                address=address,
                workspace=path.get("workspace") or next(iter(workspaces or ()), None),
                what=what,
                subject=" ".join(path.values())[:CHARACTERS_MAX],
                before=trimmed(was) or None,
                after=trimmed(now or body) or None,
            )
        )


def list_changes(connection: Connection, asked: ChangesAsked, visible: frozenset[str] | None) -> Page[Change]:
    """Return a page of the trail, newest first, of what somebody may see."""
    query = select(changes)
    if visible is not None:
        query = query.where(changes.c.workspace.in_(visible))
    for name in ("workspace", "name", "subject"):
        if value := getattr(asked, name):
            query = query.where(changes.c[name] == value)
    names = Change.__struct_fields__
    return page(
        connection,
        query,
        ((changes.c.id, True),),
        asked,
        lambda row: Change(**{name: getattr(row, name) for name in names}),
    )


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested facts by their dotted names, so that two can be compared one by one.

    >>> flat({"alarm": {"kind": "fixed", "threshold": 0.25}})
    {'alarm.kind': 'fixed', 'alarm.threshold': 0.25}
    """
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def trimmed(value: Any) -> Any:
    """Return a document without secrets, and short enough to be kept for years.

    >>> trimmed({"name": "anna", "password": "correct horse", "values": list(range(1000))})
    {'name': 'anna', 'password': '…', 'values': '1000 items'}
    """
    if isinstance(value, Mapping):
        facts = cast("Mapping[str, Any]", value)
        return {name: "…" if name in SECRETS else trimmed(one) for name, one in facts.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return f"{len(items)} items" if len(items) > ITEMS_MAX else [trimmed(one) for one in items]
    return value[:CHARACTERS_MAX] if isinstance(value, str) else value
