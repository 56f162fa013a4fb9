"""Workspaces, models and pipelines: what was uploaded, whether it really runs, and which versions it makes."""

import re
import shutil
import threading
import time
import uuid
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from driftline.errors import (
    ConflictError,
    DriftlineError,
    EntityNotFoundError,
    InvalidInputError,
    TemporaryError,
)
from driftline.framework import Framework
from driftline.hub import fleet, journal
from driftline.hub.accounts.tables import roles
from driftline.hub.core import Hub
from driftline.hub.http import BYTES, Call, Routes
from driftline.hub.paging import Page, page
from driftline.hub.policy import EDITOR, MAKER, MEMBER, VIEWER
from driftline.hub.store.registry import models, pipelines, versions, workspaces
from driftline.pipeline.check import check_model
from driftline.pipeline.definition import make_definition
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.schema import parse_schema
from driftline.wire import api

routes = Routes()

MODEL_BYTES_MAX = 2 * 1024**3
# Real seconds until a check that met a full disk is tried again.
AGAIN_AFTER_S = 2.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_name(what: str, name: str) -> str:
    """Return the name without surrounding space.

    Raises:
        InvalidInputError: empty, longer than 128 characters, or with a slash or control characters.
    """
    name = name.strip()
    if not name or len(name) > 128 or not name.isprintable() or "/" in name:
        raise InvalidInputError(
            f"{what} {name!r} cannot be a name: use 1 to 128 printable characters without a slash, "
            "such as 'retail-edge'"
        )
    return name


# ── workspaces ───────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/workspaces", policy=MEMBER, query=api.Paged)
def list_workspaces(call: Call[api.Paged]) -> Page[api.Workspace]:
    """List workspaces, oldest first."""
    keys = ((workspaces.c.created_ns, False), (workspaces.c.id, False))
    with call.hub.database.reading() as connection:
        query, visible = select(workspaces), call.who.visible
        query = query if visible is None else query.where(workspaces.c.id.in_(visible))
        return page(connection, query, keys, call.body, _workspace)


@routes.post("/workspaces", policy=MAKER, body=api.NewWorkspace, raises=(ConflictError,))
def make_workspace(call: Call[api.NewWorkspace]) -> api.Workspace:
    """Make a workspace; who makes it owns it.

    Raises:
        ConflictError: the name is taken.
    """
    made = api.Workspace(
        id=str(uuid.uuid4()), name=check_name("workspace", call.body.name), created_ns=call.hub.now_ns()
    )
    with call.hub.database.writing() as connection:
        if connection.execute(select(workspaces.c.id).where(workspaces.c.name == made.name)).first():
            raise ConflictError(f"there is a workspace {made.name!r} already; take it from list_workspaces()")
        connection.execute(insert(workspaces).values(id=made.id, name=made.name, created_ns=made.created_ns))
        if call.who.person is not None:
            connection.execute(insert(roles).values(person=call.who.person, workspace=made.id, role="owner"))
    return made


@routes.get("/workspaces/{workspace}", policy=VIEWER)
def get_workspace(call: Call[None]) -> api.Workspace:
    """Return one workspace."""
    with call.hub.database.reading() as connection:
        return need_workspace(connection, call.path["workspace"])


def need_workspace(connection: Connection, workspace: str) -> api.Workspace:
    """Return the workspace of this id.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(workspaces).where(workspaces.c.id == workspace)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no workspace {workspace!r}; list_workspaces() shows those there are")
    return _workspace(row)


def _workspace(row: Row[Any]) -> api.Workspace:
    return api.Workspace(id=row.id, name=row.name, created_ns=row.created_ns)


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/workspaces/{workspace}/models", policy=VIEWER, query=api.Paged)
def list_models(call: Call[api.Paged]) -> Page[api.Model]:
    """List the model versions of a workspace, newest first."""
    with call.hub.database.reading() as connection:
        workspace = need_workspace(connection, call.path["workspace"])
        keys = ((models.c.created_ns, True), (models.c.id, True))
        return page(connection, select(models).where(models.c.workspace == workspace.id), keys, call.body, _model)


@routes.post("/workspaces/{workspace}/models", policy=EDITOR, body=api.NewModel)
def make_model(call: Call[api.NewModel]) -> api.Model:
    """Announce a model version; its file follows.

    Raises:
        InvalidInputError: an unknown framework, a schema or detector that cannot be read, no SHA-256, too large.
    """
    new = call.body
    if not _DIGEST.fullmatch(new.digest):
        raise InvalidInputError("digest is the file's SHA-256: 64 lower-case hex digits")
    if not 0 < new.size <= MODEL_BYTES_MAX:
        raise InvalidInputError(
            f"the model has {new.size} bytes; a model has 1 to {MODEL_BYTES_MAX} (2 GiB), "
            "quantise or split a larger one"
        )
    document: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "name": check_name("model", new.name),
        "version": str(uuid.uuid4()),
        "framework": Framework.parse(new.framework).value,
        "digest": new.digest,
        "size": new.size,
        "status": "pending",
        "error": None,
        "created_ns": call.hub.now_ns(),
        "input_schema": [field.document for field in parse_schema(new.input_schema)],
        "output_schema": [field.document for field in parse_schema(new.output_schema)],
        "detector": None if new.detector is None else DetectorConfig.parse(new.detector).document,
    }
    with call.hub.database.writing() as connection:
        document["workspace"] = need_workspace(connection, call.path["workspace"]).id
        connection.execute(insert(models).values(document))
        return need_model(connection, document["id"])


@routes.get("/models/{model}", policy=VIEWER)
def get_model(call: Call[None]) -> api.Model:
    """Return one model version with its status."""
    with call.hub.database.reading() as connection:
        return need_model(connection, call.path["model"])


@routes.put(
    "/models/{model}/file",
    policy=EDITOR,
    takes=BYTES,
    raises=(ConflictError,),
    bytes_max=MODEL_BYTES_MAX,
    upload=True,
)
def put_file(call: Call[None]) -> api.Model:
    """Take a model's file; it is checked in the background, and the status says how that went.

    Raises:
        ConflictError: the version has its file already.
        InvalidInputError: the bytes are not those that were announced.
    """
    hub, upload = call.hub, call.upload
    if upload is None:  # the route streams, so that this cannot be
        raise InvalidInputError("the body is the model file's bytes")
    with hub.database.reading() as connection:
        model = need_model(connection, call.path["model"])
    if model.status not in {"pending", "error"}:
        raise ConflictError(f"model {model.name!r} is {model.status}; a version never changes, upload a new one")
    if (upload.digest, upload.size) != (model.digest, model.size):
        raise InvalidInputError(
            f"{upload.size} bytes with SHA-256 {upload.digest} came, {model.size} bytes with {model.digest} were "
            "announced; the file was torn on the way or changed meanwhile, upload it again"
        )
    upload.path.replace(hub.models / model.digest)
    _set_status(hub, model.id, "loading")
    hub.checks.put(model.id)
    return _read_model(hub, model.id)


def need_model(connection: Connection, model: str) -> api.Model:
    """Return the model version of this id.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(models).where(models.c.id == model)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no model {model!r}; upload it with upload_model(…)")
    return _model(row)


def _read_model(hub: Hub, model: str) -> api.Model:
    with hub.database.reading() as connection:
        return need_model(connection, model)


def _set_status(hub: Hub, model: str, status: api.ModelStatus, error: str | None = None) -> None:
    with hub.database.writing() as connection:
        connection.execute(update(models).where(models.c.id == model).values(status=status, error=error))


def _model(row: Row[Any]) -> api.Model:
    return api.Model(**{name: getattr(row, name) for name in api.Model.__struct_fields__})


class Checker:
    """Loads and dry-runs uploaded models, one after the other, each in a limited process of its own.

    A hub that was stopped in the middle checks again at its next start.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._thread = threading.Thread(target=self._work, name="model-checks", daemon=True)

    def start(self) -> None:
        """Begin, with the models that a stopped hub left loading."""
        with self.hub.database.reading() as connection:
            left = connection.execute(select(models.c.id).where(models.c.status == "loading")).scalars().all()
        for model in left:
            self.hub.checks.put(model)
        self._thread.start()

    def stop(self) -> None:
        """End after the check under way; a hub that exits meanwhile leaves the model loading."""
        self.hub.checks.put(None)

    def _work(self) -> None:
        while (model := self.hub.checks.get()) is not None:
            try:
                self._check(_read_model(self.hub, model))
            except TemporaryError as error:
                journal.tell(f"a model's check waits: {error}")
                time.sleep(AGAIN_AFTER_S)
                self.hub.checks.put(model)

    def _check(self, model: api.Model) -> None:
        path = self.hub.models / model.digest
        try:
            detector = None if model.detector is None else DetectorConfig.parse(model.detector)
            check_model(
                model.framework, path, parse_schema(model.input_schema), parse_schema(model.output_schema), detector
            )
        except DriftlineError as error:
            self._failed(model, str(error))
        except Exception as error:  # noqa: BLE001  whatever a foreign file provokes is that model's error
            self._failed(model, f"the model cannot be loaded: {type(error).__name__}: {error}")
        else:
            _set_status(self.hub, model.id, "ready")

    def _failed(self, model: api.Model, reason: str) -> None:
        _set_status(self.hub, model.id, "error", reason)
        with self.hub.database.reading() as connection:
            others = connection.execute(
                select(models.c.id).where(models.c.digest == model.digest, models.c.status != "error")
            ).first()
        if others is None:
            (self.hub.models / model.digest).unlink(missing_ok=True)


# ── pipelines ────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/workspaces/{workspace}/pipelines", policy=VIEWER, query=api.Paged)
def list_pipelines(call: Call[api.Paged]) -> Page[api.Pipeline]:
    """List the pipelines of a workspace, newest first."""
    with call.hub.database.reading() as connection:
        workspace = need_workspace(connection, call.path["workspace"])
        query = select(pipelines.c.id).where(pipelines.c.workspace == workspace.id)
        keys = ((pipelines.c.created_ns, True), (pipelines.c.id, False))
        return page(connection, query, keys, call.body, lambda row: need_pipeline(connection, row.id))


@routes.post("/workspaces/{workspace}/pipelines", policy=EDITOR, body=api.NewPipeline, raises=(TemporaryError,))
def make_pipeline(call: Call[api.NewPipeline]) -> api.Pipeline:
    """Make a pipeline, or a new version where the name exists.

    Raises:
        EntityNotFoundError: no such model.
        InvalidInputError: a model that failed its check, or steps that do not fit together.
        TemporaryError: a model that is still being checked.
    """
    name, now_ns = check_name("pipeline", call.body.name), call.hub.now_ns()
    with call.hub.database.writing() as connection:
        workspace = need_workspace(connection, call.path["workspace"])
        steps = [_step(need_model(connection, step.model), workspace) for step in call.body.steps]
        definition = make_definition(name, steps)
        pipeline = connection.execute(
            select(pipelines.c.id).where(pipelines.c.workspace == workspace.id, pipelines.c.name == name)
        ).scalar()
        if pipeline is None:
            pipeline = str(uuid.uuid4())
            connection.execute(
                insert(pipelines).values(id=pipeline, workspace=workspace.id, name=name, created_ns=now_ns)
            )
        before = connection.execute(
            select(versions.c.number).where(versions.c.pipeline == pipeline).order_by(versions.c.number.desc())
        ).scalar()
        connection.execute(
            insert(versions).values(
                id=str(uuid.uuid4()),
                pipeline=pipeline,
                number=(before or 0) + 1,
                created_ns=now_ns,
                definition=definition,
            )
        )
        return need_pipeline(connection, pipeline)


@routes.get("/pipelines/{pipeline}", policy=VIEWER)
def get_pipeline(call: Call[None]) -> api.Pipeline:
    """Return one pipeline with its versions."""
    with call.hub.database.reading() as connection:
        return need_pipeline(connection, call.path["pipeline"])


def need_pipeline(connection: Connection, identity: str) -> api.Pipeline:
    """Return the pipeline of this id.

    Raises:
        EntityNotFoundError: there is none.
    """
    row = connection.execute(select(pipelines).where(pipelines.c.id == identity)).first()
    if row is None:
        raise EntityNotFoundError(f"there is no pipeline {identity!r}; list_pipelines() shows those there are")
    found = connection.execute(
        select(versions).where(versions.c.pipeline == identity).order_by(versions.c.number.desc())
    )
    made = [api.PipelineVersion(id=one.id, created_ns=one.created_ns, definition=one.definition) for one in found]
    return api.Pipeline(
        id=row.id,
        workspace=row.workspace,
        name=row.name,
        created_ns=row.created_ns,
        status=fleet.pipeline_status(connection, identity).status,
        versions=made,
        notes=list(made[0].definition.get("notes", [])),
    )


def pipeline(hub: Hub, identity: str) -> api.Pipeline:
    """Return the pipeline of this id, with its versions and its status.

    Raises:
        EntityNotFoundError: there is none.
    """
    with hub.database.reading() as connection:
        return need_pipeline(connection, identity)


def _step(model: api.Model, workspace: api.Workspace) -> dict[str, Any]:
    if model.workspace != workspace.id:
        raise EntityNotFoundError(f"there is no model {model.id!r} in workspace {workspace.name!r}; upload it there")
    if model.status == "error":
        raise InvalidInputError(f"model {model.name!r} does not run: {model.error}")
    if model.status == "pending":
        raise InvalidInputError(f"model {model.name!r} has no file yet; upload it with upload_model(…)")
    if model.status == "loading":
        raise TemporaryError(f"model {model.name!r} is still being checked; wait until its status is ready")
    return {
        "model": model.id,
        "name": model.name,
        "framework": model.framework,
        "digest": model.digest,
        "input_schema": model.input_schema,
        "output_schema": model.output_schema,
        "detector": model.detector,
    }


def prepare_folders(hub: Hub) -> None:
    """Make the hub's folders; uploads that a stopped hub left half-way are removed."""
    shutil.rmtree(hub.temporary, ignore_errors=True)
    hub.temporary.mkdir(parents=True, exist_ok=True)
    hub.models.mkdir(parents=True, exist_ok=True)
