"""Statements that SQLite and PostgreSQL want in different words: each has its two forms here and nowhere else.

Rows are written by the thousand: SQLite takes them one by one without leaving the process, PostgreSQL in one statement
(COPY, or arrays side by side), because every statement is a journey there.
"""

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, FromClause, String, Table, cast, func, literal, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from driftline.hub.store.database import Json, encoded_json

Row = Sequence[Any]
# A page of logs takes as much; each journey costs about a millisecond.
_FETCHED = 64
# SQLite lets go of the interpreter with every statement, and where threads wait for it each time costs milliseconds.
_ROWS_AT_ONCE = 50
_CURSORS = itertools.count()


def is_postgres(connection: Connection) -> bool:
    """Say which of the two it is."""
    return connection.dialect.name == "postgresql"


def real_ns(connection: Connection) -> int:
    """Return what time it is on the machine that the database is on, to the millisecond."""
    now = (
        "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        if is_postgres(connection)
        else "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    )
    return int(connection.exec_driver_sql(now).scalar_one()) * 1_000_000


def upsert(connection: Connection, table: Table) -> Any:
    """Return an INSERT of this table that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def run(connection: Connection, sql: str, values: Row = ()) -> Any:
    """Run a statement both know, with `?` for each value."""
    return connection.exec_driver_sql(_spelled(sql, is_postgres(connection)), tuple(values))


def stream(connection: Connection, sql: str, values: Row = ()) -> Iterator[Any]:
    """Yield the rows of a SELECT as they are found: whoever stops early has not waited for the rest."""
    if not is_postgres(connection):
        yield from run(connection, sql, values)
        return
    name = f"driftline_{next(_CURSORS)}"
    run(connection, f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", values)
    while found := run(connection, f"FETCH {_FETCHED} FROM {name}").all():
        yield from found


@lru_cache(maxsize=256)
def _spelled(sql: str, postgres: bool) -> str:
    return sql.replace("?", "%s") if postgres else sql


def insert_many(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows of plain values; none of them is there yet."""
    if not rows:
        return
    names = _names(columns)
    if is_postgres(connection):
        driver: Any = connection.connection.driver_connection
        copied = io.BytesIO(b"".join(b"\t".join(map(_copied, row)) + b"\n" for row in rows))
        driver.cursor().execute(f"COPY {table.name} ({names}) FROM STDIN", stream=copied)
    else:
        marks = f"({','.join('?' * len(columns))})"
        into = f"INSERT INTO {table.name} ({names}) VALUES "  # noqa: S608  names of our own
        whole = len(rows) // _ROWS_AT_ONCE * _ROWS_AT_ONCE
        for at in range(0, whole, _ROWS_AT_ONCE):
            values = tuple(itertools.chain.from_iterable(rows[at : at + _ROWS_AT_ONCE]))
            connection.exec_driver_sql(into + ",".join([marks] * _ROWS_AT_ONCE), values)
        if whole < len(rows):
            connection.exec_driver_sql(into + marks, list(map(tuple, rows[whole:])))


def put_many(
    connection: Connection, table: Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[Row]
) -> None:
    """Insert rows of plain values, or replace the `columns` of those whose `key` is there; no key comes twice."""
    if not rows:
        return
    names = _names([*key, *columns])
    news = ", ".join(f'"{one}" = excluded."{one}"' for one in columns)
    instead = f"ON CONFLICT ({_names(key)}) DO UPDATE SET {news}"
    into = f"INSERT INTO {table.name} ({names})"
    if is_postgres(connection):
        arrays = _arrays(table, (*key, *columns))
        connection.exec_driver_sql(f"{into} SELECT * FROM unnest({arrays}) {instead}", _sides(rows))  # noqa: S608
    else:
        marks = ",".join("?" * (len(key) + len(columns)))
        connection.exec_driver_sql(f"{into} VALUES ({marks}) {instead}", list(map(tuple, rows)))


def update_many(connection: Connection, table: Table, key: str, facts: Mapping[Any, Mapping[str, Any]]) -> None:
    """Set columns of the rows with these keys; the same columns of each."""
    if not facts:
        return
    columns = list(next(iter(facts.values())))
    encode = [_encoder(table.c[one].type) for one in columns]
    rows = [(*(to(one[name]) for to, name in zip(encode, columns, strict=True)), at) for at, one in facts.items()]
    if is_postgres(connection):
        news = ", ".join(f'"{one}" = v."{one}"' for one in columns)
        names = _names([*columns, "_at"])
        connection.exec_driver_sql(
            f"UPDATE {table.name} SET {news} FROM unnest({_arrays(table, (*columns, key))}) AS v ({names}) "  # noqa: S608
            f'WHERE {table.name}."{key}" = v._at',
            _sides(rows),
        )
    else:
        news = ", ".join(f'"{one}" = ?' for one in columns)
        connection.exec_driver_sql(f'UPDATE {table.name} SET {news} WHERE "{key}" = ?', rows)  # noqa: S608  constant text


def asked(rows: Sequence[Sequence[int]]) -> str:
    """Return a table of whole numbers for a FROM; its columns are `column1`, `column2` and so on.

    >>> asked([(1, 2), (3, 4)])
    '(VALUES (1,2),(3,4))'
    """
    return f"(VALUES {','.join('(' + ','.join(str(int(one)) for one in row) + ')' for row in rows)})"


def given(connection: Connection, rows: Sequence[Row]) -> tuple[FromClause, list[Any]]:
    """Return rows of texts, each with a whole number at its end, as a table, and its columns."""
    document = json.dumps([list(row) for row in rows])
    size = len(rows[0]) if rows else 0
    if is_postgres(connection):
        # A text that is cast, not one that SQLAlchemy makes JSON of once more.
        one = (
            func.json_array_elements(cast(literal(document, String), postgresql.JSON))
            .table_valued("value")
            .render_derived()
        )
        value = literal_column("value", postgresql.JSON)
        parts: list[Any] = [value.op("->>")(at) for at in range(size)]
    else:
        one = func.json_each(document).table_valued("value")
        parts = [func.json_extract(one.c.value, f"$[{at}]") for at in range(size)]
    return one, [cast(part, BigInteger if at == size - 1 else String) for at, part in enumerate(parts)]


def _names(columns: Sequence[str]) -> str:
    # Quoted: `window` is a word of PostgreSQL's own.
    return ", ".join(f'"{one}"' for one in columns)


@lru_cache(maxsize=64)
def _arrays(table: Table, columns: tuple[str, ...]) -> str:
    dialect = postgresql.dialect()
    return ", ".join(f"CAST(%s AS {table.c[one].type.compile(dialect)}[])" for one in columns)


def _sides(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _encoder(kind: TypeEngine[Any]) -> Any:
    return encoded_json if isinstance(kind, Json) else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _copied(value: Any) -> bytes:
    """Write a value as COPY's text format has it."""
    if value is None:
        return rb"\N"
    if isinstance(value, bytes):
        return b"\\\\x" + value.hex().encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, str):
        told = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        return told.encode()
    return str(value).encode()
