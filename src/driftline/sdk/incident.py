"""Incidents as the client returns them: what happened, and the one action for a change that is meant to stay."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote

from driftline.errors import InvalidInputError
from driftline.sdk.assay import Assay
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.text import Text
from driftline.sdk.times import from_ns
from driftline.wire import api


class Incident:
    """Something an owner should know; `.incident` is the message as the hub sent it."""

    def __init__(self, connection: Connection, facts: api.Incident) -> None:
        self._connection = connection
        self.incident = facts

    @property
    def id(self) -> Text:
        """Its id on the hub."""
        return Text(self.incident.id)

    @property
    def kind(self) -> str:
        """What kind of thing happened, such as drift."""
        return self.incident.kind

    @property
    def device(self) -> str:
        """The device this is about."""
        return self.incident.device

    @property
    def assay_id(self) -> str | None:
        """The assay that alarmed; None where none did, as of a silent device."""
        return self.incident.assay_id

    @property
    def field(self) -> str | None:
        """The field that drifted."""
        return self.incident.field

    @property
    def text(self) -> str:
        """What happened, in a sentence."""
        return self.incident.text

    @property
    def windows(self) -> int:
        """How many windows it has lasted."""
        return self.incident.windows

    @property
    def opened(self) -> datetime:
        """When it began."""
        return from_ns(self.incident.opened_ns)

    @property
    def resolved(self) -> datetime | None:
        """When it ended; None while it is open."""
        return None if self.incident.resolved_ns is None else from_ns(self.incident.resolved_ns)

    def resolve(self) -> "Incident":
        """Close it by hand; the next Alert opens another."""
        path = f"/incidents/{quote(self.incident.id, safe='')}/resolve"
        self.incident = self._connection.post(path, {}, api.Incident)
        return self

    def take_as_baseline(self) -> Assay:
        """Say that what drifted is meant to stay: compare its device with what it saw since this incident was opened.

        Returns the assay. The device's evidence starts again; all others keep their baselines, evidence and incidents.

        Raises:
            InvalidInputError: no assay opened this incident, or too little has come since.
        """
        if self.assay_id is None:
            raise InvalidInputError(
                f"no assay opened this incident ({self.text}), so there is no baseline to replace; resolve() closes it"
            )
        return Assay.find(self._connection, self.assay_id).set_baseline(incident=self.incident.id)

    def __repr__(self) -> str:
        return f"<incident: {self.text}, {'open' if self.resolved is None else 'resolved'}>"

    def _repr_html_(self) -> str:
        return card(dict(zip(_COLUMNS, _row(self), strict=True)))


def listing(incidents: Iterable[Incident]) -> Listing[Incident]:
    """Return incidents as a list that a notebook shows as a table."""
    return Listing(incidents, _COLUMNS, _row)


_COLUMNS = ("Device", "What", "Opened", "Resolved")


def _row(one: Incident) -> tuple[object, ...]:
    resolved = None if one.resolved is None else one.resolved.isoformat()
    return (one.device, one.text, one.opened.isoformat(), resolved)
