"""What is sent: one change of an incident as a CloudEvent, as an alert for Alertmanager, as text for people."""

import base64
import binascii
import hashlib
import hmac
import secrets
from html import escape
from typing import Any
from urllib.parse import quote

import msgspec

from driftline.clock import iso
from driftline.errors import InvalidInputError
from driftline.hub.moments import minute, readable
from driftline.wire import api

# Standard Webhooks write secrets this way, so that they are found where they should not be.
SECRET_PREFIX = "whsec_"  # noqa: S105  a prefix
SECRET_BYTES = 32
EVENT_TYPE = "driftline.incident."
TEST = "test"

_CHANGED: dict[api.Change, str] = {
    "opened": "",
    "widened": "More devices: ",
    "acknowledged": "Acknowledged: ",
    "silenced": "Silenced: ",
    "unsilenced": "No longer silenced: ",
    "resolved": "Resolved: ",
    "reopened": "Again: ",
}


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def subject(told: api.Notification) -> str:
    """Say in one line what happened: the kind, where, and what is so now."""
    if told.incident.kind == TEST:
        return "a test"
    return f"{_CHANGED[told.change]}{about(told.incident, told.assay)}"


def about(one: api.Incident, assay: str | None = None) -> str:
    """Say in a few words what an incident is about: its kind, of which assay, on how many devices, where."""
    devices = one.devices or [one.device]
    where = one.device if len(devices) == 1 else f"{len(devices)} devices"
    return f"{one.kind}{f' ({assay})' if assay else ''} on {where}{f' at {one.site}' if one.site else ''}"


def lines(told: api.Notification, url: str) -> list[str]:
    """Say everything in sentences, one a line; `url` is the hub's dashboard, '' where nobody reaches it."""
    one = told.incident
    if one.kind == TEST:
        return [one.text, *([url] if url else [])]
    said = [f"{_CHANGED[told.change]}{readable(one.text)}"]
    if told.change in {"acknowledged", "silenced", "reopened"} or (told.change == "resolved" and told.actor != "hub"):
        said.append(f"by {told.actor}" + (f": {told.note}" if told.note else ""))
    elif told.note:
        said.append(readable(told.note))
    if told.change == "silenced" and one.silenced_until_ns is not None:
        said.append(f"Nothing is told of it until {minute(one.silenced_until_ns)}.")
    ended = f", resolved {minute(one.resolved_ns)}" if one.resolved_ns else ""
    said.append(f"began {minute(one.opened_ns)}{ended}")
    if len(one.devices) > 1:
        said.append(f"devices: {', '.join(one.devices)}")
    if url:
        said.append(incident_url(url, one.id))
    return said


def incident_url(url: str, identity: str) -> str:
    """Return the address of an incident's page."""
    return f"{url.rstrip('/')}/incidents/{quote(identity, safe='')}"


def text(told: api.Notification, url: str) -> str:
    """Return the plain text of a mail."""
    return "\n\n".join([*lines(told, url), f"event {told.event_id}"]) + "\n"


def html(told: api.Notification, url: str, picture: str | None) -> str:
    """Return a mail as HTML; `picture` is the content id of its chart. Nothing in it is loaded from anywhere."""
    first, *others = lines(told, "")
    shown = [f'<p style="font-weight:600">{escape(first)}</p>', *(f"<p>{escape(one)}</p>" for one in others)]
    if picture is not None:
        shown.append(f'<p><img src="cid:{escape(picture)}" alt="{escape(first)}" width="640"></p>')
    if url and told.incident.kind != TEST:
        shown.append(f'<p><a href="{escape(incident_url(url, told.incident.id))}">Look at it in the dashboard</a></p>')
    small = f'<p style="color:#55616e;font-size:12px">driftline, event {escape(told.event_id)}</p>'
    return f'<html><body style="font-family:sans-serif;max-width:44rem">{"".join(shown)}{small}</body></html>'


# ── CloudEvents ──────────────────────────────────────────────────────────────────────────────────────────────────


def cloud_event(told: api.Notification) -> bytes:
    """Return a change as a CloudEvent 1.0 in its structured JSON form.

    Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    """
    document = {
        "specversion": "1.0",
        "id": told.event_id,
        "source": f"/api/v1/incidents/{quote(told.incident.id, safe='')}",
        "type": EVENT_TYPE + told.change,
        "subject": told.incident.id,
        "time": iso(told.at_ns),
        "datacontenttype": "application/json",
        "data": told,
    }
    return msgspec.json.encode(document)


def new_secret() -> str:
    """Make a secret to sign with."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """Return the bytes of a secret.

    Raises:
        InvalidInputError: it is none, or too short to be one.
    """
    try:
        found = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not 24 <= len(found) <= 64:
        raise InvalidInputError(
            f"a webhook's secret is {SECRET_PREFIX} and 24 to 64 bytes in base64; leave it out, and the hub makes one"
        )
    return found


def signed(secret: str, identity: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that say a body is ours: HMAC-SHA256 over id, time and body.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    content = f"{identity}.{timestamp_s}.".encode() + body
    digest = hmac.new(secret_bytes(secret), content, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def basic(user: str, password: str) -> str:
    """Return the header that says who asks, by name and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ── Alertmanager ─────────────────────────────────────────────────────────────────────────────────────────────────

# An alert that is not sent again is over after five minutes, unless it says itself when it ends: until it is resolved,
# it ends in a year.
FIRING_NS = 365 * 86_400 * 1_000_000_000


def alerts(told: api.Notification, url: str) -> bytes:
    """Return an incident as it is now for `POST /api/v2/alerts`; its labels stay the same all its life.

    Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
    """
    one = told.incident
    labels = {
        "alertname": "Driftline" + "".join(word.capitalize() for word in one.kind.split()),
        "incident": one.id,
        "kind": one.kind,
        "severity": one.severity,
    }
    labels |= {name: value for name, value in (("assay", told.assay), ("site", one.site)) if value}
    document: dict[str, Any] = {
        "labels": labels,
        "annotations": {
            "summary": subject(told),
            "description": one.text,
            "devices": ", ".join(one.devices or [one.device]),
            "event_id": told.event_id,
        },
        "startsAt": iso(one.opened_ns),
        "endsAt": iso(told.at_ns + FIRING_NS if one.resolved_ns is None else one.resolved_ns),
    }
    if url:
        document["generatorURL"] = incident_url(url, one.id)
    return msgspec.json.encode([document])


# ── a test ───────────────────────────────────────────────────────────────────────────────────────────────────────


def trial(identity: str, now_ns: int) -> api.Notification:
    """Return what a test of a channel sends: a warning that says it is none, and is over."""
    incident = api.Incident(
        id=identity,
        kind=TEST,
        device="none",
        assay_id=None,
        field=None,
        opened_ns=now_ns,
        resolved_ns=now_ns,
        text="this is a test: somebody wants to know whether notifications arrive here",
        windows=0,
        devices=["none"],
        state="resolved",
        severity="warning",
        settled=True,
    )
    return api.Notification(
        event_id=identity,
        change="resolved",
        number=0,
        at_ns=now_ns,
        actor="hub",
        note="",
        incident=incident,
    )
