"""The audit trail: a change and its line are one transaction."""

from collections.abc import Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import DBAPIError

from driftline.errors import ConflictError, TemporaryError
from driftline.hub import assays
from driftline.hub.accounts import audit
from driftline.hub.accounts.tables import changes
from driftline.hub.accounts.who import LOCAL
from driftline.hub.store import assays as store
from tests.hub.shop import Shop

STORES = ("sqlite", "postgres")


@pytest.fixture
def shop(tmp_path: Path, database_url: str | None) -> Iterator[Any]:
    """A camera that is watched."""
    made = Shop.watched(tmp_path, database_url)
    yield made
    made.closed()


def asked(shop: Any, what: str = "switch_off") -> audit.Asked:
    return audit.Asked(LOCAL, "127.0.0.1", what, {"assay": shop.assay.id}, None)


def trail(shop: Any) -> list[tuple[Any, ...]]:
    with shop.hub.database.reading() as connection:
        found = connection.execute(select(changes).order_by(changes.c.id))
        return [(row.what, row.workspace, row.before, row.after) for row in found]


def is_active(shop: Any) -> bool:
    with shop.hub.database.reading() as connection:
        return store.one(connection, shop.assay.id).assay.active


def test_what_was_changed_has_its_line_by_then_and_once(shop: Any):
    with audit.recorded(shop.hub, asked(shop)):
        assays.switch(shop.hub, shop.assay.id, active=False)
        # A hub that is killed from here on has told what it did.
        assert trail(shop) == [("switch_off", shop.workspace, {"active": True}, {"active": False})]
        with shop.hub.database.writing():
            pass
    assert trail(shop) == [("switch_off", shop.workspace, {"active": True}, {"active": False})]
    # Who is asked nothing any more writes no line.
    assays.switch(shop.hub, shop.assay.id, active=True)
    assert len(trail(shop)) == 1


def test_where_the_line_cannot_be_written_nothing_is_changed(shop: Any):
    nameless: Any = None
    with pytest.raises(DBAPIError), audit.recorded(shop.hub, asked(shop, nameless)):
        assays.switch(shop.hub, shop.assay.id, active=False)
    assert is_active(shop)
    assert trail(shop) == []


def test_a_line_that_was_not_committed_is_nobody_elses(shop: Any):
    other = audit.Asked(LOCAL, "127.0.0.2", "something_else", {}, {"name": "theirs"})

    def theirs() -> None:
        with audit.recorded(shop.hub, other):
            pass

    def full(_connection: Any) -> None:
        raise TemporaryError("the disk is full")

    with shop.hub.database.store.writer() as writer:
        engine = writer.engine
    with pytest.raises(TemporaryError), audit.recorded(shop.hub, asked(shop)):  # noqa: PT012
        event.listen(engine, "commit", full)
        try:
            assays.switch(shop.hub, shop.assay.id, active=False)
        finally:
            event.remove(engine, "commit", full)
            # It may be given the number that ours had.
            Context().run(theirs)
    assert trail(shop) == [("something_else", None, None, {"name": "theirs"})]
    assert is_active(shop)


def test_of_a_bug_half_way_the_name_alone_is_told(shop: Any):
    with pytest.raises(ZeroDivisionError), audit.recorded(shop.hub, asked(shop)):  # noqa: PT012
        assays.switch(shop.hub, shop.assay.id, active=False)
        raise ZeroDivisionError("what is stored here: a secret")
    ((_, _, _, after),) = trail(shop)
    assert after == {"active": False, "refused": "ZeroDivisionError"}


def test_what_is_refused_half_way_says_so_and_what_is_refused_at_once_has_no_line(shop: Any):
    with pytest.raises(ConflictError), audit.recorded(shop.hub, asked(shop)):
        raise ConflictError("somebody was there before")
    assert trail(shop) == []
    with pytest.raises(ConflictError), audit.recorded(shop.hub, asked(shop)):  # noqa: PT012
        assays.switch(shop.hub, shop.assay.id, active=False)
        raise ConflictError("somebody was there before")
    assert trail(shop) == [
        ("switch_off", shop.workspace, {"active": True}, {"active": False, "refused": "somebody was there before"}),
    ]
    assert not is_active(shop)


def test_the_line_of_what_is_removed_belongs_to_where_it_was(shop: Any):
    with audit.recorded(shop.hub, asked(shop, "delete_assay")), shop.hub.database.writing() as connection:
        store.remove(connection, shop.assay.id, shop.hub.now_ns())
    ((what, workspace, before, _),) = trail(shop)
    assert (what, workspace) == ("delete_assay", shop.workspace)
    assert before["active"] is True
