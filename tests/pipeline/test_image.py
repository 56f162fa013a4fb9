"""The image observer's numbers, against arithmetic by hand and against SciPy."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from driftline.errors import InvalidInputError
from driftline.pipeline.observers import IMAGE_FIELDS
from driftline.pipeline.observers.image import image_fields


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(30, 220, (height, width, 3), np.uint8)


def test_it_makes_the_fields_it_is_known_for():
    assert tuple(image_fields(noise())) == IMAGE_FIELDS


def test_an_even_grey_has_its_intensity_and_nothing_else():
    assert image_fields(np.full((4, 6, 3), 51, np.uint8)) == {
        "avg_px_intensity": 51 / 255,
        "contrast": 0.0,
        "sharpness": 0.0,
        "clipped": 0.0,
    }


def test_half_black_half_white_is_all_contrast_and_all_clipped():
    frame = np.zeros((10, 10, 3), np.uint8)
    frame[5:] = 255
    fields = image_fields(frame)
    assert fields["avg_px_intensity"] == 0.5
    assert fields["contrast"] == 0.5
    assert fields["clipped"] == 1.0


def test_sharpness_is_the_variance_of_the_laplacian_as_scipy_has_it():
    frame = noise()
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(float)
    assert image_fields(frame)["sharpness"] == pytest.approx(ndimage.laplace(grey, mode="mirror").var(), rel=1e-9)


def test_blur_takes_the_sharpness_and_leaves_the_light():
    frame = noise(200, 200)
    sharp, blurred = image_fields(frame), image_fields(cv2.GaussianBlur(frame, (0, 0), 2))
    assert blurred["sharpness"] < sharp["sharpness"] / 100
    assert blurred["avg_px_intensity"] == pytest.approx(sharp["avg_px_intensity"], abs=0.005)


def test_a_cut_out_of_a_frame_is_a_frame():
    frame = noise()
    assert image_fields(frame[4:20, 8:40]) == image_fields(frame[4:20, 8:40].copy())


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(bad: np.ndarray):
    with pytest.raises(InvalidInputError, match=r"uint8 \[height, width, 3\]"):
        image_fields(bad)
