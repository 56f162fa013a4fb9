"""Programs that break one promise each, to see that the simulation notices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from driftline.clock import NS_PER_S, Clock
from driftline.edge.exchange import Exchange, Outcome, Sent
from driftline.edge.timekeeping import Timekeeper
from driftline.hub import intake
from driftline.hub.store.telemetry import Incoming
from driftline.spool.outbox import Batch, Outbox
from driftline.wire.device import BatchHead, Record, RecordKind, Reply, Stamp
from tests.simulation.account import WatchedOutbox
from tests.simulation.fleet import Parts
from tests.simulation.machine import Build
from tests.simulation.world import WINDOW_S


def taken_twice(
    head: BatchHead, number: int, checked: Sequence[tuple[Incoming, str]], _: Mapping[int, bytes], *rest: Any
) -> intake.Decision[Incoming]:
    """Decide as if no record had come before."""
    return intake.decide(head, number, checked, {}, *rest)


class Deaf(Exchange):
    """Does not hear that a restored hub asks again."""

    def answered(self, sent: Sent, reply: Reply) -> Outcome:
        self._previous = reply.synced
        return super().answered(sent, replace(reply, held=None))


class Stubborn(Exchange):
    """Takes conflicts for acknowledged."""

    def answered(self, sent: Sent, reply: Reply) -> Outcome:
        return super().answered(sent, replace(reply, conflicts=()))


class Boastful(Exchange):
    """Calls complete whatever was closed, though windows wait."""

    def _complete(self, closed_ns: Mapping[str, int], *_: Any, **__: Any) -> tuple[dict[str, int], dict[str, int]]:
        return dict(closed_ns), {}


class Hasty(Exchange):
    """Calls complete one window more than it sends."""

    def _complete(
        self, closed_ns: Mapping[str, int], *arguments: Any, **options: Any
    ) -> tuple[dict[str, int], dict[str, int]]:
        until_ns, from_ns = super()._complete(closed_ns, *arguments, **options)
        return {pv: min(one + WINDOW_S * NS_PER_S, closed_ns.get(pv, one)) for pv, one in until_ns.items()}, from_ns


class Forgetful(WatchedOutbox):
    """Does not know a record again by its worker's number."""

    def append(
        self,
        kind: RecordKind,
        data: bytes,
        key: str | None = None,
        remember: Mapping[str, str] | None = None,
        stamp: Stamp | None = None,
    ) -> int:
        return super().append(kind, data, None, remember, stamp)


class Silent(WatchedOutbox):
    """Drops without a word."""

    def batch(self, *arguments: Any, **options: Any) -> Batch:
        self._keeper.ledger = self._keeper.ledger._replace(dropped={})
        return super().batch(*arguments, **options)


class Credulous(Timekeeper):
    """Believes its wall clock."""

    @classmethod
    def of(cls, clock: Clock, outbox: Outbox, *, window_s: int = 60) -> "Credulous":
        return cls(clock, outbox.recall("clock"), window_s=window_s)

    def moved_s(self, record: Record) -> int | None:
        return 0

    def shift_s(self, stamp: Stamp | None, time_s: int) -> int | None:
        return 0


BROKEN: Mapping[str, Parts] = {
    "the hub answers before it commits": Parts(hub_answers_too_early=True),
    "the hub takes what it has": Parts(decide=taken_twice),
    "a device does not hear what a restored hub lacks": Parts(Build(exchange=Deaf)),
    "a device does not branch where its records are in conflict": Parts(Build(exchange=Stubborn)),
    "a device calls complete what waits": Parts(Build(exchange=Boastful)),
    "a device calls complete the window after its batch": Parts(Build(exchange=Hasty)),
    "an agent does not know a record again": Parts(Build(outbox=Forgetful)),
    "a device drops without a word": Parts(Build(outbox=Silent)),
    "a device believes its clock": Parts(Build(timekeeper=Credulous.of)),
}
