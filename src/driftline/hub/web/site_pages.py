"""The page of sites: which devices are at each, and when it is open, by workspace."""

from collections import defaultdict

from sqlalchemy import select

from driftline.hub import sites
from driftline.hub.core import Hub
from driftline.hub.fleet import Visible
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR, MEMBER
from driftline.hub.store import sites as store
from driftline.hub.store.fleet import assignments, devices
from driftline.hub.store.registry import pipelines, workspaces
from driftline.hub.web.html import Content, Html, el, path
from driftline.hub.web.parts import by_field, empty, field, moment, page, section, table
from driftline.hub.web.routing import Fields, acts, pair
from driftline.hub.web.views import View
from driftline.wire import api


class Site(api.Struct):
    """A site as one workspace knows it: its devices that run something of the workspace; `hours` where it said any."""

    name: str
    devices: list[str]
    hours: api.SiteHours | None


class Place(api.Struct):
    """A workspace and its sites, by name."""

    workspace: str
    name: str
    sites: list[Site]


class Sites(View):
    """The workspaces that one may see."""

    workspaces: list[Place]


def every_site(hub: Hub, visible: Visible = None) -> Sites:
    """Return the sites of every workspace."""
    running = (
        select(pipelines.c.workspace, devices.c.site, devices.c.name)
        .join(assignments, assignments.c.pipeline == pipelines.c.id)
        .join(devices, devices.c.id == assignments.c.device)
        .where(devices.c.site.is_not(None), devices.c.removed_ns.is_(None))
        .distinct()
        .order_by(devices.c.name)
    )
    there: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with hub.database.reading() as connection:
        for workspace, site, name in connection.execute(running):
            there[workspace][site].append(name)
        found = [
            Place(workspace=one.id, name=one.name, sites=_sites(said, there[one.id]))
            for one in connection.execute(select(workspaces).order_by(workspaces.c.name, workspaces.c.id))
            if visible is None or one.id in visible
            for said in [store.said_now(connection, one.id, hub.now_ns())]
        ]
    return Sites(now_ns=hub.now_ns(), banner=hub.clock.banner, workspaces=found)


def _sites(said: list[api.SiteHours], there: dict[str, list[str]]) -> list[Site]:
    hours = {one.site: one for one in said}
    names = sorted({*hours, *there})
    return [Site(name=name, devices=there.get(name, []), hours=hours.get(name)) for name in names]


def all_sites(view: Sites) -> str:
    """Render the sites of every workspace."""
    words = (
        "What happens at one site is one incident, and outside its opening hours it wakes nobody. Where a device is, "
        "its own page says. Hours hold from now on, in every assay of the workspace that says none itself; promises "
        "are calibrated anew in them."
    )
    return page(
        view,
        "Sites",
        "/devices",
        "/sites.json",
        el("h1", "Sites"),
        el("p", words, class_="lead"),
        *(section(one.name, _table(one), _form(one)) for one in view.workspaces),
        None if view.workspaces else empty("There is no workspace yet."),
    )


def _table(one: Place) -> Content:
    if not one.sites:
        return empty("No device of this workspace is at a site.")
    rows: list[list[Content]] = [
        [
            site.name,
            el("span", ", ".join(site.devices) or "–", class_="wrap"),
            "as the assay says" if site.hours is None else site.hours.opening_hours or "always open",
            "–" if site.hours is None else site.hours.time_zone,
            "–" if site.hours is None else [moment(site.hours.from_ns), " by ", site.hours.actor],
        ]
        for site in one.sites
    ]
    return table(("site", "devices", "open", "time zone", "since"), rows)


def _form(one: Place) -> Html:
    return el(
        "form",
        field("site", "site", None, maxlength=100, required=True),
        field("is open", "opening_hours", None, placeholder="Mon-Sat 07:00-20:00", maxlength=200),
        field("time zone", "time_zone", None, placeholder="Europe/Berlin", maxlength=60),
        by_field(),
        el("button", "Save", type="submit"),
        el("span", "With neither hours nor zone, what was said of a site is taken away.", class_="soft"),
        method="post",
        action=path("workspaces", one.workspace, "hours"),
        class_="fields-form",
    )


def _say(call: Call[None], workspace: str, fields: Fields) -> str:
    new = api.NewSiteHours(
        time_zone=fields.get("time_zone"), opening_hours=fields.get("opening_hours"), by=fields.get("by") or None
    )
    sites.say(call.hub, workspace, fields.get("site", "").strip(), new, call.who.called(new.by))
    return "/sites"


def register(routes: Routes) -> None:
    """Register the page and its form."""
    pair(routes, "/sites", "/sites.json", every_site, all_sites, policy=MEMBER)
    acts(routes, "/workspaces/{workspace}/hours", _say, policy=EDITOR)
