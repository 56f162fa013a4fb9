"""What an outbox promises: a record that was taken waits until the hub has it, or is counted as dropped.

`Spool` keeps it in a file, `MemoryOutbox` in memory for tests and simulation; both pass tests/spool/test_outbox.py.

Invariants:
- What `append` returned a sequence for **waits**, was **acknowledged**, or is counted as **dropped**.
- A sequence is never given twice. A record has one epoch at a time; (epoch, sequence) never means two records of
  one outbox. A copy of an outbox (a cloned disk) goes on with the same numbers: then the hub names the **conflicts**,
  and `branch` gives exactly those a new epoch.
- Acknowledged records stay as **history**, which a hub restored from an older backup asks for again (`rewind`).
  History goes first when room is needed, then what waits: rows, windows, events; of each kind the oldest first.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from driftline.wire.device import Record, RecordKind, Stamp


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to send, ascending, all of one epoch; nothing where nothing waits.

    `first_kept` is the oldest sequence of this epoch that the outbox still has, waiting or as history; one more than
    the newest where it has none.
    """

    epoch: str
    records: tuple[Record, ...]
    first_kept: int


def records_text(count: int) -> str:
    """Say how many records.

    >>> records_text(1), records_text(2)
    ('1 record', '2 records')
    """
    return "1 record" if count == 1 else f"{count} records"


def waiting_text(count: int) -> str:
    """Say how many records wait.

    >>> waiting_text(1), waiting_text(2)
    ('1 record waits', '2 records wait')
    """
    return f"{records_text(count)} {'waits' if count == 1 else 'wait'}"


def random_epoch() -> str:
    """Return a name that no other epoch has."""
    return os.urandom(8).hex()


def epoch_after(epoch: str, record: Record) -> str:
    """Return the name of the epoch that a record is given which is in conflict in another: one for those of a boot.

    >>> epoch_after("5eb1c0de", Record(41, "event", b"{}", Stamp("b007", 0)))
    'dd3f098894c01259'
    """
    boot = "" if record.stamp is None else record.stamp.boot
    return hashlib.sha256(f"{epoch} {boot}".encode()).hexdigest()[:16]


class Outbox(Protocol):
    """Records on their way to the hub, and what is remembered with them."""

    @property
    def epoch(self) -> str:
        """The epoch of the newest records, and of those to come."""
        ...

    @property
    def backlog(self) -> int:
        """Records that wait."""
        ...

    @property
    def waiting(self) -> Mapping[RecordKind, int]:
        """Records that wait, by kind; kinds of which none waits are left out."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait."""
        ...

    @property
    def last_sequence(self) -> int:
        """The newest sequence given, 0 before the first."""
        ...

    def append(
        self,
        kind: RecordKind,
        data: bytes,
        key: str | None = None,
        remember: Mapping[str, str] | None = None,
        stamp: Stamp | None = None,
    ) -> int:
        """Commit a record and return its sequence; `remember` goes into the metadata in the same commit.

        `key` is "sender:number", numbers growing: what is known by it is not taken again, and what is to be
        remembered neither. A known record returns the sequence its sender's newest one got.

        Raises:
            InvalidInputError: an unknown kind or a malformed key.
            TemporaryError: there is no room on the disk, and none could be made.
        """
        ...

    def batch(self, bytes_max: int, *, newest_first: bool = False, without: Collection[RecordKind] = ()) -> Batch:
        """Return what to send next, of at most `bytes_max` bytes, but always one record if any waits.

        The oldest that wait, or the newest; none of the kinds in `without`. What was dropped becomes an event first.
        """
        ...

    def acknowledge(self, epoch: str, sequences: Sequence[int], remember: Mapping[str, str] | None = None) -> None:
        """Note that the hub has committed exactly these; others than waiting ones of this epoch are passed over."""
        ...

    def rewind(self, epoch: str, held: Sequence[tuple[int, int]], remember: Mapping[str, str] | None = None) -> int:
        """Let everything of this epoch wait again that the hub lacks; return how many records that are.

        `held` are the ranges (both ends included) of this epoch's sequences that the hub has. Of those below the
        batch's `first_kept` it need not know each: one range up to the highest it has there is enough. What was
        acknowledged, lies in no range and is no longer kept counts as dropped, with `where` = "hub". What is kept of
        other epochs waits again, too.
        """
        ...

    def branch(self, epoch: str, conflicts: Collection[int]) -> str:
        """Give these records, under whose numbers the hub has others, and all records to come, another epoch.

        The others that wait stay: the hub may have them already, its answer lost. Records of one boot get one epoch,
        the same on each copy of an outbox. Where `epoch` was the newest, those to come get that of the last of these.
        Returns the epoch of those to come.
        """
        ...

    def remember(self, key: str, value: str) -> None:
        """Commit something to the metadata."""
        ...

    def recall(self, key: str) -> str | None:
        """Return what was remembered, None where nothing was."""
        ...

    def recall_all(self, prefix: str) -> dict[str, str]:
        """Return everything remembered under keys that begin so, by the rest of the key."""
        ...

    def close(self) -> None:
        """Let go of what is open; nothing is lost without it."""
        ...
