"""PostgreSQL, by URL: `postgresql://user:password@host:5432/database`.

The driver is pg8000: permissively licensed, in COPY as fast as any, and otherwise with fewer waits than it comes with
(`pipelined.py`; figures in docs/operate.md). Readers see one moment of the database (REPEATABLE READ), as with SQLite.
The one writing connection holds a lock of the database as long as it lives, so that one hub writes at a time, whichever
machine it runs on.
"""

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, String, Table, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from driftline.errors import (
    ConflictError,
    DriftlineError,
    InvalidInputError,
    MissingExtraError,
    PermanentError,
    TemporaryError,
)

VARIABLE = "DRIFTLINE_DATABASE_URL"
FORM = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
CONNECT_S = 10.0
# A hub that was killed lets go of the lock as soon as its connection is seen to be gone.
CLAIM_WAIT = "5s"
# Any number will do that no other program takes; it spells "driftln".
CLAIM = int.from_bytes(b"driftln")
_PORT = 5432
_MODES = ("disable", "prefer", "require", "verify-full")

# By PostgreSQL's code for the error, or the first two characters of it.
_REASONS: dict[str, tuple[type[DriftlineError], str]] = {
    "28": (PermanentError, f"refuses this user or password; correct {VARIABLE}"),
    "3D": (PermanentError, f"does not exist; make it with createdb, or correct {VARIABLE}"),
    "42501": (PermanentError, "does not let this user do that; GRANT ALL ON DATABASE and ON SCHEMA public to it"),
    "53100": (TemporaryError, "cannot grow: its disk is full. Make room there, and the hub goes on by itself"),
    "53300": (TemporaryError, "has too many connections; a hub wants up to 81, raise max_connections"),
    "53": (TemporaryError, "lacks memory or another resource; see its log"),
    "55P03": (
        ConflictError,
        "is written by another hub already; stop that one, or name another database with " + VARIABLE,
    ),
    "57": (TemporaryError, "is being stopped or started; the hub goes on by itself"),
    "25006": (TemporaryError, "is read-only, as a standby is; name the primary with " + VARIABLE),
    "58": (TemporaryError, "cannot read or write its disk; see its log"),
    "XX001": (PermanentError, "is damaged; restore it from a backup"),
    "22021": (InvalidInputError, "keeps no text with the character U+0000; leave it out"),
    "08": (TemporaryError, "cannot be reached; the hub goes on by itself when it answers again"),
}


class Postgres:
    """One database of a server."""

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.path: Path | None = None
        self.place = f"database {self._url.database!r} at {_host(self._url)}"
        self._driver = _driver()
        # See `Sqlite` for the numbers.
        self.engine = self._engine("repeatable read", pool_size=40, max_overflow=40)
        self._writers = self._engine("read committed", pool_size=1, max_overflow=0)

    def writer(self) -> Connection:
        """Return the one connection that may write.

        Raises:
            ConflictError: another hub writes to this database.
        """
        connection = self._writers.connect()
        try:
            if not connection.info.get("driftline_claimed"):
                connection.exec_driver_sql(f"SET lock_timeout = '{CLAIM_WAIT}'")
                connection.exec_driver_sql(f"SELECT pg_advisory_lock({CLAIM})")
                connection.exec_driver_sql("SET lock_timeout = 0")
                connection.commit()
                connection.info["driftline_claimed"] = True
        except BaseException:
            connection.close()
            raise
        return connection

    def explained(self, error: Exception) -> DriftlineError | None:
        """Say what is wrong with the server, the way to it, or the URL; never with its password."""
        own: Any = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(own, self._driver.Error):
            return None
        # What the server says is a mapping with its code, whatever the driver makes of that; else it said nothing.
        # Where it hung up as well, the driver tells of that, and what was said before is the context, or its context.
        told: BaseException | None = own
        while told is not None:
            facts: Any = next(iter(told.args), None)
            if isinstance(told, self._driver.Error) and isinstance(facts, dict):
                return self._said(str(cast("dict[str, Any]", facts).get("C", "")))
            told = told.__context__
        return self._said("08") if isinstance(own, self._driver.InterfaceError) else None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._writers.dispose()

    def _said(self, code: str) -> DriftlineError | None:
        kind, reason = _REASONS.get(code) or _REASONS.get(code[:2]) or (None, "")
        return None if kind is None else kind(f"{self.place} {reason}")

    def _engine(self, isolation: str, *, pool_size: int, max_overflow: int) -> Engine:
        def connected() -> Any:
            return _connected(self._driver, self._url, isolation)

        return create_engine(
            "postgresql+pg8000://",
            creator=connected,
            pool_size=pool_size,
            max_overflow=max_overflow,
            # What a statement was given may be a secret, and an error is logged with it.
            hide_parameters=True,
        )


def _ordered_by_character(table: Table, connection: Connection, **_facts: Any) -> None:
    """Let texts of a new table sort as they do in SQLite and in Python, whatever the server's language is."""
    if connection.dialect.name == "postgresql":
        for column in table.columns:
            if isinstance(column.type, String) and column.type.collation is None:
                column.type = type(column.type)(column.type.length, collation="C")


# For tables that a revision makes, too.
event.listen(Table, "before_create", _ordered_by_character)


def _driver() -> Any:
    try:
        import pg8000
    except ModuleNotFoundError:
        raise MissingExtraError(f"{VARIABLE}: PostgreSQL", "postgres") from None
    return pg8000


def _parsed(url: str) -> URL:
    """Read a URL.

    Raises:
        InvalidInputError: it is none, or of another database; the message does not repeat it.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInputError(f"{VARIABLE} is not of the form {FORM}") from None
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"} or not parsed.database:
        raise InvalidInputError(f"{VARIABLE} names no database of PostgreSQL; its form is {FORM}")
    mode = parsed.query.get("sslmode", "")
    if set(parsed.query) - {"host", "sslmode", "sslrootcert"} or (mode and mode not in _MODES):
        raise InvalidInputError(
            f"{VARIABLE}: after the ? stand sslmode ({', '.join(_MODES)}), sslrootcert (a file) or host (a socket's "
            "folder)"
        )
    return parsed


def _host(url: URL) -> str:
    return f"{_folder(url) or url.host or 'localhost'}, port {url.port or _PORT}"


def _folder(url: URL) -> str | None:
    """Return the folder of the server's socket, where it is on this machine and the URL says so."""
    named = url.query.get("host")
    return named if isinstance(named, str) else None


def _connected(driver: Any, url: URL, isolation: str) -> Any:
    """Connect; a wait for the way there ends, a statement may take as long as it takes."""
    # Imported late, as the driver is: who has no PostgreSQL needs none.
    from driftline.hub.store.pipelined import Pipelined

    folder, host = _folder(url), url.host or "localhost"
    try:
        if folder is None:
            way = socket.create_connection((host, url.port or _PORT), CONNECT_S)
            way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            way.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        else:
            way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            way.settimeout(CONNECT_S)
            way.connect(f"{folder}/.s.PGSQL.{url.port or _PORT}")
    except OSError as error:
        raise driver.InterfaceError(f"no connection: {error}") from error
    try:
        connection = Pipelined(
            user=url.username or "postgres",
            password=url.password,
            database=url.database,
            host=host,
            sock=way,
            ssl_context=False if folder is not None else _tls(url, host),
            application_name="driftline",
            startup_params={"default_transaction_isolation": isolation},
        )
        connection.wait_for_ever()
    except OSError as error:
        way.close()
        raise driver.InterfaceError(f"no connection: {error}") from error
    except BaseException:
        way.close()
        raise
    return connection


def _tls(url: URL, host: str) -> Any:
    """Return how TLS is to be spoken: None if the server can, False not at all."""
    mode = url.query.get("sslmode") or ("prefer" if _is_near(host) else "require")
    if mode in {"disable", "prefer"}:
        return False if mode == "disable" else None
    file = url.query.get("sslrootcert")
    context = ssl.create_default_context(cafile=file if isinstance(file, str) else None)
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
