"""Probes: `/healthz` says that the process answers, `/readyz` whether it can work and what keeps it from that."""

from typing import Any, NamedTuple

import httpx2
import pytest

from driftline.errors import TemporaryError
from driftline.hub import health


class Usage(NamedTuple):
    free: int


@pytest.fixture
def http(hub: Any):
    with httpx2.Client(base_url=hub.url, trust_env=False) as client:
        yield client


def test_a_hub_that_works_says_so_and_nothing_of_its_fleet(hub: Any, http: Any):
    hub.threads["scorer"] = lambda: True
    assert http.get("/healthz").json() == {"status": "ok", "parts": []}
    assert http.get("/readyz").json() == {"status": "ready", "parts": ["database", "disk", "scorer"]}


def test_a_probe_may_come_from_anywhere(http: Any):
    assert http.get("/readyz", headers={"Host": "hub.example"}).status_code == 200


def test_a_thread_that_ended_makes_it_not_ready_but_alive(hub: Any, http: Any):
    hub.threads["scorer"] = lambda: False
    reply = http.get("/readyz")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    assert "scorer: it ended" in reply.json()["error"]["message"]
    assert http.get("/healthz").status_code == 200


def test_a_full_disk_makes_it_not_ready(http: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: Usage(3 * 1024 * 1024))
    assert "disk: 3 MB are free" in http.get("/readyz").json()["error"]["message"]


def test_a_database_that_does_not_answer_makes_it_not_ready(hub: Any, http: Any, monkeypatch: pytest.MonkeyPatch):
    def held() -> None:
        raise TemporaryError("it is held by another program")

    monkeypatch.setattr(hub.database, "reading", held)
    assert "database: it is held" in http.get("/readyz").json()["error"]["message"]
