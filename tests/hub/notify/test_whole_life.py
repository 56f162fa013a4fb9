"""An incident's whole life, against a real mail server and a real webhook receiver, and a hub that is killed.

The hub is a process of its own and gets SIGKILL: while a receiver holds its request, and right after a person was
answered. Devices send real, signed batches.
"""

import base64
import hashlib
import hmac
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftline.clock import NS_PER_S
from driftline.wire.device import BASE_WINDOW_S
from tests.hub.conftest import Api

PROGRAM = Path(__file__).with_name("hub_process.py")
PATIENCE_S = 90.0
USUAL, BLURRED = [300.0, 350.0, 400.0, 450.0, 500.0] * 8, [60.0, 70.0, 80.0, 90.0, 100.0] * 8


class Hub:
    """A hub's process on a folder; it may be killed and started again at the same address."""

    def __init__(self, home: Path) -> None:
        self.home, self.port, self.url = home, 0, ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.home.parent / "hub.log").open("ab")
        command = [sys.executable, str(PROGRAM), str(self.home), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url, (self.home.parent / "hub.log").read_text()
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait(PATIENCE_S) == -signal.SIGKILL

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    home = tmp_path / "home"
    home.mkdir()
    made = Hub(home)
    made.start()
    yield made
    made.end()


def until(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def is_signed(secret: str, got: Any) -> bool:
    """Verify as a receiver does."""
    identity, timestamp = got.headers["webhook-id"], got.headers["webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + got.body, hashlib.sha256).digest()
    said = got.headers["webhook-signature"].partition(",")[2]
    return hmac.compare_digest(said, base64.b64encode(digest).decode()) and abs(time.time() - int(timestamp)) < 300


@pytest.mark.slow
def test_every_change_of_an_incident_arrives_with_one_event_id_though_the_hub_is_killed(  # noqa: PLR0915  one life
    hub: Hub, receiver: Any, mail_server: Any
):
    box = mail_server()
    ask = Api(hub)
    secret = ask.post(
        "/notifications/channels", {"name": "ops", "wait_s": 0, "target": {"kind": "webhook", "url": receiver.url}}
    )["secret"]
    email = {
        "kind": "email", "host": "127.0.0.1", "port": box.port, "security": "none", "sender": "hub@example.org",
        "to": ["ada@example.org"],
    }  # fmt: skip
    ask.post("/notifications/channels", {"name": "mail", "wait_s": 0, "target": email})

    pipeline = ask.observed_pipeline("till")
    version = pipeline["versions"][0]["id"]
    tills = [ask.joined(name, pipeline) for name in ("till-1", "till-2")]
    for one in tills:
        ask.http.put(f"/devices/{one.name}/site", json={"site": "Berlin"}).raise_for_status()
    start_s = int(time.time()) // BASE_WINDOW_S * BASE_WINDOW_S - 40 * BASE_WINDOW_S
    at = dict.fromkeys((one.name for one in tills), start_s)

    def counts(device: Any, *windows: list[float]) -> None:
        records = []
        for values in windows:
            records.append(device.counted(version, at[device.name], {"out.sharpness": values}))
            at[device.name] += BASE_WINDOW_S
        device.send(*records, complete_until_ns={version: at[device.name] * NS_PER_S})

    for one in tills:
        counts(one, USUAL)
    assay = ask.post(
        f"/workspaces/{pipeline['workspace']}/assays",
        {
            "name": "sharp enough",
            "pipeline": pipeline["id"],
            "watched": [{"field": "out.sharpness", "iopath": "output sharpness 0"}],
            "baseline": {"values": {"out.sharpness": USUAL * 5}},
            "windows": {"width_s": BASE_WINDOW_S, "start_ns": start_s * NS_PER_S},
        },
    )

    # Opened: the receiver has it and says nothing yet when the hub is killed.
    receiver.hold.clear()
    counts(tills[0], BLURRED)
    assert receiver.got.acquire(timeout=PATIENCE_S)
    hub.kill()
    receiver.hold.set()
    hub.start()
    until(lambda: len(receiver.received) >= 2 and box.mails)
    first, again = receiver.received[:2]
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.body == again.body

    # Widened by the other device of the site, acknowledged, and silenced for a second.
    counts(tills[1], BLURRED)
    (incident,) = until(lambda: [one for one in ask.get("/incidents")["items"] if len(one["devices"]) == 2])
    assert (incident["assay_id"], incident["site"], incident["state"]) == (assay["id"], "Berlin", "open")
    address = f"/incidents/{incident['id']}"
    ask.post(f"{address}/acknowledge", {"by": "Ada", "note": "the lamp over till 1"})
    # Killed as soon as the person was answered: what was answered is kept, and will be told.
    hub.kill()
    hub.start()
    assert ask.get(address)["acknowledged_by"] == "Ada"
    ask.post(f"{address}/silence", {"by": "Ada", "for_s": 1})
    until(lambda: ask.get(address)["state"] == "acknowledged")

    # Resolved by three windows that are as usual on both, back again, and resolved by hand.
    for one in tills:
        counts(one, USUAL, USUAL, USUAL)
    until(lambda: ask.get(address)["state"] == "resolved")
    counts(tills[1], BLURRED)
    reopened = until(lambda: [one for one in ask.get("/incidents", open="true")["items"] if one["kind"] == "drift"])
    assert [(one["id"], one["reopened"], one["acknowledged_by"]) for one in reopened] == [(incident["id"], 1, None)]
    ask.post(f"{address}/resolve", {"by": "Grace"})

    history = ask.get(f"{address}/history")["items"]
    assert [(one["change"], one["actor"]) for one in history] == [
        ("opened", "hub"), ("widened", "hub"), ("acknowledged", "Ada"), ("silenced", "Ada"), ("unsilenced", "hub"),
        ("resolved", "hub"), ("reopened", "hub"), ("resolved", "Grace"),
    ]  # fmt: skip
    events = [one["event_id"] for one in history]
    assert len(set(events)) == len(events)

    def told(channel: str) -> list[Any]:
        found = ask.get(f"{address}/notifications")["items"]
        return [one for one in found if one["channel"] == channel and one["state"] == "delivered"]

    until(lambda: len(told("ops")) == len(told("mail")) == len(events))
    # Each arrived at least once, with its id; who drops what it has heard before has each once, and in order.
    heard = [one for one in receiver.received if msgspec.json.decode(one.body)["subject"] == incident["id"]]
    assert list(dict.fromkeys(one.headers["webhook-id"] for one in heard)) == events
    assert len(heard) > len(events)
    assert all(is_signed(secret, one) for one in receiver.received)
    mails = [one for one in box.mails if incident["id"] in str(one["References"])]
    assert list(dict.fromkeys(one["X-Driftline-Event"] for one in mails)) == events
    assert str(mails[0]["Subject"]) == "[driftline] drift (sharp enough) on till-1 at Berlin"
    assert [part.get_content()[:8] for part in mails[0].walk() if part.get_content_type() == "image/png"] == [
        b"\x89PNG\r\n\x1a\n"
    ]
