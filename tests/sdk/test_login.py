"""Which hub a person talks to: remembered by `driftline login`, known by its certificate."""

import json
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from driftline import Client
from driftline.cli import main
from driftline.errors import InvalidInputError, UnreachableError
from driftline.sdk.http import _trust
from driftline.sdk.login import URL_DEFAULT, Address, find, login_file, read, write


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DRIFTLINE_URL", raising=False)
    return tmp_path


def test_login_asks_who_answers_and_remembers(hub: Any, config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["login", hub.url + "/"]) == 0
    assert f"answers at {hub.url}; remembered in {login_file()}" in capsys.readouterr().out
    assert find() == Address(hub.url)
    assert stat.S_IMODE(login_file().stat().st_mode) == 0o600


def test_a_login_that_nobody_answers_is_not_remembered(config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["login", "http://127.0.0.1:9"]) == 1
    assert "driftline up" in capsys.readouterr().err
    assert not login_file().exists()
    assert find() == Address(URL_DEFAULT)


def test_plain_http_across_a_network_is_refused(config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["login", "http://hub.example:8710"]) == 1
    assert "use the https address" in capsys.readouterr().err


def test_the_argument_comes_before_the_variable_and_this_before_the_file(config: Path):
    write(login_file(), Address("https://hub.example:8710", "ab" * 32))
    environment = {"XDG_CONFIG_HOME": str(config), "DRIFTLINE_URL": "http://127.0.0.1:2"}
    assert find("http://127.0.0.1:1/", environment=environment) == Address("http://127.0.0.1:1")
    assert find(environment=environment) == Address("http://127.0.0.1:2")
    del environment["DRIFTLINE_URL"]
    assert find(environment=environment) == Address("https://hub.example:8710", "ab" * 32)
    assert find("https://hub.example:8710", environment=environment).fingerprint == "ab" * 32


def test_a_broken_login_file_says_how_to_write_it_anew(config: Path):
    login_file().parent.mkdir(parents=True)
    login_file().write_text("{")
    with pytest.raises(InvalidInputError, match="write it anew with: driftline login URL"):
        read(login_file())


def test_what_is_no_address_is_refused(config: Path):
    with pytest.raises(InvalidInputError, match=r"not a hub's address, such as http://127\.0\.0\.1:8710"):
        Client("hub.example")


def test_an_https_address_without_a_fingerprint_is_checked_by_authorities_and_a_plain_one_trusts_nobody():
    assert _trust("https", None) is True
    nobody = _trust("http", None)
    assert isinstance(nobody, ssl.SSLContext)
    assert (nobody.verify_mode, nobody.get_ca_certs()) == (ssl.CERT_REQUIRED, [])


@pytest.mark.slow
def test_a_hub_that_others_can_reach_is_known_by_its_certificate(driftline_up: Any, config: Path):
    up = driftline_up("--host", "0.0.0.0")  # noqa: S104  what makes it show a certificate
    told = json.loads((up.home / "hub.json").read_text())
    assert told["url"].startswith("https://127.0.0.1:")
    assert Client(told["url"], fingerprint=told["fingerprint"]).list_workspaces() == []
    assert main(["login", told["url"], "--fingerprint", told["fingerprint"].upper()]) == 0
    assert Client().url == told["url"]
    with pytest.raises(UnreachableError, match=r"another certificate than expected.*driftline login"):
        Client(told["url"], fingerprint="0" * 64)
    with pytest.raises(InvalidInputError, match="64 hexadecimal digits"):
        Client(told["url"], fingerprint="short")
