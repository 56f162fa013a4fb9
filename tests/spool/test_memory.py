"""What can befall an outbox in memory: a power cut at either side of a commit, a full disk, a clone."""

from itertools import count

import pytest

from driftline.errors import TemporaryError
from driftline.spool.memory import MemoryOutbox, Moment
from driftline.spool.outbox import epoch_after
from driftline.wire.device import Record, Stamp


class PowerCutError(Exception):
    """The machine is off."""


def places(outbox: MemoryOutbox) -> list[tuple[str, int]]:
    """Where each record that waits has its place."""
    ledger = outbox._keeper.ledger
    return [(ledger.epoch_of(number), number) for number in range(1, ledger.last + 1)]


@pytest.mark.parametrize(("moment", "there"), [("before", []), ("after", [b"x"])])
def test_a_power_cut_leaves_all_of_a_commit_or_nothing(moment: Moment, there: list[bytes]):
    def cut(at: Moment) -> None:
        if at == moment:
            raise PowerCutError

    outbox = MemoryOutbox(on_commit=cut)
    with pytest.raises(PowerCutError):
        outbox.append("window", b"x", "worker:1", {"complete:pv": "60"})
    found = outbox.copy(on_commit=lambda _: None)
    assert [one.data for one in found.batch(10).records] == there
    assert found.recall("complete:pv") == ("60" if there else None)
    assert found.append("window", b"x", "worker:1") == 1  # the worker repeats what was not answered
    assert found.backlog == 1


def test_a_full_disk_takes_nothing_and_loses_nothing():
    full = [False]

    def write(at: Moment) -> None:
        if full[0] and at == "before":
            raise TemporaryError("full")

    outbox = MemoryOutbox(on_commit=write)
    outbox.append("window", b"x")
    full[0] = True
    with pytest.raises(TemporaryError):
        outbox.append("window", b"y")
    full[0] = False
    assert outbox.append("window", b"z") == 2
    assert [one.data for one in outbox.batch(10).records] == [b"x", b"z"]


def test_a_clone_has_the_same_epoch_and_goes_its_own_way():
    one = MemoryOutbox(epochs=map(str, count()).__next__)
    one.append("window", b"x")
    other = one.copy()
    assert one.append("window", b"a") == other.append("window", b"b") == 2
    assert one.epoch == other.epoch == "0"
    assert other.branch("0", [2]) == epoch_after("0", Record(2, "window", b"b")) == places(other)[1][0]
    assert (one.epoch, one.backlog, other.backlog) == ("0", 2, 2)


def test_copies_of_a_disk_give_what_waited_on_it_the_same_new_place():
    """The hub then takes it once, though it comes from both, in whichever order and batches they send it."""
    one = MemoryOutbox()
    for boot, data in (("before", b"x"), ("before", b"y"), ("after", b"z"), ("after", b"zz")):
        one.append("window", data, stamp=Stamp(boot, 0))
    other, epoch = one.copy(), one.epoch
    one.branch(epoch, [1, 2, 3, 4])
    for conflicts in ([4], [2, 3], [1]):
        other.branch(epoch, conflicts)
    assert places(one) == places(other)
    assert len({of for of, _ in places(one)}) == 2
    mine, theirs = (each.append("window", b"a", stamp=Stamp(boot, 0)) for each, boot in ((one, "1"), (other, "2")))
    assert mine == theirs == 5
    assert one.branch(one.epoch, [5]) != other.branch(other.epoch, [5])
