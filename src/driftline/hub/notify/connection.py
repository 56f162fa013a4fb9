"""One connection to a receiver: to an address that was judged, and over after a time whatever the receiver does."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from driftline.errors import TemporaryError
from driftline.hub.notify.address import PORTS, Endpoint, Resolver, parsed, resolved, system_resolver

# All of one try: looking the name up, connecting, sending, and the answer.
TOTAL_S = 20.0
# What a receiver answers is not used beyond its first words.
ANSWER_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Network:
    """How to reach receivers; `private` allows addresses of private networks and of this machine."""

    private: bool = False
    resolve: Resolver = system_resolver
    total_s: float = TOTAL_S
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def endpoint(self, host: str, port: int) -> Endpoint:
        """Return where a host is; see `address.resolved`."""
        return resolved(host, port, self.resolve, private=self.private, timeout_s=self.total_s / 2)


@dataclass(frozen=True)
class Answer:
    """What a receiver answered; `retry_after_s` where it named a time."""

    status: int
    text: str
    retry_after_s: float | None = None


@contextlib.contextmanager
def connected(endpoint: Endpoint, total_s: float) -> Generator[socket.socket]:
    """Give a connected socket; it is cut when the time is over.

    Raises:
        TemporaryError: nobody answers there.
    """
    deadline = time.monotonic() + total_s
    last: OSError | None = None
    for address in endpoint.addresses:
        try:
            raw = socket.create_connection((address, endpoint.port), timeout=max(0.1, deadline - time.monotonic()))
        except OSError as error:
            last = error
            continue
        # A copy of the descriptor: TLS takes the socket itself over.
        cutter = raw.dup()
        timer = threading.Timer(max(0.1, deadline - time.monotonic()), _cut, [cutter])
        timer.daemon = True
        timer.start()
        try:
            yield raw
        finally:
            timer.cancel()
            cutter.close()
            raw.close()
        return
    raise TemporaryError(f"{endpoint.host} does not answer at port {endpoint.port} ({last})") from last


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Over(http.client.HTTPConnection):
    """HTTP over a socket that is there already."""

    def __init__(self, host: str, port: int, ready: socket.socket) -> None:
        super().__init__(host, port)
        self.ready = ready

    def connect(self) -> None:
        """Take what is there."""
        self.sock = self.ready


def post(network: Network, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Post once: no redirect is followed, nothing is read beyond a limit, and it ends in time.

    Raises:
        InvalidInputError, NotAllowedError: an address that notifications may not go to.
        TemporaryError: the receiver does not answer, or not in time.
    """
    parts = parsed(url)
    host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
    began = time.monotonic()
    endpoint = network.endpoint(host, port)
    left_s = max(0.5, network.total_s - (time.monotonic() - began))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with connected(endpoint, left_s) as raw, contextlib.ExitStack() as stack:
            sock: socket.socket = raw
            if parts.scheme == "https":
                sock = stack.enter_context(network.tls.wrap_socket(raw, server_hostname=host))
            over = _Over(host, port, sock)
            plain_port = parts.port is None or parts.port == PORTS[parts.scheme]
            name = f"[{host}]" if ":" in host else host
            over.request("POST", path, body, {**headers, "Host": name if plain_port else f"{name}:{port}"})
            with over.getresponse() as answer:
                text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
                return Answer(answer.status, _first_words(text), _seconds(answer.headers.get("Retry-After")))
    except ssl.SSLCertVerificationError as error:
        raise TemporaryError(
            f"{host} shows a certificate that is not to be trusted ({error.verify_message})"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        took = time.monotonic() - began
        raise TemporaryError(f"{host} broke off after {took:.1f} s ({_why(error)})") from error


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _first_words(text: str) -> str:
    """Return the beginning of an answer on one line, for the reason of a failure."""
    return " ".join("".join(one if one.isprintable() else " " for one in text[:300]).split())[:200]


def _seconds(text: str | None) -> float | None:
    # A date is passed over: clocks differ, and the own pause will do.
    return float(text) if text is not None and text.isdecimal() and len(text) < 10 else None
