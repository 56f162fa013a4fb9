"""What a detector found, in a few numbers: how many, how sure, of which classes, and whether nothing at all.

An average over detections hides the frames without any, so an empty frame has average confidence 0.0 and is counted.
The standard library alone: a device that only observes has no numpy.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from driftline.pipeline.observers import class_fields


def detection_fields(
    confidences: Sequence[float], classes: Sequence[Any] | None = None, class_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the detections observer's fields of one frame, by name without `out.`.

    `confidences` and `classes` have one entry a detection; a class is an index into `class_names`, which may be
    written as a float.

    >>> detection_fields([0.5, 0.7], [1, 1.0], ["person", "cup"])
    {'detections': 2.0, 'avg_confidence': 0.6, 'empty': 0.0, 'count_person': 0.0, 'count_cup': 2.0}
    """
    count = len(confidences)
    fields = {
        "detections": float(count),
        "avg_confidence": _mean(confidences) if count else 0.0,
        "empty": float(not count),
    }
    if classes is None:
        return fields
    found = Counter(classes)
    # Two names may become one field (`wine glass`, `wine_glass`): their counts add up.
    for index, name in enumerate(class_fields(class_names)):
        fields[name] = fields.get(name, 0.0) + float(found[index])
    return fields


def _mean(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers) / len(numbers)
    except (ValueError, OverflowError):  # infinities of both signs, or too large a sum: no mean
        return math.nan
