"""The hours in which a site is open, as its clock on the wall shows them."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from driftline.assay.season import Cycle, zone_of
from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError

Openness = Literal["open", "partly", "closed"]

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FORM = "write them as 'Mon-Fri 07:00-12:00,13:00-20:00; Sat 08:00-16:00', or 'daily 08:00-22:00'"


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When a site is open: for each weekday from Monday on, spans of local minutes; one may end after midnight.

    >>> hours = OpeningHours.parse("Mon-Sat 07:00-20:00", "Europe/Zurich")
    >>> monday_noon_ns = 4 * 86_400 * NS_PER_S + 11 * 3600 * NS_PER_S
    >>> hours.is_open(monday_noon_ns, monday_noon_ns + 60 * NS_PER_S)
    'open'
    """

    spans: tuple[tuple[tuple[int, int], ...], ...]
    zone: str = "UTC"

    @staticmethod
    def parse(text: str, zone: str = "UTC") -> "OpeningHours":
        """Read hours: groups of days and spans, separated by semicolons; a span that ends earlier ends the next day.

        Raises:
            InvalidInputError: not such hours, or no such time zone; the message says how they are written.
        """
        zone_of(zone)
        spans: list[list[tuple[int, int]]] = [[] for _ in DAYS]
        groups = [group.strip() for group in text.split(";") if group.strip()]
        if not groups:
            raise InvalidInputError(f"no opening hours in {text!r}; {_FORM}")
        for group in groups:
            if not any(map(str.isdigit, group)):
                raise InvalidInputError(f"{group!r} names no hours; {_FORM}")
            days, hours = re.fullmatch(r"(\D*)(.*)", group, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
            found = [_span(span.strip(), group) for span in hours.split(",")]
            for day in _days(days.strip(), group):
                spans[day] += found
        return OpeningHours(tuple(tuple(sorted(day)) for day in spans), zone)

    def is_open(self, start_ns: int, end_ns: int) -> Openness:
        """Say whether a site is open all the time from start to end, a part of it, or not at all."""
        open_ns, upto = 0, start_ns
        for opens, closes in self._utc(start_ns, end_ns):
            first, last = max(opens, upto), min(closes, end_ns)
            if last > first:
                open_ns += last - first
                upto = last
        if open_ns >= end_ns - start_ns:
            return "open"
        return "partly" if open_ns else "closed"

    def asked(self, cycle: Cycle) -> NDArray[np.bool_]:
        """Return of which hours of the day (24) or week (168) a site is open for the whole of it."""
        minutes = np.zeros(7 * 24 * 60, dtype=bool)
        for day, spans in enumerate(self.spans):
            for begins, ends in spans:
                minutes[(day * 1440 + np.arange(begins, ends)) % minutes.size] = True
        hours = np.asarray(minutes.reshape(7, 24, 60).all(axis=2))
        return np.asarray(hours.any(axis=0)) if cycle == "day" else hours.ravel()

    def _utc(self, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """Return the spans near these times, as they really are, in time order."""
        zone = zone_of(self.zone)
        # A span may have begun the day before, and local days do not begin where those of UTC do.
        day = datetime.fromtimestamp(start_ns // NS_PER_S, zone).date() - timedelta(days=1)
        last = datetime.fromtimestamp(end_ns // NS_PER_S, zone).date()
        found: list[tuple[int, int]] = []
        while day <= last:
            # An hour that comes twice is open twice: from its first beginning to its second end.
            found += [(_ns(day, a, zone, 0), _ns(day, b, zone, 1)) for a, b in self.spans[day.weekday()]]
            day += timedelta(days=1)
        return sorted(found)


def _ns(day: date, minute: int, zone: ZoneInfo, fold: int) -> int:
    midnight = datetime.combine(day, time(fold=fold)) + timedelta(minutes=minute)
    local = midnight.replace(tzinfo=zone, fold=fold)
    skipped = 0
    # A time that the clock jumps over is the moment of the jump: the end of the last minute that there was.
    while datetime.fromtimestamp(local.timestamp(), zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        local -= timedelta(minutes=1)
        skipped = 60
    return (round(local.timestamp()) + skipped) * NS_PER_S


def _days(text: str, group: str) -> list[int]:
    if text.lower() == "daily":
        return list(range(7))
    days: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        a, b = _day(first, group), _day(last or first, group)
        days += [(a + i) % 7 for i in range((b - a) % 7 + 1)]
    return days


def _day(name: str, group: str) -> int:
    # A name may be cut short, as Tue and Thurs are; Monsoon is none.
    short = name.strip().lower().removesuffix(".")
    found = [day for day, whole in enumerate(DAYS) if len(short) >= 3 and whole.startswith(short)]
    if not found:
        raise InvalidInputError(f"{name!r} in {group!r} is no weekday; {_FORM}")
    return found[0]


def _span(text: str, group: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})", text)
    if found is None:
        raise InvalidInputError(f"{text!r} in {group!r} are no hours; {_FORM}")
    h1, m1, h2, m2 = map(int, found.groups())
    begins, ends = h1 * 60 + m1, h2 * 60 + m2
    if m1 > 59 or m2 > 59 or begins >= 1440 or ends > 1440:
        raise InvalidInputError(f"{text!r} in {group!r}: a day goes from 00:00 to 24:00; {_FORM}")
    if begins == ends:
        raise InvalidInputError(f"{text!r} in {group!r} begins where it ends; all day is 00:00-24:00")
    return begins, ends if ends > begins else ends + 1440
