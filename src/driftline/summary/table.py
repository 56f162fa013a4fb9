"""Many summaries of numbers as arrays: read from their bytes, and checked, without a line of Python for each.

Needs numpy. Equals `driftline.summary.codec.decode` and `Summary.fits` summary by summary; what the arrays cannot hold
is left to those.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from driftline.summary.arrays import edges_of
from driftline.summary.codec import CELLS_MAX, FLOAT32_BYTES, FLOAT_BYTES, LOW_BITS_MAX, NUMBERS, decode
from driftline.summary.grid import Grid
from driftline.summary.summary import CATEGORY_GRID_ID, SUM_TOLERANCE, Summary
from driftline.wire.device import WireError

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

# A number of more bytes is left to the reader of one summary: sums of shorter ones cannot overflow.
_VARINT_BYTES = 6
# More than a summary without its cells takes.
_BEYOND = bytes(128)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Summaries, one entry each; `min` and `max` are NaN where there is no finite value.

    `cells` and `counts` hold the cells of all, one after the other: those of summary i from `ends[i]` to `ends[i + 1]`.
    """

    grid_ids: Sequence[str]
    count: Whole
    missing: Whole
    below: Whole
    above: Whole
    min: Floats
    max: Floats
    sum: Floats
    sum_squares: Floats
    ends: Whole
    cells: Whole
    counts: Whole

    def __len__(self) -> int:
        """How many there are."""
        return len(self.count)

    @property
    def n(self) -> Whole:
        """How many values each has: all inferences but the missing."""
        return self.count - self.missing

    @property
    def finite(self) -> Whole:
        """How many values of each are neither missing nor infinite."""
        return self.n - self.below - self.above

    @property
    def sizes(self) -> Whole:
        """How many cells each has."""
        return np.diff(self.ends)

    @staticmethod
    def of(summaries: Sequence[Summary]) -> "Table":
        """Return these summaries as arrays."""
        sizes = [len(one.cells) for one in summaries]
        pairs = chain.from_iterable(chain.from_iterable(one.cells for one in summaries))
        cells, counts = np.fromiter(pairs, np.int64, 2 * sum(sizes)).reshape(-1, 2).T
        whole = np.array([(one.count, one.missing, *one.infinite) for one in summaries], np.int64).reshape(-1, 4).T
        floats = [(one.min, one.max, one.sum, one.sum_squares) for one in summaries]
        low, high, total, squares = np.array(floats, np.float64).reshape(-1, 4).T
        ids, ends = [one.grid_id for one in summaries], _ends(np.array(sizes, np.int64))
        return Table(ids, whole[0], whole[1], whole[2], whole[3], low, high, total, squares, ends, cells, counts)

    def some(self, at: Whole) -> "Table":
        """Return those at these places, in this order."""
        sizes = self.sizes[at]
        ends = _ends(sizes)
        cells = _stretches(self.ends[at], sizes, ends)
        return Table(
            [self.grid_ids[int(i)] for i in at],
            self.count[at],
            self.missing[at],
            self.below[at],
            self.above[at],
            self.min[at],
            self.max[at],
            self.sum[at],
            self.sum_squares[at],
            ends,
            self.cells[cells],
            self.counts[cells],
        )

    def __iter__(self) -> Iterator[Summary]:
        """Go through them, one `Summary` each."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, i: int) -> Summary:
        """Return one as an object."""
        stretch = slice(int(self.ends[i]), int(self.ends[i + 1]))
        is_finite = bool(self.finite[i])
        return Summary(
            self.grid_ids[i],
            int(self.count[i]),
            int(self.missing[i]),
            tuple(zip(self.cells[stretch].tolist(), self.counts[stretch].tolist(), strict=True)),
            float(self.min[i]) if is_finite else None,
            float(self.max[i]) if is_finite else None,
            float(self.sum[i]),
            float(self.sum_squares[i]),
            (int(self.below[i]), int(self.above[i])),
        )

    def fit(self, grids: Mapping[str, Grid]) -> Flags:
        """Say of each whether values on its grid can have given it; see `Summary.fits`.

        Of those with infinite values nothing is said here: False.
        """
        fits = (self.below == 0) & (self.above == 0)
        distinct = {name: i for i, name in enumerate(dict.fromkeys(self.grid_ids))}
        of = np.array([distinct[name] for name in self.grid_ids], np.int64)
        used = [grids[name] for name in distinct]
        # Cell c of a grid lies between bounds[first + c] and the next.
        bounds = np.concatenate([[-np.inf], *chain.from_iterable((edges_of(one), [np.inf, -np.inf]) for one in used)])
        first = _ends(np.array([one.cells + 1 for one in used], np.int64))[of]
        last = np.array([len(one.edges) for one in used], np.int64)[of]
        centre = np.array([one.centre for one in used])[of]
        some = self.sizes > 0
        # A summary without cells looks at those of its neighbours, and is told apart below.
        cells = np.append(self.cells, 0)
        low, high = cells[self.ends[:-1]], cells[self.ends[1:] - 1]
        fits &= ~some | (high <= last)
        low, high = np.minimum(low, last) + first, np.minimum(high, last) + first
        inside = (bounds[low] < self.min) & (self.min <= bounds[low + 1])
        inside &= (bounds[high] < self.max) & (self.max <= bounds[high + 1])
        reach = np.maximum(np.abs(self.min - centre), np.abs(self.max - centre)) * (1 + SUM_TOLERANCE)
        with np.errstate(over="ignore"):
            bounded = np.abs(self.sum) <= self.finite * reach
            bounded &= self.sum_squares <= self.finite * reach * reach
        return fits & np.where(np.isnan(self.min), self.finite == 0, some & inside & bounded)


def decode_table(data: Sequence[bytes], grid_ids: Sequence[str]) -> Table:
    """Decode summaries of numbers, each counted on the grid that stands in its place.

    >>> from driftline.summary.codec import encode
    >>> one = Summary("0" * 15 + "1", 3, 1, ((0, 1), (4, 1)), -2.0, 0.5, -1.5, 4.25)
    >>> decode_table([encode(one)], [one.grid_id])[0] == one
    True

    Raises:
        WireError: as `decode` says it; and a count of 2⁴² or more.
    """
    table, is_read = read_table(data, grid_ids)
    for i in np.flatnonzero(~is_read).tolist():
        if not isinstance(decode(data[i], grid_ids[i]), Summary):
            raise WireError("categories, where numbers were expected")
        raise WireError("a count of 2⁴² or more")
    return table


def read_table(data: Sequence[bytes], grid_ids: Sequence[str]) -> tuple[Table, Flags]:
    """Decode summaries, and say which of them could be read: the others are for `decode`, which says what is wrong.

    The entries of those that could not be read mean nothing.
    """
    sizes = np.fromiter(map(len, data), np.int64, len(data))
    ends = np.cumsum(sizes)
    head = _Head(np.frombuffer(b"".join((*data, _BEYOND)), np.uint8), ends - sizes)
    numbers = np.fromiter((name != CATEGORY_GRID_ID for name in grid_ids), np.bool_, len(data))
    good = (sizes > 0) & (head.byte() == NUMBERS) & numbers
    count, missing, below, above = (head.varint() for _ in range(4))
    finite = count - missing - below - above
    floats = head.floats(finite > 0)
    low, high, total, squares = floats.T
    cells_of = head.varint()
    low_bits = head.byte(cells_of > 0)
    good &= head.good & (finite >= 0) & (cells_of <= CELLS_MAX) & (low_bits <= LOW_BITS_MAX) & (head.at <= ends)
    # The last byte of a summary ends a number; where it does not, its cells would run into the next one's.
    good &= head.bytes[ends - 1] < 0x80
    good &= (finite <= 0) | np.isfinite(floats).all(axis=1) & (low <= high) & (squares >= 0)
    start = np.where(good, head.at, ends)
    found, cells, counts, sound = _cells(head.bytes, start, ends - start, low_bits)
    good &= sound
    upto = _ends(found)
    values = np.diff(np.concatenate(([0], np.cumsum(counts)))[upto])
    good &= (found == cells_of) & (values == count - missing)
    table = Table(grid_ids, count, missing, below, above, low, high, total, squares, upto, cells, counts)
    return table, good


class _Head:
    """Reads what stands before the cells of many summaries, all at once: each read moves `at` on.

    A place may come to lie behind its summary's end; whoever reads looks at that in the end.
    """

    def __init__(self, data: Bytes, at: Whole) -> None:
        self.bytes = data
        self.at = at
        self.good = np.ones(at.size, np.bool_)

    def byte(self, where: Flags | None = None) -> Whole:
        """Read a byte; 0 where there is none to read."""
        byte = self.bytes[np.minimum(self.at, self.bytes.size - 1)].astype(np.int64)
        if where is None:
            self.at = self.at + 1
            return byte
        self.at = self.at + where
        return np.where(where, byte, 0)

    def varint(self) -> Whole:
        """Read a number."""
        byte = self.byte()
        number = byte & 0x7F
        for i in range(1, _VARINT_BYTES):
            more = byte > 0x7F
            if not more.any():
                return number
            byte = self.byte(more)
            number += (byte & 0x7F) << 7 * i
        self.good &= byte <= 0x7F
        return number

    def floats(self, where: Flags) -> Floats:
        """Read four floats with their sizes, shape (summaries, 4); NaN, NaN, 0, 0 where there are none to read."""
        pairs = np.stack((self.byte(where), self.byte(where)), axis=1)
        sizes = np.stack((pairs >> 4, pairs & 0xF), axis=2).reshape(-1, 4)
        is_short = sizes > FLOAT_BYTES
        widths = np.where(is_short, sizes - FLOAT_BYTES, sizes)
        self.good &= (sizes <= FLOAT_BYTES + FLOAT32_BYTES).all(axis=1)
        at = np.minimum(self.at[:, None] + np.cumsum(widths, axis=1) - widths, self.bytes.size - FLOAT_BYTES)
        reach = np.arange(FLOAT_BYTES)
        words = self.bytes[at[:, :, None] + reach] * (reach < widths[:, :, None])
        long = words.view(">f8")[:, :, 0].astype(np.float64)
        with np.errstate(invalid="ignore"):  # a signalling NaN is none of ours, and is told apart by the caller
            short = np.ascontiguousarray(words[:, :, :FLOAT32_BYTES]).view(">f4")[:, :, 0].astype(np.float64)
        numbers = np.where(is_short, short, long)
        numbers[~where] = np.nan, np.nan, 0.0, 0.0
        self.at = self.at + widths.sum(axis=1)
        return numbers


def _cells(data: Bytes, start: Whole, sizes: Whole, low_bits: Whole) -> tuple[Whole, Whole, Whole, Flags]:
    """Read the cells of many summaries: how many each has, their indices and counts, and which could be read."""
    sound = np.ones(start.size, np.bool_)
    # As a rule a cell is one byte, and stays one for as long as it can: that is a quarter of the time.
    words: Bytes | Whole = data[_stretches(start, sizes, _ends(sizes))]
    found = sizes
    if words.size and words.max() > 0x7F:
        words, found, sound = _numbers(words, sizes)
    bits = np.repeat(low_bits.astype(words.dtype), found)
    low_max = ((1 << low_bits) - 1).astype(words.dtype).repeat(found)
    low, gap = words & low_max, words >> bits
    goes_on = low == low_max
    if goes_on.any():
        owner = np.repeat(np.arange(start.size), found)
        is_rest, torn = _rest(goes_on, owner)
        sound[owner[torn]] = False
        low = low + np.where(goes_on & ~is_rest, np.append(words[1:], 0).astype(np.int64), 0)
        low, gap = low[~is_rest], gap[~is_rest]
        found = np.bincount(owner[~is_rest], minlength=start.size)
    if gap.size and int(gap.max()) >= CELLS_MAX:
        sound[np.repeat(np.arange(start.size), found)[gap >= CELLS_MAX]] = False
        gap = np.minimum(gap, CELLS_MAX)
    ends = _ends(found)
    upto = np.cumsum(gap, dtype=np.int64)
    upto += np.arange(upto.size)
    cells = upto - np.repeat(np.append(0, upto + 1)[ends[:-1]], found)
    last = np.append(cells, 0)[ends[1:] - 1]
    sound &= (found == 0) | (last < CELLS_MAX)
    return found, cells, low.astype(np.int64) + 1, sound


def _numbers(read: Bytes, sizes: Whole) -> tuple[Whole, Whole, Flags]:
    """Read numbers of any length: all of them, how many each summary has, and which could be read."""
    last = np.flatnonzero(read < 0x80)
    first = np.append(0, last[:-1] + 1)
    owner = np.repeat(np.arange(sizes.size), sizes)[last]
    place = np.arange(read.size) - np.repeat(first, last - first + 1)
    parts = (read & 0x7F).astype(np.int64) << 7 * np.minimum(place, _VARINT_BYTES)
    sound = np.ones(sizes.size, np.bool_)
    sound[owner[last - first >= _VARINT_BYTES]] = False
    return np.add.reduceat(parts, first), np.bincount(owner, minlength=sizes.size), sound


def _rest(goes_on: Flags, owner: Whole) -> tuple[Flags, Flags]:
    """Say which numbers are the rest of a count, and which lack one.

    What follows a cell whose count goes on is the rest of it, and may look like such a cell itself: in a run of them
    each second one is. The first number of a summary always is a cell.
    """
    begins = np.append(True, owner[1:] != owner[:-1])
    here = np.arange(owner.size)
    after = np.append(False, goes_on[:-1]) & ~begins
    run = np.maximum.accumulate(np.where(goes_on & ~after, here, -1))
    goes_on = goes_on & ((here - run) % 2 == 0)
    is_rest = np.append(False, goes_on[:-1]) & ~begins
    return is_rest, goes_on & np.append(begins[1:], True)


def _ends(sizes: Whole) -> Whole:
    """Return where each stretch begins, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(sizes)))


def _stretches(start: Whole, sizes: Whole, ends: Whole) -> Whole:
    """Return the places of stretches, one after the other."""
    return np.repeat(start - ends[:-1], sizes) + np.arange(ends[-1])
