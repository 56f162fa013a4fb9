"""Assays: built step by step, previewed, saved as standing questions, and listed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote

import pandas as pd

from driftline.charts.histogram import histogram
from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import resolve
from driftline.sdk import baseline
from driftline.sdk.analysis import AssayAnalysis, AssayAnalysisList
from driftline.sdk.assay_config import SummarizerBuilder, WindowBuilder
from driftline.sdk.chart import Chart
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.pipeline import Pipeline
from driftline.sdk.text import Text
from driftline.sdk.times import Moment, from_ns, to_ns, to_ns_or_none
from driftline.wire import api

# A preview of months on many devices is a long answer, not a failure.
_RUN_TIMEOUT_S = 600.0


class AssayBuilder:
    """Collects what an assay asks; `build()` gives the question, `upload()` saves it and starts its scheduled runs."""

    def __init__(
        self,
        connection: Connection,
        workspace: str,
        name: str,
        pipeline: Pipeline,
        step: str | None,
        iopath: str | None,
        baseline_data: object = None,
        baseline_start: Moment | None = None,
        baseline_end: Moment | None = None,
    ) -> None:
        self._connection = connection
        self._workspace = workspace
        self._name = name
        self._pipeline = pipeline
        self._step = _step_of(pipeline, step)
        self._iopath = None if iopath is None else _checked_iopath(pipeline, iopath)
        self._baseline_data = baseline_data
        self._baseline = _baseline_range(baseline_data, baseline_start, baseline_end)
        self._window = WindowBuilder()
        self._summarizer = SummarizerBuilder()
        self._alert_threshold = 0.25
        self._warning_threshold: float | None = None
        self._min_count: int | None = None
        self._run_until_ns: int | None = None
        self._devices: list[str] = []

    def window_builder(self) -> WindowBuilder:
        """Return the builder of this assay's own windows."""
        return self._window

    @property
    def summarizer_builder(self) -> SummarizerBuilder:
        """The builder of this assay's own bins and metric; it may be called, too."""
        return self._summarizer

    def add_iopath(self, iopath: str) -> Self:
        """Say which number of an inference is watched, such as 'output avg_confidence 0'."""
        self._iopath = _checked_iopath(self._pipeline, iopath)
        return self

    def add_run_until(self, run_until: Moment) -> Self:
        """Say where the last window ends at the latest; a naive datetime is UTC."""
        self._run_until_ns = to_ns(run_until, "run_until")
        return self

    def add_alert_threshold(self, alert_threshold: float) -> Self:
        """Choose the score from which on a window is an Alert; the default is 0.25."""
        self._alert_threshold = _threshold("alert", alert_threshold)
        return self

    def add_warning_threshold(self, warning_threshold: float) -> Self:
        """Choose the score from which on a window is a Warning; there is none by default."""
        self._warning_threshold = _threshold("warning", warning_threshold)
        return self

    def add_location_filter(self, locations: Iterable[str]) -> Self:
        """Look at these devices only, instead of all that run the pipeline."""
        names = [locations] if isinstance(locations, str) else [str(name) for name in locations]
        if not names:
            raise InvalidInputError("add_location_filter([]) would look at no device; leave it out to look at all")
        self._devices = names
        return self

    def add_min_count(self, min_count: int) -> Self:
        """Say how many values a window needs before its score decides anything."""
        self._min_count = int(min_count)
        return self

    def build(self) -> "AssayConfig":
        """Return the question as it stands, to preview or save it.

        Raises:
            InvalidInputError: it has no iopath or no baseline, or the baseline cannot be read.
        """
        return AssayConfig(self._connection, self._workspace, self._spec())

    def upload(self) -> str:
        """Save the assay and start its scheduled runs; returns its id."""
        return self.build().upload()

    def baseline_dataframe(self) -> pd.DataFrame:
        """Return the baseline's values; see `AssayConfig.baseline_dataframe`."""
        return self.build().baseline_dataframe()

    def baseline_histogram(self, device: str | None = None) -> Chart:
        """Draw the baseline; see `AssayConfig.baseline_histogram`."""
        return self.build().baseline_histogram(device)

    def _spec(self) -> api.AssaySpec:
        if self._iopath is None:
            raise InvalidInputError(
                f"assay {self._name!r} does not say what it watches; "
                "give build_assay(…, iopath='output <field> <index>')"
            )
        # Read here, not before: the column to take depends on the iopath.
        given = self._baseline
        if given is None:
            given = api.Baseline(values=baseline.read(self._baseline_data, self._iopath))
        return api.AssaySpec(
            name=self._name,
            pipeline=str(self._pipeline.id),
            field=resolve(self._iopath, self._pipeline.definition).key,
            iopath=self._iopath,
            baseline=given,
            step=self._step,
            windows=self._window.windows,
            summarizer=self._summarizer.summarizer,
            alert_threshold=self._alert_threshold,
            warning_threshold=self._warning_threshold,
            min_count=self._min_count,
            run_until_ns=self._run_until_ns,
            devices=self._devices,
        )

    def __repr__(self) -> str:
        return f"<builder of assay {self._name!r} on {self._iopath!r}>"


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

    def interactive_run(self) -> AssayAnalysisList:
        """Answer for every complete window up to now (or `run_until`), by window start, then device; store nothing."""
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
        """What windows are compared with, in numbers: one for each device, or one that serves all (device None)."""
        path = f"/workspaces/{quote(self._workspace)}/assays/baseline"
        return self._connection.post_items(path, self.spec, api.BaselineStats)

    def baseline_dataframe(self) -> pd.DataFrame:
        """Return the baseline: a row a value, under the field's name (`output_avg_confidence_0`) and its `device`.

        Where the hub has counts and no values, a row a bin: `device`, `bin`, `edge` (right) and `share`.
        """
        frames = [_frame(stats, self.spec.iopath) for stats in self.baselines]
        return pd.concat(frames, ignore_index=True)

    def baseline_histogram(self, device: str | None = None) -> Chart:
        """Draw the baseline; where each device has its own, say which.

        Raises:
            InvalidInputError: there are several baselines and none was named, or there is none for this device.
        """
        found = {stats.device: stats for stats in self.baselines}
        chosen = found.get(device) if device is not None or len(found) != 1 else next(iter(found.values()))
        if chosen is None:
            names = ", ".join(repr(name) for name in found)
            raise InvalidInputError(f"there is a baseline for each of {names}; give baseline_histogram(device=…)")
        return Chart(histogram(chosen, field=self.spec.field))

    def __repr__(self) -> str:
        return f"<assay {self.spec.name!r} on {self.spec.iopath!r}, not saved>"

    def _repr_html_(self) -> str:
        return card(_facts(self.spec))


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
    def notes(self) -> list[str]:
        """What should be known about it."""
        return list(self._facts.notes)

    def results(
        self, start: Moment | None = None, end: Moment | None = None, device: str | None = None
    ) -> AssayAnalysisList:
        """Return the stored answers whose windows begin in [start, end), by window start, then device."""
        found = self._connection.items(
            f"/assays/{self._facts.id}/analyses",
            api.Analysis,
            start_ns=to_ns_or_none(start, "start"),
            end_ns=to_ns_or_none(end, "end"),
            device=device,
        )
        return AssayAnalysisList(
            [AssayAnalysis(one, lambda: self.baselines, self.spec.summarizer) for one in found], self._facts.notes
        )

    @cached_property
    def baselines(self) -> Sequence[api.BaselineStats]:
        """What its windows are compared with, frozen when it was saved: one for all devices, or one each."""
        return self._connection.items(f"/assays/{self._facts.id}/baselines", api.BaselineStats)

    def set_active(self, *, active: bool) -> Self:
        """Start or stop its scheduled runs; answers stay."""
        self._facts = self._connection.post(f"/assays/{self._facts.id}/{'on' if active else 'off'}", {}, api.Assay)
        return self

    def __repr__(self) -> str:
        return f"<assay {self.name!r} on {self.spec.iopath!r}, {'active' if self.active else 'off'}>"

    def _repr_html_(self) -> str:
        return card(_facts(self.spec) | {"Id": self.id, "Active": self.active})


def listing(assays: Iterable[Assay]) -> Listing[Assay]:
    """Return assays as a list that a notebook shows as a table."""
    return Listing(
        assays,
        ("Name", "Field", "Alert from", "Active", "Id"),
        lambda one: (one.name, one.spec.field, one.spec.alert_threshold, one.active, one.id),
    )


def _analyses(
    analyses: Sequence[api.Analysis], stats: Sequence[api.BaselineStats], spec: api.AssaySpec, notes: Sequence[str]
) -> AssayAnalysisList:
    return AssayAnalysisList([AssayAnalysis(one, lambda: stats, spec.summarizer) for one in analyses], notes)


def _baseline_range(data: object, start: Moment | None, end: Moment | None) -> api.Baseline | None:
    """Return a baseline in time, or None where values were given."""
    if data is not None:
        if start is not None or end is not None:
            raise InvalidInputError("give either baseline_data, or baseline_start and baseline_end; not both")
        return None
    if start is None or end is None:
        raise InvalidInputError(
            "an assay needs a baseline to compare with: baseline_data (a file, an array, a table), "
            "or baseline_start and baseline_end"
        )
    start_ns, end_ns = to_ns(start, "baseline_start"), to_ns(end, "baseline_end")
    if start_ns >= end_ns:
        raise InvalidInputError("baseline_end is not after baseline_start; exchange the two")
    return api.Baseline(start_ns=start_ns, end_ns=end_ns)


def _step_of(pipeline: Pipeline, step: str | None) -> str | None:
    names = pipeline.model_names
    if step is not None and names and step not in names:
        raise InvalidInputError(f"pipeline {pipeline.name!r} has no step {step!r}; its steps are: {', '.join(names)}")
    return step


def _checked_iopath(pipeline: Pipeline, iopath: object) -> str:
    if not isinstance(iopath, str):
        raise InvalidInputError(
            f"iopath is {iopath!r:.60}; write which number is watched, such as 'output avg_confidence 0', and give "
            "baseline_start and baseline_end by name"
        )
    resolve(iopath, pipeline.definition)
    return iopath


def _threshold(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InvalidInputError(f"the {name} threshold is {value!r}; it is a score, 0 or more, and 0.25 is usual")
    return float(value)


def _frame(stats: api.BaselineStats, iopath: str) -> pd.DataFrame:
    if stats.values is not None:  # noqa: PD011  a message, not a Series
        values: dict[str, Any] = {"_".join(iopath.replace(".", " ").split()): pd.Series(stats.values, dtype=float)}
        return pd.DataFrame(values if stats.device is None else {"device": stats.device, **values})
    edges = [*stats.edges, float("inf")] if stats.labels else []
    return pd.DataFrame({"device": stats.device, "bin": stats.labels, "edge": edges, "share": stats.shares})


def _facts(spec: api.AssaySpec) -> dict[str, object]:
    given = spec.baseline
    if given.values is not None:  # noqa: PD011  a message, not a Series
        of = f"{len(given.values)} values"
    else:
        of = f"{from_ns(given.start_ns or 0).isoformat()} to {from_ns(given.end_ns or 0).isoformat()}"
    chosen, width_s = spec.summarizer, spec.windows.width_s
    return {
        "Assay": spec.name,
        "Field": spec.field,
        "Baseline": of,
        "Window": f"{width_s / 60:g} min, every {(spec.windows.interval_s or width_s) / 60:g} min",
        "Score": f"{chosen.metric} over {chosen.num_bins} {chosen.bin_mode} bins, {chosen.aggregation}",
        "Alert from": spec.alert_threshold,
        "Warning from": spec.warning_threshold,
        "Devices": ", ".join(spec.devices) or "all that run the pipeline",
    }
