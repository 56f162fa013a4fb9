"""The agent as a real process against a real (small) hub: what was acknowledged to a worker always arrives, once."""

import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from driftline.clock import ManualClock, SystemClock
from driftline.edge import agent as agent_module
from driftline.edge import supervisor
from driftline.edge.agent import Agent, worker_command
from driftline.edge.home import Home
from driftline.edge.link import Courier, Link
from driftline.edge.open_window import Counted, Snapshot, place
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, MissingExtraError, TemporaryError
from driftline.wire.device import (
    BundleFile,
    Desired,
    DesiredPipeline,
    RowsRecord,
    Stamp,
    WindowRecord,
    decode_event,
    decode_window,
    encode_rows,
    encode_window,
)

# The agent where no library is installed: it observes only, and starts in a tenth of the time.
BARE = (
    "import sys; from driftline import cli; from driftline.edge import agent, start; "
    "agent.WORKER_LIBRARIES = ('absent_library',); "
    "sys.exit(start.begin(start.told(cli.parser().parse_args(sys.argv[1:]))))"
)
# The same with a worker that asks for nothing, so that what it would need is downloaded.
IDLE = BARE.replace("agent.WORKER_LIBRARIES = ('absent_library',)", "agent.worker_command = lambda *_: ['sleep', '20']")
STEP = {"steps": [{"name": "m"}], "fields": [], "inputs": [], "outputs": []}


class Device:
    """An agent's process on a home."""

    def __init__(self, home: Home, environment: dict[str, str] | None = None, code: str = BARE) -> None:
        self.home = home
        self.code = code
        self.environment = os.environ | (environment or {})
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", self.code, "edge", "run", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.environment)
        return self.process

    def link(self) -> Link:
        return wait_for(self._link)

    def _link(self) -> Link | None:
        assert self.process.poll() is None, self.process.communicate()[1]
        try:
            return Link(self.home.socket)
        except TemporaryError:
            return None

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=15)[1]


@pytest.fixture
def device(joined_home: Home) -> Iterator[Device]:
    one = Device(joined_home)
    yield one
    one.end(signal.SIGKILL)


@pytest.fixture
def idle_device(joined_home: Home) -> Iterator[Device]:
    one = Device(joined_home, code=IDLE)
    yield one
    one.end()  # and with it its worker


def wait_for(ask: Callable[[], Any], timeout_s: float = 10) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := ask()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def window(minute: int, pipeline: str = "pv") -> bytes:
    return encode_window(WindowRecord(pipeline, 1_767_261_600 + 60 * minute, 60, 0, ()))


def minutes(hub: Any) -> list[int]:
    return [(decode_window(data).start_s - 1_767_261_600) // 60 for data in hub.data("window")]


def test_a_committed_window_reaches_the_hub_and_leaves_the_spool(device: Device, standin_hub: Any):
    link = device.link()
    assert link.hello("worker")["device"] == "camera-1"
    assert link.record("window", window(0), "w:1") == 1
    wait_for(lambda: minutes(standin_hub) == [0])
    wait_for(lambda: link.status()["backlog"] == 0)
    assert standin_hub.heads[-1].device == "camera-1"
    assert standin_hub.heads[-1].backlog == 0  # besides what was in the batch
    assert standin_hub.heads[-1].boot_id


def test_a_kill_of_the_agent_loses_nothing_that_was_acknowledged_and_doubles_nothing(device: Device, standin_hub: Any):
    standin_hub.down()
    link = device.link()
    for minute in range(5):
        link.record("window", window(minute), f"w:{minute}")
    device.end(signal.SIGKILL)
    standin_hub.up()
    device.start()
    link = device.link()
    assert link.record("window", window(4), "w:4") == 5  # its reply may have been lost: sent again, known
    link.record("window", window(5), "w:5")
    wait_for(lambda: minutes(standin_hub) == [0, 1, 2, 3, 4, 5])
    assert standin_hub.numbers == sorted(set(standin_hub.numbers))


def test_what_a_process_left_while_no_agent_ran_is_taken_over_once(
    joined_home: Home, standin_hub: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agent_module, "STATE_EVERY_S", 0.05)
    courier = Courier(lambda: joined_home.socket, "worker", time.time_ns)
    courier.put("window", window(0))
    courier.put("window", b"torn")
    courier.put("window", window(1))
    # The second window holds only the part of it that was counted.
    until_ns = (1_767_261_600 + 90) * 10**9
    courier.leave(joined_home.path, complete_until_ns={"pv": until_ns})
    (left,) = joined_home.path.glob("left.*")
    again = left.read_bytes()
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    thread = threading.Thread(target=agent.serve)
    thread.start()
    wait_for(lambda: minutes(standin_hub) == [0, 1])
    assert not left.exists()
    assert agent.answer(1, {"type": "hello", "role": "worker"}, b"")["complete_until_ns"] == {"pv": until_ns}
    left.write_bytes(again)  # an agent that was killed before it removed the file
    wait_for(lambda: not left.exists())
    assert agent.status()["backlog"] == 0
    assert minutes(standin_hub) == [0, 1]
    agent.stop()
    thread.join()


def test_a_lost_reply_makes_the_batch_come_again_unchanged(device: Device, standin_hub: Any):
    link = device.link()
    wait_for(lambda: standin_hub.heads)
    standin_hub.lose_replies = 2
    link.record("window", window(0))
    wait_for(lambda: link.status()["backlog"] == 0)
    assert minutes(standin_hub) == [0]
    assert standin_hub.repeated >= 1
    assert standin_hub.changed == 0


def test_a_hub_that_was_down_gets_everything_in_order_when_it_is_back(device: Device, standin_hub: Any):
    link = device.link()
    wait_for(lambda: link.status()["synced_ns"])
    standin_hub.down()
    for minute in range(20):
        link.record("window", window(minute))
    wait_for(lambda: link.status()["sync_error"])
    standin_hub.up()
    wait_for(lambda: minutes(standin_hub) == list(range(20)))
    wait_for(lambda: link.status()["sync_error"] is None)
    text = device.end()
    assert text.count("does not answer") == 1  # said once, not with every try
    assert "answers" in text


def test_another_trouble_during_an_outage_is_said_too(device: Device, standin_hub: Any):
    link = device.link()
    wait_for(lambda: link.status()["synced_ns"])
    standin_hub.down()
    wait_for(lambda: "does not answer" in str(link.status()["sync_error"]))
    standin_hub.status = 403
    standin_hub.up()
    wait_for(lambda: "was removed" in str(link.status()["sync_error"]))
    text = device.end()
    assert (text.count("does not answer"), text.count("the device was removed")) == (1, 1)


def test_stopping_syncs_once_more_and_ends_with_0(device: Device, standin_hub: Any):
    standin_hub.interval_s = 3600
    link = device.link()
    wait_for(lambda: link.status()["synced_ns"])
    wait_for(lambda: len(standin_hub.heads) > 0)
    link.record("window", window(0))
    began = time.monotonic()
    device.end()
    assert device.process.returncode == 0
    assert time.monotonic() - began < 5
    assert minutes(standin_hub) == [0]
    state = device.home.state()
    assert (state["stopped"], state["backlog"]) == (True, 0)


def test_stopping_does_not_wait_for_a_hub_that_is_not_there(device: Device, standin_hub: Any):
    standin_hub.down()
    link = device.link()
    link.record("window", window(0))
    began = time.monotonic()
    device.end()
    assert (device.process.returncode, device.home.state()["backlog"]) == (0, 1)
    assert time.monotonic() - began < 5


def test_what_the_hub_wants_is_downloaded_verified_and_kept_for_a_start_without_a_link(
    idle_device: Device, standin_hub: Any
):
    device = idle_device
    model = b"a model" * 1000
    digest = standin_hub.file(model)
    pipeline = DesiredPipeline("pv", "doors", STEP, {"m": BundleFile(digest, len(model))}, rows_max=10)
    standin_hub.desired = Desired((pipeline,))
    link = device.link()
    greeting = wait_for(lambda: (one := link.hello("worker"))["files"] and one)
    assert Path(greeting["files"][digest]).read_bytes() == model
    assert greeting["desired"]["pipelines"][0]["name"] == "doors"
    device.end()
    standin_hub.down()
    device.start()
    again = device.link().hello("worker")
    assert (again["revision"], again["files"]) == (greeting["revision"], greeting["files"])


def test_a_device_that_observes_only_says_so_and_downloads_nothing(device: Device, standin_hub: Any):
    model = BundleFile(standin_hub.file(b"a model"), 7)
    standin_hub.desired = Desired(
        (DesiredPipeline("pv", "doors", STEP, {"m": model}), DesiredPipeline("own", "till", {**STEP, "steps": []}))
    )
    link = device.link()
    wait_for(lambda: "observes only" in link.status()["pipelines"].get("pv", ""))
    assert link.status()["pipelines"]["own"] == "waiting for driftline.observe"
    link.hello("observe")
    link.beat(revision="", pipelines={"pv": "running", "own": "running"})
    wait_for(lambda: standin_hub.heads[-1].pipelines == {"pv": "running", "own": "running"})
    assert not any("bundles" in path for path in standin_hub.paths)


def test_a_file_that_is_not_what_it_should_be_is_never_offered(idle_device: Device, standin_hub: Any):
    device = idle_device
    digest = standin_hub.file(b"a model")
    standin_hub.files[digest] = b"a modem"
    standin_hub.desired = Desired((DesiredPipeline("pv", "doors", STEP, {"m": BundleFile(digest, 7)}),))
    link = device.link()
    wait_for(lambda: sum("bundles" in path for path in list(standin_hub.paths)) >= 2)
    assert link.hello("worker")["files"] == {}
    assert not (device.home.bundles / digest).exists()
    # A further try may be under way at this moment; what it got so far goes, too.
    wait_for(lambda: not list(device.home.bundles.iterdir()))
    standin_hub.files[digest] = b"a model"
    wait_for(lambda: link.hello("worker")["files"])


def test_a_beat_is_answered_with_the_desired_state_only_where_it_changed(device: Device, standin_hub: Any):
    link = device.link()
    first = link.hello("worker")
    assert set(link.beat(revision=first["revision"])) == {"ok", "revision"}
    standin_hub.desired = Desired((DesiredPipeline("pv", "doors", STEP),))
    changed = wait_for(lambda: (one := link.beat(revision=first["revision"])).get("desired") and one)
    assert changed["desired"]["pipelines"][0]["id"] == "pv"


def test_rows_and_how_far_windows_are_complete_are_remembered_over_restarts(device: Device, standin_hub: Any):
    link = device.link()
    link.hello("worker")
    link.record("window", window(0))
    link.record("rows", encode_rows(RowsRecord("pv", 1_767_261_600, 60, True, [1, 2], {"out.x": ("d", [1.0, 2.0])})))
    end_ns = 1_767_261_660_000_000_000
    link.beat(revision="", complete_until_ns={"pv": end_ns, "new": 60_000_000_000})
    wait_for(lambda: standin_hub.heads and standin_hub.heads[-1].complete_until_ns.get("pv") == end_ns)
    device.end(signal.SIGKILL)
    device.start()
    greeting = device.link().hello("worker")
    assert greeting["rows_sent"] == {"pv": 2}
    assert greeting["complete_until_ns"] == {"pv": end_ns, "new": 60_000_000_000}


def test_rows_that_come_again_are_counted_once_whatever_came_between(joined_home: Home):
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)
    rows = encode_rows(RowsRecord("pv", 1_767_261_600, 60, True, [1, 2], {"out.x": ("d", [1.0, 2.0])}))
    for key, kind, data in (("w:1", "rows", rows), ("o:1", "window", window(0)), ("w:1", "rows", rows)):
        agent.answer(1, {"type": "record", "kind": kind, "key": key}, data)
    assert agent.answer(1, {"type": "hello", "role": "worker"}, b"")["rows_sent"] == {"pv": 2}


def test_a_device_that_was_removed_keeps_everything_and_says_so_once(device: Device, standin_hub: Any):
    standin_hub.status = 403
    link = device.link()
    link.record("window", window(0))
    wait_for(lambda: "removed" in (link.status()["sync_error"] or ""))
    assert link.status()["backlog"] == 1
    standin_hub.status = 200
    wait_for(lambda: minutes(standin_hub) == [0])


def test_intervals_follow_fast_time(joined_home: Home, standin_hub: Any):
    standin_hub.interval_s = 3600  # one real second at 3600×
    standin_hub.desired = Desired((DesiredPipeline("pv", "doors", {**STEP, "steps": []}),))
    device = Device(joined_home, {"DRIFTLINE_CLOCK": "2026-01-01T10:00:00+00:00 x3600"})
    wait_for(lambda: len(standin_hub.heads) >= 4)
    text = device.end()
    assert "running 3600×" in text
    assert standin_hub.heads[1].wall_ns - standin_hub.heads[0].wall_ns > 1800 * 10**9


def test_a_second_agent_on_a_home_is_refused(device: Device):
    device.link()
    second = Device(device.home)
    assert "already running" in second.end(signal.SIGCONT)
    assert second.process.returncode == 1


def test_a_record_that_cannot_be_read_is_refused_at_once(device: Device):
    link = device.link()
    for kind, data in (("window", b"\x01nonsense"), ("rows", b"\x01\x05nope!"), ("event", b"[]"), ("photo", b"")):
        with pytest.raises(InvalidInputError if kind == "photo" else Exception):
            link.record(kind, data)
    assert link.status()["backlog"] == 0


# ── the worker ───────────────────────────────────────────────────────────────────────────────────────────────────

WORKER = """
import os, signal, sys, time
from pathlib import Path
from driftline.edge.home import Home
from driftline.edge.link import Courier
from driftline.wire.device import WindowRecord, encode_window
home = Home(os.environ["DRIFTLINE_EDGE_HOME"])
courier = Courier(lambda: home.socket, "worker", time.time_ns)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
revision = courier.connect()["revision"]
while not stopping:
    courier.beat(revision=revision, pipelines={"pv": "running"}, sources={"0": "ok"}, serving="http://127.0.0.1:9")
    if (home.path / "crash").exists():
        (home.path / "crash").unlink()
        os._exit(7)
    time.sleep(0.05)
courier.put("window", encode_window(WindowRecord("pv", 1_767_261_600, 60, 0, ())))
courier.flush()
"""


@pytest.fixture
def supervised(joined_home: Home) -> Iterator[Agent]:
    command = [sys.executable, "-c", WORKER]
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), command)
    thread = threading.Thread(target=agent.serve)
    thread.start()
    yield agent
    agent.stop()
    thread.join()


def test_the_worker_tells_the_hub_how_it_fares_and_hands_over_when_stopped(supervised: Agent, standin_hub: Any):
    wait_for(lambda: any(head.pipelines.get("pv") == "running" for head in standin_hub.heads))
    assert standin_hub.heads[-1].sources == {"0": "ok"}
    assert standin_hub.heads[-1].serving == "http://127.0.0.1:9"
    supervised.stop()
    wait_for(lambda: minutes(standin_hub) == [0])


def test_a_worker_that_ends_is_started_again_and_the_hub_is_told_why(
    supervised: Agent, standin_hub: Any, joined_home: Home
):
    first = wait_for(lambda: supervised.status()["sources"] and joined_home.state().get("worker"))
    (joined_home.path / "crash").touch()
    wait_for(lambda: standin_hub.data("event"))
    event = decode_event(standin_hub.data("event")[0])
    assert (event["type"], event["text"]) == ("worker_ended", "the worker ended with code 7")
    wait_for(lambda: (joined_home.state().get("worker") or first) != first)


def test_a_worker_that_crashes_again_and_again_is_the_state_of_its_pipelines_and_an_event(
    joined_home: Home, standin_hub: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "PAUSE_FIRST_S", 0.05)
    standin_hub.desired = Desired((DesiredPipeline("pv", "doors", STEP),))
    command = [sys.executable, "-c", "import sys; sys.exit(3)"]
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), command)
    thread = threading.Thread(target=agent.serve)
    thread.start()
    wait_for(lambda: len(standin_hub.data("event")) >= 3)
    wait_for(lambda: "soon after its start" in standin_hub.heads[-1].pipelines.get("pv", ""))
    agent.stop()
    thread.join()
    third = decode_event(standin_hub.data("event")[2])
    assert (third["type"], third["times"]) == ("worker_ended", 3)
    assert third["text"] == "the worker ended with code 3, the 3rd time soon after its start"


def test_a_snapshot_that_finds_no_room_waits_and_the_next_worker_goes_on_behind_it_all_the_same(
    joined_home: Home, monkeypatch: pytest.MonkeyPatch
):
    until_ns = (1_767_261_600 + 90) * 10**9
    courier = Courier(lambda: joined_home.socket, "worker", time.time_ns)

    @contextmanager
    def counted() -> Generator[Snapshot]:
        yield Snapshot([Counted("window", window(1), None)], {"pv": until_ns})

    courier.put("window", window(0))
    courier.keep(place(joined_home.path).folder, counted)
    courier.close()  # as the kernel does when it is killed
    agent = Agent(joined_home, joined_home.identity(), SystemClock(), None)

    def complete() -> dict[str, int]:
        return agent.answer(1, {"type": "hello", "role": "worker"}, b"")["complete_until_ns"]

    def full(*_: Any, **__: Any) -> int:
        raise TemporaryError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(agent._spool, "append", full)
        patched.setattr(agent._spool, "remember", full)
        agent._take_left()
        assert complete() == {"pv": until_ns}
    assert agent.status()["backlog"] == 0
    # The next worker has gone on, and what it says is newer.
    later_ns = until_ns + 60 * 10**9
    agent.answer(1, {"type": "beat", "complete_until_ns": {"pv": later_ns}}, b"")
    agent._take_left()
    agent._take_left()
    assert agent.status()["backlog"] == 2
    assert complete() == {"pv": later_ns}
    assert not place(joined_home.path).folder.exists()


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────


def options(**given: Any) -> Namespace:
    usual = dict.fromkeys(("camera", "rate", "pipeline", "start", "sync_interval", "rows_kb_a_day"))
    return Namespace(**(usual | {"serve": "127.0.0.1:0", "loop": False} | given))


def test_the_worker_gets_the_options_it_needs(tmp_path: Path):
    command = worker_command(Home(tmp_path), options(camera="a.mp4", rate=2.5, loop=True))
    assert command is not None
    assert command[1:] == [
        *["-m", "driftline.edge.worker", "--home", str(tmp_path), "--serve", "127.0.0.1:0"],
        *["--camera", "a.mp4", "--rate", "2.5", "--loop"],
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"serve": "8080"}, "HOST:PORT"),
        ({"serve": "127.0.0.1:99999"}, "HOST:PORT"),
        ({"rate": 0.0}, "--rate 0"),
        ({"sync_interval": -1.0}, "--sync-interval"),
        ({"rows_kb_a_day": -1}, "--rows-kb-a-day"),
        ({"start": "noon"}, "ISO 8601"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_at_once(tmp_path: Path, given: dict[str, Any], words: str):
    with pytest.raises(InvalidInputError, match=words):
        worker_command(Home(tmp_path), options(**given))


def test_a_camera_needs_what_runs_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agent_module, "WORKER_LIBRARIES", ("absent_library",))
    assert worker_command(Home(tmp_path), options()) is None
    with pytest.raises(MissingExtraError, match=r"driftline\[edge\]"):
        worker_command(Home(tmp_path), options(camera="0"))


def test_a_folder_where_nobody_joined_says_how_to(tmp_path: Path):
    with pytest.raises(EntityNotFoundError, match="driftline edge join"):
        agent_module.run(options(home=tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()


def test_a_locked_home_names_the_way_out(joined_home: Home):
    lock = joined_home.lock()
    with pytest.raises(ConflictError, match="--home"):
        joined_home.lock()
    lock.close()


BOOT = ManualClock(1_767_261_600 * 10**9, boot="now")


def stamped(agent: Agent, minute: int, boot: str, offset_s: int = 0) -> None:
    request = {"type": "record", "kind": "window", "stamp": [boot, offset_s * 10**9]}
    agent.answer(1, request, window(minute))


def reached(agent: Agent) -> int:
    """Return up to which minute the window's pipeline is complete."""
    until_ns = agent.answer(1, {"type": "hello", "role": "worker"}, b"")["complete_until_ns"]["pv"]
    return (until_ns // 10**9 - 1_767_261_600) // 60


def test_a_records_stamp_goes_into_the_spool_with_it(joined_home: Home):
    agent = Agent(joined_home, joined_home.identity(), BOOT, None)
    stamped(agent, 0, "now", 5)
    assert agent.answer(1, {"type": "record", "kind": "window"}, window(1)) == {"sequence": 2}
    batch = agent._spool.batch(10_000)
    assert [one.stamp for one in batch.records] == [Stamp("now", 5 * 10**9), None]
    with pytest.raises(InvalidInputError, match="a stamp is"):
        agent.answer(1, {"type": "record", "kind": "window", "stamp": ["now", 2**70]}, window(2))


def test_how_far_windows_are_complete_follows_a_clock_that_is_set_back(joined_home: Home):
    agent = Agent(joined_home, joined_home.identity(), BOOT, None)
    stamped(agent, 100, "now", 6000)
    stamped(agent, 2, "now")  # set back by 100 minutes: steady time went on
    assert reached(agent) == 3
    stamped(agent, 1, "now")  # a late part of an earlier window
    assert reached(agent) == 3
    stamped(agent, 500, "before")  # left by a process of an earlier boot
    assert reached(agent) == 3
    agent._spool.close()
    again = Agent(joined_home, joined_home.identity(), BOOT, None)
    assert reached(again) == 3
    again._spool.close()
    rebooted = Agent(joined_home, joined_home.identity(), ManualClock(0, boot="next"), None)
    stamped(rebooted, 0, "next", -6000)
    assert reached(rebooted) == 1


def test_an_observing_programs_word_follows_a_clock_that_is_set_back(joined_home: Home):
    agent = Agent(joined_home, joined_home.identity(), BOOT, None)
    agent.answer(1, {"type": "hello", "role": "observe"}, b"")
    told = [(100, 6000, 100), (40, 2340, 40), (30, 2340, 40), (41, 2340, 41)]
    for minute, offset_s, expected in told:
        until_ns = (1_767_261_600 + 60 * minute) * 10**9
        stamp = ["now", offset_s * 10**9]
        agent.answer(1, {"type": "beat", "revision": "", "complete_until_ns": {"pv": until_ns}, "stamp": stamp}, b"")
        assert agent._reached["pv"].until_ns == (1_767_261_600 + 60 * expected) * 10**9
