"""The open window's file: killed at any moment its writer leaves one whole snapshot, read only when it has ended."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftline.edge import open_window
from driftline.edge.open_window import OpenWindow, Place, folders, is_held, left_behind, make_private, place

TIMEOUT_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "open"


def taken(folder: Path) -> list[bytes | None]:
    with left_behind(folder) as every:
        return [one.data for one in every]


def test_what_was_written_last_is_taken_once_its_writer_has_ended(folder: Path):
    file = OpenWindow(folder, "worker.a")
    for size in (10, 100_000, 5, 300_000, 0, 7):
        file.write(bytes([size % 251]) * size)
    assert is_held(folder, "worker")
    assert not is_held(folder, "observe")
    assert taken(folder) == []
    file.close()
    assert not is_held(folder, "worker")
    assert taken(folder) == [b"\7" * 7]
    with left_behind(folder) as every:
        for one in every:
            assert one.role == "worker"
            assert 0 <= one.age_s < 10
            one.remove()
    assert not folder.exists()


def test_the_file_grows_no_further_than_to_three_times_its_largest_snapshot(folder: Path):
    file = OpenWindow(folder, "worker.a")
    for size in [*range(0, 200_000, 10_000), *[200_000] * 20]:
        file.write(b"x" * size)
    assert file.path.stat().st_size < 3 * 200_000 + 3 * 4096
    file.remove()
    assert not folder.exists()


def test_a_damaged_snapshot_is_never_read_and_the_one_before_it_is(folder: Path):
    file = OpenWindow(folder, "worker.a")
    file.write(b"first" * 100)
    file.write(b"second" * 100)
    file.close()
    whole = file.path.read_bytes()
    at = whole.index(b"second")
    file.path.write_bytes(whole[: at + 50] + b"?" + whole[at + 51 :])
    assert taken(folder) == [b"first" * 100]
    file.path.write_bytes(whole[: at + 50])
    assert taken(folder) == [b"first" * 100]
    file.path.write_bytes(whole[:100])
    assert taken(folder) == [None]
    file.path.write_bytes(b"")
    assert taken(folder) == [None]


def test_at_every_byte_that_its_writer_may_be_killed_after_a_whole_snapshot_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every prefix of the sequence of written bytes, as a writer that is killed leaves it."""
    written: list[tuple[bytes, int]] = []
    real = open_window._write_at
    monkeypatch.setattr(
        open_window, "_write_at", lambda fd, data, at: (written.append((bytes(data), at)), real(fd, data, at))
    )
    file = OpenWindow(folder, "worker.a")
    texts = [bytes([65 + number]) * (20 + 13 * (number % 3)) for number in range(6)]
    done: list[int] = []
    for text in texts:
        file.write(text)
        done.append(sum(len(data) for data, _ in written))
    file.close()
    size = file.path.stat().st_size
    image = bytearray(size)
    count = 0
    for data, at in written:
        for offset, byte in enumerate(data):
            image[at + offset] = byte
            count += 1
            file.path.write_bytes(image)
            (found,) = taken(folder)
            whole = [text for text, upto in zip(texts, done, strict=True) if upto <= count]
            # The last bytes of a slot may be what they were before: then it is whole earlier.
            assert found in {whole[-1] if whole else None, *texts[len(whole) : len(whole) + 1]}


WRITER = """
import sys
from pathlib import Path
from driftline.edge.open_window import OpenWindow
file = OpenWindow(Path(sys.argv[1]), "worker.a")
number = 0
while True:
    number += 1
    file.write((str(number) + ",").encode() * (1 + number * 7919 % 30_000))
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_the_last_or_the_one_under_way(folder: Path, tmp_path: Path):
    for _ in range(5):
        with (tmp_path / "said").open("wb") as said:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=said)
        until(lambda: len((tmp_path / "said").read_bytes()) > 20)
        time.sleep(random.uniform(0, 0.05))  # noqa: S311
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        last = int((tmp_path / "said").read_text().rsplit("\n", 2)[-2])
        (data,) = taken(folder)
        assert data is not None
        numbers = data.decode().split(",")[:-1]
        assert len(set(numbers)) == 1
        assert int(numbers[0]) in {last, last + 1}
        assert len(numbers) == 1 + int(numbers[0]) * 7919 % 30_000
        (folder / "worker.a").unlink()


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_what_lies_there_from_before_the_machine_started_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    file = OpenWindow(folder, "worker.a")
    file.write(b"of the boot before")
    file.close()
    monkeypatch.setattr(open_window, "boot", lambda: b"another boot----")
    assert taken(folder) == [None]


def test_a_file_that_cannot_be_written_is_gone_so_that_nothing_old_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    file = OpenWindow(folder, "worker.a")
    file.write(b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            file.write(b"new")
    assert not folder.exists()
    file.write(b"newer")
    file.close()
    assert taken(folder) == [b"newer"]


def test_a_file_that_somebody_removed_is_made_again(folder: Path):
    file = OpenWindow(folder, "worker.a")
    file.write(b"removed")
    file.path.unlink()
    file.write(b"new")
    file.close()
    assert taken(folder) == [b"new"]


# ── where ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A list of mounts by which `shm` is memory and nothing else."""
    (tmp_path / "shm").mkdir()
    (tmp_path / "disk").mkdir()
    file = tmp_path / "mounts"
    file.write_text(f"/dev/sda1 / ext4 rw 0 0\ntmpfs {tmp_path / 'shm'} tmpfs rw,nosuid 0 0\n")
    return file


def placed(tmp_path: Path, mounts: Path, *bases: str) -> Place:
    return place(tmp_path / "home", [tmp_path / base for base in bases], mounts)


def test_it_lies_in_memory_in_a_folder_of_this_user_and_home(tmp_path: Path, mounts: Path):
    found = placed(tmp_path, mounts, "disk", "absent", "shm")
    assert found.trouble == ""
    assert found.folder.parent == tmp_path / "shm"
    OpenWindow(found.folder, "worker.a").write(b"")
    assert found.folder.stat().st_mode & 0o777 == 0o700
    assert (found.folder / "worker.a").stat().st_mode & 0o777 == 0o600
    assert place(tmp_path / "other", [tmp_path / "shm"], mounts).folder != found.folder
    assert found.folder in folders(tmp_path / "home", [tmp_path / "shm"])


def test_without_memory_it_lies_in_the_home_and_says_so(tmp_path: Path, mounts: Path):
    found = placed(tmp_path, mounts, "disk")
    assert found.folder == tmp_path / "home" / "open"
    assert "no tmpfs" in found.trouble
    assert found.folder in folders(tmp_path / "home")


def test_a_folder_that_is_a_link_or_lets_others_in_or_is_anothers_is_refused(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch
):
    squatted = placed(tmp_path, mounts, "shm").folder
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    squatted.symlink_to(tmp_path / "elsewhere")
    assert "not a folder" in placed(tmp_path, mounts, "shm").trouble
    with pytest.raises(OSError, match="not a folder"):
        make_private(squatted)
    squatted.unlink()
    squatted.mkdir()
    squatted.chmod(0o770)
    assert "others may enter" in placed(tmp_path, mounts, "shm").trouble
    squatted.chmod(0o700)
    (squatted / "worker.a").write_bytes(b"")
    assert taken(squatted) == [None]
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="another user"):
        make_private(squatted)
    assert taken(squatted) == []


def test_a_link_in_the_folder_is_not_followed(folder: Path, tmp_path: Path):
    folder.mkdir(mode=0o700)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "worker.a").symlink_to(tmp_path / "secret")
    assert taken(folder) == []
    assert not is_held(folder, "worker")
