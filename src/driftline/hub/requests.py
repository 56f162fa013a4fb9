"""Every request has a place in the hub's figures, whoever asks and whatever became of it."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftline.hub.core import Hub

# What no route was declared for, or was refused before anybody looked for one.
NOWHERE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Watched:
    """The outermost layer: counts and times each request."""

    def __init__(self, app: ASGIApp, hub: Hub, seconds: Callable[[], float] = time.perf_counter) -> None:
        self.app = app
        self.hub = hub
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A client that is gone before anything was answered: nginx writes 499.
        status, began_s = 499, self._seconds()

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = scope.get("driftline.route", NOWHERE)
            self.hub.figures.asked(method, route, status, self._seconds() - began_s)
