"""What a person can do about an assay on its page: edit it, copy it, remove it, plan maintenance; how it was edited."""

import math
from collections.abc import Sequence

import msgspec

from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError
from driftline.hub import alter, maintenance
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR
from driftline.hub.store import assays as store
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import by_field, confirmed, field, moment, table
from driftline.hub.web.routing import Fields, acts
from driftline.wire import api

# How long a maintenance may be planned for with one click, in s.
LENGTHS = ((3600, "1 hour"), (4 * 3600, "4 hours"), (86_400, "1 day"), (7 * 86_400, "7 days"))
# Beyond what any field of a form means.
NUMBER_MAX = 1e9


def forms(assay: api.Assay) -> list[Content]:
    """Return what can be done besides switching it."""
    return [_edit(assay), _clone(assay), _removed(assay)]


def history(editions: Sequence[api.Edition], now_ns: int) -> Html:
    """Return how an assay was edited, the last time first."""
    rows = [
        [
            str(one.version),
            moment(one.at_ns, now_ns),
            one.actor,
            el("ul", *(el("li", _changed(name, one)) for name in sorted(one.before | one.after)), class_="changes"),
            moment(one.from_ns) if one.from_ns is not None else "the beginning",
            el("span", one.note or "–", class_="wrap"),
        ]
        for one in reversed(editions)
    ]
    return table(("version", "when", "who", "what", "for windows from", "why"), rows)


def _changed(name: str, edition: api.Edition) -> Content:
    was, now = (facts.get(name) for facts in (edition.before, edition.after))
    return [el("code", name), f" {'–' if was is None else was} → {'–' if now is None else now}"]


def maintenance_of(assay: api.Assay, planned: Sequence[api.Maintenance], now_ns: int) -> list[Content]:
    """Return when nobody is woken because somebody is at work, and the form that plans it."""
    rows = [
        [
            moment(one.from_ns, now_ns),
            moment(one.until_ns),
            _place(one),
            one.actor,
            _ended(assay, one),
            el("span", one.reason or "–", class_="wrap"),
        ]
        for one in planned
    ]
    heads = ("from", "until", "of", "planned by", "", "reason")
    return [table(heads, rows) if rows else None, _plan(assay)]


def _place(one: api.Maintenance) -> str:
    named = [("site", one.site), ("device", one.device)]
    places = " and ".join(f"{what} {name}" for what, name in named if name)
    return places or "every device of this assay"


def _ended(assay: api.Assay, one: api.Maintenance) -> Html:
    hidden = el("input", type="hidden", name="maintenance", value=one.id)
    button = el("button", "End", type="submit")
    return el("form", hidden, button, method="post", action=path("assays", assay.id, "ended"))


def _plan(assay: api.Assay) -> Html:
    lengths = [el("option", words, value=seconds) for seconds, words in LENGTHS]
    return el(
        "form",
        el("button", "Begin now", type="submit"),
        el("label", "for ", el("select", *lengths, name="for_s")),
        field("site", "site", None, maxlength=100, placeholder="all"),
        field("device", "device", None, maxlength=100, placeholder="all"),
        by_field(),
        field("reason", "reason", None, maxlength=500, class_="long"),
        el("span", "Windows are answered and marked meanwhile, and wake nobody; what is open stays.", class_="soft"),
        method="post",
        action=path("assays", assay.id, "maintenance"),
        class_="fields-form",
    )


def _edit(assay: api.Assay) -> Html:
    """Return the form of what may become different; what is left as it is stays."""
    spec, windows = assay.spec, assay.spec.windows
    content = [
        *_alarm_fields(spec.alarm),
        field("window, min", "width_min", windows.width_s / 60, size=5, inputmode="numeric"),
        field("every, min", "every_min", (windows.interval_s or windows.width_s) / 60, size=5, inputmode="numeric"),
        field("open", "opening_hours", spec.calendar.opening_hours, placeholder="as the site", maxlength=200),
        field("time zone", "time_zone", spec.calendar.time_zone, placeholder="the site's", maxlength=60),
        by_field(),
        field("why", "note", None, maxlength=500, class_="long"),
    ]
    said = (
        "Windows that have not ended yet are answered as it asks then, and its evidence begins again; answers that are "
        "there stay, and open incidents are over."
    )
    return el(
        "details",
        el("summary", "Edit"),
        el("p", said),
        el(
            "form",
            *content,
            el("button", "Save", type="submit"),
            method="post",
            action=path("assays", assay.id, "edit"),
            class_="fields-form",
        ),
        class_="confirm",
    )


def _alarm_fields(alarm: api.Fixed | api.Promise) -> list[Html]:
    if isinstance(alarm, api.Fixed):
        return [
            field("alert from", "threshold", alarm.threshold, size=8, inputmode="decimal"),
            field("warn from", "warning", alarm.warning, size=8, inputmode="decimal"),
        ]
    days = alarm.false_alarm_every_s / 86_400
    return [field("one false alarm in days", "false_alarm_days", days, size=8, inputmode="decimal")]


def _clone(assay: api.Assay) -> Html:
    return el(
        "form",
        el("button", "Copy", type="submit"),
        el("label", "to the name ", el("input", name="name", required=True, maxlength=100, autocomplete="off")),
        el("span", "It compares with the same baselines, and begins with the next window.", class_="soft"),
        method="post",
        action=path("assays", assay.id, "clone"),
        class_="fields-form",
    )


def _removed(assay: api.Assay) -> Html:
    what = [
        "Assay ", el("b", assay.spec.name), " is gone then, with its answers and baselines. Its incidents are",
        " over, and stay with what happened to them. To keep its answers, switch it off instead.",
    ]  # fmt: skip
    return confirmed("Remove", what, path("assays", assay.id, "remove"), "Yes, remove it")


def _do_edit(call: Call[None], assay: str, fields: Fields) -> str:
    with call.hub.database.reading() as connection:
        spec = store.one(connection, assay).assay.spec
    asked = api.AssayEdit(
        alarm=_alarm(spec.alarm, fields),
        windows=_windows(spec.windows, fields),
        calendar=api.Calendar(
            time_zone=fields.get("time_zone", spec.calendar.time_zone or "").strip() or None,
            opening_hours=fields.get("opening_hours", spec.calendar.opening_hours or "").strip() or None,
        ),
        note=fields.get("note", ""),
    )
    alter.edit(call.hub, assay, asked, call.who.called(fields.get("by")))
    return path("assays", assay)


def _alarm(alarm: api.Fixed | api.Promise, fields: Fields) -> api.Fixed | api.Promise:
    if isinstance(alarm, api.Promise):
        days = _number(fields, "false_alarm_days")
        every_s = alarm.false_alarm_every_s if days is None else round(days * 86_400)
        return msgspec.structs.replace(alarm, false_alarm_every_s=every_s)
    threshold = _number(fields, "threshold")
    warning = _number(fields, "warning") if "warning" in fields else alarm.warning
    return api.Fixed(threshold=alarm.threshold if threshold is None else threshold, warning=warning)


def _windows(windows: api.Windows, fields: Fields) -> api.Windows:
    width, every = (_number(fields, name) for name in ("width_min", "every_min"))
    width_s = windows.width_s if width is None else round(width * 60)
    every_s = (windows.interval_s or windows.width_s) if every is None else round(every * 60)
    # An assay that never said how far apart its windows start goes on so as long as nobody does.
    is_said = windows.interval_s is not None or every_s != width_s
    return msgspec.structs.replace(windows, width_s=width_s, interval_s=every_s if is_said else None)


def _number(fields: Fields, name: str) -> float | None:
    """Read a number; None where the field was left empty."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > NUMBER_MAX:
        raise InvalidInputError(f"{text!r:.40} is no number to work with; write one such as 0.25")
    return number


def _do_clone(call: Call[None], assay: str, fields: Fields) -> str:
    return path("assays", alter.clone(call.hub, assay, api.NewClone(name=fields.get("name", ""))).id)


def _do_remove(call: Call[None], assay: str, _fields: Fields) -> str:
    alter.remove(call.hub, assay)
    return "/assays"


def _do_plan(call: Call[None], assay: str, fields: Fields) -> str:
    with call.hub.database.reading() as connection:
        workspace = store.one(connection, assay).assay.workspace
    now_ns, for_s = call.hub.now_ns(), _number(fields, "for_s") or 0.0
    asked = api.NewMaintenance(
        from_ns=now_ns,
        until_ns=now_ns + round(for_s * NS_PER_S),
        reason=fields.get("reason", ""),
        site=fields.get("site", "").strip() or None,
        device=fields.get("device", "").strip() or None,
        assay=assay,
    )
    maintenance.plan(call.hub, workspace, asked, call.who.called(fields.get("by")))
    return path("assays", assay)


def _do_end(call: Call[None], assay: str, fields: Fields) -> str:
    with call.hub.database.reading() as connection:
        workspace = store.one(connection, assay).assay.workspace
    maintenance.end(call.hub, workspace, fields.get("maintenance", ""))
    return path("assays", assay)


def register(routes: Routes) -> None:
    """Give the forms their addresses."""
    acts(routes, "/assays/{assay}/edit", _do_edit, policy=EDITOR)
    acts(routes, "/assays/{assay}/maintenance", _do_plan, policy=EDITOR)
    acts(routes, "/assays/{assay}/ended", _do_end, policy=EDITOR)
    acts(routes, "/assays/{assay}/clone", _do_clone, policy=EDITOR)
    acts(routes, "/assays/{assay}/remove", _do_remove, policy=EDITOR)
