"""An incident's rows as Parquet and CSV, with their labels."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from driftline.clock import NS_PER_S, iso
from driftline.errors import EntityNotFoundError, InvalidInputError
from driftline.hub import export
from driftline.hub.server import application
from driftline.hub.store import incidents as store
from driftline.hub.store.columns import kinds_of, pack
from driftline.sdk.client import Client
from driftline.wire import api
from driftline.wire.device import RowsRecord, encode_rows
from tests.hub.shop import Shop, ns, scene

CAMERAS = ("camera-1", "camera-3")
FACTS = [name for name, _ in export.FACTS]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two cameras that send rows, the third out of focus from minute 36 to 48, sharp again until 60."""
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    for name in CAMERAS:
        made.device(name)
    made.at(30)
    made.days(range(30), CAMERAS, rows=True)
    made.assay = made.save("=SUM(A1)", alarm=api.Fixed(warning=0.2))
    made.days(range(30, 36), CAMERAS, rows=True)
    made.days(range(36, 48), CAMERAS, blurred="camera-3", rows=True)
    made.days(range(48, 60), CAMERAS, rows=True)
    made.at(60)
    made.look()
    with made.hub.database.reading() as connection:
        (made.incident,) = [one for one in store.listed(connection) if one.kind == "drift"]
    yield made
    made.hub.database.close()


@pytest.fixture(scope="module")
def ask(shop: Any) -> TestClient:
    return TestClient(application(shop.hub), base_url="http://127.0.0.1:8710")


def parquet(ask: TestClient, incident: str, **query: Any) -> list[dict[str, Any]]:
    reply = ask.get(f"/api/v1/incidents/{incident}/rows.parquet", params=query)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-disposition"] == f'attachment; filename="incident-{incident}.parquet"'
    return pq.read_table(io.BytesIO(reply.content)).to_pylist()


def minute(row: dict[str, Any]) -> int:
    return int(row["time"].timestamp() - ns(0) / NS_PER_S) // 60


def test_rows_of_an_incident_are_labelled_by_the_window_they_lie_in(shop: Any, ask: TestClient) -> None:
    rows = parquet(ask, shop.incident.id, before_s=360)
    # From six minutes before minute 36 until the third window that was Ok again: 40 rows a minute.
    assert len(rows) == (57 - 30) * 40
    by_label = {label: [row for row in rows if row["label"] == label] for label in {row["label"] for row in rows}}
    assert set(by_label) == {"drifted", "healthy"}
    assert {minute(row) for row in by_label["drifted"]} == set(range(36, 48))
    assert {minute(row) for row in by_label["healthy"]} == {*range(30, 36), *range(48, 57)}
    assert {row["status"] for row in by_label["drifted"]} == {"Alert"}


def test_a_row_says_where_it_comes_from_and_holds_what_was_logged(shop: Any, ask: TestClient) -> None:
    first = parquet(ask, shop.incident.id, before_s=0)[0]
    fields = ["out.avg_confidence", "out.avg_px_intensity", "out.sharpness"]
    assert list(first) == [*FACTS, *fields]
    assert first["time"].isoformat() == iso(ns(36))
    assert (first["window_start"].isoformat(), first["window_end"].isoformat()) == (iso(ns(36)), iso(ns(39)))
    assert first["device"] == "camera-3"
    assert first["incident"] == shop.incident.id
    assert first["assay"] == "=SUM(A1)"
    assert first["pipeline"] == "shelf-watch"
    assert first["version"] == shop.pipeline.versions[0].id
    assert first["out.sharpness"] == pytest.approx(scene(3, 36, blurred=True)["out.sharpness"][0], rel=1e-6)


def test_the_csv_says_the_same_and_no_text_in_it_is_a_formula(shop: Any, ask: TestClient) -> None:
    reply = ask.get(f"/api/v1/incidents/{shop.incident.id}/rows.csv", params={"before_s": 0})
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    same = parquet(ask, shop.incident.id, before_s=0)
    assert [float(row["out.sharpness"]) for row in rows] == [row["out.sharpness"] for row in same]
    assert [row["label"] for row in rows] == [row["label"] for row in same]
    assert rows[0]["time"] == iso(ns(36))
    assert {row["assay"] for row in rows} == {"'=SUM(A1)"}


def test_one_device_can_be_asked_for_and_another_is_refused(shop: Any, ask: TestClient) -> None:
    where = f"/api/v1/incidents/{shop.incident.id}/rows.csv"
    assert ask.get(where, params={"device": "camera-3"}).status_code == 200
    refused = ask.get(where, params={"device": "camera-1"})
    assert refused.status_code == 404
    assert "it is about camera-3" in refused.json()["error"]["message"]


def test_no_more_is_held_at_once_than_a_group_of_rows(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "GROUP_ROWS", 100)
    found = export.prepared(shop.hub, shop.incident.id, api.IncidentRowsAsked(before_s=0))
    sizes = [table.num_rows for table in export.tables(shop.hub, found)]
    assert sum(sizes) == 21 * 40
    assert max(sizes) == 120
    written = b"".join(export.parquet(found.schema, export.tables(shop.hub, found)))
    assert pq.ParquetFile(io.BytesIO(written)).num_row_groups == 7


def test_where_only_counts_came_it_says_how_rows_come(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    shop.device("camera-3")
    shop.at(30)
    shop.days(range(30), ("camera-3",))
    shop.save(alarm=api.Fixed(warning=0.2))
    shop.at(40)
    shop.days(range(30, 40), ("camera-3",), blurred="camera-3")
    shop.look()
    with shop.hub.database.reading() as connection:
        (incident,) = store.listed(connection)
    ask = TestClient(application(shop.hub), base_url="http://127.0.0.1:8710")
    refused = ask.get(f"/api/v1/incidents/{incident.id}/rows.parquet")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert "client.set_link('camera-3', rows_kb_a_day=…)" in refused.json()["error"]["message"]
    page = ask.get(f"/incidents/{incident.id}").text
    assert "rows.parquet" not in page
    assert "sent counts and no rows" in page
    shop.hub.database.close()


def test_the_page_of_an_incident_offers_both_forms(shop: Any, ask: TestClient) -> None:
    page = ask.get(f"/incidents/{shop.incident.id}").text
    for form in ("parquet", "csv"):
        assert f'formaction="/api/v1/incidents/{shop.incident.id}/rows.{form}"' in page


def test_the_sdk_saves_them_by_the_ending_of_the_name(shop: Any, serve_hub: Callable[..., Any], tmp_path: Path) -> None:
    twin = shop.twin(tmp_path / "twin", lambda home, clock: serve_hub(clock, home))
    client = Client(twin.hub.url)
    incident = client.get_incident(shop.incident.id)
    assert pq.read_table(incident.export(tmp_path / "rows.parquet", before=timedelta(minutes=6))).num_rows == 27 * 40
    saved = incident.export(tmp_path / "rows.csv", device="camera-3", before=0)
    assert len(saved.read_text().splitlines()) == 1 + 21 * 40
    with pytest.raises(InvalidInputError, match=r"rows\.parquet or rows\.csv"):
        incident.export(tmp_path / "rows.xlsx")
    with pytest.raises(EntityNotFoundError, match="camera-3"):
        incident.export(tmp_path / "none.csv", device="camera-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.parquet", "twin"]


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_head_of_a_record_is_read_for_its_columns() -> None:
    columns: Any = {f"out.{'x' * 200}{at}": ("d", [1.0]) for at in range(300)} | {"out.label": ("s", ["tea"])}
    packed = pack(encode_rows(RowsRecord("v", 0, 60, True, [5], columns)))
    assert kinds_of(packed) == {key: kind for key, (kind, _) in columns.items()}
    assert kinds_of(packed[: len(packed) - 8]) == kinds_of(packed)


def test_lists_keep_their_type_and_what_does_not_fit_it_is_missing() -> None:
    floats = pa.list_(pa.float32())
    assert export._column([[1.0, 2.0], None, "tea"], floats).to_pylist() == [[1.0, 2.0], None, None]
    assert export._column([[1], "=1+1", None], pa.string()).to_pylist() == ["[1]", "=1+1", None]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_what_a_spreadsheet_would_compute_is_shown_instead(text: str) -> None:
    schema = pa.schema([("out.label", pa.string())])
    written = b"".join(export.comma_separated(schema, [pa.table([[text]], schema=schema)])).decode()
    assert list(csv.reader(io.StringIO(written, newline="")))[1] == [f"'{text}"]
