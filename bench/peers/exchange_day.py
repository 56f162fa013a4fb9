"""How a benchmark asks another library to record a day: numbers in, JSON out. Runs in the library's own environment.

In the folder that is named on the command line lies `day.npy`: float32, shape (minutes, inferences a minute, fields).
The answer goes to `answer.json` beside it: bytes that leave the device a day, as they are and compressed, CPU seconds
of recording and encoding, and what the process holds in the end.
"""

import gzip
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Day = NDArray[np.float32]


def answer(record: Callable[[Day], Iterator[bytes]], distributions: Iterable[str]) -> None:
    """Record the day that lies in the folder named on the command line; each piece is sent by itself."""
    folder = Path(sys.argv[1])
    day = np.load(folder / "day.npy")
    began = time.process_time()
    pieces = list(record(day))
    sent = [gzip.compress(piece) for piece in pieces]
    cpu_s = time.process_time() - began
    told = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in distributions}},
        "pieces": len(pieces),
        "bytes": sum(map(len, pieces)),
        "compressed": sum(map(len, sent)),
        "cpu_s": round(cpu_s, 2),
        **_memory(),
    }
    (folder / "answer.json").write_text(json.dumps(told))


def _memory() -> dict[str, float]:
    """Return MiB resident, and of that anonymous."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    facts = {line[0]: line[1:] for line in lines if line}
    return {"resident": int(facts["VmRSS:"][0]) / 1024, "anonymous": int(facts["RssAnon:"][0]) / 1024}
