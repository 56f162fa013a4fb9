"""A preview says in one sentence per stream what an assay would do."""

import msgspec

from driftline.sdk.preview import Preview
from driftline.wire import api

CALIBRATED = api.Calibrated(kind="windows", why="counts", n=180, windows=26, effective=20.0)
STREAM = api.StreamPreview(
    device="camera-1", field="out.sharpness", calibrated=CALIBRATED, alarm_at=14_400.0, past_windows=26,
    past_alarms=[], smallest_shift=0.5,
    detectable=[
        api.Detectable(shift=0.25, found=0.4, median_windows=None),
        api.Detectable(shift=0.5, found=0.92, median_windows=9.0),
        api.Detectable(shift=1.0, found=1.0, median_windows=3.0),
    ],
)  # fmt: skip
BLIND = msgspec.structs.replace(
    STREAM, device=None, past_alarms=[1_767_261_600_000_000_000], smallest_shift=None, detectable=STREAM.detectable[:1]
)
REFUSED = msgspec.structs.replace(
    STREAM, device="camera-2", calibrated=api.Calibrated(refused="2 windows are too few; take at least 5"),
    past_windows=0, smallest_shift=None, detectable=[],
)  # fmt: skip


def shown(*streams: api.StreamPreview) -> Preview:
    return Preview(api.Preview(within=20, streams=list(streams), notes=["a note"]))


def test_a_preview_reads_as_one_sentence_a_stream():
    assert repr(shown(STREAM, BLIND, REFUSED)).splitlines() == [
        (
            "camera-1 out.sharpness: 0 alarms over 26 past windows; finds a shift of 0.5 sd within 20 windows in "
            "9 of 10 runs"
        ),
        (
            "out.sharpness: 1 alarm over 26 past windows (the first at 2026-01-01T10:00:00+00:00); finds even a shift "
            "of 0.25 sd within 20 windows in only 4 of 10 runs"
        ),
        "camera-2 out.sharpness: no promise: 2 windows are too few; take at least 5",
        "a note",
    ]
    everywhere = msgspec.structs.replace(STREAM, smallest_shift=1.0)
    assert repr(shown(everywhere)).splitlines()[0].endswith("within 20 windows in every run")


def test_its_table_has_a_row_a_shift_and_one_where_nothing_is_promised():
    frame = shown(STREAM, REFUSED).to_dataframe()
    assert list(frame["shift"].dropna()) == [0.25, 0.5, 1.0]
    assert list(frame["found"].dropna()) == [0.4, 0.92, 1.0]
    assert list(frame["device"]) == ["camera-1"] * 3 + ["camera-2"]
    assert list(frame["refused"].dropna()) == ["2 windows are too few; take at least 5"]
    assert list(shown().to_dataframe().columns) == list(frame.columns)


def test_a_notebook_shows_it_as_a_table():
    html = shown(msgspec.structs.replace(STREAM, device="<b>"))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "finds a shift of 0.5 sd" in html
    assert "a note" in html


def test_it_is_drawn():
    assert str(shown(STREAM, BLIND, REFUSED).chart()).startswith("<svg")
