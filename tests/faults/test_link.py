"""A device and its hub over a real bad link, with TLS: packets are lost, late, doubled, out of order, damaged, or none.

Every window that the agent answered for is in the hub once, with its content, and the device is up to date again
within a bounded time, most of it while the weather is as bad as before.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.transport import TIMEOUT_S
from driftline.summary.codec import encode
from driftline.summary.grid import UNIVERSAL
from driftline.summary.summary import Tally
from driftline.wire.device import (
    BASE_WINDOW_S,
    ColumnType,
    FieldSummary,
    RowsRecord,
    WindowRecord,
    encode_rows,
    encode_window,
)
from tests.faults.network import TUN, Network
from tests.faults.rig import FIRST_START_S, FULL, Device, Hub, Ledger, Made, lacking


def missing() -> str | None:
    return lacking("ip", "nsenter", root=True) or (None if TUN.exists() else f"no {TUN}")


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
# Left out of `make test`, which has to be quick; see conftest.
long = pytest.mark.long

FIELDS = 5
# Far above what any of these takes on a busy machine: a device that is not up to date by then never will be.
UP_TO_DATE_S = 150.0


# ── two hosts, a hub, a device ───────────────────────────────────────────────────────────────────────────────────────


class FarHub(Hub):
    """A hub on a host of its own that others can reach: with a certificate, as `driftline up --host` gives it."""

    listens_at = "0.0.0.0"  # noqa: S104  in a namespace of its own

    def __init__(self, folder: Path, host: Any) -> None:
        super().__init__(folder / "home", folder / "hub.log")
        self.host = host

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self, before: Sequence[str] = ()) -> bool:
        return super().start([*self.host.command, *before])

    @property
    def answers(self) -> bool:
        with self.host.inside():
            return super().answers

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        with self.host.inside():
            return super().ask(method, path, document)


class RichLedger(Ledger):
    """Windows of five fields, a value a second."""

    def make(self, version: str) -> bytes:
        tallies = [Tally(UNIVERSAL) for _ in range(FIELDS)]
        for tally in tallies:
            for _ in range(BASE_WINDOW_S):
                tally.add(self._random.gauss(0, 10))
        summaries = tuple(encode(one.summary()) for one in tallies)
        one = Made(FIRST_START_S + BASE_WINDOW_S * len(self.made), BASE_WINDOW_S, summaries)
        self.made.append(one)
        named = tuple(FieldSummary(f"out.f{at}", UNIVERSAL.id, data) for at, data in enumerate(summaries))
        return encode_window(WindowRecord(version, one.start_s, BASE_WINDOW_S, one.inferences, named))


class FarDevice(Device):
    """A device on the other host; what it says of its syncs is kept."""

    def __init__(self, hub: FarHub, host: Any, folder: Path, seed: int) -> None:
        self.host = host
        with host.inside():
            super().__init__(hub, folder)
        self.ledger = RichLedger(seed)
        self.rows: list[tuple[int, int]] = []
        self.errors: list[str] = []
        self._rng = random.Random(seed)

    def start(self, before: Sequence[str] = ()) -> None:
        super().start([*self.host.command, *before])
        self.wait_for(bool)

    def count(self, windows: int, rows_each: int = 0) -> None:
        """Count so many windows and rows, and hand them over."""
        for _ in range(windows):
            if rows_each:
                self.put_rows(rows_each)
            self.make(1)
        assert self.deliver(), self.text

    def put_rows(self, count: int) -> None:
        """Take rows of five columns, for the next window; nothing makes them smaller."""
        start_s = FIRST_START_S + BASE_WINDOW_S * len(self.ledger.made)
        times_ns = [start_s * 10**9 + at * (BASE_WINDOW_S * 10**9 // count) for at in range(count)]
        columns: dict[str, tuple[ColumnType, list[float]]] = {
            f"out.f{at}": ("d", [self._rng.random() for _ in range(count)]) for at in range(FIELDS)
        }
        rows = RowsRecord(self.version, start_s, BASE_WINDOW_S, True, times_ns, columns)
        self.courier.put("rows", encode_rows(rows))
        self.rows.append((start_s, count))

    def look(self) -> dict[str, Any]:
        """Ask the agent how it is, and keep what it says is wrong."""
        status = self.status()
        error = status.get("sync_error")
        if error is not None and error not in self.errors:
            self.errors.append(error)
        return status

    def wait_for(self, ready: Callable[[dict[str, Any]], bool], patience_s: float = UP_TO_DATE_S) -> None:
        """Look until it is so."""
        deadline = time.monotonic() + patience_s
        while not ((status := self.look()) and ready(status)):
            assert self.alive, self.text
            assert time.monotonic() < deadline, f"waited in vain: {status}, {self.errors}, {self.text}"
            time.sleep(0.05)

    def catch_up(self) -> None:
        """Wait until the hub has everything, and the agent knows it and finds nothing wrong any more."""
        self.wait_for(lambda status: not status["backlog"] and status["synced_ns"] and status["sync_error"] is None)

    @property
    def rows_held(self) -> list[tuple[int, int]]:
        return self.hub.select(
            "SELECT r.start_s, r.count FROM rows r JOIN names n ON n.id=r.device WHERE n.text=? ORDER BY r.id",
            self.name,
        )


@pytest.fixture(scope="module")
def network() -> Iterator[Any]:
    try:
        made = Network()
    except PermissionError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def far_hub(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    hub = FarHub(tmp_path_factory.mktemp("hub"), network.hub)
    hub.start()
    yield hub
    hub.kill()


@dataclass
class Link:
    """A device at work over the link, and what it comes to."""

    network: Any
    device: FarDevice
    began_s: float
    before: dict[str, list[int]]

    def weather(self, **weather: Any) -> None:
        self.network.set(**weather)

    def cut_in_the_middle(self, size: int, **weather: Any) -> None:
        """Cut the link after so many bytes more of an upload."""
        begun, deadline = self.network.set(**weather)["bytes"][0], time.monotonic() + UP_TO_DATE_S
        while self.network.set(**weather)["bytes"][0] - begun < size:
            assert time.monotonic() < deadline, "nothing was uploaded"
            time.sleep(0.01)
        self.network.set(**weather, cut=True)
        assert self.device.look()["backlog"]

    def facts(self) -> dict[str, Any]:
        """Return what it took until now; from now on the weather is good."""
        now = self.network.set()
        moved = {name: [a - b for a, b in zip(now[name], self.before[name], strict=True)] for name in now}
        return {
            "seconds": round(time.monotonic() - self.began_s, 1),
            "up_kb": moved["bytes"][0] / 1000,
            "down_kb": moved["bytes"][1] / 1000,
            "connections": moved["connections"][0],
            "failures_seen": len(self.device.errors),
        }


@pytest.fixture
def link(network: Any, far_hub: Any, tmp_path: Path, started: Callable[[Any], Any], request: Any) -> Iterator[Link]:
    network.set()
    device: FarDevice = started(FarDevice(far_hub, network.device, tmp_path, seed=len(request.node.name)))
    device.start()
    device.wait_for(lambda status: status["synced_ns"])
    yield Link(network, device, time.monotonic(), network.set())
    network.set()


@pytest.fixture
def whole(link: Link, report: Callable[..., None]) -> Callable[..., None]:
    """Holds the hub to what the agent answered for."""

    def check(what: str) -> None:
        device = link.device
        facts = link.facts()
        print(what, facts, device.errors)
        assert device.stop() == 0, device.text
        assert sorted(device.rows_held) == sorted(device.rows)
        assert len(device.ledger.made) == device.ledger.acknowledged
        report(f"link: {what}", 1, device.verdict(), **facts)

    return check


# ── the weather ──────────────────────────────────────────────────────────────────────────────────────────────────────


def trickle(device: FarDevice, windows: int, rows_each: int = 0) -> None:
    """Count windows while the agent syncs, once a second or as soon as it can; half-way it connects anew."""
    for number in range(windows):
        if FULL and number == windows // 2:
            device.stop()
            device.start()
        device.count(1, rows_each)
        device.look()
        time.sleep(0.15)


def test_a_third_of_all_packets_lost(link: Link, whole: Callable[..., None]):
    link.weather(lost=0.3)
    trickle(link.device, 60 if FULL else 12)
    link.device.catch_up()
    whole("30 % lost")


@long
def test_two_seconds_late_each_way(link: Link, whole: Callable[..., None]):
    link.weather(delay_s=2.0, jitter_s=0.2)
    trickle(link.device, 20, rows_each=60)
    link.device.catch_up()
    whole("2 s late")


@long
def test_packets_come_twice(link: Link, whole: Callable[..., None]):
    link.weather(doubled=0.5, delay_s=0.02, jitter_s=0.05)
    trickle(link.device, 60, rows_each=600)
    link.device.catch_up()
    whole("half of them doubled")


@long
def test_packets_overtake_each_other(link: Link, whole: Callable[..., None]):
    link.weather(overtaken=0.4, delay_s=0.02, jitter_s=0.05)
    trickle(link.device, 60, rows_each=200)
    link.device.catch_up()
    whole("40 % overtaken")


@long
def test_packets_are_damaged_also_where_no_checksum_of_tcp_sees_it(link: Link, whole: Callable[..., None]):
    link.weather(flipped=0.05, swapped=0.02)
    trickle(link.device, 60, rows_each=100)
    link.device.catch_up()
    assert link.device.errors, "nothing that TLS noticed was damaged"
    whole("5 % flipped, 2 % swapped")


@long
def test_everything_at_once(link: Link, whole: Callable[..., None]):
    link.weather(
        lost=0.05, delay_s=0.2, jitter_s=0.1, doubled=0.1, overtaken=0.1, flipped=0.01, swapped=0.005, bits_per_s=512e3
    )
    trickle(link.device, 40, rows_each=100)
    link.device.catch_up()
    whole("everything at once")


# ── partitions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_link_that_is_cut_in_the_middle_of_uploads(link: Link, whole: Callable[..., None]):
    slow = {"bits_per_s": 256e3, "delay_s": 0.05}
    for pause_s in (0.5, 3.0, 6.0) if FULL else (1.0,):
        link.weather(**slow)
        link.device.count(10, rows_each=150)
        link.cut_in_the_middle(20_000, **slow)
        link.device.count(5)
        time.sleep(pause_s)
    link.weather(**slow)
    link.device.catch_up()
    whole("cut in the middle")


def says_an_error(status: dict[str, Any]) -> bool:
    return status["sync_error"] is not None


@long
def test_a_connection_that_stalls_is_given_up(link: Link, whole: Callable[..., None]):
    slow = {"bits_per_s": 256e3, "delay_s": 0.05}
    link.weather(**slow)
    link.device.count(20, rows_each=150)
    link.cut_in_the_middle(20_000, **slow)
    cut_s = time.monotonic()
    link.device.wait_for(says_an_error, 2 * TIMEOUT_S)
    assert time.monotonic() - cut_s < 1.5 * TIMEOUT_S
    link.weather(**slow)
    link.device.catch_up()
    whole("stalled until it was given up")


@long
def test_a_hub_that_was_restarted_while_the_device_was_out_of_reach(link: Link, whole: Callable[..., None]):
    link.weather(cut=True)
    link.device.count(30, rows_each=60)
    assert link.device.hub.stop() == 0
    link.device.hub.start()
    link.device.count(30)
    link.weather()
    link.device.catch_up()
    whole("hub restarted while cut off")


# ── a narrow link ────────────────────────────────────────────────────────────────────────────────────────────────────

NARROW = {"bits_per_s": 64e3, "delay_s": 0.1}


@long
def test_an_hour_that_waits_goes_over_64_kbit_a_second(link: Link, whole: Callable[..., None]):
    link.weather(cut=True)
    link.device.count(60, rows_each=60)
    link.weather(**NARROW)
    link.device.catch_up()
    whole("an hour over 64 kbit/s")


@long
def test_one_record_that_takes_half_a_minute_goes_over_64_kbit_a_second(link: Link, whole: Callable[..., None]):
    link.weather(**NARROW)
    link.device.count(1, rows_each=7000)
    link.device.catch_up()
    assert link.device.errors == []
    whole("a record of 330 kB over 64 kbit/s")
