"""The local protocol between a device's agent and the processes that count: its worker, and programs that observe.

A Unix stream socket, one reply a request, in order. A message either way, all little-endian:

    u32 header length, JSON header, u32 payload length, payload

    {"type": "hello", "role": "worker"|"observe", "pid"}      -> desired, revision, device, rows_sent, files
    {"type": "beat", "revision", facts…}                      -> revision, and what hello says where it changed
    {"type": "record", "kind", "key"?} + payload              -> sequence, after the spool's commit and not before
    {"type": "status"}                                        -> how the agent is
    failure                                                   -> {"ok": false, "error": text, "code"}

A process that must end while no agent takes its records leaves them in a file of the home, as the very messages it
would have sent (`Courier.leave`); the agent takes them from there (`left_messages`).

A record's reply can be lost after its commit. Its sender then sends it again, and the `key` ("sender:number", numbers
growing) tells the agent that it has it: so a window is neither lost nor doubled. `Courier` does all of that.
"""

import json
import logging
import os
import secrets
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

from driftline.edge.home import replace_file
from driftline.errors import (
    DriftlineError,
    InvalidInputError,
    PermanentError,
    TemporaryError,
    UnreachableError,
    by_code,
)
from driftline.wire.device import BATCH_BYTES_MAX, encode_event

log = logging.getLogger("driftline.edge")
# A desired state with some hundred grids is below a megabyte.
HEADER_BYTES_MAX = 16 * 1024 * 1024
PAYLOAD_BYTES_MAX = BATCH_BYTES_MAX
# Files of records that no agent could take, each named by its sender.
LEFT_PREFIX = "left."


class Link:
    """One connection to the agent; after an `UnreachableError` make a new one. Threads may share it.

    Raises:
        UnreachableError: nobody answers at this path, or not within `timeout_s` real seconds.
    """

    def __init__(self, path: Path | str, timeout_s: float = 10) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise UnreachableError(f"no agent answers at {path} ({error}); start it: driftline edge run") from error

    def hello(self, role: str) -> dict[str, Any]:
        """Introduce this process; return what the device should run."""
        return self.ask({"type": "hello", "role": role, "pid": os.getpid()})

    def beat(self, **facts: Any) -> dict[str, Any]:
        """Tell how this process is; the reply carries a new desired state where `revision` is not the newest."""
        return self.ask({"type": "beat", **facts})

    def record(self, kind: str, payload: bytes, key: str | None = None) -> int:
        """Hand over one record; return its sequence once the spool has committed it."""
        request = {"type": "record", "kind": kind} | ({} if key is None else {"key": key})
        return int(self.ask(request, payload)["sequence"])

    def status(self) -> dict[str, Any]:
        """Ask how the agent is."""
        return self.ask({"type": "status"})

    def ask(self, request: Mapping[str, Any], payload: bytes = b"") -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            UnreachableError: the agent went away or is too slow; whether it acted is unknown.
            DriftlineError: the agent refused, in its words.
        """
        with self._lock:
            try:
                self._socket.sendall(message(request, payload))
                received = receive_message(self._socket.recv)
            except (OSError, InvalidInputError) as error:
                self._socket.close()
                raise UnreachableError(f"the agent at {self.path} went away: {error}") from error
        if received is None:
            self._socket.close()
            raise UnreachableError(f"the agent at {self.path} went away")
        reply, _ = received
        if not reply.get("ok"):
            raise by_code(str(reply.get("code", "")))(str(reply.get("error", "the agent refused")))
        return reply

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Courier:
    """Keeps records in memory until the agent has committed them, across restarts of the agent. Threads may share it.

    `put` never fails and never waits; `flush` delivers what it can. Beyond `bytes_max` waiting bytes rows are dropped
    first, then the oldest windows, and the count travels as an event `dropped`.
    Send a beat with `complete_until_ns` only after a `flush` that returned True.
    """

    def __init__(
        self, path: Callable[[], Path], role: str, now_ns: Callable[[], int], *, bytes_max: int = 64 * 1024 * 1024
    ) -> None:
        self._path = path  # asked anew at each connection: a restarted agent may listen elsewhere
        self._role = role
        self._now_ns = now_ns
        self._bytes_max = bytes_max
        self._sender = secrets.token_hex(8)
        self._number = 0
        self._waiting: deque[tuple[int, str, bytes]] = deque()
        self._bytes = 0
        self._dropped: dict[str, int] = {}
        self._guard = threading.Lock()
        self._delivery = threading.Lock()
        self._link: Link | None = None
        self.greeting: dict[str, Any] | None = None

    @property
    def waiting(self) -> int:
        """Records not yet committed by the agent."""
        return len(self._waiting)

    def put(self, kind: str, data: bytes) -> None:
        """Take a record for delivery."""
        with self._guard:
            self._append(kind, data)
            if self._bytes > self._bytes_max:
                self._make_room()

    def connect(self) -> dict[str, Any]:
        """Return the agent's greeting, connecting where there is no link.

        Raises:
            UnreachableError: no agent is there.
        """
        with self._delivery:
            return self._connected()

    def flush(self) -> bool:
        """Deliver in order; True where nothing waits any more, False where the agent is out of reach or of room."""
        with self._delivery:
            try:
                self._connected()
                self._report_drops()
                while (record := self._first()) is not None:
                    self._deliver(record)
            except TemporaryError as error:
                log.debug("delivery waits: %s", error)
                self._disconnect()
                return False
            return True

    def beat(self, **facts: Any) -> dict[str, Any] | None:
        """Tell the agent how this process is; None where it cannot be reached."""
        with self._delivery:
            try:
                self._connected()
                return cast("Link", self._link).beat(**facts)
            except TemporaryError:
                self._disconnect()
                return None

    def leave(self, folder: Path, **facts: Any) -> None:
        """Write what waits into a file of `folder`, and after it a last beat with these facts; see `left_messages`.

        Raises:
            OSError: it cannot be written.
        """
        self._report_drops()
        with self._delivery, self._guard:
            messages = [
                message({"type": "record", "kind": kind, "key": f"{self._sender}:{number}"}, data)
                for number, kind, data in self._waiting
            ]
            messages.append(message({"type": "beat", "role": self._role, **facts}))
            replace_file(folder / f"{LEFT_PREFIX}{self._sender}", b"".join(messages))
            self._waiting.clear()
            self._bytes = 0

    def close(self) -> None:
        """Hang up; what waits is kept."""
        with self._delivery:
            self._disconnect()

    def _connected(self) -> dict[str, Any]:
        if self._link is None or self.greeting is None:
            link = Link(self._path())
            self.greeting = link.hello(self._role)
            self._link = link
        return self.greeting

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self.greeting = None

    def _first(self) -> tuple[int, str, bytes] | None:
        with self._guard:
            return self._waiting[0] if self._waiting else None

    def _deliver(self, record: tuple[int, str, bytes]) -> None:
        number, kind, data = record
        try:
            cast("Link", self._link).record(kind, data, f"{self._sender}:{number}")
        except PermanentError as error:
            # The agent will never take it: sending it again for ever would hold up all that follow.
            log.warning("the agent refused a record: %s", error)
            self._count_drop(kind)
        with self._guard:
            # While it was on its way it may have been dropped for room.
            if self._waiting and self._waiting[0][0] == number:
                self._waiting.popleft()
                self._bytes -= len(data)

    def _append(self, kind: str, data: bytes) -> None:
        self._number += 1
        self._waiting.append((self._number, kind, data))
        self._bytes += len(data)

    def _make_room(self) -> None:
        for kind in ("rows", "window", "event"):
            kept: deque[tuple[int, str, bytes]] = deque()
            for one in self._waiting:
                if one[1] == kind and self._bytes > self._bytes_max:
                    self._bytes -= len(one[2])
                    self._count_drop(kind)
                else:
                    kept.append(one)
            self._waiting = kept

    def _count_drop(self, kind: str) -> None:
        self._dropped[kind] = self._dropped.get(kind, 0) + 1

    def _report_drops(self) -> None:
        with self._guard:
            if self._dropped:
                dropped, self._dropped = self._dropped, {}
                self._append("event", encode_event("dropped", self._now_ns(), where=self._role, counts=dropped))


# ── the agent's side ─────────────────────────────────────────────────────────────────────────────────────────────


class Handler(Protocol):
    """What an agent does with its peers; called from one thread a connection."""

    def answer(self, peer: int, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        """Answer a request; a `DriftlineError` becomes the reply's error."""
        ...

    def gone(self, peer: int) -> None:
        """Forget a peer that hung up."""
        ...


class Server:
    """Listens on a Unix socket, one thread a connection; `peer` numbers the connections."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        self._peers: dict[int, socket.socket] = {}
        self._closing = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_uid != os.getuid():
            raise PermanentError(f"{path.parent} belongs to another user; remove it, or use a shorter --home")
        # Whoever holds the home's lock owns this path: a socket found here was left by an agent that was killed.
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(os.fspath(path))
        path.chmod(0o600)
        self._socket.listen(16)
        self._accepting = threading.Thread(target=self._accept, name="link", daemon=True)
        self._accepting.start()

    @property
    def alive(self) -> bool:
        """Whether it still takes connections."""
        return self._accepting.is_alive()

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        self._closing = True
        for one in [self._socket, *self._peers.values()]:
            # shutdown wakes a thread that waits in accept or recv; close alone does not.
            shut(one)
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        number = 0
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            number += 1
            self._peers[number] = connection
            if self._closing:
                # Registered after `close` went through the peers.
                shut(connection)
                return
            threading.Thread(target=self._serve, args=(number, connection), name=f"link-{number}", daemon=True).start()

    def _serve(self, peer: int, connection: socket.socket) -> None:
        try:
            while (request := receive_message(connection.recv)) is not None:
                connection.sendall(message(self._answer(peer, *request)))
        except (OSError, InvalidInputError) as error:
            log.debug("peer %d: %s", peer, error)
        finally:
            self._peers.pop(peer, None)
            connection.close()
            self._handler.gone(peer)

    def _answer(self, peer: int, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        try:
            return {"ok": True} | self._handler.answer(peer, request, payload)
        except DriftlineError as error:
            return {"ok": False, "error": str(error), "code": error.code}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "error": f"a request that cannot be read: {error!r}", "code": InvalidInputError.code}


def shut(connection: socket.socket) -> None:
    """Close a socket, waking whoever waits on it."""
    with suppress(OSError):  # it was not connected, or is closed already: what was wanted
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def left_messages(folder: Path) -> Iterator[tuple[Path, list[tuple[dict[str, Any], bytes]]]]:
    """Yield each file that `Courier.leave` wrote there, with its messages in order; whoever took them removes it.

    One that cannot be read, which only a failing disk makes, is yielded with the messages before the damage.
    """
    for path in sorted(folder.glob(f"{LEFT_PREFIX}*")):
        messages: list[tuple[dict[str, Any], bytes]] = []
        with path.open("rb") as file:
            try:
                while (found := receive_message(file.read)) is not None:
                    messages.append(found)
            except InvalidInputError as error:
                log.warning("%s is damaged after %d messages: %s", path, len(messages), error)
        yield path, messages


def message(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return the bytes of one message; see the module's layout."""
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<I", len(encoded)) + encoded + struct.pack("<I", len(payload)) + payload


def receive_message(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Receive one message from what returns at most so many bytes, none at the end; None where it ends between two.

    Raises:
        InvalidInputError: torn, too large, or not a JSON object.
    """
    first = read(4)
    if not first:
        return None
    (size,) = struct.unpack("<I", first + _receive(read, 4 - len(first)))
    header = _receive(read, _checked(size, HEADER_BYTES_MAX))
    (size,) = struct.unpack("<I", _receive(read, 4))
    payload = _receive(read, _checked(size, PAYLOAD_BYTES_MAX))
    try:
        document = json.loads(header)
    except ValueError as error:
        raise InvalidInputError("a header that is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidInputError("a header that is not a JSON object")
    return cast("dict[str, Any]", document), payload


def _checked(size: int, bytes_max: int) -> int:
    if size > bytes_max:
        raise InvalidInputError(f"a message of {size} bytes; at most {bytes_max} are taken")
    return size


def _receive(read: Callable[[int], bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = read(min(size - len(data), 1 << 20))
        if not chunk:
            raise InvalidInputError("the peer hung up in the middle of a message")
        data += chunk
    return bytes(data)
