"""How often rules fire although nothing drifted, by how many rows a window has: baselines of 10,000 rows.

A rule with a threshold on one window is noisy or blind depending on that number alone. One column has rows of
correlation 0.9, as frames that follow each other have. A promise of one false alarm in 10,000 windows is told
twice: alarms that begin, which is what it promises, and windows in alarm, because one false alarm lasts. Of windows so
wide that the baseline holds fewer than five it refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.signal import lfilter

from bench.peers import Answers
from bench.rules import LEVEL, Flags, Floats, beginnings, chi_squared, fixed_psi, in_deciles, psi
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import Tracks
from driftline.assay.statistics import yardstick_of
from driftline.errors import InvalidInputError

BASELINE_ROWS = 10_000


@dataclass(frozen=True)
class Column:
    """One column of the table: rows in a window, correlation of a row with the one before, and how much is drawn."""

    title: str
    n: int
    phi: float
    streams: int
    windows: int


COLUMNS = {
    "50": Column("n = 50", 50, 0.0, 100, 100),
    "200": Column("n = 200", 200, 0.0, 100, 100),
    "200-ar": Column("n = 200, AR 0.9", 200, 0.9, 100, 100),
    "1000": Column("n = 1,000", 1000, 0.0, 100, 100),
    "10000": Column("n = 10,000", 10_000, 0.0, 100, 10),
}
ALARM_AT = 10_000.0
# What is known of others from elsewhere, as measured for this project in 2026 in the same setting.
QUOTED: Mapping[str, Mapping[str, float]] = {
    "NannyML, defaults (quoted)": {"50": 0.006, "200": 0.01, "1000": 0.03, "10000": 1.0},
    "Azure ML, Wasserstein > 0.1 (quoted)": {"50": 0.95, "200": 0.31, "1000": 0.006, "10000": 0.0},
}

# A share of windows and of how many; None where a rule refuses or was not asked.
Share = tuple[float, int] | None


def samples(*, quick: bool) -> dict[str, tuple[Floats, Floats]]:
    """Draw baselines, (streams, rows), and windows, (streams, windows, rows), a column; a tenth of it when quick."""
    draw = np.random.default_rng(7)
    return {
        name: _sample(column, column.streams // 10 if quick else column.streams, draw)
        for name, column in COLUMNS.items()
    }


def _sample(column: Column, streams: int, draw: np.random.Generator) -> tuple[Floats, Floats]:
    rows = draw.normal(size=(streams, BASELINE_ROWS + column.windows * column.n))
    if column.phi:
        rows[:, 1:] *= np.sqrt(1 - column.phi**2)
        rows = np.asarray(lfilter([1.0], [1.0, -column.phi], rows))
    return rows[:, :BASELINE_ROWS], rows[:, BASELINE_ROWS:].reshape(streams, column.windows, column.n)


def window_sizes(drawn: Mapping[str, tuple[Floats, Floats]], peers: Sequence[Answers]) -> dict[str, object]:
    """Print which share of windows fires, and return it."""
    rows: dict[str, dict[str, Share]] = {}
    for size, (baselines, windows) in drawn.items():
        for rule, fires in {**_ours(baselines, windows), **_rules(baselines, windows)}.items():
            rows.setdefault(rule, {})[size] = _share(fires)
    for peer in peers:
        for one in peer.answers:
            if one.data != "fleet":
                rows.setdefault(one.ask.label, {})[one.data] = _share(one.fires)
    print(f"\nno drift: share of windows that fire, baseline {BASELINE_ROWS:,} rows (how many windows)")
    print(table(rows), flush=True)
    return {
        "baseline_rows": BASELINE_ROWS,
        "alarm_at": ALARM_AT,
        "columns": {name: asdict(column) for name, column in COLUMNS.items()},
        "rows": [{"rule": rule, "share_and_windows": shares} for rule, shares in rows.items()],
        "quoted": QUOTED,
        "quoted_from": "as measured for this project in 2026",
    }


def _share(fires: Flags | None) -> Share:
    return None if fires is None else (round(float(fires.mean()), 5), fires.size)


def _ours(baselines: Floats, windows: Floats) -> dict[str, Flags | None]:
    """Return which windows fire under a promise, and by PSI on our own five bins."""
    read = [BaselineData.of_values(rows) for rows in baselines]
    score = np.stack([fixed_psi(one, own) for one, own in zip(read, windows, strict=True)])
    alarm = promised(read, windows)
    return {
        "driftline, a promise: alarms begun": None if alarm is None else beginnings(alarm),
        "driftline, a promise: in alarm": alarm,
        "driftline, Fixed(0.1), five bins": score > 0.1,
        "driftline, Fixed(0.25), five bins": score > 0.25,
    }


def promised(baselines: Sequence[BaselineData], windows: Floats) -> Flags | None:
    """Return which windows are in alarm; None where the promise refuses such baselines."""
    n = windows.shape[2]
    calibrations: list[Calibration] = []
    for seed, baseline in enumerate(baselines):
        try:
            calibrations.append(calibrate(baseline, n=n, seed=seed))
        except InvalidInputError:
            return None
    statistics = np.stack([yardstick_of(one, n).measure_rows(own) for one, own in zip(baselines, windows, strict=True)])
    tracks, level = Tracks(calibrations), np.full(len(baselines), ALARM_AT)
    size = np.full((len(baselines), statistics.shape[2]), float(n))
    told = [tracks.advance(statistics[:, window], size, level).alarmed for window in range(statistics.shape[1])]
    return np.stack(told, axis=1)


def _rules(baselines: Floats, windows: Floats) -> dict[str, Flags]:
    counted = [in_deciles(rows, own) for rows, own in zip(baselines, windows, strict=True)]
    counts, reference = np.stack([one for one, _ in counted]), np.stack([other for _, other in counted])
    score = psi(counts, reference)
    return {
        "PSI > 0.1, ten bins": score > 0.1,
        "PSI > 0.2, ten bins": score > 0.2,
        "PSI > 0.25, ten bins": score > 0.25,
        "χ² p < 0.05, ten bins": chi_squared(counts, reference) < LEVEL,
    }


def table(rows: Mapping[str, Mapping[str, Share]]) -> str:
    """Return the shares, one of `COLUMNS` each; what is quoted comes last."""
    head = f"{'rule':36}" + "".join(f"{column.title:>17}" for column in COLUMNS.values())
    lines = [head, "-" * len(head)]
    lines += [
        f"{rule:36}" + "".join(f"{_cell(shares.get(name)):>17}" for name in COLUMNS) for rule, shares in rows.items()
    ]
    for rule, quoted in QUOTED.items():
        lines.append(
            f"{rule:36}" + "".join(f"{quoted[name]:>17.2%}" if name in quoted else f"{'–':>17}" for name in COLUMNS)
        )
    return "\n".join(lines)


def _cell(share: Share) -> str:
    return "refused" if share is None else f"{share[0]:.2%} ({share[1]:,})"
