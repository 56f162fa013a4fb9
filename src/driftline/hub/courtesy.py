"""Who works in the background gives way to people: threads of one process take turns at one interpreter.

An answer over PostgreSQL waits for it dozens of times, half a millisecond each while the scorer has something to work
out. So the scorer stops between two steps while somebody is being answered, but never for longer than it has worked
meanwhile: whoever asks without a pause slows it down by half and starves nothing.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

# At once; a step begun in between is the longest that an answer waits besides.
WAIT_S_MAX = 0.1


class Courtesy:
    """Knows how many are being answered now."""

    def __init__(self) -> None:
        self._guests = 0
        self._nobody = threading.Condition()

    @contextmanager
    def serving(self) -> Generator[None]:
        """Let others give way for as long as this lasts."""
        with self._nobody:
            self._guests += 1
        try:
            yield
        finally:
            with self._nobody:
                self._guests -= 1
                if not self._guests:
                    self._nobody.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until nobody is being answered, at most so long."""
        if self._guests:
            with self._nobody:
                self._nobody.wait_for(lambda: not self._guests, seconds)


class Worker:
    """Somebody who works in the background, and how much of what it worked it has not given back yet."""

    def __init__(self, courtesy: Courtesy, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._courtesy = courtesy
        self._steady_s = steady_s
        self._since_s = steady_s()
        self._owes_s = 0.0

    def give_way(self) -> None:
        """Say that a step is done, and wait where somebody is being answered."""
        now_s = self._steady_s()
        # What it did long ago, when nobody asked, is nothing that is still owed.
        self._owes_s = min(WAIT_S_MAX, self._owes_s + now_s - self._since_s)
        self._courtesy.wait(self._owes_s)
        self._since_s = self._steady_s()
        self._owes_s = max(0.0, self._owes_s - (self._since_s - now_s))
