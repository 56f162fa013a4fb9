"""How wrong this device's clock is, and was when a record was made; learned from the hub's replies.

A device may boot in 1970, or with a battery that died, and learn the time days later, or never. What it records is
**stamped** with the boot and with what the wall clock led the boot's steady clock by (`wire.device.Stamp`). Each reply
of the hub is a **sample** of what the true time leads the steady clock by. The difference of the two is how far a
record lies from where it belongs, however often the wall clock was set in between. Nothing is ever corrected on the
device itself: the hub moves a record by the whole base windows that are told with it.

- Between two samples of a boot the lead is interpolated: a crystal that is off by 500 ppm loses a minute in 33 hours.
- Before the first and after the last it goes on at the rate of the crystal, where two samples ever told it.
- A boot without a sample (power was cut before the hub was reached) has its own word for its time: it is believed where
  it lies between the last time known before that boot and the first one known after it, else the time is unknown.
- A boot without a name is not corrected at all: fast time, and systems that name no boots.

All of it is arithmetic on a `Clock` and on what is passed in. The state is a JSON document, a hundred bytes a boot.
"""

import json
import logging
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftline.clock import NS_PER_S, Clock
from driftline.spool.outbox import Outbox
from driftline.wire.device import BASE_WINDOW_S, Reader, Record, Stamp, WireError, decode_event, window_head

log = logging.getLogger("driftline.edge")
WINDOW_NS = BASE_WINDOW_S * NS_PER_S
# Less than this a wall clock is nudged, not set: its windows are a little longer or shorter, and late values are taken.
STEP_NS = WINDOW_NS
# What the cheapest crystals are off by, hot or cold.
DRIFT_MAX = 500e-6
# A crystal at its worst is off by 43 s after a day: then the hub is asked for the time before records are sent.
SAMPLE_AGE_MAX_NS = 86_400 * NS_PER_S
# The document is written to flash at most so often for a sample that only confirms what is known.
SAVE_EVERY_NS = 3600 * NS_PER_S
# Two samples tell a rate when they are so far apart and their errors small beside that: an hour, and 50 ppm of it.
RATE_SPAN_MIN_NS, RATE_ERROR_MAX = 3600 * NS_PER_S, 50e-6
# A record's neighbours are moved alike while that puts them less than this from where they belong: an estimate near
# half a window would else send one forward and the next not, with every sample anew.
HELD_MAX_NS = 40 * NS_PER_S
# A hub whose own clock says so was never set: no driftline existed.
TRUE_TIME_MIN_NS = 1_577_836_800 * NS_PER_S  # 2020-01-01
# More than a year of a device that is switched on each morning.
BOOTS_MAX = 400
# Under which an outbox remembers the document.
CLOCK_KEY = "clock"
READINGS_MAX = 5


@dataclass(frozen=True, slots=True)
class Reach:
    """Up to where windows are complete, by the clock of a stamp.

    >>> Reach.of(Reach(5, Stamp("b", 3)).text)
    Reach(until_ns=5, stamp=Stamp(boot='b', offset_ns=3))
    """

    until_ns: int
    stamp: Stamp | None = None

    @property
    def text(self) -> str:
        """What an outbox remembers of it."""
        return f"{self.until_ns}" if self.stamp is None else f"{self.until_ns} {self.stamp.offset_ns} {self.stamp.boot}"

    @classmethod
    def of(cls, text: str) -> "Reach":
        """Read what `text` was."""
        until_ns, *stamp = text.split(" ", 2)
        return cls(int(until_ns), Stamp(stamp[1], int(stamp[0])) if stamp else None)

    def is_beyond(self, other: "Reach", boot: str) -> bool:
        """Say whether this is later, whatever clocks showed: of two boots the present one, `boot`."""
        if self.stamp is None or other.stamp is None:
            return self.until_ns > other.until_ns
        if self.stamp.boot != other.stamp.boot:
            return other.stamp.boot != boot
        return self.until_ns - self.stamp.offset_ns > other.until_ns - other.stamp.offset_ns


@dataclass(frozen=True, slots=True)
class Sample:
    """What the true time led the steady clock by when that showed `steady_ns`, right to `error_ns`."""

    steady_ns: int
    lead_ns: int
    error_ns: int

    @classmethod
    def of_reply(cls, sent_ns: int, received_ns: int, hub_ns: int) -> "Sample":
        """Take a sample from a reply: the steady times of request and reply, and the hub's time in between.

        >>> Sample.of_reply(sent_ns=10, received_ns=20, hub_ns=1015)
        Sample(steady_ns=15, lead_ns=1000, error_ns=5)
        """
        middle_ns = (sent_ns + received_ns) // 2
        return cls(middle_ns, hub_ns - middle_ns, (received_ns - sent_ns + 1) // 2)

    @property
    def true_ns(self) -> int:
        """The true time of the sample."""
        return self.steady_ns + self.lead_ns

    def bound_ns(self, steady_ns: int) -> int:
        """Return how wrong the lead may be at another steady time, given any crystal."""
        return self.error_ns + int(DRIFT_MAX * abs(steady_ns - self.steady_ns))

    def contradicts(self, other: "Sample") -> bool:
        """Say whether no crystal explains both: the hub's own clock was set in between."""
        allowed_ns = other.bound_ns(self.steady_ns) + self.bound_ns(other.steady_ns) + NS_PER_S
        return abs(self.lead_ns - other.lead_ns) > allowed_ns


def offset_ns(clock: Clock) -> int:
    """Return what a wall clock leads its steady one by now."""
    found: list[tuple[int, int]] = []
    for _ in range(READINGS_MAX):
        before_ns, wall_ns, after_ns = clock.steady_ns(), clock.now_ns(), clock.steady_ns()
        lead_ns = wall_ns - (before_ns + after_ns) // 2
        if after_ns - before_ns <= NS_PER_S:
            return lead_ns
        # The process was stopped, or the machine put to sleep, between two readings: what was read is of two times.
        found.append((after_ns - before_ns, lead_ns))
    return min(found)[1]


def stamp_now(clock: Clock) -> Stamp | None:
    """Return the stamp of what is made now; None where the boot has no name."""
    return Stamp(clock.boot, offset_ns(clock)) if clock.boot else None


class Timekeeper:
    """Keeps the samples of the boots whose records may still wait, and says by them how far records are to be moved.

    `document` is what an earlier `Timekeeper` of this device was, `window_s` the width of its base windows.

    >>> from driftline.clock import ManualClock
    >>> keeper = Timekeeper(ManualClock(1_767_258_000 * NS_PER_S, boot="a"))
    >>> keeper.learn(Sample(steady_ns=0, lead_ns=1_767_261_600 * NS_PER_S, error_ns=0))
    True
    >>> keeper.shift_s(stamp_now(keeper.clock), 1_767_258_060)
    3600
    """

    def __init__(self, clock: Clock, document: str | None = None, *, window_s: int = BASE_WINDOW_S) -> None:
        self.clock = clock
        self._window_s = window_s
        # In the order of time; the samples of each in the order of steady time.
        self._boots: dict[str, list[Sample]] = {}
        self._held_s = 0
        self._saved_ns: int | None = None
        if document is not None:
            self._read(document)
        if clock.boot:
            # The present boot is the newest, whatever an older copy of this disk says.
            self._boots[clock.boot] = self._boots.pop(clock.boot, [])
        for old in list(self._boots)[:-BOOTS_MAX]:
            del self._boots[old]
        self._rates = {boot: rate for boot, kept in self._boots.items() if (rate := _rate(kept)) is not None}

    @property
    def document(self) -> str:
        """What makes this object again after a restart."""
        boots = [[boot, [[s.steady_ns, s.lead_ns, s.error_ns] for s in kept]] for boot, kept in self._boots.items()]
        return json.dumps({"boots": boots, "held_s": self._held_s}, separators=(",", ":"))

    @classmethod
    def of(cls, clock: Clock, outbox: Outbox, *, window_s: int = BASE_WINDOW_S) -> "Timekeeper":
        """Return what the outbox remembers, with the present boot, of which it is told before any record of it."""
        before = outbox.recall(CLOCK_KEY)
        keeper = cls(clock, before, window_s=window_s)
        if clock.boot and keeper.document != before:
            outbox.remember(CLOCK_KEY, keeper.document)
        return keeper

    # ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────

    def wants_probe(self) -> bool:
        """Say whether the hub is to be asked for the time before records are sent, by a request too short to wait."""
        boot = self.clock.boot
        if not boot:
            return False
        samples = self._boots[boot]
        return not samples or self.clock.steady_ns() - samples[-1].steady_ns > SAMPLE_AGE_MAX_NS

    def learn(self, new: Sample) -> bool:
        """Take a sample of the present boot; return whether the document is worth a commit of its own.

        One that is worse than what is known, or of a hub whose clock was never set, is passed over.
        """
        boot = self.clock.boot
        if not boot or new.true_ns < TRUE_TIME_MIN_NS:
            return False
        samples = self._boots[boot]
        if any(new.contradicts(one) for one in samples):
            samples = []
        elif samples and new.error_ns > samples[-1].bound_ns(new.steady_ns):
            return False
        best = min([*samples, new], key=lambda one: one.error_ns)
        self._boots[boot] = sorted({*samples[:1], best, new}, key=lambda one: one.steady_ns)
        if (rate := _rate(self._boots[boot])) is not None:
            # Replaced whole: other threads ask while this one learns.
            self._rates = {**self._rates, boot: rate}
        due = not samples or self._saved_ns is None or new.steady_ns - self._saved_ns >= SAVE_EVERY_NS
        if due:
            self._saved_ns = new.steady_ns
        return due

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────

    def moved_s(self, record: Record) -> int | None:
        """Return by how many seconds the hub is to move a record, in whole base windows; None where nobody knows.

        A record without a stamp stays where it is.
        """
        if record.stamp is None:
            return 0
        try:
            return self.shift_s(record.stamp, record_time_s(record))
        except WireError:
            return 0  # the hub says what is wrong with it

    def shift_s(self, stamp: Stamp | None, time_s: int) -> int | None:
        """Return by how many seconds a time by the clock of this stamp is to be moved; see `moved_s`."""
        if stamp is None or not stamp.boot:
            return 0
        samples = self._boots.get(stamp.boot)
        if samples is None:
            return None
        if not samples:
            return 0 if self._lies_between(stamp.boot, time_s * NS_PER_S) else None
        behind_ns = self._lead_ns(stamp.boot, time_s * NS_PER_S - stamp.offset_ns) - stamp.offset_ns
        window_ns = self._window_s * NS_PER_S
        if abs(behind_ns - self._held_s * NS_PER_S) > HELD_MAX_NS * self._window_s // BASE_WINDOW_S:
            self._held_s = round(behind_ns / window_ns) * self._window_s
        return self._held_s

    def head_clock(self) -> Mapping[str, int]:
        """Return by how much the true time is ahead of the wall clock and how wrong that may be; {} before it is known.

        Keys `offset_ns`, `error_ns`.
        """
        samples = self._boots.get(self.clock.boot)
        if not samples:
            return {}
        steady_ns = self.clock.steady_ns()
        error_ns = min(one.bound_ns(steady_ns) for one in samples)
        return {"offset_ns": self._lead_ns(self.clock.boot, steady_ns) - offset_ns(self.clock), "error_ns": error_ns}

    # ── arithmetic ───────────────────────────────────────────────────────────────────────────────────────────────

    def _lead_ns(self, boot: str, steady_ns: int) -> int:
        """Return what the true time led the steady clock by in a boot that has samples."""
        samples = self._boots[boot]
        # A clip may be scheduled long before its device was switched on; its clock is judged from then on.
        steady_ns = max(steady_ns, min(0, samples[0].steady_ns))
        # Most of what is asked for is newer than the last sample.
        is_newer = steady_ns > samples[-1].steady_ns
        at = len(samples) if is_newer else bisect_left(samples, steady_ns, key=lambda one: one.steady_ns)
        if 0 < at < len(samples):
            before, after = samples[at - 1], samples[at]
            share = (steady_ns - before.steady_ns) / (after.steady_ns - before.steady_ns)
            return before.lead_ns + round(share * (after.lead_ns - before.lead_ns))
        nearest = samples[min(at, len(samples) - 1)]
        # By what other boots told of the crystal where this one cannot tell.
        rate = self._rates.get(boot, next(reversed(self._rates.values()), 0.0))
        return nearest.lead_ns + round(rate * (steady_ns - nearest.steady_ns))

    def _lies_between(self, boot: str, time_ns: int) -> bool:
        """Say whether a time lies between what is known before a boot without samples and what is known after it."""
        boots = list(self._boots)
        at = boots.index(boot)
        before = next((kept[-1].true_ns for one in boots[:at][::-1] if (kept := self._boots[one])), None)
        after = next((kept[0].true_ns for one in boots[at + 1 :] if (kept := self._boots[one])), None)
        # The window may have begun before what was known in the middle of it.
        return before is not None and after is not None and before - self._window_s * NS_PER_S <= time_ns <= after

    def _read(self, document: str) -> None:
        try:
            told: dict[str, Any] = json.loads(document)
            boots = {str(boot): [Sample(*map(int, one)) for one in kept] for boot, kept in told["boots"]}
            self._boots, self._held_s = boots, int(told["held_s"])
        except (KeyError, TypeError, ValueError) as error:
            # A device must not stop for this: what waits of earlier boots is then marked, and this boot asks anew.
            log.warning("what was known of this device's clock cannot be read and is learned anew (%r)", error)


def record_time_s(record: Record) -> int:
    """Return the start of a record's window, or when an event was, Unix seconds by the clock it was made by.

    Raises:
        WireError: it cannot be read.
    """
    if record.kind == "event":
        return int(decode_event(record.data)["at_ns"]) // NS_PER_S
    if record.kind == "window":
        return window_head(record.data)[1]
    reader = Reader(record.data)
    reader.take(1)
    try:
        return int(json.loads(reader.take(reader.varint()))["start_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"rows that cannot be read: {error!r}") from error


def _rate(samples: Sequence[Sample]) -> float | None:
    """Return the rate that the first and the last sample tell; None where they are too near or too vague."""
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]
    span_ns = last.steady_ns - first.steady_ns
    if span_ns < RATE_SPAN_MIN_NS or first.error_ns + last.error_ns > RATE_ERROR_MAX * span_ns:
        return None
    return (last.lead_ns - first.lead_ns) / span_ns
