"""Who knows everything: what each disk was given, dropped and forgot, and what the hub should therefore have.

Nothing here decides anything; it only watches, and `problems` says at the end what was promised and is not so.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from driftline.spool.ledger import Ledger
from driftline.spool.memory import MemoryOutbox, MemoryStore, Moment
from driftline.spool.ranges import Ranges, covers
from driftline.wire.device import Record, RecordKind, WireError, decode_event, window_head

Place = tuple[str, str]  # kind of record, and of windows the pipeline version


class Made(NamedTuple):
    """A window as its device counted it: when its inferences were in true time, or when it was if it is empty.

    `late`: a window that ends as late or later was made before it, as after a restart in the middle of a window.
    """

    machine: int
    pipeline: str
    inferences: int
    first_ns: int
    last_ns: int
    boot: str
    late: bool = False


@dataclass
class Account:
    """What was made, by the name that devices go by; names of machines that share an identity are one."""

    made: dict[str, Counter[bytes]] = field(default_factory=dict[str, Counter[bytes]])
    kinds: dict[bytes, RecordKind] = field(default_factory=dict[bytes, RecordKind])
    windows: dict[bytes, list[Made]] = field(default_factory=dict[bytes, list[Made]])
    dropped: dict[str, Counter[bytes]] = field(default_factory=dict[str, Counter[bytes]])
    forgotten: dict[str, Counter[bytes]] = field(default_factory=dict[str, Counter[bytes]])
    lost_with_disk: dict[str, Counter[bytes]] = field(default_factory=dict[str, Counter[bytes]])
    disks: list["Disk"] = field(default_factory=list["Disk"])
    shared: set[str] = field(default_factory=set[str])
    hub_restored: bool = False

    def of(self, table: dict[str, Counter[bytes]], name: str) -> "Counter[bytes]":
        """Return a name's part of one of the tables."""
        found = table.get(name)
        return table.setdefault(name, Counter()) if found is None else found


class Disk(MemoryStore):
    """A device's disk, watched."""

    def __init__(self, account: Account, name: str, epoch: str) -> None:
        super().__init__(epoch, lambda _: None)
        self.account = account
        self.name = name
        self.live = True
        # What has been dropped here, and what `dropped` events that are still there or were sent say of it.
        self.dropped: Counter[Place] = Counter()
        self.said: Counter[Place] = Counter()
        # History it gave up: should a hub lack it, this disk says so.
        self.forgotten: Counter[bytes] = Counter()
        self.acknowledging: frozenset[int] = frozenset()
        self._erased: list[Record] = []
        account.disks.append(self)

    def mount(self, on_commit: Callable[[Moment], None]) -> None:
        """Let a machine commit to it."""
        self._on_commit = on_commit

    def duplicate(self) -> "Disk":
        """Return another disk with the same on it."""
        other = Disk(self.account, self.name, "")
        plain = self.copy(None)
        other.facts, other._ledger = plain.facts, plain._ledger
        other._order, other._records = plain._order, plain._records
        other.dropped, other.said = Counter(self.dropped), Counter(self.said)
        other.forgotten = Counter(self.forgotten)
        return other

    @property
    def records_kept(self) -> Sequence[Record]:
        """All that is on it, waiting or history."""
        return list(self._records.values())

    def waits(self, record: Record, ledger: Ledger | None = None) -> bool:
        """Say whether a record has not been acknowledged."""
        history = (ledger or self._ledger).kept_as_history(record.kind)
        return not covers(history, record.sequence)

    # ── watched ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, record: Record) -> None:
        """See `Store`."""
        super().put(record)
        self.account.of(self.account.made, self.name)[record.data] += 1
        self.account.kinds[record.data] = record.kind
        if record.kind == "event":
            self.said.update(told(record))

    def erase(self, kind: RecordKind, ranges: Ranges) -> None:
        """See `Store`."""
        order = self._order[kind]
        for first, last in ranges:
            sequences = order[bisect_left(order, first) : bisect_right(order, last)]
            self._erased += [self._records[one] for one in sequences]
        super().erase(kind, ranges)

    def save(self, before: Ledger, after: Ledger) -> None:
        """See `Store`."""
        for record in self._erased:
            if record.sequence in self.acknowledging or not self.waits(record, before):
                self.account.of(self.account.forgotten, self.name)[record.data] += 1
                self.forgotten[record.data] += 1
            else:
                self.account.of(self.account.dropped, self.name)[record.data] += 1
                said = told(record)
                self.said.subtract(said)
                self.dropped.update({} if said else places(record))
        self._erased = []
        super().save(before, after)

    def lose(self) -> int:
        """Let it break; return how many records waited on it."""
        self.live = False
        lost = self.account.of(self.account.lost_with_disk, self.name)
        lost.update(self.forgotten)
        self.account.of(self.account.forgotten, self.name).subtract(self.forgotten)
        waiting = 0
        for record in self._records.values():
            lost[record.data] += 1
            waiting += self.waits(record)
        return waiting

    def problems(self) -> Iterator[str]:
        """Say where what was dropped here and what is said of it are not the same."""
        pending: Counter[Place] = Counter()
        for (where, kind, pipeline), drop in self._ledger.dropped.items():
            if where == "spool":
                pending[kind, pipeline] += drop.count
                pending["inferences", pipeline] += drop.inferences
        said = self.said + pending
        if +said != +self.dropped:
            yield f"{self.name}: dropped {dict(+self.dropped)}, but {dict(+said)} is said of it"


class WatchedOutbox(MemoryOutbox):
    """Tells its disk what is being acknowledged: that may be forgotten at once, and is not dropped."""

    def __init__(self, disk: Disk, **options: Any) -> None:
        super().__init__(store=disk, **options)
        self.disk = disk

    def report_loss(self, event: bytes) -> None:
        """Begin with an event of the outbox's own, as a spool does that was damaged."""
        self._keeper.note(event)

    def resize(self, bytes_max: int) -> None:
        """Give it another size."""
        self._keeper.room = bytes_max

    def acknowledge(self, epoch: str, sequences: Sequence[int], remember: Mapping[str, str] | None = None) -> None:
        """See `Outbox`."""
        self.disk.acknowledging = frozenset(sequences)
        try:
            super().acknowledge(epoch, sequences, remember)
        finally:
            self.disk.acknowledging = frozenset()


def places(record: Record) -> Counter[Place]:
    """Return what is to be said where a record is dropped."""
    if record.kind != "window":
        return Counter({(record.kind, ""): 1})
    pipeline, _, _, inferences = window_head(record.data)
    return Counter({("window", pipeline): 1, ("inferences", pipeline): inferences})


def told(record: Record) -> Counter[Place]:
    """Return what a `dropped` event says; nothing where it is another record."""
    if record.kind != "event":
        return Counter()
    try:
        event = decode_event(record.data)
    except WireError:
        return Counter()
    if event["type"] != "dropped" or event["where"] != "spool":
        return Counter()
    windows: Mapping[str, Mapping[str, int]] = event.get("windows", {})
    said: Counter[Place] = Counter({("window", pv): one["count"] for pv, one in windows.items()})
    said.update({("inferences", pv): one["inferences"] for pv, one in windows.items()})
    said.update({(kind, ""): count for kind, count in event["counts"].items() if kind != "window"})
    return said
