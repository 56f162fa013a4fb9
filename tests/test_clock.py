import time
from pathlib import Path

import pytest

from driftline import clock as clocks
from driftline.clock import NS_PER_S, FastClock, ManualClock, SystemClock, from_environment, iso, parse_iso, to_ns
from driftline.errors import InvalidInputError


def test_without_the_variable_time_is_the_machines_own():
    clock = from_environment({})
    assert isinstance(clock, SystemClock)
    assert abs(clock.now_ns() - time.time_ns()) < NS_PER_S
    assert clock.banner is None


def test_fast_time_begins_in_the_past_and_says_so():
    clock = from_environment({clocks.VARIABLE: "2020-01-01T00:00:00 x60"})
    began = clock.now_ns()
    assert parse_iso("2020-01-01") <= began < parse_iso("2020-01-01T00:05:00")
    assert "60×" in (clock.banner or "")


def test_a_child_process_shares_the_clock_of_its_parent():
    environment = {clocks.VARIABLE: "2020-01-01T00:00:00+00:00 x60"}
    parent = from_environment(environment)
    child = from_environment(dict(environment))
    assert abs(parent.now_ns() - child.now_ns()) < NS_PER_S


def test_fast_time_runs_at_its_factor_until_it_reaches_the_present_and_then_in_step():
    now = time.time_ns()
    # An hour behind and 61 times as fast catches up after one real minute.
    behind = FastClock(now - 3600 * NS_PER_S, 61, now)
    assert behind.wait_s(now - 3600 * NS_PER_S + 610 * NS_PER_S) == pytest.approx(10, abs=0.5)
    caught_up = FastClock(now - 7200 * NS_PER_S, 61, now - 3600 * NS_PER_S)
    assert abs(caught_up.now_ns() - time.time_ns()) < NS_PER_S
    assert caught_up.banner is None
    assert caught_up.wait_s(time.time_ns() + 5 * NS_PER_S) == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize(
    "text", ["yesterday x60", "2020-01-01T00:00:00", "2020-01-01T00:00:00 x0.5", "2999-01-01T00:00:00 x2", "x60"]
)
def test_a_clock_that_cannot_be_is_refused_with_the_reason(text: str):
    with pytest.raises(InvalidInputError):
        from_environment({clocks.VARIABLE: text})


def test_a_naive_datetime_is_utc():
    assert parse_iso("2026-03-29T02:30:00") == parse_iso("2026-03-29T04:30:00+02:00")
    assert iso(parse_iso("2026-03-29T02:30:00.25")) == "2026-03-29T02:30:00.250000+00:00"
    from datetime import UTC, datetime

    assert to_ns(datetime(2026, 1, 1)) == to_ns(datetime(2026, 1, 1, tzinfo=UTC))  # noqa: DTZ001 naive on purpose


def test_a_manual_clock_moves_when_told_to():
    clock = ManualClock(5)
    clock.advance(2)
    assert clock.now_ns() == 5 + 2 * NS_PER_S
    assert clock.wait_s(5 + 3 * NS_PER_S) == 1.0
    clock.set(0)
    assert (clock.now_ns(), clock.steady_ns()) == (0, 2 * NS_PER_S)


def test_the_steady_clock_only_goes_on_and_names_its_boot():
    clock = SystemClock()
    first_ns = clock.steady_ns()
    assert clock.steady_ns() >= first_ns > 0
    assert clock.boot == SystemClock().boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_fast_time_is_its_own_steady_clock_and_is_not_to_be_corrected():
    clock = FastClock(parse_iso("2020-01-01"), 60, time.time_ns())
    assert abs(clock.steady_ns() - clock.now_ns()) < NS_PER_S
    assert clock.boot == ""
