"""From a path to a model on the hub: check first, zip a folder, send the metadata, stream the file."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from driftline.errors import InvalidInputError
from driftline.framework import Framework
from driftline.pipeline.detector import DetectorConfig
from driftline.sdk import schema
from driftline.sdk.http import Connection
from driftline.sdk.model import Model
from driftline.wire import api

_CHUNK_BYTES = 1 << 20
# What editors, Python and version control leave beside a model and no model reads.
_LEFT_OUT = {"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"}
# ZIP's earliest date: the same folder makes the same bytes, hence the same digest, whenever it is zipped.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def upload(
    connection: Connection,
    workspace: str,
    name: str,
    path: str | os.PathLike[str],
    framework: object,
    input_schema: object,
    output_schema: object,
    detector: DetectorConfig | dict[str, Any] | None = None,
) -> Model:
    """Send a model; the hub loads it in the background. Nothing is sent before everything here was checked.

    Raises:
        InvalidInputError: name, framework, path or a schema cannot be used; the message says what would be.
    """
    if not isinstance(name, str) or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"a model needs a name that is not empty, not {name!r:.60}")
    kind = Framework.parse(framework)
    source = checked(Path(path).expanduser(), kind)
    inputs, outputs = _schema(input_schema, "input_schema"), _schema(output_schema, "output_schema")
    config = DetectorConfig.parse(detector) if isinstance(detector, dict) else detector
    with packed(source) as file:
        request = api.NewModel(
            name=name,
            framework=kind.value,
            digest=digest_of(file),
            size=file.stat().st_size,
            input_schema=inputs,
            output_schema=outputs,
            detector=None if config is None else config.document,
        )
        made = connection.post(f"/workspaces/{quote(workspace)}/models", request, api.Model)
        reply = connection.send(
            "PUT",
            f"/models/{made.id}/file",
            content=_chunks(file),
            content_type="application/octet-stream",
            headers={"Content-Length": str(request.size)},
        )
    return Model(connection, api.decode(reply.content, api.Model))


def checked(path: Path, framework: Framework) -> Path:
    """Return the path if such a model can be made of it.

    Raises:
        InvalidInputError: not there, empty, or not what the framework needs.
    """
    if not path.exists():
        raise InvalidInputError(f"there is no model at {path} (looked from {Path.cwd()}); check the path")
    if framework is Framework.ONNX:
        if path.is_dir():
            raise InvalidInputError(
                f"{path} is a folder; Framework.ONNX takes one .onnx file, Framework.CUSTOM a folder with a model.py"
            )
    elif path.is_dir():
        if not (path / "model.py").is_file():
            raise InvalidInputError(
                f"{path} has no model.py; a custom model is a folder with a model.py that defines class Model with "
                "load(folder) and predict(inputs)"
            )
    elif not zipfile.is_zipfile(path):
        raise InvalidInputError(
            f"{path} is neither a folder nor a zip; Framework.CUSTOM takes either, with a model.py at its top "
            "(an ONNX file is uploaded as Framework.ONNX)"
        )
    elif not _has_model(path):
        raise InvalidInputError(
            f"{path} has no model.py at its top or in its only folder; zip the folder that has it, or its content"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise InvalidInputError(f"{path} is empty; export the model again")
    return path


def _has_model(archive: Path) -> bool:
    """Say whether a zip has a model.py where a device looks: at its top, or in the one folder that is all there is."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name) for name in opened.namelist()]
    except zipfile.BadZipFile as error:
        raise InvalidInputError(f"{archive} cannot be read as a zip ({error}); make it again") from error
    # What macOS adds to every zip.
    tops = {name.parts[0] for name in names if name.parts} - {"__MACOSX"}
    return any(
        name in names
        for name in (PurePosixPath("model.py"), *(PurePosixPath(top, "model.py") for top in tops if len(tops) == 1))
    )


@contextmanager
def packed(path: Path) -> Generator[Path]:
    """Give one file to send: the path itself, or a folder zipped into a temporary file."""
    if path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="driftline-") as scratch:
        target = Path(scratch) / "model.zip"
        zip_folder(path, target)
        yield target


def zip_folder(folder: Path, target: Path) -> None:
    """Zip a folder so that equal content makes equal bytes.

    Raises:
        InvalidInputError: there is a link in it: what it points to would not be on the device.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_of(folder):
            inner = PurePosixPath(path.relative_to(folder)).as_posix()
            info = zipfile.ZipInfo(inner, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)


def files_of(folder: Path) -> list[Path]:
    """List a model folder's files in a fixed order, without what no model reads."""
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        if path.name in _LEFT_OUT or path.suffix == ".pyc":
            continue
        if path.is_symlink():
            raise InvalidInputError(f"{path} is a link; put the file itself into the model's folder")
        if path.is_dir():
            found += files_of(path)
        elif path.is_file():
            found.append(path)
    return found


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _schema(given: object, which: str) -> list[schema.Document]:
    if given is None:
        raise InvalidInputError(
            f"{which} is missing; describe one inference with an Arrow schema, such as "
            "pa.schema([pa.field('tensor', pa.list_(pa.float32(), 4))])"
        )
    return schema.documents_of(given, which)
