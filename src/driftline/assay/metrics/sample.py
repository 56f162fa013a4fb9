"""One side of a comparison, as metrics see it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = Floats | float

UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A baseline or a window, or many windows at once: then every number is an array of one entry a window.

    `shares` has shape (bins,) or (windows, bins); `least`, `greatest`, `mean` and `std` are of the finite values.
    A metric that asks for a number which is not known (NaN) has no score (NaN).
    """

    shares: Floats
    n: Numbers = UNKNOWN
    least: Numbers = UNKNOWN
    greatest: Numbers = UNKNOWN
    mean: Numbers = UNKNOWN
    std: Numbers = UNKNOWN


def column(number: Numbers) -> Floats:
    """Return a number a window as a column, so that it goes with shares a bin."""
    return np.asarray(number, dtype=np.float64)[..., None]


def rooted(parts: Floats) -> Floats:
    """Scale parts whose sum is a squared distance so that they add up to the distance."""
    distance = np.sqrt(parts.sum(axis=-1, keepdims=True))
    return np.divide(parts, distance, out=np.zeros_like(parts), where=distance > 0)


def in_sd(shift: Numbers, std: Numbers, n: Numbers) -> Floats:
    """Return shifts in the baseline's standard deviation.

    A baseline of one value has no spread. A shift d then counts in d / √n, about the spread that one other value among
    its n would have made: any change is √n, so that it is seen, and finite.

    >>> in_sd(np.array([-3.0, 0.0]), 1.5, 100).tolist(), in_sd(np.array([-3.0, 0.0]), 0.0, 100).tolist()
    ([-2.0, 0.0], [-10.0, 0.0])
    """
    if isinstance(std, float) and std > 0:
        return np.asarray(shift) / std + 0.0
    known = np.asarray(std, dtype=np.float64)
    return np.where(known > 0, shift / np.where(known > 0, known, 1.0), np.sign(shift) * np.sqrt(n)) + 0.0
