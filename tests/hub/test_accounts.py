"""Who gets in and what they may do: every route × every role × a foreign workspace × a device."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from sqlalchemy import insert, select, update

from driftline.clock import NS_PER_S, SystemClock
from driftline.hub import causes
from driftline.hub.accounts import people
from driftline.hub.accounts.tables import changes, credentials, roles
from driftline.hub.command import listen
from driftline.hub.http import Ruled
from driftline.hub.limits import Buckets, Limits
from driftline.hub.policy import ADMIN, DEVICE, EDITOR, MAKER, MEMBER, OVERSEER, OWNER, PUBLIC, VIEWER
from driftline.hub.server import Listener, application, open_hub
from driftline.hub.store import incidents
from driftline.hub.store.incidents import Part
from driftline.hub.tls import certificate
from driftline.sdk.http import pinned

PASSWORD = "correct horse battery"
WHO = ("viewer", "editor", "owner", "admin", "foreign owner", "viewer's token of an admin", "stranger", "device")
ROLES = {"viewer": "viewer", "editor": "editor", "owner": "owner"}
# Whom each policy lets in, by hand: the test compares what the hub does with this, not with its own code.
ALLOWED = {
    PUBLIC: set(WHO),
    MEMBER: {"viewer", "editor", "owner", "admin", "foreign owner", "viewer's token of an admin"},
    MAKER: {"viewer", "editor", "owner", "admin", "foreign owner"},
    VIEWER: {"viewer", "editor", "owner", "admin", "viewer's token of an admin"},
    EDITOR: {"editor", "owner", "admin"},
    OWNER: {"owner", "admin"},
    ADMIN: {"admin"},
    OVERSEER: {"admin", "viewer's token of an admin"},
}
# Every route, with the policy it is meant to have. A new one is written down here before it is merged.
ROWS = {
    line.split()[1] + " " + line.split()[2]: line.split()[0]
    for line in (Path(__file__).with_name("policies.txt")).read_text().splitlines()
}
NAMES = {
    "public": PUBLIC, "device": DEVICE, "member": MEMBER, "maker": MAKER, "viewer": VIEWER, "editor": EDITOR,
    "owner": OWNER, "admin": ADMIN, "overseer": OVERSEER,
}  # fmt: skip


@pytest.fixture(scope="module")
def fast_hashes() -> Iterator[None]:
    """Argon2 with its least cost: what it costs is its own test's."""
    from argon2 import PasswordHasher

    before, people._HASHER = people._HASHER, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield
    people._HASHER = before


@pytest.fixture
def closed(serve_hub: Callable[..., Any], fast_hashes: None) -> Any:
    """A hub whose people log in."""
    hub = serve_hub()
    hub.limits = Limits(strangers=Buckets(1_000, 10_000))
    return hub


def person(
    hub: Any, name: str, role: str | None = None, workspace: str | None = None, *, is_admin: bool = False
) -> str:
    """Add a person and return their id."""
    made = people.hash_password(PASSWORD)
    with hub.database.writing() as connection:
        row = people.add(connection, name, made, hub.now_ns(), is_admin=is_admin)
        if role is not None:
            connection.execute(insert(roles).values(person=row.id, workspace=workspace, role=role))
    return row.id


def bearer(hub: Any, identity: str, scope: Any = "admin", kind: Any = "token") -> dict[str, str]:
    with hub.database.writing() as connection:
        secret, _ = people.give(connection, kind, identity, label="a test", scope=scope)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def shop(closed: Any, ask_at: Any, shop_on: Any) -> Any:
    """Set a shop up, then close the hub; return it with headers of everybody."""
    ids = shop_on(ask_at(closed))
    other = ask_at(closed).workspace("elsewhere")["id"]
    closed.accounts = people.Accounts()
    headers = {name: bearer(closed, person(closed, name, role, ids["workspace"])) for name, role in ROLES.items()}
    admin = person(closed, "root", is_admin=True)
    headers["admin"] = bearer(closed, admin)
    headers["viewer's token of an admin"] = bearer(closed, admin, "viewer")
    headers["foreign owner"] = bearer(closed, person(closed, "eve", "owner", other))
    headers["stranger"] = {}
    person(closed, "somebody")
    with closed.database.writing() as connection:
        causes.gather(connection, Part("p", "drift", ids["name"], 1, assay=ids["assay"], text="x", windows=1), 2)
        incident = incidents.listed(connection)[0].id
    headers["device"] = {"Driftline-Device": ids["name"], "Driftline-Request": "99", "Driftline-Signature": "ab" * 32}
    return (
        closed,
        ids
        | {
            "other": other,
            "digest": "a" * 64,
            "person": "somebody",
            "token": "x",
            "incident": incident,
            "channel": "c",
            "delivery": "d",
            "maintenance": "m",
            "site": "Berlin",
        },
        headers,
    )


def every_route(hub: Any) -> list[tuple[str, str, Any]]:
    routes = [cast("Ruled", route) for route in application(hub).routes]
    return [(rule.method, rule.path, rule) for route in routes for rule in route.rules.values()]


def test_every_route_has_the_row_that_somebody_decided_on(closed: Any):
    names = {policy: name for name, policy in NAMES.items()}
    found = {f"{method} {path}": names[rule.policy] for method, path, rule in every_route(closed)}
    assert found == ROWS, "write a new route's policy into tests/hub/policies.txt"


def test_every_route_lets_in_whom_its_policy_names_and_nobody_else(shop: Any):
    hub, ids, headers = shop
    wrong: list[str] = []
    with httpx2.Client(base_url=hub.url, trust_env=False, timeout=60, headers={"Origin": hub.url}) as http:
        # What is removed is gone for the routes behind: those that remove come last.
        for method, path, _ in sorted(every_route(hub), key=lambda one: one[0] == "DELETE"):
            policy = NAMES[ROWS[f"{method} {path}"]]
            address = path.replace("{path:path}", "nowhere")
            for name, value in ids.items():
                address = address.replace("{" + name + "}", value)
            assert "{" not in address, path
            # A body that nobody can read: who may is refused for it, who may not is refused before.
            body = b"\xff" if method in {"POST", "PUT"} else None
            for who in WHO if policy != DEVICE else ():
                reply = http.request(method, address, headers=headers[who], content=body)
                if entered(reply) is not (who in ALLOWED[policy]):
                    wrong.append(f"{method} {path} ({ROWS[f'{method} {path}']}) {who}: {reply.status_code}")
    assert wrong == []


def entered(reply: httpx2.Response) -> bool:
    """Whether a request came as far as its handler."""
    led_away = reply.status_code == 303 and reply.headers["location"].startswith("/login?next=")
    # What is not there and what is not for somebody look the same; to who may see, the handler has words of its own.
    hidden = reply.status_code == 404 and "or nothing for you" in reply.text
    refused = reply.status_code in {401, 403} and "setup link" not in reply.text
    return not (led_away or hidden or refused)


def test_a_devices_routes_believe_a_signature_and_no_login(shop: Any, ask_at: Any):
    hub, _, headers = shop
    with httpx2.Client(base_url=hub.url, trust_env=False) as http:
        for who in WHO:
            for method, path in (
                ("POST", "/api/v1/sync"),
                ("GET", "/api/v1/bundles/" + "a" * 64),
                ("POST", "/api/v1/join"),
            ):
                reply = http.request(
                    method, path, headers=headers[who], content=b'{"secret": "x"}' if method == "POST" else None
                )
                assert reply.status_code == 403, (who, path)


def test_a_device_goes_on_when_people_must_log_in(closed: Any, ask_at: Any):
    ask = ask_at(closed)
    device = ask.joined("camera", ask.observed_pipeline())
    closed.accounts = people.Accounts()
    device.send()
    assert httpx2.get(closed.url + "/api/v1/devices", trust_env=False).status_code == 401


def test_lists_hold_what_somebody_may_see(shop: Any):
    hub, ids, headers = shop
    with httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False) as http:

        def named(path: str, who: str) -> list[str]:
            return [one.get("name") or one["id"] for one in http.get(path, headers=headers[who]).json()["items"]]

        assert named("/workspaces", "viewer") == ["fuzzed"]
        assert named("/workspaces", "foreign owner") == ["elsewhere"]
        assert named("/workspaces", "admin") == ["fuzzed", "elsewhere"]
        assert (named("/devices", "viewer"), named("/devices", "foreign owner")) == ([ids["name"]], [])
        assert (named("/incidents", "viewer"), named("/incidents", "foreign owner")) == ([ids["incident"]], [])
    with httpx2.Client(base_url=hub.url, trust_env=False) as http:
        for page in (
            "/",
            "/devices",
            "/assays",
            "/incidents",
            "/pipelines",
            "/index.json",
            "/devices.json",
            "/assays.json",
        ):
            for name in (ids["name"], "totals", "till"):
                assert name not in http.get(page, headers=headers["foreign owner"]).text, (page, name)


def test_a_device_of_another_workspace_is_not_taken_over_by_its_name(shop: Any):
    hub, ids, headers = shop
    with httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False, headers=headers["foreign owner"]) as http:
        made = http.post(f"/workspaces/{ids['other']}/pipelines", json={"name": "mine", "steps": []}).json()
        publish = http.post(f"/pipelines/{made['id']}/publish").json()
        reply = http.post(f"/publishes/{publish['id']}/edges", json={"name": ids["name"]})
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_allowed")
        assert http.post(f"/publishes/{publish['id']}/edges", json={"name": "mine-1"}).status_code == 200


def test_a_role_that_is_taken_away_is_gone_with_the_next_request(shop: Any):
    hub, ids, headers = shop
    with httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False) as http:
        place = f"/workspaces/{ids['workspace']}"
        assert http.get(place, headers=headers["editor"]).status_code == 200
        gone = http.put(f"{place}/roles/editor", json={"role": None}, headers=headers["owner"])
        assert gone.status_code == 200
        assert http.get(place, headers=headers["editor"]).status_code == 404


def test_a_token_ends_when_it_should(closed: Any):
    closed.accounts = people.Accounts()
    headers = bearer(closed, person(closed, "anna"))
    with httpx2.Client(base_url=closed.url + "/api/v1", trust_env=False, headers=headers) as http:
        assert http.get("/me").json()["name"] == "anna"
        made = http.post("/tokens", json={"label": "a cron job", "scope": "viewer", "days": 3}).json()
        mine = {"Authorization": f"Bearer {made['token']}"}
        assert http.get("/me", headers=mine).json()["scope"] == "viewer"
        # It cannot make more of itself.
        assert http.post("/tokens", json={"label": "more", "scope": "owner"}, headers=mine).status_code == 403
        with closed.database.writing() as connection:
            row = connection.execute(select(credentials).where(credentials.c.id == made["id"])).one()
            assert made["token"] not in str(row)
            assert row.expires_real_ns - row.created_real_ns == 3 * 86_400 * NS_PER_S
            past = {"expires_real_ns": time.time_ns() - 1}
            connection.execute(update(credentials).where(credentials.c.id == made["id"]).values(past))
        assert http.get("/me", headers=mine).status_code == 401
        second = http.post("/tokens", json={"label": "another"}).json()
        http.delete(f"/tokens/{second['id']}")
        assert http.get("/me", headers={"Authorization": f"Bearer {second['token']}"}).status_code == 401


# ── the first admin, sessions ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def browser(closed: Any) -> Iterator[httpx2.Client]:
    closed.accounts = people.Accounts()
    with httpx2.Client(base_url=closed.url, trust_env=False, headers={"Origin": closed.url}) as client:
        yield client


def test_a_setup_link_makes_the_first_admin_once(closed: Any, browser: httpx2.Client):
    link = people.open_setup(closed.accounts)
    assert browser.get("/setup?token=x").status_code == 403
    assert browser.get(f"/setup?token={link}").status_code == 200
    short = browser.post("/setup", data={"token": link, "name": "root", "password": "short"})
    assert (short.status_code, "12" in short.text) == (400, True)
    made = browser.post("/setup", data={"token": link, "name": "Root", "password": PASSWORD})
    assert (made.status_code, made.headers["location"]) == (303, "/")
    assert browser.get("/api/v1/me").json() == {"name": "root", "is_admin": True, "roles": {}, "scope": "admin"}
    again = browser.post("/setup", data={"token": link, "name": "eve", "password": PASSWORD})
    assert again.status_code == 403


def test_a_setup_link_is_worth_nothing_once_somebody_is_there(closed: Any, browser: httpx2.Client):
    link = people.open_setup(closed.accounts)
    person(closed, "root", is_admin=True)
    late = browser.post("/setup", data={"token": link, "name": "eve", "password": PASSWORD})
    assert (late.status_code, "first admin already" in late.text) == (403, True)


def test_a_session_is_a_cookie_that_scripts_cannot_read_and_that_log_out_ends(closed: Any, browser: httpx2.Client):
    person(closed, "anna")
    wrong = browser.post("/login", data={"name": "anna", "password": "not that one at all"})
    assert (wrong.status_code, "not right" in wrong.text, "set-cookie" in wrong.headers) == (403, True, False)
    reply = browser.post("/login", data={"name": " Anna ", "password": PASSWORD, "next": "/devices?x=1"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/devices?x=1")
    cookie = reply.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "path=/"))
    assert "secure" not in cookie  # plain HTTP on loopback; under TLS see below
    assert browser.get("/").status_code == 200
    kept = dict(browser.cookies)
    assert browser.post("/logout").headers["location"] == "/login"
    assert httpx2.get(closed.url + "/devices", cookies=kept, trust_env=False).status_code == 303


def logged_in(closed: Any, browser: httpx2.Client, name: str, **facts: Any) -> None:
    person(closed, name, **facts)
    assert browser.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303


def test_every_page_has_the_way_out_once_somebody_is_logged_in(closed: Any, browser: httpx2.Client):
    assert "/logout" not in browser.get("/login").text
    logged_in(closed, browser, "anna", is_admin=True)
    for page in (
        "",
        "devices",
        "assays",
        "incidents",
        "notifications",
        "pipelines",
        "changes",
        "people",
        "api",
        "none",
    ):
        shown = browser.get(f"/{page}").text
        assert '<form method="post" action="/logout">' in shown, page
        assert '<a href="/people">anna</a>' in shown, page
    assert browser.post("/logout").status_code == 303
    assert not browser.cookies
    assert browser.get("/devices").headers["location"] == "/login?next=%2Fdevices"


def test_a_hub_where_nobody_logs_in_has_no_way_out(hub: Any):
    with httpx2.Client(base_url=hub.url, trust_env=False) as http:
        assert "/logout" not in http.get("/").text
        assert "driftline up --auth" in http.get("/people").text


def test_a_token_is_made_shown_once_and_revoked_in_a_browser(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "anna")
    made = browser.post("/tokens", data={"label": "<b>cron</b>", "scope": "viewer", "days": "3"}).text
    (token,) = set(re.findall(r"dlt_[A-Za-z0-9_-]+", made))
    bearer_of = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=closed.url + "/api/v1", trust_env=False, headers=bearer_of) as program:
        assert program.get("/me").json()["scope"] == "viewer"
        listed = browser.get("/people").text
        assert token not in listed
        assert "&lt;b&gt;cron&lt;/b&gt;" in listed
        (address,) = re.findall(r'action="(/tokens/[^"]+/end)"', listed)
        assert browser.post(address).status_code == 303
        assert program.get("/me").status_code == 401
    for days in ("367", "0", "many", "9" * 5000):
        assert browser.post("/tokens", data={"label": "x", "scope": "viewer", "days": days}).status_code == 400
    assert browser.post("/tokens", data={"label": "x", "scope": "root", "days": "3"}).status_code == 400


def test_an_owner_gives_roles_in_their_workspace_and_sees_no_other(shop: Any):
    hub, ids, _ = shop
    person(hub, "guest")
    with httpx2.Client(base_url=hub.url, trust_env=False, headers={"Origin": hub.url}) as owner:
        assert owner.post("/login", data={"name": "owner", "password": PASSWORD}).status_code == 303
        page = owner.get("/people").text
        assert "Roles in fuzzed" in page
        assert "elsewhere" not in page
        assert "Everybody" not in page
        address = f"/workspaces/{ids['workspace']}/roles"
        assert f'action="{address}"' in page
        assert owner.post(address, data={"name": "Guest", "role": "editor"}).status_code == 303
        assert re.search(r"guest</t[hd]><td>editor", owner.get("/people").text)
        assert owner.post(address, data={"name": "guest", "role": "king"}).status_code == 400
        assert owner.post(address, data={"name": "guest"}).status_code == 303
        assert "guest" not in owner.get("/people").text
        elsewhere = f"/workspaces/{ids['other']}/roles"
        assert owner.post(elsewhere, data={"name": "guest", "role": "owner"}).status_code == 404
        assert owner.post("/people", data={"name": "eve", "password": PASSWORD}).status_code == 403
    with hub.database.reading() as connection:
        trail = connection.execute(select(changes).where(changes.c.what == "set_role").order_by(changes.c.id)).all()
    assert [row.after for row in trail] == [{"name": "Guest", "role": "editor"}, {"name": "guest"}]


def test_an_admin_adds_people_in_a_browser(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "root", is_admin=True)
    added = browser.post("/people", data={"name": "ada", "password": PASSWORD})
    assert (added.status_code, added.headers["location"]) == (303, "/people")
    assert "ada" in browser.get("/people").text
    assert browser.post("/people", data={"name": "ada", "password": PASSWORD}).status_code == 409
    assert browser.post("/people", data={"name": "bob", "password": "short"}).status_code == 400
    with closed.database.reading() as connection:
        (row,) = connection.execute(select(changes).where(changes.c.what == "add_person")).all()
    assert row.after == {"name": "ada", "password": "…"}


def test_an_admin_gives_who_forgot_theirs_another_password(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "root", is_admin=True)
    with httpx2.Client(base_url=closed.url, trust_env=False, headers={"Origin": closed.url}) as bobs:
        logged_in(closed, bobs, "bob")
        (address,) = re.findall(r'action="(/people/[^"]+/password)"', browser.get("/people").text)
        assert bobs.post(address, data={"password": "the new one of bob"}).status_code == 403
        assert browser.post(address, data={"password": "short"}).status_code == 400
        assert bobs.get("/people").status_code == 200
        shown = browser.post(address, data={"password": "the new one of bob"})
        assert "bob is logged out everywhere" in shown.text
        assert bobs.get("/people").headers["location"].startswith("/login")
        assert bobs.post("/login", data={"name": "bob", "password": PASSWORD}).status_code == 403
        assert bobs.post("/login", data={"name": "bob", "password": "the new one of bob"}).status_code == 303
    assert browser.post("/people/root/password", data={"password": "the new one of root"}).status_code == 400
    with closed.database.reading() as connection:
        trail = connection.execute(select(changes).where(changes.c.what == "give_password")).all()
    assert [row.after for row in trail] == [{"password": "…"}]


def test_an_admin_removes_somebody_in_a_browser_and_is_not_removed_by_mistake(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "root", is_admin=True)
    with httpx2.Client(base_url=closed.url, trust_env=False, headers={"Origin": closed.url}) as bobs:
        logged_in(closed, bobs, "bob")
        (address,) = re.findall(r'action="(/people/[^"]+/remove)"', browser.get("/people").text)
        assert bobs.post(address).status_code == 403
        assert browser.post(address).status_code == 303
        assert bobs.get("/people").headers["location"].startswith("/login")
    assert "bob" not in browser.get("/people").text
    assert browser.post(address).status_code == 404
    assert browser.post("/people/root/remove").status_code == 400


def test_somebody_changes_their_password_in_a_browser(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "anna")
    new = "four other random words"
    with httpx2.Client(base_url=closed.url, trust_env=False, headers={"Origin": closed.url}) as elsewhere:
        assert elsewhere.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 303
        assert 'action="/people/password"' in elsewhere.get("/people").text
        for old, one, again, status in (
            (PASSWORD, new, "a typo", 400),
            (PASSWORD, "short", "short", 400),
            (new, new, new, 403),
        ):
            given = {"password": old, "new_password": one, "again": again}
            assert browser.post("/people/password", data=given).status_code == status
        done = browser.post("/people/password", data={"password": PASSWORD, "new_password": new, "again": new})
        assert done.status_code == 200, done.text
        assert browser.get("/people").status_code == 200
        assert elsewhere.get("/people").headers["location"].startswith("/login")
        assert elsewhere.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 403
        assert elsewhere.post("/login", data={"name": "anna", "password": new}).status_code == 303
    with closed.database.reading() as connection:
        (row,) = connection.execute(select(changes).where(changes.c.what == "new_password")).all()
    assert new not in str(row)


def test_who_may_not_see_a_page_still_sees_who_they_are_and_the_way_out(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "anna")
    refused = browser.get("/notifications")
    assert refused.status_code == 403
    assert "an admin makes admins" in refused.text
    assert '<form method="post" action="/logout">' in refused.text


def test_nobody_is_asked_who_they_are_where_that_is_known(closed: Any, browser: httpx2.Client):
    logged_in(closed, browser, "root", is_admin=True)
    assert browser.post("/api/v1/workspaces", json={"name": "shop"}).status_code == 200
    page = browser.get("/sites").text
    assert 'name="opening_hours"' in page
    assert 'name="by"' not in page


@pytest.mark.parametrize("onward", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)"])
def test_nobody_is_led_elsewhere_after_the_login(closed: Any, browser: httpx2.Client, onward: str):
    person(closed, "anna")
    reply = browser.post("/login", data={"name": "anna", "password": PASSWORD, "next": onward})
    assert reply.headers["location"] == "/"


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1:1"])
def test_with_a_cookie_only_the_hubs_own_pages_change_something(closed: Any, browser: httpx2.Client, origin: Any):
    person(closed, "anna")
    browser.post("/login", data={"name": "anna", "password": PASSWORD})
    assert browser.post("/api/v1/workspaces", json={"name": "own"}).status_code == 200
    del browser.headers["Origin"]
    headers = {} if origin is None else {"Origin": origin}
    reply = browser.post("/api/v1/workspaces", json={"name": "foreign"}, headers=headers)
    assert reply.status_code == 403
    assert browser.post("/login", data={"name": "anna", "password": PASSWORD}, headers=headers).status_code == 403


def test_who_guesses_a_password_is_slowed_down_and_learns_nothing(closed: Any, browser: httpx2.Client):
    person(closed, "anna")
    now = [0.0]
    closed.accounts.by_pair = Buckets(1 / 30, 3, lambda: now[0])
    guess = {"name": "anna", "password": "a guess that is wrong"}
    assert [browser.post("/login", data=guess).status_code for _ in range(4)] == [403, 403, 403, 429]
    # Not even the right one is tried then.
    assert browser.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 429
    now[0] = 31.0
    assert browser.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 303
    unknown = browser.post("/login", data={"name": "nobody", "password": PASSWORD})
    assert (unknown.status_code, "not right" in unknown.text) == (403, True)


def test_passwords_are_kept_as_argon2_with_the_cost_that_is_recommended():
    # RFC 9106, section 4, second recommended option: 3 passes over 64 MiB, 4 lanes.
    hasher = type(people._HASHER)()
    assert (hasher.time_cost, hasher.memory_cost, hasher.parallelism) == (3, 65_536, 4)
    assert hasher.hash("x").startswith("$argon2id$")


def test_the_loop_answers_others_while_a_password_is_hashed(closed: Any, browser: httpx2.Client, monkeypatch: Any):
    import threading

    hashing, go_on = threading.Event(), threading.Event()

    def slow(_password: str, _kept: Any) -> bool:
        hashing.set()
        return not go_on.wait(20)

    from driftline.hub.accounts import pages

    monkeypatch.setattr(pages, "fits", slow)
    thread = threading.Thread(target=lambda: browser.post("/login", data={"name": "anna", "password": PASSWORD}))
    thread.start()
    assert hashing.wait(20)
    assert httpx2.get(closed.url + "/healthz", trust_env=False).status_code == 200
    go_on.set()
    thread.join(20)


def test_under_tls_the_cookie_is_for_this_host_alone(tmp_path: Path, fast_hashes: None):
    with listen("127.0.0.1", 0) as bound:
        *files, fingerprint = certificate(tmp_path / "tls", "127.0.0.1")
        url = f"https://127.0.0.1:{bound.getsockname()[1]}"
        hub = open_hub(tmp_path, SystemClock(), url, fingerprint)
        hub.accounts = people.Accounts()
        person(hub, "anna")
        listener = Listener(hub, bound, (files[0], files[1]))
        listener.start()
        try:
            with httpx2.Client(base_url=url, verify=pinned(fingerprint), trust_env=False) as browser:
                form = {"name": "anna", "password": PASSWORD}
                reply = browser.post("/login", data=form, headers={"Origin": url})
                cookie = reply.headers["set-cookie"]
                assert cookie.startswith("__Host-driftline=")
                assert "; Secure" in cookie
                # Under any name: a page that gives itself this hub's address has no certificate for it.
                assert browser.get("/api/v1/me", headers={"Host": "hub.shop.example"}).json()["name"] == "anna"
        finally:
            listener.stop()
            hub.database.close()


# ── the trail ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_trail_says_who_changed_what_from_what_to_what(shop: Any):
    hub, ids, headers = shop
    with httpx2.Client(base_url=hub.url, trust_env=False) as http:
        http.post(f"/api/v1/assays/{ids['assay']}/off", headers=headers["editor"])
        http.put(f"/api/v1/devices/{ids['name']}/link", json={"rows_kb_a_day": 5}, headers=headers["owner"])
        trail = http.get("/api/v1/changes", headers=headers["viewer"]).json()["items"]
        assert [(one["name"], one["what"], one["subject"]) for one in trail] == [
            ("owner", "put_link", ids["name"]),
            ("editor", "switch_off", ids["assay"]),
        ] + [(one["name"], one["what"], one["subject"]) for one in trail[2:]]
        assert (trail[0]["before"], trail[0]["after"]) == ({"rows_kb_a_day": None}, {"rows_kb_a_day": 5})
        assert (trail[1]["before"], trail[1]["after"]) == ({"active": True}, {"active": False})
        assert trail[1]["address"] == "127.0.0.1"
        assert http.get("/api/v1/changes", headers=headers["foreign owner"]).json() == {"items": []}
        page = http.get("/changes", headers=headers["viewer"]).text
        assert "switch off" in page
        assert "active no" in page
        # What was refused changed nothing, and has no line.
        http.post(f"/api/v1/assays/{ids['assay']}/on", headers=headers["viewer"])
        assert len(http.get("/api/v1/changes", headers=headers["viewer"]).json()["items"]) == len(trail)


def test_no_secret_is_in_the_trail(closed: Any):
    closed.accounts = people.Accounts()
    headers = bearer(closed, person(closed, "root", is_admin=True))
    with httpx2.Client(base_url=closed.url + "/api/v1", trust_env=False, headers=headers) as http:
        assert http.post("/people", json={"name": "anna", "password": PASSWORD}).status_code == 200
        token = http.post("/tokens", json={"label": "mine"}).json()["token"]
        target = {"kind": "webhook", "url": "https://hooks.example/a-path-that-opens-it"}
        channel = http.post("/notifications/channels", json={"name": "ops", "target": target})
        assert channel.status_code == 200, channel.text
        with closed.database.reading() as connection:
            written = str(connection.execute(select(changes)).all())
    assert "anna" in written
    assert PASSWORD not in written
    assert token not in written
    assert "a-path-that-opens-it" not in written
    assert channel.json()["secret"] not in written
