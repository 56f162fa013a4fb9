from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from driftline.assay.metrics.missing_rate import LABELS
from driftline.charts.bins import bins_chart, range_text
from driftline.charts.scores import score_chart
from driftline.wire.api import Bins

Make = Callable[..., Any]

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str):
    return ET.fromstring(svg)  # noqa: S314  our own output


def texts(root: ET.Element):
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def bars(root: ET.Element, name: str):
    return [float(one.get("width")) for one in root.iter(f"{SVG}rect") if one.get("class") == name]


def test_shares_and_contributions_are_drawn_bin_by_bin(analysis: Make, bins: Bins):
    root = drawn(bins_chart(analysis(score=0.6268, bins=bins)))
    assert root.find(f"{SVG}title").text == "out.sharpness, camera-1, 09:00–09:03 UTC: 0.627, over 0.25"
    now = bars(root, "dl-now")[1:]  # the first is the legend's
    # The longest bar is the largest share; the others are in proportion.
    assert [one / max(now) for one in now] == pytest.approx([0, 2 / 7, 1, 1 / 7], abs=1e-3)
    before = list(bars(root, "dl-before")[1:])
    assert before[2] / max(now) == pytest.approx(5 / 7, abs=1e-3)
    assert {"left_outlier", "q_50", "q_100", "right_outlier"} <= set(texts(root))
    assert {"< 0", "0 – 1", "1 – 2", "> 2"} <= set(texts(root))
    assert {"20%", "70%", "10%", "0.285", "0.275"} <= set(texts(root))


def test_the_bin_that_gives_most_is_named(analysis: Make, bins: Bins):
    root = drawn(bins_chart(analysis(score=0.6268, bins=bins)))
    assert len(bars(root, "dl-most")) == 1
    assert any("most comes from right_outlier: 10% where the baseline has 0%" in text for text in texts(root))


def test_a_window_without_bins_says_so(analysis: Make):
    root = drawn(bins_chart(analysis(score=None, status="NoData")))
    assert root.find(f"{SVG}title").text.endswith("no score (NoData)")
    assert any("no bins to show" in text for text in texts(root))


def test_a_window_like_its_baseline_blames_no_bin(analysis: Make, bins: Bins):
    bins.window, bins.contributions = bins.baseline, [0.0] * 4
    root = drawn(bins_chart(analysis(score=0.0, bins=bins)))
    assert not bars(root, "dl-most")
    assert not any("most comes from" in text for text in texts(root))


def test_names_are_escaped(analysis: Make, bins: Bins):
    bins.labels[1] = "< 20%"
    svg = bins_chart(analysis("<b>&", score=0.5, bins=bins))
    assert "&lt; 20%" in svg
    assert "<b>" not in svg
    drawn(svg)


def test_a_value_with_a_bin_of_its_own_is_written_once(bins: Bins):
    atom = Bins(
        labels=["left_outlier", "q_50", "q_90", "right_outlier"],
        edges=[-5e-324, 0.0, 3.0], baseline=[], window=[], contributions=[],
    )  # fmt: skip
    assert [range_text(atom, i) for i in range(4)] == ["< 0", "0", "0 – 3", "> 3"]
    given = Bins(
        labels=["left_outlier", "e_1.00e0", "right_outlier"], edges=[0.0, 1.0], baseline=[], window=[], contributions=[]
    )
    assert range_text(given, 0) == "≤ 0"


def test_what_is_measured_is_said_with_its_unit(analysis: Make, bins: Bins):
    for draw in (bins_chart, lambda one: score_chart([one])):
        said = texts(drawn(draw(analysis(score=0.6, bins=bins, metric="wasserstein"))))
        assert any("Wasserstein distance in the field's unit" in text for text in said)


def test_missing_values_have_bins_without_a_range(analysis: Make):
    bins = Bins(labels=list(LABELS), edges=[0.5], baseline=[0.95, 0.05], window=[0.5, 0.5], contributions=[0.0, 0.45])
    said = texts(drawn(bins_chart(analysis(score=0.45, bins=bins, metric="missing_rate"))))
    assert {"has a value", "missing"} <= set(said)
    assert not any("0.5" in text for text in said if "≤" in text or ">" in text)
