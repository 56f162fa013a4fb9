"""The hub's benchmark runs: a real hub, a real load, each summary there once, on both stores."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_what_a_hub_takes_in_is_measured(store: str, request: pytest.FixtureRequest):
    if store == "postgres":
        request.getfixturevalue("postgres")  # skips where none can be started
    done = subprocess.run(
        [sys.executable, "-m", "bench.hub", "--quick", "--store", store],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{store:<9} acknowledged after commit" in done.stdout
    assert "summaries/s" in done.stdout
    assert f"{store:<9} an assay's page, its data: median" in done.stdout
