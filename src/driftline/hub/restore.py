"""`driftline restore`: a hub's folder from a backup, in a place where nothing is yet.

The whole archive is read and checked before anything is written; what is written goes to a folder beside, which gets
its name when all of it is there. See `driftline.hub.backup` for what an archive is.
"""

import argparse
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from alembic.script import ScriptDirectory

from driftline.clock import iso
from driftline.errors import (
    ConflictError,
    DriftlineError,
    EntityNotFoundError,
    InvalidInputError,
    NotAllowedError,
    TemporaryError,
)
from driftline.hub.backup import MANIFEST, NAME, PART, VERSION, Entry, Manifest
from driftline.hub.store import schema

# Of a million files the manifest is about 130 MB; there are never so many.
_MANIFEST_BYTES_MAX = 16 * 1024 * 1024
Chunks = Iterator[bytes]


def run(options: argparse.Namespace) -> int:
    """Restore a hub; return 0.

    Raises:
        DriftlineError: the folder is not empty, or the file is no backup, damaged, or of a newer driftline.
    """
    home = Path(options.home).expanduser().absolute()
    made = restore(Path(options.file).expanduser(), home)
    print(f"{home} is the hub as it was at {iso(made.made_ns)}; start it with: driftline up --home {home}")
    print("devices that reach it under its old address send again what it lacks, as far as they still have it")
    return 0


def restore(file: Path, home: Path) -> Manifest:
    """Make a hub's folder from a backup.

    Raises:
        ConflictError: the folder is there and not empty, or the backup is of a newer driftline.
        InvalidInputError: the file is no backup, or damaged.
        EntityNotFoundError: there is no such file.
        NotAllowedError, TemporaryError: the folder cannot be written, or the disk is full.
    """
    if home.is_symlink() or (home.exists() and (not home.is_dir() or any(home.iterdir()))):
        raise ConflictError(f"{home} is not empty, and nothing in it is replaced; name a new folder with --home")
    before = os.umask(0o077)
    beside = home.with_name(f".{home.name}.restored")
    try:
        with _opened(file) as archive:
            manifest = _checked(archive)
        home.parent.mkdir(parents=True, exist_ok=True)
        _need_room(manifest, home.parent)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        with _opened(file) as archive:
            _read(archive, lambda one, chunks: _write(beside / one.name, chunks))
        if home.exists():
            home.rmdir()
        beside.rename(home)
    except PermissionError as error:
        raise NotAllowedError(f"{error.filename or home} is not for this user; name another folder or file") from error
    except OSError as error:
        raise TemporaryError(f"{home} cannot be written ({error.strerror}); make room, or name another disk") from error
    finally:
        os.umask(before)
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


@contextmanager
def _opened(file: Path) -> Generator[tarfile.TarFile]:
    with ExitStack() as stack:
        try:
            # "r:" reads nothing compressed: what is announced is what is there.
            archive = stack.enter_context(tarfile.open(file, "r:"))
        except FileNotFoundError:
            raise EntityNotFoundError(f"there is no file {file}") from None
        except tarfile.TarError as error:
            raise InvalidInputError(f"{file} is not a backup of driftline ({error})") from error
        try:
            yield archive
        except (tarfile.TarError, EOFError) as error:
            raise InvalidInputError(f"{file} is damaged ({error}); take another backup") from error
        except _BadError as error:
            raise InvalidInputError(
                f"{file} is not a backup that can be trusted: {error}; nothing was written"
            ) from None


class _BadError(Exception):
    """An archive that no `driftline backup` made, or that was changed since."""


def _checked(archive: tarfile.TarFile) -> Manifest:
    """Read everything once, and write nothing."""

    def look(_one: Entry, chunks: Chunks) -> None:
        for _ in chunks:
            pass

    return _read(archive, look)


def _read(archive: tarfile.TarFile, take: Callable[[Entry, Chunks], None]) -> Manifest:
    """Hand every file to `take`, in order, and hold it to what the manifest says of it."""
    manifest = _manifest(archive)
    for one in manifest.files:
        with _next(archive, one.name, one.size) as source:
            digest = hashlib.sha256()
            take(one, _chunks(source, digest, one))
            if digest.hexdigest() != one.sha256:
                raise _BadError(f"{one.name} is not what it was")
    if archive.next() is not None:
        raise _BadError("there is more in it than it says")
    return manifest


def _chunks(source: IO[bytes], digest: Any, one: Entry) -> Chunks:
    left = one.size
    while left:
        part = source.read(min(PART, left))
        if not part:
            raise _BadError(f"{one.name} ends too soon")
        left -= len(part)
        digest.update(part)
        yield part


@contextmanager
def _next(archive: tarfile.TarFile, name: str, size: int | None) -> Generator[IO[bytes]]:
    member = archive.next()
    if member is None:
        raise _BadError(f"{name} is missing")
    # A link, a device or a file with holes is none of ours, whatever its name.
    if member.type != tarfile.REGTYPE or member.sparse is not None or member.name != name:
        raise _BadError(f"{member.name[:100]!r} stands where {name!r} should")
    if member.size > _MANIFEST_BYTES_MAX if size is None else member.size != size:
        raise _BadError(f"{name} has {member.size} bytes")
    source = archive.extractfile(member)
    if source is None:
        raise _BadError(f"{name} cannot be read")
    with source:
        yield source


def _manifest(archive: tarfile.TarFile) -> Manifest:
    with _next(archive, MANIFEST, None) as source:
        data = source.read(_MANIFEST_BYTES_MAX)
    try:
        document = json.loads(data)
        version = document["version"]
        if version != VERSION:
            raise ConflictError(f"a backup of version {version!r}; this driftline reads {VERSION}, update it")
        files = tuple(Entry(str(one["name"]), int(one["size"]), str(one["sha256"])) for one in document["files"])
        manifest = Manifest(str(document["schema"]), str(document["driftline"]), int(document["made_ns"]), files)
    except DriftlineError:
        raise
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _BadError(f"its manifest cannot be read ({error})") from error
    names = [one.name for one in files]
    bad = [name for name in names if not NAME.fullmatch(name)]
    if bad or len(set(names)) != len(names) or "hub.db" not in names:
        raise _BadError(f"a hub has no files {bad[:3]}" if bad else "hub.db should be in it, and nothing twice")
    wrong = [one.name for one in files if one.name.startswith("models/") and one.name != f"models/{one.sha256}"]
    if wrong or any(one.size < 0 for one in files):
        raise _BadError(f"models are named by their SHA-256, and {wrong[:1]} is not")
    if manifest.schema not in [one.revision for one in ScriptDirectory(str(schema.FOLDER)).walk_revisions()]:
        raise ConflictError(
            f"a backup by driftline {manifest.driftline}, whose schema {manifest.schema} is newer than this one's; "
            "update driftline"
        )
    return manifest


def _need_room(manifest: Manifest, folder: Path) -> None:
    needed, free = sum(one.size for one in manifest.files), shutil.disk_usage(folder).free
    if needed > free:
        raise TemporaryError(
            f"{folder} has room for {free / 1e6:.0f} MB, the backup takes {needed / 1e6:.0f}; make room"
        )


def _write(path: Path, chunks: Chunks) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        for part in chunks:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
