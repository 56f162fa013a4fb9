"""Tells systemd how the agent is: sd_notify in the standard library.

systemd names a Unix datagram socket in `NOTIFY_SOCKET` (a name that begins with @ is in the abstract namespace) and
reads one datagram of `KEY=value` lines at a time: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`. Where
`WATCHDOG_USEC` is set, a service that has not sent `WATCHDOG=1` for so long is killed and started again. Source:
sd_notify(3), sd_watchdog_enabled(3). Where no socket is named, nothing is sent.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

log = logging.getLogger("driftline.edge")
# systemd advises half the time; with a quarter two late ticks in a row do no harm.
PULSES = 4
STATUS_BYTES_MAX = 200


class Notifier:
    """The service manager's ear. Belongs to the main loop: no other thread may say that the agent is alive."""

    def __init__(
        self, address: str | None, watchdog_s: float | None = None, *, real_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._pulse_s = None if watchdog_s is None else watchdog_s / PULSES
        self._real_s = real_s
        self._due_s = 0.0
        self._status = ""
        self._deaf = False

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """Read what systemd says, and take it out of the environment: a child must not speak for the agent."""
        address = environment.pop("NOTIFY_SOCKET", None)
        wanted_us, meant = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", None)
        watched = wanted_us.isdecimal() and int(wanted_us) > 0 and meant in {None, str(os.getpid())}
        return cls(address, int(wanted_us) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """Say that the agent works; who waits for it may start now."""
        self._say("READY=1", self._in_words(status))

    def status(self, text: str) -> None:
        """Say in a sentence how the agent is, where that is news."""
        if text != self._status:
            self._say(self._in_words(text))

    def alive(self) -> None:
        """Say that the main loop turns; cheap enough for every turn."""
        if self._pulse_s is not None and self._real_s() >= self._due_s:
            self._due_s = self._real_s() + self._pulse_s
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the agent stops in order."""
        self._say("STOPPING=1", self._in_words("stopping"))

    def _in_words(self, status: str) -> str:
        self._status = status
        line = " ".join(status.split()).encode()[:STATUS_BYTES_MAX].decode(errors="ignore")
        return f"STATUS={line}"

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
                # A manager that does not read must not hold up the agent.
                ear.setblocking(False)
                ear.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._deaf:
                log.warning("systemd cannot be told %s (%s)", lines[0], error)
            self._deaf = True
        else:
            self._deaf = False
