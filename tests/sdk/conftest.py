"""A client of a real hub, and models small enough to upload in every test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from driftline import Client, Framework

MODEL = """
import numpy as np

class Model:
    def load(self, folder):
        pass

    def predict(self, inputs):
        return {"sum": inputs["tensor"].sum(), "parts": inputs["tensor"][:2]}
"""


@pytest.fixture
def client(hub: Any) -> Client:
    """A client whose current workspace is `shop`."""
    client = Client(hub.url)
    client.set_current_workspace(client.get_or_create_workspace("shop"))
    return client


@pytest.fixture
def summing(tmp_path: Path) -> Callable[..., Any]:
    """A function that uploads a custom model, whose outputs are the sum and the first two of four numbers."""

    def upload(client: Client, name: str = "summing", code: str = MODEL, **more: Any) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(code)
        (folder / "notes.json").write_text(json.dumps({}))
        schemas = {
            "input_schema": pa.schema([pa.field("tensor", pa.list_(pa.float32(), 4))]),
            "output_schema": pa.schema([("sum", pa.float64()), ("parts", pa.list_(pa.float32(), 2))]),
        }
        return client.upload_model(name, folder, framework=Framework.CUSTOM, **(schemas | more))

    return upload
