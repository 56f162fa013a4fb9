"""What goes into one sync, and what follows from its answer: decisions over an outbox, without a network or a clock.

Windows and events always go. Rows go in the order in which they were made, unless the owner set a budget: then they go
last, and only as many as it allows. The oldest go first, or, after a long outage, the newest where the owner wants so;
the head then says from where on the device has told everything, so that nobody takes what still waits for silence.

The answer may say more than "committed":

- `conflicts`: the hub holds other records under these numbers, because another machine uses this device's identity, or
  because this disk was restored from a copy. These records get a new epoch, as all to come, and are sent again.
- `held`: the hub was restored from an older backup. What it lacks, and this device still has, waits again.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from driftline.clock import NS_PER_S
from driftline.spool.outbox import Batch, Outbox
from driftline.wire.device import BatchHead, Record, RecordKind, Reply, window_span

# A batch of a megabyte takes a slow uplink (1 Mbit/s) eight seconds.
BATCH_BYTES = 1024 * 1024
# What an hour of a few fields fits into, and the slowest uplink (64 kbit/s) carries in eight seconds.
BATCH_BYTES_FIRST = 64 * 1024
# A head and its answer take about a kilobyte each: less than this at a time would carry mostly those.
BATCH_BYTES_LEAST = 4 * 1024
# What a budget holds back, and what always goes.
BULK: tuple[RecordKind, ...] = ("rows",)
URGENT: tuple[RecordKind, ...] = ("window", "event")
DAY_NS = 86_400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the owner wants the link used; `rows_kb_a_day` is in kilobytes of 1,000 after compression, None unlimited."""

    rows_kb_a_day: int | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it was made; `more` says whether something waits that could go with the next one at once.

    `costs` is what its rows are to be charged with once they have arrived, in bytes by sequence.
    """

    head: BatchHead
    records: Sequence[Record]
    more: bool
    is_probe: bool = False
    costs: Mapping[int, int] = field(default_factory=dict[int, int])

    @property
    def size(self) -> int:
        """Bytes of its records, before compression."""
        return sum(len(one.data) for one in self.records)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer came to.

    `more`: the next request should follow at once. `refused` names records the hub will never take, by number.
    `branched` is the epoch that what was in conflict was given, `asked_again` how many records a hub that was restored
    from an older backup is to be sent again; None where there was no such thing.
    """

    more: bool
    refused: Mapping[str, str]
    branched: str | None = None
    asked_again: int | None = None


class Timekeeper(Protocol):
    """What is known of this device's clock; `driftline.edge.timekeeping` keeps it."""

    def wants_probe(self) -> bool:
        """Say whether a small request should be timed before a large one goes."""
        ...

    def moved_s(self, record: Record) -> int | None:
        """Return by how much the hub is to move a record in time, in seconds; None where nobody knows its time."""
        ...

    def head_clock(self) -> Mapping[str, int]:
        """Return what the head says of the clock; see `BatchHead`."""
        ...


class TrustedClock:
    """The timekeeper of a device whose clock is right."""

    def wants_probe(self) -> bool:
        """Return False: there is nothing to learn."""
        return False

    def moved_s(self, record: Record) -> int | None:  # noqa: ARG002  every record's time is right
        """Return 0."""
        return 0

    def head_clock(self) -> Mapping[str, int]:
        """Return nothing: no answer was timed."""
        return {}


class Exchange:
    """Makes one request at a time of what waits in the outbox, and takes its answer.

    The outbox remembers what must outlive this process, each with the acknowledgement it belongs to: the last request
    that the hub said it has committed, and what of the budget is spent.
    """

    def __init__(
        self, outbox: Outbox, device: str, timekeeper: Timekeeper | None = None, *, bytes_max: int = BATCH_BYTES
    ) -> None:
        self._outbox = outbox
        self._timekeeper = timekeeper or TrustedClock()
        self._portion = Portion(bytes_max)
        # By device: whoever joins anew under another name has never synced.
        self._synced_key = f"synced:{device}"
        self._previous = int(outbox.recall(self._synced_key) or 0)
        self._budget = Budget.of(outbox.recall(BUDGET_KEY))
        # Up to where the hub knows everything, and where newer windows went first, from where on, by pipeline version.
        self._told_ns: dict[str, int] = {}
        self._ahead_ns: dict[str, tuple[int, int]] = {}
        self._detours = 0

    def request(self, head: BatchHead, now_ns: int, wishes: Wishes | None = None) -> Sent:
        """Make the next request from what the device says of itself; `head.complete_until_ns` is what was closed.

        That is in true time, as far as it is known, as are the windows once they are moved.
        """
        wishes = wishes or Wishes()
        is_probe = self._timekeeper.wants_probe() and not self._detours
        # With a probe no record goes: one is enough to see of which epoch the next are, and nothing is read in vain.
        batch, is_held_back, costs = self._choose(wishes, now_ns, 1 if is_probe else self._portion.size)
        records: Sequence[Record] = () if is_probe else [self._moved(one) for one in batch.records]
        left = _less(self._outbox.waiting, records)
        ready = sum(left.values()) - (sum(left.get(kind, 0) for kind in BULK) if is_held_back else 0)
        until_ns, from_ns = self._complete(
            head.complete_until_ns, records, is_all=not left.get("window"), newest_first=wishes.newest_first
        )
        said = replace(
            head,
            epoch=batch.epoch,
            newest_epoch="" if batch.epoch == self._outbox.epoch else self._outbox.epoch,
            previous=self._previous,
            first_kept=batch.first_kept,
            clock=self._timekeeper.head_clock(),
            backlog=ready,
            waiting=left,
            complete_until_ns=until_ns,
            complete_from_ns=from_ns,
        )
        return Sent(said, records, more=ready > 0, is_probe=is_probe, costs=costs)

    def failed(self, sent: Sent) -> None:
        """Note that no answer came: the next request carries less, so that on a bad link something arrives."""
        if sent.records:
            self._portion.failed(sent.size)

    def answered(self, sent: Sent, reply: Reply) -> Outcome:
        """Take the hub's answer: remember it, and let the outbox forget what is committed."""
        self._portion.arrived(sent.size)
        if reply.epoch != sent.head.epoch:
            return Outcome(more=False, refused={})
        numbers = [one.sequence for one in sent.records]
        conflicts = sorted(set(reply.conflicts).intersection(numbers))
        # Never more than was sent, whatever the hub says.
        upto = reply.acknowledged if reply.held is None else 0
        taken = [one for one in numbers if one <= upto and one not in conflicts]
        self._acknowledge(sent, taken, reply.synced)
        branched = self._outbox.branch(sent.head.epoch, conflicts) if conflicts else None
        asked_again = None if reply.held is None else self._rewind(sent.head.epoch, reply.held, reply.synced)
        if reply.held is None and len(taken) == len(numbers):
            self._tell(sent.head)
        return Outcome(self._goes_on(sent, taken, reply), reply.refused, branched, asked_again)

    # ── the request ──────────────────────────────────────────────────────────────────────────────────────────────

    def _choose(self, wishes: Wishes, now_ns: int, bytes_max: int) -> tuple[Batch, bool, Mapping[int, int]]:
        """Return the next batch, whether the budget holds back what it might have held besides, and what rows cost."""
        first = self._outbox.batch(
            bytes_max,
            newest_first=wishes.newest_first,
            without=() if wishes.rows_kb_a_day is None else BULK,
        )
        if wishes.rows_kb_a_day is None:
            return first, False, {}
        self._budget.fill(wishes.rows_kb_a_day * 1000, now_ns)
        room = bytes_max - sum(len(one.data) for one in first.records)
        if room <= 0 or any(_less(self._outbox.waiting, first.records).get(kind) for kind in URGENT):
            return first, self._budget.is_spent, {}
        more = self._outbox.batch(room, newest_first=wishes.newest_first, without=URGENT)
        if first.records and more.epoch != first.epoch:
            return first, self._budget.is_spent, {}
        costs = self._budget.affordable(more.records[::-1] if wishes.newest_first else more.records)
        rows = [one for one in more.records if one.sequence in costs]
        records = tuple(sorted([*first.records, *rows], key=lambda one: one.sequence))
        return replace(more if more.records else first, records=records), len(rows) < len(more.records), costs

    def _moved(self, record: Record) -> Record:
        moved_s = self._timekeeper.moved_s(record)
        return record if moved_s == record.moved_s else record._replace(moved_s=moved_s)

    def _complete(
        self, closed_ns: Mapping[str, int], records: Sequence[Record], *, is_all: bool, newest_first: bool
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return up to where pipelines are complete with a batch, and from where on where that is not the beginning.

        `closed_ns` is up to where the device has closed windows; `is_all` says that none waits besides this batch.
        """
        if is_all:
            return dict(closed_ns), {}
        spans: dict[str, list[tuple[int, int]]] = {}
        for one in records:
            if one.kind == "window" and one.moved_s is not None:
                pipeline, start_s, end_s = window_span(one.data)
                span = (start_s + one.moved_s) * NS_PER_S, (end_s + one.moved_s) * NS_PER_S
                spans.setdefault(pipeline, []).append(span)
        told_ns = dict(self._told_ns)
        if not newest_first:
            told_ns |= {pv: max(told_ns.get(pv, 0), *(end for _, end in ends)) for pv, ends in spans.items()}
            return {pv: min(until, closed_ns.get(pv, until)) for pv, until in told_ns.items()}, {}
        from_ns = {
            pv: _reach([*spans.get(pv, ()), *([self._ahead_ns[pv]] if pv in self._ahead_ns else [])], until)
            for pv, until in closed_ns.items()
            if told_ns.get(pv, 0) < until
        }
        return dict(closed_ns), from_ns

    # ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────

    def _acknowledge(self, sent: Sent, taken: Sequence[int], synced: int) -> None:
        if not taken:
            # Nothing was lost if this answer is forgotten, so it is not worth a commit.
            return
        # Only now: what was lost on the way goes again, and would be held back as if it had arrived.
        cost = sum(sent.costs.get(one, 0) for one in taken)
        spent = {BUDGET_KEY: self._budget.text_after(cost)} if cost else {}
        self._outbox.acknowledge(sent.head.epoch, taken, {self._synced_key: str(synced)} | spent)
        self._budget.spend(cost)
        self._previous = synced

    def _rewind(self, epoch: str, held: Sequence[tuple[int, int]], synced: int) -> int:
        count = self._outbox.rewind(epoch, held, {self._synced_key: str(synced)})
        self._previous = synced
        self._told_ns.clear()
        self._ahead_ns.clear()
        return count

    def _tell(self, head: BatchHead) -> None:
        """Remember what the hub now knows to be complete."""
        for pv, until_ns in head.complete_until_ns.items():
            if pv in head.complete_from_ns:
                self._ahead_ns[pv] = head.complete_from_ns[pv], until_ns
            else:
                self._told_ns[pv] = until_ns
                self._ahead_ns.pop(pv, None)

    def _goes_on(self, sent: Sent, taken: Sequence[int], reply: Reply) -> bool:
        """Say whether the next request follows at once: where something was achieved, or once, to try another way."""
        is_detour = sent.is_probe or bool(reply.conflicts) or reply.held is not None
        self._detours = self._detours + 1 if is_detour and not taken else 0
        if is_detour:
            return self._detours < 2
        return sent.more and bool(taken)


def _less(waiting: Mapping[RecordKind, int], records: Sequence[Record]) -> dict[str, int]:
    """Return what waits besides some records, by kind."""
    left: dict[str, int] = {**waiting}
    for one in records:
        left[one.kind] = left.get(one.kind, 0) - 1
    return {kind: count for kind, count in left.items() if count > 0}


def _reach(spans: Sequence[tuple[int, int]], until: int) -> int:
    """Return how far back from `until` these spans (start, end) reach without a hole.

    >>> _reach([(0, 10), (20, 30), (30, 40)], 40)
    20
    """
    since = until
    for start, end in sorted(spans, key=lambda span: span[1], reverse=True):
        if end < since:
            break
        since = min(since, start)
    return since


# ── how much at a time ───────────────────────────────────────────────────────────────────────────────────────────


class Portion:
    """How many bytes of records a request carries: half of what failed, twice what arrived.

    It begins small, so that a link nobody knows yet is not given a megabyte that would have to be sent again.

    >>> portion = Portion()
    >>> portion.arrived(60_000), portion.size
    (None, 120000)
    >>> portion.failed(100_000), portion.size
    (None, 50000)
    """

    def __init__(self, bytes_max: int = BATCH_BYTES) -> None:
        self._most = bytes_max
        self._least = min(BATCH_BYTES_LEAST, bytes_max)
        self.size = min(BATCH_BYTES_FIRST, bytes_max)

    def failed(self, size: int) -> None:
        """Shrink: a request of so many bytes got no answer."""
        self.size = max(self._least, min(self.size, size) // 2)

    def arrived(self, size: int) -> None:
        """Grow: a request of so many bytes was answered."""
        self.size = min(self._most, max(self.size, 2 * size))


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────

BUDGET_KEY = "budget"


class Budget:
    """A bucket of bytes that fills evenly over a day and holds one day's worth.

    >>> budget, rows = Budget(), [Record(i, "rows", bytes(range(200))) for i in (1, 2, 3, 4, 5, 6)]
    >>> budget.fill(1000, now_ns=0)
    >>> budget.affordable(rows)
    {1: 211, 2: 211, 3: 211, 4: 211}
    >>> budget.spend(4 * 211)
    >>> budget.affordable(rows)
    {}
    >>> budget.fill(1000, now_ns=DAY_NS // 4)
    >>> budget.affordable(rows)
    {1: 211}
    """

    def __init__(self, left: float | None = None, at_ns: int = 0) -> None:
        self._left = left
        self._at_ns = at_ns
        self._size = 0

    @classmethod
    def of(cls, text: str | None) -> "Budget":
        """Return the budget that `text` was remembered of; a full one where nothing was."""
        if text is None:
            return cls()
        left, at_ns = text.split()
        return cls(float(left), int(at_ns))

    def text_after(self, cost: int) -> str:
        """What is to be remembered once so much is spent."""
        return f"{(self._left or 0.0) - cost:.0f} {self._at_ns}"

    def spend(self, cost: int) -> None:
        """Take so many bytes of it."""
        self._left = None if self._left is None else self._left - cost

    @property
    def is_spent(self) -> bool:
        """Whether nothing of it is left."""
        return self._left is not None and self._left <= 0

    def fill(self, bytes_a_day: int, now_ns: int) -> None:
        """Let it fill up to now. A clock that was set changes it by a day's worth at most, and never empties it."""
        left = bytes_a_day if self._left is None else self._left
        gained = bytes_a_day * max(0, now_ns - self._at_ns) / DAY_NS
        self._left = min(bytes_a_day, left + gained)
        self._size, self._at_ns = bytes_a_day, now_ns

    def affordable(self, records: Sequence[Record]) -> dict[int, int]:
        """Return what these records cost on the link, one after the other, as long as it lasts: bytes by sequence.

        One that costs more than a whole day's worth goes when the bucket is full, or it would never go.
        """
        costs: dict[int, int] = {}
        left = self._left or 0.0
        for one in records:
            cost = len(zlib.compress(one.data, 6))
            if cost > left and (not self._size or left < self._size):
                break
            left -= cost
            costs[one.sequence] = cost
        return costs
