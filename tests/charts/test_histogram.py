from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from driftline.charts.histogram import histogram
from driftline.wire.api import BaselineStats

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str):
    return ET.fromstring(svg)  # noqa: S314  our own output


def texts(root: ET.Element):
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def boxes(root: ET.Element):
    return [
        (float(one.get("width")), float(one.get("height")))
        for one in root.iter(f"{SVG}rect")
        if one.get("class") == "dl-now"
    ]


def stats(**facts: Any):
    own: dict[str, Any] = {
        "field": "out.sharpness",
        "device": "camera-1",
        "count": 100,
        "missing": 0,
        "min": 0.0,
        "max": 4.0,
        "mean": 1.5,
        "median": 1.0,
        "std": 1.0,
    }
    return BaselineStats(**(own | facts))


def test_values_are_drawn_with_their_mean_and_median():
    values = np.random.default_rng(0).normal(10, 2, 1000)
    root = drawn(histogram([*values, np.nan], field="out.x"))
    assert f"mean {values.mean():.3g}" in texts(root)
    assert f"median {np.median(values):.3g}" in texts(root)
    assert any("1000 values, 1 missing" in text for text in texts(root))
    heights = [height for _, height in boxes(root)]
    assert len(heights) <= 50
    # A normal's histogram has its peak inside and little at its ends.
    assert max(heights) > 5 * heights[0]


def test_a_baseline_known_by_counts_is_drawn_by_its_bins_with_area_as_share():
    own = stats(edges=[-1e-9, 1.0, 2.0, 4.0], labels=list("abcde"), shares=[0, 0.5, 0.25, 0.25, 0])
    widths_and_heights = boxes(drawn(histogram(own)))
    areas = [width * height for width, height in widths_and_heights]
    assert len(areas) == 3
    assert [area / sum(areas) for area in areas] == pytest.approx([0.5, 0.25, 0.25], abs=0.01)


def test_raw_values_are_preferred_where_the_statistics_have_them():
    root = drawn(histogram(stats(values=[0.0, 1.0, None, 4.0], missing=1, count=4)))
    assert any("share of values in each bar" in text for text in texts(root))


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_nothing_to_draw_is_said(values: Any):
    assert "There is no finite value to draw." in texts(drawn(histogram(values)))


def test_a_constant_is_one_bar():
    root = drawn(histogram([7.0] * 20, field="out.<x>"))
    assert root.find(f"{SVG}title").text == "out.<x>: always 7"
    assert sum(height > 0 for _, height in boxes(root)) == 1
    constant = stats(min=7.0, max=7.0, mean=7.0, median=7.0, edges=[6.9, 7.0], labels=list("abc"), shares=[0, 1, 0])
    assert sum(height > 0 for _, height in boxes(drawn(histogram(constant)))) == 1


def test_whole_numbers_have_bars_of_their_own():
    counts = np.random.default_rng(1).poisson(4, 500)
    root = drawn(histogram(counts))
    assert len(boxes(root)) == counts.max() - counts.min() + 1
    assert len({round(width, 3) for width, _ in boxes(root)}) == 1
    assert all(height > 0 for _, height in boxes(root))
    assert not [text for text in texts(root) if text.endswith(".5")]


def test_bars_of_many_whole_numbers_hold_equally_many_of_them():
    heights = [height for _, height in boxes(drawn(histogram(np.arange(1000))))]
    assert max(heights[:-1]) == pytest.approx(min(heights[:-1]), abs=0.02)


@pytest.mark.parametrize(
    "values", [[1.0, np.nextafter(1.0, 2.0)], [0.0, 5e-324], [1e300, -1e300, 1.7e308, -1.7e308, 1.0], [1e15, 1e15 + 50]]
)
def test_values_without_room_between_them_are_drawn_all_the_same(values: list[float]):
    assert boxes(drawn(histogram(values)))


def test_ticks_of_large_values_can_be_told_apart():
    labels = [text for text in texts(drawn(histogram(1e9 + np.arange(1000)))) if text.startswith("1000000")]
    assert len(set(labels)) == len(labels) >= 3


def test_a_category_has_a_bar_a_name():
    nothing = dict.fromkeys(("min", "max", "mean", "median", "std"))
    shares = {"labels": ["person", "car"], "shares": [0.75, 0.25], "values": ["person", "car", None]}
    root = drawn(histogram(stats(**nothing, **shares, missing=20)))
    assert root.find(f"{SVG}title").text == "out.sharpness on camera-1: 75% are person"
    assert {"person", "car", "75.0%", "80 values, 20 missing; share of each of 2 categories"} <= set(texts(root))


def test_on_a_phone_numbers_and_categories_fit_its_width():
    values = np.random.default_rng(0).lognormal(6, 0.2, 500)
    named = stats(
        min=None, max=None, mean=None, median=None, std=None, labels=["a long name " * 3, "b"], shares=[0.9, 0.1]
    )
    for given in (
        values,
        stats(edges=[-1e-9, 1.0, 2.0, 4.0], labels=list("abcde"), shares=[0, 0.5, 0.25, 0.25, 0]),
        named,
    ):
        root = drawn(histogram(given, width=390))
        assert root.get("width") == "390"
        ends = [float(one.get("x")) + float(one.get("width", 0)) for one in root.iter() if one.get("x") is not None]
        assert max(ends) <= 390
        assert boxes(root)
        assert len(boxes(root)) == len(boxes(drawn(histogram(given)))), "a phone is shown the same"
