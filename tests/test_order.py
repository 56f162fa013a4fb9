"""The order in which `make test` begins its tests."""

import pytest

from tests.conftest import dealt


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_every_worker_begins_with_its_share_of_the_slow_tests(workers: int):
    slow, rest = "ABCDE", "abcdefghijklmnopqrstuvwxyz"
    blocks = list(dealt(slow, rest, workers))
    assert sorted("".join(map("".join, blocks))) == sorted(slow + rest), "none is lost or comes twice"
    for block in blocks:
        share = [one for one in block if one in slow]
        assert block[: len(share)] == share
        assert len(share) in {len(slow) // workers, len(slow) // workers + 1}
        assert block[len(share) :] == sorted(block[len(share) :])
    # As `--dist worksteal` cuts what it is given.
    left = len(slow + rest)
    for number, block in enumerate(blocks):
        assert len(block) == left // (workers - number)
        left -= len(block)
