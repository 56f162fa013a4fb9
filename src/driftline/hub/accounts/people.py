"""People and what they log in with: passwords, sessions, tokens; each checked, limited and kept as a hash."""

import hashlib
import hmac
import re
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, insert, select, update

from driftline.clock import NS_PER_S
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, NotAllowedError
from driftline.hub.accounts.tables import credentials, people, roles
from driftline.hub.accounts.who import RANK, Principal, Scope
from driftline.hub.limits import Buckets

Kind = Literal["session", "access", "refresh", "token"]

DAY_S = 86_400
LIFE_S: dict[Kind, int] = {"session": 7 * DAY_S, "access": 3_600, "refresh": 30 * DAY_S, "token": 90 * DAY_S}
PASSWORD_CHARACTERS = (12, 1_000)
SETUP_LIFE_S = 3_600
# What a secret begins with: so that one in a log or a repository is recognised, and says what it is.
PREFIX: dict[Kind, str] = {"session": "dls_", "access": "dla_", "refresh": "dlr_", "token": "dlt_"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}", re.ASCII)

# The defaults of argon2-cffi (RFC 9106, low memory): 64 MB and about 50 ms. Two at once are enough for people, and
# bound what guessers can make the hub take.
_HASHER = PasswordHasher()
_HASHING = threading.BoundedSemaphore(2)


@dataclass
class Accounts:
    """What a hub with `--auth` remembers beside its database.

    `setup` is the SHA-256 of the one-time secret that makes the first admin. `by_name` and `by_address` slow down who
    guesses passwords: a name can be tried ten times at once from one address, a hundred times from all together.
    """

    setup: str | None = None
    setup_until_ns: int = 0
    by_pair: Buckets = field(default_factory=lambda: Buckets(rate=1 / 30, burst=10))
    by_name: Buckets = field(default_factory=lambda: Buckets(rate=1 / 5, burst=100))
    by_address: Buckets = field(default_factory=lambda: Buckets(rate=1 / 5, burst=50))

    def check_guesses(self, name: str, address: str) -> None:
        """Count an attempt to log in.

        Raises:
            TooOftenError: there were too many of late.
        """
        self.by_address.check(address, "this address")
        self.by_pair.check(f"{name} {address}", "this address")
        self.by_name.check(name, f"somebody who tries to be {name!r}")


def hashed(secret: str) -> str:
    """Return the hash that a random secret is kept as."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


# ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────────


def hash_password(password: str) -> str:
    """Return what is kept of a password.

    Raises:
        InvalidInputError: too short to withstand guessing, or absurdly long.
    """
    least, most = PASSWORD_CHARACTERS
    if not least <= len(password) <= most:
        raise InvalidInputError(f"a password has {least} to {most} characters; four random words make a good one")
    with _HASHING:
        return _HASHER.hash(password)


def fits(password: str, kept: str | None) -> bool:
    """Say whether a password is the one that was kept; takes as long where there is none."""
    with _HASHING:
        try:
            return _HASHER.verify(kept or _nobodys(), password[: PASSWORD_CHARACTERS[1]]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


_NOBODYS: list[str] = []


def _nobodys() -> str:
    if not _NOBODYS:
        _NOBODYS.append(_HASHER.hash(secrets.token_urlsafe()))
    return _NOBODYS[0]


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def check_name(name: str) -> str:
    """Return the name in its one spelling.

    Raises:
        InvalidInputError: it could be mistaken for another, or is none.
    """
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name[:100]!r} cannot be a person's name: use letters, digits and . _ @ + -, such as anna@shop.example"
        )
    return name


def add(connection: Connection, name: str, password_hash: str, now_ns: int, *, is_admin: bool) -> Row[Any]:
    """Add a person.

    Raises:
        ConflictError: the name is taken.
    """
    name = check_name(name)
    if connection.execute(select(people.c.id).where(people.c.name == name)).first():
        raise ConflictError(f"there is a person {name!r} already")
    identity = str(uuid.uuid4())
    facts = {"id": identity, "name": name, "password": password_hash, "is_admin": is_admin}
    connection.execute(insert(people).values(**facts, created_ns=now_ns))
    return need(connection, identity)


def need(connection: Connection, identity: str) -> Row[Any]:
    """Return the person of this id or name.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(people).where((people.c.id == identity) | (people.c.name == identity))).first()
    if row is None:
        raise EntityNotFoundError(f"there is no person {identity[:100]!r}; an admin adds people")
    return row


def is_empty(connection: Connection) -> bool:
    """Say whether nobody is there yet: the first is made with the setup link."""
    return connection.execute(select(people.c.id).limit(1)).first() is None


def remove(connection: Connection, row: Row[Any]) -> None:
    """Remove a person with everything they log in with.

    Raises:
        InvalidInputError: nobody could administer the hub afterwards.
    """
    others = select(people.c.id).where(people.c.is_admin, people.c.id != row.id)
    if row.is_admin and connection.execute(others).first() is None:
        raise InvalidInputError(f"{row.name!r} is the only admin; make somebody else one first")
    for table in (credentials, roles):
        connection.execute(delete(table).where(table.c.person == row.id))
    connection.execute(delete(people).where(people.c.id == row.id))


def set_password(connection: Connection, person: str, password_hash: str, keep: str | None = None) -> None:
    """Give a person another password; whoever was logged in with the old one is no more, but for `keep`."""
    connection.execute(update(people).where(people.c.id == person).values(password=password_hash))
    others = delete(credentials).where(credentials.c.person == person, credentials.c.kind != "token")
    connection.execute(others if keep is None else others.where(credentials.c.id != keep))


# ── what they come with ──────────────────────────────────────────────────────────────────────────────────────────


def give(
    connection: Connection,
    kind: Kind,
    person: str,
    *,
    label: str,
    scope: Scope = "admin",
    life_s: int | None = None,
    family: str | None = None,
) -> tuple[str, str]:
    """Make a new secret for a person; return it, which is never seen again, and its id."""
    secret, identity, now_ns = PREFIX[kind] + secrets.token_urlsafe(32), str(uuid.uuid4()), time.time_ns()
    connection.execute(delete(credentials).where(credentials.c.expires_real_ns < now_ns))
    connection.execute(
        insert(credentials).values(
            id=identity,
            hash=hashed(secret),
            kind=kind,
            person=person,
            label=label[:200],
            scope=scope,
            family=family or identity,
            created_real_ns=now_ns,
            expires_real_ns=now_ns + (life_s or LIFE_S[kind]) * NS_PER_S,
        )
    )
    return secret, identity


def known(connection: Connection, secret: str, kinds: Sequence[Kind]) -> Principal | None:
    """Return who comes with a secret; None where it is unknown, of another kind, or has expired."""
    query = select(credentials, people.c.name, people.c.is_admin).join(people, people.c.id == credentials.c.person)
    row = connection.execute(query.where(credentials.c.hash == hashed(secret))).first()
    if row is None or row.kind not in kinds or row.expires_real_ns < time.time_ns():
        return None
    return principal(connection, row.person, row.scope, row.id, by_cookie=row.kind == "session")


def principal(
    connection: Connection, person: str, scope: Scope, credential: str | None = None, *, by_cookie: bool = False
) -> Principal:
    """Return a person with what they may do now: a role that was taken away is gone from the next request on."""
    row = connection.execute(select(people).where(people.c.id == person)).one()
    found = connection.execute(select(roles.c.workspace, roles.c.role).where(roles.c.person == person))
    return Principal(
        row.id,
        row.name,
        row.is_admin,
        {one.workspace: one.role for one in found},
        scope,
        credential,
        by_cookie,
    )


def check_scope(who: Principal, scope: Scope) -> Scope:
    """Return the scope that somebody may give to something they make.

    Raises:
        NotAllowedError: it is more than what they came with allows.
    """
    if RANK[scope] > RANK[who.scope]:
        raise NotAllowedError(f"what you came with allows {who.scope}; it cannot make something that allows {scope}")
    return scope


def end(connection: Connection, person: str, identity: str, kinds: Sequence[Kind]) -> None:
    """End something a person logged in with.

    Raises:
        EntityNotFoundError: they have no such thing.
    """
    chosen = (credentials.c.id == identity, credentials.c.person == person, credentials.c.kind.in_(kinds))
    if connection.execute(delete(credentials).where(*chosen)).rowcount != 1:
        raise EntityNotFoundError(f"you have no token {identity[:100]!r}; driftline token list shows those there are")


# ── the first admin ──────────────────────────────────────────────────────────────────────────────────────────────


def open_setup(accounts: Accounts) -> str:
    """Return the one secret that makes the first admin, for an hour."""
    secret = secrets.token_urlsafe(24)
    accounts.setup, accounts.setup_until_ns = hashed(secret), time.time_ns() + SETUP_LIFE_S * NS_PER_S
    return secret


def check_setup(accounts: Accounts, secret: str) -> None:
    """See that a setup link is the one that was given out.

    Raises:
        NotAllowedError: it was used, has expired, or never was one.
    """
    right = accounts.setup is not None and hmac.compare_digest(accounts.setup, hashed(secret))
    if not right or time.time_ns() > accounts.setup_until_ns:
        raise NotAllowedError("this setup link was used, or has expired; start the hub again for a new one")
