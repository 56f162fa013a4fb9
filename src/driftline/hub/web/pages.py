"""The dashboard: pages made on the hub, each with a `.json` twin; they read well without scripts.

A page is a view (`views.py`: what is so) and a function here that renders it (how it looks). What a person may do in a
page is a form that posts and leads back to a page.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from driftline.assay.metrics import METRICS
from driftline.charts.bins import bins_chart
from driftline.charts.detectability import detectability_chart, stream_text
from driftline.charts.findings import effect_text
from driftline.charts.histogram import histogram
from driftline.charts.lines import NOT_COUNTED
from driftline.charts.scale import amount
from driftline.charts.scores import PHONE, score_chart
from driftline.charts.svg import STYLE
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import assays, incident_routes, sites
from driftline.hub.accounts.pages import failed
from driftline.hub.baselines import take
from driftline.hub.http import HTML, Call, Routes, Rule, Ruled
from driftline.hub.incidents import clock_text
from driftline.hub.policy import EDITOR, MEMBER, PUBLIC, VIEWER
from driftline.hub.store import incidents as incident_store
from driftline.hub.web import assay_forms, incident_pages, notification_pages, site_pages, views
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import (
    action,
    alarm_text,
    chart,
    chip,
    counted,
    duration,
    empty,
    facts,
    incident_list,
    level_text,
    moment,
    number,
    page,
    past,
    prose,
    score_text,
    section,
    state_chips,
    status_chip,
    strip,
    table,
)
from driftline.hub.web.reference import reference
from driftline.hub.web.routing import Fields, acts, answered, pair
from driftline.hub.web.views import View
from driftline.wire import api

STATIC = Path(__file__).with_name("static")
FILES = {
    "pages.css": "text/css; charset=utf-8",
    "refresh.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


# ── overview ─────────────────────────────────────────────────────────────────────────────────────────────────────


def overview(view: views.Overview) -> str:
    """Render the first page: what is wrong, then everything else."""
    now_ns = view.now_ns
    problems = incident_list(view.incidents, now_ns) if view.incidents else empty("Nothing is open.")
    return page(
        view,
        verdict(view),
        "/",
        "/index.json",
        el("h1", verdict(view)),
        section("Open incidents", problems, note=el("a", "all incidents", href="/incidents")),
        section("Devices", _device_cards(view.devices, now_ns), note=el("a", "as a table", href="/devices")),
        section(
            "Assays",
            _assay_blocks(view.assays, now_ns),
            note=el(
                "a", f"all {len(view.assays) + view.more_assays}" if view.more_assays else "all assays", href="/assays"
            ),
        ),
    )


def verdict(view: views.Overview) -> str:
    """Say in one sentence how the fleet is."""
    if not view.devices:
        return "No device has joined yet"
    troubled = sorted({name for line in view.incidents for name in line.incident.devices})
    if troubled:
        return f"{_named(troubled)} {'needs' if len(troubled) == 1 else 'need'} a look"
    newest = [(line.device, line.status) for one in view.assays if one.active for line in one.lines]
    # An incident resolved by hand does not make its device well.
    alerting = sorted({device for device, status in newest if status == "Alert"})
    if alerting:
        return f"Nothing is open, but {_named(alerting)} still {'alerts' if len(alerting) == 1 else 'alert'}"
    # Silence is not health.
    unjudged = sorted({device for device, status in newest if status in {"Late", "NoData", "TooFew"}})
    if unjudged:
        return f"Nothing is open, but {_named(unjudged)} could not be judged of late"
    waiting = [device.name for device in view.devices if device.states == ["new"]]
    if waiting:
        return f"{counted(len(waiting), 'device')} of {len(view.devices)} not heard yet; nothing is wrong"
    return "The device is fine" if len(view.devices) == 1 else f"All {len(view.devices)} devices are fine"


def _named(devices: Sequence[str]) -> str:
    if len(devices) > 3:
        return counted(len(devices), "device")
    return devices[0] if len(devices) == 1 else f"{', '.join(devices[:-1])} and {devices[-1]}"


def _device_cards(devices: Sequence[api.Device], now_ns: int) -> Html:
    if not devices:
        return empty("Publish a pipeline and add an edge: ", el("code", "pipeline.publish().add_edge('camera-1')"))
    cards = [
        el(
            "li",
            el("a", device.name, href=path("devices", device.name), class_="name"),
            state_chips(device.states),
            el("p", "heard ", past(device.heard_ns, now_ns), class_="soft"),
        )
        for device in devices
    ]
    return el("ul", *cards, class_="cards")


def _assay_blocks(lines: Sequence[views.AssayLines], now_ns: int) -> Html:
    if not lines:
        return empty(
            "An assay asks a standing question about some fields: ", el("code", "client.build_assay(…).upload()")
        )
    return el("div", *(_assay_block(one, now_ns) for one in lines), class_="assays")


def _assay_block(one: views.AssayLines, now_ns: int) -> Html:
    promised = isinstance(one.alarm, api.Promise)
    rows = [_line(one, line, now_ns, promised=promised) for line in one.lines]
    near = "of an alarm" if promised else "score"
    heads = (("device", None), ("status", None), (near, "n"), ("last windows", None), ("up to", "until"))
    head = el("tr", *(el("th", name, scope="col", class_=class_) for name, class_ in heads))
    more = el("p", el("a", f"and {counted(one.more, 'more device')}", href=path("assays", one.id)), class_="soft")
    return el(
        "article",
        el(
            "h3",
            el("a", one.name, href=path("assays", one.id)),
            " ",
            el("span", f"{_fields_text(one.fields)} of {one.pipeline}", class_="soft"),
            None if one.active else [" ", chip("off", "Off")],
        ),
        el("p", alarm_text(one.alarm, max(1, one.devices), len(one.fields)), class_="soft rule"),
        _unanswered(one.failure),
        el("div", el("table", el("thead", head), el("tbody", *rows), class_="lines"), class_="wide", tabindex="0")
        if rows
        else empty("No window has been answered yet."),
        more if one.more else None,
    )


def _line(one: views.AssayLines, line: views.Line, now_ns: int, *, promised: bool) -> Html:
    several = len(one.fields) > 1 and line.status not in {"Ok", None}
    told = el("span", line.field, class_="soft of") if line.field and several else None
    return el(
        "tr",
        el("th", el("a", line.device, href=path("devices", line.device)), scope="row"),
        el("td", status_chip(line.status), told),
        el("td", level_text(line.level) if promised else score_text(line.score), class_="n"),
        el("td", strip(line.marks, promised=promised)),
        el("td", moment(line.end_ns, now_ns) if line.end_ns else None, class_="soft until"),
    )


def _fields_text(fields: Sequence[str]) -> str:
    """Name up to three fields, else count them."""
    if len(fields) > 3:
        return counted(len(fields), "field")
    return fields[0] if len(fields) == 1 else f"{', '.join(fields[:-1])} and {fields[-1]}"


def _unanswered(failure: str | None) -> Content:
    if failure is None:
        return None
    return el(
        "p", chip("error", "Not answered"), " the scorer failed and tries again: ", prose(failure), class_="failed"
    )


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────


def all_devices(view: views.Devices) -> str:
    """Render the table of devices."""
    rows = [
        [
            el("a", device.name, href=path("devices", device.name)),
            state_chips(device.states),
            str(view.open_incidents[device.name]) if device.name in view.open_incidents else "–",
            past(device.heard_ns, view.now_ns),
            _until(device),
            _running(device),
            device.software or "–",
        ]
        for device in view.devices
    ]
    heads = ("device", "state", "open incidents", "heard", "complete until", "pipelines", "software")
    content = table(heads, rows, numbers=(2,)) if rows else _device_cards([], view.now_ns)
    return page(view, "Devices", "/devices", "/devices.json", el("h1", "Devices"), content, _to_sites())


def _to_sites() -> Html:
    return el("p", el("a", "Sites and their opening hours", href="/sites"))


def one_device(view: views.Device) -> str:
    """Render one device."""
    one, now_ns = view.device, view.now_ns
    known: list[tuple[str, Content]] = [
        *([("site", one.site)] if one.site else []),
        ("heard", moment(one.heard_ns, now_ns)),
        ("complete until", _until(one)),
        ("waiting on the device", _waiting(one)),
        ("software", one.software or "–"),
        ("in the fleet since", moment(one.created_ns)),
    ]
    known += [(f"pipeline {name}", _state(state)) for name, state in one.pipelines.items()]
    known += [("camera", [chip(state), " ", el("span", name, class_="soft")]) for name, state in one.sources.items()]
    known += [("clock", text)] if (text := clock_text(one)) else []
    known += [
        ("refused" if kind == "refused" else f"dropped {kind}", str(count)) for kind, count in one.dropped.items()
    ]
    known += [("of unknown time", f"{counted(count, 'record')}, {why}") for why, count in one.undated.items()]
    events = [
        [moment(_time_of(event)), str(event.get("type", "")), el("span", _details(event), class_="wrap")]
        for event in view.events
    ]
    about = [line for line in view.incidents if line.incident.resolved_ns is None]
    past = [line for line in view.incidents if line.incident.resolved_ns is not None]
    return page(
        view,
        one.name,
        "/devices",
        path("devices", one.name) + ".json",
        el("h1", one.name, " ", state_chips(one.states)),
        incident_list(about, now_ns) if about else None,
        facts(known),
        _site_form(one),
        section("Assays", _assay_blocks(view.assays, now_ns)) if view.assays else None,
        section("Resolved incidents", incident_list(past, now_ns)) if past else None,
        section("What it told", table(("time", "event", "details"), events)) if events else None,
    )


def _site_form(device: api.Device) -> Html:
    """Return the form that says where a device is."""
    return el(
        "form",
        el("label", "Site ", el("input", name="site", value=device.site or "", maxlength=100, autocomplete="off")),
        el("button", "Save", type="submit"),
        el(
            "span",
            " What happens at one site is one incident; without one, a device is a site of its own.",
            class_="soft",
        ),
        method="post",
        action=path("devices", device.name, "site"),
        class_="fields-form",
    )


def _waiting(device: api.Device) -> str:
    """Say what waits there, and how much of it the budget holds back."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(device.waiting.items()))
    held_back = sum(device.waiting.values()) - device.backlog
    text = kinds or counted(device.backlog, "record")
    budget = device.link.rows_kb_a_day
    return text if held_back <= 0 or budget is None else f"{text} (rows go by a budget of {budget} kB a day)"


def _until(device: api.Device) -> Html:
    return el("span", "–", class_="soft") if device.complete_until_ns is None else moment(device.complete_until_ns)


def _running(device: api.Device) -> Content:
    return [el("span", name, " ", _state(state), class_="pair") for name, state in device.pipelines.items()] or "–"


def _state(state: str) -> Html:
    """Return a pipeline's state; an error keeps its reason."""
    return chip("error", state) if state.startswith("error") else chip(state)


def _time_of(event: Mapping[str, object]) -> int | None:
    at_ns = event.get("at_ns")
    return at_ns if isinstance(at_ns, int) else None


def _details(event: Mapping[str, object]) -> str:
    told = ((key, value) for key, value in event.items() if key not in {"type", "at_ns"})
    return ", ".join(f"{key} {_told(value)}" for key, value in told)


def _told(value: object) -> str:
    """Return a fact of an event as text; what it counts by name is listed."""
    if not isinstance(value, Mapping):
        return str(value)
    inner = cast("Mapping[str, object]", value)
    return f"({', '.join(f'{name} {_told(one)}' for name, one in inner.items())})"


# ── assays ───────────────────────────────────────────────────────────────────────────────────────────────────────


def all_assays(view: views.Assays) -> str:
    """Render every assay with its devices."""
    return page(view, "Assays", "/assays", "/assays.json", el("h1", "Assays"), _assay_blocks(view.assays, view.now_ns))


def one_assay(view: views.Assay) -> str:
    """Render one assay: its answers over time, the newest of them, the newest alert, what windows are compared with."""
    assay, spec, now_ns = view.assay, view.assay.spec, view.now_ns
    is_open = [line for line in view.incidents if line.incident.resolved_ns is None]
    newest = list(reversed(view.analyses))[: views.ANALYSES_IN_TABLE_MAX]
    return page(
        view,
        spec.name,
        "/assays",
        path("assays", assay.id) + ".json",
        el(
            "div",
            el("h1", spec.name, " ", _activity(assay, now_ns)),
            action(
                path("assays", assay.id, "off" if assay.active else "on"), "Switch off" if assay.active else "Switch on"
            ),
            class_="head",
        ),
        _unanswered(view.summary.failure),
        el("p", _question(view), class_="lead"),
        incident_list(is_open, now_ns) if is_open else None,
        chart(score_chart(view.analyses), narrow=score_chart(view.analyses, width=PHONE)),
        el("p", f"{counted(more, 'calmer device')} not drawn", class_="soft") if (more := view.summary.more) else None,
        section("Newest alert", _bins(view.alert), _notes(view.alert.notes)) if view.alert else None,
        section("Newest answers", _answers(newest, spec)) if newest else None,
        section(
            "Baseline",
            *_baseline(_drawn_first(view), spec),
            _notes(assay.notes),
            note=el("a", "what it would find", href=path("assays", assay.id, "preview")),
        ),
        section("Baselines it has had", _versions(view.versions, now_ns)) if len(view.versions) > 1 else None,
        section("How it was edited", assay_forms.history(view.editions, now_ns)) if view.editions else None,
        section("Maintenance", *assay_forms.maintenance_of(assay, view.maintenance, now_ns)),
        section("What to do", *assay_forms.forms(assay)),
    )


def _bins(alert: api.Analysis) -> Html:
    return chart(bins_chart(alert), narrow=bins_chart(alert, width=PHONE))


def assay_preview(view: views.Preview) -> str:
    """Render how large a shift an assay would find, as a chart and in a sentence a device and field."""
    assay, found = view.assay, view.preview
    within = f"within {counted(found.within, 'window')}"
    said = [
        el("li", el("b", f"{one.device or 'all devices'}, {one.field}"), ": ", prose(stream_text(one, found.within)))
        for one in found.streams
    ]
    return page(
        view,
        f"What {assay.spec.name} would find",
        "/assays",
        path("assays", assay.id, "preview") + ".json",
        el("h1", "What ", el("a", assay.spec.name, href=path("assays", assay.id)), " would find"),
        el(
            "p",
            f"Shifts are laid on the baseline's own windows, and the alarm has to find them {within}. Past alarms are "
            "those since the newest baseline. Reload the page to work it out anew.",
            class_="lead",
        ),
        chart(detectability_chart(found), narrow=detectability_chart(found, width=PHONE)),
        section("In words", el("ul", *said, class_="notes health"), _notes(found.notes))
        if said
        else empty("There is no baseline, hence nothing to find."),
        live=False,
    )


def _activity(assay: api.Assay, now_ns: int) -> Html:
    if not assay.active:
        return chip("off", "Off")
    return chip("off", "Ended") if _has_ended(assay.spec, now_ns) else chip("running", "On")


def _has_ended(spec: api.AssaySpec, now_ns: int) -> bool:
    return spec.run_until_ns is not None and spec.run_until_ns <= now_ns


def _question(view: views.Assay) -> Content:
    spec = view.assay.spec
    windows, how = spec.windows, spec.summarizer
    every = "" if windows.interval_s in {None, windows.width_s} else f", one every {duration(windows.interval_s or 0)}"
    ended = _has_ended(spec, view.now_ns)
    until = [f" It {'ran' if ended else 'runs'} until ", moment(spec.run_until_ns), "."] if spec.run_until_ns else None
    devices = max(1, view.summary.devices)
    rule = (
        f" of {view.pipeline} moved from its baseline? {duration(windows.width_s)} windows{every}; "
        f"{_measure(how, text=_all_text(view))}; {alarm_text(spec.alarm, devices, len(spec.watched))}."
    )
    fields = [one.field for one in spec.watched]
    named: list[Content] = [el("code", fields[0])]
    for i, field in enumerate(fields[1:], 2):
        named += [" or " if i == len(fields) else ", ", el("code", field)]
    return ["Has ", *named, rule, _hours(spec, view.sites), until]


def _hours(spec: api.AssaySpec, sites_open: Sequence[api.SiteHours]) -> str:
    """Say when an assay wakes nobody, and what it takes for usual at a time of day."""
    seasons = {"day": "their hour of day", "week": "their hour and weekday"}
    season = spec.baseline.season
    own = spec.calendar
    zone = own.time_zone or ("of each site" if sites_open else "UTC")
    alike = (
        f" Evidence compares windows with those of {seasons[season]} ({zone}); score and what changed are against the "
        "whole baseline."
        if season
        else ""
    )
    if own.opening_hours:
        return f"{alike} It wakes nobody outside {own.opening_hours} ({zone})."
    theirs = [f"{one.site} {one.opening_hours} ({one.time_zone})" for one in sites_open if one.opening_hours]
    if own.time_zone is not None or not theirs:
        return alike
    return f"{alike} It wakes nobody outside the opening hours of a device's site: {'; '.join(theirs)}."


def _all_text(view: views.Assay) -> bool:
    """Whether only text is watched: its bins are its categories, and have no edges."""
    return bool(view.baselines) and all(one.labels and not one.edges for one in view.baselines)


def _measure(how: api.Summarizer, *, text: bool) -> str:
    """Say what is measured; moments and missing values have no bins."""
    kind = METRICS[how.metric]
    if how.metric in {"mean_shift", "missing_rate"}:
        return f"{kind.name} {kind.unit}".rstrip()
    if text:
        return f"{kind.name} {kind.unit}".rstrip() + " over categories"
    bins = counted(len(how.bin_edges or ()) + 1 if how.bin_mode == "provided" else how.num_bins, how.bin_mode + " bin")
    return f"{kind.name} {kind.unit}".rstrip() + f" over {bins}"


def _answers(newest: Sequence[api.Analysis], spec: api.AssaySpec) -> Html:
    several, promised = len(spec.watched) > 1, isinstance(spec.alarm, api.Promise)
    rows = [
        [
            el("a", one.device, href=path("devices", one.device)),
            *([one.field] if several else []),
            status_chip(one.status),
            *([_evidence(one)] if promised else []),
            score_text(one.score),
            effect_text(one) or "–",
            moment(one.start_ns),
            str(one.count),
            str(one.missing) if one.missing else "–",
            number(one.mean),
            number(one.median),
            number(one.std),
            one.source if one.count else "–",
            str(one.revision) if one.revision > 1 else "–",
        ]
        for one in newest
    ]
    heads = [
        "device", *(["field"] if several else []), "status", *(["evidence"] if promised else []), "score",
        "what changed", "window", "count", "missing", "mean", "median", "std", "from", "revision",
    ]  # fmt: skip
    right = {"evidence", "score", "count", "missing", "mean", "median", "std"}
    return table(heads, rows, numbers=[i for i, head in enumerate(heads) if head in right])


def _evidence(one: api.Analysis) -> Content:
    """Return what the evidence has come to; a window that overlaps a counted one, or that is closed, adds nothing."""
    if one.evidence is None:
        return "–"
    shown = amount(one.evidence.value)
    return shown if one.evidence.counted else el("span", f"({shown})", title=NOT_COUNTED)


def _drawn_first(view: views.Assay) -> list[api.BaselineStats]:
    """Return the baselines, the one of the newest alert, else of the most urgent device, first."""
    alert = view.alert
    whose = alert.device if alert else next((line.device for line in view.summary.lines), None)
    return sorted(view.baselines, key=lambda one: (one.device != whose, alert is not None and one.field != alert.field))


def _baseline(baselines: Sequence[api.BaselineStats], spec: api.AssaySpec) -> list[Content]:
    if not baselines:
        return [empty("There is no baseline, hence no score.")]
    several, promised = len(spec.watched) > 1, isinstance(spec.alarm, api.Promise)
    rows = [
        [
            el("a", one.device, href=path("devices", one.device)) if one.device else serves(one, baselines),
            *([one.field] if several else []),
            str(one.version),
            str(one.count),
            *([_windows(one.calibrated)] if promised else []),
            *(number(value) for value in (one.min, one.median, one.mean, one.max, one.std)),
            moment(one.start_ns) if one.start_ns is not None else "values given",
            moment(one.end_ns) if one.end_ns is not None else "–",
        ]
        for one in baselines
    ]
    heads = [
        "device", *(["field"] if several else []), "version", "count", *(["windows"] if promised else []),
        "min", "median", "mean", "max", "std", "from", "to",
    ]  # fmt: skip
    right = {"version", "count", "windows", "min", "median", "mean", "max", "std"}
    drawn = [chart(histogram(one), narrow=histogram(one, width=PHONE)) for one in baselines[:1] if one.shares]
    said = sorted({note for one in baselines for note in one.notes})
    shown = table(heads, rows, numbers=[i for i, head in enumerate(heads) if head in right])
    return [shown, _health(baselines), *drawn, _notes(said)]


def serves(one: api.BaselineStats, baselines: Sequence[api.BaselineStats]) -> str:
    """Say which device a baseline is of; one of none serves all that have no newer one of their own."""
    renewed = any(other.device and other.field == one.field for other in baselines)
    return one.device or ("all other devices" if renewed else "all devices")


def _windows(one: api.Calibrated | None) -> Content:
    """Say how many windows a promise rests on, and how many independent ones they are worth."""
    if one is None:
        return "–"
    if one.refused is not None:
        return chip("error", "no promise")
    return f"{one.windows} of about {one.n}"


def _health(baselines: Sequence[api.BaselineStats]) -> Content:
    """Say what the baselines lack and what to do about it; a sentence that holds for several is said once."""
    whom: dict[str, list[str]] = {}
    for one in baselines:
        found = one.calibrated
        for sentence in ([found.refused] if found.refused else found.health) if found else ():
            whom.setdefault(sentence, []).append(f"{serves(one, baselines)}, {one.field}")
    if not whom:
        return None
    said = [el("li", el("b", _whose(names)), ": ", prose(sentence)) for sentence, names in whom.items()]
    return el("ul", *said, class_="notes health")


def _whose(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _versions(versions: Sequence[api.BaselineVersion], now_ns: int) -> Html:
    rows = [
        [
            str(one.version),
            moment(one.from_ns) if one.from_ns else "the beginning",
            moment(one.created_ns, now_ns),
            _named(one.devices) if one.devices else "all devices",
            _made_of(one.baseline),
            "; ".join(one.notes) or "–",
        ]
        for one in versions
    ]
    return table(("version", "for windows from", "taken", "devices", "made of", "notes"), rows)


def _made_of(baseline: api.Baseline) -> Content:
    if baseline.values is not None:
        return f"values given: {counted(max(map(len, baseline.values.values()), default=0), 'value')}"
    whose = f"{baseline.device}, " if baseline.device else ""
    return [f"{whose}what was seen from ", moment(baseline.start_ns), " to ", moment(baseline.end_ns)]


def _notes(notes: Sequence[str]) -> Content:
    return el("ul", *(el("li", prose(note)) for note in notes), class_="notes") if notes else None


# ── incidents and pipelines ──────────────────────────────────────────────────────────────────────────────────────


def all_incidents(view: views.Incidents) -> str:
    """Render open incidents, then resolved ones."""
    is_open = [line for line in view.incidents if line.incident.resolved_ns is None]
    over = [line for line in view.incidents if line.incident.resolved_ns is not None]
    nothing = empty("Nothing is open.")
    return page(
        view,
        "Incidents",
        "/incidents",
        "/incidents.json",
        el("h1", counted(len(is_open), "open incident") if is_open else "No open incident"),
        incident_list(is_open, view.now_ns) if is_open else nothing,
        section("Resolved", incident_list(over, view.now_ns)) if over else None,
    )


def all_pipelines(view: views.Pipelines) -> str:
    """Render every pipeline with where it runs."""
    blocks = [_pipeline(line, view.now_ns) for line in view.pipelines]
    content = (
        el("div", *blocks, class_="assays")
        if blocks
        else empty(
            "A pipeline runs a model: ", el("code", "client.build_pipeline('shelf-watch').add_model_step(model)")
        )
    )
    return page(view, "Pipelines", "/pipelines", "/pipelines.json", el("h1", "Pipelines"), content)


def _pipeline(line: views.PipelineLine, now_ns: int) -> Html:
    one = line.pipeline
    steps = " → ".join(str(step["name"]) for step in one.versions[0].definition["steps"]) or "observed in a program"
    rows = [
        [
            el("a", place.device, href=path("devices", place.device)),
            _state(place.state),
            _version(one, place.version),
            "; ".join(place.limits.values()) or "–",
        ]
        for place in line.status.devices
    ]
    known: list[tuple[str, Content]] = [
        ("steps", steps),
        ("versions", f"{len(one.versions)}"),
        ("made", moment(one.versions[0].created_ns, now_ns)),
        ("workspace", line.workspace),
    ]
    fields = el("p", *(el("code", key) for key in line.fields), class_="fields")
    return el(
        "article",
        el("h3", one.name, " ", _state(line.status.status)),
        facts(known),
        table(("device", "state", "version", "limits"), rows) if rows else empty("It runs nowhere yet."),
        el("details", el("summary", counted(len(line.fields), "recorded field")), fields) if line.fields else None,
        _notes(one.notes),
    )


def _version(pipeline: api.Pipeline, version: str) -> str:
    ordered = [one.id for one in reversed(pipeline.versions)]
    if version not in ordered:
        return version
    number_of = ordered.index(version) + 1
    return f"{number_of} (newest)" if number_of == len(ordered) else f"{number_of} of {len(ordered)}"


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────


routes = Routes(prefix="", failed=failed)


def _resolve(call: Call[None], incident: str, _fields: Fields) -> str:
    incident_routes.do(call.hub, incident, "resolved", api.Act(), call.who)
    return "/incidents"


def _take_baseline(call: Call[None], incident: str, fields: Fields) -> str:
    """Compare a device with what came since it alarmed, and lead to its assay."""
    with call.hub.database.reading() as connection:
        assay = incident_store.one(connection, incident).assay_id
    if assay is None:
        raise InvalidInputError("this incident is about the device itself; there is no baseline to take from it")
    take(call.hub, assay, api.NewBaseline(incident=incident, device=fields.get("device") or None))
    return path("assays", assay)


def _switch(call: Call[None], assay: str, _fields: Fields, *, active: bool) -> str:
    assays.switch(call.hub, assay, active=active)
    return path("assays", assay)


def _place(call: Call[None], device: str, fields: Fields) -> str:
    sites.place(call.hub, device, fields.get("site"), call.who.visible)
    return path("devices", device)


class _Elsewhere(Ruled):
    """Every address that is not the API's: those have an answer of their own."""

    def matches(self, scope: Scope) -> tuple[Match, Any]:
        """Leave the API's addresses alone."""
        if str(scope.get("path", "")).startswith(("/api/", "/oauth/")):
            return Match.NONE, {}
        return super().matches(scope)


pair(routes, "/", "/index.json", views.overview, overview, policy=MEMBER)
pair(routes, "/devices", "/devices.json", views.devices, all_devices, policy=MEMBER)
pair(routes, "/devices/{name}", "/devices/{name}.json", views.device, one_device, policy=VIEWER, named="name")
pair(routes, "/assays", "/assays.json", views.all_assays, all_assays, policy=MEMBER)
pair(routes, "/assays/{assay}", "/assays/{assay}.json", views.assay, one_assay, policy=VIEWER, named="assay")
pair(
    routes,
    "/assays/{assay}/preview",
    "/assays/{assay}/preview.json",
    views.preview,
    assay_preview,
    policy=VIEWER,
    named="assay",
)
pair(routes, "/incidents", "/incidents.json", views.incidents, all_incidents, policy=MEMBER)
pair(routes, "/pipelines", "/pipelines.json", views.all_pipelines, all_pipelines, policy=MEMBER)
incident_pages.register(routes)
assay_forms.register(routes)
notification_pages.register(routes)
site_pages.register(routes)
acts(routes, "/devices/{name}/site", _place, policy=EDITOR)
acts(routes, "/incidents/{incident}/resolve", _resolve, policy=EDITOR)
acts(routes, "/incidents/{incident}/baseline", _take_baseline, policy=EDITOR)
acts(routes, "/assays/{assay}/on", partial(_switch, active=True), policy=EDITOR)
acts(routes, "/assays/{assay}/off", partial(_switch, active=False), policy=EDITOR)


@routes.get("/api", policy=PUBLIC, media=HTML)
def api_page(call: Call[None]) -> Response:
    """Show the API to a person."""
    document = msgspec.json.decode(call.request.app.state.openapi())
    return answered(reference(View(now_ns=call.hub.now_ns(), banner=call.hub.clock.banner), document))


@routes.get("/static/{name}", policy=PUBLIC, media=HTML)
def static(call: Call[None]) -> Response:
    """Return a file that pages are made of."""
    name = call.path["name"]
    headers = {"Cache-Control": "no-cache"}
    if name == "charts.css":
        return Response(STYLE, 200, headers, "text/css; charset=utf-8")
    if name not in FILES:
        raise EntityNotFoundError(f"There is no file {name}.")
    return Response((STATIC / name).read_bytes(), 200, headers, FILES[name])


def _nowhere(call: Call[None]) -> Response:
    raise EntityNotFoundError(f"There is no page {call.request.url.path}.")


def starlette() -> list[Ruled]:
    """Return the routes of every page, and last the one of every other address."""
    rules = {"GET": Rule("GET", "/{path:path}", _nowhere, PUBLIC, media=HTML)}
    return [*routes.starlette(), _Elsewhere("/{path:path}", rules, failed)]
