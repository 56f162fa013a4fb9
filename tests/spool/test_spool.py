"""The outbox on disk: committed before it answers, capped, repaired; what every outbox does is in test_outbox.py."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import NotAllowedError, TemporaryError
from driftline.spool import opening
from driftline.spool.room import Ballast, is_full
from driftline.spool.spool import Spool
from driftline.spool.tables import migrate_1
from driftline.wire.device import decode_event, decode_window

NOW_NS = 1_767_261_600_000_000_000


def opened(path: Path, bytes_max: int = 1 << 20) -> Spool:
    return Spool(path, bytes_max=bytes_max, now_ns=lambda: NOW_NS)


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
    (event,) = second.batch(1000).records
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
    assert spool.batch(1 << 20).records[-1].data == b"z"
    spool.close()


def test_where_no_new_file_can_be_made_for_a_damaged_one_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spool = opened(tmp_path / "spool.db")
    spool.append("window", b"x")
    real = opening.connected

    def damaged() -> None:
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(spool._keeper, "report", damaged)
    monkeypatch.setattr("driftline.spool.spool.connected", fails)
    with pytest.raises(TemporaryError):
        spool.batch(10)
    with pytest.raises(TemporaryError):
        spool.append("window", b"y")
    monkeypatch.setattr("driftline.spool.spool.connected", real)
    assert spool.append("window", b"z") == 2
    assert decode_event(spool.batch(10).records[0].data) == {
        "type": "spool_lost",
        "at_ns": NOW_NS,
        "reason": "malformed",
    }
    spool.close()


def test_a_disk_that_fails_is_not_taken_for_a_full_one(tmp_path: Path):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    assert not is_full(error, tmp_path / "spool.db")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert is_full(error, tmp_path / "spool.db")


def test_a_spool_of_a_newer_schema_is_kept_aside(tmp_path: Path):
    opened(tmp_path / "spool.db").close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    spool = opened(tmp_path / "spool.db")
    assert "schema 99" in decode_event(spool.batch(1000).records[0].data)["reason"]
    assert (tmp_path / "spool.db.damaged").exists()
    spool.close()


def test_the_database_of_another_program_is_kept_aside(tmp_path: Path):
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("CREATE TABLE meta (x)")
    connection.close()
    spool = opened(tmp_path / "spool.db")
    assert "another program" in decode_event(spool.batch(1000).records[0].data)["reason"]
    spool.close()


@pytest.fixture
def schema_1(tmp_path: Path) -> Path:
    """A spool of the program before history: five rows records and four windows wait, two rows records were dropped."""
    return Path(shutil.copy(Path(__file__).parent / "data" / "schema_1.db", tmp_path / "spool.db"))


def test_a_spool_of_schema_1_goes_on_where_it_was(schema_1: Path):
    spool = opened(schema_1)
    assert (spool.epoch, spool.last_sequence, spool.backlog, spool.waiting_bytes) == ("b57c4afe4d270fc1", 15, 10, 2593)
    records = spool.batch(1 << 20).records
    assert [(one.sequence, one.kind, one.stamp) for one in records[:-1]] == [
        (4, "window", None),
        (6, "window", None),
        (8, "window", None),
        (9, "event", None),
        *((number, "rows", None) for number in range(10, 15)),
        (15, "window", None),
    ]
    assert decode_window(records[0].data).inferences == 1
    assert decode_event(records[-1].data)["counts"] == {"rows": 2}
    assert spool.recall_all("rows:") == {"pv": "240"}
    assert spool.recall("request") == "1767261600123"
    assert spool.append("window", b"x", "worker:19") == 15  # its sender is still known
    assert spool.append("window", b"x", "worker:20") == 17
    spool.close()


@pytest.mark.parametrize("step", range(0, 60, 4))
def test_a_migration_that_was_interrupted_is_made_again_from_its_beginning(schema_1: Path, step: int):
    class Cut(Exception):  # noqa: N818  it is a power cut
        pass

    class Connection(sqlite3.Connection):
        left = step

        def execute(self, *what: Any) -> sqlite3.Cursor:
            self.left -= 1
            if self.left < 0:
                raise Cut
            return super().execute(*what)

    connection = sqlite3.connect(schema_1, isolation_level=None, factory=Connection)
    with suppress(Cut):
        connection.execute("BEGIN IMMEDIATE")
        migrate_1(connection)
        connection.execute("COMMIT")
    connection.left = 1 << 30
    connection.close()
    spool = opened(schema_1)
    assert (spool.epoch, spool.last_sequence, spool.backlog) == ("b57c4afe4d270fc1", 15, 10)
    spool.close()


def test_no_sequence_is_given_twice_when_all_history_is_gone_and_the_program_starts_anew(tmp_path: Path):
    spool = opened(tmp_path / "spool.db", bytes_max=1000)
    spool.acknowledge(spool.epoch, [spool.append("window", b"x" * 900)])  # more than history may have
    assert spool.batch(1).first_kept == 2
    spool.close()
    spool = opened(tmp_path / "spool.db", bytes_max=1000)
    assert spool.append("window", b"x") == 2
    spool.close()


def test_an_acknowledgement_touches_no_record(tmp_path: Path):
    spool = opened(tmp_path / "spool.db", bytes_max=64 << 20)
    numbers = [spool.append("window", b"x" * 350) for _ in range(1000)]
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spool.acknowledge(spool.epoch, numbers, {"synced": "1"})
    log = (tmp_path / "spool.db-wal").stat().st_size
    # A header, and a page each for the ranges and the metadata; the records have some 100.
    assert log <= 32 + 2 * (24 + 4096)
    spool.close()


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
    there = {one.sequence for one in spool.batch(1 << 24).records}
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


def filled(folder: Path) -> Path:
    """Fill a disk; return the file to remove."""
    descriptor = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    written = 4096
    while written:
        try:
            written = os.write(descriptor, b"x" * 4096)
        except OSError:
            written = 0
    os.close(descriptor)
    return folder / "filler"


def test_on_a_full_disk_the_newest_windows_are_kept_and_the_loss_is_counted(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db", bytes_max=1 << 30)
    for number in range(300):
        spool.append("window", number.to_bytes(2, "big") + os.urandom(30_000))
    batch = spool.batch(1 << 30).records
    windows = [int.from_bytes(one.data[:2], "big") for one in batch if one.kind == "window"]
    dropped = sum(decode_event(one.data)["counts"]["window"] for one in batch if one.kind == "event")
    assert windows[-1] == 299
    assert len(windows) + dropped == 300
    spool.close()


def test_on_a_disk_filled_by_others_what_the_hub_has_just_taken_is_not_told_as_dropped(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    sequences = [spool.append("window", os.urandom(2_000)) for _ in range(20)]
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    filled(tiny_disk)
    spool.acknowledge(spool.epoch, sequences)
    assert spool.backlog == 0
    assert not spool._keeper.ledger.dropped
    spool.close()


def test_a_young_spool_on_a_full_disk_uses_its_reserve_before_it_drops_what_waits(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    spool.append("window", os.urandom(2_000))
    filled(tiny_disk)
    while not spool._keeper.ledger.dropped:
        before = spool.waiting_bytes
        spool.append("window", os.urandom(2_000))
    # A page more a record, and what the log holds besides.
    assert before > Ballast.KEPT // 3
    spool.close()


def test_on_a_full_disk_history_goes_before_what_waits(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    old = [spool.append("window", os.urandom(2_000)) for _ in range(100)]
    spool.acknowledge(spool.epoch, old)
    filled(tiny_disk)
    os.truncate(tiny_disk / "spool.db.ballast", Ballast.KEPT)
    filled(tiny_disk)
    while spool.batch(1).first_kept == 1:
        spool.append("window", os.urandom(2_000))
        assert not spool._keeper.ledger.dropped
    spool.close()


def test_a_reserve_that_was_given_up_in_part_is_whole_again_after_an_acknowledgement(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    filler = filled(tiny_disk)
    sequences = [spool.append("window", os.urandom(2_000)) for _ in range(100)]
    ballast = tiny_disk / "spool.db.ballast"
    assert ballast.stat().st_size < Ballast.SIZE
    spool.acknowledge(spool.epoch, sequences[:50])
    before = ballast.stat().st_size
    assert before < Ballast.SIZE  # there is no room for it yet, and what little there is it does not take
    filler.unlink()
    spool.acknowledge(spool.epoch, sequences[50:])
    assert ballast.stat().st_size == Ballast.SIZE
    spool.close()


def test_a_disk_filled_by_others_is_a_temporary_failure_and_nothing_committed_is_lost(tiny_disk: Path):
    spool = opened(tiny_disk / "spool.db")
    spool.append("event", b"{}")
    filler = filled(tiny_disk)
    failed = None
    for _ in range(2000):  # the ballast first takes what comes
        try:
            spool.append("window", os.urandom(20_000))
        except TemporaryError as error:
            failed = error
            break
        if spool._keeper.ledger.dropped:
            break  # or the oldest make room for the newest
    assert failed is not None or spool._keeper.ledger.dropped
    filler.unlink()
    assert spool.append("window", b"again") > 0
    spool.close()
