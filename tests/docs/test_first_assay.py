"""docs/first-assay.md, run as written: its Python in order, its console in real processes, its waits on fast time."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from driftline.demo.scene import Shelf

PAGE = (Path(__file__).parents[2] / "docs" / "first-assay.md").read_text(encoding="utf-8")
FACTOR = 15
MINUTES = {"Three": 3, "Six": 6}


def section(title: str) -> str:
    """One second-level section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def steps(text: str) -> Iterator[tuple[str, str, float]]:
    """Each block in order: its language, its text, and the minutes that the page waits before it."""
    before = 0
    for block in re.finditer(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        waits = re.findall(r"\b(\w+) minutes later", text[before : block.start()])
        yield block[1], block[2], sum(MINUTES[word] for word in waits)
        before = block.end()


class Reader:
    """Somebody who follows the page in a folder of their own."""

    def __init__(self, folder: Path, url: str, clock: str) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {}
        self._environment = os.environ | {"DRIFTLINE_URL": url, "DRIFTLINE_CLOCK": clock, "HOME": str(folder)}
        self._running: list[subprocess.Popen[bytes]] = []

    def follow(self, text: str) -> None:
        for language, block, minutes in steps(text):
            time.sleep(minutes * 60 / FACTOR)
            if language == "python":
                exec(compile(block, "first-assay.md", "exec"), self.names)  # noqa: S102  our own page
                continue
            for line in block.splitlines():
                self._type(line.removeprefix("$ "))

    def _type(self, line: str) -> None:
        words = [self.names["edge"].token if word == "TOKEN" else word for word in line.split()]
        assert words[0] == "driftline"
        command = [sys.executable, "-m", "driftline.cli", *words[1:]]
        if words[1:3] == ["edge", "run"]:
            # The page's port may be taken on a machine that runs tests in parallel.
            command += ["--serve", "127.0.0.1:0"]
            self._running.append(subprocess.Popen(command, cwd=self.folder, env=self._environment))
        else:
            subprocess.run(command, cwd=self.folder, env=self._environment, check=True, timeout=60)

    def close(self) -> None:
        for process in self._running:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture
def reader(tmp_path: Path, driftline_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    start = datetime.now(UTC) - timedelta(days=1)
    clock = f"{start.isoformat()} x{FACTOR} @{time.time():.6f}"
    up = driftline_up(DRIFTLINE_CLOCK=clock)
    monkeypatch.setenv("DRIFTLINE_URL", up.url)
    monkeypatch.chdir(tmp_path)
    one = Reader(tmp_path, up.url, clock)
    yield one
    one.close()


def test_the_page_starts_with_a_hub():
    assert [block for _, block, _ in steps(section("A hub"))] == ["$ driftline up\n"]


@pytest.mark.slow
def test_a_camera_in_five_minutes(reader: Reader, capsys: pytest.CaptureFixture[str]):
    detector = files("driftline.demo").joinpath("detector.onnx").read_bytes()
    (reader.folder / "detector.onnx").write_bytes(detector)
    # Half a minute of a shelf, over and over: a window holds whole passes.
    film = cv2.VideoWriter(str(reader.folder / "camera.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (640, 360))
    shelf = Shelf(5, width=640, height=360, frames=60)
    for index in range(60):
        film.write(shelf.frame(index))
    film.release()

    reader.follow(section("A camera"))

    assert "driftline edge join dl1." in capsys.readouterr().out
    run = reader.names["run"]
    statuses = [one.status for one in run]
    assert statuses.count("Ok") >= 1
    # What the device has not told of yet is Late, and only at the end.
    assert statuses == ["Ok"] * statuses.count("Ok") + ["Late"] * statuses.count("Late")
    assert {one.device for one in run} == {"camera-1"}
    assert (reader.folder / "sharpness.svg").read_text().startswith("<svg")
    client = reader.names["client"]
    assert [str(one.id) for one in client.list_assays()] == [reader.names["assay_id"]]


@pytest.mark.slow
def test_a_csv_in_five_minutes(reader: Reader, capsys: pytest.CaptureFixture[str]):
    _save_price_model(reader.folder / "price.onnx")
    rng = np.random.default_rng(1)
    rows = rng.normal(10, 1, (200, 4))
    pd.DataFrame(rows + 0.7, columns=["a", "b", "c", "d"]).to_csv(reader.folder / "today.csv", index=False)
    for name, price in (("baseline.csv", 10), ("new-prices.csv", 10.7)):
        (reader.folder / name).write_text("price\n" + "\n".join(map(str, rng.normal(price, 0.5, 5000))))

    reader.follow(section("A CSV"))

    run = reader.names["run"]
    assert run[0].count == 200
    # Everything costs 0.7 more than in the good week.
    assert run[0].status == "Alert"
    assert reader.names["answers"]["out.price"].mean() == pytest.approx(10.7, abs=0.1)
    assert "right_outlier" in capsys.readouterr().out

    reader.follow(section("A promise"))

    run = reader.names["run"]
    assert run[0].status == "Alert"
    assert run[0].evidence > run[0].alarm_at
    assert run[0].effect.mean_shift == pytest.approx(1.4, abs=0.2), "0.7 more, in standard deviations of 0.5"
    told = capsys.readouterr().out
    assert "out.price: 25 windows of about 200 values" in told
    assert "finds a shift of" in told
    assert told.splitlines()[-1] == "[1, 2]"
    for name in ("preview.svg", "promise.svg"):
        assert (reader.folder / name).read_text().startswith("<svg")


def _save_price_model(path: Path) -> None:
    """The mean of four numbers, as a model made elsewhere would have it: a batch in front."""
    weights = numpy_helper.from_array(np.full((4, 1), 0.25, np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["tensor", "weights"], ["price"])],
        "price",
        [helper.make_tensor_value_info("tensor", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["batch", 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
