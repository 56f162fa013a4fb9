"""`driftline people` and `driftline role` against a hub whose people log in."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftline import cli
from driftline.clock import SystemClock
from driftline.hub.accounts import people
from driftline.sdk.client import Client

PASSWORD = "correct horse battery"


@pytest.fixture
def hub(serve_hub: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub with an admin, whose token these commands come with."""
    hub = serve_hub()
    hub.accounts = people.Accounts()
    with hub.database.writing() as connection:
        root = people.add(connection, "root", "no password fits", SystemClock().now_ns(), is_admin=True)
        token, _ = people.give(connection, "token", root.id, label="test")
    for name, value in (("URL", hub.url), ("TOKEN", token)):
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return hub


def test_an_admin_adds_somebody_gives_them_a_role_and_lets_them_go(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    Client().create_workspace("shop")
    assert cli.main(["people", "add", "Anna@Shop.Example", "--password-file", str(tmp_path / "password")]) == 0
    assert "anna@shop.example may log in, and may do nothing yet" in capsys.readouterr().out
    with hub.database.writing() as connection:
        anna = people.need(connection, "anna@shop.example")
        assert people.fits(PASSWORD, anna.password)
        hers, _ = people.give(connection, "token", anna.id, label="hers")
    monkeypatch.setenv("DRIFTLINE_TOKEN", hers)
    assert list(Client().list_workspaces()) == []


def test_a_role_is_given_and_taken_away(hub: Any, capsys: pytest.CaptureFixture[str]):
    Client().create_workspace("shop")
    with hub.database.writing() as connection:
        anna = people.add(connection, "anna", "no password fits", 0, is_admin=False)
    for role, said in (("editor", "anna is editor in shop\n"), ("none", "anna has no role there\n")):
        assert cli.main(["role", "shop", "anna", role]) == 0
        assert capsys.readouterr().out == said
        with hub.database.reading() as connection:
            held = people.principal(connection, anna.id, "admin").roles
        assert list(held.values()) == ([] if role == "none" else [role])
    assert cli.main(["role", "bank", "anna", "editor"]) == 1
    assert "there is no workspace 'bank'; there are: shop" in capsys.readouterr().err
    assert cli.main(["role", "shop", "berta", "editor"]) == 1
    assert "there is no person 'berta'" in capsys.readouterr().err


def test_who_forgot_their_password_is_given_another(hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with hub.database.writing() as connection:
        people.add(connection, "anna", "no password fits", 0, is_admin=False)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    assert cli.main(["people", "password", "anna", "--password-file", str(tmp_path / "password")]) == 0
    assert capsys.readouterr().out == "anna is logged out everywhere, and logs in with the new password\n"
    with hub.database.reading() as connection:
        assert people.fits(PASSWORD, people.need(connection, "anna").password)
    assert cli.main(["people", "password", "root", "--password-file", str(tmp_path / "password")]) == 1
    assert "your own password you change on the page /people" in capsys.readouterr().err


def test_people_are_listed_and_removed_but_for_the_last_admin(hub: Any, capsys: pytest.CaptureFixture[str]):
    with hub.database.writing() as connection:
        people.add(connection, "anna", "no password fits", 0, is_admin=False)
    assert cli.main(["people", "remove", "anna"]) == 0
    assert cli.main(["people", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "root (admin)"
    assert cli.main(["people", "remove", "root"]) == 1
    assert "'root' is the only admin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("people add bob", "--password-file"),
        ("notify add email ops mail.example.org hub@example.org ada@example.org --user hub", "--password-file"),
        ("notify add apprise ops", "--url-file"),
    ],
)
def test_where_there_is_no_terminal_the_option_that_needs_none_is_said(hub: Any, command: str, option: str):
    environment = os.environ | {"DRIFTLINE_URL": hub.url}
    done = subprocess.run(
        [sys.executable, "-m", "driftline.cli", *command.split()],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"there is no terminal to ask for it; give {option} FILE" in done.stderr
    assert "Traceback" not in done.stderr
