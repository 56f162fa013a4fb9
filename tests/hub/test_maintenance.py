"""While somebody works on devices, what is seen wakes nobody."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import assays, maintenance
from driftline.hub.scorer import Round
from driftline.hub.server import application
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns

CAMERAS = ("camera-1", "camera-2")
BLURRED = "camera-2"
MARK = "in maintenance (new lens): it wakes nobody"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two cameras in Berlin, well for 36 minutes, with an assay on their sharpness."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
        made.says(name, site="Berlin")
    made.at(36)
    made.days(range(36), CAMERAS)
    made.assay = made.save()
    return made.closed()


def plan(shop: Any, first: float, last: float, **whom: Any) -> api.Maintenance:
    new = api.NewMaintenance(from_ns=ns(first), until_ns=ns(last), reason="new lens", **whom)
    return maintenance.plan(shop.hub, shop.workspace, new, "Ada")


def blurred(shop: Any, minutes: range) -> None:
    shop.at(minutes.stop)
    shop.days(minutes, CAMERAS, blurred=BLURRED)
    shop.look()


def answers(shop: Any, device: str = BLURRED, assay: api.Assay | None = None) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, (assay or shop.assay).id, device=device, start_ns=ns(36))


def incidents(shop: Any) -> list[tuple[str, str, str]]:
    with shop.hub.database.reading() as connection:
        return [(one.kind, one.device, one.state) for one in incident_store.listed(connection)]


@pytest.mark.parametrize("place", ["site", "device", "assay", "all three"])
def test_a_window_that_overlaps_it_is_answered_marked_and_wakes_nobody(shop: Any, place: str) -> None:
    whom = {"site": "Berlin", "device": BLURRED, "assay": shop.assay.id}
    plan(shop, 37, 43, **(whom if place == "all three" else {place: whom[place]}))
    blurred(shop, range(36, 45))
    found = answers(shop)
    assert [(one.status, MARK in one.notes) for one in found] == [("Alert", True)] * 3
    assert incidents(shop) == []
    other = [MARK in one.notes for one in answers(shop, "camera-1")]
    assert other == [place in {"site", "assay"}] * 3
    # What is still wrong afterwards is told then.
    blurred(shop, range(45, 48))
    assert MARK not in answers(shop)[-1].notes
    assert incidents(shop) == [("drift", BLURRED, "open")]


def test_what_is_of_another_site_device_or_assay_is_none_of_its_concern(shop: Any) -> None:
    for whom in ({"site": "Bern"}, {"device": "camera-1"}, {"assay": shop.save("other").id}):
        plan(shop, 36, 60, **whom)
    blurred(shop, range(36, 42))
    assert incidents(shop) == [("drift", BLURRED, "open")]


def test_the_evidence_of_a_promise_does_not_step_over_it(shop: Any) -> None:
    promised = shop.save("promised", alarm=api.Promise(false_alarm_every_s=86_400), windows=api.Windows(width_s=60))
    plan(shop, 36, 42, device=BLURRED)
    blurred(shop, range(36, 42))
    found = answers(shop, assay=promised)
    assert {one.evidence.counted for one in found} == {False}
    assert len({one.evidence.value for one in found}) == 1
    shop.at(48)
    shop.days(range(42, 48), CAMERAS)
    shop.look()
    assert {one.status for one in answers(shop, assay=promised)[6:]} == {"Ok"}
    preview = assays.run(shop.hub, shop.workspace, promised.spec)
    by_start = {one.start_ns: one for one in preview.analyses if one.device == BLURRED}
    assert [by_start[one.start_ns].evidence for one in answers(shop, assay=promised)] == [
        one.evidence for one in answers(shop, assay=promised)
    ]


def test_an_incident_that_is_open_stays(shop: Any) -> None:
    blurred(shop, range(36, 42))
    plan(shop, 42, 60, site="Berlin")
    shop.at(60)
    shop.days(range(42, 60), CAMERAS)
    Round(shop.hub).run()
    assert incidents(shop) == [("drift", BLURRED, "open")]


def test_a_device_that_falls_silent_in_it_is_an_incident_when_it_is_over(shop: Any) -> None:
    one = Round(shop.hub)
    plan(shop, 36, 90, device="camera-1")
    shop.at(80)
    one.run()
    assert incidents(shop) == [("silent", "camera-2", "open")]
    shop.at(91)
    one.run()
    with shop.hub.database.reading() as connection:
        (silent,) = incident_store.listed(connection)
    assert silent.devices == ["camera-1", "camera-2"]


def test_it_is_ended_sooner_or_called_off(shop: Any) -> None:
    begun, to_come = plan(shop, 30, 90, site="Berlin"), plan(shop, 50, 90, site="Berlin")
    shop.at(39)
    for one in (begun, to_come):
        maintenance.end(shop.hub, shop.workspace, one.id)
    (left,) = shop.call(maintenance.list_maintenance)
    assert (left.id, left.until_ns, left.actor) == (begun.id, ns(39), "Ada")
    with pytest.raises(EntityNotFoundError):
        maintenance.end(shop.hub, shop.workspace, to_come.id)


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"from_ns": ns(1), "until_ns": ns(2)}, InvalidInputError),
        ({"from_ns": ns(2), "until_ns": ns(2), "site": "Berlin"}, InvalidInputError),
        ({"from_ns": ns(0), "until_ns": ns(200 * 1440), "site": "Berlin"}, InvalidInputError),
        ({"from_ns": ns(1), "until_ns": ns(2), "device": "camera-9"}, EntityNotFoundError),
        ({"from_ns": ns(1), "until_ns": ns(2), "assay": "none"}, EntityNotFoundError),
    ],
)
def test_what_is_no_maintenance_is_refused(shop: Any, facts: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        maintenance.plan(shop.hub, shop.workspace, api.NewMaintenance(**facts), "Ada")
    assert shop.call(maintenance.list_maintenance) == []


def test_it_is_planned_and_ended_on_the_page_of_an_assay(shop: Any) -> None:
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    address = f"/assays/{shop.assay.id}"
    form = {"for_s": "3600", "site": "Berlin", "device": "", "reason": "<b>new</b> lens", "by": "Ada"}
    assert browser.post(f"{address}/maintenance", data=form).headers["location"] == address
    page = browser.get(address).text
    assert "&lt;b&gt;new&lt;/b&gt; lens" in page
    assert "site Berlin" in page
    (one,) = shop.call(maintenance.list_maintenance)
    assert (one.assay, one.until_ns - one.from_ns) == (shop.assay.id, 3600 * 10**9)
    browser.post(f"{address}/ended", data={"maintenance": one.id})
    assert "site Berlin" not in browser.get(address).text
