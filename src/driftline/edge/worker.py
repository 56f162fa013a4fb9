"""The device's worker: pipelines, a camera, serving; everything that needs numpy, OpenCV and onnxruntime.

Started and restarted by the agent as `python -m driftline.edge.worker`; ends soon after it. It asks the agent
what is desired, runs it, and hands over what it counted through a `Courier`, which keeps it until the agent has
committed it.

A **heartbeat** each half second, in this order: take over what has started; close the windows that no inference can
reach any more; deliver; and only when everything is delivered tell up to where windows are complete. So the hub never
believes a window complete that could still be lost here.

Stopped by SIGTERM, or left by an agent that was killed, it hands over the open windows as far as they were counted,
and says up to where: to an agent, or where none is there in a file for the next one. Killed, it has left the same in
its open window (`driftline.edge.open_window`), some seconds old. A paced source goes on from there after a restart, so
that no frame is lost and none counts twice; a live one has lost those seconds.
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftline import clock as clocks
from driftline.clock import Clock
from driftline.edge import heap
from driftline.edge.home import AGENT_VARIABLE, Home
from driftline.edge.limits import Held, Holder, Limits
from driftline.edge.lineup import Lineup, Member, ReplacedError, limits_in_words, takes_frame
from driftline.edge.link import Courier, stamp_told
from driftline.edge.open_window import place
from driftline.edge.serving import Server
from driftline.edge.sources import Source, open_source, redacted
from driftline.edge.timekeeping import stamp_now
from driftline.errors import DriftlineError, InvalidInputError
from driftline.wire.device import Desired, DesiredPipeline, Stamp, desired_from, encode_event

log = logging.getLogger("driftline.edge")
HEARTBEAT_S = 0.5
ROWS_S = 1.0
# Real seconds until something that failed (the camera, the port) is tried again, twice as long each time.
PAUSE_S, PAUSE_S_MAX = 1.0, 30.0
# How long a stopping worker tries to hand over what it has, within what the agent grants before it kills.
STOP_S = 5.0
# Of that, how long the frame being looked at may take.
FRAME_S = 1.5


@dataclass(frozen=True, slots=True)
class Options:
    """What the worker's command line says; see `driftline edge run --help`."""

    home: Path
    serve: str
    camera: str | None = None
    rate: float | None = None
    loop: bool = False
    pipeline: str | None = None
    start_ns: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped."""
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s", stream=sys.stderr)
    # Set before onnxruntime is imported anywhere in this process.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    heap.share_one_heap()
    try:
        worker = Worker(options(arguments), clocks.from_environment())
    except DriftlineError as error:
        print(f"driftline: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    return worker.run()


def options(arguments: Sequence[str] | None) -> Options:
    """Read the command line.

    Raises:
        InvalidInputError: `--start` is not a time.
    """
    parser = argparse.ArgumentParser(prog="python -m driftline.edge.worker", description="A device's worker.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--serve", default="127.0.0.1:8080")
    parser.add_argument("--camera")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--pipeline")
    parser.add_argument("--start")
    given = parser.parse_args(arguments)
    start_ns = None if given.start is None else clocks.parse_iso(given.start)
    return Options(given.home, given.serve, given.camera, given.rate, given.loop, given.pipeline, start_ns)


class Backoff:
    """Says when something that failed may be tried again, in real time."""

    def __init__(self) -> None:
        self._pause_s = PAUSE_S
        self._again_s = 0.0
        self.said = ""

    @property
    def due(self) -> bool:
        """Whether it may be tried now."""
        return time.monotonic() >= self._again_s

    def failed(self, error: Exception) -> None:
        """Take note of a failure; it is said once, not at each try."""
        if str(error) != self.said:
            self.said = str(error)
            log.warning("%s", error)
        self._again_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)

    def succeeded(self) -> None:
        """Begin again with a short pause at the next failure."""
        self._pause_s, self.said = PAUSE_S, ""


class Camera:
    """Shows the frames of one source to one pipeline, in a thread of its own.

    The source begins when the pipeline does for the first time: before that nobody could look.
    """

    def __init__(self, chosen: Options, clock: Clock) -> None:
        self.name = redacted(str(chosen.camera))
        self._chosen = chosen
        self._clock = clock
        self._source: Source | None = None
        self._backoff = Backoff()
        self._error = ""
        self._begun = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lineup: Lineup | None = None

    def open(self) -> None:
        """Open the source where it is not open; what is wrong with it shows in `state`."""
        if self._source is not None or not self._backoff.due:
            return
        one = self._chosen
        try:
            self._source = open_source(
                str(one.camera), one.rate, loop=one.loop, start_ns=one.start_ns, clock=self._clock
            )
        except Exception as error:  # noqa: BLE001  # a source of the owner's own Python may raise anything
            self._error = str(error)
            self._backoff.failed(error)
        else:
            self._error = ""
            self._backoff.succeeded()

    def choice(self, wanted: Sequence[DesiredPipeline]) -> DesiredPipeline | None:
        """Return the pipeline that sees this camera; None before one is there.

        Raises:
            InvalidInputError: none can see a frame, or several and none was named.
        """
        if not wanted:
            return None
        named = self._chosen.pipeline
        able = [one for one in wanted if takes_frame(one.definition) and named in {None, one.name}]
        if len(able) == 1:
            return able[0]
        if able:
            names = ", ".join(sorted(one.name for one in able))
            raise InvalidInputError(f"several pipelines take a frame: {names}; choose one with --pipeline NAME")
        what = "no pipeline here takes" if named is None else f"pipeline {named!r} is not here or does not take"
        raise InvalidInputError(f"{what} a single frame (uint8, height × width × 3), so nobody sees the camera")

    def sees(self, wanted: DesiredPipeline, every: Sequence[DesiredPipeline]) -> bool:
        """Say whether this pipeline, or the version that follows it, sees the camera."""
        try:
            chosen = self.choice(every)
        except InvalidInputError:
            return False
        return chosen is not None and chosen.name == wanted.name

    def begin(self, now_ns: int, from_ns: int | None) -> int:
        """Return from when the pipeline that takes over is shown frames; the first time the source begins."""
        if self._source is None:
            return now_ns
        if not self._begun:
            first_ns = self._source.begin(now_ns, from_ns)
            self._begun = True
            return first_ns
        return self._source.watermark_ns(now_ns)

    def run(self, lineup: Lineup, resume_ns: Mapping[str, int]) -> None:
        """Start showing frames, where somebody can look and nothing is shown yet."""
        self._lineup = lineup
        if self._thread is not None or self._source is None or (member := self._member()) is None:
            return
        if not self._begun:  # the source could be opened only after the pipeline had begun
            self.begin(self._clock.now_ns(), resume_ns.get(member.wanted.id))
        self._thread = threading.Thread(target=self._show_for_ever, name="camera-loop", daemon=True)
        self._thread.start()

    def watermark_ns(self, now_ns: int) -> int:
        """Return the time before which every frame has been looked at."""
        return now_ns if self._source is None or not self._begun else self._source.watermark_ns(now_ns)

    def state(self, wanted: Sequence[DesiredPipeline]) -> str:
        """Return how the camera is: `ok`, `camera lost`, `feed frozen`, `ended`, `starting` or `error: …`."""
        if self._source is None:
            return f"error: {self._error}"
        try:
            self.choice(wanted)
        except InvalidInputError as error:
            return f"error: {error}"
        return self._source.state

    def has_said(self, state: str) -> bool:
        """Say whether the log has this state's reason already."""
        return state == f"error: {self._backoff.said}"

    def close(self) -> None:
        """Stop after the frame that is being looked at; `watermark_ns` says where."""
        self._stop.set()
        if self._source is not None:
            self._source.close()
        if self._thread is not None:
            self._thread.join(FRAME_S)

    def _show_for_ever(self) -> None:
        source = self._source
        while source is not None and not self._stop.is_set() and source.state != "ended":
            try:
                for time_ns, frame in source.frames():
                    self._backoff.succeeded()
                    self._show(time_ns, frame)
            except Exception as error:  # noqa: BLE001  # a source of the owner's own Python may raise anything
                self._backoff.failed(error)
                while not (self._backoff.due or self._stop.wait(HEARTBEAT_S)):
                    pass

    def _show(self, time_ns: int, frame: Any) -> None:
        """Let the pipeline look; a frame that nobody wants any more is passed over."""
        for _ in range(2):  # twice: between choosing and looking a new version may take over
            member = self._member()
            if member is None:
                return
            try:
                member.frame(time_ns, frame)
            except ReplacedError:
                continue
            return

    def _member(self) -> Member | None:
        if self._lineup is None:
            return None
        members = list(self._lineup.members.values())
        return next((one for one in members if self.sees(one.wanted, self._lineup.wanted)), None)


class Worker:
    """One device's worker; `run` returns when it was stopped or the agent has gone."""

    def __init__(self, chosen: Options, clock: Clock) -> None:
        self._chosen = chosen
        self._clock = clock
        home = self._home = Home(chosen.home)
        self._courier = Courier(lambda: home.socket, "worker", clock.now_ns)
        self._holder = Holder()
        self._held = Held()
        self._camera = Camera(chosen, clock) if chosen.camera is not None else None
        self._camera_state = ""
        self._wake = threading.Event()
        self._workdir = home.path / "work"
        self._lineup = Lineup(
            self._courier.put,
            clock,
            self._workdir,
            begins=self._begins,
            ends=self._until,
            woken=self._wake.set,
        )
        self._courier.keep(place(home.path).folder, self._lineup.snapshot)
        self._server: Server | None = None
        self._serving = Backoff()
        # An agent that was killed while this process was being started has never been its parent.
        self._parent = int(os.environ.get(AGENT_VARIABLE) or os.getppid())
        self._stopping = False
        self._greeted = False
        self._revision = ""
        # Up to where the hub had been told windows are complete when this worker started.
        self._resume_ns: dict[str, int] = {}
        self._rows_due_s = 0.0

    def stop(self, *_: object) -> None:
        """Ask `run` to end; may be a signal's handler."""
        self._stopping = True
        self._wake.set()

    def run(self) -> int:
        """Work until stopped."""
        # What a worker that was killed had unpacked: one home has one worker, so nobody uses it.
        shutil.rmtree(self._workdir, ignore_errors=True)
        try:
            while not self._stopping and self._agent_lives:
                self._heartbeat()
                self._wake.wait(HEARTBEAT_S)
                self._wake.clear()
            return self._end()
        finally:
            self._courier.close()

    @property
    def _agent_lives(self) -> bool:
        # An orphan is given to another parent.
        return os.getppid() == self._parent

    def _heartbeat(self) -> None:
        if self._camera is not None:
            self._camera.open()
        if not self._greeted:
            self._greet()
        self._lineup.tick()
        if self._camera is not None:
            self._camera.run(self._lineup, self._resume_ns)
            self._tell_camera(self._camera)
        self._serve()
        self._lineup.close_windows(self._until)
        if time.monotonic() >= self._rows_due_s:
            self._rows_due_s = time.monotonic() + ROWS_S
            self._lineup.flush_rows()
            # A frame's pictures come and go; what they leave is 0.4 MB of a worker that is measured in its last one.
            heap.give_back()
        # Asked before delivering: everything up to there is then among what is delivered.
        complete_until_ns, stamp = self._lineup.complete_until_ns(), stamp_now(self._clock)
        if self._courier.flush():
            self._beat(complete_until_ns, stamp)

    def _greet(self) -> None:
        try:
            greeting = self._courier.connect()
        except DriftlineError as error:
            log.debug("%s", error)
            return
        self._resume_ns = {str(pv): int(ns) for pv, ns in (greeting.get("complete_until_ns") or {}).items()}
        self._greeted = True
        self._take(greeting)

    def _beat(self, complete_until_ns: Mapping[str, int], stamp: Stamp | None) -> None:
        reply = self._courier.beat(**self._facts(), complete_until_ns=complete_until_ns, stamp=stamp_told(stamp))
        if reply is not None and "desired" in reply:
            self._take(reply)

    def _facts(self) -> dict[str, Any]:
        wanted = self._lineup.wanted
        return {
            "revision": self._revision,
            "pipelines": self._lineup.states(),
            "limits": {one.id: limits_in_words(one, self._held) for one in wanted if one.limits},
            "sources": {} if self._camera is None else {self._camera.name: self._camera.state(wanted)},
            "serving": None if self._server is None else self._server.url,
        }

    def _take(self, told: Mapping[str, Any]) -> None:
        """Take a desired state from a greeting or a reply."""
        document = told.get("desired")
        self._revision = str(told.get("revision", ""))
        try:
            desired = Desired() if document is None else desired_from(document)
        except DriftlineError as error:
            log.warning("what runs goes on: %s; update driftline on this device", error)
            return
        limits = Limits.of([one.limits for one in desired.pipelines if one.definition["steps"]])
        self._held = self._holder.hold(limits)
        self._lineup.want(
            desired,
            {str(digest): Path(path) for digest, path in (told.get("files") or {}).items()},
            {str(pv): int(count) for pv, count in (told.get("rows_sent") or {}).items()},
            threads=limits.threads,
            held=self._held.whole,
        )
        self._wake.set()

    def _begins(self, wanted: DesiredPipeline, now_ns: int) -> int:
        """Say from when a version that takes over records windows."""
        if self._camera is None or not self._camera.sees(wanted, self._lineup.wanted):
            return now_ns
        return self._camera.begin(now_ns, self._resume_ns.get(wanted.id))

    def _until(self, wanted: DesiredPipeline, now_ns: int) -> int:
        """Say up to when a version has seen everything."""
        if self._camera is None or not self._camera.sees(wanted, self._lineup.wanted):
            return now_ns
        return self._camera.watermark_ns(now_ns)

    def _tell_camera(self, camera: Camera) -> None:
        state = camera.state(self._lineup.wanted)
        if state == self._camera_state:
            return
        before, self._camera_state = self._camera_state, state
        if not camera.has_said(state):
            log.info("camera %s: %s", camera.name, state)
        # The usual way from starting to ok is no news to the hub.
        if state not in {"starting", "ok"} or before not in {"", "starting"}:
            event = encode_event(_event_type(state), self._clock.now_ns(), source=camera.name, state=state)
            self._courier.put("event", event, stamp_now(self._clock))

    def _serve(self) -> None:
        if self._server is not None or not self._serving.due:
            return
        try:
            self._server = Server(self._chosen.serve, self._lineup)
        except DriftlineError as error:
            self._serving.failed(error)
        else:
            log.info("answering at %s", self._server.url)

    def _end(self) -> int:
        """Stop in order and hand over; what it stopped at is said last, when all that was counted is committed."""
        deadline_s = time.monotonic() + STOP_S
        # Asked before: that a camera is stopped with its worker is not how the camera is.
        facts = self._facts() | {"serving": None}
        if self._server is not None:
            self._server.close()
        if self._camera is not None:
            self._camera.close()
        complete = {"complete_until_ns": self._lineup.stop(), "stamp": stamp_told(stamp_now(self._clock))}
        while not self._courier.flush():
            if time.monotonic() >= deadline_s or not self._agent_lives:
                return self._leave(complete)
            time.sleep(0.1)
        if self._courier.beat(**facts, **complete) is None:
            return self._leave(complete)
        return 0

    def _leave(self, complete: Mapping[str, Any]) -> int:
        """Leave what no agent takes to the next one."""
        waiting = self._courier.waiting
        try:
            self._courier.leave(self._home.path, **complete)
        except OSError as error:
            log.warning("%d records are lost: no agent takes them, and they cannot be left (%s)", waiting, error)
            return 1
        log.info("no agent is there; the last %d records are left in %s for the next one", waiting, self._home.path)
        return 0


def _event_type(state: str) -> str:
    """Name the event of a camera's new state.

    >>> _event_type("camera lost"), _event_type("error: no such file"), _event_type("ok")
    ('camera_lost', 'camera_error', 'camera_ok')
    """
    word = state.partition(":")[0]
    return word.replace(" ", "_") if " " in word else f"camera_{word}"


if __name__ == "__main__":
    sys.exit(main())
