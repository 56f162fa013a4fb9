"""The audit trail: who changed what, when, from where, from what to what.

The layer under the routes writes it, not each route: whatever changes something is in it, also what is added later. A
line is written in the transaction of the change itself, so that there is neither without the other.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from driftline.errors import DriftlineError
from driftline.hub import journal
from driftline.hub.accounts.places import workspaces_of
from driftline.hub.accounts.tables import changes
from driftline.hub.accounts.who import Principal
from driftline.hub.core import Hub
from driftline.hub.paging import Page, page
from driftline.hub.store import assays as store
from driftline.hub.store import incidents
from driftline.hub.store.database import WITNESS
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


@dataclass(frozen=True)
class Asked:
    """A request that changes something: of whom, from which address, to do what to the thing its `path` names.

    `body` is what was sent with it, None where that is nothing, or too long to be kept.
    """

    who: Principal
    address: str
    what: str
    path: Mapping[str, str]
    body: Any


@contextmanager
def recorded(hub: Hub, asked: Asked) -> Generator[None]:
    """Write what a request changes; where nothing of the thing itself becomes different, what was asked for.

    The line is written in the first transaction of this thread, and brought up to date in each one after it. A request
    that is refused half way has a line that says so; one that succeeds has a line whatever it did.
    """
    with hub.database.reading() as connection:
        line = _Line(hub, asked, state_of(connection, asked.path), workspaces_of(connection, asked.path))
    token = WITNESS.set(line)
    try:
        yield
        if line.id is None:
            line.write_alone()
    except Exception as error:
        if line.id is not None:
            # Of our own bugs the name alone: their texts may quote what is stored.
            line.refused = str(error) if isinstance(error, DriftlineError) else type(error).__name__
            line.write_alone_or_tell()
        raise
    finally:
        WITNESS.reset(token)


def set_up(connection: Connection, hub: Hub, admin: Row[Any], address: str) -> None:
    """Write in a transaction that it made the hub's first admin."""
    told = {"name": admin.name, "is_admin": True}
    _Line(hub, Asked(Principal(admin.id, admin.name), address, "set_up", {}, told), {}, None).write(connection)


class _Line:
    """One request's line: of a thing as it was `before`, in these workspaces; its `id` is None until it is kept."""

    def __init__(self, hub: Hub, asked: Asked, before: Mapping[str, Any], workspaces: Sequence[str] | None) -> None:
        self.id: int | None = None
        self._written: int | None = None
        self.refused: str | None = None
        self._hub, self._asked, self._before, self._workspaces = hub, asked, before, workspaces

    def write(self, connection: Connection) -> None:
        """Write it as it is now, in this transaction."""
        asked, before, after = self._asked, self._before, state_of(connection, self._asked.path)
        was = {name: before[name] for name in before if before.get(name) != after.get(name)}
        now = {name: after[name] for name in after if before.get(name) != after.get(name)}
        told = (now or asked.body) if self.refused is None else now | {"refused": self.refused}
        facts = {"before": trimmed(was) or None, "after": trimmed(told) or None}
        if self.id is not None:
            connection.execute(update(changes).where(changes.c.id == self.id).values(facts))
            return
        workspaces = self._workspaces or workspaces_of(connection, asked.path) or ()
        own = {
            "at_ns": self._hub.now_ns(),
            "person": asked.who.person,
            "name": asked.who.name,
            "address": asked.address,
            "workspace": asked.path.get("workspace") or next(iter(workspaces), None),
            "what": asked.what,
            "subject": " ".join(asked.path.values())[:CHARACTERS_MAX],
        }
        # It goes by this id once it is `kept`: until then the database may give that to another line.
        self._written = connection.execute(insert(changes).values(own | facts).returning(changes.c.id)).scalar_one()

    def kept(self) -> None:
        """Hear that it was committed."""
        self.id = self.id or self._written

    def write_alone_or_tell(self) -> None:
        """Write it in a transaction of its own; what stopped the request may stop this, too."""
        try:
            self.write_alone()
        except Exception as error:  # noqa: BLE001  the request's own error is the one to be told of
            journal.tell("the audit trail does not say of a request that it was refused half way", error)

    def write_alone(self) -> None:
        """Write it in a transaction of its own."""
        with self._hub.database.writing():
            pass  # its witness does


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
