"""`/metrics`: what Prometheus reads, checked with Prometheus' own parser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from driftline.clock import NS_PER_S
from driftline.hub import causes, scrape
from driftline.hub.store.incidents import Part
from driftline.wire import api
from tests.hub.shop import Shop, ns

STORES = ("sqlite", "postgres")


@pytest.fixture
def http(hub: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=hub.url, trust_env=False) as client:
        yield client


def read(text: str) -> dict[str, float]:
    """Return every sample by its name and labels, as Prometheus' own parser reads them."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}"] = one.value
    return found


def scraped(http: httpx2.Client) -> dict[str, float]:
    reply = http.get("/metrics")
    assert (reply.status_code, reply.headers["content-type"]) == (200, scrape.TEXT)
    return read(reply.text)


def test_requests_are_counted_by_the_route_that_was_declared(http: httpx2.Client) -> None:
    for name in ("a", "b", "c"):
        http.get(f"/api/v1/devices/{name}")
    http.get("/nowhere/at/all")
    http.request("SUBSCRIBE", "/api/v1/devices")
    http.get("/api/v1/version", headers={"Host": "evil.example"})
    found = scraped(http)
    assert found["driftline_http_requests_total{method=GET,route=/api/v1/devices/{name},status=404}"] == 3
    assert found["driftline_http_requests_total{method=GET,route=/{path:path},status=404}"] == 1
    assert found["driftline_http_requests_total{method=other,route=none,status=405}"] == 1
    assert found["driftline_http_requests_total{method=GET,route=none,status=403}"] == 1
    assert found["driftline_http_request_seconds_count{route=/api/v1/devices/{name}}"] == 3


def test_what_devices_send_is_counted_and_no_device_has_a_line(ask: Any, http: httpx2.Client) -> None:
    till = ask.observed_pipeline()
    camera = ask.joined("camera-of-the-owner", till)
    version, start_s = till["versions"][0]["id"], ask.hub.now_ns() // NS_PER_S // 60 * 60 - 600
    twice = camera.counted(version, start_s, {"out.a": [1.0], "out.b": [2.0]})
    camera.send(twice, camera.rows(version, start_s, {"out.a": [1.0]}))
    camera.send(twice, camera.counted("another pipeline's version", start_s, {"out.a": [1.0]}))
    text = http.get("/metrics").text
    found = read(text)
    assert found["driftline_batches_total{}"] == 2
    assert found["driftline_records_total{kind=window}"] == 1
    assert found["driftline_records_total{kind=rows}"] == 1
    assert found["driftline_summaries_total{}"] == 2
    assert found["driftline_records_again_total{}"] == 1
    assert found["driftline_records_refused_total{}"] == 1
    assert found["driftline_commit_batches_count{}"] == found["driftline_commit_batches_sum{}"] == 2
    assert found["driftline_devices{}"] == 1
    assert found["driftline_devices_in_state{state=healthy}"] == 1
    assert "camera-of-the-owner" not in text
    assert camera.id not in text


def test_the_process_and_its_disk_have_figures(http: httpx2.Client, hub: Any) -> None:
    hub.threads["scorer"] = lambda: False
    found = scraped(http)
    assert found["driftline_thread_running{thread=scorer}"] == 0
    assert found["process_resident_memory_bytes{}"] > 1_000_000
    assert found["driftline_database_bytes{}"] > 100_000
    assert found["driftline_disk_free_bytes{}"] > 0
    assert found["driftline_notifications{state=dead}"] == 0


@pytest.fixture
def shop(tmp_path: Path, database_url: str | None) -> Iterator[Any]:
    """A camera with an assay, half an hour behind it."""
    made = Shop.watched(tmp_path, database_url)
    yield made
    made.closed()


def looked(shop: Any) -> dict[str, float]:
    scrape.look(shop.hub)
    return read(scrape.generate_latest(shop.hub.figures.registry).decode())


def test_the_scorer_is_as_late_as_the_oldest_window_without_an_answer(shop: Any) -> None:
    shop.days(range(30, 33), ("camera-1",))
    shop.at(33)
    shop.look()
    assert looked(shop)["driftline_scorer_lag_seconds{}"] == 0
    assert looked(shop)["driftline_analyses_total{}"] == 1
    shop.days(range(33, 42), ("camera-1",))
    shop.at(43)
    # The window from minute 33 to 36 is the oldest.
    assert looked(shop)["driftline_scorer_lag_seconds{}"] == 7 * 60
    shop.look()
    assert looked(shop)["driftline_analyses_total{}"] == 4
    assert looked(shop)["driftline_assays{state=active}"] == 1


def test_open_incidents_are_counted_once_a_cause_and_by_kind(shop: Any) -> None:
    with shop.hub.database.writing() as connection:
        for kind, name in (("silent", "camera-1"), ("backlog", "camera-1")):
            causes.gather(connection, Part(f"{kind} {name}", kind, name, ns(1), text="…"), ns(1))
    found = looked(shop)
    assert found["driftline_incidents_open{kind=silent}"] == 1
    assert found["driftline_incidents_open{kind=backlog}"] == 1
    assert found["driftline_incidents_open{kind=drift}"] == 0


def test_every_state_and_kind_there_is_has_a_line(shop: Any) -> None:
    found = looked(shop)
    declared = api.Device.__doc__ or ""
    assert all(state in declared for state in scrape.STATES)
    assert f"driftline_devices_in_state{{state={scrape.STATES[-1]}}}" in found
