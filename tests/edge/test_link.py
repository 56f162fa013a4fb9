"""The local protocol: a record is in the spool once, whatever happens between a worker and its agent."""

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from driftline.edge.link import Courier, Link, Server, left_messages, stamp_from
from driftline.errors import ConflictError, InvalidInputError, PermanentError, TemporaryError, UnreachableError
from driftline.wire.device import Stamp, decode_event


class Keeper:
    """An agent that keeps records in a list; `losing` replies are lost after the record was kept."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []
        self.keys: dict[str, int] = {}
        self.stamps: list[object] = []
        self.left: list[int] = []
        self.error: Exception | None = None
        self.losing = 0
        self.server: Server | None = None

    def answer(self, peer: int, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        if request["type"] != "record":
            return {"echo": dict(request)}
        if self.error is not None:
            raise self.error
        key = request.get("key", str(len(self.keys)))
        if key not in self.keys:
            self.records.append((request["kind"], payload))
            self.stamps.append(stamp_from(request.get("stamp")))
            self.keys[key] = len(self.records)
        if self.losing:
            self.losing -= 1
            assert self.server is not None
            self.server._peers[peer].shutdown(socket.SHUT_RDWR)
        return {"sequence": self.keys[key]}

    def gone(self, peer: int) -> None:
        self.left.append(peer)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    one = Keeper()
    one.server = Server(tmp_path / "agent.sock", one)
    yield one
    one.server.close()


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    one = Courier(lambda: tmp_path / "agent.sock", "worker", lambda: 5, bytes_max=1000)
    yield one
    one.close()


def test_requests_are_answered_in_order_and_by_several_threads(keeper: Keeper, tmp_path: Path):
    link = Link(tmp_path / "agent.sock")
    assert link.hello("worker")["echo"]["role"] == "worker"
    assert link.beat(revision="r")["echo"] == {"type": "beat", "revision": "r"}
    threads = [
        threading.Thread(target=lambda: [link.record("window", b"x" * 100_000) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keeper.records) == 40
    link.close()


def test_an_agents_refusal_arrives_as_itself(keeper: Keeper, tmp_path: Path):
    keeper.error = ConflictError("not now")
    with pytest.raises(ConflictError, match="not now"):
        Link(tmp_path / "agent.sock").record("window", b"")


def test_no_agent_says_how_to_start_one(tmp_path: Path):
    with pytest.raises(UnreachableError, match="driftline edge run"):
        Link(tmp_path / "agent.sock")


def test_a_record_whose_reply_was_lost_is_kept_once(keeper: Keeper, courier: Courier):
    keeper.losing = 1
    courier.put("window", b"a")
    courier.put("window", b"b")
    while not courier.flush():
        pass
    assert keeper.records == [("window", b"a"), ("window", b"b")]


def test_a_courier_keeps_everything_while_no_agent_is_there(tmp_path: Path, courier: Courier):
    courier.put("window", b"a")
    assert not courier.flush()
    assert courier.beat(revision="") is None
    keeper = Keeper()
    server = Server(tmp_path / "agent.sock", keeper)
    assert courier.flush()
    assert (keeper.records, courier.waiting) == ([("window", b"a")], 0)
    server.close()


def test_what_no_agent_takes_is_left_in_a_file_with_what_was_to_be_told(tmp_path: Path, courier: Courier):
    courier.put("window", b"a", Stamp("boot", 5))
    courier.put("rows", b"b" * 300)
    courier.leave(tmp_path, complete_until_ns={"pv": 60})
    assert courier.waiting == 0
    ((path, messages),) = left_messages(tmp_path)
    assert [(header.get("kind"), data) for header, data in messages] == [
        ("window", b"a"),
        ("rows", b"b" * 300),
        (None, b""),
    ]
    assert [header.get("stamp") for header, _ in messages] == [["boot", 5], None, None]
    keys = [header["key"] for header, _ in messages[:2]]
    assert [key.rpartition(":")[2] for key in keys] == ["1", "2"]
    assert messages[2][0] == {"type": "beat", "role": "worker", "complete_until_ns": {"pv": 60}}
    path.write_bytes(path.read_bytes()[:-100])
    ((_, before_the_damage),) = left_messages(tmp_path)
    assert [data for _, data in before_the_damage] == [b"a"]


def test_a_stamp_travels_with_its_record(keeper: Keeper, courier: Courier):
    courier.put("window", b"a", Stamp("boot", -(2**62)))
    courier.put("window", b"b")
    assert courier.flush()
    assert keeper.stamps == [Stamp("boot", -(2**62)), None]


@pytest.mark.parametrize("told", ["boot", ["boot"], ["boot", 2**63], [5, 5], ["boot", 1.5], {}, ["boot", True, 0]])
def test_what_is_no_stamp_is_refused(told: object):
    with pytest.raises(InvalidInputError, match="a stamp is"):
        stamp_from(told)


def test_an_agent_without_room_is_asked_again_later(keeper: Keeper, courier: Courier):
    keeper.error = TemporaryError("the disk is full")
    courier.put("window", b"a")
    assert not courier.flush()
    keeper.error = None
    assert courier.flush()
    assert keeper.records == [("window", b"a")]


def test_a_record_the_agent_never_takes_does_not_hold_up_the_others(keeper: Keeper, courier: Courier):
    keeper.error = InvalidInputError("not a window")
    courier.put("window", b"bad")
    assert courier.flush()
    keeper.error = None
    courier.put("window", b"good")
    assert courier.flush()
    assert keeper.records[0] == ("window", b"good") or keeper.records[1] == ("window", b"good")
    (event,) = (decode_event(data) for kind, data in keeper.records if kind == "event")
    assert (event["type"], event["counts"]) == ("dropped", {"window": 1})


def test_without_room_rows_go_first_then_the_oldest_windows_and_the_loss_is_told(tmp_path: Path, courier: Courier):
    courier.put("window", b"1" * 300)
    courier.put("rows", b"r" * 300)
    courier.put("window", b"2" * 300)
    courier.put("window", b"3" * 300)
    courier.put("window", b"4" * 300)
    keeper = Keeper()
    server = Server(tmp_path / "agent.sock", keeper)
    assert courier.flush()
    assert [data[:1] for kind, data in keeper.records if kind == "window"] == [b"2", b"3", b"4"]
    (event,) = (decode_event(data) for kind, data in keeper.records if kind == "event")
    assert event == {"type": "dropped", "at_ns": 5, "where": "worker", "counts": {"rows": 1, "window": 1}}
    server.close()


def test_a_peer_that_hangs_up_is_forgotten_and_nonsense_hurts_nobody(keeper: Keeper, tmp_path: Path):
    for nonsense in (b"\x01\0", struct.pack("<I", 2**31), struct.pack("<I", 2) + b"[]" + b"\0\0\0\0"):
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(tmp_path / "agent.sock"))
        raw.sendall(nonsense)
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(10) == b""
        raw.close()
    link = Link(tmp_path / "agent.sock")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        link.ask({"no": "type"})
    assert link.status()["ok"]
    assert len(keeper.left) == 3


def test_a_socket_left_by_a_killed_agent_is_replaced_and_a_closed_server_hangs_up(tmp_path: Path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "agent.sock"))
    server = Server(tmp_path / "agent.sock", Keeper())
    link = Link(tmp_path / "agent.sock")
    server.close()
    with pytest.raises(UnreachableError):
        link.status()
    assert not (tmp_path / "agent.sock").exists()
    left.close()


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(PermanentError, match="another user"):
        Server(tmp_path / "agent.sock", Keeper())
