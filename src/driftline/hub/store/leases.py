"""Leases: what one of several hubs on a database does alone, and until when it may.

Time is that of the machine the database is on, which hubs on several machines agree about.
"""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, String, Table, delete, select

from driftline.hub.store import sql
from driftline.hub.store.database import metadata

LEASES = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until_real_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Held:
    """Who holds a lease, and for how long from now: a lease that has run out is no one's."""

    holder: str
    left_ns: int


def held(connection: Connection, name: str) -> Held | None:
    """Return who holds a lease; None where nobody ever did."""
    row = connection.execute(select(LEASES).where(LEASES.c.name == name)).first()
    return None if row is None else Held(row.holder, row.until_real_ns - sql.real_ns(connection))


def put(connection: Connection, name: str, holder: str, length_ns: int) -> None:
    """Let somebody hold a lease from now on, for so long."""
    facts = {"holder": holder, "until_real_ns": sql.real_ns(connection) + length_ns}
    statement = sql.upsert(connection, LEASES).values(name=name, **facts)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=facts))


def release(connection: Connection, name: str, holder: str) -> None:
    """Let a lease be free that somebody holds."""
    connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.holder == holder))
