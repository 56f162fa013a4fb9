"""Uploaded models are loaded and tried in a process that can be stopped; whatever they do, the reason is clear."""

import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from driftline.errors import InvalidInputError, NotYetError
from driftline.pipeline.check import CheckLimits, check_model, made_up_inputs
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.schema import Field

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X, Y = [Field("x", "float32")], [Field("y", "float32")]
TENSOR, DOUBLED = [Field("tensor", "float32", (3,))], [Field("doubled", "float32", (3,))]
FRAME = [Field("image", "uint8", (None, None, 3))]
FOUND = [
    Field("boxes", "float32", (None, 4)),
    Field("classes", "int64", (None,)),
    Field("confidences", "float32", (None,)),
]
# Enough to import and run, and little enough to wait for.
SHORT = CheckLimits(cpu_s=1, wall_s=30)

Build = Callable[..., bytes]
Custom = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        (tmp_path / "model").write_bytes(content)
        return tmp_path / "model"

    return write


def test_a_graph_that_fits_its_schema_passes(file: Any, doubler: bytes):
    check_model("onnx", file(doubler), TENSOR, DOUBLED)


def test_a_schema_that_does_not_match_is_told_what_the_graph_has(file: Any, doubler: bytes):
    with pytest.raises(
        InvalidInputError, match=r"(?s)the schema of the model does not.*has inputs tensor float32\[N,3\]"
    ):
        check_model("onnx", file(doubler), [Field("tensor", "float32", (4,))], DOUBLED)


def test_an_output_that_only_a_run_shows_to_be_wrong_is_found(file: Any, onnx_model: Build):
    # How many entries are not zero, only the values say.
    model = onnx_model([helper.make_node("NonZero", ["x"], ["y"])], [("x", FLOAT, [3])], [("y", INT64, [1, "M"])])
    with pytest.raises(InvalidInputError, match=r"y int64\[2\] was given with shape \[3\]"):
        check_model("onnx", file(model), [Field("x", "float32", (3,))], [Field("y", "int64", (2,))])


def endless(onnx_model: Build) -> bytes:
    """Make a graph whose loop never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Identity", ["v_in"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go_in", BOOL, []),
            helper.make_tensor_value_info("v_in", FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("go_out", BOOL, []), helper.make_tensor_value_info("v_out", FLOAT, [1])],
    )
    go = helper.make_tensor("go", BOOL, [], [True])
    loop = helper.make_node("Loop", ["", "go", "x"], ["y"], body=body)
    return onnx_model([loop], [("x", FLOAT, [1])], [("y", FLOAT, [1])], [go])


def test_a_model_that_never_ends_is_stopped(file: Any, onnx_model: Build):
    with pytest.raises(
        InvalidInputError, match="tried on made-up inputs, it failed: it used more than 1 s of CPU time"
    ):
        check_model("onnx", file(endless(onnx_model)), X, Y, limits=SHORT)


def slow_to_load(onnx_model: Build) -> bytes:
    """Make a graph of under 2 kB that keeps constant folding busy for most of a minute."""
    shape = helper.make_tensor("shape", INT64, [2], [3000, 3000])
    fill = helper.make_tensor("fill", FLOAT, [1], [0.001])
    steps = 40
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["a0"], value=fill)]
    nodes += [helper.make_node("MatMul", [f"a{n}", f"a{n}"], [f"a{n + 1}"]) for n in range(steps)]
    nodes += [
        helper.make_node("ReduceMean", [f"a{steps}"], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    return onnx_model(nodes, [("x", FLOAT, [1])], [("y", FLOAT, [1])], [shape])


def test_a_model_that_takes_too_long_to_load_is_stopped(file: Any, onnx_model: Build):
    model = slow_to_load(onnx_model)
    assert len(model) < 2000
    with pytest.raises(InvalidInputError, match="while it was loaded, it failed: it used more than 1 s of CPU time"):
        check_model("onnx", file(model), X, Y, limits=SHORT)


def test_a_model_that_only_waits_is_stopped_too(custom: Custom):
    folder = custom("""
        import time
        class Model:
            def load(self, folder): time.sleep(1000)
            def predict(self, inputs): ...
    """)
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match="not loaded within 1 s"):
        check_model("custom", folder, X, Y, limits=CheckLimits(wall_s=1))
    assert time.monotonic() - began < 15


def test_a_model_that_wants_all_the_memory_is_stopped(file: Any, onnx_model: Build):
    shape = helper.make_tensor("shape", INT64, [1], [2_000_000_000])
    model = onnx_model(
        [
            helper.make_node("Expand", ["x", "shape"], ["wide"]),
            helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=0),
        ],
        [("x", FLOAT, [1])],
        [("y", FLOAT, [])],
        [shape],
    )
    with pytest.raises(InvalidInputError, match=r"made-up inputs.*a limit of 1024 MiB"):
        check_model("onnx", file(model), X, Y, limits=CheckLimits(memory_bytes=1 << 30))


class Exploding:
    """Writes a file when somebody unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("framework", ["onnx", "custom"])
def test_a_pickle_is_never_loaded(file: Any, tmp_path: Path, framework: str):
    path = file(pickle.dumps(Exploding(tmp_path / "loaded")))
    with pytest.raises(InvalidInputError):
        check_model(framework, path, X, Y)
    assert not (tmp_path / "loaded").exists()


def test_a_custom_model_is_tried_in_a_process_of_its_own(custom: Custom, tmp_path: Path):
    folder = custom("""
        class Model:
            def load(self, folder): ...
            def predict(self, inputs): return {"y": inputs["x"] * 2}
    """)
    check_model("custom", folder, X, Y)
    archive = tmp_path / "m.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(folder / "model.py", "top/model.py")
    check_model("Framework.CUSTOM", archive, X, Y)


def test_a_model_that_answers_only_one_of_the_inputs_passes_and_one_that_answers_none_does_not(custom: Custom):
    source = """
        class Model:
            def load(self, folder): ...
            def predict(self, inputs):
                if {condition}: raise ValueError("not my kind of number")
                return {{"y": 1.0}}
    """
    folder = custom(source.format(condition="inputs['x'] != 0"))
    check_model("custom", folder, X, Y)
    (folder / "model.py").write_text((folder / "model.py").read_text().replace("inputs['x'] != 0", "True"))
    with pytest.raises(InvalidInputError, match=r"(?s)tried on made-up inputs: .*not my kind of number"):
        check_model("custom", folder, X, Y)


def test_a_model_with_requirements_is_not_yet(custom: Custom):
    folder = custom("class Model: ...", requirements__txt="torch")
    with pytest.raises(NotYetError, match=r"requirements\.txt"):
        check_model("custom", folder, X, Y)


@pytest.mark.parametrize(
    ("framework", "inputs", "outputs", "detector", "message"),
    [
        ("tensorflow", X, Y, None, "framework 'tensorflow' does not run"),
        ("onnx", [], Y, None, "at least one field"),
        ("onnx", X, FOUND, DetectorConfig(), "a detector takes one frame"),
        ("onnx", FRAME, Y, DetectorConfig(), "the detector's outputs are boxes, classes, confidences"),
    ],
)
def test_what_can_be_refused_without_loading_is(
    file: Any, framework: str, inputs: Any, outputs: Any, detector: Any, message: str
):
    with pytest.raises(InvalidInputError, match=message):
        check_model(framework, file(b"x"), inputs, outputs, detector)


def test_a_file_that_is_gone_says_so(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="upload it again"):
        check_model("onnx", tmp_path / "gone", X, Y)


def test_made_up_inputs_are_of_the_schemas_types_and_the_same_every_time():
    fields = [*FRAME, Field("n", "int16", (None, 2)), Field("s", "string"), Field("b", "bool"), Field("f", "float64")]
    random, zeros = made_up_inputs(fields)
    assert random["image"].shape == (48, 64, 3)
    assert random["n"].shape == (3, 2)
    for made in (random, zeros):
        assert {name: array.dtype.kind for name, array in made.items()} == {
            "image": "u",
            "n": "i",
            "s": "U",
            "b": "b",
            "f": "f",
        }
    again, _ = made_up_inputs(fields)
    assert np.array_equal(again["image"], random["image"])
    assert not zeros["image"].any()


@pytest.mark.samples
def test_the_real_detector_passes(samples: Path):
    check_model("onnx", samples / "models/yolox_nano_e2e.onnx", FRAME, FOUND, DetectorConfig())
