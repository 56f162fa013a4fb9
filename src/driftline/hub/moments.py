"""Times as people read them, on pages and in mails: to the minute, in UTC."""

import re
from collections.abc import Callable
from typing import TypeVar

from driftline.clock import iso, parse_iso
from driftline.errors import InvalidInputError

T = TypeVar("T")

_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00)", re.ASCII)


def minute(time_ns: int) -> str:
    """Write a time to the minute.

    >>> minute(1_767_261_600_000_000_000)
    '2026-01-01 10:00 UTC'
    """
    return f"{iso(time_ns)[:16].replace('T', ' ')} UTC"


def readable(sentence: str) -> str:
    """Return a sentence with the ISO times in it as people read them.

    >>> readable("silent since 2026-01-01T09:36:00+00:00")
    'silent since 2026-01-01 09:36 UTC'
    """
    return "".join(parts(sentence, minute, str))


def parts(sentence: str, time: Callable[[int], T], words: Callable[[str], T]) -> list[T]:
    """Return what a function makes of each ISO time (ns) in a sentence, and another of the words between.

    >>> parts("2026-13-01T09:36:00+00:00 is none", minute, str)
    ['', '2026-13-01T09:36:00+00:00', ' is none']
    """
    found: list[T] = []
    for at, part in enumerate(_ISO.split(sentence)):
        time_ns = _time(part) if at % 2 else None
        found.append(words(part) if time_ns is None else time(time_ns))
    return found


def _time(text: str) -> int | None:
    try:
        return parse_iso(text)
    except InvalidInputError:  # somebody's name looks like one
        return None
