"""What each fact about a device means: one sentence, and the way out where something is wrong."""

from dataclasses import replace
from typing import Any

import pytest

from driftline.clock import NS_PER_S
from driftline.edge.findings import Disk, Facts, Finding, HubFacts, Probe, Unit, findings, hub_findings, well
from driftline.spool.look import Look

NOW_NS = 1_767_261_600 * NS_PER_S
HOUR_NS = 3600 * NS_PER_S
STATE: dict[str, Any] = {
    "pid": 7,
    "hub_ahead_s": 0.2,
    "refused": 0,
    "names": {"pv": "shelf"},
    "pipelines": {"pv": "running"},
    "sources": {"rtsp://door": "ok"},
}
ROOM = Disk("the device's disk", "/var/lib/driftline/till", 10**10, 10**11, 10**8)
GOOD = Facts(
    home="/var/lib/driftline/till",
    now_ns=NOW_NS,
    python="3.12.1",
    name="till-1",
    url="https://hub.example:8710",
    running=True,
    answers=True,
    silent_s=3.0,
    state=STATE,
    unit=Unit("driftline-till", True, "enabled", "active"),
    probe=Probe("answered", status=404, ahead_s=0.4),
    disks=(ROOM,),
    spool=Look(),
)


def about(facts: Facts, what: str) -> Finding:
    """The one finding about this, the only one that is not good news."""
    found = list(findings(facts))
    (one,) = (one for one in found if one.about == what and (one.verdict != "ok" or len(found) == 1))
    return one


def told(**state: Any) -> Facts:
    return replace(GOOD, state=STATE | state)


def test_of_a_device_that_is_well_only_good_is_said():
    found = list(findings(GOOD))
    assert {one.verdict for one in found} == {"ok"}
    assert well(found)
    assert [one.about for one in found] == [
        *("software", "home", "agent", "service", "hub", "clock", "disk", "spool", "pipeline", "camera")
    ]


WRONG: dict[str, tuple[Facts, str, str, str]] = {
    "no libraries": (
        replace(GOOD, missing=("onnxruntime",), wants_models=True),
        "software",
        "onnxruntime is missing",
        "pip install 'driftline[edge]'",
    ),
    "no device": (replace(GOOD, joined=False), "home", "no device lives", "driftline edge join TOKEN --home /var/lib"),
    "a foreign home": (replace(GOOD, trouble="it belongs to x; sudo -u x"), "home", "belongs to x", "sudo -u x"),
    "a stopped service": (replace(GOOD, running=False), "agent", "does not run", "systemctl start driftline-till"),
    "a stopped agent": (
        replace(GOOD, running=False, unit=None),
        "agent",
        "does not run",
        "driftline edge run --home /var/lib/driftline/till",
    ),
    "a hub's own stopped device": (replace(GOOD, running=False, local=True), "agent", "does not run", "driftline up"),
    "an agent that does not answer": (
        replace(GOOD, answers=False),
        "agent",
        "pid 7",
        "systemctl restart driftline-till",
    ),
    "an agent that hangs": (replace(GOOD, silent_s=600.0, unit=None), "agent", "10 min", "end it and start it again"),
    "a unit that is not enabled": (
        replace(GOOD, unit=Unit("driftline-till", True, "disabled", "active")),
        "service",
        "does not start with this machine",
        "systemctl enable --now driftline-till",
    ),
    "a unit that failed": (
        replace(GOOD, unit=Unit("driftline-till", True, "enabled", "failed")),
        "service",
        "is failed",
        "journalctl -u driftline-till",
    ),
    "no name": (replace(GOOD, probe=Probe("name", "Name or service not known")), "hub", "has no address here", "DNS"),
    "no connection": (
        replace(GOOD, probe=Probe("connection", "Connection refused")),
        "hub",
        "nobody answers at https://hub.example:8710 (Connection refused)",
        "firewall",
    ),
    "no TLS": (replace(GOOD, probe=Probe("tls", "WRONG_VERSION_NUMBER")), "hub", "speaks no TLS", "proxy"),
    "another hub": (
        replace(GOOD, probe=Probe("certificate")),
        "hub",
        "is not the hub",
        "edge join TOKEN --anew",
    ),
    "a proxy": (replace(GOOD, probe=Probe("http", "", 502)), "hub", "status 502", "proxy"),
    "a removed device": (
        replace(GOOD, probe=Probe("answered", refusal="it was removed: join again with a new token")),
        "hub",
        "refuses this device",
        "join again",
    ),
    "a failing sync": (told(sync_error="the batch is too large"), "hub", "too large", "journalctl -u driftline-till"),
    "a clone": (told(conflict_ns=NOW_NS - HOUR_NS), "identity", "used this device's identity 60 min ago", "--anew"),
    "a clock that is behind": (told(hub_ahead_s=86_400.0 * 3), "clock", "3.0 days behind", "timedatectl set-ntp true"),
    "a clock that is ahead, the agent stopped": (
        replace(GOOD, running=False, probe=Probe("answered", ahead_s=-7200.0)),
        "clock",
        "2 h ahead of",
        "timedatectl",
    ),
    "a full disk": (replace(GOOD, disks=(replace(ROOM, free_bytes=10**7),)), "disk", "10.0 MB left", "make room"),
    "a spool that cannot be read": (
        replace(GOOD, spool=Look("file is not a database")),
        "spool",
        "file is not a database",
        "dmesg",
    ),
    "a spool that was put aside": (replace(GOOD, spool=Look(aside=True)), "spool", "spool.db.damaged", "remove it"),
    "a backlog with a hub that answers": (
        replace(GOOD, spool=Look(waiting={"window": 9}, waiting_bytes=900, oldest_ns=NOW_NS - 5 * HOUR_NS)),
        "spool",
        "9 records (900 B) wait for the hub, the oldest from 5 h ago",
        "journalctl",
    ),
    "refused records": (told(refused=4), "refused", "4 records", "update"),
    "a failing model": (told(pipelines={"pv": "error: shape"}), "pipeline", "shelf fails (shape)", "publish a version"),
    "a lost camera": (told(sources={"rtsp://door": "camera lost"}), "camera", "gives no frames", "power"),
    "a frozen feed": (told(sources={"rtsp://door": "feed frozen"}), "camera", "repeats one frame", "anew"),
    "no such camera": (told(sources={"9": "error: no camera 9"}), "camera", "no camera 9", "--camera"),
    "a worker in a loop": (
        told(
            worker_ends={
                "count": 9,
                "recent": [[NOW_NS - n * 60 * NS_PER_S, "it ended with code 1"] for n in (3, 2, 1)],
            }
        ),
        "worker",
        "3 times in 10 min, last 60 s ago: it ended with code 1",
        "journalctl",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_the_way_out(case: str):
    facts, what, said, way_out = WRONG[case]
    (one,) = (one for one in findings(facts) if one.about == what and one.verdict == "wrong")
    assert said in one.text
    assert way_out in one.text
    assert "\n" not in one.text
    assert not well([one])


NOTES: dict[str, tuple[Facts, str, str]] = {
    "no unit": (replace(GOOD, unit=Unit("driftline-till")), "service", "driftline edge install --home /var/lib"),
    "fast time": (replace(GOOD, fast=True), "clock", "DRIFTLINE_CLOCK"),
    "no spool yet": (replace(GOOD, spool=None), "spool", "when the agent first runs"),
    "nothing to run": (told(pipelines={}), "pipeline", "publish"),
    "a clip at its end": (told(sources={"clip.mp4": "ended"}), "camera", "--loop"),
    "a worker that was restarted": (
        told(worker_ends={"count": 1, "recent": [[NOW_NS - HOUR_NS, "the worker was ended by SIGKILL"]]}),
        "worker",
        "60 min ago: the worker was ended by SIGKILL",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_is_worth_knowing_and_not_wrong_is_a_note(case: str):
    facts, what, said = NOTES[case]
    one = about(facts, what)
    assert one.verdict == "note"
    assert said in one.text
    assert well(list(findings(facts)))


def test_a_device_that_observes_only_lacks_nothing():
    assert well(list(findings(replace(GOOD, missing=("numpy", "cv2")))))


def test_a_backlog_is_no_fault_while_there_is_no_link_or_the_agent_is_catching_up():
    waits = Look(waiting={"window": 9}, waiting_bytes=900, oldest_ns=NOW_NS - 5 * HOUR_NS)
    offline = replace(GOOD, spool=waits, probe=Probe("connection", "no route to host"))
    assert [one.about for one in findings(offline) if one.verdict == "wrong"] == ["hub"]
    young = replace(GOOD, spool=replace(waits, oldest_ns=NOW_NS - HOUR_NS))
    assert well(list(findings(young)))


def test_of_a_stopped_device_what_its_worker_did_long_ago_is_not_said():
    stopped = replace(told(sources={"0": "camera lost"}, pipelines={"pv": "error: x"}), running=False)
    assert [one.about for one in findings(stopped) if one.verdict == "wrong"] == ["agent"]


HUB = HubFacts("/srv/hub", running=True, url="http://127.0.0.1:8710", disks=(ROOM,))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(HUB, running=False), "driftline up --home /srv/hub"),
        (replace(HUB, problem="status 500"), "does not answer at http://127.0.0.1:8710 (status 500)"),
        (replace(HUB, trouble="not readable; ask as root"), "ask as root"),
        (replace(HUB, disks=(replace(ROOM, free_bytes=1),)), "make room"),
    ],
)
def test_what_is_wrong_with_a_hub_is_said_with_the_way_out(facts: HubFacts, said: str):
    (one,) = (one for one in hub_findings(facts) if one.verdict == "wrong")
    assert said in one.text
    assert well(list(hub_findings(HUB)))
