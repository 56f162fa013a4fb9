"""The reference story, run as its user runs it: a script against `driftline up` and its device, on fast time."""

import csv
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from driftline import Client

SCRIPT = Path(__file__).with_name("story.py")
# A window of three minutes lasts three seconds; ten inferences and more fit into it on a slow machine.
SPEED = 60


@pytest.mark.slow
def test_the_story_ends_with_two_alerts_that_scheduled_runs_find_again(driftline_up: Any, tmp_path: Path):
    start = datetime.now(UTC) - timedelta(days=1)
    hub = driftline_up(DRIFTLINE_CLOCK=f"{start.isoformat()} x{SPEED}")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        env=os.environ | {"DRIFTLINE_URL": hub.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{hub.text}"
    assert "Ready" in done.stdout
    assert "Generated 6 analyses" in done.stdout

    with (tmp_path / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:13] == [
        "assay_id", "name", "iopath", "score", "start", "min", "max", "mean", "median", "std",
        "warning_threshold", "alert_threshold", "status",
    ]  # fmt: skip
    assert [row["status"] for row in table] == ["Ok"] * 4 + ["Alert"] * 2
    # Three products in equal number are the baseline itself, which is three products in equal number.
    assert [float(row["score"]) for row in table[:4]] == [0.0] * 4
    assert all(float(row["score"]) > 1 for row in table[4:])
    starts = [datetime.fromisoformat(row["start"]) for row in table]
    assert [later - starts[0] for later in starts] == [timedelta(minutes=3 * at) for at in range(6)]
    assert starts[0].utcoffset() == timedelta(0)
    assert (tmp_path / "scores.svg").read_text(encoding="utf-8").startswith("<svg")

    client = Client(hub.url)
    client.set_current_workspace(client.get_workspace("retail-edge"))
    (assay,) = client.list_assays()
    assert f"assay {assay.id}" in done.stdout
    scheduled = client.get_assay_results(assay.id)
    assert len(scheduled) >= 6
    assert {one.assay_id for one in scheduled} == {assay.id}
    assert [one.status for one in scheduled[:4]] == ["Ok"] * 4
    assert [one.status for one in scheduled[4:6]] == ["Alert", "Alert"]
    (incident,) = [one for one in client.list_incidents() if one.kind == "drift"]
    assert (incident.device, incident.assay_id) == ("hub", assay.id)
