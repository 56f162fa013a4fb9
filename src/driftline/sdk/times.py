"""Datetimes as people give them, and as tables show them."""

from datetime import UTC, datetime, timedelta

from driftline import clock
from driftline.errors import InvalidInputError

Moment = datetime | str


def to_ns(moment: Moment, name: str) -> int:
    """Return nanoseconds since 1970 UTC; a naive datetime is UTC, text is ISO 8601.

    Raises:
        InvalidInputError: neither a datetime nor such a text; `name` is the argument it came in.
    """
    if isinstance(moment, str):
        return clock.parse_iso(moment)
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"{name} is {moment!r}; give a datetime (a naive one is UTC) or ISO 8601 text")
    return clock.to_ns(moment)


def to_ns_or_none(moment: Moment | None, name: str) -> int | None:
    """Return nanoseconds, or None where nothing was given."""
    return None if moment is None else to_ns(moment, name)


def from_ns(time_ns: int) -> datetime:
    """Return an aware datetime in UTC, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
