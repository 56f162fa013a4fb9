"""What was seen of a text field, and what its windows are compared with: counts by category.

A device keeps 64 names apart, those that come first in the order of a checksum; the rest is `other`. So a summary says
everything about the names up to its limit and nothing about single ones beyond. A window and its baseline are both cut
at the earlier of their limits, as bin edges snap to a grid: what lies beyond is other on both sides. That costs power,
never makes a false drift, and never calls a name new that a device had no place for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftline.assay.bins import Layout
from driftline.assay.observed import Floats, Known, Moments, Part
from driftline.errors import InvalidInputError
from driftline.summary.summary import CategorySummary, place_of

# Categories named one by one, the most frequent first; more are read by nobody, and each adds its noise to a score.
NAMED_MAX = 20
OTHER, NEW = "(other)", "(new)"

Limit = tuple[int, str] | None


class Categories:
    """All parts of a text field's window or baseline together."""

    def __init__(self, summary: CategorySummary) -> None:
        self.summary = summary
        self.count, self.missing, self.n = summary.count, summary.missing, summary.n
        self.limit: Limit = summary.limit
        self.counts = dict(summary.counts)

    @classmethod
    def of_parts(cls, parts: Sequence[Part]) -> "Categories":
        """Read parts.

        Raises:
            InvalidInputError: one of them is numbers.
        """
        merged = CategorySummary()
        for part in parts:
            if part.categories is None:
                raise InvalidInputError("numbers were handed to an assay on text; give counts by category")
            merged = merged.merge(part.categories)
        return cls(merged)

    @cached_property
    def moments(self) -> Moments:
        """Counts alone: text has no mean."""
        return Moments(self.count, self.missing)

    def within(self, limit: Limit) -> dict[str, int]:
        """Return the counts of the names up to a limit."""
        if limit is None:
            return self.counts
        return {name: n for name, n in self.counts.items() if place_of(name) <= limit}


@dataclass(frozen=True, slots=True, eq=False)
class CategoryCut:
    """Baseline and window counted alike, shape (named + 2,): each named category, all others, and what is new.

    `hidden` is how many of the window's values lie beyond what both sides tell apart.
    """

    baseline: Floats
    window: Floats
    hidden: int


class CategoryBaseline(Known[Categories]):
    """A baseline's counts by category; the data never changes.

    >>> baseline = CategoryBaseline(Categories(CategorySummary.of(["cat", "cat", "dog"])))
    >>> baseline.layout().labels
    ('cat', 'dog', '(other)', '(new)')
    >>> baseline.cut(Categories(CategorySummary.of(["dog", "owl"]))).window.tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    field_type = "string"
    # Counts by category are all that is kept of text.
    raw = None

    @classmethod
    def of_values(cls, values: Sequence[str | None]) -> "CategoryBaseline":
        """Take names; None is missing."""
        return cls(Categories(CategorySummary.of(values)))

    @classmethod
    def of_parts(cls, parts: Sequence[Part]) -> "CategoryBaseline":
        """Take counts by category."""
        return cls(Categories.of_parts(parts))

    def read(self, parts: Sequence[Part]) -> Categories:
        """Read the parts of a window that is to be compared with this baseline."""
        return Categories.of_parts(parts)

    @property
    def usable(self) -> bool:
        """Whether anything can be compared with it: at least one value."""
        return self.n > 0

    @property
    def seen_once(self) -> int:
        """How many categories came once: about as many values of the next n will be of new ones (Good, 1953)."""
        return sum(n == 1 for n in self.observed.counts.values())

    @cached_property
    def _by_share(self) -> tuple[str, ...]:
        counts = self.observed.counts
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    def layout(self, named: int = NAMED_MAX) -> Layout:
        """Return the bins: the most frequent categories by name, all others, and those the baseline never had.

        Raises:
            InvalidInputError: there is no value to make bins of.
        """
        if not self.usable:
            raise InvalidInputError(
                "the baseline has no value, so there is nothing to compare with; take another baseline"
            )
        labels = (*self._by_share[:named], OTHER, NEW)
        notes: list[str] = []
        if len(self._by_share) > named:
            notes.append(f"the baseline has {self._told} categories; the {named} most frequent are named")
        return Layout(labels, np.empty(0), tuple((i,) for i in range(len(labels))), tuple(notes))

    @property
    def _told(self) -> str:
        return f"{len(self._by_share)}{' and more' if self.observed.summary.other else ''}"

    @property
    def shares(self) -> Floats:
        """The share of each bin of the layout, of the baseline itself."""
        cut = self.cut(self.observed)
        return cut.baseline / self.n

    def cut(self, window: Categories, named: int = NAMED_MAX, without: Sequence[Categories] = ()) -> CategoryCut:
        """Count a window and the baseline by the same categories.

        The windows `without` are the baseline's own and left out of it: what only they had is then new.
        """
        limit = _earlier(self.observed.limit, window.limit)
        before = dict(self.observed.within(limit))
        n = self.n - sum(one.n for one in without)
        for one in without:
            for name, count in one.within(limit).items():
                before[name] = before.get(name, 0) - count
        now = window.within(limit)
        names = self._by_share[:named]
        new = sum(count for name, count in now.items() if before.get(name, 0) <= 0)
        known_now = [float(now.get(name, 0)) if before.get(name, 0) > 0 else 0.0 for name in names]
        known_before = [float(max(before.get(name, 0), 0)) for name in names]
        rest_now, rest_before = window.n - new - sum(known_now), max(n - sum(known_before), 0.0)
        return CategoryCut(
            np.array([*known_before, rest_before, 0.0]),
            np.array([*known_now, rest_now, float(new)]),
            window.n - sum(now.values()),
        )


def _earlier(one: Limit, other: Limit) -> Limit:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)
