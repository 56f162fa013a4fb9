"""A thin typed layer over Starlette: plain functions in, messages of `driftline.wire.api` out.

    routes = Routes()

    @routes.post("/workspaces", policy=MAKER, body=api.NewWorkspace, raises=(ConflictError,))
    def make(call: Call[api.NewWorkspace]) -> api.Workspace: ...

Everything about a route stands in its decorator and its annotations: who may ask, what comes in, what goes out, how it
may fail. `driftline.hub.openapi` writes the document from there. Handlers run in threads, because SQLite and scoring
block; one that is a coroutine runs on the event loop. Whatever `driftline.errors` knows becomes the one error envelope
with its status; anything else is our own bug: 500, with the traceback on the hub's standard error.
"""

import asyncio
import errno
import hashlib
import math
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from driftline.errors import DriftlineError, NotAllowedError, NotLoggedInError, StaleRequestError, TemporaryError
from driftline.hub import journal
from driftline.hub.accounts import audit
from driftline.hub.accounts.admission import ANYBODY, admit, reader
from driftline.hub.accounts.who import LOCAL, READER, Principal
from driftline.hub.core import Hub
from driftline.hub.limits import BODY_IDLE_S, TooLargeError, TooOftenError, TooSlowError, WrongMediaError, too_slow
from driftline.hub.paging import Page
from driftline.hub.policy import DEVICE, PUBLIC, VIEWER, Policy
from driftline.wire import api

B = TypeVar("B")
Method = Literal["GET", "POST", "PUT", "DELETE"]
Handler = Callable[["Call[Any]"], Any]
Failed = Callable[[Request, DriftlineError], Response]
Decorated = TypeVar("Decorated", bound=Handler)

# Baselines travel as JSON numbers: a million of them are about 20 MB.
BODY_BYTES_MAX = 64 * 1024 * 1024
# A baseline of a million values is no line of a trail.
AUDITED_BYTES_MAX = 64 * 1024
JSON = "application/json"
BYTES = "application/octet-stream"
HTML = "text/html"
FORM = "application/x-www-form-urlencoded"

STATUS = {
    "invalid": 400,
    "permanent": 400,
    "empty_window": 400,
    "not_found": 404,
    "conflict": 409,
    "not_logged_in": 401,
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
    """One request: path parameters, the decoded message and the raw bytes of the body, and who asks.

    `body` is the message that the body, or of a GET the query, was decoded to; None where the route declares none.
    """

    hub: Hub
    path: Mapping[str, str]
    body: B
    raw: bytes
    request: Request
    upload: Upload | None = None
    who: Principal = LOCAL

    @property
    def address(self) -> str:
        """Where the request came from."""
        return self.request.client.host if self.request.client else ""


@dataclass(frozen=True)
class Rule:
    """A route as it was declared.

    `body` and `query` are the messages that come in, `takes` the media type where the body is other bytes; `media` is
    that of the answer where the handler returns a response of its own, `answer` the message where its annotation
    does not say it. `raises` are the errors it is known for, besides
    those that every route with such a policy, path or message may answer with. `reads` is true where a POST changes
    nothing of what people set up.
    """

    method: Method
    path: str
    handler: Handler
    policy: Policy
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    takes: str | None = None
    media: str | None = None
    answer: Any = None
    raises: Sequence[type[DriftlineError]] = ()
    bytes_max: int = BODY_BYTES_MAX
    upload: bool = False
    reads: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes something that the audit trail tells of."""
        by_people = self.policy.kind in {"member", "role", "admin"} and self.policy != VIEWER
        return self.method != "GET" and by_people and not self.reads


class Ruled(Route):
    """A Starlette route that knows its rules, and so each method's policy."""

    def __init__(self, path: str, rules: Mapping[str, Rule], failed: Failed) -> None:
        super().__init__(path, _endpoint(rules, failed), methods=sorted(rules))
        self.rules = dict(rules)


class Routes:
    """Collects handlers; `starlette()` makes the routes of them, under `prefix`.

    `failed` answers for what went wrong; without it the one error envelope does.
    """

    def __init__(self, prefix: str = api.PREFIX, failed: Failed | None = None) -> None:
        self.prefix = prefix
        self.failed: Failed = failed or (lambda _, error: failure(error))
        self._rules: list[Rule] = []

    def get(
        self,
        path: str,
        *,
        policy: Policy,
        query: type[msgspec.Struct] | None = None,
        media: str | None = None,
        answer: Any = None,
        raises: Sequence[type[DriftlineError]] = (),
    ) -> Callable[[Decorated], Decorated]:
        """Answer GET; `query` is the message the query is decoded to."""
        return self._add("GET", path, policy, query=query, media=media, answer=answer, raises=raises)

    def post(
        self,
        path: str,
        *,
        policy: Policy,
        body: type[msgspec.Struct] | None = None,
        takes: str | None = None,
        media: str | None = None,
        raises: Sequence[type[DriftlineError]] = (),
        bytes_max: int = BODY_BYTES_MAX,
        reads: bool = False,
    ) -> Callable[[Decorated], Decorated]:
        """Answer POST; `body` is the message the body is decoded to."""
        facts: dict[str, Any] = {"body": body, "takes": takes, "media": media, "raises": raises}
        return self._add("POST", path, policy, **facts, bytes_max=bytes_max, reads=reads)

    def put(
        self,
        path: str,
        *,
        policy: Policy,
        body: type[msgspec.Struct] | None = None,
        takes: str | None = None,
        raises: Sequence[type[DriftlineError]] = (),
        bytes_max: int = BODY_BYTES_MAX,
        upload: bool = False,
    ) -> Callable[[Decorated], Decorated]:
        """Answer PUT; with `upload` the body is streamed to a file, `call.upload`."""
        return self._add("PUT", path, policy, body=body, takes=takes, raises=raises, bytes_max=bytes_max, upload=upload)

    def delete(
        self, path: str, *, policy: Policy, raises: Sequence[type[DriftlineError]] = ()
    ) -> Callable[[Decorated], Decorated]:
        """Answer DELETE."""
        return self._add("DELETE", path, policy, raises=raises)

    def starlette(self) -> list[Ruled]:
        """Return the routes, one a path (Starlette answers 405 by path)."""
        by_path: dict[str, dict[str, Rule]] = {}
        for rule in self._rules:
            by_path.setdefault(rule.path, {})[rule.method] = rule
        return [Ruled(path, rules, self.failed) for path, rules in by_path.items()]

    def _add(self, method: Method, path: str, policy: Policy, **facts: Any) -> Callable[[Decorated], Decorated]:
        def keep(handler: Decorated) -> Decorated:
            self._rules.append(Rule(method, self.prefix + path, handler, policy, **facts))
            return handler

        return keep


def failure(error: DriftlineError) -> Response:
    """Return the error envelope with the status of the error, else of its family."""
    last = error.last if isinstance(error, StaleRequestError) else None
    status = status_of(type(error))
    made = envelope(status, error.code, str(error), last)
    if isinstance(error, TooOftenError):
        made.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, NotLoggedInError):
        made.headers["WWW-Authenticate"] = 'Bearer realm="driftline"'
    if isinstance(error, TooLargeError | TooSlowError | WrongMediaError):
        # What is left of the body would have to be read to find the next request behind it.
        made.headers["Connection"] = "close"
    return made


def status_of(error: type[DriftlineError]) -> int:
    """Return the HTTP status of an error: its own, or that of its code."""
    return int(getattr(error, "status", STATUS.get(error.code, 500)))


def reply(answer: Any) -> Response:
    """Turn what a handler returned into a response; a list is wrapped as items, None is an empty object."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, list):
        items: dict[str, Any] = {"items": cast("list[Any]", answer)}
        if isinstance(answer, Page) and answer.next is not None:
            items["next"] = answer.next
        return Response(msgspec.json.encode(items), media_type=JSON)
    return Response(msgspec.json.encode({} if answer is None else answer), media_type=JSON)


async def not_here(request: Request, error: Exception) -> Response:
    """Answer Starlette's own 404 and 405 in the envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    where = f"{request.method} {request.url.path}"
    words = {404: f"nothing answers {where} here", 405: f"{where} is not among the methods of this address"}
    code = "not_found" if status == 404 else "invalid"
    answer = envelope(status, code, words.get(status, f"HTTP {status}"))
    # With 405 comes Allow.
    answer.headers.update((error.headers or {}) if isinstance(error, HTTPException) else {})
    return answer


def envelope(status: int, code: str, message: str, last_request: int | None = None) -> Response:
    """Return the one error envelope."""
    told = api.Failure(code=code, message=message, last_request=last_request, request=journal.REQUEST.get())
    document = api.ErrorReply(error=told)
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(api.encode(document), status, headers, JSON)


def _endpoint(rules: Mapping[str, Rule], failed: Failed) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Starlette adds HEAD to GET.
        rule = rules["GET" if request.method == "HEAD" else request.method]
        request.scope["driftline.route"] = rule.path
        try:
            return await _answer(rule, request)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001  our own bug: one request fails, the hub goes on
            return failed(request, explained(error))

    return endpoint


class InternalError(DriftlineError):
    """Our own bug; the hub's log has the traceback."""

    status = 500


def explained(error: Exception) -> DriftlineError:
    """Return an error that can be shown; of one that is our own bug the traceback goes to the log."""
    if isinstance(error, DriftlineError):
        return error
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TemporaryError("the hub's disk is full; make room there, then ask again")
    journal.tell("a request failed by a bug of driftline's own", error)
    return InternalError(f"the hub failed ({type(error).__name__}); its log has the details")


async def _answer(rule: Rule, request: Request) -> Response:
    hub = cast("Hub", request.app.state.hub)
    who = LOCAL
    if hub.accounts is not None:
        # Before the body is read: strangers send none.
        who = await _admitted(hub, rule, request)
    elif rule.policy != DEVICE:  # a device is known by its signature, over the body
        hub.limits.people.check(request.client.host if request.client else "", "this program")
    request.scope["driftline.who"] = who.name
    is_open_page = hub.accounts is not None and rule.policy == PUBLIC and rule.media == HTML
    READER.set(await run_in_threadpool(reader, hub, request) if is_open_page else who)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise WrongMediaError(f"a body with Content-Encoding {encoding[:100]!r} is not read; send it as it is")
    if rule.upload:
        upload = await _stream(request, hub.temporary, rule.bytes_max)
        try:
            return await _served(hub, rule, _run, rule, hub, request, who, b"", upload)
        finally:
            upload.path.unlink(missing_ok=True)
    raw = b"" if request.method in {"GET", "HEAD", "DELETE"} else await read_body(request, rule.bytes_max)
    if iscoroutinefunction(rule.handler):
        return reply(await rule.handler(Call(hub, request.path_params, None, raw, request, who=who)))
    return await _served(hub, rule, _run, rule, hub, request, who, raw, None)


async def _served(hub: Hub, rule: Rule, act: Callable[..., B], *facts: object) -> B:
    """Do something in a thread while background work gives way; whom a device waits for has time."""
    if rule.policy == DEVICE:
        return await run_in_threadpool(act, *facts)
    with hub.courtesy.serving():
        return await run_in_threadpool(act, *facts)


async def _admitted(hub: Hub, rule: Rule, request: Request) -> Principal:
    if rule.policy == DEVICE:
        return ANYBODY  # known by its signature, over the body
    try:
        return await _served(hub, rule, admit, hub, rule.policy, request)
    except NotAllowedError:
        if rule.media == HTML:  # the page that says so is theirs, too
            READER.set(await run_in_threadpool(reader, hub, request))
        raise


def _run(rule: Rule, hub: Hub, request: Request, who: Principal, raw: bytes, upload: Upload | None) -> Response:
    message: Any = None
    if rule.body is not None:
        message = api.decode(raw, rule.body)
    elif rule.query is not None:
        message = api.decode_query(request.query_params.multi_items(), rule.query)
    call: Call[Any] = Call(hub, request.path_params, message, raw, request, upload, who)
    if not rule.changes:
        return reply(rule.handler(call))
    told = msgspec.to_builtins(message) if message is not None and len(raw) <= AUDITED_BYTES_MAX else None
    if rule.takes == FORM:
        told = dict(parse_qsl(raw.decode(errors="replace")))
    with audit.recorded(hub, audit.Asked(who, call.address, rule.handler.__name__, call.path, told)):
        return reply(rule.handler(call))


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Read a whole body, refusing to hold more than `bytes_max` bytes of it.

    Raises:
        TooLargeError: it is larger.
        TooSlowError: it stopped coming, or comes drop by drop.
    """
    return b"".join([part async for part in _parts(request, bytes_max)])


async def _parts(request: Request, bytes_max: int) -> AsyncIterator[bytes]:
    """Give a body as it comes, and no more than it may be."""
    announced = request.headers.get("content-length", "0")
    _check_size(int(announced) if announced.isdecimal() else 0, bytes_max)
    stream, size, began_s = request.stream(), 0, time.monotonic()
    while True:
        try:
            async with asyncio.timeout(BODY_IDLE_S):
                part = await anext(stream, None)
        except TimeoutError:
            raise TooSlowError(f"nothing of the body came for {BODY_IDLE_S:g} s; send it again") from None
        if part is None:
            return
        size += len(part)
        _check_size(size, bytes_max)
        if too_slow(size, time.monotonic() - began_s):
            raise TooSlowError("the body comes too slowly to wait for; send less at once")
        yield part


async def _stream(request: Request, folder: Path, bytes_max: int) -> Upload:
    handle, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as file:
            async for part in _parts(request, bytes_max):
                size += len(part)
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
        large = f"{bytes_max // 1024**2} MB" if bytes_max >= 1024**2 else f"{bytes_max // 1024} KB"
        raise TooLargeError(f"the body is larger than the {large} this call takes")
