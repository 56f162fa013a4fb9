"""`driftline up --install`: the unit is one that systemd takes; and a hub stops in order."""

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from driftline import cli, units
from driftline.errors import DriftlineError
from driftline.hub.service import Manager

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that systemd started, whose temporary folder is no temporary folder; returns where its units are."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(units, "UNITS", folder)
    monkeypatch.setattr(units, "BOOTED", tmp_path)
    monkeypatch.setattr(units, "check_place", lambda home, what: None)
    return folder


def install(home: Path, *more: str) -> int:
    return cli.main(["up", "--install", "--home", str(home), *more])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "more", [[], ["--auth", "--host", "::", "--port", "443", "--name", "a b%c$d", "--no-private-targets"]]
)
def test_systemd_takes_the_unit(machine: Path, tmp_path: Path, more: list[str]) -> None:
    assert install(tmp_path / "hub 50% $x", *more) == 0
    (unit,) = machine.iterdir()
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    # It also tells of other units of this machine.
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit.stem in line]
    assert (done.returncode, said) == (0, [])


def test_the_unit_runs_what_was_asked_for(machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "hub.toml"
    settings.write_text("port = 80")
    assert install(tmp_path / "hub", "--config", str(settings), "--auth", "--no-private-targets") == 0
    assert "systemctl enable --now driftline-hub" in capsys.readouterr().out
    text = (machine / "driftline-hub.service").read_text()
    home = tmp_path / "hub"
    assert f"up --home {home} --config {settings} --auth --no-private-targets\n" in text
    assert f"User={ME}\n" in text
    assert f"ReadWritePaths={home}\n" in text
    assert "EnvironmentFile=-/etc/driftline/driftline-hub.env\n" in text
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text
    assert home.is_dir()
    assert not (home / "hub.db").exists()


def test_written_again_it_says_so_and_anothers_is_left_alone(
    machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "hub")
    install(tmp_path / "hub")
    assert "is as it should be already" in capsys.readouterr().out
    install(tmp_path / "hub", "--port", "9000")
    assert "systemctl restart driftline-hub" in capsys.readouterr().out
    assert install(tmp_path / "other" / "hub") == 1
    assert "is not the unit of the hub in" in capsys.readouterr().err


def test_printed_it_writes_nothing(machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--print", "--home", str(tmp_path / "hub")]) == 0
    assert "CapabilityBoundingSet=\n" in capsys.readouterr().out
    assert list(machine.iterdir()) == []
    assert not (tmp_path / "hub").exists()


def test_a_folder_that_is_emptied_at_times_is_refused() -> None:
    with pytest.raises(DriftlineError, match="move the hub's folder"):
        units.check_place(Path("/tmp/hub"), "hub")  # noqa: S108  it is refused


def test_the_manager_hears_when_a_hub_is_ready_and_the_device_cannot_speak_for_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "ear"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "ear")}
        Manager(environment).tell("READY=1")
        assert ear.recv(100) == b"READY=1"
    assert environment == {}
    Manager({}).tell("READY=1")


def test_a_hub_that_is_told_to_stop_finishes_what_is_asked_of_it_and_ends_with_0(
    driftline_up: Any, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "ear"))
        up = driftline_up(NOTIFY_SOCKET=str(tmp_path / "ear"))
        ear.settimeout(20)
        assert ear.recv(100) == b"READY=1"
        place, body = urlsplit(up.url), b'{"name": "made while it stopped"}'
        with socket.create_connection((place.hostname, place.port), timeout=30) as link:
            head = f"POST /api/v1/workspaces HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            link.sendall(head.encode() + body[:10])
            time.sleep(0.3)
            up.process.send_signal(signal.SIGTERM)
            assert ear.recv(100) == b"STOPPING=1"
            link.sendall(body[10:])
            assert link.recv(4096).startswith(b"HTTP/1.1 200")
        assert up.process.wait(40) == 0
    with sqlite3.connect(up.home / "hub.db") as database:
        assert database.execute("SELECT name FROM workspaces").fetchall() == [("made while it stopped",)]
    assert not (up.home / "hub.json").exists()
