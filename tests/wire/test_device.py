"""The device protocol: what is written is read back, and what is torn, foreign or too large is refused."""

import gzip
import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.wire.device import (
    BATCH_MAGIC,
    BatchHead,
    BundleFile,
    Desired,
    DesiredPipeline,
    FieldSummary,
    JoinToken,
    Reader,
    Record,
    Reply,
    RowsRecord,
    WindowReader,
    WindowRecord,
    WireError,
    decode_batch,
    decode_event,
    decode_reply,
    decode_rows,
    decode_window,
    desired_from,
    encode_batch,
    encode_event,
    encode_reply,
    encode_rows,
    encode_window,
    inflate,
    signature,
    signed_headers,
    varint,
    window_head,
)

GRID = "0123456789abcdef"
WINDOW = WindowRecord("pv-1", 1_767_261_600, 60, 3, (FieldSummary("out.größe", GRID, b"\x01\x02"),))
ROWS = RowsRecord(
    "pv-1",
    1_767_261_600,
    60,
    True,
    [1, 2],
    {"out.x": ("d", [0.5, None]), "in.f": ("f", [1.5, 2.5]), "in.n": ("q", [-1, 2**62]), "out.t": ("s", ["é", None])},
)


@given(st.integers(0, 2**64 - 1))
def test_every_varint_is_read_back(number: int):
    reader = Reader(varint(number))
    assert reader.varint() == number
    assert reader.rest == 0


def test_a_varint_that_never_ends_is_refused():
    with pytest.raises(WireError, match="64 bits"):
        Reader(b"\x80" * 20).varint()
    with pytest.raises(WireError, match="never negative"):
        varint(-1)


def test_a_window_is_read_back_as_it_was():
    assert decode_window(encode_window(WINDOW)) == WINDOW


@given(data=st.data())
def test_windows_that_are_read_one_after_the_other_are_what_each_is_alone(data: st.DataObject):
    named = st.lists(st.tuples(st.sampled_from(["f", "ff", "é"]), st.sampled_from([GRID, "0" * 16])), max_size=3)
    draw = st.lists(st.tuples(named, st.binary(max_size=140), st.integers(0, 2**40)), max_size=6)
    reader = WindowReader()
    for names, summary, count in data.draw(draw):
        fields = tuple(FieldSummary(key, grid_id, summary) for key, grid_id in names)
        window = WindowRecord("pv", 60 * count, 60, count, fields)
        encoded = encode_window(window)
        assert reader.read(encoded) == window
        torn = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
        with pytest.raises(WireError):
            reader.read(torn)


def test_the_bytes_of_a_window_are_these_for_ever():
    # By hand from the layout: version, "p", 60, 60, 1 inference, 1 field "f", grid, 2 bytes.
    window = WindowRecord("p", 60, 60, 1, (FieldSummary("f", GRID, b"\xaa\xbb"),))
    assert encode_window(window).hex() == "0101703c3c010101660123456789abcdef02aabb"


def test_rows_are_read_back_with_nan_for_missing_numbers():
    rows = decode_rows(encode_rows(ROWS))
    assert (rows.pipeline, rows.start_s, rows.width_s, rows.complete) == ("pv-1", 1_767_261_600, 60, True)
    assert list(rows.times_ns) == [1, 2]
    assert rows.columns["out.x"][1][0] == 0.5
    assert math.isnan(rows.columns["out.x"][1][1])
    assert list(rows.columns["in.n"][1]) == [-1, 2**62]
    assert rows.columns["out.t"] == ("s", ["é", None])


def test_a_column_of_another_length_is_not_written():
    with pytest.raises(WireError, match="1 values for 2 rows"):
        encode_rows(RowsRecord("p", 0, 60, True, [1, 2], {"x": ("d", [1.0])}))


@pytest.mark.parametrize("encoded", [encode_window(WINDOW), encode_rows(ROWS)], ids=["window", "rows"])
def test_a_record_torn_anywhere_or_of_another_version_is_refused(encoded: bytes):
    decode = decode_window if encoded == encode_window(WINDOW) else decode_rows
    for size in range(len(encoded)):
        with pytest.raises(WireError):
            decode(encoded[:size])
    with pytest.raises(WireError, match="version 2"):
        decode(b"\x02" + encoded[1:])
    with pytest.raises(WireError, match="too many"):
        decode(encoded + b"x")


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_and_never_crash(data: bytes):
    for decode in (decode_window, window_head, decode_rows, decode_event, decode_batch, decode_reply):
        try:
            decode(data)
        except WireError:
            continue


@given(st.text(max_size=150), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.data())
def test_the_head_of_a_window_is_the_windows_own_or_refused(
    pipeline: str, start_s: int, count: int, data: st.DataObject
):
    encoded = encode_window(WindowRecord(pipeline, start_s, 60, count, ()))
    assert window_head(encoded) == (pipeline, start_s, 60, count)
    with pytest.raises(WireError):
        window_head(encoded[: data.draw(st.integers(0, len(encoded) - 2))])
    with pytest.raises(WireError, match="version 2"):
        window_head(b"\x02" + encoded[1:])


def test_a_number_of_more_than_64_bits_is_refused_in_the_head_of_a_window():
    with pytest.raises(WireError, match="64 bits"):
        window_head(b"\x01\x02pv" + b"\x80" * 12 + b"\x01" * 20)


def test_an_event_has_a_type_and_a_time():
    assert decode_event(encode_event("camera_lost", 5, source="0"))["source"] == "0"
    for wrong in (b"[]", b"{}", b'{"type": 1, "at_ns": 2}', b"\xff"):
        with pytest.raises(WireError):
            decode_event(wrong)


HEAD = BatchHead("camera-1", "epoch", complete_until_ns={"pv": 60}, sources={"0": "ok"})


def test_a_batch_is_read_back_and_is_the_same_bytes_each_time():
    records = [Record(3, "window", b"abc"), Record(4, "rows", b""), Record(9, "event", b"{}")]
    body = encode_batch(HEAD, records)
    assert decode_batch(body) == (HEAD, records)
    assert encode_batch(HEAD, records) == body


def test_a_torn_batch_is_never_taken_for_a_short_one():
    body = encode_batch(HEAD, [Record(n, "window", bytes([n]) * 50) for n in range(1, 20)])
    for size in range(len(body)):
        with pytest.raises(WireError):
            decode_batch(body[:size])


def test_a_bomb_is_not_inflated():
    with pytest.raises(WireError, match="more than 1000 bytes"):
        inflate(gzip.compress(b"\0" * 10_000_000), 1000)


def batch_of(document: dict[str, object]) -> bytes:
    encoded = json.dumps(document).encode()
    return gzip.compress(BATCH_MAGIC + varint(len(encoded)) + encoded)


def test_a_batch_of_another_protocol_or_kind_is_refused_and_unknown_words_are_passed_over():
    base = {"device": "d", "epoch": "e", "records": [], "of the future": 1}
    assert decode_batch(batch_of(base))[0] == BatchHead("d", "e")
    with pytest.raises(WireError, match="protocol 2"):
        decode_batch(batch_of(base | {"protocol": 2}))
    with pytest.raises(WireError, match="unknown kind"):
        decode_batch(batch_of(base | {"records": [[1, "photo", 0]]}))
    with pytest.raises(WireError, match="not a batch"):
        decode_batch(gzip.compress(b"DLB9"))


DESIRED = Desired(
    (DesiredPipeline("pv", "doors", {"version": 1}, {"m": BundleFile("ab", 3)}, {"out.x": GRID}, ("out.y.3",), None),),
    {GRID: (0.1, 1.0)},
)


def test_a_reply_is_read_back_with_what_is_desired():
    reply = Reply("e", 7, 5, 60.0, DESIRED.revision, DESIRED, {"3": "a NaN"})
    assert decode_reply(encode_reply(reply)) == reply
    assert decode_reply(encode_reply(Reply("e", 7, 5, 60.0, "r"))).desired is None


def test_a_desired_state_has_one_name_on_both_sides():
    read = desired_from(json.loads(json.dumps(asdict(DESIRED))))
    assert read == DESIRED
    assert read.revision == DESIRED.revision
    assert Desired().revision != DESIRED.revision


def test_a_desired_state_that_cannot_be_read_is_refused():
    for wrong in ({}, {"pipelines": [{}], "grids": {}, "version": 1}, {"pipelines": [1], "grids": {}, "version": 1}):
        with pytest.raises(WireError):
            desired_from(wrong)


def test_a_join_token_is_one_word_and_half_a_word_is_refused():
    token = JoinToken("https://hub:8710", "secret", "ab" * 32)
    word = str(token)
    assert " " not in word
    assert JoinToken.parse(f" {word}\n") == token
    for wrong in (word[:-10], word[4:], "dl1.", "", "dl1.é"):
        with pytest.raises(WireError, match="whole join token"):
            JoinToken.parse(wrong)


def test_a_signature_covers_method_path_number_and_body():
    key = b"k" * 32
    signed = signed_headers("camera-1", key, "POST", "/p", 7, b"body")["Driftline-Signature"]
    assert signed == signature(key, "POST", "/p", "7", b"body")
    others = [
        signature(key, "GET", "/p", "7", b"body"),
        signature(key, "POST", "/q", "7", b"body"),
        signature(key, "POST", "/p", "8", b"body"),
        signature(key, "POST", "/p", "7", b"bodx"),
        signature(b"x" * 32, "POST", "/p", "7", b"body"),
    ]
    assert signed not in others
