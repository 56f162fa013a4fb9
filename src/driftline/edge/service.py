"""A device as a service of systemd: the unit it needs, and `driftline edge install`, which writes it.

The unit belongs to the system and not to a user's session, because a device works without anybody logged in. It runs
as the user who owns the home, and may write nowhere else.
"""

import os
import pwd
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from driftline.edge.agent import worker_command
from driftline.edge.home import Home
from driftline.errors import ConflictError, InvalidInputError, MissingExtraError, NotAllowedError, PermanentError

UNITS = Path("/etc/systemd/system")
# Where it exists, systemd started this machine: sd_booted(3).
BOOTED = Path("/run/systemd/system")
# What belongs to this command itself; everything else is handed on to `edge run`.
NOT_HANDED_ON = {"command", "action", "runs", "home", "print", "user"}
# A restart that waits longer each time came with this version.
STEPS_SINCE = 254
_TEMPLATE = """\
# Written by `driftline edge install` for the device in {home}; that command writes it anew.
[Unit]
Description=driftline device ({described})
After=network.target time-sync.target
RequiresMountsFor={quoted_home}
# Before the device has joined a hub there is nothing to run.
ConditionPathExists={identity}
# A device never gives up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
Environment=ORT_DISABLE_TELEMETRY=1 XDG_RUNTIME_DIR=%t/{name}
# What the worker has not handed over yet lies in memory files; they outlive a restart, as /dev/shm does.
RuntimeDirectory={name}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
UMask=0077

# An agent whose main loop, network thread or link has stopped is killed and says in the log where it stood.
WatchdogSec=60
TimeoutStartSec=300
Restart=always
{restart}
# SIGTERM goes to the agent alone: it lets the worker hand over what it counted. Who is left after it is killed.
KillMode=mixed
TimeoutStopSec=30
LimitCORE=0
# A worker that is killed for its memory must not take the agent along.
OOMPolicy=continue
# A deployment's limits on CPU and memory are kept by groups below this one.
Delegate=cpu memory

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
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

[Install]
WantedBy=multi-user.target
"""

_STEPS = """\
RestartSec=2
RestartSteps=6
RestartMaxDelaySec=120"""


def run(options: Namespace) -> int:
    """Write the unit of the device in `options.home`, or print it; say how to start it.

    Raises:
        EntityNotFoundError: nobody joined a hub there.
        PermanentError: systemd did not start this machine.
        NotAllowedError: units are written by root alone.
        ConflictError: the unit of another device has this name.
        InvalidInputError: an option that cannot be meant, or a user who cannot run the device.
    """
    home = Home(options.home)
    name = unit_name(home)
    if not options.print:
        home.identity()
    user = options.user or _owner(home.path)
    _refuse_as_run_does(home, options)
    text = unit(home, name, user, run_command(home, options), systemd_version())
    if options.print:
        print(text, end="")
        return 0
    _check_place(home)
    _check_user(home, user)
    changed = write(text, home, name)
    state = "is written" if changed else "is as it should be already"
    print(f"{UNITS / name}.service {state}; the device runs as {user}")
    print("now and at every start of this machine, with these two commands:")
    print("  systemctl daemon-reload")
    print(f"  systemctl enable --now {name}" if changed != "anew" else f"  systemctl restart {name}")
    return 0


def _refuse_as_run_does(home: Home, options: Namespace) -> None:
    try:
        worker_command(home, options)
    except MissingExtraError:
        # Printed may also be what another machine is to run.
        if not options.print:
            raise


def unit_name(home: Home) -> str:
    """Return the unit's name, from the name of the home's folder.

    >>> unit_name(Home("/var/lib/driftline/till 1"))
    'driftline-till-1'
    """
    return "driftline-" + (re.sub(r"[^A-Za-z0-9_.]+", "-", home.path.name).strip("-.") or "edge")


def run_command(home: Home, options: Namespace) -> list[str]:
    """Return the command that runs the device with these options of `driftline edge run`."""
    command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", str(home.path)]
    for name, value in vars(options).items():
        option = f"--{name.replace('_', '-')}"
        if name in NOT_HANDED_ON or value is None or (name == "loop" and not value):
            continue
        if isinstance(value, bool):
            command.append(option if value else option.replace("--", "--no-", 1))
        else:
            command += [option, str(value)]
    return command


def unit(home: Home, name: str, user: str, command: Sequence[str], version: int | None) -> str:
    """Return the text of the unit; `version` is systemd's, None where it is unknown."""
    steps = "RestartSec=5" if version is not None and version < STEPS_SINCE else _STEPS
    return _TEMPLATE.format(
        home=str(home.path).replace("\n", " "),
        described=str(home.path).replace("\n", " ").replace("%", "%%"),
        quoted_home=quoted(str(home.path)),
        identity=str(home.path / "device.json").replace("%", "%%"),
        command=" ".join(quoted(word).replace("$", "$$") for word in command),
        user=user,
        name=name,
        restart=steps,
    )


def quoted(word: str) -> str:
    r"""Return a word as a unit's line takes it: one word, its percent signs themselves.

    >>> print(quoted("/srv/50% off"), quoted("plain"))
    "/srv/50%% off" plain
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return escaped if re.fullmatch(r"[\w./:=@%,+-]+", escaped, re.ASCII) else f'"{escaped}"'


def write(text: str, home: Home, name: str) -> str:
    """Put the unit in its place; return `new`, `anew` where it was another, or nothing where it was the same."""
    path = UNITS / f"{name}.service"
    if not BOOTED.is_dir():
        raise PermanentError("systemd did not start this machine, so it has no use for a unit; see one with --print")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before is not None and before.partition("\n")[0] != text.partition("\n")[0]:
            raise ConflictError(
                f"{path} is not the unit of the device in {home.path}; rename this device's folder, or remove that unit"
            )
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


def systemd_version() -> int | None:
    """Return this machine's version of systemd, None where it has none."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    found = re.match(r"systemd (\d+)", said)
    return None if found is None else int(found[1])


def _owner(path: Path) -> str:
    """Return who owns the home, or would."""
    number = path.stat().st_uid if path.exists() else os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _check_place(home: Home) -> None:
    for folder in ("/tmp", "/var/tmp"):  # noqa: S108  what is refused
        if home.path.is_relative_to(folder):
            raise InvalidInputError(
                f"{home.path} lies under {folder}, which is emptied at times and which a service does not see; "
                "move the device's folder, to /var/lib/driftline for example"
            )


def _check_user(home: Home, user: str) -> None:
    try:
        number = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise InvalidInputError(f"--user {user}: this machine knows no such user; make it with useradd") from None
    if number not in {0, home.path.stat().st_uid}:
        raise InvalidInputError(
            f"{home.path} belongs to {_owner(home.path)}, so that {user} could not write it; "
            f"give it over first: chown -R {user} {home.path}"
        )
