"""The scorer: answers every due window of every standing assay on every device, in the background.

A window is due when the clock has passed its end. If the device has told everything up to there, it is answered; if it
has not, it gets its sync interval as grace, is then answered Late, once, and again when the device is heard. Data that
comes for a window answered before (a spool emptied late, a record sent twice) makes a new revision of that answer.
Rows that come after the counts of the same inferences bring nothing new, and do not: the answer stays one from counts.

What was answered is stored together with the progress, in one transaction for some windows of one assay on one device:
a scorer that is killed anywhere continues from there, and one that runs twice changes nothing.
"""

import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import msgspec
from sqlalchemy import select

from driftline.assay.baseline import BaselineData
from driftline.assay.window import WindowPlan, plan_of
from driftline.clock import NS_PER_S
from driftline.errors import TemporaryError
from driftline.hub import assays, fleet, incidents
from driftline.hub.core import Hub
from driftline.hub.observations import Span, Target, baseline_of
from driftline.hub.store import assays as store
from driftline.hub.store.assays import Arrival, Kept, Progress
from driftline.hub.store.fleet import devices as device_rows
from driftline.wire import api

# Real seconds between two looks where nothing wakes the scorer: windows become due by time alone.
PAUSE_S = 1.0
# Windows of one assay on one device answered in one transaction: the others, and the pages, wait no longer than that.
WINDOWS_AT_ONCE = 100


class Scorer:
    """A thread that looks for due windows after every ingest, and at least once a second."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._stopping = threading.Event()
        self._round = Round(hub)
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="scorer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the windows under way; what is left is answered after the next start."""
        self._stopping.set()
        self.hub.wake.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self.hub.wake.clear()
            more, trouble = False, None
            try:
                more = self._round.run(self._stopping)
            except TemporaryError as error:
                trouble = f"the scorer waits: {error}"
            except Exception:  # noqa: BLE001  the scorer goes on whatever happens; the next look may succeed
                trouble = traceback.format_exc()
            # Once, not with every look: a disk that is full must not be filled by a log of it.
            if trouble is not None and trouble != self._trouble:
                print(f"driftline: {trouble}", file=sys.stderr, flush=True)
            self._trouble = trouble
            if not more:
                self.hub.wake.wait(PAUSE_S)


@dataclass(frozen=True)
class _Job:
    """One standing assay ready to be answered."""

    kept: Kept
    target: Target
    plan: WindowPlan
    until_ns: int

    @property
    def id(self) -> str:
        return self.kept.assay.id

    def touched(self, starts_s: Iterable[int], before_ns: int) -> list[tuple[int, int]]:
        """Return the windows that hold one of these base windows and begin before a time, each once."""
        found: set[tuple[int, int]] = set()
        for start_s in starts_s:
            at_ns = start_s * NS_PER_S
            for start, end in self.plan.due(at_ns - self.plan.width_ns + 1, at_ns + 2 * self.plan.width_ns):
                if start <= at_ns < end and start < before_ns:
                    found.add((start, end))
        return sorted(found)


@dataclass
class Round:
    """One look at everything that may be due; it keeps only what can be worked out again.

    `listening_ns` is since when this hub can hear devices: what was missed while it was down is not held against them.
    """

    hub: Hub
    windows_at_once: int = WINDOWS_AT_ONCE
    listening_ns: int = field(init=False)
    _baselines: dict[tuple[str, str], BaselineData | None] = field(init=False)
    _failures: dict[str, str] = field(init=False)
    _by_pipeline: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.listening_ns = self.hub.now_ns()
        self._baselines, self._failures, self._by_pipeline = {}, {}, {}

    def run(self, stopping: threading.Event | None = None) -> bool:
        """Answer what is due, some windows an assay and device, and return whether more is waiting."""
        self._by_pipeline = {}
        fleet_now = {device.name: device for device in fleet.list_devices(self.hub)}
        grace_ns = self._grace_ns()
        late = self._late_data()
        progress: defaultdict[str, dict[str, Progress]] = defaultdict(dict)
        with self.hub.database.reading() as connection:
            standing = store.every(connection, active=True)
            for one in store.progress(connection):
                progress[one.assay][one.device] = one
        more = False
        for kept in standing:
            if stopping is not None and stopping.is_set():
                return False
            more |= self._guarded(kept, progress[kept.assay.id], fleet_now, grace_ns, late.by_place)
        self._remember(late)
        self._watch(fleet_now.values(), grace_ns)
        return more

    # ── one assay ────────────────────────────────────────────────────────────────────────────────────────────────

    def _guarded(
        self,
        kept: Kept,
        progress: Mapping[str, Progress],
        there: Mapping[str, api.Device],
        grace_ns: Mapping[str, int],
        late: Mapping[tuple[str, str], Sequence[int]],
    ) -> bool:
        """Answer one assay; an error is kept with it, and is no other's concern."""
        identity, failure = kept.assay.id, None
        more = False
        try:
            job = self._job(kept)
            if job is not None:
                for device in self._devices(job, there):
                    before = progress.get(device) or self._beginning(job, there[device])
                    self._revise(job, before, late.get((job.target.pipeline, device), ()))
                    more |= self._advance(job, before, grace_ns.get(device, 0))
        except TemporaryError:
            raise
        except Exception as error:  # noqa: BLE001  one assay's failure must not stop the others
            failure = f"{type(error).__name__}: {error}"
            if self._failures.get(identity) != failure:
                print(f"driftline: assay {kept.assay.spec.name!r} could not be answered", file=sys.stderr)
                traceback.print_exc()
        self._failures.pop(identity, None)
        if failure is not None:
            self._failures[identity] = failure
        if failure != kept.failure:
            with self.hub.database.writing() as connection:
                store.set_failure(connection, identity, failure)
        return more and failure is None

    def _job(self, kept: Kept) -> _Job | None:
        """Make an assay ready; None where its windows have nothing to start from yet."""
        spec = kept.assay.spec
        start_ns = kept.start_ns
        if start_ns is None:
            start_ns = self.hub.telemetry.first_inference_ns(spec.pipeline, None)
            if start_ns is None:
                return None
            with self.hub.database.writing() as connection:
                store.set_start(connection, kept.assay.id, start_ns)
        plan = plan_of(msgspec.structs.replace(spec.windows, start_ns=start_ns), None, rows=False)
        now_ns = self.hub.now_ns()
        until_ns = now_ns if spec.run_until_ns is None else min(now_ns, spec.run_until_ns)
        # The pipeline's name is for messages of a preview only.
        return _Job(kept, Target(spec.pipeline, "", spec.field, kept.field_type), plan, until_ns)

    def _devices(self, job: _Job, there: Mapping[str, api.Device]) -> list[str]:
        named = job.kept.assay.spec.devices or self._tellers(job.target.pipeline)
        return [device for device in named if device in there and there[device].joined]

    def _tellers(self, pipeline: str) -> list[str]:
        """Return the devices of a pipeline, asked for once a round, whatever the number of its assays."""
        if pipeline not in self._by_pipeline:
            self._by_pipeline[pipeline] = self.hub.telemetry.devices(pipeline)
        return self._by_pipeline[pipeline]

    def _beginning(self, job: _Job, device: api.Device) -> Progress:
        """Return where a device's windows begin: with the plan, but not before the device was there."""
        plan = job.plan
        first_ns = self.hub.telemetry.first_inference_ns(job.target.pipeline, device.name)
        there_ns = device.created_ns if first_ns is None else min(device.created_ns, first_ns)
        start_ns = plan.start_ns + plan.count(there_ns) * plan.interval_ns
        return Progress(job.id, device.name, start_ns, start_ns)

    def _advance(self, job: _Job, before: Progress, grace_ns: int) -> bool:
        """Answer the next due windows of one device; return whether there are more than were answered now."""
        # A device that is Late already has nothing new to say until it is heard.
        first_open = next(job.plan.due(before.late_ns, job.until_ns), None)
        if first_open is None and before.late_ns <= before.next_ns:
            return False
        heard_ns = self.hub.telemetry.complete_until_ns(job.target.pipeline, before.device) or 0
        due = list(islice(self._due(job, before, heard_ns, grace_ns), self.windows_at_once + 1))
        now = due[: self.windows_at_once]
        if now:
            self._answer(job, before, now, heard_ns)
        return len(due) > len(now)

    def _due(self, job: _Job, before: Progress, heard_ns: int, grace_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows to be answered: those that were heard, then those that have been late for long enough."""
        yield from job.plan.due(before.next_ns, min(heard_ns, job.until_ns))
        now_ns = self.hub.now_ns()
        for start, end in job.plan.due(max(before.next_ns, before.late_ns), job.until_ns):
            if end > heard_ns:
                if now_ns < max(end, self.listening_ns) + grace_ns:
                    return
                yield start, end

    def _answer(self, job: _Job, before: Progress, due: Sequence[tuple[int, int]], heard_ns: int) -> None:
        """Store the answers to some windows in time order, with what follows from them and up to where they go."""
        answers = self._answers(job, before.device, due)
        interval_ns = job.plan.interval_ns
        # Spans are read after `heard_ns`: a device that was heard meanwhile is answered now and once more later.
        final = [start for start, end in due if heard_ns >= end]
        next_ns = final[-1] + interval_ns if final else before.next_ns
        newest = max(answers, key=lambda one: one.end_ns)
        after = replace(before, next_ns=next_ns, late_ns=max(due[-1][0] + interval_ns, before.late_ns))
        if before.end_ns is None or newest.end_ns >= before.end_ns:
            after = replace(after, status=newest.status, score=newest.score, end_ns=newest.end_ns)
        self._store(answers, after)

    def _revise(self, job: _Job, before: Progress, starts_s: Sequence[int]) -> None:
        """Answer again the windows that late data came for."""
        windows = job.touched(starts_s, before.next_ns)
        for at in range(0, len(windows), self.windows_at_once):
            answers = self._answers(job, before.device, windows[at : at + self.windows_at_once])
            newest = answers[-1]
            is_newest = newest.end_ns == before.end_ns
            self._store(answers, replace(before, status=newest.status, score=newest.score) if is_newest else None)

    def _answers(self, job: _Job, device: str, windows: Sequence[tuple[int, int]]) -> list[api.Analysis]:
        span = Span(self.hub, job.target, device, windows[0][0], windows[-1][1])
        baseline = self._baseline(job, device)
        spec = job.kept.assay.spec
        return [assays.answer(spec, job.target, baseline, span, start, end, job.id) for start, end in windows]

    def _store(self, answers: Sequence[api.Analysis], after: Progress | None) -> None:
        with self.hub.database.writing() as connection:
            for answer in answers:
                kept = store.put(connection, answer)
                if kept is not None:
                    incidents.follow(connection, kept)
            if after is not None:
                store.put_progress(connection, after)

    def _baseline(self, job: _Job, device: str) -> BaselineData | None:
        """Return what a device is compared with, kept in memory: it is frozen, and its bins are worked out once."""
        key = (job.id, device)
        if key not in self._baselines:
            with self.hub.database.reading() as connection:
                material = store.baseline(connection, *key)
            self._baselines[key] = None if material is None else baseline_of(self.hub, material, job.target.field_type)
        return self._baselines[key]

    # ── late data ────────────────────────────────────────────────────────────────────────────────────────────────

    def _late_data(self) -> "_Late":
        with self.hub.database.reading() as connection:
            seen = store.windows_seen(connection)
            arrived, newest = store.arrivals(connection, seen or 0)
        return _Late(_by_place(arrived), newest, changed=newest != seen)

    def _remember(self, late: "_Late") -> None:
        if late.changed:
            with self.hub.database.writing() as connection:
                store.put_windows_seen(connection, late.newest)

    # ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _grace_ns(self) -> dict[str, int]:
        """Return by device how long after a window's end it may be heard: one sync interval."""
        with self.hub.database.reading() as connection:
            rows = connection.execute(select(device_rows.c.name, device_rows.c.interval_s)).all()
        # One sync that a busy machine holds up is not late; what that takes is real time, however fast the clock runs.
        least_s = fleet.SILENT_AFTER_REAL_S / fleet.SILENT_AFTER_SYNCS * fleet.speed(self.hub.clock)
        return {row.name: int(max(row.interval_s, least_s) * NS_PER_S) for row in rows}

    def _watch(self, there: Iterable[api.Device], grace_ns: Mapping[str, int]) -> None:
        listened_ns = self.hub.now_ns() - self.listening_ns
        devices = list(there)
        heard_of = {one.name for one in devices if listened_ns > fleet.SILENT_AFTER_SYNCS * grace_ns.get(one.name, 0)}
        with self.hub.database.reading() as connection:
            calm = not store.open_sources(connection, ("silent", *incidents.CAMERA_STATES))
        if calm and not any(True for one in devices for _ in incidents.troubles(one)):
            return
        with self.hub.database.writing() as connection:
            incidents.watch(connection, devices, heard_of, self.hub.now_ns())


@dataclass(frozen=True)
class _Late:
    """What came in since the last look: base window starts by (pipeline, device)."""

    by_place: Mapping[tuple[str, str], Sequence[int]]
    newest: int
    changed: bool


def _by_place(arrivals: Iterable[Arrival]) -> dict[tuple[str, str], list[int]]:
    places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for one in arrivals:
        places[one.pipeline, one.device].append(one.start_s)
    return dict(places)
