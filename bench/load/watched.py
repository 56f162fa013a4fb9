"""A hub that people ask while it takes in what a fleet sends and scores a thousand standing assays every minute."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from sqlalchemy import func, select

from bench.load.fleet import FIELDS, Fleet, Loaded, load
from driftline.clock import NS_PER_S
from driftline.hub.store.assays import ANALYSES
from driftline.hub.store.database import Database

MINUTE_S = 60
# The first device sent rows of a month ago: it is not watched, or its month would be scored.
FIRST = 1
BASELINE = 300
# Between two requests of somebody who asks: ten a second.
PAUSE_S = 0.1


@dataclass(frozen=True)
class Scored:
    """What became of one minute: the answers it asked for, and how long after its end the last was stored."""

    answers: int
    took_s: float


@dataclass
class Asking:
    """Somebody who asks the API, one request after the other, and how long each answer took, by address."""

    url: str
    paths: Sequence[str]
    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    failures: list[str] = field(default_factory=list[str])

    @contextmanager
    def during(self) -> Iterator[None]:
        """Ask for as long as this lasts."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._ask, args=(stopping,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(30)

    def _ask(self, stopping: threading.Event) -> None:
        with httpx2.Client(base_url=self.url, trust_env=False, timeout=60) as http:
            at = 0
            while not stopping.wait(PAUSE_S):
                path = self.paths[at % len(self.paths)]
                at += 1
                began_s = time.perf_counter()
                reply = http.get(path)
                self.seconds.setdefault(path, []).append(time.perf_counter() - began_s)
                if reply.status_code != 200:
                    self.failures.append(f"{path}: {reply.status_code} {reply.text[:200]}")


def watching(fleet: Fleet, assays: int, devices: int) -> list[str]:
    """Upload so many assays, each on one field of the same devices, a window a minute from now on; return their ids."""
    start_ns = int(time.time()) // MINUTE_S * MINUTE_S * NS_PER_S
    values = np.random.default_rng(5).normal(10.0, 2.0, BASELINE).tolist()
    made: list[str] = []
    with httpx2.Client(base_url=fleet.hub.url + "/api/v1", trust_env=False, timeout=60) as http:
        pipeline = http.get(f"/pipelines/{fleet.pipeline}").raise_for_status().json()
        for number in range(assays):
            key = FIELDS[number % len(FIELDS)]
            spec: dict[str, Any] = {
                "name": f"assay-{number:04}",
                "pipeline": fleet.pipeline,
                "watched": [{"field": key, "iopath": key}],
                "baseline": {"values": {key: values}},
                "windows": {"width_s": MINUTE_S, "start_ns": start_ns},
                "devices": [f"camera-{at:04}" for at in range(FIRST, FIRST + devices)],
            }
            reply = http.post(f"/workspaces/{pipeline['workspace']}/assays", json=spec)
            made.append(str(reply.raise_for_status().json()["id"]))
    return made


def minutes(
    fleet: Fleet, place: Path | str, folder: Path, *, answers: int, devices: int, count: int, sent: int = 0
) -> list[Scored]:
    """Let the watched devices send each minute when it is over, so many times; `answers` are due for each.

    `sent` are the minutes they sent before.
    """
    watched = replace(fleet, senders=list(fleet.senders[FIRST : FIRST + devices]))
    found: list[Scored] = []
    with closing(Database(place)) as database:
        for number in range(sent, sent + count):
            ends_s = (time.time() // MINUTE_S + 1) * MINUTE_S
            time.sleep(max(0.0, ends_s - time.time()))
            load(watched.after(number, 1).plan(batches=1, windows=1, connections=devices), fleet.hub, folder)
            start_ns = int(ends_s - MINUTE_S) * NS_PER_S
            found.append(Scored(*_answered(database, start_ns, answers, ends_s)))
    return found


def _answered(database: Database, start_ns: int, answers: int, ends_s: float) -> tuple[int, float]:
    """Wait until the answers of a minute are stored, or the next one is over; return how many, and after how long."""
    asked = select(func.count()).select_from(ANALYSES).where(ANALYSES.c.start_ns == start_ns)
    asked = asked.where(ANALYSES.c.status.not_in(("Late", "NoData")))
    there = 0
    while there < answers and time.time() < ends_s + 2 * MINUTE_S - 5:
        time.sleep(0.5)
        with database.reading() as connection:
            there = int(connection.execute(asked).scalar_one())
    return there, time.time() - ends_s


def background(fleet: Fleet, folder: Path, *, seconds: float, rate: float, windows: int) -> "Background":
    """Begin to send batches of the other devices at a rate; the windows of the last minutes again and again."""
    batches = max(1, round(seconds * rate / len(fleet.senders)))
    # A connection over which nothing comes is ended by the hub.
    connections = min(16, len(fleet.senders))
    plan = fleet.plan(batches=batches, windows=windows, connections=connections, rate=rate, again=True)
    return Background(fleet, plan, folder)


class Background:
    """A load that runs beside something else."""

    def __init__(self, fleet: Fleet, plan: Any, folder: Path) -> None:
        self._loaded: list[Loaded] = []
        folder.mkdir(exist_ok=True)
        self._thread = threading.Thread(target=lambda: self._loaded.append(load(plan, fleet.hub, folder)))
        self._thread.start()

    def end(self) -> Loaded:
        """Wait for its end.

        Raises:
            RuntimeError: a request failed.
        """
        self._thread.join()
        (loaded,) = self._loaded
        if loaded.sent.failures:
            raise RuntimeError(f"{len(loaded.sent.failures)} requests failed: {loaded.sent.failures[0]}")
        return loaded
