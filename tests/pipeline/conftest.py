"""Real models, made small: ONNX graphs built with the `onnx` package, and folders with a model.py."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., bytes]:
    """Build a graph: nodes, inputs and outputs as (name, type, shape), initializers."""

    def build(
        nodes: Sequence[Any],
        inputs: Sequence[tuple[str, int, Any]],
        outputs: Sequence[tuple[str, int, Any]],
        initializers: Sequence[Any] = (),
        *,
        checked: bool = True,
    ) -> bytes:
        graph = helper.make_graph(
            list(nodes),
            "graph",
            [helper.make_tensor_value_info(*one) for one in inputs],
            [helper.make_tensor_value_info(*one) for one in outputs],
            list(initializers),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        if checked:
            onnx.checker.check_model(model)
        return model.SerializeToString()

    return build


@pytest.fixture(scope="session")
def doubler(onnx_model: Callable[..., bytes]) -> bytes:
    """A graph that doubles `tensor`, float32 [N, 3], into `doubled`."""
    two = helper.make_tensor("two", FLOAT, [1], [2.0])
    node = helper.make_node("Mul", ["tensor", "two"], ["doubled"])
    return onnx_model([node], [("tensor", FLOAT, ["N", 3])], [("doubled", FLOAT, ["N", 3])], [two])


@pytest.fixture
def custom(tmp_path: Path) -> Callable[..., Path]:
    """Write a custom model: the source of its model.py, and more files by name."""

    def write(source: str, **files: str) -> Path:
        folder = tmp_path / "custom"
        folder.mkdir()
        (folder / "model.py").write_text(textwrap.dedent(source))
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder

    return write


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with the real models and clips."""
    folder = os.environ.get("DRIFTLINE_SAMPLES")
    if not folder:
        pytest.skip("DRIFTLINE_SAMPLES is unset: it names the folder with the real models and clips")
    return Path(folder).resolve()
