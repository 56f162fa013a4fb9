"""A window without data says what its device dropped, whenever the hub came to hear of it."""

from typing import Any

import pytest

from driftline.clock import NS_PER_S
from driftline.hub import assays
from driftline.hub.check import Checker
from driftline.hub.scorer import Round
from driftline.hub.store.telemetry import Incoming, Writing
from driftline.wire import api
from driftline.wire.device import Record, encode_event
from tests.hub.shop import Shop, ns

NOTE = "the device had no room and dropped 6 base windows between 2026-01-01T09:30:00+00:00 and "


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A camera with half an hour behind it, then a gap of six minutes that was answered, and three more."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    made.device("camera-1")
    made.at(30)
    made.days(range(30), ("camera-1",))
    made.assay = made.save()
    made.at(39)
    made.days(range(36, 39), ("camera-1",))
    Round(made.hub).run()
    return made.closed()


def tell(shop: Any, **windows: Any) -> None:
    """Let the device tell of windows it dropped, as ingest takes it in."""
    event = {"type": "dropped", "at_ns": ns(39), "where": "spool", "counts": {"window": 6}, "windows": windows}
    shop.hub.telemetry.intern({"camera-1", "epoch"})
    with shop.hub.database.writing() as connection:
        came = Writing("camera-1", "epoch", [Incoming(10_001, b"", event=event)])
        shop.hub.telemetry.write(connection, [came], ns(39))


def arrives(shop: Any, moved_s: int | None, facts: dict[str, int]) -> None:
    """Let the device tell by a wrong clock, and take it in as a sync does."""
    version = shop.pipeline.versions[0].id
    data = encode_event(
        "dropped", facts["last_s"] * NS_PER_S, where="spool", counts={"window": 6}, windows={version: facts}
    )
    shop.hub.telemetry.intern({"camera-1", "epoch"})
    with shop.hub.database.reading() as connection:
        checker = Checker(lambda: connection, {}, ns(39))
        record = Record(10_001, "event", data, moved_s=moved_s)
        incoming, why = checker.check(record, None, is_sound=False)
    assert not why
    with shop.hub.database.writing() as connection:
        shop.hub.telemetry.write(connection, [Writing("camera-1", "epoch", [incoming])], ns(39))


def told(shop: Any) -> list[api.Analysis]:
    return shop.call(assays.list_analyses, assay=shop.assay.id)


def drop(minute: int, last: int, count: int = 6) -> dict[str, int]:
    return {"count": count, "inferences": 240, "first_s": ns(minute) // NS_PER_S, "last_s": ns(last) // NS_PER_S}


def test_windows_that_were_answered_before_the_drop_was_told_say_it_when_they_are_read(shop: Any):
    before = told(shop)
    assert [one.status for one in before] == ["NoData", "NoData", "Ok"]
    assert not any(NOTE in note for one in before for note in one.notes)
    tell(shop, **{shop.pipeline.versions[0].id: drop(30, 35)})
    after = told(shop)
    assert [any(note.startswith(NOTE) for note in one.notes) for one in after] == [True, True, False]


@pytest.mark.parametrize(("moved_s", "explained"), [(7200, [True, True, False]), (0, [False] * 3), (None, [False] * 3)])
def test_windows_dropped_by_a_clock_that_was_off_are_said_where_they_belong(
    shop: Any, moved_s: int | None, explained: list[bool]
):
    arrives(shop, moved_s, drop(30 - 120, 35 - 120))
    assert [any(note.startswith(NOTE) for note in one.notes) for one in told(shop)] == explained


def test_a_drop_at_an_unknown_time_explains_nothing_whatever_its_clock_showed(shop: Any):
    arrives(shop, None, drop(30, 35))
    assert not any("no room" in note for one in told(shop) for note in one.notes)


def test_a_drop_explains_no_other_time_and_no_other_pipeline(shop: Any):
    other = shop.build("other").versions[0].id
    tell(shop, **{shop.pipeline.versions[0].id: drop(10, 29), other: drop(30, 35)})
    assert not any("no room" in note for one in told(shop) for note in one.notes)


@pytest.mark.parametrize(
    "facts", ["6", {"count": 6}, {"count": 6, "first_s": 9, "last_s": 1}, {"count": 1, "first_s": 0, "last_s": 2**70}]
)
def test_what_cannot_be_meant_explains_nothing(shop: Any, facts: Any):
    tell(shop, **{shop.pipeline.versions[0].id: facts})
    assert not any("no room" in note for one in told(shop) for note in one.notes)
