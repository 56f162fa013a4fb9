"""A pipeline made available to devices, and the devices it goes to."""

from datetime import datetime

from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.text import Text
from driftline.sdk.times import from_ns
from driftline.wire import api


class Edge:
    """A device that is to run a pipeline: run `command` on it, once, until `expires`.

    Both `token` and `command` are None where the device had joined before: it gets the pipeline by itself.
    """

    def __init__(self, facts: api.Edge) -> None:
        self._facts = facts

    @property
    def id(self) -> Text:
        """The device's id on the hub."""
        return Text(self._facts.id)

    @property
    def name(self) -> Text:
        """The device's name; location filters and results use it."""
        return Text(self._facts.name)

    @property
    def token(self) -> str | None:
        """The join token: it works once. Whoever holds it becomes this device, so keep it to yourself."""
        return self._facts.token

    @property
    def command(self) -> str | None:
        """What to run on the device."""
        return self._facts.command

    @property
    def expires(self) -> datetime | None:
        """Until when the token works."""
        return None if self._facts.expires_ns is None else from_ns(self._facts.expires_ns)

    def __repr__(self) -> str:
        until = "" if self.expires is None else f", token good until {self.expires.isoformat(timespec='seconds')}"
        return f"<edge {self.name!r}{until}>"

    def _repr_html_(self) -> str:
        joined = "joined; the pipeline reaches it with its next sync"
        until = None if self.expires is None else self.expires.isoformat(timespec="seconds")
        return card({"Device": self.name, "Run on it": self.command or joined, "Until": until})


class Publish:
    """One pipeline version that devices may run."""

    def __init__(self, connection: Connection, facts: api.Publish, name: str) -> None:
        self._connection = connection
        self._facts = facts
        self.pipeline_name = Text(name)

    @property
    def id(self) -> Text:
        """Its id on the hub."""
        return Text(self._facts.id)

    @property
    def version(self) -> Text:
        """The id of the pipeline version that was published."""
        return Text(self._facts.version)

    @property
    def created(self) -> datetime:
        """When it was published."""
        return from_ns(self._facts.created_ns)

    def add_edge(self, name: str) -> Edge:
        """Say that the device `name` is to run it, and get the token that joins the device."""
        request = api.NewEdge(name=name)
        return Edge(self._connection.post(f"/publishes/{self._facts.id}/edges", request, api.Edge))

    def list_edges(self) -> list[Edge]:
        """List the devices it goes to."""
        found = self._connection.items(f"/publishes/{self._facts.id}/edges", api.Edge)
        return Listing(
            [Edge(facts) for facts in found],
            ("Device", "Token until"),
            lambda one: (one.name, None if one.expires is None else one.expires.isoformat(timespec="seconds")),
        )

    def __repr__(self) -> str:
        return f"<publish of {self.pipeline_name!r}, version {self.version}>"

    def _repr_html_(self) -> str:
        return card(
            {
                "Pipeline": self.pipeline_name,
                "Version": self.version,
                "Created": self.created.isoformat(timespec="seconds"),
            }
        )
