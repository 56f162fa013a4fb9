"""One incident a cause: what several devices of a site have in common is told once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.hub import baselines, causes, fleet, incident_routes, sites
from driftline.hub.scorer import Round
from driftline.hub.store import incidents as store
from driftline.hub.store.incidents import Part
from driftline.wire import api
from tests.hub.shop import Shop, ns, scene


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    """Three tills: two in Berlin, one in Bern, and one that nobody placed."""
    made = Shop.open(tmp_path)
    for name, site in (("till-1", "Berlin"), ("till-2", "Berlin"), ("till-3", "Bern"), ("till-4", None)):
        made.device(name)
        sites.place(made.hub, name, site)
    made.at(60)
    yield made
    made.hub.database.close()


def gives(shop: Any, kind: str, device: str, minute: float, **facts: Any) -> Part:
    part = Part(f"{kind} {device} {minute}", kind, device, ns(minute), text=f"{device}: {kind}", **facts)
    keep(shop, part, minute)
    return part


def keep(shop: Any, part: Part, minute: float, **facts: Any) -> None:
    with shop.hub.database.writing() as connection:
        known = next((one for one in store.open_parts(connection, [part.kind]) if one.id == part.id), None)
        homed = part if known is None else replace(part, incident=known.incident, episode=known.episode)
        causes.gather(connection, homed, ns(minute), **facts)


def over(shop: Any, part: Part, minute: float, **facts: Any) -> None:
    keep(shop, replace(part, resolved_ns=ns(minute)), minute, **facts)


def listed(shop: Any) -> list[api.Incident]:
    with shop.hub.database.reading() as connection:
        return store.listed(connection)


def history(shop: Any, incident: api.Incident) -> list[tuple[str, str | None]]:
    return [(one.change, one.device) for one in shop.call(incident_routes.get_history, incident=incident.id)]


def test_devices_of_one_site_are_one_incident_that_lists_them(shop: Any) -> None:
    gives(shop, "silent", "till-1", 1)
    gives(shop, "silent", "till-2", 2)
    (one,) = listed(shop)
    assert (one.devices, one.site, one.opened_ns) == (["till-1", "till-2"], "Berlin", ns(1))
    assert one.text == "till-1: silent; also on till-2 at Berlin"
    assert history(shop, one) == [("opened", "till-1"), ("widened", "till-2")]


def test_other_sites_other_kinds_and_devices_without_a_site_are_incidents_of_their_own(shop: Any) -> None:
    for device in ("till-1", "till-3", "till-4"):
        gives(shop, "silent", device, 1)
    gives(shop, "backlog", "till-1", 1)
    gives(shop, "clock", "till-1", 1)
    gives(shop, "clock", "till-2", 1)
    assert sorted((one.kind, one.devices) for one in listed(shop)) == [
        ("backlog", ["till-1"]), ("clock", ["till-1"]), ("clock", ["till-2"]),
        ("silent", ["till-1"]), ("silent", ["till-3"]), ("silent", ["till-4"]),
    ]  # fmt: skip
    assert {one.kind: one.severity for one in listed(shop)} == {
        "backlog": "warning", "clock": "warning", "silent": "critical",
    }  # fmt: skip


def test_it_is_over_when_it_is_on_every_device(shop: Any) -> None:
    first, other = gives(shop, "silent", "till-1", 1), gives(shop, "silent", "till-2", 2)
    over(shop, first, 5)
    (one,) = listed(shop)
    assert (one.state, one.device, one.devices) == ("open", "till-2", ["till-2"])
    over(shop, other, 7)
    (one,) = listed(shop)
    assert (one.state, one.resolved_ns, one.devices) == ("resolved", ns(7), ["till-1", "till-2"])
    assert history(shop, one)[-1] == ("resolved", None)


def test_a_device_that_falls_ill_again_in_an_open_incident_is_no_news(shop: Any) -> None:
    first = gives(shop, "silent", "till-1", 1)
    gives(shop, "silent", "till-2", 2)
    over(shop, first, 5)
    gives(shop, "silent", "till-1", 6)
    (one,) = listed(shop)
    assert one.devices == ["till-2", "till-1"]
    assert [change for change, _ in history(shop, one)] == ["opened", "widened"]


def test_a_cause_that_comes_back_within_an_hour_reopens_it_and_later_opens_another(shop: Any) -> None:
    over(shop, gives(shop, "silent", "till-1", 1), 5)
    over(shop, gives(shop, "silent", "till-2", 60), 65)
    (one,) = listed(shop)
    assert (one.reopened, one.devices, one.opened_ns, one.resolved_ns) == (1, ["till-2"], ns(1), ns(65))
    assert [change for change, _ in history(shop, one)] == ["opened", "resolved", "reopened", "resolved"]
    gives(shop, "silent", "till-1", 126)
    newest, before = listed(shop)
    assert (newest.reopened, newest.opened_ns, before.id) == (0, ns(126), one.id)


def test_what_is_settled_does_not_come_back(shop: Any) -> None:
    over(shop, gives(shop, "silent", "till-1", 1), 5, settled=True)
    gives(shop, "silent", "till-1", 6)
    assert [one.reopened for one in listed(shop)] == [0, 0]


def test_what_was_reopened_by_hand_stays_open_until_its_cause_came_and_went(shop: Any) -> None:
    over(shop, gives(shop, "silent", "till-1", 1), 5)
    (one,) = listed(shop)
    assert incident_routes.do(shop.hub, one.id, "reopened", api.Act(by="Ada")).state == "open"
    part = gives(shop, "silent", "till-1", 50)
    (one,) = listed(shop)
    assert (one.state, one.opened_ns) == ("open", ns(1))
    over(shop, part, 55)
    assert [one.resolved_ns for one in listed(shop)] == [ns(55)]


def test_an_older_one_is_not_reopened_beside_a_newer_one_of_the_same_cause(shop: Any) -> None:
    over(shop, gives(shop, "silent", "till-1", 1), 5)
    gives(shop, "silent", "till-1", 126)
    newer, older = listed(shop)
    with pytest.raises(ConflictError, match=newer.id):
        incident_routes.do(shop.hub, older.id, "reopened", api.Act())


def test_a_device_that_moves_leaves_open_incidents_as_they_are(shop: Any) -> None:
    part = gives(shop, "silent", "till-1", 1)
    sites.place(shop.hub, "till-1", "Bern")
    over(shop, part, 5)
    (one,) = listed(shop)
    assert (one.site, one.state) == ("Berlin", "resolved")


def test_a_device_that_is_removed_ends_its_part_and_leaves_the_others(shop: Any) -> None:
    gives(shop, "silent", "till-1", 1)
    gives(shop, "silent", "till-2", 2)
    gives(shop, "silent", "till-3", 2)
    for name in ("till-1", "till-3"):
        shop.call(fleet.remove_device, name=name)
    (one,) = listed(shop)
    assert (one.state, one.devices, one.text) == ("open", ["till-2"], "till-2: silent")


def test_many_devices_are_counted_not_listed_in_the_sentence() -> None:
    said = causes._also([f"till-{at}" for at in range(2, 9)], "Berlin")
    assert said == "; also on till-2, till-3, till-4, till-5, till-6 and 2 more at Berlin"


def test_an_assay_alarms_once_at_a_site_and_one_device_takes_its_own_baseline(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    for camera in (1, 2):
        shop.device(f"camera-{camera}")
        sites.place(shop.hub, f"camera-{camera}", "Berlin")
    for camera in (1, 2):
        told = {at: scene(camera, at, blurred=at >= 30 + camera * 3) for at in range(45)}
        shop.minutes(f"camera-{camera}", told, until=45)
    shop.at(45)
    assay = shop.save()
    while Round(shop.hub).run():
        pass
    (one,) = listed(shop)
    assert (one.kind, one.site, one.devices, one.opened_ns) == (
        "drift", "Berlin", ["camera-1", "camera-2"], ns(33),
    )  # fmt: skip
    assert one.text.startswith("device camera-1: out.sharpness has drifted since")
    assert one.text.endswith("; also on camera-2 at Berlin")
    with pytest.raises(InvalidInputError, match="say whose time is to become the baseline"):
        baselines.take(shop.hub, assay.id, api.NewBaseline(incident=one.id))
    with pytest.raises(InvalidInputError, match="not about device 'camera-9'"):
        baselines.take(shop.hub, assay.id, api.NewBaseline(incident=one.id, device="camera-9"))
    baselines.take(shop.hub, assay.id, api.NewBaseline(incident=one.id, device="camera-2"))
    (one,) = listed(shop)
    assert (one.state, one.devices) == ("open", ["camera-1"])
    (_, taken) = shop.call(baselines.list_versions, assay=assay.id)
    assert (taken.devices, taken.baseline.start_ns) == (["camera-2"], ns(36))
    shop.hub.database.close()


def test_a_site_is_named_changed_and_taken_away(shop: Any) -> None:
    assert shop.call(sites.put_site, api.Site(site=" Bern "), name="till-4").site == "Bern"
    assert shop.call(sites.put_site, api.Site(), name="till-4").site is None
    with pytest.raises(EntityNotFoundError):
        shop.call(sites.put_site, api.Site(site="Bern"), name="none")
    with pytest.raises(InvalidInputError):
        sites.place(shop.hub, "till-4", "a" * 500)


def test_words_without_end_and_incidents_that_are_none_are_refused(shop: Any) -> None:
    gives(shop, "silent", "till-1", 1)
    (one,) = listed(shop)
    with pytest.raises(InvalidInputError, match="say less"):
        incident_routes.do(shop.hub, one.id, "acknowledged", api.Act(note="a" * 2001))
    with pytest.raises(EntityNotFoundError):
        incident_routes.do(shop.hub, "none", "acknowledged", api.Act())
    assert incident_routes.do(shop.hub, one.id, "acknowledged", api.Act()).acknowledged_by == "somebody"
