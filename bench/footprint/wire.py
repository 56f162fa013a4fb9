"""Counts what two sides of a TCP connection send each other, on its way through this process."""

import selectors
import socket
import threading
from dataclasses import dataclass

# IPv4 20, TCP 20 and its timestamps 12.
HEADER_BYTES = 52
# Three segments open a connection, four end it.
SEGMENTS_A_CONNECTION = 7
SEGMENT_BYTES = 1448


@dataclass
class Traffic:
    """Bytes of TCP payload, TLS included, each way; how many connections carried them, and in how many pieces."""

    up: int = 0
    down: int = 0
    connections: int = 0
    pieces: int = 0

    @property
    def headers(self) -> int:
        """An estimate of TCP's and IP's headers: each piece is a segment or more, and each is acknowledged by one."""
        full = (self.up + self.down) // SEGMENT_BYTES
        return HEADER_BYTES * (SEGMENTS_A_CONNECTION * self.connections + 2 * max(self.pieces, full))

    def since(self, before: "Traffic") -> "Traffic":
        """Return what came since."""
        return Traffic(
            self.up - before.up,
            self.down - before.down,
            self.connections - before.connections,
            self.pieces - before.pieces,
        )


class Meter:
    """Listens on loopback and passes everything on to a port there; `traffic` is what passed."""

    def __init__(self, port: int) -> None:
        self.traffic = Traffic()
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.traffic.connections += 1
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._to)) as far, selectors.DefaultSelector() as ready:
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if not self._piece(near, far, from_near=key.fileobj is near):
                        return

    def _piece(self, near: socket.socket, far: socket.socket, *, from_near: bool) -> bool:
        try:
            data = (near if from_near else far).recv(65536)
            (far if from_near else near).sendall(data)
        except OSError:
            return False
        self.traffic.pieces += bool(data)
        if from_near:
            self.traffic.up += len(data)
        else:
            self.traffic.down += len(data)
        return bool(data)
