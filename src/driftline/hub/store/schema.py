"""Which tables a database has: Alembic's revisions, brought up to date when the hub starts.

A database says its revision in `alembic_version`. A new one is made by all revisions from the first on; an older one is
brought up by those it lacks, in one transaction, after a copy was made of a SQLite file; one of a revision this program
does not know is of a newer driftline, and left as it is.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from driftline.errors import ConflictError
from driftline.hub.store.database import Database

FOLDER = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"


def prepare(database: Database, say: Callable[[str], None] = lambda _: None) -> None:
    """Bring a database up to the revision of this program, saying so where there was one before.

    Raises:
        ConflictError: it was written by a newer driftline, or by one from before the first release.
    """
    with database.reading() as connection:
        found, tables = _revision(connection), set(inspect(connection).get_table_names())
    scripts = ScriptDirectory(str(FOLDER))
    head = scripts.get_current_head()
    if found == head:
        return
    if found is None and tables:
        raise ConflictError(
            f"{database.place} was written by a driftline from before the first release, or by another program; use "
            "another --home, or another database"
        )
    known = [one.revision for one in scripts.walk_revisions()]
    if found is not None and found not in known:
        raise ConflictError(
            f"{database.place} was written by a newer driftline (schema {found}, this one reads {head}); update "
            "driftline, or use another --home"
        )
    if found is not None:
        kept = _copied(database, found)
        say(f"the database's schema is brought from {found} to {head}{kept}; do not stop the hub meanwhile")
    with database.writing() as connection:
        # Another hub may have been quicker.
        if _revision(connection) != head:
            command.upgrade(configured(connection), "head")


def configured(connection: Connection) -> Config:
    """Return what Alembic's commands want to know; they work on this connection, inside its transaction."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revision_of(database: Database) -> str | None:
    """Return the revision of a database; None of an empty one."""
    with database.reading() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION_TABLE}").scalar()  # noqa: S608  constant text
    return None if found is None else str(found)


def _copied(database: Database, found: str) -> str:
    """Copy a SQLite file to beside it, and say where; of a server its owner makes backups."""
    if database.path is None:
        return ""
    target = database.path.with_name(f"{database.path.name}.schema-{found}")
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    copy_file(database.path, beside)
    beside.replace(target)
    return f" (a copy of it as it was is {target})"


def copy_file(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use, as it is at one moment."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        # In one go: with WAL no writer waits for a reader, and a copy in pieces begins anew after every write.
        one.backup(other, pages=-1)
