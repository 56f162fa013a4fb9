"""The outbox: what is to be told is written in the transaction of the change that it tells of, a row a channel.

So a hub may be killed at any moment: either nothing happened, or it did and will be told. The notifier takes what is
due, sends it and writes down what came of it; killed in between, it sends again. Hence *at least once*, and an event id
that stays the same by which receivers know what they have heard.
"""

import hashlib

import msgspec
from sqlalchemy import Connection

from driftline.errors import EntityNotFoundError
from driftline.hub.notify import schedule
from driftline.hub.store import assays
from driftline.hub.store import notifications as store
from driftline.wire import api


def event_id(incident: str, number: int) -> str:
    """Return the id of an incident's so-many-th change, the same whenever it is worked out.

    >>> event_id("4711", 1)
    '3fdc76314f26bc3ce6cda35deffcbeef'
    """
    return hashlib.sha256(f"{incident}/{number}".encode()).hexdigest()[:32]


def put(connection: Connection, incident: api.Incident, transition: api.Transition) -> None:
    """Put a change of an incident into the outbox of every channel that hears of it.

    Where its opening waits to be told still, a device that joins is told with it and needs no word of its own.
    """
    channels = store.channels(connection)
    if not channels:
        return
    name, workspace = _assay(connection, incident.assay_id)
    told = api.Notification(
        event_id=transition.event_id,
        change=transition.change,
        number=transition.number,
        at_ns=transition.at_ns,
        actor=transition.actor,
        note=transition.note,
        incident=incident,
        assay=name,
        workspace=workspace,
    )
    for channel in channels:
        if transition.change == "widened":
            waiting = store.untried(connection, channel.id, incident.id, ("opened", "reopened"))
            if waiting is not None:
                store.replace_payload(
                    connection, waiting.id, msgspec.structs.replace(waiting.notification, incident=incident)
                )
                continue
        if schedule.hears(channel.subscription, incident, workspace, transition.change):
            store.add_delivery(connection, channel, told)


def _assay(connection: Connection, identity: str | None) -> tuple[str | None, str | None]:
    if identity is None:
        return None, None
    try:
        assay = assays.one(connection, identity).assay
    except EntityNotFoundError:
        return None, None
    return assay.spec.name, assay.workspace
