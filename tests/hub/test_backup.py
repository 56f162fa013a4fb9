"""A backup is whole, made while the hub works, and trusted only when everything in it is what it says."""

import hashlib
import io
import json
import shutil
import signal
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from driftline.cli import main
from driftline.edge.home import Home
from driftline.edge.join import join
from driftline.errors import ConflictError, DriftlineError, EntityNotFoundError, InvalidInputError
from driftline.hub.backup import NAME, backup
from driftline.hub.restore import restore
from tests.hub.test_sync import Machine


@pytest.fixture
def home(tmp_path: Path, new_file: Path) -> Path:
    """The folder of a hub that was stopped."""
    folder = tmp_path / "hub"
    folder.mkdir()
    shutil.copyfile(new_file, folder / "hub.db")
    for name, data in {"models": b"a model" * 1000, "tls": b"a certificate", "uploads": b"half"}.items():
        (folder / name).mkdir()
        (folder / name / (hashlib.sha256(data).hexdigest() if name == "models" else "hub.pem")).write_bytes(data)
    (folder / "hub.lock").touch()
    return folder


@pytest.fixture
def saved(home: Path, tmp_path: Path) -> Path:
    backup(home, tmp_path / "saved.tar")
    return tmp_path / "saved.tar"


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def contents(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [(one.name, archive.extractfile(one).read()) for one in archive]  # pyright: ignore[reportOptionalMemberAccess]


def packed(path: Path, parts: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] = lambda _: None):
    """Write an archive as somebody else would."""
    with tarfile.open(path, "w") as archive:
        for name, data in parts:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if name != "manifest.json":
                change(member)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_restored_hub_is_the_hub_that_was_saved(home: Path, saved: Path, tmp_path: Path):
    made = restore(saved, tmp_path / "new")
    before = files(home)
    after = files(tmp_path / "new")
    assert set(after) == {name for name in before if name != "hub.lock" and not name.startswith("uploads")}
    assert {name: data for name, data in after.items() if name != "hub.db"}.items() <= before.items()
    with closing(sqlite3.connect(tmp_path / "new" / "hub.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (made.schema,)
    assert {oct(one.stat().st_mode & 0o777) for one in (saved, tmp_path / "new" / "hub.db")} == {"0o600"}
    assert oct((tmp_path / "new").stat().st_mode & 0o777) == "0o700"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hub", "new", "saved.tar"]


def test_a_backup_replaces_nothing_unless_it_is_told_to(home: Path, tmp_path: Path, capsys: Any):
    target = tmp_path / "there"
    target.write_bytes(b"somebody's")
    assert main(["backup", str(target), "--home", str(home)]) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"somebody's"
    assert main(["backup", str(target), "--home", str(home), "--force"]) == 0
    assert main(["restore", str(target), "--home", str(tmp_path / "new")]) == 0
    assert "driftline up --home" in capsys.readouterr().out


def test_a_backup_that_cannot_be_whole_leaves_nothing(home: Path, tmp_path: Path):
    (model,) = (home / "models").iterdir()
    model.write_bytes(b"torn")
    with pytest.raises(DriftlineError, match="is not what it was when it came"):
        backup(home, tmp_path / "saved.tar")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hub"]
    with pytest.raises(EntityNotFoundError, match="there is no hub in"):
        backup(tmp_path / "elsewhere", tmp_path / "saved.tar")


def test_of_a_hub_on_postgresql_the_tool_is_named(home: Path, tmp_path: Path, monkeypatch: Any, capsys: Any):
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://me:hush@host/db")
    assert main(["backup", str(tmp_path / "saved.tar"), "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert "pg_dump" in said
    assert "hush" not in said


def test_a_folder_that_holds_anything_is_left_as_it_is(home: Path, saved: Path, tmp_path: Path):
    before = files(home)
    with pytest.raises(ConflictError, match="is not empty"):
        restore(saved, home)
    assert files(home) == before
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ConflictError, match="is not empty"):
        restore(saved, tmp_path / "link")
    (tmp_path / "empty").mkdir()
    restore(saved, tmp_path / "empty")
    assert (tmp_path / "empty" / "hub.db").is_file()


def link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


def hard_link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname, member.size = tarfile.LNKTYPE, "manifest.json", 0


def folder(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.DIRTYPE, 0


def device_file(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize("change", [link, hard_link, folder, device_file])
def test_what_is_no_plain_file_is_refused(saved: Path, tmp_path: Path, change: Any):
    bad(packed(tmp_path / "bad.tar", contents(saved), change), tmp_path)


def bad(archive: Path, tmp_path: Path) -> str:
    """Refuse an archive, and write nothing; return why."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises((InvalidInputError, ConflictError)) as caught:
        restore(archive, tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before
    return str(caught.value)


def changed(saved: Path, tmp_path: Path, change: Callable[[dict[str, Any], list[tuple[str, bytes]]], Any]) -> Path:
    """Write the archive again, with another manifest or other files."""
    (_, head), *rest = contents(saved)
    manifest = json.loads(head)
    change(manifest, rest)
    return packed(tmp_path / "bad.tar", [("manifest.json", json.dumps(manifest).encode()), *rest])


@pytest.mark.parametrize(
    "name",
    ["../hub.db", "/etc/cron.d/x", "models/../../x", "tls/.hidden", "models/a", "tls/a\n", "hub.db\0", "tls/a/b"],
)
def test_a_name_that_leads_elsewhere_is_refused(saved: Path, tmp_path: Path, name: str):
    assert not NAME.fullmatch(name)

    def change(manifest: dict[str, Any], rest: list[tuple[str, bytes]]) -> None:
        manifest["files"][-1]["name"] = name
        rest[-1] = (name.replace("\0", ""), rest[-1][1])

    assert "a hub has no files" in bad(changed(saved, tmp_path, change), tmp_path)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


CHANGES: dict[str, Callable[[dict[str, Any], list[tuple[str, bytes]]], Any]] = {
    "is not what it was": lambda _, rest: rest.__setitem__(0, (rest[0][0], flipped(rest[0][1]))),
    "has": lambda _, rest: rest.__setitem__(0, (rest[0][0], rest[0][1] + b"more")),
    "is missing": lambda _, rest: rest.pop(),
    "there is more in it": lambda _, rest: rest.append(("tls/more", b"x")),
    "stands where": lambda _, rest: rest.reverse(),
    "nothing twice": lambda manifest, _: manifest["files"].append(manifest["files"][0]),
    "manifest cannot be read": lambda manifest, _: manifest.__delitem__("files"),
    "version 2": lambda manifest, _: manifest.__setitem__("version", 2),
    "is newer than this one's": lambda manifest, _: manifest.__setitem__("schema", "of the future"),
    "named by their SHA-256": lambda manifest, _: manifest["files"][1].__setitem__("sha256", "0" * 64),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_an_archive_that_is_not_what_it_says_is_refused_before_anything_is_written(
    saved: Path, tmp_path: Path, reason: str
):
    assert reason in bad(changed(saved, tmp_path, CHANGES[reason]), tmp_path)


def test_a_torn_or_foreign_or_compressed_file_is_refused(saved: Path, tmp_path: Path):
    whole = saved.read_bytes()
    for size in (0, 100, 700, len(whole) // 2, len(whole) - 20_000):
        (tmp_path / "bad.tar").write_bytes(whole[:size])
        bad(tmp_path / "bad.tar", tmp_path)
    with tarfile.open(tmp_path / "bad.tar", "w:gz") as archive:
        archive.add(saved, "manifest.json")
    assert "is not a backup of driftline" in bad(tmp_path / "bad.tar", tmp_path)
    with pytest.raises(EntityNotFoundError):
        restore(tmp_path / "nowhere.tar", tmp_path / "new")


# ── a real hub, and a device that goes on ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def started(driftline_up: Any, tmp_path: Path) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """A hub in a process of its own and a device of it."""
    up = driftline_up()
    with httpx2.Client(base_url=up.url + "/api/v1", trust_env=False, timeout=60) as http:

        def post(path: str, document: Any = None) -> Any:
            reply = http.post(path, json=document or {})
            assert reply.status_code == 200, reply.text
            return reply.json()

        workspace = post("/workspaces", {"name": "shop"})["id"]
        pipeline = post(f"/workspaces/{workspace}/pipelines", {"name": "till", "steps": []})
        publish = post(f"/pipelines/{pipeline['id']}/publish")
        token = post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})["token"]
    join(Home(tmp_path / "camera-1"), token)
    machine = Machine(tmp_path / "camera-1", pipeline["versions"][0]["id"])
    yield up, machine, pipeline
    machine.stop()


@pytest.mark.slow
def test_a_hub_that_was_saved_under_load_and_killed_loses_nothing_that_the_device_still_has(
    started: Any, driftline_up: Any, tmp_path: Path
):
    up, machine, _ = started
    machine.counts(*range(1, 40))
    machine.drain()
    stop = threading.Event()

    def works() -> None:
        minute = 40
        while not stop.is_set():
            machine.counts(minute, minute + 1)
            machine.drain()
            minute += 2
        machine.last = minute

    working = threading.Thread(target=works)
    working.start()
    try:
        assert main(["backup", str(tmp_path / "saved.tar"), "--home", str(up.home)]) == 0
    finally:
        stop.set()
        working.join()
    machine.counts(machine.last, machine.last + 1)
    machine.drain()
    assert up.stop(signal.SIGKILL) == -signal.SIGKILL

    assert main(["restore", str(tmp_path / "saved.tar"), "--home", str(tmp_path / "restored")]) == 0
    port = up.url.rpartition(":")[2]
    again = driftline_up("--port", port, home=tmp_path / "restored")
    assert again.url == up.url
    machine.counts(machine.last + 2)
    machine.drain()
    with closing(sqlite3.connect(tmp_path / "restored" / "hub.db")) as connection:
        found = connection.execute("SELECT inferences FROM windows ORDER BY start_s").fetchall()
    assert [inferences for (inferences,) in found] == list(range(1, machine.last + 3))
