"""Inferences asked of the hub: passed on to the worker of the device `hub`, which answers and records them.

The table is cut into pieces that a worker answers in reasonable time; each piece has one time, the hub's when it set
out.
"""

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa
from sqlalchemy import select
from starlette.responses import Response

from driftline.errors import InvalidInputError, PermanentError, TemporaryError
from driftline.hub import fleet, registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR
from driftline.hub.store.fleet import assignments, devices
from driftline.hub.tables import (
    ANOMALIES,
    TIME,
    Column,
    Table,
    arrays_of,
    column_of_array,
    input_columns,
    read_table,
    write_table,
)
from driftline.pipeline.schema import Field, parse_schema
from driftline.wire import api
from driftline.wire.arrays import ARRAYS, Array, pack_arrays, unpack_arrays

routes = Routes()

INFER_BYTES_MAX = 512 * 1024 * 1024
# A frame of 1280 × 720 is 2.8 MB; a piece is never less than one inference.
PIECE_BYTES = 8 * 1024 * 1024
PIECE_ROWS = 256
# A worker starts within seconds of a deploy, but it may have a large file to load.
RUNNING_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 300.0
POLL_S = 0.1


@dataclass(frozen=True)
class Worker:
    """Where a pipeline's worker answers."""

    host: str
    port: int
    path: str


@routes.post(
    "/pipelines/{pipeline}/infer",
    policy=EDITOR,
    takes=api.ARROW,
    media=api.ARROW,
    raises=(TemporaryError,),
    bytes_max=INFER_BYTES_MAX,
    reads=True,
)
def infer(call: Call[None]) -> Response:
    """Run every row of an Arrow IPC stream through the pipeline; answer with the same rows and their outputs.

    Raises:
        InvalidInputError: the pipeline is not deployed, or the table does not have its inputs.
        PermanentError: the pipeline's worker cannot run it.
        TemporaryError: the worker did not get ready, or went away.
    """
    pipeline = registry.pipeline(call.hub, call.path["pipeline"])
    definition = pipeline.versions[0].definition
    if not definition["steps"]:
        raise InvalidInputError(
            f"pipeline {pipeline.name!r} has no model to run: its owner's program does, and calls driftline.observe"
        )
    version = deployed_version(call.hub, pipeline)
    definition = next(one.definition for one in pipeline.versions if one.id == version)
    inputs, outputs = parse_schema(definition["inputs"]), parse_schema(definition["outputs"])
    table = read_table(call.raw)
    columns = input_columns(table, inputs)
    answers = [
        _answered(
            call.hub, pipeline, {name: column.slice(at, rows) for name, column in columns.items()}, inputs, outputs
        )
        for at, rows in pieces(table)
    ]
    return Response(write_table(pa.concat_tables(answers)), media_type=api.ARROW)


def pieces(table: Table) -> Iterator[tuple[int, int]]:
    """Cut a table into (first row, rows); an empty one is one empty piece."""
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    size = max(1, min(PIECE_ROWS, PIECE_BYTES // row_bytes))
    for at in range(0, max(1, table.num_rows), size):
        yield at, min(size, table.num_rows - at)


def deployed_version(hub: Hub, pipeline: api.Pipeline) -> str:
    """Return the version that the device `hub` is to run.

    Raises:
        InvalidInputError: none; the message says what to call.
    """
    query = (
        select(assignments.c.version)
        .join(devices, devices.c.id == assignments.c.device)
        .where(devices.c.name == fleet.LOCAL, assignments.c.pipeline == pipeline.id)
    )
    with hub.database.reading() as connection:
        version = connection.execute(query).scalar()
    if version is None:
        raise InvalidInputError(
            f"pipeline {pipeline.name!r} is {pipeline.status}, and the hub's own machine does not run it; "
            "call deploy() first, or ask a device at its own address"
        )
    return version


def running_worker(hub: Hub, pipeline: api.Pipeline, deadline: float) -> Worker:
    """Wait until the worker runs the pipeline and return where it answers; `deadline` as `time.monotonic` counts.

    Raises:
        PermanentError: it cannot run it.
        TemporaryError: it did not start in time.
    """
    while True:
        version = deployed_version(hub, pipeline)
        with hub.database.reading() as connection:
            row = fleet.need_device(connection, fleet.LOCAL)
        state = fleet.pipeline_state(row, version)
        if state == "running" and row.serving:
            parts = urlsplit(row.serving)
            return Worker(parts.hostname or "127.0.0.1", parts.port or 80, f"/pipelines/{quote(pipeline.name)}/infer")
        if state.startswith("error"):
            raise PermanentError(f"pipeline {pipeline.name!r} does not run: {state}")
        if time.monotonic() > deadline:
            raise TemporaryError(
                f"pipeline {pipeline.name!r} is not running yet ({state}); try again, "
                "pipeline.status() says how it fares"
            )
        time.sleep(POLL_S)


def _answered(
    hub: Hub,
    pipeline: api.Pipeline,
    columns: Mapping[str, Column],
    inputs: Sequence[Field],
    outputs: Sequence[Field],
) -> Table:
    rows = len(next(iter(columns.values())))
    arrays = arrays_of(columns, inputs)
    now_ns = hub.now_ns()
    found = _ask(hub, pipeline, arrays, now_ns) if rows else {}
    answer: dict[str, object] = {"time": pa.array(np.full(rows, now_ns, np.int64)).cast(TIME)}
    answer |= {f"in.{name}": column for name, column in columns.items()}
    by_name = {field.name: field for field in outputs}
    for name, values in found.items():
        if len(values) != rows:
            raise PermanentError(f"the worker answered {len(values)} values of {name!r} for {rows} inferences")
    for name in [*by_name, *(name for name in found if name not in by_name)]:
        if name in found or not rows:
            values = found.get(name, np.empty(0, dtype=object))
            answer[f"out.{name}"] = column_of_array(values, by_name.get(name))
    answer[ANOMALIES] = pa.array(np.zeros(rows, np.int64))
    return pa.table(answer)


def _ask(hub: Hub, pipeline: api.Pipeline, arrays: Mapping[str, Array], now_ns: int) -> dict[str, Array]:
    body = pack_arrays(arrays)
    headers = {"Content-Type": ARRAYS, "Accept": ARRAYS, "Driftline-Time": str(now_ns)}
    deadline = time.monotonic() + RUNNING_TIMEOUT_S
    while True:
        worker = running_worker(hub, pipeline, deadline)
        connection = http.client.HTTPConnection(worker.host, worker.port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            # A worker that was restarted answers elsewhere; its device says so with its next sync.
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"the worker of {pipeline.name!r} does not answer at {worker.host}:{worker.port} ({error}); "
                    "it may be restarting, try again"
                ) from error
            time.sleep(POLL_S)
            continue
        return _exchange(connection, worker, pipeline, body, headers)


def _exchange(
    connection: http.client.HTTPConnection,
    worker: Worker,
    pipeline: api.Pipeline,
    body: bytes,
    headers: Mapping[str, str],
) -> dict[str, Array]:
    try:
        connection.request("POST", worker.path, body, dict(headers))
        reply = connection.getresponse()
        answer = reply.read()
    except (OSError, http.client.HTTPException) as error:
        # Not sent again: it may have been recorded.
        raise TemporaryError(
            f"the worker of {pipeline.name!r} went away in the middle of an inference "
            f"({error or type(error).__name__}); pipeline.status() says how it fares"
        ) from error
    finally:
        connection.close()
    if reply.status >= 400:
        api.raise_failure(reply.status, answer)
    return {name.removeprefix("out."): values for name, values in unpack_arrays(answer).items()}
