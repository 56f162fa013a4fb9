"""One window beside its baseline, bin by bin: where its score comes from. A category's bins are its names."""

from dataclasses import dataclass

from driftline.assay.bins import LEFT
from driftline.assay.metrics.missing_rate import LABELS
from driftline.charts.findings import effect_text, is_category
from driftline.charts.scale import amount, clock_text, figure, metric_text, span_text
from driftline.charts.svg import NARROW, Head, Markup, chart, el, group, label, line, shortened, wrapped
from driftline.wire.api import Analysis, Bins

WIDTH = 900
# Of more bins the ones that give most are drawn: nobody reads a chart of a hundred rows.
_ROWS_MAX = 24


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a row has its parts, in pixels: the bars of both shares, and of what the bin gives to the score.

    On a phone a row has its words above its bars (`words` is their height), and figures end at the right edge.
    """

    width: int
    left: float
    row: float
    words: float
    values: float
    bars: tuple[float, float]
    gives: tuple[float, float]

    @property
    def narrow(self) -> bool:
        """Whether words stand above the bars."""
        return self.words > 0


def _places(width: int) -> _Places:
    if width >= NARROW:
        return _Places(width, 20, 40, 0, 124, (250, 620), (700, 820))
    return _Places(width, 16, 62, 20, 116, (16, width - 178), (width - 120, width - 16))


def bins_chart(analysis: Analysis, *, title: str | None = None, width: int = WIDTH) -> str:
    """Draw one row a bin, low values first: the baseline's share, the window's, and what the bin gives to the score.

    Returns a complete SVG document; without bins (no values, or not judged yet) one that says so. One narrower than
    600 px is for a phone.
    """
    title = title or _title(analysis)
    bins = analysis.bins
    if bins is None:
        head = Head(title, f"{span_text(analysis.start_ns, analysis.end_ns)}: there are no bins to show.", width)
        return chart(width, head.bottom + 20, head, "A window without bins.")
    most = max(range(len(bins.labels)), key=lambda i: bins.contributions[i])
    most = most if bins.contributions[most] > 0 else -1
    names = is_category(analysis)
    at, head = _places(width), Head(title, _subtitle(analysis, bins, most), width)
    effect, top = _effect_lines(_effect(analysis), head)
    shown = _shown(bins)
    bottom = top + at.row * len(shown)
    rest = len(bins.labels) - len(shown)
    largest = _Largest(max([*bins.baseline, *bins.window, 1e-9]), max([*map(abs, bins.contributions), 1e-12]))
    return chart(
        width,
        bottom + 26,
        head,
        _description(bins),
        effect,
        _heads(at, top - 16, "" if names else "values"),
        *(
            _row(bins, i, at, top + place * at.row, largest, most=i == most, names=names)
            for place, i in enumerate(shown)
        ),
        label(f"{rest} more bins, which give less, are not drawn", at.left, bottom + 15, "dl-soft") if rest else "",
        group() if at.narrow else _zeros(at, top - 6, bottom),
    )


@dataclass(frozen=True, slots=True)
class _Largest:
    """What the longest bars stand for: a share, and a bin's part in the score."""

    share: float
    term: float


def _shown(bins: Bins) -> list[int]:
    """Return the bins that are drawn, in their order."""
    by_weight = sorted(range(len(bins.labels)), key=lambda i: -abs(bins.contributions[i]))
    return sorted(by_weight[:_ROWS_MAX])


def _effect_lines(text: str, head: Head) -> tuple[Markup, float]:
    """Return what changed, under the head, and where the first row begins."""
    if not head.narrow:
        return label(text, 20, 67, "dl-bold"), 118.0
    lines = wrapped(text, (head.width - 32) / 7.6) if text else []
    drawn = (label(one, 16, head.bottom + 6 + 16 * i, "dl-bold") for i, one in enumerate(lines))
    return group(*drawn), head.bottom + 16 * len(lines) + 38


def _row(bins: Bins, i: int, at: _Places, y: float, largest: _Largest, *, most: bool, names: bool) -> Markup:
    """Draw one bin; a category's name has the room of label and range."""
    baseline, window, term = bins.baseline[i], bins.window[i], bins.contributions[i]
    scale = (at.bars[1] - at.bars[0]) / largest.share
    gives = (at.gives[1] - at.gives[0]) * abs(term) / largest.term
    bar, words = y + at.words, y + (14 if at.narrow else 20)
    given, look = figure(term) if term else "0", "dl-bold" if most else "dl-soft"
    return group(
        line(at.left, y + at.row - 4, at.width - at.left, y + at.row - 4, "dl-grid"),
        el("title", bins.labels[i]),
        label(shortened(bins.labels[i], 29 if names else 13), at.left, words, "dl-bold"),
        Markup() if names else label(range_text(bins, i), at.values, words, "dl-soft"),
        el("rect", x=at.bars[0], y=bar + 2, width=baseline * scale, height=13, class_="dl-before"),
        label(_percent(baseline), at.bars[0] + baseline * scale + 6, bar + 13, "dl-soft"),
        el("rect", x=at.bars[0], y=bar + 18, width=window * scale, height=13, class_="dl-now"),
        label(_percent(window), at.bars[0] + window * scale + 6, bar + 29, "dl-bold"),
        el("rect", x=at.gives[0], y=bar + 10, width=gives, height=13, class_="dl-most" if most else "dl-before"),
        label(given, at.gives[1], words, look, "end")
        if at.narrow
        else label(given, at.gives[0] + gives + 6, bar + 21, look),
        class_="dl-s0",
    )


def _heads(at: _Places, y: float, values: str) -> Markup:
    left, upper, lower = at.bars[0], "baseline (upper bar)", "this window (lower bar)"
    if at.narrow:
        upper, lower, apart = "baseline", "this window", 78.0
        first, gives = Markup(), label("gives to the score", at.gives[1], y, "dl-soft", "end")
    else:
        apart = 150.0
        first = group(
            label("bin" if values else "category", at.left, y, "dl-soft"), label(values, at.values, y, "dl-soft")
        )
        gives = label("gives to the score", at.gives[0], y, "dl-soft")
    return group(
        first,
        el("rect", x=left, y=y - 9, width=10, height=10, class_="dl-before"),
        label(upper, left + 15, y, "dl-soft"),
        el("rect", x=left + apart, y=y - 9, width=10, height=10, class_="dl-now"),
        label(lower, left + apart + 15, y, "dl-soft"),
        gives,
        class_="dl-s0",
    )


def _zeros(at: _Places, top: float, bottom: float) -> Markup:
    return group(*(line(x, top, x, bottom, "dl-axis") for x in (at.bars[0], at.gives[0])))


def range_text(bins: Bins, i: int) -> str:
    """Write which values a bin holds.

    >>> bins = Bins(labels=["a", "b", "c"], edges=[1.0, 2.5], baseline=[], window=[], contributions=[])
    >>> [range_text(bins, i) for i in range(3)]
    ['≤ 1', '1 – 2.5', '> 2.5']
    """
    if not bins.edges:
        return "all" if len(bins.labels) == 1 else f"'{shortened(bins.labels[i], 40)}'"
    if tuple(bins.labels) == LABELS:
        return ""  # whether there is a value at all: not a range of values
    if i == 0:
        # The least value of the baseline is closed into its own bin, but given edges are the user's own.
        own = bins.labels[0] == LEFT and not bins.labels[1].startswith("e_")
        return f"{'<' if own else '≤'} {_edge(bins.edges[0])}"
    if i == len(bins.edges):
        return f"> {_edge(bins.edges[-1])}"
    low, high = _edge(bins.edges[i - 1]), _edge(bins.edges[i])
    # A value with a bin of its own, and any bin narrower than four digits show.
    return low if low == high else f"{low} – {high}"


def _edge(value: float) -> str:
    # The edge just below the least value is written as that value; nobody wants to read nextafter(0, −inf).
    return "0" if abs(value) < 1e-40 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in {0.0, 1.0} or share >= 0.0995 else f"{share:.1%}"


def _title(analysis: Analysis) -> str:
    when = f"{clock_text(analysis.start_ns)}–{clock_text(analysis.end_ns)} UTC"
    what = f"{analysis.field}, {analysis.device}, {when}"
    if analysis.score is None:
        return f"{what}: no score ({analysis.status})"
    if analysis.alert_threshold is None:
        return f"{what}: {_by_promise(analysis)}"
    sides = {"Alert": "over", "Ok": "under", "Warning": "under"}
    side = sides.get(analysis.status)
    limit = f", {side} {analysis.alert_threshold:g}" if side else f" ({analysis.status})"
    return f"{what}: {figure(analysis.score)}{limit}"


def _by_promise(analysis: Analysis) -> str:
    """Say what the promise makes of a window, beside its score."""
    scored = f"score {figure(analysis.score or 0.0)}"
    words = {"Alert": "in alarm", "Warning": "close to an alarm", "Ok": "no alarm"}
    return f"{words.get(analysis.status, analysis.status)}, {scored}"


def _effect(analysis: Analysis) -> str:
    """Say how much changed and how sure it is, under the line about the bins; '' where nothing was compared."""
    text, evidence = effect_text(analysis), analysis.evidence
    said = [f"What changed: {text}"] if text else []
    if evidence is not None:
        said.append(f"evidence {amount(evidence.value)}, where {amount(evidence.alarm_at)} make an alarm")
    return "; ".join(said)


def _subtitle(analysis: Analysis, bins: Bins, most: int) -> str:
    n = analysis.count - analysis.missing
    text = f"{span_text(analysis.start_ns, analysis.end_ns)}, {n} values from {analysis.source}"
    text += metric_text({analysis.metric})
    if most >= 0:
        text += (
            f"; most comes from {bins.labels[most]}: {_percent(bins.window[most])} where the baseline has "
            f"{_percent(bins.baseline[most])}"
        )
    return text


def _description(bins: Bins) -> str:
    rows = (
        f"{bins.labels[i]}: baseline {_percent(bins.baseline[i])}, window {_percent(bins.window[i])}."
        for i in range(len(bins.labels))
    )
    return " ".join(rows)
