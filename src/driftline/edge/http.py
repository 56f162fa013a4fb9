"""HTTP/1.1 as a device needs it: one request at a time over one socket, and its answer.

The standard library's `http.client` brings the `email` package along, a megabyte that an agent would hold for ever.
A request leaves in pieces that each have the socket's timeout, and an answer's body is as long as `Content-Length`,
chunks or the end of the connection say; anything else is refused, and a torn body is never taken for a short one.
"""

import io
import socket
from collections.abc import Mapping
from http import HTTPStatus

# A hub sends some fifteen headers; a proxy in between adds a few.
LINE_BYTES_MAX = 65_536
HEADERS_MAX = 100
# A link is given up when it does not carry so much within a timeout.
CHUNK_BYTES = 16 * 1024
_BODYLESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class HttpError(Exception):
    """What came is torn, or is no answer in HTTP/1.1."""


class Line:
    """One connected socket, plain or TLS."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        self.socket = connected
        self._host = host
        self._stream = connected.makefile("rb")
        self._response: Response | None = None

    @property
    def ready(self) -> bool:
        """Whether the next request may be sent: the last answer was read whole, and the hub stays."""
        return self._response is None or self._response.over

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> "Response":
        """Send one request; return the answer, its body not yet read.

        Raises:
            OSError: the connection broke, or nobody answered in time.
            HttpError: what came is no answer.
        """
        fields = {"Host": self._host} | dict(headers)
        if body is not None:
            fields["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = memoryview(head.encode("latin-1") + b"\r\n" + (body or b""))
        # The timeout of a socket is for all that is sent at once.
        for at in range(0, len(request), CHUNK_BYTES):
            self.socket.sendall(request[at : at + CHUNK_BYTES])
        self._response = Response(self._stream)
        return self._response

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self.socket.close()


class Response:
    """An answer: `status`, and a body that `read` returns."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        version, self.status = _status(stream)
        headers = self._headers = _headers(stream)
        while self.status < HTTPStatus.OK:  # 1xx: the answer itself follows
            version, self.status = _status(stream)
            headers = self._headers = _headers(stream)
        self._stays = version == b"HTTP/1.1" and b"close" not in headers.get(b"connection", b"").lower()
        self._chunked = b"chunked" in headers.get(b"transfer-encoding", b"").lower()
        # Bytes left of the body or of the chunk at hand; None: up to the end of the connection.
        self._left = 0 if self._chunked or self.status in _BODYLESS else _length(headers)
        self._ended = self._left == 0 and not self._chunked

    def header(self, name: str) -> str | None:
        """Return what a header says, None where it is not there."""
        value = self._headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    @property
    def over(self) -> bool:
        """Whether the body was read whole and the connection may carry another request."""
        return self._ended and self._stays

    def read(self, size: int) -> bytes:
        """Return the next so many bytes of the body, fewer only at its end.

        Raises:
            OSError: the connection broke, or nothing came in time.
            HttpError: the body is torn.
        """
        data = bytearray()
        while len(data) < size and not self._ended:
            data += self._some(size - len(data))
        return bytes(data)

    def _some(self, size: int) -> bytes:
        if self._chunked and not self._left:
            self._next_chunk()
            return b""
        data = self._stream.read(size if self._left is None else min(size, self._left))
        if self._left is None:
            self._ended, self._stays = not data, False
        elif not data:
            raise HttpError(f"the connection ended {self._left} bytes too early")
        else:
            self._left -= len(data)
            if self._chunked and not self._left:
                _line(self._stream)
            self._ended = not self._chunked and not self._left
        return data

    def _next_chunk(self) -> None:
        text = _line(self._stream).partition(b";")[0].strip()
        self._left = _number(text, 16)
        if not self._left:
            _headers(self._stream)
            self._ended = True


def _status(stream: io.BufferedIOBase) -> tuple[bytes, int]:
    version, _, rest = _line(stream).partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise HttpError(f"an answer that is not HTTP/1.1: {version[:40]!r}")
    return version, _number(rest[:3], 10)


def _headers(stream: io.BufferedIOBase) -> dict[bytes, bytes]:
    """Read headers up to the empty line, names in lower case; of two of one name the last counts."""
    headers: dict[bytes, bytes] = {}
    for _ in range(HEADERS_MAX):
        line = _line(stream)
        if not line:
            return headers
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    raise HttpError(f"an answer with more than {HEADERS_MAX} headers")


def _line(stream: io.BufferedIOBase) -> bytes:
    line = stream.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise HttpError(
            "the connection ended in the middle of an answer" if line else "the connection ended unanswered"
        )
    return line.rstrip(b"\r\n")


def _length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length")
    return None if text is None else _number(text, 10)


def _number(text: bytes, base: int) -> int:
    digits = b"0123456789abcdef"[:base]
    if not text or text.lower().strip(digits):
        raise HttpError(f"a number was expected in an answer, not {text[:40]!r}")
    return int(text, base)
