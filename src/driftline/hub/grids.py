"""Where devices count: the grids of every field, and what is recorded besides the default.

A field begins on the universal grid. It gets a *learned* one when its first thousand values are here, and a *baseline*
one when a standing assay is saved; the newest stands in the desired state of every device that runs the pipeline. A
grid is never changed or removed, because summaries that were counted on it refer to it for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from driftline.errors import DriftlineError, EntityNotFoundError, InvalidInputError
from driftline.hub.core import Hub
from driftline.hub.store import sql
from driftline.hub.store.columns import Columns
from driftline.hub.store.registry import extra_fields, field_grids, grids, versions
from driftline.pipeline.definition import recorded_fields
from driftline.pipeline.iopath import resolve
from driftline.summary.grid import UNIVERSAL, Grid, quantile_grid

# A quantile of a thousand values is off by at most 1.6 % of them, less than the width of one of 60 cells.
LEARNED_FROM = 1000
# A field that is mostly missing is learned from what this many inferences gave.
INFERENCES_LOOKED_AT = 4000


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def edges(hub: Hub, grid_id: str) -> Grid:
    """Return the grid of this id.

    Raises:
        EntityNotFoundError: this hub never made it.
    """
    with hub.database.reading() as connection:
        return need_grid(connection, grid_id)


def need_grid(connection: Connection, grid_id: str) -> Grid:
    """Return the grid of this id; see `edges`."""
    if grid_id == UNIVERSAL.id:
        return UNIVERSAL
    found = connection.execute(select(grids.c.edges).where(grids.c.id == grid_id)).scalar()
    if found is None:
        raise EntityNotFoundError(f"this hub never made a grid {grid_id!r}")
    return _grid(tuple(found))


@lru_cache(maxsize=4096)
def _grid(edges: tuple[float, ...]) -> Grid:
    # Its id is a hash of its edges, which would be computed anew for every summary that is read.
    return Grid(edges)


def of_pipeline(connection: Connection, pipeline: str) -> dict[str, str]:
    """Return the grid id of each field that was given one."""
    found = connection.execute(
        select(field_grids.c.field, field_grids.c.grid).where(field_grids.c.pipeline == pipeline)
    )
    return {row.field: row.grid for row in found}


def extra_of(connection: Connection, pipeline: str) -> list[str]:
    """Return the fields that assays named besides those recorded by default, sorted."""
    query = select(extra_fields.c.field).where(extra_fields.c.pipeline == pipeline).order_by(extra_fields.c.field)
    return list(connection.execute(query).scalars())


def edges_of(connection: Connection, grid_ids: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return the edges of grids by their ids."""
    return {grid_id: need_grid(connection, grid_id).edges for grid_id in sorted(set(grid_ids))}


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def set_baseline_grid(hub: Hub, pipeline: str, field: str, grid: Grid) -> None:
    """Count a field on this grid from now on, on every device that runs the pipeline."""
    with hub.database.writing() as connection:
        _set(connection, pipeline, field, grid, "baseline")
    hub.changed()


def keep(connection: Connection, made: Iterable[Grid]) -> None:
    """Know these grids, so that what was counted on them can be read; no field is counted on them from now on."""
    for grid in made:
        _keep(connection, grid)


def add_extra_field(hub: Hub, pipeline: str, key: str) -> bool:
    """Record a field from now on; return whether it was not recorded before."""
    with hub.database.reading() as connection:
        if key in extra_of(connection, pipeline):
            return False
    with hub.database.writing() as connection:
        statement = sql.upsert(connection, extra_fields).values(pipeline=pipeline, field=key).on_conflict_do_nothing()
        added = connection.execute(statement).rowcount == 1
    if added:
        hub.changed()
    return added


def learn(hub: Hub, pipeline: str) -> list[str]:
    """Give every field its learned grid whose first thousand values are here; return those fields.

    Run it as often as you like: a field that has a grid of its own keeps it.
    """
    declared = _unlearned(hub, pipeline)
    if declared is not None and not declared:
        return []
    inferences = hub.telemetry.rows_count(pipeline)
    if inferences < LEARNED_FROM:
        return []
    records = hub.telemetry.first_rows(pipeline, INFERENCES_LOOKED_AT)
    fields = _undeclared(hub, pipeline, records) if declared is None else declared
    learned: dict[str, Grid] = {}
    for field, field_type in fields.items():
        values = _first_values(records, field)
        if len(values) >= LEARNED_FROM or inferences >= INFERENCES_LOOKED_AT:
            learned[field] = _learned(values, field_type)
    if learned:
        with hub.database.writing() as connection:
            settled = of_pipeline(connection, pipeline)
            for field, grid in learned.items():
                if field not in settled:
                    _set(connection, pipeline, field, grid, "learned")
        hub.changed()
    return sorted(learned)


def _learned(values: Sequence[float], field_type: str) -> Grid:
    try:
        return quantile_grid(values, float32=field_type == "float32")
    except InvalidInputError:
        # Nothing but missing and infinite values in thousands of inferences: the universal grid is as good as any.
        return UNIVERSAL


def _first_values(records: Sequence[Columns], field: str) -> list[float]:
    parts = [numbers[~np.isnan(numbers)] for one in records if (numbers := one.numbers(field)) is not None]
    return np.concatenate(parts)[:LEARNED_FROM].tolist() if parts else []


def _unlearned(hub: Hub, pipeline: str) -> dict[str, str] | None:
    """Return the type of each number that is recorded and has no grid yet; None where the pipeline declares nothing."""
    newest = select(versions.c.definition).where(versions.c.pipeline == pipeline).order_by(versions.c.number.desc())
    with hub.database.reading() as connection:
        definition = connection.execute(newest.limit(1)).scalar_one()
        settled = of_pipeline(connection, pipeline)
        extra = recordable(definition, extra_of(connection, pipeline))
    if not definition["steps"]:
        return None
    recorded = recorded_fields(definition, extra)
    return {one.key: one.type for one in recorded if one.kind == "number" and one.key not in settled}


def _undeclared(hub: Hub, pipeline: str, records: Sequence[Columns]) -> dict[str, str]:
    """Return the numbers that came of a pipeline whose model runs in its owner's own program."""
    with hub.database.reading() as connection:
        settled = of_pipeline(connection, pipeline)
    came = {key for one in records for key, kind in one.kinds.items() if kind != "s"}
    return dict.fromkeys(sorted(came - settled.keys()), "float64")


def recordable(definition: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return those of the keys that this version of the pipeline has; a new version may have lost some."""
    kept: list[str] = []
    for key in keys:
        try:
            kept.append(resolve(key, definition).key)
        except DriftlineError:
            continue
    return kept


def _set(connection: Connection, pipeline: str, field: str, grid: Grid, origin: str) -> None:
    _keep(connection, grid)
    facts = {"grid": grid.id, "origin": origin}
    statement = sql.upsert(connection, field_grids).values(pipeline=pipeline, field=field, **facts)
    connection.execute(statement.on_conflict_do_update(index_elements=["pipeline", "field"], set_=facts))


def _keep(connection: Connection, grid: Grid) -> None:
    connection.execute(
        sql.upsert(connection, grids).values(id=grid.id, edges=list(grid.edges)).on_conflict_do_nothing()
    )
