"""Who is a device and who is not."""

import time
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from driftline.clock import NS_PER_S
from driftline.hub.store.fleet import devices, tokens
from driftline.wire.device import JoinToken


@pytest.fixture
def till(ask: Any):
    return ask.observed_pipeline()


@pytest.fixture
def edge(ask: Any, till: Any):
    """A device to be, with its token."""
    publish = ask.post(f"/pipelines/{till['id']}/publish")
    return ask.post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})


def secret_of(edge: Any):
    return JoinToken.parse(edge["token"]).secret


def test_a_token_says_where_the_hub_is_and_works_for_an_hour(hub: Any, edge: Any):
    token = JoinToken.parse(edge["token"])
    assert (token.url, token.fingerprint) == (hub.url, None)
    assert edge["command"] == f"driftline edge join {edge['token']}"
    assert 3590 < (edge["expires_ns"] - time.time_ns()) / NS_PER_S <= 3600


def test_only_a_hash_of_the_secret_is_kept(hub: Any, edge: Any):
    with hub.database.reading() as connection:
        kept = repr(connection.execute(tokens.select()).all())
    assert secret_of(edge) not in kept


def test_a_token_works_once(ask: Any, edge: Any):
    joined = ask.post("/join", {"secret": secret_of(edge), "software": "test"})
    assert (joined["device"], joined["name"], len(joined["key"])) == (edge["id"], "camera-1", 64)
    status, code, message = ask.refusal("POST", "/join", {"secret": secret_of(edge)})
    assert (status, code) == (403, "not_allowed")
    assert "used already" in message
    assert "publish.add_edge('camera-1')" in message


def test_an_expired_token_says_what_makes_a_new_one(hub: Any, ask: Any, edge: Any):
    with hub.database.writing() as connection:
        connection.execute(update(tokens).values(expires_real_ns=time.time_ns() - 1))
    _, code, message = ask.refusal("POST", "/join", {"secret": secret_of(edge)})
    assert code == "not_allowed"
    assert "has expired; make a new one with publish.add_edge('camera-1')" in message
    assert ask.get("/devices/camera-1")["joined"] is False


def test_a_newer_token_makes_the_older_one_worth_nothing(ask: Any, till: Any, edge: Any):
    publish = ask.post(f"/pipelines/{till['id']}/publish")
    newer = ask.post(f"/publishes/{publish['id']}/edges", {"name": "camera-1"})
    assert ask.refusal("POST", "/join", {"secret": secret_of(edge)})[1] == "not_allowed"
    assert ask.post("/join", {"secret": secret_of(newer)})["device"] == edge["id"]


def test_a_token_that_was_never_given_out_is_refused(ask: Any):
    assert ask.refusal("POST", "/join", {"secret": "guessed"})[0] == 403
    assert ask.refusal("POST", "/join", {})[0] == 400


def test_a_wrong_signature_is_refused_and_uses_up_no_number(ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    body = camera.batch([])
    assert camera.post(body, key=b"another key of thirty-two bytes!").status_code == 403
    assert camera.post(body, request=camera.request).status_code == 200


def test_a_changed_body_no_longer_fits_its_signature(ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    sent = camera.post(camera.batch([])).request.headers
    signed = {name: value for name, value in sent.items() if name.startswith("driftline-")}
    signed["Driftline-Request"] = "2"
    assert ask.http.post("/sync", content=camera.batch([], backlog=9), headers=signed).status_code == 403


def test_a_recorded_request_cannot_be_sent_again(ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    body = camera.batch([])
    assert camera.post(body, request=5).status_code == 200
    for number in (5, 4):
        again = camera.post(body, request=number)
        assert again.status_code == 403
        error = again.json()["error"]
        assert (error["code"], error["last_request"]) == ("stale_request", 5)
        assert "the last was 5" in error["message"]
    assert camera.post(body, request=6).status_code == 200


@pytest.mark.parametrize("number", ["", "-1", "one", "9" * 19, "9" * 4000, "١"])
def test_a_request_without_a_number_that_can_be_is_refused(ask: Any, till: Any, number: Any):
    camera = ask.joined("camera-1", till)
    headers = {"Driftline-Device": camera.id, "Driftline-Request": number.encode(), "Driftline-Signature": "00"}
    assert ask.http.post("/sync", content=b"", headers=headers).status_code == 403


def test_a_device_cannot_send_in_anothers_name(ask: Any, till: Any):
    one, other = ask.joined("camera-1", till), ask.joined("camera-2", till)
    reply = one.post(one.batch([], device=other.id))
    assert reply.status_code == 400
    assert "a device sends its own" in reply.json()["error"]["message"]


def test_a_removed_device_is_refused_and_its_name_may_join_again(hub: Any, ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    ask.delete("/devices/camera-1")
    assert camera.post(camera.batch([])).status_code == 403
    assert ask.get("/devices")["items"] == []
    again = ask.joined("camera-1", till)
    assert again.id == camera.id
    assert again.send().acknowledged == 0
    with hub.database.reading() as connection:
        assert len(connection.execute(devices.select()).all()) == 1


def test_a_file_goes_only_to_a_device_that_should_run_it(hub: Any, ask: Any, till: Any):
    camera = ask.joined("camera-1", till)
    secret = "ab" * 32
    (hub.models / secret).write_bytes(b"somebody else's model")
    assert camera.get_bundle(secret).status_code == 404
    assert camera.get_bundle("../hub.db").status_code == 404
    assert ask.http.get(f"/bundles/{secret}").status_code == 403


def test_a_stranger_may_not_sync(hub: Any):
    reply = httpx2.post(hub.url + "/api/v1/sync", content=b"", trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_allowed")
