"""Pages to log in, to make the first admin, to let a program in, to give roles and tokens, and to see who changed what.

They are forms that work without scripts. A cookie comes along whoever made the browser send it, so that what changes
something is taken from this hub's own pages alone (`admission.check_origin`), and the cookie is for this host alone:
HttpOnly, SameSite=Lax, and Secure where the hub speaks TLS.
"""

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote, urlsplit

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from driftline.errors import ConflictError, DriftlineError, InvalidInputError, NotAllowedError, NotLoggedInError
from driftline.hub.accounts import audit, flow
from driftline.hub.accounts.admission import check_origin, cookie_name
from driftline.hub.accounts.people import (
    LIFE_S,
    add,
    check_setup,
    end,
    fits,
    give,
    hash_password,
    is_empty,
    need,
    remove,
)
from driftline.hub.accounts.routes import (
    NewPassword,
    change_password_of,
    give_password_to,
    give_role,
    make_token_of,
)
from driftline.hub.accounts.tables import credentials, people, roles
from driftline.hub.accounts.who import RANK, Principal
from driftline.hub.core import Hub
from driftline.hub.http import FORM, HTML, Call, Routes, failure, status_of
from driftline.hub.policy import ADMIN, MEMBER, OWNER, PUBLIC
from driftline.hub.store.registry import workspaces
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import confirmed, empty, moment, page, section, table
from driftline.hub.web.views import View
from driftline.wire import api

FORM_BYTES_MAX = 16 * 1024


def failed(request: Request, error: DriftlineError) -> Response:
    """Answer what a page cannot show; who is not logged in is led to where they can."""
    if request.url.path.endswith(".json"):
        return failure(error)
    if isinstance(error, NotLoggedInError) and request.method in {"GET", "HEAD"}:
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(where, safe='')}", 303)
    hub: Hub = request.app.state.hub
    title = "Not here" if request.method in {"GET", "HEAD"} else "Not done"
    came_from = _came_from(request) if title == "Not done" else None
    words, where = ("Back", came_from) if came_from else ("Back to the overview", "/")
    back = el("p", el("a", words, href=where))
    return _html(hub, title, el("p", str(error), class_="lead"), back, status=status_of(type(error)))


def _came_from(request: Request) -> str | None:
    """Return the page that a form stands on, as the browser says it; None where it is none of this hub's."""
    told = urlsplit(request.headers.get("referer", ""))
    if not told.path.startswith("/") or told.path.startswith("//") or told.netloc != request.url.netloc:
        return None
    return told.path + (f"?{told.query}" if told.query else "")


routes = Routes(prefix="", failed=failed)


# ── logging in ───────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/login", policy=PUBLIC, media=HTML)
def login_page(call: Call[None]) -> Response:
    """Show the form to log in with."""
    return _login(call, call.request.query_params.get("next", "/"))


@routes.post("/login", policy=PUBLIC, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def log_in(call: Call[None]) -> Response:
    """Begin a session.

    Raises:
        NotAllowedError: another site's page asks.
        TooOftenError: somebody guesses.
    """
    check_origin(call.request)
    given, hub = flow.form(call), call.hub
    name, onward = given.get("name", "").strip().lower()[:100], given.get("next", "/")
    if hub.accounts is None:
        return RedirectResponse("/", 303)
    hub.accounts.check_guesses(name, call.address)
    with hub.database.reading() as connection:
        row = connection.execute(select(people).where(people.c.name == name)).first()
    # One answer for a wrong name and a wrong password, and after the same time.
    if not fits(given.get("password", ""), row.password if row else None) or row is None:
        return _login(call, onward, "Name or password is not right.", status=403)
    return _begun(call, row.id, onward)


@routes.post("/logout", policy=MEMBER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def log_out(call: Call[None]) -> Response:
    """End the session."""
    who = call.who
    if who.person and who.credential:
        with call.hub.database.writing() as connection:
            end(connection, who.person, who.credential, ("session",))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(call.request), path="/", secure=_is_tls(call), httponly=True, samesite="lax")
    return answer


def _login(call: Call[Any], onward: str, problem: str | None = None, status: int = 200) -> Response:
    fields = (_field("Name", "name", autocomplete="username"), _password("current-password"))
    hidden = el("input", type="hidden", name="next", value=onward)
    form = _form("/login", *fields, hidden, button="Log in")
    return _html(call.hub, "Log in", _problem(problem), form, status=status)


def _begun(call: Call[Any], person: str, onward: str) -> Response:
    with call.hub.database.writing() as connection:
        secret, _ = give(connection, "session", person, label=call.request.headers.get("user-agent", "a browser"))
    # Only a place on this hub: not //elsewhere, nor /\elsewhere, which browsers take for the same.
    safe = onward if onward.startswith("/") and not onward.startswith(("//", "/\\")) and onward.isprintable() else "/"
    answer = RedirectResponse(safe, 303)
    answer.set_cookie(
        cookie_name(call.request),
        secret,
        max_age=LIFE_S["session"],
        path="/",
        secure=_is_tls(call),
        httponly=True,
        samesite="lax",
    )
    return answer


def _is_tls(call: Call[Any]) -> bool:
    return call.request.url.scheme == "https"


# ── the first admin ──────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/setup", policy=PUBLIC, media=HTML)
def setup_page(call: Call[None]) -> Response:
    """Show the form that makes the first admin, to who has the one-time link."""
    secret = call.request.query_params.get("token", "")
    _check_setup(call, secret)
    return _setup(call, secret)


@routes.post("/setup", policy=PUBLIC, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def set_up(call: Call[None]) -> Response:
    """Make the first admin, once, and log them in.

    Raises:
        NotAllowedError: the link is none, or was used.
    """
    check_origin(call.request)
    given, hub = flow.form(call), call.hub
    _check_setup(call, given.get("token", ""))
    try:
        made = hash_password(given.get("password", ""))
        with hub.database.writing() as connection:
            # Whoever is second finds somebody there.
            if not is_empty(connection):
                raise NotAllowedError("this hub has its first admin already; log in, or ask them for an account")
            row = add(connection, given.get("name", ""), made, hub.now_ns(), is_admin=True)
            audit.set_up(connection, hub, row, call.address)
    except ValueError as error:
        return _setup(call, given.get("token", ""), str(error), status=400)
    if hub.accounts is not None:
        hub.accounts.setup = None
    return _begun(call, row.id, "/")


def _check_setup(call: Call[Any], secret: str) -> None:
    if call.hub.accounts is None:
        raise NotAllowedError("this hub has no accounts; start it with: driftline up --auth")
    call.hub.limits.strangers.check(call.address, "this address")
    check_setup(call.hub.accounts, secret)


def _setup(call: Call[Any], secret: str, problem: str | None = None, status: int = 200) -> Response:
    fields = (_field("Name", "name", autocomplete="username"), _password("new-password"))
    hidden = el("input", type="hidden", name="token", value=secret)
    words = el(
        "p", "Nobody can log in here yet. Choose a name and a password of at least 12 characters.", class_="lead"
    )
    return _html(
        call.hub,
        "The first admin",
        words,
        _problem(problem),
        _form("/setup", *fields, hidden, button="Begin"),
        status=status,
    )


# ── letting a program in ─────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/login/device", policy=MEMBER, media=HTML)
def device_page(call: Call[None]) -> Response:
    """Ask for the code that a program shows, then whether to let it in."""
    code = call.request.query_params.get("user_code", "")
    if not code:
        field = _field("Code", "user_code", autocomplete="off")
        return _html(call.hub, "Let a program in", _form("/login/device", field, button="Go on", method="get"))
    call.hub.limits.strangers.check(f"code {call.who.person}", "you")
    with call.hub.database.reading() as connection:
        row = flow.waiting(connection, code)
    told = [
        el("p", el("b", row.label), " shows the code ", el("code", f"{row.user_code[:4]}-{row.user_code[4:]}"), "."),
        el("p", f"It asks to do what you may, up to {row.scope}. Let it in only if you have just started it yourself."),
    ]
    hidden = el("input", type="hidden", name="user_code", value=row.user_code)
    choices = el("button", "Do not", type="submit", name="decision", value="deny")
    form = _form("/login/device", hidden, choices, button="Let it in", value="allow")
    return _html(call.hub, f"Let a program in as {call.who.name}?", *told, form)


@routes.post("/login/device", policy=MEMBER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def decide_device(call: Call[None]) -> Response:
    """Let a program in, or do not."""
    given = flow.form(call)
    call.hub.limits.strangers.check(f"code {call.who.person}", "you")
    allowed = given.get("decision") == "allow"
    with call.hub.database.writing() as connection:
        flow.decide(connection, call.who, given.get("user_code", ""), allowed=allowed)
    words = "It is in; you can close this page." if allowed else "It was not let in."
    return _html(call.hub, "Done", el("p", words, class_="lead"))


# ── the trail ────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/changes", policy=MEMBER, media=HTML)
def changes_page(call: Call[None]) -> Response:
    """Show who changed what, newest first."""
    after = call.request.query_params.get("after")
    with call.hub.database.reading() as connection:
        found = audit.list_changes(connection, audit.ChangesAsked(after=after), call.who.visible)
    listed = [_change(one) for one in found]
    shown = el("ul", *listed, class_="trail") if listed else empty("Nobody has changed anything yet.")
    more = el("p", el("a", "earlier", href=f"/changes?after={quote(found.next)}")) if found.next else None
    twin = f"{api.PREFIX}/changes" + (f"?after={quote(after)}" if after else "")
    return _html(call.hub, "Changes", shown, more, twin=twin)


def _change(one: audit.Change) -> Html:
    states = [
        el("p", el("span", f"{name} ", class_="soft"), _spelled(facts))
        for name, facts in (("was", one.before), ("is", one.after))
        if isinstance(facts, dict)
    ]
    who = el(
        "p", moment(one.at_ns), f" {one.name}, from {one.address}" if one.address else f" {one.name}", class_="soft"
    )
    return el("li", el("p", el("b", one.what.replace("_", " ")), " ", el("code", one.subject)), who, *states)


def _spelled(value: Any, *, inside: bool = False) -> str:
    """Say a value of JSON in words.

    >>> _spelled({"alarm": {"type": "promise", "n": 2}, "fields": ["a", "b"], "until": None, "on": True})
    'alarm (type promise, n 2), fields (a, b), until –, on yes'
    >>> _spelled({"windows": {"width_s": 60, "interval_s": None}})  # what is not said inside is nothing to tell of
    'windows (width_s 60)'
    """
    if isinstance(value, dict):
        facts = cast("dict[str, Any]", value)
        told = {name: one for name, one in facts.items() if one not in (None, []) or not inside}
        text = ", ".join(f"{name} {_spelled(one, inside=True)}" for name, one in told.items())
        return f"({text})" if inside else text
    if isinstance(value, list):
        return f"({', '.join(_spelled(one, inside=True) for one in cast('list[Any]', value))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


# ── people, roles, tokens ────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/people", policy=MEMBER, media=HTML)
def people_page(call: Call[None]) -> Response:
    """Show one's own tokens, the roles in the workspaces one owns, and to an admin everybody."""
    who = call.who
    if who.person is None:
        words = ["Nobody logs in at this hub. For accounts and roles start it with ", el("code", "driftline up --auth")]
        return _html(call.hub, "People", empty(*words))
    with call.hub.database.reading() as connection:
        tokens = connection.execute(
            select(credentials)
            .where(credentials.c.person == who.person, credentials.c.kind == "token")
            .order_by(credentials.c.created_real_ns)
        ).all()
        places = [
            one
            for one in connection.execute(select(workspaces).order_by(workspaces.c.name))
            if who.rank(one.id) >= RANK["owner"]
        ]
        given = connection.execute(
            select(roles.c.workspace, people.c.name, roles.c.role)
            .join(people, people.c.id == roles.c.person)
            .order_by(people.c.name)
        ).all()
        everybody = connection.execute(select(people).order_by(people.c.name)).all() if _is_admin(who) else None
    return _html(
        call.hub,
        "People",
        None if everybody is None else section("Everybody", _everybody(who, everybody)),
        *(
            section(f"Roles in {one.name}", _roles(one.id, [row for row in given if row.workspace == one.id]))
            for one in places
        ),
        section("Your API tokens", _tokens(who, tokens)),
        section("Your password", _password_form()),
        twin=f"{api.PREFIX}/people" if everybody is not None else f"{api.PREFIX}/me",
    )


@routes.post("/people", policy=ADMIN, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX, raises=(ConflictError,))
def add_person(call: Call[None]) -> Response:
    """Add somebody; they may do nothing yet, or everything where they are an admin."""
    given = flow.form(call)
    made = hash_password(given.get("password", ""))
    with call.hub.database.writing() as connection:
        add(connection, given.get("name", ""), made, call.hub.now_ns(), is_admin="is_admin" in given)
    return RedirectResponse("/people", 303)


@routes.post(
    "/people/{person}/remove",
    policy=ADMIN,
    takes=FORM,
    media=HTML,
    bytes_max=FORM_BYTES_MAX,
    raises=(InvalidInputError,),
)
def remove_person(call: Call[None]) -> Response:
    """Remove somebody, with every login and token of theirs; what they changed stays in the trail."""
    with call.hub.database.writing() as connection:
        remove(connection, need(connection, call.path["person"]))
    return RedirectResponse("/people", 303)


@routes.post(
    "/people/{person}/password",
    policy=ADMIN,
    takes=FORM,
    media=HTML,
    bytes_max=FORM_BYTES_MAX,
    raises=(InvalidInputError,),
)
def give_password(call: Call[None]) -> Response:
    """Give somebody who forgot theirs another password; they are logged out everywhere."""
    name = give_password_to(call.hub, call.who, call.path["person"], flow.form(call).get("password", ""))
    words = f"{name} is logged out everywhere, and logs in with the new one. Their API tokens go on."
    back = el("p", el("a", "Back", href="/people"))
    return _html(call.hub, "The password is changed", el("p", words, class_="lead"), back)


@routes.post("/people/password", policy=MEMBER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def new_password(call: Call[None]) -> Response:
    """Change one's own password; whatever else was logged in with the old one is logged out.

    Raises:
        NotAllowedError: the old one is not right.
    """
    given = flow.form(call)
    if given.get("new_password") != given.get("again"):
        raise InvalidInputError("the new password was not typed twice the same; go back, and type it again")
    asked = NewPassword(password=given.get("password", ""), new_password=given.get("new_password", ""))
    change_password_of(call.hub, call.who, call.address, asked)
    words = "Other browsers and programs that were logged in with the old one are logged out; API tokens go on."
    back = el("p", el("a", "Back", href="/people"))
    return _html(call.hub, "Your password is changed", el("p", words, class_="lead"), back)


@routes.post("/workspaces/{workspace}/roles", policy=OWNER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def set_role(call: Call[None]) -> Response:
    """Give somebody a role in a workspace, or take it away.

    Raises:
        InvalidInputError: there is no such role.
    """
    given = flow.form(call)
    asked = api.decode(api.encode({"role": given.get("role") or None}), api.NewRole)
    give_role(call.hub, call.path["workspace"], given.get("name", "").strip().lower(), asked.role)
    return RedirectResponse("/people", 303)


@routes.post("/tokens", policy=MEMBER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def new_token(call: Call[None]) -> Response:
    """Make an API token of one's own, and show it this once.

    Raises:
        NotAllowedError: it would allow more than what one came with.
    """
    given = flow.form(call)
    days = given.get("days", "")
    facts = {
        "label": given.get("label", ""),
        "scope": given.get("scope", ""),
        "days": int(days) if days.isdecimal() and len(days) < 9 else 0,
    }
    made = make_token_of(call.hub, call.who, api.decode(api.encode(facts), api.NewToken))
    words = "Copy it now: it is not shown again, and whoever has it may do what it allows."
    back = el("p", el("a", "Back", href="/people"))
    return _html(call.hub, f"Token {made.label}", el("p", words, class_="lead"), el("p", el("code", made.token)), back)


@routes.post("/tokens/{token}/end", policy=MEMBER, takes=FORM, media=HTML, bytes_max=FORM_BYTES_MAX)
def revoke_token(call: Call[None]) -> Response:
    """End one of one's own API tokens."""
    with call.hub.database.writing() as connection:
        end(connection, call.who.person or "", call.path["token"], ("token",))
    return RedirectResponse("/people", 303)


def _is_admin(who: Principal) -> bool:
    return who.may(ADMIN)


def _everybody(who: Principal, everybody: Sequence[Any]) -> list[Content]:
    rows: list[list[Content]] = [
        [
            [one.name, el("span", " admin", class_="soft") if one.is_admin else None],
            moment(one.created_ns),
            "you" if one.id == who.person else [_new_password(one), _removal(one)],
        ]
        for one in everybody
    ]
    form = _short_form(
        "/people",
        "Add",
        _field("Name", "name", autocomplete="off"),
        _password("new-password"),
        el("label", el("input", name="is_admin", type="checkbox"), " admin"),
    )
    return [table(("name", "since", ""), rows, spare=(1,)), form]


def _new_password(person: Any) -> Html:
    return el(
        "details",
        el("summary", "New password"),
        el("p", f"{person.name} is logged out everywhere, and logs in with this one. Tell it to nobody else."),
        _short_form(path("people", person.id, "password"), "Give it", _password("new-password")),
        class_="confirm",
    )


def _removal(person: Any) -> Html:
    words = f"{person.name} is logged out everywhere, and every token of theirs is worth nothing from then on."
    return confirmed("Remove", words, path("people", person.id, "remove"), "Yes, remove them")


def _password_form() -> Html:
    return _short_form(
        "/people/password",
        "Change it",
        _password("current-password", "The old one "),
        _password("new-password", "The new one ", "new_password"),
        _password("new-password", "Again ", "again"),
    )


def _roles(workspace: str, given: Sequence[Any]) -> list[Content]:
    address = path("workspaces", workspace, "roles")
    rows: list[list[Content]] = [[one.name, one.role, _taking_away(address, one.name)] for one in given]
    choices = [el("option", role, value=role) for role in ("viewer", "editor", "owner")]
    form = _short_form(
        address,
        "Give a role",
        el("label", "to ", el("input", name="name", required=True, autocomplete="off", autocapitalize="none")),
        el("label", "as ", el("select", *choices, name="role")),
    )
    shown = table(("name", "role", ""), rows) if rows else empty("Nobody but the admins may see it.")
    return [shown, form]


def _taking_away(address: str, name: str) -> Html:
    """Return the form that takes a role away, folded up: it may be the last owner's."""
    hidden = el("input", type="hidden", name="name", value=name)
    words = el("p", f"{name} then sees nothing of this workspace any more, unless they are an admin.")
    return el(
        "details",
        el("summary", "Take away"),
        words,
        _short_form(address, "Yes, take it away", hidden),
        class_="confirm",
    )


def _tokens(who: Principal, tokens: Sequence[Any]) -> list[Content]:
    rows: list[list[Content]] = [
        [
            one.label,
            one.scope,
            moment(one.created_real_ns),
            moment(one.expires_real_ns),
            confirmed("Revoke", "It is worth nothing from then on.", path("tokens", one.id, "end"), "Yes, revoke it"),
        ]
        for one in tokens
    ]
    scopes = [el("option", scope, value=scope) for scope in RANK if RANK[scope] <= RANK[who.scope]]
    form = _short_form(
        "/tokens",
        "Make a token",
        el("label", "for ", el("input", name="label", required=True, maxlength=200, autocomplete="off")),
        el("label", "that may do what a ", el("select", *scopes, name="scope"), " may"),
        el("label", "for ", el("input", name="days", type="number", min=1, max=366, value=90, required=True), " days"),
    )
    return [table(("for", "scope", "made", "ends", ""), rows) if rows else empty("You have none."), form]


def _short_form(address: str, button: str, *fields: Content) -> Html:
    return el("form", *fields, el("button", button, type="submit"), method="post", action=address, class_="fields-form")


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _html(hub: Hub, title: str, *content: Content, status: int = 200, twin: str | None = None) -> Response:
    view = View(now_ns=hub.now_ns(), banner=hub.clock.banner)
    shown = page(view, title, "", twin, el("h1", title), *content, live=False)
    return Response(shown, status, media_type=HTML)


def _form(address: str, *content: Content, button: str, value: str | None = None, method: str = "post") -> Html:
    name = None if value is None else "decision"
    return el(
        "form",
        *content,
        el("button", button, type="submit", name=name, value=value, class_="first"),
        method=method,
        action=address,
        class_="login",
    )


def _field(label: str, name: str, *, autocomplete: str) -> Html:
    return el(
        "label", label, " ", el("input", name=name, required=True, autocomplete=autocomplete, autocapitalize="none")
    )


def _password(autocomplete: str, label: str = "Password ", name: str = "password") -> Html:
    return el("label", label, el("input", name=name, type="password", required=True, autocomplete=autocomplete))


def _problem(text: str | None) -> Content:
    return None if text is None else el("p", text, class_="failed", role="alert")
