"""A promise from the notebook's side, over a real hub with two cameras, the second of which loses focus at 10:36."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftline import Client, Promise
from driftline.errors import InvalidInputError
from driftline.hub.scorer import Round
from tests.hub.shop import Shop, ns

CAMERAS = ("camera-1", "camera-2")
FIELDS = ["out.sharpness", "out.avg_confidence"]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name, pipelines={made.pipeline.versions[0].id: "running"})
    made.at(120)
    made.days(range(96), CAMERAS)
    made.days(range(96, 120), CAMERAS, blurred="camera-2")
    return made.closed()


@pytest.fixture
def shop(before: Any, serve_hub: Callable[..., Any], tmp_path: Path) -> Any:
    return before.twin(tmp_path / "hub", lambda home, clock: serve_hub(clock, home))


@pytest.fixture
def client(shop: Any) -> Client:
    client = Client(shop.hub.url)
    (workspace,) = client.list_workspaces()
    client.set_current_workspace(workspace)
    return client


@pytest.fixture
def builder(client: Client) -> Any:
    """An assay of sharpness and confidence over 3-minute windows, each camera against its first hour and a half."""
    start, end = "2026-01-01T09:00:00+00:00", "2026-01-01T10:30:00+00:00"
    builder = client.build_assay(
        "focus",
        "shelf-watch",
        "shelf-detector",
        FIELDS,
        baseline_start=start,
        baseline_end=end,
        alarm=Promise("30 days"),
    )
    builder.window_builder().add_width(minutes=3)
    return builder


def test_a_run_shows_evidence_beside_effects_for_each_device_and_field(builder: Any):
    run = builder.build().interactive_run()
    assert (run.devices, run.fields) == (list(CAMERAS), sorted(FIELDS))
    frame = run.to_dataframe()
    assert frame["alert_threshold"].isna().all()
    # One false alarm in 30 days of 3-minute windows, shared by two cameras with two fields.
    assert set(frame["alarm_at"]) == {4 * 30 * 24 * 20}
    blurred = frame[
        (frame["device"] == "camera-2") & (frame["start"] >= "2026-01-01T10:36") & (frame["field"] == FIELDS[0])
    ]
    assert blurred["evidence"].iloc[-1] >= blurred["alarm_at"].iloc[-1]
    assert blurred["status"].iloc[-1] == "Alert"
    assert (blurred["mean_shift"] < -1).all()
    healthy = run.of_device("camera-1")
    assert {one.status for one in healthy} == {"Ok"}
    assert str(run.chart_scores()).startswith("<svg")
    assert healthy[0].baseline().count == 90 * 40


def test_health_says_for_each_stream_what_the_promise_rests_on(builder: Any):
    config = builder.build()
    health = config.baseline_health()
    assert [(one.device, one.field) for one in health] == [(camera, field) for camera in CAMERAS for field in FIELDS]
    assert all(one.stands for one in health)
    assert "30 windows of about 120 values" in str(health[0])
    assert "camera-2 out.avg_confidence: 30 windows" in config._repr_html_()


def test_a_baseline_too_short_for_a_promise_is_told_before_and_refused_after(client: Client):
    start, end = "2026-01-01T09:00:00+00:00", "2026-01-01T09:06:00+00:00"
    builder = client.build_assay(
        "focus", "shelf-watch", iopath="out.sharpness", baseline_start=start, baseline_end=end, alarm=Promise("30 days")
    )
    builder.window_builder().add_width(minutes=3)
    assert [one.stands for one in builder.baseline_health()] == [False, False]
    assert "no promise: " in builder.build()._repr_html_()
    with pytest.raises(InvalidInputError, match="windows"):
        builder.upload()


def test_what_an_incident_saw_becomes_the_baseline(builder: Any, client: Client, shop: Any):
    assay = client.get_assay(builder.upload())
    Round(shop.hub).run()
    incidents = [one for one in client.list_incidents(is_open=True) if one.kind == "drift"]
    assert {(one.device, one.assay_id) for one in incidents} == {("camera-2", str(assay.id))}
    assert [one.device for one in client.get_assay_results(assay, field=FIELDS[0], device="camera-1")] == [
        "camera-1"
    ] * 10

    renewed = incidents[0].take_as_baseline()
    assert (renewed.baseline_version, renewed.id) == (2, assay.id)
    assert [one.version for one in renewed.baseline_versions()] == [1, 2]
    versions = {(one.device, one.version) for one in renewed.baselines}
    assert versions == {("camera-1", 1), ("camera-2", 2)}
    assert [one.devices for one in renewed.baseline_versions()] == [[*CAMERAS], ["camera-2"]]
    assert [one for one in client.list_incidents(is_open=True) if one.kind == "drift"] == []
    assert "resolved" in repr(client.list_incidents()[0])
    assert client.list_incidents()[0].resolved is not None


def test_an_incident_without_an_assay_has_no_baseline_to_replace(client: Client, shop: Any):
    from driftline.sdk.incident import Incident
    from driftline.wire import api

    facts = api.Incident(
        id="1", kind="silent", device="camera-1", assay_id=None, field=None, opened_ns=ns(0), resolved_ns=None,
        text="camera-1 is silent",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"no assay opened this incident \(camera-1 is silent\)"):
        Incident(client._connection, facts).take_as_baseline()


def test_a_preview_says_what_the_assay_would_do_and_would_find(builder: Any, client: Client, shop: Any):
    preview = builder.preview(within=20)
    by_stream = {(one.device, one.field): one for one in preview.streams}
    assert set(by_stream) == {(camera, field) for camera in CAMERAS for field in FIELDS}
    assert len(by_stream["camera-2", "out.sharpness"].past_alarms) > 0
    (told,) = [line for line in repr(preview).splitlines() if line.startswith("camera-1 out.sharpness: ")]
    assert told.startswith("camera-1 out.sharpness: 0 alarms over 10 past windows; finds a shift of")
    frame = preview.to_dataframe()
    assert frame["found"].between(0, 1).all()
    assert (frame["alarm_at"] == 4 * 30 * 24 * 20).all()
    assert str(preview.chart()).startswith("<svg")
    assay = client.get_assay(builder.upload())
    Round(shop.hub).run()
    assert assay.preview(within=20).streams == preview.streams, "the seed makes a rerun say the same"
    assert assay.preview(within=3).within == 3
    with pytest.raises(InvalidInputError, match="give a number of windows"):
        builder.preview(within=0)
