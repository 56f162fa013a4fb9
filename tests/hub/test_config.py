"""What a hub is told when it starts: the file, the environment, the command line."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftline.cli import main, parser
from driftline.errors import DriftlineError
from driftline.hub.config import TYPES, Config, Effective, effective

ANOTHER: dict[str, Any] = {
    "home": "/srv/hub", "host": "127.0.0.9", "port": 9000, "name": "hub.example", "certificate": "/srv/c.pem",
    "key": "/srv/k.pem", "trust": "authority", "auth": True, "private_targets": True, "log_format": "json",
    "database_url": "postgresql://ada@db.example/x", "sync_interval_s": 30.0, "keep_summaries_days": 10.0,
    "keep_rows_days": "forever", "keep_analyses_days": 20.0,
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "hub.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return written


def toml(facts: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {msgspec.json.encode(value).decode()}" for name, value in facts.items())


def test_every_setting_can_stand_in_the_file_and_in_the_environment(write: Any) -> None:
    assert set(ANOTHER) == set(TYPES)
    wanted = Config(**ANOTHER)
    assert all(getattr(wanted, name) != getattr(Config(), name) for name in TYPES)
    assert effective({"config": write(toml(ANOTHER))}, {}).config == wanted
    spelled = {f"DRIFTLINE_{name.upper()}": str(value) for name, value in ANOTHER.items()}
    assert effective({}, spelled).config == wanted


def test_every_option_of_up_is_a_setting() -> None:
    options = vars(parser().parse_args(["up"]))
    assert set(options) - {"command", "runs", "config", "install", "print", "user"} <= set(TYPES)
    assert all(options[name] is None for name in TYPES if name in options)


def test_the_command_line_beats_the_environment_and_that_the_file(write: Any) -> None:
    path = write("port = 1\nauth = true\nlog_format = 'json'\n# a comment\nhost = '::1'\n")
    given = vars(parser().parse_args(["up", "--config", str(path), "--port", "3", "--no-auth"]))
    found = effective(given, {"DRIFTLINE_PORT": "2", "DRIFTLINE_HOST": "127.0.0.2", "DRIFTLINE_KEY": ""})
    assert (found.config.port, found.config.host, found.config.auth) == (3, "127.0.0.2", False)
    assert {name: found.sources[name] for name in ("port", "host", "log_format", "key")} == {
        "port": "command line", "host": "DRIFTLINE_HOST", "log_format": "hub.toml, line 3", "key": "default",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# a hub\nprot = 1\n", r"hub.toml, line 2: 'prot' is no setting; did you mean 'port'\?"),
        ("\n\n[log-format]\nx = 1", r"hub.toml, line 3: 'log-format' is no setting; did you mean 'log_format'\?"),
        ("zzz = 1", "'zzz' is no setting; there are home, host"),
        ("port = '8710'", "hub.toml, line 1: port: Expected `int`, got `str`"),
        ("auth = true\nlog_format = 'xml'", "hub.toml, line 2: log_format: Invalid enum value 'xml'"),
        ("keep_rows_days = 0", "hub.toml, line 1: keep_rows_days: Expected `float` >= 1"),
        ("keep_rows_days = 'ever'", "hub.toml, line 1: keep_rows_days: Invalid enum value 'ever'"),
        ("port = = 1", r"is not TOML: .*line 1"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_line(write: Any, text: str, said: str) -> None:
    with pytest.raises(DriftlineError, match=said):
        effective({"config": write(text)}, {})


@pytest.mark.parametrize(("variable", "value"), [("PORT", "many"), ("AUTH", "perhaps"), ("SYNC_INTERVAL_S", "0")])
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(DriftlineError, match=f"DRIFTLINE_{variable}: "):
        effective({}, {f"DRIFTLINE_{variable}": value})


def test_a_file_with_a_password_is_for_its_owner_alone(write: Any) -> None:
    text = 'database_url = "postgresql://ada:hunter2@db.example/x"'
    with pytest.raises(DriftlineError, match="chmod 600"):
        effective({"config": write(text, 0o644)}, {})
    assert effective({"config": write(text)}, {}).config.database_url


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriftlineError, match="there is no file"):
        effective({}, {"DRIFTLINE_CONFIG": str(tmp_path / "none.toml")})


def test_what_is_shown_has_no_secret_and_is_a_file_that_means_the_same(
    write: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("DRIFTLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://ada:hunter2@db.example:5432/x?sslrootcert=a")
    assert main(["config", "show", "--port", "9000"]) == 0
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert 'database_url = "postgresql://ada:…@db.example:5432/x"' in shown
    assert [line.split("#")[-1].strip() for line in shown.splitlines() if line.startswith("port")] == ["command line"]
    monkeypatch.delenv("DRIFTLINE_DATABASE_URL")
    again = effective({"config": write(shown)}, {}).config
    assert msgspec.structs.replace(again, database_url=None) == Config(port=9000)


def test_a_check_says_what_a_hub_would_not_start_with(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", str(write("port = 9000"))]) == 0
    assert "a hub can start with this" in capsys.readouterr().out
    assert main(["config", "check", "--config", str(write("certificate = '/none.pem'"))]) == 1
    assert "--certificate FILE --key FILE" in capsys.readouterr().err


def test_who_reads_the_environment_reads_what_the_file_says() -> None:
    there = {"DRIFTLINE_KEEP_ROWS_DAYS": "5"}
    config = Config(keep_rows_days=7, keep_analyses_days="forever", sync_interval_s=30)
    Effective(config, {}).to_environment(there)
    assert there == {
        "DRIFTLINE_KEEP_ROWS_DAYS": "5", "DRIFTLINE_KEEP_ANALYSES_DAYS": "forever",
        "DRIFTLINE_KEEP_SUMMARIES_DAYS": "400", "DRIFTLINE_SYNC_INTERVAL_S": "30",
    }  # fmt: skip
