"""Every benchmark still runs, in small: what it measures is never held to a target here, least of all time."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import alarms, assay_speed, fleet, peers, power, quiet, real, streams, window_sizes
from bench.machine import machine
from driftline.demo.scene import blurred

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of streams and windows where each benchmark takes hundreds."""
    monkeypatch.setattr(quiet, "RUNS_QUICK", {20: 2})
    monkeypatch.setattr(quiet, "WINDOWS", 12)
    monkeypatch.setattr(power, "RUNS_QUICK", 2)
    monkeypatch.setattr(power, "WINDOWS", 12)
    sizes = {
        "STREAMS": 4,
        "DRIFTED": 2,
        "HOURS": 12,
        "SHIFT_AT": 6,
        "REPEATS": 1,
        "REPEATS_QUICK": 1,
        "PEER_STREAMS": 4,
    }
    for name, value in sizes.items():
        monkeypatch.setattr(fleet, name, value)
    columns = {
        name: window_sizes.Column(one.title, min(one.n, 2500), one.phi, 10, 4)
        for name, one in window_sizes.COLUMNS.items()
    }
    monkeypatch.setattr(window_sizes, "COLUMNS", columns)


@pytest.mark.usefixtures("small")
def test_the_benchmark_of_alarms_runs_every_section(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.alarms", "--quick", "--jobs", "1"])
    # So few streams miss targets or not, as it falls out.
    assert alarms.main() in {0, 1}
    printed = capsys.readouterr().out
    for told in (
        "quiet: runs of 12 windows",
        "shifted: found within 12 windows",
        "fleet: 4 streams × 12 hourly windows",
    ):
        assert told in printed
    assert "no drift: share of windows that fire" in printed


@pytest.mark.usefixtures("small")
def test_cells_of_streams_say_what_came_of_their_runs() -> None:
    found, _ = streams.outcomes(power.blocks(quick=True), jobs=1)
    assert {one.cell for one in found} == {*power.DELAYS, *power.FOUND}
    for one in found:
        assert one.runs == 2
        assert 0 <= one.refused + one.alarmed <= 2
        assert one.interval[0] <= (one.share or 0.0) <= one.interval[1]
    json.dumps([asdict(one) for one in found])
    assert len(quiet.table(found).splitlines()) == len(power.table(found).splitlines()) == 2 + len(found)


@pytest.mark.usefixtures("small")
def test_what_other_libraries_answer_stands_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(drawn: Any, theirs: tuple[Any, Any], *, jobs: int) -> list[peers.Answers]:
        peer, asked = peers.PEERS[0], peers.PEERS[0].asks[-1]
        assert asked.of_windows("50", 50)["windows"] == asked.sizes[1]
        fires = {
            **{name: windows[:2, :, 0] > 1 for name, (_, windows) in drawn.items()},
            "fleet": theirs[1][..., 0] > 1,
        }
        told = tuple(peers.Answer(asked, name, one, 0.1) for name, one in fires.items())
        return [peers.Answers(peer, None, {}, told), peers.Answers(peers.PEERS[1], "not installed")]

    monkeypatch.setattr(fleet, "ask_all", answered)
    told: dict[str, Any]
    told, missed = fleet.fleet(quick=False, jobs=1)
    assert json.loads(json.dumps(told)).keys() == {"fleet", "window_sizes", "peers"}
    policies = [row["policy"] for row in told["fleet"]["rows"]]
    assert policies.count(fleet.OURS) == len(fleet.BASELINES)
    assert policies[-1] == peers.PEERS[0].asks[-1].label
    rules = {row["rule"] for row in told["window_sizes"]["rows"]}
    assert {"driftline, a promise: in alarm", "PSI > 0.2, ten bins", policies[-1]} <= rules
    assert [one["reason"] for one in told["peers"]] == [None, "not installed"]
    assert all(isinstance(one, str) for one in missed)


def test_the_benchmark_of_speed_measures_every_part(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    rows = assay_speed.measured(assay_speed.Size(1, 4, 50, 500, 200, 2000, 1, 5, 1, 2, (500, 1000, 1500)))
    kept = json.loads(assay_speed.RESULTS.read_text())["rows"]
    # Each figure that the results keep is measured by the code as it is, whatever it comes to.
    assert len(rows) == len(kept)
    assert [(row.unit, row.target) for row in rows] == [(row["unit"], row["target"]) for row in kept]
    assert all(np.isfinite(row.figure) and row.figure >= 0 for row in rows)
    assert machine()["numpy"] == np.__version__
    assert "MISSED" in capsys.readouterr().out or all(row.met for row in rows)


# ── real data ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of samples whose clip is forty frames of noise, four a window."""
    # Each frame by itself: so short a baseline carries no promise on frames that resemble those before them.
    every = np.random.default_rng(3).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)

    def frames(_video: Path, sigma: float) -> Iterator[Any]:
        for frame in every:
            yield blurred(frame, sigma)

    monkeypatch.setattr(real, "_frames", frames)
    monkeypatch.setattr(real, "CACHE", tmp_path / "cache")
    for name, value in {
        "FRAMES_A_WINDOW": 4,
        "BASELINE_WINDOWS": 8,
        "HEALTHY_WINDOWS": 4,
        "BLURRED_WINDOWS": 4,
    }.items():
        monkeypatch.setattr(real, name, value)
    for name in ("video/bottle-detection.mp4", "models/yolox_nano_e2e.onnx"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_clip_is_observed_blurred_and_watched(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detected = [
        {"avg_confidence": one, "detections": round(5 * one)} for one in np.random.default_rng(4).random(40).tolist()
    ]
    monkeypatch.setattr(real, "_detected", lambda _video, _sigma, _model: iter(detected))
    told, missed = real.clip(clip)
    assert told["frames"] == 40
    for name in ("sharpness", "avg_px_intensity", "avg_confidence", "detections"):
        assert told[name]["healthy windows"] == 4
        assert set(told[name]["found in window"]) <= {"blur 1", "blur 2", "blur 4"}
    assert all(isinstance(one, str) for one in missed)
    told, missed = real.clip(clip / "elsewhere")
    assert (told, "DRIFTLINE_SAMPLES" in missed[0]) == ({}, True)


@pytest.mark.samples
def test_the_real_detector_sees_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Path(os.environ.get("DRIFTLINE_SAMPLES", "samples"))
    model, video = samples / "models" / "yolox_nano_e2e.onnx", samples / "video" / "bottle-detection.mp4"
    if not model.exists():
        pytest.skip(f"there is no {model}; set DRIFTLINE_SAMPLES")
    whole = real._frames(video, 1.0)
    few = [next(whole)]
    whole.close()  # pyright: ignore[reportAttributeAccessIssue]  a generator, which holds the file
    monkeypatch.setattr(real, "_frames", lambda _video, _sigma: iter(few))
    (seen,) = real._detected(video, 1.0, model)
    assert {"avg_confidence", "detections"} <= set(seen)


def test_tables_are_watched_column_by_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real, "ROWS_A_WINDOW", 50)
    monkeypatch.setattr(real, "DRIFT_ROW", 200)
    draw = np.random.default_rng(1)

    def rows(columns: tuple[str, ...], shift: float = 0.0) -> pd.DataFrame:
        values = draw.normal(size=(600, len(columns)))
        values[200:] += shift
        return pd.DataFrame(values, columns=list(columns))

    rows(real.LOANS).to_csv(tmp_path / "synthetic_car_loan_reference.csv")
    rows(real.LOANS, 3.0).to_csv(tmp_path / "synthetic_car_loan_analysis.csv")
    told, missed = real.loans(tmp_path)
    assert (told["first found in window"], missed) == (1, [])
    assert set(told["columns"]) == set(real.LOANS)
    for name in ("reference", "analysis"):
        frame = rows(real.PEOPLE, 3.0 if name == "analysis" else 0.0).assign(year=np.arange(600) // 300)
        frame.to_parquet(tmp_path / f"employment_MA_{name}.pq")
    told, missed = real.people(tmp_path)
    # Whatever alarms says how large a change it is, and such a one is no small one.
    assert not any("without saying how small" in one for one in missed)
    assert all("in spite of min_effect" in one for one in missed)
    assert len(missed) == len(real.PEOPLE)
    assert set(told["columns"]) == set(real.PEOPLE)


def test_the_light_of_the_day_is_rendered_and_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = real.weather(1, seed=1)
    assert sky.shape == (1440,)
    dark, light = real.intensity(sky[:2]), real.intensity(sky[720:722], first=720)
    assert dark.max() < light.min()
    # Rendering three weeks takes a minute; the sun alone does for the rest.
    sun = np.maximum(0.0, np.sin(np.pi * (np.arange(1440) / 60 - 5.5) / 16))

    def quickly(share: Any, dirt: float = 0.0, first: int = 0) -> Any:
        return 60 + 100 * (1 - dirt) * sun[(first + np.arange(len(share))) % 1440] * share

    monkeypatch.setattr(real, "intensity", quickly)
    monkeypatch.setattr(real, "DAYS_WATCHED", 4)
    monkeypatch.setattr(real, "DIRTY_DAYS", 1)
    told, missed = real.daylight()
    assert told["windows watched"] == 4 * real.WINDOWS_A_DAY
    assert set(told["plain"]) == {"6 h", "24 h", "168 h"}
    assert "hour of day" in told["why"]
    assert all(isinstance(one, str) for one in missed)
