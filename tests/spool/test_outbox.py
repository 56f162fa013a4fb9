"""What every outbox promises, of the file and of memory alike."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driftline.errors import InvalidInputError
from driftline.spool.memory import MemoryOutbox
from driftline.spool.outbox import Outbox, epoch_after
from driftline.spool.spool import Spool
from driftline.wire.device import FieldSummary, Record, Stamp, WindowRecord, decode_event, encode_event, encode_window

NOW_NS = 1_767_261_600_000_000_000
Make = Callable[[int], Outbox]


@pytest.fixture(params=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Outbox] = []

    def build(bytes_max: int = 1 << 20) -> Outbox:
        kind: Callable[..., Outbox] = MemoryOutbox
        places = () if request.param == "memory" else (tmp_path / f"{len(made)}.db",)
        made.append((kind if request.param == "memory" else Spool)(*places, bytes_max=bytes_max, now_ns=lambda: NOW_NS))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def outbox(make: Make) -> Outbox:
    return make(1 << 20)


def reopened(outbox: Outbox) -> Outbox:
    """Return what a restart finds."""
    if isinstance(outbox, MemoryOutbox):
        return outbox.copy()
    assert isinstance(outbox, Spool)
    outbox.close()
    return Spool(outbox.path, bytes_max=outbox._bytes_max, now_ns=lambda: NOW_NS)


def sequences(outbox: Outbox, **how: Any) -> list[int]:
    return [one.sequence for one in outbox.batch(1 << 20, **how).records]


def window(minute: int, pipeline: str = "pv", inferences: int = 60) -> bytes:
    return encode_window(WindowRecord(pipeline, minute * 60, 60, inferences, ()))


# ── records come and go ──────────────────────────────────────────────────────────────────────────────────────────────


def test_records_come_back_in_order_with_growing_sequences_and_their_stamps(outbox: Outbox):
    stamp = Stamp("boot", -5)
    assert [outbox.append("window", b"a", stamp=stamp), outbox.append("rows", b"bb"), outbox.append("event", b"c")] == [
        1,
        2,
        3,
    ]
    assert outbox.batch(1000).records == (
        Record(1, "window", b"a", stamp),
        Record(2, "rows", b"bb"),
        Record(3, "event", b"c"),
    )
    assert (outbox.backlog, outbox.waiting_bytes, outbox.last_sequence) == (3, 4, 3)
    assert outbox.waiting == {"window": 1, "rows": 1, "event": 1}


def test_a_batch_is_limited_but_never_empty_while_something_waits(outbox: Outbox):
    for _ in range(3):
        outbox.append("window", b"x" * 10)
    assert len(outbox.batch(25).records) == 2
    assert len(outbox.batch(1).records) == 1


def test_where_nothing_waits_a_batch_still_names_the_epoch_and_what_is_kept(outbox: Outbox):
    assert (outbox.batch(10).epoch, outbox.batch(10).records, outbox.batch(10).first_kept) == (outbox.epoch, (), 1)
    outbox.append("window", b"x")
    outbox.acknowledge(outbox.epoch, [1])
    assert outbox.batch(10).first_kept == 1


def test_the_newest_may_go_first_and_still_ascend_in_their_batch(outbox: Outbox):
    for _ in range(5):
        outbox.append("window", b"x" * 10)
    assert [one.sequence for one in outbox.batch(25, newest_first=True).records] == [4, 5]
    outbox.acknowledge(outbox.epoch, [4, 5])
    assert [one.sequence for one in outbox.batch(25, newest_first=True).records] == [2, 3]
    assert sequences(outbox) == [1, 2, 3]


def test_kinds_that_are_left_out_wait_on(outbox: Outbox):
    for kind in ("rows", "window", "rows", "event", "window"):
        outbox.append(kind, b"x")
    assert sequences(outbox, without={"rows"}) == [2, 4, 5]
    outbox.acknowledge(outbox.epoch, [2, 4, 5])
    assert sequences(outbox, without={"rows"}) == []
    assert sequences(outbox) == [1, 3]


def test_exactly_what_is_acknowledged_waits_no_more_in_any_order_and_any_number_of_times(outbox: Outbox):
    for _ in range(6):
        outbox.append("window", b"x" * 10)
    for acknowledged, waiting in (([5, 2], [1, 3, 4, 6]), ([2, 5], [1, 3, 4, 6]), ([6, 1, 3], [4]), ([4], [])):
        outbox.acknowledge(outbox.epoch, acknowledged)
        assert sequences(outbox) == waiting
        assert (outbox.backlog, outbox.waiting_bytes) == (len(waiting), 10 * len(waiting))


def test_an_acknowledgement_of_another_epoch_or_of_what_was_never_given_changes_nothing(outbox: Outbox):
    outbox.append("window", b"x")
    outbox.acknowledge("another", [1])
    outbox.acknowledge(outbox.epoch, [0, 2, 10**9])
    assert outbox.append("window", b"y") == 2
    assert sequences(outbox) == [1, 2]


def test_what_goes_with_a_change_is_remembered_with_it_and_not_with_its_repetition(outbox: Outbox):
    outbox.append("rows", b"x", "w:1", {"rows:pv": "5"})
    outbox.append("rows", b"x", "w:1", {"rows:pv": "10"})
    outbox.acknowledge(outbox.epoch, [1], {"synced": "7"})
    outbox.remember("request", "9")
    again = reopened(outbox)
    assert again.recall_all("rows:") == {"pv": "5"}
    assert (again.recall("synced"), again.recall("request"), again.recall("nothing")) == ("7", "9", None)
    again.close()


def test_a_repeated_record_is_taken_once_even_after_a_restart(outbox: Outbox):
    sequence = outbox.append("window", b"x", "worker:7")
    outbox.acknowledge(outbox.epoch, [sequence])
    again = reopened(outbox)
    assert again.append("window", b"x", "worker:7") == sequence
    assert again.append("window", b"x", "another:7") == sequence + 1
    assert sequences(again) == [sequence + 1]
    again.close()


def test_senders_that_ended_long_ago_are_forgotten_and_no_others(outbox: Outbox):
    for number in range(100):
        outbox.append("event", b"{}", f"process {number}:1")
        outbox.append("event", b"{}", f"worker:{number}")
    again = reopened(outbox)
    assert len(again.recall_all("spool.sender.")) <= 64 or isinstance(again, MemoryOutbox)
    assert again.append("event", b"{}", "process 99:1") == 199
    assert again.append("event", b"{}", "worker:99") == 200
    assert again.append("event", b"{}", "process 0:1") == 201
    again.close()


def test_a_malformed_key_or_kind_is_refused(outbox: Outbox):
    with pytest.raises(InvalidInputError, match="sender:number"):
        outbox.append("window", b"x", "seven")
    with pytest.raises(InvalidInputError, match="not 'photo'"):
        outbox.append("photo", b"x")  # type: ignore[arg-type]


def test_a_restart_finds_all_as_it_was_and_gives_no_sequence_twice(outbox: Outbox):
    for kind in ("rows", "window", "event", "window"):
        outbox.append(kind, b"x" * 10, stamp=Stamp("boot", 1))
    outbox.acknowledge(outbox.epoch, [1, 4])
    before = (outbox.epoch, outbox.batch(100), outbox.backlog, outbox.waiting_bytes, outbox.last_sequence)
    again = reopened(outbox)
    assert (again.epoch, again.batch(100), again.backlog, again.waiting_bytes, again.last_sequence) == before
    assert again.append("window", b"y") == 5
    again.close()


# ── what goes when there is no room ──────────────────────────────────────────────────────────────────────────────────


def test_history_goes_before_anything_that_waits(make: Make):
    outbox = make(1000)
    for _ in range(3):
        outbox.append("window", b"w" * 80)
    outbox.acknowledge(outbox.epoch, [1, 2, 3])
    assert outbox.batch(1).first_kept == 1
    for _ in range(3):
        outbox.append("rows", b"r" * 300)
    assert sequences(outbox) == [4, 5, 6]
    assert outbox.batch(1).first_kept > 1


def test_history_that_is_given_up_for_room_takes_nothing_along_that_waits(outbox: Outbox):
    assert isinstance(outbox, MemoryOutbox | Spool)
    for _ in range(6):
        outbox.append("window", b"w" * 100)
    outbox.acknowledge(outbox.epoch, [1, 2, 3])
    assert outbox._keeper.give_up_history(150) == 200
    assert (outbox.batch(1).first_kept, sequences(outbox)) == (3, [4, 5, 6])
    assert outbox._keeper.give_up_history(1 << 20) == 100
    assert outbox._keeper.give_up_history(1) == 0
    assert sequences(outbox) == [4, 5, 6]  # and no event: nothing is lost that the hub has
    outbox.rewind(outbox.epoch, [])
    assert decode_event(outbox.batch(1 << 20).records[-1].data)["counts"] == {"window": 3}


def test_history_is_kept_up_to_its_share_of_the_cap(make: Make):
    outbox = make(10_000)
    for _ in range(100):
        outbox.acknowledge(outbox.epoch, [outbox.append("window", b"w" * 100)])
    first = outbox.batch(1).first_kept
    # A quarter of the cap holds 25 of these; an eighth of it goes at once.
    assert 75 <= first <= 80
    assert outbox.rewind(outbox.epoch, [(1, first - 1)]) == 101 - first


def test_rows_are_dropped_before_windows_and_the_oldest_of_them_first(make: Make):
    outbox = make(1000)
    outbox.append("window", b"w" * 300)
    for _ in range(3):
        outbox.append("rows", b"r" * 200)
    outbox.append("window", b"w" * 300)  # 1200 bytes: a rows record too much, and room for a little more
    records = outbox.batch(10_000).records
    assert [(one.sequence, one.kind) for one in records] == [(1, "window"), (4, "rows"), (5, "window"), (6, "event")]
    assert decode_event(records[-1].data) == {
        "type": "dropped",
        "at_ns": NOW_NS,
        "where": "spool",
        "counts": {"rows": 2},
    }


def test_dropped_windows_are_said_by_pipeline_with_their_time(make: Make):
    outbox = make(1000)
    fields = tuple(FieldSummary(f"out.{number}", "00" * 8, b"x" * 40) for number in range(4))
    for minute in range(10):
        record = WindowRecord(f"pv{minute % 2}", minute * 60, 60, minute, fields)
        outbox.append("window", encode_window(record))
    records = outbox.batch(10_000).records
    kept = [one.sequence - 1 for one in records if one.kind == "window"]
    gone = [minute for minute in range(10) if minute not in kept]
    event = decode_event(records[-1].data)
    assert kept == list(range(10))[-len(kept) :]
    assert event["counts"] == {"window": len(gone)}
    for number in (0, 1):
        minutes = [minute for minute in gone if minute % 2 == number]
        assert event["windows"][f"pv{number}"] == {
            "count": len(minutes),
            "inferences": sum(minutes),
            "first_s": min(minutes) * 60,
            "last_s": max(minutes) * 60,
        }
    assert not any(one.sequence > records[-1].sequence for one in outbox.batch(10_000).records)  # said once


def test_what_was_dropped_is_said_by_the_clock_it_was_made_by(make: Make):
    outbox = make(1000)
    slow, right = Stamp("boot", 0), Stamp("boot", 1_767_261_600 * 10**9)
    for stamp in (slow, slow._replace(offset_ns=5_000)):
        for minute in range(8):
            outbox.append("window", window(minute), stamp=stamp)
    outbox.append("window", b"x" * 960)
    outbox = reopened(outbox)
    told = outbox.batch(1 << 20).records[-1]
    assert told.stamp == slow
    assert decode_event(told.data)["at_ns"] == 7 * 60 * 10**9
    assert decode_event(told.data)["windows"]["pv"] | {"inferences": 0} == {
        "count": 16, "inferences": 0, "first_s": 0, "last_s": 7 * 60,
    }  # fmt: skip
    for stamp in (slow, right):  # the clock was set in between
        outbox.append("window", window(3), stamp=stamp)
    outbox.append("window", b"x" * 960)
    told = [one for one in outbox.batch(1 << 20).records if one.kind == "event"][-1]
    assert (told.stamp, decode_event(told.data)["at_ns"]) == (None, NOW_NS)
    assert decode_event(told.data)["windows"]["pv"]["first_s"] is None


def test_what_a_dropped_event_said_was_dropped_is_said_by_the_next(make: Make):
    outbox = make(1000)
    for minute in range(60):
        outbox.append("window", window(minute))
    outbox.batch(1)
    for number in range(100):
        outbox.append("event", encode_event("note", number, text="x" * 80))
        outbox.batch(1)
    told = [decode_event(one.data) for one in outbox.batch(1 << 20).records]
    dropped = [one for one in told if one["type"] == "dropped"]
    assert sum(one["windows"]["pv"]["count"] for one in dropped if "windows" in one) == 60
    assert sum(one["counts"].get("event", 0) for one in dropped) == 100 - sum(one["type"] == "note" for one in told)


# ── a hub that was restored ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_restored_hub_gets_again_what_it_lacks_and_nothing_else(outbox: Outbox):
    for kind in ("window", "rows", "window", "event", "window", "rows", "window"):
        outbox.append(kind, b"x" * 10)
    outbox.acknowledge(outbox.epoch, [1, 2, 3, 4, 5, 6])
    assert outbox.rewind(outbox.epoch, [(1, 3), (5, 5)], {"synced": "3"}) == 2
    assert sequences(outbox) == [4, 6, 7]
    assert (outbox.backlog, outbox.waiting_bytes, outbox.recall("synced")) == (3, 30, "3")
    assert outbox.rewind(outbox.epoch, [(1, 3), (5, 5)]) == 0  # its answer came twice
    outbox.acknowledge(outbox.epoch, [4, 6, 7])
    assert sequences(outbox) == []
    assert outbox.rewind(outbox.epoch, []) == 7
    assert sequences(outbox) == [1, 2, 3, 4, 5, 6, 7]


def test_a_rewind_of_another_epoch_changes_nothing(outbox: Outbox):
    outbox.append("window", b"x")
    outbox.acknowledge(outbox.epoch, [1])
    assert outbox.rewind("another", []) == 0
    assert sequences(outbox) == []


def test_what_a_restored_hub_lacks_and_nobody_has_is_counted_once(make: Make):
    outbox = make(10_000)
    for _ in range(100):
        outbox.acknowledge(outbox.epoch, [outbox.append("window", b"w" * 100)])
    first = outbox.batch(1).first_kept
    assert outbox.rewind(outbox.epoch, [(1, 10)]) == 101 - first
    event = decode_event(outbox.batch(1 << 20).records[-1].data)
    assert (event["type"], event["where"]) == ("dropped", "hub")
    assert event["counts"] == {"window": first - 11}
    outbox.rewind(outbox.epoch, [(1, 10)])
    assert outbox.batch(1 << 20).records[-1].sequence == 101


def test_what_was_given_up_is_known_after_a_restart(make: Make):
    outbox = make(1000)
    for _ in range(20):
        outbox.acknowledge(outbox.epoch, [outbox.append("window", b"w" * 100)])
    outbox = reopened(outbox)
    again = outbox.rewind(outbox.epoch, [])
    assert decode_event(outbox.batch(1 << 20).records[-1].data)["counts"] == {"window": 20 - again}
    outbox.close()


# ── a disk that was cloned ───────────────────────────────────────────────────────────────────────────────────────────


def test_conflicting_records_and_those_to_come_get_another_epoch_and_the_others_stay(outbox: Outbox):
    for _ in range(6):
        outbox.append("window", b"x")
    old = outbox.epoch
    outbox.acknowledge(old, [1, 4])
    new = outbox.branch(old, [2, 3, 4])  # 4 was acknowledged meanwhile
    assert new == outbox.epoch != old
    outbox.append("window", b"y")
    batches: list[tuple[str, list[int]]] = []
    while outbox.backlog:
        batch = outbox.batch(1000)
        batches.append((batch.epoch, [one.sequence for one in batch.records]))
        outbox.acknowledge(*batches[-1])
    assert batches == [(new, [2, 3]), (old, [5, 6]), (new, [7])]


def test_a_later_conflict_in_an_epoch_left_behind_joins_those_of_its_boot(outbox: Outbox):
    for _ in range(4):
        outbox.append("window", b"x")
    old = outbox.epoch
    new = outbox.branch(old, [3])
    assert outbox.branch(old, [1]) == new == outbox.epoch
    again = reopened(outbox)
    assert (again.epoch, again.batch(10).epoch, sequences(again)) == (new, new, [1])
    again.acknowledge(new, [1])
    assert (again.batch(10).epoch, sequences(again)) == (old, [2])
    again.close()


def test_conflicts_of_several_boots_get_an_epoch_each_and_those_to_come_the_last(outbox: Outbox):
    for boot in ("one", "two", "one", "three"):
        outbox.append("window", b"x", stamp=Stamp(boot, 0))
    old = outbox.epoch
    new = outbox.branch(old, [1, 2, 3])
    assert outbox.append("window", b"y") == 5
    found: dict[int, str] = {}
    while outbox.backlog:
        batch = outbox.batch(1000)
        found |= {one.sequence: batch.epoch for one in batch.records}
        outbox.acknowledge(batch.epoch, [one.sequence for one in batch.records])
    assert found[1] == found[3] == found[5] == new != found[2]
    assert found[4] == old


def test_what_is_kept_of_other_epochs_waits_again_for_a_hub_that_was_restored(outbox: Outbox):
    for _ in range(4):
        outbox.append("window", b"x")
    old = outbox.epoch
    new = outbox.branch(old, [3, 4])
    outbox.acknowledge(old, [1, 2])
    outbox.acknowledge(new, [3, 4])
    assert outbox.batch(10).first_kept == 3
    assert outbox.rewind(new, [(1, 3)]) == 3
    assert sequences(outbox) == [1, 2]
    outbox.acknowledge(old, [1, 2])
    assert (outbox.batch(10).epoch, sequences(outbox)) == (new, [4])
    assert outbox.rewind(old, [(1, 1)]) == 2


# ── any order of anything ────────────────────────────────────────────────────────────────────────────────────────────

KINDS = st.sampled_from(["window", "rows", "event"])


class Model(RuleBasedStateMachine):
    """Plays agent and hub against one outbox, and keeps a book of its own on every record."""

    def made(self) -> Outbox:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.outbox = self.made()
        self.appended: dict[int, tuple[str, bytes]] = {}
        self.hub: dict[tuple[str, int], bytes] = {}
        self.sent: tuple[str, list[int]] = (self.outbox.epoch, [])
        self.at = 0
        self.acknowledged: set[int] = set()
        self.said: dict[int, int] = {}

    @rule(kind=KINDS, size=st.integers(1, 300))
    def append(self, kind: Any, size: int) -> None:
        self.at += 1
        data = {
            "window": window(self.at, f"pv{size % 2}") + b"+" * size,
            "rows": b"r" * size,
            "event": encode_event("note", self.at, text="x" * size),
        }[kind]
        sequence = self.outbox.append(kind, data, f"worker:{self.at}", stamp=Stamp("boot", self.at))
        assert sequence not in self.appended
        assert sequence == self.outbox.last_sequence
        assert self.outbox.append(kind, data, f"worker:{self.at}") == sequence
        self.appended[sequence] = (kind, data)

    @rule(size=st.integers(1, 1500), newest=st.booleans(), without=st.sets(KINDS, max_size=2))
    def send(self, size: int, newest: bool, without: Any) -> None:
        batch = self.outbox.batch(size, newest_first=newest, without=without)
        numbers = [one.sequence for one in batch.records]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 1 or sum(len(one.data) for one in batch.records) <= size
        assert not any(one.kind in without for one in batch.records)
        for one in batch.records:
            # (epoch, sequence) names one content for ever.
            assert self.hub.setdefault((batch.epoch, one.sequence), one.data) == one.data
            assert one.sequence not in self.appended or self.appended[one.sequence] == (one.kind, one.data)
            assert batch.first_kept <= one.sequence
        self.sent = (batch.epoch, numbers)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        epoch, numbers = self.sent
        if numbers:
            some = data.draw(st.lists(st.sampled_from(numbers), unique=True))
            self.acknowledged |= {one for one in some if one in self.waiting() and self.epoch_of(one) == epoch}
            self.outbox.acknowledge(epoch, some, {"synced": str(self.at)})
            assert self.outbox.recall("synced") == str(self.at) or not some

    @rule(held=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=3))
    def restore_the_hub(self, held: list[tuple[int, int]]) -> None:
        before, (epoch, _) = self.outbox.backlog, self.sent
        again = self.outbox.rewind(epoch, held)
        assert self.outbox.backlog == before + again
        assert self.outbox.rewind(epoch, held) == 0
        self.acknowledged -= self.waiting().keys()

    @rule(data=st.data())
    def find_a_clone(self, data: st.DataObject) -> None:
        epoch, numbers = self.sent
        if numbers:
            conflicts = data.draw(st.lists(st.sampled_from(numbers), min_size=1, unique=True))
            waiting, newest, last = self.waiting().keys(), self.outbox.epoch, self.outbox.last_sequence
            epochs = {number: self.epoch_of(number) for number in range(1, last + 1)}
            new = self.outbox.branch(epoch, conflicts)
            assert (new == newest) == (epoch != newest)
            assert self.waiting().keys() == waiting
            moved = epoch_after(epoch, Record(0, "window", b"", Stamp("boot", 0)))
            epochs |= {one: moved for one in conflicts if one in waiting and epochs[one] == epoch}
            assert {number: self.epoch_of(number) for number in epochs} == epochs
            assert self.epoch_of(last + 1) == new

    @rule()
    def restart(self) -> None:
        before = self.outbox.epoch, self.outbox.last_sequence, self.outbox.backlog
        self.outbox = reopened(self.outbox)
        assert (self.outbox.epoch, self.outbox.last_sequence, self.outbox.backlog) == before

    def waiting(self) -> dict[int, Record]:
        keeper: Any = self.outbox._keeper  # type: ignore[attr-defined]
        return {one.sequence: one for one in keeper._waiting(["rows", "window", "event"], newest_first=False)}

    def history(self) -> set[int]:
        keeper: Any = self.outbox._keeper  # type: ignore[attr-defined]
        kinds: Any = ("rows", "window", "event")
        return {
            one.sequence for kind in kinds for one in keeper._store.records(kind, keeper.ledger.kept_as_history(kind))
        }

    def epoch_of(self, sequence: int) -> str:
        return self.outbox._keeper.ledger.epoch_of(sequence)  # type: ignore[attr-defined]

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        waiting = self.waiting()
        assert self.outbox.backlog == len(waiting) == sum(self.outbox.waiting.values())
        assert self.outbox.waiting_bytes == sum(len(one.data) for one in waiting.values())
        assert self.history() <= self.acknowledged
        for number, one in waiting.items():
            assert self.appended.get(number, (one.kind, one.data)) == (one.kind, one.data)

    @invariant()
    def each_record_waits_or_was_acknowledged_or_is_counted_as_dropped(self) -> None:
        """Only an event that says what was dropped may go uncounted: what it said is said again."""
        waiting, history = self.waiting(), self.history()
        for number in waiting.keys() - self.appended.keys():
            self.said[number] = sum(decode_event(waiting[number].data)["counts"].values())
        said_again = self.said.keys() - waiting.keys() - self.acknowledged
        ledger: Any = self.outbox._keeper.ledger  # type: ignore[attr-defined]
        dropped = sum(one.count for one in ledger.dropped.values())
        dropped += sum(count for number, count in self.said.items() if number not in said_again)
        given_up = sum(one.count for one in ledger.given_up)
        assert len(waiting) + len(history) + given_up + dropped + len(said_again) == self.outbox.last_sequence


class MemoryModel(Model):
    def made(self) -> Outbox:
        return MemoryOutbox(bytes_max=3000, now_ns=lambda: NOW_NS)


class FileModel(Model):
    def made(self) -> Outbox:
        self.folder = TemporaryDirectory()
        return Spool(Path(self.folder.name) / "spool.db", bytes_max=3000, now_ns=lambda: NOW_NS)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.outbox.close()
            self.folder.cleanup()


TestMemory = MemoryModel.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestFile = FileModel.TestCase
TestFile.settings = settings(max_examples=8, stateful_step_count=40, deadline=None)
