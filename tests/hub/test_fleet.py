"""What each device should be running, and how it fares."""

from typing import Any

import pytest

from driftline.clock import NS_PER_S, FastClock, ManualClock
from driftline.errors import InvalidInputError, NotYetError
from driftline.hub import fleet, grids
from driftline.hub.deployment import parse_config
from driftline.summary.grid import Grid
from driftline.wire import device as wire

START_S = 1_767_261_600  # 2026-01-01T10:00:00+00:00
FIELD = "out.brightness"


@pytest.fixture
def till(ask: Any):
    return ask.observed_pipeline()


# ── deploy ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deploy_sets_what_the_device_hub_should_run_and_its_status_follows_what_it_says(
    ask: Any, till: Any, local: Any
):
    assert ask.get(f"/pipelines/{till['id']}")["status"] == "created"
    deployed = ask.post(f"/pipelines/{till['id']}/deploy", {"config": None})
    assert deployed["status"] == "deploying"
    local.send()
    (wanted,) = local.desired.pipelines
    assert (wanted.id, wanted.name, wanted.rows_max) == (till["versions"][0]["id"], "till", None)
    local.send(pipelines={wanted.id: "running"}, limits={wanted.id: "held by rlimits"}, revision=local.desired.revision)
    status = ask.get(f"/pipelines/{till['id']}/status")
    assert status["status"] == "running"
    assert status["details"] == ["hub: running (held by rlimits)"]
    assert ask.get(f"/pipelines/{till['id']}")["status"] == "running"


def test_a_worker_that_cannot_run_it_makes_the_status_error_with_its_reason(ask: Any, till: Any, local: Any):
    pv = ask.post(f"/pipelines/{till['id']}/deploy")["versions"][0]["id"]
    local.send(pipelines={pv: "error: no such operator"})
    status = ask.get(f"/pipelines/{till['id']}/status")
    assert (status["status"], status["details"]) == ("error", ["hub: error: no such operator"])


def test_a_new_version_is_deploying_until_its_device_runs_that_one(ask: Any, till: Any, local: Any):
    old = ask.post(f"/pipelines/{till['id']}/deploy")["versions"][0]["id"]
    local.send(pipelines={old: "running"})
    ask.post(f"/workspaces/{till['workspace']}/pipelines", {"name": "till", "steps": []})
    assert ask.get(f"/pipelines/{till['id']}")["status"] == "running"
    new = ask.post(f"/pipelines/{till['id']}/deploy")
    assert new["status"] == "deploying"
    assert [one["id"] for one in new["versions"]][1] == old
    local.send()
    assert [one.id for one in local.desired.pipelines] == [new["versions"][0]["id"]]


def test_undeploy_takes_it_away_again(ask: Any, till: Any, local: Any):
    ask.post(f"/pipelines/{till['id']}/deploy")
    local.send()
    assert ask.post(f"/pipelines/{till['id']}/undeploy")["status"] == "undeployed"
    local.send()
    assert local.desired.pipelines == ()


def test_the_desired_state_travels_only_when_it_is_another(ask: Any, till: Any, local: Any):
    ask.post(f"/pipelines/{till['id']}/deploy")
    first = local.send()
    assert first.revision == local.desired.revision
    assert local.send(revision=first.revision).desired is None


# ── the deployment's configuration ───────────────────────────────────────────────────────────────────────────────


CONFIG = {
    "engine": {
        "replicas": 1,
        "cpu": 1,
        "resources": {"limits": {"cpu": 1, "memory": "2Gi"}, "requests": {"cpu": 1, "memory": "2Gi"}},
    },
    "enginelb": {},
    "engineAux": {"images": {"model-1": {"resources": {"limits": {"cpu": 0.5, "memory": "6Gi"}, "requests": {}}}}},
    "node_selector": {},
}


def test_the_configuration_of_the_reference_platform_becomes_limits():
    assert parse_config(CONFIG, {"model-1": "detector"}) == {
        "cpus": 1.0,
        "memory_bytes": 2 * 1024**3,
        "model-1.cpus": 0.5,
        "model-1.memory_bytes": 6 * 1024**3,
    }
    assert parse_config(None, {}) == {}


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (CONFIG, InvalidInputError, "not a step of this pipeline"),
        ({"engine": {"replicas": 2}}, NotYetError, "runs one so far"),
        ({"node_selector": {"zone": "a"}}, NotYetError, "publish()"),
        ({"engine": "big"}, InvalidInputError, "DeploymentConfigBuilder"),
        ({"engine": {"cpu": -1}}, InvalidInputError, "above 0"),
        ({"engine": {"resources": {"limits": {"memory": "lots"}}}}, InvalidInputError, "'512Mi'"),
        ({"engine": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, NotYetError, "cannot be limited"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: Any, kind: Any, words: str):
    with pytest.raises(kind, match=words.replace("(", "\\(").replace(")", "\\)")):
        parse_config(config, {})


def test_limits_reach_the_device(ask: Any, till: Any, local: Any):
    config = {"engine": {"replicas": 1, "cpu": 2, "resources": {"limits": {"memory": "512Mi"}}}}
    ask.post(f"/pipelines/{till['id']}/deploy", {"config": config})
    local.send()
    assert local.desired.pipelines[0].limits == {"cpus": 2.0, "memory_bytes": 512 * 1024**2}


def test_a_refused_deploy_leaves_nothing_behind(ask: Any, till: Any, local: Any):
    status, code, _ = ask.refusal("POST", f"/pipelines/{till['id']}/deploy", {"config": {"engine": {"replicas": 3}}})
    assert (status, code) == (501, "not_yet")
    assert ask.get(f"/pipelines/{till['id']}")["status"] == "created"


# ── publish ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_published_pipeline_reaches_its_devices_and_no_other(ask: Any, till: Any):
    other = ask.observed_pipeline("door")
    one, two = ask.joined("camera-1", till), ask.joined("camera-2", till, other)
    one.send()
    two.send()
    assert [wanted.name for wanted in one.desired.pipelines] == ["till"]
    assert [wanted.name for wanted in two.desired.pipelines] == ["door", "till"]
    assert one.desired.pipelines[0].rows_max == 1000
    (publish,) = ask.get(f"/pipelines/{other['id']}/publishes")["items"]
    assert [edge["name"] for edge in ask.get(f"/publishes/{publish['id']}/edges")["items"]] == ["camera-2"]
    assert ask.get("/devices/camera-2")["pipelines"] == {"door": "starting", "till": "starting"}


def test_a_device_that_joined_gets_the_pipeline_without_a_new_token(ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    other = ask.observed_pipeline("door")
    publish = ask.post(f"/pipelines/{other['id']}/publish")
    edge = ask.post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})
    assert (edge["token"], edge["command"], edge["expires_ns"]) == (None, None, None)
    camera.send()
    assert len(camera.desired.pipelines) == 2


@pytest.mark.parametrize("name", ["", "   ", "a/b", "x" * 129, "new\nline", "hub", "..", "camera.json"])
def test_a_name_that_cannot_be_a_devices_is_refused(ask: Any, till: Any, name: Any):
    publish = ask.post(f"/pipelines/{till['id']}/publish")
    assert ask.refusal("POST", f"/publishes/{publish['id']}/edges", {"name": name})[:2] == (400, "invalid")
    assert ask.get("/devices")["items"] == []


def test_two_pipelines_of_one_name_do_not_meet_on_a_device(ask: Any, till: Any, local: Any):
    ask.post(f"/pipelines/{till['id']}/deploy")
    other = ask.post("/workspaces", {"name": "another shop"})
    twin = ask.post(f"/workspaces/{other['id']}/pipelines", {"name": "till", "steps": []})
    status, _, message = ask.refusal("POST", f"/pipelines/{twin['id']}/deploy", {"config": None})
    assert status == 409
    assert "device 'hub' runs a pipeline 'till' of workspace" in message
    local.send()
    assert [one.id for one in local.desired.pipelines] == [till["versions"][0]["id"]]


def test_what_is_not_there_is_said(ask: Any):
    assert ask.refusal("POST", "/pipelines/none/deploy", {})[:2] == (404, "not_found")
    assert ask.refusal("GET", "/pipelines/none/status")[:2] == (404, "not_found")
    assert ask.refusal("POST", "/publishes/none/edges", {"name": "a"})[:2] == (404, "not_found")
    assert ask.refusal("GET", "/devices/none")[:2] == (404, "not_found")
    assert ask.refusal("DELETE", "/devices/none")[:2] == (404, "not_found")
    assert ask.refusal("DELETE", "/devices/hub")[:2] == (400, "invalid")


# ── grids and fields in the desired state ────────────────────────────────────────────────────────────────────────


def test_a_baselines_grid_and_an_extra_field_reach_every_device(hub: Any, ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    first = camera.send()
    grid = Grid((0.0, 0.5, 1.0))
    grids.set_baseline_grid(hub, till["id"], FIELD, grid)
    assert grids.add_extra_field(hub, till["id"], "in.tensor.3") is True
    assert grids.add_extra_field(hub, till["id"], "in.tensor.3") is False
    second = camera.send(revision=first.revision)
    (wanted,) = second.desired.pipelines
    assert wanted.grids == {FIELD: grid.id}
    assert wanted.extra_fields == ("in.tensor.3",)
    assert second.desired.grids == {grid.id: (0.0, 0.5, 1.0)}


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def clock():
    return ManualClock(START_S * NS_PER_S)


@pytest.fixture
def later(serve_hub: Any, ask_at: Any, clock: Any):
    """Asks a hub whose time the test moves."""
    ask = ask_at(serve_hub(clock))
    yield ask
    ask.http.close()


def states(ask: Any, name: Any = "camera-1"):
    return ask.get(f"/devices/{name}")["states"]


def test_a_device_is_new_then_healthy_then_silent_then_healthy_again(later: Any, clock: Any):
    camera = later.joined("camera-1", later.observed_pipeline())
    assert states(later) == ["new"]
    camera.send()
    assert states(later) == ["healthy"]
    clock.advance(3 * 60 + 1)
    assert states(later) == ["silent"]
    camera.send()
    assert states(later) == ["healthy"]


def test_a_busy_machine_that_holds_up_a_sync_makes_nobody_silent(later: Any, clock: Any):
    later.joined("camera-1", later.observed_pipeline())
    hub = later.hub
    with hub.database.writing() as connection:
        fleet.ensure_device(connection, fleet.LOCAL, hub.now_ns())
    from driftline.hub.store.fleet import devices

    with hub.database.writing() as connection:
        connection.execute(devices.update().values(heard_ns=hub.now_ns(), interval_s=2.0))
    clock.advance(20)
    assert states(later, "hub") == ["healthy"]
    clock.advance(11)
    assert states(later, "hub") == ["silent"]


def test_cameras_and_backlog_show_in_the_states(later: Any):
    camera = later.joined("camera-1", later.observed_pipeline())
    camera.send(sources={"0": "camera lost", "1": "ok"}, backlog=5000)
    assert states(later) == ["camera lost", "behind"]
    camera.send(sources={"0": "feed frozen", "1": "ok"})
    assert states(later) == ["feed frozen"]
    assert later.get("/devices/camera-1")["sources"] == {"0": "feed frozen", "1": "ok"}


def test_a_camera_that_cannot_be_opened_is_a_lost_one(later: Any):
    camera = later.joined("camera-1", later.observed_pipeline())
    camera.send(sources={"front.mp4": "error: front.mp4 cannot be decoded as video"})
    assert states(later) == ["camera lost"]


def test_a_device_that_talks_but_tells_of_windows_long_past_is_behind(later: Any, clock: Any):
    till = later.observed_pipeline()
    camera = later.joined("camera-1", till)
    version = till["versions"][0]["id"]
    told = {"pipelines": {version: "running"}, "complete_until_ns": {version: START_S * NS_PER_S}}
    clock.advance(4 * 60)
    camera.send(**told)
    assert states(later) == ["healthy"]
    clock.advance(1)
    camera.send(**told)
    assert states(later) == ["behind"]
    # Nobody feeds this pipeline: there is nothing to be behind with.
    camera.send(**told | {"pipelines": {version: "waiting for driftline.observe"}})
    assert states(later) == ["healthy"]


def test_a_device_is_complete_only_when_each_of_its_pipelines_is(later: Any):
    till, door = later.observed_pipeline(), later.observed_pipeline("door")
    camera = later.joined("camera-1", till, door)
    one, other = till["versions"][0]["id"], door["versions"][0]["id"]
    camera.send(complete_until_ns={one: START_S * NS_PER_S})
    assert later.get("/devices/camera-1")["complete_until_ns"] is None
    camera.send(complete_until_ns={one: START_S * NS_PER_S, other: (START_S - 60) * NS_PER_S})
    assert later.get("/devices/camera-1")["complete_until_ns"] == (START_S - 60) * NS_PER_S


# ── how often ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_syncs_every_minute_in_its_first_hour_then_every_ten(later: Any, clock: Any):
    camera = later.joined("camera-1", later.observed_pipeline())
    assert camera.send().sync_interval_s == 60
    clock.advance(3601)
    assert camera.send().sync_interval_s == 600


def test_the_variable_overrides_how_often(later: Any, monkeypatch: pytest.MonkeyPatch):
    camera = later.joined("camera-1", later.observed_pipeline())
    monkeypatch.setenv("DRIFTLINE_SYNC_INTERVAL_S", "7.5")
    assert camera.send().sync_interval_s == 7.5
    monkeypatch.setenv("DRIFTLINE_SYNC_INTERVAL_S", "soon")
    with pytest.raises(InvalidInputError, match="such as 60"):
        fleet.check_interval()


def test_under_fast_time_the_device_hub_still_syncs_every_two_real_seconds(
    serve_hub: Any, ask_at: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DRIFTLINE_SYNC_INTERVAL_S", raising=False)
    import time

    hub = serve_hub(FastClock(START_S * NS_PER_S, 60, time.time_ns()))
    ask = ask_at(hub)
    with hub.database.writing() as connection:
        row = fleet.ensure_device(connection, fleet.LOCAL, hub.now_ns())
    assert fleet.sync_interval_s(hub, row) == 120
    assert ask.joined("camera-1", ask.observed_pipeline()).send().sync_interval_s == 60
    assert ask.get("/version")["banner"].startswith("fast time")
    ask.http.close()


def test_a_desired_state_reads_back_as_it_was_written(ask: Any, till: Any, local: Any):
    ask.post(f"/pipelines/{till['id']}/deploy")
    reply = local.send()
    assert wire.desired_from(wire.asdict(reply.desired)).revision == reply.revision
