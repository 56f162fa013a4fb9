"""What people do to a standing assay: copied, removed."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.hub import alter, assays
from driftline.hub import baselines as baseline_routes
from driftline.hub.retention import Settings, Sweep
from driftline.hub.scorer import Round
from driftline.hub.server import application
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.wire import api

_shop = runpy.run_path(str(Path(__file__).with_name("shop.py")))
Shop, ns = _shop["Shop"], _shop["ns"]
CAMERAS = ("camera-1", "camera-2")
BLURRED = "camera-2"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two cameras; the second lost focus after 36 of 42 minutes, which the assay `sharpness` has found."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
    made.at(36)
    made.days(range(36), CAMERAS)
    made.assay = made.save()
    made.at(42)
    made.days(range(36, 42), CAMERAS, blurred=BLURRED)
    look(made)
    made.hub.database.close()
    return made


@pytest.fixture
def shop(before: Any, tmp_path: Path) -> Iterator[Any]:
    made = before.twin(tmp_path)
    yield made
    made.hub.database.close()


def look(shop: Any) -> None:
    one = Round(shop.hub)
    while one.run():
        pass


def answers(shop: Any, assay: api.Assay, device: str = BLURRED) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, assay.id, device=device)


def clone(shop: Any, name: str = "copy", **changes: Any) -> api.Assay:
    return alter.clone(shop.hub, shop.assay.id, api.NewClone(name=name, **changes))


# ── copied ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alarm", [api.Fixed(), api.Promise(false_alarm_every_s=86_400)], ids=["fixed", "promise"])
def test_a_copy_answers_as_the_first_one_does_from_the_next_window_on(shop: Any, alarm: Any) -> None:
    first = shop.save("first", alarm=alarm, baseline=api.Baseline(start_ns=ns(0), end_ns=ns(36)))
    # A newer baseline of one device is among those that are copied.
    baseline_routes.take(shop.hub, first.id, api.NewBaseline(baseline=api.Baseline(start_ns=ns(3), end_ns=ns(33))))
    copy = alter.clone(shop.hub, first.id, api.NewClone(name="copy"))
    assert (copy.spec.name, copy.active, copy.baseline_version) == ("copy", True, 1)
    assert copy.spec.windows.start_ns == ns(42)
    assert "a copy of assay 'first'" in copy.notes[-1]
    shop.at(48)
    shop.days(range(42, 48), CAMERAS)
    look(shop)
    whole, found = answers(shop, first), answers(shop, copy)
    assert [one.start_ns for one in found] == [ns(42), ns(45)]
    assert [one.score for one in found] == [one.score for one in whole[-2:]]
    rests_on = [
        [one.calibrated for one in shop.call(baseline_routes.list_baselines, assay=one.id)] for one in (first, copy)
    ]
    assert rests_on[0] == rests_on[1]


def test_a_copy_for_another_pipeline_is_asked_anew(shop: Any) -> None:
    other = shop.build("door-watch")
    with pytest.raises(InvalidInputError, match="no baseline"):
        clone(shop, pipeline=other.id)
    values = api.Baseline(values={"out.sharpness": [400.0, 410.0, 420.0]})
    copy = clone(shop, pipeline=other.id, baseline=values)
    assert (copy.spec.pipeline, copy.spec.baseline) == (other.id, values)
    assert copy.spec.watched == shop.assay.spec.watched


def test_a_copy_needs_a_name_of_its_own(shop: Any) -> None:
    with pytest.raises(ConflictError, match="'sharpness'"):
        clone(shop, "sharpness")
    with pytest.raises(InvalidInputError):
        clone(shop, " ")


def test_a_copy_of_an_assay_that_has_ended_runs(shop: Any) -> None:
    ended = shop.save("ended", run_until_ns=ns(39))
    assert alter.clone(shop.hub, ended.id, api.NewClone(name="copy")).spec.run_until_ns is None


# ── removed ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_removed_is_gone_and_its_incidents_stay_to_be_read(shop: Any) -> None:
    alter.remove(shop.hub, shop.assay.id)
    assert list(shop.call(assays.list_assays)) == []
    with pytest.raises(EntityNotFoundError):
        shop.call(assays.get_assay, assay=shop.assay.id)
    with pytest.raises(EntityNotFoundError):
        alter.remove(shop.hub, shop.assay.id)
    with shop.hub.database.reading() as connection:
        (incident,) = incident_store.listed(connection)
        history = incident_store.history(connection, incident.id)
    assert (incident.state, incident.settled) == ("resolved", True)
    assert [(one.change, one.note) for one in history] == [("opened", ""), ("resolved", "the assay was removed")]
    page = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710").get(f"/incidents/{incident.id}").text
    assert "assay sharpness, which was removed" in page
    assert f"/assays/{shop.assay.id}" not in page


def test_the_name_of_what_is_removed_is_free(shop: Any) -> None:
    alter.remove(shop.hub, shop.assay.id)
    again = shop.save()
    assert again.spec.name == "sharpness"
    look(shop)
    assert len(answers(shop, again)) == 4


def test_answers_of_what_is_removed_go_with_the_next_sweep_and_no_others(shop: Any) -> None:
    other = shop.save("other")
    look(shop)
    alter.remove(shop.hub, shop.assay.id)
    assert Sweep(shop.hub, Settings(None, None, None)).run()["analyses"] == 8
    assert answers(shop, shop.assay) == []
    assert len(answers(shop, other)) == 4


def test_a_scorer_in_the_middle_of_it_stores_nothing_for_what_is_removed(shop: Any) -> None:
    shop.at(48)
    shop.days(range(42, 48), CAMERAS, blurred=BLURRED)

    class Overtaken(Round):
        def _store(self, outcomes: Any) -> None:
            alter.remove(shop.hub, shop.assay.id)
            super()._store(outcomes)

    Overtaken(shop.hub).run()
    assert len(answers(shop, shop.assay)) == 4
    with shop.hub.database.reading() as connection:
        assert not store.progress(connection)


def test_an_assay_is_copied_and_removed_by_forms_that_lead_on(shop: Any) -> None:
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    address = f"/assays/{shop.assay.id}"
    copied = browser.post(f"{address}/clone", data={"name": "copy"})
    assert copied.status_code == 303
    assert "a copy of assay" in browser.get(copied.headers["location"]).text
    assert browser.post(f"{address}/remove", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert browser.post(f"{address}/remove").headers["location"] == "/assays"
    assert browser.get(address).status_code == 404
