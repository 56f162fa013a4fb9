"""How fast windows are scored: `python -m bench.score`.

1,000 windows × 1,000 rows against one baseline of 100,000, beside the least that numpy can do for it (searchsorted and
bincount at the same edges, and PSI); then the same windows from summaries as a hub has decoded them. CPU seconds, the
best of several rounds, because other programs share the machine. Both sides bin the baseline, too.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftline.assay.analysis import Part, analyse, grid_for
from driftline.assay.baseline import BaselineData
from driftline.assay.batch import score_rows, score_summaries
from driftline.assay.metrics import METRICS
from driftline.summary.arrays import of_values
from driftline.wire import api

Floats = NDArray[np.float64]

WINDOWS, ROWS, BASELINE = 1000, 1000, 100_000
ROUNDS = 7
RATIO_MAX = 1.5
SUMMARIES_MAX_S = 0.005
RESULTS = Path(__file__).parent / "results" / "score.json"


@dataclass(frozen=True)
class Row:
    """One line of the table; `target` None is measured and not promised."""

    what: str
    cpu_s: float
    wall_s: float
    ratio: float | None
    target: str | None
    met: bool


def main() -> int:
    """Measure, print, write; return 1 where a target is missed."""
    random = np.random.default_rng(1)
    baseline, windows = random.normal(size=BASELINE), random.normal(0.1, 1.0, (WINDOWS, ROWS))
    rows = [row for bins in (5, 60) for row in _rows(baseline, windows, bins)]
    rows += _summaries(baseline, windows)
    _print(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": _machine(), "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    missed = [row for row in rows if not row.met]
    for row in missed:
        print(f"MISSED: {row.what}: {row.cpu_s * 1000:.1f} ms, ratio {row.ratio}, target {row.target}", file=sys.stderr)
    return 1 if missed else 0


def plain(baseline: Floats, windows: Floats, edges: Floats) -> list[float]:
    """Score as numpy alone would, window by window: no missing values, no moments, nothing checked."""
    bins = edges.size + 1
    b = np.bincount(np.searchsorted(edges, baseline), minlength=bins) / baseline.size
    b = np.where(b == 0, 0.005, b)
    scores: list[float] = []
    for window in windows:
        w = np.bincount(np.searchsorted(edges, window), minlength=bins) / window.size
        w = np.where(w == 0, 0.005, w)
        scores.append(float(((w - b) * np.log(w / b)).sum()))
    return scores


def _rows(baseline: Floats, windows: Floats, bins: int) -> list[Row]:
    asked = api.Summarizer(num_bins=bins, compat=None)
    layout = BaselineData.of_values(baseline).layout(asked)
    flat, sizes = windows.ravel(), np.full(WINDOWS, ROWS)

    def batch() -> Floats:
        return score_rows(asked, BaselineData.of_values(baseline), flat, sizes).scores

    def one_by_one() -> list[float | None]:
        data = BaselineData.of_values(baseline)
        return [_analysis(asked, data, Part(values=window)).score for window in windows]

    # Three ways to the same numbers.
    np.testing.assert_allclose(batch(), plain(baseline, windows, layout.edges), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(batch(), np.array(one_by_one(), dtype=float), rtol=1e-9, atol=1e-12)
    least, *timed = _timed([lambda: plain(baseline, windows, layout.edges), batch, one_by_one])
    name = f"PSI, {bins} bins, rows"
    ratio, single = timed[0][0] / least[0], timed[1][0] / least[0]
    return [
        Row(f"{name}: plain numpy", *least, 1.0, None, met=True),
        Row(f"{name}: driftline, all windows at once", *timed[0], ratio, f"≤ {RATIO_MAX} ×", met=ratio <= RATIO_MAX),
        Row(f"{name}: driftline, full analyses one by one", *timed[1], single, None, met=True),
    ]


def _summaries(baseline: Floats, windows: Floats) -> list[Row]:
    data = BaselineData.of_values(baseline)
    rows: list[Row] = []
    for metric in ("psi", "ks", "js", "chi2", "wasserstein"):
        asked = api.Summarizer(metric=metric, num_bins=METRICS[metric].bins, compat=None)
        spec = _spec(asked)
        grid = grid_for(spec, data, "float64")
        summaries = [of_values(window, grid) for window in windows]
        score_summaries(asked, data, summaries[:1], grid)  # a baseline is frozen: the hub has cut it already
        (timed,) = _timed([lambda asked=asked, grid=grid, given=summaries: score_summaries(asked, data, given, grid)])
        promised = metric == "psi"
        rows.append(
            Row(
                f"{metric}, {asked.num_bins} bins, stored summaries: driftline, all windows at once",
                *timed,
                None,
                f"< {SUMMARIES_MAX_S * 1000:g} ms" if promised else None,
                met=not promised or timed[0] < SUMMARIES_MAX_S,
            )
        )
    return rows


WATCHED = api.Watched(field="out.x", iopath="x")


def _spec(asked: api.Summarizer) -> api.AssaySpec:
    return api.AssaySpec(name="bench", pipeline="p", watched=[WATCHED], baseline=api.Baseline(), summarizer=asked)


def _analysis(asked: api.Summarizer, baseline: BaselineData, part: Part) -> api.Analysis:
    return analyse(_spec(asked), WATCHED, baseline, [part], device="d", start_ns=0, end_ns=1, heard=True)


def _timed(calls: list[Callable[[], object]]) -> list[tuple[float, float]]:
    """Return the best CPU and wall seconds of each call, in turns, so that all meet the same neighbours."""
    best = [(float("inf"), float("inf"))] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best[i] = min(best[i][0], cpu), min(best[i][1], wall)
    return best


def _print(rows: list[Row]) -> None:
    print(f"{WINDOWS} windows × {ROWS} rows against a baseline of {BASELINE}, best of {ROUNDS} rounds\n")
    print(f"{'':<72} {'CPU ms':>8} {'wall ms':>8} {'ratio':>6}  target")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = "" if row.target is None else f"{row.target}: {'met' if row.met else 'MISSED'}"
        print(f"{row.what:<72} {row.cpu_s * 1000:8.1f} {row.wall_s * 1000:8.1f} {ratio:>6}  {verdict}")


def _machine() -> dict[str, object]:
    found = Path("/proc/cpuinfo")
    models = [line for line in found.read_text().splitlines() if "model name" in line] if found.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }


if __name__ == "__main__":
    sys.exit(main())
