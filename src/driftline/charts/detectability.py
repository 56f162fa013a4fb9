"""What an assay would see before it runs: which share of drifted streams it finds, against how far they shift."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from driftline.charts.scale import Linear, tick_texts
from driftline.charts.svg import SERIES, Head, Markup, chart, el, group, label, line, marker, number, shortened, spread
from driftline.clock import iso
from driftline.wire.api import Detectable, Preview, StreamPreview

WIDTH = 900
_LEFT, _HEIGHT = 62, 236
# So many streams are named one by one; of more, the one that sees least, and the median of all.
_NAMED_MAX = 4
# A shift counts as one that is found from this share on, as in `StreamPreview.smallest_shift`.
FOUND = 0.8


@dataclass(frozen=True, slots=True)
class _Shifts:
    """Places of shifts, which are all above 0: logarithmic, since small ones decide and are simulated densely."""

    low: float
    high: float
    first: float
    end: float

    @property
    def start(self) -> float:
        """Where the axis begins, a little left of the least shift."""
        return self.first - 24

    def __call__(self, shift: float) -> float:
        """Return the place of a shift."""
        if self.high <= self.low:
            return self.end
        return self.first + (self.end - self.first) * math.log(shift / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True, slots=True)
class _Curve:
    """One line: by shift, the share found and how many windows it takes half of them."""

    name: str
    points: Sequence[Detectable]
    look: int | None

    @property
    def class_(self) -> str:
        return "dl-rest" if self.look is None else f"dl-s{self.look}"


def detectability_chart(preview: Preview, *, title: str | None = None, width: int = WIDTH) -> str:
    """Draw the share of simulated streams found within so many windows, as a complete SVG document.

    A line a device and field; of many, the one that sees least and the median. Under each shift stands how many windows
    it takes half of the streams. Without a title the chart says what is found: "Within 20 windows a shift of 0.5 sd is
    found in 9 of 10". Streams whose baseline carries no promise are counted.
    """
    judged = _judged(preview)
    if not judged:
        reasons = [one.calibrated.refused or _future(one, preview.within) for one in preview.streams]
        head = Head(
            title or "Nothing could be simulated", reasons[0] if reasons else "There is no baseline yet.", width
        )
        return chart(width, max(90, head.bottom + 12), head, "A chart without simulations.")
    curves = _curves(judged)
    head = Head(title or finding(preview), _subtitle(preview, judged), width)
    beside = 16 if head.narrow else 40 + 7.5 * max(len(shortened(one.name, 26)) for one in curves)
    shifts = sorted({point.shift for one in judged for point in one.detectable})
    x = _Shifts(shifts[0], shifts[-1], 74 if head.narrow else _LEFT + 24, width - beside - (8 if head.narrow else 0))
    y = Linear(0.0, 1.0, head.bottom + _HEIGHT, head.bottom + 4)
    names, below = _rows(curves, x, y, shifts, narrow=head.narrow)
    return chart(
        width,
        below + 12,
        head,
        _description(preview, curves),
        _axes(x, y, shifts),
        line(x.start, y(FOUND), x.end, y(FOUND), "dl-warn"),
        label("8 of 10", x.start + 6, y(FOUND) - 6, "dl-warn-text", halo=True),
        *(_drawn(one, x, y) for one in sorted(curves, key=lambda one: one.look is not None)),
        group() if head.narrow else _names(curves, x, y),
        names,
    )


def finding(preview: Preview) -> str:
    """Say the least shift that every device and field finds, and how surely; at least one was simulated."""
    judged = _judged(preview)
    shares = _everywhere(judged)
    within = f"Within {preview.within} windows"
    found = [shift for shift in sorted(shares) if shares[shift] >= FOUND]
    if not found:
        return f"{within} no shift up to {max(shares, default=0.0):g} sd is found in 8 of 10"
    tenths = int(10 * shares[found[0]] + 1e-9)
    how = "every time" if tenths == 10 else f"in {tenths} of 10"
    return f"{within} a shift of {found[0]:g} sd is found {how}"


def _judged(preview: Preview) -> list[StreamPreview]:
    """Return the streams that were simulated."""
    return [one for one in preview.streams if one.detectable]


def _everywhere(judged: Sequence[StreamPreview]) -> dict[float, float]:
    """Return by shift the share found where it is found least."""
    shares: dict[float, float] = {}
    for one in judged:
        for point in one.detectable:
            shares[point.shift] = min(point.found, shares.get(point.shift, 1.0))
    return shares


def _curves(judged: Sequence[StreamPreview]) -> list[_Curve]:
    several_devices = len({one.device for one in judged}) > 1
    several_fields = len({one.field for one in judged}) > 1

    def name(one: StreamPreview) -> str:
        device = one.device or "all devices"
        return (
            f"{device} {one.field}" if several_devices and several_fields else device if several_devices else one.field
        )

    ordered = sorted(judged, key=lambda one: (_area(one), name(one)))
    if len(judged) <= _NAMED_MAX:
        return [_Curve(name(one), one.detectable, look) for look, one in enumerate(ordered)]
    rest = [_Curve(name(one), one.detectable, None) for one in ordered[1:]]
    return [_Curve(f"worst: {name(ordered[0])}", ordered[0].detectable, 0), _median(judged), *rest]


def _area(one: StreamPreview) -> float:
    return sum(point.found for point in one.detectable)


def _median(judged: Sequence[StreamPreview]) -> _Curve:
    by_shift: dict[float, list[Detectable]] = {}
    for one in judged:
        for point in one.detectable:
            by_shift.setdefault(point.shift, []).append(point)
    points = [
        Detectable(shift=shift, found=median(one.found for one in own), median_windows=_median_windows(own))
        for shift, own in sorted(by_shift.items())
    ]
    return _Curve(f"median of {len(judged)}", points, 1)


def _median_windows(own: Sequence[Detectable]) -> float | None:
    # Those that never find it take longest.
    windows = sorted(float("inf") if one.median_windows is None else one.median_windows for one in own)
    middle = windows[len(windows) // 2]
    return None if middle == float("inf") else middle


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────────────────────


def _axes(x: _Shifts, y: Linear, shifts: Sequence[float]) -> Markup:
    parts: list[Markup] = []
    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        parts += [
            line(x.start, at, x.end, at, "dl-grid"),
            label(f"{tenth * 10}%", x.start - 8, at + 4, "dl-soft", "end"),
        ]
    for shift, text in _apart(x, shifts):
        parts += [
            line(x(shift), y.start, x(shift), y.start + 5, "dl-axis"),
            label(text, x(shift), y.start + 19, "dl-soft", "middle"),
        ]
    return group(*parts, line(x.start, y.start, x.end, y.start, "dl-axis"))


def _apart(x: _Shifts, shifts: Sequence[float]) -> list[tuple[float, str]]:
    """Return those shifts whose texts do not touch, the largest first, with their texts."""
    kept: list[tuple[float, str]] = []
    for shift, text in reversed(list(zip(shifts, tick_texts(shifts), strict=True))):
        if not kept or x(kept[-1][0]) - x(shift) >= 34:
            kept.append((shift, text))
    return kept


def _drawn(curve: _Curve, x: _Shifts, y: Linear) -> Markup:
    path = " ".join(f"{number(x(one.shift))},{number(y(one.found))}" for one in curve.points)
    dash = None if curve.look is None else SERIES[curve.look][2] or None
    shape = "circle" if curve.look is None else SERIES[curve.look][3]
    points = [
        group(el("title", _point_text(curve.name, one)), marker(shape, x(one.shift), y(one.found), 3.6, "dl-open"))
        for one in (curve.points if curve.look is not None else ())
    ]
    return group(el("polyline", points=path, class_="dl-line", stroke_dasharray=dash), *points, class_=curve.class_)


def _point_text(name: str, one: Detectable) -> str:
    return f"{name}: a shift of {one.shift:g} sd is found in {one.found:.0%}, {_windows_text(one)}"


def _windows_text(one: Detectable) -> str:
    return "half of them never" if one.median_windows is None else f"half within {one.median_windows:g} windows"


def _names(curves: Sequence[_Curve], x: _Shifts, y: Linear) -> Markup:
    named = [one for one in curves if one.look is not None]
    heights = [y(one.points[-1].found) for one in named]
    places = spread(heights, 17.0, y.end, y.start - 4.0)
    others = len(curves) - len(named)
    rest = label(f"{others} others", x.end + 10, y.start - 4, "dl-soft") if others else Markup()
    return group(
        *(
            label(shortened(one.name, 26), x.end + 10, place + 4, "dl-name", halo=True)
            if one.look is None
            else group(label(shortened(one.name, 26), x.end + 10, place + 4, "dl-name"), class_=one.class_)
            for one, place in zip(named, places, strict=True)
        ),
        rest,
    )


def _rows(
    curves: Sequence[_Curve], x: _Shifts, y: Linear, shifts: Sequence[float], *, narrow: bool
) -> tuple[Markup, float]:
    """Write under each shift how many windows it takes half of the streams, a row a named line."""
    top = y.start + 38
    parts: list[Markup] = [label("shift in the baseline's standard deviations", x.start, top, "dl-soft")]
    parts.append(label("windows until half are found (– never):", x.start, top + 22, "dl-soft"))
    below = top + 22
    for curve in (one for one in curves if one.look is not None):
        if narrow:
            below += 18
            parts.append(group(label(shortened(curve.name, 44), x.start, below, "dl-name"), class_=curve.class_))
        below += 18
        windows = {one.shift: one.median_windows for one in curve.points}
        cells = [
            label("–" if (found := windows.get(shift)) is None else f"{found:g}", x(shift), below, None, "middle")
            for shift, _ in _apart(x, shifts)
        ]
        named = Markup() if narrow else label(shortened(curve.name, 26), x.end + 24, below, "dl-name")
        parts.append(group(*cells, named, class_=curve.class_))
    return group(*parts), below


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def stream_text(stream: StreamPreview, within: int) -> str:
    """Say of one device and field what it alarmed about, and the least shift that it finds in so many windows."""
    if stream.calibrated.refused is not None:
        return f"no promise: {stream.calibrated.refused}"
    return f"{_past(stream)}; {_future(stream, within)}"


def _past(stream: StreamPreview) -> str:
    count = len(stream.past_alarms)
    alarms = f"{count} alarm{'' if count == 1 else 's'}"
    first = "" if not count else f" (the first at {iso(stream.past_alarms[0])})"
    return f"{alarms} over {stream.past_windows} past windows{first}"


def _why_not(stream: StreamPreview) -> str:
    """Say what a simulation lacks, and the way out; '' where all shifts it knows are below min_effect."""
    n = stream.calibrated.n
    if stream.calibrated.windows:
        return ""
    if not n:
        return ": no window has shown yet how many values one has; look again after the first"
    return f": the baseline does not fill one window of {n:,} values; give a longer one, or take narrower windows"


def _future(stream: StreamPreview, within: int) -> str:
    found = next((one for one in stream.detectable if one.shift == stream.smallest_shift), None)
    if found is not None:
        return f"finds a shift of {found.shift:g} sd within {within} windows in {_of_ten(found.found)}"
    if not stream.detectable:
        return f"no shift was simulated{_why_not(stream)}"
    largest = max(stream.detectable, key=lambda one: one.shift)
    return f"finds even a shift of {largest.shift:g} sd within {within} windows in only {_of_ten(largest.found)}"


def _of_ten(share: float) -> str:
    """Say a share as people count.

    >>> _of_ten(0.91), _of_ten(0.999), _of_ten(0.96)
    ('9 of 10 runs', 'every run', '19 of 20 runs')
    """
    if share >= 0.995:
        return "every run"
    of = 10 if share < 0.95 else 20 if share < 0.98 else 100
    return f"{int(share * of + 1e-9)} of {of} runs"


def _subtitle(preview: Preview, judged: Sequence[StreamPreview]) -> str:
    refused = len(preview.streams) - len(judged)
    lacks = f", {refused} without a promise" if refused else ""
    counted = "1 stream" if len(judged) == 1 else f"{len(judged)} streams (device × field)"
    return f"share of drifts found, simulated on the baseline's own windows; {counted}{lacks}"


def _description(preview: Preview, curves: Sequence[_Curve]) -> str:
    sentences = [f"{finding(preview)}."]
    sentences += [f"{_point_text(one.name, point)}." for one in curves if one.look is not None for point in one.points]
    return " ".join(sentences)
