"""A workspace: a place for models, pipelines and assays that belong together."""

from datetime import datetime

from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.model import Model
from driftline.sdk.pipeline import Pipeline
from driftline.sdk.text import Text
from driftline.sdk.times import from_ns
from driftline.wire import api


class Workspace:
    """One workspace of the hub."""

    def __init__(self, connection: Connection, facts: api.Workspace) -> None:
        self._connection = connection
        self._facts = facts

    @property
    def id(self) -> Text:
        """Its id on the hub."""
        return Text(self._facts.id)

    @property
    def name(self) -> Text:
        """Its name, unique on the hub."""
        return Text(self._facts.name)

    @property
    def created(self) -> datetime:
        """When it was made."""
        return from_ns(self._facts.created_ns)

    def models(self) -> list[Model]:
        """List its model versions, newest first."""
        found = self._connection.items(f"/workspaces/{self._facts.id}/models", api.Model)
        newest_first = sorted(found, key=lambda model: model.created_ns, reverse=True)
        return [Model(self._connection, facts) for facts in newest_first]

    def pipelines(self) -> list[Pipeline]:
        """List its pipelines, newest created first."""
        found = self._connection.items(f"/workspaces/{self._facts.id}/pipelines", api.Pipeline)
        newest_first = sorted(found, key=lambda pipeline: pipeline.created_ns, reverse=True)
        return [Pipeline(self._connection, self._facts.id, facts.name, facts) for facts in newest_first]

    def __repr__(self) -> str:
        return f"<workspace {self.name!r}>"

    def _repr_html_(self) -> str:
        return card(
            {
                "Name": self.name,
                "Created": self.created.isoformat(timespec="seconds"),
                "Models": ", ".join(sorted({model.name for model in self.models()})),
                "Pipelines": ", ".join(pipeline.name for pipeline in self.pipelines()),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other.id == self.id

    def __hash__(self) -> int:
        return hash(str(self.id))
