"""Says when a device syncs. Does no I/O and asks no clock, so that a year of bad network fits in one test.

All times are seconds of one monotonic clock; the agent turns the hub's wish, which is in the time of windows, into
real seconds. After a failure the pause doubles, up to the usual interval (but 5 minutes at most): a device that was out
of reach is back within one interval of its link. Every pause is shortened at random, so that a fleet that lost
its hub at one moment does not come back at one moment.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_MIN_S = 1.0
BACK_OFF_FIRST_S = 1.0
BACK_OFF_MAX_S = 300.0
# Even a device that syncs every two seconds leaves a hub that is down in peace for so long.
BACK_OFF_MAX_LEAST_S = 5.0
# A pause is between this share of its length and all of it.
JITTER_SHARE = 0.5
# An interval is jittered less: its length is a promise that silence is judged by.
INTERVAL_JITTER_SHARE = 0.9
# How long a new device asks every second whether there is something to do.
EAGER_FOR_S = 300.0
# Out of turn a device syncs at most so often in so many seconds: a worker that crashes for ever is no reason for more.
HURRIES_MAX, HURRY_SPAN_S = 5, 60.0


@dataclass(frozen=True, slots=True)
class Upload:
    """Sync now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


def _uniform(low: float, high: float) -> float:
    # The module `random` is 0.2 MB that an agent would need for nothing else.
    return low + (high - low) * int.from_bytes(os.urandom(7), "big") / 2**56


class Shipper:
    """Decides when to sync, from what became of the last tries.

    >>> shipper = Shipper(now_s=0, uniform=lambda low, high: high)
    >>> shipper.next(0)
    Upload()
    >>> shipper.refused(0), shipper.next(0)
    (None, Wait(seconds=1.0))
    """

    def __init__(self, now_s: float, uniform: Callable[[float, float], float] | None = None) -> None:
        self._began_s = now_s
        self._uniform = uniform or _uniform
        self._next_s = now_s
        self._interval_s = 60.0
        self._failures = 0
        self._hurries: list[float] = []

    def next(self, now_s: float) -> Upload | Wait:
        """Say what to do now."""
        return Upload() if now_s >= self._next_s else Wait(self._next_s - now_s)

    def acknowledged(self, now_s: float, interval_s: float, *, more: bool = False, idle: bool = False) -> None:
        """Plan the next sync after one that succeeded.

        `interval_s` is what the hub wishes; `more` says that the next one should follow at once (records still wait
        that did not fit into the batch, or the hub asked for something), `idle` that the device has nothing to run yet.
        """
        self._failures = 0
        self._interval_s = max(INTERVAL_MIN_S, interval_s)
        if more:
            self._next_s = now_s
        elif idle and now_s - self._began_s < EAGER_FOR_S:
            self._next_s = now_s + INTERVAL_MIN_S
        else:
            least_s = max(INTERVAL_MIN_S, self._interval_s * INTERVAL_JITTER_SHARE)
            self._next_s = now_s + self._uniform(least_s, self._interval_s)

    def refused(self, now_s: float, *, for_good: bool = False) -> None:
        """Back off after one that failed; everything is kept.

        `for_good` says that the hub refuses this device: until its owner does something, more tries are of no use.
        """
        most_s = BACK_OFF_MAX_S if for_good else min(BACK_OFF_MAX_S, max(BACK_OFF_MAX_LEAST_S, self._interval_s))
        # Past 2**20 every pause is the longest one, and the power would only grow.
        pause_s = min(most_s, BACK_OFF_FIRST_S * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._next_s = now_s + self._uniform(pause_s * JITTER_SHARE, pause_s)

    def hurry(self, now_s: float) -> None:
        """Sync soon: something happened that the hub should know. Ignored while it fails, or where it happens often."""
        self._hurries = [at_s for at_s in self._hurries if now_s - at_s < HURRY_SPAN_S]
        if not self._failures and len(self._hurries) < HURRIES_MAX:
            self._hurries.append(now_s)
            self._next_s = min(self._next_s, now_s + INTERVAL_MIN_S)
