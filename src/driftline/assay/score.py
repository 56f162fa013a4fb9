"""One score, computed in place: `driftline.score(baseline, window)`.

Everything else that scores does so on the hub; this is for a notebook, a test, a look at two arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from driftline.assay.analysis import baseline_of, compare, effect, unjudgeable
from driftline.assay.checks import check_field, check_summarizer
from driftline.assay.metrics import kind_of
from driftline.assay.observed import Floats, Part
from driftline.errors import EmptyWindowError, InvalidInputError
from driftline.summary.grid import Grid
from driftline.summary.summary import CategorySummary, Summary
from driftline.wire.api import Aggregation, BinMode, Bins, Compat, Effect, Metric, Summarizer

# What `score` compares: numbers or text of any shape (list, numpy, pandas, Arrow), a summary and the grid it is counted
# on, or a summary of categories.
Given = ArrayLike | Sequence[float | str | None] | tuple[Summary, Grid] | CategorySummary | Part


@dataclass(frozen=True, slots=True)
class Score:
    """How far a window lies from its baseline: `value`, and the bins it was made of.

    `p_value`, where the metric is a test (ks, chi2): how often independent rows without drift give as much; frames of
    one camera are not independent. `count` is all of the window, missing included; `notes` are sentences, e.g. that
    there are fewer bins than asked.
    """

    value: float
    metric: Metric
    bins: Bins
    count: int
    missing: int
    effect: Effect
    p_value: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def contributions(self) -> list[float]:
        """What each bin gives to the value; one a label of `bins`."""
        return self.bins.contributions

    def __float__(self) -> float:
        return self.value


def score(
    baseline: Given,
    window: Given,
    metric: Metric = "psi",
    bins: int | Sequence[float] | None = None,
    bin_mode: BinMode = "quantile",
    compat: Compat | None = None,
    *,
    aggregation: Aggregation = "density",
    weights: Sequence[float] | None = None,
) -> Score:
    """Compare two arrays, Series or Arrow columns of any shape, or summaries; NaN, null and None are missing.

    A summary comes with its grid, as the pair `(summary, grid)`. Text is compared by category, its categories are the
    bins: use psi, chi2, tv or new_categories. Of numbers `bins` is how many, or the edges themselves for bin mode
    "provided"; None is what suits the metric: 5 for psi, sumdiff and maxdiff, 10 for js, hellinger, chi2 and tv, 60 for
    ks, wasserstein and quantile_shift. `compat` None is driftline's own rules: v1's bins and rule for empty bins,
    and a bin of its own for a value that fills two. Where one array is float32 both are rounded to it, because 0.1 as a
    float32 is another number.

    >>> round(score([1, 2, 3], [1, 2, 2, 3]).value, 6)
    0.033789
    >>> score([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], "wasserstein").value
    1.0
    >>> score(["cat", "cat", "dog", "dog"], ["cat", "dog", "dog", "owl"], "tv").value
    0.25

    Raises:
        EmptyWindowError: the window has no value, which is not the same as no drift.
        InvalidInputError: the baseline has no finite value, or what was asked has no meaning.
    """
    chosen = cast("Metric", str(metric).lower())
    edges = None if bins is None or isinstance(bins, int | np.integer) else _edges(bins)
    mode = cast("BinMode", str(bin_mode).lower())
    summarizer = Summarizer(
        metric=chosen,
        bin_mode="provided" if edges is not None and mode == "quantile" else mode,
        num_bins=kind_of(chosen).bins if bins is None or edges is not None else int(cast("int", bins)),
        bin_edges=edges,
        aggregation=cast("Aggregation", str(aggregation).lower()),
        bin_weights=None if weights is None else [float(weight) for weight in weights],
        compat=compat,
    )
    check_summarizer(summarizer)
    before, now, field_type = _parts(baseline, window)
    check_field(summarizer, "this text" if field_type == "string" else "these numbers", field_type)
    if field_type == "string" and bins is not None:
        raise InvalidInputError(
            f"bins={bins!r:.60} have no meaning for text: its categories are the bins; leave them out"
        )
    data = baseline_of([before], field_type)
    observed = data.read([now])
    reason = unjudgeable(summarizer, data, observed)
    if reason:
        if not observed.count or data.usable:
            raise EmptyWindowError(f"{reason}; compare a window with at least one value")
        raise InvalidInputError(reason)
    compared = compare(summarizer, data, observed)
    return Score(
        compared.measured.score,
        summarizer.metric,
        compared.bins,
        observed.count,
        observed.missing,
        effect(data, observed),
        compared.measured.p_value,
        compared.layout.notes,
    )


def _edges(given: object) -> list[float]:
    try:
        if isinstance(given, str):
            raise TypeError("text")
        return [float(edge) for edge in cast("Sequence[float]", given)]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"bins={given!r:.60}: give a whole number of bins, or a list of edges") from error


def _parts(baseline: Given, window: Given) -> tuple[Part, Part, str]:
    """Return what was given as parts of one type of field."""
    texts = [_text(given) for given in (baseline, window)]
    if any(text is not None and text.n for text in texts) and None not in texts:
        before, now = (Part(categories=text) for text in texts)
        return before, now, "string"
    (before, one), (now, other) = _part("baseline", baseline), _part("window", window)
    return before, now, "float32" if one or other else "float64"


def _text(given: Any) -> CategorySummary | None:
    """Return text by category, also where all of it is missing; None where it is something else."""
    if isinstance(given, CategorySummary | Part):
        return given if isinstance(given, CategorySummary) else given.categories
    if isinstance(given, tuple) and given and isinstance(given[0], Summary):
        return None
    try:
        found = np.asarray(given)
        # numpy would make text of the numbers, and of NaN, beside text.
        found = np.asarray(given, dtype=object) if found.dtype.kind == "U" else found
    except ValueError:  # ragged: told by what reads numbers
        return None
    if found.dtype.kind not in "Of" or (found.dtype.kind == "f" and not np.isnan(found).all()):
        return None
    names = [None if _is_missing(one) else one for one in found.ravel().tolist()]
    return CategorySummary.of(names) if all(one is None or isinstance(one, str) for one in names) else None


def _is_missing(one: object) -> bool:
    # pandas' own missing value is no number and not None; only NaN differs from itself.
    return one is None or type(one).__name__ in {"NAType", "NaTType"} or (isinstance(one, float) and one != one)  # noqa: PLR0124


def _part(name: str, given: Given) -> tuple[Part, bool]:
    """Return numbers as a part, and whether they are float32."""
    if isinstance(given, Part):
        return given, False
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Summary):
        if not isinstance(given[1], Grid):
            raise InvalidInputError(f"the {name} is a summary without its grid; give (summary, grid)")
        return Part(summary=given[0], grid=given[1]), False
    if isinstance(given, Summary):
        raise InvalidInputError(f"the {name} is a summary without its grid; give (summary, grid)")
    values, float32 = _numbers(name, given)
    return Part(values=values), float32


def _numbers(name: str, given: Any) -> tuple[Floats, bool]:
    try:
        found = np.asarray(given)
        kind = found.dtype.kind
        if kind in "USMmcV" or (kind == "O" and any(isinstance(one, str | bytes) for one in found.ravel())):
            # numpy would read "1.5" as a number and a date as nanoseconds: a score, and a wrong one.
            raise TypeError(f"it holds {_what(found)}")
        if kind == "O":
            missing = np.array([_is_missing(one) for one in found.ravel()])
            found = np.where(missing, np.nan, found.ravel())
        return np.asarray(found, dtype=np.float64).ravel(), found.dtype == np.float32
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the {name} is not numeric ({error}); give an array of numbers") from error


def _what(found: "np.ndarray[Any, np.dtype[Any]]") -> str:
    if found.dtype.kind == "O":
        return f"text such as {next(one for one in found.ravel() if isinstance(one, str | bytes))!r:.40}"
    return {"U": "text", "S": "text", "M": "times", "m": "durations", "c": "complex numbers"}.get(
        found.dtype.kind, f"{found.dtype}"
    )
