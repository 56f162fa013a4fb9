"""`driftline doctor` beside real hubs, real sockets and real spools: it sees what is there, and changes nothing."""

import hashlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driftline.clock import SystemClock
from driftline.edge import doctor, findings, service
from driftline.edge.agent import Agent
from driftline.edge.findings import Finding, Probe, Unit
from driftline.edge.home import Home, Identity
from driftline.edge.probe import probe
from driftline.wire.device import Desired, DesiredPipeline


def wrong(found: list[Finding]) -> list[str]:
    return [one.about for one in found if one.verdict == "wrong"]


def joined(hub: Any, name: str = "till-1") -> Identity:
    """Who a new device of this hub is."""
    from driftline.hub import fleet
    from driftline.hub import identity as identities

    with hub.database.writing() as connection:
        row = fleet.ensure_device(connection, name, hub.now_ns())
        key = identities.give_key(connection, row.id, hub.now_ns())
    return Identity(row.id, name, hub.url, None, key)


@pytest.fixture
def working(hub: Any, tmp_path: Path) -> Iterator[Home]:
    """A home whose agent works, in this process, for a real hub."""
    home = Home(tmp_path / "till")
    home.make()
    home.save_identity(joined(hub))
    agent = Agent(home, home.identity(), SystemClock(), None)
    lock = home.lock()
    thread = threading.Thread(target=agent.serve)
    thread.start()
    while not home.socket.exists() or not agent.status()["synced_ns"]:
        time.sleep(0.02)
    yield home
    agent.stop()
    thread.join()
    lock.close()


def test_a_device_that_works_is_well(working: Home, capsys: pytest.CaptureFixture[str]):
    assert doctor.run(Namespace(home=working.path, json=False)) == 0
    said = capsys.readouterr().out
    assert "ok    agent     the agent runs and answers" in said
    assert "WRONG" not in said


def test_an_agent_that_wrote_its_state_long_ago_is_well_while_its_main_loop_goes_round(working: Home):
    long_ago_s = time.time() - 500
    os.utime(working.path / "state.json", (long_ago_s, long_ago_s))
    assert "agent" not in wrong(doctor.examine(working))


def test_an_agent_that_answers_while_its_main_loop_stands_still_hangs(working: Home, monkeypatch: pytest.MonkeyPatch):
    standing = threading.Event()
    going = threading.Event()

    def stand(*_: Any) -> None:
        standing.set()
        going.wait(10)

    monkeypatch.setattr(Agent, "_heed_clock", stand)
    monkeypatch.setattr(findings, "SILENT_S_MAX", 0.2)
    standing.wait(10)
    time.sleep(0.3)
    try:
        (one,) = (one for one in doctor.examine(working) if one.about == "agent")
    finally:
        going.set()
    assert one.verdict == "wrong"
    assert "its main loop has stood still" in one.text


def test_a_stopped_device_without_a_link_says_both_and_exits_with_one(
    joined_home: Home, standin_hub: Any, capsys: pytest.CaptureFixture[str]
):
    standin_hub.down()
    before = sorted(one.name for one in joined_home.path.iterdir())
    assert doctor.run(Namespace(home=joined_home.path, json=True)) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["well"] is False
    assert [one["about"] for one in told["findings"] if one["verdict"] == "wrong"] == ["agent", "hub"]
    assert sorted(one.name for one in joined_home.path.iterdir()) == before


def test_as_a_command_it_says_how_to_join(tmp_path: Path):
    command = [sys.executable, "-m", "driftline.cli", "doctor", "--home", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "driftline edge join TOKEN" in done.stdout
    assert not (tmp_path / "none").exists()


def test_an_agent_that_hangs_is_seen(joined_home: Home, standin_hub: Any):
    command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", str(joined_home.path), "--serve", "h:0"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as agent:
        while not joined_home.state().get("socket"):
            time.sleep(0.02)
        agent.send_signal(signal.SIGSTOP)
        try:
            (one,) = (one for one in doctor.examine(joined_home) if one.about == "agent")
        finally:
            agent.send_signal(signal.SIGCONT)
            agent.terminate()
    assert f"pid {agent.pid}) and does not answer" in one.text


def test_a_model_without_what_runs_models_is_wrong(joined_home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.agent, "WORKER_LIBRARIES", ("json", "absent_library"))
    assert "software" not in wrong(doctor.examine(joined_home))
    definition = {"steps": [{"name": "m"}], "fields": [], "inputs": [], "outputs": []}
    joined_home.save_desired(Desired((DesiredPipeline("pv", "shelf", definition),)))
    (one,) = (one for one in doctor.examine(joined_home) if one.about == "software")
    assert "absent_library is missing" in one.text


def test_a_spool_that_is_damaged_or_newer_is_said_and_left_alone(joined_home: Home):
    joined_home.spool.write_bytes(b"no database at all" * 300)
    assert "spool" in wrong(doctor.examine(joined_home))
    joined_home.spool.unlink()
    connection = sqlite3.connect(joined_home.spool)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = joined_home.spool.read_bytes()
    (one,) = (one for one in doctor.examine(joined_home) if one.about == "spool")
    assert "schema 99" in one.text
    assert joined_home.spool.read_bytes() == before


def test_a_damaged_identity_and_a_file_for_a_home_are_said(joined_home: Home, tmp_path: Path):
    (joined_home.path / "device.json").write_text('{"version": 1}')
    (one,) = (one for one in doctor.examine(joined_home) if one.verdict == "wrong")
    assert "join the device anew" in one.text
    (tmp_path / "file").touch()
    assert "not a folder" in doctor.examine(Home(tmp_path / "file"))[1].text


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")
def test_what_belongs_to_another_user_is_said(joined_home: Home):
    joined_home.save_state({})
    os.chown(joined_home.path / "state.json", 65_534, 65_534)
    (one,) = (one for one in doctor.examine(joined_home) if one.verdict == "wrong")
    assert f"chown -R root {joined_home.path}" in one.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as somebody else")
def test_another_user_is_told_whom_to_ask_as(joined_home: Home, tmp_path: Path):
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    question = (
        "import os, sys; from driftline.edge.doctor import examine; from driftline.edge.home import Home; "
        "os.setuid(65534); print([one.text for one in examine(Home(sys.argv[1]))])"
    )
    command = [sys.executable, "-c", question, str(joined_home.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "sudo -u root driftline doctor" in done.stdout


# ── the way to the hub ───────────────────────────────────────────────────────────────────────────────────────────


def identity(url: str, fingerprint: str | None = None) -> Identity:
    return Identity("id-1", "camera-1", url, fingerprint, bytes(range(32)))


def test_the_way_to_a_hub_that_answers_is_clear_and_uses_up_no_number(hub: Any):
    from driftline.hub.store.fleet import devices

    known = joined(hub)
    for _ in range(2):
        found = probe(known)
        assert (found.stage, found.refusal) == ("answered", "")
        assert found.ahead_s is not None
        assert abs(found.ahead_s) < 2
    with hub.database.reading() as connection:
        assert connection.execute(devices.select().where(devices.c.id == known.id)).one().last_request == 0
    refused = probe(replace(known, key=bytes(32)))
    assert refused.stage == "answered"
    assert "make a new token" in refused.refusal


def test_each_step_of_the_way_has_its_own_name(standin_hub: Any, monkeypatch: pytest.MonkeyPatch):
    assert probe(identity("http://hub.example:1")).stage == "name"  # plain HTTP to another machine is never asked

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        assert probe(identity("https://hub.invalid")) == Probe("name", "Name or service not known")
    assert probe(identity(standin_hub.url.replace("http", "https"), "00" * 32)).stage == "tls"
    standin_hub.status = 502
    assert probe(identity(standin_hub.url)).stage == "http"
    assert probe(identity(standin_hub.url)).status == 502
    standin_hub.down()
    assert probe(identity(standin_hub.url)) == Probe("connection", "Connection refused")


@pytest.fixture
def silent_tls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Something that speaks TLS and never HTTP; returns its URL and fingerprint."""
    from driftline.hub.tls import certificate

    file, key, fingerprint = certificate(tmp_path / "tls", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(10)
                    secure.sendall(b"220 mail.example ESMTP\r\n")
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}", fingerprint
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_another_certificate_and_another_protocol_are_told_apart(silent_tls: tuple[str, str]):
    url, fingerprint = silent_tls
    assert probe(identity(url, hashlib.sha256(b"another").hexdigest())).stage == "certificate"
    assert probe(identity(url, fingerprint)).stage == "http"


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_systemd_is_asked_where_it_runs_the_machine(joined_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "BOOTED", tmp_path / "absent")
    assert doctor._unit(joined_home) is None
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(service, "UNITS", tmp_path)
    assert doctor._unit(joined_home) == Unit("driftline-device")
    (tmp_path / "driftline-device.service").touch()
    (tmp_path / "systemctl").write_text('#!/bin/sh\n[ "$1" = is-enabled ] && echo disabled || echo inactive\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert doctor._unit(joined_home) == Unit("driftline-device", True, "disabled", "inactive")


# ── a hub ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_hub_and_its_own_device_both_are_looked_at(driftline_up: Callable[..., Any]):
    up = driftline_up()
    device = Home(up.home / "devices" / "hub")
    deadline = time.monotonic() + 120
    while not device.state().get("synced_ns"):
        assert time.monotonic() < deadline, up.text
        time.sleep(0.1)
    found = doctor.examine_hub(up.home)
    assert wrong(found) == []
    assert found[0].text == f"the hub answers at {up.url}"
    assert any(one.text == "the agent runs and answers" for one in found)
    up.stop()
    texts = [one.text for one in doctor.examine_hub(up.home) if one.verdict == "wrong"]
    assert len(texts) == 3
    assert f"driftline up --home {up.home}" in texts[0]
    assert "its hub starts it" in texts[1]
    assert "nobody answers" in texts[2]
