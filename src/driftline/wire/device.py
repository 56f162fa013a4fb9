"""What a device and its hub say to each other, in the standard library alone.

A device sends **records**, each once: a *window* (what one pipeline counted in one base window), *rows* (the values
themselves), an *event* (a camera lost, data dropped, a worker restarted). The spool keeps a record as the bytes made
here; a **batch** carries many of them up, and the **reply** brings the acknowledgement and the desired state down.

Layout, version 1. A varint is unsigned LEB128; a string is a varint length and UTF-8.

    window  = 0x01, string pipeline, varint start in s, varint width in s, varint inferences, varint fields,
              fields × (string key, 8 bytes grid id), fields × varint length, fields × summary bytes
    rows    = 0x01, varint length, JSON head, column bytes; times and columns as the head lists them
    event   = JSON object with "type" and "at_ns"
    batch   = gzip( b"DLB1", varint length, JSON head, record bytes one after the other )

A reader refuses what it cannot read whole (`WireError`): a torn tail is never taken for a short batch, because
gzip ends with a checksum and the head names every length.

docs/sync-protocol.md says when these are sent, and what follows from them.

A request is signed: `Driftline-Device` names the device, `Driftline-Request` is a number that only grows, and
`Driftline-Signature` is HMAC-SHA256 with the device's key over method, path, request number and the body's SHA-256.
"""

import base64
import hashlib
import hmac
import json
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any, Literal, NamedTuple, cast

from driftline.errors import PermanentError

PROTOCOL = 1
BASE_WINDOW_S = 60
BATCH_MAGIC = b"DLB1"
# One request carries at most this much after decompression: a day of 5 fields is about 0.7 MB.
BATCH_BYTES_MAX = 32 * 1024 * 1024
GZIP = 31  # what zlib calls it
SYNC_PATH = "/api/v1/sync"
JOIN_PATH = "/api/v1/join"
BUNDLE_PATH = "/api/v1/bundles/"  # followed by the file's SHA-256

RecordKind = Literal["window", "rows", "event"]
# d, f: float64 and float32, NaN where missing; q: int64; s: JSON values, null where missing.
ColumnType = Literal["d", "f", "q", "s"]
ITEM_BYTES = {"d": 8, "f": 4, "q": 8}


class WireError(PermanentError, ValueError):
    """Bytes that are not what they claim to be."""

    code = "invalid"


# Most numbers are so small.
_SMALL = tuple(bytes([one]) for one in range(0x80))

# ── varints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def varint(number: int) -> bytes:
    """Encode a number that is not negative as unsigned LEB128.

    >>> varint(300).hex()
    'ac02'
    """
    if 0 <= number < 0x80:
        return _SMALL[number]
    if number < 0:
        raise WireError(f"a varint is never negative, got {number}")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Takes values off the front of some bytes; anything short or overlong is a `WireError`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        at = self._at
        taken = self._data[at : at + size]
        if len(taken) != size:
            raise WireError(f"{size} bytes announced, {self.rest} there")
        self._at = at + size
        return taken

    def varint(self) -> int:
        """Take one varint of at most 64 bits."""
        # Most are one byte; a summary has some fifty.
        data, at = self._data, self._at
        if at < len(data) and data[at] < 0x80:
            self._at = at + 1
            return data[at]
        number = shift = 0
        for byte in data[at : at + 10]:
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = at
                return number
            shift += 7
        raise WireError("a varint of more than 64 bits" if shift > 63 else "a number was announced, nothing is there")

    def small(self, size: int) -> bytes:
        """Return the next so many bytes where each is a varint of its own, else nothing; takes none."""
        ahead = self._data[self._at : self._at + size]
        return ahead if len(ahead) == size and ahead.isascii() else b""

    def skip(self, expected: bytes) -> bool:
        """Take these bytes where they come next; say whether they did."""
        if not self._data.startswith(expected, self._at):
            return False
        self._at += len(expected)
        return True

    def since(self, rest: int) -> bytes:
        """Return what was taken since so many bytes were left."""
        return self._data[len(self._data) - rest : self._at]

    def string(self) -> str:
        """Take one string."""
        try:
            return self.take(self.varint()).decode()
        except UnicodeDecodeError as error:
            raise WireError("a string that is not UTF-8") from error


def _string(text: str) -> bytes:
    encoded = text.encode()
    return varint(len(encoded)) + encoded


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────


class FieldSummary(NamedTuple):
    """One field's summary in a window, still as the bytes of `driftline.summary.codec`."""

    key: str
    grid_id: str
    summary: bytes


class WindowRecord(NamedTuple):
    """What one pipeline version counted in one base window; no inference at all is data too.

    `pipeline` is the pipeline version's id; `start_s` is Unix seconds, a multiple of `width_s`.
    """

    pipeline: str
    start_s: int
    width_s: int
    inferences: int
    fields: tuple[FieldSummary, ...]


def encode_window(window: WindowRecord) -> bytes:
    """Encode a window record; see the module's layout."""
    parts = [
        b"\x01",
        _string(window.pipeline),
        varint(window.start_s),
        varint(window.width_s),
        varint(window.inferences),
        varint(len(window.fields)),
    ]
    # What is the same in every window of a batch stands together: gzip then says it in one word, not one a field.
    parts += [_string(one.key) + bytes.fromhex(one.grid_id) for one in window.fields]
    parts += [varint(len(one.summary)) for one in window.fields]
    parts += [one.summary for one in window.fields]
    return b"".join(parts)


def decode_window(data: bytes) -> WindowRecord:
    """Decode a window record.

    Raises:
        WireError: another version, torn, or with bytes left over.
    """
    return WindowReader().read(data)


class WindowReader:
    """Decodes window records one after the other: those of a device name the same fields, which are read once."""

    def __init__(self) -> None:
        self._named = b""
        self._names: Sequence[tuple[str, str]] = ()

    def read(self, data: bytes) -> WindowRecord:
        """Decode one; as `decode_window`."""
        reader = Reader(data)
        _version(reader)
        pipeline, start_s, width_s = reader.string(), reader.varint(), reader.varint()
        inferences, count = reader.varint(), reader.varint()
        if not count and not reader.rest:
            return WindowRecord(pipeline, start_s, width_s, inferences, ())
        if not (count == len(self._names) and reader.skip(self._named)):
            rest = reader.rest
            self._names = [(reader.string(), reader.take(8).hex()) for _ in range(count)]
            self._named = reader.since(rest)
        sizes = reader.take(count) if reader.small(count) else [reader.varint() for _ in range(count)]
        if sum(sizes) > reader.rest:
            raise WireError(f"{sum(sizes)} bytes announced, {reader.rest} there")
        ends = accumulate(sizes, initial=len(data) - reader.rest)
        parts = [data[begin:end] for begin, end in pairwise(ends)]
        fields = tuple([FieldSummary(*name, part) for name, part in zip(self._names, parts, strict=True)])
        reader.take(sum(sizes))
        _nothing_left(reader)
        return WindowRecord(pipeline, start_s, width_s, inferences, fields)


def window_span(data: bytes) -> tuple[str, int, int]:
    """Return a window record's pipeline version, start and end in seconds, without reading its fields."""
    pipeline, start_s, width_s, _ = window_head(data)
    return pipeline, start_s, start_s + width_s


def window_head(data: bytes) -> tuple[str, int, int, int]:
    """Return a window record's pipeline version, start and width in seconds, and inferences; see `window_span`.

    >>> window_head(encode_window(WindowRecord("belt", 1_767_258_000, 60, 300, ())))
    ('belt', 1767258000, 60, 300)
    """
    # Each record that waits is looked at again and again; walking over the bytes here takes a third of the time.
    end = 2 + data[1] if data[:1] == b"\x01" and len(data) > 1 else 0
    numbers: list[int] = []
    number = shift = 0
    for byte in data[end : end + 30] if end and data[1:end].isascii() else b"":
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 and shift <= 70:
            numbers.append(number)
            if len(numbers) == 3:
                return data[2:end].decode(), numbers[0], numbers[1], numbers[2]
            number = shift = 0
    # A long name, or something wrong that is told in words.
    reader = Reader(data)
    _version(reader)
    return reader.string(), reader.varint(), reader.varint(), reader.varint()


@dataclass(frozen=True, slots=True)
class RowsRecord:
    """The values themselves of every inference in one base window: the inference log.

    `times_ns` has one entry a row; each column has one value a row, None where missing.
    Only a record with `complete` holds every inference of its window.
    """

    pipeline: str
    start_s: int
    width_s: int
    complete: bool
    times_ns: Sequence[int]
    columns: Mapping[str, tuple[ColumnType, Sequence[Any]]] = field(default_factory=dict)


def encode_rows(rows: RowsRecord) -> bytes:
    """Encode a rows record column by column; see the module's layout."""
    count = len(rows.times_ns)
    head: dict[str, Any] = {
        "pipeline": rows.pipeline,
        "start_s": rows.start_s,
        "width_s": rows.width_s,
        "complete": rows.complete,
        "rows": count,
        "columns": [],
    }
    parts = [_little_endian("q", rows.times_ns)]
    for key, (kind, values) in rows.columns.items():
        if len(values) != count:
            raise WireError(f"column {key!r} has {len(values)} values for {count} rows")
        if kind == "s":
            data = json.dumps(list(values), separators=(",", ":"), allow_nan=False).encode()
        elif kind == "q":
            data = _little_endian("q", values)
        else:
            data = _little_endian(kind, [float("nan") if value is None else value for value in values])
        head["columns"].append([key, kind, len(data)])
        parts.append(data)
    encoded = json.dumps(head, separators=(",", ":")).encode()
    return b"\x01" + varint(len(encoded)) + encoded + b"".join(parts)


def decode_rows(data: bytes) -> RowsRecord:
    """Decode a rows record; float columns come back as `array`, missing values in them as NaN.

    Raises:
        WireError: another version, torn, or columns that do not fit the head.
    """
    reader = Reader(data)
    _version(reader)
    head = _object(reader.take(reader.varint()))
    try:
        count = int(head["rows"])
        times_ns = _from_little_endian("q", reader.take(8 * count))
        columns: dict[str, tuple[ColumnType, Sequence[Any]]] = {}
        for key, kind, size in head["columns"]:
            raw = reader.take(int(size))
            if kind == "s":
                values: Sequence[Any] = json.loads(raw)
            elif kind in ITEM_BYTES:
                values = _from_little_endian(kind, raw)
            else:
                raise WireError(f"column {key!r} is of unknown type {kind!r}")
            if len(values) != count:
                raise WireError(f"column {key!r} has {len(values)} values for {count} rows")
            columns[str(key)] = (kind, values)
        _nothing_left(reader)
        return RowsRecord(
            str(head["pipeline"]),
            int(head["start_s"]),
            int(head["width_s"]),
            bool(head["complete"]),
            times_ns,
            columns,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, WireError) else WireError(f"rows that cannot be read: {error}") from error


def encode_event(kind: str, at_ns: int, **facts: Any) -> bytes:
    """Encode something that happened on the device.

    >>> decode_event(encode_event("camera_lost", 5, source="0"))
    {'type': 'camera_lost', 'at_ns': 5, 'source': '0'}
    """
    return json.dumps({"type": kind, "at_ns": at_ns, **facts}, separators=(",", ":"), allow_nan=False).encode()


def decode_event(data: bytes) -> dict[str, Any]:
    """Decode an event: an object with at least `type` and `at_ns`."""
    event = _object(data)
    if not isinstance(event.get("type"), str) or not isinstance(event.get("at_ns"), int):
        raise WireError("an event has a type and a time")
    return event


# ── batch and reply ──────────────────────────────────────────────────────────────────────────────────────────────


class Stamp(NamedTuple):
    """By which clock a record was made: the boot it was made in, and the wall clock's lead over its steady clock.

    `offset_ns` is wall time minus steady time when the record's window was opened.
    """

    boot: str
    offset_ns: int


class Record(NamedTuple):
    """One record with its place in the device's spool; sequences start at 1 and only grow within an epoch.

    `stamp` is what the spool knows of its clock. On the wire stands what follows from that: `moved_s`, the whole base
    windows, in seconds, by which the hub moves the record in time; None where nobody knows its time.
    """

    sequence: int
    kind: RecordKind
    data: bytes
    stamp: Stamp | None = None
    moved_s: int | None = 0


@dataclass(frozen=True, slots=True)
class BatchHead:
    """What a device says of itself with every sync.

    `complete_until_ns` says, by pipeline version, up to where every window this device closed is in this batch or
    was acknowledged before. Where newer windows go first it says so only from `complete_from_ns` on: what lies between
    that and what was complete before still waits. `waiting` counts, by kind, what waits besides this batch; `backlog`
    how many of these only wait for their turn (the others wait for the budget).

    `epoch` is that of this batch, `newest_epoch` that of records made now, where it is another. `previous` is what the
    reply to the last acknowledged batch named as `synced`, `first_kept` the oldest record of the epoch that the device
    still has (one more than the last where it has none). `clock` says how far the hub's clock is ahead of the device's,
    as the device estimates it: `offset_ns`, and by how much that may be wrong, `error_ns`; empty before it knows.

    `pipelines` says, by pipeline version, how it fares (`running`, `starting`, `waiting …` for a program that observes,
    `error: …`); `sources` the state of each camera (`starting`, `ok`, `camera lost`, `feed frozen`, `ended`,
    `error: …`); `serving` is the URL on which this device answers inferences, if any.

    `grids` holds the edges of grids that windows of this batch were counted on and the desired state does not name (any
    more): a hub that was restored from a backup may not know them.
    """

    device: str
    epoch: str
    protocol: int = PROTOCOL
    revision: str = ""
    wall_ns: int = 0
    monotonic_ns: int = 0
    boot_id: str = ""
    software: str = ""
    newest_epoch: str = ""
    previous: int = 0
    first_kept: int = 0
    clock: Mapping[str, int] = field(default_factory=dict)
    backlog: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    serving: str | None = None
    complete_until_ns: Mapping[str, int] = field(default_factory=dict)
    complete_from_ns: Mapping[str, int] = field(default_factory=dict)
    pipelines: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)


_HEAD = tuple(BatchHead.__dataclass_fields__)
_said = attrgetter(*_HEAD)


def encode_batch(head: BatchHead, records: Sequence[Record]) -> bytes:
    """Encode and compress one request body."""
    # What is empty is what a reader takes for granted.
    document: dict[str, Any] = {name: value for name, value in zip(_HEAD, _said(head), strict=True) if value}
    document["records"] = [_entry(one) for one in records]
    encoded = json.dumps(document, separators=(",", ":")).encode()
    body = b"".join([BATCH_MAGIC, varint(len(encoded)), encoded, *(one.data for one in records)])
    # zlib's own gzip has no time in it: the same batch is the same bytes, so that a repeated request has the same hash.
    stream = zlib.compressobj(6, wbits=GZIP)
    return stream.compress(body) + stream.flush()


def _entry(record: Record) -> list[Any]:
    """Return what the head says of a record; a time that is right, as most are, needs no word."""
    if record.moved_s == 0:
        return [record.sequence, record.kind, len(record.data)]
    return [record.sequence, record.kind, len(record.data), record.moved_s]


def _record(entry: Sequence[Any], reader: Reader) -> Record:
    sequence, kind, size, *moved = entry
    if len(moved) > 1 or any(one is not None and type(one) is not int for one in moved):
        raise WireError(f"record {sequence} moves by {moved}; that is a whole number of seconds, or null")
    return Record(int(sequence), kind, reader.take(int(size)), moved_s=moved[0] if moved else 0)


def decode_batch(body: bytes) -> tuple[BatchHead, list[Record]]:
    """Decode one request body, never inflating more than `BATCH_BYTES_MAX`.

    Raises:
        WireError: not a batch, torn, another protocol, or larger than a batch may be.
    """
    reader = Reader(inflate(body, BATCH_BYTES_MAX))
    if reader.take(4) != BATCH_MAGIC:
        raise WireError("not a batch of this protocol; update the older of device and hub")
    document = _object(reader.take(reader.varint()))
    try:
        records = [_record(entry, reader) for entry in document.pop("records")]
        known = {key: document[key] for key in BatchHead.__dataclass_fields__ if key in document}
        head = BatchHead(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, WireError) else WireError(f"a batch that cannot be read: {error}") from error
    _nothing_left(reader)
    if head.protocol != PROTOCOL:
        raise WireError(f"the device speaks protocol {head.protocol}, this hub {PROTOCOL}; update the older one")
    if any(one.kind not in {"window", "rows", "event"} for one in records):
        raise WireError("a record of unknown kind")
    return head, records


def inflate(body: bytes, bytes_max: int) -> bytes:
    """Decompress gzip, refusing to make more than `bytes_max` bytes of it.

    Raises:
        WireError: not gzip, torn, or larger than that.
    """
    stream = zlib.decompressobj(wbits=GZIP)
    try:
        data = stream.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise WireError("the body is not gzip, or it was torn on the way") from error
    if len(data) > bytes_max:
        raise WireError(f"the body inflates to more than {bytes_max} bytes")
    if not stream.eof:
        raise WireError("the body was torn on the way")
    return data


@dataclass(frozen=True, slots=True)
class Reply:
    """What the hub answers: the batch's records (of `epoch`) up to `acknowledged` are committed, but for `conflicts`.

    `refused` names records the hub will never take, with the reason; they count as acknowledged. `conflicts` are
    numbers under which it holds other records: these are kept, and sent again under another epoch. `synced` is the
    number of the last request it knows to have committed; a device says it as `previous` with the next. `held` is None
    but where `previous` names a request the hub no longer knows, because it was restored from an older backup: then
    nothing was taken, and it is the ranges (first, last) of the epoch's records that it has. `desired` is None where
    the device already has `revision`.
    """

    epoch: str
    acknowledged: int
    now_ns: int
    sync_interval_s: float
    revision: str
    desired: "Desired | None" = None
    refused: Mapping[str, str] = field(default_factory=dict)
    conflicts: Sequence[int] = ()
    held: Sequence[tuple[int, int]] | None = None
    synced: int = 0


def encode_reply(reply: Reply) -> bytes:
    """Encode the reply as JSON."""
    document = {one.name: getattr(reply, one.name) for one in fields(reply)}
    document["desired"] = None if reply.desired is None else asdict(reply.desired)
    return json.dumps(document, separators=(",", ":")).encode()


def decode_reply(body: bytes) -> Reply:
    """Decode the reply; unknown keys of a newer hub are passed over."""
    document = _known(Reply, _object(body))
    try:
        desired = document.get("desired")
        document["desired"] = None if desired is None else desired_from(desired)
        document["conflicts"] = tuple(int(one) for one in document.get("conflicts") or ())
        held = document.get("held")
        document["held"] = None if held is None else tuple((int(first), int(last)) for first, last in held)
        return Reply(**document)
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a reply that cannot be read: {error}") from error


# ── desired state ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file a device downloads: its content's SHA-256 (hex) and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class VectorProjection:
    """How a vector is standardised, `(x - centre) / scale`, before it is projected; `seed` chooses the directions."""

    seed: int
    centre: Sequence[float]
    scale: Sequence[float]


@dataclass(frozen=True, slots=True)
class DesiredPipeline:
    """One pipeline version that a device runs.

    `id` is the pipeline version's id, `definition` the document of `driftline.pipeline.definition`, `files` the
    model files by model version id. `grids` says on which grid each field is counted (the universal grid where it
    is silent), `extra_fields` what to record besides the default. `rows_max`: how many inferences from the first
    on also travel as rows; None means all, 0 none. `limits`: `cpus` (number) and `memory_bytes` where set.
    `projections`, by the key of a vector (`out.embedding`), say how it becomes `out.embedding.projection.0` and so on.
    """

    id: str
    name: str
    definition: Mapping[str, Any]
    files: Mapping[str, BundleFile] = field(default_factory=dict)
    grids: Mapping[str, str] = field(default_factory=dict)
    extra_fields: Sequence[str] = ()
    rows_max: int | None = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    projections: Mapping[str, VectorProjection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a device should be running; `grids` holds the edges of every grid id that `pipelines` name.

    `rows_kb_a_day`: how many kilobytes (of 1,000) a day rows may take on the link; None means as many as there are.
    `newest_first`: what waits is sent beginning with the newest, so that after a long outage today is known first.
    """

    pipelines: Sequence[DesiredPipeline] = ()
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
    version: int = 1
    rows_kb_a_day: int | None = None
    newest_first: bool = False

    @property
    def revision(self) -> str:
        """Name this state: 16 hex digits, the same for the same content."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def desired_from(document: Mapping[str, Any]) -> Desired:
    """Read a desired state from JSON's objects; `dataclasses.asdict` writes it."""
    try:
        pipelines = tuple(_desired_pipeline(one) for one in document["pipelines"])
        grids = {str(key): tuple(float(edge) for edge in edges) for key, edges in document["grids"].items()}
        budget = document.get("rows_kb_a_day")
        return Desired(
            pipelines,
            grids,
            int(document["version"]),
            None if budget is None else int(budget),
            bool(document.get("newest_first", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"a desired state that cannot be read: {error}") from error


def _desired_pipeline(document: Mapping[str, Any]) -> DesiredPipeline:
    facts: dict[str, Any] = _known(DesiredPipeline, document)
    facts["files"] = {key: BundleFile(**_known(BundleFile, value)) for key, value in document["files"].items()}
    facts["extra_fields"] = tuple(document["extra_fields"])
    facts["projections"] = {key: _projection(one) for key, one in document.get("projections", {}).items()}
    return DesiredPipeline(**facts)


def _projection(document: Mapping[str, Any]) -> VectorProjection:
    centre, scale = (tuple(float(one) for one in document[name]) for name in ("centre", "scale"))
    if len(centre) != len(scale) or len(centre) < 2 or not all(scale):
        raise ValueError(f"a projection of {len(centre)} centres and {len(scale)} scales other than 0")
    return VectorProjection(int(document["seed"]), centre, scale)


# ── identity ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a person copies to a new device: where the hub is, how to know it, and a secret that works once.

    `fingerprint` is the hub certificate's SHA-256 (hex), None for a hub on loopback without TLS.
    """

    url: str
    secret: str
    fingerprint: str | None = None

    def __str__(self) -> str:
        """Return the token as one word."""
        document = {"u": self.url, "s": self.secret, "f": self.fingerprint}
        text = base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()
        return "dl1." + text.rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """Read a token.

        >>> JoinToken.parse(str(JoinToken("http://127.0.0.1:8710", "secret"))).url
        'http://127.0.0.1:8710'

        Raises:
            WireError: not a join token, or only a part of one.
        """
        word = text.strip()
        try:
            if not word.startswith("dl1."):
                raise ValueError(word)
            padded = word[4:] + "=" * (-len(word[4:]) % 4)
            document = _object(base64.b64decode(padded, altchars=b"-_", validate=True))
            return cls(str(document["u"]), str(document["s"]), document["f"])
        except (ValueError, KeyError) as error:
            raise WireError(
                "this is not a whole join token (it starts with 'dl1.'); "
                "copy it again from pipeline.publish().add_edge(…).token"
            ) from error


def signature(key: bytes, method: str, path: str, request: str, body: bytes) -> str:
    """Sign a request: HMAC-SHA256 (hex) over method, path, request number and the body's SHA-256."""
    message = "\n".join([method, path, request, hashlib.sha256(body).hexdigest()])
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def signed_headers(device: str, key: bytes, method: str, path: str, request: int, body: bytes) -> dict[str, str]:
    """Return the three headers that sign a request."""
    return {
        "Driftline-Device": device,
        "Driftline-Request": str(request),
        "Driftline-Signature": signature(key, method, path, str(request), body),
    }


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _version(reader: Reader) -> None:
    version = reader.take(1)[0]
    if version != 1:
        raise WireError(f"a record of version {version}; this program reads version 1, update it")


def _nothing_left(reader: Reader) -> None:
    if reader.rest:
        raise WireError(f"{reader.rest} bytes too many")


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise WireError("not JSON") from error
    if not isinstance(document, dict):
        raise WireError("not a JSON object")
    return cast("dict[str, Any]", document)


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    names: Iterator[str] = iter(kind.__dataclass_fields__)  # pyright: ignore[reportAttributeAccessIssue]
    return {name: document[name] for name in names if name in document}


def _little_endian(kind: str, values: Sequence[Any]) -> bytes:
    numbers = array(kind, values)
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers.tobytes()


def _from_little_endian(kind: str, data: bytes) -> "array[Any]":
    numbers = array(kind)
    try:
        numbers.frombytes(data)
    except ValueError as error:
        raise WireError("a column that is not a whole number of values") from error
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"
