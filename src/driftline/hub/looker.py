"""A thread that looks for what is due, again and again, whatever comes of one look."""

import threading
import time
import traceback
from collections.abc import Callable

from driftline.errors import TemporaryError
from driftline.hub import journal

# Real seconds between two looks where nothing wakes the thread: much becomes due by time alone.
PAUSE_S = 1.0


class Looker:
    """Looks once and again at once while there is more, else when `wake` is set, and at least once a second.

    `look` gets an event that is set when it is to end soon; it returns whether more is due. After a look of so many
    seconds nothing wakes the thread for `rest_s` of them. Who stops it waits `end_s` at most.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[threading.Event], bool],
        wake: threading.Event,
        rest_s: Callable[[float], float] = lambda _: 0.0,
        *,
        end_s: float = 10.0,
    ) -> None:
        self._name, self._look, self._wake, self._rest_s, self._end_s = name, look, wake, rest_s, end_s
        self._stopping = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after what is under way; what is left, or takes too long, is for the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(self._end_s)

    def last(self) -> None:
        """Do what is to be done when it ends."""

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            began_s = time.monotonic()
            if not self._looked():
                self._stopping.wait(self._rest_s(time.monotonic() - began_s))
                self._wake.wait(PAUSE_S)
        self.last()

    def _looked(self) -> bool:
        """Look once. A trouble is told when it begins, not with every look: a full disk must not be filled by it."""
        more, trouble = False, None
        try:
            more = self._look(self._stopping)
        except TemporaryError as error:
            trouble = f"the {self._name} waits: {error}"
        except Exception:  # noqa: BLE001  it goes on whatever happens; the next look may succeed
            trouble = traceback.format_exc()
        if trouble is not None and trouble != self._trouble:
            journal.tell(trouble)
        self._trouble = trouble
        return more
