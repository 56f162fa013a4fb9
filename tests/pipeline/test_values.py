"""Values in, arrays of the schema's type out, and back: nothing is guessed, and what does not fit is named."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import ResolvedField
from driftline.pipeline.schema import INTEGERS, TYPES, Field
from driftline.pipeline.values import as_array, logged, plain, undeclared
from driftline.wire.device import RowsRecord, decode_rows, encode_rows


@given(arrays.arrays(np.float64, arrays.array_shapes(max_dims=3, max_side=4)))
def test_an_array_of_the_right_type_and_shape_comes_back_as_it_is(array: np.ndarray):
    assert as_array(Field("x", "float64", array.shape), array) is array


@given(st.floats(allow_nan=False))
def test_a_float32_field_is_rounded_before_anything_is_counted(number: float):
    with np.errstate(over="ignore"):
        assert as_array(Field("x", "float32"), number).item() == float(np.float32(number))


@given(st.sampled_from(INTEGERS), st.integers(-(2**70), 2**70))
def test_an_integer_is_taken_whole_or_refused(kind: Any, number: float):
    limits = np.iinfo(kind)
    if limits.min <= number <= limits.max:
        assert as_array(Field("n", kind), number).item() == number
    else:
        with pytest.raises(InvalidInputError, match="whole number"):
            as_array(Field("n", kind), number)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        (Field("x", "float32"), [0.5], 0.5),
        (Field("x", "float64"), None, None),
        (Field("x", "float64", (2,)), [1, None], [1.0, None]),
        (Field("x", "float32", (1,)), 0.5, [0.5]),
        (Field("x", "float32", (None,)), 0.5, [0.5]),
        (Field("x", "float32", (None, 4)), [], []),
        (Field("n", "int64"), 3.0, 3),
        (Field("b", "bool"), 1, True),
        (Field("s", "string"), "cup", "cup"),
        (Field("s", "string", (None,)), ["a", "bc"], ["a", "bc"]),
    ],
)
def test_the_usual_spellings_of_a_value_are_taken(field: Field, value: Any, wanted: Any):
    array = as_array(field, value)
    given_back = array.tolist()
    if field.type == "float64":
        given_back = logged(field, array)[1]
        given_back = None if isinstance(given_back, float) and math.isnan(given_back) else given_back
    assert given_back == wanted


def test_no_boxes_at_all_still_have_four_columns():
    assert as_array(Field("boxes", "float32", (None, 4)), []).shape == (0, 4)


def test_nested_arrays_as_pandas_makes_them_are_one_tensor():
    nested = np.empty(2, object)
    nested[0], nested[1] = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert as_array(Field("x", "float32", (2, 2)), nested).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (Field("x", "float32", (3,)), [1, 2], r"x float32\[3\] was given with shape \[2\]"),
        (Field("x", "float32", (None, 2)), [[1, 2], [3]], "differ in length"),
        (Field("x", "float32"), "0.5", "x float32 is a number; it was given '0.5'"),
        (Field("x", "float32"), {"a": 1}, "is a number"),
        (Field("n", "uint8"), 256, "whole number 0 to 255"),
        (Field("n", "uint8", (3,)), [1, 300, -1], r"whole number 0 to 255; it was given 300 \(int\)"),
        (Field("n", "uint8", (2,)), [1.0, 2.5], r"whole number 0 to 255; it was given 2\.5"),
        (Field("n", "int64"), 0.5, "whole number"),
        (Field("n", "int64"), float("nan"), "whole number"),
        (Field("n", "int64"), None, "whole number"),
        (Field("b", "bool"), 2, "whole number 0 to 1"),
        (Field("s", "string"), 5, "s string is text"),
        (Field("s", "string"), None, "s string is text"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_schema_in_the_message(field: Field, value: Any, message: str):
    with pytest.raises(InvalidInputError, match=message):
        as_array(field, value)


def resolved(kind: str = "number", *index: int) -> ResolvedField:
    return ResolvedField("out.x", "float64", kind, True, "out", "x", index)


def test_a_recorded_value_is_a_float_a_category_or_missing():
    assert plain(np.array(0.5, np.float32), resolved()) == 0.5
    assert plain(np.array(True), resolved()) == 1.0
    assert plain(np.array("cup"), resolved("category")) == "cup"
    assert plain(np.array([1.0, math.nan]), resolved("number", 1)) is None
    assert plain(np.array([1.0]), resolved("number", 3)) is None, "the list was shorter this time"
    assert plain(np.array(math.inf), resolved()) == math.inf


@given(st.data())
def test_whatever_is_logged_survives_the_wire(data: Any):
    field = data.draw(st.sampled_from([Field("x", kind, shape) for kind in TYPES for shape in [(), (2,), (None, 2)]]))
    shape = tuple(length or 1 for length in field.shape)
    if field.type == "string":
        array = np.full(shape, data.draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)))
    else:
        array = data.draw(arrays.arrays(field.type, shape))
    kind, value = logged(field, array)
    json.dumps(value, allow_nan=kind != "s")
    back = decode_rows(encode_rows(RowsRecord("p", 0, 60, True, [1], {"out.x": (kind, [value])})))
    (read,) = back.columns["out.x"][1]
    assert read == value or (isinstance(value, float) and math.isnan(value) and math.isnan(read))


def test_frames_and_large_tensors_stay_out_of_the_log():
    assert logged(Field("image", "uint8", (None, None, 3)), np.zeros((2, 2, 3), np.uint8)) is None
    assert logged(Field("x", "float32", (None,)), np.zeros(4097, np.float32)) is None
    assert logged(Field("x", "float32", (None,)), np.zeros(4096, np.float32)) is not None


def test_without_a_schema_numbers_words_and_short_lists_are_recorded():
    found = {
        key: value
        for name, whole in {"a": 0.5, "b": "cup", "c": [1, 2], "d": None, "e": np.zeros(17), "f": {"no": 1}}.items()
        for key, value in undeclared(name, whole, 16)
    }
    assert found == {"a": 0.5, "b": "cup", "c.0": 1.0, "c.1": 2.0, "d": None}
