"""Assays: questions ready to be asked, looked at before they run, saved as standing ones, and listed."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote

import pandas as pd

from driftline.charts.histogram import histogram
from driftline.clock import iso
from driftline.errors import DriftlineError, InvalidInputError
from driftline.pipeline.iopath import resolver, spelled, whole_of
from driftline.sdk import baseline, health, preview
from driftline.sdk.alarm import Fixed, Promise, message_of, told
from driftline.sdk.analysis import AssayAnalysis, AssayAnalysisList
from driftline.sdk.chart import Chart
from driftline.sdk.health import Health
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.me import myself
from driftline.sdk.pipeline import Pipeline
from driftline.sdk.preview import Preview
from driftline.sdk.text import Text
from driftline.sdk.times import Moment, duration_s, from_ns, to_ns_or_none
from driftline.wire import api

# A preview of months on many devices is a long answer, not a failure.
_RUN_TIMEOUT_S = 600.0


class AssayConfig:
    """A question ready to be asked. The hub works out every answer."""

    def __init__(self, connection: Connection, workspace: str, spec: api.AssaySpec) -> None:
        self._connection = connection
        self._workspace = workspace
        self.spec = spec

    @property
    def name(self) -> Text:
        """The assay's name."""
        return Text(self.spec.name)

    @property
    def fields(self) -> list[str]:
        """The keys of the fields it watches, such as `out.avg_confidence`."""
        return [one.field for one in self.spec.watched]

    def interactive_run(self) -> AssayAnalysisList:
        """Answer for every complete window up to now (or `run_until`) by start, device and field; store nothing."""
        path = f"/workspaces/{quote(self._workspace)}/assays/run"
        run = self._connection.post(path, self.spec, api.AssayRun, timeout_s=_RUN_TIMEOUT_S)
        for note in run.notes:
            print(f"Note: {note}.")
        return _analyses(run.analyses, run.baselines, self.spec, run.notes)

    def upload(self) -> str:
        """Save the assay and start its scheduled runs; returns its id.

        Raises:
            ConflictError: the workspace has an assay of this name.
        """
        path = f"/workspaces/{quote(self._workspace)}/assays"
        assay = self._connection.post(path, self.spec, api.Assay, timeout_s=_RUN_TIMEOUT_S)
        for note in assay.notes:
            print(f"Note: {note}.")
        return assay.id

    @cached_property
    def baselines(self) -> Sequence[api.BaselineStats]:
        """What windows are compared with, in numbers, for each device (None: one serves all) and field."""
        path = f"/workspaces/{quote(self._workspace)}/assays/baseline"
        return _in_order(self._connection.post_items(path, self.spec, api.BaselineStats), self.fields)

    def baseline_health(self) -> Listing[Health]:
        """Say by device and field whether the baseline is enough for the promise, why, and what it lacks."""
        return health.listing(health.health_of(stats, self.spec.alarm) for stats in self.baselines)

    def preview(self, within: int = 20) -> Preview:
        """Say what the assay would do: alarms over the past, and the least shift it finds within so many windows."""
        return preview.ask(self._connection, self._workspace, self.spec, within)

    def baseline_dataframe(self) -> pd.DataFrame:
        """Return the baseline: a row a value, under the field's name (`output_avg_confidence_0`) and its `device`.

        Where the hub has counts and no values, a row a bin: `device`, `field`, `bin`, `edge` (right) and `share`.
        """
        by_device: dict[str | None, list[pd.DataFrame]] = {}
        counted: list[pd.DataFrame] = []
        for stats in self.baselines:
            if stats.values is None:  # noqa: PD011  a message, not a Series
                counted.append(_bins_frame(stats))
            else:
                by_device.setdefault(stats.device, []).append(self._values_frame(stats))
        frames = [_side_by_side(device, columns) for device, columns in by_device.items()]
        return pd.concat([*frames, *counted], ignore_index=True)

    def baseline_histogram(self, device: str | None = None, field: str | None = None) -> Chart:
        """Draw the baseline; where each device has its own, say which, and which field where there are several.

        Raises:
            InvalidInputError: there are several baselines and none was named, or there is none of these.
        """
        found = [
            stats
            for stats in self.baselines
            if (device is None or stats.device == device) and (field is None or self._is(stats.field, field))
        ]
        if len(found) != 1:
            names = ", ".join(health.stream_name(one.device, one.field) for one in found or self.baselines)
            raise InvalidInputError(
                f"there is a baseline for each of {names}; give baseline_histogram(device=…, field=…)"
            )
        return Chart(histogram(found[0], field=found[0].field))

    def _is(self, field: str, text: str) -> bool:
        return text == field or any(one.field == field and one.iopath == text for one in self.spec.watched)

    def _values_frame(self, stats: api.BaselineStats) -> pd.DataFrame:
        iopath = next((one.iopath for one in self.spec.watched if one.field == stats.field), stats.field)
        given = stats.values  # noqa: PD011  a message, not a Series
        kind = object if any(isinstance(one, str) for one in given or []) else float
        values: Any = pd.Series(given, dtype=kind)
        return pd.DataFrame({"_".join(iopath.replace(".", " ").split()): values})

    def __repr__(self) -> str:
        return f"<assay {self.spec.name!r} on {_iopaths(self.spec)}, not saved>"

    def _repr_html_(self) -> str:
        return card(
            _facts(self.spec, _score_in_words(self._connection, self.spec))
            | {"Baseline health": self._health_in_words()}
        )

    def _health_in_words(self) -> str:
        if isinstance(self.spec.alarm, api.Fixed):
            return "a fixed threshold promises nothing; see baseline_health()"
        try:
            return " · ".join(map(str, self.baseline_health()))
        except DriftlineError as error:  # to be shown is not to be asked: the card says what is wrong
            return str(error)


class Assay:
    """A standing assay of the hub."""

    def __init__(self, connection: Connection, facts: api.Assay) -> None:
        self._connection = connection
        self._facts = facts

    @property
    def id(self) -> Text:
        """Its id on the hub."""
        return Text(self._facts.id)

    @property
    def name(self) -> Text:
        """Its name."""
        return Text(self._facts.spec.name)

    @property
    def active(self) -> bool:
        """Whether it is scored on schedule."""
        return self._facts.active

    @property
    def created(self) -> datetime:
        """When it was saved."""
        return from_ns(self._facts.created_ns)

    @property
    def spec(self) -> api.AssaySpec:
        """The question, as the hub keeps it."""
        return self._facts.spec

    @property
    def fields(self) -> list[str]:
        """The keys of the fields it watches, such as `out.avg_confidence`."""
        return [one.field for one in self.spec.watched]

    @property
    def notes(self) -> list[str]:
        """What should be known about it."""
        return list(self._facts.notes)

    def results(
        self,
        start: Moment | None = None,
        end: Moment | None = None,
        device: str | None = None,
        field: str | None = None,
    ) -> AssayAnalysisList:
        """Return the stored answers whose windows begin in [start, end), by window start, device and field."""
        found = self._connection.items(
            f"/assays/{self._facts.id}/analyses",
            api.Analysis,
            start_ns=to_ns_or_none(start, "start"),
            end_ns=to_ns_or_none(end, "end"),
            device=device,
            field=field,
        )
        return AssayAnalysisList(
            [AssayAnalysis(one, lambda: self.baselines, self.spec.summarizer) for one in found], self._facts.notes
        )

    @staticmethod
    def find(connection: Connection, assay_id: str) -> "Assay":
        """Return the standing assay of this id.

        Raises:
            EntityNotFoundError: there is none.
        """
        return Assay(connection, connection.get(f"/assays/{quote(str(assay_id), safe='')}", api.Assay))

    @property
    def baseline_version(self) -> int:
        """How many baselines it has had; the newest has this number."""
        return self._facts.baseline_version

    @property
    def baselines(self) -> Sequence[api.BaselineStats]:
        """What its windows are compared with, frozen when it was taken: a device and field each, or one for all."""
        return _in_order(self._connection.items(f"/assays/{self._facts.id}/baselines", api.BaselineStats), self.fields)

    def baseline_versions(self) -> list[api.BaselineVersion]:
        """List the baselines it has had, the first one first, and from when on windows are compared with each."""
        return Listing(
            self._connection.items(f"/assays/{self._facts.id}/baselines/versions", api.BaselineVersion),
            ("Version", "For windows from", "Taken", "Devices", "Baseline"),
            lambda one: (
                one.version,
                iso(one.from_ns),
                iso(one.created_ns),
                ", ".join(one.devices) or "all",
                _baseline_in_words(one.baseline),
            ),
        )

    def baseline_health(self) -> Listing[Health]:
        """Say what its baseline carries; see `AssayConfig.baseline_health`."""
        return health.listing(health.health_of(stats, self.spec.alarm) for stats in self.baselines)

    def set_baseline(
        self,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        device: str | None = None,
        data: object = None,
        season: str | None = None,
        incident: object = None,
    ) -> Self:
        """Compare windows that begin where it ends, or later, with another baseline; the evidence starts again.

        Earlier windows keep their answers. Give `start` and `end` (each device's own range, or that of one `device` for
        all; `season` "day" or "week"); or `data` as `build_assay` takes it, which is for windows from now on; or an
        `incident`: then what its device (`device`, where it is about several) saw since it alarmed is the new usual of
        that device, and the others keep their baselines, evidence and incidents.

        Raises:
            InvalidInputError: not exactly one of them, or no baseline can be made of it.
        """
        if incident is None:
            asked = api.NewBaseline(baseline=self._asked_baseline(data, start, end, device, season))
        elif any(one is not None for one in (start, end, data, season)):
            raise InvalidInputError("give either incident=, or start and end, or data; an incident has its own range")
        else:
            asked = api.NewBaseline(incident=str(getattr(incident, "id", incident)), device=device)
        path = f"/assays/{self._facts.id}/baselines"
        self._facts = self._connection.post(path, asked, api.Assay, timeout_s=_RUN_TIMEOUT_S)
        for note in self._facts.notes:
            print(f"Note: {note}.")
        return self

    def _asked_baseline(
        self, data: object, start: Moment | None, end: Moment | None, device: str | None, season: object
    ) -> api.Baseline:
        if data is None and (start is None or end is None):
            raise InvalidInputError(
                "set_baseline() needs a baseline to compare with: give start= and end=, or data= (a file, an array, a "
                "table), or incident="
            )
        given = baseline.in_time(data, start, end, device, season)
        if given is not None:
            return given
        pipeline = self._connection.get(f"/pipelines/{quote(self.spec.pipeline)}", api.Pipeline)
        find = resolver(pipeline.versions[0].definition, vectors=True)
        found = [(one.iopath, find(one.iopath)) for one in self.spec.watched]
        # What is made of a vector is asked for as the vector.
        keys = [field.key for _, field in found]
        iopaths = [spelled(field) if field.part else whole_of(field.key, keys) or iopath for iopath, field in found]
        return baseline.of_data(data, {iopath: find(iopath) for iopath in iopaths})

    def preview(self, within: int = 20) -> Preview:
        """Say what it did since its newest baselines, and what it would find; see `AssayConfig.preview`."""
        return preview.ask_saved(self._connection, self._facts.id, within)

    def edit(
        self,
        *,
        alarm: Fixed | Promise | None = None,
        width: timedelta | str | None = None,
        interval: timedelta | str | None = None,
        time_zone: str | None = None,
        opening_hours: str | None = None,
        min_count: int | None = None,
        run_until: Moment | None = None,
        note: str = "",
    ) -> Self:
        """Let it ask something else of the windows that have not ended yet; what is not given stays.

        Answers that are there stay and keep the version they were given under; the evidence begins again, and open
        incidents are over. A new `width` alone makes windows follow one another. A `time_zone` or `opening_hours` of ''
        are those of each device's site again. `note` says why.

        Raises:
            InvalidInputError: it cannot be asked, or no baseline carries the promise; everything is then as it was.
        """
        asked = api.AssayEdit(note=note, by=myself())
        if alarm is not None:
            asked.alarm = message_of(alarm)
        if width is not None or interval is not None:
            windows = self.spec.windows
            width_s = windows.width_s if width is None else duration_s(width, "width", "3 minutes")
            interval_s = None if interval is None else duration_s(interval, "interval", "3 minutes")
            asked.windows = api.Windows(width_s=width_s, interval_s=interval_s)
        if time_zone is not None or opening_hours is not None:
            calendar = self.spec.calendar
            hours = calendar.opening_hours if opening_hours is None else opening_hours or None
            zone = calendar.time_zone if time_zone is None else time_zone or None
            asked.calendar = api.Calendar(time_zone=zone, opening_hours=hours)
        if min_count is not None:
            asked.min_count = min_count
        if run_until is not None:
            asked.run_until_ns = to_ns_or_none(run_until, "run_until")
        path = f"/assays/{self._facts.id}/edit"
        self._facts = self._connection.post(path, asked, api.Assay, timeout_s=_RUN_TIMEOUT_S)
        for said in self._facts.notes:
            print(f"Note: {said}.")
        return self

    def history(self) -> list[api.Edition]:
        """List how it was edited, the first time first: who, when, from what to what, and for which windows."""
        return Listing(
            self._connection.items(f"/assays/{self._facts.id}/history", api.Edition),
            ("Version", "When", "Who", "What", "For windows from", "Why"),
            lambda one: (
                one.version,
                iso(one.at_ns),
                one.actor,
                "; ".join(f"{name}: {one.before.get(name)} → {value}" for name, value in one.after.items()),
                "the beginning" if one.from_ns is None else iso(one.from_ns),
                one.note,
            ),
        )

    def clone(
        self,
        name: str,
        *,
        pipeline: Pipeline | str | None = None,
        baseline_start: Moment | None = None,
        baseline_end: Moment | None = None,
        baseline_device: str | None = None,
        baseline_season: str | None = None,
    ) -> "Assay":
        """Save a copy of it under another name, which begins with the next window; returns the copy.

        It compares with the very baselines that this one compares with now. For another `pipeline` (or its id), or with
        a baseline in time of its own, it is asked anew, as `upload()` does.

        Raises:
            ConflictError: the workspace has an assay of this name.
            InvalidInputError: the other pipeline has no such field, or saw nothing in the time of the baseline.
        """
        given = (baseline_start, baseline_end, baseline_device, baseline_season)
        asked = api.NewClone(
            name=name,
            pipeline=None if pipeline is None else str(getattr(pipeline, "id", pipeline)),
            baseline=None if given == (None,) * 4 else baseline.in_time(None, *given),
        )
        made = self._connection.post(f"/assays/{self._facts.id}/clone", asked, api.Assay, timeout_s=_RUN_TIMEOUT_S)
        for note in made.notes:
            print(f"Note: {note}.")
        return Assay(self._connection, made)

    def remove(self) -> None:
        """Remove it with its answers and baselines; its incidents are resolved and stay, with what happened to them."""
        self._connection.send("DELETE", f"/assays/{self._facts.id}")

    def set_active(self, *, active: bool) -> Self:
        """Start or stop its scheduled runs; answers stay."""
        self._facts = self._connection.post(f"/assays/{self._facts.id}/{'on' if active else 'off'}", {}, api.Assay)
        return self

    def turn_on(self) -> Self:
        """Start its scheduled runs; windows that passed while it was off are answered, too."""
        return self.set_active(active=True)

    def turn_off(self) -> Self:
        """Stop its scheduled runs; answers stay, and its open incidents are resolved."""
        return self.set_active(active=False)

    def info(self) -> pd.DataFrame:
        """Return what it is as a row; under a promise there are no thresholds, and `false_alarm_every_s` says it."""
        alarm, pipeline = self.spec.alarm, f"/pipelines/{quote(self.spec.pipeline)}"
        fixed = alarm if isinstance(alarm, api.Fixed) else None
        facts = {
            "id": str(self.id),
            "name": str(self.name),
            "active": self.active,
            "warning_threshold": fixed and fixed.warning,
            "alert_threshold": fixed and fixed.threshold,
            "pipeline_name": self._connection.get(pipeline, api.Pipeline).name,
            "iopath": ", ".join(one.iopath for one in self.spec.watched),
            "width_s": self.spec.windows.width_s,
            "interval_s": self.spec.windows.interval_s or self.spec.windows.width_s,
            "false_alarm_every_s": alarm.false_alarm_every_s if isinstance(alarm, api.Promise) else None,
            "created": iso(self._facts.created_ns),
        }
        return pd.DataFrame([facts])

    def __repr__(self) -> str:
        return f"<assay {self.name!r} on {_iopaths(self.spec)}, {'active' if self.active else 'off'}>"

    def _repr_html_(self) -> str:
        return card(
            _facts(self.spec, _score_in_words(self._connection, self.spec)) | {"Id": self.id, "Active": self.active}
        )


def listing(assays: Iterable[Assay]) -> Listing[Assay]:
    """Return assays as a list that a notebook shows as a table."""
    return Listing(
        assays,
        ("Name", "Fields", "Alarm", "Active", "Id"),
        lambda one: (one.name, ", ".join(one.fields), told(one.spec.alarm), one.active, one.id),
    )


def _analyses(
    analyses: Sequence[api.Analysis], stats: Sequence[api.BaselineStats], spec: api.AssaySpec, notes: Sequence[str]
) -> AssayAnalysisList:
    return AssayAnalysisList([AssayAnalysis(one, lambda: stats, spec.summarizer) for one in analyses], notes)


def _in_order(found: Sequence[api.BaselineStats], fields: Sequence[str]) -> Sequence[api.BaselineStats]:
    """Sort baselines by device, then as the assay names its fields; what is made of a vector stands in its place."""

    def place(one: api.BaselineStats) -> tuple[str, int]:
        return one.device or "", next(at for at, key in enumerate(fields) if f"{one.field}.".startswith(f"{key}."))

    return sorted(found, key=place)


def _side_by_side(device: str | None, columns: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(columns, axis=1)
    if device is not None:
        frame.insert(0, "device", device)
    return frame


def _bins_frame(stats: api.BaselineStats) -> pd.DataFrame:
    facts = {"device": stats.device, "field": stats.field, "bin": stats.labels, "share": stats.shares}
    frame = pd.DataFrame(facts)
    # A category's bins have no edges.
    edges = [*stats.edges, float("inf")] if stats.edges else [float("nan")] * len(stats.labels)
    frame.insert(3, "edge", edges)
    return frame


def _iopaths(spec: api.AssaySpec) -> str:
    return ", ".join(repr(one.iopath) for one in spec.watched)


def _baseline_in_words(given: api.Baseline) -> str:
    values, vectors = given.values or {}, given.vectors or {}  # noqa: PD011  a message, not a Series
    if values or vectors:
        told = [f"{len(one)} values of {field}" for field, one in values.items()]
        told += [f"{len(one.data) // (4 * one.size)} vectors of {field}" for field, one in vectors.items()]
        return ", ".join(told)
    of = f"{from_ns(given.start_ns or 0).isoformat()} to {from_ns(given.end_ns or 0).isoformat()}"
    device = "" if given.device is None else f" on {given.device}"
    return of + device + ("" if given.season is None else f", by {_SEASONS[given.season]}")


_SEASONS = {"day": "hour of day", "week": "hour of day and weekday"}


def _score_in_words(connection: Connection, spec: api.AssaySpec) -> str:
    """Say what is measured, and over which bins; the bins of text are its categories."""
    chosen = spec.summarizer
    try:
        pipeline = connection.get(f"/pipelines/{quote(spec.pipeline)}", api.Pipeline)
    except DriftlineError:  # to be shown is not to be asked: without a hub nobody knows which fields are text
        return chosen.metric
    find = resolver(pipeline.versions[0].definition, vectors=True)
    texts = [find(one.iopath).kind == "category" for one in spec.watched]
    bins = f"{chosen.num_bins} {chosen.bin_mode} bins, {chosen.aggregation}"
    if not any(texts):
        return f"{chosen.metric} over {bins}"
    return f"{chosen.metric} over categories" + ("" if all(texts) else f", of numbers over {bins}")


def _in_words(calendar: api.Calendar) -> str:
    if calendar.time_zone is None:
        return f"{calendar.opening_hours} at each site" if calendar.opening_hours else "as each site says"
    return f"{calendar.time_zone}, {calendar.opening_hours or 'always open'}"


def _facts(spec: api.AssaySpec, score: str) -> dict[str, object]:
    width_s = spec.windows.width_s
    return {
        "Assay": spec.name,
        "Fields": ", ".join(one.field for one in spec.watched),
        "Baseline": _baseline_in_words(spec.baseline),
        "Window": f"{width_s / 60:g} min, every {(spec.windows.interval_s or width_s) / 60:g} min",
        "Score": score,
        "Alarm": told(spec.alarm),
        "Calendar": _in_words(spec.calendar),
        "Devices": ", ".join(spec.devices) or "all that run the pipeline",
    }
