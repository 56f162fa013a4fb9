"""The local protocol between a device's agent and the processes that count: its worker, and programs that observe.

A Unix stream socket, one reply a request, in order. A message either way, all little-endian:

    u32 header length, JSON header, u32 payload length, payload

    {"type": "hello", "role": "worker"|"observe", "pid"}      -> desired, revision, device, rows_sent, files
    {"type": "beat", "revision", facts…}                      -> revision, and what hello says where it changed
    {"type": "record", "kind", "key"?, "stamp"?} + payload    -> sequence, after the spool's commit and not before
    {"type": "status"}                                        -> how the agent is
    failure                                                   -> {"ok": false, "error": text, "code"}

A stamp is [boot, offset in ns]: by which clock a record was made, or a beat's `complete_until_ns` is told.

A process that must end while no agent takes its records leaves them in a file of the home, as the very messages it
would have sent (`Courier.leave`); the agent takes them from there (`left_messages`). What a process that is killed has
counted, the agent finds in the same form in its open window (`Courier.keep`, `driftline.edge.open_window`).

A record's reply can be lost after its commit. Its sender then sends it again, and the `key` ("sender:number", numbers
growing) tells the agent that it has it: so a window is neither lost nor doubled. `Courier` does all of that.
"""

import json
import logging
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from driftline.edge import open_window
from driftline.edge.home import replace_file
from driftline.edge.open_window import OpenWindow, Snapshot
from driftline.errors import (
    DriftlineError,
    InvalidInputError,
    PermanentError,
    TemporaryError,
    UnreachableError,
    by_code,
)
from driftline.wire.device import BATCH_BYTES_MAX, Stamp, encode_event

log = logging.getLogger("driftline.edge")
# A desired state with some hundred grids is below a megabyte.
HEADER_BYTES_MAX = 16 * 1024 * 1024
PAYLOAD_BYTES_MAX = BATCH_BYTES_MAX
# What goes first where there is too little room.
DROP_ORDER = ("rows", "window", "event")
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

    def record(self, kind: str, payload: bytes, key: str | None = None, stamp: Stamp | None = None) -> int:
        """Hand over one record; return its sequence once the spool has committed it."""
        return int(self.ask(_record(kind, key, stamp), payload)["sequence"])

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


class Waiting(NamedTuple):
    """A record that no agent has committed yet, with its sender's number."""

    number: int
    kind: str
    data: bytes
    stamp: Stamp | None


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
        self._sender = os.urandom(8).hex()
        self._number = 0
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._dropped: dict[str, int] = {}
        self._guard = threading.Lock()
        self._delivery = threading.Lock()
        self._keeping: Keeping | None = None
        self._link: Link | None = None
        self.greeting: dict[str, Any] | None = None

    @property
    def waiting(self) -> int:
        """Records not yet committed by the agent."""
        return len(self._waiting)

    def put(self, kind: str, data: bytes, stamp: Stamp | None = None) -> None:
        """Take a record for delivery."""
        with self._guard:
            self._append(kind, data, stamp)
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
                    if self._keeping is not None and record.number > self._keeping.number:
                        self._keeping.save()
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
            messages = self.messages(self._waiting, facts)
            replace_file(folder / f"{LEFT_PREFIX}{self._sender}", b"".join(messages))
            self._waiting.clear()
            self._bytes = 0

    def keep(self, folder: Path, counted: "Snapshots") -> None:
        """From now on keep what waits and what `counted` gives where the agent finds it should this process be killed.

        It is written every `SAVE_S` by a thread of its own, and before anything is delivered that it does not hold.
        """
        self._keeping = Keeping(self, OpenWindow(folder, f"{self._role}.{self._sender}"), counted)

    def numbered(self, counted: Snapshot, bytes_max: int) -> tuple[int, list[Waiting]]:
        """Return the last number given, and with their numbers the records that wait and those of open windows.

        Open windows get the numbers after the last: what is delivered under one of those must be in a later snapshot.
        Where it is more than `bytes_max`, rows are left out first, then the oldest windows, and their count is in it.
        """
        self._report_drops()
        with self._guard:
            last = self._number
            open_ones = [Waiting(last + 1 + at, *one) for at, one in enumerate(counted.records)]
            records, dropped = _fitting([*self._waiting, *open_ones], bytes_max)
        if dropped:
            event = encode_event("dropped", self._now_ns(), where="open window", counts=dropped)
            records.append(Waiting(last + 1 + len(open_ones), "event", event, counted.stamp))
        return last, records

    def close(self) -> None:
        """Hang up; what waits is kept, also beyond this process."""
        with self._delivery:
            self._disconnect()
        if self._keeping is not None:
            self._keeping.close()
            self._keeping = None

    def messages(self, records: Iterable[Waiting], facts: Mapping[str, Any]) -> list[bytes]:
        """Return what this process would send: these records, and a beat with these facts."""
        messages = [message(_record(one.kind, f"{self._sender}:{one.number}", one.stamp), one.data) for one in records]
        return [*messages, message({"type": "beat", "role": self._role, **facts})]

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

    def _first(self) -> Waiting | None:
        with self._guard:
            return self._waiting[0] if self._waiting else None

    def _deliver(self, record: Waiting) -> None:
        number, kind, data, stamp = record
        try:
            cast("Link", self._link).record(kind, data, f"{self._sender}:{number}", stamp)
        except PermanentError as error:
            # The agent will never take it: sending it again for ever would hold up all that follow.
            log.warning("the agent refused a record: %s", error)
            self._count_drop(kind)
        with self._guard:
            # While it was on its way it may have been dropped for room.
            if self._waiting and self._waiting[0].number == number:
                self._waiting.popleft()
                self._bytes -= len(data)

    def _append(self, kind: str, data: bytes, stamp: Stamp | None = None) -> None:
        self._number += 1
        self._waiting.append(Waiting(self._number, kind, data, stamp))
        self._bytes += len(data)

    def _make_room(self) -> None:
        for kind in DROP_ORDER:
            kept: deque[Waiting] = deque()
            for one in self._waiting:
                if one.kind == kind and self._bytes > self._bytes_max:
                    self._bytes -= len(one.data)
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


# What gives the open windows; until its context ends, nothing is counted.
Snapshots = Callable[[], AbstractContextManager[Snapshot]]


class Keeping:
    """Keeps a courier's records and the open windows behind them in a file; `number` is the last given one it holds."""

    def __init__(self, courier: Courier, file: OpenWindow, counted: Snapshots) -> None:
        self.number = 0
        self._courier = courier
        self._file = file
        self._counted = counted
        self._said = ""
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="open-window", daemon=True)
        self._thread.start()

    def save(self) -> int:
        """Write what there is now; return how many records that is.

        Raises:
            TemporaryError: what was written before can be neither replaced nor removed.
        """
        with self._guard:
            with self._counted() as counted:
                number, records = self._courier.numbered(counted, open_window.BYTES_MAX)
            told = {"complete_until_ns": counted.until_ns, "stamp": stamp_told(counted.stamp)}
            messages = self._courier.messages(records, told)
            try:
                self._file.write(b"".join(messages))
                self._said = ""
            except OSError as error:
                self._say(error)
                if self._file.path.exists():
                    raise TemporaryError(f"{self._file.path} holds an old snapshot that cannot be replaced") from error
            # Also where nothing could be written: then there is nothing that could count twice.
            self.number = number
            return len(records)

    def close(self) -> None:
        """Remove the file where everything was delivered; else leave it to the agent."""
        self._stopping.set()
        self._thread.join()
        count = self.save()
        with self._guard:
            if count:
                self._file.close()
            else:
                self._file.remove()

    def _work(self) -> None:
        while not self._stopping.wait(open_window.SAVE_S):
            try:
                self.save()
            except Exception:  # whatever it was, the next one may succeed
                log.exception("the open window could not be kept")

    def _say(self, error: OSError) -> None:
        if str(error) != self._said:
            self._said = str(error)
            log.warning("the open window cannot be kept (%s): a crash now would lose it", error)


def _fitting(records: Sequence[Waiting], bytes_max: int) -> tuple[list[Waiting], dict[str, int]]:
    """Return those that fit, in order, and how many of each kind do not."""
    excess = sum(len(one.data) for one in records) - bytes_max
    left_out: set[int] = set()
    dropped: dict[str, int] = {}
    for kind in DROP_ORDER:
        for one in records:
            if excess > 0 and one.kind == kind:
                left_out.add(one.number)
                dropped[kind] = dropped.get(kind, 0) + 1
                excess -= len(one.data)
    return [one for one in records if one.number not in left_out], dropped


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
        with path.open("rb") as file:
            messages = messages_of(file.read, path)
        yield path, messages


def stamp_told(stamp: Stamp | None) -> list[Any] | None:
    """Return a stamp as messages carry it.

    >>> stamp_told(Stamp("b", 5)), stamp_from(["b", 5]), stamp_from(None)
    (['b', 5], Stamp(boot='b', offset_ns=5), None)
    """
    return None if stamp is None else [stamp.boot, stamp.offset_ns]


def stamp_from(told: object) -> Stamp | None:
    """Read what `stamp_told` made; None where nothing was told.

    Raises:
        InvalidInputError: it is something else.
    """
    match told:
        case None:
            return None
        case [str(boot), int(offset_ns)] if -(2**63) <= offset_ns < 2**63:
            return Stamp(boot, offset_ns)
        case _:
            raise InvalidInputError(f"a stamp is [boot, offset in ns], not {told!r:.100}")


def _record(kind: str, key: str | None, stamp: Stamp | None) -> dict[str, Any]:
    """Return the header of the message that hands over a record."""
    header: dict[str, Any] = {"type": "record", "kind": kind}
    header |= {} if key is None else {"key": key}
    return header | ({} if stamp is None else {"stamp": stamp_told(stamp)})


def messages_of(read: Callable[[int], bytes], path: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Read every message, those before the damage where there is some."""
    messages: list[tuple[dict[str, Any], bytes]] = []
    try:
        while (found := receive_message(read)) is not None:
            messages.append(found)
    except InvalidInputError as error:
        log.warning("%s is damaged after %d messages: %s", path, len(messages), error)
    return messages


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
