"""Does an alarm keep its promise, and how soon does it find drift? `python -m bench.alarms [--quick | --real]`.

Quiet streams: in how many runs of 1,000 windows comes a false alarm, at one promised in 10,000 windows. Shifted
streams: after how many windows comes the alarm. Beside it the fixed rule, PSI > 0.25 on five bins. Rows are AR(1) of
correlation 0, 0.9 or 0.99, normal or mapped to beta(20, 2) and lognormal, so that all three see the same process.
Baselines too short for their autocorrelation are refused by the promise; they are listed and not counted.
"""

import argparse
import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import betaincinv, ndtr
from scipy.stats import binomtest

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import Tracks
from driftline.assay.statistics import yardstick_of
from driftline.errors import InvalidInputError
from driftline.wire.api import Summarizer

Floats = NDArray[np.float64]
ALARM_AT = 10_000.0
QUIET_WINDOWS = 1_000
SHIFTED_WINDOWS = 200
# At most this share of quiet runs may alarm.
QUIET_TARGET = 0.05
# Where the promise refuses at least this share of baselines the cell is listed and not counted.
REFUSED_MOSTLY = 0.5
FIXED = 0.25
_NORMAL = np.linspace(-7, 7, 8001)
_BETA = betaincinv(20, 2, ndtr(_NORMAL))
RESULTS = Path(__file__).parent / "results" / "alarms.json"


@dataclass(frozen=True)
class Cell:
    """One kind of stream."""

    field: str
    phi: float
    windows: int
    n: int
    shift_sd: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of it: alarms within the run, by the promise among accepted baselines, and by PSI > 0.25."""

    cell: Cell
    runs: int
    refused: int
    alarmed: int
    share: float
    interval: tuple[float, float]
    delay_median: float | None
    delay_p90: float | None
    independent: float
    fixed_share: float
    fixed_windows: float
    fixed_delay_median: float | None
    cpu_s: float


def rows_of(draw: np.random.Generator, size: int, phi: float) -> Floats:
    """Return standard normal rows, each correlated with the one before it by phi."""
    rows = draw.normal(size=size)
    if phi == 0:
        return rows
    rows[1:] *= np.sqrt(1 - phi * phi)
    return np.asarray(lfilter([1.0], [1.0, -phi], rows))


def mapped(rows: Floats, field: str) -> Floats:
    """Return the same process as another field, by a monotone map."""
    if field == "lognormal":
        return np.exp(rows)
    return np.interp(rows, _NORMAL, _BETA) if field == "beta" else rows


def fixed_psi(baseline: BaselineData, windows: Floats) -> Floats:
    """Return PSI on five bins of each window, as the reference platform computes it."""
    cut = baseline.cut(Summarizer(compat="v1"), None)
    bins = cut.edges.size + 1
    cells = np.searchsorted(cut.edges, windows, side="left") + bins * np.arange(len(windows))[:, None]
    shares = np.bincount(cells.ravel(), minlength=bins * len(windows)).reshape(-1, bins) / windows.shape[1]
    b, w = np.where(cut.shares == 0, 0.005, cut.shares), np.where(shares == 0, 0.005, shares)
    terms = np.where((cut.shares == 0) & (shares == 0), 0.0, (w - b) * np.log(w / b))
    return np.asarray(terms.sum(axis=1))


def simulate(cell: Cell, runs: int) -> Outcome:
    """Run many streams of a kind side by side; each has a baseline of its own."""
    began = time.process_time()
    length = SHIFTED_WINDOWS if cell.shift_sd else QUIET_WINDOWS
    draw = np.random.default_rng([cell.windows, cell.n, round(cell.phi * 100), round(cell.shift_sd * 100)])
    calibrations: list[Calibration] = []
    statistics: list[Floats] = []
    fixed: list[NDArray[np.bool_]] = []
    for run in range(runs):
        rows = rows_of(draw, (cell.windows + length) * cell.n, cell.phi)
        cut = cell.windows * cell.n
        baseline = BaselineData.of_values(mapped(rows[:cut], cell.field))
        windows = mapped(rows[cut:] + cell.shift_sd, cell.field).reshape(length, cell.n)
        fixed.append(fixed_psi(baseline, windows) > FIXED)
        try:
            calibrations.append(calibrate(baseline, n=cell.n, seed=run))
        except InvalidInputError:
            continue
        statistics.append(yardstick_of(baseline, cell.n).measure_rows(windows))
    found = np.stack(fixed)
    fixed_first = np.where(found.any(axis=1), found.argmax(axis=1) + 1.0, np.inf)
    first = first_alarms(calibrations, statistics, cell.n) if calibrations else np.zeros(0)
    alarmed = int(np.isfinite(first).sum())
    accepted = len(calibrations)
    interval = binomtest(alarmed, accepted).proportion_ci(method="wilson") if accepted else None
    return Outcome(
        cell,
        runs,
        runs - accepted,
        alarmed,
        alarmed / accepted if accepted else float("nan"),
        (round(interval.low, 4), round(interval.high, 4)) if interval else (0.0, 1.0),
        _quantile(first, 0.5),
        _quantile(first, 0.9),
        sum(one.kind == "rows" for one in calibrations) / max(accepted, 1),
        float(np.isfinite(fixed_first).mean()),
        float(found.mean()),
        _quantile(fixed_first, 0.5),
        round(time.process_time() - began, 2),
    )


def first_alarms(calibrations: list[Calibration], statistics: list[Floats], n: int) -> Floats:
    """Return after how many windows each stream alarms, infinite where it never does."""
    tracks = Tracks(calibrations)
    values = np.stack(statistics)
    streams, length = values.shape[:2]
    first = np.full(streams, np.inf)
    level, size = np.full(streams, ALARM_AT), np.full((streams, 5), float(n))
    for window in range(length):
        told = tracks.advance(values[:, window], size, level)
        first[(told.evidence >= ALARM_AT) & np.isinf(first)] = window + 1
    return first


def _quantile(delays: Floats, share: float) -> float | None:
    if not delays.size:
        return None
    value = float(np.quantile(delays, share, method="inverted_cdf"))
    return value if np.isfinite(value) else None


def quiet_cells(*, quick: bool) -> list[Cell]:
    """Return the streams without drift."""
    if quick:
        return [Cell("normal", phi, k, 60) for phi in (0.0, 0.9, 0.99) for k in (20, 100)]
    return [
        Cell(field, phi, k, n)
        for field in ("normal", "beta", "lognormal")
        for phi in (0.0, 0.9, 0.99)
        for k in (20, 50, 100)
        for n in (60, 200)
    ]


def shifted_cells(*, quick: bool) -> list[Cell]:
    """Return the streams that shift with their first window."""
    if quick:
        return [Cell("normal", 0.0, 100, 200, shift) for shift in (0.25, 1.0)]
    shifts = (0.1, 0.25, 0.5, 1.0, 3.0)
    streams = ((0.0, 20, 60), (0.0, 20, 200), (0.0, 100, 200), (0.9, 20, 200), (0.99, 100, 200), (0.99, 20, 1000))
    cells = [Cell("normal", phi, k, n, shift) for phi, k, n in streams for shift in shifts]
    return cells + [Cell(field, 0.0, 100, 200, shift) for field in ("beta", "lognormal") for shift in (0.25, 1.0)]


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a table of fixed width."""
    head = f"{'field':10}{'AR':>5}{'K':>5}{'n':>6}{'shift':>6} | {'refused':>7} {'alarms':>7} {'95 % interval':>15}"
    head += f" {'median':>7} {'p90':>5} {'indep.':>6} | {'PSI>.25':>8} {'windows':>8} {'median':>7} | {'CPU s':>6}"
    lines = [head, "-" * len(head)]
    for one in outcomes:
        cell = one.cell
        low, high = one.interval
        lines.append(
            f"{cell.field:10}{cell.phi:5.2f}{cell.windows:5d}{cell.n:6d}{cell.shift_sd:6.2f} | "
            f"{one.refused / one.runs:7.0%} {one.share:7.1%} {f'{low:.1%} … {high:.1%}':>15} "
            f"{_shown(one.delay_median):>7} {_shown(one.delay_p90):>5} {one.independent:6.0%} | "
            f"{one.fixed_share:8.1%} {one.fixed_windows:8.2%} {_shown(one.fixed_delay_median):>7} | {one.cpu_s:6.1f}"
        )
    return "\n".join(lines)


def _shown(delay: float | None) -> str:
    return "–" if delay is None else f"{delay:.0f}"


def misses(quiet: list[Outcome], shifted: list[Outcome]) -> list[str]:
    """Name each figure that misses its target: a quiet cell whose interval lies above 5 %, a delay that is longer."""
    found = [
        f"{one.share:.1%} of quiet runs alarm: {one.cell}"
        for one in quiet
        if one.refused / one.runs < REFUSED_MOSTLY and one.share > QUIET_TARGET
    ]
    targets = {
        Cell("normal", 0.0, 100, 200, 0.25): 5.0,
        Cell("normal", 0.99, 20, 1000, 3.0): 4.0,
    }
    for one in shifted:
        target = targets.get(one.cell)
        if target is not None and (one.delay_median is None or one.delay_median > target):
            found.append(f"median delay {one.delay_median} is more than {target:g} windows: {one.cell}")
        if one.cell == Cell("normal", 0.0, 100, 200, 0.1) and one.share < 0.95:
            found.append(f"only {one.share:.0%} found within {SHIFTED_WINDOWS} windows: {one.cell}")
    return found


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": memory and round(memory, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def main() -> int:
    """Run everything; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of a quarter of an hour; writes nothing")
    parser.add_argument("--runs", type=int, help="streams a cell; 200 (40 when quick) unless told")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--real", action="store_true", help="real data instead; DRIFTLINE_SAMPLES has the clip")
    arguments = parser.parse_args()
    if arguments.real:
        # OpenCV, onnxruntime and pandas are for real data alone.
        from bench import real

        return real.main()
    quick: bool = arguments.quick
    runs: int = arguments.runs or (40 if quick else 200)
    began = time.perf_counter()
    outcomes: list[list[Outcome]] = []
    for title, cells in (
        (f"quiet: runs of {QUIET_WINDOWS} windows with a false alarm", quiet_cells(quick=quick)),
        (f"shifted: found within {SHIFTED_WINDOWS} windows", shifted_cells(quick=quick)),
    ):
        print(f"\n{title}, one false alarm promised in {ALARM_AT:,.0f} windows, {runs} runs a cell")
        with ProcessPoolExecutor(arguments.jobs) as pool:
            outcomes.append(list(pool.map(simulate, cells, [runs] * len(cells))))
        print(table(outcomes[-1]), flush=True)
    missed = misses(*outcomes)
    if not quick:
        document = {
            "machine": machine(),
            "alarm_at": ALARM_AT,
            "runs": runs,
            "quiet": [asdict(one) for one in outcomes[0]],
            "shifted": [asdict(one) for one in outcomes[1]],
            "missed": missed,
            "wall_s": round(time.perf_counter() - began, 1),
            "cpu_s": round(sum(one.cpu_s for group in outcomes for one in group), 1),
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=1, allow_nan=True) + "\n")
    print("\n" + ("\n".join(f"MISSED {one}" for one in missed) or "every target is met"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
