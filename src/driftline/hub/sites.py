"""Sites: where a device is, and when a site is open. A device without one is a site of its own.

What happens at one site is one incident. Its time zone and opening hours are those of every assay of the workspace that
says none itself (`calendars.py`). They hold from now on, as the site of a device does: windows that have not ended yet
are in them, windows that have ended keep what they had. Where a promise rests on a baseline in time that a device of
the site saw, that baseline gets a new version, calibrated anew on its windows in the new hours; the evidence of whom it
serves begins again, and what they give to open drift incidents is over. Baselines of values know no hours and go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, update

from driftline.assay.promise import opening_hours
from driftline.errors import ConflictError, InvalidInputError
from driftline.hub import causes, fleet, registry
from driftline.hub.alter import Carried, carried_of, question_of, renumbered
from driftline.hub.assays import devices_of, no_promise, plan_of_kept
from driftline.hub.calendars import Calendars
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.limits import check_words
from driftline.hub.policy import EDITOR, VIEWER
from driftline.hub.question import calibrate
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store import sites
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Place
from driftline.hub.store.fleet import devices
from driftline.hub.store.sites import Sites
from driftline.wire import api

routes = Routes()


@routes.put("/devices/{name}/site", policy=EDITOR, body=api.Site, raises=(ConflictError,))
def put_site(call: Call[api.Site]) -> api.Device:
    """Say where a device is; incidents that are open stay what they are."""
    return place(call.hub, call.path["name"], call.body.site, call.who.visible)


@routes.get("/workspaces/{workspace}/sites", policy=VIEWER)
def list_sites(call: Call[None]) -> list[api.SiteHours]:
    """List the sites of which a workspace says when they are open, by name."""
    with call.hub.database.reading() as connection:
        workspace = registry.need_workspace(connection, call.path["workspace"])
        return sites.said_now(connection, workspace.id, call.hub.now_ns())


@routes.put("/workspaces/{workspace}/sites/{site}", policy=EDITOR, body=api.NewSiteHours, raises=(ConflictError,))
def put_site_hours(call: Call[api.NewSiteHours]) -> api.SiteHours:
    """Say when a site is open, for windows that have not ended yet, in every assay that does not say it itself."""
    return say(call.hub, call.path["workspace"], call.path["site"], call.body, call.who.called(call.body.by))


# ── where a device is ────────────────────────────────────────────────────────────────────────────────────────────


def place(hub: Hub, name: str, site: str | None, visible: fleet.Visible = None) -> api.Device:
    """Let a device be at a site; None or '' takes it from where it was.

    It is where it is: a baseline that carries no promise in the hours of the new site does not keep it from going
    there, and its answers say so.

    Raises:
        EntityNotFoundError: there is no device of this name.
        InvalidInputError: a name that cannot be one.
        ConflictError: an assay that it matters to was changed meanwhile.
    """
    known = registry.check_name("site", site.strip()) if site and site.strip() else None
    why = f"device {name} is at {'no site' if known is None else f'site {known}'} now"

    def anew(before: Sites, now_ns: int) -> list[_Anew]:
        return _every_anew(hub, None, before, before.after_move(name, known, now_ns), now_ns, why)

    def write(connection: Connection, at_ns: int) -> None:
        row = fleet.need_device(connection, name)
        if row.site != known:
            sites.move(connection, row.id, known, at_ns)
        connection.execute(update(devices).where(devices.c.id == row.id).values(site=known))

    _keep(hub, anew, write)
    return fleet.device(hub, name, visible)


# ── when a site is open ──────────────────────────────────────────────────────────────────────────────────────────


def say(hub: Hub, workspace: str, site: str, new: api.NewSiteHours, actor: str) -> api.SiteHours:
    """Say when a site is open; what is said already changes nothing.

    Raises:
        InvalidInputError: a name, hours or a time zone that cannot be, or hours in which none of an assay's baselines
            of this site carries its promise; everything is then as it was.
        EntityNotFoundError: there is no such workspace.
        ConflictError: an assay that it matters to was changed meanwhile.
    """
    check_words(actor, new.opening_hours or "")
    name = registry.check_name("site", site)
    hours, zone = (new.opening_hours or "").strip() or None, (new.time_zone or "").strip() or None
    zone = zone or (None if hours is None else "UTC")
    opening_hours(api.Calendar(time_zone=zone, opening_hours=hours))
    with hub.database.reading() as connection:
        registry.need_workspace(connection, workspace)
        known = sites.said_now(connection, workspace, hub.now_ns())
    there = next((one for one in known if one.site == name), None)
    said = api.SiteHours(site=name, time_zone=zone, opening_hours=hours, from_ns=hub.now_ns(), actor=actor)
    if (zone, hours) == ((None, None) if there is None else (there.time_zone, there.opening_hours)):
        return there or said

    def anew(before: Sites, now_ns: int) -> list[_Anew]:
        after = before.after_change(workspace, msgspec.structs.replace(said, from_ns=now_ns))
        found = _every_anew(hub, workspace, before, after, now_ns, f"site {name} {_in_words(zone, hours)}")
        for one in found:
            one.check()
        return found

    def write(connection: Connection, at_ns: int) -> None:
        said.from_ns = at_ns
        sites.say(connection, workspace, said)

    _keep(hub, anew, write)
    return said


def _in_words(zone: str | None, hours: str | None) -> str:
    return "has no hours of its own any more" if zone is None else f"is open {hours or 'always'} ({zone}) now"


# ── what rests on it ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Anew:
    """Baselines of an assay calibrated in other hours, version by version, and why."""

    kept: store.Kept
    carried: Sequence[Carried]
    found: Sequence[Mapping[Place, Calibrating]]
    why: str

    @property
    def refusals(self) -> dict[Place, str]:
        """Which of them carry no promise, and why."""
        return {place: one.refused for every in self.found for place, one in every.items() if one.refused is not None}

    @property
    def notes(self) -> list[str]:
        """What is to be said of the assay; what was said of a promise that these have again is not."""
        said_before = tuple(no_promise({place: "" for every in self.found for place in every}))
        others = [note for note in self.kept.assay.notes if not note.startswith(said_before)]
        return [*others, *no_promise(self.refusals)]

    def check(self) -> None:
        """Refuse hours in which none of them carries the promise.

        Raises:
            InvalidInputError: the message says how many windows one needs.
        """
        if len(self.refusals) == sum(map(len, self.found)):
            refused = next(iter(self.refusals.values()))
            raise InvalidInputError(f"assay {self.kept.assay.spec.name!r} would promise nothing there: {refused}")


def _every_anew(hub: Hub, workspace: str | None, before: Sites, after: Sites, now_ns: int, why: str) -> list[_Anew]:
    """Calibrate whatever rests on hours that are others now, in the assays of a workspace or of all."""
    with hub.database.reading() as connection:
        standing = store.every(connection, workspace=workspace)
    found = [_anew(hub, one, before, after, now_ns, why) for one in standing]
    return [one for one in found if one is not None]


def _anew(hub: Hub, kept: store.Kept, before: Sites, after: Sites, now_ns: int, why: str) -> _Anew | None:
    """Calibrate what rests on the hours of devices that have others now; None where nothing does."""
    spec, workspace = kept.assay.spec, kept.assay.workspace
    if not isinstance(spec.alarm, api.Promise):
        return None
    was, present = (Calendars(spec.calendar, workspace, one, now_ns) for one in (before, after))
    changed = {device for device in after.placed if was.of(device) != present.of(device)}
    if not changed:
        return None
    with hub.database.reading() as connection:
        found = carried_of(connection, kept.assay.id, changed)
    carried = renumbered(found, kept.assay.baseline_version + 1)
    if not carried:
        return None
    calibrated = [
        calibrate(hub, question_of(hub, kept, spec, one, present), None, now_ns, one.told.version).found
        for one in carried
    ]
    return _Anew(kept, carried, calibrated, why)


def _keep(hub: Hub, anew: Callable[[Sites, int], Sequence[_Anew]], write: Callable[[Connection, int], None]) -> None:
    """Keep what is said of a site or a device, in one transaction with everything that follows from it."""
    is_kept = False
    while not is_kept:
        with hub.database.reading() as connection:
            before = sites.every(connection)
        renewed = anew(before, hub.now_ns())
        with hub.database.writing() as connection:
            # Whoever says something of a site meanwhile may make another set of assays matter.
            if sites.stamp(connection) == before.stamp:
                _write(connection, hub, renewed, write)
                is_kept = True
    hub.wake.set()
    hub.outbox.set()


def _write(
    connection: Connection, hub: Hub, renewed: Sequence[_Anew], write: Callable[[Connection, int], None]
) -> None:
    numbers = store.baseline_versions(connection, {one.kept.assay.id for one in renewed})
    for one in renewed:
        assay = one.kept.assay
        if numbers.get(assay.id) != assay.baseline_version:
            raise ConflictError(f"assay {assay.spec.name!r} was changed meanwhile; try again")
    now_ns = hub.now_ns()
    write(connection, now_ns)
    for one in renewed:
        _renew(connection, hub, one, now_ns)


def _renew(connection: Connection, hub: Hub, one: _Anew, now_ns: int) -> None:
    """Compare the windows that have not ended yet with the baselines as they were calibrated anew."""
    assay, plan = one.kept.assay, plan_of_kept(one.kept)
    from_ns = 0 if plan is None else plan.open_at(now_ns)
    facts = {"from_ns": from_ns, "created_ns": now_ns, "notes": [one.why, *no_promise(one.refusals)]}
    made = renumbered(one.carried, one.carried[0].told.version, **facts)
    for own, found in zip(made, one.found, strict=True):
        versions.add_version(connection, assay.id, own.told, own.materials)
        for where, calibrating in found.items():
            versions.put_calibration(connection, assay.id, own.told.version, where, calibrating)
    store.set_baseline(connection, assay.id, assay.spec, made[-1].told.version, one.notes)
    renewed = {where.device for own in made for where in own.materials}
    for device in devices_of(hub, one.kept) if EVERY_DEVICE in renewed else sorted(renewed):
        # A window may have ended, and been answered, while this was worked out.
        store.rewind(connection, assay.id, from_ns, device)
        causes.end_drift(connection, assay.id, device, one.why, now_ns)
