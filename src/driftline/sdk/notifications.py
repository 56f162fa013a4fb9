"""Who is told of incidents: channels, a test of each, and what was sent."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from driftline.clock import iso
from driftline.sdk.http import Connection
from driftline.sdk.listing import Listing
from driftline.wire import api

# A test waits for the receiver, and the hub gives that one 20 seconds and a look-up.
_TEST_TIMEOUT_S = 60.0


class Notifications:
    """The channels of a hub; `channel` is a name or an id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def channels(self) -> list[api.Channel]:
        """List the channels by name."""
        return Listing(
            self._connection.items("/notifications/channels", api.Channel),
            ("Channel", "Kind", "To"),
            lambda one: (one.name, one.kind, one.target),
        )

    def add(
        self,
        name: str,
        target: api.Target,
        *,
        workspaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        severities: Sequence[api.Severity] = (),
        changes: Sequence[api.Change] = (),
        wait_s: int = 30,
    ) -> api.Channel:
        """Add a channel: `driftline.wire.api` has `Webhook`, `Email`, `Alertmanager` and `Apprise`.

        It hears of everything, or of what is in these workspaces (ids), of these kinds, severities and changes. What is
        opened waits for `wait_s`, so that devices that alarm together are told of together. A webhook's `secret`, where
        the hub made it, is in the answer and is never shown again.

        Raises:
            InvalidInputError, NotAllowedError: nothing can be sent that way; the message says why.
            ConflictError: there is a channel of this name.
        """
        heard = api.Subscription(
            workspaces=list(workspaces), kinds=list(kinds), severities=list(severities), changes=list(changes)
        )
        new = api.NewChannel(name=name, target=target, subscription=heard, wait_s=wait_s)
        return self._connection.post("/notifications/channels", new, api.Channel)

    def test(self, channel: str) -> api.Tried:
        """Send a test and say in words what came of it."""
        return self._connection.post(f"{_of(channel)}/test", {}, api.Tried, timeout_s=_TEST_TIMEOUT_S)

    def remove(self, channel: str) -> None:
        """Remove a channel; what waits for it is given up."""
        self._connection.send("DELETE", _of(channel))

    def sent(self, state: api.DeliveryState | None = None, *, limit: int = 100) -> list[api.Delivery]:
        """List notifications, the newest first: all, or those that are waiting, delivered or dead."""
        return listing(
            self._connection.items("/notifications", api.Delivery, most=limit, state=state, limit=min(limit, 1_000))
        )

    def retry(self, delivery: api.Delivery | str) -> None:
        """Try one again that was given up, or sooner than it would be."""
        identity = delivery if isinstance(delivery, str) else delivery.id
        self._connection.send("POST", f"/notifications/{quote(identity, safe='')}/retry", content=b"{}")


def listing(found: Iterable[api.Delivery]) -> Listing[api.Delivery]:
    """Return notifications as a list that a notebook shows as a table."""
    return Listing(
        found,
        ("When", "Change", "Channel", "State", "Tries", "Said"),
        lambda one: (iso(one.created_ns), one.change, one.channel, one.state, one.attempts, one.reason),
    )


def _of(channel: str) -> str:
    return f"/notifications/channels/{quote(channel, safe='')}"
