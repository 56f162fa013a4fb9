"""The database's schema: what is declared is what the revisions make, old databases are brought up, newer ones left."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import driftline.hub.server  # noqa: F401  it declares every table
from driftline.errors import ConflictError
from driftline.hub.store import schema, sql
from driftline.hub.store.database import Database, metadata

STORES = ("sqlite", "postgres")

ADDS = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "of the future", "0001", None, None
def upgrade():
    op.add_column("workspaces", sa.Column("colour", sa.String()))
"""


@pytest.fixture
def place(tmp_path: Path, new_file: Path, database_url: str | None) -> Path | str:
    """A database as a hub of the first revision left it."""
    if database_url is not None:
        return database_url
    return Path(shutil.copyfile(new_file, tmp_path / "hub.db"))


@pytest.fixture
def database(place: Path | str) -> Iterator[Database]:
    made = Database(place)
    yield made
    made.close()


@pytest.fixture
def future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The revisions with one more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "of_the_future.py").write_text(ADDS)
    monkeypatch.setattr(schema, "FOLDER", folder)
    return folder


def columns(database: Database) -> set[str]:
    with database.reading() as connection:
        return {one["name"] for one in inspect(connection).get_columns("workspaces")}


def write(database: Database) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO workspaces (id, name, created_ns) VALUES ('w', 'shop', 5)")


def test_the_declared_tables_are_those_that_the_revisions_make(database: Database):
    with database.reading() as connection, warnings.catch_warnings():
        # SQLite does not tell of an index over an expression; PostgreSQL does.
        warnings.simplefilter("ignore")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_texts_sort_by_their_characters_on_any_server(database: Database):
    with database.writing() as connection:
        for name in ("zebra", "Zoo", "ärger", "apple"):
            sql.run(connection, "INSERT INTO workspaces (id, name, created_ns) VALUES (?, ?, 5)", (name, name))
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT name FROM workspaces ORDER BY name").scalars().all()
        assert found == sorted(found) == ["Zoo", "apple", "zebra", "ärger"]
        if connection.dialect.name == "postgresql":
            others = connection.exec_driver_sql(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND "
                "data_type IN ('character varying', 'text') AND collation_name IS DISTINCT FROM 'C' "
                "AND table_name <> 'alembic_version'"
            ).all()
            assert others == []


def test_an_older_database_is_brought_up_with_what_is_in_it_after_a_copy_was_made(
    database: Database, future: Path, tmp_path: Path
):
    write(database)
    said: list[str] = []
    schema.prepare(database, said.append)
    assert "colour" in columns(database)
    assert schema.revision_of(database) == "of the future"
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT name FROM workspaces").scalars().all() == ["shop"]
    (told,) = said
    assert "from 0001 to of the future" in told
    if database.path is not None:
        copy = Database(tmp_path / "hub.db.schema-0001")
        assert str(copy.path) in told
        assert (schema.revision_of(copy), "colour" in columns(copy)) == ("0001", False)
        copy.close()
    # And once is enough.
    schema.prepare(database, said.append)
    assert len(said) == 1


def test_a_revision_that_fails_leaves_the_database_as_it_was(database: Database, future: Path):
    broken = ADDS + '    raise ValueError("half-way")\n'
    (future / "versions" / "of_the_future.py").write_text(broken)
    write(database)
    with pytest.raises(ValueError, match="half-way"):
        schema.prepare(database)
    assert (schema.revision_of(database), "colour" in columns(database)) == ("0001", False)


def test_a_database_of_a_newer_driftline_is_left_as_it_is(database: Database):
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'of the future'")
    with pytest.raises(ConflictError, match="newer driftline \\(schema of the future, this one reads 0001\\); update"):
        schema.prepare(database)
    assert schema.revision_of(database) == "of the future"


def test_a_database_of_another_program_is_left_as_it_is(database: Database):
    with database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    with pytest.raises(ConflictError, match="before the first release, or by another program"):
        schema.prepare(database)
    assert schema.revision_of(database) is None


def test_a_new_database_is_made_without_a_word(tmp_path: Path):
    said: list[Any] = []
    made = Database(tmp_path / "new.db")
    schema.prepare(made, said.append)
    assert (schema.revision_of(made), said) == ("0001", [])
    made.close()
