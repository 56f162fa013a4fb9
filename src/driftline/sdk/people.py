"""`driftline people …` and `driftline role`: who may log in to a hub with accounts, and what they may do there."""

import argparse
from urllib.parse import quote

from driftline.errors import EntityNotFoundError
from driftline.sdk import login
from driftline.sdk.http import Connection
from driftline.sdk.me import ask_secret
from driftline.wire import api


def run(options: argparse.Namespace) -> int:
    """Run one of the commands against the hub that `Client()` would find."""
    connection = login.connect(login.find())
    try:
        if options.command == "role":
            _give(connection, options)
        elif options.action == "list":
            for one in connection.items("/people", api.Person):
                print(f"{one.name}{' (admin)' if one.is_admin else ''}")
        elif options.action == "add":
            _add(connection, options)
        elif options.action == "password":
            body = api.encode(api.GivenPassword(_password(options)))
            connection.send("PUT", f"/people/{quote(options.name, safe='')}/password", content=body)
            print(f"{options.name} is logged out everywhere, and logs in with the new password")
        else:
            connection.send("DELETE", f"/people/{quote(options.name, safe='')}")
            print(f"{options.name} may log in no more; their tokens are worth nothing")
    finally:
        connection.close()
    return 0


def _add(connection: Connection, options: argparse.Namespace) -> None:
    new = api.NewPerson(options.name, _password(options), is_admin=options.admin)
    made = connection.post("/people", new, api.Person)
    what = "everything" if made.is_admin else "nothing yet; give a role with: driftline role WORKSPACE NAME ROLE"
    print(f"{made.name} may log in, and may do {what}")


def _password(options: argparse.Namespace) -> str:
    if options.password_file:
        return options.password_file.read_text(encoding="utf-8").strip()
    return ask_secret("their password (at least 12 characters): ", "--password-file")


def _give(connection: Connection, options: argparse.Namespace) -> None:
    spaces = {one.name: one.id for one in connection.items("/workspaces", api.Workspace)}
    workspace = spaces.get(options.workspace)
    if workspace is None:
        raise EntityNotFoundError(
            f"there is no workspace {options.workspace!r}; there are: {', '.join(spaces) or 'none'}"
        )
    role = None if options.role == "none" else options.role
    body = api.encode(api.NewRole(role=role))
    connection.send("PUT", f"/workspaces/{workspace}/roles/{quote(options.name, safe='')}", content=body)
    print(f"{options.name} is {options.role} in {options.workspace}" if role else f"{options.name} has no role there")
