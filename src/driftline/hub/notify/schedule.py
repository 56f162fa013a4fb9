"""What is sent when: retries, when they end, who hears of what. Decisions alone; the notifier acts on them."""

from collections.abc import Collection
from typing import Literal

from driftline.clock import NS_PER_S
from driftline.wire import api

# Doubling from the first pause to the longest: eleven tries in the first hour and a half, then one an hour.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
# Receivers that come back together are not asked together.
JITTER = 0.2
GIVES_UP_AFTER_S = 3 * 86_400
TRIES_MAX = 100
# A receiver that says no may have been set up wrongly a minute ago: it has 43 minutes, then somebody has to look.
REFUSALS_MAX = 10

Outcome = Literal["delivered", "failed", "refused"]


def pause_s(tries: int, chance: float, asked_s: float | None = None) -> float:
    """Return how long to wait after so many tries; `chance` is uniform in [0, 1), `asked_s` the receiver's own wish.

    >>> [pause_s(tries, 0.5) for tries in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600.0]
    >>> pause_s(1, 0.0), pause_s(1, 0.5, asked_s=120)
    (4.0, 120.0)
    """
    pause = min(FIRST_PAUSE_S * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S)
    pause *= 1 + JITTER * (2 * chance - 1)
    return pause if asked_s is None else max(pause, min(asked_s, LONGEST_PAUSE_S))


def is_dead(outcome: Outcome, tries: int, waited_ns: int) -> bool:
    """Say whether a notification that was not delivered is given up.

    >>> is_dead("failed", 10, 0), is_dead("refused", 10, 0), is_dead("failed", 30, GIVES_UP_AFTER_S * NS_PER_S)
    (False, True, True)
    """
    tries_max = REFUSALS_MAX if outcome == "refused" else TRIES_MAX
    return tries >= tries_max or waited_ns >= GIVES_UP_AFTER_S * NS_PER_S


def hears(subscription: api.Subscription, incident: api.Incident, workspace: str | None, change: api.Change) -> bool:
    """Say whether a channel hears of a change.

    While an incident is silenced nobody does, but of that it is, that it is no more, and that it is over.
    """
    if incident.state == "silenced" and change not in {"silenced", "resolved"}:
        return False
    return (
        _among(incident.kind, subscription.kinds)
        and _among(incident.severity, subscription.severities)
        and _among(change, subscription.changes)
        and (workspace is None or _among(workspace, subscription.workspaces))
    )


def _among(one: str, wanted: Collection[str]) -> bool:
    return not wanted or one in wanted
