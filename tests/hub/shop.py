"""A shop for tests: a real hub in a folder, devices that joined, and what they counted, written as ingest writes it."""

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints
from uuid import uuid4

import numpy as np
from sqlalchemy import insert, update

from driftline.clock import NS_PER_S, ManualClock, parse_iso
from driftline.hub import assays, fleet, grids, registry
from driftline.hub.core import Hub
from driftline.hub.http import Call
from driftline.hub.scorer import Round
from driftline.hub.server import open_hub
from driftline.hub.store.fleet import devices
from driftline.hub.store.registry import models, workspaces
from driftline.hub.store.telemetry import Incoming, Writing
from driftline.pipeline.schema import parse_schema
from driftline.summary.arrays import of_values
from driftline.summary.codec import encode
from driftline.summary.grid import UNIVERSAL
from driftline.summary.summary import CATEGORY_GRID_ID, CategorySummary
from driftline.wire import api
from driftline.wire.device import FieldSummary, RowsRecord, WindowRecord, encode_rows, encode_window

OPENS_S = parse_iso("2026-01-01T09:00:00+00:00") // NS_PER_S
MINUTE_S = 60


def ns(minutes: float) -> int:
    """Return the time so many minutes after the shop opens."""
    return (OPENS_S + round(minutes * MINUTE_S)) * NS_PER_S


def scene(camera: int, minute: int, *, blurred: bool = False) -> dict[str, Sequence[float]]:
    """Return what a camera's frames gave in a minute: each camera has a sharpness of its own."""
    random = np.random.default_rng([7, minute, camera])
    sharpness = random.lognormal(np.log(340 + 60 * camera), 0.18, 40)
    confidence = random.beta(14, 4, 40)
    light = random.normal(0.48, 0.03, 40)
    if blurred:
        sharpness, confidence = sharpness * 0.25, confidence * 0.8
    return {"out.sharpness": sharpness, "out.avg_confidence": confidence, "out.avg_px_intensity": light}


class Shop:
    """One workspace with one pipeline; time moves when told to. `assay` is what a test has saved, if anything."""

    assay: api.Assay

    def __init__(self, hub: Hub, clock: ManualClock) -> None:
        self.hub, self.clock = hub, clock
        self.workspace = str(uuid4())
        with hub.database.writing() as connection:
            connection.execute(
                insert(workspaces).values(id=self.workspace, name=f"shop-{self.workspace[:4]}", created_ns=ns(0))
            )
        self.model = self._model()
        self.pipeline = self.build("shelf-watch")
        self.sequence = 0

    @classmethod
    def open(cls, home: Path, database_url: str | None = None) -> "Shop":
        """Open a shop whose hub nobody can ask over the network."""
        clock = ManualClock(ns(0))
        return cls(open_hub(home, clock, database_url=database_url), clock)

    @classmethod
    def watched(cls, home: Path, database_url: str | None = None) -> "Shop":
        """Open a shop with half an hour behind it, whose one camera has an assay."""
        made = cls.open(home, database_url)
        made.device("camera-1")
        made.at(30)
        made.days(range(30), ("camera-1",))
        made.assay = made.save()
        return made

    def closed(self) -> "Shop":
        """Close the database, so that the shop can have twins; return the shop."""
        self.hub.database.close()
        return self

    def twin(self, home: Path, opens: Callable[[Path, ManualClock], Hub] = open_hub) -> "Shop":
        """Open a shop at `home` to which all has happened that happened to this one, whose database is closed.

        To copy a shop takes a tenth of the time in which one is made and its cameras count for an hour.
        """
        shutil.copytree(self.hub.home, home, dirs_exist_ok=True)
        made = copy.copy(self)
        made.clock = ManualClock(self.clock.now_ns())
        made.hub = opens(home, made.clock)
        return made

    def call(self, handler: Any, body: Any = None, query: Mapping[str, str] | None = None, **path: str) -> Any:
        """Call a route's handler as HTTP would."""
        declared = get_args(get_type_hints(handler)["call"])[0]
        if body is None and declared is not type(None):
            body = api.decode_query((query or {}).items(), declared)
        return handler(Call(self.hub, {"workspace": self.workspace, **path}, body, b"", None))

    def build(self, name: str) -> api.Pipeline:
        steps = [api.Step(model=self.model)]
        return self.call(registry.make_pipeline, api.NewPipeline(name=name, steps=steps))

    def _model(self) -> str:
        identity = str(uuid4())
        fields = {
            "input_schema": [{"name": "tensor", "type": "float32", "shape": [64]}],
            "output_schema": [
                {"name": name, "type": "float32", "shape": []}
                for name in ("sharpness", "avg_confidence", "avg_px_intensity")
            ]
            + [{"name": "scores", "type": "float32", "shape": [40]}, {"name": "label", "type": "string", "shape": []}],
        }
        for schema in fields.values():
            parse_schema(schema)
        with self.hub.database.writing() as connection:
            connection.execute(
                insert(models).values(
                    id=identity,
                    workspace=self.workspace,
                    name="shelf-detector",
                    version=str(uuid4()),
                    framework="onnx",
                    digest="0" * 64,
                    size=1,
                    status="ready",
                    created_ns=ns(0),
                    **fields,
                )
            )
        return identity

    def device(self, name: str, *, pipeline: api.Pipeline | None = None, **facts: Any) -> None:
        """Let a device join and run the pipeline."""
        pipeline = pipeline or self.pipeline
        now_ns = self.clock.now_ns()
        with self.hub.database.writing() as connection:
            row = fleet.ensure_device(connection, name, now_ns)
            told = {"key": b"k" * 32, "joined_ns": now_ns, "heard_ns": now_ns, "software": "0.0.1"} | facts
            connection.execute(update(devices).where(devices.c.id == row.id).values(**told))
            fleet.assign(connection, row, pipeline.id, pipeline.versions[0].id)

    def says(self, name: str, **facts: Any) -> None:
        """Change what a device last said of itself."""
        with self.hub.database.writing() as connection:
            connection.execute(update(devices).where(devices.c.name == name).values(**facts))

    def counts(
        self, device: str, minute: int, fields: Mapping[str, Sequence[Any]], *, rows: bool = False, heard: bool = True
    ) -> None:
        """Write one base window of a device: counts on the grids it has now, rows where asked, and how far it told."""
        self._write(device, self._records(minute, fields, rows=rows), minute + 1 if heard else None)

    def minutes(
        self, device: str, fields_by_minute: Mapping[int, Mapping[str, Sequence[float]]], *, until: float
    ) -> None:
        """Write many base windows of a device at once; it has told everything up to then."""
        records = [one for minute, fields in fields_by_minute.items() for one in self._records(minute, fields)]
        self._write(device, records, until)

    def heard(self, device: str, minutes: float) -> None:
        """Let a device have told everything up to so many minutes after opening."""
        self._write(device, [], minutes)

    def newest(self, device: str, minutes: Sequence[int], *, since: float, until: float, blurred: bool = False) -> None:
        """Write minutes that a device sent before older ones: it has told everything from `since` to `until`."""
        camera = int(device.rpartition("-")[2])
        records = [one for at in minutes for one in self._records(at, scene(camera, at, blurred=blurred))]
        self._write(device, records, until, since)

    def _write(self, device: str, records: Sequence[Incoming], heard: float | None, since: float | None = None) -> None:
        """Write as ingest does: everything that came at once in one transaction."""
        version, pipeline, telemetry = self.pipeline.versions[0].id, self.pipeline.id, self.hub.telemetry
        names = {device, "epoch", pipeline, version}
        for one in records:
            told = one.window or one.rows
            names |= set() if told is None else {one.pipeline, told.pipeline}
            names |= set() if one.window is None else {name for field in one.window.fields for name in field[:2]}
        telemetry.intern(names)
        with self.hub.database.writing() as connection:
            telemetry.write(connection, [Writing(device, "epoch", records)], self.clock.now_ns())
            if heard is not None:
                since_ns = None if since is None else ns(since)
                telemetry.write_complete(connection, {(device, pipeline, version): (ns(heard), since_ns)})
                told = {"heard_ns": self.clock.now_ns(), "complete_until_ns": {version: ns(heard)}}
                connection.execute(update(devices).where(devices.c.name == device).values(**told))

    def _records(self, minute: int, fields: Mapping[str, Sequence[Any]], *, rows: bool = False) -> list[Incoming]:
        start_s = OPENS_S + minute * MINUTE_S
        version = self.pipeline.versions[0].id
        inferences = max((len(values) for values in fields.values()), default=0)
        with self.hub.database.reading() as connection:
            chosen = grids.of_pipeline(connection, self.pipeline.id)
        summaries = tuple(self._counted(key, values, chosen.get(key)) for key, values in fields.items())
        window = WindowRecord(version, start_s, MINUTE_S, inferences, summaries)
        records = [self._incoming(encode_window(window), window=window)]
        if rows:
            times = [start_s * NS_PER_S + i * 60 * NS_PER_S // max(inferences, 1) for i in range(inferences)]
            columns = {key: ("f", [float(value) for value in values]) for key, values in fields.items()}
            log = RowsRecord(version, start_s, MINUTE_S, True, times, columns)
            records.append(self._incoming(encode_rows(log), rows=log))
        return records

    def _counted(self, key: str, values: Sequence[Any], grid_id: str | None) -> FieldSummary:
        if any(isinstance(value, str) for value in values):
            return FieldSummary(key, CATEGORY_GRID_ID, encode(CategorySummary.of(values)))
        grid = UNIVERSAL if grid_id is None else grids.edges(self.hub, grid_id)
        return FieldSummary(key, grid.id, encode(of_values(values, grid, float32=True)))

    def _incoming(self, data: bytes, **what: Any) -> Incoming:
        self.sequence += 1
        return Incoming(self.sequence, data, self.pipeline.id, **what)

    def days(
        self,
        minutes: Sequence[int],
        names: Sequence[str] = ("camera-1", "camera-2", "camera-3"),
        *,
        blurred: str | None = None,
        rows: bool = False,
    ) -> None:
        """Write ordinary minutes of several cameras; the blurred one's sharpness falls to a quarter."""
        for name in names:
            records: list[Incoming] = []
            for minute in minutes:
                fields = scene(int(name.rpartition("-")[2]), minute, blurred=name == blurred)
                records += self._records(minute, fields, rows=rows)
            self._write(name, records, minutes[-1] + 1)

    def spec(self, name: str = "sharpness", *fields: str, **changes: Any) -> api.AssaySpec:
        """Return a question about 3-minute windows, each camera against its own first half hour."""
        facts: dict[str, Any] = {
            "name": name,
            "pipeline": self.pipeline.id,
            "watched": [api.Watched(field=field, iopath=field) for field in fields or ("out.sharpness",)],
            "baseline": api.Baseline(start_ns=ns(0), end_ns=ns(30)),
            "windows": api.Windows(width_s=180),
        }
        return api.AssaySpec(**(facts | changes))

    def save(self, *args: Any, **changes: Any) -> api.Assay:
        return assays.save(self.hub, self.workspace, self.spec(*args, **changes))

    def at(self, minutes: float) -> None:
        """Let it be so many minutes after opening."""
        self.clock.set(ns(minutes))

    def look(self, one: Round | None = None) -> None:
        """Let the scorer look, as that of a running hub would, until nothing is left."""
        one = one or Round(self.hub)
        while one.run():
            pass
