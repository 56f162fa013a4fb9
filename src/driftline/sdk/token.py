"""`driftline token new | list | end`: API tokens, for programs that nobody sits at."""

import argparse

from driftline.sdk import login
from driftline.sdk.http import Connection
from driftline.wire import api


def run(options: argparse.Namespace) -> int:
    """Run one of the commands against the hub that `Client()` would find."""
    connection = login.connect(login.find())
    try:
        if options.action == "new":
            _new(connection, options)
        elif options.action == "list":
            for one in connection.items("/tokens", api.Token):
                print(f"{one.id}  {one.scope:6}  {one.label}")
        else:
            connection.send("DELETE", f"/tokens/{options.id}")
    finally:
        connection.close()
    return 0


def _new(connection: Connection, options: argparse.Namespace) -> None:
    wish = api.NewToken(label=options.label, scope=options.scope, days=options.days)
    print(connection.post("/tokens", wish, api.Token).token)
