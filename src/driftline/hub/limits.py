"""How much one caller may ask of the hub, and how slowly. Decisions only: no socket, and time comes in.

A device that goes mad, a script in a loop or somebody who guesses is told when to come again (429, `Retry-After`); who
sends a request drop by drop is not waited for (408); what is too large is refused before it is held (413, 431).
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from driftline.errors import InvalidInputError, TemporaryError

# The largest request head: addresses and headers together. A session's cookie and a signature take a few hundred bytes.
HEAD_BYTES_MAX = 16 * 1024
# A head is small: who has not sent it in so many seconds is gone, or holds the connection on purpose.
HEAD_TIMEOUT_S = 20.0
# The body may be large and the link slow, so that what counts is whether anything comes; a device gives a link up
# after 20 s, too (docs/sync-protocol.md).
BODY_IDLE_S = 30.0
# Slower than this over the first minute is slower than any link that a device would still sync over (GPRS: 1 kB/s).
BODY_GRACE_S = 60.0
BODY_BYTES_PER_S_MIN = 64
# Callers that are remembered at once; the one that was quiet for longest is forgotten, and begins with a full bucket.
CALLERS_MAX = 20_000
# What people may write down with what they do.
WORDS_MAX = 2000


class TooLargeError(InvalidInputError):
    """A body beyond what its route takes."""

    status = 413


class WrongMediaError(InvalidInputError):
    """A body in a form that no route takes, such as a compressed one."""

    status = 415


class TooSlowError(TemporaryError):
    """A body that came too slowly to be waited for."""

    status = 408


class TooOftenError(TemporaryError):
    """A caller that asked too often; after `retry_after_s` it may ask again."""

    status = 429

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Buckets:
    """A token bucket for each caller: `burst` requests at once, `rate` a second in the long run.

    >>> now = [0.0]
    >>> buckets = Buckets(rate=2, burst=3, clock=lambda: now[0])
    >>> [buckets.wait_s("camera-1") for _ in range(4)]
    [0.0, 0.0, 0.0, 0.5]
    >>> now[0] = 0.5
    >>> buckets.wait_s("camera-1"), buckets.wait_s("camera-2")
    (0.0, 0.0)
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        callers_max: int = CALLERS_MAX,
    ) -> None:
        self.rate, self.burst = rate, burst
        self._clock = clock
        self._callers_max = callers_max
        # What is left in each bucket, and when that was so; the most recent caller last.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()

    def wait_s(self, caller: str, cost: float = 1.0) -> float:
        """Take from a caller's bucket: 0 where it held enough, else the seconds until it does, and none is taken."""
        with self._guard:
            now_s = self._clock()
            left = self._level(caller, now_s)
            if left >= cost:
                self._keep(caller, left - cost, now_s)
                return 0.0
            self._keep(caller, left, now_s)
            return (cost - left) / self.rate

    def check(self, caller: str, what: str) -> None:
        """Take one request from a caller's bucket.

        Raises:
            TooOftenError: it is empty; `what` says whose it is.
        """
        if wait_s := self.wait_s(caller):
            raise TooOftenError(
                f"{what} asks more often than {self.rate:g} times a second; wait {math.ceil(wait_s)} s, then go on",
                wait_s,
            )

    def _level(self, caller: str, now_s: float) -> float:
        left, at_s = self._left.get(caller, (self.burst, now_s))
        return min(self.burst, left + max(0.0, now_s - at_s) * self.rate)

    def _keep(self, caller: str, left: float, now_s: float) -> None:
        self._left[caller] = (left, now_s)
        self._left.move_to_end(caller)
        while len(self._left) > self._callers_max:
            self._left.popitem(last=False)


@dataclass(frozen=True)
class Limits:
    """What a hub grants its callers.

    A device syncs once a minute, and many times in a row after an outage, each time after an answer. A person's
    programs ask in loops, and their pages every few seconds. Strangers, by their address, are those who try a join
    token, or a signature that does not fit.
    """

    devices: Buckets = field(default_factory=lambda: Buckets(rate=50, burst=500))
    people: Buckets = field(default_factory=lambda: Buckets(rate=200, burst=2_000))
    strangers: Buckets = field(default_factory=lambda: Buckets(rate=5, burst=200))


def too_slow(size: int, seconds: float) -> bool:
    """Say whether a body of which so much came in so long is not worth waiting for.

    >>> too_slow(1_000, 10.0), too_slow(1_000, 61.0), too_slow(70_000, 600.0)
    (False, True, False)
    """
    return seconds > BODY_GRACE_S and size < BODY_BYTES_PER_S_MIN * seconds


def check_words(*given: str) -> None:
    """Refuse words without end.

    Raises:
        InvalidInputError: more than are kept.
    """
    for words in given:
        if len(words) > WORDS_MAX:
            raise InvalidInputError(f"{len(words)} characters are more than the {WORDS_MAX} that are kept; say less")
