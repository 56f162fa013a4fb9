"""What a device costs: `python -m bench.device [--quick]`.

Memory of agent and worker, CPU of recording, bytes on the link with TLS, writes to flash, on the real programs; and
what others make of the same numbers. `DRIFTLINE_SAMPLES` names the folder with the models and the clip. Ends with 1
and the name of each figure that misses its target. Takes about ten minutes, peers included.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from compileall import compile_dir
from importlib.metadata import version
from pathlib import Path

import driftline
from bench.footprint.agent import day
from bench.footprint.peers import peers
from bench.footprint.recorder import recording
from bench.footprint.worker import workers
from bench.machine import machine

RESULTS = Path(__file__).parent / "results" / "device.json"
Section = Callable[[], tuple[dict[str, object], list[str]]]


def main() -> int:
    """Run every section; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute; writes nothing, and targets may be missed")
    parser.add_argument("--only", choices=("agent", "worker", "recorder", "peers"), help="one section; writes nothing")
    arguments = parser.parse_args()
    quick, samples = arguments.quick, os.environ.get("DRIFTLINE_SAMPLES")
    began = time.perf_counter()
    # As pip does where it installs: who compiles a module each time keeps what is left of that in memory.
    compile_dir(Path(driftline.__file__).parent, quiet=1)
    document: dict[str, object] = {"machine": machine() | _versions()}
    missed: list[str] = []
    for name, section in _sections(samples, quick=quick).items():
        if arguments.only in {None, name}:
            told, misses = section()
            document |= told
            missed += misses
    wall_s = round(time.perf_counter() - began, 1)
    print(f"\n{wall_s:.0f} s\n" + ("\n".join(f"MISSED {one}" for one in missed) or "every target is met"))
    if not quick and arguments.only is None:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = document | {"missed": missed, "wall_s": wall_s}
        RESULTS.write_text(json.dumps(kept, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return 1 if missed and not quick else 0


def _sections(samples: str | None, *, quick: bool) -> dict[str, Section]:
    def without_samples(what: str) -> Section:
        reason = f"{what}: not measured, DRIFTLINE_SAMPLES does not name the folder with the models and the clip"
        return lambda: ({}, [reason])

    made: dict[str, Section] = {"agent": lambda: day(quick=quick)}
    if samples is None:
        made |= {"worker": without_samples("worker"), "recorder": without_samples("recorder")}
    else:
        made["worker"] = lambda: workers(quick=quick, samples=Path(samples))
        made["recorder"] = lambda: recording(quick=quick, samples=Path(samples))
    return made | {"peers": lambda: peers(quick=quick)}


def _versions() -> dict[str, object]:
    return {name: version(name) for name in ("onnxruntime", "opencv-python-headless", "uvicorn", "starlette")}


if __name__ == "__main__":
    sys.exit(main())
