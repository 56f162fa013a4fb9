from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from driftline.charts.multiples import multiples_chart
from driftline.charts.scores import score_chart
from driftline.wire.api import Analysis

Make = Callable[..., Any]

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str):
    return ET.fromstring(svg)  # noqa: S314  our own output


def of_class(root: ET.Element, name: str, tag: str = "*"):
    return [one for one in root.iter() if name in one.get("class", "").split() and tag in {"*", one.tag[len(SVG) :]}]


def texts(root: ET.Element):
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


@pytest.fixture
def fleet(analysis: Make):
    """Ten cameras, two fields each; camera-4 lost its sharpness, camera-7 is suspected, camera-2 was silent."""

    def evidence(camera: int, field: str, i: int) -> float:
        if (camera, field) == (4, "out.sharpness") and i > 5:
            return 50_000.0
        return 2000.0 if camera == 7 and i == 9 else 1.0 + camera / 100

    return [
        analysis(
            f"camera-{camera:02}",
            i,
            field=field,
            evidence=evidence(camera, field, i),
            status="NoData" if camera == 2 and i == 4 else None,
        )
        for camera in range(10)
        for field in ("out.light", "out.sharpness")
        for i in range(10)
    ]


def names(root: ET.Element):
    bold = [one for one in of_class(root, "dl-bold", "text") if one.get("x") == "20"]
    return ["".join(one.itertext()) for one in bold]


def test_the_worst_comes_first_and_what_is_not_drawn_is_counted(fleet: list[Analysis]):
    root = drawn(multiples_chart(fleet, most=5))
    assert names(root)[:3] == ["camera-04", "camera-07", "camera-07"]
    assert len(of_class(root, "dl-ground")) == 5
    assert "15 more not drawn; their highest evidence is 1.08" in texts(root)
    assert root.find(f"{SVG}title").text == "camera-04: out.sharpness in alarm since 09:18 UTC"


def test_each_panel_has_its_threshold_and_all_have_one_scale(fleet: list[Analysis]):
    root = drawn(multiples_chart(fleet, most=20))
    grounds = [float(one.get("y")) for one in of_class(root, "dl-ground")]
    alarms = [float(one.get("y1")) for one in of_class(root, "dl-alert", "line")]
    assert len(alarms) == 20
    assert [alarm - ground for alarm, ground in zip(alarms, grounds, strict=True)] == pytest.approx(
        [alarms[0] - grounds[0]] * 20
    )
    assert {one.get("x1") for one in of_class(root, "dl-alert", "line")} == {"196"}


def test_a_panel_says_its_state_in_words_and_by_shape(fleet: list[Analysis]):
    said = texts(drawn(multiples_chart(fleet)))
    assert "alarm since 09:18" in said
    assert said.count("warning") == 2
    assert "ok" in said


def test_gaps_are_drawn_where_they_are(fleet: list[Analysis]):
    root = drawn(multiples_chart([one for one in fleet if one.device == "camera-02"]))
    assert len(of_class(root, "dl-gap")) == 2
    assert [len(one.get("points").split()) for one in of_class(root, "dl-line")] == [4, 5] * 2


def test_hidden_alarms_are_not_passed_over_in_silence(analysis: Make):
    own = [analysis(f"camera-{c:02}", i, evidence=30_000.0) for c in range(14) for i in range(3)]
    assert "2 more not drawn, 2 of them in alarm" in texts(drawn(multiples_chart(own)))


def test_a_chart_of_scores_becomes_multiples_where_lines_would_cross(fleet: list[Analysis], analysis: Make):
    assert score_chart(fleet) == multiples_chart(fleet)
    five = [one for one in fleet if one.field == "out.light" and one.device < "camera-05"]
    assert len(of_class(drawn(score_chart(five)), "dl-ground")) == 5
    assert not of_class(drawn(score_chart([one for one in five if one.device < "camera-04"])), "dl-ground")
    # Under a fixed alarm one plot holds any number of devices of one field.
    assert not of_class(
        drawn(score_chart([analysis(f"camera-{c}", i) for c in range(9) for i in range(3)])), "dl-ground"
    )


def test_on_a_phone_every_name_stands_above_its_panel(fleet: list[Analysis]):
    root = drawn(multiples_chart(fleet, width=390))
    assert root.get("width") == "390"
    assert not any(float(one.get("x")) > 390 for one in root.iter(f"{SVG}text"))
    assert "camera-04 out.sharpness" in texts(root)


def test_names_are_escaped(analysis: Make):
    svg = multiples_chart([analysis("<b>&", i, field="<i>", evidence=1.0) for i in range(3)])
    assert "<b>" not in svg
    assert "<i>" not in svg
    drawn(svg)
