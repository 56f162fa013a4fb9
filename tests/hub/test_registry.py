"""Workspaces, models that are really loaded, pipelines and their versions."""

import hashlib
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

DOUBLE = """
class Model:
    def load(self, folder):
        pass

    def predict(self, inputs):
        return {"double": inputs["x"] * 2}
"""


def zipped(source: Any = DOUBLE):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("model.py", source)
    return made.getvalue()


def announcement(data: Any, name: Any = "double", **changes: Any):
    return {
        "name": name,
        "framework": "custom",
        "digest": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "input_schema": [{"name": "x", "type": "float64", "shape": []}],
        "output_schema": [{"name": "double", "type": "float64", "shape": []}],
    } | changes


def uploaded(ask: Any, workspace: Any, data: Any, **changes: Any):
    model = ask.post(f"/workspaces/{workspace}/models", announcement(data, **changes))
    assert model["status"] == "pending"
    assert ask.http.put(f"/models/{model['id']}/file", content=data).status_code == 200
    deadline = time.monotonic() + 60
    while model["status"] in {"pending", "loading"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        model = ask.get(f"/models/{model['id']}")
    return model


@pytest.fixture
def shop(ask: Any):
    return ask.workspace()["id"]


def test_a_workspaces_name_is_its_own(ask: Any, shop: Any):
    assert ask.refusal("POST", "/workspaces", {"name": " shop "})[:2] == (409, "conflict")
    assert [one["name"] for one in ask.get("/workspaces")["items"]] == ["shop"]
    assert ask.get(f"/workspaces/{shop}")["name"] == "shop"


def test_a_model_that_runs_becomes_ready_and_makes_a_pipeline_with_versions(hub: Any, ask: Any, shop: Any):
    data = zipped()
    model = uploaded(ask, shop, data)
    assert (model["status"], model["error"]) == ("ready", None)
    assert (hub.models / model["digest"]).read_bytes() == data
    assert list(hub.temporary.iterdir()) == []
    steps = [{"model": model["id"]}]
    first = ask.post(f"/workspaces/{shop}/pipelines", {"name": "doubling", "steps": steps})
    second = ask.post(f"/workspaces/{shop}/pipelines", {"name": "doubling", "steps": steps})
    assert first["id"] == second["id"]
    assert [one["id"] for one in second["versions"]][1] == first["versions"][0]["id"]
    assert first["versions"][0]["definition"]["outputs"][0]["name"] == "double"
    assert [one["id"] for one in ask.get(f"/workspaces/{shop}/pipelines")["items"]] == [first["id"]]
    camera = ask.joined("camera-1", second)
    camera.send()
    (wanted,) = camera.desired.pipelines
    assert wanted.files[model["id"]].size == len(data)
    bundle = camera.get_bundle(wanted.files[model["id"]].digest)
    assert (bundle.status_code, bundle.content) == (200, data)


def test_a_model_that_does_not_run_says_why_and_leaves_no_file(hub: Any, ask: Any, shop: Any):
    model = uploaded(ask, shop, zipped("raise ValueError('weights are missing')"))
    assert model["status"] == "error"
    assert "weights are missing" in model["error"]
    assert list(hub.models.iterdir()) == []
    status, code, message = ask.refusal(
        "POST", f"/workspaces/{shop}/pipelines", {"name": "p", "steps": [{"model": model["id"]}]}
    )
    assert (status, code) == (400, "invalid")
    assert "weights are missing" in message


def test_bytes_that_were_not_announced_are_refused_and_may_be_sent_again(hub: Any, ask: Any, shop: Any):
    data = zipped()
    model = ask.post(f"/workspaces/{shop}/models", announcement(data))
    reply = ask.http.put(f"/models/{model['id']}/file", content=data[:-1])
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid")
    assert "torn on the way" in reply.json()["error"]["message"]
    assert list(hub.temporary.iterdir()) == []
    assert ask.get(f"/models/{model['id']}")["status"] == "pending"


def test_a_version_never_changes(ask: Any, shop: Any):
    data = zipped()
    model = uploaded(ask, shop, data)
    reply = ask.http.put(f"/models/{model['id']}/file", content=data)
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"framework": "tensorflow"}, "Framework.ONNX"),
        ({"digest": "abc"}, "SHA-256"),
        ({"size": 0}, "bytes"),
        ({"name": "a/b"}, "cannot be a name"),
        ({"input_schema": [{"name": "x", "type": "float16"}]}, "the types are"),
        ({"input_schema": [{"name": "x", "type": "int8"}] * 2}, "two fields"),
    ],
)
def test_a_model_that_cannot_be_is_refused(ask: Any, shop: Any, changes: Any, words: str):
    status, code, message = ask.refusal("POST", f"/workspaces/{shop}/models", announcement(b"x", **changes))
    assert (status, code) == (400, "invalid")
    assert words in message
    assert ask.get(f"/workspaces/{shop}/models")["items"] == []


def test_a_model_of_another_workspace_is_not_found(ask: Any, shop: Any):
    model = uploaded(ask, shop, zipped())
    other = ask.workspace("other")["id"]
    new = {"name": "p", "steps": [{"model": model["id"]}]}
    assert ask.refusal("POST", f"/workspaces/{other}/pipelines", new)[:2] == (404, "not_found")
    assert ask.get(f"/workspaces/{other}/pipelines")["items"] == []


def test_a_check_that_a_stopped_hub_left_open_is_made_at_the_next_start(serve_hub: Any, ask_at: Any, tmp_path: Path):
    from driftline.hub.store.registry import models

    first = serve_hub(home=tmp_path / "home")
    ask = ask_at(first)
    model = uploaded(ask, ask.workspace()["id"], zipped())
    ask.http.close()
    with first.database.writing() as connection:
        connection.execute(models.update().values(status="loading"))
    (first.temporary / "upload-half").write_bytes(b"half")
    again = serve_hub(home=tmp_path / "home")
    ask = ask_at(again)
    deadline = time.monotonic() + 60
    while ask.get(f"/models/{model['id']}")["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(again.temporary.iterdir()) == []
    ask.http.close()
