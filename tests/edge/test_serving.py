import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from driftline.edge.serving import Server
from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, TemporaryError
from driftline.pipeline.definition import make_definition
from driftline.wire.arrays import ARRAYS, Array, pack_arrays, unpack_arrays
from driftline.wire.device import DesiredPipeline

NOW_NS = 1_767_261_600_000_000_123


def desired(name: str, version: str) -> DesiredPipeline:
    step = {
        "model": "m",
        "name": name,
        "framework": "custom",
        "digest": "",
        "input_schema": [{"name": "price", "type": "float32", "shape": []}],
        "output_schema": [{"name": "double", "type": "float32", "shape": []}],
    }
    return DesiredPipeline(version, name, make_definition(name, [step]))


class Doubler:
    """Doubles a price, and lists as many boxes as it has whole euros."""

    def __init__(self, wanted: DesiredPipeline) -> None:
        self.wanted = wanted
        self.times_ns: list[int] = []

    def infer(self, inputs: Mapping[str, Any], time_ns: int | None = None) -> tuple[int, dict[str, Array]]:
        if "price" not in inputs:
            raise InvalidInputError("it needs the input 'price'")
        price = float(inputs["price"])
        if price == 13:
            raise ZeroDivisionError("thirteen")
        stamped_ns = NOW_NS if time_ns is None else time_ns
        self.times_ns.append(stamped_ns)
        boxes = np.zeros((max(0, int(price)) if np.isfinite(price) else 0, 4), np.float32)
        return stamped_ns, {"double": np.float32(2 * price) * np.ones((), np.float32), "boxes": boxes}


class Shop:
    def __init__(self) -> None:
        self.members = {"a": Doubler(desired("a", "v1"))}
        self.starting: list[DesiredPipeline] = []

    @property
    def wanted(self) -> list[DesiredPipeline]:
        return [*(one.wanted for one in self.members.values()), *self.starting]

    def running(self, name: str | None = None) -> Doubler:
        if name is None:
            if len(self.members) > 1:
                raise InvalidInputError("several pipelines run here")
            name = next(iter(self.members))
        if any(one.name == name for one in self.starting):
            raise TemporaryError("it is starting")
        if name not in self.members:
            raise EntityNotFoundError(f"no pipeline {name!r}")
        return self.members[name]

    def states(self) -> dict[str, str]:
        return {one.wanted.id: "running" for one in self.members.values()} | {
            one.id: "error: no" for one in self.starting
        }


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def arrays(self) -> dict[str, Array]:
        assert self.headers["Content-Type"] == ARRAYS
        return unpack_arrays(self.body)


class Site:
    def __init__(self) -> None:
        self.shop = Shop()
        self.server = Server("127.0.0.1:0", self.shop)
        self._connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
        self._connection.request(method, path, body, named)
        return Answer(self._connection.getresponse())

    def post_arrays(self, arrays: dict[str, Array], path: str = "/infer", **headers: str) -> Answer:
        return self.ask("POST", path, pack_arrays(arrays), Content_Type=ARRAYS, **headers)

    def close(self) -> None:
        self._connection.close()
        self.server.close()


@pytest.fixture(scope="module")
def one_site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def site(one_site: Site) -> Site:
    one_site.shop.__init__()
    return one_site


def test_records_as_json_come_back_as_records(site: Site):
    answer = site.ask("POST", "/infer", [{"price": 1.5}, {"price": 0}])
    assert answer.status == 200
    assert answer.json == [{"double": 3.0, "boxes": [[0.0, 0.0, 0.0, 0.0]]}, {"double": 0.0, "boxes": []}]
    assert answer.headers["Driftline-Time"] == str(NOW_NS)


def test_wrapped_inputs_come_back_as_wrapped_outputs(site: Site):
    assert site.ask("POST", "/infer", {"inputs": {"price": 0}}).json == {"outputs": {"double": 0.0, "boxes": []}}
    assert [one["double"] for one in site.ask("POST", "/infer", {"inputs": [{"price": 1}]}).json["outputs"]] == [2.0]


def test_arrays_come_back_as_arrays_with_a_row_for_each_inference(site: Site):
    answer = site.post_arrays({"price": np.array([1, 2, 0.5], np.float32)})
    assert answer.arrays["double"].tolist() == [2, 4, 1]
    assert [boxes.shape for boxes in answer.arrays["boxes"]] == [(1, 4), (2, 4), (0, 4)]


def test_what_json_cannot_say_is_null(site: Site):
    assert site.ask("POST", "/infer", b'[{"price": NaN}, {"price": Infinity}]').json[0]["double"] is None


def test_inferences_are_counted_at_the_times_the_caller_gives(site: Site):
    member = site.shop.members["a"]
    prices = {"price": np.zeros(2, np.float32)}
    assert site.post_arrays(prices, Driftline_Time="77").headers["Driftline-Time"] == "77"
    site.post_arrays(prices, Driftline_Times="5, 6")
    assert member.times_ns == [77, 77, 5, 6]


def test_a_thousand_times_fit_into_their_header(site: Site):
    times = ",".join(str(NOW_NS + index) for index in range(10_000))
    assert site.post_arrays({"price": np.zeros(10_000, np.float32)}, Driftline_Times=times).status == 200
    assert site.shop.members["a"].times_ns[-1] == NOW_NS + 9_999


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Driftline_Times": "1,2,3"}, "3 times for 2 inferences"),
        ({"Driftline_Time": "yesterday"}, "whole nanoseconds"),
        ({"Driftline_Time": "-1"}, "since 1970"),
    ],
)
def test_times_that_do_not_fit_are_refused(site: Site, headers: dict[str, str], says: str):
    answer = site.post_arrays({"price": np.zeros(2, np.float32)}, **headers)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]
    assert site.shop.members["a"].times_ns == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "neither"),
        (b"3", "list of records"),
        (b'{"price": 3}', "list of records"),
        (b"[3]", "list of records"),
        (b"[{}]", "needs the input 'price'"),
    ],
)
def test_a_body_that_cannot_be_used_says_what_can(site: Site, body: bytes, says: str):
    answer = site.ask("POST", "/infer", body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid")
    assert says in answer.json["error"]["message"]


def test_arrays_that_are_torn_or_of_different_lengths_are_refused(site: Site):
    assert site.ask("POST", "/infer", b"\x05\x00\x00\x00", Content_Type=ARRAYS).status == 400
    uneven = site.post_arrays({"price": np.zeros(2), "other": np.zeros(3)})
    assert (uneven.status, "same length" in uneven.json["error"]["message"]) == (400, True)


def test_pipelines_are_listed_and_described(site: Site):
    site.shop.starting.append(desired("b", "v2"))
    assert site.ask("GET", "/pipelines").json == {
        "pipelines": [
            {"name": "a", "version": "v1", "state": "running"},
            {"name": "b", "version": "v2", "state": "error: no"},
        ]
    }
    one = site.ask("GET", "/pipelines/a").json
    assert one["inputs"] == [{"name": "price", "type": "float32", "shape": []}]
    assert one["state"] == "running"


def test_a_pipeline_is_chosen_by_path_or_by_query(site: Site):
    site.shop.members["b"] = Doubler(desired("b", "v2"))
    assert site.ask("POST", "/infer", [{"price": 1}]).status == 400
    assert site.ask("POST", "/infer?pipeline=b", [{"price": 1}]).status == 200
    assert site.ask("POST", "/pipelines/b/infer", [{"price": 1}]).status == 200
    assert len(site.shop.members["b"].times_ns) == 2


def test_errors_keep_their_kind_and_their_words(site: Site):
    site.shop.starting.append(desired("b", "v2"))
    found = [
        (answer.status, answer.json["error"]["code"])
        for answer in (
            site.ask("POST", "/pipelines/c/infer", [{"price": 1}]),
            site.ask("POST", "/pipelines/b/infer", [{"price": 1}]),
            site.ask("GET", "/pipelines/c"),
            site.ask("GET", "/elsewhere"),
            site.ask("GET", "/infer"),
            site.ask("POST", "/infer", [{"price": 13}]),
        )
    ]
    assert found == [
        (404, "not_found"),
        (503, "temporary"),
        (404, "not_found"),
        (404, "not_found"),
        (405, "invalid"),
        (500, "error"),
    ]


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("[::1]", 200), ("shop.example", 403), ("", 403)])
def test_a_web_page_cannot_reach_in_by_a_name_of_its_own(site: Site, host: str, status: int):
    answer = site.ask("GET", "/pipelines", Host=host)
    assert answer.status == status
    if status == 403:
        assert answer.json["error"]["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("http://[::1]", 200), ("https://shop.example", 403), ("null", 403)],
)
def test_a_page_of_another_machine_cannot_send_inferences(site: Site, origin: str, status: int):
    assert site.ask("POST", "/infer", b"[]", Origin=origin, Host="localhost").status == status


def test_a_port_in_use_says_so_and_how_to_take_another(site: Site):
    address = urlsplit(site.server.url).netloc
    with pytest.raises(ConflictError, match=r"cannot listen there.*port 0 takes a free one"):
        Server(address, site.shop)


@pytest.mark.parametrize(
    "address", ["8080", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "no.such.host.invalid:0"]
)
def test_an_address_that_is_none_is_refused(address: str):
    with pytest.raises(InvalidInputError, match="--serve"):
        Server(address, Shop())


def test_a_closed_server_gives_its_port_back():
    server = Server("127.0.0.1:0", Shop())
    port = urlsplit(server.url).port
    server.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port or 0))
