"""How soon does an alarm find drift? Streams that shift with their first window, at one false alarm in 10,000 windows.

The shift is in standard deviations of a row; beside it the fixed rule, PSI > 0.25 on five bins.
"""

from collections.abc import Sequence
from dataclasses import asdict

from bench.quiet import named
from bench.streams import ALARM_AT, FIELDS, Block, Cell, Outcome, outcomes, shown

WINDOWS = 200
RUNS, RUNS_QUICK = 200, 40
SHIFTS = (0.1, 0.25, 0.5, 1.0, 3.0)
# Correlation, windows of baseline, rows a window.
STREAMS = ((0.0, 20, 60), (0.0, 20, 200), (0.0, 100, 200), (0.9, 20, 200), (0.99, 100, 200), (0.99, 20, 1000))
# Median delays in windows, at most;
DELAYS = {Cell("normal", 0.0, 100, 200, 0.25): 5, Cell("normal", 0.99, 20, 1000, 3.0): 4}
# and shares found within all windows, at least.
FOUND = {Cell("normal", 0.0, 100, 200, 0.1): 0.95}


def power(*, quick: bool, jobs: int) -> tuple[dict[str, object], list[str]]:
    """Simulate, print the table, and return it with the figures that miss their target."""
    print(f"\nshifted: found within {WINDOWS} windows, one false alarm promised in {ALARM_AT:,.0f} windows")
    found, cpu_s = outcomes(blocks(quick=quick), jobs)
    found.sort(key=lambda one: (one.cell.field, one.cell.phi, one.cell.windows, one.cell.n, one.cell.shift_sd))
    print(table(found), flush=True)
    return {"shifted": {"cells": [asdict(one) for one in found], "cpu_s": round(cpu_s, 1)}}, misses(found)


def blocks(*, quick: bool) -> list[Block]:
    """Return the shifted streams; the other two fields where rows are independent."""
    if quick:
        return [_block(RUNS_QUICK, cell) for cell in (*DELAYS, *FOUND)]
    cells = [Cell("normal", *stream, shift) for stream in STREAMS for shift in SHIFTS]
    cells += [Cell(field, 0.0, 100, 200, shift) for field in FIELDS if field != "normal" for shift in SHIFTS]
    return [_block(RUNS, cell) for cell in cells]


def _block(runs: int, cell: Cell) -> Block:
    return Block(cell.phi, cell.n, range(runs), WINDOWS, (cell.windows,), (cell.field,), cell.shift_sd)


def misses(found: Sequence[Outcome]) -> list[str]:
    """Name each delay that is longer than its target, and each share that is smaller."""
    missed: list[str] = []
    for one in found:
        most, least = DELAYS.get(one.cell), FOUND.get(one.cell)
        if most is not None and (one.delay_median is None or one.delay_median > most):
            missed.append(f"median delay {shown(one.delay_median)} is more than {most} windows: {named(one.cell)}")
        if least is not None and (one.share is None or one.share < least):
            missed.append(f"only {shown(one.share, '.1%')} found within {WINDOWS} windows: {named(one.cell)}")
    return missed


def table(found: Sequence[Outcome]) -> str:
    """Return the outcomes as a table of fixed width."""
    head = f"{'field':10}{'AR':>5}{'K':>5}{'n':>6}{'shift':>6} | {'refused':>7} {'found':>7} {'median':>7} {'p90':>5} "
    head += f"{'indep.':>6} | {'PSI>.25':>8} {'median':>7}"
    lines = [head, "-" * len(head)]
    for one in found:
        cell = one.cell
        fixed = f"{one.fixed_share:8.1%} {shown(one.fixed_delay_median):>7}" if cell.field == "normal" else ""
        lines.append(
            f"{cell.field:10}{cell.phi:5.2f}{cell.windows:5d}{cell.n:6d}{cell.shift_sd:6.2f} | "
            f"{one.refused / one.runs:7.0%} {shown(one.share, '.1%'):>7} {shown(one.delay_median):>7} "
            f"{shown(one.delay_p90):>5} {shown(one.independent, '.0%'):>6} | {fixed}"
        )
    return "\n".join(lines)
