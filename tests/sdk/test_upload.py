"""What can be made a model is known before anything is sent."""

import zipfile
from pathlib import Path

import pytest

from driftline.errors import InvalidInputError
from driftline.framework import Framework
from driftline.sdk.upload import checked


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("model.py", "weights.npz"),
        ("shelf/", "shelf/model.py", "shelf/weights.npz"),
        ("shelf/model.py", "__MACOSX/shelf/._model.py"),
    ],
)
def test_a_zip_may_have_one_folder_at_its_top(tmp_path: Path, names: tuple[str, ...]):
    path = zipped(tmp_path / "model.zip", *names)
    assert checked(path, Framework.CUSTOM) == path


@pytest.mark.parametrize("names", [("readme.md",), ("a/model.py", "b/other.py"), ("a/b/model.py",)])
def test_a_zip_without_a_model_where_devices_look_is_refused(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(InvalidInputError, match=r"no model\.py at its top or in its only folder"):
        checked(zipped(tmp_path / "model.zip", *names), Framework.CUSTOM)


def test_a_torn_zip_is_refused(tmp_path: Path):
    whole = zipped(tmp_path / "model.zip", "model.py", "weights.npz").read_bytes()
    # The end of the archive is there, what it points to is not.
    torn = tmp_path / "torn.zip"
    torn.write_bytes(whole[-60:])
    with pytest.raises(InvalidInputError, match="zip"):
        checked(torn, Framework.CUSTOM)
