"""frouros: the Kolmogorov-Smirnov test and PSI; it leaves the level and the threshold to its user."""

from collections.abc import Iterator

from exchange import Floats, answer
from frouros.detectors.data_drift import PSI, KSTest


def ks(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Fire at p < 0.05."""
    detector = KSTest()
    detector.fit(X=baseline)
    for window in windows:
        yield detector.compare(X=window)[0].p_value < 0.05


def psi(baseline: Floats, windows: Floats) -> Iterator[bool]:
    """Fire above 0.25, on its ten bins of equal width."""
    detector = PSI()
    detector.fit(X=baseline)
    for window in windows:
        yield detector.compare(X=window)[0].distance > 0.25


answer({"ks": ks, "psi": psi}, ["frouros", "numpy", "scipy"])
