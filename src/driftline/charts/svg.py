"""Drawing as text: SVG elements that escape what they are given, and the one look that all charts share.

A chart brings its own panel, so it reads on any page; the panel follows the reader's light or dark preference. Class
names begin with `dl-`, because a style inside a page is the page's.
"""

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Number = int | float

# One look a series: colour on light and on dark, dash of its line, shape of its marker. Red is kept for alerts. The
# colours differ in lightness too, and never speak alone: dash, shape and a label at the line say the same.
SERIES = (
    ("#0b5cad", "#6cb2f5", "", "circle"),
    ("#0d7a5f", "#4fd1ac", "7 3", "square"),
    ("#8a4fd0", "#c4a1f7", "2 3", "triangle"),
    ("#8a6100", "#e5b84a", "9 3 2 3", "diamond"),
    ("#b0307f", "#f58fc8", "4 2", "down"),
    ("#3f4e5e", "#b4c2d0", "1 2", "pentagon"),
    ("#20747f", "#6bc8d6", "12 4", "plus"),
    ("#6b5b3e", "#cdb994", "6 2 1 2 1 2", "star"),
)

# Unit outlines of markers, drawn clockwise; a circle is drawn as itself. Sizes are chosen to look equal.
_OUTLINES = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "down": [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    "pentagon": [(0, -1.15), (1.1, -0.36), (0.68, 0.93), (-0.68, 0.93), (-1.1, -0.36)],
    "plus": [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
             (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)],
    "star": [(0, -1.4), (0.4, -0.55), (1.33, -0.43), (0.65, 0.21), (0.82, 1.13),
             (0, 0.68), (-0.82, 1.13), (-0.65, 0.21), (-1.33, -0.43), (-0.4, -0.55)],
}  # fmt: skip

_LIGHT = {
    "panel": "#ffffff", "edge": "#d8dee4", "ink": "#1b2430", "soft": "#55616e", "grid": "#e6eaee", "alert": "#c81e1e",
    "band": "#fde4e1", "warn": "#a15c00", "mute": "#9aa5b1", "bar": "#c3ccd5", "hatch": "#edf0f3",
}  # fmt: skip
_DARK = {
    "panel": "#161b22", "edge": "#343c46", "ink": "#e8edf2", "soft": "#a3afbb", "grid": "#2a313a", "alert": "#ff7b72",
    "band": "#42201f", "warn": "#f0b14a", "mute": "#6d7883", "bar": "#4a5562", "hatch": "#252c35",
}  # fmt: skip

# Charts narrower than this are for phones.
NARROW = 600

# The width of an average letter of bold text, in font sizes; measured on DejaVu Sans, the widest of the fonts below.
_EM = 0.63

_RULES = """
.dl-chart { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
.dl-chart text { fill: var(--dl-ink); font-variant-numeric: tabular-nums; }
.dl-chart .dl-panel { fill: var(--dl-panel); stroke: var(--dl-edge); }
.dl-chart .dl-title { font-weight: 600; }
.dl-chart .dl-soft { fill: var(--dl-soft); }
.dl-chart .dl-bold { font-weight: 600; }
.dl-chart .dl-grid { stroke: var(--dl-grid); fill: none; }
.dl-chart .dl-axis { stroke: var(--dl-mute); fill: none; }
.dl-chart .dl-alert { stroke: var(--dl-alert); stroke-dasharray: 8 4; stroke-width: 1.5; fill: none; }
.dl-chart .dl-warn { stroke: var(--dl-warn); stroke-dasharray: 3 3; stroke-width: 1.1; fill: none; }
.dl-chart text.dl-alert-text { fill: var(--dl-alert); font-weight: 600; stroke: none; }
.dl-chart text.dl-warn-text { fill: var(--dl-warn); font-weight: 600; }
.dl-chart .dl-ground { fill: var(--dl-hatch); opacity: .45; }
.dl-chart .dl-band { fill: var(--dl-band); }
.dl-chart .dl-halo { paint-order: stroke; stroke: var(--dl-panel); stroke-width: 4px; stroke-linejoin: round; }
.dl-chart .dl-line { fill: none; stroke: var(--dl-c); stroke-width: 1.8; stroke-linejoin: round; }
.dl-chart .dl-leader { fill: none; stroke: var(--dl-c); stroke-width: .8; opacity: .6; }
.dl-chart .dl-open { fill: var(--dl-panel); stroke: var(--dl-c); stroke-width: 1.6; }
.dl-chart .dl-full { fill: var(--dl-c); stroke: var(--dl-panel); stroke-width: 1; }
.dl-chart .dl-hit { fill: var(--dl-alert); stroke: var(--dl-panel); stroke-width: 1.5; }
.dl-chart .dl-near { fill: var(--dl-warn); stroke: var(--dl-panel); stroke-width: 1; }
.dl-chart .dl-aside { fill: var(--dl-panel); stroke: var(--dl-c); stroke-width: 1; }
.dl-chart .dl-aside.dl-alarmed { stroke: var(--dl-alert); }
.dl-chart .dl-dense { stroke: none; }
.dl-chart .dl-faint { fill: var(--dl-panel); stroke: var(--dl-c); stroke-dasharray: 2 1.5; stroke-width: 1.2; }
.dl-chart text.dl-name { fill: var(--dl-c); font-weight: 600; }
.dl-chart .dl-gap { fill: var(--dl-hatch); stroke: var(--dl-mute); stroke-width: 1; }
.dl-chart .dl-slash { stroke: var(--dl-mute); stroke-width: 1; }
.dl-chart .dl-mark { stroke: var(--dl-ink); stroke-width: 1.5; }
.dl-chart .dl-mark-mean { stroke: var(--dl-ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
.dl-chart .dl-before { fill: var(--dl-bar); }
.dl-chart .dl-now { fill: var(--dl-c); }
.dl-chart .dl-most { fill: var(--dl-alert); }
.dl-chart .dl-rest { --dl-c: var(--dl-mute); opacity: .55; }
.dl-chart .dl-rest .dl-line { stroke-width: 1; }
""".strip()


class Markup(str):
    """Text that is SVG already; a plain `str` never is."""

    __slots__ = ()


def el(tag: str, *content: str, **attributes: str | Number | None) -> Markup:
    """Return one element; text is escaped, `class_` is class, `text_anchor` text-anchor, None leaves an attribute out.

    >>> el("text", "a<b", x=1.50001, class_="dl-soft")
    '<text x="1.5" class="dl-soft">a&lt;b</text>'
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            spelled = "viewBox" if name == "viewBox" else name.rstrip("_").replace("_", "-")
            parts.append(f'{spelled}="{_clean(value) if isinstance(value, str) else number(value)}"')
    inner = "".join(one if isinstance(one, Markup) else _clean(one) for one in content)
    return Markup(f"<{' '.join(parts)}>{inner}</{tag}>" if inner else f"<{' '.join(parts)}/>")


def group(*content: str, **attributes: str | Number | None) -> Markup:
    """Return elements as one."""
    return el("g", *content, **attributes)


@dataclass(frozen=True, slots=True)
class Head:
    """A chart's title and what stands under it, broken into lines where it is narrow."""

    title: str
    subtitle: str
    width: int

    @property
    def narrow(self) -> bool:
        """Whether the chart is for a phone, whose letters cannot be made smaller."""
        return self.width < NARROW

    @property
    def _lines(self) -> tuple[list[str], list[str]]:
        # Bold letters of 15 px, and thin ones of 12 px, which are a tenth narrower.
        room = self.width - 32
        return wrapped(self.title, room / (15 * _EM)), wrapped(self.subtitle, room / (12 * 0.9 * _EM))

    @property
    def bottom(self) -> float:
        """Where the chart's content may begin."""
        if not self.narrow:
            return 70.0
        above, below = self._lines
        return 26.0 + 19 * len(above) + 16 * len(below)

    @property
    def markup(self) -> Markup:
        """Title and subtitle as drawn."""
        if not self.narrow:
            return group(_heading(self.title, self.width - 40), label(self.subtitle, 20, 50, "dl-soft"))
        above, below = self._lines
        y = 8 + 19 * len(above)
        return group(
            *(el("text", one, x=16, y=26 + 19 * i, class_="dl-title", font_size=15) for i, one in enumerate(above)),
            *(label(one, 16, y + 16 + 16 * i, "dl-soft") for i, one in enumerate(below)),
        )


def chart(width: Number, height: Number, head: str | Head, description: str, *content: str) -> str:
    """Return a whole SVG document: a panel, a title above, and a description for those who cannot see it."""
    title = head.title if isinstance(head, Head) else head
    return el(
        "svg",
        el("title", title),
        el("desc", description),
        Markup(f"<style>{STYLE}</style>"),
        el("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=8, class_="dl-panel"),
        head.markup if isinstance(head, Head) else _heading(head, width - 40),
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        class_="dl-chart",
        style="max-width:100%;height:auto",
    )


def _heading(title: str, room: Number) -> Markup:
    """Write the title; a long one in smaller letters, and cut only where even those would leave the panel."""
    size = max(12.0, min(16.0, room / (_EM * max(1, len(title)))))
    text = shortened(title, room / (_EM * size))
    # As an attribute: pages allow no style inside them.
    return el("text", text, x=20, y=30, class_="dl-title", font_size=size)


def marker(shape: str, x: float, y: float, radius: float, class_: str) -> Markup:
    """Return one marker centred at a point."""
    if shape == "circle":
        return el("circle", cx=x, cy=y, r=radius, class_=class_)
    points = " ".join(f"{number(x + radius * dx)},{number(y + radius * dy)}" for dx, dy in _OUTLINES[shape])
    return el("polygon", points=points, class_=class_)


def label(
    content: str, x: float, y: float, class_: str | None = None, anchor: Anchor | None = None, halo: bool = False
) -> Markup:
    """Return text at a point; with a halo where lines may run behind it."""
    classes = " ".join(name for name in (class_, "dl-halo" if halo else None) if name)
    return el("text", content, x=x, y=y, text_anchor=anchor, class_=classes or None)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def number(value: Number) -> str:
    """Write a coordinate: two decimals are finer than any screen."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def wrapped(content: str, characters: float) -> list[str]:
    """Break text into lines of at most about so many characters, between words; a longer word is cut.

    >>> wrapped("camera-3: out.sharpness in alarm", 14)
    ['camera-3:', 'out.sharpness', 'in alarm']
    """
    lines = [""]
    for word in content.split():
        if len(lines[-1]) + 1 + len(word) <= characters and lines[-1]:
            lines[-1] += f" {word}"
        else:
            lines.append(shortened(word, characters))
    return lines[1:] or [""]


def shortened(content: str, characters: float) -> str:
    """Cut text to about so many characters, and show that it was cut."""
    return content if len(content) <= characters else content[: max(1, int(characters) - 1)].rstrip() + "…"


def spread(wanted: list[float], apart: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed to lie `apart` from each other; order is kept, ties in the order given.

    >>> spread([10.0, 12.0], 14.0, 0.0, 100.0)
    [4.0, 18.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    # Clusters of labels that touch, each centred on what its members want.
    clusters: list[list[int]] = []
    for i in order:
        clusters.append([i])
        while len(clusters) > 1 and _start(clusters[-1], wanted, apart, low, high) < (
            _start(clusters[-2], wanted, apart, low, high) + apart * len(clusters[-2])
        ):
            last = clusters.pop()
            clusters[-1] += last
    for cluster in clusters:
        start = _start(cluster, wanted, apart, low, high)
        for position, i in enumerate(cluster):
            placed[i] = start + position * apart
    return placed


def _start(cluster: list[int], wanted: list[float], apart: float, low: float, high: float) -> float:
    length = apart * (len(cluster) - 1)
    middle = sum(wanted[i] for i in cluster) / len(cluster)
    return max(low, min(middle - length / 2, high - length))


def stretches(flags: list[bool]) -> list[tuple[int, int]]:
    """Return (first, end) of every run of True.

    >>> stretches([False, True, True, False, True])
    [(1, 3), (4, 5)]
    """
    changes = [i for i, (a, b) in enumerate(pairwise([False, *flags, False])) if a != b]
    return list(zip(changes[::2], changes[1::2], strict=True))


def _clean(content: str) -> str:
    """Escape, and replace what XML cannot hold: a name is whatever somebody typed."""
    legal = (
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
        for c in content
    )
    return escape("".join(legal))


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--dl-{name}: {colour};" for name, colour in colours.items())


def _style() -> str:
    light = "\n".join(f".dl-s{i} {{ --dl-c: {one[0]}; }}" for i, one in enumerate(SERIES))
    dark = "\n".join(f".dl-s{i} {{ --dl-c: {one[1]}; }}" for i, one in enumerate(SERIES))
    return (
        f".dl-chart {{ {_variables(_LIGHT)} }}\n{light}\n"
        f"@media (prefers-color-scheme: dark) {{\n.dl-chart {{ {_variables(_DARK)} }}\n{dark}\n}}\n{_RULES}"
    )


STYLE = _style()
