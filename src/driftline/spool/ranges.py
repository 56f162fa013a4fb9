"""Sets of sequences as ranges: months of acknowledged records are one pair of numbers.

`Ranges` are pairs of first and last, both included, ascending, never touching one another.
"""

from bisect import bisect_right
from collections.abc import Iterable

Range = tuple[int, int]
Ranges = tuple[Range, ...]


def joined(ranges: Iterable[Range]) -> Ranges:
    """Return the same sequences in as few ranges as they need.

    >>> joined([(7, 9), (1, 3), (4, 4), (9, 6)])
    ((1, 4), (7, 9))
    """
    found: list[Range] = []
    for first, last in sorted(one for one in ranges if one[0] <= one[1]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def without(ranges: Ranges, others: Ranges) -> Ranges:
    """Return what lies in `ranges` and not in `others`.

    >>> without(((1, 10),), ((2, 3), (9, 20)))
    ((1, 1), (4, 8))
    """
    found: list[Range] = []
    for first, last in ranges:
        at = first
        for begin, end in others[max(0, bisect_right(others, (first,)) - 1) :]:
            if begin > last:
                break
            if begin > at:
                found.append((at, begin - 1))
            at = max(at, end + 1)
        if at <= last:
            found.append((at, last))
    return tuple(found)


def within(ranges: Ranges, others: Ranges) -> Ranges:
    """Return what lies in both.

    >>> within(((1, 10),), ((2, 3), (9, 20)))
    ((2, 3), (9, 10))
    """
    return without(ranges, without(ranges, others))


def covers(ranges: Ranges, sequence: int) -> bool:
    """Return whether a sequence lies in one of the ranges."""
    at = bisect_right(ranges, (sequence + 1,))
    return at > 0 and sequence <= ranges[at - 1][1]


def length(ranges: Ranges) -> int:
    """Return how many sequences these are."""
    return sum(last - first + 1 for first, last in ranges)
