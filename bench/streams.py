"""Streams whose drift is known: AR(1) rows as three fields, each with its baseline, its promise and its first alarm.

Normal rows are mapped to beta(20, 2) and lognormal, so that all three fields see the same process, and the baseline's
last 20, 50 or 100 windows are taken from the same rows: drawn once, looked at nine times. Windows are drawn and
measured a few at a time, so that 10,000 rows a window need no more memory than 20.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import betaincinv, ndtr
from scipy.stats import binomtest

from bench.rules import fixed_psi
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import Tracks
from driftline.assay.statistics import NAMES, yardstick_of
from driftline.errors import InvalidInputError

Floats = NDArray[np.float64]
ALARM_AT = 10_000.0
FIELDS = ("normal", "beta", "lognormal")
# The threshold of the fixed rule beside it: PSI on five bins.
FIXED = 0.25
# So many rows at a time stay in a processor's cache.
ROWS_AT_ONCE = 65_536
# A normal variable as beta(20, 2): a table from −7 to 7, read between its lines.
_BETA_END, _BETA_LINES = 7.0, 8001
_BETA = betaincinv(20, 2, ndtr(np.linspace(-_BETA_END, _BETA_END, _BETA_LINES)))
_BETA_STEPS = np.append(np.diff(_BETA), 0.0)


@dataclass(frozen=True, order=True)
class Cell:
    """One kind of stream: `windows` of `n` rows as baseline, then a shift by `shift_sd` of a row's."""

    field: str
    phi: float
    windows: int
    n: int
    shift_sd: float = 0.0


@dataclass(frozen=True)
class Block:
    """Runs that are simulated side by side, `length` windows each: all fields and baselines see the same rows."""

    phi: float
    n: int
    runs: range
    length: int
    windows: tuple[int, ...]
    fields: tuple[str, ...] = FIELDS
    shift_sd: float = 0.0

    def cells(self) -> list[Cell]:
        """Return the cells that these runs belong to."""
        return [Cell(one, self.phi, k, self.n, self.shift_sd) for one in self.fields for k in self.windows]


@dataclass(frozen=True)
class Run:
    """What one stream did: after how many windows it alarmed (infinite: never), or that its baseline was refused.

    `needed` is how many windows the refusal asked for; `fixed_first` and `fixed_windows` are the fixed rule's first
    alarm and how many windows it found.
    """

    cell: Cell
    first: float = np.inf
    needed: int | None = None
    independent: bool = False
    fixed_first: float = np.inf
    fixed_windows: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a cell's runs did: alarms among accepted baselines with a 95 % interval (Wilson), and among all runs."""

    cell: Cell
    runs: int
    refused: int
    needed: int | None
    alarmed: int
    share: float | None
    interval: tuple[float, float]
    share_of_all: float
    delay_median: float | None
    delay_p90: float | None
    independent: float | None
    fixed_share: float
    fixed_windows: float
    fixed_delay_median: float | None

    @staticmethod
    def of(cell: Cell, runs: Sequence[Run], length: int) -> "Outcome":
        """Count the runs of a cell."""
        accepted = [run for run in runs if run.needed is None]
        first, fixed = np.array([run.first for run in accepted]), np.array([run.fixed_first for run in runs])
        needed = [run.needed for run in runs if run.needed is not None]
        alarmed = int(np.isfinite(first).sum())
        interval = binomtest(alarmed, len(accepted)).proportion_ci(method="wilson") if accepted else None
        return Outcome(
            cell,
            len(runs),
            len(needed),
            int(np.median(needed)) if needed else None,
            alarmed,
            alarmed / len(accepted) if accepted else None,
            (round(interval.low, 4), round(interval.high, 4)) if interval else (0.0, 1.0),
            alarmed / len(runs),
            _quantile(first, 0.5),
            _quantile(first, 0.9),
            sum(run.independent for run in accepted) / len(accepted) if accepted else None,
            float(np.isfinite(fixed).mean()),
            sum(run.fixed_windows for run in runs) / len(runs) / length,
            _quantile(fixed, 0.5),
        )


def _quantile(delays: Floats, share: float) -> float | None:
    if not delays.size:
        return None
    value = float(np.quantile(delays, share, method="inverted_cdf"))
    return value if np.isfinite(value) else None


def shown(value: float | None, form: str = ".0f") -> str:
    """Return a number for a table, a dash where there is none."""
    return "–" if value is None else format(value, form)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Rows:
    """Standard normal rows, each correlated with the one before it by phi; drawn as they are asked for."""

    def __init__(self, seed: Sequence[int], phi: float) -> None:
        self._draw = np.random.default_rng(seed)
        self._phi = phi
        self._carried = np.array([phi * self._draw.normal()])

    def take(self, size: int) -> Floats:
        """Return the next rows."""
        rows = self._draw.normal(size=size)
        if not self._phi:
            return rows
        part = np.sqrt(1 - self._phi * self._phi)
        rows, self._carried = lfilter([part], [1.0, -self._phi], rows, zi=self._carried)
        return np.asarray(rows)


def mapped(rows: Floats, as_field: str) -> Floats:
    """Return the same process as another field, by a monotone map."""
    if as_field == "lognormal":
        return np.exp(rows)
    if as_field == "normal":
        return rows
    at = np.clip((rows + _BETA_END) * ((_BETA_LINES - 1) / (2 * _BETA_END)), 0, _BETA_LINES - 1)
    line = at.astype(np.int64)
    return np.asarray(_BETA[line] + (at - line) * _BETA_STEPS[line])


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(eq=False)
class _Stream:
    """One field and baseline of one run while its windows come."""

    cell: Cell
    baseline: BaselineData
    length: int
    calibration: Calibration | None
    needed: int | None
    statistics: list[Floats] = field(default_factory=list[Floats])
    fixed: list[Floats] = field(default_factory=list[Floats])

    @staticmethod
    def of(cell: Cell, rows: Floats, length: int, seed: int) -> "_Stream":
        """Calibrate on the last windows of the rows, or note how many windows the refusal asks for."""
        baseline = BaselineData.of_values(rows[-cell.windows * cell.n :])
        try:
            return _Stream(cell, baseline, length, calibrate(baseline, n=cell.n, seed=seed), None)
        except InvalidInputError as error:
            needed = re.search(r"needs (\d+)", str(error))
            return _Stream(cell, baseline, length, None, int(needed[1]) if needed else 0)

    def see(self, windows: Floats) -> None:
        """Measure windows, shape (windows, n)."""
        if self.calibration is not None:
            self.statistics.append(yardstick_of(self.baseline, self.cell.n).measure_rows(windows))
        if self.cell.field == "normal":
            self.fixed.append(fixed_psi(self.baseline, windows))

    def run(self, first: float) -> Run:
        """Return what came of it."""
        # Quantile bins see the same in every field.
        fixed = np.concatenate(self.fixed) > FIXED if self.fixed else np.zeros(self.length, dtype=np.bool_)
        independent = self.calibration is not None and self.calibration.kind == "rows"
        fixed_first = float(fixed.argmax() + 1) if fixed.any() else np.inf
        return Run(self.cell, first, self.needed, independent, fixed_first, int(fixed.sum()))


def simulate(block: Block) -> tuple[list[Run], float]:
    """Return what each stream of a block did, and the CPU seconds it took."""
    began = time.process_time()
    streams = [stream for seed in block.runs for stream in _watched(block, seed)]
    accepted = [stream for stream in streams if stream.calibration is not None]
    firsts = iter(first_alarms(accepted, block.n).tolist() if accepted else [])
    runs = [stream.run(np.inf if stream.calibration is None else next(firsts)) for stream in streams]
    return runs, time.process_time() - began


def _watched(block: Block, seed: int) -> Iterator[_Stream]:
    """Draw one run, as every field and with every baseline, and measure its windows as they come."""
    rows = Rows([block.n, round(block.phi * 100), round(block.shift_sd * 100), seed], block.phi)
    drawn = rows.take(max(block.windows) * block.n)
    streams: list[_Stream] = []
    for one in block.fields:
        values = mapped(drawn, one)
        streams += [_Stream.of(cell, values, block.length, seed) for cell in block.cells() if cell.field == one]
    for count in _portions(block.length, max(1, ROWS_AT_ONCE // block.n)):
        drawn = rows.take(count * block.n) + block.shift_sd
        for one in block.fields:
            windows = mapped(drawn, one).reshape(count, block.n)
            for stream in streams:
                if stream.cell.field == one:
                    stream.see(windows)
    for stream in streams:
        # A million rows of baseline are not kept until every run is drawn.
        stream.baseline = BaselineData.of_values([])
        yield stream


def _portions(total: int, most: int) -> Iterator[int]:
    for at in range(0, total, most):
        yield min(most, total - at)


def first_alarms(streams: Sequence[_Stream], n: int) -> Floats:
    """Return after how many windows each stream alarms, infinite where it never does."""
    tracks = Tracks([stream.calibration for stream in streams if stream.calibration is not None])
    values = np.stack([np.concatenate(stream.statistics) for stream in streams])
    first = np.full(len(streams), np.inf)
    level, size = np.full(len(streams), ALARM_AT), np.full((len(streams), len(NAMES)), float(n))
    for window in range(values.shape[1]):
        told = tracks.advance(values[:, window], size, level)
        first[(told.evidence >= ALARM_AT) & np.isinf(first)] = window + 1
    return first


def outcomes(blocks: Iterable[Block], jobs: int) -> tuple[list[Outcome], float]:
    """Simulate blocks in as many processes; return the outcome of each cell in order, and CPU seconds."""
    longest_first = sorted(blocks, key=lambda block: -block.n * len(block.runs))
    runs: dict[Cell, list[Run]] = {}
    cpu_s, length = 0.0, {cell: block.length for block in longest_first for cell in block.cells()}
    with ProcessPoolExecutor(jobs) as pool:
        for found, seconds in pool.map(simulate, longest_first):
            cpu_s += seconds
            for run in found:
                runs.setdefault(run.cell, []).append(run)
    return [Outcome.of(cell, runs[cell], length[cell]) for cell in sorted(runs)], cpu_s
