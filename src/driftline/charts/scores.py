"""An assay's answers over time: scores under a fixed alarm, evidence under a promise, or both, one above the other."""

from collections.abc import Sequence
from dataclasses import replace

from driftline.charts.findings import alarm_of, by_stream, finding, several_days
from driftline.charts.lines import (
    PHONE,
    WIDTH,
    Plot,
    about,
    axis_height,
    beside,
    description,
    lanes,
    legend,
    name_rows,
    panel,
    plot_of,
    series_of,
    time_axis,
    times_of,
)
from driftline.charts.measure import EVIDENCE, SCORE, measure_of, measured_text, under_promise
from driftline.charts.multiples import multiples_chart
from driftline.charts.scale import clock_text, metric_text
from driftline.charts.svg import Head, chart, group, label
from driftline.wire.api import Analysis

_LEFT, _LEFT_NARROW = 62, 46
_HEIGHT, _HEIGHT_NARROW = 236, 190
# Of two stacked panels each is lower, and the lower one needs less.
_UPPER, _LOWER = 190, 130
# So many lines of evidence can be told apart on one plot; more are drawn as small multiples.
LINES_OF_EVIDENCE_MAX = 4


def score_chart(analyses: Sequence[Analysis], *, title: str | None = None, width: int = WIDTH) -> str:
    """Draw the answers of one or several devices as a complete SVG document.

    Scores and their thresholds under a fixed alarm; under a promise evidence, on a logarithmic axis with the level that
    makes an alarm. Several fields, or many devices under a promise, are drawn as small multiples. Without a title the
    chart says what was found, e.g. "out.sharpness: camera-3 over 0.25 since 09:36 UTC". No analyses make a chart
    that says so. `width` below 600 px draws for a phone.
    """
    if not analyses:
        return _nothing(title or "No scores yet", width)
    if _is_crowded(analyses):
        return multiples_chart(analyses, title=title, width=width)
    measure = measure_of(analyses)
    series = series_of(analyses, measure)
    head = Head(
        title or finding(analyses),
        about(analyses, measured_text(measure, analyses)) + measure.how(analyses),
        width,
    )
    times = times_of(analyses, *_sides(head, beside(series, [one.text for one in measure.thresholds(analyses)])))
    plot = plot_of(analyses, measure, times, head.bottom, _HEIGHT_NARROW if head.narrow else _HEIGHT, width)
    boxes, below = lanes(series, plot, plot.bottom + axis_height(plot))
    names, below = name_rows(series, below + 12) if head.narrow else (group(), below)
    marks = legend(analyses, plot, 16 if head.narrow else _LEFT, below + 12)
    return chart(
        width,
        below + (32 if marks else 8),
        head,
        description(series, plot),
        panel(analyses, series, plot),
        time_axis(plot),
        boxes,
        names,
        marks,
    )


def compared_chart(
    promised: Sequence[Analysis], fixed: Sequence[Analysis], *, title: str | None = None, width: int = WIDTH
) -> str:
    """Draw what a promise makes of the same windows as a fixed threshold: evidence above, scores below, one time axis.

    `promised` and `fixed` are the answers of two assays that watch the same; without a title the chart says which of
    them alerts since when. Where one of them has no answers the other is drawn alone.
    """
    if not promised or not fixed:
        return score_chart(promised or fixed, title=title, width=width)
    every = [*promised, *fixed]
    upper, lower = series_of(promised, EVIDENCE), series_of(fixed, SCORE)
    texts = [one.text for one in (*EVIDENCE.thresholds(promised), *SCORE.thresholds(fixed))]
    head = Head(
        title or _comparison(promised, fixed), about(promised, ", by a promise and by a fixed threshold"), width
    )
    times = times_of(every, *_sides(head, beside([*upper, *lower], texts)))
    above = plot_of(promised, EVIDENCE, times, head.bottom + 18, _UPPER, width)
    under = plot_of(fixed, SCORE, times, above.bottom + 30, _LOWER, width)
    boxes, below = lanes(upper, _judged_as(above, under), under.bottom + axis_height(under))
    names, below = name_rows(upper, below + 12) if head.narrow else (group(), below)
    marks = legend(every, above, 16 if head.narrow else _LEFT, below + 12)
    what = metric_text({one.metric for one in fixed}).removeprefix(", ") or "Score"
    margin = 16 if head.narrow else _LEFT
    return chart(
        width,
        below + (32 if marks else 8),
        head,
        f"Evidence: {description(upper, above)} {what}: {description(lower, under)}",
        label("Evidence for drift: the promise (logarithmic scale)", margin, above.top - 8, "dl-bold"),
        panel(promised, upper, above),
        label(f"{what}: the fixed threshold{SCORE.how(fixed)}", margin, under.top - 8, "dl-bold"),
        panel(fixed, lower, under),
        time_axis(under),
        boxes,
        names,
        marks,
    )


def _comparison(promised: Sequence[Analysis], fixed: Sequence[Analysis]) -> str:
    """Say when the promise and when the fixed threshold began to alert; both have answers."""
    days = several_days([*promised, *fixed])
    limits = [one for one in SCORE.thresholds(fixed) if one.class_ == "dl-alert"]
    rule = f"the fixed {limits[0].value:g}" if len(limits) == 1 else "the fixed threshold"
    alarms = [alarm_of(own) for own in by_stream(fixed).values()]
    sinces = [one.since_ns for one in alarms if one is not None and one.until_ns is None]
    if sinces:
        said = f"{rule} alerts since {clock_text(min(sinces), with_day=days)}"
    elif any(one is not None for one in alarms):
        said = f"{rule} no longer alerts"
    else:
        said = f"{rule} says nothing"
    return f"{finding(promised).partition('; ')[0]}; {said}"


def _judged_as(upper: Plot, lower: Plot) -> Plot:
    """Return a plot that judges windows as the upper panel does and lies where the lower one does."""
    return replace(lower, measure=upper.measure)


def _is_crowded(analyses: Sequence[Analysis]) -> bool:
    streams = by_stream(analyses)
    several_fields = len({field for _, field in streams}) > 1
    return several_fields or (under_promise(analyses) and len(streams) > LINES_OF_EVIDENCE_MAX)


def _sides(head: Head, names: float) -> tuple[float, float]:
    return (_LEFT_NARROW, head.width - 24) if head.narrow else (_LEFT, head.width - names)


def _nothing(title: str, width: int) -> str:
    head = Head(title, "No window is complete yet.", width)
    return chart(width, max(90, head.bottom + 12), head, "A chart without analyses.")


__all__ = ["PHONE", "WIDTH", "compared_chart", "score_chart"]
