import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.summary.arrays import of_values
from driftline.summary.codec import decode, encode
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid
from driftline.summary.summary import CATEGORY_GRID_ID, CategoryTally, Summary, Tally
from driftline.wire.device import WireError, varint

values = st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
GRID = Grid((0.0, 1.0, 2.0))


def tallied(some: list[Any], grid: Grid = GRID):
    tally = Tally(grid)
    for value in some:
        tally.add(value)
    return tally.summary()


def assert_comes_back(summary: Any, grid_id: str):
    """Everything exactly but the sums, which may be rounded where it shows in neither mean nor variance."""
    back = decode(encode(summary), grid_id)
    if not isinstance(summary, Summary):
        assert back == summary
        return
    assert isinstance(back, Summary)
    assert replace(back, sum=summary.sum, sum_squares=summary.sum_squares) == summary
    assert back.sum == pytest.approx(summary.sum, rel=1e-10, abs=0)
    assert back.sum_squares == pytest.approx(summary.sum_squares, rel=1e-10, abs=0)
    if (back.sum, back.sum_squares) != (summary.sum, summary.sum_squares):
        assert variance(back) == pytest.approx(variance(summary), rel=1e-9)


def variance(summary: Summary) -> float:
    return summary.sum_squares / summary.finite - (summary.sum / summary.finite) ** 2


@given(values, st.sampled_from([GRID, UNIVERSAL]))
@example([2.225073858507e-311], UNIVERSAL)  # so small that a rounded sum would be another number
def test_numbers_come_back_as_they_went(some: list[Any], grid: Grid):
    assert_comes_back(tallied(some, grid), grid.id)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.sampled_from([0.0, 10.0, 1e9]))
def test_a_spread_far_from_the_grids_centre_keeps_its_digits(some: list[float], offset: float):
    assert_comes_back(tallied([value + offset for value in some]), GRID.id)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_float32_values_travel_as_such(some: list[float]):
    summary = tallied(some)
    assert_comes_back(summary, GRID.id)
    ends = tallied([summary.min, summary.max])
    assert len(encode(ends)) <= 1 + 4 + 2 + 4 + 4 + 8 + 8 + 2 + 2 * 2


@given(st.lists(st.one_of(st.none(), st.text(max_size=80))))
def test_categories_come_back_as_they_went(some: list[Any]):
    tally = CategoryTally()
    for value in some:
        tally.add(value)
    assert decode(encode(tally.summary()), CATEGORY_GRID_ID) == tally.summary()


@given(st.binary(max_size=80), st.sampled_from([GRID.id, CATEGORY_GRID_ID]))
def test_hostile_bytes_are_refused_or_read_and_nothing_else(data: Any, grid_id: str):
    try:
        summary = decode(data, grid_id)
    except WireError:
        return
    assert_comes_back(summary, grid_id)


@given(values.filter(bool), st.data())
def test_a_torn_summary_is_refused(some: list[Any], data: Any):
    encoded = encode(tallied(some))
    with pytest.raises(WireError):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))], GRID.id)


def body(
    *,
    count: int = 2,
    missing: int = 0,
    low: float = 0.5,
    high: float = 1.5,
    squares: float = 1.0,
    cells: Sequence[tuple[int, int]] = ((1, 1), (2, 1)),
    tail: bytes = b"",
    sizes: bytes = b"\x88\x88",
):
    floats = b"".join(struct.pack(">d", x) for x in (low, high, 0.0, squares))
    packed = b"".join(varint((index << 6) | (n - 1)) for index, n in cells)
    head = b"\x01" + varint(count) + varint(missing) + b"\0\0"
    return head + sizes + floats + varint(len(cells)) + b"\x06" + packed + tail


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (body(count=3), "do not add up"),
        (body(missing=3), "more values missing"),
        (body(low=2.0), "min <= max"),
        (body(high=math.nan), "finite"),
        (body(squares=-1.0), "not negative"),
        (body(cells=((1, 1), (1 << 20, 1))), "has fewer"),
        (body(tail=b"\0"), "too many"),
        (body(sizes=b"\x8d\x88"), "more than 4 as a float32"),
        (b"\x07", "kind 7"),
        (b"\x01" + b"\xff" * 12, "64 bits"),
        (b"\x02\0\0\0\0", "categories are not"),
    ],
)
def test_what_no_values_can_have_given_is_refused_with_its_reason(hostile: bytes, reason: str):
    with pytest.raises(WireError, match=reason):
        decode(hostile, GRID.id)


def test_a_metric_minute_stays_within_its_bytes_on_a_learned_grid():
    # A summary of float32 values on 60 quantile bins, without compression; bench/assay_speed.py measures what a device
    # sends: at most 60 B at n = 60 and 80 B at n = 1,800.
    r = np.random.default_rng(7)
    draw = lambda n: r.beta(20, 2, n).astype(np.float32).astype(np.float64)  # noqa: E731
    grid = quantile_grid(draw(1000).tolist(), float32=True)
    sizes = {n: np.mean([len(encode(of_values(draw(n), grid))) for _ in range(50)]) for n in (60, 1800)}
    assert sizes[60] < 70
    assert sizes[1800] < 100
