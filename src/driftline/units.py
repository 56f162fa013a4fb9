"""Units of systemd: what `driftline edge install` and `driftline up --install` have in common.

A unit belongs to the system and not to a user's session, because it runs without anybody logged in. It runs as the user
who owns its home, and may write nowhere else.
"""

import os
import pwd
import re
import subprocess
from pathlib import Path

from driftline.errors import ConflictError, InvalidInputError, NotAllowedError, PermanentError

UNITS = Path("/etc/systemd/system")
# Where it exists, systemd started this machine: sd_booted(3).
BOOTED = Path("/run/systemd/system")
# A restart that waits longer each time came with this version.
STEPS_SINCE = 254
_STEPS = """\
RestartSec=2
RestartSteps=6
RestartMaxDelaySec=120"""

# What neither a hub nor a device needs.
SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={quoted_home}
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
# Netlink is how the C library learns which addresses this machine has.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"""


def unit_name(home: Path, otherwise: str) -> str:
    """Return the unit's name, from the name of the home's folder.

    >>> unit_name(Path("/var/lib/driftline/till 1"), "edge")
    'driftline-till-1'
    """
    return "driftline-" + (re.sub(r"[^A-Za-z0-9_.]+", "-", home.name).strip("-.") or otherwise)


def restart(version: int | None) -> str:
    """Return the lines that say how long a restart waits; `version` is systemd's, None where it is unknown."""
    return "RestartSec=5" if version is not None and version < STEPS_SINCE else _STEPS


def quoted(word: str) -> str:
    r"""Return a word as a unit's line takes it: one word, its percent signs themselves.

    >>> print(quoted("/srv/50% off"), quoted("plain"))
    "/srv/50%% off" plain
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return escaped if re.fullmatch(r"[\w./:=@%,+-]+", escaped, re.ASCII) else f'"{escaped}"'


def write(text: str, path: Path, whose: str, *, booted: bool) -> str:
    """Put a unit in its place; return `new`, `anew` where it was another, or nothing where it was the same.

    `whose` says in its first line whose it is: the unit of somebody else is not overwritten.

    Raises:
        PermanentError: systemd did not start this machine.
        ConflictError: the unit of another has this name.
        NotAllowedError: units are written by root alone.
    """
    if not booted:
        raise PermanentError("systemd did not start this machine, so it has no use for a unit; see one with --print")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before is not None and before.partition("\n")[0] != text.partition("\n")[0]:
            raise ConflictError(f"{path} is not the unit of {whose}; rename this folder, or remove that unit")
        if before == text:
            return ""
        beside = path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise NotAllowedError(
            f"{path} cannot be written ({error.strerror}); run this as root (sudo), or see the unit with --print"
        ) from error
    return "new" if before is None else "anew"


def how_to_start(name: str, changed: str) -> str:
    """Return the commands that follow."""
    start = f"  systemctl enable --now {name}" if changed != "anew" else f"  systemctl restart {name}"
    return f"now and at every start of this machine, with these two commands:\n  systemctl daemon-reload\n{start}"


def systemd_version() -> int | None:
    """Return this machine's version of systemd, None where it has none."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    found = re.match(r"systemd (\d+)", said)
    return None if found is None else int(found[1])


def owner(path: Path) -> str:
    """Return who owns the home, or would."""
    number = path.stat().st_uid if path.exists() else os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def check_place(home: Path, what: str) -> None:
    """See that a service can use this folder.

    Raises:
        InvalidInputError: it is where things are removed at times.
    """
    for folder in ("/tmp", "/var/tmp"):  # noqa: S108  what is refused
        if home.is_relative_to(folder):
            raise InvalidInputError(
                f"{home} lies under {folder}, which is emptied at times and which a service does not see; "
                f"move the {what}'s folder, to /var/lib/driftline for example"
            )


def check_user(home: Path, user: str) -> None:
    """See that a user can write the home.

    Raises:
        InvalidInputError: there is no such user, or the folder is another's.
    """
    try:
        number = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise InvalidInputError(f"--user {user}: this machine knows no such user; make it with useradd") from None
    if number not in {0, home.stat().st_uid}:
        raise InvalidInputError(
            f"{home} belongs to {owner(home)}, so that {user} could not write it; "
            f"give it over first: chown -R {user} {home}"
        )
