"""Incidents as the client returns them: what happened, and what a person does about it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from driftline.errors import InvalidInputError
from driftline.sdk import notifications
from driftline.sdk.assay import Assay
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.me import myself
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
        """The device this is about, the first of them."""
        return self.incident.device

    @property
    def devices(self) -> list[str]:
        """The devices it is about now; of one that is resolved those it was last about."""
        return self.incident.devices or [self.incident.device]

    @property
    def site(self) -> str | None:
        """Where that is; None where nobody said."""
        return self.incident.site

    @property
    def state(self) -> str:
        """Which of open, acknowledged, silenced and resolved it is."""
        return self.incident.state

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

    def acknowledge(self, note: str = "", *, by: str | None = None) -> "Incident":
        """Say that somebody looks after it: you, where `by` names nobody else.

        Raises:
            ConflictError: it is resolved.
        """
        return self._do("acknowledge", api.Act(note=note, by=by or myself()))

    def silence(self, duration: timedelta | float, note: str = "", *, by: str | None = None) -> "Incident":
        """Tell nobody of it for a time, given as a timedelta or in seconds; that it is over is told.

        Raises:
            ConflictError: it is resolved.
            InvalidInputError: no length of time, or more than 30 days.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        return self._do("silence", api.Silence(for_s=int(seconds), note=note, by=by or myself()))

    def resolve(self, note: str = "", *, by: str | None = None) -> "Incident":
        """Close it by hand; if its cause comes back soon it is opened again, else the next Alert opens another."""
        return self._do("resolve", api.Act(note=note, by=by or myself()))

    def reopen(self, note: str = "", *, by: str | None = None) -> "Incident":
        """Open it again.

        Raises:
            ConflictError: it is open, or another is for the same cause.
        """
        return self._do("reopen", api.Act(note=note, by=by or myself()))

    def history(self) -> list[api.Transition]:
        """List what happened to it, and who did it, the first thing first."""
        return Listing(
            self._connection.items(f"{self._path}/history", api.Transition),
            ("When", "What", "Who", "Note"),
            lambda one: (from_ns(one.at_ns).isoformat(), one.change, one.actor, one.note or one.device or ""),
        )

    def notifications(self) -> list[api.Delivery]:
        """List what was sent of it, where to and when, the newest first."""
        return notifications.listing(self._connection.items(f"{self._path}/notifications", api.Delivery))

    def export(self, file: str | Path, *, device: str | None = None, before: timedelta | float = 3600) -> Path:
        """Save its rows with their labels, for retraining: as Parquet or as CSV, by the name's ending.

        `label` is drifted or healthy, by what the assay found of the window that holds the row; `before` is how long
        before it began the first row is, as a timedelta or in seconds. Of one `device`, or of all of them. See
        docs/notifications.md.

        Raises:
            EntityNotFoundError: the hub has no rows of it; the message says how it gets some.
            InvalidInputError: another ending, or no assay opened it.
        """
        path = Path(file)
        if path.suffix not in {".parquet", ".csv"}:
            raise InvalidInputError(
                f"{path.name!r}: rows are saved as Parquet or CSV, such as rows.parquet or rows.csv"
            )
        seconds = before.total_seconds() if isinstance(before, timedelta) else before
        beside = path.with_name(f".{path.name}.new")
        try:
            with beside.open("wb") as saved:
                what = f"{self._path}/rows{path.suffix}"
                self._connection.download(what, saved, device=device, before_s=int(seconds))
            return beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    @property
    def _path(self) -> str:
        return f"/incidents/{quote(self.incident.id, safe='')}"

    def _do(self, what: str, act: api.Act) -> "Incident":
        self.incident = self._connection.post(f"{self._path}/{what}", act, api.Incident)
        return self

    def take_as_baseline(self, device: str | None = None) -> Assay:
        """Say that what drifted is meant to stay: compare a device with what it saw since it alarmed.

        `device` says which one where the incident is about several. Returns the assay. The device's evidence starts
        again; all others keep their baselines, evidence and incidents.

        Raises:
            InvalidInputError: no assay opened this incident, several devices have it and none was named, or too little
                has come since.
        """
        if self.assay_id is None:
            raise InvalidInputError(
                f"no assay opened this incident ({self.text}), so there is no baseline to replace; resolve() closes it"
            )
        return Assay.find(self._connection, self.assay_id).set_baseline(incident=self.incident.id, device=device)

    def __repr__(self) -> str:
        return f"<incident: {self.text}, {self.state}>"

    def _repr_html_(self) -> str:
        return card(dict(zip(_COLUMNS, _row(self), strict=True)))


def listing(incidents: Iterable[Incident]) -> Listing[Incident]:
    """Return incidents as a list that a notebook shows as a table."""
    return Listing(incidents, _COLUMNS, _row)


_COLUMNS = ("Devices", "What", "State", "Opened", "Resolved")


def _row(one: Incident) -> tuple[object, ...]:
    resolved = None if one.resolved is None else one.resolved.isoformat()
    return (", ".join(one.devices), one.text, one.state, one.opened.isoformat(), resolved)
