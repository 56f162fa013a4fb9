"""From when on each kind is kept, so that nobody takes for silence what was only removed.

See `driftline.hub.retention`.
"""

from sqlalchemy import BigInteger, Column, Connection, String, Table, select

from driftline.hub.store import sql
from driftline.hub.store.database import metadata

RETENTION = Table(
    "retention",
    metadata,
    Column("kind", String, primary_key=True),  # see `driftline.wire.api.Retention`
    Column("from_ns", BigInteger, nullable=False),
)


def kept_from(connection: Connection) -> dict[str, int]:
    """Return of each kind from when on it is kept; one of which nothing was removed yet is not there."""
    return {row.kind: row.from_ns for row in connection.execute(select(RETENTION))}


def put_kept_from(connection: Connection, kind: str, from_ns: int) -> None:
    """Remember from when on a kind is kept; it never goes back."""
    if kept_from(connection).get(kind, 0) < from_ns:
        statement = sql.upsert(connection, RETENTION).values(kind=kind, from_ns=from_ns)
        connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_={"from_ns": from_ns}))
