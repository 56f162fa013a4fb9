"""Room on a disk that others fill: when it is full, and a reserve for that hour."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

# Below this a failed write is taken for a full disk.
FREE_BYTES_LEAST = 256 * 1024


class Ballast:
    """A file beside the spool: room for an hour when others fill the disk.

    The half of it is for records, given up piece by piece before any record is dropped. The rest is for the
    transactions that make room, and for the one that takes an acknowledgement: even those need some.
    """

    SIZE = 1024 * 1024
    KEPT = SIZE // 2
    # What a log grows to between two checkpoints, and fits into the file then.
    PIECE = 256 * 1024

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(spool.name + ".ballast")

    def give_piece(self) -> bool:
        """Free a piece for records; return whether there was one."""
        size = self._size()
        if size <= self.KEPT:
            return False
        os.truncate(self._path, max(self.KEPT, size - self.PIECE))
        return True

    def give(self) -> None:
        """Free all that is left."""
        self._path.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Return whether the whole reserve is there, made anew where there is room."""
        size = self._size()
        if size >= self.SIZE:
            return True
        try:
            with self._path.open("ab") as file:
                # Real bytes: a hole in a file reserves nothing, and some file systems compress zeros.
                file.write(os.urandom(self.SIZE - size))
        except OSError:
            # The disk is still full, and what little there is is for records; the next acknowledgement tries again.
            with suppress(OSError):
                os.truncate(self._path, size)
            return False
        return True

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def is_full(error: sqlite3.OperationalError, path: Path) -> bool:
    """Return whether an error means that the disk, or the file's own cap, is full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        # A disk that is full while the log is extended shows as an I/O error with some file systems; a disk that
        # fails shows as one too, and dropping records would not help it.
        # `shutil` would tell, and bring every kind of archive into the agent's memory.
        place = os.statvfs(path.parent)
        return place.f_bavail * place.f_frsize < FREE_BYTES_LEAST
    return code == sqlite3.SQLITE_FULL
