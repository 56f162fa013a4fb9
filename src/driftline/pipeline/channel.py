"""How the worker and a model in its own process talk: framed messages over a pair of sockets, and never a pickle.

    message = u32 length of the payload (little-endian), 1 byte kind, payload

    to the model:    L  JSON {"folder", "outputs", "limits"}: load            P  arrays: predict
    from the model:  R  ready                 A  arrays: the prediction      E  text: what went wrong in its code

Arrays are packed by `driftline.wire.arrays`.
"""

import socket
import struct
import time

LOAD, PREDICT, READY, ARRAYS, FAILED = b"L", b"P", b"R", b"A", b"E"

_HEAD = struct.Struct("<Ic")
# A 4K frame in float32 has 100 MB; more than this is a model gone wrong.
PAYLOAD_BYTES_MAX = 512 << 20


class Channel:
    """One end; both calls raise `EOFError` where the other end is gone, and `TimeoutError` where it takes too long."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, kind: bytes, payload: bytes = b"", timeout_s: float | None = None) -> None:
        """Send one message."""
        try:
            self._end.settimeout(timeout_s)
            self._end.sendall(_HEAD.pack(len(payload), kind))
            self._end.sendall(payload)
        except ConnectionError as error:
            raise EOFError(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> tuple[bytes, bytes]:
        """Wait for one message; returns its kind and payload."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        length, kind = _HEAD.unpack(self._take(_HEAD.size, until_s))
        if length > PAYLOAD_BYTES_MAX:
            raise EOFError(f"a message of {length} bytes")
        return kind, bytes(self._take(length, until_s))

    def _take(self, size: int, until_s: float | None) -> bytearray:
        taken = bytearray(size)
        rest = memoryview(taken)
        while rest:
            if until_s is not None:
                # Zero would mean "do not wait" to a socket, which is another error.
                self._end.settimeout(max(0.001, until_s - time.monotonic()))
            else:
                self._end.settimeout(None)
            try:
                got = self._end.recv_into(rest)
            except ConnectionError as error:
                raise EOFError(str(error)) from error
            if not got:
                raise EOFError("closed")
            rest = rest[got:]
        return taken

    def close(self) -> None:
        """Hang up; the model's process ends by itself when it notices."""
        self._end.close()
