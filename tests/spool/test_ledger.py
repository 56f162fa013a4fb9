"""The outbox's bookkeeping: laws of ranges, and a ledger that stays small and forgets nothing that matters."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.spool.ledger import GIVEN_UP_MAX, Drop, Ledger, Tally
from driftline.spool.ranges import Ranges, covers, joined, length, within, without

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=6).map(joined)


def members(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES, RANGES)
def test_ranges_are_sets_of_numbers(some: Ranges, others: Ranges):
    assert members(joined([*some, *others])) == members(some) | members(others)
    assert members(without(some, others)) == members(some) - members(others)
    assert members(within(some, others)) == members(some) & members(others)
    assert length(some) == len(members(some))
    assert {number for number in range(42) if covers(some, number)} == members(some)


@given(RANGES, RANGES)
def test_ranges_never_touch(some: Ranges, others: Ranges):
    for found in (joined([*some, *others]), without(some, others), within(some, others)):
        assert all(end + 1 < begin for (_, end), (begin, _) in pairwise(found))


@given(st.sets(st.integers(1, 20)).map(lambda some: joined((one, one) for one in some)), st.integers(1, 22))
def test_settling_changes_nothing_from_the_oldest_record_on(acknowledged: Ranges, oldest: int):
    ledger = Ledger(((1, "e"),), 21, {"window": acknowledged}).settled("window", oldest)
    after = ledger.kept_as_history("window")
    assert {one for one in members(after) if one >= oldest} == {one for one in members(acknowledged) if one >= oldest}
    assert sum(last < oldest for _, last in after) <= 1


@given(st.lists(st.dictionaries(st.integers(1, 20), st.sampled_from("abcde"), max_size=5), max_size=4))
def test_a_branch_moves_the_named_sequences_and_those_to_come(branches: list[dict[int, str]]):
    ledger = Ledger(((1, "0"),), 20)
    expected = dict.fromkeys(range(1, 22), "0")
    for number, moved in enumerate(branches, 1):
        ledger = ledger.branched(moved, str(number))
        expected |= {**moved, 21: str(number)}
    assert {one: ledger.epoch_of(one) for one in expected} == expected
    for name in set(expected.values()):
        assert members(ledger.sequences_of(name)) == {one for one in range(1, 21) if expected[one] == name}


def test_history_that_went_stays_a_short_list_whose_counts_add_up():
    ledger = Ledger(((1, "e"),), 10_000, history={"window": Tally(10_000, 0), "rows": Tally(10, 0)})
    for number in range(100):
        ledger = ledger.less_history("window", 0, {"e": (number * 100 + 1, number * 100 + 99, 90)})
    ledger = ledger.less_history("rows", 0, {"old": (5, 9, 3), "e": (11, 11, 1)})
    assert len(ledger.given_up) <= GIVEN_UP_MAX
    assert sum(one.count for one in ledger.given_up) == 9004
    lost = ledger.lacking("e", ((9_901, 10_000),))
    assert lost.dropped == {("hub", "window", ""): Drop(90)}
    assert lost.lacking("e", ((9_901, 10_000),)) == lost


@pytest.mark.parametrize("known", [False, True])
def test_two_drops_together_span_both(known: bool):
    one, other = Drop(1, 5, 60, 60), Drop(2, 7, 120, 180) if known else Drop(2)
    assert one.plus(other) == (Drop(3, 12, 60, 180) if known else Drop(3, 5, 60, 60))
    assert one.plus(other) == other.plus(one)
