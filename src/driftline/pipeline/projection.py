"""A whole vector as a few numbers: seeded random projections of the standardised vector, and its norm.

Drift that changes how the elements of an embedding go together may leave every element's own distribution as it was;
along a random direction it changes the spread. Each element is standardised by a baseline's mean and standard deviation
(`centre` and `scale`), then summed with random signs, / √d. The norm is the root mean square, so that it is near 1.

Signs are bits of SHA-256 over seed and index: the same on every machine, whatever numpy's generators do. For d numbers
there are `min(16, 2^(d-1))` directions, and none comes twice.

Source: Johnson & Lindenstrauss (1984), that a few random directions keep distances; signs in place of normal numbers:
Achlioptas, Database-friendly random projections (JCSS 66, 2003).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from driftline.errors import InvalidInputError
from driftline.pipeline.iopath import projected_parts
from driftline.wire.device import VectorProjection

Floats = NDArray[np.float64]
# Ten steps of float32: what varies by less is rounding, and dividing by it would make a signal of it.
RESOLVED = 1e-6


@dataclass(frozen=True, eq=False)
class Projection:
    """How one vector becomes numbers; `centre` and `scale` are float64 of shape (d,).

    >>> made = Projection.of_vectors(np.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> {part: round(number, 2) for part, number in made.numbers([2.0, 3.0]).items()}
    {'projection.0': 1.41, 'projection.1': 0.0, 'norm': 1.0}
    """

    seed: int
    centre: Floats
    scale: Floats

    @classmethod
    def of_vectors(cls, vectors: Floats, seed: int = 0) -> "Projection":
        """Standardise by these vectors, shape (n, d); those with a value missing or infinite are left out.

        An element that is constant has scale 1.

        Raises:
            InvalidInputError: fewer than two whole vectors.
        """
        whole = vectors[np.isfinite(vectors).all(axis=1)]
        if len(whole) < 2:
            raise InvalidInputError(
                f"{len(whole)} of {len(vectors)} vectors have all their values; give at least 2, better hundreds"
            )
        centre, scale = whole.mean(axis=0), whole.std(axis=0)
        constant = scale <= RESOLVED * np.abs(whole).max(axis=0)
        return cls(seed, centre, np.where(constant, 1.0, scale))

    @classmethod
    def of(cls, told: VectorProjection) -> "Projection":
        """Read one as it travels."""
        return cls(told.seed, np.array(told.centre, np.float64), np.array(told.scale, np.float64))

    @property
    def told(self) -> VectorProjection:
        """The projection as it travels."""
        return VectorProjection(self.seed, tuple(self.centre.tolist()), tuple(self.scale.tolist()))

    @property
    def size(self) -> int:
        """How many elements a vector has, d."""
        return len(self.centre)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """What the numbers are called, behind the vector's key."""
        return projected_parts(self.size)

    def of_many(self, vectors: Floats) -> Floats:
        """Return the numbers of vectors, shape (n, d) to (n, parts); NaN throughout where a value is missing.

        A vector of shape (d,) gives shape (parts,).
        """
        found = np.empty((*vectors.shape[:-1], len(self.parts)))
        with np.errstate(invalid="ignore", over="ignore"):
            standard = (vectors - self.centre) * self._inverse
            found[..., :-1] = standard @ self._directions
            found[..., -1] = np.sqrt(np.einsum("...i,...i->...", standard, standard) / self.size)
        # One value that is no number makes the norm none.
        found[~np.isfinite(found[..., -1])] = np.nan
        return found

    def numbers(self, value: object) -> dict[str, float | None]:
        """Return the numbers of one inference by their part; None throughout where this is no vector of d numbers."""
        vector = _vector(value)
        if vector is None or vector.shape != self.centre.shape:
            return dict.fromkeys(self.parts)
        found: list[float] = self.of_many(vector).tolist()
        # The norm is a number exactly where all of them are.
        return dict.fromkeys(self.parts) if found[-1] != found[-1] else dict(zip(self.parts, found, strict=True))

    @cached_property
    def _inverse(self) -> Floats:
        return 1.0 / self.scale

    @cached_property
    def _directions(self) -> Floats:
        return directions(self.seed, self.size).T / np.sqrt(self.size)


@lru_cache(maxsize=64)
def directions(seed: int, size: int) -> Floats:
    """Return random signs, shape (directions, size).

    >>> directions(0, 2)
    array([[ 1.,  1.],
           [-1.,  1.]])
    """
    wanted = len(projected_parts(size)) - 1
    found: dict[bytes, Floats] = {}
    for signs in _signs(seed, size):
        # A direction and its opposite tell the same.
        found.setdefault((signs * signs[0]).tobytes(), signs)
        if len(found) == wanted:
            break
    return np.array(list(found.values()))


def _signs(seed: int, size: int) -> Iterator[Floats]:
    blocks, index = -(-size // 256), 0
    while True:
        text = (f"driftline projection {seed} {index} {block}".encode() for block in range(blocks))
        bits = np.unpackbits(np.frombuffer(b"".join(hashlib.sha256(one).digest() for one in text), np.uint8))
        yield bits[:size].astype(np.float64) * 2.0 - 1.0
        index += 1


def _vector(value: object) -> Floats | None:
    try:
        array = np.asarray(value)
        # numpy would read text that looks like a number.
        return None if array.dtype.kind in "SU" else array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError):
        return None
