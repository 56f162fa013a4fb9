"""How long a connection may take to say what it wants, and how much it may say: uvicorn itself asks neither."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from driftline.hub.limits import HEAD_BYTES_MAX, HEAD_TIMEOUT_S

# Up to here a head that is too large is answered in words; beyond, there is nothing to be said.
_BEYOND_WORDS = 4 * HEAD_BYTES_MAX


class Patient(HttpToolsProtocol):
    """Ends a connection whose request has begun and is not whole within `head_timeout_s`, or that never begins one.

    Between two requests uvicorn's own keep-alive timeout rules; during a body, `driftline.hub.http` does.
    """

    head_timeout_s = HEAD_TIMEOUT_S
    _waiting: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; where they end inside a head, the rest must come in time."""
        super().data_received(data)
        if not self._in_head:
            self._stop_waiting()
            return
        self._head_bytes += len(data)
        if self._head_bytes > _BEYOND_WORDS and not self.transport.is_closing():
            self.send_400_response("the head of this request is too large")
        self._wait()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that it is whole."""
        self._in_head = False
        super().on_headers_complete()

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
