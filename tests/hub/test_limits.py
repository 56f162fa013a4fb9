"""How much one caller may ask, how large and how slowly: what is beyond is refused in words, and held by nobody."""

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.hub import http as layer
from driftline.hub import limits
from driftline.hub.limits import Buckets, Limits
from driftline.hub.patience import Patient
from driftline.sdk.http import Connection
from driftline.wire import api


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


# ── token buckets ────────────────────────────────────────────────────────────────────────────────────────────────


@given(rate=st.floats(0.1, 100), burst=st.integers(1, 50), pauses=st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_no_caller_ever_gets_more_than_its_burst_and_its_rate(rate: float, burst: int, pauses: list[float]):
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    granted = 0
    for pause_s in pauses:
        clock.now_s += pause_s
        granted += sum(buckets.wait_s("camera-1") == 0 for _ in range(5))
    assert granted <= burst + rate * clock.now_s + 1e-6


@given(rate=st.floats(0.1, 100), burst=st.integers(1, 50))
def test_who_waits_as_told_is_let_in_and_not_sooner(rate: float, burst: int):
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    while not (wait_s := buckets.wait_s("camera-1")):
        pass
    clock.now_s += wait_s * 0.9
    assert buckets.wait_s("camera-1") > 0
    clock.now_s += wait_s * 0.1 + 1e-9
    assert buckets.wait_s("camera-1") == 0


def test_one_callers_haste_is_nobody_elses():
    buckets = Buckets(1, 1, Clock())
    assert [buckets.wait_s("mad"), buckets.wait_s("mad"), buckets.wait_s("quiet")] == [0, 1, 0]


def test_a_clock_that_steps_back_takes_nothing_away():
    clock = Clock()
    buckets = Buckets(1, 2, clock)
    clock.now_s = -100.0
    assert [buckets.wait_s("a"), buckets.wait_s("a")] == [0, 0]


def test_so_many_callers_are_remembered_and_no_more():
    buckets = Buckets(1, 1, Clock(), callers_max=3)
    for caller in "abcd":
        buckets.wait_s(caller)
    assert len(buckets._left) == 3
    assert (buckets.wait_s("d"), buckets.wait_s("a")) == (1, 0)


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def http(hub: Any):
    with httpx2.Client(base_url=hub.url, trust_env=False) as client:
        yield client


def test_a_program_in_a_loop_is_told_when_to_come_again(hub: Any, http: Any):
    clock = Clock()
    hub.limits = Limits(people=Buckets(0.5, 2, clock))
    assert [http.get("/api/v1/version").status_code for _ in range(3)] == [200, 200, 429]
    reply = http.get("/devices")
    assert (reply.status_code, reply.headers["content-type"]) == (429, "text/html; charset=utf-8")
    reply = http.get("/api/v1/devices")
    assert reply.headers["Retry-After"] == "2"
    assert reply.json()["error"]["code"] == "temporary"
    clock.now_s = 2.0
    assert http.get("/api/v1/version").status_code == 200


def test_the_sdk_waits_as_long_as_the_hub_says(hub: Any):
    clock = Clock()
    hub.limits = Limits(people=Buckets(0.25, 1, clock))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now_s += seconds

    connection = Connection(hub.url, sleep=sleep)
    assert [connection.get("/version", api.Version).api for _ in range(3)] == [1, 1, 1]
    assert slept == [4.0, 4.0]
    connection.close()


def test_a_device_that_goes_mad_does_not_hold_up_another(hub: Any, ask: Any):
    till = ask.observed_pipeline()
    mad, quiet = ask.joined("mad", till), ask.joined("quiet", till)
    hub.limits = Limits(devices=Buckets(1, 2, Clock()))
    replies = [mad.post(mad.batch([])) for _ in range(3)]
    assert [one.status_code for one in replies] == [200, 200, 429]
    assert replies[-1].headers["Retry-After"] == "1"
    assert quiet.post(quiet.batch([])).status_code == 200


def test_who_guesses_signatures_is_slowed_down_and_the_device_itself_is_not(hub: Any, ask: Any):
    device = ask.joined("camera", ask.observed_pipeline())
    hub.limits = Limits(strangers=Buckets(1, 2, Clock()))
    body = device.batch([])
    guesses = [device.post(body, key=bytes([at]) * 32, request=5).status_code for at in range(3)]
    assert guesses == [403, 403, 429]
    assert device.post(body, request=6).status_code == 200


def test_who_guesses_join_tokens_is_slowed_down(hub: Any, http: Any):
    hub.limits = Limits(strangers=Buckets(1, 2, Clock()))
    guesses = [http.post("/api/v1/join", json={"secret": str(at)}).status_code for at in range(3)]
    assert guesses == [403, 403, 429]


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(hub: Any):
    with raw(hub) as connection:
        connection.sendall(b"POST /api/v1/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_at_the_limit(http: Any):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield b" " * 10_000

    with suppress(httpx2.TransportError):  # the hub hangs up on what nobody reads
        assert http.post("/api/v1/join", content=endless()).status_code == 413
    assert sent < 50_000_000


@pytest.mark.parametrize("path", ["/api/v1/workspaces", "/api/v1/sync", "/incidents/1/resolve"])
def test_a_compressed_body_is_refused_unread(http: Any, path: str):
    bomb = gzip.compress(b" " * 10_000_000)
    reply = http.post(path, content=bomb, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 415


def test_a_head_that_is_too_large_is_refused(http: Any):
    reply = http.get("/api/v1/version", headers={"X-Padding": "x" * limits.HEAD_BYTES_MAX})
    assert (reply.status_code, reply.json()["error"]["code"]) == (431, "invalid")
    assert http.get("/api/v1/version?" + "x" * limits.HEAD_BYTES_MAX).status_code == 431


def test_a_head_beyond_all_measure_ends_the_connection(hub: Any):
    with raw(hub) as connection:
        connection.sendall(b"GET /api/v1/version HTTP/1.1\r\nX-Padding: " + b"x" * 5 * limits.HEAD_BYTES_MAX)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


# ── slow clients ─────────────────────────────────────────────────────────────────────────────────────────────────


def raw(hub: Any) -> socket.socket:
    host, port = hub.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@pytest.mark.parametrize(
    "begun", [b"", b"GET /api/v1/version HTT", b"GET /api/v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\n"]
)
def test_who_never_says_what_they_want_is_hung_up_on(hub: Any, monkeypatch: pytest.MonkeyPatch, begun: bytes):
    monkeypatch.setattr(Patient, "head_timeout_s", 0.1)
    with raw(hub) as connection:
        connection.sendall(begun)
        assert connection.recv(4096) == b""


def test_a_byte_now_and_then_does_not_buy_more_time(hub: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Patient, "head_timeout_s", 0.2)
    with raw(hub) as connection:
        began_s = time.monotonic()
        connection.settimeout(0.05)
        ended = False
        while not ended and time.monotonic() - began_s < 15:
            try:
                connection.sendall(b"x")
                ended = connection.recv(4096) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended


def test_a_connection_that_was_answered_may_ask_again_after_a_while(hub: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Patient, "head_timeout_s", 1.0)
    ask = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with raw(hub) as connection:
        for _ in range(2):
            connection.sendall(ask)
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(1.2)  # longer than a head may take: between requests nobody is in a hurry


def test_a_body_that_stops_coming_is_not_waited_for(hub: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layer, "BODY_IDLE_S", 0.1)
    with raw(hub) as connection:
        connection.sendall(b"POST /api/v1/workspaces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_an_upload_that_stops_coming_leaves_nothing_behind(hub: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layer, "BODY_IDLE_S", 0.1)
    with raw(hub) as connection:
        connection.sendall(b"PUT /api/v1/models/x/file HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert list(hub.temporary.iterdir()) == []


def test_a_slow_link_is_waited_for_and_drops_are_not():
    assert not limits.too_slow(size=2_000, seconds=50)
    assert limits.too_slow(size=2_000, seconds=70)
    assert not limits.too_slow(size=1_000 * 600, seconds=600)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_markup_in_every_name_stays_text_on_every_page(ask: Any, http: Any):
    bad = "<script>alert(1)<&\"'>"  # a slash cannot be in a name
    workspace = ask.workspace(bad)["id"]
    pipeline = ask.observed_pipeline(bad, workspace)
    device = ask.joined(bad, pipeline)
    version = pipeline["versions"][0]["id"]
    start_s = ask.hub.now_ns() // 10**9 // 60 * 60 - 120
    device.send(device.counted(version, start_s, {"out.total": [1.0] * 30, f"out.{bad}": [1.0] * 30}))
    spec = {
        "name": bad,
        "pipeline": pipeline["id"],
        "watched": [{"field": "out.total", "iopath": "output total 0"}],
        "baseline": {"values": {"out.total": [1.0, 2.0, 3.0] * 20}},
    }
    assay = ask.post(f"/workspaces/{workspace}/assays", spec)["id"]
    for page in ("/", "/devices", f"/devices/{ask_quoted(bad)}", "/assays", f"/assays/{assay}", "/pipelines"):
        text = http.get(page)
        assert text.status_code == 200, page
        assert "<script>alert" not in text.text, page
    assert "&lt;script&gt;alert" in http.get("/assays").text
    refused = http.get(f"/api/v1/devices/{ask_quoted(bad + '!')}").json()["error"]["message"]
    assert "<script>" in refused  # JSON, which no browser takes for a page


def ask_quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
