"""Lists as the client returns them: a list like any other, drawn as a table by a notebook."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from driftline.sdk.html import table

T = TypeVar("T")


class Listing(list[T]):
    """A list whose notebook form is a table with these columns; `row` gives the cells of one entry."""

    def __init__(self, entries: Iterable[T], columns: Sequence[str], row: Callable[[T], Sequence[object]]) -> None:
        super().__init__(entries)
        self._columns = columns
        self._row = row

    def _repr_html_(self) -> str:
        return table(self._columns, (self._row(entry) for entry in self))
