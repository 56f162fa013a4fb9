"""Who a device is: join tokens that work once, keys, signed requests, and the files a device may download.

A request is believed when its signature fits the device's key and its number is greater than every number before:
whoever records one cannot send it again.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select, update
from starlette.responses import FileResponse

from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError, NotAllowedError, StaleRequestError
from driftline.hub import fleet
from driftline.hub.core import Hub
from driftline.hub.http import BYTES, Call, Routes
from driftline.hub.policy import DEVICE
from driftline.hub.store.fleet import devices, tokens
from driftline.wire import api
from driftline.wire.device import BUNDLE_PATH, JOIN_PATH, JoinToken, signature

routes = Routes()

TOKEN_TTL_S = 3600
KEY_BYTES = 32
# Every such number fits the database's 64 bits.
_NUMBER = re.compile(r"[0-9]{1,18}|[1-8][0-9]{18}", re.ASCII)


# What a request needs of its device; whatever the device told of itself is left where it is.
_NAMED = select(devices.c.id, devices.c.name, devices.c.key, devices.c.created_ns, devices.c.joined_ns).where(
    or_(
        devices.c.id.in_(bindparam("names", expanding=True)),
        devices.c.name.in_(bindparam("names", expanding=True)),
    ),
    devices.c.removed_ns.is_(None),
)

# Devices by their ids, and by their names: what a request says it is from.
Named = Mapping[str, Sequence[Row[Any]]]


class Join(api.Struct):
    """`POST /join`: the secret of a join token, and which software asks."""

    secret: str
    software: str = ""


class Joined(api.Struct):
    """What the device is from now on; `key` (hex) signs its requests."""

    device: str
    name: str
    key: str


# ── joining ──────────────────────────────────────────────────────────────────────────────────────────────────────


def make_token(connection: Connection, hub: Hub, device_id: str) -> tuple[JoinToken, int]:
    """Make the one token that lets a machine become this device; return it with its end in real nanoseconds.

    Tokens given out for the device before are worth nothing from now on.
    """
    secret = secrets.token_urlsafe(24)
    expires_ns = time.time_ns() + TOKEN_TTL_S * NS_PER_S
    connection.execute(delete(tokens).where(tokens.c.device == device_id, tokens.c.used_real_ns.is_(None)))
    connection.execute(insert(tokens).values(hash=_hash(secret), device=device_id, expires_real_ns=expires_ns))
    return JoinToken(hub.url, secret, hub.fingerprint), expires_ns


@routes.post(JOIN_PATH.removeprefix(api.PREFIX), policy=DEVICE, body=Join, bytes_max=64 * 1024)
def join(call: Call[Join]) -> Joined:
    """Give a new device its key, once for a token.

    Raises:
        NotAllowedError: the token was used, has expired, or was never given out.
    """
    hub, now_real_ns = call.hub, time.time_ns()
    hub.limits.strangers.check(call.address, "this address")
    with hub.database.writing() as connection:
        token = connection.execute(select(tokens).where(tokens.c.hash == _hash(call.body.secret))).first()
        if token is None:
            raise NotAllowedError(
                "this hub does not know the join token; a newer one may have replaced it: take the newest of "
                "publish.add_edge(name)"
            )
        row = connection.execute(select(devices).where(devices.c.id == token.device)).one()
        again = f"make a new one with publish.add_edge({row.name!r})"
        if token.used_real_ns is not None:
            raise NotAllowedError(
                f"the join token of {row.name!r} was used already, and a token works once; if that was not this "
                f"machine, remove the device and {again}"
            )
        if token.expires_real_ns < now_real_ns:
            raise NotAllowedError(f"the join token of {row.name!r} has expired; {again}")
        connection.execute(update(tokens).where(tokens.c.hash == token.hash).values(used_real_ns=now_real_ns))
        key = give_key(connection, row.id, hub.now_ns(), call.body.software)
    return Joined(device=row.id, name=row.name, key=key.hex())


def give_key(connection: Connection, device_id: str, now_ns: int, software: str = "") -> bytes:
    """Give a device a new key and return it; whatever it signed before is history."""
    key = secrets.token_bytes(KEY_BYTES)
    # Of two machines with one identity at most one has the new key.
    facts = {"key": key, "joined_ns": now_ns, "last_request": 0, "software": software[:200]}
    facts |= {"conflict_ns": None, "epochs": []}
    connection.execute(update(devices).where(devices.c.id == device_id).values(facts))
    return key


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


# ── signed requests ──────────────────────────────────────────────────────────────────────────────────────────────


def authenticate(call: Call[Any]) -> tuple[Row[Any], int]:
    """Return the device that signed a request, and the request's number, which the caller has yet to `claim`.

    Raises:
        NotAllowedError: not signed, by an unknown or removed device, or with another key.
        TooOftenError: the device asks in a loop.
    """
    with call.hub.database.reading() as connection:
        found = named(connection, [call])
    return believed(call, found)


def named(connection: Connection, calls: Sequence[Call[Any]]) -> Named:
    """Return the devices that requests say they are from."""
    names = {one.request.headers.get("Driftline-Device", "") for one in calls}
    rows: Iterable[Row[Any]] = connection.execute(_NAMED, {"names": sorted(names)})  # pyright: ignore[reportAssignmentType]
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        for name in {row.id, row.name}:
            found.setdefault(name, []).append(row)
    return found


def believed(call: Call[Any], devices_named: Named) -> tuple[Row[Any], int]:
    """Return the device that signed a request, of those that have its name, and the request's number.

    Raises:
        NotAllowedError: not signed, by an unknown or removed device, or with another key.
        TooOftenError: the device asks in a loop.
    """
    headers = call.request.headers
    name, number = headers.get("Driftline-Device", ""), headers.get("Driftline-Request", "")
    given = headers.get("Driftline-Signature", "")
    if not (name and given and _NUMBER.fullmatch(number)):
        raise NotAllowedError("only devices ask this, and they sign their requests; join one with a token first")
    for row in devices_named.get(name, ()):
        expected = signature(row.key or b"", call.request.method, call.request.scope["path"], number, call.raw)
        if row.key is not None and hmac.compare_digest(expected.encode(), given.encode()):
            call.hub.limits.devices.check(row.id, f"device {row.name!r}")
            return row, int(number)
    call.hub.limits.strangers.check(call.address, "this address")
    raise NotAllowedError(
        f"the signature of device {name!r} does not fit; it was removed, or joined anew elsewhere. What waits on it is "
        "kept: make a new token with publish.add_edge(name), then run there: driftline edge join TOKEN --anew"
    )


def claim(connection: Connection, row: Row[Any], number: int) -> None:
    """Use up a request's number.

    Raises:
        StaleRequestError: it was used before, or one after it.
    """
    check_number(connection.execute(select(devices).where(devices.c.id == row.id)).one(), number)
    connection.execute(update(devices).where(devices.c.id == row.id).values(last_request=number))


def check_number(row: Row[Any], number: int) -> None:
    """Refuse a request's number that was used up; `row` is the device as it is in this transaction.

    Raises:
        StaleRequestError: it was used before, or one after it.
    """
    if number <= row.last_request:
        raise StaleRequestError(
            f"request {number} of {row.name!r} came before (the last was {row.last_request}); numbers only grow, so "
            "that nobody can repeat a recorded request",
            int(row.last_request),
        )


@routes.get(BUNDLE_PATH.removeprefix(api.PREFIX) + "{digest}", policy=DEVICE, media=BYTES)
def get_bundle(call: Call[None]) -> FileResponse:
    """Return a model file, by its SHA-256, to a device that should run it.

    Raises:
        EntityNotFoundError: the device has no use for such a file, or the hub lost it.
    """
    row, number = authenticate(call)
    with call.hub.database.writing() as connection:
        claim(connection, row, number)
    digest = call.path["digest"]
    wanted = {file.digest for one in fleet.desired(call.hub, row).pipelines for file in one.files.values()}
    path = call.hub.models / digest
    if digest not in wanted or not path.is_file():
        raise EntityNotFoundError(f"there is no file {digest!r} for {row.name!r}; sync to learn what it should run")
    return FileResponse(path, media_type="application/octet-stream")
