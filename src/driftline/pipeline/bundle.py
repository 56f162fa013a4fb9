"""Custom models arrive as a zip from somebody else: unpack it without letting it write anywhere else, or fill the disk.

Refused: absolute paths, `..`, links and devices, encryption, exotic compression (LZMA may ask for gigabytes of memory),
and more bytes than such a file could honestly hold. One MB of zip inflates to one GiB, and its own directory
may lie about that, so bytes are counted as they come.
"""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from driftline.errors import InvalidInputError

MODEL_FILE = "model.py"
ENTRIES_MAX = 10_000
BYTES_MAX = 4 << 30
# Weights hardly compress and source shrinks to a fifth; small archives of text get the room they need in any case.
RATIO_MAX = 50
ROOM_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


def model_folder(path: Path, scratch: Path) -> Path:
    """Return the folder that holds `model.py`: `path` itself, or what a zip was unpacked into below `scratch`.

    A zip may have one folder at its top, as file managers make them.

    Raises:
        InvalidInputError: neither folder nor zip, unsafe, or without a model.py.
    """
    if path.is_dir():
        folder = path
    elif zipfile.is_zipfile(path):
        folder = unpack(path, scratch / "model")
    else:
        raise InvalidInputError("a custom model is a folder or a zip with a model.py in it; this is neither")
    inside = [one for one in folder.iterdir() if one.name != "__MACOSX"]
    if not (folder / MODEL_FILE).is_file() and len(inside) == 1 and inside[0].is_dir():
        folder = inside[0]
    if not (folder / MODEL_FILE).is_file():
        raise InvalidInputError(
            "the custom model has no model.py at its top; it needs one with class Model, "
            "load(self, folder) and predict(self, inputs)"
        )
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip into a folder that is made for it; on error, what was unpacked so far is left to the caller.

    Raises:
        InvalidInputError: it cannot be read, or it is not safe; the message names the entry.
    """
    bytes_max = min(BYTES_MAX, ROOM_BYTES + RATIO_MAX * archive.stat().st_size)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > ENTRIES_MAX:
                raise InvalidInputError(f"the zip has {len(entries)} entries; a model has at most {ENTRIES_MAX}")
            left = bytes_max
            for entry in entries:
                target = folder / _safe(entry)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    left = _write(opened, entry, target, left)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise InvalidInputError(f"the zip cannot be read ({error}); make it again") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidInputError(f"the zip has two entries of one name: {Path(str(error.filename)).name!r}") from error
    return folder


def _safe(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return where an entry goes, below the folder."""
    # The name as it stands in the file: zipfile cuts it at a NUL and turns backslashes on other systems.
    name = entry.orig_filename
    path = PurePosixPath(name)
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(bad in name for bad in "\\\0") or ":" in name:
        raise InvalidInputError(f"the zip would write outside its folder: {name!r:.100}; entries have relative paths")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InvalidInputError(f"{name!r:.100} in the zip is a link or a device; only files and folders are taken")
    if entry.flag_bits & 1:
        raise InvalidInputError(f"{name!r:.100} in the zip is encrypted; make it without a password")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InvalidInputError(f"{name!r:.100} in the zip is compressed by another method than deflate")
    return path


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Write one entry; returns how many bytes may still come."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise InvalidInputError(
                    f"the zip inflates to more than {RATIO_MAX} times its size at {entry.filename!r:.100}; "
                    "that is not a model but a zip bomb"
                )
            sink.write(chunk)
    return left
