"""The outbox's decisions over any store: what waits, what goes first, what a reply of the hub changes.

`Spool` and `MemoryOutbox` are this over a file and over memory. Each change is one transaction of the store; where it
fails, the ledger is what it was.
"""

import heapq
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import Protocol

from driftline.errors import InvalidInputError
from driftline.spool import drops
from driftline.spool.drops import KINDS
from driftline.spool.ledger import Ledger, Tally, sender_of
from driftline.spool.outbox import Batch, epoch_after
from driftline.spool.ranges import Range, Ranges, covers, joined, within, without
from driftline.wire.device import Record, RecordKind, Stamp


class Store(Protocol):
    """Where records, the ledger and the metadata lie."""

    def transaction(self) -> AbstractContextManager[None]:
        """Keep all that is changed inside, or nothing of it."""
        ...

    def load(self) -> Ledger:
        """Return the ledger as it was saved, its tallies counted anew."""
        ...

    def save(self, before: Ledger, after: Ledger) -> None:
        """Save what is new in the ledger."""
        ...

    def put(self, record: Record) -> None:
        """Add a record."""
        ...

    def erase(self, kind: RecordKind, ranges: Ranges) -> None:
        """Take all records of a kind that lie in the ranges away."""
        ...

    def sizes(self, kind: RecordKind, ranges: Ranges) -> Iterator[tuple[int, int]]:
        """Return sequence and size of the records of a kind in the ranges, ascending."""
        ...

    def records(self, kind: RecordKind, ranges: Ranges, *, newest_first: bool = False) -> Iterator[Record]:
        """Return the records of a kind in the ranges, ascending or descending."""
        ...

    def below(self, kind: RecordKind, sequence: int) -> int | None:
        """Return the nearest record of a kind with a smaller sequence."""
        ...

    def above(self, kind: RecordKind, sequence: int) -> int | None:
        """Return the nearest record of a kind with a greater sequence."""
        ...

    def remember(self, facts: Mapping[str, str]) -> None:
        """Add to the metadata."""
        ...

    def recall(self, prefix: str) -> dict[str, str]:
        """Return the metadata under keys that begin so, by the whole key."""
        ...


class Keeper:
    """An outbox over `store`; at most `bytes_max` bytes of records, of which history is a part.

    `room` may be set lower while a disk is full. `new_epoch` names epochs.
    """

    def __init__(
        self, store: Store, *, bytes_max: int, now_ns: Callable[[], int], new_epoch: Callable[[], str]
    ) -> None:
        self.room = bytes_max
        self._history_max = drops.history_max(bytes_max)
        self._store = store
        self._now_ns = now_ns
        self._new_epoch = new_epoch
        self.ledger = store.load()

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    def append(
        self, kind: RecordKind, data: bytes, key: str | None, remember: Mapping[str, str] | None, stamp: Stamp | None
    ) -> int:
        """See `Outbox.append`."""
        if kind not in KINDS:
            raise InvalidInputError(f"a record is a window, rows or an event, not {kind!r}")
        sender = None if key is None else sender_of(key)
        if sender is not None:
            number, sequence = self.ledger.senders.get(sender[0], (-1, 0))
            if sender[1] <= number:
                return sequence
        with self._change(remember):
            if self.ledger.size + len(data) > self.room:
                self._give_up(self.ledger.size + len(data) - self.room + int(self.room * drops.ROOM_SHARE))
            self._put(kind, data, stamp, sender)
        return self.ledger.last

    def batch(self, bytes_max: int, *, newest_first: bool, without: Collection[RecordKind]) -> Batch:
        """See `Outbox.batch`, but for the drops; `report` comes first."""
        taken: list[Record] = []
        epoch, size = self.ledger.epoch, 0
        for record in self._waiting([kind for kind in KINDS if kind not in without], newest_first=newest_first):
            size += len(record.data)
            theirs = self.ledger.epoch_of(record.sequence)
            if taken and (size > bytes_max or theirs != epoch):
                break
            epoch = theirs
            taken.append(record)
        return Batch(epoch, tuple(reversed(taken) if newest_first else taken), self._first_kept(epoch))

    def acknowledge(self, epoch: str, sequences: Sequence[int], remember: Mapping[str, str] | None) -> None:
        """See `Outbox.acknowledge`."""
        mine = {one for one in sequences if 0 < one <= self.ledger.last and self.ledger.epoch_of(one) == epoch}
        if not mine and not remember:
            return
        with self._change(remember):
            for kind in KINDS if mine else ():
                self._acknowledge(kind, mine)
            excess = sum(one.size for one in self.ledger.history.values()) - self._history_max
            if excess > 0:
                self._give_up_history(excess + int(self._history_max * drops.HISTORY_STEP_SHARE))

    def rewind(self, epoch: str, held: Sequence[Range], remember: Mapping[str, str] | None) -> int:
        """See `Outbox.rewind`."""
        before = self.ledger.backlog
        with self._change(remember):
            there = within(self.ledger.sequences_of(epoch), joined(held))
            # Of other epochs nothing was said: what the hub has of them it knows again.
            is_mine = any(name == epoch for _, name in self.ledger.epochs)
            asked = without(((1, self.ledger.last),), there) if is_mine and self.ledger.last else ()
            for kind in KINDS if asked else ():
                self._wait_again(kind, asked)
            self.ledger = self.ledger.lacking(epoch, without(self.ledger.sequences_of(epoch), there))
        return self.ledger.backlog - before

    def branch(self, epoch: str, conflicts: Collection[int]) -> str:
        """See `Outbox.branch`."""
        ledger = self.ledger
        with self._change():
            mine = joined((one, one) for one in conflicts if ledger.epoch_of(one) == epoch and self._waits(one))
            # Each by what it says itself, not by what went with it: of several copies of a disk, each with the same
            # records still waiting, all give them the same new places, and the hub takes them once.
            to = {one.sequence: epoch_after(epoch, one) for kind in KINDS for one in self._store.records(kind, mine)}
            newest = ledger.epoch
            if epoch == newest:
                newest = to[max(to)] if to else self._new_epoch()
            self.ledger = ledger.branched(to, newest)
        return newest

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────

    def report(self) -> None:
        """Turn what was counted as dropped into events."""
        if self.ledger.dropped:
            with self._change():
                for event, stamp in drops.events(self.ledger.dropped, self._now_ns()):
                    self._put("event", event, stamp)
                self.ledger = self.ledger._replace(dropped={})

    def note(self, event: bytes) -> None:
        """Add an event of the outbox's own."""
        with self._change():
            self._put("event", event)

    def give_up(self, excess: int) -> int:
        """Free so many bytes; return how many records that waited went."""
        before = self.ledger.backlog
        with self._change():
            self._give_up(excess)
        return before - self.ledger.backlog

    def give_up_history(self, excess: int) -> int:
        """Free so many bytes, or as many as there are, of what the hub has; return how many."""
        with self._change():
            return self._give_up_history(excess)

    def remember(self, facts: Mapping[str, str]) -> None:
        """Commit something to the metadata."""
        with self._change(facts):
            pass

    def recall(self, prefix: str) -> dict[str, str]:
        """Return the metadata under keys that begin so, by the whole key."""
        return self._store.recall(prefix)

    # ── inside a transaction ─────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _change(self, remember: Mapping[str, str] | None = None) -> Generator[None, None, None]:
        before = self.ledger
        try:
            with self._store.transaction():
                yield
                self._store.save(before, self.ledger)
                self._store.remember(remember or {})
        except BaseException:
            self.ledger = before
            raise

    def _put(
        self, kind: RecordKind, data: bytes, stamp: Stamp | None = None, sender: tuple[str, int] | None = None
    ) -> None:
        self.ledger = self.ledger.with_record(kind, len(data), sender)
        self._store.put(Record(self.ledger.last, kind, data, stamp))

    def _acknowledge(self, kind: RecordKind, sequences: Collection[int]) -> None:
        if not self.ledger.waiting.get(kind, Tally()).count:
            return
        waiting = within(((min(sequences), max(sequences)),), self.ledger.not_acknowledged(kind))
        ranges, tally = self._runs(kind, waiting, lambda one: one in sequences)
        if tally.count:
            ranges = joined([*self.ledger.kept_as_history(kind), *ranges])
            self.ledger = self.ledger.moved(kind, ranges, tally.count, tally.size)

    def _wait_again(self, kind: RecordKind, lacked: Ranges) -> None:
        history = self.ledger.kept_as_history(kind)
        asked = within(history, ((lacked[0][0], lacked[-1][1]),))
        ranges, tally = self._runs(kind, asked, lambda one: covers(lacked, one))
        if tally.count:
            self.ledger = self.ledger.moved(kind, without(history, joined(ranges)), -tally.count, -tally.size)

    def _runs(self, kind: RecordKind, among: Ranges, chosen: Callable[[int], bool]) -> tuple[list[Range], Tally]:
        """Return the chosen records of a kind as ranges with no other record in them, as wide as they can be."""
        runs: list[Range] = []
        tally, first, last = Tally(), 0, 0
        for sequence, size in self._store.sizes(kind, among):
            if chosen(sequence):
                tally = tally.plus(1, size)
                first, last = first or sequence, sequence
            elif first:
                runs.append((first, last))
                first = 0
        if first:
            runs.append((first, last))
        return [self._widened(kind, run) for run in runs], tally

    def _widened(self, kind: RecordKind, run: Range) -> Range:
        below, above = self._store.below(kind, run[0]), self._store.above(kind, run[1])
        return (below or 0) + 1, run[1] if above is None else above - 1

    # ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _give_up(self, excess: int) -> None:
        excess -= self._give_up_history(excess)
        for kind in KINDS:
            if excess > 0 and self.ledger.waiting.get(kind, Tally()).count:
                excess -= self._drop(kind, excess)

    def _drop(self, kind: RecordKind, excess: int) -> int:
        ranges = self.ledger.not_acknowledged(kind)
        count = size = last = 0
        for sequence, length in drops.oldest(self._store.sizes(kind, ranges), excess):
            count, size, last = count + 1, size + length, sequence
        gone = within(ranges, ((1, last),))
        said = drops.described(self._store.records(kind, gone))
        self.ledger = self.ledger.less_waiting(kind, count, size, said)
        self._erase(kind, gone)
        return size

    def _give_up_history(self, excess: int) -> int:
        freed = 0
        for kind in KINDS:
            if freed < excess and self.ledger.history.get(kind, Tally()).count:
                freed += self._forget(kind, excess - freed)
        return freed

    def _forget(self, kind: RecordKind, excess: int) -> int:
        ranges = self.ledger.kept_as_history(kind)
        gone: dict[str, tuple[int, int, int]] = {}
        freed = last = 0
        for sequence, size in drops.oldest(self._store.sizes(kind, ranges), excess):
            epoch = self.ledger.epoch_of(sequence)
            first, _, count = gone.get(epoch, (sequence, 0, 0))
            gone[epoch] = (first, sequence, count + 1)
            freed, last = freed + size, sequence
        self.ledger = self.ledger.less_history(kind, freed, gone)
        self._erase(kind, within(ranges, ((1, last),)))
        return freed

    def _erase(self, kind: RecordKind, ranges: Ranges) -> None:
        self._store.erase(kind, ranges)
        oldest = self._store.above(kind, 0)
        self.ledger = self.ledger.settled(kind, self.ledger.last + 1 if oldest is None else oldest)

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _waits(self, sequence: int) -> bool:
        return any(
            self._store.above(kind, sequence - 1) == sequence
            and not covers(self.ledger.kept_as_history(kind), sequence)
            for kind in KINDS
        )

    def _waiting(self, kinds: Iterable[RecordKind], *, newest_first: bool) -> Iterator[Record]:
        streams = [
            self._store.records(kind, self.ledger.not_acknowledged(kind), newest_first=newest_first)
            for kind in kinds
            if self.ledger.waiting.get(kind, Tally()).count
        ]
        if len(streams) == 1:
            return streams[0]  # as a rule only windows wait
        return heapq.merge(*streams, key=attrgetter("sequence"), reverse=newest_first)

    def _first_kept(self, epoch: str) -> int:
        for first, last in self.ledger.sequences_of(epoch):
            kept = [above for kind in KINDS if (above := self._store.above(kind, first - 1)) is not None]
            if kept and min(kept) <= last:
                return min(kept)
        return self.ledger.last + 1
