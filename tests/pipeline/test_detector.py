"""A detector's configuration: YOLOX by default, JSON in and out, and nothing that no picture can be prepared with."""

from typing import Any

import pytest

from driftline.errors import InvalidInputError
from driftline.pipeline.detector import DetectorConfig


def test_the_default_is_yolox_convention():
    config = DetectorConfig()
    assert (config.letterbox, config.pad, config.colour, config.scale, config.layout) == (True, 114, "BGR", 1.0, "NCHW")


def test_it_reads_back_what_it_wrote():
    config = DetectorConfig(
        size=(320, 240), colour="RGB", mean=(0.5, 0.5, 0.5), std=(1, 2, 3), class_names=("cup", "bottle")
    )
    assert DetectorConfig.parse(config.document) == config
    assert DetectorConfig.parse({}) == DetectorConfig()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is an object"),
        ({"color": "RGB"}, "there is no 'color'; it knows input, size"),
        ({"colour": "GREY"}, "colour is BGR or RGB"),
        ({"layout": "CHW"}, "layout is NCHW or NHWC"),
        ({"letterbox": 1}, "letterbox is true or false"),
        ({"pad": 300}, "pad is a grey of 0 to 255"),
        ({"pad": 1.5}, "pad is a whole number"),
        ({"scale": float("nan")}, "scale is a number"),
        ({"scale": "1/255"}, "scale is a number"),
        ({"mean": [1, 2]}, "mean is three numbers"),
        ({"std": [1, 0, 1]}, "std divides"),
        ({"size": 416}, "width, height"),
        ({"size": [0, 416]}, "width, height"),
        ({"score_threshold": 1.5}, "score_threshold is 0 to 1"),
        ({"boxes": "same", "classes": "same"}, "three different outputs"),
        ({"class_names": "cup"}, "a list of names"),
        ({"boxes": ""}, "boxes is a word"),
    ],
)
def test_what_cannot_be_used_is_named(document: Any, message: str):
    with pytest.raises(InvalidInputError, match=message):
        DetectorConfig.parse(document)
