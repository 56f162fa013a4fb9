"""Write a revision: `make revision MESSAGE="what changes"`, or `make baseline` anew, while nothing was released.

It compares the declared tables with those that the revisions make, on SQLite. Read what it wrote before you commit it:
a changed index over an expression it does not see.
"""

import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from alembic import command
from alembic.ddl.impl import DefaultImpl
from alembic.script import ScriptDirectory

from driftline.hub.store import schema
from driftline.hub.store.database import Database

VERSIONS = Path(__file__).parent / "versions"


def _skip_none(*_lists: object) -> None:
    pass


def main() -> None:
    """Write the next revision, or with `baseline` the first one anew."""
    message = " ".join(sys.argv[1:])
    # Declares every table.
    import_module("driftline.hub.server")
    if message == "baseline":
        for file in VERSIONS.glob("[0-9]*.py"):
            file.unlink()
        # Alembic cannot compare an index over an expression on SQLite, and leaves it out; here is none to compare with.
        setattr(DefaultImpl, "_skip_functional_indexes", _skip_none)  # noqa: B010  it is Alembic's own
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "empty.db")
        with database.writing() as connection:
            config = schema.configured(connection)
            number = len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1
            command.upgrade(config, "head")
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")
        database.close()
    for check in (("format", "--quiet"), ("check", "--fix", "--quiet")):
        subprocess.run([sys.executable, "-m", "ruff", *check, str(VERSIONS)], check=True)


if __name__ == "__main__":
    main()
