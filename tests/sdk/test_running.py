"""Inferences through the device `hub` of a real `driftline up`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from driftline import Client, DeploymentConfigBuilder
from driftline.errors import InvalidInputError

ROWS = pd.DataFrame({"tensor": [[1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.0, 0.0]]})


@pytest.mark.slow
def test_a_pipeline_from_deploy_to_logs_and_undeploy(
    driftline_up: Any, summing: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    client = Client(driftline_up().url)
    client.set_current_workspace(client.get_or_create_workspace("shop"))
    model = summing(client)
    config = DeploymentConfigBuilder().cpus(1).memory("1Gi").sidekick_memory(model, "1Gi").build()
    pipeline = client.build_pipeline("sums").add_model_step(model)
    assert pipeline.deploy(deployment_config=config) is pipeline
    assert capsys.readouterr().out.endswith(" ok\n")
    status = pipeline.status()
    assert status["status"] == "Running"
    assert [(one["device"], one["state"]) for one in status["devices"]] == [("hub", "running")]
    assert "cpu" in status["devices"][0]["limits"]["worker"]

    answer = pipeline.infer(ROWS)
    assert isinstance(answer, pd.DataFrame)
    assert list(answer.columns) == ["time", "in.tensor", "out.sum", "out.parts", "anomaly.count"]
    assert list(answer["out.sum"]) == [10.0, 0.5]
    assert [list(one) for one in answer["out.parts"]] == [[1.0, 2.0], [0.0, 0.5]]
    table = pipeline.infer(pa.Table.from_pandas(ROWS), dataset=["time", "out"], dataset_exclude=["out.parts"])
    assert isinstance(table, pa.Table)
    assert table.column_names == ["time", "out.sum"]
    ROWS.to_json(tmp_path / "rows.json", orient="records")
    assert list(pipeline.infer_from_file(tmp_path / "rows.json")["out.sum"]) == [10.0, 0.5]
    with pytest.raises(InvalidInputError, match=r"tensor float32\[4\]"):
        pipeline.infer(pd.DataFrame({"tensor": [[1.0, 2.0]]}))

    logged = eventually(lambda: pipeline.logs(limit=10), lambda frame: len(frame) == 6)
    assert list(logged["out.sum"]) == [10.0, 0.5] * 3
    assert set(logged["device"]) == {"hub"}
    assert logged["time"].is_monotonic_increasing
    newest = pipeline.logs(limit=2, dataset="out.sum")
    assert list(newest.columns) == ["out.sum"]
    assert "There are more logs than the 2 newest" in capsys.readouterr().out
    first = answer["time"].iloc[0].floor("us").to_pydatetime()
    assert len(pipeline.logs(end_datetime=first)) == 0
    assert len(pipeline.logs(start_datetime=first.replace(tzinfo=None))) == 6, "a naive datetime is UTC"
    assert len(pipeline.logs(start_datetime=first, end_datetime=first + timedelta(microseconds=1), arrow=True)) == 2

    pipeline.undeploy()
    assert pipeline.status()["status"] == "Undeployed"
    with pytest.raises(InvalidInputError, match="deploy"):
        pipeline.infer(ROWS)


def eventually(ask: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 30) -> Any:
    """Ask until the answer is good: a device syncs within seconds."""
    import time

    deadline = time.monotonic() + timeout_s
    while not good(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer}"
        time.sleep(0.2)
    return answer
