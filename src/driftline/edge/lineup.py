"""The pipeline versions that run on this device: started, switched, tried again, and retired with what they counted.

A version is started in a thread of its own, because loading a model takes seconds, and the old version of the same
pipeline runs until the new one can take over. One that fails to start is tried again with growing pauses, for ever:
what it lacks may arrive. `Lineup.tick` is the only thing that changes the line-up; every other thread asks and infers.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftline.clock import Clock
from driftline.edge.limits import Held
from driftline.edge.open_window import Snapshot
from driftline.edge.recorder import Deliver, Recorder
from driftline.errors import DriftlineError, EntityNotFoundError, InvalidInputError, TemporaryError
from driftline.framework import Framework
from driftline.pipeline.limits import Limits as StepLimits
from driftline.pipeline.run import Pipeline
from driftline.wire.device import Desired, DesiredPipeline

log = logging.getLogger("driftline.edge")
# Real seconds until a version that failed to start is tried again: twice as long each time.
PAUSE_S, PAUSE_S_MAX = 1.0, 60.0
# How long a version that is replaced may finish the inferences it is at.
FINISH_S = 30.0
# The same when the whole worker stops: whoever stops it does not wait for long.
STOP_FINISH_S = 1.0


class ReplacedError(TemporaryError):
    """This version has just been replaced, and made no inference; ask the line-up for the one that runs now."""


def takes_frame(definition: Mapping[str, Any]) -> bool:
    """Say whether a pipeline can be shown a camera's frame and needs nothing else."""
    return bool(definition["steps"]) and definition["image"] is not None and len(definition["inputs"]) == 1


class Member:
    """One pipeline version that runs, and its recorder; threads may share it."""

    def __init__(self, wanted: DesiredPipeline, pipeline: Pipeline, recorder: Recorder, clock: Clock) -> None:
        self.wanted = wanted
        self.trouble: str | None = None
        self._pipeline = pipeline
        self._recorder = recorder
        self._clock = clock
        self._lock = threading.Condition()
        # Under `_lock`: the inferences being made, by a number, each with its time and what makes it.
        self._under_way: dict[int, tuple[int, Pipeline]] = {}
        self._number = 0
        self._retired = False

    @property
    def definition(self) -> Mapping[str, Any]:
        """The pipeline's document."""
        return self.wanted.definition

    @property
    def complete_until_ns(self) -> int | None:
        """Up to where every window has been handed over for delivery."""
        return self._recorder.complete_until_ns.get(self.wanted.id)

    def configure(self, desired: Desired, rows_sent: Mapping[str, int]) -> None:
        """Take new grids, fields and row counts, from the next base window on."""
        with self._lock:
            self.wanted = next(one for one in desired.pipelines if one.id == self.wanted.id)
            try:
                self._pipeline.record_also(self.wanted.extra_fields, self.wanted.projections)
                self._recorder.configure(Desired((self.wanted,), desired.grids), rows_sent, self._clock.now_ns())
            except DriftlineError as error:
                log.warning("pipeline %s goes on as it was: %s", self.wanted.name, error)

    def begin(self, from_ns: int) -> None:
        """Record windows from the one that holds `from_ns` on, empty ones too."""
        self._recorder.begin(self.wanted.id, from_ns)

    def infer(self, inputs: Mapping[str, Any], time_ns: int | None = None) -> tuple[int, dict[str, Any]]:
        """Make one inference and count it in the window of `time_ns` (default now); return its time and the outputs."""
        with self._inference(time_ns) as (stamped_ns, pipeline):
            outputs = pipeline.infer(inputs)
            self._record(pipeline, stamped_ns, inputs, outputs)
            return stamped_ns, outputs

    def frame(self, time_ns: int, frame: Any) -> None:
        """Look at a camera's frame; one that cannot be looked at is counted with every field missing."""
        with self._inference(time_ns) as (stamped_ns, pipeline):
            try:
                outputs = pipeline.frame(frame)
                self._record(pipeline, stamped_ns, {str(self.definition["image"]): frame}, outputs, in_order=True)
            except Exception as error:  # noqa: BLE001  # a model's own code may raise anything
                self._say_trouble(error)
                self._recorder.record(self.wanted.id, stamped_ns, {}, {}, in_order=True)
            else:
                self.trouble = None

    def is_counted_by(self, recorder: Recorder) -> bool:
        """Say whether this is where its inferences are counted."""
        return self._recorder is recorder

    def close_windows(self, until_ns: int) -> None:
        """Close what ended before `until_ns`, as far as no inference for it is still under way."""
        with self._lock:
            oldest_ns = min((time_ns for time_ns, _ in self._under_way.values()), default=until_ns)
            self._recorder.close(min(until_ns, oldest_ns))

    def flush_rows(self) -> None:
        """Hand over the rows of open windows, where every row is wanted."""
        self._recorder.flush_rows()

    def replace(self, pipeline: Pipeline) -> None:
        """Go on with another object of the same version (other fields, other limits)."""
        with self._lock:
            old, self._pipeline = self._pipeline, pipeline
            self._wait_for(old, FINISH_S)
        old.close()

    def retire(self, until_ns: int, finish_s: float = FINISH_S) -> None:
        """Take no more inferences, close what ended by `until_ns`, hand over the rest as far as it was counted."""
        with self._lock:
            self._retired = True
            self._wait_for(self._pipeline, finish_s)
            self._recorder.close(until_ns)
            self._recorder.hand_over()
        self._pipeline.close()

    @contextmanager
    def _inference(self, time_ns: int | None) -> Generator[tuple[int, Pipeline]]:
        with self._lock:
            if self._retired:
                raise ReplacedError(f"pipeline {self.wanted.name!r} has just been replaced or stopped; ask again")
            # Stamped under the lock: windows are never closed up to a time at which an inference is about to begin.
            stamped_ns = self._clock.now_ns() if time_ns is None else time_ns
            self._number += 1
            number, pipeline = self._number, self._pipeline
            self._under_way[number] = (stamped_ns, pipeline)
        try:
            yield stamped_ns, pipeline
        finally:
            with self._lock:
                del self._under_way[number]
                self._lock.notify_all()

    def _record(
        self,
        pipeline: Pipeline,
        time_ns: int,
        inputs: Mapping[str, Any],
        outputs: dict[str, Any],
        *,
        in_order: bool = False,
    ) -> None:
        values, log_values = pipeline.values(inputs, outputs), pipeline.log_values(inputs, outputs)
        self._recorder.record(self.wanted.id, time_ns, values, log_values, in_order=in_order)

    def _say_trouble(self, error: Exception) -> None:
        # A MemoryError says nothing by itself.
        said = str(error) or repr(error)
        text = f"error: {said}"
        if text != self.trouble:
            log.warning("pipeline %s: a frame could not be looked at: %s", self.wanted.name, said)
        self.trouble = text

    def _wait_for(self, pipeline: Pipeline, finish_s: float) -> None:
        self._lock.wait_for(lambda: all(one is not pipeline for _, one in self._under_way.values()), finish_s)


def sidecar_limits(wanted: DesiredPipeline, *, held: bool) -> dict[str, Mapping[str, float]]:
    """Return what holds the process of each custom step: its own limits, `<model id>.cpus`, else the worker's.

    `held`: control groups hold the worker and all its children, so that a step without limits of its own needs none.
    """
    shared = {} if held else {name: value for name, value in wanted.limits.items() if "." not in name}
    limits: dict[str, Mapping[str, float]] = {}
    for step in wanted.definition["steps"]:
        if step["framework"] == Framework.CUSTOM:
            own = f"{step['model']}."
            limits[step["model"]] = shared | {
                name.removeprefix(own): value for name, value in wanted.limits.items() if name.startswith(own)
            }
    return limits


def limits_in_words(wanted: DesiredPipeline, held: Held) -> str:
    """Say what holds a pipeline: its worker, and the process of each custom step."""
    parts = [held.words(wanted.limits)]
    limits = sidecar_limits(wanted, held=held.whole)
    for step in wanted.definition["steps"]:
        own = StepLimits(**limits.get(step["model"], {})).words
        if own:
            parts.append(f"process of {step['name']}: {own}")
    return "; ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Build:
    """What a running pipeline is made from; another one means making it anew."""

    wanted: DesiredPipeline
    files: Mapping[str, Path]
    threads: int
    held: bool
    workdir: Path

    @property
    def key(self) -> tuple[Any, ...]:
        """Tell builds apart; fields, grids and row counts change while a pipeline runs and make no other build."""
        return (self.wanted.id, tuple(sorted(self.wanted.limits.items())), self.threads, self.held)

    def make(self) -> Pipeline:
        """Load the pipeline and start what it needs.

        Raises:
            Exception: whatever a model may raise; the text is what the owner sees.
        """
        pipeline = Pipeline(
            self.wanted.definition,
            self.files,
            threads=self.threads,
            sidecar_limits=sidecar_limits(self.wanted, held=self.held),
            workdir=self.workdir,
            extra_fields=self.wanted.extra_fields,
            projections=self.wanted.projections,
        )
        try:
            pipeline.start()
        except BaseException:
            pipeline.close()
            raise
        return pipeline


class Start:
    """One try to make a pipeline, in a thread of its own; `woken` is called when it is done."""

    def __init__(self, build: Build, woken: Callable[[], None]) -> None:
        self.build = build
        self.pipeline: Pipeline | None = None
        self.error: str | None = None
        self._woken = woken
        self._thread = threading.Thread(target=self._run, name=f"start-{build.wanted.name}", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it succeeded or failed."""
        return self.pipeline is not None or self.error is not None

    def abandon(self) -> None:
        """Throw away what it makes, once it is made."""

        def close() -> None:
            self._thread.join()
            if self.pipeline is not None:
                self.pipeline.close()

        threading.Thread(target=close, daemon=True).start()

    def _run(self) -> None:
        try:
            self.pipeline = self.build.make()
        except MemoryError:
            self.error = "not enough memory to load the model; raise the deployment's memory limit"
        except Exception as error:  # noqa: BLE001  # a model's own code may raise anything
            self.error = str(error) or repr(error)
        self._woken()


@dataclass(slots=True)
class Failure:
    """Why a version does not run, and when it is tried again."""

    build_key: tuple[Any, ...]
    text: str
    pause_s: float
    again_real_s: float


class Lineup:
    """Runs what is desired.

    `begins(wanted, now_ns)` says from when a version that takes over records, `ends(wanted, now_ns)` up to when one
    that leaves did. `woken` is called when a tick has something to do.
    """

    def __init__(
        self,
        deliver: Deliver,
        clock: Clock,
        workdir: Path,
        *,
        begins: Callable[[DesiredPipeline, int], int],
        ends: Callable[[DesiredPipeline, int], int],
        woken: Callable[[], None],
        real_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._workdir = workdir
        self._begins = begins
        self._ends = ends
        self._woken = woken
        self._real_s = real_s
        self._desired = Desired()
        self._files: Mapping[str, Path] = {}
        self._rows_sent: Mapping[str, int] = {}
        self._threads, self._held = 1, False
        self._starts: dict[str, Start] = {}
        self._failures: dict[str, Failure] = {}
        self._builds: dict[str, tuple[Any, ...]] = {}
        # By version id; replaced whole, so that other threads read without a lock.
        self._members: Mapping[str, Member] = {}
        # Of every version from before it begins until after it has handed over; replaced whole, too.
        self._recorders: tuple[Recorder, ...] = ()

    # ── asked from any thread ────────────────────────────────────────────────────────────────────────────────────

    @property
    def wanted(self) -> Sequence[DesiredPipeline]:
        """What is desired and has something to run; a pipeline without steps runs in its owner's own program."""
        return [one for one in self._desired.pipelines if one.definition["steps"]]

    @property
    def members(self) -> Mapping[str, Member]:
        """What runs, by version id: also versions whose successor is still starting."""
        return self._members

    def running(self, name: str | None = None) -> Member:
        """Return the version of a pipeline that runs; without a name that of the only one.

        Raises:
            EntityNotFoundError: no such pipeline; the message lists those that are there.
            InvalidInputError: no name, and several pipelines.
            TemporaryError: it is starting, or failed to.
        """
        names = sorted({one.name for one in self.wanted})
        if name is None:
            if len(names) > 1:
                raise InvalidInputError(f"several pipelines run here: {', '.join(names)}; name one with ?pipeline=NAME")
            name = names[0] if names else ""
        for member in self._members.values():
            if member.wanted.name == name:
                return member
        for pv, state in self.states().items():
            if any(one.id == pv and one.name == name for one in self.wanted):
                raise TemporaryError(f"pipeline {name!r} does not run yet: {state}")
        if not names:
            raise EntityNotFoundError("no pipeline is deployed to this device; deploy or publish one to it")
        raise EntityNotFoundError(f"no pipeline {name!r} on this device; there is {', '.join(names)}")

    def states(self) -> dict[str, str]:
        """Return `running`, `starting` or `error: …` of each version."""
        states = {one.id: "starting" for one in self.wanted}
        states |= {pv: f"error: {failure.text}" for pv, failure in list(self._failures.items())}
        for pv, member in self._members.items():
            if pv not in self._failures:
                states[pv] = member.trouble or "running"
        return states

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """Give what the open windows of every version hold; see `Recorder.snapshot`."""
        with ExitStack() as stack:
            # Always in this order, and nobody else holds several: so nobody waits for another in a circle.
            parts = [stack.enter_context(recorder.snapshot()) for recorder in self._recorders]
            until_ns = {pv: ns for part in parts for pv, ns in part.until_ns.items()}
            # A version that has just taken over goes on after the last frame of the one before it.
            last_ns = max((recorder.counted_ns for recorder in self._recorders), default=0)
            until_ns = {pv: max(ns, last_ns) for pv, ns in until_ns.items()}
            stamp = next((part.stamp for part in parts), None)
            yield Snapshot([one for part in parts for one in part.records], until_ns, stamp)

    # ── one thread ───────────────────────────────────────────────────────────────────────────────────────────────

    def want(
        self,
        desired: Desired,
        files: Mapping[str, Path],
        rows_sent: Mapping[str, int],
        *,
        threads: int = 1,
        held: bool = False,
    ) -> None:
        """Take a new desired state; `files` are those on this device, by digest; `held` by a control group."""
        self._desired, self._files, self._rows_sent = desired, files, rows_sent
        self._threads, self._held = threads, held
        wanted = {one.id for one in self.wanted}
        for pv, member in self._members.items():
            if pv in wanted:
                member.configure(desired, rows_sent)
        for pv in [pv for pv in self._starts if pv not in wanted]:
            self._starts.pop(pv).abandon()
        for failure in self._failures.values():
            failure.again_real_s = 0  # something changed: it may be what was missing
        self._failures = {pv: failure for pv, failure in self._failures.items() if pv in wanted}

    def tick(self) -> None:
        """Let take over what has started, start what is due, retire what nobody wants."""
        for pv, start in list(self._starts.items()):
            if start.done:
                del self._starts[pv]
                self._finish(start)
        for one in self.wanted:
            build = self._build(one)
            if build is not None and self._is_due(build):
                self._starts[one.id] = Start(build, self._woken)
        self._retire_unwanted()

    def close_windows(self, until: Callable[[DesiredPipeline, int], int]) -> None:
        """Close the windows of every version up to what `until(wanted, now_ns)` says."""
        now_ns = self._clock.now_ns()
        for member in self._members.values():
            member.close_windows(until(member.wanted, now_ns))

    def flush_rows(self) -> None:
        """Hand over the rows gathered in open windows."""
        for member in self._members.values():
            member.flush_rows()

    def complete_until_ns(self) -> dict[str, int]:
        """Return, by version, up to where every window was handed over."""
        told = {pv: member.complete_until_ns for pv, member in self._members.items()}
        return {pv: until_ns for pv, until_ns in told.items() if until_ns is not None}

    def stop(self) -> dict[str, int]:
        """Retire everything; return, by version, up to where it counted."""
        for start in self._starts.values():
            start.abandon()
        self._starts.clear()
        now_ns = self._clock.now_ns()
        until = {pv: self._ends(member.wanted, now_ns) for pv, member in self._members.items()}
        for pv, member in self._members.items():
            member.retire(until[pv], STOP_FINISH_S)
        self._members = {}
        with self.snapshot() as counted:
            # A frame that was looked at when the end was asked for may have been counted since.
            return {pv: max(until_ns, counted.until_ns.get(pv, until_ns)) for pv, until_ns in until.items()}

    def _build(self, wanted: DesiredPipeline) -> Build | None:
        """Return what to make of it; None while files are still being downloaded."""
        if any(file.digest not in self._files for file in wanted.files.values()):
            return None
        files = {model: self._files[file.digest] for model, file in wanted.files.items()}
        return Build(wanted, files, self._threads, self._held, self._workdir / wanted.id)

    def _is_due(self, build: Build) -> bool:
        pv = build.wanted.id
        start = self._starts.get(pv)
        if start is not None:
            return False
        failure = self._failures.get(pv)
        if failure is not None and failure.build_key == build.key:
            return self._real_s() >= failure.again_real_s
        return self._builds.get(pv) != build.key

    def _finish(self, start: Start) -> None:
        wanted, pv = start.build.wanted, start.build.wanted.id
        if start.pipeline is None:
            self._fail(start)
            return
        self._failures.pop(pv, None)
        self._builds[pv] = start.build.key
        member = self._members.get(pv)
        if member is not None:
            member.replace(start.pipeline)
            return
        log.info("pipeline %s runs, version %s", wanted.name, pv)
        recorder = Recorder(self._deliver, self._clock)
        self._recorders = (*self._recorders, recorder)
        member = Member(wanted, start.pipeline, recorder, self._clock)
        # What is wanted of it may have changed while it started.
        member.configure(self._desired, self._rows_sent)
        member.begin(self._begins(wanted, self._clock.now_ns()))
        self._members = {**self._members, pv: member}

    def _fail(self, start: Start) -> None:
        pv, text = start.build.wanted.id, str(start.error)
        before = self._failures.get(pv)
        pause_s = PAUSE_S if before is None else min(2 * before.pause_s, PAUSE_S_MAX)
        if before is None or before.text != text:
            log.warning("pipeline %s does not start: %s", start.build.wanted.name, text)
        self._failures[pv] = Failure(start.build.key, text, pause_s, self._real_s() + pause_s)

    def _retire_unwanted(self) -> None:
        wanted = {one.id for one in self.wanted}
        successors = {one.name for one in self.wanted if one.id not in self._members}
        leaving = {
            pv: member
            for pv, member in self._members.items()
            if pv not in wanted and member.wanted.name not in successors
        }
        if not leaving:
            return
        until = {pv: self._ends(member.wanted, self._clock.now_ns()) for pv, member in leaving.items()}
        # Out of the others' sight first, so that new inferences go to the successor.
        self._members = {pv: member for pv, member in self._members.items() if pv not in leaving}
        for pv, member in leaving.items():
            member.retire(until[pv])
            self._recorders = tuple(one for one in self._recorders if not member.is_counted_by(one))
            self._builds.pop(pv, None)
            log.info("pipeline %s stopped, version %s", member.wanted.name, pv)
