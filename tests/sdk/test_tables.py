"""Inferences travel as Arrow, whatever they were in the notebook, and come back as the same kind."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from driftline.errors import InvalidInputError
from driftline.sdk import tables

TENSOR = {"name": "tensor", "type": "float32", "shape": [4]}
IMAGE = {"name": "image", "type": "uint8", "shape": [None, None, 3]}
PRICE = {"name": "price", "type": "float64", "shape": []}
CELL = [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("cell", [CELL, tuple(CELL), np.array(CELL), np.array(CELL, np.float32), json.dumps(CELL)])
def test_a_cell_may_be_a_list_an_array_or_json(cell: object):
    frame = pd.DataFrame({"tensor": [cell, cell]})
    table = tables.to_table(frame, [TENSOR])
    assert table.column("tensor").to_pylist() == [CELL, CELL]


def test_a_float32_field_travels_as_float32():
    table = tables.to_table(pd.DataFrame({"tensor": [np.array(CELL)]}), [TENSOR])
    assert table.schema.field("tensor").type == pa.list_(pa.float32(), 4)


def test_pictures_keep_every_pixel():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), np.uint8)
    table = tables.to_table(pd.DataFrame({"image": list(pictures)}), [IMAGE])
    assert np.array_equal(np.array(table.column("image").to_pylist(), np.uint8), pictures)


def test_pictures_that_went_through_pandas_go_again():
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 3), np.uint8)
    once = tables.to_table(pd.DataFrame({"image": list(pictures)}), [IMAGE])
    again = tables.to_table(once.to_pandas(), [IMAGE])
    assert again.column("image").to_pylist() == once.column("image").to_pylist()


def test_pictures_of_different_sizes_go_together():
    pictures = [np.zeros((2, 3, 3), np.uint8), np.ones((4, 5, 3), np.uint8)]
    table = tables.to_table(pd.DataFrame({"image": pictures}), [IMAGE])
    assert [np.array(one).shape for one in table.column("image").to_pylist()] == [(2, 3, 3), (4, 5, 3)]


def test_columns_that_the_pipeline_does_not_take_stay_here():
    frame = pd.DataFrame({"in.price": [1.0, None], "note": ["a", "b"]})
    table = tables.to_table(frame, [PRICE])
    assert table.column_names == ["price"]
    assert table.column("price").to_pylist() == [1.0, None]


def test_an_arrow_tensor_travels_as_lists():
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(2, 4))
    table = tables.to_table(pa.table({"tensor": tensors}), [TENSOR])
    assert tables.decode(tables.encode(table)).column("tensor").to_pylist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pd.DataFrame({"x": [1]}), "there is no column 'tensor'.*there are: x"),
        (pd.DataFrame({"tensor": ["high"]}), "holds the text 'high'"),
        ({"tensor": [CELL]}, "takes a pandas DataFrame or an Arrow table.*not dict"),
    ],
)
def test_what_the_pipeline_cannot_take_is_refused(given: object, message: str):
    with pytest.raises(InvalidInputError, match=message):
        tables.to_table(given, [TENSOR])


def test_a_large_table_goes_in_pieces_and_an_empty_one_in_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "PIECE_BYTES", 64)
    table = pa.table({"price": [float(one) for one in range(20)]})
    cut = list(tables.pieces(table))
    assert [piece.num_rows for piece in cut] == [8, 8, 4]
    assert pa.concat_tables(cut) == table
    assert [piece.num_rows for piece in tables.pieces(table.slice(0, 0))] == [0]


def test_a_dataset_is_a_column_what_stands_before_a_dot_or_all():
    table = pa.table({name: [1] for name in ("time", "in.a", "out.a", "out.ab", "anomaly.count")})

    def names(dataset: object, exclude: object = None) -> list[str]:
        return tables.selected(table, dataset, exclude).column_names

    assert names(None) == names("*") == names(["*", "metadata"]) == table.column_names
    assert names(["time", "out"]) == ["time", "out.a", "out.ab"]
    assert names("out.a") == ["out.a"]
    assert names(None, ["in", "anomaly"]) == ["time", "out.a", "out.ab"]
    with pytest.raises(InvalidInputError, match=r"'outputs' names no column; there are: time, in\.a"):
        names("outputs")


def test_every_kind_of_file_gives_its_rows(tmp_path: Path):
    frame = pd.DataFrame({"tensor": [CELL, CELL], "price": [1.5, 2.5]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for orient in ("records", "list", "split", "columns"):
        path = tmp_path / f"{orient}.json"
        path.write_text(json.dumps(frame.to_dict(orient="list")) if orient == "list" else frame.to_json(orient=orient))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    parquet.write_table(table, tmp_path / "rows.parquet")
    feather.write_feather(table, tmp_path / "file.arrow", compression="uncompressed")
    (tmp_path / "stream.arrow").write_bytes(tables.encode(table))
    for path in sorted(tmp_path.iterdir()):
        rows = tables.to_table(tables.read_file(path), [TENSOR, PRICE])
        assert rows.column("tensor").to_pylist() == [CELL, CELL], path.name
        assert rows.column("price").to_pylist() == [1.5, 2.5], path.name


def test_a_file_of_another_kind_is_refused_with_those_that_are_read(tmp_path: Path):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    (tmp_path / "torn.json").write_text('{"tensor": [')
    for name, message in [
        ("rows.xlsx", r"infer_from_file reads: JSON \(\.json\), CSV"),
        ("absent.csv", "there is no file"),
        ("torn.json", "cannot be read as json"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            tables.read_file(tmp_path / name)


def test_pictures_take_no_more_room_than_their_pixels():
    pictures = np.zeros((4, 48, 64, 3), np.uint8)
    table = tables.to_table(pd.DataFrame({"image": list(pictures)}), [IMAGE])
    assert table.nbytes == pictures.nbytes


def test_a_cell_of_nested_lists_comes_back_as_one_array():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), np.uint8)
    sent = tables.to_table(pd.DataFrame({"image": list(pictures)}), [IMAGE])
    boxes = pa.array([[[1.0, 2.0]], [], None], pa.list_(pa.list_(pa.float32())))
    ragged = pa.array([[[1], [2, 3]], [[4]], []])
    counts = pa.array([[1], [2, 3], []])
    table = sent.append_column("boxes", boxes).append_column("ragged", ragged).append_column("counts", counts)
    frame = tables.like(table, pd.DataFrame())
    assert all(np.array_equal(cell, picture) for cell, picture in zip(frame["image"], pictures, strict=True))
    assert [None if one is None else one.shape for one in frame["boxes"]] == [(1, 2), (0, 0), None]
    assert frame["ragged"][0] == [[1], [2, 3]]
    assert [list(one) for one in frame["counts"]] == [[1], [2, 3], []]
    again = tables.to_table(frame, [IMAGE])
    assert again.equals(sent)


def test_an_empty_answer_keeps_its_columns():
    frame = tables.like(pa.table({"boxes": pa.array([], pa.list_(pa.list_(pa.float32())))}), pd.DataFrame())
    assert list(frame.columns) == ["boxes"]
    assert len(frame) == 0
