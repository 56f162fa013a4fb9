"""Room on a disk that others fill: when it is full, and a reserve for that hour."""

import os
import sqlite3
from pathlib import Path

# Below this a failed write is taken for a full disk.
FREE_BYTES_LEAST = 256 * 1024


class Ballast:
    """A file beside the spool that is given up where even dropping records needs room."""

    # Enough for the log of the transactions that make room.
    SIZE = 1024 * 1024

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(spool.name + ".ballast")

    def give(self) -> None:
        """Free the reserve."""
        self._path.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Return whether the reserve is there, made anew where there is room."""
        if self._path.exists():
            return True
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                # Real bytes: a hole in a file reserves nothing, and some file systems compress zeros.
                file.write(os.urandom(self.SIZE))
            beside.replace(self._path)
        except OSError:
            beside.unlink(missing_ok=True)  # the disk is still full; the next acknowledgement tries again
            return False
        return True


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
