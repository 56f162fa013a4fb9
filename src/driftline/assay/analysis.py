"""An assay's answer for one device and one window: statistics, bins, a score and a status.

Values and counts go through the same steps: the baseline is cut into bins, the window is cut at the same edges as far
as its grid has them, and the two lists of shares are compared. A window of several parts (its grid changed midway) is
cut part by part, each against the baseline cut the same way, weighted by how many values the part has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from driftline.assay.baseline import BaselineData
from driftline.assay.bins import Layout, quantile_edges
from driftline.assay.categories import OTHER, Categories, CategoryBaseline
from driftline.assay.checks import check, check_field
from driftline.assay.effect import effect_of, effect_of_categories
from driftline.assay.false_alarms import false_alarm_rate
from driftline.assay.metrics import METRICS, Measured, measure
from driftline.assay.metrics.missing_rate import LABELS
from driftline.assay.metrics.sample import UNKNOWN, Sample
from driftline.assay.observed import Floats, Observed, Part, in_bins
from driftline.summary.grid import Grid, joined, just_below
from driftline.summary.summary import CATEGORIES_MAX
from driftline.wire import api

__all__ = [
    "Baseline",
    "Compared",
    "Part",
    "analyse",
    "baseline_of",
    "check",
    "check_field",
    "compare",
    "describe",
    "effect",
    "fixed_alarm_text",
    "grid_for",
    "window_of",
]

# What a window is compared with, and what is read of a window: numbers or categories.
Baseline = BaselineData | CategoryBaseline
Window = Observed | Categories

# Fewer values than this make any score a lottery; a compatible assay judges every one, as the reference platform does.
MIN_COUNT = 20
# The finest grid that costs nothing to send: see `driftline.summary.grid.quantile_grid`.
GRID_BINS = 60
# A chance of false alarm below one window in a hundred is not worth a sentence in every analysis.
FALSE_ALARM_WORTH_SAYING = 0.01
# Cells that hold less of the baseline than this cannot change a score visibly.
INTERPOLATED_WORTH_SAYING = 0.005
NOTHING_TO_COMPARE_WITH = "the baseline has no finite value, so there is nothing to compare with; take another baseline"
# A baseline's raw values are sent back for charts and tables up to this many; beyond, its statistics and bins are.
VALUES_MAX = 100_000


def baseline_of(parts: Sequence[Part], field_type: str) -> Baseline:
    """Return what windows of a field of this type are compared with."""
    return CategoryBaseline.of_parts(parts) if field_type == "string" else BaselineData.of_parts(parts, field_type)


def window_of(parts: Sequence[Part], field_type: str) -> Window:
    """Read a window of a field of this type; every baseline of the field would read the same.

    Raises:
        InvalidInputError: the parts are text where the field holds numbers, or the other way round.
    """
    if field_type == "string":
        return Categories.of_parts(parts)
    return Observed.of_parts(parts, float32=field_type == "float32")


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A window's shares beside its baseline's, and what the metric made of them."""

    layout: Layout
    baseline: Floats
    window: Floats
    measured: Measured
    moved: float
    interpolated: float

    @property
    def bins(self) -> api.Bins:
        """The same as it travels."""
        return api.Bins(
            labels=list(self.layout.labels),
            edges=self.layout.edges.tolist(),
            baseline=self.baseline.tolist(),
            window=self.window.tolist(),
            contributions=list(self.measured.contributions),
            edges_moved=self.moved,
        )


def analyse(
    spec: api.AssaySpec,
    watched: api.Watched,
    baseline: Baseline,
    window: Window,
    *,
    device: str,
    start_ns: int,
    end_ns: int,
    heard: bool,
    assay_id: str | None = None,
) -> api.Analysis:
    """Answer for the window [start_ns, end_ns) of one device and field; `driftline.assay.promise` adds the evidence.

    The window was read by its baseline, or as `window_of` reads it. The spec has passed `check` and `check_field`.
    `heard` says whether the device has told everything up to the window's end; until then the status is Late and there
    is no score. Where there are values, too few of them still have a score.
    Mean, median and std are over finite values; the median of counts is interpolated inside its cell. Text has none.
    """
    judged = heard and not unjudgeable(spec.summarizer, baseline, window)
    compared = compare(spec.summarizer, baseline, window) if judged else None
    measured = None if compared is None else compared.measured
    score = None if measured is None else measured.score
    moments = window.moments
    fixed = spec.alarm if isinstance(spec.alarm, api.Fixed) else None
    return api.Analysis(
        assay_id=assay_id,
        name=spec.name,
        iopath=watched.iopath,
        field=watched.field,
        device=device,
        start_ns=start_ns,
        end_ns=end_ns,
        score=score,
        status=_status(spec, judged_by(spec.summarizer, window), score, heard=heard),
        alert_threshold=None if fixed is None else fixed.threshold,
        warning_threshold=None if fixed is None else fixed.warning,
        count=moments.count,
        missing=moments.missing,
        min=moments.min,
        max=moments.max,
        mean=moments.mean,
        median=moments.median,
        std=moments.std,
        source="rows" if isinstance(window, Observed) and window.exact else "counts",
        metric=spec.summarizer.metric,
        effect=effect(baseline, window) if heard and window.count else None,
        p_value=None if measured is None else measured.p_value,
        bins=None if compared is None else compared.bins,
        notes=_notes(spec, baseline, window, compared),
    )


def effect(baseline: Baseline, window: Window) -> api.Effect:
    """Say how much a window changed; see `analyse`."""
    if isinstance(baseline, CategoryBaseline):
        return effect_of_categories(baseline, cast("Categories", window))
    return effect_of(baseline, cast("Observed", window))


def compare(summarizer: api.Summarizer, baseline: Baseline, window: Window) -> Compared:
    """Cut a window as its baseline is cut, and measure how far the two lie apart; it is not `unjudgeable`.

    Raises:
        InvalidInputError: the baseline has no finite value.
    """
    if summarizer.metric == "missing_rate":
        return _missing(baseline, window)
    if isinstance(baseline, CategoryBaseline):
        return _compare_categories(summarizer, baseline, cast("Categories", window))
    return _compare_numbers(summarizer, baseline, cast("Observed", window))


def _compare_categories(summarizer: api.Summarizer, baseline: CategoryBaseline, window: Categories) -> Compared:
    layout, cut = baseline.layout(), baseline.cut(window)
    before, now = Sample(cut.baseline / baseline.n, baseline.n), Sample(cut.window / window.n, window.n)
    measured = measure(summarizer.metric, before, now)
    if cut.hidden:
        told = f"{cut.hidden / window.n:.1%} of the values were in categories beyond the {CATEGORIES_MAX} that are told"
        layout = replace(layout, notes=(*layout.notes, f"{told} apart; they count as {OTHER} on both sides"))
    return Compared(layout, before.shares, now.shares, measured, 0.0, 0.0)


def _compare_numbers(summarizer: api.Summarizer, baseline: BaselineData, window: Observed) -> Compared:
    layout = baseline.layout(summarizer)
    baseline_shares, counts = np.zeros(len(layout.labels)), np.zeros(len(layout.labels))
    edges = np.zeros(layout.edges.size)
    moved = interpolated = 0.0
    for piece in window.pieces:
        if piece.n:
            cut = baseline.cut(summarizer, piece.grid)
            counts += in_bins(piece.upto(cut.edges), piece.n)
            baseline_shares += cut.shares * (piece.n / window.n)
            edges += cut.edges * (piece.n / window.n)
            moved, interpolated = max(moved, cut.moved), max(interpolated, cut.interpolated)
    shares = counts / window.n
    weights = layout.weights(summarizer.bin_weights)
    if METRICS[summarizer.metric].asks == "shares":
        before, now = Sample(baseline_shares), Sample(shares)
    else:
        before, now = sample_of(baseline.observed, baseline_shares), sample_of(window, shares)
    measured = measure(summarizer.metric, before, now, summarizer.aggregation, weights, edges)
    return Compared(layout, baseline_shares, shares, measured, moved, interpolated)


def sample_of(observed: Observed, shares: Floats) -> Sample:
    """Return what metrics may ask of a baseline or a window: its shares, its size and its moments."""
    moments = observed.moments
    numbers = (moments.min, moments.max, moments.mean, moments.std)
    if moments.min is None:
        return Sample(shares, float(observed.n))
    return Sample(shares, float(observed.n), *(UNKNOWN if one is None else one for one in numbers))


def unjudgeable(summarizer: api.Summarizer, baseline: Baseline, window: Window) -> str | None:
    """Say why a window has no score against a baseline; None where it has one."""
    if summarizer.metric == "missing_rate":
        # Here a missing value is what is looked at, and a window of nothing else says the most.
        return None if window.count and baseline.observed.count else "there was no inference"
    if not baseline.usable:
        return NOTHING_TO_COMPARE_WITH
    if not window.n:
        return f"the window's {window.count} values are all missing, which is not the same as no drift"
    kind = METRICS[summarizer.metric]
    if kind.asks == "places" and isinstance(window, Observed) and window.range is None:
        return (
            f"every value of the window is infinite, so there is no {kind.name}; 'psi' and 'ks' count infinite values"
        )
    return None


def judged_by(summarizer: api.Summarizer, window: Window) -> int:
    """Return how many values a score rests on: for the missing rate every inference, else those that have one."""
    return window.count if summarizer.metric == "missing_rate" else window.n


def _missing(baseline: Baseline, window: Window) -> Compared:
    layout = Layout(LABELS, np.array([0.5]), ((0,), (1,)))
    before, now = (np.array([one.n, one.missing]) / one.count for one in (baseline.observed, window))
    return Compared(layout, before, now, measure("missing_rate", before, now), 0.0, 0.0)


def describe(
    spec: api.AssaySpec,
    watched: api.Watched,
    baseline: Baseline,
    *,
    device: str | None,
    start_ns: int | None,
    end_ns: int | None,
) -> api.BaselineStats:
    """Return a baseline's own numbers: statistics, bins, and its raw values where they are known and not too many."""
    moments = baseline.moments
    stats = api.BaselineStats(
        device=device,
        field=watched.field,
        count=moments.count,
        missing=moments.missing,
        min=moments.min,
        max=moments.max,
        mean=moments.mean,
        median=moments.median,
        std=moments.std,
        start_ns=start_ns,
        end_ns=end_ns,
        notes=_baseline_notes(spec, baseline),
    )
    if baseline.usable:
        layout, shares = _usual(spec, baseline)
        stats.labels, stats.edges, stats.shares = list(layout.labels), layout.edges.tolist(), shares.tolist()
    values = baseline.raw
    if values is not None and values.size <= VALUES_MAX:
        stats.values = [float(value) if np.isfinite(value) else None for value in values]
    return stats


def _usual(spec: api.AssaySpec, baseline: Baseline) -> tuple[Layout, Floats]:
    if isinstance(baseline, CategoryBaseline):
        return baseline.layout(), baseline.shares
    return baseline.layout(spec.summarizer), baseline.cut(spec.summarizer, None).shares


def grid_for(spec: api.AssaySpec, baseline: BaselineData, field_type: str) -> Grid:
    """Return the grid that serves an assay: 60 quantile bins of its baseline, and the assay's own bin edges, exactly.

    Raises:
        InvalidInputError: the baseline has no finite value.
    """
    layout = baseline.layout(spec.summarizer)
    own = (quantile_edges(baseline.observed, GRID_BINS) + 0.0).tolist()
    closed = just_below(baseline.observed.least, float32=field_type == "float32")
    return joined(Grid(tuple(sorted({closed, *own}))), layout.edges.tolist())


# ── status and notes ─────────────────────────────────────────────────────────────────────────────────────────────


def _status(spec: api.AssaySpec, n: int, score: float | None, *, heard: bool) -> api.Status:
    if not heard:
        return "Late"
    if score is None:
        return "NoData"
    if n < min_count(spec):
        return "TooFew"
    if isinstance(spec.alarm, api.Promise):
        # The evidence decides, not this one window.
        return "Ok"
    if score >= spec.alarm.threshold:
        return "Alert"
    if spec.alarm.warning is not None and score >= spec.alarm.warning:
        return "Warning"
    return "Ok"


def min_count(spec: api.AssaySpec) -> int:
    """Return how many values a window needs before its score decides anything."""
    if spec.min_count is not None:
        return spec.min_count
    compatible = spec.summarizer.compat is not None and isinstance(spec.alarm, api.Fixed)
    return 1 if compatible else MIN_COUNT


def _notes(spec: api.AssaySpec, baseline: Baseline, window: Window, compared: Compared | None) -> list[str]:
    notes: list[str] = []
    if window.missing:
        shares = f"{window.missing / window.count:.1%} of {window.count} inferences have no value"
        notes.append(f"{shares} (baseline {baseline.missing_share:.1%})")
    if compared is None:
        reason = unjudgeable(spec.summarizer, baseline, window) if window.n or not baseline.usable else None
        return [*notes, reason] if reason else notes
    notes += compared.layout.notes
    n = judged_by(spec.summarizer, window)
    if 0 < n < min_count(spec):
        notes.append(f"{n} values are fewer than min_count {min_count(spec)}; the score decides nothing")
    if compared.interpolated >= INTERPOLATED_WORTH_SAYING:
        notes.append(
            "baseline and window were counted on different grids; where a bin edge cuts a cell, shares are estimated "
            f"(cells hold at most {compared.interpolated:.1%} of the baseline)"
        )
    if compared.measured.p_value is not None:
        name = METRICS[spec.summarizer.metric].name
        notes.append(f"{name}: p = {compared.measured.p_value:.2g} if rows are independent and nothing drifted")
    return notes + _false_alarm_note(spec, baseline, n, compared)


def _false_alarm_note(spec: api.AssaySpec, baseline: Baseline, n: int, compared: Compared) -> list[str]:
    if baseline.n < MIN_COUNT and isinstance(spec.alarm, api.Fixed) and spec.summarizer.metric != "missing_rate":
        return [_short_baseline(baseline)]
    rate = _rate(spec, baseline, n, compared.layout, compared.baseline)
    return [] if rate is None or rate < FALSE_ALARM_WORTH_SAYING else [_how_often(spec, rate, n, baseline.n)]


def fixed_alarm_text(spec: api.AssaySpec, baseline: Baseline, n: int) -> str | None:
    """Say how often windows of n values reach an assay's fixed threshold without drift.

    None under a promise, and where the rate is not known: of a missing rate, a baseline in one bin or of next to no
    values, and windows that are too few to decide anything.
    """
    if not baseline.usable:
        return None
    rate = _rate(spec, baseline, n, *_usual(spec, baseline))
    return None if rate is None else _how_often(spec, rate, n, baseline.n)


def _rate(spec: api.AssaySpec, baseline: Baseline, n: int, layout: Layout, shares: Floats) -> float | None:
    if spec.summarizer.metric == "missing_rate" or isinstance(spec.alarm, api.Promise):
        return None
    if baseline.n < MIN_COUNT or n < min_count(spec) or len(layout.labels) < 2:
        return None
    weights = layout.weights(spec.summarizer.bin_weights)
    return false_alarm_rate(spec.summarizer, spec.alarm.threshold, baseline, shares, weights, n)


def _how_often(spec: api.AssaySpec, rate: float, n: int, baseline: int) -> str:
    limit = spec.alarm.threshold if isinstance(spec.alarm, api.Fixed) else float("inf")
    share = f"about {rate:.0%}" if rate >= FALSE_ALARM_WORTH_SAYING else f"fewer than {FALSE_ALARM_WORTH_SAYING:.0%}"
    return (
        f"without any drift {share} of windows of {n} values reach {limit:g} against a baseline of {baseline} "
        "(independent rows; autocorrelated frames more often)"
    )


def _short_baseline(baseline: Baseline) -> str:
    values = "1 value" if baseline.n == 1 else f"{baseline.n} values"
    return f"a baseline of {values} says little about what is usual; take a longer one"


def _baseline_notes(spec: api.AssaySpec, baseline: Baseline) -> list[str]:
    if not baseline.usable:
        return [NOTHING_TO_COMPARE_WITH]
    layout, _ = _usual(spec, baseline)
    notes = list(layout.notes)
    if baseline.missing_share:
        notes.append(
            f"{baseline.missing_share:.1%} of the baseline's {baseline.moments.count} inferences have no value"
        )
    infinite = baseline.n - baseline.observed.finite if isinstance(baseline, BaselineData) else 0
    if infinite:
        notes.append(f"{infinite} infinite values count in the outermost bins and in no statistic")
    if baseline.n < MIN_COUNT:
        notes.append(_short_baseline(baseline))
    return notes
