"""How assays stand on large fleets: the most urgent devices first, without reading what nobody asked for."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, insert

from driftline.hub.store import assays as store
from driftline.hub.store.assays import PROGRESS, URGENCY
from driftline.hub.store.database import metadata

places = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["c", "d", "e", "f"])), st.sampled_from(URGENCY)
)


@pytest.fixture
def connection():
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(places, st.integers(1, 3), st.sampled_from([None, ["a"], ["b", "a"]]), st.sampled_from([None, "d"]))
def test_the_most_urgent_come_first_and_all_are_counted(
    connection: Any, told: Any, at_most: int, asked: Any, device: Any
):
    connection.execute(PROGRESS.delete())
    rows = [{"assay": a, "device": d, "next_ns": 0, "late_ns": 0, "status": status} for (a, d), status in told.items()]
    if rows:
        connection.execute(insert(PROGRESS), rows)
    found = store.standings(connection, asked, device=device, at_most=at_most)
    known = {assay for assay, _ in told if asked is None or assay in asked}
    assert set(found) == known
    for assay in known:
        every = {name: status for (of, name), status in told.items() if of == assay}
        ordered = sorted(every, key=lambda name: (URGENCY.index(every[name]), name))
        named = [name for name in ordered if device in {None, name}]
        assert found[assay].devices == len(every)
        assert [(one.device, one.status) for one in found[assay].urgent] == [(n, every[n]) for n in named[:at_most]]


def test_the_newest_alert_of_a_device_is_looked_for_among_its_own_answers(connection: Any):
    """In the order of time there are those of ten thousand others."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    store.latest_alert(connection, "a", ["camera-1", "camera-2"])
    event.remove(connection, "before_cursor_execute", note)
    ((statement, parameters),) = said
    plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
    assert "USING PRIMARY KEY (assay=? AND device=?)" in plan[0].detail
