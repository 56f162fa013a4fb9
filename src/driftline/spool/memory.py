"""An outbox in memory, for tests and simulation: as fast as a dictionary, and the same in every run.

It keeps to the spool's rules because it is the spool's decisions (`keeper.py`) over another store. What may befall a
machine is done to it from outside: `on_commit` is called before and after each commit and may raise (a power cut, a
full disk), `copy` is the disk as it stands now: what a restart finds, or a clone goes on with.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal

from driftline.spool.drops import BYTES_MAX, KINDS
from driftline.spool.keeper import Keeper
from driftline.spool.ledger import Ledger
from driftline.spool.outbox import Batch, random_epoch
from driftline.spool.ranges import Ranges
from driftline.wire.device import Record, RecordKind, Stamp

Moment = Literal["before", "after"]


class MemoryOutbox:
    """An empty outbox; `epochs` names each new epoch.

    After `on_commit` has raised, the process is gone: go on with a `copy`.
    """

    def __init__(
        self,
        *,
        bytes_max: int = BYTES_MAX,
        now_ns: Callable[[], int] = lambda: 0,
        epochs: Callable[[], str] = random_epoch,
        on_commit: Callable[[Moment], None] = lambda _: None,
        store: "MemoryStore | None" = None,
    ) -> None:
        self._bytes_max = bytes_max
        self._now_ns = now_ns
        self._epochs = epochs
        self._store = store or MemoryStore(epochs(), on_commit)
        self._keeper = Keeper(self._store, bytes_max=bytes_max, now_ns=now_ns, new_epoch=epochs)

    def copy(self, on_commit: Callable[[Moment], None] | None = None) -> "MemoryOutbox":
        """Return another outbox with what is committed in this one."""
        return MemoryOutbox(
            bytes_max=self._bytes_max, now_ns=self._now_ns, epochs=self._epochs, store=self._store.copy(on_commit)
        )

    @property
    def epoch(self) -> str:
        """See `Outbox`."""
        return self._keeper.ledger.epoch

    @property
    def backlog(self) -> int:
        """See `Outbox`."""
        return self._keeper.ledger.backlog

    @property
    def waiting(self) -> Mapping[RecordKind, int]:
        """See `Outbox`."""
        return {kind: one.count for kind, one in self._keeper.ledger.waiting.items() if one.count}

    @property
    def waiting_bytes(self) -> int:
        """See `Outbox`."""
        return self._keeper.ledger.waiting_bytes

    @property
    def last_sequence(self) -> int:
        """See `Outbox`."""
        return self._keeper.ledger.last

    def append(
        self,
        kind: RecordKind,
        data: bytes,
        key: str | None = None,
        remember: Mapping[str, str] | None = None,
        stamp: Stamp | None = None,
    ) -> int:
        """See `Outbox`."""
        return self._keeper.append(kind, data, key, remember, stamp)

    def batch(self, bytes_max: int, *, newest_first: bool = False, without: Collection[RecordKind] = ()) -> Batch:
        """See `Outbox`."""
        self._keeper.report()
        return self._keeper.batch(bytes_max, newest_first=newest_first, without=without)

    def acknowledge(self, epoch: str, sequences: Sequence[int], remember: Mapping[str, str] | None = None) -> None:
        """See `Outbox`."""
        self._keeper.acknowledge(epoch, sequences, remember)

    def rewind(self, epoch: str, held: Sequence[tuple[int, int]], remember: Mapping[str, str] | None = None) -> int:
        """See `Outbox`."""
        return self._keeper.rewind(epoch, held, remember)

    def branch(self, epoch: str, conflicts: Collection[int]) -> str:
        """See `Outbox`."""
        return self._keeper.branch(epoch, conflicts)

    def remember(self, key: str, value: str) -> None:
        """See `Outbox`."""
        self._keeper.remember({key: value})

    def recall(self, key: str) -> str | None:
        """See `Outbox`."""
        return self._store.facts.get(key)

    def recall_all(self, prefix: str) -> dict[str, str]:
        """See `Outbox`."""
        return {key.removeprefix(prefix): value for key, value in self._keeper.recall(prefix).items()}

    def close(self) -> None:
        """See `Outbox`."""


class MemoryStore:
    """Records by kind, in the order they came."""

    def __init__(self, epoch: str, on_commit: Callable[[Moment], None]) -> None:
        self.facts: dict[str, str] = {}
        self._ledger = Ledger(epochs=((1, epoch),))
        self._on_commit = on_commit
        self._order: dict[RecordKind, list[int]] = {kind: [] for kind in KINDS}
        self._records: dict[int, Record] = {}

    def copy(self, on_commit: Callable[[Moment], None] | None) -> "MemoryStore":
        """Return another store with the same in it."""
        other = MemoryStore("", on_commit or self._on_commit)
        other.facts = dict(self.facts)
        other._ledger = self._ledger
        other._order = {kind: list(order) for kind, order in self._order.items()}
        other._records = dict(self._records)
        return other

    def transaction(self) -> "MemoryStore":
        """See `Store`; what fails fails before anything is changed."""
        return self

    def __enter__(self) -> None:
        """Begin a transaction."""
        self._on_commit("before")

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Commit it."""
        if failure is None:
            self._on_commit("after")

    def load(self) -> Ledger:
        """See `Store`."""
        return self._ledger

    def save(self, before: Ledger, after: Ledger) -> None:
        """See `Store`."""
        del before
        self._ledger = after

    def put(self, record: Record) -> None:
        """See `Store`."""
        self._order[record.kind].append(record.sequence)
        self._records[record.sequence] = record

    def erase(self, kind: RecordKind, ranges: Ranges) -> None:
        """See `Store`."""
        order = self._order[kind]
        for first, last in ranges:
            begin, end = bisect_left(order, first), bisect_right(order, last)
            for sequence in order[begin:end]:
                del self._records[sequence]
            del order[begin:end]

    def sizes(self, kind: RecordKind, ranges: Ranges) -> Iterator[tuple[int, int]]:
        """See `Store`."""
        return ((one.sequence, len(one.data)) for one in self.records(kind, ranges))

    def records(self, kind: RecordKind, ranges: Ranges, *, newest_first: bool = False) -> Iterator[Record]:
        """See `Store`."""
        order, step = self._order[kind], -1 if newest_first else 1
        for first, last in ranges[::step]:
            places = range(bisect_left(order, first), bisect_right(order, last))
            for at in places[::step]:
                yield self._records[order[at]]

    def below(self, kind: RecordKind, sequence: int) -> int | None:
        """See `Store`."""
        at = bisect_left(self._order[kind], sequence)
        return self._order[kind][at - 1] if at else None

    def above(self, kind: RecordKind, sequence: int) -> int | None:
        """See `Store`."""
        at = bisect_right(self._order[kind], sequence)
        return self._order[kind][at] if at < len(self._order[kind]) else None

    def remember(self, facts: Mapping[str, str]) -> None:
        """See `Store`."""
        self.facts.update(facts)

    def recall(self, prefix: str) -> dict[str, str]:
        """See `Store`."""
        return {key: value for key, value in self.facts.items() if key.startswith(prefix)}
