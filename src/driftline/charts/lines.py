"""Lines over time on one plot: what scores, evidence and comparisons are drawn with.

Times are UTC and drawn to scale; a point stands in the middle of its window. A line is broken wherever a window has no
value; what was there instead (no data, too few values, nothing heard yet) is written in a lane of its own below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from driftline.charts.findings import by_stream, several_days
from driftline.charts.measure import SIGNS, Measure, Scale
from driftline.charts.scale import Linear, clock_text, duration_text, span_text, time_ticks
from driftline.charts.svg import (
    NARROW,
    SERIES,
    Markup,
    el,
    group,
    label,
    line,
    marker,
    number,
    shortened,
    spread,
)
from driftline.clock import NS_PER_S
from driftline.wire.api import Analysis, Status

WIDTH, PHONE = 900, 390
LANE_HEIGHT = 20
# More markers than this would touch each other; then only alerts and warnings keep theirs.
_MARKERS_MAX = 90
# Lines that can be told apart.
LINES_MAX = len(SERIES)
# Shape, size and filling say a status without colour; None is the shape of the line.
_LOOKS: dict[Status, tuple[str | None, float, str]] = {
    "Alert": ("triangle", 5.0, "dl-hit"),
    "Warning": ("diamond", 3.8, "dl-near"),
    "Ok": (None, 3.4, "dl-open"),
    "TooFew": (None, 3.4, "dl-faint"),
    "NoData": (None, 3.4, "dl-faint"),
    "Late": (None, 3.4, "dl-faint"),
}
_MARKS: dict[Status, str] = {"Alert": "alert", "Warning": "warning", "Ok": "ok", "TooFew": "score of too few values"}
# A window that overlaps a counted one adds nothing to the evidence, nor does a closed one; they are drawn accordingly.
NOT_COUNTED = "not counted: it overlaps a window that is, or is outside the opening hours"
_ASIDE_SIZE = 0.6


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its analyses in time order, and how it looks; None stands back behind the others."""

    name: str
    analyses: Sequence[Analysis]
    look: int | None

    @property
    def class_(self) -> str:
        """Return the class that carries its colour."""
        return "dl-rest" if self.look is None else f"dl-s{self.look}"

    @property
    def shape(self) -> str:
        """Return the shape of its markers."""
        return "circle" if self.look is None else SERIES[self.look][3]

    @property
    def dash(self) -> str | None:
        """Return the dash of its line."""
        return None if self.look is None else SERIES[self.look][2] or None


@dataclass(frozen=True, slots=True)
class Plot:
    """Where one panel's lines are drawn, and by what; names stand beside it, or in rows under it on a phone."""

    measure: Measure
    x: Linear
    y: Scale
    top: float
    bottom: float
    days: bool
    width: int = WIDTH

    @property
    def left(self) -> float:
        """Return where time begins."""
        return self.x.start

    @property
    def right(self) -> float:
        """Return where time ends."""
        return self.x.end

    @property
    def narrow(self) -> bool:
        """Whether it is for a phone."""
        return self.width < NARROW

    def middle(self, analysis: Analysis) -> float:
        """Return where a window's point stands."""
        return self.x((analysis.start_ns + analysis.end_ns) / 2)


def series_of(analyses: Sequence[Analysis], measure: Measure) -> list[Series]:
    """Give every line its look while there are enough; of more lines those that alert get one, or the highest."""
    named = [Series(name, own, None) for name, own in _by_name(analyses).items()]
    chosen = named
    if len(named) > LINES_MAX:
        highest = sorted(named, key=lambda one: -measure.highest(one.analyses))[: LINES_MAX - 1]
        chosen = [one for one in highest if any(a.status in {"Alert", "Warning"} for a in one.analyses)] or highest[:1]
    looks = {one.name: look for look, one in enumerate(chosen)}
    return [Series(one.name, one.analyses, looks.get(one.name)) for one in named]


def _by_name(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """Return each line's analyses by what tells the lines apart: the device, or the field, or both."""
    fields, devices = len({one.field for one in analyses}), len({one.device for one in analyses})
    streams = by_stream(analyses)
    if fields == 1:
        return {device: own for (device, _), own in streams.items()}
    return {field if devices == 1 else f"{device} {field}": own for (device, field), own in streams.items()}


def plot_of(
    analyses: Sequence[Analysis], measure: Measure, times: Linear, top: float, height: float, width: int = WIDTH
) -> Plot:
    """Place a panel whose times are those of the whole chart."""
    bottom = top + height
    return Plot(measure, times, measure.scale(analyses, bottom, top), top, bottom, several_days(analyses), width)


def times_of(analyses: Sequence[Analysis], left: float, right: float) -> Linear:
    """Return where the chart's time begins and ends."""
    return Linear(min(one.start_ns for one in analyses), max(one.end_ns for one in analyses), left, right)


def beside(series: Sequence[Series], thresholds: Sequence[str]) -> float:
    """Return how much room names and thresholds need beside a plot."""
    longest = max((len(short(one.name)) for one in series if one.look is not None), default=0)
    return 20 + max(23 + 7.5 * longest, 10 + 7.3 * max(map(len, thresholds), default=0), 60)


def panel(analyses: Sequence[Analysis], series: Sequence[Series], plot: Plot) -> Markup:
    """Draw everything of one panel but its time axis: bands, grid, thresholds, lines, names."""
    # What matters most is drawn last, on top.
    ordered = sorted(series, key=lambda one: (one.look is not None, plot.measure.highest(one.analyses)))
    return group(
        bands(analyses, plot),
        _grid(plot),
        limits(analyses, plot),
        restarts(analyses, plot),
        *(drawn(one, plot) for one in ordered),
        limit_names(analyses, plot) if plot.narrow else _names(analyses, series, plot),
    )


# ── the ground ───────────────────────────────────────────────────────────────────────────────────────────────────


def bands(analyses: Sequence[Analysis], plot: Plot) -> Markup:
    """Shade the time in which any device was in alert."""
    merged: list[list[int]] = []
    for start, end in sorted((one.start_ns, one.end_ns) for one in analyses if one.status == "Alert"):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    height = plot.bottom - plot.top
    return group(
        *(
            el("rect", x=plot.x(a), y=plot.top, width=plot.x(b) - plot.x(a), height=height, class_="dl-band")
            for a, b in merged
        )
    )


def _grid(plot: Plot) -> Markup:
    parts: list[Markup] = []
    for tick, text in zip(plot.y.ticks, plot.y.tick_texts, strict=True):
        y = plot.y(tick)
        parts += [line(plot.left, y, plot.right, y, "dl-grid"), label(text, plot.left - 8, y + 4, "dl-soft", "end")]
    return group(*parts, line(plot.left, plot.bottom, plot.right, plot.bottom, "dl-axis"))


def limits(analyses: Sequence[Analysis], plot: Plot) -> Markup:
    """Draw the thresholds."""
    every = plot.measure.thresholds(analyses)
    return group(*(line(plot.left, plot.y(one.value), plot.right, plot.y(one.value), one.class_) for one in every))


def limit_names(analyses: Sequence[Analysis], plot: Plot) -> Markup:
    """Name the thresholds inside the plot, where there is no room beside it."""
    every = plot.measure.thresholds(analyses)
    return group(
        *(label(one.text, plot.left + 4, plot.y(one.value) - 5, f"{one.class_}-text", halo=True) for one in every)
    )


def restarts(analyses: Sequence[Analysis], plot: Plot) -> Markup:
    """Mark where windows began to be compared with another baseline."""
    begins: dict[int, int] = {}
    for one in analyses:
        begins[one.baseline_version] = min(one.start_ns, begins.get(one.baseline_version, one.start_ns))
    parts: list[Markup] = []
    for version in sorted(begins)[1:]:
        x = plot.x(begins[version])
        anchor = "end" if x > plot.right - 90 else "start"
        parts += [
            line(x, plot.top, x, plot.bottom, "dl-mark-mean"),
            label(
                f"baseline {version}", x + (-5 if anchor == "end" else 5), plot.top + 12, "dl-bold", anchor, halo=True
            ),
        ]
    return group(*parts)


def time_axis(plot: Plot) -> Markup:
    """Draw the ticks of time under a plot."""
    parts: list[Markup] = []
    for tick in time_ticks(round(plot.x.low), round(plot.x.high), most=int((plot.right - plot.left) / 62)):
        x = plot.x(tick.time_ns)
        parts += [
            line(x, plot.bottom, x, plot.bottom + 5, "dl-axis"),
            label(tick.text, x, plot.bottom + 19, "dl-soft", "middle"),
        ]
        if tick.date and plot.days:
            parts.append(label(tick.date, x, plot.bottom + 33, "dl-bold", "middle"))
    # On a phone the line under the title says it.
    return group(*parts) if plot.narrow else group(*parts, label("UTC", plot.right + 23, plot.bottom + 19, "dl-soft"))


def axis_height(plot: Plot) -> float:
    """Return how much room the time axis needs under its plot."""
    return 46 if plot.days else 34


# ── lines and points ─────────────────────────────────────────────────────────────────────────────────────────────


def drawn(series: Series, plot: Plot) -> Markup:
    """Draw one line, broken where there is no value, and its markers: alerts full and large, others open."""
    values = [plot.measure.value(one) for one in series.analyses]
    runs = _runs(series.analyses, plot.measure)
    parts: list[Markup] = []
    for first, end in runs:
        if end - first > 1:
            places = zip(series.analyses[first:end], values[first:end], strict=True)
            path = " ".join(f"{number(plot.middle(one))},{number(plot.y(value or 0.0))}" for one, value in places)
            parts.append(el("polyline", points=path, class_="dl-line", stroke_dasharray=series.dash))
    # A point between two gaps has no line and must not vanish.
    lonely = {first for first, end in runs if end - first == 1}
    dense = len(series.analyses) > _MARKERS_MAX * (plot.right - plot.left) / 700
    few = not dense and series.look is not None
    for i, (one, value) in enumerate(zip(series.analyses, values, strict=True)):
        if value is not None and (few or i in lonely or one.status in {"Alert", "Warning"}):
            parts.append(_point(one, value, series, plot, dense=dense))
    return group(*parts, class_=series.class_)


def _runs(own: Sequence[Analysis], measure: Measure) -> list[tuple[int, int]]:
    """Return (first, end) of what one line may join: windows that were judged by one baseline."""
    keys = [None if measure.gap(one) or measure.value(one) is None else one.baseline_version for one in own]
    changes = [i for i, (a, b) in enumerate(pairwise(keys), 1) if a != b]
    return [(first, end) for first, end in pairwise([0, *changes, len(keys)]) if keys[first] is not None]


def _point(one: Analysis, value: float, series: Series, plot: Plot, *, dense: bool) -> Markup:
    shape, radius, class_ = _LOOKS[one.status]
    if not _counted(one):
        radius, class_ = _ASIDE_SIZE * radius, f"dl-aside{' dl-alarmed' if one.status == 'Alert' else ''}"
    if dense:
        radius, class_ = 0.6 * radius, f"{class_} dl-dense"
    mark = marker(shape or series.shape, plot.middle(one), plot.y(value), radius, class_)
    return group(el("title", point_text(one, series.name, plot)), mark)


def point_text(one: Analysis, name: str, plot: Plot) -> str:
    """Say what a point is."""
    value = plot.measure.value(one)
    shown = "" if value is None else f" {plot.measure.noun} {plot.measure.written(value)},"
    aside = "" if _counted(one) else f", {NOT_COUNTED}"
    return (
        f"{name}, {clock_text(one.start_ns, with_day=plot.days)}–{clock_text(one.end_ns)} UTC:{shown} {one.status}, "
        f"{one.count} inferences, from {one.source}{aside}"
    )


def _counted(one: Analysis) -> bool:
    return one.evidence is None or one.evidence.counted


# ── names, lanes, legend ─────────────────────────────────────────────────────────────────────────────────────────


def _names(analyses: Sequence[Analysis], series: Sequence[Series], plot: Plot) -> Markup:
    """Write beside the plot what each line is, thresholds too, moved apart where they meet."""
    ends: list[tuple[Series, float, float]] = []
    for one in series:
        last = next((a for a in reversed(one.analyses) if plot.measure.value(a) is not None), None)
        if last is not None and one.look is not None:
            ends.append((one, plot.middle(last), plot.y(plot.measure.value(last) or 0.0)))
    # Of lines that end at the same height the one that was highest is named on top.
    ends.sort(key=lambda end: (end[2], -plot.measure.highest(end[0].analyses)))
    thresholds = plot.measure.thresholds(analyses)
    texts = [(one.text, f"{one.class_}-text") for one in thresholds]
    others = sum(one.look is None for one in series)
    texts += [(f"{others} others", "dl-soft")] * bool(others)
    heights = [plot.y(one.value) for one in thresholds] + [plot.bottom] * bool(others)
    places = spread([y for _, _, y in ends] + heights, 17.0, plot.top + 2.0, plot.bottom - 4.0)
    names = [_name(one, x, y, place, plot.right) for (one, x, y), place in zip(ends, places, strict=False)]
    texts_beside = [
        label(text, plot.right + 10, place + 4, class_)
        for (text, class_), place in zip(texts, places[len(ends) :], strict=True)
    ]
    return group(*names, *texts_beside)


def _name(series: Series, x: float, y: float, place: float, right: float) -> Markup:
    corners = ((x + 7, y), (right + 2, y), (right + 8, place))
    return group(
        el("polyline", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), class_="dl-leader"),
        marker(series.shape, right + 14, place, 3.2, "dl-full"),
        label(short(series.name), right + 23, place + 4, "dl-name"),
        class_=series.class_,
    )


def name_rows(series: Sequence[Series], y: float) -> tuple[Markup, float]:
    """Write what each line is in rows, for a phone, and return where they end; a single line needs no name."""
    named = [one for one in series if one.look is not None]
    others = len(series) - len(named)
    if len(series) == 1:
        return Markup(), y
    parts: list[Markup] = []
    for i, one in enumerate(named):
        at = y + 17 * i
        stroke = el("line", x1=16, y1=at, x2=46, y2=at, class_="dl-line", stroke_dasharray=one.dash)
        mark = marker(one.shape, 31, at, 3.2, "dl-full")
        parts.append(group(stroke, mark, label(shortened(one.name, 42), 54, at + 4, "dl-name"), class_=one.class_))
    below = y + 17 * len(named)
    if others:
        parts.append(label(f"{others} others", 54, below + 4, "dl-soft"))
    return group(*parts), below + 17 * bool(others)


def lanes(series: Sequence[Series], plot: Plot, top: float) -> tuple[Markup, float]:
    """Draw a lane for every line with windows that were not judged, and return where they end.

    The lines that stand out come first; those that find no room are counted.
    """
    gapped = [one for one in series if any(plot.measure.gap(analysis) is not None for analysis in one.analyses)]
    gapped.sort(key=lambda one: one.look is None)
    shown, untold = gapped[:LINES_MAX], max(0, len(gapped) - LINES_MAX)
    parts = [_lane(one, plot, top + i * LANE_HEIGHT) for i, one in enumerate(shown)]
    below = top + len(shown) * LANE_HEIGHT
    if untold:
        text = f"{untold} more {'has' if untold == 1 else 'have'} windows that were not judged"
        parts.append(label(text, plot.left, below + 11, "dl-soft"))
    return group(*parts), below + LANE_HEIGHT * bool(untold)


def _lane(series: Series, plot: Plot, y: float) -> Markup:
    """Draw what could not be judged, in time: one box a stretch of windows, with its reason as text."""
    if plot.narrow:
        name, mark = Markup(), marker(series.shape, plot.left - 12, y + 7, 3.2, "dl-full")
    else:
        name = label(short(series.name), plot.right + 23, y + 11, "dl-name")
        mark = marker(series.shape, plot.right + 14, y + 7, 3.2, "dl-full")
    return group(*gap_boxes(series, plot, y, 14), mark, name, class_=series.class_)


def gap_boxes(series: Series, plot: Plot, y: float, height: float) -> list[Markup]:
    """Return a box for each stretch of windows of which nothing could be said, with the reason where it fits."""
    parts: list[Markup] = []
    for reason, own in groupby(series.analyses, key=plot.measure.gap):
        stretch = list(own)
        if reason is None:
            continue
        left, right = plot.x(stretch[0].start_ns), plot.x(stretch[-1].end_ns)
        span = f"{clock_text(stretch[0].start_ns, with_day=plot.days)}–{clock_text(stretch[-1].end_ns)} UTC"
        box = el(
            "rect", x=left + 0.5, y=y, width=max(2.0, right - left - 1), height=height, rx=2, class_="dl-gap",
            stroke_dasharray="3 2" if stretch[0].status == "Late" else None,
        )  # fmt: skip
        words = _reason(reason, left, right, y + height / 2 + 4)
        parts.append(group(el("title", f"{series.name}, {span}: {reason}"), box, words))
    return parts


def _reason(reason: str, left: float, right: float, y: float) -> Markup:
    """Write the reason as long as it fits, down to one sign."""
    text = next((one for one in (reason, SIGNS[reason]) if len(one) * 6.6 + 6 <= right - left), "")
    return label(text, (left + right) / 2, y, "dl-soft", "middle")


def legend(analyses: Sequence[Analysis], plot: Plot, x: float, y: float) -> Markup:
    """Explain the marks that are there; a single kind of mark needs no words."""
    valued = [one for one in analyses if plot.measure.value(one) is not None]
    statuses = {one.status for one in valued if _counted(one)}
    entries = [(_LOOKS[status], text) for status, text in _MARKS.items() if status in statuses]
    if any(not _counted(one) for one in valued):
        entries.append(((None, 2.0, "dl-aside"), "small: not counted"))
    boxes = any(plot.measure.gap(one) is not None for one in analyses)
    if len(entries) + boxes < 2:
        return Markup()
    parts: list[Markup] = []
    for (shape, radius, class_), text in entries:
        parts += [marker(shape or "circle", x + 4, y, radius, class_), label(text, x + 14, y + 4, "dl-soft")]
        x += 34 + 6.6 * len(text)
    if boxes:
        parts.append(label("boxes: not judged" if plot.narrow else "boxes: windows that were not judged",
                           x + 4, y + 4, "dl-soft"))  # fmt: skip
    return group(*parts, class_="dl-s0")


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def short(name: str) -> str:
    """Cut a name to what fits beside a plot."""
    return shortened(name, 22)


def about(analyses: Sequence[Analysis], measured: str) -> str:
    """Write the line under the title: which assay, what is measured, how long windows are, and when."""
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    widths = {(one.end_ns - one.start_ns) / NS_PER_S for one in analyses}
    kind = f"{duration_text(widths.pop())} windows" if len(widths) == 1 else "windows"
    names = sorted({one.name for one in analyses})
    return f"{shortened(names[0], 40) if len(names) == 1 else 'score'}{measured}, {kind}, {span_text(start, end)}"


def description(series: Sequence[Series], plot: Plot) -> str:
    """Say in words what the picture shows."""
    sentences: list[str] = []
    for one in series:
        own = one.analyses
        alerts = [analysis for analysis in own if analysis.status == "Alert"]
        unjudged = sum(plot.measure.gap(analysis) is not None for analysis in own)
        highest = plot.measure.written(plot.measure.highest(own))
        text = f"{one.name}: {len(own)} windows, highest {plot.measure.noun} {highest}, {len(alerts)} in alert"
        if alerts:
            text += f", the first at {clock_text(alerts[0].start_ns, with_day=plot.days)} UTC"
        if unjudged:
            text += f", {unjudged} not judged"
        sentences.append(text + ".")
    return " ".join(sentences)
