"""Vectors that assays watch as a whole: what is made of each, and how the hub and every device make it.

`output embedding` stands for `output embedding projection 0` and so on, and `output embedding norm`: ordinary fields
from here on, all under the assay's one alarm. The first assay on a vector brings values, because what is usual must be
known to standardise; the projection made of them stays, so that later assays, and baselines in time, mean the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from driftline.errors import ConflictError, DriftlineError, InvalidInputError
from driftline.hub.core import Hub
from driftline.hub.store import sql
from driftline.hub.store.registry import extra_fields, projections
from driftline.pipeline.iopath import ResolvedField, resolver, spelled
from driftline.pipeline.projection import Projection
from driftline.wire import api
from driftline.wire.device import VectorProjection

# Each element puts two numbers into the desired state of every device; what is longer is no embedding.
SIZE_MAX = 4096
# By the vector's key and how many elements it has.
Kept = Mapping[tuple[str, int], VectorProjection]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Expanded:
    """A spec that names no whole vector any more; `made` are projections that are not kept yet, by vector."""

    spec: api.AssaySpec
    made: Mapping[str, Projection]


def expanded(hub: Hub, pipeline: str, definition: Mapping[str, Any], spec: api.AssaySpec) -> Expanded:
    """Replace whole vectors, watched ones and those of the baseline, by what is made of them.

    Raises:
        InvalidInputError: vectors that cannot be read or that nobody watches, another size than the field has, or the
            first assay on a vector without a baseline of values.
    """
    with hub.database.reading() as connection:
        kept = _kept(connection, pipeline)
    vectors = _Vectors(definition, kept, spec.baseline.vectors or {})
    watched = [part for one in spec.watched for part in vectors.watched(one)]
    baseline = vectors.baseline(spec.baseline, [one.field for one in watched])
    return Expanded(msgspec.structs.replace(spec, watched=watched, baseline=baseline), vectors.made)


class _Vectors:
    """The vectors of one pipeline version: those with a projection, and those that a baseline brings."""

    def __init__(self, definition: Mapping[str, Any], kept: Kept, given: Mapping[str, api.Vectors]) -> None:
        self._find = resolver(definition, vectors=True)
        self._declared = bool(definition["steps"])
        self._kept = kept
        self._given: dict[str, Floats] = {}
        self.made: dict[str, Projection] = {}
        for text, one in given.items():
            field = self._find(text)
            self._given[field.key] = _read(field, one, self._size(field))

    def watched(self, one: api.Watched) -> list[api.Watched]:
        """Return what is made of a watched vector; anything else as it is."""
        field = self._find(one.iopath or one.field)
        if field.part:
            self._check_part(field)
        size = self._size(field) or (len(self._given[field.key].T) if field.key in self._given else 1)
        if size == 1:
            return [one]
        return [self._watched_part(field, part) for part in self._projection(field, size).parts]

    def baseline(self, baseline: api.Baseline, watched: Sequence[str]) -> api.Baseline:
        """Return a baseline with values of what is watched in the place of vectors."""
        if not self._given:
            return msgspec.structs.replace(baseline, vectors=None)
        values = dict(baseline.values or {})
        for key, vectors in self._given.items():
            projection = self.made.get(key) or self._known(key, vectors.shape[1])
            numbers = {} if projection is None else _by_part(key, projection, vectors)
            wanted = {name: column for name, column in numbers.items() if name in watched}
            if not wanted:
                raise InvalidInputError(
                    f"the baseline has vectors of {key}, which the assay does not watch; it watches "
                    f"{', '.join(watched)}"
                )
            values |= wanted
        return msgspec.structs.replace(baseline, values=values, vectors=None)

    def _size(self, field: ResolvedField) -> int | None:
        """Return how many numbers a field has; None where neither the pipeline nor a projection says so."""
        if field.size is not None:
            return field.size
        return next((size for key, size in self._kept if key == field.key), None)

    def _known(self, key: str, size: int) -> Projection | None:
        told = self._kept.get((key, size))
        return None if told is None else Projection.of(told)

    def _projection(self, field: ResolvedField, size: int) -> Projection:
        if size > SIZE_MAX:
            raise InvalidInputError(f"{field.key} has {size} numbers; up to {SIZE_MAX} are watched as a whole")
        known = self._known(field.key, size)
        if known is not None:
            return known
        if field.key not in self._given:
            raise InvalidInputError(
                f"{field.key} is a vector of {size} numbers that no assay watched so far, so it is not known what is "
                f"usual for it; give values the first time (baseline_data, an array of shape [n, {size}]), after that "
                f"a range of time will do; or watch one number of it, such as '{spelled(field, '0')}'"
            )
        try:
            self.made[field.key] = Projection.of_vectors(self._given[field.key])
        except InvalidInputError as error:
            raise InvalidInputError(f"the baseline's vectors of {field.key}: {error}") from error
        return self.made[field.key]

    def _watched_part(self, field: ResolvedField, part: str) -> api.Watched:
        key = f"{field.key}.{part}"
        if self._declared and not self._find(key).part:
            raise InvalidInputError(
                f"the pipeline has a field {key} of its own, so {field.key} cannot be watched whole"
            )
        # Where nothing is declared, words would be the name of another field.
        return api.Watched(field=key, iopath=spelled(field, part) if self._declared else key)

    def _check_part(self, field: ResolvedField) -> None:
        vector = self._find(field.key.removesuffix("." + field.part))
        if (vector.key, vector.size) not in self._kept:
            raise InvalidInputError(
                f"{field.key} is not made so far, because no assay watched {vector.key} as a whole; watch "
                f"{spelled(vector)!r} first, with values as its baseline"
            )


def _read(field: ResolvedField, given: api.Vectors, size: int | None) -> Floats:
    if size == 1:
        raise InvalidInputError(f"{field.key} is one number an inference; give its values, not vectors")
    if given.size < 2 or len(given.data) % (4 * given.size):
        raise InvalidInputError(
            f"the baseline's vectors of {field.key}: {len(given.data)} bytes are no whole vectors of {given.size} "
            "float32, 2 or more"
        )
    if size is not None and given.size != size:
        raise InvalidInputError(
            f"the baseline's vectors of {field.key} have {given.size} numbers each; {field.key} has {size}"
        )
    return np.frombuffer(given.data, "<f4").reshape(-1, given.size).astype(np.float64)


def _by_part(key: str, projection: Projection, vectors: Floats) -> dict[str, list[float | str | None]]:
    columns = projection.of_many(vectors).T.tolist()
    return {
        f"{key}.{part}": [None if one != one else one for one in column]  # noqa: PLR0124  NaN differs from itself
        for part, column in zip(projection.parts, columns, strict=True)
    }


# ── keeping ──────────────────────────────────────────────────────────────────────────────────────────────────────


def keep(hub: Hub, pipeline: str, made: Mapping[str, Projection]) -> None:
    """Make what is made of these vectors on every device that runs the pipeline, from now on and for ever.

    Raises:
        ConflictError: another assay on the same vector was saved meanwhile.
    """
    if not made:
        return
    with hub.database.writing() as connection:
        for key, projection in made.items():
            facts = {"pipeline": pipeline, "field": key, "size": projection.size}
            statement = sql.upsert(connection, projections).values(**facts, projection=asdict(projection.told))
            if connection.execute(statement.on_conflict_do_nothing()).rowcount == 0:
                raise ConflictError(f"another assay on {key} was saved meanwhile; save this one again")
            parts = [{"pipeline": pipeline, "field": f"{key}.{part}"} for part in projection.parts]
            connection.execute(sql.upsert(connection, extra_fields).on_conflict_do_nothing(), parts)
    hub.changed()


def of_version(connection: Connection, pipeline: str, definition: Mapping[str, Any]) -> dict[str, VectorProjection]:
    """Return the projections of the vectors that this version of a pipeline has."""
    find = resolver(definition, vectors=True)
    return {key: told for (key, size), told in _kept(connection, pipeline).items() if _has(find, key, size)}


def _has(find: Callable[[str], ResolvedField], key: str, size: int) -> bool:
    try:
        return find(key).size in {size, None}
    except DriftlineError:
        return False


def _kept(connection: Connection, pipeline: str) -> dict[tuple[str, int], VectorProjection]:
    query = select(projections).where(projections.c.pipeline == pipeline).order_by(projections.c.field)
    return {(row.field, row.size): VectorProjection(**row.projection) for row in connection.execute(query)}
