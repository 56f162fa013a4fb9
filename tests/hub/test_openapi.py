"""Every route is declared whole, in one document; a tool that knows nothing of us finds nothing wrong with it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import Response
from starlette.routing import Route

from driftline.errors import EntityNotFoundError
from driftline.hub.accounts import people
from driftline.hub.http import HTML, Call, Routes
from driftline.hub.openapi import names_in
from driftline.hub.policy import DEVICE, VIEWER
from driftline.hub.server import application, rules_of
from driftline.wire import api


@pytest.fixture
def document(hub: Any) -> Any:
    return httpx2.get(hub.url + "/openapi.json", trust_env=False).json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_a_route_without_a_policy_cannot_be_registered():
    with pytest.raises(TypeError, match="policy"):
        Routes().get("/secrets")  # type: ignore[call-arg]


def test_a_route_that_went_past_our_own_layer_is_noticed(hub: Any):
    made = application(hub)
    assert len(rules_of(made)) > 60
    made.routes.append(Route("/secrets", lambda request: Response("all of them")))
    with pytest.raises(RuntimeError, match="no policy"):
        rules_of(made)


def test_every_route_for_programs_is_in_the_document_with_its_policy(hub: Any, document: Any):
    rules = {(rule.method, rule.path): str(rule.policy) for rule in rules_of(application(hub)) if rule.media != HTML}
    assert {(method, path): one["x-policy"] for method, path, one in operations(document)} == rules


def test_every_operation_says_what_comes_in_what_goes_out_and_how_it_fails(document: Any):
    for method, path, one in operations(document):
        assert one["summary"], path
        assert {each["name"] for each in one["parameters"] if each["in"] == "path"} == set(names_in(path))
        (success,) = one["responses"]["200"]["content"].values()
        assert success["schema"] or path.startswith("/oauth/") or path.endswith(("/sync", "/openapi.json")), path
        refused = {status for status in one["responses"] if status >= "400"}
        assert {"403", "429", "500", "503"} <= refused, path
        assert ("401" in refused) is (one["x-policy"] not in {"public", "device"}), path
        assert ("404" in refused) is ("{" in path), path
        if method in {"POST", "PUT"}:
            assert {"400", "413"} <= refused, path
        for status in refused:
            schema = one["responses"][status]["content"]["application/json"]["schema"]
            envelope = {"$ref": "#/components/schemas/ErrorReply"}
            # RFC 6749 has an envelope of its own for a grant that is refused.
            assert schema == envelope or (path.startswith("/oauth/") and envelope in schema["anyOf"])


def test_names_are_unique_and_every_reference_leads_somewhere(document: Any):
    names = [one["operationId"] for _, _, one in operations(document)]
    assert len(set(names)) == len(names)
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert referred <= set(document["components"]["schemas"])
    assert not [name for name in document["components"]["schemas"] if "." in name]


def test_every_list_that_can_grow_is_paged(document: Any):
    lists = {path for method, path, one in operations(document) if method == "GET" and _is_list(one)}
    paged = {path for path in lists if _query(document, path) >= {"limit", "after"}}
    # These grow by people's acts alone, or not at all.
    by_hand = {
        "/api/v1/assays/{assay}/baselines",
        "/api/v1/assays/{assay}/baselines/versions",
        "/api/v1/assays/{assay}/history",
        "/api/v1/incidents/{incident}/history",
        "/api/v1/incidents/{incident}/notifications",
        "/api/v1/notifications/channels",
        "/api/v1/retention",
        "/api/v1/workspaces/{workspace}/maintenance",
        "/api/v1/workspaces/{workspace}/sites",
    }
    assert lists - paged == by_hand


def _is_list(operation: Any) -> bool:
    schema = operation["responses"]["200"]["content"].get("application/json", {"schema": {}})["schema"]
    return "items" in schema.get("properties", {})


def _query(document: Any, path: str) -> set[str]:
    return {one["name"] for one in document["paths"][path]["get"]["parameters"]}


def test_the_page_for_people_shows_every_route_and_asks_nobody_else(hub: Any, document: Any):
    page = httpx2.get(hub.url + "/api", trust_env=False)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for method, path, _ in operations(document):
        assert f"{method} {path}" in page.text
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)


def test_an_answer_of_a_handler_is_what_its_annotation_says():
    routes = Routes()

    @routes.get("/one", policy=VIEWER, raises=(EntityNotFoundError,))
    def one(call: Call[None]) -> api.Workspace:
        """Return one."""
        raise NotImplementedError

    (rule,) = [rule for route in routes.starlette() for rule in route.rules.values()]
    assert (rule.path, rule.policy, rule.policy == DEVICE) == ("/api/v1/one", VIEWER, False)


# A hook of schemathesis: bodies that are bytes to us are bytes to it.
HOOKS = """
import schemathesis
schemathesis.serializer.alias(["application/vnd.apache.arrow.stream"], "application/octet-stream")
"""
# Whatever fits a schema may still make no sense (an assay of a pipeline that is not there, a name of spaces): 400 with
# words is the answer then, which this check takes for a fault.
CONFIG = """
request-timeout = 120.0
[generation]
deterministic = true
max-examples = 3
[checks]
positive_data_acceptance.enabled = false
[parameters]
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_schemathesis_finds_nothing_that_an_admin_could_do(hub: Any, ask: Any, shop_on: Any, tmp_path: Path):
    ids = shop_on(ask)
    hub.accounts = people.Accounts()
    with hub.database.writing() as connection:
        admin = people.add(connection, "root", people.hash_password("a long password"), hub.now_ns(), is_admin=True)
        token, _ = people.give(connection, "token", admin.id, label="fuzz", scope="admin")
    (tmp_path / "hooks.py").write_text(HOOKS)
    known = "".join(f'"path.{name}" = "{value}"\n' for name, value in ids.items())
    (tmp_path / "schemathesis.toml").write_text(CONFIG + known)
    command = [Path(sys.executable).with_name("schemathesis"), "run", hub.url + "/openapi.json"]
    # More threads than one make CPython 3.11 fail in `ast`, which hypothesis uses.
    options = ["--phases", "coverage,fuzzing", "--workers", "1", "--no-color", "--exclude-checks", "ignored_auth"]
    options += ["--header", f"Authorization: Bearer {token}"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(tmp_path / "hooks.py"), "PYTHONPATH": ""}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    # It was let in to the end, and not refused a hundred times.
    reply = httpx2.get(hub.url + "/api/v1/me", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert (reply.status_code, reply.json()["name"]) == (200, "root")
