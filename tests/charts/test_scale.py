from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.charts.scale import (
    clock_text,
    even_ticks,
    evidence_scale,
    nice_above,
    score_scale,
    span_text,
    time_ticks,
)
from driftline.charts.svg import spread

S = 1_000_000_000
YEAR = 366 * 86_400


@given(st.integers(0, 2_000_000_000), st.integers(60, 2 * YEAR))
def test_time_ticks_are_round_inside_and_not_too_many(start_s: int, length_s: int):
    ticks = time_ticks(start_s * S, (start_s + length_s) * S, most=12)
    assert len(ticks) <= 13
    assert all(start_s * S <= tick.time_ns <= (start_s + length_s) * S for tick in ticks)
    steps = {b.time_ns - a.time_ns for a, b in pairwise(ticks)}
    assert len(steps) <= 1


def test_a_day_is_written_where_it_begins():
    ticks = time_ticks(20 * 3600 * S, 30 * 3600 * S, most=12)
    assert [(tick.text, tick.date) for tick in ticks][:5] == [
        ("20:00", "1 Jan"), ("21:00", None), ("22:00", None), ("23:00", None), ("00:00", "2 Jan"),
    ]  # fmt: skip


def test_times_are_written_in_utc():
    assert clock_text(61 * S) == "00:01:01"
    assert span_text(0, 86_400 * S + 60 * S) == "1 Jan 00:00 – 2 Jan 00:01, 1970, UTC"


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 100))
def test_a_score_scale_rises_and_shows_everything(scores: list[Any], threshold: float):
    scale = score_scale(scores, [threshold], 300.0, 70.0)
    places = [scale(score) for score in sorted(scores)]
    assert places == sorted(places, reverse=True)
    assert all(69.9 <= place <= 300.1 for place in places)
    assert 90 < scale(threshold) < 270
    assert all(69.9 <= scale(tick) <= 300.1 for tick in scale.ticks)
    assert 2 <= len(scale.ticks) <= 14


@given(st.floats(1e-9, 1e9))
def test_the_next_round_number_is_near(value: float):
    assert value * (1 - 1e-9) <= nice_above(value) <= value * 1.5


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_even_ticks_lie_inside(low: float, width: float, about: int):
    ticks = even_ticks(low, low + width, about)
    assert 1 <= len(ticks) <= 3 * about
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)


@given(st.lists(st.floats(0, 200), max_size=10))
def test_labels_never_touch_and_keep_their_order(wanted: list[float]):
    placed = spread(wanted, 15.0, 0.0, 200.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(placed[b] - placed[a] == pytest.approx(15.0) or placed[b] - placed[a] > 15.0 for a, b in pairwise(order))
    assert all(-1e-9 <= place <= 200 + 1e-9 for place in placed)


@given(st.lists(st.floats(0, 1e12), max_size=5), st.floats(1.0, 1e8))
def test_an_evidence_scale_rises_and_shows_the_alarm_with_room_above(values: list[Any], level: float):
    scale = evidence_scale([level], values, 300.0, 70.0)
    places = [scale(value) for value in sorted([0.0, *values])]
    assert places == sorted(places, reverse=True)
    assert all(69.9 <= place <= 300.1 for place in places)
    assert 70 < scale(10 * level) < scale(level) < scale(level / 10) < 300
    assert 2 <= len(scale.ticks) <= 10
    assert len(set(scale.tick_texts)) == len(scale.ticks)
