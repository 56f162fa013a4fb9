"""The device's benchmark runs: a few hours of an agent in seconds, and the same numbers recorded as a peer would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def device(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench.device", "--quick", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_an_agents_day_is_measured():
    said = device("--only", "agent")
    assert "sync each 10 minutes: TCP payload a day, TLS included" in said
    assert "agent: resident after it" in said


def test_the_same_day_is_recorded_by_driftline():
    assert "windows, each ten minutes" in device("--only", "peers")


@pytest.mark.samples
@pytest.mark.slow
@pytest.mark.skipif(
    "DRIFTLINE_SAMPLES" not in os.environ, reason="DRIFTLINE_SAMPLES names no folder with the real models and clips"
)
def test_the_share_of_recording_is_measured():
    assert "observers and recorder, of the detector's CPU" in device("--only", "recorder")
