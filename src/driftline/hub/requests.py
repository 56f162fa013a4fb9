"""Every request has an id, a line in the log and a place in the hub's figures, whoever asks and whatever became of it.

The id is the caller's own where they sent one that fits (`X-Request-Id`), and comes back with the answer. A device
gets it with an error alone: its link may be slow.
"""

import re
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftline.hub import journal
from driftline.hub.core import Hub

# What no route was declared for, or was refused before anybody looked for one.
NOWHERE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
HEADER = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)


class Watched:
    """The outermost layer: names, times, counts and logs each request.

    `is_quiet` says who gets no id with what went well.
    """

    def __init__(
        self,
        app: ASGIApp,
        hub: Hub,
        is_quiet: Callable[[Scope], bool],
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.hub = hub
        self._is_quiet = is_quiet
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A client that is gone before anything was answered: nginx writes 499.
        status, began_s, identity = 499, self._seconds(), id_of(Headers(scope=scope).get(HEADER))
        before = journal.REQUEST.set(identity)

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                if status >= 400 or not self._is_quiet(scope):
                    MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        finally:
            self._tell(scope, status, self._seconds() - began_s)
            journal.REQUEST.reset(before)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = scope.get("driftline.route", NOWHERE)
        self.hub.figures.asked(method, route, status, seconds)
        client = scope.get("client")
        journal.note(
            "request",
            method=method,
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
            address=client[0] if client else "",
            who=scope.get("driftline.who", ""),
        )


def id_of(given: str | None) -> str:
    """Return a caller's own id where it is one that can stand in a log, else a new one.

    >>> id_of("8f14e45f-ceea"), len(id_of("two words")), len(id_of(None))
    ('8f14e45f-ceea', 16, 16)
    """
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)
