"""What a device sends is checked record by record: can a device of this fleet have recorded it, and if not, why?

Summaries are what takes time: those of all batches that came together are looked at as arrays
(`driftline.summary.table`), and only where something seems wrong one by one, which says what. Reads the database as a
rule not at all, and changes nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeGuard, cast

import numpy as np
from sqlalchemy import Connection

from driftline.clock import NS_PER_S
from driftline.errors import DriftlineError, EntityNotFoundError, InvalidInputError
from driftline.hub import drops, grids
from driftline.hub.core import Grants
from driftline.hub.store.telemetry import Incoming
from driftline.summary.codec import decode
from driftline.summary.grid import Grid
from driftline.summary.summary import CATEGORY_GRID_ID, Summary
from driftline.summary.table import read_table
from driftline.wire import device

# Before this no driftline device existed: a clock that says so was never set.
TIME_MIN_S = 1_577_836_800  # 2020-01-01
# A device whose clock is set to local time, or whose battery is old, is still believed.
AHEAD_MAX_S = 24 * 3600
INFERENCES_MAX = 2**48
FIELDS_MAX = 4096
KEY_CHARACTERS_MAX = 400
EVENT_BYTES_MAX = 64 * 1024
# Of fewer summaries each is checked alone, which then is faster.
TOGETHER_MIN = 12


class RefusedError(InvalidInputError):
    """A record that can never be taken; the message is the reason its device gets to read."""


def check_all(
    asked: Sequence[tuple["Checker", Sequence[device.Record]]], known: Mapping[str, Grid]
) -> list[list[tuple[Incoming, str]]]:
    """Check batches, each by its own checker; `known` are the grids that need not be looked up."""
    reader = device.WindowReader()
    windows = [[_decoded_window(reader, one) for one in records] for _, records in asked]
    sound = iter(_sound([one for each in windows for one in each], known))
    return [
        [checker.check(*one, is_sound=next(sound)) for one in zip(records, found, strict=True)]
        for (checker, records), found in zip(asked, windows, strict=True)
    ]


def _sound(windows: Sequence[device.WindowRecord | None], known: Mapping[str, Grid]) -> list[bool]:
    """Say of which windows every summary of numbers is beyond doubt: all at once, for they are what takes time.

    Of the others nothing is said.
    """
    fields = [_numeric(one) for one in windows]
    looked_at = [all(field.grid_id in known for field in each) for each in fields]
    every = [field for each, is_looked_at in zip(fields, looked_at, strict=True) if is_looked_at for field in each]
    if len(every) < TOGETHER_MIN:
        return [False] * len(windows)
    sizes = [len(each) if is_looked_at else 0 for each, is_looked_at in zip(fields, looked_at, strict=True)]
    most = np.repeat([0 if one is None else min(one.inferences, INFERENCES_MAX) for one in windows], sizes)
    table, good = read_table([one.summary for one in every], [one.grid_id for one in every])
    good &= table.fit(known) & (table.count <= most)
    ends = np.fromiter(accumulate(sizes, initial=0), np.int64, len(sizes) + 1)
    doubts = np.diff(np.append(0, np.cumsum(~good))[ends])
    return ((doubts == 0) & looked_at).tolist()


class Checker:
    """Says of each record whether it can be what a device of this fleet recorded, and if not why.

    `moves`: whether records are put where they belong in time, as their device estimates it. `brought` are the edges of
    grids that the device still knows: those of them that this hub made and lost, and that are needed, are `unknown`.
    `known` are grids that this hub has, and learns which it has more. `connect` gives a connection to read from.
    `window_s` is the width of base windows.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        granted: Grants,
        now_ns: int,
        *,
        moves: bool = True,
        brought: Mapping[str, Any] | None = None,
        known: dict[str, Grid] | None = None,
        window_s: int = device.BASE_WINDOW_S,
    ) -> None:
        self.unknown: dict[str, Grid] = {}
        # A grid is never changed: those that were looked up once serve every batch.
        self._grids: dict[str, Grid] = {} if known is None else known
        self._brought = brought or {}
        self._connect = connect
        self._window_s = window_s
        self._moves = moves
        self._granted = granted
        self._now_ns = now_ns
        self._fields: dict[str, set[str] | None] = {}
        # By version, the keys that earlier windows of this batch had.
        self._checked: dict[str, set[str]] = {}

    def check(
        self, record: device.Record, window: device.WindowRecord | None, *, is_sound: bool
    ) -> tuple[Incoming, str]:
        """Return a record ready to be stored with an empty reason, or an empty one with the reason against it.

        `window` is what it was decoded to, `is_sound` says that its summaries of numbers are beyond doubt.
        """
        try:
            if record.kind == "window":
                return self._window(record, window or device.decode_window(record.data), is_sound=is_sound), ""
            return (self._rows(record) if record.kind == "rows" else self._event(record)), ""
        except DriftlineError as error:
            return Incoming(record.sequence, record.data), str(error)
        except (ArithmeticError, RecursionError) as error:
            # JSON can hold numbers beyond all bounds, and objects too deep to read.
            return Incoming(record.sequence, record.data), f"a record that cannot be read: {error}"

    def complete(self, head: device.BatchHead) -> dict[tuple[str, str], tuple[int, int | None]]:
        """Return from where on, and up to where, each (pipeline, version) is complete, as far as the device may say.

        None stands for the beginning.
        """
        latest_ns = self._now_ns + AHEAD_MAX_S * NS_PER_S
        return {
            (self._granted[version][0], version): (until, head.complete_from_ns.get(version))
            for version, until in head.complete_until_ns.items()
            if version in self._granted
            and all(is_whole(one) and 0 <= one <= latest_ns for one in (until, head.complete_from_ns.get(version, 0)))
        }

    def _window(self, record: device.Record, window: device.WindowRecord, *, is_sound: bool) -> Incoming:
        pipeline, definition = self._version(window.pipeline)
        moved_s = self._moved_s(record, window.start_s, window.width_s)
        if window.inferences > INFERENCES_MAX or len(window.fields) > FIELDS_MAX:
            raise RefusedError(f"{window.inferences} inferences and {len(window.fields)} fields cannot be one window's")
        keys = {field.key for field in window.fields}
        if len(keys) != len(window.fields):
            raise RefusedError("a field comes twice in one window")
        checked = self._checked.setdefault(window.pipeline, set())
        for key in keys - checked:
            self._check_key(pipeline, window.pipeline, definition, key)
            checked.add(key)
        for field in window.fields:
            if not is_sound or field.grid_id == CATEGORY_GRID_ID:
                self._check_summary(field, window.inferences)
        if why := self._undated(moved_s, window.start_s):
            return Incoming(record.sequence, record.data, kind="window", undated=why)
        if moved_s:
            window = window._replace(start_s=window.start_s + moved_s)
        return Incoming(record.sequence, record.data, pipeline, window=window, moved=bool(moved_s))

    def _rows(self, record: device.Record) -> Incoming:
        rows = device.decode_rows(record.data)
        pipeline, _ = self._version(rows.pipeline)
        moved_s = self._moved_s(record, rows.start_s, rows.width_s)
        start_ns, end_ns = rows.start_s * NS_PER_S, (rows.start_s + rows.width_s) * NS_PER_S
        if any(not start_ns <= time_ns < end_ns for time_ns in rows.times_ns):
            raise RefusedError("a row lies outside the window it travels in")
        if len(rows.columns) > FIELDS_MAX:
            raise RefusedError(f"{len(rows.columns)} columns; at most {FIELDS_MAX} are taken")
        for key in rows.columns:
            _check_spelling(key)
        if why := self._undated(moved_s, rows.start_s):
            return Incoming(record.sequence, record.data, kind="rows", undated=why)
        return Incoming(record.sequence, record.data, pipeline, rows=_moved(rows, moved_s or 0), moved=bool(moved_s))

    def _event(self, record: device.Record) -> Incoming:
        if len(record.data) > EVENT_BYTES_MAX:
            raise RefusedError(f"an event of {len(record.data)} bytes; at most {EVENT_BYTES_MAX} are taken")
        event = device.decode_event(record.data)
        at_ns = event["at_ns"] + (record.moved_s or 0) * NS_PER_S
        if not all(-(2**63) <= one < 2**63 for one in (event["at_ns"], at_ns)) or len(event["type"]) > 64:
            raise RefusedError("an event has a short type and a time in nanoseconds since 1970")
        if any(count < 0 for count in counts_of(event).values()):
            raise RefusedError("an event that counts less than nothing")
        readable = json.dumps(event, ensure_ascii=False).encode(errors="replace")
        # What happened at an unknown time is told at the time it was heard of.
        known = {"at_ns": at_ns} if record.moved_s is not None else {"at_ns": self._now_ns, "by_its_clock_ns": at_ns}
        told = json.loads(readable)
        if self._moves:
            told |= known | drops.moved(told, record.moved_s)
        return Incoming(record.sequence, record.data, event=told)

    def _version(self, version: str) -> tuple[str, Mapping[str, Any]]:
        if version not in self._granted:
            raise RefusedError(f"pipeline version {version[:64]!r} was never given to this device")
        return self._granted[version]

    def _moved_s(self, record: device.Record, start_s: int, width_s: int) -> int | None:
        """Return by how much a record is to be moved; None where its device does not know its time."""
        moved_s = record.moved_s
        if width_s != self._window_s or start_s % width_s or (moved_s or 0) % width_s:
            raise RefusedError(
                f"a window of {width_s} s from {start_s} on, moved by {moved_s or 0} s; windows are "
                f"{self._window_s} s, aligned to the epoch"
            )
        return moved_s if self._moves else 0

    def _undated(self, moved_s: int | None, start_s: int) -> str:
        """Say why the time of a record is not known; '' where it is."""
        if moved_s is None:
            return "nobody knows when: it lost power before it reached the hub, and nothing vouches for its clock"
        if start_s + moved_s < TIME_MIN_S:
            return "from before 2020, when there were no such devices: its clock was never set"
        if start_s + moved_s > self._now_ns // NS_PER_S + AHEAD_MAX_S:
            return "from more than a day ahead of the hub's time: its clock, or the hub's, is wrong"
        return ""

    def _check_key(self, pipeline: str, version: str, definition: Mapping[str, Any], key: str) -> None:
        _check_spelling(key)
        if version not in self._fields:
            self._fields[version] = self._recorded(pipeline, definition)
        recorded = self._fields[version]
        if recorded is not None and key not in recorded:
            raise RefusedError(f"{key!r} is not recorded of this pipeline version")

    def _recorded(self, pipeline: str, definition: Mapping[str, Any]) -> set[str] | None:
        """Return the keys that may be recorded; None where nothing is declared and any may."""
        if not definition["steps"]:
            return None
        return {*(str(one["key"]) for one in definition["fields"]), *grids.extra_of(self._connect(), pipeline)}

    def _grid(self, grid_id: str) -> Grid:
        if grid_id in self.unknown:
            return self.unknown[grid_id]
        try:
            self._grids[grid_id] = grids.need_grid(self._connect(), grid_id)
            return self._grids[grid_id]
        except EntityNotFoundError:
            # A hub that was restored may have forgotten a grid; its id is a hash of its edges, so nobody can forge one.
            grid = _grid_of(self._brought.get(grid_id))
            if grid is None or grid.id != grid_id:
                raise
            self.unknown[grid_id] = grid
            return grid

    def _check_summary(self, field: device.FieldSummary, inferences: int) -> None:
        summary = decode(field.summary, field.grid_id)
        if summary.count > inferences:
            raise RefusedError(f"{field.key}: {summary.count} values of {inferences} inferences")
        if field.grid_id == CATEGORY_GRID_ID:
            return
        grid = self._grids.get(field.grid_id) or self._grid(field.grid_id)
        if isinstance(summary, Summary) and not summary.fits(grid):
            raise RefusedError(f"{field.key}: counts that no values on grid {grid.id} can have given")


def _numeric(window: device.WindowRecord | None) -> list[device.FieldSummary]:
    return [] if window is None else [one for one in window.fields if one.grid_id != CATEGORY_GRID_ID]


def _decoded_window(reader: device.WindowReader, record: device.Record) -> device.WindowRecord | None:
    """Return a window's record; None of other kinds, and where it cannot be read."""
    try:
        return reader.read(record.data) if record.kind == "window" else None
    except DriftlineError:
        return None


def _grid_of(edges: object) -> Grid | None:
    """Return the grid of these edges, None where they are none; it is JSON from outside."""
    try:
        return Grid(tuple(float(edge) for edge in cast("Sequence[Any]", edges)))
    except (ArithmeticError, TypeError, ValueError, InvalidInputError):
        return None


def _moved(rows: device.RowsRecord, moved_s: int) -> device.RowsRecord:
    if not moved_s:
        return rows
    times_ns = [time_ns + moved_s * NS_PER_S for time_ns in rows.times_ns]
    return replace(rows, start_s=rows.start_s + moved_s, times_ns=times_ns)


def _check_spelling(key: str) -> None:
    if not key.startswith(("in.", "out.")) or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise RefusedError(f"{key[:64]!r} names no field; keys begin with 'in.' or 'out.'")


def counts_of(event: Mapping[str, Any]) -> dict[str, int]:
    """Return what an event counts: its whole numbers but for its time, or those of its `counts`."""
    told = event.get("counts")
    counts = cast("Mapping[str, Any]", told) if isinstance(told, dict) else event
    return {str(name): value for name, value in counts.items() if name != "at_ns" and is_whole(value)}


def is_whole(value: object) -> TypeGuard[int]:
    """Say whether it is a whole number; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
