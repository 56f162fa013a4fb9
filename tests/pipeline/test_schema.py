"""Schemas as documents: read back as written, and refused with the field's name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import InvalidInputError
from driftline.pipeline.schema import TYPES, Field, parse_schema

FIELDS = st.builds(
    Field,
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20),
    st.sampled_from(TYPES),
    st.lists(st.none() | st.integers(1, 9), max_size=4).map(tuple),
)


@given(st.lists(FIELDS, unique_by=lambda field: field.name))
def test_a_schema_reads_back_what_it_wrote(fields: list[Field]):
    assert parse_schema([field.document for field in fields]) == tuple(fields)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("x", "a list of fields"),
        ({"name": "x"}, "a list of fields"),
        ([1], "name, type and shape"),
        ([{"type": "float32"}], "a field's name"),
        ([{"name": " ", "type": "float32"}], "a field's name"),
        ([{"name": "a\nb", "type": "float32"}], "a field's name"),
        ([{"name": "x", "type": "float128"}], "field 'x' has type 'float128'; the types are bool, int8"),
        ([{"name": "x", "type": "float32", "shape": 3}], "the shape is a list"),
        ([{"name": "x", "type": "float32", "shape": [0]}], "a number from 1"),
        ([{"name": "x", "type": "float32", "shape": [True]}], "a number from 1"),
        ([{"name": "x", "type": "float32", "shape": [-1]}], "a number from 1"),
        ([{"name": "x", "type": "float32", "shape": [1 << 16, 1 << 16]}], "larger than a device can hold"),
        ([{"name": "x", "type": "float32", "shape": [1] * 9}], "larger than a device can hold"),
        ([{"name": "x", "type": "float32"}] * 2, "two fields named 'x'"),
    ],
)
def test_what_is_no_schema_is_refused_by_name(schema: Any, message: str):
    with pytest.raises(InvalidInputError, match=message):
        parse_schema(schema)


@pytest.mark.parametrize(
    ("field", "is_image"),
    [
        (Field("x", "uint8", (None, None, 3)), True),
        (Field("x", "uint8", (480, 640, 3)), True),
        (Field("x", "float32", (480, 640, 3)), False),
        (Field("x", "uint8", (3, 480, 640)), False),
        (Field("x", "uint8", (480, 640)), False),
    ],
)
def test_a_frame_is_uint8_height_width_and_three_colours(field: Field, is_image: bool):
    assert field.is_image is is_image
