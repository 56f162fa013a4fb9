"""A lease: work that one of several hubs on a database does alone, until it says otherwise or is no more.

It is renewed while the work goes on, and whoever lets it run out has lost it to whoever takes it first. How long it
still lasts is never trusted where something is written: a hub may have stood still, or a clock may have been set. Each
transaction of the work begins with `check`, in the database that gives the lease away, too: what a hub writes, it
writes while nobody else holds it.
"""

import time
from collections.abc import Callable

from sqlalchemy import Connection

from driftline.clock import NS_PER_S
from driftline.errors import TemporaryError
from driftline.hub.store import leases
from driftline.hub.store.database import Database

# So long nobody works when a hub was killed; a third of it apart is a lease renewed, which is a write to the disk.
LEASE_S = 30.0


class LeaseLostError(TemporaryError):
    """Another hub took over."""


class Lease:
    """One hub's claim to a lease by name; `holder` is the hub's own name."""

    def __init__(
        self,
        database: Database,
        name: str,
        holder: str,
        length_s: float = LEASE_S,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.holder, self.length_s = name, holder, length_s
        self._database = database
        self._steady_s = steady_s
        self._renew_s: float | None = None

    def take(self) -> bool:
        """Take or renew it, and say whether it is this hub's; asks the database only when it is time."""
        if self._renew_s is not None and self._steady_s() < self._renew_s:
            return True
        began_s = self._steady_s()
        # Looked at first: who waits for its turn must not make those who write wait for it, too.
        with self._database.reading() as connection:
            is_free = self._is_free(leases.held(connection, self.name))
        if is_free:
            with self._database.writing() as connection:
                is_free = self._is_free(leases.held(connection, self.name))
                if is_free:
                    leases.put(connection, self.name, self.holder, int(self.length_s * NS_PER_S))
        self._renew_s = began_s + self.length_s / 3 if is_free else None
        return is_free

    def check(self, connection: Connection) -> None:
        """Refuse to write what another hub writes by now.

        Raises:
            LeaseLostError: it is another's, or nobody's.
        """
        now = leases.held(connection, self.name)
        if now is None or now.holder != self.holder:
            self._renew_s = None
            raise LeaseLostError(
                f"another hub took over as {self.name}, for this one had not renewed its lease of {self.length_s:g} s; "
                "nothing is lost, and this one goes on when that one ends"
            )

    def release(self) -> None:
        """Let another hub go on at once."""
        if self._renew_s is not None:
            self._renew_s = None
            with self._database.writing() as connection:
                leases.release(connection, self.name, self.holder)

    def _is_free(self, now: leases.Held | None) -> bool:
        return now is None or now.holder == self.holder or now.left_ns <= 0
