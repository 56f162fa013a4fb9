"""The story itself: a model goes to three cameras, three assays watch it, one lens loses focus.

Everything here is done through the SDK and the command line, as a user would do it; what the story finds it reads
from analyses and nothing else.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import driftline
from driftline.clock import NS_PER_S, FastClock, iso
from driftline.demo import cameras
from driftline.demo.pace import DEVICES
from driftline.demo.processes import Processes
from driftline.demo.scene import CLASSES
from driftline.errors import PermanentError
from driftline.wire.api import Analysis, Incident

WINDOW_S = 180
# Eight windows make the baseline (960 frames: within the first thousand, which every device sends whole), twelve are
# free of the fault, and in the last third of all windows one lens is out of focus.
BASELINE_WINDOWS, HEALTHY_WINDOWS, FAULTY_WINDOWS = 8, 12, 6
WINDOWS = HEALTHY_WINDOWS + FAULTY_WINDOWS
BLUR_SIGMA = 5.0  # pixels at 640 wide: a lens a quarter turn off
FIELDS = ("out.sharpness", "out.avg_confidence", "out.avg_px_intensity")
WORKSPACE, PIPELINE = "shop", "shelf-watch"
INPUT = pa.schema([("image", pa.list_(pa.list_(pa.list_(pa.uint8(), 3))))])
OUTPUT = pa.schema(
    [
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
        ("classes", pa.list_(pa.int64())),
        ("confidences", pa.list_(pa.float32())),
    ]
)
# Real seconds a device gets to start its worker before its first frame is due.
READY_S = 12.0
SILENCE_TIMEOUT_S = 240.0
# Progress is said every so many windows.
SAY_EVERY = 3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the cameras look at, and with which detector."""

    clip: cameras.Clip | None
    model: Path
    detector: driftline.Detector

    @property
    def window_frames(self) -> int:
        """Frames a camera shows in one window: whole passes of the scene."""
        return self.clip.window_frames if self.clip else cameras.PASS_FRAMES

    @property
    def rate_fps(self) -> float:
        """Frames a second of the demo's time."""
        return self.window_frames / WINDOW_S

    def source(self, number: int, *, faulty: bool) -> str:
        """Name the source of camera `number`, as `driftline edge run --camera` takes it."""
        fault = f"&blur_from={HEALTHY_WINDOWS * self.window_frames}&sigma={BLUR_SIGMA:g}" if faulty else ""
        if self.clip:
            file = _quoted(str(self.clip.file.resolve()))
            return f"python:driftline.demo.cameras:clip?file={file}&stride={self.clip.stride}{fault}"
        return f"python:driftline.demo.cameras:shelf?seed={number}{fault}"

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Play the healthy scene: for measuring how fast this machine is."""
        if self.clip:
            return cameras.clip(str(self.clip.file), str(self.clip.stride))
        return cameras.shelf("1")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the assays say once every window is in, in order of device, field and time."""

    began_ns: int
    analyses: Sequence[Analysis]
    incidents: Sequence[Incident]

    @property
    def baseline_end_ns(self) -> int:
        """Where the baseline ends."""
        return self.began_ns + BASELINE_WINDOWS * WINDOW_S * NS_PER_S


class Story:
    """Tells the story against one hub; `say` prints progress."""

    def __init__(self, processes: Processes, clock: FastClock, scene: Scene, say: Say) -> None:
        self._processes = processes
        self._clock = clock
        self._scene = scene
        self._say = say
        self._client = driftline.Client(processes.hub())
        self.url = self._client.url
        self.devices = [f"camera-{number}" for number in range(1, DEVICES + 1)]

    def tell(self, fault_device: int | None) -> Findings:
        """Run the whole story; `fault_device` is 1 to 3, or None for no fault."""
        workspace = self._client.get_or_create_workspace(WORKSPACE)
        self._client.set_current_workspace(workspace)
        pipeline = self._published()
        began_ns = self._first_window_ns()
        self._start_devices(began_ns, fault_device)
        self._say(
            f"{DEVICES} cameras, {self._scene.window_frames} frames a window of {WINDOW_S // 60} minutes, "
            f"{WINDOWS} windows from {iso(began_ns)} on"
        )
        self._wait_for_window(began_ns, BASELINE_WINDOWS, "learning what is normal")
        for field in FIELDS:
            self._assay(pipeline, field, began_ns).upload()
        self._say(f"{len(FIELDS)} assays are standing; each camera is compared with its own first windows")
        self._wait_for_window(began_ns, WINDOWS, "watching")
        return self._finished(pipeline, began_ns)

    def check(self) -> None:
        """Raise when one of the processes has ended."""
        self._processes.check()

    def _published(self) -> Any:
        # What the call prints is for a person who waits at a notebook.
        with contextlib.redirect_stdout(io.StringIO()):
            model = self._client.upload_model(
                "shelf-detector",
                str(self._scene.model),
                framework=driftline.Framework.ONNX,
                input_schema=INPUT,
                output_schema=OUTPUT,
                detector=self._scene.detector,
            )
        self._say(f"the hub has loaded {self._scene.model.name} and run it once: ready")
        pipeline = self._client.build_pipeline(PIPELINE).add_model_step(model)
        publish = pipeline.publish()
        for device in self.devices:
            edge = publish.add_edge(device)
            if edge.token is None:
                raise PermanentError(f"{device} has joined this hub before; run the demo in a folder of its own")
            self._processes.join(device, edge.token)
            self._say(f"{device} has joined")
        return pipeline

    def _first_window_ns(self) -> int:
        """Return the start of the first window that begins when every device is surely ready."""
        ready_ns = self._clock.now_ns() + int(READY_S * self._clock.factor * NS_PER_S)
        window_ns = WINDOW_S * NS_PER_S
        return -(-ready_ns // window_ns) * window_ns

    def _start_devices(self, began_ns: int, fault_device: int | None) -> None:
        # Half a frame into the window, so that no frame stands on a window's edge.
        first_ns = began_ns + int(0.5 / self._scene.rate_fps * NS_PER_S)
        for number, device in enumerate(self.devices, start=1):
            source = self._scene.source(number, faulty=number == fault_device)
            rate = repr(self._scene.rate_fps)
            self._processes.run(device, ["--camera", source, "--rate", rate, "--start", iso(first_ns)])

    def _assay(self, pipeline: Any, field: str, began_ns: int) -> Any:
        began = datetime.fromtimestamp(began_ns // NS_PER_S, UTC)
        ended = datetime.fromtimestamp(began_ns // NS_PER_S + BASELINE_WINDOWS * WINDOW_S, UTC)
        builder = self._client.build_assay(
            field.removeprefix("out."),
            pipeline,
            "shelf-detector",
            iopath=field,
            baseline_start=began,
            baseline_end=ended,
        )
        builder.window_builder().add_width(seconds=WINDOW_S).add_interval(seconds=WINDOW_S).add_start(began)
        builder.add_run_until(datetime.fromtimestamp(began_ns // NS_PER_S + WINDOWS * WINDOW_S, UTC))
        return builder.build()

    def _wait_for_window(self, began_ns: int, windows: int, doing: str) -> None:
        """Wait until every device has told of so many windows.

        Raises:
            PermanentError: for minutes no device has told anything new.
        """
        told = said = -1
        deadline = 0.0
        while told < windows:
            self.check()
            now_told = self._windows_told(began_ns)
            if now_told != told:
                told, deadline = now_told, time.monotonic() + SILENCE_TIMEOUT_S
            if told // SAY_EVERY != said:
                said = told // SAY_EVERY
                time_ns = began_ns + told * WINDOW_S * NS_PER_S
                self._say(f"{iso(time_ns)[:16].replace('T', ' ')} UTC  {doing}: {told} of {WINDOWS} windows")
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"the cameras have told of {told} windows and then nothing for {SILENCE_TIMEOUT_S:g} s; "
                    f"their logs are in {self._processes.home}"
                )
            time.sleep(0.25)

    def _windows_told(self, began_ns: int) -> int:
        """Return how many windows every one of the cameras has told of."""
        heard = {device.name: device.complete_until_ns or 0 for device in self._client.list_devices()}
        until_ns = min(heard.get(device, 0) for device in self.devices)
        return min(WINDOWS, max(0, until_ns - began_ns) // (WINDOW_S * NS_PER_S))

    def _finished(self, pipeline: Any, began_ns: int) -> Findings:
        analyses: list[Analysis] = []
        for field in FIELDS:
            analyses += [one.analysis for one in self._assay(pipeline, field, began_ns).interactive_run()]
        order = {field: place for place, field in enumerate(FIELDS)}
        analyses.sort(key=lambda one: (one.device, order[one.field], one.start_ns))
        return Findings(began_ns, analyses, self._standing_incidents())

    def _standing_incidents(self) -> list[Incident]:
        return [one.incident for one in self._client.list_incidents() if one.kind == "drift"]


def scene_of(camera: Path | None, model: Path | None, detector_config: dict[str, Any] | None) -> Scene:
    """Choose what the cameras look at.

    Raises:
        InvalidInputError: a clip that cannot be decoded.
        PermanentError: a clip without a detector that knows what is in it.
    """
    if camera is not None and model is None:
        raise PermanentError(
            "the shipped detector knows only the rendered shelf; give one for this clip with --model FILE "
            "(an ONNX file with outputs boxes, classes, confidences)"
        )
    if model is None:
        return Scene(
            cameras.clip_of(camera) if camera else None,
            Path(__file__).with_name("detector.onnx"),
            driftline.Detector(class_names=tuple(CLASSES)),
        )
    if not model.is_file():
        raise PermanentError(f"there is no model {model}")
    detector = driftline.Detector.parse(detector_config or {})
    return Scene(cameras.clip_of(camera) if camera else None, model, detector)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="/")
