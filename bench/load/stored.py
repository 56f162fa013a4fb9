"""A month of one assay over a large fleet, put where a hub keeps its answers, and what its pages then cost."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import numpy as np
from sqlalchemy import insert

from bench.load.fleet import FIELDS, RunningHub
from driftline.assay.analysis import Part, analyse, grid_for
from driftline.assay.baseline import BaselineData
from driftline.clock import NS_PER_S
from driftline.hub.store.assays import ANALYSES, PROGRESS
from driftline.hub.store.database import Database
from driftline.summary.arrays import of_values
from driftline.wire import api

DAY_NS = 86_400 * NS_PER_S
FIELD = FIELDS[0]
VALUES = 200
# Answers of as many different windows; more would only take longer to make.
DIFFERENT = 50
# One device in so many is in alarm.
ALERTING = 200
DEVICES_AT_ONCE = 200


@dataclass(frozen=True)
class Asked:
    """What asking for one page's data cost, in wall seconds and CPU seconds of the hub, and its size in bytes."""

    median_s: float
    cpu_s: float
    size: int


def made_assay(hub: RunningHub) -> api.Assay:
    """Make a pipeline and one assay that watches a field of it by day, switched off: what it answers is put in."""
    with httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False, timeout=60) as http:

        def post(path: str, document: Any) -> Any:
            reply = http.post(path, json=document)
            reply.raise_for_status()
            return reply.json()

        workspace = post("/workspaces", {"name": "month"})["id"]
        pipeline = post(f"/workspaces/{workspace}/pipelines", {"name": "till", "steps": []})["id"]
        values = np.random.default_rng(3).normal(10.0, 2.0, 2000)
        spec = {
            "name": "sharpness",
            "pipeline": pipeline,
            "watched": [{"field": FIELD, "iopath": "output value_0"}],
            "baseline": {"values": {FIELD: values.tolist()}},
            "windows": {"width_s": 86_400},
        }
        made = post(f"/workspaces/{workspace}/assays", spec)
        post(f"/assays/{made['id']}/off", {})
        return api.decode(http.get(f"/assays/{made['id']}").raise_for_status().content, api.Assay)


def fill(place: Path | str, assay: api.Assay, devices: int, days: int) -> int:
    """Put in what the assay answered on so many devices for so many days; return how many answers that is.

    `place` is a database as a hub is given it; the hub does nothing meanwhile.
    """
    now_ns = time.time_ns() // DAY_NS * DAY_NS
    starts = [now_ns - day * DAY_NS for day in range(days, 0, -1)]
    calm, alert = _answers(assay, 10.0, DIFFERENT), _answers(assay, 14.0, 1)[0]
    with closing(Database(place)) as database:
        for first in range(0, devices, DEVICES_AT_ONCE):
            some = range(first, min(devices, first + DEVICES_AT_ONCE))
            rows = [
                _row(
                    assay.id, alert if _alerts(at) and days - day <= 3 else calm[(at * 7 + day) % DIFFERENT], at, start
                )
                for at in some
                for day, start in enumerate(starts)
            ]
            told = {"next_ns": now_ns, "late_ns": now_ns, "end_ns": now_ns, "score": 0.01, "assay": assay.id}
            status = {at: "Alert" if _alerts(at) else "Ok" for at in some}
            with database.engine.begin() as connection:
                connection.execute(insert(ANALYSES), rows)
                connection.execute(
                    insert(PROGRESS), [told | {"device": _name(at), "status": status[at]} for at in some]
                )
    return devices * days


def asked(hub: RunningHub, path: str, times: int) -> Asked:
    """Ask for a page's data so many times, and once before that."""
    seconds: list[float] = []
    with httpx2.Client(base_url=hub.url, trust_env=False, timeout=60) as http:
        size = len(http.get(path).raise_for_status().content)
        before = hub.cpu_s()
        for _ in range(times):
            began_s = time.perf_counter()
            http.get(path).raise_for_status()
            seconds.append(time.perf_counter() - began_s)
        cpu_s = (hub.cpu_s() - before) / times
    return Asked(sorted(seconds)[times // 2], cpu_s, size)


def _answers(assay: api.Assay, mean: float, different: int) -> list[api.Analysis]:
    """Return what the assay really says of windows about this mean."""
    draw = np.random.default_rng(4)
    values = next(iter((assay.spec.baseline.values or {}).values()))
    baseline = BaselineData.of_values(np.asarray(values, np.float64))
    (watched,) = assay.spec.watched
    grid = grid_for(assay.spec, baseline, "float64")
    windows = [of_values(draw.normal(mean, 2.0, VALUES), grid) for _ in range(different)]
    read = [baseline.read([Part(summary=one, grid=grid)]) for one in windows]
    return [analyse(assay.spec, watched, baseline, one, device="", start_ns=0, end_ns=1, heard=True) for one in read]


def _row(assay: str, made: api.Analysis, at: int, start_ns: int) -> dict[str, Any]:
    end_ns = start_ns + DAY_NS
    told = msgspec.structs.replace(made, assay_id=assay, device=_name(at), start_ns=start_ns, end_ns=end_ns)
    key = {"assay": assay, "device": told.device, "field": told.field, "start_ns": start_ns, "end_ns": end_ns}
    said = {"status": told.status, "score": told.score, "level": (told.score or 0.0) / 0.25}
    flags = {"alarmed": told.status == "Alert", "wakes": True, "version": 1, "revision": 1}
    return key | said | flags | {"document": api.encode(told), "alarm_at": None, "state": None}


def _name(at: int) -> str:
    return f"camera-{at:05}"


def _alerts(at: int) -> bool:
    return at % ALERTING == 0
