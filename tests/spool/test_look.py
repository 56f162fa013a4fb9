"""A look at a spool from outside sees what waits, and changes nothing."""

import sqlite3
from pathlib import Path

import pytest

from driftline.spool.look import Look, look
from driftline.spool.spool import Spool
from driftline.wire.device import WindowRecord, encode_event, encode_window

START_S = 1_767_261_600
NS_PER_S = 10**9


def opened(path: Path) -> Spool:
    return Spool(path, now_ns=lambda: START_S * NS_PER_S)


def window(minute: int) -> bytes:
    return encode_window(WindowRecord("pv", START_S + 60 * minute, 60, 0, ()))


@pytest.mark.parametrize("closed", [True, False])
def test_it_says_how_much_waits_and_since_when(tmp_path: Path, closed: bool):
    path = tmp_path / "spool ?#.db"
    spool = opened(path)
    for minute in (3, 4):
        spool.append("window", window(minute))
    spool.append("event", encode_event("camera_lost", (START_S + 500) * NS_PER_S))
    spool.append("rows", b"x" * 100)
    if closed:
        spool.close()
    seen = look(path, thorough=True)
    assert seen is not None
    assert (seen.trouble, dict(seen.waiting), seen.aside) == ("", {"window": 2, "event": 1, "rows": 1}, False)
    assert seen.waiting_bytes == 2 * len(window(3)) + len(encode_event("camera_lost", (START_S + 500) * NS_PER_S)) + 100
    assert seen.oldest_ns == (START_S + 180) * NS_PER_S
    # It is no writer: one works on beside it.
    if not closed:
        assert spool.append("rows", b"y") == 5
        spool.close()


def test_what_is_not_there_what_cannot_be_read_and_what_was_put_aside(tmp_path: Path):
    path = tmp_path / "spool.db"
    assert look(path) is None
    path.write_bytes(b"not a database" * 500)
    seen = look(path)
    assert seen is not None
    assert "not a database" in seen.trouble
    opened(path).close()  # puts it aside
    seen = look(path)
    assert seen is not None
    assert (seen.trouble, seen.aside) == ("", True)


def test_a_damaged_page_is_found_when_it_looks_thoroughly(tmp_path: Path):
    path = tmp_path / "spool.db"
    spool = opened(path)
    for minute in range(400):
        spool.append("window", window(minute))
    spool.close()
    whole = path.read_bytes()
    pages = len(whole) // 4096
    path.write_bytes(whole[: (pages // 2) * 4096] + b"\x55" * 4096 + whole[(pages // 2 + 1) * 4096 :])
    seen = look(path, thorough=True)
    assert seen is not None
    assert seen.trouble


def test_an_empty_spool_is_healthy(tmp_path: Path):
    opened(tmp_path / "spool.db").close()
    seen = look(tmp_path / "spool.db", thorough=True)
    assert isinstance(seen, Look)
    assert (seen.trouble, dict(seen.waiting), seen.oldest_ns) == ("", {}, None)


SCHEMAS = {
    1: """
        CREATE TABLE records (sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, data BLOB NOT NULL);
        """,
    2: """
        CREATE TABLE records_window (sequence INTEGER PRIMARY KEY, boot TEXT, offset_ns INTEGER, data BLOB NOT NULL);
        CREATE TABLE records_rows (sequence INTEGER PRIMARY KEY, boot TEXT, offset_ns INTEGER, data BLOB NOT NULL);
        CREATE TABLE records_event (sequence INTEGER PRIMARY KEY, boot TEXT, offset_ns INTEGER, data BLOB NOT NULL);
        CREATE TABLE acknowledged (
            kind TEXT, first INTEGER, last INTEGER NOT NULL, PRIMARY KEY (kind, first)) WITHOUT ROWID;
        """,
}
SCHEMAS[3] = SCHEMAS[2]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_reads_every_schema_there_was_and_leaves_out_what_was_acknowledged(tmp_path: Path, schema: int):
    path = tmp_path / "spool.db"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMAS[schema] + f"PRAGMA user_version={schema};")
    waits = [(4, window(4)), (9, window(9))]
    if schema == 1:
        connection.executemany("INSERT INTO records VALUES (?, 'window', ?)", waits)
    else:
        history = [(2, window(2)), (6, window(6))]
        connection.executemany("INSERT INTO records_window VALUES (?, NULL, NULL, ?)", waits + history)
        connection.executemany("INSERT INTO acknowledged VALUES ('window', ?, ?)", [(1, 3), (5, 8)])
        connection.execute("INSERT INTO acknowledged VALUES ('rows', 1, 9)")
    connection.commit()
    connection.close()
    seen = look(path, thorough=True)
    assert seen is not None
    assert (seen.schema, dict(seen.waiting), seen.trouble) == (schema, {"window": 2}, "")
    assert seen.oldest_ns == (START_S + 240) * NS_PER_S
