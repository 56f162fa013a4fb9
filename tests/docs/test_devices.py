"""docs/devices.md says what the commands take and print."""

import re
import shlex
from pathlib import Path

import pytest

from driftline import cli
from driftline.clock import NS_PER_S, parse_iso
from driftline.edge import findings, service, status
from driftline.edge.findings import Disk
from driftline.edge.home import Home
from driftline.spool.look import Look

PAGE = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (?:sudo (?:-u \w+ )?)?driftline (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_one(command: str):
    assert cli.parser().parse_args(shlex.split(command)).runs


def test_there_are_commands():
    assert len(COMMANDS) >= 4


def test_the_status_it_shows_is_what_is_printed():
    now_ns = parse_iso("2026-03-02T09:18:31")
    state = {
        "started_ns": parse_iso("2026-03-01T06:00:12"),
        "hub_ahead_s": 0.1,
        "synced_ns": parse_iso("2026-03-02T09:14:31"),
        "names": {"pv": "shelf"},
        "pipelines": {"pv": "running"},
        "sources": {"rtsp://camera.example/stream": "ok"},
        "worker_ends": {"count": 1, "recent": [[now_ns - 3 * 3600 * NS_PER_S, "the worker was ended by SIGKILL"]]},
    }
    waits = Look(waiting={"window": 5}, waiting_bytes=2114, oldest_ns=now_ns - 240 * NS_PER_S)
    room = (Disk("the device's disk", "/", 9_100_000_000, 14_900_000_000, 0),)
    for line in status.lines(state, running=True, now_ns=now_ns, spool=waits, room=room):
        assert f"\n{line}\n" in PAGE


def test_its_table_of_what_the_doctor_looks_at_is_whole():
    rows = re.search(r"\| it looks at \| and says \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    assert rows is not None
    told = {name.strip() for row in rows[1].splitlines() for name in row.split("|")[1].split(",")}
    source = Path(str(findings.__file__)).read_text(encoding="utf-8").partition("# ── a hub")[0]
    assert told == set(re.findall(r'(?:about(?:, \w+)? = |Finding\()\s*"(\w+)"', source))


def test_the_units_name_and_its_times_are_those_of_the_unit():
    assert service.unit_name(Home("/var/lib/driftline/till-1")) == "driftline-till-1"
    text = service.unit(Home("/var/lib/driftline/till-1"), "driftline-till-1", "driftline", ["/bin/true"], 252)
    assert "WatchdogSec=60\n" in text
    assert "RestartSec=5\n" in text
    assert "Where it has not for 60 s it is killed" in PAGE
    assert "before, 5 s each time" in PAGE
