"""What a process has counted and not yet handed over, in a file in memory that outlives the process.

Each process that counts (the worker, a program that observes) writes every `SAVE_S` into a file of its own what
`Courier.leave` would write: the records that wait, the open windows as records, and up to where they were counted. When
the process is killed, the agent takes it from there; an orderly end removes the file. Layout, little-endian:

    two slots of 32 bytes   8 bytes "DLOPEN01", u64 generation, u32 offset, u32 length, i64 written (steady clock, ns)
    two checks              u32 CRC32 of slot and data, one for each slot; in front of them 16 bytes of the boot's id
    data                    at the offsets that the slots name

Invariants:
- A slot is written after its data, and its data never over those of the other slot: whatever moment the writer is
  killed at, one of the two is whole, and of those that are whole the newer is read.
- The writer holds an exclusive flock on the file. Whoever gets that lock knows that the writer has ended, however it
  ended, and nobody else takes the file.
- A file of an earlier boot is not read: one on a disk may be older than what its writer delivered before a power cut.

The folder lies on tmpfs, so that nothing wears the flash, belongs to this user and is closed to others; where there is
no tmpfs it lies in the home. Written by `pwrite` and not through a mapping: a tmpfs that is full is then an error, and
not a signal that ends the process.
"""

import fcntl
import hashlib
import logging
import os
import stat
import struct
import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from driftline.clock import NS_PER_S
from driftline.wire.device import RecordKind, Stamp

log = logging.getLogger("driftline.edge")
# Real seconds between two snapshots: what a crash costs at most.
SAVE_S = 5.0
# What one snapshot may weigh. An open window of 20 fields takes 5 kB; the agent, which reads it, lives in 25 MB.
BYTES_MAX = 4 * 1024 * 1024
MAGIC = b"DLOPEN01"
SLOT = struct.Struct("<8sQIIq")
CHECK = struct.Struct("<I")
BOOT_BYTES = 16
_BOOT_AT = 2 * SLOT.size
_CHECKS_AT = _BOOT_AT + BOOT_BYTES
_DATA_AT = 128
_PAGE = 4096
# Where nothing is kept yet.
_NOWHERE = 1 << 62
_HOME_FOLDER = "open"
_MOUNTS = Path("/proc/self/mounts")
_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


class Counted(NamedTuple):
    """A record that an open window would become, with the stamp of that window."""

    kind: RecordKind
    data: bytes
    stamp: Stamp | None


@dataclass(frozen=True)
class Snapshot:
    """What open windows hold at one moment: the records they would become, and up to where each pipeline is counted.

    `until_ns`, by pipeline version: with these records and all that were delivered before them, every window is
    complete up to there, and every frame of a source that shows them in order is counted up to there. `stamp` says by
    which clock that is told.
    """

    records: Sequence[Counted] = ()
    until_ns: Mapping[str, int] = field(default_factory=dict[str, int])
    stamp: Stamp | None = None


# ── where ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of a home's open windows; `trouble` says what is wrong with it, "" where it is in memory."""

    folder: Path
    trouble: str = ""


def place(home: Path, bases: Sequence[Path] | None = None, mounts: Path = _MOUNTS) -> Place:
    """Return where open windows of this home are kept; the folder is made with the first of them.

    It does not depend on the environment: a program that observes and the agent, which is a service, must agree.
    """
    troubles: list[str] = []
    for folder in _in_memory_folders(home, bases):
        if not _in_memory(folder.parent, mounts):
            continue
        try:
            _check_private(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            troubles.append(f"{folder}: {error.strerror}")
            continue
        return Place(folder)
    why = "; ".join(troubles) or "this machine has no tmpfs such as /dev/shm that this user may write"
    folder = home / _HOME_FOLDER
    return Place(folder, f"open windows are kept on the disk, in {folder}: {why}")


def folders(home: Path, bases: Sequence[Path] | None = None) -> list[Path]:
    """Return every folder in which processes of this home may have kept an open window."""
    return [*_in_memory_folders(home, bases), home / _HOME_FOLDER]


def _in_memory_folders(home: Path, bases: Sequence[Path] | None) -> list[Path]:
    # The folder in it is made for this user alone, and used only where it is that.
    usual = [Path("/dev/shm"), Path(f"/run/user/{os.getuid()}"), Path("/run")]  # noqa: S108
    name = f"driftline-{os.getuid()}-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}.open"
    return [base / name for base in (usual if bases is None else bases)]


def make_private(folder: Path) -> None:
    """Make a folder for this user alone; take one that is there only where it is exactly that.

    Raises:
        OSError: it cannot be made, is a link or no folder, belongs to somebody else, or lets others in.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_private(folder)


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(0, "it is not a folder; remove it")
    if found.st_uid != os.getuid():
        raise OSError(0, "it belongs to another user; remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise OSError(0, "others may enter it; remove it")


def _in_memory(base: Path, mounts: Path) -> bool:
    """Say whether this folder lies on a file system that is memory, by the mount nearest to it."""
    if not base.is_dir() or not os.access(base, os.W_OK | os.X_OK):
        return False
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    path = base.resolve()
    nearest = (0, "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        if path.is_relative_to(point) and len(point) >= nearest[0]:
            nearest = (len(point), kind)
    return nearest[1] in _IN_MEMORY


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


class OpenWindow:
    """One process's file; one thread at a time may write. Made with the first `write`, for this user alone.

    `name` tells apart the processes of one home.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._descriptor: int | None = None
        self._generation = 0
        # The part of the file that the newest slot names.
        self._begin, self._end = _NOWHERE, _DATA_AT

    def write(self, data: bytes) -> None:
        """Keep `data` in the place of what was kept before; until it is whole, what was before is read.

        Raises:
            OSError: it could not be written; what was there before is gone, too, where it could be removed.
        """
        try:
            self._write(self._opened(), data)
        except OSError:
            self.remove()
            raise

    def close(self) -> None:
        """Let go of the file; it stays for whoever takes it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def remove(self) -> None:
        """Close the file and remove it: nothing of it is to be taken."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            _remove_if_empty(self.path.parent)
        self.close()

    def _opened(self) -> int:
        # logind clears /dev/shm of what a user who has logged out has there.
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self.close()
        if self._descriptor is None:
            make_private(self.path.parent)
            # It gets its name once it is locked: before that the agent could think that its writer has ended.
            hidden = self.path.with_name(f".{self.path.name}")
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(hidden, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._generation, self._begin, self._end = 0, _NOWHERE, _DATA_AT
            _write_at(self._descriptor, boot(), _BOOT_AT)
            hidden.replace(self.path)
        return self._descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        # Before what is valid where it fits there, else behind it: the file grows to two or three times the largest.
        begin = _DATA_AT if _DATA_AT + len(data) <= self._begin else -(-self._end // _PAGE) * _PAGE
        _write_at(descriptor, data, begin)
        generation = self._generation + 1
        which = generation % 2
        slot = SLOT.pack(MAGIC, generation, begin, len(data), time.monotonic_ns())
        _write_at(descriptor, CHECK.pack(zlib.crc32(data, zlib.crc32(slot))), _CHECKS_AT + which * CHECK.size)
        _write_at(descriptor, slot, which * SLOT.size)
        self._generation, self._begin, self._end = generation, begin, begin + len(data)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


# ── taking ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Left:
    """What a process that has ended left; `data` is None where nothing of it can be read. `age_s` is real seconds."""

    path: Path
    data: bytes | None
    age_s: float

    @property
    def role(self) -> str:
        """What the process was: `worker` or `observe`."""
        return self.path.name.partition(".")[0]

    def remove(self) -> None:
        """Say that it was taken."""
        self.path.unlink(missing_ok=True)
        _remove_if_empty(self.path.parent)


@contextmanager
def left_behind(folder: Path) -> Generator[Iterator[Left]]:
    """Give what ended processes left in this folder; while the context lasts nobody else takes it.

    What is a link, or not this user's own file, is left where it is.
    """
    held: list[int] = []
    try:
        yield _each_left(folder, held)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _each_left(folder: Path, held: list[int]) -> Iterator[Left]:
    try:
        _check_private(folder)
    except OSError:
        return  # there is none, or it is not ours, which `place` says
    for path in sorted(folder.glob("[!.]*")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            log.warning("the open window %s is not taken: %s", path, error)
            continue
        held.append(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            log.warning("the open window %s is not taken: it is not a file of this user", path)
        elif _locked(descriptor):
            read = _read(descriptor)
            yield Left(path, *((None, 0.0) if read is None else read))


def is_held(folder: Path, role: str) -> bool:
    """Say whether a process of this role lives and keeps an open window in this folder."""
    for path in folder.glob(f"{role}.*"):
        with suppress(OSError):  # it was removed meanwhile, or is not ours to open
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            finally:
                os.close(descriptor)
    return False


def _locked(descriptor: int) -> bool:
    """Lock it, unless its writer lives; one that was removed meanwhile is nobody's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def _read(descriptor: int) -> tuple[bytes, float] | None:
    """Return the newest data that are whole, and their age in seconds."""
    head = os.pread(descriptor, _DATA_AT, 0)
    if len(head) < _CHECKS_AT + 2 * CHECK.size or head[_BOOT_AT:_CHECKS_AT] != boot():
        return None
    found: list[tuple[int, bytes, int]] = []
    for which in range(2):
        slot = head[which * SLOT.size : (which + 1) * SLOT.size]
        magic, generation, begin, length, written_ns = SLOT.unpack(slot)
        if magic != MAGIC:
            continue
        data = os.pread(descriptor, length, begin)
        if CHECK.unpack_from(head, _CHECKS_AT + which * CHECK.size) == (zlib.crc32(data, zlib.crc32(slot)),):
            found.append((generation, data, written_ns))
    if not found:
        return None
    _, data, written_ns = max(found)
    return data, max(0.0, (time.monotonic_ns() - written_ns) / NS_PER_S)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # another process keeps its own there
        folder.rmdir()


def boot() -> bytes:
    """Return the 16 bytes that name this boot of the machine; zeros where the system does not say."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))
    except (OSError, ValueError):
        return bytes(BOOT_BYTES)
