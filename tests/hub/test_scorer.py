import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, update

from driftline.clock import NS_PER_S, FastClock
from driftline.hub import assays, fleet, incident_routes
from driftline.hub.scorer import Round, Scorer
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.hub.store.baselines import BASELINES
from driftline.wire import api
from tests.hub.shop import Shop, ns

STORES = ("sqlite", "postgres")
CAMERAS = ("camera-1", "camera-2")


def begun(home: Path, database_url: str | None = None) -> Any:
    """Open a shop of two cameras with half an hour behind them, and a standing assay on their sharpness."""
    made = Shop.open(home, database_url)
    for name in CAMERAS:
        made.device(name)
    made.at(30)
    made.days(range(30), CAMERAS)
    made.assay = made.save()
    return made


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = begun(tmp_path_factory.mktemp("shop"))
    return made.closed()


@pytest.fixture
def shop(before: Any, tmp_path: Path, database_url: str | None) -> Iterator[Any]:
    made = before.twin(tmp_path) if database_url is None else begun(tmp_path, database_url)
    yield made
    made.hub.database.close()


def day(shop: Any, minutes: range, names: tuple[str, ...] = CAMERAS, **changes: Any) -> None:
    shop.at(minutes.stop)
    shop.days(minutes, names, **changes)


def statuses(shop: Any, device: str) -> list[str]:
    with shop.hub.database.reading() as connection:
        return [one.status for one in store.analyses(connection, shop.assay.id, device=device)]


def answers(shop: Any, device: str) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, shop.assay.id, device=device)


def incidents(shop: Any, kind: str = "drift") -> list[api.Incident]:
    with shop.hub.database.reading() as connection:
        return [one for one in incident_store.listed(connection) if one.kind == kind]


def test_every_due_window_of_every_device_is_answered_once(shop: Any) -> None:
    day(shop, range(30, 42))
    shop.look()
    first = [answers(shop, name) for name in CAMERAS]
    assert [statuses(shop, name) for name in CAMERAS] == [["Ok"] * 4] * 2
    shop.look()
    assert [answers(shop, name) for name in CAMERAS] == first
    assert {one.revision for found in first for one in found} == {1}


def test_scheduled_answers_equal_the_preview(shop: Any) -> None:
    day(shop, range(30, 42), blurred="camera-2")
    shop.look()
    previewed = assays.run(shop.hub, shop.workspace, shop.assay.spec).analyses
    for name in CAMERAS:
        asked = [one for one in previewed if one.device == name]
        assert [(one.start_ns, one.score, one.status) for one in answers(shop, name)] == [
            (one.start_ns, one.score, one.status) for one in asked
        ]


def test_a_window_is_not_due_before_its_end_has_passed(shop: Any) -> None:
    day(shop, range(30, 33))
    shop.at(32.9)
    shop.look()
    assert statuses(shop, "camera-1") == []
    shop.at(33)
    shop.look()
    assert statuses(shop, "camera-1") == ["Ok"]


def test_run_until_ends_the_scheduled_runs(shop: Any) -> None:
    shop.assay = shop.save("short", run_until_ns=ns(36))
    day(shop, range(30, 42))
    shop.look()
    assert statuses(shop, "camera-1") == ["Ok"] * 2


def test_a_device_gets_its_sync_interval_then_is_late_once_then_is_revised_when_heard(shop: Any) -> None:
    listening = Round(shop.hub)
    shop.says("camera-2", interval_s=120.0)
    day(shop, range(30, 33), ("camera-1",))
    shop.at(34)
    listening.run()
    assert (statuses(shop, "camera-1"), statuses(shop, "camera-2")) == (["Ok"], [])
    shop.at(35)
    listening.run()
    listening.run()
    (late,) = answers(shop, "camera-2")
    assert (late.status, late.score, late.revision) == ("Late", None, 1)
    shop.days(range(30, 33), ("camera-2",))
    listening.run()
    (heard,) = answers(shop, "camera-2")
    assert (heard.status, heard.revision, heard.count) == ("Ok", 2, 120)


def test_a_late_device_that_had_nothing_to_tell_is_no_data_when_heard(shop: Any) -> None:
    listening = Round(shop.hub)
    day(shop, range(30, 36), ("camera-1",))
    shop.at(40)
    listening.run()
    assert statuses(shop, "camera-2") == ["Late"] * 3
    shop.heard("camera-2", 40)
    listening.run()
    assert statuses(shop, "camera-2") == ["NoData"] * 3
    assert statuses(shop, "camera-1") == ["Ok", "Ok", "Late"]


def test_while_the_newest_come_first_older_windows_are_late_and_no_silence(shop: Any) -> None:
    listening = Round(shop.hub)
    shop.at(49)
    listening.run()
    assert statuses(shop, "camera-1") == ["Late"] * 6  # away for a while
    shop.newest("camera-1", range(42, 48), since=42, until=48, blurred=True)
    listening.run()
    assert statuses(shop, "camera-1") == ["Late"] * 4 + ["Alert"] * 2
    (incident,) = incidents(shop)  # today is known at once
    assert incident.windows == 2
    shop.newest("camera-1", range(36, 42), since=36, until=48)
    listening.run()
    assert statuses(shop, "camera-1") == ["Late"] * 2 + ["Ok"] * 2 + ["Alert"] * 2
    shop.days(range(30, 36), ("camera-1",))
    shop.heard("camera-1", 48)
    shop.look()
    assert statuses(shop, "camera-1") == ["Ok"] * 4 + ["Alert"] * 2
    (incident,) = incidents(shop)
    assert incident.resolved_ns is None


def test_new_windows_are_answered_in_time_while_older_ones_still_wait(shop: Any) -> None:
    listening = Round(shop.hub)
    shop.at(39)
    shop.newest("camera-1", range(36, 39), since=36, until=39)
    listening.run()
    assert statuses(shop, "camera-1") == ["Late", "Late", "Ok"]
    shop.at(42)
    shop.newest("camera-1", range(39, 42), since=36, until=42)
    listening.run()
    assert statuses(shop, "camera-1") == ["Late", "Late", "Ok", "Ok"]


def test_in_fast_time_a_device_has_as_many_real_seconds_as_ever(shop: Any) -> None:
    shop.hub.clock = FastClock(ns(0), 60, time.time_ns())
    assert min(Round(shop.hub)._grace_ns().values()) == 600 * NS_PER_S


def test_a_hub_that_was_away_gives_every_device_its_time_again(shop: Any) -> None:
    shop.at(500)
    away = Round(shop.hub)
    away.run()
    assert statuses(shop, "camera-1") == []
    shop.at(503)
    while away.run():
        pass
    assert set(statuses(shop, "camera-1")) == {"Late"}


def test_a_window_without_inferences_is_no_data_and_one_with_few_is_too_few(shop: Any) -> None:
    shop.assay = shop.save("strict", min_count=50)
    shop.at(36)
    for minute in range(30, 33):
        shop.counts("camera-1", minute, {})
    for minute in range(33, 36):
        shop.counts("camera-1", minute, {"out.sharpness": [400.0] * 10})
    shop.look()
    assert statuses(shop, "camera-1") == ["NoData", "TooFew"]
    assert answers(shop, "camera-1")[1].score is not None


def test_late_data_makes_a_revision_of_just_the_windows_it_touches(shop: Any) -> None:
    day(shop, range(30, 42))
    shop.look()
    shop.counts("camera-1", 34, {"out.sharpness": [90.0] * 200}, heard=False)
    shop.look()
    found = answers(shop, "camera-1")
    assert [one.revision for one in found] == [1, 2, 1, 1]
    assert (found[1].status, found[1].count) == ("Alert", 320)
    assert incidents(shop)[0].windows == 1
    assert [one.revision for one in answers(shop, "camera-2")] == [1, 1, 1, 1]


def test_overlapping_windows_are_all_revised(shop: Any) -> None:
    shop.assay = shop.save("sliding", windows=api.Windows(width_s=180, interval_s=60))
    day(shop, range(30, 40))
    shop.look()
    shop.counts("camera-1", 34, {"out.sharpness": [90.0] * 200}, heard=False)
    shop.look()
    assert [one.revision for one in answers(shop, "camera-1")] == [1, 1, 2, 2, 2, 1, 1, 1]


def test_a_killed_scorer_continues_where_it_was(shop: Any) -> None:
    day(shop, range(30, 60))
    first = Round(shop.hub, windows_at_once=3)
    assert first.run()
    assert len(statuses(shop, "camera-1")) == 3
    shop.look()
    assert statuses(shop, "camera-1") == ["Ok"] * 10
    assert {one.revision for one in answers(shop, "camera-1")} == {1}


def test_scorers_that_run_at_once_agree(shop: Any) -> None:
    day(shop, range(30, 48), blurred="camera-2")
    both = [threading.Thread(target=shop.look) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(answers(shop, "camera-2")) == 6
    assert {one.revision for one in answers(shop, "camera-2")} == {1}
    assert len(incidents(shop)) == 1


def test_one_broken_assay_stops_no_other_and_says_why(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broken = shop.save("broken")
    with shop.hub.database.writing() as connection:
        connection.execute(BASELINES.update().where(BASELINES.c.assay == broken.id).values(counts=b"\0"))
    day(shop, range(30, 36))
    one = Round(shop.hub)
    one.run()
    one.run()
    assert statuses(shop, "camera-1") == ["Ok"] * 2
    with shop.hub.database.reading() as connection:
        assert store.one(connection, broken.id).failure
        assert store.one(connection, shop.assay.id).failure is None
    assert capsys.readouterr().err.count("could not be answered") == 1


def test_a_slow_assay_keeps_no_other_waiting_and_comes_round_all_its_devices(shop: Any) -> None:
    slow = shop.save("slow")
    day(shop, range(30, 36))
    clock = [0.0]

    class Slow(Round):
        def _look(self, job: Any, before: Any, starts_s: Any, grace_ns: int) -> bool:
            clock[0] += 10.0 if job.spec.name == "slow" else 0.0
            return super()._look(job, before, starts_s, grace_ns)

    def told(assay: api.Assay) -> set[str]:
        with shop.hub.database.reading() as connection:
            return {one.device for one in store.analyses(connection, assay.id)}

    one = Slow(shop.hub, steady_s=lambda: clock[0])
    with shop.hub.database.writing() as connection:
        store.put_windows_seen(connection, 10**9)  # nothing came late
    assert one.run()
    assert (len(told(slow)), told(shop.assay)) == (1, set(CAMERAS))
    one.run()
    assert told(slow) == set(CAMERAS)


def test_an_answer_that_cannot_be_stored_is_its_own_assays_concern(
    shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shop.save("broken")
    day(shop, range(30, 36))
    one = Round(shop.hub)
    one.run()
    with shop.hub.database.writing() as connection:
        connection.execute(update(store.ANALYSES).where(store.ANALYSES.c.assay == broken.id).values(document=b"\0"))
        for assay in (broken, shop.assay):
            store.rewind(connection, assay.id, ns(30))
    day(shop, range(36, 39))
    for _ in range(3):
        one.run()
    assert statuses(shop, "camera-1") == ["Ok"] * 3
    with shop.hub.database.reading() as connection:
        assert "DecodeError" in str(store.one(connection, broken.id).failure)
        assert store.one(connection, shop.assay.id).failure is None
    # Once for each of its two devices: they were to be stored with those of the other assay.
    assert capsys.readouterr().err.count("'broken' could not be answered") == 1
    with shop.hub.database.writing() as connection:
        connection.execute(delete(store.ANALYSES).where(store.ANALYSES.c.assay == broken.id))
    shop.look()
    with shop.hub.database.reading() as connection:
        assert store.one(connection, broken.id).failure is None
        assert len(store.analyses(connection, broken.id, device="camera-1")) == 3


def test_ten_assays_on_a_field_read_its_windows_once(shop: Any) -> None:
    read: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM summaries" in statement:
            read.append(statement)

    for number in range(9):
        shop.save(f"again-{number}")
    day(shop, range(30, 36))
    event.listen(shop.hub.database.engine, "before_cursor_execute", note)
    shop.look()
    with shop.hub.database.reading() as connection:
        assert sum(len(store.analyses(connection, kept.assay.id)) for kept in store.every(connection)) == 10 * 2 * 2
    # The stretch of each of the two cameras; baselines are kept as they were counted.
    assert len(read) == 2


def test_an_assay_without_a_start_begins_with_the_first_inference(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-1")
    shop.assay = shop.save(baseline=api.Baseline(values={"out.sharpness": [350.0, 400.0, 450.0]}))
    shop.look()
    shop.at(10)
    shop.days(range(4, 10), ("camera-1",))
    shop.look()
    assert [one.start_ns for one in answers(shop, "camera-1")] == [ns(4), ns(7)]
    shop.hub.database.close()


def test_a_device_that_joins_later_has_no_windows_from_before(shop: Any) -> None:
    shop.at(37)
    shop.device("camera-3")
    day(shop, range(37, 45), ("camera-3",))
    shop.look()
    assert [one.start_ns for one in answers(shop, "camera-3")] == [ns(36), ns(39), ns(42)]
    assert all("no baseline" in one.notes[0] for one in answers(shop, "camera-3"))


def test_removed_and_unjoined_devices_are_not_asked(shop: Any) -> None:
    shop.device("camera-9", key=None, joined_ns=None, heard_ns=None)
    shop.call(fleet.remove_device, name="camera-2")
    day(shop, range(30, 36), ("camera-1",))
    shop.at(90)
    shop.look()
    shop.at(95)
    shop.look()
    assert statuses(shop, "camera-2") == statuses(shop, "camera-9") == []


def test_an_assay_switched_off_rests_and_catches_up_when_switched_on(shop: Any) -> None:
    assays.switch(shop.hub, shop.assay.id, active=False)
    day(shop, range(30, 36))
    shop.look()
    assert statuses(shop, "camera-1") == []
    assays.switch(shop.hub, shop.assay.id, active=True)
    shop.look()
    assert statuses(shop, "camera-1") == ["Ok"] * 2


def test_the_thread_wakes_on_ingest_and_stops_when_told(shop: Any) -> None:
    scorer = Scorer(shop.hub)
    scorer.start()
    day(shop, range(30, 36))
    shop.hub.wake.set()
    deadline = time.monotonic() + 10
    while len(statuses(shop, "camera-1")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    scorer.stop()
    assert statuses(shop, "camera-1") == ["Ok"] * 2
    assert not any(thread.name == "scorer" for thread in threading.enumerate())


def test_an_alert_opens_one_incident_and_three_ok_windows_resolve_it(shop: Any) -> None:
    day(shop, range(30, 36))
    day(shop, range(36, 45), blurred="camera-2")
    shop.look()
    (incident,) = incidents(shop)
    assert (incident.device, incident.field, incident.opened_ns) == ("camera-2", "out.sharpness", ns(36))
    assert (incident.windows, incident.resolved_ns) == (3, None)
    assert "2026-01-01T09:36:00+00:00" in incident.text
    assert fleet.device(shop.hub, "camera-2").states == ["drifting"]
    day(shop, range(45, 51))
    shop.look()
    assert incidents(shop)[0].resolved_ns is None
    day(shop, range(51, 54))
    shop.look()
    assert incidents(shop)[0].resolved_ns == ns(54)
    assert fleet.device(shop.hub, "camera-2").states == ["healthy"]


def test_an_incident_closed_by_hand_is_opened_again_by_the_next_alert_only(shop: Any) -> None:
    day(shop, range(30, 36), blurred="camera-2")
    shop.look()
    incident_routes.do(shop.hub, incidents(shop)[0].id, "resolved", api.Act())
    shop.look()
    (closed,) = incidents(shop)
    assert (closed.state, closed.reopened) == ("resolved", 0)
    day(shop, range(36, 39), blurred="camera-2")
    shop.look()
    (again,) = incidents(shop)
    assert (again.id, again.state, again.reopened) == (closed.id, "open", 1)
    with shop.hub.database.reading() as connection:
        assert [one.opened_ns for one in incident_store.parts(connection, again.id)] == [ns(30), ns(36)]


def test_a_silent_device_has_an_incident_until_it_is_heard(shop: Any) -> None:
    listening = Round(shop.hub)
    shop.says("camera-1", heard_ns=ns(30), interval_s=60.0)
    shop.says("camera-2", heard_ns=ns(30), interval_s=600.0)
    shop.at(34)
    listening.run()
    (silent,) = incidents(shop, "silent")
    assert (silent.device, silent.opened_ns, silent.resolved_ns) == ("camera-1", ns(30), None)
    listening.run()
    assert len(incidents(shop, "silent")) == 1
    shop.says("camera-1", heard_ns=ns(34))
    shop.at(35)
    listening.run()
    assert incidents(shop, "silent")[0].resolved_ns == ns(35)


def test_a_hub_does_not_blame_devices_for_its_own_absence(shop: Any) -> None:
    shop.at(300)
    back = Round(shop.hub)
    back.run()
    assert incidents(shop, "silent") == []
    shop.at(304)
    back.run()
    assert len(incidents(shop, "silent")) == 2


def test_a_lost_camera_has_an_incident_of_its_own(shop: Any) -> None:
    shop.says("camera-1", sources={"front": "camera lost", "back": "feed frozen"})
    shop.look()
    shop.look()
    assert len(incidents(shop, "camera lost")) == len(incidents(shop, "feed frozen")) == 1
    shop.says("camera-1", sources={"front": "ok", "back": "feed frozen"})
    shop.look()
    assert incidents(shop, "camera lost")[0].resolved_ns is not None
    assert incidents(shop, "feed frozen")[0].resolved_ns is None
