"""The client against a real hub: it finds it, keeps a workspace, and says what to do where something is missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from driftline import Client, DeploymentConfigBuilder, Fixed, Framework, Promise
from driftline.errors import (
    ConflictError,
    EntityNotFoundError,
    InvalidInputError,
    NotYetError,
    PermanentError,
    UnreachableError,
)
from driftline.pipeline.iopath import projected_parts
from driftline.sdk.login import Address, login_file, write
from driftline.wire import api

Summing = Callable[..., Any]


def test_a_hub_is_found_by_argument_variable_and_login(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DRIFTLINE_URL", raising=False)
    assert Client(hub.url).url == hub.url
    write(login_file(), Address(hub.url))
    assert Client().url == hub.url
    monkeypatch.setenv("DRIFTLINE_URL", "http://127.0.0.1:9")
    with pytest.raises(
        UnreachableError, match=r"no hub answers at http://127\.0\.0\.1:9; start one with: driftline up"
    ):
        Client()
    assert Client(hub.url).url == hub.url


def test_a_hub_of_another_api_is_refused(hub: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("driftline.sdk.client.API_VERSION", 2)
    with pytest.raises(PermanentError, match=r"speaks API 1, this client 2; install the same here: pip install"):
        Client(hub.url)


def test_a_workspace_is_made_once_and_stays_current(client: Client):
    workspace = client.get_or_create_workspace("retail")
    assert client.get_or_create_workspace("retail") == workspace
    assert client.set_current_workspace(workspace) == client.set_current_workspace(workspace) == workspace
    assert client.get_current_workspace() == workspace
    assert {one.name for one in client.list_workspaces()} == {"shop", "retail"}
    with pytest.raises(ConflictError, match="retail"):
        client.create_workspace("retail")
    with pytest.raises(EntityNotFoundError, match=r"no workspace 'absent' \(there are: retail, shop\)"):
        client.get_workspace("absent")
    with pytest.raises(InvalidInputError, match=r"get_or_create_workspace\(name\) gives one"):
        client.set_current_workspace("retail")


def test_without_a_workspace_there_is_a_default_one(hub: Any):
    assert Client(hub.url).get_current_workspace().name == "default"


def test_a_model_is_uploaded_until_ready(client: Client, summing: Summing, capsys: pytest.CaptureFixture[str]):
    model = summing(client)
    assert (model.name, model.name(), model.status, model.framework) == ("summing", "summing", "ready", "custom")
    printed = capsys.readouterr().out
    assert printed.startswith("Waiting for model loading")
    assert printed.endswith("Ready\n")
    assert client.list_models() == [model]
    assert client.get_model("summing") == model
    with pytest.raises(EntityNotFoundError, match=r"no model 'absent'.*upload it"):
        client.get_model("absent")


def test_the_same_folder_is_the_same_file(client: Client, summing: Summing):
    first, second = summing(client), summing(client)
    assert first.sha == second.sha
    assert first.id != second.id
    assert client.get_model("summing") == second


def test_a_model_that_does_not_run_says_why(client: Client, summing: Summing):
    with pytest.raises(InvalidInputError, match=r"model 'broken' cannot run: .*no such class"):
        summing(client, "broken", code="x = 1")
    with pytest.raises(InvalidInputError, match="model 'other' cannot run"):
        summing(client, "other", output_schema=pa.schema([("product", pa.float64())]))


def test_what_is_no_model_never_leaves_this_machine(client: Client, tmp_path: Path):
    schema = pa.schema([("x", pa.float32())])
    for folder in ("empty", "whole"):
        (tmp_path / folder).mkdir()
    (tmp_path / "whole" / "model.py").write_text("class Model: ...")
    (tmp_path / "model.txt").write_text("no zip")
    for path, framework, message in [
        ("absent.onnx", Framework.ONNX, "there is no model at"),
        ("empty", Framework.CUSTOM, r"has no model\.py"),
        ("empty", Framework.ONNX, "is a folder"),
        ("model.txt", Framework.CUSTOM, "neither a folder nor a zip"),
        ("model.txt", "tensorflow", "does not run on driftline devices"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            client.upload_model("model", tmp_path / path, framework, schema, schema)
    with pytest.raises(InvalidInputError, match="input_schema is missing; describe one inference"):
        client.upload_model("model", tmp_path / "whole", Framework.CUSTOM)
    assert client.list_models() == []


def test_a_zip_is_as_good_as_its_folder(client: Client, summing: Summing, tmp_path: Path):
    model = summing(client)
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "summing")
    schemas = (model.input_schema, model.output_schema)
    assert client.upload_model("zipped", archive, Framework.CUSTOM, *schemas).status == "ready"


def test_equal_steps_are_the_same_version(client: Client, summing: Summing):
    model = summing(client)
    pipeline = client.build_pipeline("sums").add_model_step(model)
    assert client.list_pipelines() == [], "nothing is sent before it is needed"
    version = pipeline.version
    assert client.build_pipeline("sums").add_model_step(model).version == version
    assert client.build_pipeline("sums").version == version
    changed = client.build_pipeline("sums").add_model_step(summing(client))
    assert changed.status()["status"] == "Created"
    assert client.get_pipeline("sums").versions() == [version], "looking at a pipeline makes no version"
    assert changed.versions()[1:] == [version]


def test_the_newest_pipeline_comes_first(client: Client, summing: Summing):
    model = summing(client)
    for name in ("first", "second"):
        assert client.build_pipeline(name).add_model_step(model).version
    assert [one.name for one in client.list_pipelines()] == ["second", "first"]
    assert client.get_pipeline("first").model_names == ["summing"]
    with pytest.raises(EntityNotFoundError, match=r"no pipeline 'third' \(there are: first, second\)"):
        client.get_pipeline("third")


def test_what_a_pipeline_cannot_do_yet_says_what_to_do_instead(client: Client, summing: Summing):
    model = summing(client)
    pipeline = client.build_pipeline("sums")
    with pytest.raises(InvalidInputError, match=r"has no model to run; add one with add_model_step\(model\)"):
        pipeline.deploy()
    with pytest.raises(InvalidInputError, match=r"takes what upload_model\(\) returned, not 'summing'"):
        pipeline.add_model_step("summing")
    for call in (
        lambda: pipeline.add_shadow_deploy(model, [model]),
        lambda: pipeline.add_random_split([(2, model), (1, model)], "session"),
        pipeline.export_logs,
    ):
        with pytest.raises(NotYetError, match=r"yet|later"):
            call()
    assert client.list_pipelines() == []


def test_rows_for_a_pipeline_that_nobody_runs_are_refused(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    with pytest.raises(InvalidInputError, match=r"call deploy\(\) first"):
        pipeline.infer(pd.DataFrame({"tensor": [[1, 2, 3, 4]]}))
    assert pipeline.logs().empty
    assert list(pipeline.logs().columns) == [
        "time", "in.tensor", "out.sum", "out.parts", "anomaly.count", "device",
    ]  # fmt: skip


def test_a_publish_gives_each_device_its_token(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    publish = pipeline.publish()
    edge = publish.add_edge("till-1")
    assert edge.token
    assert edge.command == f"driftline edge join {edge.token}"
    assert [one.name for one in publish.list_edges()] == ["till-1"]
    assert [one.version for one in client.list_publishes()] == [pipeline.version]
    assert [device.name for device in client.list_devices()] == ["till-1"]
    assert client.get_device("till-1").joined is False
    assert pipeline.status()["devices"][0]["state"] == "not joined"
    assert client.set_link("till-1", rows_kb_a_day=200, newest_first=True) == client.get_device("till-1")
    assert client.get_device("till-1").link.rows_kb_a_day == 200
    client.remove_device("till-1")
    with pytest.raises(EntityNotFoundError, match="no device 'till-1'"):
        client.get_device("till-1")


def test_an_observe_only_pipeline_has_no_model(client: Client):
    publish = client.build_pipeline("own-program").publish()
    assert publish.add_edge("till-2").token
    assert client.get_pipeline("own-program").model_names == []


def test_an_assay_is_saved_listed_and_switched_off(client: Client, summing: Summing, tmp_path: Path):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    (tmp_path / "baseline.csv").write_text("1,2,3\n")
    builder = client.build_assay("sum", pipeline, "summing", "output sum 0", str(tmp_path / "baseline.csv"))
    builder.window_builder().add_width(minutes=3)
    builder.summarizer_builder.add_num_bins(3)
    builder.add_alert_threshold(0.5).add_warning_threshold(0.1)
    run = builder.build().interactive_run()
    assert len(run) == 0
    assert run.notes
    assert client.list_assays() == [], "a preview is not stored"

    assay_id = builder.upload()
    (assay,) = client.list_assays()
    assert (assay.id, assay.name, assay.active, assay.fields) == (assay_id, "sum", True, ["out.sum"])
    assert (assay.spec.windows.width_s, assay.spec.summarizer.num_bins) == (180, 3)
    assert assay.spec.alarm == api.Fixed(threshold=0.5, warning=0.1)
    assert len(client.get_assay_results(assay_id)) == 0
    assert client.set_assay_active(assay_id, active=False).active is False
    with pytest.raises(ConflictError, match="'sum'"):
        builder.upload()
    with pytest.raises(EntityNotFoundError):
        client.get_assay_results("absent")
    assert (assay.turn_on().active, assay.turn_off().active) == (True, False)

    (info,) = client.get_assay_info(assay_id).to_dict("records")
    assert info == {
        "id": assay_id, "name": "sum", "active": False, "warning_threshold": 0.1, "alert_threshold": 0.5,
        "pipeline_name": "sums", "iopath": "output sum 0", "width_s": 180, "interval_s": 180,
        "false_alarm_every_s": None, "created": info["created"],
    }  # fmt: skip

    assay.edit(alarm=Fixed(0.7), width="5 minutes", opening_hours="daily 08:00-20:00", note="too shrill")
    assert (assay.spec.alarm, assay.spec.windows) == (api.Fixed(threshold=0.7), api.Windows(width_s=300))
    (edition,) = assay.history()
    assert (edition.version, edition.note) == (2, "too shrill")
    assert edition.after["calendar.opening_hours"] == "daily 08:00-20:00"

    with pytest.raises(InvalidInputError, match="site, a device or an assay"):
        client.plan_maintenance("2026-01-01", "2026-01-02")
    planned = client.plan_maintenance("2026-01-01", "2026-01-02", "new lens", assay=assay)
    assert [(one.id, one.reason, one.assay) for one in client.list_maintenance()] == [
        (planned.id, "new lens", assay_id)
    ]
    client.end_maintenance(planned)

    client.set_site_hours("Berlin", "Mon-Sat 07:00-20:00", time_zone="Europe/Berlin")
    assert [(one.site, one.time_zone, one.opening_hours) for one in client.list_sites()] == [
        ("Berlin", "Europe/Berlin", "Mon-Sat 07:00-20:00")
    ]
    client.set_site_hours("Berlin")
    assert client.list_sites() == []

    copy = assay.clone("sum again")
    assert (copy.name, copy.active, copy.spec.alarm) == ("sum again", True, assay.spec.alarm)
    client.remove_assay(assay_id)
    assert [one.id for one in client.list_assays()] == [copy.id]


def test_the_arguments_of_an_assay_go_by_place_or_by_name(client: Client, summing: Summing):
    model = summing(client)
    pipeline = client.build_pipeline("sums").add_model_step(model)
    by_place = client.build_assay("sum", pipeline, "summing", "output parts 1", [1.0, 2.0]).build().spec
    assert by_place.watched == [api.Watched(field="out.parts.1", iopath="output parts 1")]
    assert by_place.alarm == api.Fixed(threshold=0.25, warning=None)
    for named in (
        {"pipeline": pipeline, "step_name": "summing"},
        {"pipeline": "sums", "model_name": model.name},
        {"pipeline": pipeline, "model_name": model},
    ):
        builder = client.build_assay(
            assay_name="sum", iopath="output parts 1", baseline_data=pd.Series([1.0, 2.0]), **named
        )
        assert builder.build().spec == by_place


def test_an_assay_that_asks_nothing_definite_is_refused(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    start, end = "2026-01-01T10:00:00", "2026-01-01T11:00:00"
    for arguments, message in [
        ({"iopath": "output total 0", "baseline_data": [1]}, "has no field 'out.total.0'.*it has: out.sum float64"),
        ({"iopath": "output sum 0"}, "needs a baseline to compare with: baseline_data"),
        ({"iopath": "output sum 0", "baseline_start": start}, "needs a baseline"),
        ({"iopath": "output sum 0", "baseline_start": end, "baseline_end": start}, "exchange the two"),
        ({"iopath": "output sum 0", "baseline_data": [1], "baseline_start": start}, "not both"),
        ({"iopath": "output sum 0", "baseline_data": [1], "step_name": "other"}, "no step 'other'; its steps are"),
        ({"iopath": 3, "baseline_data": [1]}, "iopath is 3; write which number is watched"),
        ({"iopath": [], "baseline_data": [1]}, "iopath is an empty list; name at least one"),
        ({"iopath": ["output sum", "out.sum"], "baseline_data": [1]}, "out.sum is named twice, the second time as"),
        ({"iopath": "output sum 0", "baseline_data": [1], "alarm": 0.25}, r"alarm is 0\.25; give driftline.Promise"),
        ({"iopath": "output sum 0", "baseline_data": [1], "baseline_season": "day"}, "have no season"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            client.build_assay("sum", pipeline, **arguments)
    with pytest.raises(InvalidInputError, match="does not say what it watches"):
        client.build_assay("sum", pipeline, baseline_data=[1]).build()
    builder = client.build_assay("sum", pipeline, iopath="output sum 0", baseline_data=[1])
    with pytest.raises(InvalidInputError, match="threshold is -1"):
        builder.add_alert_threshold(-1)
    with pytest.raises(InvalidInputError, match="would look at no device"):
        builder.add_location_filter([])
    with pytest.raises(EntityNotFoundError, match="'till-9'"):
        builder.add_location_filter(["till-9"]).build().interactive_run()


def test_a_promise_and_a_threshold_are_not_mixed(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    promise = Promise("30 days", min_effect=0.1)
    builder = client.build_assay("sum", pipeline, iopath="output sum 0", baseline_data=[1, 2], alarm=promise)
    asked = api.Promise(false_alarm_every_s=2_592_000, min_effect=0.1)
    for call in (builder.add_alert_threshold, builder.add_warning_threshold):
        with pytest.raises(InvalidInputError, match=r"one false alarm in 30 days.*leave out this call, or the promise"):
            call(0.5)
    assert builder.build().spec.alarm == asked
    builder.add_alarm(Fixed(0.5)).add_warning_threshold(0.1)
    assert builder.build().spec.alarm == api.Fixed(threshold=0.5, warning=0.1)
    assert builder.add_alarm(promise).build().spec.alarm == asked
    with pytest.raises(InvalidInputError, match="alarm is '30 days'"):
        builder.add_alarm("30 days")


def test_an_assay_watches_several_fields_under_one_alarm(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    frame = pd.DataFrame({"sum": [1.0, 2.0, 3.0], "out.parts.1": [4.0, 5.0, None], "other": [0, 0, 0]})
    iopaths = ["output sum 0", "output parts 1"]
    config = client.build_assay("sums", pipeline, iopath=iopaths, baseline_data=frame).build()
    assert config.fields == ["out.sum", "out.parts.1"]
    assert config.spec.baseline.values == {"out.sum": [1.0, 2.0, 3.0], "out.parts.1": [4.0, 5.0, None]}  # noqa: PD011  a message
    assert list(config.baseline_dataframe().columns) == ["output_sum_0", "output_parts_1"]
    assert [one.field for one in config.baselines] == config.fields
    assert [one.field for one in config.baseline_health()] == config.fields
    with pytest.raises(InvalidInputError, match=r"a baseline for each of out\.sum, out\.parts\.1; give"):
        config.baseline_histogram()
    assert str(config.baseline_histogram(field="output parts 1")).startswith("<svg")
    builder = client.build_assay("sums", pipeline, iopath=iopaths, baseline_data=frame)
    assert builder.add_iopath("output sum").build().fields == ["out.sum"], "add_iopath sets, as on the reference"
    with pytest.raises(InvalidInputError, match=r"none is 'output parts 0'; name it 'parts'"):
        builder.add_iopath(["output sum", "output parts 0"]).build()


def test_an_assay_knows_where_and_when_its_devices_work(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    builder = client.build_assay("sum", pipeline, iopath="output sum 0", baseline_data=[1, 2])
    assert builder.build().spec.calendar == api.Calendar()
    builder.add_calendar("Europe/Zurich", opening_hours="Mon-Sat 07:00-20:00")
    assert builder.build().spec.calendar == api.Calendar(time_zone="Europe/Zurich", opening_hours="Mon-Sat 07:00-20:00")
    assert "Europe/Zurich, Mon-Sat 07:00-20:00" in builder.build()._repr_html_()
    with pytest.raises(InvalidInputError, match="opening_hours is 7; give text"):
        builder.add_calendar(opening_hours=7)  # pyright: ignore[reportArgumentType]  what a notebook may do


def test_a_baseline_of_a_promise_says_what_it_carries(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    builder = client.build_assay(
        "sum", pipeline, iopath="output sum 0", baseline_data=list(range(500)), alarm=Promise("30 days")
    )
    (health,) = builder.baseline_health()
    assert health.field == "out.sum"
    assert "look again after the first" in str(health), "no window has shown how many values one has"
    assert "look again after the first" in builder.build()._repr_html_()


def test_a_card_says_over_which_bins_and_those_of_text_are_its_categories(client: Client, summing: Summing):
    code = (
        "class Model:\n    def load(self, folder): pass\n    def predict(self, inputs): return {'y': 1.0, 'kind': 'a'}"
    )
    schema = pa.schema([("y", pa.float64()), ("kind", pa.string())])
    model = summing(client, "kinds", code=code, output_schema=schema)
    pipeline = client.build_pipeline("kinds").add_model_step(model)

    def card(*fields: str) -> str:
        data = {"y": [1.0, 2.0], "kind": ["a", "b"]}
        config = client.build_assay("-".join(fields), pipeline, iopath=[f"output {one}" for one in fields],
                                    baseline_data={one: data[one] for one in fields}).build()  # fmt: skip
        shown = config._repr_html_()
        assert client.get_assay(config.upload())._repr_html_().count("psi over") == 1
        return shown

    assert "psi over categories<" in card("kind")
    assert "psi over 5 quantile bins, density<" in card("y")
    assert "psi over categories, of numbers over 5 quantile bins, density<" in card("y", "kind")


def test_a_vector_of_a_pipeline_without_steps_takes_another_baseline(client: Client):
    pipeline = client.build_pipeline("faces")
    pipeline.publish()
    draw = np.random.default_rng(1)
    data = {"embedding": list(draw.normal(size=(50, 3))), "score": draw.random(50)}
    assay = client.get_assay(
        client.build_assay("faces", pipeline, iopath=["output embedding", "output score"], baseline_data=data).upload()
    )
    assert assay.fields == [*(f"out.embedding.{one}" for one in projected_parts(3)), "out.score"]
    other = {"embedding": list(2 * draw.normal(size=(40, 3))), "score": draw.random(40)}
    assay.set_baseline(data=other)
    assert assay.baseline_version == 2
    by_field = {one.field: one for one in assay.baselines}
    assert by_field.keys() == set(assay.fields)
    assert {one.count for one in by_field.values()} == {40}
    # Made as before, standardised by the first vectors: these are twice as large.
    assert by_field["out.embedding.norm"].mean == pytest.approx(2.0, abs=0.4)
    with pytest.raises(InvalidInputError, match=r"none is 'out\.embedding'; name it 'embedding'"):
        assay.set_baseline(data={"score": [0.5]})
    with pytest.raises(InvalidInputError, match=r"vectors of out\.embedding have 4 numbers each; out\.embedding has 3"):
        assay.set_baseline(data={"embedding": list(draw.normal(size=(9, 4))), "score": draw.random(9)})


@pytest.mark.parametrize("min_count", ["many", 0, 2.5, True])
def test_a_least_count_that_is_none_is_refused(client: Client, summing: Summing, min_count: Any):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    builder = client.build_assay("sums", pipeline, iopath="output sum 0", baseline_data=[1.0, 2.0])
    with pytest.raises(InvalidInputError, match="give a whole number of values, 1 or more"):
        builder.add_min_count(min_count)


def test_a_standing_assay_takes_another_baseline(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    frame = {"sum": [1.0, 2.0, 3.0], "parts": [[4.0, 1.0], [5.0, 1.0], [6.0, 1.0]]}
    iopaths = ["output sum 0", "output parts 0"]
    assay = client.get_assay(client.build_assay("sums", pipeline, iopath=iopaths, baseline_data=frame).upload())
    assert (assay.baseline_version, [one.count for one in assay.baselines]) == (1, [3, 3])
    assert assay.set_baseline(data={"sum": [1.0, 2.0], "parts": [4.0, 5.0]}) is assay
    assert (assay.baseline_version, [one.count for one in assay.baselines]) == (2, [2, 2])
    assert [one.version for one in assay.baseline_versions()] == [1, 2]
    assert "2 values of out.sum, 2 values of out.parts.0" in assay.baseline_versions()._repr_html_()
    assert client.get_assay(str(assay.id)).baseline_version == 2
    for arguments, message in [
        ({}, "give start= and end=, or data="),
        ({"start": "2026-01-01"}, "give start= and end=, or data="),
        ({"data": [1.0], "start": "2026-01-01", "end": "2026-01-02"}, "not both"),
        ({"data": {"sum": [1.0]}}, "none is 'output parts 0'"),
        ({"incident": "one", "data": [1.0]}, "give either incident=, or start and end, or data"),
        ({"start": "2026-01-01T10:00:00Z", "end": "2026-01-01T11:00:00Z", "season": "month"}, "give 'day' where"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            assay.set_baseline(**arguments)
    with pytest.raises(EntityNotFoundError, match="incident"):
        assay.set_baseline(incident="absent")


def test_a_baseline_is_looked_at_before_anything_runs(client: Client, summing: Summing):
    pipeline = client.build_pipeline("sums").add_model_step(summing(client))
    builder = client.build_assay("sum", pipeline, iopath="output sum 0", baseline_data=[1, 2, 2, None])
    frame = builder.baseline_dataframe()
    assert list(frame["output_sum_0"].dropna()) == [1, 2, 2]
    assert len(frame) == 4
    assert str(builder.baseline_histogram()).startswith("<svg")


def test_a_deployment_config_is_the_dictionary_of_the_reference(client: Client, summing: Summing):
    model = summing(client)
    config = (
        DeploymentConfigBuilder().replica_count(1).cpus(1).memory("2Gi")
        .sidekick_cpus(model, 1).sidekick_memory(model, "6Gi").build()
    )  # fmt: skip
    limits = {"cpu": 1, "memory": "2Gi"}
    own = {"cpu": 1, "memory": "6Gi"}
    assert config == {
        "engine": {"replicas": 1, "cpu": 1, "resources": {"limits": limits, "requests": limits}},
        "enginelb": {},
        "engineAux": {"images": {str(model.id): {"resources": {"limits": own, "requests": own}}}},
        "node_selector": {},
    }
    assert json.loads(json.dumps(config)) == config


def test_everything_a_notebook_shows_is_html(client: Client, summing: Summing):
    model = summing(client)
    pipeline = client.build_pipeline("sums").add_model_step(model)
    publish = pipeline.publish()
    edge = publish.add_edge("till-1")
    builder = client.build_assay("sum", pipeline, iopath="output sum 0", baseline_data=[1, 2])
    config = builder.build()
    builder.upload()
    for shown in (
        client, client.get_current_workspace(), model, pipeline, publish, edge, config, client.list_workspaces(),
        client.list_models(), client.list_pipelines(), client.list_publishes(), client.list_devices(),
        client.list_assays(), client.list_assays()[0], client.list_incidents(), pipeline.publishes(),
        publish.list_edges(),
    ):  # fmt: skip
        assert shown._repr_html_().startswith("<table>"), shown
        assert "object at 0x" not in repr(shown)
