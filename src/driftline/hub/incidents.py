"""Incidents: what an owner should know, in one sentence each, opened and resolved by rules that can be run twice.

*drift*: one for an assay at a site, whatever its fields and devices. The first Alert of a field on a device opens it,
or adds the device to it. It is over when it is on every device: under a promise when no field is in alarm any more, as
the evidence says; under a fixed alarm, when three windows in a row were Ok for every field that alerted. Windows that
say nothing (NoData, TooFew, Late) neither help nor hurt; a Warning is not Ok. Windows outside the opening hours, and
those that overlap one that was counted, wake nobody. A new baseline ends it for its devices.
*silent*, *backlog*: devices of a site missed their syncs (`fleet.is_silent`), or cannot get rid of what they count.
*clock*: a device's clock is off, by its own estimate. *camera lost*, *feed frozen*: a camera's own state. *dropped*: a
device had to drop windows for lack of room. *identity conflict*: two machines sync as one device; over when it joins
anew, or a day went without. A person may resolve an incident earlier; the next Alert brings it back.

Rules here say what is wrong with a device; `causes.py` makes incidents of that.

Everything is worked out from what is stored, so that a hub may be killed anywhere and do it again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args
from uuid import uuid4

from sqlalchemy import Connection

from driftline.assay.promise import alarm_at
from driftline.charts.bins import range_text
from driftline.charts.findings import what_moved
from driftline.clock import NS_PER_S, iso, seconds_text
from driftline.hub import causes, fleet, life
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as kept
from driftline.hub.store.assays import Alarm, Answer, Mark, Stored
from driftline.hub.store.incidents import Part
from driftline.wire import api

Kind = Literal["drift", "silent", "backlog", "dropped", "clock", "camera lost", "feed frozen", "identity conflict"]
CameraState = Literal["camera lost", "feed frozen"]
CAMERA_STATES: tuple[CameraState, ...] = get_args(CameraState)
WATCHED: tuple[Kind, ...] = ("silent", "backlog", "dropped", "clock", "identity conflict", *CAMERA_STATES)

# Half a base window: up to there nothing it counts lies in another window than it should.
CLOCK_OFF_S = 30.0

OK_WINDOWS_TO_RESOLVE = 3
# A device that comes back from an outage is behind for a while; whom that wakes should have something to do.
BACKLOG_LAG_S = 3600


# ── drift ────────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(connection: Connection, spec: api.AssaySpec, told: Sequence[Stored], now_ns: int) -> None:
    """Open, extend or end what the new or changed answers of one window of a device belong to."""
    if not told:
        return
    first = told[0].answer.analysis
    assay, device = str(first.assay_id), first.device
    part = kept.open_part(connection, "drift", device, assay=assay)
    news = [one.answer.analysis for one in told if _is_news(one)]
    if part is None:
        if not news:
            return
        part = _drift(max(news, key=lambda one: one.start_ns))
    within_ns = life.reopens_within_ns(spec.windows.interval_s or spec.windows.width_s)
    since_ns = min([part.opened_ns, *(one.start_ns for one in news)])
    alarms = _in_order(spec, store.alarms(connection, assay, device, since_ns))
    if not alarms:
        # Late data took back every alert it was opened for.
        withdrawn = replace(part, text=f"{part.text}; {WITHDRAWN}", resolved_ns=first.end_ns)
        causes.gather(connection, withdrawn, now_ns, settled=True)
        return
    changed = replace(
        part,
        field=alarms[0].field,
        opened_ns=alarms[0].first_ns,
        windows=store.alerts_since(connection, assay, device, since_ns),
        text=_text(connection, spec, assay, device, alarms),
        resolved_ns=_over_ns(connection, spec, assay, device, alarms),
    )
    if changed != part:
        causes.gather(connection, changed, now_ns, within_ns=within_ns)


def may_be_news(answer: Answer) -> bool:
    """Say whether an answer could open an incident; see `follow`."""
    return answer.wakes and answer.analysis.status == "Alert"


def _is_news(stored: Stored) -> bool:
    """Say whether an answer is an Alert that was none before: one that is only answered again wakes nobody twice."""
    answer, before = stored.answer, stored.before
    alerts = may_be_news(answer)
    known = before is not None and before.status == "Alert" and before.version == answer.analysis.baseline_version
    return alerts and not known


def _in_order(spec: api.AssaySpec, alarms: Sequence[Alarm]) -> list[Alarm]:
    """Return the field that spoke first before the others: of several in one window the loudest, as they are named."""
    places = {one.field: at for at, one in enumerate(spec.watched)}
    return sorted(alarms, key=lambda one: (one.first_ns, -one.level, places.get(one.field, len(places))))


def _over_ns(
    connection: Connection, spec: api.AssaySpec, assay: str, device: str, alarms: Sequence[Alarm]
) -> int | None:
    """Return when the last of the fields that were in alarm was over it; None while one is not."""
    ends: list[int | None] = []
    for one in alarms:
        if isinstance(spec.alarm, api.Promise):
            ends.append(store.calm_since(connection, assay, device, one.field, one.first_ns))
        else:
            newest = OK_WINDOWS_TO_RESOLVE
            marks = store.judged(connection, assay, device, one.field, since_ns=one.first_ns, newest=newest)
            ends.append(resolved_ns(marks))
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


def resolved_ns(judged: Sequence[Mark]) -> int | None:
    """Return when the last windows that could be judged resolve an incident: the end of the third Ok in a row."""
    last = judged[-OK_WINDOWS_TO_RESOLVE:]
    over = len(last) == OK_WINDOWS_TO_RESOLVE and all(mark.status == "Ok" for mark in last)
    return last[-1].end_ns if over else None


# ── the sentence ─────────────────────────────────────────────────────────────────────────────────────────────────


def _text(connection: Connection, spec: api.AssaySpec, assay: str, device: str, alarms: Sequence[Alarm]) -> str:
    """Say which field spoke first and why, and which others did."""
    first, *others = alarms
    alert = store.latest_alert(connection, assay, [device], field=first.field, since_ns=first.first_ns)
    if alert is None:
        raise AssertionError(f"{first.field} alarms without an alert")
    count = len(store.judged(connection, assay, device, first.field, since_ns=first.first_ns, statuses=["Alert"]))
    text = drift_text(device, first.field, first.first_ns, evidence_text(spec, alert), count) + why(alert)
    also = ", ".join(one.field for one in others)
    return f"{text}; also {also}" if also else text


def drift_text(device: str, field: str, since_ns: int, reason: str, windows: int) -> str:
    """Say which device, which field, since when, and by how much.

    >>> drift_text("camera-3", "out.sharpness", 1_767_260_160_000_000_000, "score 7.06, threshold 0.25", 4)
    'device camera-3: out.sharpness has drifted since 2026-01-01T09:36:00+00:00 (score 7.06, threshold 0.25; 4 windows)'
    """
    counted = "1 window" if windows == 1 else f"{windows} windows"
    return f"device {device}: {field} has drifted since {iso(since_ns)} ({reason}; {counted})"


def evidence_text(spec: api.AssaySpec, alert: api.Analysis) -> str:
    """Say why an Alert is one: a score above its threshold, or evidence above what makes an alarm, and what moved."""
    evidence = alert.evidence
    if evidence is None or not isinstance(spec.alarm, api.Promise):
        shown = "none" if alert.score is None else f"{alert.score:.3g}"
        return f"score {shown}, threshold {alert.alert_threshold:g}"
    streams = round(evidence.alarm_at / alarm_at(spec.alarm, spec.windows, 1))
    counted = "1 stream" if streams == 1 else f"{streams} streams"
    promised = f"one false alarm in {duration_text(spec.alarm.false_alarm_every_s)} over {counted}"
    moved = what_moved(alert)
    return (
        f"evidence {evidence.value:,.0f} where {evidence.alarm_at:,.0f} make an alarm ({promised})"
        f"{f'; {moved}' if moved else ''}"
    )


def duration_text(seconds: int) -> str:
    """Say a duration in the largest unit that fits.

    >>> duration_text(30 * 86_400), duration_text(5400), duration_text(3600)
    ('30 days', '90 minutes', '1 hour')
    """
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


def why(alert: api.Analysis) -> str:
    """Say where more values lie than in the baseline: the bin whose share grew most; '' where no bins tell."""
    bins = alert.bins
    # Cumulative bins add up to more than 1; what they hold is no bin's own share.
    if bins is None or sum(bins.window) > 1 + 1e-6:
        return ""
    gains = [now - before for now, before in zip(bins.window, bins.baseline, strict=True)]
    most = max(range(len(gains)), key=gains.__getitem__)
    if gains[most] <= 0:
        return ""
    return (
        f": {bins.window[most]:.0%} of its values are {range_text(bins, most)}, "
        f"where the baseline has {bins.baseline[most]:.0%}"
    )


def _drift(analysis: api.Analysis) -> Part:
    return Part(
        str(uuid4()), "drift", analysis.device, analysis.start_ns, assay=analysis.assay_id, field=analysis.field
    )


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────


def watch(
    connection: Connection,
    devices: Iterable[api.Device],
    heard_of: Collection[str],
    now_ns: int,
    excused: Collection[str] = (),
) -> None:
    """Open and resolve the incidents of the devices' own states: silence, a wrong clock, a double, a camera's trouble.

    `heard_of` names the devices that had the chance to be heard since this hub started: after its own absence a hub
    does not blame its devices for it. `excused` are in maintenance: what is open of them stays, and nothing is opened.
    """
    known = {(part.device, part.kind, part.source or ""): part for part in kept.open_parts(connection, WATCHED)}
    by_name = {device.name: device for device in devices}
    for device in by_name.values():
        for kind, source, text in troubles(device):
            before = known.pop((device.name, kind, source), None)
            if before is None and device.name not in excused and (kind != "silent" or device.name in heard_of):
                opened_ns = now_ns if device.heard_ns is None else device.heard_ns
                part = Part(str(uuid4()), kind, device.name, opened_ns, source=source or None, text=text)
                causes.gather(connection, part, now_ns)
    for (name, _, source), part in known.items():
        if name in by_name and source and not _is_over(by_name[name].sources, source):
            continue
        causes.gather(connection, replace(part, resolved_ns=now_ns), now_ns)
    causes.end_silences(connection, now_ns)


def _is_over(sources: Mapping[str, str], source: str) -> bool:
    """Say whether a camera's trouble is over; a device that was stopped, or is only starting, tells nothing of it."""
    return bool(sources) and sources.get(source) != "starting"


def troubles(device: api.Device) -> Iterator[tuple[Kind, str, str]]:
    """Yield (kind, camera, sentence) for everything wrong with a device by what it last said of itself."""
    if not device.joined or device.heard_ns is None:
        return
    since = iso(device.heard_ns)
    if "silent" in device.states:
        yield "silent", "", f"device {device.name}: silent since {since}; see whether it has power and a link"
    if "identity conflict" in device.states:
        yield "identity conflict", "", f"device {device.name}: {_CONFLICT_WORDS}"
    if is_behind(device):
        yield "backlog", "", f"device {device.name}: {backlog_text(device)}, as heard at {since}; {_BACKLOG_ADVICE}"
    if "dropping" in device.states:
        yield "dropped", "", f"device {device.name}: {_DROPPED_WORDS}"
    if is_clock_off(device):
        yield "clock", "", f"device {device.name}: {clock_text(device)}, as heard at {since}; {_CLOCK_ADVICE}"
    for source, state in device.sources.items():
        if state.startswith("error"):
            # It cannot be opened at all: the reason is the device's own.
            yield "camera lost", source, f"device {device.name}: no picture from its camera ({source}): {state}"
        for kind in CAMERA_STATES:
            if state == kind:
                yield kind, source, f"device {device.name}: {_CAMERA_WORDS[kind]}, as heard at {since} ({source})"


def is_behind(device: api.Device) -> bool:
    """Say whether a device that is heard has much that it cannot get rid of, or tells of windows long past."""
    if "behind" not in device.states or "silent" in device.states:
        return False
    until_ns = device.heard_ns if device.complete_until_ns is None else device.complete_until_ns
    lag_ns = (device.heard_ns or 0) - (until_ns or 0)
    return device.backlog > fleet.BACKLOG_BEHIND or lag_ns >= BACKLOG_LAG_S * NS_PER_S


def is_clock_off(device: api.Device) -> bool:
    """Say whether a device's clock is surely off by more than half a base window."""
    ahead_s, error_s = device.clock_ahead_s, device.clock_error_s
    return ahead_s is not None and abs(ahead_s) - (error_s or 0.0) > CLOCK_OFF_S


def clock_text(device: api.Device) -> str:
    """Say how a device's clock is; '' where nobody knows."""
    if device.clock_ahead_s is None:
        return ""
    if not is_clock_off(device):
        return "its clock is right" if abs(device.clock_ahead_s) <= CLOCK_OFF_S else "its clock may be right"
    way = "ahead" if device.clock_ahead_s > 0 else "behind"
    return f"its clock is {seconds_text(abs(device.clock_ahead_s))} {way}"


def backlog_text(device: api.Device) -> str:
    """Say how much waits on a device that cannot get rid of it, and up to when its windows are here."""
    until = "" if device.complete_until_ns is None else f"; its windows are here up to {iso(device.complete_until_ns)}"
    return f"{device.backlog} records wait on it{until}"


WITHDRAWN = "withdrawn: late data changed the answer"
_BACKLOG_ADVICE = (
    "nothing is lost while it has room. See whether its link carries what it counts, and whether its machine keeps up "
    "with its camera: driftline doctor says it on the device"
)
_DROPPED_WORDS = (
    "it had no room and dropped windows that it had counted; nobody will know what was in them. Give it a larger disk "
    "or a better link: driftline doctor says on the device what is full"
)
_CONFLICT_WORDS = (
    "two machines use its identity, or its disk was restored from a copy; nothing is lost. If they are two, remove the "
    "device here, and let each join anew under a name of its own: driftline edge join TOKEN --anew"
)
_CLOCK_ADVICE = (
    "what it counts is put where it belongs, as long as it reaches this hub before it loses power; let it reach a time "
    "server (timedatectl set-ntp true), or set its clock (date -s)"
)
_CAMERA_WORDS: dict[CameraState, str] = {
    "camera lost": "no picture from its camera",
    "feed frozen": "its camera shows the same picture all the time",
}
