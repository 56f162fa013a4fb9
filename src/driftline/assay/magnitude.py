"""How large a change is, surely: what `min_effect` weighs beside the evidence that there is one.

Evidence grows with every row; a large fleet proves a hair's breadth. So an Alert may be asked to be worth it: the
change must be at least so large, with 95 % confidence. One noisy window says little about size, so all windows since
the evidence began to grow are taken together: the mean of their distances from what was usual, give or take what
windows vary, and what the baseline's own mean is uncertain by. That needs the more windows the fewer rows they have,
and means the same at n = 50 and n = 1,000,000.

All statistics speak of one unit, the standard deviation of the baseline's rows, and of how far values moved in the mean
(Wasserstein's distance). A shift of the mean counts as what it is; where the spread grows by the factor f, values move
by 0.8 ln f; a change of a share counts as 2 |asin √p − asin √q| (Cohen's h, which is read as shifts are). The omnibus
score has no such size: on a field of few values a PSI of 0.03 may be a hundredth of a standard deviation. A change of
shape alone, which leaves mean and spread where they were, is therefore never surely as large as anything; who wants to
hear of it sets no `min_effect`. A category has neither mean nor spread, and there √PSI counts, which is d for two
normal distributions d apart.

Sources: Cohen (1988), Statistical power analysis, for d and h; a normal variable lies √(2 / π) = 0.8 sd from its mean.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from driftline.assay.calibration import Calibration
from driftline.assay.evidence import Answer, State
from driftline.assay.observed import Floats
from driftline.assay.statistics import LOCATION, MISSING, NAMES, OMNIBUS, OUTSIDE, SPREAD, WindowStatistics
from driftline.wire.api import Status

# Evidence that was never this large has not begun to grow: quiet streams stay below it mostly.
BEGAN = 10.0
# How often a bound is wrong, all statistics together.
DOUBT = 0.05
# Of the 2 ln f by which a logarithmic variance grows ten cells see 1.4 where f is near 1 (1.1 at f = 1.5).
MOVED = math.sqrt(2 / math.pi) / 1.4
WORDS = {
    LOCATION: "the mean",
    SPREAD: "the spread",
    OMNIBUS: "the distribution",
    MISSING: "the missing share",
    OUTSIDE: "the share outside the baseline's range",
}
_NONE = (0.0,) * len(NAMES)


@dataclass(frozen=True, slots=True)
class Magnitude:
    """What one stream remembers of the windows since its evidence began to grow: small, and JSON can hold it.

    `windows` is how many gave each statistic, `total` the sum of their distances from what was usual, `squares` that of
    their variances in parts of a usual window's. `reached` is True once an Alert was worth it, until it is over.
    """

    windows: tuple[float, ...] = _NONE
    total: tuple[float, ...] = _NONE
    squares: tuple[float, ...] = _NONE
    reached: bool = False

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; `Magnitude.of` reads it back."""
        return asdict(self)

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Magnitude":
        """Read a document."""
        sums = {name: tuple(document[name]) for name in ("windows", "total", "squares")}
        return Magnitude(**sums, reached=bool(document["reached"]))


@dataclass(frozen=True, slots=True)
class Weighed:
    """An answer's `status` after its size was weighed, the statistic that changed most surely, and by how much.

    `size` is in standard deviations of the baseline's rows, and surely between `at_least` and `at_most`; all are zero
    before any evidence. `text` says so in a sentence, empty where nothing changed.
    """

    status: Status
    statistic: str = ""
    size: float = 0.0
    at_least: float = 0.0
    at_most: float = 0.0
    text: str = ""


def weigh(
    magnitude: Magnitude,
    calibration: Calibration,
    before: State,
    window: WindowStatistics,
    answer: Answer,
    *,
    min_effect: float | None = None,
    start_ns: int | None = None,
) -> tuple[Magnitude, Weighed]:
    """Weigh the answer that `step` gave to a window, from the same state `before` it; go on with what is returned.

    An Alert whose size is not surely `min_effect` yet is a Warning. `window` is as it was measured, and a seasonal
    calibration must know when it begins (`start_ns`), as in `step`.
    """
    if answer.status in {"NoData", "TooFew"}:
        return magnitude, Weighed(answer.status)
    if answer.resolved:
        return Magnitude(), Weighed(answer.status)
    grown = _grown(magnitude, calibration, before, window, start_ns)
    if answer.status == "Ok":
        # Most windows are: how large a change is that nobody speaks of is not worked out.
        return replace(grown, reached=False), Weighed("Ok")
    size, low, high, sure = _bounds(grown, calibration, before)
    largest = int(np.argmax(low))
    # Nothing is surely large: then what changed most surely is told, of what has a size.
    told = largest if low[largest] > 0 else int(np.argmax(np.where(np.isnan(high), -1.0, sure)))
    reached = grown.reached or min_effect is None or bool(low[largest] >= min_effect)
    grown = replace(grown, reached=reached and answer.status == "Alert")
    status: Status = "Warning" if answer.status == "Alert" and not reached else answer.status
    found = float(size[told]), float(low[told]), float(high[told])
    text = _text(told, *found[1:], round(grown.windows[told]), None if reached else min_effect)
    return grown, Weighed(status, NAMES[told], *found, text)


def _grown(
    magnitude: Magnitude, calibration: Calibration, before: State, window: WindowStatistics, start_ns: int | None
) -> Magnitude:
    if math.fsum(before.evidence) < BEGAN:
        magnitude = Magnitude(reached=magnitude.reached and before.alarmed)
    relative = np.array(calibration.adjusted(window, start_ns).values)
    season = calibration.season
    spread = np.ones(len(NAMES)) if season is None or start_ns is None else np.array(season.spreads(start_ns))
    rho, mean, last = np.array(calibration.rho), np.array(before.mean), np.array(before.last)
    residual = np.where(rho == 0, relative, relative - rho * last)
    alone = np.isnan(residual)
    # Without a predecessor the distance is of the window itself; in residuals it counts less by as much.
    distance = np.where(alone, relative * (1 - rho), residual) - mean
    known = ~np.isnan(distance)
    rows = np.array([window.count if i == MISSING else window.n for i in range(len(NAMES))])
    variance = spread**2 * np.maximum(1.0, calibration.n / np.maximum(rows, 1))
    return Magnitude(
        _sum(magnitude.windows, known * 1.0),
        _sum(magnitude.total, np.where(known, distance * spread, 0.0)),
        _sum(magnitude.squares, np.where(known, variance, 0.0)),
        magnitude.reached,
    )


def _sum(before: tuple[float, ...], now: Floats) -> tuple[float, ...]:
    return tuple((np.array(before) + now).tolist())


def _bounds(magnitude: Magnitude, calibration: Calibration, before: State) -> tuple[Floats, Floats, Floats, Floats]:
    """Return size, least and greatest size in standard deviations of a row, and size in standard errors."""
    # Imported late, as everywhere: only a window that is weighed needs it.
    from scipy.special import stdtrit

    windows = np.maximum(np.array(magnitude.windows), 1.0)
    rho = np.array(calibration.rho)
    freedom = np.array(before.freedom)
    sd = np.maximum(np.sqrt(np.array(before.squares) / np.maximum(freedom, 1.0)), np.array(calibration.floor))
    squares = np.array(magnitude.squares) / windows
    error = sd * np.sqrt(squares * (1 / windows + 1 / np.array(before.size))) / (1 - rho)
    shift = np.array(magnitude.total) / windows / (1 - rho)
    t = stdtrit(np.clip(freedom, 1.0, np.array(calibration.freedom_max)), 1 - DOUBT / 2 / len(NAMES))
    # An omnibus score only grows with drift.
    shift[OMNIBUS] = max(shift[OMNIBUS], 0.0)
    size = np.abs(shift)
    sure = np.where(np.array(magnitude.windows) > 0, size / np.maximum(error, 1e-300), 0.0)
    low, high = np.maximum(size - t * error, 0.0), size + t * error
    low, high = _in_sd(low, calibration), _in_sd(high, calibration)
    if magnitude.windows[LOCATION]:
        low[OMNIBUS], high[OMNIBUS] = 0.0, np.nan
    return _in_sd(size, calibration), low, high, sure


def _in_sd(shift: Floats, calibration: Calibration) -> Floats:
    """Return shifts of statistics as the shift of the mean that is as easily seen."""
    # Moving one of n rows by a standard deviation moves the location by its floor.
    row = calibration.floor[LOCATION] * calibration.n
    usual = calibration.mean[OMNIBUS] / (1 - calibration.rho[OMNIBUS])
    if calibration.season is not None and calibration.season.centre[OMNIBUS]:
        usual += float(np.mean(calibration.season.centre[OMNIBUS]))
    # The statistic is the logarithm of PSI; no PSI of shares that a window can have is e¹⁰⁰.
    grown = min(usual + float(shift[OMNIBUS]), 100.0)
    shape = math.sqrt(max(0.0, math.exp(grown) - math.exp(usual)))
    return np.array([shift[LOCATION] / row, MOVED * shift[SPREAD], shape, 2 * shift[MISSING], 2 * shift[OUTSIDE]])


def _text(statistic: int, low: float, high: float, windows: int, min_effect: float | None) -> str:
    """Say between which sizes a change surely is, and of how many windows that speaks.

    One size would stand beside the window's own effect and differ from it: that is of one window, measured from the
    whole baseline, this of all since the evidence grows, from what is usual.
    """
    what, over = WORDS[statistic], "" if windows == 1 else f" over the last {windows} windows together"
    if min_effect is None:
        return f"{what} changed by {low:.2g} to {high:.2g} sd{over}, with 95 % confidence"
    if high < min_effect:
        return (
            f"evidence is there, the change of {what}{over} is at most {high:.2g} sd, "
            f"below min_effect {min_effect:g} sd"
        )
    return (
        f"evidence is there, the change of {what}{over} is {low:.2g} to {high:.2g} sd, "
        f"not surely min_effect {min_effect:g} sd yet"
    )
