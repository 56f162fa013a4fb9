"""Weights in other files are found wherever a graph can hide them, and no bytes confuse the reader."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from driftline.pipeline.onnx_file import has_external_data


def tensor(*, external: bool) -> TensorProto:
    made = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    if external:
        made.ClearField("float_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", "../secret.bin"
    return made


def in_the_graph(weights: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weights])
    return helper.make_model(graph)


def in_a_constant(weights: TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([helper.make_node("Constant", [], ["y"], value=weights)], "g", [], []))


def in_a_branch(weights: TensorProto) -> onnx.ModelProto:
    branch = in_a_constant(weights).graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_a_function(weights: TensorProto) -> onnx.ModelProto:
    model = in_a_constant(tensor(external=False))
    constant = helper.make_node("Constant", [], ["y"], value=weights)
    model.functions.append(helper.make_function("d", "f", [], ["y"], [constant], [helper.make_opsetid("", 17)]))
    return model


def in_a_sparse_tensor(weights: TensorProto) -> onnx.ModelProto:
    model = in_a_constant(tensor(external=False))
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(weights, indices, [2]))
    return model


@pytest.mark.parametrize("place", [in_the_graph, in_a_constant, in_a_branch, in_a_function, in_a_sparse_tensor])
def test_external_weights_are_found_and_others_left_alone(place: Callable[[TensorProto], onnx.ModelProto]):
    assert has_external_data(place(tensor(external=True)).SerializeToString())
    assert not has_external_data(place(tensor(external=False)).SerializeToString())


def test_a_location_without_the_flag_is_found_too():
    weights = tensor(external=True)
    weights.data_location = TensorProto.DEFAULT
    assert has_external_data(in_the_graph(weights).SerializeToString())


def test_graphs_nested_deeper_than_python_calls_are_read():
    graph = in_a_constant(tensor(external=True)).graph.SerializeToString()
    for _ in range(3000):
        # attribute { g: graph }, node { attribute }, graph { node }, by hand: protobuf's own writer recurses.
        for tag in (0x32, 0x2A, 0x0A):
            graph = bytes([tag]) + _varint(len(graph)) + graph
    assert has_external_data(bytes([0x3A]) + _varint(len(graph)) + graph)


@given(st.binary(max_size=300))
def test_no_bytes_confuse_it(content: bytes):
    assert has_external_data(content) in {True, False}


def test_a_large_model_is_looked_through_without_reading_its_weights():
    weights = onnx.numpy_helper.from_array(np.zeros(1_000_000, np.float32), "w")
    assert not has_external_data(in_the_graph(weights).SerializeToString())


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
