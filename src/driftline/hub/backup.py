"""`driftline backup`: everything a hub is, in one file, while it runs.

The file is a tar without compression, because what is in it is compressed already, and so that nothing in it can grow
when it is read:

    manifest.json   {"version": 1, "driftline", "schema", "made_ns", "files": [{"name", "size", "sha256"}, …]}
    hub.db          the database as it was at one moment
    models/SHA-256  every model file
    tls/…           the hub's certificate and key, by which devices know it

and every file in the order of the manifest. It holds the devices' keys: it is for its owner alone. Left out is what the
hub makes again: uploads under way, and the folder of the device `hub`, which begins a new spool.
"""

import argparse
import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import driftline
from driftline.errors import ConflictError, EntityNotFoundError, NotAllowedError, PermanentError, TemporaryError
from driftline.hub.store import schema
from driftline.hub.store.database import Database
from driftline.hub.store.postgres import VARIABLE

VERSION = 1
MANIFEST = "manifest.json"
# What may stand in an archive: nothing that leads out of the hub's folder.
NAME = re.compile(r"hub\.db|models/[0-9a-f]{64}|tls/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
PART = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file of a backup."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself."""

    schema: str
    driftline: str
    made_ns: int
    files: tuple[Entry, ...]
    version: int = VERSION


def run(options: argparse.Namespace) -> int:
    """Make a backup; return 0.

    Raises:
        DriftlineError: there is no hub, or the file is there already, or the disk is full.
    """
    if os.environ.get(VARIABLE):
        raise PermanentError(
            f"{VARIABLE} is set: this hub's database is on a PostgreSQL server, whose own tool saves it while the hub "
            "runs: pg_dump --format=custom --file=hub.dump URL. Copy models/ and tls/ of the hub's folder after it; "
            "see docs/operate.md"
        )
    home, target = Path(options.home).expanduser(), Path(options.file).expanduser()
    made = backup(home, target, force=options.force)
    size = target.stat().st_size
    print(f"{target}: {len(made.files)} files, {size / 1e6:.1f} MB, schema {made.schema}; it holds keys, keep it safe")
    return 0


def backup(home: Path, target: Path, *, force: bool = False) -> Manifest:
    """Write a hub's backup to a file, whole or not at all, and return what is in it; the hub may run meanwhile.

    Raises:
        EntityNotFoundError: there is no hub in this folder.
        ConflictError: the file is there already, and not `force`.
        NotAllowedError: it cannot be written, or something in the hub's folder cannot be read.
        TemporaryError: the disk is full.
    """
    database = home / "hub.db"
    if not database.is_file():
        raise EntityNotFoundError(f"there is no hub in {home}; name its folder with --home")
    if target.exists() and not force:
        raise ConflictError(f"{target} is there already; name another file, or replace it with --force")
    beside, copy = (target.with_name(f".{target.name}.{kind}") for kind in ("new", "db"))
    before = os.umask(0o077)
    try:
        _forget(beside, copy)
        schema.copy_file(database, copy)
        manifest, sources = _manifest(home, copy)
        _write(beside, manifest, sources)
        beside.replace(target)
        _sync_folder(target.parent)
    except sqlite3.Error as error:
        raise PermanentError(f"{database} cannot be copied ({error}); see driftline doctor --home {home}") from error
    except PermissionError as error:
        raise NotAllowedError(f"{error.filename or target} is not for this user; run it as the hub's owner") from error
    except OSError as error:
        raise TemporaryError(
            f"{target} cannot be written ({error.strerror}); make room, or name another disk"
        ) from error
    finally:
        os.umask(before)
        _forget(beside, copy)
    return manifest


def _manifest(home: Path, copy: Path) -> tuple[Manifest, dict[str, Path]]:
    """Say what goes into the archive, and where each of it lies."""
    with closing(Database(copy)) as database:
        found = schema.revision_of(database)
        if found is None:
            raise PermanentError(f"{home / 'hub.db'} is not a database of driftline")
    with closing(sqlite3.connect(copy)) as connection:
        # One file, without a log beside it.
        connection.execute("PRAGMA journal_mode = DELETE")
    sources = {"hub.db": copy} | dict(_files(home))
    entries = [Entry(name, path.stat().st_size, digest_of(path)) for name, path in sources.items()]
    for one in entries:
        if one.name.startswith("models/") and one.name != f"models/{one.sha256}":
            raise PermanentError(f"{home / one.name} is not what it was when it came; upload that model again")
    return Manifest(found, driftline.__version__, time.time_ns(), tuple(entries)), sources


def _files(home: Path) -> Iterator[tuple[str, Path]]:
    for folder in ("models", "tls"):
        for path in sorted((home / folder).glob("*")):
            name = f"{folder}/{path.name}"
            if NAME.fullmatch(name) and path.is_file() and not path.is_symlink():
                yield name, path


def _write(beside: Path, manifest: Manifest, sources: dict[str, Path]) -> None:
    with beside.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        document = json.dumps(asdict(manifest), indent=1).encode()
        _add(archive, MANIFEST, len(document), io.BytesIO(document), manifest.made_ns)
        for one in manifest.files:
            with sources[one.name].open("rb") as source:
                _add(archive, one.name, one.size, source, manifest.made_ns)
        archive.close()
        file.flush()
        os.fsync(file.fileno())


def _add(archive: tarfile.TarFile, name: str, size: int, source: IO[bytes], made_ns: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, made_ns // 1_000_000_000
    archive.addfile(member, source)


def digest_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(PART):
            digest.update(part)
    return digest.hexdigest()


def _forget(*paths: Path) -> None:
    for path in paths:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
