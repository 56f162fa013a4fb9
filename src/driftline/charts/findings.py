"""What analyses say, in one line: which device is in alarm since when, and what moved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from driftline.charts.measure import EVIDENCE, SCORE, measure_of, under_promise
from driftline.charts.scale import amount, clock_text
from driftline.charts.svg import stretches
from driftline.clock import NS_PER_S
from driftline.wire.api import Analysis, Effect

# A shift below this many standard deviations is told only where nothing else moved.
_CLEAR_SHIFT = 0.5
# A share below this is not worth a word.
_CLEAR_SHARE = 0.01
# A statistic within so many standard deviations of what is usual is no reason for anything.
_TELLING = 2.0
_ROUNDED_AWAY = 0.005


@dataclass(frozen=True, slots=True)
class Alarm:
    """The newest stretch in which something alerted; it lasts where `until_ns` is None. `newest` is its last alert."""

    since_ns: int
    until_ns: int | None
    newest: Analysis


def alarm_of(own: Sequence[Analysis]) -> Alarm | None:
    """Return the newest alarm of one device and field, from its windows in time order.

    Windows that could not be judged neither begin nor end one. One that came back is over "between" its first and
    its last alert.
    """
    judged = [one for one in own if measure_of(own).gap(one) is None]
    runs = stretches([one.status == "Alert" for one in judged])
    if not runs:
        return None
    first, end = runs[-1]
    if end == len(judged):
        return Alarm(judged[first].start_ns, None, judged[-1])
    return Alarm(judged[runs[0][0]].start_ns, judged[end - 1].end_ns, judged[end - 1])


def finding(analyses: Sequence[Analysis]) -> str:
    """Say in one line which devices alert since when, or that none does; there is at least one analysis."""
    streams = by_stream(analyses)
    alarms = {key: alarm for key, own in streams.items() if (alarm := alarm_of(own)) is not None}
    lasting = {key: alarm for key, alarm in alarms.items() if alarm.until_ns is None}
    told = lasting or alarms
    if told:
        when = _when(told.values(), days=several_days(analyses))
        return _promised(told, streams, when) if under_promise(analyses) else _fixed(told, analyses, when)
    measure = measure_of(analyses)
    if all(measure.gap(one) is not None for one in analyses):
        return f"{fields_text(analyses)}: nothing could be judged"
    return _calm(analyses)


def _when(alarms: Iterable[Alarm], *, days: bool) -> str:
    every = list(alarms)
    since = clock_text(min(one.since_ns for one in every), with_day=days)
    untils = [one.until_ns for one in every if one.until_ns is not None]
    if len(untils) < len(every):
        return f"since {since} UTC"
    return f"between {since} and {clock_text(max(untils), with_day=days)} UTC"


def _fixed(told: dict[tuple[str, str], Alarm], analyses: Sequence[Analysis], when: str) -> str:
    devices = {device for device, _ in told}
    fields = sorted({field for _, field in told})
    every = {one.device for one in analyses}
    return f"{' and '.join(fields)}: {listed(devices, len(every))} over {_limit(analyses)} {when}"


def _promised(told: dict[tuple[str, str], Alarm], streams: dict[tuple[str, str], list[Analysis]], when: str) -> str:
    devices, fields = {device for device, _ in told}, {field for _, field in told}
    worst = min(told, key=lambda key: (-EVIDENCE.highest([told[key].newest]), key))
    if len(told) == 1:
        moved = what_moved(told[worst].newest)
        return f"{worst[0]}: {worst[1]} in alarm {when}{f'; {moved}' if moved else ''}"
    if len(fields) == 1:
        every = {device for device, _ in streams}
        return f"{worst[1]}: {listed(devices, len(every))} in alarm {when}"
    if len(devices) == 1:
        return f"{worst[0]}: {listed(fields, len({field for _, field in streams}))} in alarm {when}"
    return f"{worst[0]} {worst[1]} and {len(told) - 1} more in alarm {when}"


def _calm(analyses: Sequence[Analysis]) -> str:
    devices = sorted({one.device for one in analyses})
    what = fields_text(analyses)
    if under_promise(analyses):
        highest = EVIDENCE.highest(analyses)
        of = max((one.evidence.alarm_at for one in analyses if one.evidence is not None), default=0.0)
        where = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
        return f"{what}: no alarm on {where}; the highest evidence is {amount(highest)} of {amount(of)}"
    limit = _limit(analyses)
    return f"{what}: {devices[0]} stays under {limit}" if len(devices) == 1 else f"{what}: no device over {limit}"


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────


def by_stream(analyses: Sequence[Analysis]) -> dict[tuple[str, str], list[Analysis]]:
    """Return each device and field's windows in time order, by name."""
    ordered = sorted(analyses, key=lambda one: (one.device, one.field, one.start_ns))
    return {key: list(own) for key, own in groupby(ordered, key=lambda one: (one.device, one.field))}


def fields_text(analyses: Sequence[Analysis]) -> str:
    """Name the fields, or count them."""
    fields = {one.field or one.name for one in analyses}
    return " and ".join(sorted(fields)) if len(fields) <= 2 else f"{len(fields)} fields"


def listed(names: Iterable[str], of: int) -> str:
    """Name up to three, else count them.

    >>> listed(["b", "a"], 5), listed("abcd", 5)
    ('a and b', '4 of 5')
    """
    every = sorted(names)
    if len(every) > 3:
        return f"{len(every)} of {of}"
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}"


def several_days(analyses: Sequence[Analysis]) -> bool:
    """Say whether the windows reach over midnight."""
    day_ns = 86_400 * NS_PER_S
    start, end = min(one.start_ns for one in analyses), max(one.end_ns for one in analyses)
    return start // day_ns != (end - 1) // day_ns


def _limit(analyses: Sequence[Analysis]) -> str:
    limits = SCORE.thresholds(analyses)
    alerts = [one.value for one in limits if one.class_ == "dl-alert"]
    return f"{alerts[0]:g}" if len(alerts) == 1 else "their threshold"


# ── effects ──────────────────────────────────────────────────────────────────────────────────────────────────────


def what_moved(analysis: Analysis) -> str:
    """Say the one thing that moved most, as the end of a sentence; '' where nothing is worth a word.

    Under a promise it is the statistic that lies farthest from what is usual. An alarm lasts over windows that speak
    against it: one within two standard deviations tells of nothing.
    """
    effect = analysis.effect
    if effect is None:
        return ""
    residuals = {} if analysis.evidence is None else analysis.evidence.residuals
    if residuals:
        most = max(residuals, key=lambda name: abs(residuals[name]))
        return _moved(most, residuals[most], effect, analysis) if abs(residuals[most]) >= _TELLING else ""
    shift = effect.mean_shift
    if shift is not None and abs(shift) >= _CLEAR_SHIFT:
        return f"the mean moved by {signed(shift)} sd"
    shares = [one for one in (_outside(effect, analysis), _missing(effect)) if one]
    if shares:
        return shares[0]
    return f"the mean moved by {signed(shift)} sd" if shift is not None and abs(shift) >= _ROUNDED_AWAY else ""


def _moved(statistic: str, residual: float, effect: Effect, analysis: Analysis) -> str:
    """Say what a statistic's distance means, in the units of its effect."""
    if statistic == "location" and effect.mean_shift is not None:
        return f"the mean moved by {signed(effect.mean_shift)} sd"
    if statistic == "spread":
        return f"the spread {'grew' if residual > 0 else 'shrank'}"
    share = {"missing": _missing(effect), "outside": _outside(effect, analysis)}.get(statistic)
    of_text = analysis.bins is not None and not analysis.bins.edges
    return share or ("the mix changed" if of_text else "the shape changed")


def effect_text(analysis: Analysis) -> str:
    """List what changed: "mean −3.1 sd, 84% beyond the baseline's range"; '' where there is nothing to compare."""
    effect = analysis.effect
    if effect is None:
        return ""
    mean = "" if effect.mean_shift is None else f"mean {signed(effect.mean_shift)} sd"
    return ", ".join(one for one in (mean, _outside(effect, analysis), _missing(effect)) if one)


def is_category(analysis: Analysis) -> bool:
    """Say whether the window holds names and not numbers: it then has bins without edges, and no least value."""
    return analysis.bins is not None and not analysis.bins.edges and analysis.min is None


def signed(value: float) -> str:
    """Write a shift with its sign.

    >>> signed(-3.14), signed(0.04), signed(0.001), signed(12345.0)
    ('−3.1', '+0.04', '0', '+12,300')
    """
    if abs(value) < _ROUNDED_AWAY:
        return "0"
    sign = "−" if value < 0 else "+"
    size = abs(value)
    return sign + (amount(size) if size >= 100 else f"{size:.1f}" if size >= 0.95 else f"{size:.1g}")


def _outside(effect: Effect, analysis: Analysis) -> str:
    if effect.outside is None or effect.outside < _CLEAR_SHARE:
        return ""
    if is_category(analysis):
        return f"{effect.outside:.0%} in categories that the baseline does not have"
    return f"{effect.outside:.0%} beyond the baseline's range"


def _missing(effect: Effect) -> str:
    change = effect.missing_change
    if abs(change) < _CLEAR_SHARE:
        return ""
    return f"{abs(change):.0%} {'more' if change > 0 else 'fewer'} have no value"
