import json
import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from scipy.signal import lfilter

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import State, Tracks, step, steps
from driftline.assay.hours import OpeningHours
from driftline.assay.observed import Part
from driftline.assay.season import Season, season_of, usual_of
from driftline.assay.statistics import NAMES, yardstick_of
from driftline.errors import InvalidInputError
from driftline.summary.arrays import of_values
from driftline.summary.grid import quantile_grid

S = 1_000_000_000
HOUR = 3600 * S
ZURICH = "Europe/Zurich"
# A Monday, 00:00 UTC.
MONDAY = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp()) * S


def ns(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * S


def hours(days: float, first: int = 0) -> list[int]:
    return [MONDAY + (first + i) * HOUR for i in range(round(days * 24))]


def shop(starts: list[int], seed: int, n: int = 60, shift: Any = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Light by day, dark by night, and four times as restless by day; `shift` is in sd of a row, a window."""
    hour = np.array(starts) / HOUR % 24
    sun = np.maximum(0.0, np.sin((hour - 6) / 12 * np.pi))
    sd = np.where(sun > 0, 2.0, 0.5)
    rows = np.random.default_rng(seed).normal(size=(len(starts), n))
    return 10 * sun[:, None] + sd[:, None] * (rows + np.broadcast_to(shift, hour.shape)[:, None])


def seasonal(rows: Any, starts: list[int], **options: Any) -> Calibration:
    windows = [[Part(values=row)] for row in rows]
    given: dict[str, Any] = {"cycle": "day", "starts_ns": starts, **options}
    return calibrate(BaselineData.of_values(rows.ravel()), n=rows.shape[1], windows=windows, **given)


def no_weather(starts: list[int], seed: int) -> float:
    return 0.0


def first_alerts(runs: int, alarm_at: float, days: int, watched: Any, weather: Any = no_weather) -> list[int | None]:
    """Return which window each of many shops alarms in; `watched` makes its rows from the starts and a seed."""
    starts, later = hours(days), hours(14, first=days * 24)
    calibrations, values = [], []
    for seed in range(runs):
        rows = shop(starts, seed, shift=weather(starts, seed))
        found = seasonal(rows, starts)
        measured = yardstick_of(BaselineData.of_values(rows.ravel()), 60).measure_rows(watched(later, 1000 + seed))
        assert found.season is not None
        relative = [
            found.season.relative(one[None], found.season.season.slot(t))
            for one, t in zip(measured, later, strict=True)
        ]
        calibrations.append(found)
        values.append(np.concatenate(relative))
    tracks, first = Tracks(calibrations), np.full(runs, len(later))
    for t in range(len(later)):
        told = tracks.advance(np.stack(values)[:, t], np.full((runs, 5), 60.0), np.full(runs, alarm_at))
        first = np.where(told.evidence >= alarm_at, np.minimum(first, t), first)
    return [None if one == len(later) else int(one) for one in first]


# ── time of day and of week ──────────────────────────────────────────────────────────────────────────────────────


def test_a_season_is_of_the_clock_on_the_wall():
    season = Season("day", ZURICH, 3600)
    assert season.slot(ns("2026-01-15T07:00", ZURICH)) == season.slot(ns("2026-07-15T07:00", ZURICH)) == 7
    assert season.slot(ns("2026-01-15T07:00")) != season.slot(ns("2026-07-15T07:00"))


def test_the_night_in_which_an_hour_comes_twice_or_not_at_all():
    season = Season("day", ZURICH, 3600)
    autumn = [season.slot(ns("2026-10-24T23:30") + i * HOUR) for i in range(4)]
    assert autumn == [1, 2, 2, 3]
    spring = [season.slot(ns("2026-03-28T23:30") + i * HOUR) for i in range(4)]
    assert spring == [0, 1, 3, 4]


def test_a_week_begins_on_monday_in_local_time():
    season = Season("week", "Pacific/Auckland", 3600)
    assert season.slot(ns("2026-06-01T00:00", "Pacific/Auckland")) == 0
    assert season.slot(ns("2026-06-07T23:59", "Pacific/Auckland")) == 167


def test_slots_are_as_fine_as_the_windows_up_to_a_quarter_of_an_hour():
    assert [season_of([i * 60 * minutes * S for i in range(9)]).slot_s for minutes in (3, 15, 30, 60, 240)] == [
        900,
        900,
        1800,
        3600,
        3600,
    ]


def test_a_zone_or_a_cycle_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="no time zone 'Zurich'; give an IANA name"):
        season_of([0], "Zurich")
    with pytest.raises(InvalidInputError, match="'month' is not known"):
        season_of([0], cycle="month")  # pyright: ignore[reportArgumentType]


# ── what a seasonal baseline needs ───────────────────────────────────────────────────────────────────────────────


def test_a_baseline_of_nine_hours_is_refused_and_says_how_much_longer_it_must_be():
    starts = hours(9 / 24)
    with pytest.raises(InvalidInputError, match=r"holds 9 h of the day's 24, 0 of them twice; .* 2 days longer"):
        seasonal(shop(starts, 0), starts)


def test_hours_that_came_once_are_not_enough():
    starts = hours(1.5)
    with pytest.raises(InvalidInputError, match=r"24 h of the day's 24, 12 of them twice; .* 1 day longer"):
        seasonal(shop(starts, 0), starts)
    starts = hours(10)
    with pytest.raises(InvalidInputError, match=r"holds 168 h of the week's 168, 72 of them twice; .* 1 week longer"):
        seasonal(shop(starts, 0), starts, cycle="week")


def test_where_a_site_is_closed_no_window_is_missed():
    opening = OpeningHours.parse("daily 08:00-17:00")
    starts = [start for start in hours(4) if opening.is_open(start, start + HOUR) == "open"]
    rows = shop(starts, 1)
    with pytest.raises(InvalidInputError, match="holds 9 h of the day's 24, 9 of them twice"):
        seasonal(rows, starts)
    assert seasonal(rows, starts, hours=opening).windows == 36


def test_windows_without_times_are_refused():
    rows = shop(hours(3), 0)
    with pytest.raises(InvalidInputError, match="when each of them begins"):
        seasonal(rows, hours(2))
    with pytest.raises(InvalidInputError, match="when each of them begins"):
        calibrate(BaselineData.of_values(rows.ravel()), n=60, cycle="day")


def test_raw_values_may_come_uncut():
    starts = hours(3)
    rows = shop(starts, 2)
    uncut = calibrate(BaselineData.of_values(rows.ravel()), n=60, cycle="day", starts_ns=starts)
    assert uncut == seasonal(rows, starts)


def test_a_seasonal_calibration_must_be_told_when_a_window_begins():
    starts = hours(3)
    rows = shop(starts, 3)
    found = seasonal(rows, starts)
    window = yardstick_of(BaselineData.of_values(rows.ravel()), 60).measure([Part(values=rows[0])])
    with pytest.raises(InvalidInputError, match=r"seasonal, by hour of day \(UTC\); say when each window begins"):
        step(found, State.start(found), window, 1e4)


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_windows_are_judged_by_their_own_hour():
    starts = hours(7)
    rows = shop(starts, 4)
    found = seasonal(rows, starts)
    yardstick = yardstick_of(BaselineData.of_values(rows.ravel()), 60)
    noon = yardstick.measure([Part(values=shop([MONDAY + 12 * HOUR], 5)[0])])
    (_, at_noon), (_, at_night) = steps(
        [found] * 2, [State.start(found)] * 2, [noon] * 2, [1e4] * 2, starts_ns=[MONDAY + 12 * HOUR, MONDAY]
    )
    assert abs(at_noon.residuals["location"]) < 4
    assert at_night.residuals["location"] > 20
    assert "what is usual at their hour of day (UTC)" in found.why


def test_day_and_night_differ_in_spread_too():
    starts = hours(14)
    sd = np.where((np.array(starts) // HOUR % 24 - 6) % 24 < 12, 2.0, 0.5)
    found = seasonal(sd[:, None] * np.random.default_rng(6).normal(size=(len(starts), 60)), starts)
    assert found.season is not None
    location = found.season.spread[NAMES.index("location")]
    # Four times as restless by day; what few windows show is drawn to what all do.
    assert 2 < location[12] / location[0] < 4.5


def test_a_baselines_windows_are_told_relative_to_all_other_days():
    starts = hours(14)
    hour = np.array(starts) // HOUR % 24
    night, noise = hour < 12, np.random.default_rng(17).normal(size=len(starts))
    values = np.where(night, 0.0, 10.0) + np.where(night, 0.5, 2.0) * noise
    usual, relative = usual_of(season_of(starts), starts, values[:, None], np.zeros(1))
    ratio = relative[night].std() / relative[~night].std()
    # A quarter before; what few windows show is drawn to what all do.
    assert 0.5 < ratio < 2
    centre = np.array(usual.centre[0])
    assert centre[night[:24]] == pytest.approx(np.zeros(12), abs=1.5)
    assert centre[~night[:24]] == pytest.approx(np.full(12, 10.0), abs=2)


def test_where_a_season_is_no_cure_none_is_offered():
    starts = hours(4)
    draw = np.random.default_rng(1)
    wanders = draw.normal(size=len(starts)).cumsum()[:, None] + 0.01 * draw.normal(size=(len(starts), 60))
    with pytest.raises(InvalidInputError, match="take a longer baseline or a fixed threshold"):
        seasonal(wanders, starts)
    with pytest.raises(InvalidInputError, match="a seasonal one"):
        calibrate(BaselineData.of_values(wanders.ravel()), n=60)


def test_a_field_without_a_season_is_not_given_one():
    starts = hours(7)
    rows = np.random.default_rng(7).normal(size=(len(starts), 60))
    plain = calibrate(BaselineData.of_values(rows.ravel()), n=60)
    found = seasonal(rows, starts)
    ratio = np.array(found.squares)[:3] / found.freedom[:3] / (np.array(plain.squares)[:3] / plain.freedom[:3])
    assert np.all((ratio > 0.6) & (ratio < 1.6))


def test_both_kinds_of_evidence_know_seasons():
    # Within its hour every row is independent of the others; or a whole window shares its weather.
    starts = hours(7)
    independent = [seasonal(shop(starts, seed), starts).kind for seed in range(4)]
    weather = np.random.default_rng(8).normal(size=(4, len(starts)))
    alike = [seasonal(shop(starts, seed, shift=weather[seed]), starts).kind for seed in range(4)]
    assert independent.count("rows") >= 2
    assert alike == ["windows"] * 4


def test_counts_on_a_grid_say_the_same_as_values():
    starts = hours(7)
    rows = shop(starts, 9)
    grid = quantile_grid(rows.ravel().tolist(), 60)
    counted = [[Part(summary=of_values(row, grid), grid=grid)] for row in rows]
    baseline = BaselineData.of_values(rows.ravel())
    found = calibrate(baseline, n=60, windows=counted, cycle="day", starts_ns=starts)
    values = seasonal(rows, starts)
    assert found.season is not None
    assert values.season is not None
    assert found.season.centre[0] == pytest.approx(values.season.centre[0], rel=1e-6)


def test_a_calibration_with_a_season_survives_json_and_is_the_same_every_time():
    starts = hours(7)
    rows = shop(starts, 10)
    found = seasonal(rows, starts, zone=ZURICH)
    document = json.dumps(found.document())
    assert Calibration.of(json.loads(document)) == found == seasonal(rows, starts, zone=ZURICH)
    assert len(document) < 4096


def test_without_a_season_nothing_is_different():
    rows = shop(hours(2), 11)[:, :20]
    assert "season" not in calibrate(BaselineData.of_values(np.sort(rows.ravel())), n=20, ordered=False).document()


# ── the promise, in small ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("days", [2, 7])
def test_quiet_days_and_nights_seldom_alarm(days: int):
    alerts = first_alerts(8, 1000.0, days, shop)
    # 336 windows at one in 1,000; by Markov's inequality at most a third, measured 5 to 10 %.
    assert sum(one is not None for one in alerts) <= 2


def test_weather_that_lasts_is_no_drift():
    def weather(starts: list[int], seed: int) -> Any:
        shocks = np.random.default_rng(seed + 50).normal(size=len(starts))
        return 0.3 * math.sqrt(1 - 0.9**2) * lfilter([1.0], [1.0, -0.9], shocks)

    def watched(later: list[int], seed: int) -> Any:
        return shop(later, seed, shift=weather(later, seed))

    alerts = first_alerts(6, 1000.0, 7, watched, weather)
    # Hour by hour it shows as a correlation of 0.7 under the noise of a window; taken for that, 40 to 70 % alarm.
    assert sum(one is not None for one in alerts) <= 2


def test_a_change_by_night_alone_is_found_by_night():
    def watched(later: list[int], seed: int) -> Any:
        hour = np.array(later) / HOUR % 24
        return shop(later, seed, shift=np.where((hour < 5) | (hour >= 21), 1.0, 0.0))

    alerts = first_alerts(4, 10_000.0, 7, watched)
    # One night sd of a row is a thirtieth of what day and night differ by.
    assert all(one is not None and one < 30 for one in alerts)
