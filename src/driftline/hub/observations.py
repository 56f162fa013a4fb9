"""What a device saw of one field in a span of time: rows where the log holds every one, else counts on grids."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.assay import analysis
from driftline.assay.analysis import Baseline, Part, Window, window_of
from driftline.clock import NS_PER_S
from driftline.hub import grids
from driftline.hub.core import Hub
from driftline.hub.store.baselines import Material
from driftline.hub.store.telemetry import Heard, RowValues, StoredWindow
from driftline.summary.codec import decode, encode
from driftline.summary.summary import CATEGORY_GRID_ID, CategorySummary, Summary

# Above this the rows of a span are not read in one piece: 64 MB of times and values.
ROWS_MAX = 4_000_000
# Windows of a span kept as they are read, for assays that ask for the same ones: as a rule one is due at a time.
WINDOWS_KEPT = 8


@dataclass(frozen=True)
class Target:
    """A field of a pipeline that an assay asks about."""

    pipeline: str
    pipeline_name: str
    field: str
    field_type: str


class Span:
    """A stretch of time on one device, read from the store once and cut into windows any number of times.

    `heard` is what the device had told before; it is looked up where none is given.
    """

    def __init__(
        self, hub: Hub, target: Target, device: str, start_ns: int, end_ns: int, heard: Heard | None = None
    ) -> None:
        self.hub, self.target, self.device = hub, target, device
        # Before anything else: what is told now is stored by then.
        self._heard = hub.telemetry.heard(target.pipeline, device) if heard is None else heard
        self._windows = _windows(hub, target, device, start_ns, end_ns)
        self._starts_s = [window.start_s for window in self._windows]
        first_s, end_s = start_ns // NS_PER_S, -(-end_ns // NS_PER_S)
        few = hub.telemetry.inferences(target.pipeline, device, first_s, end_s) <= ROWS_MAX
        self._rows = _rows(hub, target, device, start_ns, end_ns) if few else None
        self._parts: dict[tuple[int, int], list[Part]] = {}
        self._read: dict[tuple[int, int], Window] = {}

    @property
    def holds_every_row(self) -> bool:
        """Whether every inference of the span is there as a row."""
        return self._rows is not None and self._rows.complete

    def heard(self, start_ns: int, end_ns: int) -> bool:
        """Whether the device has told everything of this window."""
        return self._heard.has(start_ns, end_ns)

    def window(self, start_ns: int, end_ns: int) -> Window:
        """Return what came in [start_ns, end_ns), read once whatever number of assays ask for it one after the other.

        Raises:
            InvalidInputError: it is text, and the field holds numbers, or the other way round.
        """
        window = (start_ns, end_ns)
        if window not in self._read:
            # Unlike parts, which are views of the rows, each holds values of its own.
            if len(self._read) >= WINDOWS_KEPT:
                self._read.pop(next(iter(self._read)))
            self._read[window] = window_of(self.parts(start_ns, end_ns), self.target.field_type)
        return self._read[window]

    def parts(self, start_ns: int, end_ns: int) -> list[Part]:
        """Return what came in [start_ns, end_ns): one part of values, or one a grid."""
        window = (start_ns, end_ns)
        if window not in self._parts:
            self._parts[window] = self._cut(start_ns, end_ns)
        return self._parts[window]

    def _cut(self, start_ns: int, end_ns: int) -> list[Part]:
        rows = _rows(self.hub, self.target, self.device, start_ns, end_ns) if self._rows is None else self._rows
        values = rows.within(start_ns, end_ns)
        if values is not None:
            return [Part(values=values)]
        first, end = np.searchsorted(self._starts_s, [-(-start_ns // NS_PER_S), -(-end_ns // NS_PER_S)])
        return counted(self.hub, _counts(self._windows[first:end]))


def seen(hub: Hub, target: Target, device: str, start_ns: int, end_ns: int) -> Material:
    """Return what a device saw in [start_ns, end_ns), in the form in which a baseline is kept."""
    rows = _rows(hub, target, device, start_ns, end_ns)
    if rows.values is not None and rows.complete:
        return Material(values=rows.values, times_ns=rows.times_ns)
    return Material(counts=tuple(_counts(_windows(hub, target, device, start_ns, end_ns))))


def parts_of(hub: Hub, material: Material) -> list[Part]:
    """Return kept material as parts."""
    return [Part(values=material.values)] if material.values is not None else counted(hub, material.counts)


def cut(
    hub: Hub, material: Material, spans: Sequence[tuple[int, int]], chosen: Callable[[int, int], bool]
) -> list[tuple[int, list[Part]]] | None:
    """Return kept material cut into windows, as (start_ns, parts), those that are not `chosen` left out.

    The spans are in time order. None where nobody knows when the values came.
    """
    wanted = [span for span in spans if chosen(*span)]
    if material.values is None:
        starts = [start_s * NS_PER_S for start_s, _, _ in material.counts]
        return [(a, counted(hub, material.counts[i:j])) for a, i, j in _between(starts, wanted)]
    if material.times_ns is None:
        return None
    values = material.values
    return [(a, [Part(values=values[i:j])]) for a, i, j in _between(material.times_ns, wanted)]


def _between(
    times_ns: Sequence[int] | NDArray[np.int64], spans: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Return (start, first, end) of each span: which of ascending times lie in it."""
    known = np.asarray(times_ns, dtype=np.int64)
    found = np.searchsorted(known, np.array(spans, dtype=np.int64).reshape(-1, 2))
    return [(start, int(i), int(j)) for (start, _), (i, j) in zip(spans, found, strict=True)]


def counted(hub: Hub, counts: Sequence[tuple[int, str, bytes]]) -> list[Part]:
    """Return summaries as parts; those on one grid merge, so that a long span is no more parts than grids."""
    numbers: defaultdict[str, list[Summary]] = defaultdict(list)
    text: list[CategorySummary] = []
    for _, grid_id, data in counts:
        summary = decode(data, grid_id)
        if isinstance(summary, CategorySummary):
            text.append(summary)
        else:
            numbers[grid_id].append(summary)
    parts = [
        Part(summary=first.merge(*rest), grid=grids.edges(hub, grid_id)) for grid_id, (first, *rest) in numbers.items()
    ]
    return [*parts, *([Part(categories=text[0].merge(*text[1:]))] if text else [])]


def material_of(values: Sequence[str | None]) -> Material:
    """Return text that somebody gave in the form in which a baseline is kept."""
    return Material(counts=((0, CATEGORY_GRID_ID, encode(CategorySummary.of(values))),))


def baseline_of(hub: Hub, material: Material, field_type: str) -> Baseline:
    """Return kept material as a baseline to compare with."""
    return analysis.baseline_of(parts_of(hub, material), field_type)


def _counts(windows: Sequence[StoredWindow]) -> list[tuple[int, str, bytes]]:
    return [(one.start_s, one.grid_id, one.summary) for one in windows]


def _rows(hub: Hub, target: Target, device: str, start_ns: int, end_ns: int) -> RowValues:
    if target.field_type == "string":
        # The counts of text say all that is asked of it.
        return RowValues(np.empty(0, np.int64), None, np.empty(0, np.int64))
    return hub.telemetry.rows(target.pipeline, device, target.field, start_ns, end_ns)


def _windows(hub: Hub, target: Target, device: str, start_ns: int, end_ns: int) -> list[StoredWindow]:
    start_s, end_s = -(-start_ns // NS_PER_S), -(-end_ns // NS_PER_S)
    return hub.telemetry.windows(target.pipeline, device, target.field, start_s, end_s)
