"""Who may ask the hub, and how it answers what it does not know."""

from typing import Any

import httpx2
import pytest

from driftline.clock import NS_PER_S
from driftline.hub.server import Guard, is_loopback


@pytest.fixture
def http(hub: Any):
    with httpx2.Client(base_url=hub.url, trust_env=False) as client:
        yield client


def test_version_says_who_answers(http: Any):
    answer = http.get("/api/v1/version").json()
    assert answer["api"] == 1
    assert answer["banner"] is None
    assert answer["now_ns"] > 1_700_000_000 * NS_PER_S


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8710", "10.0.0.1", "", "127.0.0.1.evil.example"])
def test_a_name_that_is_not_this_machines_is_refused(http: Any, host: str):
    reply = http.get("/api/v1/devices", headers={"Host": host})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_allowed")


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:8710", "127.8.9.1:80"])
def test_any_loopback_name_is_answered(http: Any, host: str):
    assert http.get("/api/v1/devices", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(http: Any, headers: Any):
    reply = http.post("/api/v1/workspaces", json={"name": "shop"}, headers=headers)
    assert reply.status_code == 403
    assert http.get("/api/v1/workspaces").json() == {"items": []}


def test_the_hubs_own_pages_and_programs_may_change_things(http: Any, hub: Any):
    own = {"Origin": hub.url, "Sec-Fetch-Site": "same-origin"}
    assert http.post("/api/v1/workspaces", json={"name": "one"}, headers=own).status_code == 200
    assert http.post("/api/v1/workspaces", json={"name": "two"}).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/version", "/api/v1/nothing"])
def test_every_answer_carries_headers_that_browsers_obey(http: Any, path: str):
    headers = http.get(path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_what_nobody_answers_is_in_the_one_envelope(http: Any):
    reply = http.get("/api/v1/nothing")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert http.delete("/api/v1/workspaces").status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": 3}', b'{"nome": "x"}', b"\xff"])
def test_a_body_that_cannot_be_read_is_refused_with_its_reason(http: Any, body: Any):
    reply = http.post("/api/v1/workspaces", content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid")
    assert "cannot be read" in reply.json()["error"]["message"]


def test_a_body_beyond_its_bounds_is_refused(http: Any):
    reply = http.post("/api/v1/join", content=b" " * 70_000)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "invalid")
    assert "larger than" in reply.json()["error"]["message"]


OWN = "192.168.1.2"


def scope(path: str, client: Any, host: str = "127.0.0.1"):
    ends = {"client": (client, 1), "server": (OWN, 8710)}
    return {"type": "http", "method": "GET", "path": path, **ends, "headers": [(b"host", host.encode())]}


@pytest.mark.parametrize(
    ("path", "client", "host", "refused"),
    [
        ("/api/v1/devices", "192.168.1.7", "192.168.1.2", True),
        ("/", "192.168.1.7", "127.0.0.1", True),
        ("/api/v1/sync", "192.168.1.7", "192.168.1.2", False),
        ("/api/v1/join", "192.168.1.7", "192.168.1.2", False),
        ("/api/v1/bundles/ab", "192.168.1.7", "192.168.1.2", False),
        ("/api/v1/devices", "127.0.0.1", "127.0.0.1:8710", False),
        ("/api/v1/devices", "::1", "localhost", False),
        ("/api/v1/devices", OWN, f"{OWN}:8710", False),
        ("/api/v1/devices", OWN, "evil.example", True),
        ("/api/v1/devices", "192.168.1.7", OWN, True),
    ],
)
def test_from_other_machines_only_devices_may_ask(path: str, client: Any, host: str, refused: Any):
    guard = Guard(app=None, local_only=True)
    assert (guard._reason_against(scope(path, client, host)) is not None) is refused


def test_loopback_is_known_in_every_spelling():
    assert all(map(is_loopback, ["127.0.0.1", "127.255.0.9", "::1", "LocalHost", "::ffff:127.0.0.1"]))
    assert not any(map(is_loopback, ["", "10.0.0.0", "10.1.1.1", "localhost.evil.example", "::"]))
