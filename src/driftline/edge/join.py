"""`driftline edge join TOKEN`: makes this machine a device of a hub. Standard library alone.

The token works once, so everything that could fail on this side is tried before it is used: the folder, whether a
device lives there already, whether the hub is the one the token names.
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from driftline import __version__
from driftline.edge.home import Home, Identity
from driftline.edge.transport import Connection, refusal
from driftline.errors import ConflictError, EntityNotFoundError, PermanentError
from driftline.wire.device import JOIN_PATH, JoinToken


def run(options: Namespace) -> int:
    """Join the hub that `options.token` names with the folder `options.home`.

    Raises:
        WireError: the token is not whole.
        ConflictError: a device lives in this folder already.
        NotAllowedError: the hub refuses the token (used, expired), or the folder cannot be written.
        UnreachableError: no hub answers, or another one than the token names.
    """
    identity = join(Home(options.home), options.token, anew=options.anew)
    print(f"this machine is now the device {identity.name!r} of the hub at {identity.url}")
    print(f"start it with: driftline edge run --home {Home(options.home).path}")
    return 0


def join(home: Home, text: str, *, anew: bool = False) -> Identity:
    """Use a join token; return who this device is from now on. Raises what `run` does.

    `anew` lets a device that lives here already become the one of the token; what waits here for the hub is kept.
    """
    token = JoinToken.parse(text)
    connection = Connection(token.url, token.fingerprint)
    # Two joins at once would leave one key here and another at the hub.
    lock = home.lock()
    try:
        if not anew:
            _refuse_second(home)
        answer = _ask(connection, token.secret)
        identity = Identity(
            str(answer["device"]), str(answer["name"]), token.url, token.fingerprint, bytes.fromhex(answer["key"])
        )
        home.save_identity(identity)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, PermanentError):
            raise
        raise PermanentError(f"what answers at {token.url} is not a hub this program knows ({error!r})") from error
    finally:
        connection.close()
        if home.joined:
            lock.close()
        else:
            lock.undo()
    return identity


def _refuse_second(home: Home) -> None:
    try:
        known = home.identity()
    except EntityNotFoundError:
        return
    raise ConflictError(
        f"{home.path} is the device {known.name!r} of the hub at {known.url} already; "
        "use another --home, or join it anew with --anew, which keeps what waits here for the hub"
    )


def _ask(connection: Connection, secret: str) -> Mapping[str, Any]:
    body = json.dumps({"secret": secret, "software": f"driftline {__version__}"}).encode()
    response = connection.ask("POST", JOIN_PATH, body, lambda: {"Content-Type": "application/json"})
    answer = connection.read(response)
    if response.status != HTTPStatus.OK:
        raise refusal(response.status, answer)
    document = json.loads(answer)
    if not isinstance(document, dict):
        raise TypeError("the answer is not an object")
    return document
