"""What would this assay do? Its alarms in the past, and what it would find, stream by stream; nothing is stored.

The past are the windows since the baseline, answered as the scorer would; where there is none yet, the baseline's own.
What would be found is simulated on the baseline's windows (`driftline.assay.detectability`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from driftline.assay.analysis import Baseline
from driftline.assay.detectability import alarms, fixed, promised, smallest
from driftline.assay.observed import Part
from driftline.errors import InvalidInputError
from driftline.hub import assays
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.promises import described, own_windows, stream_of
from driftline.hub.question import Calibrated, Question, calibrate, question
from driftline.hub.store.baselines import EVERY_DEVICE, Place
from driftline.wire import api

routes = Routes()

# Each takes about a tenth of a second; a person waits for all of them.
STREAMS_MAX = 20
# So many windows ahead may be asked about; the simulation takes time and memory in proportion.
WITHIN_MAX = 1000


@dataclass(frozen=True)
class _Past:
    """A stream's answers in time order."""

    answers: Sequence[api.Analysis]

    @property
    def n(self) -> int | None:
        """How many inferences a window usually holds."""
        counts = [one.count for one in self.answers if one.count]
        return int(np.median(counts)) if counts else None


def preview(hub: Hub, workspace: str, asked: api.NewPreview) -> api.Preview:
    """Say what an assay would do.

    Raises:
        InvalidInputError, EntityNotFoundError: see `question`; also where the past is unreasonably long, or `within` is
            no number of windows.
    """
    if not 1 <= asked.within <= WITHIN_MAX:
        raise InvalidInputError(f"within is {asked.within}; it is a number of windows, 1 to {WITHIN_MAX}")
    made = question(hub, workspace, asked.spec)
    run, notes = _past(hub, made)
    past: defaultdict[tuple[str, str], list[api.Analysis]] = defaultdict(list)
    for one in run.analyses:
        past[one.device, one.field].append(one)
    found = calibrate(hub, made, assays.plan_for(hub, made.spec), hub.now_ns())
    places = _worst_first({place: _Past(past.get(place, [])) for place in _streams(made)}, found)
    if len(places) > STREAMS_MAX:
        notes.append(
            f"{len(places)} streams are {len(places) - STREAMS_MAX} more than a preview shows; those without a promise "
            "and those with most alarms come first; name some devices to see others"
        )
    streams = [_stream(hub, made, found, place, one, asked.within) for place, one in list(places.items())[:STREAMS_MAX]]
    return api.Preview(within=asked.within, streams=streams, notes=[*run.notes, *notes, *_weighed(made.spec.alarm)])


def _weighed(alarm: api.Fixed | api.Promise) -> list[str]:
    if isinstance(alarm, api.Fixed) or not alarm.min_effect:
        return []
    told = (
        f"shifts up to min_effect, {alarm.min_effect:g} sd, are a Warning at most and left out; a larger one alerts "
        "once it is surely that large, which may take longer than is said here"
    )
    return [told]


def _past(hub: Hub, asked: Question) -> tuple[api.AssayRun, list[str]]:
    """Answer the windows since the baseline; where none holds any data, the baseline's own."""
    run = assays.answers(hub, asked)
    span = asked.spec.baseline
    if any(one.count for one in run.analyses) or span.start_ns is None or span.end_ns is None:
        return run, []
    windows = msgspec.structs.replace(asked.spec.windows, start_ns=span.start_ns)
    spec = msgspec.structs.replace(asked.spec, windows=windows, run_until_ns=span.end_ns)
    own = assays.answers(hub, replace(asked, spec=spec))
    return own, ["there is no window since the baseline yet; its own are shown as the past"]


def _streams(asked: Question) -> list[tuple[str, str]]:
    """Return the devices and fields that have a baseline; the device is empty where no device is known yet."""
    fields = sorted(asked.targets)
    if not asked.devices:
        return [("", field) for field in fields]
    return [
        (device, field)
        for device in asked.devices
        for field in fields
        if Place(device, field) in asked.baselines or Place(EVERY_DEVICE, field) in asked.baselines
    ]


def _worst_first(past: Mapping[tuple[str, str], _Past], found: Calibrated) -> dict[tuple[str, str], _Past]:
    """Order streams: those without a promise, then by the number of past alarms, then by name."""

    def worst(stream: tuple[str, str]) -> tuple[bool, int, tuple[str, str]]:
        refused = Place(*stream) in found.refusals or Place(EVERY_DEVICE, stream[1]) in found.refusals
        return not refused, -len(alarms(past[stream].answers)), stream

    return {stream: past[stream] for stream in sorted(past, key=worst)}


def _stream(
    hub: Hub, asked: Question, found: Calibrated, stream: tuple[str, str], past: _Past, within: int
) -> api.StreamPreview:
    device, field = stream
    place = next(one for one in (Place(device, field), Place(EVERY_DEVICE, field)) if one in asked.baselines)
    calibrating = found.footings.calibrating(1, device, field)
    baseline = asked.baselines[place]
    n = past.n if calibrating is None else calibrating.n
    starts_ns, windows = _windows(hub, asked, place, baseline, n)
    alarm = asked.spec.alarm
    detectable: list[api.Detectable] = []
    if isinstance(alarm, api.Fixed):
        told, level = api.Calibrated(n=n or 0, windows=len(windows)), alarm.threshold
        if windows:
            detectable = fixed(asked.spec.summarizer, alarm, baseline, windows, within=within)
    else:
        level = found.level or 0.0
        told = described(calibrating, level) or api.Calibrated(refused=assays.NOT_CALIBRATED_YET)
        known = stream_of(baseline, calibrating)
        if known is not None and windows:
            detectable = promised(
                known.calibration, baseline, windows, level, within=within, seed=alarm.seed, starts_ns=starts_ns
            )
            # The simulation finds evidence; of a change that is not surely so large that is a Warning at most.
            detectable = [one for one in detectable if one.shift > (alarm.min_effect or 0.0)]
    judged = [one for one in past.answers if one.score is not None]
    return api.StreamPreview(
        device=device or None,
        field=field,
        calibrated=told,
        alarm_at=level,
        past_windows=len(judged),
        past_alarms=alarms(past.answers),
        smallest_shift=smallest(detectable),
        detectable=detectable,
    )


def _windows(
    hub: Hub, asked: Question, place: Place, baseline: Baseline, n: int | None
) -> tuple[list[int], list[list[Part]]]:
    """Return the baseline's own windows: as they were in time with their starts, or its values cut in order by n."""
    material = asked.materials[place]
    if asked.spec.baseline.values is None:
        found = [(start, parts) for start, parts in own_windows(hub, asked.spec, material) if baseline.read(parts).n]
        return [start for start, _ in found], [parts for _, parts in found]
    values = material.values
    if values is None or not n or values.size < n:
        return [], []
    cut = values[: values.size // n * n].reshape(-1, n)
    return [], [[Part(values=row)] for row in cut if not np.isnan(row).all()]


@routes.post("/workspaces/{workspace}/assays/preview", body=api.NewPreview)
def preview_assay(call: Call[api.NewPreview]) -> api.Preview:
    """Say what an assay would have alarmed about, and what it would find."""
    return preview(call.hub, call.path["workspace"], call.body)
