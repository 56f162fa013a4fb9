"""Carries signed requests to the hub over one kept connection, with the standard library alone.

Over TLS the hub is known by its certificate's SHA-256, which came with the join token, and by nothing else: no name, no
authority, no date (a device that boots in 1970 must still reach its hub). It is checked before a byte is sent. The next
connection goes on with the TLS session of the one before, which saves the hub's certificate and half of the handshake's
bytes; only the hub that this session was made with can, and its certificate, kept with the session, is checked again.
"""

import hashlib
import hmac
import ipaddress
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from driftline.edge.home import Identity, sync_folder
from driftline.edge.http import HttpError, Line, Response
from driftline.errors import (
    DriftlineError,
    InvalidInputError,
    NotAllowedError,
    StaleRequestError,
    TemporaryError,
    UnreachableError,
    by_code,
)
from driftline.wire.device import BUNDLE_PATH, SYNC_PATH, BundleFile, Reply, decode_reply, signed_headers

log = logging.getLogger("driftline.edge")
# A link that carries nothing for so long is given up. A slow one is not: each chunk of a request has as long.
TIMEOUT_S = 20.0
# What the kernel may hold back after the last chunk, about twice this, has to get through before the answer is late:
# 32 kB within those 20 s is a link of 13 kbit/s. More would also overfill the queue before a slow link, and lose a part
# of it again and again. Up to 2 Mbit/s it slows nothing down at 100 ms there and back.
SEND_BUFFER_BYTES = 16 * 1024
# A hub hangs up on a connection that was idle for 5 s (uvicorn's default): a younger one may still be there.
IDLE_S_MAX = 4.0
# A desired state with some hundred grids is below a megabyte.
REPLY_BYTES_MAX = 32 * 1024 * 1024
CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub answers, from its URL."""

    secure: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a URL; plain HTTP is for this machine alone, because a device's key would travel unprotected.

        Raises:
            InvalidInputError: not an http or https address, or plain HTTP to another machine.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInputError(f"{url!r} is not a hub's address ({error})") from error
        host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or not host:
            raise InvalidInputError(f"{url!r} is not a hub's address such as https://hub.example:8710")
        secure = parts.scheme == "https"
        if not secure and not is_loopback(host):
            raise InvalidInputError(
                f"{url} is plain HTTP to another machine; start the hub with --host, which gives it a certificate"
            )
        return cls(secure, host, port or (443 if secure else 80))

    @property
    def name(self) -> str:
        """The host for resolver and TLS; in bytes they load no table of the world's scripts, half a megabyte."""
        # Both take bytes, which their types do not say.
        return cast("str", self.host.encode()) if self.host.isascii() else self.host

    @property
    def header(self) -> str:
        """What a request's `Host` says."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("hub.example")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Numbers(Protocol):
    """Where request numbers come from: each is greater than all before it, over restarts too."""

    def next(self) -> int:
        """Return the next number."""
        ...

    def above(self, last: int) -> None:
        """Go on above a number that the hub knows."""
        ...


class Connection:
    """HTTP to one hub: one request at a time, each answered or an error. Not for several threads."""

    def __init__(self, url: str, fingerprint: str | None, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._address = Address.parse(url)
        self._fingerprint = None if fingerprint is None else fingerprint.lower().replace(":", "")
        self._tls = TlsSession(url, self._fingerprint) if self._address.secure else None
        self._line: Line | None = None
        self._used_s = 0.0

    @property
    def resumed(self) -> bool:
        """Whether the connection that is open now went on with the TLS session of one before."""
        return self._tls is not None and self._tls.resumed

    def ask(self, method: str, path: str, body: bytes | None, headers: Callable[[], Mapping[str, str]]) -> Response:
        """Send one request and return the response, its body not yet read.

        `headers` is called for each try: a signature is good for one.

        Raises:
            UnreachableError: no hub answers, or not the one that is expected.
        """
        if self._line is not None and not (self._line.ready and time.monotonic() - self._used_s <= IDLE_S_MAX):
            self.close()
        try:
            if self._line is not None:
                try:
                    return self._once(method, path, body, headers())
                except TimeoutError:
                    raise  # the link stalls: the same again at once would only stall, too
                except (OSError, HttpError):
                    self.close()  # a kept connection may end at any time; a new one decides
            return self._once(method, path, body, headers())
        except (OSError, HttpError) as error:
            self.close()
            raise UnreachableError(f"the hub at {self.url} does not answer ({error or repr(error)})") from error

    def read(self, response: Response, bytes_max: int = REPLY_BYTES_MAX) -> bytes:
        """Read a response whole.

        Raises:
            UnreachableError: it was torn on the way, or is too large to be one of ours.
        """
        try:
            body = response.read(bytes_max + 1)
        except (OSError, HttpError) as error:
            self.close()
            raise UnreachableError(f"the answer of the hub at {self.url} was torn on the way ({error!r})") from error
        if len(body) > bytes_max:
            self.close()
            raise UnreachableError(f"the answer of the hub at {self.url} is larger than {bytes_max} bytes")
        self._used_s = time.monotonic()
        return body

    def interrupt(self) -> None:
        """Make a request under way in another thread fail now."""
        line = self._line
        if line is not None:
            with suppress(OSError):  # it may just have ended by itself
                line.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        line = self._line = self._line or self._connected()
        response = line.ask(method, path, headers, body)
        if self._tls is not None:
            self._tls.keep(line.socket)
        self._used_s = time.monotonic()
        return response

    def _connected(self) -> Line:
        address = self._address
        connected = socket.create_connection((address.name, address.port), self.timeout_s)
        try:
            # What is sent is whole: waiting for more would only cost 40 ms.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if self._tls is not None:
                connected = self._tls.secured(connected, address.name)
        except BaseException:
            connected.close()
            raise
        return Line(connected, address.header)


class TlsSession:
    """What one hub's TLS connections share: whom they believe, and the session that the next one goes on with."""

    def __init__(self, url: str, fingerprint: str | None) -> None:
        self.url = url
        self._fingerprint = fingerprint
        # The authorities' certificates are a quarter of a megabyte, and nobody asks them about a pinned one.
        self.context = ssl.create_default_context() if fingerprint is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if fingerprint is not None:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        self.resumed = False
        self._session: ssl.SSLSession | None = None

    def secured(self, plain: socket.socket, host: str) -> ssl.SSLSocket:
        """Shake hands over a connected socket.

        Raises:
            UnreachableError: who answers has another certificate than the pinned one; nothing was sent to it.
        """
        # What a failed handshake used up is not tried again.
        session, self._session = self._session, None
        secure = self.context.wrap_socket(plain, server_hostname=host, session=session)
        if self._fingerprint is not None:
            certificate = secure.getpeercert(binary_form=True) or b""
            if not hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), self._fingerprint):
                secure.close()
                raise UnreachableError(
                    f"who answers at {self.url} is not the hub this device joined: its certificate is another one; "
                    "if the hub was set up anew, join it again with a new token"
                )
        self.resumed = bool(secure.session_reused)
        if self.resumed:
            self._session = session
        return secure

    def keep(self, secure: socket.socket) -> None:
        """Keep the session that the hub offers; it comes with the first bytes of an answer.

        One that works is kept for as long as the hub takes it: in CPython each look at `SSLSocket.session` leaks a copy
        of it, 5 kB, and a ticket of OpenSSL's is good for two hours however often it is used.
        """
        if self._session is not None:
            return
        session = cast("ssl.SSLSocket", secure).session
        if session is not None and session.has_ticket:
            self._session = session


class Transport:
    """What a device asks of its hub, signed with its key."""

    def __init__(self, identity: Identity, numbers: Numbers, connection: Connection | None = None) -> None:
        self._identity = identity
        self._numbers = numbers
        self._connection = connection or Connection(identity.url, identity.fingerprint)

    def hasten(self, timeout_s: float) -> None:
        """Give connections made from now on so many seconds."""
        self._connection.timeout_s = timeout_s

    def interrupt(self) -> None:
        """Make a request under way in another thread fail now."""
        self._connection.interrupt()

    def sync(self, body: bytes) -> Reply:
        """Send one batch; return what the hub answers.

        Raises:
            TemporaryError: the hub does not answer, or has no time.
            PermanentError: it refuses this device or this batch, in its words.
        """
        response = self._ask("POST", SYNC_PATH, body)
        return decode_reply(self._connection.read(response))

    def download(self, file: BundleFile, target: Path) -> None:
        """Download a model file to `target`, which appears whole and verified or not at all.

        Raises:
            TemporaryError: the hub does not answer, or what came is not the file; try again.
            PermanentError: the hub refuses.
        """
        response = self._ask("GET", BUNDLE_PATH + file.digest, None)
        beside = target.with_name(f".{target.name}.part")
        try:
            digest = self._stream(response, file, beside)
            if digest != file.digest:
                raise TemporaryError(f"what the hub sent as {file.digest[:12]} is something else ({digest[:12]})")
            beside.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise TemporaryError(
                f"a model file of {file.size} bytes cannot be kept in {target.parent} ({error})"
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> Response:
        identity = self._identity

        def headers() -> dict[str, str]:
            signed = signed_headers(identity.name, identity.key, method, path, self._numbers.next(), body or b"")
            return signed | ({} if body is None else {"Content-Type": "application/octet-stream"})

        response = self._connection.ask(method, path, body, headers)
        error = self._refusal(response)
        if isinstance(error, StaleRequestError):
            # The clock was set back and the spool is new, or another machine counts on under this identity.
            self._numbers.above(error.last)
            response = self._connection.ask(method, path, body, headers)
            error = self._refusal(response)
        if error is not None:
            raise error
        return response

    def _refusal(self, response: Response) -> DriftlineError | None:
        if response.status == HTTPStatus.OK:
            return None
        return refusal(response.status, self._connection.read(response))

    def _stream(self, response: Response, file: BundleFile, beside: Path) -> str:
        """Write a response's body to disk; return its SHA-256."""
        digest = hashlib.sha256()
        size = 0
        with beside.open("wb") as out:
            while chunk := self._chunk(response):
                size += len(chunk)
                if size > file.size:
                    self._connection.close()
                    raise TemporaryError(f"the hub sent more than the {file.size} bytes of {file.digest[:12]}")
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        return digest.hexdigest()

    def _chunk(self, response: Response) -> bytes:
        try:
            return response.read(CHUNK_BYTES)
        except (OSError, HttpError) as error:
            self._connection.close()
            raise UnreachableError(f"a download was torn on the way ({error!r})") from error


def refusal(status: int, body: bytes) -> DriftlineError:
    """Return the error that a hub's answer is, as itself where it says which one it is."""
    text, code, last = f"the hub answered with status {status}", "", None
    try:
        document: Any = json.loads(body)
        text, code = str(document["error"]["message"]), str(document["error"]["code"])
        last = document["error"].get("last_request")
    except (ValueError, KeyError, TypeError):
        pass  # not a hub's own error: a proxy's, or a crash; the status says enough
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }:
        return TemporaryError(text)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not code:
        return NotAllowedError(text)
    if code == StaleRequestError.code:
        return StaleRequestError(text, last if isinstance(last, int) else 0)
    return by_code(code)(text)
