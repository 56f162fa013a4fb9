"""What people ask of incidents, and what they do to them."""

from driftline.clock import NS_PER_S
from driftline.errors import ConflictError
from driftline.hub import causes, fleet
from driftline.hub.accounts.places import incidents_in
from driftline.hub.accounts.who import LOCAL, Principal
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.life import Deed
from driftline.hub.limits import check_words
from driftline.hub.paging import Page
from driftline.hub.policy import EDITOR, MEMBER, VIEWER
from driftline.hub.store import incidents as store
from driftline.hub.store import notifications
from driftline.wire import api

routes = Routes()


@routes.get("/incidents", policy=MEMBER, query=api.IncidentsAsked)
def list_incidents(call: Call[api.IncidentsAsked]) -> Page[api.Incident]:
    """List incidents, open ones first, then newest first; `open` true or false, `device` a name."""
    with call.hub.database.reading() as connection:
        return store.listed_page(connection, call.body, incidents_in(call.who.visible))


@routes.get("/incidents/{incident}", policy=VIEWER)
def get_incident(call: Call[None]) -> api.Incident:
    """Return one incident."""
    with call.hub.database.reading() as connection:
        return store.one(connection, call.path["incident"])


@routes.get("/incidents/{incident}/history", policy=VIEWER)
def get_history(call: Call[None]) -> list[api.Transition]:
    """List what happened to an incident, and who did it, the first thing first."""
    with call.hub.database.reading() as connection:
        return store.history(connection, store.one(connection, call.path["incident"]).id)


@routes.get("/incidents/{incident}/notifications", policy=VIEWER)
def get_notifications(call: Call[None]) -> list[api.Delivery]:
    """List what was sent of an incident, where to and when, the newest first."""
    with call.hub.database.reading() as connection:
        return notifications.deliveries(connection, incident=store.one(connection, call.path["incident"]).id)


@routes.post("/incidents/{incident}/acknowledge", policy=EDITOR, body=api.Act, raises=(ConflictError,))
def acknowledge_incident(call: Call[api.Act]) -> api.Incident:
    """Say that somebody looks after an incident."""
    return do(call.hub, call.path["incident"], "acknowledged", call.body, call.who)


@routes.post("/incidents/{incident}/silence", policy=EDITOR, body=api.Silence, raises=(ConflictError,))
def silence_incident(call: Call[api.Silence]) -> api.Incident:
    """Tell nobody of an incident for a time; that it is over is told."""
    return do(call.hub, call.path["incident"], "silenced", call.body, call.who)


@routes.post("/incidents/{incident}/resolve", policy=EDITOR, body=api.Act, raises=(ConflictError,))
def resolve_incident(call: Call[api.Act]) -> api.Incident:
    """Close an incident by hand; the next Alert brings it back, or the next sync that is in conflict."""
    return do(call.hub, call.path["incident"], "resolved", call.body, call.who)


@routes.post("/incidents/{incident}/reopen", policy=EDITOR, body=api.Act, raises=(ConflictError,))
def reopen_incident(call: Call[api.Act]) -> api.Incident:
    """Open an incident again that was resolved."""
    return do(call.hub, call.path["incident"], "reopened", call.body, call.who)


def do(hub: Hub, incident: str, change: api.Change, act: api.Act, who: Principal = LOCAL) -> api.Incident:
    """Do what a person asks; resolving what is resolved changes nothing.

    Who did it is who is logged in; a hub without accounts takes people's word.

    Raises:
        EntityNotFoundError: there is no such incident.
        ConflictError: it is in no state for that.
        InvalidInputError: a silence of no length, or words without end.
    """
    check_words(act.note, act.by or "")
    by = who.called(act.by)
    now_ns = hub.now_ns()
    until_ns = now_ns + act.for_s * NS_PER_S if isinstance(act, api.Silence) else None
    with hub.database.writing() as connection:
        changed = causes.act(connection, incident, Deed(change, now_ns, by, act.note.strip(), until_ns))
        if change == "resolved" and changed.kind == "identity conflict":
            fleet.forget_conflict(connection, changed.device)
    hub.outbox.set()
    return changed
