"""From values and times to places on a chart, and where to write the ticks."""

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from driftline.assay.metrics import METRICS
from driftline.clock import NS_PER_S
from driftline.wire.api import Metric

MINUTE, HOUR, DAY = 60, 3600, 86_400
_STEPS_S = (
    MINUTE, 2 * MINUTE, 3 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR,
    2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY,
)  # fmt: skip
# A score this many times the threshold leaves the linear part under it too flat to read.
_LINEAR_UPTO = 6.0


@dataclass(frozen=True, slots=True)
class Linear:
    """Places from `start` to `end` for values from `low` to `high`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """A score's height: linear from 0 to `knee`, which takes the lowest `share`; logarithmic above, up to `top`.

    Scores of 0.01 and of 14 are then on one chart with a threshold of 0.25, and all three can be read. Where no score
    is far above the threshold it is linear throughout (`knee` None).
    """

    top: float
    knee: float | None
    start: float
    end: float
    share: float = 0.42

    def __call__(self, score: float) -> float:
        """Return the height of a score."""
        if self.knee is None:
            part = score / self.top
        elif score <= self.knee:
            part = self.share * score / self.knee
        else:
            part = self.share + (1 - self.share) * math.log(score / self.knee) / math.log(self.top / self.knee)
        return self.start + (self.end - self.start) * max(0.0, part)

    @property
    def ticks(self) -> list[float]:
        """Round scores for the axis, ascending."""
        if self.knee is None:
            return even_ticks(0.0, self.top, 5)
        below = [tick for tick in even_ticks(0.0, self.knee, 2) if tick <= self.knee]
        exponents = range(math.floor(math.log10(self.knee)), math.ceil(math.log10(self.top)) + 1)
        above = [digit * 10.0**e for e in exponents for digit in (1, 2, 5)]
        above = [tick for tick in above if self.knee * 1.3 < tick <= self.top * 1.0001]
        # Of a long axis every decade is enough.
        return below + (above if len(above) <= 7 else [tick for tick in above if math.log10(tick) % 1 < 1e-9])

    @property
    def tick_texts(self) -> list[str]:
        """How the ticks are written."""
        return [f"{tick:g}" for tick in self.ticks]


@dataclass(frozen=True, slots=True)
class EvidenceScale:
    """Evidence's height: logarithmic from `low`, where everything less is drawn too, to `high`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the height of a value."""
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + (self.end - self.start) * min(1.0, part)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten for the axis, ascending; of many every second or third."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 7)]

    @property
    def tick_texts(self) -> list[str]:
        """How the ticks are written: shortly, because they stand in the margin."""
        return [_short_amount(tick) for tick in self.ticks]


def evidence_scale(alarm_levels: Sequence[float], values: Sequence[float], start: float, end: float) -> EvidenceScale:
    """Choose a scale from no evidence worth a mention up to all that is ever kept: ten times the alarm level."""
    levels = [level for level in alarm_levels if level > 0] or [1000.0]
    # Evidence of 1 is what a window without any news adds; a low alarm level needs room under it all the same.
    return EvidenceScale(min(1.0, min(levels) / 100), max(12 * max(levels), *values, 0.0), start, end)


def score_scale(scores: Sequence[float], thresholds: Sequence[float], start: float, end: float) -> ScoreScale:
    """Choose a scale that shows every score and every threshold."""
    alert = max(thresholds, default=0.0)
    highest = max([*scores, 0.0])
    if alert <= 0 or highest <= _LINEAR_UPTO * alert:
        top = nice_above(max(highest * 1.08, alert * 1.5)) or 1.0
        return ScoreScale(top, None, start, end)
    return ScoreScale(highest * 1.3, alert, start, end)


def even_ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values within [low, high], about so many steps.

    >>> even_ticks(0.0, 1.2, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    """
    if not high > low:
        return [low]
    step = _nice((high - low) / about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded, because 3 × 0.1 is written 0.30000000000000004; as finely as neighbours need to differ.
    return [float(f"{i * step:.{_digits(i * step, step)}g}") for i in range(first, last + 1)]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Write ticks with as many digits as tell them apart.

    >>> tick_texts([0.2, 0.4]), tick_texts([1000000000.0, 1000000250.0])
    (['0.2', '0.4'], ['1000000000', '1000000250'])
    """
    if len(ticks) < 2:
        return [f"{tick:g}" for tick in ticks]
    step = ticks[1] - ticks[0]
    return [f"{tick:.{max(6, _digits(tick, step))}g}" for tick in ticks]


def _digits(value: float, step: float) -> int:
    """Return how many significant digits a value needs to show a hundredth of a step; a float64 has 17."""
    if not value:
        return 1
    return max(1, min(17, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)) + 3))


def nice_above(value: float) -> float:
    """Return the next round number: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten.

    >>> nice_above(0.37), nice_above(11.0), nice_above(0.0)
    (0.4, 12.0, 0.0)
    """
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    digits = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return float(f"{next(d for d in digits if d * power >= value * (1 - 1e-12)) * power:.12g}")


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= step * 0.8)


@dataclass(frozen=True, slots=True)
class TimeTick:
    """A moment on the axis; `date` is written under it where a day begins."""

    time_ns: int
    text: str
    date: str | None = None


def time_ticks(start_ns: int, end_ns: int, most: int) -> list[TimeTick]:
    """Return round moments in UTC within [start, end], whole minutes at least apart, at most so many.

    >>> [tick.text for tick in time_ticks(0, 600 * NS_PER_S, 6)]
    ['00:00', '00:02', '00:04', '00:06', '00:08', '00:10']
    """
    span_s = (end_ns - start_ns) / NS_PER_S
    step_s = next((step for step in _STEPS_S if span_s / step < most), _STEPS_S[-1])
    first = -(-start_ns // (step_s * NS_PER_S))
    ticks: list[TimeTick] = []
    day_before: str | None = None
    for index in range(first, end_ns // (step_s * NS_PER_S) + 1):
        moment = datetime.fromtimestamp(index * step_s, UTC)
        day = day_text(moment)
        if step_s >= DAY:
            ticks.append(TimeTick(index * step_s * NS_PER_S, day))
        else:
            date = day if day != day_before else None
            ticks.append(TimeTick(index * step_s * NS_PER_S, moment.strftime("%H:%M"), date))
        day_before = day
    return ticks


def day_text(moment: datetime) -> str:
    """Write a day shortly: 1 Jan."""
    return f"{moment.day} {moment:%b}"


def clock_text(time_ns: int, *, with_day: bool = False) -> str:
    """Write a moment of the day in UTC, with seconds where there are any.

    >>> clock_text(34_560 * NS_PER_S), clock_text(34_560 * NS_PER_S, with_day=True)
    ('09:36', '1 Jan 09:36')
    """
    moment = datetime.fromtimestamp(time_ns // NS_PER_S, UTC)
    text = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    return f"{day_text(moment)} {text}" if with_day else text


def span_text(start_ns: int, end_ns: int) -> str:
    """Write a stretch of time in UTC with its day or days.

    >>> span_text(34_560 * NS_PER_S, 34_740 * NS_PER_S)
    '1 Jan 1970, 09:36–09:39 UTC'
    """
    start = datetime.fromtimestamp(start_ns // NS_PER_S, UTC)
    end = datetime.fromtimestamp(end_ns // NS_PER_S, UTC)
    if start.date() == end.date():
        return f"{day_text(start)} {start.year}, {clock_text(start_ns)}–{clock_text(end_ns)} UTC"
    first = day_text(start) if start.year == end.year else f"{day_text(start)} {start.year}"
    return f"{first} {clock_text(start_ns)} – {day_text(end)} {clock_text(end_ns)}, {end.year}, UTC"


def duration_text(seconds: float) -> str:
    """Write a length of time in its largest whole unit.

    >>> duration_text(180), duration_text(86_400), duration_text(90)
    ('3-minute', '1-day', '90-second')
    """
    for size, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}-{name}"
    return f"{seconds:g}-second"


def figure(value: float) -> str:
    """Write a value for people: three significant digits, plainly.

    >>> figure(0.0312), figure(14.26), figure(1234.5), figure(1e-7)
    ('0.0312', '14.3', '1234', '1e-07')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def amount(value: float) -> str:
    """Write a large number so that it is read at a glance: three significant digits, thousands apart.

    >>> amount(9_600.0), amount(175_200.0), amount(2_500_000.0), amount(0.1234)
    ('9,600', '175,000', '2.5 million', '0.123')
    """
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short_amount(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * size or value == size > 1e3:
            return f"{value / size:,.0f}{letter}"
    return amount(value)


def metric_text(metrics: AbstractSet[Metric | None]) -> str:
    """Write what scores measure, and in which unit where they have one, to follow other words.

    >>> metric_text({"wasserstein"}), metric_text({"psi"}), metric_text({None}), metric_text({"psi", "ks"})
    (", Wasserstein distance in the field's unit", ', PSI', '', '')
    """
    (metric, *others) = metrics
    if metric is None or others:
        return ""
    kind = METRICS[metric]
    return f", {kind.name} {kind.unit}".rstrip()
