"""Requests that wait at the same time are answered together: one commit, one look at the database, one thread.

A disk takes milliseconds to make a commit last, however little it holds, and threads that all want the interpreter take
turns at it and get less done than one. Who comes while others are being answered waits anyway, and goes along with all
that wait. Who comes alone is answered at once: nobody waits for others to come.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from driftline.errors import DriftlineError, TemporaryError

T = TypeVar("T")
R = TypeVar("R")

# So many at once: an answer that takes long keeps all of them waiting.
TOGETHER_MAX = 64


class Together(Generic[T, R]):
    """Answers things of one kind, as many at once as wait, in the order in which they came; of one event loop.

    `act(things)` runs in a thread, one at a time, and returns an answer for each, or the error that refuses it. What
    goes wrong for all (it raises) is tried once more for each by itself, so that nobody fails for another's sake; only
    a disk that is full, or a database that is away, is so for everybody.
    """

    def __init__(self, act: Callable[[Sequence[T]], Sequence[R | DriftlineError]]) -> None:
        self._act = act
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._going: asyncio.Task[None] | None = None

    async def answer(self, one: T) -> R:
        """Return the answer to this.

        Raises:
            DriftlineError: it was refused.
        """
        mine: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, mine))
        if self._going is None:
            self._going = asyncio.create_task(self._go())
        return await mine

    async def _go(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))]
                answers = await run_in_threadpool(self._answers, [one for one, _ in group])
                for (_, future), answer in zip(group, answers, strict=True):
                    _settle(future, answer)
        finally:
            self._going = None

    def _answers(self, things: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return self._act(things)
        except Exception as error:  # noqa: BLE001  it is raised where it belongs
            if len(things) == 1 or isinstance(error, TemporaryError):
                return [error] * len(things)
            return [answer for one in things for answer in self._answers([one])]


def _settle(future: asyncio.Future[R], answer: R | Exception) -> None:
    if future.done():  # whoever asked has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
