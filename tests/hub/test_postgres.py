"""A PostgreSQL as the hub's database: what only its owner can mend is said, and its password never."""

import socket
import sys
import threading
import time
from typing import Any

import pytest

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
