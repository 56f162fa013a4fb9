"""What an assay may ask: everything that cannot be answered is refused here, with what could be asked instead."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

from driftline.assay.bins import asked_bins
from driftline.assay.metrics import METRICS
from driftline.assay.promise import check_promise
from driftline.assay.window import check_windows
from driftline.errors import InvalidInputError
from driftline.wire.api import Aggregation, AssaySpec, BinMode, Compat, Fixed, Promise, Summarizer, Watched

# More bins than this say nothing that fewer do not; a grid has at most 256 cells.
BINS_MAX = 200
# Every field gets a share of the promise; more than this watch a machine, not a question.
FIELDS_MAX = 64


def check(spec: AssaySpec) -> None:
    """Refuse a spec that has no answer.

    Raises:
        InvalidInputError: a threshold, window, bin, weight or metric that cannot be; the message says what can.
    """
    _check_watched(spec.watched)
    if isinstance(spec.alarm, Fixed):
        _check_thresholds(spec.alarm.threshold, spec.alarm.warning)
    if spec.min_count is not None and spec.min_count < 1:
        raise InvalidInputError(f"min_count is {spec.min_count}; it is a number of values, 1 or more")
    check_windows(spec.windows)
    if isinstance(spec.alarm, Promise):
        check_promise(spec.alarm, spec.windows)
    check_summarizer(spec.summarizer)


def check_summarizer(summarizer: Summarizer) -> None:
    """Refuse bins, weights, a metric or an aggregation without a meaning.

    Raises:
        InvalidInputError: the message names what was asked and what can be.
    """
    # A struct made in Python holds whatever it was given; only reading one from bytes checks its types.
    _check_named("metric", summarizer.metric, tuple(METRICS))
    _check_named("compat", summarizer.compat, (None, *get_args(Compat)))
    _check_named("bin mode", summarizer.bin_mode, get_args(BinMode), meaningless=(None, "none"))
    _check_named("aggregation", summarizer.aggregation, get_args(Aggregation), meaningless=("edges",))
    _check_by_bin(summarizer)
    if summarizer.bin_mode == "provided":
        _check_edges(summarizer.bin_edges)
    elif summarizer.bin_edges is not None:
        raise InvalidInputError(
            f"bin edges were given, but bin mode is {summarizer.bin_mode!r}; use bin mode 'provided', or leave them out"
        )
    if not 1 <= summarizer.num_bins <= BINS_MAX:
        raise InvalidInputError(f"{summarizer.num_bins} bins were asked for; 1 to {BINS_MAX} can be had, 5 is usual")
    if summarizer.bin_weights is not None:
        _check_weights(summarizer.bin_weights, summarizer)


def check_field(summarizer: Summarizer, field: str, field_type: str) -> None:
    """Refuse a metric that has no meaning for a field of this type, and bins where categories are the bins.

    Raises:
        InvalidInputError: the message names the metrics that work.
    """
    text = field_type == "string"
    kind = METRICS[summarizer.metric]
    if kind.of == ("numbers" if text else "text"):
        works = ", ".join(
            repr(name) for name, one in METRICS.items() if one.of in {"any", "text" if text else "numbers"}
        )
        has = "text has categories and no order" if text else "numbers have no categories"
        raise InvalidInputError(f"metric {summarizer.metric!r} has no meaning for {field}: {has}; use one of {works}")
    if not text:
        return
    for what, asked in (
        ("bin edges have", summarizer.bin_mode == "provided"),
        ("bin weights have", summarizer.bin_weights is not None),
        ("cumulative aggregation has", summarizer.aggregation == "cumulative"),
    ):
        if asked:
            raise InvalidInputError(
                f"{what} no meaning for {field}, which is text: its categories are the bins; leave them out"
            )


def _check_by_bin(summarizer: Summarizer) -> None:
    kind = METRICS[summarizer.metric]
    if kind.by_bin:
        return
    have_it = ", ".join(repr(name) for name, one in METRICS.items() if one.by_bin)
    if summarizer.aggregation != "density":
        raise InvalidInputError(
            f"aggregation {summarizer.aggregation!r} has no meaning for metric {summarizer.metric!r}; "
            f"use 'density', or one of {have_it}"
        )
    if summarizer.bin_weights is not None:
        raise InvalidInputError(
            f"bin weights have no meaning for metric {summarizer.metric!r}; leave them out, or use one of {have_it}"
        )


def _check_watched(watched: Sequence[Watched]) -> None:
    if not watched:
        raise InvalidInputError("the assay watches nothing; give at least one iopath, such as 'output confidence 0'")
    if len(watched) > FIELDS_MAX:
        raise InvalidInputError(
            f"{len(watched)} fields are watched; one assay takes at most {FIELDS_MAX}, make several"
        )
    fields = [one.field for one in watched]
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise InvalidInputError(f"{', '.join(twice)} is watched twice; name each field once")


def _check_thresholds(alert: float, warning: float | None) -> None:
    for name, threshold in (("alert", alert), ("warning", warning)):
        if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
            raise InvalidInputError(f"the {name} threshold is {threshold}; it is a score, 0 or more, and 0.25 is usual")
    if warning is not None and warning > alert:
        raise InvalidInputError(
            f"the warning threshold {warning:g} is above the alert threshold {alert:g}, so nobody would be warned; "
            "give a lower one"
        )


def _check_named(what: str, value: object, known: tuple[object, ...], meaningless: tuple[object, ...] = ()) -> None:
    if isinstance(value, str | None) and value in known:
        return
    choices = ", ".join(repr(one) for one in known)
    if isinstance(value, str | None) and (value.lower() if value else value) in meaningless:
        raise InvalidInputError(f"{what} {value!r} has no published meaning, hence no score; use one of {choices}")
    raise InvalidInputError(f"there is no {what} {value!r}; use one of {choices}")


def _check_edges(edges: list[float] | None) -> None:
    if not edges:
        raise InvalidInputError("bin mode 'provided' needs bin edges, e.g. [0.0, 0.5, 1.0]")
    if not all(map(math.isfinite, edges)):
        raise InvalidInputError(
            f"bin edges {edges} are not all finite; leave out infinite ones, the outlier bins reach that far"
        )
    if len(edges) > BINS_MAX:
        raise InvalidInputError(f"{len(edges)} bin edges were given; at most {BINS_MAX} are taken")
    for left, right in pairwise(edges):
        if left >= right:
            raise InvalidInputError(f"bin edges ascend and none comes twice, but {left:g} is followed by {right:g}")


def _check_weights(weights: list[float], summarizer: Summarizer) -> None:
    bins = asked_bins(summarizer)
    if len(weights) != bins:
        outliers = " with the two outlier bins" if bins != summarizer.num_bins else ""
        raise InvalidInputError(f"{len(weights)} bin weights were given for {bins} bins{outliers}; give one a bin")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise InvalidInputError(f"bin weights {weights} are not all numbers of 0 or more")
    if not 0 < sum(weights) < math.inf:
        raise InvalidInputError(
            "the bin weights add up to 0, so every score would be 0; give at least one bin a weight"
        )
