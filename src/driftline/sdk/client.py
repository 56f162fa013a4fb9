"""`Client`, where a notebook or script begins: it finds the hub, keeps the current workspace, hands out the rest."""

import os
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import pandas as pd

from driftline.clock import iso
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, PermanentError
from driftline.pipeline.detector import DetectorConfig
from driftline.sdk import assay as assays
from driftline.sdk import baseline, incident, login, pipeline, upload
from driftline.sdk.alarm import Fixed, Promise
from driftline.sdk.analysis import AssayAnalysisList
from driftline.sdk.assay import Assay
from driftline.sdk.assay_builder import AssayBuilder
from driftline.sdk.edge import Publish
from driftline.sdk.html import card
from driftline.sdk.incident import Incident
from driftline.sdk.listing import Listing
from driftline.sdk.me import myself
from driftline.sdk.model import Model
from driftline.sdk.notifications import Notifications
from driftline.sdk.pipeline import Pipeline
from driftline.sdk.times import Moment, to_ns
from driftline.sdk.workspace import Workspace
from driftline.wire import api


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)
API_VERSION = 1
# Where models go as long as nobody has said where.
_WORKSPACE = "default"


class Client:
    """Talks to one hub.

    The address is the argument, `DRIFTLINE_URL`, what `driftline login` remembered, or http://127.0.0.1:8710;
    `fingerprint` is the SHA-256 of the certificate that an https hub shows. A hub that knows people by their logins is
    asked in the name of who confirms it in a browser, once, or with the API token in `DRIFTLINE_TOKEN`.

    Raises:
        UnreachableError: no hub answers there; the message says how to start one.
        PermanentError: it speaks another version of the API.
    """

    def __init__(self, url: str | None = None, *, fingerprint: str | None = None) -> None:
        address = login.find(url, fingerprint)
        self._connection = login.connect(address)
        self.version = self._connection.get("/version", api.Version)
        if self.version.api != API_VERSION:
            raise PermanentError(
                f"the hub at {address.url} is driftline {self.version.driftline} and speaks API {self.version.api}, "
                f"this client {API_VERSION}; install the same here: pip install driftline=={self.version.driftline}"
            )
        self._current: Workspace | None = None

    @property
    def url(self) -> str:
        """The hub's address; the dashboard is there."""
        return self._connection.url

    # ── workspaces ───────────────────────────────────────────────────────────────────────────────────────────────

    def list_workspaces(self) -> list[Workspace]:
        """List the workspaces, oldest first."""
        found = self._connection.items("/workspaces", api.Workspace)
        return Listing(
            [Workspace(self._connection, facts) for facts in found],
            ("Name", "Created"),
            lambda one: (one.name, one.created.isoformat(timespec="seconds")),
        )

    def get_workspace(self, name: str, create_if_not_exist: bool = False) -> Workspace:
        """Return the workspace of this name.

        Raises:
            EntityNotFoundError: there is none, and `create_if_not_exist` is false.
        """
        if create_if_not_exist:
            return self.get_or_create_workspace(name)
        return _named(self.list_workspaces(), name, "workspace", "create it with create_workspace(name)")

    def create_workspace(self, name: str) -> Workspace:
        """Make a workspace.

        Raises:
            ConflictError: the name is taken.
        """
        return Workspace(
            self._connection, self._connection.post("/workspaces", api.NewWorkspace(name=name), api.Workspace)
        )

    def get_or_create_workspace(self, name: str) -> Workspace:
        """Return the workspace of this name, made if need be."""
        for workspace in self.list_workspaces():
            if workspace.name == name:
                return workspace
        try:
            return self.create_workspace(name)
        except ConflictError:  # somebody else was quicker
            return self.get_workspace(name)

    def set_current_workspace(self, workspace: Workspace) -> Workspace:
        """Let everything that follows be about this workspace; returns it."""
        if not isinstance(workspace, Workspace):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(
                f"set_current_workspace() takes a workspace, not {workspace!r:.60}; "
                "get_or_create_workspace(name) gives one"
            )
        self._current = workspace
        return workspace

    def get_current_workspace(self) -> Workspace:
        """Return the workspace that calls are about: the one set, else one named default."""
        if self._current is None:
            self._current = self.get_or_create_workspace(_WORKSPACE)
        return self._current

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────

    def upload_model(
        self,
        name: str,
        path: str | os.PathLike[str],
        framework: object = None,
        input_schema: object = None,
        output_schema: object = None,
        *,
        detector: DetectorConfig | dict[str, Any] | None = None,
        timeout_s: float = 600.0,
    ) -> Model:
        """Upload a model version and wait, printing progress, until the hub has loaded and dry-run it.

        `framework` is `Framework.ONNX` (a file) or `Framework.CUSTOM` (a folder or zip with a model.py); schemas are
        Arrow schemas of one inference. `detector` says how an object detector wants its picture.

        Raises:
            InvalidInputError: a path, framework or schema that cannot be used, or a model that cannot run.
        """
        workspace = str(self.get_current_workspace().id)
        model = upload.upload(self._connection, workspace, name, path, framework, input_schema, output_schema, detector)
        return model.wait_until_ready(timeout_s)

    def list_models(self) -> list[Model]:
        """List the model versions of the current workspace, newest first."""
        return Listing(
            self.get_current_workspace().models(),
            ("Name", "Version", "Framework", "Status", "Created"),
            lambda one: (one.name, one.version, one.framework, one.status, one.created.isoformat(timespec="seconds")),
        )

    def get_model(self, name: str) -> Model:
        """Return the newest version of a model of the current workspace.

        Raises:
            EntityNotFoundError: there is no model of this name.
        """
        return _named(self.list_models(), name, "model", "upload it with upload_model(…)")

    # ── pipelines and devices ────────────────────────────────────────────────────────────────────────────────────

    def build_pipeline(self, name: str) -> Pipeline:
        """Begin a pipeline, or a new version of the one of this name, in the current workspace.

        Nothing is sent before it is deployed, published, or looked at.
        """
        workspace = self.get_current_workspace()
        found = next((one for one in workspace.pipelines() if one.name == name), None)
        return found or Pipeline(self._connection, str(workspace.id), name)

    def list_pipelines(self) -> list[Pipeline]:
        """List the pipelines of the current workspace, newest created first."""
        return pipeline.listing(self.get_current_workspace().pipelines())

    def get_pipeline(self, name: str) -> Pipeline:
        """Return a pipeline of the current workspace.

        Raises:
            EntityNotFoundError: there is none of this name.
        """
        return _named(self.list_pipelines(), name, "pipeline", "begin it with build_pipeline(name)")

    def list_publishes(self) -> list[Publish]:
        """List what was published in the current workspace, newest first."""
        found = [publish for one in self.get_current_workspace().pipelines() for publish in one.publishes()]
        return Listing(
            sorted(found, key=lambda one: one.created, reverse=True),
            ("Pipeline", "Version", "Created"),
            lambda one: (one.pipeline_name, one.version, one.created.isoformat(timespec="seconds")),
        )

    def list_devices(self) -> list[api.Device]:
        """List the devices of the hub by name: their states, what they run, and up to when they were heard."""
        return Listing(
            self._connection.items("/devices", api.Device),
            ("Device", "Site", "States", "Heard", "Pipelines"),
            lambda one: (
                one.name,
                one.site or "",
                ", ".join(one.states),
                _time(one.heard_ns),
                ", ".join(f"{name}: {state}" for name, state in one.pipelines.items()),
            ),
        )

    def set_link(self, name: str, *, rows_kb_a_day: int | None = None, newest_first: bool = False) -> api.Device:
        """Say how the device `name` is to use its link; it hears of it with its next sync.

        `rows_kb_a_day` is how many kilobytes a day rows may take: None means as many as there are, 0 none. Windows and
        events always go. With `newest_first` the newest records go first after an outage.

        Raises:
            EntityNotFoundError: there is no device of this name.
        """
        wish = api.Link(rows_kb_a_day=rows_kb_a_day, newest_first=newest_first)
        return self._connection.put(f"/devices/{quote(name, safe='')}/link", wish, api.Device)

    def set_site(self, name: str, site: str | None) -> api.Device:
        """Say where the device `name` is; None takes it away. What happens at one site is one incident.

        Raises:
            EntityNotFoundError: there is no device of this name.
        """
        return self._connection.put(f"/devices/{quote(name, safe='')}/site", api.Site(site=site), api.Device)

    def set_site_hours(
        self, site: str, opening_hours: str | None = None, *, time_zone: str | None = None
    ) -> api.SiteHours:
        """Say when a site is open, for every assay of the current workspace that does not say it itself.

        Hours are such as 'Mon-Sat 07:00-20:00', of the site's clock: 'Europe/Zurich', or UTC. They hold for windows
        that have not ended yet; a time zone alone is always open, and neither takes away what was said.

        Raises:
            InvalidInputError: no such hours or time zone, or an assay would have no promise left at this site;
                everything is then as it was.
        """
        asked = api.NewSiteHours(time_zone=time_zone, opening_hours=opening_hours, by=myself())
        return self._connection.put(f"{self._sites()}/{quote(site, safe='')}", asked, api.SiteHours)

    def list_sites(self) -> list[api.SiteHours]:
        """List the sites of which the current workspace says when they are open, by name."""
        return Listing(
            self._connection.items(self._sites(), api.SiteHours),
            ("Site", "Time zone", "Open", "Since", "By"),
            lambda one: (
                one.site,
                one.time_zone or "UTC",
                one.opening_hours or "always",
                _time(one.from_ns),
                one.actor,
            ),
        )

    def _sites(self) -> str:
        return f"/workspaces/{quote(str(self.get_current_workspace().id))}/sites"

    def get_device(self, name: str) -> api.Device:
        """Return one device.

        Raises:
            EntityNotFoundError: there is none of this name.
        """
        return self._connection.get(f"/devices/{quote(name, safe='')}", api.Device)

    def remove_device(self, name: str) -> None:
        """Remove a device: its key is worth nothing from now on; what it sent stays."""
        self._connection.send("DELETE", f"/devices/{quote(name, safe='')}")

    # ── assays and incidents ─────────────────────────────────────────────────────────────────────────────────────

    def build_assay(
        self,
        assay_name: str,
        pipeline: Pipeline | str,
        step_name: object = None,
        iopath: str | Iterable[str] | None = None,
        baseline_data: object = None,
        *,
        model_name: object = None,
        baseline_start: Moment | None = None,
        baseline_end: Moment | None = None,
        baseline_device: str | None = None,
        baseline_season: str | None = None,
        alarm: Fixed | Promise | None = None,
    ) -> AssayBuilder:
        """Begin an assay: is the field at `iopath` still as it was in the baseline? A list watches several fields.

        `step_name` and `model_name` mean the same. The baseline is `baseline_data`, the path of a CSV or Parquet file,
        an array, list, Series, DataFrame, dict or Arrow table (for several fields, with a column each; for a whole
        list, 'output embedding', an array of shape [n, size], which its first assay needs); or what each device saw
        from `baseline_start` to `baseline_end`, or `baseline_device` for all. `baseline_season` "day" or "week"
        compares windows with those of their hour, or hour and weekday, and needs a promise. `alarm` is
        `driftline.Promise("30 days")` or `driftline.Fixed(0.25)`, which is the default.

        Raises:
            InvalidInputError: no such field or step, not exactly one baseline, or no alarm.
            EntityNotFoundError: no such pipeline.
        """
        step = step_name if step_name is not None else model_name
        return AssayBuilder(
            self._connection,
            str(self.get_current_workspace().id),
            assay_name,
            self.get_pipeline(pipeline) if isinstance(pipeline, str) else pipeline,
            # A model stands for its own step.
            None if step is None else str(getattr(step, "name", step)),
            iopath,
            baseline_data,
            baseline.in_time(baseline_data, baseline_start, baseline_end, baseline_device, baseline_season),
            alarm,
        )

    def list_assays(self) -> list[Assay]:
        """List the standing assays of the current workspace, newest first."""
        path = f"/workspaces/{quote(str(self.get_current_workspace().id))}/assays"
        return assays.listing(Assay(self._connection, facts) for facts in self._connection.items(path, api.Assay))

    def get_assay(self, assay_id: str) -> Assay:
        """Return one standing assay.

        Raises:
            EntityNotFoundError: there is none of this id.
        """
        return Assay.find(self._connection, assay_id)

    def get_assay_info(self, assay_id: "str | Assay") -> pd.DataFrame:
        """Return what a standing assay is as a row: name, active, thresholds, pipeline, iopath, windows.

        Raises:
            EntityNotFoundError: there is none of this id.
        """
        return self._assay(assay_id).info()

    def get_assay_results(
        self,
        assay_id: "str | Assay",
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        device: str | None = None,
        field: str | None = None,
    ) -> AssayAnalysisList:
        """Return what a standing assay's scheduled runs found, for windows that begin in [start, end).

        `device` and `field` (a key, such as `out.avg_confidence`) choose one.

        Raises:
            EntityNotFoundError: there is no such assay.
        """
        return self._assay(assay_id).results(start, end, device, field)

    def _assay(self, given: "str | Assay") -> Assay:
        return given if isinstance(given, Assay) else self.get_assay(given)

    def set_assay_active(self, assay_id: "str | Assay", active: bool) -> Assay:
        """Start or stop an assay's scheduled runs; `assay.turn_on()` and `assay.turn_off()` do, too."""
        return self._assay(assay_id).set_active(active=active)

    def remove_assay(self, assay_id: "str | Assay") -> None:
        """Remove a standing assay with its answers and baselines; its incidents are resolved and stay.

        Raises:
            EntityNotFoundError: there is no such assay.
        """
        self._assay(assay_id).remove()

    def plan_maintenance(
        self,
        start: Moment,
        end: Moment,
        reason: str = "",
        *,
        site: str | None = None,
        device: str | None = None,
        assay: "str | Assay | None" = None,
    ) -> api.Maintenance:
        """Let what is seen from `start` to `end` wake nobody: at a site, on a device, for an assay, or what they share.

        Windows that overlap it are answered and marked; incidents that are open stay.

        Raises:
            InvalidInputError: it is about nothing, ends before it begins, or lasts longer than 90 days.
            EntityNotFoundError: the current workspace has no such assay, or runs nothing on such a device.
        """
        asked = api.NewMaintenance(
            from_ns=to_ns(start, "start"),
            until_ns=to_ns(end, "end"),
            reason=reason,
            site=site,
            device=device,
            assay=None if assay is None else str(getattr(assay, "id", assay)),
            by=myself(),
        )
        return self._connection.post(self._maintenance(), asked, api.Maintenance)

    def list_maintenance(self) -> list[api.Maintenance]:
        """List the maintenance of the current workspace, past and to come, the latest first."""
        return Listing(
            self._connection.items(self._maintenance(), api.Maintenance),
            ("From", "Until", "Site", "Device", "Assay", "Reason", "Planned by"),
            lambda one: (
                iso(one.from_ns),
                iso(one.until_ns),
                one.site or "",
                one.device or "",
                one.assay or "",
                one.reason,
                one.actor,
            ),
        )

    def end_maintenance(self, maintenance: "str | api.Maintenance") -> None:
        """End a maintenance now, or call off one that has not begun.

        Raises:
            EntityNotFoundError: the current workspace has none of this id.
        """
        identity = str(getattr(maintenance, "id", maintenance))
        self._connection.send("DELETE", f"{self._maintenance()}/{quote(identity, safe='')}")

    def _maintenance(self) -> str:
        return f"/workspaces/{quote(str(self.get_current_workspace().id))}/maintenance"

    def list_incidents(self, *, is_open: bool | None = None, device: str | None = None) -> list[Incident]:
        """List incidents, open ones first, then newest first; all of them, or only open or resolved ones."""
        wanted = None if is_open is None else str(is_open).lower()
        found = self._connection.items("/incidents", api.Incident, open=wanted, device=device)
        return incident.listing(Incident(self._connection, facts) for facts in found)

    def get_incident(self, incident_id: str) -> Incident:
        """Return one incident.

        Raises:
            EntityNotFoundError: there is none of this id.
        """
        facts = self._connection.get(f"/incidents/{quote(str(incident_id), safe='')}", api.Incident)
        return Incident(self._connection, facts)

    def resolve_incident(self, incident: Incident | str) -> Incident:
        """Close an incident by hand; if its cause comes back soon it is opened again, else the next Alert does."""
        return (self.get_incident(incident) if isinstance(incident, str) else incident).resolve()

    @property
    def notifications(self) -> Notifications:
        """Who is told of incidents, and what was sent."""
        return Notifications(self._connection)

    def __repr__(self) -> str:
        return f"<driftline client of {self.url}>"

    def _repr_html_(self) -> str:
        return card({"Hub": self.url, "Version": self.version.driftline, "Time": self.version.banner or "real"})


def _named(found: Iterable[T], name: str, what: str, way_out: str) -> T:
    listed = list(found)
    for one in listed:
        if one.name == name:
            return one
    there = ", ".join(sorted({one.name for one in listed})) or "none"
    raise EntityNotFoundError(f"there is no {what} {name!r} (there are: {there}); {way_out}")


def _time(time_ns: int | None) -> str | None:
    return None if time_ns is None else iso(time_ns)
