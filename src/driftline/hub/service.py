"""A hub as a service of systemd: the unit it needs, and `driftline up --install`, which writes it."""

import os
import socket
import sys
from argparse import Namespace
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from driftline import units
from driftline.hub.config import TYPES, Config
from driftline.units import quoted

# Below this only root may listen, or who may do that and nothing else of root's.
PRIVILEGED_BELOW = 1024
_TEMPLATE = """\
# Written by `driftline up --install` for the hub in {home}; that command writes it anew.
[Unit]
Description=driftline hub ({described})
Wants=network-online.target
After=network-online.target time-sync.target postgresql.service
RequiresMountsFor={quoted_home}
# A hub never gives up: its devices wait for it.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
Environment=ORT_DISABLE_TELEMETRY=1 XDG_RUNTIME_DIR=%t/{name}
# DRIFTLINE_DATABASE_URL and others; readable by root alone, as it may hold a password.
EnvironmentFile=-/etc/driftline/{name}.env
# What the hub's own device has not handed over yet lies in memory files; they outlive a restart.
RuntimeDirectory={name}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
UMask=0077

# A new version may have to bring the database up first.
TimeoutStartSec=infinity
Restart=always
{restart}
# SIGTERM goes to the hub alone: it stops its device, finishes what is asked of it, commits, and ends with 0.
KillMode=mixed
TimeoutStopSec=60
LimitCORE=0
# Each device that syncs is a connection.
LimitNOFILE=65536
# The device `hub` may be killed for its memory; the hub goes on.
OOMPolicy=continue
# A deployment's limits on CPU and memory are kept by groups below this one.
Delegate=cpu memory

{sandbox}
ProtectClock=yes
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{capabilities}

[Install]
WantedBy=multi-user.target
"""


def install(options: Namespace, config: Config) -> int:
    """Write the unit that runs a hub with these options, or print it; say how to start it.

    The home is made where it is not there yet, so that its owner is who runs the hub.

    Raises:
        PermanentError: systemd did not start this machine.
        NotAllowedError: units are written by root alone.
        ConflictError: the unit of another hub or device has this name.
        InvalidInputError: a place or a user that cannot be.
    """
    home = Path(config.home).expanduser().absolute()
    name, user = units.unit_name(home, "hub"), options.user or units.owner(home)
    command = [sys.executable, "-m", "driftline.cli", "up", *given(vars(options), home)]
    text = unit(home, name, user, command, units.systemd_version(), config.port)
    if options.print:
        print(text, end="")
        return 0
    units.check_place(home, "hub")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    units.check_user(home, user)
    path = units.UNITS / f"{name}.service"
    changed = units.write(text, path, f"the hub in {home}", booted=units.BOOTED.is_dir())
    print(f"{path} {'is written' if changed else 'is as it should be already'}; the hub runs as {user}")
    print(units.how_to_start(name, changed))
    return 0


def given(options: Mapping[str, object], home: Path) -> list[str]:
    """Return the options of the command line as they are to be handed on: files by their whole path."""
    words = ["--home", str(home)]
    for name in ("config", *TYPES):
        value, option = options.get(name), f"--{name.replace('_', '-')}"
        if value is None or name == "home":
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, str(value.expanduser().absolute() if isinstance(value, Path) else value)]
    return words


def unit(home: Path, name: str, user: str, command: list[str], version: int | None, port: int) -> str:
    """Return the text of the unit; `version` is systemd's, None where it is unknown."""
    may_bind = "CAP_NET_BIND_SERVICE" if 0 < port < PRIVILEGED_BELOW else ""
    return _TEMPLATE.format(
        home=str(home).replace("\n", " "),
        described=str(home).replace("\n", " ").replace("%", "%%"),
        quoted_home=quoted(str(home)),
        command=" ".join(quoted(word).replace("$", "$$") for word in command),
        user=user,
        name=name,
        restart=units.restart(version),
        sandbox=units.SANDBOX.format(quoted_home=quoted(str(home))),
        capabilities=f"CapabilityBoundingSet={may_bind}" + (f"\nAmbientCapabilities={may_bind}" if may_bind else ""),
    )


class Manager:
    """The service manager's ear: a datagram socket that it names in `NOTIFY_SOCKET`; see sd_notify(3)."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        # Out of the environment with it: the device `hub` must not speak for the hub.
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def tell(self, line: str) -> None:
        """Say `READY=1` or `STOPPING=1`; nobody hears it where the hub is no service."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.sendto(line.encode(), self._address)
