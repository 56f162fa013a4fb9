from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from driftline.assay.calibration import Calibration
from driftline.errors import InvalidInputError
from driftline.hub import assays, course, preview, promises, scorer
from driftline.hub.scorer import Round
from driftline.hub.store import assays as store
from driftline.hub.store import baselines
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns

CAMERAS = ("camera-1", "camera-2")
FIELDS = ("out.sharpness", "out.avg_confidence")
DAY_S = 86_400
PROMISE = api.Promise(false_alarm_every_s=DAY_S)


def opened(home: Path, cameras: Sequence[str] = CAMERAS, *, rows: bool = False) -> Any:
    """Open a shop whose cameras have an hour behind them: twenty windows of 3 minutes."""
    home.mkdir(exist_ok=True)
    made = Shop.open(home)
    for name in cameras:
        made.device(name)
    made.at(60)
    made.days(range(60), cameras, rows=rows)
    return made


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = opened(tmp_path_factory.mktemp("shop"))
    return made.closed()


HOUR = api.Baseline(start_ns=ns(0), end_ns=ns(60))


def save(shop: Any, *fields: str, **changes: Any) -> api.Assay:
    shop.assay = shop.save("promised", *fields, **({"alarm": PROMISE, "baseline": HOUR} | changes))
    return shop.assay


def goes(shop: Any, minutes: range, names: Sequence[str] = CAMERAS, **changes: Any) -> None:
    shop.at(minutes.stop)
    shop.days(minutes, names, **changes)


def rounds(shop: Any, windows_at_once: int = scorer.WINDOWS_AT_ONCE) -> None:
    one = Round(shop.hub, windows_at_once)
    while one.run():
        pass


def listens(listening: Round) -> None:
    """Look as a hub that was there all the time."""
    while listening.run():
        pass


def told(shop: Any, device: str | None = None, field: str | None = None) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, shop.assay.id, device=device, field=field)


def incidents(shop: Any) -> list[api.Incident]:
    with shop.hub.database.reading() as connection:
        return incident_store.listed(connection)


def decisions(answers: Sequence[api.Analysis]) -> list[Any]:
    """Return what was decided, without what a preview does not have."""
    return [msgspec.structs.replace(one, assay_id=None, revision=1) for one in answers]


def previewed(shop: Any) -> list[Any]:
    return decisions(assays.run(shop.hub, shop.workspace, shop.assay.spec).analyses)


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blurred_camera_alarms_within_windows_and_its_neighbour_stays_quiet(shop: Any) -> None:
    save(shop)
    goes(shop, range(60, 72))
    goes(shop, range(72, 84), blurred="camera-2")
    rounds(shop)
    assert {one.status for one in told(shop, "camera-1")} == {"Ok"}
    blurred = told(shop, "camera-2")
    assert [one.status for one in blurred[:4]] == ["Ok"] * 4
    assert "Alert" in {one.status for one in blurred[4:6]}
    last = blurred[-1]
    assert last.alert_threshold is None
    assert last.evidence is not None
    assert last.evidence.alarm_at == 2 * DAY_S / 180
    assert last.evidence.alarmed
    assert last.effect is not None


def test_the_promise_is_the_assays_over_every_device_and_field(shop: Any) -> None:
    save(shop, *FIELDS)
    goes(shop, range(60, 63))
    rounds(shop)
    assert {one.evidence.alarm_at for one in told(shop) if one.evidence} == {4 * DAY_S / 180}
    assert [(one.device, one.field) for one in told(shop)] == [(d, f) for d in CAMERAS for f in sorted(FIELDS)]


def test_a_device_without_a_baseline_is_no_stream(shop: Any) -> None:
    save(shop)
    shop.device("camera-3")
    goes(shop, range(60, 63), (*CAMERAS, "camera-3"))
    rounds(shop)
    (stranger,) = told(shop, "camera-3")
    assert (stranger.status, stranger.evidence) == ("NoData", None)
    assert {one.evidence.alarm_at for one in told(shop) if one.evidence} == {2 * DAY_S / 180}


def test_windows_that_overlap_show_the_evidence_of_those_that_are_counted(shop: Any) -> None:
    save(shop, windows=api.Windows(width_s=180, interval_s=60))
    goes(shop, range(60, 66), ("camera-1",))
    rounds(shop)
    found = told(shop, "camera-1")
    assert [one.evidence.counted for one in found if one.evidence] == [True, False, False, True]
    values = [one.evidence.value for one in found if one.evidence]
    assert values[:3] == pytest.approx([values[0]] * 3)
    assert values[3] != pytest.approx(values[0])


def test_windows_that_cannot_be_judged_keep_the_evidence(shop: Any) -> None:
    save(shop)
    goes(shop, range(60, 63), ("camera-1",))
    shop.at(66)
    shop.heard("camera-1", 66)
    goes(shop, range(66, 69), ("camera-1",))
    rounds(shop)
    found = told(shop, "camera-1")
    assert [one.status for one in found] == ["Ok", "NoData", "Ok"]
    assert found[0].evidence is not None
    assert found[1].evidence is not None
    assert found[1].evidence.value == pytest.approx(found[0].evidence.value)


# ── the same data gives the same evidence ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rows", [False, True])
def test_the_preview_and_the_standing_assay_decide_the_same(tmp_path: Path, rows: bool) -> None:
    shop = opened(tmp_path, rows=rows)
    save(shop, *FIELDS)
    goes(shop, range(60, 90), blurred="camera-2", rows=rows)
    rounds(shop)
    assert previewed(shop) == decisions(told(shop))
    assert {one.source for one in told(shop)} == {"rows" if rows else "counts"}
    shop.hub.database.close()


def undisturbed(home: Path) -> list[Any]:
    shop = opened(home)
    save(shop, *FIELDS)
    goes(shop, range(60, 100), blurred="camera-2")
    rounds(shop)
    found = decisions(told(shop))
    shop.hub.database.close()
    return found


def test_a_scorer_that_is_killed_and_started_again_decides_the_same(tmp_path: Path) -> None:
    shop = opened(tmp_path / "killed")
    save(shop, *FIELDS)
    goes(shop, range(60, 100), blurred="camera-2")
    # Each look is a scorer of its own that is killed after it, as far as what it remembers goes.
    while Round(shop.hub, windows_at_once=2).run():
        pass
    assert decisions(told(shop)) == undisturbed(tmp_path / "whole")
    assert {one.revision for one in told(shop)} == {1}
    shop.hub.database.close()


def test_late_data_leads_to_what_data_in_time_would_have_led_to(tmp_path: Path) -> None:
    shop = opened(tmp_path / "late")
    save(shop, *FIELDS)
    for minute in range(60, 100):
        shop.at(minute + 1)
        for camera in CAMERAS:
            if camera == "camera-2" and minute in {67, 73}:
                shop.heard(camera, minute + 1)
            else:
                goes(shop, range(minute, minute + 1), (camera,), blurred="camera-2")
        rounds(shop)
    assert decisions(told(shop)) != (whole := undisturbed(tmp_path / "whole"))
    before = {(one.start_ns, one.device, one.field): one.revision for one in told(shop)}
    for minute in (73, 67):
        shop.days(range(minute, minute + 1), ("camera-2",), blurred="camera-2")
    rounds(shop)
    assert decisions(told(shop)) == whole
    changed = {key for one in told(shop) if one.revision > before[key := (one.start_ns, one.device, one.field)]}
    assert {device for _, device, _ in changed} == {"camera-2"}
    assert min(start for start, _, _ in changed) == ns(66)
    shop.hub.database.close()


def test_data_that_comes_newest_first_leads_to_what_data_in_time_would_have_led_to(tmp_path: Path) -> None:
    shop = opened(tmp_path / "newest")
    save(shop, *FIELDS)
    listening = Round(shop.hub)
    goes(shop, range(60, 100), ("camera-1",))
    shop.at(102)
    listens(listening)
    assert {one.status for one in told(shop, "camera-2")} == {"Late"}
    for first in (90, 80, 70):
        shop.newest("camera-2", range(first, first + 10), since=first, until=100, blurred=True)
        listens(listening)
        known = {one.status for one in told(shop, "camera-2") if one.start_ns >= ns(first + 2) and one.end_ns <= ns(99)}
        assert known <= {"Ok", "Warning", "Alert"}
        assert {one.status for one in told(shop, "camera-2") if one.start_ns < ns(first - 2)} == {"Late"}
    shop.days(range(60, 70), ("camera-2",), blurred="camera-2")
    shop.heard("camera-2", 100)
    listens(listening)
    heard = [one for one in told(shop) if one.end_ns <= ns(100)]
    assert decisions(heard) == undisturbed(tmp_path / "whole")
    shop.hub.database.close()


def test_late_data_is_answered_with_what_made_an_alarm_then(shop: Any) -> None:
    save(shop, baseline=msgspec.structs.replace(HOUR, device="camera-1"), devices=[])
    goes(shop, range(60, 66), ("camera-1",))
    rounds(shop)
    shop.device("camera-3")
    goes(shop, range(66, 69), (*CAMERAS, "camera-3"))
    rounds(shop)
    shop.counts("camera-1", 61, {"out.sharpness": [400.0] * 9}, heard=False)
    rounds(shop)
    levels = [one.evidence.alarm_at for one in told(shop, "camera-1") if one.evidence]
    assert levels == [960.0, 960.0, 1440.0]


def test_a_state_is_read_back_to_the_last_digit(shop: Any) -> None:
    save(shop)
    goes(shop, range(60, 69))
    rounds(shop)
    with shop.hub.database.reading() as connection:
        data = store.state_before(connection, shop.assay.id, "camera-1", FIELDS[0], 1, ns(69))
    assert data is not None
    assert course.written(course.read(data)) == data


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────


def sharpness(count: int = 4000) -> api.Baseline:
    values = np.random.default_rng(1).lognormal(np.log(400), 0.18, count)
    return api.Baseline(values={"out.sharpness": values.tolist()})


def calibrations(shop: Any) -> dict[Any, Any]:
    with shop.hub.database.reading() as connection:
        return baselines.calibrations(connection, shop.assay.id)


def test_values_are_cut_by_how_many_a_window_has_as_soon_as_that_is_known(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-1")
    assert any("calibrated then" in note for note in save(shop, baseline=sharpness()).notes)
    rounds(shop)
    assert calibrations(shop) == {}
    for minute in range(2, 24):
        goes(shop, range(minute, minute + 1), ("camera-1",))
        rounds(shop)
        assert previewed(shop) == decisions(told(shop))
    ((where, found),) = calibrations(shop).items()
    assert where == (1, ("camera-1", "out.sharpness"))
    assert (found.n, found.windows) == (120, 5)
    assert all(one.evidence is not None for one in told(shop))
    shop.hub.database.close()


def test_a_first_window_that_is_not_whole_is_answered_again_when_more_is_known(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-1")
    save(shop, baseline=sharpness(), windows=api.Windows(width_s=180, start_ns=ns(0)))
    goes(shop, range(2, 3), ("camera-1",))
    rounds(shop)
    assert next(iter(calibrations(shop).values())).n == 40
    goes(shop, range(3, 9), ("camera-1",))
    rounds(shop)
    assert next(iter(calibrations(shop).values())).n == 120
    assert previewed(shop) == decisions(told(shop))
    first = told(shop)[0]
    assert (first.count, first.revision) == (40, 2)
    shop.hub.database.close()


def test_values_with_inferences_there_are_calibrated_at_once(shop: Any) -> None:
    assert not any("calibrated then" in note for note in save(shop, baseline=sharpness()).notes)
    assert {key: one.n for key, one in calibrations(shop).items()} == {
        (1, (camera, "out.sharpness")): 120 for camera in CAMERAS
    }


def test_windows_of_rows_that_begin_within_a_minute_are_judged_too(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-1")
    shop.at(5)
    shop.days(range(1), ("camera-1",), rows=True)
    shop.heard("camera-1", 5)
    windows = api.Windows(width_s=60, start_ns=ns(1 / 3))
    alarm = api.Promise(false_alarm_every_s=30 * 86_400)
    spec = shop.spec(alarm=alarm, baseline=sharpness(), windows=windows)
    first = assays.run(shop.hub, shop.workspace, spec).analyses[0]
    assert (first.start_ns, first.source) == (ns(1 / 3), "rows")
    assert first.evidence is not None
    shop.hub.database.close()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_baseline_too_short_for_a_promise_is_refused_with_how_many_windows_it_needs(shop: Any) -> None:
    short = api.Baseline(start_ns=ns(0), end_ns=ns(12))
    with pytest.raises(InvalidInputError, match=r"has 4 windows of 120 inferences.* needs 5"):
        save(shop, baseline=short)
    with pytest.raises(InvalidInputError, match=r"A promise needs 5"):
        save(shop, baseline=sharpness(300))
    with shop.hub.database.reading() as connection:
        assert store.every(connection) == []


def test_a_device_whose_baseline_is_too_short_is_told_so_and_no_stream(shop: Any) -> None:
    shop.device("camera-3")
    shop.days(range(50, 60), ("camera-3",))
    assay = save(shop)
    assert any("no promise for out.sharpness of device camera-3: the baseline has 4 windows" in n for n in assay.notes)
    goes(shop, range(60, 63), (*CAMERAS, "camera-3"))
    rounds(shop)
    (refused,) = told(shop, "camera-3")
    assert (refused.status, refused.evidence) == ("TooFew", None)
    assert refused.score is not None
    assert "A promise needs 5" in refused.notes[-1]
    assert {one.evidence.alarm_at for one in told(shop) if one.evidence} == {960.0}
    assert previewed(shop) == decisions(told(shop))


def test_a_calibration_is_decided_once(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    save(shop)
    goes(shop, range(60, 63))

    def never(*_: Any) -> Calibration:
        raise AssertionError("calibrated twice")

    monkeypatch.setattr(promises, "calibration_of", never)
    rounds(shop)
    assert {one.status for one in told(shop)} == {"Ok"}


def test_what_a_promise_rests_on_is_described_before_it_is_saved_and_after(shop: Any) -> None:
    spec = shop.spec(*("promised", *FIELDS), alarm=PROMISE, baseline=HOUR)
    asked = shop.call(assays.describe_baseline, spec)
    assert [(one.device, one.field) for one in asked] == [(d, f) for d in CAMERAS for f in sorted(FIELDS)]
    assert {(one.calibrated.n, one.calibrated.windows, one.calibrated.kind) for one in asked} == {(120, 20, "windows")}
    save(shop, *FIELDS)
    with shop.hub.database.reading() as connection:
        kept = store.one(connection, shop.assay.id)
    assert assays.baselines_of(shop.hub, kept) == asked
    fixed = shop.call(assays.describe_baseline, shop.spec())
    assert fixed[0].calibrated is None


# ── opening hours ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alarm", [PROMISE, api.Fixed()])
def test_outside_the_opening_hours_windows_are_answered_and_wake_nobody(shop: Any, alarm: Any) -> None:
    # The shop's minute 72 is 10:12 in UTC.
    save(shop, alarm=alarm, calendar=api.Calendar(time_zone="Europe/Zurich", opening_hours="daily 10:00-11:12"))
    goes(shop, range(60, 72))
    goes(shop, range(72, 84), blurred="camera-2")
    rounds(shop)
    found = told(shop, "camera-2")
    assert all((one.score or 0) > 1 for one in found[4:])
    assert [course.OUTSIDE_HOURS in one.notes for one in found] == [False] * 4 + [True] * 4
    assert incidents(shop) == []
    assert previewed(shop) == decisions(told(shop))
    if alarm is PROMISE:
        assert [one.evidence.counted for one in found if one.evidence] == [True] * 4 + [False] * 4


def test_a_promise_is_calibrated_on_the_windows_of_opening_hours_alone(shop: Any) -> None:
    save(shop, calendar=api.Calendar(opening_hours="daily 09:30-20:00"))
    assert {Calibration.of(msgspec.json.decode(one.document)).windows for one in calibrations(shop).values()} == {10}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"calendar": api.Calendar(opening_hours="always")}, "write them as"),
        ({"calendar": api.Calendar(time_zone="Mars/Olympus")}, "no time zone"),
        ({"baseline": msgspec.structs.replace(HOUR, season="day")}, "needs each hour twice"),
        ({"baseline": api.Baseline(values={FIELDS[0]: [1.0]}, season="day")}, "a seasonal baseline is one in time"),
        ({"baseline": msgspec.structs.replace(HOUR, season="day"), "alarm": api.Fixed()}, "a season needs a promise"),
    ],
)
def test_hours_and_seasons_that_cannot_be_are_refused(shop: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        save(shop, **changes)


def test_a_seasonal_baseline_expects_of_each_hour_what_is_usual_then(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-1")
    draw = np.random.default_rng(3)
    hours = [0.5 + 0.3 * np.sin(2 * np.pi * hour / 24) + draw.normal(0, 0.02) for hour in range(24 * 5)]
    lights = {hour: {"out.avg_px_intensity": draw.normal(light, 0.03, 40)} for hour, light in enumerate(hours)}
    shop.minutes("camera-1", {60 * hour: fields for hour, fields in lights.items()}, until=60 * 24 * 5)
    shop.at(60 * 24 * 5)
    windows = api.Windows(width_s=3600)
    days = api.Baseline(start_ns=ns(0), end_ns=ns(60 * 24 * 4), season="day")
    alarm = api.Promise(false_alarm_every_s=30 * DAY_S)
    save(shop, "out.avg_px_intensity", windows=windows, baseline=days, alarm=alarm)
    rounds(shop)
    found = told(shop)
    assert len(found) == 24
    assert "Alert" not in {one.status for one in found}
    # The light itself moves by 20 of a frame's standard deviations from noon to midnight.
    assert max(abs(one.evidence.residuals["location"]) for one in found if one.evidence) < 5
    assert previewed(shop) == decisions(found)
    ahead = preview.preview(shop.hub, shop.workspace, api.NewPreview(spec=shop.assay.spec)).streams[0]
    assert ahead.past_alarms == []
    # A tenth of the baseline's deviation, most of which is the season's, is proven: by one window it would be a lie.
    assert ahead.detectable[0].shift == 0.1
    assert (ahead.detectable[0].median_windows or 99) > 1
    shop.hub.database.close()


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_incident_says_the_evidence_in_plain_words_and_lasts_until_no_field_is_in_alarm(shop: Any) -> None:
    save(shop, *FIELDS, alarm=api.Promise(false_alarm_every_s=30 * DAY_S))
    goes(shop, range(60, 66))
    goes(shop, range(66, 78), blurred="camera-2")
    rounds(shop)
    (incident,) = incidents(shop)
    first = next(one for one in told(shop) if one.status == "Alert")
    assert (incident.device, incident.opened_ns, incident.resolved_ns) == ("camera-2", first.start_ns, None)
    assert incident.field in {one.field for one in told(shop) if one.start_ns == first.start_ns}
    (other,) = set(FIELDS) - {incident.field}
    assert "make an alarm (one false alarm in 30 days over 4 streams); the mean moved by −" in incident.text
    assert incident.text.endswith(f"; also {other}")
    goes(shop, range(78, 87))
    shop.at(90)
    shop.heard("camera-2", 90)
    rounds(shop)
    assert incidents(shop)[0].resolved_ns is None
    goes(shop, range(90, 120))
    rounds(shop)
    (incident,) = incidents(shop)
    over = [one for one in told(shop, "camera-2") if one.evidence and one.evidence.resolved]
    assert {one.field for one in over} == set(FIELDS)
    assert incident.resolved_ns == max(one.end_ns for one in over)


def test_a_fixed_alarm_is_over_when_every_field_that_alerted_was_ok_three_times(shop: Any) -> None:
    save(shop, *FIELDS, alarm=api.Fixed())
    goes(shop, range(60, 66), blurred="camera-2")
    goes(shop, range(66, 72))
    rounds(shop)
    (incident,) = incidents(shop)
    assert incident.resolved_ns is None
    assert incident.windows == 2
    goes(shop, range(72, 75))
    rounds(shop)
    assert [one.resolved_ns for one in incidents(shop)] == [ns(75)]


def test_late_data_opens_no_second_incident_for_what_was_over(shop: Any) -> None:
    save(shop)
    goes(shop, range(60, 66))
    goes(shop, range(66, 75), blurred="camera-2")
    goes(shop, range(75, 170))
    rounds(shop)
    (before,) = incidents(shop)
    assert before.resolved_ns is not None
    shop.counts("camera-2", 61, {"out.sharpness": [460.0] * 5}, heard=False)
    rounds(shop)
    assert incidents(shop) == [before]


def test_a_removed_device_takes_everything_along(shop: Any) -> None:
    from driftline.hub import fleet

    save(shop, *FIELDS)
    goes(shop, range(60, 66), blurred="camera-2")
    rounds(shop)
    shop.call(fleet.remove_device, name="camera-2")
    tables = (store.ANALYSES, store.PROGRESS, incident_store.PARTS, baselines.BASELINES, baselines.CALIBRATIONS)
    with shop.hub.database.reading() as connection:
        assert all(
            "camera-2" not in connection.execute(table.select().with_only_columns(table.c.device)).scalars().all()
            for table in tables
        )


def test_an_assay_switched_off_and_on_goes_on_from_the_evidence_it_had(tmp_path: Path) -> None:
    shop = opened(tmp_path / "rests")
    save(shop, *FIELDS)
    goes(shop, range(60, 72), blurred="camera-2")
    rounds(shop)
    assays.switch(shop.hub, shop.assay.id, active=False)
    goes(shop, range(72, 100), blurred="camera-2")
    rounds(shop)
    assays.switch(shop.hub, shop.assay.id, active=True)
    rounds(shop)
    assert decisions(told(shop)) == undisturbed(tmp_path / "whole")
    shop.hub.database.close()
