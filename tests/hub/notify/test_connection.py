"""Webhooks against receivers that are real, and not all of them kind."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import NotAllowedError, TemporaryError
from driftline.hub.notify.connection import ANSWER_BYTES_MAX, Network, post
from driftline.hub.tls import certificate

BODY = b'{"a": 1}'


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """A function that lets somebody answer raw connections; returns the port."""
    open_ones: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        open_ones.append(listening)

        def run() -> None:
            while True:
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                open_ones.append(one)
                with contextlib.suppress(OSError):
                    answer(one)

        threading.Thread(target=run, daemon=True).start()
        return int(listening.getsockname()[1])

    yield start
    for one in open_ones:
        one.close()


def test_it_goes_to_the_address_that_was_judged_under_the_name_that_was_given(receiver: Any) -> None:
    port = int(receiver.url.rpartition(":")[2])
    asked: list[str] = []

    def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    answer = post(Network(private=True, resolve=resolve), f"http://hooks.example:{port}/a?b=c", BODY, {"X": "y"})
    (got,) = receiver.received
    assert (answer.status, asked) == (204, ["hooks.example"])
    assert (got.path, got.body, got.headers["host"], got.headers["x"]) == (
        "/a?b=c", BODY, f"hooks.example:{port}", "y",
    )  # fmt: skip


def test_nothing_reaches_a_private_address_without_leave(receiver: Any) -> None:
    with pytest.raises(NotAllowedError, match="--private-targets"):
        post(Network(), receiver.url, BODY, {})
    port = int(receiver.url.rpartition(":")[2])
    with pytest.raises(NotAllowedError, match=r"leads to 127\.0\.0\.1"):
        post(Network(resolve=lambda *_: ["127.0.0.1"]), f"http://rebind.example:{port}/", BODY, {})
    assert receiver.received == []


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Any, network: Network) -> None:
    receiver.statuses, receiver.headers = [302], {"Location": f"{receiver.url}/elsewhere"}
    assert post(network, f"{receiver.url}/here", BODY, {}).status == 302
    assert [one.path for one in receiver.received] == ["/here"]


def test_an_answer_without_end_is_read_up_to_a_limit(serve: Any, network: Network) -> None:
    sent = 0

    def flood(one: socket.socket) -> None:
        nonlocal sent
        one.recv(4096)
        one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += one.send(b"x" * 65_536)

    answer = post(network, f"http://127.0.0.1:{serve(flood)}/", BODY, {})
    assert answer.status == 200
    assert len(answer.text) == 200
    time.sleep(0.05)
    assert sent < 100 * ANSWER_BYTES_MAX


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_receiver_that_drips_is_cut_when_the_time_is_over(serve: Any, drip: bytes) -> None:
    def answer(one: socket.socket) -> None:
        one.sendall(drip)
        for _ in range(100):
            one.sendall(b"a")
            time.sleep(0.02)

    began = time.monotonic()
    # What a body held before it was cut may do as an answer.
    with contextlib.suppress(TemporaryError):
        post(Network(private=True, total_s=0.3), f"http://127.0.0.1:{serve(answer)}/", BODY, {})
    assert time.monotonic() - began < 1.5


def test_what_is_no_http_and_a_port_nobody_listens_at_are_for_later(serve: Any, network: Network) -> None:
    with pytest.raises(TemporaryError, match="broke off"):
        post(
            network,
            f"http://127.0.0.1:{serve(lambda one: one.sendall(b'SSH-2.0-x' + bytes(9)) or one.close())}/",
            BODY,
            {},
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TemporaryError, match="does not answer"):
        post(network, f"http://127.0.0.1:{port}/", BODY, {})


def test_tls_is_checked_against_the_name_and_not_the_address(serve: Any, tmp_path: Path) -> None:
    files = certificate(tmp_path, "hooks.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files[0], files[1])

    def answer(one: socket.socket) -> None:
        with server.wrap_socket(one, server_side=True) as over:
            asked = b""
            while not asked.endswith(BODY):
                asked += over.recv(4096)
            over.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    port = serve(answer)
    trusting = ssl.create_default_context(cafile=str(files[0]))

    def at(host: str, tls: ssl.SSLContext) -> int:
        network = Network(private=True, resolve=lambda *_: ["127.0.0.1"], total_s=5, tls=tls)
        return post(network, f"https://{host}:{port}/", BODY, {}).status

    assert at("hooks.example", trusting) == 204
    for host, tls in (("other.example", trusting), ("hooks.example", ssl.create_default_context())):
        with pytest.raises(TemporaryError, match="not to be trusted"):
            at(host, tls)
