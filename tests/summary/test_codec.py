import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.summary.arrays import of_values
from driftline.summary.codec import decode, encode
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid
from driftline.summary.summary import CATEGORY_GRID_ID, CategoryTally, Tally
from driftline.wire.device import WireError, varint

values = st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
GRID = Grid((0.0, 1.0, 2.0))


def tallied(some: list[Any], grid: Grid = GRID):
    tally = Tally(grid)
    for value in some:
        tally.add(value)
    return tally.summary()


@given(values, st.sampled_from([GRID, UNIVERSAL]))
def test_numbers_come_back_as_they_went(some: list[Any], grid: Grid):
    summary = tallied(some, grid)
    assert decode(encode(summary), grid.id) == summary


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
    assert decode(encode(summary), grid_id) == summary


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
):
    floats = b"".join(struct.pack(">d", x) for x in (low, high, 0.0, squares))
    packed = b"".join(varint((index << 6) | (n - 1)) for index, n in cells)
    head = b"\x01" + varint(count) + varint(missing) + b"\0\0"
    return head + b"\x88\x88" + floats + varint(len(cells)) + b"\x06" + packed + tail


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
        (b"\x07", "kind 7"),
        (b"\x01" + b"\xff" * 12, "64 bits"),
        (b"\x02\0\0\0\0", "categories are not"),
    ],
)
def test_what_no_values_can_have_given_is_refused_with_its_reason(hostile: bytes, reason: str):
    with pytest.raises(WireError, match=reason):
        decode(hostile, GRID.id)


def test_a_metric_minute_stays_within_its_bytes_on_a_learned_grid():
    # What the design promises for a compressed batch, here without compression: 60 B at n = 60, 80 B at n = 1,800,
    # plus what gzip takes off; a summary of float32 values on 60 quantile bins.
    r = np.random.default_rng(7)
    draw = lambda n: r.beta(20, 2, n).astype(np.float32).astype(np.float64)  # noqa: E731
    grid = quantile_grid(draw(1000).tolist(), float32=True)
    sizes = {n: np.mean([len(encode(of_values(draw(n), grid))) for _ in range(50)]) for n in (60, 1800)}
    assert sizes[60] < 75
    assert sizes[1800] < 110
