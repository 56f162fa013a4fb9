"""Summaries read many at once are what each is alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.summary.arrays import of_values
from driftline.summary.codec import CELLS_MAX, decode, encode
from driftline.summary.grid import UNIVERSAL, Grid
from driftline.summary.summary import CATEGORY_GRID_ID, CategorySummary, Summary
from driftline.summary.table import Table, decode_table, read_table
from driftline.wire.device import WireError, varint

GRIDS = {grid.id: grid for grid in (Grid((0.0, 1.0, 2.0)), Grid(tuple(map(float, range(200)))), UNIVERSAL)}
grids = st.sampled_from(list(GRIDS.values()))
# Some cells hold one value and some hundreds, so that a count goes on in a second number.
values = st.lists(
    st.tuples(st.one_of(st.floats(), st.floats(-3, 300), st.just(1e308)), st.sampled_from([1, 2, 63, 64, 65, 300]))
)
summaries = st.builds(lambda some, grid: of_values([v for v, times in some for _ in range(times)], grid), values, grids)
BOTH_ENDS = of_values([-np.inf, 1.0, np.inf], GRIDS[UNIVERSAL.id])


@given(st.lists(summaries, max_size=6))
@example([])
@example([BOTH_ENDS])
def test_summaries_are_read_together_as_one_by_one(some: list[Summary]):
    data, ids = [encode(one) for one in some], [one.grid_id for one in some]
    alone = [decode(one, grid_id) for one, grid_id in zip(data, ids, strict=True)]
    table = decode_table(data, ids)
    assert list(table) == alone
    assert list(Table.of(list(table))) == alone
    backwards = np.arange(len(some))[::-1]
    assert list(table.some(backwards)) == alone[::-1]
    assert table.fit(GRIDS).tolist() == [one.infinite == (0, 0) for one in table]


@given(summaries, st.binary(max_size=4), st.randoms(use_true_random=False), summaries)
def test_damaged_bytes_are_read_as_alone_or_left_to_who_says_what_is_wrong(
    one: Summary, extra: bytes, random: Any, other: Summary
):
    data = bytearray(encode(one) + extra)
    for _ in range(random.randrange(3)):
        data[random.randrange(len(data))] = random.randrange(256)
    damaged = bytes(data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data)
    every, ids = [encode(other), damaged, encode(other)], [other.grid_id, one.grid_id, other.grid_id]
    table, is_read = read_table(every, ids)
    assert is_read[[0, 2]].all()
    assert table[0] == table[2] == decode(every[0], other.grid_id)
    try:
        alone = decode(damaged, one.grid_id)
    except WireError as error:
        assert not is_read[1]
        with pytest.raises(WireError, match=f"^{_plain(error)}$"):
            decode_table(every, ids)
        return
    assert isinstance(alone, Summary)
    if is_read[1]:
        assert table[1] == alone
        if alone.infinite == (0, 0):
            assert table.fit(GRIDS)[1] == alone.fits(GRIDS[one.grid_id])
    else:
        assert max(alone.count, alone.missing, *alone.infinite, *(n for _, n in alone.cells)) >= 2**35


def _plain(error: WireError) -> str:
    return str(error).replace("(", r"\(").replace(")", r"\)")


HONEST = of_values([0.5, 0.5, 1.5, -4.0], GRIDS[UNIVERSAL.id])


@pytest.mark.parametrize(
    "changes",
    [{"cells": ((17, 4),)}, {"min": -5.0}, {"min": -3.0}, {"max": 1.9}, {"sum": 1e9}, {"sum_squares": 1e9}],
    ids=str,
)
def test_counts_that_no_values_can_have_given_are_told_apart(changes: Any):
    forged = replace(HONEST, **changes)
    assert not forged.fits(UNIVERSAL)
    assert Table.of([HONEST, forged, HONEST]).fit(GRIDS).tolist() == [True, False, True]


def test_what_is_no_summary_of_numbers_is_left_to_the_reader_of_one():
    text = encode(CategorySummary.of(["a", "b"]))
    many = b"\x01" + varint(2**43) + varint(2**43) + bytes(3)
    far = b"\x01" + varint(1) + bytes(3) + bytes(2) + varint(1) + b"\x01" + varint(CELLS_MAX << 1)
    torn = b"\x01" + varint(1) + bytes(3) + bytes(2) + varint(1) + b"\x01\x81"
    for data, grid_id in ((text, CATEGORY_GRID_ID), (text, UNIVERSAL.id), (many, UNIVERSAL.id), (far, UNIVERSAL.id),
                          (torn, UNIVERSAL.id), (b"", UNIVERSAL.id)):  # fmt: skip
        assert read_table([data], [grid_id])[1].tolist() == [False]
    with pytest.raises(WireError, match="categories"):
        decode_table([text], [CATEGORY_GRID_ID])
    with pytest.raises(WireError, match="2⁴²"):
        decode_table([many], [UNIVERSAL.id])
