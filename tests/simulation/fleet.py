"""A month of a fleet: five machines, one hub, what befalls them, and what must be so when all of it is over.

Held at the end, after the faults have ended and everything that waited has gone:

1. *Nothing is lost in silence.* Each record that was committed on a device is at the hub; or it was dropped for want of
   room; or it was on a disk that broke, was put back or imaged; or a hub that was restored lacks it and no device had
   it any more. What a disk that is in use still has, waiting or as history, is at the hub.
2. *What was dropped is counted*, exactly: on each disk, by kind and for windows by pipeline and inferences, what its
   `dropped` events say (those that went themselves are said by the next) is what was dropped. These events are records
   as any other, so 1 holds for them. A restored hub is told of at least what it lost, by kind, and of nothing else.
3. *Nothing is doubled, changed or invented*: the hub has no record more often than it was made, byte for byte. (Empty
   windows that two machines with one identity tell alike, under one number, are one.)
4. *Nothing was counted twice or forgotten on the way*: the inferences in committed windows, and those that were in
   memory alone when power or a worker went, are all that were made.
5. *Time*: every inference lies within one base window of the window it landed in, or the window is marked undated. (A
   boot that never reached the hub is believed where its clock is plausible, as docs/sync-protocol.md says: counted.)
6. *Complete means complete*: no request tells a pipeline to be complete up to (and, newest first, from) a time while
   a window in there still waits, unless it is one that came late: made after one that ends as late as it does.
7. *It ends*: with a good link everything goes, the hub refuses nothing, and each damaged spool is reported.
8. *Acknowledged is committed*: a hub that was never restored never finds that it lacks what it acknowledged.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from driftline.clock import NS_PER_S
from driftline.edge.exchange import Wishes
from driftline.hub import intake
from driftline.wire.device import decode_event, decode_window
from tests.simulation import faults
from tests.simulation.account import Account, Disk
from tests.simulation.hub import PIPELINES, Decide, Hub
from tests.simulation.link import GOOD, Link, Weather
from tests.simulation.machine import Build, Machine
from tests.simulation.world import BEGIN_NS, DAY_S, HOUR_S, WINDOW_S, World

DEVICES, DAYS = 5, 30
CLONES_MAX = 2
DRAIN_DAYS_MAX = 5
# A device syncs after so many windows, as a real one does after ten.
INTERVALS_H = (5.0, 10.0, 15.0)
# In every request's answer, and so many times in a row, nothing more is to be done.
QUIET_SYNCS = 3


@dataclass(frozen=True)
class Parts:
    """What is simulated; tests of the simulation put broken parts in."""

    build: Build = field(default_factory=Build)
    decide: Decide = intake.decide
    hub_answers_too_early: bool = False


class Fleet:
    """One run of one seed."""

    def __init__(
        self, seed: int, *, show: Callable[[str], None] | None = None, days: int = DAYS, parts: Parts | None = None
    ) -> None:
        parts = parts or Parts()
        self.days = days
        self.world = World(seed, show)
        self.hub = Hub(self.world, parts.decide, answers_too_early=parts.hub_answers_too_early)
        self.link = Link(self.world, self.hub)
        self.account = Account()
        self.machines: list[Machine] = []
        self.is_over = False
        self._build = parts.build
        self._clones = 0
        self._asked_too_early = False
        self._backups: list[int] = []
        self.hub.interval_s = self.world.rng.choice(INTERVALS_H) * HOUR_S
        for number in range(DEVICES):
            self._add(f"device-{number + 1}")

    def run(self) -> list[str]:
        """Live through the month, end the faults, let all go; return what is wrong then."""
        faults.plan(self)
        end_ns = BEGIN_NS + self.days * DAY_S * NS_PER_S
        self.world.run_until(end_ns)
        self._end_faults()
        for hour in range(1, DRAIN_DAYS_MAX * 24):
            self.world.run_until(end_ns + hour * HOUR_S * NS_PER_S)
            if all(one.quiet_syncs >= QUIET_SYNCS and not one.outbox.backlog for one in self.machines):
                break
        found = list(self.problems())
        self._count()
        return found

    # ── what faults do ───────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, name: str, like: Machine | None = None) -> Machine:
        rng = self.world.rng
        disk = Disk(self.account, name, self.world.name()) if like is None else like.disk.duplicate()
        machine = Machine(
            self.world,
            self.link,
            len(self.machines) + 1,
            name,
            self.world.name() if like is None else like.key,
            disk,
            rng.choice((PIPELINES, PIPELINES[:1], *[PIPELINES[1:]] * 3)) if like is None else like.pipelines,
            rng.choice((8_000, 20_000, 60_000, 400_000, 400_000)) if like is None else like.bytes_max,
            rng.choice((0.0, 20.0, -50.0, 500.0, -500.0)),
            self._build,
        )
        self.machines.append(machine)
        if like is None:
            self.hub.enrol(name, machine.key)
        machine.boot()
        return machine

    def clone(self, machine: Machine) -> None:
        """Let a second machine run on with a copy of a disk."""
        if self._clones < CLONES_MAX:
            self._clones += 1
            self.account.shared.add(machine.name)
            machine.note("is cloned")
            twin = self._add(machine.name, machine)
            faults.plan_weather(self, twin)

    def put_back(self, machine: Machine) -> None:
        """Let a machine go on with its disk as it was."""
        image, machine.image = machine.image, None
        if image is None or not machine.is_on:
            return
        self.account.shared.add(machine.name)
        machine.cut_power(60)
        lost = machine.disk.lose()
        image.live = True
        machine.disk = image
        machine.note(f"has its disk put back as it was; {lost} records lost")

    def image_anew(self, machine: Machine) -> None:
        """Let a machine begin with an empty disk; its owner joins it anew, under its old name."""
        if machine.is_on and machine.name not in self.account.shared and machine.image is None:
            machine.cut_power(60, damage="imaged anew")
            machine.key = self.world.name()
            self.hub.enrol(machine.name, machine.key)

    def set_weather(self, machine: Machine, weather: Weather) -> None:
        """Let a machine's link be so."""
        if not self.is_over:
            machine.note(f"its link is {weather.name}")
            self.world.count(f"spells of {weather.name} links")
            self.link.weather[machine.number] = weather

    def back_up(self) -> None:
        """Back the hub up."""
        self._backups.append(self.hub.moment)

    def restore(self) -> None:
        """Restore the hub from one of its last backups; its owner joins anew what it no longer knows."""
        if not self._backups or self.is_over:
            return
        del self._backups[-self.world.rng.randrange(1, 8) :][1:]
        moment = self._backups[-1]
        self.world.note("hub", f"is restored: {self.hub.moment - moment} commits are gone")
        self.world.count("hub restored")
        if not self.account.hub_restored:
            self._asked_too_early = self.world.counts["hub asked again"] > 0
        self.account.hub_restored = True
        self.hub.restore(moment)
        for machine in self.machines:
            if self.hub.tables.rows[machine.name].key != machine.key:
                self.hub.enrol(machine.name, machine.key)

    def _end_faults(self) -> None:
        self.is_over = True
        self.world.note("world", "the faults end")
        self.hub.is_down, self.hub.fails, self.hub.interval_s = False, None, 600.0
        self.hub.removed.clear()
        for machine in self.machines:
            self.link.weather[machine.number] = GOOD
            machine.full_until_ns, machine.armed, machine.wishes = 0, None, Wishes()
            machine.boot()
            machine.stop_counting()
            machine.hurry()

    # ── what must be so ──────────────────────────────────────────────────────────────────────────────────────────

    def problems(self) -> Iterator[str]:
        """Say what is not as it must be."""
        for machine in self.machines:
            yield from machine.problems[:3]
            if machine.outbox.backlog or machine.waiting or machine.left:
                yield f"{machine.who}: {machine.outbox.backlog} records never went"
        yield from self.hub.refusals[:3]
        if self._asked_too_early or (self.world.counts["hub asked again"] and not self.account.hub_restored):
            yield "a hub that had never been restored lacks what it acknowledged, and asked again"
        for disk in self.account.disks:
            yield from disk.problems()
        for name in sorted({one.name for one in self.machines}):
            yield from self._lost(name)
            yield from self._doubled(name)
        yield from self._unreported()
        yield from self._unkept()
        yield from self._uncounted()
        yield from self._misplaced()

    def _unreported(self) -> Iterator[str]:
        """Yield the machines whose hub does not know how often their spools were damaged."""
        reported: Counter[int] = Counter()
        for name in sorted({one.name for one in self.machines}):
            for data in self._at_hub(name):
                if self.account.kinds.get(data) == "event" and (event := decode_event(data))["type"] == "spool_lost":
                    reported[event["machine"]] += 1
        for machine in self.machines:
            excused = self.account.of(self.account.lost_with_disk, machine.name)
            gone = sum(b'"spool_lost"' in data for data in excused) + self._is_known_gap(machine.name) * machine.damaged
            if reported[machine.number] + gone < machine.damaged:
                yield f"{machine.who}: lost {machine.damaged} spools, {reported[machine.number]} are reported"

    def _at_hub(self, name: str) -> "Counter[bytes]":
        return self.hub.tables.contents.get(name, Counter())

    def _lost(self, name: str) -> Iterator[str]:
        account, at_hub = self.account, self._at_hub(name)
        missing = account.of(account.made, name) - at_hub
        excused = account.of(account.dropped, name) + account.of(account.lost_with_disk, name)
        forgotten = missing - excused
        lost_by_hub = forgotten & account.of(account.forgotten, name) if account.hub_restored else Counter[bytes]()
        for data, count in (forgotten - lost_by_hub).items():
            if self._is_known_gap(name):
                self.world.count("records of shared identities that a restored hub did not ask for", count)
            elif not self._is_told_alike(name, data):
                yield f"{name}: lost {_named(data)}"
        told: Counter[str] = Counter()
        for data in at_hub:
            if account.kinds.get(data) == "event" and (event := decode_event(data)).get("where") == "hub":
                told.update(event["counts"])
        lost = Counter(account.kinds[data] for data in lost_by_hub.elements())
        # What one machine forgot, another with the same records may have sent.
        if lost - told and not self._is_known_gap(name):
            yield f"{name}: a restored hub lost {dict(lost)}, and is told of {dict(told)}"
        if told and not account.hub_restored:
            yield f"{name}: {dict(told)} are said to be lost by a hub that was never restored"

    def _is_known_gap(self, name: str) -> bool:
        """Say whether the protocol excuses it: of two machines with one identity a restored hub asks but one."""
        return self.account.hub_restored and name in self.account.shared

    def _doubled(self, name: str) -> Iterator[str]:
        for data, count in (self._at_hub(name) - self.account.of(self.account.made, name)).items():
            yield f"{name}: {count} too many of {_named(data)}"

    def _is_told_alike(self, name: str, data: bytes) -> bool:
        if name not in self.account.shared or self.account.kinds[data] != "window":
            return False
        return not decode_window(data).inferences and data in self._at_hub(name)

    def _unkept(self) -> Iterator[str]:
        """Yield what disks in use still have and the hub has not."""
        for disk in self.account.disks:
            lacking = [one for one in disk.records_kept if one.data not in self._at_hub(disk.name)] if disk.live else []
            if lacking and not self._is_known_gap(disk.name):
                kinds = dict(Counter(one.kind for one in lacking))
                yield f"{disk.name}: the hub lacks {kinds} that its disk still has, from #{lacking[0].sequence} on"

    def _uncounted(self) -> Iterator[str]:
        found: Counter[int] = Counter()
        committed = sum(self.account.made.values(), Counter[bytes]())
        for data, makings in self.account.windows.items():
            for one in makings[: committed[data]]:
                found[one.machine] += one.inferences
        for machine in self.machines:
            if found[machine.number] + machine.gone != machine.recorded:
                yield (
                    f"{machine.who}: {machine.recorded} inferences were made, {found[machine.number]} are in windows, "
                    f"{machine.gone} were in memory alone"
                )

    def _misplaced(self) -> Iterator[str]:
        width_ns = WINDOW_S * NS_PER_S
        unheard = {boot for one in self.machines for boot, kept in one.timekeeper._boots.items() if not kept}
        for (name, data), start_s in self.hub.tables.starts.items():
            start_ns = start_s * NS_PER_S
            makings = self.account.windows.get(data, [])
            if not any(start_ns - width_ns <= one.first_ns <= one.last_ns < start_ns + 2 * width_ns for one in makings):
                if any(one.boot in unheard for one in makings):
                    self.world.count("windows misplaced by a boot that never heard the time")
                    continue
                away_h = (makings[0].first_ns - start_ns) / NS_PER_S / HOUR_S if makings else 0
                yield f"{name}: {_named(data)} landed at {start_s}, {away_h:.2f} h from where it belongs"

    # ── what is told of it ───────────────────────────────────────────────────────────────────────────────────────

    def _count(self) -> None:
        account, count = self.account, self.world.count
        for name in account.made:
            for what, table in (
                ("made", account.made),
                ("dropped", account.dropped),
                ("lost with a disk", account.lost_with_disk),
            ):
                for data, number in account.of(table, name).items():
                    if account.kinds[data] == "window":
                        count(f"windows {what}", number)
            count(
                "windows at the hub",
                sum(n for data, n in self._at_hub(name).items() if account.kinds.get(data) == "window"),
            )
        count("records undated", self.hub.tables.undated)
        count("inferences", sum(one.recorded for one in self.machines))
        self.world.note("world", f"ends: {sorted(self.world.counts.items())}")


def _named(data: bytes) -> str:
    try:
        window = decode_window(data)
    except ValueError:
        return repr(data[:60])
    return f"window {window.pipeline} {window.start_s} of {window.inferences}"
