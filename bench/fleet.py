"""A fleet for a fortnight: how many false alarms a day, and how soon is drift found, beside the rules in use today.

200 streams send a window of 200 independent normal rows an hour for 14 days; halfway one stream in twenty shifts by a
quarter of a standard deviation and stays so. Each stream has a baseline of its own: 10,000 rows, which are K = 50 of
its windows (K = 100 beside it). The promise is one false alarm in 20 days over the whole fleet.

A policy says of each stream and hour whether it is in alarm. An *episode* begins with an hour in alarm that follows one
without. It is a false alarm where the stream has not drifted yet. A drifted stream is *found* if it is in alarm in an
hour after the shift; the delay runs from the shift to the end of the first such hour, so the least is 1 h.

`python -m bench.fleet` measures this part of `bench.alarms` alone and renews it in the results.

Other libraries judge fewer streams, half of which shift; their false alarms are scaled to the fleet's quiet streams.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from bench.peers import Answers, ask_all
from bench.rules import Flags, Floats, beginnings, fixed_psi, fleet_rules, in_deciles
from bench.window_sizes import samples, window_sizes
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import Tracks, alarm_level
from driftline.assay.statistics import yardstick_of

STREAMS, DRIFTED = 200, 10
HOURS, SHIFT_AT = 336, 168
N = 200
SHIFT_SD = 0.25
FALSE_ALARM_EVERY_S, INTERVAL_S = 20 * 86_400, 3600
REPEATS, REPEATS_QUICK = 50, 4
# Windows in a baseline: the first is held to the targets, the second told beside it.
BASELINES = (50, 100)
# Over the fortnight so many streams have not drifted, on average.
QUIET_STREAMS = STREAMS - DRIFTED * (1 - SHIFT_AT / HOURS)
# So many streams are there for other libraries, every second of which shifts.
PEER_STREAMS = 200

FALSE_A_DAY_MAX = 0.05
DELAY_MEDIAN_MAX_H = 6.0
OURS = "driftline, Promise('20 days')"
RESULTS = Path(__file__).parent / "results" / "alarms.json"


@dataclass(frozen=True)
class Tally:
    """What a policy did: episodes of false alarm in so many days of the fleet, and hours to find what drifted."""

    false: int = 0
    days: float = 0.0
    delays_h: tuple[float, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.false + other.false, self.days + other.days, self.delays_h + other.delays_h)


@dataclass(frozen=True)
class Row:
    """One line of the table, the interval is of 95 %: `streams` over all repeats, and windows in a baseline."""

    policy: str
    baseline_windows: int
    streams: int
    false_a_day: float
    interval: tuple[float, float]
    found: float
    delay_median_h: float | None
    delay_p90_h: float | None

    @staticmethod
    def of(policy: str, baseline_windows: int, streams: int, tally: Tally) -> "Row":
        """Sum up; where not even half are found there is no median."""
        delays = np.array(tally.delays_h)
        # Garwood's interval of a Poisson count.
        low = chi2.ppf(0.025, 2 * tally.false) / 2 if tally.false else 0.0
        high = chi2.ppf(0.975, 2 * tally.false + 2) / 2
        return Row(
            policy,
            baseline_windows,
            streams,
            round(tally.false / tally.days, 4),
            (round(float(low) / tally.days, 4), round(float(high) / tally.days, 4)),
            float(np.isfinite(delays).mean()),
            _quantile(delays, 0.5),
            _quantile(delays, 0.9),
        )


def _quantile(delays: Floats, share: float) -> float | None:
    value = float(np.quantile(delays, share, method="inverted_cdf"))
    return value if np.isfinite(value) else None


def tally(alarm: Flags, drifted: Flags) -> Tally:
    """Count what a policy said, (streams, hours); `drifted` says which streams shift, (streams,)."""
    quiet = np.ones(alarm.shape, dtype=np.bool_)
    quiet[drifted, SHIFT_AT:] = False
    after = alarm[drifted, SHIFT_AT:]
    delays = np.where(after.any(axis=1), after.argmax(axis=1) + 1.0, np.inf)
    days = float(quiet.sum()) * INTERVAL_S / 86_400 / QUIET_STREAMS
    return Tally(int((beginnings(alarm) & quiet).sum()), days, tuple(delays.tolist()))


def fortnight(draw: np.random.Generator, drifted: Flags, baseline_rows: int) -> tuple[Floats, Floats]:
    """Return baselines, (streams, rows), and the windows of a fortnight, (streams, hours, rows)."""
    baselines = draw.normal(size=(drifted.size, baseline_rows))
    windows = draw.normal(size=(drifted.size, HOURS, N))
    windows[drifted, SHIFT_AT:] += SHIFT_SD
    return baselines, windows


def repeat(seed: int, baseline_windows: int) -> tuple[dict[str, Tally], float]:
    """Simulate the fleet once; return what each policy did, and how many CPU seconds it took."""
    began = time.process_time()
    drifted = np.arange(STREAMS) < DRIFTED
    baselines, windows = fortnight(np.random.default_rng([seed, baseline_windows]), drifted, baseline_windows * N)
    calibrations: list[Calibration] = []
    statistics: list[Floats] = []
    fixed: list[Flags] = []
    for stream, (rows, own) in enumerate(zip(baselines, windows, strict=True)):
        baseline = BaselineData.of_values(rows)
        calibrations.append(calibrate(baseline, n=N, seed=stream))
        statistics.append(yardstick_of(baseline, N).measure_rows(own))
        fixed.append(fixed_psi(baseline, own) > 0.25)
    counts = [in_deciles(rows, own) for rows, own in zip(baselines, windows, strict=True)]
    flags: Mapping[str, Flags] = {
        OURS: promised(calibrations, np.stack(statistics)),
        "driftline, Fixed(0.25), five bins": np.stack(fixed),
        **fleet_rules(np.stack([one for one, _ in counts]), np.stack([other for _, other in counts])),
    }
    return {policy: tally(one, drifted) for policy, one in flags.items()}, time.process_time() - began


def promised(calibrations: list[Calibration], statistics: Floats) -> Flags:
    """Return when each stream is in alarm under the promise; statistics have shape (streams, hours, 5)."""
    tracks = Tracks(calibrations)
    streams, hours, kinds = statistics.shape
    level = np.full(streams, alarm_level(streams, FALSE_ALARM_EVERY_S, INTERVAL_S))
    size = np.full((streams, kinds), float(N))
    return np.stack([tracks.advance(statistics[:, hour], size, level).alarmed for hour in range(hours)], axis=1)


def fleet(*, quick: bool, jobs: int = 2) -> tuple[dict[str, object], list[str]]:
    """Measure the fleet and the window sizes, for our code, fixed rules and (unless quick) other libraries.

    Prints tables; returns what the results hold, under "fleet", "window_sizes" and "peers", and what misses its target.
    """
    began = time.perf_counter()
    repeats = REPEATS_QUICK if quick else REPEATS
    rows: list[Row] = []
    cpu_s = 0.0
    with ProcessPoolExecutor(jobs) as pool:
        for baseline_windows in BASELINES:
            told = list(pool.map(partial(repeat, baseline_windows=baseline_windows), range(repeats)))
            cpu_s += sum(seconds for _, seconds in told)
            for policy in told[0][0]:
                total = sum((one[policy] for one, _ in told), Tally())
                rows.append(Row.of(policy, baseline_windows, repeats * STREAMS, total))
    drawn = samples(quick=quick)
    drifted = np.arange(PEER_STREAMS) % 2 == 0
    theirs = fortnight(np.random.default_rng(1), drifted, BASELINES[0] * N)
    peers = [] if quick else ask_all(drawn, theirs, jobs=jobs)
    rows += _peers(peers, drifted)
    level = alarm_level(STREAMS, FALSE_ALARM_EVERY_S, INTERVAL_S)
    title = (
        f"fleet: {STREAMS} streams × {HOURS} hourly windows of {N} rows, {DRIFTED} shift by {SHIFT_SD} sd halfway, "
        f"{repeats} repeats; alarm at {level:,.0f}"
    )
    print(f"\n{title}\n{table(rows)}\nCPU {cpu_s:.0f} s", flush=True)
    document: dict[str, object] = {
        "fleet": {"title": title, "alarm_at": level, "rows": [asdict(row) for row in rows], "cpu_s": round(cpu_s, 1)},
        "window_sizes": window_sizes(drawn, peers),
        "peers": [one.document() for one in peers],
    }
    print(f"fleet, window sizes and peers: wall {time.perf_counter() - began:.0f} s", flush=True)
    held = next(row for row in rows if (row.policy, row.baseline_windows) == (OURS, BASELINES[0]))
    return document, misses(held)


def _peers(peers: Sequence[Answers], drifted: Flags) -> list[Row]:
    return [
        Row.of(one.ask.label, BASELINES[0], len(one.fires), tally(one.fires, drifted[: len(one.fires)]))
        for peer in peers
        for one in peer.answers
        if one.data == "fleet"
    ]


def misses(row: Row) -> list[str]:
    """Name each figure of our row that misses its target."""
    found: list[str] = []
    if row.false_a_day > FALSE_A_DAY_MAX:
        found.append(f"fleet: {row.false_a_day:.3f} false alarms a day are more than {FALSE_A_DAY_MAX}")
    if row.found < 1:
        found.append(f"fleet: only {row.found:.1%} of the drifted streams are found")
    if row.delay_median_h is None or row.delay_median_h > DELAY_MEDIAN_MAX_H:
        found.append(f"fleet: the median delay of {row.delay_median_h} h is more than {DELAY_MEDIAN_MAX_H:g} h")
    return found


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table of fixed width."""
    head = f"{'policy':40}{'K':>4}{'streams':>8} | {'false a day':>11} {'95 % interval':>17} {'found':>7} "
    head += f"{'median':>7} {'p90':>6}"
    lines = [head, "-" * len(head)]
    for row in rows:
        low, high = row.interval
        lines.append(
            f"{row.policy:40}{row.baseline_windows:4d}{row.streams:8d} | {row.false_a_day:11.3g} "
            f"{f'{low:.3g} … {high:.3g}':>17} {row.found:7.1%} {_hours(row.delay_median_h):>7} "
            f"{_hours(row.delay_p90_h):>6}"
        )
    return "\n".join(lines)


def _hours(delay: float | None) -> str:
    return "–" if delay is None else f"{delay:.0f} h"


def main() -> int:
    """Run this part alone; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute, without other libraries; writes nothing")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    arguments = parser.parse_args()
    told, missed = fleet(quick=arguments.quick, jobs=arguments.jobs)
    if not arguments.quick:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**known, **told}, indent=1, allow_nan=True) + "\n")
    print("\n".join(f"MISSED {one}" for one in missed) or "every target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
