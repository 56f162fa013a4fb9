"""A device's outbox on disk: a record is in it from the commit on until the hub has acknowledged it.

One SQLite file (`tables.py` has its layout) under the decisions every outbox shares (`keeper.py`). What is added here
is what a disk does to a device:

- `append` returns after the commit.
- A damaged file is put aside (`opening.py`) and a new one begun with a new random epoch, so that the hub never takes a
  new record for an old one; the event `spool_lost` says so.
- At most `bytes_max` bytes of records lie in the file; beyond that history goes, then the oldest rows, windows, events.
- A full disk: a half of the ballast beside it is given up for records (`room.py`), then history makes room inside the
  file, and only then what waits; the other half is for where even that needs room.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from driftline.errors import NotAllowedError, TemporaryError
from driftline.spool.drops import BYTES_MAX
from driftline.spool.keeper import Keeper
from driftline.spool.opening import connected, is_damage, put_aside
from driftline.spool.outbox import Batch, random_epoch
from driftline.spool.room import Ballast, is_full
from driftline.spool.tables import SqliteStore
from driftline.wire.device import RecordKind, Stamp, encode_event

log = logging.getLogger("driftline.spool")
# Giving up records on a full disk frees at least so much.
GIVEN_UP_BYTES_LEAST = 64 * 1024
_Result = TypeVar("_Result")


class Spool:
    """The outbox at `path`; threads may share it, processes may not.

    Raises:
        NotAllowedError: the file cannot be made or written.
    """

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX, now_ns: Callable[[], int]) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._now_ns = now_ns
        self._guard = threading.RLock()
        self._ballast = Ballast(path)
        # Why there is no file, while none can be made.
        self._broken: str | None = None
        self._connection, self._keeper = self._open()
        self._ballast.restore()

    # ── what the agent does ──────────────────────────────────────────────────────────────────────────────────────

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
        return self._with_room(lambda: self._keeper.append(kind, data, key, remember, stamp))

    def batch(self, bytes_max: int, *, newest_first: bool = False, without: Collection[RecordKind] = ()) -> Batch:
        """See `Outbox`."""
        with self._guard:
            self._report()
            return self._read(lambda: self._keeper.batch(bytes_max, newest_first=newest_first, without=without))

    def acknowledge(self, epoch: str, sequences: Sequence[int], remember: Mapping[str, str] | None = None) -> None:
        """See `Outbox`.

        Raises:
            TemporaryError: the disk takes nothing; what was acknowledged waits on, and the hub knows it again.
        """
        # The reserve goes first: dropped now would be just what the hub has, and be told as lost.
        self._with_room(
            lambda: self._keeper.acknowledge(epoch, sequences, remember), (self._ballast.give, self._give_records)
        )
        with self._guard:
            if self._ballast.restore():
                self._keeper.room = self._bytes_max

    def rewind(self, epoch: str, held: Sequence[tuple[int, int]], remember: Mapping[str, str] | None = None) -> int:
        """See `Outbox`."""
        return self._with_room(lambda: self._keeper.rewind(epoch, held, remember))

    def branch(self, epoch: str, conflicts: Collection[int]) -> str:
        """See `Outbox`."""
        return self._with_room(lambda: self._keeper.branch(epoch, conflicts))

    def remember(self, key: str, value: str) -> None:
        """See `Outbox`."""
        self._with_room(lambda: self._keeper.remember({key: value}))

    def recall(self, key: str) -> str | None:
        """See `Outbox`."""
        return self._read(lambda: self._keeper.recall(key).get(key))

    def recall_all(self, prefix: str) -> dict[str, str]:
        """See `Outbox`."""
        found = self._read(lambda: self._keeper.recall(prefix))
        return {key.removeprefix(prefix): value for key, value in found.items()}

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._guard:
            self._connection.close()

    def _report(self) -> None:
        try:
            # Not `_keeper.report` itself: a file that is repaired has another keeper.
            self._repaired(lambda: self._keeper.report())  # noqa: PLW0108
        except sqlite3.OperationalError as error:
            log.warning("the spool has no room to say what it dropped: %s", error)

    def _read(self, act: Callable[[], _Result]) -> _Result:
        with self._guard:
            try:
                return self._repaired(act)
            except sqlite3.OperationalError as error:
                raise _temporary(error) from error

    # ── a disk that is full ──────────────────────────────────────────────────────────────────────────────────────

    def _with_room(self, act: Callable[[], _Result], helps: Sequence[Callable[[], None]] = ()) -> _Result:
        """Act; where the disk is full try again, after what costs least: what waits goes last (or after `helps`)."""
        costly = (self._give_piece, self._give_history, self._give_records, self._give_ballast)
        with self._guard:
            for help_out in (self._empty_log, *(helps or costly), None):
                try:
                    return self._repaired(act)
                except sqlite3.OperationalError as error:
                    if help_out is None or not is_full(error, self.path):
                        raise _temporary(error) from error
                    help_out()
        raise AssertionError("the last round either returned or raised")

    def _empty_log(self) -> None:
        """Bring the log into the file, where it fits; if somebody made room meanwhile there is some then, too."""
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _give_piece(self) -> None:
        if self._ballast.give_piece():
            log.warning("the disk is full: a part of the spool's reserve is given up for records")
            self._empty_log()

    def _give_history(self) -> None:
        self._make_room(self._keeper.give_up_history)

    def _give_records(self) -> None:
        """Drop a part of what there is, and let the file grow no more; where even that needs room nothing changes."""
        before = self._keeper.ledger.size
        dropped = self._make_room(self._keeper.give_up)
        if dropped is None:
            return
        self._keeper.room = max(before * 9 // 10, GIVEN_UP_BYTES_LEAST)
        log.warning("the disk is full: %d records that waited for the hub were dropped", dropped)

    def _make_room(self, give_up: Callable[[int], int]) -> int | None:
        """Free as much as a usual drop does, however little there is; return what that says, None where it failed."""
        if self._broken is not None:
            return None
        try:
            given = give_up(max(self._keeper.ledger.size // 4, GIVEN_UP_BYTES_LEAST))
            # The log starts again at its beginning only when all of it fits into the file.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            log.warning("the disk is too full even to drop records: %s", error)
            return None
        return given

    def _give_ballast(self) -> None:
        log.warning("the disk is full: the spool's reserve of %d bytes is given up", Ballast.SIZE)
        self._ballast.give()
        self._give_records()

    # ── a file that cannot be used ───────────────────────────────────────────────────────────────────────────────

    def _repaired(self, act: Callable[[], _Result]) -> _Result:
        """Act; a file found damaged is put aside and replaced by a new one first."""
        self._renew()
        try:
            return act()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._connection.close()
            put_aside(self.path, str(error))
            self._broken = str(error)
            self._renew()
            return act()

    def _renew(self) -> None:
        if self._broken is not None:
            self._connection, self._keeper = self._begun(self._broken)
            self._broken = None

    def _open(self) -> tuple[sqlite3.Connection, Keeper]:
        try:
            try:
                return self._kept()
            except sqlite3.OperationalError as error:
                if not is_full(error, self.path):
                    raise
                self._ballast.give()
                return self._kept()
        except sqlite3.OperationalError as error:
            raise NotAllowedError(
                f"{self.path} cannot be opened ({error}); the folder must be writable, and the disk not full"
            ) from error
        except sqlite3.DatabaseError as error:
            put_aside(self.path, str(error))
            return self._begun(str(error))

    def _begun(self, reason: str) -> tuple[sqlite3.Connection, Keeper]:
        connection, keeper = self._kept()
        keeper.note(encode_event("spool_lost", self._now_ns(), reason=reason))
        return connection, keeper

    def _kept(self) -> tuple[sqlite3.Connection, Keeper]:
        connection = connected(self.path, self._bytes_max)
        try:
            store = SqliteStore(connection)
            return connection, Keeper(store, bytes_max=self._bytes_max, now_ns=self._now_ns, new_epoch=random_epoch)
        except BaseException:
            connection.close()
            raise


def _temporary(error: sqlite3.OperationalError) -> TemporaryError:
    return TemporaryError(f"the device's disk is full or fails ({error}); make room on it, or replace it")
