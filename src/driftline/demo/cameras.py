"""The demo's cameras: endless frames from a rendered shelf or a real clip, with a lens that loses focus.

A device opens one as the source `python:driftline.demo.cameras:shelf?seed=1&…`; what follows the question mark are the
arguments of the factory, as text. The fault lies in the frame, before any pipeline: nothing behind knows of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from driftline.demo.scene import Shelf, blurred
from driftline.errors import InvalidInputError

Frame = NDArray[np.uint8]

# One pass of the scene is one window; 120 frames give a window's quantile bins enough to stand on.
PASS_FRAMES = 120
WINDOW_FRAMES_MIN = 60


@dataclass(frozen=True, slots=True)
class Clip:
    """How a clip is used: every `stride`-th frame, `frames` of them a pass, `passes` whole passes a window."""

    file: Path
    stride: int
    frames: int
    passes: int

    @property
    def window_frames(self) -> int:
        """Frames in one window."""
        return self.frames * self.passes


def clip_of(file: Path) -> Clip:
    """Look through a clip and choose the stride, so that one pass is about 120 frames.

    Raises:
        InvalidInputError: no such file, or nothing in it that can be decoded.
    """
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there"
        raise InvalidInputError(f"the clip {file} {what}; name a video file that OpenCV can decode")
    count = sum(1 for _ in _once(file, 1, decode=False))
    if count == 0:
        raise InvalidInputError(f"{file} cannot be decoded as a video; try converting it to H.264 in an MP4 first")
    stride = max(1, round(count / PASS_FRAMES))
    frames = -(-count // stride)
    return Clip(file, stride, frames, -(-WINDOW_FRAMES_MIN // frames))


def shelf(seed: str, blur_from: str = "", sigma: str = "0") -> Iterator[Frame]:
    """Render a shelf for ever; from frame `blur_from` on the lens is out of focus by `sigma` pixels at 640 wide."""
    scene = Shelf(int(seed), frames=PASS_FRAMES)
    faulty_from = int(blur_from) if blur_from else None
    index = 0
    while True:
        faulty = faulty_from is not None and index >= faulty_from
        yield scene.frame(index, blur_sigma=float(sigma) if faulty else 0.0)
        index += 1


def clip(file: str, stride: str = "1", blur_from: str = "", sigma: str = "0") -> Iterator[Frame]:
    """Play every `stride`-th frame of a clip for ever; the lens fails as in `shelf`."""
    faulty_from = int(blur_from) if blur_from else None
    index = 0
    while True:
        began = index
        for frame in _once(Path(file), int(stride)):
            faulty = faulty_from is not None and index >= faulty_from
            yield blurred(frame, float(sigma)) if faulty else frame
            index += 1
        if index == began:
            raise InvalidInputError(f"{file} cannot be decoded any more")


def _once(file: Path, stride: int, *, decode: bool = True) -> Iterator[Frame]:
    """Play the clip once; frames between the strides are grabbed and not decoded."""
    video = cv2.VideoCapture(str(file))
    try:
        position = 0
        while video.grab():
            if position % stride == 0:
                if not decode:
                    yield np.empty((0, 0, 3), np.uint8)
                else:
                    found, frame = video.retrieve()
                    if found:
                        yield np.asarray(frame, np.uint8)
            position += 1
    finally:
        video.release()
