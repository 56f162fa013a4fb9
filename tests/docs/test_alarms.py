"""The tables of docs/alarms.md are those that were measured."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "bench" / "results" / "alarms.json").read_text(encoding="utf-8"))


def test_the_table_of_the_fleet_is_the_measured_one():
    measured = [row for row in RESULTS["fleet"]["rows"] if row["baseline_windows"] == 50]
    assert _table("| policy") == [_fleet(row) for row in measured]


def test_the_table_of_window_sizes_is_the_measured_one():
    columns = RESULTS["window_sizes"]["columns"]
    rules = [(row["rule"], row["share_and_windows"]) for row in RESULTS["window_sizes"]["rows"]]
    measured = [
        f"| {rule} | " + " | ".join(_share(shares.get(one)) for one in columns) + " |" for rule, shares in rules
    ]
    for rule, shares in RESULTS["window_sizes"]["quoted"].items():
        measured.append(
            f"| {rule} | " + " | ".join(_percent(shares[one]) if one in shares else "" for one in columns) + " |"
        )
    assert _table("| rule") == measured


def _table(head: str) -> list[str]:
    lines = PAGE[PAGE.index(f"\n{head}") + 1 :].split("\n\n")[0].splitlines()
    return [line.replace("**", "") for line in lines[2:]]


def _fleet(row: dict[str, Any]) -> str:
    rate, (low, high) = row["false_a_day"], row["interval"]
    delay, p90 = (_hours(row[name]) for name in ("delay_median_h", "delay_p90_h"))
    cells = [
        row["policy"],
        f"{row['streams']:,}",
        _rate(rate),
        f"{_rate(low)} … {_rate(high)}",
        f"{100 * row['found']:.0f} %",
        delay,
        p90,
    ]
    return f"| {' | '.join(cells)} |"


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.3f}" if rate < 0.1 else f"{rate:.2f}"


def _hours(delay: float | None) -> str:
    return "–" if delay is None else f"{delay:.0f} h"


def _share(share: list[float] | None) -> str:
    return "refused" if share is None else f"{_percent(share[0])} of {share[1]:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
