"""A PostgreSQL as the hub's database: what only its owner can mend is said, and its password never."""

import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from driftline.errors import ConflictError, DriftlineError, InvalidInputError, PermanentError, TemporaryError
from driftline.hub.store import postgres
from driftline.hub.store.database import Database

STORES = ("postgres",)


def refused(url: str) -> DriftlineError:
    database = Database(url)
    try:
        with pytest.raises(DriftlineError) as caught, database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
    finally:
        database.close()
    shown = f"{caught.value} {database.place}"
    assert "hush" not in shown
    assert "hush" not in repr(database.engine)
    return caught.value


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hush", "is not of the form postgresql://"),
        ("mysql://me:hush@host/db", "names no database of PostgreSQL"),
        ("postgresql://me:hush@host", "names no database of PostgreSQL"),
        ("postgresql://me:hush@host/db?sslmode=perhaps", "sslmode \\(disable, prefer"),
        ("postgresql://me:hush@host/db?options=-c", "after the \\? stand"),
        ("postgresql://me:hush@host:many/db", "is not of the form"),
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str, reason: str):
    with pytest.raises(InvalidInputError, match=reason) as caught:
        Database(url)
    assert "hush" not in str(caught.value)


def test_without_the_extra_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(PermanentError, match=r"pip install 'driftline\[postgres\]'"):
        Database("postgresql://me:hush@host/db")


def test_a_server_that_does_not_answer_is_something_for_later():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    said = refused(f"postgresql://me:hush@127.0.0.1:{port}/db")
    assert isinstance(said, TemporaryError)
    assert f"database 'db' at 127.0.0.1, port {port} cannot be reached" in str(said)


def test_a_database_or_user_that_is_not_there_is_said_with_what_to_do(postgres: Any):
    said = refused(postgres.url("nowhere").replace("postgres@", "postgres:hush@"))
    assert isinstance(said, PermanentError)
    assert "'nowhere'" in str(said)
    assert "createdb" in str(said)
    said = refused(postgres.url("made").replace("postgres@", "stranger:hush@"))
    assert isinstance(said, PermanentError)
    assert "refuses this user or password" in str(said)


def test_one_hub_writes_at_a_time(database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres, "CLAIM_WAIT", "50ms")
    first, second = Database(database_url), Database(database_url)
    with first.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
    with pytest.raises(ConflictError, match="written by another hub already; stop that one"), second.writing():
        pass
    with second.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notes").scalar() == 0
    # A hub that ends, however it ends, lets go.
    first.close()
    with second.writing() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES ('mine')")
    second.close()


def test_a_reader_sees_one_moment(database_url: str):
    database = Database(database_url)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
    with database.reading() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM notes").scalar() == 0
        with database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO notes VALUES ('new')")
        assert reader.exec_driver_sql("SELECT count(*) FROM notes").scalar() == 0
    with database.reading() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM notes").scalar() == 1
    database.close()


def test_a_server_that_ends_connections_is_gone_for_a_moment_and_nothing_is_half_written(
    postgres: Any, database_url: str
):
    database = Database(database_url)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "  # noqa: S608  a name of ours
        f"WHERE datname = '{database_url.partition('@/')[2].partition('?')[0]}'"
    )
    with pytest.raises(TemporaryError, match="goes on by itself"), database.writing() as connection:  # noqa: PT012
        connection.exec_driver_sql("INSERT INTO notes VALUES ('lost')")
        postgres.run(end)
        connection.exec_driver_sql("INSERT INTO notes VALUES ('lost, too')")
    with database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES ('kept')")
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT text FROM notes").scalars().all() == ["kept"]
    database.close()


def test_a_character_that_postgresql_does_not_keep_is_refused_and_explained(database_url: str):
    database = Database(database_url)
    with pytest.raises(InvalidInputError, match="U\\+0000"), database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO workspaces (id, name, created_ns) VALUES (%s, 'x', 1)", ("a\0b",))
    database.close()


def test_a_statement_and_the_transaction_it_begins_take_one_trip(database_url: str):
    rows, turns = 3000, Turns(database_url)
    with turns as url:
        database = Database(url)
        with database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (number INT, text TEXT)")
        with database.writing() as connection:
            marks = ", ".join(["(%s, %s)"] * rows)
            values = [part for number in range(rows) for part in (number, "100 %" * 20)]
            connection.exec_driver_sql(f"INSERT INTO notes VALUES {marks}", tuple(values))  # noqa: S608
        # A short one: while a long one is still on its way the server answers what went before.
        with turns.counted() as write, database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO notes VALUES (%s, %s)", (-1, "one more"))
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT 1 WHERE 1 = %s", (1,)).scalar() == 1
        with turns.counted() as read, database.reading() as connection:
            found = connection.exec_driver_sql("SELECT text FROM notes WHERE number >= %s", (0,)).scalars().all()
            assert found == ["100 %" * 20] * rows
            assert connection.exec_driver_sql("SELECT count(*) FROM notes WHERE text LIKE '1%%' AND number < %s", (9,))
        database.close()
    assert len(write) == 2, "a transaction with its statement, and the commit"
    assert len(read) == 3, "a transaction with its first statement, the second one, and the end"


def test_where_no_transaction_can_begin_nothing_is_done_and_the_next_one_is_answered_right(database_url: str):
    turns = Turns(database_url)
    with turns as url:
        database = Database(url)
        with database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        turns.spoils_beginnings = True
        for acts in (database.writing, database.reading):
            with pytest.raises(DBAPIError, match="transactioX"), acts() as connection:
                connection.exec_driver_sql("INSERT INTO notes VALUES (%s)", ("half",))
        turns.spoils_beginnings = False
        for number in range(3):
            with database.writing() as connection:
                connection.exec_driver_sql("INSERT INTO notes VALUES (%s)", (f"whole {number}",))
                assert connection.exec_driver_sql("SELECT %s::INT", (number,)).scalar() == number
            with database.reading() as connection:
                found = connection.exec_driver_sql("SELECT text FROM notes WHERE text <> %s", ("",)).scalars().all()
                assert found == [f"whole {one}" for one in range(number + 1)]
        database.close()


def test_a_connection_that_is_cut_is_gone_for_a_moment(database_url: str):
    turns = Turns(database_url)
    with turns as url:
        database = Database(url)
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT 1 WHERE 1 = %s", (1,)).scalar() == 1
        turns.cut()
        with pytest.raises(TemporaryError, match="goes on by itself"), database.reading() as connection:
            connection.exec_driver_sql("SELECT 1 WHERE 1 = %s", (1,))
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT 1 WHERE 1 = %s", (1,)).scalar() == 1
        database.close()


class Turns:
    """A way to the server on which it is counted how often somebody waited for an answer.

    It can spoil what begins a transaction, and be cut as a router does that lost its memory.
    """

    def __init__(self, url: str) -> None:
        name, _, folder = url.partition("@/")[2].partition("?host=")
        self._server, self._name, self._closing = f"{folder}/.s.PGSQL.5432", name, threading.Event()
        self._heard: list[float] = []
        self._clients: list[socket.socket] = []
        self.spoils_beginnings = False

    def __enter__(self) -> str:
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"postgresql://postgres@127.0.0.1:{self._listening.getsockname()[1]}/{self._name}?sslmode=disable"

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    @contextmanager
    def counted(self) -> Generator[list[float]]:
        """Give a list that has an entry a turn at the end."""
        found: list[float] = []
        self._heard.clear()
        yield found
        found += self._heard

    def cut(self) -> None:
        """Reset every connection there is."""
        for client in self._clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.shutdown(socket.SHUT_RDWR)
            client.close()
        self._clients.clear()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        answered = True
        with suppress(OSError, ValueError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    said = client.recv(1 << 16)
                    if not said:
                        return
                    if answered:
                        self._heard.append(time.monotonic())
                    answered = False
                    if self.spoils_beginnings:
                        said = said.replace(b"begin transaction", b"begin transactioX")
                    server.sendall(said)
                else:
                    answered = True
                    client.sendall(server.recv(1 << 16))


def test_values_that_cannot_be_written_leave_nothing_half_said(database_url: str):
    database = Database(database_url)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
    for before in ([], ["lost"]):
        with pytest.raises(UnicodeEncodeError), database.writing() as connection:  # noqa: PT012
            for text in [*before, "\ud800"]:
                connection.exec_driver_sql("INSERT INTO notes VALUES (%s)", (text,))
        with database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO notes VALUES (%s)", ("kept",))
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT text FROM notes").scalars().all() == ["kept", "kept"]
    database.close()


def test_a_statement_that_is_refused_is_the_end_of_its_transaction_alone(database_url: str):
    database = Database(database_url)
    with database.reading() as connection:
        for _ in range(2):
            with pytest.raises(DBAPIError, match="nothing_of_this_name"):
                connection.exec_driver_sql("SELECT %s FROM nothing_of_this_name", (1,))
            connection.rollback()
        assert connection.exec_driver_sql("SELECT CAST(%s AS INT)", (1,)).scalar() == 1
        assert connection.exec_driver_sql("SELECT CAST(%s AS TEXT)", (None,)).scalar() is None
    database.close()


def test_a_server_elsewhere_is_spoken_to_over_tls_or_not_at_all():
    """A listener that is no PostgreSQL sees what a hub asks first: for TLS, and no password before."""
    heard: list[bytes] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)

        def answer() -> None:
            connection, _ = listening.accept()
            heard.append(connection.recv(1000))
            connection.sendall(b"N")  # no TLS here
            connection.settimeout(5)
            heard.append(connection.recv(1000))
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"postgresql://me:hush@127.0.0.1:{listening.getsockname()[1]}/db?sslmode=require"
        began = time.monotonic()
        assert isinstance(refused(url), TemporaryError)
        thread.join(10)
        assert time.monotonic() - began < 10
    assert [len(one) for one in heard] == [8, 0]
    assert not postgres._is_near("db.example")
    assert postgres._is_near("::1")
