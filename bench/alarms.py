"""Does an alarm keep its promise, and how soon does it find drift? `python -m bench.alarms [--quick | --real]`.

Each section simulates, prints its tables, and names the figures that miss their target: quiet streams (`bench.quiet`)
and shifted ones (`bench.power`), and a fleet beside fixed rules and other libraries (`bench.fleet`).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.fleet import fleet
from bench.machine import machine
from bench.power import power
from bench.quiet import quiet

RESULTS = Path(__file__).parent / "results" / "alarms.json"
# Each takes quick and jobs, prints, and returns what is kept of it and what missed its target.
SECTIONS: dict[str, Callable[..., tuple[dict[str, object], list[str]]]] = {
    "quiet": quiet,
    "shifted": power,
    "fleet": fleet,
}


def main() -> int:
    """Run every section; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of a quarter of an hour; writes nothing")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--only", choices=SECTIONS, help="one section; writes nothing")
    parser.add_argument("--real", action="store_true", help="real data instead; DRIFTLINE_SAMPLES has the clip")
    arguments = parser.parse_args()
    if arguments.real:
        # OpenCV, onnxruntime and pandas are for real data alone.
        from bench import real

        return real.main()
    began = time.perf_counter()
    document: dict[str, object] = {"machine": machine()}
    missed: list[str] = []
    for name, section in SECTIONS.items():
        if arguments.only in {None, name}:
            told, misses = section(quick=arguments.quick, jobs=arguments.jobs)
            document |= told
            missed += misses
    wall_s = round(time.perf_counter() - began, 1)
    print(f"\n{wall_s:.0f} s\n" + ("\n".join(f"MISSED {one}" for one in missed) or "every target is met"))
    if not arguments.quick and arguments.only is None:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = document | {"missed": missed, "wall_s": wall_s}
        RESULTS.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
