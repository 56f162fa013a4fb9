"""Named arrays as bytes: they come back equal, and torn or foreign bytes are refused."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from driftline.errors import InvalidInputError
from driftline.wire.arrays import pack_arrays, unpack_arrays

NUMBERS = st.sampled_from([np.dtype(name) for name in ("<f4", "<f8", "<i8", "u1", "<u2", "?")])


@given(arrays_of.arrays(NUMBERS, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
def test_every_array_comes_back_equal(array: np.ndarray):
    back = unpack_arrays(pack_arrays({"a": array, "b": array}))
    for name in ("a", "b"):
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_rows_of_different_shapes_come_back_as_they_were():
    boxes = np.empty(3, dtype=object)
    boxes[:] = [np.ones((2, 4), np.float32), np.ones((0, 4), np.float32), np.full((1, 4), 7, np.float32)]
    back = unpack_arrays(pack_arrays({"boxes": boxes, "n": np.array([2, 0, 1])}))
    assert [row.shape for row in back["boxes"]] == [(2, 4), (0, 4), (1, 4)]
    assert back["boxes"][2].dtype == np.float32
    np.testing.assert_array_equal(back["n"], [2, 0, 1])


def test_text_comes_back_as_text():
    back = unpack_arrays(pack_arrays({"label": np.array(["cup", "größe"])}))
    assert back["label"].tolist() == ["cup", "größe"]


@pytest.mark.parametrize("dtype", ["<i4", ">i4"])
def test_strided_arrays_travel_in_one_order(dtype: str):
    array = np.arange(12, dtype=dtype).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(unpack_arrays(pack_arrays({"a": array}))["a"], array)


def test_torn_arrays_are_refused():
    packed = pack_arrays({"a": np.arange(8.0), "t": np.array(["x"])})
    for size in range(len(packed)):
        with pytest.raises(InvalidInputError):
            unpack_arrays(packed[:size])


def packed_head(head: object) -> bytes:
    encoded = json.dumps(head).encode()
    return struct.pack("<I", len(encoded)) + encoded + b"\0" * 64


@pytest.mark.parametrize(
    "head", [[["a", "O", [1]]], [["a", "<V8", [1]]], [["a", "<f8", [-1]]], [["a", "<f8", [2**62, 2]]], {"a": 1}, [[1]]]
)
def test_hostile_heads_are_refused(head: object):
    with pytest.raises(InvalidInputError):
        unpack_arrays(packed_head(head))
