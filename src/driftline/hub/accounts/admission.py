"""The one door: who a request is from, and whether its route's policy lets them in."""

from starlette.requests import Request

from driftline.errors import EntityNotFoundError, NotAllowedError, NotLoggedInError
from driftline.hub.accounts.people import known
from driftline.hub.accounts.places import workspaces_of
from driftline.hub.accounts.who import LOCAL, RANK, Principal
from driftline.hub.core import Hub
from driftline.hub.policy import Policy

# Nobody in particular: who asks what is public.
ANYBODY = Principal(None, "", scope="viewer")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def admit(hub: Hub, policy: Policy, request: Request) -> Principal:
    """Return who asks, where the policy lets them.

    Raises:
        NotLoggedInError: the route is not for strangers.
        NotAllowedError: they may not do this, or a page of another site asks in their name.
        EntityNotFoundError: it is not there, or not for them to know of: the two look the same.
        TooOftenError: they ask in a loop.
    """
    if hub.accounts is None:
        return LOCAL
    address = request.client.host if request.client else ""
    if policy.kind == "public":
        hub.limits.people.check(address, "this address")
        return ANYBODY
    if policy.kind == "device":
        return ANYBODY
    who = _known(hub, request, address)
    hub.limits.people.check(who.person or "", f"{who.name!r}")
    if who.by_cookie and request.method not in SAFE:
        check_origin(request)
    _check(hub, who, policy, request)
    return who


def reader(hub: Hub, request: Request) -> Principal:
    """Return who is logged in in the browser that asks for what anybody may see; nobody in particular where none is."""
    secret = request.cookies.get(cookie_name(request), "")
    if hub.accounts is None or not secret:
        return ANYBODY
    with hub.database.reading() as connection:
        return known(connection, secret, ("session",)) or ANYBODY


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie; a browser lets only this very host set one that begins with __Host-."""
    return "__Host-driftline" if request.url.scheme == "https" else "driftline"


def check_origin(request: Request) -> None:
    """See that a page of this hub itself asks: a cookie comes along whoever made the browser send it.

    Raises:
        NotAllowedError: the browser says that another page asks, or does not say which.
    """
    origin = request.headers.get("origin", "")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin.lower() != own.lower():
        raise NotAllowedError(
            f"with a session only this hub's own pages change something, not {origin[:100] or 'an unknown page'!r}; "
            "a program brings a token: driftline token new"
        )


def _known(hub: Hub, request: Request, address: str) -> Principal:
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    secret = bearer.strip() if kind.lower() == "bearer" else request.cookies.get(cookie_name(request), "")
    if not secret:
        raise NotLoggedInError("this hub wants to know who you are; log in, with a program by: driftline login URL")
    with hub.database.reading() as connection:
        who = known(connection, secret, ("access", "token") if bearer else ("session",))
    if who is None:
        hub.limits.strangers.check(address, "this address")
        raise NotLoggedInError("this login has ended, or never was one; log in again, by: driftline login URL")
    return who


def _check(hub: Hub, who: Principal, policy: Policy, request: Request) -> None:
    workspaces: list[str] = []
    if policy.kind == "role" and not who.is_admin:
        with hub.database.reading() as connection:
            found = workspaces_of(connection, request.path_params)
        if found is None or not who.sees(found):
            raise EntityNotFoundError(f"there is nothing at {request.url.path[:200]}, or nothing for you")
        workspaces = found
    if not who.may(policy, workspaces):
        if policy.kind == "admin":
            out = "an admin makes admins, with: driftline people add --admin"
        else:
            out = "an owner of the workspace gives roles, on /people"
        if RANK[who.scope] < RANK["admin"]:
            out += f"; what they came with (scope {who.scope}) may allow less than they may"
        least = policy if policy.kind != "member" else policy.role
        raise NotAllowedError(f"this takes {least}, and {who.name!r} may not; {out}")
