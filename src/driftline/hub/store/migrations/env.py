"""What Alembic runs for every command: the connection comes from the caller, inside a transaction of its own."""

from typing import Any, Literal

from alembic import context

from driftline.hub.store.database import Json, metadata


def _rendered(kind: str, one: Any, _context: Any) -> str | Literal[False]:
    # A revision stays as it is whatever becomes of our own types.
    return "sa.Text()" if kind == "type" and isinstance(one, Json) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_item=_rendered,
    # SQLite changes a column by making its table anew.
    render_as_batch=True,
    user_module_prefix="sa.",
)
context.run_migrations()
