"""A month of a fleet with every fault, played from seeds; and that the checks of it can fail."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from driftline.clock import NS_PER_S
from tests.simulation.__main__ import report, run
from tests.simulation.broken import BROKEN
from tests.simulation.fleet import Fleet
from tests.simulation.link import DOWN, GOOD
from tests.simulation.world import BEGIN_NS, DAY_S, WINDOW_S

ROOT = Path(__file__).parents[2]
IS_FULL = os.environ.get("DRIFTLINE_FAULTS") == "full"
SEEDS, SEEDS_A_TEST = (1000, 20) if IS_FULL else (50, 5)
# In the first of these everything happens that a broken part needs to show.
BROKEN_SEEDS = (2, 0, 1)


def nothing(fleet: Fleet) -> None:
    """Plan no faults."""


def a_loss(fleet: Fleet) -> list[str]:
    """Find a problem."""
    return ["a window is lost"]


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_a_fleet_loses_and_doubles_nothing_in_a_month_of_faults(
    first: int, record_property: Callable[[str, object], None]
):
    results = [run(seed) for seed in range(first, first + SEEDS_A_TEST)]
    counts = sum((one.counts for one in results), Counter[str]())
    record_property("faults", {"what": "simulated months of 5 devices", "cases": len(results), **counts})
    assert not [line for result in results for line in report(result)]


def test_a_seed_is_one_run_to_the_byte():
    """In processes that order sets differently."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "17", "--days", "8", "--trace"]
    traces = [
        subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(number), "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for number in (1, 2)
    ]
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 500


def test_a_failing_seed_is_printed_with_what_replays_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Fleet, "run", a_loss)
    told = list(report(run(17)))
    assert told == ["seed 17 fails; again: python -m tests.simulation --seed 17 --trace", "  a window is lost"]


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_within_a_few_seeds(what: str):
    assert any(Fleet(seed, parts=BROKEN[what]).run() for seed in BROKEN_SEEDS)


def test_after_ten_days_without_a_link_everything_is_there(monkeypatch: pytest.MonkeyPatch):
    """Oldest first, from before the outage on, byte for byte, each window where it belongs."""
    monkeypatch.setattr("tests.simulation.faults.plan", nothing)
    fleet = Fleet(10, days=12)
    world = fleet.world
    for machine in fleet.machines:
        machine.bytes_max = 1 << 20
        machine.outbox.resize(1 << 20)
        world.later(DAY_S, fleet.set_weather, machine, DOWN)
        world.later(11 * DAY_S, fleet.set_weather, machine, GOOD)
    world.run_until(BEGIN_NS + int(10.9 * DAY_S) * NS_PER_S)
    waiting = [machine.outbox.waiting["window"] for machine in fleet.machines]
    assert all(count >= 230 * len(machine.pipelines) for count, machine in zip(waiting, fleet.machines, strict=True))
    assert fleet.run() == []
    assert world.counts["windows dropped"] == world.counts["windows lost with a disk"] == 0
    assert world.counts["windows at the hub"] == world.counts["windows made"] > sum(waiting)
    hours = range(BEGIN_NS // NS_PER_S // WINDOW_S + 1, BEGIN_NS // NS_PER_S // WINDOW_S + 11 * 24)
    for machine in fleet.machines:
        landed = {start_s // WINDOW_S for (name, _), start_s in fleet.hub.tables.starts.items() if name == machine.name}
        assert landed >= set(hours)
