"""What a frame looks like, in four numbers: light, contrast, focus, and how much of it is clipped. Needs OpenCV.

They answer what a confidence cannot: mean intensity does not react to blur at all, while the variance of the Laplacian
falls to a tenth long before a detector notices.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from driftline.errors import InvalidInputError

# A video codec spreads full white and black over a few greys; measured on H.264 within two of the end.
BLACK_MAX, WHITE_MIN = 2, 253


def image_fields(frame: NDArray[Any]) -> dict[str, float]:
    """Return the image observer's fields of a frame, uint8 [height, width, 3] in BGR, by name without `out.`.

    `avg_px_intensity` is the mean grey, 0 (black) to 1 (white), `contrast` its standard deviation on the same
    scale, `sharpness` the variance of the Laplacian of the grey (0–255), `clipped` the share of pixels that
    are black or white.

    Raises:
        InvalidInputError: not such a frame.

    Source: variance of the Laplacian as a measure of focus, Pech-Pacheco et al. (2000).
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InvalidInputError(
            f"a frame is uint8 [height, width, 3] in BGR, as OpenCV reads it, not {frame.dtype} {list(frame.shape)}"
        )
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2GRAY)
    mean, deviation = _mean_and_deviation(grey)
    # 16 bits hold the Laplacian of 8-bit grey exactly (at most 4 × 255), in a third of the time of float64.
    _, edges = _mean_and_deviation(cv2.Laplacian(grey, cv2.CV_16S))
    within = cv2.countNonZero(cv2.inRange(grey, BLACK_MAX + 1, WHITE_MIN - 1))  # pyright: ignore[reportCallIssue, reportArgumentType]
    return {
        "avg_px_intensity": mean / 255,
        "contrast": deviation / 255,
        "sharpness": edges * edges,
        "clipped": 1 - within / grey.size,
    }


def _mean_and_deviation(image: NDArray[Any]) -> tuple[float, float]:
    mean, deviation = cv2.meanStdDev(image)
    return float(mean[0, 0]), float(deviation[0, 0])
