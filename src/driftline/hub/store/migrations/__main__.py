"""Write a revision: `make revision MESSAGE="what changes"`, or `make baseline` anew, while nothing was released.

It compares the declared tables with those that the revisions make, on SQLite. Read what it wrote before you commit it:
a changed index over an expression it does not see.
"""

import sys
from importlib import import_module
from pathlib import Path

from alembic.ddl.impl import DefaultImpl

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
