"""One window beside its baseline, bin by bin: where its score comes from. A category's bins are its names."""

from driftline.assay.bins import LEFT
from driftline.assay.metrics.missing_rate import LABELS
from driftline.charts.findings import effect_text, is_category
from driftline.charts.scale import amount, clock_text, figure, metric_text, span_text
from driftline.charts.svg import Markup, chart, el, group, label, line, shortened
from driftline.wire.api import Analysis, Bins

WIDTH = 900
_TOP, _ROW = 118, 40
_BARS, _BARS_END = 250, 620
_GIVES, _GIVES_END = 700, 820
# Of more bins the ones that give most are drawn: nobody reads a chart of a hundred rows.
_ROWS_MAX = 24


def bins_chart(analysis: Analysis, *, title: str | None = None) -> str:
    """Draw one row a bin, low values first: the baseline's share, the window's, and what the bin gives to the score.

    Returns a complete SVG document; without bins (no values, or not judged yet) one that says so.
    """
    title = title or _title(analysis)
    bins = analysis.bins
    if bins is None:
        text = label(f"{span_text(analysis.start_ns, analysis.end_ns)}: there are no bins to show.", 20, 62, "dl-soft")
        return chart(WIDTH, 90, title, "A window without bins.", text)
    largest_share = max([*bins.baseline, *bins.window, 1e-9])
    largest_term = max([*map(abs, bins.contributions), 1e-12])
    most = max(range(len(bins.labels)), key=lambda i: bins.contributions[i])
    most = most if bins.contributions[most] > 0 else -1
    names = is_category(analysis)
    shown = _shown(bins)
    bottom = _TOP + _ROW * len(shown)
    rest = len(bins.labels) - len(shown)
    return chart(
        WIDTH,
        bottom + 26,
        title,
        _description(bins),
        label(_subtitle(analysis, bins, most), 20, 50, "dl-soft"),
        label(_effect(analysis), 20, 67, "dl-bold"),
        _heads("" if names else "values"),
        *(
            _row(bins, i, _TOP + place * _ROW, largest_share, largest_term, most=i == most, names=names)
            for place, i in enumerate(shown)
        ),
        label(f"{rest} more bins, which give less, are not drawn", 20, bottom + 15, "dl-soft") if rest else "",
        line(_BARS, _TOP - 6, _BARS, bottom, "dl-axis"),
        line(_GIVES, _TOP - 6, _GIVES, bottom, "dl-axis"),
    )


def _shown(bins: Bins) -> list[int]:
    """Return the bins that are drawn, in their order."""
    by_weight = sorted(range(len(bins.labels)), key=lambda i: -abs(bins.contributions[i]))
    return sorted(by_weight[:_ROWS_MAX])


def _row(bins: Bins, i: int, y: float, largest_share: float, largest_term: float, *, most: bool, names: bool) -> Markup:
    """Draw one bin; a category's name has the room of label and range."""
    baseline, window, term = bins.baseline[i], bins.window[i], bins.contributions[i]
    scale = (_BARS_END - _BARS) / largest_share
    gives = (_GIVES_END - _GIVES) * abs(term) / largest_term
    return group(
        line(20, y + _ROW - 4, WIDTH - 20, y + _ROW - 4, "dl-grid"),
        el("title", bins.labels[i]),
        label(shortened(bins.labels[i], 29 if names else 13), 20, y + 20, "dl-bold"),
        Markup() if names else label(range_text(bins, i), 124, y + 20, "dl-soft"),
        el("rect", x=_BARS, y=y + 2, width=baseline * scale, height=13, class_="dl-before"),
        label(_percent(baseline), _BARS + baseline * scale + 6, y + 13, "dl-soft"),
        el("rect", x=_BARS, y=y + 18, width=window * scale, height=13, class_="dl-now"),
        label(_percent(window), _BARS + window * scale + 6, y + 29, "dl-bold"),
        el("rect", x=_GIVES, y=y + 10, width=gives, height=13, class_="dl-most" if most else "dl-before"),
        label(figure(term) if term else "0", _GIVES + gives + 6, y + 21, "dl-bold" if most else "dl-soft"),
        class_="dl-s0",
    )


def _heads(values: str) -> Markup:
    y = _TOP - 16
    return group(
        label("bin" if values else "category", 20, y, "dl-soft"),
        label(values, 124, y, "dl-soft"),
        el("rect", x=_BARS, y=y - 9, width=10, height=10, class_="dl-before"),
        label("baseline (upper bar)", _BARS + 15, y, "dl-soft"),
        el("rect", x=_BARS + 150, y=y - 9, width=10, height=10, class_="dl-now"),
        label("this window (lower bar)", _BARS + 165, y, "dl-soft"),
        label("gives to the score", _GIVES, y, "dl-soft"),
        class_="dl-s0",
    )


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
