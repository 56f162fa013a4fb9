"""A baseline is read however it is kept, and refused with the way out where it cannot be one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import ResolvedField
from driftline.sdk import baseline
from driftline.wire import api

IOPATH = "output avg_confidence 0"
VALUES = [0.71, 0.84, 0.93]
SHARPNESS = [310.0, 320.5, None]
BOTH = {"out.avg_confidence": VALUES, "sharpness": SHARPNESS}


def read(given: object, iopath: str) -> list[object]:
    return list(baseline.read(given, {iopath: "number"})[iopath])


def read_both(given: object) -> dict[str, baseline.Values]:
    return baseline.read(given, {IOPATH: "number", "out.sharpness": "number"})


@pytest.mark.parametrize(
    "text",
    [
        "0.71,0.84,0.93\n",
        "0.71, 0.84, 0.93,",
        "[0.71, 0.84, 0.93]",
        "0.71;0.84;0.93",
        "0.71\n0.84\n0.93\n",
        "\ufeff0.71\r\n0.84\r\n\r\n0.93\r\n",
        "confidence\n0.71\n0.84\n0.93\n",
        "time,avg_confidence\n2026-01-01,0.71\n2026-01-02,0.84\n2026-01-03,0.93\n",
        "in.x,out.avg_confidence\n5,[0.71]\n6,[0.84]\n7,[0.93]\n",
        "in.x,Output avg_confidence 0\n5,0.71\n6,0.84\n7,0.93\n",
        ",0\n0,0.71\n1,0.84\n2,0.93\n",
    ],
    ids=[
        "one line", "a comma at the end", "as Python prints it", "semicolons", "one a line", "as Excel saves it",
        "a header", "named column", "lists of one", "named by iopath", "a Series of pandas with its index",
    ],
)  # fmt: skip
def test_a_csv_may_be_written_in_many_ways(tmp_path: Path, text: str):
    path = tmp_path / "baseline.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read(path, IOPATH) == VALUES
    assert read(str(path), IOPATH) == VALUES


def test_a_parquet_file_is_known_by_its_first_bytes(tmp_path: Path):
    table = pa.table({"out.avg_confidence": [[0.71], [0.84], [0.93]], "in.x": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "baseline.data")
    assert read(tmp_path / "baseline.data", IOPATH) == VALUES


@pytest.mark.parametrize(
    "given",
    [
        VALUES,
        tuple(VALUES),
        [[0.71], [0.84], [0.93]],
        np.array(VALUES),
        np.array(VALUES).reshape(3, 1),
        pd.Series(VALUES),
        pd.Series([[0.71], [0.84], [0.93]]),
        pd.DataFrame({"anything": VALUES}),
        pd.DataFrame({"in.x": [1, 2, 3], "out.avg_confidence": [np.array([one]) for one in VALUES]}),
        pa.array(VALUES),
        pa.chunked_array([VALUES[:1], VALUES[1:]]),
        pa.table({"out.avg_confidence": VALUES, "time": [1, 2, 3]}),
        pa.record_batch({"avg_confidence": VALUES}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_an_array_of_any_library_is_a_baseline(given: object):
    assert read(given, IOPATH) == VALUES


def test_the_iopath_says_which_element_of_a_list_is_meant():
    frame = pd.DataFrame({"out.confidences": [[0.9, 0.1], [0.8, 0.2], [0.7]]})
    assert read(frame, "output confidences 1") == [0.1, 0.2, None]


def test_missing_values_stay_and_are_none(tmp_path: Path):
    path = tmp_path / "baseline.csv"
    path.write_text("value\n0.5\nnan\nNULL\n0.7\n")
    assert read(path, IOPATH) == [0.5, None, None, 0.7]
    assert read([0.5, None, float("nan"), pd.NA], IOPATH) == [0.5, None, None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a baseline is one line of comma-separated numbers"),
        ("\n \n", "is empty"),
        ("avg_confidence\n", "holds 'avg_confidence', which is not a number"),
        ("a,b\n1,2\n", "has the columns a, b, and none is 'output avg_confidence 0'; keep one column, or name it"),
        ("value\nhigh\n", "holds 'high', which is not a number"),
        ("1,2\n3,4\n", "has 2 columns and no header"),
        ("a,b\n1\n", "line 2: 1 cells, but the line before has 2"),
        ("nan\nnan\n", "holds 2 missing values and no other"),
        ("1\ninf\n", "holds an infinite value"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused_with_the_way_out(tmp_path: Path, text: str, message: str):
    path = tmp_path / "baseline.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        read(path, IOPATH)
    assert message in str(refused.value)
    assert "baseline.csv" in str(refused.value)


def test_what_is_no_file_is_told_apart(tmp_path: Path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    for name, message in [
        ("absent.csv", "there is no baseline file"),
        ("", "is a folder"),
        ("picture.png", "neither CSV nor Parquet"),
        ("torn.parquet", "cannot be read as Parquet"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            read(tmp_path / name, IOPATH)


@pytest.mark.parametrize("given", [3.5, np.zeros((2, 2)), {"a": 1}, {}, [], pd.DataFrame()])
def test_what_is_no_array_of_numbers_is_refused(given: object):
    with pytest.raises(InvalidInputError, match="baseline"):
        read(given, IOPATH)


@pytest.mark.parametrize(
    "given",
    [
        ["1", "2"],
        np.array(["1", "2"]),
        pd.Series(["0.5", "0.6"]),
        pa.array(["1"]),
        [["1"], ["2"]],
        [b"1"],
        [0.5, "0.6"],
    ],
)
def test_text_in_memory_is_no_number_however_much_it_looks_like_one(given: object, tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"holds the text .*, but the field is a number; convert it first"):
        read(given, IOPATH)
    parquet.write_table(pa.table({"avg_confidence": ["0.5", "0.6"]}), tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match=r"b\.parquet holds the text '0.5'"):
        read(tmp_path / "b.parquet", IOPATH)


def test_each_of_several_fields_takes_its_own_column(tmp_path: Path):
    frame = pd.DataFrame(BOTH)
    frame.to_csv(tmp_path / "baseline.csv")
    parquet.write_table(pa.table(BOTH), tmp_path / "baseline.parquet")
    for given in (BOTH, frame, pa.table(BOTH), tmp_path / "baseline.csv", tmp_path / "baseline.parquet"):
        assert read_both(given) == {IOPATH: VALUES, "out.sharpness": SHARPNESS}
    arrays = {"avg_confidence": np.array(VALUES), "out.sharpness": pd.Series(SHARPNESS)}
    assert read_both(arrays) == {IOPATH: VALUES, "out.sharpness": SHARPNESS}


def test_fields_without_a_column_are_named():
    three = {IOPATH: "number", "output sharpness": "number", "out.light": "number"}
    with pytest.raises(InvalidInputError) as refused:
        baseline.read(pd.DataFrame({"avg_confidence": VALUES, "x": VALUES}), three)  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == (
        "baseline_data (DataFrame) has the columns avg_confidence, x, and none is 'output sharpness' nor 'out.light'; "
        "name them 'sharpness' and 'light'"
    )
    with pytest.raises(InvalidInputError, match="has one column without a name, and none is"):
        read_both(VALUES)
    with pytest.raises(InvalidInputError, match=r"'out.sharpness' holds 3 missing values"):
        read_both({"avg_confidence": VALUES, "sharpness": [None] * 3})


def test_the_values_of_a_field_that_is_text_are_texts(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_text("label\nbottle\nnone\nNA\n12\n")
    iopath = "output label"
    assert baseline.read(path, {iopath: "category"}) == {iopath: ["bottle", "none", "NA", "12"]}
    assert baseline.read(["can", None, float("nan"), ""], {iopath: "category"}) == {iopath: ["can", None, None, None]}
    with pytest.raises(InvalidInputError, match="holds 3, but the field is text"):
        baseline.read(["can", 3], {iopath: "category"})


def test_a_baseline_in_time_may_be_one_devices_and_have_a_season():
    start, end = "2026-01-01T10:00:00Z", "2026-01-15T10:00:00Z"
    given = baseline.in_time(None, start, end, "camera-1", "week")
    assert given == api.Baseline(
        start_ns=1_767_261_600_000_000_000, end_ns=1_768_471_200_000_000_000, device="camera-1", season="week"
    )
    assert baseline.in_time(VALUES, None, None) is None
    with pytest.raises(InvalidInputError, match="'year'; give 'day' where"):
        baseline.in_time(None, start, end, None, "year")
    with pytest.raises(InvalidInputError, match="values do not say when they were seen"):
        baseline.in_time(VALUES, None, None, None, "day")


# ── whole vectors ────────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = ResolvedField("out.embedding", "float32", "number", False, "out", "embedding", size=3)
VECTORS = np.array([[0.5, 1.0, 2.0], [1.5, np.nan, 4.0]])


@pytest.mark.parametrize(
    "given",
    [
        VECTORS,
        VECTORS.tolist(),
        pd.DataFrame({"embedding": list(VECTORS), "more": [1, 2]}),
        pd.Series(list(VECTORS)),
        {"output embedding": VECTORS},
        pa.table({"out.embedding": pa.array([[0.5, 1.0, 2.0], [1.5, None, 4.0]], pa.list_(pa.float32(), 3))}),
    ],
)
def test_a_whole_vector_takes_one_list_an_inference(given: object):
    found = baseline.of_data(given, {"output embedding": WHOLE})
    assert found.values is None  # noqa: PD011  a message, not a Series
    assert found.vectors is not None
    told = found.vectors["out.embedding"]
    np.testing.assert_array_equal(np.frombuffer(told.data, "<f4").reshape(-1, told.size), VECTORS)


def test_vectors_come_from_a_parquet_column_and_an_inference_without_one_is_missing(tmp_path: Path):
    column = pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float64()))
    parquet.write_table(pa.table({"embedding": column, "sharpness": [1.0, 2.0]}), tmp_path / "b.parquet")
    sharp = ResolvedField("out.sharpness", "float32", "number", True, "out", "sharpness")
    found = baseline.of_data(tmp_path / "b.parquet", {"output embedding": WHOLE, "out.sharpness": sharp})
    assert found.values == {"out.sharpness": [1.0, 2.0]}  # noqa: PD011  a message, not a Series
    assert found.vectors is not None
    assert np.isnan(np.frombuffer(found.vectors["out.embedding"].data, "<f4")[3:]).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.5, 0.6], r"holds 0.5, but 'output embedding' is a whole vector; give an array of shape \[n, 3\]"),
        (VECTORS[:, :2], "vectors of 2 numbers; 'output embedding' has 3"),
        ([[1.0, 2.0, 3.0], [1.0]], "vectors of 1 to 3 numbers; all of 'output embedding' are equally long"),
        ([["1", "2", "3"]], "something else than numbers"),
        ([[1.0, 2.0, [3.0]]], "something else than numbers"),
        (["[1, 2, 3]"], "is a whole vector"),
        ([[1.0, 2.0, float("inf")]], "infinite"),
        ([None], "holds no vector"),
    ],
)
def test_what_is_no_vector_is_refused_with_the_way_out(given: object, message: str):
    with pytest.raises(InvalidInputError, match=message):
        baseline.of_data(given, {"output embedding": WHOLE})


def test_where_nothing_is_declared_the_values_say_that_it_is_a_vector():
    undeclared = ResolvedField("out.embedding", "float64", "number", True, "out", "embedding", size=None)
    assert baseline.of_data(VECTORS, {"output embedding": undeclared}).vectors is not None
    assert baseline.of_data([1.0, 2.0], {"output embedding": undeclared}).vectors is None
