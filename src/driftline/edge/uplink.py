"""A device's side of the talk with its hub: one thread that syncs when it is time and downloads what is missing.

When is decided by `driftline.edge.shipper`, what by `driftline.edge.exchange`; here it is done, and said.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driftline.clock import NS_PER_S, Clock
from driftline.edge import heap
from driftline.edge.bundles import Bundles
from driftline.edge.exchange import Exchange, Outcome, Wishes
from driftline.edge.home import Home, Identity
from driftline.edge.shipper import Shipper, Upload
from driftline.edge.timekeeping import CLOCK_KEY, Sample, Timekeeper
from driftline.edge.transport import Transport
from driftline.errors import DriftlineError, NotAllowedError, PermanentError
from driftline.spool.outbox import Outbox, waiting_text
from driftline.wire.device import (
    BatchHead,
    BundleFile,
    Desired,
    DesiredPipeline,
    Record,
    WireError,
    decode_window,
    encode_batch,
)

log = logging.getLogger("driftline.edge")
# Stopping: how long the last sync may take, and how long a request under way may still go on.
LAST_SYNC_S, GRACE_S = 2.0, 0.75
DOWNLOAD_PAUSE_FIRST_S, DOWNLOAD_PAUSE_MAX_S = 1.0, 60.0
# Request numbers are reserved so many at a time, by the clock a minute: a commit for each would wear the flash.
NUMBERS_RESERVED = 60_000
# Under which the edges of a grid are remembered.
GRID_KEY = "grid:"
# No clock comes near it; a number of more would leave no room above.
NUMBER_MAX = 2**62
# So many troubles of one outage are told in the log; a text that is new each time must not fill it.
TROUBLES_SAID_MAX = 8


@dataclass(frozen=True, slots=True)
class Overrides:
    """What this device's command line wants instead of the hub's wish, where it says so; intervals in seconds."""

    interval_s: float | None = None
    rows_kb_a_day: int | None = None
    newest_first: bool | None = None

    def wishes(self, desired: Desired) -> Wishes:
        """Return how the link is to be used."""
        return Wishes(
            desired.rows_kb_a_day if self.rows_kb_a_day is None else self.rows_kb_a_day,
            desired.newest_first if self.newest_first is None else self.newest_first,
        )


class Uplink:
    """Syncs and downloads from `start` until `finish`; `head` says how the device is, for each request anew.

    `runs_models` says whether the files of models are wanted here at all.
    """

    def __init__(
        self,
        home: Home,
        identity: Identity,
        clock: Clock,
        outbox: Outbox,
        overrides: Overrides,
        timekeeper: Timekeeper,
        *,
        head: Callable[[], BatchHead],
        runs_models: bool,
    ) -> None:
        self._home = home
        self._identity = identity
        self._clock = clock
        self._outbox = outbox
        self._overrides = overrides
        self._head = head
        self._runs_models = runs_models
        self._transport = Transport(identity, RequestNumbers(outbox))
        self._timekeeper = timekeeper
        self._exchange = Exchange(outbox, identity.name, timekeeper)
        self._shipper = Shipper(time.monotonic())
        # `_guard` protects what other threads read: what is desired, and which of its files are there.
        self._guard = threading.RLock()
        self._bundles = Bundles(home.bundles)
        self._desired = home.desired() or Desired()
        # A spool that was lost has forgotten them.
        self._remember_grids(self._desired)
        self._download_error: str | None = None
        self._synced_ns: int | None = None
        self._sync_error: str | None = None
        # What was said in the log since the last sync.
        self._said: set[str] = set()
        self._conflict_ns: int | None = None
        self._refused = 0
        self._finishing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hub", daemon=True)

    # ── what the agent asks ──────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Sync soon: something happened that the hub should know."""
        self._shipper.hurry(time.monotonic())
        self._wake.set()

    def finish(self) -> bool:
        """Sync once more and end; return whether the thread has, and the outbox may be closed."""
        self._transport.hasten(LAST_SYNC_S)
        self._finishing.set()
        self._wake.set()
        self._thread.join(GRACE_S)
        if self._thread.is_alive():
            # It waits for an answer, or in the middle of a download.
            self._transport.interrupt()
            self._thread.join(LAST_SYNC_S + GRACE_S)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether anybody still talks to the hub."""
        return self._thread.is_alive()

    @property
    def has_synced(self) -> bool:
        """Whether the hub was reached since this agent began."""
        return self._synced_ns is not None

    @property
    def sentence(self) -> str:
        """How the last sync went, in words."""
        return self._sync_error or ("not synced yet" if self._synced_ns is None else "synced with the hub")

    @property
    def desired(self) -> Desired:
        """What the hub last wanted."""
        return self._desired

    def offer(self) -> tuple[Desired, dict[str, str]]:
        """Return what the hub wants, and the paths of those of its files that are here, by digest."""
        with self._guard:
            return self._desired, self._bundles.files(self._desired)

    def missing_text(self, pipeline: DesiredPipeline) -> str | None:
        """Say why a pipeline's files are not here; None where they are, or may just be on their way."""
        digests = {file.digest for file in pipeline.files.values()}
        with self._guard:
            missing = {file.digest for file in self._bundles.missing(self._desired)}
        if self._download_error is None or not digests & missing:
            return None
        return f"a model file is missing: {self._download_error}"

    def status(self) -> dict[str, Any]:
        """Return how the talk goes, as JSON's objects."""
        wishes = self._overrides.wishes(self._desired)
        return {
            "synced_ns": self._synced_ns,
            "sync_error": self._sync_error,
            "conflict_ns": self._conflict_ns,
            "refused": self._refused,
            "rows_kb_a_day": wishes.rows_kb_a_day,
            "newest_first": wishes.newest_first,
        }

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        """Sync and download, one request at a time, until the device stops; then sync once more."""
        again_s = pause_s = 0.0
        while not self._finishing.is_set():
            self._wake.clear()
            now_s = time.monotonic()
            step = self._shipper.next(now_s)
            missing = self._bundles.missing(self._desired) if self._runs_models else ()
            if isinstance(step, Upload):
                self._sync()
                heap.give_back()
            elif missing and now_s >= again_s:
                fetched = self._fetch(missing)
                pause_s = 0.0 if fetched else min(DOWNLOAD_PAUSE_MAX_S, pause_s * 2 or DOWNLOAD_PAUSE_FIRST_S)
                again_s = time.monotonic() + pause_s
            else:
                self._wake.wait(min(step.seconds, again_s - now_s) if missing else step.seconds)
        # What does not fit into one batch goes when the device is back.
        self._sync()
        self._transport.close()

    def _sync(self) -> None:
        try:
            self._exchanged()
        except DriftlineError as error:
            self._shipper.refused(time.monotonic(), for_good=isinstance(error, NotAllowedError))
            self._say_trouble(error)
        except Exception:  # a bug here must not end the only thread that talks to the hub
            self._shipper.refused(time.monotonic())
            log.exception("a sync failed")

    def _exchanged(self) -> None:
        sent = self._exchange.request(self._head(), self._clock.now_ns(), self._overrides.wishes(self._desired))
        head = replace(sent.head, grids=former_grids(sent.records, self._desired, self._outbox))
        body = encode_batch(head, sent.records)
        asked_ns = self._clock.steady_ns()
        try:
            reply = self._transport.sync(body)
        except DriftlineError:
            self._exchange.failed(sent)
            raise
        self._learn_time(Sample.of_reply(asked_ns, self._clock.steady_ns(), reply.now_ns))
        outcome = self._exchange.answered(sent, reply)
        if reply.desired is not None:
            self._adopt(reply.desired)
        self._say_well()
        self._say_outcome(outcome)
        interval_s = self._real_s(self._overrides.interval_s or reply.sync_interval_s)
        idle = not self._desired.pipelines and self._overrides.interval_s is None
        self._shipper.acknowledged(time.monotonic(), interval_s, more=outcome.more, idle=idle)

    def _learn_time(self, sample: Sample) -> None:
        is_due = self._timekeeper.learn(sample)
        # A spool that was damaged and begun anew has forgotten what it was told.
        if self._clock.boot and (is_due or self._outbox.recall(CLOCK_KEY) is None):
            self._outbox.remember(CLOCK_KEY, self._timekeeper.document)

    def _real_s(self, interval_s: float) -> float:
        """Return how long an interval of the windows' time takes."""
        return self._clock.wait_s(self._clock.now_ns() + int(interval_s * NS_PER_S))

    def _adopt(self, desired: Desired) -> None:
        """Take a new desired state, on disk first; its grids before anything is counted on them."""
        self._remember_grids(desired)
        try:
            self._home.save_desired(desired)
        except OSError as error:
            log.warning("what the hub wants could not be saved (%s); it is used and asked for again", error)
        with self._guard:
            self._desired = desired
            self._bundles.prune(desired)
        names = ", ".join(sorted({one.name for one in desired.pipelines})) or "nothing"
        log.info("the hub wants this device to run %s", names)

    def _remember_grids(self, desired: Desired) -> None:
        try:
            remember_grids(desired, self._outbox)
        except DriftlineError as error:
            log.warning("what is counted on could not be kept for a hub that forgets it: %s", error)

    def _fetch(self, missing: Sequence[BundleFile]) -> bool:
        """Download the first missing file."""
        file = missing[0]
        try:
            self._transport.download(file, self._bundles.path(file.digest))
        except DriftlineError as error:
            log.warning("a model file is still missing: %s", error)
            self._download_error = str(error)
            return False
        with self._guard:
            self._bundles.arrived(file.digest)
            self._bundles.prune(self._desired)
        self._download_error = None
        log.info("a model file of %d bytes arrived", file.size)
        return True

    # ── what is said of it ───────────────────────────────────────────────────────────────────────────────────────

    def _say_trouble(self, error: DriftlineError) -> None:
        self._sync_error = str(error)
        # Each trouble once, not with every try; what stands in parentheses is the system's word for the same one.
        trouble = self._sync_error.partition(" (")[0]
        if trouble not in self._said and len(self._said) < TROUBLES_SAID_MAX:
            self._said.add(trouble)
            way = "nothing is lost, and it is tried again" if isinstance(error, PermanentError) else "trying on"
            log.warning("%s; %s, %s", error, waiting_text(self._outbox.backlog), way)

    def _say_well(self) -> None:
        if self._sync_error is not None or self._synced_ns is None:
            log.info("the hub at %s answers", self._identity.url)
        self._sync_error = None
        self._said.clear()
        self._synced_ns = self._clock.now_ns()

    def _say_outcome(self, outcome: Outcome) -> None:
        self._say_refused(outcome.refused)
        if outcome.branched is not None:
            self._conflict_ns = self._clock.now_ns()
            log.warning(
                "the hub holds other records under the numbers of this device's: another machine uses its identity, or "
                "this disk was restored from a copy; nothing is lost, they are sent again as epoch %s",
                outcome.branched,
            )
        if outcome.asked_again is not None:
            log.warning(
                "the hub was restored from an older backup; %d records that it lacks are sent again",
                outcome.asked_again,
            )

    def _say_refused(self, refused: Mapping[str, str]) -> None:
        for sequence, reason in refused.items():
            log.warning("the hub refused record %s: %s", sequence, reason)
        self._refused += len(refused)


def remember_grids(desired: Desired, outbox: Outbox) -> None:
    """Keep the edges of the grids that are counted on from now on, as long as the outbox lives."""
    for grid_id, edges in desired.grids.items():
        if outbox.recall(GRID_KEY + grid_id) is None:
            outbox.remember(GRID_KEY + grid_id, json.dumps(list(edges)))


def former_grids(records: Sequence[Record], desired: Desired, outbox: Outbox) -> dict[str, list[float]]:
    """Return the edges of the grids that these records were counted on and the hub names no more, by id."""
    used = {
        grid_id for one in records if one.kind == "window" for grid_id in _counted_on(one.data)
    } - desired.grids.keys()
    found = {grid_id: outbox.recall(GRID_KEY + grid_id) for grid_id in sorted(used)}
    return {grid_id: json.loads(text) for grid_id, text in found.items() if text is not None}


def _counted_on(window: bytes) -> set[str]:
    """Return the grids of a window; none of one that cannot be read, which the hub is to refuse."""
    try:
        return {field.grid_id for field in decode_window(window).fields}
    except WireError:
        return set()


class RequestNumbers:
    """Numbers for signed requests, kept in the outbox's metadata.

    They follow the milliseconds of the machine's clock where that is ahead: a device whose spool was lost is then still
    believed, and one whose clock was set back goes on counting.
    """

    def __init__(self, outbox: Outbox, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._outbox = outbox
        self._now_ns = now_ns
        self._reserved = int(outbox.recall("request") or 0)
        self._last = self._reserved

    def next(self) -> int:
        """Return a number greater than all before it."""
        self._last = max(self._last + 1, self._now_ns() // 1_000_000)
        if self._last >= self._reserved:
            reserved = self._last + NUMBERS_RESERVED
            self._outbox.remember("request", str(reserved))
            self._reserved = reserved
        return self._last

    def above(self, last: int) -> None:
        """Go on above a number that the hub knows."""
        self._last = max(self._last, min(last, NUMBER_MAX))
