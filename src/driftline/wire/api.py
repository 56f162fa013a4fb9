"""What people's programs and the hub say to each other over HTTP, as msgspec structs: JSON under `/api/v1`.

Times are nanoseconds since 1970 UTC in fields ending in `_ns`; durations end in `_s`. A list answers with
`{"items": […]}`, and where more follows with `next` (ask again with `after=` that); a failure with
`{"error": {"code", "message"}}`, whose code names a class of `driftline.errors`.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from driftline.errors import InvalidInputError, by_code

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

PREFIX = "/api/v1"
ARROW = "application/vnd.apache.arrow.stream"

Status = Literal["Ok", "Warning", "Alert", "NoData", "TooFew", "Late"]
Source = Literal["rows", "counts"]
Metric = Literal[
    "psi", "sumdiff", "maxdiff", "ks", "js", "hellinger", "wasserstein", "chi2",
    "mean_shift", "quantile_shift", "missing_rate", "tv", "new_categories",
]  # fmt: skip
BinMode = Literal["quantile", "equal", "provided"]
Aggregation = Literal["density", "cumulative"]
Compat = Literal["v1", "v2"]
Season = Literal["day", "week"]
EvidenceKind = Literal["rows", "windows"]
Role = Literal["viewer", "editor", "owner"]
Scope = Literal["viewer", "editor", "owner", "admin"]
ModelStatus = Literal["pending", "loading", "ready", "error"]
IncidentState = Literal["open", "acknowledged", "silenced", "resolved"]
Change = Literal["opened", "widened", "acknowledged", "silenced", "unsilenced", "resolved", "reopened"]
Severity = Literal["critical", "warning"]
DeliveryState = Literal["waiting", "delivered", "dead"]
SmtpSecurity = Literal["starttls", "tls", "none"]

# What a database and every language's integers hold.
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
# Nanoseconds since 1970: the year 2116 and no further, so that sums and differences stay within 64 bits.
Time = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
# A duration in s: three hundred years.
Seconds = Annotated[int, msgspec.Meta(ge=0, le=10**10)]


class Struct(msgspec.Struct, kw_only=True, omit_defaults=False, forbid_unknown_fields=False):
    """A message; unknown fields of a newer peer are passed over."""


class Failure(Struct, omit_defaults=True):
    """Why a request was refused; `last_request` stands with `stale_request`: a device goes above it.

    `request` is the request's id, by which the hub's log knows it.
    """

    code: str
    message: str
    last_request: int | None = None
    request: str | None = None


class ErrorReply(Struct):
    """The one error envelope."""

    error: Failure


class Paged(Struct):
    """Which part of a list is asked for: at most `limit`, after the one that ended with the cursor `after`."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    after: str | None = None


class Version(Struct):
    """Who answers: `GET /version`."""

    driftline: str
    api: int = 1
    now_ns: int = 0
    banner: str | None = None


class Retention(Struct):
    """How long one kind is kept: `summaries`, `rows` or `analyses`, for so many days, None for ever.

    `from_ns`: what is older was removed; None where nothing was yet. What an open incident needs is kept longer.
    """

    kind: str
    days: float | None
    from_ns: int | None = None


# ── workspaces, models, pipelines ────────────────────────────────────────────────────────────────────────────────


class NewWorkspace(Struct):
    """`POST /workspaces`."""

    name: str


class Workspace(Struct):
    """A place for models, pipelines and assays that belong together."""

    id: str
    name: str
    created_ns: int


class NewModel(Struct):
    """`POST /workspaces/{id}/models`; the file follows as `PUT /models/{id}/file` with the raw bytes.

    Schemas are lists of fields as `driftline.pipeline.schema.Field.document` writes them;
    `detector` is a document of `driftline.pipeline.detector.DetectorConfig`. `digest` is the file's SHA-256.
    A folder is sent as a zip.
    """

    name: str
    framework: str
    digest: str
    size: int
    input_schema: list[dict[str, Any]]
    output_schema: list[dict[str, Any]]
    detector: dict[str, Any] | None = None


class Model(Struct):
    """One model version; `status` goes pending → loading → ready, or error with `error` as the reason."""

    id: str
    workspace: str
    name: str
    version: str
    framework: str
    digest: str
    size: int
    status: ModelStatus
    error: str | None
    created_ns: int
    input_schema: list[dict[str, Any]]
    output_schema: list[dict[str, Any]]
    detector: dict[str, Any] | None = None


class Step(Struct):
    """One step of a pipeline."""

    model: str
    kind: Literal["model"] = "model"


class NewPipeline(Struct):
    """`POST /workspaces/{id}/pipelines`: a first version, or a new version where the name exists.

    No steps make an observe-only pipeline: the device's own program runs the model and calls `driftline.observe`.
    """

    name: str
    steps: list[Step]


class PipelineVersion(Struct):
    """An immutable version; `definition` is the document of `driftline.pipeline.definition`."""

    id: str
    created_ns: int
    definition: dict[str, Any]


class Pipeline(Struct):
    """A pipeline, newest version first; `status` is one of created, deploying, running, error, undeployed."""

    id: str
    workspace: str
    name: str
    created_ns: int
    status: str
    versions: list[PipelineVersion]
    notes: list[str] = []


class Deploy(Struct):
    """`POST /pipelines/{id}/deploy`: run the newest version on the device `hub`.

    `config` is what `DeploymentConfigBuilder.build()` returns, or None.
    """

    config: dict[str, Any] | None = None


class DevicePipelineStatus(Struct):
    """How one device runs a pipeline; `limits` says in words what holds it, `state` is running, starting, error: …."""

    device: str
    state: str
    version: str
    limits: dict[str, str] = {}


class PipelineStatus(Struct):
    """`GET /pipelines/{id}/status`."""

    status: str
    details: list[str]
    devices: list[DevicePipelineStatus]


class Publish(Struct):
    """`POST /pipelines/{id}/publish`: the newest version made available to edge devices."""

    id: str
    pipeline: str
    version: str
    created_ns: int


class NewEdge(Struct):
    """`POST /publishes/{id}/edges`. An existing device of that name also gets the pipeline, and no new token."""

    name: str


class Edge(Struct):
    """A device to be: `command` joins it, with a token that works once until `expires_ns`."""

    id: str
    name: str
    token: str | None
    command: str | None
    expires_ns: int | None


class Link(Struct):
    """How a device's link is used: `PUT /devices/{name}/link`.

    `rows_kb_a_day`: how many kilobytes (of 1,000) a day rows may take; None means as many as there are, 0 none. Windows
    and events always go. `newest_first`: after an outage the newest records go first, so that today is known at once.
    """

    rows_kb_a_day: Annotated[int, msgspec.Meta(ge=0)] | None = None
    newest_first: bool = False


class Site(Struct):
    """Where a device is: `PUT /devices/{name}/site`; None takes it away. What happens at one site is told once."""

    site: str | None = None


class NewSiteHours(Struct):
    """`PUT /workspaces/{id}/sites/{site}`: when a site is open, for this workspace's assays that do not say it.

    It holds from now on. Neither a time zone nor opening hours takes away what was said; a time zone alone is always
    open. On a hub without accounts `by` says who says it.
    """

    time_zone: str | None = None
    opening_hours: str | None = None
    by: str | None = None


class SiteHours(Struct):
    """When a site is open, for windows that end after `from_ns`; opening hours of None are always open."""

    site: str
    time_zone: str | None
    opening_hours: str | None
    from_ns: int
    actor: str


class Device(Struct):
    """A device as the hub knows it.

    `states` are healthy, drifting, silent, behind, dropping, camera lost, feed frozen, identity conflict, new.
    `site` is where it is; a device without one is a site of its own.
    `complete_until_ns`: up to there every window of every pipeline it runs has been heard; None before the first.
    `backlog` counts what waits there for its turn, `waiting` by kind also what the budget of its `link` holds back.
    `clock_ahead_s`: how far its clock is ahead of the hub's, right to `clock_error_s`; None before it knows, and where
    the hub's own time is a fast one. `undated`: how many records it sent whose time nobody knows, by the reason; they
    are kept and never scored.
    """

    id: str
    name: str
    states: list[str]
    created_ns: int
    heard_ns: int | None
    joined: bool
    complete_until_ns: int | None = None
    backlog: int = 0
    software: str = ""
    pipelines: dict[str, str] = {}
    sources: dict[str, str] = {}
    dropped: dict[str, int] = {}
    waiting: dict[str, int] = {}
    link: Link = msgspec.field(default_factory=Link)
    clock_ahead_s: float | None = None
    clock_error_s: float | None = None
    undated: dict[str, int] = {}
    site: str | None = None


# ── assays ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Vectors(Struct):
    """Vectors of `size` numbers, one an inference: float32, little-endian, one after the other; base64 in JSON.

    NaN is a missing value.
    """

    size: int
    data: bytes


class Baseline(Struct):
    """What a window is compared with: `values` by field, or what the devices saw from `start_ns` to `end_ns`.

    `vectors` are the values of fields that are watched as a whole, by field; they stand beside `values`, and answers
    have the values of what is made of them instead.

    A baseline in time is each device's own: cameras differ. `device` names one whose time range serves all. `season`
    says that what is usual repeats: windows are then compared with those of their hour of day, and of their weekday
    where it is a week, in the time zone of the assay's calendar; such a baseline is one in time.
    """

    values: dict[str, list[float | str | None]] | None = None
    vectors: dict[str, Vectors] | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    device: str | None = None
    season: Season | None = None


class Windows(Struct):
    """Which windows an assay looks at; tumbling where `interval_s` is None. `start_ns` None: the first inference."""

    width_s: int = 86_400
    interval_s: int | None = None
    start_ns: int | None = None


class Summarizer(Struct):
    """How a window is binned and compared; `bin_edges` for mode provided, `bin_weights` one a bin, outliers included.

    `num_bins` is always what is used; the SDK fills in what suits the metric where its user named none.
    `compat` None is driftline's own rules, v1 and v2 those of the reference platform.
    """

    bin_mode: BinMode = "quantile"
    num_bins: int = 5
    bin_edges: list[float] | None = None
    bin_weights: list[float] | None = None
    metric: Metric = "psi"
    aggregation: Aggregation = "density"
    compat: Compat | None = "v1"


class Watched(Struct):
    """What an assay watches: `field` is canonical (`out.avg_confidence`), `iopath` the user's own spelling.

    One that names a whole vector (`out.embedding`) asks for everything that is made of it; the answer names each.
    """

    field: str
    iopath: str


class Fixed(Struct, tag_field="kind", tag="fixed"):
    """Alert where a window's score reaches a threshold, as the reference platform does; it promises nothing."""

    threshold: float = 0.25
    warning: float | None = None


class Promise(Struct, tag_field="kind", tag="promise"):
    """Alert where the evidence for drift makes a false alarm as rare as said, over all devices and fields together.

    `min_effect` is a shift in the baseline's standard deviations: what is not surely that large is a Warning at most.
    `seed` makes a rerun decide the same.
    """

    false_alarm_every_s: int
    min_effect: float | None = None
    seed: int = 0


class Calendar(Struct):
    """When and where an assay's devices work: an IANA time zone, and opening hours such as 'Mon-Sat 07:00-20:00'.

    Windows that are not wholly inside the opening hours are answered and wake nobody. One that says nothing is that of
    each device's site (`SiteHours`); hours alone are those of each site's clock; with a time zone it is the assay's
    own, on every device. What nobody says is UTC, and always open.
    """

    time_zone: str | None = None
    opening_hours: str | None = None


class AssaySpec(Struct):
    """The standing question: `watched` fields, all under one alarm. `devices` empty means all that run the pipeline."""

    name: str
    pipeline: str
    watched: list[Watched]
    baseline: Baseline
    step: str | None = None
    windows: Windows = msgspec.field(default_factory=Windows)
    summarizer: Summarizer = msgspec.field(default_factory=Summarizer)
    alarm: Fixed | Promise = msgspec.field(default_factory=Fixed)
    calendar: Calendar = msgspec.field(default_factory=Calendar)
    min_count: int | None = None
    run_until_ns: int | None = None
    devices: list[str] = []


class Assay(Struct):
    """A standing assay: `POST /workspaces/{id}/assays` with an `AssaySpec` saves it and starts its scheduled runs.

    `baseline_version` counts the baselines it has had; `spec.baseline` is the newest.
    """

    id: str
    workspace: str
    spec: AssaySpec
    active: bool
    created_ns: int
    baseline_version: int = 1
    notes: list[str] = []


class AssayEdit(Struct, omit_defaults=True):
    """`POST /assays/{id}/edit`: what is given is different from the first window on that has not ended yet.

    Of `windows` width and interval are taken: they begin where those so far are cut. `note` says why, and on a hub
    without accounts `by` says who.
    """

    alarm: Fixed | Promise | msgspec.UnsetType = msgspec.UNSET
    windows: Windows | msgspec.UnsetType = msgspec.UNSET
    calendar: Calendar | msgspec.UnsetType = msgspec.UNSET
    min_count: int | msgspec.UnsetType | None = msgspec.UNSET
    run_until_ns: int | msgspec.UnsetType | None = msgspec.UNSET
    note: str = ""
    by: str | None = None


class Edition(Struct):
    """How an assay was edited: `before` and `after` hold what became different, by dotted names.

    Windows that begin at `from_ns` or later are answered as it asks since; their answers have this `version` or a later
    one. None is one that had no window to begin with yet.
    """

    version: int
    from_ns: int | None
    at_ns: int
    actor: str
    note: str
    before: dict[str, Any]
    after: dict[str, Any]


class NewMaintenance(Struct):
    """`POST /workspaces/{id}/maintenance`: what is seen from `from_ns` until `until_ns` wakes nobody.

    It is of a `site`, a `device`, an `assay` (its id), or of what several of them have in common. On a hub without
    accounts `by` says who plans it.
    """

    from_ns: Time
    until_ns: Time
    reason: str = ""
    site: str | None = None
    device: str | None = None
    assay: str | None = None
    by: str | None = None


class Maintenance(Struct):
    """A time in which windows are answered and marked, and wake nobody."""

    id: str
    workspace: str
    from_ns: int
    until_ns: int
    reason: str
    actor: str
    created_ns: int
    site: str | None = None
    device: str | None = None
    assay: str | None = None


class NewClone(Struct):
    """`POST /assays/{id}/clone`: a copy under a new name.

    Without `pipeline` and `baseline` it compares with the baselines of the first one; with either it is asked anew.
    """

    name: str
    pipeline: str | None = None
    baseline: Baseline | None = None


class Bins(Struct):
    """How the baseline and the window share the bins.

    `edges` has one entry fewer than `labels`: bin i holds edges[i-1] < x <= edges[i]; the first reaches down to
    minus infinity and the last up to infinity. `contributions` add up to the score; for maxdiff, ks and quantile_shift
    the largest is the score. missing_rate has two bins of its own, has a value and missing.
    `edges_moved` is how far the farthest edge was snapped to reach the window's grid, in the field's unit.
    """

    labels: list[str]
    edges: list[float]
    baseline: list[float]
    window: list[float]
    contributions: list[float]
    edges_moved: float = 0.0


class Evidence(Struct):
    """How surely something changed, by the promise of a rate of false alarms: an Alert from `alarm_at` on.

    `value` is what has come together up to and with this window, `e` how much the window multiplied it by (above 1 it
    speaks for drift). `residuals` are in standard deviations of a window's statistic (location, spread, omnibus,
    missing, outside), `p` how likely each is without drift. `kind` says whether independent rows or whole windows are
    what the baseline is compared by. `alarmed` lasts from an Alert to its resolution, also over windows that cannot
    be judged; `resolved` is True in the window that ends it. `counted` is False where a window overlaps one that was
    counted before it, or is outside the opening hours: evidence then stays what it was.
    """

    value: float
    alarm_at: float
    kind: EvidenceKind
    e: float = 1.0
    residuals: dict[str, float] = {}
    p: dict[str, float] = {}
    alarmed: bool = False
    resolved: bool = False
    counted: bool = True


class Effect(Struct):
    """How much changed, in units to be weighed against a cost; None where there is nothing to compare.

    `mean_shift` and `median_shift` are in the baseline's standard deviations (of a constant baseline see
    `driftline.assay.metrics.sample.in_sd`), `wasserstein` in the field's unit; `outside` is the share beyond the
    baseline's least and greatest value, of text that in new categories; `psi` is over ten cells, `psi_at_least` its
    lower 95 % confidence bound; `missing_change` is the window's missing share less the baseline's.
    """

    mean_shift: float | None = None
    median_shift: float | None = None
    wasserstein: float | None = None
    outside: float | None = None
    psi: float | None = None
    psi_at_least: float | None = None
    missing_change: float = 0.0


class Analysis(Struct):
    """An assay's answer for one device, one field and one window.

    `count` is all inferences, missing included; min to std are None without values; `score` is None where there
    is none. `revision` grows when late data changed the answer. `notes` are sentences (fewer bins than asked, …).
    `alert_threshold` is that of a fixed alarm; under a promise it is None and `evidence` decides. `p_value` is of the
    metrics that have one, for independent rows. A category has no min to std, and bins without edges.
    """

    assay_id: str | None
    name: str
    iopath: str
    field: str
    device: str
    start_ns: int
    end_ns: int
    score: float | None
    status: Status
    alert_threshold: float | None
    warning_threshold: float | None
    count: int
    missing: int
    min: float | None
    max: float | None
    mean: float | None
    median: float | None
    std: float | None
    source: Source
    metric: Metric
    revision: int = 1
    baseline_version: int = 1
    evidence: Evidence | None = None
    effect: Effect | None = None
    p_value: float | None = None
    bins: Bins | None = None
    notes: list[str] = []


class Calibrated(Struct):
    """What a promise rests on: `windows` of about `n` values in the baseline, worth `effective` independent ones.

    `kind` and `why` say which evidence is used. `health` are sentences about what the baseline lacks and what to do;
    `refused` says why it carries no promise, and then the rest is empty.
    """

    kind: EvidenceKind | None = None
    why: str = ""
    n: int = 0
    windows: int = 0
    effective: float = 0.0
    health: list[str] = []
    refused: str | None = None


class BaselineStats(Struct):
    """A baseline's own numbers, as one row of `compare_basic_stats`; population standard deviation.

    `calibrated` is None under a fixed alarm, and before the first windows have shown how many values one has.
    """

    device: str | None
    field: str
    count: int
    missing: int
    min: float | None
    max: float | None
    mean: float | None
    median: float | None
    std: float | None
    start_ns: int | None = None
    end_ns: int | None = None
    edges: list[float] = []
    labels: list[str] = []
    shares: list[float] = []
    values: list[float | str | None] | None = None
    version: int = 1
    calibrated: Calibrated | None = None
    notes: list[str] = []


class NewBaseline(Struct):
    """`POST /assays/{id}/baselines`: compare with another baseline from now on; the evidence starts again.

    Give a `baseline`, or the id of an `incident`: then it is what its device saw since it alarmed, and the other
    devices keep what they have. `device` says which one where the incident is about several.
    """

    baseline: Baseline | None = None
    incident: str | None = None
    device: str | None = None


class BaselineVersion(Struct):
    """One of an assay's baselines: it is what windows that begin at or after `from_ns` are compared with.

    `devices` are those that have a baseline of their own in it; none where one serves all.
    """

    version: int
    from_ns: int
    created_ns: int
    baseline: Baseline
    notes: list[str] = []
    devices: list[str] = []


class NewPreview(Struct):
    """`POST /workspaces/{id}/assays/preview`: what would this assay do? `within` is a number of windows."""

    spec: AssaySpec
    within: int = 20


class Detectable(Struct):
    """What becomes of a shift: `found` is the share of simulated streams that alarm within the windows asked for.

    `shift` is in the baseline's standard deviations, `median_windows` how many it takes; None where half never do.
    """

    shift: float
    found: float
    median_windows: float | None


class StreamPreview(Struct):
    """What an assay would do for one device and field.

    `past_alarms` are the start times of what would have been alarms, over `past_windows` windows of the past;
    `smallest_shift` is the least shift that at least 80 % of simulated streams find, None where none is.
    """

    device: str | None
    field: str
    calibrated: Calibrated
    alarm_at: float
    past_windows: int
    past_alarms: list[int]
    smallest_shift: float | None
    detectable: list[Detectable]


class Preview(Struct):
    """Streams by device and field; simulated on the baselines' own windows, with the promise's seed."""

    within: int
    streams: list[StreamPreview]
    notes: list[str] = []


class AssayRun(Struct):
    """`POST /workspaces/{id}/assays/run`: analyses by window start, device, field; `baselines` a device and field."""

    analyses: list[Analysis]
    baselines: list[BaselineStats]
    notes: list[str] = []


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────


class Incident(Struct):
    """Something an owner should know, one a cause: opened on Alert, resolved when windows are Ok again.

    `devices` are those it is about now (of one that is resolved, those it was last about), of one `site`; `device` is
    the first of them, and `field` what it alarmed of. `reopened` counts how often its cause came back. One that is
    `settled` is resolved for good: what comes next is another incident.
    """

    id: str
    kind: str
    device: str
    assay_id: str | None
    field: str | None
    opened_ns: int
    resolved_ns: int | None
    text: str
    windows: int = 1
    devices: list[str] = []
    site: str | None = None
    state: IncidentState = "open"
    severity: Severity = "critical"
    acknowledged_by: str | None = None
    silenced_until_ns: int | None = None
    reopened: int = 0
    settled: bool = False


class Transition(Struct):
    """What happened to an incident: its `number`-th change, who made it, and which `device` it was about where one was.

    `event_id` is the same in every notification of it, so that a receiver knows what it has heard before.
    """

    number: int
    at_ns: int
    change: Change
    actor: str
    note: str = ""
    device: str | None = None
    event_id: str = ""


class Act(Struct):
    """What a person does to an incident: `POST /incidents/{id}/acknowledge`, `/resolve`, `/reopen`.

    `by` says who; a hub without accounts takes their word for it.
    """

    note: str = ""
    by: str | None = None


class Silence(Act):
    """`POST /incidents/{id}/silence`: tell nobody of it for so many seconds."""

    for_s: int = 3600


# ── notifications ────────────────────────────────────────────────────────────────────────────────────────────────


class Notification(Struct):
    """What is sent of one change of an incident; `data` of the CloudEvent that a webhook receives. Version 1.

    `event_id` stays the same however often it is sent.
    """

    event_id: str
    change: Change
    number: int
    at_ns: int
    actor: str
    note: str
    incident: Incident
    assay: str | None = None
    workspace: str | None = None
    version: int = 1


class Subscription(Struct):
    """What a channel hears of; an empty list is everything. What belongs to no workspace, every channel hears of."""

    workspaces: list[str] = []
    kinds: list[str] = []
    severities: list[Severity] = []
    changes: list[Change] = []


class Webhook(Struct, tag_field="kind", tag="webhook"):
    """CloudEvents 1.0 as JSON, signed as Standard Webhooks say. None as the `secret` lets the hub make one."""

    url: str
    secret: str | None = None


class Email(Struct, tag_field="kind", tag="email"):
    """Mail over SMTP; `security` none is for a server on the hub's own machine."""

    host: str
    sender: str
    to: list[str]
    port: int | None = None
    security: SmtpSecurity = "starttls"
    user: str | None = None
    password: str | None = None


class Alertmanager(Struct, tag_field="kind", tag="alertmanager"):
    """Alerts for Prometheus' Alertmanager, by its API v2; `url` is that of the Alertmanager itself."""

    url: str
    user: str | None = None
    password: str | None = None


class Apprise(Struct, tag_field="kind", tag="apprise"):
    """One of the services that Apprise knows, by its own address (`slack://…`, `tgram://…`)."""

    url: str


Target = Webhook | Email | Alertmanager | Apprise


class NewChannel(Struct):
    """`POST /notifications/channels`: a way to tell somebody.

    `wait_s`: how long what is opened waits, so that devices that alarm together are told of together.
    """

    name: str
    target: Target
    subscription: Subscription = msgspec.field(default_factory=Subscription)
    wait_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 30


class Channel(Struct):
    """A channel as it is shown: `target` in words. What it was given in confidence stays with the hub.

    `secret` is there in the answer to the call that made it, where the hub made one, and never again.
    """

    id: str
    name: str
    kind: str
    target: str
    subscription: Subscription
    wait_s: int
    created_ns: int
    secret: str | None = None


class Tried(Struct):
    """What a test of a channel came to, in words: `POST /notifications/channels/{id}/test`."""

    delivered: bool
    text: str


class DeliveriesAsked(Paged):
    """The query of `GET /notifications`."""

    state: DeliveryState | None = None


class Delivery(Struct):
    """One notification on its way through one channel.

    `due_ns` is when it is tried next, `reason` why it was not delivered when it was last tried. `created_ns` is when it
    happened by the hub's clock, the other times are real ones.
    """

    id: str
    event_id: str
    channel: str
    incident: str
    change: Change
    state: DeliveryState
    attempts: int
    created_ns: int
    due_ns: int | None
    delivered_ns: int | None
    reason: str


class IncidentsAsked(Paged):
    """The query of `GET /incidents`: only open ones, or only those that are over; of one device."""

    open: bool | None = None
    device: str | None = None


class IncidentRowsAsked(Struct):
    """The query of `GET /incidents/{id}/rows.…`: of one device, and from how long before it went wrong on."""

    device: str | None = None
    before_s: Annotated[int, msgspec.Meta(ge=0, le=31 * 86_400)] = 3600


class AnalysesAsked(Paged):
    """The query of `GET /assays/{id}/analyses`: of windows that begin in [start_ns, end_ns); of one device or field."""

    device: str | None = None
    field: str | None = None
    start_ns: Integer | None = None
    end_ns: Integer | None = None


class LogAsked(Struct):
    """The query of `GET /pipelines/{id}/logs`: the newest rows in [start_ns, end_ns), of one device."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    start_ns: Time = 0
    end_ns: Time = 2**62
    device: str | None = None


class PreviewAsked(Struct):
    """The query of `GET /assays/{id}/preview`: what is found within so many windows."""

    within: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────


class NewToken(Struct):
    """`POST /tokens`: what a program comes with instead of you; it may do what you may, up to `scope`."""

    label: str
    scope: Scope = "viewer"
    days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 90


class NewPerson(Struct):
    """`POST /people`."""

    name: str
    password: str
    is_admin: bool = False


class GivenPassword(Struct):
    """`PUT /people/{person}/password`: for somebody who forgot theirs."""

    password: str


class Person(Struct):
    """Somebody who may log in."""

    id: str
    name: str
    is_admin: bool
    created_ns: int


class NewRole(Struct):
    """`PUT /workspaces/{id}/roles/{person}`: what a person may do there; None takes it away."""

    role: Role | None


class RoleOf(Struct):
    """What a person may do in a workspace."""

    person: str
    name: str
    role: Role


class Token(Struct):
    """An API token; `token` itself is shown once, when it is made."""

    id: str
    label: str
    scope: str
    created_real_ns: int
    expires_real_ns: int
    token: str | None = None


# ── reading and writing ─────────────────────────────────────────────────────────────────────────────────────────


def encode(message: object) -> bytes:
    """Write a message as JSON; a float that is not finite is refused by the reader, so it never leaves here."""
    return msgspec.json.encode(message)


def decode(body: bytes, kind: type[T]) -> T:
    """Read a message.

    Raises:
        InvalidInputError: not JSON, or a field missing or of the wrong type; the message names it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"the request cannot be read: {error}") from error


def decode_query(query: Iterable[tuple[str, str]], kind: type[S]) -> S:
    """Read the query of an address as a message; numbers and truth are written as text there.

    Raises:
        InvalidInputError: a parameter is there twice, or cannot be read; the message names it.
    """
    given: dict[str, str] = {}
    for name, text in query:
        if name in given:
            raise InvalidInputError(f"the address has {name[:100]!r} twice; give it once")
        given[name] = text
    # msgspec reads the text null as None: in an address nothing is null, but a device may be called that.
    nulls = {name: text for name, text in given.items() if text.strip().lower() == "null"}
    try:
        read = msgspec.convert({name: text for name, text in given.items() if name not in nulls}, kind, strict=False)
        return msgspec.structs.replace(read, **_texts(nulls, kind)) if nulls else read
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the address cannot be read: {error}") from error


def _texts(given: Mapping[str, str], kind: type) -> dict[str, str]:
    """Return what of these is text by its message; anything else must not be written like this."""
    known = {one.encode_name: one.type for one in msgspec.structs.fields(kind)}
    found = {name: text for name, text in given.items() if name in known}
    for name, text in found.items():
        if known[name] not in {str, str | None}:
            raise msgspec.ValidationError(f"{text!r} is no value of `{name}`; leave it out instead")
    return found


def raise_failure(status: int, body: bytes) -> None:
    """Raise the error that a reply carries, as the class it had on the hub."""
    try:
        failure = msgspec.json.decode(body, type=ErrorReply).error
    except msgspec.DecodeError:
        failure = Failure(code="error", message=f"HTTP {status}: {body[:200]!r}")
    raise by_code(failure.code)(failure.message)
