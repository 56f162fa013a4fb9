"""The way to the hub: signed, pinned, kept open, and every failure is either temporary or explained."""

import datetime as dt
import hashlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.home import Home, Identity
from driftline.edge.transport import Address, Connection, TlsSession, Transport, refusal
from driftline.errors import (
    EntityNotFoundError,
    InvalidInputError,
    NotAllowedError,
    PermanentError,
    StaleRequestError,
    TemporaryError,
    UnreachableError,
)
from driftline.wire.device import BatchHead, BundleFile, Record, encode_batch


class Counting:
    def __init__(self) -> None:
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    def above(self, last: int) -> None:
        self.number = max(self.number, last)


class Stuck(Counting):
    """Numbers that go nowhere."""

    def above(self, last: int) -> None:
        self.number = 0


@pytest.fixture
def transport(joined_home: Home) -> Transport:
    return Transport(joined_home.identity(), Counting())


def body(*sequences: int) -> bytes:
    return encode_batch(BatchHead("camera-1", "e"), [Record(n, "event", b"{}") for n in sequences])


def test_a_batch_is_acknowledged(transport: Transport, standin_hub: Any):
    assert transport.sync(body(1, 2)).acknowledged == 2
    assert transport.sync(body(3)).acknowledged == 3
    assert standin_hub.numbers == [1, 2]


def test_a_number_that_is_too_low_is_raised_and_tried_again_once(
    joined_home: Home, transport: Transport, standin_hub: Any
):
    standin_hub.numbers.append(1000)
    assert transport.sync(body(1)).acknowledged == 1
    assert standin_hub.numbers == [1000, 1001]
    before = len(standin_hub.paths)
    with pytest.raises(StaleRequestError, match="came before"):
        Transport(joined_home.identity(), Stuck()).sync(body(2))
    assert len(standin_hub.paths) == before + 2


def test_a_kept_connection_that_ended_is_replaced_without_a_word(transport: Transport, standin_hub: Any):
    transport.sync(body(1))
    standin_hub.down()
    standin_hub.up()
    assert transport.sync(body(2)).acknowledged == 2
    assert standin_hub.numbers[-1] > 1


def test_nobody_there_is_temporary(transport: Transport, standin_hub: Any):
    standin_hub.down()
    with pytest.raises(UnreachableError, match="does not answer"):
        transport.sync(body(1))


def test_another_key_is_refused_in_the_hubs_words(joined_home: Home, standin_hub: Any):
    stranger = Identity("id-1", "camera-1", standin_hub.url, None, b"another key")
    with pytest.raises(NotAllowedError, match="signature"):
        Transport(stranger, Counting()).sync(body(1))


def test_a_download_is_whole_and_verified_or_nothing(transport: Transport, standin_hub: Any, tmp_path: Path):
    content = bytes(range(256)) * 5000
    digest = standin_hub.file(content)
    transport.download(BundleFile(digest, len(content)), tmp_path / digest)
    assert (tmp_path / digest).read_bytes() == content
    for wrong in (content[:-1], content + b"x", b"y" * len(content)):
        standin_hub.files[digest] = wrong
        with pytest.raises(TemporaryError):
            transport.download(BundleFile(digest, len(content)), tmp_path / "other")
    with pytest.raises(PermanentError):
        transport.download(BundleFile("ab" * 32, 1), tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [digest]
    assert transport.sync(body(1)).acknowledged == 1  # the connection is still good for the next


def test_a_refusal_is_the_error_the_hub_names():
    named = refusal(404, b'{"error": {"code": "not_found", "message": "no file"}}')
    assert isinstance(named, EntityNotFoundError)
    assert str(named) == "no file"
    assert isinstance(refusal(502, b"<html>"), TemporaryError)
    assert isinstance(refusal(429, b""), TemporaryError)
    assert isinstance(refusal(403, b""), NotAllowedError)
    assert isinstance(refusal(400, b"[]"), PermanentError)


def test_plain_http_is_for_this_machine_alone():
    assert Address.parse("https://hub.example") == Address(secure=True, host="hub.example", port=443)
    assert Address.parse("http://127.0.0.1:8710").port == 8710
    for wrong in ("http://hub.example:8710", "ftp://hub", "hub:8710", "http://[::1", "https://hub:port"):
        with pytest.raises(InvalidInputError):
            Address.parse(wrong)


def expired(folder: Path) -> Path:
    """A self-signed certificate that has expired: a pinned one is known by its hash, whatever its dates say."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "driftline hub")])
    began = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(began).not_valid_after(began + dt.timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    path = folder / "hub.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


class Secured(http.server.ThreadingHTTPServer):
    """A TLS server; `reached` are the paths of the requests that came."""

    def __init__(self, certificate: Path, port: int = 0) -> None:
        reached: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
                pass

            def do_GET(self) -> None:
                reached.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(("127.0.0.1", port), Handler)
        self.reached = reached
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return expired(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[Secured]:
    server = Secured(certificate)
    yield server
    if server.fileno() != -1:
        server.stop()


@pytest.fixture
def tls_hub(tls_server: Secured, certificate: Path) -> tuple[str, str, list[str]]:
    """A TLS server; its address, its certificate's hash, and the requests that reached it."""
    text = certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") :])
    return f"https://127.0.0.1:{tls_server.server_address[1]}", hashlib.sha256(der).hexdigest(), tls_server.reached


def test_a_hub_is_known_by_its_certificate_and_by_nothing_else(tls_hub: tuple[str, str, list[str]]):
    url, fingerprint, reached = tls_hub
    connection = Connection(url, fingerprint)
    assert connection.ask("GET", "/hello", None, dict).status == 200
    connection.close()
    assert reached == ["/hello"]


def test_another_certificate_gets_not_one_byte_of_a_request(tls_hub: tuple[str, str, list[str]]):
    url, _, reached = tls_hub
    with pytest.raises(UnreachableError, match="not the hub this device joined"):
        Connection(url, "ab" * 32).ask("GET", "/secret", None, dict)
    with pytest.raises(UnreachableError):
        Connection(url, None).ask("GET", "/secret", None, dict)  # no authority knows it
    assert reached == []


def test_the_next_connection_goes_on_with_the_session_of_the_one_before(tls_hub: tuple[str, str, list[str]]):
    url, fingerprint, reached = tls_hub
    connection = Connection(url, fingerprint)
    resumed: list[bool] = []
    for _ in range(3):
        connection.read(connection.ask("GET", "/hello", None, dict))
        resumed.append(connection.resumed)
        connection.close()
    assert resumed == [False, True, True]
    assert len(reached) == 3


def test_a_session_that_works_is_looked_at_once(tls_hub: tuple[str, str, list[str]]):
    # CPython leaks a copy of the session with each look.
    url, fingerprint, _ = tls_hub
    looks: list[bool] = []

    class Watched(ssl.SSLSocket):
        @property
        def session(self) -> ssl.SSLSession | None:
            looks.append(self.session_reused or False)
            return super().session

        @session.setter
        def session(self, session: ssl.SSLSession | None) -> None:
            ssl.SSLSocket.session.__set__(self, session)

    tls, address = TlsSession(url, fingerprint), Address.parse(url)
    tls.context.sslsocket_class = Watched
    for _ in range(4):
        with tls.secured(socket.create_connection((address.host, address.port), 10), address.name) as secure:
            secure.sendall(b"GET /hello HTTP/1.1\r\nHost: hub\r\n\r\n")
            assert secure.recv(1)
            tls.keep(secure)
    assert tls.resumed
    assert looks == [False]


def test_a_hubs_own_server_resumes_sessions(tmp_path: Path):
    # uvicorn's TLS is asyncio's, which is not a server's of the standard library.
    from driftline.clock import SystemClock
    from driftline.hub.command import listen
    from driftline.hub.server import Listener, open_hub
    from driftline.hub.tls import certificate as own_certificate

    file, key, fingerprint = own_certificate(tmp_path / "tls", "127.0.0.1")
    with listen("127.0.0.1", 0) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        hub = open_hub(tmp_path, SystemClock(), url, fingerprint)
        listener = Listener(hub, listening, (file, key))
        listener.start()
        connection = Connection(url, fingerprint)
        for resumed in (False, True):
            assert b"now_ns" in connection.read(connection.ask("GET", "/api/v1/version", None, dict))
            assert connection.resumed is resumed
            connection.close()
        listener.stop()
        hub.database.close()


def test_who_has_another_certificate_is_refused_after_a_session_too(
    tls_hub: tuple[str, str, list[str]], tls_server: Secured, tmp_path: Path
):
    url, fingerprint, reached = tls_hub
    connection = Connection(url, fingerprint)
    connection.read(connection.ask("GET", "/hello", None, dict))
    connection.close()
    tls_server.stop()
    other = Secured(expired(tmp_path), tls_server.server_address[1])
    with pytest.raises(UnreachableError, match="not the hub this device joined"):
        connection.ask("GET", "/secret", None, dict)
    other.stop()
    assert (reached, other.reached) == (["/hello"], [])


# ── links that are slow, and links that stall ────────────────────────────────────────────────────────────────────

TIMEOUT_S = 0.6


class Sluggish:
    """A hub behind a slow link: takes so many bytes of a request every 20 ms, then answers; none means never."""

    def __init__(self, bytes_at_once: int) -> None:
        self._bytes = bytes_at_once
        self.connections = 0
        self._listening = socket.socket()
        # What a kernel takes at once would hide how slow it is.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._ended.set()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return  # closed
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while True:
                received = b""
                while b"end" not in received:
                    if not self._bytes:
                        self._ended.wait()
                        return
                    self._ended.wait(0.02)
                    received = received[-2:] + connection.recv(self._bytes)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                self._bytes = 0


@pytest.fixture
def sluggish(request: pytest.FixtureRequest) -> Iterator[Sluggish]:
    hub = Sluggish(request.param)
    yield hub
    hub.close()


@pytest.mark.parametrize("sluggish", [8192], indirect=True)
def test_a_slow_link_is_not_given_up_as_long_as_it_carries_something(sluggish: Sluggish):
    connection = Connection(sluggish.url, None, TIMEOUT_S)
    began_s = time.monotonic()
    assert connection.ask("POST", "/sync", bytes(400_000) + b"end", dict).status == 200
    assert time.monotonic() - began_s > TIMEOUT_S


@pytest.mark.parametrize("sluggish", [8192], indirect=True)
def test_a_link_that_stalls_is_given_up_and_the_same_is_not_sent_again_at_once(sluggish: Sluggish):
    connection = Connection(sluggish.url, None, TIMEOUT_S)
    connection.read(connection.ask("POST", "/sync", b"end", dict))
    with pytest.raises(UnreachableError, match="timed out"):
        connection.ask("POST", "/sync", b"end", dict)
    assert sluggish.connections == 1
