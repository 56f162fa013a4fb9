import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.assay.window import WindowPlan, plan_of
from driftline.errors import InvalidInputError
from driftline.wire.api import Windows

S = 1_000_000_000
plans = st.builds(
    WindowPlan,
    st.integers(0, 10_000),
    st.integers(1, 50).map(lambda n: 60 * n),
    st.integers(1, 50).map(lambda n: 60 * n),
)


@given(plans, st.integers(0, 30_000))
def test_a_plan_has_no_holes_and_only_complete_windows(plan: WindowPlan, until: int):
    windows = list(plan.windows(until))
    starts = [start for start, _ in windows]
    assert starts == [plan.start_ns + i * plan.interval_ns for i in range(len(windows))]
    assert all(end - start == plan.width_ns and end <= until for start, end in windows)
    assert plan.start_ns + len(windows) * plan.interval_ns + plan.width_ns > until
    assert plan.count(until) == len(windows)


@given(plans, st.integers(0, 30_000), st.integers(0, 30_000))
def test_what_is_due_is_the_rest_of_the_plan(plan: WindowPlan, next_ns: int, until: int):
    assert list(plan.due(next_ns, until)) == [w for w in plan.windows(until) if w[0] >= next_ns]


def test_windows_tumble_where_no_interval_is_given():
    plan = plan_of(Windows(width_s=180, start_ns=0), None, rows=False)
    assert list(plan.windows(400 * S)) == [(0, 180 * S), (180 * S, 360 * S)]


def test_a_plan_starts_with_the_first_inference_on_a_base_window():
    first = 125 * S + 7
    assert plan_of(Windows(width_s=60), first, rows=False).start_ns == 120 * S
    assert plan_of(Windows(width_s=60), first, rows=True).start_ns == first
    assert plan_of(Windows(width_s=60, start_ns=61 * S), first, rows=False).start_ns == 60 * S


def test_a_plan_of_nothing_says_what_it_needs():
    with pytest.raises(InvalidInputError, match="add_start"):
        plan_of(Windows(width_s=60), None, rows=False)


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        (Windows(width_s=-60), "longer than nothing"),
        (Windows(width_s=0), "longer than nothing"),
        (Windows(width_s=90), "e.g. 60 or 120 s"),
        (Windows(width_s=30), "e.g. 60 s"),
        (Windows(width_s=60, interval_s=45), "window interval is 45 s"),
        (Windows(width_s=60, start_ns=-1), "before 1970"),
    ],
)
def test_windows_that_cannot_be_counted_are_refused(windows: Windows, reason: str):
    with pytest.raises(InvalidInputError, match=reason):
        plan_of(windows, 0, rows=False)
