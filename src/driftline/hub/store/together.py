"""Group commit: what waits to be written is written in one transaction, and answered when that is on disk.

A disk takes milliseconds to make a commit last, however little it holds. Whoever comes while one is under way waits
anyway; the first of those to get its turn takes all that wait along. Who comes alone is written at once: nobody waits
for others to come.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy import Connection

from driftline.errors import DriftlineError, TemporaryError
from driftline.hub.store.database import Database

T = TypeVar("T")
R = TypeVar("R")

# So many at once: a commit that takes long keeps all of them waiting.
TOGETHER_MAX = 64


class _Waiting(Generic[T, R]):
    def __init__(self, one: T, about: str) -> None:
        self.one = one
        self.about = about
        self.answer: R | BaseException | None = None
        self.is_done = False

    def settle(self, answer: R | BaseException) -> None:
        self.answer = answer
        self.is_done = True


class Together(Generic[T, R]):
    """Writes things of one kind, as many at once as wait.

    `act(connection, things)` writes them and returns an answer for each, or the error that refuses it: one that is
    refused must not have been written. What goes wrong for all (`act` raises, the commit fails) is tried once more for
    each by itself, so that nobody fails for another's sake; only a disk that is full is so for everybody. `told` hears
    of each commit: how many things it wrote, and how many seconds it took.
    """

    def __init__(
        self,
        database: Database,
        act: Callable[[Connection, Sequence[T]], Sequence[R | DriftlineError]],
        told: Callable[[int, float], None] = lambda _things, _seconds: None,
    ) -> None:
        self._database = database
        self._act = act
        self._told = told
        self._turn = threading.Lock()
        self._queue = threading.Lock()
        self._waiting: list[_Waiting[T, R]] = []

    def commit(self, one: T, about: str) -> R:
        """Write this and return its answer when it is on disk.

        Two things `about` the same never go together: the second sees what became of the first.

        Raises:
            DriftlineError: it was refused, or could not be written; nothing of it was kept.
        """
        mine = _Waiting[T, R](one, about)
        with self._queue:
            self._waiting.append(mine)
        while not mine.is_done:
            with self._turn:
                if not mine.is_done:
                    self._write(self._taken())
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer  # pyright: ignore[reportReturnType]  settled, and no error

    def _taken(self) -> list[_Waiting[T, R]]:
        """Take the first that wait, each about something else; the others keep their order."""
        with self._queue:
            first: dict[str, _Waiting[T, R]] = {}
            for each in self._waiting:
                if len(first) < TOGETHER_MAX:
                    first.setdefault(each.about, each)
            taken = list(first.values())
            left = set(map(id, taken))
            self._waiting = [each for each in self._waiting if id(each) not in left]
            return taken

    def _write(self, group: Sequence[_Waiting[T, R]]) -> None:
        began_s = time.perf_counter()
        try:
            with self._database.writing() as connection:
                answers = self._act(connection, [each.one for each in group])
        except BaseException as error:  # noqa: BLE001  it is raised where it belongs
            if len(group) == 1 or isinstance(error, TemporaryError):
                for each in group:
                    each.settle(error)
            else:
                for each in group:
                    self._write([each])
            return
        self._told(len(group), time.perf_counter() - began_s)
        for each, answer in zip(group, answers, strict=True):
            each.settle(answer)
