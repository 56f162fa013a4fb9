"""Arrow schemas become the light documents that devices read, and back."""

import pyarrow as pa
import pytest

from driftline.errors import InvalidInputError
from driftline.pipeline.schema import parse_schema
from driftline.sdk.schema import arrow_type, documents_of


@pytest.mark.parametrize(
    ("kind", "name", "shape"),
    [
        (pa.float32(), "float32", []),
        (pa.float64(), "float64", []),
        (pa.string(), "string", []),
        (pa.bool_(), "bool", []),
        (pa.list_(pa.int64()), "int64", [None]),
        (pa.large_list(pa.int64()), "int64", [None]),
        (pa.list_(pa.list_(pa.float32(), 4)), "float32", [None, 4]),
        (pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 640), 480), "uint8", [480, 640, 3]),
        (pa.fixed_shape_tensor(pa.float32(), (3, 2)), "float32", [3, 2]),
    ],
    ids=str,
)
def test_every_type_that_runs_has_a_document_the_device_reads(kind: pa.DataType, name: str, shape: list[int | None]):
    (document,) = documents_of(pa.schema([pa.field("x", kind)]))
    assert document == {"name": "x", "type": name, "shape": shape}
    (field,) = parse_schema([document])
    assert field.document == document


def test_a_document_leads_back_to_its_arrow_type():
    kind = pa.list_(pa.list_(pa.float32(), 4))
    (document,) = documents_of(pa.schema([pa.field("boxes", kind)]))
    assert arrow_type(document) == kind


def test_documents_pass_through():
    documents = [{"name": "x", "type": "float32", "shape": [2]}]
    assert documents_of(documents) == documents
    assert documents_of(parse_schema(documents)) == documents


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pa.schema([]), "has no fields"),
        (pa.schema([pa.field("t", pa.timestamp("ns"))]), "timestamp.*does not run"),
        (pa.schema([pa.field("x", pa.int8()), pa.field("x", pa.int8())]), "more than once"),
        ("tensor", "is str, not an Arrow schema such as"),
        ([{"name": "x"}], "give an Arrow schema"),
    ],
)
def test_what_is_no_schema_is_refused_with_an_example(given: object, message: str):
    with pytest.raises(InvalidInputError, match=message):
        documents_of(given)
