"""The builders of the reference platform: each call changes the assay's own windows and bins."""

from datetime import UTC, datetime
from typing import get_args

import pandas as pd
import pytest

from driftline.assay.metrics import METRICS
from driftline.errors import InvalidInputError
from driftline.sdk.assay_config import Aggregation, BinMode, Metric, SummarizerBuilder, WindowBuilder
from driftline.sdk.times import NaiveTimeWarning
from driftline.wire import api


def test_without_a_word_a_window_is_a_day_and_the_bins_are_those_of_the_reference():
    assert WindowBuilder().windows == api.Windows(width_s=86_400, interval_s=None, start_ns=None)
    assert SummarizerBuilder().summarizer == api.Summarizer(
        bin_mode="quantile", num_bins=5, metric="psi", aggregation="density", compat="v1"
    )


def test_durations_add_up_and_calls_chain():
    builder = WindowBuilder()
    assert builder.add_width(hours=1, minutes=3).add_interval(minutes=3) is builder
    assert (builder.windows.width_s, builder.windows.interval_s) == (3780, 180)


def test_a_naive_start_is_utc():
    with pytest.warns(NaiveTimeWarning, match="no time zone and is read as UTC"):
        naive = WindowBuilder().add_start(datetime(2026, 1, 1, 10))  # noqa: DTZ001  what this test is about
    aware = WindowBuilder().add_start(datetime(2026, 1, 1, 10, tzinfo=UTC))
    assert naive.windows.start_ns == aware.windows.start_ns == 1_767_261_600_000_000_000


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ({}, "0 s; give whole seconds above 0"),
        ({"minutes": -3}, "above 0"),
        ({"seconds": 0.5}, "whole seconds"),
        ({"months": 1}, r"add_width\(months=…\): give weeks, days, hours, minutes or seconds"),
    ],
)
def test_a_duration_that_is_none_is_refused(duration: dict[str, float], message: str):
    with pytest.raises(InvalidInputError, match=message):
        WindowBuilder().add_width(**duration)


def test_the_summarizer_is_an_attribute_and_a_call():
    builder = SummarizerBuilder()
    assert builder() is builder
    builder.add_metric(Metric.SUMDIFF).add_aggregation("Cumulative").add_bin_mode("BinMode.EQUAL").add_num_bins(3)
    assert builder.summarizer == api.Summarizer(
        bin_mode="equal", num_bins=3, metric="sumdiff", aggregation="cumulative", compat="v1"
    )


def test_a_metric_brings_bins_that_suit_it_unless_somebody_chose_them():
    assert [SummarizerBuilder().add_metric(one).summarizer.num_bins for one in Metric] == [
        5, 5, 5, 60, 10, 10, 60, 10, 5, 60, 5, 10, 5,
    ]  # fmt: skip
    assert SummarizerBuilder().add_metric("ks").add_metric("PSI").summarizer == api.Summarizer()
    assert SummarizerBuilder().add_num_bins(7).add_metric(Metric.KS).summarizer.num_bins == 7
    assert SummarizerBuilder().add_metric(Metric.KS).add_num_bins(7).summarizer.num_bins == 7


def test_the_enum_has_every_metric_that_can_be_asked_for():
    assert {one.value for one in Metric} == set(get_args(api.Metric)) == set(METRICS)


def test_edges_make_the_mode_provided():
    builder = SummarizerBuilder().add_bin_edges([0, 0.5, 1]).add_bin_weights([0, 1, 1, 0])
    assert (builder.summarizer.bin_mode, builder.summarizer.bin_edges) == ("provided", [0.0, 0.5, 1.0])
    assert builder.summarizer.bin_weights == [0, 1, 1, 0]
    same = SummarizerBuilder().add_bin_mode(BinMode.PROVIDED, [0, 0.5, 1])
    assert same.summarizer.bin_edges == [0.0, 0.5, 1.0]


def test_what_never_had_a_meaning_is_refused_with_what_has():
    with pytest.raises(InvalidInputError, match=r"BinMode\.NONE has no published meaning.*BinMode\.QUANTILE"):
        SummarizerBuilder().add_bin_mode(BinMode.NONE)
    with pytest.raises(InvalidInputError, match=r"Aggregation\.EDGES has no published meaning"):
        SummarizerBuilder().add_aggregation(Aggregation.EDGES)
    with pytest.raises(InvalidInputError, match=r"no Metric 'kl'; use one of Metric\.PSI"):
        SummarizerBuilder().add_metric("kl")


def test_what_is_not_a_number_is_refused_with_what_would_be_one():
    builder = SummarizerBuilder()
    with pytest.raises(InvalidInputError, match=r"add_num_bins\('five'\): give a whole number"):
        builder.add_num_bins("five")  # pyright: ignore[reportArgumentType]  what a notebook may do
    with pytest.raises(InvalidInputError, match="whole number"):
        builder.add_num_bins(2.5)  # pyright: ignore[reportArgumentType]  what a notebook may do
    with pytest.raises(InvalidInputError, match="give a list of numbers"):
        builder.add_bin_edges("abc")
    with pytest.raises(InvalidInputError, match="give a list of numbers"):
        builder.add_bin_weights(1.0)  # pyright: ignore[reportArgumentType]  what a notebook may do
    assert builder.summarizer == api.Summarizer()


def test_a_time_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="wait for the device's first sync"):
        WindowBuilder().add_start(pd.NaT)
