"""The windows of one device, answered in time order: the same for a preview and for a standing assay.

Every watched field of a window is answered together. Under a promise each field's evidence goes from window to window;
it begins anew where the field is compared with another version of its baseline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from driftline.assay.analysis import Baseline, analyse, baseline_of, min_count
from driftline.assay.promise import Memory, Stream, is_counted
from driftline.assay.window import WindowPlan
from driftline.hub.observations import Span, Target
from driftline.wire import api

# Why a window of a device wakes nobody, though its site is open; None where it does.
Rests = Callable[[str, int, int], str | None]
# Whether the site of a device is open from start to end.
OpenAt = Callable[[str, int, int], bool]
OUTSIDE_HOURS = "outside the opening hours: it wakes nobody"


@dataclass(frozen=True)
class Footing:
    """What one field of one device is compared with, in one version; `newest` says whether there is none after it.

    `stream` is None under a fixed alarm, where a promise was `refused`, and before its baseline could be calibrated.
    """

    baseline: Baseline | None = None
    version: int = 1
    newest: bool = True
    stream: Stream | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Answered:
    """One field's answer; `wakes` says whether it may open an incident, `memory` what the evidence is after it."""

    analysis: api.Analysis
    wakes: bool
    memory: Memory | None = None


@dataclass(frozen=True)
class Course:
    """How an assay's windows are answered, on whatever device; `rests` says of a window in maintenance that it is."""

    spec: api.AssaySpec
    plan: WindowPlan
    targets: Mapping[str, Target]
    is_open: OpenAt
    assay_id: str | None = None
    rests: Rests = lambda _device, _start_ns, _end_ns: None


@dataclass
class Walk:
    """One device's way along a course; `memories` are those of the evidence where it begins, by version."""

    course: Course
    spans: Mapping[str, Span]
    memories: dict[tuple[str, int], Memory] = field(default_factory=dict[tuple[str, int], Memory])

    def answers(
        self, start_ns: int, end_ns: int, footings: Mapping[str, Footing], alarm_at: Mapping[str, float]
    ) -> list[Answered]:
        """Answer for the next window, every field in the order of their names."""
        return [
            self._answer(one, start_ns, end_ns, footings[one.field], alarm_at.get(one.field, 0.0))
            for one in sorted(self.course.spec.watched, key=lambda one: one.field)
        ]

    def _answer(self, watched: api.Watched, start_ns: int, end_ns: int, footing: Footing, alarm_at: float) -> Answered:
        course, span = self.course, self.spans[watched.field]
        target = course.targets[watched.field]
        window = span.window(start_ns, end_ns)
        plain = analyse(
            course.spec,
            watched,
            baseline_of([], target.field_type) if footing.baseline is None else footing.baseline,
            window,
            device=span.device,
            start_ns=start_ns,
            end_ns=end_ns,
            heard=span.heard(start_ns, end_ns),
            assay_id=course.assay_id,
        )
        plain = _noted(plain, footing)
        why = [] if course.is_open(span.device, start_ns, end_ns) else [OUTSIDE_HOURS]
        in_maintenance = course.rests(span.device, start_ns, end_ns)
        why += [in_maintenance] if in_maintenance else []
        if why:
            plain = msgspec.structs.replace(plain, notes=[*plain.notes, *why])
        promise = course.spec.alarm
        if footing.stream is None or not isinstance(promise, api.Promise):
            return Answered(plain, not why and footing.newest)
        key = (watched.field, footing.version)
        memory = self.memories.get(key) or footing.stream.begin()
        if why or not is_counted(course.plan, start_ns):
            aside = footing.stream.aside(memory, plain, alarm_at, min_effect=promise.min_effect)
            return Answered(aside, wakes=False)
        if plain.status == "Late":
            return Answered(plain, footing.newest)
        answer, after = footing.stream.step(
            memory,
            plain,
            window,
            alarm_at,
            min_count=min_count(course.spec),
            min_effect=promise.min_effect,
        )
        self.memories[key] = after
        return Answered(answer, footing.newest, after)


def _noted(analysis: api.Analysis, footing: Footing) -> api.Analysis:
    """Add which baseline it was, and what is to be said where there is none or where it carries no promise."""
    analysis = msgspec.structs.replace(analysis, baseline_version=footing.version)
    if footing.baseline is None:
        note = (
            f"device {analysis.device} has no baseline of {analysis.field}, hence no score; "
            "take a new baseline that it is part of"
        )
        return msgspec.structs.replace(analysis, notes=[note])
    if footing.refused is None:
        return analysis
    note = f"there is no promise for {analysis.field} of device {analysis.device}: {footing.refused}"
    status = "TooFew" if analysis.score is not None else analysis.status
    return msgspec.structs.replace(analysis, status=status, notes=[*analysis.notes, note])


def written(memory: Memory | None) -> bytes | None:
    """Return a memory as it is kept."""
    return None if memory is None else msgspec.msgpack.encode(memory.document())


def read(data: bytes) -> Memory:
    """Return a memory that was kept; to the last digit what it was."""
    return Memory.of(msgspec.msgpack.decode(data))
