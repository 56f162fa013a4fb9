"""What a detector found, in a few numbers: how many, how sure, of which classes, and whether nothing at all.

An average over detections hides the frames without any, so an empty frame has average confidence 0.0 and is counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.pipeline.observers import class_fields


def detection_fields(
    confidences: NDArray[Any], classes: NDArray[Any] | None = None, class_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the detections observer's fields of one frame, by name without `out.`.

    `confidences` and `classes` have one entry a detection, shape (n,); a class is an index into `class_names`.

    >>> detection_fields(np.array([0.5, 0.7]), np.array([1, 1]), ["person", "cup"])
    {'detections': 2.0, 'avg_confidence': 0.6, 'empty': 0.0, 'count_person': 0.0, 'count_cup': 2.0}
    """
    count = len(confidences)
    fields = {
        "detections": float(count),
        "avg_confidence": float(np.mean(confidences, dtype=np.float64)) if count else 0.0,
        "empty": float(not count),
    }
    if classes is None:
        return fields
    # Two names may become one field (`wine glass`, `wine_glass`): their counts add up.
    for index, name in enumerate(class_fields(class_names)):
        fields[name] = fields.get(name, 0.0) + float(np.count_nonzero(classes == index))
    return fields
