from typing import Any

import msgspec
import numpy as np
import pytest

from driftline.assay.metrics import METRICS
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.hub import assays, grids, incident_routes
from driftline.hub import baselines as baseline_routes
from driftline.hub.store import assays as store
from driftline.hub.store import baselines
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns

CAMERAS = ("camera-1", "camera-2")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two cameras that were seen for 42 minutes, the first 30 of them with every row."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
    made.at(30)
    made.days(range(30), CAMERAS, rows=True)
    made.at(42)
    made.days(range(30, 42), CAMERAS)
    return made.closed()


def run(shop: Any, *fields: str, **changes: Any) -> api.AssayRun:
    return assays.run(shop.hub, shop.workspace, shop.spec("preview", *fields, **changes))


def watched(*iopaths: str) -> list[api.Watched]:
    return [api.Watched(field=one, iopath=one) for one in iopaths]


def values(*numbers: float | None, field: str = "out.sharpness") -> api.Baseline:
    return api.Baseline(values={field: [*numbers]})


def label(minute: int, **shares: float) -> list[str | None]:
    drawn = np.random.default_rng(minute).choice(list(shares), 40, p=list(shares.values()))
    return [*drawn.tolist(), None]


@pytest.fixture
def labels(shop: Any) -> Any:
    """A third camera names what it sees; in the last two windows that is something else."""
    shop.device("camera-3")
    for minute in range(42):
        mix = {"full": 0.7, "gap": 0.2, "hand": 0.1} if minute < 36 else {"full": 0.2, "gap": 0.4, "fallen": 0.4}
        shop.counts("camera-3", minute, {"out.label": label(minute, **mix)})
    return shop


# ── preview ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_preview_answers_every_device_and_window_in_order_and_stores_nothing(shop: Any) -> None:
    found = run(shop)
    assert [(one.start_ns, one.device) for one in found.analyses] == [
        (ns(30 + 3 * window), device) for window in range(4) for device in CAMERAS
    ]
    assert {one.status for one in found.analyses} == {"Ok"}
    assert {one.count for one in found.analyses} == {120}
    with shop.hub.database.reading() as connection:
        assert store.every(connection) == []


def test_windows_whose_rows_are_all_there_are_scored_from_rows_and_others_from_counts(shop: Any) -> None:
    found = run(shop, windows=api.Windows(width_s=180, start_ns=ns(24)))
    assert [one.source for one in found.analyses if one.device == "camera-1"] == ["rows", "rows"] + ["counts"] * 4


def test_each_device_is_compared_with_its_own_baseline(shop: Any) -> None:
    found = run(shop)
    assert [one.device for one in found.baselines] == list(CAMERAS)
    first, second = (one.mean or 0.0 for one in found.baselines)
    assert second - first > 30  # the scene of camera-2 is 60 units sharper
    crossed = run(shop, baseline=api.Baseline(start_ns=ns(0), end_ns=ns(30), device="camera-1"))
    assert [one.device for one in crossed.baselines] == [None]
    assert {one.status for one in crossed.analyses if one.device == "camera-2"} == {"Alert"}


def test_windows_not_heard_yet_are_late_and_those_to_come_are_not_asked(shop: Any) -> None:
    shop.at(49)
    found = [one for one in run(shop).analyses if one.device == "camera-1"]
    assert [one.status for one in found] == ["Ok"] * 4 + ["Late"] * 2


@pytest.mark.parametrize("metric", [name for name, kind in METRICS.items() if kind.of != "text"])
def test_every_metric_answers_from_rows_and_from_counts(shop: Any, metric: api.Metric) -> None:
    how = api.Summarizer(metric=metric, num_bins=METRICS[metric].bins)
    found = run(
        shop, windows=api.Windows(width_s=180, start_ns=ns(24)), summarizer=how, alarm=api.Fixed(threshold=100.0)
    )
    assert {one.source for one in found.analyses} == {"rows", "counts"}
    assert {one.status for one in found.analyses} == {"Ok"}
    assert {one.metric for one in found.analyses} == {metric}


def test_run_until_ends_the_run(shop: Any) -> None:
    assert len(run(shop, run_until_ns=ns(36)).analyses) == 4


def test_without_a_start_a_baseline_of_values_begins_with_the_first_inference(shop: Any) -> None:
    found = run(shop, baseline=values(*map(float, range(300, 500))))
    assert found.analyses[0].start_ns == ns(0)
    assert len(found.analyses) == 2 * 14


def test_only_where_every_row_is_there_may_windows_start_anywhere(shop: Any) -> None:
    windows = api.Windows(width_s=180, start_ns=ns(3.5))
    rows = run(shop, baseline=values(400.0, 500.0), windows=windows, run_until_ns=ns(20))
    counts = run(shop, baseline=values(400.0, 500.0), windows=windows)
    assert rows.analyses[0].start_ns == ns(3.5)
    assert counts.analyses[0].start_ns == ns(3)


def test_a_device_that_has_yet_to_join_gives_no_late_windows(shop: Any) -> None:
    shop.device("camera-9", key=None, joined_ns=None, heard_ns=None)
    assert {one.device for one in run(shop).analyses} == set(CAMERAS)


def test_a_device_without_a_baseline_of_its_own_says_so(shop: Any) -> None:
    shop.device("camera-3")
    shop.days(range(36, 42), ("camera-3",))
    found = run(shop)
    answers = [one for one in found.analyses if one.device == "camera-3"]
    assert all(one.score is None and "has no baseline" in one.notes[0] for one in answers)
    assert answers[-1].count == 120
    assert any("camera-3 gave no value" in note for note in found.notes)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"baseline": api.Baseline()}, InvalidInputError, "needs a baseline"),
        ({"baseline": values()}, InvalidInputError, "no number"),
        ({"baseline": values(None)}, InvalidInputError, "no number"),
        ({"baseline": api.Baseline(values={"out.sharpness": ["blurred"]})}, InvalidInputError, "is a number"),
        ({"baseline": api.Baseline(values={})}, InvalidInputError, r"no values of out\.sharpness"),
        ({"baseline": values(1.0, field="out.avg_confidence")}, InvalidInputError, r"no values of out\.sharpness"),
        ({"baseline": api.Baseline(values={"out.sharpness": [1.0]}, start_ns=1)}, InvalidInputError, "either"),
        ({"baseline": api.Baseline(start_ns=ns(5), end_ns=ns(5))}, InvalidInputError, "exchange"),
        ({"baseline": api.Baseline(start_ns=ns(0), end_ns=ns(60))}, InvalidInputError, "still to come"),
        ({"devices": ["camera-7"]}, EntityNotFoundError, "there are camera-1, camera-2"),
        ({"watched": watched("output focus")}, InvalidInputError, "no field 'out.focus'"),
        ({"watched": watched("output sharpness 0", "out.sharpness")}, InvalidInputError, "watched twice"),
        (
            {"watched": watched("output label"), "summarizer": api.Summarizer(metric="ks")},
            InvalidInputError,
            "no order",
        ),
        ({"pipeline": "none"}, EntityNotFoundError, "no pipeline"),
        ({"alarm": api.Fixed(threshold=-1.0)}, InvalidInputError, "threshold"),
        ({"windows": api.Windows(width_s=60, start_ns=0)}, InvalidInputError, "more than the 50000"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_way_out(
    shop: Any, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(shop, **changes)


def test_a_baseline_range_without_data_is_refused_with_when_there_is_some(shop: Any) -> None:
    shop.at(3000)
    with pytest.raises(InvalidInputError, match=r"from 2026-01-01T09:00:00\+00:00 to 2026-01-01T09:42:00\+00:00"):
        run(shop, baseline=api.Baseline(start_ns=ns(1000), end_ns=ns(1030)))


def test_a_pipeline_of_another_workspace_is_not_found(shop: Any) -> None:
    with pytest.raises(EntityNotFoundError, match="another workspace"):
        assays.run(shop.hub, "elsewhere", shop.spec())


def test_an_element_nobody_recorded_is_recorded_from_now_on(shop: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"out\.scores\.3 was not recorded so far; it is from now on"):
        run(shop, watched=watched("output scores 3"))
    with shop.hub.database.reading() as connection:
        assert grids.extra_of(connection, shop.pipeline.id) == ["out.scores.3"]


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["psi", "chi2", "tv", "new_categories"])
def test_an_assay_on_text_is_answered_by_category(labels: Any, metric: api.Metric) -> None:
    alarm = api.Fixed(threshold=12.0 if metric == "chi2" else 0.2)
    found = run(labels, "out.label", devices=["camera-3"], summarizer=api.Summarizer(metric=metric), alarm=alarm)
    assert [one.status for one in found.analyses] == ["Ok", "Ok", "Alert", "Alert"]
    assert {(one.source, one.count, one.missing, one.mean) for one in found.analyses} == {("counts", 123, 3, None)}
    last = found.analyses[-1]
    assert last.bins is not None
    assert last.bins.labels == ["full", "gap", "hand", "(other)", "(new)"]
    assert last.effect is not None
    assert last.effect.outside == pytest.approx(0.4, abs=0.1)
    (baseline,) = found.baselines
    assert (baseline.labels, baseline.count) == (last.bins.labels, 30 * 41)


def test_text_keeps_a_promise(labels: Any) -> None:
    promise = api.Promise(false_alarm_every_s=30 * 86_400)
    found = run(labels, "out.label", devices=["camera-3"], alarm=promise)
    assert [one.status for one in found.analyses][:2] == ["Ok", "Ok"]
    assert found.analyses[-1].status == "Alert"
    assert found.baselines[0].calibrated is not None
    assert (found.baselines[0].calibrated.windows, found.baselines[0].calibrated.refused) == (10, None)


def test_a_standing_assay_on_text_is_saved_and_sets_no_grid(labels: Any) -> None:
    saved = labels.save("labels", "out.label", devices=["camera-3"])
    with labels.hub.database.reading() as connection:
        assert "out.label" not in grids.of_pipeline(connection, labels.pipeline.id)
    (stats,) = assays.baselines_of(labels.hub, _kept(labels, saved))
    assert stats.labels[:3] == ["full", "gap", "hand"]


def test_a_baseline_of_text_may_be_values(labels: Any) -> None:
    given = api.Baseline(values={"out.label": [*["full"] * 7, "gap", "gap", "hand", None]})
    found = run(labels, "out.label", devices=["camera-3"], baseline=given, windows=START_AT_30)
    assert [one.status for one in found.analyses] == ["Ok", "Ok", "Alert", "Alert"]
    promised = run(
        labels, "out.label", devices=["camera-3"], baseline=given, windows=START_AT_30,
        alarm=api.Promise(false_alarm_every_s=30 * 86_400),
    )  # fmt: skip
    assert any("needs a baseline in time" in note for note in promised.notes)
    wrong: list[tuple[list[float | str | None], str]] = [
        (["full", 1.0], "but out.label is text; give text"),
        ([None], "hold no text"),
    ]
    for values, reason in wrong:
        with pytest.raises(InvalidInputError, match=reason):
            run(labels, "out.label", baseline=api.Baseline(values={"out.label": values}))


def test_numbers_and_text_may_be_watched_together(labels: Any) -> None:
    found = run(labels, "out.label", "out.sharpness", devices=["camera-1", "camera-3"], baseline=ALL_OF_IT)
    scored = {(one.device, one.field) for one in found.analyses if one.score is not None}
    assert scored == {("camera-1", "out.sharpness"), ("camera-3", "out.label")}


START_AT_30 = api.Windows(width_s=180, start_ns=ns(30))
ALL_OF_IT = api.Baseline(start_ns=ns(0), end_ns=ns(30))


def _kept(shop: Any, assay: api.Assay) -> Any:
    with shop.hub.database.reading() as connection:
        return store.one(connection, assay.id)


# ── standing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_saving_freezes_each_devices_baseline(shop: Any) -> None:
    assay = shop.save()
    with shop.hub.database.reading() as connection:
        frozen = baselines.newest(connection, assay.id)
        assert store.one(connection, assay.id).start_ns == ns(30)
    assert list(frozen) == [(camera, "out.sharpness") for camera in CAMERAS]
    for version, material in frozen.values():
        assert version == 1
        assert material.values is not None
        assert material.times_ns is not None
        assert material.values.size == material.times_ns.size == 1200
    shop.counts("camera-1", 10, {"out.sharpness": [0.0] * 500})
    with shop.hub.database.reading() as connection:
        again = baselines.material(connection, assay.id, 1, baselines.Place("camera-1", "out.sharpness"))
    assert again is not None
    assert again.values is not None
    assert again.values.min() > 0
    told = shop.call(baseline_routes.list_baselines, assay=assay.id)
    assert [(stats.device, stats.count) for stats in told] == [(camera, 1200) for camera in CAMERAS]


def test_saving_lets_devices_count_where_every_standing_assay_cuts(shop: Any) -> None:
    shop.save("focus")
    shop.save("coarse", baseline=values(250.0, 350.0, 450.0))
    with shop.hub.database.reading() as connection:
        grid = grids.need_grid(connection, grids.of_pipeline(connection, shop.pipeline.id)["out.sharpness"])
        kept = [one for one in store.every(connection) if one.assay.spec.name == "focus"]
    asked = {edge for stats in assays.baselines_of(shop.hub, kept[0]) for edge in stats.edges}
    assert asked | {250.0, 350.0, 450.0} <= set(grid.edges)
    assert grid.cells <= 256


def test_saving_a_fixed_alarm_says_how_often_it_is_false(shop: Any) -> None:
    windows = api.Windows(width_s=60)
    (note,) = shop.save(windows=windows, alarm=api.Fixed(threshold=0.25)).notes
    assert "out.sharpness of device camera-1, the most of 2: without any drift about " in note
    assert "of windows of 40 values reach 0.25 against a baseline of 1200 (independent rows" in note
    assert note.endswith("frames more often); of the baseline's own 30 windows 3 reach 0.25")
    (calm,) = shop.save("calm", windows=windows, alarm=api.Fixed(threshold=2.0)).notes
    assert "fewer than 1% of windows of 40 values reach 2 " in calm
    assert shop.save("promised", alarm=api.Promise(false_alarm_every_s=86_400)).notes == []


def test_the_device_with_most_false_alarms_stands_for_the_others(shop: Any) -> None:
    for minute in range(30):
        shop.counts("camera-2", minute, {"out.sharpness": [], "out.avg_confidence": []})
    shop.device("camera-3")
    shop.days(range(10), ("camera-3",))
    (_, note) = shop.save(windows=api.Windows(width_s=60)).notes
    assert "of device camera-3, the most of 3: " in note
    assert "against a baseline of 400" in note


def test_the_rate_of_values_is_said_once_windows_show_how_many_they_hold(shop: Any) -> None:
    given = values(*np.random.default_rng(1).lognormal(6, 0.2, 500).tolist())
    (note,) = shop.save(baseline=given).notes
    assert "of windows of 120 values reach 0.25 against a baseline of 500" in note
    later = api.Windows(width_s=180, start_ns=ns(60))
    assert shop.save("later", baseline=given, windows=later).notes == []


def test_a_name_is_taken_once_in_a_workspace_and_the_second_leaves_nothing_behind(shop: Any) -> None:
    shop.save("focus")
    with pytest.raises(ConflictError, match="give the new one another name"):
        shop.save(" focus ", watched=watched("output scores 5"))
    with shop.hub.database.reading() as connection:
        assert grids.extra_of(connection, shop.pipeline.id) == []
        assert len(store.every(connection)) == 1


def test_saving_a_baseline_that_is_not_there_keeps_nothing(shop: Any) -> None:
    shop.at(3000)
    with pytest.raises(InvalidInputError, match="there is data from"):
        shop.save(baseline=api.Baseline(start_ns=ns(1000), end_ns=ns(1030)))
    with shop.hub.database.reading() as connection:
        assert store.every(connection) == []


def test_a_saved_assay_is_listed_found_and_switched(shop: Any) -> None:
    assay = shop.save()
    assert shop.call(assays.list_assays) == [assay]
    assert shop.call(assays.get_assay, assay=assay.id) == assay
    assert shop.call(assays.switch_off, assay=assay.id).active is False
    assert shop.call(assays.switch_on, assay=assay.id) == assay
    with pytest.raises(EntityNotFoundError):
        shop.call(assays.switch_on, assay="none")


def test_saving_wakes_the_scorer(shop: Any) -> None:
    shop.hub.wake.clear()
    shop.save()
    assert shop.hub.wake.is_set()


def test_a_baseline_is_described_before_it_is_saved(shop: Any) -> None:
    stats = shop.call(assays.describe_baseline, shop.spec())
    assert [one.count for one in stats] == [1200, 1200]
    assert stats[0].labels == ["left_outlier", "q_20", "q_40", "q_60", "q_80", "q_100", "right_outlier"]
    assert msgspec.json.encode(stats)


def test_incidents_are_listed_and_closed_by_hand(shop: Any) -> None:
    incident = api.Incident(
        id="one", kind="silent", device="camera-1", assay_id=None, field=None, opened_ns=1, resolved_ns=None, text="t"
    )
    with shop.hub.database.writing() as connection:
        incident_store.put(connection, incident, "one")
    assert shop.call(incident_routes.list_incidents, query={"open": "true"}) == [incident]
    assert shop.call(incident_routes.list_incidents, query={"device": "camera-2"}) == []
    closed = shop.call(incident_routes.resolve_incident, api.Act(), incident="one")
    assert closed.resolved_ns == ns(42)
    shop.at(50)
    assert shop.call(incident_routes.resolve_incident, api.Act(), incident="one") == closed
    assert shop.call(incident_routes.list_incidents, query={"open": "true"}) == []
    assert shop.call(incident_routes.list_incidents, query={"open": "false"}) == [closed]
    with pytest.raises(InvalidInputError, match="Expected `bool"):
        shop.call(incident_routes.list_incidents, query={"open": "perhaps"})
