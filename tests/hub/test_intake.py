"""What becomes of a batch: every case of it, with nothing but numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from driftline.hub.intake import (
    EPOCHS_MAX,
    Decision,
    Told,
    content_hash,
    decide,
    epochs_after,
    is_older,
)
from driftline.wire.device import BatchHead, Record

HEAD = BatchHead("camera-1", "epoch")


def record(sequence: int, data: bytes = b"") -> Record:
    return Record(sequence, "window", data or b"window %d" % sequence)


def decided(
    records: Sequence[Record],
    known: Sequence[Record] = (),
    *,
    reasons: Mapping[int, str] | None = None,
    previous: int = 0,
    synced: int = 0,
    ranges: Sequence[tuple[int, int]] = (),
) -> Decision[Record]:
    checked = [(one, (reasons or {}).get(one.sequence, "")) for one in records]
    hashes = {one.sequence: content_hash(one.data) for one in known}
    return decide(replace(HEAD, previous=previous), 100, checked, hashes, synced, ranges)


def test_a_batch_without_records_acknowledges_nothing():
    decision = decided([])
    assert (decision.new, decision.acknowledged, decision.held, decision.is_believed) == ([], 0, None, True)


def test_what_is_not_known_is_new():
    decision = decided([record(1), record(2)])
    assert (decision.new, decision.acknowledged) == ([record(1), record(2)], 2)


def test_the_same_under_a_known_number_came_again():
    decision = decided([record(1), record(2)], known=[record(1)])
    assert (decision.new, decision.again, decision.conflicts) == ([record(2)], {1}, [])
    assert decision.acknowledged == 2


def test_what_can_never_be_taken_is_written_under_its_number_and_named():
    decision = decided([record(1), record(2)], reasons={1: "absurd"})
    assert ([one.sequence for one in decision.new], decision.refused) == ([1, 2], {1: "absurd"})


def test_what_was_refused_before_came_again_and_is_not_counted_twice():
    decision = decided([record(1)], known=[record(1)], reasons={1: "absurd"})
    assert (decision.new, decision.again, decision.refused) == ([], {1}, {})


def test_other_content_under_a_known_number_is_a_conflict_whatever_it_is():
    decision = decided(
        [record(1, b"other"), record(2), record(3, b"absurd")], [record(1), record(3)], reasons={3: "no"}
    )
    assert (decision.conflicts, decision.refused) == ([1, 3], {})
    assert [one.sequence for one in decision.new] == [2]
    assert decision.acknowledged == 3  # less the conflicts


def test_what_the_head_says_to_be_complete_does_not_hold_while_records_are_in_conflict():
    assert not decided([record(1, b"other")], [record(1)]).is_believed


def test_a_commit_is_known_by_its_request():
    assert decided([record(1)], previous=40, synced=40).synced == 100
    assert decided([record(1)], previous=0, synced=40).synced == 100  # the spool was lost


def test_a_hub_older_than_what_it_acknowledged_takes_nothing_and_says_what_it_has():
    decision = decided(
        [record(12), record(13)], [record(12)], previous=90, synced=40, ranges=[(1, 5), (7, 8), (12, 12)]
    )
    assert decision.held == ((1, 5), (7, 8), (12, 12))
    assert (decision.new, decision.acknowledged) == ((), 0)
    assert not decision.is_believed


def test_it_says_so_until_the_device_has_heard_it():
    first = decided([record(1)], previous=90, synced=40)
    assert first.synced == 40
    again = decided([record(1)], previous=90, synced=first.synced)
    assert (again.held, again.synced) == ((), 40)
    heard = decided([record(2)], previous=again.synced, synced=again.synced)
    assert (heard.held, heard.synced) == (None, 100)


def test_a_device_that_says_less_than_the_hub_knows_lost_a_reply_and_nothing_else():
    assert not is_older(replace(HEAD, previous=30), 40)
    assert is_older(replace(HEAD, previous=41), 40)


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_epoch_follows_the_old_one():
    assert epochs_after([], "a") == (["a"], False)
    assert epochs_after(["a"], "a") == (["a"], False)
    assert epochs_after(["a"], "b") == (["a", "b"], False)


def test_an_epoch_that_comes_back_is_another_machine():
    epochs, came_back = epochs_after(["a", "b"], "a")
    assert (epochs, came_back) == (["b", "a"], True)
    assert epochs_after(epochs, "b") == (["a", "b"], True)


def test_only_the_newest_epochs_are_remembered():
    epochs: list[str] = []
    for number in range(3 * EPOCHS_MAX):
        epochs, came_back = epochs_after(epochs, str(number))
        assert not came_back
    assert len(epochs) == EPOCHS_MAX


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "until", "since", "after"),
    [
        (Told(0), 100, None, Told(100)),
        (Told(100), 90, None, Told(100)),  # what was told stays told
        (Told(100), 500, 400, Told(100, 400, 500)),
        (Told(100, 400, 500), 600, 300, Told(100, 300, 600)),
        (Told(100, 300, 600), 600, 80, Told(600)),  # the newest reach back to what was told
        (Told(100, 400, 500), 500, None, Told(500)),  # nothing waits any more
        (Told(100, 400, 500), 200, None, Told(200, 400, 500)),  # the oldest go first again
        (Told(200, 400, 500), 400, None, Told(500)),
        (Told(100), 500, 500, Told(100, 500, 500)),  # the newest window itself still waits
        (Told(100), 100, 100, Told(100)),
    ],
)
def test_what_is_told_grows_from_both_ends(before: Told, until: int, since: int | None, after: Told):
    assert before.after(until, since) == after
