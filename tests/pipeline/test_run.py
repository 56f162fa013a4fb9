"""Pipelines run end to end: real graphs, real processes, observers, and the values that are recorded and logged."""

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from driftline.errors import InvalidInputError, PermanentError
from driftline.pipeline.definition import make_definition
from driftline.pipeline.observers.image import image_fields
from driftline.pipeline.run import Pipeline

FLOAT = TensorProto.FLOAT
FRAME = {"name": "image", "type": "uint8", "shape": [None, None, 3]}
FOUND = [
    {"name": "boxes", "type": "float32", "shape": [None, 4]},
    {"name": "classes", "type": "int64", "shape": [None]},
    {"name": "confidences", "type": "float32", "shape": [None]},
]


def field(name: str, kind: str = "float32", *shape: int | None) -> dict[str, Any]:
    return {"name": name, "type": kind, "shape": list(shape)}


def step(model: str, inputs: list[Any], outputs: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "name": model,
        "framework": "onnx",
        "digest": "",
        "input_schema": inputs,
        "output_schema": outputs,
    } | more


@pytest.fixture
def doubling(tmp_path: Path, doubler: bytes) -> Iterator[Pipeline]:
    (tmp_path / "m.onnx").write_bytes(doubler)
    digest = hashlib.sha256(doubler).hexdigest()
    one = step("m", [field("tensor", "float32", 3)], [field("doubled", "float32", 3)], digest=digest)
    with Pipeline(make_definition("p", [one]), {"m": tmp_path / "m.onnx"}) as pipeline:
        yield pipeline


def test_an_inference_goes_in_as_anything_and_comes_out_as_arrays(doubling: Pipeline):
    given = {"tensor": [1, 2.5, 0.1], "passed over": "x"}
    outputs = doubling.infer(given)
    assert outputs["doubled"].dtype == np.float32
    assert outputs["doubled"].tolist() == [2.0, 5.0, float(np.float32(0.2))]
    assert doubling.values(given, outputs) == {
        "out.doubled.0": 2.0,
        "out.doubled.1": 5.0,
        "out.doubled.2": float(np.float32(0.2)),
        "in.tensor.0": 1.0,
        "in.tensor.1": 2.5,
        "in.tensor.2": float(np.float32(0.1)),
    }
    log = doubling.log_values(given, outputs)
    assert log["in.tensor"] == ("s", [1.0, 2.5, float(np.float32(0.1))])
    assert list(log) == ["in.tensor", "out.doubled"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"needs the input 'tensor'; it takes tensor float32\[3\], it was given nothing"),
        ({"tensr": 1}, "it was given tensr"),
        ({"tensor": [1, 2]}, r"tensor float32\[3\] was given with shape \[2\]"),
        ({"tensor": "abc"}, "is a number"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(doubling: Pipeline, given: Any, message: str):
    with pytest.raises(InvalidInputError, match=message):
        doubling.infer(given)


def test_missing_values_are_recorded_as_missing(doubling: Pipeline):
    given = {"tensor": [None, 1.0, float("inf")]}
    values = doubling.values(given, doubling.infer(given))
    assert values["in.tensor.0"] is None
    assert values["out.doubled.0"] is None
    assert values["out.doubled.2"] == float("inf")
    assert doubling.log_values(given, {})["in.tensor"] == ("s", [None, 1.0, None])


def test_many_threads_may_ask_at_once(doubling: Pipeline):
    answers: dict[int, set[float]] = {}

    def ask(number: int) -> None:
        made = [doubling.infer({"tensor": [number] * 3})["doubled"] for _ in range(50)]
        answers[number] = set(np.concatenate(made).tolist())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: {2.0 * number} for number in range(4)}


def test_a_closed_pipeline_stays_closed(doubling: Pipeline):
    doubling.start()
    doubling.close()
    with pytest.raises(PermanentError, match="closed"):
        doubling.infer({"tensor": [1, 2, 3]})


def test_a_file_that_is_missing_or_changed_is_not_run(tmp_path: Path, doubler: bytes):
    one = step("m", [field("tensor", "float32", 3)], [field("doubled", "float32", 3)], digest="0" * 64)
    definition = make_definition("p", [one])
    with pytest.raises(InvalidInputError, match="'m' is not on this device"):
        Pipeline(definition, {}).start()
    (tmp_path / "m.onnx").write_bytes(doubler)
    with pytest.raises(InvalidInputError, match="not what was published"):
        Pipeline(definition, {"m": tmp_path / "m.onnx"}).start()


def test_a_definition_of_another_version_is_refused():
    with pytest.raises(InvalidInputError, match="of version 2; this program runs version 1"):
        Pipeline(make_definition("p", []) | {"version": 2}, {})


def test_an_element_that_an_assay_names_is_recorded_from_then_on(tmp_path: Path, onnx_model: Callable[..., bytes]):
    model = onnx_model([helper.make_node("Identity", ["x"], ["y"])], [("x", FLOAT, [20])], [("y", FLOAT, [20])])
    (tmp_path / "m").write_bytes(model)
    definition = make_definition("p", [step("m", [field("x", "float32", 20)], [field("y", "float32", 20)])])
    given = {"x": np.arange(20, dtype=np.float32)}
    with Pipeline(definition, {"m": tmp_path / "m"}, extra_fields=["in.x.19"]) as pipeline:
        outputs = pipeline.infer(given)
        assert pipeline.values(given, outputs) == {"in.x.19": 19.0}
        pipeline.record_also(["out.y.3"])
        assert pipeline.values(given, outputs) == {"out.y.3": 3.0}
        with pytest.raises(InvalidInputError, match="has no element 20"):
            pipeline.record_also(["out.y.20"])


def test_a_pipeline_without_a_model_looks_at_frames_and_records_what_it_is_told():
    frame = np.full((8, 8, 3), 51, np.uint8)
    with Pipeline(make_definition("p", []), {}) as pipeline:
        outputs = pipeline.frame(frame)
        assert {name: float(value) for name, value in outputs.items()} == image_fields(frame)
        assert pipeline.values({}, outputs | {"score": 0.5, "label": "cup"})["out.score"] == 0.5
        assert pipeline.log_values({"age": 3}, {"label": "cup"}) == {"out.label": ("s", "cup"), "in.age": ("d", 3.0)}
        with pytest.raises(InvalidInputError, match=r"driftline\.observe"):
            pipeline.infer({})


def test_a_pipeline_that_takes_no_frame_says_what_it_takes(doubling: Pipeline):
    with pytest.raises(InvalidInputError, match=r"takes no camera: .* it has tensor float32\[3\]"):
        doubling.frame(np.zeros((4, 4, 3), np.uint8))


# ── custom models and chains ─────────────────────────────────────────────────────────────────────────────────────

STORY = """
import numpy as np

class Model:
    '''As the reference story has it: a detector wrapped, its own numbers beside what it finds, as lists of one.'''

    def load(self, folder):
        self.confidences = np.load(folder / "weights.npy")

    def predict(self, inputs):
        frame = inputs["image"]
        return {
            "boxes": np.zeros((2, 4), np.float32),
            "classes": [0, 1],
            "confidences": self.confidences,
            "avg_confidence": [self.confidences.mean()],
            "avg_px_intensity": np.array([frame.mean() / 255]),
        }
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    folder = tmp_path / "story"
    folder.mkdir()
    (folder / "model.py").write_text(STORY)
    np.save(folder / "weights.npy", np.array([0.5, 0.75], np.float32))
    archive = tmp_path / "story.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("model.py", "weights.npy"):
            opened.write(folder / name, name)
    return archive


def test_a_custom_model_around_a_detector_gives_its_own_numbers_and_is_observed_for_the_rest(
    story: Path, tmp_path: Path
):
    own = [field("avg_confidence", "float32", None), field("avg_px_intensity", "float32", None)]
    one = step("story", [FRAME], [*FOUND, *own], framework="custom")
    frame = np.full((6, 6, 3), 51, np.uint8)
    workdir = tmp_path / "work"
    with Pipeline(make_definition("p", [one]), {"story": story}, workdir=workdir) as pipeline:
        outputs = pipeline.frame(frame)
        values = pipeline.values({"image": frame}, outputs)
        assert values == {
            "out.contrast": 0.0,
            "out.sharpness": 0.0,
            "out.clipped": 0.0,
            "out.detections": 2.0,
            "out.empty": 0.0,
            "out.avg_confidence.0": 0.625,
            "out.avg_px_intensity.0": float(np.float32(0.2)),
        }
        log = pipeline.log_values({"image": frame}, outputs)
        assert log["out.avg_confidence"] == ("s", [0.625])
        assert "in.image" not in log
        assert list(workdir.iterdir()) != []
    assert list(workdir.iterdir()) == []


def test_a_changed_zip_is_not_unpacked(story: Path, tmp_path: Path):
    one = step("story", [FRAME], FOUND, framework="custom", digest="0" * 64)
    with pytest.raises(InvalidInputError, match="not what was published"):
        Pipeline(make_definition("p", [one]), {"story": story}, workdir=tmp_path / "work").start()


def test_steps_chain_and_only_what_nobody_consumed_comes_out(
    tmp_path: Path, doubler: bytes, onnx_model: Callable[..., bytes]
):
    (tmp_path / "m.onnx").write_bytes(doubler)
    echo = onnx_model([helper.make_node("Neg", ["offset"], ["less"])], [("offset", FLOAT, [1])], [("less", FLOAT, [1])])
    (tmp_path / "echo.onnx").write_bytes(echo)
    folder = tmp_path / "sum"
    folder.mkdir()
    (folder / "model.py").write_text(
        "class Model:\n"
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n"
        "        return {'total': inputs['doubled'].sum() + inputs['offset']}\n"
    )
    steps = [
        step("echo", [field("offset")], [field("less")]),
        step("double", [field("tensor", "float32", 3)], [field("doubled", "float32", 3)]),
        step("sum", [field("doubled", "float64", 3), field("offset")], [field("total", "float64")], framework="custom"),
    ]
    files = {"echo": tmp_path / "echo.onnx", "double": tmp_path / "m.onnx", "sum": folder}
    with Pipeline(make_definition("p", steps), files, sidecar_limits={"sum": {"cpus": 1.0}}) as pipeline:
        outputs = pipeline.infer({"tensor": [1, 2, 3], "offset": 0.5})
    assert {name: value.item() for name, value in outputs.items()} == {"less": -0.5, "total": 12.5}


def test_a_sidecar_gets_the_memory_it_was_given_and_no_more(tmp_path: Path):
    folder = tmp_path / "greedy"
    folder.mkdir()
    (folder / "model.py").write_text(
        "import numpy as np\n"
        "class Model:\n"
        "    def load(self, folder): np.ones(100_000_000)\n"
        "    def predict(self, inputs): return {'y': 1}\n"
    )
    definition = make_definition("p", [step("greedy", [field("x")], [field("y")], framework="custom")])
    limits = {"greedy": {"memory_bytes": 512.0 * 1024**2}}
    with (
        Pipeline(definition, {"greedy": folder}, sidecar_limits=limits) as pipeline,
        pytest.raises(InvalidInputError, match=r"'greedy' cannot be loaded: .*a limit of 512 MiB"),
    ):
        pipeline.start()


@pytest.mark.samples
def test_the_real_detector_runs_on_real_frames_and_sees_the_blur(samples: Path):
    names = (samples / "models/coco_classes.txt").read_text().splitlines()
    one = step("yolox", [FRAME], FOUND, detector={"class_names": names})
    video = cv2.VideoCapture(str(samples / "video/bottle-detection.mp4"))
    _, frame = video.read()
    with Pipeline(make_definition("p", [one]), {"yolox": samples / "models/yolox_nano_e2e.onnx"}) as pipeline:
        sharp = pipeline.values({"image": frame}, pipeline.frame(frame))
        blurred_frame = cv2.GaussianBlur(frame, (0, 0), 2)
        blurred = pipeline.values({"image": blurred_frame}, pipeline.frame(blurred_frame))
    assert sharp["out.detections"] == blurred["out.detections"] == 3
    assert sharp["out.avg_confidence"] > 0.85
    assert blurred["out.sharpness"] < sharp["out.sharpness"] / 10
    assert blurred["out.avg_px_intensity"] == pytest.approx(sharp["out.avg_px_intensity"], abs=0.002)
