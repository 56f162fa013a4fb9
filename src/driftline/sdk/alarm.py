"""When an assay alarms: from a fixed score on, or as rarely without a cause as its owner can bear."""

import math
from dataclasses import dataclass
from datetime import timedelta

from driftline.errors import InvalidInputError
from driftline.sdk.times import duration_s, duration_text
from driftline.wire import api


@dataclass(frozen=True)
class Fixed:
    """Alert where a window's score reaches `threshold`, as the reference platform does; `warning` is a lower score.

    How often that is a false alarm depends on how many values a window has: it promises nothing.

    Raises:
        InvalidInputError: not a score, 0 or more.
    """

    threshold: float = 0.25
    warning: float | None = None

    def __post_init__(self) -> None:
        _check_score("alert", self.threshold)
        if self.warning is not None:
            _check_score("warning", self.warning)

    @property
    def message(self) -> api.Fixed:
        """The same as the hub reads it."""
        return api.Fixed(threshold=float(self.threshold), warning=None if self.warning is None else float(self.warning))


@dataclass(frozen=True)
class Promise:
    """Alert so rarely without drift: one false alarm in this time, over all devices and fields of the assay together.

    `false_alarm_every` is text such as '30 days', '12 hours' or '2 weeks', or a timedelta. `min_effect` is a shift in
    the baseline's standard deviations: what is not surely that large is a Warning at most. `seed` makes a rerun decide
    the same.

    Raises:
        InvalidInputError: not a time, not an effect, or not a whole number.
    """

    false_alarm_every: str | timedelta
    min_effect: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        duration_s(self.false_alarm_every, "false_alarm_every", "30 days")
        if self.min_effect is not None and not _is_amount(self.min_effect):
            raise InvalidInputError(
                f"min_effect is {self.min_effect!r}; it is a shift in the baseline's standard deviations, 0 or more, "
                "such as 0.1"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(f"seed is {self.seed!r}; give a whole number of 0 or more, 0 is usual")

    @property
    def message(self) -> api.Promise:
        """The same as the hub reads it."""
        return api.Promise(
            false_alarm_every_s=duration_s(self.false_alarm_every, "false_alarm_every", "30 days"),
            min_effect=None if self.min_effect is None else float(self.min_effect),
            seed=self.seed,
        )


def message_of(alarm: object) -> api.Fixed | api.Promise:
    """Return an alarm as the hub reads it.

    Raises:
        InvalidInputError: it is neither of the two.
    """
    if isinstance(alarm, Fixed | Promise):
        return alarm.message
    raise InvalidInputError(
        f"alarm is {alarm!r:.60}; give driftline.Promise('30 days'), or driftline.Fixed(0.25) for a score of the "
        "reference platform's kind"
    )


def told(alarm: api.Fixed | api.Promise) -> str:
    """Say in words when an assay alarms.

    >>> told(api.Fixed(threshold=0.25, warning=0.1)), told(api.Promise(false_alarm_every_s=2_592_000))
    ('score 0.25 (warning 0.1)', 'one false alarm in 30 days')
    """
    if isinstance(alarm, api.Fixed):
        return f"score {alarm.threshold:g}" + ("" if alarm.warning is None else f" (warning {alarm.warning:g})")
    effect = "" if alarm.min_effect is None else f", of shifts from {alarm.min_effect:g} sd on"
    return f"one false alarm in {duration_text(alarm.false_alarm_every_s)}{effect}"


def _check_score(name: str, value: object) -> None:
    if not _is_amount(value):
        raise InvalidInputError(f"the {name} threshold is {value!r}; it is a score, 0 or more, and 0.25 is usual")


def _is_amount(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value >= 0
