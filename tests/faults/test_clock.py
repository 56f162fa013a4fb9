"""Clocks that are wrong, from the recorder to the hub's pages: windows land where they belong or are marked, each once.

A real recorder, agent, spool and hub; true time moves when told to, and the device's clock is what a test makes of it.
Each inference counts a number of its own, so that one that is lost, doubled or put elsewhere shows.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftline.clock import NS_PER_S, ManualClock, parse_iso
from driftline.edge.agent import Agent
from driftline.edge.home import Home, Identity
from driftline.edge.link import stamp_told
from driftline.edge.recorder import Recorder
from driftline.edge.shipper import Upload
from driftline.edge.timekeeping import stamp_now
from driftline.hub import fleet, incidents
from driftline.hub.store import incidents as incident_store
from driftline.summary.codec import decode
from driftline.wire import api
from driftline.wire.device import Reply, Stamp
from tests.edge.crystal import Crystal
from tests.hub.conftest import Api

T0 = parse_iso("2026-01-01T10:00:00+00:00")
DAY_S, MINUTE_S, PERIOD_S = 86_400, 60, 10
FIELD = "out.number"


class World:
    """True time, a hub that knows it, and one device that may not."""

    def __init__(self, folder: Path, serve_hub: Callable[..., Any], true_ns: int = T0, ppm: float = 0.0) -> None:
        self.hub_clock = ManualClock(true_ns)
        self.hub = serve_hub(self.hub_clock)
        self.ask = Api(self.hub)
        self.ppm = ppm
        till = self.ask.observed_pipeline()
        self.pipeline, self.pv = till["id"], till["versions"][0]["id"]
        joined = self.ask.joined("camera-1", till)
        self.home = Home(folder / "device")
        self.home.make()
        self.home.save_identity(Identity(joined.id, "camera-1", self.hub.url, None, joined.key))
        self.round_trip_s = 0.2
        self.boots = 0
        # When each inference was made, in true time, by its number.
        self.made_ns: dict[int, int] = {}
        self.clock: Any = None
        self.agent: Any = None
        self.recorder: Any = None

    @property
    def true_ns(self) -> int:
        return self.hub_clock.now_ns()

    def live(self, seconds: float) -> None:
        self.hub_clock.advance(seconds)
        if self.clock is not None:
            self.clock.live(seconds)

    # ── the device ───────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self, error_s: float | None = 0.0) -> None:
        """Switch the device on; its wall clock is so wrong, or of 1970 where that is None."""
        self.boots += 1
        wall_ns = 0 if error_s is None else self.true_ns + int(error_s * NS_PER_S)
        self.clock = Crystal(f"boot-{self.boots}", self.true_ns, wall_ns, self.ppm)
        self.agent = Agent(self.home, self.home.identity(), self.clock, None)
        self.agent.answer(1, {"type": "hello", "role": "worker"}, b"")
        transport = self.agent._uplink._transport
        self._ask_hub = transport.sync
        transport.sync = self._slowly
        self.start()

    def start(self) -> None:
        """Start a worker."""
        self.number = 0
        self.sender = f"worker-{self.boots}-{len(self.made_ns)}"
        self.recorder = Recorder(self._deliver, self.clock)
        self.configure()

    def configure(self) -> None:
        desired = self.agent._uplink.desired
        self.recorder.configure(desired, {}, self.clock.now_ns())
        if desired.pipelines:
            self.recorder.begin(self.pv, self.clock.now_ns())

    def power_cut(self, off_s: float) -> None:
        """Take the power away, with what is in memory, for so long."""
        self.agent._spool.close()
        self.clock = None
        self.live(off_s)

    def set_clock(self, error_s: float = 0.0) -> None:
        """Let somebody set the wall clock, to the truth or not."""
        self.clock.set(self.true_ns + int(error_s * NS_PER_S))

    def count(self, minutes: float) -> None:
        """Make an inference each ten seconds."""
        for _ in range(int(minutes * MINUTE_S / PERIOD_S)):
            number = len(self.made_ns) + 1
            self.made_ns[number] = self.true_ns
            self.recorder.record(self.pv, self.clock.now_ns(), {FIELD: float(number)})
            self.live(PERIOD_S)
            self.recorder.close(self.clock.now_ns())
            self.agent._heed_clock()
        self.beat()

    def beat(self) -> None:
        told = self.recorder.complete_until_ns
        stamp = stamp_told(stamp_now(self.clock))
        self.agent.answer(1, {"type": "beat", "revision": "", "complete_until_ns": told, "stamp": stamp}, b"")

    def _deliver(self, kind: str, data: bytes, stamp: Stamp | None) -> None:
        self.number += 1
        key = f"{self.sender}:{self.number}"
        self.agent.answer(1, {"type": "record", "kind": kind, "key": key, "stamp": stamp_told(stamp)}, data)

    def _slowly(self, body: bytes) -> Reply:
        self.live(self.round_trip_s / 2)
        reply = self._ask_hub(body)
        self.live(self.round_trip_s / 2)
        return reply

    def sync(self) -> None:
        """Sync until nothing more is to go."""
        uplink = self.agent._uplink
        uplink._exchanged()
        while isinstance(uplink._shipper.next(time.monotonic()), Upload):
            uplink._exchanged()
        assert self.agent._spool.backlog == 0
        self.configure()

    def last_words(self) -> None:
        """Stop in order: hand over what is open, and sync."""
        self.recorder.hand_over()
        self.beat()
        self.sync()

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def device(self) -> api.Device:
        return fleet.device(self.hub, "camera-1")

    def incidents(self) -> list[api.Incident]:
        with self.hub.database.writing() as connection:
            incidents.watch(connection, [self.device], ["camera-1"], self.true_ns)
            return incident_store.listed(connection)

    def landed(self) -> dict[int, int]:
        """Return the start of the window each inference was put into, by its number, from the rows.

        Checks that windows and rows agree, that nothing is there twice, and that all are within a base window of the
        truth.
        """
        everything = (self.pipeline, "camera-1", FIELD)
        rows = self.hub.telemetry.rows(*everything, 0, 2**62)
        numbers = [int(value) for value in rows.values]
        assert len(numbers) == len(set(numbers)), "doubled"
        windows = self.hub.telemetry.windows(*everything, 0, 2**40)
        assert sum(decode(one.summary, one.grid_id).count for one in windows) == len(numbers)
        starts = {one.start_s for one in windows}
        landed = {number: int(at) // NS_PER_S // 60 * 60 for number, at in zip(numbers, rows.times_ns, strict=True)}
        assert set(landed.values()) == starts
        for number, at_ns in zip(numbers, rows.times_ns, strict=True):
            assert abs(int(at_ns) - self.made_ns[number]) <= MINUTE_S * NS_PER_S
        return landed

    def check_all_landed(self) -> dict[int, int]:
        landed = self.landed()
        assert set(landed) == set(self.made_ns), "lost"
        assert self.device.undated == {}
        assert self.device.dropped == {}
        return landed


@pytest.fixture
def world(tmp_path: Path, serve_hub: Callable[..., Any]) -> World:
    """A device that has synced once, and so knows what to run and what time it is."""
    made = World(tmp_path, serve_hub)
    made.boot()
    made.sync()
    return made


def test_a_clock_that_is_right_is_left_alone(world: World):
    world.count(10)
    world.last_words()
    landed = world.check_all_landed()
    assert all(start_s == world.made_ns[number] // NS_PER_S // 60 * 60 for number, start_s in landed.items())
    assert world.incidents() == []


def test_a_boot_in_1970_loses_nothing_when_the_time_comes_later(world: World):
    world.power_cut(3600)
    world.boot(None)
    world.count(10)
    world.set_clock()  # NTP
    world.count(10)
    world.last_words()
    world.check_all_landed()
    assert world.device.complete_until_ns is not None
    assert world.true_ns - 2 * MINUTE_S * NS_PER_S < world.device.complete_until_ns <= world.true_ns
    (told,) = world.hub.telemetry.events("camera-1", "clock_set")
    assert told["text"] == "the clock was set 56 years ahead"


def test_a_boot_in_1970_that_only_ever_hears_the_hub_loses_nothing_and_is_an_incident(world: World):
    world.power_cut(3600)
    world.boot(None)
    world.count(10)
    world.sync()
    world.count(10)
    world.sync()
    (found,) = world.incidents()
    assert "its clock is 56 years behind" in found.text
    assert found.resolved_ns is None
    complete_ns = world.device.complete_until_ns
    assert complete_ns is not None
    assert 0 <= world.true_ns - complete_ns <= 2 * MINUTE_S * NS_PER_S
    world.set_clock()
    world.count(2)
    world.last_words()
    world.check_all_landed()
    (over,) = world.incidents()
    assert over.resolved_ns is not None


def test_a_boot_in_1970_that_ends_before_any_contact_is_kept_and_marked(world: World):
    world.count(5)
    world.recorder.hand_over()
    world.power_cut(3600)
    world.boot(None)
    first = len(world.made_ns) + 1
    world.count(10)
    last = len(world.made_ns)
    world.power_cut(3600)
    world.boot()
    world.count(5)
    world.last_words()
    landed = world.landed()
    assert set(world.made_ns) - set(landed) == set(range(first, last + 1))
    ((why, count),) = world.device.undated.items()
    assert "nothing vouches for its clock" in why
    assert count == 10 + 10  # windows, and their rows
    complete_ns = world.device.complete_until_ns
    assert complete_ns is not None
    assert 0 <= world.true_ns - complete_ns <= 2 * MINUTE_S * NS_PER_S
    world.sync()
    assert sum(world.device.undated.values()) == 20


def test_a_boot_whose_clock_is_plausible_is_believed_though_it_never_reached_the_hub(world: World):
    world.power_cut(3600)
    world.boot()
    world.count(5)
    world.recorder.hand_over()
    world.power_cut(3600)
    world.boot()
    world.count(5)
    world.last_words()
    world.check_all_landed()


@pytest.mark.parametrize("error_s", [DAY_S, -DAY_S, 3600, -90])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_clock_that_is_set_wrong_and_right_again_while_it_runs(world: World, error_s: int, reachable: bool):
    for error in (error_s, 0.0, -error_s, 0.0):
        world.count(3.5)
        if reachable:
            world.sync()
        world.set_clock(error)
    world.count(3.5)
    assert world.recorder.complete_until_ns[world.pv] <= world.clock.now_ns()
    world.last_words()
    landed = world.check_all_landed()
    # No window was made for the time that only the clock went through.
    with world.hub.database.reading() as connection:
        (windows,) = connection.exec_driver_sql("SELECT count(*) FROM windows").one()
    assert windows <= len(set(landed.values())) + 10
    complete_ns = world.device.complete_until_ns
    assert complete_ns is not None
    assert complete_ns <= world.true_ns


@pytest.mark.parametrize(
    "moment",
    [
        "2026-03-29T00:45:00+00:00",
        "2026-10-25T00:45:00+00:00",
        "2028-02-28T23:45:00+00:00",
        "2028-02-29T23:45:00+00:00",
    ],
    ids=["summer time begins", "summer time ends", "leap day begins", "leap day ends"],
)
def test_when_summer_time_or_a_leap_day_comes_nothing_happens(
    tmp_path: Path, serve_hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, moment: str
):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        world = World(tmp_path, serve_hub, parse_iso(moment))
        world.boot()
        world.sync()
        world.count(30)
        world.last_words()
        landed = world.check_all_landed()
        assert all(start_s == world.made_ns[number] // NS_PER_S // 60 * 60 for number, start_s in landed.items())
        starts = sorted(set(landed.values()))
        assert starts == list(range(starts[0], starts[0] + 31 * 60, 60))[: len(starts)]
        assert world.hub.telemetry.events("camera-1", "clock_set") == []
        assert world.incidents() == []
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("ppm", [500, -500])
def test_ten_days_offline_with_a_crystal_off_by_500_ppm(tmp_path: Path, serve_hub: Callable[..., Any], ppm: float):
    world = World(tmp_path, serve_hub, ppm=ppm)
    world.boot()
    world.sync()
    for _ in range(10 * 4):
        world.live(6 * 3600 - 3 * 60)
        world.start()
        world.count(3)
        world.recorder.hand_over()
    error_s = (world.clock.now_ns() - world.true_ns) / NS_PER_S
    assert error_s == pytest.approx(ppm * 1e-6 * 10 * DAY_S, abs=1)  # 432 s
    world.round_trip_s = 4
    world.last_words()
    world.check_all_landed()
    (found,) = world.incidents()
    assert f"its clock is 7 min 12 s {'ahead' if ppm > 0 else 'behind'}" in found.text


def test_a_batch_whose_reply_was_lost_is_not_put_twice_though_its_time_is_estimated_anew(world: World):
    world.power_cut(3600)
    world.boot(-45)  # near where an estimate might go either way
    world.count(5)
    transport = world.agent._uplink._transport
    answered = transport.sync

    def lost(body: bytes) -> Reply:
        answered(body)
        raise ConnectionError

    world.agent._uplink._exchanged()  # the probe
    transport.sync = lost
    with pytest.raises(ConnectionError):
        world.agent._uplink._exchanged()
    transport.sync = answered
    world.round_trip_s = 8
    world.count(1)
    world.last_words()
    world.check_all_landed()


def test_a_hub_whose_own_clock_is_set_takes_its_devices_along(world: World):
    world.hub_clock.set(world.true_ns + 3600 * NS_PER_S)
    world.clock.true_ns += 3600 * NS_PER_S
    world.sync()  # what it sends before it has heard is taken at its old word
    world.count(3)
    world.last_words()
    world.check_all_landed()
    (found,) = world.incidents()
    assert "its clock is 1 h behind" in found.text
