"""What people do to a standing assay: edited, copied, removed."""

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
from tests.hub.shop import Shop, ns

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
    made.look()
    return made.closed()


def answers(shop: Any, assay: api.Assay, device: str = BLURRED) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, assay.id, device=device)


def clone(shop: Any, name: str = "copy", **changes: Any) -> api.Assay:
    return alter.clone(shop.hub, shop.assay.id, api.NewClone(name=name, **changes))


def edit(shop: Any, assay: api.Assay | None = None, **changes: Any) -> api.Assay:
    return alter.edit(shop.hub, (assay or shop.assay).id, api.AssayEdit(**changes), "Ada")


def windows_of(shop: Any, assay: api.Assay, device: str = BLURRED) -> list[tuple[float, float, int]]:
    """Return each window as minutes after opening, with the version it was answered under."""
    return [
        ((one.start_ns - ns(0)) / 60e9, (one.end_ns - ns(0)) / 60e9, one.baseline_version)
        for one in answers(shop, assay, device)
    ]


# ── edited ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_answers_keep_the_version_they_were_given_under(shop: Any) -> None:
    before = answers(shop, shop.assay)
    after = edit(shop, alarm=api.Fixed(threshold=50.0), note="too shrill")
    assert (after.baseline_version, after.spec.alarm, after.spec.baseline) == (
        2, api.Fixed(threshold=50.0), shop.assay.spec.baseline,
    )  # fmt: skip
    shop.at(48)
    shop.days(range(42, 48), CAMERAS, blurred=BLURRED)
    shop.look()
    found = answers(shop, shop.assay)
    assert found[: len(before)] == before
    assert [(one.baseline_version, one.alert_threshold, one.status) for one in found[-3:]] == [
        (1, 0.25, "Alert"), (2, 50.0, "Ok"), (2, 50.0, "Ok"),
    ]  # fmt: skip


def test_windows_of_another_width_follow_without_a_hole_or_an_overlap(shop: Any) -> None:
    shop.at(44)  # in the middle of a window
    edit(shop, windows=api.Windows(width_s=60))
    shop.at(46)
    edit(shop, windows=api.Windows(width_s=240))
    shop.at(54)
    shop.days(range(42, 54), CAMERAS)
    shop.look()
    assert windows_of(shop, shop.assay)[3:] == [
        (39, 42, 1), (42, 43, 2), (43, 44, 2), (44, 45, 2), (45, 46, 2), (46, 50, 3), (50, 54, 3),
    ]  # fmt: skip


def test_a_device_that_was_away_is_answered_by_the_question_of_the_time(shop: Any) -> None:
    shop.at(48)
    shop.days(range(42, 48), CAMERAS[:1])
    edit(shop, windows=api.Windows(width_s=60))
    shop.at(50)
    shop.days(range(42, 50), CAMERAS[1:])
    shop.look()
    assert windows_of(shop, shop.assay)[4:] == [(42, 45, 1), (45, 48, 1), (48, 49, 2), (49, 50, 2)]


def test_late_data_revises_a_window_under_the_question_it_had(shop: Any) -> None:
    edit(shop, alarm=api.Fixed(threshold=50.0), windows=api.Windows(width_s=120))
    shop.counts(BLURRED, 40, {"out.sharpness": [1.0] * 40}, heard=False)
    shop.look()
    revised = [one for one in answers(shop, shop.assay) if one.revision > 1]
    assert [(one.start_ns, one.end_ns, one.baseline_version, one.alert_threshold) for one in revised] == [
        (ns(39), ns(42), 1, 0.25)
    ]


def test_a_promise_that_is_edited_is_calibrated_for_its_new_windows_and_its_evidence_begins_again(shop: Any) -> None:
    promised = shop.save("promised", alarm=api.Promise(false_alarm_every_s=86_400), windows=api.Windows(width_s=60))
    baseline_routes.take(shop.hub, promised.id, api.NewBaseline(baseline=api.Baseline(start_ns=ns(2), end_ns=ns(34))))
    shop.look()
    assert answers(shop, promised)[-1].status == "Alert"
    after = edit(shop, promised, windows=api.Windows(width_s=120))
    assert after.baseline_version == 3
    for one in shop.call(baseline_routes.list_baselines, assay=promised.id):
        assert (one.version, one.calibrated.refused, one.calibrated.n, one.calibrated.windows) == (3, None, 80, 16)
    shop.at(46)
    shop.days(range(42, 46), CAMERAS)
    shop.look()
    last = answers(shop, promised)[-1]
    assert (last.baseline_version, last.status) == (3, "Ok")
    assert last.evidence.value < 3  # where the last version had come to thousands


def test_a_promise_that_no_baseline_carries_leaves_everything_as_it_was(shop: Any) -> None:
    with pytest.raises(InvalidInputError, match="windows"):
        edit(shop, alarm=api.Promise(false_alarm_every_s=30 * 86_400), windows=api.Windows(width_s=1200))
    with shop.hub.database.reading() as connection:
        assert store.one(connection, shop.assay.id).assay == shop.assay
    assert shop.call(alter.list_editions, assay=shop.assay.id) == []


def test_the_history_says_who_changed_what_from_what_to_what_and_why(shop: Any) -> None:
    edit(shop, alarm=api.Fixed(threshold=0.5, warning=0.1), note="too shrill")
    assert edit(shop).baseline_version == 2, "nothing was changed"
    edit(shop, run_until_ns=ns(600))
    first, second = shop.call(alter.list_editions, assay=shop.assay.id)
    assert (first.version, first.from_ns, first.at_ns) == (2, ns(42), ns(42))
    assert (first.actor, first.note) == ("Ada", "too shrill")
    assert first.before == {"alarm.threshold": 0.25, "alarm.warning": None}
    assert first.after == {"alarm.threshold": 0.5, "alarm.warning": 0.1}
    assert (second.before, second.after) == ({"run_until_ns": None}, {"run_until_ns": ns(600)})


def test_an_edit_is_the_end_of_what_was_an_alarm_under_another_question(shop: Any) -> None:
    edit(shop, alarm=api.Fixed(threshold=0.2))
    with shop.hub.database.reading() as connection:
        (incident,) = incident_store.listed(connection)
        last = incident_store.history(connection, incident.id)[-1]
    assert (incident.state, last.note) == ("resolved", "the assay was edited (version 2)")
    shop.at(45)
    shop.days(range(42, 45), CAMERAS, blurred=BLURRED)
    shop.look()
    with shop.hub.database.reading() as connection:
        assert [one.state for one in incident_store.listed(connection)] == ["open", "resolved"]


def test_what_an_incident_renewed_alone_is_carried_by_edits_and_copies(shop: Any) -> None:
    with shop.hub.database.reading() as connection:
        (incident,) = incident_store.listed(connection)
    baseline_routes.take(shop.hub, shop.assay.id, api.NewBaseline(incident=incident.id))
    told = shop.call(baseline_routes.list_baselines, assay=shop.assay.id)
    after = edit(shop, alarm=api.Fixed(threshold=0.3))
    copy = alter.clone(shop.hub, shop.assay.id, api.NewClone(name="copy"))
    spans = {(one.device, one.start_ns, one.end_ns, one.count) for one in told}
    for one in (after, copy):
        found = shop.call(baseline_routes.list_baselines, assay=one.id)
        assert {(one.device, one.start_ns, one.end_ns, one.count) for one in found} == spans


def test_an_assay_that_has_no_window_yet_is_edited_as_a_whole(shop: Any) -> None:
    door = shop.build("door-watch")
    values = api.Baseline(values={"out.sharpness": [400.0, 410.0, 420.0]})
    assay = shop.save("early", pipeline=door.id, baseline=values)
    after = edit(shop, assay, windows=api.Windows(width_s=60))
    shop.look()
    assert (after.baseline_version, after.spec.windows.width_s) == (2, 60)


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
    shop.look()
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
    shop.look()
    assert len(answers(shop, again)) == 4


def test_answers_of_what_is_removed_go_with_the_next_sweep_and_no_others(shop: Any) -> None:
    other = shop.save("other")
    shop.look()
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


def test_an_assay_is_edited_copied_and_removed_by_forms_that_lead_on(shop: Any) -> None:
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    address = f"/assays/{shop.assay.id}"
    edited = {"threshold": "0.4", "warning": "", "width_min": "3", "every_min": "3", "note": "<i>shrill</i>"}
    assert browser.post(f"{address}/edit", data=edited).headers["location"] == address
    page = browser.get(address).text
    assert "alerts from 0.4 on" in page
    assert "&lt;i&gt;shrill&lt;/i&gt;" in page
    assert browser.post(f"{address}/edit", data=edited | {"threshold": "much"}).status_code == 400
    copied = browser.post(f"{address}/clone", data={"name": "copy"})
    assert copied.status_code == 303
    assert "a copy of assay" in browser.get(copied.headers["location"]).text
    assert browser.post(f"{address}/remove", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert browser.post(f"{address}/remove").headers["location"] == "/assays"
    assert browser.get(address).status_code == 404
