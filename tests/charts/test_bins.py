from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from driftline.assay.metrics.missing_rate import LABELS
from driftline.charts.bins import bins_chart, range_text
from driftline.charts.scores import score_chart
from driftline.wire.api import Bins, Effect

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


def test_a_category_is_named_at_length_and_its_whole_name_is_there(analysis: Make):
    long = "a category name that is much longer than anybody can read in a chart"
    bins = Bins(
        labels=["person", long, "new"], edges=[],
        baseline=[0.6, 0.4, 0.0], window=[0.5, 0.2, 0.3], contributions=[0.02, 0.14, 1.7],
    )  # fmt: skip
    one = analysis(score=1.86, bins=bins, effect=Effect(outside=0.3))
    one.min = one.max = one.mean = one.median = one.std = None
    root = drawn(bins_chart(one))
    assert "a category name that is much…" in texts(root)
    assert long in ["".join(title.itertext()) for title in root.iter(f"{SVG}title")]
    assert "What changed: 30% in categories that the baseline does not have" in texts(root)
    assert not {"values", "all"} & set(texts(root))
    assert range_text(bins, 0) == "'person'"


def test_what_changed_stands_beside_the_score(analysis: Make, bins: Bins):
    moved = Effect(mean_shift=-3.14, outside=0.84, missing_change=0.12)
    root = drawn(bins_chart(analysis(score=0.6, bins=bins, effect=moved)))
    assert "What changed: mean −3.1 sd, 84% beyond the baseline's range, 12% more have no value" in texts(root)


def test_under_a_promise_the_title_says_what_it_makes_of_the_window(analysis: Make, bins: Bins):
    def root(evidence: float) -> ET.Element:
        return drawn(bins_chart(analysis(score=0.6, bins=bins, evidence=evidence)))

    what = "out.sharpness, camera-1, 09:00–09:03 UTC"
    assert root(38_000.0).find(f"{SVG}title").text == f"{what}: in alarm, score 0.6"
    assert root(1000.0).find(f"{SVG}title").text == f"{what}: close to an alarm, score 0.6"
    assert root(1.0).find(f"{SVG}title").text == f"{what}: no alarm, score 0.6"
    assert "evidence 38,000, where 9,600 make an alarm" in texts(root(38_000.0))


def test_of_very_many_bins_those_that_give_most_are_drawn(analysis: Make):
    n = 60
    bins = Bins(
        labels=[f"c{i:02}" for i in range(n)], edges=[],
        baseline=[1 / n] * n, window=[1 / n] * n, contributions=[i / 100 for i in range(n)],
    )  # fmt: skip
    said = texts(drawn(bins_chart(analysis(score=0.6, bins=bins))))
    assert "c59" in said
    assert "c00" not in said
    assert "36 more bins, which give less, are not drawn" in said


@pytest.mark.parametrize("names", [False, True])
def test_on_a_phone_everything_said_fits_its_width(analysis: Make, bins: Bins, names: bool):
    one = analysis(score=0.6, bins=bins, evidence=38_000.0, effect=Effect(mean_shift=-3.14, outside=0.84))
    if names:
        bins.edges = []
        bins.labels = [f"a category name of some length {i}" for i in range(len(bins.labels))]
        one.min = one.max = one.mean = one.median = one.std = None
    root = drawn(bins_chart(one, width=390))
    assert root.get("width") == "390"
    ends = [float(one.get("x")) + float(one.get("width", 0)) for one in root.iter() if one.get("x") is not None]
    assert max(ends) <= 390
    said = " ".join(texts(root))
    for words in ("in alarm, score 0.6", "What changed: ", "evidence 38,000, where 9,600", "gives to the score"):
        assert words in said
    wide = drawn(bins_chart(one))
    figures = {text for text in texts(wide) if text.removesuffix("%").replace(".", "").isdigit()}
    assert figures <= set(texts(root)), "a phone is told the same"
