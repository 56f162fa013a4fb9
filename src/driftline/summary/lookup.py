"""How many of very many values fall into each cell, without sorting them: about six times as fast. Needs numpy.

The bits of a float64, read as an integer, ascend with the number. Their leading ones, from the lowest edge in use to
the highest, say which of 65,536 *buckets* a value lies in. A table knows how many edges lie in earlier buckets: those
are below the value for certain. From there the value steps up, edge by edge, while it is greater. A bucket holds an
edge or two as a rule, whatever the scale of the field, because buckets are as fine near zero as far from it; what is
not decided after a few steps is looked up by itself.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Below this many values making the table takes longer than sorting them.
WORTH_A_TABLE = 1 << 13
_BUCKET_BITS = 16
_STEPS_MAX = 4
# What one block needs stays in the second-level cache. BLAS threads wake at 10,000 numbers, and would spin afterwards.
BLOCK = 8192


def counts(values: Floats, edges: Floats) -> Integers:
    """Count values between ascending edges, right-inclusive: shape (values,), (edges,) → (edges + 1,); none is NaN.

    >>> counts(np.array([-1.0, 0.0, 0.5, np.inf]), np.array([0.0, 1.0])).tolist()
    [2, 1, 1]
    """
    found = np.zeros(edges.size + 1, dtype=np.int64)
    if not values.size:
        return found
    # An edge below every value, or at or above the greatest, decides nothing.
    first, last = np.searchsorted(edges, [values.min(), values.max()]).tolist()
    if first == last:
        found[first] = values.size
    else:
        # Minus zero has other bits than zero and is not another edge.
        found[first : last + 1] = _counts(np.ascontiguousarray(values), edges[first:last] + 0.0)
    return found


def _counts(values: Floats, edges: Floats) -> Integers:
    low, high = (int(end) for end in _ascending(edges[[0, -1]]))
    shift = max(0, (high - low).bit_length() - _BUCKET_BITS)
    low, high = low >> shift, high >> shift
    bucket_of_edge = (_ascending(edges) >> shift) - low
    edges_in = np.bincount(bucket_of_edge, minlength=high - low + 1)
    edges_before = (np.cumsum(edges_in) - edges_in).astype(np.int32)
    steps = min(int(edges_in.max()), _STEPS_MAX)
    next_edge = np.append(edges, np.inf)
    found = np.zeros(edges.size + 1, dtype=np.int64)
    for at in range(0, values.size, BLOCK):
        block = values[at : at + BLOCK]
        bucket = _ascending(block) >> shift
        # Not np.clip: it takes three times as long.
        np.maximum(bucket, low, out=bucket)
        np.minimum(bucket, high, out=bucket)
        bucket -= low
        cells = edges_before.take(bucket)
        for _ in range(steps):
            cells += block > next_edge.take(cells)
        if steps == _STEPS_MAX:
            undecided = block > next_edge.take(cells)
            cells[undecided] = np.searchsorted(edges, block[undecided])
        found += np.bincount(cells, minlength=found.size)
    return found


def _ascending(values: Floats) -> Integers:
    """Return integers that ascend as the values do."""
    bits = values.view(np.int64)
    # A negative number's bits grow away from zero: all but the sign are turned round.
    return bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
