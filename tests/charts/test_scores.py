import itertools
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from driftline.charts.scores import finding, score_chart
from driftline.wire.api import Analysis

Make = Callable[..., Any]

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str):
    """Parse a chart; what is not well-formed XML fails here."""
    return ET.fromstring(svg)  # noqa: S314  our own output


def of_class(root: ET.Element, name: str, tag: str = "*"):
    return [one for one in root.iter() if name in one.get("class", "").split() and tag in {"*", one.tag[len(SVG) :]}]


def texts(root: ET.Element):
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


@pytest.fixture
def story(analysis: Make):
    """Three cameras for an hour; the third loses focus at 09:36."""
    return [
        analysis(device, i, 9.0 + 0.1 * i if device == "camera-3" and i >= 12 else 0.03)
        for i in range(20)
        for device in ("camera-1", "camera-2", "camera-3")
    ]


def test_the_title_says_the_finding(story: list[Analysis]):
    root = drawn(score_chart(story))
    assert root.find(f"{SVG}title").text == "out.sharpness: camera-3 over 0.25 since 09:36 UTC"
    assert "out.sharpness: camera-3 over 0.25 since 09:36 UTC" in texts(root)
    assert root.get("role") == "img"
    assert (
        "camera-3: 20 windows, highest score 10.9, 8 in alert, the first at 09:36 UTC." in root.find(f"{SVG}desc").text
    )


def test_a_title_of_ones_own_is_taken(story: list[Analysis]):
    assert "<title>Mine &lt;b&gt;</title>" in score_chart(story, title="Mine <b>")


def test_findings_of_every_kind(analysis: Make):
    def said(scores: list[Any], **facts: Any) -> str:
        return finding([analysis(i=i, score=score, **facts) for i, score in enumerate(scores)])

    assert said([0.01, 0.02]) == "out.sharpness: camera-1 stays under 0.25"
    assert said([0.01, 0.3, 0.01, 0.4]) == "out.sharpness: camera-1 over 0.25 since 09:09 UTC"
    assert said([0.01, 0.3, 0.4, 0.01]) == "out.sharpness: camera-1 over 0.25 between 09:03 and 09:09 UTC"
    assert said([0.01, 0.3], width_s=86_400).endswith("since 2 Jan 09:00 UTC")
    assert said([None, None], status="NoData") == "out.sharpness: nothing could be judged"
    # Silence does not end a drift.
    silent = [analysis(i=0, score=0.5), analysis(i=1, score=None, status="NoData")]
    assert finding(silent) == "out.sharpness: camera-1 over 0.25 since 09:00 UTC"
    many = [analysis(f"camera-{n}", score=1.0) for n in range(5)] + [analysis("camera-9")]
    assert finding(many) == "out.sharpness: 5 of 6 over 0.25 since 09:00 UTC"
    assert finding(many[:2]) == "out.sharpness: camera-0 and camera-1 over 0.25 since 09:00 UTC"
    assert finding([analysis("a"), analysis("b")]) == "out.sharpness: no device over 0.25"


def test_thresholds_are_drawn_and_named(analysis: Make):
    root = drawn(score_chart([analysis(score=0.1, warning=0.15)]))
    (alert,) = of_class(root, "dl-alert", "line")
    (warning,) = of_class(root, "dl-warn", "line")
    assert float(alert.get("y1")) == float(alert.get("y2")) < float(warning.get("y1"))
    assert {"alert at 0.25", "warning at 0.15"} <= set(texts(root))


def test_each_device_has_its_own_colour_dash_marker_and_name(story: list[Analysis]):
    root = drawn(score_chart(story))
    lines = of_class(root, "dl-line")
    assert len(lines) == 3
    assert len({line.get("stroke-dasharray") for line in lines}) == 3
    assert {"camera-1", "camera-2", "camera-3"} <= set(texts(root))
    names = of_class(root, "dl-name")
    assert len({name.get("y") for name in names}) == 3
    markers = {(one.tag, len(one.get("points", "").split())) for one in of_class(root, "dl-open")}
    assert len(markers) >= 3


def test_a_line_is_broken_where_there_is_no_score(analysis: Make):
    scores = [0.1, 0.1, None, None, 0.1, 0.1, 0.1]
    own = [analysis(i=i, score=s, status="NoData" if s is None else None) for i, s in enumerate(scores)]
    root = drawn(score_chart(own))
    assert [len(line.get("points").split()) for line in of_class(root, "dl-line")] == [2, 3]
    (box,) = of_class(root, "dl-gap")
    assert "no data" in texts(root)
    first, last = (
        float(line.get("points").split()[end].split(",")[0])
        for line, end in zip(of_class(root, "dl-line"), (-1, 0), strict=True)
    )
    assert first < float(box.get("x")) < float(box.get("x")) + float(box.get("width")) < last


def test_a_point_between_two_gaps_does_not_vanish(analysis: Make):
    own = [analysis(i=i, score=0.1 if i == 150 else None, status="Ok" if i == 150 else "NoData") for i in range(300)]
    assert len(of_class(drawn(score_chart(own)), "dl-open")) >= 1


def test_what_was_not_judged_is_marked_by_its_reason(analysis: Make):
    own = [
        analysis(i=0, score=0.1),
        analysis(i=1, score=0.4, status="TooFew"),
        analysis(i=2, score=None, status="NoData"),
        analysis(i=3, score=None, status="Late"),
    ]
    root = drawn(score_chart(own))
    assert {"too few values", "no data", "not heard yet"} <= set(texts(root))
    assert len(of_class(root, "dl-gap")) == 3
    # Its score is shown, faintly, and is no alert.
    assert of_class(root, "dl-faint")
    assert not of_class(root, "dl-hit")


def test_alerts_are_larger_and_full(story: list[Analysis]):
    root = drawn(score_chart(story))
    hits = of_class(root, "dl-hit", "polygon")
    assert len(hits) == 8
    assert len(of_class(root, "dl-band")) == 1


def test_a_point_tells_its_facts(story: list[Analysis]):
    titles = ["".join(one.itertext()) for one in drawn(score_chart(story)).iter(f"{SVG}title")]
    assert "camera-3, 09:36–09:39 UTC: 10.2, Alert, 120 inferences, from rows" in titles


def test_the_time_axis_is_true_and_in_utc(story: list[Analysis]):
    root = drawn(score_chart(story))
    ticks = {
        "".join(one.itertext()): float(one.get("x"))
        for one in root.iter(f"{SVG}text")
        if re.fullmatch(r"\d\d:\d\d", "".join(one.itertext()))
    }
    assert list(ticks) == ["09:00", "09:10", "09:20", "09:30", "09:40", "09:50", "10:00"]
    places = list(ticks.values())
    assert all(b - a == pytest.approx(places[1] - places[0], abs=0.02) for a, b in itertools.pairwise(places))
    assert "UTC" in texts(root)


@pytest.mark.parametrize("highest", [0.01, 0.3, 2.0, 14.0, 5000.0])
def test_threshold_and_values_can_be_read_at_any_size(analysis: Make, highest: float):
    root = drawn(score_chart([analysis(i=0, score=0.01), analysis(i=1, score=highest)]))
    (alert,) = of_class(root, "dl-alert", "line")
    y = float(alert.get("y1"))
    # Neither at the foot nor at the head of a plot that reaches from 70 to 306.
    assert 110 < y < 270
    for line in of_class(root, "dl-line"):
        heights = [float(point.split(",")[1]) for point in line.get("points").split()]
        assert all(70 <= height <= 306 for height in heights)
        assert (heights[1] < y) == (highest > 0.25)


def test_names_are_escaped_and_cut(analysis: Make):
    name = "<script>alert('x')</script> & a name that is far too long \x00\ud800"
    svg = score_chart([analysis(name, i, 0.5, field="out.<b>") for i in range(3)])
    drawn(svg)
    assert "<script>" not in svg
    assert "<b>" not in svg
    svg.encode()


def test_of_many_devices_those_in_alert_stand_out(analysis: Make):
    own = [analysis(f"shop-{d:02}", i, 1.0 if d == 7 else 0.02) for d in range(40) for i in range(5)]
    root = drawn(score_chart(own))
    assert {"".join(one.itertext()) for one in of_class(root, "dl-name")} == {"shop-07"}
    assert "39 others" in texts(root)
    assert len(of_class(root, "dl-line")) == 40


def test_names_stay_on_the_chart_however_lines_end(analysis: Make):
    own = [analysis(f"camera-{d}", i, 0.001 * d) for d in range(8) for i in range(5)]
    heights = sorted(float(one.get("y")) for one in of_class(drawn(score_chart(own)), "dl-name"))
    assert heights[0] > 70
    assert heights[-1] < 310
    assert all(b - a >= 12 for a, b in itertools.pairwise(heights))


def test_no_analyses_make_a_chart_that_says_so():
    assert "No window is complete yet." in texts(drawn(score_chart([])))


def test_the_same_analyses_make_the_same_chart_in_any_order(story: list[Analysis]):
    assert score_chart(story) == score_chart(story[::-1])


def test_one_device_and_several_fields_are_named_by_field(analysis: Make):
    own = [analysis(i=i, field=field) for field in ("out.a", "out.b") for i in range(3)]
    root = drawn(score_chart(own))
    assert {"".join(one.itertext()) for one in of_class(root, "dl-name")} == {"out.a", "out.b"}


def test_many_alerts_in_a_row_do_not_hide_each_other(analysis: Make):
    few = drawn(score_chart([analysis(i=i, score=2.0) for i in range(20)]))
    many = drawn(score_chart([analysis(i=i, score=2.0) for i in range(400)]))
    assert not of_class(few, "dl-dense")
    assert len(of_class(many, "dl-dense", "circle")) == 400


def test_a_long_title_is_written_smaller_and_a_longer_one_is_cut(analysis: Make):
    def heading(device: str) -> ET.Element:
        (title,) = of_class(drawn(score_chart([analysis(device, score=0.01)])), "dl-title")
        return title

    assert heading("camera-1").get("style") is None
    long, longer = heading("c" * 60), heading("c" * 200)
    assert long.text.endswith("stays under 0.25")
    assert 12 < float(long.get("style").removeprefix("font-size:").removesuffix("px")) < 16
    assert longer.text.endswith("…")
    assert longer.get("style") == "font-size:12px"


def test_devices_whose_gaps_find_no_room_are_counted(analysis: Make):
    gaps = [analysis(f"camera-{d}", i, None if i == 2 else 0.01, "NoData" if i == 2 else "Ok")
            for d in range(12) for i in range(5)]  # fmt: skip
    root = drawn(score_chart(gaps))
    assert len(of_class(root, "dl-gap")) == 8
    assert "4 more have windows that were not judged" in texts(root)
