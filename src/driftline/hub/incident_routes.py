"""What people ask of incidents, and what they do to them."""

from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError
from driftline.hub import causes, fleet
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.life import Deed
from driftline.hub.store import incidents as store
from driftline.hub.store import notifications
from driftline.wire import api

routes = Routes()

# Who acted where nobody said who they are: whoever may ask this hub at all.
SOMEBODY = "somebody"
WORDS_MAX = 2000


@routes.get("/incidents")
def list_incidents(call: Call[None]) -> list[api.Incident]:
    """List incidents, open ones first, then newest first; `open` true or false, `device` a name."""
    with call.hub.database.reading() as connection:
        return store.listed(
            connection, is_open=_truth("open", call.query.get("open")), device=call.query.get("device") or None
        )


@routes.get("/incidents/{incident}")
def get_incident(call: Call[None]) -> api.Incident:
    """Return one incident."""
    with call.hub.database.reading() as connection:
        return store.one(connection, call.path["incident"])


@routes.get("/incidents/{incident}/history")
def get_history(call: Call[None]) -> list[api.Transition]:
    """List what happened to an incident, and who did it, the first thing first."""
    with call.hub.database.reading() as connection:
        return store.history(connection, store.one(connection, call.path["incident"]).id)


@routes.get("/incidents/{incident}/notifications")
def get_notifications(call: Call[None]) -> list[api.Delivery]:
    """List what was sent of an incident, where to and when, the newest first."""
    with call.hub.database.reading() as connection:
        return notifications.deliveries(connection, incident=store.one(connection, call.path["incident"]).id)


@routes.post("/incidents/{incident}/acknowledge", body=api.Act)
def acknowledge_incident(call: Call[api.Act]) -> api.Incident:
    """Say that somebody looks after an incident."""
    return do(call.hub, call.path["incident"], "acknowledged", call.body)


@routes.post("/incidents/{incident}/silence", body=api.Silence)
def silence_incident(call: Call[api.Silence]) -> api.Incident:
    """Tell nobody of an incident for a time; that it is over is told."""
    return do(call.hub, call.path["incident"], "silenced", call.body)


@routes.post("/incidents/{incident}/resolve", body=api.Act)
def resolve_incident(call: Call[api.Act]) -> api.Incident:
    """Close an incident by hand; the next Alert brings it back, or the next sync that is in conflict."""
    return do(call.hub, call.path["incident"], "resolved", call.body)


@routes.post("/incidents/{incident}/reopen", body=api.Act)
def reopen_incident(call: Call[api.Act]) -> api.Incident:
    """Open an incident again that was resolved."""
    return do(call.hub, call.path["incident"], "reopened", call.body)


def do(hub: Hub, incident: str, change: api.Change, act: api.Act) -> api.Incident:
    """Do what a person asks; resolving what is resolved changes nothing.

    Raises:
        EntityNotFoundError: there is no such incident.
        ConflictError: it is in no state for that.
        InvalidInputError: a silence of no length, or words without end.
    """
    for words in (act.note, act.by or ""):
        if len(words) > WORDS_MAX:
            raise InvalidInputError(f"{len(words)} characters are more than the {WORDS_MAX} that are kept; say less")
    now_ns = hub.now_ns()
    until_ns = now_ns + act.for_s * NS_PER_S if isinstance(act, api.Silence) else None
    with hub.database.writing() as connection:
        deed = Deed(change, now_ns, (act.by or "").strip() or SOMEBODY, act.note.strip(), until_ns)
        changed = causes.act(connection, incident, deed)
        if change == "resolved" and changed.kind == "identity conflict":
            fleet.forget_conflict(connection, changed.device)
    hub.outbox.set()
    return changed


def _truth(name: str, text: str | None) -> bool | None:
    if not text:
        return None
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise InvalidInputError(f"{name}={text!r}: write true or false")
    return words[text.lower()]
