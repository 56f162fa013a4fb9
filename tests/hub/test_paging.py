"""A list is read page by page: each row once, in order, whatever comes and goes meanwhile."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, delete, insert, select

from driftline import Client
from driftline.errors import InvalidInputError
from driftline.hub.paging import page
from driftline.wire import api

metadata = MetaData()
ROWS = Table(
    "rows", metadata, Column("id", String, primary_key=True), Column("a", Integer, nullable=False), Column("b", Integer)
)
KEYS = ((ROWS.c.a, True), (ROWS.c.id, False))


@pytest.fixture
def connection():
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def read(connection: Any, asked: api.Paged) -> Any:
    return page(connection, select(ROWS), KEYS, asked, lambda row: (row.a, row.id))


def walk(connection: Any, limit: int) -> list[Any]:
    found: list[Any] = []
    after = None
    while True:
        part = read(connection, api.Paged(limit=limit, after=after))
        assert len(part) <= limit
        found += part
        after = part.next
        if after is None:
            return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(values=st.lists(st.integers(0, 5), max_size=20), limit=st.integers(1, 7))
def test_pages_together_are_the_list(connection: Any, values: list[int], limit: int):
    connection.execute(delete(ROWS))
    rows = [{"id": f"{at:02}", "a": value} for at, value in enumerate(values)]
    if rows:
        connection.execute(insert(ROWS), rows)
    # By hand: descending a, and within one value ascending id.
    assert walk(connection, limit) == sorted(((row["a"], row["id"]) for row in rows), key=lambda one: (-one[0], one[1]))


def test_what_comes_and_goes_meanwhile_neither_hides_nor_repeats_others(connection: Any):
    connection.execute(insert(ROWS), [{"id": str(at), "a": at} for at in range(1, 7)])
    first = read(connection, api.Paged(limit=3))
    connection.execute(insert(ROWS), [{"id": "new", "a": 99}])
    connection.execute(delete(ROWS).where(ROWS.c.id == "5"))
    second = read(connection, api.Paged(limit=3, after=first.next))
    assert [*first, *second] == [(at, str(at)) for at in (6, 5, 4, 3, 2, 1)]
    assert second.next is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "====", "W10", "WzFd", "W251bGwsMV0", "é", "WzEsMTAwMDAwMDAwMDAwMDAwMDAwMDAwXQ"]
)
def test_a_cursor_that_was_not_given_out_is_refused(connection: Any, cursor: str):
    with pytest.raises(InvalidInputError, match="no place in this list"):
        read(connection, api.Paged(after=cursor))


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "many", "1.5", "null"])
def test_a_limit_that_is_none_is_refused(ask: Any, limit: str):
    assert ask.refusal("GET", f"/workspaces?limit={limit}")[:2] == (400, "invalid")


def test_the_sdk_follows_the_pages(hub: Any, ask: Any, monkeypatch: pytest.MonkeyPatch):
    from driftline.hub import registry

    names = [ask.workspace(f"shop-{at}")["name"] for at in range(5)]
    asked: list[str | None] = []
    whole = registry.page

    def two(connection: Any, query: Any, keys: Any, paged: api.Paged, made: Any) -> Any:
        asked.append(paged.after)
        return whole(connection, query, keys, api.Paged(limit=2, after=paged.after), made)

    monkeypatch.setattr(registry, "page", two)
    assert [one.name for one in Client(hub.url).list_workspaces()] == names
    assert len(asked) == 3
