"""How a page gets an address: a page and its `.json` twin, and forms that act and lead back to a page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from driftline.errors import DriftlineError, InvalidInputError
from driftline.hub.core import Hub
from driftline.hub.http import JSON, STATUS, failure, read_body
from driftline.hub.web.html import el
from driftline.hub.web.parts import page
from driftline.hub.web.views import View
from driftline.wire import api

V = TypeVar("V", bound=View)

# A form is a few words.
FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 20


def pair(
    address: str, twin: str, read: Callable[..., V], render: Callable[[V], str], *, named: str | None = None
) -> list[Route]:
    """Return the routes of a page and of its twin; `named` is the part of the address that says which one."""

    def view_of(request: Request) -> V:
        return read(hub_of(request), *([request.path_params[named]] if named else []))

    def html(request: Request) -> Response:
        try:
            return _html(render(view_of(request)))
        except DriftlineError as error:
            return apology(hub_of(request), STATUS.get(error.code, 500), "Not here", str(error))

    def json(request: Request) -> Response:
        try:
            return Response(api.encode(view_of(request)), media_type=JSON)
        except DriftlineError as error:
            return failure(error)

    # The twin first: to the page's route `.json` would be the end of a name.
    return [Route(twin, json), Route(address, html)]


@dataclass(frozen=True)
class Said:
    """What came of an act, where that is something to read and not to look at: shown with a way back."""

    title: str
    text: str
    back: str


def acts(address: str, act: Callable[[Hub, str, Mapping[str, str]], str | Said]) -> Route:
    """Return the route of a form, which leads to the page whose address `act` returns when it has acted."""

    async def post(request: Request) -> Response:
        hub = hub_of(request)
        try:
            fields = _fields(await read_body(request, FORM_BYTES_MAX))
            there = await run_in_threadpool(act, hub, str(request.path_params["id"]), fields)
            if isinstance(there, str):
                return RedirectResponse(there, 303)
            return await run_in_threadpool(_said, hub, there)
        except DriftlineError as error:
            status, reason = STATUS.get(error.code, 500), str(error)
            return await run_in_threadpool(apology, hub, status, "Not done", reason)

    return Route(address, post, methods=["POST"])


def not_found(request: Request, reason: str) -> Response:
    """Answer with a page that says what is not there."""
    return apology(hub_of(request), 404, "Not here", reason)


def apology(hub: Hub, status: int, title: str, reason: str) -> Response:
    """Answer with a page that says what could not be done, and why."""
    view = View(now_ns=hub.now_ns(), banner=hub.clock.banner)
    content = [el("h1", title), el("p", reason, class_="lead"), el("p", el("a", "Back to the overview", href="/"))]
    return _html(page(view, title, "", "/index.json", *content), status)


def _said(hub: Hub, said: Said) -> Response:
    view = View(now_ns=hub.now_ns(), banner=hub.clock.banner)
    content = [el("h1", said.title), el("p", said.text, class_="lead"), el("p", el("a", "Back", href=said.back))]
    return _html(page(view, said.title, said.back, f"{said.back}.json", *content, live=False))


def hub_of(request: Request) -> Hub:
    """Return the hub that is asked."""
    return cast("Hub", request.app.state.hub)


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="text/html")


def _fields(body: bytes) -> dict[str, str]:
    """Read what a form sent.

    >>> _fields(b"by=Ada&note=on+my+way")
    {'by': 'Ada', 'note': 'on my way'}
    """
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise InvalidInputError(f"the form cannot be read ({error}); go back, and send it again") from error
