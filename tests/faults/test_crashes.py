"""Agent and hub are killed at a write, a sync, a rename, wherever a run has one, and lose nothing they acknowledged."""

import random
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import FULL, Client, Device, Hub, attached, counted, counting, lacking, spread

pytestmark = pytest.mark.skipif(bool(lacking("strace")), reason=str(lacking("strace")))

# So many crashes one after the other meet one spool or one database, before it is compared with what was acknowledged.
CHAIN = 10 if FULL else 3
CHAINS = 50 if FULL else 1
# Also before an answer is sent: what it would have said is kept, and nobody knows.
WRITES = ("pwrite64", "fdatasync", "fsync", "write", "ftruncate", "rename", "unlink", "sendto")


@pytest.fixture(scope="session")
def agent_crashes(shared_hub: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Every crash of an agent's first life, of one that takes windows, and of one that first sends old ones."""
    if not FULL:
        return {name: some_crashes() for name in ("first", "taking", "sending")}
    folder = tmp_path_factory.mktemp("agent")
    device = Device(shared_hub, folder)
    found: dict[str, list[Any]] = {}
    for seed, (name, live) in enumerate({"first": taking, "taking": taking, "sending": sending}.items()):
        log = folder / f"{name}.log"
        device.start(counting(log))
        live(device)
        assert device.stop() == 0
        found[name] = spread(counted(log), WRITES, random.Random(seed))
    return found


def some_crashes() -> list[Any]:
    """Return crashes that any life comes to."""
    few = {"pwrite64": 16, "fdatasync": 2, "sendto": 2}
    return spread(few, tuple(few), random.Random(0))


def taking(device: Any) -> None:
    device.make(10)
    device.deliver()


def sending(device: Any) -> None:
    device.until(lambda status: status["synced_ns"])
    device.make(3)
    device.deliver()


@pytest.mark.parametrize("chain", range(CHAINS))
def test_an_agent_killed_at_any_write_loses_no_window_it_committed(
    chain: int,
    shared_hub: Any,
    agent_crashes: dict[str, list[Any]],
    tmp_path: Path,
    started: Callable[[Any], Any],
    report: Callable[..., None],
):
    device = started(Device(shared_hub, tmp_path, seed=chain))
    lives = [("first", agent_crashes["first"][chain % len(agent_crashes["first"])])]
    for number, name in enumerate(islice(cycle(("taking", "taking", "sending")), 3 * CHAIN)):
        points = agent_crashes[name]
        lives.append((name, points[(chain * 3 * CHAIN + number) % len(points)]))
    crashes = 0
    met: list[str] = []
    for name, fault in lives:
        device.start(fault.command)
        (sending if name == "sending" else taking)(device)
        device.stop()
        crashes += device.crashed
        met += [f"{name} {fault.call} {fault.number}"] if device.crashed else []
        if crashes == CHAIN:
            break
    assert crashes == CHAIN, met
    device.start()
    device.drain()
    report("agent crashes", crashes, device.verdict())


@pytest.fixture(scope="session")
def hub_crashes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Every crash of a hub that makes its database, of one that opens it, and of one that takes in windows."""
    if not FULL:
        return {name: some_crashes() for name in ("making", "opening", "ingesting")}
    folder = tmp_path_factory.mktemp("hub-crashes")
    hub = Hub(folder / "home", folder / "hub.log")
    assert hub.start(counting(folder / "making.log"))
    client = Client(hub, folder / "client")
    assert hub.stop() == 0
    assert hub.start(counting(folder / "opening.log"))
    assert hub.stop() == 0
    assert hub.start()
    attached(hub, ",".join(WRITES), "-o", str(folder / "ingesting.log"))
    ingesting(hub, [client, client])
    assert hub.stop() == 0
    client.close()
    return {
        name: spread(counted(folder / f"{name}.log"), WRITES, random.Random(seed))
        for seed, name in enumerate(("making", "opening", "ingesting"))
    }


def ingesting(hub: Any, clients: list[Any]) -> None:
    for _ in range(6):
        for client in clients:
            client.make(2)
            if not client.sync() and not hub.alive:
                return


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_hub_killed_at_any_write_holds_every_window_it_acknowledged_once(
    chain: int, own_hub: Any, hub_crashes: dict[str, list[Any]], tmp_path: Path, report: Callable[..., None]
):
    hub, (making, opening, points) = own_hub, hub_crashes.values()
    crashes = crashed_at_start(hub, making[chain % len(making)])
    hub.start()
    clients = [Client(hub, tmp_path / f"client-{number}", seed=number) for number in range(2)]
    hub.stop()
    crashes += crashed_at_start(hub, opening[chain % len(opening)])
    for number in range(2 * CHAIN):
        hub.start()
        held = [client.verdict() for client in clients]
        assert all(one.clean for one in held), held
        points[(chain * 2 * CHAIN + number) % len(points)].attach(hub)
        ingesting(hub, clients)
        hub.stop()
        crashes += hub.crashed
        if crashes >= CHAIN:
            break
    assert crashes >= CHAIN
    hub.start()
    for client in clients:
        assert client.sync()
    assert hub.sound
    for client in clients:
        report("hub crashes", crashes if client is clients[0] else 0, client.verdict())
        client.close()


def crashed_at_start(hub: Any, fault: Any) -> bool:
    hub.start(fault.command)
    hub.stop()
    return bool(hub.crashed)
