"""One machine with driftline on it: worker, agent, clock and disk, each of which may fail by itself.

The recorder, the outbox, the exchange, the shipper, the timekeeper and the request numbers are the real ones. Played
here is only what ties them together in processes: the worker hands records over under its own numbers, keeps what it
has counted where a crash leaves it (`left`), and the agent commits a record with the reach of its window.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from driftline.clock import NS_PER_S
from driftline.edge.exchange import Exchange, Sent, Wishes
from driftline.edge.recorder import Recorder, window_start_s
from driftline.edge.shipper import Shipper, Upload
from driftline.edge.timekeeping import CLOCK_KEY, Reach, Sample, Timekeeper, stamp_now
from driftline.edge.uplink import RequestNumbers
from driftline.errors import DriftlineError, NotAllowedError, StaleRequestError, TemporaryError
from driftline.spool.memory import Moment
from driftline.spool.ranges import within
from driftline.wire.device import (
    BatchHead,
    Desired,
    DesiredPipeline,
    Record,
    RecordKind,
    Reply,
    Stamp,
    encode_batch,
    encode_event,
    window_head,
    window_span,
)
from tests.simulation.account import Disk, Made, WatchedOutbox
from tests.simulation.world import HOUR_S, OBSERVED, WINDOW_S, SimulatedClock, World

if TYPE_CHECKING:
    from tests.simulation.link import Link

TIMEOUT_S = 20.0
# How many of the windows left behind on either side are looked at where a head says what is complete.
LOOKED_AT_MAX = 4
BATCH_BYTES = 6000
# A window is an hour here and a minute there: the shipper's seconds are minutes.
SHIPPER_UNIT_S = 60


class PowerCutError(Exception):
    """The machine is off."""


class KilledError(Exception):
    """The agent is gone."""


class Carried(NamedTuple):
    """A record on its way from worker to agent, by its worker's number."""

    number: int
    kind: RecordKind
    data: bytes
    stamp: Stamp | None
    head: tuple[str, int, int, int] | None = None


@dataclass
class Left:
    """What a worker that was killed had counted, where its agent finds it."""

    sender: str
    records: list[Carried]
    reached: Mapping[str, Reach]


@dataclass
class Flight:
    """A request under way."""

    sent: Sent
    asked_ns: int
    number: int
    is_retry: bool = False

    @cached_property
    def body(self) -> bytes:
        """Its bytes; most that are lost are never made."""
        return encode_batch(self.sent.head, self.sent.records)


@dataclass
class Armed:
    """A failure that waits for a moment of a commit; `skip` commits go well before."""

    moment: Moment
    error: type[Exception]
    skip: int
    off_s: float


@dataclass(frozen=True)
class Build:
    """What a machine is made of; tests of the simulation put broken parts in."""

    exchange: Callable[..., Exchange] = Exchange
    timekeeper: Callable[..., Any] = Timekeeper.of
    outbox: Callable[..., WatchedOutbox] = WatchedOutbox
    recorder: Callable[..., Recorder] = Recorder


@dataclass
class Machine:
    """A machine of this `name`; `number` tells machines apart that share it."""

    world: World
    link: "Link"
    number: int
    name: str
    key: str
    disk: Disk
    pipelines: tuple[str, ...]
    bytes_max: int
    ppm: float
    build: Build = field(default_factory=Build)
    wishes: Wishes = field(default_factory=Wishes)
    image: Disk | None = None
    recorded: int = 0
    gone: int = 0
    damaged: int = 0
    quiet_syncs: int = 0
    problems: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.is_on = False
        self.is_working = True
        self.full_until_ns = 0
        self.armed: Armed | None = None
        self.flight: Flight | None = None
        self.agent_alive = False
        self.left: list[Left] = []
        self._turn = 0
        self._wakes = 0
        self._workers = 0
        self._newest_ns: dict[str, int] = {}

    @property
    def who(self) -> str:
        """Names this machine in the trace."""
        return f"{self.name}/{self.number}"

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        self.world.note(self.who, what)

    # ── power ────────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self, wall_ns: int | None = None, damage: str = "") -> None:
        """Switch it on; its clock shows `wall_ns`, or the truth. `damage` is what is wrong with its disk."""
        if self.is_on:
            return
        if damage:
            lost = self.disk.lose()
            self.note(f"{damage}: {lost} records lost")
            self.disk = Disk(self.disk.account, self.name, self.world.name())
        self.clock = SimulatedClock(
            self.world, self.world.name(), self.ppm, self.world.now_ns if wall_ns is None else wall_ns
        )
        self.is_on = True
        self._turn += 1
        self.note(f"boots, its clock {(self.clock.now_ns() - self.world.now_ns) // NS_PER_S} s ahead")
        self.disk.mount(self._on_commit)
        self._new_worker()
        self.world.later(self.world.rng.uniform(1, HOUR_S), self._tick, self._turn)
        self._guarded(self._start_agent, damage if damage.startswith("spool") else "")

    def cut_power(self, off_s: float, wall_error_s: float | None = 0.0, damage: str = "") -> None:
        """Take the power away, and with it what is in memory; back after `off_s`, in 1970 where the error is None."""
        if not self.is_on:
            return
        self.note(f"loses power for {off_s:.0f} s")
        self._end_agent()
        lost = self._uncommitted()
        self.gone += lost
        self.world.count("inferences lost with power", lost)
        self.left = []
        self.is_on = False
        self._turn += 1
        self.armed = None
        self.world.later(off_s, self._power_returns, wall_error_s, damage)

    def _power_returns(self, wall_error_s: float | None, damage: str) -> None:
        wall_ns = 0 if wall_error_s is None else self.world.now_ns + int(wall_error_s * NS_PER_S)
        self.boot(wall_ns, damage)

    def _uncommitted(self) -> int:
        """Return how many inferences only memory holds."""
        self.recorder.hand_over()
        known = self.disk.load().senders
        found = [(self.sender, one) for one in self.waiting]
        found += [(left.sender, one) for left in self.left for one in left.records]
        return sum(
            one.head[3] for sender, one in found if one.head is not None and known.get(sender, (-1, 0))[0] < one.number
        )

    def _on_commit(self, moment: Moment) -> None:
        if moment == "before" and self.world.now_ns < self.full_until_ns:
            self.world.count("commits refused by a full disk")
            raise TemporaryError("the disk is full")
        armed = self.armed
        if armed is None or armed.moment != moment:
            return
        if armed.skip:
            armed.skip -= 1
            return
        self.world.count(f"{armed.error.__name__.removesuffix('Error')} {moment} a commit")
        raise armed.error

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> None:
        """Act; what fails in the middle of it takes the agent or the whole machine along."""
        try:
            act(*arguments)
        except KilledError:
            self.kill_agent()
        except PowerCutError:
            off_s = self.armed.off_s if self.armed is not None else 60.0
            self.cut_power(off_s)

    # ── worker ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _new_worker(self) -> None:
        self._workers += 1
        self.sender = f"{self.number}-{self._turn}-{self._workers}"
        self.waiting: deque[Carried] = deque()
        self._carried = 0
        self._times: dict[tuple[str, int], list[int]] = {}
        self.recorder = self.build.recorder(self._deliver, self.clock, window_s=WINDOW_S)
        self.recorder.configure(DESIRED, {}, self.clock.now_ns())
        for pipeline in self.pipelines:
            self.recorder.begin(pipeline, self.clock.now_ns())

    def _deliver(self, kind: RecordKind, data: bytes, stamp: Stamp | None) -> None:
        self._carried += 1
        head = window_head(data) if kind == "window" else None
        self.waiting.append(Carried(self._carried, kind, data, stamp, head))
        if head is not None:
            self._describe(data, stamp, head)

    def _describe(self, data: bytes, stamp: Stamp | None, head: tuple[str, int, int, int]) -> None:
        """Tell the account when in true time the window was."""
        pipeline, start_s, _, inferences = head
        about_ns = self.clock.true_ns(start_s * NS_PER_S - (stamp.offset_ns if stamp else 0))
        times = self._times.pop((pipeline, start_s), [])
        if len(times) != inferences:
            self.problems.append(f"{self.who}: a window of {inferences} inferences counted {len(times)}")
        end_ns, newest_ns = about_ns + WINDOW_S * NS_PER_S, self._newest_ns.get(pipeline, 0)
        late = end_ns <= newest_ns + WINDOW_S * NS_PER_S // 2
        self._newest_ns[pipeline] = max(end_ns, newest_ns)
        made = Made(
            self.number,
            pipeline,
            inferences,
            min(times, default=about_ns),
            max(times, default=about_ns),
            self.clock.boot,
            late,
        )
        self.disk.account.windows.setdefault(data, []).append(made)

    def _tick(self, turn: int) -> None:
        """Count, and close what ended: about every two hours, so mostly two windows at a time."""
        if turn != self._turn or not self.is_working:
            return
        wall_ns, rng = self.clock.now_ns(), self.world.rng
        for pipeline in self.pipelines:
            for _ in range(rng.choice((0, 1, 1, 1, 2))):
                self._count(pipeline, wall_ns)
        self.recorder.close(wall_ns)
        self._guarded(self._flush)
        self.world.later(rng.uniform(1.6, 2.4) * HOUR_S, self._tick, turn)

    def _count(self, pipeline: str, wall_ns: int) -> None:
        # The recorder looks at the clock first: what was open before it was set is handed over by that.
        self.recorder.record(pipeline, wall_ns, {"out.x": self.world.rng.random()})
        self._times.setdefault((pipeline, window_start_s(wall_ns, WINDOW_S)), []).append(self.world.now_ns)
        self.recorded += 1

    def _flush(self) -> None:
        if not self.agent_alive:
            return
        try:
            while self.waiting:
                self._take(self.sender, self.waiting[0])
                self.waiting.popleft()
            self._beat(self._closed())
        except TemporaryError:
            self.note(f"its disk takes nothing; {len(self.waiting)} records wait in the worker")

    def _closed(self) -> dict[str, Reach]:
        stamp = stamp_now(self.clock)
        return {pv: Reach(until_ns, stamp) for pv, until_ns in self.recorder.complete_until_ns.items()}

    def kill_worker(self) -> None:
        """End the worker in the middle of a window, perhaps in the middle of handing over."""
        if not self.is_on:
            return
        reached = self._closed()
        self.recorder.hand_over()
        if self.agent_alive and self.world.rng.random() < 0.5:
            # The agent has these, but the worker never heard so.
            self._guarded(self._take_some, list(self.waiting)[: self.world.rng.randrange(3)])
        if not self.is_on:
            return
        # What was counted after the last snapshot.
        lost = self.world.rng.randrange(2)
        self.recorded += lost
        self.gone += lost
        self.world.count("inferences lost with a worker", lost)
        self.left.append(Left(self.sender, list(self.waiting), reached))
        self.note(f"its worker is killed; {len(self.waiting)} records are left")
        self._new_worker()
        self._guarded(self._take_left)

    def _take_some(self, records: list[Carried]) -> None:
        try:
            for one in records:
                self._take(self.sender, one)
        except TemporaryError:
            pass

    def restart(self) -> None:
        """Stop agent and worker in order, and start them."""
        if not self.is_on:
            return
        self.note("restarts in order")
        self.recorder.hand_over()
        self._guarded(self._flush)
        if not self.is_on:
            return
        if self.waiting:
            self.left.append(Left(self.sender, list(self.waiting), {}))
        self._end_agent()
        self._new_worker()
        self._guarded(self._start_agent)

    def stop_counting(self) -> None:
        """Hand over what is open and count no more."""
        self.is_working = False
        self.recorder.hand_over()
        self._guarded(self._flush)

    def set_clock(self, error_s: float) -> None:
        """Let somebody set the wall clock, to the truth or not."""
        if self.is_on:
            self.note(f"its clock is set to {error_s:.0f} s ahead")
            self.clock.set(self.world.now_ns + int(error_s * NS_PER_S))

    # ── agent ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_agent(self, lost: str = "") -> None:
        if self.agent_alive or not self.is_on:
            return
        try:
            self.outbox = self.build.outbox(
                self.disk, bytes_max=self.bytes_max, now_ns=self.clock.now_ns, epochs=self.world.name
            )
            if lost:
                event = encode_event("spool_lost", self.clock.now_ns(), reason=lost, machine=self.number)
                self.outbox.report_loss(event)
                self.damaged += 1
            self.timekeeper = self.build.timekeeper(self.clock, self.outbox, window_s=WINDOW_S)
        except TemporaryError:
            self.world.later(60, self._guarded, self._start_agent, lost)
            return
        self.reached = {pv: Reach.of(text) for pv, text in self.outbox.recall_all("complete:").items()}
        self.exchange = self.build.exchange(self.outbox, f"d-{self.name}", self.timekeeper, bytes_max=BATCH_BYTES)
        self.shipper = Shipper(self._shipper_s(), self.world.rng.uniform)
        self.numbers = RequestNumbers(self.outbox, self.clock.now_ns)
        self.agent_alive = True
        self._take_left()
        self._flush()
        self._plan()

    def _end_agent(self) -> None:
        self.agent_alive = False
        self.flight = None
        self._wakes += 1

    def kill_agent(self) -> None:
        """End the agent; it is started again."""
        if not self.is_on:
            return
        self.note("its agent is killed")
        self._end_agent()
        self.armed = None
        self.world.later(5, self._guarded, self._start_agent)

    def tell(self, what: str) -> None:
        """Put an event into the outbox."""
        if self.is_on and self.agent_alive:
            self._guarded(self._tell, what)

    def _tell(self, what: str) -> None:
        event = encode_event(what, self.clock.now_ns(), number=self.world.rng.getrandbits(64))
        try:
            self.outbox.append("event", event, stamp=stamp_now(self.clock))
        except TemporaryError:
            return
        self.shipper.hurry(self._shipper_s())
        self._plan()

    def _take(self, sender: str, one: Carried) -> None:
        remember: dict[str, str] = {}
        reached: dict[str, Reach] = {}
        if one.head is not None:
            pipeline, start_s, width_s, _ = one.head
            reach, known = Reach((start_s + width_s) * NS_PER_S, one.stamp), self.reached.get(pipeline)
            if known is None or reach.is_beyond(known, self.clock.boot):
                reached[pipeline] = reach
                remember[f"complete:{pipeline}"] = reach.text
        last = self.outbox.last_sequence
        self.outbox.append(one.kind, one.data, f"{sender}:{one.number}", remember, one.stamp)
        if self.outbox.last_sequence > last:
            self.reached |= reached

    def _beat(self, told: Mapping[str, Reach]) -> None:
        for pv, reach in told.items():
            known = self.reached.get(pv)
            if known is None or known.until_ns != reach.until_ns:
                self.outbox.remember(f"complete:{pv}", reach.text)
                self.reached[pv] = reach

    def _take_left(self) -> None:
        if not self.agent_alive:
            return
        try:
            while self.left:
                for one in self.left[0].records:
                    self._take(self.left[0].sender, one)
                self._beat(self.left[0].reached)
                self.left.pop(0)
        except TemporaryError:
            self.world.later(60, self._guarded, self._take_left)

    # ── syncing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _shipper_s(self) -> float:
        return self.clock.steady_ns() / NS_PER_S / SHIPPER_UNIT_S

    def _plan(self) -> None:
        """Wake up when the shipper wants to."""
        self._wakes += 1
        if self.flight is None:
            step = self.shipper.next(self._shipper_s())
            pause_s = 0.0 if isinstance(step, Upload) else step.seconds * SHIPPER_UNIT_S / self.clock.rate + 0.001
            self.world.later(pause_s, self._wake, self._wakes)

    def _wake(self, wake: int) -> None:
        if wake == self._wakes and self.agent_alive:
            self._guarded(self._sync)

    def hurry(self) -> None:
        """Sync at once."""
        if self.is_on and self.agent_alive and self.flight is None:
            self._guarded(self._sync)

    def _sync(self) -> None:
        if not isinstance(self.shipper.next(self._shipper_s()), Upload) and self.is_working:
            self._plan()
            return
        try:
            sent = self.exchange.request(self._head(), self.clock.now_ns(), self.wishes)
            number = self.numbers.next()
        except TemporaryError:
            self.shipper.refused(self._shipper_s())
            self._plan()
            return
        self._check_told(sent)
        flight = Flight(sent, self.clock.steady_ns(), number)
        self._send(flight)

    def _send(self, flight: Flight) -> None:
        self.flight = flight
        head = flight.sent.head
        self.note(f"sends {flight.number}: {len(flight.sent.records)} of {head.epoch[:6]}, {head.backlog} wait")
        self.link.carry(self, flight)
        self.world.later(TIMEOUT_S, self._time_out, flight)

    def _head(self) -> BatchHead:
        shifts = {
            pv: self.timekeeper.shift_s(reach.stamp, reach.until_ns // NS_PER_S) for pv, reach in self.reached.items()
        }
        until_ns = {pv: self.reached[pv].until_ns + s * NS_PER_S for pv, s in shifts.items() if s is not None}
        return BatchHead(f"d-{self.name}", self.outbox.epoch, complete_until_ns=until_ns)

    def _time_out(self, flight: Flight) -> None:
        if self.flight is flight:
            self.world.count("requests without an answer")
            self._fail(for_good=False)

    def _fail(self, *, for_good: bool) -> None:
        self.flight = None
        self.quiet_syncs = 0
        self.shipper.refused(self._shipper_s(), for_good=for_good)
        self._plan()

    def hear(self, flight: Flight, answer: Reply | DriftlineError) -> None:
        """Take an answer; one to a request that was given up is nobody's."""
        if self.flight is flight and self.agent_alive:
            self._guarded(self._hear, flight, answer)

    def _hear(self, flight: Flight, answer: Reply | DriftlineError) -> None:
        if isinstance(answer, StaleRequestError) and not flight.is_retry:
            self.world.count("request numbers too low")
            self.numbers.above(answer.last)
            try:
                number = self.numbers.next()
            except TemporaryError as error:
                answer = error
            else:
                self._send(Flight(flight.sent, flight.asked_ns, number, is_retry=True))
                return
        if isinstance(answer, DriftlineError):
            self._fail(for_good=isinstance(answer, NotAllowedError))
            return
        self.flight = None
        try:
            self._answered(flight, answer)
        except TemporaryError:
            self.shipper.refused(self._shipper_s())
        self._plan()

    def _answered(self, flight: Flight, reply: Reply) -> None:
        if self.timekeeper.learn(Sample.of_reply(flight.asked_ns, self.clock.steady_ns(), reply.now_ns)):
            self.outbox.remember(CLOCK_KEY, self.timekeeper.document)
        outcome = self.exchange.answered(flight.sent, reply)
        if outcome.branched is not None:
            self.note(f"branches to {outcome.branched[:6]}")
            self.world.count("branches")
        if outcome.asked_again is not None:
            self.note(f"{outcome.asked_again} are asked for again")
            self.world.count("records asked for again", outcome.asked_again)
        self.shipper.acknowledged(self._shipper_s(), reply.sync_interval_s / SHIPPER_UNIT_S, more=outcome.more)
        is_quiet = not outcome.more and not self.outbox.backlog and reply.held is None
        self.quiet_syncs = self.quiet_syncs + 1 if is_quiet else 0

    def _check_told(self, sent: Sent) -> None:
        """See that nothing which ends before what is told to be complete still waits."""
        head = sent.head
        if len(sent.records) == self.outbox.backlog:
            return
        held_s = getattr(self.timekeeper, "_held_s", 0)
        for record in self._left_behind([one.sequence for one in sent.records]):
            pipeline, start_s, end_s = window_span(record.data)
            until_ns = head.complete_until_ns.get(pipeline)
            moved_s = self.timekeeper.moved_s(record)
            if until_ns is None or moved_s is None:
                continue
            since_ns = head.complete_from_ns.get(pipeline, 0)
            told = (start_s + moved_s) * NS_PER_S >= since_ns and (end_s + moved_s) * NS_PER_S <= until_ns
            if told and not self._came_late(record):
                self.problems.append(
                    f"{self.who}: says {pipeline} is complete until {until_ns // NS_PER_S}, but #{record.sequence}, "
                    f"of {start_s + moved_s}, waits"
                )
        if hasattr(self.timekeeper, "_held_s"):
            self.timekeeper._held_s = held_s

    def _left_behind(self, sent: Sequence[int]) -> Iterator[Record]:
        """Yield the nearest windows that wait before those sent and after them."""
        waiting = self.disk.load().not_acknowledged("window")
        before = within(waiting, ((1, min(sent, default=1) - 1),))
        after = within(waiting, ((max(sent, default=0) + 1, self.outbox.last_sequence),))
        yield from islice(self.disk.records("window", before, newest_first=True), LOOKED_AT_MAX)
        yield from islice(self.disk.records("window", after), LOOKED_AT_MAX)

    def _came_late(self, record: Record) -> bool:
        """Say whether a window was late in its own boot; others may have made one of the same bytes in time."""
        makings = self.disk.account.windows.get(record.data, ())
        return all(one.late for one in makings if record.stamp is None or one.boot == record.stamp.boot)


DESIRED = Desired(
    pipelines=(
        DesiredPipeline("belt", "belt", OBSERVED, rows_max=None),
        DesiredPipeline("door", "door", OBSERVED),
    )
)
