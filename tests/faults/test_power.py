"""The power goes at any moment, as a disk sees it: an ext4 image is shut down without flushing its log."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import FULL, Client, Device, Hub

CUTS = 10 if FULL else 2  # one after the other, on one disk
DISKS = 5 if FULL else 1
# Longer than a device needs for its windows, and a hub for its batches: some cuts come when all is quiet.
DEVICE_WITHIN_S, HUB_WITHIN_S = 0.08, 0.4


@pytest.mark.parametrize("disk", range(DISKS))
def test_every_window_a_device_committed_survives_power_cuts(
    disk: int,
    image: Any,
    shared_hub: Any,
    tmp_path: Path,
    started: Callable[[Any], Any],
    report: Callable[..., None],
):
    rng = random.Random(disk)
    device = started(Device(shared_hub, tmp_path, seed=disk, home=image.mounted / "device"))
    for _ in range(CUTS):
        device.start()
        if rng.random() < 0.7:  # else the cut meets its start, and its first sync
            device.until(lambda status: True)
        device.make(15)
        cut_during(image, device, device.deliver, rng.random() * DEVICE_WITHIN_S)
    device.start()
    device.drain()
    report("agent power cuts", CUTS, device.verdict())


@pytest.mark.parametrize("disk", range(DISKS))
def test_every_window_a_hub_acknowledged_survives_power_cuts(
    disk: int, image: Any, tmp_path: Path, started: Callable[[Any], Any], report: Callable[..., None]
):
    rng = random.Random(disk)
    hub = started(Hub(image.mounted / "hub", tmp_path / "hub.log"))
    hub.start()
    client = Client(hub, tmp_path / "client", seed=disk)

    def ingest() -> None:
        while hub.alive:
            client.make(2)
            client.sync()

    cuts = CUTS if FULL else 1
    for _ in range(cuts):
        cut_during(image, hub, ingest, rng.random() * HUB_WITHIN_S)
        hub.start()
        verdict = client.verdict()
        assert verdict.clean, verdict
    assert client.sync()
    assert hub.sound
    report("hub power cuts", cuts, client.verdict())
    client.close()


def cut_during(image: Any, process: Any, work: Callable[[], object], after_s: float) -> None:
    """Cut the power of the process's disk a moment after this work began, and wait until the work has noticed."""
    working = threading.Thread(target=work)
    working.start()
    time.sleep(after_s)
    image.cut(process)
    working.join()
