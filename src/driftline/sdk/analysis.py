"""An assay's answers: one for each device, field and window, and the list of them with its table and chart."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, cast, overload

import pandas as pd

from driftline.charts.bins import bins_chart
from driftline.charts.scores import score_chart
from driftline.clock import iso
from driftline.errors import EmptyWindowError
from driftline.sdk.chart import Chart
from driftline.sdk.html import card, table
from driftline.sdk.text import Text
from driftline.sdk.times import from_ns
from driftline.wire import api

# The order of the reference platform's columns, then ours.
COLUMNS = (
    "assay_id", "name", "iopath", "score", "start", "min", "max", "mean", "median", "std",
    "warning_threshold", "alert_threshold", "status",
    "device", "end", "field", "count", "missing", "source", "revision",
    "evidence", "alarm_at", "mean_shift", "median_shift", "wasserstein", "outside", "psi_at_least", "missing_change",
    "p_value", "metric", "baseline_version",
)  # fmt: skip
_EFFECTS = ("mean_shift", "median_shift", "wasserstein", "outside", "psi_at_least", "missing_change")
_NUMBERS = ("score", "min", "max", "mean", "median", "std", "evidence", "alarm_at", *_EFFECTS, "p_value")
_STATS = ("count", "missing", "min", "max", "mean", "median", "std")
_SHOWN = ("start", "device", "field", "count", "score", "evidence", "alarm_at", "mean_shift", "status")
_ALWAYS_SHOWN = frozenset({"start", "device", "field", "count", "score", "status"})
# A notebook's page is not helped by more; to_dataframe() has them all.
_ROWS_SHOWN = 60

# Baselines are fetched only when somebody compares.
Baselines = Callable[[], Sequence[api.BaselineStats]]


class AssayAnalysis:
    """The answer for one device, one field and one window; `.analysis` is the message as the hub sent it."""

    def __init__(self, analysis: api.Analysis, baselines: Baselines, summarizer: api.Summarizer) -> None:
        self.analysis = analysis
        self._baselines = baselines
        self._summarizer = summarizer

    @property
    def assay_id(self) -> str | None:
        """The standing assay's id; None in a preview."""
        return self.analysis.assay_id

    @property
    def name(self) -> Text:
        """The assay's name."""
        return Text(self.analysis.name)

    @property
    def iopath(self) -> str:
        """The field as the assay's owner spelled it."""
        return self.analysis.iopath

    @property
    def field(self) -> str:
        """The field's key, such as `out.avg_confidence`."""
        return self.analysis.field

    @property
    def device(self) -> str:
        """The device this is about."""
        return self.analysis.device

    @property
    def start(self) -> datetime:
        """Where the window starts."""
        return from_ns(self.analysis.start_ns)

    @property
    def end(self) -> datetime:
        """Where the window ends; this moment is the next window's."""
        return from_ns(self.analysis.end_ns)

    @property
    def score(self) -> float | None:
        """How far the window lies from its baseline; None where nothing was seen or heard."""
        return self.analysis.score

    @property
    def status(self) -> str:
        """Ok, Warning, Alert, NoData, TooFew or Late."""
        return self.analysis.status

    @property
    def evidence(self) -> float | None:
        """How much evidence for drift has come together up to this window; None where nothing was promised."""
        return None if self.analysis.evidence is None else self.analysis.evidence.value

    @property
    def alarm_at(self) -> float | None:
        """The evidence from which on it is an Alert, by the promise; None where nothing was promised."""
        return None if self.analysis.evidence is None else self.analysis.evidence.alarm_at

    @property
    def effect(self) -> api.Effect | None:
        """How much changed, in the baseline's standard deviations and the field's unit."""
        return self.analysis.effect

    @property
    def p_value(self) -> float | None:
        """How likely such a score is without drift, were rows independent; of the metrics that have one."""
        return self.analysis.p_value

    @property
    def contributions(self) -> dict[str, float]:
        """What each bin gives to the score, by its label; empty where there is none."""
        bins = self.analysis.bins
        return {} if bins is None else dict(zip(bins.labels, bins.contributions, strict=True))

    @property
    def alert_threshold(self) -> float | None:
        """The score from which on it is an Alert; None under a promise, where the evidence decides."""
        return self.analysis.alert_threshold

    @property
    def warning_threshold(self) -> float | None:
        """The score from which on it is a Warning."""
        return self.analysis.warning_threshold

    @property
    def count(self) -> int:
        """How many inferences the window had, missing values included."""
        return self.analysis.count

    @property
    def notes(self) -> list[str]:
        """What should be known beside the score, in sentences."""
        return list(self.analysis.notes)

    def baseline(self) -> api.BaselineStats | None:
        """Return the numbers of what the window was compared with.

        None where its device has no baseline, or a newer one has replaced it since.
        """
        of = (self.field, self.analysis.baseline_version)
        found = {stats.device: stats for stats in self._baselines() if (stats.field, stats.version) == of}
        return found.get(self.device, found.get(None))

    def compare_basic_stats(self) -> pd.DataFrame:
        """Return a row each for count, missing, min, max, mean, median, std, start and end.

        Columns: Baseline, Window, diff (window less baseline) and pct_diff (diff in per cent of the baseline).
        """
        baseline = self.baseline()
        rows: dict[str, tuple[object, object, float | None, float | None]] = {}
        for name in _STATS:
            before = None if baseline is None else getattr(baseline, name)
            now = getattr(self.analysis, name)
            diff = None if before is None or now is None else now - before
            rows[name] = (before, now, diff, 100 * diff / before if diff is not None and before else None)
        for name in ("start", "end"):
            before_ns = None if baseline is None else getattr(baseline, f"{name}_ns")
            before = None if before_ns is None else iso(before_ns)
            rows[name] = (before, iso(getattr(self.analysis, f"{name}_ns")), None, None)
        names = ["Baseline", "Window", "diff", "pct_diff"]
        # Numbers and times share these two columns: as objects, None stays None.
        frame = pd.DataFrame(list(rows.values()), index=pd.Index(rows), columns=pd.Index(names), dtype=object)
        return frame.astype({"diff": float, "pct_diff": float})

    def compare_bins(self) -> pd.DataFrame:
        """Return a row a bin: right edge, label and share of baseline (b_) and window (w_), and their difference.

        `contribution` is the bin's part of the score. Under cumulative aggregation shares are running sums.
        The bins of text are its categories, which have no edge.

        Raises:
            EmptyWindowError: there was nothing to put into bins.
        """
        bins = self._bins()
        cumulative = self._summarizer.aggregation == "cumulative"
        edges = [*bins.edges, math.inf] if bins.edges else [math.nan] * len(bins.labels)
        frame = pd.DataFrame(
            {
                "b_edges": edges,
                "b_edge_names": bins.labels,
                "b_aggregated_values": bins.baseline,
                "b_aggregation": self._summarizer.aggregation.capitalize(),
                "w_edges": edges,
                "w_edge_names": bins.labels,
                "w_aggregated_values": bins.window,
                "w_aggregation": self._summarizer.aggregation.capitalize(),
            }
        )
        if cumulative:
            values = ["b_aggregated_values", "w_aggregated_values"]
            frame[values] = frame[values].cumsum()
        frame["diff_in_pcts"] = frame["w_aggregated_values"] - frame["b_aggregated_values"]
        frame["contribution"] = bins.contributions
        return frame

    def chart(self) -> Chart:
        """Draw how baseline and window share the bins.

        Raises:
            EmptyWindowError: there was nothing to put into bins.
        """
        self._bins()
        return Chart(bins_chart(self.analysis))

    def _bins(self) -> api.Bins:
        if self.analysis.bins is None:
            raise EmptyWindowError(
                f"the window from {iso(self.analysis.start_ns)} on device {self.device} is {self.status}: it has no "
                "bins to compare; choose one with a score"
            )
        return self.analysis.bins

    def row(self) -> dict[str, object]:
        """Return this answer as one row of `to_dataframe`."""
        facts = self.analysis
        known: dict[str, object] = {"start": iso(facts.start_ns), "end": iso(facts.end_ns)}
        known |= {"evidence": self.evidence, "alarm_at": self.alarm_at}
        known |= {name: None if facts.effect is None else getattr(facts.effect, name) for name in _EFFECTS}
        return {name: known[name] if name in known else getattr(facts, name) for name in COLUMNS}

    def __repr__(self) -> str:
        said = "no score" if self.score is None else f"score {self.score:.6g}"
        if self.evidence is not None:
            said += f", evidence {self.evidence:.6g} of {self.alarm_at:.6g}"
        what = f"{self.name!r} ({self.field}), {self.device} from {iso(self.analysis.start_ns)}"
        return f"<analysis of {what}: {said}, {self.status}>"

    def _repr_html_(self) -> str:
        shown = {name: self.row()[name] for name in COLUMNS if name != "assay_id"}
        return card(shown | {"notes": " · ".join(self.notes)})


class AssayAnalysisList(Sequence[AssayAnalysis]):
    """Answers by window start, device and field: a sequence with a table and a chart.

    `notes` speak of the run as a whole.
    """

    def __init__(self, analyses: Sequence[AssayAnalysis], notes: Sequence[str] = ()) -> None:
        self._analyses = list(analyses)
        self.notes = list(notes)

    @overload
    def __getitem__(self, index: int) -> AssayAnalysis: ...
    @overload
    def __getitem__(self, index: slice) -> "AssayAnalysisList": ...
    def __getitem__(self, index: int | slice) -> "AssayAnalysis | AssayAnalysisList":
        if isinstance(index, slice):
            return AssayAnalysisList(self._analyses[index], self.notes)
        return self._analyses[index]

    def __len__(self) -> int:
        return len(self._analyses)

    def __iter__(self) -> Iterator[AssayAnalysis]:
        return iter(self._analyses)

    @property
    def devices(self) -> list[str]:
        """The devices these answers are about, by name."""
        return sorted({one.device for one in self})

    def of_device(self, device: str) -> "AssayAnalysisList":
        """Return one device's answers."""
        return AssayAnalysisList([one for one in self if one.device == device], self.notes)

    @property
    def fields(self) -> list[str]:
        """The fields these answers are about, by key."""
        return sorted({one.field for one in self})

    def of_field(self, field: str) -> "AssayAnalysisList":
        """Return one field's answers, by its key or iopath."""
        return AssayAnalysisList([one for one in self if field in {one.field, one.iopath}], self.notes)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row an answer, the columns of the reference platform first; `start` is ISO 8601 with offset.

        Under a promise `alert_threshold` is None; it is an Alert where `evidence` reaches `alarm_at`. The effects
        (`mean_shift` and so on) are those of `driftline.wire.api.Effect`.
        """
        frame = pd.DataFrame([one.row() for one in self], columns=pd.Index(COLUMNS))
        for name in _NUMBERS:
            frame[name] = pd.to_numeric(cast("Any", frame[name]))
        return frame

    def chart_scores(self, title: str | None = None, nth_x_tick: int | None = None) -> Chart:  # noqa: ARG002
        """Draw scores over time, a line a device, with thresholds; under a promise, evidence with the alarm's level.

        A gap is a window without either.

        `nth_x_tick` is accepted for compatibility: the time axis chooses its own ticks.
        """
        return Chart(score_chart([one.analysis for one in self], title=title))

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for one in self:
            counts[one.status] = counts.get(one.status, 0) + 1
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"<{len(self)} analyses{': ' if told else ''}{told}>"

    def _repr_html_(self) -> str:
        rows = [one.row() for one in self[:_ROWS_SHOWN]]
        # Without a promise there is no evidence to show.
        columns = [name for name in _SHOWN if name in _ALWAYS_SHOWN or any(row[name] is not None for row in rows)]
        more = f"<p>… and {len(self) - _ROWS_SHOWN} more</p>" if len(self) > _ROWS_SHOWN else ""
        return table(columns, ([row[name] for name in columns] for row in rows)) + more
