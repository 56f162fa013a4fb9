"""river: detectors that watch a stream row by row, with their default settings. A window fires if any row of it does.

The baseline's rows come first and are not judged.
"""

from collections.abc import Iterator

from exchange import Floats, answer
from river.base import DriftDetector
from river.drift import ADWIN, KSWIN, PageHinkley


def adwin(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Feed all rows."""
    return watched(ADWIN(), baseline, windows)


def page_hinkley(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Feed all rows."""
    return watched(PageHinkley(), baseline, windows)


def kswin(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Feed as much of the baseline as it remembers: the last hundred rows."""
    detector = KSWIN(seed=1)
    return watched(detector, baseline[-detector.window_size :], windows)


def watched(detector: DriftDetector, baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Feed the baseline, then say of each window whether any of its rows fired."""
    for row in baseline.tolist():
        detector.update(row)
    for window in windows.tolist():
        fired = False
        for row in window:
            detector.update(row)
            fired |= detector.drift_detected
        yield fired


answer({"adwin": adwin, "page_hinkley": page_hinkley, "kswin": kswin}, ["river", "numpy", "scipy"])
