"""Which hub this person talks to: `driftline login URL` remembers it, `Client()` finds it."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftline.errors import InvalidInputError
from driftline.sdk.http import Connection, is_loopback
from driftline.sdk.tokens import Tokens
from driftline.wire import api

URL_VARIABLE = "DRIFTLINE_URL"
FINGERPRINT_VARIABLE = "DRIFTLINE_FINGERPRINT"
URL_DEFAULT = "http://127.0.0.1:8710"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub is, and which certificate it shows where the address is https."""

    url: str
    fingerprint: str | None = None


def login_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the file that remembers; `XDG_CONFIG_HOME` moves it."""
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "driftline" / "login.json"


def find(
    url: str | None = None, fingerprint: str | None = None, environment: Mapping[str, str] = os.environ
) -> Address:
    """Find the hub: the argument, `DRIFTLINE_URL`, the login file, or the default port, in this order.

    An address without a fingerprint takes the remembered one where the login file names the same address.
    """
    remembered = read(login_file(environment))
    asked = url or environment.get(URL_VARIABLE)
    if asked is None:
        return remembered or Address(URL_DEFAULT)
    known = fingerprint or environment.get(FINGERPRINT_VARIABLE)
    if known is None and remembered is not None and remembered.url == asked.rstrip("/"):
        known = remembered.fingerprint
    return Address(asked.rstrip("/"), known)


def read(path: Path) -> Address | None:
    """Read the login file; None where there is none.

    Raises:
        InvalidInputError: it is there and cannot be read.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Address(str(document["url"]), document.get("fingerprint"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} cannot be read ({error}); write it anew with: driftline login URL") from error


def write(path: Path, address: Address) -> None:
    """Write the login file whole or not at all, readable by its owner only."""
    document = {"version": 1, "url": address.url, "fingerprint": address.fingerprint}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written ({error.strerror}); set XDG_CONFIG_HOME to a folder of yours, or use "
            f"{URL_VARIABLE}={address.url} instead"
        ) from error


def connect(address: Address) -> Connection:
    """Return the connection to a hub, with what this person's programs come to it with."""
    return Connection(address.url, address.fingerprint, tokens=tokens_of(address))


def tokens_of(address: Address) -> Tokens:
    """Return what this person's programs come to a hub with."""
    return Tokens(address.url, login_file().with_name("tokens.json"))


def run(options: argparse.Namespace) -> int:
    """Run `driftline login URL`: ask who answers there, log in where it wants that, then remember it."""
    address = Address(str(options.url).rstrip("/"), options.fingerprint)
    if address.url.startswith("http://") and not is_loopback(address.url):
        raise InvalidInputError(
            f"{address.url} is not on this machine and not https, so anybody between could read and change what "
            "is said; use the https address that driftline up prints, with --fingerprint"
        )
    tokens = tokens_of(address)
    if options.scope is not None:
        tokens.forget()
        tokens.scope = options.scope
    connection = Connection(address.url, address.fingerprint, tokens=tokens)
    version = connection.get("/version", api.Version)
    connection.close()
    path = login_file()
    write(path, address)
    print(f"driftline {version.driftline} answers at {address.url}; remembered in {path}")
    return 0
