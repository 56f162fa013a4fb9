"""Small multiples: one low panel a device and field, under each other on one time axis, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass

from driftline.charts.findings import alarm_of, by_stream, finding, several_days, what_moved
from driftline.charts.lines import (
    WIDTH,
    Plot,
    Series,
    about,
    axis_height,
    bands,
    drawn,
    gap_boxes,
    limits,
    plot_of,
    restarts,
    time_axis,
    times_of,
)
from driftline.charts.measure import EVIDENCE, Measure, measure_of, measured_text
from driftline.charts.scale import Linear, clock_text
from driftline.charts.svg import Head, Markup, chart, el, group, label, line, marker, shortened
from driftline.wire.api import Analysis

# More panels than this are a long page, and the calm ones look all the same.
PANELS_MAX = 12
_LEFT, _RIGHT = 196, 680
_HEIGHT, _STEP = 44, 58
# On a phone the names stand above their panel.
_STEP_NARROW = 84


@dataclass(frozen=True, slots=True)
class _Stream:
    """One panel's windows in time order."""

    device: str
    field: str
    own: Sequence[Analysis]
    measure: Measure

    @property
    def newest(self) -> Analysis | None:
        """Return the newest window that was judged."""
        return next((one for one in reversed(self.own) if self.measure.gap(one) is None), None)

    @property
    def urgency(self) -> tuple[int, float, float, str, str]:
        """Sort streams: in alarm, then warned, then those that were; of equals the highest first."""
        newest, alarm = self.newest, alarm_of(self.own)
        status = "" if newest is None else newest.status
        rank = 0 if alarm is not None and alarm.until_ns is None else 1 if status == "Warning" else 2 if alarm else 3
        now = 0.0 if newest is None else self.measure.value(newest) or 0.0
        return rank, -now, -self.measure.highest(self.own), self.device, self.field


def multiples_chart(
    analyses: Sequence[Analysis], *, title: str | None = None, most: int = PANELS_MAX, width: int = WIDTH
) -> str:
    """Draw a panel for each device and field, with its threshold, as a complete SVG document; there are some analyses.

    Of more than `most` the worst are drawn and the others counted.
    """
    measure = measure_of(analyses)
    every = [_Stream(device, field, own, measure) for (device, field), own in by_stream(analyses).items()]
    every.sort(key=lambda one: one.urgency)
    shown, hidden = every[:most], every[most:]
    head = Head(title or finding(analyses), about(analyses, measured_text(measure, analyses)) + _scale(measure), width)
    left, right = (24, width - 24) if head.narrow else (_LEFT, width - WIDTH + _RIGHT)
    times = times_of(analyses, left, right)
    step = _STEP_NARROW if head.narrow else _STEP
    tops = [head.bottom + (34 if head.narrow else 8) + i * step for i in range(len(shown))]
    plots = [_plot(analyses, measure, times, top, width) for top in tops]
    axis = Plot(measure, times, plots[-1].y, tops[0], plots[-1].bottom + 4, several_days(analyses), width)
    below = axis.bottom + axis_height(axis)
    return chart(
        width,
        below + (26 if hidden else 4),
        head,
        _description(shown, hidden, several_days(analyses)),
        *(_panel(one, plot, analyses, first=i == 0) for i, (one, plot) in enumerate(zip(shown, plots, strict=True))),
        time_axis(axis),
        label(_untold(hidden, measure), left, below + 8, "dl-soft") if hidden else Markup(),
    )


def _plot(analyses: Sequence[Analysis], measure: Measure, times: Linear, top: float, width: int) -> Plot:
    """Place one panel; all have the same scale, so that heights compare."""
    return plot_of(analyses, measure, times, top, _HEIGHT, width)


def _panel(one: _Stream, plot: Plot, analyses: Sequence[Analysis], *, first: bool) -> Markup:
    series = Series(f"{one.device}, {one.field}", one.own, 0)
    ground = el("rect", x=plot.left, y=plot.top, width=plot.right - plot.left, height=_HEIGHT, class_="dl-ground")
    return group(
        ground,
        bands(one.own, plot),
        group(*gap_boxes(series, plot, plot.top, _HEIGHT), class_="dl-s0"),
        limits(one.own, plot),
        restarts(one.own, plot) if first or len({a.baseline_version for a in one.own}) > 1 else Markup(),
        drawn(series, plot),
        line(plot.left, plot.bottom, plot.right, plot.bottom, "dl-axis"),
        _said(one, plot, analyses),
    )


def _said(one: _Stream, plot: Plot, analyses: Sequence[Analysis]) -> Markup:
    """Write which stream it is and how it is: beside the panel, or above it on a phone."""
    several_fields = len({a.field for a in analyses}) > 1
    several_devices = len({a.device for a in analyses}) > 1
    first, second = (one.device, one.field) if several_devices else (one.field, "")
    second = second if several_fields else ""
    class_, words, detail = _state(one, plot)
    mark = marker(*_MARKS[class_][:1], plot.right + 16, plot.top + 12, *_MARKS[class_][1:])
    if plot.narrow:
        name = f"{first} {second}".strip()
        mark = marker(*_MARKS[class_][:1], plot.left + 5, plot.top - 10, *_MARKS[class_][1:])
        room = (plot.right - plot.left) / 7
        return group(
            mark,
            label(shortened(name, room - len(words) - 4), plot.left + 15, plot.top - 6, "dl-bold"),
            label(words, plot.right, plot.top - 6, class_, "end"),
            class_="dl-s0",
        )
    middle = plot.top + (16 if second else 26)
    return group(
        label(shortened(first, 24), 20, middle, "dl-bold"),
        label(shortened(second, 26), 20, middle + 17, "dl-soft") if second else Markup(),
        mark,
        label(words, plot.right + 26, plot.top + 16, class_),
        label(shortened(detail, 28), plot.right + 26, plot.top + 33, "dl-soft"),
        class_="dl-s0",
    )


_MARKS = {
    "dl-alert-text": ("triangle", 5.0, "dl-hit"),
    "dl-warn-text": ("diamond", 3.8, "dl-near"),
    "dl-bold": ("circle", 3.4, "dl-open"),
    "dl-soft": ("square", 3.4, "dl-faint"),
}


def _state(one: _Stream, plot: Plot) -> tuple[str, str, str]:
    """Return a stream's look, its state in words, and one detail."""
    newest, alarm = one.newest, alarm_of(one.own)
    if newest is None:
        return "dl-soft", "not judged", one.measure.gap(one.own[-1]) or ""
    value = one.measure.value(newest)
    detail = "" if value is None else f"{one.measure.noun} {one.measure.written(value)}"
    if alarm is not None and alarm.until_ns is None:
        since = f"alarm since {clock_text(alarm.since_ns, with_day=plot.days)}"
        return "dl-alert-text", since, what_moved(alarm.newest) or detail
    if newest.status == "Warning":
        return "dl-warn-text", "warning", detail
    if alarm is not None and alarm.until_ns is not None:
        return "dl-bold", f"alarm until {clock_text(alarm.until_ns, with_day=plot.days)}", detail
    return "dl-bold", "ok", detail


def _scale(measure: Measure) -> str:
    return f"; one scale, dashes are the alarm{' and a tenth of it' if measure is EVIDENCE else ' threshold'}"


def _untold(hidden: Sequence[_Stream], measure: Measure) -> str:
    alarmed = sum(one.urgency[0] == 0 for one in hidden)
    highest = max(measure.highest(one.own) for one in hidden)
    also = (
        f", {alarmed} of them in alarm" if alarmed else f"; their highest {measure.noun} is {measure.written(highest)}"
    )
    return f"{len(hidden)} more not drawn{also}"


def _description(shown: Sequence[_Stream], hidden: Sequence[_Stream], days: bool) -> str:
    sentences: list[str] = []
    for one in shown:
        alarm = alarm_of(one.own)
        highest = one.measure.written(one.measure.highest(one.own))
        text = f"{one.device}, {one.field}: {len(one.own)} windows, highest {one.measure.noun} {highest}"
        if alarm is not None and alarm.until_ns is None:
            text += f", in alarm since {clock_text(alarm.since_ns, with_day=days)} UTC"
        sentences.append(text + ".")
    return " ".join([*sentences, *([f"{len(hidden)} more are not drawn."] if hidden else [])])
