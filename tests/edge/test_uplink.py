"""What a device's command line wants of its link, and the numbers of its requests."""

from pathlib import Path

import pytest

from driftline.edge.exchange import Wishes
from driftline.edge.uplink import NUMBER_MAX, Overrides, RequestNumbers, former_grids, remember_grids
from driftline.spool.memory import MemoryOutbox
from driftline.spool.spool import Spool
from driftline.wire.device import Desired, FieldSummary, Record, WindowRecord, encode_window


@pytest.mark.parametrize(
    ("overrides", "desired", "wishes"),
    [
        (Overrides(), Desired(), Wishes(None, newest_first=False)),
        (Overrides(), Desired(rows_kb_a_day=5, newest_first=True), Wishes(5, newest_first=True)),
        (Overrides(rows_kb_a_day=0), Desired(rows_kb_a_day=5), Wishes(0, newest_first=False)),
        (Overrides(newest_first=False), Desired(newest_first=True), Wishes(None, newest_first=False)),
    ],
)
def test_the_command_line_wins_where_it_says_something(overrides: Overrides, desired: Desired, wishes: Wishes):
    assert overrides.wishes(desired) == wishes


def test_request_numbers_only_grow_over_restarts_and_clocks_set_back(tmp_path: Path):
    given: list[int] = []
    for now_s in (2_000_000_000, 1_000_000_000):
        spool = Spool(tmp_path / "spool.db", now_ns=lambda: 0)
        numbers = RequestNumbers(spool, lambda now_s=now_s: now_s * 10**9)
        given += [numbers.next() for _ in range(3)]
        spool.close()
    assert given == sorted(set(given))


def test_request_numbers_go_on_above_what_the_hub_knows_and_leave_room():
    numbers = RequestNumbers(outbox := MemoryOutbox(), lambda: 0)
    numbers.above(5_000_000)
    assert numbers.next() == 5_000_001
    assert RequestNumbers(outbox, lambda: 0).next() > 5_000_001  # and after a restart
    numbers.above(2**63)
    assert numbers.next() == NUMBER_MAX + 1


def test_a_batch_says_the_edges_of_grids_that_the_hub_names_no_more():
    outbox = MemoryOutbox()
    remember_grids(Desired(grids={"ab" * 8: (0.5, 1.0)}), outbox)
    fields = tuple(FieldSummary(f"out.{grid_id[:2]}", grid_id, b"") for grid_id in ("ab" * 8, "cd" * 8))
    records = [Record(1, "window", encode_window(WindowRecord("pv", 0, 60, 0, fields))), Record(2, "window", b"torn")]
    assert former_grids(records, Desired(grids={"ab" * 8: (0.5, 1.0)}), outbox) == {}
    assert former_grids(records, Desired(), outbox) == {"ab" * 8: [0.5, 1.0]}
