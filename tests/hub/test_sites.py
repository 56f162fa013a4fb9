"""A site's time zone and opening hours are those of every assay that says none itself, from when they are said."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from driftline.assay.calibration import Calibration
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError
from driftline.hub import alter, assays, course, registry, sites
from driftline.hub import baselines as baseline_routes
from driftline.hub.scorer import Round
from driftline.hub.server import application
from driftline.hub.store import assays as store
from driftline.hub.store import baselines
from driftline.hub.store import incidents as incident_store
from driftline.wire import api
from tests.hub.shop import Shop, ns, scene

STORES = ("sqlite", "postgres")
CAMERAS = ("camera-1", "camera-2")
BLURRED = "camera-2"
PROMISE = api.Promise(false_alarm_every_s=86_400)
HOUR = api.Baseline(start_ns=ns(0), end_ns=ns(60))


def opened(home: Path, database_url: str | None = None) -> Any:
    """Open a shop whose first camera is in Bern and whose second is in Berlin; an hour is behind them."""
    made = Shop.open(home, database_url)
    for name, site in zip(CAMERAS, ("Bern", "Berlin"), strict=True):
        made.device(name)
        sites.place(made.hub, name, site)
    made.at(60)
    made.days(range(60), CAMERAS)
    return made


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = opened(tmp_path_factory.mktemp("shop"))
    return made.closed()


def say(shop: Any, hours: str | None, site: str = "Berlin", zone: str | None = None) -> api.SiteHours:
    new = api.NewSiteHours(time_zone=zone, opening_hours=hours)
    return sites.say(shop.hub, shop.workspace, site, new, "Ada")


def save(shop: Any, *name: str, **changes: Any) -> api.Assay:
    return shop.save(*name, **({"baseline": HOUR} | changes))


def goes(shop: Any, minutes: range, names: Any = CAMERAS, **changes: Any) -> None:
    shop.at(minutes.stop)
    shop.days(minutes, names, **changes)


def answers(shop: Any, assay: api.Assay, device: str = BLURRED) -> list[api.Analysis]:
    with shop.hub.database.reading() as connection:
        return store.analyses(connection, assay.id, device=device)


def closed(shop: Any, assay: api.Assay, device: str = BLURRED) -> list[bool]:
    """Return of each window whether it was outside the opening hours."""
    return [course.OUTSIDE_HOURS in one.notes for one in answers(shop, assay, device)]


def incidents(shop: Any) -> list[tuple[str, str, str]]:
    with shop.hub.database.reading() as connection:
        return [(one.kind, one.device, one.state) for one in incident_store.listed(connection)]


def calibrated_on(shop: Any, assay: api.Assay) -> dict[tuple[int, str], int | None]:
    """Return by version and device on how many windows a baseline was calibrated; None where it was refused."""
    with shop.hub.database.reading() as connection:
        found = baselines.calibrations(connection, assay.id)
    return {
        (version, place.device): (
            None if one.document is None else Calibration.of(msgspec.json.decode(one.document)).windows
        )
        for (version, place), one in found.items()
    }


# ── what an assay takes ──────────────────────────────────────────────────────────────────────────────────────────


def test_outside_the_hours_of_its_site_a_device_wakes_nobody(tmp_path: Path, database_url: str | None) -> None:
    shop = opened(tmp_path, database_url)
    # Minute 66 is 10:06 in UTC, and 11:06 in Berlin in January.
    say(shop, "daily 09:00-11:06", zone="Europe/Berlin")
    assay = save(shop)
    goes(shop, range(60, 72), blurred=BLURRED)
    shop.look()
    assert closed(shop, assay) == [False, False, True, True]
    assert closed(shop, assay, "camera-1") == [False] * 4
    assert [one.status for one in answers(shop, assay)] == ["Alert"] * 4
    listed = shop.call(sites.list_sites)
    assert [(one.site, one.time_zone, one.opening_hours) for one in listed] == [
        ("Berlin", "Europe/Berlin", "daily 09:00-11:06")
    ]
    shop.hub.database.close()


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (api.Calendar(), [False, False, True, True]),
        # Ten past ten in UTC is ten past eleven at the site.
        (api.Calendar(opening_hours="daily 00:00-11:09"), [False, False, False, True]),
        (api.Calendar(opening_hours="daily 00:00-24:00"), [False] * 4),
        (api.Calendar(time_zone="UTC"), [False] * 4),
        (api.Calendar(time_zone="UTC", opening_hours="daily 00:00-10:03"), [False, True, True, True]),
    ],
)
def test_what_an_assay_says_itself_goes_before_its_site(shop: Any, own: api.Calendar, expected: list[bool]) -> None:
    say(shop, "daily 00:00-11:06", zone="Europe/Berlin")
    assay = save(shop, calendar=own)
    goes(shop, range(60, 72))
    shop.look()
    assert closed(shop, assay) == expected
    preview = assays.run(shop.hub, shop.workspace, assay.spec)
    assert [course.OUTSIDE_HOURS in one.notes for one in preview.analyses if one.device == BLURRED] == expected


def test_what_another_workspace_says_of_a_site_is_none_of_its_concern(shop: Any) -> None:
    other = shop.call(registry.make_workspace, api.NewWorkspace(name="elsewhere"))
    new = api.NewSiteHours(opening_hours="daily 01:00-02:00")
    sites.say(shop.hub, other.id, "Berlin", new, "Ada")
    assay = save(shop)
    goes(shop, range(60, 66))
    shop.look()
    assert closed(shop, assay) == [False, False]
    assert shop.call(sites.list_sites) == []


# ── from when on ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", [False, True])
def test_a_window_has_the_hours_of_its_time_however_late_its_data_comes(shop: Any, late: bool) -> None:
    assay = save(shop)
    for minutes, hours in (
        (range(60, 64), "daily 01:00-02:00"),
        (range(64, 70), "daily 00:00-24:00"),
        (range(70, 72), None),
    ):
        shop.at(minutes.stop)
        if not late:
            shop.days(minutes, CAMERAS)
            shop.look()
        say(shop, hours)
    if late:
        shop.days(range(60, 72), CAMERAS)
    shop.look()
    # Closed from minute 64 to 70: the window that was under way when it closed, and the one that ended meanwhile.
    assert closed(shop, assay) == [False, True, True, False]


@pytest.mark.parametrize("late", [False, True])
def test_a_device_that_moves_has_the_hours_of_where_it_was(shop: Any, late: bool) -> None:
    say(shop, "daily 01:00-02:00", site="Bern")
    assay = save(shop)
    for minutes, site in ((range(60, 64), "Bern"), (range(64, 70), None)):
        shop.at(minutes.stop)
        if not late:
            shop.days(minutes, CAMERAS)
            shop.look()
        sites.place(shop.hub, BLURRED, site)
    goes(shop, range(60 if late else 70, 72))
    shop.look()
    assert closed(shop, assay) == [False, True, True, False]


def test_an_assay_that_is_saved_later_has_the_hours_of_then_in_its_past(shop: Any) -> None:
    goes(shop, range(60, 66))
    say(shop, "daily 09:00-10:03")
    assay = save(shop)
    shop.look()
    assert closed(shop, assay) == [False, True]


def test_what_is_said_while_the_scorer_looks_holds_for_windows_that_end_afterwards(shop: Any) -> None:
    both = save(shop, "one"), save(shop, "another")
    said: list[api.SiteHours] = []

    def steady_s() -> float:
        # Asked for when the first assay has its turn; the second one's windows are looked for afterwards.
        if not said:
            said.append(say(shop, "daily 01:00-02:00"))
            goes(shop, range(60, 66))
        return time.monotonic()

    shop.look(Round(shop.hub, steady_s=steady_s))
    assert [closed(shop, one) for one in both] == [[True, True]] * 2


# ── under a promise ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_promise_is_calibrated_anew_for_the_devices_of_the_site_alone(tmp_path: Path, database_url: str | None):
    shop = opened(tmp_path, database_url)
    assay = save(shop, alarm=PROMISE)
    goes(shop, range(60, 78), blurred=BLURRED)
    shop.look()
    assert incidents(shop) == [("drift", BLURRED, "open")]
    say(shop, "daily 09:30-20:00")
    # Before anything more is seen: what was an alarm in other hours is none in these.
    assert incidents(shop) == [("drift", BLURRED, "resolved")]
    goes(shop, range(78, 84))
    shop.look()
    # An hour has twenty windows, its second half ten.
    assert calibrated_on(shop, assay) == {(1, "camera-1"): 20, (1, BLURRED): 20, (2, BLURRED): 10}
    assert [one.baseline_version for one in answers(shop, assay)] == [1] * 6 + [2] * 2
    assert {one.baseline_version for one in answers(shop, assay, "camera-1")} == {1}
    assert {one.status for one in answers(shop, assay)[6:]} == {"Ok"}
    *_, version = shop.call(baseline_routes.list_versions, assay=assay.id)
    assert (version.version, version.from_ns, version.devices) == (2, ns(78), [BLURRED])
    assert version.notes == ["site Berlin is open daily 09:30-20:00 (UTC) now"]
    shop.hub.database.close()


def test_an_assay_with_a_calendar_of_its_own_goes_on_as_it_was(shop: Any) -> None:
    assay = save(shop, alarm=PROMISE, calendar=api.Calendar(time_zone="UTC"))
    say(shop, "daily 09:30-20:00")
    sites.place(shop.hub, "camera-1", "Berlin")
    assert set(calibrated_on(shop, assay)) == {(1, "camera-1"), (1, BLURRED)}


def test_a_device_that_moves_is_calibrated_anew_in_its_new_hours(shop: Any) -> None:
    say(shop, "daily 09:30-20:00")
    assay = save(shop, alarm=PROMISE)
    assert calibrated_on(shop, assay) == {(1, "camera-1"): 20, (1, BLURRED): 10}
    sites.place(shop.hub, "camera-1", "Berlin")
    sites.place(shop.hub, BLURRED, "Berlin")
    assert calibrated_on(shop, assay) == {(1, "camera-1"): 20, (1, BLURRED): 10, (2, "camera-1"): 10}


def test_hours_in_which_nothing_carries_the_promise_are_refused(shop: Any) -> None:
    assay = save(shop, alarm=PROMISE)
    with pytest.raises(InvalidInputError, match="assay 'sharpness' would promise nothing there: the baseline has"):
        say(shop, "daily 09:54-20:00")
    assert shop.call(sites.list_sites) == []
    assert set(calibrated_on(shop, assay)) == {(1, "camera-1"), (1, BLURRED)}


def test_a_device_whose_baseline_carries_no_promise_where_it_moves_says_so(shop: Any) -> None:
    say(shop, "daily 09:54-20:00", site="Bonn")
    assay = save(shop, alarm=PROMISE)
    sites.place(shop.hub, BLURRED, "Bonn")
    goes(shop, range(60, 63))
    shop.look()
    (one,) = answers(shop, assay)
    assert one.status == "TooFew"
    said = f"there is no promise for out.sharpness of device {BLURRED}: the baseline has 2 windows"
    assert any(note.startswith(said) for note in one.notes)
    assert any(note.startswith(said) for note in shop.call(assays.get_assay, assay=assay.id).notes)
    # With the way back the promise is there again, and nothing else is said.
    sites.place(shop.hub, BLURRED, "Berlin")
    assert not any(note.startswith(said) for note in shop.call(assays.get_assay, assay=assay.id).notes)
    assert calibrated_on(shop, assay)[3, BLURRED] == 20


@pytest.mark.parametrize("where", [assays, alter, baseline_routes])
def test_what_was_calibrated_in_hours_that_changed_meanwhile_is_not_kept(shop: Any, where: Any, monkeypatch: Any):
    assay = save(shop, alarm=PROMISE)
    calibrates = where.calibrate

    def slowly(*what: Any) -> Any:
        if not shop.call(sites.list_sites):
            sites.say(shop.hub, shop.workspace, "Bern", api.NewSiteHours(opening_hours="daily 09:30-20:00"), "Ada")
        return calibrates(*what)

    monkeypatch.setattr(where, "calibrate", slowly)
    asks = {
        assays: lambda: save(shop, "another", alarm=PROMISE),
        alter: lambda: alter.edit(shop.hub, assay.id, api.AssayEdit(min_count=5), "Ada"),
        baseline_routes: lambda: baseline_routes.take(shop.hub, assay.id, api.NewBaseline(baseline=HOUR)),
    }
    with pytest.raises(ConflictError, match="meanwhile"):
        asks[where]()


def test_the_evidence_of_a_baseline_of_values_goes_on(shop: Any) -> None:
    values = [float(one) for minute in range(60) for one in scene(2, minute)["out.sharpness"]]
    assay = save(shop, alarm=PROMISE, baseline=api.Baseline(values={"out.sharpness": values}), devices=[BLURRED])
    goes(shop, range(60, 75))
    shop.look()
    say(shop, "daily 09:30-20:00")
    goes(shop, range(75, 78))
    shop.look()
    assert {one.baseline_version for one in answers(shop, assay)} == {1}
    assert {one.evidence.counted for one in answers(shop, assay) if one.evidence} == {True}


def test_a_baseline_that_serves_all_is_calibrated_in_the_hours_of_the_device_that_saw_it(shop: Any) -> None:
    assay = save(shop, alarm=PROMISE, baseline=msgspec.structs.replace(HOUR, device="camera-1"))
    say(shop, "daily 09:30-20:00")
    assert calibrated_on(shop, assay) == {(1, ""): 20}
    say(shop, "daily 09:30-20:00", site="Bern")
    assert calibrated_on(shop, assay) == {(1, ""): 20, (2, ""): 10}


# ── how it is said ───────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_said_by_the_api_and_shown_on_the_page_of_an_assay(shop: Any) -> None:
    assay = save(shop)
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710")
    address = f"/api/v1/workspaces/{shop.workspace}/sites"
    asked = {"time_zone": "Europe/Berlin", "opening_hours": "Mon-Sat 07:00-20:00", "by": "Ada"}
    said = browser.put(f"{address}/Berlin", json=asked).json()
    assert (said["site"], said["from_ns"], said["actor"]) == ("Berlin", ns(60), "Ada")
    assert browser.get(address).json()["items"] == [said]
    assert "Berlin Mon-Sat 07:00-20:00 (Europe/Berlin)" in browser.get(f"/assays/{assay.id}").text
    # Said once more it is the same: it holds since it was said first.
    shop.at(90)
    assert browser.put(f"{address}/Berlin", json=asked).json() == said
    browser.put(f"{address}/Berlin", json={})
    assert browser.get(address).json()["items"] == []
    assert "Berlin" not in browser.get(f"/assays/{assay.id}").text


def test_it_is_said_by_a_form_and_shown_with_the_devices_that_are_there(shop: Any) -> None:
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    address = f"/workspaces/{shop.workspace}/hours"
    given = {"site": "Berlin", "opening_hours": "Mon-Sat 07:00-20:00", "time_zone": "Europe/Berlin", "by": "Ada"}
    said = browser.post(address, data=given)
    assert (said.status_code, said.headers["location"]) == (303, "/sites")
    assert 'href="/sites"' in browser.get("/devices").text
    page = browser.get("/sites").text
    assert f'action="{address}"' in page
    assert "Mon-Sat 07:00-20:00" in page
    (place,) = browser.get("/sites.json").json()["workspaces"]
    shown = {one["name"]: (one["devices"], one["hours"] and one["hours"]["actor"]) for one in place["sites"]}
    assert shown == {"Berlin": (["camera-2"], "Ada"), "Bern": (["camera-1"], None)}
    wrong = browser.post(address, data=given | {"opening_hours": "always"})
    assert (wrong.status_code, "Mon-Sat" in browser.get("/sites").text) == (400, True)
    assert browser.post(address, data={"site": "Berlin"}).status_code == 303
    assert [one["hours"] for one in browser.get("/sites.json").json()["workspaces"][0]["sites"]] == [None, None]


@pytest.mark.parametrize(
    ("site", "hours", "zone"), [("Berlin", "always", None), ("Berlin", None, "Mars/Olympus"), (" ", "daily 07-9", None)]
)
def test_what_are_no_hours_is_refused(shop: Any, site: str, hours: str | None, zone: str | None) -> None:
    with pytest.raises(InvalidInputError):
        say(shop, hours, site=site, zone=zone)
    assert shop.call(sites.list_sites) == []


def test_of_a_device_or_workspace_that_is_not_there_nothing_is_said(shop: Any) -> None:
    with pytest.raises(EntityNotFoundError):
        sites.place(shop.hub, "camera-9", "Berlin")
    with pytest.raises(EntityNotFoundError):
        sites.say(shop.hub, "none", "Berlin", api.NewSiteHours(time_zone="UTC"), "Ada")
