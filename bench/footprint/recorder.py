"""What recording costs beside the detector: CPU seconds of YOLOX-Nano alone, and with observers and recorder.

Frames of a real clip go one after the other, as fast as it can, through the detector, and through the whole pipeline,
whose twenty fields are counted. Both in turns with each frame, now one first and now the other, so that both meet the
same neighbours and the same pace of the machine.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.footprint.figures import Figure, told
from driftline.clock import NS_PER_S, ManualClock
from driftline.edge.recorder import Recorder
from driftline.pipeline.definition import make_definition
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.onnx_step import OnnxStep
from driftline.pipeline.run import Pipeline
from driftline.pipeline.schema import parse_schema
from driftline.summary.grid import quantile_grid
from driftline.wire.device import Desired, DesiredPipeline

Frame = NDArray[np.uint8]
SHARE_MAX = 6.0
FIELDS = 20
FRAMES, ROUNDS = 120, 7
T0_NS = 1_767_261_600 * NS_PER_S
FRAME = [{"name": "image", "type": "uint8", "shape": [None, None, 3]}]
FOUND = [
    {"name": "boxes", "type": "float32", "shape": [None, 4]},
    {"name": "classes", "type": "int64", "shape": [None]},
    {"name": "confidences", "type": "float32", "shape": [None]},
]


def recording(*, quick: bool, samples: Path) -> tuple[dict[str, object], list[str]]:
    """Measure the share."""
    frames = frames_of(samples / "video" / "bottle-detection.mp4", 20 if quick else FRAMES)
    model = samples / "models" / "yolox_nano_e2e.onnx"
    names = (samples / "models" / "coco_classes.txt").read_text().splitlines()
    # The four of the picture, the three of detections, and a count for each of these classes.
    detector = DetectorConfig(class_names=tuple(names[: FIELDS - 7]))
    step = {"model": "m", "name": "yolox", "framework": "onnx", "digest": "", "detector": detector.document}
    definition = make_definition("shelf", [step | {"input_schema": FRAME, "output_schema": FOUND}])
    if len(definition["fields"]) != FIELDS:
        raise RuntimeError(f"the pipeline records {len(definition['fields'])} fields, not {FIELDS}")
    alone = OnnxStep("yolox", model.read_bytes(), parse_schema(FRAME), parse_schema(FOUND), detector)
    with Pipeline(definition, {"m": model}) as pipeline:
        pipeline.start()
        recorder = _recorder(definition)

        def detect(number: int) -> None:
            alone.run({"image": frames[number]})

        def record(number: int) -> None:
            frame, at_ns = frames[number], T0_NS + number * NS_PER_S // 30
            recorder.record("pv", at_ns, pipeline.values({"image": frame}, pipeline.frame(frame)))

        def turn(first: int) -> tuple[float, float]:
            spent = {detect: 0.0, record: 0.0}
            for number in range(len(frames)):
                for one in (detect, record) if (number + first) % 2 else (record, detect):
                    spent[one] += _cpu_s(one, number)
            return spent[detect], spent[record]

        turn(0)
        turns = [turn(one) for one in range(2 if quick else ROUNDS)]
    without, whole = (statistics.median(one) / len(frames) * 1e3 for one in zip(*turns, strict=True))
    share = statistics.median(b / a - 1 for a, b in turns) * 100
    figures = [
        Figure("YOLOX-Nano, a frame", without, "ms", None, f"CPU; {1e3 / without:.0f} frames a second on one core"),
        Figure("with observers and recorder", whole, "ms", None, "CPU"),
        Figure("observers and recorder, of the detector's CPU", share, "%", SHARE_MAX),
    ]
    return told(f"Recording {FIELDS} fields of each frame", figures)


def frames_of(video: Path, count: int) -> list[Frame]:
    """Return the first frames of a clip."""
    capture = cv2.VideoCapture(str(video))
    frames = [capture.read()[1] for _ in range(count)]
    if any(frame is None for frame in frames):
        raise FileNotFoundError(f"{video} has fewer than {count} frames, or is not there")
    return [np.asarray(frame, np.uint8) for frame in frames]


def _recorder(definition: dict[str, object]) -> Recorder:
    # On learned grids, as a device counts from its seventeenth minute on.
    grid = quantile_grid(np.random.default_rng(1).normal(size=1000).tolist())
    keys = [str(one["key"]) for one in definition["fields"]]  # type: ignore[union-attr,index]
    wanted = DesiredPipeline("pv", "shelf", definition, grids=dict.fromkeys(keys, grid.id), rows_max=0)
    recorder = Recorder(lambda *_: None, ManualClock(T0_NS))
    recorder.configure(Desired((wanted,), {grid.id: grid.edges}), {}, T0_NS)
    return recorder


def _cpu_s(call: Callable[[int], None], number: int) -> float:
    began = time.process_time()
    call(number)
    return time.process_time() - began
