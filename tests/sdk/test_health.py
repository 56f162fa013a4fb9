"""A baseline's health reads as sentences, and says whether the promise stands."""

from typing import Any

from driftline.sdk.health import health_of, listing
from driftline.wire import api

PROMISE = api.Promise(false_alarm_every_s=2_592_000)
STANDS = api.Calibrated(
    kind="windows", why="rows resemble the rows before them: windows are compared with windows", n=180, windows=12,
    effective=8.5, health=["8 more windows make it faster"],
)  # fmt: skip
REFUSED = api.Calibrated(refused="2 windows are too few; take at least 5")


def stats(calibrated: api.Calibrated | None, **facts: Any) -> api.BaselineStats:
    told: dict[str, Any] = {"device": "camera-1", "field": "out.x", "count": 9, "missing": 0} | facts
    nothing = dict.fromkeys(("min", "max", "mean", "median", "std"))
    return api.BaselineStats(**told, **nothing, calibrated=calibrated)


def test_a_promise_that_stands_says_what_it_rests_on_and_what_would_be_better():
    health = health_of(stats(STANDS, notes=["4 bins instead of 5"]), PROMISE)
    assert health.stands is True
    assert str(health) == (
        "camera-1 out.x: 12 windows of about 180 values, worth 8.5 independent ones; rows resemble the rows before "
        "them: windows are compared with windows; 8 more windows make it faster; 4 bins instead of 5"
    )


def test_a_promise_that_is_refused_says_why():
    health = health_of(stats(REFUSED, device=None), PROMISE)
    assert health.stands is False
    assert str(health) == "out.x: no promise: 2 windows are too few; take at least 5"


def test_where_nothing_is_known_yet_or_nothing_is_promised_that_is_said():
    unknown = health_of(stats(None), PROMISE)
    assert (unknown.stands, "look again after the first" in str(unknown)) == (None, True)
    fixed = health_of(stats(None), api.Fixed())
    assert (fixed.stands, "promises nothing" in str(fixed)) == (None, True)


def test_a_baseline_that_serves_all_but_a_renewed_device_says_so():
    one = listing([health_of(stats(STANDS, device=None), PROMISE)])._repr_html_()
    assert "<td>all</td>" in one
    two = [health_of(stats(STANDS, device=None), PROMISE), health_of(stats(STANDS, device="camera-2"), PROMISE)]
    other = health_of(stats(STANDS, device=None, field="out.y"), PROMISE)
    shown = listing([*two, other])._repr_html_()
    assert (shown.count("<td>all others</td>"), shown.count("<td>all</td>")) == (1, 1)


def test_a_notebook_shows_a_row_a_baseline():
    shown = listing([health_of(stats(REFUSED, device="<b>"), PROMISE), health_of(stats(STANDS), PROMISE)])
    html = shown._repr_html_()
    assert html.count("<tr>") == 3
    assert "&lt;b&gt;" in html
    assert "<td>refused</td>" in html
    assert "<td>stands</td>" in html
