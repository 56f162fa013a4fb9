"""From a camera's frame to a detector's input, and from its boxes back to pixels of the frame. Needs OpenCV.

In plain numpy this costs a third of a small detector's own time, with OpenCV a fortieth.
"""

from typing import Any

import cv2
import numpy as np

from driftline.errors import InvalidInputError
from driftline.pipeline.detector import DetectorConfig
from driftline.wire.arrays import Array


class Picture:
    """Prepares frames for one detector, as its configuration says; memory is used again, so one frame at a time."""

    def __init__(self, config: DetectorConfig, width: int, height: int, dtype: "np.dtype[Any]") -> None:
        """Prepare inputs of `width` × `height` pixels and type `dtype`.

        Raises:
            InvalidInputError: an integer input with a configuration that makes fractions.
        """
        self._config = config
        self._width, self._height = width, height
        # (pixel × scale − mean) / std is pixel × gain + offset, one of each a channel.
        std = np.array(config.std or (1.0, 1.0, 1.0))
        self._gain = config.scale / std
        self._offset = -np.array(config.mean or (0.0, 0.0, 0.0)) / std
        self._plain = bool(np.all(self._gain == 1) and np.all(self._offset == 0))
        if dtype.kind != "f" and not self._plain:
            raise InvalidInputError(
                f"detector: the graph takes {dtype.name}, so scale, mean and std stay at their defaults"
            )
        self._canvas = np.full((height, width, 3), config.pad, np.uint8)
        self._filled = (width, height)
        channels_first = config.layout == "NCHW"
        self._tensor = np.zeros((1, 3, height, width) if channels_first else (1, height, width, 3), dtype)
        self._planes = [self._tensor[0, at] if channels_first else self._tensor[0, :, :, at] for at in range(3)]

    def prepare(self, frame: Array) -> Array:
        """Return the input tensor of a frame, uint8 [height, width, 3] in BGR; the next call overwrites it."""
        width, height = self._placed(frame)
        if (width, height) != self._filled:
            self._canvas[:] = self._config.pad
            self._filled = (width, height)
        # Into the canvas itself: the part beside it stays grey from frame to frame.
        cv2.resize(
            np.ascontiguousarray(frame),
            (width, height),
            dst=self._canvas[:height, :width],
            interpolation=cv2.INTER_LINEAR,
        )
        planes = cv2.split(self._canvas)
        if self._config.colour == "RGB":
            planes = planes[::-1]
        for at, plane in enumerate(planes):
            target = self._planes[at]
            if self._plain:
                np.copyto(target, plane, casting="unsafe")
            else:
                np.multiply(plane, self._gain[at], out=target, casting="unsafe", dtype=target.dtype)
                np.add(target, self._offset[at], out=target, casting="unsafe")
        return self._tensor

    def boxes_in_frame(self, boxes: Array, frame: Array) -> Array:
        """Return boxes (n, 4) of x1, y1, x2, y2 in input pixels as pixels of the frame, cut at its border."""
        height, width = frame.shape[:2]
        placed_width, placed_height = self._placed(frame)
        if self._config.letterbox:
            by_x = by_y = self._shrunk(frame)
        else:
            by_x, by_y = placed_width / width, placed_height / height
        scaled = boxes / np.array([by_x, by_y, by_x, by_y], boxes.dtype)
        return np.clip(scaled, 0, np.array([width, height, width, height], boxes.dtype))

    def _shrunk(self, frame: Array) -> float:
        return min(self._width / frame.shape[1], self._height / frame.shape[0])

    def _placed(self, frame: Array) -> tuple[int, int]:
        """Return width and height of the frame inside the input."""
        if not self._config.letterbox:
            return self._width, self._height
        ratio = self._shrunk(frame)
        return max(1, int(frame.shape[1] * ratio)), max(1, int(frame.shape[0] * ratio))
