"""The page of notifications: who is told, what waits, what arrived, and what could not be delivered."""

from collections.abc import Sequence

from driftline.hub.core import Hub
from driftline.hub.fleet import Visible
from driftline.hub.http import Call, Routes
from driftline.hub.notify import message
from driftline.hub.notify import routes as channels_of
from driftline.hub.policy import ADMIN
from driftline.hub.store import incidents
from driftline.hub.store import notifications as store
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.incident_pages import deliveries
from driftline.hub.web.parts import action, confirmed, counted, empty, page, section, table
from driftline.hub.web.routing import Fields, Said, acts, pair
from driftline.hub.web.views import View
from driftline.wire import api

SHOWN_MAX = 100


class Notifications(View):
    """The channels and the outbox; `counts` are of all, the lists of the newest, `about` says what incidents are of."""

    channels: list[api.Channel]
    waiting: list[api.Delivery]
    dead: list[api.Delivery]
    delivered: list[api.Delivery]
    counts: dict[str, int]
    about: dict[str, str]


def notifications(hub: Hub, _visible: Visible = None) -> Notifications:
    """Return the channels and the outbox."""
    with hub.database.reading() as connection:
        waiting = store.deliveries(connection, state="waiting", newest=SHOWN_MAX)
        dead = store.deliveries(connection, state="dead", newest=SHOWN_MAX)
        delivered = store.deliveries(connection, state="delivered", newest=SHOWN_MAX)
        known = incidents.with_causes(connection, {one.incident for one in (*waiting, *dead, *delivered)})
        return Notifications(
            now_ns=hub.now_ns(),
            banner=hub.clock.banner,
            channels=[channels_of.shown(one) for one in store.channels(connection)],
            waiting=waiting,
            dead=dead,
            delivered=delivered,
            counts=store.counts(connection),
            about={identity: message.about(one) for identity, (one, _) in known.items()},
        )


def all_notifications(view: Notifications) -> str:
    """Render the page."""
    dead, waiting = view.counts.get("dead", 0), view.counts.get("waiting", 0)
    return page(
        view,
        "Notifications",
        "/notifications",
        "/notifications.json",
        el("h1", _verdict(view)),
        section("Not delivered", deliveries(view.dead, view.about), note=_more(dead)) if dead else None,
        section("Waiting", deliveries(view.waiting, view.about), note=_more(waiting)) if waiting else None,
        section("Channels", _channels(view.channels)),
        section("Delivered", deliveries(view.delivered, view.about), note=_more(view.counts.get("delivered", 0)))
        if view.delivered
        else None,
    )


def _verdict(view: Notifications) -> str:
    if not view.channels:
        return "Nobody is told of incidents yet"
    dead = view.counts.get("dead", 0)
    if dead:
        return f"{counted(dead, 'notification')} could not be delivered"
    waiting = view.counts.get("waiting", 0)
    if waiting:
        return f"{counted(waiting, 'notification')} on the way"
    return "Everything was delivered" if view.counts.get("delivered", 0) else "Nothing had to be told yet"


def _more(count: int) -> Content:
    return el("span", f"the newest {SHOWN_MAX} of {count:,}", class_="soft") if count > SHOWN_MAX else None


def _channels(channels: Sequence[api.Channel]) -> Html:
    if not channels:
        return empty("Add a channel: ", el("code", "driftline notify add webhook ops https://hooks.example/drift"))
    rows = [
        [
            one.name,
            one.kind,
            el("span", one.target, class_="wrap"),
            _hears(one.subscription),
            f"{one.wait_s} s",
            action(path("notifications", "channels", one.id, "test"), "Send a test"),
            confirmed(
                "Remove",
                "What waits for it is given up.",
                path("notifications", "channels", one.id, "remove"),
                "Yes, remove it",
            ),
        ]
        for one in channels
    ]
    return table(("channel", "kind", "to", "hears of", "waits", "", ""), rows)


def _hears(heard: api.Subscription) -> str:
    said = [
        f"{name}: {', '.join(wanted)}"
        for name, wanted in (
            ("kinds", heard.kinds),
            ("severities", heard.severities),
            ("changes", heard.changes),
            ("workspaces", heard.workspaces),
        )
        if wanted
    ]
    return "; ".join(said) or "everything"


def _test(call: Call[None], channel: str, _fields: Fields) -> Said:
    tried = channels_of.tried(call.hub, channel)
    title = "The test was delivered" if tried.delivered else "The test was not delivered"
    return Said(title, tried.text, "/notifications")


def _remove(call: Call[None], channel: str, _fields: Fields) -> str:
    channels_of.remove(call.hub, channel)
    return "/notifications"


def _retry(call: Call[None], delivery: str, _fields: Fields) -> str:
    channels_of.retry(call.hub, delivery)
    return "/notifications"


def register(routes: Routes) -> None:
    """Give the page and its forms their addresses; channels are the whole hub's, and so the admins'."""
    pair(routes, "/notifications", "/notifications.json", notifications, all_notifications, policy=ADMIN)
    acts(routes, "/notifications/channels/{channel}/test", _test, policy=ADMIN)
    acts(routes, "/notifications/channels/{channel}/remove", _remove, policy=ADMIN)
    acts(routes, "/notifications/{delivery}/retry", _retry, policy=ADMIN)
