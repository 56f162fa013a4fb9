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
from dataclasses import dataclass, replace
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
from driftline.hub.store.assays import Alerts, Answer, Stored, Strip
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


@dataclass(frozen=True)
class Told:
    """The new or changed answers of one window of a standing assay on one device; at least one."""

    spec: api.AssaySpec
    answers: Sequence[Stored]

    @property
    def place(self) -> tuple[str, str]:
        """Assay and device."""
        return str(self.first.assay_id), self.first.device

    @property
    def first(self) -> api.Analysis:
        """The answer of any of the fields."""
        return self.answers[0].answer.analysis

    @property
    def news(self) -> list[api.Analysis]:
        """The alerts that were none before."""
        return [one.answer.analysis for one in self.answers if _is_news(one)]


@dataclass(frozen=True)
class _Alarm:
    """A field's alerts since the drift began, and how near to an alarm the first one was."""

    field: str
    alerts: Alerts
    level: float = 0.0


def follow(connection: Connection, windows: Sequence[Told], now_ns: int) -> None:
    """Open, extend or end what the new or changed answers of some windows belong to, each of another assay or device.

    What is stored of all of them is asked for together: a fleet drifts at once.
    """
    known = kept.drifting_in(connection, [one.place for one in windows])
    parts: list[tuple[Told, Part, int]] = []
    for one in windows:
        part, news = known.get(one.place), one.news
        if part is None and news:
            part = _drift(max(news, key=lambda found: found.start_ns))
        if part is not None:
            parts.append((one, part, min([part.opened_ns, *(found.start_ns for found in news)])))
    strips = [Strip(*one.place, field.field, since_ns) for one, _, since_ns in parts for field in one.spec.watched]
    alarms = _alarms(connection, {one.place: one.spec for one, _, _ in parts}, strips)
    several = [strip for strip in strips if len(alarms[strip[:2]]) > 1]
    counted, over = store.windows_alerted(connection, several), _over(connection, alarms, parts)
    texts = _texts(connection, alarms, parts)
    lasting: list[Part] = []
    for one, part, _ in parts:
        found = alarms[one.place]
        if not found:
            # Late data took back every alert it was opened for.
            withdrawn = replace(part, text=f"{part.text}; {WITHDRAWN}", resolved_ns=one.first.end_ns)
            causes.gather(connection, withdrawn, now_ns, settled=True)
            continue
        ends = [over.get((*one.place, alarm.field)) for alarm in found]
        changed = replace(
            part,
            field=found[0].field,
            opened_ns=found[0].alerts.first_ns,
            windows=counted.get(one.place, found[0].alerts.windows),
            text=texts[one.place],
            resolved_ns=None if None in ends else max(end for end in ends if end is not None),
        )
        if changed == part:
            continue
        if part.incident and changed.resolved_ns is None:
            lasting.append(changed)
        else:
            within_ns = life.reopens_within_ns(one.spec.windows.interval_s or one.spec.windows.width_s)
            causes.gather(connection, changed, now_ns, within_ns=within_ns)
    if lasting:
        causes.go_on(connection, lasting)


def may_be_news(answer: Answer) -> bool:
    """Say whether an answer could open an incident; see `follow`."""
    return answer.wakes and answer.analysis.status == "Alert"


def _is_news(stored: Stored) -> bool:
    """Say whether an answer is an Alert that was none before: one that is only answered again wakes nobody twice."""
    answer, before = stored.answer, stored.before
    alerts = may_be_news(answer)
    known = before is not None and before.status == "Alert" and before.version == answer.analysis.baseline_version
    return alerts and not known


def _alarms(
    connection: Connection, specs: Mapping[tuple[str, str], api.AssaySpec], strips: Sequence[Strip]
) -> dict[tuple[str, str], list[_Alarm]]:
    """Return the fields that alerted by assay and device, the one that spoke first before the others.

    Of several in one window that is the loudest, and of equals the one that is named first.
    """
    found: dict[tuple[str, str], list[_Alarm]] = {place: [] for place in specs}
    for (assay, device, field), alerts in store.alerts(connection, strips).items():
        found[assay, device].append(_Alarm(field, alerts))
    several = [(place, alarms) for place, alarms in found.items() if len(alarms) > 1]
    firsts = [Strip(*place, one.field, one.alerts.first_ns) for place, alarms in several for one in alarms]
    levels = {strip[:3]: level for strip, (level, _) in store.answers_at(connection, firsts).items()}
    for place, alarms in several:
        at = {one.field: number for number, one in enumerate(specs[place].watched)}
        louder = [replace(one, level=levels.get((*place, one.field)) or 0.0) for one in alarms]
        found[place] = sorted(louder, key=lambda one: (one.alerts.first_ns, -one.level, at[one.field]))
    return found


def _over(
    connection: Connection,
    alarms: Mapping[tuple[str, str], Sequence[_Alarm]],
    parts: Iterable[tuple[Told, Part, int]],
) -> dict[tuple[str, str, str], int]:
    """Return when each field was over its alarm, by assay, device and field; of others nothing."""
    promised: list[Strip] = []
    fixed: list[Strip] = []
    for one, _, _ in parts:
        for alarm in alarms[one.place]:
            if isinstance(one.spec.alarm, api.Promise):
                promised.append(Strip(*one.place, alarm.field, alarm.alerts.first_ns))
            else:
                fixed.append(Strip(*one.place, alarm.field, alarm.alerts.unsettled_ns + 1))
    calm = store.calm_after(connection, fixed)
    ended = {stream: end_ns for stream, (count, end_ns) in calm.items() if count >= OK_WINDOWS_TO_RESOLVE}
    return ended | store.over_since(connection, promised)


# ── the sentence ─────────────────────────────────────────────────────────────────────────────────────────────────


def _texts(
    connection: Connection,
    alarms: Mapping[tuple[str, str], Sequence[_Alarm]],
    parts: Iterable[tuple[Told, Part, int]],
) -> dict[tuple[str, str], str]:
    """Say of each assay and device which field spoke first and why, and which others did."""
    newest = {
        place: Strip(*place, found[0].field, found[0].alerts.newest_ns) for place, found in alarms.items() if found
    }
    answers = store.answers_at(connection, list(newest.values()))
    texts: dict[tuple[str, str], str] = {}
    for one, _, _ in parts:
        if one.place not in newest:
            continue
        first, *others = alarms[one.place]
        _, alert = answers[newest[one.place]]
        reason = evidence_text(one.spec, alert)
        text = drift_text(alert.device, first.field, first.alerts.first_ns, reason, first.alerts.windows) + why(alert)
        also = ", ".join(other.field for other in others)
        texts[one.place] = f"{text}; also {also}" if also else text
    return texts


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
        causes.gather(connection, replace(part, text=_unadvised(part), resolved_ns=now_ns), now_ns)
    causes.end_silences(connection, now_ns)


def _unadvised(part: Part) -> str:
    """Say what was wrong with a device without what to do about it: that is of no use any more."""
    at = part.text.find("; ", len(f"device {part.device}: ")) if part.kind in _ADVISED else -1
    return part.text if at < 0 else part.text[:at]


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
_ADVISED = frozenset({"silent", "identity conflict", "backlog", "dropped", "clock"})
_CAMERA_WORDS: dict[CameraState, str] = {
    "camera lost": "no picture from its camera",
    "feed frozen": "its camera shows the same picture all the time",
}
