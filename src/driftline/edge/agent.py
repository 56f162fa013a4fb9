"""A device's agent: takes records into the spool, syncs them with the hub, keeps the worker running.

Standard library alone: it survives whatever a model does to its worker, and runs where nothing else can be installed.
Three kinds of threads: the main one supervises and says how the agent is, one talks to the hub
(`driftline.edge.uplink`), and one a connection serves the worker and programs that observe. Nothing that was answered
"committed" is lost when any of them dies.
"""

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from driftline import __version__
from driftline.clock import NS_PER_S, Clock, from_environment, parse_iso, seconds_text
from driftline.edge import heap
from driftline.edge.home import AGENT_VARIABLE, HOME_VARIABLE, Home, Identity
from driftline.edge.link import Server, left_messages, messages_of, stamp_from
from driftline.edge.notify import Notifier
from driftline.edge.open_window import Left, folders, is_held, left_behind, place
from driftline.edge.supervisor import SILENT_S_MAX, Supervisor, dismiss
from driftline.edge.timekeeping import STEP_NS, Reach, Timekeeper, offset_ns, stamp_now
from driftline.edge.uplink import Overrides, Uplink
from driftline.errors import DriftlineError, InvalidInputError, MissingExtraError, PermanentError, TemporaryError
from driftline.spool.outbox import waiting_text
from driftline.spool.spool import Spool
from driftline.wire.device import (
    BatchHead,
    DesiredPipeline,
    Reader,
    RecordKind,
    Stamp,
    WireError,
    decode_event,
    decode_window,
    encode_event,
)

if TYPE_CHECKING:
    from argparse import Namespace

log = logging.getLogger("driftline.edge")
TICK_S = 0.1
# What processes left is looked for more often than the state is written: who asks for the state asks the agent, the
# file is for when it is gone, and each writing costs a flash some 30 kB.
LEFT_EVERY_S, STATE_EVERY_S = 10.0, 600.0
# Of how many ends of the worker `status` tells.
ENDS_TOLD = 8
# A worker whose agent has gone notices it within half a second, and takes up to five to hand over.
OLD_WORKER_S = 8.0
# How a pipeline without a model fares while no program calls `driftline.observe` for it.
UNOBSERVED = "waiting for driftline.observe"
WORKER_LIBRARIES = ("numpy", "cv2", "onnxruntime", "starlette", "uvicorn")


def run(options: SimpleNamespace) -> int:
    """Run the device that lives in `options.home` until SIGTERM or SIGINT, with the options of `driftline edge run`.

    Raises:
        EntityNotFoundError: nobody joined a hub here.
        ConflictError: an agent runs on this home already.
        InvalidInputError: an option that cannot be meant.
        MissingExtraError: a camera, without what runs models.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    home = Home(options.home)
    identity = home.identity()
    # An agent that its service manager kills for hanging says first where each thread stood.
    faulthandler.enable()
    command = worker_command(home, options)
    lock = home.lock()
    try:
        overrides = Overrides(options.sync_interval, options.rows_kb_a_day, options.newest_first)
        agent = Agent(home, identity, from_environment(), command, overrides)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, agent.stop)
        agent.serve()
    finally:
        lock.close()
    return 0


def worker_command(home: Home, options: "SimpleNamespace | Namespace") -> list[str] | None:
    """Return the command that starts the worker; None where its libraries are not installed.

    Raises:
        InvalidInputError: an option that cannot be meant.
        MissingExtraError: a camera, without what runs models.
    """
    host, _, port = options.serve.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInputError(f"--serve {options.serve} is not HOST:PORT, such as 127.0.0.1:8080")
    for name, value in (("--rate", options.rate), ("--sync-interval", options.sync_interval)):
        if value is not None and not value > 0:
            raise InvalidInputError(f"{name} {value:g} is not more than zero")
    if options.rows_kb_a_day is not None and options.rows_kb_a_day < 0:
        raise InvalidInputError(f"--rows-kb-a-day {options.rows_kb_a_day} is less than nothing; 0 keeps all rows here")
    if options.start is not None:
        parse_iso(options.start)
    if not all(find_spec(name) for name in WORKER_LIBRARIES):
        if options.camera is not None:
            raise MissingExtraError("a camera", "edge")
        return None
    command = [sys.executable, "-m", "driftline.edge.worker", "--home", str(home.path), "--serve", options.serve]
    for name in ("camera", "rate", "pipeline", "start"):
        if getattr(options, name) is not None:
            command += [f"--{name}", str(getattr(options, name))]
    return [*command, "--loop"] if options.loop else command


class Agent:
    """One device at work. `serve` returns after `stop`, which any thread or signal handler may call."""

    def __init__(
        self,
        home: Home,
        identity: Identity,
        clock: Clock,
        command: Sequence[str] | None,
        overrides: Overrides | None = None,
        *,
        silent_s_max: float = SILENT_S_MAX,
    ) -> None:
        self._home = home
        self._identity = identity
        self._clock = clock
        self._left_worker = home.state().get("worker")
        self._spool = Spool(home.spool, now_ns=clock.now_ns)
        # Before the worker's environment is made of this process's.
        self._notifier = Notifier.of_environment()
        self._supervisor: Supervisor | None = None
        if command is not None:
            told = {HOME_VARIABLE: str(home.path), AGENT_VARIABLE: str(os.getpid()), "ORT_DISABLE_TELEMETRY": "1"}
            # OpenCV warns of each try to open a camera; the camera's state says it once.
            self._supervisor = Supervisor(
                command,
                {"OPENCV_LOG_LEVEL": "ERROR"} | os.environ | told,
                self._worker_ended,
                silent_s_max=silent_s_max,
            )
        # `_guard` protects what threads share below; the spool has a lock of its own.
        self._guard = threading.RLock()
        self._peers: dict[int, dict[str, Any]] = {}
        self._rows_sent = _numbers(self._spool.recall_all("rows:"))
        self._ends: list[tuple[int, str]] = []
        self._ends_count = 0
        self._reached = {pv: Reach.of(text) for pv, text in self._spool.recall_all("complete:").items()}
        self._timekeeper = Timekeeper.of(clock, self._spool)
        self._offset_ns = offset_ns(clock)
        self._started_ns = clock.now_ns()
        self._open_trouble = place(home.path).trouble
        # Open windows whose records could not be committed yet, though it is known up to where they were counted.
        self._waiting_open: set[Path] = set()
        self._stopping = threading.Event()
        self._looped_s = time.monotonic()
        self._uplink = Uplink(
            home,
            identity,
            clock,
            self._spool,
            overrides or Overrides(),
            self._timekeeper,
            head=self._head,
            # A device that observes only has nobody to run a model.
            runs_models=command is not None,
        )

    # ── the main thread ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self, *_: Any) -> None:
        """Ask the agent to stop."""
        self._stopping.set()

    def serve(self) -> None:
        """Work until `stop`; then let the worker hand over, sync once more, and return."""
        server = Server(self._home.socket_to_make(), self)
        self._say_hello()
        self._save_state(server.path)
        self._uplink.start()
        if isinstance(self._left_worker, int):
            dismiss(self._left_worker, self._home.path)
        self._await_end_of_worker()
        # Before a new worker asks from where to go on.
        self._take_left()
        self._notifier.ready(f"starting, for the hub at {self._identity.url}")
        heap.give_back()
        saved_s = looked_s = 0.0
        has_synced = False
        while not self._stopping.wait(TICK_S):
            self._looped_s = time.monotonic()
            if self._supervisor is not None:
                before = self._supervisor.pid
                self._supervisor.tick()
                saved_s = saved_s if self._supervisor.pid == before else 0.0
            self._heed_clock()
            if time.monotonic() - looked_s > LEFT_EVERY_S:
                self._take_left()
                looked_s = time.monotonic()
            # That the hub was reached is said at once, the first time: whoever set the device up waits for it.
            if self._uplink.has_synced != has_synced or time.monotonic() - saved_s > STATE_EVERY_S:
                has_synced, saved_s = self._uplink.has_synced, time.monotonic()
                self._save_state(server.path)
            self._tell_manager(server)
        self._notifier.stopping()
        self._finish(server)

    def _tell_manager(self, server: Server) -> None:
        """Tell systemd how the agent is; where a thread has died it hears no more that the agent lives."""
        if self._uplink.alive and server.alive:
            self._notifier.alive()
        self._notifier.status(f"{self._uplink.sentence}; {waiting_text(self._spool.backlog)}")

    def _finish(self, server: Server) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        self._take_open()
        has_ended = self._uplink.finish()
        server.close()
        self._save_state(None)
        waiting = waiting_text(self._spool.backlog)
        log.info("the device %s has stopped; %s for the hub", self._identity.name, waiting)
        if has_ended:
            self._spool.close()

    def _say_hello(self) -> None:
        log.info("the device %s works for the hub at %s", self._identity.name, self._identity.url)
        if self._clock.banner is not None:
            log.info("%s", self._clock.banner)
        if self._open_trouble:
            log.info("%s; a crash loses as little, but it wears the flash", self._open_trouble)
        if self._supervisor is None:
            log.info(
                "this machine lacks what runs models, so it observes only (driftline.observe); "
                "to run models: pip install 'driftline[edge]'"
            )

    def _save_state(self, socket: Path | None) -> None:
        worker = None if self._supervisor is None else self._supervisor.pid
        facts = {"pid": os.getpid(), "worker": worker, "stopped": socket is None}
        try:
            self._home.save_state(self.status() | facts | ({} if socket is None else {"socket": str(socket)}))
        except OSError as error:
            log.warning("state.json cannot be written (%s)", error)

    def _worker_ended(self, text: str, facts: Mapping[str, float]) -> None:
        """Take what the worker had counted, before the next one asks from where to go on; then tell of its end."""
        age_s = self._take_open()
        if age_s is not None:
            text += f"; what it had counted is kept, but for the last {age_s:.1f} s at most"
            facts = {**facts, "lost_s_max": round(age_s, 1)}
        self._ends = [*self._ends, (self._clock.now_ns(), text)][-ENDS_TOLD:]
        self._ends_count += 1
        self._note("worker_ended", text=text, **facts)
        self._uplink.hurry()

    def _note(self, kind: str, **facts: Any) -> None:
        """Put an event into the spool."""
        try:
            event = encode_event(kind, self._clock.now_ns(), **facts)
            self._spool.append("event", event, stamp=stamp_now(self._clock))
        except DriftlineError as error:
            log.warning("an event %s is lost: %s", kind, error)

    def _heed_clock(self) -> None:
        """Say that the clock was set; the hub should hear soon how it is now."""
        before_ns, now_ns = self._offset_ns, offset_ns(self._clock)
        if abs(now_ns - before_ns) >= STEP_NS:
            self._offset_ns = now_ns
            by_s = (now_ns - before_ns) / NS_PER_S
            self._note(
                "clock_set", text=f"the clock was set {seconds_text(abs(by_s))} {'ahead' if by_s > 0 else 'back'}"
            )
            self._uplink.hurry()

    # ── the worker, and programs that observe ────────────────────────────────────────────────────────────────────

    def answer(self, peer: int, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        """Answer one request of the local protocol; see `driftline.edge.link`."""
        kind = request["type"]
        if kind == "record":
            return {"sequence": self._take(request, payload)}
        if kind == "status":
            return self.status()
        if kind == "hello":
            with self._guard:
                self._peers[peer] = {"role": str(request["role"]), "pid": request.get("pid")}
            self._hear(peer)
            return self._offer()
        if kind == "beat":
            return self._beat(peer, request)
        raise InvalidInputError(f"a request of unknown type {kind!r:.50}")

    def gone(self, peer: int) -> None:
        """Forget a peer that hung up."""
        with self._guard:
            self._peers.pop(peer, None)

    def _take(self, request: Mapping[str, Any], payload: bytes) -> int:
        """Commit a record, and with it what it adds to."""
        kind: RecordKind = request["kind"]
        with self._guard:
            stamp = stamp_from(request.get("stamp"))
            rows, reached = self._with_rows(kind, payload), self._with_window(kind, payload, stamp)
            if kind == "event":
                decode_event(payload)
            remember = {f"rows:{pv}": str(count) for pv, count in rows.items()}
            remember |= {f"complete:{pv}": reach.text for pv, reach in reached.items()}
            epoch, last = self._spool.epoch, self._spool.last_sequence
            sequence = self._spool.append(kind, payload, request.get("key"), remember, stamp)
            if sequence > last or epoch != self._spool.epoch:  # else it is known already
                self._rows_sent |= rows
                self._reached |= reached
        if kind == "event":
            self._uplink.hurry()
        return sequence

    def _take_left(self) -> None:
        """Commit what processes left that ended while no agent ran, and what those had counted that were killed."""
        try:
            for path, messages in left_messages(self._home.path):
                for request, payload in messages:
                    self._take_message(request, payload)
                path.unlink()
                count = sum(request.get("type") == "record" for request, _ in messages)
                if count:
                    log.info("%d records that a process left while no agent ran are taken over", count)
        except (TemporaryError, OSError) as error:
            log.warning("records that were left in %s wait there: %s", self._home.path, error)
        self._take_open()

    def _await_end_of_worker(self) -> None:
        """Wait until a worker of the agent before this one has let go of its open window: the last thing it does."""
        deadline_s = time.monotonic() + OLD_WORKER_S
        while any(is_held(folder, "worker") for folder in folders(self._home.path)):
            if time.monotonic() > deadline_s:
                log.warning("a worker of another agent still runs here; what it has counted is taken when it ends")
                return
            time.sleep(TICK_S)

    def _take_open(self) -> float | None:
        """Commit what processes had counted that were killed; return how old the worker's snapshot was, in seconds."""
        worker_age_s: float | None = None
        for folder in folders(self._home.path):
            try:
                with left_behind(folder) as every:
                    for left in every:
                        self._take_snapshot(left)
                        if left.role == "worker" and left.data is not None:
                            worker_age_s = left.age_s
            except (TemporaryError, OSError) as error:
                log.warning("the open windows in %s wait there: %s", folder, error)
        return worker_age_s

    def _take_snapshot(self, left: Left) -> None:
        messages = [] if left.data is None else messages_of(BytesIO(left.data).read, left.path)
        # As one, so that no sync tells that a window is complete of which a part is still to come.
        with self._guard:
            try:
                for request, payload in messages:
                    if request["type"] == "record":
                        self._take_message(request, payload)
            finally:
                # Once: should the records have to wait, the next worker goes on from here, and tells more by then.
                if left.path not in self._waiting_open:
                    self._waiting_open.add(left.path)
                    self._take_word(messages)
        left.remove()
        self._waiting_open.discard(left.path)
        count = len(messages) - 1
        if count > 0:
            log.info("%d records of a process that was killed are taken over, %.1f s old", count, left.age_s)

    def _take_word(self, messages: Sequence[tuple[Mapping[str, Any], bytes]]) -> None:
        for request, _ in messages:
            if request["type"] == "beat":
                try:
                    self._complete(request["role"], request)
                except TemporaryError:
                    stamp, told = stamp_from(request.get("stamp")), request.get("complete_until_ns") or {}
                    self._reached |= {str(pv): Reach(int(until_ns), stamp) for pv, until_ns in told.items()}

    def _take_message(self, request: Mapping[str, Any], payload: bytes) -> None:
        try:
            if request["type"] == "record":
                self._take(request, payload)
            else:
                with self._guard:
                    self._complete(request["role"], request)
        except (PermanentError, KeyError, TypeError, ValueError) as error:
            log.warning("a record that was left is refused: %s", error)

    def _with_rows(self, kind: str, payload: bytes) -> dict[str, int]:
        if kind != "rows":
            return {}
        pv, count = _rows_head(payload)
        return {pv: self._rows_sent.get(pv, 0) + count}

    def _with_window(self, kind: str, payload: bytes, stamp: Stamp | None) -> dict[str, Reach]:
        """Return up to where a window's pipeline is complete with it; a late one changes nothing."""
        if kind != "window":
            return {}
        window = decode_window(payload)
        reach = Reach((window.start_s + window.width_s) * NS_PER_S, stamp)
        known = self._reached.get(window.pipeline)
        return {window.pipeline: reach} if known is None or reach.is_beyond(known, self._clock.boot) else {}

    def _beat(self, peer: int, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._guard:
            facts = self._peers[peer]
            before = _told(facts)
            facts |= {key: value for key, value in request.items() if key != "type"}
            self._complete(facts["role"], request)
            changed = _told(facts) != before
        self._hear(peer)
        if changed:
            self._uplink.hurry()
        offer = self._offer()
        return {"revision": offer["revision"]} if request.get("revision") == offer["revision"] else offer

    def _complete(self, role: str, beat: Mapping[str, Any]) -> None:
        """Take a peer's word on how far its windows are complete.

        The worker's word counts even where it is less than its windows' ends: a window it closes when it stops may
        hold only the part of a clip that has been played, and the next worker goes on from there.
        """
        stamp = stamp_from(beat.get("stamp"))
        told: Mapping[str, int] = beat.get("complete_until_ns") or {}
        for pv, until_ns in told.items():
            known, reach = self._reached.get(pv), Reach(int(until_ns), stamp)
            if known is not None and role != "worker" and not reach.is_beyond(known, self._clock.boot):
                continue
            # What the clock leads by changes by microseconds from beat to beat: only what is told is worth a commit.
            if known is None or known.until_ns != reach.until_ns:
                self._spool.remember(f"complete:{pv}", reach.text)
                self._reached[pv] = reach

    def _hear(self, peer: int) -> None:
        if self._supervisor is not None and self._peers.get(peer, {}).get("pid") == self._supervisor.pid:
            self._supervisor.heard()

    def _offer(self) -> dict[str, Any]:
        """Return what a worker is to run. The revision also changes when a file arrives."""
        with self._guard:
            desired, files = self._uplink.offer()
            return {
                "desired": asdict(desired),
                "revision": f"{desired.revision}+{len(files)}",
                "device": self._identity.name,
                "rows_sent": dict(self._rows_sent),
                "files": files,
                "complete_until_ns": self._reached_ns(),
            }

    def _worker(self) -> dict[str, Any]:
        """Return what the worker last told, empty where there is none."""
        pid = None if self._supervisor is None else self._supervisor.pid
        return next((one for one in self._peers.values() if one["role"] == "worker" and one["pid"] == pid), {})

    # ── how the device is ────────────────────────────────────────────────────────────────────────────────────────

    def _head(self) -> BatchHead:
        """Return what the device says of itself with a sync; what it says of its records is for the exchange to add."""
        with self._guard:
            worker = self._worker()
            return BatchHead(
                self._identity.name,
                self._spool.epoch,
                revision=self._uplink.desired.revision,
                wall_ns=self._clock.now_ns(),
                monotonic_ns=time.monotonic_ns(),
                boot_id=self._clock.boot,
                software=f"driftline {__version__}",
                serving=worker.get("serving"),
                complete_until_ns=self._true_ns(),
                pipelines=self._pipelines(worker),
                limits=worker.get("limits") or {},
                sources=worker.get("sources") or {},
            )

    def _pipelines(self, worker: Mapping[str, Any]) -> dict[str, str]:
        """Return how each pipeline version fares."""
        states: dict[str, str] = {}
        for facts in self._peers.values():
            if facts["role"] != "worker" or facts is worker:
                states |= facts.get("pipelines") or {}
        for one in self._uplink.desired.pipelines:
            # Where the owner's program observes it, it runs there.
            trouble = None if states.get(one.id) == "running" else self._trouble(one, worker)
            if trouble is not None:
                states[one.id] = f"error: {trouble}"
            states.setdefault(one.id, "starting" if one.definition.get("steps") else UNOBSERVED)
        return states

    def _trouble(self, pipeline: DesiredPipeline, worker: Mapping[str, Any]) -> str | None:
        """Return what keeps a pipeline from running that its worker cannot know of."""
        if not pipeline.definition.get("steps"):
            return None
        if self._supervisor is None:
            return "this device observes only; to run models: pip install 'driftline[edge]'"
        if not worker and self._supervisor.trouble is not None:
            return self._supervisor.trouble
        return self._uplink.missing_text(pipeline)

    def status(self) -> dict[str, Any]:
        """Return how the device is, as JSON's objects."""
        with self._guard:
            worker, desired = self._worker(), self._uplink.desired
            return self._uplink.status() | {
                "device": self._identity.name,
                "url": self._identity.url,
                "software": f"driftline {__version__}",
                "started_ns": self._started_ns,
                "now_ns": self._clock.now_ns(),
                "silent_s": time.monotonic() - self._looped_s,
                "clock": self._clock.banner,
                "backlog": self._spool.backlog,
                "backlog_bytes": self._spool.waiting_bytes,
                "worker_ends": {"count": self._ends_count, "recent": self._ends},
                "revision": desired.revision,
                "names": {one.id: one.name for one in desired.pipelines},
                "pipelines": self._pipelines(worker),
                "sources": worker.get("sources") or {},
                "limits": worker.get("limits") or {},
                "serving": worker.get("serving"),
                "complete_until_ns": self._reached_ns(),
                "open_windows": self._open_trouble,
                **_clock_facts(self._timekeeper.head_clock()),
            }

    def _reached_ns(self) -> dict[str, int]:
        """Return up to where pipelines are complete, each by the clock it was told by."""
        return {pv: reach.until_ns for pv, reach in self._reached.items()}

    def _true_ns(self) -> dict[str, int]:
        """Return up to where pipelines are complete, in true time, as far as it is known."""
        shifts = {
            pv: self._timekeeper.shift_s(reach.stamp, reach.until_ns // NS_PER_S) for pv, reach in self._reached.items()
        }
        return {pv: self._reached[pv].until_ns + s * NS_PER_S for pv, s in shifts.items() if s is not None}


def _told(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the hub should hear of soon when it changes."""
    return tuple(facts.get(key) for key in ("pipelines", "sources", "serving"))


def _clock_facts(told: Mapping[str, int]) -> dict[str, float | None]:
    """Return how right the clock is, in seconds, as far as it is known."""
    ahead, error = told.get("offset_ns"), told.get("error_ns")
    return {
        "hub_ahead_s": None if ahead is None else ahead / NS_PER_S,
        "clock_error_s": None if error is None else error / NS_PER_S,
    }


def _numbers(texts: Mapping[str, str]) -> dict[str, int]:
    return {key: int(text) for key, text in texts.items()}


def _rows_head(payload: bytes) -> tuple[str, int]:
    """Return a rows record's pipeline version and how many rows it has, without reading its columns."""
    reader = Reader(payload)
    reader.take(1)
    try:
        head = json.loads(reader.take(reader.varint()))
        return str(head["pipeline"]), int(head["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"rows that cannot be read: {error!r}") from error
