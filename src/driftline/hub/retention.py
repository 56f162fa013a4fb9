"""How long a hub keeps what: a reconciler that removes what is older, a little at a time.

    DRIFTLINE_KEEP_SUMMARIES_DAYS  counts of base windows (400)
    DRIFTLINE_KEEP_ROWS_DAYS       rows, and records whose time nobody knows (90)
    DRIFTLINE_KEEP_ANALYSES_DAYS   analyses, and what happened to devices (800)

each a number of days, or `forever`. Baselines keep copies of what they were made of, and stay; so does everything of a
device with an open incident, from a day before it opened. A removal is one short transaction among those of ingest: it
may be killed anywhere, and run twice.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from driftline.clock import NS_PER_S
from driftline.errors import DriftlineError, InvalidInputError
from driftline.hub import journal
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import MEMBER
from driftline.hub.store import assays
from driftline.hub.store import kept as keeping
from driftline.hub.store import retention as store
from driftline.wire import api

routes = Routes()

DAY_NS = 86_400 * NS_PER_S
FOREVER = "forever"
VARIABLES = {
    "summaries": "DRIFTLINE_KEEP_SUMMARIES_DAYS",
    "rows": "DRIFTLINE_KEEP_ROWS_DAYS",
    "analyses": "DRIFTLINE_KEEP_ANALYSES_DAYS",
}
# A year and a month: what is usual in a season can be looked up in the next. Rows are by far the largest.
DEFAULT_DAYS: Mapping[str, float] = {"summaries": 400, "rows": 90, "analyses": 800}
# What led to an incident is looked at, too.
BEFORE_INCIDENT_NS = DAY_NS
# A transaction of so many windows takes a few milliseconds, and a commit waits for no more than that.
AT_ONCE = 200
PAUSE_S = 0.02
EVERY_S = 3600.0


@dataclass(frozen=True)
class Settings:
    """For how many days each kind is kept; None is for ever."""

    summaries: float | None
    rows: float | None
    analyses: float | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the environment.

        Raises:
            InvalidInputError: a variable is neither a number of days from 1 on nor `forever`.
        """
        return cls(**{kind: _days(environment, name, DEFAULT_DAYS[kind]) for kind, name in VARIABLES.items()})

    def cut_ns(self, kind: str, now_ns: int) -> int | None:
        """Return before which time a kind is removed; None where it is kept for ever."""
        days: float | None = getattr(self, kind)
        return None if days is None else max(0, now_ns - int(days * DAY_NS))


def _days(environment: Mapping[str, str], name: str, default: float) -> float | None:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if text.lower() == FOREVER:
        return None
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 1 <= days < 1_000_000:
        raise InvalidInputError(f"{name}={text!r} is not a number of days from 1 on, such as {default:g}, or {FOREVER}")
    return days


@routes.get("/retention", policy=MEMBER)
def get_retention(call: Call[None]) -> list[api.Retention]:
    """Say what this hub keeps for how long, and from when on it is complete."""
    return kept(call.hub)


def kept(hub: Hub) -> list[api.Retention]:
    """Say what this hub keeps for how long, and from when on it is complete."""
    settings = Settings.of(os.environ)
    with hub.database.reading() as connection:
        removed = keeping.kept_from(connection)
    return [api.Retention(kind=kind, days=getattr(settings, kind), from_ns=removed.get(kind)) for kind in VARIABLES]


class Sweep:
    """Removes what is too old, one small transaction after another.

    `pause` waits between them and says whether to go on.
    """

    def __init__(self, hub: Hub, settings: Settings, pause: Callable[[], bool] = lambda: True) -> None:
        self._hub = hub
        self._settings = settings
        self._pause = pause

    def run(self) -> dict[str, int]:
        """Remove everything that is too old; return how many of each kind went."""
        now_ns = self._hub.now_ns()
        cuts = {kind: self._settings.cut_ns(kind, now_ns) for kind in VARIABLES}
        # What is removed is said first: who reads meanwhile takes nothing for silence.
        with self._hub.database.writing() as connection:
            for kind, cut_ns in cuts.items():
                if cut_ns is not None:
                    keeping.put_kept_from(connection, kind, cut_ns)
        with self._hub.database.reading() as connection:
            held = {name: since_ns - BEFORE_INCIDENT_NS for name, since_ns in store.held_since(connection).items()}
        return {
            "summaries": self._streams("windows", cuts["summaries"], held, store.remove_windows),
            "rows": self._streams("rows", cuts["rows"], held, store.remove_rows)
            + self._received("undated", cuts["rows"]),
            "analyses": self._analyses(cuts["analyses"], held)
            + self._of_removed_assays()
            + self._received("events", cuts["analyses"]),
        }

    def _streams(
        self,
        table: str,
        cut_ns: int | None,
        held: Mapping[str, int],
        remove: Callable[[Connection, store.Stream, int, int], int],
    ) -> int:
        if cut_ns is None:
            return 0
        with self._hub.database.reading() as connection:
            found = list(store.streams(connection, table))
        gone = 0
        for stream, name in found:
            before_s = store.whole_s(min(cut_ns, held.get(name, cut_ns)))
            gone += self._all(lambda connection, at=stream, to=before_s: remove(connection, at, to, AT_ONCE))
        return gone

    def _analyses(self, cut_ns: int | None, held: Mapping[str, int]) -> int:
        if cut_ns is None:
            return 0
        with self._hub.database.reading() as connection:
            found = store.courses(connection)
        gone = 0
        for assay, device in found:
            before_ns = min(cut_ns, held.get(device, cut_ns))

            def remove(
                connection: Connection, assay: str = assay, device: str = device, before_ns: int = before_ns
            ) -> int:
                return store.remove_analyses(connection, assay, device, before_ns, AT_ONCE)

            gone += self._all(remove)
        return gone

    def _of_removed_assays(self) -> int:
        with self._hub.database.reading() as connection:
            found = assays.removed(connection)
        return sum(self._all(partial(assays.remove_answers, assay=one, at_most=AT_ONCE)) for one in found)

    def _received(self, table: str, cut_ns: int | None) -> int:
        if cut_ns is None:
            return 0
        return self._all(lambda connection: store.remove_received(connection, table, cut_ns, AT_ONCE))

    def _all(self, remove: Callable[[Connection], int]) -> int:
        """Remove slice by slice until nothing is left, or it is time to stop."""
        gone = 0
        while True:
            with self._hub.database.writing() as connection:
                slice_ = remove(connection)
            gone += slice_
            if not slice_ or not self._pause():
                return gone


class Retention:
    """Sweeps once an hour, in a thread of its own."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._sweep = Sweep(hub, settings, lambda: not self._stopping.wait(PAUSE_S))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction under way."""
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._sweep.run()
            except DriftlineError as error:
                journal.tell(f"nothing old is removed for now: {error}")
            self._stopping.wait(EVERY_S)
