"""What people ask of channels and of the outbox."""

import time
from uuid import uuid4

from driftline.errors import ConflictError, MissingExtraError
from driftline.hub import registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.notify import message, ways
from driftline.hub.notify.notifier import network_of
from driftline.hub.paging import Page
from driftline.hub.policy import ADMIN
from driftline.hub.store import notifications as store
from driftline.hub.store.notifications import Kept
from driftline.wire import api

routes = Routes()


@routes.get("/notifications/channels", policy=ADMIN)
def list_channels(call: Call[None]) -> list[api.Channel]:
    """List the channels by name; what they were given in confidence is not in it."""
    with call.hub.database.reading() as connection:
        return [shown(one) for one in store.channels(connection)]


@routes.post("/notifications/channels", policy=ADMIN, body=api.NewChannel, raises=(ConflictError, MissingExtraError))
def make_channel(call: Call[api.NewChannel]) -> api.Channel:
    """Make a channel; a webhook's secret that the hub made is in the answer, once."""
    return make(call.hub, call.body)


@routes.delete("/notifications/channels/{channel}", policy=ADMIN)
def delete_channel(call: Call[None]) -> None:
    """Remove a channel, by its id or name; what waits for it is given up."""
    remove(call.hub, call.path["channel"])


@routes.post("/notifications/channels/{channel}/test", policy=ADMIN, reads=True)
def test_channel(call: Call[None]) -> api.Tried:
    """Send a test through a channel, by its id or name, and say what came of it."""
    return tried(call.hub, call.path["channel"])


@routes.get("/notifications", policy=ADMIN, query=api.DeliveriesAsked)
def list_deliveries(call: Call[api.DeliveriesAsked]) -> Page[api.Delivery]:
    """List notifications, the newest first: `state` waiting, delivered or dead."""
    with call.hub.database.reading() as connection:
        return store.deliveries_page(connection, call.body)


@routes.post("/notifications/{delivery}/retry", policy=ADMIN, raises=(ConflictError,))
def retry_delivery(call: Call[None]) -> None:
    """Try a notification again that was given up, or sooner than it would be."""
    retry(call.hub, call.path["delivery"])


def make(hub: Hub, new: api.NewChannel) -> api.Channel:
    """Make a channel.

    Raises:
        InvalidInputError, NotAllowedError, MissingExtraError: nothing can be sent that way.
        ConflictError: there is one of this name.
    """
    target = ways.ready(new.target, private=hub.private_targets)
    name = registry.check_name("channel", new.name)
    channel = Kept(str(uuid4()), name, target, new.subscription, new.wait_s, hub.now_ns())
    with hub.database.writing() as connection:
        store.add_channel(connection, channel, ways.KINDS[type(target)])
    made = shown(channel)
    if isinstance(target, api.Webhook) and not (isinstance(new.target, api.Webhook) and new.target.secret):
        made.secret = target.secret
    return made


def remove(hub: Hub, known: str) -> None:
    """Remove a channel."""
    with hub.database.writing() as connection:
        store.remove_channel(connection, store.channel(connection, known).id)


def tried(hub: Hub, known: str) -> api.Tried:
    """Send a test through a channel now, past the outbox, and say what came of it."""
    with hub.database.reading() as connection:
        channel = store.channel(connection, known)
    told = message.trial(uuid4().hex, hub.now_ns())
    result = ways.send(network_of(hub), channel.target, told, hub.dashboard, None, time.time_ns())
    return api.Tried(delivered=result.outcome == "delivered", text=result.text)


def retry(hub: Hub, delivery: str) -> None:
    """Try a notification again."""
    with hub.database.writing() as connection:
        store.retry(connection, delivery)
    hub.outbox.set()


def shown(channel: Kept) -> api.Channel:
    """Return a channel as it is shown."""
    return api.Channel(
        id=channel.id,
        name=channel.name,
        kind=ways.KINDS[type(channel.target)],
        target=ways.shown(channel.target),
        subscription=channel.subscription,
        wait_s=channel.wait_s,
        created_ns=channel.created_ns,
    )
