"""The life of an incident, as a state machine that knows nothing else.

    open ──▶ acknowledged      somebody looks after it
      │          │
      ├──────────┴─▶ silenced  nothing is told of it until a time; then it is what it was before
      ▼
    resolved ──▶ open          reopened: by hand, or because its cause came back soon enough

`after` is given an incident and what is done to it, and returns what it is then; None where that changes nothing.
"""

from dataclasses import dataclass

import msgspec

from driftline.clock import NS_PER_S, iso
from driftline.errors import ConflictError, InvalidInputError
from driftline.wire import api

# Who acts where no person does.
HUB = "hub"
# A cause that comes back within this time is the same incident; what returns later is another.
REOPEN_WITHIN_S = 3600
# Of an assay with long windows: three of them, since nothing sooner could come back.
REOPEN_WITHIN_WINDOWS = 3
SILENCE_S_MAX = 30 * 86_400


@dataclass(frozen=True)
class Deed:
    """Something that is done to an incident, by whom and when; `settled` says that it is resolved for good."""

    change: api.Change
    at_ns: int
    actor: str = HUB
    note: str = ""
    until_ns: int | None = None
    settled: bool = False


def after(incident: api.Incident, deed: Deed) -> api.Incident | None:
    """Return the incident as it is when this was done.

    Raises:
        ConflictError: it is in no state for that.
        InvalidInputError: a silence that ends before it begins, or lasts too long.
    """
    is_over = incident.resolved_ns is not None
    if deed.change == "resolved":
        return None if is_over else _resolved(incident, deed)
    if deed.change == "reopened":
        if not is_over:
            raise ConflictError(f"incident {incident.id} is open; there is nothing to reopen")
        return _reopened(incident, deed)
    if is_over:
        raise ConflictError(f"incident {incident.id} is resolved; reopen it first")
    if deed.change == "acknowledged":
        changed = msgspec.structs.replace(incident, acknowledged_by=deed.actor)
    elif deed.change == "silenced":
        changed = msgspec.structs.replace(incident, silenced_until_ns=_until(deed))
    elif deed.change == "unsilenced":
        changed = msgspec.structs.replace(incident, silenced_until_ns=None)
        if incident.silenced_until_ns is None:
            return None
    else:
        return incident
    return _named(changed)


def is_same_cause(incident: api.Incident, began_ns: int, within_ns: int) -> bool:
    """Say whether a cause that begins now is one that was resolved a short while ago.

    >>> over = api.Incident(
    ...     id="1", kind="silent", device="d", assay_id=None, field=None, opened_ns=0, resolved_ns=100, text=""
    ... )
    >>> is_same_cause(over, 150, 60), is_same_cause(over, 170, 60)
    (True, False)
    """
    if incident.resolved_ns is None or incident.settled:
        return False
    return incident.opened_ns - within_ns <= began_ns <= incident.resolved_ns + within_ns


def reopens_within_ns(interval_s: int | None = None) -> int:
    """Return how soon a cause has to come back to be the same incident; `interval_s` is that of an assay's windows."""
    return max(REOPEN_WITHIN_S, REOPEN_WITHIN_WINDOWS * (interval_s or 0)) * NS_PER_S


def _resolved(incident: api.Incident, deed: Deed) -> api.Incident:
    return _named(msgspec.structs.replace(incident, resolved_ns=deed.at_ns, settled=deed.settled))


def _reopened(incident: api.Incident, deed: Deed) -> api.Incident:
    # Who looked after it has done so. A silence goes on: that nobody wants to hear of it was not about one episode.
    still = incident.silenced_until_ns if (incident.silenced_until_ns or 0) > deed.at_ns else None
    return _named(
        msgspec.structs.replace(
            incident,
            resolved_ns=None,
            settled=False,
            acknowledged_by=None,
            silenced_until_ns=still,
            reopened=incident.reopened + 1,
        )
    )


def _until(deed: Deed) -> int:
    if deed.until_ns is None or not deed.at_ns < deed.until_ns <= deed.at_ns + SILENCE_S_MAX * NS_PER_S:
        raise InvalidInputError(
            f"a silence lasts from a second to {SILENCE_S_MAX // 86_400} days from {iso(deed.at_ns)}; resolve what "
            "nobody is to hear of any more, or take it as a new baseline"
        )
    return deed.until_ns


def _named(incident: api.Incident) -> api.Incident:
    """Return an incident with its state in one word; a silence hides that somebody looks after it."""
    state: api.IncidentState = "open"
    if incident.resolved_ns is not None:
        state = "resolved"
    elif incident.silenced_until_ns is not None:
        state = "silenced"
    elif incident.acknowledged_by is not None:
        state = "acknowledged"
    return msgspec.structs.replace(incident, state=state)
