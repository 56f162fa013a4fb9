"""Datetimes and durations as people give them, and as tables show them."""

import re
import warnings
from datetime import UTC, datetime, timedelta

from driftline import clock
from driftline.errors import InvalidInputError

Moment = datetime | str

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_DURATION_MAX_S = 1000 * 365.25 * 86_400
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+?)s?")


class NaiveTimeWarning(UserWarning):
    """A datetime without a time zone was read as UTC, as on the reference platform."""


def to_ns(moment: Moment, name: str) -> int:
    """Return nanoseconds since 1970 UTC; a naive datetime is UTC, text is ISO 8601.

    Raises:
        InvalidInputError: neither a datetime nor such a text; `name` is the argument it came in.
    """
    if isinstance(moment, str):
        return clock.parse_iso(moment)
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"{name} is {moment!r}; give a datetime (a naive one is UTC) or ISO 8601 text")
    if moment != moment:  # noqa: PLR0124  only pandas' NaT, a datetime too, differs from itself
        raise InvalidInputError(
            f"{name} is NaT, no time at all, such as the least of a log without rows; wait for the device's first sync"
        )
    if moment.tzinfo is None:
        warnings.warn(f"{name}={moment} has no time zone and is read as UTC", NaiveTimeWarning, stacklevel=3)
    return clock.to_ns(moment)


def to_ns_or_none(moment: Moment | None, name: str) -> int | None:
    """Return nanoseconds, or None where nothing was given."""
    return None if moment is None else to_ns(moment, name)


def from_ns(time_ns: int) -> datetime:
    """Return an aware datetime in UTC, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)


def duration_s(duration: object, name: str, example: str) -> int:
    """Return seconds of a text such as '30 days', or of a timedelta.

    Raises:
        InvalidInputError: neither, or not above 0; `name` is the argument it came in, `example` what would do.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else _spelled_s(duration)
    if seconds is None:
        raise InvalidInputError(
            f"{name} is {duration!r:.60}; give a number of weeks, days, hours, minutes or seconds, such as "
            f"{example!r}, or a timedelta"
        )
    if not 1 <= seconds <= _DURATION_MAX_S:
        raise InvalidInputError(
            f"{name} is {duration!r:.60}; give a time between a second and a thousand years, such as {example!r}"
        )
    return round(seconds)


def _spelled_s(text: object) -> float | None:
    found = _DURATION.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None or found[2] not in _UNITS_S:
        return None
    return float(found[1]) * _UNITS_S[found[2]]


def duration_text(seconds: int) -> str:
    """Return a duration in the largest unit from days down that it is a whole number of.

    >>> duration_text(2_592_000), duration_text(3600), duration_text(90)
    ('30 days', '1 hour', '90 seconds')
    """
    unit = next(name for name in ("day", "hour", "minute", "second") if seconds % _UNITS_S[name] == 0)
    number = seconds // _UNITS_S[unit]
    return f"{number} {unit}{'' if number == 1 else 's'}"
