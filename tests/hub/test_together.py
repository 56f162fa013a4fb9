"""Group commit: who waits goes along, nobody waits for others, and nobody fails for another's sake."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from driftline.errors import ConflictError, DriftlineError, TemporaryError
from driftline.hub.store.database import Database
from driftline.hub.store.together import TOGETHER_MAX, Together


class Notes:
    """Writes notes into a real database; `gate` holds a transaction open until it is set."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self.together: Together[str, int] = Together(self.database, self.act)
        self.groups: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        with self.database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")

    def act(self, connection: Any, texts: Sequence[str]) -> list[int | DriftlineError]:
        self.groups.append(list(texts))
        assert self.gate.wait(30)
        answers: list[int | DriftlineError] = []
        for text in texts:
            if text == "refused":
                answers.append(ConflictError("not this one"))
                continue
            connection.exec_driver_sql("INSERT INTO notes VALUES (?)", (text,))
            if text == "broken":
                raise ValueError("our own bug")
            answers.append(len(text))
        return answers

    @property
    def kept(self) -> list[str]:
        with self.database.reading() as connection:
            return sorted(text for (text,) in connection.exec_driver_sql("SELECT text FROM notes"))


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path / "notes.db")
    yield made
    made.database.close()


def behind_one(notes: Notes, *others: tuple[str, str]) -> list["Future[int]"]:
    """Let these come while a first one is being written, and return what becomes of all."""
    notes.gate.clear()
    with ThreadPoolExecutor(max(1, len(others)) + 1) as pool:
        futures = [pool.submit(notes.together.commit, "first", "first")]
        while not notes.groups:
            time.sleep(0.001)
        futures += [pool.submit(notes.together.commit, text, about) for text, about in others]
        while len(notes.together._waiting) < len(others):
            time.sleep(0.001)
        notes.gate.set()
    return futures


def test_who_comes_alone_is_written_at_once(notes: Notes):
    assert [notes.together.commit(text, text) for text in ("one", "three")] == [3, 5]
    assert notes.groups == [["one"], ["three"]]
    assert notes.kept == ["one", "three"]


def test_those_who_come_while_another_is_written_go_together_in_one_transaction(notes: Notes):
    commits: list[None] = []
    event.listen(notes.database.engine, "commit", lambda _: commits.append(None))
    answers = behind_one(notes, ("a", "a"), ("bb", "b"), ("ccc", "c"))
    assert [one.result() for one in answers] == [5, 1, 2, 3]
    assert [sorted(group) for group in notes.groups] == [["first"], ["a", "bb", "ccc"]]
    assert len(commits) == 2
    assert notes.kept == ["a", "bb", "ccc", "first"]


def test_one_that_is_refused_takes_nobody_along(notes: Notes):
    first, one, refused, other = behind_one(notes, ("one", "1"), ("refused", "2"), ("other", "3"))
    with pytest.raises(ConflictError, match="not this one"):
        refused.result()
    assert (first.result(), one.result(), other.result()) == (5, 3, 5)
    assert notes.kept == ["first", "one", "other"]


def test_a_bug_that_one_meets_is_met_by_that_one_alone(notes: Notes):
    _, one, broken, other = behind_one(notes, ("one", "1"), ("broken", "2"), ("other", "3"))
    with pytest.raises(ValueError, match="our own bug"):
        broken.result()
    assert (one.result(), other.result()) == (3, 5)
    assert notes.kept == ["first", "one", "other"]


def test_two_about_the_same_never_go_together_and_keep_their_order(notes: Notes):
    behind_one(notes, ("a1", "a"), ("b1", "b"))
    notes.groups.clear()
    for future in behind_one(notes, ("a2", "a"), ("a3", "a"), ("b2", "b")):
        future.result()
    together = [[text for text in group if text.startswith("a")] for group in notes.groups]
    assert [group for group in together if group] in ([["a2"], ["a3"]], [["a3"], ["a2"]])


def test_more_than_one_transaction_may_hold_wait_for_the_next(notes: Notes):
    for future in behind_one(notes, *((f"{number}", f"{number}") for number in range(TOGETHER_MAX + 3))):
        future.result()
    assert [len(group) for group in notes.groups] == [1, TOGETHER_MAX, 3]


def test_on_a_full_disk_all_are_told_so_and_nothing_is_kept(notes: Notes):
    def full(connection: Any, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(notes.database.engine, "connect", full)
    notes.database.engine.dispose()
    for future in behind_one(notes, ("x" * 20_000, "1"), ("y" * 20_000, "2"))[1:]:
        with pytest.raises(TemporaryError, match="disk is full"):
            future.result()
    assert notes.groups[1:] in ([["x" * 20_000, "y" * 20_000]], [["y" * 20_000, "x" * 20_000]])
    event.remove(notes.database.engine, "connect", full)
    notes.database.engine.dispose()
    assert notes.kept == ["first"]
