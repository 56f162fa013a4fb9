"""What becomes of a batch, decided from what is known: no network, no database, no clock.

A record is known by its place, (device, spool epoch, sequence), and by its content's hash.

- A place that is not known is *new*. The same content at a known place came *again*, because the reply to it was lost:
  nothing changes. A new record that can never be taken is *refused*, and counts as taken, or it would hold up those
  behind it.
- Other content at a known place is a *conflict*: two machines use one identity, or one went back to an older copy of
  its disk. It is neither taken nor acknowledged; the device sends it again under a new epoch.
- Where the device was told of a request (`previous`) that is later than the last this hub knows to have committed
  (`synced`), this hub was restored from an older backup. It takes nothing, and says which records of the epoch it has
  (*held*) and its `synced`, until the device has heard that: a lost reply repeats it. (Were the batch taken, `synced`
  would have to stay below what was acknowledged, and a second restoration would not be seen.)
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from driftline.spool.ranges import Range, joined
from driftline.wire.device import BatchHead

# How many former epochs of a device are remembered, to see one come back.
EPOCHS_MAX = 16


class Placed(Protocol):
    """A record, as far as its place and its content go."""

    @property
    def sequence(self) -> int:
        """Its place in its epoch."""
        ...

    @property
    def data(self) -> bytes:
        """Its content."""
        ...


R = TypeVar("R", bound=Placed)


@dataclass(frozen=True, slots=True)
class Decision(Generic[R]):
    """What is to be written, and what the reply says of a batch; `synced` is to be stored and said."""

    new: Sequence[R]
    again: frozenset[int]
    refused: Mapping[int, str]
    conflicts: Sequence[int]
    held: Sequence[Range] | None
    synced: int
    acknowledged: int

    @property
    def is_believed(self) -> bool:
        """Whether what the head says to be complete is so: not where this hub lacks what it once acknowledged."""
        return self.held is None and not self.conflicts


def content_hash(data: bytes) -> bytes:
    """Name a record's content: half its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def is_older(head: BatchHead, synced: int) -> bool:
    """Say whether this hub is older than what it once acknowledged to the device."""
    return head.previous > synced


def decide(
    head: BatchHead,
    number: int,
    checked: Sequence[tuple[R, str]],
    known: Mapping[int, bytes],
    synced: int,
    ranges: Iterable[Range] = (),
) -> Decision[R]:
    """Decide on a batch.

    `number` is the request's, `checked` the records each with the reason against it ('' where there is none), `known`
    the content hashes of those places that are known, `synced` what is stored. `ranges` are the epoch's known records,
    asked for only where this hub `is_older`.
    """
    if is_older(head, synced):
        return Decision((), frozenset(), {}, (), held=joined(ranges), synced=synced, acknowledged=0)
    new = [one for one, _ in checked if one.sequence not in known]
    came = [one for one, _ in checked if one.sequence in known]
    again = {one.sequence for one in came if known[one.sequence] == content_hash(one.data)}
    conflicts = [one.sequence for one in came if one.sequence not in again]
    return Decision(
        new=new,
        again=frozenset(again),
        refused={one.sequence: reason for one, reason in checked if reason and one.sequence not in known},
        conflicts=conflicts,
        held=None,
        synced=number,
        acknowledged=max((one.sequence for one, _ in checked), default=0),
    )


def epochs_after(before: Sequence[str], epoch: str) -> tuple[list[str], bool]:
    """Return a device's epochs, the present one last, and whether one that was followed by another came back.

    A spool begins a new epoch and never goes back to an old one. Two machines with copies of one disk do, by turns.

    >>> epochs_after(["a", "b"], "a")
    (['b', 'a'], True)
    """
    came_back = epoch in before[:-1]
    return [*(one for one in before if one != epoch), epoch][-EPOCHS_MAX:], came_back


# ── up to where a device has told everything ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Told:
    """What a device has told of one pipeline version: everything up to `until_ns`.

    Where it sends the newest first it has also told everything from `since_ns` to `ahead_ns`; what lies between still
    waits on the device, and is neither there nor missing.
    """

    until_ns: int
    since_ns: int | None = None
    ahead_ns: int | None = None

    def after(self, until_ns: int, from_ns: int | None) -> "Told":
        """Return what is told when a device says this; what was once told stays told.

        >>> Told(100).after(500, 400)
        Told(until_ns=100, since_ns=400, ahead_ns=500)
        >>> Told(100, 400, 500).after(400, None)
        Told(until_ns=500, since_ns=None, ahead_ns=None)
        """
        if from_ns is not None and from_ns > self.until_ns:
            return Told(self.until_ns, from_ns, max(until_ns, from_ns))
        until_ns = max(self.until_ns, until_ns)
        if self.since_ns is None or self.ahead_ns is None:
            return Told(until_ns)
        if self.since_ns <= until_ns:
            return Told(max(until_ns, self.ahead_ns))
        return Told(until_ns, self.since_ns, self.ahead_ns)
