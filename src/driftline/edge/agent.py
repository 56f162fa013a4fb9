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
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from driftline import __version__
from driftline.clock import NS_PER_S, Clock, from_environment, parse_iso
from driftline.edge.home import AGENT_VARIABLE, HOME_VARIABLE, Home, Identity
from driftline.edge.link import Server, left_messages
from driftline.edge.notify import Notifier
from driftline.edge.supervisor import Supervisor, dismiss
from driftline.edge.uplink import Overrides, Uplink
from driftline.errors import DriftlineError, InvalidInputError, MissingExtraError, PermanentError, TemporaryError
from driftline.spool.spool import Spool
from driftline.wire.device import (
    BatchHead,
    DesiredPipeline,
    Reader,
    RecordKind,
    WireError,
    decode_event,
    decode_window,
    encode_event,
)

log = logging.getLogger("driftline.edge")
TICK_S = 0.1
# What processes left is looked for more often than the state is written: who asks for the state asks the agent, the
# file is for when it is gone, and each writing costs a flash some 30 kB.
LEFT_EVERY_S, STATE_EVERY_S = 10.0, 600.0
# Of how many ends of the worker `status` tells.
ENDS_TOLD = 8
# How a pipeline without a model fares while no program calls `driftline.observe` for it.
UNOBSERVED = "waiting for driftline.observe"
WORKER_LIBRARIES = ("numpy", "cv2", "onnxruntime", "starlette", "uvicorn")


def run(options: Namespace) -> int:
    """Run the device that lives in `options.home` until SIGTERM or SIGINT.

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


def worker_command(home: Home, options: Namespace) -> list[str] | None:
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
                command, {"OPENCV_LOG_LEVEL": "ERROR"} | os.environ | told, self._worker_ended
            )
        # `_guard` protects what threads share below; the spool has a lock of its own.
        self._guard = threading.RLock()
        self._peers: dict[int, dict[str, Any]] = {}
        self._rows_sent = _numbers(self._spool.recall_all("rows:"))
        self._complete_ns = _numbers(self._spool.recall_all("complete:"))
        self._ends: list[tuple[int, str]] = []
        self._ends_count = 0
        self._started_ns = clock.now_ns()
        self._stopping = threading.Event()
        self._uplink = Uplink(
            home,
            identity,
            clock,
            self._spool,
            overrides or Overrides(),
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
        # Before a new worker asks from where to go on.
        self._take_left()
        self._notifier.ready(f"starting, for the hub at {self._identity.url}")
        saved_s = looked_s = 0.0
        while not self._stopping.wait(TICK_S):
            if self._supervisor is not None:
                before = self._supervisor.pid
                self._supervisor.tick()
                saved_s = saved_s if self._supervisor.pid == before else 0.0
            if time.monotonic() - looked_s > LEFT_EVERY_S:
                self._take_left()
                looked_s = time.monotonic()
            if time.monotonic() - saved_s > STATE_EVERY_S:
                self._save_state(server.path)
                saved_s = time.monotonic()
            self._tell_manager(server)
        self._notifier.stopping()
        self._finish(server)

    def _tell_manager(self, server: Server) -> None:
        """Tell systemd how the agent is; where a thread has died it hears no more that the agent lives."""
        if self._uplink.alive and server.alive:
            self._notifier.alive()
        self._notifier.status(f"{self._uplink.sentence}; {self._spool.backlog} records wait")

    def _finish(self, server: Server) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        has_ended = self._uplink.finish()
        server.close()
        self._save_state(None)
        log.info("the device %s has stopped; %d records wait for the hub", self._identity.name, self._spool.backlog)
        if has_ended:
            self._spool.close()

    def _say_hello(self) -> None:
        log.info("the device %s works for the hub at %s", self._identity.name, self._identity.url)
        if self._clock.banner is not None:
            log.info("%s", self._clock.banner)
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

    def _worker_ended(self, text: str) -> None:
        self._ends = [*self._ends, (self._clock.now_ns(), text)][-ENDS_TOLD:]
        self._ends_count += 1
        self._note("worker_ended", text=text)
        self._uplink.hurry()

    def _note(self, kind: str, **facts: Any) -> None:
        """Put an event into the spool."""
        try:
            self._spool.append("event", encode_event(kind, self._clock.now_ns(), **facts))
        except DriftlineError as error:
            log.warning("an event %s is lost: %s", kind, error)

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
            rows, complete = self._with_rows(kind, payload), self._with_window(kind, payload)
            if kind == "event":
                decode_event(payload)
            remember = {f"rows:{pv}": str(count) for pv, count in rows.items()}
            remember |= {f"complete:{pv}": str(until_ns) for pv, until_ns in complete.items()}
            epoch, last = self._spool.epoch, self._spool.last_sequence
            sequence = self._spool.append(kind, payload, request.get("key"), remember)
            if sequence > last or epoch != self._spool.epoch:  # else it is known already
                self._rows_sent |= rows
                self._complete_ns |= complete
        if kind == "event":
            self._uplink.hurry()
        return sequence

    def _take_left(self) -> None:
        """Commit what processes left that ended while no agent ran."""
        try:
            for path, messages in left_messages(self._home.path):
                for request, payload in messages:
                    self._take_message(request, payload)
                path.unlink()
                count = sum(request.get("type") == "record" for request, _ in messages)
                log.info("%d records that a process left while no agent ran are taken over", count)
        except (TemporaryError, OSError) as error:
            log.warning("records that were left in %s wait there: %s", self._home.path, error)

    def _take_message(self, request: Mapping[str, Any], payload: bytes) -> None:
        try:
            if request["type"] == "record":
                self._take(request, payload)
            else:
                with self._guard:
                    self._complete(request["role"], request.get("complete_until_ns") or {})
        except (PermanentError, KeyError, TypeError, ValueError) as error:
            log.warning("a record that was left is refused: %s", error)

    def _with_rows(self, kind: str, payload: bytes) -> dict[str, int]:
        if kind != "rows":
            return {}
        pv, count = _rows_head(payload)
        return {pv: self._rows_sent.get(pv, 0) + count}

    def _with_window(self, kind: str, payload: bytes) -> dict[str, int]:
        """Return up to where a window's pipeline is complete with it; a late one changes nothing."""
        if kind != "window":
            return {}
        window = decode_window(payload)
        end_ns = (window.start_s + window.width_s) * NS_PER_S
        return {window.pipeline: max(self._complete_ns.get(window.pipeline, 0), end_ns)}

    def _beat(self, peer: int, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._guard:
            facts = self._peers[peer]
            before = _told(facts)
            facts |= {key: value for key, value in request.items() if key != "type"}
            self._complete(facts["role"], request.get("complete_until_ns") or {})
            changed = _told(facts) != before
        self._hear(peer)
        if changed:
            self._uplink.hurry()
        offer = self._offer()
        return {"revision": offer["revision"]} if request.get("revision") == offer["revision"] else offer

    def _complete(self, role: str, told_ns: Mapping[str, int]) -> None:
        """Take a peer's word on how far its windows are complete.

        The worker's word counts even where it is less than its windows' ends: a window it closes when it stops may
        hold only the part of a clip that has been played, and the next worker goes on from there.
        """
        for pv, until_ns in told_ns.items():
            known_ns = self._complete_ns.get(pv)
            if known_ns is None or (until_ns != known_ns and (role == "worker" or until_ns > known_ns)):
                self._complete_ns[pv] = int(until_ns)
                self._spool.remember(f"complete:{pv}", str(int(until_ns)))

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
                "complete_until_ns": dict(self._complete_ns),
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
                boot_id=_boot_id(),
                software=f"driftline {__version__}",
                serving=worker.get("serving"),
                complete_until_ns=dict(self._complete_ns),
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
                "complete_until_ns": dict(self._complete_ns),
            }


def _told(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the hub should hear of soon when it changes."""
    return tuple(facts.get(key) for key in ("pipelines", "sources", "serving"))


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


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
