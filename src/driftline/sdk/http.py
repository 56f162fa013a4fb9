"""One connection to a hub: requests out, typed answers or driftline's own errors back."""

import hashlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from driftline.errors import InvalidInputError, UnreachableError
from driftline.sdk.tokens import Tokens
from driftline.wire import api

T = TypeVar("T")
Content = bytes | Iterator[bytes]
JSON = "application/json"
# A hub that was asked too often says when to come again; a program that asks in a loop is slowed down, not broken.
PATIENCE_TIMES = 10


class PinnedContext(ssl.SSLContext):
    """TLS that trusts exactly one certificate, by its SHA-256.

    The certificate is compared inside the handshake, before the first byte of a request: names and authorities do
    not matter, because a hub on a private network has neither.
    """

    fingerprint: str

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Shake hands and refuse a certificate that is not the pinned one."""
        wrapped = super().wrap_socket(sock, *args, **options)
        seen = hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if seen != self.fingerprint:
            wrapped.close()
            raise ssl.SSLError(f"the certificate's SHA-256 is {seen}, not the expected {self.fingerprint}")
        return wrapped


def pinned(fingerprint: str) -> PinnedContext:
    """Make the context for one certificate; colons and case of the fingerprint do not matter.

    Raises:
        InvalidInputError: not 64 hexadecimal digits.
    """
    digits = fingerprint.lower().removeprefix("sha256:").replace(":", "").strip()
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise InvalidInputError(f"{fingerprint!r} is not a SHA-256 fingerprint: 64 hexadecimal digits")
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.fingerprint = digits
    return context


def is_loopback(url: str) -> bool:
    """Say whether this address is on this machine.

    >>> is_loopback("http://127.0.0.1:8710"), is_loopback("http://shop.example")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(scheme: str, fingerprint: str | None) -> ssl.SSLContext | bool:
    if scheme == "http":
        # There is no certificate to check, and to read those of every authority takes 40 ms: this context trusts none.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return pinned(fingerprint) if fingerprint else True


class Connection:
    """Talks to the hub at `url`; paths are those of `driftline.wire.api`, without the prefix."""

    def __init__(
        self,
        url: str,
        fingerprint: str | None = None,
        *,
        timeout_s: float = 60.0,
        tokens: Tokens | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInputError(f"{url!r} is not a hub's address, such as http://127.0.0.1:8710")
        self.url = url.rstrip("/")
        self.fingerprint = fingerprint
        self._sleep = sleep
        self._tokens = tokens
        self._client = httpx2.Client(
            base_url=self.url + api.PREFIX,
            # A slow upload or a long assay run is not a failure; a hub that does not accept a connection is.
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            verify=_trust(parts.scheme, fingerprint),
            # A proxy named in the environment cannot reach a hub on this machine.
            trust_env=not is_loopback(url),
        )

    def get(self, path: str, kind: type[T], *, timeout_s: float | None = None, **query: object) -> T:
        """Ask for one thing."""
        return msgspec.json.decode(self.send("GET", path, query=query, timeout_s=timeout_s).content, type=kind)

    def items(self, path: str, kind: type[T], *, most: int | None = None, **query: object) -> list[T]:
        """Ask for a list, page by page, or for its beginning, at most so many."""
        found: list[T] = []
        after: str | None = None
        while True:
            reply = msgspec.json.decode(self.send("GET", path, query={**query, "after": after}).content)
            found += msgspec.convert(reply["items"], list[kind])
            after = reply.get("next")
            if after is None or (most is not None and len(found) >= most):
                return found[:most]

    def post(self, path: str, body: object, kind: type[T], *, timeout_s: float | None = None) -> T:
        """Send a message and read its answer."""
        reply = self.send("POST", path, content=api.encode(body), timeout_s=timeout_s)
        return msgspec.json.decode(reply.content, type=kind)

    def put(self, path: str, body: object, kind: type[T]) -> T:
        """Send a message that replaces what was there, and read its answer."""
        return msgspec.json.decode(self.send("PUT", path, content=api.encode(body)).content, type=kind)

    def post_items(self, path: str, body: object, kind: type[T]) -> list[T]:
        """Send a message that a list answers."""
        reply = msgspec.json.decode(self.send("POST", path, content=api.encode(body)).content)
        return msgspec.convert(reply["items"], list[kind])

    def download(self, path: str, file: BinaryIO, **query: object) -> None:
        """Write what is answered to a file as it comes: it may be larger than memory."""
        reply = self.send("GET", path, query=query, streamed=True)
        try:
            file.writelines(reply.iter_bytes())
        except httpx2.TransportError as error:
            raise UnreachableError(
                f"the hub at {self.url} stopped in the middle of {path} ({error}); ask again"
            ) from error
        finally:
            reply.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        content: Content | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
        timeout_s: float | None = None,
        streamed: bool = False,
    ) -> httpx2.Response:
        """Send one request; the body of a `streamed` answer is still to be read, and the answer to be closed.

        Raises:
            UnreachableError: nobody answers at this address.
            DriftlineError: the hub refused; the class and the message are the hub's.
        """
        more = {"Content-Type": content_type} if content is not None else {}
        parameters = {name: str(value) for name, value in (query or {}).items() if value is not None}
        limit = httpx2.Timeout(timeout_s, connect=5.0) if timeout_s else httpx2.USE_CLIENT_DEFAULT
        asked = self._client.build_request(
            method, path, content=content, headers={**more, **(headers or {})}, params=parameters, timeout=limit
        )
        what = f"{method} {path}"
        reply = self._known(asked, what, again=not isinstance(content, Iterator), streamed=streamed)
        for _ in range(PATIENCE_TIMES):
            # What streams is gone once it was sent.
            if reply.status_code != 429 or isinstance(content, Iterator):
                break
            self._sleep(_seconds(reply.headers.get("Retry-After", "")))
            reply = self._once(asked, what, streamed=streamed)
        if reply.status_code >= 400:
            api.raise_failure(reply.status_code, reply.content)
        return reply

    def _known(self, request: httpx2.Request, what: str, *, again: bool, streamed: bool = False) -> httpx2.Response:
        """Send a request with what this person's programs come with; log in where the hub asks for it."""
        if self._tokens is None:
            return self._once(request, what, streamed=streamed)
        if bearer := self._tokens.bearer():
            request.headers["Authorization"] = f"Bearer {bearer}"
        reply = self._once(request, what, streamed=streamed)
        if reply.status_code == 401 and again:
            self._tokens.renew(self._post_form)
            request.headers["Authorization"] = f"Bearer {self._tokens.bearer()}"
            reply = self._once(request, what, streamed=streamed)
        return reply

    def _post_form(self, path: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        reply = self._once(self._client.build_request("POST", self.url + path, data=dict(fields)), f"POST {path}")
        try:
            return reply.status_code, msgspec.json.decode(reply.content, type=dict[str, Any])
        except msgspec.DecodeError:
            return reply.status_code, {}

    def _once(self, request: httpx2.Request, what: str, *, streamed: bool = False) -> httpx2.Response:
        try:
            reply = self._client.send(request, stream=streamed)
            if streamed and reply.status_code >= 400:
                reply.read()
            return reply
        except httpx2.ConnectError as error:
            raise UnreachableError(self._nobody(error)) from error
        except httpx2.ConnectTimeout as error:
            raise UnreachableError(self._nobody(error)) from error
        except httpx2.TransportError as error:
            raise UnreachableError(
                f"the hub at {self.url} stopped answering during {what} ({error}); see its terminal, and try again"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _nobody(self, error: Exception) -> str:
        if "certificate" in str(error).lower():
            return (
                f"the hub at {self.url} shows another certificate than expected ({error}); if its certificate was "
                "renewed, run: driftline login URL --fingerprint SHA256"
            )
        return (
            f"no hub answers at {self.url}; start one with: driftline up, or say where yours is with "
            "Client(url), DRIFTLINE_URL, or: driftline login URL"
        )


def _seconds(text: str) -> float:
    """Read what a hub says of when to come again; at most a minute, whatever it says."""
    return min(float(text), 60.0) if text.isdecimal() else 1.0
