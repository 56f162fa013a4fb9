"""The dashboard in a real Chromium, over a hub that answers on a socket."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driftline.hub.scorer import Round
from driftline.hub.store import incidents as store
from tests.hub.shop import Shop

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub with two cameras, the second of which is out of focus since 09:36."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in ("camera-1", "camera-2"):
        made.device(name, pipelines={made.pipeline.versions[0].id: "running"})
    made.at(30)
    made.days(range(30), ("camera-1", "camera-2"))
    made.assay = made.save()
    made.at(48)
    made.days(range(30, 36), ("camera-1", "camera-2"))
    made.days(range(36, 48), ("camera-1", "camera-2"), blurred="camera-2")
    Round(made.hub).run()
    return made.closed()


@pytest.fixture
def shop(before: Any, serve_hub: Callable[..., Any], tmp_path: Path) -> Any:
    return before.twin(tmp_path / "hub", lambda home, clock: serve_hub(clock, home))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, shop: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens a page; whatever the browser complains of fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(address: str, **context: Any) -> Any:
        contexts.append(chromium.new_context(**context))
        page = contexts[-1].new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(shop.hub.url + address)
        return page

    yield opened
    for one in contexts:
        one.close()
    assert complaints == []


def test_an_owner_finds_the_drifted_camera_from_the_first_page(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page("/")
    assert page.inner_text("h1") == "camera-2 needs a look"
    page.click("text=assay sharpness")
    assert page.url.endswith(f"/assays/{shop.assay.id}")
    assert page.locator("svg.dl-chart:visible").count() == 3
    box = page.locator("svg.dl-chart").first.bounding_box()
    assert box["width"] > 600
    assert box["height"] > 200
    title = page.locator(".dl-title").first
    assert title.text_content() == "out.sharpness: camera-2 over 0.25 since 09:36 UTC"
    # The style sheet of charts has arrived, though the page allows no style inside it.
    assert title.evaluate("one => getComputedStyle(one).fontWeight") == "600"


def test_an_incident_is_resolved_in_the_page(open_page: Callable[..., Any]) -> None:
    page = open_page("/incidents")
    assert page.inner_text("h1") == "1 open incident"
    page.click("button:has-text('Resolve')")
    page.wait_for_url("**/incidents")
    assert page.inner_text("h1") == "No open incident"


def test_an_incident_is_acknowledged_in_its_page_and_what_is_typed_is_not_lost(
    open_page: Callable[..., Any], shop: Any
):
    page = open_page(f"/incidents/{incident_of(shop)}")
    page.clock.install()
    page.reload()
    form = page.locator("form[action$='/acknowledge']")
    form.locator("[name=by]").fill("Ada")
    form.locator("[name=note]").fill("on my way")
    page.locator("h1").click()
    # The page looks for news every five seconds; it must not replace a form that somebody fills in.
    page.clock.fast_forward(6_000)
    assert form.locator("[name=note]").input_value() == "on my way"
    assert page.evaluate("document.documentElement.dataset.refreshed") is None
    form.locator("button").click()
    page.wait_for_selector("h1 .chip:has-text('acknowledged')")
    assert "on my way" in page.inner_text("main")
    page.clock.fast_forward(6_000)
    page.wait_for_selector("html[data-refreshed]", state="attached")


def incident_of(shop: Any) -> str:
    with shop.hub.database.reading() as connection:
        return store.listed(connection)[0].id


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(open_page: Callable[..., Any], shop: Any, scheme: str) -> None:
    for address in (
        "/",
        "/devices",
        "/devices/camera-2",
        f"/assays/{shop.assay.id}",
        f"/assays/{shop.assay.id}/preview",
        "/incidents",
        f"/incidents/{incident_of(shop)}",
        "/notifications",
        "/pipelines",
    ):
        page = open_page(address, viewport={"width": 360, "height": 740}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, address


def test_on_a_phone_the_scores_can_be_read_without_scrolling(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page(f"/assays/{shop.assay.id}", viewport={"width": 390, "height": 740})
    chart = page.locator(".chart:visible").first
    assert chart.evaluate("one => one.scrollWidth <= one.clientWidth")
    # Letters are hardly smaller than they were drawn: 12 px.
    text = chart.locator("text.dl-soft").first
    assert text.evaluate("one => one.getScreenCTM().a * parseFloat(getComputedStyle(one).fontSize)") > 10.5
    assert "camera-2 over 0.25 since 09:36 UTC" in " ".join(chart.locator(".dl-title").all_text_contents())


def test_on_a_phone_no_chart_scrolls_or_is_cut(open_page: Callable[..., Any], shop: Any) -> None:
    for address in (f"/assays/{shop.assay.id}", f"/assays/{shop.assay.id}/preview"):
        page = open_page(address, viewport={"width": 390, "height": 740})
        assert page.locator("svg.dl-chart:visible").count() == (3 if address.endswith(shop.assay.id) else 1)
        # What is wider than its box, and what is written beyond a chart's right edge.
        assert (
            page.evaluate("""() => [...document.querySelectorAll('.chart')].filter(
            (box) => box.scrollWidth > box.clientWidth).length""")
            == 0
        )
        assert (
            page.evaluate("""() => [...document.querySelectorAll('.for-phone svg.dl-chart')].flatMap(
            (svg) => [...svg.querySelectorAll('text')].filter(
                (text) => text.getBBox().x < 2
                    || text.getBBox().x + text.getBBox().width > svg.viewBox.baseVal.width - 2
            ).map((text) => text.textContent))""")
            == []
        )


def test_what_an_assay_would_find_is_a_link_away(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page(f"/assays/{shop.assay.id}")
    page.click("text=what it would find")
    page.wait_for_url("**/preview")
    title = page.locator(".dl-title:visible").first
    assert "Within 20 windows a shift of" in title.text_content()
    assert page.locator("svg.dl-chart:visible").count() == 1
    page.click(f"h1 >> text={shop.assay.spec.name}")
    page.wait_for_url(f"**/assays/{shop.assay.id}")


def test_a_new_baseline_is_taken_after_a_page_said_what_it_will_do(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page(f"/assays/{shop.assay.id}")
    assert not page.is_visible("button:has-text('Yes, compare with this')")
    page.click("summary:has-text('Take as new baseline')")
    assert "The baseline so far stays in the assay's history." in page.inner_text(".confirm")
    page.click("button:has-text('Yes, compare with this')")
    page.wait_for_selector("text=Baselines it has had")
    assert page.locator(".incident").count() == 0


def test_an_assay_is_switched_off_and_on_in_its_page(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page(f"/assays/{shop.assay.id}")
    page.click("button:has-text('Switch off')")
    page.wait_for_selector("button:has-text('Switch on')")
    assert page.locator(".incident").count() == 0
    page.click("button:has-text('Switch on')")
    page.wait_for_selector("button:has-text('Switch off')")


def test_dark_and_light_follow_the_readers_wish(open_page: Callable[..., Any]) -> None:
    backs = [
        open_page("/", color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert backs[0] != backs[1]


def test_pages_say_the_same_without_scripts(open_page: Callable[..., Any]) -> None:
    with_scripts = open_page("/").inner_text("main")
    assert open_page("/", java_script_enabled=False).inner_text("main") == with_scripts


def test_a_page_left_open_keeps_itself_current(open_page: Callable[..., Any], shop: Any) -> None:
    page = open_page("/")
    page.evaluate("window.stayed = true")
    shop.at(51)
    shop.days(range(48, 51), ("camera-1", "camera-2"))
    shop.says("camera-2", sources={"front": "camera lost"})
    Round(shop.hub).run()
    page.wait_for_selector("text=no picture from its camera", timeout=20_000)
    assert page.evaluate("window.stayed") is True
