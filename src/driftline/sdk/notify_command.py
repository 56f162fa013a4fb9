"""`driftline notify …`, `driftline site` and `driftline hours`: who is told, where devices are, and when."""

import argparse
import sys
from pathlib import Path

from driftline.clock import iso
from driftline.errors import InvalidInputError
from driftline.sdk.client import Client
from driftline.sdk.me import ask_secret
from driftline.wire import api


def run(options: argparse.Namespace) -> int:
    """Run one of them against the hub that `driftline login` remembers; a test that failed is exit code 1."""
    client = Client()
    if options.command == "site":
        placed = client.set_site(options.device, options.site)
        print(f"{placed.name} is at {placed.site}" if placed.site else f"{placed.name} is a site of its own")
        return 0
    if options.command == "hours":
        return _hours(client, options)
    return int(
        {"list": _list, "add": _add, "test": _test, "remove": _remove, "retry": _retry}[options.action](client, options)
    )


def _hours(client: Client, options: argparse.Namespace) -> int:
    client.set_current_workspace(client.get_workspace(options.workspace))
    if options.hours == "none":
        client.set_site_hours(options.site)
    elif options.hours is not None or options.time_zone is not None:
        client.set_site_hours(options.site or "", options.hours, time_zone=options.time_zone)
    for one in client.list_sites():
        if options.site in {None, one.site}:
            print(f"{one.site}: {one.opening_hours or 'always open'} ({one.time_zone}), since {iso(one.from_ns)}")
    return 0


def _list(client: Client, _options: argparse.Namespace) -> int:
    channels = client.notifications.channels()
    for one in channels:
        print(f"{one.name}: {one.kind}, {one.target}")
    if not channels:
        print("nobody is told of incidents yet; add a channel with: driftline notify add webhook NAME URL")
    for state in ("waiting", "dead"):
        for one in client.notifications.sent(state):  # pyright: ignore[reportArgumentType]  two of its words
            said = f": {one.reason}" if one.reason else ""
            print(
                f"{state} {one.id}: {one.change} of {iso(one.created_ns)} for {one.channel}, {one.attempts} tries{said}"
            )
    return 0


def _add(client: Client, options: argparse.Namespace) -> int:
    made = client.notifications.add(
        options.name, _target(options), kinds=options.kinds, severities=options.severities, wait_s=options.wait
    )
    print(f"channel {made.name} tells {made.target}; try it with: driftline notify test {made.name}")
    if made.secret is not None:
        print(f"its secret, shown this once: {made.secret}")
    return 0


def _target(options: argparse.Namespace) -> api.Target:
    if options.kind == "webhook":
        secret = None if options.secret_file is None else _read(options.secret_file)
        return api.Webhook(url=options.url, secret=secret)
    if options.kind == "apprise":
        # Such an address holds keys: it does not belong on a command line that others can see.
        return api.Apprise(url=_read(options.url_file) if options.url_file else ask_secret("address: ", "--url-file"))
    password = None
    if options.user is not None:
        file = options.password_file
        password = _read(file) if file else ask_secret("password: ", "--password-file")
    if options.kind == "alertmanager":
        return api.Alertmanager(url=options.url, user=options.user, password=password)
    return api.Email(
        host=options.host,
        port=options.smtp_port,
        security=options.security,
        sender=options.sender,
        to=options.to,
        user=options.user,
        password=password,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(f"{path} cannot be read ({error}); give a file that holds the secret alone") from error


def _test(client: Client, options: argparse.Namespace) -> int:
    tried = client.notifications.test(options.channel)
    if tried.delivered:
        print(f"delivered: {tried.text}")
        return 0
    print(f"driftline: not delivered: {tried.text}", file=sys.stderr)
    return 1


def _remove(client: Client, options: argparse.Namespace) -> int:
    client.notifications.remove(options.channel)
    return 0


def _retry(client: Client, options: argparse.Namespace) -> int:
    client.notifications.retry(options.notification)
    return 0
