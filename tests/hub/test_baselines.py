from dataclasses import replace
from typing import Any

import msgspec
import pytest

from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import assays, grids
from driftline.hub import baselines as baseline_routes
from driftline.hub.scorer import Round
from driftline.hub.store import assays as store
from driftline.hub.store import baselines
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns, scene

CAMERAS = ("camera-1", "camera-2")
PROMISE = api.Promise(false_alarm_every_s=86_400)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two cameras with an hour behind them and a promise on their sharpness; then the second is blurred for good."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
    made.at(60)
    made.days(range(60), CAMERAS)
    made.assay = made.save(alarm=PROMISE, baseline=api.Baseline(start_ns=ns(0), end_ns=ns(60)))
    goes(made, range(60, 66))
    goes(made, range(66, 96), blurred="camera-2")
    made.look()
    return made.closed()


def goes(shop: Any, minutes: range, **changes: Any) -> None:
    shop.at(minutes.stop)
    shop.days(minutes, CAMERAS, **changes)


def take(shop: Any, **new: Any) -> api.Assay:
    return shop.call(baseline_routes.take_baseline, api.NewBaseline(**new), assay=shop.assay.id)


def between(start: float, end: float, **more: Any) -> api.Baseline:
    return api.Baseline(start_ns=ns(start), end_ns=ns(end), **more)


def told(shop: Any, device: str = "camera-2") -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, shop.assay.id, device=device)


def began(connection: Any, incident: api.Incident, opened_ns: int) -> None:
    """Let an incident have begun at another time."""
    part = incident_store.parts(connection, incident.id)[-1]
    incident_store.put_parts(connection, [replace(part, opened_ns=opened_ns)])


def drift(shop: Any) -> list[api.Incident]:
    with shop.hub.database.reading() as connection:
        return [one for one in incident_store.listed(connection) if one.kind == "drift"]


def everything(shop: Any) -> list[Any]:
    """Return all that is stored of assays, row by row."""
    tables = (
        store.ASSAYS, store.ANALYSES, store.PROGRESS, incident_store.PARTS,
        baselines.VERSIONS, baselines.BASELINES, baselines.CALIBRATIONS,
    )  # fmt: skip
    with shop.hub.database.reading() as connection:
        return [connection.execute(table.select()).all() for table in tables]


def test_a_new_baseline_ends_the_incident_and_its_windows_are_answered_again_from_nothing(shop: Any) -> None:
    goes(shop, range(96, 105), blurred="camera-2")
    shop.look()
    assert [one.resolved_ns for one in drift(shop)] == [None]
    assay = take(shop, baseline=between(66, 96))
    assert (assay.baseline_version, assay.spec.baseline) == (2, between(66, 96))
    (over,) = drift(shop)
    assert (over.resolved_ns, over.text.endswith("; new baseline (version 2)")) == (ns(105), True)
    before = told(shop)
    shop.look()
    after = told(shop)
    assert after[:12] == before[:12]
    again = after[12:]
    assert [(one.start_ns, one.status, one.revision) for one in again] == [
        (ns(start), "Ok", 2) for start in (96, 99, 102)
    ]
    assert {one.baseline_version for one in again} == {2}
    assert again[0].evidence is not None
    assert again[0].evidence.value < 2
    assert drift(shop) == [over]


def test_windows_begun_before_the_new_baseline_wake_nobody_any_more(shop: Any) -> None:
    take(shop, baseline=between(66, 95))
    goes(shop, range(96, 102), blurred="camera-2")
    shop.look()
    assert [one.baseline_version for one in told(shop)][-3:] == [1, 2, 2]
    shop.counts("camera-2", 94, {"out.sharpness": [9.0] * 60}, heard=False)
    shop.look()
    assert len(drift(shop)) == 1
    late = next(one for one in told(shop) if one.start_ns == ns(93))
    assert (late.baseline_version, late.count, late.revision) == (1, 180, 2)


def test_drift_from_the_new_baseline_opens_an_incident_of_its_own(shop: Any) -> None:
    take(shop, baseline=between(66, 96))
    goes(shop, range(96, 102), blurred="camera-2")
    goes(shop, range(102, 114))
    shop.look()
    newest, first = drift(shop)
    assert first.resolved_ns == ns(96)
    assert newest.resolved_ns is None
    assert newest.opened_ns >= ns(102)


def test_a_new_baseline_between_versions_is_the_newest_that_is_valid(shop: Any) -> None:
    take(shop, baseline=between(60, 90))
    take(shop, baseline=between(66, 84))
    shop.look()
    listed = shop.call(baseline_routes.list_versions, assay=shop.assay.id)
    assert [(one.version, one.from_ns) for one in listed] == [(1, ns(60)), (2, ns(90)), (3, ns(84))]
    assert [one.created_ns for one in listed] == [ns(60), ns(96), ns(96)]
    assert [one.baseline_version for one in told(shop)] == [1] * 8 + [3] * 4


def test_an_incident_becomes_the_baseline_of_what_came_since_it_was_opened(shop: Any) -> None:
    (incident,) = drift(shop)
    take(shop, incident=incident.id)
    stats = shop.call(baseline_routes.list_baselines, assay=shop.assay.id)
    assert [(one.device, one.version, one.start_ns) for one in stats] == [
        ("camera-1", 1, ns(0)), ("camera-2", 2, incident.opened_ns)
    ]  # fmt: skip
    assert all(one.calibrated is not None and one.calibrated.n == 120 for one in stats)
    first, newest = shop.call(baseline_routes.list_versions, assay=shop.assay.id)
    assert (first.devices, newest.devices) == ([*CAMERAS], ["camera-2"])
    assert newest.baseline == api.Baseline(start_ns=incident.opened_ns, end_ns=ns(96))
    goes(shop, range(96, 102), blurred="camera-2")
    shop.look()
    assert [one.status for one in told(shop)][-2:] == ["Ok", "Ok"]


def test_an_incident_renews_its_own_device_and_leaves_the_others_alone(shop: Any) -> None:
    shop.at(117)
    for camera in CAMERAS:
        shop.days(range(96, 117), (camera,), blurred=camera)
    shop.look()
    both = {one.device: one for one in drift(shop)}
    assert {name: one.resolved_ns for name, one in both.items()} == dict.fromkeys(CAMERAS)
    before = others(shop)
    assay = take(shop, incident=both["camera-2"].id)
    shop.look()
    assert others(shop) == before
    assert assay.spec == shop.assay.spec
    assert [one.device for one in drift(shop) if one.resolved_ns is None] == ["camera-1"]
    # Its evidence goes on from where it was, against what it had.
    for camera in CAMERAS:
        shop.days(range(117, 120), (camera,), blurred=camera)
    shop.at(120)
    shop.look()
    newest, renewed = told(shop, "camera-1")[-1], told(shop)[-1]
    assert (newest.status, newest.baseline_version) == ("Alert", 1)
    assert (renewed.status, renewed.baseline_version) == ("Ok", 2)


def others(shop: Any) -> list[Any]:
    """Return everything that is stored of camera-1."""
    return [[row for row in rows if "camera-1" in tuple(row)] for rows in everything(shop)]


def test_a_field_that_gave_nothing_since_the_incident_keeps_its_baseline(shop: Any) -> None:
    assay = shop.save("both", "out.sharpness", "out.avg_confidence", alarm=PROMISE, baseline=between(0, 60))
    shop.assay = assay
    shop.look()
    shop.at(170)
    for minute in range(96, 170):
        fields = scene(2, minute, blurred=True) | {"out.avg_confidence": [float("nan")] * 40}
        shop.counts("camera-2", minute, fields)
    shop.look()
    incident = next(one for one in drift(shop) if one.assay_id == assay.id and one.device == "camera-2")
    with shop.hub.database.writing() as connection:
        began(connection, incident, ns(99))
    renewed = take(shop, incident=incident.id)
    assert any("gave no value of out.avg_confidence" in one and "it keeps the baseline" in one for one in renewed.notes)
    stats = shop.call(baseline_routes.list_baselines, assay=assay.id)
    versions = {(one.device, one.field): one.version for one in stats}
    assert versions == {
        ("camera-1", "out.avg_confidence"): 1, ("camera-1", "out.sharpness"): 1,
        ("camera-2", "out.avg_confidence"): 1, ("camera-2", "out.sharpness"): 2,
    }  # fmt: skip


def test_what_is_known_of_other_devices_is_still_said_after_an_incident(shop: Any) -> None:
    shop.device("camera-20")
    shop.assay = shop.save("noted", alarm=PROMISE, baseline=between(0, 60))
    (note,) = shop.assay.notes
    assert "device camera-20 gave no value" in note
    shop.look()
    incident = next(one for one in drift(shop) if one.assay_id == shop.assay.id)
    assert take(shop, incident=incident.id).notes == [note]


def test_values_that_serve_the_other_devices_are_calibrated_after_an_incident_too(shop: Any) -> None:
    values = [value for minute in range(60) for value in scene(2, minute)["out.sharpness"]]
    windows = api.Windows(width_s=180, start_ns=ns(60))
    given = api.Baseline(values={"out.sharpness": list(map(float, values))})
    shop.assay = shop.save("values", alarm=PROMISE, baseline=given, windows=windows)
    shop.look()
    incident = next(one for one in drift(shop) if one.assay_id == shop.assay.id and one.device == "camera-2")
    take(shop, incident=incident.id)
    shop.device("camera-3")
    shop.at(114)
    for minute in range(96, 114):
        shop.counts("camera-3", minute, scene(2, minute))
    shop.look()
    newest = told(shop, "camera-3")[-1]
    assert newest.evidence is not None
    assert newest.baseline_version == 1


def test_a_device_that_gave_nothing_in_the_range_keeps_its_baseline_and_its_evidence(shop: Any) -> None:
    shop.at(111)
    shop.days(range(96, 111), ("camera-2",), blurred="camera-2")
    shop.heard("camera-1", 111)
    shop.look()
    quiet = told(shop, "camera-1")
    assay = take(shop, baseline=between(96, 111))
    assert any("device camera-1 gave no value of out.sharpness" in note for note in assay.notes)
    stats = shop.call(baseline_routes.list_baselines, assay=shop.assay.id)
    assert [(one.device, one.version) for one in stats] == [("camera-1", 1), ("camera-2", 2)]
    goes(shop, range(111, 114), blurred="camera-2")
    shop.look()
    found = told(shop, "camera-1")
    assert found[: len(quiet)] == quiet
    assert found[-1].baseline_version == 1
    assert told(shop)[-1].baseline_version == 2


def test_a_range_too_short_for_the_promise_is_refused_and_everything_stays_as_it_was(shop: Any) -> None:
    (incident,) = drift(shop)
    with shop.hub.database.writing() as connection:
        began(connection, incident, ns(87))
    before = everything(shop)
    with pytest.raises(InvalidInputError, match="A promise needs 5"):
        take(shop, baseline=between(84, 96))
    with pytest.raises(InvalidInputError, match="or wait until more windows have come"):
        take(shop, incident=incident.id)
    assert everything(shop) == before


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({}, "either a baseline or the id of an incident"),
        ({"baseline": between(66, 96), "incident": "one"}, "either a baseline or the id of an incident"),
        ({"baseline": between(66, 200)}, "still to come"),
        ({"incident": "silent"}, "not one of assay 'sharpness'"),
    ],
)
def test_what_is_no_new_baseline_is_refused(shop: Any, new: dict[str, Any], says: str) -> None:
    silent = api.Incident(
        id="silent", kind="silent", device="camera-1", assay_id=None, field=None, opened_ns=1, resolved_ns=None, text=""
    )
    with shop.hub.database.writing() as connection:
        incident_store.put(connection, silent, "silent")
    with pytest.raises(InvalidInputError, match=says):
        take(shop, **new)
    with pytest.raises(EntityNotFoundError):
        take(shop, incident="none")


def test_values_are_valid_from_the_next_window_on(shop: Any) -> None:
    shop.at(97)
    values = [value for minute in range(20) for value in scene(2, minute, blurred=True)["out.sharpness"]]
    take(shop, baseline=api.Baseline(values={"out.sharpness": list(map(float, values))}))
    listed = shop.call(baseline_routes.list_versions, assay=shop.assay.id)
    assert listed[-1].from_ns == ns(99)
    goes(shop, range(96, 102), blurred="camera-2")
    shop.look()
    *_, old, new = told(shop)
    assert [(one.baseline_version, one.status) for one in (old, new)] == [(1, "Alert"), (2, "Ok")]
    # The window that had begun before alerts against the old baseline, and wakes nobody any more.
    assert [one.resolved_ns for one in drift(shop) if one.device == "camera-2"] == [ns(97)]


def test_devices_count_where_the_new_baseline_cuts(shop: Any) -> None:
    take(shop, baseline=between(66, 96))
    with shop.hub.database.reading() as connection:
        grid = grids.need_grid(connection, grids.of_pipeline(connection, shop.pipeline.id)["out.sharpness"])
    stats = shop.call(baseline_routes.list_baselines, assay=shop.assay.id)
    assert {edge for one in stats for edge in one.edges} <= set(grid.edges)


def test_a_scorer_at_work_meanwhile_stores_nothing_of_the_old_baseline(shop: Any) -> None:
    goes(shop, range(96, 105), blurred="camera-2")

    class Meanwhile(Round):
        """A new baseline comes between what is worked out and what is stored."""

        taken = False

        def _answers(self, *args: Any) -> Any:
            found = super()._answers(*args)
            if not self.taken:
                self.taken = True
                take(shop, baseline=between(66, 96))
            return found

    one = Meanwhile(shop.hub)
    while one.run():
        pass
    assert [answer.baseline_version for answer in told(shop)][-3:] == [2, 2, 2]
    assert {answer.revision for answer in told(shop)} == {1}


def test_what_the_new_baseline_decides_a_preview_with_it_decides_too(shop: Any) -> None:
    assay = take(shop, baseline=between(66, 96))
    goes(shop, range(96, 108), blurred="camera-2")
    shop.look()
    asked = msgspec.structs.replace(assay.spec, windows=api.Windows(width_s=180, start_ns=ns(96)))
    previewed = [one for one in assays.run(shop.hub, shop.workspace, asked).analyses if one.device == "camera-2"]
    found = [one for one in told(shop) if one.start_ns >= ns(96)]
    assert [(one.score, one.evidence) for one in found] == [(one.score, one.evidence) for one in previewed]
