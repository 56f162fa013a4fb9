"""The notifier: sends what is in the outbox, until it arrived or is given up.

A reconciler: it may be killed anywhere and run twice, and several hubs may share one outbox. What it takes it claims
for a time that is longer than any try takes; where it is killed before it wrote down what came of it, the claim runs
out, and it is sent again, with the same event id.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError, TemporaryError
from driftline.hub import journal
from driftline.hub.core import Hub
from driftline.hub.looker import Looker
from driftline.hub.notify import chart, schedule, ways
from driftline.hub.notify.connection import TOTAL_S, Network
from driftline.hub.store import notifications as store
from driftline.hub.store.notifications import Waiting
from driftline.wire import api

# Seconds after which what is under way is cut off where the hub is to stop.
END_S = 5.0
# A try takes TOTAL_S to send, half of that again to look a name up, and the rest is for a busy machine.
CLAIM_S = 4 * TOTAL_S
AT_ONCE = 32
# A receiver that does not answer holds up its own channel, and not the others.
CHANNELS_AT_ONCE = 4


def network_of(hub: Hub) -> Network:
    """Return how this hub reaches receivers."""
    return Network(private=hub.private_targets)


@dataclass
class Round:
    """One look at the outbox; time, chance and the network are given to it."""

    hub: Hub
    network: Network
    real_ns: Callable[[], int] = time.time_ns
    chance: Callable[[], float] = random.random
    claim_s: float = CLAIM_S
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(CHANNELS_AT_ONCE, "notify")

    def run(self) -> bool:
        """Send what is due, and return whether anything was."""
        now_ns = self.real_ns()
        with self.hub.database.reading() as connection:
            if not store.has_work(connection, now_ns):
                return False
        with self.hub.database.writing() as connection:
            store.stamp(connection, now_ns)
            taken = store.claim(connection, now_ns, now_ns + int(self.claim_s * NS_PER_S), AT_ONCE)
        by_channel: defaultdict[str, list[Waiting]] = defaultdict(list)
        for one in taken:
            by_channel[one.channel].append(one)
        list(self._pool.map(self._send_all, by_channel.values()))
        return bool(taken)

    def close(self) -> None:
        """End; what is under way ends in its own time."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send_all(self, waiting: Sequence[Waiting]) -> None:
        began_ns = self.real_ns()
        for one in waiting:
            # What was claimed with it and would be sent too late for its claim is left to the next look.
            if self.real_ns() - began_ns > (self.claim_s - 2 * self.network.total_s) * NS_PER_S and one != waiting[0]:
                return
            self._send(one)

    def _send(self, one: Waiting) -> None:
        with self.hub.database.reading() as connection:
            try:
                channel = store.channel(connection, one.channel)
            except EntityNotFoundError:
                return  # removed meanwhile, with what waited for it
        picture = self._picture(one.notification) if isinstance(channel.target, api.Email) else None
        try:
            result = ways.send(
                self.network, channel.target, one.notification, self.hub.dashboard, picture, self.real_ns()
            )
        except Exception as error:  # noqa: BLE001  our own bug must not stop what else is to be told
            journal.tell("a notification could not be sent", error)
            result = ways.Result("failed", f"the hub failed ({type(error).__name__}); its log has the details")
        self._write_down(one, result)

    def _picture(self, told: api.Notification) -> bytes | None:
        try:
            with self.hub.database.reading() as connection:
                return chart.of(connection, told)
        except TemporaryError:
            raise
        except Exception as error:  # noqa: BLE001  a mail without its chart is a mail
            journal.tell("a mail goes without its chart", error)
            return None

    def _write_down(self, one: Waiting, result: ways.Result) -> None:
        now_ns, tries = self.real_ns(), one.attempts + 1
        with self.hub.database.writing() as connection:
            if result.outcome == "delivered":
                store.delivered(connection, one.id, now_ns, result.text)
                return
            dead = schedule.is_dead(result.outcome, tries, now_ns - one.since_ns)
            pause_s = schedule.pause_s(tries, self.chance(), result.retry_after_s)
            store.failed(connection, one.id, result.text, None if dead else now_ns + int(pause_s * NS_PER_S))


class Notifier(Looker):
    """A thread that looks after every change, and at least once a second."""

    def __init__(self, hub: Hub, *, claim_s: float = CLAIM_S) -> None:
        self._round = Round(hub, network_of(hub), claim_s=claim_s)
        super().__init__("notifier", lambda _: self._round.run(), hub.outbox, end_s=END_S)

    def stop(self) -> None:
        """End after what is under way; what takes longer is cut off, and sent again after the next start."""
        super().stop()
        self._round.close()
