"""What pages are made of: the frame around them, statuses, times, tables, charts, and the strip of last windows.

A status is always a shape and a word; its colour says nothing that they do not.
"""

import math
import re
from collections.abc import Iterable, Sequence

from driftline.clock import NS_PER_S, iso
from driftline.hub import moments
from driftline.hub.accounts.who import READER
from driftline.hub.incidents import duration_text
from driftline.hub.store.assays import Mark
from driftline.hub.web.html import Content, Html, el, path, text
from driftline.hub.web.views import IncidentLine, View
from driftline.wire import api

PAGES = (
    ("/", "Overview"),
    ("/devices", "Devices"),
    ("/assays", "Assays"),
    ("/incidents", "Incidents"),
    ("/notifications", "Notifications"),
    ("/pipelines", "Pipelines"),
)

# Which look a word has; what is not here is plain.
LOOKS = {
    "Ok": "good",
    "Warning": "warn",
    "Alert": "bad",
    "NoData": "none",
    "TooFew": "none",
    "Late": "wait",
    "healthy": "good",
    "drifting": "bad",
    "silent": "bad",
    "identity conflict": "bad",
    "camera lost": "bad",
    "feed frozen": "bad",
    "behind": "warn",
    "dropping": "bad",
    "acknowledged": "warn",
    "silenced": "none",
    "waiting": "wait",
    "delivered": "good",
    "dead": "bad",
    "new": "wait",
    "running": "good",
    "starting": "wait",
    "deploying": "wait",
    "not joined": "wait",
    "error": "bad",
    "ok": "good",
    "open": "bad",
    "resolved": "good",
    "off": "none",
}
STATUS_WORDS: dict[api.Status, str] = {"NoData": "No data", "TooFew": "Too few"}

# On a 12 × 12 field: a tick, a triangle, a diamond, an empty square, a clock, a dot.
_SHAPES = {
    "good": "M2 6.6 4.8 9.4 10 3.2",
    "bad": "M6 1 11.4 10.8H.6Z",
    "warn": "M6 .6 11.4 6 6 11.4.6 6Z",
    "none": "M2 2H10V10H2Z",
    "wait": "M6 1.2A4.8 4.8 0 1 1 5.9 1.2M6 3.2V6.2L8 7.6",
    "plain": "M6 4.2A1.8 1.8 0 1 1 5.9 4.2Z",
}


def page(view: View, title: str, here: str, twin: str | None, *content: Content, live: bool = True) -> str:
    """Return a whole page; `here` is the entry of the navigation it belongs to, `twin` where it is as JSON.

    One that takes long to make is not `live`: it is made again when it is asked for, not every few seconds.
    """
    entries = [el("a", name, href=address, aria_current="page" if address == here else None) for address, name in PAGES]
    document = el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", f"{title} · driftline"),
            el("link", rel="icon", href="/static/mark.svg", type="image/svg+xml"),
            el("link", rel="stylesheet", href="/static/charts.css"),
            el("link", rel="stylesheet", href="/static/pages.css"),
            el("link", rel="alternate", type="application/json", href=twin) if twin else None,
            el("script", type="module", src="/static/refresh.js") if live else None,
        ),
        el(
            "body",
            el("a", "Skip to content", class_="skip", href="#content"),
            el(
                "header",
                el("a", _MARK, "driftline", class_="brand", href="/"),
                el("nav", *entries, aria_label="Pages"),
                _reader(),
            ),
            el("p", icon("wait"), prose(view.banner), class_="banner", role="status", id="banner")
            if view.banner
            else None,
            el("main", *content, id="content"),
            el(
                "footer",
                el("span", "As of ", moment(view.now_ns), id="as-of"),
                el("a", "this page as JSON", href=twin) if twin else None,
                el("a", "changes", href="/changes"),
                el("a", "API", href="/api"),
            ),
        ),
        lang="en",
    )
    return f"<!doctype html>{document}"


def field(label: str, name: str, value: float | str | None, **attributes: str | int) -> Html:
    """Return an input of a form with its label."""
    shown = f"{value:g}" if isinstance(value, float | int) else value
    return el("label", f"{label} ", el("input", name=name, value=shown, **({"autocomplete": "off"} | attributes)))


def by_field() -> Content:
    """Return the input for who does it; nothing where that is known, because they are logged in."""
    return None if READER.get().by_cookie else field("by", "by", None, maxlength=100, autocomplete="name")


def _reader() -> Content:
    """Return who reads the page, with the way out; nothing on a hub where nobody logs in, or before they did."""
    who = READER.get()
    if not who.by_cookie:
        return None
    button = el("button", "Log out", type="submit")
    return el(
        "div",
        el("a", who.name, href="/people"),
        el("form", button, method="post", action="/logout"),
        class_="reader",
    )


_MARK = el(
    "svg",
    el("path", d="M1 12C5 12 6 4 9 4S12 9 17 9", class_="mark-line"),
    el("path", d="M1 6H17", class_="mark-limit"),
    viewBox="0 0 18 16",
    width=18,
    height=16,
    aria_hidden="true",
)


# ── words with a shape ───────────────────────────────────────────────────────────────────────────────────────────


def chip(word: str, shown: str | None = None) -> Html:
    """Return a state or status: shape, word, colour."""
    look = LOOKS.get(word, "plain")
    return el("span", icon(look), shown or word, class_=f"chip {look}")


def icon(look: str) -> Html:
    """Return the shape of a look."""
    shape = el("path", d=_SHAPES[look])
    return el("svg", shape, class_=f"icon {look}", viewBox="0 0 12 12", width=12, height=12, aria_hidden="true")


def status_chip(status: api.Status | None) -> Html:
    """Return an analysis's status."""
    return chip("Late", "Waiting") if status is None else chip(status, STATUS_WORDS.get(status))


def state_chips(states: Iterable[str]) -> Html:
    """Return a device's states."""
    return el("span", *(chip(state) for state in states), class_="chips")


# ── times and numbers ────────────────────────────────────────────────────────────────────────────────────────────


def moment(time_ns: int | None, now_ns: int | None = None) -> Html:
    """Return a time to the minute, and how long ago that is where `now_ns` is given."""
    if time_ns is None:
        return el("span", "never", class_="soft")
    stamp = el("time", moments.minute(time_ns), datetime=iso(time_ns))
    return stamp if now_ns is None else Html(stamp + " " + el("span", ago(time_ns, now_ns), class_="soft ago"))


def past(time_ns: int | None, now_ns: int) -> Html:
    """Return how long ago something was; the time itself shows where a pointer rests on it."""
    if time_ns is None:
        return moment(None)
    return el("time", ago(time_ns, now_ns), datetime=iso(time_ns), title=moments.minute(time_ns))


def prose(sentence: str) -> Html:
    """Return a sentence with the ISO times in it written as on every page.

    >>> prose("silent since 2026-01-01T09:36:00+00:00")
    'silent since <time datetime="2026-01-01T09:36:00+00:00">2026-01-01 09:36 UTC</time>'
    """
    return text(moments.parts(sentence, moment, text))


def ago(time_ns: int, now_ns: int) -> str:
    """Say how long ago something was, in its largest unit.

    >>> ago(0, 90 * NS_PER_S), ago(0, 0), ago(0, 3 * 86_400 * NS_PER_S)
    ('1 min ago', 'just now', '3 d ago')
    """
    seconds = (now_ns - time_ns) // NS_PER_S
    for unit_s, name in ((86_400, "d"), (3600, "h"), (60, "min"), (5, "s")):
        if seconds >= unit_s:
            return f"{seconds if name == 's' else seconds // unit_s} {name} ago"
    return "just now" if seconds >= 0 else "to come"


def number(value: float | None) -> str:
    """Write a number with four significant digits; none is a dash.

    >>> number(0.123456), number(1234567.0), number(None)
    ('0.1235', '1.235e+06', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def score_text(value: float | None) -> str:
    """Write a score with three decimals, so that a column of them is compared at a glance.

    >>> score_text(8.8678), score_text(0.0001), score_text(0.0), score_text(None)
    ('8.868', '< 0.001', '0', '–')
    """
    if value is None or value == 0:
        return "–" if value is None else "0"
    return "< 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def duration(seconds: int) -> str:
    """Write a duration in the largest unit that is a whole number of it.

    >>> duration(180), duration(86_400)
    ('3 min', '1 d')
    """
    unit_s, name = next(unit for unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")) if seconds % unit[0] == 0)
    return f"{seconds // unit_s} {name}"


def alarm_text(alarm: api.Fixed | api.Promise, devices: int, fields: int) -> str:
    """Say when an assay wakes somebody.

    >>> alarm_text(api.Fixed(threshold=0.25), 3, 1), alarm_text(api.Promise(false_alarm_every_s=2_592_000), 3, 2)
    ('alerts from 0.25 on', 'one false alarm in 30 days over 3 devices × 2 fields')
    """
    if isinstance(alarm, api.Fixed):
        warning = "" if alarm.warning is None else f", warns from {alarm.warning:g} on"
        return f"alerts from {alarm.threshold:g} on{warning}"
    several = devices * fields > 1
    over = f" over {counted(devices, 'device')} × {counted(fields, 'field')}" if several else ""
    least = f"; shifts below {alarm.min_effect:g} sd only warn" if alarm.min_effect else ""
    return f"one false alarm in {duration_text(alarm.false_alarm_every_s)}{over}{least}"


def level_text(level: float | None) -> str:
    """Write how near to an alarm evidence is.

    >>> level_text(0.0004), level_text(0.12), level_text(4.0), level_text(None)
    ('< 1%', '12%', '4×', '–')
    """
    if level is None:
        return "–"
    if level >= 1:
        return f"{level:.2g}×"
    return "< 1%" if level < 0.01 else f"{min(level, 0.99):.0%}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "device"), counted(3, "device")
    ('1 device', '3 devices')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Content]],
    *,
    numbers: Iterable[int] = (),
    spare: Iterable[int] = (),
    wrapped: Iterable[int] = (),
) -> Html:
    """Return a table; it scrolls where it is too wide.

    Of its columns `numbers` are read by their digits, `spare` ones are left out on a phone, and `wrapped` ones hold
    long texts and share the room that is left.
    """
    kinds = (("n", set(numbers)), ("for-wide", set(spare)), ("long-text", set(wrapped)))
    classes = [" ".join(name for name, places in kinds if at in places) or None for at in range(len(heads))]
    head = el("tr", *(el("th", name, scope="col", class_=classes[at]) for at, name in enumerate(heads)))
    body = [el("tr", *(el("td", one, class_=classes[at]) for at, one in enumerate(row))) for row in rows]
    return el("div", el("table", el("thead", head), el("tbody", *body)), class_="wide", tabindex="0")


def facts(pairs: Iterable[tuple[str, Content]]) -> Html:
    """Return a list of what is known, as term and value."""
    return el("dl", *(el("div", el("dt", term), el("dd", value)) for term, value in pairs), class_="facts")


def section(title: str, *content: Content, note: Content = None) -> Html:
    """Return a part of a page under its title."""
    return el("section", el("div", el("h2", title), note, class_="head"), *content)


def empty(*content: Content) -> Html:
    """Return what stands where there is nothing yet, with what to do about it."""
    return el("p", *content, class_="empty")


def chart(svg: str, *, narrow: str | None = None) -> Html:
    """Return a chart for a page: its style comes from `/static/charts.css`, because pages allow none inside them.

    On a phone the `narrow` one is shown in its place; where there is none the chart scrolls.
    """
    wide = el("div", _bare(svg), class_="chart" if narrow is None else "chart for-wide", tabindex="0")
    return wide if narrow is None else Html(wide + el("div", _bare(narrow), class_="chart for-phone"))


def _bare(svg: str) -> Html:
    bare = re.sub(r"<style>.*?</style>", "", svg, count=1, flags=re.DOTALL)
    return Html(re.sub(r'^(<svg\b[^>]*?) style="[^"]*"', r"\1", bare, count=1))


def action(address: str, name: str, *, class_: str | None = None) -> Html:
    """Return a button that posts."""
    return el("form", el("button", name, type="submit", class_=class_), method="post", action=address)


def confirmed(name: str, what: Content, address: str, yes: str, **fields: str) -> Html:
    """Return an action that first says in words what it will do, and posts `fields` when that is confirmed."""
    given = (el("input", type="hidden", name=field, value=value) for field, value in fields.items())
    form = el("form", *given, el("button", yes, type="submit", class_="yes"), method="post", action=address)
    return el("details", el("summary", name), el("p", what), form, class_="confirm")


def incident_card(line: IncidentLine, now_ns: int, *, whole: bool = False) -> Html:
    """Return an incident as a sentence with where it leads; `whole` on its own page, which is where it leads."""
    one = line.incident
    sentence, *figures = _FIGURES.split(one.text, maxsplit=1)
    links: list[Content] = [] if whole else [el("a", "details", href=path("incidents", one.id))]
    links += [el("a", name, href=path("devices", name)) for name in (one.devices or [one.device])[:DEVICES_IN_CARD_MAX]]
    if one.assay_id is not None:
        name = f"assay {line.assay or one.assay_id}"
        gone = f"{name}, which was removed"
        links.append(gone if line.is_assay_gone else el("a", name, href=path("assays", one.assay_id)))
    is_open = one.resolved_ns is None
    return el(
        "li",
        icon("bad" if is_open else "good"),
        el(
            "div",
            el("p", prose(sentence), class_="sentence"),
            el("p", prose(f"({figures[0]}")) if figures else None,
            el(
                "p",
                one.kind,
                f" · {one.state}" if one.state in {"acknowledged", "silenced"} else None,
                f" by {one.acknowledged_by}" if one.state == "acknowledged" else None,
                " · began ",
                el("span", ago(one.opened_ns, now_ns), class_="ago"),
                None if is_open else [" · resolved ", moment(one.resolved_ns, now_ns)],
                *([" · ", link] for link in links),
                class_="soft",
            ),
        ),
        action(path("incidents", one.id, "resolve"), "Resolve") if is_open and not whole else None,
        *(_new_baselines(line) if is_open and one.assay_id is not None and not line.is_assay_gone else ()),
        class_="incident" if is_open else "incident over",
    )


# Where the figures of a drift begin, in brackets; a name may hold brackets of its own.
_FIGURES = re.compile(r" \((?=score |evidence )")


DEVICES_IN_CARD_MAX = 6


def _new_baselines(line: IncidentLine) -> Iterable[Html]:
    """Return the buttons for a change that is to stay, one a device."""
    devices = line.incident.devices or [line.incident.device]
    return [_new_baseline(line, name, several=len(devices) > 1) for name in devices[:DEVICES_IN_CARD_MAX]]


def _new_baseline(line: IncidentLine, device: str, *, several: bool) -> Html:
    """Return the button for a change that is to stay: what is seen since becomes what is usual."""
    one = line.incident
    what = [
        "From now on assay ",
        el("b", line.assay or "this assay"),
        " compares the windows of ",
        el("b", device),
        " with what it has seen since ",
        "it alarmed" if several else moment(one.opened_ns),
        ", if that is enough. Its evidence starts again from nothing, and this incident is over",
        " for it" if several else None,
        "; all other devices keep their baselines, evidence and incidents. The baseline so far stays in the assay's",
        " history.",
    ]
    name = f"Take as new baseline of {device}" if several else "Take as new baseline"
    return confirmed(name, what, path("incidents", one.id, "baseline"), "Yes, compare with this", device=device)


def incident_list(lines: Sequence[IncidentLine], now_ns: int) -> Html:
    """Return incidents as cards."""
    return el("ul", *(incident_card(line, now_ns) for line in lines), class_="incidents")


# ── the strip of last windows ────────────────────────────────────────────────────────────────────────────────────

STRIP_HEIGHT, STRIP_STEP = 30, 6
# The threshold is drawn at this height, and a score of three thresholds or more fills the strip.
_LIMIT_HEIGHT, _TOP_THRESHOLDS = 12.0, 3.0
# Evidence so many orders of magnitude below an alarm is none; one above it is all that is ever kept.
_MAGNITUDES = 4
# A score of nothing is still an answer: lower bars would look like a line of their own.
_LEAST_HEIGHT = 2.5


def strip(marks: Sequence[Mark], *, promised: bool = False) -> Html:
    """Return a small picture of the last windows.

    A bar is how near a window is to an alarm, with a roof where it alerts; a ring is no data, a dash what was not heard
    yet. Scores grow to the line of the alarm in proportion, evidence by its order of magnitude.
    """
    if not marks:
        return el("span", "no window yet", class_="soft")
    width = len(marks) * STRIP_STEP
    limit_y = STRIP_HEIGHT - _LIMIT_HEIGHT
    return el(
        "svg",
        el("title", strip_text(marks)),
        *(_bar(mark, i * STRIP_STEP, promised=promised) for i, mark in enumerate(marks)),
        el("line", x1=0, y1=limit_y, x2=width, y2=limit_y, class_="limit"),
        class_="strip",
        viewBox=f"0 0 {width} {STRIP_HEIGHT}",
        width=width,
        height=STRIP_HEIGHT,
        role="img",
        # Where a phone has no room for all the newest are shown.
        preserveAspectRatio="xMaxYMid slice",
    )


def strip_text(marks: Sequence[Mark]) -> str:
    """Say in words what the strip shows.

    >>> strip_text([Mark(0, 1, "Ok", 0.1), Mark(1, 2, "Alert", 0.4), Mark(2, 3, "NoData", None)])
    'the last 3 windows: 1 Alert, 1 Ok, 1 No data; highest score 0.4'
    """
    statuses = [mark.status for mark in marks]
    order: Sequence[api.Status] = ("Alert", "Warning", "Ok", "TooFew", "NoData", "Late")
    counts = [f"{statuses.count(one)} {STATUS_WORDS.get(one, one)}" for one in order if one in statuses]
    scores = [mark.score for mark in marks if mark.score is not None]
    highest = f"; highest score {number(max(scores))}" if scores else ""
    return f"the last {counted(len(marks), 'window')}: {', '.join(counts)}{highest}"


def _bar(mark: Mark, x: float, *, promised: bool) -> Html:
    look = LOOKS[mark.status]
    if mark.status == "Late":
        return el("rect", x=x + 1, y=STRIP_HEIGHT - 3, width=3, height=1.4, class_="gap wait")
    if mark.score is None and mark.status != "Alert":
        return el("circle", cx=x + 2.5, cy=STRIP_HEIGHT - 3, r=1.6, class_=f"gap {look}")
    height = _height(mark.level, promised=promised)
    y = STRIP_HEIGHT - height
    bar = el("rect", x=x + 0.5, y=round(y, 2), width=4, height=round(height, 2), class_=f"bar {look}")
    if mark.status != "Alert":
        return bar
    roof = el("path", d=f"M{x} {y:.2f}L{x + 2.5} {y - 4:.2f}L{x + 5} {y:.2f}Z", class_="bar bad")
    return Html(bar + roof)


def _height(level: float | None, *, promised: bool) -> float:
    if level is None:
        return _LEAST_HEIGHT
    room = STRIP_HEIGHT - 5 - _LIMIT_HEIGHT
    if promised:
        magnitude = math.log10(max(level, 10.0**-_MAGNITUDES))
        below = _LIMIT_HEIGHT * (1 + magnitude / _MAGNITUDES)
        return max(_LEAST_HEIGHT, below if magnitude <= 0 else _LIMIT_HEIGHT + room * min(1.0, magnitude))
    if level <= 1:
        return max(_LEAST_HEIGHT, _LIMIT_HEIGHT * level)
    return _LIMIT_HEIGHT + room * (min(level, _TOP_THRESHOLDS) - 1) / (_TOP_THRESHOLDS - 1)
