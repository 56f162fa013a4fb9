"""Does an ONNX file keep weights in other files? Read from its bytes, without the `onnx` package, which no device has.

Such a file would make the runtime read whatever path it names. ONNX is protobuf: a message is fields of (number, type,
value), and a tensor kept elsewhere has `data_location` (14) = 1 or `external_data` (13). Only the messages that can
hold a tensor are entered. Bytes that are no protobuf are left to the runtime, which refuses them.

Source: onnx.proto of ONNX 1.18.
"""

from collections.abc import Iterator

# message → field number → the message inside
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def has_external_data(model: bytes) -> bool:
    """Say whether any tensor of the model, in whatever subgraph, lies in another file."""
    # A stack and no recursion: a hostile file nests deeper than Python calls.
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        try:
            for number, value in _fields(message):
                if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)):
                    return True
                if number in _INSIDE[kind] and isinstance(value, memoryview):
                    waiting.append((_INSIDE[kind][number], value))
        except (IndexError, ValueError):
            continue
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_FIXED32, _FIXED64}:
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("not protobuf")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
        if shift > 63:
            raise ValueError("not protobuf")
