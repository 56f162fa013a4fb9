"""Counts what a pipeline shows, one base window after the other: the values of inferences become records.

A window is open until its owner says that no value before its end can come any more (`close`); it then becomes a window
record, empty or not, and after it a rows record where rows travel. A value that comes later still makes one more
record of its window, which the hub merges. Decides and encodes; `deliver` takes the bytes and must not wait.

Fields that a pipeline's definition lists are counted in every window that has an inference, missing where an inference
did not give them. A pipeline without steps declares nothing: there every number and every name it is given is a field,
and the elements of a list of at most `RECORDED_SIZE_MAX` are fields of their own.

Each record carries the **stamp** of its window: by which clock it was opened (`driftline.edge.timekeeping`). Where the
wall clock is set by a base window or more, back or ahead, what is open is handed over as it is, and counting begins
anew where the owner's next `close` or value says; no window is made for the time that only the clock went through.
"""

import logging
import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

from driftline.clock import NS_PER_S, Clock, iso
from driftline.edge.open_window import Counted, Snapshot
from driftline.edge.timekeeping import offset_ns, stamp_now
from driftline.errors import InvalidInputError
from driftline.pipeline.definition import RECORDED_SIZE_MAX, recorded_fields
from driftline.pipeline.iopath import ResolvedField
from driftline.summary import codec
from driftline.summary.grid import UNIVERSAL, Grid
from driftline.summary.summary import CategorySummary, CategoryTally, Summary, Tally
from driftline.wire.device import (
    BASE_WINDOW_S,
    ColumnType,
    Desired,
    DesiredPipeline,
    FieldSummary,
    RecordKind,
    RowsRecord,
    Stamp,
    WindowRecord,
    encode_event,
    encode_rows,
    encode_window,
)

log = logging.getLogger("driftline.edge")
# A machine that slept for longer than a day shows no empty windows for it, and neither does one whose clock jumps
# without being set (fast time): 29 million empty windows since 1970 help nobody.
EMPTY_WINDOWS_MAX = 24 * 60
# Rows of one open window are handed over before they weigh more than this as a record; as objects they take some ten
# times as much, and a link takes 32 MB in one piece.
ROWS_WEIGHT_MAX = 64 * 1024
INT64_MAX = 2**63 - 1

Deliver = Callable[[RecordKind, bytes, Stamp | None], None]
LogValues = Mapping[str, tuple[ColumnType, Any]]


def window_start_s(time_ns: int, window_s: int = BASE_WINDOW_S) -> int:
    """Return the start of the base window that holds this time, Unix seconds.

    >>> window_start_s(119_999_999_999)
    60
    """
    return time_ns // (window_s * NS_PER_S) * window_s


@dataclass(frozen=True)
class _Plan:
    """How one pipeline version is counted in the windows from `from_s` on."""

    from_s: int
    fields: Mapping[str, ResolvedField]
    grids: Mapping[str, Grid]
    declared: bool
    extra: frozenset[str]

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The keys of what is made of whole vectors."""
        return tuple(key for key, one in self.fields.items() if one.part)

    def tally(self, key: str, value: Any) -> Tally | CategoryTally:
        """Return an empty tally for a field; `value` decides for a field nobody declared."""
        known = self.fields.get(key) if self.declared else None
        if known.kind == "category" if known is not None else isinstance(value, str):
            return CategoryTally()
        return Tally(self.grids.get(key, UNIVERSAL), float32=known is not None and known.type == "float32")


@dataclass
class _Window:
    """One base window in the making; `clock` numbers the settings of the wall clock, `stamp` is that of its opening."""

    start_s: int
    width_s: int
    plan: _Plan
    clock: int
    stamp: Stamp | None
    inferences: int = 0
    tallies: dict[str, Tally | CategoryTally] = field(default_factory=dict[str, Tally | CategoryTally])
    seen: dict[str, int] = field(default_factory=dict[str, int])
    times_ns: list[int] = field(default_factory=list[int])
    rows: list[LogValues] = field(default_factory=list[LogValues])
    weight: int = 0
    # Whether `rows` can no longer be all there is: some were handed over before, or not kept.
    parted: bool = False
    touched: int = 0

    def add(self, values: Mapping[str, Any]) -> None:
        """Count one inference."""
        self.inferences += 1
        for key, value in values.items():
            tally = self.tallies.get(key)
            if tally is None:
                tally = self.tallies[key] = self.plan.tally(key, value)
                self.seen[key] = 0
            self.seen[key] += 1
            if isinstance(tally, CategoryTally):
                tally.add(None if value is None else str(value))
            else:
                tally.add(_number(value))

    def record(self, pipeline: str) -> WindowRecord:
        """Return the window as a record of what it has counted so far; it may go on counting."""
        tallies = dict(self.tallies)
        if self.inferences and self.plan.declared:
            tallies |= {key: self.plan.tally(key, None) for key in self.plan.fields if key not in tallies}
        summaries: list[FieldSummary] = []
        for key, tally in tallies.items():
            summary = _with_missing(tally.summary(), self.inferences - self.seen.get(key, 0))
            summaries.append(FieldSummary(key, summary.grid_id, codec.encode(summary)))
        return WindowRecord(pipeline, self.start_s, self.width_s, self.inferences, tuple(summaries))

    def rows_record(self, pipeline: str, *, complete: bool) -> RowsRecord:
        """Return the rows gathered so far; there must be one."""
        return RowsRecord(pipeline, self.start_s, self.width_s, complete, self.times_ns, _columns(self.rows))


@dataclass
class _Line:
    """One pipeline version through time: windows before `next_s` are closed."""

    plans: list[_Plan]
    rows_max: int | None = 0
    rows_taken: int = 0
    next_s: int | None = None
    # The window in the middle of which this line began: another process may have counted its first part.
    begun_s: int | None = None
    # Whether it begins anew with the next value or close, because the clock was set.
    broken: bool = False
    # Up to where this line has nothing to count: its beginning.
    begun_ns: int = 0
    # Up to where a source that shows its frames in order has been counted.
    counted_ns: int = 0
    # From here on no empty window is made: the hub no longer wants this version.
    retired_s: int | None = None
    windows: dict[int, _Window] = field(default_factory=dict[int, _Window])

    @property
    def complete_ns(self) -> int | None:
        """Up to where everything is closed; None where nothing has begun."""
        return None if self.next_s is None else max(self.next_s * NS_PER_S, self.begun_ns)

    @property
    def keeps_rows(self) -> bool:
        """Whether the next inference also travels as a row."""
        return self.rows_max is None or self.rows_taken < self.rows_max

    def begin(self, start_s: int, from_ns: int, *, in_the_middle: bool = False) -> None:
        """Begin with the window of this start; what comes before `from_ns` is not this line's to count."""
        self.next_s, self.begun_ns = start_s, from_ns
        self.begun_s = start_s if in_the_middle or from_ns != start_s * NS_PER_S else None
        self.broken = False

    def plan(self, start_s: int) -> _Plan:
        """Return the plan by which a window of this start is counted."""
        return next((one for one in reversed(self.plans) if one.from_s <= start_s), self.plans[0])

    def break_off(self) -> None:
        """Forget where it is: its windows have been handed over, and their times are of a clock that shows others."""
        self.broken = self.next_s is not None and self.retired_s is None
        self.next_s = None
        self.begun_ns = self.counted_ns = 0
        if self.retired_s is not None:
            self.retired_s = 0
        self.plans = [replace(self.plans[-1], from_s=0)]


class Recorder:
    """Counts the inferences of every pipeline of a process. Threads may share it.

    `deliver(kind, data, stamp)` receives each record in order. The times it is given are of `clock`, or planned by it.
    `window_s` is the width of its windows; the hub takes those of `BASE_WINDOW_S`.
    """

    def __init__(self, deliver: Deliver, clock: Clock, *, window_s: int = BASE_WINDOW_S) -> None:
        self._deliver = deliver
        self._clock = clock
        self._window_s = window_s
        self._window_ns = window_s * NS_PER_S
        # What the wall clock leads the steady one by since it was last set, and what it led it by before.
        self._offset_ns = offset_ns(clock)
        self._offset_before_ns: int | None = None
        self._set_ns = 0
        self._settings = 0
        self._stamp_before: Stamp | None = None
        self._lines: dict[str, _Line] = {}
        self._grids: dict[str, Grid] = {UNIVERSAL.id: UNIVERSAL}
        self._closes = 0
        self._guard = threading.RLock()

    @property
    def complete_until_ns(self) -> dict[str, int]:
        """Up to where every window was delivered, by pipeline version; versions that have not begun are not in it."""
        with self._guard:
            told = {pv: line.complete_ns for pv, line in self._lines.items()}
            return {pv: until_ns for pv, until_ns in told.items() if until_ns is not None}

    @property
    def counted_ns(self) -> int:
        """Up to where a source that shows its frames in order has been counted; 0 where there is none."""
        with self._guard:
            return max((line.counted_ns for line in self._lines.values()), default=0)

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """Give what open windows hold; until the context ends no value is counted and no record delivered.

        So whoever also takes what was delivered, within the context, has every inference in exactly one of the two.
        """
        with self._guard:
            self._heed_clock()
            records: list[Counted] = []
            for pv, line in self._lines.items():
                for start_s in sorted(line.windows):
                    window = line.windows[start_s]
                    records.append(Counted("window", encode_window(window.record(pv)), window.stamp))
                    if window.rows:
                        rows = encode_rows(window.rows_record(pv, complete=False))
                        records.append(Counted("rows", rows, window.stamp))
            counted = {pv: line.counted_ns for pv, line in self._lines.items()}
            complete = self.complete_until_ns
            until_ns = {pv: max(complete[pv], counted[pv]) for pv in complete}
            yield Snapshot(records, until_ns, stamp_now(self._clock))

    def configure(self, desired: Desired, rows_sent: Mapping[str, int], now_ns: int) -> None:
        """Take a new desired state: what is known already changes at the next base-window boundary after `now_ns`.

        `rows_sent` says, by pipeline version, how many rows this device has handed over so far.
        """
        boundary_s = self._start_s(now_ns + self._window_ns - 1)
        with self._guard:
            self._learn(desired.grids)
            wanted = {one.id for one in desired.pipelines}
            for pipeline in desired.pipelines:
                self._adopt(pipeline, rows_sent.get(pipeline.id, 0), boundary_s)
            for pv, line in self._lines.items():
                if pv not in wanted and line.retired_s is None:
                    line.retired_s = boundary_s

    def begin(self, pipeline: str, from_ns: int) -> None:
        """Record windows from the one that holds `from_ns` on, empty ones too; a line that has begun is left alone.

        Where that is in the middle of a window, its rows are not called complete: a restart looks like this. What
        comes before `from_ns` was counted by others.

        Raises:
            InvalidInputError: `configure` named no such pipeline version.
        """
        with self._guard:
            self._heed_clock()
            line = self._line(pipeline)
            if line.next_s is None and not self._is_of_before(from_ns):
                line.begin(self._start_s(from_ns), from_ns)

    def record(
        self,
        pipeline: str,
        time_ns: int,
        values: Mapping[str, Any],
        log_values: LogValues | None = None,
        *,
        in_order: bool = False,
    ) -> None:
        """Count one inference; `values` by field key, None and NaN for missing.

        `log_values` are what its row shows where rows travel, whole fields, beside which the numbers made of whole
        vectors are put; by default the same values. `in_order`: it is of the one source that shows its frames in
        order, so that none before `time_ns` is still to come.

        Raises:
            InvalidInputError: `configure` named no such pipeline version.
        """
        with self._guard:
            self._heed_clock()
            line = self._line(pipeline)
            start_s = self._start_s(time_ns)
            of_before = self._is_of_before(time_ns)
            if line.next_s is None and not of_before:
                line.begin(start_s, start_s * NS_PER_S, in_the_middle=line.broken)
            if in_order and not of_before:
                line.counted_ns = max(line.counted_ns, time_ns + 1)
            window = self._window(line, start_s, of_before=of_before)
            window.touched = self._closes
            window.add(values if window.plan.declared else _flat(values, window.plan.extra))
            if not line.keeps_rows:
                window.parted = True
                return
            row = _row(values, window.plan) if log_values is None else _with_parts(log_values, values, window.plan)
            line.rows_taken += 1
            window.times_ns.append(time_ns)
            window.rows.append(row)
            window.weight += sum(_weight(value) for _, value in row.values())
            if window.weight > ROWS_WEIGHT_MAX:
                self._deliver_rows(pipeline, window, complete=False)

    def close(self, until_ns: int, pipeline: str | None = None) -> None:
        """Close every base window that ends at or before `until_ns`, of one pipeline version or of all.

        Values that came late for a closed window are delivered once none has come for it since the last call.
        """
        with self._guard:
            self._heed_clock()
            self._closes += 1
            for pv, line in self._lines.items():
                if pipeline not in {None, pv}:
                    continue
                self._close_late(pv, line)
                if line.broken and not self._is_of_before(until_ns):
                    line.begin(self._start_s(until_ns), until_ns)
                if line.next_s is not None:
                    self._close_line(pv, line, line.next_s, self._start_s(until_ns))

    def hand_over(self, pipeline: str | None = None) -> None:
        """Deliver what open windows hold so far, before this process ends; they do not count as complete."""
        with self._guard:
            for pv, line in self._lines.items():
                if pipeline in {None, pv}:
                    self._hand_over(pv, line)

    def flush_rows(self) -> None:
        """Deliver the rows of open windows where every row travels, so that the log shows an inference soon."""
        with self._guard:
            for pv, line in self._lines.items():
                if line.rows_max is None:
                    for start_s in sorted(line.windows):
                        self._deliver_rows(pv, line.windows[start_s], complete=False)

    # ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────

    def _heed_clock(self) -> None:
        """See whether the wall clock was set since the last call; if so let every line begin anew."""
        now_offset_ns, steady_ns = offset_ns(self._clock), self._clock.steady_ns()
        if abs(now_offset_ns - self._offset_ns) < self._window_ns:
            return
        was, now = iso(self._offset_ns + steady_ns), iso(now_offset_ns + steady_ns)
        log.warning("the clock was set from %s to %s; windows begin anew there", was, now)
        for pv, line in self._lines.items():
            self._hand_over(pv, line)
            line.break_off()
        boot = self._clock.boot
        self._stamp_before = Stamp(boot, self._offset_ns) if boot else None
        self._offset_before_ns, self._offset_ns = self._offset_ns, now_offset_ns
        self._set_ns = steady_ns
        self._settings += 1

    def _is_of_before(self, time_ns: int) -> bool:
        """Say whether a time was read before the clock was set: an inference may have been under way meanwhile."""
        steady_ns = self._clock.steady_ns()
        if self._offset_before_ns is None or steady_ns - self._set_ns > self._window_ns:
            return False
        moment_ns = time_ns - steady_ns
        return abs(moment_ns - self._offset_before_ns) < abs(moment_ns - self._offset_ns)

    def _start_s(self, time_ns: int) -> int:
        return window_start_s(time_ns, self._window_s)

    def _window(self, line: _Line, start_s: int, *, of_before: bool = False) -> _Window:
        """Return the open window with this start, or open it."""
        window = line.windows.get(start_s)
        if window is None:
            stamp, number = stamp_now(self._clock), self._settings
            if of_before:
                stamp, number = self._stamp_before, number - 1
            parted = start_s == line.begun_s or of_before
            window = line.windows[start_s] = _Window(
                start_s, self._window_s, line.plan(start_s), number, stamp, parted=parted
            )
        return window

    # ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _line(self, pipeline: str) -> _Line:
        line = self._lines.get(pipeline)
        if line is None:
            raise InvalidInputError(
                f"the hub does not want pipeline version {pipeline} on this device; deploy it first"
            )
        return line

    def _learn(self, grids: Mapping[str, Sequence[float]]) -> None:
        for grid_id, edges in grids.items():
            if grid_id not in self._grids:
                grid = Grid(tuple(edges))
                if grid.id != grid_id:
                    log.warning("the grid %s is not what its name says; its fields stay on the universal grid", grid_id)
                    continue
                self._grids[grid_id] = grid

    def _adopt(self, pipeline: DesiredPipeline, rows_sent: int, boundary_s: int) -> None:
        line = self._lines.get(pipeline.id)
        if line is None:
            line = self._lines[pipeline.id] = _Line([self._plan(pipeline, 0)])
        elif _differs(line.plans[-1], plan := self._plan(pipeline, boundary_s)):
            # Windows still open may be older than the plan before this one only where a source lags by as much.
            line.plans = [*(one for one in line.plans if one.from_s < boundary_s), plan]
        if line.retired_s is not None:
            line.retired_s = line.next_s = None
            line.begun_ns = 0
        line.rows_max = pipeline.rows_max
        line.rows_taken = max(line.rows_taken, rows_sent)

    def _plan(self, pipeline: DesiredPipeline, from_s: int) -> _Plan:
        found = recorded_fields(pipeline.definition, pipeline.extra_fields)
        grids: dict[str, Grid] = {}
        for key, grid_id in pipeline.grids.items():
            grid = self._grids.get(grid_id)
            if grid is not None:
                grids[key] = grid
        return _Plan(
            from_s,
            {one.key: one for one in found},
            grids,
            bool(pipeline.definition["steps"]),
            frozenset(pipeline.extra_fields),
        )

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _close_late(self, pv: str, line: _Line) -> None:
        late = {s for s, one in line.windows.items() if one.clock < self._settings}
        if line.next_s is not None:
            late |= {s for s in line.windows if s < line.next_s}
        for start_s in sorted(s for s in late if line.windows[s].touched < self._closes - 1):
            self._emit(pv, line.windows.pop(start_s), whole=False)

    def _hand_over(self, pv: str, line: _Line) -> None:
        for start_s in sorted(line.windows):
            self._emit(pv, line.windows.pop(start_s), whole=False)

    def _close_line(self, pv: str, line: _Line, next_s: int, until_s: int) -> None:
        if next_s >= until_s:
            return
        # Once a window: a stream of late values makes one record a minute, not one a call.
        for start_s in sorted(s for s in line.windows if s < next_s):
            self._emit(pv, line.windows.pop(start_s), whole=False)
        line.next_s = until_s
        for start_s in self._starts(pv, line, next_s, until_s):
            window = self._window(line, start_s)
            del line.windows[start_s]
            self._emit(pv, window, whole=True)

    def _starts(self, pv: str, line: _Line, next_s: int, until_s: int) -> Iterator[int]:
        """Yield the windows to close, in order."""
        last_s = until_s if line.retired_s is None else min(until_s, line.retired_s)
        filled = sorted(start_s for start_s in line.windows if start_s < until_s)
        if (last_s - next_s) // self._window_s > EMPTY_WINDOWS_MAX:
            self._say_jumped(pv, next_s, until_s)
            yield from filled
            return
        yield from sorted({*filled, *range(next_s, last_s, self._window_s)})

    def _say_jumped(self, pv: str, from_s: int, to_s: int) -> None:
        log.warning("the clock went from %s to %s at once", iso(from_s * NS_PER_S), iso(to_s * NS_PER_S))
        facts = {"pipeline": pv, "from_s": from_s, "to_s": to_s}
        self._deliver("event", encode_event("clock_jumped", to_s * NS_PER_S, **facts), stamp_now(self._clock))

    def _emit(self, pv: str, window: _Window, *, whole: bool) -> None:
        self._deliver("window", encode_window(window.record(pv)), window.stamp)
        self._deliver_rows(pv, window, complete=whole and not window.parted)

    def _deliver_rows(self, pv: str, window: _Window, *, complete: bool) -> None:
        if not window.rows:
            return
        self._deliver("rows", encode_rows(window.rows_record(pv, complete=complete)), window.stamp)
        window.times_ns, window.rows, window.weight, window.parted = [], [], 0, True


def _with_missing(summary: Summary | CategorySummary, count: int) -> Summary | CategorySummary:
    """Count what gave no value: every inference counts in every field."""
    return replace(summary, count=summary.count + count, missing=summary.missing + count) if count else summary


def _differs(old: _Plan, new: _Plan) -> bool:
    return (old.fields, old.grids, old.extra) != (new.fields, new.grids, new.extra)


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _number(value: Any) -> float | None:
    """Return what counts as a number; text in a number's place is missing."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return None


def _flat(values: Mapping[str, Any], extra: frozenset[str]) -> dict[str, Any]:
    """Return the fields of an inference that nobody declared: scalars, elements of short lists, and those named."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, list | tuple):
            flat[key] = value
            continue
        elements = dict(_elements(key, cast("Sequence[Any]", value)))
        short = len(elements) <= RECORDED_SIZE_MAX
        flat |= elements if short else {name: elements[name] for name in extra & elements.keys()}
    return flat


def _elements(key: str, value: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for index, element in enumerate(value):
        if isinstance(element, list | tuple):
            yield from _elements(f"{key}.{index}", cast("Sequence[Any]", element))
        else:
            yield f"{key}.{index}", element


def _row(values: Mapping[str, Any], plan: _Plan) -> LogValues:
    """Return the values of an inference as its row shows them."""
    row: dict[str, tuple[ColumnType, Any]] = {}
    for key, value in values.items():
        known = plan.fields.get(key) if plan.declared else None
        if isinstance(value, str | list | tuple) or (known is not None and known.kind == "category"):
            row[key] = ("s", value)
        else:
            row[key] = ("f" if known is not None and known.type == "float32" else "d", _number(value))
    return row


def _with_parts(log_values: LogValues, values: Mapping[str, Any], plan: _Plan) -> LogValues:
    """Add what is made of whole vectors, which stands in none of the whole fields."""
    return {**log_values, **{key: ("d", _number(values.get(key))) for key in plan.parts}} if plan.parts else log_values


def _weight(value: Any) -> int:
    """Return about how many bytes a value takes in a rows record."""
    if isinstance(value, list | tuple):
        elements = cast("Sequence[Any]", value)
        if elements and isinstance(elements[0], int | float):
            return 20 * len(elements)  # a tensor: every inference has one
        return 2 + sum(map(_weight, elements))
    return 20 + (len(value) if isinstance(value, str) else 0)


def _columns(rows: Sequence[LogValues]) -> dict[str, tuple[ColumnType, list[Any]]]:
    columns: dict[str, tuple[ColumnType, list[Any]]] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key][1] if key in row else None for row in rows]
        kind = _kind({row[key][0] for row in rows if key in row}, values)
        columns[key] = (kind, [_plain(value) for value in values] if kind == "s" else values)
    return columns


def _kind(kinds: set[ColumnType], values: Sequence[Any]) -> ColumnType:
    """Return the one type that holds a whole column."""
    if "s" in kinds:
        return "s"
    if len(kinds) > 1:
        return "d"
    (kind,) = kinds
    # There is no missing int64, and no larger one.
    return "d" if kind == "q" and any(value is None or abs(value) > INT64_MAX for value in values) else kind


def _plain(value: Any) -> Any:
    """Return what JSON can hold: it has neither NaN nor infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[Any]", value)]
    return value
