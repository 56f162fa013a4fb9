"""Incidents: what an owner should know, in one sentence each, opened and resolved by rules that can be run twice.

*drift*: an Alert opens it, for one assay on one device; three Ok windows in a row after the last Alert resolve it.
Windows that say nothing (NoData, TooFew, Late) neither help nor hurt; a Warning is not Ok. *silent*: the device missed
its syncs (`fleet.is_silent`). *camera lost*, *feed frozen*: a camera's own state. A person may resolve an incident
earlier; the next Alert opens another.

Everything is worked out from what is stored, so that a hub may be killed anywhere and do it again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args
from uuid import uuid4

import msgspec
from sqlalchemy import Connection

from driftline.charts.bins import range_text
from driftline.clock import iso
from driftline.hub.store import assays as store
from driftline.hub.store.assays import Mark
from driftline.wire import api

Kind = Literal["drift", "silent", "camera lost", "feed frozen"]
CameraState = Literal["camera lost", "feed frozen"]
CAMERA_STATES: tuple[CameraState, ...] = get_args(CameraState)

OK_WINDOWS_TO_RESOLVE = 3


# ── drift ────────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(connection: Connection, analysis: api.Analysis) -> None:
    """Open, extend or resolve the drift incident that a new or changed answer belongs to."""
    assay, device = str(analysis.assay_id), analysis.device
    incident = store.open_incident(connection, "drift", device, assay=assay)
    if incident is None:
        if analysis.status != "Alert":
            return
        incident = _drift(analysis)
    since_ns = min(incident.opened_ns, analysis.start_ns) if analysis.status == "Alert" else incident.opened_ns
    alert = store.latest_alert(connection, assay, device)
    if alert is None or alert.start_ns < since_ns:
        # Late data took back every alert it was opened for.
        withdrawn = f"{incident.text}; withdrawn: late data changed the answer"
        store.put_incident(connection, msgspec.structs.replace(incident, text=withdrawn, resolved_ns=analysis.end_ns))
        return
    judged = store.marks(
        connection,
        assay,
        device,
        since_ns=since_ns,
        statuses=["Ok", "Warning", "Alert"],
        newest=OK_WINDOWS_TO_RESOLVE,
    )
    count = store.alerts_since(connection, assay, device, since_ns)
    changed = msgspec.structs.replace(
        incident,
        opened_ns=since_ns,
        windows=count,
        text=drift_text(device, analysis.field, since_ns, alert.score, analysis.alert_threshold, count) + why(alert),
        resolved_ns=resolved_ns(judged),
    )
    store.put_incident(connection, changed)


def resolved_ns(judged: Sequence[Mark]) -> int | None:
    """Return when the last windows that could be judged resolve an incident: the end of the third Ok in a row."""
    last = judged[-OK_WINDOWS_TO_RESOLVE:]
    over = len(last) == OK_WINDOWS_TO_RESOLVE and all(mark.status == "Ok" for mark in last)
    return last[-1].end_ns if over else None


def drift_text(device: str, field: str, since_ns: int, score: float | None, threshold: float, windows: int) -> str:
    """Say which device, which field, since when, and by how much.

    >>> drift_text("camera-3", "out.sharpness", 1_767_260_160_000_000_000, 7.06, 0.25, 4)
    'device camera-3: out.sharpness has drifted since 2026-01-01T09:36:00+00:00 (score 7.06, threshold 0.25; 4 windows)'
    """
    shown = "none" if score is None else f"{score:.3g}"
    counted = "1 window" if windows == 1 else f"{windows} windows"
    return (
        f"device {device}: {field} has drifted since {iso(since_ns)} "
        f"(score {shown}, threshold {threshold:g}; {counted})"
    )


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


def _drift(analysis: api.Analysis) -> api.Incident:
    return api.Incident(
        id=str(uuid4()),
        kind="drift",
        device=analysis.device,
        assay_id=analysis.assay_id,
        field=analysis.field,
        opened_ns=analysis.start_ns,
        resolved_ns=None,
        text="",
    )


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────


def watch(connection: Connection, devices: Iterable[api.Device], heard_of: Collection[str], now_ns: int) -> None:
    """Open and resolve the incidents of the devices' own states: silence, a lost camera, a frozen feed.

    `heard_of` names the devices that had the chance to be heard since this hub started: after its own absence a hub
    does not blame its devices for it.
    """
    known = {
        (incident.device, incident.kind, source): incident
        for incident, source in store.open_sources(connection, ("silent", *CAMERA_STATES))
    }
    by_name = {device.name: device for device in devices}
    for device in by_name.values():
        for kind, source, text in troubles(device):
            before = known.pop((device.name, kind, source), None)
            if before is None and (kind != "silent" or device.name in heard_of):
                store.put_incident(connection, _trouble(device, kind, text, now_ns), source=source or None)
    for (name, _, source), incident in known.items():
        if name in by_name and source and not _is_over(by_name[name].sources, source):
            continue
        over = msgspec.structs.replace(incident, resolved_ns=now_ns)
        store.put_incident(connection, over, source=source or None)


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
    for source, state in device.sources.items():
        if state.startswith("error"):
            # It cannot be opened at all: the reason is the device's own.
            yield "camera lost", source, f"device {device.name}: no picture from its camera ({source}): {state}"
        for kind in CAMERA_STATES:
            if state == kind:
                yield kind, source, f"device {device.name}: {_CAMERA_WORDS[kind]}, as heard at {since} ({source})"


def _trouble(device: api.Device, kind: Kind, text: str, now_ns: int) -> api.Incident:
    return api.Incident(
        id=str(uuid4()),
        kind=kind,
        device=device.name,
        assay_id=None,
        field=None,
        opened_ns=now_ns if device.heard_ns is None else device.heard_ns,
        resolved_ns=None,
        text=text,
        windows=0,
    )


_CAMERA_WORDS: dict[CameraState, str] = {
    "camera lost": "no picture from its camera",
    "feed frozen": "its camera shows the same picture all the time",
}
