"""The outbox: committed before it answers, capped, repaired, and never the same sequence twice."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import InvalidInputError, NotAllowedError, TemporaryError
from driftline.spool.spool import Spool
from driftline.wire.device import decode_event

NOW_NS = 1_767_261_600_000_000_000


def opened(path: Path, bytes_max: int = 1 << 20) -> Spool:
    return Spool(path, bytes_max=bytes_max, now_ns=lambda: NOW_NS)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = opened(tmp_path / "spool.db")
    yield made
    made.close()


def test_records_come_back_in_order_with_growing_sequences(spool: Spool):
    assert [spool.append("window", b"a"), spool.append("rows", b"bb"), spool.append("event", b"c")] == [1, 2, 3]
    assert [(one.sequence, one.kind, one.data) for one in spool.batch(1000)] == [
        (1, "window", b"a"),
        (2, "rows", b"bb"),
        (3, "event", b"c"),
    ]
    assert (spool.backlog, spool.waiting_bytes, spool.last_sequence) == (3, 4, 3)


def test_a_batch_is_limited_but_never_empty_while_something_waits(spool: Spool):
    for _ in range(3):
        spool.append("window", b"x" * 10)
    assert len(spool.batch(25)) == 2
    assert len(spool.batch(1)) == 1


def test_only_an_acknowledgement_deletes(spool: Spool):
    for _ in range(4):
        spool.append("window", b"x" * 10)
    spool.batch(1000)
    spool.acknowledge(3)
    assert [one.sequence for one in spool.batch(1000)] == [4]
    assert (spool.backlog, spool.waiting_bytes) == (1, 10)


def test_an_acknowledgement_of_what_was_never_given_out_deletes_no_more_than_there_is(spool: Spool):
    spool.append("window", b"x")
    spool.acknowledge(10**9)
    assert spool.append("window", b"y") == 2
    assert [one.sequence for one in spool.batch(10)] == [2]


def test_sequences_are_never_used_twice_even_when_all_is_sent_and_the_program_starts_anew(tmp_path: Path):
    first = opened(tmp_path / "spool.db")
    first.append("window", b"x")
    first.acknowledge(1)
    epoch = first.epoch
    first.close()
    second = opened(tmp_path / "spool.db")
    assert second.epoch == epoch
    assert second.append("window", b"y") == 2
    second.close()


def test_a_repeated_record_is_taken_once(spool: Spool):
    sequence = spool.append("window", b"x", "worker:7")
    spool.acknowledge(sequence)
    assert spool.append("window", b"x", "worker:7") == sequence
    assert spool.append("window", b"x", "another:7") == sequence + 1
    assert [one.sequence for one in spool.batch(10)] == [sequence + 1]


def test_what_goes_with_a_record_is_remembered_with_it_and_not_with_its_repetition(spool: Spool):
    spool.append("rows", b"x", "w:1", {"rows:pv": "5"})
    spool.append("rows", b"x", "w:1", {"rows:pv": "10"})
    assert spool.recall_all("rows:") == {"pv": "5"}
    spool.remember("request", "9")
    assert spool.recall("request") == "9"
    assert spool.recall("nothing") is None


def test_rows_are_dropped_before_windows_and_the_oldest_of_them_first(tmp_path: Path):
    spool = opened(tmp_path / "spool.db", bytes_max=1000)
    spool.append("window", b"w" * 300)
    for _ in range(3):
        spool.append("rows", b"r" * 200)
    spool.append("window", b"w" * 300)  # 1200 bytes: a row record too much, and room for a little more
    kinds = [(one.sequence, one.kind) for one in spool.batch(10_000)]
    assert kinds == [(1, "window"), (4, "rows"), (5, "window"), (6, "event")]
    assert decode_event(spool.batch(10_000)[-1].data) == {
        "type": "dropped",
        "at_ns": NOW_NS,
        "where": "spool",
        "counts": {"rows": 2},
    }
    spool.close()


def test_when_no_rows_are_left_the_oldest_windows_go_and_are_counted(tmp_path: Path):
    spool = opened(tmp_path / "spool.db", bytes_max=1000)
    for _ in range(10):
        spool.append("window", b"w" * 300)
    batch = spool.batch(10_000)
    assert [one.sequence for one in batch if one.kind == "window"] == [8, 9, 10]
    assert decode_event(batch[-1].data)["counts"] == {"window": 7}
    assert sum(one.kind == "event" for one in spool.batch(10_000)) == 1  # said once
    spool.close()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["rows", "window"]), st.integers(1, 400)), max_size=40))
def test_every_record_is_delivered_or_counted_as_dropped(tmp_path_factory: pytest.TempPathFactory, records: list):
    spool = opened(tmp_path_factory.mktemp("spool") / "spool.db", bytes_max=1000)
    for kind, size in records:
        spool.append(kind, b"x" * size)
    batch = spool.batch(1 << 20)
    dropped = sum(sum(decode_event(one.data)["counts"].values()) for one in batch if one.kind == "event")
    assert sum(one.kind != "event" for one in batch) + dropped == len(records)
    assert sum(len(one.data) for one in batch if one.kind != "event") <= 1000
    assert spool.waiting_bytes == sum(len(one.data) for one in batch)
    spool.close()


def test_the_file_stays_within_its_cap(tmp_path: Path):
    spool = opened(tmp_path / "spool.db", bytes_max=2 << 20)
    for _ in range(200):
        spool.append("window", os.urandom(50_000))
    assert (tmp_path / "spool.db").stat().st_size <= 1.25 * (2 << 20)
    spool.close()


def test_a_damaged_file_is_kept_aside_and_a_new_epoch_begins(tmp_path: Path):
    path = tmp_path / "spool.db"
    first = opened(path)
    first.append("window", b"x" * 10_000)
    first.close()
    path.write_bytes(b"what a dying SD card wrote" * 1000)
    second = opened(path)
    assert second.epoch != first.epoch
    (event,) = second.batch(1000)
    assert decode_event(event.data)["type"] == "spool_lost"
    assert (tmp_path / "spool.db.damaged").read_bytes().startswith(b"what a dying")
    second.close()


def test_damage_found_while_working_does_not_stop_the_work(tmp_path: Path):
    path = tmp_path / "spool.db"
    spool = opened(path)
    for _ in range(300):
        spool.append("window", b"x" * 3000)
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    spool._connection.execute("PRAGMA shrink_memory")
    before = spool.epoch
    spool.append("window", b"y")
    spool.batch(1 << 20)
    assert spool.epoch != before
    assert spool.append("window", b"z") > 0
    assert [one.data for one in spool.batch(1 << 20)][-1] == b"z"
    spool.close()


def test_a_spool_of_another_schema_is_kept_aside(tmp_path: Path):
    opened(tmp_path / "spool.db").close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    spool = opened(tmp_path / "spool.db")
    assert "schema 99" in decode_event(spool.batch(1000)[0].data)["reason"]
    spool.close()


def test_a_malformed_key_or_kind_is_refused(spool: Spool):
    with pytest.raises(InvalidInputError, match="sender:number"):
        spool.append("window", b"x", "seven")
    with pytest.raises(InvalidInputError, match="not 'photo'"):
        spool.append("photo", b"x")  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_used_is_said_so(tmp_path: Path):
    with pytest.raises(NotAllowedError, match="cannot be opened"):
        opened(tmp_path / "absent" / "spool.db")


WRITER = """
import sys
from pathlib import Path
from driftline.spool.spool import Spool
spool = Spool(Path(sys.argv[1]), now_ns=lambda: 0)
while True:
    print(spool.append("window", b"x" * 500), flush=True)
"""


def test_every_sequence_that_was_answered_survives_a_kill(tmp_path: Path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "spool.db"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    answered = [int(writer.stdout.readline()) for _ in range(40)]
    writer.send_signal(signal.SIGKILL)
    answered += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    writer.wait()
    spool = opened(tmp_path / "spool.db")
    there = {one.sequence for one in spool.batch(1 << 24)}
    assert there.issuperset(answered)
    spool.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs root to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_on_a_full_disk_the_newest_windows_are_kept_and_the_loss_is_counted(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db", bytes_max=1 << 30)
    for number in range(300):
        spool.append("window", number.to_bytes(2, "big") + os.urandom(30_000))
    batch = spool.batch(1 << 30)
    windows = [int.from_bytes(one.data[:2], "big") for one in batch if one.kind == "window"]
    dropped = sum(decode_event(one.data)["counts"]["window"] for one in batch if one.kind == "event")
    assert windows[-1] == 299
    assert len(windows) + dropped == 300
    spool.close()


def test_a_disk_filled_by_others_is_a_temporary_failure_and_nothing_committed_is_lost(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    spool.append("event", b"{}")
    filler = tiny_disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    written = 4096
    while written:
        try:
            written = os.write(descriptor, b"x" * 4096)
        except OSError:
            written = 0
    os.close(descriptor)
    failed = None
    for _ in range(2000):  # the ballast first takes what comes
        try:
            spool.append("window", os.urandom(20_000))
        except TemporaryError as error:
            failed = error
            break
        if spool.recall_all("dropped:"):
            break  # or the oldest make room for the newest
    assert failed is not None or spool.recall_all("dropped:")
    filler.unlink()
    assert spool.append("window", b"again") > 0
    spool.close()
