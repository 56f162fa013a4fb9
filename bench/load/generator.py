"""Sends what a fleet would: `python -m bench.load.generator PLAN`, a process of its own.

PLAN is a JSON file, see `Plan`. Every batch is made and signed before the first is sent, and every reply is read after
the last came, so that sending costs as little as it can. Each connection sends the next batch when the reply to the
one before is there; a device's batches go in order, over one connection. Prints `Sent` as one line of JSON.
"""

import json
import random
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from driftline.summary.codec import encode
from driftline.summary.grid import Grid
from driftline.summary.summary import Tally
from driftline.wire.device import (
    BASE_WINDOW_S,
    SYNC_PATH,
    BatchHead,
    FieldSummary,
    Record,
    WindowRecord,
    decode_reply,
    encode_batch,
    encode_window,
    signed_headers,
)

# As many values as a camera gives in a minute at one a second.
VALUES = 60
# Different summaries of each field; more would only take longer to make.
SUMMARIES = 200


@dataclass(frozen=True)
class Sender:
    """A device of the load: who it is, which desired state it has, and where its records and requests go on."""

    id: str
    key: str
    epoch: str
    sequence: int = 0
    request: int = 0
    revision: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be sent: `batches` of `windows` windows each by every sender, over so many connections.

    `grids` are the edges on which each field is counted. `rate` is in batches a second, None as fast as replies come.
    With `again` every batch is of the same windows, and else each goes on where the one before ended.
    """

    host: str
    port: int
    version: str
    start_s: int
    windows: int
    batches: int
    connections: int
    grids: dict[str, list[float]]
    senders: list[Sender]
    rate: float | None = None
    again: bool = False


@dataclass(frozen=True)
class Sent:
    """What came of it: replies that acknowledged everything, and the seconds each took, from first byte to last."""

    requests: int
    acknowledged: int
    wall_s: float
    cpu_s: float
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def made(plan: Plan) -> list[list[tuple[bytes, int]]]:
    """Make every request, by connection, with the number of the last record that its reply has to acknowledge."""
    draw = random.Random(1)
    grids = {key: Grid(tuple(edges)) for key, edges in plan.grids.items()}
    pool = {key: [_summary(key, grid, draw) for _ in range(SUMMARIES)] for key, grid in grids.items()}
    queues: list[list[tuple[bytes, int]]] = [[] for _ in range(plan.connections)]
    for batch in range(plan.batches):
        for at, sender in enumerate(plan.senders):
            start_s = plan.start_s + (0 if plan.again else batch * plan.windows * BASE_WINDOW_S)
            records = [
                Record(
                    sender.sequence + batch * plan.windows + number + 1,
                    "window",
                    encode_window(
                        WindowRecord(
                            plan.version,
                            start_s + number * BASE_WINDOW_S,
                            BASE_WINDOW_S,
                            VALUES,
                            tuple(draw.choice(each) for each in pool.values()),
                        )
                    ),
                )
                for number in range(plan.windows)
            ]
            until_ns = (start_s + plan.windows * BASE_WINDOW_S) * 1_000_000_000
            head = BatchHead(
                sender.id,
                sender.epoch,
                revision=sender.revision,
                software="driftline load",
                complete_until_ns={plan.version: until_ns},
                pipelines={plan.version: "running"},
                previous=sender.request + batch,
            )
            request = _request(plan, sender, sender.request + batch + 1, encode_batch(head, records))
            queues[at % plan.connections].append((request, records[-1].sequence))
    return queues


def _summary(key: str, grid: Grid, draw: random.Random) -> FieldSummary:
    tally = Tally(grid)
    for _ in range(VALUES):
        tally.add(draw.gauss(10.0, 2.0))
    return FieldSummary(key, grid.id, encode(tally.summary()))


def _request(plan: Plan, sender: Sender, number: int, body: bytes) -> bytes:
    signed = signed_headers(sender.id, bytes.fromhex(sender.key), "POST", SYNC_PATH, number, body)
    headers = {"Host": f"{plan.host}:{plan.port}", "Content-Length": str(len(body))} | dict(signed)
    lines = [f"POST {SYNC_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """One connection, and what it has yet to send; it never waits."""

    def __init__(self, plan: Plan, queue: Sequence[tuple[bytes, int]]) -> None:
        self.socket = socket.create_connection((plan.host, plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._queue = list(reversed(queue))
        self._got = bytearray()
        self._began = 0.0
        self._last = 0
        self.replies: list[tuple[bytes, int]] = []
        self.latencies_s: list[float] = []

    def send(self) -> bool:
        """Send the next batch; False where there is none."""
        if not self._queue:
            return False
        request, self._last = self._queue.pop()
        self._began = time.perf_counter()
        self.socket.sendall(request)
        return True

    def receive(self) -> bool:
        """Take what came; say whether the reply is whole."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the hub hung up")
        self._got += part
        head, found, body = bytes(self._got).partition(b"\r\n\r\n")
        if not found:
            return False
        sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) < int(sizes[0].partition(b":")[2]):
            return False
        self.latencies_s.append(time.perf_counter() - self._began)
        self.replies.append((bytes(self._got), self._last))
        self._got.clear()
        return True


def sent(plan: Plan) -> Sent:
    """Send everything, and say what came of it."""
    connections = [Connection(plan, queue) for queue in made(plan)]
    selector = selectors.DefaultSelector()
    for one in connections:
        selector.register(one.socket, selectors.EVENT_READ, one)
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    _run(plan, selector, connections, began)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    replies = [reply for one in connections for reply in one.replies]
    failures = [why for why in map(_failure, replies) if why]
    latencies = [round(seconds, 5) for one in connections for seconds in one.latencies_s]
    return Sent(len(replies), len(replies) - len(failures), wall_s, cpu_s, latencies, failures[:5])


def _run(plan: Plan, selector: selectors.BaseSelector, connections: Sequence[Connection], began: float) -> None:
    waiting = list(connections)
    under_way, started = 0, 0
    while waiting or under_way:
        while waiting and (plan.rate is None or started / plan.rate <= time.perf_counter() - began):
            if waiting.pop(0).send():
                started += 1
                under_way += 1
        pause_s = None if plan.rate is None or not waiting else max(0.0, began + started / plan.rate - _now())
        for key, _ in selector.select(pause_s) if under_way else ():
            one: Any = key.data
            if one.receive():
                under_way -= 1
                waiting.append(one)
        if not under_way and waiting and pause_s:
            time.sleep(pause_s)


def _now() -> float:
    return time.perf_counter()


def _failure(reply: tuple[bytes, int]) -> str | None:
    """Say what is wrong with a reply."""
    raw, last = reply
    head, _, body = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return raw.decode(errors="replace")[-600:]
    told = decode_reply(body)
    if told.acknowledged != last or told.refused or told.conflicts:
        return f"acknowledged {told.acknowledged} of {last}; refused {dict(list(told.refused.items())[:1])}"
    return None


def main() -> None:
    """Run the plan of the file that is named."""
    document = json.loads(Path(sys.argv[1]).read_text())
    plan = Plan(**document | {"senders": [Sender(**one) for one in document["senders"]]})
    print(json.dumps(asdict(sent(plan))), flush=True)


if __name__ == "__main__":
    main()
