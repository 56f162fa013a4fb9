"""Two hubs on one database: one scores at a time, and the other goes on where it ended."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from driftline.hub.lease import Lease, LeaseLostError
from driftline.hub.scorer import Round, Scorer
from driftline.hub.server import open_hub
from driftline.hub.store import assays as store
from driftline.hub.store.leases import LEASES
from tests.hub.shop import Shop

STORES = ("sqlite", "postgres")
CAMERA = "camera-1"


@pytest.fixture
def shops(tmp_path: Path, database_url: str | None) -> Iterator[tuple[Any, Any]]:
    """One shop with an assay, as two hubs on its database see it."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Shop.open(tmp_path / "first", database_url)
    first.device(CAMERA)
    first.at(30)
    first.days(range(30), (CAMERA,))
    first.assay = first.save()
    first.at(36)
    first.days(range(30, 36), (CAMERA,))
    second = copy.copy(first)
    place: Any = database_url or first.hub.database.path
    second.hub = open_hub(tmp_path / "second", first.clock, database_url=place)
    yield first, second
    for one in (first, second):
        one.hub.database.close()


def answered(shop: Any) -> int:
    with shop.hub.database.reading() as connection:
        return len(store.analyses(connection, shop.assay.id))


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_out(shop: Any) -> None:
    """Let half a minute pass in which nobody renews a lease."""
    with shop.hub.database.writing() as connection:
        connection.execute(update(LEASES).values(until_real_ns=LEASES.c.until_real_ns - 31 * 10**9))


def test_one_hub_scores_and_the_other_goes_on_where_that_one_was_killed(shops: Any) -> None:
    first, second = shops
    ours, theirs = Round(first.hub), Round(second.hub)
    assert ours.lease.take()
    theirs.run()
    assert answered(second) == 0, "the other one has the lease"
    ours.run()
    assert answered(second) == 2
    first.at(42)
    first.days(range(36, 42), (CAMERA,))
    theirs.run()
    assert answered(second) == 2
    run_out(first)
    first.hub.database.close()
    theirs.run()
    assert answered(second) == 4


@pytest.mark.store("sqlite")  # with PostgreSQL a hub that lives keeps others from writing anything at all
def test_a_hub_that_stood_still_writes_nothing_once_another_took_over(shops: Any) -> None:
    first, second = shops
    ours, theirs = Round(first.hub), Round(second.hub)
    ours.run()
    run_out(first)
    assert theirs.lease.take()
    assert answered(first) == 2
    first.at(45)
    first.days(range(36, 45), (CAMERA,))
    with pytest.raises(LeaseLostError, match="another hub took over"):
        ours.run()
    ours.run()
    assert answered(first) == 2, "it waits like any other"
    theirs.lease.release()
    ours.run()
    assert answered(first) == 5


@pytest.mark.store("sqlite")
def test_a_scorer_that_is_stopped_lets_the_other_go_on_at_once(shops: Any) -> None:
    first, second = shops
    ours = Scorer(first.hub)
    ours.start()
    _until(lambda: answered(first) == 2)
    theirs = Scorer(second.hub)
    theirs.start()
    ours.stop()
    first.at(42)
    first.days(range(36, 42), (CAMERA,))
    second.hub.wake.set()
    _until(lambda: answered(first) == 4)
    theirs.stop()


@pytest.mark.store("sqlite")
def test_a_hub_that_was_killed_goes_on_under_its_name(shops: Any) -> None:
    first, second = shops
    assert Round(first.hub).lease.take()
    again = open_hub(first.hub.home, first.clock)
    assert again.name == first.hub.name != second.hub.name
    assert Round(again).lease.take()
    assert not Round(second.hub).lease.take()
    again.database.close()


@pytest.mark.store("sqlite")
def test_a_lease_is_renewed_when_a_third_of_it_has_passed_and_no_sooner(shops: Any) -> None:
    database, steady = shops[0].hub.database, [0.0]
    lease = Lease(database, "work", "first", length_s=30, steady_s=lambda: steady[0])

    def left_s() -> float:
        with database.reading() as connection:
            return connection.execute(LEASES.select()).one().until_real_ns

    assert lease.take()
    taken = left_s()
    run_out(shops[0])
    steady[0] = 9.9
    assert lease.take()
    assert left_s() < taken
    steady[0] = 10.0
    assert lease.take()
    assert left_s() >= taken
