"""Other libraries, asked the same question: each in an environment of its own, under `bench/.cache`.

An environment is made once a version (`python -m venv`, pip) and kept. Arrays go there as `.npy`, answers come back as
JSON (`exchange.py`). A library that cannot be installed, or does not answer, is listed with the reason and not counted.
Each is given as many windows as it judges in about a minute; the tables say how many.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CACHE = Path(__file__).parents[1] / ".cache"
INSTALL_MAX_S, ANSWER_MAX_S = 300, 180


@dataclass(frozen=True)
class Ask:
    """One rule of a peer: its label in the tables, and how much it is given.

    `sizes` is streams and windows of every window size without drift, of at most `rows` a stream where it is slow by
    the row; `fleet` how many streams of a fortnight.
    """

    rule: str
    label: str
    sizes: tuple[int, int]
    fleet: int = 0
    rows: int | None = None

    def of_windows(self, name: str, n: int) -> dict[str, object]:
        """Return what the script is asked about windows of n rows without drift; one window at least."""
        streams, windows = self.sizes
        most = windows if self.rows is None else min(windows, max(1, self.rows // n))
        return {"rule": self.rule, "data": name, "streams": streams, "windows": most}


@dataclass(frozen=True)
class Peer:
    """A library, what pip is asked for, and what is asked of it."""

    name: str
    pins: tuple[str, ...]
    asks: tuple[Ask, ...]

    @property
    def environment(self) -> Path:
        """Return where it is installed: another version, or another Python, goes elsewhere."""
        key = hashlib.sha256(" ".join((sys.version, *self.pins)).encode()).hexdigest()[:8]
        return CACHE / f"{self.name}-{key}"


# The newest of each that installed together on Python 3.11, November 2026.
PEERS = (
    Peer(
        "evidently",
        ("evidently==0.7.23", "pandas==2.3.3", "numpy==2.4.6", "scipy==1.17.1"),
        (
            Ask("report", "evidently: report, defaults", sizes=(20, 4)),
            Ask("test", "evidently: its default test alone", sizes=(20, 25), fleet=10),
        ),
    ),
    Peer(
        "whylogs",
        ("whylogs[viz]==1.6.4", "pandas==2.3.3", "numpy==2.4.6", "scipy==1.17.1"),
        (Ask("drift", "whylogs: drift, defaults", sizes=(20, 15), fleet=10),),
    ),
    Peer(
        "frouros",
        ("frouros==0.9.0", "numpy==2.1.3", "scipy==1.14.1"),
        (
            Ask("ks", "frouros: KSTest, p < 0.05", sizes=(20, 25), fleet=10),
            Ask("psi", "frouros: PSI > 0.25", sizes=(20, 25), fleet=10),
        ),
    ),
    Peer(
        "river",
        ("river==0.26.1", "numpy==2.4.6", "scipy==1.17.1"),
        (
            Ask("adwin", "river: ADWIN", sizes=(20, 25), fleet=200),
            Ask("page_hinkley", "river: PageHinkley", sizes=(20, 25), fleet=200),
            Ask("kswin", "river: KSWIN", sizes=(4, 50), rows=6000),
        ),
    ),
)


@dataclass(frozen=True)
class Answer:
    """Which windows one rule fired in, (streams, windows), and what that took."""

    ask: Ask
    data: str
    fires: Flags
    cpu_s: float


@dataclass(frozen=True)
class Answers:
    """What a peer said: nothing, and why, where `reason` is given."""

    peer: Peer
    reason: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    answers: tuple[Answer, ...] = ()
    install_s: float = 0.0
    wall_s: float = 0.0

    def document(self) -> dict[str, object]:
        """Return what the results keep: versions, how much each rule was given, and what it cost."""
        return {
            "name": self.peer.name,
            "pins": self.peer.pins,
            "reason": self.reason,
            "versions": dict(self.versions),
            "asked": [
                {**asdict(one.ask), "data": one.data, "windows": one.fires.size, "cpu_s": one.cpu_s}
                for one in self.answers
            ],
            "install_s": round(self.install_s, 1),
            "wall_s": round(self.wall_s, 1),
        }


def ask_all(sizes: Mapping[str, tuple[Floats, Floats]], fleet: tuple[Floats, Floats], *, jobs: int) -> list[Answers]:
    """Ask every peer, `jobs` side by side; data are baselines, (streams, rows), and windows, (streams, windows, rows).

    Of `fleet` a peer takes the first so many streams, all windows.
    """
    CACHE.mkdir(exist_ok=True)
    rows = {name: windows.shape[2] for name, (_, windows) in sizes.items()}
    with tempfile.TemporaryDirectory(dir=CACHE) as folder, ThreadPoolExecutor(jobs) as pool:
        for name, (baselines, windows) in {**sizes, "fleet": fleet}.items():
            np.save(Path(folder) / f"{name}.baselines.npy", baselines)
            np.save(Path(folder) / f"{name}.windows.npy", windows)
        told = list(pool.map(partial(_asked, folder=Path(folder), sizes=rows), PEERS))
    for one in told:
        if one.reason:
            print(f"{one.peer.name}: {one.reason}", flush=True)
    return told


def _asked(peer: Peer, folder: Path, sizes: Mapping[str, int]) -> Answers:
    began = time.perf_counter()
    reason = install(peer)
    install_s = time.perf_counter() - began
    if reason:
        return Answers(peer, f"not installed: {reason}", install_s=install_s)
    own = folder / peer.name
    own.mkdir()
    for path in folder.glob("*.npy"):
        (own / path.name).symlink_to(path)
    asks = [ask.of_windows(name, n) for ask in peer.asks for name, n in sizes.items()]
    fleet = [{"rule": ask.rule, "data": "fleet", "streams": ask.fleet, "windows": None} for ask in peer.asks]
    asks += [one for one in fleet if one["streams"]]
    (own / "ask.json").write_text(json.dumps(asks))
    reason = _answering(peer, own)
    wall_s = time.perf_counter() - began - install_s
    if not (own / "answers.json").exists():
        return Answers(peer, reason or "no answer", install_s=install_s, wall_s=wall_s)
    document = json.loads((own / "answers.json").read_text())
    by_rule = {ask.rule: ask for ask in peer.asks}
    answers = tuple(
        Answer(by_rule[one["rule"]], one["data"], np.array(one["fires"]), one["cpu_s"]) for one in document["answers"]
    )
    return Answers(peer, reason, document["versions"], answers, install_s, wall_s)


def _answering(peer: Peer, folder: Path) -> str | None:
    """Run a peer's script; return why it did not answer everything, or None."""
    script = Path(__file__).with_name(f"ask_{peer.name}.py")
    try:
        run([python_of(peer.environment), "-W", "ignore", script, folder], ANSWER_MAX_S)
    except subprocess.TimeoutExpired:
        return f"stopped after {ANSWER_MAX_S} s; what it had answered by then counts"
    except (subprocess.SubprocessError, OSError) as error:
        return f"no answer: {_last_line(error)}"
    return None


def install(peer: Peer) -> str | None:
    """Make the environment unless it is there; return why that is impossible, or None."""
    home = peer.environment
    done = home / "installed"
    if done.exists():
        return None
    print(f"{peer.name}: installing {' '.join(peer.pins)} into {home.relative_to(CACHE.parent)}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    try:
        run([sys.executable, "-m", "venv", home], INSTALL_MAX_S)
        pip = [python_of(home), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run([*pip, *peer.pins], INSTALL_MAX_S)
    except (subprocess.SubprocessError, OSError) as error:
        return _last_line(error)
    done.touch()
    return None


def run(command: list[str | Path], seconds: float) -> None:
    """Run a command of a peer's, or make it stop."""
    # The peers get one core each, as we do, and nothing of our own path.
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=kept)


def python_of(home: Path) -> Path:
    """Return the interpreter of an environment."""
    return home / ("Scripts" if os.name == "nt" else "bin") / "python"


def _last_line(error: Exception) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return next(
        (line for line in reversed((text or str(error)).splitlines()) if line.strip()), "unknown reason"
    ).strip()
