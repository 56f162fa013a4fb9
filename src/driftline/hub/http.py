"""A thin typed layer over Starlette: plain functions in, messages of `driftline.wire.api` out.

    routes = Routes()

    @routes.post("/workspaces", body=api.NewWorkspace)
    def make(call: Call[api.NewWorkspace]) -> api.Workspace: ...

Handlers run in threads, because SQLite and scoring block. Whatever `driftline.errors` knows becomes the one error
envelope with its status; anything else is our own bug: 500, with the traceback on the hub's standard error.
"""

import errno
import hashlib
import os
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from driftline.errors import DriftlineError, InvalidInputError, StaleRequestError, TemporaryError
from driftline.hub.core import Hub
from driftline.wire import api

B = TypeVar("B")
Method = Literal["GET", "POST", "PUT", "DELETE"]
Handler = Callable[["Call[Any]"], Any]
Decorated = TypeVar("Decorated", bound=Handler)

# Baselines travel as JSON numbers: a million of them are about 20 MB.
BODY_BYTES_MAX = 64 * 1024 * 1024
JSON = "application/json"

STATUS = {
    "invalid": 400,
    "permanent": 400,
    "empty_window": 400,
    "not_found": 404,
    "conflict": 409,
    "not_allowed": 403,
    "stale_request": 403,
    "not_yet": 501,
    "missing_extra": 501,
    "temporary": 503,
    "unreachable": 503,
}


@dataclass(frozen=True)
class Upload:
    """A body that was streamed to a file: its SHA-256 (hex) and size in bytes. The file is removed after the call."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Call(Generic[B]):
    """One request: path parameters, query, the decoded body (None where the route has none) and the raw bytes."""

    hub: Hub
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: B
    raw: bytes
    request: Request
    upload: Upload | None = None

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Read a whole number from the query.

        Raises:
            InvalidInputError: it is there and not a whole number.
        """
        text = self.query.get(name)
        if text is None or not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise InvalidInputError(f"{name}={text!r} is not a whole number") from None


@dataclass(frozen=True)
class _Rule:
    method: Method
    path: str
    handler: Handler
    body: type | None
    bytes_max: int
    upload: bool


class Routes:
    """Collects handlers; `starlette(prefix)` makes the routes of them."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def get(self, path: str) -> Callable[[Decorated], Decorated]:
        """Answer GET."""
        return self._add("GET", path, None, BODY_BYTES_MAX)

    def post(
        self, path: str, *, body: type | None = None, bytes_max: int = BODY_BYTES_MAX
    ) -> Callable[[Decorated], Decorated]:
        """Answer POST; `body` is the message the body is decoded to."""
        return self._add("POST", path, body, bytes_max)

    def put(
        self, path: str, *, body: type | None = None, bytes_max: int = BODY_BYTES_MAX, upload: bool = False
    ) -> Callable[[Decorated], Decorated]:
        """Answer PUT; with `upload` the body is streamed to a file, `call.upload`."""
        return self._add("PUT", path, body, bytes_max, upload=upload)

    def delete(self, path: str) -> Callable[[Decorated], Decorated]:
        """Answer DELETE."""
        return self._add("DELETE", path, None, BODY_BYTES_MAX)

    def starlette(self, prefix: str = "") -> list[Route]:
        """Return the routes under a prefix, one a path (Starlette answers 405 by path)."""
        by_path: dict[str, dict[str, _Rule]] = {}
        for rule in self._rules:
            by_path.setdefault(rule.path, {})[rule.method] = rule
        return [
            Route(prefix + path, _endpoint(rules), methods=sorted(rules), name=path) for path, rules in by_path.items()
        ]

    def _add(
        self, method: Method, path: str, body: type | None, bytes_max: int, *, upload: bool = False
    ) -> Callable[[Decorated], Decorated]:
        def keep(handler: Decorated) -> Decorated:
            self._rules.append(_Rule(method, path, handler, body, bytes_max, upload))
            return handler

        return keep


def failure(error: DriftlineError) -> Response:
    """Return the error envelope with the status of the error's family."""
    last = error.last if isinstance(error, StaleRequestError) else None
    return _failure(STATUS.get(error.code, 500), error.code, str(error), last)


def reply(answer: Any) -> Response:
    """Turn what a handler returned into a response; a list is wrapped as items, None is an empty object."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, list):
        return Response(msgspec.json.encode({"items": cast("list[Any]", answer)}), media_type=JSON)
    return Response(msgspec.json.encode({} if answer is None else answer), media_type=JSON)


async def not_here(request: Request, error: Exception) -> Response:
    """Answer Starlette's own 404 and 405 in the envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    where = f"{request.method} {request.url.path}"
    words = {404: f"nothing answers {where} here", 405: f"{where} is not among the methods of this address"}
    code = "not_found" if status == 404 else "invalid"
    return _failure(status, code, words.get(status, f"HTTP {status}"))


def _failure(status: int, code: str, message: str, last_request: int | None = None) -> Response:
    envelope = api.ErrorReply(error=api.Failure(code=code, message=message, last_request=last_request))
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(api.encode(envelope), status, headers, JSON)


def _endpoint(rules: Mapping[str, _Rule]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Starlette adds HEAD to GET.
        rule = rules["GET" if request.method == "HEAD" else request.method]
        try:
            return await _answer(rule, request)
        except DriftlineError as error:
            return failure(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001  our own bug: one request fails, the hub goes on
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return failure(TemporaryError("the hub's disk is full; make room there, then ask again"))
            traceback.print_exc()
            return _failure(500, "error", f"the hub failed ({type(error).__name__}); its log has the details")

    return endpoint


async def _answer(rule: _Rule, request: Request) -> Response:
    hub = cast("Hub", request.app.state.hub)
    if rule.upload:
        upload = await _stream(request, hub.temporary, rule.bytes_max)
        try:
            return await run_in_threadpool(_run, rule, hub, request, b"", upload)
        finally:
            upload.path.unlink(missing_ok=True)
    raw = b"" if request.method in {"GET", "HEAD", "DELETE"} else await read_body(request, rule.bytes_max)
    return await run_in_threadpool(_run, rule, hub, request, raw, None)


def _run(rule: _Rule, hub: Hub, request: Request, raw: bytes, upload: Upload | None) -> Response:
    body = None if rule.body is None else api.decode(raw, rule.body)
    call: Call[Any] = Call(hub, request.path_params, request.query_params, body, raw, request, upload)
    return reply(rule.handler(call))


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Read a whole body, refusing to hold more than `bytes_max` bytes of it.

    Raises:
        InvalidInputError: it is larger.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        _check_size(size, bytes_max)
        parts.append(part)
    return b"".join(parts)


async def _stream(request: Request, folder: Path, bytes_max: int) -> Upload:
    handle, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as file:
            async for part in request.stream():
                size += len(part)
                _check_size(size, bytes_max)
                digest.update(part)
                await run_in_threadpool(file.write, part)
            file.flush()
            await run_in_threadpool(os.fsync, file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)  # noqa: ASYNC240  one unlink blocks for less than a thread costs
        raise
    return Upload(Path(name), digest.hexdigest(), size)


def _check_size(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise InvalidInputError(f"the body is larger than the {bytes_max // 1024**2} MB this call takes")
