"""How a benchmark asks another library: arrays in, JSON out. Runs in the library's own environment, with numpy alone.

In the folder that is named on the command line lie `NAME.baselines.npy`, shape (streams, rows), `NAME.windows.npy`,
shape (streams, windows, rows), and `ask.json`: a list of {rule, data, streams, windows}. The answers go to
`answers.json` beside them: which windows each rule fired in, and how long that took.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# From a baseline, (rows,), and windows in time order, (windows, rows), to whether each fires.
Rule = Callable[[Floats, Floats], Iterable[Any]]


def answer(rules: Mapping[str, Rule], distributions: Iterable[str]) -> None:
    """Answer what is asked in the folder named on the command line."""
    folder = Path(sys.argv[1])
    versions = {"python": platform.python_version(), **{name: version(name) for name in distributions}}
    answers: list[dict[str, object]] = []
    for ask in json.loads((folder / "ask.json").read_text()):
        baselines = np.load(folder / f"{ask['data']}.baselines.npy", mmap_mode="r")[: ask["streams"]]
        windows = np.load(folder / f"{ask['data']}.windows.npy", mmap_mode="r")[: ask["streams"], : ask["windows"]]
        rule, began = rules[ask["rule"]], time.process_time()
        fires = [
            [bool(fired) for fired in rule(np.array(baseline), np.array(stream))]
            for baseline, stream in zip(baselines, windows, strict=True)
        ]
        answers.append({**ask, "fires": fires, "cpu_s": round(time.process_time() - began, 2)})
        # After each answer, so that one who runs out of time has said something.
        (folder / "answers.part").write_text(json.dumps({"versions": versions, "answers": answers}))
        (folder / "answers.part").replace(folder / "answers.json")
