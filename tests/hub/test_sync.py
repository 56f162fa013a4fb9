"""Real devices (spool, exchange, transport) against a real hub, through what befalls either: all arrives, once."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftline.clock import NS_PER_S, SystemClock
from driftline.edge.agent import Agent
from driftline.edge.exchange import Exchange, Outcome
from driftline.edge.home import Home
from driftline.edge.join import join
from driftline.edge.transport import Transport
from driftline.edge.uplink import RequestNumbers
from driftline.errors import NotAllowedError
from driftline.hub.scorer import Round
from driftline.spool.spool import Spool
from driftline.wire.device import BatchHead, WindowRecord, encode_batch, encode_event, encode_window

START_S = 1_767_261_600  # 2026-01-01T10:00:00+00:00


class Machine:
    """A machine with a device's home on it: everything but the threads."""

    def __init__(self, path: Path, pv: str) -> None:
        self.home, self.pv = Home(path), pv
        self.identity = self.home.identity()
        self.spool = Spool(self.home.spool, now_ns=time.time_ns)
        self.exchange = Exchange(self.spool, self.identity.name)
        self.transport = Transport(self.identity, RequestNumbers(self.spool))
        self.closed_ns = 0

    def counts(self, *minutes: int) -> None:
        """Close these windows; each has as many inferences as its number says, so that none is like another."""
        for minute in minutes:
            window = WindowRecord(self.pv, START_S + 60 * minute, 60, minute, ())
            self.spool.append("window", encode_window(window))
            self.closed_ns = max(self.closed_ns, (START_S + 60 * minute + 60) * NS_PER_S)

    def sync(self, *, loses_reply: bool = False) -> Outcome | None:
        head = BatchHead(self.identity.name, "", complete_until_ns={self.pv: self.closed_ns})
        sent = self.exchange.request(head, time.time_ns())
        reply = self.transport.sync(encode_batch(sent.head, sent.records))
        return None if loses_reply else self.exchange.answered(sent, reply)

    def drain(self) -> None:
        for _ in range(20):
            outcome = self.sync()
            assert outcome is not None
            if not outcome.more:
                return
        raise AssertionError("it never stops")

    def stop(self) -> None:
        self.transport.close()
        self.spool.close()


@pytest.fixture
def till(ask: Any) -> Any:
    return ask.observed_pipeline()


@pytest.fixture
def pv(till: Any) -> str:
    return till["versions"][0]["id"]


@pytest.fixture
def token(ask: Any, till: Any) -> Callable[[str], str]:
    """Makes a token that joins a device."""

    def make(name: str) -> str:
        publish = ask.post(f"/pipelines/{till['id']}/publish")
        return ask.post(f"/publishes/{publish['id']}/edges", {"name": name})["token"]

    return make


@pytest.fixture
def machine(token: Callable[[str], str], pv: str, tmp_path: Path) -> Machine:
    join(Home(tmp_path / "camera-1"), token("camera-1"))
    return Machine(tmp_path / "camera-1", pv)


def minutes(hub: Any, till: Any, name: str = "camera-1") -> list[int]:
    """Return the windows the hub has of a device, with every repetition."""
    found = hub.telemetry._all(
        "SELECT start_s, inferences FROM windows WHERE pipeline=? AND device=? ORDER BY start_s",
        (hub.telemetry._known(till["id"]), hub.telemetry._known(name)),
    )
    assert all((start_s - START_S) // 60 == inferences for start_s, inferences in found)
    return [inferences for _, inferences in found]


def test_what_was_counted_arrives_and_what_comes_again_is_known(hub: Any, till: Any, machine: Machine):
    machine.counts(1, 2, 3)
    machine.sync(loses_reply=True)
    machine.counts(4)
    machine.sync(loses_reply=True)
    machine.drain()
    assert minutes(hub, till) == [1, 2, 3, 4]
    assert machine.spool.backlog == 0


def test_a_hub_restored_from_an_older_backup_gets_every_record_again_that_the_device_still_has_once(
    hub: Any, ask: Any, till: Any, machine: Machine, tmp_path: Path
):
    machine.counts(1, 2)
    machine.drain()
    backup = tmp_path / "backup.db"
    copied(hub.database.path, backup)
    machine.counts(3, 4)
    machine.drain()
    machine.counts(5)
    machine.drain()
    restored(hub, backup)
    assert minutes(hub, till) == [1, 2]
    machine.counts(6)
    first = machine.sync(loses_reply=True)
    assert first is None
    outcome = machine.sync()
    assert outcome is not None
    assert (outcome.asked_again, outcome.more) == (3, True)
    machine.drain()
    assert minutes(hub, till) == [1, 2, 3, 4, 5, 6]
    assert hub.telemetry.complete_until_ns(till["id"], "camera-1") == (START_S + 7 * 60) * NS_PER_S
    (event,) = hub.telemetry.events("camera-1", "asked_again")  # though it was answered twice
    assert event["synced"] < event["previous"]


def test_a_restored_hub_does_not_take_for_told_what_it_lacks(hub: Any, till: Any, machine: Machine, tmp_path: Path):
    machine.counts(1)
    machine.drain()
    copied(hub.database.path, tmp_path / "backup.db")
    machine.counts(2, 3)
    machine.drain()
    restored(hub, tmp_path / "backup.db")
    machine.sync()
    assert hub.telemetry.complete_until_ns(till["id"], "camera-1") == (START_S + 2 * 60) * NS_PER_S


def copied(source: Path, target: Path) -> None:
    """Make a backup as an owner would: of a database in use, with what only its log holds."""
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)
    one.close()
    other.close()


def restored(hub: Any, backup: Path) -> None:
    """Put a backup in the place of the database, as with a hub that was stopped."""
    hub.database.close()
    for suffix in ("-wal", "-shm"):
        hub.database.path.with_name(hub.database.path.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(backup, hub.database.path)
    hub.telemetry._ids.clear()
    hub.telemetry._names.clear()
    for looked_up in (hub.grids, hub.granted, hub.desired):
        looked_up.clear()


# ── two machines, new disks ──────────────────────────────────────────────────────────────────────────────────────


def test_a_cloned_home_loses_nothing_and_is_an_incident(
    hub: Any, ask: Any, till: Any, machine: Machine, tmp_path: Path, pv: str, token: Callable[[str], str]
):
    machine.counts(1)
    machine.drain()
    machine.counts(2)  # waits on both
    machine.stop()
    shutil.copytree(machine.home.path, tmp_path / "copy")
    one, other = Machine(machine.home.path, pv), Machine(tmp_path / "copy", pv)
    for minute in (3, 4, 5):
        one.counts(minute)
        other.counts(minute + 10)
        one.drain()
        other.drain()
    assert minutes(hub, till) == [1, 2, 3, 4, 5, 13, 14, 15]
    assert one.spool.epoch != other.spool.epoch
    Round(hub).run()
    (incident,) = ask.get("/incidents")["items"]
    assert (incident["kind"], incident["device"]) == ("identity conflict", "camera-1")
    assert "remove the device here" in incident["text"]
    assert "identity conflict" in ask.get("/devices/camera-1")["states"]

    # The way out: each joins anew, under a name of its own.
    ask.delete("/devices/camera-1")
    other.counts(16)
    with pytest.raises(NotAllowedError, match="--anew"):
        other.sync()
    for number, each in enumerate((one, other), 1):
        each.stop()
        join(each.home, token(f"camera-{number}"), anew=True)
    one, other = Machine(one.home.path, pv), Machine(other.home.path, pv)
    one.counts(6)
    for _ in range(2):
        one.drain()
        other.drain()
    assert minutes(hub, till) == [1, 2, 3, 4, 5, 6, 13, 14, 15]
    assert minutes(hub, till, "camera-2") == [16]  # what waited there is kept
    Round(hub).run()
    assert ask.get("/incidents", open="true")["items"] == []


def test_two_machines_that_never_meet_under_one_number_are_seen_by_their_epochs(
    hub: Any, ask: Any, machine: Machine, pv: str
):
    for _ in range(2):
        for epoch in ("of-one", "of-the-other"):
            head = BatchHead("camera-1", epoch)
            machine.transport.sync(encode_batch(head, []))
    assert "identity conflict" in ask.get("/devices/camera-1")["states"]


def test_an_incident_of_a_conflict_that_was_resolved_by_hand_stays_so_until_the_next(
    hub: Any, ask: Any, machine: Machine
):
    for epoch in ("one", "other", "one"):
        machine.transport.sync(encode_batch(BatchHead("camera-1", epoch), []))
    Round(hub).run()
    (incident,) = ask.get("/incidents")["items"]
    ask.post(f"/incidents/{incident['id']}/resolve")
    Round(hub).run()
    assert [one["resolved_ns"] is None for one in ask.get("/incidents")["items"]] == [False]


def test_a_spool_that_was_deleted_begins_another_epoch(hub: Any, ask: Any, till: Any, machine: Machine, pv: str):
    machine.counts(1, 2)
    machine.drain()
    machine.stop()
    for path in machine.home.path.glob("spool.db*"):
        path.unlink()
    machine = Machine(machine.home.path, pv)
    machine.counts(3, 4)  # under the same numbers as 1 and 2
    machine.drain()
    assert minutes(hub, till) == [1, 2, 3, 4]
    assert ask.get("/devices/camera-1")["states"] == ["healthy"]


def test_a_device_that_was_imaged_anew_joins_again_and_goes_on(
    hub: Any, ask: Any, till: Any, machine: Machine, pv: str, token: Callable[[str], str]
):
    machine.counts(1, 2)
    machine.drain()
    machine.stop()
    shutil.rmtree(machine.home.path)
    ask.delete("/devices/camera-1")
    join(machine.home, token("camera-1"))
    machine = Machine(machine.home.path, pv)
    machine.counts(3)
    machine.drain()
    assert minutes(hub, till) == [1, 2, 3]


def test_a_device_whose_clock_and_spool_went_back_is_believed_at_its_second_try(
    hub: Any, till: Any, machine: Machine, pv: str
):
    machine.counts(1)
    machine.drain()
    machine.stop()
    for path in machine.home.path.glob("spool.db*"):
        path.unlink()
    machine = Machine(machine.home.path, pv)
    machine.transport = Transport(machine.identity, RequestNumbers(machine.spool, lambda: 0))  # 1970
    machine.counts(2)
    machine.drain()
    assert minutes(hub, till) == [1, 2]


# ── a device that was removed ────────────────────────────────────────────────────────────────────────────────────


def wait_for(ask: Callable[[], Any], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := ask()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def test_what_waits_on_a_device_that_was_removed_stays_and_goes_when_it_joins_again(
    hub: Any, ask: Any, till: Any, machine: Machine, token: Callable[[str], str]
):
    machine.stop()
    ask.delete("/devices/camera-1")
    agent = Agent(machine.home, machine.identity, SystemClock(), None)
    thread = threading.Thread(target=agent.serve)
    thread.start()
    window = encode_window(WindowRecord(machine.pv, START_S + 60, 60, 1, ()))
    agent.answer(1, {"type": "record", "kind": "window"}, window)
    error = wait_for(lambda: agent.status()["sync_error"])
    assert "What waits on it is kept" in error
    assert "driftline edge join TOKEN --anew" in error
    assert agent.status()["backlog"] == 1
    agent.stop()
    thread.join()
    assert minutes(hub, till) == []
    join(machine.home, token("camera-1"), anew=True)
    again = Machine(machine.home.path, machine.pv)
    again.drain()
    assert minutes(hub, till) == [1]


# ── how the link is used ─────────────────────────────────────────────────────────────────────────────────────────


def test_how_a_link_is_to_be_used_reaches_the_device(hub: Any, ask: Any, machine: Machine):
    wish = {"rows_kb_a_day": 200, "newest_first": True}
    answer = ask.http.put("/devices/camera-1/link", json=wish)
    assert (answer.status_code, answer.json()["link"]) == (200, wish)
    reply = machine.transport.sync(encode_batch(BatchHead("camera-1", "e"), []))
    assert reply.desired is not None
    assert (reply.desired.rows_kb_a_day, reply.desired.newest_first) == (200, True)
    assert ask.http.put("/devices/camera-1/link", json={"rows_kb_a_day": -1}).status_code == 400
    assert ask.http.put("/devices/camera-9/link", json=wish).status_code == 404


def test_what_a_device_had_to_drop_shows_on_its_page(hub: Any, ask: Any, machine: Machine):
    facts = {"where": "spool", "counts": {"window": 3, "rows": 2}}
    windows = {machine.pv: {"count": 3, "inferences": 90, "first_s": START_S, "last_s": START_S + 120}}
    machine.spool.append("event", encode_event("dropped", START_S * NS_PER_S, **facts, windows=windows))
    machine.drain()
    assert ask.get("/devices/camera-1")["dropped"] == {"window": 3, "rows": 2}
    page = ask.http.get(hub.url + "/devices/camera-1").text
    assert "dropped window" in page
    assert "counts (window 3, rows 2)" in page
