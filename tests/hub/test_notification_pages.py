"""The pages of one incident and of notifications, as a browser without scripts has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from driftline.hub import causes, sites
from driftline.hub.notify import routes
from driftline.hub.notify.connection import Network
from driftline.hub.notify.notifier import Round
from driftline.hub.server import application
from driftline.hub.store import incidents as store
from driftline.hub.store.incidents import Part
from driftline.wire import api
from tests.hub.shop import Shop, ns

MARKUP = "<b>till"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    made = Shop.open(tmp_path)
    made.hub.private_targets = True
    for name in ("till-1", "till-2"):
        made.device(name)
        sites.place(made.hub, name, MARKUP)
    made.at(60)
    yield made
    made.hub.database.close()


@pytest.fixture
def browser(shop: Any) -> TestClient:
    return TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)


def opened(shop: Any) -> str:
    with shop.hub.database.writing() as connection:
        for name in ("till-1", "till-2"):
            causes.gather(connection, Part(name, "silent", name, ns(50), text=f"{name} is silent <i>"), ns(51))
        return store.listed(connection)[0].id


def test_an_incident_is_acknowledged_silenced_resolved_and_reopened_by_forms(shop: Any, browser: TestClient) -> None:
    address = f"/incidents/{opened(shop)}"
    steps = [
        ("acknowledge", {"by": "Ada <b>", "note": "on my way"}, "acknowledged"),
        ("silence", {"by": "Ada", "for_s": "3600"}, "silenced"),
        ("close", {"by": "Grace"}, "resolved"),
        ("reopen", {"by": "Grace"}, "silenced"),
    ]
    for what, fields, state in steps:
        page = browser.get(address).text
        assert f'action="{address}/{what}"' in page
        reply = browser.post(f"{address}/{what}", data=fields)
        assert (reply.status_code, reply.headers["location"]) == (303, address)
        assert browser.get(f"{address}.json").json()["line"]["incident"]["state"] == state
    page = browser.get(address).text
    assert "on my way" in page
    assert "Ada &lt;b&gt;" in page
    assert "<i>" not in page
    assert MARKUP not in page
    for device in ("till-1", "till-2"):
        assert f'href="/devices/{device}"' in page


def test_what_cannot_be_done_is_said_on_a_page(shop: Any, browser: TestClient) -> None:
    address = f"/incidents/{opened(shop)}"
    for what, fields, status, says in (
        ("reopen", {}, 409, "nothing to reopen"),
        ("silence", {"for_s": "soon"}, 400, "no length of time"),
        ("silence", {}, 400, "no length of time"),
        ("acknowledge", {"note": "a" * 3000}, 400, "say less"),
        ("acknowledge", {"note": "a" * 70_000}, 413, "larger than"),
        ("acknowledge", {f"f{at}": "x" for at in range(30)}, 400, "cannot be read"),
    ):
        reply = browser.post(f"{address}/{what}", data=fields)
        assert (reply.status_code, says in reply.text) == (status, True), what
    assert browser.post("/incidents/none/acknowledge").status_code == 404
    assert browser.get("/incidents/none").status_code == 404
    foreign = browser.post(f"{address}/close", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403


def test_an_incident_of_a_site_is_on_the_lists_with_all_its_devices(shop: Any, browser: TestClient) -> None:
    address = f"/incidents/{opened(shop)}"
    for page in ("/", "/incidents", "/devices/till-1", "/devices/till-2"):
        assert f'href="{address}"' in browser.get(page).text
    assert "till-1 and till-2 need a look" in browser.get("/").text


def test_a_device_gets_its_site_by_a_form(shop: Any, browser: TestClient) -> None:
    assert "&lt;b&gt;till" in browser.get("/devices/till-1").text
    reply = browser.post("/devices/till-1/site", data={"site": "Bern"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/devices/till-1")
    assert browser.get("/devices/till-1.json").json()["device"]["site"] == "Bern"
    browser.post("/devices/till-1/site", data={"site": ""})
    assert browser.get("/devices/till-1.json").json()["device"]["site"] is None
    assert browser.post("/devices/none/site", data={"site": "Bern"}).status_code == 404


def test_notifications_are_tested_retried_and_shown_without_their_secrets(
    shop: Any, browser: TestClient, receiver: str
) -> None:
    assert "Nobody is told of incidents yet" in browser.get("/notifications").text
    made = routes.make(shop.hub, api.NewChannel(name="ops <b>", target=api.Webhook(url=receiver), wait_s=0))
    tested = browser.post(f"/notifications/channels/{made.id}/test")
    assert (tested.status_code, "the receiver answered 200" in tested.text) == (200, True)
    routes.make(shop.hub, api.NewChannel(name="gone", target=api.Webhook(url="http://127.0.0.1:9/"), wait_s=0))
    address = f"/incidents/{opened(shop)}"
    real_ns = [1_000]
    notifier = Round(shop.hub, Network(private=True, total_s=2), real_ns=lambda: real_ns[0])
    notifier.run()
    real_ns[0] += 4 * 86_400 * 1_000_000_000
    notifier.run()
    page = browser.get("/notifications").text
    assert "1 notification could not be delivered" in page
    assert "does not answer at port 9" in page
    assert "ops &lt;b&gt;" in page
    assert "t0ken" not in page
    assert str(made.secret) not in page
    assert "delivered" in browser.get(address).text
    (dead,) = browser.get("/notifications.json").json()["dead"]
    reply = browser.post(f"/notifications/{dead['id']}/retry")
    assert (reply.status_code, reply.headers["location"]) == (303, "/notifications")
    assert browser.get("/notifications.json").json()["dead"] == []
    failed = browser.post("/notifications/channels/gone/test")
    assert "The test was not delivered" in failed.text
    browser.post("/notifications/channels/gone/remove")
    assert [one["name"] for one in browser.get("/notifications.json").json()["channels"]] == ["ops <b>"]
    notifier.close()
