"""The notebook, executed as it is against a real hub; what its cells put out is checked."""

import ast
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


def output(notebook: Any, start: str) -> list[dict[str, Any]]:
    """What the cell that starts so put out."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start)]
    return cell.outputs


def shown(notebook: Any, start: str) -> str:
    return output(notebook, start)[-1]["data"]["text/plain"]


@pytest.mark.slow
def test_the_notebook_tells_the_story(
    tmp_path: Path, driftline_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    clock = f"{(datetime.now(UTC) - timedelta(days=1)).isoformat()} x30 @{time.time():.6f}"
    monkeypatch.setenv("DRIFTLINE_URL", driftline_up(DRIFTLINE_CLOCK=clock).url)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    notebook = nbformat.read(EXAMPLES / "retail_edge.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path / "examples")}}
    ).execute()

    assert shown(notebook, "runs = {}") == (
        "{'intensity': ['Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok'],\n"
        " 'sharpness': ['Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Alert', 'Alert']}"
    )
    assert shown(notebook, "assay_id =") == "['Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Ok', 'Alert', 'Alert']"
    assert "<svg" in output(notebook, "normal =")[-1]["data"]["text/html"]
    (incidents,) = output(notebook, "for incident")
    assert "out.avg_confidence.0 has drifted since" in incidents["text"]
    printed = [one["text"] for one in output(notebook, "import os") if one["output_type"] == "stream"]
    if os.environ.get("DRIFTLINE_SAMPLES"):
        scores = ast.literal_eval(printed[-1].splitlines()[-1])
        assert scores["out.sharpness"] > scores["out.avg_confidence"] > 0.25
    else:
        assert "set DRIFTLINE_SAMPLES" in printed[-1]
