"""How an assay's question was edited: what it was before, from which window on it is another, who did it and why.

An assay that was never edited has no rows; with its first edit comes a row for what it was until then. A question is
kept without its baseline, which has versions of its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Integer, String, Table, Text, delete, insert, select

from driftline.hub.store.database import metadata
from driftline.wire import api

EDITIONS = Table(
    "assay_editions",
    metadata,
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),  # of the assay, since which it asks this
    Column("start_ns", BigInteger),  # where its window plan starts; NULL where it never had one
    Column("at_ns", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("note", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON: api.AssaySpec
)


@dataclass(frozen=True)
class Edition:
    """What an assay asked from one of its versions on; its windows begin at `start_ns`."""

    version: int
    start_ns: int | None
    at_ns: int
    actor: str
    note: str
    spec: api.AssaySpec


def add(connection: Connection, assay: str, edition: Edition) -> None:
    """Keep what an assay asks from now on, or asked at first."""
    spec = msgspec.structs.replace(edition.spec, baseline=api.Baseline())
    connection.execute(
        insert(EDITIONS).values(
            assay=assay,
            version=edition.version,
            start_ns=edition.start_ns,
            at_ns=edition.at_ns,
            actor=edition.actor,
            note=edition.note,
            spec=msgspec.json.encode(spec).decode(),
        )
    )


def every(connection: Connection, assay: str | None = None) -> dict[str, Sequence[Edition]]:
    """Return the editions of every assay that was edited, or of one, the first one first."""
    query = select(EDITIONS).order_by(EDITIONS.c.assay, EDITIONS.c.version)
    found: defaultdict[str, list[Edition]] = defaultdict(list)
    for row in connection.execute(query if assay is None else query.where(EDITIONS.c.assay == assay)):
        spec = msgspec.json.decode(row.spec, type=api.AssaySpec)
        found[row.assay].append(Edition(row.version, row.start_ns, row.at_ns, row.actor, row.note, spec))
    return dict(found)


def remove(connection: Connection, assay: str) -> None:
    """Forget how an assay was edited."""
    connection.execute(delete(EDITIONS).where(EDITIONS.c.assay == assay))
