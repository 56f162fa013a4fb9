"""What the height of a point says: a window's score, or the evidence that came together up to and with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from driftline.charts.scale import amount, evidence_scale, figure, metric_text, score_scale
from driftline.wire.api import Analysis, Status

# Why a window has no point; read in this order where several apply.
UNJUDGED: dict[Status, str] = {"NoData": "no data", "TooFew": "too few values", "Late": "not heard yet"}
NO_PROMISE = "no promise"
# Where there is no room for the words.
SIGNS = {"no data": "×", "too few values": "<", "not heard yet": "…", NO_PROMISE: "–"}
# Warning begins at this part of the alarm level (`driftline.assay.evidence.WARNING`).
_WARNING = 0.1


class Scale(Protocol):
    """From values to heights, with ticks for the axis."""

    def __call__(self, value: float, /) -> float:
        """Return the height of a value."""
        ...

    @property
    def ticks(self) -> list[float]:
        """Values for the axis."""
        ...

    @property
    def tick_texts(self) -> list[str]:
        """How they are written."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level that decides, and how it is drawn."""

    text: str
    value: float
    class_: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the two things that an analysis is drawn by; `value` is None where there is nothing to draw."""

    noun: str
    value: Callable[[Analysis], float | None]
    thresholds: Callable[[Sequence[Analysis]], list[Threshold]]
    scale: Callable[[Sequence[Analysis], float, float], Scale]
    written: Callable[[float], str]
    # What should be known of the axis, for the line under the title.
    how: Callable[[Sequence[Analysis]], str]

    def gap(self, one: Analysis) -> str | None:
        """Say why a window could not be judged; None where it was.

        Under a promise a baseline that carries none judges nothing, whatever the score is.
        """
        if self.noun == "evidence" and one.evidence is None and one.status not in {"NoData", "Late"}:
            return NO_PROMISE
        return UNJUDGED.get(one.status)

    def highest(self, analyses: Sequence[Analysis]) -> float:
        """Return the greatest value, 0 where there is none."""
        return max((value for one in analyses if (value := self.value(one)) is not None), default=0.0)


def under_promise(analyses: Sequence[Analysis]) -> bool:
    """Say whether a promise decides over these windows, and not a threshold of the score."""
    return bool(analyses) and all(one.alert_threshold is None for one in analyses)


def measure_of(analyses: Sequence[Analysis]) -> Measure:
    """Return what these windows were decided by."""
    return EVIDENCE if under_promise(analyses) else SCORE


def _score_thresholds(analyses: Sequence[Analysis]) -> list[Threshold]:
    alerts = {one.alert_threshold for one in analyses if one.alert_threshold is not None}
    warnings = {one.warning_threshold for one in analyses if one.warning_threshold is not None}
    named = [Threshold(f"alert at {value:g}", value, "dl-alert") for value in sorted(alerts)]
    return named + [Threshold(f"warning at {value:g}", value, "dl-warn") for value in sorted(warnings)]


def _score_scale(analyses: Sequence[Analysis], start: float, end: float) -> Scale:
    scores = [one.score for one in analyses if one.score is not None]
    return score_scale(scores, [one.value for one in _score_thresholds(analyses)], start, end)


def _how_scored(analyses: Sequence[Analysis]) -> str:
    scores = [one.score for one in analyses if one.score is not None]
    knee = score_scale(scores, [one.value for one in _score_thresholds(analyses)], 0, 1).knee
    return "" if knee is None else f"; scale linear up to {knee:g}, logarithmic above"


SCORE = Measure(
    noun="score",
    value=lambda one: one.score,
    thresholds=_score_thresholds,
    scale=_score_scale,
    written=figure,
    how=_how_scored,
)


def _evidence(one: Analysis) -> float | None:
    return None if one.evidence is None or one.status in UNJUDGED else one.evidence.value


def _levels(analyses: Sequence[Analysis]) -> list[float]:
    return sorted({one.evidence.alarm_at for one in analyses if one.evidence is not None})


def _evidence_thresholds(analyses: Sequence[Analysis]) -> list[Threshold]:
    alarms = [Threshold(f"alarm at {amount(level)}", level, "dl-alert") for level in _levels(analyses)]
    # Devices that joined raised the level; only the newest warns from here on.
    warnings = [Threshold(f"warning at {amount(_WARNING * level)}", _WARNING * level, "dl-warn")
                for level in _levels(analyses)[-1:]]  # fmt: skip
    return alarms + warnings


def _evidence_scale(analyses: Sequence[Analysis], start: float, end: float) -> Scale:
    values = [value for one in analyses if (value := _evidence(one)) is not None]
    return evidence_scale(_levels(analyses), values, start, end)


EVIDENCE = Measure(
    noun="evidence",
    value=_evidence,
    thresholds=_evidence_thresholds,
    scale=_evidence_scale,
    written=amount,
    how=lambda _: "; logarithmic scale",
)


def measured_text(measure: Measure, analyses: Sequence[Analysis]) -> str:
    """Write what is measured, to follow the assay's name: its metric, or evidence."""
    return ", evidence for drift" if measure is EVIDENCE else metric_text({one.metric for one in analyses})
