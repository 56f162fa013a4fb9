"""What becomes of devices and hubs over their lives: offline restarts, backups, clones, new disks, deleted spools."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Client, Device, Verdict


@pytest.fixture
def client(shared_hub: Any, tmp_path: Path) -> Iterator[Any]:
    """A device of a hub that stays whole."""
    made = Client(shared_hub, tmp_path / "client")
    yield made
    made.close()


def test_windows_counted_while_offline_survive_restarts_and_arrive_once(
    shared_hub: Any, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    device = started(Device(shared_hub, tmp_path))
    device.go(online=False)
    for ending in (device.stop, device.kill, device.stop):
        device.start()
        device.make(10)
        assert device.deliver()
        ending()
    device.go(online=True)
    device.start()
    device.drain()
    verdict = device.verdict()
    assert (verdict.acknowledged, verdict.dropped) == (30, 0)
    report("restarts while offline", 3, verdict)


def test_a_hub_restored_from_a_backup_gets_again_what_it_lacks(
    own_hub: Any, tmp_path: Path, report: Callable[..., None]
):
    own_hub.start()
    client = Client(own_hub, tmp_path / "client")
    client.make(20)
    assert client.sync()
    own_hub.back_up(tmp_path / "backup")
    for _ in range(4):
        client.make(10)
        assert client.sync()
    own_hub.stop()
    shutil.rmtree(own_hub.home)
    (tmp_path / "backup").rename(own_hub.home)
    own_hub.start()
    assert len(own_hub.held(client.name)) == 20
    client.make(5)
    assert client.sync()
    verdict = client.verdict()
    assert verdict.acknowledged == 65
    client.close()
    report("hub restored from a backup", 1, verdict)


def test_a_device_restored_from_a_copy_of_its_own_disk_loses_nothing_it_counts_from_then_on(
    client: Any, shared_hub: Any, tmp_path: Path, report: Callable[..., None]
):
    client.make(10)
    assert client.sync()
    client.close()
    shutil.copytree(client.home.path, tmp_path / "copy")
    client.open()
    client.make(10)
    assert client.sync()
    client.close()
    shutil.rmtree(client.home.path)
    (tmp_path / "copy").rename(client.home.path)
    client.open()
    client.make(10)
    assert client.sync()
    verdict = client.verdict()
    assert verdict.acknowledged == 30
    report("device restored from a copy", 1, verdict)


# A hub looks every other second, and less often while much comes in.
NOTICED_S = 30


def test_two_machines_with_one_identity_lose_nothing_and_are_noticed(
    client: Any, shared_hub: Any, tmp_path: Path, report: Callable[..., None]
):
    client.make(10)
    assert client.sync()
    client.close()
    twin = client.cloned(tmp_path / "twin")
    client.open()
    for _ in range(4):
        for one in (client, twin):
            one.make(5)
            assert one.sync()
    made = Counter(client.ledger.made) + Counter(twin.ledger.made[10:])
    held = Counter(shared_hub.held(client.name))
    deadline = time.monotonic() + NOTICED_S
    while not shared_hub.select("SELECT kind FROM incident_parts WHERE device=?", client.name):
        assert time.monotonic() < deadline, "the hub noticed nothing"
        time.sleep(0.1)
    twin.close()
    verdict = Verdict(made.total(), (made - held).total(), (held - made).total(), 0, 0, 0)
    report("two machines with one identity", 1, verdict)


def test_a_device_whose_spool_was_deleted_goes_on_and_the_hub_keeps_what_it_had(
    client: Any, report: Callable[..., None]
):
    client.make(10)
    assert client.sync()
    client.close()
    for file in client.home.path.glob("spool.db*"):
        file.unlink()
    client.open()
    client.make(10)
    assert client.sync()
    verdict = client.verdict()
    assert verdict.acknowledged == 20
    report("spool deleted", 1, verdict)


def test_a_device_that_was_set_up_anew_is_the_same_device_with_a_new_spool(client: Any, report: Callable[..., None]):
    client.make(10)
    assert client.sync()
    client.close()
    shutil.rmtree(client.home.path)
    client.join_again()
    client.make(10)
    assert client.sync()
    verdict = client.verdict()
    assert verdict.acknowledged == 20
    report("device set up anew", 1, verdict)
