"""An assay's scores over time: one line a device, the threshold, and what could not be judged.

Times are UTC and drawn to scale; a point stands in the middle of its window. A line is broken wherever a window has no
score; what was there instead (no data, too few values, nothing heard yet) is written in a lane of its own below.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from driftline.charts.scale import (
    Linear,
    ScoreScale,
    clock_text,
    duration_text,
    figure,
    metric_text,
    score_scale,
    span_text,
    time_ticks,
)
from driftline.charts.svg import (
    SERIES,
    Markup,
    chart,
    el,
    group,
    label,
    line,
    marker,
    number,
    shortened,
    spread,
    stretches,
)
from driftline.clock import NS_PER_S
from driftline.wire.api import Analysis, Status

WIDTH = 900
_LEFT, _TOP, _PLOT_HEIGHT = 62, 70, 236
_LANE_HEIGHT = 20
# More markers than this would touch each other; then only alerts and warnings keep theirs.
_MARKERS_MAX = 90
# Lines that can be told apart.
_LINES_MAX = len(SERIES)
_UNJUDGED: dict[Status, str] = {"NoData": "no data", "TooFew": "too few values", "Late": "not heard yet"}
# Size and filling say a status without colour.
_LOOKS: dict[Status, tuple[float, str]] = {
    "Alert": (5.5, "dl-hit"),
    "Warning": (4.2, "dl-full"),
    "Ok": (3.4, "dl-open"),
    "TooFew": (3.4, "dl-faint"),
    "NoData": (3.4, "dl-faint"),
    "Late": (3.4, "dl-faint"),
}
_MARKS: dict[Status, str] = {"Alert": "alert", "Warning": "warning", "Ok": "ok", "TooFew": "score of too few values"}


@dataclass(frozen=True, slots=True)
class _Series:
    """One line: its analyses in time order, and how it looks."""

    name: str
    analyses: Sequence[Analysis]
    look: int | None

    @property
    def class_(self) -> str:
        return "dl-rest" if self.look is None else f"dl-s{self.look}"

    @property
    def shape(self) -> str:
        return "circle" if self.look is None else SERIES[self.look][3]

    @property
    def dash(self) -> str | None:
        return None if self.look is None else SERIES[self.look][2] or None

    @property
    def highest(self) -> float:
        return max((one.score for one in self.analyses if one.score is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where things are."""

    x: Linear
    y: ScoreScale
    right: float
    bottom: float

    def middle(self, analysis: Analysis) -> float:
        return self.x((analysis.start_ns + analysis.end_ns) / 2)


def score_chart(analyses: Sequence[Analysis], *, title: str | None = None) -> str:
    """Draw scores of one or several devices as a complete SVG document.

    Without a title the chart says what was found, e.g. "out.sharpness: camera-3 over 0.25 since 09:36 UTC". No
    analyses make a chart that says so.
    """
    if not analyses:
        text = label("No window is complete yet.", 20, 62, "dl-soft")
        return chart(WIDTH, 90, title or "No scores yet", "A chart without analyses.", text)
    series = _series(analyses)
    title = title or finding(analyses)
    lanes = [one for one in series if any(analysis.status in _UNJUDGED for analysis in one.analyses)]
    # The lines that stand out come first; those that find no room are counted.
    lanes.sort(key=lambda one: one.look is None)
    untold = max(0, len(lanes) - _LINES_MAX)
    lanes = lanes[:_LINES_MAX]
    plot = _plot(analyses, series)
    days = _several_days(analyses)
    lanes_top = plot.bottom + (46 if days else 34)
    below = lanes_top + (len(lanes) + bool(untold)) * _LANE_HEIGHT
    legend = _legend(analyses, below + 12)
    return chart(
        WIDTH,
        below + (32 if legend else 4),
        title,
        _description(series, days),
        label(_subtitle(analyses), 20, 50, "dl-soft"),
        _bands(analyses, plot),
        _axes(analyses, plot),
        *(line(_LEFT, plot.y(value), plot.right, plot.y(value), class_) for _, value, class_ in _thresholds(analyses)),
        # What matters most is drawn last, on top.
        *(_drawn(one, plot, days) for one in sorted(series, key=lambda one: (one.look is not None, one.highest))),
        _names(analyses, series, plot),
        *(_lane(one, plot, lanes_top + i * _LANE_HEIGHT, days) for i, one in enumerate(lanes)),
        _untold(untold, lanes_top + len(lanes) * _LANE_HEIGHT),
        legend,
    )


def finding(analyses: Sequence[Analysis]) -> str:
    """Say in one line which devices are over their threshold since when, or that none is.

    A device is over "since" the first of the alerts that nothing judged has interrupted so far; one that came back is
    named with its first and last alert.
    """
    what = " and ".join(sorted({one.field or one.name for one in analyses}))
    limit = _limit(analyses)
    days = _several_days(analyses)
    since: dict[str, int] = {}
    past: dict[str, tuple[int, int]] = {}
    for name, own in _by_name(analyses).items():
        judged = [one for one in own if one.status not in _UNJUDGED]
        runs = stretches([one.status == "Alert" for one in judged])
        if runs and runs[-1][1] == len(judged):
            since[name] = judged[runs[-1][0]].start_ns
        elif runs:
            past[name] = (judged[runs[0][0]].start_ns, judged[runs[-1][1] - 1].end_ns)
    if since:
        first = clock_text(min(since.values()), with_day=days)
        return f"{what}: {_listed(since, len(_by_name(analyses)))} over {limit} since {first} UTC"
    if past:
        start = clock_text(min(start for start, _ in past.values()), with_day=days)
        end = clock_text(max(end for _, end in past.values()), with_day=days)
        return f"{what}: {_listed(past, len(_by_name(analyses)))} over {limit} between {start} and {end} UTC"
    if all(one.status in _UNJUDGED for one in analyses):
        return f"{what}: nothing could be judged"
    names = list(_by_name(analyses))
    return f"{what}: {names[0]} stays under {limit}" if len(names) == 1 else f"{what}: no device over {limit}"


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────────────────────


def _by_name(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """Return each line's analyses by what tells the lines apart: the device, or the field, or both."""
    fields, devices = len({one.field for one in analyses}), len({one.device for one in analyses})

    def name(one: Analysis) -> str:
        if fields == 1:
            return one.device
        return one.field if devices == 1 else f"{one.device} {one.field}"

    ordered = sorted(analyses, key=lambda one: (name(one), one.start_ns))
    return {key: list(own) for key, own in groupby(ordered, key=name)}


def _series(analyses: Sequence[Analysis]) -> list[_Series]:
    """Give every line its look while there are enough; of more lines those over a threshold get one, or the highest."""
    named = [_Series(name, own, None) for name, own in _by_name(analyses).items()]
    chosen = named
    if len(named) > _LINES_MAX:
        highest = sorted(named, key=lambda one: -one.highest)[: _LINES_MAX - 1]
        chosen = [one for one in highest if any(a.status in {"Alert", "Warning"} for a in one.analyses)] or highest[:1]
    looks = {one.name: look for look, one in enumerate(chosen)}
    return [_Series(one.name, one.analyses, looks.get(one.name)) for one in named]


def _plot(analyses: Sequence[Analysis], series: Sequence[_Series]) -> _Plot:
    longest = max(len(_short(one.name)) for one in series)
    beside = max(len(_threshold_text(name, value)) for name, value, _ in _thresholds(analyses))
    right = WIDTH - (20 + max(23 + 7.5 * longest, 10 + 7.3 * beside))
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    scores = [one.score for one in analyses if one.score is not None]
    thresholds = [t for one in analyses for t in (one.alert_threshold, one.warning_threshold) if t is not None]
    bottom = _TOP + _PLOT_HEIGHT
    return _Plot(Linear(start, end, _LEFT, right), score_scale(scores, thresholds, bottom, _TOP), right, bottom)


def _bands(analyses: Sequence[Analysis], plot: _Plot) -> Markup:
    """Shade the time in which any device was in alert."""
    spans = sorted((one.start_ns, one.end_ns) for one in analyses if one.status == "Alert")
    merged: list[list[int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return group(
        *(
            el("rect", x=plot.x(a), y=_TOP, width=plot.x(b) - plot.x(a), height=_PLOT_HEIGHT, class_="dl-band")
            for a, b in merged
        )
    )


def _axes(analyses: Sequence[Analysis], plot: _Plot) -> Markup:
    parts: list[Markup] = []
    for tick in plot.y.ticks:
        y = plot.y(tick)
        parts += [
            line(_LEFT, y, plot.right, y, "dl-grid"),
            label(f"{tick:g}", _LEFT - 8, y + 4, "dl-soft", "end"),
        ]
    parts.append(line(_LEFT, plot.bottom, plot.right, plot.bottom, "dl-axis"))
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    for tick in time_ticks(start, end, most=int((plot.right - _LEFT) / 62)):
        x = plot.x(tick.time_ns)
        parts += [
            line(x, plot.bottom, x, plot.bottom + 5, "dl-axis"),
            label(tick.text, x, plot.bottom + 19, "dl-soft", "middle"),
        ]
        if tick.date and _several_days(analyses):
            parts.append(label(tick.date, x, plot.bottom + 33, "dl-bold", "middle"))
    parts.append(label("UTC", plot.right + 23, plot.bottom + 19, "dl-soft"))
    return group(*parts)


def _thresholds(analyses: Sequence[Analysis]) -> list[tuple[str, float, str]]:
    """Return (name, score, class) of every threshold that counts for some of the analyses."""
    alerts = {one.alert_threshold for one in analyses}
    warnings = {one.warning_threshold for one in analyses if one.warning_threshold is not None}
    named = [("alert", value, "dl-alert") for value in sorted(alerts)]
    return named + [("warning", value, "dl-warn") for value in sorted(warnings)]


def _drawn(series: _Series, plot: _Plot, days: bool) -> Markup:
    """Draw one line, broken where there is no score, and its markers: alerts full and large, others open."""
    scored = [one.score is not None and one.status != "TooFew" for one in series.analyses]
    parts: list[Markup] = []
    for first, end in stretches(scored):
        points = [(plot.middle(one), plot.y(one.score or 0.0)) for one in series.analyses[first:end]]
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        if len(points) > 1:
            parts.append(el("polyline", points=path, class_="dl-line", stroke_dasharray=series.dash))
    # A point between two gaps has no line and must not vanish.
    lonely = {first for first, end in stretches(scored) if end - first == 1}
    few = len(series.analyses) <= _MARKERS_MAX and series.look is not None
    for i, one in enumerate(series.analyses):
        if one.score is not None and (few or i in lonely or one.status in {"Alert", "Warning"}):
            parts.append(_point(one, one.score, series, plot, days=days, dense=len(series.analyses) > _MARKERS_MAX))
    return group(*parts, class_=series.class_)


def _point(one: Analysis, score: float, series: _Series, plot: _Plot, *, days: bool, dense: bool) -> Markup:
    radius, class_ = _LOOKS[one.status]
    if dense:
        radius, class_ = 0.6 * radius, f"{class_} dl-dense"
    text = (
        f"{series.name}, {clock_text(one.start_ns, with_day=days)}–{clock_text(one.end_ns)} UTC: "
        f"{figure(score)}, {one.status}, {one.count} inferences, from {one.source}"
    )
    return group(el("title", text), marker(series.shape, plot.middle(one), plot.y(score), radius, class_))


def _names(analyses: Sequence[Analysis], series: Sequence[_Series], plot: _Plot) -> Markup:
    """Write beside the plot what each line is, thresholds too, moved apart where they meet."""
    ends: list[tuple[_Series, float, float]] = []
    for one in series:
        scored = [analysis for analysis in one.analyses if analysis.score is not None]
        if scored and one.look is not None:
            ends.append((one, plot.middle(scored[-1]), plot.y(scored[-1].score or 0.0)))
    # Of lines that end at the same height the one that was highest is named on top.
    ends.sort(key=lambda end: (end[2], -end[0].highest))
    thresholds = _thresholds(analyses)
    texts = [(_threshold_text(name, value), f"{class_}-text") for name, value, class_ in thresholds]
    others = sum(one.look is None for one in series)
    texts += [(f"{others} others", "dl-soft")] * bool(others)
    heights = [plot.y(value) for _, value, _ in thresholds] + [plot.bottom] * bool(others)
    places = spread([y for _, _, y in ends] + heights, 17.0, _TOP + 2.0, plot.bottom - 4.0)
    names = [_name(one, x, y, place, plot.right) for (one, x, y), place in zip(ends, places, strict=False)]
    beside = [
        label(text, plot.right + 10, place + 4, class_)
        for (text, class_), place in zip(texts, places[len(ends) :], strict=True)
    ]
    return group(*names, *beside)


def _name(series: _Series, x: float, y: float, place: float, right: float) -> Markup:
    corners = ((x + 7, y), (right + 2, y), (right + 8, place))
    return group(
        el("polyline", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), class_="dl-leader"),
        marker(series.shape, right + 14, place, 3.2, "dl-full"),
        label(_short(series.name), right + 23, place + 4, "dl-name"),
        class_=series.class_,
    )


def _lane(series: _Series, plot: _Plot, y: float, days: bool) -> Markup:
    """Draw what could not be judged, in time: one box a stretch of windows, with its reason as text."""
    parts: list[Markup] = []
    for _, own in groupby(series.analyses, key=lambda one: one.status):
        stretch = list(own)
        status = stretch[0].status
        if status not in _UNJUDGED:
            continue
        left, right = plot.x(stretch[0].start_ns), plot.x(stretch[-1].end_ns)
        reason = _UNJUDGED[status]
        span = f"{clock_text(stretch[0].start_ns, with_day=days)}–{clock_text(stretch[-1].end_ns)} UTC"
        box = el(
            "rect", x=left + 0.5, y=y, width=max(2.0, right - left - 1), height=14, rx=2, class_="dl-gap",
            stroke_dasharray="3 2" if status == "Late" else None,
        )  # fmt: skip
        parts.append(group(el("title", f"{series.name}, {span}: {reason}"), box, _reason(status, left, right, y)))
    name = label(_short(series.name), plot.right + 23, y + 11, "dl-name")
    mark = marker(series.shape, plot.right + 14, y + 7, 3.2, "dl-full")
    return group(*parts, mark, name, class_=series.class_)


def _untold(lines: int, y: float) -> Markup:
    """Say how many more lines have windows that were not judged; nothing where there is none."""
    text = f"{lines} more {'has' if lines == 1 else 'have'} windows that were not judged"
    return label(text, _LEFT, y + 11, "dl-soft") if lines else Markup()


def _reason(status: Status, left: float, right: float, y: float) -> Markup:
    """Write the reason as long as it fits, down to one sign."""
    signs: dict[Status, str] = {"NoData": "×", "TooFew": "<", "Late": "…"}
    texts = (_UNJUDGED[status], signs[status])
    text = next((one for one in texts if len(one) * 6.6 + 6 <= right - left), "")
    return label(text, (left + right) / 2, y + 11, "dl-soft", "middle")


def _legend(analyses: Sequence[Analysis], y: float) -> Markup:
    """Explain the marks that are there; a single kind of mark needs no words."""
    scored = {one.status for one in analyses if one.score is not None}
    entries: list[tuple[Status, str]] = [(status, text) for status, text in _MARKS.items() if status in scored]
    boxes = any(one.status in _UNJUDGED for one in analyses)
    if len(entries) + boxes < 2:
        return Markup()
    parts: list[Markup] = []
    x = float(_LEFT)
    for status, text in entries:
        radius, class_ = _LOOKS[status]
        parts += [marker("circle", x + 4, y, radius, class_), label(text, x + 14, y + 4, "dl-soft")]
        x += 34 + 6.6 * len(text)
    if boxes:
        parts.append(label("boxes: windows that were not judged", x + 4, y + 4, "dl-soft"))
    return group(*parts, class_="dl-s0")


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _short(name: str) -> str:
    return shortened(name, 22)


def _threshold_text(name: str, threshold: float) -> str:
    return f"{name} at {threshold:g}"


def _limit(analyses: Sequence[Analysis]) -> str:
    limits = {one.alert_threshold for one in analyses}
    return f"{limits.pop():g}" if len(limits) == 1 else "their threshold"


def _listed(names: Iterable[str], of: int) -> str:
    """Name up to three, else count them."""
    every = sorted(names)
    if len(every) > 3:
        return f"{len(every)} of {of}"
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}"


def _several_days(analyses: Sequence[Analysis]) -> bool:
    day_ns = 86_400 * NS_PER_S
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    return start // day_ns != (end - 1) // day_ns


def _subtitle(analyses: Sequence[Analysis]) -> str:
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    widths = {(one.end_ns - one.start_ns) / NS_PER_S for one in analyses}
    kind = f"{duration_text(widths.pop())} windows" if len(widths) == 1 else "windows"
    scale = score_scale([one.score for one in analyses if one.score is not None], [analyses[0].alert_threshold], 0, 1)
    how = "" if scale.knee is None else f"; scale linear up to {scale.knee:g}, logarithmic above"
    names = sorted({one.name for one in analyses})
    measured = metric_text({one.metric for one in analyses})
    return f"{shortened(names[0], 40) if len(names) == 1 else 'score'}{measured}, {kind}, {span_text(start, end)}{how}"


def _description(series: Sequence[_Series], days: bool) -> str:
    """Say in words what the picture shows."""
    sentences: list[str] = []
    for one in series:
        own = one.analyses
        alerts = [analysis for analysis in own if analysis.status == "Alert"]
        unjudged = sum(analysis.status in _UNJUDGED for analysis in own)
        text = f"{one.name}: {len(own)} windows, highest score {figure(one.highest)}, {len(alerts)} in alert"
        if alerts:
            text += f", the first at {clock_text(alerts[0].start_ns, with_day=days)} UTC"
        if unjudged:
            text += f", {unjudged} not judged"
        sentences.append(text + ".")
    return " ".join(sentences)
