"""docs/sync-protocol.md says what the code does: its bytes are decoded, its names and numbers compared."""

import gzip
import re
from dataclasses import fields
from pathlib import Path

import pytest

from driftline.clock import NS_PER_S
from driftline.edge import exchange, shipper, timekeeping, transport
from driftline.hub import check, ingest
from driftline.hub.http import STATUS
from driftline.spool import drops
from driftline.wire.device import (
    BATCH_BYTES_MAX,
    BUNDLE_PATH,
    JOIN_PATH,
    PROTOCOL,
    SYNC_PATH,
    BatchHead,
    Desired,
    JoinToken,
    Record,
    Reply,
    WindowRecord,
    decode_batch,
    decode_event,
    decode_window,
    encode_batch,
    encode_event,
    encode_window,
    signature,
    signed_headers,
)

PAGE = (Path(__file__).parents[2] / "docs" / "sync-protocol.md").read_text(encoding="utf-8")
HEAD = BatchHead(
    "camera-1", "5eb1c0de", previous=1_767_261_000_000, first_kept=41, complete_until_ns={"pv": 1_767_261_660 * 10**9}
)
RECORDS = [
    Record(41, "window", encode_window(WindowRecord("pv", 1_767_261_600, 60, 0, ()))),
    Record(42, "event", encode_event("camera_lost", 1_767_261_630 * 10**9, source="0"), moved_s=-60),
]


def section(title: str) -> str:
    return PAGE[PAGE.index(f"# {title}\n") :].split("\n#", 1)[0]


def block(text: str, beginning: str) -> str:
    return next(one for one in re.findall(r"```\n(.*?)```", text, re.DOTALL) if one.startswith(beginning))


def test_the_bytes_on_the_page_are_a_batch():
    lines = block(section("Bytes"), "444c4231").splitlines()
    data = bytes.fromhex("".join(line.split("  ")[0] for line in lines))
    head, records = decode_batch(gzip.compress(data))
    assert (head, records) == (HEAD, RECORDS)
    assert decode_window(records[0].data).start_s == 1_767_261_600
    assert decode_event(records[1].data)["source"] == "0"
    assert data == gzip.decompress(encode_batch(HEAD, RECORDS))


def test_the_head_on_the_page_is_the_one_in_the_bytes():
    shown = block(section("Bytes"), '{"device"')
    inflated = gzip.decompress(encode_batch(HEAD, RECORDS))
    assert "".join(shown.splitlines()).encode() in inflated


def test_the_signature_on_the_page_is_right():
    text = block(section("Signature"), "POST")
    method, path, request, digest = text.splitlines()
    assert path == SYNC_PATH
    assert digest in text
    assert signature(bytes(range(32)), method, path, request, b"") in section("Signature")
    assert all(name in section("Signature") for name in signed_headers("", b"", "", "", 0, b""))


@pytest.mark.parametrize(("kind", "title"), [(BatchHead, "Batch"), (Reply, "Reply"), (Desired, "Reply")])
def test_every_name_is_explained(kind: type, title: str):
    named = set(re.findall(r"`(\w+)`", section(title)))
    assert {one.name for one in fields(kind)} - named == set()


def test_a_table_of_the_page_names_nothing_else():
    for kind, title, also in ((BatchHead, "Batch", {"records"}), (Reply, "Reply", set[str]())):
        rows = re.findall(r"^\| (`.*?`) \|", section(title), re.MULTILINE)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert named == {one.name for one in fields(kind)} | also


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("# The sync protocol, version {}", PROTOCOL),
        ("`POST {}`", SYNC_PATH),
        ("`POST {}`", JOIN_PATH),
        ("`GET {}", BUNDLE_PATH),
        ("A token is `{}", str(JoinToken("http://127.0.0.1", ""))[:4]),
        ("| a batch, inflated | {} bytes", BATCH_BYTES_MAX),
        ("devices send about {} |", exchange.BATCH_BYTES),
        ("at first at most {} bytes", exchange.BATCH_BYTES_FIRST),
        ("more, up to {};", exchange.BATCH_BYTES),
        ("but at least {}.", exchange.BATCH_BYTES_LEAST),
        ("carries nothing for {:.0f} s.", transport.TIMEOUT_S),
        ("| an event | {} bytes |", check.EVENT_BYTES_MAX),
        ("| fields of a window, columns of rows | {} |", check.FIELDS_MAX),
        ("| a field's key | {} characters |", check.KEY_CHARACTERS_MAX),
        ("| a time ahead of the hub's | {} s;", check.AHEAD_MAX_S),
        ("puts them less than {} s from", timekeeping.HELD_MAX_NS // NS_PER_S),
        ("| the earliest window | {} (", check.TIME_MIN_S),
        ("a random name, at most {} characters", ingest.EPOCH_CHARACTERS_MAX),
        ("is room ({} MB", drops.HISTORY_BYTES_MAX // 1024**2),
        ("no less than {} of it |", shipper.INTERVAL_JITTER_SHARE),
        ("no less than {} of it |", shipper.JITTER_SHARE),
        ("| after a failure | {:.0f} s", shipper.BACK_OFF_FIRST_S),
        ("at least {:.0f} s", shipper.BACK_OFF_MAX_LEAST_S),
        ("at most {:.0f} s)", shipper.BACK_OFF_MAX_S),
        ("at most {:.0f} s whatever", shipper.BACK_OFF_MAX_S),
        ("at most {} times in", shipper.HURRIES_MAX),
        ("times in {:.0f} s |", shipper.HURRY_SPAN_S),
    ],
)
def test_its_numbers_are_those_of_the_code(words: str, value: object):
    assert words.format(value) in " ".join(PAGE.split("\n"))


def test_its_errors_have_the_status_the_hub_gives():
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section("Errors"), re.MULTILINE)
    assert len(rows) == 5
    assert {code: int(status) for status, code in rows}.items() <= STATUS.items()
