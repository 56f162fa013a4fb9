"""`driftline doctor`: looks at a device, or at a hub with its own device, and says what is wrong and what to do.

It only looks: nothing is repaired, nothing is sent but one request that changes nothing, and no agent need run. What
the facts mean is decided in `edge/findings.py`.
"""

import fcntl
import json
import os
import platform
import pwd
import subprocess
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from driftline import clock as clocks
from driftline.edge import agent, service, status
from driftline.edge.findings import (
    HOME_FREE_BYTES_MIN,
    Facts,
    Finding,
    HubFacts,
    Unit,
    findings,
    hub_findings,
    well,
)
from driftline.edge.home import Home
from driftline.edge.probe import probe
from driftline.edge.transport import Connection
from driftline.errors import DriftlineError
from driftline.spool.look import look

HUB_TIMEOUT_S = 5.0
_SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def run(options: Namespace) -> int:
    """Print what was found about `options.home`; return 0 where nothing is wrong, 1 where something is."""
    home = Path(options.home).expanduser().absolute()
    found = examine_hub(home) if _is_hub(home) else examine(Home(home))
    if options.json:
        print(json.dumps({"well": well(found), "findings": [asdict(one) for one in found]}, indent=1))
    else:
        for one in found:
            print(f"{_SIGNS[one.verdict]} {one.about:<9} {one.text}")
    return 0 if well(found) else 1


def _is_hub(path: Path) -> bool:
    try:
        return any((path / name).exists() for name in ("hub.db", "hub.lock"))
    except OSError:
        return False  # not to be looked at by this user, which `examine` says


def examine(home: Home) -> list[Finding]:
    """Look at a device."""
    return list(findings(facts(home)))


def examine_hub(path: Path) -> list[Finding]:
    """Look at a hub, and at the device that lives in its folder."""
    found = list(hub_findings(_hub_facts(path)))
    return found + examine(Home(path / "devices" / "hub"))


# ── a device ─────────────────────────────────────────────────────────────────────────────────────────────────────


def facts(home: Home) -> Facts:
    """Gather what there is to know; takes some seconds where the hub does not answer."""
    clock = clocks.from_environment()
    base = Facts(
        home=str(home.path),
        now_ns=clock.now_ns(),
        python=platform.python_version(),
        missing=tuple(name for name in agent.WORKER_LIBRARIES if find_spec(name) is None),
        trouble=_trouble(home.path),
        fast=clock.banner is not None,
    )
    if base.trouble:
        return base
    try:
        return _asked(home, base) if home.joined else replace(base, joined=False)
    except DriftlineError as error:
        return replace(base, trouble=str(error))


def _asked(home: Home, base: Facts) -> Facts:
    identity, asked, desired = home.identity(), status.ask(home), home.desired()
    return replace(
        base,
        wants_models=desired is not None and any(one.definition.get("steps") for one in desired.pipelines),
        name=identity.name,
        url=identity.url,
        running=asked.running,
        answers=asked.answers,
        silent_s=asked.state.get("silent_s") if asked.answers else None,
        state=asked.state,
        local=_is_hub(home.path.parent.parent),
        unit=_unit(home),
        probe=probe(identity),
        disks=status.disks(home.path),
        spool=look(home.spool, thorough=True),
    )


def _trouble(path: Path) -> str:
    """Return why a device cannot live in this folder, as this user; empty where it can."""
    try:
        if not path.exists():
            return ""
        owner, me = path.stat().st_uid, os.geteuid()
        if not path.is_dir():
            return f"{path} is not a folder; name another with --home"
        if me not in {0, owner}:
            return f"{path} belongs to {_user(owner)}; ask as that user: sudo -u {_user(owner)} driftline doctor"
        foreign = [one for one in path.iterdir() if one.lstat().st_uid != owner]
        if foreign:
            return (
                f"{foreign[0]} does not belong to {_user(owner)} as its folder does, so the agent may not write it; "
                f"correct that with: chown -R {_user(owner)} {path}"
            )
        if not _writable(path):
            return f"{path} cannot be written; see whether its disk is mounted read-only (mount, dmesg)"
    except OSError as error:
        return f"{path} cannot be looked at ({error.strerror}); ask as its owner, or as root"
    return ""


def _writable(path: Path) -> bool:
    # By a question and not by a file: root passes both, but a disk mounted read-only answers either.
    return os.access(path, os.W_OK | os.X_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _unit(home: Home) -> Unit | None:
    """Ask systemd; None where it does not run this machine."""
    if not service.BOOTED.is_dir():
        return None
    name = service.unit_name(home)
    if not (service.UNITS / f"{name}.service").exists():
        return Unit(name)
    return Unit(name, True, _systemctl("is-enabled", name), _systemctl("is-active", name))


def _systemctl(question: str, name: str) -> str:
    try:
        done = subprocess.run(["systemctl", question, name], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


# ── a hub ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _hub_facts(path: Path) -> HubFacts:
    try:
        running = _held(path / "hub.lock")
    except OSError as error:
        return HubFacts(str(path), f"{path} cannot be looked at ({error.strerror}); ask as its owner, or as root")
    told = _document(path / "hub.json")
    url = str(told.get("url", ""))
    problem = _problem(url, told.get("fingerprint")) if running else ""
    return HubFacts(str(path), "", running, url, problem, (status.disk("the hub's disk", path, HOME_FREE_BYTES_MIN),))


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _problem(url: str, fingerprint: str | None) -> str:
    """Return why a hub does not answer at this address; empty where it does."""
    try:
        connection = Connection(url, fingerprint, HUB_TIMEOUT_S)
        try:
            response = connection.ask("GET", "/api/v1/version", None, dict)
            connection.read(response)
        finally:
            connection.close()
    except DriftlineError as error:
        return str(error)
    return "" if response.status < 500 else f"status {response.status}"
