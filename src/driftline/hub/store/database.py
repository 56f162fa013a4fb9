"""The hub's database: a SQLite file, or PostgreSQL by URL; many readers, one writer at a time, one behaviour.

What the two do differently stands in `driftline.hub.store.sqlite`, `driftline.hub.store.postgres` (connections, errors)
and `driftline.hub.store.sql` (statements). Tables are declared beside what uses them, on the one `metadata` here, with
types both know: times are `BigInteger`, numbers that the database gives out are `Number`, JSON is `Json`.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import BigInteger, Connection, Engine, Integer, MetaData, Text
from sqlalchemy.types import TypeDecorator

from driftline.errors import DriftlineError

# Constraints have names, because a migration can only change what it can name.
metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_by_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_once",
        "fk": "%(table_name)s_%(column_0_N_name)s_of",
        "pk": "%(table_name)s_key",
    }
)

# A number that the database gives out: SQLite does so for its own INTEGER alone.
Number = BigInteger().with_variant(Integer, "sqlite")


class Witness(Protocol):
    """Writes down, in each transaction of a thread and as a part of it, what was done."""

    def write(self, connection: Connection) -> None:
        """Write it, before the commit."""
        ...

    def kept(self) -> None:
        """Hear that the transaction was committed."""
        ...


WITNESS: ContextVar[Witness | None] = ContextVar("witness", default=None)


class Json(TypeDecorator[Any]):
    """Any value JSON can hold, as text: PostgreSQL's own type takes no NaN, and a U+0000 only to refuse to read it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:  # noqa: ARG002  the signature is SQLAlchemy's
        """Encode."""
        return encoded_json(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:  # noqa: ARG002
        """Decode; NULL, which is no JSON, is None."""
        if value == "{}":
            return {}
        return None if value is None else json.loads(value)


def encoded_json(value: Any) -> str:
    """Return what `Json` keeps of a value."""
    # Much of what a device says of itself is nothing, most of the time.
    return "{}" if value == {} else json.dumps(value, separators=(",", ":"))


class Store(Protocol):
    """What there is to know of one kind of database; `place` names it in messages, without its password.

    `engine` gives connections that see one moment of the database; `path` is the file, where it is one.
    """

    place: str
    path: Path | None
    engine: Engine

    def writer(self) -> Connection:
        """Return a connection on which `begin()` begins to write."""
        ...

    def explained(self, error: Exception) -> DriftlineError | None:
        """Return what the machine's owner can do about an error; None where it is our own bug."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class Database:
    """One database; `reading()` and `writing()` give a connection inside a transaction.

    Where only the owner can help (the disk is full, the server is away, another program holds the file) they raise
    TemporaryError or PermanentError with the way out, and nothing was written.

    Raises:
        MissingExtraError: a URL, and the extra [postgres] is not installed.
        InvalidInputError: a URL that names no PostgreSQL database.
    """

    def __init__(self, place: Path | str) -> None:
        self.store = _store(place)
        self.engine = self.store.engine
        self._writes = threading.Lock()
        self._writer: int | None = None

    @property
    def path(self) -> Path | None:
        """The file, where it is one."""
        return self.store.path

    @property
    def place(self) -> str:
        """Name it in messages."""
        return self.store.place

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Give a connection that sees one moment of the database, beside any writer."""
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Give the only writing connection; commits at the end, rolls back on an error. Not to be nested.

        Who is a `WITNESS` in this thread writes down before the commit what was done, or nothing is done.

        One at a time, whoever writes: numbers that a table gives out are then seen in the order they were given, on
        which those rely who ask for what came after one.
        """
        if self._writer == threading.get_ident():
            raise RuntimeError("writing() inside writing() would wait for itself")
        with self._explained(), self._writes, self.store.writer() as connection:
            self._writer = threading.get_ident()
            try:
                witness = WITNESS.get()
                with connection.begin():
                    yield connection
                    if witness is not None:
                        witness.write(connection)
                if witness is not None:
                    witness.kept()
            finally:
                self._writer = None

    def close(self) -> None:
        """Close every connection."""
        self.store.close()

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn what only the machine's owner can mend into an error that says so."""
        try:
            yield
        except DriftlineError:
            raise
        except Exception as error:
            said = self.store.explained(error)
            if said is None:
                raise
            raise said from error


def _store(place: Path | str) -> Store:
    if isinstance(place, Path):
        from driftline.hub.store.sqlite import Sqlite

        return Sqlite(place)
    from driftline.hub.store.postgres import Postgres

    return Postgres(place)
