from typing import Any

import msgspec
import pytest

from driftline.hub import fleet, incidents
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns

VALUES = api.Baseline(values={"out.sharpness": [300.0, 400.0, 500.0]})


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One camera with a standing assay and no answers yet."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    made.device("camera-1")
    made.assay = made.save(baseline=VALUES)
    return made.closed()


def answer(
    shop: Any, window: int, status: api.Status, score: float | None, bins: api.Bins | None = None
) -> api.Analysis:
    return api.Analysis(
        assay_id=shop.assay.id,
        name="sharpness",
        iopath="out.sharpness",
        field="out.sharpness",
        device="camera-1",
        start_ns=ns(3 * window),
        end_ns=ns(3 * window + 3),
        score=score,
        status=status,
        alert_threshold=0.25,
        warning_threshold=0.1,
        count=120,
        missing=0,
        min=None,
        max=None,
        mean=None,
        median=None,
        std=None,
        source="counts",
        metric="psi",
        bins=bins,
    )


def tell(shop: Any, *answers: tuple[int, api.Status, float | None]) -> api.Incident | None:
    """Store answers one after the other as the scorer does; return the newest incident."""
    for window, status, score in answers:
        analysis = answer(shop, window, status, score)
        with shop.hub.database.writing() as connection:
            (kept,) = store.put_all(connection, [store.Answer(analysis)])
            if kept is not None:
                incidents.follow(connection, [incidents.Told(shop.assay.spec, [kept])], analysis.end_ns)
    with shop.hub.database.reading() as connection:
        return next(iter(incident_store.listed(connection)), None)


def test_nothing_but_an_alert_opens_an_incident(shop: Any) -> None:
    quiet: list[tuple[int, api.Status, float | None]] = [
        (0, "Ok", 0.0),
        (1, "Warning", 0.2),
        (2, "NoData", None),
        (3, "TooFew", 9.0),
        (4, "Late", None),
    ]
    assert tell(shop, *quiet) is None


def test_the_sentence_follows_the_newest_alert(shop: Any) -> None:
    found = tell(shop, (0, "Alert", 0.5), (1, "Alert", 7.06))
    assert found is not None
    assert found.text == (
        "device camera-1: out.sharpness has drifted since 2026-01-01T09:00:00+00:00 "
        "(score 7.06, threshold 0.25; 2 windows)"
    )


def test_the_sentence_says_where_the_values_went(shop: Any) -> None:
    low = api.Bins(
        labels=["left", "middle", "right"],
        edges=[100.0, 200.0],
        baseline=[0.0, 0.9, 0.1],
        window=[0.75, 0.25, 0.0],
        contributions=[5.0, 1.0, 0.5],
    )
    assert incidents.why(answer(shop, 0, "Alert", 0.5, bins=low)) == (
        ": 75% of its values are ≤ 100, where the baseline has 0%"
    )
    summed = msgspec.structs.replace(low, window=[0.75, 1.0, 1.0], baseline=[0.0, 0.9, 1.0])
    assert incidents.why(answer(shop, 0, "Alert", 0.5, bins=summed)) == ""
    assert incidents.why(answer(shop, 0, "Alert", 0.5)) == ""


@pytest.mark.parametrize(
    ("after", "resolved"),
    [
        (["Ok", "Ok"], None),
        (["Ok", "Ok", "Ok"], 12),
        (["Ok", "Ok", "Alert", "Ok", "Ok"], None),
        (["Ok", "Warning", "Ok", "Ok"], None),
        (["Ok", "NoData", "Ok", "Late", "TooFew", "Ok"], 21),
    ],
)
def test_three_judged_ok_windows_in_a_row_resolve_it(shop: Any, after: list[api.Status], resolved: int | None) -> None:
    tell(shop, (0, "Alert", 0.5))
    found = tell(shop, *((i, status, 0.3) for i, status in enumerate(after, start=1)))
    assert found is not None
    assert found.resolved_ns == (None if resolved is None else ns(resolved))


def test_an_alert_that_late_data_took_back_is_withdrawn(shop: Any) -> None:
    found = tell(shop, (0, "Alert", 0.5), (0, "Ok", 0.1))
    assert found is not None
    assert found.text.endswith("withdrawn: late data changed the answer")
    assert found.resolved_ns is not None


def test_an_earlier_alert_that_late_data_brings_moves_the_beginning(shop: Any) -> None:
    found = tell(shop, (1, "Ok", 0.1), (3, "Alert", 0.5), (1, "Alert", 0.4))
    assert found is not None
    assert (found.opened_ns, found.windows) == (ns(3), 2)


def test_devices_that_are_told_of_together_get_what_each_would_alone(shop: Any) -> None:
    told: dict[str, list[tuple[api.Status, float]]] = {
        "camera-1": [("Alert", 0.5), ("Ok", 0.1), ("Ok", 0.1), ("Ok", 0.1)],
        "camera-2": [("Ok", 0.1), ("Alert", 0.7), ("Alert", 0.9), ("Ok", 0.1)],
        "camera-3": [("Ok", 0.1), ("Warning", 0.2), ("Ok", 0.1), ("Ok", 0.1)],
        "camera-4": [("Alert", 0.3), ("Alert", 0.4), ("Warning", 0.2), ("Ok", 0.1)],
    }
    for window in range(4):
        with shop.hub.database.writing() as connection:
            answers = [
                store.Answer(msgspec.structs.replace(answer(shop, window, *told[device][window], None), device=device))
                for device in told
            ]
            kept = store.put_all(connection, answers)
            windows = [incidents.Told(shop.assay.spec, [one]) for one in kept if one is not None]
            assert len(windows) == len(told)
            incidents.follow(connection, windows, ns(3 * window + 3))
    with shop.hub.database.reading() as connection:
        found = {one.device: one for one in incident_store.listed(connection)}
    assert {name: (one.opened_ns, one.resolved_ns, one.windows) for name, one in found.items()} == {
        "camera-1": (ns(0), ns(12), 1),
        "camera-2": (ns(3), None, 2),
        "camera-4": (ns(0), None, 2),
    }
    assert "score 0.9, threshold 0.25; 2 windows" in found["camera-2"].text


def test_answers_told_twice_change_nothing(shop: Any) -> None:
    once = tell(shop, (0, "Alert", 0.5), (1, "Alert", 0.6))
    assert tell(shop, (0, "Alert", 0.5), (1, "Alert", 0.6)) == once


def device(**facts: Any) -> api.Device:
    known = {"id": "1", "name": "camera-1", "states": ["healthy"], "created_ns": 0, "heard_ns": ns(5), "joined": True}
    return api.Device(**(known | facts))


def watch(shop: Any, *devices: api.Device, heard_of: tuple[str, ...] = ("camera-1",)) -> list[api.Incident]:
    with shop.hub.database.writing() as connection:
        incidents.watch(connection, devices, heard_of, ns(20))
        return incident_store.listed(connection)


def test_silence_opens_and_hearing_resolves(shop: Any) -> None:
    (silent,) = watch(shop, device(states=["silent"]))
    assert (silent.kind, silent.opened_ns) == ("silent", ns(5))
    assert watch(shop, device(states=["silent"])) == [silent]
    assert silent.text == "device camera-1: silent since 2026-01-01T09:05:00+00:00; see whether it has power and a link"
    said = silent.text.partition("; ")[0]
    assert watch(shop, device()) == [msgspec.structs.replace(silent, resolved_ns=ns(20), state="resolved", text=said)]


def test_a_device_that_had_no_chance_to_be_heard_is_not_blamed(shop: Any) -> None:
    assert watch(shop, device(states=["silent"]), heard_of=()) == []


def test_a_device_that_never_joined_has_no_troubles(shop: Any) -> None:
    assert watch(shop, device(states=["silent"], joined=False), device(heard_ns=None, states=["new"])) == []


def test_each_camera_has_its_own_incident(shop: Any) -> None:
    found = watch(shop, device(sources={"front": "camera lost", "back": "camera lost", "side": "ok"}))
    assert sorted(one.text.rpartition("(")[2] for one in found) == ["back)", "front)"]


def test_what_is_known_of_a_removed_device_is_resolved(shop: Any) -> None:
    watch(shop, device(states=["silent"]))
    assert [one.resolved_ns for one in watch(shop)] == [ns(20)]


def test_a_camera_that_cannot_be_opened_is_lost_with_the_devices_reason(shop: Any) -> None:
    (found,) = watch(shop, device(sources={"front.mp4": "error: front.mp4 cannot be decoded as video"}))
    assert found.kind == "camera lost"
    assert "front.mp4 cannot be decoded as video" in found.text
    (over,) = watch(shop, device(sources={"front.mp4": "ok"}))
    assert over.resolved_ns == ns(20)


def test_a_camera_stays_lost_while_its_device_is_stopped_or_only_starting(shop: Any) -> None:
    watch(shop, device(sources={"0": "camera lost"}))
    for sources in ({}, {"0": "starting"}):
        (found,) = watch(shop, device(sources=sources))
        assert found.resolved_ns is None
    (over,) = watch(shop, device(sources={"0": "ok"}))
    assert over.resolved_ns == ns(20)


def test_a_clock_that_is_surely_off_by_more_than_half_a_window_is_an_incident_until_it_is_right(shop: Any) -> None:
    assert watch(shop, device(clock_ahead_s=29.0, clock_error_s=0.1)) == []
    assert watch(shop, device(clock_ahead_s=-40.0, clock_error_s=15.0)) == []
    (found,) = watch(shop, device(clock_ahead_s=-11_520.0, clock_error_s=0.1))
    assert (found.kind, found.opened_ns, found.resolved_ns) == ("clock", ns(5), None)
    assert found.text.startswith(
        "device camera-1: its clock is 3 h 12 min behind, as heard at 2026-01-01T09:05:00+00:00; what it counts is put "
        "where it belongs"
    )
    assert "timedatectl set-ntp true" in found.text
    assert watch(shop, device(clock_ahead_s=-11_500.0, clock_error_s=0.1)) == [found]
    (over,) = watch(shop, device(clock_ahead_s=0.2, clock_error_s=0.1))
    assert over.resolved_ns == ns(20)
    assert watch(shop, device()) == [over]


@pytest.mark.parametrize(
    ("facts", "opens"),
    [
        ({"states": ["behind"], "backlog": 1001}, True),
        ({"states": ["behind"], "complete_until_ns": ns(5) - 3600 * 10**9}, True),
        ({"states": ["behind"], "complete_until_ns": ns(5) - 3599 * 10**9, "backlog": 1000}, False),
        ({"states": ["behind"]}, False),
        ({"states": ["silent", "behind"], "backlog": 5000}, False),
        ({"states": ["healthy"], "complete_until_ns": ns(5) - 7200 * 10**9}, False),
    ],
)
def test_a_device_that_cannot_get_rid_of_what_it_counts_is_an_incident(shop: Any, facts: Any, opens: bool) -> None:
    found = [one for one in watch(shop, device(**facts)) if one.kind == "backlog"]
    assert [one.severity for one in found] == (["warning"] if opens else [])
    if opens:
        assert f"{facts.get('backlog', 0)} records wait on it" in found[0].text
        (over,) = watch(shop, device())
        assert over.state == "resolved"


def test_a_device_that_drops_windows_is_an_incident_until_it_has_dropped_none_for_an_hour(shop: Any) -> None:
    shop.at(30)
    for dropped_ns, open_ones in ((None, 0), (ns(30), 1), (ns(30) - 3601 * 10**9, 0)):
        shop.says("camera-1", dropped_ns=dropped_ns)
        here = fleet.device(shop.hub, "camera-1")
        assert ("dropping" in here.states) == bool(open_ones)
        found = [one for one in watch(shop, here) if one.kind == "dropped" and one.resolved_ns is None]
        assert len(found) == open_ones
        assert not found or "had no room and dropped windows" in found[0].text
