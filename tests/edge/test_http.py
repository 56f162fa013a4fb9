"""HTTP as a device reads it: a body is as long as the hub says, and one that is torn is never a short one."""

import socket
from collections.abc import Iterator

import pytest

from driftline.edge.http import HttpError, Line, Response


@pytest.fixture
def line() -> Iterator[tuple[Line, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(5)
    one = Line(near, "hub.example:8710")
    yield one, far
    one.close()
    far.close()


def answered(line: tuple[Line, socket.socket], answer: bytes, *, ends: bool = False) -> Response:
    one, far = line
    far.sendall(answer)
    if ends:
        far.shutdown(socket.SHUT_WR)
    return one.ask("GET", "/", {}, None)


def test_a_request_is_one_piece_and_names_its_hub(line: tuple[Line, socket.socket]):
    one, far = line
    far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    one.ask("POST", "/sync", {"A": "b"}, b"body")
    assert far.recv(4096) == b"POST /sync HTTP/1.1\r\nHost: hub.example:8710\r\nA: b\r\nContent-Length: 4\r\n\r\nbody"


def test_a_body_has_its_announced_length_and_the_next_answer_follows(line: tuple[Line, socket.socket]):
    first = answered(
        line, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"
    )
    assert (first.status, first.read(3), line[0].ready) == (200, b"hel", False)
    assert (first.header("Content-Length"), first.header("Date")) == ("5", None)
    assert (first.read(99), line[0].ready) == (b"lo", True)
    second = line[0].ask("GET", "/", {}, None)
    assert (second.status, second.read(99)) == (404, b"no")


def test_chunks_are_put_together(line: tuple[Line, socket.socket]):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = answered(line, head + b"4;x=1\r\nwiki\r\nA\r\npedia in c\r\n0\r\nTrailer: t\r\n\r\n")
    assert (response.read(6), response.read(99)) == (b"wikipe", b"dia in c")
    assert line[0].ready


def test_without_a_length_the_end_of_the_connection_ends_the_body(line: tuple[Line, socket.socket]):
    response = answered(line, b"HTTP/1.0 200 OK\r\n\r\nall of it", ends=True)
    assert response.read(99) == b"all of it"
    assert not line[0].ready


def test_a_hub_that_hangs_up_after_its_answer_is_not_asked_again(line: tuple[Line, socket.socket]):
    response = answered(line, b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok")
    assert response.read(99) == b"ok"
    assert not line[0].ready


def test_an_answer_that_only_continues_is_passed_over(line: tuple[Line, socket.socket]):
    response = answered(line, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    assert (response.status, response.read(9), line[0].ready) == (204, b"", True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_refused(line: tuple[Line, socket.socket], answer: bytes):
    with pytest.raises(HttpError):
        answered(line, answer, ends=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
    ],
)
def test_a_torn_body_is_never_a_short_one(line: tuple[Line, socket.socket], answer: bytes):
    response = answered(line, answer, ends=True)
    with pytest.raises(HttpError):
        response.read(99)
