"""How long a connection may take to say what it wants: uvicorn itself waits for a request's head for ever."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from driftline.hub.limits import HEAD_TIMEOUT_S


class Patient(H11Protocol):
    """Ends a connection whose request has begun and is not whole within `head_timeout_s`, or that never begins one.

    Between two requests uvicorn's own keep-alive timeout rules; during a body, `driftline.hub.http` does.
    """

    head_timeout_s = HEAD_TIMEOUT_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; where they end inside a head, the rest must come in time."""
        super().data_received(data)
        # h11 has no cycle before the first head is whole, and after an answer it keeps the last one.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        # What came before does not begin the time anew: a byte every second is not a request.
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
