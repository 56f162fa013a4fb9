"""An alarm is a value: a fixed score, or a promise in words that people use for time."""

from datetime import timedelta

import pytest

import driftline
from driftline.errors import InvalidInputError
from driftline.sdk.alarm import message_of, told
from driftline.wire import api


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("30 days", 2_592_000),
        ("1 day", 86_400),
        ("12 hours", 43_200),
        ("2 Weeks", 1_209_600),
        (" 1.5 hours ", 5400),
        ("90minutes", 5400),
        ("30 seconds", 30),
        (timedelta(days=20), 1_728_000),
    ],
)
def test_a_promise_is_given_in_words_or_as_a_timedelta(given: str | timedelta, seconds: int):
    assert driftline.Promise(given).message == api.Promise(false_alarm_every_s=seconds)


@pytest.mark.parametrize("given", ["", "a month", "1 month", "30", "days", "-3 days", "nan days", 30, None, 2.5, True])
def test_what_is_no_time_is_refused_with_what_is(given: object):
    with pytest.raises(InvalidInputError) as refused:
        driftline.Promise(given)  # pyright: ignore[reportArgumentType]  what a notebook may do
    assert str(refused.value) == (
        f"false_alarm_every is {given!r}; give a number of weeks, days, hours, minutes or seconds, such as '30 days', "
        "or a timedelta"
    )


@pytest.mark.parametrize("given", ["0 days", "0.2 seconds", timedelta(days=-1), "400000 days", "9" * 400 + " days"])
def test_a_promise_for_no_time_or_for_ever_is_refused(given: str | timedelta):
    with pytest.raises(InvalidInputError, match="give a time between a second and a thousand years"):
        driftline.Promise(given)


def test_a_promise_has_a_least_effect_and_a_seed():
    promise = driftline.Promise("30 days", min_effect=0.1, seed=7)
    assert promise.message == api.Promise(false_alarm_every_s=2_592_000, min_effect=0.1, seed=7)
    assert repr(promise) == "Promise(false_alarm_every='30 days', min_effect=0.1, seed=7)"
    for effect in (-0.1, float("nan"), float("inf"), "0.1", True):
        with pytest.raises(InvalidInputError, match="shift in the baseline's standard deviations, 0 or more"):
            driftline.Promise("30 days", effect)  # pyright: ignore[reportArgumentType]  what a notebook may do
    for seed in (0.5, -1, "0", True):
        with pytest.raises(InvalidInputError, match="give a whole number of 0 or more"):
            driftline.Promise("30 days", seed=seed)  # pyright: ignore[reportArgumentType]  what a notebook may do


def test_a_fixed_alarm_is_a_score_with_perhaps_a_lower_one():
    assert driftline.Fixed().message == api.Fixed(threshold=0.25, warning=None)
    assert driftline.Fixed(0.5, warning=0).message == api.Fixed(threshold=0.5, warning=0.0)
    for threshold in (-1, float("nan"), "0.25", None, True):
        with pytest.raises(InvalidInputError, match=r"it is a score, 0 or more, and 0\.25 is usual"):
            driftline.Fixed(threshold)  # pyright: ignore[reportArgumentType]  what a notebook may do
    with pytest.raises(InvalidInputError, match="the warning threshold is -1"):
        driftline.Fixed(0.25, -1)


def test_what_is_no_alarm_says_what_would_be_one():
    for given in (0.25, "30 days", None):
        with pytest.raises(InvalidInputError, match=r"give driftline.Promise\('30 days'\), or driftline.Fixed\(0.25\)"):
            message_of(given)


def test_an_alarm_is_told_in_words():
    assert told(api.Fixed(threshold=0.25)) == "score 0.25"
    assert told(api.Fixed(threshold=0.25, warning=0.1)) == "score 0.25 (warning 0.1)"
    assert told(driftline.Promise("2 weeks").message) == "one false alarm in 14 days"
    assert told(driftline.Promise("90 minutes", 0.1).message) == (
        "one false alarm in 90 minutes, of shifts from 0.1 sd on"
    )
