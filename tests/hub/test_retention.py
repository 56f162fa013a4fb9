"""What is older than it is kept for goes, a little at a time; what is still needed stays."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError
from driftline.hub import causes, retention
from driftline.hub.retention import DAY_NS, Settings, Sweep
from driftline.hub.scorer import Round
from driftline.hub.store import assays as store
from driftline.hub.store import kept
from driftline.hub.store.incidents import Part
from driftline.hub.store.telemetry import rows, summaries, undated, windows
from driftline.wire import api
from tests.hub.shop import OPENS_S, Shop, ns

STORES = ("sqlite", "postgres")
CAMERA = "camera-1"
EVERYTHING = Settings(1, 1, 1)


@pytest.fixture
def shop(tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One camera with two hours answered, then twenty minutes without any that is due."""
    # Slices as small as they can be: each has to get on to the next.
    monkeypatch.setattr(retention, "AT_ONCE", 7)
    made = Shop.open(tmp_path, database_url)
    made.device(CAMERA)
    made.at(30)
    made.days(range(30), (CAMERA,))
    made.assay = made.save()
    made.days(range(30, 120), (CAMERA,))
    made.at(140)
    Round(made.hub).run()
    yield made
    made.hub.database.close()


def count(shop: Any, table: Any) -> int:
    with shop.hub.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def at(shop: Any, minute: float) -> None:
    """Let the time be a day after a minute of the shop's, so that what is older is older than a day."""
    shop.clock.set(ns(minute) + DAY_NS)


def test_counts_older_than_they_are_kept_for_go_and_the_newer_ones_stay(shop: Any):
    at(shop, 50)
    gone = Sweep(shop.hub, EVERYTHING).run()
    assert gone["summaries"] == 50
    left = shop.hub.telemetry.windows(shop.pipeline.id, CAMERA, "out.sharpness", 0, 2**40)
    assert [one.start_s for one in left] == [OPENS_S + 60 * minute for minute in range(50, 120)]
    assert count(shop, windows) == 70
    assert count(shop, summaries) == 70 * 3
    assert Sweep(shop.hub, EVERYTHING).run()["summaries"] == 0


def test_a_sweep_that_is_ended_in_the_middle_goes_on_where_it_was(shop: Any):
    at(shop, 50)
    Sweep(shop.hub, EVERYTHING, lambda: False).run()
    assert 70 < count(shop, windows) < 120
    Sweep(shop.hub, EVERYTHING).run()
    assert (count(shop, windows), count(shop, summaries)) == (70, 210)


def test_what_is_kept_for_ever_stays(shop: Any):
    before = count(shop, windows), count(shop, store.ANALYSES)
    at(shop, 10_000_000)
    assert Sweep(shop.hub, Settings(None, None, None)).run() == {"summaries": 0, "rows": 0, "analyses": 0}
    assert (count(shop, windows), count(shop, store.ANALYSES)) == before


def test_rows_and_records_of_unknown_time_go_by_themselves(shop: Any):
    shop.counts(CAMERA, 121, {"out.sharpness": [1.0, 2.0]}, rows=True)
    shop.counts(CAMERA, 200, {"out.sharpness": [1.0, 2.0]}, rows=True)
    with shop.hub.database.writing() as connection:
        for minute in (121, 200):
            connection.execute(
                undated.insert().values(device=1, why="w", kind="rows", received_ns=ns(minute), payload=b"")
            )
    at(shop, 150)
    assert Sweep(shop.hub, Settings(None, 1, None)).run()["rows"] == 2
    assert (count(shop, rows), count(shop, undated), count(shop, windows)) == (1, 1, 122)


def test_what_led_to_an_open_incident_stays_until_it_is_resolved(shop: Any):
    part = Part("p", "drift", CAMERA, ns(60), assay=shop.assay.id, text="it drifts", windows=1)
    with shop.hub.database.writing() as connection:
        causes.gather(connection, part, ns(140))
    at(shop, 100_000)
    before = count(shop, windows), count(shop, store.ANALYSES)
    assert Sweep(shop.hub, EVERYTHING).run() == {"summaries": 0, "rows": 0, "analyses": 0}
    assert (count(shop, windows), count(shop, store.ANALYSES)) == before
    with shop.hub.database.writing() as connection:
        causes.gather(connection, replace(part, resolved_ns=ns(200)), ns(200))
    assert Sweep(shop.hub, EVERYTHING).run()["summaries"] == 120


def test_the_answer_that_the_next_window_goes_on_from_stays(shop: Any):
    with shop.hub.database.reading() as connection:
        newest = max(one.start_ns for one in store.analyses(connection, shop.assay.id))
    at(shop, 100_000)
    assert Sweep(shop.hub, EVERYTHING).run()["analyses"] > 0
    with shop.hub.database.reading() as connection:
        assert [one.start_ns for one in store.analyses(connection, shop.assay.id)] == [newest]


def test_windows_whose_counts_are_gone_keep_their_answers(shop: Any):
    with shop.hub.database.reading() as connection:
        before = store.analyses(connection, shop.assay.id)
    at(shop, 90)
    Sweep(shop.hub, Settings(1, 1, None)).run()
    # Late data of a window that is gone, and an owner who wants everything answered again.
    shop.counts(CAMERA, 40, {"out.sharpness": [1000.0] * 40})
    with shop.hub.database.writing() as connection:
        store.rewind(connection, shop.assay.id, 0)
    Round(shop.hub).run()
    with shop.hub.database.reading() as connection:
        after = store.analyses(connection, shop.assay.id)
    gone = [one for one in before if one.start_ns < ns(90)]
    assert gone
    assert after[: len(gone)] == gone


def test_the_hub_says_what_it_keeps_and_from_when_on(shop: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DRIFTLINE_KEEP_ROWS_DAYS", "7")
    monkeypatch.setenv("DRIFTLINE_KEEP_ANALYSES_DAYS", "forever")
    at(shop, 50)
    Sweep(shop.hub, EVERYTHING).run()
    assert shop.call(retention.get_retention) == [
        api.Retention("summaries", 400, ns(50)),
        api.Retention("rows", 7, ns(50)),
        api.Retention("analyses", None, ns(50)),
    ]
    # It never goes back, even if the clock does.
    at(shop, 20)
    Sweep(shop.hub, EVERYTHING).run()
    with shop.hub.database.reading() as connection:
        assert set(kept.kept_from(connection).values()) == {ns(50)}


@pytest.mark.parametrize("text", ["0", "-3", "soon", "nan", "inf", "1e9"])
def test_a_setting_that_is_no_number_of_days_is_refused(text: str):
    with pytest.raises(InvalidInputError, match="DRIFTLINE_KEEP_ROWS_DAYS"):
        Settings.of({"DRIFTLINE_KEEP_ROWS_DAYS": text})
    assert Settings.of({}) == Settings(400, 90, 800)
    assert NS_PER_S * 86_400 == DAY_NS
