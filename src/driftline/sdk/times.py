"""Datetimes as people give them, and as tables show them."""

import warnings
from datetime import UTC, datetime, timedelta

from driftline import clock
from driftline.errors import InvalidInputError

Moment = datetime | str


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
