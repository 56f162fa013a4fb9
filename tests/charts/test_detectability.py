from typing import Any
from xml.etree import ElementTree as ET

import pytest

from driftline.charts.detectability import detectability_chart, finding
from driftline.wire.api import Calibrated, Detectable, Preview, StreamPreview

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str):
    return ET.fromstring(svg)  # noqa: S314  our own output


def texts(root: ET.Element):
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def of_class(root: ET.Element, name: str):
    return [one for one in root.iter() if name in one.get("class", "").split()]


def stream(device: str = "camera-1", found: tuple[float, ...] = (0.1, 0.9, 1.0), **facts: Any):
    points = [
        Detectable(shift=shift, found=share, median_windows=None if share < 0.5 else 4.0 / shift)
        for shift, share in zip((0.25, 0.5, 1.0), found, strict=False)
    ]
    own: dict[str, Any] = {
        "field": "out.sharpness",
        "calibrated": Calibrated(),
        "alarm_at": 9600.0,
        "past_windows": 0,
        "past_alarms": [],
        "smallest_shift": 0.5,
        "detectable": points,
    }
    return StreamPreview(device=device, **(own | facts))


def preview(*streams: StreamPreview):
    return Preview(within=20, streams=list(streams))


def test_the_title_says_what_is_found_everywhere():
    assert finding(preview(stream())) == "Within 20 windows a shift of 0.5 sd is found in 9 of 10"
    weaker = stream("camera-2", (0.0, 0.7, 1.0))
    assert finding(preview(stream(), weaker)) == "Within 20 windows a shift of 1 sd is found every time"
    blind = stream("camera-3", (0.0, 0.1, 0.79))
    assert finding(preview(stream(), blind)) == "Within 20 windows no shift up to 1 sd is found in 8 of 10"


def test_shares_are_drawn_to_scale_with_the_line_of_eight_in_ten():
    root = drawn(detectability_chart(preview(stream())))
    (line,) = of_class(root, "dl-line")
    xs, ys = zip(*(map(float, point.split(",")) for point in line.get("points").split()), strict=True)
    (limit,) = of_class(root, "dl-warn")
    full, least = ys[2], ys[0]
    assert float(limit.get("y1")) == pytest.approx(full + 0.2 * (least - full) / 0.9, abs=0.02)
    # Shifts lie on a logarithmic axis: half of one is always as far.
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)
    assert "8 of 10" in texts(root)


def test_the_median_windows_stand_under_their_shift():
    root = drawn(detectability_chart(preview(stream())))
    places = {"".join(one.itertext()): one.get("x") for one in root.iter(f"{SVG}text")}
    assert places["–"] == places["0.25"]
    assert places["8"] == places["0.5"]
    assert places["4"] == places["1"]


def test_of_many_streams_the_worst_and_the_median_are_named():
    many = [stream(f"camera-{i}", (0.1 * i, 0.9, 1.0)) for i in range(1, 8)]
    root = drawn(detectability_chart(preview(*many)))
    named = {"".join(one.itertext()) for one in of_class(root, "dl-name")}
    assert named == {"worst: camera-1", "median of 7"}
    assert "6 others" in texts(root)
    assert len(of_class(root, "dl-line")) == 8


def test_a_stream_without_a_promise_is_counted_and_none_at_all_says_why():
    refused = stream("camera-2", detectable=[], calibrated=Calibrated(refused="the baseline has 3 windows, of 5"))
    assert any("1 without a promise" in text for text in texts(drawn(detectability_chart(preview(stream(), refused)))))
    root = drawn(detectability_chart(preview(refused)))
    assert "the baseline has 3 windows, of 5" in texts(root)
    assert root.find(f"{SVG}title").text == "Nothing could be simulated"


def test_it_can_be_read_on_a_phone():
    root = drawn(detectability_chart(preview(stream(), stream("camera-2")), width=390))
    assert not any(float(one.get("x")) > 390 for one in root.iter(f"{SVG}text"))
    assert {"camera-1", "camera-2"} <= set(texts(root))


def test_one_shift_alone_is_a_point():
    drawn(detectability_chart(preview(stream(found=(0.9,)))))
