"""How an assay looks: which windows, which bins, which metric. The enums and builders of the reference platform."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Self, TypeVar

import msgspec

from driftline.assay.metrics import METRICS
from driftline.errors import InvalidInputError
from driftline.sdk.times import Moment, to_ns
from driftline.wire import api

E = TypeVar("E", bound=StrEnum)


class BinMode(StrEnum):
    """Where bin edges come from: quantiles of the baseline, equal widths, or yourself."""

    NONE = "none"
    EQUAL = "equal"
    QUANTILE = "quantile"
    PROVIDED = "provided"


class Metric(StrEnum):
    """How far a window lies from its baseline; docs/metrics.md says what each means. The first three are compatible."""

    PSI = "psi"
    MAXDIFF = "maxdiff"
    SUMDIFF = "sumdiff"
    KS = "ks"
    JS = "js"
    HELLINGER = "hellinger"
    WASSERSTEIN = "wasserstein"
    CHI2 = "chi2"
    MEAN_SHIFT = "mean_shift"
    QUANTILE_SHIFT = "quantile_shift"
    MISSING_RATE = "missing_rate"
    TV = "tv"
    NEW_CATEGORIES = "new_categories"


class Aggregation(StrEnum):
    """Whether shares are compared bin by bin, or as running sums."""

    EDGES = "edges"
    DENSITY = "density"
    CUMULATIVE = "cumulative"


class WindowBuilder:
    """An assay's windows: `add_width(minutes=3).add_interval(minutes=3)`; each call changes the assay itself."""

    def __init__(self) -> None:
        self.windows = api.Windows()

    def add_width(self, **duration: float) -> Self:
        """Say how long a window is: weeks, days, hours, minutes, seconds; a multiple of one minute."""
        self.windows = msgspec.structs.replace(self.windows, width_s=_seconds("add_width", duration))
        return self

    def add_interval(self, **duration: float) -> Self:
        """Say how far apart windows start; without it one begins where the last ended."""
        self.windows = msgspec.structs.replace(self.windows, interval_s=_seconds("add_interval", duration))
        return self

    def add_start(self, start: Moment) -> Self:
        """Say where the first window starts (a naive datetime is UTC); without it, with the first inference."""
        self.windows = msgspec.structs.replace(self.windows, start_ns=to_ns(start, "start"))
        return self

    def __repr__(self) -> str:
        return f"<windows of {self.windows.width_s} s>"


class SummarizerBuilder:
    """An assay's bins and metric; each call changes the assay itself.

    The reference platform has it both as an attribute and as a call, so it may be called for itself.
    """

    def __init__(self) -> None:
        self.summarizer = api.Summarizer()
        self._bins_chosen = False

    def __call__(self) -> Self:
        """Return itself."""
        return self

    def add_bin_mode(self, bin_mode: BinMode | str, edges: Sequence[float] | None = None) -> Self:
        """Choose where bin edges come from; `edges` as in `add_bin_edges`.

        Raises:
            InvalidInputError: BinMode.NONE, whose meaning was never published, or no such mode.
        """
        mode = _member(BinMode, bin_mode)
        if mode is BinMode.NONE:
            raise InvalidInputError(
                "BinMode.NONE has no published meaning, hence no score; use BinMode.QUANTILE, EQUAL or PROVIDED"
            )
        self._change(bin_mode=mode.value)
        return self if edges is None else self.add_bin_edges(edges)

    def add_num_bins(self, num_bins: int) -> Self:
        """Choose how many bins, outliers not counted; the default suits the metric, 5 for PSI."""
        if isinstance(num_bins, bool) or not isinstance(num_bins, int | float) or num_bins != int(num_bins):  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
            raise InvalidInputError(f"add_num_bins({num_bins!r}): give a whole number, 5 is usual")
        self._bins_chosen = True
        return self._change(num_bins=int(num_bins))

    def add_bin_edges(self, edges: Sequence[float]) -> Self:
        """Give the edges yourself, ascending; what lies outside them falls into the outlier bins."""
        return self._change(bin_edges=_floats("add_bin_edges", edges), bin_mode=BinMode.PROVIDED.value)

    def add_bin_weights(self, weights: Sequence[float]) -> Self:
        """Weigh the bins, outliers included: each weight, divided by their sum, multiplies its bin's term."""
        return self._change(bin_weights=_floats("add_bin_weights", weights))

    def add_metric(self, metric: Metric | str) -> Self:
        """Choose the metric; the default is PSI. It brings its own number of bins, unless you chose one."""
        chosen = _member(Metric, metric).value
        if not self._bins_chosen:
            self._change(num_bins=METRICS[chosen].bins)
        return self._change(metric=chosen)

    def add_aggregation(self, aggregation: Aggregation | str) -> Self:
        """Choose how shares are compared; the default is bin by bin.

        Raises:
            InvalidInputError: Aggregation.EDGES, whose meaning was never published, or no such aggregation.
        """
        chosen = _member(Aggregation, aggregation)
        if chosen is Aggregation.EDGES:
            raise InvalidInputError(
                "Aggregation.EDGES has no published meaning, hence no score; use Aggregation.DENSITY or CUMULATIVE"
            )
        return self._change(aggregation=chosen.value)

    def add_compat(self, compat: api.Compat | None) -> Self:
        """Choose whose rules: "v1" (the default) and "v2" are the reference platform's, None is driftline's own."""
        return self._change(compat=compat)

    def _change(self, **facts: object) -> Self:
        self.summarizer = msgspec.structs.replace(self.summarizer, **facts)
        return self

    def __repr__(self) -> str:
        chosen = self.summarizer
        return f"<{chosen.metric} over {chosen.num_bins} {chosen.bin_mode} bins, {chosen.aggregation}>"


def _member(kind: type[E], given: object) -> E:
    for member in kind:
        if str(given).lower() in {member.value, member.name.lower(), f"{kind.__name__}.{member.name}".lower()}:
            return member
    raise InvalidInputError(
        f"there is no {kind.__name__} {given!r}; use one of {', '.join(f'{kind.__name__}.{one.name}' for one in kind)}"
    )


def _floats(call: str, given: Sequence[float]) -> list[float]:
    try:
        return [float(one) for one in given]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{call}({given!r:.60}): give a list of numbers ({error})") from error


def _seconds(call: str, duration: dict[str, float]) -> int:
    try:
        seconds = timedelta(**duration).total_seconds()
    except TypeError:
        raise InvalidInputError(
            f"{call}({', '.join(duration)}=…): give weeks, days, hours, minutes or seconds, such as {call}(minutes=3)"
        ) from None
    if seconds <= 0 or seconds != int(seconds):
        raise InvalidInputError(f"{call}() was given {seconds:g} s; give whole seconds above 0, such as minutes=3")
    return int(seconds)
