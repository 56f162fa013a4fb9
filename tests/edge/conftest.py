"""A hub's side of the device protocol in a hundred lines: real HTTP, real signatures, and the faults a link has."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.home import Home, Identity
from driftline.wire.device import (
    BUNDLE_PATH,
    JOIN_PATH,
    SYNC_PATH,
    BatchHead,
    Desired,
    JoinToken,
    Reply,
    decode_batch,
    encode_reply,
    signature,
)

KEY = bytes(range(32))


class StandInHub:
    """Takes records once each by (epoch, sequence), checks signatures and request numbers, serves files.

    `lose_replies` counts down: so many replies to records are lost after their commit. `down` and `up` end and begin
    listening on the same port.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], tuple[str, bytes]] = {}
        self.changed = 0  # records that came again with other content
        self.repeated = 0
        self.heads: list[BatchHead] = []
        self.numbers: list[int] = []
        self.paths: list[str] = []
        self.desired = Desired()
        self.files: dict[str, bytes] = {}
        self.secrets = {"secret": "camera-1"}
        self.interval_s = 0.2
        self.lose_replies = 0
        self.status = 200
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
                pass

            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.paths.append(request.path)
        if self._server is None:
            # An old kept connection to a hub that is down.
            request.close_connection = True
            return
        if self.status != 200:
            refused = {"error": {"code": "not_allowed", "message": "the device was removed"}}
            send(request, self.status, json.dumps(refused).encode())
        elif request.path == JOIN_PATH:
            self._join(request, json.loads(body))
        elif not self._signed(request, body):
            send(request, 403, b'{"error": {"code": "not_allowed", "message": "the signature does not fit"}}')
        elif not self._claimed(request):
            last = {"code": "stale_request", "message": "came before", "last_request": max(self.numbers)}
            send(request, 403, json.dumps({"error": last}).encode())
        elif request.path == SYNC_PATH:
            self._sync(request, body)
        else:
            found = self.files.get(request.path.removeprefix(BUNDLE_PATH))
            send(request, 200 if found is not None else 404, found or b"{}")

    def _join(self, request: BaseHTTPRequestHandler, document: dict[str, str]) -> None:
        name = self.secrets.pop(document["secret"], None)
        if name is None:
            send(request, 403, b'{"error": {"code": "not_allowed", "message": "the token was used; make a new one"}}')
            return
        send(request, 200, json.dumps({"device": "id-1", "name": name, "key": KEY.hex()}).encode())

    def _signed(self, request: BaseHTTPRequestHandler, body: bytes) -> bool:
        number = request.headers["Driftline-Request"]
        return signature(KEY, request.command, request.path, number, body) == request.headers["Driftline-Signature"]

    def _claimed(self, request: BaseHTTPRequestHandler) -> bool:
        number = int(request.headers["Driftline-Request"])
        newer = not self.numbers or number > self.numbers[-1]
        if newer:
            self.numbers.append(number)
        return newer

    def _sync(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        head, records = decode_batch(body)
        for one in records:
            place, content = (head.epoch, one.sequence), (one.kind, one.data)
            self.repeated += place in self.records
            self.changed += self.records.setdefault(place, content) != content
        self.heads.append(head)
        if self.lose_replies and records:
            self.lose_replies -= 1
            request.close_connection = True
            return
        desired = self.desired if head.revision != self.desired.revision else None
        upto = max((one.sequence for one in records), default=0)
        reply = Reply(head.epoch, upto, head.wall_ns, self.interval_s, self.desired.revision, desired)
        send(request, 200, encode_reply(reply))

    def file(self, content: bytes) -> str:
        """Offer a file; return its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[digest] = content
        return digest

    def data(self, kind: str) -> list[bytes]:
        """The records of a kind, in order."""
        return [data for _, (one, data) in sorted(self.records.items()) if one == kind]


def send(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def standin_hub() -> Iterator[StandInHub]:
    hub = StandInHub()
    yield hub
    hub.down()


@pytest.fixture
def joined_home(standin_hub: StandInHub, tmp_path: Path) -> Home:
    """A home whose device has joined the stand-in hub."""
    home = Home(tmp_path / "device")
    home.make()
    home.save_identity(Identity("id-1", "camera-1", standin_hub.url, None, KEY))
    return home


@pytest.fixture
def standin_token(standin_hub: StandInHub) -> JoinToken:
    return JoinToken(standin_hub.url, "secret")
