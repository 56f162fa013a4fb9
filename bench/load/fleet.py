"""A real hub in a process of its own, and devices that have joined it over its API."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np

from bench.footprint.figures import cpu_s
from bench.load.generator import Plan, Sender, Sent
from driftline.clock import NS_PER_S
from driftline.wire import device as wire

FIELDS = tuple(f"out.value_{number}" for number in range(5))
# The hub learns a field's grid from its first thousand values.
ROWS = 1100


@dataclass(frozen=True)
class RunningHub:
    """A `driftline up` on loopback: where it answers, and its process."""

    url: str
    home: Path
    process: "subprocess.Popen[bytes]"

    def cpu_s(self) -> float:
        """Return the CPU seconds the hub's own process has taken so far."""
        return cpu_s(self.process.pid)


@contextmanager
def running_hub(home: Path, **environment: str) -> Iterator[RunningHub]:
    """Start `driftline up` on a new home, and stop it."""
    log = home.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "driftline.cli", "up", "--home", str(home), "--port", "0"],
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield RunningHub(_url(process, log), home, process)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.kill()
        process.wait()


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        said = [line for line in text.splitlines() if line.startswith("driftline hub at ")]
        if said:
            return said[0].split()[3]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"driftline up did not start: {log.read_text(errors='replace')}")


@dataclass(frozen=True)
class Fleet:
    """Devices of one pipeline whose fields have learned grids."""

    hub: RunningHub
    version: str
    pipeline: str
    grids: Mapping[str, Sequence[float]]
    senders: Sequence[Sender]

    def after(self, batches: int, windows: int) -> "Fleet":
        """Return these devices as they are when each has sent so many batches more."""
        return replace(
            self,
            senders=[
                replace(one, sequence=one.sequence + batches * windows, request=one.request + batches)
                for one in self.senders
            ],
        )

    def plan(
        self, *, batches: int, windows: int, connections: int, rate: float | None = None, again: bool = False
    ) -> Plan:
        """Plan so many batches a device, of windows that end before now; `again`: all of the same windows."""
        place = urlsplit(self.hub.url)
        span_s = (1 if again else batches) * windows * wire.BASE_WINDOW_S
        start_s = (int(time.time()) - span_s) // wire.BASE_WINDOW_S * wire.BASE_WINDOW_S
        grids = {key: list(edges) for key, edges in self.grids.items()}
        return Plan(
            str(place.hostname), int(place.port or 0), self.version, start_s, windows, batches, connections, grids,
            list(self.senders), rate, again,
        )  # fmt: skip


def fleet(hub: RunningHub, devices: int) -> Fleet:
    """Join so many devices over the API; the first sends the rows from which the hub learns its grids."""
    with httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False, timeout=60) as http:

        def post(path: str, document: Mapping[str, Any]) -> Any:
            reply = http.post(path, json=document)
            reply.raise_for_status()
            return reply.json()

        workspace = post("/workspaces", {"name": "load"})["id"]
        pipeline = post(f"/workspaces/{workspace}/pipelines", {"name": "till", "steps": []})
        version = pipeline["versions"][0]["id"]
        publish = post(f"/pipelines/{pipeline['id']}/publish", {})["id"]
        senders: list[Sender] = []
        for number in range(devices):
            token = post(f"/publishes/{publish}/edges", {"name": f"camera-{number:04}"})["token"]
            joined = post("/join", {"secret": wire.JoinToken.parse(token).secret, "software": "load"})
            senders.append(Sender(joined["device"], joined["key"], f"epoch-{number:04}"))
        senders[0] = _learned(http, senders[0], version)
        known = [_synced(http, sender) for sender in senders]
        grids = known[0][1]
        if set(grids) != set(FIELDS):
            raise RuntimeError(f"the hub learned the grids of {sorted(grids)} only")
        return Fleet(hub, version, pipeline["id"], grids, [sender for sender, _ in known])


def _learned(http: httpx2.Client, sender: Sender, version: str) -> Sender:
    """Send the rows from which grids are learned, of a month ago, out of the way of what is measured."""
    values = np.random.default_rng(2).normal(10.0, 2.0, (len(FIELDS), ROWS))
    start_s = (int(time.time()) // wire.BASE_WINDOW_S - 30 * 1440) * wire.BASE_WINDOW_S
    times_ns = [start_s * NS_PER_S + at * 10_000_000 for at in range(ROWS)]
    columns: Any = {key: ("d", row.tolist()) for key, row in zip(FIELDS, values, strict=True)}
    rows = wire.RowsRecord(version, start_s, wire.BASE_WINDOW_S, True, times_ns, columns)
    return _synced(http, sender, wire.Record(1, "rows", wire.encode_rows(rows)))[0]


def _synced(http: httpx2.Client, sender: Sender, *records: wire.Record) -> tuple[Sender, dict[str, Sequence[float]]]:
    """Sync once; return how the device goes on, and the edges on which it is to count each field."""
    number = sender.request + 1
    body = wire.encode_batch(wire.BatchHead(sender.id, sender.epoch, previous=sender.request), records)
    signed = wire.signed_headers(sender.id, bytes.fromhex(sender.key), "POST", wire.SYNC_PATH, number, body)
    reply = http.post("/sync", content=body, headers=dict(signed))
    reply.raise_for_status()
    told = wire.decode_reply(reply.content)
    if told.desired is None:
        raise RuntimeError("the hub did not say what the device should run")
    running = told.desired.pipelines[0]
    grids = {key: told.desired.grids[grid_id] for key, grid_id in running.grids.items()}
    sequence = sender.sequence + len(records)
    return replace(sender, sequence=sequence, request=number, revision=told.revision), grids


@dataclass(frozen=True)
class Loaded:
    """What a load did: what the generator says, and the CPU seconds the hub took meanwhile."""

    sent: Sent
    hub_cpu_s: float


def load(plan: Plan, hub: RunningHub, folder: Path) -> Loaded:
    """Run a plan in a process of its own."""
    path = folder / "plan.json"
    path.write_text(json.dumps(asdict(plan)))
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load.generator", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None or process.stdout.readline().strip() != "ready":
        raise RuntimeError("the load generator did not get ready; its error stands above")
    before = hub.cpu_s()
    process.stdin.write("go\n")
    process.stdin.flush()
    said = process.stdout.readline()
    after = hub.cpu_s()
    process.wait(30)
    return Loaded(Sent(**json.loads(said)), after - before)
