"""The command line: `driftline demo | up | backup | restore | edge | login | people | role | token | notify | …`.

Arguments are defined here, where importing costs nothing; the work is done by the module each command names, loaded
only when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from driftline import __version__
from driftline.errors import DriftlineError, MissingExtraError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are one sentence on standard error and exit code 1, wrong usage 2."""
    options = parser().parse_args(arguments)
    module, extra = options.runs
    try:
        return int(import_module(module).run(options))
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if extra and not (error.name or "").startswith("driftline"):
            print(f"driftline: {MissingExtraError(f'driftline {options.command}', extra)}", file=sys.stderr)
            return 1
        raise
    except DriftlineError as error:
        print(f"driftline: {error}", file=sys.stderr)
        return 1


class Help(argparse.HelpFormatter):
    """Help as wide as the terminal, without `shutil`, which brings every kind of archive into an agent's memory."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() else os.get_terminal_size(1).columns
        except OSError:  # not a terminal
            width = 0
        super().__init__(prog, width=(width or 80) - 2)


class Parser(argparse.ArgumentParser):
    """A parser, and its commands' parsers, with this help."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts, formatter_class=Help)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(prog="driftline", description="Which device drifted, since when, and why.")
    top.add_argument("--version", action="version", version=f"driftline {__version__}")
    commands = top.add_subparsers(prog="driftline", dest="command", required=True, metavar="COMMAND")
    _demo(commands.add_parser("demo", help="see it work: a hub, three cameras, one of which loses focus"))
    how = _how_to_run_a_hub()
    _up(commands.add_parser("up", parents=[how], help="run the hub on this machine"))
    _config(commands.add_parser("config", help="what a hub is told when it starts"), how)
    _backup(commands.add_parser("backup", help="save a hub in one file, while it runs"))
    _restore(commands.add_parser("restore", help="make a hub's folder from a backup"))
    _edge(commands.add_parser("edge", help="run a device"))
    _login(commands.add_parser("login", help="remember which hub the SDK talks to"))
    _people(commands.add_parser("people", help="who may log in to a hub with accounts"))
    _role(commands.add_parser("role", help="what a person may do in a workspace"))
    _token(commands.add_parser("token", help="API tokens, for programs that nobody sits at"))
    _notify(commands.add_parser("notify", help="say who is told of incidents, and try it"))
    _site(commands.add_parser("site", help="say where a device is: what happens at one site is one incident"))
    _hours(commands.add_parser("hours", help="say when a site is open: outside of it nobody is woken"))
    _doctor(commands.add_parser("doctor", help="say what is wrong with a device, or with a hub, and what to do"))
    return top


def _demo(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.demo.command", "all"))
    command.add_argument(
        "--report", type=Path, default=Path("driftline-report"), metavar="DIR", help="where the report goes"
    )
    command.add_argument("--exit", action="store_true", help="stop when the report is written")
    fault = command.add_mutually_exclusive_group()
    fault.add_argument("--no-fault", action="store_true", help="no camera loses focus: nobody should be named")
    fault.add_argument(
        "--fault-device", type=int, default=3, metavar="N", help="the camera that loses focus, 1 to 3 (default 3)"
    )
    command.add_argument("--camera", type=Path, metavar="FILE", help="a real clip instead of the rendered shelf")
    command.add_argument(
        "--model", type=Path, metavar="FILE", help="an ONNX detector with outputs boxes, classes, confidences"
    )
    command.add_argument(
        "--detector-config", type=Path, metavar="FILE", help="JSON: how the detector wants its picture"
    )
    command.add_argument("--home", type=Path, metavar="DIR", help="keep hub and devices here (default: a new folder)")


def _up(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.hub.command", "hub"))
    command.add_argument("--install", action="store_true", help="make a hub with these options a service of systemd")
    command.add_argument("--print", action="store_true", help="show that service's unit and write nothing")
    command.add_argument("--user", metavar="NAME", help="who runs the service (default: who owns the hub's folder)")


def _config(command: argparse.ArgumentParser, how: Parser) -> None:
    actions = command.add_subparsers(prog="driftline config", dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("show", "print every setting, and where it comes from"),
        ("check", "say whether a hub can start with these settings"),
    ):
        actions.add_parser(name, parents=[how], help=text).set_defaults(runs=("driftline.hub.config", "hub"))


def _how_to_run_a_hub() -> Parser:
    """Return the options of a hub; without one the environment, then the file, then the default holds."""
    how = Parser(add_help=False)
    how.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML; see driftline config show")
    how.add_argument("--home", type=Path, metavar="DIR", help="the hub's folder (default ~/.driftline/hub)")
    how.add_argument("--host", help="address to listen on; not loopback means TLS (default 127.0.0.1)")
    how.add_argument("--port", type=int, help="port to listen on, 0 takes a free one (default 8710)")
    how.add_argument("--name", metavar="HOST", help="the name or address under which devices reach it")
    how.add_argument("--certificate", type=Path, metavar="FILE", help="its certificate (PEM; default: it makes one)")
    how.add_argument("--key", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    how.add_argument(
        "--trust",
        choices=("fingerprint", "authority"),
        help="how devices know that certificate: by itself, or by an authority of their system (default fingerprint)",
    )
    optional = argparse.BooleanOptionalAction
    how.add_argument("--auth", action=optional, help="accounts and roles: people log in")
    how.add_argument(
        "--private-targets",
        action=optional,
        help="let notifications go to addresses of private networks and of this machine",
    )
    how.add_argument(
        "--log-format", choices=("text", "json"), help="json is one object a line, with one for each request"
    )
    return how


def _backup(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.hub.backup", "hub"))
    command.add_argument("file", metavar="FILE", type=Path, help="the file to write")
    command.add_argument("--home", type=Path, default=Path("~/.driftline/hub"), metavar="DIR", help="the hub's folder")
    command.add_argument("--force", action="store_true", help="replace the file if it is there")


def _restore(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.hub.restore", "hub"))
    command.add_argument("file", metavar="FILE", type=Path, help="a file that driftline backup wrote")
    command.add_argument("--home", type=Path, required=True, metavar="DIR", help="a new folder for the hub")


def _edge(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(prog="driftline edge", dest="action", required=True, metavar="ACTION")
    home = Parser(add_help=False)
    home.add_argument("--home", type=Path, default=Path("~/.driftline/edge"), metavar="DIR", help="the device's folder")

    join = actions.add_parser("join", parents=[home], help="make this machine a device of a hub")
    join.set_defaults(runs=("driftline.edge.join", ""))
    join.add_argument("token", help="the join token, as pipeline.publish().add_edge(…).token gives it")
    join.add_argument(
        "--anew", action="store_true", help="replace the device that lives in this folder; what waits here is kept"
    )

    how = _how_to_run()
    run = actions.add_parser("run", parents=[home, how], help="run the pipelines the hub wants, until stopped")
    run.set_defaults(runs=("driftline.edge.start", ""))

    install = actions.add_parser("install", parents=[home, how], help="make this device a service of systemd")
    install.set_defaults(runs=("driftline.edge.service", ""))
    install.add_argument("--print", action="store_true", help="show the unit and write nothing")
    install.add_argument("--user", metavar="NAME", help="who runs the device (default: who owns its folder)")

    status = actions.add_parser("status", parents=[home], help="say how this device is")
    status.set_defaults(runs=("driftline.edge.status", ""))
    status.add_argument("--json", action="store_true", help="the same for programs")


def _how_to_run() -> argparse.ArgumentParser:
    how = Parser(add_help=False)
    how.add_argument(
        "--serve", default="127.0.0.1:8080", metavar="HOST:PORT", help="where inferences are answered; port 0 is any"
    )
    how.add_argument(
        "--camera",
        metavar="SOURCE",
        help="a video file, a folder of images, a camera's index, an RTSP or HTTP address, or python:module:factory",
    )
    how.add_argument("--rate", type=float, metavar="FPS", help="frames a second (default: the source's own)")
    how.add_argument("--loop", action="store_true", help="start a file again when it ends")
    how.add_argument("--pipeline", metavar="NAME", help="the pipeline that sees the camera (default: the only one)")
    how.add_argument("--start", metavar="ISO", help="the time of the first frame of a file (default: now)")
    how.add_argument("--sync-interval", type=float, metavar="S", help="seconds between syncs (default: the hub's wish)")
    how.add_argument(
        "--rows-kb-a-day", type=int, metavar="KB", help="how much of the link rows may take (default: the hub's wish)"
    )
    how.add_argument(
        "--newest-first",
        action=argparse.BooleanOptionalAction,
        help="after an outage send the newest records first (default: the hub's wish)",
    )
    return how


def _doctor(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.edge.doctor", ""))
    command.add_argument(
        "--home",
        type=Path,
        default=Path("~/.driftline/edge"),
        metavar="DIR",
        help="the folder of a device, or of a hub (default: ~/.driftline/edge)",
    )
    command.add_argument("--json", action="store_true", help="the same for programs")


def _notify(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.notify_command", "sdk"))
    actions = command.add_subparsers(prog="driftline notify", dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show the channels, what waits, and what could not be delivered")
    kinds = actions.add_parser("add", help="add a channel").add_subparsers(
        prog="driftline notify add", dest="kind", required=True, metavar="KIND"
    )
    how = _how_to_tell()
    webhook = kinds.add_parser("webhook", parents=[how], help="signed CloudEvents for a program of your own")
    webhook.add_argument("url", help="where they are posted to")
    webhook.add_argument(
        "--secret-file", type=Path, metavar="FILE", help="holds its secret (default: the hub makes one)"
    )
    email = kinds.add_parser("email", parents=[how, _who()], help="mail over SMTP")
    email.add_argument("host", help="the mail server")
    email.add_argument("sender", help="the address it comes from")
    email.add_argument("to", nargs="+", help="the addresses it goes to")
    email.add_argument("--smtp-port", type=int, metavar="PORT", help="the server's port (default: 587, 465 or 25)")
    email.add_argument(
        "--security",
        choices=("starttls", "tls", "none"),
        default="starttls",
        help="none is for a server on the hub's own machine (default: starttls)",
    )
    alerts = kinds.add_parser("alertmanager", parents=[how, _who()], help="alerts for Prometheus' Alertmanager")
    alerts.add_argument("url", help="the Alertmanager's address, such as http://alerts:9093")
    apprise = kinds.add_parser("apprise", parents=[how], help="chats, pagers, phones: what Apprise knows")
    apprise.add_argument("--url-file", type=Path, metavar="FILE", help="holds the address (default: it is asked for)")
    for name, text in (("test", "send a test and say what came of it"), ("remove", "remove a channel")):
        actions.add_parser(name, help=text).add_argument("channel", help="the channel's name")
    retry = actions.add_parser("retry", help="try a notification again")
    retry.add_argument("notification", help="its id, as driftline notify list shows it")


def _how_to_tell() -> argparse.ArgumentParser:
    how = Parser(add_help=False)
    how.add_argument("name", help="what the channel is called")
    how.add_argument(
        "--kinds", nargs="*", default=[], metavar="KIND", help="only these: drift, silent, 'camera lost' …"
    )
    how.add_argument("--severities", nargs="*", default=[], choices=("critical", "warning"), help="only these")
    how.add_argument(
        "--wait", type=int, default=30, metavar="S", help="how long what is opened waits for more (default 30)"
    )
    return how


def _who() -> argparse.ArgumentParser:
    who = Parser(add_help=False)
    who.add_argument("--user", metavar="NAME", help="who logs in there; the password is asked for")
    who.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password")
    return who


def _site(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.notify_command", "sdk"))
    command.add_argument("device", help="the device's name")
    command.add_argument("site", nargs="?", help="the site's name; without it the device is a site of its own")


def _hours(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.notify_command", "sdk"))
    command.add_argument("workspace", help="the workspace whose assays it is for")
    command.add_argument("site", nargs="?", help="the site's name; without it all that is said is listed")
    command.add_argument("hours", nargs="?", help="such as 'Mon-Sat 07:00-20:00'; 'none' takes away what was said")
    command.add_argument("--time-zone", metavar="ZONE", help="of the site's clock, such as Europe/Zurich (default UTC)")


def _login(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.login", "sdk"))
    command.add_argument("url", help="the hub's address, such as http://127.0.0.1:8710")
    command.add_argument("--fingerprint", help="the hub certificate's SHA-256, for an https address")
    command.add_argument(
        "--scope",
        choices=("viewer", "editor", "owner", "admin"),
        help="log in anew, with leave to do at most this (default owner; people and channels take an admin's admin)",
    )


def _people(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.people", "sdk"))
    actions = command.add_subparsers(prog="driftline people", dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show them")
    add = actions.add_parser("add", help="let somebody log in; they may do nothing until they have a role")
    add.add_argument("name", help="such as anna@shop.example")
    add.add_argument("--admin", action="store_true", help="they may do everything")
    add.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password (default: it is asked for)")
    new = actions.add_parser("password", help="give somebody who forgot theirs another password")
    new.add_argument("name", help="their name")
    new.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password (default: it is asked for)")
    actions.add_parser("remove", help="end every login and token of somebody").add_argument("name", help="their name")


def _role(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.people", "sdk"))
    command.add_argument("workspace", help="the workspace's name")
    command.add_argument("name", help="the person's name")
    command.add_argument("role", choices=("viewer", "editor", "owner", "none"), help="none takes it away")


def _token(command: argparse.ArgumentParser) -> None:
    command.set_defaults(runs=("driftline.sdk.token", "sdk"))
    actions = command.add_subparsers(prog="driftline token", dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make one, and print it this once")
    new.add_argument("label", help="what it is for")
    scopes = ("viewer", "editor", "owner", "admin")
    new.add_argument("--scope", choices=scopes, default="viewer", help="at most what you may (default viewer)")
    new.add_argument("--days", type=int, default=90, help="how long it is valid (default 90)")
    actions.add_parser("list", help="show yours")
    actions.add_parser("end", help="let one be worth nothing from now on").add_argument("id", help="as list shows it")


if __name__ == "__main__":
    sys.exit(main())
