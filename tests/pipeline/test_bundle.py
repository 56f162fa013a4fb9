"""A zip from somebody else writes below its folder, takes the room it may take, and nothing more."""

import contextlib
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftline.errors import InvalidInputError
from driftline.pipeline import bundle
from driftline.pipeline.bundle import model_folder, unpack

MODEL = "class Model: ...\n"


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content, method)
    return path


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    return info


def test_a_zip_is_unpacked_with_what_lies_in_its_folders(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("model.py", MODEL), ("weights/w.bin", b"\0\1"), ("empty/", b""))
    folder = model_folder(archive, tmp_path / "scratch")
    assert (folder / "model.py").read_text() == MODEL
    assert (folder / "weights/w.bin").read_bytes() == b"\0\1"
    assert (folder / "empty").is_dir()


def test_one_folder_at_the_top_is_as_good(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("mine/model.py", MODEL), ("__MACOSX/._mine", b"x"))
    assert model_folder(archive, tmp_path / "scratch").name == "mine"


def test_a_folder_is_used_where_it_lies(tmp_path: Path):
    (tmp_path / "model.py").write_text(MODEL)
    assert model_folder(tmp_path, tmp_path / "scratch") == tmp_path


@pytest.mark.parametrize(
    "name", ["../evil.py", "a/../../evil.py", "/evil.py", "..\\evil.py", "C:/evil.py", "a/b\0.py", ".."]
)
def test_no_entry_leaves_the_folder(tmp_path: Path, name: str):
    archive = zipped(tmp_path / "m.zip", (entry(name), b"evil"))
    with pytest.raises(InvalidInputError, match="outside its folder"):
        unpack(archive, tmp_path / "in" / "folder")
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["folder"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("a./\\~%2e:\0"), min_size=1, max_size=12))
def test_whatever_an_entry_is_called_nothing_appears_elsewhere(tmp_path_factory: pytest.TempPathFactory, name: str):
    tmp_path = tmp_path_factory.mktemp("zip")
    archive = zipped(tmp_path / "m.zip", (entry(name), b"x"))
    with contextlib.suppress(InvalidInputError):
        unpack(archive, tmp_path / "in" / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.zip"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["folder"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: Any):
    archive = zipped(tmp_path / "m.zip", (entry("model.py", kind | 0o777), b"/etc/passwd"))
    with pytest.raises(InvalidInputError, match="a link or a device"):
        unpack(archive, tmp_path / "folder")


def test_a_bomb_is_stopped_by_the_bytes_that_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "ROOM_BYTES", 1 << 20)
    archive = zipped(tmp_path / "m.zip", ("model.py", MODEL), ("zeros", bytes(20 << 20)))
    with pytest.raises(InvalidInputError, match="zip bomb"):
        unpack(archive, tmp_path / "folder")
    assert (tmp_path / "folder/zeros").stat().st_size <= 2 << 20


def test_a_directory_that_lies_about_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "ROOM_BYTES", 1 << 20)
    archive = zipped(tmp_path / "m.zip", ("zeros", bytes(20 << 20)))
    content = bytearray(archive.read_bytes())
    central = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, central + 24, 5)
    archive.write_bytes(content)
    with pytest.raises(InvalidInputError):
        unpack(archive, tmp_path / "folder")
    assert (tmp_path / "folder/zeros").stat().st_size <= 2 << 20


def test_two_entries_of_one_name_are_refused(tmp_path: Path):
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = zipped(tmp_path / "m.zip", ("model.py", "a"), ("model.py", "b"))
    with pytest.raises(InvalidInputError, match="two entries"):
        unpack(archive, tmp_path / "folder")


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("a", "file"), ("a/b", "in it"))
    with pytest.raises(InvalidInputError, match="two entries"):
        unpack(archive, tmp_path / "folder")


def test_compression_that_may_ask_for_gigabytes_is_refused(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("model.py", MODEL), method=zipfile.ZIP_LZMA)
    with pytest.raises(InvalidInputError, match="deflate"):
        unpack(archive, tmp_path / "folder")


def test_a_torn_zip_says_so(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("model.py", os.urandom(5000)))
    content = bytearray(archive.read_bytes())
    content[200:300] = bytes(100)
    archive.write_bytes(content)
    with pytest.raises(InvalidInputError, match="make it again"):
        unpack(archive, tmp_path / "folder")


def test_more_entries_than_a_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "ENTRIES_MAX", 3)
    archive = zipped(tmp_path / "m.zip", *((f"f{n}", "x") for n in range(4)))
    with pytest.raises(InvalidInputError, match="4 entries"):
        unpack(archive, tmp_path / "folder")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x80\x04\x95 a pickle", b"PK\3\4torn"])
def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InvalidInputError, match="a folder or a zip"):
        model_folder(tmp_path / "m", tmp_path / "scratch")


def test_a_zip_without_a_model_says_what_it_needs(tmp_path: Path):
    archive = zipped(tmp_path / "m.zip", ("main.py", MODEL))
    with pytest.raises(InvalidInputError, match=r"no model\.py at its top; it needs one with class Model"):
        model_folder(archive, tmp_path / "scratch")
