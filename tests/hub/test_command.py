"""`driftline up` as a real process: how it starts, refuses to start, and stops."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest

from driftline.cli import main
from driftline.clock import parse_iso
from driftline.edge import serving
from driftline.hub.command import listen
from driftline.wire import device as wire


def up_fails(capsys: pytest.CaptureFixture[str], *arguments: Any):
    """Run the command in this process where it is to refuse; return what it said."""
    assert main(["up", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def until(true: Any, seconds: Any = 60):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


# ── refusing to start ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = up_fails(capsys, "--home", tmp_path, "--port", port)
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert "--port" in said
    assert not (tmp_path / "hub.db").exists()


def test_a_hub_asks_silent_connections_whether_anybody_is_there():
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        taken, _ = listening.accept()
        with taken:
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def test_no_part_of_an_answer_waits_until_the_one_before_it_is_acknowledged():
    """On a connection that stays open that is 40 ms for every answer."""

    async def nodelay(taken: socket.socket) -> int:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, taken)
        is_set: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        return is_set

    for listening in (listen("127.0.0.1", 0), serving.listening("127.0.0.1", 0, "127.0.0.1:0")):
        with listening as bound, socket.create_connection(bound.getsockname()):
            taken, _ = bound.accept()
            with taken:
                assert asyncio.run(nodelay(taken))


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.7", "0"), ("no.such.host.invalid", "0"), ("127.0.0.1", "70000")]
)
def test_an_address_this_machine_does_not_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, port: Any
):
    said = up_fails(capsys, "--home", tmp_path, "--host", host, "--port", port)
    assert "127.0.0.1" in said or "0 to 65535" in said
    assert not (tmp_path / "hub.db").exists()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("not a folder")
    assert "name another folder with --home" in up_fails(capsys, "--home", tmp_path / "file", "--port", 0)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write: /proc")
def test_a_folder_that_nobody_can_write_is_refused(capsys: pytest.CaptureFixture[str]):
    said = up_fails(capsys, "--home", "/proc/driftline", "--port", 0)
    assert "/proc/driftline cannot be made" in said
    assert "--home" in said


def test_a_hub_that_cannot_start_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    up_fails(capsys, "--home", tmp_path / "new", "--port", 70_000)
    assert not (tmp_path / "new").exists()


def test_made_up_time_before_the_data_is_refused(
    driftline_up: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    up = driftline_up()
    until(lambda: httpx2.get(f"{up.url}/api/v1/devices").json()["items"][0]["heard_ns"])
    up.stop()
    monkeypatch.setenv("DRIFTLINE_CLOCK", "2026-01-01T09:00:00+00:00 x60")
    assert "time does not go back" in up_fails(capsys, "--home", up.home, "--port", 0)


def test_a_database_that_is_none_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "hub.db").write_bytes(b"somebody's notes, not a database at all" * 40)
    said = up_fails(capsys, "--home", tmp_path, "--port", 0)
    assert "is not a database driftline can read" in said
    assert (tmp_path / "hub.db").read_bytes().startswith(b"somebody's notes")


def test_a_database_of_a_newer_driftline_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import sqlite3

    with sqlite3.connect(tmp_path / "hub.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    assert "newer driftline" in up_fails(capsys, "--home", tmp_path, "--port", 0)


@pytest.mark.parametrize("variable", ["DRIFTLINE_SYNC_INTERVAL_S", "DRIFTLINE_CLOCK"])
def test_a_variable_that_cannot_be_read_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: Any
):
    monkeypatch.setenv(variable, "soon")
    assert variable in up_fails(capsys, "--home", tmp_path, "--port", 0)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────

DOUBLE = """
class Model:
    def load(self, folder):
        pass

    def predict(self, inputs):
        return {"double": inputs["x"] * 2}
"""


def test_a_hub_runs_a_model_on_its_own_machine_logs_it_and_goes_on_where_it_was_killed(
    driftline_up: Any, ask_at: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    import driftline

    up = driftline_up()
    assert up.text.splitlines()[0] == f"driftline hub at {up.url}"
    assert json.loads((up.home / "hub.json").read_text())["url"] == up.url
    assert up_fails(capsys, "--home", up.home, "--port", 0).startswith(
        f"driftline: a hub is already running on {up.home}, at {up.url} (pid {up.process.pid})"
    )

    ask = ask_at(up)
    pipeline = deployed(ask, tmp_path)
    until(lambda: ask.get(f"/pipelines/{pipeline['id']}")["status"] == "running")
    answer = inferred(ask, pipeline)
    assert answer.column("out.double").to_pylist() == [0.0, 2.0, 4.0]
    logged = until(lambda: log(ask, pipeline) if log(ask, pipeline).num_rows == 3 else None)
    assert logged.column("in.x").to_pylist() == [0.0, 1.0, 2.0]
    assert logged.column("time").to_pylist() == answer.column("time").to_pylist()
    assert set(logged.column("device").to_pylist()) == {"hub"}
    assert ask.get("/devices/hub")["states"] == ["healthy"]
    assert up_fails(capsys, "--home", tmp_path / "other", "--port", up.url.rpartition(":")[2]).startswith(
        "driftline: port "
    )
    ask.http.close()

    assert "Traceback" not in up.text
    first = agent_pid(up)
    up.process.kill()
    up.process.wait()

    # Another port this time. The agent outlived its hub, holds the device's home and knows only the old address.
    again = driftline_up(home=up.home)
    ask = ask_at(again)
    until(lambda: agent_pid(again) != first)
    until(lambda: ask.get(f"/pipelines/{pipeline['id']}")["status"] == "running")
    assert log(ask, pipeline).num_rows == 3
    assert inferred(ask, pipeline).num_rows == 3
    until(lambda: log(ask, pipeline).num_rows == 6)
    ask.http.close()
    assert driftline.__version__ in httpx2.get(again.url + "/api/v1/version", trust_env=False).text
    assert again.stop(signal.SIGINT) == 0
    assert not (again.home / "hub.json").exists()
    assert "Traceback" not in again.text


def test_fast_time_is_said_and_lived(driftline_up: Any):
    up = driftline_up(DRIFTLINE_CLOCK="2026-01-01T09:00:00+00:00 x60")
    assert "fast time" in until(lambda: up.text if up.text.count("\n") >= 3 else "")
    answer = httpx2.get(up.url + "/api/v1/version", trust_env=False).json()
    assert "60×" in answer["banner"]
    assert answer["now_ns"] < parse_iso("2026-01-01T12:00:00+00:00")
    assert up.stop() == 0


def test_a_hub_that_others_can_reach_speaks_tls_and_its_token_names_the_certificate(
    driftline_up: Any, ask_at: Any, tmp_path: Path
):
    up = driftline_up("--host", "0.0.0.0")  # noqa: S104  the case in question
    assert up.url.startswith("https://127.0.0.1:")
    served = ssl.get_server_certificate(("127.0.0.1", int(up.url.rpartition(":")[2])))
    import hashlib

    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(served)).hexdigest()
    context = ssl.create_default_context(cafile=str(up.home / "tls" / "certificate.pem"))
    with httpx2.Client(base_url=up.url + "/api/v1", verify=context, trust_env=False) as http:
        workspace = http.post("/workspaces", json={"name": "shop"}).json()
        pipeline = http.post(f"/workspaces/{workspace['id']}/pipelines", json={"name": "till", "steps": []}).json()
        publish = http.post(f"/pipelines/{pipeline['id']}/publish").json()
        edge = http.post(f"/publishes/{publish['id']}/edges", json={"name": "camera-1"}).json()
        token = wire.JoinToken.parse(edge["token"])
        assert token.fingerprint == fingerprint
        assert fingerprint in up.text
        assert (up.home / "tls" / "key.pem").stat().st_mode & 0o77 == 0
        assert http.get("/devices", headers={"Host": "shop.example"}).status_code == 403
        until(lambda: http.get("/devices/hub").json()["heard_ns"])
    home = tmp_path / "camera"
    command = [sys.executable, "-m", "driftline.cli", "edge", "join"]
    # The token names the address others use; this machine may have none, so the test joins over loopback.
    local = str(wire.JoinToken(up.url, token.secret, token.fingerprint))
    done = subprocess.run([*command, local, "--home", str(home)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "device.json").read_text())["fingerprint"] == fingerprint


def agent_pid(up: Any):
    return json.loads((up.home / "devices" / "hub" / "state.json").read_text())["pid"]


def deployed(ask: Any, folder: Any):
    import hashlib
    import zipfile

    path = folder / "double.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.py", DOUBLE)
    data = path.read_bytes()
    workspace = ask.workspace()["id"]
    new = {
        "name": "double",
        "framework": "custom",
        "digest": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "input_schema": [{"name": "x", "type": "float64", "shape": []}],
        "output_schema": [{"name": "double", "type": "float64", "shape": []}],
    }
    model = ask.post(f"/workspaces/{workspace}/models", new)
    ask.http.put(f"/models/{model['id']}/file", content=data)
    until(lambda: ask.get(f"/models/{model['id']}")["status"] == "ready")
    pipeline = ask.post(f"/workspaces/{workspace}/pipelines", {"name": "doubling", "steps": [{"model": model["id"]}]})
    config = {"engine": {"replicas": 1, "cpu": 1, "resources": {"limits": {"cpu": 1, "memory": "2Gi"}}}}
    return ask.post(f"/pipelines/{pipeline['id']}/deploy", {"config": config})


def inferred(ask: Any, pipeline: Any):
    sink = pa.BufferOutputStream()
    table = pa.table({"x": np.arange(3.0)})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    reply = ask.http.post(f"/pipelines/{pipeline['id']}/infer", content=sink.getvalue().to_pybytes())
    assert reply.status_code == 200, reply.text
    return pa.ipc.open_stream(reply.content).read_all()


def log(ask: Any, pipeline: Any):
    return pa.ipc.open_stream(ask.http.get(f"/pipelines/{pipeline['id']}/logs").content).read_all()


# ── people who log in ────────────────────────────────────────────────────────────────────────────────────────────


def test_with_auth_a_link_is_printed_that_makes_the_first_admin(driftline_up: Any):
    up = driftline_up("--auth")
    link = until(lambda: next((word for word in up.text.split() if "/setup?token=" in word), None))
    assert link.startswith(up.url + "/setup?token=")
    with httpx2.Client(base_url=up.url, trust_env=False, headers={"Origin": up.url}) as browser:
        assert browser.get("/").headers["location"].startswith("/login")
        form = {"token": link.partition("token=")[2], "name": "root", "password": "correct horse battery"}
        assert browser.post("/setup", data=form).status_code == 303
        assert browser.get("/api/v1/me").json()["is_admin"] is True
        assert "scorer" in browser.get("/readyz").json()["parts"]
        # The hub's own device syncs on: it is no person.
        until(lambda: browser.get("/api/v1/devices").json()["items"][0]["heard_ns"])
    assert up.stop() == 0
    assert "correct horse" not in up.text
