"""Does an alarm keep its promise? In how many quiet runs of 1,000 windows comes a false alarm, at one in 10,000.

Rows are AR(1) of correlation 0, 0.9 or 0.99, as three fields (see `bench.streams`). Baselines too short for their
autocorrelation are refused by the promise. A cell counts by the share of accepted baselines that alarm; where most are
refused it is listed with how many windows the refusals ask for (median), and only the share of all runs counts.
"""

from collections.abc import Sequence
from dataclasses import asdict

from bench.streams import ALARM_AT, Block, Cell, Outcome, outcomes, shown

WINDOWS = 1_000
BASELINES = (20, 50, 100)
PHIS = (0.0, 0.9, 0.99)
# How many runs a cell there are by window size: a run of 10,000 rows a window takes eleven million rows.
RUNS = {20: 400, 60: 400, 200: 400, 1_000: 200, 10_000: 40}
RUNS_QUICK = {20: 100, 60: 100}
# At most this share of quiet runs may alarm.
TARGET = 0.05
# Where this share of baselines is refused the accepted ones are an odd few: the cell is listed.
REFUSED_MOSTLY = 0.5


def quiet(*, quick: bool, jobs: int) -> tuple[dict[str, object], list[str]]:
    """Simulate, print the table, and return it with the figures that miss their target."""
    print(f"\nquiet: runs of {WINDOWS} windows with a false alarm, one promised in {ALARM_AT:,.0f} windows")
    found, cpu_s = outcomes(blocks(quick=quick), jobs)
    found.sort(key=lambda one: (one.cell.n, one.cell.phi, one.cell.windows))
    print(table(found), flush=True)
    return {"quiet": {"cells": [asdict(one) for one in found], "cpu_s": round(cpu_s, 1)}}, misses(found)


def blocks(*, quick: bool) -> list[Block]:
    """Return the runs in portions that two processes can share."""
    return [
        Block(phi, n, range(at, min(at + portion, runs)), WINDOWS, BASELINES)
        for n, runs in (RUNS_QUICK if quick else RUNS).items()
        for portion in (max(2, min(25, 40_000 // n)),)
        for phi in PHIS
        for at in range(0, runs, portion)
    ]


def misses(found: Sequence[Outcome]) -> list[str]:
    """Name each cell that breaks the promise."""
    return [f"{share:.1%} of quiet runs alarm: {named(one.cell)}" for one in found if (share := counted(one)) > TARGET]


def counted(one: Outcome) -> float:
    """Return the share that counts: of accepted baselines, or of all runs where most baselines are refused."""
    return one.share_of_all if listed(one) or one.share is None else one.share


def listed(one: Outcome) -> bool:
    """Whether most baselines were refused."""
    return one.refused > REFUSED_MOSTLY * one.runs


def named(cell: Cell) -> str:
    """Return a cell in words."""
    shift = f", {cell.shift_sd:+g} sd" if cell.shift_sd else ""
    return f"{cell.field}, AR(1) {cell.phi:g}, {cell.windows} windows of {cell.n:,} rows{shift}"


def table(found: Sequence[Outcome]) -> str:
    """Return the outcomes as a table of fixed width."""
    head = f"{'field':10}{'AR':>5}{'K':>5}{'n':>7}{'runs':>5} | {'refused':>7} {'needs K':>7} | {'alarms':>7} "
    head += f"{'95 % interval':>15} {'of all':>6} {'indep.':>6} | {'PSI>.25':>7} {'windows':>7}"
    lines = [head, "-" * len(head)]
    for one in found:
        cell, (low, high) = one.cell, one.interval
        fixed = f"{one.fixed_share:7.0%} {one.fixed_windows:7.1%}" if cell.field == "normal" else f"{'':15}"
        lines.append(
            f"{cell.field:10}{cell.phi:5.2f}{cell.windows:5d}{cell.n:7,d}{one.runs:5d} | "
            f"{one.refused / one.runs:7.0%} {shown(one.needed):>7} | {shown(one.share, '.1%'):>7} "
            f"{f'{low:.1%} … {high:.1%}':>15} {one.share_of_all:6.1%} {shown(one.independent, '.0%'):>6} | {fixed}"
            + (" listed" if listed(one) else "")
        )
    return "\n".join(lines)
