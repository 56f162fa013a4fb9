"""A device's agent: takes records into the spool, syncs them with the hub, keeps the worker running.

Standard library alone: it survives whatever a model does to its worker, and runs where nothing else can be installed.
Three kinds of threads: the main one supervises and says how the agent is, one talks to the hub, and one a connection
serves the worker and programs that observe. Nothing that was answered "committed" is lost when any of them dies.
"""

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
from driftline.edge.bundles import Bundles
from driftline.edge.home import AGENT_VARIABLE, HOME_VARIABLE, Home, Identity
from driftline.edge.link import Server, left_messages
from driftline.edge.shipper import Shipper, Upload
from driftline.edge.supervisor import Supervisor, dismiss
from driftline.edge.transport import Transport
from driftline.errors import DriftlineError, InvalidInputError, MissingExtraError, PermanentError, TemporaryError
from driftline.spool.spool import Spool
from driftline.wire.device import (
    BatchHead,
    BundleFile,
    Desired,
    DesiredPipeline,
    Reader,
    Record,
    RecordKind,
    Reply,
    WireError,
    decode_event,
    decode_window,
    encode_batch,
    encode_event,
)

log = logging.getLogger("driftline.edge")
# A batch of a megabyte takes a slow uplink (1 Mbit/s) eight seconds, within the time a request has.
BATCH_BYTES = 1024 * 1024
TICK_S = 0.1
# What processes left is looked for more often than the state is written: who asks for the state asks the agent, the
# file is for when it is gone, and each writing costs a flash some 30 kB.
LEFT_EVERY_S, STATE_EVERY_S = 10.0, 600.0
# Stopping: how long the last sync may take, and how long a request under way may still go on.
LAST_SYNC_S, GRACE_S = 2.0, 0.75
DOWNLOAD_PAUSE_FIRST_S, DOWNLOAD_PAUSE_MAX_S = 1.0, 60.0
# Request numbers are reserved so many at a time, by the clock a minute: a commit for each would wear the flash.
NUMBERS_RESERVED = 60_000
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
    command = worker_command(home, options)
    lock = home.lock()
    try:
        agent = Agent(home, identity, from_environment(), command, interval_s=options.sync_interval)
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
        self, home: Home, identity: Identity, clock: Clock, command: Sequence[str] | None, *, interval_s: float | None
    ) -> None:
        self._home = home
        self._identity = identity
        self._clock = clock
        self._interval_s = interval_s
        self._left_worker = home.state().get("worker")
        self._spool = Spool(home.spool, now_ns=clock.now_ns)
        self._bundles = Bundles(home.bundles)
        self._desired = home.desired() or Desired()
        self._transport = Transport(identity, RequestNumbers(self._spool))
        self._shipper = Shipper(time.monotonic())
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
        self._told_ns: dict[str, int] = {}
        self._download_error: str | None = None
        self._synced_ns: int | None = None
        self._sync_error: str | None = None
        self._offset_s: float | None = None
        self._refused = 0
        self._started_ns = clock.now_ns()
        self._stopping = threading.Event()
        self._finishing = threading.Event()
        self._wake = threading.Event()

    # ── the main thread ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self, *_: Any) -> None:
        """Ask the agent to stop."""
        self._stopping.set()

    def serve(self) -> None:
        """Work until `stop`; then let the worker hand over, sync once more, and return."""
        server = Server(self._home.socket_to_make(), self)
        self._say_hello()
        self._save_state(server.path)
        network = threading.Thread(target=self._talk, name="hub", daemon=True)
        network.start()
        if isinstance(self._left_worker, int):
            dismiss(self._left_worker, self._home.path)
        # Before a new worker asks from where to go on.
        self._take_left()
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
        self._finish(server, network)

    def _finish(self, server: Server, network: threading.Thread) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        self._transport.hasten(LAST_SYNC_S)
        self._finishing.set()
        self._wake.set()
        network.join(GRACE_S)
        if network.is_alive():
            # It waits for an answer, or in the middle of a download.
            self._transport.interrupt()
            network.join(LAST_SYNC_S + GRACE_S)
        server.close()
        self._save_state(None)
        log.info("the device %s has stopped; %d records wait for the hub", self._identity.name, self._spool.backlog)
        if not network.is_alive():
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
        self._note("worker_ended", text=text)
        self._hurry()

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
            self._hurry()
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
            self._hurry()
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
            files = self._bundles.files(self._desired)
            return {
                "desired": asdict(self._desired),
                "revision": f"{self._desired.revision}+{len(files)}",
                "device": self._identity.name,
                "rows_sent": dict(self._rows_sent),
                "files": files,
                "complete_until_ns": dict(self._complete_ns),
            }

    def _worker(self) -> dict[str, Any]:
        """Return what the worker last told, empty where there is none."""
        pid = None if self._supervisor is None else self._supervisor.pid
        return next((one for one in self._peers.values() if one["role"] == "worker" and one["pid"] == pid), {})

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _talk(self) -> None:
        """Sync and download, one request at a time, until the agent stops; then sync once more."""
        again_s = pause_s = 0.0
        while not self._finishing.is_set():
            self._wake.clear()
            now_s = time.monotonic()
            step = self._shipper.next(now_s)
            # A device that observes only has nobody to run a model.
            missing = self._bundles.missing(self._desired) if self._supervisor is not None else ()
            if isinstance(step, Upload):
                self._sync()
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
            self._exchange()
        except DriftlineError as error:
            self._shipper.refused(time.monotonic())
            self._say_trouble(error)
        except Exception:  # a bug here must not end the only thread that talks to the hub
            self._shipper.refused(time.monotonic())
            log.exception("a sync failed")

    def _exchange(self) -> None:
        with self._guard:
            complete_ns, last = dict(self._complete_ns), self._spool.last_sequence
        records = self._spool.batch(BATCH_BYTES)
        epoch = self._spool.epoch
        if records and records[-1].sequence < last:
            complete_ns = self._complete_with(records, complete_ns)
        head = self._head(epoch, complete_ns, max(0, self._spool.backlog - len(records)))
        reply = self._transport.sync(encode_batch(head, records))
        self._told_ns |= complete_ns
        self._acknowledge(epoch, records, reply)
        if reply.desired is not None:
            self._adopt(reply.desired)
        self._say_well(reply)
        interval_s = self._real_s(self._interval_s or reply.sync_interval_s)
        waits = bool(records) and records[-1].sequence < last
        # Without progress another try at once would only be the same again.
        more = waits and reply.acknowledged >= records[-1].sequence
        idle = not self._desired.pipelines and self._interval_s is None
        self._shipper.acknowledged(time.monotonic(), interval_s, more=more, idle=idle)

    def _complete_with(self, records: Sequence[Record], complete_ns: Mapping[str, int]) -> dict[str, int]:
        """Return up to where pipelines are complete with a batch that is not all that waits."""
        told_ns = dict(self._told_ns)
        for one in records:
            if one.kind == "window":
                window = decode_window(one.data)
                end_ns = (window.start_s + window.width_s) * NS_PER_S
                told_ns[window.pipeline] = max(told_ns.get(window.pipeline, 0), end_ns)
        return {pv: min(until_ns, complete_ns.get(pv, until_ns)) for pv, until_ns in told_ns.items()}

    def _acknowledge(self, epoch: str, records: Sequence[Record], reply: Reply) -> None:
        if records and reply.epoch == epoch == self._spool.epoch:
            # Never more than was sent, whatever the hub says.
            self._spool.acknowledge(min(reply.acknowledged, records[-1].sequence))
        for sequence, reason in reply.refused.items():
            log.warning("the hub refused record %s: %s", sequence, reason)
        self._refused += len(reply.refused)

    def _adopt(self, desired: Desired) -> None:
        """Take a new desired state, on disk first."""
        try:
            self._home.save_desired(desired)
        except OSError as error:
            log.warning("what the hub wants could not be saved (%s); it is used and asked for again", error)
        with self._guard:
            self._desired = desired
            self._bundles.prune(desired)
        names = ", ".join(sorted({one.name for one in desired.pipelines})) or "nothing"
        log.info("the hub wants this device to run %s", names)

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

    def _real_s(self, interval_s: float) -> float:
        """Return how long an interval of the windows' time takes."""
        return self._clock.wait_s(self._clock.now_ns() + int(interval_s * NS_PER_S))

    def _hurry(self) -> None:
        self._shipper.hurry(time.monotonic())
        self._wake.set()

    def _say_trouble(self, error: DriftlineError) -> None:
        if self._sync_error is None:
            way = "nothing is lost, and it is tried again" if isinstance(error, PermanentError) else "trying on"
            log.warning("%s; %d records wait, %s", error, self._spool.backlog, way)
        self._sync_error = str(error)

    def _say_well(self, reply: Reply) -> None:
        if self._sync_error is not None or self._synced_ns is None:
            log.info("the hub at %s answers", self._identity.url)
        self._sync_error = None
        self._synced_ns = self._clock.now_ns()
        self._offset_s = (reply.now_ns - self._synced_ns) / NS_PER_S

    # ── how the device is ────────────────────────────────────────────────────────────────────────────────────────

    def _head(self, epoch: str, complete_ns: Mapping[str, int], backlog: int) -> BatchHead:
        with self._guard:
            worker = self._worker()
            return BatchHead(
                self._identity.name,
                epoch,
                revision=self._desired.revision,
                wall_ns=self._clock.now_ns(),
                monotonic_ns=time.monotonic_ns(),
                boot_id=_boot_id(),
                software=f"driftline {__version__}",
                backlog=backlog,
                serving=worker.get("serving"),
                complete_until_ns=dict(complete_ns),
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
        for one in self._desired.pipelines:
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
        digests = {file.digest for file in pipeline.files.values()}
        if self._download_error is not None and digests.intersection(
            file.digest for file in self._bundles.missing(self._desired)
        ):
            return f"a model file is missing: {self._download_error}"
        return None

    def status(self) -> dict[str, Any]:
        """Return how the device is, as JSON's objects."""
        with self._guard:
            worker = self._worker()
            return {
                "device": self._identity.name,
                "url": self._identity.url,
                "software": f"driftline {__version__}",
                "started_ns": self._started_ns,
                "now_ns": self._clock.now_ns(),
                "clock": self._clock.banner,
                "synced_ns": self._synced_ns,
                "sync_error": self._sync_error,
                "hub_ahead_s": self._offset_s,
                "backlog": self._spool.backlog,
                "backlog_bytes": self._spool.waiting_bytes,
                "refused": self._refused,
                "revision": self._desired.revision,
                "names": {one.id: one.name for one in self._desired.pipelines},
                "pipelines": self._pipelines(worker),
                "sources": worker.get("sources") or {},
                "limits": worker.get("limits") or {},
                "serving": worker.get("serving"),
                "complete_until_ns": dict(self._complete_ns),
            }


class RequestNumbers:
    """Numbers for signed requests, kept in the spool's metadata.

    They follow the milliseconds of the machine's clock where that is ahead: a device whose spool was lost is then still
    believed, and one whose clock was set back goes on counting.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._reserved = int(spool.recall("request") or 0)
        self._last = self._reserved

    def next(self) -> int:
        """Return a number greater than all before it."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        if self._last >= self._reserved:
            self._reserved = self._last + NUMBERS_RESERVED
            self._spool.remember("request", str(self._reserved))
        return self._last


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
