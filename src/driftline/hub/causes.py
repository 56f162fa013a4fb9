"""One incident a cause: what devices give to incidents is gathered here, and every change of one is written down.

A cause is a kind of trouble of an assay at a site, or of a site's link; where a camera, a clock or an identity is wrong
it is that device's own. A device without a site is a site of its own. What changes an incident is stored in one
transaction with its history and with the notifications that tell of it (`notify/outbox.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, select

from driftline.errors import ConflictError
from driftline.hub import life
from driftline.hub.life import HUB, Deed
from driftline.hub.notify import outbox
from driftline.hub.store import incidents as store
from driftline.hub.store.fleet import devices
from driftline.hub.store.incidents import Part
from driftline.wire import api

# What several devices of one site have from one cause: the light there, or the link. Anything else is a device's own.
OF_A_SITE = frozenset({"drift", "silent", "backlog"})
# What can wait until the morning.
WARNINGS = frozenset({"clock", "backlog"})
NAMED_MAX = 5


def gather(
    connection: Connection, part: Part, now_ns: int, *, within_ns: int | None = None, settled: bool = False
) -> None:
    """Keep what a device gives to an incident, and let the incident follow from it.

    A new part joins the open incident of its cause, brings back one that was resolved within `within_ns`, or opens
    another. An incident is over when all its parts are; `settled` says that it is so for good.
    """
    change: api.Change | None = None
    if part.incident:
        known, cause = store.with_cause(connection, part.incident)
    else:
        cause = _cause(part, site_of(connection, part.device))
        within = life.reopens_within_ns() if within_ns is None else within_ns
        known, change = _home(connection, part, cause, now_ns, within)
        part = replace(part, incident=known.id, episode=known.reopened)
        store.put(connection, known, cause)
    store.put_parts(connection, [part])
    parts = store.parts(connection, known.id)
    told = described(known, parts)
    store.put(connection, told, cause)
    if change is not None:
        _record(connection, told, Deed(change, now_ns), now_ns, device=part.device)
    ends = [one.resolved_ns for one in parts]
    if told.resolved_ns is None and None not in ends:
        # Of one that was opened again by hand, what it was about before says nothing.
        of_now = [one.resolved_ns or 0 for one in parts if one.episode == told.reopened]
        if of_now:
            _do(connection, told, cause, Deed("resolved", max(of_now), settled=settled), now_ns)


def go_on(connection: Connection, parts: Sequence[Part]) -> None:
    """Keep what devices go on giving to open incidents: what is said of these changes, and nothing is told of it."""
    store.put_parts(connection, parts)
    known = store.with_causes(connection, {one.incident for one in parts})
    made_of = store.parts_of(connection, known)
    store.put_all(connection, [(described(one, made_of[one.id]), cause) for one, cause in known.values()])


def act(connection: Connection, identity: str, deed: Deed) -> api.Incident:
    """Do something to an incident, and write it down; nothing is written where it changes nothing.

    Raises:
        EntityNotFoundError: there is no such incident.
        ConflictError, InvalidInputError: see `life.after`; also where another incident of its cause is open.
    """
    incident, cause = store.with_cause(connection, identity)
    if deed.change == "reopened" and incident.resolved_ns is not None:
        other = store.open_of(connection, cause)
        if other is not None:
            raise ConflictError(f"incident {other.id} is open for the same cause; look at that one")
    return _do(connection, incident, cause, deed, deed.at_ns)


def resolve_of_assay(connection: Connection, assay: str, why: str, now_ns: int) -> None:
    """Resolve every open incident of an assay for good."""
    for incident in store.of_assay(connection, assay, is_open=True, newest=1_000_000):
        act(connection, incident.id, Deed("resolved", now_ns, note=why, settled=True))


def end_drift(connection: Connection, assay: str, device: str, why: str, now_ns: int) -> None:
    """End what a device gives to the open drift incident of an assay, and say why."""
    part = store.open_part(connection, "drift", device, assay=assay)
    if part is not None:
        gather(connection, replace(part, text=f"{part.text}; {why}", resolved_ns=now_ns), now_ns, settled=True)


def end_silences(connection: Connection, now_ns: int) -> None:
    """Let incidents be heard of again whose silence has ended."""
    for incident in store.silences_over(connection, now_ns):
        act(connection, incident.id, Deed("unsilenced", now_ns))


def forget_device(connection: Connection, device: str, now_ns: int) -> None:
    """Drop what is known of a device that was removed; what others gave to its incidents stays."""
    for part in store.open_parts_of(connection, device):
        # Whoever was told that it began is told that it is over.
        over = replace(part, text=f"{part.text}; the device was removed", resolved_ns=now_ns)
        gather(connection, over, now_ns, settled=True)
    for identity in store.forget_device(connection, device):
        incident, cause = store.with_cause(connection, identity)
        store.put(connection, described(incident, store.parts(connection, identity)), cause)


def site_of(connection: Connection, device: str) -> str | None:
    """Return where a device is; None where nobody said."""
    return connection.execute(select(devices.c.site).where(devices.c.name == device)).scalar()


def described(incident: api.Incident, parts: Sequence[Part]) -> api.Incident:
    """Return an incident as its parts say it: those that are open, else those that were last."""
    if not parts:
        return incident
    last = max(one.episode for one in parts)
    told = [one for one in parts if one.resolved_ns is None] or [one for one in parts if one.episode == last]
    first, names = told[0], list(dict.fromkeys(one.device for one in told))
    return msgspec.structs.replace(
        incident,
        device=first.device,
        devices=names,
        field=first.field,
        opened_ns=min(one.opened_ns for one in parts),
        text=first.text + _also(names[1:], incident.site),
        windows=max(one.windows for one in told),
    )


def _also(names: Sequence[str], site: str | None) -> str:
    """Say which other devices have it, too.

    >>> _also(["till-2", "till-3"], "Berlin"), _also([], None)
    ('; also on till-2, till-3 at Berlin', '')
    """
    if not names:
        return ""
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"; also on {', '.join(names[:NAMED_MAX])}{more}{f' at {site}' if site else ''}"


def _cause(part: Part, site: str | None) -> str:
    """Return a cause's key: the same whatever device of a site comes first."""
    shared = part.kind in OF_A_SITE and site is not None
    place = ["site", site] if shared else ["device", part.device]
    return msgspec.json.encode([part.kind, *place, part.assay, part.source]).decode()


def _home(
    connection: Connection, part: Part, cause: str, now_ns: int, within_ns: int
) -> tuple[api.Incident, api.Change | None]:
    """Return the incident a new part belongs to, and what that is for it."""
    is_open = store.open_of(connection, cause)
    if is_open is not None:
        # One that was well again meanwhile is no news: it was told of.
        told = {one.device for one in store.parts(connection, is_open.id) if one.episode == is_open.reopened}
        return is_open, None if part.device in told else "widened"
    last = store.last_of(connection, cause)
    if last is not None and life.is_same_cause(last, part.opened_ns, within_ns):
        return life.after(last, Deed("reopened", now_ns)) or last, "reopened"
    opened = api.Incident(
        id=str(uuid4()),
        kind=part.kind,
        device=part.device,
        assay_id=part.assay,
        field=part.field,
        opened_ns=part.opened_ns,
        resolved_ns=None,
        text=part.text,
        windows=part.windows,
        devices=[part.device],
        site=site_of(connection, part.device),
        severity="warning" if part.kind in WARNINGS else "critical",
    )
    return opened, "opened"


def _do(connection: Connection, incident: api.Incident, cause: str, deed: Deed, now_ns: int) -> api.Incident:
    changed = life.after(incident, deed)
    if changed is None:
        return incident
    if deed.change == "resolved":
        store.close_parts(connection, incident.id, deed.at_ns)
    store.put(connection, changed, cause)
    _record(connection, changed, deed, now_ns)
    return changed


def _record(
    connection: Connection, incident: api.Incident, deed: Deed, now_ns: int, *, device: str | None = None
) -> None:
    number = store.next_number(connection, incident.id)
    transition = api.Transition(
        number=number,
        at_ns=now_ns,
        change=deed.change,
        actor=deed.actor or HUB,
        note=deed.note,
        device=device,
        event_id=outbox.event_id(incident.id, number),
    )
    store.add_transition(connection, incident.id, transition)
    outbox.put(connection, incident, transition)
