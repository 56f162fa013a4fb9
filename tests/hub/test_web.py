import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np
import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from driftline.hub.baselines import take
from driftline.hub.scorer import Round
from driftline.hub.server import application
from driftline.hub.store import assays as store
from driftline.hub.store import incidents as incident_store
from driftline.hub.store.assays import Mark
from driftline.hub.web import pages as pages_of
from driftline.hub.web import views
from driftline.hub.web.html import Html, el, path, text
from driftline.hub.web.parts import LOOKS, strip, strip_text
from driftline.wire import api
from tests.hub.shop import Shop, ns

NASTY = "<script>alert(1)</script>&'\"?#100%"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three cameras, the third out of focus since 09:36, and a device and an assay with nasty names."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for number in (1, 2, 3):
        made.device(f"camera-{number}", pipelines={made.pipeline.versions[0].id: "running"}, sources={"front": "ok"})
    made.device(NASTY.replace("/", ""), heard_ns=None, joined_ns=None, key=None)
    made.at(30)
    made.days(range(30))
    made.assay = made.save(alarm=api.Fixed(warning=0.2))
    made.nasty = made.save(f"assay {NASTY}".replace("/", ""), "out.avg_confidence")
    day_s = 86_400
    made.promised = made.save(
        "promised", "out.sharpness", "out.avg_confidence", alarm=api.Promise(false_alarm_every_s=30 * day_s)
    )
    made.at(48)
    made.days(range(30, 36))
    made.days(range(36, 48), blurred="camera-3")
    made.look()
    yield made
    made.hub.database.close()


@pytest.fixture(scope="module")
def browser(shop: Any) -> TestClient:
    return TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)


class Reader(HTMLParser):
    """Collects what a browser would act on, and that every element is closed."""

    VOID = frozenset({"meta", "link", "br", "input", "img", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


# Where forms post to: nobody gets a page there.
FORMS = (
    "/resolve", "/on", "/off", "/baseline", "/acknowledge", "/silence", "/close", "/reopen", "/site", "/clone",
    "/remove", "/edit", "/maintenance", "/ended", "/hours",
)  # fmt: skip


def pages(shop: Any) -> list[str]:
    return [
        "/",
        "/devices",
        "/devices/camera-3",
        path("devices", NASTY.replace("/", "")),
        "/assays",
        f"/assays/{shop.assay.id}",
        f"/assays/{shop.nasty.id}",
        f"/assays/{shop.promised.id}",
        f"/assays/{shop.promised.id}/preview",
        "/incidents",
        "/notifications",
        "/pipelines",
        "/sites",
    ]


def test_every_page_is_whole_and_leads_only_to_pages_that_exist(shop: Any, browser: TestClient) -> None:
    seen: set[str] = set()
    waiting = pages(shop)
    while waiting:
        address = waiting.pop()
        if address in seen or address.startswith("#") or address.endswith(FORMS):
            continue
        seen.add(address)
        reply = browser.get(address)
        assert reply.status_code == 200, address
        if reply.headers["content-type"].startswith("text/html"):
            found = Reader(reply.text)
            assert found.open == []
            waiting += found.links
    assert {unquote(one) for one in pages(shop)} <= {unquote(one) for one in seen}


def test_pages_allow_no_foreign_and_no_inline_code_and_carry_none(shop: Any, browser: TestClient) -> None:
    for address in pages(shop):
        reply = browser.get(address)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        found = Reader(reply.text)
        assert "style" not in found.tags
        assert "style" not in found.attributes
        assert not [name for name in found.attributes if name.startswith("on")]
        assert [link for link in found.links if "//" in link] == []


def test_names_are_text_wherever_they_stand(shop: Any, browser: TestClient) -> None:
    for address in pages(shop):
        found = Reader(browser.get(address).text)
        # What takes long to work out is not asked for every few seconds.
        assert found.tags.count("script") == (0 if address.endswith("/preview") else 1)
    assert NASTY.replace("/", "") in Reader(browser.get("/devices").text).words


def test_every_page_has_a_twin_in_json(shop: Any, browser: TestClient) -> None:
    for address in pages(shop):
        (twin,) = re.findall(r'rel="alternate" type="application/json" href="([^"]+)"', browser.get(address).text)
        reply = browser.get(twin.replace("&amp;", "&"))
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["now_ns"] == ns(48)


def test_the_first_page_says_what_is_wrong_in_a_sentence(browser: TestClient) -> None:
    reader = Reader(browser.get("/").text)
    assert "camera-3 needs a look" in reader.words
    assert "out.sharpness has drifted since 2026-01-01 09:36 UTC" in reader.words
    incident = browser.get("/index.json").json()["incidents"][0]["incident"]
    assert incident["device"] == "camera-3"


def test_the_assay_page_shows_scores_the_newest_alert_and_the_baseline(shop: Any, browser: TestClient) -> None:
    page = browser.get(f"/assays/{shop.assay.id}").text
    # Scores over time, the newest alert and the baseline, each once more for a phone.
    assert page.count('class="dl-chart"') == 6
    assert "camera-3 over 0.25 since 09:36" in page
    twin = browser.get(f"/assays/{shop.assay.id}.json").json()
    assert len(twin["analyses"]) == 3 * 6
    assert twin["alert"]["device"] == "camera-3"
    assert [one["count"] for one in twin["baselines"]] == [1200] * 3


def test_under_a_promise_the_assay_page_shows_evidence_and_what_it_rests_on(shop: Any, browser: TestClient) -> None:
    address = f"/assays/{shop.promised.id}"
    page = Reader(browser.get(address).text).words
    assert "one false alarm in 30 days over 3 devices × 2 fields" in page
    assert "Has out.sharpness or out.avg_confidence of shelf-watch moved" in page
    assert "camera-3" in page
    assert "in alarm since 09:" in page
    assert "10 of about 120" in page
    twin = browser.get(f"{address}.json").json()
    assert {one["field"] for one in twin["analyses"]} == {"out.sharpness", "out.avg_confidence"}
    assert twin["alert"]["evidence"]["value"] >= twin["alert"]["evidence"]["alarm_at"]
    assert twin["summary"]["lines"][0]["level"] >= 1
    assert [one["version"] for one in twin["versions"]] == [1]
    # Six baselines of ten windows: what a promise lacks is said in words, once.
    assert all(one["calibrated"]["windows"] == 10 for one in twin["baselines"])


def test_what_an_assay_of_text_compares_are_categories(tmp_path: Path) -> None:
    made = Shop.open(tmp_path)
    made.device("camera-1")
    for minute in range(30):
        made.counts("camera-1", minute, {"out.label": ["cat", "dog", "cat", "owl"] * 10})
    made.at(30)
    assay = made.save("labels", "out.label")
    page = TestClient(application(made.hub), base_url="http://127.0.0.1:8710").get(f"/assays/{assay.id}").text
    assert "PSI over categories; alerts from 0.25 on" in Reader(page).words
    made.hub.database.close()


def test_a_baseline_that_serves_all_but_a_renewed_device_says_so(tmp_path: Path) -> None:
    made = Shop.open(tmp_path)
    for number in (1, 2):
        made.device(f"camera-{number}")
    made.at(30)
    made.days(range(30), ("camera-1", "camera-2"))
    usual = np.random.default_rng(5).lognormal(np.log(400), 0.18, 3000).tolist()
    assay = made.save(baseline=api.Baseline(values={"out.sharpness": usual}))
    made.at(48)
    made.days(range(30, 48), ("camera-1", "camera-2"), blurred="camera-2")
    Round(made.hub).run()
    browser = TestClient(application(made.hub), base_url="http://127.0.0.1:8710")

    def words() -> str:
        return Reader(browser.get(f"/assays/{assay.id}").text).words

    assert "all devices" in words()
    with made.hub.database.reading() as connection:
        (incident,) = (one for one in incident_store.listed(connection) if one.kind == "drift")
    take(made.hub, assay.id, api.NewBaseline(incident=incident.id))
    assert "all other devices" in words()
    made.hub.database.close()


def test_a_page_of_its_own_says_what_an_assay_would_find(shop: Any, browser: TestClient) -> None:
    address = f"/assays/{shop.promised.id}/preview"
    assert address in Reader(browser.get(f"/assays/{shop.promised.id}").text).links
    page = browser.get(address).text
    # Once for a phone.
    assert page.count('class="dl-chart"') == 2
    words = Reader(page).words
    assert re.search(r"Within 20 windows a shift of [\d.]+ sd is found", words)
    assert re.search(
        r"camera-3, out.sharpness: 1 alarm over 6 past windows \(the first at 2026-01-01 09:\d\d UTC\); finds", words
    )
    twin = browser.get(f"{address}.json").json()["preview"]
    assert {(one["device"], one["field"]) for one in twin["streams"]} == {
        (f"camera-{number}", field) for number in (1, 2, 3) for field in ("out.sharpness", "out.avg_confidence")
    }
    assert browser.get("/assays/none/preview").status_code == 404
    assert browser.get("/assays/none/preview.json").status_code == 404


def test_the_list_of_assays_says_when_each_wakes_somebody(browser: TestClient) -> None:
    page = Reader(browser.get("/assays").text).words
    assert "one false alarm in 30 days over 3 devices × 2 fields" in page
    assert "alerts from 0.25 on, warns from 0.2 on" in page
    assert "of an alarm" in page


def test_the_page_of_one_device_says_that_it_shares_the_promise(browser: TestClient) -> None:
    assert "one false alarm in 30 days over 3 devices × 2 fields" in Reader(browser.get("/devices/camera-2").text).words


def test_a_page_of_many_assays_asks_the_database_no_more_often(shop: Any, browser: TestClient) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    with shop.hub.database.reading() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    browser.get("/assays")
    event.remove(engine, "before_cursor_execute", note)
    assert sum("FROM analyses" in one or "JOIN analyses" in one for one in asked) == 1
    assert len(asked) < 10


def test_what_is_looked_up_for_strips_is_a_range_of_the_key(shop: Any) -> None:
    strips = [store.Strip(shop.assay.id, f"camera-{n}", "out.sharpness", ns(39)) for n in (1, 3)]
    with shop.hub.database.reading() as connection:
        found = store.latest_marks(connection, strips)
        assert {key[1] for key in found} == {"camera-1", "camera-3"}
        assert [mark.start_ns for mark in found[shop.assay.id, "camera-1", "out.sharpness"]] == [ns(39), ns(42), ns(45)]
        assert store.latest_marks(connection, []) == {}


def test_pages_render_fast_enough_to_be_read_all_day(shop: Any, browser: TestClient) -> None:
    with shop.hub.database.reading() as connection:
        assert store.progress(connection)
    for address in pages(shop):
        if address.endswith("/preview"):
            continue
        browser.get(address)
        assert browser.get(address).elapsed.total_seconds() < 1.0


def test_what_is_not_there_is_said_on_a_page_with_the_way_back(browser: TestClient) -> None:
    for address in ("/nowhere", "/devices/none", "/assays/none", "/static/secret"):
        reply = browser.get(address)
        assert reply.status_code == 404
        assert "Back to the overview" in reply.text
    assert browser.get("/devices/none.json").json()["error"]["code"] == "not_found"
    reply = browser.get("/api/v1/nowhere")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert "<img" not in browser.get("/<img src=x>").text


def test_an_incident_is_resolved_and_an_assay_switched_by_forms_that_lead_back(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-3")
    shop.at(30)
    shop.days(range(30), ("camera-3",))
    assay = shop.save()
    shop.at(36)
    shop.days(range(30, 36), ("camera-3",), blurred="camera-3")
    Round(shop.hub).run()
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    (action,) = (one for one in Reader(browser.get("/").text).links if one.endswith("/resolve"))
    foreign = browser.post(action, headers={"Origin": "https://elsewhere.example"})
    assert foreign.status_code == 403
    reply = browser.post(action, headers={"Origin": "http://127.0.0.1:8710"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/incidents")
    assert "No open incident" in browser.get("/incidents").text
    assert browser.post(f"/assays/{assay.id}/off").headers["location"] == f"/assays/{assay.id}"
    assert "Switch on" in browser.get(f"/assays/{assay.id}").text
    assert browser.post("/assays/none/off").status_code == 404
    shop.hub.database.close()


def test_an_incident_becomes_the_new_baseline_by_a_form_that_says_first_what_it_does(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-3")
    shop.at(30)
    shop.days(range(30), ("camera-3",))
    assay = shop.save()
    shop.at(48)
    shop.days(range(30, 48), ("camera-3",), blurred="camera-3")
    Round(shop.hub).run()
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710", follow_redirects=False)
    page = Reader(browser.get(f"/assays/{assay.id}").text)
    assert "compares the windows of camera-3 with what it has seen since 2026-01-01 09:30 UTC" in page.words
    assert "all other devices keep their baselines" in page.words
    assert "Baselines it has had" not in page.words
    (action,) = (one for one in page.links if one.endswith("/baseline"))
    assert browser.post(action, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    reply = browser.post(action, headers={"Origin": "http://127.0.0.1:8710"})
    assert (reply.status_code, reply.headers["location"]) == (303, f"/assays/{assay.id}")
    after = Reader(browser.get(f"/assays/{assay.id}").text).words
    assert "Baselines it has had" in after
    assert "Yes, compare with this" not in after
    assert [one["version"] for one in browser.get(f"/assays/{assay.id}.json").json()["versions"]] == [2, 1]
    assert browser.post("/incidents/none/baseline").status_code == 404
    shop.hub.database.close()


def test_what_is_not_well_is_never_called_fine(shop: Any) -> None:
    found = views.overview(shop.hub)
    assert found.assays[0].lines[0].device == "camera-3"
    assert found.devices[0].states != ["healthy"]
    resolved = msgspec.structs.replace(found, incidents=[])
    assert pages_of.verdict(resolved) == "Nothing is open, but camera-3 still alerts"
    quiet = [
        msgspec.structs.replace(one, lines=[msgspec.structs.replace(line, status=status) for line in one.lines[:1]])
        for one, status in zip(found.assays, ("Late", "Ok", "Ok"), strict=True)
    ]
    silent = msgspec.structs.replace(resolved, assays=quiet)
    assert pages_of.verdict(silent) == f"Nothing is open, but {quiet[0].lines[0].device} could not be judged of late"
    well = msgspec.structs.replace(resolved, assays=quiet[1:])
    assert "Nothing is open, but" not in pages_of.verdict(well)


def test_an_assay_that_has_run_out_says_so(shop: Any) -> None:
    found = views.assay(shop.hub, shop.assay.id)
    spec = msgspec.structs.replace(found.assay.spec, run_until_ns=ns(45))
    ended = msgspec.structs.replace(found, assay=msgspec.structs.replace(found.assay, spec=spec))
    words = Reader(pages_of.one_assay(ended)).words
    assert "It ran until 2026-01-01 09:45 UTC" in words
    assert "Ended" in words


def test_a_hub_without_anything_says_what_to_do_first(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    browser = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710")
    first = Reader(browser.get("/").text).words
    assert "No device has joined yet" in first
    assert "build_assay" in first
    for address in ("/devices", "/assays", "/incidents"):
        assert browser.get(address).status_code == 200
    shop.hub.database.close()


def test_fast_time_is_said_on_every_page(shop: Any, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(shop.clock), "banner", "fast time: 2026-01-01T09:48:00+00:00, running 60×")
    for address in [*pages(shop), "/nowhere"]:
        assert "running 60×" in browser.get(address).text


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_markup_cannot_be_forgotten_to_escape() -> None:
    assert el("p", "<b>", title='"&') == '<p title="&quot;&amp;">&lt;b&gt;</p>'
    assert el("line", x1=0, hidden=None, open=True, off=False) == '<line x1="0" open></line>'
    assert text([1, None, Html("<br>"), ["<"]]) == "1<br>&lt;"


def test_every_status_has_a_look_and_a_mark_of_its_own_in_the_strip() -> None:
    statuses: list[Any] = ["Ok", "Warning", "Alert", "NoData", "TooFew", "Late"]
    assert all(status in LOOKS for status in statuses)
    scores = {"NoData": None, "Late": None}
    drawn = {status: strip([Mark(0, 1, status, scores.get(status, 0.5), 2.0)]) for status in statuses}
    assert "<circle" in drawn["NoData"]
    assert "<path" in drawn["Alert"]
    assert "<path" not in drawn["Ok"]
    assert "gap wait" in drawn["Late"]


@pytest.mark.parametrize("promised", [False, True])
def test_bars_stay_inside_the_strip_and_reach_the_line_with_an_alarm(promised: bool) -> None:
    marks = [Mark(i, i + 1, "Warning", 0.1, level) for i, level in enumerate((0.0, 0.5, 1.0, 1e9))]
    drawn = strip(marks, promised=promised)
    heights = [float(one) for one in re.findall(r'width="4" height="([\d.]+)"', drawn)]
    assert heights == sorted(heights)
    assert heights[2] == 12.0
    assert 12 < heights[3] <= 30
    # A tenth of an alarm is a warning under a promise, and must be seen.
    assert float(
        re.findall(r'width="4" height="([\d.]+)"', strip([Mark(0, 1, "Warning", 0.1, 0.1)], promised=promised))[0]
    ) == (9.0 if promised else 2.5)


def test_a_strip_says_in_words_what_it_shows() -> None:
    marks = [Mark(0, 1, "Ok", 0.1, 0.4), Mark(1, 2, "Alert", 1e9, 4.0), Mark(2, 3, "NoData", None)]
    assert strip_text(marks) == "the last 3 windows: 1 Alert, 1 Ok, 1 No data; highest score 1e+09"
