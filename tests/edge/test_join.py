"""Joining: one word makes a machine a device, or says why not and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.home import Home
from driftline.edge.join import join
from driftline.errors import ConflictError, InvalidInputError, NotAllowedError, UnreachableError
from driftline.spool.spool import Spool
from driftline.wire.device import JoinToken, WireError


def test_a_token_makes_a_device(standin_token: JoinToken, standin_hub: Any, tmp_path: Path):
    command = [sys.executable, "-m", "driftline.cli", "edge", "join", str(standin_token), "--home", str(tmp_path / "d")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the device 'camera-1'" in done.stdout
    assert f"driftline edge run --home {tmp_path / 'd'}" in done.stdout
    identity = Home(tmp_path / "d").identity()
    assert (identity.id, identity.name, identity.url, len(identity.key)) == ("id-1", "camera-1", standin_hub.url, 32)
    assert (tmp_path / "d" / "device.json").stat().st_mode & 0o777 == 0o600


def test_a_used_token_is_refused_in_the_hubs_words(standin_token: JoinToken, tmp_path: Path):
    join(Home(tmp_path / "one"), str(standin_token))
    with pytest.raises(NotAllowedError, match="make a new one"):
        join(Home(tmp_path / "two"), str(standin_token))
    assert not (tmp_path / "two").exists()


def test_a_home_that_joined_is_left_alone_and_the_token_unused(
    joined_home: Home, standin_token: JoinToken, standin_hub: Any
):
    before = (joined_home.path / "device.json").read_bytes()
    with pytest.raises(ConflictError, match="another --home"):
        join(joined_home, str(standin_token))
    assert (joined_home.path / "device.json").read_bytes() == before
    assert standin_hub.secrets


def test_a_home_that_joins_anew_keeps_what_waits(joined_home: Home, standin_token: JoinToken, standin_hub: Any):
    spool = Spool(joined_home.spool, now_ns=lambda: 0)
    spool.append("event", b"{}")
    spool.close()
    standin_hub.secrets = {"secret": "camera-2"}
    assert join(joined_home, str(standin_token), anew=True).name == "camera-2"
    assert joined_home.identity().name == "camera-2"
    spool = Spool(joined_home.spool, now_ns=lambda: 0)
    assert spool.backlog == 1
    spool.close()


def test_half_a_token_touches_nothing(standin_token: JoinToken, tmp_path: Path):
    with pytest.raises(WireError, match="whole join token"):
        join(Home(tmp_path / "d"), str(standin_token)[:-12])
    assert not (tmp_path / "d").exists()


def test_a_hub_that_is_not_there_or_not_safe_to_talk_to(standin_token: JoinToken, standin_hub: Any, tmp_path: Path):
    with pytest.raises(InvalidInputError, match="plain HTTP"):
        join(Home(tmp_path / "d"), str(JoinToken("http://hub.example:1", "s")))
    standin_hub.down()
    with pytest.raises(UnreachableError, match="does not answer"):
        join(Home(tmp_path / "d"), str(standin_token))
    assert not (tmp_path / "d").exists()
