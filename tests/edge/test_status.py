"""`driftline edge status`: one glance at a device, whether its agent runs or not."""

import json
import threading
import time
from argparse import Namespace
from typing import Any

import pytest

from driftline.clock import NS_PER_S, SystemClock
from driftline.edge import status
from driftline.edge.agent import Agent
from driftline.edge.findings import Disk
from driftline.edge.home import Home
from driftline.errors import EntityNotFoundError
from driftline.spool.look import Look
from driftline.spool.spool import Spool


def test_a_running_agent_is_asked_and_a_stopped_one_remembered(joined_home: Home, capsys: pytest.CaptureFixture[str]):
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    lock = joined_home.lock()
    thread = threading.Thread(target=agent.serve)
    thread.start()
    while not joined_home.socket.exists() or not agent.status()["synced_ns"]:
        time.sleep(0.02)
    assert status.run(Namespace(home=joined_home.path, json=False)) == 0
    said = capsys.readouterr().out
    assert "agent     running since" in said
    assert "last sync 2" in said
    agent.stop()
    thread.join()
    lock.close()
    assert status.run(Namespace(home=joined_home.path, json=False)) == 1
    said = capsys.readouterr().out
    assert "not running; start it with: driftline edge run" in said
    assert "waiting   0 records" in said


def test_every_fact_has_its_line():
    state = {"started_ns": 0, "clock": "fast time", "sync_error": "no link", "backlog": 3, "backlog_bytes": 99}
    state |= {"refused": 1, "names": {"pv": "doors"}, "pipelines": {"pv": "running"}, "limits": {"pv": "cgroup v2"}}
    state |= {"sources": {"0": "camera lost"}, "serving": "http://127.0.0.1:8080"}
    state |= {"open_windows": "open windows are kept on the disk"}
    state |= {"rows_kb_a_day": 200, "newest_first": True, "conflict_ns": 5}
    state |= {"hub_ahead_s": 0.2, "worker_ends": {"count": 2, "recent": [[3600 * NS_PER_S, "the worker hung"]]}}
    waits = Look(waiting={"window": 2, "rows": 1}, waiting_bytes=99, oldest_ns=0)
    room = (Disk("the device's disk", "/", 5 * 10**9, 2 * 10**10, 0),)
    text = "\n".join(status.lines(state, running=True, now_ns=7200 * NS_PER_S, spool=waits, room=room))
    for words in (
        *(
            "1970-01-01T00:00:00+00:00",
            "fast time",
            "not synced since the agent started; no link",
            "3 records, 99 bytes, the oldest from 2 h ago",
            "the device's disk has 5.0 GB left of 20.0 GB",
            "worker    started again 2 times, last 1 h ago: the worker hung",
            "1 record by the hub",
        ),
        *("at most 200 kB a day", "the newest records go first", "another machine syncs as this device"),
        "open windows are kept on the disk",
        *("doors: running (cgroup v2)", "0: camera lost", "http://127.0.0.1:8080"),
    ):
        assert words in text
    assert "deploy or publish" in "\n".join(status.lines({}, running=True, now_ns=0))


def test_a_folder_without_a_device_says_how_to_join(joined_home: Home):
    with pytest.raises(EntityNotFoundError, match="join"):
        status.run(Namespace(home=joined_home.path / "other", json=False))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"hub_ahead_s": 0.4}, "clock     right: 0.4 s behind the hub's"),
        (
            {"hub_ahead_s": 86_400 * 3},
            (
                "clock     3 days behind the hub's; the hub puts what is counted where it belongs. "
                "Set it (date -s), or let it reach a time server (timedatectl set-ntp true)"
            ),
        ),
        (
            {"hub_ahead_s": -600.0, "clock_error_s": 900.0},
            "clock     10 min ahead of the hub's, or right: the hub's answer took long",
        ),
        (
            {"synced_ns": 0, "sync_error": "no route"},
            "hub       last sync 1970-01-01T00:00:00+00:00, 2 h ago; no route",
        ),
    ],
)
def test_clock_and_link_are_said_in_plain_words(state: dict[str, Any], said: str):
    assert said in list(status.lines(state, running=True, now_ns=7200 * NS_PER_S))


def test_a_spool_that_cannot_be_read_is_said_beside_what_the_agent_knows():
    spool = Look(trouble="file is not a database")
    told = list(status.lines({"backlog": 3, "backlog_bytes": 9}, running=False, now_ns=0, spool=spool))
    assert "waiting   3 records, 9 bytes; the spool cannot be read (file is not a database)" in told


def test_the_same_for_programs(joined_home: Home, capsys: pytest.CaptureFixture[str]):
    joined_home.save_state({"backlog": 3, "pid": 1})
    Spool(joined_home.spool, now_ns=lambda: 0).close()
    assert status.run(Namespace(home=joined_home.path, json=True)) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["device"], told["running"], told["backlog"]) == ("camera-1", False, 3)
    assert told["spool"]["trouble"] == ""
    assert told["disks"][0]["path"] == str(joined_home.path)


def test_before_the_hub_has_answered_nobody_knows_whether_the_clock_is_right():
    text = "\n".join(status.lines({"now_ns": 5 * 10**9, "hub_ahead_s": None}, running=True, now_ns=0))
    assert "clock     shows 1970-01-01T00:00:05+00:00; whether that is right is known when" in text
