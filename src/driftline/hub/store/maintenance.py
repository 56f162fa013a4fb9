"""When people work on devices, so that what is seen meanwhile wakes nobody."""

from sqlalchemy import BigInteger, Column, Connection, ForeignKey, String, Table, Text, delete, insert, select, update

from driftline.errors import EntityNotFoundError
from driftline.hub.store.database import metadata
from driftline.wire import api

MAINTENANCE = Table(
    "maintenance",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("site", String),
    Column("device", String),
    Column("assay", ForeignKey("assays.id", ondelete="CASCADE")),
    Column("from_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)


def add(connection: Connection, one: api.Maintenance) -> None:
    """Keep one that was planned."""
    connection.execute(insert(MAINTENANCE).values({name: getattr(one, name) for name in one.__struct_fields__}))


def every(connection: Connection, *, workspace: str | None = None) -> list[api.Maintenance]:
    """Return all there was and will be, or those of a workspace, the latest first."""
    query = select(MAINTENANCE).order_by(MAINTENANCE.c.from_ns.desc(), MAINTENANCE.c.id)
    if workspace is not None:
        query = query.where(MAINTENANCE.c.workspace == workspace)
    names = api.Maintenance.__struct_fields__
    return [api.Maintenance(**{name: row[name] for name in names}) for row in connection.execute(query).mappings()]


def end(connection: Connection, workspace: str, identity: str, now_ns: int) -> None:
    """Let one be over now; of one that has not begun nothing stays.

    Raises:
        EntityNotFoundError: the workspace has none of this id.
    """
    own = (MAINTENANCE.c.id == identity, MAINTENANCE.c.workspace == workspace)
    if connection.execute(select(MAINTENANCE.c.id).where(*own)).first() is None:
        raise EntityNotFoundError(f"there is no maintenance with id {identity!r}; client.list_maintenance() shows them")
    connection.execute(delete(MAINTENANCE).where(*own, MAINTENANCE.c.from_ns >= now_ns))
    connection.execute(update(MAINTENANCE).where(*own, MAINTENANCE.c.until_ns > now_ns).values(until_ns=now_ns))
