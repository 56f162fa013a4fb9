"""An assay collected call by call, as the reference platform's builder does, with a promise where one is wanted."""

from collections.abc import Iterable
from typing import Self

import pandas as pd

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import ResolvedField, resolver
from driftline.sdk import baseline
from driftline.sdk.alarm import Fixed, Promise, message_of, told
from driftline.sdk.assay import AssayConfig
from driftline.sdk.assay_config import SummarizerBuilder, WindowBuilder
from driftline.sdk.chart import Chart
from driftline.sdk.health import Health
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.sdk.pipeline import Pipeline
from driftline.sdk.preview import Preview
from driftline.sdk.times import Moment, to_ns
from driftline.wire import api


class AssayBuilder:
    """Collects what an assay asks; `build()` gives the question, `upload()` saves it and starts its scheduled runs."""

    def __init__(
        self,
        connection: Connection,
        workspace: str,
        name: str,
        pipeline: Pipeline,
        step: str | None,
        iopath: str | Iterable[str] | None,
        baseline_data: object,
        baseline_in_time: api.Baseline | None,
        alarm: object = None,
    ) -> None:
        self._connection = connection
        self._workspace = workspace
        self._name = name
        self._pipeline = pipeline
        self._step = _step_of(pipeline, step)
        self._fields = {} if iopath is None else _fields(pipeline, iopath)
        self._baseline_data = baseline_data
        self._baseline = baseline_in_time
        self._window = WindowBuilder()
        self._summarizer = SummarizerBuilder()
        self._alarm = api.Fixed() if alarm is None else message_of(alarm)
        self._calendar = api.Calendar()
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

    def add_iopath(self, iopath: str | Iterable[str]) -> Self:
        """Say which number of an inference is watched, such as 'output avg_confidence 0'; a list names several.

        A list of fixed length can be watched as a whole, 'output embedding'. They replace what was watched before, and
        share one alarm.
        """
        self._fields = _fields(self._pipeline, iopath)
        return self

    def add_run_until(self, run_until: Moment) -> Self:
        """Say where the last window ends at the latest; a naive datetime is UTC."""
        self._run_until_ns = to_ns(run_until, "run_until")
        return self

    def add_alarm(self, alarm: Fixed | Promise) -> Self:
        """Choose when it alarms: `driftline.Promise("30 days")`, or `driftline.Fixed(0.25)`, which is the default."""
        self._alarm = message_of(alarm)
        return self

    def add_alert_threshold(self, alert_threshold: float) -> Self:
        """Choose the score from which on a window is an Alert; the default is 0.25."""
        call = f"add_alert_threshold({alert_threshold!r})"
        self._alarm = Fixed(alert_threshold, self._fixed(call).warning).message
        return self

    def add_warning_threshold(self, warning_threshold: float) -> Self:
        """Choose the score from which on a window is a Warning; there is none by default."""
        call = f"add_warning_threshold({warning_threshold!r})"
        self._alarm = Fixed(self._fixed(call).threshold, warning_threshold).message
        return self

    def add_calendar(self, time_zone: str | None = None, opening_hours: str | None = None) -> Self:
        """Say where and when the devices work: 'Europe/Zurich', and hours such as 'Mon-Sat 07:00-20:00'.

        Windows outside the opening hours are answered and wake nobody; a season repeats in this time zone. Without it
        an assay takes what `client.set_site_hours` says of each device's site; hours alone are of each site's clock.
        """
        for name, given in (("time_zone", time_zone), ("opening_hours", opening_hours)):
            if not isinstance(given, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
                raise InvalidInputError(
                    f"{name} is {given!r:.60}; give text, such as add_calendar('Europe/Zurich', 'Mon-Sat 07:00-20:00')"
                )
        self._calendar = api.Calendar(time_zone=time_zone or None, opening_hours=opening_hours or None)
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
        if isinstance(min_count, bool) or not isinstance(min_count, int) or min_count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(f"add_min_count({min_count!r:.60}): give a whole number of values, 1 or more")
        self._min_count = min_count
        return self

    def build(self) -> AssayConfig:
        """Return the question as it stands, to preview or save it.

        Raises:
            InvalidInputError: it has no iopath or no baseline, or the baseline cannot be read.
        """
        return AssayConfig(self._connection, self._workspace, self._spec())

    def upload(self) -> str:
        """Save the assay and start its scheduled runs; returns its id."""
        return self.build().upload()

    def preview(self, within: int = 20) -> Preview:
        """Say what the assay would do before it runs; see `AssayConfig.preview`."""
        return self.build().preview(within)

    def baseline_health(self) -> Listing[Health]:
        """Say what the baseline carries; see `AssayConfig.baseline_health`."""
        return self.build().baseline_health()

    def baseline_dataframe(self) -> pd.DataFrame:
        """Return the baseline's values; see `AssayConfig.baseline_dataframe`."""
        return self.build().baseline_dataframe()

    def baseline_histogram(self, device: str | None = None, field: str | None = None) -> Chart:
        """Draw the baseline; see `AssayConfig.baseline_histogram`."""
        return self.build().baseline_histogram(device, field)

    def _fixed(self, call: str) -> api.Fixed:
        if isinstance(self._alarm, api.Fixed):
            return self._alarm
        raise InvalidInputError(
            f"{call} is for a fixed alarm, and this assay has a promise ({told(self._alarm)}), which needs no "
            "threshold; leave out this call, or the promise"
        )

    def _spec(self) -> api.AssaySpec:
        if not self._fields:
            raise InvalidInputError(
                f"assay {self._name!r} does not say what it watches; "
                "give build_assay(…, iopath='output <field> <index>')"
            )
        return api.AssaySpec(
            name=self._name,
            pipeline=str(self._pipeline.id),
            watched=[api.Watched(field=found.key, iopath=iopath) for iopath, found in self._fields.items()],
            # Data is read here, not before: the columns to take depend on the iopaths.
            baseline=self._baseline or baseline.of_data(self._baseline_data, self._fields),
            step=self._step,
            windows=self._window.windows,
            summarizer=self._summarizer.summarizer,
            alarm=self._alarm,
            calendar=self._calendar,
            min_count=self._min_count,
            run_until_ns=self._run_until_ns,
            devices=self._devices,
        )

    def __repr__(self) -> str:
        return f"<builder of assay {self._name!r} on {', '.join(map(repr, self._fields)) or 'nothing yet'}>"


def _step_of(pipeline: Pipeline, step: str | None) -> str | None:
    names = pipeline.model_names
    if step is not None and names and step not in names:
        raise InvalidInputError(f"pipeline {pipeline.name!r} has no step {step!r}; its steps are: {', '.join(names)}")
    return step


def _fields(pipeline: Pipeline, iopath: object) -> dict[str, ResolvedField]:
    """Find the fields that an iopath or several spell, in their order.

    Raises:
        InvalidInputError: not text, no such field, or the same field twice.
    """
    iopaths = [iopath] if isinstance(iopath, str) or not isinstance(iopath, Iterable) else list(iopath)
    if not iopaths:
        raise InvalidInputError("iopath is an empty list; name at least one, such as 'output avg_confidence 0'")
    find = resolver(pipeline.definition, vectors=True)
    found: dict[str, ResolvedField] = {}
    for one in iopaths:
        if not isinstance(one, str):
            raise InvalidInputError(
                f"iopath is {one!r:.60}; write which number is watched, such as 'output avg_confidence 0', and give "
                "baseline_start and baseline_end by name"
            )
        field = find(one)
        if field.key in {other.key for other in found.values()}:
            raise InvalidInputError(f"{field.key} is named twice, the second time as {one!r}; name each field once")
        found[one] = field
    return found
