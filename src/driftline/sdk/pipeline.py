"""A pipeline: models in a row, brought to devices, asked for inferences, and looked at through its log."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote

import pyarrow as pa

from driftline.errors import InvalidInputError, NotYetError, PermanentError, TemporaryError
from driftline.sdk import tables
from driftline.sdk.edge import Publish
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.model import Model
from driftline.sdk.tables import Rows
from driftline.sdk.text import Text
from driftline.sdk.times import Moment, from_ns, to_ns_or_none
from driftline.wire import api

Names = Iterable[str] | str
_POLL_S = 0.2
# The hub waits 30 s for a worker that is starting, and a piece of frames takes minutes on a small machine.
_INFER_TIMEOUT_S = 600.0
_LOCAL = "hub"


class Pipeline:
    """A pipeline of the hub, or one that is being built.

    Steps are collected by `add_model_step`; `deploy` and `publish` make a version of them, which never changes. Equal
    steps are the same version.
    """

    def __init__(self, connection: Connection, workspace: str, name: str, facts: api.Pipeline | None = None) -> None:
        self._connection = connection
        self._workspace = workspace
        self._name = name
        self._facts = facts
        self._steps: list[Model] = []

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> Text:
        """Its name, unique in its workspace."""
        return Text(self._name)

    @property
    def id(self) -> Text:
        """Its id on the hub."""
        return Text(self._known().id)

    @property
    def version(self) -> Text:
        """The id of its newest version."""
        return Text(self.saved().versions[0].id)

    @property
    def state(self) -> str:
        """How it fared when it was last asked: created, deploying, running, error or undeployed."""
        return self._known().status

    @property
    def created(self) -> datetime:
        """When its first version was made."""
        return from_ns(self._known().created_ns)

    @property
    def definition(self) -> dict[str, Any]:
        """The newest version's document: steps, inputs, outputs, observers, recorded fields."""
        return self.saved().versions[0].definition

    @property
    def notes(self) -> list[str]:
        """What should be known of the newest version, such as that a model's own output replaces an observer's."""
        return list(self.saved().notes)

    @property
    def model_names(self) -> list[str]:
        """The names of its models, in order."""
        return [str(step["name"]) for step in self.definition["steps"]]

    def versions(self) -> list[str]:
        """List the ids of its versions, newest first."""
        return [version.id for version in self.saved().versions]

    # ── building ─────────────────────────────────────────────────────────────────────────────────────────────────

    def add_model_step(self, model: Model) -> Self:
        """Append a model; steps chain by the names of their outputs and inputs."""
        if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(f"add_model_step() takes what upload_model() returned, not {model!r:.80}")
        self._steps.append(model)
        return self

    def clear(self) -> Self:
        """Forget the steps collected so far; versions that were made stay."""
        self._steps = []
        return self

    def add_shadow_deploy(self, champion: Model, challengers: Sequence[Model]) -> NoReturn:
        """Refuse: challengers that run beside a champion come later."""
        raise NotYetError(
            f"add_shadow_deploy(): {len(challengers)} challenger(s) beside {getattr(champion, 'name', champion)!r} "
            "cannot run in one pipeline yet; build a pipeline for each model and send each the same inferences"
        )

    def add_random_split(self, weighted: Sequence[tuple[float, Model]], hash_key: str | None = None) -> NoReturn:
        """Refuse: splitting inferences between models comes later."""
        raise NotYetError(
            f"add_random_split(): a split between {len(weighted)} models{f' by {hash_key!r}' if hash_key else ''} "
            "cannot run yet; build a pipeline for each model and choose one an inference in your program"
        )

    def saved(self) -> api.Pipeline:
        """Return the hub's facts about it, after making a version of the steps where there is none of them.

        Raises:
            InvalidInputError: a name that cannot be one, or steps that do not fit together.
        """
        facts = self._facts
        wanted = [str(model.id) for model in self._steps]
        if facts is None or (wanted and wanted != _models_of(facts)):
            request = api.NewPipeline(name=self._name, steps=[api.Step(model=model) for model in wanted])
            facts = self._connection.post(f"/workspaces/{quote(self._workspace)}/pipelines", request, api.Pipeline)
            for note in facts.notes:
                print(f"Note: {note}.")
            self._facts = facts
        return facts

    def _known(self) -> api.Pipeline:
        """Return the hub's facts as they are: looking at a pipeline makes no version of steps that wait for one."""
        return self._facts or self.saved()

    def refresh(self) -> Self:
        """Fetch its facts from the hub."""
        self._facts = self._connection.get(f"/pipelines/{self._known().id}", api.Pipeline)
        return self

    # ── bringing it to devices ───────────────────────────────────────────────────────────────────────────────────

    def deploy(
        self,
        deployment_config: Mapping[str, Any] | None = None,
        *,
        wait_for_status: bool = True,
        timeout_s: float = 120.0,
    ) -> Self:
        """Run the newest version on the hub's own machine, the device `hub`, and wait until it runs.

        `deployment_config` is what `DeploymentConfigBuilder.build()` returns.

        Raises:
            InvalidInputError: there is no model in it, or the configuration cannot be read.
            PermanentError: the device cannot run it; the message is the device's.
            TemporaryError: it does not run in time.
        """
        if self._facts is None and not self._steps:
            raise InvalidInputError(
                f"pipeline {self._name!r} has no model to run; add one with add_model_step(model), or publish() it "
                "where a device's own program runs the model"
            )
        identity = self.saved().id
        request = api.Deploy(config=None if deployment_config is None else dict(deployment_config))
        self._facts = self._connection.post(f"/pipelines/{identity}/deploy", request, api.Pipeline)
        if wait_for_status:
            with _Progress(f"Waiting for deployment - this will take up to {timeout_s:g}s ") as progress:
                self._wait_until_running(progress, timeout_s)
        return self

    def _wait_until_running(self, progress: "_Progress", timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        version = self._known().versions[0].id
        while True:
            told = self._connection.get(f"/pipelines/{self._known().id}/status", api.PipelineStatus)
            here = next((one for one in told.devices if one.device == _LOCAL and one.version == version), None)
            state = "starting" if here is None else here.state
            if state == "running":
                return
            if state.startswith("error"):
                raise PermanentError(f"pipeline {self._name!r} does not run: {state}")
            if time.monotonic() > until:
                raise TemporaryError(
                    f"pipeline {self._name!r} is not running after {timeout_s:g} s ({state}); it may yet: look with "
                    "pipeline.status(), and at the terminal of driftline up"
                )
            progress.step()
            time.sleep(_POLL_S)

    def undeploy(self) -> Self:
        """Stop it on the device `hub`; devices it was published to go on."""
        with _Progress("Waiting for undeployment - this will take up to 45s "):
            self._facts = self._connection.post(f"/pipelines/{self._known().id}/undeploy", {}, api.Pipeline)
        return self

    def status(self) -> dict[str, Any]:
        """Say how it fares: `status` (Running, Deploying, Error, Undeployed, Created), `details`, `devices`.

        Each device has its `state`, its `version`, and `limits`: in words, what holds its processor and memory use.
        """
        told = self._connection.get(f"/pipelines/{self._known().id}/status", api.PipelineStatus)
        return {
            "status": told.status.capitalize(),
            "details": told.details,
            "devices": [
                {"device": one.device, "state": one.state, "version": one.version, "limits": one.limits}
                for one in told.devices
            ],
        }

    def publish(self) -> Publish:
        """Make the newest version available to other devices; `.add_edge(name)` says to which."""
        facts = self._connection.post(f"/pipelines/{self.saved().id}/publish", {}, api.Publish)
        return Publish(self._connection, facts, self._name)

    def publishes(self) -> list[Publish]:
        """List what was published of it, newest first."""
        found = self._connection.items(f"/pipelines/{self._known().id}/publishes", api.Publish)
        return Listing(
            [Publish(self._connection, facts, self._name) for facts in found],
            ("Version", "Created"),
            lambda one: (one.version, one.created.isoformat(timespec="seconds")),
        )

    # ── inferences ───────────────────────────────────────────────────────────────────────────────────────────────

    def infer(
        self,
        tensor: Rows,
        timeout: float | None = None,
        dataset: Names | None = None,
        dataset_exclude: Names | None = None,
    ) -> Rows:
        """Run every row through the pipeline on the device `hub`; returns the same kind of table.

        Columns: `time`, `in.<field>`, `out.<field>` (what observers made of it, too), `anomaly.count`. Every row is
        counted and logged, like any other inference. `timeout` is in seconds, for each request.

        Raises:
            InvalidInputError: the rows are not what the pipeline takes, or it is not deployed.
            TemporaryError: the worker is starting or went away.
        """
        table = tables.to_table(tensor, self._known().versions[0].definition["inputs"])
        answers = [self._infer(piece, timeout) for piece in tables.pieces(table)]
        answer = answers[0] if len(answers) == 1 else pa.concat_tables(answers, promote_options="permissive")
        return tables.like(tables.selected(answer, dataset, dataset_exclude), tensor)

    def _infer(self, piece: Any, timeout: float | None) -> Any:
        reply = self._connection.send(
            "POST",
            f"/pipelines/{self._known().id}/infer",
            content=tables.encode(piece),
            content_type=api.ARROW,
            timeout_s=timeout or _INFER_TIMEOUT_S,
        )
        return tables.decode(reply.content)

    def infer_from_file(
        self,
        filename: str | Path,
        timeout: float | None = None,
        dataset: Names | None = None,
        dataset_exclude: Names | None = None,
    ) -> Any:
        """Run every row of a file through the pipeline: JSON, CSV (a DataFrame), Arrow or Parquet (an Arrow table)."""
        return self.infer(tables.read_file(filename), timeout, dataset, dataset_exclude)

    def logs(
        self,
        limit: int = 100,
        start_datetime: Moment | None = None,
        end_datetime: Moment | None = None,
        dataset: Names | None = None,
        dataset_exclude: Names | None = None,
        *,
        arrow: bool = False,
        device: str | None = None,
    ) -> Any:
        """Return the newest inferences in [start, end), in time order, as a DataFrame, or with `arrow` a table.

        Columns as `infer` gives them, and `device`. A naive datetime is UTC. Frames and tensors of more than 4,096
        elements do not reach the log; devices other than `hub` send their first thousand rows only.
        """
        if limit < 1:
            raise InvalidInputError(f"limit={limit}: ask for at least one row")
        reply = self._connection.send(
            "GET",
            f"/pipelines/{self._known().id}/logs",
            query={
                # One more, to know whether there is more; a million is what the hub gives at once.
                "limit": limit + 1 if limit < 1_000_000 else limit,
                "start_ns": to_ns_or_none(start_datetime, "start_datetime"),
                "end_ns": to_ns_or_none(end_datetime, "end_datetime"),
                "device": device,
            },
        )
        table = tables.decode(reply.content)
        if table.num_rows > limit:
            print(f"There are more logs than the {limit} newest ones shown; give a larger limit, or start and end.")
            table = table.slice(table.num_rows - limit)
        chosen = tables.selected(table, dataset, dataset_exclude)
        return chosen if arrow else tables.to_frame(chosen)

    def export_logs(self, *_: object, **__: object) -> NoReturn:
        """Refuse: files of logs come later."""
        raise NotYetError(
            "export_logs() comes later; write what logs() returns, such as "
            "pipeline.logs(limit=100_000).to_parquet('logs.parquet')"
        )

    # ── how it shows itself ──────────────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        state = "not made yet" if self._facts is None else self._facts.status
        return f"<pipeline {self._name!r}, {state}>"

    def _repr_html_(self) -> str:
        if self._facts is None:
            return card({"Pipeline": self._name, "Steps": ", ".join(model.name for model in self._steps)})
        return card(
            {
                "Pipeline": self._name,
                "Status": self._facts.status,
                "Created": self.created.isoformat(timespec="seconds"),
                "Version": self.version,
                "Steps": ", ".join(self.model_names),
                "Recorded": ", ".join(str(one["key"]) for one in self.definition["fields"]),
            }
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pipeline)
            and (other._workspace, other._name) == (self._workspace, self._name)
            and other._connection.url == self._connection.url
        )

    def __hash__(self) -> int:
        return hash((self._workspace, self._name))


class _Progress:
    """Prints a line that grows by a dot and ends in `ok`, or in nothing where an error follows."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> Self:
        self._say(self._text)
        return self

    def step(self) -> None:
        """Show that time passes."""
        self._say(".")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._say(" ok\n" if kind is None else "\n")

    def _say(self, text: str) -> None:
        # Looked up late: a notebook replaces the stream.
        sys.stdout.write(text)
        sys.stdout.flush()


def _models_of(facts: api.Pipeline) -> list[str]:
    return [str(step["model"]) for step in facts.versions[0].definition["steps"]]


def listing(pipelines: Iterable[Pipeline]) -> Listing[Pipeline]:
    """Return pipelines as a list that a notebook shows as a table."""
    return Listing(
        pipelines,
        ("Name", "Created", "Status", "Steps"),
        lambda one: (
            one.name,
            one.created.isoformat(timespec="seconds"),
            one.state,
            ", ".join(one.model_names),
        ),
    )
