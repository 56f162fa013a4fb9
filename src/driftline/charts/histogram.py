"""How a field's values are spread: the look at a baseline before anything is compared with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from driftline.assay.observed import Floats
from driftline.charts.scale import Linear, even_ticks, figure, nice_above, tick_texts
from driftline.charts.svg import Head, Markup, chart, el, group, label, line, shortened, spread
from driftline.summary.arrays import as_floats
from driftline.summary.summary import FINITE_MAX
from driftline.wire.api import BaselineStats

WIDTH = 900
# Room at the left for shares, at the right, between head and bars for the marks, and how high the bars may be.
_LEFT, _RIGHT, _ABOVE, _HEIGHT = 62, 30, 22, 208
_LEFT_NARROW, _RIGHT_NARROW = 46, 20
# More bars than this show noise and not shape, for the few hundred to few thousand values of a usual baseline.
_BARS_MAX = 50
# Categories beyond these are counted; they are rare ones where the baseline's bins are sorted by share.
_CATEGORIES_MAX = 20
_ROW, _NAMES, _NAMES_NARROW = 22, 250, 150
# Differences below this are denormal numbers, which have no digits left to divide.
_NARROWEST = 1e-300


@dataclass(frozen=True, slots=True)
class _Bars:
    """Edges of neighbouring bars and the share of values in each; heights are densities where widths differ.

    `whole` bars hold whole numbers and end halfway between two.
    """

    edges: Floats
    shares: Floats
    heights: Floats
    even: bool
    whole: bool = False


def histogram(
    values: BaselineStats | ArrayLike, *, title: str | None = None, field: str | None = None, width: int = WIDTH
) -> str:
    """Draw how values are spread, as a complete SVG document, with their mean and median marked.

    Takes values of any shape, or a baseline's statistics: its raw values where it has them, else its bins, whose area
    then is their share; a category's shares are bars side by side. NaN and None are missing. `field` names them. One
    narrower than 600 px is for a phone.
    """
    stats = values if isinstance(values, BaselineStats) else _stats(values)
    title = title or _title(stats, field or stats.field)
    if _is_category(stats):
        return _categories(stats, title, width)
    bars = _bars(stats)
    if bars is None or stats.min is None or stats.max is None:
        head = Head(title, "There is no finite value to draw.", width)
        return chart(width, head.bottom + 20, head, "A histogram without values.")
    head = Head(title, _subtitle(stats, even=bars.even), width)
    left, right = (_LEFT_NARROW, _RIGHT_NARROW) if head.narrow else (_LEFT, _RIGHT)
    top = nice_above(float(bars.heights.max()) * 1.02)
    x = Linear(float(bars.edges[0]), float(bars.edges[-1]), left, width - right)
    y = Linear(0.0, top, head.bottom + _ABOVE + _HEIGHT, head.bottom + _ABOVE)
    return chart(
        width,
        y.start + 38,
        head,
        f"{stats.count} values from {figure(stats.min)} to {figure(stats.max)} in {bars.shares.size} bars.",
        _axes(bars, x, y),
        *(_bar(bars, i, x, y) for i in range(bars.shares.size)),
        line(x.start, y.start, x.end, y.start, "dl-axis"),
        _marks(stats, x, y),
    )


def _is_category(stats: BaselineStats) -> bool:
    """Say whether the values are names: they have shares and no least value."""
    return stats.min is None and bool(stats.shares) and not stats.edges


def _categories(stats: BaselineStats, title: str, width: int) -> str:
    """Draw a bar a category, in the order of the baseline's bins; those beyond the first few are counted."""
    named = list(zip(stats.labels, stats.shares, strict=True))
    shown, rest = named[:_CATEGORIES_MAX], named[_CATEGORIES_MAX:]
    head = Head(title, f"{_counted_text(stats)}; share of each of {len(named)} categories", width)
    names, top = (_NAMES_NARROW, head.bottom + 6) if head.narrow else (_NAMES, head.bottom - 2)
    scale = (width - _RIGHT - 60 - names) / max([*stats.shares, 1e-9])
    bottom = top + _ROW * len(shown)
    more = f"{len(rest)} more, together {sum(share for _, share in rest):.1%}" if rest else ""
    return chart(
        width,
        bottom + (26 if rest else 8),
        head,
        " ".join(f"{name}: {share:.1%}." for name, share in named),
        *(_category(name, share, scale, names, top + i * _ROW) for i, (name, share) in enumerate(shown)),
        line(names, top, names, bottom - 6, "dl-axis"),
        label(more, 20, bottom + 10, "dl-soft") if rest else "",
    )


def _category(name: str, share: float, scale: float, at: float, y: float) -> Markup:
    """Draw one bar from `at` on; the name has the room before it, in bold letters of up to 7.6 px."""
    width = scale * share
    return group(
        el("title", f"{name}: {share:.1%}"),
        label(shortened(name, (at - 22) / 7.6), 20, y + 13, "dl-bold"),
        el("rect", x=at, y=y + 2, width=width, height=14, class_="dl-now"),
        label(f"{share:.1%}", at + width + 6, y + 13, "dl-soft"),
        class_="dl-s0",
    )


def _stats(values: ArrayLike) -> BaselineStats:
    every = as_floats(values)
    finite = _finite(every)
    stats = BaselineStats(
        device=None,
        field="values",
        count=every.size,
        missing=int(np.isnan(every).sum()),
        min=None, max=None, mean=None, median=None, std=None,
        values=every.tolist(),
    )  # fmt: skip
    if finite.size:
        stats.min, stats.max = float(finite.min()), float(finite.max())
        stats.mean, stats.median, stats.std = float(finite.mean()), float(np.median(finite)), float(finite.std())
    return stats


def _bars(stats: BaselineStats) -> _Bars | None:
    if stats.values is not None:
        finite = as_floats([value if isinstance(value, float | int) else math.nan for value in stats.values])
        finite = _finite(finite)
        return _counted(finite) if finite.size else None
    if stats.min is None or stats.max is None or not stats.shares:
        return None
    return _binned(stats.edges, stats.shares, stats.min, stats.max)


def _finite(values: Floats) -> Floats:
    """Leave out what is missing, and what counts as infinite everywhere else."""
    return values[np.abs(values) < FINITE_MAX]


def _counted(finite: Floats) -> _Bars:
    """Bars of one width, as many as Freedman and Diaconis (1981) advise, at most `_BARS_MAX`."""
    low, high = float(finite.min()), float(finite.max())
    # Values that differ by rounding only leave no room for bars between them.
    if high - low <= 1e-13 * max(abs(low), abs(high)) or high - low < _NARROWEST:
        room = abs(low) * 0.05 or 0.5
        low, high = low - room, high + room
    quarter, three_quarters = np.quantile(finite, [0.25, 0.75])
    width = 2 * float(three_quarters - quarter) / finite.size ** (1 / 3)
    bars = math.ceil(min(_BARS_MAX, max(5, (high - low) / width))) if width > 0 else 11
    whole = high - low >= 1 and low == math.trunc(low) and bool((finite == np.trunc(finite)).all())
    if whole:
        # A bar of whole numbers holds equally many of them, else some stand empty between full ones.
        step = math.ceil((high - low + 1) / (_BARS_MAX if high - low < _BARS_MAX else bars))
        bars = math.ceil((high - low + 1) / step)
        low, high = low - 0.5, low - 0.5 + bars * step
    counts, edges = np.histogram(finite, bins=bars, range=(low, high))
    shares = counts.astype(np.float64) / finite.size
    return _Bars(edges, shares, shares, even=True, whole=whole)


def _binned(edges: Sequence[float], shares: Sequence[float], low: float, high: float) -> _Bars | None:
    """Bars of a baseline's own bins: their area is their share. The outermost reach to the least and greatest value."""
    inner = [low, *(edge for edge in edges if low < edge < high), high]
    ends = np.array(inner if low < high else [low - 0.5, high + 0.5])
    # Every share belongs to the bar that holds the bin's upper edge; bins without width lie at the ends and are empty.
    upper = np.searchsorted(ends[1:], np.clip([*edges, high], ends[0], ends[-1]), side="left")
    totals = np.bincount(upper, weights=shares, minlength=ends.size - 1)[: ends.size - 1].astype(np.float64)
    heights = totals / np.diff(ends)
    return _Bars(ends, totals, heights / heights.sum() if heights.sum() else heights, even=False)


def _axes(bars: _Bars, x: Linear, y: Linear) -> Markup:
    parts: list[Markup] = []
    for tick in even_ticks(0.0, y.high, 4) if bars.even else []:
        parts += [
            line(x.start, y(tick), x.end, y(tick), "dl-grid"),
            label(f"{tick * 100:g}%", x.start - 8, y(tick) + 4, "dl-soft", "end"),
        ]
    ticks = [
        tick
        for tick in even_ticks(x.low, x.high, round((x.end - x.start) / 100))
        if not bars.whole or tick == math.trunc(tick)
    ]
    texts = tick_texts(ticks)
    # Long figures get the room of several.
    every = 1 + max(map(len, texts)) // 14
    for tick, text in list(zip(ticks, texts, strict=True))[::every]:
        parts += [
            line(x(tick), y.start, x(tick), y.start + 5, "dl-axis"),
            label(text, x(tick), y.start + 20, "dl-soft", "middle"),
        ]
    return group(*parts)


def _bar(bars: _Bars, i: int, x: Linear, y: Linear) -> Markup:
    left, right, top = x(float(bars.edges[i])), x(float(bars.edges[i + 1])), y(float(bars.heights[i]))
    text = f"{figure(float(bars.edges[i]))} to {figure(float(bars.edges[i + 1]))}: {bars.shares[i]:.1%}"
    box = el("rect", x=left + 0.5, y=top, width=max(0.5, right - left - 1), height=y.start - top, class_="dl-now")
    return group(el("title", text), box, class_="dl-s0")


def _marks(stats: BaselineStats, x: Linear, y: Linear) -> Markup:
    """Mark mean and median above the bars; their texts are moved apart where they are near."""
    marks = [(name, value) for name, value in (("mean", stats.mean), ("median", stats.median)) if value is not None]
    places = spread([x(value) for _, value in marks], 110.0, x.start + 50.0, x.end - 50.0)
    parts: list[Markup] = []
    for (name, value), place, class_ in zip(marks, places, ("dl-mark-mean", "dl-mark"), strict=False):
        parts += [
            line(x(value), y.end - 8, x(value), y.start, class_),
            label(f"{name} {figure(value)}", place, y.end - 14, "dl-bold", "middle", halo=True),
        ]
    return group(*parts)


def _title(stats: BaselineStats, field: str) -> str:
    whose = f" on {stats.device}" if stats.device else ""
    if _is_category(stats):
        most = max(range(len(stats.shares)), key=stats.shares.__getitem__)
        return f"{field}{whose}: {stats.shares[most]:.0%} are {stats.labels[most]}"
    if stats.min is None or stats.max is None:
        return f"{field}{whose}: no values"
    if stats.min == stats.max:
        return f"{field}{whose}: always {figure(stats.min)}"
    return f"{field}{whose}: {figure(stats.min)} to {figure(stats.max)}, half of it up to {figure(stats.median or 0.0)}"


def _subtitle(stats: BaselineStats, *, even: bool) -> str:
    parts = [_counted_text(stats)]
    if stats.std is not None:
        parts.append(f"standard deviation {figure(stats.std)}")
    return ", ".join(parts) + ("; share of values in each bar" if even else "; area is share of values, from counts")


def _counted_text(stats: BaselineStats) -> str:
    missing = f", {stats.missing} missing" if stats.missing else ""
    return f"{stats.count - stats.missing} values{missing}"
