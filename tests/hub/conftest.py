"""A device in a few lines: signed, real batches, as its agent would send them."""

import hashlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from driftline.clock import NS_PER_S
from driftline.hub import fleet
from driftline.summary.codec import encode
from driftline.summary.grid import UNIVERSAL, Grid
from driftline.summary.summary import Tally
from driftline.wire import device as wire
from tests.hub.shop import Shop


class Api:
    """Asks a hub over HTTP, as any program would."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        # A context that trusts nobody, for HTTP needs none: to read every authority's certificate takes 40 ms.
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.http = httpx2.Client(base_url=hub.url + "/api/v1", trust_env=False, timeout=60, verify=nobody)

    def get(self, path: str, **query: Any) -> Any:
        return self._json(self.http.get(path, params=query))

    def post(self, path: str, document: Any = None) -> Any:
        return self._json(self.http.post(path, json={} if document is None else document))

    def delete(self, path: str) -> Any:
        return self._json(self.http.delete(path))

    def refusal(self, method: str, path: str, document: Any = None) -> tuple[int, str, str]:
        """Ask for something that is refused; return (HTTP status, code, message)."""
        reply = self.http.request(method, path, json=document)
        assert reply.status_code >= 400, reply.text
        error = reply.json()["error"]
        return reply.status_code, error["code"], error["message"]

    def workspace(self, name: str = "shop") -> dict[str, Any]:
        return self.post("/workspaces", {"name": name})

    def observed_pipeline(self, name: str = "till", workspace: str | None = None) -> dict[str, Any]:
        """Make a pipeline whose model runs in its owner's own program: it needs no file."""
        place = workspace or self.workspace(f"workspace of {name}")["id"]
        return self.post(f"/workspaces/{place}/pipelines", {"name": name, "steps": []})

    def joined(self, name: str, *pipelines: Mapping[str, Any]) -> "Device":
        """Publish pipelines to a new device and let it join."""
        token = None
        for pipeline in pipelines:
            publish = self.post(f"/pipelines/{pipeline['id']}/publish")
            edge = self.post(f"/publishes/{publish['id']}/edges", {"name": name})
            token = edge["token"] or token
        assert token is not None
        secret = wire.JoinToken.parse(token).secret
        return Device(self, self.post("/join", {"secret": secret, "software": "test"}))

    @staticmethod
    def _json(reply: httpx2.Response) -> Any:
        assert reply.status_code == 200, reply.text
        return reply.json()


class Device:
    """A device of the hub; it counts what it is told to and sends it."""

    def __init__(self, api: Api, joined: Mapping[str, str]) -> None:
        self.api = api
        self.id, self.name, self.key = joined["device"], joined["name"], bytes.fromhex(joined["key"])
        self.epoch = hashlib.sha256(self.key).hexdigest()[:12]
        self.request = 0
        self.sequence = 0
        self.desired: wire.Desired | None = None

    def record(self, kind: Any, data: bytes) -> wire.Record:
        self.sequence += 1
        return wire.Record(self.sequence, kind, data)

    def counted(
        self,
        pv: str,
        start_s: int,
        fields: Mapping[str, Sequence[float | None]],
        grids: Mapping[str, Grid] | None = None,
    ) -> wire.Record:
        """Make a window record of these values."""
        made: list[wire.FieldSummary] = []
        for key, values in fields.items():
            tally = Tally((grids or {}).get(key, UNIVERSAL))
            for value in values:
                tally.add(value)
            summary = tally.summary()
            made.append(wire.FieldSummary(key, summary.grid_id, encode(summary)))
        inferences = max((len(values) for values in fields.values()), default=0)
        window = wire.WindowRecord(pv, start_s, wire.BASE_WINDOW_S, inferences, tuple(made))
        return self.record("window", wire.encode_window(window))

    def rows(
        self, pv: str, start_s: int, fields: Mapping[str, Sequence[float | None]], *, complete: bool = True
    ) -> wire.Record:
        """Make a rows record of these values, spread over the window."""
        count = max(len(values) for values in fields.values())
        step_ns = wire.BASE_WINDOW_S * NS_PER_S // (count + 1)
        times = [start_s * NS_PER_S + (at + 1) * step_ns for at in range(count)]
        columns: Any = {key: ("d", list(values)) for key, values in fields.items()}
        return self.record(
            "rows", wire.encode_rows(wire.RowsRecord(pv, start_s, wire.BASE_WINDOW_S, complete, times, columns))
        )

    def send(self, *records: wire.Record, **head: Any) -> wire.Reply:
        """Sync, and remember the desired state."""
        reply = self.post(self.batch(records, **head))
        assert reply.status_code == 200, reply.text
        decoded = wire.decode_reply(reply.content)
        self.desired = decoded.desired or self.desired
        return decoded

    def batch(self, records: Sequence[wire.Record], **head: Any) -> bytes:
        return wire.encode_batch(wire.BatchHead(**{"device": self.id, "epoch": self.epoch} | head), records)

    def post(self, body: bytes, *, key: bytes | None = None, request: int | None = None) -> httpx2.Response:
        """Send a signed request with these bytes."""
        self.request = self.request + 1 if request is None else request
        headers = wire.signed_headers(self.id, key or self.key, "POST", wire.SYNC_PATH, self.request, body)
        return self.api.http.post("/sync", content=body, headers=headers)

    def get_bundle(self, digest: str) -> httpx2.Response:
        """Ask for a file."""
        self.request += 1
        path = wire.BUNDLE_PATH + digest
        headers = wire.signed_headers(self.id, self.key, "GET", path, self.request, b"")
        return self.api.http.get(f"/bundles/{digest}", headers=headers)


@pytest.fixture
def ask(hub: Any) -> Iterator[Api]:
    """Asks the hub of the fixture `hub`."""
    api = Api(hub)
    yield api
    api.http.close()


@pytest.fixture
def ask_at() -> Callable[[Any], Api]:
    """Asks a hub of your own."""
    return Api


@pytest.fixture
def local(ask: Api) -> Device:
    """The device `hub` of the fixture `hub`, played by the test."""
    return local_of(ask)


def local_of(api: Api) -> Device:
    from driftline.hub import identity

    with api.hub.database.writing() as connection:
        row = fleet.ensure_device(connection, fleet.LOCAL, api.hub.now_ns())
        key = identity.give_key(connection, row.id, api.hub.now_ns())
    return Device(api, {"device": row.id, "name": row.name, "key": key.hex()})


@pytest.fixture
def shop_on() -> Callable[[Api], dict[str, str]]:
    """A function that sets a shop up on a hub, and returns what is in it by the names that addresses give it."""
    return shop_of


def shop_of(api: Api) -> dict[str, str]:
    workspace = api.workspace("fuzzed")["id"]
    pipeline = api.observed_pipeline("till", workspace)
    till = api.joined("till-1", pipeline)
    publish = api.post(f"/pipelines/{pipeline['id']}/publish")["id"]
    model = api.post(
        f"/workspaces/{workspace}/models",
        {
            "name": "counter", "framework": "onnx", "digest": "a" * 64, "size": 3,
            "input_schema": [{"name": "tensor", "type": "float32", "shape": [4]}],
            "output_schema": [{"name": "sum", "type": "float32", "shape": []}],
        },
    )["id"]  # fmt: skip
    version, now_s = pipeline["versions"][0]["id"], api.hub.now_ns() // NS_PER_S
    values = [float(value % 7) for value in range(40)]
    start_s = now_s // 60 * 60 - 600
    till.send(*(till.counted(version, start_s + 60 * at, {"out.total": values}) for at in range(5)))
    spec = {
        "name": "totals", "pipeline": pipeline["id"], "watched": [{"field": "out.total", "iopath": "output total 0"}],
        "baseline": {"values": {"out.total": values}}, "windows": {"width_s": 60},
    }  # fmt: skip
    assay = api.post(f"/workspaces/{workspace}/assays", spec)["id"]
    return {
        "workspace": workspace, "pipeline": pipeline["id"], "publish": publish, "model": model, "name": till.name,
        "assay": assay,
    }  # fmt: skip


@pytest.fixture
def shop(before: Shop, tmp_path: Path) -> Iterator[Shop]:
    """What happened in a module's shop `before` each test, in a folder of its own."""
    made = before.twin(tmp_path)
    yield made
    made.closed()
