"""`driftline edge status`: one glance at a device, whether its agent runs or not."""

import threading
import time
from argparse import Namespace

import pytest

from driftline.clock import SystemClock
from driftline.edge import status
from driftline.edge.agent import Agent
from driftline.edge.home import Home
from driftline.errors import EntityNotFoundError


def test_a_running_agent_is_asked_and_a_stopped_one_remembered(joined_home: Home, capsys: pytest.CaptureFixture[str]):
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    lock = joined_home.lock()
    thread = threading.Thread(target=agent.serve)
    thread.start()
    while not joined_home.socket.exists() or not agent.status()["synced_ns"]:
        time.sleep(0.02)
    assert status.run(Namespace(home=joined_home.path)) == 0
    said = capsys.readouterr().out
    assert "agent     running since" in said
    assert "last sync 2" in said
    agent.stop()
    thread.join()
    lock.close()
    assert status.run(Namespace(home=joined_home.path)) == 1
    said = capsys.readouterr().out
    assert "not running; start it with: driftline edge run" in said
    assert "waiting   0 records" in said


def test_every_fact_has_its_line():
    state = {"started_ns": 0, "clock": "fast time", "sync_error": "no link", "backlog": 3, "backlog_bytes": 99}
    state |= {"refused": 1, "names": {"pv": "doors"}, "pipelines": {"pv": "running"}, "limits": {"pv": "cgroup v2"}}
    state |= {"sources": {"0": "camera lost"}, "serving": "http://127.0.0.1:8080"}
    state |= {"rows_kb_a_day": 200, "conflict_ns": 5}
    text = "\n".join(status.lines(state, running=True))
    for words in (
        *(
            "1970-01-01T00:00:00+00:00",
            "fast time",
            "never synced; no link",
            "3 records, 99 bytes",
            "1 records by the hub",
        ),
        *("at most 200 kB a day", "another machine syncs as this device"),
        *("doors: running (cgroup v2)", "0: camera lost", "http://127.0.0.1:8080"),
    ):
        assert words in text
    assert "deploy or publish" in "\n".join(status.lines({}, running=True))


def test_a_folder_without_a_device_says_how_to_join(joined_home: Home):
    with pytest.raises(EntityNotFoundError, match="join"):
        status.run(Namespace(home=joined_home.path / "other"))


@pytest.mark.parametrize(
    ("ahead_s", "error_s", "words"),
    [
        (0.25, 0.1, "clock     right: 0.2 s behind the hub's"),
        (
            -11_520,
            1.0,
            "clock     3 h 12 min ahead of the hub's; the hub puts what is counted where it belongs. Set it",
        ),
        (1.77e9, 1.0, "clock     56 years behind the hub's; "),
        (40.0, 20.0, "clock     40 s behind the hub's, or right"),
    ],
)
def test_how_right_the_clock_is_has_its_words(ahead_s: float, error_s: float, words: str):
    text = "\n".join(status.lines({"hub_ahead_s": ahead_s, "clock_error_s": error_s}, running=True))
    assert words in text


def test_before_the_hub_has_answered_nobody_knows_whether_the_clock_is_right():
    text = "\n".join(status.lines({"now_ns": 5 * 10**9, "hub_ahead_s": None}, running=True))
    assert "clock     shows 1970-01-01T00:00:05+00:00; whether that is right is known when" in text
