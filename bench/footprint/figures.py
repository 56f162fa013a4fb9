"""Figures with their targets, and what Linux says of a process."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MB = 1e6


@dataclass(frozen=True)
class Figure:
    """One figure; `below` None is measured and not promised. `note` says how it was found, or what it is a part of."""

    what: str
    value: float
    unit: str
    below: float | None = None
    note: str = ""

    @property
    def missed(self) -> str | None:
        """What is wrong with it, None where nothing is."""
        if self.below is None or self.value <= self.below:
            return None
        return f"{self.what}: {self.value:.3g} {self.unit}, target at most {self.below:g}"


def told(title: str, figures: Sequence[Figure]) -> tuple[dict[str, object], list[str]]:
    """Print a table; return what is kept of it and what missed its target."""
    print(f"\n{title}")
    for one in figures:
        target = "" if one.below is None else f"<= {one.below:g}: {'MISSED' if one.missed else 'met'}"
        print(f"{one.what:<66} {one.value:10.2f} {one.unit:<6} {target:<16} {one.note}", flush=True)
    return {title: [asdict(one) for one in figures]}, [one.missed for one in figures if one.missed]


@dataclass(frozen=True)
class Memory:
    """What a process holds, in MiB as the kernel counts: resident, and of that anonymous (its own, in no file)."""

    resident: float
    anonymous: float

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Ask the kernel; without `smaps_rollup` the anonymous part is that of `status`."""
        rollup = Path(f"/proc/{pid}/smaps_rollup")
        facts = _facts(rollup if rollup.exists() else Path(f"/proc/{pid}/status"))
        return cls(
            facts.get("Rss", facts.get("VmRSS", 0)) / 1024,
            facts.get("Anonymous", facts.get("RssAnon", 0)) / 1024,
        )


def written_bytes(pid: int) -> int:
    """Return how many bytes of its files a process has sent on their way to the disk."""
    return _facts(Path(f"/proc/{pid}/io"))["write_bytes"]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its threads included and its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _facts(path: Path) -> dict[str, int]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) for name, _, value in lines if value.split()[:1] and value.split()[0].isdigit()}
