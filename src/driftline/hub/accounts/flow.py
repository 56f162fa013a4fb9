"""The device authorization grant (RFC 8628): a program shows a code, a person lets it in with their browser.

`POST /oauth/device_authorization` gives a device code (which the program keeps to itself) and a user code (which it
shows); the person confirms at `/login/device`; meanwhile the program asks `POST /oauth/token` every few seconds. Then
it has an access token for an hour, and a refresh token that works once and brings the next two.
"""

import secrets
import time
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import Connection, delete, insert, select, update
from starlette.responses import Response

from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError, InvalidInputError, NotAllowedError
from driftline.hub.accounts.people import LIFE_S, check_scope, give, hashed, principal
from driftline.hub.accounts.tables import credentials, device_codes
from driftline.hub.accounts.who import RANK, Principal
from driftline.hub.http import FORM, JSON, Call, Routes
from driftline.hub.policy import PUBLIC
from driftline.wire import api

routes = Routes(prefix="")

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CODE_LIFE_S = 600
INTERVAL_S = 5
# Without vowels no code is a word, and none is read wrongly (RFC 8628, 6.1): 20^8 codes, few of them valid at once.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
FORM_BYTES_MAX = 16 * 1024


def form(call: Call[Any]) -> dict[str, str]:
    """Return the fields of a form."""
    try:
        return dict(parse_qsl(call.raw.decode(), max_num_fields=50))
    except ValueError as error:
        raise InvalidInputError(f"the form cannot be read: {error}") from error


@routes.post("/oauth/device_authorization", policy=PUBLIC, takes=FORM, media=JSON, bytes_max=FORM_BYTES_MAX)
def device_authorization(call: Call[None]) -> Response:
    """Begin to let a program in: give it a code to show, and one to ask with."""
    call.hub.limits.strangers.check(call.address, "this address")
    asked = form(call)
    if not asked.get("client_id"):
        return _oauth("invalid_request", "client_id is missing: the name of your program, which a person will be shown")
    scope = asked.get("scope") or "owner"
    if scope not in RANK:
        return _oauth("invalid_scope", f"scope is one of {', '.join(RANK)}")
    code, now_ns = secrets.token_urlsafe(32), time.time_ns()
    user_code = "".join(secrets.choice(ALPHABET) for _ in range(8))
    with call.hub.database.writing() as connection:
        connection.execute(delete(device_codes).where(device_codes.c.expires_real_ns < now_ns))
        connection.execute(
            insert(device_codes).values(
                hash=hashed(code),
                user_code=user_code,
                label=f"{asked.get('client_id', 'a program')[:60]} at {call.address}",
                scope=scope,
                state="pending",
                interval_s=INTERVAL_S,
                polled_real_ns=0,
                expires_real_ns=now_ns + CODE_LIFE_S * NS_PER_S,
            )
        )
    shown = f"{user_code[:4]}-{user_code[4:]}"
    page = f"{call.request.url.scheme}://{call.request.headers['host']}/login/device"
    return _json(
        {
            "device_code": code,
            "user_code": shown,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={shown}",
            "expires_in": CODE_LIFE_S,
            "interval": INTERVAL_S,
        }
    )


@routes.post("/oauth/token", policy=PUBLIC, takes=FORM, media=JSON, bytes_max=FORM_BYTES_MAX)
def token(call: Call[None]) -> Response:
    """Give a program that was let in its tokens, or say that nobody has decided yet; give new ones for a refresh."""
    asked = form(call)
    kind = asked.get("grant_type")
    if kind == GRANT:
        return _by_code(call, asked.get("device_code", ""))
    if kind == "refresh_token":
        return _by_refresh(call, asked.get("refresh_token", ""))
    return _oauth("unsupported_grant_type", f"grant_type is {GRANT} or refresh_token")


def _by_code(call: Call[None], code: str) -> Response:
    now_ns = time.time_ns()
    with call.hub.database.writing() as connection:
        row = connection.execute(select(device_codes).where(device_codes.c.hash == hashed(code))).first()
        if row is None:
            call.hub.limits.strangers.check(call.address, "this address")
            return _oauth("invalid_grant", "there is no such device code")
        this = device_codes.c.hash == row.hash
        if row.expires_real_ns < now_ns:
            return _oauth("expired_token", "nobody decided in time; begin again")
        if row.state == "denied":
            connection.execute(delete(device_codes).where(this))
            return _oauth("access_denied", "the person who saw the code did not let you in")
        if row.state == "pending":
            early = now_ns - row.polled_real_ns < (row.interval_s - 0.5) * NS_PER_S
            interval_s = row.interval_s + 5 if early else row.interval_s
            connection.execute(update(device_codes).where(this).values(polled_real_ns=now_ns, interval_s=interval_s))
            return _oauth("slow_down" if early else "authorization_pending", "nobody has decided yet; ask again")
        connection.execute(delete(device_codes).where(this))
        return _tokens(connection, row.person, row.label, row.scope)


def _by_refresh(call: Call[None], secret: str) -> Response:
    with call.hub.database.writing() as connection:
        query = select(credentials).where(credentials.c.hash == hashed(secret), credentials.c.kind == "refresh")
        row = connection.execute(query).first()
        if row is None or row.expires_real_ns < time.time_ns():
            call.hub.limits.strangers.check(call.address, "this address")
            return _oauth("invalid_grant", "this refresh token has ended; log in again")
        if row.used_real_ns is not None:
            # Two have it: the thief or the owner came second, and nobody can tell which.
            connection.execute(delete(credentials).where(credentials.c.family == row.family))
            return _oauth("invalid_grant", "this refresh token was used before; log in again")
        connection.execute(update(credentials).where(credentials.c.id == row.id).values(used_real_ns=time.time_ns()))
        return _tokens(connection, row.person, row.label, row.scope, row.family)


def _tokens(connection: Connection, person: str, label: str, scope: Any, family: str | None = None) -> Response:
    refresh, identity = give(connection, "refresh", person, label=label, scope=scope, family=family)
    access, _ = give(connection, "access", person, label=label, scope=scope, family=family or identity)
    return _json(
        {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": LIFE_S["access"],
            "refresh_token": refresh,
            "scope": scope,
        }
    )


def waiting(connection: Connection, user_code: str) -> Any:
    """Return the program that shows a user code.

    Raises:
        EntityNotFoundError: none does, or it was decided, or it came too late.
    """
    spelled = "".join(one for one in user_code.upper() if one in ALPHABET)
    row = connection.execute(
        select(device_codes).where(
            device_codes.c.user_code == spelled,
            device_codes.c.state == "pending",
            device_codes.c.expires_real_ns >= time.time_ns(),
        )
    ).first()
    if row is None:
        raise EntityNotFoundError("no program waits with this code; look at what it shows, or begin again there")
    return row


def decide(connection: Connection, who: Principal, user_code: str, *, allowed: bool) -> None:
    """Let a program in, with at most what the person came with, or do not."""
    if who.person is None:
        raise NotAllowedError("this hub has no accounts; nobody needs to log in")
    row = waiting(connection, user_code)
    scope = row.scope if RANK[row.scope] <= RANK[who.scope] else who.scope
    if allowed:
        check_scope(principal(connection, who.person, who.scope), scope)
    facts = {"state": "allowed" if allowed else "denied", "person": who.person, "scope": scope}
    connection.execute(update(device_codes).where(device_codes.c.hash == row.hash).values(facts))


def _oauth(code: str, description: str) -> Response:
    """Return an error as RFC 6749 has it: programs of others know no other."""
    return Response(
        api.encode({"error": code, "error_description": description}), 400, {"Cache-Control": "no-store"}, JSON
    )


def _json(document: dict[str, Any]) -> Response:
    return Response(api.encode(document), 200, {"Cache-Control": "no-store"}, JSON)
