"""Breaks agents, hubs, disks, links and clocks at full size: `python -m bench.faults`, as `make faults` runs it.

Everything under `tests/faults` and `tests/simulation` runs with DRIFTLINE_FAULTS=full. A test that counts says so by
`record_property("faults", {"what": text, "cases": number, …further numbers})`; equal texts are added up. Prints the
counts and what was skipped and why, writes `bench/results/faults.json`, and ends non-zero where a test failed.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from bench.machine import machine

RESULTS = Path(__file__).parent / "results" / "faults.json"
FOLDERS = ("tests/faults", "tests/simulation")
WORKERS = 2
MINUTES_MAX = 55


@dataclass
class Collector:
    """Listens to a run of pytest, also one over several processes."""

    counts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    tests: Counter[str] = field(default_factory=Counter[str])
    skipped: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])
    seconds: Counter[str] = field(default_factory=Counter[str])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one test's setup, call or teardown."""
        self.seconds[report.nodeid.partition("::")[0]] += report.duration  # pyright: ignore[reportArgumentType]
        if report.failed:
            self.failed.append(report.nodeid)
        if report.skipped:
            self.skipped[_reason(report)] += 1
        if report.when == "call":
            self.tests[report.outcome] += 1
            self._add(value for name, value in report.user_properties if name == "faults")

    def _add(self, told: Iterable[object]) -> None:
        for one in cast("Iterable[Mapping[str, Any]]", told):
            into = self.counts.setdefault(str(one["what"]), Counter())
            into.update({name: value for name, value in one.items() if name != "what"})


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")


def main(arguments: Sequence[str]) -> int:
    """Run; further arguments go to pytest. Return the exit code."""
    os.environ["DRIFTLINE_FAULTS"] = "full"
    collector, began_s = Collector(), time.monotonic()
    there = [one for one in FOLDERS if Path(one).is_dir()]
    options = ["-n", str(WORKERS), "--dist", "worksteal", "-q", "-p", "no:cacheprovider"]
    code = int(pytest.main([*options, *(arguments or there)], plugins=[collector]))
    minutes = (time.monotonic() - began_s) / 60
    print(table(collector, minutes))
    if not arguments:
        # A part of it is no result.
        document = {"machine": machine(), **result(collector, minutes)}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if minutes > MINUTES_MAX:
        print(f"missed: {minutes:.0f} minutes; it should end within {MINUTES_MAX}")
    return code or int(minutes > MINUTES_MAX)


def result(collector: Collector, minutes: float) -> dict[str, object]:
    """Return what a run found, as JSON's objects."""
    return {
        "minutes": round(minutes, 1),
        "tests": dict(collector.tests),
        "counts": {what: dict(numbers) for what, numbers in sorted(collector.counts.items())},
        "skipped": dict(collector.skipped),
        "failed": sorted(set(collector.failed)),
        "seconds_by_file": {file: round(seconds) for file, seconds in sorted(collector.seconds.items())},
    }


def table(collector: Collector, minutes: float) -> str:
    """Return what a run found, for people."""
    lines = [f"\nfaults: {minutes:.1f} minutes, {sum(collector.tests.values())} tests"]
    for what, numbers in sorted(collector.counts.items()):
        facts = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in numbers.items() if name != "cases")
        lines.append(f"  {what:<42} {numbers['cases']:>6,}   {facts}")
    lines += [f"  skipped {number}: {reason}" for reason, number in collector.skipped.items()]
    lines += [f"  FAILED {name}" for name in sorted(set(collector.failed))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
