"""A device as a service of systemd: the unit it needs, and `driftline edge install`, which writes it.

What it has in common with a hub's is in `driftline.units`.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

from driftline import units
from driftline.edge.agent import worker_command
from driftline.edge.home import Home
from driftline.errors import MissingExtraError
from driftline.units import (
    BOOTED,
    SANDBOX,
    UNITS,
    check_place,
    check_user,
    how_to_start,
    owner,
    quoted,
    restart,
    systemd_version,
    write,
)

# What belongs to this command itself; everything else is handed on to `edge run`.
NOT_HANDED_ON = {"command", "action", "runs", "home", "print", "user"}
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

{sandbox}

[Install]
WantedBy=multi-user.target
"""


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
    user = options.user or owner(home.path)
    _refuse_as_run_does(home, options)
    text = unit(home, name, user, run_command(home, options), systemd_version())
    if options.print:
        print(text, end="")
        return 0
    _check_place(home)
    check_user(home.path, user)
    changed = write(text, UNITS / f"{name}.service", f"the device in {home.path}", booted=BOOTED.is_dir())
    state = "is written" if changed else "is as it should be already"
    print(f"{UNITS / name}.service {state}; the device runs as {user}")
    print(how_to_start(name, changed))
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
    return units.unit_name(home.path, "edge")


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
    return _TEMPLATE.format(
        home=str(home.path).replace("\n", " "),
        described=str(home.path).replace("\n", " ").replace("%", "%%"),
        quoted_home=quoted(str(home.path)),
        identity=str(home.path / "device.json").replace("%", "%%"),
        command=" ".join(quoted(word).replace("$", "$$") for word in command),
        user=user,
        name=name,
        restart=restart(version),
        sandbox=SANDBOX.format(quoted_home=quoted(str(home.path))),
    )


def _check_place(home: Home) -> None:
    check_place(home.path, "device")
