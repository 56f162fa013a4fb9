"""Inferences over HTTP, on the device itself.

    GET  /pipelines                    what runs here
    GET  /pipelines/<name>             one pipeline: state, version, schemas
    POST /infer[?pipeline=<name>]      the only pipeline, or the named one
    POST /pipelines/<name>/infer

A body is named arrays (`driftline.wire.arrays`; the first axis is the inference) or JSON: a list of records
`[{"price": 3.5}, …]`, `{"inputs": [record, …]}` or `{"inputs": record}`. The reply is of the same kind and form. Every
inference is counted at the time the request came, or at the times that `Driftline-Time` (ns since 1970 UTC, one for
all) or `Driftline-Times` (one for each, with commas) give. An error is `{"error": {"code", "message"}}`.

On a loopback address only requests whose Host is loopback are answered: a web page that a browser on this machine shows
cannot reach in by a name of its own.
"""

import ipaddress
import json
import logging
import math
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from driftline.edge import slim
from driftline.edge.lineup import ReplacedError
from driftline.errors import (
    ConflictError,
    DriftlineError,
    EntityNotFoundError,
    InvalidInputError,
    NotAllowedError,
    TemporaryError,
)
from driftline.wire.arrays import ARRAYS, Array, pack_arrays, unpack_arrays
from driftline.wire.device import DesiredPipeline

log = logging.getLogger("driftline.edge")
# Two raw 4K frames in float32; a larger request is cut into several.
BODY_BYTES_MAX = 256 * 1024 * 1024
# One inference at a time makes the pipeline; more threads than this would only wait, each with its own stack.
THREADS = 8
# The times of a batch travel in a header: 20 digits each, so this many bytes hold some fifty thousand.
HEADER_BYTES_MAX = 1024 * 1024
# How long requests under way may take when the server closes.
STOP_S = 1
STATUSES: Mapping[str, int] = {
    InvalidInputError.code: 400,
    NotAllowedError.code: 403,
    EntityNotFoundError.code: 404,
    ConflictError.code: 409,
    TemporaryError.code: 503,
    "unreachable": 503,
}


class Member(Protocol):
    """A pipeline version that runs."""

    wanted: DesiredPipeline

    def infer(self, inputs: Mapping[str, Any], time_ns: int | None = None) -> tuple[int, dict[str, Any]]:
        """Make and count one inference."""
        ...


class Pipelines(Protocol):
    """What runs on this device."""

    @property
    def wanted(self) -> Sequence[DesiredPipeline]:
        """What should run."""
        ...

    def running(self, name: str | None = None) -> Member:
        """Return one that runs, the only one without a name."""
        ...

    def states(self) -> Mapping[str, str]:
        """Return the state of each version."""
        ...


class Server:
    """Serves from a thread of its own until closed.

    Raises:
        ConflictError: the port is in use.
        InvalidInputError: `address` is not HOST:PORT, or not an address of this machine.
    """

    def __init__(self, address: str, pipelines: Pipelines) -> None:
        host, port = parse_address(address)
        self._socket = listening(host, port, address)
        bound = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{bound}"
        config = slim.Config(
            application(pipelines, loopback_only=is_loopback(host)),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = slim.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="serving", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; requests under way get a moment to finish."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 0.5)
        self._socket.close()


def parse_address(address: str) -> tuple[str, int]:
    """Read HOST:PORT.

    >>> parse_address("127.0.0.1:8080"), parse_address("[::1]:0")
    (('127.0.0.1', 8080), ('::1', 0))

    Raises:
        InvalidInputError: it is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInputError(
            f"--serve {address!r} is not HOST:PORT, such as 127.0.0.1:8080 (port 0 takes a free one)"
        )
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Say whether a host's name or address means this machine and no other.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "shop.example")]
    [True, True, True, False, False]
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def application(pipelines: Pipelines, *, loopback_only: bool) -> ASGIApp:
    """Return the application; see the module's list of routes."""
    handlers = Handlers(pipelines)
    routes = [
        Route("/pipelines", _answering(handlers.index)),
        Route("/pipelines/{name}", _answering(handlers.one)),
        Route("/pipelines/{name}/infer", _answering(handlers.infer), methods=["POST"]),
        Route("/infer", _answering(handlers.infer), methods=["POST"]),
    ]
    inner = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    return HostGate(inner) if loopback_only else inner


class HostGate:
    """Turns away requests that were addressed to anything but this machine, or sent by a page of another."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with the reason."""
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
        if not _is_here(host):
            refused = f"was addressed to {host!r:.100}"
        elif origin and not _is_here(origin.partition("://")[2]):
            refused = f"comes from a page of {origin!r:.100}"
        else:
            await self._inner(scope, receive, send)
            return
        refusal = NotAllowedError(f"this device answers on loopback only; the request {refused}")
        await _failure(refusal)(scope, receive, send)


def _is_here(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return is_loopback(name.strip("[]"))


class Handlers:
    """What each route does."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._limiter: anyio.CapacityLimiter | None = None

    async def index(self, request: Request) -> Response:
        """List the pipelines."""
        del request
        states = self._pipelines.states()
        return JSONResponse({"pipelines": [_summary(one, states) for one in self._pipelines.wanted]})

    async def one(self, request: Request) -> Response:
        """Describe one pipeline."""
        name = request.path_params["name"]
        states = self._pipelines.states()
        for one in self._pipelines.wanted:
            if one.name == name:
                schemas = {key: one.definition[key] for key in ("inputs", "outputs", "fields", "notes")}
                return JSONResponse(_summary(one, states) | schemas)
        names = ", ".join(sorted(one.name for one in self._pipelines.wanted)) or "none"
        raise EntityNotFoundError(f"no pipeline {name!r} on this device; there is {names}")

    async def infer(self, request: Request) -> Response:
        """Make inferences."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        body = await _body(request)
        name = request.path_params.get("name") or request.query_params.get("pipeline")
        runner = Runner(self._pipelines, name)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        answer = _arrays_answer if kind == ARRAYS else _json_answer
        return await anyio.to_thread.run_sync(answer, runner, body, request.headers, limiter=self._limiter)


class Runner:
    """Makes the inferences of one request, also where a new version takes over in the middle of it."""

    def __init__(self, pipelines: Pipelines, name: str | None) -> None:
        self._pipelines = pipelines
        self._name = name
        self._member = pipelines.running(name)

    def infer(self, inputs: Mapping[str, Any], time_ns: int | None) -> tuple[int, dict[str, Any]]:
        """Make and count one inference; return its time and outputs."""
        try:
            return self._member.infer(inputs, time_ns)
        except ReplacedError:
            self._member = self._pipelines.running(self._name)
            return self._member.infer(inputs, time_ns)


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────


def _arrays_answer(runner: Runner, body: bytes, headers: Mapping[str, str]) -> Response:
    columns = unpack_arrays(body)
    lengths = {len(column) if column.ndim else -1 for column in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise InvalidInputError("every array has one row for each inference: first axes of the same length")
    count = lengths.pop()
    records = [{name: column[row] for name, column in columns.items()} for row in range(count)]
    times_ns, outputs = _inferred(runner, records, headers)
    return Response(pack_arrays(_columns(outputs)), media_type=ARRAYS, headers=_time_header(times_ns))


def _json_answer(runner: Runner, body: bytes, headers: Mapping[str, str]) -> Response:
    try:
        document: Any = json.loads(body)
    except ValueError as error:
        raise InvalidInputError(f"the body is neither {ARRAYS} nor JSON: {error}") from error
    wrapped = isinstance(document, dict) and "inputs" in document
    given: Any = cast("dict[str, Any]", document)["inputs"] if wrapped else document
    alone = wrapped and isinstance(given, dict)
    records: Any = [given] if alone else given
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in cast("list[Any]", records)):
        raise InvalidInputError(
            'JSON inputs are a list of records such as [{"price": 3.5}], or {"inputs": …} with one record or a list'
        )
    times_ns, outputs = _inferred(runner, cast("list[dict[str, Any]]", records), headers)
    plain = [{name: _plain(value) for name, value in one.items()} for one in outputs]
    return JSONResponse({"outputs": plain[0] if alone else plain} if wrapped else plain, headers=_time_header(times_ns))


def _inferred(
    runner: Runner, records: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
) -> tuple[list[int], list[dict[str, Any]]]:
    times_ns = _times(headers, len(records))
    stamped: list[int] = []
    outputs: list[dict[str, Any]] = []
    for record, time_ns in zip(records, times_ns, strict=True):
        at_ns, output = runner.infer(record, time_ns)
        stamped.append(at_ns)
        outputs.append(output)
    return stamped, outputs


def _times(headers: Mapping[str, str], count: int) -> Sequence[int | None]:
    """Return the time of each inference as the caller gave it."""
    try:
        if "driftline-times" in headers:
            times_ns = [int(word) for word in headers["driftline-times"].split(",") if word.strip()]
        elif "driftline-time" in headers:
            times_ns = [int(headers["driftline-time"])] * count
        else:
            return [None] * count
    except ValueError as error:
        raise InvalidInputError("times are whole nanoseconds since 1970 UTC") from error
    if len(times_ns) != count:
        raise InvalidInputError(f"Driftline-Times gives {len(times_ns)} times for {count} inferences")
    # Beyond 64 bits no record could carry it.
    if any(not 0 <= time_ns < 1 << 63 for time_ns in times_ns):
        raise InvalidInputError("times are nanoseconds since 1970 UTC, in 63 bits")
    return times_ns


def _time_header(times_ns: Sequence[int]) -> dict[str, str]:
    """Tell when the first inference was counted."""
    return {"Driftline-Time": str(times_ns[0])} if times_ns else {}


def _columns(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Put the outputs of many inferences side by side; rows of different shapes become an object column."""
    columns: dict[str, Array] = {}
    for name in dict.fromkeys(name for one in outputs for name in one):
        rows = [np.asarray(one[name]) for one in outputs]
        if len({row.shape for row in rows}) == 1:
            columns[name] = np.stack(rows)
            continue
        column = np.empty(len(rows), dtype=object)
        for place, row in enumerate(rows):
            column[place] = row
        columns[name] = column
    return columns


def _plain(value: Any) -> Any:
    """Return a value as JSON can say it: what is not finite is null."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(wanted: DesiredPipeline, states: Mapping[str, str]) -> dict[str, Any]:
    return {"name": wanted.name, "version": wanted.id, "state": states.get(wanted.id, "starting")}


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise InvalidInputError(f"a body of more than {BODY_BYTES_MAX} bytes; send fewer inferences at a time")
        chunks.append(chunk)
    return b"".join(chunks)


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:  # noqa: BLE001  # a model's own code may raise anything
            return _failure(error)

    return answer


def _failure(error: Exception) -> Response:
    if not isinstance(error, DriftlineError):
        log.error("an inference failed", exc_info=error)
    code = error.code if isinstance(error, DriftlineError) else "error"
    message = str(error) or repr(error)
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=STATUSES.get(code, 500))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        refusal: DriftlineError = InvalidInputError(f"{request.method} is not what {request.url.path} takes")
    else:
        refusal = EntityNotFoundError(
            f"there is no {request.url.path}; ask /pipelines, /pipelines/<name>, or POST to /infer"
        )
    return JSONResponse({"error": {"code": refusal.code, "message": str(refusal)}}, status_code=status)


def listening(host: str, port: int, address: str) -> socket.socket:
    """Return a socket that listens there; `address` is how somebody wrote it.

    Raises:
        InvalidInputError: it is no address.
        ConflictError: nobody can listen there.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidInputError(f"--serve {address}: {host} is no address ({error})") from error
    # Named by its protocol, or asyncio leaves Nagle's algorithm on: an answer's body then waits 40 ms until its head is
    # acknowledged.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        # Requests that come before the server's thread runs wait in line.
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise ConflictError(
            f"--serve {address}: cannot listen there ({error.strerror}); name another with --serve HOST:PORT "
            "(port 0 takes a free one)"
        ) from error
    return bound
