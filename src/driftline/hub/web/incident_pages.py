"""The page of one incident: what happened, what a person can do about it, who did what, and what was sent."""

from collections.abc import Mapping, Sequence
from functools import partial

from driftline.errors import InvalidInputError
from driftline.hub import export, incident_routes
from driftline.hub.core import Hub
from driftline.hub.fleet import Visible
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.store import assays as assay_store
from driftline.hub.store import incidents as store
from driftline.hub.store import notifications
from driftline.hub.store.incidents import Part
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import (
    by_field,
    chip,
    counted,
    empty,
    facts,
    incident_card,
    moment,
    page,
    prose,
    section,
    table,
)
from driftline.hub.web.routing import Fields, acts, pair
from driftline.hub.web.views import IncidentLine, View
from driftline.wire import api

SILENCES = ((3600, "1 hour"), (8 * 3600, "8 hours"), (86_400, "1 day"), (7 * 86_400, "7 days"))

BEFORE = ((3600, "1 hour before"), (0, "when it began"), (86_400, "1 day before"), (7 * 86_400, "7 days before"))


class Incident(View):
    """One incident with everything that is known of it; `rows` says whether there are rows to export."""

    line: IncidentLine
    parts: list[Part]
    history: list[api.Transition]
    notifications: list[api.Delivery]
    rows: bool


def incident(hub: Hub, identity: str, _visible: Visible = None) -> Incident:
    """Return one incident.

    Raises:
        EntityNotFoundError: there is none of this id.
    """
    with hub.database.reading() as connection:
        found, parts = store.one(connection, identity), store.parts(connection, identity)
        identity_of = found.assay_id or ""
        assay = assay_store.named(connection, [identity_of]).get(identity_of)
        is_there = assay is not None and assay.is_there
        pipeline = assay_store.one(connection, identity_of).assay.spec.pipeline if is_there else None
        return Incident(
            now_ns=hub.now_ns(),
            banner=hub.clock.banner,
            line=IncidentLine.of(found, assay),
            parts=parts,
            rows=pipeline is not None and export.has_rows(hub, pipeline, parts),
            history=store.history(connection, identity),
            notifications=notifications.deliveries(connection, incident=identity),
        )


def one_incident(view: Incident) -> str:
    """Render one incident."""
    one, now_ns = view.line.incident, view.now_ns
    known: list[tuple[str, Content]] = [
        ("state", chip(one.state)),
        ("began", moment(one.opened_ns, now_ns)),
        *([("resolved", moment(one.resolved_ns, now_ns))] if one.resolved_ns is not None else []),
        ("severity", one.severity),
        *([("site", one.site)] if one.site else []),
        *([("looked after by", one.acknowledged_by)] if one.acknowledged_by else []),
        *([("silenced until", moment(one.silenced_until_ns))] if one.silenced_until_ns else []),
        *([("reopened", counted(one.reopened, "time"))] if one.reopened else []),
    ]
    title = f"{one.kind} on {one.device}" + (f" and {len(one.devices) - 1} more" if len(one.devices) > 1 else "")
    return page(
        view,
        title,
        "/incidents",
        path("incidents", one.id) + ".json",
        el("h1", title, " ", chip(one.state)),
        el("ul", incident_card(view.line, now_ns, whole=True), class_="incidents"),
        facts(known),
        section("What to do", *_forms(one)),
        section("Devices", _parts(view.parts)),
        section("Rows for retraining", _rows(view)) if one.assay_id is not None else None,
        section("What happened", _history(view.history)),
        section("What was sent", deliveries(view.notifications)),
    )


def deliveries(sent: Sequence[api.Delivery], about: Mapping[str, str] | None = None) -> Html:
    """Return what was sent, and what waits or could not be; `about` says of which incident, where that is not plain."""
    if not sent:
        return empty(
            "Nothing was sent. Channels are on the page ", el("a", "Notifications", href="/notifications"), "."
        )
    rows = [
        [
            moment(one.created_ns),
            one.change,
            *([] if about is None else [el("a", about.get(one.incident, "–"), href=path("incidents", one.incident))]),
            one.channel,
            chip(one.state),
            str(one.attempts),
            _when(one),
            one.reason or "–",
            _retry(one),
        ]
        for one in sent
    ]
    which = () if about is None else ("of",)
    heads = ("happened", "what", *which, "channel", "state", "tries", "delivered or next", "said", "")
    after = len(which)
    return table(heads, rows, numbers=(4 + after,), spare=(0, 4 + after, 5 + after), wrapped=(6 + after,))


def _when(one: api.Delivery) -> Content:
    if one.delivered_ns is not None:
        return moment(one.delivered_ns)
    return moment(one.due_ns) if one.state == "waiting" and one.due_ns is not None else "–"


def _retry(one: api.Delivery) -> Content:
    if one.state == "delivered" or (one.state == "waiting" and not one.attempts):
        return None
    button = el("button", "Try again", type="submit")
    return el("form", button, method="post", action=path("notifications", one.id, "retry"))


def _forms(one: api.Incident) -> list[Content]:
    """Return what can be done now, each a form that says who and why."""
    if one.resolved_ns is not None:
        return [_form(one, "reopen", "Reopen")]
    lengths = [el("option", words, value=seconds) for seconds, words in SILENCES]
    silence = el("label", "for ", el("select", *lengths, name="for_s"))
    return [
        _form(one, "acknowledge", "Acknowledge"),
        _form(one, "silence", "Silence", silence),
        _form(one, "close", "Resolve"),
    ]


def _form(one: api.Incident, what: str, name: str, more: Content = None) -> Html:
    return el(
        "form",
        el("button", name, type="submit"),
        by_field(),
        el("label", "note ", el("input", name="note", maxlength=500, autocomplete="off", class_="long")),
        more,
        method="post",
        action=path("incidents", one.id, what),
        class_="fields-form",
    )


def _rows(view: Incident) -> Html:
    """Return where the rows are to be had, or how there come to be some."""
    one = view.line.incident
    devices = sorted({part.device for part in view.parts})
    if not view.rows:
        return empty(
            "These devices sent counts and no rows. So that there are rows the next time: ",
            el("code", f"client.set_link({devices[0]!r}, rows_kb_a_day=…)" if devices else "client.set_link(…)"),
        )
    everyone = el("option", "all devices", value="")
    names = [everyone, *(el("option", name, value=name) for name in devices)]
    lengths = [el("option", words, value=seconds) for seconds, words in BEFORE]
    address = f"{api.PREFIX}{path('incidents', one.id)}"
    return el(
        "form",
        el("button", "Parquet", type="submit", formaction=f"{address}/rows.parquet"),
        el("button", "CSV", type="submit", formaction=f"{address}/rows.csv"),
        el("label", "of ", el("select", *names, name="device")) if len(devices) > 1 else None,
        el("label", "from ", el("select", *lengths, name="before_s")),
        el("span", "Each row says whether it drifted or was healthy.", class_="soft"),
        method="get",
        class_="fields-form",
    )


def _parts(parts: Sequence[Part]) -> Html:
    rows = [
        [
            el("a", one.device, href=path("devices", one.device)),
            one.field or one.source or "–",
            moment(one.opened_ns),
            moment(one.resolved_ns) if one.resolved_ns is not None else chip("open"),
            el("span", prose(one.text), class_="wrap"),
        ]
        for one in parts
    ]
    return table(("device", "about", "from", "to", "in words"), rows)


def _history(history: Sequence[api.Transition]) -> Html:
    rows = [
        [
            moment(one.at_ns),
            one.change,
            one.actor,
            el("a", one.device, href=path("devices", one.device)) if one.device else "–",
            el("span", one.note or "–", class_="wrap"),
            el("code", one.event_id),
        ]
        for one in history
    ]
    return table(("when", "what", "who", "device", "note", "event"), rows)


def _do(call: Call[None], identity: str, fields: Fields, *, change: api.Change) -> str:
    act = api.Act(note=fields.get("note", ""), by=fields.get("by") or None)
    if change == "silenced":
        act = api.Silence(note=act.note, by=act.by, for_s=_seconds(fields.get("for_s", "")))
    incident_routes.do(call.hub, identity, change, act, call.who)
    return path("incidents", identity)


def _seconds(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InvalidInputError(f"{text!r:.40} is no length of time in seconds; choose one of those on the page")
    return int(text)


def register(routes: Routes) -> None:
    """Give the page and its forms their addresses."""
    address = "/incidents/{incident}"
    pair(routes, address, f"{address}.json", incident, one_incident, policy=VIEWER, named="incident")
    acts(routes, f"{address}/acknowledge", partial(_do, change="acknowledged"), policy=EDITOR)
    acts(routes, f"{address}/silence", partial(_do, change="silenced"), policy=EDITOR)
    acts(routes, f"{address}/close", partial(_do, change="resolved"), policy=EDITOR)
    acts(routes, f"{address}/reopen", partial(_do, change="reopened"), policy=EDITOR)
