"""Background work gives way to who is being answered, and is never starved."""

import threading
from collections.abc import Callable

import pytest

from driftline.hub import courtesy
from driftline.hub.courtesy import Courtesy, Worker


class Waited(Courtesy):
    """Notes how long it would wait, and lets a clock go on by that where somebody is being answered."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.busy = 0.0, True
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds if self.busy else 0.0


def test_where_somebody_always_asks_half_of_the_time_is_given_away():
    asked = Waited()
    worker = Worker(asked, lambda: asked.now_s)
    for _ in range(100):
        asked.now_s += 0.01
        worker.give_way()
    assert asked.now_s == pytest.approx(2.0)


def test_a_long_step_and_a_quiet_time_are_not_made_up_for():
    asked = Waited()
    worker = Worker(asked, lambda: asked.now_s)
    asked.busy = False
    for _ in range(50):
        asked.now_s += 1.0
        worker.give_way()
    asked.busy = True
    worker.give_way()
    worker.give_way()
    assert asked.waits[-2:] == [courtesy.WAIT_S_MAX, 0.0]


def _in_thread(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_it_waits_until_the_last_is_answered():
    asked, done = Courtesy(), threading.Event()

    def work() -> None:
        asked.wait(30)
        done.set()

    asked.wait(30)  # nobody is there
    with asked.serving():
        with asked.serving():
            thread = _in_thread(work)
        assert not done.wait(0.05)
    thread.join(10)
    assert done.is_set()


def test_it_waits_no_longer_than_it_should():
    asked = Courtesy()
    with asked.serving():
        thread = _in_thread(lambda: asked.wait(0.01))
        thread.join(10)
        assert not thread.is_alive()


def test_an_answer_that_fails_holds_nobody_up():
    asked = Courtesy()
    with pytest.raises(ValueError, match="no"), asked.serving():
        raise ValueError("no")
    asked.wait(1e9)
