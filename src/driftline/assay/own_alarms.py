"""How many of a baseline's own windows reach a fixed threshold: its rate for frames that depend on each other.

A rate worked out for independent rows (`driftline.assay.false_alarms`) is far too low where consecutive frames resemble
each other: over a real shelf 11 of 11 healthy windows of 90 frames reach a PSI of 0.25, and independent ones fewer than
1 %. The baseline's own windows, each compared with the rest, need no such assumption.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.assay.analysis import Baseline, Part, baseline_of, compare, judged_by, min_count, unjudgeable
from driftline.assay.baseline import BaselineData
from driftline.assay.own_windows import ALONE_FROM, WINDOWS_MIN, apart, folds
from driftline.wire import api

# A share of 1 % needs a hundred windows to be seen; more of a long baseline, evenly taken, would only take time.
WINDOWS_MAX = 200


@dataclass(frozen=True)
class OwnAlarms:
    """Of so many `windows` that can be judged, so many `reach` the threshold."""

    threshold: float
    windows: int
    reach: int

    @property
    def share(self) -> float:
        """The share that reaches it; 0 of no window."""
        return self.reach / self.windows if self.windows else 0.0

    @property
    def text(self) -> str:
        """The same in words."""
        reach = "none" if not self.reach else "all" if self.reach == self.windows else f"{self.reach}"
        return f"of the baseline's own {self.windows} windows {reach} reach {self.threshold:g}"


def own_alarms(spec: api.AssaySpec, baseline: Baseline, windows: Sequence[Sequence[Part]]) -> OwnAlarms | None:
    """Count the baseline's own windows, in time order, that reach the fixed threshold.

    Each is compared with the baseline without it and its neighbours; of a long one with all of it, where its own part
    is small. None under a promise, and where fewer than five windows can be judged.
    """
    if isinstance(spec.alarm, api.Promise) or not baseline.usable:
        return None
    threshold = spec.alarm.threshold
    scores = _scores(spec, baseline, windows)
    if len(scores) < WINDOWS_MIN:
        return None
    return OwnAlarms(threshold, len(scores), sum(score >= threshold for score in scores))


def _scores(spec: api.AssaySpec, baseline: Baseline, windows: Sequence[Sequence[Part]]) -> list[float]:
    count = len(windows)
    if count >= ALONE_FROM:
        chosen = np.linspace(0, count - 1, min(count, WINDOWS_MAX)).round().astype(int).tolist()
        return _scored(spec, baseline, [windows[i] for i in chosen])
    field_type = baseline.field_type if isinstance(baseline, BaselineData) else "string"
    scores: list[float] = []
    near = apart(count)
    for first, end in folds(count):
        rest = [part for one in (*windows[: max(0, first - near)], *windows[end + near :]) for part in one]
        scores += _scored(spec, baseline_of(rest, field_type), windows[first:end])
    return scores


def _scored(spec: api.AssaySpec, baseline: Baseline, windows: Sequence[Sequence[Part]]) -> list[float]:
    read = [baseline.read(parts) for parts in windows]
    judged = [
        one
        for one in read
        if judged_by(spec.summarizer, one) >= min_count(spec) and not unjudgeable(spec.summarizer, baseline, one)
    ]
    return [compare(spec.summarizer, baseline, one).measured.score for one in judged]
