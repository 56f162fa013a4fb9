"""Runs the simulation: `python -m tests.simulation --seed 17 --trace`, or `--seeds 0:1000 --processes 2`."""

import argparse
import gc
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.fleet import DAYS, Fleet


@dataclass(frozen=True)
class Result:
    """What became of one seed; `seconds` of CPU."""

    seed: int
    problems: Sequence[str]
    counts: Counter[str]
    trace_hash: str
    seconds: float


def run(seed: int) -> Result:
    """Run one seed."""
    logging.disable(logging.ERROR)
    began_s = time.process_time()
    # Nearly all that is made in a run stays until its end: to look for what does not would take a tenth of its time.
    gc.disable()
    try:
        fleet = Fleet(seed)
        problems = fleet.run()
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    return Result(seed, problems, fleet.world.counts, fleet.world.trace_hash, time.process_time() - began_s)


def report(result: Result) -> Iterable[str]:
    """Say what is wrong with a seed, and how it is seen again."""
    if result.problems:
        yield f"seed {result.seed} fails; again: python -m tests.simulation --seed {result.seed} --trace"
        yield from (f"  {one}" for one in result.problems[:8])


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 where a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", help="FIRST:END, END not included")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print everything that happens in --seed")
    parser.add_argument("--days", type=int, default=DAYS, help="shorter runs, with --seed")
    parser.add_argument("--json", type=Path, help="write what was counted into this file")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, options.days, is_traced=options.trace)
    first, _, end = (options.seeds or "0:50").partition(":")
    return _many(range(int(first), int(end)), options.processes, options.json)


def _one(seed: int, days: int, *, is_traced: bool) -> int:
    logging.disable(logging.ERROR)
    fleet = Fleet(seed, days=days, show=print if is_traced else None)
    problems = fleet.run()
    print(f"seed {seed}, trace {fleet.world.trace_hash}")
    for one in problems:
        print(f"  {one}")
    return int(bool(problems))


def _many(seeds: range, processes: int, path: Path | None) -> int:
    began_s = time.monotonic()
    with multiprocessing.Pool(processes) as pool:
        results: list[Result] = []
        for result in pool.imap(run, seeds, chunksize=4):
            results.append(result)
            for line in report(result):
                print(line, flush=True)
    failed = [one.seed for one in results if one.problems]
    counts = Counter[str]()
    for one in results:
        counts.update(one.counts)
    seconds, cpu_s = time.monotonic() - began_s, sum(one.seconds for one in results)
    for name, number in sorted(counts.items()):
        print(f"{number:>12,}  {name}")
    spent = f"{seconds:.0f} s, {cpu_s:.0f} s of CPU, {cpu_s / len(results):.2f} a seed"
    print(f"{len(results)} seeds, {len(failed)} failed; {spent}")
    if path is not None:
        facts = {"seeds": len(results), "failed": failed, "seconds": round(seconds), "cpu_seconds": round(cpu_s)}
        path.write_text(json.dumps(facts | {"counts": dict(sorted(counts.items()))}, indent=1) + "\n", encoding="utf-8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
