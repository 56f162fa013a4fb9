"""Full disks, by one's own or somebody else's file, and failing ones: nothing is acknowledged that is not kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import FULL, Client, Device, Fault, Hub, failing, fill, lacking, resized

needs_strace = pytest.mark.skipif(bool(lacking("strace")), reason=str(lacking("strace")))
TRIES_S = 1.0


FAILURES = [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")] if FULL else [("fdatasync", "EIO")]

ONCE = [
    *(("fdatasync", "EIO", number) for number in (range(1, 16) if FULL else (2, 5))),
    *(("pwrite64", "ENOSPC", number) for number in (range(1, 46) if FULL else (9,))),
    *(("fsync", "EIO", number) for number in (range(1, 4) if FULL else ())),
]


# ── full ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_whose_disk_somebody_else_filled_goes_on_when_there_is_room(
    small_disk: Path, shared_hub: Any, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    device = started(Device(shared_hub, tmp_path, bulky=True, home=small_disk / "device"))
    device.go(online=False)
    device.start()
    device.make(20)
    assert device.deliver()
    fill(small_disk / "foreign")
    device.make(100)
    device.deliver(TRIES_S)
    (small_disk / "foreign").unlink()
    assert device.deliver(), device.text
    device.drain()
    report("disk full by a foreign file: agent", 1, device.verdict())


def test_a_device_started_on_a_full_disk_keeps_what_it_had(
    small_disk: Path, shared_hub: Any, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    device = started(Device(shared_hub, tmp_path, bulky=True, home=small_disk / "device"))
    device.go(online=False)
    device.start()
    device.make(20)
    assert device.deliver()
    device.kill()
    fill(small_disk / "foreign")
    device.start()
    device.make(30)
    device.deliver(TRIES_S)
    (small_disk / "foreign").unlink()
    if not device.alive:
        # It said so and ended; whoever started it does so again.
        assert "disk" in device.text
        device.start()
    assert device.deliver(), device.text
    device.drain()
    report("started on a full disk: agent", 1, device.verdict())


def test_a_device_that_fills_its_disk_by_itself_drops_the_oldest_and_says_how_many(
    small_disk: Path, shared_hub: Any, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    device = started(Device(shared_hub, tmp_path, bulky=True, home=small_disk / "device"))
    device.go(online=False)
    device.start()
    device.make(500)
    assert device.deliver(), device.text
    device.drain()
    verdict = device.verdict()
    assert verdict.dropped > 50
    gone = set(device.ledger.made) - set(shared_hub.held(device.name))
    assert sum(one.inferences for one in gone) == device.dropped("inferences")
    newest = device.ledger.made[-50:]
    assert set(newest) <= set(shared_hub.held(device.name))
    report("disk full by itself: agent", 1, verdict)


@pytest.mark.parametrize("by", ["a foreign file", "itself"] if FULL else ["a foreign file"])
def test_a_hub_whose_disk_is_full_acknowledges_nothing_it_lacks_and_goes_on_when_there_is_room(
    by: str, small_disk: Path, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    hub = started(Hub(small_disk / "hub", tmp_path / "hub.log"))
    hub.start()
    client = Client(hub, tmp_path / "client", bulky=True)
    client.make(5)
    assert client.sync()
    if by == "itself":
        while client.sync():
            client.make(50)
            assert len(client.ledger.made) < 2000
    else:
        fill(small_disk / "foreign")
        client.make(100)
        assert not client.sync()
    full = client.verdict()
    assert full.clean, full
    if by == "itself":
        resized(small_disk, "32m")
    else:
        (small_disk / "foreign").unlink()
    # Not started again in between.
    assert client.sync(), hub.text
    assert hub.sound
    report(f"disk full by {by}: hub", 1, client.verdict())
    client.close()


# ── failing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_strace
@pytest.mark.parametrize(("call", "error"), FAILURES)
@pytest.mark.parametrize("killed", [False, True])
def test_a_device_whose_disk_fails_commits_nothing_until_it_is_mended(
    call: str,
    error: str,
    killed: bool,
    shared_hub: Any,
    tmp_path: Path,
    started: Callable[[Any], Any],
    report: Callable[..., None],
):
    device = started(Device(shared_hub, tmp_path))
    # What waits for a hub must not go for a disk that fails.
    device.go(online=False)
    device.start()
    device.make(5)
    assert device.deliver()
    with failing(device, call, error):
        device.make(10)
        assert not device.deliver(TRIES_S)
        assert device.ledger.acknowledged == 5
        if killed:
            device.kill()
    if killed:
        device.start()
    device.drain()
    verdict = device.verdict()
    report(f"{error} on {call}: agent", 1, verdict)
    assert not verdict.dropped or error == "ENOSPC", "a disk that fails is not a disk that is full"


@needs_strace
@pytest.mark.parametrize(("call", "error", "number"), ONCE)
def test_a_device_takes_a_window_again_whose_commit_failed_once(
    call: str,
    error: str,
    number: int,
    shared_hub: Any,
    tmp_path: Path,
    started: Callable[[Any], Any],
    report: Callable[..., None],
):
    device = started(Device(shared_hub, tmp_path, seed=number))
    device.start()
    device.make(2)
    assert device.deliver()
    device.stop()
    device.start(Fault(call, number, error).command)
    device.make(12)
    device.deliver()
    device.kill()
    device.start()
    device.drain()
    verdict = device.verdict()
    report(f"{error} on {call} once: agent", 1, verdict)
    assert not verdict.dropped, "one try that failed is no reason to drop anything"


@needs_strace
@pytest.mark.parametrize(("call", "error"), FAILURES)
@pytest.mark.parametrize("killed", [False, True] if FULL else [True])
def test_a_hub_whose_disk_fails_acknowledges_nothing_until_it_is_mended(
    call: str, error: str, killed: bool, own_hub: Any, tmp_path: Path, report: Callable[..., None]
):
    own_hub.start()
    client = Client(own_hub, tmp_path / "client")
    client.make(5)
    assert client.sync()
    with failing(own_hub, call, error):
        for _ in range(3):
            client.make(5)
            assert not client.sync()
        if killed:
            own_hub.kill()
    if killed:
        own_hub.start()
    between = client.verdict()
    assert between.clean, between
    for _ in range(3):
        assert client.sync(), own_hub.text
        client.make(5)
    assert client.sync()
    if not killed:
        own_hub.kill()
        own_hub.start()
    assert own_hub.sound
    report(f"{error} on {call}: hub", 1, client.verdict())
    client.close()
