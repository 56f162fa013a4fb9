"""The scorer: answers every due window of every standing assay on every device, in the background.

A window is due when the clock has passed its end. If the device has told everything up to there, it is answered; if it
has not, it gets its sync interval as grace, is then answered Late, once, and again when the device is heard. Data that
comes for a window answered before (a spool emptied late, a record sent twice) makes a new revision of that answer.
Rows that come after the counts of the same inferences bring nothing new, and do not: the answer stays one from counts.

All fields of a window are answered together. Under a promise its evidence follows from the window before, so late data
lets every window from there on be answered again; how much evidence makes an alarm stays what it was for each.

What was answered is stored together with the progress, some hundred windows in one transaction, whatever assays and
devices they are of: a scorer that is killed anywhere continues from there, and one that runs twice changes nothing. Of
an assay and device nothing is stored where somebody else moved the progress meanwhile (an edit, or a new baseline), and
nothing at all where a site got other hours or a device another site: the next look begins from there.

Of several hubs on one database one scores at a time (`lease.py`); the others look whether its lease has run out.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby, islice, zip_longest
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, select

from driftline.assay.analysis import Baseline
from driftline.assay.promise import Memory, Stream
from driftline.assay.window import Succession, plan_of
from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError, TemporaryError
from driftline.hub import fleet, incidents, journal, maintenance
from driftline.hub.calendars import Calendars
from driftline.hub.core import Hub
from driftline.hub.course import Answered, Course, Footing, Rests, Walk, read, written
from driftline.hub.courtesy import Worker
from driftline.hub.lease import Lease
from driftline.hub.looker import Looker
from driftline.hub.observations import Target, baseline_of
from driftline.hub.promises import (
    WINDOWS_TO_KNOW_N,
    Footings,
    Usual,
    calibrating,
    level_of,
    stream_of,
    usual,
)
from driftline.hub.sight import Sight
from driftline.hub.store import assays as store
from driftline.hub.store import baselines, editions, sites
from driftline.hub.store import incidents as incident_store
from driftline.hub.store import maintenance as planned
from driftline.hub.store.assays import Answer, Arrival, Kept, Progress
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Place
from driftline.hub.store.fleet import devices as device_rows
from driftline.hub.store.telemetry import Heard
from driftline.wire import api

T = TypeVar("T")

# So many times as long as a look took, but not for longer than this, nothing wakes the next one: a hub that takes in
# hundreds of batches a second would do little else.
REST, REST_MAX_S = 9, 5.0
# Windows of one assay on one device answered at once, and answers stored in one transaction: the others, and the pages,
# wait no longer than that. A commit costs as much as storing some ten answers.
WINDOWS_AT_ONCE = 100
ANSWERS_AT_ONCE = 200
# Answers stored in one step of a transaction, after which the scorer gives way to who asks.
ANSWERS_A_STEP = 50
# Real seconds of one look that one assay may take before the others have their turn; it goes on with the next look.
TURN_S = 2.0


class Scorer(Looker):
    """A thread that looks for due windows after every ingest, as often as `REST` lets it, and when nothing comes."""

    def __init__(self, hub: Hub) -> None:
        self._round = Round(hub)
        super().__init__("scorer", self._round.run, hub.wake, lambda took_s: min(REST_MAX_S, REST * took_s))

    def last(self) -> None:
        """Let another hub on the database go on at once."""
        with suppress(TemporaryError):  # the lease runs out by itself
            self._round.lease.release()


@dataclass
class _Job:
    """One standing assay ready to be answered; what windows are compared with is read when it is first needed.

    Of one that was edited each edition is a course of its own, the last one as it asks now.
    """

    kept: Kept
    targets: Mapping[str, Target]
    courses: Sequence[Course]
    until_ns: int
    devices: Sequence[str]
    read_footings: Callable[[], Footings]

    @property
    def id(self) -> str:
        return self.kept.assay.id

    @property
    def spec(self) -> api.AssaySpec:
        return self.kept.assay.spec

    @property
    def course(self) -> Course:
        """How windows are answered that end from now on."""
        return self.courses[-1]

    @property
    def is_promised(self) -> bool:
        """Whether the evidence of any window follows from the one before."""
        return any(isinstance(one.spec.alarm, api.Promise) for one in self.courses)

    @cached_property
    def plan(self) -> Succession:
        return Succession(tuple(one.plan for one in self.courses))

    @cached_property
    def footings(self) -> Footings:
        return self.read_footings()

    def level(self, course: Course) -> float:
        """Return how much evidence makes an alarm in a window that is answered now."""
        return level_of(course.spec, self.footings, self.devices) or 0.0

    def recall(self) -> None:
        """Read what windows are compared with anew: something of it was calibrated."""
        self.__dict__.pop("footings", None)

    def by_course(self, windows: Sequence[tuple[int, int]]) -> list[tuple[Course, list[tuple[int, int]]]]:
        """Return windows in time order, those together that are answered alike."""
        parts = groupby(windows, key=lambda one: self.plan.at(one[0]))
        return [(self.courses[at], list(some)) for at, some in parts]

    def touched(self, starts_s: Iterable[int], before_ns: int) -> list[tuple[int, int]]:
        """Return the windows that hold one of these base windows and begin before a time, each once."""
        found: set[tuple[int, int]] = set()
        for start_s in starts_s:
            found.update(one for one in self.plan.holding(start_s * NS_PER_S) if one[0] < before_ns)
        return sorted(found)


@dataclass(frozen=True)
class _Outcome:
    """Answers of one assay on one device that wait to be stored, with what the progress was `before` and is `after`."""

    job: _Job
    answers: Sequence[Answered]
    before: Progress
    after: Progress | None


@dataclass
class Round:
    """One look at everything that may be due; it keeps only what can be worked out again.

    `listening_ns` is since when this hub can hear devices: what was missed while it was down is not held against them.
    """

    hub: Hub
    windows_at_once: int = WINDOWS_AT_ONCE
    steady_s: Callable[[], float] = time.monotonic
    lease: Lease = field(init=False)
    manners: Worker = field(init=False)
    listening_ns: int = field(init=False)
    _baselines: dict[tuple[str, int, Place], Baseline] = field(init=False)
    _streams: dict[tuple[str, int, Place], tuple[Calibrating, Stream]] = field(init=False)
    _failures: dict[str, str] = field(init=False)
    _sight: Sight = field(init=False)
    _waiting: list[_Outcome] = field(init=False)
    _editions: Mapping[str, Sequence[editions.Edition]] = field(init=False)
    _maintenance: Sequence[api.Maintenance] = field(init=False, default=())
    _sites: sites.Sites = field(init=False)
    _missed: bool = field(init=False, default=False)
    _goes_on: dict[str, str] = field(init=False, default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.listening_ns = self.hub.now_ns()
        self.lease = self.hub.lease("scorer")
        self.manners = Worker(self.hub.courtesy)
        self._baselines, self._streams, self._failures, self._editions = {}, {}, {}, {}
        self._sight, self._waiting = Sight(self.hub), []
        self._sites = sites.Sites({}, {})

    def run(self, stopping: threading.Event | None = None) -> bool:
        """Answer what is due, some windows an assay and device, and return whether more is waiting.

        Where another hub on the database does so nothing is done.

        Raises:
            LeaseLostError: another one does so since this look began; what it had answered and not stored is dropped.
        """
        if not self.lease.take():
            return False
        self._sight, self._waiting, self._missed = Sight(self.hub), [], False
        fleet_now = {device.name: device for device in fleet.list_devices(self.hub)}
        grace_ns = self._grace_ns()
        late = self._late_data()
        progress: defaultdict[str, dict[str, Progress]] = defaultdict(dict)
        with self.hub.database.reading() as connection:
            standing = store.every(connection, active=True)
            self._editions, self._maintenance = editions.every(connection), planned.every(connection)
            self._sites = sites.every(connection)
            for one in store.progress(connection):
                progress[one.assay][one.device] = one
        more = False
        self._sight.await_assays([one.assay.id for one in standing])
        for kept in standing:
            if stopping is not None and stopping.is_set():
                self._store_waiting()
                return False
            if not self.lease.take():
                return False  # what waits here to be stored is another hub's to answer now
            more |= self._guarded(kept, progress[kept.assay.id], fleet_now, grace_ns, late.by_place)
        self._store_waiting()
        more |= self._missed
        # What somebody else's work kept this look from answering again is looked for once more.
        if not self._missed:
            self._remember(late)
        self._watch(fleet_now.values(), grace_ns)
        return more

    @contextmanager
    def _writing(self) -> Generator[Connection]:
        """Give the writing connection while no other hub scores."""
        with self.hub.database.writing() as connection:
            self.lease.check(connection)
            yield connection

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
        more = False
        try:
            job = self._job(kept, there)
            if job is not None:
                ends_s = self.steady_s() + TURN_S
                for device in self._in_turn(job):
                    if self.steady_s() >= ends_s and (job.spec.pipeline, device) not in late:
                        # What came late is looked at now, because the next look no longer knows of it.
                        self._goes_on.setdefault(job.id, device)
                        more = True
                        continue
                    self.manners.give_way()
                    before = progress.get(device) or self._beginning(job, there[device])
                    more |= self._look(job, before, late.get((job.spec.pipeline, device), ()), grace_ns.get(device, 0))
        except TemporaryError:
            raise
        except Exception as error:  # noqa: BLE001  one assay's failure must not stop the others
            self._fail(kept, error)
            return False
        if kept.failure is not None:
            self._failures.pop(kept.assay.id, None)
            with self._writing() as connection:
                store.set_failure(connection, kept.assay.id, None)
        return more

    def _in_turn(self, job: _Job) -> Sequence[str]:
        """Return the devices of an assay, those first that it had no time for in the last look."""
        first = self._goes_on.pop(job.id, None)
        at = job.devices.index(first) if first in job.devices else 0
        return [*job.devices[at:], *job.devices[:at]]

    def _fail(self, kept: Kept, error: Exception) -> None:
        """Keep with an assay why it could not be answered; it is told once, not with every look."""
        identity, failure = kept.assay.id, f"{type(error).__name__}: {error}"
        if self._failures.get(identity) != failure:
            journal.tell(f"assay {kept.assay.spec.name!r} could not be answered", error)
        self._failures[identity] = failure
        if failure != kept.failure:
            with self._writing() as connection:
                store.set_failure(connection, identity, failure)

    def _job(self, kept: Kept, there: Mapping[str, api.Device]) -> _Job | None:
        """Make an assay ready; None where its windows have nothing to start from yet."""
        spec = kept.assay.spec
        start_ns = kept.start_ns
        if start_ns is None:
            start_ns = self.hub.telemetry.first_inference_ns(spec.pipeline, None)
            if start_ns is None:
                return None
            with self._writing() as connection:
                store.set_start(connection, kept.assay.id, start_ns)
        now_ns = self.hub.now_ns()
        until_ns = now_ns if spec.run_until_ns is None else min(now_ns, spec.run_until_ns)
        named = spec.devices or self._sight.tellers(spec.pipeline)
        devices = [device for device in named if device in there and there[device].joined]
        # The pipeline's name is for messages of a preview only.
        targets = {name: Target(spec.pipeline, "", name, kind) for name, kind in kept.field_types.items()}
        own = maintenance.of_assay(self._maintenance, kept.assay.workspace, kept.assay.id)

        def rests(device: str, start_ns: int, end_ns: int) -> str | None:
            return maintenance.note(own, device, there[device].site, start_ns, end_ns)

        asked = [(one.spec, one.start_ns) for one in self._editions.get(kept.assay.id, ())[:-1]]
        courses = [
            self._course(kept, each, begins_ns, targets, rests)
            for each, begins_ns in (*asked, (spec, start_ns))
            if begins_ns is not None
        ]
        return _Job(kept, targets, courses, until_ns, devices, lambda: self._sight.footings(kept.assay.id))

    def _course(
        self, kept: Kept, spec: api.AssaySpec, start_ns: int, targets: Mapping[str, Target], rests: Rests
    ) -> Course:
        plan = plan_of(msgspec.structs.replace(spec.windows, start_ns=start_ns), None, rows=False)
        is_open = self._calendars(kept, spec).is_open
        return Course(spec, plan, targets, is_open, kept.assay.id, rests)

    def _calendars(self, kept: Kept, spec: api.AssaySpec) -> Calendars:
        return Calendars(spec.calendar, kept.assay.workspace, self._sites, kept.assay.created_ns)

    def _beginning(self, job: _Job, device: api.Device) -> Progress:
        """Return where a device's windows begin: with the plan, but not before the device was there."""
        first_ns = self._sight.first_inference_ns(job.spec.pipeline, device.name)
        there_ns = device.created_ns if first_ns is None else min(device.created_ns, first_ns)
        start_ns = job.plan.open_at(there_ns)
        return Progress(job.id, device.name, start_ns, start_ns)

    def _look(self, job: _Job, before: Progress, starts_s: Sequence[int], grace_ns: int) -> bool:
        """Answer what is due on one device, and again what was touched; return whether there is more."""
        if job.is_promised:
            touched = job.touched(starts_s, before.next_ns)
            if touched and not self._rewind(job, before, touched[0][0], {}):
                self._missed = True
                return True
            before = replace(before, next_ns=touched[0][0]) if touched else before
        else:
            self._revise(job, before, job.touched(starts_s, before.next_ns))
        self._revise(job, before, self._ahead(job, before, starts_s))
        return self._advance(job, before, grace_ns)

    def _ahead(self, job: _Job, before: Progress, starts_s: Sequence[int]) -> list[tuple[int, int]]:
        """Return the windows that were answered Late and are heard now, while older ones still wait on the device."""
        if not starts_s:
            return []
        heard = self._sight.heard(job.spec.pipeline, before.device)
        if heard.since_ns is None:
            return []
        touched = job.touched(starts_s, before.late_ns)
        return [(start, end) for start, end in touched if start >= before.next_ns and heard.has(start, end)]

    def _advance(self, job: _Job, before: Progress, grace_ns: int) -> bool:
        """Answer the next due windows of one device; return whether there are more than were answered now."""
        # A device that is Late already has nothing new to say until it is heard.
        first_open = next(job.plan.due(before.late_ns, job.until_ns), None)
        if first_open is None and before.late_ns <= before.next_ns:
            return False
        heard = self._sight.heard(job.spec.pipeline, before.device)
        if next(self._due(job, before, heard, grace_ns), None) is None:
            return False
        calibrated = self._calibrate(job, before)
        if calibrated is None:
            return True
        before = calibrated
        due = list(islice(self._due(job, before, heard, grace_ns), self.windows_at_once + 1))
        now = due[: self.windows_at_once]
        self._answer(job, before, now, heard.until_ns)
        return len(due) > len(now)

    def _due(self, job: _Job, before: Progress, heard: Heard, grace_ns: int) -> Iterator[tuple[int, int]]:
        """Yield the windows to be answered: those that were heard, then those that have been late for long enough.

        Among the latter are those that were heard before older ones; all of them are answered again when these came.
        """
        yield from job.plan.due(before.next_ns, min(heard.until_ns, job.until_ns))
        now_ns = self.hub.now_ns()
        for start, end in job.plan.due(max(before.next_ns, before.late_ns), job.until_ns):
            if end > heard.until_ns:
                if not heard.has(start, end) and now_ns < max(end, self.listening_ns) + grace_ns:
                    return
                yield start, end

    def _answer(self, job: _Job, before: Progress, due: Sequence[tuple[int, int]], heard_ns: int) -> None:
        """Keep the answers to some windows in time order, with what follows from them and up to where they go."""
        answers = self._answers(job, before.device, due)
        # Spans are read after `heard_ns`: a device that was heard meanwhile is answered now and once more later.
        final = [start for start, end in due if heard_ns >= end]
        next_ns = job.plan.after(final[-1]) if final else before.next_ns
        after = replace(before, next_ns=next_ns, late_ns=max(job.plan.after(due[-1][0]), before.late_ns))
        newest_ns = max(end for _, end in due)
        if before.end_ns is None or newest_ns >= before.end_ns:
            after = replace(after, end_ns=newest_ns, **_newest(answers, newest_ns))
        self._keep(_Outcome(job, answers, before, after))

    def _revise(self, job: _Job, before: Progress, windows: Sequence[tuple[int, int]]) -> None:
        """Answer again the windows that late data came for, and no other: where a promise is kept, until older came."""
        for at in range(0, len(windows), self.windows_at_once):
            answers = self._answers(job, before.device, windows[at : at + self.windows_at_once])
            newest_ns = answers[-1].analysis.end_ns
            after = replace(before, **_newest(answers, newest_ns)) if newest_ns == before.end_ns else None
            self._keep(_Outcome(job, answers, before, after))

    def _answers(self, job: _Job, device: str, windows: Sequence[tuple[int, int]]) -> list[Answered]:
        last = self._waiting[-1] if self._waiting else None
        if last is not None and last.job is job and last.before.device == device:
            # The evidence goes on from answers that are stored; those of one device follow one another.
            self._store_waiting()
        start_ns, end_ns = windows[0][0], max(end for _, end in windows)
        spans = {name: self._sight.span(target, device, start_ns, end_ns) for name, target in job.targets.items()}
        answered: list[Answered] = []
        for course, some in job.by_course(windows):
            level = job.level(course)
            memories, kept = self._remembered(job, course, device, some[0][0], some[-1][0] + 1)
            walk = Walk(course, spans, memories)
            for start, end in some:
                footings = {name: self._footing(job, device, name, start) for name in job.targets}
                levels = {name: kept.get((name, one.version, start), level) for name, one in footings.items()}
                answered += walk.answers(start, end, footings, levels)
        return answered

    def _remembered(
        self, job: _Job, course: Course, device: str, begins_ns: int, until_ns: int
    ) -> tuple[dict[tuple[str, int], Memory], Mapping[tuple[str, int, int], float]]:
        """Return what evidence goes on from, and the levels that windows in [begins_ns, until_ns) were held to."""
        if not isinstance(course.spec.alarm, api.Promise):
            return {}, {}  # and nothing is asked of the database, for each of ten thousand devices
        with self.hub.database.reading() as connection:
            memories = self._memories(connection, job, device, begins_ns)
            return memories, store.alarm_levels(connection, job.id, device, begins_ns, until_ns)

    def _memories(self, connection: Connection, job: _Job, device: str, start_ns: int) -> dict[tuple[str, int], Memory]:
        """Return what the evidence of each field remembers where the next windows begin."""
        found: dict[tuple[str, int], Memory] = {}
        for name in job.targets:
            which = job.footings.which(device, name, start_ns)
            if which is not None:
                state = store.state_before(connection, job.id, device, name, which[0], start_ns)
                if state is not None:
                    found[name, which[0]] = read(state)
        return found

    def _keep(self, outcome: _Outcome) -> None:
        """Let answers be stored with those of other assays; those of one that failed before are its own concern."""
        self._waiting.append(outcome)
        is_doubtful = outcome.job.kept.failure is not None
        if is_doubtful or sum(len(one.answers) for one in self._waiting) >= ANSWERS_AT_ONCE:
            self._store_waiting(is_doubtful=is_doubtful)

    def _store_waiting(self, *, is_doubtful: bool = False) -> None:
        """Store every answer that waits, or, where that fails, each assay's on its own.

        Where it `is_doubtful` that the last one can be stored, its error is for the caller.
        """
        waiting, self._waiting = self._waiting, []
        last = waiting.pop() if is_doubtful else None
        try:
            self._store(waiting)
        except TemporaryError:
            raise
        except Exception:  # noqa: BLE001  the one that failed says so below
            for one in waiting:
                try:
                    self._store([one])
                except TemporaryError:
                    raise
                except Exception as error:  # noqa: BLE001  one assay's failure must not stop the others
                    self._fail(one.job.kept, error)
        if last is not None:
            self._store([last])

    def _store(self, outcomes: Sequence[_Outcome]) -> None:
        """Store answers with what follows from them, but for those where somebody else was there meanwhile."""
        if not outcomes:
            return
        with self._writing() as connection:
            moved = self._overtaken(connection, outcomes)
            self._missed |= any(moved)
            good = [one for one, is_moved in zip(outcomes, moved, strict=True) if not is_moved]
            drifting = incident_store.drifting_in(connection, [(one.job.id, one.before.device) for one in good])
            calm: list[Answer] = []
            restless: list[tuple[api.AssaySpec, list[Answer]]] = []
            for one in good:
                answers = [Answer(each.analysis, each.wakes, written(each.memory)) for each in one.answers]
                if (one.job.id, one.before.device) in drifting or any(incidents.may_be_news(each) for each in answers):
                    restless.append((one.job.spec, answers))
                else:
                    calm += answers
            for some in _steps(calm):
                store.put_all(connection, some)
                self.manners.give_way()
            self._follow(connection, restless)
            store.put_progress(connection, [one.after for one in good if one.after is not None])
        self.hub.figures.answers.inc(sum(len(one.answers) for one in good))

    def _follow(self, connection: Connection, restless: Iterable[tuple[api.AssaySpec, Sequence[Answer]]]) -> None:
        """Store answers window by window, the next one of each: what one window opens may be over with a later one."""
        by_window = [
            [(spec, list(fields)) for _, fields in groupby(answers, key=lambda one: one.analysis.start_ns)]
            for spec, answers in restless
        ]
        windows = chain.from_iterable(
            _steps([one for one in windows if one is not None]) for windows in zip_longest(*by_window)
        )
        for now in windows:
            kept = iter(store.put_all(connection, [answer for _, fields in now for answer in fields]))
            told = [
                incidents.Told(spec, [one for one in islice(kept, len(fields)) if one is not None])
                for spec, fields in now
            ]
            incidents.follow(connection, [one for one in told if one.answers], self.hub.now_ns())
            self.manners.give_way()

    def _overtaken(self, connection: Connection, outcomes: Sequence[_Outcome]) -> list[bool]:
        """Say of which answers the progress moved since they were begun, the baseline, or what is known of sites."""
        if sites.stamp(connection) != self._sites.stamp:
            return [True] * len(outcomes)
        versions = store.baseline_versions(connection, {one.job.id for one in outcomes})
        places = [(one.job.id, one.before.device) for one in outcomes]
        now = {(one.assay, one.device): one.next_ns for one in store.progress(connection, places)}
        return [
            now.get(place, one.before.next_ns) != one.before.next_ns
            or versions.get(one.job.id) != one.job.kept.assay.baseline_version
            for place, one in zip(places, outcomes, strict=True)
        ]

    def _rewind(
        self, job: _Job, before: Progress, next_ns: int, found: Mapping[tuple[int, Place], Calibrating]
    ) -> bool:
        """Let the windows from a time on be answered again, with what calibrating came to.

        Return False where somebody else was there meanwhile.
        """
        self._store_waiting()
        with self._writing() as connection:
            if any(self._overtaken(connection, [_Outcome(job, (), before, None)])):
                return False
            for (version, place), one in found.items():
                baselines.put_calibration(connection, job.id, version, place, one)
            store.rewind(connection, job.id, next_ns, before.device)
        return True

    # ── what windows are compared with ───────────────────────────────────────────────────────────────────────────

    def _footing(self, job: _Job, device: str, name: str, start_ns: int) -> Footing:
        which = job.footings.which(device, name, start_ns)
        if which is None:
            return Footing()
        version, place = which
        newest = job.footings.which(device, name)
        baseline = self._baseline(job, version, place)
        known = job.footings.calibrating(version, device, name)
        return Footing(
            baseline,
            version,
            newest is not None and newest[0] == version,
            self._stream((job.id, version, Place(device, name)), baseline, known),
            None if known is None else known.refused,
        )

    def _stream(self, key: tuple[str, int, Place], baseline: Baseline, known: Calibrating | None) -> Stream | None:
        """Return a calibrated baseline, kept in memory: what windows are measured by is worked out once."""
        found = self._streams.get(key)
        if found is not None and found[0] == known:
            return found[1]
        stream = stream_of(baseline, known)
        if stream is not None and known is not None:
            self._streams[key] = known, stream
        return stream

    def _baseline(self, job: _Job, version: int, place: Place) -> Baseline:
        """Return what windows are compared with, kept in memory: it is frozen, and its bins are worked out once."""
        key = (job.id, version, place)
        if key not in self._baselines:
            with self.hub.database.reading() as connection:
                material = baselines.material(connection, *key)
            if material is None:
                raise EntityNotFoundError(f"the baseline of {place.field} is gone; its device was removed")
            self._baselines[key] = baseline_of(self.hub, material, job.targets[place.field].field_type)
        return self._baselines[key]

    def _calibrate(self, job: _Job, before: Progress) -> Progress | None:
        """Calibrate values that were given once it is known how many inferences a window has.

        Return from where to answer: windows that were answered with another number are answered again. None where
        somebody else was there meanwhile.
        """
        promise = job.spec.alarm
        if not isinstance(promise, api.Promise):
            return before
        device = before.device
        unsure: dict[tuple[int, str], Calibrating | None] = {}
        for name in job.targets:
            which = job.footings.which(device, name)
            if which is not None and which[1].device == EVERY_DEVICE:
                known = job.footings.calibrating(which[0], device, name)
                # A baseline in time was calibrated when it was taken, on windows of its own.
                if known is None or (known.windows is not None and known.windows < WINDOWS_TO_KNOW_N):
                    unsure[which[0], name] = known
        if not unsure:
            return before
        is_open = self._calendars(job.kept, job.spec).open_on(device)
        found = usual(self.hub, job.spec.pipeline, device, job.course.plan, job.until_ns, is_open)
        return before if found is None else self._calibrated(job, before, promise, unsure, found)

    def _calibrated(
        self,
        job: _Job,
        before: Progress,
        promise: api.Promise,
        unsure: Mapping[tuple[int, str], Calibrating | None],
        found: Usual,
    ) -> Progress | None:
        made: dict[tuple[int, Place], Calibrating] = {}
        changed = False
        for (version, name), known in unsure.items():
            if known is not None and known.n == found.n:
                # Another n would be another calibration; the same one is only surer now.
                one = replace(known, windows=found.windows)
            else:
                changed = True
                one = self._calibrating(job, promise, version, Place(before.device, name), found)
            if one is not None and one != known:
                made[version, Place(before.device, name)] = one
        if not made:
            return before
        next_ns = min(before.next_ns, found.start_ns) if changed else before.next_ns
        if not self._rewind(job, before, next_ns, made):
            return None
        job.recall()
        return replace(before, next_ns=next_ns)

    def _calibrating(
        self, job: _Job, promise: api.Promise, version: int, whose: Place, found: Usual
    ) -> Calibrating | None:
        place = Place(EVERY_DEVICE, whose.field)
        with self.hub.database.reading() as connection:
            material = baselines.material(connection, job.id, version, place)
        if material is None:
            return None
        baseline, calendars = self._baseline(job, version, place), self._calendars(job.kept, job.spec)
        return calibrating(self.hub, job.spec, promise, baseline, material, found, whose.device, calendars)

    # ── late data ────────────────────────────────────────────────────────────────────────────────────────────────

    def _late_data(self) -> "_Late":
        with self.hub.database.reading() as connection:
            seen = store.windows_seen(connection)
            arrived, newest = store.arrivals(connection, seen or 0)
        return _Late(_by_place(arrived), newest, changed=newest != seen)

    def _remember(self, late: "_Late") -> None:
        if late.changed:
            with self._writing() as connection:
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
            calm = not incident_store.open_parts(connection, incidents.WATCHED) and not incident_store.silences_over(
                connection, self.hub.now_ns()
            )
        if calm and not any(True for one in devices for _ in incidents.troubles(one)):
            return
        with self._writing() as connection:
            now_ns = self.hub.now_ns()
            excused = maintenance.excused(connection, self._maintenance, devices, now_ns)
            incidents.watch(connection, devices, heard_of, now_ns, excused)


def _steps(every: Sequence[T]) -> Iterator[Sequence[T]]:
    return (every[at : at + ANSWERS_A_STEP] for at in range(0, len(every), ANSWERS_A_STEP))


def _newest(answers: Iterable[Answered], end_ns: int) -> dict[str, Any]:
    """Return what the progress says of the window that ends then: the field's answer that is worst."""
    ending = [one.analysis for one in answers if one.analysis.end_ns == end_ns]
    status = store.worst(one.status for one in ending)
    worst = [one.score for one in ending if one.status == status and one.score is not None]
    return {"status": status, "score": max(worst, default=None)}


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
