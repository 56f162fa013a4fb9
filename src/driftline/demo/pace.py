"""How fast the demo's time may run: as fast as this machine can look at every frame."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.pipeline.run import Pipeline

DEVICES = 3
# Half of the machine is left to the hub, the page that shows it, and whatever else runs.
SHARE_OF_MACHINE = 0.5
FACTOR_MAX = 120.0
PROBE_FRAMES_MIN, PROBE_S = 10, 1.5


def seconds_a_frame(
    frames: Iterator[NDArray[np.uint8]], definition: dict[str, Any], files: dict[str, Path], workdir: Path
) -> float:
    """Measure CPU seconds to make, infer and observe one frame, on the pipeline that the devices will run."""
    with Pipeline(definition, files, workdir=workdir) as pipeline:
        pipeline.start()
        pipeline.frame(next(frames))  # the first inference pays for what is loaded late
        began, count = time.process_time(), 0
        while count < PROBE_FRAMES_MIN or time.process_time() - began < PROBE_S:
            pipeline.frame(next(frames))
            count += 1
        return (time.process_time() - began) / count


def factor(frame_s: float, rate_fps: float, cores: int | None = None) -> float:
    """Return how many times as fast as real time the devices can go without falling behind.

    >>> round(factor(frame_s=0.01, rate_fps=2 / 3, cores=2))
    50
    """
    cores = cores or os.cpu_count() or 1
    return max(1.0, min(FACTOR_MAX, SHARE_OF_MACHINE * cores / (DEVICES * rate_fps * frame_s)))
