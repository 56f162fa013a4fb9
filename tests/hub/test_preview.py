"""What an assay would do: alarms in the past, and what it would find, over real stores."""

from typing import Any

import numpy as np
import pytest

from driftline.charts.detectability import stream_text
from driftline.errors import InvalidInputError
from driftline.hub import assays, preview
from driftline.hub.baselines import take
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns

CAMERAS = ("camera-1", "camera-2")
PROMISE = api.Promise(false_alarm_every_s=30 * 86_400)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two cameras: an hour that is usual, the first half with every row; then camera-2 loses its focus."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
    made.at(60)
    made.days(range(60), CAMERAS)
    return made.closed()


def usual(shop: Any, *fields: str, **changes: Any) -> api.AssaySpec:
    return shop.spec("preview", *fields, **({"baseline": api.Baseline(start_ns=ns(0), end_ns=ns(60))} | changes))


def ask(shop: Any, *fields: str, within: int = 20, **changes: Any) -> api.Preview:
    return shop.call(preview.preview_assay, api.NewPreview(spec=usual(shop, *fields, **changes), within=within))


def blurred(shop: Any) -> None:
    shop.at(90)
    shop.days(range(60, 90), CAMERAS, blurred="camera-2")


def test_a_promise_says_what_it_would_find_and_what_it_found(shop: Any) -> None:
    blurred(shop)
    found = ask(shop, alarm=PROMISE)
    assert found.within == 20
    blurry, clear = found.streams
    # The one with alarms comes first.
    assert (blurry.device, clear.device) == ("camera-2", "camera-1")
    assert (blurry.past_windows, len(blurry.past_alarms)) == (10, 1)
    assert ns(60) <= blurry.past_alarms[0] <= ns(66)
    assert (clear.past_windows, clear.past_alarms) == (10, [])
    for one in found.streams:
        assert one.alarm_at == 2 * 30 * 86_400 / 180
        assert (one.calibrated.windows, one.calibrated.refused) == (20, None)
        assert one.smallest_shift in {0.25, 0.5, 1.0}
        assert [each.shift for each in one.detectable] == [0.1, 0.25, 0.5, 1.0, 2.0, 3.0]
        assert one.detectable[-1].found == 1.0


def test_the_past_is_what_the_scorer_would_have_said(shop: Any) -> None:
    blurred(shop)
    found = ask(shop, alarm=PROMISE)
    run = assays.run(shop.hub, shop.workspace, usual(shop, alarm=PROMISE))
    alerts = [one.start_ns for one in run.analyses if one.device == "camera-2" and one.status == "Alert"]
    assert found.streams[0].past_alarms == alerts[:1]


def test_before_anything_came_since_the_baseline_its_own_windows_are_the_past(shop: Any) -> None:
    found = ask(shop, alarm=PROMISE)
    assert {(one.past_windows, len(one.past_alarms)) for one in found.streams} == {(20, 0)}
    assert any("its own are shown as the past" in note for note in found.notes)


def test_shifts_that_are_a_warning_at_most_are_not_said_to_be_found(shop: Any) -> None:
    found = ask(shop, alarm=api.Promise(false_alarm_every_s=30 * 86_400, min_effect=1.0))
    assert [[shift.shift for shift in one.detectable] for one in found.streams] == [[2.0, 3.0]] * 2
    assert {one.smallest_shift for one in found.streams} == {2.0}
    assert "up to min_effect, 1 sd, are a Warning at most" in found.notes[-1]


def test_a_fixed_threshold_is_previewed_too(shop: Any) -> None:
    blurred(shop)
    found = ask(shop, alarm=api.Fixed(threshold=0.25))
    assert [one.device for one in found.streams if one.past_alarms] == ["camera-2"]
    assert {one.alarm_at for one in found.streams} == {0.25}
    assert {one.calibrated.kind for one in found.streams} == {None}
    assert all(one.detectable[-1].found == 1.0 for one in found.streams)


def test_a_preview_stores_nothing_and_says_the_same_again(shop: Any) -> None:
    assert ask(shop, alarm=PROMISE) == ask(shop, alarm=PROMISE)
    with shop.hub.database.reading() as connection:
        assert store.every(connection) == []


def test_values_that_do_not_fill_a_window_say_so_with_the_way_out(shop: Any) -> None:
    given = np.random.default_rng(1).lognormal(np.log(400), 0.18, 100).tolist()
    changes: dict[str, Any] = {"baseline": api.Baseline(values={"out.sharpness": given}), "windows": START}
    (one,) = ask(shop, alarm=api.Fixed(), devices=["camera-1"], **changes).streams
    assert (one.calibrated.n, one.calibrated.windows) == (120, 0)
    assert "does not fill one window of 120 values; give a longer one, or take narrower" in stream_text(one, 20)
    (one,) = ask(shop, alarm=PROMISE, devices=["camera-1"], **changes).streams
    assert "100 values make not one window of 120 inferences" in stream_text(one, 20)


def test_values_without_times_are_cut_by_what_a_window_holds(shop: Any) -> None:
    values = np.random.default_rng(1).lognormal(np.log(400), 0.18, 3000).tolist()
    changes: dict[str, Any] = {"baseline": api.Baseline(values={"out.sharpness": values}), "windows": START}
    for alarm in (PROMISE, api.Fixed()):
        found = ask(shop, alarm=alarm, devices=["camera-1"], **changes)
        (one,) = found.streams
        assert (one.calibrated.n, one.calibrated.windows, one.past_windows) == (120, 25, 20)
        assert one.detectable[-1].found == 1.0


def test_text_is_previewed(shop: Any) -> None:
    shop.device("camera-3")
    for minute in range(60):
        drawn = np.random.default_rng(minute).choice(["full", "gap", "hand"], 40, p=[0.7, 0.2, 0.1]).tolist()
        shop.counts("camera-3", minute, {"out.label": drawn})
    for alarm in (PROMISE, api.Fixed()):
        (one,) = ask(shop, "out.label", devices=["camera-3"], alarm=alarm).streams
        assert (one.past_windows, one.past_alarms) == (20, [])
        assert one.smallest_shift is not None


def test_a_refused_promise_says_why_and_comes_first(shop: Any) -> None:
    shop.device("camera-3")
    shop.days(range(50, 60), ["camera-3"])
    found = ask(shop, alarm=PROMISE)
    first = found.streams[0]
    assert (first.device, first.detectable, first.smallest_shift) == ("camera-3", [], None)
    assert first.calibrated.refused
    assert "a promise needs" in first.calibrated.refused.lower()


def test_so_many_streams_are_shown_and_the_rest_is_said(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "STREAMS_MAX", 3)
    found = ask(shop, "out.sharpness", "out.avg_confidence", alarm=api.Fixed())
    assert [(one.device, one.field) for one in found.streams] == [
        ("camera-1", "out.avg_confidence"), ("camera-1", "out.sharpness"), ("camera-2", "out.avg_confidence"),
    ]  # fmt: skip
    assert any("4 streams are 1 more than a preview shows" in note for note in found.notes)


# ── of a saved assay ─────────────────────────────────────────────────────────────────────────────────────────────


def saved(shop: Any, assay: api.Assay, **query: str) -> api.Preview:
    return shop.call(preview.preview_standing, assay=assay.id, query=query)


@pytest.mark.parametrize("alarm", [PROMISE, api.Fixed()])
def test_a_saved_assay_would_find_what_it_would_have_found_before(shop: Any, alarm: api.Fixed | api.Promise) -> None:
    blurred(shop)
    before = ask(shop, alarm=alarm)
    assay = assays.save(shop.hub, shop.workspace, usual(shop, alarm=alarm))
    shop.look()
    found = saved(shop, assay)
    assert found.streams == before.streams
    assert saved(shop, assay, within="5").streams[0].detectable != before.streams[0].detectable
    with pytest.raises(InvalidInputError, match="within"):
        saved(shop, assay, within="0")


def test_after_an_incident_became_usual_each_device_is_previewed_against_its_own(shop: Any) -> None:
    blurred(shop)
    assay = assays.save(shop.hub, shop.workspace, usual(shop, alarm=PROMISE))
    shop.look()
    with shop.hub.database.reading() as connection:
        (incident,) = incident_store.listed(connection)
    take(shop.hub, assay.id, api.NewBaseline(incident=incident.id))
    shop.at(99)
    shop.days(range(90, 99), CAMERAS, blurred="camera-2")
    shop.look()
    streams = {one.device: one for one in saved(shop, assay).streams}
    clear, renewed = streams["camera-1"], streams["camera-2"]
    assert (clear.past_windows, clear.calibrated.windows) == (13, 20)
    # Its windows before belong to the baseline that it had.
    assert (renewed.past_windows, renewed.past_alarms) == (3, [])
    assert renewed.calibrated.windows == (90 * 60 - (incident.opened_ns - ns(0)) // 10**9) // 180
    assert renewed.detectable[-1].found == 1.0


def test_of_a_long_past_the_newest_windows_are_looked_at(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "PAST_MAX", 8)
    blurred(shop)
    assay = assays.save(shop.hub, shop.workspace, usual(shop, alarm=PROMISE))
    shop.look()
    found = saved(shop, assay)
    assert {one.past_windows for one in found.streams} == {4}
    assert any("the last 4 windows of each stream" in note for note in found.notes)


def test_a_saved_assay_of_values_is_previewed_once_windows_show_how_many_they_hold(shop: Any) -> None:
    values = np.random.default_rng(1).lognormal(np.log(400), 0.18, 3000).tolist()
    later = api.Windows(width_s=180, start_ns=ns(60))
    changes: dict[str, Any] = {"baseline": api.Baseline(values={"out.sharpness": values}), "windows": later}
    assay = assays.save(shop.hub, shop.workspace, usual(shop, alarm=PROMISE, devices=["camera-1"], **changes))
    (waiting,) = saved(shop, assay).streams
    assert (waiting.calibrated.refused, waiting.detectable) == (assays.NOT_CALIBRATED_YET, [])
    blurred(shop)
    shop.look()
    (one,) = saved(shop, assay).streams
    assert (one.calibrated.n, one.calibrated.windows, one.past_windows) == (120, 25, 10)
    assert one.detectable[-1].found == 1.0


@pytest.mark.parametrize("within", [0, -1, 1001])
def test_a_number_of_windows_that_cannot_be_is_refused(shop: Any, within: int) -> None:
    with pytest.raises(InvalidInputError, match="within"):
        ask(shop, within=within)


START = api.Windows(width_s=180, start_ns=ns(0))
