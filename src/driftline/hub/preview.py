"""What would this assay do? Its alarms in the past, and what it would find, stream by stream; nothing is stored.

Before an assay is saved the past are the windows since the baseline, answered as the scorer would; where there is none
yet, the baseline's own. Of a saved one it is what was answered, each stream since its newest baseline is valid. What
would be found is simulated on the baseline's windows (`driftline.assay.detectability`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from driftline.assay.analysis import Baseline
from driftline.assay.detectability import Told, alarms, fixed, promised, smallest
from driftline.assay.window import WindowPlan
from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import assays, calendars
from driftline.hub.calendars import Calendars
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.observations import baseline_of
from driftline.hub.policy import VIEWER
from driftline.hub.promises import Footings, described, level_of, seen_by, stream_of, usual_of, windows_of
from driftline.hub.question import Calibrated, Question, fixed_notes, question
from driftline.hub.store import assays as store
from driftline.hub.store import baselines as versions
from driftline.hub.store.baselines import EVERY_DEVICE, Calibrating, Material, Place
from driftline.wire import api

routes = Routes()

# Each takes about a tenth of a second; a person waits for all of them.
STREAMS_MAX = 20
# So many windows ahead may be asked about; the simulation takes time and memory in proportion.
WITHIN_MAX, WITHIN = 1000, 20
# Of a saved assay so many answers are looked back on, its streams together.
PAST_MAX = 50_000


@dataclass(frozen=True)
class _Case:
    """One stream: what it is compared with by whatever calibration, and its answers in time order.

    `device` is empty where none is known yet; the baseline of `spec` is the one that `read` returns what it is made of.
    """

    device: str
    field: str
    spec: api.AssaySpec
    calibrating: Calibrating | None
    past: Sequence[Told]
    read: Callable[[], tuple[Material, Baseline]]
    calendars: Calendars

    @property
    def urgency(self) -> tuple[bool, int, str, str]:
        """Sort streams: those without a promise, then by the number of past alarms, then by name."""
        refused = self.calibrating is not None and self.calibrating.refused is not None
        return not refused, -len(alarms(self.past)), self.device, self.field


# ── before an assay is saved ─────────────────────────────────────────────────────────────────────────────────────


def preview(hub: Hub, workspace: str, asked: api.NewPreview) -> api.Preview:
    """Say what an assay would do.

    Raises:
        InvalidInputError, EntityNotFoundError: see `question`; also where the past is unreasonably long, or `within` is
            no number of windows.
    """
    _check_within(asked.within)
    made = question(hub, workspace, asked.spec)
    found = assays.calibrated(hub, made)
    run, notes = _past(hub, made, found)
    past: defaultdict[tuple[str, str], list[api.Analysis]] = defaultdict(list)
    for one in run.analyses:
        past[one.device, one.field].append(one)
    plan = assays.plan_for(hub, made.spec)

    def case(device: str, place: Place) -> _Case:
        known = found.footings.calibrating(1, device, place.field)
        answers = past[device, place.field]
        return _Case(
            device,
            place.field,
            made.spec,
            known,
            answers,
            lambda: (made.materials[place], made.baselines[place]),
            made.calendars,
        )

    cases = [case(device, place) for device, place in _streams(made)]
    notes = [*run.notes, *notes, *fixed_notes(hub, made, plan, hub.now_ns()), *_weighed(made.spec.alarm)]
    return _previewed(hub, cases, plan, found.level or 0.0, asked.within, notes)


def _past(hub: Hub, asked: Question, found: Calibrated) -> tuple[api.AssayRun, list[str]]:
    """Answer the windows since the baseline; where none holds any data, the baseline's own."""
    run = assays.answers(hub, asked, found)
    span = asked.spec.baseline
    if any(one.count for one in run.analyses) or span.start_ns is None or span.end_ns is None:
        return run, []
    windows = msgspec.structs.replace(asked.spec.windows, start_ns=span.start_ns)
    spec = msgspec.structs.replace(asked.spec, windows=windows, run_until_ns=span.end_ns)
    own = assays.answers(hub, replace(asked, spec=spec), found)
    return own, ["there is no window since the baseline yet; its own are shown as the past"]


def _streams(asked: Question) -> list[tuple[str, Place]]:
    """Return each device with the baselines of its fields; the device is empty where no device is known yet."""
    return [
        (device, place)
        for device in asked.devices or [EVERY_DEVICE]
        for field in sorted(asked.targets)
        for place in _first(asked.baselines, Place(device, field), Place(EVERY_DEVICE, field))
    ]


def _first(there: Mapping[Place, Baseline], *places: Place) -> list[Place]:
    return [place for place in places if place in there][:1]


# ── a saved assay ────────────────────────────────────────────────────────────────────────────────────────────────


def preview_saved(hub: Hub, assay: str, within: int) -> api.Preview:
    """Say what a standing assay did against its newest baselines, and what it would find.

    Raises:
        InvalidInputError: `within` is no number of windows.
        EntityNotFoundError: there is no such assay.
    """
    _check_within(within)
    with hub.database.reading() as connection:
        kept = store.one(connection, assay)
        footings = assays.footings_of(connection, [assay])[assay]
        spans = {one.version: one.baseline for one in versions.versions(connection, kept.assay.id)}
    spec, devices = kept.assay.spec, assays.devices_of(hub, kept)
    streams = {
        (device, one.field): which
        for device in devices or [EVERY_DEVICE]
        for one in sorted(spec.watched, key=lambda one: one.field)
        if (which := footings.which(device, one.field)) is not None
    }
    past, notes = _answered(hub, kept, footings, streams)
    present = calendars.now(hub, kept.assay.workspace, spec.calendar)
    cases = [
        _Case(
            device,
            field,
            msgspec.structs.replace(spec, baseline=spans[version]),
            footings.calibrating(version, device, field),
            past.get((device, field), []),
            _reader(hub, kept, version, place),
            present,
        )
        for (device, field), (version, place) in streams.items()
    ]
    level = level_of(spec, footings, devices) or 0.0
    return _previewed(
        hub, cases, assays.plan_of_kept(kept), level, within, [*kept.assay.notes, *notes, *_weighed(spec.alarm)]
    )


def _answered(
    hub: Hub, kept: store.Kept, footings: Footings, streams: Mapping[tuple[str, str], tuple[int, Place]]
) -> tuple[dict[tuple[str, str], list[store.Mark]], list[str]]:
    """Return each stream's windows since its newest baseline is valid, the newest ones where there are many."""
    most = max(1, PAST_MAX // max(1, len(streams)))
    windows = kept.assay.spec.windows
    since_ns = hub.now_ns() - most * (windows.interval_s or windows.width_s) * NS_PER_S
    strips = [
        store.Strip(kept.assay.id, device, field, max(since_ns, footings.valid_from[version]))
        for (device, field), (version, _) in streams.items()
    ]
    with hub.database.reading() as connection:
        marks = store.latest_marks(connection, strips)
    longer = kept.start_ns is not None and kept.start_ns < since_ns
    notes = [f"the past are the last {most} windows of each stream"] if longer else []
    return {(device, field): found for (_, device, field), found in marks.items()}, notes


def _reader(hub: Hub, kept: store.Kept, version: int, place: Place) -> Callable[[], tuple[Material, Baseline]]:
    def read() -> tuple[Material, Baseline]:
        with hub.database.reading() as connection:
            material = versions.material(connection, kept.assay.id, version, place)
        if material is None:
            raise EntityNotFoundError(f"the baseline of {place.field} is gone; its device was removed")
        return material, baseline_of(hub, material, kept.field_types[place.field])

    return read


# ── stream by stream ─────────────────────────────────────────────────────────────────────────────────────────────


def _check_within(within: int) -> None:
    if not 1 <= within <= WITHIN_MAX:
        raise InvalidInputError(f"within is {within}; it is a number of windows, 1 to {WITHIN_MAX}")


def _previewed(
    hub: Hub, cases: Sequence[_Case], plan: WindowPlan | None, level: float, within: int, notes: Sequence[str]
) -> api.Preview:
    said = list(notes)
    if len(cases) > STREAMS_MAX:
        said.append(
            f"{len(cases)} streams are {len(cases) - STREAMS_MAX} more than a preview shows; those without a promise "
            "and those with most alarms come first; name some devices to see others"
        )
    shown = sorted(cases, key=lambda one: one.urgency)[:STREAMS_MAX]
    return api.Preview(within=within, streams=[_stream(hub, one, plan, level, within) for one in shown], notes=said)


def _stream(hub: Hub, case: _Case, plan: WindowPlan | None, level: float, within: int) -> api.StreamPreview:
    material, baseline = case.read()
    alarm = case.spec.alarm
    n = case.calibrating.n if case.calibrating is not None else _usual_n(hub, case, plan)
    is_open = case.calendars.open_on(seen_by(case.spec.baseline, Place(case.device, case.field)))
    starts_ns, windows = windows_of(hub, case.spec, material, baseline, n, is_open)
    detectable: list[api.Detectable] = []
    if isinstance(alarm, api.Fixed):
        told, level = api.Calibrated(n=n or 0, windows=len(windows)), alarm.threshold
        if windows:
            detectable = fixed(case.spec.summarizer, alarm, baseline, windows, within=within)
    else:
        told = described(case.calibrating, level) or api.Calibrated(refused=assays.NOT_CALIBRATED_YET)
        known = stream_of(baseline, case.calibrating)
        if known is not None and windows:
            detectable = promised(
                known.calibration, baseline, windows, level, within=within, seed=alarm.seed, starts_ns=starts_ns
            )
            # The simulation finds evidence; of a change that is not surely so large that is a Warning at most.
            detectable = [one for one in detectable if one.shift > (alarm.min_effect or 0.0)]
    return api.StreamPreview(
        device=case.device or None,
        field=case.field,
        calibrated=told,
        alarm_at=level,
        past_windows=sum(one.score is not None for one in case.past),
        past_alarms=alarms(case.past),
        smallest_shift=smallest(detectable),
        detectable=detectable,
    )


def _weighed(alarm: api.Fixed | api.Promise) -> list[str]:
    if isinstance(alarm, api.Fixed) or not alarm.min_effect:
        return []
    told = (
        f"shifts up to min_effect, {alarm.min_effect:g} sd, are a Warning at most and left out; a larger one alerts "
        "once it is surely that large, which may take longer than is said here"
    )
    return [told]


def _usual_n(hub: Hub, case: _Case, plan: WindowPlan | None) -> int | None:
    """Return how many inferences a window usually holds; None where nobody knows yet."""
    found = usual_of(hub, case.spec, [case.device], plan, hub.now_ns(), case.calendars)
    return next((one.n for one in found.values()), None)


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/workspaces/{workspace}/assays/preview", policy=VIEWER, body=api.NewPreview)
def preview_assay(call: Call[api.NewPreview]) -> api.Preview:
    """Say what an assay would have alarmed about, and what it would find."""
    return preview(call.hub, call.path["workspace"], call.body)


@routes.get("/assays/{assay}/preview", policy=VIEWER, query=api.PreviewAsked)
def preview_standing(call: Call[api.PreviewAsked]) -> api.Preview:
    """Say what a standing assay alarmed about since its newest baselines, and what it finds in `within` windows."""
    return preview_saved(call.hub, call.path["assay"], call.body.within)
