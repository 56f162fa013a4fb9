"""The device authorization grant, RFC 8628: with Authlib's client as an independent one, and with our own SDK."""

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6749 import OAuth2Token
from sqlalchemy import update

from driftline import Client
from driftline.errors import NotLoggedInError
from driftline.hub.accounts import people
from driftline.hub.accounts.tables import device_codes
from driftline.sdk.http import Connection
from driftline.sdk.tokens import Tokens
from driftline.wire import api

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PASSWORD = "correct horse battery"


@pytest.fixture
def closed(hub: Any) -> Any:
    hub.accounts = people.Accounts()
    made = people.hash_password(PASSWORD)
    with hub.database.writing() as connection:
        people.add(connection, "anna", made, hub.now_ns(), is_admin=True)
    return hub


@pytest.fixture
def browser(closed: Any) -> Iterator[httpx2.Client]:
    """Anna's browser, logged in."""
    with httpx2.Client(base_url=closed.url, trust_env=False, headers={"Origin": closed.url}) as client:
        assert client.post("/login", data={"name": "anna", "password": PASSWORD}).status_code == 303
        yield client


def begin(hub: Any, **fields: str) -> Any:
    form = {"client_id": "a test", **fields}
    return httpx2.post(hub.url + "/oauth/device_authorization", data=form, trust_env=False).json()


def confirm(browser: httpx2.Client, code: str, decision: str = "allow") -> None:
    page = browser.get("/login/device", params={"user_code": code})
    assert code in page.text
    assert browser.post("/login/device", data={"user_code": code, "decision": decision}).status_code == 200


def rest(hub: Any) -> None:
    """Let so much time pass that the program may ask again."""
    with hub.database.writing() as connection:
        connection.execute(update(device_codes).values(polled_real_ns=0))


def asked(session: Any, hub: Any, code: str) -> str:
    with pytest.raises(Exception) as refused:  # noqa: PT011  Authlib's own class, by its `error`
        session.fetch_token(hub.url + "/oauth/token", grant_type=GRANT, device_code=code)
    return str(refused.value.error)  # type: ignore[attr-defined]


def test_authlibs_client_is_let_in_and_renews_itself(closed: Any, browser: httpx2.Client):
    session = OAuth2Session("authlib", token_endpoint_auth_method="none")
    session.trust_env = False
    begun = begin(closed)
    assert set(begun) >= {"device_code", "user_code", "verification_uri", "expires_in", "interval"}
    assert asked(session, closed, begun["device_code"]) == "authorization_pending"
    assert asked(session, closed, begun["device_code"]) == "slow_down"
    rest(closed)
    confirm(browser, begun["user_code"])
    token = session.fetch_token(closed.url + "/oauth/token", grant_type=GRANT, device_code=begun["device_code"])
    assert isinstance(token, OAuth2Token)
    assert token["token_type"] == "Bearer"
    assert session.get(closed.url + "/api/v1/me").json()["name"] == "anna"
    # A code works once.
    assert asked(session, closed, begun["device_code"]) == "invalid_grant"
    first = token["refresh_token"]
    renewed = session.refresh_token(closed.url + "/oauth/token", refresh_token=first)
    assert renewed["access_token"] != token["access_token"]
    assert session.get(closed.url + "/api/v1/me").status_code == 200
    # Whoever comes with the old one has stolen it, or was stolen from: both are out.
    with pytest.raises(Exception, match="used before"):
        session.refresh_token(closed.url + "/oauth/token", refresh_token=first)
    session.token = renewed
    assert session.get(closed.url + "/api/v1/me").status_code == 401


def test_who_is_not_let_in_hears_it(closed: Any, browser: httpx2.Client):
    session = OAuth2Session("authlib", token_endpoint_auth_method="none")
    session.trust_env = False
    begun = begin(closed)
    confirm(browser, begun["user_code"], "deny")
    assert asked(session, closed, begun["device_code"]) == "access_denied"
    late = begin(closed)
    with closed.database.writing() as connection:
        connection.execute(update(device_codes).values(expires_real_ns=1))
    assert asked(session, closed, late["device_code"]) == "expired_token"
    assert asked(session, closed, "guessed") == "invalid_grant"
    assert browser.get("/login/device", params={"user_code": late["user_code"]}).status_code == 404


def test_nobody_confirms_from_another_site_or_without_a_login(closed: Any, browser: httpx2.Client):
    begun = begin(closed)
    form = {"user_code": begun["user_code"], "decision": "allow"}
    assert browser.post("/login/device", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx2.post(closed.url + "/login/device", data=form, trust_env=False).status_code == 401
    page = httpx2.get(closed.url + "/login/device?user_code=" + begun["user_code"], trust_env=False)
    assert page.headers["location"].startswith("/login?next=%2Flogin%2Fdevice%3Fuser_code%3D")


def test_the_sdk_shows_the_familiar_words_and_remembers(
    closed: Any, browser: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []

    def sleep(_seconds: float) -> None:
        code = next(word for line in said for word in line.split() if word.count("-") == 1 and word.isupper())
        confirm(browser, code)

    path = tmp_path / "driftline" / "tokens.json"
    connection = Connection(closed.url, tokens=Tokens(closed.url, path, {}, say=said.append, sleep=sleep))
    assert connection.get("/version", api.Version).api == 1
    assert said[0] == "Please log into the following URL in a web browser:\n"
    assert f"{closed.url}/login/device?user_code=" in said[1]
    assert said[-1] == "Login successful!"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # Another program of the same person is in at once; and so is Client().
    quiet = Connection(closed.url, tokens=Tokens(closed.url, path, {}, say=said.append, sleep=sleep))
    count = len(said)
    assert quiet.get("/version", api.Version).api == 1
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Client(closed.url).list_workspaces() == []
    assert len(said) == count


def test_two_programs_renew_one_login_and_stay_in(closed: Any, browser: httpx2.Client, tmp_path: Path):
    said: list[str] = []

    def sleep(_seconds: float) -> None:
        confirm(
            browser, next(word for line in said for word in line.split() if word.count("-") == 1 and word.isupper())
        )

    path = tmp_path / "tokens.json"
    tokens = [Tokens(closed.url, path, {}, say=said.append, sleep=sleep) for _ in range(2)]
    one, two = (Connection(closed.url, tokens=each) for each in tokens)
    one.get("/version", api.Version)
    two.get("/version", api.Version)
    with closed.database.writing() as connection:
        from driftline.hub.accounts.tables import credentials

        connection.execute(update(credentials).where(credentials.c.kind == "access").values(expires_real_ns=1))
    threads = [threading.Thread(target=each.get, args=("/version", api.Version)) for each in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert one.get("/version", api.Version).api == two.get("/version", api.Version).api == 1
    assert said.count("Login successful!") == 1


def test_a_token_in_the_environment_goes_first_and_asks_nobody(closed: Any, tmp_path: Path):
    tokens = Tokens(closed.url, tmp_path / "tokens.json", {"DRIFTLINE_TOKEN": "dlt_wrong"})
    with pytest.raises(NotLoggedInError, match="DRIFTLINE_TOKEN"):
        Connection(closed.url, tokens=tokens).get("/version", api.Version)
    assert not (tmp_path / "tokens.json").exists()
