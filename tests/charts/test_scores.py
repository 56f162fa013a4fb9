import itertools
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from driftline.charts.findings import finding, what_moved
from driftline.charts.scores import compared_chart, score_chart
from driftline.wire.api import Analysis, Bins, Effect

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
    # One of them explains the others.
    assert len(of_class(root, "dl-hit", "polygon")) == 8 + 1
    assert len(of_class(root, "dl-band")) == 1


def test_a_point_tells_its_facts(story: list[Analysis]):
    titles = ["".join(one.itertext()) for one in drawn(score_chart(story)).iter(f"{SVG}title")]
    assert "camera-3, 09:36–09:39 UTC: score 10.2, Alert, 120 inferences, from rows" in titles


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


def test_one_device_and_several_fields_have_a_panel_each_named_by_field(analysis: Make):
    own = [analysis(i=i, field=field) for field in ("out.a", "out.b") for i in range(3)]
    root = drawn(score_chart(own))
    assert len(of_class(root, "dl-ground")) == 2
    assert {"out.a", "out.b"} <= set(texts(root))
    assert "camera-1" not in texts(root)


def test_many_alerts_in_a_row_do_not_hide_each_other(analysis: Make):
    few = drawn(score_chart([analysis(i=i, score=2.0) for i in range(20)]))
    many = drawn(score_chart([analysis(i=i, score=2.0) for i in range(400)]))
    assert not of_class(few, "dl-dense")
    assert len(of_class(many, "dl-dense", "polygon")) == 400


def test_a_long_title_is_written_smaller_and_a_longer_one_is_cut(analysis: Make):
    def heading(device: str) -> ET.Element:
        (title,) = of_class(drawn(score_chart([analysis(device, score=0.01)])), "dl-title")
        return title

    assert heading("camera-1").get("font-size") == "16"
    long, longer = heading("c" * 60), heading("c" * 200)
    assert long.text.endswith("stays under 0.25")
    assert 12 < float(long.get("font-size")) < 16
    assert longer.text.endswith("…")
    assert longer.get("font-size") == "12"


def test_devices_whose_gaps_find_no_room_are_counted(analysis: Make):
    gaps = [analysis(f"camera-{d}", i, None if i == 2 else 0.01, "NoData" if i == 2 else "Ok")
            for d in range(12) for i in range(5)]  # fmt: skip
    root = drawn(score_chart(gaps))
    assert len(of_class(root, "dl-gap")) == 8
    assert "4 more have windows that were not judged" in texts(root)


# ── under a promise ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def promised(analysis: Make):
    """Three cameras for an hour; evidence against the third grows tenfold a window from 09:36 on."""
    moved = Effect(mean_shift=-3.1, outside=0.84)
    drift = [
        analysis("camera-3", i, 0.2, evidence=min(96_000.0, 10.0 ** (i - 11)), effect=moved) for i in range(12, 20)
    ]
    quiet = [analysis("camera-3", i, 0.03, evidence=0.5) for i in range(12)]
    others = [analysis(device, i, 0.03, evidence=3.0) for i in range(20) for device in ("camera-1", "camera-2")]
    return [*drift, *quiet, *others]


def test_the_title_says_who_is_in_alarm_since_when_and_what_moved(promised: list[Analysis]):
    root = drawn(score_chart(promised))
    assert (
        root.find(f"{SVG}title").text == "camera-3: out.sharpness in alarm since 09:45 UTC; the mean moved by −3.1 sd"
    )


def test_evidence_stands_on_a_logarithmic_axis_with_the_level_of_an_alarm(promised: list[Analysis]):
    root = drawn(score_chart(promised))
    (alarm,) = of_class(root, "dl-alert", "line")
    (warning,) = of_class(root, "dl-warn", "line")
    assert {"alarm at 9,600", "warning at 960", "10", "1,000", "10k"} <= set(texts(root))
    rising = next(one for one in of_class(root, "dl-line") if one.get("stroke-dasharray") == "2 3")
    heights = [float(point.split(",")[1]) for point in rising.get("points").split()]
    steps = [a - b for a, b in itertools.pairwise(heights[12:16])]
    # Ten times the evidence is one and the same step; so is the warning, at a tenth of the alarm.
    assert steps == pytest.approx([steps[0]] * 3, abs=0.05)
    assert float(warning.get("y1")) - float(alarm.get("y1")) == pytest.approx(steps[0], abs=0.05)
    assert max(heights) <= 306
    assert min(heights) >= 70


def test_a_status_has_a_shape_of_its_own(promised: list[Analysis]):
    root = drawn(score_chart([one for one in promised if one.device == "camera-3"]))
    corners = {name: len(of_class(root, name, "polygon")[0].get("points").split()) for name in ("dl-hit", "dl-near")}
    assert corners == {"dl-hit": 3, "dl-near": 4}
    assert of_class(root, "dl-open", "circle")


def test_windows_that_are_not_counted_are_small_and_hollow(analysis: Make):
    own = [analysis(i=i, evidence=20_000.0 if i > 5 else 1.0, counted=i % 3 == 0) for i in range(12)]
    root = drawn(score_chart(own))
    small = of_class(root, "dl-aside")
    assert len(small) == 8 + 1
    assert len(of_class(root, "dl-alarmed")) == 4
    assert "small: not counted" in texts(root)


def test_evidence_is_not_drawn_where_a_window_could_not_be_judged(analysis: Make):
    own = [analysis(i=i, evidence=50.0, status="NoData" if i in {3, 4} else None) for i in range(8)]
    own.append(analysis(i=8, score=None, status="Late", alert=None))
    root = drawn(score_chart(own))
    assert [len(one.get("points").split()) for one in of_class(root, "dl-line")] == [3, 3]
    assert len(of_class(root, "dl-gap")) == 2
    assert not of_class(root, "dl-faint")
    # A baseline that carries no promise is no all-clear either.
    without = drawn(score_chart([analysis(i=i, status="Ok", alert=None) for i in range(3)]))
    assert "no promise" in texts(without)
    assert without.find(f"{SVG}title").text == "out.sharpness: nothing could be judged"


def test_a_new_baseline_is_marked_and_no_line_crosses_it(analysis: Make):
    own = [analysis(i=i, evidence=9.0, baseline_version=1 + (i >= 5)) for i in range(10)]
    root = drawn(score_chart(own))
    assert "baseline 2" in texts(root)
    assert [len(one.get("points").split()) for one in of_class(root, "dl-line")] == [5, 5]


def test_findings_under_a_promise(analysis: Make):
    def stream(device: str, field: str, *evidence: float) -> list[Any]:
        return [analysis(device, i, field=field, evidence=value) for i, value in enumerate(evidence)]

    quiet, loud = (1.0, 2.0, 12.4), (1.0, 20_000.0, 30_000.0)
    assert finding(stream("a", "x", *quiet)) == "x: no alarm on a; the highest evidence is 12.4 of 9,600"
    assert finding(stream("a", "x", *loud)) == "a: x in alarm since 09:03 UTC"
    assert finding(stream("a", "x", 1.0, 9600.0, 0.0)) == "a: x in alarm between 09:03 and 09:06 UTC"
    two = stream("a", "x", *loud) + stream("b", "x", *loud) + stream("c", "x", *quiet)
    assert finding(two) == "x: a and b in alarm since 09:03 UTC"
    assert finding(stream("a", "x", *loud) + stream("a", "y", *loud)) == "a: x and y in alarm since 09:03 UTC"
    mixed = stream("a", "x", *loud) + stream("b", "y", 1.0, 1.0, 90_000.0) + stream("c", "y", *quiet)
    assert finding(mixed) == "b y and 1 more in alarm since 09:03 UTC"


def test_on_a_phone_names_stand_under_the_plot_and_the_title_is_broken(promised: list[Analysis]):
    root = drawn(score_chart(promised, width=390))
    assert root.get("width") == "390"
    titles = of_class(root, "dl-title")
    assert len(titles) > 1
    assert all(len(one.text) < 42 for one in titles)
    bottom = max(float(one.get("y2")) for one in of_class(root, "dl-axis", "line"))
    assert all(float(one.get("y")) > bottom for one in of_class(root, "dl-name"))
    assert not any(float(one.get("x")) > 390 for one in root.iter(f"{SVG}text"))


def test_a_promise_and_a_fixed_threshold_stand_on_one_time_axis(promised: list[Analysis], analysis: Make):
    fixed = [analysis("camera-3", i, 0.3 if i >= 18 else 0.1) for i in range(20)]
    root = drawn(compared_chart(promised, fixed))
    said = "camera-3: out.sharpness in alarm since 09:45 UTC; the fixed 0.25 alerts since 09:54"
    assert root.find(f"{SVG}title").text == said
    assert {"alarm at 9,600", "alert at 0.25"} <= set(texts(root))
    assert any(text.startswith("PSI: the fixed threshold") for text in texts(root))
    ends = {one.get("points").split()[-1].split(",")[0] for one in of_class(root, "dl-line")}
    assert len(ends) == 1
    upper, lower = (float(one.get("y1")) for one in of_class(root, "dl-alert", "line"))
    assert upper < lower
    calm = drawn(compared_chart(promised, [analysis("camera-3", i, 0.1) for i in range(20)]))
    assert calm.find(f"{SVG}title").text.endswith("; the fixed 0.25 says nothing")


def test_one_side_of_a_comparison_is_drawn_alone(promised: list[Analysis]):
    assert compared_chart(promised, []) == score_chart(promised)
    assert "No window is complete yet." in texts(drawn(compared_chart([], [])))


def test_of_text_the_mix_changes_and_of_numbers_the_shape(analysis: Make, bins: Bins):
    said: list[str] = []
    for edges in (bins.edges, []):
        own = analysis(evidence=20_000.0, bins=msgspec.structs.replace(bins, edges=edges), effect=Effect())
        assert own.evidence is not None
        own.evidence.residuals = {"location": 0.1, "omnibus": 9.0}
        said.append(what_moved(own))
    assert said == ["the shape changed", "the mix changed"]
