"""A hub in memory: the real checks and decisions over a store that commits, loses power and is restored."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from driftline.errors import DriftlineError, NotAllowedError, StaleRequestError
from driftline.hub import check, ingest, intake
from driftline.hub.store.telemetry import Incoming
from driftline.summary.grid import UNIVERSAL
from driftline.wire.device import Reply, decode_batch
from tests.simulation.world import OBSERVED, WINDOW_S, World

# Its parts decide without a database, though it is no part of its interface.
INGEST: Any = ingest
GRIDS = {UNIVERSAL.id: UNIVERSAL}
PIPELINES = ("belt", "door")
GRANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {pv: (pv, OBSERVED) for pv in PIPELINES}


def _no_database() -> None:
    """Stand for the connection of a hub that has none: every grid is known, and every field may be recorded."""


@dataclass(frozen=True)
class Row:
    """What the hub keeps of a device, as in its table."""

    id: str
    name: str
    key: str
    last_request: int = 0
    synced_request: int = 0
    epochs: tuple[str, ...] = ()
    conflict_ns: int | None = None
    complete_until_ns: Mapping[str, int] = field(default_factory=dict[str, int])
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    dropped_ns: int | None = None


@dataclass(frozen=True)
class Commit:
    """What one transaction adds."""

    row: Row
    epoch: str = ""
    new: tuple[Incoming, ...] = ()
    complete: Mapping[str, tuple[int, int | None]] = field(default_factory=dict[str, tuple[int, int | None]])


@dataclass
class Tables:
    """The hub's tables: commits one after the other."""

    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    places: dict[tuple[str, str], dict[int, bytes]] = field(default_factory=dict[tuple[str, str], dict[int, bytes]])
    contents: dict[str, Counter[bytes]] = field(default_factory=dict[str, "Counter[bytes]"])
    starts: dict[tuple[str, bytes], int] = field(default_factory=dict[tuple[str, bytes], int])
    told: dict[tuple[str, str], intake.Told] = field(default_factory=dict[tuple[str, str], intake.Told])
    undated: int = 0

    def apply(self, commit: Commit) -> None:
        """Add what a transaction committed."""
        name = commit.row.name
        self.rows[name] = commit.row
        if not commit.epoch:
            return
        places = self.places.setdefault((name, commit.epoch), {})
        contents = self.contents.setdefault(name, Counter())
        for one in commit.new:
            places[one.sequence] = intake.content_hash(one.data)
            contents[one.data] += 1
            self.undated += bool(one.undated)
            if one.window is not None:
                self.starts[name, one.data] = one.window.start_s
        for pv, (until_ns, from_ns) in commit.complete.items():
            self.told[name, pv] = self.told.get((name, pv), intake.Told(0)).after(until_ns, from_ns)


Decide = Callable[..., intake.Decision[Incoming]]


class Hub:
    """Answers requests. `decide` is the hub's own, but for tests that break it."""

    def __init__(self, world: World, decide: Decide = intake.decide, *, answers_too_early: bool = False) -> None:
        self._world = world
        self._decide = decide
        self._answers_too_early = answers_too_early
        self._journal: list[Commit] = []
        self.tables = Tables()
        self.interval_s = 3600.0
        self.is_down = False
        self.removed: set[str] = set()
        # Where power fails at the next request with records: before or after its commit.
        self.fails: str | None = None
        self.refusals: list[str] = []

    def enrol(self, name: str, key: str) -> None:
        """Join a device, or join it anew: with a new key, and request numbers from the beginning."""
        before = self.tables.rows.get(name) or Row(f"d-{name}", name, key)
        self._commit(Commit(replace(before, key=key, last_request=0, epochs=(), conflict_ns=None)))

    @property
    def moment(self) -> int:
        """What a backup holds: so many commits."""
        return len(self._journal)

    def restore(self, moment: int) -> None:
        """Go back to a backup."""
        del self._journal[moment:]
        self.tables = Tables()
        for commit in self._journal:
            self.tables.apply(commit)

    def answer(self, name: str, key: str, number: int, body: bytes) -> Reply | DriftlineError | None:
        """Answer a request with a reply or a refusal; None where there is no answer."""
        if self.is_down:
            return None
        row = self.tables.rows.get(name)
        if row is None or row.key != key or name in self.removed:
            return NotAllowedError(f"{name} is not known here, or was removed")
        if number <= row.last_request:
            return StaleRequestError(f"request {number} came before", row.last_request)
        return self._take(row, number, body)

    def _take(self, row: Row, number: int, body: bytes) -> Reply | None:
        now_ns = self._world.now_ns
        head, records = decode_batch(body)
        INGEST._check_head(row, head, records)
        checker = check.Checker(cast("Any", _no_database), GRANTS, now_ns, window_s=WINDOW_S)
        (checked,) = check.check_all([(checker, records)], GRIDS)
        complete = checker.complete(head)
        places = self.tables.places.get((row.name, head.epoch), {})
        known = {one.sequence: places[one.sequence] for one in records if one.sequence in places}
        ranges = [(one, one) for one in places] if intake.is_older(head, row.synced_request) else ()
        decision = self._decide(head, number, checked, known, row.synced_request, ranges)
        self.refusals += [f"{row.name} #{sequence}: {why}" for sequence, why in decision.refused.items()]
        facts: dict[str, Any] = INGEST._told(row, head, now_ns) if decision.is_believed else {}
        facts |= INGEST._counted(row, decision, now_ns)
        facts |= INGEST._epochs(row, head, decision, now_ns)
        facts |= {"synced_request": decision.synced, "last_request": number}
        told = {pv: said for (pv, _), said in complete.items()} if decision.is_believed else {}
        commit = Commit(replace(row, **facts), head.epoch, tuple(decision.new), told)
        self._note(row, number, decision)
        if not self._survives(commit, is_worth_it=bool(records)):
            return None
        return Reply(
            epoch=head.epoch,
            acknowledged=decision.acknowledged,
            now_ns=now_ns,
            sync_interval_s=self.interval_s,
            revision="",
            refused={str(sequence): reason for sequence, reason in decision.refused.items()},
            conflicts=tuple(decision.conflicts),
            held=None if decision.held is None else tuple(decision.held),
            synced=decision.synced,
        )

    def _note(self, row: Row, number: int, decision: intake.Decision[Incoming]) -> None:
        again, conflicts = len(decision.again), len(decision.conflicts)
        held = "" if decision.held is None else f" held {list(decision.held)}"
        self._world.note(
            "hub", f"{row.name} {number}: new {len(decision.new)} again {again} conflicts {conflicts}{held}"
        )
        self._world.count("records that came again", again)
        self._world.count("conflicts", conflicts)
        self._world.count("hub asked again", decision.held is not None)

    def _survives(self, commit: Commit, *, is_worth_it: bool) -> bool:
        """Commit, unless power fails; say whether an answer goes out."""
        fails, self.fails = (self.fails, None) if is_worth_it else (None, self.fails)
        if fails == "before":
            self._fall("before its commit")
            return self._answers_too_early
        self._commit(commit)
        if fails == "after":
            self._fall("after its commit")
        return fails is None

    def _fall(self, when: str) -> None:
        self._world.note("hub", f"lost power {when}")
        self._world.count(f"hub lost power {when}")
        self.is_down = True
        self._world.later(self._world.rng.uniform(10, 7200), self.rise)

    def rise(self) -> None:
        """Come back."""
        self.is_down = False
        self._world.note("hub", "is back")

    def _commit(self, commit: Commit) -> None:
        self._journal.append(commit)
        self.tables.apply(commit)
