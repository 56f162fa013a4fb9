"""What a hub is told when it starts: one typed file, the environment, the command line; each beats the one before.

Every setting has one name in three spellings: `log_format` in the file (TOML), `DRIFTLINE_LOG_FORMAT` in the
environment, `--log-format` on the command line. `driftline config show` prints what holds and where it comes from,
`driftline config check` whether a hub could start with it.
"""

import argparse
import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from driftline.errors import EntityNotFoundError, InvalidInputError, NotAllowedError
from driftline.hub import fleet, journal, retention
from driftline.hub.tls import own

PREFIX = "DRIFTLINE_"
FILE_VARIABLE = "DRIFTLINE_CONFIG"
DEFAULT = "default"
COMMAND_LINE = "command line"

Days = Annotated[float, msgspec.Meta(ge=1, lt=1_000_000)] | Literal["forever"]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Config(msgspec.Struct, kw_only=True, frozen=True):
    """The settings; what is not here is not one.

    `name` is under which name others reach this hub. `trust` says how devices know its own certificate: by its
    fingerprint, or by an authority that their system knows.
    """

    home: Text = "~/.driftline/hub"
    host: Text = "127.0.0.1"
    port: int = 8710
    name: Text | None = None
    certificate: Text | None = None
    key: Text | None = None
    trust: Literal["fingerprint", "authority"] = "fingerprint"
    auth: bool = False
    private_targets: bool = False
    log_format: journal.Form = "text"
    database_url: Text | None = None
    sync_interval_s: Annotated[float, msgspec.Meta(gt=0, lt=10_000_000)] | None = None
    keep_summaries_days: Days = retention.DEFAULT_DAYS["summaries"]
    keep_rows_days: Days = retention.DEFAULT_DAYS["rows"]
    keep_analyses_days: Days = retention.DEFAULT_DAYS["analyses"]


TYPES: Mapping[str, Any] = {one.name: one.type for one in msgspec.structs.fields(Config)}
# What other parts of the hub read from the environment themselves, each where it is needed.
_READ_THERE = (fleet.INTERVAL_VARIABLE, *retention.VARIABLES.values())


class Effective(msgspec.Struct, frozen=True):
    """What holds, and where each setting comes from."""

    config: Config
    sources: Mapping[str, str]

    def text(self) -> str:
        """Return it as a file that means the same, without secrets."""
        facts = {name: _shown(name, getattr(self.config, name)) for name in TYPES}
        lines = {
            name: f"{name} = {json.dumps(value, ensure_ascii=False)}" if value is not None else f"# {name} ="
            for name, value in facts.items()
        }
        width = max(map(len, lines.values()))
        return "\n".join(f"{line:<{width}}  # {self.sources[name]}" for name, line in lines.items())

    def to_environment(self, environment: Any) -> None:
        """Tell those parts of the hub that read the environment what the file says."""
        for variable in _READ_THERE:
            value = getattr(self.config, variable.removeprefix(PREFIX).lower())
            if value is not None:
                environment.setdefault(variable, str(value))


def effective(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Effective:
    """Work out what holds; `given` is what the command line says, by name, and `config` where the file is.

    Raises:
        EntityNotFoundError, NotAllowedError: there is no such file, or it is not for this user to read.
        InvalidInputError: a name that is no setting, or a value that is none; the message says where it stands.
    """
    path = given.get("config") or environment.get(FILE_VARIABLE) or None
    facts: dict[str, Any] = {}
    sources = dict.fromkeys(TYPES, DEFAULT)
    if path is not None:
        for name, (value, where) in _read(Path(path).expanduser()).items():
            facts[name], sources[name] = value, where
    for name, kind in TYPES.items():
        if text := environment.get(PREFIX + name.upper(), "").strip():
            facts[name], sources[name] = (
                _converted(text, kind, PREFIX + name.upper(), strict=False),
                PREFIX + name.upper(),
            )
    for name in TYPES:
        if given.get(name) is not None:
            value = str(given[name]) if isinstance(given[name], Path) else given[name]
            facts[name], sources[name] = value, COMMAND_LINE
    return Effective(Config(**facts), sources)


def _read(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EntityNotFoundError(f"there is no file {path}; driftline config show prints one to begin with") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NotAllowedError(f"{path} cannot be read ({error}); see its owner and mode") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path} is not TOML: {error}") from error
    found: dict[str, tuple[Any, str]] = {}
    for name, value in document.items():
        where = f"{path.name}, line {_line_of(text, name)}"
        if name not in TYPES:
            raise InvalidInputError(f"{path}, line {_line_of(text, name)}: {_unknown(name)}")
        found[name] = _converted(value, TYPES[name], f"{path}, line {_line_of(text, name)}: {name}"), where
    _check_mode(path, document)
    return found


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, TYPES, n=1, cutoff=0.5)
    return f"{name!r} is no setting; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TYPES)}")


def _line_of(text: str, name: str) -> int:
    """Return the line on which a name of a TOML document stands; 1 where it is spelled in an odd way."""
    wanted = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[.=\]]""")
    return next((at for at, line in enumerate(text.splitlines(), 1) if wanted.match(line)), 1)


def _converted(value: Any, kind: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{where}: {error}") from error


def _check_mode(path: Path, document: Mapping[str, Any]) -> None:
    password = urlsplit(str(document.get("database_url", ""))).password
    if password and path.stat().st_mode & 0o077:
        raise NotAllowedError(f"{path} holds a password, and others may read it; chmod 600 {path}")


def _shown(name: str, value: Any) -> Any:
    if name != "database_url" or value is None:
        return value
    parts = urlsplit(value)
    user = f"{parts.username}:…@" if parts.password else f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}"


def run(options: argparse.Namespace) -> int:
    """Print what holds (`show`), or say whether it can (`check`).

    Raises:
        InvalidInputError, EntityNotFoundError, NotAllowedError: what a hub would not start with.
    """
    found = effective(vars(options))
    if options.action == "show":
        print(found.text())
        return 0
    config = found.config
    if config.certificate or config.key:
        own(config.certificate, config.key)
    print("a hub can start with this; driftline config show prints it")
    return 0
