"""How a page gets an address: a page and its `.json` twin, and forms that act and lead back to a page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, get_type_hints
from urllib.parse import parse_qsl

from starlette.responses import RedirectResponse, Response

from driftline.errors import InvalidInputError
from driftline.hub.http import FORM, HTML, Call, Routes
from driftline.hub.policy import Policy
from driftline.hub.web.html import el
from driftline.hub.web.parts import page
from driftline.hub.web.views import View

V = TypeVar("V", bound=View)
Fields = Mapping[str, str]

# A form is a few words.
FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 20


def pair(
    routes: Routes,
    address: str,
    twin: str,
    read: Callable[..., V],
    render: Callable[[V], str],
    *,
    policy: Policy,
    named: str | None = None,
) -> None:
    """Register a page and its twin; `named` is the part of the address that says which one."""

    def view_of(call: Call[None]) -> V:
        return read(call.hub, *([call.path[named]] if named else []), call.who.visible)

    def html(call: Call[None]) -> Response:
        return answered(render(view_of(call)))

    def json(call: Call[None]) -> View:
        return view_of(call)

    json.__name__ = html.__name__ = f"{render.__name__}_page"
    json.__doc__ = (render.__doc__ or "").replace("Render", "Return what the page shows:", 1)
    # The twin first: to the page's route `.json` would be the end of a name.
    routes.get(twin, policy=policy, answer=get_type_hints(read)["return"])(json)
    routes.get(address, policy=policy, media=HTML)(html)


@dataclass(frozen=True)
class Said:
    """What came of an act, where that is something to read and not to look at: shown with a way back."""

    title: str
    text: str
    back: str


def acts(routes: Routes, address: str, act: Callable[[Call[None], str, Fields], str | Said], *, policy: Policy) -> None:
    """Register a form, which leads to the page whose address `act` returns when it has acted."""

    def post(call: Call[None]) -> Response:
        (identity,) = call.path.values()
        there = act(call, identity, _fields(call.raw))
        return RedirectResponse(there, 303) if isinstance(there, str) else _said(call, there)

    # As the trail tells of it: `/assays/{assay}/edit` is "edit assay".
    *_, things, _, verb = address.split("/")
    post.__name__ = f"{verb}_{things.removesuffix('ies').removesuffix('s') + 'y' * things.endswith('ies')}"
    routes.post(address, policy=policy, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)(post)


def answered(text: str, status: int = 200) -> Response:
    """Return a page as an answer."""
    return Response(text, status, media_type=HTML)


def _said(call: Call[None], said: Said) -> Response:
    view = View(now_ns=call.hub.now_ns(), banner=call.hub.clock.banner)
    content = [el("h1", said.title), el("p", said.text, class_="lead"), el("p", el("a", "Back", href=said.back))]
    return answered(page(view, said.title, said.back, f"{said.back}.json", *content, live=False))


def _fields(body: bytes) -> dict[str, str]:
    """Read what a form sent.

    >>> _fields(b"by=Ada&note=on+my+way")
    {'by': 'Ada', 'note': 'on my way'}
    """
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise InvalidInputError(f"the form cannot be read ({error}); go back, and send it again") from error
