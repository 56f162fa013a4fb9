"""Answering together: who waits goes along, nobody waits for others, and nobody fails for another's sake."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from driftline.errors import ConflictError, DriftlineError, TemporaryError
from driftline.hub.together import TOGETHER_MAX, Together


class Notes:
    """Counts the letters of notes; `gate` holds an answer up until it is set."""

    def __init__(self) -> None:
        self.together: Together[str, int] = Together(self.act)
        self.groups: list[list[str]] = []
        self.threads: set[int] = set()
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def act(self, texts: Sequence[str]) -> list[int | DriftlineError]:
        self.groups.append(list(texts))
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.gate.wait(30)
        if "away" in texts:
            raise TemporaryError("the database is away")
        if "broken" in texts:
            raise ValueError("our own bug")
        return [ConflictError("not this one") if text == "refused" else len(text) for text in texts]

    async def behind_one(self, *others: str) -> list[int | BaseException]:
        """Let these come while a first one is being answered, and return what becomes of all."""
        self.gate.clear()
        asked = [asyncio.create_task(self.together.answer("first"))]
        assert await asyncio.to_thread(self.began.wait, 30)
        asked += [asyncio.create_task(self.together.answer(text)) for text in others]
        await asyncio.sleep(0)  # each begins to wait
        self.gate.set()
        return await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture
def notes() -> Notes:
    return Notes()


def test_who_comes_alone_is_answered_at_once(notes: Notes):
    async def one_after_the_other() -> list[int]:
        return [await notes.together.answer(text) for text in ("one", "three")]

    assert asyncio.run(one_after_the_other()) == [3, 5]
    assert notes.groups == [["one"], ["three"]]


def test_those_who_come_while_another_is_answered_go_together_in_the_order_they_came(notes: Notes):
    assert asyncio.run(notes.behind_one("a", "bb", "ccc")) == [5, 1, 2, 3]
    assert notes.groups == [["first"], ["a", "bb", "ccc"]]


def test_the_loop_goes_on_while_they_are_answered(notes: Notes):
    asyncio.run(notes.behind_one("a"))
    assert threading.get_ident() not in notes.threads


def test_one_that_is_refused_takes_nobody_along(notes: Notes):
    first, one, refused, other = asyncio.run(notes.behind_one("one", "refused", "other"))
    assert (first, one, other) == (5, 3, 5)
    assert isinstance(refused, ConflictError)


def test_a_bug_that_one_meets_is_met_by_that_one_alone(notes: Notes):
    _, one, broken, other = asyncio.run(notes.behind_one("one", "broken", "other"))
    assert (one, other) == (3, 5)
    assert isinstance(broken, ValueError)
    assert notes.groups[1:] == [["one", "broken", "other"], ["one"], ["broken"], ["other"]]


def test_what_is_wrong_for_everybody_is_not_tried_once_more_for_each(notes: Notes):
    first, *others = asyncio.run(notes.behind_one("one", "away", "other"))
    assert first == 5
    assert all(isinstance(one, TemporaryError) for one in others)
    assert len(notes.groups) == 2


def test_more_than_go_at_once_wait_for_the_next_turn(notes: Notes):
    asyncio.run(notes.behind_one(*(f"{number}" for number in range(TOGETHER_MAX + 3))))
    assert [len(group) for group in notes.groups] == [1, TOGETHER_MAX, 3]


def test_who_is_gone_before_the_answer_holds_nobody_up(notes: Notes):
    async def one_goes() -> list[int]:
        notes.gate.clear()
        asked = [asyncio.create_task(notes.together.answer(text)) for text in ("one", "gone", "other")]
        await asyncio.sleep(0)
        asked[1].cancel()
        notes.gate.set()
        return [await asked[0], await asked[2], await notes.together.answer("after")]

    assert asyncio.run(one_goes()) == [3, 5, 5]
