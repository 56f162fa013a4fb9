"""What befalls machines and their hub in a month, drawn from the seed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from driftline.edge.exchange import Wishes
from tests.simulation.link import DOWN, GOOD, POOR
from tests.simulation.machine import Armed, KilledError, Machine, PowerCutError
from tests.simulation.world import DAY_S, HOUR_S

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

Fault = Callable[["Fleet", Machine], None]
MACHINE_FAULTS_MAX = 10
CLOCK_ERRORS_S = (None, -DAY_S, DAY_S // 2, -3 * HOUR_S, 900, -900)


def plan(fleet: "Fleet") -> None:
    """Plan the faults of a run."""
    rng, world = fleet.world.rng, fleet.world
    for machine in list(fleet.machines):
        plan_weather(fleet, machine)
        for _ in range(rng.randrange(2, MACHINE_FAULTS_MAX)):
            fault = rng.choice(MACHINE_FAULTS)
            world.later(rng.uniform(0, fleet.days * DAY_S), strike, fleet, machine, fault)
    for _ in range(rng.randrange(8)):
        world.later(rng.uniform(0, fleet.days * DAY_S), rng.choice(HUB_FAULTS), fleet)
    for day in range(fleet.days):
        world.later((day + rng.random()) * DAY_S, fleet.back_up)


def plan_weather(fleet: "Fleet", machine: Machine) -> None:
    """Plan how a machine's link is until the end of the run."""
    rng, world, at_s = fleet.world.rng, fleet.world, 0.0
    while at_s < fleet.days * DAY_S:
        weather = rng.choices((GOOD, POOR, DOWN), (5, 3, 2))[0]
        world.later(at_s, fleet.set_weather, machine, weather)
        at_s += rng.uniform(0.1, 4) * DAY_S


def strike(fleet: "Fleet", machine: Machine, fault: Fault) -> None:
    """Let a fault happen, unless the month is over."""
    if not fleet.is_over:
        fleet.world.count(fault.__name__.replace("_", " "))
        fault(fleet, machine)


# ── of machines ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _off_s(fleet: "Fleet") -> float:
    return fleet.world.rng.choice((60, HOUR_S, 6 * HOUR_S, 2 * DAY_S)) * fleet.world.rng.uniform(0.5, 1.5)


def _clock_error_s(fleet: "Fleet") -> float | None:
    rng = fleet.world.rng
    return rng.choice(CLOCK_ERRORS_S) if rng.random() < 0.4 else rng.uniform(-5, 5)


def power_cut(fleet: "Fleet", machine: Machine) -> None:
    """Cut the power, between two commits."""
    machine.cut_power(_off_s(fleet), _clock_error_s(fleet))


def power_cut_at_a_commit(fleet: "Fleet", machine: Machine) -> None:
    """Cut the power when something is being committed."""
    rng = fleet.world.rng
    machine.armed = Armed(rng.choice(("before", "after")), PowerCutError, rng.randrange(8), _off_s(fleet))


def agent_killed(fleet: "Fleet", machine: Machine) -> None:
    """Kill the agent when something is being committed."""
    rng = fleet.world.rng
    machine.armed = Armed(rng.choice(("before", "after")), KilledError, rng.randrange(8), 0)


def worker_killed(_: "Fleet", machine: Machine) -> None:
    """Kill the worker."""
    machine.kill_worker()


def restart(_: "Fleet", machine: Machine) -> None:
    """Restart in order."""
    machine.restart()


def event(_: "Fleet", machine: Machine) -> None:
    """Let something happen that the hub should know."""
    machine.tell("camera_lost")


def clock_set(fleet: "Fleet", machine: Machine) -> None:
    """Set the clock, wrong and perhaps right again."""
    error_s = fleet.world.rng.choice((-DAY_S, DAY_S // 2, 3 * HOUR_S, -3 * HOUR_S, -900, 900))
    machine.set_clock(error_s)
    if fleet.world.rng.random() < 0.7:
        fleet.world.later(fleet.world.rng.uniform(0, DAY_S), machine.set_clock, 0.0)


def disk_full(fleet: "Fleet", machine: Machine) -> None:
    """Let the disk take nothing for some hours."""
    machine.full_until_ns = fleet.world.now_ns + int(fleet.world.rng.uniform(0.1, 12) * HOUR_S * 1e9)
    machine.note("its disk is full")


def disk_damaged(fleet: "Fleet", machine: Machine) -> None:
    """Cut the power; what is found on the disk then cannot be read."""
    machine.cut_power(_off_s(fleet), _clock_error_s(fleet), "spool damaged")


def disk_copied_and_put_back(fleet: "Fleet", machine: Machine) -> None:
    """Copy the disk, and days later put it back as it was."""
    if machine.image is None:
        machine.image = machine.disk.duplicate()
        machine.image.live = False
        machine.note("its disk is copied")
        fleet.world.later(fleet.world.rng.uniform(0.01, 6) * DAY_S, strike, fleet, machine, disk_copied_and_put_back)
        return
    fleet.put_back(machine)


def cloned(fleet: "Fleet", machine: Machine) -> None:
    """Copy the disk into a second machine; both run on."""
    fleet.clone(machine)


def imaged_anew(fleet: "Fleet", machine: Machine) -> None:
    """Begin with an empty disk, joined anew."""
    fleet.image_anew(machine)


def wishes_changed(fleet: "Fleet", machine: Machine) -> None:
    """Let the owner want another order, or a budget."""
    rng = fleet.world.rng
    machine.wishes = Wishes(rng.choice((None, None, 1, 5)), rng.random() < 0.5)
    machine.note(f"is to send {machine.wishes}")


def removed_for_a_while(fleet: "Fleet", machine: Machine) -> None:
    """Let the hub refuse it for some days."""
    fleet.hub.removed.add(machine.name)
    fleet.world.later(fleet.world.rng.uniform(0.1, 3) * DAY_S, fleet.hub.removed.discard, machine.name)


MACHINE_FAULTS: tuple[Fault, ...] = (
    power_cut,
    power_cut_at_a_commit,
    power_cut_at_a_commit,
    agent_killed,
    agent_killed,
    worker_killed,
    worker_killed,
    restart,
    event,
    clock_set,
    clock_set,
    disk_full,
    disk_damaged,
    disk_copied_and_put_back,
    cloned,
    imaged_anew,
    wishes_changed,
    wishes_changed,
    removed_for_a_while,
)


# ── of the hub ───────────────────────────────────────────────────────────────────────────────────────────────────────


def hub_power_cut(fleet: "Fleet") -> None:
    """Cut the hub's power at its next commit."""
    fleet.hub.fails = fleet.world.rng.choice(("before", "after"))


def hub_down(fleet: "Fleet") -> None:
    """Take the hub away for some hours."""
    fleet.world.count("hub down")
    fleet.hub.is_down = True
    fleet.world.later(fleet.world.rng.uniform(0.1, 30) * HOUR_S, fleet.hub.rise)


def hub_restored(fleet: "Fleet") -> None:
    """Restore the hub from a backup."""
    fleet.restore()


HUB_FAULTS: tuple[Callable[["Fleet"], None], ...] = (hub_power_cut, hub_power_cut, hub_down, hub_restored)
