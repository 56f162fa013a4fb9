"""`driftline demo`: a hub, three cameras on three devices, and one lens that loses focus."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from driftline import clock as clocks
from driftline.clock import FastClock
from driftline.demo import pace, report
from driftline.demo.processes import ENDINGS, Processes
from driftline.demo.story import INPUT, OUTPUT, Scene, Story, scene_of
from driftline.errors import DriftlineError, InvalidInputError, NotAllowedError
from driftline.pipeline.definition import make_definition
from driftline.sdk.schema import documents_of


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 when its report is written."""
    # Before anything else imports onnxruntime: a device opens no socket but to its hub.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    fault = _fault(options)
    if options.home and (Path(options.home).expanduser() / "hub").exists():
        raise InvalidInputError(
            f"there is a hub in {options.home} already; the demo wants a folder of its own: --home DIR"
        )
    scene = scene_of(options.camera, options.model, _detector_config(options.detector_config))
    report.claim(options.report)
    try:
        _tell(options, scene, fault)
    except BaseException:
        report.release(options.report)
        raise
    return 0


def _tell(options: argparse.Namespace, scene: Scene, fault: int | None) -> None:
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    home = Path(options.home).expanduser() if options.home else Path(tempfile.mkdtemp(prefix="driftline-demo-"))
    try:
        _tell_at(home, options, scene, fault)
    except DriftlineError:
        # Whoever wants to know why finds the logs there.
        print(f"what the hub and the devices wrote is kept in {home}", file=sys.stderr)
        raise
    except BaseException:
        _remove(home, options)
        raise
    _remove(home, options)


def _tell_at(home: Path, options: argparse.Namespace, scene: Scene, fault: int | None) -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)

    clock = _clock(scene, home, say)
    with Processes(home, str(clock)) as processes:
        story = Story(processes, clock, scene, say)
        say(f"hub and dashboard at {story.url}")
        findings = story.tell(fault)
        report.write(options.report, findings, story.url)
        print(f"\n{report.table(findings)}\n")
        for one in report.finding(findings.analyses) or [{"text": "No camera has drifted."}]:
            print(one["text"])
        print(f"\nreport: {options.report / 'report.html'}", flush=True)
        if not options.exit:
            print(f"dashboard: {story.url}")
            _stay(story)


def _remove(home: Path, options: argparse.Namespace) -> None:
    if not options.home:
        shutil.rmtree(home, ignore_errors=True)


def _fault(options: argparse.Namespace) -> int | None:
    if options.no_fault:
        return None
    if not 1 <= options.fault_device <= pace.DEVICES:
        raise InvalidInputError(f"--fault-device is 1 to {pace.DEVICES}, not {options.fault_device}")
    return int(options.fault_device)


def _detector_config(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"--detector-config {file} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f'--detector-config {file} is not a JSON object such as {{"colour": "RGB"}}')
    return cast("dict[str, Any]", document)


def _clock(scene: Scene, home: Path, say: Any) -> FastClock:
    """Start fast time a day ago, at the speed at which this machine can look at every frame."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotAllowedError(f"{home} cannot be made ({error.strerror}); name another folder with --home") from error
    step = {
        "model": "probe",
        "name": scene.model.name,
        "framework": "onnx",
        "digest": "",
        "input_schema": documents_of(INPUT),
        "output_schema": documents_of(OUTPUT),
        "detector": scene.detector.document,
    }
    definition = make_definition("probe", [step])
    frame_s = pace.seconds_a_frame(scene.frames(), definition, {"probe": scene.model}, home / "probe")
    factor = round(pace.factor(frame_s, scene.rate_fps), 1)
    start = (datetime.now(UTC) - timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    say(f"one frame takes {frame_s * 1000:.1f} ms of this machine: time runs {factor:g}×, from {start.isoformat()} on")
    return FastClock(clocks.to_ns(start), factor, time.time_ns() // 1000 * 1000)


def _stay(story: Story) -> None:
    print("the devices go on; Ctrl-C stops everything", flush=True)
    try:
        while True:
            story.check()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nstopping", flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
