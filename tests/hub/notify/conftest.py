"""Receivers that are real: an HTTP server and an SMTP server on loopback."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from driftline.hub.notify.connection import Network


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Writes down what is posted to it, and answers as it is told to."""

    url: str = ""
    received: list[Received] = field(default_factory=list[Received])
    statuses: list[int] = field(default_factory=list[int])  # what it answers, then 204
    headers: dict[str, str] = field(default_factory=dict[str, str])
    words: bytes = b""
    hold: threading.Event = field(default_factory=threading.Event)  # cleared: it answers nothing
    got: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()
    kept.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            kept.got.release()
            kept.hold.wait(30)
            status = kept.statuses.pop(0) if kept.statuses else 204
            try:
                self.send_response(status)
                for name, value in kept.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(kept.words)))
                self.end_headers()
                self.wfile.write(kept.words)
            except OSError:
                pass  # who asked is gone

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield kept
    kept.hold.set()
    server.shutdown()
    server.server_close()


@dataclass
class Mailbox:
    """A mail server; `replies` are what it says to the next mails, then 250."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list[EmailMessage])
    replies: list[str] = field(default_factory=list[str])
    logins: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])


@pytest.fixture
def mail_server() -> Iterator[Callable[..., Mailbox]]:
    """A function that starts a real SMTP server; it takes what aiosmtpd's SMTP takes."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    stop: list[Callable[[], None]] = []

    def start(**facts: Any) -> Mailbox:
        box = Mailbox()

        class Handler:
            async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
                reply = box.replies.pop(0) if box.replies else "250 kept"
                if reply.startswith("250"):
                    mail = message_from_bytes(envelope.content, policy=default)
                    assert isinstance(mail, EmailMessage)
                    box.mails.append(mail)
                return reply

        def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: Any, data: Any) -> Any:
            box.logins.append((data.login, data.password))
            return AuthResult(success=data.password == b"right", handled=False)

        controller = Controller(Handler(), hostname="127.0.0.1", port=0, authenticator=authenticate, **facts)
        ask = controller._trigger_server

        def ask_at_its_port() -> None:
            controller.port = box.port = controller.server.sockets[0].getsockname()[1]
            ask()

        controller._trigger_server = ask_at_its_port
        controller.start()
        stop.append(lambda: controller.stop(no_assert=True))
        return box

    yield start
    for one in stop:
        one()


@pytest.fixture
def network() -> Network:
    """The network with leave to reach this machine."""
    return Network(private=True, total_s=5.0)
