"""The same day of numbers recorded by others: bytes that leave the device, memory, CPU. Each in its own environment.

Bodies alone: what HTTP, TLS and TCP add is the same for all who send as often, and driftline's own is measured whole in
`bench.footprint.agent`.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.footprint.figures import MB
from bench.peers import ANSWER_MAX_S, CACHE, PEERS, Peer, install, python_of, run

FIELDS, A_MINUTE, MINUTES = 5, 60, 1440


@dataclass(frozen=True)
class Recorded:
    """Who records, and how often what it made is sent."""

    label: str
    script: str
    peer: Peer | None
    note: str


# The newest that installed together on Python 3.11, November 2026.
ALL = (
    Recorded("driftline", "log_driftline", None, "windows, each ten minutes"),
    Recorded("raw rows, float32", "log_rows", Peer("rows", ("numpy==2.4.6",), ()), "each ten minutes"),
    Recorded(
        "OpenTelemetry SDK, OTLP",
        "log_opentelemetry",
        Peer("opentelemetry", ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-common==1.45.2",
                               "numpy==2.4.6"), ()),
        "exponential histograms, each minute",
    ),
    Recorded("whylogs", "log_whylogs", next(one for one in PEERS if one.name == "whylogs"), "a profile each minute"),
)  # fmt: skip


def peers(*, quick: bool) -> tuple[dict[str, object], list[str]]:
    """Ask all; who cannot be installed, or does not answer, is listed with the reason."""
    told: list[dict[str, Any]] = []
    CACHE.mkdir(exist_ok=True)
    print(f"\nThe same day elsewhere: {FIELDS} fields, windows of a minute, n = {A_MINUTE}; bodies alone")
    print(f"{'':28}{'MB a day':>10}{'gzip':>8}{'ratio':>7}{'pieces':>8}{'MiB':>7}{'anon.':>7}{'CPU s':>7}")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        draw = np.random.default_rng(1)
        day = draw.beta(20, 2, (60 if quick else MINUTES, A_MINUTE, FIELDS)).astype(np.float32)
        np.save(Path(folder) / "day.npy", day)
        for one in ALL[:1] if quick else ALL:
            told.append({"name": one.label, "note": one.note} | _asked(one, Path(folder)))
            _print(told[-1], told[0])
    return {"The same day elsewhere": told}, []


def _asked(one: Recorded, folder: Path) -> dict[str, Any]:
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    script = Path(__file__).parents[1] / "peers" / f"{one.script}.py"
    try:
        if one.peer is None:
            subprocess.run([sys.executable, script, folder], check=True, capture_output=True, env=_own())
        elif reason := install(one.peer):
            return {"reason": f"not installed: {reason}"}
        else:
            run([python_of(one.peer.environment), "-W", "ignore", script, folder], ANSWER_MAX_S)
    except (subprocess.SubprocessError, OSError) as error:
        return {"reason": f"no answer: {getattr(error, 'stderr', None) or error}"[-300:]}
    return {"pins": [] if one.peer is None else one.peer.pins} | json.loads(answer.read_text())


def _own() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def _print(told: dict[str, Any], ours: dict[str, Any]) -> None:
    if "reason" in told:
        print(f"{told['name']:28}{told['reason']}")
        return
    least = min(told["bytes"], told["compressed"])
    ratio = least / min(ours["bytes"], ours["compressed"])
    print(
        f"{told['name']:28}{told['bytes'] / MB:10.3f}{told['compressed'] / MB:8.3f}{ratio:7.1f}{told['pieces']:8}"
        f"{told['resident']:7.0f}{told['anonymous']:7.0f}{told['cpu_s']:7.1f}  {told['note']}",
        flush=True,
    )
