"""ONNX graphs as steps: batches, thresholds and pictures are handled here, and a mismatch says what the graph has."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from driftline.errors import InvalidInputError
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.onnx_step import OnnxStep, verified_bytes
from driftline.pipeline.schema import Field
from driftline.pipeline.step import ModelFailedError

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
FRAME = [Field("image", "uint8", (None, None, 3))]
FOUND = [
    Field("boxes", "float32", (None, 4)),
    Field("classes", "int64", (None,)),
    Field("confidences", "float32", (None,)),
]

Build = Callable[..., bytes]


def identity(onnx_model: Build, shape: Any, kind: int = FLOAT) -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    # ONNX's own checker wants a shape; exporters do not always write one.
    return onnx_model([node], [("x", kind, shape)], [("y", kind, shape)], checked=shape is not None)


@pytest.mark.parametrize(
    ("graph_shape", "field_shape", "given"),
    [
        (["N", 3], (3,), [1.0, 2.0, 3.0]),
        ([1, 3], (3,), [1.0, 2.0, 3.0]),
        ([3], (3,), [1.0, 2.0, 3.0]),
        (["N"], (), 5.0),
        (["N", 1], (), 5.0),
        ([None, 1], (1,), [5.0]),
        ([], (), 5.0),
        (["N"], (None,), [1.0, 2.0]),
        (["N", "T"], (None,), [1.0, 2.0]),
        ([1, "T", 2], (None, 2), [[1.0, 2.0]]),
        (["T", 2], (None, 2), [[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_a_schema_never_speaks_of_the_batch_dimension(
    onnx_model: Build, graph_shape: Any, field_shape: Any, given: Any
):
    step = OnnxStep(
        "m",
        identity(onnx_model, graph_shape),
        [Field("x", "float32", field_shape)],
        [Field("y", "float32", field_shape)],
    )
    outputs = step.run({"x": np.asarray(given, np.float32)})
    assert outputs["y"].tolist() == given
    assert outputs["y"].dtype == np.float32


def test_a_graph_of_undeclared_shape_is_taken_at_its_word(onnx_model: Build):
    step = OnnxStep("m", identity(onnx_model, None), [Field("x", "float32", (2,))], [Field("y", "float32", (2,))])
    assert step.run({"x": np.ones(2, np.float32)})["y"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TensorProto.FLOAT16, "float32", 0.5),
        (TensorProto.DOUBLE, "float64", 0.1),
        (TensorProto.UINT8, "uint8", 200),
        (TensorProto.BOOL, "bool", True),
        (STRING, "string", "cup"),
    ],
)
def test_every_type_of_a_schema_goes_in_and_out(onnx_model: Build, kind: int, name: str, value: Any):
    step = OnnxStep("m", identity(onnx_model, ["N", 2], kind), [Field("x", name, (2,))], [Field("y", name, (2,))])
    dtype = np.str_ if name == "string" else name
    outputs = step.run({"x": np.array([value, value], dtype)})
    assert outputs["y"].tolist() == [value, value]
    assert outputs["y"].dtype.kind == np.dtype(dtype).kind


@pytest.mark.parametrize(
    ("inputs", "outputs", "what"),
    [
        ([Field("tensr", "float32", (3,))], [Field("doubled", "float32", (3,))], "no input 'tensr'"),
        (
            [Field("tensor", "float64", (3,))],
            [Field("doubled", "float32", (3,))],
            r"tensor float64\[3\] is tensor float32",
        ),
        ([Field("tensor", "float32", (4,))], [Field("doubled", "float32", (3,))], r"tensor float32\[4\] is"),
        ([Field("tensor", "float32", (None,))], [Field("doubled", "float32", (3,))], r"tensor float32\[\?\] is"),
        ([Field("tensor", "float32", (3,))], [Field("twice", "float32", (3,))], "no output 'twice'"),
        ([Field("tensor", "float32", (3,))], [Field("doubled", "int64", (3,))], r"doubled int64\[3\] is"),
        ([Field("tensor", "float32", (3,))], [Field("doubled", "float32", (2, 3, 1))], "the output doubled"),
    ],
)
def test_a_schema_that_does_not_match_is_told_what_the_graph_has(
    doubler: bytes, inputs: Sequence[Field], outputs: Sequence[Field], what: str
):
    with pytest.raises(InvalidInputError, match=what) as caught:
        OnnxStep("price", doubler, inputs, outputs)
    assert "model 'price'" in str(caught.value)
    assert "The graph has inputs tensor float32[N,3]; outputs doubled float32[N,3]" in str(caught.value)


def test_an_input_that_nobody_feeds_is_named(onnx_model: Build):
    add = onnx_model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [("a", FLOAT, [1]), ("b", FLOAT, [1])],
        [("y", FLOAT, [1])],
    )
    with pytest.raises(InvalidInputError, match=r"also needs the input b float32\[1\]"):
        OnnxStep("m", add, [Field("a", "float32")], [Field("y", "float32")])


def test_an_output_that_turns_out_otherwise_is_refused(onnx_model: Build):
    model = identity(onnx_model, ["N", "T"])
    step = OnnxStep("m", model, [Field("x", "float32", (None,))], [Field("y", "float32", (2,))])
    assert step.run({"x": np.ones(2, np.float32)})["y"].shape == (2,)
    with pytest.raises(
        InvalidInputError, match=r"does not match its schema: y float32\[2\] was given with shape \[3\]"
    ):
        step.run({"x": np.ones(3, np.float32)})


def test_values_a_graph_fails_on_are_its_failure(onnx_model: Build):
    table = helper.make_tensor("table", FLOAT, [3], [1.0, 2.0, 3.0])
    model = onnx_model(
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        [("index", INT64, ["N"])],
        [("y", FLOAT, ["N"])],
        [table],
    )
    step = OnnxStep("lookup", model, [Field("index", "int64")], [Field("y", "float32")])
    assert step.run({"index": np.array(2)})["y"] == 3
    with pytest.raises(ModelFailedError, match="model 'lookup' failed: "):
        step.run({"index": np.array(99)})


@pytest.mark.parametrize(
    "content", [b"", b"not onnx", b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system"]
)
def test_what_is_no_graph_is_refused(content: bytes):
    with pytest.raises(InvalidInputError, match="cannot be loaded as an ONNX graph"):
        OnnxStep("m", content, [Field("x", "float32")], [Field("y", "float32")])


def test_weights_in_another_file_are_not_read(onnx_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.array([5, 6], np.float32).tobytes())
    weights = helper.make_tensor("w", FLOAT, [2], [1.0, 2.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "secret.bin"
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = onnx_model([node], [("x", FLOAT, [2])], [("y", FLOAT, [2])], [weights], checked=False)
    with pytest.raises(InvalidInputError, match="save it as one file"):
        OnnxStep("m", model, [Field("x", "float32", (2,))], [Field("y", "float32", (2,))])


def test_a_file_that_is_not_what_was_published_is_not_loaded(tmp_path: Path, doubler: bytes):
    (tmp_path / "m").write_bytes(doubler)
    assert verified_bytes(tmp_path / "m") == doubler
    with pytest.raises(InvalidInputError, match="not what was published"):
        verified_bytes(tmp_path / "m", "0" * 64)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        verified_bytes(tmp_path / "not there")


LOAD = """
import os, pathlib, sys, time
from driftline.pipeline.onnx_step import OnnxStep
from driftline.pipeline.schema import Field
step = OnnxStep("m", pathlib.Path(sys.argv[1]).read_bytes(), [Field("x", "float32")], [Field("y", "float32")])
time.sleep(0.2)
links = []
for fd in os.listdir("/proc/self/fd"):
    if os.path.lexists(f"/proc/self/fd/{fd}"):  # the listing's own is closed by now
        links.append(os.readlink(f"/proc/self/fd/{fd}"))
print([link for link in links if "socket" in link])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="sockets are read from /proc, which is Linux's")
def test_the_runtime_opens_no_socket_and_leaves_no_mark(onnx_model: Build, tmp_path: Path):
    (tmp_path / "m").write_bytes(identity(onnx_model, [1]))
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "m")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list(home.rglob("*")) == []


# ── detectors ────────────────────────────────────────────────────────────────────────────────────────────────────


def showing(onnx_model: Build, shape: Sequence[int], **more: Any) -> OnnxStep:
    """Make a detector whose boxes, classes and confidences are fixed and which also shows its own input."""
    boxes = helper.make_tensor("b", FLOAT, [2, 4], [0, 0, 8, 8, 4, 2, 100, 100])
    classes = helper.make_tensor("c", INT64, [2], [1, 0])
    confidences = helper.make_tensor("s", FLOAT, [2], [0.9, 0.4])
    model = onnx_model(
        [
            helper.make_node("Identity", ["images"], ["seen"]),
            *(
                helper.make_node("Identity", [a], [b])
                for a, b in zip("bcs", ["boxes", "classes", "confidences"], strict=True)
            ),
        ],
        [("images", FLOAT, [1, *shape])],
        [("seen", FLOAT, [1, *shape]), ("boxes", FLOAT, [2, 4]), ("classes", INT64, [2]), ("confidences", FLOAT, [2])],
        [boxes, classes, confidences],
    )
    outputs = [*FOUND, Field("seen", "float32", tuple(shape))]
    return OnnxStep("detector", model, FRAME, outputs, DetectorConfig(**more))


def wide() -> np.ndarray:
    """A frame of 32 × 16 pixels: blue 10, green 20, red 30."""
    return np.full((16, 32, 3), (10, 20, 30), np.uint8)


def test_a_letterboxed_frame_is_at_the_top_left_with_grey_below(onnx_model: Build):
    seen = showing(onnx_model, (3, 16, 16)).run({"image": wide()})["seen"]
    assert np.all(seen[:, :8] == np.array([10, 20, 30])[:, None, None])
    assert np.all(seen[:, 8:] == 114)


def test_boxes_come_back_in_pixels_of_the_frame(onnx_model: Build):
    boxes = showing(onnx_model, (3, 16, 16)).run({"image": wide()})["boxes"]
    assert boxes.tolist() == [[0, 0, 16, 16], [8, 4, 32, 16]], "twice as large, and cut at the border"


def test_without_a_letterbox_the_frame_is_stretched_and_boxes_back(onnx_model: Build):
    outputs = showing(onnx_model, (3, 16, 16), letterbox=False).run({"image": wide()})
    assert np.all(outputs["seen"] == np.array([10, 20, 30])[:, None, None])
    assert outputs["boxes"].tolist() == [[0, 0, 16, 8], [8, 2, 32, 16]]


def test_colours_scale_mean_and_std_follow_the_configuration(onnx_model: Build):
    step = showing(onnx_model, (3, 16, 16), colour="RGB", scale=0.1, mean=(1, 1, 0), std=(1, 0.5, 2), letterbox=False)
    seen = step.run({"image": wide()})["seen"]
    assert seen[:, 5, 5] == pytest.approx([(3 - 1) / 1, (2 - 1) / 0.5, (1 - 0) / 2])


def test_a_graph_with_colours_last_gets_them_last(onnx_model: Build):
    seen = showing(onnx_model, (16, 16, 3), layout="NHWC").run({"image": wide()})["seen"]
    assert seen[0, 0].tolist() == [10, 20, 30]


def test_a_threshold_is_applied_where_the_graph_has_none(onnx_model: Build):
    outputs = showing(onnx_model, (3, 16, 16), score_threshold=0.5).run({"image": wide()})
    assert outputs["confidences"].tolist() == [pytest.approx(0.9)]
    assert len(outputs["boxes"]) == len(outputs["classes"]) == 1


def test_frames_of_another_size_leave_nothing_behind(onnx_model: Build):
    step = showing(onnx_model, (3, 16, 16))
    step.run({"image": np.full((16, 16, 3), 250, np.uint8)})
    seen = step.run({"image": wide()})["seen"]
    assert np.all(seen[:, 8:] == 114)


@pytest.mark.parametrize(
    ("shape", "more", "what"),
    [
        ((1, 16, 16), {}, "takes no NCHW picture of 3 colours"),
        ((3, 16, 16), {"layout": "NHWC"}, "takes no NHWC picture"),
        ((3, 16, 16), {"size": (32, 16)}, r"size \[32, 16\] is not that of its input images"),
        ((3, 16, 16), {"input": "picture"}, "no input 'picture'"),
    ],
)
def test_a_configuration_that_does_not_match_is_told_what_the_graph_has(
    onnx_model: Build, shape: Any, more: Any, what: str
):
    with pytest.raises(InvalidInputError, match=what) as caught:
        showing(onnx_model, shape, **more)
    assert "The graph has inputs images" in str(caught.value)


def thresholding(onnx_model: Build, *, optional: bool) -> bytes:
    """Make a detector that answers with the threshold it was given as its only confidence."""
    boxes = helper.make_tensor("b", FLOAT, [1, 4], [0, 0, 8, 8])
    classes = helper.make_tensor("c", INT64, [1], [0])
    own = [helper.make_tensor("score_threshold", FLOAT, [1], [0.25])] if optional else []
    outputs = [("boxes", FLOAT, [1, 4]), ("classes", INT64, [1]), ("confidences", FLOAT, [1])]
    return onnx_model(
        [
            helper.make_node("Identity", ["b"], ["boxes"]),
            helper.make_node("Identity", ["c"], ["classes"]),
            helper.make_node("Identity", ["score_threshold"], ["confidences"]),
        ],
        [("images", FLOAT, ["N", 3, "H", "W"]), ("score_threshold", FLOAT, [1])],
        outputs,
        [boxes, classes, *own],
    )


@pytest.mark.parametrize(
    ("optional", "configured", "used"), [(True, None, 0.25), (False, None, 0.3), (True, 0.5, 0.5), (False, 0.5, 0.5)]
)
def test_a_graphs_own_threshold_is_set_left_or_given_a_default(
    onnx_model: Build, optional: bool, configured: float | None, used: float
):
    config = DetectorConfig(size=(16, 16), score_threshold=configured)
    step = OnnxStep("m", thresholding(onnx_model, optional=optional), FRAME, FOUND, config)
    assert step.run({"image": wide()})["confidences"].tolist() == [pytest.approx(used)]


def test_a_graph_of_any_size_needs_one_from_the_configuration(onnx_model: Build):
    with pytest.raises(InvalidInputError, match=r"takes any size; give one in the detector's configuration \(size\)"):
        OnnxStep("m", thresholding(onnx_model, optional=True), FRAME, FOUND, DetectorConfig())


@pytest.mark.samples
def test_the_real_detector_finds_the_bottles_in_a_raw_frame(samples: Path):
    model = (samples / "models/yolox_nano_e2e.onnx").read_bytes()
    video = cv2.VideoCapture(str(samples / "video/bottle-detection.mp4"))
    _, frame = video.read()
    found = OnnxStep("yolox", model, FRAME, FOUND, DetectorConfig()).run({"image": frame})
    assert frame.shape == (360, 640, 3)
    assert found["classes"].tolist() == [39, 39, 39], "three bottles, COCO class 39"
    assert found["confidences"].min() > 0.85
    # The bottles stand side by side on the shelf, upright, in pixels of the frame.
    left, top, right, bottom = found["boxes"].T
    assert sorted(left.round(-1)) == [60, 290, 510]
    assert np.all(bottom - top > 2 * (right - left))
    assert bottom.max() < 360


@pytest.mark.samples
def test_a_real_graph_without_decoding_runs_as_it_is(samples: Path):
    model = (samples / "models/FastestDet.onnx").read_bytes()
    step = OnnxStep("m", model, [Field("input.1", "float32", (3, 352, 352))], [Field("758", "float32", (85, 22, 22))])
    assert step.run({"input.1": np.zeros((3, 352, 352), np.float32)})["758"].shape == (85, 22, 22)
