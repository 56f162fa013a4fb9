"""Observers turn an inference's input and output into a few numbers, each under a fixed name: `out.<name>`.

The names stand here, where importing costs nothing; `image` and `detections` do the work.
"""

import re
from collections.abc import Sequence

IMAGE_FIELDS = ("avg_px_intensity", "contrast", "sharpness", "clipped")
DETECTION_FIELDS = ("detections", "avg_confidence", "empty")
OBSERVER_FIELDS = frozenset((*IMAGE_FIELDS, *DETECTION_FIELDS))
# Beyond that a count a class would be more fields than anyone watches; COCO has 80.
COUNTED_CLASSES_MAX = 16


def class_fields(class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the field that counts each class, in the classes' order; none where there are too many or no names.

    >>> class_fields(["person", "wine glass"])
    ('count_person', 'count_wine_glass')
    """
    if not class_names or len(class_names) > COUNTED_CLASSES_MAX:
        return ()
    return tuple("count_" + re.sub(r"\W+", "_", name.strip()) for name in class_names)
