"""A summary as bytes: what travels in a window record and rests in the hub's store.

Layout, version 1. A varint is unsigned LEB128, a string a varint length and UTF-8.

    numbers    = 0x01, varint count, varint missing, varint −inf, varint +inf, floats if there is a finite value,
                 varint cells, byte k if cells, cells × cell
    cell       = varint (skipped × 2ᵏ + low) with low = min(count − 1, 2ᵏ − 1), then varint (count − 1 − low) if
                 low = 2ᵏ − 1; `skipped` is how many empty cells lie between this and the one before
    floats     = min, max, sum, sum of squares: two bytes with a size in each half byte, then each number without
                 its trailing zero bytes: big-endian float64 where the size is at most 8 (a rounded sum takes 6 bytes),
                 else big-endian float32 of size − 8 bytes
    categories = 0x02, varint count, varint missing, varint other, varint names, names × (string, varint count)

A reader refuses what no values can have given: counts that do not add up, numbers that are not finite, names out of
order, bytes left over. k is chosen by the writer so that a usual count fits one byte with the gap before it. The writer
rounds sums to 36 bits after the point: the mean moves by less than a 10⁻¹⁰th of its distance from the grid's centre,
the variance by less than a 10⁻⁹th, and where it would be more, nothing is rounded.
"""

import itertools
import math
import struct
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter

from driftline.summary.grid import to_float32
from driftline.summary.summary import CATEGORIES_MAX, CATEGORY_GRID_ID, CategorySummary, Summary
from driftline.wire.device import Reader, WireError, varint

NUMBERS, CATEGORIES = 1, 2
_FLOAT, _FLOAT32, _BITS = struct.Struct(">d"), struct.Struct(">f"), struct.Struct(">Q")
FLOAT_BYTES, FLOAT32_BYTES = 8, 4
# Seven bits fit one byte: six for the count leave one for the gap.
LOW_BITS_MAX = 6
# The bits of a sum that are rounded off: its last two bytes.
_ROUNDED_BITS = 16
# What lies within so many parts of Σ(x−c)² is spread, the rest is distance from the centre. Below, rounding would show.
_SPREAD_MIN = 1 / 50
# What a cell of one byte says, by k: how far it is from the one before, and its count.
_GAPS = [bytes(1 + ((word & 0x7F) >> k) for word in range(256)) for k in range(LOW_BITS_MAX + 1)]
_COUNTS = [bytes(1 + (word & (1 << k) - 1) for word in range(256)) for k in range(LOW_BITS_MAX + 1)]
# More than any grid has; keeps hostile bytes from asking for memory.
CELLS_MAX = 1 << 16


def encode(summary: Summary | CategorySummary) -> bytes:
    """Encode a summary; its grid id travels beside it."""
    if isinstance(summary, CategorySummary):
        return _encode_categories(summary)
    parts = [bytes([NUMBERS]), *map(varint, (summary.count, summary.missing, *summary.infinite))]
    if summary.min is not None and summary.max is not None:
        parts.append(_encode_floats((summary.min, summary.max, *_rounded_sums(summary))))
    parts.append(varint(len(summary.cells)))
    if summary.cells:
        parts.append(_encode_cells(summary.cells))
    return b"".join(parts)


def decode(data: bytes, grid_id: str) -> Summary | CategorySummary:
    """Decode a summary that was counted on this grid.

    Raises:
        WireError: another version, torn, or not a summary of any values.
    """
    reader = Reader(data)
    kind = reader.take(1)[0]
    if kind not in {NUMBERS, CATEGORIES}:
        raise WireError(f"a summary of kind {kind}; this program knows 1 and 2, update it")
    if (kind == CATEGORIES) != (grid_id == CATEGORY_GRID_ID):
        raise WireError("numbers are counted on a grid, categories are not")
    summary = _decode_numbers(reader, grid_id) if kind == NUMBERS else _decode_categories(reader)
    if reader.rest:
        raise WireError(f"{reader.rest} bytes too many after a summary")
    return summary


def _rounded_sums(summary: Summary) -> tuple[float, float]:
    squares = summary.finite * summary.sum_squares
    if squares - summary.sum * summary.sum < _SPREAD_MIN * squares:
        return summary.sum, summary.sum_squares
    return _rounded(summary.sum), _rounded(summary.sum_squares)


def _rounded(number: float) -> float:
    if abs(number) < sys.float_info.min:
        return number  # so close to zero a number has fewer bits than are rounded off
    (bits,) = _BITS.unpack(_FLOAT.pack(number))
    half = 1 << (_ROUNDED_BITS - 1)
    return float(_FLOAT.unpack(_BITS.pack((bits + half) >> _ROUNDED_BITS << _ROUNDED_BITS))[0])


def _encode_floats(numbers: Sequence[float]) -> bytes:
    sizes, words = zip(*map(_word, numbers), strict=True)
    a, b, c, d = sizes
    return bytes([a << 4 | b, c << 4 | d]) + b"".join(words)


def _word(number: float) -> tuple[int, bytes]:
    """Return a number's size as it travels, and its bytes: the shorter of two forms, if float32 can hold it."""
    word = _FLOAT.pack(number + 0.0).rstrip(b"\0")
    if len(word) <= FLOAT32_BYTES or to_float32(number) != number:
        return len(word), word
    short = _FLOAT32.pack(number).rstrip(b"\0")
    return FLOAT_BYTES + len(short), short


def _encode_cells(cells: Sequence[tuple[int, int]]) -> bytes:
    k = min(LOW_BITS_MAX, max(count for _, count in cells).bit_length())
    low_max = (1 << k) - 1
    parts = [bytes([k])]
    expected = 0
    for index, count in cells:
        low = min(count - 1, low_max)
        parts.append(varint((index - expected) << k | low))
        if low == low_max:
            parts.append(varint(count - 1 - low))
        expected = index + 1
    return b"".join(parts)


def _encode_categories(summary: CategorySummary) -> bytes:
    parts = [bytes([CATEGORIES]), *map(varint, (summary.count, summary.missing, summary.other, len(summary.counts)))]
    for name, count in summary.counts:
        encoded = name.encode()
        parts += [varint(len(encoded)), encoded, varint(count)]
    return b"".join(parts)


def _decode_numbers(reader: Reader, grid_id: str) -> Summary:
    take = reader.varint
    count, missing, below, above = take(), take(), take(), take()
    finite = count - missing - below - above
    if finite < 0:
        raise WireError("more values missing or infinite than there are")
    low, high, total, squares = _decode_floats(reader) if finite else (None, None, 0.0, 0.0)
    cells = _decode_cells(reader)
    if sum(map(itemgetter(1), cells)) != count - missing:
        raise WireError("the cells of a summary do not add up to its values")
    return Summary(grid_id, count, missing, cells, low, high, total, squares, (below, above))


def _decode_floats(reader: Reader) -> list[float]:
    first, second = reader.take(2)
    numbers: list[float] = []
    # Every summary a hub takes in comes through here: a call less for each number is felt.
    for size in (first >> 4, first & 0xF, second >> 4, second & 0xF):
        if size <= FLOAT_BYTES:
            numbers += _FLOAT.unpack(reader.take(size).ljust(FLOAT_BYTES, b"\0"))
        elif size <= FLOAT_BYTES + FLOAT32_BYTES:
            numbers += _FLOAT32.unpack(reader.take(size - FLOAT_BYTES).ljust(FLOAT32_BYTES, b"\0"))
        else:
            raise WireError("a number of more than 8 bytes, or of more than 4 as a float32")
    low, high, _, squares = numbers
    if not all(map(math.isfinite, numbers)) or low > high or squares < 0:
        raise WireError("min, max and sums of a summary are finite, min <= max, and squares are not negative")
    return numbers


def _decode_cells(reader: Reader) -> tuple[tuple[int, int], ...]:
    size = reader.varint()
    if size > CELLS_MAX:
        raise WireError(f"a summary of {size} cells")
    if not size:
        return ()
    k = reader.take(1)[0]
    if k > LOW_BITS_MAX:
        raise WireError(f"{k} bits for a count; at most {LOW_BITS_MAX}")
    low_max = (1 << k) - 1
    words = reader.small(size)
    counts = words.translate(_COUNTS[k])
    if words and low_max + 1 not in counts:
        # As a rule a cell is one byte; then no line of Python runs for each.
        gaps = itertools.accumulate(reader.take(size).translate(_GAPS[k]), initial=-1)
        cells = tuple(zip(itertools.islice(gaps, 1, None), counts, strict=True))
    else:
        cells = tuple(_cells_one_by_one(reader, size, k))
    if cells[-1][0] >= CELLS_MAX:
        raise WireError(f"cell {cells[-1][0]} of a grid that has fewer")
    return cells


def _cells_one_by_one(reader: Reader, size: int, k: int) -> Iterator[tuple[int, int]]:
    low_max = (1 << k) - 1
    index = -1
    for _ in range(size):
        word = reader.varint()
        index += 1 + (word >> k)
        low = word & low_max
        yield index, 1 + low + (reader.varint() if low == low_max else 0)


def _decode_categories(reader: Reader) -> CategorySummary:
    count, missing, other, size = (reader.varint() for _ in range(4))
    if size > CATEGORIES_MAX:
        raise WireError(f"{size} categories; at most {CATEGORIES_MAX} travel")
    counts = tuple((reader.string(), reader.varint()) for _ in range(size))
    if any(left >= right for (left, _), (right, _) in itertools.pairwise(counts)):
        raise WireError("categories are sorted, and none comes twice")
    if any(n < 1 for _, n in counts) or sum(n for _, n in counts) + other != count - missing:
        raise WireError("the categories of a summary do not add up to its values")
    return CategorySummary(count, missing, counts, other)
