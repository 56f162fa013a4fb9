"""Lists that can grow, a page at a time: `limit` says how many, `next` where to go on.

A page begins after the last row of the one before, by that row's own keys: rows that come or go meanwhile neither
repeat nor hide others, as they would if pages were counted.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, false, or_

from driftline.errors import InvalidInputError
from driftline.wire import api

T = TypeVar("T")
# A column, and whether it is in descending order. The columns together name one row; none is NULL.
Key = tuple[ColumnElement[Any], bool]


class Page(list[T]):
    """A part of a list; `next` is the cursor of the part that follows, None at the end."""

    next: str | None = None


def page(
    connection: Connection, query: Any, keys: Sequence[Key], asked: api.Paged, made: Callable[[Row[Any]], T]
) -> Page[T]:
    """Run a query (a `Select`, of any columns) for one page of what was asked for, in the order of its keys.

    Raises:
        InvalidInputError: a cursor that this list did not give out.
    """
    names = [f"page_key_{at}" for at in range(len(keys))]
    if asked.after is not None:
        query = query.where(_after(keys, _read(asked.after, len(keys))))
    order = [column.desc() if descending else column.asc() for column, descending in keys]
    marked = query.add_columns(*(column.label(name) for name, (column, _) in zip(names, keys, strict=True)))
    rows = connection.execute(marked.order_by(*order).limit(asked.limit + 1)).all()
    found: Page[T] = Page(made(row) for row in rows[: asked.limit])
    if len(rows) > asked.limit:
        last = rows[asked.limit - 1]
        found.next = _write([getattr(last, name) for name in names])
    return found


def _after(keys: Sequence[Key], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition of the rows behind one: a later first key, or the same and a later second, and so on."""
    behind: ColumnElement[bool] = false()
    for (column, descending), value in reversed(list(zip(keys, values, strict=True))):
        later = column < value if descending else column > value
        behind = or_(later, and_(column == value, behind))
    return behind


def _write(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def _read(cursor: str, count: int) -> list[str | int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        # Beyond 64 bits no database has a key.
        values = msgspec.json.decode(text, type=list[str | api.Integer])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        values = []
    if len(values) != count:
        raise InvalidInputError(
            f"after={cursor[:100]!r} is no place in this list; take the `next` of the page before, or leave it out"
        )
    return values
