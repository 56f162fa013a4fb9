"""The baselines of standing assays, version by version, and what a promise worked out of each: tables and their use.

A baseline is kept as what it was made of (values with their times, or each base window's counts), so that it can be
binned with other edges and cut into other windows later. Versions are only added. A window is compared with the newest
version that is valid where the window begins; a device that has nothing in that version keeps what it had before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    RowMapping,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)

from driftline.hub.store import sql
from driftline.hub.store.database import metadata
from driftline.wire import api

VERSIONS = Table(
    "assay_versions",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("from_ns", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("notes", Text, nullable=False),
)

# One row a device and field, or with device '' one that serves all devices.
BASELINES = Table(
    "assay_baselines",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("device", String, primary_key=True),
    Column("field", String, primary_key=True),
    Column("numbers", LargeBinary),  # little-endian float64, NaN where missing; NULL where it is counts
    Column("times_ns", LargeBinary),  # little-endian int64, one a number; NULL where nobody knows
    Column("counts", LargeBinary),  # msgpack: [[start_s, grid id, summary bytes], …]; NULL where it is values
)

# A calibration is decided once, so that a rerun decides the same. Values without times are cut by how many a device's
# windows hold, so that each device has one of its own.
CALIBRATIONS = Table(
    "assay_calibrations",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("device", String, primary_key=True),
    Column("field", String, primary_key=True),
    Column("n", Integer, nullable=False),
    # How many of a device's windows n is the median of; NULL where the baseline's own windows tell.
    Column("windows", Integer),
    Column("document", Text),  # NULL where it was refused
    Column("refused", Text),
)

EVERY_DEVICE = ""


class Place(NamedTuple):
    """Which baseline of an assay: `device` is `EVERY_DEVICE` where one serves all."""

    device: str
    field: str


@dataclass(frozen=True, eq=False)
class Material:
    """What a baseline is made of.

    Either `values` (NaN where missing) in the order they came, with their `times_ns` where they are known, or `counts`
    as (start_s, grid id, summary bytes) in time order, one or more a base window.
    """

    values: NDArray[np.float64] | None = None
    times_ns: NDArray[np.int64] | None = None
    counts: tuple[tuple[int, str, bytes], ...] = ()


@dataclass(frozen=True)
class Calibrating:
    """What calibrating a baseline came to: a calibration's document as JSON, or why there is none.

    `windows` is how many of a device's windows `n` is the median of, None where the baseline's own windows tell.
    """

    n: int
    windows: int | None = None
    document: str | None = None
    refused: str | None = None


def add_version(
    connection: Connection, assay: str, version: api.BaselineVersion, materials: Mapping[Place, Material]
) -> None:
    """Keep a new version with its baselines."""
    connection.execute(
        insert(VERSIONS).values(
            assay=assay,
            version=version.version,
            from_ns=version.from_ns,
            created_ns=version.created_ns,
            baseline=msgspec.json.encode(version.baseline).decode(),
            notes=msgspec.json.encode(version.notes).decode(),
        )
    )
    for place, material in materials.items():
        facts = {"assay": assay, "version": version.version, "device": place.device, "field": place.field}
        connection.execute(insert(BASELINES).values(**facts, **_packed(material)))


def versions(connection: Connection, assay: str) -> list[api.BaselineVersion]:
    """Return an assay's versions, the first one first."""
    rows = connection.execute(select(VERSIONS).where(VERSIONS.c.assay == assay).order_by(VERSIONS.c.version))
    own = places(connection, [assay])[assay]
    return [
        api.BaselineVersion(
            version=row["version"],
            from_ns=row["from_ns"],
            created_ns=row["created_ns"],
            baseline=msgspec.json.decode(row["baseline"], type=api.Baseline),
            notes=msgspec.json.decode(row["notes"], type=list[str]),
            devices=sorted({place.device for place in own.get(row["version"], ())} - {EVERY_DEVICE}),
        )
        for row in rows.mappings()
    ]


def valid_from(connection: Connection, assays: Collection[str]) -> dict[str, dict[int, int]]:
    """Return from when each version of some assays' baselines is valid."""
    found: dict[str, dict[int, int]] = {one: {} for one in assays}
    columns = (VERSIONS.c.assay, VERSIONS.c.version, VERSIONS.c.from_ns)
    for assay, version, from_ns in connection.execute(select(*columns).where(VERSIONS.c.assay.in_(assays))):
        found[assay][version] = from_ns
    return found


def places(connection: Connection, assays: Collection[str]) -> dict[str, dict[int, set[Place]]]:
    """Return what each version of some assays' baselines is a baseline for."""
    found: dict[str, dict[int, set[Place]]] = {one: {} for one in assays}
    columns = (BASELINES.c.assay, BASELINES.c.version, BASELINES.c.device, BASELINES.c.field)
    for assay, version, *place in connection.execute(select(*columns).where(BASELINES.c.assay.in_(assays))):
        found[assay].setdefault(version, set()).add(Place(*place))
    return found


def material(connection: Connection, assay: str, version: int, place: Place) -> Material | None:
    """Return what one baseline is made of."""
    query = select(BASELINES).where(
        BASELINES.c.assay == assay,
        BASELINES.c.version == version,
        BASELINES.c.device == place.device,
        BASELINES.c.field == place.field,
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _material(row)


def newest(connection: Connection, assay: str) -> dict[Place, tuple[int, Material]]:
    """Return every baseline in its newest version, by device and field; one that serves all replaces all before it."""
    return newest_of(connection, [assay])[assay]


def newest_of(
    connection: Connection, assays: Collection[str], field: str | None = None
) -> dict[str, dict[Place, tuple[int, Material]]]:
    """Return `newest` of some assays, of one field or of all; one query for all of them."""
    found: dict[str, dict[Place, tuple[int, Material]]] = {one: {} for one in assays}
    query = select(BASELINES).where(BASELINES.c.assay.in_(assays))
    if field is not None:
        query = query.where(BASELINES.c.field == field)
    rows = connection.execute(query.order_by(BASELINES.c.version, BASELINES.c.device, BASELINES.c.field))
    for row in rows.mappings():
        place, own = Place(row["device"], row["field"]), found[row["assay"]]
        if place.device == EVERY_DEVICE:
            own = found[row["assay"]] = {other: one for other, one in own.items() if other.field != place.field}
        own[place] = row["version"], _material(row)
    return {assay: dict(sorted(own.items())) for assay, own in found.items()}


def put_calibration(connection: Connection, assay: str, version: int, place: Place, found: Calibrating) -> None:
    """Keep what calibrating came to."""
    facts = {"n": found.n, "windows": found.windows, "document": found.document, "refused": found.refused}
    key = {"assay": assay, "version": version, "device": place.device, "field": place.field}
    statement = sql.upsert(connection, CALIBRATIONS).values(**key, **facts)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=facts))


def calibrations(connection: Connection, assay: str) -> dict[tuple[int, Place], Calibrating]:
    """Return what calibrating each baseline of an assay came to, by version and place."""
    return calibrations_of(connection, [assay])[assay]


def calibrations_of(connection: Connection, assays: Collection[str]) -> dict[str, dict[tuple[int, Place], Calibrating]]:
    """Return what calibrating each baseline of some assays came to, by version and place."""
    found: dict[str, dict[tuple[int, Place], Calibrating]] = {one: {} for one in assays}
    columns = [CALIBRATIONS.c[name] for name in ("assay", "version", "device", "field")]
    told = [CALIBRATIONS.c[name] for name in ("n", "windows", "document", "refused")]
    rows = connection.execute(select(*columns, *told).where(CALIBRATIONS.c.assay.in_(assays)))
    for row in rows:
        one = Calibrating(row.n, row.windows, row.document, row.refused)
        found[row.assay][row.version, Place(row.device, row.field)] = one
    return found


def forget_device(connection: Connection, device: str) -> None:
    """Drop every baseline of a device that was removed."""
    for table in (BASELINES, CALIBRATIONS):
        connection.execute(delete(table).where(table.c.device == device))


def remove(connection: Connection, assay: str) -> None:
    """Drop every baseline that an assay had."""
    for table in (CALIBRATIONS, BASELINES, VERSIONS):
        connection.execute(delete(table).where(table.c.assay == assay))


def _packed(material: Material) -> dict[str, Any]:
    if material.values is None:
        return {"counts": msgspec.msgpack.encode(material.counts)}
    times = material.times_ns
    return {
        "numbers": material.values.astype("<f8").tobytes(),
        "times_ns": None if times is None else times.astype("<i8").tobytes(),
    }


def _material(row: RowMapping) -> Material:
    if row["numbers"] is None:
        return Material(counts=msgspec.msgpack.decode(row["counts"], type=tuple[tuple[int, str, bytes], ...]))
    times = row["times_ns"]
    return Material(
        np.frombuffer(row["numbers"], "<f8").astype(np.float64),
        None if times is None else np.frombuffer(times, "<i8").astype(np.int64),
    )
