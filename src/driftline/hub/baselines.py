"""New baselines for a standing assay: from a range of time, from values, or from an incident that became usual.

A new version is frozen as at save. It is valid for windows that begin where it ends or later; those that were answered
already are answered again, their evidence begins anew, and the open drift incidents of its devices are over. A range of
time or values renew every device; an incident renews its own device alone, for the others did not change, and would
trade a long baseline for a short one. Who gave nothing in the range, or too little for the promise, keeps what it had.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from driftline.assay.window import BASE_WINDOW_NS
from driftline.clock import iso
from driftline.errors import ConflictError, InvalidInputError
from driftline.hub import causes
from driftline.hub.assays import NOT_CALIBRATED_YET, baselines_of, count_where_cut, devices_of, plan_of_kept
from driftline.hub.calendars import check_still
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.question import Calibrated, Question, calibrate, fixed_notes, question
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store import editions
from driftline.hub.store import incidents as incident_store
from driftline.hub.store.baselines import EVERY_DEVICE, Place
from driftline.hub.store.incidents import Part
from driftline.wire import api

routes = Routes()


@routes.get("/assays/{assay}/baselines", policy=VIEWER)
def list_baselines(call: Call[None]) -> list[api.BaselineStats]:
    """List the frozen baselines of a standing assay in their newest version: one a field, or one a device and field."""
    with call.hub.database.reading() as connection:
        kept = store.one(connection, call.path["assay"])
    return baselines_of(call.hub, kept)


@routes.get("/assays/{assay}/baselines/versions", policy=VIEWER)
def list_versions(call: Call[None]) -> list[api.BaselineVersion]:
    """List the baselines that a standing assay has had, the first one first."""
    with call.hub.database.reading() as connection:
        kept = store.one(connection, call.path["assay"])
        first, *later = versions.versions(connection, kept.assay.id)
        edited = editions.every(connection, kept.assay.id).get(kept.assay.id)
    # It is valid whenever a window begins; that is no time to read.
    start_ns = edited[0].start_ns if edited else kept.start_ns
    first.from_ns = kept.assay.created_ns if start_ns is None else start_ns
    return [first, *later]


@routes.post("/assays/{assay}/baselines", policy=EDITOR, body=api.NewBaseline)
def take_baseline(call: Call[api.NewBaseline]) -> api.Assay:
    """Compare with another baseline from now on."""
    return take(call.hub, call.path["assay"], call.body)


def take(hub: Hub, assay: str, new: api.NewBaseline) -> api.Assay:
    """Give a standing assay a new baseline.

    Raises:
        InvalidInputError: neither or both of baseline and incident, an incident that is not of this assay, no value in
            the range, or too few for the promise; everything is then as it was.
        EntityNotFoundError: no such assay or incident.
        ConflictError: it got another new baseline meanwhile.
    """
    with hub.database.reading() as connection:
        kept = store.one(connection, assay)
    spec, incident = kept.assay.spec, None
    whom = spec.devices
    if (new.baseline is None) == (new.incident is None):
        raise InvalidInputError("give either a baseline or the id of an incident, whose time becomes the baseline")
    if new.incident is not None:
        incident = _part(hub, kept, new.incident, new.device)
        baseline, whom = _range_of(hub, spec, incident), [incident.device]
    else:
        baseline = new.baseline or api.Baseline()
    renewed = msgspec.structs.replace(spec, baseline=baseline, devices=whom)
    asked = question(hub, kept.assay.workspace, renewed, renews=True)
    plan = plan_of_kept(kept)
    end_ns = hub.now_ns() if baseline.values is not None else baseline.end_ns or 0
    from_ns = end_ns if plan is None else plan.begin_from(end_ns)
    version = kept.assay.baseline_version + 1
    found = calibrate(hub, asked, plan, hub.now_ns(), version)
    asked, notes = _without_refused(asked, found, incident)
    told = api.BaselineVersion(
        version=version,
        from_ns=from_ns,
        created_ns=hub.now_ns(),
        baseline=asked.spec.baseline,
        notes=[*asked.notes, *notes, *fixed_notes(hub, asked, plan, hub.now_ns())],
    )
    # What the assay asks stays what it was where one of its devices alone is compared with something else.
    after = asked.spec if incident is None else spec
    said = told.notes if incident is None else [*_about_others(kept.assay.notes, incident.device), *told.notes]
    _keep(hub, kept, asked, told, found, spec=after, notes=said)
    count_where_cut(hub, asked.targets, spec, assay)
    hub.wake.set()
    with hub.database.reading() as connection:
        return store.one(connection, assay).assay


def _part(hub: Hub, kept: store.Kept, identity: str, device: str | None) -> Part:
    """Return what one device gave to an incident last: its own time is what becomes usual, and for it alone.

    Raises:
        InvalidInputError: the incident is not of this assay, or about several devices of which none was named.
    """
    with hub.database.reading() as connection:
        incident = incident_store.one(connection, identity)
        parts = incident_store.parts(connection, identity)
    if incident.assay_id != kept.assay.id:
        raise InvalidInputError(
            f"incident {identity!r} is not one of assay {kept.assay.spec.name!r}; give one that this assay opened"
        )
    whose = device or (incident.device if len(incident.devices) < 2 else None)
    if whose is None:
        raise InvalidInputError(
            f"this incident is about {', '.join(incident.devices)}; say whose time is to become the baseline, such as "
            f"device={incident.device!r}"
        )
    found = [part for part in parts if part.device == whose]
    if not found:
        raise InvalidInputError(f"this incident is about {', '.join(incident.devices)}, not about device {whose!r}")
    return found[-1]


def _range_of(hub: Hub, spec: api.AssaySpec, incident: Part) -> api.Baseline:
    """Return the time since an incident was opened, up to where its device was heard."""
    heard_ns = hub.telemetry.complete_until_ns(spec.pipeline, incident.device) or 0
    start_ns = incident.opened_ns - incident.opened_ns % BASE_WINDOW_NS
    end_ns = heard_ns - heard_ns % BASE_WINDOW_NS
    if end_ns <= start_ns:
        raise InvalidInputError(
            f"device {incident.device} was not heard since the incident was opened at {iso(incident.opened_ns)}; "
            "wait until it is, or give a range of time"
        )
    season = spec.baseline.season
    return api.Baseline(start_ns=start_ns, end_ns=end_ns, season=season)


def _without_refused(asked: Question, found: Calibrated, incident: Part | None) -> tuple[Question, list[str]]:
    """Leave out baselines that carry no promise, and say so.

    Raises:
        InvalidInputError: none does, or one of the device does that the new baseline is taken for.
    """
    refusals = found.refusals
    if found.level is not None and not found.found:
        return asked, [NOT_CALIBRATED_YET]
    meant = [why for place, why in refusals.items() if incident is not None and place.device == incident.device]
    if meant:
        raise InvalidInputError(f"{meant[0]}; or wait until more windows have come since the incident was opened")
    if refusals and len(refusals) == len(found.found):
        raise InvalidInputError(next(iter(refusals.values())))
    # Values that serve every device are refused device by device: the others are to be compared with them.
    left = {place for place in refusals if place in asked.materials}
    notes = [
        f"{place.field} of {_who(place)} {'keeps the baseline it had' if place in left else 'has no promise'}: {why}"
        for place, why in sorted(refusals.items())
    ]
    materials = {place: one for place, one in asked.materials.items() if place not in left}
    baselines = {place: one for place, one in asked.baselines.items() if place not in left}
    return replace(asked, materials=materials, baselines=baselines), notes


def _about_others(notes: Sequence[str], device: str) -> list[str]:
    """Return what was said of an assay and not of this device: that is said anew."""
    named = (f"device {device} ", f"device {device}:", f"device {device},")
    return [note for note in notes if not any(one in note for one in named)]


def _who(place: Place) -> str:
    return f"device {place.device}" if place.device else "every device"


def _keep(
    hub: Hub,
    kept: store.Kept,
    asked: Question,
    told: api.BaselineVersion,
    found: Calibrated,
    *,
    spec: api.AssaySpec,
    notes: Sequence[str],
) -> None:
    """Keep a new version in one transaction with everything that follows from it."""
    assay = kept.assay
    renewed = {place.device for place in asked.materials}
    everywhere = EVERY_DEVICE in renewed
    devices = devices_of(hub, kept) if everywhere else sorted(renewed)
    with hub.database.writing() as connection:
        if store.baseline_versions(connection, [assay.id]).get(assay.id) != assay.baseline_version:
            raise ConflictError(f"assay {assay.spec.name!r} got another new baseline meanwhile; look at it first")
        check_still(connection, hub, asked.calendars)
        versions.add_version(connection, assay.id, told, asked.materials)
        store.set_baseline(connection, assay.id, spec, told.version, notes)
        for place, one in found.found.items():
            if place in asked.materials or everywhere:
                versions.put_calibration(connection, assay.id, told.version, place, one)
        for device in devices:
            store.rewind(connection, assay.id, told.from_ns, device)
            why = f"new baseline (version {told.version})"
            causes.end_drift(connection, assay.id, device, why, hub.now_ns())
