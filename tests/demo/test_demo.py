"""The demo, run as a user runs it: it names the blurred camera and no other, and nobody where there is no fault."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.demo.cameras import WINDOW_FRAMES_MIN, Clip, clip_of
from driftline.demo.scene import CLASSES, Shelf

FIELDS = {"out.sharpness", "out.avg_confidence", "out.avg_px_intensity"}
CAMERAS = {"camera-1", "camera-2", "camera-3"}


def demo(report: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "driftline.cli", "demo", "--exit", "--report", str(report), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((report / "results.json").read_text())
    for one in document["finding"]:
        assert one["text"] in done.stdout
    return document


def of(document: dict[str, Any], **facts: str) -> list[dict[str, Any]]:
    return [one for one in document["analyses"] if all(one[key] == value for key, value in facts.items())]


def filmed(file: Path, frames: Iterable[NDArray[np.uint8]]) -> Path:
    """Write a clip without loss, so that it shows to the bit what was put in; HuffYUV is quick to decode."""
    film: cv2.VideoWriter | None = None
    for frame in frames:
        film = film or cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"HFYU"), 2.0, frame.shape[1::-1])
        film.write(frame)
    assert film is not None
    film.release()
    return file


@pytest.mark.slow
@pytest.mark.timeout(540)
def test_the_blurred_camera_is_named_and_no_other(tmp_path: Path):
    (tmp_path / "kept.txt").write_text("not ours")
    document = demo(tmp_path, "--fault-device", "2")

    assert [one["device"] for one in document["finding"]] == ["camera-2"]
    assert {one["device"] for one in document["analyses"]} == CAMERAS
    assert {one["field"] for one in document["analyses"]} == FIELDS
    for camera in CAMERAS:
        for field in FIELDS:
            windows = of(document, device=camera, field=field)
            assert len(windows) == 18
            assert [one["count"] for one in windows] == [120] * 18, f"{camera} {field}: a frame was lost or doubled"
            assert all(one["status"] in {"Ok", "Warning", "Alert"} for one in windows)
            assert all(one["status_fixed"] in {"Ok", "Alert"} for one in windows)
            # The first thousand frames travel as rows, the rest as counts on a grid.
            assert {one["source"] for one in windows} == {"rows", "counts"}
    blurred = of(document, device="camera-2", field="out.sharpness")
    assert [one["status_fixed"] for one in blurred] == ["Ok"] * 12 + ["Alert"] * 6
    # A baseline of eight windows wants to see a change twice.
    assert [one["status"] for one in blurred[:12]] == ["Ok"] * 12
    assert [one["status"] for one in blurred[13:]] == ["Alert"] * 5
    for named in (document["finding"], document["finding_fixed"]):
        assert [(one["device"], one["since"]) for one in named] == [("camera-2", blurred[12]["start"])]
    assert {one["status"] for one in of(document, device="camera-2", field="out.avg_px_intensity")} == {"Ok"}
    # Without a fault nothing is seen: neither before it nor at the cameras that have none.
    for camera in CAMERAS:
        for field in FIELDS:
            free = of(document, device=camera, field=field)[: 12 if camera == "camera-2" else 18]
            assert {one["status"] for one in free} == {"Ok"}, f"{camera} {field}"
    # The standing assays, scored on schedule, opened an incident for that camera alone.
    assert {one["device"] for one in document["incidents"]} == {"camera-2"}

    assert (tmp_path / "kept.txt").read_text() == "not ours"
    page = (tmp_path / "report.html").read_text()
    assert document["finding"][0]["text"] in page
    assert (tmp_path / "sharpness-camera-2.svg").read_text().startswith("<svg")


@pytest.mark.slow
@pytest.mark.timeout(540)
def test_without_a_fault_nobody_is_named(tmp_path: Path):
    # That rendered shelves stay quiet for 18 windows is seen above, at the cameras without a fault; a clip is quicker.
    shelf = Shelf(1, frames=WINDOW_FRAMES_MIN)
    clip = filmed(tmp_path / "shelf.avi", (shelf.frame(index) for index in range(WINDOW_FRAMES_MIN)))
    config = tmp_path / "detector.json"
    config.write_text(json.dumps({"class_names": CLASSES}))
    detector = str(resources.files("driftline.demo") / "detector.onnx")
    arguments = ("--camera", str(clip), "--model", detector, "--detector-config", str(config))
    document = demo(tmp_path / "report", "--no-fault", *arguments)
    assert document["finding"] == document["finding_fixed"] == []
    assert document["incidents"] == []
    assert len(document["analyses"]) == len(CAMERAS) * len(FIELDS) * 18
    assert {one["status"] for one in document["analyses"]} == {"Ok"}
    assert {one["count"] for one in document["analyses"]} == {WINDOW_FRAMES_MIN}
    assert "No camera has drifted." in (tmp_path / "report" / "report.html").read_text()


HAS_SAMPLES = pytest.mark.skipif(
    "DRIFTLINE_SAMPLES" not in os.environ, reason="DRIFTLINE_SAMPLES names no folder with the clip"
)


@pytest.fixture
def bottles() -> Path:
    return Path(os.environ["DRIFTLINE_SAMPLES"]) / "video" / "bottle-detection.mp4"


@pytest.mark.samples
@HAS_SAMPLES
def test_of_a_long_clip_a_pass_shows_about_120_frames(bottles: Path):
    assert clip_of(bottles) == Clip(bottles, stride=10, frames=119, passes=1), "1,189 frames, every tenth"


@pytest.mark.samples
@pytest.mark.slow
@pytest.mark.timeout(900)
@HAS_SAMPLES
def test_on_a_real_clip_and_a_real_detector_the_blurred_camera_is_named(bottles: Path, tmp_path: Path):
    # Every twentieth frame: as few as a window may hold, for each takes the detector 20 ms of every camera.
    clip = filmed(tmp_path / "bottles.avi", every(20, bottles))
    model = Path(os.environ["DRIFTLINE_SAMPLES"]) / "models" / "yolox_nano_e2e.onnx"
    document = demo(tmp_path / "report", "--camera", str(clip), "--model", str(model))

    assert [one["device"] for one in document["finding"]] == ["camera-3"]
    first_alert = {}
    for camera in CAMERAS:
        for field in FIELDS:
            windows = of(document, device=camera, field=field)
            assert [one["count"] for one in windows] == [60] * 18
            assert {one["status"] for one in windows[:12]} == {one["status_fixed"] for one in windows[:12]} == {"Ok"}
            if camera == "camera-3":
                first_alert[field] = next((at for at, one in enumerate(windows) if one["status"] == "Alert"), None)
    assert first_alert["out.sharpness"] in {12, 13}
    assert first_alert["out.sharpness"] <= first_alert["out.avg_confidence"]
    # Blur moves light and takes none.
    intensity = of(document, device="camera-3", field="out.avg_px_intensity")
    assert all(abs(one["mean"] - intensity[0]["mean"]) < 0.1 * intensity[0]["std"] for one in intensity[12:])


def every(nth: int, clip: Path) -> Iterable[NDArray[np.uint8]]:
    """Play a clip's first frame and each nth after it."""
    video = cv2.VideoCapture(str(clip))
    at = 0
    while video.grab():
        if at % nth == 0:
            yield np.asarray(video.retrieve()[1], np.uint8)
        at += 1
    video.release()
