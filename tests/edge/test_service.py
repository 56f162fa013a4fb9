"""`driftline edge install`: the unit is one that systemd takes, written once, and refused where it could not work."""

import os
import pwd
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from driftline import cli
from driftline.edge import service
from driftline.edge.home import Home, Identity
from driftline.errors import (
    ConflictError,
    EntityNotFoundError,
    InvalidInputError,
    MissingExtraError,
    NotAllowedError,
    PermanentError,
)

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that systemd started, whose temporary folder is no temporary folder; returns where its units are."""
    units = tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr(service, "UNITS", units)
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(service, "_check_place", lambda home: None)
    return units


@pytest.fixture
def device(tmp_path: Path) -> Home:
    home = Home(tmp_path / "till 50% $x")
    home.make()
    home.save_identity(Identity("id-1", "till-1", "http://127.0.0.1:9", None, bytes(32)))
    return home


def options(home: Home, *more: str) -> Namespace:
    return cli.parser().parse_args(["edge", "install", "--home", str(home.path), *more])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("more", [[], ["--camera", "rtsp://u:p%20w@camera/$x y", "--rate", "2", "--loop"]])
def test_systemd_takes_the_unit(machine: Path, device: Home, more: list[str]):
    assert service.run(options(device, *more)) == 0
    (unit,) = machine.iterdir()
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    # It also tells of other units of this machine.
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit.stem in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_refuses_a_unit_with_a_mistake(machine: Path, device: Home):
    service.run(options(device))
    (unit,) = machine.iterdir()
    unit.write_text(unit.read_text().replace("Type=notify", "Type=notifies").replace("ExecStart=/", "ExecStart=x/"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "notifies" in done.stderr


def test_the_unit_runs_this_very_command_as_the_owner_and_lets_the_worker_hand_over(machine: Path, device: Home):
    service.run(options(device, "--serve", "127.0.0.1:0", "--sync-interval", "60"))
    lines = (machine / "driftline-till-50-x.service").read_text().splitlines()
    home = f'"{device.path}"'.replace("%", "%%")
    assert f"ExecStart={sys.executable} -m driftline.cli edge run --home {home.replace('$', '$$')} " in "".join(
        line for line in lines if line.startswith("ExecStart=")
    )
    assert {f"User={ME}", f"ReadWritePaths={home}", "Type=notify", "KillMode=mixed", "OOMPolicy=continue"} <= set(lines)
    # The agent has no limit on memory, and its worker's open window under /dev/shm stays visible to the next one.
    assert not [line for line in lines if line.startswith(("MemoryMax", "PrivateIPC", "PrivateDevices"))]
    assert any(line.endswith("--serve 127.0.0.1:0 --sync-interval 60.0") for line in lines)


@pytest.mark.parametrize(("version", "longest"), [(252, False), (254, True), (None, True)])
def test_a_restart_waits_longer_each_time_where_systemd_can(device: Home, version: int | None, longest: bool):
    text = service.unit(device, "driftline-till", "edge", ["/bin/true"], version)
    assert ("RestartMaxDelaySec=" in text) is longest
    assert "Restart=always\nRestartSec=" in text


def test_every_option_of_run_is_handed_on(device: Home):
    given = [
        *("--serve", "127.0.0.1:0", "--camera", "0", "--rate", "2.0", "--pipeline", "p", "--start", "2026-01-01"),
        *("--sync-interval", "60.0", "--rows-kb-a-day", "100", "--no-newest-first", "--loop"),
    ]
    command = service.run_command(device, options(device, *given))
    assert command[:5] == [sys.executable, "-m", "driftline.cli", "edge", "run"]
    run = cli.parser().parse_args(command[3:])
    assert vars(cli.parser().parse_args(["edge", "run", "--home", str(device.path), *given])) == vars(run)
    assert None not in vars(run).values()
    assert "--loop" not in service.run_command(device, options(device))


def test_it_says_the_two_commands_and_a_second_time_changes_nothing(
    machine: Path, device: Home, capsys: pytest.CaptureFixture[str]
):
    service.run(options(device))
    said = capsys.readouterr().out
    assert "systemctl daemon-reload\n" in said
    assert "systemctl enable --now driftline-till-50-x\n" in said
    (unit,) = machine.iterdir()
    before = unit.stat().st_mtime_ns
    service.run(options(device))
    assert "is as it should be already" in capsys.readouterr().out
    assert unit.stat().st_mtime_ns == before
    service.run(options(device, "--serve", "127.0.0.1:9000"))
    assert "systemctl restart" in capsys.readouterr().out
    assert "127.0.0.1:9000" in unit.read_text()


def test_print_shows_the_unit_and_writes_nothing(machine: Path, device: Home, capsys: pytest.CaptureFixture[str]):
    assert service.run(options(device, "--print", "--user", "nobody-here")) == 0
    assert "User=nobody-here" in capsys.readouterr().out
    assert list(machine.iterdir()) == []


def test_a_unit_of_another_device_is_never_overwritten(machine: Path, device: Home):
    (machine / "driftline-till-50-x.service").write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(ConflictError, match="rename this folder"):
        service.run(options(device))


def test_without_systemd_without_permission_or_without_a_device_it_refuses(
    machine: Path, device: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(EntityNotFoundError, match="edge join"):
        service.run(options(Home(tmp_path / "nobody")))
    with pytest.raises(InvalidInputError, match="useradd"):
        service.run(options(device, "--user", "nobody-here"))
    monkeypatch.setattr(service, "UNITS", tmp_path / "no" / "such" / "folder")
    with pytest.raises(NotAllowedError, match="sudo"):
        service.run(options(device))
    monkeypatch.setattr(service, "BOOTED", tmp_path / "absent")
    with pytest.raises(PermanentError, match="--print"):
        service.run(options(device))


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a home that belongs to another user")
def test_a_user_who_could_not_write_the_home_is_refused(machine: Path, device: Home):
    os.chown(device.path, 65_534, 65_534)
    with pytest.raises(InvalidInputError, match="chown"):
        service.run(options(device, "--user", "daemon"))
    service.run(options(device, "--user", "65534"))


def test_options_are_refused_as_by_run(machine: Path, device: Home, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidInputError, match="HOST:PORT"):
        service.run(options(device, "--serve", "nonsense"))
    from driftline.edge import agent

    monkeypatch.setattr(agent, "WORKER_LIBRARIES", ("absent_library",))
    with pytest.raises(MissingExtraError):
        service.run(options(device, "--camera", "0"))
    # What is printed may be for another machine.
    assert service.run(options(device, "--camera", "0", "--print")) == 0


def test_a_home_in_a_temporary_folder_is_refused():
    with pytest.raises(InvalidInputError, match="/var/lib"):
        service._check_place(Home("/var/tmp/device"))  # noqa: S108  it is refused
    service._check_place(Home("/var/lib/driftline/till"))


def test_a_version_is_read_where_systemd_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert service.systemd_version() is None
    said: Any = tmp_path / "systemctl"
    said.write_text("#!/bin/sh\necho 'systemd 257 (257.1)'\n")
    said.chmod(0o755)
    assert service.systemd_version() == 257
