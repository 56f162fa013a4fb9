"""What programs ask about people: who am I, people, roles, API tokens, the audit trail."""

from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select

from driftline.errors import ConflictError, InvalidInputError, NotAllowedError
from driftline.hub.accounts import audit
from driftline.hub.accounts.people import (
    DAY_S,
    add,
    check_scope,
    end,
    fits,
    give,
    hash_password,
    need,
    remove,
    set_password,
)
from driftline.hub.accounts.tables import credentials, people, roles
from driftline.hub.accounts.who import Principal, Scope
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.paging import Page, page
from driftline.hub.policy import ADMIN, MEMBER, OWNER, VIEWER, Role
from driftline.hub.registry import need_workspace
from driftline.wire import api

routes = Routes()


class Me(api.Struct):
    """Who asks: `roles` by workspace id, `scope` the most that what they came with allows."""

    name: str
    is_admin: bool
    roles: dict[str, Role]
    scope: Scope


class NewPassword(api.Struct):
    """`POST /me/password`: everybody who was logged in with the old one is no more."""

    password: str
    new_password: str


@routes.get("/me", policy=MEMBER)
def me(call: Call[None]) -> Me:
    """Say who asks, and what they may do."""
    who = call.who
    return Me(name=who.name, is_admin=who.is_admin, roles=dict(who.roles), scope=who.scope)


@routes.post("/me/password", policy=MEMBER, body=NewPassword)
def change_password(call: Call[NewPassword]) -> None:
    """Change one's own password; whatever else was logged in with the old one is logged out.

    Raises:
        NotAllowedError: the old one is not right, or a program asks.
    """
    change_password_of(call.hub, call.who, call.address, call.body)


def change_password_of(hub: Hub, who: Principal, address: str, new: NewPassword) -> None:
    """Give somebody another password, and end what was logged in with the old one but for what they came with."""
    if who.person is None or hub.accounts is None:
        raise InvalidInputError("this hub has no accounts; start it with: driftline up --auth")
    if not who.by_cookie:
        raise NotAllowedError("a password is changed in a browser, by who is logged in there")
    hub.accounts.check_guesses(who.name, address)
    with hub.database.reading() as connection:
        kept = need(connection, who.person).password
    if not fits(new.password, kept):
        raise NotAllowedError("the old password is another one")
    made = hash_password(new.new_password)
    with hub.database.writing() as connection:
        set_password(connection, who.person, made, keep=who.credential)


@routes.get("/people", policy=ADMIN, query=api.Paged)
def list_people(call: Call[api.Paged]) -> Page[api.Person]:
    """List everybody who may log in, by name."""
    with call.hub.database.reading() as connection:
        return page(connection, select(people), ((people.c.name, False),), call.body, _person)


@routes.post("/people", policy=ADMIN, body=api.NewPerson, raises=(ConflictError,))
def add_person(call: Call[api.NewPerson]) -> api.Person:
    """Add somebody; they may do nothing yet, or everything where they are an admin."""
    new, made = call.body, hash_password(call.body.password)
    with call.hub.database.writing() as connection:
        return _person(add(connection, new.name, made, call.hub.now_ns(), is_admin=new.is_admin))


@routes.delete("/people/{person}", policy=ADMIN, raises=(InvalidInputError,))
def remove_person(call: Call[None]) -> None:
    """Remove somebody, with every login and token of theirs; what they changed stays in the trail."""
    with call.hub.database.writing() as connection:
        remove(connection, need(connection, call.path["person"]))


@routes.put("/people/{person}/password", policy=ADMIN, body=api.GivenPassword)
def give_password(call: Call[api.GivenPassword]) -> None:
    """Give somebody else another password: they are logged out everywhere, and their API tokens go on.

    Raises:
        InvalidInputError: it is one's own, or it is too short.
    """
    give_password_to(call.hub, call.who, call.path["person"], call.body.password)


def give_password_to(hub: Hub, who: Principal, person: str, password: str) -> str:
    """Give somebody else another password, and return their name."""
    made = hash_password(password)
    with hub.database.writing() as connection:
        row = need(connection, person)
        if row.id == who.person:
            raise InvalidInputError("your own password you change on the page /people, with the old one")
        set_password(connection, row.id, made)
    return str(row.name)


@routes.get("/workspaces/{workspace}/roles", policy=VIEWER, query=api.Paged)
def list_roles(call: Call[api.Paged]) -> Page[api.RoleOf]:
    """List who may do what in a workspace, by name; admins may do everything everywhere."""
    query = select(people.c.id, people.c.name, roles.c.role).join(roles, roles.c.person == people.c.id)
    with call.hub.database.reading() as connection:
        return page(
            connection,
            query.where(roles.c.workspace == call.path["workspace"]),
            ((people.c.name, False),),
            call.body,
            lambda row: api.RoleOf(person=row.id, name=row.name, role=row.role),
        )


@routes.put("/workspaces/{workspace}/roles/{person}", policy=OWNER, body=api.NewRole)
def put_role(call: Call[api.NewRole]) -> None:
    """Say what a person may do in a workspace, from their next request on; `person` is their name or id."""
    give_role(call.hub, call.path["workspace"], call.path["person"], call.body.role)


def give_role(hub: Hub, workspace: str, person: str, role: Role | None) -> None:
    """Give somebody a role in place of the one they have; None takes it away."""
    with hub.database.writing() as connection:
        row = need(connection, person)
        need_workspace(connection, workspace)
        connection.execute(delete(roles).where(roles.c.person == row.id, roles.c.workspace == workspace))
        if role is not None:
            connection.execute(insert(roles).values(person=row.id, workspace=workspace, role=role))


@routes.get("/tokens", policy=MEMBER, query=api.Paged)
def list_tokens(call: Call[api.Paged]) -> Page[api.Token]:
    """List one's own API tokens, oldest first; they themselves are shown only once."""
    query = select(credentials).where(credentials.c.person == call.who.person, credentials.c.kind == "token")
    keys = ((credentials.c.created_real_ns, False), (credentials.c.id, False))
    with call.hub.database.reading() as connection:
        return page(connection, query, keys, call.body, _token)


@routes.post("/tokens", policy=MEMBER, body=api.NewToken)
def make_token(call: Call[api.NewToken]) -> api.Token:
    """Make an API token, shown this once.

    Raises:
        NotAllowedError: it would allow more than what one came with.
    """
    return make_token_of(call.hub, call.who, call.body)


def make_token_of(hub: Hub, who: Principal, new: api.NewToken) -> api.Token:
    """Make somebody an API token; it itself is in the answer, once."""
    if who.person is None:
        raise InvalidInputError("this hub has no accounts, and asks for no token; start it with: driftline up --auth")
    scope = check_scope(who, new.scope)
    with hub.database.writing() as connection:
        secret, identity = give(connection, "token", who.person, label=new.label, scope=scope, life_s=new.days * DAY_S)
        made = _token(connection.execute(select(credentials).where(credentials.c.id == identity)).one())
    return msgspec.structs.replace(made, token=secret)


@routes.delete("/tokens/{token}", policy=MEMBER)
def end_token(call: Call[None]) -> None:
    """End one of one's own API tokens, by its id: it is worth nothing from now on."""
    with call.hub.database.writing() as connection:
        end(connection, call.who.person or "", call.path["token"], ("token",))


@routes.get("/changes", policy=MEMBER, query=audit.ChangesAsked)
def list_changes(call: Call[audit.ChangesAsked]) -> Page[audit.Change]:
    """List who changed what, newest first: of the workspaces one may see, of an admin everything."""
    with call.hub.database.reading() as connection:
        return audit.list_changes(connection, call.body, call.who.visible)


def _person(row: Row[Any]) -> api.Person:
    return api.Person(id=row.id, name=row.name, is_admin=row.is_admin, created_ns=row.created_ns)


def _token(row: Row[Any]) -> api.Token:
    names = ("id", "label", "scope", "created_real_ns", "expires_real_ns")
    return api.Token(**{name: getattr(row, name) for name in names})
