"""A device's folder: whole files, one agent, and errors that name the way out."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from driftline.edge.home import SOCKET_PATH_BYTES_MAX, Home, Identity, replace_file
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.wire.device import BundleFile, Desired, DesiredPipeline

IDENTITY = Identity("id", "camera-1", "https://hub:8710", "ab" * 32, b"\x01\x02")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    one = Home(tmp_path / "device")
    one.make()
    return one


def test_an_identity_is_read_back_and_is_its_owners_alone(home: Home):
    home.save_identity(IDENTITY)
    assert home.identity() == IDENTITY
    assert (home.path / "device.json").stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_nobody_here_names_the_command(home: Home):
    with pytest.raises(EntityNotFoundError, match="driftline edge join TOKEN --home"):
        home.identity()


@pytest.mark.parametrize("change", [{"version": 2}, {"key": "not hex"}, {"id": ...}])
def test_an_identity_that_cannot_be_read_says_so(home: Home, change: dict[str, object]):
    document = IDENTITY.document | change
    kept = {key: value for key, value in document.items() if value is not ...}
    (home.path / "device.json").write_text(json.dumps(kept))
    with pytest.raises(InvalidInputError, match=r"device\.json"):
        home.identity()


def test_what_is_desired_survives_and_a_damaged_file_is_as_none(home: Home):
    pipeline = DesiredPipeline("pv", "doors", {"version": 1}, {"m": BundleFile("ab", 3)})
    desired = Desired((pipeline, replace(pipeline, id="pv2", rows_max=None)), {"00" * 8: (0.1, 0.2)})
    home.save_desired(desired)
    assert home.desired() == desired
    (home.path / "desired.json").write_text('{"pipelines": [')
    assert home.desired() is None
    (home.path / "desired.json").write_text('{"pipelines": [1]}')
    assert home.desired() is None


def test_a_file_that_cannot_be_written_leaves_the_old_one(home: Home, monkeypatch: pytest.MonkeyPatch):
    target = home.path / "state.json"
    replace_file(target, b"old")

    def fail(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in home.path.iterdir()] == ["state.json"]


def test_one_agent_a_home(home: Home):
    assert not home.running
    lock = home.lock()
    assert home.running
    home.save_state({"pid": 77})
    with pytest.raises(ConflictError, match="pid 77"):
        home.lock()
    lock.close()
    assert not home.running


def test_a_socket_path_is_always_short_enough_for_the_kernel(tmp_path: Path):
    assert Home(tmp_path).socket_to_make() == tmp_path / "agent.sock"
    deep = Home(tmp_path / ("x" * 120))
    assert len(os.fsencode(deep.socket_to_make())) <= SOCKET_PATH_BYTES_MAX
    assert deep.socket_to_make() != Home(tmp_path / ("y" * 120)).socket_to_make()


def test_the_socket_is_where_the_agent_says(home: Home):
    home.save_state({"socket": "/run/elsewhere.sock"})
    assert home.socket == Path("/run/elsewhere.sock")


def test_the_environment_names_the_home():
    assert Home.of_environment({"DRIFTLINE_EDGE_HOME": "/srv/device"}).path == Path("/srv/device")
    assert Home.of_environment({}).path == Path("~/.driftline/edge").expanduser()
