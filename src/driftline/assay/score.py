"""One score, computed in place: `driftline.score(baseline, window)`.

Everything else that scores does so on the hub; this is for a notebook, a test, a look at two arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from driftline.assay.analysis import compare
from driftline.assay.baseline import BaselineData
from driftline.assay.checks import check_summarizer
from driftline.assay.observed import Observed, Part
from driftline.errors import EmptyWindowError, InvalidInputError
from driftline.wire.api import Aggregation, BinMode, Bins, Compat, Metric, Summarizer


@dataclass(frozen=True, slots=True)
class Score:
    """How far a window lies from its baseline: `value`, and the bins it was made of.

    `count` is all of the window, missing included; `notes` are sentences, e.g. that there are fewer bins than asked.
    """

    value: float
    metric: Metric
    bins: Bins
    count: int
    missing: int
    notes: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value


def score(
    baseline: ArrayLike,
    window: ArrayLike,
    metric: Metric = "psi",
    bins: int | Sequence[float] = 5,
    bin_mode: BinMode = "quantile",
    compat: Compat | None = None,
    *,
    aggregation: Aggregation = "density",
    weights: Sequence[float] | None = None,
) -> Score:
    """Compare two arrays of any shape; NaN and None are missing.

    `bins` is how many, or the edges themselves for bin mode "provided". `compat` None is driftline's own rules: v1's
    bins and rule for empty bins, and a bin of its own for a value that fills two. Where one array is float32 both are
    rounded to it, because 0.1 as a float32 is another number.

    >>> round(score([1, 2, 3], [1, 2, 2, 3]).value, 6)
    0.033789

    Raises:
        EmptyWindowError: the window has no value, which is not the same as no drift.
        InvalidInputError: the baseline has no finite value, or what was asked has no meaning.
    """
    edges = None if isinstance(bins, int | np.integer) else _edges(bins)
    mode = cast("BinMode", str(bin_mode).lower())
    summarizer = Summarizer(
        metric=cast("Metric", str(metric).lower()),
        bin_mode="provided" if edges is not None and mode == "quantile" else mode,
        num_bins=5 if edges is not None else int(cast("int", bins)),
        bin_edges=edges,
        aggregation=cast("Aggregation", str(aggregation).lower()),
        bin_weights=None if weights is None else [float(weight) for weight in weights],
        compat=compat,
    )
    check_summarizer(summarizer)
    field_type = "float32" if np.float32 in {_dtype(baseline), _dtype(window)} else "float64"
    data = BaselineData.of_values(_numbers("baseline", baseline), field_type)
    parts = [Part(values=_numbers("window", window))]
    observed = Observed.of_parts(parts, float32=field_type == "float32")
    if not observed.n:
        raise EmptyWindowError(
            f"the window's {observed.count} values are all missing, which is not the same as no drift; "
            "compare a window with at least one value"
        )
    compared = compare(summarizer, data, observed)
    return Score(
        compared.measured.score,
        summarizer.metric,
        compared.bins,
        observed.count,
        observed.missing,
        compared.layout.notes,
    )


def _edges(given: object) -> list[float]:
    try:
        if isinstance(given, str):
            raise TypeError("text")
        return [float(edge) for edge in cast("Sequence[float]", given)]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"bins={given!r:.60}: give a whole number of bins, or a list of edges") from error


def _numbers(name: str, values: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        return np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the {name} is not numeric ({error}); give an array of numbers") from error


def _dtype(values: ArrayLike) -> type[np.generic]:
    return np.asarray(values).dtype.type
