"""What an outbox knows of its records besides the records: which were acknowledged, in which epoch, what is missing.

Frozen: a transaction that fails puts the old one back. Small, whatever waits: acknowledged records are ranges by kind
(a device that sends windows before rows has two of them, not one for each window).
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from driftline.errors import InvalidInputError
from driftline.spool.ranges import Range, Ranges, joined, length, within, without
from driftline.wire.device import RecordKind, Stamp

# A sender is a process; of those that ended long ago nothing comes again.
SENDERS_MAX = 64
# By more than one clock: the times of what was dropped cannot be told as one span. No boot has an empty name.
SEVERAL = Stamp("", 0)
# Half a window: a clock that was set by less is the same one.
SAME_CLOCK_NS = 30 * 1_000_000_000
# A restored hub asks for days or weeks; 32 entries of a megabyte or more each tell them apart well enough.
GIVEN_UP_MAX = 32
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tally:
    """How many records, and their bytes."""

    count: int = 0
    size: int = 0

    def plus(self, count: int, size: int) -> "Tally":
        """Return the tally with more in it, or less."""
        return Tally(self.count + count, self.size + size)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """History that was given up for room: so many acknowledged records between two sequences of an epoch."""

    kind: RecordKind
    epoch: str
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Drop:
    """What was dropped of one kind, and of windows of one pipeline: first and last start, in Unix seconds.

    These are by the clock of `stamp`; there are none where it is `SEVERAL`.
    """

    count: int = 0
    inferences: int = 0
    first_s: int | None = None
    last_s: int | None = None
    stamp: Stamp | None = None

    def plus(self, other: "Drop") -> "Drop":
        """Return both together."""
        dated = [one for one in (self, other) if one.first_s is not None or one.stamp is not None]
        if len(dated) == 2 and not _is_one_clock(self.stamp, other.stamp):
            return Drop(self.count + other.count, self.inferences + other.inferences, stamp=SEVERAL)
        firsts = [one.first_s for one in (self, other) if one.first_s is not None]
        lasts = [one.last_s for one in (self, other) if one.last_s is not None]
        count, inferences = self.count + other.count, self.inferences + other.inferences
        stamp = dated[0].stamp if dated else None
        return Drop(count, inferences, min(firsts, default=None), max(lasts, default=None), stamp)


def _is_one_clock(one: Stamp | None, other: Stamp | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.boot == other.boot and abs(one.offset_ns - other.offset_ns) < SAME_CLOCK_NS


# Where it was dropped ("spool", "hub"), its kind, and a window's pipeline version ("" where it is not known).
DropKey = tuple[str, str, str]


class Ledger(NamedTuple):
    """`epochs` says from which sequence on which epoch holds; the last one also for records to come."""

    epochs: tuple[tuple[int, str], ...]
    last: int = 0
    acknowledged: Mapping[RecordKind, Ranges] = _NOTHING
    given_up: tuple[GivenUp, ...] = ()
    dropped: Mapping[DropKey, Drop] = _NOTHING
    senders: Mapping[str, tuple[int, int]] = _NOTHING
    waiting: Mapping[RecordKind, Tally] = _NOTHING
    history: Mapping[RecordKind, Tally] = _NOTHING

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def epoch(self) -> str:
        """The newest epoch."""
        return self.epochs[-1][1]

    @property
    def backlog(self) -> int:
        """Records that wait."""
        return sum(one.count for one in self.waiting.values())

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait."""
        return sum(one.size for one in self.waiting.values())

    @property
    def size(self) -> int:
        """Bytes of all records, waiting or history."""
        return self.waiting_bytes + sum(one.size for one in self.history.values())

    def epoch_of(self, sequence: int) -> str:
        """Return the epoch of a record."""
        if sequence >= self.epochs[-1][0]:
            return self.epochs[-1][1]  # nearly all are of the newest
        return self.epochs[max(0, bisect_right(self.epochs, (sequence + 1,)) - 1)][1]

    def sequences_of(self, epoch: str) -> Ranges:
        """Return the sequences given in an epoch."""
        ends = [first - 1 for first, _ in self.epochs[1:]] + [self.last]
        return joined((first, end) for (first, name), end in zip(self.epochs, ends, strict=True) if name == epoch)

    def kept_as_history(self, kind: RecordKind) -> Ranges:
        """Return the sequences of a kind in which nothing waits."""
        return self.acknowledged.get(kind, ())

    def not_acknowledged(self, kind: RecordKind) -> Ranges:
        """Return the sequences in which all that is there of a kind waits."""
        return without(((1, self.last),), self.kept_as_history(kind)) if self.last else ()

    # ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────────

    def with_record(self, kind: RecordKind, size: int, sender: tuple[str, int] | None = None) -> "Ledger":
        """Return the ledger with one record more, known by its sender's number."""
        waiting: dict[RecordKind, Tally] = {**self.waiting, kind: self.waiting.get(kind, Tally()).plus(1, size)}
        last, senders = self.last + 1, self.senders
        if sender is not None:
            senders = {**senders, sender[0]: (sender[1], last)}
            if len(senders) > SENDERS_MAX:
                del senders[min(senders, key=lambda one: senders[one][1])]
        return Ledger(self.epochs, last, self.acknowledged, self.given_up, self.dropped, senders, waiting, self.history)

    def moved(self, kind: RecordKind, ranges: Ranges, count: int, size: int) -> "Ledger":
        """Return the ledger with other acknowledged ranges, so many records of which became history (or wait again)."""
        return self._replace(
            acknowledged={**self.acknowledged, kind: ranges},
            waiting={**self.waiting, kind: self.waiting.get(kind, Tally()).plus(-count, -size)},
            history={**self.history, kind: self.history.get(kind, Tally()).plus(count, size)},
        )

    def less_history(self, kind: RecordKind, size: int, gone: Mapping[str, tuple[int, int, int]]) -> "Ledger":
        """Return the ledger without some history; `gone` has first, last and count by epoch."""
        entries = [GivenUp(kind, epoch, *facts) for epoch, facts in gone.items()]
        history = self.history.get(kind, Tally()).plus(-sum(one.count for one in entries), -size)
        given_up = _fewer((*self.given_up, *entries))
        return self._replace(given_up=given_up, history={**self.history, kind: history})

    def less_waiting(self, kind: RecordKind, count: int, size: int, drops: Mapping[DropKey, Drop]) -> "Ledger":
        """Return the ledger without some records that waited, and with what is to be said of them."""
        waiting = self.waiting.get(kind, Tally()).plus(-count, -size)
        return self.with_drops(drops)._replace(waiting={**self.waiting, kind: waiting})

    def with_drops(self, drops: Mapping[DropKey, Drop]) -> "Ledger":
        """Return the ledger with more that is to be said of what is gone."""
        both = dict(self.dropped)
        for key, drop in drops.items():
            both[key] = both.get(key, Drop()).plus(drop)
        return self._replace(dropped=both)

    def settled(self, kind: RecordKind, oldest: int) -> "Ledger":
        """Return the ledger with one range for all before the oldest record of a kind that is still there."""
        ranges = self.kept_as_history(kind)
        below = [one for one in ranges if one[1] < oldest]
        if len(below) < 2:
            return self
        whole: Range = (below[0][0], below[-1][1])
        return self._replace(acknowledged={**self.acknowledged, kind: joined([whole, *ranges])})

    def lacking(self, epoch: str, lacked: Ranges) -> "Ledger":
        """Return the ledger with what a hub lacks and no longer can get as lost by the hub."""
        given_up: list[GivenUp] = []
        lost: dict[DropKey, Drop] = {}
        for one in self.given_up:
            # Where it lacks a part only, nobody knows whose part that is: never fewer than are lost.
            count = min(one.count, length(within(((one.first, one.last),), lacked))) if one.epoch == epoch else 0
            if count:
                lost["hub", one.kind, ""] = lost.get(("hub", one.kind, ""), Drop()).plus(Drop(count))
            if one.count > count:
                given_up.append(replace(one, count=one.count - count))
        return self.with_drops(lost)._replace(given_up=tuple(given_up))

    def branched(self, sequences: Mapping[int, str], epoch: str) -> "Ledger":
        """Return the ledger with these sequences in the epochs that are named, and all to come in another."""
        starts = {first: name for first, name in self.epochs if first <= self.last}
        for one in sequences:
            starts.setdefault(one + 1, self.epoch_of(one + 1))
        starts |= sequences
        starts[self.last + 1] = epoch
        ordered = sorted(starts.items())
        return self._replace(
            epochs=tuple(one for at, one in enumerate(ordered) if not at or one[1] != ordered[at - 1][1])
        )


def sender_of(key: str) -> tuple[str, int]:
    """Read a record's key.

    Raises:
        InvalidInputError: not "sender:number".
    """
    sender, _, number = key.rpartition(":")
    if not sender or not number.isdecimal():
        raise InvalidInputError(f"a record's key is 'sender:number', not {key!r:.100}")
    return sender, int(number)


def _fewer(entries: tuple[GivenUp, ...]) -> tuple[GivenUp, ...]:
    """Join the two oldest of the kind and epoch that has most, until there are few enough."""
    found = list(entries)
    while len(found) > GIVEN_UP_MAX:
        groups: dict[Any, list[GivenUp]] = {}
        for one in found:
            groups.setdefault((one.kind, one.epoch), []).append(one)
        most = max(groups.values(), key=len)
        if len(most) < 2:
            break
        old, next_old = sorted(most, key=lambda one: one.first)[:2]
        found.remove(next_old)
        found[found.index(old)] = replace(old, last=max(old.last, next_old.last), count=old.count + next_old.count)
    return tuple(found)
