"""The detections observer: an empty frame is confidence 0.0 and counted, never left out."""

import math

import numpy as np
import pytest

from driftline.pipeline.observers.detections import detection_fields


def test_a_frame_without_detections_has_confidence_zero_and_says_it_is_empty():
    assert detection_fields([]) == {"detections": 0.0, "avg_confidence": 0.0, "empty": 1.0}


def test_confidences_are_averaged_and_classes_counted_by_name():
    fields = detection_fields([0.25, 0.75], [2, 0], ["cup", "bottle", "wine glass"])
    assert fields == {
        "detections": 2.0,
        "avg_confidence": 0.5,
        "empty": 0.0,
        "count_cup": 1.0,
        "count_bottle": 0.0,
        "count_wine_glass": 1.0,
    }


def test_names_that_become_one_field_are_counted_together():
    fields = detection_fields([1.0] * 3, [0, 1, 1], ["wine glass", "wine_glass"])
    assert fields["count_wine_glass"] == 3.0


def test_more_classes_than_anybody_watches_are_not_counted_one_by_one():
    fields = detection_fields([1.0], [0], [f"class {n}" for n in range(80)])
    assert set(fields) == {"detections", "avg_confidence", "empty"}


def test_classes_that_a_model_gives_as_floats_are_counted():
    assert detection_fields([1.0, 1.0], [1.0, 1.0], ["a", "b"])["count_b"] == 2.0


def test_a_confidence_that_is_no_number_does_not_pass_for_one():
    assert math.isnan(detection_fields([0.5, math.nan])["avg_confidence"])
    assert math.isnan(detection_fields([math.inf, -math.inf])["avg_confidence"])


@pytest.mark.parametrize("count", [1, 7])
def test_the_mean_is_taken_in_double_precision(count: int):
    confidences = np.full(count, 0.1, np.float32)
    assert detection_fields(confidences.tolist())["avg_confidence"] == float(np.float32(0.1))
