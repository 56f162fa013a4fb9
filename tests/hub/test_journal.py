"""The log: one object a line, every request by its id, and never a secret."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from driftline.hub import causes, journal
from driftline.hub.accounts import people
from driftline.hub.limits import Buckets, Limits
from driftline.hub.notify.notifier import Round, network_of
from driftline.hub.store.incidents import Part

# One word that is part of every secret a caller brings: where it is found, a secret is.
SECRET = "hunter2ZXCVB"


@pytest.fixture
def as_json() -> Iterator[None]:
    journal.begin("json")
    yield
    journal.begin("text")


@pytest.fixture
def closed(serve_hub: Callable[..., Any]) -> Any:
    """A hub whose people log in, with one admin."""
    hub = serve_hub()
    hub.accounts, hub.limits, hub.private_targets = people.Accounts(), Limits(strangers=Buckets(1_000, 10_000)), True
    with hub.database.writing() as connection:
        row = people.add(connection, "ada", people.hash_password(f"{SECRET} password"), hub.now_ns(), is_admin=True)
        hub.token, _ = people.give(connection, "token", row.id, label="a test")
    return hub


@pytest.fixture
def http(closed: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=closed.url, trust_env=False) as client:
        yield client


def lines(capsys: pytest.CaptureFixture[str], count: int = 1) -> list[dict[str, Any]]:
    """Return what was logged, as soon as there are so many lines: a request's comes after its answer."""
    said, deadline = "", time.monotonic() + 10
    while said.count("\n") < count and time.monotonic() < deadline:
        said += capsys.readouterr().err
        time.sleep(0.01)
    return [json.loads(line) for line in said.splitlines()]


def test_a_request_has_one_id_in_head_answer_and_log(
    closed: Any, http: httpx2.Client, as_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = http.get("/api/v1/devices/till-1", headers={"Authorization": f"Bearer {closed.token}"})
    identity = reply.headers["X-Request-Id"]
    assert reply.json()["error"]["request"] == identity
    (line,) = lines(capsys)
    assert line["ms"] >= 0
    assert {name: line[name] for name in ("level", "message", "request", "method", "route", "status", "who")} == {
        "level": "info", "message": "request", "request": identity, "method": "GET",
        "route": "/api/v1/devices/{name}", "status": 404, "who": "ada",
    }  # fmt: skip


@pytest.mark.parametrize(("given", "kept"), [("8f14e45f-ceea", True), ("short", False), ('"},{"x":"', False)])
def test_an_id_of_the_callers_own_is_taken_where_it_fits(http: httpx2.Client, given: str, kept: bool) -> None:
    assert (http.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given) is kept


def test_a_device_gets_no_id_with_what_went_well(ask: Any) -> None:
    camera = ask.joined("camera-1", ask.observed_pipeline())
    assert "X-Request-Id" not in camera.post(camera.batch([])).headers
    assert "X-Request-Id" in camera.post(b"no batch").headers


def test_in_a_terminal_a_request_is_no_line(http: httpx2.Client, capsys: pytest.CaptureFixture[str]) -> None:
    http.get("/healthz")
    assert capsys.readouterr().err == ""


def test_a_bug_has_its_traceback_and_its_request(
    closed: Any, http: httpx2.Client, as_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed.database.writing() as connection:
        connection.execute(text("DROP TABLE changes"))
    reply = http.get("/api/v1/changes", headers={"Authorization": f"Bearer {closed.token}"})
    assert reply.status_code == 500
    error, request = lines(capsys, 2)
    assert error["request"] == request["request"] == reply.json()["error"]["request"]
    assert "no such table: changes" in error["traceback"]


def test_what_others_of_the_process_write_is_a_line_too(as_json: None, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"password={SECRET} is deprecated", UserWarning, stacklevel=1)
    (line,) = lines(capsys)
    assert line["level"] == "warning"
    assert "UserWarning: password=…" in line["message"]


def test_no_secret_is_ever_logged_whichever_way_it_comes_in(
    closed: Any, http: httpx2.Client, as_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    admin, origin = {"Authorization": f"Bearer {closed.token}"}, {"Origin": closed.url}
    begun = http.post("/login", data={"name": "ada", "password": f"{SECRET} password"}, headers=origin)
    assert begun.status_code == 303
    cookie = begun.cookies["driftline"]
    http.get("/devices", headers={"Cookie": f"driftline={cookie}"})
    # Wrong ones, in every place that is asked for one, and in some that are not.
    http.post("/login", data={"name": "ada", "password": f"wrong {SECRET}"}, headers=origin)
    http.post("/login", data={"name": f"{SECRET}", "password": "pasted into the wrong field"}, headers=origin)
    http.get("/setup", params={"token": SECRET})
    http.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": f"dlr_{SECRET}"})
    http.get("/api/v1/me", headers={"Authorization": f"Bearer dlt_{SECRET}"})
    http.get("/api/v1/me", headers={"Authorization": f"Basic {SECRET}"})
    http.get(f"/{SECRET}/{SECRET}.json", params={"password": SECRET})
    http.get(f"/api/v1/devices/{SECRET}", headers=admin)
    http.get("/api/v1/me", headers={"X-Request-Id": f"{SECRET} with spaces"})
    http.post("/api/v1/join", json={"secret": SECRET, "software": "test"})
    http.post("/api/v1/people", content=f'{{"name": "x", "password": "{SECRET}", ', headers=admin)
    http.post("/api/v1/people", json={"name": "x", "password": f"{SECRET} is long enough"}, headers=admin)
    http.post("/api/v1/me/password", json={"password": SECRET, "new_password": SECRET}, headers=admin)
    # Channels whose addresses are secrets, which cannot be reached; a notification that fails for good.
    target = {"kind": "webhook", "url": f"http://ada:{SECRET}@127.0.0.1:9/{SECRET}?key={SECRET}"}
    http.post("/api/v1/notifications/channels", json={"name": "a", "target": target}, headers=admin)
    target = {"kind": "webhook", "url": f"http://127.0.0.1:9/{SECRET}?key={SECRET}"}
    assert http.post("/api/v1/notifications/channels", json={"name": "b", "target": target}, headers=admin).is_success
    http.post("/api/v1/notifications/channels/b/test", headers=admin)
    with closed.database.writing() as connection:
        causes.gather(connection, Part("p", "silent", "till-1", closed.now_ns(), text="…"), closed.now_ns())
    Round(closed, network_of(closed)).run()
    # A bug while a secret is in the statement's parameters, and one whose own words hold an address.
    with closed.database.writing() as connection:
        connection.execute(text("ALTER TABLE people RENAME TO others"))
    broken = {"name": "y", "password": f"{SECRET} is long enough"}
    assert http.post("/api/v1/people", json=broken, headers=admin).status_code in {401, 500}
    http.post("/login", data={"name": f"{SECRET}", "password": SECRET}, headers=origin)
    journal.tell("it failed", ValueError(f"no answer from https://x:{SECRET}@db.example/{SECRET}, token: dlt_{SECRET}"))
    found = lines(capsys, 22)
    assert sum(line["message"] == "request" for line in found) >= 18
    assert sum("traceback" in line for line in found) >= 3
    said = json.dumps(found).lower()
    for secret in (SECRET, cookie[4:], closed.token[4:]):
        assert secret.lower() not in said


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("tgram://12345:AAE/678 did not answer", "tgram://… did not answer"),
        ("postgresql://ada:pw@db.example:5432/x refused", "postgresql://db.example:5432/… refused"),
        ("https://hooks.example/T0/B1/xyz said 404", "https://hooks.example/… said 404"),
        ("see http://127.0.0.1:8710/, then go on", "see http://127.0.0.1:8710/, then go on"),
        ("dl1.eyJ1IjoiaHR0cCJ9 was used", "dl1.… was used"),
        ("{'password': 'a b', \"token\": \"x\"}", "{'password': …, \"token\": …}"),
        ("Cookie: driftline=dls_abc", "Cookie: …"),
        ("whsec_c2VjcmV0 and Bearer abc.def", "whsec_… and Bearer …"),
        ("/srv/driftline/hub.db cannot grow: the disk is full", "/srv/driftline/hub.db cannot grow: the disk is full"),
    ],
)
def test_what_looks_like_a_secret_is_left_out_and_nothing_else(dirty: str, clean: str) -> None:
    assert journal.clean(dirty) == clean
