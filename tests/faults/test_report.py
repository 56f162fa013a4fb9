"""What `make faults` says at its end."""

from types import SimpleNamespace
from typing import Any

from bench.faults import Collector, result, table


def told(name: str, *facts: dict[str, Any], outcome: str = "passed", reason: str = "") -> Any:
    return SimpleNamespace(
        nodeid=f"tests/faults/{name}.py::test",
        when="setup" if outcome == "skipped" else "call",
        duration=1.5,
        outcome=outcome,
        failed=outcome == "failed",
        skipped=outcome == "skipped",
        longrepr=("test.py", 3, f"Skipped: {reason}"),
        user_properties=[("faults", one) for one in facts],
    )


def test_equal_faults_are_added_up_and_what_was_skipped_says_why():
    collector = Collector()
    for report in (
        told("test_a", {"what": "crashes", "cases": 10, "lost": 0}),
        told("test_a", {"what": "crashes", "cases": 5, "lost": 1}, outcome="failed"),
        told("test_b", outcome="skipped", reason="strace not installed"),
    ):
        collector.pytest_runtest_logreport(report)
    found = result(collector, 1.0)
    assert found["counts"] == {"crashes": {"cases": 15, "lost": 1}}
    assert found["skipped"] == {"strace not installed": 1}
    assert found["failed"] == ["tests/faults/test_a.py::test"]
    assert found["seconds_by_file"] == {"tests/faults/test_a.py": 3, "tests/faults/test_b.py": 2}
    assert "strace not installed" in table(collector, 1.0)
