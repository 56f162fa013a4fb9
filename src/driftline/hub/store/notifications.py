"""Channels and the outbox: tables and the reading and writing of them.

A channel's settings hold what it was given in confidence, as the devices' keys are held: in the database file, which is
its owner's alone. Nothing outside `notify/` reads them. The outbox is one row a channel and event; its times are real
ones, but for `at_ns`, which is when it happened by the hub's clock.

A row is *waiting* until it is delivered or given up (*dead*). `due_ns` is NULL before the notifier has seen it, and
`claimed_until_ns` is until when one is at work on it: when that has passed, whoever it was is no more.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    Text,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from driftline.errors import ConflictError, EntityNotFoundError
from driftline.hub.paging import Page, page
from driftline.hub.store.database import metadata
from driftline.wire import api

CHANNELS = Table(
    "channels",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("settings", LargeBinary, nullable=False),  # JSON: api.Target, with its secrets
    Column("subscription", LargeBinary, nullable=False),  # JSON: api.Subscription
    Column("wait_s", Integer, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

DELIVERIES = Table(
    "deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("channel", String, nullable=False),
    Column("incident", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("event_id", String, nullable=False),
    Column("change", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("since_ns", BigInteger),  # when the notifier first saw it, or a person let it be tried again
    Column("due_ns", BigInteger),
    Column("claimed_until_ns", BigInteger, nullable=False),
    Column("delivered_ns", BigInteger),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # JSON: api.Notification
    Index("deliveries_by_state", "state", "due_ns"),
    Index("deliveries_by_incident", "incident", "channel"),
)


@dataclass(frozen=True)
class Kept:
    """A channel with everything it was given; `target` holds secrets and is never shown."""

    id: str
    name: str
    target: api.Target
    subscription: api.Subscription
    wait_s: int
    created_ns: int


@dataclass(frozen=True)
class Waiting:
    """A notification that is to be sent."""

    id: str
    channel: str
    notification: api.Notification
    attempts: int
    since_ns: int


# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────────────


def add_channel(connection: Connection, channel: Kept, kind: str) -> None:
    """Keep a new channel.

    Raises:
        ConflictError: there is one of this name.
    """
    if connection.execute(select(CHANNELS.c.id).where(CHANNELS.c.name == channel.name)).first() is not None:
        raise ConflictError(f"there is a channel {channel.name!r} already; give this one another name, or remove that")
    connection.execute(
        insert(CHANNELS).values(
            id=channel.id,
            name=channel.name,
            kind=kind,
            settings=api.encode(channel.target),
            subscription=api.encode(channel.subscription),
            wait_s=channel.wait_s,
            created_ns=channel.created_ns,
        )
    )


def channels(connection: Connection) -> list[Kept]:
    """Return the channels by name."""
    return [_channel(row) for row in connection.execute(select(CHANNELS).order_by(CHANNELS.c.name))]


def channel(connection: Connection, known: str) -> Kept:
    """Return the channel of this id or name.

    Raises:
        EntityNotFoundError: there is none.
    """
    named = (CHANNELS.c.id == known) | (CHANNELS.c.name == known)
    row = connection.execute(select(CHANNELS).where(named).order_by(CHANNELS.c.id != known)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no channel {known!r}; driftline notify list shows those there are")
    return _channel(row)


def remove_channel(connection: Connection, identity: str) -> None:
    """Remove a channel; what waited for it is given up."""
    waiting = (DELIVERIES.c.channel == identity, DELIVERIES.c.state == "waiting")
    connection.execute(update(DELIVERIES).where(*waiting).values(state="dead", reason="its channel was removed"))
    connection.execute(delete(CHANNELS).where(CHANNELS.c.id == identity))


# ── the outbox ───────────────────────────────────────────────────────────────────────────────────────────────────


def add_delivery(connection: Connection, channel: Kept, notification: api.Notification) -> None:
    """Put a notification into a channel's outbox."""
    connection.execute(
        insert(DELIVERIES).values(
            id=hashlib.sha256(f"{notification.event_id}/{channel.id}".encode()).hexdigest()[:32],
            channel=channel.id,
            incident=notification.incident.id,
            number=notification.number,
            event_id=notification.event_id,
            change=notification.change,
            state="waiting",
            attempts=0,
            at_ns=notification.at_ns,
            claimed_until_ns=0,
            reason="",
            payload=api.encode(notification),
        )
    )


def untried(connection: Connection, channel: str, incident: str, changes: Sequence[api.Change]) -> Waiting | None:
    """Return the newest notification of these changes of an incident that nobody has begun to send."""
    query = (
        select(DELIVERIES)
        .where(
            DELIVERIES.c.channel == channel,
            DELIVERIES.c.incident == incident,
            DELIVERIES.c.state == "waiting",
            DELIVERIES.c.attempts == 0,
            DELIVERIES.c.claimed_until_ns == 0,
            DELIVERIES.c.change.in_(list(changes)),
        )
        .order_by(DELIVERIES.c.number.desc())
    )
    row = connection.execute(query).first()
    return None if row is None else _waiting(row)


def replace_payload(connection: Connection, identity: str, notification: api.Notification) -> None:
    """Say something else in a notification that was not sent yet."""
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == identity).values(payload=api.encode(notification)))


def stamp(connection: Connection, now_ns: int) -> bool:
    """Let what is new in the outbox be due when its channel's wait is over; return whether there was any.

    Only what is opened waits: what else is said has been waited for.
    """
    new = connection.execute(
        select(DELIVERIES.c.id, DELIVERIES.c.change, CHANNELS.c.wait_s)
        .outerjoin(CHANNELS, CHANNELS.c.id == DELIVERIES.c.channel)
        .where(DELIVERIES.c.state == "waiting", DELIVERIES.c.due_ns.is_(None))
    ).all()
    for row in new:
        wait_s = (row.wait_s or 0) if row.change in {"opened", "reopened"} else 0
        times = {"since_ns": now_ns, "due_ns": now_ns + wait_s * 1_000_000_000}
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == row.id).values(**times))
    return bool(new)


def has_work(connection: Connection, now_ns: int) -> bool:
    """Say whether anything is new or due."""
    is_new = DELIVERIES.c.due_ns.is_(None) & (DELIVERIES.c.state == "waiting")
    return connection.execute(select(DELIVERIES.c.id).where(is_new | _is_due(now_ns)).limit(1)).first() is not None


def claim(connection: Connection, now_ns: int, until_ns: int, most: int) -> list[Waiting]:
    """Take what is due, for a time, so that nobody else sends it meanwhile.

    Of one incident in one channel only the first: a receiver must not hear that it is over before that it began.
    """
    earlier = DELIVERIES.alias()
    follows = exists(
        select(earlier.c.id).where(
            earlier.c.channel == DELIVERIES.c.channel,
            earlier.c.incident == DELIVERIES.c.incident,
            earlier.c.state == "waiting",
            earlier.c.number < DELIVERIES.c.number,
        )
    )
    query = select(DELIVERIES).where(_is_due(now_ns), ~follows).order_by(DELIVERIES.c.due_ns, DELIVERIES.c.id)
    # What another hub is just taking is passed over; SQLite has one writer anyway.
    found = connection.execute(query.limit(most).with_for_update(skip_locked=True)).all()
    if found:
        taken = [row.id for row in found]
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(taken)).values(claimed_until_ns=until_ns))
    return [_waiting(row) for row in found]


def delivered(connection: Connection, identity: str, now_ns: int, text: str) -> None:
    """Write down that a notification arrived."""
    facts = {"state": "delivered", "delivered_ns": now_ns, "reason": text, "claimed_until_ns": 0}
    _tried(connection, identity, facts)


def failed(connection: Connection, identity: str, reason: str, due_ns: int | None) -> None:
    """Write down that one did not, and when it is tried again; None gives it up."""
    facts: dict[str, Any] = {"reason": reason, "claimed_until_ns": 0}
    _tried(connection, identity, facts | ({"state": "dead"} if due_ns is None else {"due_ns": due_ns}))


def _tried(connection: Connection, identity: str, facts: dict[str, Any]) -> None:
    attempts = DELIVERIES.c.attempts + 1
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == identity).values(attempts=attempts, **facts))


def retry(connection: Connection, identity: str) -> None:
    """Let a notification that was given up, or waits for its next try, be tried now, and from the beginning.

    Raises:
        EntityNotFoundError: there is none of this id.
        ConflictError: it was delivered, or its channel is no more.
    """
    row = connection.execute(select(DELIVERIES).where(DELIVERIES.c.id == identity)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no notification {identity!r}; driftline notify list shows what waits")
    if row.state == "delivered":
        raise ConflictError("it was delivered; nothing is to be tried again")
    channel(connection, row.channel)
    again = {"state": "waiting", "attempts": 0, "since_ns": None, "due_ns": None, "claimed_until_ns": 0}
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == identity).values(**again))


def deliveries(
    connection: Connection, *, state: api.DeliveryState | None = None, incident: str | None = None, newest: int = 100
) -> list[api.Delivery]:
    """Return what is and was in the outbox, the newest first."""
    query: Select[Any] = (
        select(DELIVERIES, CHANNELS.c.name)
        .outerjoin(CHANNELS, CHANNELS.c.id == DELIVERIES.c.channel)
        .order_by(DELIVERIES.c.at_ns.desc(), DELIVERIES.c.number.desc(), DELIVERIES.c.id)
    )
    if state is not None:
        query = query.where(DELIVERIES.c.state == state)
    if incident is not None:
        query = query.where(DELIVERIES.c.incident == incident)
    return [_delivery(row) for row in connection.execute(query.limit(newest))]


def deliveries_page(connection: Connection, asked: api.DeliveriesAsked) -> Page[api.Delivery]:
    """Return a page of what is and was in the outbox, the newest first."""
    query: Select[Any] = select(DELIVERIES, CHANNELS.c.name).outerjoin(CHANNELS, CHANNELS.c.id == DELIVERIES.c.channel)
    if asked.state is not None:
        query = query.where(DELIVERIES.c.state == asked.state)
    keys = ((DELIVERIES.c.at_ns, True), (DELIVERIES.c.number, True), (DELIVERIES.c.id, False))
    return page(connection, query, keys, asked, _delivery)


def counts(connection: Connection) -> dict[str, int]:
    """Return how many notifications are in each state."""
    query = select(DELIVERIES.c.state, func.count()).group_by(DELIVERIES.c.state)
    return {str(state): int(count) for state, count in connection.execute(query)}


def oldest_due_ns(connection: Connection) -> int | None:
    """Return since when the oldest notification is due that waits; None where none does."""
    waits = DELIVERIES.c.state == "waiting"
    return connection.execute(select(func.min(DELIVERIES.c.due_ns)).where(waits)).scalar()


def _is_due(now_ns: int) -> Any:
    return (
        (DELIVERIES.c.state == "waiting") & (DELIVERIES.c.due_ns <= now_ns) & (DELIVERIES.c.claimed_until_ns <= now_ns)
    )


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _channel(row: Row[Any]) -> Kept:
    return Kept(
        row.id,
        row.name,
        msgspec.json.decode(row.settings, type=api.Target),
        msgspec.json.decode(row.subscription, type=api.Subscription),
        row.wait_s,
        row.created_ns,
    )


def _waiting(row: Row[Any]) -> Waiting:
    told = msgspec.json.decode(row.payload, type=api.Notification)
    return Waiting(row.id, row.channel, told, row.attempts, row.since_ns or 0)


def _delivery(row: Row[Any]) -> api.Delivery:
    return api.Delivery(
        id=row.id,
        event_id=row.event_id,
        channel=row.name or "(removed)",
        incident=row.incident,
        change=row.change,
        state=row.state,
        attempts=row.attempts,
        created_ns=row.at_ns,
        due_ns=row.due_ns,
        delivered_ns=row.delivered_ns,
        reason=row.reason,
    )
